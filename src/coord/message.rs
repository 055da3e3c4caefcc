//! What goes into a group's state machine and what comes out of it: plain data, copied from the requests.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;

use super::error::GroupError;
use super::records::Record;
use crate::types::{TimestampMs, TopicId};

/// The time of a step: the wall clock stamps what is stored, the steady clock drives timers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    pub wall_ms: TimestampMs,
    /// Milliseconds on a clock that never jumps.
    pub steady_ms: i64,
}

/// Names the request that a reply belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ReplyTo(pub u64);

/// What the coordinator was configured with; times in milliseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    pub initial_rebalance_delay_ms: i64,
    pub min_session_timeout_ms: i32,
    pub max_session_timeout_ms: i32,
    /// Members of one group.
    pub group_max_size: usize,
    pub offset_metadata_max_bytes: usize,
    pub offsets_retention_ms: i64,
    pub retention_check_interval_ms: i64,
    /// A generation whose record would be larger is refused, in bytes.
    pub max_record_bytes: usize,
    /// Joining members of one group that were given an id and have not come back with it.
    pub max_pending_members: usize,
    /// Groups of one partition of `__consumer_offsets`.
    pub max_groups: usize,
    /// What the members of all groups brought along and were assigned, in bytes; beyond it nobody gets in, or gets more, who brings much
    /// or is to get much, and beyond twice as much nobody at all.
    pub max_metadata_bytes: usize,
}

impl Limits {
    /// A new member that is parked in JoinGroup and not seen again leaves after so long.
    pub const NEW_MEMBER_TIMEOUT_MS: i64 = 5 * 60 * 1000;
    /// Group ids, instance ids, protocol names: longer ones are refused; client ids are cut. In bytes.
    pub const MAX_NAME_BYTES: usize = 8 * 1024;
    /// All protocols' metadata of one member, in bytes.
    pub const MAX_MEMBER_METADATA_BYTES: usize = 1024 * 1024;
    /// An offset's metadata, whatever the settings say: what version 1 of the record can hold.
    pub const MAX_OFFSET_METADATA_BYTES: usize = i16::MAX as usize;
    /// Protocols of one member.
    pub const MAX_PROTOCOLS: usize = 64;
    /// What one member may bring along, or bring or get more than before, while there is too much of all; in bytes.
    pub const MODEST_MEMBER_BYTES: usize = 4 * 1024;
    /// A member counts for no less, in bytes. This much is kept for it: who stays below is never refused once it is in, however full it is.
    pub const LEAST_MEMBER_BYTES: usize = 1024;

    pub fn from_settings(settings: &crate::config::KafkaSettings) -> Limits {
        let positive = |value: i32| usize::try_from(value).unwrap_or(0);
        Limits {
            initial_rebalance_delay_ms: i64::from(settings.group_initial_rebalance_delay_ms.max(0)),
            min_session_timeout_ms: settings.group_min_session_timeout_ms,
            max_session_timeout_ms: settings.group_max_session_timeout_ms,
            group_max_size: positive(settings.group_max_size),
            offset_metadata_max_bytes: positive(settings.offset_metadata_max_bytes),
            offsets_retention_ms: i64::from(settings.offsets_retention_minutes) * 60_000,
            retention_check_interval_ms: settings.offsets_retention_check_interval_ms.max(1000),
            max_record_bytes: 4 << 20,
            max_pending_members: 10_000,
            max_groups: 100_000,
            max_metadata_bytes: 64 << 20,
        }
    }

    /// Whether there is room for a member that brings or is to get so many bytes more than before, all members holding `held`. Modest ones
    /// find room where immodest ones took it all.
    pub(super) fn has_room(&self, held: usize, more: usize) -> bool {
        more == 0
            || held <= self.max_metadata_bytes
            || (more <= Limits::MODEST_MEMBER_BYTES && held <= 2 * self.max_metadata_bytes)
    }
}

/// A name and the opaque bytes that the member's assignor understands.
pub type Protocol = (String, Bytes);

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Join {
    pub reply: ReplyTo,
    /// Empty: a new member.
    pub member_id: String,
    /// The id that a new member gets.
    pub new_member_id: String,
    pub instance_id: Option<String>,
    pub client_id: String,
    pub client_host: String,
    pub session_timeout_ms: i32,
    pub rebalance_timeout_ms: i32,
    pub protocol_type: String,
    pub protocols: Vec<Protocol>,
    /// JoinGroup v4 and later: a new dynamic member must join again with the id it was given.
    pub requires_known_member_id: bool,
    /// JoinGroup v9 and later (KIP-814).
    pub supports_skip_assignment: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sync {
    pub reply: ReplyTo,
    pub generation: i32,
    pub member_id: String,
    pub instance_id: Option<String>,
    pub protocol_type: Option<String>,
    pub protocol_name: Option<String>,
    /// Member id, assignment; only the leader's counts.
    pub assignments: Vec<(String, Bytes)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    pub reply: ReplyTo,
    pub generation: i32,
    pub member_id: String,
    pub instance_id: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberName {
    pub member_id: String,
    pub instance_id: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leave {
    pub reply: ReplyTo,
    pub members: Vec<MemberName>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitPartition {
    pub topic: String,
    pub topic_id: TopicId,
    pub partition: i32,
    pub offset: i64,
    pub leader_epoch: i32,
    pub metadata: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    pub reply: ReplyTo,
    pub generation: i32,
    pub member_id: String,
    pub instance_id: Option<String>,
    /// OffsetCommit v2-4; `None`: the broker's.
    pub retention_ms: Option<i64>,
    /// OffsetCommit v9 and later say GROUP_ID_NOT_FOUND where older ones say ILLEGAL_GENERATION.
    pub knows_group_not_found: bool,
    pub partitions: Vec<CommitPartition>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeleteOffsets {
    pub reply: ReplyTo,
    pub partitions: Vec<(String, i32)>,
}

/// One input to a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    Join(Join),
    Sync(Sync),
    Heartbeat(Heartbeat),
    Leave(Leave),
    Commit(Commit),
    DeleteOffsets(DeleteOffsets),
    DeleteGroup(ReplyTo),
    /// Time went on: fires what is due.
    Tick,
    /// Removes offsets whose retention is over.
    ExpireOffsets,
    /// Topics that are gone: their offsets go as well. A zero id in a stored offset matches by name alone.
    TopicsDeleted(Arc<[(String, TopicId)]>),
    /// The same where nothing but their ids is known. Offsets without an id stay: they may be of a later topic of the name.
    TopicIdsDeleted(Arc<BTreeSet<TopicId>>),
}

impl Input {
    /// Requests that change stored offsets; a client may as well ask again a little later.
    pub fn writes_offsets(&self) -> bool {
        matches!(self, Input::Commit(_) | Input::DeleteOffsets(_) | Input::DeleteGroup(_))
    }

    /// How many offsets it brings.
    pub fn offsets(&self) -> usize {
        if let Input::Commit(commit) = self { commit.partitions.len() } else { 0 }
    }
}

/// The outcome of a join, also a refused one (which names the member it speaks of).
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Joined {
    pub error: Option<GroupError>,
    pub generation: i32,
    pub protocol_type: Option<String>,
    pub protocol_name: Option<String>,
    pub leader: String,
    pub member_id: String,
    pub skip_assignment: bool,
    pub members: Vec<JoinedMember>,
}

impl Joined {
    pub fn refused(member_id: impl Into<String>, error: GroupError) -> Joined {
        Joined { error: Some(error), generation: -1, member_id: member_id.into(), ..Joined::default() }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinedMember {
    pub member_id: String,
    pub instance_id: Option<String>,
    pub metadata: Bytes,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Synced {
    pub protocol_type: Option<String>,
    pub protocol_name: Option<String>,
    pub assignment: Bytes,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    Join(Joined),
    Sync(Result<Synced, GroupError>),
    Heartbeat(Result<(), GroupError>),
    /// The group is deleted, or why not.
    Deleted(Result<(), GroupError>),
    /// A look at the state is over; what was seen stands elsewhere.
    Seen,
    Leave(Vec<(MemberName, Result<(), GroupError>)>),
    /// One result for each partition, in the request's order; or one error for all.
    Partitions(Result<Vec<Result<(), GroupError>>, GroupError>),
}

impl Reply {
    /// Whether the reply says nothing of offsets: then it need not wait for commits of offsets in flight.
    pub fn tells_generation_only(&self) -> bool {
        match self {
            Reply::Join(_) | Reply::Sync(_) | Reply::Heartbeat(_) | Reply::Leave(_) => true,
            Reply::Deleted(_) | Reply::Partitions(_) | Reply::Seen => false,
        }
    }
}

/// What a step decided: records to append, and replies that may go out once these, and all earlier records of the group that they
/// may depend on, are committed.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Outputs {
    pub records: Vec<Record>,
    pub replies: Vec<(ReplyTo, Reply)>,
}

impl Outputs {
    pub fn reply(&mut self, to: ReplyTo, reply: Reply) {
        self.replies.push((to, reply));
    }
}
