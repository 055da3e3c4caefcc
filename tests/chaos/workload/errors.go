package workload

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"sort"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Errors counts what brokers answered and connections did, as franz-go reports it to its log before it retries: errors of requests as such,
// and codes of partitions in the words of its debugging messages.
type Errors struct {
	mu       sync.Mutex
	counts   map[string]int
	fatal    map[string]int
	messages []string // the first that had such an error, for people
}

// messagesKept are so many.
const messagesKept = 20

// NewErrors counts from zero.
func NewErrors() *Errors { return &Errors{counts: map[string]int{}, fatal: map[string]int{}} }

// Level and Log make it a kgo.Logger.
func (e *Errors) Level() kgo.LogLevel { return kgo.LogLevelDebug }

// Log counts the errors of a message, if it has any.
func (e *Errors) Log(_ kgo.LogLevel, message string, values ...any) {
	for i := 0; i+1 < len(values); i += 2 {
		switch value := values[i+1].(type) {
		case error:
			e.count(message, value, values)
		case string:
			if !strings.Contains(value, "_") || message != "produced" && message != "fetch stripped partitions" {
				continue
			}
			value = behind.ReplaceAllStringFunc(value, func(string) string { e.note(behindLost); return "" })
			for _, code := range codes.FindAllString(value, -1) {
				if err := byMessage[code]; err != nil {
					e.count(message, err, values)
				}
			}
		}
	}
}

func (e *Errors) note(what string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.counts[what]++
}

func (e *Errors) count(message string, err error, values []any) {
	var code *kerr.Error
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case !errors.As(err, &code):
		e.counts["no answer"]++
	case code.Retriable || expected[code.Code]:
		e.counts[code.Message]++
	default:
		e.fatal[fmt.Sprintf("%s (%s)", code.Message, message)]++
		if len(e.messages) < messagesKept {
			e.messages = append(e.messages, fmt.Sprintf("%s %s: %.500s", time.Now().UTC().Format("15:04:05.000"), message, fmt.Sprint(values...)))
		}
	}
}

// behindLost is the answer to a batch that another one of the same client should have preceded, which was lost with its connection. The
// client passes over it: it sends both again.
const behindLost = "OUT_OF_ORDER_SEQUENCE_NUMBER behind a lost batch"

var (
	behind    = regexp.MustCompile(`skipped@[^}]*OUT_OF_ORDER_SEQUENCE_NUMBER[^}]*}`)
	codes     = regexp.MustCompile(`[A-Z]+(_[A-Z]+)+`)
	byMessage = func() map[string]error {
		all := map[string]error{}
		for code := int16(-1); code < 200; code++ {
			var known *kerr.Error
			if errors.As(kerr.ErrorForCode(code), &known) {
				all[known.Message] = known
			}
		}
		return all
	}()
)

// expected are codes that are not retriable and yet part of the life of a group's member, or of a creation that is repeated.
var expected = map[int16]bool{
	kerr.UnknownMemberID.Code: true, kerr.IllegalGeneration.Code: true, kerr.RebalanceInProgress.Code: true, kerr.MemberIDRequired.Code: true,
	kerr.FencedInstanceID.Code: true, kerr.TopicAlreadyExists.Code: true,
}

// String lists the retriable ones.
func (e *Errors) String() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return listed(e.counts)
}

// Fatal is an error if there was one that clients may not retry.
func (e *Errors) Fatal() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.fatal) == 0 {
		return nil
	}
	return errors.New(listed(e.fatal))
}

// Messages are those with an error that clients may not retry.
func (e *Errors) Messages() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.messages)
}

func listed(counts map[string]int) string {
	var lines []string
	for name, count := range counts {
		lines = append(lines, fmt.Sprintf("%s %d", name, count))
	}
	sort.Strings(lines)
	return strings.Join(lines, ", ")
}
