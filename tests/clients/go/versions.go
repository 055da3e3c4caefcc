package main

import (
	"context"
	"fmt"
	"sort"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"
)

// versionChecks show that older clients are served, and that what ApiVersions advertises is answered.
var versionChecks = []check{
	{"versions of Kafka 2.1", false, asClientOf(kversion.V2_1_0())},
	{"versions of Kafka 2.3", false, asClientOf(kversion.V2_3_0())},
	{"versions of Kafka 2.5", false, asClientOf(kversion.V2_5_0())},
	{"versions of Kafka 2.7", false, asClientOf(kversion.V2_7_0())},
	{"versions of Kafka 3.0", false, asClientOf(kversion.V3_0_0())},
	{"versions of Kafka 3.3", false, asClientOf(kversion.V3_3_0())},
	{"versions of Kafka 3.6", false, asClientOf(kversion.V3_6_0())},
	{"versions of Kafka 4.0", false, asClientOf(kversion.V4_0_0())},
	{"versions: each advertised one is answered", true, everyVersion},
	{"versions: each advertised one carries contents", true, filledVersions},
}

// asClientOf lives a client's whole life with no request newer than a release of Kafka had.
func asClientOf(versions *kversion.Versions) func(*T) {
	return func(t *T) {
		limit := kgo.MaxVersions(versions)
		c := t.client(limit)
		defer c.Close()
		admin := kadm.NewClient(c)
		topic, group := fresh("topic"), fresh("group")
		_, err := admin.CreateTopic(t.ctx, 2, 1, map[string]*string{"retention.ms": ptr("99999")}, topic)
		t.must(err)
		t.settled(admin, topic, 2)
		t.equal(t.put(plain(topic, 1, 50), limit), counted(50), "offsets")
		ends, err := admin.ListEndOffsets(t.ctx, topic)
		t.must(err)
		t.equal([]int64{ends[topic][0].Offset, ends[topic][1].Offset}, []int64{0, 50}, "ends")
		m := t.client(limit, kgo.ConsumerGroup(group), kgo.ConsumeTopics(topic), kgo.DisableAutoCommit())
		got := t.take(m, 50)
		t.equal([]string{string(got[49].Key), string(got[49].Value)}, []string{"k49", "v49"}, "the last record")
		t.must(m.CommitRecords(t.ctx, got[29]))
		m.Close()
		offsets, err := admin.FetchOffsetsForTopics(t.ctx, group, topic)
		t.must(err)
		t.equal(offsets[topic][1].At, int64(30), "committed")
		described, err := admin.DescribeGroups(t.ctx, group)
		t.must(err)
		t.equal(described[group].State, "Empty", "group")
		configs, err := admin.DescribeTopicConfigs(t.ctx, topic)
		t.must(err)
		t.must(configs[0].Err)
		_, err = admin.DeleteGroup(t.ctx, group)
		t.must(err)
		_, err = admin.DeleteTopic(t.ctx, topic)
		t.must(err)
	}
}

// unsafeKeys are requests whose empty form changes a real cluster.
var unsafeKeys = map[int16]bool{
	int16(kmsg.UnregisterBroker): true, int16(kmsg.UpdateFeatures): true, int16(kmsg.AddRaftVoter): true, int16(kmsg.RemoveRaftVoter): true,
}

// everyVersion sends an empty request at each advertised key and version; an error in the answer is fine, no answer is not.
func everyVersion(t *T) {
	c := t.client(kgo.RequestRetries(0), kgo.RetryTimeout(5*time.Second), kgo.RequestTimeoutOverhead(5*time.Second))
	defer c.Close()
	brokers, err := kadm.NewClient(c).ListBrokers(t.ctx)
	t.must(err)
	node := int(brokers[0].NodeID)
	answer, err := kmsg.NewPtrApiVersionsRequest().RequestWith(t.ctx, c)
	t.must(err)
	var silent []string
	asked := 0
	for _, k := range answer.ApiKeys {
		for v := k.MinVersion; v <= k.MaxVersion; v++ {
			request := kmsg.RequestForKey(k.ApiKey)
			if unsafeKeys[k.ApiKey] || request == nil || v > request.MaxVersion() || isProduceBelow3(k.ApiKey, v) {
				continue
			}
			asked++
			if err := probe(t.ctx, c, node, request, v); err != nil {
				silent = append(silent, fmt.Sprintf("%s v%d: %v", kmsg.NameForKey(k.ApiKey), v, err))
			}
		}
	}
	sort.Strings(silent)
	if len(silent) > 0 || asked < 80 {
		t.fail("%d of %d: %s", len(silent), asked, strings.Join(silent, "; "))
	}
}

// isProduceBelow3 names what Kafka 4 advertises for old librdkafka's sake and does not serve (KAFKA-18659).
func isProduceBelow3(key, version int16) bool { return key == int16(kmsg.Produce) && version < 3 }

func probe(ctx context.Context, c *kgo.Client, node int, request kmsg.Request, version int16) error {
	switch r := request.(type) {
	case *kmsg.ProduceRequest:
		r.Acks = -1
	case *kmsg.FetchRequest:
		r.SessionEpoch = -1
	case *kmsg.DescribeACLsRequest: // 1 is "any"
		r.ResourceType, r.ResourcePatternType, r.Operation, r.PermissionType = 1, 1, 1, 1
	case *kmsg.AddPartitionsToTxnRequest:
		if version > 3 { // between brokers only; Kafka never answers an empty one
			return nil
		}
	case *kmsg.ElectLeadersRequest:
		r.Topics = []kmsg.ElectLeadersRequestTopic{}
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	response, err := c.Broker(node).Request(ctx, pinned{request, version})
	if err == nil && response.GetVersion() != version {
		return fmt.Errorf("asked at version %d", response.GetVersion())
	}
	return err
}

// filled makes requests that name a real topic, so that their answers hold every field of their version. Requests that name topics
// by id from some version on stop below it.
func filled(topic, group string) map[int16]struct {
	below int16
	make  func() kmsg.Request
} {
	type entry = struct {
		below int16
		make  func() kmsg.Request
	}
	return map[int16]entry{
		int16(kmsg.Produce): {13, func() kmsg.Request {
			r := kmsg.NewPtrProduceRequest()
			r.Acks, r.TimeoutMillis = -1, 5000
			part := kmsg.NewProduceRequestTopicPartition()
			part.Records = batch{producer: -1, epoch: -1, sequence: -1, records: 1}.encode()
			r.Topics = []kmsg.ProduceRequestTopic{{Topic: topic, Partitions: []kmsg.ProduceRequestTopicPartition{part}}}
			return r
		}},
		int16(kmsg.Fetch): {13, func() kmsg.Request {
			r := kmsg.NewPtrFetchRequest()
			r.SessionEpoch, r.MaxBytes = -1, 1<<20
			part := kmsg.NewFetchRequestTopicPartition()
			part.PartitionMaxBytes, part.CurrentLeaderEpoch = 1<<20, -1
			t := kmsg.NewFetchRequestTopic()
			t.Topic, t.Partitions = topic, []kmsg.FetchRequestTopicPartition{part}
			r.Topics = append(r.Topics, t)
			return r
		}},
		int16(kmsg.ListOffsets): {99, func() kmsg.Request {
			r := kmsg.NewPtrListOffsetsRequest()
			part := kmsg.NewListOffsetsRequestTopicPartition()
			part.Timestamp, part.CurrentLeaderEpoch = -1, -1
			r.Topics = []kmsg.ListOffsetsRequestTopic{{Topic: topic, Partitions: []kmsg.ListOffsetsRequestTopicPartition{part}}}
			return r
		}},
		int16(kmsg.Metadata): {99, func() kmsg.Request {
			r := kmsg.NewPtrMetadataRequest()
			t := kmsg.NewMetadataRequestTopic()
			t.Topic = &topic
			r.Topics = append(r.Topics, t)
			return r
		}},
		int16(kmsg.OffsetForLeaderEpoch): {99, func() kmsg.Request {
			r := kmsg.NewPtrOffsetForLeaderEpochRequest()
			r.ReplicaID = -1
			part := kmsg.NewOffsetForLeaderEpochRequestTopicPartition()
			part.CurrentLeaderEpoch = -1
			r.Topics = []kmsg.OffsetForLeaderEpochRequestTopic{{Topic: topic, Partitions: []kmsg.OffsetForLeaderEpochRequestTopicPartition{part}}}
			return r
		}},
		int16(kmsg.OffsetCommit): {10, func() kmsg.Request {
			r := kmsg.NewPtrOffsetCommitRequest()
			r.Group, r.Generation = group, -1
			part := kmsg.NewOffsetCommitRequestTopicPartition()
			part.Offset, part.Metadata = 1, ptr("note")
			r.Topics = []kmsg.OffsetCommitRequestTopic{{Topic: topic, Partitions: []kmsg.OffsetCommitRequestTopicPartition{part}}}
			return r
		}},
		int16(kmsg.OffsetFetch): {10, func() kmsg.Request {
			r := kmsg.NewPtrOffsetFetchRequest()
			r.Group, r.Topics = group, []kmsg.OffsetFetchRequestTopic{{Topic: topic, Partitions: []int32{0}}}
			g := kmsg.NewOffsetFetchRequestGroup()
			g.Group, g.Topics = group, []kmsg.OffsetFetchRequestGroupTopic{{Topic: topic, Partitions: []int32{0}}}
			r.Groups = append(r.Groups, g)
			return r
		}},
		int16(kmsg.FindCoordinator): {99, func() kmsg.Request {
			r := kmsg.NewPtrFindCoordinatorRequest()
			r.CoordinatorKey, r.CoordinatorKeys = group, []string{group}
			return r
		}},
		int16(kmsg.DescribeGroups): {99, func() kmsg.Request {
			r := kmsg.NewPtrDescribeGroupsRequest()
			r.Groups = []string{group}
			return r
		}},
		int16(kmsg.DescribeConfigs): {99, func() kmsg.Request {
			r := kmsg.NewPtrDescribeConfigsRequest()
			r.IncludeSynonyms, r.IncludeDocumentation = true, true
			r.Resources = []kmsg.DescribeConfigsRequestResource{{ResourceType: kmsg.ConfigResourceTypeTopic, ResourceName: topic}}
			return r
		}},
		int16(kmsg.CreateTopics): {99, func() kmsg.Request {
			r := kmsg.NewPtrCreateTopicsRequest()
			t := kmsg.NewCreateTopicsRequestTopic()
			t.Topic, t.NumPartitions, t.ReplicationFactor = fresh("versions"), 1, 1
			r.Topics, r.TimeoutMillis = append(r.Topics, t), 5000
			return r
		}},
		int16(kmsg.DeleteRecords): {99, func() kmsg.Request {
			r := kmsg.NewPtrDeleteRecordsRequest()
			r.TimeoutMillis = 5000
			r.Topics = []kmsg.DeleteRecordsRequestTopic{{Topic: topic, Partitions: []kmsg.DeleteRecordsRequestTopicPartition{{Partition: 0, Offset: 0}}}}
			return r
		}},
		int16(kmsg.DescribeLogDirs): {99, func() kmsg.Request {
			r := kmsg.NewPtrDescribeLogDirsRequest()
			r.Topics = []kmsg.DescribeLogDirsRequestTopic{{Topic: topic, Partitions: []int32{0}}}
			return r
		}},
		int16(kmsg.DescribeProducers): {99, func() kmsg.Request {
			r := kmsg.NewPtrDescribeProducersRequest()
			r.Topics = []kmsg.DescribeProducersRequestTopic{{Topic: topic, Partitions: []int32{0}}}
			return r
		}},
		int16(kmsg.ListGroups):      {99, func() kmsg.Request { return kmsg.NewPtrListGroupsRequest() }},
		int16(kmsg.DescribeCluster): {99, func() kmsg.Request { return kmsg.NewPtrDescribeClusterRequest() }},
	}
}

// filledVersions sends requests with contents at each advertised version.
func filledVersions(t *T) {
	topic, group := t.topic(1), fresh("group")
	t.put(plain(topic, 0, 10))
	c := t.client(kgo.RequestRetries(0), kgo.RetryTimeout(5*time.Second), kgo.RequestTimeoutOverhead(5*time.Second))
	defer c.Close()
	node := int(t.leader(c, topic))
	answer, err := kmsg.NewPtrApiVersionsRequest().RequestWith(t.ctx, c)
	t.must(err)
	admin := kadm.NewClient(c)
	t.must(admin.CommitAllOffsets(t.ctx, group, kadm.OffsetsFromRecords(kgo.Record{Topic: topic, Offset: 1, LeaderEpoch: 0})))
	var silent []string
	asked := 0
	requests := filled(topic, group)
	for _, k := range answer.ApiKeys {
		entry, ok := requests[k.ApiKey]
		for v := k.MinVersion; ok && v <= k.MaxVersion && v < entry.below; v++ {
			request := entry.make()
			if v > request.MaxVersion() || isProduceBelow3(k.ApiKey, v) {
				continue
			}
			asked++
			if err := probe(t.ctx, c, node, request, v); err != nil {
				silent = append(silent, fmt.Sprintf("%s v%d: %v", kmsg.NameForKey(k.ApiKey), v, err))
			}
		}
	}
	sort.Strings(silent)
	if len(silent) > 0 || asked < 70 {
		t.fail("%d of %d: %s", len(silent), asked, strings.Join(silent, "; "))
	}
}
