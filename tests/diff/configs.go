package main

import (
	"fmt"
	"strings"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// configScenarios: DescribeConfigs, AlterConfigs, IncrementalAlterConfigs, ListConfigResources.
func configScenarios() []scenario {
	out := forVersions("describe-configs", 32, describeConfigs)
	out = append(out, forVersions("alter-configs", 33, alterConfigs)...)
	out = append(out, forVersions("incremental-alter-configs", 44, incrementalAlterConfigs)...)
	out = append(out, forVersions("list-config-resources", 74, listConfigResources)...)
	for _, name := range brokerConfigs {
		out = append(out, scenario{"broker-config/" + name, func(s *S) { brokerConfig(s, name) }})
	}
	for _, name := range sortedKeys(topicConfigs) {
		out = append(out, scenario{"topic-config/" + name, func(s *S) { topicConfig(s, name, topicConfigs[name]) }})
	}
	return append(out, scenario{"topic-config/names", topicConfigNames}, scenario{"topic-config/pairs", topicConfigPairs})
}

const (
	setOp      kmsg.IncrementalAlterConfigOp = 0
	deleteOp   kmsg.IncrementalAlterConfigOp = 1
	appendOp   kmsg.IncrementalAlterConfigOp = 2
	subtractOp kmsg.IncrementalAlterConfigOp = 3
)

// Values that every config is tried with; each has some of its own besides (topicConfigs).
var commonValues = []string{"", " ", "0", "1", "-1", "-2", "-3", "1.5", "true", "TRUE", "no", "x", "2147483647", "2147483648", "9223372036854775807", "9223372036854775808", " 7 ", "1e3", "+1", "0x10", "1_000", "-2147483649", "-9223372036854775809"}

// topicConfigs are all configs of a topic with values worth a try; the scenario topic-config/names says when one is missing.
var topicConfigs = map[string][]string{
	"cleanup.policy":                          {"delete", "compact", "compact,delete", "delete, compact", "delete,delete", "Delete", "compact,", ",", "compact,x", "none"},
	"compression.gzip.level":                  {"-1", "1", "9", "10", "0"},
	"compression.lz4.level":                   {"1", "17", "18", "0", "-1"},
	"compression.type":                        {"producer", "uncompressed", "gzip", "snappy", "lz4", "zstd", "none", "GZIP", "brotli"},
	"compression.zstd.level":                  {"-131072", "-131073", "22", "23", "0"},
	"delete.retention.ms":                     {"100"},
	"file.delete.delay.ms":                    {"100"},
	"flush.messages":                          {"100"},
	"flush.ms":                                {"100"},
	"follower.replication.throttled.replicas": {"*", "0:1", "0:1,1:1", "0:", ":1", "0:1,", "a:b", "none", "*,0:1", "0:1:2"},
	"index.interval.bytes":                    {"100"},
	"leader.replication.throttled.replicas":   {"*", "0:1", "0:1,1:1", "0-1", "none"},
	"local.retention.bytes":                   {"100", "1073741825"},
	"local.retention.ms":                      {"100", "604800001"},
	"max.compaction.lag.ms":                   {"100"},
	"max.message.bytes":                       {"100"},
	"message.timestamp.after.max.ms":          {"100"},
	"message.timestamp.before.max.ms":         {"100"},
	"message.timestamp.type":                  {"CreateTime", "LogAppendTime", "createtime", "NoTimestampType"},
	"min.cleanable.dirty.ratio":               {"0.0", "0.01", "1.0", "1.01", "-0.1", "NaN", ".5", "1e-3", "0,5"},
	"min.compaction.lag.ms":                   {"100"},
	"min.insync.replicas":                     {"2", "3"},
	"preallocate":                             {"false", "False", "yes"},
	"remote.log.copy.disable":                 {"false"},
	"remote.log.delete.on.disable":            {"false"},
	"remote.storage.enable":                   {"false"},
	"retention.bytes":                         {"100"},
	"retention.ms":                            {"100", "-2"},
	"segment.bytes":                           {"1048576", "1048575", "14", "1000000000"},
	"segment.index.bytes":                     {"3", "4", "100"},
	"segment.jitter.ms":                       {"100"},
	"segment.ms":                              {"100"},
	"unclean.leader.election.enable":          {"false"},
	// gone in 4.0, not there yet, or never
	"message.format.version":              {"3.0"},
	"message.downconversion.enable":       {"false"},
	"message.timestamp.difference.max.ms": {"100"},
	"remote.copy.lag.ms":                  {"100"},
	"remote.copy.lag.bytes":               {"100"},
	"errors.deadletterqueue.group.enable": {"false"},
	"no.such.config":                      {"100"},
	"Retention.ms":                        {"100"},
}

type configOp = kmsg.IncrementalAlterConfigsRequestResourceConfig

func change(kind kmsg.ConfigResourceType, name string, ops ...configOp) *kmsg.IncrementalAlterConfigsRequest {
	r := kmsg.NewPtrIncrementalAlterConfigsRequest()
	r.Resources = []kmsg.IncrementalAlterConfigsRequestResource{{ResourceType: kind, ResourceName: name, Configs: ops}}
	return r
}

func op(name string, kind kmsg.IncrementalAlterConfigOp, value *string) configOp {
	return configOp{Name: name, Op: kind, Value: value}
}

func describe(kind kmsg.ConfigResourceType, resource string, names ...string) *kmsg.DescribeConfigsRequest {
	r := kmsg.NewPtrDescribeConfigsRequest()
	r.Resources = []kmsg.DescribeConfigsRequestResource{{ResourceType: kind, ResourceName: resource, ConfigNames: names}}
	r.IncludeSynonyms = true
	return r
}

func topicConfig(s *S, name string, values []string) {
	t := s.create("t", 1)
	show := func(label string) { s.do(label, 4, describe(2, t, name)) }
	marker := s.create("marker", 1)
	show("default")
	alter := func(label string, ops ...configOp) {
		if s.changes(marker, label, 1, change(2, t, ops...)) {
			show(label + ", then")
		}
	}
	for _, value := range append(append([]string{}, values...), commonValues...) {
		label := fmt.Sprintf("set %q", value)
		alter(label, op(name, setOp, &value))
		r := kmsg.NewPtrAlterConfigsRequest()
		r.Resources = []kmsg.AlterConfigsRequestResource{{ResourceType: 2, ResourceName: t, Configs: []kmsg.AlterConfigsRequestResourceConfig{{Name: name, Value: &value}}}}
		r.ValidateOnly = true
		s.do("replace by "+label, 2, r)
		c := kmsg.NewPtrCreateTopicsRequest()
		c.TimeoutMillis, c.ValidateOnly = 10_000, true
		c.Topics = []newTopic{topic(s.named("new"), 1, 1, configured(name, &value))}
		s.start(options{edit: onlyConfig(name)}, "create with "+label, 7, c).get()
	}
	alter("null", op(name, setOp, nil))
	alter("delete", op(name, deleteOp, nil))
	alter("delete again", op(name, deleteOp, pointer("x")))
	good := values[0]
	for _, kind := range []kmsg.IncrementalAlterConfigOp{appendOp, subtractOp} {
		label := map[kmsg.IncrementalAlterConfigOp]string{appendOp: "append ", subtractOp: "subtract "}[kind]
		for _, value := range []*string{&good, pointer("compact"), pointer("compact,delete"), pointer(""), nil} {
			text := "null"
			if value != nil {
				text = *value
			}
			alter(label+text, op(name, kind, value))
		}
	}
	alter("an operation that is none", op(name, 4, &good))
	alter("twice", op(name, setOp, &good), op(name, setOp, &good))
	alter("set and delete", op(name, setOp, &good), op(name, deleteOp, nil))
}

// topicConfigNames ends where Kafka knows a config of topics that no scenario tries.
func topicConfigNames(s *S) {
	answer := call[*kmsg.DescribeConfigsResponse](s, "all", 4, describe(2, s.create("t", 1)))
	var missing []string
	for _, c := range answer.Resources[0].Configs {
		if _, listed := topicConfigs[c.Name]; !listed {
			missing = append(missing, c.Name)
		}
	}
	if len(missing) > 0 {
		s.abort("topicConfigs (configs.go) lacks %s", strings.Join(missing, ", "))
	}
}

// topicConfigPairs: configs of which one may not exceed the other, at least where a topic is tiered. They are made to contradict each
// other in one request, one after the other, and by taking away what a default replaces.
func topicConfigPairs(s *S) {
	marker := s.create("marker", 1)
	for i, pair := range [][2]string{
		{"min.compaction.lag.ms", "max.compaction.lag.ms"}, {"local.retention.ms", "retention.ms"}, {"local.retention.bytes", "retention.bytes"},
	} {
		t := s.create(fmt.Sprint("t", i), 1)
		low, high := pair[0], pair[1]
		set := func(name, value string) configOp { return op(name, setOp, &value) }
		alter := func(label string, ops ...configOp) {
			label = low + ": " + label
			s.changes(marker, label, 1, change(2, t, ops...))
			s.do(label+", then", 4, describe(2, t, low, high))
		}
		replace := func(label string, values ...string) {
			r := kmsg.NewPtrAlterConfigsRequest()
			r.Resources = []kmsg.AlterConfigsRequestResource{{ResourceType: 2, ResourceName: t}}
			for at, value := range values {
				r.Resources[0].Configs = append(r.Resources[0].Configs, kmsg.AlterConfigsRequestResourceConfig{Name: pair[at], Value: &value})
			}
			label = low + ": replace by " + label
			s.changes(marker, label, 2, r)
			s.do(label+", then", 4, describe(2, t, low, high))
		}
		for _, value := range []string{"2000", "1000"} {
			r := kmsg.NewPtrCreateTopicsRequest()
			r.TimeoutMillis = 10_000
			r.Topics = []newTopic{topic(s.named(fmt.Sprint("new", i, "-", value)), 1, 1, configured(low, &value), configured(high, pointer("1000")))}
			s.start(options{edit: onlyConfig("none")}, fmt.Sprintf("%s: create with %s", low, value), 7, r).get()
		}
		alter("both, contradicting", set(low, "2000"), set(high, "1000"))
		alter("both, equal", set(low, "1000"), set(high, "1000"))
		alter("raised above the other", set(low, "1001"))
		alter("the other lowered below it", set(high, "999"))
		alter("raised, the other deleted", set(low, "2000"), op(high, deleteOp, nil))
		alter("the other set below it", set(high, "1000"))
		alter("both, above the defaults", set(low, "700000000"), set(high, "800000000"))
		alter("the other deleted, so that its default counts", op(high, deleteOp, nil))
		alter("deleted", op(low, deleteOp, nil))
		replace("a contradiction", "2000", "1000")
		replace("equals", "1000", "1000")
		replace("one above the default of the other", "700000000")
	}
}

// changes compares the answer to a change. When anything was changed, it waits until describing sees it: what comes
// after it in Kafka's metadata log, a value of the marker topic, is then visible too.
func (s *S) changes(marker, label string, version int16, request kmsg.Request) bool {
	good := false
	switch answer := s.do(label, version, request).(type) {
	case *kmsg.IncrementalAlterConfigsResponse:
		for _, r := range answer.Resources {
			good = good || r.ErrorCode == 0
		}
	case *kmsg.AlterConfigsResponse:
		for _, r := range answer.Resources {
			good = good || r.ErrorCode == 0
		}
	}
	if !good {
		return false
	}
	s.count++
	want := fmt.Sprint(1_000_000 + s.count)
	quiet[*kmsg.IncrementalAlterConfigsResponse](s, 1, change(2, marker, op("retention.ms", setOp, &want)))
	for range tries {
		answer := quiet[*kmsg.DescribeConfigsResponse](s, 4, describe(2, marker, "retention.ms"))
		if *answer.Resources[0].Configs[0].Value == want {
			return true
		}
		sleep(20)
	}
	s.abort("%s: the change is not visible", label)
	return false
}

// onlyConfig keeps one config of a CreateTopics answer.
func onlyConfig(name string) func(kmsg.Response) {
	return func(r kmsg.Response) {
		for i, t := range r.(*kmsg.CreateTopicsResponse).Topics {
			var kept []kmsg.CreateTopicsResponseTopicConfig
			for _, c := range t.Configs {
				if c.Name == name {
					kept = append(kept, c)
				}
			}
			if t.Configs != nil && kept == nil {
				kept = []kmsg.CreateTopicsResponseTopicConfig{}
			}
			r.(*kmsg.CreateTopicsResponse).Topics[i].Configs = kept
		}
	}
}

func describeConfigs(s *S, v int16) {
	t := s.create("t", 1, "retention.ms", "5000", "cleanup.policy", "compact,delete")
	self := fmt.Sprint(s.broker.node)
	ask := func(label string, kind kmsg.ConfigResourceType, name string, synonyms, documentation bool, names ...string) {
		r := describe(kind, name, names...)
		r.IncludeSynonyms, r.IncludeDocumentation = synonyms, documentation
		s.do(label, v, r)
	}
	for _, synonyms := range []bool{false, true} {
		ask("all", 2, t, synonyms, false)
		ask("documented", 2, t, synonyms, true, "retention.ms", "min.insync.replicas", "compression.type")
		ask("some", 2, t, synonyms, false, "retention.ms", "no.such", "segment.bytes", "retention.ms")
	}
	r := describe(2, t)
	r.Resources[0].ConfigNames = []string{}
	s.do("empty list of names", v, r)
	s.do("no resources", v, kmsg.NewPtrDescribeConfigsRequest())
	ask("missing", 2, s.named("missing"), true, false)
	for _, name := range badNames {
		ask("bad name", 2, name, true, false)
	}
	ask("broker: no such", 4, self, true, false, "no.such")
	for _, name := range brokerConfigs {
		ask("broker: "+name, 4, self, true, false, name)
	}
	ask("other broker", 4, "77", true, false)
	ask("broker that is none", 4, "x", true, false)
	ask("cluster defaults", 4, "", true, false)
	ask("group", 32, s.named("g"), true, false)
	ask("group without a name", 32, "", true, false)
	for _, kind := range []kmsg.ConfigResourceType{0, 1, 3, 64, -1} {
		ask("kind that is none", kind, "x", true, false)
	}
	both := describe(2, t, "retention.ms")
	both.Resources = append(both.Resources, both.Resources[0], describe(2, s.named("missing")).Resources[0])
	s.do("twice", v, both)
}

// brokerConfigs are the names that the broker under test describes itself by.
var brokerConfigs []string

// brokerConfig checks, without changing anything, what may be set on a running broker.
func brokerConfig(s *S, name string) {
	self := fmt.Sprint(s.broker.node)
	for _, resource := range []string{self, ""} {
		for _, value := range []string{"1", "x", "-7", "", "0", "2147483648", "9223372036854775808", "1.5", "true"} {
			r := change(4, resource, op(name, setOp, &value))
			r.ValidateOnly = true
			s.do(fmt.Sprintf("%q set %q", resource, value), 1, r)
		}
		for _, kind := range []kmsg.IncrementalAlterConfigOp{deleteOp, appendOp} {
			r := change(4, resource, op(name, kind, pointer("delete")))
			r.ValidateOnly = true
			s.do(fmt.Sprintf("%q operation %d", resource, kind), 1, r)
		}
	}
}

func alterConfigs(s *S, v int16) {
	t, u := s.create("t", 1, "retention.ms", "5000"), s.create("u", 1)
	type row = kmsg.AlterConfigsRequestResourceConfig
	set := func(name string, value *string) row { return row{Name: name, Value: value} }
	marker := s.create("marker", 1)
	send := func(label string, validate bool, resources ...kmsg.AlterConfigsRequestResource) {
		r := kmsg.NewPtrAlterConfigsRequest()
		r.ValidateOnly, r.Resources = validate, resources
		s.changes(marker, label, v, r)
		s.do(label+", then", 4, describe(2, t, "retention.ms", "segment.ms", "cleanup.policy"))
	}
	of := func(kind kmsg.ConfigResourceType, name string, rows ...row) kmsg.AlterConfigsRequestResource {
		return kmsg.AlterConfigsRequestResource{ResourceType: kind, ResourceName: name, Configs: rows}
	}
	send("none", false)
	send("validate only", true, of(2, t, set("segment.ms", pointer("9999"))))
	send("replace", false, of(2, t, set("segment.ms", pointer("9999"))))
	send("null", false, of(2, t, set("segment.ms", nil)))
	send("nothing", false, of(2, t))
	send("bad value", false, of(2, t, set("segment.ms", pointer("x")), set("retention.ms", pointer("1"))))
	send("unknown", false, of(2, t, set("no.such", pointer("x"))))
	send("empty name", false, of(2, t, set("", pointer("x"))))
	send("twice a key", false, of(2, t, set("segment.ms", pointer("5")), set("segment.ms", pointer("6"))))
	if v == served[33].high {
		r := kmsg.NewPtrAlterConfigsRequest()
		r.Resources = []kmsg.AlterConfigsRequestResource{of(2, t, set("segment.ms", pointer("5"))), of(2, t, set("segment.ms", pointer("6")))}
		p := s.start(options{on: "twice"}, "twice a resource", v, r)
		p.neverFromKafka()
		p.get()
	}
	send("missing", false, of(2, s.named("missing"), set("segment.ms", pointer("5"))))
	send("bad name", false, of(2, "a b", set("segment.ms", pointer("5"))))
	send("good and bad", false, of(2, t, set("segment.ms", pointer("7"))), of(2, u, set("segment.ms", pointer("x"))))
	send("other broker", false, of(4, "77", set("log.retention.ms", pointer("5"))))
	send("broker that is none", false, of(4, "x", set("log.retention.ms", pointer("5"))))
	send("read-only of a broker", false, of(4, fmt.Sprint(s.broker.node), set("node.id", pointer("5"))))
	for _, kind := range []kmsg.ConfigResourceType{0, 1, 3, 64, -1} {
		send("kind that is none", false, of(kind, "x", set("a", pointer("5"))))
	}
	send("longest value", false, of(2, t, set("leader.replication.throttled.replicas", pointer(strings.Repeat("0:1,", 8191)+"0:1"))))
	if v >= 2 {
		send("too long value", false, of(2, t, set("leader.replication.throttled.replicas", pointer(strings.Repeat("0:1,", 8192)+"0:1"))))
	}
}

func incrementalAlterConfigs(s *S, v int16) {
	t, u := s.create("t", 1, "retention.ms", "5000"), s.create("u", 1)
	self := fmt.Sprint(s.broker.node)
	marker := s.create("marker", 1)
	send := func(label string, requests ...*kmsg.IncrementalAlterConfigsRequest) {
		all := kmsg.NewPtrIncrementalAlterConfigsRequest()
		for _, r := range requests {
			all.Resources = append(all.Resources, r.Resources...)
		}
		all.ValidateOnly = true
		s.changes(marker, label+", validate only", v, all)
		s.do(label+", validate only, then", 4, describe(2, t, "retention.ms", "segment.ms", "cleanup.policy"))
		all.ValidateOnly = false
		s.changes(marker, label, v, all)
		s.do(label+", then", 4, describe(2, t, "retention.ms", "segment.ms", "cleanup.policy"))
	}
	send("none")
	send("no ops", change(2, t))
	send("set two", change(2, t, op("segment.ms", setOp, pointer("5")), op("retention.ms", setOp, pointer("6"))))
	send("two nulls", change(2, t, op("segment.ms", setOp, nil), op("retention.ms", setOp, nil)))
	send("missing topic and bad value", change(2, s.named("missing"), op("segment.ms", setOp, pointer("x"))))
	send("good and bad", change(2, t, op("segment.ms", setOp, pointer("7")), op("retention.ms", setOp, pointer("x"))))
	send("good and bad topics", change(2, t, op("segment.ms", setOp, pointer("8"))), change(2, u, op("segment.ms", setOp, pointer("-8"))))
	send("twice a resource", change(2, t, op("segment.ms", setOp, pointer("9"))), change(2, t, op("retention.ms", setOp, pointer("9"))))
	send("append", change(2, t, op("cleanup.policy", appendOp, pointer("compact"))))
	send("append again", change(2, t, op("cleanup.policy", appendOp, pointer("compact"))))
	send("subtract", change(2, t, op("cleanup.policy", subtractOp, pointer("compact"))))
	send("subtract the last", change(2, t, op("cleanup.policy", subtractOp, pointer("delete"))))
	send("delete all", change(2, t, op("cleanup.policy", deleteOp, nil), op("segment.ms", deleteOp, nil), op("retention.ms", deleteOp, nil)))
	send("missing", change(2, s.named("missing"), op("segment.ms", setOp, pointer("5"))))
	send("bad name", change(2, "a b", op("segment.ms", setOp, pointer("5"))), change(2, "", op("segment.ms", setOp, pointer("5"))))
	send("other broker", change(4, "77", op("log.retention.ms", setOp, pointer("5"))))
	send("broker that is none", change(4, "x", op("log.retention.ms", setOp, pointer("5"))))
	send("read-only of a broker", change(4, self, op("node.id", setOp, pointer("5"))))
	send("unknown of a broker", change(4, self, op("no.such.config", setOp, pointer("5"))))
	for _, kind := range []kmsg.ConfigResourceType{0, 1, 3, 64, -1} {
		send("kind that is none", change(kind, "x", op("segment.ms", setOp, pointer("5"))))
	}
	g := s.named("g")
	send("group", change(32, g, op("consumer.session.timeout.ms", setOp, pointer("46000"))))
	s.do("group, then", 4, describe(32, g))
	send("group, bad", change(32, g, op("consumer.session.timeout.ms", setOp, pointer("1"))))
	send("group, text", change(32, g, op("consumer.session.timeout.ms", setOp, pointer("x"))))
	send("group, unknown", change(32, g, op("retention.ms", setOp, pointer("1"))))
	send("group, no name", change(32, "", op("consumer.session.timeout.ms", setOp, pointer("46000"))))
	send("group, heartbeat above session", change(32, g, op("consumer.heartbeat.interval.ms", setOp, pointer("15000"))))
	send("group, delete", change(32, g, op("consumer.session.timeout.ms", deleteOp, nil), op("consumer.heartbeat.interval.ms", deleteOp, nil)))
}

func listConfigResources(s *S, v int16) {
	g := s.named("g")
	quiet[*kmsg.IncrementalAlterConfigsResponse](s, 1, change(32, g, op("consumer.session.timeout.ms", setOp, pointer("46000"))))
	sleep(1000)
	s.create("t", 1)
	mine := func(r kmsg.Response) {
		answer := r.(*kmsg.ListConfigResourcesResponse)
		var kept []kmsg.ListConfigResourcesResponseConfigResource
		for _, c := range answer.ConfigResources {
			if (c.Type != 2 && c.Type != 32) || strings.HasPrefix(c.Name, s.named("")) {
				kept = append(kept, c)
			}
		}
		answer.ConfigResources = kept
	}
	kinds := [][]int8{nil}
	if v >= 1 {
		kinds = [][]int8{nil, {2}, {4}, {8}, {16}, {32}, {2, 32}, {2, 2}, {0}, {1}, {64}, {-1}}
	}
	for _, k := range kinds {
		r := kmsg.NewPtrListConfigResourcesRequest()
		r.ResourceTypes = k
		s.start(options{edit: mine}, fmt.Sprint("kinds ", k), v, r).get()
	}
}
