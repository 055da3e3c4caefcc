package main

import (
	"fmt"
	"sort"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

var recordChecks = []check{
	{"franz codec none", false, codec(kgo.NoCompression())},
	{"franz codec gzip", false, codec(kgo.GzipCompression())},
	{"franz codec snappy", false, codec(kgo.SnappyCompression())},
	{"franz codec lz4", false, codec(kgo.Lz4Compression())},
	{"franz codec zstd", true, codec(kgo.ZstdCompression())},
	{"franz acks 0", false, acks(kgo.NoAck())},
	{"franz acks 1", false, acks(kgo.LeaderAck())},
	{"franz acks all", false, acks(kgo.AllISRAcks())},
	{"franz idempotent pipeline", true, idempotentPipeline},
	{"franz large batches", false, largeBatches},
	{"franz message too large", false, messageTooLarge},
	{"franz unknown topic", false, unknownTopic},
	{"franz null key on a compacted topic", false, compactedTopic},
	{"franz seek", true, seek},
	{"franz offsets by time", false, byTime},
	{"franz offset out of range", false, outOfRange},
	{"franz tail without sessions", false, tail(true)},
	{"franz tail with sessions", false, tail(false)},
	{"franz many partitions drain fairly", false, manyPartitions},
}

func (t *T) client(opts ...kgo.Opt) *kgo.Client {
	c, err := kgo.NewClient(append([]kgo.Opt{
		kgo.SeedBrokers(bootstrap), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.FetchMaxWait(time.Second), kgo.MetadataMinAge(50 * time.Millisecond),
	}, opts...)...)
	t.must(err)
	return c
}

func (t *T) admin() (*kadm.Client, func()) {
	c := t.client()
	return kadm.NewClient(c), c.Close
}

// topic creates a topic; configs are pairs of names and values.
func (t *T) topic(partitions int32, configs ...string) string {
	admin, done := t.admin()
	defer done()
	set := map[string]*string{}
	for i := 0; i < len(configs); i += 2 {
		set[configs[i]] = &configs[i+1]
	}
	name := fresh("topic")
	_, err := admin.CreateTopic(t.ctx, partitions, 1, set, name)
	t.must(err)
	t.settled(admin, name, partitions)
	return name
}

// settled waits until every partition of a new topic has a leader in Metadata, which Kafka reaches a moment after the creation.
func (t *T) settled(admin *kadm.Client, topic string, partitions int32) {
	t.wait("the new topic in Metadata", func() bool {
		details, err := admin.ListTopics(t.ctx, topic)
		t.must(err)
		for _, p := range details[topic].Partitions {
			if p.Err != nil || p.Leader < 0 {
				return false
			}
		}
		return len(details[topic].Partitions) == int(partitions)
	})
}

// put produces records at once and returns their offsets in order.
func (t *T) put(records []*kgo.Record, opts ...kgo.Opt) []int64 {
	c := t.client(opts...)
	defer c.Close()
	var mu sync.Mutex
	var first error
	for _, r := range records {
		c.Produce(t.ctx, r, func(_ *kgo.Record, err error) {
			mu.Lock()
			defer mu.Unlock()
			if err != nil && first == nil {
				first = err
			}
		})
	}
	t.must(c.Flush(t.ctx))
	t.must(first)
	offsets := make([]int64, len(records))
	for i, r := range records {
		offsets[i] = r.Offset
	}
	return offsets
}

func plain(topic string, partition int32, count int) []*kgo.Record {
	var records []*kgo.Record
	for i := range count {
		records = append(records, &kgo.Record{Topic: topic, Partition: partition, Key: fmt.Appendf(nil, "k%d", i), Value: fmt.Appendf(nil, "v%d", i)})
	}
	return records
}

// take polls until so many records came.
func (t *T) take(c *kgo.Client, count int) []*kgo.Record {
	var got []*kgo.Record
	for len(got) < count {
		fetches := c.PollFetches(t.ctx)
		if t.ctx.Err() != nil {
			t.fail("%d of %d records in time", len(got), count)
		}
		for _, e := range fetches.Errors() {
			t.fail("fetch of %s/%d: %v", e.Topic, e.Partition, e.Err)
		}
		got = append(got, fetches.Records()...)
	}
	return got
}

func at(topic string, partition int32, offset kgo.Offset) kgo.Opt {
	return kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {partition: offset}})
}

func (t *T) read(topic string, partition int32, count int, opts ...kgo.Opt) []*kgo.Record {
	c := t.client(append([]kgo.Opt{at(topic, partition, kgo.NewOffset().AtStart())}, opts...)...)
	defer c.Close()
	return t.take(c, count)
}

func counted(n int) []int64 {
	out := make([]int64, n)
	for i := range out {
		out[i] = int64(i)
	}
	return out
}

func codec(c kgo.CompressionCodec) func(*T) {
	return func(t *T) {
		topic := t.topic(1)
		var sent []*kgo.Record
		for i := range 300 {
			r := &kgo.Record{
				Topic: topic, Timestamp: time.UnixMilli(1_700_000_000_000 + int64(i)), Value: []byte(strings.Repeat("x", i)),
				Headers: []kgo.RecordHeader{{Key: "a", Value: []byte("1")}, {Key: "a", Value: []byte("2")}, {Key: "none", Value: nil}},
			}
			if i%3 > 0 {
				r.Key = fmt.Appendf(nil, "key%d", i)
			}
			if i%5 == 0 {
				r.Value = nil
			}
			sent = append(sent, r)
		}
		t.equal(t.put(sent, kgo.ProducerBatchCompression(c)), counted(300), "offsets")
		for i, got := range t.read(topic, 0, 300) {
			want := sent[i]
			same := got.Offset == int64(i) && reflectBytes(got.Key, want.Key) && reflectBytes(got.Value, want.Value) && got.Timestamp.Equal(want.Timestamp)
			if !same || fmt.Sprintf("%#v", got.Headers) != fmt.Sprintf("%#v", want.Headers) {
				t.fail("record %d: got %v %q=%q %v %v", i, got.Offset, got.Key, got.Value, got.Timestamp, got.Headers)
			}
		}
	}
}

// reflectBytes compares and tells nil from empty.
func reflectBytes(a, b []byte) bool { return string(a) == string(b) && (a == nil) == (b == nil) }

func acks(level kgo.Acks) func(*T) {
	return func(t *T) {
		topic := t.topic(1)
		t.put(plain(topic, 0, 200), kgo.RequiredAcks(level), kgo.DisableIdempotentWrite())
		for i, r := range t.read(topic, 0, 200) {
			t.equal(string(r.Value), fmt.Sprintf("v%d", i), "value")
		}
	}
}

func idempotentPipeline(t *T) {
	const count = 30_000
	topic := t.topic(3)
	var records []*kgo.Record
	for i := range count {
		records = append(records, &kgo.Record{Topic: topic, Partition: int32(i % 3), Value: fmt.Append(nil, i)})
	}
	t.put(records, kgo.ProducerBatchMaxBytes(2000), kgo.ProducerLinger(0), kgo.MaxBufferedRecords(count))
	for p := range int32(3) {
		for i, r := range t.read(topic, p, count/3) {
			t.equal([]string{fmt.Sprint(r.Offset), string(r.Value)}, []string{fmt.Sprint(i), fmt.Sprint(i*3 + int(p))}, "order")
		}
	}
}

func largeBatches(t *T) {
	topic := t.topic(1)
	var records []*kgo.Record
	for i := range 8 {
		records = append(records, &kgo.Record{Topic: topic, Value: []byte(strings.Repeat(string(rune('A'+i)), 900_000))})
	}
	t.equal(t.put(records), counted(8), "offsets")
	// A batch larger than every limit of the fetch is sent all the same.
	for i, r := range t.read(topic, 0, 8, kgo.FetchMaxBytes(1000), kgo.FetchMaxPartitionBytes(1000)) {
		t.equal([]any{len(r.Value), r.Value[0]}, []any{900_000, byte('A' + i)}, "value")
	}
}

func messageTooLarge(t *T) {
	topic := t.topic(1, "max.message.bytes", "10000")
	c := t.client(kgo.ProducerBatchMaxBytes(1_000_000), kgo.ProducerBatchCompression(kgo.NoCompression()))
	defer c.Close()
	big := &kgo.Record{Topic: topic, Value: []byte(strings.Repeat("x", 20_000))}
	t.is(c.ProduceSync(t.ctx, big).FirstErr(), kerr.MessageTooLarge, "20,000 bytes")
	t.equal(t.put(plain(topic, 0, 1)), []int64{0}, "the next record's offset")
}

func unknownTopic(t *T) {
	c := t.client(kgo.UnknownTopicRetries(0))
	defer c.Close()
	err := c.ProduceSync(t.ctx, &kgo.Record{Topic: fresh("missing"), Value: []byte("x")}).FirstErr()
	t.is(err, kerr.UnknownTopicOrPartition, "produce")
	auto := t.client(kgo.AllowAutoTopicCreation(), kgo.UnknownTopicRetries(-1))
	defer auto.Close()
	t.must(auto.ProduceSync(t.ctx, &kgo.Record{Topic: fresh("auto"), Value: []byte("x")}).FirstErr())
}

func compactedTopic(t *T) {
	topic := t.topic(1, "cleanup.policy", "compact")
	c := t.client()
	defer c.Close()
	t.is(c.ProduceSync(t.ctx, &kgo.Record{Topic: topic, Value: []byte("x")}).FirstErr(), kerr.InvalidRecord, "no key")
	t.equal(t.put(plain(topic, 0, 1)), []int64{0}, "with a key")
}

func seek(t *T) {
	topic := t.topic(1)
	t.put(plain(topic, 0, 100)) // one batch, so every seek lands inside it
	c := t.client(at(topic, 0, kgo.NewOffset().At(40)))
	defer c.Close()
	t.equal(t.take(c, 1)[0].Offset, int64(40), "start")
	for _, offset := range []int64{0, 99, 7} {
		c.SetOffsets(map[string]map[int32]kgo.EpochOffset{topic: {0: {Epoch: -1, Offset: offset}}})
		t.equal(t.take(c, 1)[0].Offset, offset, "sought")
	}
	relative := t.client(at(topic, 0, kgo.NewOffset().AtEnd().Relative(-5)))
	defer relative.Close()
	t.equal(t.take(relative, 5)[0].Offset, int64(95), "five before the end")
}

func byTime(t *T) {
	topic := t.topic(1)
	const base = 1_700_000_000_000
	var records []*kgo.Record
	for i := range int64(50) {
		records = append(records, &kgo.Record{Topic: topic, Timestamp: time.UnixMilli(base + i*1000), Value: []byte("x")})
	}
	t.put(records)
	admin, done := t.admin()
	defer done()
	for millis, want := range map[int64]int64{base - 5: 0, base: 0, base + 1: 1, base + 20_000: 20, base + 48_999: 49, base + 49_001: 50} {
		found, err := admin.ListOffsetsAfterMilli(t.ctx, millis, topic)
		t.must(err)
		t.equal(found[topic][0].Offset, want, fmt.Sprint("offset at ", millis-base))
	}
	latest, err := admin.ListMaxTimestampOffsets(t.ctx, topic)
	t.must(err)
	t.equal([]int64{latest[topic][0].Offset, latest[topic][0].Timestamp}, []int64{49, base + 49_000}, "max timestamp")
	c := t.client(at(topic, 0, kgo.NewOffset().AfterMilli(base+29_500)))
	defer c.Close()
	t.equal(t.take(c, 1)[0].Offset, int64(30), "consume after a time")
}

func outOfRange(t *T) {
	topic := t.topic(1)
	t.put(plain(topic, 0, 10))
	c := t.client(at(topic, 0, kgo.NewOffset().At(500)), kgo.ConsumeResetOffset(kgo.NoResetOffset()))
	defer c.Close()
	errs := c.PollFetches(t.ctx).Errors()
	if len(errs) == 0 {
		t.fail("no error at 500 of 10")
	}
	t.is(errs[0].Err, kerr.OffsetOutOfRange, "at 500 of 10")
}

func tail(plainFetches bool) func(*T) {
	return func(t *T) {
		topic := t.topic(4)
		opts := []kgo.Opt{kgo.ConsumeTopics(topic)}
		if plainFetches {
			opts = append(opts, kgo.DisableFetchSessions())
		}
		c := t.client(opts...)
		defer c.Close()
		var sent, got []string
		for round := range 20 {
			p := int32(round % 4)
			value := fmt.Sprint(round)
			t.put([]*kgo.Record{{Topic: topic, Partition: p, Value: []byte(value)}})
			sent = append(sent, value)
			got = append(got, string(t.take(c, 1)[0].Value))
		}
		t.equal(got, sent, "records one by one")
	}
}

func manyPartitions(t *T) {
	topic := t.topic(20)
	var records []*kgo.Record
	for p := range int32(20) {
		for range 20 {
			records = append(records, &kgo.Record{Topic: topic, Partition: p, Value: []byte(strings.Repeat("y", 20_000))})
		}
	}
	t.put(records, kgo.ProducerBatchCompression(kgo.NoCompression()), kgo.ProducerBatchMaxBytes(25_000))
	c := t.client(kgo.ConsumeTopics(topic), kgo.FetchMaxPartitionBytes(60_000), kgo.FetchMaxBytes(200_000))
	defer c.Close()
	next := map[int32]int64{}
	for total := 0; total < 400; {
		for _, r := range t.take(c, 1) {
			t.equal(r.Offset, next[r.Partition], "offset")
			next[r.Partition]++
			total++
		}
		var progress []int64
		for p := range int32(20) {
			progress = append(progress, next[p])
		}
		sort.Slice(progress, func(i, j int) bool { return progress[i] < progress[j] })
		if progress[0] == 0 && progress[19] == 20 && progress[10] == 20 {
			t.fail("half of the partitions are drained while another got nothing: %v", progress)
		}
	}
}
