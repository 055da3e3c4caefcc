// The differential test: the same requests to Apache Kafka and to the broker under test, and every difference of the
// answers judged by one table (differences.go). What they do not meet or look at is listed too (unjudged.go).
package main

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"sort"
	"strconv"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// broker is one of the two.
type broker struct {
	name    string
	address string
	node    int32
	offers  map[int16]span
}

type span struct{ low, high int16 }

var (
	served map[int16]span                                                            // by both
	runID  = fmt.Sprintf("%04s", strconv.FormatInt(time.Now().Unix()%1_000_000, 36)) // of one length, as requests are
)

// parallel scenarios at a time: they wait for timers more than they compute.
const parallel = 8

func main() {
	kafka := &broker{name: "kafka", address: os.Getenv("KAFKA")}
	subject := &broker{name: "subject", address: os.Getenv("BOOTSTRAP")}
	for _, b := range []*broker{kafka, subject} {
		if err := b.learn(); err != nil {
			fmt.Printf("FAIL diff: %s at %s: %v\n", b.name, b.address, err)
			os.Exit(1)
		}
	}
	for _, b := range []*broker{kafka, subject} {
		if err := b.warm(); err != nil {
			fmt.Printf("FAIL diff: %s at %s: %v\n", b.name, b.address, err)
			os.Exit(1)
		}
	}
	if err := subject.learnConfigs(); err != nil {
		fmt.Printf("FAIL diff: %s at %s: %v\n", subject.name, subject.address, err)
		os.Exit(1)
	}
	served = both(kafka.offers, subject.offers)
	only := os.Getenv("ONLY")
	pattern := regexp.MustCompile(only)
	verdict := newVerdict()
	var chosen []scenario
	for _, c := range scenarios() {
		if pattern.MatchString(c.name) {
			chosen = append(chosen, c)
		}
	}
	results := make([]chan [2]*S, len(chosen))
	slots := make(chan struct{}, parallel)
	for i := range results {
		results[i] = make(chan [2]*S, 1)
	}
	go func() {
		for i, c := range chosen {
			slots <- struct{}{}
			go func() {
				results[i] <- runBoth(kafka, subject, c)
				<-slots
			}()
		}
	}()
	for i, c := range chosen {
		pair := <-results[i]
		verdict.judge(c, pair[0], pair[1])
	}
	if only == "" {
		verdict.apis(kafka, subject)
	}
	verdict.report(only == "")
	if verdict.failed > 0 {
		os.Exit(1)
	}
}

func runBoth(kafka, subject *broker, c scenario) (pair [2]*S) {
	var wait sync.WaitGroup
	for i, b := range []*broker{kafka, subject} {
		wait.Go(func() { pair[i] = runOn(b, c) })
	}
	wait.Wait()
	return pair
}

// learn asks for the versions and the node's id.
func (b *broker) learn() error {
	c, err := dial(b.address)
	if err != nil {
		return err
	}
	defer c.socket.Close()
	response, err := c.ask(&kmsg.ApiVersionsRequest{Version: 0})
	if err != nil {
		return err
	}
	b.offers = map[int16]span{}
	for _, row := range response.(*kmsg.ApiVersionsResponse).ApiKeys {
		b.offers[row.ApiKey] = span{row.MinVersion, row.MaxVersion}
	}
	if response, err = c.ask(&kmsg.MetadataRequest{Version: 1}); err != nil {
		return err
	}
	b.node = response.(*kmsg.MetadataResponse).Brokers[0].NodeID
	return nil
}

// warm lets the broker make its internal topics, so that no scenario meets a coordinator that is not there yet.
func (b *broker) warm() error {
	c, err := dial(b.address)
	if err != nil {
		return err
	}
	defer c.socket.Close()
	for range 300 {
		ready := true
		for kind := range int8(2) {
			find := kmsg.NewPtrFindCoordinatorRequest()
			find.Version, find.CoordinatorType, find.CoordinatorKeys = 4, kind, []string{"warm"}
			if _, err := c.ask(find); err != nil {
				return err
			}
		}
		init := kmsg.NewPtrInitProducerIDRequest()
		init.Version = 4
		id, err := c.ask(init)
		if err != nil {
			return err
		}
		ready = ready && id.(*kmsg.InitProducerIDResponse).ErrorCode == 0
		all := kmsg.NewPtrDescribeGroupsRequest()
		all.Version = 5
		for i := range 1000 {
			all.Groups = append(all.Groups, fmt.Sprint("warm-", i))
		}
		answer, err := c.ask(all)
		if err != nil {
			return err
		}
		for _, g := range answer.(*kmsg.DescribeGroupsResponse).Groups {
			ready = ready && g.ErrorCode == 0
		}
		if ready {
			return nil
		}
		time.Sleep(100 * time.Millisecond)
	}
	return errors.New("its coordinators do not come up")
}

// unlessSet are configs that brokers know and describe only where they are set.
var unlessSet = []string{"allow.everyone.if.no.acl.found", "follower.replication.throttled.rate", "leader.replication.throttled.rate",
	"replica.alter.log.dirs.io.max.bytes.per.second", "super.users"}

// learnConfigs asks for the names of the broker's configs.
func (b *broker) learnConfigs() error {
	c, err := dial(b.address)
	if err != nil {
		return err
	}
	defer c.socket.Close()
	ask := describe(4, fmt.Sprint(b.node))
	ask.Version = 4
	answer, err := c.ask(ask)
	if err != nil {
		return err
	}
	for _, config := range answer.(*kmsg.DescribeConfigsResponse).Resources[0].Configs {
		brokerConfigs = append(brokerConfigs, config.Name)
	}
	brokerConfigs = append(brokerConfigs, unlessSet...)
	sort.Strings(brokerConfigs)
	return nil
}

func both(a, b map[int16]span) map[int16]span {
	out := map[int16]span{}
	for key, x := range a {
		if y, ok := b[key]; ok && kmsg.RequestForKey(key) != nil {
			low, high := max(x.low, y.low), min(x.high, y.high)
			if key == 0 {
				low = 3 // advertised from 0 for librdkafka, parsed from 3
			}
			out[key] = span{low, min(high, kmsg.RequestForKey(key).MaxVersion())}
		}
	}
	return out
}

func sortedKeys[V any](m map[string]V) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	sort.Strings(out)
	return out
}
