package nemesis

import (
	"fmt"
	"time"

	"alluvium/tests/chaos/cluster"
	"alluvium/tests/chaos/proxy"
)

func (n *Cluster) kill() error { return n.killOne(n.victim()) }

// killOne kills a broker and starts it again: at once, while the others take over, or long after.
func (n *Cluster) killOne(node *cluster.Node) error {
	n.mark("kill", node.ID, "")
	n.problem(node.Kill())
	if n.rng.IntN(4) == 0 {
		n.sleep(n.ttls(0, 0.5))
	} else {
		n.sleep(n.ttls(0.5, 2.5))
	}
	for n.rng.IntN(4) == 0 {
		if err := n.brokers.Start(node); err != nil {
			return err
		}
		n.sleep(n.between(0, 800*time.Millisecond))
		n.mark("kill", node.ID, "while it starts")
		n.problem(node.Kill())
	}
	return n.start(node)
}

func (n *Cluster) killTwo() error {
	first := n.victim()
	second := first
	if live := n.brokers.Live(); len(live) > 1 {
		for second == first {
			second = n.any()
		}
		n.mark("kill", second.ID, "")
		n.problem(second.Kill())
		n.sleep(n.ttls(0, 1))
	}
	if err := n.killOne(first); err != nil || second == first {
		return err
	}
	return n.start(second)
}

func (n *Cluster) pauseShort() error { return n.pause(n.victim(), n.ttls(0.1, 0.9)) }
func (n *Cluster) pauseLong() error  { return n.pause(n.victim(), n.ttls(1.2, 2.6)) }

// pause stops a broker and lets it go on. Two times in five it is killed a moment after it woke up.
func (n *Cluster) pause(node *cluster.Node, d time.Duration) error {
	n.mark("stop", node.ID, fmt.Sprintf("for %v", d.Round(time.Millisecond)))
	n.problem(node.Stop())
	n.sleep(d)
	node.Continue()
	n.mark("continue", node.ID, "")
	if n.rng.IntN(5) < 2 {
		n.sleep(n.between(0, 300*time.Millisecond))
		return n.killOne(node)
	}
	return nil
}

func (n *Cluster) leave() error {
	node := n.victim()
	n.terminate(node)
	n.sleep(n.ttls(0, 1.5))
	return n.start(node)
}

func (n *Cluster) rollingRestart() error {
	n.mark("rolling", 0, "")
	defer n.mark("rolled", 0, "")
	for _, node := range n.brokers.Live() {
		n.terminate(node)
		if err := n.start(node); err != nil {
			return err
		}
	}
	return nil
}

// cut is a random way to be cut off: both ways or one, by silence or by resets.
func (n *Cluster) cut() (proxy.State, string) {
	switch n.rng.IntN(5) {
	case 0:
		return proxy.State{HoldUp: true}, "nothing arrives there"
	case 1:
		return proxy.State{HoldDown: true}, "no answer comes back"
	case 2:
		return proxy.State{Refuse: true, HoldUp: true, HoldDown: true}, "refused"
	default:
		return proxy.State{HoldUp: true, HoldDown: true}, "silence"
	}
}

func (n *Cluster) cutLink(node *cluster.Node, link *proxy.Link, name string, d time.Duration) {
	state, how := n.cut()
	n.mark("cut", node.ID, fmt.Sprintf("from %s: %s, for %v", name, how, d.Round(time.Millisecond)))
	link.Set(state)
	if state.Refuse {
		link.Reset()
	}
	n.sleep(d)
	if n.rng.IntN(2) == 0 {
		link.Reset() // else what was held arrives now
	}
	link.Set(proxy.State{})
	n.mark("healed", node.ID, name)
}

func (n *Cluster) cutStore() error {
	node := n.victim()
	n.cutLink(node, node.Store, "the store", n.ttls(0.3, 2.6))
	return nil
}

func (n *Cluster) cutTable() error {
	node := n.victim()
	n.cutLink(node, node.Table, "the table", n.ttls(0.3, 3))
	return nil
}

func (n *Cluster) cutClients() error {
	node := n.victim()
	n.cutLink(node, node.Clients, "clients", n.ttls(0.3, 2))
	return nil
}

func (n *Cluster) cutClientsOneWay() error {
	node := n.victim()
	d := n.ttls(0.3, 1.5)
	n.mark("cut", node.ID, fmt.Sprintf("from clients: it hears and its answers are lost, for %v", d.Round(time.Millisecond)))
	node.Clients.Set(proxy.State{HoldDown: true})
	n.sleep(d)
	node.Clients.Reset()
	return nil
}

// lateWrites cuts a broker's way to the store, kills it, and lets what it had sent arrive after others took over.
func (n *Cluster) lateWrites() error {
	node := n.victim()
	n.mark("cut", node.ID, "from the store: its writes are under way")
	node.Store.Set(proxy.State{HoldUp: true})
	n.sleep(n.between(300*time.Millisecond, time.Second))
	n.mark("kill", node.ID, "with writes under way")
	n.problem(node.Kill())
	n.sleep(n.ttls(0.2, 2.5))
	node.Store.Set(proxy.State{})
	n.mark("healed", node.ID, "its writes arrive")
	n.sleep(n.between(0, time.Second))
	return n.start(node)
}

// slowStore delays the store for one broker or for all.
func (n *Cluster) slowStore() error {
	nodes := n.brokers.Live()
	if n.rng.IntN(2) == 0 {
		nodes = []*cluster.Node{n.victim()}
	}
	delay, d := n.between(50*time.Millisecond, 800*time.Millisecond), n.ttls(1, 3)
	for _, node := range nodes {
		n.mark("slow", node.ID, fmt.Sprintf("the store by twice %v, for %v", delay.Round(time.Millisecond), d.Round(time.Millisecond)))
		node.Store.Set(proxy.State{Delay: delay})
	}
	n.sleep(d)
	return nil
}

func (n *Cluster) storeAway() error {
	return n.away("the store", func(node *cluster.Node) *proxy.Link { return node.Store })
}

func (n *Cluster) tableAway() error {
	return n.away("the table", func(node *cluster.Node) *proxy.Link { return node.Table })
}

// away cuts all brokers from the same thing.
func (n *Cluster) away(name string, link func(*cluster.Node) *proxy.Link) error {
	state, how := n.cut()
	d := n.ttls(0.5, 3)
	n.mark("away", 0, fmt.Sprintf("%s for all: %s, for %v", name, how, d.Round(time.Millisecond)))
	for _, node := range n.brokers.Live() {
		link(node).Set(state)
		if state.Refuse {
			link(node).Reset()
		}
	}
	n.sleep(d)
	n.mark("healed", 0, name)
	return nil
}

// resets ends connections at random, again and again.
func (n *Cluster) resets() error {
	for range 5 + n.rng.IntN(15) {
		node := n.any()
		link, what := n.linkOf(node)
		n.mark("reset", node.ID, what)
		link.Reset()
		n.sleep(n.between(20*time.Millisecond, 400*time.Millisecond))
	}
	return nil
}

// scale goes 1 → 3 → 5 under load, scaleBack 2 → 3.
func (n *Cluster) scale() error     { return n.sizes(1, 3, len(n.brokers.Nodes)) }
func (n *Cluster) scaleBack() error { return n.sizes(2, 3) }

func (n *Cluster) sizes(sizes ...int) error {
	for _, size := range sizes {
		n.mark("scale", 0, fmt.Sprintf("from %d to %d", len(n.brokers.Live()), size))
		for live := n.brokers.Live(); len(live) > size; live = n.brokers.Live() {
			n.terminate(live[n.rng.IntN(len(live))])
		}
		for _, node := range n.brokers.Nodes {
			if len(n.brokers.Live()) < size && !node.Up {
				if err := n.start(node); err != nil {
					return err
				}
			}
		}
		n.sleep(n.ttls(0.3, 0.8))
	}
	return nil
}
