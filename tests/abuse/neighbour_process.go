package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
)

// The neighbour lives in a process of its own, as it would: what an abuser computes for his requests, and the collector that clears them
// away, would hold it up in his, and be taken for the broker's slowness.
const neighbourCommand = "neighbour"

// question is a line that the neighbour's process is told; each is answered by one line.
type question string

const (
	askSpan    question = "take"
	askVerdict question = "verdict"
	askClosing question = "closing"
)

// answerLine is what it says.
type answerLine struct {
	Span  span
	Error string
}

// remote is the neighbour, seen from the abuser.
type remote struct {
	cmd     *exec.Cmd
	in      io.WriteCloser
	answers *bufio.Scanner
}

func startNeighbourProcess(address string) (*remote, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(self, neighbourCommand, address)
	cmd.Stderr = os.Stderr
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
	r := &remote{cmd, in, bufio.NewScanner(out)}
	// The first line says that it has begun.
	if err := r.answer().err(); err != nil {
		r.close()
		return nil, err
	}
	return r, nil
}

func (a answerLine) err() error {
	if a.Error == "" {
		return nil
	}
	return errors.New(a.Error)
}

func (r *remote) answer() (a answerLine) {
	if !r.answers.Scan() {
		return answerLine{Error: fmt.Sprintf("the neighbour's process ended: %v", r.answers.Err())}
	}
	if err := json.Unmarshal(r.answers.Bytes(), &a); err != nil {
		return answerLine{Error: err.Error()}
	}
	return a
}

func (r *remote) ask(q question) answerLine {
	if _, err := fmt.Fprintln(r.in, q); err != nil {
		return answerLine{Error: err.Error()}
	}
	return r.answer()
}

// take ends a span and begins the next one.
func (r *remote) take() span { return r.ask(askSpan).Span }

// verdict is neighbour.verdict.
func (r *remote) verdict() error { return r.ask(askVerdict).err() }

// leave tells it that connections end from now on.
func (r *remote) leave() { r.ask(askClosing) }

func (r *remote) close() {
	r.in.Close()
	_ = r.cmd.Wait() // it said what there was to say
}

// liveBeside is the neighbour's process.
func liveBeside(address string) {
	answers := json.NewEncoder(os.Stdout)
	say := func(a answerLine) {
		if err := answers.Encode(a); err != nil {
			os.Exit(1)
		}
	}
	text := func(err error) string {
		if err == nil {
			return ""
		}
		return err.Error()
	}
	threads, _ := filepath.Glob("/proc/self/task/*") // none: it runs as it is
	for _, thread := range threads {
		if id, err := strconv.Atoi(filepath.Base(thread)); err == nil {
			runFirst(id)
		}
	}
	n, err := startNeighbour(address)
	say(answerLine{Error: text(err)})
	if err != nil {
		os.Exit(1)
	}
	for questions := bufio.NewScanner(os.Stdin); questions.Scan(); {
		switch question(questions.Text()) {
		case askSpan:
			say(answerLine{Span: n.take()})
		case askVerdict:
			say(answerLine{Error: text(n.verdict())})
		case askClosing:
			n.closing.Store(true)
			say(answerLine{})
		default:
			os.Exit(2)
		}
	}
	n.close()
}
