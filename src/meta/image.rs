//! The state that follows from the entries: a pure machine, the same on every broker.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::entry::{ConfigResource, Endpoint};
use crate::types::{LeaseEpoch, NodeId, Offset, PartitionId, Revision, RunId, SegmentNumber, SessionId, TopicId};

pub type Configs = BTreeMap<String, String>;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Image {
    /// The last entry applied; 0 before the first.
    pub revision: Revision,
    /// Of the cluster ([`super::level`]). In snapshots it is their version.
    #[serde(skip, default = "super::level::first")]
    pub level: u16,
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
    /// Only in snapshots of version 2.
    #[serde(default, skip_serializing_if = "Merges::is_empty")]
    pub merges: Merges,
}

impl Default for Image {
    fn default() -> Self {
        Image {
            revision: 0,
            level: super::level::first(),
            session_ttl_ms: 0,
            next_producer_id: 0,
            sessions: BTreeMap::new(),
            topics: BTreeMap::new(),
            names: BTreeMap::new(),
            configs: BTreeMap::new(),
            merges: Merges::default(),
        }
    }
}

/// What was merged, and who is merging.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Merges {
    /// Merges under way; at most one of a session.
    pub claims: BTreeMap<RunId, Claim>,
    pub sessions: BTreeMap<SessionId, Merged>,
}

impl Merges {
    pub fn is_empty(&self) -> bool {
        self.claims.is_empty() && self.sessions.is_empty()
    }

    /// Segments 0..this of the session are merged: nobody reads them any more.
    pub fn merged(&self, session: SessionId) -> SegmentNumber {
        self.sessions.get(&session).map_or(0, |merged| merged.through)
    }

    /// Runs of the session's segments, in order.
    pub fn runs(&self, session: SessionId) -> &[Run] {
        self.sessions.get(&session).map_or(&[], |merged| &merged.runs)
    }

    /// Whether a claim or a run has this folder.
    pub fn names(&self, run: RunId) -> bool {
        let is_run = |merged: &Merged| merged.runs.iter().any(|known| known.id == run);
        self.claims.contains_key(&run) || self.sessions.values().any(is_run)
    }

    /// Folders that a claim or a run has.
    pub fn folders(&self) -> BTreeSet<RunId> {
        let committed = self.sessions.values().flat_map(|merged| &merged.runs).map(|run| run.id);
        committed.chain(self.claims.keys().copied()).collect()
    }

    /// The claim on the session's segments.
    pub fn claim_on(&self, session: SessionId) -> Option<(RunId, &Claim)> {
        self.claims.iter().find(|(_, claim)| claim.session == session).map(|(id, claim)| (*id, claim))
    }
}

/// Somebody merges these segments into the folder of the claim's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claim {
    pub session: SessionId,
    /// Segments `from..to`.
    pub from: SegmentNumber,
    pub to: SegmentNumber,
    pub by: SessionId,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Merged {
    /// Segments 0..through are merged. Never goes back.
    pub through: SegmentNumber,
    /// In order of their windows; windows without records have none.
    pub runs: Vec<Run>,
}

/// Stands for segments `from..to`; its manifest is `runs/<id>/manifest`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Run {
    pub id: RunId,
    pub from: SegmentNumber,
    pub to: SegmentNumber,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Session {
    pub node_id: NodeId,
    /// Where clients reach it; behind them [`super::level::endpoint`].
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
