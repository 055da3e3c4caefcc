// Command chaos kills a broker at random moments while real clients write and read, and judges what they saw.
//
//	chaos              runs by the environment (see tests/chaos/run)
//	chaos check FILE   judges a recorded history again
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"alluvium/tests/chaos/checker"
	"alluvium/tests/chaos/history"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var err error
	if len(os.Args) == 3 && os.Args[1] == "check" {
		err = checkFile(os.Args[2])
	} else {
		err = runFromEnvironment(ctx)
	}
	if err != nil {
		if !errors.Is(err, errFailed) {
			fmt.Printf("FAIL chaos: %v\n", err)
		}
		os.Exit(1)
	}
}

// errFailed says that FAIL lines were printed already.
var errFailed = errors.New("failed")

func checkFile(path string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	events, err := history.Read(file)
	if err != nil {
		return err
	}
	if !printVerdict(checker.Check(events)) {
		return errFailed
	}
	return nil
}

// printVerdict prints one line for each kind of anomaly and says whether there was none.
func printVerdict(report checker.Report) bool {
	good := true
	for _, kind := range checker.Kinds {
		details := report.Anomalies[kind.Name]
		if len(details) == 0 {
			fmt.Printf("ok no %s\n", kind.Name)
			continue
		}
		good = false
		fmt.Printf("FAIL %s: %d × %s; %s\n", kind.Name, len(details), kind.Meaning, details[0])
		for _, detail := range details[1:min(len(details), 5)] {
			fmt.Printf("#    %s\n", detail)
		}
	}
	s := report.Stats
	fmt.Printf("# sends %d, acks %d, refused %d, unknown %d, reads %d, final reads %d, commits %d, committed offsets asked %d, ends asked %d, times asked %d, topic changes %d\n",
		s.Sends, s.Acks, s.Fails, s.Unknowns, s.Reads, s.FinalReads, s.Commits, s.CommittedReads, s.EndReads, s.TimeReads, s.TopicChanges)
	return good
}
