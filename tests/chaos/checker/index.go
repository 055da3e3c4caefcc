package checker

import (
	"fmt"
	"sort"

	"alluvium/tests/chaos/history"
)

// place names a partition.
type place struct {
	topic     string
	partition int32
}

func (p place) String() string { return fmt.Sprintf("%s/%d", p.topic, p.partition) }

func lessPlace(a, b place) bool {
	return a.topic < b.topic || a.topic == b.topic && a.partition < b.partition
}

// send is one record handed to a client library.
type send struct {
	client string
	seq    int64
	t      int64
	at     place
}

// ack is one acknowledgement.
type ack struct {
	offset int64
	t      int64
}

// groupPlace names a partition as one group sees it.
type groupPlace struct {
	group string
	at    place
}

func lessGroupPlace(a, b groupPlace) bool {
	return a.group < b.group || a.group == b.group && lessPlace(a.at, b.at)
}

// topic is what a history says of a topic's existence.
type topic struct {
	created, deleteTried, deleted, listed bool
}

// index holds a history sorted for the rules.
type index struct {
	stats        Stats
	idempotent   map[string]bool
	sends        map[string]send
	order        []string // values in order of sending
	acks         map[string]ack
	failed       map[string]bool
	resolved     map[string]bool
	seen         map[place]map[int64]map[string]bool // every value ever read or acknowledged at an offset
	read         map[place]map[string]map[int64]bool // where each value was read
	final        map[place][]history.Record          // the full read, in the order it came
	finalAt      map[place]map[string]int64          // value → offset in the full read
	polls        []history.Event                     // Assign, Poll, Final in time order
	ends         map[place][]history.Event
	byTime       map[place][]history.Event
	commits      map[groupPlace][]history.Event
	committed    map[groupPlace][]history.Event
	topics       map[string]topic
	topicsListed bool
	troubles     []history.Event
}

func newIndex(events []history.Event) *index {
	ix := &index{
		idempotent: map[string]bool{}, sends: map[string]send{}, acks: map[string]ack{}, failed: map[string]bool{}, resolved: map[string]bool{},
		seen: map[place]map[int64]map[string]bool{}, read: map[place]map[string]map[int64]bool{},
		final: map[place][]history.Record{}, finalAt: map[place]map[string]int64{},
		ends: map[place][]history.Event{}, byTime: map[place][]history.Event{},
		commits: map[groupPlace][]history.Event{}, committed: map[groupPlace][]history.Event{},
		topics: map[string]topic{},
	}
	events = append([]history.Event(nil), events...)
	sort.SliceStable(events, func(i, j int) bool { return events[i].T < events[j].T })
	for _, e := range events {
		ix.add(e)
	}
	return ix
}

func (ix *index) add(e history.Event) {
	at := place{e.Topic, e.Partition}
	inGroup := groupPlace{e.Group, at}
	switch e.Kind {
	case history.Producer:
		ix.idempotent[e.Client] = e.Idempotent
	case history.Send:
		ix.stats.Sends++
		ix.sends[e.Value] = send{e.Client, e.Seq, e.T, at}
		ix.order = append(ix.order, e.Value)
	case history.Ack:
		ix.stats.Acks++
		ix.resolved[e.Value] = true
		ix.acks[e.Value] = ack{e.Offset, e.T}
	case history.Fail:
		ix.stats.Fails++
		ix.resolved[e.Value] = true
		ix.failed[e.Value] = true
	case history.Unknown:
		ix.stats.Unknowns++
		ix.resolved[e.Value] = true
	case history.Assign:
		ix.polls = append(ix.polls, e)
	case history.Poll, history.Final:
		ix.addRead(at, e)
	case history.Commit:
		ix.stats.Commits++
		ix.commits[inGroup] = append(ix.commits[inGroup], e)
	case history.Committed:
		ix.stats.CommittedReads++
		ix.committed[inGroup] = append(ix.committed[inGroup], e)
	case history.EndOffset:
		ix.stats.EndReads++
		ix.ends[at] = append(ix.ends[at], e)
	case history.ByTime:
		ix.stats.TimeReads++
		ix.byTime[at] = append(ix.byTime[at], e)
	case history.Created, history.Deleted, history.Listed:
		ix.addTopic(e)
	case history.Trouble:
		ix.troubles = append(ix.troubles, e)
	}
}

func (ix *index) addTopic(e history.Event) {
	t := ix.topics[e.Topic]
	switch e.Kind {
	case history.Created:
		t.created = t.created || e.Error == ""
	case history.Deleted:
		t.deleteTried, t.deleted = true, t.deleted || e.Error == ""
	case history.Listed:
		t.listed, ix.topicsListed = true, true
	}
	if e.Kind != history.Listed {
		ix.stats.TopicChanges++
	}
	ix.topics[e.Topic] = t
}

func (ix *index) addRead(at place, e history.Event) {
	ix.polls = append(ix.polls, e)
	if ix.seen[at] == nil {
		ix.seen[at], ix.read[at] = map[int64]map[string]bool{}, map[string]map[int64]bool{}
	}
	for _, r := range e.Records {
		ix.stats.Reads++
		add(ix.seen[at], r.Offset, r.Value)
		add(ix.read[at], r.Value, r.Offset)
	}
	if e.Kind != history.Final {
		return
	}
	ix.stats.FinalReads += len(e.Records)
	ix.final[at] = append(ix.final[at], e.Records...)
	if ix.finalAt[at] == nil {
		ix.finalAt[at] = map[string]int64{}
	}
	for _, r := range e.Records {
		ix.finalAt[at][r.Value] = r.Offset
	}
}

func add[A, B comparable](m map[A]map[B]bool, a A, b B) {
	if m[a] == nil {
		m[a] = map[B]bool{}
	}
	m[a][b] = true
}

// finalEnd is the offset after the last record of the full read, 0 when there is none.
func (ix *index) finalEnd(at place) int64 {
	records := ix.final[at]
	if len(records) == 0 {
		return 0
	}
	return records[len(records)-1].Offset + 1
}

// located is a value's one offset: its acknowledgement's, else where the full read found it.
func (ix *index) located(value string) (int64, bool) {
	if a, ok := ix.acks[value]; ok && a.offset >= 0 {
		return a.offset, true
	}
	offset, ok := ix.finalAt[ix.sends[value].at][value]
	return offset, ok
}
