// bench puts one load on a Kafka-compatible broker and prints its figures as one line of JSON.
//
//	bench produce|consume|e2e|ack|first|topics|failover|handover -bootstrap HOST:PORT -topic T …
//
// produce sends -records as fast as acknowledgements allow. consume reads as many from the beginning. e2e sends at -rate and reads at the
// same time; a record's latency runs from the call that sends it to the poll that returns it. ack sends one record a request at -rate, and measures the store of -store meanwhile. first connects as soon as it can, makes the
// topic, sends one record and says how long after -since that was acknowledged. topics makes -records topics with one request; failover
// kills the broker of -pid with -9 and says how long -partitions partitions are away. handover starts the brokers of -brokers, restarts one
// after another and says for how long each partition could not be written to; it prints more than a line.
//
// With -pid the broker's CPU time and memory are taken from /proc, with -admin its requests to the store from its metrics. Neither
// changes what is measured: both are read before and after the load, and memory every 50 ms.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// load is what to do, as the command line says.
type load struct {
	mode, bootstrap, topic, codec, admin, store, brokers, clientLog string
	records, size, partitions, rate, pid, rounds                    int
	entropy                                                         float64
	since                                                           int64
	limit, fill, interval                                           time.Duration
	strict                                                          bool
}

// figures by name; units stand in the names.
type figures map[string]float64

func parse() load {
	if len(os.Args) < 2 {
		fail("usage: bench produce|consume|e2e|ack|first|topics|failover|handover [flags]")
	}
	l := load{mode: os.Args[1]}
	flags := flag.NewFlagSet(l.mode, flag.ExitOnError)
	flags.StringVar(&l.bootstrap, "bootstrap", "127.0.0.1:9092", "host:port")
	flags.StringVar(&l.topic, "topic", "bench", "made when it is new")
	flags.StringVar(&l.codec, "codec", "none", "none, gzip, snappy, lz4, zstd")
	flags.StringVar(&l.admin, "admin", "", "host:port of Alluvium's metrics")
	flags.StringVar(&l.store, "store", "", "of ack and handover: the URL of a bucket or of a folder to make, whose own creates are measured beside")
	flags.IntVar(&l.records, "records", 1_000_000, "")
	flags.IntVar(&l.size, "size", 1024, "bytes of a record's value, 16 or more")
	flags.IntVar(&l.partitions, "partitions", 6, "of a new topic")
	flags.IntVar(&l.rate, "rate", 5000, "records per second of e2e, ack and handover")
	flags.IntVar(&l.pid, "pid", 0, "the broker's process")
	flags.Float64Var(&l.entropy, "entropy", 1, "share of a value's bytes that can't be compressed")
	flags.Int64Var(&l.since, "since", 0, "of first: milliseconds since 1970")
	flags.DurationVar(&l.limit, "limit", 5*time.Minute, "")
	flags.DurationVar(&l.fill, "fill", time.Minute, "of failover: records are written for so long before")
	flags.StringVar(&l.brokers, "brokers", "", "of handover: a file with a broker a line: its address, its admin address, its log, its command")
	flags.StringVar(&l.clientLog, "client-log", "", "of handover: a file for what the producer logs")
	flags.IntVar(&l.rounds, "rounds", 2, "of handover: each broker is restarted so often")
	flags.DurationVar(&l.interval, "interval", 40*time.Millisecond, "of handover: between two requests to a partition")
	flags.BoolVar(&l.strict, "strict", false, "of handover: fail over the limits")
	flags.Parse(os.Args[2:])
	if l.size < 16 || l.records < 1 || l.rate < 1 {
		fail("bench: -size must be 16 or more, -records and -rate 1 or more")
	}
	return l
}

// client has the settings that all loads share: every acknowledgement waits for all replicas, producers are idempotent.
func (l load) client(more ...kgo.Opt) *kgo.Client {
	codecs := map[string]kgo.CompressionCodec{
		"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(),
		"lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression(),
	}
	codec, known := codecs[l.codec]
	if !known {
		fail("bench: no codec is called " + l.codec)
	}
	options := append([]kgo.Opt{
		kgo.SeedBrokers(strings.Split(l.bootstrap, ",")...),
		kgo.DefaultProduceTopic(l.topic),
		kgo.ProducerBatchCompression(codec),
		kgo.ProducerBatchMaxBytes(1 << 20),
		kgo.ProducerLinger(5 * time.Millisecond),
		kgo.MaxBufferedRecords(200_000),
		kgo.RecordDeliveryTimeout(l.limit),
		kgo.FetchMaxBytes(64 << 20),
		kgo.FetchMaxPartitionBytes(8 << 20),
	}, more...)
	client, err := kgo.NewClient(options...)
	if err != nil {
		fail(err.Error())
	}
	return client
}

func (l load) makeTopic(ctx context.Context, client *kgo.Client) error {
	_, err := kadm.NewClient(client).CreateTopic(ctx, int32(l.partitions), 1, nil, l.topic)
	if err != nil && !strings.Contains(err.Error(), "already exists") {
		return fmt.Errorf("making topic %s: %w", l.topic, err)
	}
	return nil
}

func main() {
	l := parse()
	ctx, cancel := context.WithTimeout(context.Background(), l.limit)
	defer cancel()
	run, known := map[string]func(context.Context, *watch) (figures, error){
		"produce": l.produce, "consume": l.consume, "e2e": l.endToEnd, "ack": l.ack, "first": l.first, "topics": l.topics, "failover": l.failover,
		"handover": l.handover,
	}[l.mode]
	if !known {
		fail("bench: no load is called " + l.mode)
	}
	result, err := run(ctx, newWatch(l.pid, l.admin))
	if err != nil {
		fail(err.Error())
	}
	line, err := json.Marshal(result)
	if err != nil {
		fail(err.Error())
	}
	fmt.Println(string(line))
}

func fail(reason string) {
	fmt.Fprintln(os.Stderr, reason)
	os.Exit(1)
}
