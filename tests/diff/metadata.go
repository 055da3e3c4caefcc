package main

import (
	"strings"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// metadataScenarios: Metadata, DescribeTopicPartitions, DescribeCluster.
func metadataScenarios() []scenario {
	out := forVersions("metadata", 3, metadata)
	out = append(out, forVersions("describe-topic-partitions", 75, describeTopicPartitions)...)
	return append(out, forVersions("describe-cluster", 60, describeCluster)...)
}

// badNames are topic names that Kafka refuses or nearly refuses.
var badNames = []string{"", ".", "..", "a b", "é", "a/b", strings.Repeat("x", 250), "a\x00b", "a,b", "\u2603"}

func metadata(s *S, v int16) {
	one, two := s.create("one", 3), s.create("two", 1)
	ask := func(label string, create bool, edit func(*kmsg.MetadataRequest), names ...string) {
		r := topicsOf(names...)
		r.AllowAutoTopicCreation = create
		if edit != nil {
			edit(r)
		}
		s.do(label, v, r)
	}
	ask("one", true, nil, one)
	ask("two, one, one", true, nil, two, one, one)
	if v >= 1 {
		ask("none", true, func(r *kmsg.MetadataRequest) { r.Topics = []kmsg.MetadataRequestTopic{} })
	}
	all := topicsOf()
	s.start(options{edit: func(r kmsg.Response) {
		m := r.(*kmsg.MetadataResponse)
		kept := m.Topics[:0]
		for _, t := range m.Topics {
			if t.Topic != nil && (*t.Topic == one || *t.Topic == two) {
				kept = append(kept, t)
			}
		}
		m.Topics = kept
	}}, "all", v, all).get()
	missing := s.named("missing")
	if v >= 4 {
		ask("missing, not created", false, nil, missing)
	}
	ask("missing, created", true, nil, missing)
	s.settle(missing)
	ask("after the creation", true, nil, missing)
	ask("bad names", true, nil, badNames...)
	if v >= 4 {
		ask("bad names, not created", false, nil, badNames...)
	}
	ask("odd, created", true, nil, strings.ReplaceAll(one, "-", ".-_"))
	if v >= 8 {
		operations := func(r *kmsg.MetadataRequest) {
			r.IncludeClusterAuthorizedOperations, r.IncludeTopicAuthorizedOperations = v <= 10, true
		}
		ask("authorized operations", true, operations, one)
		ask("authorized operations, not created", false, operations, s.named("unknown"))
		ask("authorized operations, created", true, operations, s.named("unknown"))
	}
	if v >= 10 {
		metadataByID(s, v, one, s.settle(two))
	}
}

func metadataByID(s *S, v int16, one string, id [16]byte) {
	ask := func(label string, topics ...kmsg.MetadataRequestTopic) {
		r := kmsg.NewPtrMetadataRequest()
		r.Topics = topics
		s.do(label, v, r)
	}
	topic := func(name *string, id [16]byte) kmsg.MetadataRequestTopic {
		return kmsg.MetadataRequestTopic{Topic: name, TopicID: id}
	}
	unknown := [16]byte{1, 2, 3}
	ask("by id", topic(nil, id))
	ask("by an unknown id", topic(nil, unknown))
	ask("by id and name", topic(&one, id))
	ask("by neither", topic(nil, [16]byte{}))
	ask("by ids and names", topic(nil, id), topic(&one, [16]byte{}))
	ask("by ids, one unknown", topic(nil, id), topic(nil, unknown))
}

func describeTopicPartitions(s *S, v int16) {
	a, b, missing := s.create("a", 5), s.create("b", 2), s.named("missing")
	ask := func(label string, limit int32, cursor *kmsg.DescribeTopicPartitionsRequestCursor, names ...string) {
		r := kmsg.NewPtrDescribeTopicPartitionsRequest()
		r.ResponsePartitionLimit, r.Cursor = limit, cursor
		for _, name := range names {
			r.Topics = append(r.Topics, kmsg.DescribeTopicPartitionsRequestTopic{Topic: name})
		}
		s.do(label, v, r)
	}
	at := func(topic string, partition int32) *kmsg.DescribeTopicPartitionsRequestCursor {
		return &kmsg.DescribeTopicPartitionsRequestCursor{Topic: topic, Partition: partition}
	}
	ask("two", 2000, nil, b, a)
	ask("twice", 2000, nil, a, a)
	ask("missing", 2000, nil, missing, b)
	ask("bad names", 2000, nil, badNames...)
	for _, limit := range []int32{1, 3, 5, 6, 7, 0, -1} {
		ask("limit", limit, nil, a, b)
	}
	ask("cursor", 3, at(a, 2), a, b)
	ask("cursor at the end", 3, at(a, 5), a, b)
	ask("cursor beyond", 3, at(a, 50), a, b)
	ask("cursor at the second", 3, at(b, 0), a, b)
	ask("cursor at a missing topic", 3, at(missing, 0), a, b, missing)
	ask("cursor at a topic that is not asked for", 3, at(missing, 0), a, b)
	ask("cursor between", 3, at(a+"z", 0), a, b)
	ask("negative cursor", 3, at(a, -1), a, b)
}

func describeCluster(s *S, v int16) {
	for _, endpoint := range []int8{1, 2, 0, 3} {
		if v == 0 && endpoint != 1 {
			continue
		}
		r := kmsg.NewPtrDescribeClusterRequest()
		r.EndpointType = endpoint
		s.do("endpoint", v, r)
		r.IncludeClusterAuthorizedOperations = true
		r.IncludeFencedBrokers = v >= 2
		s.do("with operations", v, r)
	}
}
