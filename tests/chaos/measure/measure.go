// Package measure reads times out of a cluster's history: how long partitions were away after a kill, and how long producers waited and
// partitions were silent during a rolling restart. It is pure, as the checker is.
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

// Silences lists, sorted, how long each partition was silent after each `mark` between two marks of the nemesis: the longest time, up to the
// next such mark, in which a record of the partition waited and none was acknowledged. Clients' own pauses are in it.
func Silences(events []history.Event, from, to, mark string) []time.Duration {
	s := silences{waiting: map[string]map[string]int64{}, at: map[string]string{}, heard: map[string]int64{}}
	inside := false
	for _, e := range byTime(events) {
		switch {
		case e.Kind == history.Send:
			s.send(e)
		case e.Kind == history.Ack:
			s.ack(e)
		case e.Kind == history.Nemesis && (inside && e.Value == to || e.Value == from):
			inside = e.Value == from
			s.next(-1)
		case e.Kind == history.Nemesis && inside && e.Value == mark:
			s.next(e.T)
		}
	}
	s.next(-1)
	sort.Slice(s.all, func(i, j int) bool { return s.all[i] < s.all[j] })
	return s.all
}

type silences struct {
	all     []time.Duration
	waiting map[string]map[string]int64 // of each partition: records without an answer, and since when
	at      map[string]string           // the partition of each of them
	heard   map[string]int64            // of each partition: when something of it was acknowledged last
	longest map[string]int64            // of each partition since the mark; nil: there was none
	since   int64                       // the mark
}

func (s *silences) next(mark int64) {
	for _, length := range s.longest {
		s.all = append(s.all, time.Duration(length))
	}
	if s.longest, s.since = nil, mark; mark >= 0 {
		s.longest = map[string]int64{}
	}
}

func (s *silences) send(e history.Event) {
	p := name(e)
	if s.waiting[p] == nil {
		s.waiting[p] = map[string]int64{}
	}
	s.waiting[p][e.Value], s.at[e.Value] = e.T, p
}

func (s *silences) ack(e history.Event) {
	p, known := s.at[e.Value]
	if !known {
		return
	}
	if s.longest != nil {
		oldest := e.T
		for _, since := range s.waiting[p] {
			oldest = min(oldest, since)
		}
		s.longest[p] = max(s.longest[p], e.T-max(oldest, s.heard[p], s.since))
	}
	delete(s.waiting[p], e.Value)
	delete(s.at, e.Value)
	s.heard[p] = e.T
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
