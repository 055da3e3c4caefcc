package main

import (
	"context"
	"fmt"
	"sort"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

var groupChecks = []check{
	{"franz rebalance range", true, rebalance(kgo.RangeBalancer())},
	{"franz rebalance sticky", false, rebalance(kgo.StickyBalancer())},
	{"franz rebalance cooperative-sticky", false, rebalance(kgo.CooperativeStickyBalancer())},
	{"franz crashed member expires", false, crashedMember},
	{"franz static member comes back", false, staticMember},
	{"franz commits and resumes", true, commits},
	{"franz commit of a fenced generation", false, fencedCommit},
	{"franz groups administration", false, groupAdmin},
}

// member is a group consumer that polls in the background and knows its partitions.
type member struct {
	client *kgo.Client
	cancel context.CancelFunc
	done   chan struct{}
	mu     sync.Mutex
	has    map[int32]bool
	got    []string
}

func (t *T) join(topic, group string, opts ...kgo.Opt) *member {
	m := &member{has: map[int32]bool{}, done: make(chan struct{})}
	change := func(has bool) func(context.Context, *kgo.Client, map[string][]int32) {
		return func(_ context.Context, _ *kgo.Client, partitions map[string][]int32) {
			m.mu.Lock()
			defer m.mu.Unlock()
			for _, p := range partitions[topic] {
				if has {
					m.has[p] = true
				} else {
					delete(m.has, p)
				}
			}
		}
	}
	m.client = t.client(append([]kgo.Opt{
		kgo.ConsumerGroup(group), kgo.ConsumeTopics(topic), kgo.SessionTimeout(6 * time.Second), kgo.HeartbeatInterval(200 * time.Millisecond),
		kgo.OnPartitionsAssigned(change(true)), kgo.OnPartitionsRevoked(change(false)), kgo.OnPartitionsLost(change(false)),
	}, opts...)...)
	ctx, cancel := context.WithCancel(t.ctx)
	m.cancel = cancel
	go func() {
		defer close(m.done)
		for ctx.Err() == nil {
			m.client.PollFetches(ctx).EachRecord(func(r *kgo.Record) {
				m.mu.Lock()
				defer m.mu.Unlock()
				m.got = append(m.got, fmt.Sprintf("%d/%d", r.Partition, r.Offset))
			})
		}
	}()
	return m
}

// leave ends a member: it says so to the group unless it is static.
func (m *member) leave() {
	m.cancel()
	<-m.done
	m.client.CloseAllowingRebalance()
}

func (m *member) partitions() []int32 {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []int32
	for p := range m.has {
		out = append(out, p)
	}
	sort.Slice(out, func(i, j int) bool { return out[i] < out[j] })
	return out
}

// settle waits until the members hold disjoint shares of these sizes for a while.
func (t *T) settle(what string, sizes []int, members ...*member) {
	calm := 0
	t.wait(fmt.Sprintf("%s: shares %v", what, sizes), func() bool {
		all, got := map[int32]bool{}, []int{}
		total := 0
		for _, m := range members {
			share := m.partitions()
			for _, p := range share {
				all[p] = true
			}
			total += len(share)
			got = append(got, len(share))
		}
		sort.Ints(got)
		if len(all) == total && fmt.Sprint(got) == fmt.Sprint(sizes) {
			calm++
		} else {
			calm = 0
		}
		return calm > 10
	})
}

func rebalance(balancer kgo.GroupBalancer) func(*T) {
	return func(t *T) {
		topic, group := t.topic(6), fresh("group")
		a := t.join(topic, group, kgo.Balancers(balancer))
		t.settle("one member", []int{6}, a)
		b, c := t.join(topic, group, kgo.Balancers(balancer)), t.join(topic, group, kgo.Balancers(balancer))
		t.settle("three members", []int{2, 2, 2}, a, b, c)
		b.leave()
		t.settle("after a leave", []int{3, 3}, a, c)
		var want []string
		for p := range int32(6) {
			t.put(plain(topic, p, 10))
			for o := range 10 {
				want = append(want, fmt.Sprintf("%d/%d", p, o))
			}
		}
		var got []string
		t.wait("all records", func() bool {
			a.mu.Lock()
			defer a.mu.Unlock()
			c.mu.Lock()
			defer c.mu.Unlock()
			got = append(append([]string(nil), a.got...), c.got...)
			return len(got) >= 60
		})
		sort.Strings(got)
		t.equal(got, want, "each record once")
		a.leave()
		c.leave()
	}
}

func crashedMember(t *T) {
	topic, group := t.topic(4), fresh("group")
	a := t.join(topic, group)
	b := t.join(topic, group, kgo.InstanceID("silent")) // a static member does not say goodbye
	t.settle("two members", []int{2, 2}, a, b)
	b.leave()
	began := time.Now()
	t.settle("the share of the silent one", []int{4}, a)
	if took := time.Since(began); took < 3*time.Second {
		t.fail("its session ended after %v", took)
	}
	a.leave()
}

func staticMember(t *T) {
	topic, group := t.topic(4), fresh("group")
	long := kgo.SessionTimeout(30 * time.Second)
	a, b := t.join(topic, group, long, kgo.InstanceID("one")), t.join(topic, group, long, kgo.InstanceID("two"))
	t.settle("two static members", []int{2, 2}, a, b)
	kept, other := b.partitions(), a.partitions()
	b.leave()
	time.Sleep(time.Second)
	t.equal(a.partitions(), other, "the other's share while one is away")
	b = t.join(topic, group, long, kgo.InstanceID("two"))
	t.settle("back again", []int{2, 2}, a, b)
	t.equal(b.partitions(), kept, "its old share")
	b.leave()
	admin, done := t.admin()
	defer done()
	left, err := admin.LeaveGroup(t.ctx, kadm.LeaveGroup(group).InstanceIDs("two").Reason("removed"))
	t.must(err)
	t.must(left.Error())
	t.settle("after the removal by instance id", []int{4}, a)
	a.leave()
}

func commits(t *T) {
	topic, group := t.topic(2), fresh("group")
	t.put(append(plain(topic, 0, 20), plain(topic, 1, 20)...))
	admin, done := t.admin()
	defer done()
	none, err := admin.FetchOffsetsForTopics(t.ctx, group, topic)
	t.must(err)
	t.equal(none[topic][0].At, int64(-1), "before any commit")
	opts := []kgo.Opt{kgo.ConsumerGroup(group), kgo.ConsumeTopics(topic), kgo.DisableAutoCommit()}
	c := t.client(opts...)
	t.take(c, 40)
	t.must(c.CommitRecords(t.ctx, &kgo.Record{Topic: topic, Partition: 0, Offset: 6, LeaderEpoch: 0}, &kgo.Record{Topic: topic, Partition: 1, Offset: 19, LeaderEpoch: 0}))
	c.Close()
	offsets, err := admin.FetchOffsets(t.ctx, group)
	t.must(err)
	t.equal([]int64{offsets[topic][0].At, offsets[topic][1].At}, []int64{7, 20}, "committed")
	c = t.client(opts...)
	defer c.Close()
	for i, r := range t.take(c, 13) {
		t.equal([]int64{int64(r.Partition), r.Offset}, []int64{0, int64(7 + i)}, "resumed")
	}
	auto := fresh("group")
	c = t.client(kgo.ConsumerGroup(auto), kgo.ConsumeTopics(topic))
	t.take(c, 40)
	c.PollFetches(cancelled()) // the library commits what earlier polls returned
	c.Close()
	offsets, err = admin.FetchOffsets(t.ctx, auto)
	t.must(err)
	t.equal([]int64{offsets[topic][0].At, offsets[topic][1].At}, []int64{20, 20}, "committed on leaving")
}

func cancelled() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

func fencedCommit(t *T) {
	topic, group := t.topic(1), fresh("group")
	m := t.join(topic, group)
	t.settle("one member", []int{1}, m)
	admin, done := t.admin()
	defer done()
	var offsets kadm.Offsets
	offsets.AddOffset(topic, 0, 5, -1)
	answer, err := admin.CommitOffsets(t.ctx, group, offsets) // without a member id, while the group is in use
	t.must(err)
	t.is(answer[topic][0].Err, kerr.UnknownMemberID, "a stranger's commit")
	m.leave()
	t.wait("an empty group accepts it", func() bool {
		answer, err := admin.CommitOffsets(t.ctx, group, offsets)
		t.must(err)
		return answer[topic][0].Err == nil
	})
}

func groupAdmin(t *T) {
	topic, group := t.topic(2), fresh("group")
	t.put(plain(topic, 0, 10))
	m := t.join(topic, group, kgo.ClientID("the-client"), kgo.Balancers(kgo.RangeBalancer()), kgo.DisableAutoCommit())
	t.settle("one member", []int{2}, m)
	admin, done := t.admin()
	defer done()
	listed, err := admin.ListGroups(t.ctx)
	t.must(err)
	t.equal([]string{listed[group].State, listed[group].ProtocolType}, []string{"Stable", "consumer"}, "listed")
	filtered, err := admin.ListGroups(t.ctx, "Empty")
	t.must(err)
	if _, found := filtered[group]; found {
		t.fail("a stable group is listed as empty")
	}
	described, err := admin.DescribeGroups(t.ctx, group)
	t.must(err)
	d := described[group]
	t.equal([]any{d.State, d.Protocol, len(d.Members), d.Members[0].ClientID}, []any{"Stable", "range", 1, "the-client"}, "described")
	assigned, ok := d.Members[0].Assigned.AsConsumer()
	if !ok || len(assigned.Topics) != 1 || len(assigned.Topics[0].Partitions) != 2 {
		t.fail("assignment %v", assigned)
	}
	_, err = admin.DeleteGroup(t.ctx, group)
	t.is(err, kerr.NonEmptyGroup, "delete while in use")
	m.leave()
	var offsets kadm.Offsets
	offsets.AddOffset(topic, 0, 4, -1)
	offsets.AddOffset(topic, 1, 0, -1)
	t.must(admin.CommitAllOffsets(t.ctx, group, offsets))
	gone, err := admin.DeleteOffsets(t.ctx, group, kadm.TopicsSet{topic: {1: {}}})
	t.must(err)
	t.must(gone[topic][1])
	left, err := admin.FetchOffsets(t.ctx, group)
	t.must(err)
	_, still := left.Lookup(topic, 1)
	t.equal([]any{left[topic][0].At, still}, []any{int64(4), false}, "after OffsetDelete")
	_, err = admin.DeleteGroup(t.ctx, group)
	t.must(err)
	_, err = admin.DeleteGroup(t.ctx, group)
	t.is(err, kerr.GroupIDNotFound, "delete again")
	described, err = admin.DescribeGroups(t.ctx, group)
	t.must(err)
	t.equal(described[group].State, "Dead", "described after deletion")
}
