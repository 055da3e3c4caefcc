package main

import (
	"net"
	"time"
)

// peeking is a connection that can wait for the first byte without taking it.
type peeking struct {
	net.Conn
	held []byte
}

func (p *peeking) arrives(within time.Duration) bool {
	p.Conn.SetReadDeadline(time.Now().Add(within))
	var one [1]byte
	n, err := p.Conn.Read(one[:])
	p.held = append(p.held, one[:n]...)
	if timeout, ok := err.(net.Error); ok && timeout.Timeout() {
		return false
	}
	return true
}

func (p *peeking) Read(into []byte) (int, error) {
	if len(p.held) > 0 {
		n := copy(into, p.held)
		p.held = p.held[n:]
		return n, nil
	}
	return p.Conn.Read(into)
}
