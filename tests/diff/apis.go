package main

import (
	"fmt"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// The APIs that Apache Kafka 4.3.1 (KRaft, default settings, no security) advertises and this broker does not, each with the
// reason. The table is printed at the end of a run; an API that is missing from it, or in it without need, fails the run.
// What a client makes of it: "the node does not support …", by name.
var notServed = []struct{ api, reason string }{
	{"AddPartitionsToTxn", transactions},
	{"AddOffsetsToTxn", transactions},
	{"EndTxn", transactions},
	{"WriteTxnMarkers", transactions},
	{"TxnOffsetCommit", transactions},
	{"DescribeTransactions", transactions},
	{"ListTransactions", transactions},
	{"ConsumerGroupHeartbeat", newGroups},
	{"ConsumerGroupDescribe", newGroups},
	{"ShareGroupHeartbeat", shareGroups},
	{"ShareGroupDescribe", shareGroups},
	{"ShareFetch", shareGroups},
	{"ShareAcknowledge", shareGroups},
	{"DescribeShareGroupOffsets", shareGroups},
	{"AlterShareGroupOffsets", shareGroups},
	{"DeleteShareGroupOffsets", shareGroups},
	{"InitializeShareGroupState", shareState},
	{"ReadShareGroupState", shareState},
	{"WriteShareGroupState", shareState},
	{"DeleteShareGroupState", shareState},
	{"ReadShareGroupStateSummary", shareState},
	{"StreamsGroupHeartbeat", streamsGroups},
	{"StreamsGroupDescribe", streamsGroups},
	{"AlterClientQuotas", "nothing is throttled yet, so a quota that was taken would be a lie; describing them answers that there are none"},
	{"AlterUserSCRAMCredentials", "nobody logs in yet, so a password that was taken would protect nothing; describing them answers that there are none"},
	{"DescribeQuorum", quorum},
	{"AddRaftVoter", quorum},
	{"RemoveRaftVoter", quorum},
	{"UpdateFeatures", "the one feature, metadata.version, says what is served and can't be changed"},
}

const (
	transactions  = "transactions are to come; InitProducerId and FindCoordinator refuse transactional ids with a code at which clients stop at once"
	newGroups     = "the consumer protocol (KIP-848) is to come; clients that are told to use it say that the broker does not support it"
	shareGroups   = "share groups (KIP-932) are to come"
	shareState    = "between the brokers of a Kafka only"
	streamsGroups = "the streams protocol (KIP-1071) is to come"
	quorum        = "there is no quorum of controllers: the metadata are objects in the bucket"
)

// apis judges the table against what both brokers advertise, and prints it.
func (v *verdict) apis(kafka, subject *broker) {
	reasons := map[string]string{}
	fmt.Println("\nAPIs of Kafka that are not served:")
	for _, row := range notServed {
		reasons[row.api] = row.reason
		fmt.Printf("  %-28s %s\n", row.api, row.reason)
	}
	for key := int16(0); key < 128; key++ {
		_, theirs := kafka.offers[key]
		_, ours := subject.offers[key]
		name := kmsg.NameForKey(key)
		_, listed := reasons[name]
		switch delete(reasons, name); {
		case theirs && !ours && !listed:
			v.fail("apis/"+name, "Kafka serves it; serve it, or give the reason in apis.go")
		case listed && (ours || !theirs):
			v.fail("apis/"+name, "it is served, or not Kafka's; take it out of apis.go")
		case !theirs && ours:
			v.fail("apis/"+name, "Kafka does not advertise it")
		case theirs:
			v.passed++
			fmt.Printf("ok apis/%s\n", name)
		}
	}
	for name := range reasons {
		v.fail("apis/"+name, "no API has this name")
	}
}
