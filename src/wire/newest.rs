//! The newest version of four APIs, which the schemas of kafka-protocol do not reach.
//!
//! [`Newest`] stands around the crate's message, reads and writes it as the crate does, and one version more:
//! - ListOffsets 11 is 10; what is new is a timestamp with a meaning (KIP-1023).
//! - OffsetCommit 10 and OffsetFetch 10 name topics by id (KIP-848); the crate writes their answers.
//! - DescribeLogDirs 5 asks as 4, and is told of each directory whether it is cordoned; none is.
//!
//! Source: `common/message/*.json` of Apache Kafka 4.3. As for all requests, [`super::guard`] has walked the body before.

use std::collections::BTreeMap;

use anyhow::{Context, Result, anyhow};
use bytes::Bytes;
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use kafka_protocol::messages::{
    DescribeLogDirsRequest, DescribeLogDirsResponse, GroupId, ListOffsetsRequest, ListOffsetsResponse,
    OffsetCommitRequest, OffsetFetchRequest,
};
use kafka_protocol::protocol::buf::{ByteBuf, ByteBufMut};
use kafka_protocol::protocol::{Decodable, Encodable, Message, StrBytes};
use uuid::Uuid;

/// A message in all versions that are served.
#[derive(Clone, Debug, PartialEq)]
pub struct Newest<T>(pub T);

/// The version in which the crate reads and writes what looks alike in newer ones.
fn known<T: Message>(version: i16) -> i16 {
    version.min(T::VERSIONS.max)
}

impl Decodable for Newest<ListOffsetsRequest> {
    fn decode<B: ByteBuf>(buf: &mut B, version: i16) -> Result<Self> {
        ListOffsetsRequest::decode(buf, known::<ListOffsetsRequest>(version)).map(Newest)
    }
}

impl Encodable for Newest<ListOffsetsResponse> {
    fn encode<B: ByteBufMut>(&self, buf: &mut B, version: i16) -> Result<()> {
        self.0.encode(buf, known::<ListOffsetsResponse>(version))
    }

    fn compute_size(&self, version: i16) -> Result<usize> {
        self.0.compute_size(known::<ListOffsetsResponse>(version))
    }
}

impl Decodable for Newest<OffsetCommitRequest> {
    fn decode<B: ByteBuf>(buf: &mut B, version: i16) -> Result<Self> {
        let older = known::<OffsetCommitRequest>(version);
        if version == older {
            return OffsetCommitRequest::decode(buf, version).map(Newest);
        }
        let request = OffsetCommitRequest::default()
            .with_group_id(GroupId(required(text(buf)?)?))
            .with_generation_id_or_member_epoch(buf.try_get_i32()?)
            .with_member_id(required(text(buf)?)?)
            .with_group_instance_id(text(buf)?)
            .with_topics(required(array(buf, |buf| offset_commit_topic(buf, older))?)?)
            .with_unknown_tagged_fields(tags(buf)?);
        Ok(Newest(request))
    }
}

fn offset_commit_topic<B: ByteBuf>(buf: &mut B, older: i16) -> Result<OffsetCommitRequestTopic> {
    let topic = OffsetCommitRequestTopic::default()
        .with_topic_id(uuid(buf)?)
        .with_partitions(required(array(buf, |buf| OffsetCommitRequestPartition::decode(buf, older))?)?)
        .with_unknown_tagged_fields(tags(buf)?);
    Ok(topic)
}

impl Decodable for Newest<OffsetFetchRequest> {
    fn decode<B: ByteBuf>(buf: &mut B, version: i16) -> Result<Self> {
        if version == known::<OffsetFetchRequest>(version) {
            return OffsetFetchRequest::decode(buf, version).map(Newest);
        }
        let request = OffsetFetchRequest::default()
            .with_groups(required(array(buf, offset_fetch_group)?)?)
            .with_require_stable(buf.try_get_u8()? != 0)
            .with_unknown_tagged_fields(tags(buf)?);
        Ok(Newest(request))
    }
}

fn offset_fetch_group<B: ByteBuf>(buf: &mut B) -> Result<OffsetFetchRequestGroup> {
    let group = OffsetFetchRequestGroup::default()
        .with_group_id(GroupId(required(text(buf)?)?))
        .with_member_id(text(buf)?)
        .with_member_epoch(buf.try_get_i32()?)
        .with_topics(array(buf, offset_fetch_topic)?)
        .with_unknown_tagged_fields(tags(buf)?);
    Ok(group)
}

fn offset_fetch_topic<B: ByteBuf>(buf: &mut B) -> Result<OffsetFetchRequestTopics> {
    let topic = OffsetFetchRequestTopics::default()
        .with_topic_id(uuid(buf)?)
        .with_partition_indexes(required(array(buf, |buf| Ok(buf.try_get_i32()?))?)?)
        .with_unknown_tagged_fields(tags(buf)?);
    Ok(topic)
}

impl Decodable for Newest<DescribeLogDirsRequest> {
    fn decode<B: ByteBuf>(buf: &mut B, version: i16) -> Result<Self> {
        DescribeLogDirsRequest::decode(buf, known::<DescribeLogDirsRequest>(version)).map(Newest)
    }
}

impl Encodable for Newest<DescribeLogDirsResponse> {
    fn encode<B: ByteBufMut>(&self, buf: &mut B, version: i16) -> Result<()> {
        let older = known::<DescribeLogDirsResponse>(version);
        if version == older {
            return self.0.encode(buf, version);
        }
        buf.put_i32(self.0.throttle_time_ms);
        buf.put_i16(self.0.error_code);
        put_varint(buf, u32::try_from(self.0.results.len() + 1)?);
        for result in &self.0.results {
            anyhow::ensure!(result.unknown_tagged_fields.is_empty(), "a tagged field that nobody knows");
            // "Not cordoned" goes between the last field and the empty tag section: two zeros, of which the older version is one.
            result.encode(buf, older)?;
            buf.put_u8(0);
        }
        buf.put_u8(0);
        Ok(())
    }

    fn compute_size(&self, version: i16) -> Result<usize> {
        let older = known::<DescribeLogDirsResponse>(version);
        let cordoned = if version == older { 0 } else { self.0.results.len() };
        Ok(self.0.compute_size(older)? + cordoned)
    }
}

fn uuid<B: ByteBuf>(buf: &mut B) -> Result<Uuid> {
    Ok(Uuid::from_u128(buf.try_get_u128()?))
}

fn text<B: ByteBuf>(buf: &mut B) -> Result<Option<StrBytes>> {
    let Some(bytes) = length(buf)? else { return Ok(None) };
    Ok(Some(StrBytes::from_utf8(buf.try_get_bytes(bytes)?)?))
}

fn array<B: ByteBuf, T>(buf: &mut B, mut element: impl FnMut(&mut B) -> Result<T>) -> Result<Option<Vec<T>>> {
    let Some(count) = length(buf)? else { return Ok(None) };
    anyhow::ensure!(count <= buf.remaining(), "an array is longer than its request");
    let mut elements = Vec::with_capacity(count);
    for _ in 0..count {
        elements.push(element(buf)?);
    }
    Ok(Some(elements))
}

fn tags<B: ByteBuf>(buf: &mut B) -> Result<BTreeMap<i32, Bytes>> {
    let mut tags = BTreeMap::new();
    for _ in 0..varint(buf)? {
        let tag = i32::try_from(varint(buf)?)?;
        let bytes = usize::try_from(varint(buf)?)?;
        tags.insert(tag, buf.try_get_bytes(bytes)?);
    }
    Ok(tags)
}

fn required<T>(value: Option<T>) -> Result<T> {
    value.context("a field is null that may not be")
}

/// One more stands on the wire; zero is null.
fn length<B: ByteBuf>(buf: &mut B) -> Result<Option<usize>> {
    Ok(usize::try_from(varint(buf)?)?.checked_sub(1))
}

fn varint<B: ByteBuf>(buf: &mut B) -> Result<u32> {
    let mut value = 0;
    for shift in [0, 7, 14, 21, 28] {
        let byte = buf.try_get_u8()?;
        value |= u32::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok(value);
        }
    }
    Err(anyhow!("a length has more than five bytes"))
}

fn put_varint<B: ByteBufMut>(buf: &mut B, mut value: u32) {
    while value >= 0x80 {
        buf.put_u8((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    buf.put_u8(value as u8);
}

#[cfg(test)]
mod tests {
    use super::*;
    use kafka_protocol::messages::describe_log_dirs_response::{
        DescribeLogDirsPartition, DescribeLogDirsResult, DescribeLogDirsTopic,
    };
    use kafka_protocol::messages::{ApiKey, TopicName};

    /// What Apache Kafka 4.3.1's own classes write.
    const COMMIT: &str = "0667726f757000000007076d656d62657209696e7374616e6365020102030405060708090a0b0c0d0e0f1003000000030000\
        01000000000000000009056d65746100000000040000000000000005ffffffff0000000164020102";
    const FETCH: &str = "030667726f7570076d656d62657200000002020102030405060708090a0b0c0d0e0f1003000000000000012c000004616c6c00\
        ffffffff00000100";
    const DIRS: &str = "000000010002030003046f6e650206746f70696302000000060000000000000007000000000000000800000000000000000000\
        040000000000000005000000000474776f01ffffffffffffffffffffffffffffffff000000";

    fn bytes(hex: &str) -> Bytes {
        let digits: Vec<u8> =
            hex.bytes().filter_map(|digit| char::from(digit).to_digit(16)).map(|digit| digit as u8).collect();
        digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
    }

    fn id() -> Uuid {
        Uuid::from_u128(0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10)
    }

    /// Reads it to its end; each beginning of it is an error.
    fn read<T>(version: i16, whole: &Bytes) -> T
    where
        Newest<T>: Decodable,
    {
        for cut in 0..whole.len() {
            assert!(Newest::<T>::decode(&mut whole.slice(..cut), version).is_err(), "cut at {cut}");
        }
        let mut rest = whole.clone();
        let Newest(message) = Newest::decode(&mut rest, version).expect("it is a message");
        assert!(rest.is_empty());
        message
    }

    #[test]
    fn offsets_are_committed_by_id() {
        let partition = |index: i32, offset: i64| {
            OffsetCommitRequestPartition::default().with_partition_index(index).with_committed_offset(offset)
        };
        let partitions = vec![
            partition(3, 1 << 40).with_committed_leader_epoch(9).with_committed_metadata(Some("meta".into())),
            partition(4, 5).with_committed_metadata(None),
        ];
        let expected = OffsetCommitRequest::default()
            .with_group_id(GroupId("group".into()))
            .with_generation_id_or_member_epoch(7)
            .with_member_id("member".into())
            .with_group_instance_id(Some("instance".into()))
            .with_topics(vec![OffsetCommitRequestTopic::default().with_topic_id(id()).with_partitions(partitions)])
            .with_unknown_tagged_field(100, Bytes::from_static(&[1, 2]));
        assert_eq!(read::<OffsetCommitRequest>(10, &bytes(COMMIT)), expected);
    }

    #[test]
    fn offsets_are_fetched_by_id() {
        let topic = OffsetFetchRequestTopics::default().with_topic_id(id()).with_partition_indexes(vec![0, 300]);
        let group = |name: &'static str| OffsetFetchRequestGroup::default().with_group_id(GroupId(name.into()));
        let some = group("group").with_member_id(Some("member".into())).with_member_epoch(2);
        let groups = vec![some.with_topics(Some(vec![topic])), group("all").with_topics(None).with_member_id(None)];
        let expected = OffsetFetchRequest::default().with_groups(groups).with_require_stable(true);
        assert_eq!(read::<OffsetFetchRequest>(10, &bytes(FETCH)), expected);
    }

    #[test]
    fn directories_are_not_cordoned() {
        let partition =
            DescribeLogDirsPartition::default().with_partition_index(6).with_partition_size(7).with_offset_lag(8);
        let topic =
            DescribeLogDirsTopic::default().with_name(TopicName("topic".into())).with_partitions(vec![partition]);
        let dir = |name: &'static str| DescribeLogDirsResult::default().with_log_dir(name.into());
        let one = dir("one").with_error_code(3).with_topics(vec![topic]).with_total_bytes(4).with_usable_bytes(5);
        let response = DescribeLogDirsResponse::default().with_throttle_time_ms(1).with_error_code(2);
        let response = Newest(response.with_results(vec![one, dir("two")]));
        let mut written = Vec::new();
        response.encode(&mut written, 5).expect("it can be written");
        assert_eq!(written, bytes(DIRS));
        assert_eq!(response.compute_size(5).ok(), Some(written.len()));
        let many = Newest(DescribeLogDirsResponse::default().with_results(vec![dir(""); 300]));
        let mut written = Vec::new();
        many.encode(&mut written, 5).expect("it can be written");
        assert_eq!(many.compute_size(5).ok(), Some(written.len()), "counts of two bytes");
    }

    #[test]
    fn other_versions_are_the_crates() {
        let asked = ListOffsetsRequest::default().with_timeout_ms(9);
        let answer = ListOffsetsResponse::default().with_throttle_time_ms(9);
        let (mut request, mut response) = (Vec::new(), Vec::new());
        asked.encode(&mut request, 10).expect("it can be written");
        answer.encode(&mut response, 10).expect("it can be written");
        for version in [10, 11] {
            assert_eq!(read::<ListOffsetsRequest>(version, &Bytes::from(request.clone())), asked);
            let mut written = Vec::new();
            Newest(answer.clone()).encode(&mut written, version).expect("it can be written");
            assert_eq!(written, response);
        }
        for (key, newest) in [(ApiKey::ListOffsets, 11), (ApiKey::DescribeLogDirs, 5)] {
            let crates = key.valid_versions().max;
            assert_eq!(crates, newest - 1, "{key:?}: what the crate knows need not be here");
        }
        assert_eq!((OffsetCommitRequest::VERSIONS.max, OffsetFetchRequest::VERSIONS.max), (9, 9));
    }
}
