package main

import (
	"fmt"
	"math/rand/v2"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// generatedScenarios walk at random, each from its own seed: both brokers get the same requests as long as they answer alike.
func generatedScenarios() []scenario {
	var out []scenario
	for seed := range uint64(8) {
		out = append(out, scenario{fmt.Sprintf("generated-log/seed%d", seed), func(s *S) { generatedLog(s, seed) }})
		out = append(out, scenario{fmt.Sprintf("generated-group/seed%d", seed), func(s *S) { generatedGroup(s, seed) }})
		out = append(out, scenario{fmt.Sprintf("generated-topics/seed%d", seed), func(s *S) { generatedTopics(s, seed) }})
	}
	return out
}

const generatedSteps = 120

type generator struct {
	*rand.Rand
	s *S
}

func generate(s *S, seed uint64) generator { return generator{rand.New(rand.NewPCG(seed, 0x5eed)), s} }

// version of an API, between the lowest and the highest that both serve.
func (g generator) version(key int16) int16 {
	span := served[key]
	return span.low + int16(g.IntN(int(span.high-span.low)+1))
}

func pick[T any](g generator, from ...T) T { return from[g.IntN(len(from))] }

type idempotent struct {
	id   int64
	next [3]int32
}

func generatedLog(s *S, seed uint64) {
	g := generate(s, seed)
	topics := []string{s.log("a", 3), s.log("b", 3, "cleanup.policy", "compact"), s.log("c", 3, "compression.type", "lz4", "max.message.bytes", "2000")}
	ids := map[string][16]byte{}
	for _, t := range topics {
		ids[t] = s.settle(t)
		for p := range int32(3) {
			s.fill(t, p, plain(1))
		}
	}
	producers := []*idempotent{{id: 7_000_000_000}, {id: 7_000_000_001}}
	for i := range generatedSteps {
		t, p := pick(g, topics...), int32(g.IntN(3))
		label := fmt.Sprint("step ", i)
		switch g.IntN(8) {
		case 0, 1, 2:
			g.produce(label, t, ids[t], p, producers)
		case 3:
			s.do(label, g.version(2), listOf(t, p, pick[int64](g, -1, -2, clock, clock+1, clock+50, clock+1000, clock+5000)))
		case 4, 5:
			v := g.version(1)
			r := fetchOf(t, p, int64(g.IntN(40)))
			r.MaxWaitMillis, r.IsolationLevel = 0, int8(g.IntN(2))
			r.MaxBytes = pick[int32](g, 1, 300, 1000, 1<<20)
			r.Topics[0].Partitions[0].PartitionMaxBytes = pick[int32](g, 1, 300, 1000, 1<<20)
			s.start(options{edit: wholeBatches}, label, v, byID(v, r, ids)).get()
		case 6:
			r := kmsg.NewPtrDeleteRecordsRequest()
			r.TimeoutMillis = 10_000
			r.Topics = []kmsg.DeleteRecordsRequestTopic{{Topic: t, Partitions: []kmsg.DeleteRecordsRequestTopicPartition{{Partition: p, Offset: int64(g.IntN(12)) - 1}}}}
			if r.Topics[0].Partitions[0].Offset == -1 && g.IntN(3) > 0 {
				r.Topics[0].Partitions[0].Offset = 2
			}
			s.do(label, g.version(21), r)
		case 7:
			r := kmsg.NewPtrDescribeProducersRequest()
			r.Topics = []kmsg.DescribeProducersRequestTopic{{Topic: t, Partitions: []int32{p}}}
			s.do(label, g.version(61), r)
		}
	}
	for _, t := range topics {
		for p := range int32(3) {
			s.listOffsets("end", t, p, -1)
			s.listOffsets("start", t, p, -2)
		}
	}
}

func (g generator) produce(label, topic string, id [16]byte, partition int32, producers []*idempotent) {
	b := plain(1 + g.IntN(4))
	b.codec = pick(g, kgo.CodecNone, kgo.CodecGzip, kgo.CodecSnappy, kgo.CodecLz4)
	b.first = clock + int64(g.IntN(6000))
	for i := range b.records {
		if g.IntN(12) == 0 {
			b.records[i].key = nil
		}
		if g.IntN(6) == 0 {
			b.records[i].value = nil
		}
		if g.IntN(15) == 0 {
			b.records[i].value = make([]byte, g.IntN(3000))
		}
		b.records[i].delta = int64(g.IntN(100))
	}
	b.records[0].delta = 0 // the base timestamp is the first record's, as every client has it
	var by *idempotent
	if g.IntN(2) == 0 {
		by = pick(g, producers...)
		b.idem, b.producer, b.sequence = true, by.id, by.next[partition]
		switch g.IntN(6) {
		case 0:
			b.sequence = max(0, b.sequence-int32(g.IntN(6)))
		case 1:
			b.sequence += int32(g.IntN(3))
		}
	}
	v := max(g.version(0), 3)
	r := kmsg.NewPtrProduceRequest()
	r.Acks, r.TimeoutMillis = pick[int16](g, -1, 1), 10_000
	row := topicOf(v, topic, id)
	row.Partitions = []kmsg.ProduceRequestTopicPartition{{Partition: partition, Records: b.encode()}}
	r.Topics = []kmsg.ProduceRequestTopic{row}
	answer := call[*kmsg.ProduceResponse](g.s, label, v, r)
	if by != nil && answer.Topics[0].Partitions[0].ErrorCode == 0 {
		by.next[partition] = max(by.next[partition], b.sequence+int32(len(b.records)))
	}
}

// generatedGroup: members come and go; every request has now and then a wrong member, generation or instance.
func generatedGroup(s *S, seed uint64) {
	g := generate(s, seed)
	t := s.create("t", 3)
	m := s.member(s.named("g"), "m", 5)
	m.metadata = t
	if g.IntN(2) == 0 {
		m.instance = pointer("instance")
	}
	wrong := func() member {
		copied := *m
		switch g.IntN(10) {
		case 0:
			copied.id = pick(g, "", "nobody")
		case 1:
			copied.generation += pick[int32](g, -1, 1)
		case 2:
			copied.instance = pointer("other")
		}
		return copied
	}
	for i := range generatedSteps {
		label := fmt.Sprint("step ", i)
		w := wrong()
		switch g.IntN(9) {
		case 0, 1:
			m.version = 5 + int16(g.IntN(5))
			if g.IntN(4) == 0 {
				m.id = ""
			}
			m.join(label)
		case 2:
			w.sync(label)
		case 3:
			w.beat(label)
		case 4:
			v := max(g.version(8), 7)
			s.do(label, v, w.commitRequest(t, int32(g.IntN(4)), int64(g.IntN(100))))
		case 5:
			v := g.version(9)
			r := fetchOffsets(m.group)
			if v < 8 || g.IntN(2) == 0 {
				r.Topics = []kmsg.OffsetFetchRequestTopic{{Topic: t, Partitions: []int32{0, 2, 3}}}
				r.Groups[0].Topics = []kmsg.OffsetFetchRequestGroupTopic{{Topic: t, Partitions: []int32{0, 2, 3}}}
			}
			s.do(label, v, r)
		case 6:
			s.describeGroup(label, m.group)
		case 7:
			if g.IntN(3) == 0 {
				w.leave(label)
			}
		case 8:
			r := kmsg.NewPtrOffsetDeleteRequest()
			r.Group = m.group
			r.Topics = []kmsg.OffsetDeleteRequestTopic{{Topic: t, Partitions: []kmsg.OffsetDeleteRequestTopicPartition{{Partition: int32(g.IntN(4))}}}}
			s.do(label, 0, r)
		}
	}
}

// generatedTopics: topics with names, sizes, assignments and configs of all kinds, checked only.
func generatedTopics(s *S, seed uint64) {
	g := generate(s, seed)
	exists := s.create("exists", 2)
	names := sortedKeys(topicConfigs)
	value := func(name string) *string {
		if g.IntN(12) == 0 {
			return nil
		}
		if g.IntN(2) == 0 {
			return pointer(pick(g, topicConfigs[name]...))
		}
		return pointer(pick(g, commonValues...))
	}
	for i := range generatedSteps {
		label := fmt.Sprint("step ", i)
		switch g.IntN(3) {
		case 0:
			r := kmsg.NewPtrCreateTopicsRequest()
			r.TimeoutMillis, r.ValidateOnly = 10_000, true
			row := topic(pick(g, exists, s.named("new"), s.named("a.b_c"), pick(g, badNames...)), pick[int32](g, -2, -1, 0, 1, 3), pick[int16](g, -2, -1, 0, 1, 9))
			if g.IntN(4) == 0 {
				assigned([]int32{s.broker.node}, []int32{pick(g, s.broker.node, 77)})(&row)
			}
			if g.IntN(4) > 0 {
				name := pick(g, names...)
				configured(name, value(name))(&row)
			}
			r.Topics = []newTopic{row}
			s.start(options{edit: onlyConfig("none")}, label, g.version(19), r).get()
		case 1:
			// One that may be bad among good ones: of several bad ones Kafka names the first of a hash map.
			r := change(2, exists, op("flush.ms", setOp, pointer("100")))
			name := pick(g, names...)
			if name != "flush.ms" {
				r.Resources[0].Configs = append(r.Resources[0].Configs, op(name, pick(g, setOp, setOp, deleteOp, appendOp, subtractOp), value(name)))
			}
			if g.IntN(10) == 0 {
				r = change(2, s.named("missing"), op("flush.ms", setOp, pointer("100")))
			}
			r.ValidateOnly = true
			s.do(label, g.version(44), r)
		case 2:
			r := kmsg.NewPtrCreatePartitionsRequest()
			r.TimeoutMillis, r.ValidateOnly = 10_000, true
			row := kmsg.CreatePartitionsRequestTopic{Topic: pick(g, exists, exists, s.named("missing"), ""), Count: pick[int32](g, -1, 0, 1, 2, 3, 4)}
			if g.IntN(3) == 0 {
				row.Assignment = []kmsg.CreatePartitionsRequestTopicAssignment{{Replicas: []int32{pick(g, s.broker.node, 77)}}}
			}
			r.Topics = []kmsg.CreatePartitionsRequestTopic{row}
			s.do(label, g.version(37), r)
		}
	}
}
