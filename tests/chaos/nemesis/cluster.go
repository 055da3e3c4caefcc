package nemesis

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sort"
	"strings"
	"time"

	"alluvium/tests/chaos/cluster"
	"alluvium/tests/chaos/history"
	"alluvium/tests/chaos/proxy"
)

// ClusterTally counts what was done to a cluster and how it took it.
type ClusterTally struct {
	Done                      map[string]int
	SlowestReady, SlowestTerm time.Duration
	PeakMiB                   int
	Problems                  []string
}

func (t ClusterTally) String() string {
	names := make([]string, 0, len(t.Done))
	for name, count := range t.Done {
		names = append(names, fmt.Sprintf("%s %d", name, count))
	}
	sort.Strings(names)
	return fmt.Sprintf("%s; slowest ready %v, slowest termination %v, peak memory of a broker %d MiB", strings.Join(names, ", "),
		t.SlowestReady.Round(time.Millisecond), t.SlowestTerm.Round(time.Millisecond), t.PeakMiB)
}

// Cluster does harm to a cluster, one scenario after the other, each of them healed at its end; at times a second, small fault lies over it.
type Cluster struct {
	brokers *cluster.Cluster
	leaders func() map[int]int // node id → partitions it leads, as clients are told
	rng     *rand.Rand
	limits  Limits
	record  func(history.Event)
	tally   ClusterTally
	seed    uint64
	struck  uint64 // scenarios so far
	only    []string
	// A second fault lies over the scenario.
	overlaid bool
	ctx      context.Context
}

// NewCluster takes a cluster whose first brokers are ready.
func NewCluster(brokers *cluster.Cluster, leaders func() map[int]int, seed uint64, limits Limits, record func(history.Event)) *Cluster {
	return &Cluster{
		brokers: brokers, leaders: leaders, rng: stream(seed, 0), limits: limits, record: record, seed: seed,
		tally: ClusterTally{Done: map[string]int{}},
	}
}

// Only confines it to scenarios of these names; none: all are played.
func (n *Cluster) Only(names []string) *Cluster {
	n.only = names
	return n
}

// stream is the randomness of one scenario. Each has its own: what one draws may depend on who leads just then, and must not change the next.
func stream(seed, number uint64) *rand.Rand {
	return rand.New(rand.NewPCG(seed, 0x636c7573746572+number))
}

// scenario is one harm from beginning to healing.
type scenario struct {
	name   string
	do     func(*Cluster) error
	alone  bool // no second fault: it is measured, or has all brokers
	tables bool // only with a table outside the bucket
}

// scenarios in the order of importance to a short run: the first round plays each of them once, shuffled in halves.
var scenarios = []scenario{
	{"kill", (*Cluster).kill, true, false},
	{"pause beyond the ttl", (*Cluster).pauseLong, false, false},
	{"table cut", (*Cluster).cutTable, false, true},
	{"rolling restart", (*Cluster).rollingRestart, true, false},
	{"store cut", (*Cluster).cutStore, false, false},
	{"late writes of the dead", (*Cluster).lateWrites, false, false},
	{"clients cut", (*Cluster).cutClients, false, false},
	{"scale", (*Cluster).scale, true, false},
	{"leave and return", (*Cluster).leave, false, false},
	{"slow store", (*Cluster).slowStore, false, false},
	{"pause", (*Cluster).pauseShort, false, false},
	{"store away for all", (*Cluster).storeAway, true, false},
	{"table away for all", (*Cluster).tableAway, true, true},
	{"resets", (*Cluster).resets, false, false},
	{"kill of two", (*Cluster).killTwo, true, false},
	{"scale back", (*Cluster).scaleBack, true, false},
	{"clients cut for one way", (*Cluster).cutClientsOneWay, false, false},
}

// Run does harm until the deadline and leaves every broker of the moment running and ready, all links healed.
func (n *Cluster) Run(ctx context.Context, until time.Time) (ClusterTally, error) {
	n.ctx = ctx
	var round []scenario
	for {
		if len(round) == 0 {
			n.rng = stream(n.seed, 1<<32+n.struck)
			if round = n.shuffled(); len(round) == 0 {
				return n.tally, fmt.Errorf("no such scenarios here: %v", n.only)
			}
		}
		n.sleep(n.between(500*time.Millisecond, 2*time.Second))
		if ctx.Err() != nil {
			return n.tally, ctx.Err()
		}
		if time.Now().After(until) {
			return n.tally, nil
		}
		next := round[0]
		round = round[1:]
		if err := n.strike(next); err != nil {
			return n.tally, fmt.Errorf("%s: %w", next.name, err)
		}
	}
}

// shuffled is a new round: the first half of the scenarios, then the second, each in a random order. None: nothing that was asked for fits.
func (n *Cluster) shuffled() []scenario {
	var fit []scenario
	for _, s := range scenarios {
		wanted := len(n.only) == 0 || slices.Contains(n.only, s.name)
		if wanted && (!s.tables || n.brokers.Nodes[0].Table != nil) {
			fit = append(fit, s)
		}
	}
	half := len(fit) / 2
	for _, part := range [][]scenario{fit[:half], fit[half:]} {
		n.rng.Shuffle(len(part), func(i, j int) { part[i], part[j] = part[j], part[i] })
	}
	return fit
}

// strike plays a scenario, heals and waits until every broker serves.
func (n *Cluster) strike(s scenario) error {
	for _, node := range n.brokers.Live() {
		if err := node.Exited(); err != nil {
			n.problem(err)
			if err := n.start(node); err != nil {
				return err
			}
		}
	}
	n.struck++
	n.rng = stream(n.seed, n.struck)
	n.mark("begin", 0, s.name)
	n.tally.Done[s.name]++
	n.tally.PeakMiB = max(n.tally.PeakMiB, n.brokers.PeakMiB())
	n.overlaid = !s.alone && n.rng.IntN(3) == 0
	if n.overlaid {
		n.overlay()
	}
	err := s.do(n)
	n.overlaid = false
	for _, node := range n.brokers.Nodes {
		node.Heal()
	}
	if err == nil {
		err = n.allReady()
	}
	n.mark("end", 0, s.name)
	return err
}

// overlay lays a small fault on some broker, until the scenario ends.
func (n *Cluster) overlay() {
	node := n.any()
	state := proxy.State{Delay: n.between(20*time.Millisecond, 200*time.Millisecond)}
	link, what := n.linkOf(node)
	n.mark("overlay", node.ID, fmt.Sprintf("%s delayed by %v", what, state.Delay.Round(time.Millisecond)))
	link.Set(state)
}

func (n *Cluster) linkOf(node *cluster.Node) (*proxy.Link, string) {
	switch dice := n.rng.IntN(3); {
	case dice == 0:
		return node.Clients, "clients"
	case dice == 1 && node.Table != nil:
		return node.Table, "table"
	default:
		return node.Store, "store"
	}
}

// allReady waits for every broker that is meant to run; one that ended by itself is reported and started again.
func (n *Cluster) allReady() error {
	for _, node := range n.brokers.Live() {
		took, err := node.AwaitReady(n.limits.Ready)
		if err != nil && node.Exited() != nil {
			n.problem(err)
			err = n.start(node)
		}
		if err != nil {
			return err
		}
		n.tally.SlowestReady = max(n.tally.SlowestReady, took)
	}
	return nil
}

// victim is the broker that leads most, two times in three; else any.
func (n *Cluster) victim() *cluster.Node {
	live := n.brokers.Live()
	if n.rng.IntN(3) == 0 {
		return live[n.rng.IntN(len(live))]
	}
	leads := n.leaders()
	best := live[0]
	for _, node := range live {
		if leads[node.ID] > leads[best.ID] {
			best = node
		}
	}
	return best
}

func (n *Cluster) any() *cluster.Node {
	live := n.brokers.Live()
	return live[n.rng.IntN(len(live))]
}

func (n *Cluster) start(node *cluster.Node) error {
	if err := n.brokers.Start(node); err != nil {
		return err
	}
	n.mark("start", node.ID, "")
	took, err := node.AwaitReady(n.limits.Ready)
	if n.overlaid && err != nil && node.Exited() != nil {
		// A broker may give up at its start when what it needs is too slow; it may not once that is over.
		n.mark("gave up", node.ID, err.Error())
		n.overlaid = false
		for _, each := range n.brokers.Nodes {
			each.Heal()
		}
		return n.start(node)
	}
	n.tally.SlowestReady = max(n.tally.SlowestReady, took)
	n.mark("ready", node.ID, "")
	return err
}

func (n *Cluster) terminate(node *cluster.Node) {
	n.mark("terminate", node.ID, "")
	took, err := node.Terminate(n.limits.Terminate)
	n.problem(err)
	n.tally.SlowestTerm = max(n.tally.SlowestTerm, took)
	n.mark("gone", node.ID, "")
}

func (n *Cluster) between(low, high time.Duration) time.Duration {
	return low + time.Duration(n.rng.Int64N(int64(high-low)))
}

// ttls is a random time from low to high lifetimes of a session.
func (n *Cluster) ttls(low, high float64) time.Duration {
	ttl := float64(n.brokers.TTL)
	return n.between(time.Duration(low*ttl), time.Duration(high*ttl))
}

func (n *Cluster) sleep(d time.Duration) {
	select {
	case <-n.ctx.Done():
	case <-time.After(d):
	}
}

// mark records what was done: its kind, the broker, and words.
func (n *Cluster) mark(kind string, node int, words string) {
	n.record(history.Event{Kind: history.Nemesis, Value: kind, Partition: int32(node), Error: words})
}

func (n *Cluster) problem(err error) {
	if err != nil {
		n.tally.Problems = append(n.tally.Problems, err.Error())
		n.mark("problem", 0, err.Error())
	}
}
