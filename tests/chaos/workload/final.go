package workload

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"alluvium/tests/chaos/history"
)

// ReadAll reads every partition from zero to its present end, once the broker is healed and producers are finished.
func (r *Run) ReadAll(ctx context.Context) error {
	plain, err := r.Client("final-ends")
	if err != nil {
		return err
	}
	defer plain.Close()
	left, from := map[Partition]int64{}, map[Partition]int64{}
	r.askEnds(ctx, kadm.NewClient(plain), "final-ends", left)
	if len(left) != len(r.Partitions) {
		return fmt.Errorf("end offsets of %d partitions, want %d", len(left), len(r.Partitions))
	}
	for p, end := range left {
		if from[p] = 0; end == 0 {
			delete(left, p)
		}
	}
	c, err := r.assigned("final", from)
	if err != nil {
		return err
	}
	defer c.Close()
	for len(left) > 0 {
		fetches := c.PollRecords(ctx, 5000)
		if ctx.Err() != nil {
			return fmt.Errorf("not read to the end in time: %v", left)
		}
		r.recordPoll(history.Final, "final", "", fetches)
		for _, record := range fetches.Records() {
			p := Partition{record.Topic, record.Partition}
			if end, waiting := left[p]; waiting && record.Offset+1 >= end {
				delete(left, p)
			}
		}
	}
	return nil
}

// AwaitGroups waits until each group has committed every partition's end.
func (r *Run) AwaitGroups(ctx context.Context, groups []string) error {
	c, err := r.Client("final-groups")
	if err != nil {
		return err
	}
	defer c.Close()
	admin := kadm.NewClient(c)
	before := "no answer at all"
	for {
		ends := map[Partition]int64{}
		r.askEnds(ctx, admin, "final-groups", ends)
		committed := r.askCommitted(ctx, admin, "final-groups", groups)
		behind := ""
		for _, group := range groups {
			for _, p := range r.Partitions {
				if at := committed[group][p]; at < ends[p] {
					behind = fmt.Sprintf("%s at %s/%d: committed %d of %d", group, p.Topic, p.Index, at, ends[p])
				}
			}
		}
		if behind == "" && len(ends) == len(r.Partitions) {
			return nil
		}
		if ctx.Err() != nil { // the last answers were cut short
			return errors.New(before)
		}
		before = fmt.Sprintf("%s; end offsets of %d partitions, want %d", behind, len(ends), len(r.Partitions))
		sleep(ctx, 200*time.Millisecond)
	}
}
