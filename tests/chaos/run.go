package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"alluvium/tests/chaos/broker"
	"alluvium/tests/chaos/checker"
	"alluvium/tests/chaos/history"
	"alluvium/tests/chaos/nemesis"
	"alluvium/tests/chaos/workload"
)

// config is the environment of a run.
type config struct {
	command, bootstrap, admin, dir, python string
	duration                               time.Duration
	seed                                   uint64
	limits                                 nemesis.Limits
	java                                   string        // class path of JavaClient; empty: left out
	scenarios                              []string      // of a cluster; none: all
	codecs                                 int           // idempotent producers in this process
	rest                                   time.Duration // how long each step may take once all is healed
}

func fromEnvironment() (config, error) {
	c := config{
		command: os.Getenv("BROKER_CMD"), bootstrap: os.Getenv("BOOTSTRAP"), admin: os.Getenv("ADMIN"),
		dir: os.Getenv("CHAOS_DIR"), python: os.Getenv("CHAOS_PYTHON"), java: os.Getenv("CHAOS_CLASSES"), codecs: 4, rest: 45 * time.Second,
	}
	if c.command == "" || c.dir == "" {
		return c, fmt.Errorf("BROKER_CMD and CHAOS_DIR must be set (tests/chaos/run does)")
	}
	var err error
	seconds := func(name string, standard int) time.Duration {
		text := os.Getenv(name)
		if text == "" {
			return time.Duration(standard) * time.Second
		}
		n, parse := strconv.Atoi(text)
		if parse != nil {
			err = fmt.Errorf("%s: %w", name, parse)
		}
		return time.Duration(n) * time.Second
	}
	c.duration = seconds("SECONDS_OF_CHAOS", 40)
	c.limits = nemesis.Limits{Ready: seconds("READY_LIMIT", 30), Terminate: seconds("TERM_LIMIT", 10)}
	c.seed = uint64(time.Now().UnixNano())
	for name := range strings.SplitSeq(os.Getenv("SCENARIOS"), ",") {
		if name != "" {
			c.scenarios = append(c.scenarios, name)
		}
	}
	if text := os.Getenv("SEED"); text != "" && err == nil {
		c.seed, err = strconv.ParseUint(text, 10, 64)
	}
	return c, err
}

// outcome collects ok and FAIL lines.
type outcome struct{ failed bool }

func (o *outcome) line(name string, err error) {
	if err == nil {
		fmt.Printf("ok %s\n", name)
		return
	}
	o.failed = true
	fmt.Printf("FAIL %s: %v\n", name, err)
}

func runFromEnvironment(ctx context.Context) error {
	c, err := fromEnvironment()
	if err != nil {
		return err
	}
	fmt.Printf("# seed %d, %v, files in %s\n", c.seed, c.duration, c.dir)
	if os.Getenv("CLUSTER") != "" {
		return runCluster(ctx, c)
	}
	if c.bootstrap == "" {
		return fmt.Errorf("BOOTSTRAP must be set (tests/chaos/run does)")
	}
	log, err := os.Create(filepath.Join(c.dir, "broker.log"))
	if err != nil {
		return err
	}
	defer log.Close()
	recorder, err := history.Create(filepath.Join(c.dir, "history.jsonl"))
	if err != nil {
		return err
	}
	defer recorder.Close()
	process := broker.New(c.command, log, c.ready())
	if err := process.Start(); err != nil {
		return err
	}
	defer process.Abort()
	limit := c.duration + 3*time.Minute
	watchdog := time.AfterFunc(limit, func() {
		fmt.Printf("FAIL chaos: seed %d: no end in %v\n", c.seed, limit)
		process.Abort()
		os.Exit(1)
	})
	defer watchdog.Stop()
	if _, err := process.AwaitReady(c.limits.Ready); err != nil {
		return fmt.Errorf("first start: %w (see broker.log)", err)
	}
	run := &workload.Run{Bootstrap: c.bootstrap, Seed: c.seed, Record: recorder.Add}
	if err := prepare(ctx, run, 3); err != nil {
		return err
	}
	var verdict outcome
	err = chaos(ctx, c, run, &verdict, func() ([]string, error) {
		tally, err := nemesis.New(process, c.seed, c.limits, run.Record).Run(ctx, time.Now().Add(c.duration))
		fmt.Printf("# seed %d: %s\n", c.seed, tally)
		return tally.Problems, err
	})
	if err != nil {
		return fmt.Errorf("seed %d: %w", c.seed, err)
	}
	events, err := recorder.Events()
	if err != nil {
		return err
	}
	return judge(c, events, &verdict)
}

// judge prints what the checker says of a finished run.
func judge(c config, events []history.Event, verdict *outcome) error {
	report := checker.Check(events)
	if !printVerdict(report) {
		verdict.failed = true
	}
	verdict.line("enough happened", enough(report.Stats))
	if verdict.failed {
		fmt.Printf("# failed with seed %d; judge again: chaos check %s\n", c.seed, filepath.Join(c.dir, "history.jsonl"))
		return errFailed
	}
	return nil
}

// ready is /readyz, or, for a broker without an admin port, an answer to Metadata.
func (c config) ready() func(context.Context) error {
	if c.admin != "" {
		return broker.ReadyByHTTP(c.admin)
	}
	return func(ctx context.Context) error {
		client, err := kgo.NewClient(kgo.SeedBrokers(c.bootstrap))
		if err != nil {
			return err
		}
		defer client.Close()
		ctx, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		return client.Ping(ctx)
	}
}

// prepare makes the topics of the run; their names are new each time, so a broker can be used again.
func prepare(ctx context.Context, run *workload.Run, wide int32) error {
	client, err := run.Client("chaos-admin")
	if err != nil {
		return err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for name, partitions := range map[string]int32{"wide": wide, "narrow": 1} {
		topic := fmt.Sprintf("chaos-%s-%d", name, time.Now().UnixNano())
		if _, err := kadm.NewClient(client).CreateTopic(ctx, partitions, 1, nil, topic); err != nil {
			return fmt.Errorf("create %s: %w", topic, err)
		}
		for p := range partitions {
			run.Partitions = append(run.Partitions, workload.Partition{Topic: topic, Index: p})
		}
	}
	return nil
}

// crew is every client of a run.
type crew struct {
	producers []*workload.Producer
	python    *workload.Librdkafka
	java      *workload.Java
	javaLog   *os.File
	groups    []workload.Group
	writing   sync.WaitGroup
	reading   sync.WaitGroup
	errs      chan error
}

func start(writers, readers context.Context, c config, run *workload.Run) (*crew, error) {
	prefix := fmt.Sprintf("chaos-%d", time.Now().UnixNano())
	w := &crew{
		groups: []workload.Group{{Name: prefix + "-cooperative", Cooperative: true}, {Name: prefix + "-eager"}},
		errs:   make(chan error, 32),
	}
	codecs := []kgo.CompressionCodec{kgo.NoCompression(), kgo.Lz4Compression(), kgo.ZstdCompression(), kgo.SnappyCompression()}
	for i, codec := range codecs[:c.codecs] {
		p, err := workload.NewProducer(run, fmt.Sprintf("p%d", i), true, codec)
		if err != nil {
			return nil, err
		}
		w.producers = append(w.producers, p)
	}
	plain, err := workload.NewProducer(run, "plain", false, kgo.GzipCompression())
	if err != nil {
		return nil, err
	}
	w.producers = append(w.producers, plain)
	for _, p := range w.producers {
		w.writing.Go(func() { p.Run(writers) })
	}
	if c.python != "" {
		log, err := os.Create(filepath.Join(c.dir, "rdkafka.log"))
		if err != nil {
			return nil, err
		}
		defer log.Close() // the process has its own
		if w.python, err = workload.StartLibrdkafka(run, c.python, os.Getenv("CHAOS_SCRIPT"), "rdkafka", log); err != nil {
			return nil, err
		}
	}
	names := w.groupNames()
	if c.java != "" {
		if w.javaLog, err = os.Create(filepath.Join(c.dir, "java.log")); err != nil {
			return nil, err
		}
		if w.java, err = workload.StartJava(run, c.java, "java", prefix+"-java", w.javaLog); err != nil {
			return nil, err
		}
		names = w.groupNames()
	}
	read := func(f func() error) {
		w.reading.Go(func() {
			if err := f(); err != nil {
				w.errs <- err
			}
		})
	}
	read(func() error { return run.Tail(readers, "tail0") })
	read(func() error { return run.Tail(readers, "tail1") })
	read(func() error { return run.Administer(writers, "admin") })
	read(func() error { return run.Watch(readers, "watch", names) })
	for _, group := range w.groups {
		for i := range 2 {
			read(func() error { return run.Member(readers, group, fmt.Sprintf("%s-m%d", group.Name, i), false) })
		}
		read(func() error { return run.Churn(writers, group) })
	}
	return w, nil
}

func (w *crew) groupNames() []string {
	var names []string
	for _, g := range w.groups {
		names = append(names, g.Name)
	}
	if w.java != nil {
		names = append(names, w.java.Group)
	}
	return names
}

// chaos lets the clients work and the nemesis strike, which returns problems and heals at its end, then lets everything come to rest.
func chaos(ctx context.Context, c config, run *workload.Run, verdict *outcome, strike func() ([]string, error)) error {
	writers, stopWriters := context.WithCancel(ctx)
	defer stopWriters()
	readers, stopReaders := context.WithCancel(ctx)
	defer stopReaders()
	w, err := start(writers, readers, c, run)
	if err != nil {
		return err
	}
	problems, err := strike()
	if err != nil {
		return err
	}
	for _, problem := range problems {
		verdict.line("the broker as a process", fmt.Errorf("%s", problem))
	}
	stopWriters()
	verdict.line("producers finish after healing", w.finishWriting(c.rest))
	for _, step := range []struct {
		name string
		do   func(context.Context) error
	}{
		{"groups reach the end after healing", func(ctx context.Context) error { return run.AwaitGroups(ctx, w.groupNames()) }},
		{"everything is readable after healing", run.ReadAll},
		{"topics are listed after healing", func(ctx context.Context) error { return run.ListTopics(ctx, "admin") }},
	} {
		rest, cancel := context.WithTimeout(ctx, c.rest)
		verdict.line(step.name, step.do(rest))
		cancel()
	}
	stopReaders()
	w.reading.Wait()
	if w.java != nil {
		verdict.line("the Java client ends", w.java.Close(c.rest))
		w.javaLog.Close()
	}
	close(w.errs)
	for err := range w.errs {
		verdict.line("readers", err)
	}
	return ctx.Err()
}

// finishWriting produces once more with every producer and waits for all outcomes.
func (w *crew) finishWriting(limit time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	w.writing.Wait()
	var flushing sync.WaitGroup
	for _, p := range w.producers {
		flushing.Go(func() { p.Finish(ctx) })
	}
	var err error
	if w.python != nil {
		err = w.python.Finish(limit)
	}
	if w.java != nil && err == nil {
		err = w.java.FinishWriting(limit)
	}
	flushing.Wait()
	return err
}

// enough refuses a verdict on a run in which nothing happened.
func enough(s checker.Stats) error {
	if s.Acks < 500 || s.FinalReads < s.Acks || s.Reads < 2*s.Acks || s.Commits == 0 || s.CommittedReads == 0 || s.EndReads == 0 || s.TimeReads == 0 || s.TopicChanges == 0 {
		return fmt.Errorf("too little to judge: %+v", s)
	}
	return nil
}
