package checker

import (
	"sort"
	"strings"

	"alluvium/tests/chaos/history"
)

// checkFinal finds acknowledged records that the full read does not have, and refused ones that it has.
func checkFinal(ix *index) []Anomaly {
	var out []Anomaly
	unread := map[place]int{}
	for _, value := range ix.order {
		at := ix.sends[value].at
		_, found := ix.finalAt[at][value]
		a, acked := ix.acks[value]
		switch {
		case acked && ix.final[at] == nil:
			unread[at]++
		case acked && !found && a.offset < ix.finalEnd(at):
			out = append(out, anomaly("lost", "%s acknowledged at %v offset %d, end %d", value, at, a.offset, ix.finalEnd(at)))
		case acked && !found:
			out = append(out, anomaly("unseen", "%s acknowledged at %v offset %d, final read ends at %d", value, at, a.offset, ix.finalEnd(at)))
		case ix.failed[value] && len(ix.read[at][value]) > 0:
			out = append(out, anomaly("failed-visible", "%s in %v", value, at))
		}
	}
	for _, at := range sorted(unread, lessPlace) {
		out = append(out, anomaly("unseen", "all %d acknowledged records of %v: the full read has nothing of it", unread[at], at))
	}
	return out
}

// checkShown finds records that a consumer was given and that are gone at the end.
func checkShown(ix *index) []Anomaly {
	var out []Anomaly
	for _, at := range sorted(ix.read, lessPlace) {
		if ix.final[at] == nil {
			continue // nothing to compare with: reported as unseen
		}
		for _, value := range sorted(ix.read[at], func(a, b string) bool { return a < b }) {
			if _, found := ix.finalAt[at][value]; !found {
				out = append(out, anomaly("lost-read", "%s was read from %v", value, at))
			}
		}
	}
	return out
}

// checkOneValuePerOffset finds offsets that stood for two records, among everything read and acknowledged.
func checkOneValuePerOffset(ix *index) []Anomaly {
	var out []Anomaly
	acked := map[place]map[int64][]string{}
	for _, value := range ix.order {
		if a, ok := ix.acks[value]; ok && a.offset != history.NoOffset {
			at := ix.sends[value].at
			if acked[at] == nil {
				acked[at] = map[int64][]string{}
			}
			acked[at][a.offset] = append(acked[at][a.offset], value)
		}
	}
	for _, at := range sorted(acked, lessPlace) {
		for _, offset := range sorted(acked[at], lessInt) {
			if values := acked[at][offset]; len(values) > 1 {
				out = append(out, anomaly("offset-reused", "%v offset %d acknowledged for %s", at, offset, strings.Join(values, ", ")))
			}
		}
	}
	for _, at := range sorted(ix.seen, lessPlace) {
		for _, offset := range sorted(ix.seen[at], lessInt) {
			values := sorted(ix.seen[at][offset], func(a, b string) bool { return a < b })
			if len(values) > 1 {
				out = append(out, anomaly("inconsistent-offset", "%v offset %d: %s", at, offset, strings.Join(values, ", ")))
				continue
			}
			for _, other := range acked[at][offset] {
				if other != values[0] {
					out = append(out, anomaly("inconsistent-offset", "%v offset %d: read %s, acknowledged for %s", at, offset, values[0], other))
				}
			}
		}
	}
	return out
}

// checkAcks finds acknowledgements that name no offset or another one than where the record is.
func checkAcks(ix *index) []Anomaly {
	var out []Anomaly
	for _, value := range ix.order {
		a, ok := ix.acks[value]
		if !ok || a.offset == history.NoOffset {
			continue
		}
		at := ix.sends[value].at
		if a.offset < 0 {
			out = append(out, anomaly("bad-ack", "%s to %v: offset %d", value, at, a.offset))
			continue
		}
		if places := ix.read[at][value]; len(places) > 0 && !places[a.offset] {
			out = append(out, anomaly("ack-mismatch", "%s to %v: acknowledged at %d, read at %v", value, at, a.offset, sorted(places, lessInt)))
		}
	}
	return out
}

// checkDuplicates finds values of idempotent producers at two offsets.
func checkDuplicates(ix *index) []Anomaly {
	var out []Anomaly
	for _, value := range ix.order {
		s := ix.sends[value]
		if places := ix.read[s.at][value]; len(places) > 1 && ix.idempotent[s.client] {
			out = append(out, anomaly("duplicate", "%s in %v at %v", value, s.at, sorted(places, lessInt)))
		}
	}
	return out
}

// checkPhantoms finds values that nobody sent there.
func checkPhantoms(ix *index) []Anomaly {
	var out []Anomaly
	for _, at := range sorted(ix.read, lessPlace) {
		for _, value := range sorted(ix.read[at], func(a, b string) bool { return a < b }) {
			s, sent := ix.sends[value]
			if !sent {
				out = append(out, anomaly("phantom", "%s in %v was never sent", value, at))
			} else if s.at != at {
				out = append(out, anomaly("phantom", "%s in %v was sent to %v", value, at, s.at))
			}
		}
	}
	return out
}

// checkGaps demands that the full read holds every offset from zero on, once.
func checkGaps(ix *index) []Anomaly {
	var out []Anomaly
	for _, at := range sorted(ix.final, lessPlace) {
		offsets := make([]int64, 0, len(ix.final[at]))
		for _, r := range ix.final[at] {
			offsets = append(offsets, r.Offset)
		}
		sort.Slice(offsets, func(i, j int) bool { return offsets[i] < offsets[j] })
		next := int64(0)
		for _, offset := range offsets {
			if offset > next {
				out = append(out, anomaly("gap", "%v: %d to %d are missing", at, next, offset-1))
			}
			next = offset + 1
		}
	}
	return out
}

func lessInt(a, b int64) bool { return a < b }
