package main

import (
	"fmt"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// lifecycleScenarios: what a change of a topic does to those who use it.
func lifecycleScenarios() []scenario {
	var out []scenario
	for _, v := range []int16{11, 13, 16} {
		out = append(out, scenario{fmt.Sprintf("deleted-topic/fetch-v%d", v), func(s *S) { deletedTopic(s, v) }})
	}
	return append(out, scenario{"config-effects/all", configEffects}, scenario{"client-metrics/configs", clientMetrics}, scenario{"partitions-added/all", partitionsAdded})
}

// remove deletes a topic and waits until nobody sees it.
func (s *S) remove(topic string) {
	r := kmsg.NewPtrDeleteTopicsRequest()
	r.TimeoutMillis = 10_000
	r.Topics = []kmsg.DeleteTopicsRequestTopic{{Topic: &topic}}
	quiet[*kmsg.DeleteTopicsResponse](s, 6, r)
	for range tries {
		ask := topicsOf(topic)
		ask.AllowAutoTopicCreation = false
		answer := quiet[*kmsg.MetadataResponse](s, 12, ask)
		p := quiet[*kmsg.ProduceResponse](s, 9, produceOf(-1, topic, 0, plain(1).encode()))
		// Kafka's partition may still answer for a moment when Metadata does not name it any more.
		end := quiet[*kmsg.ListOffsetsResponse](s, 7, listOf(topic, 0, -1))
		if answer.Topics[0].ErrorCode == 3 && p.Topics[0].Partitions[0].ErrorCode == 3 && end.Topics[0].Partitions[0].ErrorCode == 3 {
			return
		}
		sleep(20)
	}
	s.abort("%s does not go", topic)
}

func deletedTopic(s *S, v int16) {
	t := s.log("t", 2)
	old := s.settle(t)
	s.fill(t, 0, plain(5))
	s.fill(t, 1, plain(1))
	m := s.member(s.named("g"), "m", 5)
	s.do("commit", 8, m.commitRequest(t, 0, 3))
	ids := map[string][16]byte{t: old}
	fetch := func(label string, session, epoch int32, topics ...kmsg.FetchRequestTopic) int32 {
		r := fetchOf(t, 0, 0)
		r.MaxWaitMillis, r.SessionID, r.SessionEpoch, r.Topics = 0, session, epoch, topics
		return get[*kmsg.FetchResponse](s.start(options{on: "fetch"}, label, v, byID(v, r, ids))).SessionID
	}
	session := fetch("session", 0, 0, fetchTopic(t, fetchPartition(0, 0)))
	s.remove(t)
	look := func(label string) {
		fetch(label+": fetch", 0, -1, fetchTopic(t, fetchPartition(0, 0)))
		s.do(label+": list offsets", 7, listOf(t, 0, -1))
		p := produceOf(-1, t, 0, plain(1).encode())
		s.do(label+": produce by name", 12, p)
		p.Topics[0].TopicID = old
		s.do(label+": produce by the old id", 13, p)
		for _, version := range []int16{8, 10} {
			s.do(label+": commit", version, m.commitRequest(t, 1, 7))
		}
		byOld := m.commitRequest("", 1, 8)
		byOld.Topics[0].TopicID = old
		s.do(label+": commit by the old id", 10, byOld)
		offsets := fetchOffsets(m.group)
		offsets.Groups[0].Topics = []kmsg.OffsetFetchRequestGroupTopic{{TopicID: old, Partitions: []int32{0, 1}}}
		s.do(label+": offsets by the old id", 10, offsets)
		s.do(label+": configs", 4, describe(2, t, "retention.ms"))
		r := kmsg.NewPtrMetadataRequest()
		r.Topics = []kmsg.MetadataRequestTopic{{TopicID: old}}
		s.do(label+": metadata by the old id", 12, r)
	}
	look("gone")
	fetch("gone: session", session, 1)
	sleep(3000) // the coordinator forgets the offsets a little later
	for _, version := range []int16{8, 10} {
		s.do("gone: offsets", version, fetchOffsets(m.group))
	}
	s.log("t", 2)
	id := s.settle(t)
	s.fill(t, 0, plain(2))
	look("made again")
	for _, version := range []int16{8, 10} {
		s.do("made again: offsets", version, fetchOffsets(m.group))
	}
	fetch("made again: session", session, 2)
	ids[t] = id
	fetch("made again: fetch by the new id", 0, -1, fetchTopic(t, fetchPartition(0, 0)))
	s.listOffsets("made again: end", t, 0, -1)
}

// configEffects: a changed config holds from the next request on.
func configEffects(s *S) {
	// One segment whatever the times: Kafka's fetch answers from one segment at a time.
	t, marker := s.log("t", 1, "segment.ms", "9223372036854775807"), s.create("marker", 1)
	s.fill(t, 0, plain(1))
	send := func(label string, edit func(*batch)) {
		b := plain(2)
		if edit != nil {
			edit(&b)
		}
		s.do(label, 9, produceOf(-1, t, 0, b.encode()))
	}
	large := func(b *batch) { b.records[0].value = make([]byte, 5000) }
	keyless := func(b *batch) { b.records[1].key = nil }
	set := func(name, value string) {
		s.changes(marker, "set "+name+"="+value, 1, change(2, t, op(name, setOp, &value)))
		sleep(500) // the log learns of it a little later
	}
	set("max.message.bytes", "1000")
	send("too large", large)
	send("small enough", nil)
	set("max.message.bytes", "10000")
	send("large", large)
	set("cleanup.policy", "compact")
	send("without a key", keyless)
	set("cleanup.policy", "delete")
	send("without a key again", keyless)
	set("message.timestamp.type", "LogAppendTime")
	sleep(5)
	send("stamped", nil)
	set("compression.type", "zstd")
	send("compressed", nil)
	set("message.timestamp.type", "CreateTime")
	send("not stamped", nil)
	set("compression.type", "uncompressed")
	send("uncompressed", func(b *batch) { b.codec = 1 })
	set("message.timestamp.before.max.ms", "1000000")
	send("too old", nil)
	s.fetchAll("stored", t, 0, 0)
	for _, special := range []int64{-1, -2, -3} {
		s.listOffsets("special", t, 0, special)
	}
}

func clientMetrics(s *S) {
	name := s.named("subscription")
	send := func(label string, ops ...configOp) {
		s.do(label, 1, change(16, name, ops...))
		sleep(500)
		s.do(label+", then", 4, describe(16, name))
	}
	s.do("before", 4, describe(16, name))
	send("interval", op("interval.ms", setOp, pointer("1000")))
	send("short interval", op("interval.ms", setOp, pointer("99")))
	send("long interval", op("interval.ms", setOp, pointer("3600001")))
	send("text interval", op("interval.ms", setOp, pointer("x")))
	send("metrics", op("metrics", setOp, pointer("org.apache.kafka.consumer.")))
	send("match", op("match", setOp, pointer("client_software_name=a.*")))
	send("bad match", op("match", setOp, pointer("nonsense")))
	send("match of nothing known", op("match", setOp, pointer("nonsense=a")))
	send("bad pattern", op("match", setOp, pointer("client_id=(")))
	send("unknown", op("nonsense", setOp, pointer("1")))
	send("append", op("metrics", appendOp, pointer("more.")))
	send("delete", op("metrics", deleteOp, nil), op("match", deleteOp, nil), op("interval.ms", deleteOp, nil))
	s.do("no name", 1, change(16, "", op("interval.ms", setOp, pointer("1000"))))
	s.do("describe no name", 4, describe(16, ""))
}

func partitionsAdded(s *S) {
	t := s.log("t", 1)
	s.fill(t, 0, plain(2))
	grow := kmsg.NewPtrCreatePartitionsRequest()
	grow.TimeoutMillis = 10_000
	grow.Topics = []kmsg.CreatePartitionsRequestTopic{{Topic: t, Count: 3}}
	s.do("grow", 3, grow)
	s.fill(t, 2, plain(1))
	s.fill(t, 1, plain(1))
	s.do("afterwards", 12, topicsOf(t))
	for p := range int32(4) {
		s.listOffsets("end", t, p, -1)
	}
	s.do("fetch the new one", 12, fetchOf(t, 2, 0))
}
