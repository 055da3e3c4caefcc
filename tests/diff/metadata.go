package main

import (
	"github.com/twmb/franz-go/pkg/kmsg"
)

func metadataScenarios() []scenario {
	return forVersions("metadata", 3, func(s *S, v int16) {
		one := s.create("one", 3)
		ask := func(label string, edit func(*kmsg.MetadataRequest), names ...string) {
			r := kmsg.NewPtrMetadataRequest()
			r.AllowAutoTopicCreation = false
			for _, name := range names {
				r.Topics = append(r.Topics, kmsg.MetadataRequestTopic{Topic: &name})
			}
			if edit != nil {
				edit(r)
			}
			s.do(label, v, r)
		}
		ask("one", nil, one)
		missing := s.named("missing")
		if v >= 4 {
			ask("missing, no creation", nil, missing)
		}
		ask("bad names", nil, "", ".", "..", "a b", "é", string(make([]byte, 250)))
	})
}
