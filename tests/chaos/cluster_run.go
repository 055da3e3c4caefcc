package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"alluvium/tests/chaos/cluster"
	"alluvium/tests/chaos/history"
	"alluvium/tests/chaos/measure"
	"alluvium/tests/chaos/nemesis"
	"alluvium/tests/chaos/workload"
)

const (
	// firstBrokers run from the beginning; mostBrokers is what the nemesis scales up to.
	firstBrokers, mostBrokers = 3, 5
	// grace is what no measured time may exceed the ttl by. It is generous: machines of CI are slow, and the judge of correctness is another.
	grace = 20 * time.Second
)

// runCluster is a run on several brokers. Beyond the environment of one broker it reads STORE and TABLE (host:port as in BROKER_CMD, TABLE
// empty for a table in the bucket), SHARED_TABLE and TTL_MS.
func runCluster(ctx context.Context, c config) error {
	millis, err := strconv.Atoi(os.Getenv("TTL_MS"))
	if err != nil {
		return fmt.Errorf("TTL_MS: %w", err)
	}
	brokers, err := cluster.New(cluster.Template{
		Command: c.command, Store: os.Getenv("STORE"), Table: os.Getenv("TABLE"), Shared: os.Getenv("SHARED_TABLE") != "",
		TTL: time.Duration(millis) * time.Millisecond, Dir: c.dir,
	}, mostBrokers)
	if err != nil {
		return err
	}
	c.codecs, c.rest = 2, 45*time.Second+brokers.TTL
	limit := c.duration + 6*time.Minute
	watchdog := time.AfterFunc(limit, func() {
		fmt.Printf("FAIL chaos: seed %d: no end in %v\n", c.seed, limit)
		brokers.Abort()
		os.Exit(1)
	})
	defer watchdog.Stop()
	defer brokers.Abort()
	recorder, err := history.Create(filepath.Join(c.dir, "history.jsonl"))
	if err != nil {
		return err
	}
	defer recorder.Close()
	if err := brokers.Begin(ctx, firstBrokers, c.limits.Ready); err != nil {
		return err
	}
	timeline, err := os.Create(filepath.Join(c.dir, "timeline.txt"))
	if err != nil {
		return err
	}
	defer timeline.Close()
	run := &workload.Run{
		Bootstrap: brokers.Bootstrap(), Seed: c.seed, Record: writeTimeline(recorder.Add, timeline),
		Patience: 4 * time.Second, Pace: pace(c.duration), Errors: workload.NewErrors(),
	}
	if err := prepare(ctx, run, 8); err != nil {
		return err
	}
	var verdict outcome
	if err := clusterChaos(ctx, c, brokers, run, &verdict); err != nil {
		return fmt.Errorf("seed %d: %w", c.seed, err)
	}
	fmt.Printf("# answers that clients retried: %s\n", run.Errors)
	for _, message := range run.Errors.Messages() {
		fmt.Printf("# %s\n", message)
	}
	verdict.line("clients saw only errors that can be retried", run.Errors.Fatal())
	events, err := recorder.Events()
	if err != nil {
		return err
	}
	measured(events, brokers.TTL, &verdict)
	return judge(c, events, &verdict)
}

// pace keeps the volume of a long run, which the checker holds in memory, to that of ten minutes.
func pace(d time.Duration) int { return 4 * max(1, int(d/(10*time.Minute))) }

// clusterChaos is the run itself, up to the end of all brokers by SIGTERM.
func clusterChaos(ctx context.Context, c config, brokers *cluster.Cluster, run *workload.Run, verdict *outcome) error {
	watcher, err := run.Client("chaos-leaders")
	if err != nil {
		return err
	}
	defer watcher.Close()
	leaders := func() map[int]int { return leaders(ctx, kadm.NewClient(watcher), run) }
	err = chaos(ctx, c, run, verdict, func() ([]string, error) {
		tally, err := nemesis.NewCluster(brokers, leaders, c.seed, c.limits, run.Record).Only(c.scenarios).Run(ctx, time.Now().Add(c.duration))
		fmt.Printf("# seed %d: %s\n", c.seed, tally)
		return tally.Problems, err
	})
	if err != nil {
		return err
	}
	return errors.Join(stopAll(brokers, c.limits.Terminate, verdict))
}

func stopAll(brokers *cluster.Cluster, limit time.Duration, verdict *outcome) error {
	var problems error
	for _, node := range brokers.Live() {
		if err := node.Exited(); err != nil {
			problems = errors.Join(problems, err)
			continue
		}
		_, err := node.Terminate(limit)
		problems = errors.Join(problems, err)
	}
	verdict.line("every broker is there to the end, and ends by SIGTERM", problems)
	return nil
}

// leaders asks any broker how many partitions of the run each leads. No answer in time: nobody knows.
func leaders(ctx context.Context, admin *kadm.Client, run *workload.Run) map[int]int {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	leads := map[int]int{}
	topics, err := admin.ListTopics(ctx, run.Topics()...)
	if err != nil {
		return leads
	}
	topics.EachPartition(func(p kadm.PartitionDetail) { leads[int(p.Leader)]++ })
	return leads
}

// writeTimeline copies what the nemesis does to a file for people.
func writeTimeline(record func(history.Event), timeline *os.File) func(history.Event) {
	began := time.Now()
	return func(e history.Event) {
		record(e)
		if e.Kind != history.Nemesis {
			return
		}
		who := ""
		if e.Partition != 0 {
			who = fmt.Sprintf("broker %d", e.Partition)
		}
		now := time.Now()
		fmt.Fprintf(timeline, "%s %8.3f %-10s %-9s %s\n", now.UTC().Format("15:04:05.000"), now.Sub(began).Seconds(), e.Value, who, e.Error)
	}
}

// measured prints the times of the run; only those beyond all reason are a failure.
func measured(events []history.Event, ttl time.Duration, verdict *outcome) {
	limit := ttl + grace
	outages := measure.Outages(events)
	var late error
	for _, o := range outages {
		fmt.Printf("# after kill -9 of broker %d all partitions were served again within %v (%s was last; the ttl is %v)\n",
			o.Broker, o.Length.Round(time.Millisecond), o.Partition, ttl)
		if !o.Served || o.Length > limit {
			late = errors.Join(late, fmt.Errorf("broker %d: %+v", o.Broker, o))
		}
	}
	if len(outages) > 0 {
		verdict.line(fmt.Sprintf("partitions of a killed broker are served again within %v", limit), late)
	}
	waits := measure.Waits(events, "rolling", "rolled")
	if len(waits) == 0 {
		return
	}
	p99 := measure.Quantile(waits, 0.99)
	fmt.Printf("# rolling restart: %d records, acknowledged after p50 %v, p99 %v, at most %v\n", len(waits),
		measure.Quantile(waits, 0.5).Round(time.Millisecond), p99.Round(time.Millisecond), waits[len(waits)-1].Round(time.Millisecond))
	silences := measure.Silences(events, "rolling", "begin", "terminate")
	fmt.Printf("# each of its terminations: a partition had waiting records and no acknowledgement for p50 %v, p99 %v, at most %v\n",
		measure.Quantile(silences, 0.5).Round(time.Millisecond), measure.Quantile(silences, 0.99).Round(time.Millisecond),
		measure.Quantile(silences, 1).Round(time.Millisecond))
	if p99 > limit {
		verdict.line("rolling restart", fmt.Errorf("p99 of producers %v", p99))
	} else {
		verdict.line("rolling restart under load", nil)
	}
}
