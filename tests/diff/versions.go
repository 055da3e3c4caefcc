package main

import (
	"encoding/binary"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// versionScenarios: ApiVersions, and frames that are no requests.
func versionScenarios() []scenario {
	out := forVersions("api-versions", 18, apiVersions)
	out = append(out, scenario{"frames/unknown-versions", unknownVersions})
	return append(out, scenario{"frames/broken", brokenFrames}, scenario{"frames/pipelined", pipelined})
}

func apiVersions(s *S, v int16) {
	r := kmsg.NewPtrApiVersionsRequest()
	r.ClientSoftwareName, r.ClientSoftwareVersion = "diff", "1.0"
	s.do("versions", v, r)
	if v < 3 {
		return
	}
	for _, pair := range [][2]string{{"", "1"}, {"a", ""}, {"a b", "1"}, {"a", "1_0"}, {"-a", "1"}, {"a-", "1"}, {"a.b-c", "1.0-x"}, {"é", "1"}, {"a", "1."}} {
		r.ClientSoftwareName, r.ClientSoftwareVersion = pair[0], pair[1]
		s.start(options{edit: withoutKeys}, fmt.Sprintf("named %q %q", pair[0], pair[1]), v, r).get()
	}
}

// withoutKeys leaves the number of rows out where only the error matters.
func withoutKeys(r kmsg.Response) {
	answer := r.(*kmsg.ApiVersionsResponse)
	if len(answer.ApiKeys) > 5 {
		answer.ApiKeys = answer.ApiKeys[:5]
	}
	answer.SupportedFeatures, answer.FinalizedFeatures = nil, nil
}

// pipelined: answers come in the order of the requests, however long the first takes. The broker under test takes a Produce while what is
// before it waits. The last one it can't take early: another request stands between it and the fetch of the same partition.
func pipelined(s *S) {
	t := s.log("t", 1)
	s.fill(t, 0, plain(1))
	slow := fetchOf(t, 0, 1)
	slow.MaxWaitMillis = 700
	var waiting []*pending
	for i, each := range []struct {
		version int16
		request kmsg.Request
	}{
		{12, slow}, {9, produceOf(-1, t, 0, plain(2).encode())}, {12, topicsOf(t)}, {7, listOf(t, 0, -1)}, {3, &kmsg.ApiVersionsRequest{ClientSoftwareName: "a", ClientSoftwareVersion: "1"}},
		{12, fetchOf(t, 0, 1)}, {5, kmsg.NewPtrFindCoordinatorRequest()}, {9, produceOf(1, t, 0, plain(1).encode())},
	} {
		waiting = append(waiting, s.start(options{edit: func(r kmsg.Response) {
			if v, ok := r.(*kmsg.ApiVersionsResponse); ok {
				withoutKeys(v)
			}
		}}, fmt.Sprint("request ", i), each.version, each.request))
	}
	waiting[0].waits("behind it", 300*time.Millisecond)
	for _, p := range waiting {
		p.get()
	}
}

// header is a request header of version 1, or 2 with no tags.
func header(key, version int16, flexible bool) []byte {
	out := binary.BigEndian.AppendUint16(nil, uint16(key))
	out = binary.BigEndian.AppendUint16(out, uint16(version))
	out = binary.BigEndian.AppendUint32(out, rawID)
	out = append(binary.BigEndian.AppendUint16(out, 4), "diff"...)
	if flexible {
		out = append(out, 0)
	}
	return out
}

func frame(body []byte) []byte {
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(body))), body...)
}

func unknownVersions(s *S) {
	for _, v := range []int16{5, 6, 99, 32767, -1} {
		s.raw(fmt.Sprint("ApiVersions ", v), 18, 0, frame(header(18, v, v >= 3)))
		s.drop("raw")
	}
	for _, each := range [][2]int16{{0, 2}, {0, 14}, {1, 3}, {1, 19}, {3, 14}, {3, -1}, {8, 1}, {19, 1}, {19, 8}, {999, 0}, {-1, 0}, {4, 0}, {7, 0}} {
		s.raw(fmt.Sprint("key and version ", each), 3, 0, frame(header(each[0], each[1], false)))
		s.drop("raw")
	}
}

func brokenFrames(s *S) {
	good := kmsg.NewRequestFormatter(kmsg.FormatterClientID("diff")).AppendRequest(nil, &kmsg.MetadataRequest{Version: 12, Topics: []kmsg.MetadataRequestTopic{}}, rawID)
	for _, each := range []struct {
		label string
		bytes []byte
	}{
		{"whole", good},
		{"bytes behind", frame(append(append([]byte{}, good[4:]...), 1, 2, 3))},
		{"cut", frame(good[4 : len(good)-2])},
		{"only a header", frame(header(3, 12, true))},
		{"half a header", frame(header(3, 12, true)[:6])},
		{"empty", frame(nil)},
		{"negative length", []byte{0xff, 0xff, 0xff, 0xff}},
		{"much too long", []byte{0x7f, 0xff, 0xff, 0xff, 0, 3, 0, 12}},
		{"a hello of TLS", append([]byte{0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3}, make([]byte, 200)...)},
		{"HTTP", []byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n")},
		{"long array", frame(append(header(3, 12, true), 0xff, 0xff, 0xff, 0xff, 0x0f))},
		{"negative array", frame(append(header(3, 4, false), 0xff, 0xff, 0xff, 0xf0))},
		{"client id too long", frame([]byte{0, 3, 0, 4, 0, 0, 0, 7, 0x7f, 0xff, 'x'})},
		{"negative client id", frame(append([]byte{0, 3, 0, 4, 0, 0, 0, 7, 0xff, 0xfe}, 0, 0, 0, 0, 0))},
		{"client id that is not UTF-8", frame(append([]byte{0, 3, 0, 4, 0, 0, 0, 7, 0, 2, 0xc3, 0x28}, 0, 0, 0, 0, 0))},
		{"topic that is not UTF-8", frame(append(header(3, 4, false), 0, 0, 0, 1, 0, 2, 0xc3, 0x28, 0))},
		{"array of negative length", frame(append(header(3, 4, false), 0xff, 0xff, 0xff, 0xfe, 0))},
		{"null client id", frame(append([]byte{0, 3, 0, 4, 0, 0, 0, 7, 0xff, 0xff}, 0, 0, 0, 0, 0))},
		{"unknown tag in the header", frame(append(append(header(3, 12, false), 1, 99, 2, 'a', 'b'), 1, 0, 0, 0))},
		{"unknown tag in the body", frame(append(header(3, 12, true), 1, 0, 0, 1, 99, 2, 'a', 'b'))},
		{"tag twice", frame(append(header(3, 12, true), 1, 0, 0, 2, 99, 1, 'a', 99, 1, 'b'))},
		{"tags out of order", frame(append(header(3, 12, true), 1, 0, 0, 2, 99, 1, 'a', 98, 1, 'b'))},
		{"boolean of two", frame(append(header(3, 12, true), 1, 2, 0, 0))},
	} {
		version := int16(12)
		if len(each.bytes) > 7 && each.bytes[7] == 4 {
			version = 4
		}
		s.raw(each.label, 3, version, each.bytes)
		s.drop("raw")
	}
}
