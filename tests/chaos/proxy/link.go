// Package proxy stands between two parties of a cluster and plays a bad network: it holds bytes back in one or both directions, delays
// them, resets connections and refuses new ones. It knows nothing of what the bytes mean.
//
// A Link is one such way. Each of its connections has two pumps, one per direction; a pump reads into a small queue and writes what the
// present state lets through. Bytes that are held arrive when the link heals, in order, as TCP's own retransmission would have it. When
// the caller has closed the connection meanwhile, a Late link still delivers them (a request may outlive its sender), any other drops them.
package proxy

import (
	"errors"
	"net"
	"sync"
	"time"
)

// State is what a link does to bytes from now on. The zero value is a healthy link.
type State struct {
	HoldUp   bool          // nothing reaches the server
	HoldDown bool          // nothing reaches the caller
	Refuse   bool          // new connections are reset
	Delay    time.Duration // each way
}

// Link is one way between a caller and a server.
type Link struct {
	target string
	late   bool

	mu      sync.Mutex
	state   State
	changed chan struct{} // closed and replaced when state changes
	pairs   map[*pair]struct{}
}

// pair is one connection through the link.
type pair struct {
	link           *Link
	caller, server net.Conn
	over           chan struct{}
	end            sync.Once
}

// NewLink makes a link without a listener of its own, for Serve.
func NewLink(target string, late bool) *Link {
	return &Link{target: target, late: late, changed: make(chan struct{}), pairs: map[*pair]struct{}{}}
}

// Listen makes a link with a listener of its own and returns its address.
func Listen(target string, late bool) (*Link, string, error) {
	link := NewLink(target, late)
	address, err := Accept(func(net.Conn) *Link { return link })
	return link, address, err
}

// Accept listens on a free port until the process ends and gives each connection to the link that pick names; none: it is reset.
func Accept(pick func(net.Conn) *Link) (string, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	go func() {
		for {
			conn, err := listener.Accept()
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err != nil {
				time.Sleep(10 * time.Millisecond)
				continue
			}
			go func() {
				if link := pick(conn); link != nil {
					link.Serve(conn)
				} else {
					reset(conn)
				}
			}()
		}
	}()
	return listener.Addr().String(), nil
}

// Set changes the state, also for what is under way.
func (l *Link) Set(s State) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.state = s
	close(l.changed)
	l.changed = make(chan struct{})
}

// Reset ends all connections at once, each side by a reset.
func (l *Link) Reset() {
	l.mu.Lock()
	pairs := make([]*pair, 0, len(l.pairs))
	for p := range l.pairs {
		pairs = append(pairs, p)
	}
	l.mu.Unlock()
	for _, p := range pairs {
		p.close(reset)
	}
}

func (l *Link) now() (State, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.state, l.changed
}

// Serve carries one connection to its end.
func (l *Link) Serve(caller net.Conn) {
	if state, _ := l.now(); state.Refuse {
		reset(caller)
		return
	}
	server, err := net.DialTimeout("tcp", l.target, 5*time.Second)
	if err != nil {
		reset(caller)
		return
	}
	p := &pair{link: l, caller: caller, server: server, over: make(chan struct{})}
	l.mu.Lock()
	l.pairs[p] = struct{}{}
	l.mu.Unlock()
	var pumps sync.WaitGroup
	pumps.Go(func() { p.pump(caller, server, func(s State) bool { return s.HoldUp }, l.late) })
	pumps.Go(func() { p.pump(server, caller, func(s State) bool { return s.HoldDown }, true) })
	pumps.Wait()
	p.close(func(c net.Conn) { c.Close() })
	l.mu.Lock()
	delete(l.pairs, p)
	l.mu.Unlock()
}

// chunk is what one read brought; nil data is the end.
type chunk struct {
	data []byte
	at   time.Time
}

// linger is how long a server may still answer a caller that is gone.
const linger = 2 * time.Second

// pump carries one direction. When its source ends it delivers what it holds if outlive says so, and ends the pair.
func (p *pair) pump(from, to net.Conn, held func(State) bool, outlive bool) {
	queue := make(chan chunk, 64)
	gone := make(chan struct{}) // the source ended
	go func() {
		defer close(queue)
		defer close(gone)
		for {
			buffer := make([]byte, 32<<10)
			n, err := from.Read(buffer)
			if n > 0 {
				select {
				case queue <- chunk{buffer[:n], time.Now()}:
				case <-p.over:
					return
				}
			}
			if err != nil {
				return
			}
		}
	}()
	quit := gone
	if outlive {
		quit = nil
	}
	for c := range queue {
		if !p.pass(c.at, held, quit) {
			break
		}
		if _, err := to.Write(c.data); err != nil {
			break
		}
	}
	if from == p.caller && outlive {
		p.half(to)
		return
	}
	p.close(func(c net.Conn) { c.Close() })
}

// half tells the server that no more comes and leaves it a moment to take in what came.
func (p *pair) half(server net.Conn) {
	if tcp, ok := server.(*net.TCPConn); ok {
		_ = tcp.CloseWrite() // it may be closed already
	}
	select {
	case <-p.over:
	case <-time.After(linger):
		p.close(func(c net.Conn) { c.Close() })
	}
}

// pass waits until the link lets a chunk of that age through; false: the connection is over first.
func (p *pair) pass(at time.Time, held func(State) bool, quit <-chan struct{}) bool {
	for {
		state, changed := p.link.now()
		var due <-chan time.Time
		if !held(state) {
			left := time.Until(at.Add(state.Delay))
			if left <= 0 {
				return true
			}
			timer := time.NewTimer(left)
			defer timer.Stop()
			due = timer.C
		}
		select {
		case <-p.over:
			return false
		case <-quit:
			return false
		case <-changed:
		case <-due:
		}
	}
}

func (p *pair) close(how func(net.Conn)) {
	p.end.Do(func() {
		close(p.over)
		how(p.caller)
		how(p.server)
	})
}

func reset(c net.Conn) {
	if tcp, ok := c.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // closed all the same
	}
	c.Close()
}
