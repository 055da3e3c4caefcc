//! The state that follows from the entries: a pure machine, the same on every broker.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::entry::{ConfigResource, Endpoint};
use crate::types::{LeaseEpoch, NodeId, Offset, Revision, SegmentNumber, SessionId, TopicId};

pub type Configs = BTreeMap<String, String>;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Image {
    /// The last entry applied; 0 before the first.
    pub revision: Revision,
    pub session_ttl_ms: u64,
    pub next_producer_id: i64,
    pub sessions: BTreeMap<SessionId, Session>,
    pub topics: BTreeMap<TopicId, Topic>,
    /// Names of living topics.
    pub names: BTreeMap<String, TopicId>,
    /// Configs of everything but topics, whose configs stand in [`Topic`].
    #[serde(with = "pairs")]
    pub configs: BTreeMap<ConfigResource, Configs>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Session {
    pub node_id: NodeId,
    pub endpoints: Vec<Endpoint>,
    pub rack: Option<String>,
    pub state: SessionState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SessionState {
    /// Named, segment 0 not yet known to be written.
    Open,
    /// May hold leases.
    Ready,
    /// Over: segments 0..end are committed, nothing else ever was.
    Fenced { end: SegmentNumber },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Topic {
    pub name: String,
    pub replication_factor: i16,
    pub internal: bool,
    pub configs: Configs,
    pub partitions: Vec<PartitionState>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PartitionState {
    pub epoch: LeaseEpoch,
    /// `None`: vacant.
    pub holder: Option<SessionId>,
    /// All tenures in order; the last is the holder's. Segments of a tenure carry its epoch.
    pub tenures: Vec<Tenure>,
    pub log_start: Offset,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tenure {
    pub session: SessionId,
    pub epoch: LeaseEpoch,
    /// Segments of the session up to but not including this one may hold data of the tenure; `None` while it runs.
    pub end: Option<SegmentNumber>,
}

/// JSON has no maps with structured keys.
mod pairs {
    use super::{BTreeMap, ConfigResource, Configs};
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(map: &BTreeMap<ConfigResource, Configs>, to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(map.iter())
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeMap<ConfigResource, Configs>, D::Error> {
        Ok(Vec::<(ConfigResource, Configs)>::deserialize(from)?.into_iter().collect())
    }
}
