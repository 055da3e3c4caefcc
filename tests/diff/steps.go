package main

import (
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

// settle waits until the topic has leaders, and returns its id.
func (s *S) settle(topic string) [16]byte {
	for range 100 {
		answer := quiet[*kmsg.MetadataResponse](s, 12, topicsOf(topic))
		t := answer.Topics[0]
		ready := t.ErrorCode == 0
		for _, p := range t.Partitions {
			ready = ready && p.ErrorCode == 0
		}
		if ready {
			s.symbols.of("topic-id", base64ID(t.TopicID))
			return t.TopicID
		}
		sleep(20)
	}
	s.abort("%s has no leaders", topic)
	return [16]byte{}
}

func topicsOf(names ...string) *kmsg.MetadataRequest {
	r := kmsg.NewPtrMetadataRequest()
	for _, name := range names {
		r.Topics = append(r.Topics, kmsg.MetadataRequestTopic{Topic: &name})
	}
	return r
}
