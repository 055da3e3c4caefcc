package main

import "fmt"

// What the comparison does not judge, with the reasons. It is printed at the end of a run.

type told struct{ what, reason string }

// notProvoked are limits and refusals of this broker that Kafka does not have and no scenario meets: the oracle would be of no use
// after it, or it would take more time and memory than everything else. The files are those that hold the numbers.
var notProvoked = []told{
	{"UnregisterBroker", "a broker that runs stays, INVALID_REQUEST; Kafka takes its registration, and the scenarios beside lose the leader of every partition (src/api/unregister_broker.rs)"},
	{"Produce, bytes", "records of more than 128 MiB when decompressed are MESSAGE_TOO_LARGE, so that clients split them; Kafka takes them (src/wire/records.rs)"},
	{"Produce, refused records", "the first 1000 of a batch are listed; Kafka lists all (src/wire/validate.rs)"},
	{"Produce, twice a partition", "the first mention is not looked at; Kafka stores it if the last one is not a batch at all (src/api/produce.rs)"},
	{"Metadata, created topics", "one request creates 1000 at most, the rest is UNKNOWN_TOPIC_OR_PARTITION until it is asked for again (src/api/auto_create.rs)"},
	{"JoinGroup, one member", "more than 64 protocols, or more than 1 MiB of their names and metadata, are INCONSISTENT_GROUP_PROTOCOL (src/coord/message.rs)"},
	{"JoinGroup, pending members", "a group remembers 10 000 ids that it gave and nobody joined with; one that it forgot is UNKNOWN_MEMBER_ID (src/coord/message.rs)"},
	{"JoinGroup, all members", "when they hold more than 64 MiB, who brings or is assigned more than 4 KiB more gets COORDINATOR_NOT_AVAILABLE, beyond 128 MiB who brings anything more (src/coord/message.rs)"},
	{"groups", "a partition of __consumer_offsets has 100 000 at most, a further one is COORDINATOR_NOT_AVAILABLE (src/coord/message.rs)"},
	{"long answers", "what DescribeConfigs, DescribeGroups and OffsetFetch would tell behind 32 MiB of one answer is INVALID_REQUEST (src/api/unread.rs), so is what DescribeProducers would behind 262 144 producers"},
	{"AlterConfigs, sizes", "more than 500 configs of a resource, or 10 000 resources besides topics, are POLICY_VIOLATION, names of more than 1024 bytes INVALID_REQUEST (src/api/config_alter.rs)"},
}

// normalisations take out of the answers of both what two brokers can't have in common, or what nothing depends on.
var normalisations = []told{
	{"symbols", "ids, epochs of leaders, fetch sessions, folders, ports and the hashes of Java's objects are each broker's choice: they are named in the order in which they appear, or alike"},
	{"times", "what lies within a minute of the test's clock is now; in messages, what lies within three hours of it or about a hundred days away is a time"},
	{"timeRange", "a message names the times between which a record's must lie, and they follow the broker's clock"},
	{"errorsLast", "Kafka answers a Fetch for partitions that it does not know last; clients do not look at their place"},
	{"wholeBatches", "where Fetch is short of bytes Kafka sends a part of a batch, which every client drops"},
	{"skipTags", "the head of an answer may have tagged fields, which none has yet; clients pass over them"},
	{"sizes", "the bytes of a folder and of what is in it are compared as none or some"},
	{"members", "Kafka tells them in the order of a hash map; they are put in order by what the scenario knows of them"},
	{"random requests", "of the answers to random requests and to mutants the error codes are compared"},
}

func printUnjudged() {
	for _, list := range []struct {
		title string
		rows  []told
	}{{"not provoked", notProvoked}, {"evened out before answers are compared", normalisations}} {
		fmt.Printf("\n%s:\n", list.title)
		for _, row := range list.rows {
			fmt.Printf("  %-28s %s\n", row.what, row.reason)
		}
	}
}
