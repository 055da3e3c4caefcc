//! What the metadata table says: one JSON entry per revision, applied whole.
//!
//! The format is versioned by [`Entry::version`]; a broker that meets a version or a change it does not know stops with an
//! error (DESIGN.md "Metadata table"), it never guesses.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::sealed;
use crate::types::{FEATURE_LEVEL, NodeId, Offset, Revision, RunId, SegmentNumber, SessionId, TopicId};

/// The newest version that this program reads, and so the highest feature level that it supports ([`super::level`]): an entry of version
/// n stands only in the table of a cluster at level n or above. Each entry has the lowest version that knows all its changes, so that
/// programs of level 1 read all that is written at level 1; they stop at the first entry of version 2 and say so.
pub const ENTRY_VERSION: u16 = FEATURE_LEVEL;

/// An entry may not be larger than this, in bytes of JSON.
pub const ENTRY_MAX_BYTES: usize = 256 * 1024;

/// One revision of the table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    pub version: u16,
    pub revision: Revision,
    /// Random; by it a proposer recognises its own entry when the answer to its append was lost.
    pub nonce: String,
    pub changes: Vec<Change>,
}

impl Entry {
    pub fn new(revision: Revision, nonce: u128, changes: Vec<Change>) -> Entry {
        let version = changes.iter().map(Change::since).max().unwrap_or(1);
        Entry { version, revision, nonce: format!("{nonce:032x}"), changes }
    }

    /// JSON, as it stands in the table; the last field, `crc32c`, covers all before it.
    pub fn encode(&self) -> Bytes {
        sealed::encode(self)
    }

    /// Reads the entry of `revision`. Whatever this program does not know exactly (version, type, field) is an error.
    pub fn decode(revision: Revision, body: &[u8]) -> Result<Entry, EntryError> {
        let unreadable = |error: serde_json::Error| EntryError::Unreadable(error.to_string());
        let head: Head = serde_json::from_slice(body).map_err(unreadable)?;
        if !(1..=u64::from(ENTRY_VERSION)).contains(&head.version) {
            return Err(EntryError::Version(head.version));
        }
        let entry: Entry = sealed::decode(body).map_err(|error| EntryError::Unreadable(error.to_string()))?;
        if entry.revision != revision {
            return Err(EntryError::Misplaced(entry.revision));
        }
        if let Some(change) = entry.changes.iter().find(|change| change.since() > entry.version) {
            let what = format!("version {} has no such change: {change:?}", entry.version);
            return Err(EntryError::Unreadable(what));
        }
        Ok(entry)
    }
}

#[derive(Deserialize)]
struct Head {
    version: u64,
}

/// Why the body of a revision is not an entry that this program may apply. The broker stops; it never skips.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    #[error("{}", newer("entry", *.0, ENTRY_VERSION))]
    Version(u64),
    #[error("it is damaged, or a newer Alluvium wrote it: {0}")]
    Unreadable(String),
    #[error("it says that it is revision {0}")]
    Misplaced(Revision),
}

/// What to say of an entry or a snapshot of a version above the supported.
pub(super) fn newer(what: &str, version: u64, supported: u16) -> String {
    format!(
        "{what} version {version} is unknown to this program, which supports feature levels up to {supported}: the cluster is at feature \
         level {version} or above; start a newer Alluvium, one that supports it"
    )
}

/// Where clients reach a broker on one listener.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Endpoint {
    pub listener: String,
    pub host: String,
    pub port: u16,
}

/// A thing that has configs, as in DescribeConfigs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConfigResource {
    Topic(TopicId),
    Broker(NodeId),
    /// The cluster-wide default of all brokers (the empty broker name).
    Brokers,
    Group(String),
    ClientMetrics(String),
}

/// Partitions of one topic whose leases move.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TransferredPartitions {
    pub topic: TopicId,
    pub indexes: Vec<i32>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Change {
    /// Fills a revision and changes nothing: resolves an append of unknown outcome.
    Nop {},
    /// The table goes on in the one named (backend and address). Changes nothing in the image; a broker that meets it in the table that
    /// it uses stops, unless the move is history ([`super::cluster`]). Only [`super::copy`] appends it. Since version 2.
    MoveTable {
        to: String,
    },
    /// The cluster's feature level is this from here on: all open sessions support it. It never falls. Since the version that it names.
    RaiseLevel {
        level: u16,
    },
    /// Settings that all brokers must agree on.
    SetCluster {
        session_ttl_ms: u64,
    },
    /// Opens the session named (this entry's revision, `random`). At most one such change per entry.
    OpenSession {
        node_id: NodeId,
        /// 16 lower-case hexadecimal digits.
        random: String,
        /// Where clients reach it; behind them [`super::level::endpoint`].
        endpoints: Vec<Endpoint>,
        rack: Option<String>,
    },
    /// Segment 0 of the session is in the bucket: it may be given leases.
    Ready {
        session: SessionId,
    },
    /// Closes a session at `end` (the number of its lowest fence; segments 0..end are committed) and grants each of its partitions
    /// to the highest hash among `ready`, with the next lease epoch. Partitions stay vacant if `ready` is empty.
    FenceSession {
        session: SessionId,
        end: SegmentNumber,
        ready: Vec<SessionId>,
    },
    /// Grants each vacant partition to the highest hash among `ready`, with the next lease epoch: after a clean stop of the last
    /// holder, or of topics that were created while nobody was ready.
    GrantVacant {
        ready: Vec<SessionId>,
    },
    /// Leases of `session` go to `to`, each with the next epoch. Only `session` appends it, after it stopped giving offsets in them;
    /// `through` is its last segment that may hold records of theirs. It may still be uploading: until all up to it are in the bucket,
    /// or the session is closed at a lower end, `to` has to wait. Since version 2.
    TransferLease {
        session: SessionId,
        to: SessionId,
        through: SegmentNumber,
        partitions: Vec<TransferredPartitions>,
    },
    /// Partitions are granted to the highest hashes among the ready sessions of the image, with lease epoch 0. They are vacant
    /// (epoch −1) when nobody is ready.
    CreateTopic {
        id: TopicId,
        name: String,
        partitions: i32,
        replication_factor: i16,
        configs: BTreeMap<String, String>,
        internal: bool,
    },
    DeleteTopic {
        id: TopicId,
    },
    /// New partitions are granted like those of a new topic. `count` is the new total.
    CreatePartitions {
        id: TopicId,
        count: i32,
    },
    /// `None` removes a key. Values are stored as Kafka writes them.
    AlterConfigs {
        resource: ConfigResource,
        set: BTreeMap<String, Option<String>>,
    },
    /// Moves log starts up (never down: a lower value is ignored). DeleteRecords, later retention.
    AdvanceLogStart {
        topic: TopicId,
        #[serde(with = "by_partition")]
        offsets: BTreeMap<i32, Offset>,
    },
    /// Takes the next `count` producer ids for the session: those from the image's `next_producer_id` on, as the proposer's
    /// `build` saw it when it was called last.
    AllocateProducerIds {
        session: SessionId,
        count: u32,
    },
    /// Names the folder `runs/<this entry's revision>-<random>/` for a merge of the session's segments `from..to`, before the first
    /// byte is written there. Since version 2.
    ClaimMerge {
        session: SessionId,
        from: SegmentNumber,
        to: SegmentNumber,
        /// Who merges.
        by: SessionId,
        /// 16 lower-case hexadecimal digits.
        random: String,
    },
    /// The claim's window is merged: its outputs were read back. From here on the run stands for these segments; `empty`: there were
    /// no records in them, and there is no run. Ends the claim. Since version 2.
    CommitRun {
        claim: RunId,
        empty: bool,
    },
    /// Nothing came of the claim: what lies in its folder is garbage. Since version 2.
    EndClaim {
        claim: RunId,
    },
}

impl Change {
    /// The entry version that brought it.
    pub fn since(&self) -> u16 {
        match self {
            Change::ClaimMerge { .. }
            | Change::CommitRun { .. }
            | Change::EndClaim { .. }
            | Change::TransferLease { .. }
            | Change::MoveTable { .. } => 2,
            Change::RaiseLevel { level } => (*level).max(2),
            Change::Nop {}
            | Change::SetCluster { .. }
            | Change::OpenSession { .. }
            | Change::Ready { .. }
            | Change::FenceSession { .. }
            | Change::GrantVacant { .. }
            | Change::CreateTopic { .. }
            | Change::DeleteTopic { .. }
            | Change::CreatePartitions { .. }
            | Change::AlterConfigs { .. }
            | Change::AdvanceLogStart { .. }
            | Change::AllocateProducerIds { .. } => 1,
        }
    }
}

/// Numbers as keys are text in JSON, and serde does not turn them back inside a tagged enum.
mod by_partition {
    use super::{BTreeMap, Offset};
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub fn serialize<S: Serializer>(map: &BTreeMap<i32, Offset>, to: S) -> Result<S::Ok, S::Error> {
        to.collect_map(map)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeMap<i32, Offset>, D::Error> {
        let texts = BTreeMap::<String, Offset>::deserialize(from)?;
        texts.into_iter().map(|(key, offset)| Ok((key.parse().map_err(D::Error::custom)?, offset))).collect()
    }
}
