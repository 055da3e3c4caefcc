package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// broker is the process under test, in one life of it after the other on the same data.
type broker struct {
	command, address, admin string
	log                     *os.File
	cmd                     *exec.Cmd
	exited                  chan struct{}
}

// start begins a life. prelude are shell commands before it, flags come behind the command.
func (b *broker) start(prelude, flags string) error {
	line := prelude + "exec " + b.command + " " + flags
	fmt.Fprintf(b.log, "--- %s\n", line)
	cmd := exec.Command("bash", "-c", line)
	cmd.Stdout, cmd.Stderr = b.log, b.log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return err
	}
	processors = runFirst(cmd.Process.Pid) && processors
	b.cmd, b.exited = cmd, make(chan struct{})
	go func(exited chan struct{}) {
		_ = cmd.Wait() // its state is read below
		close(exited)
	}(b.exited)
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if b.ready() == nil {
			return nil
		}
		if !b.lives() {
			return fmt.Errorf("the broker ended: %v", cmd.ProcessState)
		}
		if time.Now().After(deadline) {
			return errors.New("the broker is not ready after 30 s")
		}
	}
}

// processors says whether broker and neighbour run before the abuser.
var processors = true

// runFirst lets a thread, and those that it starts, run before the abuser, whose machines would be his own: what he computes would take
// nothing from it. `false`: that is not allowed here.
func runFirst(thread int) bool {
	const priority = -10
	return syscall.Setpriority(syscall.PRIO_PROCESS, thread, priority) == nil
}

func (b *broker) lives() bool {
	select {
	case <-b.exited:
		return false
	default:
		return true
	}
}

// ready asks GET /readyz, on a connection of its own.
func (b *broker) ready() error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+b.admin+"/readyz", nil)
	if err != nil {
		return err
	}
	request.Close = true
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("/readyz: %s", response.Status)
	}
	return nil
}

// merged returns when so many bytes were merged.
func (b *broker) merged(bytes float64) error {
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Millisecond) {
		response, err := http.Get("http://" + b.admin + "/metrics")
		if err != nil {
			return err
		}
		for lines := bufio.NewScanner(response.Body); lines.Scan(); {
			count, found := strings.CutPrefix(lines.Text(), "alluvium_merged_bytes_total ")
			if merged, err := strconv.ParseFloat(count, 64); found && err == nil && merged >= bytes {
				response.Body.Close()
				return nil
			}
		}
		response.Body.Close()
		if time.Now().After(deadline) {
			return fmt.Errorf("not merged within a minute: %.0f bytes", bytes)
		}
	}
}

// stop ends the life by SIGTERM; an exit code other than 0 is an error.
func (b *broker) stop() error {
	if !b.lives() {
		return fmt.Errorf("the broker ended by itself: %v", b.cmd.ProcessState)
	}
	_ = b.cmd.Process.Signal(syscall.SIGTERM) // if it has just ended, the state says so
	select {
	case <-b.exited:
	case <-time.After(20 * time.Second):
		b.kill()
		return errors.New("the broker did not end within 20 s of SIGTERM")
	}
	if code := b.cmd.ProcessState.ExitCode(); code != 0 {
		return fmt.Errorf("SIGTERM: %v", b.cmd.ProcessState)
	}
	return nil
}

func (b *broker) kill() {
	_ = b.cmd.Process.Kill()
	<-b.exited
}

// resident is the broker's memory in MiB.
func (b *broker) resident() float64 {
	statm, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", b.cmd.Process.Pid))
	fields := strings.Fields(string(statm))
	if err != nil || len(fields) < 2 {
		return 0
	}
	pages, _ := strconv.ParseFloat(fields[1], 64)
	return pages * float64(os.Getpagesize()) / (1 << 20)
}

// descriptors is how many files and sockets the broker has open.
func (b *broker) descriptors() int {
	entries, _ := os.ReadDir(fmt.Sprintf("/proc/%d/fd", b.cmd.Process.Pid))
	return len(entries)
}

// watch samples the memory every 10 ms until it is asked for the peak, in MiB.
func (b *broker) watch() (peak func() float64) {
	var most atomic.Uint64
	done := make(chan struct{})
	go func() {
		for {
			most.Store(max(most.Load(), uint64(b.resident()*1024)))
			select {
			case <-done:
				return
			case <-time.After(10 * time.Millisecond):
			}
		}
	}()
	return func() float64 {
		close(done)
		return float64(most.Load()) / 1024
	}
}
