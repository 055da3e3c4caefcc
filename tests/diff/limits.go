package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// limitScenarios: names, numbers and sizes at the limits of Kafka and one over them.
func limitScenarios() []scenario {
	out := []scenario{
		{"limits/partitions", limitPartitions}, {"limits/group-names", limitGroupNames}, {"limits/long-names", limitLongNames},
		{"limits/client-ids", limitClientIDs}, {"limits/segment-bytes", limitSegmentBytes}, {"limits/frames", limitFrames},
		{"limits/time-outs", limitTimeouts}, {"limits/subscriptions", limitSubscriptions}, {"limits/fetch", limitFetch}, {"limits/offsets", limitOffsets},
	}
	for _, target := range []string{"producer", "uncompressed", "gzip", "snappy", "lz4", "zstd"} {
		out = append(out, scenario{"limits/max-message-bytes-" + target, func(s *S) { limitMessageBytes(s, target) }})
	}
	for _, name := range sortedKeys(groupConfigs) {
		out = append(out, scenario{"group-config/" + name, func(s *S) { groupConfig(s, name, groupConfigs[name]) }})
	}
	return out
}

// groupConfigs are configs of a group with values at and over their bounds.
var groupConfigs = map[string][]string{
	"consumer.session.timeout.ms":        {"45000", "44999", "60000", "60001"},
	"consumer.heartbeat.interval.ms":     {"5000", "4999", "15000", "15001"},
	"share.session.timeout.ms":           {"45000", "44999", "60000", "60001"},
	"share.heartbeat.interval.ms":        {"5000", "4999", "15000", "15001"},
	"share.record.lock.duration.ms":      {"15000", "14999", "60000", "60001", "1000"},
	"share.delivery.count.limit":         {"2", "1", "10", "11"},
	"share.partition.max.record.locks":   {"100", "99", "4000", "4001"},
	"share.auto.offset.reset":            {"latest", "earliest", "none", "Latest", "by_duration:PT1H", "by_duration:x", "by_duration:-PT1H"},
	"share.isolation.level":              {"read_committed", "read_uncommitted", "READ_COMMITTED", "serializable"},
	"share.renew.acknowledge.enable":     {"false"},
	"streams.session.timeout.ms":         {"45000", "44999", "60000", "60001"},
	"streams.heartbeat.interval.ms":      {"5000", "4999", "15000", "15001"},
	"streams.num.standby.replicas":       {"2", "3"},
	"streams.initial.rebalance.delay.ms": {"3000"},
	"consumer.assignment.interval.ms":    {"1000", "15000", "15001"},
	"session.timeout.ms":                 {"45000"},
	"no.such.config":                     {"1"},
	"group.consumer.session.timeout.ms":  {"45000"},
	"streams.num.warmup.replicas":        {"2", "20", "21"},
	"streams.acceptable.recovery.lag":    {"10000"},
	"streams.task.offset.interval.ms":    {"60000"},
	"consumer.assignor.offload.enable":   {"false"},
	"streams.assignment.interval.ms":     {"1000", "15001"},
	"share.assignment.interval.ms":       {"1000", "15001"},
	"errors.deadletterqueue.topic.name":  {"dlq.x", "a b"},
	"streams.assignor.offload.enable":    {"false"},
	"share.assignor.offload.enable":      {"false"},
}

func groupConfig(s *S, name string, values []string) {
	g := s.named("g")
	s.do("default", 4, describe(32, g, name))
	for _, value := range append(append([]string{}, values...), commonValues...) {
		r := change(32, g, op(name, setOp, &value))
		r.ValidateOnly = true
		s.do(fmt.Sprintf("set %q", value), 1, r)
	}
	for _, kind := range []kmsg.IncrementalAlterConfigOp{deleteOp, appendOp, subtractOp} {
		r := change(32, g, op(name, kind, &values[0]))
		r.ValidateOnly = true
		s.do(fmt.Sprintf("operation %d", kind), 1, r)
	}
}

func limitPartitions(s *S) {
	t := s.create("t", 1)
	create := func(label string, topics ...newTopic) {
		r := kmsg.NewPtrCreateTopicsRequest()
		r.TimeoutMillis, r.ValidateOnly, r.Topics = 10_000, true, topics
		s.start(options{edit: onlyConfig("none")}, label, 7, r).get()
	}
	for _, n := range []int32{1, 10_000, 10_001, 1_000_000, math.MaxInt32} {
		create(fmt.Sprint("one topic of ", n), topic(s.named("a"), n, 1))
	}
	create("two of 5000", topic(s.named("a"), 5000, 1), topic(s.named("b"), 5000, 1))
	create("two of 5001", topic(s.named("a"), 5001, 1), topic(s.named("b"), 5001, 1))
	create("10000 and the default", topic(s.named("a"), 10_000, 1), topic(s.named("b"), -1, 1))
	create("10000 and a bad one", topic(s.named("a"), 10_000, 1), topic(s.named("b"), 0, 1))
	create("10001 and one that is there", topic(s.named("a"), 10_001, 1), topic(t, 1, 1))
	create("10001 under a bad name", topic("a b", 10_001, 1))
	grow := func(label string, count int32) {
		r := kmsg.NewPtrCreatePartitionsRequest()
		r.TimeoutMillis, r.ValidateOnly = 10_000, true
		r.Topics = []kmsg.CreatePartitionsRequestTopic{{Topic: t, Count: count}}
		s.do(label, 3, r)
	}
	for _, n := range []int32{2, 10_001, 10_002, 1_000_000, math.MaxInt32, math.MinInt32} {
		grow(fmt.Sprint("grow to ", n), n)
	}
	for _, n := range []int{0, 100, 101, 400} {
		many := make([][]int32, n)
		for i := range many {
			many[i] = []int32{s.broker.node}
		}
		create(fmt.Sprint("assigned to ", n), topic(s.named("a"), -1, -1, assigned(many...)))
	}
}

// limitGroupNames: any text names a group.
func limitGroupNames(s *S) {
	t := s.create("t", 1)
	for _, name := range []string{"a b", "é\u2603", "a\x00b", ".", "..", "a/b", strings.Repeat("x", 249), strings.Repeat("x", 250), strings.Repeat("y", 8000), strings.Repeat("z", 9000)} {
		label := fmt.Sprintf("%.10q of %d", name, len(name))
		g := name + s.named("")
		m := s.member(g, "m", 9)
		find := kmsg.NewPtrFindCoordinatorRequest()
		find.CoordinatorKeys = []string{g}
		s.do(label+": find", 4, find)
		s.do(label+": commit", 8, m.commitRequest(t, 0, 7))
		s.do(label+": offsets", 8, fetchOffsets(g))
		m.finish(m.startJoin(label))
		m.finish(m.startJoin(label + ", with the id")) // also where no id was given, for the steps to be the same on both
		m.sync(label)
		m.beat(label)
		s.describeGroup(label, g)
		m.leave(label)
		r := kmsg.NewPtrDeleteGroupsRequest()
		r.Groups = []string{g}
		s.do(label+": delete", 2, r)
	}
}

// limitLongNames: no string of a request has more than 32767 bytes, whatever its encoding could hold.
func limitLongNames(s *S) {
	for _, n := range []int{32767, 32768, 40_000} {
		long := strings.Repeat("x", n)
		label := func(what string) string { return fmt.Sprintf("%s of %d bytes", what, n) }
		s.do(label("topic"), 12, func() kmsg.Request {
			r := topicsOf(long)
			r.AllowAutoTopicCreation = false
			return r
		}())
		create := kmsg.NewPtrCreateTopicsRequest()
		create.TimeoutMillis, create.ValidateOnly, create.Topics = 10_000, true, []newTopic{topic(long, 1, 1)}
		s.do(label("new topic"), 7, create)
		describeThem := kmsg.NewPtrDescribeGroupsRequest()
		describeThem.Groups = []string{long}
		s.do(label("group"), 5, describeThem)
		beat := kmsg.NewPtrHeartbeatRequest()
		beat.Group, beat.MemberID, beat.InstanceID = s.named("g"), long, &long
		s.do(label("member"), 4, beat)
		m := s.member(s.named("g"), "m", 9)
		commit := m.commitRequest(s.named("missing"), 0, 1)
		commit.Topics[0].Partitions[0].Metadata = &long
		s.do(label("metadata"), 8, commit)
		s.do(label("config"), 4, describe(2, s.named("missing"), long))
		init := kmsg.NewPtrJoinGroupRequest()
		init.Group, init.SessionTimeoutMillis, init.ProtocolType, init.Reason = "", 10_000, "consumer", &long
		s.do(label("reason"), 9, init)
	}
}

func limitClientIDs(s *S) {
	for _, n := range []int{0, 1, 255, 1000, 20_000, 32767} {
		as := kmsg.NewRequestFormatter(kmsg.FormatterClientID(strings.Repeat("c", n)))
		label := fmt.Sprint("client id of ", n)
		metadata := topicsOf(s.named("missing"))
		metadata.Version, metadata.AllowAutoTopicCreation = 12, false
		s.raw(label, 3, 12, as.AppendRequest(nil, metadata, rawID))
		if n > 20_000 {
			continue // the member's id would be too long for an answer
		}
		m := s.member(s.named(fmt.Sprint("g", n)), "raw", 9)
		for _, v := range []int16{3, 9} {
			r := m.request()
			r.Version = v
			s.raw(label+" joins", 11, v, as.AppendRequest(nil, r, rawID))
		}
	}
}

var codecs = []string{"uncompressed", "gzip", "snappy", "lz4", "zstd"}

// noise does not get smaller by any codec.
func noise(n int) []byte {
	random := rand.New(rand.NewPCG(1, 2))
	out := make([]byte, n)
	for i := range out {
		out[i] = byte(random.Uint32())
	}
	return out
}

func limitMessageBytes(s *S, target string) {
	sized := func(codec kgo.CompressionCodecType, value []byte) []byte {
		b := plain(1)
		b.codec, b.records[0].value = codec, value
		return b.encode()
	}
	s.fill(s.log("warm", 1), 0, plain(1))
	for codec := range kgo.CompressionCodecType(5) {
		exact := sized(codec, noise(2000))
		zeros := sized(codec, make([]byte, 20_000))
		t := s.log(fmt.Sprint("t", codec), 1, "compression.type", target, "max.message.bytes", fmt.Sprint(len(exact)))
		label := fmt.Sprintf("codec %d, ", codec)
		send := func(what string, records []byte) { s.do(label+what, 9, produceOf(-1, t, 0, records)) }
		s.fill(t, 0, plain(1))
		if target == "producer" || target == codecs[codec] { // else the broker's own codec decides
			send("one less", sized(codec, noise(1999)))
			send("at the limit", exact)
			send("one more", sized(codec, noise(2001)))
		}
		send("much more", sized(codec, noise(9000)))
		send("20000 zeros", zeros)
		s.listOffsets(label+"end", t, 0, -1)
	}
	for _, limit := range []string{"0", "1", "61", "2147483647"} {
		t := s.create("limit-"+limit, 1, "compression.type", target, "max.message.bytes", limit)
		s.do("max.message.bytes "+limit, 9, produceOf(-1, t, 0, plain(1).encode()))
	}
}

func limitSegmentBytes(s *S) {
	t := s.log("t", 1, "segment.bytes", "1048576", "max.message.bytes", "3000000")
	s.fill(t, 0, plain(1))
	overhead := len(func() []byte {
		b := plain(1)
		b.records[0].value = make([]byte, 1_000_000)
		return b.encode()
	}()) - 1_000_000
	for _, n := range []int{1048575, 1048576, 1048577, 2_000_000, 3_000_000, 3_000_001} {
		b := plain(1)
		b.records[0].value = make([]byte, n-overhead)
		s.do(fmt.Sprint("a batch of ", n), 9, produceOf(-1, t, 0, b.encode()))
		s.listOffsets("end", t, 0, -1)
	}
}

// limitFrames: a frame's length alone decides whether the rest is waited for.
func limitFrames(s *S) {
	const most = 104_857_600
	for _, each := range []struct {
		label  string
		length uint32
		key    int16
		closes bool
	}{
		{"the longest", most, 0, false},
		{"one more", most + 1, 0, true},
		{"no length an i32 has", math.MaxUint32, 0, true},
		{"the longest i32", math.MaxInt32, 0, true},
		{"long, without records", 5 << 20, 3, false},
	} {
		s.announced(each.label, each.length, append(header(each.key, 9, true), 0), each.closes)
	}
}

// announced sends a frame's length and a part of the frame. What is expected decides only how long to wait for it.
func (s *S) announced(label string, length uint32, part []byte, closes bool) {
	c, err := dial(s.broker.address)
	if err != nil {
		s.abort("connect: %v", err)
	}
	defer c.socket.Close()
	if err := c.write(append(binary.BigEndian.AppendUint32(nil, length), part...)); err != nil {
		s.abort("write: %v", err)
	}
	limit := 2 * time.Second
	if closes {
		limit = answerLimit
	}
	c.socket.SetReadDeadline(time.Now().Add(limit))
	outcome := "closed"
	if _, err := c.socket.Read(make([]byte, 1)); errors.Is(err, os.ErrDeadlineExceeded) {
		outcome = "waits"
	} else if err == nil {
		outcome = "answers"
	}
	s.note(label, outcome)
}

func limitTimeouts(s *S) {
	for _, session := range []int32{5999, 6000, 6001, 1_799_999, 1_800_000, 1_800_001, 0, -1, math.MaxInt32, math.MinInt32} {
		for _, rebalance := range []int32{0, 1, -1, math.MaxInt32, math.MinInt32} {
			for _, v := range []int16{0, 4, 9} {
				m := s.member(s.named(fmt.Sprintf("g%d.%d.%d", session, rebalance, v)), "m", v)
				m.session, m.rebalance = session, rebalance
				m.join(fmt.Sprintf("session %d, rebalance %d, v%d", session, rebalance, v))
				if rebalance < math.MaxInt32 {
					continue // the rebalance ends at once, or a moment later
				}
				if v == 9 {
					s.describeGroup("then", m.group)
				}
				m.leave("then")
			}
		}
	}
}

// limitSubscriptions: the coordinator reads what consumers subscribe to, and only theirs.
func limitSubscriptions(s *S) {
	for _, each := range []struct {
		name     string
		metadata []byte
	}{{"nothing", []byte{}}, {"no subscription", []byte("xyz")}, {"cut", subscription("topic")[:8]}} {
		name, metadata := each.name, each.metadata
		for _, kind := range []string{"connect", "consumer"} {
			m := s.member(s.named(name+kind), name+kind, 3)
			r := m.request()
			r.ProtocolType, r.Protocols[0].Metadata = kind, metadata
			p := s.start(options{on: m.on}, kind+" subscribes to "+name, 3, r)
			if kind == "consumer" && name != "nothing" {
				p.neverFromKafka()
			}
			p.get()
		}
	}
}

func limitFetch(s *S) {
	t := s.log("t", 1)
	s.fill(t, 0, plain(3), plain(3))
	ask := func(label string, edit func(*kmsg.FetchRequest, *kmsg.FetchRequestTopicPartition)) {
		for _, v := range []int16{4, 11, 12} {
			r := fetchOf(t, 0, 0)
			r.MaxWaitMillis = 0
			edit(r, &r.Topics[0].Partitions[0])
			s.start(options{edit: wholeBatches}, fmt.Sprintf("%s, v%d", label, v), v, r).get()
		}
	}
	type part = *kmsg.FetchRequestTopicPartition
	for _, n := range []int32{0, 1, 90, math.MaxInt32} {
		ask(fmt.Sprint("max bytes ", n), func(r *kmsg.FetchRequest, p part) { r.MaxBytes = n })
		ask(fmt.Sprint("partition bytes ", n), func(r *kmsg.FetchRequest, p part) { p.PartitionMaxBytes = n })
		ask(fmt.Sprint("all bytes ", n), func(r *kmsg.FetchRequest, p part) { r.MaxBytes, p.PartitionMaxBytes = n, n })
	}
	for _, n := range []int32{0, -1, math.MinInt32, math.MaxInt32} {
		ask(fmt.Sprint("min bytes ", n), func(r *kmsg.FetchRequest, p part) { r.MinBytes = n })
	}
	for _, n := range []int32{-1, math.MinInt32} {
		ask(fmt.Sprint("max wait ", n), func(r *kmsg.FetchRequest, p part) { r.MaxWaitMillis, p.FetchOffset = n, 6 })
		ask(fmt.Sprint("partition ", n), func(r *kmsg.FetchRequest, p part) { p.Partition = n })
	}
	for _, n := range []int64{math.MinInt64, -2, -1, 5, 6, 7, math.MaxInt64} {
		ask(fmt.Sprint("offset ", n), func(r *kmsg.FetchRequest, p part) { p.FetchOffset = n })
		ask(fmt.Sprint("log start ", n), func(r *kmsg.FetchRequest, p part) { p.LogStartOffset = n })
	}
	ask("partition 2147483647", func(r *kmsg.FetchRequest, p part) { p.Partition = math.MaxInt32 })
}

func limitOffsets(s *S) {
	t := s.log("t", 1)
	s.fill(t, 0, plain(3), plain(3))
	for _, timestamp := range []int64{math.MinInt64, math.MinInt64 + 1, -7, math.MaxInt64 - 1, math.MaxInt64} {
		for _, v := range []int16{1, 8} {
			s.do(fmt.Sprint("at ", timestamp), v, listOf(t, 0, timestamp))
		}
	}
	m := s.member(s.named("g"), "m", 5)
	for _, offset := range []int64{math.MinInt64, -2, -1, 0, math.MaxInt64} {
		for _, epoch := range []int32{math.MinInt32, -2, -1, 0, math.MaxInt32} {
			r := m.commitRequest(t, 0, offset)
			r.Topics[0].Partitions[0].LeaderEpoch = epoch
			s.do(fmt.Sprintf("commit %d, epoch %d", offset, epoch), 8, r)
			s.do(fmt.Sprintf("committed %d, epoch %d", offset, epoch), 8, fetchOffsets(m.group))
		}
	}
	for _, generation := range []int32{math.MinInt32, -2, 0, math.MaxInt32} {
		r := m.commitRequest(t, 0, 1)
		r.Generation = generation
		s.do(fmt.Sprint("generation ", generation), 8, r)
	}
	for _, offset := range []int64{math.MinInt64, -3, math.MaxInt64, 7, 6} {
		r := kmsg.NewPtrDeleteRecordsRequest()
		r.TimeoutMillis = 10_000
		r.Topics = []kmsg.DeleteRecordsRequestTopic{{Topic: t, Partitions: []kmsg.DeleteRecordsRequestTopicPartition{{Partition: 0, Offset: offset}}}}
		s.do(fmt.Sprint("delete to ", offset), 2, r)
		s.listOffsets("start after", t, 0, -2)
	}
	for _, wait := range []int32{0, -1, math.MinInt32, math.MaxInt32} {
		r := kmsg.NewPtrDeleteRecordsRequest()
		r.TimeoutMillis = wait
		r.Topics = []kmsg.DeleteRecordsRequestTopic{{Topic: t, Partitions: []kmsg.DeleteRecordsRequestTopicPartition{{Partition: 0, Offset: 6}}}}
		s.do(fmt.Sprint("delete within ", wait), 2, r)
	}
}
