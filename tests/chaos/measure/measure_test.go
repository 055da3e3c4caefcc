package measure

import (
	"testing"
	"time"

	"alluvium/tests/chaos/history"
)

func mark(t int64, kind string, broker int32, words string) history.Event {
	return history.Event{T: t, Kind: history.Nemesis, Value: kind, Partition: broker, Error: words}
}

func send(t int64, p int32, value string) history.Event {
	return history.Event{T: t, Kind: history.Send, Topic: "t", Partition: p, Value: value}
}

func ack(t int64, p int32, value string) history.Event {
	return history.Event{T: t, Kind: history.Ack, Topic: "t", Partition: p, Value: value}
}

func TestAnOutageLastsUntilTheLastPartitionTakesWhatIsSentAfterTheKill(t *testing.T) {
	events := []history.Event{
		send(1, 0, "a"), send(1, 1, "b"), mark(9, "begin", 0, "kill"), mark(10, "kill", 2, ""),
		ack(11, 0, "a"), send(12, 0, "c"), send(12, 1, "d"), ack(20, 0, "c"), mark(25, "start", 2, ""), ack(50, 1, "d"),
	}
	got := Outages(events)
	if len(got) != 1 || got[0] != (Outage{Broker: 2, Partition: "t/1", Length: 40, Served: true}) {
		t.Fatalf("%+v", got)
	}
	events[9].T = 70
	events = append(events, mark(60, "begin", 0, "pause"))
	if got := Outages(events); len(got) != 1 || got[0].Served {
		t.Fatalf("served after the next scenario began: %+v", got)
	}
	events[2].Error = "late writes of the dead"
	if got := Outages(events); len(got) != 0 {
		t.Fatalf("not a plain kill: %+v", got)
	}
}

func TestWaitsAreThoseOfRecordsSentBetweenTheMarks(t *testing.T) {
	events := []history.Event{
		send(1, 0, "a"), mark(2, "rolling", 0, ""), ack(3, 0, "a"), send(4, 0, "b"), send(5, 0, "c"), ack(9, 0, "c"),
		mark(10, "rolled", 0, ""), send(11, 0, "d"), ack(12, 0, "d"), ack(24, 0, "b"),
	}
	waits := Waits(events, "rolling", "rolled")
	if len(waits) != 2 || Quantile(waits, 0) != 4 || Quantile(waits, 0.99) != 20 || Quantile(nil, 0.5) != time.Duration(0) {
		t.Fatalf("%v", waits)
	}
}

func TestAPartitionIsSilentWhileSomebodyWaitsAndNothingIsAcknowledged(t *testing.T) {
	events := []history.Event{
		send(1, 0, "before"), send(2, 1, "lost"), mark(10, "terminate", 1, ""),
		mark(20, "rolling", 0, ""), send(21, 0, "a"), mark(30, "terminate", 1, ""), // "before" waits since the mark
		ack(35, 0, "before"), send(36, 0, "b"), ack(50, 0, "a"), ack(51, 0, "b"), // 15 after the one before
		mark(60, "terminate", 2, ""), send(65, 0, "c"), ack(68, 0, "c"), // nobody waited before
		send(69, 1, "d"), ack(70, 1, "d"), // another record waits since the mark
		mark(80, "begin", 0, "kill"), send(81, 0, "e"), ack(99, 0, "e"),
	}
	got := Silences(events, "rolling", "begin", "terminate")
	if len(got) != 3 || got[0] != 3 || got[1] != 10 || got[2] != 15 {
		t.Fatalf("%v", got)
	}
	if got := Silences(events[:len(events)-3], "rolling", "begin", "terminate"); len(got) != 3 {
		t.Fatalf("at the end of the run: %v", got)
	}
}
