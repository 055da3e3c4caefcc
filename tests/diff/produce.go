package main

import (
	"fmt"
	"math"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// produceScenarios: Produce, InitProducerId, DescribeProducers and what they leave in the log.
func produceScenarios() []scenario {
	out := forVersions("produce", 0, produce)
	out = append(out, forVersions("produce-bad-batches", 0, produceBadBatches)...)
	out = append(out, forVersions("produce-sequences", 0, produceSequences)...)
	out = append(out, forVersions("produce-halves", 0, produceHalves)...)
	out = append(out, forVersions("init-producer-id", 22, initProducerID)...)
	out = append(out, forVersions("describe-producers", 61, describeProducers)...)
	for _, kind := range []string{"CreateTime", "LogAppendTime"} {
		for _, target := range []string{"producer", "uncompressed", "gzip", "snappy", "lz4", "zstd"} {
			out = append(out, scenario{fmt.Sprintf("compression/%s/%s", kind, target), func(s *S) { compression(s, kind, target) }})
		}
	}
	return append(out, scenario{"timestamps/CreateTime", timestamps})
}

// topicOf names the topic of a request by its id in the versions that do so.
func topicOf(v int16, name string, id [16]byte) kmsg.ProduceRequestTopic {
	if v >= 13 {
		return kmsg.ProduceRequestTopic{TopicID: id}
	}
	return kmsg.ProduceRequestTopic{Topic: name}
}

func produce(s *S, v int16) {
	t := s.log("t", 3)
	id := s.settle(t)
	s.fill(t, 0, plain(1))
	s.fill(t, 1, plain(1))
	s.fill(t, 2, plain(1))
	type part = kmsg.ProduceRequestTopicPartition
	send := func(label string, acks int16, edit func(*kmsg.ProduceRequest), parts ...part) {
		r := kmsg.NewPtrProduceRequest()
		r.Acks, r.TimeoutMillis = acks, 10_000
		row := topicOf(v, t, id)
		row.Partitions = parts
		r.Topics = []kmsg.ProduceRequestTopic{row}
		if edit != nil {
			edit(r)
		}
		s.do(label, v, r)
	}
	in := func(partition int32, b batch) part { return part{Partition: partition, Records: b.encode()} }
	send("one", -1, nil, in(0, plain(1)))
	send("three partitions", -1, nil, in(2, plain(2)), in(0, plain(1)), in(1, plain(3)))
	send("leader only", 1, nil, in(0, plain(1)))
	for _, acks := range []int16{2, -2, 3, 32767} {
		send("acks", acks, nil, in(0, plain(1)))
	}
	s.oneWay("no acks", v, t, id)
	send("no topics", -1, func(r *kmsg.ProduceRequest) { r.Topics = nil })
	send("no partitions", -1, nil)
	send("no time", -1, func(r *kmsg.ProduceRequest) { r.TimeoutMillis = 0 }, in(0, plain(1)))
	send("negative time", -1, func(r *kmsg.ProduceRequest) { r.TimeoutMillis = -1 }, in(0, plain(1)))
	send("unknown partition", -1, nil, in(0, plain(1)), in(3, plain(1)), in(-1, plain(1)))
	send("missing topic", -1, func(r *kmsg.ProduceRequest) {
		r.Topics[0].Topic, r.Topics[0].TopicID = s.named("missing"), [16]byte{7}
	}, in(0, plain(1)))
	if v >= 13 {
		send("zero id", -1, func(r *kmsg.ProduceRequest) { r.Topics[0].TopicID = [16]byte{} }, in(0, plain(1)))
	} else {
		for _, name := range badNames {
			send("bad name", -1, func(r *kmsg.ProduceRequest) { r.Topics[0].Topic = name }, in(0, plain(1)))
		}
		send("internal topic", -1, func(r *kmsg.ProduceRequest) { r.Topics[0].Topic = "__consumer_offsets" }, in(0, plain(1)))
	}
	if v == served[0].high {
		s.nullRecords(v, t, id)
	}
	send("empty records", -1, nil, part{Partition: 0, Records: []byte{}})
	send("transactional id and plain records", -1, func(r *kmsg.ProduceRequest) { r.TransactionID = pointer("tx") }, in(0, plain(1)))
	for p := range int32(3) {
		s.do("stored", 11, fetchOf(t, p, 0))
	}
	send("a partition twice", -1, nil, in(0, plain(1)), in(0, plain(2)))
	send("a topic twice", -1, func(r *kmsg.ProduceRequest) { r.Topics = append(r.Topics, r.Topics[0]) }, in(1, plain(1)))
	send("a topic twice, other partitions", -1, func(r *kmsg.ProduceRequest) {
		more := r.Topics[0]
		more.Partitions = []part{in(2, plain(3)), in(1, plain(1)), in(7, plain(1))}
		r.Topics = append(r.Topics, more)
	}, in(1, plain(4)), in(0, plain(1)), in(7, plain(1)))
	for p := range int32(3) {
		s.do("what is named twice is stored once", 11, fetchOf(t, p, 0))
	}
}

// nullRecords: Kafka never answers it.
func (s *S) nullRecords(v int16, t string, id [16]byte) {
	r := kmsg.NewPtrProduceRequest()
	r.Acks, r.TimeoutMillis = -1, 1000
	row := topicOf(v, t, id)
	row.Partitions = []kmsg.ProduceRequestTopicPartition{{Partition: 0}}
	r.Topics = []kmsg.ProduceRequestTopic{row}
	p := s.start(options{on: "null"}, "null records", v, r)
	p.neverFromKafka()
	p.get()
}

// oneWay sends a request that has no answer, and another one behind it that has.
func (s *S) oneWay(label string, v int16, t string, id [16]byte) {
	r := kmsg.NewPtrProduceRequest()
	r.Acks, r.TimeoutMillis, r.Version = 0, 10_000, v
	row := topicOf(v, t, id)
	row.Partitions = []kmsg.ProduceRequestTopicPartition{{Partition: 0, Records: plain(2).encode()}}
	r.Topics = []kmsg.ProduceRequestTopic{row}
	if _, err := s.connection("").send(r); err != nil {
		s.abort("write: %v", err)
	}
	s.do(label+", the request after it", 12, topicsOf(t))
	// an error closes the connection, for there is no other way to tell
	r.Topics[0].Partitions[0].Partition = 9
	if _, err := s.connection("").send(r); err != nil {
		s.abort("write: %v", err)
	}
	p := s.start(options{}, label+" and an error, the request after it", 12, topicsOf(t))
	p.get()
}

// badBatches are batches that are not as they should be, and some that nearly are not.
func badBatches() map[string]batch {
	one := func(edit func(*batch)) batch {
		b := plain(2)
		edit(&b)
		return b
	}
	out := map[string]batch{
		"crc":                one(func(b *batch) { b.bytes = func(x []byte) []byte { x[20]++; return x } }),
		"body after the crc": one(func(b *batch) { b.bytes = func(x []byte) []byte { x[len(x)-1]++; return x } }),
		"cut":                one(func(b *batch) { b.bytes = func(x []byte) []byte { return x[:len(x)-3] } }),
		"cut in the header":  one(func(b *batch) { b.bytes = func(x []byte) []byte { return x[:40] } }),
		"cut in the length":  one(func(b *batch) { b.bytes = func(x []byte) []byte { return x[:10] } }),
		"one byte":           one(func(b *batch) { b.bytes = func(x []byte) []byte { return x[:1] } }),
		"bytes behind":       one(func(b *batch) { b.bytes = func(x []byte) []byte { return append(x, 1, 2, 3) } }),
		"a batch behind":     one(func(b *batch) { b.bytes = func(x []byte) []byte { return append(x, plain(1).encode()...) } }),
		"records too short":  one(func(b *batch) { b.inner = func(x []byte) []byte { return x[:len(x)-2] } }),
		"records too long":   one(func(b *batch) { b.inner = func(x []byte) []byte { return append(x, 0, 0) } }),
		"null key":           one(func(b *batch) { b.records[1].key = nil }),
		"empty key":          one(func(b *batch) { b.records[1].key = []byte{} }),
		"null value":         one(func(b *batch) { b.records[1].value = nil }),
		"headers": one(func(b *batch) {
			b.records[0].headers = []kmsg.Header{{Key: "a", Value: []byte("b")}, {Key: "", Value: nil}, {Key: "a"}}
		}),
		"base offset":             one(func(b *batch) { b.base = 5 }),
		"negative base offset":    one(func(b *batch) { b.base = -5 }),
		"control batch":           one(func(b *batch) { b.extra = 0x20 }),
		"transactional":           one(func(b *batch) { b.extra = 0x10 }),
		"transactional with id":   one(func(b *batch) { b.extra, b.idem, b.producer = 0x10, true, 77 }),
		"delete horizon":          one(func(b *batch) { b.extra = 0x40 }),
		"unused attributes":       one(func(b *batch) { b.extra = 0x180 }),
		"log append time":         one(func(b *batch) { b.extra = 0x8 }),
		"unknown codec":           one(func(b *batch) { b.extra = 5 }),
		"unknown codec 7":         one(func(b *batch) { b.extra = 7 }),
		"gzip that is none":       one(func(b *batch) { b.extra = 1 }),
		"snappy that is none":     one(func(b *batch) { b.extra = 2 }),
		"lz4 that is none":        one(func(b *batch) { b.extra = 3 }),
		"zstd that is none":       one(func(b *batch) { b.extra = 4 }),
		"zstd":                    one(func(b *batch) { b.codec = kgo.CodecZstd }),
		"leader epoch set":        one(func(b *batch) { b.header = func(h *kmsg.RecordBatch) { h.PartitionLeaderEpoch = 99 } }),
		"no records":              one(func(b *batch) { b.records = nil }),
		"id without sequence":     one(func(b *batch) { b.idem, b.producer, b.sequence = true, 77, -1 }),
		"id without epoch":        one(func(b *batch) { b.idem, b.producer, b.epoch = true, 77, -1 }),
		"sequence without id":     one(func(b *batch) { b.idem, b.producer, b.sequence = true, -1, 4 }),
		"negative id":             one(func(b *batch) { b.idem, b.producer = true, -7 }),
		"max timestamp too small": one(func(b *batch) { b.maximum = clock - 5 }),
		"max timestamp too big":   one(func(b *batch) { b.maximum = clock + 5000 }),
		"no timestamp":            one(func(b *batch) { b.first = -1; b.maximum = -1; b.records[1].delta = 0 }),
		"negative timestamp":      one(func(b *batch) { b.first = -5000 }),
		"time zero":               one(func(b *batch) { b.first = 0 }),
		"far future":              one(func(b *batch) { b.first = 9_000_000_000_000 }),
		"end of time":             one(func(b *batch) { b.first = math.MaxInt64 - 1; b.records[1].delta = 0 }),
		"timestamp overflow":      one(func(b *batch) { b.first = math.MaxInt64; b.records[1].delta = 5 }),
		"timestamps backwards":    one(func(b *batch) { b.records[1].delta = -500 }),
		"large":                   one(func(b *batch) { b.records[0].value = make([]byte, 2_000_000) }),
		"large, compressed":       one(func(b *batch) { b.records[0].value = make([]byte, 2_000_000); b.codec = kgo.CodecGzip }),
		"large, at the limit":     one(func(b *batch) { b.records = []record{{value: make([]byte, 1048588-61-13)}} }),
	}
	for _, magic := range []int8{0, 1, 3, -1} {
		out[fmt.Sprintf("magic %d", magic)] = one(func(b *batch) { b.bytes = func(x []byte) []byte { x[16] = byte(magic); return x } })
	}
	for _, n := range []int32{0, 1, 3, -1, math.MaxInt32, math.MinInt32} {
		out[fmt.Sprintf("count %d", n)] = one(func(b *batch) { b.header = func(h *kmsg.RecordBatch) { h.NumRecords = n } })
		out[fmt.Sprintf("last delta %d", n)] = one(func(b *batch) { b.header = func(h *kmsg.RecordBatch) { h.LastOffsetDelta = n } })
		out[fmt.Sprintf("both %d", n)] = one(func(b *batch) {
			b.header = func(h *kmsg.RecordBatch) { h.NumRecords, h.LastOffsetDelta = n, n-1 }
		})
	}
	for _, n := range []int32{0, 13, 48, 49, 1000, math.MaxInt32, -1} {
		out[fmt.Sprintf("length %d", n)] = one(func(b *batch) { b.header = func(h *kmsg.RecordBatch) { h.Length = n } })
	}
	out["inner deltas"] = one(func(b *batch) {
		b.inner = func(x []byte) []byte { // the second record's offset delta is the fourth byte after its length
			at := int(x[0])/2 + 1
			x[at+3+timestampSize(x[at+2:])-1] = 10
			return x
		}
	})
	return out
}

// timestampSize is the size of the varint at the start.
func timestampSize(x []byte) int {
	n := 1
	for x[n-1]&0x80 != 0 {
		n++
	}
	return n
}

func produceBadBatches(s *S, v int16) {
	bad := badBatches()
	for _, kind := range []string{"delete", "compact"} {
		t := s.log(kind, 2, "cleanup.policy", kind)
		id := s.settle(t)
		s.fill(t, 0, plain(1))
		s.fill(t, 1, plain(1))
		for _, name := range sortedKeys(bad) {
			r := kmsg.NewPtrProduceRequest()
			r.Acks, r.TimeoutMillis = -1, 10_000
			row := topicOf(v, t, id)
			partition := int32(0)
			if name == "inner deltas" { // accepted by Kafka: apart, for the offsets of what follows
				partition = 1
			}
			row.Partitions = []kmsg.ProduceRequestTopicPartition{{Partition: partition, Records: bad[name].encode()}}
			r.Topics = []kmsg.ProduceRequestTopic{row}
			s.do(kind+": "+name, v, r)
			if v != served[0].high {
				continue
			}
			s.listOffsets(kind+": end after "+name, t, 0, -1)
		}
		s.fetchAll(kind+": stored", t, 0, 0)
	}
}

// newProducer is a producer id with epoch 0.
func (s *S) newProducer() int64 {
	init := quiet[*kmsg.InitProducerIDResponse](s, 4, kmsg.NewPtrInitProducerIDRequest())
	if init.ErrorCode != 0 {
		s.abort("no producer id: error %d", init.ErrorCode)
	}
	s.symbols.of("producer", fmt.Sprint(init.ProducerID))
	return init.ProducerID
}

func produceSequences(s *S, v int16) {
	t := s.log("t", 2)
	id := s.settle(t)
	s.fill(t, 0, plain(1))
	producer := s.newProducer()
	send := func(label string, partition, sequence int32, epoch int16, n int, edits ...func(*batch)) {
		b := plain(n)
		b.idem, b.producer, b.epoch, b.sequence = true, producer, epoch, sequence
		for _, edit := range edits {
			edit(&b)
		}
		r := kmsg.NewPtrProduceRequest()
		r.Acks, r.TimeoutMillis = -1, 10_000
		row := topicOf(v, t, id)
		row.Partitions = []kmsg.ProduceRequestTopicPartition{{Partition: partition, Records: b.encode()}}
		r.Topics = []kmsg.ProduceRequestTopic{row}
		s.do(label, v, r)
	}
	for i := range int32(7) {
		send("in order", 0, i*2, 0, 2)
	}
	for i := range int32(7) {
		send("duplicate", 0, i*2, 0, 2)
	}
	send("gap", 0, 15, 0, 1)
	send("gap far", 0, 1000, 0, 1)
	send("overlap", 0, 13, 0, 3)
	send("part of a duplicate", 0, 12, 0, 1)
	send("duplicate and more", 0, 12, 0, 4)
	send("older epoch", 0, 14, -1, 1)
	send("newer epoch, not from zero", 0, 14, 1, 1)
	send("newer epoch", 0, 0, 1, 1)
	send("old epoch", 0, 14, 0, 1)
	send("newer epoch goes on", 0, 1, 1, 3)
	send("duplicate of the newer epoch", 0, 0, 1, 1)
	send("much newer epoch", 0, 0, 30000, 1)
	send("other partition, not from zero", 1, 5, 0, 1)
	send("other partition goes on", 1, 6, 0, 1)
	send("other partition, gap", 1, 8, 0, 1)
	send("other partition, duplicate", 1, 5, 0, 1)
	stranger := func(b *batch) { b.producer = 4_000_000_000 }
	send("stranger, near the end of sequences", 1, math.MaxInt32-1, 3, 2, stranger)
	send("stranger, wrapped", 1, 0, 3, 2, stranger)
	other := func(b *batch) { b.producer = 4_000_000_001 }
	send("stranger, across the end of sequences", 1, math.MaxInt32-1, 0, 4, other)
	send("stranger, behind the wrap", 1, 2, 0, 1, other)
	send("stranger, duplicate across the end", 1, math.MaxInt32-1, 0, 4, other)
	s.do("stored", 11, fetchOf(t, 0, 0))
	s.do("stored", 11, fetchOf(t, 1, 0))
	r := kmsg.NewPtrDescribeProducersRequest()
	r.Topics = []kmsg.DescribeProducersRequestTopic{{Topic: t, Partitions: []int32{0, 1}}}
	s.do("producers", 0, r)
}

// produceHalves: a batch is too large, and its producer, which has sent the next one already, sends its halves with the sequences that
// they had in it, as clients do at MESSAGE_TOO_LARGE.
func produceHalves(s *S, v int16) {
	t := s.log("t", 1, "max.message.bytes", "1000")
	id := s.settle(t)
	s.fill(t, 0, plain(1))
	producer := s.newProducer()
	records := some(10)
	for i := range records {
		records[i].value, records[i].delta = fmt.Appendf(nil, "%0150d", i), 0
	}
	send := func(label string, from, to int) {
		b := batch{records: records[from:to], first: clock, idem: true, producer: producer, sequence: int32(from)}
		r := kmsg.NewPtrProduceRequest()
		r.Acks, r.TimeoutMillis = -1, 10_000
		row := topicOf(v, t, id)
		row.Partitions = []kmsg.ProduceRequestTopicPartition{{Partition: 0, Records: b.encode()}}
		r.Topics = []kmsg.ProduceRequestTopic{row}
		s.do(label, v, r)
	}
	send("before", 0, 1)
	send("too large", 1, 9)
	send("the next one", 9, 10)
	s.listOffsets("end, nothing taken", t, 0, -1)
	send("first half", 1, 5)
	send("second half", 5, 9)
	send("the next one again", 9, 10)
	send("first half twice", 1, 5)
	send("too large still", 1, 9)
	s.listOffsets("end", t, 0, -1)
	s.do("stored", 11, fetchOf(t, 0, 0))
	r := kmsg.NewPtrDescribeProducersRequest()
	r.Topics = []kmsg.DescribeProducersRequestTopic{{Topic: t, Partitions: []int32{0}}}
	s.do("producers", 0, r)
}

func initProducerID(s *S, v int16) {
	ask := func(label string, edit func(*kmsg.InitProducerIDRequest)) {
		r := kmsg.NewPtrInitProducerIDRequest()
		r.TransactionTimeoutMillis = 60_000
		if edit != nil {
			edit(r)
		}
		s.do(label, v, r)
	}
	ask("new", nil)
	ask("another", nil)
	ask("no time", func(r *kmsg.InitProducerIDRequest) { r.TransactionTimeoutMillis = 0 })
	ask("negative time", func(r *kmsg.InitProducerIDRequest) { r.TransactionTimeoutMillis = -1 })
	ask("long time", func(r *kmsg.InitProducerIDRequest) { r.TransactionTimeoutMillis = math.MaxInt32 })
	ask("empty transactional id", func(r *kmsg.InitProducerIDRequest) { r.TransactionalID = pointer("") })
	if v >= 3 {
		ask("with an id", func(r *kmsg.InitProducerIDRequest) { r.ProducerID, r.ProducerEpoch = 5, 3 })
		ask("with an id only", func(r *kmsg.InitProducerIDRequest) { r.ProducerID, r.ProducerEpoch = 5, -1 })
		ask("with an epoch only", func(r *kmsg.InitProducerIDRequest) { r.ProducerID, r.ProducerEpoch = -1, 3 })
		ask("with the last epoch", func(r *kmsg.InitProducerIDRequest) { r.ProducerID, r.ProducerEpoch = 5, 32767 })
		ask("with negative ones", func(r *kmsg.InitProducerIDRequest) { r.ProducerID, r.ProducerEpoch = -7, -7 })
	}
	ask("transactional id", func(r *kmsg.InitProducerIDRequest) { r.TransactionalID = pointer(s.named("tx")) })
}

func describeProducers(s *S, v int16) {
	t := s.log("t", 2)
	b := plain(3)
	b.idem, b.producer, b.epoch, b.sequence = true, 5_000_000_000, 2, 10
	s.fill(t, 0, plain(1), b)
	s.fill(t, 1, plain(1))
	ask := func(label, topic string, partitions ...int32) {
		r := kmsg.NewPtrDescribeProducersRequest()
		r.Topics = []kmsg.DescribeProducersRequestTopic{{Topic: topic, Partitions: partitions}}
		s.do(label, v, r)
	}
	ask("both", t, 0, 1)
	ask("none", t)
	ask("unknown partition", t, 0, 9, -1)
	ask("missing", s.named("missing"), 0)
	for _, name := range badNames {
		ask("bad name", name, 0)
	}
	s.do("no topics", v, kmsg.NewPtrDescribeProducersRequest())
}

// compression stores batches of every codec in a topic that may recompress, and reads them back: offsets, timestamps,
// attributes, where each timestamp is found.
func compression(s *S, kind, target string) {
	t := s.log("t", 1, "message.timestamp.type", kind, "compression.type", target)
	s.fill(t, 0, plain(1))
	for codec := range kgo.CompressionCodecType(5) {
		for _, n := range []int{1, 3, 50} {
			b := plain(n)
			b.codec, b.first = codec, clock+int64(codec)*1_000_000
			if n > 1 {
				b.records[n/2].delta = 700 // the newest is in the middle
			}
			sleep(3) // no two batches with one time of arrival
			b.records[0].headers = []kmsg.Header{{Key: "h", Value: []byte("v")}, {Key: "n"}}
			label := fmt.Sprintf("codec %d, %d records", codec, n)
			s.do(label, 9, produceOf(-1, t, 0, b.encode()))
			p := init1(s, codec, n)
			s.do(label+", idempotent", 9, produceOf(-1, t, 0, p.encode()))
		}
	}
	s.do("stored", 11, fetchOf(t, 0, 0))
	s.do("stored", 11, fetchOf(t, 0, 7))
	if kind == "CreateTime" {
		for codec := range int64(5) {
			for _, delta := range []int64{-1, 0, 1, 2, 699, 700, 701} {
				s.listOffsets("at", t, 0, clock+codec*1_000_000+delta)
			}
		}
	}
	for _, special := range []int64{-1, -2, -3, -4, 0, 4_000_000_000_000} {
		s.listOffsets("special", t, 0, special)
	}
}

// init1 is a batch of a producer that has not written here before.
func init1(s *S, codec kgo.CompressionCodecType, n int) batch {
	b := plain(n)
	b.codec, b.idem, b.producer, b.epoch, b.sequence = codec, true, 6_000_000_000+int64(codec)*100+int64(n), 1, 4
	b.first = clock - 9_000_000
	return b
}

// timestamps: the bounds of what a topic takes, and the look-up of times over several batches.
func timestamps(s *S) {
	bounded := s.log("bounded", 1, "message.timestamp.before.max.ms", "1000000", "message.timestamp.after.max.ms", "1000000")
	s.fill(s.log("warm", 1), 0, plain(1))
	now := s.now()
	for _, distance := range []int64{0, -900_000, -1_100_000, 900_000, 1_100_000, -9_000_000_000, 9_000_000_000} {
		b := plain(2)
		b.first = now + distance
		label := fmt.Sprintf("distance %d", distance)
		for {
			answer := s.start(options{}, label, 9, produceOf(-1, bounded, 0, b.encode())).receive(true).(*kmsg.ProduceResponse)
			if code := answer.Topics[0].Partitions[0].ErrorCode; code != 3 && code != 6 {
				break
			}
		}
		s.do(label, 9, produceOf(-1, bounded, 0, b.encode()))
	}
	t := s.log("t", 1)
	for _, first := range []int64{clock + 100, clock + 50, clock + 200, clock + 200, clock + 20} {
		b := plain(3)
		b.first = first
		b.records[1].delta = 30
		b.records[2].delta = 10
		s.fill(t, 0, b)
	}
	for delta := int64(0); delta <= 240; delta += 5 {
		s.listOffsets(fmt.Sprintf("at +%d", delta), t, 0, clock+delta)
	}
	s.listOffsets("max", t, 0, -3)
}
