package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// produceVersion is the last one that names topics by name; from 10 on refusals name the leader (KIP-951).
const produceVersion = 12

// metadataPause lies between two questions for the leaders, however many partitions want to know.
const metadataPause = 10 * time.Millisecond

// attempt is one Produce request of one partition. Times are since the beginning of the measurement.
type attempt struct {
	sent, answered time.Duration
	broker, life   int
	offset         int64
	err            error // nil: it was acknowledged
}

// place is where a partition is led, as far as somebody told.
type place struct {
	broker int
	epoch  int32
}

// prober writes to one partition: a request every `interval`, whatever became of those before, over a connection of its own to each broker,
// so that no other partition's answer stands before its own. It goes wherever it is told, at once.
type prober struct {
	topic     string
	partition int32
	interval  time.Duration
	fleet     *fleet
	batch     []byte
	began     time.Time

	lines    map[int]*line
	answers  chan answer
	known    place
	asking   bool
	told     chan place
	attempts []attempt
}

// answer is what came back for an attempt.
type answer struct {
	attempt
	line  *line
	hint  place // broker < 0: none
	fresh bool  // the line may be used on
}

// line is one connection.
type line struct {
	broker, life int
	conn         net.Conn
	sent         chan time.Duration // of requests without an answer, in order
	closed       atomic.Bool
}

func newProber(f *fleet, topic string, partition int32, interval time.Duration, began time.Time) *prober {
	return &prober{
		topic: topic, partition: partition, interval: interval, fleet: f, batch: smallBatch(), began: began,
		lines: map[int]*line{}, answers: make(chan answer, 256), told: make(chan place, 1), known: place{broker: -1, epoch: -1},
	}
}

// run writes until the context ends, and then waits a moment for what is on its way.
func (p *prober) run(ctx context.Context) {
	tick := time.NewTicker(p.interval)
	defer tick.Stop()
	p.ask()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-tick.C:
			p.send()
		case answer := <-p.answers:
			p.hear(answer)
		case told := <-p.told:
			p.asking = false
			p.follow(told)
		}
	}
	for last := time.After(3 * time.Second); ; {
		select {
		case answer := <-p.answers:
			p.note(answer.attempt)
		case <-last:
			for _, line := range p.lines {
				line.close()
			}
			return
		}
	}
}

func (p *prober) note(a attempt) { p.attempts = append(p.attempts, a) }

// send makes an attempt at the leader. One that can't even begin is an attempt, too.
func (p *prober) send() {
	now := time.Since(p.began)
	if p.known.broker < 0 {
		p.note(attempt{sent: now, answered: now, broker: -1, err: kerr.LeaderNotAvailable})
		p.ask()
		return
	}
	line, err := p.line(p.known.broker)
	if err == nil {
		err = line.send(now, p.topic, p.partition, p.batch)
	}
	if err != nil {
		p.note(attempt{sent: now, answered: time.Since(p.began), broker: p.known.broker, life: p.fleet.life(p.known.broker), err: errConnection})
		p.hangUp(line)
		p.ask()
	}
}

func (p *prober) hear(a answer) {
	p.note(a.attempt)
	if !a.fresh {
		p.hangUp(a.line)
	}
	switch {
	case a.err == nil:
	case a.hint.broker >= 0 && a.hint.epoch > p.known.epoch:
		p.follow(a.hint)
	case a.broker == p.known.broker:
		p.ask()
	}
}

// follow goes on where the partition is led, with a request at once.
func (p *prober) follow(told place) {
	if told.broker < 0 || told.epoch < p.known.epoch {
		p.ask()
		return
	}
	moved := told != p.known
	p.known = told
	if moved {
		p.send()
	} else if last := len(p.attempts) - 1; last >= 0 && p.attempts[last].err != nil {
		p.ask()
	}
}

// ask asks for the leader, one question at a time.
func (p *prober) ask() {
	if p.asking {
		return
	}
	p.asking = true
	go func() { p.told <- p.fleet.leader(p.partition) }()
}

func (p *prober) hangUp(line *line) {
	if line != nil {
		line.close()
		if p.lines[line.broker] == line {
			delete(p.lines, line.broker)
		}
	}
}

func (p *prober) line(broker int) (*line, error) {
	if line := p.lines[broker]; line != nil && !line.closed.Load() {
		return line, nil
	}
	life := p.fleet.life(broker)
	conn, err := net.DialTimeout("tcp", p.fleet.brokers[broker].address, time.Second)
	if err != nil {
		return nil, err
	}
	line := &line{broker: broker, life: life, conn: conn, sent: make(chan time.Duration, 256)}
	p.lines[broker] = line
	go p.listen(line)
	return line, nil
}

var errConnection = errors.New("connection closed")

func (l *line) send(now time.Duration, topic string, partition int32, batch []byte) error {
	select {
	case l.sent <- now:
	default:
		return errors.New("too many requests wait for an answer")
	}
	request := kmsg.NewPtrProduceRequest()
	request.Version, request.Acks, request.TimeoutMillis = produceVersion, -1, 10_000
	data := kmsg.NewProduceRequestTopicPartition()
	data.Partition, data.Records = partition, batch
	named := kmsg.NewProduceRequestTopic()
	named.Topic, named.Partitions = topic, append(named.Partitions, data)
	request.Topics = append(request.Topics, named)
	_, err := l.conn.Write(formatter.AppendRequest(nil, request, 0))
	return err
}

func (l *line) close() {
	if !l.closed.Swap(true) {
		l.conn.Close()
	}
}

// listen passes on what comes back over a line, and what does not when it ends.
func (p *prober) listen(l *line) {
	reader := bufio.NewReader(l.conn)
	for {
		response := kmsg.NewPtrProduceResponse()
		response.Version = produceVersion
		err := readResponse(reader, response)
		now := time.Since(p.began)
		if err != nil {
			l.close()
			for {
				select {
				case sent := <-l.sent:
					p.answers <- answer{attempt: attempt{sent: sent, answered: now, broker: l.broker, life: l.life, err: errConnection}, line: l, hint: place{broker: -1}}
				default:
					return
				}
			}
		}
		told := response.Topics[0].Partitions[0]
		result := attempt{sent: <-l.sent, answered: now, broker: l.broker, life: l.life, offset: told.BaseOffset, err: kerr.ErrorForCode(told.ErrorCode)}
		hint := place{broker: p.fleet.brokerOf(told.CurrentLeader.LeaderID), epoch: told.CurrentLeader.LeaderEpoch}
		p.answers <- answer{attempt: result, line: l, hint: hint, fresh: true}
	}
}

var formatter = kmsg.NewRequestFormatter(kmsg.FormatterClientID("handover"))

// readResponse reads the next answer of a connection on which requests are answered in order.
func readResponse(from io.Reader, response kmsg.Response) error {
	var length [4]byte
	if _, err := io.ReadFull(from, length[:]); err != nil {
		return err
	}
	frame := make([]byte, binary.BigEndian.Uint32(length[:]))
	if _, err := io.ReadFull(from, frame); err != nil {
		return err
	}
	header := 4
	if response.IsFlexible() {
		header++ // no tags in it
	}
	if len(frame) < header {
		return fmt.Errorf("an answer of %d bytes", len(frame))
	}
	return response.ReadFrom(frame[header:])
}

// smallBatch is a record batch with one record, as it goes over the wire.
func smallBatch() []byte {
	value := []byte("probe")
	now := time.Now().UnixMilli()
	record := kmsg.Record{Value: value}
	record.Length = int32(len(record.AppendTo(nil)) - 1)
	batch := kmsg.RecordBatch{
		Magic: 2, FirstTimestamp: now, MaxTimestamp: now, ProducerID: -1, ProducerEpoch: -1, FirstSequence: -1, NumRecords: 1,
		PartitionLeaderEpoch: -1, Records: record.AppendTo(nil),
	}
	bytes := batch.AppendTo(nil)
	binary.BigEndian.PutUint32(bytes[8:], uint32(len(bytes)-12))
	binary.BigEndian.PutUint32(bytes[17:], crc32.Checksum(bytes[21:], crc32.MakeTable(crc32.Castagnoli)))
	return bytes
}

// ask asks one broker for all leaders of the topic: by partition, broker -1 where there is none.
func (f *fleet) ask(broker int) (map[int32]place, error) {
	conn, err := net.DialTimeout("tcp", f.brokers[broker].address, time.Second)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(2 * time.Second))
	request := kmsg.NewPtrMetadataRequest()
	request.Version = 9
	topic := kmsg.NewMetadataRequestTopic()
	topic.Topic = &f.topic
	request.Topics = append(request.Topics, topic)
	if _, err := conn.Write(formatter.AppendRequest(nil, request, 0)); err != nil {
		return nil, err
	}
	response := kmsg.NewPtrMetadataResponse()
	response.Version = request.Version
	if err := readResponse(conn, response); err != nil {
		return nil, err
	}
	for _, node := range response.Brokers {
		f.nodes.Store(node.NodeID, f.at(fmt.Sprintf("%s:%d", node.Host, node.Port)))
	}
	places := map[int32]place{}
	for _, partition := range response.Topics[0].Partitions {
		led := place{broker: -1, epoch: partition.LeaderEpoch}
		if partition.ErrorCode == 0 {
			led.broker = f.brokerOf(partition.Leader)
		}
		places[partition.Partition] = led
	}
	return places, nil
}

// brokerOf is the broker that has this node id; -1: nobody is known to have it.
func (f *fleet) brokerOf(node int32) int {
	if broker, known := f.nodes.Load(node); known {
		return broker.(int)
	}
	return -1
}

// leadership is what was told last, by whichever broker answered.
type leadership struct {
	mutex  sync.Mutex
	asked  time.Time
	turn   int
	places map[int32]place
}

// leader asks for a partition's leader, by a question that begins after the call; one answer is for all who wait.
func (f *fleet) leader(partition int32) place {
	called := time.Now()
	l := &f.leadership
	l.mutex.Lock()
	defer l.mutex.Unlock()
	if !l.asked.After(called) {
		time.Sleep(time.Until(l.asked.Add(metadataPause)))
		l.asked = time.Now()
		l.turn++
		if places, err := f.ask(l.turn % len(f.brokers)); err == nil {
			l.places = places
		}
	}
	if led, known := l.places[partition]; known {
		return led
	}
	return place{broker: -1}
}
