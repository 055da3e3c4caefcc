//! The state that follows from the entries: a pure machine, the same on every broker.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::entry::{ConfigResource, Endpoint};
use crate::types::{LeaseEpoch, NodeId, Offset, PartitionId, Revision, SegmentNumber, SessionId, TopicId};

pub type Configs = BTreeMap<String, String>;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Image {
    /// The last entry applied; 0 before the first.
    pub revision: Revision,
    /// 0 until the first broker sets it.
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
#[serde(deny_unknown_fields)]
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
#[serde(deny_unknown_fields)]
pub struct Topic {
    pub name: String,
    pub replication_factor: i16,
    pub internal: bool,
    pub configs: Configs,
    pub partitions: Vec<PartitionState>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PartitionState {
    /// Of the newest grant; −1 before the first.
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

impl Image {
    pub fn topic_named(&self, name: &str) -> Option<(TopicId, &Topic)> {
        let id = *self.names.get(name)?;
        Some((id, self.topics.get(&id)?))
    }

    pub fn partition(&self, id: PartitionId) -> Option<&PartitionState> {
        self.topics.get(&id.topic)?.partitions.get(usize::try_from(id.index).ok()?)
    }

    /// The session that may assign offsets in the partition, with its lease epoch.
    pub fn holder(&self, id: PartitionId) -> Option<(SessionId, LeaseEpoch)> {
        let partition = self.partition(id)?;
        Some((partition.holder?, partition.epoch))
    }

    /// Sessions that may hold leases, in order of their ids.
    pub fn ready_sessions(&self) -> impl Iterator<Item = (SessionId, &Session)> {
        self.sessions
            .iter()
            .filter(|(_, session)| session.state == SessionState::Ready)
            .map(|(id, session)| (*id, session))
    }

    /// Sessions that are not fenced, ready or not: what a new session of the same node id has to fence.
    pub fn open_sessions(&self) -> impl Iterator<Item = (SessionId, &Session)> {
        self.sessions
            .iter()
            .filter(|(_, session)| !matches!(session.state, SessionState::Fenced { .. }))
            .map(|(id, session)| (*id, session))
    }

    /// Every partition that the session holds, with its lease epoch. Looks at all partitions.
    pub fn held_by(&self, session: SessionId) -> impl Iterator<Item = (PartitionId, LeaseEpoch)> {
        self.topics.iter().flat_map(move |(topic, state)| {
            (0i32..).zip(&state.partitions).filter_map(move |(index, partition)| {
                (partition.holder == Some(session)).then_some((PartitionId { topic: *topic, index }, partition.epoch))
            })
        })
    }
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
