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

// judgeLatencies holds every p99 beside an abuser against the one alone; tells whether one was too high.
func judgeLatencies(rows []row) (failed bool) {
	for _, r := range rows {
		if limit := max(2*r.alone.P99, floor); r.beside.P99 > limit {
			failed = true
			fmt.Printf("FAIL p99/%s: %s beside, %s alone\n", r.name, ms(r.beside.P99), ms(r.alone.P99))
		} else {
			fmt.Printf("ok p99/%s\n", r.name)
		}
	}
	return failed
}
