//! What a proposer checks on the image at r before it appends r+1. `apply` checks nothing again.
//!
//! [`super::Metadata::propose`] runs [`check`] on every change, each on the image that the changes before it leave; a `build`
//! that wants a finer answer asks the image itself first.

use std::collections::{BTreeMap, BTreeSet};

use super::apply::parse_random;
use super::entry::{Change, ConfigResource, TransferredPartitions};
use super::image::{Claim, Image, Session, SessionState};
use super::level;
use crate::types::mutant::{self, Mutant};
use crate::types::{FEATURE_LEVEL, LeaseEpoch, NodeId, Offset, RunId, SegmentNumber, SessionId, TopicId};

/// Longest topic name, as in Kafka (`Topic.java`).
pub const TOPIC_NAME_MAX_CHARS: usize = 249;

/// Most partitions of one topic: a mistyped number must not fill every broker's memory.
pub const PARTITIONS_MAX: i32 = 100_000;

/// A change that may not be appended to the table as it is now.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    #[error("topic {name:?} exists already")]
    TopicExists { name: String },
    #[error("topic id {id} is in use")]
    TopicIdUsed { id: TopicId },
    #[error("no topic has the id {id}")]
    UnknownTopic { id: TopicId },
    #[error("topic {name:?}: {reason}")]
    InvalidTopic { name: String, reason: &'static str },
    #[error("topic {id} has {present} partitions, {asked} are not more")]
    NotMorePartitions { id: TopicId, present: usize, asked: i32 },
    #[error("topic {topic}, partition {index}: {reason}")]
    InvalidPartition { topic: TopicId, index: i32, reason: &'static str },
    #[error("no session is named {session}")]
    UnknownSession { session: SessionId },
    #[error("session {session} is fenced")]
    SessionFenced { session: SessionId },
    #[error("session {session}: {reason}")]
    InvalidSession { session: SessionId, reason: &'static str },
    #[error("merge of session {session}: {reason}")]
    InvalidMerge { session: SessionId, reason: &'static str },
    #[error("there is no claim {claim}: it has ended")]
    UnknownClaim { claim: RunId },
    #[error("it needs feature level {needed}, and the cluster is at {level}: {}", level::WHY_NOT_RAISED)]
    Level { needed: u16, level: u16 },
    #[error("the cluster is at feature level {level}, session {session} supports {supported}")]
    Unsupported { level: u16, session: SessionId, supported: u16 },
    #[error("{0}")]
    InvalidValue(&'static str),
}

/// Whether `change` may be applied to `image`.
pub fn check(image: &Image, change: &Change) -> Result<(), RuleError> {
    at_level(image, change)?;
    match change {
        Change::Nop {} | Change::MoveTable { .. } | Change::RaiseLevel { .. } => Ok(()),
        Change::SetCluster { session_ttl_ms } => {
            ensure(*session_ttl_ms > 0, RuleError::InvalidValue("a session's ttl is above 0"))
        }
        Change::OpenSession { node_id, random, endpoints, .. } => {
            let supported = level::told_by(endpoints);
            let reason = "it does not support the cluster's feature level";
            ensure(supported >= image.level, RuleError::InvalidValue(reason))?;
            open_session(*node_id, random)
        }
        Change::Ready { session } => {
            let state = open(image, *session)?.state;
            ensure(
                state == SessionState::Open,
                RuleError::InvalidSession { session: *session, reason: "it is ready already" },
            )
        }
        Change::FenceSession { session, end, ready } => fence_session(image, *session, *end, ready),
        Change::GrantVacant { ready } => {
            ensure(!ready.is_empty(), RuleError::InvalidValue("a grant names no session"))?;
            ready_list(image, ready)
        }
        Change::TransferLease { session, to, partitions, .. } => transfer_lease(image, *session, *to, partitions),
        Change::CreateTopic { id, name, partitions, .. } => create_topic(image, *id, name, *partitions),
        Change::DeleteTopic { id } => known(image, *id),
        Change::CreatePartitions { id, count } => {
            let topic = image.topics.get(id).ok_or(RuleError::UnknownTopic { id: *id })?;
            let present = topic.partitions.len();
            let more = usize::try_from(*count).is_ok_and(|count| count > present);
            ensure(*count <= PARTITIONS_MAX, RuleError::InvalidValue(TOO_MANY_PARTITIONS))?;
            ensure(more, RuleError::NotMorePartitions { id: *id, present, asked: *count })
        }
        Change::AlterConfigs { resource: ConfigResource::Topic(id), .. } => known(image, *id),
        Change::AlterConfigs { .. } => Ok(()),
        Change::AdvanceLogStart { topic, offsets } => advance_log_start(image, *topic, offsets),
        Change::AllocateProducerIds { session, count } => {
            open(image, *session)?;
            ensure(*count > 0, RuleError::InvalidValue("a block of producer ids is not empty"))?;
            let left = image.next_producer_id.checked_add(i64::from(*count)).is_some();
            ensure(left, RuleError::InvalidValue("there are no producer ids left"))
        }
        Change::ClaimMerge { session, from, to, by, random } => {
            let claim = Claim { session: *session, from: *from, to: *to, by: *by };
            ensure(parse_random(random).is_some(), RuleError::InvalidValue(RANDOM))?;
            claim_merge(image, &claim)
        }
        Change::CommitRun { claim, .. } => commit_run(image, *claim),
        Change::EndClaim { claim } => claimed(image, *claim).map(|_| ()),
    }
}

/// Those of `offsets` that lie above their partition's log start: the rest would change nothing.
pub fn advancing(image: &Image, topic: TopicId, offsets: &BTreeMap<i32, Offset>) -> BTreeMap<i32, Offset> {
    let Some(topic) = image.topics.get(&topic) else { return BTreeMap::new() };
    let above = |index: i32, offset: Offset| {
        usize::try_from(index)
            .ok()
            .and_then(|index| topic.partitions.get(index))
            .is_some_and(|state| offset > state.log_start)
    };
    offsets.iter().filter(|(index, offset)| above(**index, **offset)).map(|(index, offset)| (*index, *offset)).collect()
}

const RANDOM: &str = "the random part of a name is 16 lower-case hexadecimal digits";

const TOO_MANY_PARTITIONS: &str = "a topic has at most 100000 partitions";

fn ensure(holds: bool, error: RuleError) -> Result<(), RuleError> {
    if holds { Ok(()) } else { Err(error) }
}

/// Nothing may stand in the table that a program which may be running can't read. A move is for clusters that stand still: it stops whoever
/// runs, whatever he knows.
fn at_level(image: &Image, change: &Change) -> Result<(), RuleError> {
    let needed = change.since();
    match change {
        Change::MoveTable { .. } => Ok(()),
        Change::RaiseLevel { level } => {
            ensure(*level > image.level, RuleError::InvalidValue("a feature level only rises"))?;
            ensure(
                *level <= FEATURE_LEVEL,
                RuleError::InvalidValue("this program does not support the feature level"),
            )?;
            let mut open = image.open_sessions().map(|(id, session)| (id, session.level()));
            match open.find(|(_, supported)| supported < level) {
                Some((session, supported)) if !mutant::on(Mutant::RaiseOverOlder) => {
                    Err(RuleError::Unsupported { level: *level, session, supported })
                }
                _ => Ok(()),
            }
        }
        _ => ensure(needed <= image.level, RuleError::Level { needed, level: image.level }),
    }
}

fn known(image: &Image, id: TopicId) -> Result<(), RuleError> {
    ensure(image.topics.contains_key(&id), RuleError::UnknownTopic { id })
}

fn open(image: &Image, session: SessionId) -> Result<&Session, RuleError> {
    let state = image.sessions.get(&session).ok_or(RuleError::UnknownSession { session })?;
    ensure(!matches!(state.state, SessionState::Fenced { .. }), RuleError::SessionFenced { session })?;
    Ok(state)
}

fn open_session(node_id: NodeId, random: &str) -> Result<(), RuleError> {
    ensure(node_id >= 0, RuleError::InvalidValue("a node id is 0 or above"))?;
    ensure(parse_random(random).is_some(), RuleError::InvalidValue(RANDOM))
}

/// The window begins where the last one ended, is claimed by nobody, and all of it is committed as far as the image tells: below
/// the end of a session that is fenced; of one that is open only its own broker knows, so only that may claim.
fn claim_merge(image: &Image, claim: &Claim) -> Result<(), RuleError> {
    open(image, claim.by)?;
    let session = claim.session;
    let state = image.sessions.get(&session).ok_or(RuleError::UnknownSession { session })?.state;
    let invalid = |reason| RuleError::InvalidMerge { session, reason };
    ensure(image.merges.claim_on(session).is_none(), invalid("somebody merges it already"))?;
    ensure(claim.from == image.merges.merged(session), invalid("the window does not begin where the last one ended"))?;
    ensure(claim.from < claim.to, invalid("the window is empty"))?;
    match state {
        SessionState::Fenced { end } => {
            let below = claim.to <= end || mutant::on(Mutant::MergePastEnd);
            ensure(below, invalid("the window goes past the session's end"))
        }
        _ => ensure(claim.by == session, invalid("it is open, and only its own broker knows what is committed")),
    }
}

fn claimed(image: &Image, claim: RunId) -> Result<&Claim, RuleError> {
    image.merges.claims.get(&claim).ok_or(RuleError::UnknownClaim { claim })
}

/// The claim is there, and so are its inputs: nothing was merged from them meanwhile.
fn commit_run(image: &Image, id: RunId) -> Result<(), RuleError> {
    let claim = claimed(image, id)?;
    let session = claim.session;
    let invalid = |reason| RuleError::InvalidMerge { session, reason };
    ensure(claim.from == image.merges.merged(session), invalid("its segments were merged by somebody else"))?;
    let inside = match image.sessions.get(&session).map(|session| session.state) {
        Some(SessionState::Fenced { end }) => claim.to <= end || mutant::on(Mutant::MergePastEnd),
        Some(_) => true,
        None => false,
    };
    ensure(inside, invalid("the window goes past the session's end"))
}

fn fence_session(image: &Image, session: SessionId, end: SegmentNumber, ready: &[SessionId]) -> Result<(), RuleError> {
    let state = open(image, session)?.state;
    let written = state == SessionState::Open || end >= 1;
    ensure(
        written,
        RuleError::InvalidSession {
            session,
            reason: "it was ready, so its segment 0 is committed and its end is 1 or above",
        },
    )?;
    ensure(
        end >= image.merges.merged(session) || mutant::on(Mutant::FenceBelowMerged),
        RuleError::InvalidSession { session, reason: "what lies below its end was merged, and its names are free" },
    )?;
    ensure(
        !ready.contains(&session),
        RuleError::InvalidSession { session, reason: "it can't be granted its own partitions" },
    )?;
    ready_list(image, ready)
}

fn transfer_lease(
    image: &Image,
    session: SessionId,
    to: SessionId,
    partitions: &[TransferredPartitions],
) -> Result<(), RuleError> {
    ensure(session != to, RuleError::InvalidSession { session, reason: "it can't hand anything over to itself" })?;
    ready_list(image, &[session, to])?;
    for moved in partitions {
        let topic = moved.topic;
        let state = image.topics.get(&topic).ok_or(RuleError::UnknownTopic { id: topic })?;
        for index in &moved.indexes {
            let held = usize::try_from(*index).ok().and_then(|index| state.partitions.get(index));
            let invalid = |reason| RuleError::InvalidPartition { topic, index: *index, reason };
            let partition = held.ok_or(invalid("there is no such partition"))?;
            ensure(partition.holder == Some(session), invalid("the session that hands it over does not hold it"))?;
            ensure(partition.epoch < LeaseEpoch::MAX, invalid("it has no lease epoch left"))?;
        }
    }
    Ok(())
}

fn ready_list(image: &Image, ready: &[SessionId]) -> Result<(), RuleError> {
    for id in ready {
        let is_ready = open(image, *id)?.state == SessionState::Ready;
        ensure(is_ready, RuleError::InvalidSession { session: *id, reason: "it is not ready for leases" })?;
    }
    let distinct: BTreeSet<_> = ready.iter().collect();
    ensure(distinct.len() == ready.len(), RuleError::InvalidValue("a session is named twice"))
}

fn create_topic(image: &Image, id: TopicId, name: &str, partitions: i32) -> Result<(), RuleError> {
    let invalid = |reason| RuleError::InvalidTopic { name: name.to_owned(), reason };
    ensure(!name.is_empty(), invalid("a name is not empty"))?;
    ensure(name.chars().count() <= TOPIC_NAME_MAX_CHARS, invalid("a name has at most 249 characters"))?;
    ensure(partitions >= 1, invalid("a topic has one partition or more"))?;
    ensure(partitions <= PARTITIONS_MAX, RuleError::InvalidValue(TOO_MANY_PARTITIONS))?;
    ensure(!id.is_zero(), invalid("a topic id is not zero"))?;
    ensure(!image.names.contains_key(name), RuleError::TopicExists { name: name.to_owned() })?;
    ensure(!image.topics.contains_key(&id), RuleError::TopicIdUsed { id })
}

/// An offset that is not above the log start is allowed, since `apply` ignores it; [`advancing`] leaves such offsets out.
fn advance_log_start(image: &Image, topic: TopicId, offsets: &BTreeMap<i32, Offset>) -> Result<(), RuleError> {
    let state = image.topics.get(&topic).ok_or(RuleError::UnknownTopic { id: topic })?;
    for (index, offset) in offsets {
        let invalid = |reason| RuleError::InvalidPartition { topic, index: *index, reason };
        let exists = usize::try_from(*index).is_ok_and(|index| index < state.partitions.len());
        ensure(exists, invalid("there is no such partition"))?;
        ensure(*offset >= 0, invalid("a log start is 0 or above"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meta::image::{PartitionState, Topic};

    /// Topic 7 with three partitions.
    fn image() -> Image {
        let vacant = PartitionState { epoch: -1, holder: None, tenures: Vec::new(), log_start: 0 };
        let topic = Topic {
            name: "t".to_owned(),
            replication_factor: 1,
            internal: false,
            configs: BTreeMap::new(),
            partitions: vec![vacant; 3],
        };
        let (topics, names) = ([(TopicId(7), topic)].into(), [("t".to_owned(), TopicId(7))].into());
        Image { topics, names, ..Image::default() }
    }

    #[test]
    fn a_topic_has_from_one_to_so_many_partitions() {
        // (asked, a new topic may have them, the one with three may get them)
        let table = [
            (i32::MIN, false, false),
            (-1, false, false),
            (0, false, false),
            (1, true, false),
            (3, true, false),
            (4, true, true),
            (PARTITIONS_MAX, true, true),
            (PARTITIONS_MAX + 1, false, false),
            (i32::MAX, false, false),
        ];
        for (asked, new, more) in table {
            let create = Change::CreateTopic {
                id: TopicId(8),
                name: "new".to_owned(),
                partitions: asked,
                replication_factor: 1,
                configs: BTreeMap::new(),
                internal: false,
            };
            let add = Change::CreatePartitions { id: TopicId(7), count: asked };
            assert_eq!([check(&image(), &create).is_ok(), check(&image(), &add).is_ok()], [new, more], "{asked}");
        }
    }
}
