package workload

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"

	"alluvium/tests/chaos/history"
)

// Administer creates small topics under new names, and deletes every third of them, until the context ends.
func (r *Run) Administer(ctx context.Context, client string) error {
	c, err := r.Client(client)
	if err != nil {
		return err
	}
	defer c.Close()
	admin := kadm.NewClient(c)
	rng := r.rng(client)
	for i := 0; ctx.Err() == nil; i++ {
		name := fmt.Sprintf("%s-%s-%d", r.Partitions[0].Topic, client, i)
		_, err := admin.CreateTopic(ctx, 2, 1, nil, name)
		if errors.Is(err, kerr.TopicAlreadyExists) {
			err = nil // the library's retry of a creation whose answer was lost
		}
		r.Record(history.Event{Kind: history.Created, Client: client, Topic: name, Error: text(err)})
		sleep(ctx, time.Duration(100+rng.IntN(400))*time.Millisecond)
		if i%3 == 2 && err == nil {
			_, err := admin.DeleteTopic(ctx, name)
			if errors.Is(err, kerr.UnknownTopicOrPartition) {
				err = nil // the library's retry of a deletion whose answer was lost
			}
			r.Record(history.Event{Kind: history.Deleted, Client: client, Topic: name, Error: text(err)})
		}
	}
	return nil
}

// ListTopics records which topics exist at the end.
func (r *Run) ListTopics(ctx context.Context, client string) error {
	c, err := r.Client(client)
	if err != nil {
		return err
	}
	defer c.Close()
	topics, err := kadm.NewClient(c).ListTopics(ctx)
	if err != nil {
		return err
	}
	for _, t := range topics.Sorted() {
		r.Record(history.Event{Kind: history.Listed, Client: client, Topic: t.Topic, Offset: int64(len(t.Partitions))})
	}
	return nil
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
