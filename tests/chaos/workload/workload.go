// Package workload holds the clients of a chaos run. Each is one goroutine (or one Python process) with its own connections; all they
// share is the recorder.
//
// Clients use their libraries' own retries, with short pauses, and time limits longer than any pause of the nemesis, so a request
// that was answered was sent once as far as the broker's life reaches: the checker's rules about commits rely on it.
package workload

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"alluvium/tests/chaos/history"
)

// Partition names one partition of the run.
type Partition struct {
	Topic string
	Index int32
}

// Run is what all clients of a run share.
type Run struct {
	Bootstrap  string
	Partitions []Partition
	Seed       uint64
	Record     func(history.Event)
	Patience   time.Duration // how long producers and readers wait for an answer before they ask elsewhere; 0: 20 s, as all others do
	Pace       int           // producers are so many times slower than they could be; 0: not
	Errors     *Errors       // counts what clients were told, if set
}

// Topics lists each topic once.
func (r *Run) Topics() []string {
	var topics []string
	for _, p := range r.Partitions {
		if len(topics) == 0 || topics[len(topics)-1] != p.Topic {
			topics = append(topics, p.Topic)
		}
	}
	return topics
}

func (r *Run) rng(client string) *rand.Rand {
	stream := uint64(14695981039346656037)
	for _, b := range []byte(client) {
		stream = (stream ^ uint64(b)) * 1099511628211
	}
	return rand.New(rand.NewPCG(r.Seed, stream))
}

// Client makes a franz-go client that comes back quickly after the broker does.
func (r *Run) Client(name string, opts ...kgo.Opt) (*kgo.Client, error) {
	standard := []kgo.Opt{
		kgo.SeedBrokers(strings.Split(r.Bootstrap, ",")...),
		kgo.ClientID(name),
		kgo.RetryBackoffFn(func(attempt int) time.Duration {
			return min(time.Duration(attempt)*50*time.Millisecond, 300*time.Millisecond)
		}),
		kgo.MetadataMinAge(100 * time.Millisecond),
		kgo.RequestTimeoutOverhead(20 * time.Second),
		kgo.RetryTimeout(2 * time.Minute),
		kgo.AlwaysRetryEOF(), // else the library takes a broker that dies at the wrong moment for one that wants TLS
	}
	if r.Errors != nil {
		standard = append(standard, kgo.WithLogger(r.Errors))
	}
	return kgo.NewClient(append(standard, opts...)...)
}

// impatient are the options of clients that leave a silent broker before it wakes up.
func (r *Run) impatient() []kgo.Opt {
	if r.Patience == 0 {
		return nil
	}
	return []kgo.Opt{kgo.RequestTimeoutOverhead(r.Patience), kgo.ProduceRequestTimeout(time.Second), kgo.DialTimeout(r.Patience)}
}

// pattern is a record's value: its name, a bar, and the name repeated up to the size, so that damage shows.
func pattern(id string, size int) []byte {
	value := append([]byte(id), '|')
	for len(value) < size {
		value = append(value, id...)
	}
	return value[:max(size, len(id)+1)]
}

// name checks a record against the pattern and returns its name, or what is wrong with it.
func name(r *kgo.Record) string {
	bar := bytes.IndexByte(r.Value, '|')
	if bar < 0 {
		return fmt.Sprintf("corrupt:value %.40q", r.Value)
	}
	id := string(r.Value[:bar])
	switch {
	case !bytes.Equal(r.Value, pattern(id, len(r.Value))):
		return "corrupt:value of " + id
	case string(r.Key) != id:
		return fmt.Sprintf("corrupt:key %q of %s", r.Key, id)
	case len(r.Headers) != 1 || r.Headers[0].Key != "id" || string(r.Headers[0].Value) != id:
		return "corrupt:headers of " + id
	}
	return id
}

func seen(records []*kgo.Record) []history.Record {
	out := make([]history.Record, 0, len(records))
	for _, r := range records {
		out = append(out, history.Record{Offset: r.Offset, Value: name(r), Timestamp: r.Timestamp.UnixMilli()})
	}
	return out
}
