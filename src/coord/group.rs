//! One classic group as a state machine (Kafka's `ClassicGroup`, KIP-62, KIP-345, KIP-394, KIP-814).
//!
//! ```text
//!            first member joins          all joined, or the wait is over         the leader's assignment
//!   Empty ───────────────────► Preparing ──────────────────────────► Completing ─────────────────────► Stable
//!     ▲                        Rebalance ◄──────────────────────────  Rebalance                          │
//!     │                          │  ▲         join, leave, expiry                                        │
//!     └──── nobody is left ──────┘  └────────────────── join with news, leave, expiry ───────────────────┘
//! ```
//!
//! [`Group::step`] decides at once and keeps no lock, clock or socket. What must outlive the broker comes out as records: a
//! generation when its leader has assigned it (or it is empty, or a static member changed its id), and offsets. Whoever
//! calls holds every reply back until the group's records so far are committed, and forgets the whole group if one of them
//! fails: then the log says again what is true. Between two such records the group is ahead of the log only in what no
//! client may rely on (who is joining), so a new coordinator goes on from the last assigned generation.
//!
//! The parts: joining in `join`, the rebalance and what timers do in `rebalance`, the other requests in `requests`.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::error::GroupError;
use super::message::{Input, Join, Joined, JoinedMember, Limits, Now, Outputs, Protocol, Reply, ReplyTo};
use super::offsets::Offsets;
use super::records::{GenerationMember, GroupGeneration, Record};
use super::subscription;
use super::timers::{TimerKey, Timers};
use crate::types::TimestampMs;

/// A group that is deleted is gone; `Dead` is only what is said of groups that are not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    Empty,
    PreparingRebalance,
    CompletingRebalance,
    Stable,
}

impl State {
    pub const ALL: [State; 4] = [State::Empty, State::PreparingRebalance, State::CompletingRebalance, State::Stable];

    /// Kafka's name of it.
    pub fn name(self) -> &'static str {
        match self {
            State::Empty => "Empty",
            State::PreparingRebalance => "PreparingRebalance",
            State::CompletingRebalance => "CompletingRebalance",
            State::Stable => "Stable",
        }
    }
}

/// Why the join timer runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum JoinWait {
    /// The group was empty: more members may come. Each extension is one delay, until nothing remains.
    Initial { delay_ms: i64, remaining_ms: i64 },
    /// Members of the last generation have so long to join again.
    Rebalance,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    pub id: String,
    pub instance_id: Option<String>,
    pub client_id: String,
    pub client_host: String,
    pub rebalance_timeout_ms: i32,
    pub session_timeout_ms: i32,
    pub protocols: Vec<Protocol>,
    pub assignment: Bytes,
    pub(super) awaiting_join: Option<ReplyTo>,
    pub(super) awaiting_sync: Option<ReplyTo>,
    /// Has not been told its generation yet: it can't send heartbeats.
    pub(super) is_new: bool,
}

impl Member {
    pub fn metadata(&self, protocol: &str) -> Bytes {
        self.protocols.iter().find(|(name, _)| name == protocol).map(|(_, bytes)| bytes.clone()).unwrap_or_default()
    }

    /// What it counts for, in bytes.
    pub(super) fn metadata_bytes(&self) -> usize {
        counted_bytes(&self.protocols, self.assignment.len())
    }

    /// Gives it an assignment; `of_all` is what the group's members count for.
    pub(super) fn assign(&mut self, assignment: Bytes, of_all: &mut usize) {
        *of_all -= self.metadata_bytes();
        self.assignment = assignment;
        *of_all += self.metadata_bytes();
    }

    pub(super) fn from_join(join: &Join, id: String) -> Member {
        Member {
            id,
            instance_id: join.instance_id.clone(),
            client_id: join.client_id.clone(),
            client_host: join.client_host.clone(),
            rebalance_timeout_ms: join.rebalance_timeout_ms,
            session_timeout_ms: join.session_timeout_ms,
            protocols: join.protocols.clone(),
            assignment: Bytes::new(),
            awaiting_join: Some(join.reply),
            awaiting_sync: None,
            is_new: true,
        }
    }
}

/// What a step works with.
pub(super) struct Step<'a> {
    pub limits: &'a Limits,
    /// What the members of all groups hold, in bytes.
    pub held: usize,
    pub now: Now,
    pub out: &'a mut Outputs,
}

/// One group and its offsets. A group without protocol type only stores offsets ("simple group").
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    pub(super) id: String,
    pub(super) state: State,
    /// PreparingRebalance was entered from Empty: the initial delay runs.
    pub(super) initial: bool,
    pub(super) generation: i32,
    pub(super) protocol_type: Option<String>,
    pub(super) protocol_name: Option<String>,
    pub(super) leader: Option<String>,
    pub(super) members: BTreeMap<String, Member>,
    /// Instance id to member id.
    pub(super) statics: BTreeMap<String, String>,
    /// Ids given out to members that have not come back with them (KIP-394).
    pub(super) pending_join: BTreeSet<String>,
    pub(super) pending_sync: BTreeSet<String>,
    pub(super) joiner_came: bool,
    pub(super) join_wait: Option<JoinWait>,
    pub(super) state_since_ms: Option<TimestampMs>,
    /// `None`: not a consumer group, or its subscriptions can't be read.
    pub(super) subscribed: Option<BTreeSet<String>>,
    /// A record of the group's generation stands in the log.
    pub(super) stored: bool,
    pub(super) timers: Timers,
    /// What the members count for, in bytes.
    pub(super) metadata_bytes: usize,
    /// What they counted for when the generation became stable: so much the group may have again after a rebalance, and counts for until then.
    pub(super) reserved_bytes: usize,
    pub offsets: Offsets,
}

impl Group {
    pub fn new(id: &str, now: Now) -> Group {
        Group {
            id: id.to_owned(),
            state: State::Empty,
            initial: false,
            generation: 0,
            protocol_type: None,
            protocol_name: None,
            leader: None,
            members: BTreeMap::new(),
            statics: BTreeMap::new(),
            pending_join: BTreeSet::new(),
            pending_sync: BTreeSet::new(),
            joiner_came: false,
            join_wait: None,
            state_since_ms: Some(now.wall_ms),
            subscribed: None,
            stored: false,
            timers: Timers::default(),
            metadata_bytes: 0,
            reserved_bytes: 0,
            offsets: Offsets::default(),
        }
    }

    /// Decides on one input and lets fire what is due. `held`: what the members of all groups hold, in bytes.
    pub fn step(&mut self, limits: &Limits, held: usize, input: Input, now: Now) -> Outputs {
        let mut out = Outputs::default();
        let mut step = Step { limits, held, now, out: &mut out };
        match input {
            Input::Join(join) => self.join(&mut step, join),
            Input::Sync(sync) => self.sync(&mut step, sync),
            Input::Heartbeat(heartbeat) => self.heartbeat(&mut step, heartbeat),
            Input::Leave(leave) => self.leave(&mut step, leave),
            Input::Commit(commit) => self.commit(&mut step, commit),
            Input::DeleteOffsets(delete) => self.delete_offsets(&mut step, delete),
            Input::DeleteGroup(reply) => self.delete(&mut step, reply),
            Input::ExpireOffsets => self.expire_offsets(&mut step),
            Input::TopicsDeleted(topics) => self.topics_deleted(&mut step, &topics),
            Input::TopicIdsDeleted(ids) => self.topic_ids_deleted(&mut step, &ids),
            Input::Tick => {}
        }
        self.fire_due(&mut step);
        out
    }

    /// When the next timer falls due, in milliseconds of the steady clock.
    pub fn next_deadline(&self) -> Option<i64> {
        self.timers.next_deadline()
    }

    /// Nothing is left that anybody could ask for: neither in the log nor in memory.
    pub fn is_vacant(&self) -> bool {
        !self.stored && self.state == State::Empty && self.pending_join.is_empty() && self.offsets.is_empty()
    }

    pub fn id(&self) -> &str {
        &self.id
    }

    /// The member that joins again: the one of its id, or the one whose place its instance takes.
    pub(super) fn known(&self, join: &Join) -> Option<&Member> {
        let instance_id = join.instance_id.as_ref().filter(|_| join.member_id.is_empty());
        let member_id = instance_id.map_or(Some(&join.member_id), |instance_id| self.statics.get(instance_id));
        self.members.get(member_id?)
    }

    /// What the members brought along and were assigned, in bytes; each counts for [`Limits::LEAST_MEMBER_BYTES`] at least. During a rebalance
    /// no less than before it.
    pub fn metadata_bytes(&self) -> usize {
        self.metadata_bytes.max(self.reserved_bytes)
    }

    pub fn state(&self) -> State {
        self.state
    }

    pub fn generation(&self) -> i32 {
        self.generation
    }

    pub fn protocol_type(&self) -> Option<&str> {
        self.protocol_type.as_deref()
    }

    pub fn protocol_name(&self) -> Option<&str> {
        self.protocol_name.as_deref()
    }

    pub fn leader(&self) -> Option<&str> {
        self.leader.as_deref()
    }

    /// By member id.
    pub fn members(&self) -> impl Iterator<Item = &Member> {
        self.members.values()
    }

    pub(super) fn uses_consumer_protocol(&self) -> bool {
        self.protocol_type.as_deref() == Some(subscription::CONSUMER)
    }

    /// Consumer groups whose subscriptions can't be read count as subscribed to everything.
    pub(super) fn is_subscribed(&self, topic: &str) -> bool {
        self.subscribed.as_ref().map_or_else(|| self.uses_consumer_protocol(), |topics| topics.contains(topic))
    }

    /// Whether the caller is who it says, and known.
    pub(super) fn check_member(&self, member_id: &str, instance_id: Option<&str>) -> Result<(), GroupError> {
        if let Some(instance_id) = instance_id {
            match self.statics.get(instance_id) {
                None => return Err(GroupError::UnknownMember),
                Some(id) if id != member_id => return Err(GroupError::FencedInstance),
                Some(_) => {}
            }
        }
        if self.members.contains_key(member_id) { Ok(()) } else { Err(GroupError::UnknownMember) }
    }

    pub(super) fn enter(&mut self, state: State, now: Now) {
        self.initial = state == State::PreparingRebalance && self.state == State::Empty;
        self.state = state;
        self.state_since_ms = Some(now.wall_ms);
        self.reserve();
    }

    /// To be called in a new state.
    pub(super) fn reserve(&mut self) {
        match self.state {
            State::Stable => self.reserved_bytes = self.metadata_bytes,
            State::PreparingRebalance | State::CompletingRebalance => {}
            _ => self.reserved_bytes = 0,
        }
    }

    pub(super) fn is_leader(&self, member_id: &str) -> bool {
        self.leader.as_deref() == Some(member_id)
    }

    pub(super) fn all_joined(&self) -> bool {
        self.pending_join.is_empty() && self.members.values().all(|member| member.awaiting_join.is_some())
    }

    /// The longest of the members'; at least a millisecond, whatever they ask for.
    pub(super) fn rebalance_timeout_ms(&self) -> i64 {
        self.members.values().map(|member| i64::from(member.rebalance_timeout_ms)).max().unwrap_or(0).max(1)
    }

    /// Takes a member out. The caller answers what it waits for before.
    pub(super) fn remove_member(&mut self, member_id: &str) {
        if let Some(member) = self.members.remove(member_id) {
            self.metadata_bytes -= member.metadata_bytes();
            if let Some(instance_id) = &member.instance_id {
                self.statics.remove(instance_id);
            }
        }
        if self.is_leader(member_id) {
            self.leader = self.members.keys().next().cloned();
        }
        self.pending_join.remove(member_id);
        self.pending_sync.remove(member_id);
        self.timers.cancel_member(member_id);
    }

    pub(super) fn add_member(&mut self, member: Member) {
        if self.members.is_empty() {
            self.leader = None;
        }
        if let Some(instance_id) = &member.instance_id {
            self.statics.insert(instance_id.clone(), member.id.clone());
        }
        self.leader.get_or_insert_with(|| member.id.clone());
        self.pending_join.remove(&member.id);
        self.metadata_bytes += member.metadata_bytes();
        self.members.insert(member.id.clone(), member);
    }

    /// Protocols that all members have, in the leader's order.
    pub(super) fn common_protocols(&self) -> Vec<&str> {
        let first = self.leader.as_ref().and_then(|id| self.members.get(id)).or_else(|| self.members.values().next());
        let Some(first) = first else { return Vec::new() };
        let names = first.protocols.iter().map(|(name, _)| name.as_str());
        names.filter(|name| self.members.values().all(|member| has_protocol(&member.protocols, name))).collect()
    }

    /// Whether a member with these protocols may join: it must share one with everybody.
    pub(super) fn supports(&self, protocol_type: &str, protocols: &[Protocol]) -> bool {
        if self.state == State::Empty {
            return !protocol_type.is_empty() && !protocols.is_empty();
        }
        let same_type = self.protocol_type.as_deref() == Some(protocol_type);
        // A rebalance whose members have all gone away has nobody to disagree with.
        same_type
            && protocols
                .iter()
                .any(|(name, _)| self.members.values().all(|member| has_protocol(&member.protocols, name)))
    }

    /// Each member votes for the first of its protocols that all have; the most votes win, the leader's order breaks ties.
    pub(super) fn select_protocol(&self) -> Option<String> {
        let common = self.common_protocols();
        let votes = |candidate: &str| {
            let vote_of = |member: &Member| {
                member.protocols.iter().map(|(name, _)| name.as_str()).find(|name| common.contains(name))
                    == Some(candidate)
            };
            self.members.values().filter(|member| vote_of(member)).count()
        };
        let best = common.iter().rev().max_by_key(|candidate| votes(candidate))?;
        Some((*best).to_owned())
    }

    pub(super) fn compute_subscribed(&self) -> Option<BTreeSet<String>> {
        if !self.uses_consumer_protocol() {
            return None;
        }
        if self.members.is_empty() {
            return Some(BTreeSet::new());
        }
        let protocol = self.protocol_name.as_ref()?;
        let mut all = BTreeSet::new();
        for member in self.members.values() {
            all.extend(subscription::topics(&member.metadata(protocol)).ok()?);
        }
        Some(all)
    }

    pub(super) fn set_session_timer(&mut self, now: Now, member_id: &str) {
        if let Some(member) = self.members.get(member_id) {
            let timeout_ms = i64::from(member.session_timeout_ms);
            self.timers.set(TimerKey::Member(member_id.to_owned()), now.steady_ms.saturating_add(timeout_ms.max(1)));
        }
    }

    /// What the members of the current generation get as the answer to their join.
    pub(super) fn joined(&self, member_id: &str, with_members: bool) -> Joined {
        Joined {
            error: None,
            generation: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol_name: self.protocol_name.clone(),
            leader: self.leader.clone().unwrap_or_default(),
            member_id: member_id.to_owned(),
            skip_assignment: false,
            members: if with_members { self.joined_members() } else { Vec::new() },
        }
    }

    fn joined_members(&self) -> Vec<JoinedMember> {
        let protocol = self.protocol_name.as_deref().unwrap_or("");
        let joined = |member: &Member| JoinedMember {
            member_id: member.id.clone(),
            instance_id: member.instance_id.clone(),
            metadata: member.metadata(protocol),
        };
        self.members.values().map(joined).collect()
    }

    /// The record of the current generation, with these assignments.
    pub(super) fn generation_record(&self, assignment: impl Fn(&Member) -> Bytes) -> Record {
        let protocol = self.protocol_name.as_deref().unwrap_or("");
        let members = self.members.values().map(|member| GenerationMember {
            member_id: member.id.clone(),
            instance_id: member.instance_id.clone(),
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            rebalance_timeout_ms: member.rebalance_timeout_ms,
            session_timeout_ms: member.session_timeout_ms,
            subscription: member.metadata(protocol),
            assignment: assignment(member),
        });
        let value = GroupGeneration {
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            generation: self.generation,
            protocol: self.protocol_name.clone(),
            leader: self.leader.clone(),
            state_since_ms: self.state_since_ms,
            members: members.collect(),
        };
        Record::Group { group: self.id.clone(), value: Some(value) }
    }

    pub(super) fn store_generation(&mut self, step: &mut Step<'_>) {
        let record = self.generation_record(|member| member.assignment.clone());
        self.stored = true;
        step.out.records.push(record);
    }

    pub(super) fn answer_join(&mut self, step: &mut Step<'_>, member_id: &str, joined: Joined) -> bool {
        let waiting = self.members.get_mut(member_id).and_then(|member| member.awaiting_join.take());
        if let Some(to) = waiting {
            step.out.reply(to, Reply::Join(joined));
        }
        waiting.is_some()
    }
}

/// What a member with these protocols and so many bytes of assignment counts for.
pub(super) fn counted_bytes(protocols: &[Protocol], assignment_bytes: usize) -> usize {
    let brought: usize = protocols.iter().map(|(name, bytes)| name.len() + bytes.len()).sum();
    (brought + assignment_bytes).max(Limits::LEAST_MEMBER_BYTES)
}

fn has_protocol(protocols: &[Protocol], name: &str) -> bool {
    protocols.iter().any(|(own, _)| own == name)
}
