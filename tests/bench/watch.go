package main

import (
	"bufio"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// watch takes the time, and what the broker uses meanwhile.
type watch struct {
	pid   int
	admin string
	began time.Time
	// CPU seconds and requests to the store at the beginning.
	cpu            float64
	creates, reads float64
	// Reads by which the block cache answers consumers; the others are those of merges.
	readers float64
	// Segments committed: the creates that acknowledgements wait for; the others are those of merges and of metadata.
	segments float64
	peak    atomic.Int64
	done    chan struct{}
}

func newWatch(pid int, admin string) *watch {
	return &watch{pid: pid, admin: admin, done: make(chan struct{})}
}

func (w *watch) begin() {
	w.cpu = cpuSeconds(w.pid)
	w.creates, w.reads = w.requests()
	w.readers = metric(w.admin, "alluvium_cache_gets_total")
	w.segments = metric(w.admin, "alluvium_segments_committed_total")
	go func() {
		for {
			select {
			case <-w.done:
				return
			case <-time.After(50 * time.Millisecond):
				w.peak.Store(max(w.peak.Load(), residentKiB(w.pid)))
			}
		}
	}()
	w.began = time.Now()
}

func (w *watch) end(records, size int) figures {
	seconds := time.Since(w.began).Seconds()
	close(w.done)
	mib := float64(records) * float64(size) / (1 << 20)
	result := figures{"seconds": seconds, "MiB_s": mib / seconds, "records_s": float64(records) / seconds}
	if w.pid > 0 {
		cpu := cpuSeconds(w.pid) - w.cpu
		result["cpu_s"], result["cpu_s_per_GiB"] = cpu, cpu/mib*1024
		result["peak_rss_MiB"] = float64(w.peak.Load()) / 1024
		result["rss_MiB"] = float64(residentKiB(w.pid)) / 1024
	}
	if w.admin != "" {
		creates, reads := w.requests()
		result["puts_s"], result["gets"] = (creates-w.creates)/seconds, reads-w.reads
		result["reader_gets"] = metric(w.admin, "alluvium_cache_gets_total") - w.readers
		result["segments_s"] = (metric(w.admin, "alluvium_segments_committed_total") - w.segments) / seconds
	}
	return result
}

// requests are the creates that the store has had, and the reads that brought something: every few seconds a broker looks behind the
// end of the metadata table, whatever the load, and finds nothing.
func (w *watch) requests() (creates, reads float64) {
	if w.admin == "" {
		return 0, 0
	}
	answer, err := http.Get("http://" + w.admin + "/metrics")
	if err != nil {
		return 0, 0
	}
	defer answer.Body.Close()
	for lines := bufio.NewScanner(answer.Body); lines.Scan(); {
		series, value, _ := strings.Cut(lines.Text(), " ")
		count, err := strconv.ParseFloat(value, 64)
		if err != nil || !strings.HasPrefix(series, "alluvium_store_operations_total") {
			continue
		}
		if strings.Contains(series, `operation="create"`) {
			creates += count
		} else if strings.Contains(series, `operation="read"`) && !strings.Contains(series, `outcome="not_found"`) {
			reads += count
		}
	}
	return creates, reads
}

// cpuSeconds is the time that a process has run, in user and kernel.
func cpuSeconds(pid int) float64 {
	fields := statFields(pid)
	if len(fields) < 13 {
		return 0
	}
	const ticksPerSecond = 100
	user, _ := strconv.ParseFloat(fields[11], 64)
	kernel, _ := strconv.ParseFloat(fields[12], 64)
	return (user + kernel) / ticksPerSecond
}

func residentKiB(pid int) int64 {
	status, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	if pid == 0 || err != nil {
		return 0
	}
	for line := range strings.Lines(string(status)) {
		if fields := strings.Fields(line); len(fields) > 1 && fields[0] == "VmRSS:" {
			kib, _ := strconv.ParseInt(fields[1], 10, 64)
			return kib
		}
	}
	return 0
}

// statFields are the fields of /proc/<pid>/stat behind the name, which may hold anything.
func statFields(pid int) []string {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if pid == 0 || err != nil {
		return nil
	}
	text := string(stat)
	return strings.Fields(text[strings.LastIndexByte(text, ')')+1:])
}

// metric is the value of a series without labels on the broker's page of metrics.
func metric(admin, name string) float64 {
	if admin == "" {
		return 0
	}
	answer, err := http.Get("http://" + admin + "/metrics")
	if err != nil {
		return 0
	}
	defer answer.Body.Close()
	for lines := bufio.NewScanner(answer.Body); lines.Scan(); {
		if series, value, _ := strings.Cut(lines.Text(), " "); series == name {
			count, _ := strconv.ParseFloat(value, 64)
			return count
		}
	}
	return 0
}
