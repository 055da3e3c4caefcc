package checker

import (
	"bytes"
	"encoding/json"
	"fmt"
	"testing"

	"alluvium/tests/chaos/history"
)

// story builds a history whose clock ticks by ten with every event; a request's S is five before its answer.
type story struct {
	t      int64
	events []history.Event
}

func (s *story) add(e history.Event) *story {
	s.t += 10
	e.T = s.t
	switch e.Kind {
	case history.Commit, history.Committed, history.EndOffset, history.ByTime:
		if e.S == 0 {
			e.S = s.t - 5
		}
	}
	if e.Topic == "" {
		e.Topic = "t"
	}
	s.events = append(s.events, e)
	return s
}

func (s *story) producer(name string, idempotent bool) *story {
	return s.add(history.Event{Kind: history.Producer, Client: name, Idempotent: idempotent})
}

func value(client string, seq int64) string { return fmt.Sprintf("%s:%d", client, seq) }

func (s *story) send(client string, seq int64) *story {
	return s.add(history.Event{Kind: history.Send, Client: client, Seq: seq, Value: value(client, seq)})
}

func (s *story) ack(client string, seq, offset int64) *story {
	return s.add(history.Event{Kind: history.Ack, Client: client, Value: value(client, seq), Offset: offset})
}

func (s *story) outcome(kind history.Kind, client string, seq int64) *story {
	return s.add(history.Event{Kind: kind, Client: client, Value: value(client, seq), Error: "x"})
}

func (s *story) assign(client, group string, offset int64) *story {
	return s.add(history.Event{Kind: history.Assign, Client: client, Group: group, Offset: offset})
}

// records turns values into records from a first offset on, with the offset times 100 as the timestamp.
func records(first int64, values ...string) []history.Record {
	var out []history.Record
	for i, v := range values {
		o := first + int64(i)
		out = append(out, history.Record{Offset: o, Value: v, Timestamp: o * 100})
	}
	return out
}

func (s *story) poll(client, group string, watermark, first int64, values ...string) *story {
	return s.add(history.Event{Kind: history.Poll, Client: client, Group: group, HighWatermark: watermark, Records: records(first, values...)})
}

func (s *story) final(values ...string) *story {
	s.assign("final", "", 0)
	return s.add(history.Event{Kind: history.Final, Client: "final", HighWatermark: int64(len(values)), Records: records(0, values...)})
}

func (s *story) commit(client string, offset int64, err string) *story {
	return s.add(history.Event{Kind: history.Commit, Client: client, Group: "g", Offset: offset, Error: err})
}

func (s *story) committed(offset int64) *story {
	return s.add(history.Event{Kind: history.Committed, Client: "seeker", Group: "g", Offset: offset})
}

func (s *story) end(offset int64) *story {
	return s.add(history.Event{Kind: history.EndOffset, Client: "seeker", Offset: offset})
}

func (s *story) byTime(asked, offset int64) *story {
	return s.add(history.Event{Kind: history.ByTime, Client: "seeker", Timestamp: asked, Offset: offset})
}

// two is the usual beginning: one idempotent producer, two records acknowledged at 0 and 1.
func two() *story {
	return new(story).producer("p", true).send("p", 1).ack("p", 1, 0).send("p", 2).ack("p", 2, 1)
}

// pair sends two records at once, so that only the producer's order binds them.
func pair() *story {
	return new(story).producer("p", true).producer("q", true).send("p", 1).send("p", 2)
}

func kinds(r Report) []string {
	return sorted(r.Anomalies, func(a, b string) bool { return a < b })
}

var good = map[string]*story{
	"empty":                      new(story),
	"plain":                      two().final("p:1", "p:2"),
	"pipelined acks out of turn": pair().ack("p", 2, 1).ack("p", 1, 0).final("p:1", "p:2"),
	"unknown and absent":         two().send("p", 3).outcome(history.Unknown, "p", 3).final("p:1", "p:2"),
	"unknown and present":        two().send("p", 3).outcome(history.Unknown, "p", 3).final("p:1", "p:2", "p:3"),
	"failed and absent":          two().send("p", 3).outcome(history.Fail, "p", 3).final("p:1", "p:2"),
	"plain producer may duplicate": new(story).producer("n", false).send("n", 1).ack("n", 1, 1).
		final("n:1", "n:1"),
	"concurrent producers in any order": pair().send("q", 1).ack("q", 1, 0).ack("p", 1, 1).ack("p", 2, 2).final("q:1", "p:1", "p:2"),
	"consumer from the beginning": two().assign("c", "", 0).poll("c", "", 1, 0, "p:1").poll("c", "", 2, 1, "p:2").
		final("p:1", "p:2"),
	"records above the watermark": two().assign("c", "", 0).poll("c", "", 1, 0, "p:1", "p:2").final("p:1", "p:2"),
	"seek back": two().assign("c", "", 0).poll("c", "", 2, 0, "p:1", "p:2").assign("c", "", 1).poll("c", "", 2, 1, "p:2").
		final("p:1", "p:2"),
	"group with a restart": two().assign("m", "g", -1).poll("m", "g", 2, 0, "p:1", "p:2").commit("m", 1, "").commit("m", 2, "lost").
		assign("n", "g", -1).poll("n", "g", 2, 1, "p:2").committed(1).commit("n", 2, "").committed(2).final("p:1", "p:2"),
	"unknown commit seen later": two().assign("m", "g", -1).poll("m", "g", 2, 0, "p:1", "p:2").commit("m", 1, "").
		commit("m", 2, "time-out").committed(2).final("p:1", "p:2"),
	"nothing committed yet": two().committed(-1).assign("m", "g", -1).poll("m", "g", 1, 0, "p:1").commit("m", 1, "").final("p:1", "p:2"),
	"ends grow":             two().end(2).send("p", 3).end(2).ack("p", 3, 2).end(3).final("p:1", "p:2", "p:3"),
	"topics": two().topic(history.Created, "a", "").topic(history.Created, "b", "lost").topic(history.Created, "c", "").topic(history.Deleted, "c", "").
		topic(history.Created, "d", "").topic(history.Deleted, "d", "lost").topic(history.Listed, "a", "").final("p:1", "p:2"),
	"times": two().byTime(0, 0).byTime(1, 1).byTime(100, 1).byTime(101, -1).final("p:1", "p:2"),
}

func (s *story) topic(kind history.Kind, name, err string) *story {
	return s.add(history.Event{Kind: kind, Client: "admin", Topic: name, Error: err})
}

// overlapping is a question asked before the acknowledgement and answered after it, so the lower answer is legal.
func overlapping() *story {
	s := new(story).producer("p", true).send("p", 1)
	s.ack("p", 1, 0)
	return s.add(history.Event{Kind: history.EndOffset, Client: "seeker", Offset: 0, S: 15}).final("p:1")
}

// heldBack is a commit that a member began before another one took its partition and committed more; it ended afterwards, with this
// generation. The group stands where it says, and that is where whoever comes next goes on.
func heldBack(generation int32, then ...int64) *story {
	s := two().assign("m", "g", -1).poll("m", "g", 2, 0, "p:1")
	began := s.t
	s.assign("n", "g", -1).poll("n", "g", 2, 0, "p:1", "p:2")
	s.add(history.Event{Kind: history.Commit, Client: "n", Group: "g", Generation: 2, Offset: 2})
	s.add(history.Event{Kind: history.Commit, Client: "m", Group: "g", Generation: generation, Offset: 1, S: began})
	for _, offset := range then {
		s.committed(offset)
	}
	return s.final("p:1", "p:2")
}

func TestGoodHistoriesPass(t *testing.T) {
	good["commit held back until its member joined anew"] = heldBack(3, 1, 1)
	good["answer overlapping an acknowledgement"] = overlapping()
	for name, s := range good {
		t.Run(name, func(t *testing.T) {
			for kind, details := range Check(s.events).Anomalies {
				t.Errorf("%s: %v", kind, details)
			}
		})
	}
}

// bad histories, each with every kind that must be reported for it and no other.
var bad = []struct {
	name string
	s    *story
	want []string
}{
	{"lost", two().send("p", 3).ack("p", 3, 2).final("p:1", "p:3"), []string{"ack-mismatch", "inconsistent-offset", "lost"}},
	{"lost in a hole", two().add(history.Event{Kind: history.Assign, Client: "final"}).
		add(history.Event{Kind: history.Final, Client: "final", HighWatermark: 2, Records: records(1, "p:2")}),
		[]string{"gap", "lost", "seek-missed"}},
	{"unseen", two().final("p:1"), []string{"unseen"}},
	{"no final read at all", two(), []string{"unseen"}},
	{"lost read", two().send("p", 3).outcome(history.Unknown, "p", 3).assign("c", "", 2).poll("c", "", 2+1, 2, "p:3").final("p:1", "p:2"),
		[]string{"end-beyond", "lost-read"}},
	{"two values at one offset", pair().outcome(history.Unknown, "p", 1).outcome(history.Unknown, "p", 2).
		assign("c", "", 0).poll("c", "", 1, 0, "p:1").final("p:2"), []string{"inconsistent-offset", "lost-read"}},
	{"acknowledged for one, read another", pair().ack("p", 2, 0).outcome(history.Unknown, "p", 1).final("p:1", "p:2"),
		[]string{"ack-mismatch", "inconsistent-offset", "reorder"}},
	{"offset acknowledged twice", new(story).producer("p", true).producer("q", true).send("p", 1).send("q", 1).ack("p", 1, 0).ack("q", 1, 0).final("p:1", "q:1"),
		[]string{"ack-mismatch", "inconsistent-offset", "offset-reused"}},
	{"negative offset", new(story).producer("p", true).send("p", 1).ack("p", 1, -1).final("p:1"), []string{"bad-ack"}},
	{"duplicate", two().final("p:1", "p:2", "p:2"), []string{"duplicate"}},
	{"duplicate seen only by a consumer", two().assign("c", "", 0).poll("c", "", 3, 0, "p:1", "p:2", "p:1").final("p:1", "p:2"),
		[]string{"duplicate", "end-beyond"}},
	{"phantom", two().final("p:1", "p:2", "x:9"), []string{"phantom"}},
	{"damaged", two().final("p:1", "corrupt:00"), []string{"inconsistent-offset", "lost", "phantom"}},
	{"phantom from another partition", two().add(history.Event{Kind: history.Assign, Client: "c", Partition: 1}).
		add(history.Event{Kind: history.Final, Client: "c", Partition: 1, HighWatermark: 1, Records: records(0, "p:1")}).final("p:1", "p:2"), []string{"phantom"}},
	{"refused and visible", two().send("p", 3).outcome(history.Fail, "p", 3).final("p:1", "p:2", "p:3"), []string{"failed-visible"}},
	{"gap", two().add(history.Event{Kind: history.Final, Client: "final", HighWatermark: 4, Records: append(records(0, "p:1", "p:2"), history.Record{Offset: 3, Value: "x"})}).
		send("x", 0), []string{"gap", "phantom", "poll-skip", "stuck"}},
	{"reorder", pair().ack("p", 2, 0).ack("p", 1, 1).final("p:2", "p:1"), []string{"reorder"}},
	{"reorder of unacknowledged records", pair().outcome(history.Unknown, "p", 1).outcome(history.Unknown, "p", 2).final("p:2", "p:1"), []string{"reorder"}},
	{"real time", new(story).producer("p", true).producer("q", true).send("p", 1).ack("p", 1, 1).send("q", 1).ack("q", 1, 0).final("q:1", "p:1"), []string{"realtime"}},
	{"poll skip", two().send("p", 3).ack("p", 3, 2).assign("c", "", 0).poll("c", "", 3, 0, "p:1").poll("c", "", 3, 2, "p:3").final("p:1", "p:2", "p:3"), []string{"poll-skip"}},
	{"poll again", two().assign("c", "", 0).poll("c", "", 2, 0, "p:1", "p:2").poll("c", "", 2, 1, "p:2").final("p:1", "p:2"), []string{"nonmonotonic-poll"}},
	{"seek missed", two().assign("c", "", 0).poll("c", "", 2, 1, "p:2").final("p:1", "p:2"), []string{"seek-missed"}},
	{"watermark back", two().assign("c", "", 0).poll("c", "", 2, 0, "p:1").poll("c", "", 1, 1).final("p:1", "p:2"), []string{"watermark-back"}},
	{"watermark beyond the log", two().assign("c", "", 0).poll("c", "", 9, 0, "p:1").final("p:1", "p:2"), []string{"end-beyond"}},
	{"end below an acknowledgement", two().end(1).final("p:1", "p:2"), []string{"end-stale"}},
	{"end below an earlier end", two().send("p", 3).outcome(history.Unknown, "p", 3).end(3).end(2).final("p:1", "p:2", "p:3"), []string{"end-stale"}},
	{"end below a read", two().send("p", 3).outcome(history.Unknown, "p", 3).assign("c", "", 2).poll("c", "", 3, 2, "p:3").end(2).final("p:1", "p:2", "p:3"), []string{"end-stale"}},
	{"end beyond the log", two().end(7).final("p:1", "p:2"), []string{"end-beyond"}},
	{"time lookup too late", two().byTime(0, 1).final("p:1", "p:2"), []string{"time-lookup"}},
	{"time lookup too early", two().byTime(50, 0).final("p:1", "p:2"), []string{"time-lookup"}},
	{"time lookup finds nothing", two().byTime(50, -1).final("p:1", "p:2"), []string{"time-lookup"}},
	{"committed offset lost", two().assign("m", "g", -1).poll("m", "g", 2, 0, "p:1", "p:2").commit("m", 2, "").committed(-1).final("p:1", "p:2"), []string{"committed-back"}},
	{"committed offset back", two().assign("m", "g", -1).poll("m", "g", 2, 0, "p:1", "p:2").commit("m", 1, "").commit("m", 2, "").committed(1).final("p:1", "p:2"), []string{"committed-back"}},
	{"committed offset back after it was shown", two().assign("m", "g", -1).poll("m", "g", 2, 0, "p:1", "p:2").commit("m", 1, "").commit("m", 2, "lost").committed(2).committed(1).
		final("p:1", "p:2"), []string{"committed-back"}},
	{"member resumed from an older commit", two().assign("m", "g", -1).poll("m", "g", 2, 0, "p:1", "p:2").commit("m", 2, "").
		assign("n", "g", -1).poll("n", "g", 2, 0, "p:1").commit("n", 1, "").final("p:1", "p:2"), []string{"committed-back"}},
	{"commit of an old generation taken", heldBack(1, 1), []string{"committed-back"}},
	{"committed offset back after one was held back", heldBack(3, 1, 2, 1), []string{"committed-back"}},
	{"committed by nobody", two().assign("m", "g", -1).poll("m", "g", 2, 0, "p:1", "p:2").commit("m", 1, "").committed(2).final("p:1", "p:2"), []string{"committed-phantom"}},
	{"group skipped a record", two().assign("m", "g", -1).poll("m", "g", 2, 1, "p:2").commit("m", 2, "").final("p:1", "p:2"), []string{"group-skip"}},
	{"created topic lost", two().topic(history.Created, "a", "").topic(history.Listed, "t", "").final("p:1", "p:2"), []string{"topic-lost"}},
	{"deleted topic back", two().topic(history.Created, "a", "").topic(history.Deleted, "a", "").topic(history.Listed, "a", "").final("p:1", "p:2"), []string{"topic-back"}},
	{"trouble", two().add(history.Event{Kind: history.Trouble, Client: "p", Error: "data loss"}).final("p:1", "p:2"), []string{"trouble"}},
	{"stuck", two().send("p", 3).final("p:1", "p:2"), []string{"stuck"}},
}

func TestBadHistoriesAreFound(t *testing.T) {
	covered := map[string]bool{}
	for _, c := range bad {
		t.Run(c.name, func(t *testing.T) {
			report := Check(c.s.events)
			if got := kinds(report); fmt.Sprint(got) != fmt.Sprint(c.want) {
				t.Errorf("found %v, want %v: %v", got, c.want, report.Anomalies)
			}
		})
		for _, kind := range c.want {
			covered[kind] = true
		}
	}
	for _, kind := range Kinds {
		if !covered[kind.Name] {
			t.Errorf("no bad history for %s", kind.Name)
		}
		delete(covered, kind.Name)
	}
	for kind := range covered {
		t.Errorf("%s is not listed in Kinds", kind)
	}
}

func TestHistoryFileRoundTrip(t *testing.T) {
	s := bad[0].s
	var file bytes.Buffer
	for _, e := range s.events {
		if err := json.NewEncoder(&file).Encode(e); err != nil {
			t.Fatal(err)
		}
	}
	events, err := history.Read(&file)
	if err != nil {
		t.Fatal(err)
	}
	if got := kinds(Check(events)); fmt.Sprint(got) != fmt.Sprint(bad[0].want) {
		t.Errorf("after the file: %v", got)
	}
}

func TestStatsCountWhatTheHistoryHolds(t *testing.T) {
	stats := Check(good["group with a restart"].events).Stats
	want := Stats{Sends: 2, Acks: 2, Reads: 5, FinalReads: 2, Commits: 3, CommittedReads: 2}
	if stats != want {
		t.Errorf("%+v, want %+v", stats, want)
	}
}
