// Command clients checks a broker with franz-go in full and sarama in short: one `ok` or `FAIL` line a check.
//
// Checks run side by side, for most of their time is waiting for rebalances. Each takes its topics and groups from fresh, so a broker can
// serve any number of runs. ONLY=name picks one check, LEVEL=smoke the short list.
package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"
)

var (
	bootstrap = os.Getenv("BOOTSTRAP")
	run       = token()
)

// check is one named test; smoke says that the short level runs it too.
type check struct {
	name  string
	smoke bool
	body  func(*T)
}

// T is a running check. Its methods end the check by a panic that runCheck turns into a FAIL line.
type T struct {
	ctx context.Context
}

type failure struct{ text string }

func (t *T) fail(format string, args ...any) {
	_, file, line, _ := runtime.Caller(2)
	panic(failure{fmt.Sprintf(format, args...) + fmt.Sprintf(" (%s:%d)", file[strings.LastIndexByte(file, '/')+1:], line)})
}

func (t *T) must(err error) {
	if err != nil {
		t.fail("%v", err)
	}
}

func (t *T) equal(got, want any, what string) {
	if !reflect.DeepEqual(got, want) {
		t.fail("%s: got %v, want %v", what, got, want)
	}
}

func (t *T) is(err, want error, what string) {
	if !errors.Is(err, want) {
		t.fail("%s: got %v, want %v", what, err, want)
	}
}

// wait polls a condition until it holds or the check's time is over.
func (t *T) wait(what string, condition func() bool) {
	for !condition() {
		if t.ctx.Err() != nil {
			t.fail("not in time: %s", what)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func token() string {
	b := make([]byte, 4)
	if _, err := rand.Read(b); err != nil {
		panic(err)
	}
	return hex.EncodeToString(b)
}

// fresh is a name that no other check and no other run uses.
func fresh(kind string) string { return fmt.Sprintf("go-%s-%s-%s", run, kind, token()) }

func runCheck(suite context.Context, c check) (good bool) {
	ctx, cancel := context.WithTimeout(suite, 120*time.Second)
	defer cancel()
	began := time.Now()
	defer func() {
		took := time.Since(began).Round(100 * time.Millisecond)
		switch f := recover().(type) {
		case nil:
			fmt.Printf("ok %s %v\n", c.name, took)
			good = true
		case failure:
			fmt.Printf("FAIL %s: %s\n", c.name, strings.Join(strings.Fields(f.text), " "))
		default:
			fmt.Printf("FAIL %s: panic: %v\n", c.name, f)
		}
	}()
	c.body(&T{ctx: ctx})
	return false
}

func main() {
	if bootstrap == "" {
		fmt.Println("FAIL go clients: BOOTSTRAP=host:port is not set")
		os.Exit(1)
	}
	smoke, only := os.Getenv("LEVEL") == "smoke", os.Getenv("ONLY")
	suite, cancel := context.WithTimeout(context.Background(), 400*time.Second) // a broken broker must not hold the caller for long
	defer cancel()
	failed := false
	var mu sync.Mutex
	var all sync.WaitGroup
	slots := make(chan struct{}, 6)
	checks := slices.Concat(recordChecks, groupChecks, adminChecks, protocolChecks, versionChecks, saramaChecks)
	for _, c := range checks {
		if smoke && !c.smoke || only != "" && only != c.name {
			continue
		}
		slots <- struct{}{}
		all.Go(func() {
			defer func() { <-slots }()
			if !runCheck(suite, c) {
				mu.Lock()
				failed = true
				mu.Unlock()
			}
		})
	}
	all.Wait()
	if failed {
		os.Exit(1)
	}
}
