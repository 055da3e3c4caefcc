package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// partitionsOfATopic is how many partitions each topic of a failover has.
const partitionsOfATopic = 1000

// topics makes -records topics of one partition with a single request.
func (l load) topics(ctx context.Context, watch *watch) (figures, error) {
	client := l.client()
	defer client.Close()
	names := make([]string, l.records)
	for i := range names {
		names[i] = fmt.Sprintf("%s-%d", l.topic, i)
	}
	// A connection and the cluster's metadata, so that only the request is measured.
	admin := kadm.NewClient(client)
	if _, err := admin.ListBrokers(ctx); err != nil {
		return nil, err
	}
	watch.begin()
	made, err := admin.CreateTopics(ctx, 1, 1, nil, names...)
	if err := errors.Join(err, made.Error()); err != nil {
		return nil, err
	}
	taken := watch.end(l.records, 0)
	return figures{"seconds": taken["seconds"]}, nil
}

// failover fills -partitions partitions (topics of 1,000 each) of the brokers -bootstrap for -fill, kills the process -pid with -9, and
// tells how long it takes until the end of each partition is told again, and until each has taken a record. The broker of -pid must not be
// the only one, and must merge nothing meanwhile if its whole backlog is to be recovered.
func (l load) failover(ctx context.Context, _ *watch) (figures, error) {
	client := l.client(kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.MetadataMinAge(200*time.Millisecond), kgo.MetadataMaxAge(time.Second),
		kgo.RecordRetries(1_000_000), kgo.ProducerLinger(20*time.Millisecond))
	defer client.Close()
	admin := kadm.NewClient(client)
	var names []string
	for made := 0; made < l.partitions; made += partitionsOfATopic {
		names = append(names, fmt.Sprintf("%s-%d", l.topic, made/partitionsOfATopic))
	}
	// One by one: a request may not make as many partitions as all of them.
	for _, name := range names {
		if _, err := admin.CreateTopic(ctx, int32(min(partitionsOfATopic, l.partitions)), 1, nil, name); err != nil {
			return nil, err
		}
	}
	each := func(send func(topic string, partition int32)) {
		for _, name := range names {
			for partition := range min(partitionsOfATopic, l.partitions) {
				send(name, int32(partition))
			}
		}
	}
	if _, err := l.untilServed(ctx, admin, names); err != nil {
		return nil, err
	}
	filling := time.Now()
	for time.Since(filling) < l.fill {
		if err := l.toEach(ctx, client, each); err != nil {
			return nil, err
		}
	}
	segments := metric(l.admin, "alluvium_segments_committed_total")
	if err := syscall.Kill(l.pid, syscall.SIGKILL); err != nil {
		return nil, err
	}
	killed := time.Now()
	tries, err := l.untilServed(ctx, admin, names)
	if err != nil {
		return nil, err
	}
	served := time.Since(killed)
	if err := l.toEach(ctx, client, each); err != nil {
		return nil, err
	}
	return figures{
		"partitions": float64(l.partitions), "segments_of_the_dead": segments, "tries": float64(tries),
		"served_s": served.Seconds(), "written_s": time.Since(killed).Seconds(),
	}, nil
}

// toEach writes a record to each partition and waits for all acknowledgements.
func (l load) toEach(ctx context.Context, client *kgo.Client, each func(func(string, int32))) error {
	var failed error
	var promise kgo.FirstErrPromise
	value := []byte(strings.Repeat("x", 100))
	each(func(topic string, partition int32) {
		client.Produce(ctx, &kgo.Record{Topic: topic, Partition: partition, Value: value}, promise.Promise())
	})
	failed = promise.Err()
	return failed
}

// untilServed asks for all ends until each partition tells its own.
func (l load) untilServed(ctx context.Context, admin *kadm.Client, names []string) (tries int, err error) {
	for {
		tries++
		within, cancel := context.WithTimeout(ctx, 2*time.Second)
		ends, err := admin.ListEndOffsets(within, names...)
		cancel()
		count := 0
		ends.Each(func(end kadm.ListedOffset) {
			if end.Err == nil {
				count++
			}
		})
		if err == nil && count == len(names)*min(partitionsOfATopic, l.partitions) {
			return tries, nil
		}
		if ctx.Err() != nil {
			return tries, fmt.Errorf("%d partitions are served: %w", count, errors.Join(err, ctx.Err()))
		}
		time.Sleep(100 * time.Millisecond)
	}
}
