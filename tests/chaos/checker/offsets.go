package checker

import (
	"sort"

	"alluvium/tests/chaos/history"
)

// checkWatermarks follows the high watermark that each consumer is told between two seeks. Records above the watermark of their own answer
// are legal: Kafka notes the watermark before it reads.
func checkWatermarks(ix *index) []Anomaly {
	type stream struct {
		client string
		at     place
	}
	last := map[stream]int64{}
	var out []Anomaly
	for _, e := range ix.polls {
		at := place{e.Topic, e.Partition}
		key := stream{e.Client, at}
		if e.Kind == history.Assign {
			delete(last, key)
			continue
		}
		if e.HighWatermark < last[key] {
			out = append(out, anomaly("watermark-back", "%s at %v: %d after %d", e.Client, at, e.HighWatermark, last[key]))
		}
		last[key] = e.HighWatermark
		if _, read := ix.final[at]; read && e.HighWatermark > ix.finalEnd(at) {
			out = append(out, anomaly("end-beyond", "%s at %v: watermark %d, the log ends at %d", e.Client, at, e.HighWatermark, ix.finalEnd(at)))
		}
	}
	return out
}

// bound is a lower bound of a number that is known from a moment on.
type bound struct {
	t, low int64
	why    string
}

// highest sweeps bounds, sorted by time, and returns the highest known strictly before t.
type sweep struct {
	bounds []bound
	next   int
	best   bound
}

func newSweep(bounds []bound) *sweep {
	sort.SliceStable(bounds, func(i, j int) bool { return bounds[i].t < bounds[j].t })
	return &sweep{bounds: bounds, best: bound{low: -1}}
}

// before must be called with rising times.
func (s *sweep) before(t int64) bound {
	for ; s.next < len(s.bounds) && s.bounds[s.next].t < t; s.next++ {
		if s.bounds[s.next].low > s.best.low {
			s.best = s.bounds[s.next]
		}
	}
	return s.best
}

// checkEnds demands that an end offset covers everything acknowledged, read or answered before the question, and nothing more than
// the log ever held.
func checkEnds(ix *index) []Anomaly {
	bounds := map[place][]bound{}
	for _, value := range ix.order {
		if a, ok := ix.acks[value]; ok {
			at := ix.sends[value].at
			bounds[at] = append(bounds[at], bound{a.t, a.offset + 1, "acknowledged " + value})
		}
	}
	for _, e := range ix.polls {
		if n := len(e.Records); n > 0 {
			at := place{e.Topic, e.Partition}
			bounds[at] = append(bounds[at], bound{e.T, e.Records[n-1].Offset + 1, "read by " + e.Client})
		}
	}
	var out []Anomaly
	for _, at := range sorted(ix.ends, lessPlace) {
		answers := ix.ends[at]
		for _, e := range answers {
			bounds[at] = append(bounds[at], bound{e.T, e.Offset, "answered to " + e.Client})
		}
		known := newSweep(bounds[at])
		for _, e := range byStart(answers) {
			if low := known.before(e.S); e.Offset < low.low {
				out = append(out, anomaly("end-stale", "%s at %v: end %d, but %s made it %d", e.Client, at, e.Offset, low.why, low.low))
			}
			if _, read := ix.final[at]; read && e.Offset > ix.finalEnd(at) {
				out = append(out, anomaly("end-beyond", "%s at %v: end %d, the log ends at %d", e.Client, at, e.Offset, ix.finalEnd(at)))
			}
		}
	}
	return out
}

// checkTimeLookups demands the first record at or after the time asked.
func checkTimeLookups(ix *index) []Anomaly {
	var out []Anomaly
	for _, at := range sorted(ix.byTime, lessPlace) {
		records := ix.final[at]
		if records == nil {
			continue
		}
		for _, e := range ix.byTime[at] {
			out = append(out, timeLookup(ix, at, e, records)...)
		}
	}
	return out
}

func timeLookup(ix *index, at place, e history.Event, records []history.Record) []Anomaly {
	found := false
	for _, r := range records {
		switch {
		case e.Offset < 0 && r.Timestamp >= e.Timestamp:
			if a, ok := ix.acks[r.Value]; ok && a.t < e.S {
				return []Anomaly{anomaly("time-lookup", "%v at %d: none, but %d with time %d was acknowledged before", at, e.Timestamp, r.Offset, r.Timestamp)}
			}
		case r.Offset < e.Offset && r.Timestamp >= e.Timestamp:
			return []Anomaly{anomaly("time-lookup", "%v at %d: %d, but %d has time %d", at, e.Timestamp, e.Offset, r.Offset, r.Timestamp)}
		case r.Offset == e.Offset:
			found = r.Timestamp >= e.Timestamp
		}
	}
	if e.Offset >= 0 && !found {
		return []Anomaly{anomaly("time-lookup", "%v at %d: %d, which is older or absent", at, e.Timestamp, e.Offset)}
	}
	return nil
}

func byStart(events []history.Event) []history.Event {
	events = append([]history.Event(nil), events...)
	sort.SliceStable(events, func(i, j int) bool { return events[i].S < events[j].S })
	return events
}
