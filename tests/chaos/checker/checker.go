// Package checker judges a history. It is pure: events in, anomalies out, no clock and no I/O.
//
// The vocabulary is that of the known Kafka checkers (lost, unseen, poll-skip, nonmonotonic-poll, inconsistent-offset, …). The rules
// assume what the workload guarantees: values are unique, topics are never compacted, trimmed or written by transactions, so every
// offset from zero to the end holds exactly one record; group members commit only what they polled.
//
// What a rule may conclude from times: an answer's T is after the fact, a request's S is before it. A precedes B only if A.T < B.S.
package checker

import (
	"fmt"
	"sort"

	"alluvium/tests/chaos/history"
)

// Anomaly is one thing that must not happen.
type Anomaly struct {
	Kind   string
	Detail string
}

// Report is the verdict on a history.
type Report struct {
	Anomalies map[string][]string // kind → details, in order of discovery
	Stats     Stats
}

// Stats counts what the history holds, so that an empty run can't pass for a good one.
type Stats struct {
	Sends, Acks, Fails, Unknowns, Reads, FinalReads, Commits, CommittedReads, EndReads, TimeReads, TopicChanges int
}

// rule is one check; its name is the heading of its anomalies in reports.
type rule func(*index) []Anomaly

// Kinds lists every anomaly that the checker can report, with what it means.
var Kinds = []struct{ Name, Meaning string }{
	{"lost", "acknowledged, below the end, and not in the log"},
	{"unseen", "acknowledged, and beyond the end of the final read"},
	{"lost-read", "shown to a consumer, and not in the log at the end"},
	{"inconsistent-offset", "two values at one offset"},
	{"offset-reused", "two acknowledgements for one offset"},
	{"bad-ack", "an acknowledgement without a valid offset"},
	{"ack-mismatch", "acknowledged at one offset, found at another"},
	{"duplicate", "one value of an idempotent producer at two offsets"},
	{"phantom", "read, and never sent to that partition, or damaged"},
	{"failed-visible", "refused for good, and yet in the log"},
	{"gap", "offsets of the final read are not contiguous from zero"},
	{"reorder", "records of one idempotent producer in another order than sent"},
	{"realtime", "sent after another's acknowledgement, and yet at a lower offset"},
	{"poll-skip", "a consumer's next record is not the next offset"},
	{"nonmonotonic-poll", "a consumer was given an offset again or an earlier one"},
	{"seek-missed", "the first record after a seek is not the one sought"},
	{"watermark-back", "a consumer saw a high watermark go back"},
	{"end-stale", "an end offset below what was known before the question"},
	{"end-beyond", "an end offset or high watermark above what the log ever held"},
	{"time-lookup", "an offset by time that is not the first at or after that time"},
	{"committed-back", "a committed offset lost or gone back"},
	{"committed-phantom", "a committed offset that nobody committed"},
	{"group-skip", "an offset committed by a group whose members never read a record below it"},
	{"topic-lost", "a topic whose creation was acknowledged, and that is not there"},
	{"topic-back", "a topic whose deletion was acknowledged, and that is there"},
	{"trouble", "a client library reported lost data or stopped for good"},
	{"stuck", "a send without an outcome after the broker came back"},
}

var rules = []rule{
	checkFinal, checkShown, checkOneValuePerOffset, checkAcks, checkDuplicates, checkPhantoms, checkGaps,
	checkProducerOrder, checkRealTime, checkPolls,
	checkWatermarks, checkEnds, checkTimeLookups,
	checkCommitted, checkGroupCoverage,
	checkTopics, checkTrouble,
}

// Check judges a complete history.
func Check(events []history.Event) Report {
	ix := newIndex(events)
	report := Report{Anomalies: map[string][]string{}, Stats: ix.stats}
	for _, r := range rules {
		for _, a := range r(ix) {
			report.Anomalies[a.Kind] = append(report.Anomalies[a.Kind], a.Detail)
		}
	}
	return report
}

func anomaly(kind, format string, args ...any) Anomaly {
	return Anomaly{Kind: kind, Detail: fmt.Sprintf(format, args...)}
}

// checkTopics demands that acknowledged creations and deletions of topics hold at the end. A name is created once and deleted at most once.
// Without any listing there is nothing to compare with.
func checkTopics(ix *index) []Anomaly {
	var out []Anomaly
	if !ix.topicsListed {
		return nil
	}
	for _, name := range sorted(ix.topics, func(a, b string) bool { return a < b }) {
		switch t := ix.topics[name]; {
		case t.created && !t.deleteTried && !t.listed:
			out = append(out, anomaly("topic-lost", "%s", name))
		case t.deleted && t.listed:
			out = append(out, anomaly("topic-back", "%s", name))
		}
	}
	return out
}

// checkTrouble reports what clients complained about, and sends that never got an answer.
func checkTrouble(ix *index) []Anomaly {
	var out []Anomaly
	for _, e := range ix.troubles {
		out = append(out, anomaly("trouble", "%s %s/%d: %s", e.Client, e.Topic, e.Partition, e.Error))
	}
	for _, value := range ix.order {
		if !ix.resolved[value] {
			out = append(out, anomaly("stuck", "%s to %v", value, ix.sends[value].at))
		}
	}
	return out
}

func sorted[K comparable, V any](m map[K]V, less func(a, b K) bool) []K {
	keys := make([]K, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Slice(keys, func(i, j int) bool { return less(keys[i], keys[j]) })
	return keys
}
