package workload

import (
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
)

func TestWhatIsSaidOfABatchBehindALostOneIsNotFatal(t *testing.T) {
	for message, fatal := range map[string]bool{
		"wide[0{skipped@-1,3(OUT_OF_ORDER_SEQUENCE_NUMBER: The broker received an out of order sequence number.)}, ]": false,
		"wide[0{retrying@-1,3(NOT_LEADER_FOR_PARTITION: moved)}, 1{skipped@-1(OUT_OF_ORDER_SEQUENCE_NUMBER: x)}, ]":   false,
		"wide[0{fatal@-1,3(OUT_OF_ORDER_SEQUENCE_NUMBER: The broker received an out of order sequence number.)}, ]":   true,
		"wide[0{skipped@7=>9}, 1{resetting@-1,3(OUT_OF_ORDER_SEQUENCE_NUMBER: x)}, ]":                                 true,
		"wide[0{skipped@-1(OUT_OF_ORDER_SEQUENCE_NUMBER: x)}, 1{fatal@-1,3(OUT_OF_ORDER_SEQUENCE_NUMBER: x)}, ]":      true,
		"wide[0{skipped@-1,3(TOPIC_AUTHORIZATION_FAILED: x)}, ]":                                                      true,
	} {
		errors := NewErrors()
		errors.Log(kgo.LogLevelDebug, "produced", "to", message)
		if got := errors.Fatal(); (got != nil) != fatal {
			t.Errorf("%s: %v", message, got)
		}
		if behind := strings.Contains(message, "skipped@-1,3(OUT") || strings.Contains(message, "skipped@-1(OUT"); strings.Contains(errors.String(), behindLost) != behind {
			t.Errorf("%s: counted %s", message, errors)
		}
	}
}
