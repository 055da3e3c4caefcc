package main

import (
	"bytes"
	"slices"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// tame gives what harmless asks for, where chance would seldom give it.
func (f *filler) tame(request kmsg.Request) {
	switch r := request.(type) {
	case *kmsg.ProduceRequest:
		r.TransactionID, r.Acks = nil, pick[int16](f.generator, -1, -1, 1, 2, -7)
		if r.Version >= 13 && len(r.Topics) == 2 && r.Topics[0].TopicID == r.Topics[1].TopicID {
			r.Topics = r.Topics[:1]
		}
	case *kmsg.FetchRequest:
		r.ReplicaID, r.ReplicaState, r.ClusterID, r.ForgottenTopics = -1, kmsg.NewFetchRequestReplicaState(), nil, nil
		r.MaxWaitMillis, r.SessionID, r.SessionEpoch, r.IsolationLevel = 0, 0, -1, int8(f.IntN(2))
		r.MaxBytes = pick[int32](f.generator, 0, 1, 1000, 1<<20)
		for i := range r.Topics {
			r.Topics[i].TopicID = pick(f.generator, f.ids[i], f.ids[i], [16]byte{0xd1, byte(i)})
		}
		for i := range r.Topics {
			for j := range r.Topics[i].Partitions {
				p := &r.Topics[i].Partitions[j]
				whole := kmsg.NewFetchRequestTopicPartition() // what only followers set
				p.ReplicaDirectoryID, p.HighWatermark = whole.ReplicaDirectoryID, whole.HighWatermark
				p.LastFetchedEpoch, p.PartitionMaxBytes = -1, pick[int32](f.generator, 0, 1, 1000, 1<<20)
			}
		}
	case *kmsg.ListOffsetsRequest:
		r.ReplicaID, r.IsolationLevel = -1, int8(f.IntN(2))
	case *kmsg.MetadataRequest:
		r.AllowAutoTopicCreation = false
		byID := r.Version >= 12 && f.IntN(2) == 0
		for i := range r.Topics {
			t := &r.Topics[i]
			if byID {
				t.Topic, t.TopicID = nil, pick(f.generator, f.ids[0], f.ids[1], [16]byte{0xd1, 0xff})
			} else {
				t.Topic, t.TopicID = pointer(pick(f.generator, f.topics[0], f.topics[1], "a b", "", f.named("x"))), [16]byte{}
			}
		}
		if len(r.Topics) == 2 && r.Topics[0].TopicID == r.Topics[1].TopicID && byID {
			r.Topics = r.Topics[:1]
		}
	case *kmsg.FindCoordinatorRequest:
		r.CoordinatorType = pick[int8](f.generator, 0, 0, 3, -1, 99)
	case *kmsg.JoinGroupRequest:
		f.fresh++
		r.Group = pick(f.generator, "", f.named("fresh")+string(rune('a'+f.fresh%26))+fresh(f.fresh))
		r.SessionTimeoutMillis = pick[int32](f.generator, 5999, 6000, 7000)
		r.RebalanceTimeoutMillis = pick[int32](f.generator, 0, 100, 1000)
		for i := range r.Protocols {
			if r.ProtocolType == "consumer" {
				r.Protocols[i].Metadata = subscription("t")
			}
		}
	case *kmsg.CreateTopicsRequest:
		r.ValidateOnly = true
		for i := range r.Topics {
			t := &r.Topics[i]
			t.ReplicationFactor = pick[int16](f.generator, -1, 1, 1, 0, -2, 9)
			t.NumPartitions = pick[int32](f.generator, -1, 1, 3, 0, -2)
			if f.IntN(3) > 0 {
				t.ReplicaAssignment = nil
			}
			for j := range t.ReplicaAssignment {
				t.ReplicaAssignment[j].Replicas = pick(f.generator, []int32{f.s.broker.node}, []int32{77}, []int32{}, []int32{f.s.broker.node, f.s.broker.node})
			}
		}
	case *kmsg.DeleteTopicsRequest:
		names := []string{f.named("x"), f.named("y"), "", "a b", "."}
		for i := range r.TopicNames {
			r.TopicNames[i] = names[i]
		}
		for i := range r.Topics {
			r.Topics[i].Topic, r.Topics[i].TopicID = &names[i+f.IntN(3)], [16]byte{}
			if f.IntN(2) == 0 {
				r.Topics[i].Topic, r.Topics[i].TopicID = nil, [16]byte{0xd1, byte(i)}
			}
		}
	case *kmsg.InitProducerIDRequest:
		r.TransactionalID = nil
	case *kmsg.CreatePartitionsRequest:
		r.ValidateOnly = true
	case *kmsg.AlterConfigsRequest:
		r.ValidateOnly = true
		for i := range r.Resources {
			r.Resources[i].ResourceType = pick[kmsg.ConfigResourceType](f.generator, 2, 2, 32, 1, 64)
		}
	case *kmsg.IncrementalAlterConfigsRequest:
		r.ValidateOnly = true
		for i := range r.Resources {
			r.Resources[i].ResourceType = pick[kmsg.ConfigResourceType](f.generator, 2, 2, 32, 1, 64)
			for j := range r.Resources[i].Configs {
				r.Resources[i].Configs[j].Op = kmsg.IncrementalAlterConfigOp(f.IntN(4))
			}
		}
	case *kmsg.ElectLeadersRequest:
		r.ElectionType = pick[int8](f.generator, 0, 1, 2)
	case *kmsg.AlterPartitionAssignmentsRequest:
		for i := range r.Topics {
			for j := range r.Topics[i].Partitions {
				r.Topics[i].Partitions[j].Replicas = pick(f.generator, nil, []int32{f.s.broker.node}, []int32{77}, []int32{}, []int32{f.s.broker.node, f.s.broker.node})
			}
		}
	case *kmsg.UnregisterBrokerRequest:
		r.BrokerID = pick[int32](f.generator, 99, -1, 1<<30)
	}
}

func fresh(n int) string { return string(rune('a'+n/26%26)) + string(rune('a'+n/676%26)) }

// harmless says that a request changes nothing that others see, does not wait, does not ask for what belongs to others, and is not
// one of the few that differences.go has.
func (f *filler) harmless(request kmsg.Request) bool {
	switch r := request.(type) {
	case *kmsg.ProduceRequest:
		return r.TransactionID == nil && r.Acks != 0 && each(r.Topics, func(t kmsg.ProduceRequestTopic) bool {
			return len(t.Partitions) > 0 && each(t.Partitions, func(p kmsg.ProduceRequestTopicPartition) bool {
				return p.Records != nil && slices.ContainsFunc(knownRecords, func(known []byte) bool { return bytes.Equal(known, p.Records) })
			})
		})
	case *kmsg.FetchRequest:
		return r.ReplicaID == -1 && r.ReplicaState.ID == -1 && r.ReplicaState.Epoch == -1 && r.ClusterID == nil && r.MaxWaitMillis <= 50 &&
			(r.Version < 13 || each(r.Topics, func(t kmsg.FetchRequestTopic) bool { return t.TopicID != [16]byte{} })) && // Kafka stumbles over that
			r.MaxBytes >= 0 && (r.IsolationLevel == 0 || r.IsolationLevel == 1) && each(r.Topics, func(t kmsg.FetchRequestTopic) bool {
			return each(t.Partitions, func(p kmsg.FetchRequestTopicPartition) bool {
				return p.PartitionMaxBytes >= 0 && p.LastFetchedEpoch == -1 && p.HighWatermark == kmsg.NewFetchRequestTopicPartition().HighWatermark
			})
		})
	case *kmsg.ListOffsetsRequest:
		return r.ReplicaID == -1 && (r.IsolationLevel == 0 || r.IsolationLevel == 1)
	case *kmsg.MetadataRequest:
		return len(r.Topics) > 0 && !r.AllowAutoTopicCreation && each(r.Topics, func(t kmsg.MetadataRequestTopic) bool {
			known := t.Topic != nil && (slices.Contains(f.topics, *t.Topic) || slices.Contains(badNames, *t.Topic))
			return (known || r.Version >= 4) && (t.Topic == nil) == (t.TopicID != [16]byte{}) && (t.Topic == nil) == (r.Topics[0].Topic == nil)
		})
	case *kmsg.FindCoordinatorRequest:
		return r.Version == 0 || (r.CoordinatorType != 1 && r.CoordinatorType != 2)
	case *kmsg.JoinGroupRequest:
		return r.RebalanceTimeoutMillis <= 1000 && each(r.Protocols, func(p kmsg.JoinGroupRequestProtocol) bool {
			return r.ProtocolType != "consumer" || bytes.Equal(p.Metadata, subscription("t"))
		})
	case *kmsg.CreateTopicsRequest:
		return r.ValidateOnly && r.TimeoutMillis >= 1000 && each(r.Topics, func(t newTopic) bool {
			return t.ReplicationFactor != 2 && t.ReplicationFactor != 3 && t.NumPartitions <= 10
		})
	case *kmsg.DeleteTopicsRequest:
		return r.TimeoutMillis >= 1000 && each(r.TopicNames, func(n string) bool { return !slices.Contains(f.topics, n) }) &&
			each(r.Topics, func(t kmsg.DeleteTopicsRequestTopic) bool {
				return (t.Topic == nil || !slices.Contains(f.topics, *t.Topic)) && !slices.Contains(f.ids, t.TopicID)
			})
	case *kmsg.DeleteRecordsRequest:
		return r.TimeoutMillis >= 1000
	case *kmsg.InitProducerIDRequest:
		return r.TransactionalID == nil
	case *kmsg.CreatePartitionsRequest:
		return r.ValidateOnly && r.TimeoutMillis >= 1000
	case *kmsg.AlterConfigsRequest:
		return r.ValidateOnly && each(r.Resources, func(c kmsg.AlterConfigsRequestResource) bool { return c.ResourceType != 4 && c.ResourceType != 8 })
	case *kmsg.IncrementalAlterConfigsRequest:
		return r.ValidateOnly && each(r.Resources, func(c kmsg.IncrementalAlterConfigsRequestResource) bool {
			return c.ResourceType != 4 && c.ResourceType != 8 && each(c.Configs, func(o configOp) bool { return o.Op >= 0 && o.Op <= 3 })
		})
	case *kmsg.DescribeLogDirsRequest:
		return len(r.Topics) > 0
	case *kmsg.ElectLeadersRequest:
		return len(r.Topics) > 0 && r.TimeoutMillis >= 1000
	case *kmsg.AlterPartitionAssignmentsRequest:
		return r.TimeoutMillis >= 1000
	case *kmsg.ListPartitionReassignmentsRequest:
		return r.TimeoutMillis >= 1000
	case *kmsg.DescribeTopicPartitionsRequest:
		return len(r.Topics) > 0 && each(r.Topics, func(t kmsg.DescribeTopicPartitionsRequestTopic) bool { return !slices.Contains(badNames, t.Topic) })
	case *kmsg.CreateDelegationTokenRequest: // Kafka stumbles over a name without a type
		return r.OwnerPrincipalName == nil || r.OwnerPrincipalType != nil
	case *kmsg.UnregisterBrokerRequest:
		return r.BrokerID < 0 || r.BrokerID > 20
	}
	return true
}

func each[T any](list []T, good func(T) bool) bool {
	return !slices.ContainsFunc(list, func(one T) bool { return !good(one) })
}
