package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// values gives record values out of one block of bytes, of which a share is random.
type values struct {
	block []byte
	size  int
	at    int
}

func newValues(l load) *values {
	const most = 16 << 20
	block := make([]byte, max(most, 2*l.size))
	random := rand.NewChaCha8([32]byte{1})
	random.Read(block)
	for i := range block {
		if float64(i%1000)/1000 >= l.entropy {
			block[i] = 'a'
		}
	}
	return &values{block: block, size: l.size}
}

// next is a value that begins with the moment.
func (v *values) next() []byte {
	value := make([]byte, v.size)
	copy(value, v.block[v.at:])
	// A prime step: values do not repeat before the block is used up many times.
	v.at = (v.at + 10_007) % (len(v.block) - v.size)
	binary.BigEndian.PutUint64(value, uint64(time.Now().UnixNano()))
	return value
}

// latencies in milliseconds.
type latencies struct {
	mutex sync.Mutex
	all   []float64
}

func (l *latencies) add(since time.Time) {
	milliseconds := float64(time.Since(since).Nanoseconds()) / 1e6
	l.mutex.Lock()
	l.all = append(l.all, milliseconds)
	l.mutex.Unlock()
}

// durations gives all of them, sorted.
func (l *latencies) durations() []time.Duration {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	var all []time.Duration
	for _, ms := range l.all {
		all = append(all, time.Duration(ms*1e6))
	}
	slices.Sort(all)
	return all
}

func (l *latencies) into(result figures, name string) {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	if len(l.all) == 0 {
		return
	}
	slices.Sort(l.all)
	at := func(share float64) float64 { return l.all[int(share*float64(len(l.all)-1))] }
	result[name+"_p50_ms"], result[name+"_p99_ms"], result[name+"_max_ms"] = at(0.5), at(0.99), at(1)
}

// sender counts what is acknowledged.
type sender struct {
	client *kgo.Client
	values *values
	open   sync.WaitGroup
	failed atomic.Pointer[error]
	acks   latencies
}

func (s *sender) send(ctx context.Context, timed bool) {
	s.open.Add(1)
	begin := time.Now()
	s.client.Produce(ctx, &kgo.Record{Value: s.values.next()}, func(_ *kgo.Record, err error) {
		if err != nil {
			s.failed.CompareAndSwap(nil, &err)
		} else if timed {
			s.acks.add(begin)
		}
		s.open.Done()
	})
}

func (s *sender) wait() error {
	s.open.Wait()
	if err := s.failed.Load(); err != nil {
		return fmt.Errorf("a record was not taken: %w", *err)
	}
	return nil
}

func (l load) produce(ctx context.Context, watch *watch) (figures, error) {
	client := l.client()
	defer client.Close()
	if err := l.makeTopic(ctx, client); err != nil {
		return nil, err
	}
	s := &sender{client: client, values: newValues(l)}
	watch.begin()
	for sent := range l.records {
		s.send(ctx, sent%64 == 0)
	}
	if err := s.wait(); err != nil {
		return nil, err
	}
	result := watch.end(l.records, l.size)
	s.acks.into(result, "ack")
	return result, nil
}

func (l load) consume(ctx context.Context, watch *watch) (figures, error) {
	client := l.client(kgo.ConsumeTopics(l.topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	defer client.Close()
	watch.begin()
	got := 0
	for got < l.records {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			return nil, fmt.Errorf("after %d records: %w", got, err)
		}
		got += fetches.NumRecords()
	}
	return watch.end(got, l.size), nil
}

func (l load) endToEnd(ctx context.Context, watch *watch) (figures, error) {
	client := l.client(kgo.ConsumeTopics(l.topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchMaxWait(500*time.Millisecond))
	defer client.Close()
	if err := l.makeTopic(ctx, client); err != nil {
		return nil, err
	}
	reading, stop := context.WithCancel(ctx)
	defer stop()
	var got atomic.Int64
	var whole latencies
	read := make(chan struct{})
	go func() {
		defer close(read)
		for reading.Err() == nil {
			client.PollFetches(reading).EachRecord(func(record *kgo.Record) {
				whole.add(time.Unix(0, int64(binary.BigEndian.Uint64(record.Value))))
				got.Add(1)
			})
		}
	}()
	s := &sender{client: client, values: newValues(l)}
	// The first records find the reader's place in every partition and warm all paths; they are not counted.
	warm := max(l.rate, 1000)
	l.pace(warm, func() { s.send(ctx, false) })
	if err := waitFor(ctx, func() bool { return got.Load() >= int64(warm) }); err != nil {
		return nil, err
	}
	whole.mutex.Lock()
	whole.all = whole.all[:0]
	whole.mutex.Unlock()
	watch.begin()
	l.pace(l.records, func() { s.send(ctx, true) })
	if err := s.wait(); err != nil {
		return nil, err
	}
	if err := waitFor(ctx, func() bool { return got.Load() >= int64(warm+l.records) }); err != nil {
		return nil, err
	}
	result := watch.end(l.records, l.size)
	stop()
	<-read
	s.acks.into(result, "ack")
	whole.into(result, "e2e")
	return result, nil
}

// pace calls send l.rate times a second, in steps of a millisecond.
func (l load) pace(records int, send func()) {
	begin := time.Now()
	for sent := 0; sent < records; {
		due := min(records, int(time.Since(begin).Seconds()*float64(l.rate))+1)
		for ; sent < due; sent++ {
			send()
		}
		time.Sleep(time.Millisecond)
	}
}

func waitFor(ctx context.Context, done func() bool) error {
	for !done() {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(5 * time.Millisecond):
		}
	}
	return nil
}

// first tells how long after -since a record was acknowledged.
func (l load) first(ctx context.Context, _ *watch) (figures, error) {
	// A client would wait a while before it tries a second time to connect.
	err := waitFor(ctx, func() bool {
		connection, err := net.Dial("tcp", l.bootstrap)
		if err == nil {
			connection.Close()
		}
		return err == nil
	})
	if err != nil {
		return nil, err
	}
	l.partitions = 1
	client := l.client(kgo.ProducerLinger(0))
	defer client.Close()
	if err := l.makeTopic(ctx, client); err != nil {
		return nil, err
	}
	if err := client.ProduceSync(ctx, kgo.StringRecord("the first record")).FirstErr(); err != nil {
		return nil, err
	}
	return figures{"first_ack_ms": float64(time.Now().UnixMilli() - l.since)}, nil
}
