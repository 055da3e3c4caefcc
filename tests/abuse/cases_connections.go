package main

import (
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// Sockets that do nothing, or come and go.
var connectionCases = []abuse{
	{"idle", 160, idle},
	{"storm/connect-close", 64, func(t *target) (string, error) { return t.storm(func(c *conn) error { return c.Close() }) }},
	{"storm/api-versions", 64, func(t *target) (string, error) {
		return t.storm(func(c *conn) error {
			defer c.Close()
			if _, err := c.write(apiVersions(), time.Minute); err != nil {
				return err
			}
			_, err := c.answer(time.Minute)
			return err
		})
	}},
	{"storm/reset-in-a-frame", 64, func(t *target) (string, error) {
		return t.storm(func(c *conn) error {
			_, err := c.write(head(1<<20, 0, 9), time.Minute)
			c.reset()
			return err
		})
	}},
	{"storm/fin-in-a-frame", 64, func(t *target) (string, error) {
		return t.storm(func(c *conn) error {
			_, err := c.write(head(1<<20, 0, 9)[:6], time.Minute)
			c.Close()
			return err
		})
	}},
	{"half-closed", 64, halfClosed},
}

// idle fills every place that the broker has, and then some: who comes later must be served all the same.
func idle(t *target) (string, error) {
	wanted := 10_500
	count := min(wanted, t.sockets)
	conns, err := t.dialMany(count)
	if err != nil {
		return "", err
	}
	defer closeAll(conns)
	began := time.Now()
	for range 20 {
		if err := t.newcomer(10 * time.Second); err != nil {
			return "", fmt.Errorf("beside %d idle connections: %w", count, err)
		}
	}
	took := time.Since(began) / 20
	time.Sleep(t.length)
	note := fmt.Sprintf("%d idle connections; a new client is answered in %s, the broker has %d descriptors", count, ms(took), t.broker.descriptors())
	if count < wanted {
		note += fmt.Sprintf(" (the limit of descriptors allowed no %d)", wanted)
	}
	return note, nil
}

// newcomer is a well-behaved client that connects only now.
func (t *target) newcomer(limit time.Duration) error {
	c, err := t.dial()
	if err != nil {
		return err
	}
	defer c.Close()
	if _, err := c.write(apiVersions(), limit); err != nil {
		return err
	}
	_, err = c.answer(limit)
	return err
}

// storm connects and does one thing with each connection, as fast as two can. A connection that can't be opened is one that the
// kernel did not take; one that fails later was lost.
func (t *target) storm(each func(*conn) error) (string, error) {
	var done, failed atomic.Int64
	var first error
	var once sync.Once
	var workers sync.WaitGroup
	end := time.Now().Add(t.length)
	for range 2 {
		workers.Go(func() {
			for time.Now().Before(end) {
				c, err := t.dial()
				if err == nil {
					err = each(c)
				}
				if err != nil {
					failed.Add(1)
					once.Do(func() { first = err })
					continue
				}
				done.Add(1)
			}
		})
	}
	workers.Wait()
	rate := float64(done.Load()) / t.length.Seconds()
	if failed.Load() > 0 {
		return "", fmt.Errorf("of %d connections %d failed: %w", done.Load()+failed.Load(), failed.Load(), first)
	}
	return fmt.Sprintf("%.0f connections/s", rate), nil
}

// halfClosed says that it will send no more, after half a frame and between frames: the broker closes its side too.
func halfClosed(t *target) (string, error) {
	const atOnce = 1000
	count := 0
	for end := time.Now().Add(t.length); count == 0 || time.Now().Before(end); count += atOnce {
		if err := t.halfCloseOnce(atOnce); err != nil {
			return "", err
		}
	}
	return fmt.Sprintf("%d connections half closed, %d at a time, all closed by the broker", count, atOnce), nil
}

func (t *target) halfCloseOnce(count int) error {
	conns, err := t.dialMany(count)
	if err != nil {
		return err
	}
	defer closeAll(conns)
	for i, c := range conns {
		if i%2 == 0 {
			if _, err := c.write(head(1<<20, 0, 9), time.Minute); err != nil {
				return err
			}
		}
		if err := c.Conn.(*net.TCPConn).CloseWrite(); err != nil {
			return err
		}
	}
	for _, c := range conns {
		if err := c.awaitClose(10 * time.Second); err != nil {
			return err
		}
	}
	return nil
}

// Cases of a broker with few descriptors, a short idle time and few connections for one address.
var limited = []abuse{
	{"limits/few-descriptors", 64, fewDescriptors},
	{"limits/idle-time", 64, idleTime},
	{"limits/one-address", 64, oneAddress},
}

// fewDescriptors opens three times as many connections as the broker has descriptors. It must keep some for its log.
func fewDescriptors(t *target) (string, error) {
	conns, err := t.dialMany(1200)
	if err != nil {
		return "", err
	}
	defer closeAll(conns)
	time.Sleep(t.length)
	descriptors := t.broker.descriptors()
	if descriptors >= 400 {
		return "", fmt.Errorf("%d descriptors of 400 are in use", descriptors)
	}
	if err := t.newcomer(10 * time.Second); err != nil {
		return "", fmt.Errorf("beside %d connections: %w", len(conns), err)
	}
	return fmt.Sprintf("%d connections to a broker with 400 descriptors: %d in use", len(conns), descriptors), nil
}

// idleTime waits for the end of connections that ask nothing: never did, or did once.
func idleTime(t *target) (string, error) {
	conns, err := t.dialMany(40)
	if err != nil {
		return "", err
	}
	defer closeAll(conns)
	began := time.Now()
	for _, c := range conns[20:] {
		if _, err := c.write(apiVersions(), time.Minute); err != nil {
			return "", err
		}
		if _, err := c.answer(time.Minute); err != nil {
			return "", err
		}
	}
	time.Sleep(1500 * time.Millisecond)
	if closed := closedNow(conns); closed > 0 {
		return "", fmt.Errorf("%d connections were closed after %v", closed, time.Since(began))
	}
	for _, c := range conns {
		if err := c.awaitClose(8 * time.Second); err != nil {
			return "", err
		}
	}
	return fmt.Sprintf("connections.max.idle.ms=3000: %d connections closed after %.1f s", len(conns), time.Since(began).Seconds()), nil
}

// oneAddress opens more connections from one address than max.connections.per.ip allows.
func oneAddress(t *target) (string, error) {
	var conns []*conn
	defer func() { closeAll(conns) }()
	for range 100 {
		c, err := t.dialFrom(&net.TCPAddr{IP: net.IPv4(127, 0, 9, 9)})
		if err != nil {
			return "", err
		}
		conns = append(conns, c)
	}
	served, refused := 0, 0
	for _, c := range conns {
		_, err := c.write(apiVersions(), time.Minute)
		if err == nil {
			_, err = c.answer(10 * time.Second)
		}
		switch {
		case err == nil:
			served++
		case isClosed(err):
			refused++
		default:
			return "", err
		}
	}
	if served != 60 || refused != 40 {
		return "", fmt.Errorf("of 100 connections %d were served and %d closed", served, refused)
	}
	if err := t.newcomer(5 * time.Second); err != nil {
		return "", errors.Join(errors.New("another address"), err)
	}
	return "max.connections.per.ip=60: 60 of 100 connections served, 40 closed at once", nil
}
