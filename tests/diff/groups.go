package main

import (
	"fmt"
	"strings"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// groupScenarios walk the classic groups' state machine step by step.
func groupScenarios() []scenario {
	out := forVersions("join-group", 11, joinGroup)
	out = append(out, forVersions("sync-group", 14, syncGroup)...)
	out = append(out, forVersions("heartbeat", 12, heartbeat)...)
	out = append(out, forVersions("leave-group", 13, leaveGroup)...)
	out = append(out, forVersions("describe-groups", 15, describeGroups)...)
	out = append(out, forVersions("list-groups", 16, listGroups)...)
	out = append(out, forVersions("delete-groups", 42, deleteGroups)...)
	for _, each := range []struct {
		name string
		run  func(*S)
	}{
		{"rebalance", rebalance}, {"leader leaves", leaderLeaves}, {"follower rejoins", followerRejoins}, {"session expires", sessionExpires}, {"rebalance time-out", rebalanceTimeout},
		{"protocols", protocols}, {"static members", staticMembers}, {"static expiry", staticExpiry}, {"cooperative", cooperative}, {"sync expires", syncExpires}, {"empty and dead", emptyAndDead},
	} {
		out = append(out, scenario{"group/" + strings.ReplaceAll(each.name, " ", "-"), each.run})
	}
	return out
}

// arrival is how long a request takes to reach the coordinator at most, in milliseconds: the order of requests on several
// connections is part of the scenarios.
const arrival = 60

// member is one connection's view of a group.
type member struct {
	s          *S
	group      string
	on         string
	id         string
	instance   *string
	generation int32
	leader     bool
	version    int16
	session    int32
	rebalance  int32
	protocols  []string
	metadata   string
	others     []string // ids, for the leader
}

func (s *S) member(group, on string, version int16) *member {
	return &member{s: s, group: group, on: on, version: version, session: 10_000, rebalance: 3_000, protocols: []string{"range"}, metadata: on, generation: -1}
}

func (m *member) request() *kmsg.JoinGroupRequest {
	r := kmsg.NewPtrJoinGroupRequest()
	r.Group, r.SessionTimeoutMillis, r.RebalanceTimeoutMillis, r.MemberID, r.InstanceID, r.ProtocolType = m.group, m.session, m.rebalance, m.id, m.instance, "consumer"
	for _, name := range m.protocols {
		r.Protocols = append(r.Protocols, kmsg.JoinGroupRequestProtocol{Name: name, Metadata: subscription(m.metadata)})
	}
	return r
}

// subscription is the metadata of a consumer that wants one topic.
func subscription(topic string) []byte {
	meta := kmsg.NewConsumerMemberMetadata()
	meta.Version, meta.Topics = 1, []string{topic}
	return meta.AppendTo(nil)
}

// startJoin sends a JoinGroup; finish takes its answer.
func (m *member) startJoin(label string) *pending {
	p := m.s.start(options{on: m.on, edit: sortMembers}, m.on+": "+label, m.version, m.request())
	sleep(arrival)
	return p
}

// sortMembers orders the members for the leader, which come from a hash map, by their metadata.
func sortMembers(r kmsg.Response) {
	members := r.(*kmsg.JoinGroupResponse).Members
	for i := range members {
		for j := i; j > 0 && key(members[j]) < key(members[j-1]); j-- {
			members[j], members[j-1] = members[j-1], members[j]
		}
	}
}

func key(m kmsg.JoinGroupResponseMember) string { return string(m.ProtocolMetadata) }

func (m *member) finish(p *pending) *kmsg.JoinGroupResponse {
	answer := get[*kmsg.JoinGroupResponse](p)
	if answer.ErrorCode == 79 || answer.ErrorCode == 0 {
		m.id = answer.MemberID
	}
	if answer.ErrorCode == 0 {
		m.generation, m.leader, m.others = answer.Generation, answer.LeaderID == answer.MemberID, nil
		for _, other := range answer.Members {
			m.others = append(m.others, other.MemberID)
		}
	}
	return answer
}

func (m *member) join(label string) *kmsg.JoinGroupResponse {
	answer := m.finish(m.startJoin(label))
	if answer.ErrorCode == 79 {
		answer = m.finish(m.startJoin(label + ", with the id"))
	}
	return answer
}

func (m *member) syncRequest() *kmsg.SyncGroupRequest {
	r := kmsg.NewPtrSyncGroupRequest()
	r.Group, r.Generation, r.MemberID, r.InstanceID = m.group, m.generation, m.id, m.instance
	r.ProtocolType, r.Protocol = pointer("consumer"), &m.protocols[0]
	if m.leader {
		for i, id := range m.others {
			r.GroupAssignment = append(r.GroupAssignment, kmsg.SyncGroupRequestGroupAssignment{MemberID: id, MemberAssignment: fmt.Appendf(nil, "assignment %d", i)})
		}
	}
	return r
}

func (m *member) startSync(label string) *pending {
	p := m.s.start(options{on: m.on}, m.on+": "+label, 5, m.syncRequest())
	sleep(arrival)
	return p
}

func (m *member) sync(label string) { m.startSync(label).get() }

func (m *member) beat(label string) {
	r := kmsg.NewPtrHeartbeatRequest()
	r.Group, r.Generation, r.MemberID, r.InstanceID = m.group, m.generation, m.id, m.instance
	m.s.start(options{on: m.on}, m.on+": "+label, 4, r).get()
}

func (m *member) leave(label string) {
	r := kmsg.NewPtrLeaveGroupRequest()
	r.Group = m.group
	r.Members = []kmsg.LeaveGroupRequestMember{{MemberID: m.id, InstanceID: m.instance}}
	m.s.start(options{on: m.on}, m.on+": "+label, 4, r).get()
}

func (m *member) commit(label string, offset int64) {
	m.s.start(options{on: m.on}, m.on+": "+label, 8, m.commitRequest(m.group+"-topic", 0, offset)).get()
}

func (m *member) commitRequest(topic string, partition int32, offset int64) *kmsg.OffsetCommitRequest {
	r := kmsg.NewPtrOffsetCommitRequest()
	r.Group, r.Generation, r.MemberID, r.InstanceID = m.group, m.generation, m.id, m.instance
	p := kmsg.NewOffsetCommitRequestTopicPartition()
	p.Partition, p.Offset, p.Metadata = partition, offset, pointer("")
	r.Topics = []kmsg.OffsetCommitRequestTopic{{Topic: topic, Partitions: []kmsg.OffsetCommitRequestTopicPartition{p}}}
	return r
}

func (s *S) describeGroup(label, group string) {
	r := kmsg.NewPtrDescribeGroupsRequest()
	r.Groups = []string{group}
	s.start(options{on: "describe", edit: s.sortDescribed}, label, 6, r).get()
}

// sortDescribed orders members, which come from a hash map, by what the scenario knows of them.
func (s *S) sortDescribed(r kmsg.Response) {
	describedKey := func(m kmsg.DescribeGroupsResponseGroupMember) string {
		return s.symbols.names["member\x00"+m.MemberID]
	}
	for _, g := range r.(*kmsg.DescribeGroupsResponse).Groups {
		for i := range g.Members {
			for j := i; j > 0 && describedKey(g.Members[j]) < describedKey(g.Members[j-1]); j-- {
				g.Members[j], g.Members[j-1] = g.Members[j-1], g.Members[j]
			}
		}
	}
}

func joinGroup(s *S, v int16) {
	m := s.member(s.named("g"), "a", v)
	m.join("first")
	m.sync("first")
	m.beat("first")
	m.join("again")
	m.sync("again")
	bad := func(label string, edit func(*kmsg.JoinGroupRequest)) {
		r := m.request()
		edit(r)
		s.start(options{on: "bad", edit: sortMembers}, label, v, r).get()
	}
	bad("empty group", func(r *kmsg.JoinGroupRequest) { r.Group = "" })
	bad("short session", func(r *kmsg.JoinGroupRequest) { r.SessionTimeoutMillis = 5999 })
	bad("long session", func(r *kmsg.JoinGroupRequest) { r.SessionTimeoutMillis = 1_800_001 })
	bad("negative session", func(r *kmsg.JoinGroupRequest) { r.SessionTimeoutMillis = -1 })
	bad("unknown member", func(r *kmsg.JoinGroupRequest) { r.MemberID = "nobody" })
	bad("unknown member of an unknown group", func(r *kmsg.JoinGroupRequest) { r.Group, r.MemberID = s.named("none"), "nobody" })
	bad("other protocol type", func(r *kmsg.JoinGroupRequest) { r.MemberID, r.ProtocolType = "", "connect" })
	bad("empty protocol type", func(r *kmsg.JoinGroupRequest) { r.MemberID, r.ProtocolType = "", "" })
	bad("other protocol", func(r *kmsg.JoinGroupRequest) { r.MemberID = ""; r.Protocols[0].Name = "other" })
	bad("no protocols", func(r *kmsg.JoinGroupRequest) { r.MemberID, r.Protocols = "", nil })
	bad("no protocols in a new group", func(r *kmsg.JoinGroupRequest) { r.Group, r.MemberID, r.Protocols = s.named("n2"), "", nil })
	bad("no protocol type in a new group", func(r *kmsg.JoinGroupRequest) { r.Group, r.MemberID, r.ProtocolType = s.named("n3"), "", "" })
	m.leave("last")
	s.describeGroup("afterwards", m.group)
}

func syncGroup(s *S, v int16) {
	m := s.member(s.named("g"), "a", 5)
	m.join("first")
	sync := func(label string, edit func(*kmsg.SyncGroupRequest)) {
		r := m.syncRequest()
		if edit != nil {
			edit(r)
		}
		s.start(options{on: "a"}, label, v, r).get()
	}
	if v >= 5 {
		sync("other type", func(r *kmsg.SyncGroupRequest) { r.ProtocolType = pointer("other") })
		sync("other protocol", func(r *kmsg.SyncGroupRequest) { r.Protocol = pointer("other") })
		sync("no protocol", func(r *kmsg.SyncGroupRequest) { r.ProtocolType, r.Protocol = nil, nil })
	}
	sync("old generation", func(r *kmsg.SyncGroupRequest) { r.Generation-- })
	sync("future generation", func(r *kmsg.SyncGroupRequest) { r.Generation += 5 })
	sync("unknown member", func(r *kmsg.SyncGroupRequest) { r.MemberID = "nobody" })
	sync("empty member", func(r *kmsg.SyncGroupRequest) { r.MemberID = "" })
	sync("unknown group", func(r *kmsg.SyncGroupRequest) { r.Group = s.named("none") })
	sync("empty group", func(r *kmsg.SyncGroupRequest) { r.Group = "" })
	m.others = []string{m.id}
	m.leader = true
	sync("good", nil)
	sync("again", nil)
	sync("again with another assignment", func(r *kmsg.SyncGroupRequest) { r.GroupAssignment[0].MemberAssignment = []byte("other") })
	m.join("second generation")
	sync("assignment of strangers", func(r *kmsg.SyncGroupRequest) { r.GroupAssignment[0].MemberID = "stranger" })
	sync("what is assigned", nil)
	m.join("third generation")
	sync("no assignment", func(r *kmsg.SyncGroupRequest) { r.GroupAssignment = nil })
	s.describeGroup("afterwards", m.group)
}

func heartbeat(s *S, v int16) {
	m := s.member(s.named("g"), "a", 5)
	beat := func(label string, edit func(*kmsg.HeartbeatRequest)) {
		r := kmsg.NewPtrHeartbeatRequest()
		r.Group, r.Generation, r.MemberID = m.group, m.generation, m.id
		if edit != nil {
			edit(r)
		}
		s.do(label, v, r)
	}
	beat("no group", nil)
	m.join("first")
	beat("completing", nil)
	m.sync("first")
	beat("stable", nil)
	beat("old generation", func(r *kmsg.HeartbeatRequest) { r.Generation-- })
	beat("future generation", func(r *kmsg.HeartbeatRequest) { r.Generation++ })
	beat("negative generation", func(r *kmsg.HeartbeatRequest) { r.Generation = -1 })
	beat("unknown member", func(r *kmsg.HeartbeatRequest) { r.MemberID = "nobody" })
	beat("empty member", func(r *kmsg.HeartbeatRequest) { r.MemberID = "" })
	beat("empty group", func(r *kmsg.HeartbeatRequest) { r.Group = "" })
	if v >= 3 {
		beat("instance of nobody", func(r *kmsg.HeartbeatRequest) { r.InstanceID = pointer("i") })
	}
	m.leave("last")
	beat("empty", nil)
}

func leaveGroup(s *S, v int16) {
	m := s.member(s.named("g"), "a", 5)
	m.join("first")
	m.sync("first")
	leave := func(label, group, id string, instance *string) {
		r := kmsg.NewPtrLeaveGroupRequest()
		r.Group, r.MemberID = group, id
		r.Members = []kmsg.LeaveGroupRequestMember{{MemberID: id, InstanceID: instance}}
		s.do(label, v, r)
	}
	leave("unknown member", m.group, "nobody", nil)
	leave("unknown group", s.named("none"), "nobody", nil)
	leave("empty group", "", "nobody", nil)
	leave("empty member", m.group, "", nil)
	if v >= 3 {
		leave("unknown instance", m.group, "", pointer("i"))
		leave("unknown instance with the member", m.group, m.id, pointer("i"))
		r := kmsg.NewPtrLeaveGroupRequest()
		r.Group = m.group
		s.do("nobody", v, r)
		r.Members = []kmsg.LeaveGroupRequestMember{{MemberID: "x"}, {MemberID: m.id}, {MemberID: m.id}}
		s.do("several", v, r)
		m.id = ""
		m.join("again")
		m.sync("again")
	}
	leave("good", m.group, m.id, nil)
	leave("twice", m.group, m.id, nil)
	s.describeGroup("afterwards", m.group)
}

func describeGroups(s *S, v int16) {
	m := s.member(s.named("g"), "a", 5)
	simple := s.named("simple")
	t := s.create("t", 1)
	describe := func(label string, groups ...string) {
		r := kmsg.NewPtrDescribeGroupsRequest()
		r.Groups = groups
		s.do(label, v, r)
		if v >= 3 {
			r.IncludeAuthorizedOperations = true
			s.do(label+", with operations", v, r)
		}
	}
	describe("unknown", s.named("none"))
	m.join("first")
	describe("completing", m.group)
	m.sync("first")
	describe("stable", m.group)
	o := s.member(simple, "o", 5)
	s.do("simple commit", 8, o.commitRequest(t, 0, 1))
	describe("several", m.group, s.named("none"), m.group, simple)
	describe("none")
	m.leave("last")
	describe("empty", m.group)
}

func listGroups(s *S, v int16) {
	m, e := s.member(s.named("g"), "a", 5), s.member(s.named("e"), "b", 5)
	t := s.create("t", 1)
	m.join("first")
	e.join("first")
	e.leave("last")
	s.do("simple commit", 8, s.member(s.named("simple"), "c", 5).commitRequest(t, 0, 1))
	mine := func(r kmsg.Response) {
		answer := r.(*kmsg.ListGroupsResponse)
		var kept []kmsg.ListGroupsResponseGroup
		for _, g := range answer.Groups {
			if strings.HasPrefix(g.Group, s.named("")) {
				kept = append(kept, g)
			}
		}
		answer.Groups = kept
	}
	list := func(label string, states, types []string) {
		r := kmsg.NewPtrListGroupsRequest()
		r.StatesFilter, r.TypesFilter = states, types
		s.start(options{edit: mine}, label, v, r).get()
	}
	list("all, one completing", nil, nil)
	m.sync("first")
	list("all", nil, nil)
	if v >= 4 {
		for _, states := range [][]string{{"Stable"}, {"stable"}, {"Empty"}, {"Empty", "Stable"}, {"Dead"}, {"nonsense"}, {""}} {
			list(fmt.Sprint("states ", states), states, nil)
		}
	}
	if v >= 5 {
		for _, types := range [][]string{{"classic"}, {"Classic"}, {"consumer"}, {"share"}, {"streams"}, {"nonsense"}, {"classic", "nonsense"}, {""}} {
			list(fmt.Sprint("types ", types), nil, types)
		}
		list("both", []string{"Stable"}, []string{"classic"})
	}
}

func deleteGroups(s *S, v int16) {
	m := s.member(s.named("g"), "a", 5)
	t := s.create("t", 1)
	m.join("first")
	m.sync("first")
	remove := func(label string, groups ...string) {
		r := kmsg.NewPtrDeleteGroupsRequest()
		r.Groups = groups
		s.do(label, v, r)
	}
	remove("stable", m.group)
	remove("unknown", s.named("none"))
	remove("none")
	m.leave("last")
	remove("twice", m.group, m.group)
	remove("again", m.group)
	simple := s.member(s.named("simple"), "b", 5)
	s.do("simple commit", 8, simple.commitRequest(t, 0, 1))
	remove("several", simple.group, s.named("none"))
	s.describeGroup("afterwards", m.group)
}
