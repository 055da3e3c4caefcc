package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"time"
)

// Bytes that are no requests, or become one slowly.
var frameCases = []abuse{
	{"frames/no-kafka", 48, noKafka},
	{"frames/drip", 64, drip},
	{"frames/announced", 96, announced},
	{"frames/begun", 384, func(t *target) (string, error) { return begun(t, 100<<20, 1<<20) }},
	{"frames/begun-middling", 384, func(t *target) (string, error) { return begun(t, 1<<20, 700<<10) }},
	{"frames/begun-small", 384, func(t *target) (string, error) { return begun(t, 64<<10, 60<<10) }},
}

// noKafka sends what other protocols begin with, and what none does: each connection ends, at once where the length is impossible.
func noKafka(t *target) (string, error) {
	garbage := make([]byte, 64<<10)
	rand.Read(garbage)
	inputs := map[string][]byte{
		"TLS ClientHello": append([]byte{0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3}, garbage[:200]...),
		"HTTP":            []byte("GET / HTTP/1.1\r\nHost: kafka\r\n\r\n"),
		"SSH":             []byte("SSH-2.0-OpenSSH_9.6\r\n"),
		"garbage":         append([]byte{0xff}, garbage...),
		"zeros":           make([]byte, 4096),
		"an unknown key":  append(head(64, 999, 0), garbage[:56]...),
		"no header":       append(head(10, 3, 12), 0x7f, 0xff),
		"no body":         append(head(14, 3, 12), 0xff, 0xff, 0, 0x7f, 0xff, 0xff),
	}
	count := 0
	for end := time.Now().Add(t.length); time.Now().Before(end); {
		for name, bytes := range inputs {
			c, err := t.dial()
			if err != nil {
				return "", err
			}
			_, err = c.write(bytes, time.Minute)
			if err == nil || isClosed(err) {
				err = c.awaitClose(5 * time.Second)
			}
			c.Close()
			if err != nil {
				return "", fmt.Errorf("%s: %w", name, err)
			}
			count++
		}
	}
	return fmt.Sprintf("%d connections with TLS, HTTP, SSH and garbage, each closed", count), nil
}

// drip sends a byte a second in the length, the header and the body of frames.
func drip(t *target) (string, error) {
	conns, err := t.dialMany(600)
	if err != nil {
		return "", err
	}
	defer closeAll(conns)
	frame := framed(produceRequest("victim", plain(make([]byte, 4096))), 1)
	starts := []int{0, 5, 200}
	for i, c := range conns {
		if _, err := c.write(frame[:starts[i%3]], time.Minute); err != nil {
			return "", err
		}
	}
	for second := range int(max(t.length/time.Second, 3)) {
		for i, c := range conns {
			at := starts[i%3] + second
			if _, err := c.write(frame[at:at+1], time.Minute); err != nil {
				return "", fmt.Errorf("closed after %d s: %w", second, err)
			}
		}
		time.Sleep(time.Second)
	}
	return fmt.Sprintf("%d connections at a byte a second: they are borne", len(conns)), nil
}

// announced declares the longest frame that is allowed and sends no byte of it.
func announced(t *target) (string, error) {
	conns, err := t.dialMany(2000)
	if err != nil {
		return "", err
	}
	defer closeAll(conns)
	began := time.Now()
	for _, c := range conns {
		if _, err := c.write(head(104_857_600, 0, 9), time.Minute); err != nil {
			return "", err
		}
	}
	for _, c := range conns {
		if err := c.awaitClose(15 * time.Second); err != nil {
			return "", err
		}
	}
	return fmt.Sprintf("%d connections announced 100 MiB each and were closed after %.0f s", len(conns), time.Since(began).Seconds()), nil
}

// begun sends the first part of frames, of the long ones more in all than the broker has room for, and then a byte now and then so that no
// time-out for silence applies. Requests that come in one piece pass them, and shorter ones that do not. A large batch waits for room
// where they are of its kind: how long it takes is told and not judged.
func begun(t *target, length uint32, bytes int) (string, error) {
	conns, err := t.dialMany(400)
	if err != nil {
		return "", err
	}
	defer closeAll(conns)
	part := append(head(length, 0, 9), make([]byte, bytes)...)
	sent := 0
	for _, c := range conns {
		n, err := c.write(part, 100*time.Millisecond)
		sent += n
		// Those that were first may have been closed by now.
		if err != nil && !isClosed(err) && !errors.Is(err, os.ErrDeadlineExceeded) {
			return "", err
		}
	}
	stop := make(chan struct{})
	dripping := make(chan struct{})
	go func() {
		defer close(dripping)
		for {
			select {
			case <-stop:
				return
			case <-time.After(time.Second):
			}
			for _, c := range conns {
				_, _ = c.write([]byte{0}, time.Millisecond) // whether it is taken is not its concern
			}
		}
	}()
	defer func() { close(stop); <-dripping }()
	honest, err := t.dial()
	if err != nil {
		return "", err
	}
	defer honest.Close()
	asked := time.Now()
	large := "was taken after"
	if code, err := produceCode(honest, "victim", plain(make([]byte, 900<<10))); err != nil {
		large = "was given up after"
	} else if code != 0 {
		return "", fmt.Errorf("a batch of 900 KiB beside: code %d", code)
	}
	large = fmt.Sprintf("%s %.1f s", large, time.Since(asked).Seconds())
	time.Sleep(t.length)
	return fmt.Sprintf("%d connections began frames of %d KiB with %d MiB in all and went on by single bytes; %d were closed so far; a batch of 900 KiB beside %s",
		len(conns), length>>10, sent>>20, closedNow(conns), large), nil
}
