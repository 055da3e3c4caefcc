package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	neighbourTopic = "neighbour"
	neighbourRate  = 500
	neighbourBytes = 1024
	// A record is behind its producer by less than this at the end of a case, or it is lost.
	catchUp = 20 * time.Second
)

// neighbour is a well-behaved pair: an idempotent producer of numbered records at a steady rate, and a consumer that checks that they
// come one after the other. A request that gets no answer is an error too: kgo would hide it behind a retry.
type neighbour struct {
	producer, consumer *kgo.Client
	sent, acked        atomic.Int64
	read               atomic.Int64
	mutex              sync.Mutex
	latencies          []time.Duration
	errors             []string
	stop               context.CancelFunc
	done               sync.WaitGroup
	closing            atomic.Bool
}

// OnBrokerRead is kgo's hook: an answer that did not come.
func (n *neighbour) OnBrokerRead(_ kgo.BrokerMetadata, key int16, _ int, _, _ time.Duration, err error) {
	// Once a minute kgo asks for metadata on a connection that nobody uses in between: where places are short it is one of the idlest,
	// and closed. The client connects again.
	const metadata = 3
	if key == metadata && errors.Is(err, io.EOF) {
		return
	}
	if err != nil && !n.closing.Load() {
		n.fail(fmt.Errorf("the answer to a request of key %d: %w", key, err))
	}
}

// OnBrokerWrite is kgo's hook: a request that could not be sent.
func (n *neighbour) OnBrokerWrite(_ kgo.BrokerMetadata, key int16, _ int, _, _ time.Duration, err error) {
	if err != nil && !n.closing.Load() {
		n.fail(fmt.Errorf("a request of key %d: %w", key, err))
	}
}

func (n *neighbour) fail(err error) {
	n.mutex.Lock()
	defer n.mutex.Unlock()
	n.errors = append(n.errors, err.Error())
}

func startNeighbour(address string) (*neighbour, error) {
	n := &neighbour{}
	shared := []kgo.Opt{kgo.SeedBrokers(address), kgo.WithHooks(n), kgo.ConnIdleTimeout(15 * time.Minute), kgo.MetadataMinAge(time.Minute), kgo.MetadataMaxAge(time.Hour)}
	var err error
	n.producer, err = kgo.NewClient(append(shared, kgo.DefaultProduceTopic(neighbourTopic), kgo.ProducerLinger(0),
		kgo.ProducerBatchCompression(kgo.NoCompression()), kgo.RecordDeliveryTimeout(time.Minute))...)
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(context.Background())
	n.stop = stop
	admin := kadm.NewClient(n.producer)
	ends, err := admin.ListEndOffsets(ctx, neighbourTopic)
	if err != nil || ends.Error() != nil {
		return nil, errors.Join(err, ends.Error())
	}
	end, known := ends.Lookup(neighbourTopic, 0)
	if !known {
		return nil, errors.New("the neighbour's topic is not there")
	}
	start := map[string]map[int32]kgo.Offset{neighbourTopic: {0: kgo.NewOffset().At(end.Offset)}}
	n.consumer, err = kgo.NewClient(append(shared, kgo.ConsumePartitions(start), kgo.FetchMaxWait(500*time.Millisecond))...)
	if err != nil {
		return nil, err
	}
	n.done.Add(2)
	go n.produce(ctx)
	go n.consume(ctx)
	return n, nil
}

func (n *neighbour) produce(ctx context.Context) {
	defer n.done.Done()
	value := make([]byte, neighbourBytes)
	for i := range value {
		value[i] = byte(rand.Uint32())
	}
	tick := time.NewTicker(time.Second / neighbourRate)
	defer tick.Stop()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		mine := slices.Clone(value)
		binary.BigEndian.PutUint64(mine, uint64(n.sent.Add(1)))
		began := time.Now()
		n.producer.Produce(context.Background(), &kgo.Record{Value: mine}, func(_ *kgo.Record, err error) {
			took := time.Since(began)
			if err != nil {
				n.fail(fmt.Errorf("a produce: %w", err))
				return
			}
			n.acked.Add(1)
			n.mutex.Lock()
			n.latencies = append(n.latencies, took)
			n.mutex.Unlock()
		})
	}
}

func (n *neighbour) consume(ctx context.Context) {
	defer n.done.Done()
	for {
		fetches := n.consumer.PollFetches(ctx)
		if ctx.Err() != nil {
			return
		}
		fetches.EachError(func(_ string, _ int32, err error) { n.fail(fmt.Errorf("a fetch: %w", err)) })
		fetches.EachRecord(func(record *kgo.Record) {
			number, expected := int64(binary.BigEndian.Uint64(record.Value)), n.read.Load()+1
			if number != expected {
				n.fail(fmt.Errorf("record %d was read where %d was due", number, expected))
			}
			n.read.Store(number)
		})
	}
}

// span is what the neighbour saw between two moments.
type span struct {
	Acks            int
	P50, P99, Worst time.Duration
}

// take ends a span and begins the next one.
func (n *neighbour) take() span {
	n.mutex.Lock()
	latencies := n.latencies
	n.latencies = nil
	n.mutex.Unlock()
	if len(latencies) == 0 {
		return span{}
	}
	slices.Sort(latencies)
	at := func(share float64) time.Duration { return latencies[int(share*float64(len(latencies)-1))] }
	return span{len(latencies), at(0.5), at(0.99), latencies[len(latencies)-1]}
}

// verdict waits until all that was sent before it is acknowledged and read, and tells what went wrong since the last verdict.
func (n *neighbour) verdict() error {
	sent := n.sent.Load()
	for deadline := time.Now().Add(catchUp); n.acked.Load() < sent || n.read.Load() < sent; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			n.fail(fmt.Errorf("of %d records %d were acknowledged and %d read within %v", sent, n.acked.Load(), n.read.Load(), catchUp))
			break
		}
	}
	n.mutex.Lock()
	defer n.mutex.Unlock()
	failed := n.errors
	n.errors = nil
	if len(failed) == 0 {
		return nil
	}
	return fmt.Errorf("the neighbour had %d errors: %s", len(failed), failed[0])
}

func (n *neighbour) close() {
	n.closing.Store(true)
	n.stop()
	n.done.Wait()
	n.producer.Close()
	n.consumer.Close()
}
