// Package measure reads times out of a cluster's history: how long partitions were away after a kill, and how long producers waited
// during a rolling restart. It is pure, as the checker is.
package measure

import (
	"fmt"
	"sort"
	"time"

	"alluvium/tests/chaos/history"
)

// Outage is the longest time that some partition was not served after one event.
type Outage struct {
	Broker    int
	Partition string
	Length    time.Duration
	Served    bool // false: not before the next thing happened to the cluster, or the history's end
}

// Outages follows each first kill of a scenario that has nothing but kills and starts in it. A partition is served again when a record is
// acknowledged that was sent after the kill. The times end with the scenario's end or the next kill.
func Outages(events []history.Event) []Outage {
	events = byTime(events)
	sends := map[string]history.Event{}
	partitions := map[string]bool{}
	for _, e := range events {
		if e.Kind == history.Send {
			sends[e.Value] = e
			partitions[name(e)] = true
		}
	}
	var out []Outage
	for i, e := range events {
		if e.Kind == history.Nemesis && e.Value == "kill" && e.Error == "" && aloneBefore(events[:i]) {
			out = append(out, outage(e, events[i+1:], sends, partitions))
		}
	}
	return out
}

// aloneBefore says whether the scenario under way has begun with this event, and is one that only kills.
func aloneBefore(events []history.Event) bool {
	for i := len(events) - 1; i >= 0; i-- {
		if e := events[i]; e.Kind == history.Nemesis {
			return e.Value == "begin" && e.Error == "kill"
		}
	}
	return false
}

func outage(kill history.Event, after []history.Event, sends map[string]history.Event, partitions map[string]bool) Outage {
	waiting := map[string]bool{}
	for p := range partitions {
		waiting[p] = true
	}
	out := Outage{Broker: int(kill.Partition)}
	for _, e := range after {
		if e.Kind == history.Nemesis && (e.Value == "begin" || e.Value == "kill" && e.Partition != kill.Partition) {
			break
		}
		sent, ok := sends[e.Value]
		if e.Kind != history.Ack || !ok || sent.T < kill.T || !waiting[name(sent)] {
			continue
		}
		delete(waiting, name(sent))
		out.Partition, out.Length = name(sent), time.Duration(e.T-kill.T)
		if len(waiting) == 0 {
			out.Served = true
			break
		}
	}
	return out
}

// Waits lists how long each record that was sent between two marks of the nemesis took to be acknowledged, sorted.
func Waits(events []history.Event, from, to string) []time.Duration {
	sent := map[string]int64{}
	var waits []time.Duration
	inside := false
	for _, e := range byTime(events) {
		switch {
		case e.Kind == history.Nemesis && e.Value == from:
			inside = true
		case e.Kind == history.Nemesis && e.Value == to:
			inside = false
		case e.Kind == history.Send && inside:
			sent[e.Value] = e.T
		case e.Kind == history.Ack:
			if at, ok := sent[e.Value]; ok {
				waits = append(waits, time.Duration(e.T-at))
			}
		}
	}
	sort.Slice(waits, func(i, j int) bool { return waits[i] < waits[j] })
	return waits
}

// Quantile of a sorted list, 0 when it is empty.
func Quantile(sorted []time.Duration, q float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))]
}

func name(e history.Event) string { return fmt.Sprintf("%s/%d", e.Topic, e.Partition) }

func byTime(events []history.Event) []history.Event {
	events = append([]history.Event(nil), events...)
	sort.SliceStable(events, func(i, j int) bool { return events[i].T < events[j].T })
	return events
}
