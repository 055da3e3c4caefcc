package main

import (
	"crypto/sha256"
	"strings"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// offsetScenarios: OffsetCommit, OffsetFetch, OffsetDelete, FindCoordinator.
func offsetScenarios() []scenario {
	out := forVersions("offset-commit", 8, offsetCommit)
	out = append(out, forVersions("offset-fetch", 9, offsetFetch)...)
	out = append(out, forVersions("offset-delete", 47, offsetDelete)...)
	return append(out, forVersions("find-coordinator", 10, findCoordinator)...)
}

// nameByID gives topics that a request names their ids, for the versions that have nothing else. A topic that the scenario has not made
// has an id that nobody knows; one without a name keeps the id that it has.
func (s *S) nameByID(request kmsg.Request) {
	set := func(topic string, id *[16]byte) {
		if topic == "" {
			return
		}
		known, ok := s.ids[topic]
		if !ok {
			hash := sha256.Sum256([]byte(topic))
			known = [16]byte(hash[:16])
		}
		*id = known
	}
	switch r := request.(type) {
	case *kmsg.OffsetCommitRequest:
		for i := range r.Topics {
			set(r.Topics[i].Topic, &r.Topics[i].TopicID)
		}
	case *kmsg.OffsetFetchRequest:
		for _, group := range r.Groups {
			for i := range group.Topics {
				set(group.Topics[i].Topic, &group.Topics[i].TopicID)
			}
		}
	}
}

func offsetCommit(s *S, v int16) {
	t := s.create("t", 3)
	g := s.named("g")
	commit := func(label string, edit func(*kmsg.OffsetCommitRequest)) {
		r := s.member(g, "x", 5).commitRequest(t, 0, 10)
		if edit != nil {
			edit(r)
		}
		s.do(label, v, r)
	}
	part := func(r *kmsg.OffsetCommitRequest) *kmsg.OffsetCommitRequestTopicPartition {
		return &r.Topics[0].Partitions[0]
	}
	commit("simple", nil)
	commit("null metadata", func(r *kmsg.OffsetCommitRequest) { part(r).Metadata, part(r).Partition = nil, 1 })
	commit("metadata", func(r *kmsg.OffsetCommitRequest) { part(r).Metadata = pointer("some é") })
	commit("much metadata", func(r *kmsg.OffsetCommitRequest) { part(r).Metadata = pointer(strings.Repeat("x", 4096)) })
	commit("too much metadata", func(r *kmsg.OffsetCommitRequest) { part(r).Metadata = pointer(strings.Repeat("x", 4097)) })
	commit("many letters", func(r *kmsg.OffsetCommitRequest) { part(r).Metadata = pointer(strings.Repeat("é", 3000)) })
	commit("leader epoch", func(r *kmsg.OffsetCommitRequest) { part(r).LeaderEpoch, part(r).Partition = 5, 2 })
	commit("negative offset", func(r *kmsg.OffsetCommitRequest) { part(r).Offset = -1 })
	commit("very negative offset", func(r *kmsg.OffsetCommitRequest) { part(r).Offset = -7 })
	commit("beyond the end", func(r *kmsg.OffsetCommitRequest) { part(r).Offset = 1 << 60 })
	commit("unknown partition", func(r *kmsg.OffsetCommitRequest) { part(r).Partition = 9 })
	commit("negative partition", func(r *kmsg.OffsetCommitRequest) { part(r).Partition = -1 })
	commit("missing topic", func(r *kmsg.OffsetCommitRequest) { r.Topics[0].Topic = s.named("missing") })
	commit("bad topic", func(r *kmsg.OffsetCommitRequest) { r.Topics[0].Topic = "a b" })
	commit("good and missing", func(r *kmsg.OffsetCommitRequest) {
		other := r.Topics[0]
		other.Topic = s.named("missing")
		r.Topics = append(r.Topics, other)
	})
	commit("missing, no partitions", func(r *kmsg.OffsetCommitRequest) { r.Topics[0].Topic, r.Topics[0].Partitions = s.named("missing"), nil })
	commit("missing twice", func(r *kmsg.OffsetCommitRequest) {
		r.Topics[0].Topic = s.named("missing")
		other := s.member(g, "x", 5).commitRequest(s.named("missing"), 1, 11)
		r.Topics = append(r.Topics, other.Topics[0])
	})
	if v >= 10 {
		unnamed := func(id [16]byte) func(*kmsg.OffsetCommitRequest) {
			return func(r *kmsg.OffsetCommitRequest) { r.Topics[0].Topic, r.Topics[0].TopicID = "", id }
		}
		commit("no id", unnamed([16]byte{}))
		commit("unknown id", unnamed([16]byte{0xd1}))
		commit("unknown id, no partitions", func(r *kmsg.OffsetCommitRequest) {
			unnamed([16]byte{0xd1})(r)
			r.Topics[0].Partitions = nil
		})
		commit("unknown id, unknown partition", func(r *kmsg.OffsetCommitRequest) {
			unnamed([16]byte{0xd1})(r)
			part(r).Partition = -1
		})
		commit("good and two that are unknown", func(r *kmsg.OffsetCommitRequest) {
			one, two := r.Topics[0], r.Topics[0]
			one.Topic, one.TopicID, two.Topic, two.TopicID = "", [16]byte{0xd1}, "", [16]byte{0xd2}
			r.Topics = append(r.Topics, one, two)
		})
	}
	commit("a topic twice", func(r *kmsg.OffsetCommitRequest) {
		other := s.member(g, "x", 5).commitRequest(t, 1, 11)
		r.Topics = append(r.Topics, other.Topics[0])
	})
	commit("a topic twice, and a partition that is unknown", func(r *kmsg.OffsetCommitRequest) {
		one, two := s.member(g, "x", 5).commitRequest(t, 1, 12), s.member(g, "x", 5).commitRequest(t, 9, 13)
		r.Topics = append(append(r.Topics, one.Topics...), two.Topics...)
	})
	commit("no topics", func(r *kmsg.OffsetCommitRequest) { r.Topics = nil })
	commit("no partitions", func(r *kmsg.OffsetCommitRequest) { r.Topics[0].Partitions = nil })
	commit("empty group", func(r *kmsg.OffsetCommitRequest) { r.Group = "" })
	commit("generation of nobody", func(r *kmsg.OffsetCommitRequest) { r.Generation = 3 })
	commit("generation of nobody in a new group", func(r *kmsg.OffsetCommitRequest) { r.Group, r.Generation = s.named("new"), 3 })
	commit("member of nobody", func(r *kmsg.OffsetCommitRequest) { r.MemberID = "m" })
	commit("member and generation of nobody", func(r *kmsg.OffsetCommitRequest) { r.MemberID, r.Generation = "m", 3 })
	commit("twice", func(r *kmsg.OffsetCommitRequest) {
		again := *part(r)
		again.Offset = 77
		r.Topics[0].Partitions = append(r.Topics[0].Partitions, again)
	})
	if v >= 7 {
		commit("instance of nobody", func(r *kmsg.OffsetCommitRequest) { r.InstanceID = pointer("i") })
	}
	for _, each := range []int16{8, 10} {
		s.do("afterwards", each, fetchOffsets(g))
	}
	m := s.member(g, "m", 5)
	m.join("first")
	s.do("completing", v, m.commitRequest(t, 0, 20))
	m.sync("first")
	s.do("stable", v, m.commitRequest(t, 0, 21))
	m.generation++
	s.do("future generation", v, m.commitRequest(t, 0, 22))
	m.generation = -1
	s.do("no generation", v, m.commitRequest(t, 0, 23))
	m.id = ""
	s.do("no member", v, m.commitRequest(t, 0, 24))
	m.generation = 1
	s.do("a generation and no member", v, m.commitRequest(t, 0, 25))
	s.do("at the end", 8, fetchOffsets(g))
}

func offsetFetch(s *S, v int16) {
	t, u := s.create("t", 3), s.create("u", 1)
	g := s.named("g")
	m := s.member(g, "m", 5)
	r := m.commitRequest(t, 0, 10)
	s.do("commit", 7, r)
	r = m.commitRequest(t, 2, 12)
	r.Topics[0].Partitions[0].Metadata, r.Topics[0].Partitions[0].LeaderEpoch = pointer("meta"), 4
	s.do("commit", 7, r)
	s.do("commit", 7, m.commitRequest(u, 0, 3))
	type row = kmsg.OffsetFetchRequestTopic
	ask := func(label, group string, rows []row) {
		for _, stable := range []bool{false, true} {
			if stable && v < 7 {
				continue
			}
			r := kmsg.NewPtrOffsetFetchRequest()
			r.Group, r.Topics, r.RequireStable = group, rows, stable
			one := kmsg.NewOffsetFetchRequestGroup()
			one.Group = group
			if rows != nil {
				one.Topics = []kmsg.OffsetFetchRequestGroupTopic{}
			}
			for _, each := range rows {
				one.Topics = append(one.Topics, kmsg.OffsetFetchRequestGroupTopic{Topic: each.Topic, Partitions: each.Partitions})
			}
			r.Groups = []kmsg.OffsetFetchRequestGroup{one}
			s.do(label+map[bool]string{true: ", stable"}[stable], v, r)
		}
	}
	of := func(topic string, partitions ...int32) row { return row{Topic: topic, Partitions: partitions} }
	ask("some", g, []row{of(t, 0, 1, 2), of(u, 0)})
	ask("one", g, []row{of(t, 2)})
	ask("twice", g, []row{of(t, 2, 2)})
	ask("unknown partition", g, []row{of(t, 9, -1)})
	ask("missing", g, []row{of(s.named("missing"), 0)})
	ask("bad name", g, []row{of("a b", 0)})
	ask("a topic twice", g, []row{of(t, 2), of(t, 0)})
	ask("good and missing", g, []row{of(s.named("missing"), 0, 1), of(t, 0)})
	ask("no partitions", g, []row{of(t)})
	ask("missing, no partitions", g, []row{of(s.named("missing"))})
	ask("missing, of an unknown group", s.named("none"), []row{of(s.named("missing"), 0)})
	ask("no name, no id", g, []row{of("", 0)})
	ask("none", g, []row{})
	ask("unknown group", s.named("none"), []row{of(t, 0)})
	ask("empty group", "", []row{of(t, 0)})
	if v >= 2 {
		ask("all", g, nil)
		ask("all of an unknown group", s.named("none"), nil)
	}
	if v >= 8 {
		r := kmsg.NewPtrOffsetFetchRequest()
		one, two := kmsg.NewOffsetFetchRequestGroup(), kmsg.NewOffsetFetchRequestGroup()
		one.Group, two.Group = g, s.named("none")
		r.Groups = []kmsg.OffsetFetchRequestGroup{two, one, one}
		s.do("several groups", v, r)
		r.Groups = nil
		s.do("no groups", v, r)
		if v >= 9 {
			one.MemberID, one.MemberEpoch = pointer("m"), 5
			r.Groups = []kmsg.OffsetFetchRequestGroup{one}
			s.do("with a member", v, r)
			one.Group = s.named("none")
			r.Groups = []kmsg.OffsetFetchRequestGroup{one}
			s.do("with a member of an unknown group", v, r)
		}
	}
}

func offsetDelete(s *S, v int16) {
	t, u := s.create("t", 3), s.create("u", 1)
	g := s.named("g")
	m := s.member(g, "m", 5)
	for p := range int32(3) {
		s.do("commit", 7, m.commitRequest(t, p, 10))
	}
	s.do("commit", 7, m.commitRequest(u, 0, 10))
	remove := func(label, group, topic string, partitions ...int32) {
		r := kmsg.NewPtrOffsetDeleteRequest()
		r.Group = group
		row := kmsg.OffsetDeleteRequestTopic{Topic: topic}
		for _, p := range partitions {
			row.Partitions = append(row.Partitions, kmsg.OffsetDeleteRequestTopicPartition{Partition: p})
		}
		r.Topics = []kmsg.OffsetDeleteRequestTopic{row}
		s.do(label, v, r)
	}
	remove("one", g, t, 0)
	remove("again", g, t, 0)
	remove("unknown partition", g, t, 9, -1)
	remove("missing", g, s.named("missing"), 0)
	remove("no partitions", g, t)
	remove("unknown group", s.named("none"), t, 0)
	remove("empty group", "", t, 0)
	s.do("left", 8, fetchOffsets(g))
	m.metadata = t
	m.join("subscribes")
	m.sync("subscribes")
	remove("subscribed", g, t, 1)
	remove("not subscribed", g, u, 0)
	s.do("left", 8, fetchOffsets(g))
	other := s.member(s.named("other"), "o", 5)
	r := other.request()
	r.ProtocolType = "connect"
	answer := get[*kmsg.JoinGroupResponse](s.start(options{on: "o"}, "other type", 5, r))
	r.MemberID = answer.MemberID
	s.start(options{on: "o"}, "other type, with the id", 5, r).get()
	remove("of another type", other.group, t, 1)
}

func findCoordinator(s *S, v int16) {
	ask := func(label string, kind int8, keys ...string) {
		if v == 0 && kind != 0 {
			return
		}
		r := kmsg.NewPtrFindCoordinatorRequest()
		r.CoordinatorType, r.CoordinatorKeys = kind, keys
		if len(keys) > 0 {
			r.CoordinatorKey = keys[0]
		}
		s.do(label, v, r)
	}
	ask("group", 0, s.named("g"))
	ask("several", 0, s.named("g"), s.named("h"), s.named("g"))
	ask("empty", 0, "")
	ask("none", 0)
	for _, kind := range []int8{3, -1, 77} {
		ask("kind that is none", kind, "x")
	}
	if v < 6 {
		ask("share", 2, "g:AAAAAAAAAAAAAAAAAAAAAA:0")
	}
}
