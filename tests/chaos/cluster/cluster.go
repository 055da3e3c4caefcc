// Package cluster runs brokers that share a bucket, each behind links of its own: clients reach it, and it reaches the store and the
// metadata table, through the proxy only.
//
// The nemesis' goroutine owns nodes and their processes; links may be changed from any goroutine.
package cluster

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"alluvium/tests/chaos/broker"
	"alluvium/tests/chaos/proxy"
)

// Template says how a broker is started. In Command stand PORT and ADMIN for its ports, and the addresses Store and Table, host:port as the
// command has them, which each broker reaches by a link.
type Template struct {
	Command string
	Store   string
	Table   string // empty: the table is in the bucket, behind Store
	Shared  bool   // all brokers must name the table by one address (PostgreSQL)
	TTL     time.Duration
	Dir     string // for logs
}

// The placeholders in a command.
const (
	Port  = "@PORT@"
	Admin = "@ADMIN@"
)

// Node is one broker of the cluster, running or not.
type Node struct {
	ID      int
	Address string // where clients are told to connect to: the link's
	Clients *proxy.Link
	Store   *proxy.Link
	Table   *proxy.Link // nil: the table is in the bucket
	Up      bool        // it is meant to run

	process *broker.Process
	log     *os.File
}

// Cluster is all brokers that may be started.
type Cluster struct {
	Nodes []*Node
	TTL   time.Duration

	mu   sync.Mutex
	pids map[int]*Node
}

// New prepares brokers 1 to size; none is started.
func New(t Template, size int) (*Cluster, error) {
	c := &Cluster{TTL: t.TTL, pids: map[int]*Node{}}
	shared := ""
	if t.Table != "" && t.Shared {
		address, err := proxy.Accept(c.tableOf)
		if err != nil {
			return nil, err
		}
		shared = address
	}
	given := map[int]bool{}
	for id := 1; id <= size; id++ {
		node, err := t.node(id, shared, given)
		if err != nil {
			return nil, err
		}
		c.Nodes = append(c.Nodes, node)
	}
	return c, nil
}

func (t Template) node(id int, shared string, given map[int]bool) (*Node, error) {
	ports, err := freePorts(2, given)
	if err != nil {
		return nil, err
	}
	n := &Node{ID: id}
	if n.Clients, n.Address, err = proxy.Listen("127.0.0.1:"+ports[0], false); err != nil {
		return nil, err
	}
	link, store, err := proxy.Listen(t.Store, true)
	if err != nil {
		return nil, err
	}
	n.Store = link
	command := strings.NewReplacer(Port, ports[0], Admin, ports[1], t.Store, store).Replace(t.Command)
	if t.Table != "" {
		table := shared
		if t.Shared {
			n.Table = proxy.NewLink(t.Table, true)
		} else if n.Table, table, err = proxy.Listen(t.Table, true); err != nil {
			return nil, err
		}
		command = strings.ReplaceAll(command, t.Table, table)
	}
	command += fmt.Sprintf(" --advertise %s --node-id %d --session-ttl-ms %d", n.Address, id, t.TTL.Milliseconds())
	if n.log, err = os.Create(filepath.Join(t.Dir, fmt.Sprintf("broker-%d.log", id))); err != nil {
		return nil, err
	}
	fmt.Fprintln(n.log, command)
	n.process = broker.New(command, n.log, broker.ReadyByHTTP("127.0.0.1:"+ports[1]))
	return n, nil
}

// tableOf is the link to the table of the broker whose connection it is.
func (c *Cluster) tableOf(conn net.Conn) *proxy.Link {
	c.mu.Lock()
	pids := make([]int, 0, len(c.pids))
	for pid := range c.pids {
		pids = append(pids, pid)
	}
	c.mu.Unlock()
	owner := proxy.Owner(conn, pids)
	c.mu.Lock()
	defer c.mu.Unlock()
	if node := c.pids[owner]; node != nil {
		return node.Table
	}
	return nil
}

// Start begins a life of the broker without waiting for readiness.
func (c *Cluster) Start(n *Node) error {
	c.mu.Lock()
	defer c.mu.Unlock() // held until the pid is known: the broker dials the table at once
	if err := n.process.Start(); err != nil {
		return err
	}
	n.Up = true
	c.pids[n.process.Pid()] = n
	return nil
}

// AwaitReady waits until the broker says that it serves.
func (n *Node) AwaitReady(limit time.Duration) (time.Duration, error) {
	took, err := n.process.AwaitReady(limit)
	if err != nil {
		err = fmt.Errorf("broker %d: %w", n.ID, err)
	}
	return took, err
}

// Kill is kill -9.
func (n *Node) Kill() error {
	n.Up = false
	return n.named(n.process.Kill())
}

// Terminate is SIGTERM; it returns how long the end took.
func (n *Node) Terminate(limit time.Duration) (time.Duration, error) {
	n.Up = false
	took, err := n.process.Terminate(limit)
	return took, n.named(err)
}

// Stop is SIGSTOP, Continue is SIGCONT.
func (n *Node) Stop() error { return n.named(n.process.Stop()) }

// Continue ends a Stop.
func (n *Node) Continue() { n.process.Continue() }

// Exited says why a broker that should run does not.
func (n *Node) Exited() error {
	if !n.Up {
		return nil
	}
	return n.named(n.process.Exited())
}

func (n *Node) named(err error) error {
	if err != nil {
		return fmt.Errorf("broker %d: %w", n.ID, err)
	}
	return nil
}

// Heal makes all links of the node healthy.
func (n *Node) Heal() {
	for _, link := range []*proxy.Link{n.Clients, n.Store, n.Table} {
		if link != nil {
			link.Set(proxy.State{})
		}
	}
}

// Live lists the brokers that are meant to run.
func (c *Cluster) Live() []*Node {
	var live []*Node
	for _, n := range c.Nodes {
		if n.Up {
			live = append(live, n)
		}
	}
	return live
}

// Bootstrap is the addresses of all brokers, started or not.
func (c *Cluster) Bootstrap() string {
	var addresses []string
	for _, n := range c.Nodes {
		addresses = append(addresses, n.Address)
	}
	return strings.Join(addresses, ",")
}

// PeakMiB is the largest resident memory among the brokers just now.
func (c *Cluster) PeakMiB() int {
	peak := 0
	for _, n := range c.Live() {
		peak = max(peak, n.process.ResidentMiB())
	}
	return peak
}

// Abort kills all brokers, from any goroutine, when the run is over.
func (c *Cluster) Abort() {
	for _, n := range c.Nodes {
		n.process.Abort()
	}
}

// Begin starts the first brokers one after the other: the first one makes the cluster.
func (c *Cluster) Begin(ctx context.Context, count int, limit time.Duration) error {
	for _, n := range c.Nodes[:count] {
		if err := c.Start(n); err != nil {
			return err
		}
		if _, err := n.AwaitReady(limit); err != nil {
			return fmt.Errorf("first start: %w (see broker-%d.log)", err, n.ID)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return nil
}

// Ports of brokers lie below those that kernels give to connections: between a broker's lives anybody might be given its port else.
const lowestPort, ports = 12000, 18000

// freePorts gives ports that were free a moment ago, and were not given before.
func freePorts(count int, given map[int]bool) ([]string, error) {
	var free []string
	for range ports {
		port := lowestPort + rand.IntN(ports)
		listener, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			continue
		}
		listener.Close()
		if given[port] {
			continue
		}
		given[port] = true
		if free = append(free, strconv.Itoa(port)); len(free) == count {
			return free, nil
		}
	}
	return nil, fmt.Errorf("no %d free ports from %d on", count, lowestPort)
}
