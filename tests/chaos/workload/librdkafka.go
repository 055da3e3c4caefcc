package workload

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"time"

	"alluvium/tests/chaos/history"
)

// Librdkafka is a Python process with one idempotent producer of librdkafka. It prints events, and stops at the end of its input.
type Librdkafka struct {
	cmd  *exec.Cmd
	in   io.WriteCloser
	done chan error
}

// StartLibrdkafka starts the script with the interpreter of an environment that has confluent-kafka. What the library logs goes to log.
func StartLibrdkafka(run *Run, python, script, client string, log *os.File) (*Librdkafka, error) {
	cmd := exec.Command(python, script, run.Bootstrap, client, fmt.Sprint(run.Seed), run.places(), fmt.Sprint(max(1, run.Pace)))
	cmd.Stderr = log
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	l := &Librdkafka{cmd: cmd, in: in, done: make(chan error, 1)}
	run.Record(history.Event{Kind: history.Producer, Client: client, Idempotent: true})
	go func() {
		err := copyEvents(out, run.Record)
		l.done <- firstError(err, cmd.Wait())
	}()
	return l, nil
}

func copyEvents(out io.Reader, record func(history.Event)) error {
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var e history.Event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			return fmt.Errorf("%q: %w", lines.Text(), err)
		}
		record(e)
	}
	return lines.Err()
}

// Finish closes its input, which makes it produce once more everywhere, flush and exit.
func (l *Librdkafka) Finish(limit time.Duration) error {
	l.in.Close()
	select {
	case err := <-l.done:
		return err
	case <-time.After(limit):
		_ = l.cmd.Process.Kill() // its unanswered sends are the checker's business
		<-l.done
		return fmt.Errorf("the librdkafka producer did not finish in %v", limit)
	}
}

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
