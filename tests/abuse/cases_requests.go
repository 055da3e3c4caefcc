package main

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Requests that are well-formed and ask for too much, and batches that are not what they say. Bombs of every codec and every broken
// field stand in tests/broker, tests/fuzz and beside src/wire; here they come in numbers.
var requestCases = []abuse{
	{"batches/bombs", 320, bombs},
	{"batches/headers-and-times", 48, headersAndTimes},
	{"names/a-million", 256, million},
	{"names/as-many-as-allowed", 400, asManyAsAllowed},
	{"names/a-thousand-new-topics", 160, thousandTopics},
	{"answers/same-resource-again", 480, sameResourceAgain},
	{"answers/same-group-again", 320, sameGroupAgain},
	{"groups/long-ids", 64, longIDs},
	{"groups/huge-members", 320, hugeMembers},
}

const bombBytes = 512 << 20

// bombs sends batches of a few hundred KiB or less that decompress to half a GiB.
func bombs(t *target) (string, error) {
	zeros := make([]byte, 1<<20)
	var gz, zst bytes.Buffer
	gzipped, _ := gzip.NewWriterLevel(&gz, gzip.BestCompression)
	zstded, _ := zstd.NewWriter(&zst)
	// One record whose value is as long as it says.
	value := int64(bombBytes - 64)
	inner := binary.AppendVarint(binary.AppendVarint([]byte{0, 0, 0}, -1), value)
	start := append(binary.AppendVarint(nil, int64(len(inner))+value+1), inner...)
	for _, writer := range []interface{ Write([]byte) (int, error) }{gzipped, zstded} {
		if _, err := writer.Write(start); err != nil {
			return "", err
		}
		for range bombBytes >> 20 {
			if _, err := writer.Write(zeros); err != nil {
				return "", err
			}
		}
	}
	if err := errors.Join(gzipped.Close(), zstded.Close()); err != nil {
		return "", err
	}
	t.neighbour.take() // the work of making them is no abuse
	c, err := t.dial()
	if err != nil {
		return "", err
	}
	defer c.Close()
	now, count := time.Now().UnixMilli(), 0
	codes := map[int16]int{}
	for end := time.Now().Add(t.length); time.Now().Before(end); {
		for codec, section := range map[int16][]byte{1: gz.Bytes(), 4: zst.Bytes()} {
			code, err := produceCode(c, "victim", batch(codec, now, now, 1, section))
			if err != nil {
				return "", err
			}
			if code == 0 {
				return "", fmt.Errorf("a bomb of codec %d was stored", codec)
			}
			codes[code]++
			count++
		}
	}
	return fmt.Sprintf("%d batches of %d KiB (gzip) or %d KiB (zstd) that hold %d MiB, one after the other: errors %v", count, gz.Len()>>10, zst.Len()>>10, bombBytes>>20, codes), nil
}

// headersAndTimes sends batches with impossible counts of headers and with times that overflow.
func headersAndTimes(t *target) (string, error) {
	now := time.Now().UnixMilli()
	varint := func(n int64) []byte { return binary.AppendVarint(nil, n) }
	empty := varint(0)
	const wraps = "a time that overflows"       // Kafka stores it with the time that comes out, and so may we
	many := bytes.Repeat([]byte{0, 1}, 250_000) // headers with empty keys and null values
	inputs := map[string][]byte{
		"two billion headers":         batch(0, now, now, 1, record(0, 0, nil, varint(math.MaxInt32))),
		"minus one header":            batch(0, now, now, 1, record(0, 0, nil, varint(-1))),
		"more headers than bytes":     batch(0, now, now, 1, record(0, 0, nil, append(varint(300_000), many...))),
		wraps:                         batch(0, math.MaxInt64-1, math.MaxInt64, 1, record(math.MaxInt64, 0, nil, empty)),
		"a delta that underflows":     batch(0, -1, -1, 1, record(math.MinInt64, 0, nil, empty)),
		"a time far in the future":    batch(0, math.MaxInt64, math.MaxInt64, 1, record(0, 0, nil, empty)),
		"an offset delta beyond int":  batch(0, now, now, 1, record(0, math.MaxInt64, nil, empty)),
		"a value of two billion":      batch(0, now, now, 1, append(varint(16), 0, 0, 0, 1, 0xfe, 0xff, 0xff, 0xff, 0x0f)),
		"two billion records counted": batch(0, now, now, math.MaxInt32, record(0, 0, nil, empty)),
	}
	c, err := t.dial()
	if err != nil {
		return "", err
	}
	defer c.Close()
	count := 0
	for end := time.Now().Add(t.length / 2); time.Now().Before(end); {
		for name, input := range inputs {
			code, err := produceCode(c, "victim", input)
			if err != nil || (code == 0 && name != wraps) {
				return "", fmt.Errorf("%s: code %d, %v", name, code, err)
			}
			count++
		}
	}
	// Many headers are no abuse by themselves.
	code, err := produceCode(c, "victim", batch(0, now, now, 1, record(0, 0, nil, append(varint(250_000), many...))))
	if err != nil || code != 0 {
		return "", fmt.Errorf("250,000 headers: code %d, %v", code, err)
	}
	list := kmsg.NewPtrListOffsetsRequest()
	list.Version = 7
	for _, at := range []int64{0, math.MinInt64, math.MaxInt64, -3} {
		list.Topics = []kmsg.ListOffsetsRequestTopic{{Topic: "victim", Partitions: []kmsg.ListOffsetsRequestTopicPartition{{Timestamp: at}}}}
		if _, err := ask[*kmsg.ListOffsetsResponse](c, list, 10*time.Second); err != nil {
			return "", fmt.Errorf("ListOffsets of %d: %w", at, err)
		}
	}
	return fmt.Sprintf("%d batches, refused with an error of their partition (a time that wraps is stored, as by Kafka); look-ups by time go on", count), nil
}

// refusedOrAnswered sends one frame on a connection of its own; tells the length of the answer, 0 if the connection was closed.
func (t *target) refusedOrAnswered(frame []byte) (int64, error) {
	c, err := t.dial()
	if err != nil {
		return 0, err
	}
	defer c.Close()
	if _, err := c.write(frame, time.Minute); err != nil {
		if isClosed(err) {
			return 0, nil
		}
		return 0, err
	}
	length, err := c.answer(time.Minute)
	if err != nil && isClosed(err) {
		return 0, nil
	}
	return length, err
}

func names(n int) []string {
	all := make([]string, n)
	for i := range all {
		all[i] = fmt.Sprintf("%x", i)
	}
	return all
}

// naming are requests with n names or partitions each, in a version that is short.
func naming(n int) map[string]kmsg.Request {
	all := names(n)
	metadata := kmsg.NewPtrMetadataRequest()
	metadata.Version, metadata.AllowAutoTopicCreation = 9, false
	create := kmsg.NewPtrCreateTopicsRequest()
	create.Version, create.ValidateOnly, create.TimeoutMillis = 7, true, 10_000
	configs := kmsg.NewPtrDescribeConfigsRequest()
	configs.Version = 4
	remove := kmsg.NewPtrDeleteTopicsRequest()
	remove.Version, remove.TimeoutMillis = 5, 10_000
	list := kmsg.NewPtrListOffsetsRequest()
	list.Version = 6
	groups := kmsg.NewPtrDescribeGroupsRequest()
	groups.Version = 5
	for _, name := range all {
		metadata.Topics = append(metadata.Topics, kmsg.MetadataRequestTopic{Topic: &name})
		create.Topics = append(create.Topics, kmsg.CreateTopicsRequestTopic{Topic: name, NumPartitions: 1, ReplicationFactor: 1})
		configs.Resources = append(configs.Resources, kmsg.DescribeConfigsRequestResource{ResourceType: kmsg.ConfigResourceTypeTopic, ResourceName: name})
		remove.TopicNames = append(remove.TopicNames, name)
		list.Topics = append(list.Topics, kmsg.ListOffsetsRequestTopic{Topic: name, Partitions: []kmsg.ListOffsetsRequestTopicPartition{{Timestamp: -1}}})
		groups.Groups = append(groups.Groups, name)
	}
	find := kmsg.NewPtrFindCoordinatorRequest()
	find.Version, find.CoordinatorKeys = 4, all
	forget := kmsg.NewPtrDeleteGroupsRequest()
	forget.Version, forget.Groups = 2, all
	// One and the same partition, as often as 4 MiB allow.
	commit := kmsg.NewPtrOffsetCommitRequest()
	commit.Version, commit.Group, commit.Generation = 8, "abuse", -1
	stored := kmsg.NewOffsetCommitRequestTopic()
	stored.Topic, stored.Partitions = "victim", make([]kmsg.OffsetCommitRequestTopicPartition, n*4/5)
	commit.Topics = []kmsg.OffsetCommitRequestTopic{stored}
	offsets := kmsg.NewPtrOffsetFetchRequest()
	offsets.Version, offsets.Group = 7, "abuse"
	topic := kmsg.NewOffsetFetchRequestTopic()
	topic.Topic = "victim"
	for i := range n {
		topic.Partitions = append(topic.Partitions, int32(i))
	}
	offsets.Topics = []kmsg.OffsetFetchRequestTopic{topic}
	return map[string]kmsg.Request{
		"Metadata": metadata, "CreateTopics": create, "DescribeConfigs": configs, "DeleteTopics": remove,
		"ListOffsets": list, "DescribeGroups": groups, "OffsetFetch": offsets, "FindCoordinator": find,
		"DeleteGroups": forget, "OffsetCommit": commit,
	}
}

// writtenDown are the requests as they are sent; to write them down is no abuse.
func (t *target) writtenDown(requests map[string]kmsg.Request) map[string][]byte {
	frames := map[string][]byte{}
	for name, request := range requests {
		frames[name] = framed(request, 1)
	}
	t.neighbour.take()
	return frames
}

// inTurn sends each request once.
func (t *target) inTurn(frames map[string][]byte) (answered, refused []string, err error) {
	for name, frame := range frames {
		began := time.Now()
		length, err := t.refusedOrAnswered(frame)
		if err != nil {
			return nil, nil, fmt.Errorf("%s of %d KiB: %w", name, len(frame)>>10, err)
		}
		if length == 0 {
			refused = append(refused, name)
		} else {
			answered = append(answered, fmt.Sprintf("%s %.1f MiB in %.1f s", name, float64(length)/(1<<20), time.Since(began).Seconds()))
		}
	}
	return answered, refused, nil
}

// million asks for a million names: what does not fit into the frame that an API may have, or costs more elements than a request may
// have, closes the connection.
func million(t *target) (string, error) {
	answered, refused, err := t.inTurn(t.writtenDown(naming(1_000_000)))
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("refused and closed: %s; answered: %s", strings.Join(refused, ", "), strings.Join(answered, ", ")), nil
}

// asManyAsAllowed asks for as many as the limits let pass, twice side by side, again and again.
func asManyAsAllowed(t *target) (string, error) {
	frames := t.writtenDown(naming(250_000))
	type result struct {
		answered, refused []string
		err               error
	}
	results, end := make(chan result, 2), time.Now().Add(t.length)
	for range 2 {
		go func() {
			answered, refused, err := t.inTurn(frames)
			for err == nil && time.Now().Before(end) {
				_, _, err = t.inTurn(frames)
			}
			results <- result{answered, refused, err}
		}()
	}
	first, second := <-results, <-results
	if err := errors.Join(first.err, second.err); err != nil {
		return "", err
	}
	return fmt.Sprintf("250,000 each, twice side by side: %s; refused: %s", strings.Join(first.answered, ", "), strings.Join(first.refused, ", ")), nil
}

// thousandTopics lets Metadata create topics and deletes them again; what is above the limit of one request is not created. The last ones stay.
func thousandTopics(t *target) (string, error) {
	c, err := t.dial()
	if err != nil {
		return "", err
	}
	defer c.Close()
	made, rounds := 0, 0
	// Another try finds what the one before has left.
	try := time.Now().UnixNano()
	for end := time.Now().Add(t.length); ; rounds++ {
		request := kmsg.NewPtrMetadataRequest()
		request.Version, request.AllowAutoTopicCreation = 9, true
		for i := range 20_000 {
			name := fmt.Sprintf("auto-%d-%d-%d", try, rounds, i)
			request.Topics = append(request.Topics, kmsg.MetadataRequestTopic{Topic: &name})
		}
		response, err := ask[*kmsg.MetadataResponse](c, request, time.Minute)
		if err != nil {
			return "", err
		}
		deletion := kmsg.NewPtrDeleteTopicsRequest()
		deletion.Version, deletion.TimeoutMillis = 5, 60_000
		for _, topic := range response.Topics {
			if topic.ErrorCode == 0 {
				deletion.TopicNames = append(deletion.TopicNames, *topic.Topic)
			}
		}
		if count := len(deletion.TopicNames); count == 0 || count > 1000 {
			return "", fmt.Errorf("%d topics were made", count)
		}
		made += len(deletion.TopicNames)
		if time.Now().After(end) {
			break
		}
		deleted, err := ask[*kmsg.DeleteTopicsResponse](c, deletion, time.Minute)
		if err != nil {
			return "", err
		}
		for _, topic := range deleted.Topics {
			if topic.ErrorCode != 0 {
				return "", fmt.Errorf("topic %s was not deleted: code %d", *topic.Topic, topic.ErrorCode)
			}
		}
	}
	return fmt.Sprintf("Metadata of 20,000 unknown names, %d times, made %d topics, which were deleted", rounds+1, made), nil
}

// sameResourceAgain asks for the configs of one and the same broker and topic 200,000 times in a request, with every word that there is
// to say about them.
func sameResourceAgain(t *target) (string, error) {
	requests := map[string]kmsg.Request{}
	for name, resource := range map[string]kmsg.DescribeConfigsRequestResource{
		"of a broker": {ResourceType: kmsg.ConfigResourceTypeBroker, ResourceName: "1"},
		"of a topic":  {ResourceType: kmsg.ConfigResourceTypeTopic, ResourceName: "victim"},
	} {
		request := kmsg.NewPtrDescribeConfigsRequest()
		request.Version, request.IncludeSynonyms, request.IncludeDocumentation = 4, true, true
		for range 200_000 {
			request.Resources = append(request.Resources, resource)
		}
		requests[name] = request
	}
	answered, refused, err := t.inTurn(t.writtenDown(requests))
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("DescribeConfigs of one resource 200,000 times: %s; refused: %s", strings.Join(answered, ", "), strings.Join(refused, ", ")), nil
}

// sameGroupAgain makes a group with a member of 1 MiB and asks for it 200,000 times in one request.
func sameGroupAgain(t *target) (string, error) {
	c, err := t.dial()
	if err != nil {
		return "", err
	}
	defer c.Close()
	if err := joinStable(c, "loud", 1<<20-64); err != nil {
		return "", err
	}
	describe := kmsg.NewPtrDescribeGroupsRequest()
	describe.Version = 5
	fetch := kmsg.NewPtrOffsetFetchRequest()
	fetch.Version = 8
	for range 200_000 {
		describe.Groups = append(describe.Groups, "loud")
		fetch.Groups = append(fetch.Groups, kmsg.OffsetFetchRequestGroup{Group: "loud"})
	}
	answered, refused, err := t.inTurn(t.writtenDown(map[string]kmsg.Request{"DescribeGroups": describe, "OffsetFetch": fetch}))
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("a group with 1 MiB of metadata, 200,000 times in a request: %s; refused: %s", strings.Join(answered, ", "), strings.Join(refused, ", ")), nil
}

func join(group string, metadata int) *kmsg.JoinGroupRequest {
	request := kmsg.NewPtrJoinGroupRequest()
	request.Version, request.Group, request.ProtocolType = 2, group, "consumer"
	request.SessionTimeoutMillis, request.RebalanceTimeoutMillis = 10_000, 10_000
	request.Protocols = []kmsg.JoinGroupRequestProtocol{{Name: "range", Metadata: make([]byte, metadata)}}
	return request
}

// joinStable makes a group of one member that is stable.
func joinStable(c *conn, group string, metadata int) error {
	joined, err := ask[*kmsg.JoinGroupResponse](c, join(group, metadata), 10*time.Second)
	if err != nil || joined.ErrorCode != 0 {
		return fmt.Errorf("joining %s: %+v, %w", group, joined, err)
	}
	sync := kmsg.NewPtrSyncGroupRequest()
	sync.Version, sync.Group, sync.Generation, sync.MemberID = 3, group, joined.Generation, joined.MemberID
	sync.GroupAssignment = []kmsg.SyncGroupRequestGroupAssignment{{MemberID: joined.MemberID, MemberAssignment: []byte("all")}}
	synced, err := ask[*kmsg.SyncGroupResponse](c, sync, 10*time.Second)
	if err != nil || synced.ErrorCode != 0 {
		return fmt.Errorf("syncing %s: %+v, %w", group, synced, err)
	}
	return nil
}

// longIDs uses ids as long as the protocol can say.
func longIDs(t *target) (string, error) {
	c, err := t.dial()
	if err != nil {
		return "", err
	}
	defer c.Close()
	const invalidGroupID = 24
	long := strings.Repeat("g", math.MaxInt16)
	count := 0
	for end := time.Now().Add(t.length / 2); time.Now().Before(end); count++ {
		joined, err := ask[*kmsg.JoinGroupResponse](c, join(long, 10), 10*time.Second)
		if err != nil || joined.ErrorCode != invalidGroupID {
			return "", fmt.Errorf("JoinGroup: %+v, %w", joined, err)
		}
		find := kmsg.NewPtrFindCoordinatorRequest()
		find.Version, find.CoordinatorKey = 2, long
		if _, err := ask[*kmsg.FindCoordinatorResponse](c, find, 10*time.Second); err != nil {
			return "", fmt.Errorf("FindCoordinator: %w", err)
		}
		commit := kmsg.NewPtrOffsetCommitRequest()
		commit.Version, commit.Group, commit.Generation = 7, long, -1
		commit.Topics = []kmsg.OffsetCommitRequestTopic{{Topic: "victim", Partitions: []kmsg.OffsetCommitRequestTopicPartition{{}}}}
		committed, err := ask[*kmsg.OffsetCommitResponse](c, commit, 10*time.Second)
		if err != nil || committed.Topics[0].Partitions[0].ErrorCode != invalidGroupID {
			return "", fmt.Errorf("OffsetCommit: %+v, %w", committed, err)
		}
	}
	return fmt.Sprintf("%d times JoinGroup, FindCoordinator and OffsetCommit with a group id of 32,767 bytes: INVALID_GROUP_ID", count), nil
}

// hugeMembers joins groups with as much metadata as a member may have, until the broker takes no more.
func hugeMembers(t *target) (string, error) {
	accepted, refused := 0, map[int16]int{}
	conns, err := t.dialMany(400)
	if err != nil {
		return "", err
	}
	defer closeAll(conns)
	for i, c := range conns {
		joined, err := ask[*kmsg.JoinGroupResponse](c, join(fmt.Sprintf("huge-%d", i), 1<<20-64), 20*time.Second)
		if err != nil {
			return "", fmt.Errorf("member %d: %w", i, err)
		}
		if joined.ErrorCode != 0 {
			refused[joined.ErrorCode]++
		} else {
			accepted++
		}
	}
	return fmt.Sprintf("400 groups of one member with 1 MiB: %d accepted, errors %v", accepted, refused), nil
}
