package workload

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"alluvium/tests/chaos/history"
)

// assigned makes a client that reads partitions from given offsets and reports lost data instead of starting over.
func (r *Run) assigned(client string, from map[Partition]int64) (*kgo.Client, error) {
	offsets := map[string]map[int32]kgo.Offset{}
	for p, at := range from {
		if offsets[p.Topic] == nil {
			offsets[p.Topic] = map[int32]kgo.Offset{}
		}
		offsets[p.Topic][p.Index] = kgo.NewOffset().At(at)
		r.Record(history.Event{Kind: history.Assign, Client: client, Topic: p.Topic, Partition: p.Index, Offset: at})
	}
	opts := []kgo.Opt{kgo.ConsumePartitions(offsets), kgo.ConsumeResetOffset(kgo.NoResetOffset()), kgo.FetchMaxWait(500 * time.Millisecond)}
	return r.Client(client, append(opts, r.impatient()...)...)
}

// recordPoll records what a poll brought, by partition, and errors that mean lost data.
func (r *Run) recordPoll(kind history.Kind, client, group string, fetches kgo.Fetches) {
	fetches.EachPartition(func(p kgo.FetchTopicPartition) {
		if len(p.Records) > 0 {
			r.Record(history.Event{
				Kind: kind, Client: client, Group: group, Topic: p.Topic, Partition: p.Partition,
				Records: seen(p.Records), HighWatermark: p.HighWatermark,
			})
		}
		var lost *kgo.ErrDataLoss
		if errors.As(p.Err, &lost) || errors.Is(p.Err, kerr.OffsetOutOfRange) || errors.Is(p.Err, kerr.CorruptMessage) {
			r.Record(history.Event{Kind: history.Trouble, Client: client, Group: group, Topic: p.Topic, Partition: p.Partition, Error: p.Err.Error()})
		}
	})
}

// Tail reads everything from the beginning and follows the end until the context ends.
func (r *Run) Tail(ctx context.Context, client string) error {
	from := map[Partition]int64{}
	for _, p := range r.Partitions {
		from[p] = 0
	}
	c, err := r.assigned(client, from)
	if err != nil {
		return err
	}
	defer c.Close()
	for ctx.Err() == nil {
		r.recordPoll(history.Poll, client, "", c.PollRecords(ctx, 1000))
	}
	return nil
}

// Watch asks for ends, offsets by time and committed offsets, and reads from random places, until the context ends.
func (r *Run) Watch(ctx context.Context, client string, groups []string) error {
	c, err := r.Client(client)
	if err != nil {
		return err
	}
	defer c.Close()
	admin := kadm.NewClient(c)
	rng := r.rng(client)
	began := time.Now().UnixMilli()
	known := map[Partition]int64{}
	for round := 0; ctx.Err() == nil; round++ {
		r.askEnds(ctx, admin, client, known)
		r.askCommitted(ctx, admin, client, groups)
		r.askByTime(ctx, admin, client, began+rng.Int64N(time.Now().UnixMilli()-began+1000))
		p := r.Partitions[rng.IntN(len(r.Partitions))]
		if end := known[p]; end > 0 {
			if err := r.readFrom(ctx, fmt.Sprintf("%s-%d", client, round), p, rng.Int64N(end)); err != nil {
				return err
			}
		}
		sleep(ctx, time.Duration(50+rng.IntN(200))*time.Millisecond)
	}
	return nil
}

func (r *Run) askEnds(ctx context.Context, admin *kadm.Client, client string, known map[Partition]int64) {
	start := history.Now()
	ends, _ := admin.ListEndOffsets(ctx, r.Topics()...) // partitions without an answer are left out below
	ends.Each(func(o kadm.ListedOffset) {
		if o.Err == nil {
			r.Record(history.Event{Kind: history.EndOffset, Client: client, Topic: o.Topic, Partition: o.Partition, Offset: o.Offset, S: start})
			known[Partition{o.Topic, o.Partition}] = o.Offset
		}
	})
}

func (r *Run) askByTime(ctx context.Context, admin *kadm.Client, client string, millis int64) {
	start := history.Now()
	found, _ := admin.ListOffsetsAfterMilli(ctx, millis, r.Topics()...)
	found.Each(func(o kadm.ListedOffset) {
		if o.Err != nil {
			return
		}
		offset := o.Offset
		if o.Timestamp < 0 { // the library answers the end when there is none
			offset = -1
		}
		r.Record(history.Event{Kind: history.ByTime, Client: client, Topic: o.Topic, Partition: o.Partition, Timestamp: millis, Offset: offset, S: start})
	})
}

// askCommitted records a group's committed offsets and returns them.
func (r *Run) askCommitted(ctx context.Context, admin *kadm.Client, client string, groups []string) map[string]map[Partition]int64 {
	out := map[string]map[Partition]int64{}
	for _, group := range groups {
		out[group] = map[Partition]int64{}
		start := history.Now()
		offsets, err := admin.FetchOffsetsForTopics(ctx, group, r.Topics()...)
		if err != nil {
			continue
		}
		offsets.Each(func(o kadm.OffsetResponse) {
			if o.Err == nil {
				r.Record(history.Event{Kind: history.Committed, Client: client, Group: group, Topic: o.Topic, Partition: o.Partition, Offset: o.At, S: start})
				out[group][Partition{o.Topic, o.Partition}] = o.At
			}
		})
	}
	return out
}

// readFrom seeks to one offset and reads a little.
func (r *Run) readFrom(ctx context.Context, client string, p Partition, offset int64) error {
	c, err := r.assigned(client, map[Partition]int64{p: offset})
	if err != nil {
		return err
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	r.recordPoll(history.Poll, client, "", c.PollRecords(ctx, 100))
	return nil
}

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
