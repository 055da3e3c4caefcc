package workload

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"

	"alluvium/tests/chaos/history"
)

// Java is a JVM with Apache Kafka's own client: one idempotent producer and two members of a group. It prints events. The line `finish` makes
// the producer end; the members read on until the end of its input.
type Java struct {
	Group    string
	cmd      *exec.Cmd
	in       io.WriteCloser
	finished chan struct{}
	done     chan error
}

// places lists the partitions for a client of another language.
func (r *Run) places() string {
	var partitions []string
	for _, p := range r.Partitions {
		partitions = append(partitions, fmt.Sprintf("%s/%d", p.Topic, p.Index))
	}
	return strings.Join(partitions, ",")
}

// StartJava starts the class JavaClient with the class path; its log goes to the file.
func StartJava(run *Run, classpath, client, group string, log *os.File) (*Java, error) {
	cmd := exec.Command("java", "-Xmx256m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-cp", classpath,
		"JavaClient", run.Bootstrap, client, fmt.Sprint(run.Seed), run.places(), group, fmt.Sprint(max(1, run.Pace)))
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
	j := &Java{Group: group, cmd: cmd, in: in, finished: make(chan struct{}), done: make(chan error, 1)}
	run.Record(history.Event{Kind: history.Producer, Client: client, Idempotent: true})
	go func() {
		err := copyEvents(out, func(e history.Event) {
			if e.Kind == "finished" {
				close(j.finished)
				return
			}
			run.Record(e)
		})
		j.done <- firstError(err, cmd.Wait())
	}()
	return j, nil
}

// FinishWriting makes the producer produce once more everywhere and flush.
func (j *Java) FinishWriting(limit time.Duration) error {
	if _, err := io.WriteString(j.in, "finish\n"); err != nil {
		return fmt.Errorf("the Java client: %w", err)
	}
	select {
	case <-j.finished:
		return nil
	case err := <-j.done:
		j.done <- err
		return fmt.Errorf("the Java client ended: %v", err)
	case <-time.After(limit):
		return fmt.Errorf("the Java producer did not finish in %v", limit)
	}
}

// Close ends the members and the process.
func (j *Java) Close(limit time.Duration) error {
	j.in.Close()
	select {
	case err := <-j.done:
		return err
	case <-time.After(limit):
		_ = j.cmd.Process.Kill() // it has hung
		return firstError(<-j.done, errors.New("the Java client did not end"))
	}
}
