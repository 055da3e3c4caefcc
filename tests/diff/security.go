package main

import (
	"fmt"
	"strings"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// securityScenarios: what a broker without SASL, ACLs, quotas and tokens says when it is asked for them; and two requests of
// administrators that have nothing to do on one broker with one directory.
func securityScenarios() []scenario {
	out := forVersions("describe-acls", 29, describeACLs)
	out = append(out, forVersions("create-acls", 30, createACLs)...)
	out = append(out, forVersions("delete-acls", 31, deleteACLs)...)
	out = append(out, forVersions("sasl-handshake", 17, saslHandshake)...)
	out = append(out, forVersions("sasl-authenticate", 36, saslAuthenticate)...)
	out = append(out, forVersions("create-delegation-token", 38, createToken)...)
	out = append(out, forVersions("renew-delegation-token", 39, renewToken)...)
	out = append(out, forVersions("expire-delegation-token", 40, expireToken)...)
	out = append(out, forVersions("describe-delegation-token", 41, describeToken)...)
	out = append(out, forVersions("describe-client-quotas", 48, describeQuotas)...)
	out = append(out, forVersions("describe-scram", 50, describeScram)...)
	out = append(out, forVersions("unregister-broker", 64, unregisterBroker)...)
	return append(out, forVersions("alter-replica-log-dirs", 34, alterReplicaLogDirs)...)
}

// goesOn says that the connection is as good as before.
func (s *S) goesOn(label string) {
	s.do(label+", the request after it", 12, topicsOf(s.named("missing")))
}

func describeACLs(s *S, v int16) {
	ask := func(label string, edit func(*kmsg.DescribeACLsRequest)) {
		r := kmsg.NewPtrDescribeACLsRequest()
		r.ResourceType, r.ResourcePatternType, r.Operation, r.PermissionType = 1, 1, 1, 1
		if edit != nil {
			edit(r)
		}
		s.do(label, v, r)
	}
	ask("any", nil)
	ask("of a topic", func(r *kmsg.DescribeACLsRequest) {
		r.ResourceType, r.ResourcePatternType, r.ResourceName = 2, 3, pointer(s.named("t"))
	})
	ask("of a user", func(r *kmsg.DescribeACLsRequest) { r.Principal, r.Host = pointer("User:someone"), pointer("*") })
	ask("of a principal that is none", func(r *kmsg.DescribeACLsRequest) { r.Principal = pointer("someone") })
	for _, kind := range []kmsg.ACLResourceType{0, 99, -1} {
		ask(fmt.Sprint("resource type ", int8(kind)), func(r *kmsg.DescribeACLsRequest) { r.ResourceType = kind })
		s.goesOn(fmt.Sprint("resource type ", int8(kind)))
	}
	for _, kind := range []kmsg.ACLResourcePatternType{0, 99} {
		ask(fmt.Sprint("pattern type ", int8(kind)), func(r *kmsg.DescribeACLsRequest) { r.ResourcePatternType = kind })
		s.goesOn(fmt.Sprint("pattern type ", int8(kind)))
	}
	ask("operation that is none", func(r *kmsg.DescribeACLsRequest) { r.Operation = 99 })
	ask("permission that is none", func(r *kmsg.DescribeACLsRequest) { r.PermissionType = 99 })
}

func createACLs(s *S, v int16) {
	rule := func(edit func(*kmsg.CreateACLsRequestCreation)) kmsg.CreateACLsRequestCreation {
		c := kmsg.NewCreateACLsRequestCreation()
		c.ResourceType, c.ResourceName, c.ResourcePatternType = 2, s.named("t"), 3
		c.Principal, c.Host, c.Operation, c.PermissionType = "User:someone", "*", 3, 3
		if edit != nil {
			edit(&c)
		}
		return c
	}
	ask := func(label string, rules ...kmsg.CreateACLsRequestCreation) {
		r := kmsg.NewPtrCreateACLsRequest()
		r.Creations = rules
		s.do(label, v, r)
	}
	ask("one", rule(nil))
	ask("three", rule(nil), rule(nil), rule(func(c *kmsg.CreateACLsRequestCreation) { c.Operation = 4 }))
	ask("none")
	ask("empty name", rule(func(c *kmsg.CreateACLsRequestCreation) { c.ResourceName = "" }))
	ask("cluster of another name", rule(func(c *kmsg.CreateACLsRequestCreation) { c.ResourceType = 4 }))
	ask("principal that is none", rule(func(c *kmsg.CreateACLsRequestCreation) { c.Principal = "someone" }))
	for _, kind := range []int8{0, 1, 99} {
		ask(fmt.Sprint("resource type ", kind), rule(func(c *kmsg.CreateACLsRequestCreation) { c.ResourceType = kmsg.ACLResourceType(kind) }))
		ask(fmt.Sprint("pattern type ", kind), rule(func(c *kmsg.CreateACLsRequestCreation) { c.ResourcePatternType = kmsg.ACLResourcePatternType(kind) }))
		ask(fmt.Sprint("operation ", kind), rule(func(c *kmsg.CreateACLsRequestCreation) { c.Operation = kmsg.ACLOperation(kind) }))
		ask(fmt.Sprint("permission ", kind), rule(func(c *kmsg.CreateACLsRequestCreation) { c.PermissionType = kmsg.ACLPermissionType(kind) }))
		s.goesOn(fmt.Sprint("after ", kind))
	}
}

func deleteACLs(s *S, v int16) {
	filter := func(edit func(*kmsg.DeleteACLsRequestFilter)) kmsg.DeleteACLsRequestFilter {
		f := kmsg.NewDeleteACLsRequestFilter()
		f.ResourceType, f.ResourceName, f.ResourcePatternType, f.Operation, f.PermissionType = 2, pointer(s.named("t")), 3, 1, 1
		if edit != nil {
			edit(&f)
		}
		return f
	}
	ask := func(label string, filters ...kmsg.DeleteACLsRequestFilter) {
		r := kmsg.NewPtrDeleteACLsRequest()
		r.Filters = filters
		s.do(label, v, r)
	}
	ask("one", filter(nil))
	ask("two", filter(nil), filter(func(f *kmsg.DeleteACLsRequestFilter) { f.ResourceName = nil }))
	ask("none")
	for _, kind := range []int8{0, 99} {
		ask(fmt.Sprint("resource type ", kind), filter(func(f *kmsg.DeleteACLsRequestFilter) { f.ResourceType = kmsg.ACLResourceType(kind) }))
		ask(fmt.Sprint("pattern type ", kind), filter(func(f *kmsg.DeleteACLsRequestFilter) { f.ResourcePatternType = kmsg.ACLResourcePatternType(kind) }))
		ask(fmt.Sprint("operation ", kind), filter(func(f *kmsg.DeleteACLsRequestFilter) { f.Operation = kmsg.ACLOperation(kind) }))
		s.goesOn(fmt.Sprint("after ", kind))
	}
}

func saslHandshake(s *S, v int16) {
	for _, mechanism := range []string{"PLAIN", "SCRAM-SHA-512", "GSSAPI", "", "none such"} {
		s.do(fmt.Sprintf("mechanism %q", mechanism), v, &kmsg.SASLHandshakeRequest{Mechanism: mechanism})
		s.goesOn(mechanism)
	}
}

func saslAuthenticate(s *S, v int16) {
	for _, token := range [][]byte{[]byte("\x00user\x00password"), {}, make([]byte, 5000)} {
		s.do(fmt.Sprint("bytes ", len(token)), v, &kmsg.SASLAuthenticateRequest{SASLAuthBytes: token})
		s.goesOn(fmt.Sprint("bytes ", len(token)))
	}
}

func createToken(s *S, v int16) {
	ask := func(label string, edit func(*kmsg.CreateDelegationTokenRequest)) {
		r := kmsg.NewPtrCreateDelegationTokenRequest()
		r.MaxLifetimeMillis = -1
		if edit != nil {
			edit(r)
		}
		s.do(label, v, r)
	}
	ask("own", nil)
	ask("renewed by another", func(r *kmsg.CreateDelegationTokenRequest) {
		r.Renewers = []kmsg.CreateDelegationTokenRequestRenewer{{PrincipalType: "User", PrincipalName: "someone"}}
	})
	ask("renewed by what is none", func(r *kmsg.CreateDelegationTokenRequest) {
		r.Renewers = []kmsg.CreateDelegationTokenRequestRenewer{{PrincipalType: "Group", PrincipalName: "someone"}}
	})
	ask("lifetime", func(r *kmsg.CreateDelegationTokenRequest) { r.MaxLifetimeMillis = -7 })
	if v >= 3 {
		own := func(kind, name *string) func(*kmsg.CreateDelegationTokenRequest) {
			return func(r *kmsg.CreateDelegationTokenRequest) { r.OwnerPrincipalType, r.OwnerPrincipalName = kind, name }
		}
		ask("another's", own(pointer("User"), pointer("someone")))
		ask("another's of an odd type", own(pointer("Group"), pointer("someone")))
		ask("another's without a name", own(pointer("User"), pointer("")))
		ask("another's without a type", own(pointer(""), pointer("someone")))
	}
}

func renewToken(s *S, v int16) {
	for _, hmac := range []string{"", "hmac"} {
		s.do(fmt.Sprintf("token %q", hmac), v, &kmsg.RenewDelegationTokenRequest{HMAC: []byte(hmac), RenewTimeMillis: -1})
	}
}

func expireToken(s *S, v int16) {
	for _, hmac := range []string{"", "hmac"} {
		s.do(fmt.Sprintf("token %q", hmac), v, &kmsg.ExpireDelegationTokenRequest{HMAC: []byte(hmac), ExpiryPeriodMillis: -1})
	}
}

func describeToken(s *S, v int16) {
	s.do("all", v, kmsg.NewPtrDescribeDelegationTokenRequest())
	s.do("none", v, &kmsg.DescribeDelegationTokenRequest{Owners: []kmsg.DescribeDelegationTokenRequestOwner{}})
	s.do("one", v, &kmsg.DescribeDelegationTokenRequest{Owners: []kmsg.DescribeDelegationTokenRequestOwner{{PrincipalType: "User", PrincipalName: "someone"}}})
}

func describeQuotas(s *S, v int16) {
	type component = kmsg.DescribeClientQuotasRequestComponent
	of := func(kind string, match int8, name *string) component {
		return component{EntityType: kind, MatchType: kmsg.QuotasMatchType(match), Match: name}
	}
	ask := func(label string, components ...component) {
		for _, strict := range []bool{false, true} {
			r := kmsg.NewPtrDescribeClientQuotasRequest()
			r.Components, r.Strict = components, strict
			s.do(label+map[bool]string{true: ", strict"}[strict], v, r)
		}
	}
	x := pointer("x")
	ask("all")
	for _, kind := range []string{"user", "client-id", "ip", "", "group", "USER"} {
		ask("exactly a "+kind, of(kind, 0, x))
		ask("exactly null of "+kind, of(kind, 0, nil))
		ask("default of "+kind, of(kind, 1, nil))
		ask("default with a name of "+kind, of(kind, 1, x))
		ask("any "+kind, of(kind, 2, nil))
		ask("any with a name of "+kind, of(kind, 2, x))
		ask("match that is none of "+kind, of(kind, 3, nil))
		ask("match below of "+kind, of(kind, -1, x))
	}
	ask("user and client", of("user", 2, nil), of("client-id", 0, x))
	ask("user twice", of("user", 2, nil), of("user", 0, x))
	ask("ip and user", of("ip", 2, nil), of("user", 0, x))
	ask("ip and client", of("client-id", 1, nil), of("ip", 0, x))
	ask("ip twice", of("ip", 2, nil), of("ip", 2, nil))
}

func describeScram(s *S, v int16) {
	ask := func(label string, names ...string) {
		r := kmsg.NewPtrDescribeUserSCRAMCredentialsRequest()
		for _, name := range names {
			r.Users = append(r.Users, kmsg.DescribeUserSCRAMCredentialsRequestUser{Name: name})
		}
		s.do(label, v, r)
	}
	ask("all")
	s.do("empty", v, &kmsg.DescribeUserSCRAMCredentialsRequest{Users: []kmsg.DescribeUserSCRAMCredentialsRequestUser{}})
	ask("one", "someone")
	ask("two", "b", "a")
	ask("twice", "someone", "someone", "other")
	ask("without a name", "")
}

func unregisterBroker(s *S, v int16) {
	for _, id := range []int32{99, -1, 2147483647} {
		s.do(fmt.Sprint("broker ", id), v, &kmsg.UnregisterBrokerRequest{BrokerID: id})
	}
}

func alterReplicaLogDirs(s *S, v int16) {
	t := s.log("t", 2)
	all := kmsg.NewPtrDescribeLogDirsRequest()
	dir := quiet[*kmsg.DescribeLogDirsResponse](s, 4, all).Dirs[0].Dir
	type topicRow = kmsg.AlterReplicaLogDirsRequestDirTopic
	to := func(path string, topics ...topicRow) kmsg.AlterReplicaLogDirsRequestDir {
		return kmsg.AlterReplicaLogDirsRequestDir{Dir: path, Topics: topics}
	}
	of := func(topic string, partitions ...int32) topicRow {
		return topicRow{Topic: topic, Partitions: partitions}
	}
	move := func(label string, dirs ...kmsg.AlterReplicaLogDirsRequestDir) {
		s.do(label, v, &kmsg.AlterReplicaLogDirsRequest{Dirs: dirs})
	}
	move("where they are", to(dir, of(t, 0, 1)))
	move("where they are, again", to(dir, of(t, 0)))
	move("nowhere", to("/no/such/folder", of(t, 0, 1)))
	move("nowhere, relative", to("folder", of(t, 0)))
	move("nowhere, empty", to("", of(t, 0)))
	move("unknown partition", to(dir, of(t, 7, -1)))
	move("unknown partition nowhere", to("/no/such/folder", of(t, 7)))
	move("missing", to(dir, of(s.named("missing"), 0)))
	for _, name := range badNames {
		move("bad name", to(dir, of(name, 0)))
	}
	for _, n := range []int{212, 213, 214, 215} {
		move(fmt.Sprint("a name of ", n), to(dir, of(strings.Repeat("x", n), 0, 10)))
	}
	move("no partitions", to(dir, of(t)))
	move("no topics", to(dir))
	move("nothing")
	move("both", to("/no/such/folder", of(t, 0)), to(dir, of(t, 0)))
	s.do("afterwards", 12, topicsOf(t))
}
