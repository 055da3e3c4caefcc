package main

import (
	"fmt"
	"time"
)

// A p99 below this is as good as any: twice almost nothing is almost nothing.
const floor = 10 * time.Millisecond

// String is what stands behind "ok".
func (r row) String() string {
	return fmt.Sprintf("%s: %s; neighbour alone p50 %s p99 %s, beside p50 %s p99 %s worst %s; memory %.0f MiB, at most +%.0f",
		r.name, r.note, ms(r.alone.P50), ms(r.alone.P99), ms(r.beside.P50), ms(r.beside.P99), ms(r.beside.Worst), r.before, r.peak-r.before)
}

func ms(d time.Duration) string { return fmt.Sprintf("%.1f ms", float64(d)/float64(time.Millisecond)) }

// table prints the figures as Markdown.
func table(rows []row) {
	fmt.Println("\n| case | alone p50 / p99 ms | beside p50 / p99 / worst ms | memory MiB before, peak + | what the abuser did and got |")
	fmt.Println("| --- | --- | --- | --- | --- |")
	f := func(d time.Duration) string { return fmt.Sprintf("%.1f", float64(d)/float64(time.Millisecond)) }
	for _, r := range rows {
		note := r.note
		if r.err != nil {
			note = "FAILED: " + r.err.Error()
		}
		fmt.Printf("| %s | %s / %s | %s / %s / %s | %.0f, +%.0f | %s |\n", r.name, f(r.alone.P50), f(r.alone.P99), f(r.beside.P50),
			f(r.beside.P99), f(r.beside.Worst), r.before, r.peak-r.before, note)
	}
}

// slow says whether the p99 beside the abuser was too high.
func (r row) slow() bool { return r.beside.P99 > max(2*r.alone.P99, floor) }

// judgeLatencies tells whether the p99 of a case was too high whenever it was measured: what else runs on the machine only adds to it.
func judgeLatencies(rows []row) (failed bool) {
	if !processors {
		fmt.Println("# not allowed to let broker and neighbour run before the abusers (as root it is): what these compute is measured, too")
	}
	good := map[string]bool{}
	for _, r := range rows {
		good[r.name] = good[r.name] || !r.slow()
	}
	for _, r := range rows {
		switch {
		case !good[r.name]:
			failed = true
			fmt.Printf("FAIL p99/%s: %s beside, %s alone\n", r.name, ms(r.beside.P99), ms(r.alone.P99))
		case r.slow():
			fmt.Printf("# p99/%s was %s beside, %s alone, once; measured again\n", r.name, ms(r.beside.P99), ms(r.alone.P99))
		default:
			fmt.Printf("ok p99/%s\n", r.name)
		}
	}
	return failed
}
