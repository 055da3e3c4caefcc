package main

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// protocolChecks speak to the broker in single requests, for what client libraries hide.
var protocolChecks = []check{
	{"protocol idempotent retries and gaps", true, sequences},
	{"protocol bad batches", false, badBatches},
	{"protocol leader epochs", false, leaderEpochs},
	{"protocol producers of a partition", false, describeProducers},
	{"protocol topic ids in Metadata", false, topicIDs},
}

// batch is what a producer's record batch is made of; zero values make a plain, valid one with a single record.
type batch struct {
	producer int64
	epoch    int16
	sequence int32
	records  int
	damage   func([]byte) []byte // applied after the CRC
	early    func([]byte)        // applied before the CRC
}

func (b batch) encode() []byte {
	var records []byte
	for i := range b.records {
		r := kmsg.Record{OffsetDelta: int32(i), Key: []byte("k"), Value: fmt.Append(nil, b.sequence+int32(i))}
		body := r.AppendTo(nil)[1:] // the length is one byte for small records
		records = append(binary.AppendVarint(records, int64(len(body))), body...)
	}
	raw := kmsg.RecordBatch{
		PartitionLeaderEpoch: -1, Magic: 2, LastOffsetDelta: int32(b.records - 1), FirstTimestamp: 1_700_000_000_000, MaxTimestamp: 1_700_000_000_000,
		ProducerID: b.producer, ProducerEpoch: b.epoch, FirstSequence: b.sequence, NumRecords: int32(b.records), Records: records,
	}
	raw.Length = int32(49 + len(records))
	out := raw.AppendTo(nil)
	if b.early != nil {
		b.early(out)
	}
	binary.BigEndian.PutUint32(out[17:], crc32.Checksum(out[21:], crc32.MakeTable(crc32.Castagnoli)))
	if b.damage != nil {
		out = b.damage(out)
	}
	return out
}

// produce sends one batch to partition 0 and returns the offset and the error.
func (t *T) produce(c *kgo.Client, topic string, b batch) (int64, error) {
	request := kmsg.NewPtrProduceRequest()
	request.Version, request.Acks, request.TimeoutMillis = 9, -1, 10_000
	rt := kmsg.NewProduceRequestTopic()
	rt.Topic = topic
	rp := kmsg.NewProduceRequestTopicPartition()
	rp.Records = b.encode()
	rt.Partitions = append(rt.Partitions, rp)
	request.Topics = append(request.Topics, rt)
	response, err := c.Broker(int(t.leader(c, topic))).Request(t.ctx, pinned{request, 9})
	t.must(err)
	p := response.(*kmsg.ProduceResponse).Topics[0].Partitions[0]
	return p.BaseOffset, kerr.ErrorForCode(p.ErrorCode)
}

// pinned keeps a request at one version.
type pinned struct {
	kmsg.Request
	version int16
}

func (p pinned) MaxVersion() int16 { return p.version }

func (t *T) leader(c *kgo.Client, topic string) int32 {
	details, err := kadm.NewClient(c).ListTopics(t.ctx, topic)
	t.must(err)
	return details[topic].Partitions[0].Leader
}

func (t *T) producerID(c *kgo.Client) int64 {
	request := kmsg.NewPtrInitProducerIDRequest()
	request.TransactionTimeoutMillis = 60_000
	response, err := request.RequestWith(t.ctx, c)
	t.must(err)
	t.must(kerr.ErrorForCode(response.ErrorCode))
	t.equal(response.ProducerEpoch, int16(0), "epoch of a new producer")
	return response.ProducerID
}

func sequences(t *T) {
	topic := t.topic(1)
	c := t.client()
	defer c.Close()
	id := t.producerID(c)
	if other := t.producerID(c); other == id {
		t.fail("the producer id %d was given twice", id)
	}
	expect := func(what string, b batch, offset int64, want error) {
		b.producer = id
		got, err := t.produce(c, topic, b)
		t.is(err, want, what)
		if want == nil {
			t.equal(got, offset, what)
		}
	}
	for i := range int64(5) {
		expect("batch", batch{sequence: int32(i * 2), records: 2}, i*2, nil)
	}
	for i := range int64(5) {
		expect("a retry gets its original offset", batch{sequence: int32(i * 2), records: 2}, i*2, nil)
	}
	expect("a gap", batch{sequence: 14, records: 1}, 0, kerr.OutOfOrderSequenceNumber)
	expect("the next", batch{sequence: 10, records: 1}, 10, nil)
	expect("a new epoch starts at zero", batch{epoch: 1, sequence: 3, records: 1}, 0, kerr.OutOfOrderSequenceNumber)
	expect("a new epoch", batch{epoch: 1, sequence: 0, records: 1}, 11, nil)
	expect("the old epoch is fenced", batch{epoch: 0, sequence: 11, records: 1}, 0, kerr.InvalidProducerEpoch)
	t.equal(len(t.read(topic, 0, 12)), 12, "records in the log")
}

func badBatches(t *T) {
	topic := t.topic(1)
	c := t.client()
	defer c.Close()
	put := func(b batch) error {
		b.producer, b.epoch, b.sequence = -1, -1, -1
		_, err := t.produce(c, topic, b)
		return err
	}
	flip := func(b []byte) []byte { b[len(b)-2] ^= 1; return b }
	t.is(put(batch{records: 1, damage: flip}), kerr.CorruptMessage, "a wrong CRC")
	count := func(b []byte) { binary.BigEndian.PutUint32(b[57:], 5) }
	t.is(put(batch{records: 1, early: count}), kerr.InvalidRecord, "a wrong record count")
	delta := func(b []byte) { binary.BigEndian.PutUint32(b[23:], 7) }
	t.is(put(batch{records: 2, early: delta}), kerr.InvalidRecord, "a wrong last offset delta")
	control := func(b []byte) { b[22] |= 0x20 }
	t.is(put(batch{records: 1, early: control}), kerr.InvalidRecord, "a control batch from a client")
	t.must(put(batch{records: 3}))
	t.equal(t.put(plain(topic, 0, 1)), []int64{3}, "only the good batch is in the log")
}

func leaderEpochs(t *T) {
	topic := t.topic(1)
	t.put(plain(topic, 0, 10))
	admin, done := t.admin()
	defer done()
	epoch := t.read(topic, 0, 1)[0].LeaderEpoch
	if epoch < 0 {
		t.fail("records come with leader epoch %d", epoch)
	}
	details, err := admin.ListTopics(t.ctx, topic)
	t.must(err)
	t.equal(details[topic].Partitions[0].LeaderEpoch, epoch, "leader epoch in Metadata")
	var request kadm.OffsetForLeaderEpochRequest
	request.Add(topic, 0, epoch)
	answer, err := admin.OffsetForLeaderEpoch(t.ctx, request)
	t.must(err)
	t.must(answer[topic][0].Err)
	t.equal([]any{answer[topic][0].LeaderEpoch, answer[topic][0].EndOffset}, []any{epoch, int64(10)}, "end of the present epoch")
}

func describeProducers(t *T) {
	topic := t.topic(1)
	c := t.client()
	defer c.Close()
	id := t.producerID(c)
	_, err := t.produce(c, topic, batch{producer: id, records: 4})
	t.must(err)
	described, err := kadm.NewClient(c).DescribeProducers(t.ctx, kadm.TopicsSet{topic: {0: {}}})
	t.must(err)
	p := described[topic].Partitions[0]
	t.must(p.Err)
	active := p.ActiveProducers.Sorted()
	t.equal(len(active), 1, "active producers")
	t.equal([]any{active[0].ProducerID, active[0].ProducerEpoch, active[0].LastSequence}, []any{id, int16(0), int32(3)}, "producer")
}

func topicIDs(t *T) {
	topic := t.topic(2)
	c := t.client()
	defer c.Close()
	details, err := kadm.NewClient(c).ListTopics(t.ctx, topic)
	t.must(err)
	request := kmsg.NewPtrMetadataRequest()
	rt := kmsg.NewMetadataRequestTopic()
	rt.TopicID = details[topic].ID
	request.Topics = append(request.Topics, rt)
	response, err := c.Broker(int(t.leader(c, topic))).Request(t.ctx, request)
	t.must(err)
	got := response.(*kmsg.MetadataResponse).Topics[0]
	t.must(kerr.ErrorForCode(got.ErrorCode))
	t.equal([]any{*got.Topic, len(got.Partitions)}, []any{topic, 2}, "topic by id")
	request.Topics[0].TopicID = [16]byte{1, 2, 3}
	response, err = c.Broker(int(t.leader(c, topic))).Request(t.ctx, request)
	t.must(err)
	t.is(kerr.ErrorForCode(response.(*kmsg.MetadataResponse).Topics[0].ErrorCode), kerr.UnknownTopicID, "unknown id")
}
