package checker

import (
	"sort"

	"alluvium/tests/chaos/history"
)

// checkProducerOrder demands that records of one idempotent producer lie in a partition in the order of sending.
func checkProducerOrder(ix *index) []Anomaly {
	type stream struct {
		client string
		at     place
	}
	type item struct {
		value       string
		seq, offset int64
	}
	streams := map[stream][]item{}
	for _, value := range ix.order {
		s := ix.sends[value]
		if offset, ok := ix.located(value); ok && ix.idempotent[s.client] {
			key := stream{s.client, s.at}
			streams[key] = append(streams[key], item{value, s.seq, offset})
		}
	}
	var out []Anomaly
	for _, key := range sorted(streams, func(a, b stream) bool { return a.client < b.client || a.client == b.client && lessPlace(a.at, b.at) }) {
		items := streams[key]
		sort.Slice(items, func(i, j int) bool { return items[i].seq < items[j].seq })
		for i := 1; i < len(items); i++ {
			if before, after := items[i-1], items[i]; before.offset >= after.offset {
				out = append(out, anomaly("reorder", "%v: %s at %d, then %s at %d", key.at, before.value, before.offset, after.value, after.offset))
			}
		}
	}
	return out
}

// checkRealTime demands that what was sent after another record's acknowledgement lies behind it.
func checkRealTime(ix *index) []Anomaly {
	type point struct {
		t, offset int64
		value     string
	}
	sends, acks := map[place][]point{}, map[place][]point{}
	for _, value := range ix.order {
		s := ix.sends[value]
		if offset, ok := ix.located(value); ok {
			sends[s.at] = append(sends[s.at], point{s.t, offset, value})
		}
		if a, ok := ix.acks[value]; ok && a.offset >= 0 {
			acks[s.at] = append(acks[s.at], point{a.t, a.offset, value})
		}
	}
	var out []Anomaly
	for _, at := range sorted(sends, lessPlace) {
		byTime := func(p []point) { sort.SliceStable(p, func(i, j int) bool { return p[i].t < p[j].t }) }
		byTime(sends[at])
		byTime(acks[at])
		highest, next := point{offset: -1}, 0
		for _, s := range sends[at] {
			for ; next < len(acks[at]) && acks[at][next].t < s.t; next++ {
				if acks[at][next].offset > highest.offset {
					highest = acks[at][next]
				}
			}
			if s.offset < highest.offset {
				out = append(out, anomaly("realtime", "%v: %s at %d was sent after %s was acknowledged at %d", at, s.value, s.offset, highest.value, highest.offset))
			}
		}
	}
	return out
}

// reader is one consumer's position in one partition.
type reader struct {
	next int64 // -1: not known, the next record sets it
	seek bool  // nothing was read since the position was set
}

// checkPolls follows each consumer: every record is the one after the last, and the first one is the one sought.
func checkPolls(ix *index) []Anomaly {
	type stream struct {
		client string
		at     place
	}
	readers := map[stream]*reader{}
	var out []Anomaly
	for _, e := range ix.polls {
		key := stream{e.Client, place{e.Topic, e.Partition}}
		if e.Kind == history.Assign {
			readers[key] = &reader{next: e.Offset, seek: true}
			continue
		}
		r := readers[key]
		if r == nil {
			r = &reader{next: -1, seek: true}
			readers[key] = r
		}
		for _, record := range e.Records {
			if r.next >= 0 && record.Offset != r.next {
				out = append(out, misread(e.Client, key.at, r, record))
			}
			r.next, r.seek = record.Offset+1, false
		}
	}
	return out
}

func misread(client string, at place, r *reader, record history.Record) Anomaly {
	switch {
	case r.seek:
		return anomaly("seek-missed", "%s at %v: sought %d, got %d", client, at, r.next, record.Offset)
	case record.Offset > r.next:
		return anomaly("poll-skip", "%s at %v: expected %d, got %d", client, at, r.next, record.Offset)
	default:
		return anomaly("nonmonotonic-poll", "%s at %v: expected %d, got %d", client, at, r.next, record.Offset)
	}
}
