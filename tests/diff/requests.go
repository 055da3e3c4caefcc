package main

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// requestScenarios: random requests of every API at every version that both serve, and mutants of their bytes; what is compared are
// the error codes, or that the connection is closed. DIFF_SEED is the first seed (1), DIFF_SEEDS how many of them are tried (1),
// DIFF_CASES how many requests of a version (6), with twice as many mutants.
func requestScenarios() []scenario {
	var out []scenario
	first, seeds := setting("DIFF_SEED", 1), setting("DIFF_SEEDS", 1)
	for seed := first; seed < first+seeds; seed++ {
		for key := int16(0); key < 128; key++ {
			if _, ok := served[key]; ok {
				out = append(out, scenario{fmt.Sprintf("requests/%s/seed%d", kmsg.NameForKey(key), seed), func(s *S) { randomRequests(s, key, uint64(seed)) }})
			}
		}
	}
	return out
}

func setting(name string, otherwise int) int {
	if n, err := strconv.Atoi(os.Getenv(name)); err == nil {
		return n
	}
	return otherwise
}

// filler fills requests by the names and types of their fields.
type filler struct {
	generator
	key, version int16
	topics       []string   // they are there, by their names in drafts
	ids          [][16]byte // theirs in drafts
	real         []string   // what drafts say, and what is sent instead
	fresh        int
	marked       string // a string or bytes that the request has once, where a mutant can find its length
	flexible     bool
}

// draftRun stands for the run's own id in drafts. What a request is depends on the seed alone: what differs between runs and
// between the two brokers, names and topic ids, is put in when the draft is done.
const draftRun = "RUNN"

func (f *filler) named(what string) string {
	return "d" + draftRun + strings.TrimPrefix(f.s.named(what), "d"+runID)
}

func (f *filler) sent(draft []byte) []byte {
	return []byte(strings.NewReplacer(f.real...).Replace(string(draft)))
}

func randomRequests(s *S, key int16, seed uint64) {
	f := &filler{generator: generator{rand.New(rand.NewPCG(seed, uint64(key))), s}, key: key}
	f.real = []string{"d" + draftRun, "d" + runID}
	for i, t := range []string{s.log("a", 3), s.log("b", 1)} {
		id, draft := s.settle(t), [16]byte{0xd2, byte(i)}
		f.topics, f.ids = append(f.topics, f.named([]string{"a", "b"}[i])), append(f.ids, draft)
		f.real = append(f.real, string(draft[:]), string(id[:]))
		s.fill(t, 0, plain(3), plain(2))
	}
	cases := setting("DIFF_CASES", 6)
	for v := served[key].low; v <= served[key].high; v++ {
		f.version = v
		for i := range cases {
			r := f.request()
			trace(s, v, r)
			s.outcome(fmt.Sprintf("v%d, request %d", v, i), key, v, f.sent(f.frame(r)))
		}
		for i := range 2 * cases {
			name, frame := f.mutant()
			trace(s, v, frame)
			s.outcome(fmt.Sprintf("v%d, mutant %d: %s", v, i, name), key, v, f.sent(frame))
		}
	}
}

// trace prints what is sent to the broker under test: DIFF_TRACE=1 with ONLY.
func trace(s *S, version int16, sent any) {
	if os.Getenv("DIFF_TRACE") != "" && s.broker.name == "subject" {
		text, _ := json.Marshal(sent)
		fmt.Printf("  v%d %s\n", version, text)
	}
}

// outcome sends a frame and compares the codes of its answer.
func (s *S) outcome(label string, key, version int16, frame []byte) {
	c := s.connection("requests")
	record := func(lines ...line) { s.record(label, key, version, lines...) }
	if err := c.write(frame); err != nil {
		s.drop("requests")
		record(line{"(connection)", "closed"})
		return
	}
	body, err := c.receive(rawID, answerLimit)
	if err != nil {
		s.drop("requests")
		record(line{"(connection)", fate(err)})
		return
	}
	response, _, err := decode(key, version, body)
	if err != nil {
		s.drop("requests")
		record(line{"(connection)", "undecodable: " + err.Error()})
		return
	}
	codes := map[string][]string{}
	for _, l := range normal(response, newSymbols()) {
		if strings.HasSuffix(l.path, "ErrorCode") {
			path := elements.ReplaceAllString(l.path, "[]")
			codes[path] = append(codes[path], l.value)
		}
	}
	lines := []line{{"(answered)", "yes"}}
	for _, path := range sortedKeys(codes) {
		slices.Sort(codes[path])
		lines = append(lines, line{path, strings.Join(codes[path], " ")})
	}
	record(lines...)
}

// request is a random one that does no harm to other scenarios and is answered at once.
func (f *filler) request() kmsg.Request {
	for {
		r := kmsg.RequestForKey(f.key)
		r.SetVersion(f.version)
		f.flexible, f.marked = r.IsFlexible(), ""
		f.value(reflect.ValueOf(r).Elem(), "", "")
		f.tame(r)
		if f.harmless(r) {
			return r
		}
	}
}

func (f *filler) frame(r kmsg.Request) []byte {
	return kmsg.NewRequestFormatter(kmsg.FormatterClientID("diff")).AppendRequest(nil, r, rawID)
}

func (f *filler) value(v reflect.Value, parent, field string) {
	if tags, ok := v.Addr().Interface().(*kmsg.Tags); ok {
		if f.flexible && f.IntN(12) == 0 {
			tags.Set(uint32(1000+f.IntN(9)), noise(f.IntN(5)))
		}
		return
	}
	if id, ok := v.Addr().Interface().(*[16]byte); ok {
		*id = pick(f.generator, f.ids[0], f.ids[1], [16]byte{}, [16]byte{0xd1, 0xff})
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			if name := v.Type().Field(i).Name; name != "Version" || parent != "" || field != "" {
				f.value(v.Field(i), field, name)
			}
		}
	case reflect.Pointer:
		if f.IntN(3) > 0 {
			v.Set(reflect.New(v.Type().Elem()))
			f.value(v.Elem(), parent, field)
		}
	case reflect.Slice:
		f.slice(v, parent, field)
	case reflect.String:
		v.SetString(f.text(parent, field))
	case reflect.Bool:
		v.SetBool(f.IntN(2) == 0)
	case reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		v.SetInt(f.number(field, v.Type().Bits()))
	}
}

func (f *filler) slice(v reflect.Value, parent, field string) {
	if v.Type().Elem().Kind() == reflect.Uint8 {
		v.SetBytes(f.blob(field))
		return
	}
	n := f.IntN(3)
	v.Set(reflect.MakeSlice(v.Type(), 0, n))
	var seen []string
	for range n {
		one := reflect.New(v.Type().Elem()).Elem()
		f.value(one, parent, field)
		// What is named twice is compared elsewhere.
		if key := named(one); !slices.Contains(seen, key) {
			seen = append(seen, key)
			v.Set(reflect.Append(v, one))
		}
	}
}

// named is what tells an element of a list from the others.
func named(v reflect.Value) string {
	if v.Kind() != reflect.Struct {
		return fmt.Sprint(v.Interface())
	}
	for _, name := range []string{"Topic", "TopicID", "Partition", "Name", "ResourceName", "Group", "MemberID", "EntityType", "Dir"} {
		field := v.FieldByName(name)
		for field.IsValid() && field.Kind() == reflect.Pointer && !field.IsNil() {
			field = field.Elem()
		}
		if field.IsValid() && !field.IsZero() {
			return fmt.Sprint(field.Interface())
		}
	}
	return ""
}

func (f *filler) blob(field string) []byte {
	if field == "Records" {
		return slices.Clone(pick(f.generator, knownRecords...))
	}
	return f.mark(noise(f.IntN(20)))
}

// knownRecords are whole batches, a broken one, and none.
var knownRecords = [][]byte{plain(1).encode(), plain(3).encode(), badBatches()["crc"].encode(), {}}

// mark remembers a text whose length mutants change.
func (f *filler) mark(text []byte) []byte {
	if f.marked == "" && f.IntN(2) == 0 {
		text = fmt.Appendf(nil, "marked-%d", f.Uint32())
		f.marked = string(text)
	}
	return text
}

func (f *filler) text(parent, field string) string {
	own := f.named(pick(f.generator, "x", "y"))
	switch field {
	case "Topic", "Topics", "TopicNames":
		return pick(f.generator, f.topics[0], f.topics[1], own, pick(f.generator, badNames...))
	case "Name":
		if strings.HasPrefix(parent, "Config") || field == "Configs" {
			return pick(f.generator, sortedKeys(topicConfigs)...)
		}
		return pick(f.generator, f.topics[0], "retention.ms", "cleanup.policy", own)
	case "Value":
		return pick(f.generator, commonValues...)
	case "ResourceName":
		return pick(f.generator, f.topics[0], own, "", "a b", "77")
	case "Group", "Groups", "CoordinatorKey", "CoordinatorKeys":
		return own
	case "MemberID", "InstanceID":
		return pick(f.generator, "", "nobody", string(f.mark([]byte("m"))))
	case "ProtocolType", "Protocol":
		return pick(f.generator, "", "consumer", "connect")
	case "EntityType":
		return pick(f.generator, "user", "client-id", "ip", "", "group")
	case "ClientSoftwareName", "ClientSoftwareVersion":
		return pick(f.generator, "diff", "1.0", "", "a b")
	}
	return string(f.mark([]byte(pick(f.generator, "", "a", "some", own))))
}

func (f *filler) number(field string, bits int) int64 {
	var n int64
	switch {
	case strings.Contains(field, "Partition"):
		n = pick[int64](f.generator, 0, 0, 1, 2, 9, -1)
	case strings.HasSuffix(field, "Offset"):
		n = pick[int64](f.generator, 0, 1, 2, 5, 6, -1, -2, 1<<40)
	case field == "Timestamp":
		n = pick[int64](f.generator, -1, -2, -3, -4, -5, -6, 0, clock, clock+1, math.MaxInt64)
	case strings.HasSuffix(field, "Epoch"), field == "Generation":
		n = pick[int64](f.generator, -1, -1, 1<<30)
	case strings.HasSuffix(field, "Type"):
		n = pick[int64](f.generator, 0, 1, 2, 3, 32, 99)
	case strings.HasSuffix(field, "Millis"):
		n = 10_000
	default:
		n = pick[int64](f.generator, -1, 0, 1, 2, 100)
	}
	if bits < 64 && (n >= 1<<(bits-1) || n < -1<<(bits-1)) {
		n = 1
	}
	return n
}

// mutant is a request whose bytes are not as they should be, and how.
func (f *filler) mutant() (string, []byte) {
	for {
		r := f.request()
		frame := f.frame(r)
		body := len(f.frame(&emptyRequest{r}))
		name, changed := f.change(slices.Clone(frame), body)
		if changed == nil || bytes.Equal(changed, frame) {
			continue
		}
		binary.BigEndian.PutUint32(changed, uint32(len(changed)-4))
		if name != "cut" && name != "longer" && !f.canonical(changed[body:]) {
			continue
		}
		return name, changed
	}
}

// emptyRequest is a request without its body: as long as the header.
type emptyRequest struct{ kmsg.Request }

func (emptyRequest) AppendTo(to []byte) []byte { return to }

func (f *filler) change(frame []byte, body int) (string, []byte) {
	if len(frame) == body {
		return "longer", append(frame, noise(1+f.IntN(5))...)
	}
	at := body + f.IntN(len(frame)-body)
	switch f.IntN(5) {
	case 0:
		return "cut", frame[:at]
	case 1:
		return "longer", append(frame, noise(1+f.IntN(5))...)
	case 2:
		frame[at] = pick[byte](f.generator, 0, 1, 2, 0x7f, frame[at]^1, frame[at]+1, frame[at]-1)
		return fmt.Sprint("byte ", at-body), frame
	}
	return f.length(frame, body)
}

// length gives the marked text another length: null, too long, more than there is.
func (f *filler) length(frame []byte, body int) (string, []byte) {
	at := bytes.LastIndex(frame[body:], []byte(f.marked)) + body
	if f.marked == "" || at <= body {
		return "", nil
	}
	n := len(f.marked)
	// A varint of one byte, or an i16, or an i32.
	width := 1
	if !f.flexible {
		width = 2
		if at-body >= 4 && binary.BigEndian.Uint32(frame[at-4:]) == uint32(n) {
			width = 4
		}
	}
	front, rest := slices.Clone(frame[:at-width]), frame[at+n:]
	null := map[int][]byte{1: {0}, 2: {0xff, 0xff}, 4: {0xff, 0xff, 0xff, 0xff}}[width]
	huge := map[int][]byte{1: {0xff, 0xff, 0xff, 0xff, 7}, 2: {0x7f, 0xff}, 4: {0x7f, 0xff, 0xff, 0xff}}[width]
	switch f.IntN(3) {
	case 0:
		return "null", slices.Concat(front, null, rest)
	case 1:
		return "huge", slices.Concat(front, huge, []byte(f.marked), rest)
	default:
		frame[at-1]++
		return "one more", frame
	}
}

// canonical: nobody can read it, or it is a request as it should be written, which does no harm. In between lie bytes of which
// readers make what they like: a negative length, a boolean of 7, text that is not UTF-8. Scenarios of their own have those.
func (f *filler) canonical(body []byte) bool {
	r := kmsg.RequestForKey(f.key)
	r.SetVersion(f.version)
	if r.ReadFrom(body) != nil {
		return true
	}
	v := reflect.ValueOf(r).Elem()
	return bytes.Equal(r.AppendTo(nil), body) && isText(v) && once(v) && f.harmless(r)
}

func isText(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.String:
		return utf8.ValidString(v.String())
	case reflect.Pointer:
		return v.IsNil() || isText(v.Elem())
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() && !isText(v.Field(i)) {
				return false
			}
		}
	case reflect.Slice:
		for i := range v.Len() {
			if v.Type().Elem().Kind() != reflect.Uint8 && !isText(v.Index(i)) {
				return false
			}
		}
	}
	return true
}

// once: no list names an element twice; scenarios of their own do.
func once(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.Pointer:
		return v.IsNil() || once(v.Elem())
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() && !once(v.Field(i)) {
				return false
			}
		}
	case reflect.Slice:
		var seen []string
		for i := range v.Len() {
			if v.Type().Elem().Kind() == reflect.Uint8 {
				break
			}
			key := named(v.Index(i))
			if slices.Contains(seen, key) || !once(v.Index(i)) {
				return false
			}
			seen = append(seen, key)
		}
	}
	return true
}
