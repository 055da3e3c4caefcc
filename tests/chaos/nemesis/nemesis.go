// Package nemesis decides when and how the broker dies, by a seed, and does it.
package nemesis

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"alluvium/tests/chaos/broker"
	"alluvium/tests/chaos/history"
)

// Limits are what a life of the broker is held to.
type Limits struct {
	Ready     time.Duration // from start to readiness
	Terminate time.Duration // from SIGTERM to exit
}

// Tally counts what was done and how the broker took it.
type Tally struct {
	Kills, Terms, Pauses, StartKills int
	SlowestReady, SlowestTerm        time.Duration
	PeakMiB                          int
	Problems                         []string
}

func (t Tally) String() string {
	return fmt.Sprintf("kills %d, kills while starting %d, terminations %d, pauses %d; slowest start %v, slowest termination %v, peak memory %d MiB",
		t.Kills, t.StartKills, t.Terms, t.Pauses, t.SlowestReady.Round(time.Millisecond), t.SlowestTerm.Round(time.Millisecond), t.PeakMiB)
}

// Nemesis owns the broker process for the length of a run.
type Nemesis struct {
	broker *broker.Process
	rng    *rand.Rand
	limits Limits
	record func(history.Event)
	tally  Tally
}

// New takes the broker, which must be running and ready.
func New(p *broker.Process, seed uint64, limits Limits, record func(history.Event)) *Nemesis {
	return &Nemesis{broker: p, rng: rand.New(rand.NewPCG(seed, 0x6e656d65736973)), limits: limits, record: record}
}

// Run does harm until the deadline and leaves the broker running and ready. An error means that the broker did not come back.
func (n *Nemesis) Run(ctx context.Context, until time.Time) (Tally, error) {
	for {
		wait := n.between(300*time.Millisecond, 3*time.Second)
		last := time.Now().Add(wait).After(until)
		if last {
			wait = time.Until(until)
		}
		select {
		case <-ctx.Done():
			return n.tally, ctx.Err()
		case <-time.After(wait):
		}
		if last {
			return n.tally, nil
		}
		n.tally.PeakMiB = max(n.tally.PeakMiB, n.broker.ResidentMiB())
		if err := n.strike(); err != nil {
			return n.tally, err
		}
	}
}

// strike does one harm and waits for the broker to serve again.
func (n *Nemesis) strike() error {
	switch dice := n.rng.IntN(100); {
	case dice < 60:
		n.note("kill -9")
		n.problem(n.broker.Kill())
		n.tally.Kills++
	case dice < 75:
		n.note("terminate")
		took, err := n.broker.Terminate(n.limits.Terminate)
		n.problem(err)
		n.tally.Terms++
		n.tally.SlowestTerm = max(n.tally.SlowestTerm, took)
	case dice < 90:
		n.note("pause")
		n.tally.Pauses++
		n.problem(n.broker.Pause(n.between(200*time.Millisecond, 3*time.Second)))
		_, err := n.broker.AwaitReady(n.limits.Ready)
		return err
	default:
		n.note("pause, then kill -9")
		n.problem(n.broker.Pause(n.between(100*time.Millisecond, time.Second)))
		n.problem(n.broker.Kill())
		n.tally.Pauses++
		n.tally.Kills++
	}
	return n.restart()
}

// restart starts the broker, and one time in four kills it again while it recovers.
func (n *Nemesis) restart() error {
	for n.rng.IntN(4) == 0 {
		if err := n.broker.Start(); err != nil {
			return err
		}
		time.Sleep(n.between(0, 800*time.Millisecond))
		n.note("kill -9 at start")
		n.problem(n.broker.Kill())
		n.tally.StartKills++
	}
	if err := n.broker.Start(); err != nil {
		return err
	}
	took, err := n.broker.AwaitReady(n.limits.Ready)
	if err != nil {
		return err
	}
	n.note("ready")
	n.tally.SlowestReady = max(n.tally.SlowestReady, took)
	return nil
}

func (n *Nemesis) between(low, high time.Duration) time.Duration {
	return low + time.Duration(n.rng.Int64N(int64(high-low)))
}

func (n *Nemesis) note(what string) {
	n.record(history.Event{Kind: history.Nemesis, Error: what})
}

func (n *Nemesis) problem(err error) {
	if err != nil {
		n.tally.Problems = append(n.tally.Problems, fmt.Sprint(err))
		n.note("problem: " + err.Error())
	}
}
