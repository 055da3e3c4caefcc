// abuse does to a broker what hostile and broken clients do, beside a well-behaved neighbour (see tests/abuse/run).
//
// Every case runs in three steps: the neighbour alone, the neighbour beside the abuser, and a look at what is left. What must never be
// false is judged on any machine: the broker lives and is ready, the neighbour loses no record and sees no error and no closed
// connection, memory stays below the case's bound, the abuser gets what the case says. With STRICT=1 the neighbour's p99 beside the
// abuser must stay within twice its p99 alone as well. The abusers run on the broker's own machine, in few threads (GOMAXPROCS=1
// unless set) and behind the broker and the neighbour, which is a process of its own: what they compute is not what is measured.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// target is what a case works on.
type target struct {
	broker *broker
	dials  atomic.Uint32
	// The neighbour may be joined by new well-behaved clients.
	neighbour *remote
	// Length of an abuse that has no length of its own.
	length time.Duration
	// Sockets that this process may have.
	sockets int
	// The neighbour's p99 is judged.
	strict bool
}

// abuse is one case. It returns what the abuser did and got; an error if that is not what it must be.
type abuse struct {
	name string
	// Most MiB by which the broker's memory may grow.
	bound float64
	run   func(*target) (string, error)
}

// row is a line of the table.
type row struct {
	name          string
	alone, beside span
	before, peak  float64
	note          string
	err           error
}

// life is one start of the broker and the cases in it.
type life struct {
	name, prelude, flags string
	cases                []abuse
}

var lives = []life{
	{"as it comes", "ulimit -Sn 1024; ", mergesSoon, defaults},
	{"with low limits", "ulimit -n 400; ", mergesSoon + " --set connections.max.idle.ms=3000 --set max.connections.per.ip=60", limited},
}

// What was written before the first case is merged before it, and the neighbour's records often and little by little: a merge of much takes
// 80 MiB of the buffers, which would be reckoned to the case that it falls into.
const mergesSoon = "--merge-window-ms 3000"

// A p99 that is too high so many times in a row is the broker's.
const tries = 3

// A case begins when the broker has had time to give back what the one before took.
const settle = 200 * time.Millisecond

// At the end the broker may hold so much more than after the start: MiB. Its caches are filled before the start, and a bit more since; a
// thousand topics were made, and groups whose members keep 64 MiB, in memory and in the newest segments.
const keptAtEnd = 288

func main() {
	if len(os.Args) == 3 && os.Args[1] == neighbourCommand {
		liveBeside(os.Args[2])
		return
	}
	t := &target{length: time.Second, sockets: raiseSockets()}
	log, err := os.Create(os.Getenv("ABUSE_LOG"))
	if err != nil {
		fail(err)
	}
	t.broker = &broker{command: os.Getenv("BROKER_CMD"), address: os.Getenv("BOOTSTRAP"), admin: os.Getenv("ADMIN"), log: log}
	alone := 400 * time.Millisecond
	t.strict = os.Getenv("STRICT") == "1"
	if t.strict || os.Getenv("FIGURES") == "1" {
		t.length, alone = 8*time.Second, 8*time.Second
	}
	only := regexp.MustCompile(os.Getenv("ONLY"))
	var rows []row
	failed := false
	for _, life := range lives {
		done, err := t.live(life, only, alone)
		rows = append(rows, done...)
		if err != nil {
			failed = true
			fmt.Printf("FAIL broker/%s: %v\n", strings.ReplaceAll(life.name, " ", "-"), err)
		}
	}
	for _, r := range rows {
		failed = failed || r.err != nil
	}
	table(rows)
	if t.strict {
		failed = judgeLatencies(rows) || failed
	}
	if failed {
		os.Exit(1)
	}
}

func fail(err error) {
	fmt.Printf("FAIL abuse: %v\n", err)
	os.Exit(1)
}

// raiseSockets lifts the soft limit of descriptors to the hard one.
func raiseSockets() int {
	var limit syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit) != nil {
		return 1000
	}
	limit.Cur = limit.Max
	_ = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit) // what counts is read back
	_ = syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit)
	return int(min(limit.Cur, 1<<20)) - 200
}

// live runs the cases of one life.
func (t *target) live(l life, only *regexp.Regexp, alone time.Duration) (rows []row, err error) {
	if !anyWanted(l.cases, only) {
		return nil, nil
	}
	if err := t.broker.start(l.prelude, l.flags); err != nil {
		return nil, err
	}
	defer t.broker.kill()
	if err := t.prepare(); err != nil {
		return nil, fmt.Errorf("preparing: %w", err)
	}
	// What others left to be written (a compiler's output) is written now and not beside the neighbour's records.
	syscall.Sync()
	if t.neighbour, err = startNeighbourProcess(t.broker.address); err != nil {
		return nil, err
	}
	defer t.neighbour.close()
	time.Sleep(time.Second)
	if err := t.neighbour.verdict(); err != nil {
		return nil, fmt.Errorf("before anything: %w", err)
	}
	begin := t.broker.resident()
	for _, a := range l.cases {
		if !only.MatchString(a.name) {
			continue
		}
		rows = append(rows, t.measured(a, alone)...)
		if !t.broker.lives() {
			return rows, fmt.Errorf("it ended in %s: %v", a.name, t.broker.cmd.ProcessState)
		}
	}
	if err := t.givenBack(begin); err != nil {
		return rows, err
	}
	t.neighbour.leave()
	if err := t.broker.stop(); err != nil {
		return rows, err
	}
	fmt.Printf("ok broker/%s ended by SIGTERM\n", strings.ReplaceAll(l.name, " ", "-"))
	return rows, nil
}

func anyWanted(cases []abuse, only *regexp.Regexp) bool {
	for _, a := range cases {
		if only.MatchString(a.name) {
			return true
		}
	}
	return false
}

// measured runs one case; when latencies are judged and are too high, again: noise of the machine comes and goes.
func (t *target) measured(a abuse, alone time.Duration) (rows []row) {
	for range tries {
		r := t.judge(a, alone)
		rows = append(rows, r)
		if r.err != nil {
			fmt.Printf("FAIL %s: %v\n", a.name, r.err)
		} else {
			fmt.Printf("ok %s\n", r)
		}
		if !t.strict || !r.slow() || r.err != nil || !t.broker.lives() {
			break
		}
	}
	return rows
}

// judge runs one case.
func (t *target) judge(a abuse, alone time.Duration) row {
	r := row{name: a.name}
	t.neighbour.take()
	time.Sleep(alone)
	r.alone = t.neighbour.take()
	r.before = t.broker.resident()
	peak := t.broker.watch()
	note, err := a.run(t)
	r.beside = t.neighbour.take()
	lost := t.neighbour.verdict()
	r.peak, r.note = peak(), note
	r.err = errors.Join(err, lost)
	if grown := r.peak - r.before; grown > a.bound {
		r.err = errors.Join(r.err, fmt.Errorf("memory grew by %.0f MiB, more than %.0f (%s)", grown, a.bound, note))
	}
	if err := t.broker.ready(); err != nil {
		r.err = errors.Join(r.err, fmt.Errorf("not ready: %w", err))
	}
	time.Sleep(settle)
	return r
}

// givenBack waits until the memory of the abuses is free again.
func (t *target) givenBack(begin float64) error {
	now := t.broker.resident()
	for deadline := time.Now().Add(20 * time.Second); now > begin+keptAtEnd && time.Now().Before(deadline); now = t.broker.resident() {
		time.Sleep(100 * time.Millisecond)
	}
	if now > begin+keptAtEnd {
		return fmt.Errorf("it holds %.0f MiB after all abuse, %.0f before", now, begin)
	}
	fmt.Printf("ok memory is given back: %.0f MiB before all abuse, %.0f after\n", begin, now)
	return nil
}

// prepare makes the topics, and fills the caches with the log that is fetched later.
func (t *target) prepare() error {
	client, err := kgo.NewClient(kgo.SeedBrokers(t.broker.address), kgo.DefaultProduceTopic("big"), kgo.ProducerBatchCompression(kgo.NoCompression()))
	if err != nil {
		return err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	made, err := kadm.NewClient(client).CreateTopics(ctx, 1, 1, nil, neighbourTopic, "big", "victim")
	if err != nil {
		return err
	}
	if made.Error() != nil { // a later life finds them
		return nil
	}
	value := make([]byte, 256<<10)
	for range bigBytes / len(value) {
		client.Produce(ctx, &kgo.Record{Value: value}, func(_ *kgo.Record, failed error) { err = errors.Join(err, failed) })
	}
	if flushed := client.Flush(ctx); flushed != nil || err != nil {
		return errors.Join(flushed, err)
	}
	c, err := t.dial()
	if err != nil {
		return err
	}
	defer c.Close()
	for offset := int64(0); offset < bigBytes/int64(len(value)); offset += 64 {
		if _, err := c.write(framed(fetchRequest("big", offset, 16<<20), 1), time.Minute); err != nil {
			return err
		}
		if _, err := c.answer(time.Minute); err != nil {
			return err
		}
	}
	return t.broker.merged(bigBytes)
}

// What the topic that is fetched holds: more than the caches.
const bigBytes = 320 << 20
