//! What the metadata table says: one JSON entry per revision, applied whole.
//!
//! The format is versioned by [`Entry::version`]; a broker that meets a version or a change it does not know stops with an
//! error (DESIGN.md "Metadata table"), it never guesses.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::types::{NodeId, Offset, Revision, SegmentNumber, SessionId, TopicId};

/// The version that this program writes and the only one that it reads.
pub const ENTRY_VERSION: u16 = 1;

/// An entry may not be larger than this, in bytes of JSON.
pub const ENTRY_MAX_BYTES: usize = 256 * 1024;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    pub version: u16,
    pub revision: Revision,
    /// Random; by it a proposer recognises its own entry when the answer to its append was lost.
    pub nonce: String,
    pub changes: Vec<Change>,
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

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Change {
    /// Fills a revision and changes nothing: resolves an append of unknown outcome.
    Nop {},
    /// Settings that all brokers must agree on.
    SetCluster {
        session_ttl_ms: u64,
    },
    /// Opens the session named (this entry's revision, `random`). At most one such change per entry.
    OpenSession {
        node_id: NodeId,
        random: String,
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
    /// Partitions are granted to the highest hashes among the ready sessions of the image, with lease epoch 0.
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
        offsets: BTreeMap<i32, Offset>,
    },
    /// Takes the next `count` producer ids for the session.
    AllocateProducerIds {
        session: SessionId,
        count: u32,
    },
}
