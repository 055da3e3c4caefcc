//! The records of `__consumer_offsets` in Kafka's own formats, so that Kafka's tools read ours and we read Kafka's.
//!
//! A key begins with its type (`CoordinatorRecordType`): 0 and 1 name a committed offset, 2 a classic group; others belong to
//! newer group types and are left alone ([`Key::Unknown`]). A value begins with its version. Written are the versions that
//! Kafka 4.3 writes (`GroupCoordinatorRecordHelpers`): OffsetCommitValue 4, or 1 when the commit carries its own expiry,
//! GroupMetadataValue 3. Read are all that exist, 0 to 4.

use bytes::Bytes;

use super::codec::{DecodeError, Reader, Writer};
use super::log::CoordRecord;
use crate::types::{TimestampMs, TopicId};

/// What a record of `__consumer_offsets` is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Key {
    Offset {
        group: String,
        topic: String,
        partition: i32,
    },
    Group {
        group: String,
    },
    /// A type that this program does not know; the record stays in the log untouched.
    Unknown(i16),
}

/// Where a group stands in one partition (OffsetCommitValue).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommittedOffset {
    pub offset: i64,
    /// -1: not given.
    pub leader_epoch: i32,
    pub metadata: String,
    pub commit_ms: TimestampMs,
    /// Set by the retention time of OffsetCommit v2-4.
    pub expire_ms: Option<TimestampMs>,
    /// Zero in records of older versions.
    pub topic_id: TopicId,
}

/// One generation of a classic group (GroupMetadataValue). No members: the group is empty.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct GroupGeneration {
    /// Empty: a group without members yet.
    pub protocol_type: String,
    pub generation: i32,
    pub protocol: Option<String>,
    pub leader: Option<String>,
    /// When the group entered its state; `None` in versions before 2.
    pub state_since_ms: Option<TimestampMs>,
    pub members: Vec<GenerationMember>,
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct GenerationMember {
    pub member_id: String,
    pub instance_id: Option<String>,
    pub client_id: String,
    pub client_host: String,
    pub rebalance_timeout_ms: i32,
    pub session_timeout_ms: i32,
    pub subscription: Bytes,
    pub assignment: Bytes,
}

/// A record as the coordinator understands it; a value of `None` is a tombstone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    Offset { group: String, topic: String, partition: i32, value: Option<CommittedOffset> },
    Group { group: String, value: Option<GroupGeneration> },
}

/// What a record read from the log turned out to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decoded {
    Known(Record),
    /// A key type that this program does not know.
    Unknown(i16),
}

impl Record {
    /// Name of the group that the record belongs to.
    pub fn group(&self) -> &str {
        match self {
            Record::Offset { group, .. } | Record::Group { group, .. } => group,
        }
    }

    pub fn encode(&self) -> CoordRecord {
        match self {
            Record::Offset { group, topic, partition, value } => CoordRecord {
                key: offset_key(group, topic, *partition),
                value: value.as_ref().map(CommittedOffset::encode),
            },
            Record::Group { group, value } => {
                CoordRecord { key: group_key(group), value: value.as_ref().map(GroupGeneration::encode) }
            }
        }
    }

    pub fn decode(record: &CoordRecord) -> Result<Decoded, DecodeError> {
        let value = record.value.as_deref();
        Ok(Decoded::Known(match Key::decode(&record.key)? {
            Key::Offset { group, topic, partition } => {
                Record::Offset { group, topic, partition, value: value.map(CommittedOffset::decode).transpose()? }
            }
            Key::Group { group } => Record::Group { group, value: value.map(GroupGeneration::decode).transpose()? },
            Key::Unknown(kind) => return Ok(Decoded::Unknown(kind)),
        }))
    }
}

fn offset_key(group: &str, topic: &str, partition: i32) -> Bytes {
    let mut key = Writer::default();
    key.i16(1);
    key.string(group);
    key.string(topic);
    key.i32(partition);
    key.into_bytes()
}

fn group_key(group: &str) -> Bytes {
    let mut key = Writer::default();
    key.i16(2);
    key.string(group);
    key.into_bytes()
}

impl Key {
    pub fn decode(bytes: &[u8]) -> Result<Key, DecodeError> {
        let mut reader = Reader::new(bytes);
        let key = match reader.i16()? {
            0 | 1 => {
                Key::Offset { group: reader.string(false)?, topic: reader.string(false)?, partition: reader.i32()? }
            }
            2 => Key::Group { group: reader.string(false)? },
            kind => return Ok(Key::Unknown(kind)),
        };
        reader.finish()?;
        Ok(key)
    }
}

fn some_time(time: i64) -> Option<TimestampMs> {
    (time != -1).then_some(time)
}

impl CommittedOffset {
    fn encode(&self) -> Bytes {
        let mut value = Writer::default();
        if let Some(expire_ms) = self.expire_ms {
            value.i16(1);
            value.i64(self.offset);
            value.string(&self.metadata);
            value.i64(self.commit_ms);
            value.i64(expire_ms);
            return value.into_bytes();
        }
        value.i16(4);
        value.i64(self.offset);
        value.i32(self.leader_epoch);
        value.compact_string(&self.metadata);
        value.i64(self.commit_ms);
        if self.topic_id.is_zero() {
            value.unsigned_varint(0);
        } else {
            value.unsigned_varint(1);
            value.unsigned_varint(0);
            value.unsigned_varint(16);
            value.u128(self.topic_id.0);
        }
        value.into_bytes()
    }

    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let version = reader.i16()?;
        if !(0..=4).contains(&version) {
            return Err(DecodeError::Version(version));
        }
        let offset = reader.i64()?;
        let leader_epoch = if version >= 3 { reader.i32()? } else { -1 };
        let metadata = reader.string(version >= 4)?;
        let commit_ms = reader.i64()?;
        let expire_ms = if version == 1 { some_time(reader.i64()?) } else { None };
        let mut topic_id = TopicId::ZERO;
        if version >= 4 {
            reader.tagged(|tag, mut field| {
                if tag == 0 {
                    topic_id = TopicId(field.u128()?);
                }
                Ok(())
            })?;
        }
        reader.finish()?;
        Ok(CommittedOffset { offset, leader_epoch, metadata, commit_ms, expire_ms, topic_id })
    }
}

impl GroupGeneration {
    fn encode(&self) -> Bytes {
        let mut value = Writer::default();
        value.i16(3);
        value.string(&self.protocol_type);
        value.i32(self.generation);
        value.nullable_string(self.protocol.as_deref());
        value.nullable_string(self.leader.as_deref());
        value.i64(self.state_since_ms.unwrap_or(-1));
        value.i32(self.members.len() as i32);
        for member in &self.members {
            value.string(&member.member_id);
            value.nullable_string(member.instance_id.as_deref());
            value.string(&member.client_id);
            value.string(&member.client_host);
            value.i32(member.rebalance_timeout_ms);
            value.i32(member.session_timeout_ms);
            value.bytes(&member.subscription);
            value.bytes(&member.assignment);
        }
        value.into_bytes()
    }

    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let version = reader.i16()?;
        if !(0..=4).contains(&version) {
            return Err(DecodeError::Version(version));
        }
        let flexible = version >= 4;
        let mut group = GroupGeneration {
            protocol_type: reader.string(flexible)?,
            generation: reader.i32()?,
            protocol: reader.nullable_string(flexible)?,
            leader: reader.nullable_string(flexible)?,
            state_since_ms: if version >= 2 { some_time(reader.i64()?) } else { None },
            members: Vec::new(),
        };
        // The smallest member: three empty strings, a timeout and two empty byte strings in the compact form.
        for _ in 0..reader.array_length(flexible, 9)? {
            group.members.push(GenerationMember::decode(&mut reader, version)?);
        }
        if flexible {
            reader.tagged(|_, _| Ok(()))?;
        }
        reader.finish()?;
        Ok(group)
    }
}

impl GenerationMember {
    fn decode(reader: &mut Reader<'_>, version: i16) -> Result<Self, DecodeError> {
        let flexible = version >= 4;
        let member_id = reader.string(flexible)?;
        let instance_id = if version >= 3 { reader.nullable_string(flexible)? } else { None };
        let client_id = reader.string(flexible)?;
        let client_host = reader.string(flexible)?;
        let rebalance_timeout_ms = if version >= 1 { reader.i32()? } else { -1 };
        let session_timeout_ms = reader.i32()?;
        let member = GenerationMember {
            member_id,
            instance_id,
            client_id,
            client_host,
            rebalance_timeout_ms: if rebalance_timeout_ms == -1 { session_timeout_ms } else { rebalance_timeout_ms },
            session_timeout_ms,
            subscription: reader.bytes(flexible)?,
            assignment: reader.bytes(flexible)?,
        };
        if flexible {
            reader.tagged(|_, _| Ok(()))?;
        }
        Ok(member)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Golden bytes made with Kafka 4.3.1's own message classes (kafka-group-coordinator).
    const OFFSET_KEY: &str = "000100066772c3b6757000066f726465727300000007";
    const GROUP_KEY: &str = "000200066772c3b67570";
    const OFFSET_VALUES: [&str; 5] = [
        "000000000000fcde41b200056dc3a974610000018bcfe5687b",
        "000100000000fcde41b200056dc3a974610000018bcfe5687b0000018bcfe6ee9f",
        "000200000000fcde41b200056dc3a974610000018bcfe5687b",
        "000300000000fcde41b20000000500056dc3a974610000018bcfe5687b",
        "000400000000fcde41b200000005066dc3a974610000018bcfe5687b0100100102030405060708090a0b0c0d0e0f10",
    ];
    const OFFSET_VALUE_NO_ID: &str = "00040000000000000001ffffffff01000000000000000200";
    const GROUP_VALUES: [&str; 5] = [
        "00000008636f6e73756d657200000003000572616e676500036d2d310000000200036d2d31000163000a2f3132372e302e302e310000afc800\
         000003010203000000010900036d2d32000163000a2f3132372e302e302e31000017700000000000000000",
        "00010008636f6e73756d657200000003000572616e676500036d2d310000000200036d2d31000163000a2f3132372e302e302e31000493e000\
         00afc800000003010203000000010900036d2d32000163000a2f3132372e302e302e310000ea60000017700000000000000000",
        "00020008636f6e73756d657200000003000572616e676500036d2d310000018bcfe569c80000000200036d2d31000163000a2f3132372e302e\
         302e31000493e00000afc800000003010203000000010900036d2d32000163000a2f3132372e302e302e310000ea6000001770000000000000\
         0000",
        "00030008636f6e73756d657200000003000572616e676500036d2d310000018bcfe569c80000000200036d2d310004696e7374000163000a2f\
         3132372e302e302e31000493e00000afc800000003010203000000010900036d2d32ffff000163000a2f3132372e302e302e310000ea600000\
         17700000000000000000",
        "000409636f6e73756d6572000000030672616e6765046d2d310000018bcfe569c803046d2d3105696e737402630b2f3132372e302e302e3100\
         0493e00000afc804010203020900046d2d320002630b2f3132372e302e302e310000ea600000177001010000",
    ];
    const GROUP_VALUE_EMPTY: &str = "0003000000000000ffffffff000000000000000500000000";

    fn unhex(text: &str) -> Bytes {
        let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
        digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
    }

    fn offset(version: usize) -> CommittedOffset {
        CommittedOffset {
            offset: 4_242_424_242,
            leader_epoch: if version >= 3 { 5 } else { -1 },
            metadata: "méta".to_owned(),
            commit_ms: 1_700_000_000_123,
            expire_ms: (version == 1).then_some(1_700_000_099_999),
            topic_id: if version == 4 { TopicId(0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10) } else { TopicId::ZERO },
        }
    }

    fn group(version: usize) -> GroupGeneration {
        let member = |id: &str, instance: Option<&str>, rebalance: i32, session: i32| GenerationMember {
            member_id: id.to_owned(),
            instance_id: instance.filter(|_| version >= 3).map(str::to_owned),
            client_id: "c".to_owned(),
            client_host: "/127.0.0.1".to_owned(),
            rebalance_timeout_ms: if version >= 1 { rebalance } else { session },
            session_timeout_ms: session,
            subscription: Bytes::new(),
            assignment: Bytes::new(),
        };
        let mut first = member("m-1", Some("inst"), 300_000, 45_000);
        first.subscription = Bytes::from_static(&[1, 2, 3]);
        first.assignment = Bytes::from_static(&[9]);
        GroupGeneration {
            protocol_type: "consumer".to_owned(),
            generation: 3,
            protocol: Some("range".to_owned()),
            leader: Some("m-1".to_owned()),
            state_since_ms: (version >= 2).then_some(1_700_000_000_456),
            members: vec![first, member("m-2", None, 60_000, 6_000)],
        }
    }

    #[test]
    fn keys_are_kafkas() {
        let name = "gröup".to_owned();
        let offset = Record::Offset { group: name.clone(), topic: "orders".to_owned(), partition: 7, value: None };
        let group = Record::Group { group: name, value: None };
        for (record, golden) in [(offset, OFFSET_KEY), (group, GROUP_KEY)] {
            let encoded = record.encode();
            assert_eq!(encoded, CoordRecord { key: unhex(golden), value: None });
            assert_eq!(Record::decode(&encoded), Ok(Decoded::Known(record)));
        }
        let future = CoordRecord { key: Bytes::from_static(&[0, 3, 1]), value: Some(Bytes::from_static(&[9])) };
        assert_eq!(Record::decode(&future), Ok(Decoded::Unknown(3)));
    }

    #[test]
    fn values_of_all_versions_are_read() {
        for version in 0..=4 {
            assert_eq!(CommittedOffset::decode(&unhex(OFFSET_VALUES[version])), Ok(offset(version)), "{version}");
            assert_eq!(GroupGeneration::decode(&unhex(GROUP_VALUES[version])), Ok(group(version)), "{version}");
        }
        assert_eq!(CommittedOffset::decode(&[0, 5, 0]), Err(DecodeError::Version(5)));
        assert_eq!(GroupGeneration::decode(&[0, 5, 0]), Err(DecodeError::Version(5)));
    }

    #[test]
    fn values_are_written_as_kafka_writes_them() {
        assert_eq!(offset(4).encode(), unhex(OFFSET_VALUES[4]));
        assert_eq!(offset(1).encode(), unhex(OFFSET_VALUES[1]));
        let bare = CommittedOffset {
            offset: 1,
            leader_epoch: -1,
            metadata: String::new(),
            commit_ms: 2,
            expire_ms: None,
            topic_id: TopicId::ZERO,
        };
        assert_eq!(bare.encode(), unhex(OFFSET_VALUE_NO_ID));
        assert_eq!(group(3).encode(), unhex(GROUP_VALUES[3]));
        let empty = GroupGeneration { state_since_ms: Some(5), ..GroupGeneration::default() };
        assert_eq!(empty.encode(), unhex(GROUP_VALUE_EMPTY));
    }

    proptest::proptest! {
        #[test]
        fn whatever_is_written_is_read(offset: i64, epoch: i32, commit_ms in 0..i64::MAX, expire in 0..9i64, text in ".{0,40}", id: u128) {
            let expire_ms = (expire > 4).then_some(expire);
            let (leader_epoch, topic_id) = if expire_ms.is_some() { (-1, TopicId::ZERO) } else { (epoch, TopicId(id)) };
            let value = CommittedOffset { offset, leader_epoch, metadata: text.clone(), commit_ms, expire_ms, topic_id };
            let record = Record::Offset { group: text.clone(), topic: text, partition: epoch, value: Some(value) };
            assert_eq!(Record::decode(&record.encode()), Ok(Decoded::Known(record)));
        }

        #[test]
        fn no_bytes_are_too_strange(kind in 0..4u8, version in 0..6u8, bytes: Vec<u8>) {
            let prefixed = |first: u8| Bytes::from([&[0, first], bytes.as_slice()].concat());
            let _ = Record::decode(&CoordRecord { key: prefixed(kind), value: Some(prefixed(version)) });
            for golden in [OFFSET_KEY, GROUP_KEY] {
                let _ = Record::decode(&CoordRecord { key: unhex(golden), value: Some(prefixed(version)) });
            }
        }
    }

    #[test]
    fn damaged_values_are_refused_and_allocate_nothing() {
        for golden in OFFSET_VALUES {
            let bytes = unhex(golden);
            assert!((0..bytes.len()).all(|cut| CommittedOffset::decode(&bytes[..cut]).is_err()), "{golden}");
        }
        for golden in GROUP_VALUES {
            let bytes = unhex(golden);
            assert!((0..bytes.len()).all(|cut| GroupGeneration::decode(&bytes[..cut]).is_err()), "{golden}");
        }
        let huge_count = unhex("0003000000000000ffffffff00000000000000057fffffff");
        assert_eq!(GroupGeneration::decode(&huge_count), Err(DecodeError::Length));
    }
}
