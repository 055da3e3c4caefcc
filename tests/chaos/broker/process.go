// Package broker runs the broker under test as a child process and does to it what machines do to processes.
//
// One goroutine, the nemesis, owns the Process; it is not safe for concurrent use. The command runs under `exec`, so the pid is the
// broker's own and a SIGKILL hits it and nothing else.
package broker

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// Process is the broker: its command, and its present life if it has one.
type Process struct {
	command string
	log     *os.File
	ready   func(context.Context) error
	cmd     *exec.Cmd
	exited  chan struct{}
}

// New prepares a broker that is started by the shell command and logs to the file. It is ready when the function says so.
func New(command string, log *os.File, ready func(context.Context) error) *Process {
	return &Process{command: command, log: log, ready: ready}
}

// ReadyByHTTP asks GET /readyz on the admin address.
func ReadyByHTTP(admin string) func(context.Context) error {
	client := &http.Client{Timeout: time.Second}
	return func(ctx context.Context) error {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+admin+"/readyz", nil)
		if err != nil {
			return err
		}
		response, err := client.Do(request)
		if err != nil {
			return err
		}
		response.Body.Close()
		if response.StatusCode != http.StatusOK {
			return fmt.Errorf("/readyz: %s", response.Status)
		}
		return nil
	}
}

// Start begins a new life of the broker without waiting for readiness.
func (p *Process) Start() error {
	fmt.Fprintf(p.log, "--- start %s\n", time.Now().Format(time.RFC3339Nano))
	cmd := exec.Command("sh", "-c", "exec "+p.command)
	cmd.Stdout, cmd.Stderr = p.log, p.log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return err
	}
	p.cmd, p.exited = cmd, make(chan struct{})
	go func(done chan struct{}) {
		_ = cmd.Wait() // the state is read from cmd.ProcessState
		close(done)
	}(p.exited)
	return nil
}

// errDied says that the broker ended by itself.
var errDied = errors.New("the broker exited by itself")

// AwaitReady waits until the broker serves, or fails when it exits or the limit passes. It returns the time it took.
func (p *Process) AwaitReady(limit time.Duration) (time.Duration, error) {
	began := time.Now()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	for {
		err := p.ready(ctx)
		if err == nil {
			return time.Since(began), nil
		}
		select {
		case <-p.exited:
			return 0, fmt.Errorf("%w: %v", errDied, p.cmd.ProcessState)
		case <-ctx.Done():
			return 0, fmt.Errorf("not ready after %v: %w", limit, err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Kill ends the life by SIGKILL, whatever state the process is in.
func (p *Process) Kill() error {
	if err := p.stillThere(); err != nil {
		return err
	}
	p.signal(syscall.SIGKILL)
	<-p.exited
	return nil
}

// Terminate ends the life by SIGTERM and returns how long that took. An exit code other than 0 (or 143, the JVM's) is an error.
func (p *Process) Terminate(limit time.Duration) (time.Duration, error) {
	if err := p.stillThere(); err != nil {
		return 0, err
	}
	began := time.Now()
	p.signal(syscall.SIGTERM)
	select {
	case <-p.exited:
	case <-time.After(limit):
		p.signal(syscall.SIGKILL)
		<-p.exited
		return limit, fmt.Errorf("SIGTERM: still there after %v", limit)
	}
	if code := p.cmd.ProcessState.ExitCode(); code != 0 && code != 143 {
		return time.Since(began), fmt.Errorf("SIGTERM: %v", p.cmd.ProcessState)
	}
	return time.Since(began), nil
}

// Abort kills whatever life there is, from any goroutine, when the run itself is over.
func (p *Process) Abort() {
	if p.cmd != nil && p.cmd.Process != nil {
		p.signal(syscall.SIGKILL)
	}
}

// Pause stops the process for a while, as a long garbage collection or a moved virtual machine does.
func (p *Process) Pause(d time.Duration) error {
	if err := p.Stop(); err != nil {
		return err
	}
	time.Sleep(d)
	p.Continue()
	return nil
}

// Stop is SIGSTOP.
func (p *Process) Stop() error {
	if err := p.stillThere(); err != nil {
		return err
	}
	p.signal(syscall.SIGSTOP)
	return nil
}

// Continue is SIGCONT.
func (p *Process) Continue() { p.signal(syscall.SIGCONT) }

// Exited says how the process ended if it did so by itself.
func (p *Process) Exited() error { return p.stillThere() }

// Pid is the present life's.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

func (p *Process) stillThere() error {
	select {
	case <-p.exited:
		return fmt.Errorf("%w: %v", errDied, p.cmd.ProcessState)
	default:
		return nil
	}
}

func (p *Process) signal(s syscall.Signal) {
	_ = p.cmd.Process.Signal(s) // the process may have just ended, which the caller sees by p.exited
}

// ResidentMiB reads the resident memory of the present life, 0 when there is none.
func (p *Process) ResidentMiB() int {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	for line := range strings.SplitSeq(string(status), "\n") {
		var kib int
		if n, _ := fmt.Sscanf(line, "VmRSS: %d kB", &kib); n == 1 {
			return kib / 1024
		}
	}
	return 0
}
