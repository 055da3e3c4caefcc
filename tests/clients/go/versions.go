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
