package main

import (
	"fmt"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

var adminChecks = []check{
	{"franz topics", true, topics},
	{"franz delete and create again", false, deleteAndCreateAgain},
	{"franz partitions", false, partitions},
	{"franz configs", false, configs},
	{"franz delete records", false, deleteRecords},
	{"franz cluster", false, cluster},
}

func ptr(s string) *string { return &s }

func topics(t *T) {
	admin, done := t.admin()
	defer done()
	name := t.topic(3)
	details, err := admin.ListTopics(t.ctx, name)
	t.must(err)
	d := details[name]
	t.equal([]any{len(d.Partitions), d.IsInternal, d.ID != kadm.TopicID{}, d.Partitions[2].Replicas}, []any{3, false, true, []int32{d.Partitions[2].Leader}}, "metadata")
	_, err = admin.CreateTopic(t.ctx, 1, 1, nil, name)
	t.is(err, kerr.TopicAlreadyExists, "again")
	_, err = admin.CreateTopic(t.ctx, 0, 1, nil, fresh("bad"))
	t.is(err, kerr.InvalidPartitions, "no partitions")
	_, err = admin.CreateTopic(t.ctx, 1, 99, nil, fresh("bad"))
	t.is(err, kerr.InvalidReplicationFactor, "99 replicas")
	_, err = admin.CreateTopic(t.ctx, 1, 1, map[string]*string{"no.such": ptr("1")}, fresh("bad"))
	t.is(err, kerr.InvalidConfig, "unknown config")
	_, err = admin.CreateTopic(t.ctx, 1, 1, nil, "..")
	t.is(err, kerr.InvalidTopicException, "bad name")
	created, err := admin.CreateTopic(t.ctx, -1, -1, nil, fresh("defaults"))
	t.must(err)
	if created.NumPartitions < 1 || created.ReplicationFactor != 1 || len(created.Configs) == 0 {
		t.fail("broker's defaults: %d partitions, %d replicas, %d configs", created.NumPartitions, created.ReplicationFactor, len(created.Configs))
	}
	_, err = admin.DeleteTopic(t.ctx, name)
	t.must(err)
	t.wait("deletion", func() bool {
		details, err := admin.ListTopics(t.ctx)
		t.must(err)
		return !details.Has(name)
	})
	_, err = admin.DeleteTopic(t.ctx, name)
	t.is(err, kerr.UnknownTopicOrPartition, "delete again")
}

func deleteAndCreateAgain(t *T) {
	admin, done := t.admin()
	defer done()
	name := t.topic(1)
	t.put(plain(name, 0, 5))
	before, err := admin.ListTopics(t.ctx, name)
	t.must(err)
	_, err = admin.DeleteTopic(t.ctx, name)
	t.must(err)
	t.wait("creation under the same name", func() bool {
		_, err := admin.CreateTopic(t.ctx, 1, 1, nil, name)
		if err != nil {
			t.is(err, kerr.TopicAlreadyExists, "while the old one goes")
		}
		return err == nil
	})
	t.wait("another topic id", func() bool { // the library answers from its cache for a moment
		after, err := admin.ListTopics(t.ctx, name)
		t.must(err)
		return after.Has(name) && before[name].ID != after[name].ID
	})
	t.equal(t.put(plain(name, 0, 1)), []int64{0}, "offset in the new topic")
	t.equal(len(t.read(name, 0, 1)), 1, "records in the new topic")
}

func partitions(t *T) {
	admin, done := t.admin()
	defer done()
	name := t.topic(1)
	answer, err := admin.UpdatePartitions(t.ctx, 4, name)
	t.must(err)
	t.must(answer.Error())
	t.settled(admin, name, 4)
	t.equal(t.put(plain(name, 3, 3)), counted(3), "offsets in a new partition")
	answer, err = admin.UpdatePartitions(t.ctx, 2, name)
	t.must(err)
	t.is(answer[name].Err, kerr.InvalidPartitions, "fewer")
}

func configs(t *T) {
	admin, done := t.admin()
	defer done()
	name := t.topic(1, "segment.bytes", "1048576")
	value := func(key string) (string, string) {
		described, err := admin.DescribeTopicConfigs(t.ctx, name)
		t.must(err)
		one, err := described.On(name, nil)
		t.must(err)
		t.must(one.Err)
		for _, c := range one.Configs {
			if c.Key == key {
				return *c.Value, c.Source.String()
			}
		}
		t.fail("%s is not described", key)
		return "", ""
	}
	check := func(key, want, source, what string) {
		t.wait(fmt.Sprintf("%s: %s=%s by %s", what, key, want, source), func() bool { // Kafka applies a change a moment after it answers
			v, s := value(key)
			return v == want && s == source
		})
	}
	alter := func(op kadm.IncrementalOp, key, v string) error {
		answer, err := admin.AlterTopicConfigs(t.ctx, []kadm.AlterConfig{{Op: op, Name: key, Value: &v}}, name)
		t.must(err)
		return answer[0].Err
	}
	check("segment.bytes", "1048576", "DYNAMIC_TOPIC_CONFIG", "set at creation")
	check("retention.ms", "604800000", "DEFAULT_CONFIG", "default")
	t.must(alter(kadm.SetConfig, "retention.ms", "86400000"))
	check("retention.ms", "86400000", "DYNAMIC_TOPIC_CONFIG", "set")
	t.must(alter(kadm.AppendConfig, "cleanup.policy", "compact"))
	check("cleanup.policy", "delete,compact", "DYNAMIC_TOPIC_CONFIG", "appended")
	t.must(alter(kadm.DeleteConfig, "retention.ms", ""))
	check("retention.ms", "604800000", "DEFAULT_CONFIG", "deleted")
	t.is(alter(kadm.SetConfig, "retention.ms", "soon"), kerr.InvalidConfig, "bad value")
	t.is(alter(kadm.SetConfig, "no.such", "1"), kerr.InvalidConfig, "unknown name")
	replaced, err := admin.AlterTopicConfigsState(t.ctx, []kadm.AlterConfig{{Name: "max.message.bytes", Value: ptr("5000")}}, name)
	t.must(err)
	t.must(replaced[0].Err)
	check("cleanup.policy", "delete", "DEFAULT_CONFIG", "replaced by AlterConfigs")
	check("max.message.bytes", "5000", "DYNAMIC_TOPIC_CONFIG", "set by AlterConfigs")
	missing, err := admin.DescribeTopicConfigs(t.ctx, fresh("missing"))
	t.must(err)
	t.is(missing[0].Err, kerr.UnknownTopicOrPartition, "of a missing topic")
}

func deleteRecords(t *T) {
	admin, done := t.admin()
	defer done()
	name := t.topic(1)
	t.put(plain(name, 0, 50))
	remove := func(before int64) kadm.DeleteRecordsResponse {
		var offsets kadm.Offsets
		offsets.AddOffset(name, 0, before, -1)
		answer, err := admin.DeleteRecords(t.ctx, offsets)
		t.must(err)
		return answer[name][0]
	}
	t.equal(remove(30).LowWatermark, int64(30), "low watermark")
	starts, err := admin.ListStartOffsets(t.ctx, name)
	t.must(err)
	t.equal(starts[name][0].Offset, int64(30), "log start")
	t.equal(t.read(name, 0, 20)[0].Offset, int64(30), "first record")
	t.is(remove(500).Err, kerr.OffsetOutOfRange, "beyond the end")
	t.equal(remove(-1).LowWatermark, int64(50), "to the end")
	t.equal(t.put(plain(name, 0, 1)), []int64{50}, "offset after everything was deleted")
	c := t.client(at(name, 0, kgo.NewOffset().At(10)), kgo.ConsumeResetOffset(kgo.NoResetOffset()))
	defer c.Close()
	errs := c.PollFetches(t.ctx).Errors()
	if len(errs) == 0 {
		t.fail("no error below the log start")
	}
	t.is(errs[0].Err, kerr.OffsetOutOfRange, "below the log start")
}

func cluster(t *T) {
	admin, done := t.admin()
	defer done()
	meta, err := admin.BrokerMetadata(t.ctx)
	t.must(err)
	if meta.Cluster == "" || len(meta.Brokers) != 1 || meta.Controller != meta.Brokers[0].NodeID {
		t.fail("cluster %q, controller %d, brokers %v", meta.Cluster, meta.Controller, meta.Brokers)
	}
	described, err := admin.DescribeBrokerConfigs(t.ctx, meta.Brokers[0].NodeID)
	t.must(err)
	t.must(described[0].Err)
	name := t.topic(1)
	t.put(plain(name, 0, 10))
	dirs, err := admin.DescribeAllLogDirs(t.ctx, kadm.TopicsSet{name: {0: {}}})
	t.must(err)
	found := false
	dirs.Each(func(d kadm.DescribedLogDir) {
		t.must(d.Err)
		if p, ok := d.Topics.Lookup(name, 0); ok {
			found = p.Size > 0
		}
	})
	t.equal(found, true, "the partition's size in DescribeLogDirs")
	versions, err := admin.ApiVersions(t.ctx)
	t.must(err)
	versions.Each(func(v kadm.BrokerApiVersions) { t.must(v.Err) })
}
