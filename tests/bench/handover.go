package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Limits that -strict holds: of the time for which a move keeps a partition unwritable, and of a producer's acknowledgements meanwhile.
const (
	unwritableP99 = 250 * time.Millisecond
	unwritableMax = time.Second
	producerP99   = time.Second
)

// quiet is how long the cluster is measured before the first restart; calm is the pause after a broker has got back what it led.
const (
	warmUp = 3 * time.Second
	quiet  = 15 * time.Second
	calm   = 2 * time.Second
)

// move is a change of a partition's leader, as its prober saw it.
type move struct {
	partition int32
	from, to  attempt // the last that the old leader acknowledged, and the first of the new one
	first     attempt // the first that was sent after `from` and not acknowledged by the old leader
}

// unwritable runs from the sending of the first request that the old leader did not take to the acknowledgement of the first that the new
// one took: refusals, the client's ways, and the write itself are in it.
func (m move) unwritable() time.Duration { return m.to.answered - m.first.sent }

// sinceLast runs from the sending of the last request that the old leader took: not less than the truth, for the partition became
// unwritable after that. It has up to a prober's pause in it in which nobody wrote.
func (m move) sinceLast() time.Duration { return m.to.answered - m.from.sent }

// restart is a step of the rolling restart, in time since the beginning.
type restart struct {
	broker               int
	asked, ended, shared time.Duration
}

// handover restarts the brokers one after another, -rounds times, while each partition is written to by a prober and all of them by one
// producer. See tests/bench/handover.
func (l load) handover(ctx context.Context, _ *watch) (figures, error) {
	fleet, err := newFleet(l.brokers, l.topic)
	if err != nil {
		return nil, err
	}
	defer fleet.killAll()
	var addresses []string
	for _, broker := range fleet.brokers {
		if err := broker.start(); err != nil {
			return nil, err
		}
		addresses = append(addresses, broker.address)
	}
	l.bootstrap = strings.Join(addresses, ",")
	options := []kgo.Opt{kgo.RecordPartitioner(kgo.RoundRobinPartitioner())}
	if l.clientLog != "" {
		log, err := os.Create(l.clientLog)
		if err != nil {
			return nil, err
		}
		defer log.Close()
		now := func() string { return time.Now().UTC().Format("15:04:05.000 ") }
		options = append(options, kgo.WithLogger(kgo.BasicLogger(log, kgo.LogLevelDebug, now)))
	}
	client := l.client(options...)
	defer client.Close()
	if _, err := kadm.NewClient(client).CreateTopic(ctx, int32(l.partitions), 1, nil, l.topic); err != nil {
		return nil, err
	}
	led, err := fleet.settled(ctx, nil)
	if err != nil {
		return nil, err
	}
	m := &measurement{load: l, fleet: fleet, began: time.Now()}
	stop := m.begin(ctx, client)
	restarts, err := m.restartAll(ctx, led)
	stop()
	if err != nil {
		return nil, err
	}
	return m.report(restarts)
}

// measurement is all who write, and what they saw.
type measurement struct {
	load    load
	fleet   *fleet
	began   time.Time
	probers []*prober
	puts    latencies
	writes  producerWrites
	failure error
}

// producerWrites are the acknowledgements of the real client.
type producerWrites struct {
	mutex  sync.Mutex
	all    []write
	failed map[string]int
}

// write is one thing that was written: when it was to be, and how long it took.
type write struct{ at, took time.Duration }

// begin starts all who write. What it returns stops them and waits for them.
func (m *measurement) begin(ctx context.Context, client *kgo.Client) (stop func()) {
	writing, cancel := context.WithCancel(ctx)
	var open sync.WaitGroup
	for partition := range m.load.partitions {
		p := newProber(m.fleet, m.load.topic, int32(partition), m.load.interval, m.began)
		m.probers = append(m.probers, p)
		open.Go(func() {
			// Not all at once.
			time.Sleep(m.load.interval * time.Duration(partition) / time.Duration(m.load.partitions))
			p.run(writing)
		})
	}
	m.writes.failed = map[string]int{}
	open.Go(func() { m.produce(writing, client) })
	open.Go(func() { m.failure = m.load.probe(writing, &m.puts) })
	return func() {
		cancel()
		open.Wait()
	}
}

// produce sends records at -rate until the context ends.
func (m *measurement) produce(ctx context.Context, client *kgo.Client) {
	values := newValues(m.load)
	var open sync.WaitGroup
	begun, sent := time.Now(), 0
	for ctx.Err() == nil {
		for due := int(time.Since(begun).Seconds() * float64(m.load.rate)); sent < due; sent++ {
			at := time.Since(m.began)
			open.Add(1)
			client.Produce(context.WithoutCancel(ctx), &kgo.Record{Value: values.next()}, func(_ *kgo.Record, err error) {
				defer open.Done()
				m.writes.mutex.Lock()
				defer m.writes.mutex.Unlock()
				if err != nil {
					m.writes.failed[err.Error()]++
				} else {
					m.writes.all = append(m.writes.all, write{at, time.Since(m.began) - at})
				}
			})
		}
		time.Sleep(time.Millisecond)
	}
	open.Wait()
}

func (m *measurement) restartAll(ctx context.Context, led map[int32]int) ([]restart, error) {
	time.Sleep(warmUp + quiet)
	var restarts []restart
	for range m.load.rounds {
		for number, broker := range m.fleet.brokers {
			r := restart{broker: number, asked: time.Since(m.began)}
			if err := broker.leave(); err != nil {
				return nil, fmt.Errorf("broker %d: %w", number, err)
			}
			r.ended = time.Since(m.began)
			if err := broker.start(); err != nil {
				return nil, err
			}
			if _, err := m.fleet.settled(ctx, led); err != nil {
				return nil, err
			}
			r.shared = time.Since(m.began)
			fmt.Fprintf(os.Stderr, "broker %d: gone after %.1f s, leads its share again after %.1f s\n", number,
				(r.ended - r.asked).Seconds(), (r.shared - r.asked).Seconds())
			restarts = append(restarts, r)
			time.Sleep(calm)
		}
	}
	return restarts, nil
}

// moves reads the changes of leaders out of a partition's attempts.
func moves(partition int32, attempts []attempt) []move {
	slices.SortFunc(attempts, func(a, b attempt) int { return cmp.Compare(a.sent, b.sent) })
	var taken, refused []attempt
	for _, a := range attempts {
		if a.err == nil {
			taken = append(taken, a)
		} else {
			refused = append(refused, a)
		}
	}
	slices.SortFunc(taken, func(a, b attempt) int { return cmp.Compare(a.offset, b.offset) })
	var all []move
	for i := 1; i < len(taken); i++ {
		from, to := taken[i-1], taken[i]
		if from.broker == to.broker && from.life == to.life {
			continue
		}
		m := move{partition: partition, from: from, to: to, first: to}
		for _, a := range refused {
			if a.sent > from.sent && a.sent < m.first.sent {
				m.first = a
			}
		}
		all = append(all, m)
	}
	return all
}

// waits is how long after its sending each attempt, or the next one that was taken, was acknowledged: what a writer sees.
func waits(attempts []attempt) []write {
	slices.SortFunc(attempts, func(a, b attempt) int { return cmp.Compare(b.sent, a.sent) })
	var all []write
	var taken time.Duration
	for _, a := range attempts {
		if a.err == nil && (taken == 0 || a.answered < taken) {
			taken = a.answered
		}
		if taken > 0 {
			all = append(all, write{a.sent, taken - a.sent})
		}
	}
	return all
}

// between gives how long the writes took that began in a time, sorted.
func between(writes []write, from, to time.Duration) []time.Duration {
	var took []time.Duration
	for _, w := range writes {
		if w.at >= from && w.at < to {
			took = append(took, w.took)
		}
	}
	slices.Sort(took)
	return took
}

func quantile(sorted []time.Duration, q float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))]
}

// row prints quantiles for people and adds them to the figures.
func row(result figures, name, title string, sorted []time.Duration) {
	ms := func(q float64) float64 { return float64(quantile(sorted, q).Microseconds()) / 1e3 }
	fmt.Printf("%-58s %6d %8.1f %8.1f %8.1f %8.1f\n", title, len(sorted), ms(0.5), ms(0.9), ms(0.99), ms(1))
	result[name+"_count"], result[name+"_p50_ms"], result[name+"_p90_ms"], result[name+"_p99_ms"], result[name+"_max_ms"] =
		float64(len(sorted)), ms(0.5), ms(0.9), ms(0.99), ms(1)
}

func durations(moves []move, of func(move) time.Duration) []time.Duration {
	var all []time.Duration
	for _, m := range moves {
		all = append(all, of(m))
	}
	slices.Sort(all)
	return all
}

func (m *measurement) report(restarts []restart) (figures, error) {
	result := figures{}
	if m.failure != nil {
		return nil, m.failure
	}
	var all []move
	var probed []write
	errorsSeen, foreign := map[string]int{}, 0
	for _, p := range m.probers {
		twice := map[int64]bool{}
		for _, a := range p.attempts {
			if a.err == nil {
				if twice[a.offset] {
					return nil, fmt.Errorf("partition %d: offset %d was acknowledged twice", p.partition, a.offset)
				}
				twice[a.offset] = true
				continue
			}
			errorsSeen[a.err.Error()]++
			if !errors.Is(a.err, errConnection) && !kerr.IsRetriable(a.err) {
				foreign++
			}
		}
		all = append(all, moves(p.partition, p.attempts)...)
		probed = append(probed, waits(p.attempts)...)
	}
	for reason, count := range m.writes.failed {
		errorsSeen["the producer gave up: "+reason] += count
		foreign += count
	}
	left := func(m move) bool { return slices.ContainsFunc(restarts, func(r restart) bool { return r.leaves(m) }) }
	var away, back []move
	for _, m := range all {
		if left(m) {
			away = append(away, m)
		} else {
			back = append(back, m)
		}
	}
	before, begin, end := warmUp, restarts[0].asked, restarts[len(restarts)-1].shared+calm
	fmt.Printf("%d partitions, %d brokers, %d restarts; a prober writes every %v to each partition, a producer %d records/s to all; times in ms\n\n",
		m.load.partitions, len(m.fleet.brokers), len(restarts), m.load.interval, m.load.rate)
	fmt.Printf("%-58s %6s %8s %8s %8s %8s\n", "", "count", "p50", "p90", "p99", "worst")
	row(result, "unwritable", "a move keeps a partition unwritable", durations(all, move.unwritable))
	row(result, "unwritable_leaving", "  from a broker that leaves", durations(away, move.unwritable))
	row(result, "unwritable_coming", "  back to one that came", durations(back, move.unwritable))
	row(result, "since_last", "  counted from the last request that the old leader took", durations(all, move.sinceLast))
	row(result, "probe_before", "a write of the probers, before", between(probed, before, begin))
	row(result, "probe_during", "  during the restarts", between(probed, begin, end))
	row(result, "producer_before", "a record of the producer, before", between(m.writes.all, before, begin))
	row(result, "producer_during", "  during the restarts", between(m.writes.all, begin, end))
	row(result, "store_put", "a PUT of the store, all the time", m.puts.durations())
	fmt.Printf("\nwhat clients were refused with:\n")
	for _, name := range slices.Sorted(maps.Keys(errorsSeen)) {
		fmt.Printf("%8d %s\n", errorsSeen[name], name)
	}
	result["errors_not_retriable"] = float64(foreign)
	m.worst(all)
	return result, m.verdict(result)
}

// leaves says whether a move is away from the broker that was asked to stop.
func (r restart) leaves(m move) bool {
	return m.from.broker == r.broker && m.to.answered > r.asked && m.from.sent < r.ended
}

// worst prints the moves that took longest, with the times to look for in the brokers' logs.
func (m *measurement) worst(all []move) {
	slices.SortFunc(all, func(a, b move) int { return cmp.Compare(b.unwritable(), a.unwritable()) })
	fmt.Printf("\nthe longest: when, partition, from and to which broker; ms until the first answer of the old leader, until the request that the new one took was sent, until its answer\n")
	for _, each := range all[:min(len(all), 8)] {
		at := m.began.Add(each.first.sent).UTC().Format("15:04:05.000")
		ms := func(d time.Duration) int64 { return d.Milliseconds() }
		fmt.Printf("%s %4d %d→%d %6d %6d %6d\n", at, each.partition, each.from.broker, each.to.broker,
			ms(each.first.answered-each.first.sent), ms(each.to.sent-each.first.sent), ms(each.unwritable()))
	}
}

// verdict holds the limits: an error with -strict, else a line.
func (m *measurement) verdict(result figures) error {
	var over []string
	limit := func(name string, most time.Duration) {
		if ms := result[name]; ms >= float64(most.Milliseconds()) {
			over = append(over, fmt.Sprintf("%s is %.0f, and should be less than %d", name, ms, most.Milliseconds()))
		}
	}
	limit("unwritable_p99_ms", unwritableP99)
	limit("unwritable_max_ms", unwritableMax)
	limit("producer_during_p99_ms", producerP99)
	if result["errors_not_retriable"] > 0 {
		over = append(over, "there are errors that clients do not retry")
	}
	if least := float64(m.load.partitions * m.load.rounds); result["unwritable_count"] < least {
		over = append(over, fmt.Sprintf("only %.0f moves were seen", result["unwritable_count"]))
	}
	fmt.Println()
	if len(over) == 0 {
		fmt.Println("within all limits")
		return nil
	}
	fmt.Println("over the limits: " + strings.Join(over, "; "))
	if m.load.strict {
		return errors.New("over the limits")
	}
	return nil
}
