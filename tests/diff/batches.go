package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"reflect"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// record is one record of a batch; delta is its timestamp's distance from the batch's first.
type record struct {
	key, value []byte
	delta      int64
	headers    []kmsg.Header
}

// batch describes a record batch. The zero value with some records is a valid one of a producer without an id.
type batch struct {
	records  []record
	base     int64 // base offset
	first    int64 // first timestamp
	maximum  int64 // max timestamp; 0 takes that of the records
	codec    kgo.CompressionCodecType
	extra    int16 // further attribute bits
	producer int64 // with idempotent
	epoch    int16
	sequence int32
	idem     bool
	inner    func([]byte) []byte     // changes the records before compression
	header   func(*kmsg.RecordBatch) // changes the header before the CRC
	bytes    func([]byte) []byte     // changes the finished bytes
}

// clock is the timestamp that scenarios use where none matters: far from every broker's clock.
const clock = 1_600_000_000_000

// some returns n small records.
func some(n int) []record {
	out := make([]record, n)
	for i := range out {
		out[i] = record{key: fmt.Appendf(nil, "k%d", i), value: fmt.Appendf(nil, "value %d", i), delta: int64(i)}
	}
	return out
}

func plain(n int) batch { return batch{records: some(n), first: clock} }

func (b batch) encode() []byte {
	var body []byte
	var most int64
	for i, r := range b.records {
		most = max(most, r.delta)
		one := kmsg.Record{TimestampDelta64: r.delta, OffsetDelta: int32(i), Key: r.key, Value: r.value, Headers: r.headers}
		rest := one.AppendTo(nil)[1:] // Length is 0 here: one byte
		body = append(binary.AppendVarint(body, int64(len(rest))), rest...)
	}
	if b.inner != nil {
		body = b.inner(body)
	}
	body = compress(b.codec, body)
	raw := kmsg.RecordBatch{
		FirstOffset: b.base, PartitionLeaderEpoch: -1, Magic: 2, Attributes: int16(b.codec) | b.extra, LastOffsetDelta: int32(len(b.records) - 1),
		FirstTimestamp: b.first, MaxTimestamp: b.first + most, ProducerID: -1, ProducerEpoch: -1, FirstSequence: -1,
		NumRecords: int32(len(b.records)), Records: body, Length: int32(49 + len(body)),
	}
	if b.maximum != 0 {
		raw.MaxTimestamp = b.maximum
	}
	if b.idem {
		raw.ProducerID, raw.ProducerEpoch, raw.FirstSequence = b.producer, b.epoch, b.sequence
	}
	if b.header != nil {
		b.header(&raw)
	}
	out := raw.AppendTo(nil)
	binary.BigEndian.PutUint32(out[17:], crc32.Checksum(out[21:], castagnoli))
	if b.bytes != nil {
		out = b.bytes(out)
	}
	return out
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func compress(codec kgo.CompressionCodecType, body []byte) []byte {
	var c kgo.CompressionCodec
	switch codec {
	case 0:
		return body
	case 1:
		c = kgo.GzipCompression()
	case 2:
		c = kgo.SnappyCompression()
	case 3:
		c = kgo.Lz4Compression()
	case 4:
		c = kgo.ZstdCompression()
	default:
		return body
	}
	with, err := kgo.DefaultCompressor(c)
	if err != nil {
		panic(err)
	}
	out, _ := with.Compress(new(bytes.Buffer), body)
	return append([]byte(nil), out...)
}

// batches writes the lines of a Fetch answer's data. A batch that ends too early is a line too.
func (n *normaliser) batches(path string, raw []byte) {
	count := 0
	defer func() { n.add(path+".length", fmt.Sprint(count)) }()
	for i := 0; len(raw) > 0; i++ {
		count++
		at := fmt.Sprintf("%s[%d]", path, i)
		if len(raw) < 61 || len(raw) < 12+int(binary.BigEndian.Uint32(raw[8:])) {
			n.add(at, "cut")
			return
		}
		length := 12 + int(binary.BigEndian.Uint32(raw[8:]))
		n.batch(at, raw[:length])
		raw = raw[length:]
	}
}

func (n *normaliser) batch(at string, raw []byte) {
	var b kmsg.RecordBatch
	if err := b.ReadFrom(raw); err != nil {
		n.add(at, "undecodable: "+err.Error())
		return
	}
	crc := map[bool]string{true: "right", false: "wrong"}[crc32.Checksum(raw[21:], castagnoli) == binary.BigEndian.Uint32(raw[17:])]
	n.add(at+".crc", crc)
	n.add(at+".FirstOffset", fmt.Sprint(b.FirstOffset))
	n.add(at+".PartitionLeaderEpoch", n.number("PartitionLeaderEpoch", reflect.ValueOf(b.PartitionLeaderEpoch)))
	n.add(at+".Magic", fmt.Sprint(b.Magic))
	n.add(at+".Attributes", fmt.Sprintf("0x%x", b.Attributes))
	n.add(at+".LastOffsetDelta", fmt.Sprint(b.LastOffsetDelta))
	n.add(at+".FirstTimestamp", n.time(b.FirstTimestamp))
	n.add(at+".MaxTimestamp", n.time(b.MaxTimestamp))
	producer := "-1"
	if b.ProducerID != -1 {
		producer = n.symbols.of("producer", fmt.Sprint(b.ProducerID))
	}
	n.add(at+".ProducerID", producer)
	n.add(at+".ProducerEpoch", fmt.Sprint(b.ProducerEpoch))
	n.add(at+".FirstSequence", fmt.Sprint(b.FirstSequence))
	n.add(at+".NumRecords", fmt.Sprint(b.NumRecords))
	body, err := kgo.DefaultDecompressor().Decompress(b.Records, kgo.CompressionCodecType(b.Attributes&7))
	if err != nil {
		n.add(at+".Records", "undecompressable")
		return
	}
	for i := range b.NumRecords {
		length, size := binary.Varint(body)
		if size <= 0 || length < 0 || int(length) > len(body)-size {
			n.add(at+".Records", "cut")
			return
		}
		var r kmsg.Record
		if err := r.ReadFrom(body[:size+int(length)]); err != nil {
			n.add(at+".Records", "undecodable")
			return
		}
		body = body[size+int(length):]
		value := fmt.Sprintf("%q", r.Value)
		if len(r.Value) > 200 {
			value = fmt.Sprintf("%d bytes, crc %08x", len(r.Value), crc32.ChecksumIEEE(r.Value))
		}
		text := fmt.Sprintf("offset +%d time %s key %q null %v value %s null %v", r.OffsetDelta, n.time(b.FirstTimestamp+r.TimestampDelta64), r.Key, r.Key == nil, value, r.Value == nil)
		for _, h := range r.Headers {
			text += fmt.Sprintf(" %s=%q/%v", h.Key, h.Value, h.Value == nil)
		}
		n.add(fmt.Sprintf("%s.Records[%d]", at, i), text)
	}
}

// wholeLength is the length of the whole batches at the start.
func wholeLength(raw []byte) int {
	at := 0
	for len(raw)-at >= 61 {
		length := 12 + int(binary.BigEndian.Uint32(raw[at+8:]))
		if length > len(raw)-at {
			break
		}
		at += length
	}
	return at
}
