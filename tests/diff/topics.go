package main

import (
	"strings"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// topicScenarios: CreateTopics, DeleteTopics, CreatePartitions, DeleteRecords and what reassigns.
func topicScenarios() []scenario {
	out := forVersions("create-topics", 19, createTopics)
	out = append(out, forVersions("delete-topics", 20, deleteTopics)...)
	out = append(out, forVersions("create-partitions", 37, createPartitions)...)
	out = append(out, forVersions("delete-records", 21, deleteRecords)...)
	out = append(out, forVersions("elect-leaders", 43, electLeaders)...)
	out = append(out, forVersions("alter-reassignments", 45, alterReassignments)...)
	out = append(out, forVersions("list-reassignments", 46, listReassignments)...)
	return append(out, forVersions("describe-log-dirs", 35, describeLogDirs)...)
}

type newTopic = kmsg.CreateTopicsRequestTopic

func topic(name string, partitions int32, replicas int16, edits ...func(*newTopic)) newTopic {
	t := kmsg.NewCreateTopicsRequestTopic()
	t.Topic, t.NumPartitions, t.ReplicationFactor = name, partitions, replicas
	for _, edit := range edits {
		edit(&t)
	}
	return t
}

func assigned(rows ...[]int32) func(*newTopic) {
	return func(t *newTopic) {
		for i, replicas := range rows {
			t.ReplicaAssignment = append(t.ReplicaAssignment, kmsg.CreateTopicsRequestTopicReplicaAssignment{Partition: int32(i), Replicas: replicas})
		}
	}
}

func numbered(partitions ...int32) func(*newTopic) {
	return func(t *newTopic) {
		for i := range t.ReplicaAssignment {
			t.ReplicaAssignment[i].Partition = partitions[i]
		}
	}
}

func configured(name string, value *string) func(*newTopic) {
	return func(t *newTopic) {
		t.Configs = append(t.Configs, kmsg.CreateTopicsRequestTopicConfig{Name: name, Value: value})
	}
}

func pointer[T any](v T) *T { return &v }

func createTopics(s *S, v int16) {
	count := 0
	create := func(label string, topics ...newTopic) {
		for _, validate := range []bool{true, false} {
			r := kmsg.NewPtrCreateTopicsRequest()
			r.TimeoutMillis, r.ValidateOnly, r.Topics = 10_000, validate, topics
			s.do(label+map[bool]string{true: ", validate only"}[validate], v, r)
		}
	}
	fresh := func() string {
		count++
		return s.named("t" + string(rune('a'+count/26)) + string(rune('a'+count%26)))
	}
	self := s.broker.node
	first := fresh()
	create("plain", topic(first, 2, 1))
	create("exists", topic(first, 2, 1))
	create("twice in a request", topic(first+"x", 1, 1), topic(first+"x", 2, 1), topic(first+"y", 1, 1))
	create("no topics")
	create("defaults", topic(fresh(), -1, -1))
	create("default partitions", topic(fresh(), -1, 1))
	create("default replicas", topic(fresh(), 4, -1))
	for _, n := range []int32{0, -2, -2147483648} {
		create("partitions", topic(fresh(), n, 1))
	}
	for _, n := range []int16{0, -2, 4, 100, 32767} {
		create("replicas", topic(fresh(), 1, n))
	}
	for _, n := range []int16{2, 3} {
		create("more replicas than brokers", topic(fresh(), 1, n))
	}
	create("both bad", topic(fresh(), 0, 0))
	create("no partitions, no brokers", topic(fresh(), 0, 100))
	for _, name := range append([]string{"__consumer_offsets", "__transaction_state", "__cluster_metadata"}, badNames...) {
		create("name", topic(name, 1, 1))
	}
	create("longest name", topic(s.named(strings.Repeat("x", 249-len(s.named("")))), 1, 1))
	dotted := fresh() + ".a_b"
	create("dots", topic(dotted, 1, 1))
	create("collision", topic(strings.Replace(dotted, ".", "_", 1), 1, 1))
	create("collision in a request", topic(first+".c", 1, 1), topic(first+"_c", 1, 1))
	create("exists and other trouble", topic(first, 0, 0, configured("nope", pointer("x"))))

	create("assigned", topic(fresh(), -1, -1, assigned([]int32{self}, []int32{self})))
	create("assigned and counted", topic(fresh(), 2, -1, assigned([]int32{self}, []int32{self})))
	create("assigned and replicated", topic(fresh(), -1, 1, assigned([]int32{self}, []int32{self})))
	create("assigned and both", topic(fresh(), 2, 1, assigned([]int32{self}, []int32{self})))
	create("assigned to a stranger", topic(fresh(), -1, -1, assigned([]int32{77})))
	create("assigned twice", topic(fresh(), -1, -1, assigned([]int32{self, self})))
	create("assigned to nobody", topic(fresh(), -1, -1, assigned([]int32{})))
	create("assigned to a negative", topic(fresh(), -1, -1, assigned([]int32{-1})))
	create("assigned unequally", topic(fresh(), -1, -1, assigned([]int32{self}, []int32{self, 77})))
	create("assigned from one", topic(fresh(), -1, -1, assigned([]int32{self}), numbered(1)))
	create("assigned with a gap", topic(fresh(), -1, -1, assigned([]int32{self}, []int32{self}), numbered(0, 2)))
	create("assigned one twice", topic(fresh(), -1, -1, assigned([]int32{self}, []int32{self}), numbered(0, 0)))
	create("assigned backwards", topic(fresh(), -1, -1, assigned([]int32{self}, []int32{self}), numbered(1, 0)))
	create("assigned to minus one", topic(fresh(), -1, -1, assigned([]int32{self}), numbered(-1)))

	create("config", topic(fresh(), 1, 1, configured("retention.ms", pointer("1000")), configured("cleanup.policy", pointer("compact,delete"))))
	create("null config", topic(fresh(), 1, 1, configured("retention.ms", nil)))
	create("unknown config", topic(fresh(), 1, 1, configured("no.such", pointer("1"))))
	create("empty config name", topic(fresh(), 1, 1, configured("", pointer("1"))))
	create("bad config", topic(fresh(), 1, 1, configured("retention.ms", pointer("soon"))))
	create("bad and unknown config", topic(fresh(), 1, 1, configured("no.such", pointer("1")), configured("retention.ms", pointer("soon"))))
	create("config twice", topic(fresh(), 1, 1, configured("retention.ms", pointer("1")), configured("retention.ms", pointer("2"))))
	create("good and bad topics", topic(fresh(), 1, 1), topic(fresh(), 0, 1), topic(fresh(), 1, 1, configured("x", pointer("y"))))
}

func deleteTopics(s *S, v int16) {
	remove := func(label string, topics ...kmsg.DeleteTopicsRequestTopic) {
		r := kmsg.NewPtrDeleteTopicsRequest()
		r.TimeoutMillis = 10_000
		for _, t := range topics {
			if v <= 5 && t.Topic == nil {
				return
			} else if v <= 5 {
				r.TopicNames = append(r.TopicNames, *t.Topic)
			}
		}
		r.Topics = topics
		s.do(label, v, r)
	}
	name := func(n string) kmsg.DeleteTopicsRequestTopic { return kmsg.DeleteTopicsRequestTopic{Topic: &n} }
	id := func(i [16]byte) kmsg.DeleteTopicsRequestTopic { return kmsg.DeleteTopicsRequestTopic{TopicID: i} }
	a, b, c, d := s.create("a", 1), s.create("b", 1), s.create("c", 1), s.create("d", 1)
	idB, idC, idD := s.settle(b), s.settle(c), s.settle(d)
	remove("one", name(a))
	remove("again", name(a))
	remove("none")
	remove("bad names", name(""), name("."), name("a b"), name(s.named("missing")))
	remove("twice", name(b), name(b), name(s.named("missing")))
	remove("by id", id(idB))
	remove("by id again", id(idB))
	remove("by unknown id", id([16]byte{9}))
	remove("by zero id", id([16]byte{}))
	remove("by both", kmsg.DeleteTopicsRequestTopic{Topic: &c, TopicID: idC})
	remove("by id and name of the same", name(c), id(idC))
	remove("by id twice", id(idD), id(idD))
	remove("after the refusals", name(c), name(d))
	s.create("a", 2)
	r := kmsg.NewPtrMetadataRequest()
	r.Topics = []kmsg.MetadataRequestTopic{{Topic: &a}}
	s.do("made again", 12, r)
}

func createPartitions(s *S, v int16) {
	a, b := s.create("a", 2), s.create("b", 1)
	self := s.broker.node
	grow := func(label string, rows ...kmsg.CreatePartitionsRequestTopic) {
		for _, validate := range []bool{true, false} {
			r := kmsg.NewPtrCreatePartitionsRequest()
			r.TimeoutMillis, r.ValidateOnly, r.Topics = 10_000, validate, rows
			s.do(label+map[bool]string{true: ", validate only"}[validate], v, r)
		}
	}
	row := func(name string, count int32, assignments ...[]int32) kmsg.CreatePartitionsRequestTopic {
		t := kmsg.CreatePartitionsRequestTopic{Topic: name, Count: count}
		for _, replicas := range assignments {
			t.Assignment = append(t.Assignment, kmsg.CreatePartitionsRequestTopicAssignment{Replicas: replicas})
		}
		return t
	}
	grow("none")
	for _, n := range []int32{2, 1, 0, -1, -5} {
		grow("not more", row(a, n))
	}
	grow("missing", row(s.named("missing"), 3))
	grow("bad names", row("", 3), row("a b", 3))
	grow("twice", row(a, 3), row(a, 4), row(b, 2))
	grow("more", row(a, 4))
	grow("assigned", row(a, 5, []int32{self}))
	grow("assigned too few", row(a, 8, []int32{self}))
	grow("assigned too many", row(a, 7, []int32{self}, []int32{self}, []int32{self}, []int32{self}))
	grow("assigned to a stranger", row(a, 7, []int32{77}))
	grow("assigned to nobody", row(a, 8, []int32{}))
	grow("assigned twice", row(a, 8, []int32{self, self}))
	grow("assigned to two", row(a, 9, []int32{self, 78}))
	grow("assigned to a negative", row(a, 9, []int32{-1}))
	grow("assigned unequally", row(b, 4, []int32{self}, []int32{}))
	grow("empty assignment", kmsg.CreatePartitionsRequestTopic{Topic: b, Count: 6, Assignment: []kmsg.CreatePartitionsRequestTopicAssignment{}})
	grow("some good", row(a, 20), row(s.named("missing"), 3), row(b, 1))
	s.hasPartitions(a, 20)
	s.do("afterwards", 12, topicsOf(a, b))
}

func deleteRecords(s *S, v int16) {
	a := s.log("a", 3)
	compacted := s.log("compacted", 1, "cleanup.policy", "compact")
	both := s.log("both", 1, "cleanup.policy", "compact,delete")
	for _, t := range []string{a, compacted, both} {
		s.fill(t, 0, plain(5), plain(5))
	}
	type row = kmsg.DeleteRecordsRequestTopicPartition
	cut := func(label, topic string, rows ...row) {
		r := kmsg.NewPtrDeleteRecordsRequest()
		r.TimeoutMillis = 10_000
		r.Topics = []kmsg.DeleteRecordsRequestTopic{{Topic: topic, Partitions: rows}}
		s.do(label, v, r)
	}
	none := kmsg.NewPtrDeleteRecordsRequest()
	none.TimeoutMillis = 10_000
	s.do("none", v, none)
	cut("no partitions", a)
	for _, offset := range []int64{0, 3, 2, 5, 7, 11, 1 << 40, -2, -9, 10, -1} {
		cut("to", a, row{Partition: 0, Offset: offset})
		s.listOffsets("start after", a, 0, -2)
	}
	cut("empty partition", a, row{Partition: 1, Offset: 0}, row{Partition: 2, Offset: -1})
	cut("beyond an empty partition", a, row{Partition: 1, Offset: 1})
	cut("unknown partition", a, row{Partition: 3, Offset: 0}, row{Partition: -1, Offset: 0})
	cut("missing topic", s.named("missing"), row{Partition: 0, Offset: 0})
	cut("bad name", "a b", row{Partition: 0, Offset: 0})
	cut("compacted", compacted, row{Partition: 0, Offset: 2})
	cut("compacted and deleted", both, row{Partition: 0, Offset: 2})
	cut("internal", "__consumer_offsets", row{Partition: 0, Offset: 0})
	cut("twice", a, row{Partition: 0, Offset: -1}, row{Partition: 0, Offset: 1})
	s.fetchAll("what is left", both, 0, 2)
}

func electLeaders(s *S, v int16) {
	a := s.create("a", 2)
	elect := func(label string, kind int8, rows ...kmsg.ElectLeadersRequestTopic) {
		if v == 0 && kind != 0 {
			return
		}
		r := kmsg.NewPtrElectLeadersRequest()
		r.ElectionType, r.TimeoutMillis, r.Topics = kind, 10_000, rows
		s.do(label, v, r)
	}
	for _, kind := range []int8{0, 1} {
		elect("needless", kind, kmsg.ElectLeadersRequestTopic{Topic: a, Partitions: []int32{0, 1}})
		elect("unknown partition", kind, kmsg.ElectLeadersRequestTopic{Topic: a, Partitions: []int32{5}})
		elect("missing", kind, kmsg.ElectLeadersRequestTopic{Topic: s.named("missing"), Partitions: []int32{0}})
		elect("bad name", kind, kmsg.ElectLeadersRequestTopic{Topic: "a b", Partitions: []int32{0}})
		elect("no partitions", kind, kmsg.ElectLeadersRequestTopic{Topic: a})
	}
	empty := kmsg.NewPtrElectLeadersRequest()
	empty.Topics, empty.TimeoutMillis = []kmsg.ElectLeadersRequestTopic{}, 10_000
	s.do("no topics", v, empty)
	elect("of a kind that is none", 2, kmsg.ElectLeadersRequestTopic{Topic: a, Partitions: []int32{0}})
	all := kmsg.NewPtrElectLeadersRequest()
	all.TimeoutMillis = 10_000
	s.start(options{edit: func(r kmsg.Response) {
		answer := r.(*kmsg.ElectLeadersResponse)
		var kept []kmsg.ElectLeadersResponseTopic
		for _, t := range answer.Topics {
			if t.Topic == a {
				kept = append(kept, t)
			}
		}
		answer.Topics = kept
	}}, "all", v, all).get()
}

func alterReassignments(s *S, v int16) {
	a := s.create("a", 2)
	self := s.broker.node
	type row = kmsg.AlterPartitionAssignmentsRequestTopicPartition
	alter := func(label, topic string, rows ...row) {
		r := kmsg.NewPtrAlterPartitionAssignmentsRequest()
		r.TimeoutMillis = 10_000
		r.Topics = []kmsg.AlterPartitionAssignmentsRequestTopic{{Topic: topic, Partitions: rows}}
		s.do(label, v, r)
	}
	alter("to itself", a, row{Partition: 0, Replicas: []int32{self}})
	alter("to a stranger", a, row{Partition: 0, Replicas: []int32{77}})
	alter("to nobody", a, row{Partition: 0, Replicas: []int32{}})
	alter("twice", a, row{Partition: 0, Replicas: []int32{self, self}})
	alter("to a negative", a, row{Partition: 0, Replicas: []int32{-1}})
	alter("cancel", a, row{Partition: 1})
	alter("unknown partition", a, row{Partition: 9, Replicas: []int32{self}}, row{Partition: 8})
	alter("missing", s.named("missing"), row{Partition: 0, Replicas: []int32{self}})
	alter("bad name", "a b", row{Partition: 0, Replicas: []int32{self}})
	alter("no partitions", a)
	none := kmsg.NewPtrAlterPartitionAssignmentsRequest()
	none.TimeoutMillis = 10_000
	s.do("none", v, none)
	if v >= 1 {
		r := kmsg.NewPtrAlterPartitionAssignmentsRequest()
		r.TimeoutMillis, r.AllowReplicationFactorChange = 10_000, false
		r.Topics = []kmsg.AlterPartitionAssignmentsRequestTopic{{Topic: a, Partitions: []row{{Partition: 0, Replicas: []int32{self}}}}}
		s.do("without a change of the factor", v, r)
		r.Topics[0].Partitions[0].Replicas = []int32{self, 77}
		s.do("with a change of the factor", v, r)
	}
	s.do("afterwards", 12, topicsOf(a))
}

func listReassignments(s *S, v int16) {
	a := s.create("a", 2)
	r := kmsg.NewPtrListPartitionReassignmentsRequest()
	r.TimeoutMillis = 10_000
	s.do("all", v, r)
	for _, topic := range []string{a, s.named("missing"), "a b", ""} {
		r.Topics = []kmsg.ListPartitionReassignmentsRequestTopic{{Topic: topic, Partitions: []int32{0, 9}}}
		s.do("of "+strings.TrimPrefix(topic, s.named("")), v, r)
	}
	r.Topics = []kmsg.ListPartitionReassignmentsRequestTopic{}
	s.do("none", v, r)
}

func describeLogDirs(s *S, v int16) {
	a := s.log("a", 2)
	s.fill(a, 0, plain(3))
	ask := func(label string, topics []kmsg.DescribeLogDirsRequestTopic) {
		r := kmsg.NewPtrDescribeLogDirsRequest()
		r.Topics = topics
		s.start(options{edit: func(r kmsg.Response) {
			answer := r.(*kmsg.DescribeLogDirsResponse)
			for i, dir := range answer.Dirs {
				kept := dir.Topics[:0]
				for _, t := range dir.Topics {
					if t.Topic == a {
						kept = append(kept, t)
					}
				}
				answer.Dirs[i].Topics = kept
			}
		}}, label, v, r).get()
	}
	row := func(t string, ps ...int32) kmsg.DescribeLogDirsRequestTopic {
		return kmsg.DescribeLogDirsRequestTopic{Topic: t, Partitions: ps}
	}
	ask("all", nil)
	ask("none", []kmsg.DescribeLogDirsRequestTopic{})
	ask("one", []kmsg.DescribeLogDirsRequestTopic{row(a, 0)})
	ask("both", []kmsg.DescribeLogDirsRequestTopic{row(a, 1, 0)})
	ask("unknown partition", []kmsg.DescribeLogDirsRequestTopic{row(a, 7)})
	ask("missing", []kmsg.DescribeLogDirsRequestTopic{row(s.named("missing"), 0)})
	ask("no partitions", []kmsg.DescribeLogDirsRequestTopic{row(a)})
}
