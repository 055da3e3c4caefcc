//! SyncGroup, Heartbeat, LeaveGroup, OffsetCommit, OffsetDelete, DeleteGroups, and the expiry of offsets.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::error::GroupError;
use super::group::{Group, State, Step, counted_bytes};
use super::message::{
    Commit, CommitPartition, DeleteOffsets, Heartbeat, Leave, Limits, MemberName, Reply, ReplyTo, Sync, Synced,
};
use super::offsets::{Offsets, RetentionBase, is_expired, tombstone};
use super::records::{CommittedOffset, Record};
use super::timers::TimerKey;
use crate::types::TopicId;
use crate::types::mentions::{any_twice, last_mentions};

impl Group {
    pub(super) fn sync(&mut self, step: &mut Step<'_>, sync: Sync) {
        if let Err(error) = self.check_sync(&sync) {
            return step.out.reply(sync.reply, Reply::Sync(Err(error)));
        }
        self.pending_sync.remove(&sync.member_id);
        if self.pending_sync.is_empty() {
            self.timers.cancel(&TimerKey::Sync);
        }
        if self.state == State::Stable {
            let synced = self.synced(&sync.member_id);
            return step.out.reply(sync.reply, Reply::Sync(Ok(synced)));
        }
        if let Some(member) = self.members.get_mut(&sync.member_id)
            && let Some(earlier) = member.awaiting_sync.replace(sync.reply)
        {
            step.out.reply(earlier, Reply::Sync(Err(GroupError::RebalanceInProgress)));
        }
        if self.is_leader(&sync.member_id) {
            self.assign(step, sync.assignments);
        }
    }

    fn check_sync(&self, sync: &Sync) -> Result<(), GroupError> {
        self.check_member(&sync.member_id, sync.instance_id.as_deref())?;
        if sync.generation != self.generation {
            return Err(GroupError::IllegalGeneration);
        }
        let differs =
            |theirs: &Option<String>, ours: &Option<String>| theirs.is_some() && ours.is_some() && theirs != ours;
        if differs(&sync.protocol_type, &self.protocol_type) || differs(&sync.protocol_name, &self.protocol_name) {
            return Err(GroupError::InconsistentProtocol);
        }
        match self.state {
            State::Empty => Err(GroupError::UnknownMember),
            State::PreparingRebalance => Err(GroupError::RebalanceInProgress),
            State::CompletingRebalance | State::Stable => Ok(()),
        }
    }

    /// The leader has assigned: the generation is stored and becomes stable, everybody gets its part. Members that the leader
    /// left out get nothing; ids that are not members are ignored.
    fn assign(&mut self, step: &mut Step<'_>, assignments: Vec<(String, Bytes)>) {
        let mut assignments: BTreeMap<String, Bytes> = assignments.into_iter().collect();
        if !self.have_room(step, &assignments) {
            return self.refuse_assignments(step, GroupError::NotAvailable);
        }
        for member in self.members.values_mut() {
            let assignment = assignments.remove(&member.id).unwrap_or_default();
            member.assign(assignment, &mut self.metadata_bytes);
        }
        let before = (self.state, self.state_since_ms, self.reserved_bytes);
        self.enter(State::Stable, step.now);
        let record = self.generation_record(|member| member.assignment.clone());
        if record.encode().size() > step.limits.max_record_bytes {
            (self.state, self.state_since_ms, self.reserved_bytes) = before;
            return self.refuse_assignments(step, GroupError::TooLarge);
        }
        self.stored = true;
        step.out.records.push(record);
        for member_id in self.members.keys().cloned().collect::<Vec<_>>() {
            let synced = self.synced(&member_id);
            if self.answer_sync(step, &member_id, Ok(synced)) {
                self.set_session_timer(step.now, &member_id);
            }
        }
    }

    /// Whether the members may hold these assignments in place of what they have. Modest is a group where none of them gets much more.
    fn have_room(&self, step: &Step<'_>, assignments: &BTreeMap<String, Bytes>) -> bool {
        let (mut after, mut most) = (0, 0);
        for member in self.members.values() {
            let bytes = counted_bytes(&member.protocols, assignments.get(&member.id).map_or(0, Bytes::len));
            after += bytes;
            most = most.max(bytes.saturating_sub(member.metadata_bytes()));
        }
        after <= self.metadata_bytes() || step.limits.has_room(step.held, most)
    }

    /// Nobody gets anything, all join again: the next generation may be a smaller one, or find room.
    fn refuse_assignments(&mut self, step: &mut Step<'_>, error: GroupError) {
        self.drop_assignments(step, error);
        self.prepare_rebalance(step);
    }

    fn synced(&self, member_id: &str) -> Synced {
        Synced {
            protocol_type: self.protocol_type.clone(),
            protocol_name: self.protocol_name.clone(),
            assignment: self.members.get(member_id).map(|member| member.assignment.clone()).unwrap_or_default(),
        }
    }

    pub(super) fn heartbeat(&mut self, step: &mut Step<'_>, heartbeat: Heartbeat) {
        let result = self.check_heartbeat(&heartbeat);
        if matches!(result, Ok(()) | Err(GroupError::RebalanceInProgress)) {
            self.set_session_timer(step.now, &heartbeat.member_id);
        }
        step.out.reply(heartbeat.reply, Reply::Heartbeat(result));
    }

    fn check_heartbeat(&self, heartbeat: &Heartbeat) -> Result<(), GroupError> {
        self.check_member(&heartbeat.member_id, heartbeat.instance_id.as_deref())?;
        if heartbeat.generation != self.generation {
            return Err(GroupError::IllegalGeneration);
        }
        match self.state {
            State::Empty => Err(GroupError::UnknownMember),
            State::PreparingRebalance => Err(GroupError::RebalanceInProgress),
            State::CompletingRebalance | State::Stable => Ok(()),
        }
    }

    pub(super) fn leave(&mut self, step: &mut Step<'_>, leave: Leave) {
        let mut results = Vec::with_capacity(leave.members.len());
        let (mut left, mut pending_left) = (false, false);
        for name in leave.members {
            let result = if self.pending_join.remove(&name.member_id) {
                self.timers.cancel_member(&name.member_id);
                pending_left = true;
                Ok(())
            } else {
                self.leave_one(step, &name).inspect(|()| left = true)
            };
            results.push((name, result));
        }
        step.out.reply(leave.reply, Reply::Leave(results));
        if left || pending_left {
            self.go_on_without(step, left);
        }
    }

    /// Without a member id the instance id decides: an administrator removes a static member (KIP-571).
    fn leave_one(&mut self, step: &mut Step<'_>, name: &MemberName) -> Result<(), GroupError> {
        let member_id = match &name.instance_id {
            Some(instance_id) if name.member_id.is_empty() => {
                self.statics.get(instance_id).cloned().ok_or(GroupError::UnknownMember)?
            }
            instance_id => {
                self.check_member(&name.member_id, instance_id.as_deref())?;
                name.member_id.clone()
            }
        };
        self.expel(step, &member_id);
        Ok(())
    }

    pub(super) fn commit(&mut self, step: &mut Step<'_>, commit: Commit) {
        if let Err(error) = self.check_commit(&commit) {
            return step.out.reply(commit.reply, Reply::Partitions(Err(error)));
        }
        if matches!(self.state, State::Stable | State::PreparingRebalance) {
            self.set_session_timer(step.now, &commit.member_id);
        }
        let expire_ms = commit.retention_ms.map(|retention_ms| step.now.wall_ms.saturating_add(retention_ms));
        let too_large = |partition: &CommitPartition| {
            // Kafka counts UTF-16 units, not bytes.
            let units = partition.metadata.encode_utf16().count();
            units > step.limits.offset_metadata_max_bytes
                || partition.metadata.len() > Limits::MAX_OFFSET_METADATA_BYTES
        };
        let result = |partition| if too_large(partition) { Err(GroupError::OffsetMetadataTooLarge) } else { Ok(()) };
        let results = commit.partitions.iter().map(result).collect();
        let mut stored = commit.partitions;
        stored.retain(|partition| !too_large(partition));
        // A request may name one partition a hundred thousand times; what its log would hold of them but the last is nothing to anybody.
        if any_twice(stored.iter().map(|partition| (partition.topic.as_str(), partition.partition))) {
            stored = last_mentions(stored, |partition| (partition.topic.clone(), partition.partition));
        }
        for partition in stored {
            let value = CommittedOffset {
                offset: partition.offset,
                leader_epoch: partition.leader_epoch,
                metadata: partition.metadata,
                commit_ms: step.now.wall_ms,
                expire_ms,
                topic_id: partition.topic_id,
            };
            self.offsets.set(&partition.topic, partition.partition, value.clone());
            step.out.records.push(Record::Offset {
                group: self.id.clone(),
                topic: partition.topic,
                partition: partition.partition,
                value: Some(value),
            });
        }
        step.out.reply(commit.reply, Reply::Partitions(Ok(results)));
    }

    fn check_commit(&self, commit: &Commit) -> Result<(), GroupError> {
        if commit.generation < 0 && self.state == State::Empty {
            return Ok(());
        }
        if commit.generation < 0 && commit.member_id.is_empty() && commit.instance_id.is_none() {
            return Err(GroupError::UnknownMember);
        }
        self.check_member(&commit.member_id, commit.instance_id.as_deref())?;
        if commit.generation != self.generation {
            return Err(GroupError::IllegalGeneration);
        }
        if self.state == State::CompletingRebalance {
            return Err(GroupError::RebalanceInProgress);
        }
        Ok(())
    }

    pub(super) fn delete_offsets(&mut self, step: &mut Step<'_>, delete: DeleteOffsets) {
        if self.state != State::Empty && !self.uses_consumer_protocol() {
            return step.out.reply(delete.reply, Reply::Partitions(Err(GroupError::NonEmpty)));
        }
        let mut results = Vec::with_capacity(delete.partitions.len());
        for (topic, partition) in delete.partitions {
            if self.is_subscribed(&topic) {
                results.push(Err(GroupError::Subscribed));
                continue;
            }
            if self.offsets.remove(&topic, partition) {
                step.out.records.push(tombstone(&self.id, &topic, partition));
            }
            results.push(Ok(()));
        }
        step.out.reply(delete.reply, Reply::Partitions(Ok(results)));
    }

    /// Only an empty group can be deleted. The caller drops it when nothing is left ([`Group::is_vacant`]).
    pub(super) fn delete(&mut self, step: &mut Step<'_>, reply: ReplyTo) {
        if self.state != State::Empty {
            return step.out.reply(reply, Reply::Deleted(Err(GroupError::NonEmpty)));
        }
        self.offsets.remove_where(&self.id, &mut step.out.records, |_, _, _| true);
        self.pending_join.iter().for_each(|id| self.timers.cancel_member(id));
        self.pending_join.clear();
        self.bury(step);
        step.out.reply(reply, Reply::Deleted(Ok(())));
    }

    /// Takes the generation out of the log.
    fn bury(&mut self, step: &mut Step<'_>) {
        if self.stored {
            step.out.records.push(Record::Group { group: self.id.clone(), value: None });
            self.stored = false;
        }
    }

    /// Offsets whose retention is over go; an empty group without offsets goes as well (KIP-211).
    pub(super) fn expire_offsets(&mut self, step: &mut Step<'_>) {
        let base = match (&self.protocol_type, self.state) {
            (None, _) => Some(RetentionBase::Commit),
            (Some(_), State::Empty) => Some(RetentionBase::EmptySince(self.state_since_ms)),
            (Some(_), State::Stable) if self.uses_consumer_protocol() && self.subscribed.is_some() => {
                Some(RetentionBase::Commit)
            }
            (Some(_), _) => None,
        };
        if let Some(base) = base {
            let (now, retention_ms) = (step.now, step.limits.offsets_retention_ms);
            let mut offsets = std::mem::take(&mut self.offsets);
            offsets.remove_where(&self.id, &mut step.out.records, |topic, _, offset| {
                !self.is_subscribed(topic) && is_expired(offset, base, now, retention_ms)
            });
            self.offsets = offsets;
        }
        if self.state == State::Empty && self.pending_join.is_empty() && self.offsets.is_empty() {
            self.bury(step);
        }
    }

    pub(super) fn topics_deleted(&mut self, step: &mut Step<'_>, topics: &[(String, TopicId)]) {
        self.offsets.remove_where(&self.id, &mut step.out.records, |topic, _, offset| {
            topics.iter().any(|(name, id)| name == topic && Offsets::belongs_to(offset, *id))
        });
    }

    pub(super) fn topic_ids_deleted(&mut self, step: &mut Step<'_>, ids: &BTreeSet<TopicId>) {
        self.offsets.remove_where(&self.id, &mut step.out.records, |_, _, offset| ids.contains(&offset.topic_id));
    }
}
