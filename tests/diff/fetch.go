package main

import (
	"fmt"
	"sort"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// fetchScenarios: Fetch with its sessions, ListOffsets, OffsetForLeaderEpoch.
func fetchScenarios() []scenario {
	out := forVersions("fetch", 1, fetch)
	out = append(out, forVersions("fetch-sizes", 1, fetchSizes)...)
	out = append(out, forVersions("fetch-sessions", 1, fetchSessions)...)
	out = append(out, forVersions("list-offsets", 2, listOffsets)...)
	return append(out, forVersions("leader-epochs", 23, leaderEpochs)...)
}

// byID names a fetch's topics by id in the versions that do so.
func byID(v int16, r *kmsg.FetchRequest, ids map[string][16]byte) *kmsg.FetchRequest {
	if v < 13 {
		return r
	}
	for i, t := range r.Topics {
		if id, known := ids[t.Topic]; known {
			r.Topics[i].TopicID = id
		}
	}
	for i, t := range r.ForgottenTopics {
		r.ForgottenTopics[i].TopicID = ids[t.Topic]
	}
	return r
}

// errorsLast puts partitions that the broker does not know behind the others, as Kafka does: nothing depends on their place.
func errorsLast(r *kmsg.FetchResponse) {
	type row struct {
		topic     kmsg.FetchResponseTopic
		partition kmsg.FetchResponseTopicPartition
	}
	var rows []row
	for _, t := range r.Topics {
		for _, p := range t.Partitions {
			rows = append(rows, row{t, p})
		}
	}
	unknown := func(r row) bool { c := r.partition.ErrorCode; return c == 3 || c == 100 || c == 103 }
	sort.SliceStable(rows, func(i, j int) bool { return !unknown(rows[i]) && unknown(rows[j]) })
	var topics []kmsg.FetchResponseTopic
	for _, each := range rows {
		if n := len(topics); n == 0 || topics[n-1].Topic != each.topic.Topic || topics[n-1].TopicID != each.topic.TopicID {
			each.topic.Partitions = nil
			topics = append(topics, each.topic)
		}
		last := &topics[len(topics)-1]
		last.Partitions = append(last.Partitions, each.partition)
	}
	r.Topics = topics
}

func fetch(s *S, v int16) {
	t, empty := s.log("t", 2), s.log("empty", 1)
	ids := map[string][16]byte{t: s.settle(t), empty: s.settle(empty)}
	s.fill(t, 0, plain(3), plain(1), plain(5))
	s.fill(t, 1, plain(2))
	s.fill(empty, 0, plain(1))
	cut := kmsg.NewPtrDeleteRecordsRequest()
	cut.TimeoutMillis = 10_000
	cut.Topics = []kmsg.DeleteRecordsRequestTopic{{Topic: t, Partitions: []kmsg.DeleteRecordsRequestTopicPartition{{Partition: 1, Offset: 1}}}}
	quiet[*kmsg.DeleteRecordsResponse](s, 2, cut)
	ask := func(label string, edit func(*kmsg.FetchRequest), topics ...kmsg.FetchRequestTopic) {
		r := fetchOf(t, 0, 0)
		r.MaxWaitMillis, r.Topics = 0, topics
		if edit != nil {
			edit(r)
		}
		s.do(label, v, byID(v, r, ids))
	}
	for _, offset := range []int64{0, 1, 2, 3, 4, 8, 9, 10, -1, -5, 1 << 60} {
		ask(fmt.Sprint("from ", offset), nil, fetchTopic(t, fetchPartition(0, offset)))
	}
	for _, offset := range []int64{0, 1, 2} {
		ask(fmt.Sprint("truncated, from ", offset), nil, fetchTopic(t, fetchPartition(1, offset)))
	}
	ask("committed only", func(r *kmsg.FetchRequest) { r.IsolationLevel = 1 }, fetchTopic(t, fetchPartition(0, 0)))
	ask("of an isolation that is none", func(r *kmsg.FetchRequest) { r.IsolationLevel = 9 }, fetchTopic(t, fetchPartition(0, 0)))
	ask("both partitions", nil, fetchTopic(t, fetchPartition(1, 1), fetchPartition(0, 4)))
	ask("two topics", nil, fetchTopic(empty, fetchPartition(0, 1)), fetchTopic(t, fetchPartition(1, 1)))
	ask("unknown partition", nil, fetchTopic(t, fetchPartition(5, 0), fetchPartition(-1, 0), fetchPartition(0, 8)))
	ask("no topics", nil)
	ask("no partitions", nil, fetchTopic(t))
	ask("a partition twice", nil, fetchTopic(t, fetchPartition(0, 4), fetchPartition(1, 1), fetchPartition(0, 8)))
	ask("a partition twice, first without records", nil, fetchTopic(t, fetchPartition(0, 9), fetchPartition(0, 0)))
	ask("a topic twice", nil, fetchTopic(t, fetchPartition(0, 0)), fetchTopic(empty, fetchPartition(0, 1)), fetchTopic(t, fetchPartition(1, 1), fetchPartition(0, 8)))
	ask("an unknown partition twice", nil, fetchTopic(t, fetchPartition(7, 0), fetchPartition(0, 8), fetchPartition(7, 0)))
	missing := fetchTopic(s.named("missing"), fetchPartition(0, 0))
	missing.TopicID = [16]byte{3}
	ask("missing", nil, missing)
	if v < 13 {
		for _, name := range badNames[:4] {
			ask("bad name", nil, fetchTopic(name, fetchPartition(0, 0)))
		}
	}
	for _, epoch := range []int32{0, 1000, -2} {
		if v < 9 {
			break
		}
		p := fetchPartition(0, 0)
		if epoch > 0 {
			p.CurrentLeaderEpoch = 1 << 30
		} else if epoch == 0 {
			p.CurrentLeaderEpoch = s.epochOf(t)
		} else {
			p.CurrentLeaderEpoch = -2
		}
		ask(fmt.Sprint("leader epoch ", epoch), nil, fetchTopic(t, p))
	}
	if v >= 12 {
		p := fetchPartition(0, 4)
		p.LastFetchedEpoch = s.epochOf(t)
		ask("last fetched epoch", nil, fetchTopic(t, p))
		p.LastFetchedEpoch = 1 << 30
		ask("last fetched epoch of the future", nil, fetchTopic(t, p))
	}
	ask("waits for nothing", func(r *kmsg.FetchRequest) { r.MaxWaitMillis = 300 }, fetchTopic(empty, fetchPartition(0, 1)))
	ask("waits, error", func(r *kmsg.FetchRequest) { r.MaxWaitMillis = 5000 }, fetchTopic(empty, fetchPartition(0, 9)))
	s.longPoll(v, empty, ids)
}

// epochOf is the leader epoch of partition 0, as Metadata has it.
func (s *S) epochOf(topic string) int32 {
	answer := quiet[*kmsg.MetadataResponse](s, 12, topicsOf(topic))
	return answer.Topics[0].Partitions[0].LeaderEpoch
}

// longPoll: a fetch waits until there are min_bytes.
func (s *S) longPoll(v int16, topic string, ids map[string][16]byte) {
	r := fetchOf(topic, 0, 1)
	r.MaxWaitMillis = 10_000
	p := s.start(options{on: "poll"}, "long poll", v, byID(v, r, ids))
	p.waits("before the record", 150*time.Millisecond)
	s.fill(topic, 0, plain(1))
	p.get()
	r = fetchOf(topic, 0, 2)
	r.MaxWaitMillis, r.MinBytes = 2000, 1_000_000
	p = s.start(options{on: "poll"}, "long poll for much", v, byID(v, r, ids))
	s.fill(topic, 0, plain(1))
	p.waits("after one record", 150*time.Millisecond)
	p.get()
}

func fetchSizes(s *S, v int16) {
	t := s.log("t", 3)
	ids := map[string][16]byte{t: s.settle(t)}
	large := func(n int) batch {
		b := plain(1)
		b.records[0].value = make([]byte, n)
		return b
	}
	for p := range int32(3) {
		s.fill(t, p, large(1000), large(1000), large(5000), large(1000))
	}
	for _, size := range [][2]int32{{50 << 20, 50 << 20}, {50 << 20, 1}, {1, 50 << 20}, {1, 1}, {0, 0}, {50 << 20, 0}, {50 << 20, 1071}, {50 << 20, 1072}, {50 << 20, 2142}, {50 << 20, 2200},
		{3000, 50 << 20}, {3000, 1000}, {10_000, 9000}, {20_000, 3000}, {-1, -1}, {50 << 20, -1}} {
		for _, offset := range []int64{0, 2} {
			r := fetchOf(t, 0, offset)
			r.MaxBytes, r.MaxWaitMillis = size[0], 0
			r.Topics[0].Partitions = nil
			for _, p := range []int32{2, 0, 1} {
				row := fetchPartition(p, offset)
				row.PartitionMaxBytes = size[1]
				r.Topics[0].Partitions = append(r.Topics[0].Partitions, row)
			}
			s.start(options{edit: wholeBatches}, fmt.Sprintf("at most %d, %d a partition, from %d", size[0], size[1], offset), v, byID(v, r, ids)).get()
		}
	}
	r := fetchOf(t, 0, 0)
	r.MinBytes = 1000
	s.do("min bytes are there", v, byID(v, r, ids))
	r.MinBytes, r.MaxBytes, r.MaxWaitMillis = 100_000, 100, 200
	s.do("min above max", v, byID(v, r, ids))
	r.MinBytes, r.MaxWaitMillis = 0, 5000
	r.Topics[0].Partitions[0].FetchOffset = 4
	s.do("no min bytes at the end", v, byID(v, r, ids))
	r.MinBytes = -1
	s.do("negative min bytes at the end", v, byID(v, r, ids))
}

// wholeBatches cuts off a batch that is not whole: Kafka sends a part of it, and every client drops it.
func wholeBatches(r kmsg.Response) {
	for i, t := range r.(*kmsg.FetchResponse).Topics {
		for j := range t.Partitions {
			p := &r.(*kmsg.FetchResponse).Topics[i].Partitions[j]
			p.RecordBatches = p.RecordBatches[:wholeLength(p.RecordBatches)]
		}
	}
}

func fetchSessions(s *S, v int16) {
	if v < 7 {
		t := s.log("t", 1)
		s.fill(t, 0, plain(1))
		s.do("no sessions yet", v, fetchOf(t, 0, 0))
		return
	}
	a, b := s.log("a", 2), s.log("b", 1)
	ids := map[string][16]byte{a: s.settle(a), b: s.settle(b)}
	s.fill(a, 0, plain(2))
	s.fill(a, 1, plain(1))
	s.fill(b, 0, plain(1))
	ask := func(label string, session, epoch int32, edit func(*kmsg.FetchRequest), topics ...kmsg.FetchRequestTopic) int32 {
		r := fetchOf(a, 0, 0)
		r.MaxWaitMillis, r.SessionID, r.SessionEpoch, r.Topics = 0, session, epoch, topics
		if edit != nil {
			edit(r)
		}
		return get[*kmsg.FetchResponse](s.start(options{}, label, v, byID(v, r, ids))).SessionID
	}
	forget := func(topic string, partitions ...int32) func(*kmsg.FetchRequest) {
		return func(r *kmsg.FetchRequest) {
			r.ForgottenTopics = append(r.ForgottenTopics, kmsg.FetchRequestForgottenTopic{Topic: topic, Partitions: partitions})
		}
	}
	id := ask("full", 0, 0, nil, fetchTopic(a, fetchPartition(0, 0), fetchPartition(1, 1)), fetchTopic(b, fetchPartition(0, 1)))
	ask("nothing new", id, 1, nil)
	ask("moved on", id, 2, nil, fetchTopic(a, fetchPartition(0, 2)))
	ask("nothing new", id, 3, nil)
	s.fill(b, 0, plain(1))
	ask("one has news", id, 4, nil)
	ask("the news again", id, 5, nil)
	ask("forget it", id, 6, forget(b, 0))
	s.fill(b, 0, plain(1))
	ask("news of the forgotten", id, 7, nil)
	ask("forget what is not there", id, 8, forget(b, 0, 7))
	ask("remember", id, 9, nil, fetchTopic(b, fetchPartition(0, 0)))
	ask("wrong epoch", id, 9, nil)
	ask("epoch too high", id, 12, nil)
	ask("right epoch", id, 10, nil)
	ask("unknown session", id+12345, 1, nil)
	ask("unknown session, full", id+12345, 0, nil, fetchTopic(a, fetchPartition(0, 0)))
	ask("no session, an epoch", 0, 5, nil, fetchTopic(a, fetchPartition(0, 0)))
	ask("no session, closed", 0, -1, nil, fetchTopic(a, fetchPartition(0, 0)))
	ask("unknown partition", id, 11, nil, fetchTopic(a, fetchPartition(9, 0)))
	ask("unknown partition, again", id, 12, nil)
	ask("out of range", id, 13, nil, fetchTopic(a, fetchPartition(0, 99)))
	ask("out of range, again", id, 14, nil)
	ask("in range", id, 15, nil, fetchTopic(a, fetchPartition(0, 0)))
	ask("forget all", id, 16, func(r *kmsg.FetchRequest) { forget(a, 0, 1, 9)(r); forget(b, 0)(r) })
	ask("an empty session", id, 17, nil)
	id = ask("full again", 0, 0, nil, fetchTopic(a, fetchPartition(0, 0)))
	ask("full over it", id, 0, nil, fetchTopic(b, fetchPartition(0, 0)))
	ask("the replaced one", id, 1, nil)
	id = ask("third", 0, 0, nil, fetchTopic(a, fetchPartition(0, 0)))
	ask("close", id, -1, nil, fetchTopic(a, fetchPartition(0, 0)))
	ask("closed", id, 1, nil)
	ask("full without partitions", 0, 0, nil)
	if v >= 13 {
		unknown := fetchTopic("", fetchPartition(0, 0))
		unknown.TopicID = [16]byte{5}
		id = ask("unknown id", 0, 0, nil, unknown, fetchTopic(a, fetchPartition(0, 0)))
		ask("unknown id, again", id, 1, nil)
		r := fetchOf(a, 0, 0)
		r.MaxWaitMillis, r.SessionID, r.SessionEpoch = 0, id, 2
		s.do("older version in it", 12, r)
	}
}

func listOffsets(s *S, v int16) {
	t, empty := s.log("t", 2), s.log("empty", 1)
	for i := range int64(4) {
		b := plain(3)
		b.first = clock + i*100
		s.fill(t, 0, b)
	}
	s.fill(t, 1, plain(4))
	cut := kmsg.NewPtrDeleteRecordsRequest()
	cut.TimeoutMillis = 10_000
	cut.Topics = []kmsg.DeleteRecordsRequestTopic{{Topic: t, Partitions: []kmsg.DeleteRecordsRequestTopicPartition{{Partition: 1, Offset: 2}}}}
	quiet[*kmsg.DeleteRecordsResponse](s, 2, cut)
	for _, timestamp := range []int64{-1, -2, -3, -4, -5, -6, -7, -100, 0, clock - 1, clock, clock + 1, clock + 2, clock + 3, clock + 100, clock + 300, clock + 302, clock + 303, 1 << 62} {
		for _, level := range []int8{0, 1} {
			if v < 2 && level > 0 {
				continue
			}
			r := listOf(t, 0, timestamp)
			r.IsolationLevel = level
			s.do(fmt.Sprint("at ", timestamp), v, r)
		}
		s.do(fmt.Sprint("empty, at ", timestamp), v, listOf(empty, 0, timestamp))
		s.do(fmt.Sprint("truncated, at ", timestamp), v, listOf(t, 1, timestamp))
	}
	s.do("unknown partition", v, listOf(t, 7, -1))
	s.do("negative partition", v, listOf(t, -1, -1))
	s.do("missing", v, listOf(s.named("missing"), 0, -1))
	for _, name := range badNames[:4] {
		s.do("bad name", v, listOf(name, 0, -1))
	}
	r := listOf(t, 0, -1)
	r.Topics[0].Partitions = append(r.Topics[0].Partitions, r.Topics[0].Partitions[0], listOf(t, 1, -2).Topics[0].Partitions[0])
	s.do("twice", v, r)
	r = listOf(t, 0, -1)
	r.ReplicaID = -2
	s.do("debugging replica", v, r)
	r.ReplicaID = 7
	s.do("replica", v, r)
	none := listOf(t, 0, -1)
	none.Topics = nil
	s.do("no topics", v, none)
	if v >= 4 {
		for label, epoch := range map[string]int32{"current epoch": s.epochOf(t)} {
			r = listOf(t, 0, -1)
			r.Topics[0].Partitions[0].CurrentLeaderEpoch = epoch
			s.do(label, v, r)
		}
		r.Topics[0].Partitions[0].CurrentLeaderEpoch = 1 << 30
		s.do("future epoch", v, r)
	}
}

func leaderEpochs(s *S, v int16) {
	t, empty := s.log("t", 1), s.log("empty", 1)
	s.fill(t, 0, plain(3))
	s.settle(empty)
	ask := func(label, topic string, partition, current, epoch int32) {
		r := kmsg.NewPtrOffsetForLeaderEpochRequest()
		p := kmsg.NewOffsetForLeaderEpochRequestTopicPartition()
		p.Partition, p.CurrentLeaderEpoch, p.LeaderEpoch = partition, current, epoch
		r.ReplicaID = -1
		r.Topics = []kmsg.OffsetForLeaderEpochRequestTopic{{Topic: topic, Partitions: []kmsg.OffsetForLeaderEpochRequestTopicPartition{p}}}
		s.do(label, v, r)
	}
	now := s.epochOf(t)
	ask("current", t, 0, -1, now)
	ask("current, checked", t, 0, now, now)
	ask("future", t, 0, -1, 1<<30)
	ask("none", t, 0, -1, -1)
	ask("negative", t, 0, -1, -7)
	ask("checked with the future", t, 0, 1<<30, now)
	ask("unknown partition", t, 4, -1, now)
	ask("missing", s.named("missing"), 0, -1, now)
	ask("bad name", "a b", 0, -1, now)
	ask("empty", empty, 0, -1, s.epochOf(empty))
	s.do("no topics", v, kmsg.NewPtrOffsetForLeaderEpochRequest())
}
