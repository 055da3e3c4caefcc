package checker

import (
	"sort"

	"alluvium/tests/chaos/history"
)

// checkCommitted demands that a group's committed offset never goes back: neither in an answer of OffsetFetch nor in a later
// acknowledged commit (whose member resumed from what it was told), and that every answer is an offset somebody committed. A member may
// set it back itself: franz-go holds a commit while its member joins anew, and sends it with the new generation, whoever had its
// partitions meanwhile. Kafka takes that.
func checkCommitted(ix *index) []Anomaly {
	var out []Anomaly
	for _, key := range sorted(ix.commits, lessGroupPlace) {
		var bounds []bound
		var asked []history.Event
		for _, e := range ix.commits[key] {
			if e.Error == "" {
				bounds = append(bounds, bound{e.T, e.Offset, "committed by " + e.Client})
				asked = append(asked, e)
			}
		}
		for _, e := range ix.committed[key] {
			bounds = append(bounds, bound{e.T, e.Offset, "answered to " + e.Client})
			asked = append(asked, e)
		}
		known := newSweep(bounds)
		for _, e := range byStart(asked) {
			if low := known.before(e.S); e.Offset < low.low && !setBack(asked, low, e) {
				out = append(out, anomaly("committed-back", "group %s, %v: %s %d by %s, but %d was %s", key.group, key.at, e.Kind, e.Offset, e.Client, low.low, low.why))
			}
		}
	}
	for _, key := range sorted(ix.committed, lessGroupPlace) {
		for _, e := range ix.committed[key] {
			if e.Offset >= 0 && !wasCommitted(ix.commits[key], e) {
				out = append(out, anomaly("committed-phantom", "group %s, %v: %d", key.group, key.at, e.Offset))
			}
		}
	}
	return out
}

// setBack tells whether a commit that was under way when `low` became known came after it, by a member of the newest generation, and is
// what e follows.
func setBack(asked []history.Event, low bound, e history.Event) bool {
	newest := int32(0)
	for _, c := range asked {
		if c.T <= low.t {
			newest = max(newest, c.Generation)
		}
	}
	for _, c := range asked {
		if c.Kind != history.Commit || c.Generation == 0 || c.Generation < newest || c.Offset > e.Offset || c.S >= low.t || c.T <= low.t {
			continue
		}
		follows := true
		for _, later := range asked {
			follows = follows && !(later.S > c.T && later.T < e.S && later.Offset > e.Offset)
		}
		if follows {
			return true
		}
	}
	return false
}

func wasCommitted(commits []history.Event, answer history.Event) bool {
	for _, c := range commits {
		if c.Offset == answer.Offset && c.S <= answer.T {
			return true
		}
	}
	return false
}

// checkGroupCoverage demands that the members of a group together read every record below an offset before they commit it.
func checkGroupCoverage(ix *index) []Anomaly {
	type step struct {
		t      int64
		commit bool
		event  history.Event
	}
	steps := map[groupPlace][]step{}
	for _, e := range ix.polls {
		if e.Kind == history.Poll && e.Group != "" {
			key := groupPlace{e.Group, place{e.Topic, e.Partition}}
			steps[key] = append(steps[key], step{e.T, false, e})
		}
	}
	for key, commits := range ix.commits {
		for _, e := range commits {
			if e.Error == "" {
				steps[key] = append(steps[key], step{e.S, true, e})
			}
		}
	}
	var out []Anomaly
	for _, key := range sorted(steps, lessGroupPlace) {
		sort.SliceStable(steps[key], func(i, j int) bool { return steps[key][i].t < steps[key][j].t })
		seen, prefix := map[int64]bool{}, int64(0)
		for _, s := range steps[key] {
			for _, r := range s.event.Records {
				seen[r.Offset] = true
			}
			for ; seen[prefix]; prefix++ {
				delete(seen, prefix)
			}
			if s.commit && s.event.Offset > prefix {
				out = append(out, anomaly("group-skip", "group %s, %v: %d committed, but %d was read by nobody", key.group, key.at, s.event.Offset, prefix))
			}
		}
	}
	return out
}
