// Package history defines what a chaos run records: one event a line, as JSON.
//
// A history is evidence, so the rules for its times are strict. `T` is the moment after which the client knew something; for an
// operation with an answer `S` is the moment before the request left. Both are nanoseconds of CLOCK_MONOTONIC, which every process of
// the machine shares, so events of the Python producers compare with those of the Go clients.
package history

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// Kind says what an event is evidence of.
type Kind string

// The kinds. Fields that a kind uses are named beside it; Topic and Partition belong to all of them that are about one partition.
const (
	Producer  Kind = "producer"  // Client, Idempotent: a producer exists
	Send      Kind = "send"      // Client, Value, Seq: handed to the client library
	Ack       Kind = "ack"       // Client, Value, Offset: acknowledged with acks=1 or all
	Fail      Kind = "fail"      // Client, Value, Error: refused for good; it must never be read
	Unknown   Kind = "unknown"   // Client, Value, Error: may or may not be in the log
	Assign    Kind = "assign"    // Client, Group, Offset: reading starts here; -1: where the group had committed
	Poll      Kind = "poll"      // Client, Group, Records, HighWatermark
	Final     Kind = "final"     // Client, Records: the full read after the cluster healed
	Commit    Kind = "commit"    // Client, Group, Generation, Offset, S, Error: empty error means acknowledged
	Committed Kind = "committed" // Client, Group, Offset, S: the answer of OffsetFetch; -1 none
	EndOffset Kind = "end"       // Client, Offset, S: the answer of ListOffsets(latest)
	ByTime    Kind = "bytime"    // Client, Timestamp (asked), Offset (-1 none), S: the answer of ListOffsets(timestamp)
	Trouble   Kind = "trouble"   // Client, Error: a client library was told of lost data or stopped for good
	Created   Kind = "created"   // Client, Topic, Error: empty error means acknowledged
	Deleted   Kind = "deleted"   // Client, Topic, Error: empty error means acknowledged; any other outcome may have happened
	Listed    Kind = "listed"    // Client, Topic, Offset: at the end the topic exists, with this many partitions
	Nemesis   Kind = "nemesis"   // Error: what was done to the broker
)

// NoOffset stands in an acknowledgement that does not say where the record is: its own answer was lost, and a later one stood for
// it (librdkafka), or the broker knows that it was written and not where (DUPLICATE_SEQUENCE_NUMBER).
const NoOffset = -2

// Record is one record as a consumer saw it. A value that fails its own check reads `corrupt:…`, which no producer ever sent.
type Record struct {
	Offset    int64  `json:"o"`
	Value     string `json:"v"`
	Timestamp int64  `json:"ts"`
}

// Event is one line of a history.
type Event struct {
	T             int64    `json:"t"`
	S             int64    `json:"s,omitempty"`
	Kind          Kind     `json:"k"`
	Client        string   `json:"c,omitempty"`
	Group         string   `json:"g,omitempty"`
	Generation    int32    `json:"gen,omitempty"`
	Topic         string   `json:"tp,omitempty"`
	Partition     int32    `json:"p"`
	Offset        int64    `json:"o"`
	Seq           int64    `json:"seq,omitempty"`
	Timestamp     int64    `json:"ts,omitempty"`
	Value         string   `json:"v,omitempty"`
	Records       []Record `json:"r,omitempty"`
	HighWatermark int64    `json:"hw,omitempty"`
	Idempotent    bool     `json:"idem,omitempty"`
	Error         string   `json:"err,omitempty"`
}

// Now reads the clock of all histories.
func Now() int64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		panic(fmt.Sprintf("CLOCK_MONOTONIC: %v", err))
	}
	return ts.Nano()
}

// Recorder appends events to a file and keeps them in memory for the checker.
type Recorder struct {
	mu     sync.Mutex
	file   *os.File
	out    *bufio.Writer
	events []Event
}

// Create opens a recorder on a new file.
func Create(path string) (*Recorder, error) {
	file, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	return &Recorder{file: file, out: bufio.NewWriterSize(file, 1<<20)}, nil
}

// Add stamps the event unless its T is set and appends it.
func (r *Recorder) Add(e Event) {
	if e.T == 0 {
		e.T = Now()
	}
	line, err := json.Marshal(e)
	if err != nil {
		panic(fmt.Sprintf("event does not encode: %v", err))
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, e)
	r.out.Write(append(line, '\n'))
}

// Events flushes the file and returns everything recorded so far.
func (r *Recorder) Events() ([]Event, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]Event(nil), r.events...), r.out.Flush()
}

// Close flushes and closes the file.
func (r *Recorder) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.out.Flush(); err != nil {
		return err
	}
	return r.file.Close()
}

// Read parses a recorded file.
func Read(in io.Reader) ([]Event, error) {
	var events []Event
	dec := json.NewDecoder(bufio.NewReaderSize(in, 1<<20))
	for {
		var e Event
		if err := dec.Decode(&e); err == io.EOF {
			return events, nil
		} else if err != nil {
			return nil, fmt.Errorf("event %d: %w", len(events)+1, err)
		}
		events = append(events, e)
	}
}
