package workload

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"alluvium/tests/chaos/history"
)

// backlog is how many records of one producer may wait for the broker.
const backlog = 500

// Producer writes bursts of records to all partitions with franz-go: idempotent with five requests in flight and endless retries, or
// plain with acks=1, one request in flight and duplicates allowed.
type Producer struct {
	run        *Run
	client     *kgo.Client
	name       string
	idempotent bool
	rng        *rand.Rand
	seq        int64
	closed     atomic.Bool
}

// NewProducer connects lazily; the codec is the batches' compression.
func NewProducer(run *Run, name string, idempotent bool, codec kgo.CompressionCodec) (*Producer, error) {
	opts := []kgo.Opt{
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerBatchCompression(codec),
		kgo.ProducerLinger(2 * time.Millisecond),
		kgo.UnknownTopicRetries(-1),
		kgo.StopProducerOnDataLossDetected(),
	}
	if idempotent {
		opts = append(opts, kgo.RequiredAcks(kgo.AllISRAcks())) // five in flight is the library's own rule
	} else {
		opts = append(opts, kgo.RequiredAcks(kgo.LeaderAck()), kgo.DisableIdempotentWrite(), kgo.MaxProduceRequestsInflightPerBroker(1))
	}
	client, err := run.Client(name, append(opts, run.impatient()...)...)
	if err != nil {
		return nil, err
	}
	run.Record(history.Event{Kind: history.Producer, Client: name, Idempotent: idempotent})
	return &Producer{run: run, client: client, name: name, idempotent: idempotent, rng: run.rng(name)}, nil
}

// Run produces until the context ends. Records that are under way then stay under way: Finish waits for them.
func (p *Producer) Run(ctx context.Context) {
	for ctx.Err() == nil {
		if p.client.BufferedProduceRecords() > backlog { // else Produce would block, beyond the end of the run if need be
			time.Sleep(10 * time.Millisecond)
			continue
		}
		for range 1 + p.rng.IntN(12) {
			p.produce(p.run.Partitions[p.rng.IntN(len(p.run.Partitions))])
		}
		time.Sleep(time.Duration(p.rng.IntN(40)) * time.Millisecond * time.Duration(max(1, p.run.Pace)))
	}
}

// Finish produces to every partition once more and waits for all outcomes; what has none by then is stuck.
func (p *Producer) Finish(ctx context.Context) {
	for _, partition := range p.run.Partitions {
		p.produce(partition)
	}
	_ = p.client.Flush(ctx) // sends without an outcome are the checker's business
	p.closed.Store(true)
	p.client.Close()
}

func (p *Producer) produce(to Partition) {
	p.seq++
	id := fmt.Sprintf("%s:%d", p.name, p.seq)
	event := history.Event{Client: p.name, Topic: to.Topic, Partition: to.Index, Value: id, Seq: p.seq}
	sent := event
	sent.Kind = history.Send
	p.run.Record(sent)
	record := &kgo.Record{
		Topic: to.Topic, Partition: to.Index, Key: []byte(id), Value: pattern(id, p.size()),
		Headers: []kgo.RecordHeader{{Key: "id", Value: []byte(id)}},
	}
	p.client.Produce(context.Background(), record, func(r *kgo.Record, err error) {
		if !p.closed.Load() {
			p.outcome(event, r, err)
		}
	})
}

func (p *Producer) outcome(event history.Event, r *kgo.Record, err error) {
	switch {
	case err == nil:
		event.Kind, event.Offset = history.Ack, r.Offset
	case errors.Is(err, kerr.MessageTooLarge), errors.Is(err, kerr.InvalidRecord), errors.Is(err, kerr.CorruptMessage):
		event.Kind, event.Error = history.Fail, err.Error()
	default:
		event.Kind, event.Error = history.Unknown, err.Error()
	}
	p.run.Record(event)
	if err != nil && p.idempotent {
		event.Kind, event.Error = history.Trouble, fmt.Sprintf("%s: %v", event.Value, err)
		p.run.Record(event)
	}
}

// size is mostly small, sometimes large enough to fill a batch.
func (p *Producer) size() int {
	if p.rng.IntN(200) == 0 {
		return 100_000 + p.rng.IntN(300_000)
	}
	return 20 + p.rng.IntN(1500)
}
