package main

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// difference is one leaf of one answer that the two brokers fill differently.
type difference struct {
	scenario, label, api, path, kafka, subject string
	version                                    int16
}

func (d difference) String() string {
	return fmt.Sprintf("[%s] %s v%d %s: Kafka %s, here %s", d.label, d.api, d.version, d.path, d.kafka, d.subject)
}

type verdict struct {
	passed, failed int
	failures       []string
	used           map[string]int // accepted difference → how often
	steps, leaves  map[string]int // by API
	versions       map[string]map[int16]bool
	groups         groups
}

// groups gather what is the same difference in several versions and places.
type groups struct {
	order []string
	seen  map[string][]string
}

func (g *groups) add(d difference) {
	base, _, _ := strings.Cut(d.scenario, "/")
	key := fmt.Sprintf("%s [%s] %s %s: Kafka %s, here %s", base, d.label, d.api, indexes.ReplaceAllString(d.path, "[]"), d.kafka, d.subject)
	if g.seen == nil {
		g.seen = map[string][]string{}
	}
	if g.seen[key] == nil {
		g.order = append(g.order, key)
	}
	if version := fmt.Sprintf("v%d", d.version); !slices.Contains(g.seen[key], version) {
		g.seen[key] = append(g.seen[key], version)
	}
}

func newVerdict() *verdict {
	return &verdict{used: map[string]int{}, steps: map[string]int{}, leaves: map[string]int{}, versions: map[string]map[int16]bool{}}
}

func (v *verdict) judge(c scenario, kafka, subject *S) {
	if os.Getenv("SHOW") != "" {
		show(c.name, kafka)
	}
	var unknown []difference
	for _, d := range v.compare(c.name, kafka, subject) {
		if id := accepted(d); id != "" {
			v.used[id]++
		} else {
			unknown = append(unknown, d)
		}
	}
	switch {
	case kafka.aborted != "":
		v.fail(c.name, "Apache Kafka fails it: %s", kafka.aborted)
	case subject.aborted != "":
		v.fail(c.name, "%s", subject.aborted)
	case len(unknown) > 0:
		v.fail(c.name, "%d differences", len(unknown))
	case len(kafka.steps) == 0:
		v.fail(c.name, "nothing was compared")
	default:
		v.passed++
		fmt.Printf("ok %s\n", c.name)
	}
	for i, d := range unknown {
		if i < 3 {
			fmt.Printf("  %s\n", d)
		}
		v.groups.add(d)
	}
}

// show prints what Kafka answered: SHOW=1 with ONLY says what a new scenario is to expect.
func show(name string, s *S) {
	for _, step := range s.steps {
		fmt.Printf("%s [%s] %s v%d\n", name, step.label, step.api, step.version)
		for _, l := range step.lines {
			fmt.Printf("    %s: %s\n", l.path, l.value)
		}
	}
}

func (v *verdict) fail(name, format string, a ...any) {
	v.failed++
	line := fmt.Sprintf("%s: %s", name, fmt.Sprintf(format, a...))
	v.failures = append(v.failures, line)
	fmt.Println("FAIL " + line)
}

func (v *verdict) compare(name string, kafka, subject *S) (out []difference) {
	for i := range max(len(kafka.steps), len(subject.steps)) {
		if i >= len(kafka.steps) || i >= len(subject.steps) || kafka.steps[i].label != subject.steps[i].label {
			out = append(out, difference{name, labelAt(kafka, i), "step", "(order)", labelAt(kafka, i), labelAt(subject, i), 0})
			break
		}
		k, s := kafka.steps[i], subject.steps[i]
		v.steps[k.api]++
		v.leaves[k.api] += len(k.lines)
		if v.versions[k.api] == nil {
			v.versions[k.api] = map[int16]bool{}
		}
		v.versions[k.api][k.version] = true
		theirs := map[string]string{}
		ours := map[string]string{}
		for _, l := range k.lines {
			ours[l.path] = l.value
		}
		own := map[string]string{}
		for _, l := range s.lines {
			own[l.path] = l.value
		}
		for _, l := range s.lines {
			theirs[l.path] = l.value
		}
		if k.lines[0].path != s.lines[0].path && (k.lines[0].path == "(connection)" || s.lines[0].path == "(connection)") {
			out = append(out, difference{name, k.label, k.api, "(connection)", outcome(k), outcome(s), k.version})
			continue
		}
		for _, l := range k.lines {
			value, ok := theirs[l.path]
			if !ok && missesElement(l.path, own) {
				continue
			} else if !ok {
				value = "(absent)"
			}
			if delete(theirs, l.path); value != l.value {
				out = append(out, difference{name, k.label, k.api, l.path, l.value, value, k.version})
			}
		}
		for _, l := range s.lines {
			if value, left := theirs[l.path]; left && !missesElement(l.path, ours) {
				out = append(out, difference{name, k.label, k.api, l.path, "(absent)", value, k.version})
			}
		}
	}
	return out
}

// missesElement: the path lies in an element of a list that is shorter on this side; the list's length says so already.
func missesElement(path string, lines map[string]string) bool {
	for _, at := range elements.FindAllStringIndex(path, -1) {
		if _, there := lines[path[:at[0]]+".length"]; !there {
			continue
		}
		element := path[:at[1]]
		if !slices.ContainsFunc(sortedKeys(lines), func(p string) bool { return strings.HasPrefix(p, element) }) {
			return true
		}
	}
	return false
}

// outcome of a request: its answer, or what became of the connection.
func outcome(s step) string {
	if s.lines[0].path == "(connection)" {
		return s.lines[0].value
	}
	for _, l := range s.lines {
		if strings.HasSuffix(l.path, "ErrorCode") && l.value != "0" {
			return "answered with error " + l.value
		}
	}
	return "answered"
}

func labelAt(s *S, i int) string {
	if i < len(s.steps) {
		return s.steps[i].label
	}
	return "(no such step)"
}

// report prints the tables and the counts, and fails for entries of the table that nothing needed.
func (v *verdict) report(whole bool) {
	fmt.Println("\naccepted differences:")
	for _, e := range differences {
		fmt.Printf("  %-28s %5d × %s\n", e.id, v.used[e.id], e.reason)
	}
	for _, e := range differences {
		if whole && v.used[e.id] == 0 {
			v.fail("differences/"+e.id, "it did not occur; take it out of differences.go")
		} else if whole {
			v.passed++
			fmt.Printf("ok differences/%s\n", e.id)
		}
	}
	if whole {
		v.coverage()
	}
	fmt.Println("\nnot ordered by Kafka, compared as sets:")
	for _, e := range sets {
		fmt.Printf("  %-28s %s\n", e.api+" "+e.field, e.reason)
	}
	fmt.Println("\ncompared answers:")
	for _, api := range sortedKeys(v.steps) {
		fmt.Printf("  %-28s %6d answers %8d fields %3d versions\n", api, v.steps[api], v.leaves[api], len(v.versions[api]))
	}
	printUnjudged()
	// At the end, where one looks.
	if len(v.groups.order) > 0 {
		fmt.Println("\ndifferences that are not accepted:")
	}
	for _, key := range v.groups.order {
		fmt.Printf("  %s (%s)\n", key, strings.Join(v.groups.seen[key], " "))
	}
	for _, line := range v.failures {
		fmt.Println("  " + line)
	}
}

// coverage fails for a version that both brokers serve and no scenario has asked for.
func (v *verdict) coverage() {
	for key := int16(0); key < 128; key++ {
		span, ok := served[key]
		if !ok {
			continue
		}
		name := kmsg.NameForKey(key)
		var missing []int16
		for version := span.low; version <= span.high; version++ {
			if !v.versions[name][version] {
				missing = append(missing, version)
			}
		}
		if len(missing) > 0 {
			v.fail("versions/"+name, "no scenario asks for %v", missing)
		} else {
			v.passed++
			fmt.Printf("ok versions/%s\n", name)
		}
	}
}

func accepted(d difference) string {
	for _, e := range differences {
		if e.matches(d) {
			return e.id
		}
	}
	return ""
}

// entry accepts a difference. Patterns are regular expressions of the whole text; an empty one takes all, but an empty path only fields
// of an answer: what is none stands in parentheses, "(connection)" above all, and must be named.
type entry struct {
	id, api, version, scenario, label, path, kafka, here, reason string
}

func (e entry) matches(d difference) bool {
	if e.path == "" && strings.HasPrefix(d.path, "(") {
		return false
	}
	return full(e.api, d.api) && full(e.version, fmt.Sprint(d.version)) && full(e.scenario, d.scenario) && full(e.label, d.label) && full(e.path, indexes.ReplaceAllString(d.path, "[]")) &&
		full(e.kafka, d.kafka) && full(e.here, d.subject)
}

var indexes = regexp.MustCompile(`\[\d+\]`)

// elements are all indexes, named ones too.
var elements = regexp.MustCompile(`\[[^\]]+\]`)

func full(pattern, text string) bool {
	if pattern == "" {
		return true
	}
	known, ok := patterns.Load(pattern)
	if !ok {
		known, _ = patterns.LoadOrStore(pattern, regexp.MustCompile("^(?s:"+pattern+")$"))
	}
	return known.(*regexp.Regexp).MatchString(text)
}

// patterns by their text, for there are many comparisons.
var patterns sync.Map

// set is a list that Kafka fills from a hash map.
type set struct{ api, field, reason string }

func unordered(api, field string) bool {
	for _, e := range sets {
		if full(e.field, field) && full(e.api, api) {
			return true
		}
	}
	return false
}
