package workload

import (
	"context"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"alluvium/tests/chaos/history"
)

// Group is a consumer group of the run: cooperative (KIP-429) or eager.
type Group struct {
	Name        string
	Cooperative bool
}

// Member reads as a member of the group and commits after each poll, until the context ends. A static member (KIP-345) does not leave
// the group at its end, as if it had crashed.
func (r *Run) Member(ctx context.Context, group Group, client string, static bool) error {
	balancer := kgo.RangeBalancer()
	if group.Cooperative {
		balancer = kgo.CooperativeStickyBalancer()
	}
	opts := []kgo.Opt{
		kgo.ConsumerGroup(group.Name), kgo.ConsumeTopics(r.Topics()...), kgo.Balancers(balancer),
		kgo.ConsumeStartOffset(kgo.NewOffset().AtStart()), kgo.ConsumeResetOffset(kgo.NoResetOffset()),
		kgo.DisableAutoCommit(), kgo.BlockRebalanceOnPoll(),
		kgo.SessionTimeout(6 * time.Second), kgo.HeartbeatInterval(500 * time.Millisecond), kgo.RebalanceTimeout(6 * time.Second),
		kgo.FetchMaxWait(500 * time.Millisecond),
		kgo.OnPartitionsAssigned(func(_ context.Context, _ *kgo.Client, added map[string][]int32) {
			for topic, partitions := range added {
				for _, p := range partitions {
					r.Record(history.Event{Kind: history.Assign, Client: client, Group: group.Name, Topic: topic, Partition: p, Offset: -1})
				}
			}
		}),
	}
	if static {
		opts = append(opts, kgo.InstanceID(client))
	}
	c, err := r.Client(client, opts...)
	if err != nil {
		return err
	}
	defer c.CloseAllowingRebalance()
	for ctx.Err() == nil {
		fetches := c.PollRecords(ctx, 300)
		r.recordPoll(history.Poll, client, group.Name, fetches)
		r.commit(c, group.Name, client, fetches)
		c.AllowRebalance()
	}
	return nil
}

// commit commits what a poll brought. It outlives the run's context, so that a commit's outcome is known if it can be.
func (r *Run) commit(c *kgo.Client, group, client string, fetches kgo.Fetches) {
	next := map[string]map[int32]kgo.EpochOffset{}
	fetches.EachRecord(func(record *kgo.Record) {
		if next[record.Topic] == nil {
			next[record.Topic] = map[int32]kgo.EpochOffset{}
		}
		next[record.Topic][record.Partition] = kgo.EpochOffset{Epoch: record.LeaderEpoch, Offset: record.Offset + 1}
	})
	if len(next) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	start := history.Now()
	outcome := map[Partition]string{}
	generation := int32(0)
	c.CommitOffsetsSync(ctx, next, func(_ *kgo.Client, request *kmsg.OffsetCommitRequest, response *kmsg.OffsetCommitResponse, err error) {
		if err != nil || response == nil {
			return
		}
		generation = request.Generation
		for _, t := range response.Topics {
			for _, p := range t.Partitions {
				outcome[Partition{t.Topic, p.Partition}] = fmt.Sprint(kerr.ErrorForCode(p.ErrorCode))
			}
		}
	})
	end := history.Now()
	for topic, partitions := range next {
		for p, offset := range partitions {
			result, answered := outcome[Partition{topic, p}]
			switch {
			case !answered:
				result = "no answer"
			case result == "<nil>":
				result = ""
			}
			r.Record(history.Event{T: end, S: start, Kind: history.Commit, Client: client, Group: group, Generation: generation, Topic: topic, Partition: p, Offset: offset.Offset, Error: result})
		}
	}
}

// Churn lets short-lived members join the group, every second one static, so that it leaves by silence only.
func (r *Run) Churn(ctx context.Context, group Group) error {
	rng := r.rng("churn-" + group.Name)
	for life := 0; ctx.Err() == nil; life++ {
		sleep(ctx, time.Duration(500+rng.IntN(3000))*time.Millisecond)
		member, cancel := context.WithTimeout(ctx, time.Duration(1000+rng.IntN(4000))*time.Millisecond)
		err := r.Member(member, group, fmt.Sprintf("%s-churn%d", group.Name, life), life%2 == 1)
		cancel()
		if err != nil {
			return err
		}
	}
	return nil
}
