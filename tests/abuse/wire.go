package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"os"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// conn is one connection of an abuser. It frames requests itself.
type conn struct {
	net.Conn
	next int32
}

// dial connects from one of a thousand loopback addresses, so that ports never run out.
func (t *target) dial() (*conn, error) {
	n := t.dials.Add(1)
	from := &net.TCPAddr{IP: net.IPv4(127, 0, byte(1+n/250%4), byte(1+n%250))}
	return t.dialFrom(from)
}

func (t *target) dialFrom(from *net.TCPAddr) (*conn, error) {
	dialer := net.Dialer{Timeout: 10 * time.Second, LocalAddr: from}
	socket, err := dialer.Dial("tcp", t.broker.address)
	if err != nil {
		return nil, err
	}
	return &conn{Conn: socket}, nil
}

// dialMany opens n connections, a few at a time.
func (t *target) dialMany(n int) ([]*conn, error) {
	conns := make([]*conn, 0, n)
	for range n {
		c, err := t.dial()
		if err != nil {
			closeAll(conns)
			return nil, fmt.Errorf("connection %d: %w", len(conns), err)
		}
		conns = append(conns, c)
	}
	return conns, nil
}

func closeAll(conns []*conn) {
	for _, c := range conns {
		c.Close()
	}
}

// reset closes by RST instead of FIN.
func (c *conn) reset() {
	_ = c.Conn.(*net.TCPConn).SetLinger(0) // it is closed in any case
	c.Close()
}

// small asks the kernel to keep little of what was not read, so that answers pile up at the broker.
func (c *conn) small() {
	_ = c.Conn.(*net.TCPConn).SetReadBuffer(4096)
}

// framed is a request with length and header, in the version that it has.
func framed(request kmsg.Request, correlation int32) []byte {
	return kmsg.NewRequestFormatter(kmsg.FormatterClientID("abuse")).AppendRequest(nil, request, correlation)
}

// head is a length and the fixed part of a header.
func head(length uint32, key, version int16) []byte {
	frame := binary.BigEndian.AppendUint32(nil, length)
	frame = binary.BigEndian.AppendUint16(frame, uint16(key))
	frame = binary.BigEndian.AppendUint16(frame, uint16(version))
	return binary.BigEndian.AppendUint32(frame, 7)
}

// write sends within the limit; what does not fit into the buffers until then stays unsent.
func (c *conn) write(bytes []byte, limit time.Duration) (int, error) {
	c.SetWriteDeadline(time.Now().Add(limit))
	return c.Write(bytes)
}

// answer reads one frame without keeping it: its length, or why there is none.
func (c *conn) answer(limit time.Duration) (int64, error) {
	c.SetReadDeadline(time.Now().Add(limit))
	var prefix [4]byte
	if _, err := io.ReadFull(c, prefix[:]); err != nil {
		return 0, err
	}
	return io.CopyN(io.Discard, c, int64(binary.BigEndian.Uint32(prefix[:])))
}

// body reads one frame and returns what follows the correlation id.
func (c *conn) body(limit time.Duration) ([]byte, error) {
	c.SetReadDeadline(time.Now().Add(limit))
	var prefix [8]byte
	if _, err := io.ReadFull(c, prefix[:]); err != nil {
		return nil, err
	}
	rest := make([]byte, binary.BigEndian.Uint32(prefix[:])-4)
	_, err := io.ReadFull(c, rest)
	return rest, err
}

// ask sends a request and decodes its answer.
func ask[T kmsg.Response](c *conn, request kmsg.Request, limit time.Duration) (T, error) {
	var none T
	c.next++
	if _, err := c.write(framed(request, c.next), limit); err != nil {
		return none, err
	}
	body, err := c.body(limit)
	if err != nil {
		return none, err
	}
	response := request.ResponseKind()
	response.SetVersion(request.GetVersion())
	if response.IsFlexible() && request.Key() != 18 {
		body = body[1:]
	}
	return response.(T), response.ReadFrom(body)
}

// isClosed says whether the broker closed the connection: by FIN or RST, without a byte before.
func isClosed(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// awaitClose waits until the broker closes, ignoring what it sends before.
func (c *conn) awaitClose(limit time.Duration) error {
	c.SetReadDeadline(time.Now().Add(limit))
	_, err := io.Copy(io.Discard, c)
	switch {
	case err == nil || isClosed(err):
		return nil
	case errors.Is(err, os.ErrDeadlineExceeded):
		return fmt.Errorf("still open after %v", limit)
	default:
		return err
	}
}

// closed counts the connections that the broker closed already.
func closedNow(conns []*conn) int {
	count := 0
	for _, c := range conns {
		if c.awaitClose(time.Millisecond) == nil {
			count++
		}
	}
	return count
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// batch is a record batch of magic 2 around records that are written already, with a right CRC. codec is Kafka's number of it.
func batch(codec int16, firstTime, lastTime int64, count int32, records []byte) []byte {
	b := kmsg.RecordBatch{
		PartitionLeaderEpoch: -1, Magic: 2, Attributes: codec, LastOffsetDelta: count - 1, FirstTimestamp: firstTime,
		MaxTimestamp: lastTime, ProducerID: -1, ProducerEpoch: -1, FirstSequence: -1, NumRecords: count, Records: records,
	}
	b.Length = int32(49 + len(records))
	out := b.AppendTo(nil)
	binary.BigEndian.PutUint32(out[17:], crc32.Checksum(out[21:], castagnoli))
	return out
}

// record is one record of a batch: its length, attributes, time and offset deltas, no key, the value, and what comes as headers.
func record(timeDelta int64, offsetDelta int64, value, headers []byte) []byte {
	inner := []byte{0}
	inner = binary.AppendVarint(inner, timeDelta)
	inner = binary.AppendVarint(inner, offsetDelta)
	inner = binary.AppendVarint(inner, -1)
	inner = binary.AppendVarint(inner, int64(len(value)))
	inner = append(append(inner, value...), headers...)
	return append(binary.AppendVarint(nil, int64(len(inner))), inner...)
}

// plain is a good batch of one record.
func plain(value []byte) []byte {
	now := time.Now().UnixMilli()
	return batch(0, now, now, 1, record(0, 0, value, []byte{0}))
}

func produceRequest(topic string, records []byte) *kmsg.ProduceRequest {
	request := kmsg.NewPtrProduceRequest()
	request.Version, request.Acks, request.TimeoutMillis = 9, -1, 30_000
	request.Topics = []kmsg.ProduceRequestTopic{{Topic: topic, Partitions: []kmsg.ProduceRequestTopicPartition{{Records: records}}}}
	return request
}

// produceCode sends one batch and returns the partition's error code.
func produceCode(c *conn, topic string, records []byte) (int16, error) {
	response, err := ask[*kmsg.ProduceResponse](c, produceRequest(topic, records), 30*time.Second)
	if err != nil {
		return 0, err
	}
	return response.Topics[0].Partitions[0].ErrorCode, nil
}

func fetchRequest(topic string, offset int64, maxBytes int32) *kmsg.FetchRequest {
	request := kmsg.NewPtrFetchRequest()
	request.Version, request.MaxWaitMillis, request.MinBytes, request.MaxBytes = 12, 100, 1, maxBytes
	request.SessionEpoch = -1
	partition := kmsg.NewFetchRequestTopicPartition()
	partition.FetchOffset, partition.PartitionMaxBytes = offset, maxBytes
	request.Topics = []kmsg.FetchRequestTopic{{Topic: topic, Partitions: []kmsg.FetchRequestTopicPartition{partition}}}
	return request
}

func allTopics() *kmsg.MetadataRequest {
	request := kmsg.NewPtrMetadataRequest()
	request.Version = 12
	return request
}

func apiVersions() []byte {
	request := kmsg.NewPtrApiVersionsRequest()
	return framed(request, 1)
}

func repeated(unit []byte, n int) []byte { return bytes.Repeat(unit, n) }
