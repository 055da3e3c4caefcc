//! Ids and quantities that every room speaks of. No behaviour, no I/O.

pub mod aligned;
pub mod aside;
pub mod batch_layout;
pub mod broker_config;
pub mod config_def;
pub mod env;
pub mod group_config;
pub mod mentions;
pub mod metrics;
pub mod mutant;
pub mod pace;
pub mod table_url;
pub mod topic_config;
mod topic_config_table;
pub mod topic_name;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A record's place in its partition. Never reused, never goes back.
pub type Offset = i64;

/// Kafka's leader epoch: grows by one with each grant or transfer of the partition's lease.
pub type LeaseEpoch = i32;

/// Milliseconds since 1970, as clients and record batches use them.
pub type TimestampMs = i64;

/// A revision of the metadata table; the first is 1, 0 means "nothing yet".
pub type Revision = u64;

/// The number of a segment in its session's sequence, from 0, never skipped.
pub type SegmentNumber = u64;

/// Kafka's node id of a broker.
pub type NodeId = i32;

/// The highest feature level of a cluster that this program can serve in (`meta::level`).
pub const FEATURE_LEVEL: u16 = 2;

/// Kafka's topic id: 128 random bits, never used twice.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct TopicId(pub u128);

impl TopicId {
    pub const ZERO: TopicId = TopicId(0);

    pub fn is_zero(self) -> bool {
        self.0 == 0
    }
}

impl From<uuid::Uuid> for TopicId {
    fn from(id: uuid::Uuid) -> Self {
        TopicId(id.as_u128())
    }
}

impl From<TopicId> for uuid::Uuid {
    fn from(id: TopicId) -> Self {
        uuid::Uuid::from_u128(id.0)
    }
}

/// 32 hexadecimal digits.
impl fmt::Display for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for TopicId {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() != 32 {
            return Err(ParseIdError { what: "topic id", text: text.to_owned() });
        }
        u128::from_str_radix(text, 16)
            .map(TopicId)
            .map_err(|_| ParseIdError { what: "topic id", text: text.to_owned() })
    }
}

/// One partition of one topic, by id (names may be given to another topic later, ids never are).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PartitionId {
    pub topic: TopicId,
    pub index: i32,
}

impl fmt::Display for PartitionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.topic, self.index)
    }
}

/// One life of one broker process: the revision that opened it and 64 random bits. The name never comes again.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId {
    pub revision: Revision,
    pub random: u64,
}

/// `<revision, 20 digits>-<random, 16 hexadecimal digits>`, as it stands in object names.
impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:020}-{:016x}", self.revision, self.random)
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for SessionId {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || ParseIdError { what: "session id", text: text.to_owned() };
        let (revision, random) = text.split_once('-').ok_or_else(error)?;
        if revision.len() != 20 || random.len() != 16 {
            return Err(error());
        }
        Ok(SessionId {
            revision: revision.parse().map_err(|_| error())?,
            random: u64::from_str_radix(random, 16).map_err(|_| error())?,
        })
    }
}

/// One attempt to merge: the revision of its claim and 64 random bits. Its outputs lie in a folder of this name, which never comes again.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunId {
    pub revision: Revision,
    pub random: u64,
}

impl RunId {
    fn as_session(self) -> SessionId {
        SessionId { revision: self.revision, random: self.random }
    }
}

/// As a session's: `<revision, 20 digits>-<random, 16 hexadecimal digits>`.
impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.as_session(), f)
    }
}

impl fmt::Debug for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for RunId {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let SessionId { revision, random } =
            text.parse().map_err(|ParseIdError { text, .. }| ParseIdError { what: "run id", text })?;
        Ok(RunId { revision, random })
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no {what}")]
pub struct ParseIdError {
    pub what: &'static str,
    pub text: String,
}

macro_rules! serde_as_text {
    ($($name:ty),*) => {$(
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    )*};
}
serde_as_text!(TopicId, SessionId, RunId);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_read_back_as_written() {
        let session = SessionId { revision: 42, random: 0xabc };
        assert_eq!(session.to_string(), "00000000000000000042-0000000000000abc");
        assert_eq!(session.to_string().parse(), Ok(session));
        let topic = TopicId(0xfeed);
        assert_eq!(topic.to_string().parse(), Ok(topic));
        for bad in ["", "42-abc", "00000000000000000042_0000000000000abc", "x0000000000000000042-0000000000000abc"] {
            assert!(bad.parse::<SessionId>().is_err(), "{bad}");
        }
    }
}
