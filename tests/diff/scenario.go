package main

import (
	"fmt"
	"runtime/debug"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// scenario is a script that runs once against each broker. It names its topics and groups itself (S.named), so that
// scenarios do not see one another and may run side by side.
type scenario struct {
	name string
	run  func(*S)
}

// forVersions makes one scenario of each version that both brokers serve.
func forVersions(name string, key int16, run func(*S, int16)) []scenario {
	var out []scenario
	for v := served[key].low; v <= served[key].high; v++ {
		out = append(out, scenario{fmt.Sprintf("%s/v%d", name, v), func(s *S) { run(s, v) }})
	}
	return out
}

// step is one request and what came back.
type step struct {
	label   string
	api     string
	version int16
	lines   []line
}

// S is one run of a scenario on one broker.
type S struct {
	broker  *broker
	name    string
	symbols *symbols
	steps   []step
	open    map[string]*connection
	ids     map[string][16]byte // of the topics that it has made
	aborted string
	count   int
}

// abort ends a scenario on this broker; its steps so far are still compared.
type abort struct{ reason string }

func (s *S) abort(format string, a ...any) { panic(abort{fmt.Sprintf(format, a...)}) }

func runOn(b *broker, c scenario) (s *S) {
	s = &S{broker: b, name: c.name, symbols: newSymbols(), open: map[string]*connection{}, ids: map[string][16]byte{}}
	defer func() {
		for _, c := range s.open {
			c.socket.Close()
		}
		switch cause := recover().(type) {
		case nil:
		case abort:
			s.aborted = cause.reason
		default:
			s.aborted = fmt.Sprintf("panic: %v\n%s", cause, debug.Stack())
		}
	}()
	c.run(s)
	return s
}

// named is the scenario's own name of a topic or group; the same on both brokers.
func (s *S) named(what string) string {
	clean := strings.NewReplacer("/", "-", " ", "-").Replace(s.name)
	return fmt.Sprintf("d%s-%s-%s", runID, clean, what)
}

func (s *S) connection(name string) *connection {
	c := s.open[name]
	if c == nil {
		var err error
		if c, err = dial(s.broker.address); err != nil {
			s.abort("connect: %v", err)
		}
		s.open[name] = c
	}
	return c
}

func (s *S) record(label string, key, version int16, lines ...line) {
	s.steps = append(s.steps, step{label, kmsg.NameForKey(key), version, lines})
}

// note compares a value that a scenario has computed.
func (s *S) note(label string, value any) {
	s.steps = append(s.steps, step{label, "note", 0, []line{{"value", fmt.Sprint(value)}}})
}

// pending is a request that is on its way.
type pending struct {
	s            *S
	on           string
	label        string
	key, version int16
	id           int32 // correlation id
	edit         func(kmsg.Response)
	limit        time.Duration
}

// options of a call: edit changes the response before it is compared (to leave out what other scenarios did).
type options struct {
	on    string
	quiet bool
	edit  func(kmsg.Response)
}

func (s *S) start(o options, label string, version int16, request kmsg.Request) *pending {
	request.SetVersion(version)
	s.nameByID(request)
	id, err := s.connection(o.on).send(request)
	if err != nil {
		s.drop(o.on)
		s.abort("%s: write: %v", label, err)
	}
	return &pending{s, o.on, label, request.Key(), version, id, o.edit, answerLimit}
}

func (s *S) drop(on string) {
	if c := s.open[on]; c != nil {
		c.socket.Close()
		delete(s.open, on)
	}
}

// waits says whether the request is still unanswered after a while; the answer is not consumed.
func (p *pending) waits(label string, while time.Duration) {
	c := p.s.connection(p.on)
	peeked := &peeking{Conn: c.socket}
	c.socket = peeked
	p.s.record(p.label+": "+label, p.key, p.version, line{"(answered)", fmt.Sprint(peeked.arrives(while))})
}

// neverFromKafka: Kafka is known to leave the request unanswered, so its answer is not waited for long. Ours is.
func (p *pending) neverFromKafka() {
	if p.s.broker.name == "kafka" {
		p.limit = 3 * time.Second
	}
}

// get waits for the answer, records it and returns it; nil when the broker closed or said nothing.
func (p *pending) get() kmsg.Response { return p.receive(false) }

func (p *pending) receive(quiet bool) kmsg.Response {
	body, err := p.s.connection(p.on).receive(p.id, p.limit)
	var response kmsg.Response
	var lines []line
	switch {
	case err != nil:
		lines = []line{{"(connection)", fate(err)}}
	default:
		var exact bool
		if response, exact, err = decode(p.key, p.version, body); err != nil {
			lines = []line{{"(connection)", "undecodable: " + err.Error()}}
			break
		}
		if fetched, ok := response.(*kmsg.FetchResponse); ok {
			errorsLast(fetched)
		}
		if p.edit != nil {
			p.edit(response)
		}
		lines = append(normal(response, p.s.symbols), line{"(encoding is canonical)", fmt.Sprint(exact)})
	}
	if response == nil {
		p.s.drop(p.on)
	}
	if !quiet {
		p.s.record(p.label, p.key, p.version, lines...)
	}
	return response
}

// do sends a request, waits and compares.
func (s *S) do(label string, version int16, request kmsg.Request) kmsg.Response {
	return s.start(options{}, label, version, request).get()
}

// call is do with the type of the response; without one the scenario ends.
func call[R kmsg.Response](s *S, label string, version int16, request kmsg.Request) R {
	return get[R](s.start(options{}, label, version, request))
}

func get[R kmsg.Response](p *pending) R {
	response, ok := p.get().(R)
	if !ok {
		p.s.abort("%s: no response", p.label)
	}
	return response
}

// quiet sends a request whose answer is not compared.
func quiet[R kmsg.Response](s *S, version int16, request kmsg.Request) R {
	response, ok := s.start(options{}, "(quiet)", version, request).receive(true).(R)
	if !ok {
		s.abort("no response to a %T", request)
	}
	return response
}

// raw sends a whole frame, with rawID, and compares the answer's bytes, decoded as the given response version.
func (s *S) raw(label string, key, version int16, frame []byte) {
	if err := s.connection("raw").write(frame); err != nil {
		s.record(label, key, version, line{"(connection)", "closed"})
		s.drop("raw")
		return
	}
	p := &pending{s, "raw", label, key, version, rawID, nil, answerLimit}
	p.get()
}
