package proxy

import (
	"bufio"
	"io"
	"net"
	"os"
	"testing"
	"time"
)

// server answers every line by itself and tells each line that it got.
func server(t *testing.T) (string, <-chan string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	lines := make(chan string, 100)
	go func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				for in := bufio.NewScanner(c); in.Scan(); {
					lines <- in.Text()
					if _, err := io.WriteString(c, in.Text()+"\n"); err != nil {
						return
					}
				}
			}()
		}
	}()
	return listener.Addr().String(), lines
}

func dial(t *testing.T, address string) (net.Conn, *bufio.Reader) {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c, bufio.NewReader(c)
}

func say(t *testing.T, c net.Conn, text string) {
	t.Helper()
	if _, err := io.WriteString(c, text+"\n"); err != nil {
		t.Fatal(err)
	}
}

// heard waits for a line; "" when none comes in time.
func heard(lines <-chan string, within time.Duration) string {
	select {
	case line := <-lines:
		return line
	case <-time.After(within):
		return ""
	}
}

const moment = 150 * time.Millisecond

func TestHeldBytesArriveWhenTheLinkHeals(t *testing.T) {
	target, lines := server(t)
	link, address, err := Listen(target, false)
	if err != nil {
		t.Fatal(err)
	}
	c, in := dial(t, address)
	say(t, c, "one")
	if got, err := in.ReadString('\n'); got != "one\n" || heard(lines, moment) != "one" {
		t.Fatalf("healthy: %q %v", got, err)
	}
	link.Set(State{HoldUp: true})
	say(t, c, "two")
	if got := heard(lines, moment); got != "" {
		t.Fatalf("held up, and %q came through", got)
	}
	link.Set(State{HoldDown: true})
	if got := heard(lines, time.Second); got != "two" {
		t.Fatalf("the way up is open again: %q", got)
	}
	_ = c.SetReadDeadline(time.Now().Add(moment))
	if got, err := in.ReadString('\n'); err == nil {
		t.Fatalf("held down, and %q came through", got)
	}
	_ = c.SetReadDeadline(time.Time{})
	link.Set(State{})
	if got, _ := in.ReadString('\n'); got != "two\n" {
		t.Fatalf("healed: %q", got)
	}
}

func TestOnlyALateLinkDeliversForTheDead(t *testing.T) {
	for _, late := range []bool{true, false} {
		target, lines := server(t)
		link, address, err := Listen(target, late)
		if err != nil {
			t.Fatal(err)
		}
		c, _ := dial(t, address)
		link.Set(State{HoldUp: true, HoldDown: true})
		say(t, c, "last words")
		time.Sleep(moment)
		c.Close()
		time.Sleep(moment)
		link.Set(State{})
		if got := heard(lines, 2*moment); (got == "last words") != late {
			t.Fatalf("late %v: %q", late, got)
		}
	}
}

func TestDelayResetAndRefusal(t *testing.T) {
	target, lines := server(t)
	link, address, err := Listen(target, true)
	if err != nil {
		t.Fatal(err)
	}
	c, in := dial(t, address)
	link.Set(State{Delay: moment})
	began := time.Now()
	say(t, c, "slow")
	if got, _ := in.ReadString('\n'); got != "slow\n" || time.Since(began) < 2*moment {
		t.Fatalf("%q after %v", got, time.Since(began))
	}
	heard(lines, moment)
	link.Reset()
	if _, err := in.ReadString('\n'); err == nil || err == io.EOF {
		t.Fatalf("reset: %v", err)
	}
	link.Set(State{Refuse: true})
	refused, err := net.Dial("tcp", address)
	if err != nil {
		return // the reset may overtake the end of the dial
	}
	defer refused.Close()
	if n, err := refused.Read(make([]byte, 1)); err == nil {
		t.Fatalf("refused, and yet %d bytes came", n)
	}
}

func TestTheOwnerOfAConnectionIsFound(t *testing.T) {
	found := make(chan int, 1)
	address, err := Accept(func(c net.Conn) *Link {
		found <- Owner(c, []int{1, os.Getpid()})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	// The reset that follows may overtake the end of the dial.
	if c, err := net.Dial("tcp", address); err == nil {
		defer c.Close()
	}
	if got := <-found; got != os.Getpid() {
		t.Fatalf("owner %d, want %d", got, os.Getpid())
	}
}
