package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/IBM/sarama"
	"github.com/twmb/franz-go/pkg/kgo"
)

var saramaChecks = []check{
	{"sarama codec none", false, saramaCodec(sarama.CompressionNone)},
	{"sarama codec gzip", false, saramaCodec(sarama.CompressionGZIP)},
	{"sarama codec snappy", false, saramaCodec(sarama.CompressionSnappy)},
	{"sarama codec lz4", false, saramaCodec(sarama.CompressionLZ4)},
	{"sarama codec zstd", true, saramaCodec(sarama.CompressionZSTD)},
	{"sarama idempotent producer", false, saramaIdempotent},
	{"sarama offsets", false, saramaOffsets},
	{"sarama group", false, saramaGroup},
	{"sarama administration", false, saramaAdmin},
}

func saramaConfig() *sarama.Config {
	c := sarama.NewConfig()
	c.Version = sarama.MaxVersion
	c.Producer.Return.Successes = true
	c.Producer.RequiredAcks = sarama.WaitForAll
	c.Producer.Partitioner = sarama.NewManualPartitioner
	c.Consumer.Offsets.Initial = sarama.OffsetOldest
	c.Consumer.Offsets.AutoCommit.Enable = false
	return c
}

func (t *T) saramaPut(config *sarama.Config, messages []*sarama.ProducerMessage) {
	p, err := sarama.NewSyncProducer([]string{bootstrap}, config)
	t.must(err)
	defer p.Close()
	t.must(p.SendMessages(messages))
	for i, m := range messages {
		t.equal(m.Offset, int64(i), "offset")
	}
}

func saramaMessages(topic string, count int) []*sarama.ProducerMessage {
	var messages []*sarama.ProducerMessage
	for i := range count {
		messages = append(messages, &sarama.ProducerMessage{
			Topic: topic, Key: sarama.StringEncoder(fmt.Sprint("k", i)), Value: sarama.StringEncoder(fmt.Sprint("v", i)),
			Headers: []sarama.RecordHeader{{Key: []byte("h"), Value: []byte("x")}}, Timestamp: time.UnixMilli(1_700_000_000_000 + int64(i)),
		})
	}
	return messages
}

func (t *T) saramaRead(topic string, from int64, count int) []*sarama.ConsumerMessage {
	c, err := sarama.NewConsumer([]string{bootstrap}, saramaConfig())
	t.must(err)
	defer c.Close()
	p, err := c.ConsumePartition(topic, 0, from)
	t.must(err)
	defer p.Close()
	var got []*sarama.ConsumerMessage
	for len(got) < count {
		select {
		case m := <-p.Messages():
			got = append(got, m)
		case <-t.ctx.Done():
			t.fail("%d of %d records in time", len(got), count)
		}
	}
	return got
}

func saramaCodec(codec sarama.CompressionCodec) func(*T) {
	return func(t *T) {
		topic := t.topic(1)
		config := saramaConfig()
		config.Producer.Compression = codec
		messages := saramaMessages(topic, 200)
		messages[7].Value = nil
		t.saramaPut(config, messages)
		for i, m := range t.saramaRead(topic, sarama.OffsetOldest, 200) {
			want := fmt.Sprint("v", i)
			if i == 7 {
				want = ""
			}
			t.equal([]any{m.Offset, string(m.Key), string(m.Value), string(m.Headers[0].Value), m.Timestamp.UnixMilli()},
				[]any{int64(i), fmt.Sprint("k", i), want, "x", 1_700_000_000_000 + int64(i)}, "record")
		}
	}
}

func saramaIdempotent(t *T) {
	topic := t.topic(1)
	config := saramaConfig()
	config.Producer.Idempotent = true
	config.Net.MaxOpenRequests = 1 // sarama's own rule
	config.Producer.Flush.MaxMessages = 20
	t.saramaPut(config, saramaMessages(topic, 2000))
	for i, m := range t.saramaRead(topic, sarama.OffsetOldest, 2000) {
		t.equal(string(m.Value), fmt.Sprint("v", i), "order")
	}
}

func saramaOffsets(t *T) {
	topic := t.topic(1)
	t.saramaPut(saramaConfig(), saramaMessages(topic, 50))
	t.equal(t.saramaRead(topic, 33, 1)[0].Offset, int64(33), "sought")
	client, err := sarama.NewClient([]string{bootstrap}, saramaConfig())
	t.must(err)
	defer client.Close()
	for asked, want := range map[int64]int64{sarama.OffsetOldest: 0, sarama.OffsetNewest: 50, 1_700_000_000_020: 20} {
		got, err := client.GetOffset(topic, 0, asked)
		t.must(err)
		t.equal(got, want, fmt.Sprint("offset for ", asked))
	}
	c, err := sarama.NewConsumerFromClient(client)
	t.must(err)
	_, err = c.ConsumePartition(topic, 0, 500)
	t.is(err, sarama.ErrOffsetOutOfRange, "beyond the end")
}

// saramaHandler counts what a member gets and marks it.
type saramaHandler struct {
	mu     sync.Mutex
	claims int
	got    []string
}

func (h *saramaHandler) Setup(s sarama.ConsumerGroupSession) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.claims = 0
	for _, partitions := range s.Claims() {
		h.claims += len(partitions)
	}
	return nil
}

func (h *saramaHandler) Cleanup(s sarama.ConsumerGroupSession) error {
	s.Commit()
	return nil
}

func (h *saramaHandler) ConsumeClaim(s sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	for m := range claim.Messages() {
		h.mu.Lock()
		h.got = append(h.got, fmt.Sprintf("%d/%d", m.Partition, m.Offset))
		h.mu.Unlock()
		s.MarkMessage(m, "")
	}
	return nil
}

func (h *saramaHandler) count() (claims, got int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.claims, len(h.got)
}

// saramaMember consumes in the background until the function is called.
func (t *T) saramaMember(group, topic string) (*saramaHandler, func()) {
	config := saramaConfig()
	config.Consumer.Group.Heartbeat.Interval = 300 * time.Millisecond
	g, err := sarama.NewConsumerGroup([]string{bootstrap}, group, config)
	t.must(err)
	h := &saramaHandler{}
	ctx, cancel := context.WithCancel(t.ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			if err := g.Consume(ctx, []string{topic}, h); errors.Is(err, sarama.ErrClosedConsumerGroup) {
				return
			}
		}
	}()
	return h, func() {
		cancel()
		<-done
		g.Close()
	}
}

func saramaGroup(t *T) {
	topic, group := t.topic(4), fresh("group")
	for p := range int32(4) {
		t.put(plain(topic, p, 10))
	}
	a, stopA := t.saramaMember(group, topic)
	t.wait("one member with everything", func() bool { claims, got := a.count(); return claims == 4 && got == 40 })
	b, stopB := t.saramaMember(group, topic)
	t.wait("two partitions each", func() bool {
		claimsA, _ := a.count()
		claimsB, _ := b.count()
		return claimsA == 2 && claimsB == 2
	})
	stopA()
	t.wait("the other has all", func() bool { claims, _ := b.count(); return claims == 4 })
	t.put([]*kgo.Record{{Topic: topic, Partition: 2, Value: []byte("more")}})
	t.wait("the new record", func() bool { _, got := b.count(); return got >= 1 })
	stopB()
	b.mu.Lock()
	defer b.mu.Unlock()
	t.equal(b.got, []string{"2/10"}, "nothing twice after the commits")
}

func saramaAdmin(t *T) {
	admin, err := sarama.NewClusterAdmin([]string{bootstrap}, saramaConfig())
	t.must(err)
	defer admin.Close()
	name := fresh("topic")
	retention := "123456"
	detail := &sarama.TopicDetail{NumPartitions: 2, ReplicationFactor: 1, ConfigEntries: map[string]*string{"retention.ms": &retention}}
	t.must(admin.CreateTopic(name, detail, false))
	t.is(admin.CreateTopic(name, detail, false), sarama.ErrTopicAlreadyExists, "again")
	var topics map[string]sarama.TopicDetail
	t.wait("the new topic listed", func() bool {
		topics, err = admin.ListTopics()
		t.must(err)
		return topics[name].NumPartitions == 2
	})
	t.equal(*topics[name].ConfigEntries["retention.ms"], retention, "listed")
	t.must(admin.CreatePartitions(name, 3, nil, false))
	t.must(admin.DeleteTopic(name))
	t.is(admin.DeleteTopic(fresh("missing")), sarama.ErrUnknownTopicOrPartition, "delete a missing topic")
}
