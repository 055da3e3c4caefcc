package main

import (
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// create makes a topic and returns its name; the answer is not compared. configs are name, value, name, value…
func (s *S) create(what string, partitions int32, configs ...string) string {
	r := kmsg.NewPtrCreateTopicsRequest()
	r.TimeoutMillis = 10_000
	t := kmsg.NewCreateTopicsRequestTopic()
	t.Topic, t.NumPartitions, t.ReplicationFactor = s.named(what), partitions, 1
	for i := 0; i < len(configs); i += 2 {
		t.Configs = append(t.Configs, kmsg.CreateTopicsRequestTopicConfig{Name: configs[i], Value: &configs[i+1]})
	}
	r.Topics = append(r.Topics, t)
	answer := quiet[*kmsg.CreateTopicsResponse](s, 7, r)
	if code := answer.Topics[0].ErrorCode; code != 0 {
		s.abort("create %s: error %d", t.Topic, code)
	}
	s.settle(t.Topic)
	return t.Topic
}

// log makes a topic that keeps records however old they are: what scenarios write is from 2020, and retention would come
// for it in the middle of a run.
func (s *S) log(what string, partitions int32, configs ...string) string {
	return s.create(what, partitions, append(configs, "retention.ms", "-1")...)
}

// tries of what is asked every 20 ms until it is so: a minute and more, for the machine may be busy.
const tries = 3000

// settle waits until the topic has leaders, and returns its id.
func (s *S) settle(topic string) [16]byte {
	for range tries {
		answer := quiet[*kmsg.MetadataResponse](s, 12, topicsOf(topic))
		t := answer.Topics[0]
		ready := t.ErrorCode == 0
		led := listOf(topic, 0, -1)
		led.Topics[0].Partitions = nil
		for _, p := range t.Partitions {
			ready = ready && p.ErrorCode == 0
			led.Topics[0].Partitions = append(led.Topics[0].Partitions, listOf(topic, p.Partition, -1).Topics[0].Partitions...)
		}
		if ready { // the broker that leads learns of it a little later than the one that answers Metadata
			for _, p := range quiet[*kmsg.ListOffsetsResponse](s, 7, led).Topics[0].Partitions {
				ready = ready && p.ErrorCode == 0
			}
		}
		if ready {
			s.symbols.topicID(topic, t.TopicID)
			s.ids[topic] = t.TopicID
			return t.TopicID
		}
		sleep(20)
	}
	s.abort("%s has no leaders", topic)
	return [16]byte{}
}

// hasPartitions waits until the topic has so many, each with a leader.
func (s *S) hasPartitions(topic string, count int) {
	for range tries {
		t := quiet[*kmsg.MetadataResponse](s, 12, topicsOf(topic)).Topics[0]
		ready := len(t.Partitions) >= count
		for _, p := range t.Partitions {
			ready = ready && p.ErrorCode == 0
		}
		if ready {
			return
		}
		sleep(20)
	}
	s.abort("%s does not get %d partitions", topic, count)
}

func topicsOf(names ...string) *kmsg.MetadataRequest {
	r := kmsg.NewPtrMetadataRequest()
	for _, name := range names {
		r.Topics = append(r.Topics, kmsg.MetadataRequestTopic{Topic: &name})
	}
	return r
}

// fill produces batches into a partition, one request each; the answers are not compared but must be good.
func (s *S) fill(topic string, partition int32, batches ...batch) {
	for _, b := range batches {
		records := b.encode()
		for try := 0; ; try++ {
			answer := quiet[*kmsg.ProduceResponse](s, 9, produceOf(-1, topic, partition, records))
			code := answer.Topics[0].Partitions[0].ErrorCode
			if code == 0 {
				break
			}
			if try == tries || (code != 3 && code != 6) { // the leader learns of a new topic a little later
				s.abort("fill %s: error %d", topic, code)
			}
			sleep(20)
		}
	}
}

func produceOf(acks int16, topic string, partition int32, records []byte) *kmsg.ProduceRequest {
	r := kmsg.NewPtrProduceRequest()
	r.Acks, r.TimeoutMillis = acks, 10_000
	r.Topics = []kmsg.ProduceRequestTopic{{Topic: topic, Partitions: []kmsg.ProduceRequestTopicPartition{{Partition: partition, Records: records}}}}
	return r
}

// listOffsets compares the offset of one timestamp or special value.
func (s *S) listOffsets(label, topic string, partition int32, timestamp int64) {
	s.do(label, 8, listOf(topic, partition, timestamp))
}

func listOf(topic string, partition int32, timestamp int64) *kmsg.ListOffsetsRequest {
	r := kmsg.NewPtrListOffsetsRequest()
	p := kmsg.NewListOffsetsRequestTopicPartition()
	p.Partition, p.Timestamp = partition, timestamp
	r.Topics = []kmsg.ListOffsetsRequestTopic{{Topic: topic, Partitions: []kmsg.ListOffsetsRequestTopicPartition{p}}}
	return r
}

// fetchOf asks for one partition from an offset on.
func fetchOf(topic string, partition int32, offset int64) *kmsg.FetchRequest {
	r := kmsg.NewPtrFetchRequest()
	r.MaxWaitMillis, r.MinBytes, r.MaxBytes = 100, 1, 50<<20
	r.SessionEpoch = -1
	r.Topics = []kmsg.FetchRequestTopic{fetchTopic(topic, fetchPartition(partition, offset))}
	return r
}

func fetchTopic(topic string, partitions ...kmsg.FetchRequestTopicPartition) kmsg.FetchRequestTopic {
	t := kmsg.NewFetchRequestTopic()
	t.Topic, t.Partitions = topic, partitions
	return t
}

func fetchPartition(partition int32, offset int64) kmsg.FetchRequestTopicPartition {
	p := kmsg.NewFetchRequestTopicPartition()
	p.Partition, p.FetchOffset, p.PartitionMaxBytes = partition, offset, 50<<20
	return p
}

// fetchAll compares the data from an offset on.
func (s *S) fetchAll(label, topic string, partition int32, offset int64) {
	s.do(label, 11, fetchOf(topic, partition, offset))
}

// now is the time of the test's own clock, in milliseconds.
func (s *S) now() int64 { return time.Now().UnixMilli() }
