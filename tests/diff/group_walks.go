package main

import (
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// two joins a second member to a stable group of one: both end in one generation.
func (s *S) two() (a, b *member) {
	g := s.named("g")
	a, b = s.member(g, "a", 9), s.member(g, "b", 9)
	a.join("first")
	a.sync("first")
	b.finish(b.startJoin("asks for an id"))
	p := b.startJoin("joins")
	p.waits("while the other has not rejoined", 100*time.Millisecond)
	a.beat("is told to rejoin")
	a.join("rejoins")
	b.finish(p)
	return a, b
}

func (s *S) twoStable() (a, b *member) {
	a, b = s.two()
	p := b.startSync("syncs before the leader")
	p.waits("before the leader", 100*time.Millisecond)
	a.sync("assigns")
	p.get()
	return a, b
}

func rebalance(s *S) {
	a, b := s.two()
	s.describeGroup("completing", a.group)
	b.beat("while completing")
	b.commit("while completing", 5)
	p := b.startSync("syncs before the leader")
	a.sync("assigns")
	p.get()
	s.describeGroup("stable", a.group)
	a.beat("stable")
	b.beat("stable")
	b.sync("again")
	b.generation--
	b.beat("old generation")
	b.sync("old generation")
	b.commit("old generation", 5)
	b.generation++
	b.commit("of the generation", 7)
	p = a.startJoin("starts a rebalance")
	p.waits("while the other is away", 100*time.Millisecond)
	s.describeGroup("preparing", a.group)
	b.beat("preparing")
	b.sync("preparing")
	b.commit("preparing", 8)
	b.join("rejoins")
	a.finish(p)
	s.describeGroup("completing again", a.group)
	b.join("joins again while completing")
	p = b.startSync("syncs")
	a.sync("assigns")
	p.get()
	b.leave("leaves")
	a.beat("after the leave")
	a.join("alone")
	a.sync("alone")
	s.describeGroup("one", a.group)
}

func leaderLeaves(s *S) {
	a, b := s.twoStable()
	a.leave("leaves")
	a.beat("has left")
	b.beat("is told")
	b.join("becomes the leader")
	b.sync("assigns")
	a.id = ""
	a.finish(a.startJoin("asks for an id"))
	p := a.startJoin("comes back")
	b.join("rejoins")
	a.finish(p)
	p = a.startSync("syncs")
	b.leave("leaves while completing")
	p.get()
	a.join("alone")
	a.sync("alone")
}

func followerRejoins(s *S) {
	a, b := s.twoStable()
	b.join("rejoins with the same metadata")
	a.beat("not disturbed")
	b.sync("gets the same")
	b.metadata = "changed"
	p := b.startJoin("rejoins with other metadata")
	a.beat("is told")
	a.join("rejoins")
	b.finish(p)
	p = b.startSync("syncs")
	a.sync("assigns")
	p.get()
	s.describeGroup("afterwards", a.group)
}

func sessionExpires(s *S) {
	g := s.named("g")
	a, b := s.member(g, "a", 9), s.member(g, "b", 9)
	a.session, b.session = 6000, 30_000
	b.join("first")
	b.sync("first")
	a.finish(a.startJoin("asks for an id"))
	p := a.startJoin("joins")
	b.join("rejoins")
	a.finish(p)
	p = a.startSync("syncs")
	b.sync("assigns")
	p.get()
	sleep(3000)
	b.beat("before the expiry")
	sleep(4500)
	b.beat("after the expiry")
	a.beat("expired")
	s.describeGroup("afterwards", g)
	b.join("alone")
	b.sync("alone")
}

func rebalanceTimeout(s *S) {
	a, b := s.twoStable()
	p := a.startJoin("rejoins alone")
	p.waits("at first", 1500*time.Millisecond)
	a.finish(p)
	b.beat("thrown out")
	b.join("thrown out")
	a.sync("alone")
	s.describeGroup("afterwards", a.group)
}

func protocols(s *S) {
	g := s.named("g")
	a, b, c := s.member(g, "a", 9), s.member(g, "b", 9), s.member(g, "c", 9)
	a.protocols, b.protocols, c.protocols = []string{"x", "y", "z"}, []string{"z", "y"}, []string{"w"}
	a.join("first")
	a.sync("first")
	c.join("nothing in common")
	b.finish(b.startJoin("asks for an id"))
	p := b.startJoin("joins")
	a.join("votes")
	b.finish(p)
	s.describeGroup("completing", g)
	a.protocols = []string{"y"}
	p = a.startJoin("gives up two")
	b.join("votes")
	a.finish(p)
	a.protocols = []string{"w"}
	p = a.startJoin("nothing in common with the other")
	a.finish(p)
	s.describeGroup("afterwards", g)
}

func staticMembers(s *S) {
	g := s.named("g")
	a, b, thief := s.member(g, "a", 9), s.member(g, "b", 9), s.member(g, "thief", 9)
	a.instance, b.instance, thief.instance = pointer("i-a"), pointer("i-b"), pointer("i-b")
	a.join("first")
	a.sync("first")
	p := b.startJoin("joins")
	a.join("rejoins")
	b.finish(p)
	p = b.startSync("syncs")
	a.sync("assigns")
	p.get()
	s.describeGroup("stable", g)
	back := *b
	back.id = ""
	back.join("comes back, same metadata")
	back.sync("gets its assignment")
	back.beat("is alive")
	a.beat("not disturbed")
	b.beat("fenced")
	b.sync("fenced")
	b.commit("fenced", 5)
	b.join("fenced")
	b.leave("fenced")
	thief.metadata = "changed"
	p = thief.startJoin("takes over, other metadata")
	a.beat("is told")
	a.join("rejoins")
	thief.finish(p)
	back.beat("fenced too")
	p = thief.startSync("syncs")
	a.sync("assigns")
	p.get()
	leader := *a
	leader.id = ""
	leader.join("leader comes back")
	leader.sync("leader syncs")
	leader.beat("leader is alive")
	r := kmsg.NewPtrLeaveGroupRequest()
	r.Group = g
	r.Members = []kmsg.LeaveGroupRequestMember{{InstanceID: pointer("i-b")}, {InstanceID: pointer("i-none")}, {MemberID: "x", InstanceID: pointer("i-a")}}
	s.start(options{on: "admin"}, "removed by instance", 5, r).get()
	leader.beat("is told")
	leader.join("alone")
	leader.sync("alone")
	s.describeGroup("afterwards", g)
	nobody := s.member(g, "nobody", 4)
	nobody.join("dynamic beside static")
}

func staticExpiry(s *S) {
	g := s.named("g")
	a := s.member(g, "a", 9)
	a.instance, a.session = pointer("i-a"), 6000
	a.join("first")
	a.sync("first")
	s.drop("a")
	sleep(2000)
	s.describeGroup("connection gone", g)
	sleep(6000)
	s.describeGroup("expired", g)
	a.join("with the old id")
	a.id = ""
	a.join("new")
}

func cooperative(s *S) {
	g := s.named("g")
	a, b := s.member(g, "a", 9), s.member(g, "b", 9)
	a.protocols, b.protocols = []string{"cooperative-sticky"}, []string{"cooperative-sticky"}
	a.join("first")
	a.sync("first")
	b.finish(b.startJoin("asks for an id"))
	p := b.startJoin("joins")
	a.commit("while preparing", 3)
	a.beat("is told")
	a.metadata = "a owns less"
	a.join("gives up")
	b.finish(p)
	q := b.startSync("syncs")
	a.sync("assigns")
	q.get()
	p = a.startJoin("second round")
	b.beat("is told")
	b.commit("while preparing", 4)
	b.join("second round")
	a.finish(p)
	q = b.startSync("syncs")
	a.sync("assigns")
	q.get()
	s.describeGroup("afterwards", g)
}

// syncExpires: the leader never assigns; the rebalance time-out ends it.
func syncExpires(s *S) {
	a, b := s.two()
	p := b.startSync("waits for the leader")
	p.waits("at first", time.Second)
	p.get()
	a.beat("afterwards")
	s.describeGroup("afterwards", a.group)
}

func emptyAndDead(s *S) {
	t := s.create("t", 2)
	a := s.member(s.named("g"), "a", 9)
	a.join("first")
	a.sync("first")
	s.do("commit", 8, a.commitRequest(t, 0, 42))
	a.leave("leaves")
	s.describeGroup("empty", a.group)
	s.do("commit of a member that left", 8, a.commitRequest(t, 0, 43))
	nobody := s.member(a.group, "n", 9)
	s.do("simple commit into an empty group", 8, nobody.commitRequest(t, 1, 44))
	s.do("offsets", 8, fetchOffsets(a.group))
	a.id = ""
	a.join("again")
	s.do("simple commit into a group with members", 8, nobody.commitRequest(t, 1, 45))
	a.sync("again")
	s.do("offsets", 8, fetchOffsets(a.group))
	a.leave("leaves again")
	r := kmsg.NewPtrDeleteGroupsRequest()
	r.Groups = []string{a.group}
	s.do("delete", 2, r)
	s.describeGroup("dead", a.group)
	s.do("offsets", 8, fetchOffsets(a.group))
	a.beat("dead")
	a.join("dead")
	a.sync("dead")
	a.leave("dead")
	s.do("commit into a dead group", 8, a.commitRequest(t, 0, 46))
}

func fetchOffsets(group string) *kmsg.OffsetFetchRequest {
	r := kmsg.NewPtrOffsetFetchRequest()
	r.Group = group
	r.Groups = []kmsg.OffsetFetchRequestGroup{{Group: group, MemberEpoch: -1}}
	return r
}
