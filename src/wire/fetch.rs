//! Encodes Fetch responses around record slices, without joining them: the crate's encoder would copy every byte.
//!
//! Schema: `FetchResponse.json` of Kafka 4.3, versions 4–18. The result is a list of chunks for one vectored write.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};

use crate::types::{NodeId, Offset, TopicId};

const FIRST_FLEXIBLE: i16 = 12;

#[derive(Clone, Debug, Default)]
pub struct FetchReply {
    pub throttle_ms: i32,
    pub error: i16,
    pub session_id: i32,
    pub topics: Vec<TopicReply>,
    /// Where the leaders named in the partitions are (v16).
    pub endpoints: Vec<NodeEndpoint>,
}

#[derive(Clone, Debug, Default)]
pub struct TopicReply {
    /// Up to v12.
    pub name: Arc<str>,
    /// From v13.
    pub id: TopicId,
    pub partitions: Vec<PartitionReply>,
}

#[derive(Clone, Debug)]
pub struct PartitionReply {
    pub index: i32,
    pub error: i16,
    pub high_watermark: Offset,
    pub last_stable_offset: Offset,
    pub log_start: Offset,
    /// For read_committed: producer id and first offset of aborted transactions.
    pub aborted: Option<Vec<(i64, Offset)>>,
    /// Leader's node id and epoch, with a NOT_LEADER or FENCED error (v12+).
    pub current_leader: Option<(NodeId, i32)>,
    /// -1: none.
    pub preferred_read_replica: i32,
    pub records: Vec<Bytes>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeEndpoint {
    pub node_id: NodeId,
    pub host: String,
    pub port: i32,
    pub rack: Option<String>,
}

impl PartitionReply {
    /// A partition without records; bounds unknown.
    pub fn error(index: i32, error: i16) -> PartitionReply {
        PartitionReply {
            index,
            error,
            high_watermark: -1,
            last_stable_offset: -1,
            log_start: -1,
            aborted: None,
            current_leader: None,
            preferred_read_replica: -1,
            records: Vec::new(),
        }
    }

    pub fn record_bytes(&self) -> usize {
        self.records.iter().map(Bytes::len).sum()
    }
}

/// The whole frame: length prefix, response header, body.
pub fn encode(correlation_id: i32, version: i16, reply: &FetchReply) -> Vec<Bytes> {
    let mut out = Chunks { flexible: version >= FIRST_FLEXIBLE, open: BytesMut::with_capacity(256), done: Vec::new() };
    out.open.put_i32(0);
    out.open.put_i32(correlation_id);
    out.no_tags();
    out.open.put_i32(reply.throttle_ms);
    if version >= 7 {
        out.open.put_i16(reply.error);
        out.open.put_i32(reply.session_id);
    }
    out.count(reply.topics.len());
    for topic in &reply.topics {
        if version >= 13 {
            out.open.put_u128(topic.id.0);
        } else {
            out.string(&topic.name);
        }
        out.count(topic.partitions.len());
        topic.partitions.iter().for_each(|partition| out.partition(version, partition));
        out.no_tags();
    }
    out.endpoints(version, &reply.endpoints);
    out.finish()
}

struct Chunks {
    flexible: bool,
    open: BytesMut,
    done: Vec<Bytes>,
}

impl Chunks {
    fn partition(&mut self, version: i16, partition: &PartitionReply) {
        self.open.put_i32(partition.index);
        self.open.put_i16(partition.error);
        self.open.put_i64(partition.high_watermark);
        self.open.put_i64(partition.last_stable_offset);
        if version >= 5 {
            self.open.put_i64(partition.log_start);
        }
        match &partition.aborted {
            Some(aborted) => {
                self.count(aborted.len());
                for (producer_id, first_offset) in aborted {
                    self.open.put_i64(*producer_id);
                    self.open.put_i64(*first_offset);
                    self.no_tags();
                }
            }
            None if self.flexible => self.open.put_u8(0),
            None => self.open.put_i32(-1),
        }
        if version >= 11 {
            self.open.put_i32(partition.preferred_read_replica);
        }
        self.count(partition.record_bytes());
        for slice in &partition.records {
            self.splice(slice);
        }
        match partition.current_leader.filter(|_| self.flexible) {
            Some((node_id, epoch)) => {
                // One tagged field, number 1, of nine bytes.
                self.open.put_slice(&[1, 1, 9]);
                self.open.put_i32(node_id);
                self.open.put_i32(epoch);
                self.open.put_u8(0);
            }
            None => self.no_tags(),
        }
    }

    fn endpoints(&mut self, version: i16, endpoints: &[NodeEndpoint]) {
        if version < 16 || endpoints.is_empty() {
            return self.no_tags();
        }
        let mut field = Chunks { flexible: true, open: BytesMut::new(), done: Vec::new() };
        field.count(endpoints.len());
        for endpoint in endpoints {
            field.open.put_i32(endpoint.node_id);
            field.string(&endpoint.host);
            field.open.put_i32(endpoint.port);
            match &endpoint.rack {
                Some(rack) => field.string(rack),
                None => field.open.put_u8(0),
            }
            field.no_tags();
        }
        self.open.put_slice(&[1, 0]);
        self.varint(field.open.len());
        self.open.put_slice(&field.open);
    }

    fn splice(&mut self, slice: &Bytes) {
        self.done.push(self.open.split().freeze());
        self.done.push(slice.clone());
    }

    /// A length or count.
    fn count(&mut self, count: usize) {
        if self.flexible {
            self.varint(count + 1);
        } else {
            self.open.put_i32(i32::try_from(count).unwrap_or(i32::MAX));
        }
    }

    fn string(&mut self, text: &str) {
        if self.flexible {
            self.varint(text.len() + 1);
        } else {
            self.open.put_i16(i16::try_from(text.len()).unwrap_or(i16::MAX));
        }
        self.open.put_slice(text.as_bytes());
    }

    fn varint(&mut self, mut value: usize) {
        while value >= 0x80 {
            self.open.put_u8((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.open.put_u8(value as u8);
    }

    fn no_tags(&mut self) {
        if self.flexible {
            self.open.put_u8(0);
        }
    }

    fn finish(mut self) -> Vec<Bytes> {
        self.done.push(self.open.freeze());
        self.done.retain(|chunk| !chunk.is_empty());
        let size: usize = self.done.iter().map(Bytes::len).sum();
        let prefix = u32::try_from(size - 4).unwrap_or(u32::MAX).to_be_bytes();
        if let Some(first) = self.done.first_mut() {
            let mut head = BytesMut::from(&first[..]);
            head[..4].copy_from_slice(&prefix);
            *first = head.freeze();
        }
        self.done
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kafka_protocol::messages::{FetchResponse, ResponseHeader};
    use kafka_protocol::protocol::Decodable;

    fn reply() -> FetchReply {
        let partition = PartitionReply {
            index: 3,
            error: 6,
            high_watermark: 10,
            last_stable_offset: 9,
            log_start: 1,
            aborted: Some(vec![(5, 6)]),
            current_leader: Some((2, 7)),
            preferred_read_replica: -1,
            records: vec![Bytes::from(vec![1; 200]), Bytes::from_static(b"xyz")],
        };
        let plain = PartitionReply { aborted: None, current_leader: None, records: Vec::new(), ..partition.clone() };
        FetchReply {
            throttle_ms: 1,
            error: 0,
            session_id: 77,
            topics: vec![TopicReply { name: "topic".into(), id: TopicId(0xabc), partitions: vec![partition, plain] }],
            endpoints: vec![NodeEndpoint { node_id: 2, host: "host".into(), port: 9092, rack: None }],
        }
    }

    #[test]
    fn the_crate_reads_every_version() {
        for version in 4..=18 {
            let chunks = encode(99, version, &reply());
            let mut frame = Bytes::from(chunks.concat());
            assert_eq!(frame.len() - 4, u32::from_be_bytes(frame.split_to(4)[..].try_into().expect("four")) as usize);
            let header = ResponseHeader::decode(&mut frame, i16::from(version >= 12)).expect("header");
            assert_eq!(header.correlation_id, 99);
            let body = FetchResponse::decode(&mut frame, version).expect("body");
            assert!(frame.is_empty(), "version {version}");
            let topic = &body.responses[0];
            if version >= 13 {
                assert_eq!(topic.topic_id.as_u128(), 0xabc);
            } else {
                assert_eq!(topic.topic.as_str(), "topic");
            }
            let partition = &topic.partitions[0];
            assert_eq!((partition.partition_index, partition.error_code, partition.high_watermark), (3, 6, 10));
            assert_eq!(partition.last_stable_offset, 9);
            assert_eq!(partition.records.as_ref().map(Bytes::len), Some(203));
            assert_eq!(partition.aborted_transactions.as_ref().map(Vec::len), Some(1));
            assert_eq!(topic.partitions[1].aborted_transactions, None);
            assert_eq!(topic.partitions[1].records.as_ref().map(Bytes::len), Some(0));
            if version >= 12 {
                assert_eq!(partition.current_leader.leader_epoch, 7);
            }
            assert_eq!(body.node_endpoints.len(), usize::from(version >= 16));
            assert_eq!(body.session_id, if version >= 7 { 77 } else { 0 });
        }
    }
}
