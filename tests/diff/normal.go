package main

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// A line is one leaf of a response: where it stands and what it says, in a form that two brokers can share.
type line struct{ path, value string }

// symbols names what every broker chooses for itself ("topic-1", "member-2") in order of appearance.
type symbols struct {
	names  map[string]string // kind and value → name
	counts map[string]int
	text   []replacement // long values that also stand inside messages
}

type replacement struct{ from, to string }

func newSymbols() *symbols { return &symbols{names: map[string]string{}, counts: map[string]int{}} }

func (s *symbols) of(kind, value string) string {
	key := kind + "\x00" + value
	name, known := s.names[key]
	if !known {
		s.counts[kind]++
		name = fmt.Sprintf("<%s-%d>", kind, s.counts[kind])
		s.names[key] = name
		if len(value) >= 16 {
			s.text = append(s.text, replacement{value, name})
		}
	}
	return name
}

func (s *symbols) topicID(topic string, id [16]byte) {
	key := "topic-id\x00" + base64ID(id)
	if _, known := s.names[key]; known {
		return
	}
	s.counts[topic]++
	s.names[key] = fmt.Sprintf("<id %d of %s>", s.counts[topic], topic)
	s.text = append(s.text, replacement{base64ID(id), s.names[key]})
}

func (s *symbols) message(text string) string {
	for _, r := range s.text {
		text = strings.ReplaceAll(text, r.from, r.to)
	}
	text = timeRange.ReplaceAllString(text, "within [<time>, <time>]")
	text = nearNow.ReplaceAllStringFunc(text, func(digits string) string {
		var ms int64
		fmt.Sscan(digits, &ms)
		if d := ms - time.Now().UnixMilli(); -10_000_000 < d && d < 10_000_000 || d > 8_000_000_000 && d < 10_000_000_000 || d < -8_000_000_000 && d > -10_000_000_000 {
			return "<time>"
		}
		return digits
	})
	return javaObject.ReplaceAllString(text, "@<hash>")
}

var (
	timeRange = regexp.MustCompile(`within \[-?\d+, -?\d+\]`)
	nearNow   = regexp.MustCompile(`\b\d{13}\b`)
)

var javaObject = regexp.MustCompile(`@[0-9a-f]{6,8}\b`)

// kinds of fields whose values are a broker's own choice. -1 and the empty value are no choices and stay.
var kinds = map[string]string{
	"MemberID": "member", "ProducerID": "producer", "ClusterID": "cluster",
	"LeaderEpoch": "epoch", "Dir": "directory", "SessionID": "session", "CurrentLeaderEpoch": "epoch", "PartitionLeaderEpoch": "epoch",
	"FinalizedFeaturesEpoch": "features-epoch",
}

// normal turns a response into lines. Slices that have no order in Kafka (unordered) are sorted.
func normal(response kmsg.Response, s *symbols) []line {
	n := normaliser{symbols: s, api: kmsg.NameForKey(response.Key()), now: time.Now().UnixMilli()}
	n.walk("", "", reflect.ValueOf(response).Elem())
	return n.lines
}

type normaliser struct {
	symbols *symbols
	api     string
	now     int64
	lines   []line
}

func (n *normaliser) add(path, value string) { n.lines = append(n.lines, line{path, value}) }

func (n *normaliser) walk(path, field string, v reflect.Value) {
	if tags, ok := v.Interface().(kmsg.Tags); ok {
		if tags.Len() > 0 {
			tags.Each(func(key uint32, value []byte) { n.add(fmt.Sprintf("%s[%d]", path, key), hex.EncodeToString(value)) })
		}
		return
	}
	if id, ok := v.Interface().([16]byte); ok {
		n.add(path, n.uuid(id))
		return
	}
	if raw, ok := v.Interface().([]byte); ok {
		n.bytes(path, field, raw)
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			n.add(path, "null")
		} else {
			n.walk(path, field, v.Elem())
		}
	case reflect.Struct:
		n.learnTopicID(v)
		for i := range v.NumField() {
			name := v.Type().Field(i).Name
			if path == "" && name == "Version" {
				continue
			}
			n.walk(join(path, name), name, v.Field(i))
		}
	case reflect.Slice:
		n.slice(path, field, v)
	case reflect.String:
		n.add(path, n.text(field, v.String()))
	default:
		n.add(path, n.number(field, v))
	}
}

// learnTopicID names an id after its topic; made again, the topic has a second id.
func (n *normaliser) learnTopicID(v reflect.Value) {
	field := v.FieldByName("TopicID")
	if !field.IsValid() || field.IsZero() {
		return
	}
	for _, name := range []string{"Topic", "Name"} {
		if topic := v.FieldByName(name); topic.IsValid() {
			for topic.Kind() == reflect.Pointer && !topic.IsNil() {
				topic = topic.Elem()
			}
			if topic.Kind() == reflect.String && topic.String() != "" {
				n.symbols.topicID(topic.String(), field.Interface().([16]byte))
			}
		}
	}
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

func (n *normaliser) slice(path, field string, v reflect.Value) {
	if v.IsNil() {
		n.add(path+".length", "none") // null, or empty where null is not possible
		return
	}
	n.add(path+".length", fmt.Sprint(v.Len()))
	order := make([]int, v.Len())
	for i := range order {
		order[i] = i
	}
	if unordered(n.api, field) {
		keys := make([]string, v.Len())
		for i := range keys {
			keys[i] = n.sortKey(v.Index(i))
		}
		sort.SliceStable(order, func(a, b int) bool { return keys[order[a]] < keys[order[b]] })
	}
	for i, at := range order {
		n.walk(fmt.Sprintf("%s[%s]", path, elementName(field, i, v.Index(at))), field, v.Index(at))
	}
}

// elementName is the index, or for configs and API keys what tells them apart.
func elementName(field string, i int, v reflect.Value) string {
	switch field {
	case "Configs":
		return v.FieldByName("Name").String()
	case "ApiKeys":
		return kmsg.NameForKey(int16(v.FieldByName("ApiKey").Int()))
	}
	return fmt.Sprint(i)
}

// sortKey orders the elements of a set by what the request named them by.
func (n *normaliser) sortKey(v reflect.Value) string {
	for v.Kind() == reflect.Pointer && !v.IsNil() {
		v = v.Elem()
	}
	if v.Kind() != reflect.Struct {
		return fmt.Sprintf("%020v", v.Interface())
	}
	var key strings.Builder
	for i := range v.NumField() {
		field := v.Field(i)
		if id, ok := field.Interface().([16]byte); ok && v.Type().Field(i).Name == "TopicID" {
			fmt.Fprintf(&key, "%s\x00", n.uuid(id))
		}
		if slices.Contains([]string{"Topic", "Name", "Partition", "Group", "ResourceName", "ResourceType", "GroupID", "Coordinator", "Key", "TransactionalID", "InstanceID", "ApiKey", "Type", "ProducerID", "User"}, v.Type().Field(i).Name) {
			for field.Kind() == reflect.Pointer && !field.IsNil() {
				field = field.Elem()
			}
			fmt.Fprintf(&key, "%020v\x00", field.Interface())
		}
	}
	return key.String()
}

func (n *normaliser) uuid(id [16]byte) string {
	if id == [16]byte{} {
		return "zero"
	}
	if name, known := n.symbols.names["topic-id\x00"+base64ID(id)]; known {
		return name
	}
	return base64ID(id) // the request's own
}

func (n *normaliser) text(field, value string) string {
	if value == "" {
		return `""`
	}
	switch field {
	case "MemberID", "ClusterID", "Dir":
		return n.symbols.of(kinds[field], value)
	case "LeaderID": // JoinGroup: the leader is a member
		return n.symbols.of("member", value)
	}
	return fmt.Sprintf("%q", n.symbols.message(value))
}

func (n *normaliser) number(field string, v reflect.Value) string {
	value := fmt.Sprint(v.Interface())
	if !v.CanInt() {
		if field == "Port" {
			return "<port>"
		}
		return value
	}
	switch number := v.Int(); {
	case number == -1:
		return value
	case field == "Port":
		return "<port>"
	case strings.Contains(field, "Timestamp") || field == "LogAppendTime":
		return n.time(number)
	case field == "Size" || field == "TotalBytes" || field == "UsableBytes":
		return map[bool]string{true: "> 0", false: "0"}[number > 0]
	case field == "SessionID" && number == 0:
		return value
	case kinds[field] != "":
		return n.symbols.of(kinds[field], value)
	}
	return value
}

// time is "now" for what the broker's clock has set; what a scenario has set lies far away from it.
func (n *normaliser) time(ms int64) string {
	if d := ms - n.now; -60_000 < d && d < 60_000 {
		return "<now>"
	}
	return fmt.Sprint(ms)
}

func (n *normaliser) bytes(path, field string, raw []byte) {
	switch {
	case raw == nil:
		n.add(path, "null")
	case field == "RecordBatches":
		n.batches(path, raw)
	default:
		n.add(path, fmt.Sprintf("0x%x", raw))
	}
}

func base64ID(id [16]byte) string { return base64.RawURLEncoding.EncodeToString(id[:]) }

func sleep(ms int) { time.Sleep(time.Duration(ms) * time.Millisecond) }
