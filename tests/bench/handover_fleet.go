package main

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Limits of one step of a rolling restart.
const (
	readyLimit = 30 * time.Second
	leaveLimit = 30 * time.Second
	shareLimit = 60 * time.Second
)

// process is one of the brokers: how it is started, and its present life.
type process struct {
	address, admin, command string
	log                     *os.File
	lives                   atomic.Int64
	running                 *exec.Cmd
	ended                   chan error
}

// fleet is all brokers, and what they tell of the leaders of one topic.
type fleet struct {
	brokers    []*process
	topic      string
	nodes      sync.Map // node id: broker
	leadership leadership
}

// newFleet reads one broker a line: its address, its address for admins, its log, and its command line behind these.
func newFleet(file, topic string) (*fleet, error) {
	lines, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	f := &fleet{topic: topic}
	for line := range strings.Lines(string(lines)) {
		fields := strings.SplitN(strings.TrimSpace(line), " ", 4)
		if len(fields) < 4 {
			return nil, fmt.Errorf("%s: not a broker: %q", file, line)
		}
		log, err := os.OpenFile(fields[2], os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
		if err != nil {
			return nil, err
		}
		f.brokers = append(f.brokers, &process{address: fields[0], admin: fields[1], log: log, command: fields[3]})
	}
	return f, nil
}

// at is the broker that listens there; -1: none of ours.
func (f *fleet) at(address string) int {
	for number, broker := range f.brokers {
		if broker.address == address {
			return number
		}
	}
	return -1
}

func (f *fleet) life(broker int) int { return int(f.brokers[broker].lives.Load()) }

func (f *fleet) killAll() {
	for _, broker := range f.brokers {
		if broker.running != nil {
			broker.running.Process.Kill()
			<-broker.ended
			broker.running = nil
		}
	}
}

// start begins a life of the broker and waits until it is ready. It ends with this process.
func (p *process) start() error {
	running := exec.Command("sh", "-c", "exec "+p.command)
	running.Stdout, running.Stderr = p.log, p.log
	running.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	p.lives.Add(1)
	if err := running.Start(); err != nil {
		return err
	}
	p.running, p.ended = running, make(chan error, 1)
	go func(ended chan<- error) { ended <- running.Wait() }(p.ended)
	client := &http.Client{Timeout: time.Second}
	for begun := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		select {
		case err := <-p.ended:
			p.running = nil
			return fmt.Errorf("a broker ended: %w, see %s", err, p.log.Name())
		default:
		}
		if answer, err := client.Get("http://" + p.admin + "/readyz"); err == nil {
			answer.Body.Close()
			if answer.StatusCode == http.StatusOK {
				return nil
			}
		}
		if time.Since(begun) > readyLimit {
			return fmt.Errorf("a broker is not ready after %v, see %s", readyLimit, p.log.Name())
		}
	}
}

// leave ends the life by SIGTERM.
func (p *process) leave() error {
	if err := p.running.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	select {
	case err := <-p.ended:
		p.running = nil
		return err
	case <-time.After(leaveLimit):
		return fmt.Errorf("a broker is still there %v after SIGTERM, see %s", leaveLimit, p.log.Name())
	}
}

// led is which partitions each broker leads, as all of them say; nil: they say different things, or somebody leads nothing.
func (f *fleet) led() map[int32]int {
	var led map[int32]int
	for broker := range f.brokers {
		places, err := f.ask(broker)
		if err != nil {
			return nil
		}
		told, leaders := map[int32]int{}, map[int]bool{}
		for partition, place := range places {
			told[partition], leaders[place.broker] = place.broker, true
		}
		if leaders[-1] || len(leaders) < len(f.brokers) || led != nil && !maps.Equal(led, told) {
			return nil
		}
		led = told
	}
	return led
}

// settled waits until every broker leads something and all say the same; with `expected`, exactly that.
func (f *fleet) settled(ctx context.Context, expected map[int32]int) (map[int32]int, error) {
	limit := time.Now().Add(shareLimit)
	for {
		if led := f.led(); led != nil && (expected == nil || maps.Equal(led, expected)) {
			return led, nil
		}
		if ctx.Err() != nil || time.Now().After(limit) {
			return nil, fmt.Errorf("the brokers do not share the partitions after %v", shareLimit)
		}
		time.Sleep(200 * time.Millisecond)
	}
}
