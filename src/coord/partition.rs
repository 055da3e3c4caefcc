//! The groups of one partition of `__consumer_offsets`: replay, routing of inputs, timers of all groups. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::codec::DecodeError;
use super::error::GroupError;
use super::group::{Group, counted_bytes};
use super::log::CoordRecord;
use super::message::{Input, Joined, Limits, Now, Outputs, Reply};
use super::records::{Decoded, Record};
use crate::types::TopicId;

/// All groups whose id falls on one partition.
#[derive(Clone, Debug)]
pub struct Partition {
    limits: Limits,
    groups: BTreeMap<String, Group>,
    /// Next deadline of each group that has one, and the same by time.
    deadlines: BTreeMap<String, i64>,
    by_time: BTreeSet<(i64, String)>,
    /// When offsets are looked through for expired ones, on the steady clock.
    next_expiry_ms: i64,
    unknown_records: u64,
    /// Of all groups' members.
    metadata: Metadata,
}

/// Bytes that members brought along and were assigned: of this partition, and of all that this broker coordinates.
#[derive(Debug, Default)]
struct Metadata {
    own: usize,
    all: Arc<AtomicUsize>,
}

impl Metadata {
    fn set(&mut self, own: usize) {
        self.all.fetch_add(own, Ordering::Relaxed);
        self.all.fetch_sub(self.own, Ordering::Relaxed);
        self.own = own;
    }
}

impl Clone for Metadata {
    fn clone(&self) -> Metadata {
        let mut clone = Metadata { own: 0, all: self.all.clone() };
        clone.set(self.own);
        clone
    }
}

impl Drop for Metadata {
    fn drop(&mut self) {
        self.set(0);
    }
}

impl Partition {
    pub fn new(limits: Limits) -> Partition {
        Partition::beside(limits, Arc::default())
    }

    /// `all`: the metadata of all partitions' members, in bytes.
    pub fn beside(limits: Limits, all: Arc<AtomicUsize>) -> Partition {
        Partition {
            limits,
            groups: BTreeMap::new(),
            deadlines: BTreeMap::new(),
            by_time: BTreeSet::new(),
            next_expiry_ms: i64::MAX,
            unknown_records: 0,
            metadata: Metadata { own: 0, all },
        }
    }

    /// Applies one record of the log. Key types that are not known are counted and left alone; a known key with a value that
    /// can't be read is an error, for guessing would lose somebody's place.
    pub fn replay(&mut self, record: &CoordRecord) -> Result<(), DecodeError> {
        let record = match Record::decode(record)? {
            Decoded::Known(record) => record,
            Decoded::Unknown(_) => {
                self.unknown_records += 1;
                return Ok(());
            }
        };
        let id = record.group().to_owned();
        // The time stands for nothing: a generation's record brings its own, offsets have theirs.
        let start = Now { wall_ms: 0, steady_ms: 0 };
        let group = self.groups.entry(id.clone()).or_insert_with(|| Group::new(&id, start));
        group.restore(record);
        if group.is_vacant() {
            self.groups.remove(&id);
        }
        Ok(())
    }

    /// After the replay: sessions start anew, and groups over their size shrink.
    pub fn loaded(&mut self, now: Now) -> Vec<(String, Outputs)> {
        self.next_expiry_ms = now.steady_ms.saturating_add(self.limits.retention_check_interval_ms);
        let mut outputs = Vec::new();
        self.metadata.set(self.groups.values().map(Group::metadata_bytes).sum());
        for id in self.groups.keys().cloned().collect::<Vec<_>>() {
            if let Some(group) = self.groups.get_mut(&id) {
                let before = group.metadata_bytes();
                let out = group.resume(&self.limits, now);
                self.settle(&id, before);
                outputs.push((id, out));
            }
        }
        outputs
    }

    /// Decides on an input to one group; a group is created where Kafka creates one.
    pub fn step(&mut self, id: &str, input: Input, now: Now) -> Outputs {
        let held = self.metadata.all.load(Ordering::Relaxed);
        if !self.limits.has_room(held, self.growth(id, &input)) {
            return refuse_absent(input, Some(GroupError::NotAvailable));
        }
        if !self.groups.contains_key(id) {
            if !creates_group(&input) {
                return refuse_absent(input, None);
            }
            if self.groups.len() >= self.limits.max_groups {
                return refuse_absent(input, Some(GroupError::NotAvailable));
            }
            self.groups.insert(id.to_owned(), Group::new(id, now));
        }
        let Some(group) = self.groups.get_mut(id) else { return Outputs::default() };
        let before = group.metadata_bytes();
        let outputs = group.step(&self.limits, held, input, now);
        self.settle(id, before);
        outputs
    }

    /// Fires all timers that are due, in order of time and group.
    pub fn tick(&mut self, now: Now) -> Vec<(String, Outputs)> {
        let mut outputs = Vec::new();
        while let Some((at_ms, id)) = self.by_time.first().cloned() {
            if at_ms > now.steady_ms {
                break;
            }
            let out = self.step(&id, Input::Tick, now);
            outputs.push((id, out));
        }
        if now.steady_ms >= self.next_expiry_ms {
            self.next_expiry_ms = now.steady_ms.saturating_add(self.limits.retention_check_interval_ms);
            outputs.extend(self.step_all(&Input::ExpireOffsets, now));
        }
        outputs
    }

    /// Gives one input to every group; only groups that had something to say are in the result.
    pub fn step_all(&mut self, input: &Input, now: Now) -> Vec<(String, Outputs)> {
        let mut outputs = Vec::new();
        for id in self.groups.keys().cloned().collect::<Vec<_>>() {
            let out = self.step(&id, input.clone(), now);
            if out != Outputs::default() {
                outputs.push((id, out));
            }
        }
        outputs
    }

    pub fn next_deadline(&self) -> i64 {
        self.by_time.first().map_or(self.next_expiry_ms, |(at_ms, _)| (*at_ms).min(self.next_expiry_ms))
    }

    pub fn group(&self, id: &str) -> Option<&Group> {
        self.groups.get(id)
    }

    #[cfg(test)]
    pub(super) fn group_mut(&mut self, id: &str) -> Option<&mut Group> {
        self.groups.get_mut(id)
    }

    /// By group id.
    pub fn groups(&self) -> impl Iterator<Item = &Group> {
        self.groups.values()
    }

    /// Ids of all topics that groups have offsets of. Offsets without an id add none.
    pub fn topic_ids(&self) -> BTreeSet<TopicId> {
        let offsets = self.groups.values().flat_map(|group| group.offsets.iter());
        let mut ids = BTreeSet::new();
        // Not collected: that would first make a list of all offsets' ids.
        ids.extend(offsets.map(|(_, _, offset)| offset.topic_id).filter(|id| !id.is_zero()));
        ids
    }

    /// Records of newer group types that were passed over.
    pub fn unknown_records(&self) -> u64 {
        self.unknown_records
    }

    /// How many bytes more a member would count for after the input, if that is a join: all that a new one brings, and what a known one
    /// brings more than before. (Assignments are looked at when the group takes them.)
    fn growth(&self, id: &str, input: &Input) -> usize {
        let Input::Join(join) = input else { return 0 };
        let known = self.groups.get(id).and_then(|group| group.known(join));
        let (assigned, before) = known.map_or((0, 0), |member| (member.assignment.len(), member.metadata_bytes()));
        counted_bytes(&join.protocols, assigned).saturating_sub(before)
    }

    /// After a step: counts what the group's members hold now, drops a group that is vacant, files its next deadline.
    fn settle(&mut self, id: &str, metadata_bytes_before: usize) {
        let metadata_bytes = self.groups.get(id).map_or(0, Group::metadata_bytes);
        self.metadata.set(self.metadata.own + metadata_bytes - metadata_bytes_before);
        let vacant = self.groups.get(id).is_none_or(Group::is_vacant);
        if vacant {
            self.groups.remove(id);
        }
        let deadline = self.groups.get(id).and_then(Group::next_deadline);
        if self.deadlines.get(id).copied() == deadline {
            return;
        }
        if let Some(before) = self.deadlines.remove(id) {
            self.by_time.remove(&(before, id.to_owned()));
        }
        if let Some(at_ms) = deadline {
            self.deadlines.insert(id.to_owned(), at_ms);
            self.by_time.insert((at_ms, id.to_owned()));
        }
    }
}

fn creates_group(input: &Input) -> bool {
    match input {
        Input::Join(join) => join.member_id.is_empty(),
        Input::Commit(commit) => commit.generation < 0,
        _ => false,
    }
}

/// What callers are told of a group that does not exist; `error` stands above the usual one.
fn refuse_absent(input: Input, error: Option<GroupError>) -> Outputs {
    let mut out = Outputs::default();
    let or = |usual: GroupError| error.unwrap_or(usual);
    match input {
        Input::Join(join) => {
            out.reply(join.reply, Reply::Join(Joined::refused(join.member_id, or(GroupError::UnknownMember))));
        }
        Input::Sync(sync) => out.reply(sync.reply, Reply::Sync(Err(or(GroupError::UnknownMember)))),
        Input::Heartbeat(heartbeat) => out.reply(heartbeat.reply, Reply::Heartbeat(Err(or(GroupError::UnknownMember)))),
        Input::Leave(leave) => {
            let unknown = leave.members.into_iter().map(|name| (name, Err(or(GroupError::UnknownMember))));
            out.reply(leave.reply, Reply::Leave(unknown.collect()));
        }
        Input::Commit(commit) => {
            let usual =
                if commit.knows_group_not_found { GroupError::GroupNotFound } else { GroupError::IllegalGeneration };
            out.reply(commit.reply, Reply::Partitions(Err(or(usual))));
        }
        Input::DeleteOffsets(delete) => {
            out.reply(delete.reply, Reply::Partitions(Err(or(GroupError::GroupNotFound))));
        }
        Input::DeleteGroup(reply) => out.reply(reply, Reply::Deleted(Err(or(GroupError::GroupNotFound)))),
        Input::Tick | Input::ExpireOffsets | Input::TopicsDeleted(_) | Input::TopicIdsDeleted(_) => {}
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modest_members_find_room_when_immodest_ones_took_it() {
        let limits = Limits { max_metadata_bytes: 100_000, ..Limits::from_settings(&Default::default()) };
        for (all, brings, expected) in [
            (100_000, 1 << 20, true),
            (100_001, 4097, false),
            (100_001, 4096, true),
            (200_000, 4096, true),
            (200_001, 1, false),
            (200_001, 0, true),
        ] {
            assert_eq!(limits.has_room(all, brings), expected, "{brings} beside {all}");
        }
    }

    #[test]
    fn partitions_count_together_as_long_as_they_live() {
        let all = Arc::new(AtomicUsize::new(0));
        let count = || all.load(Ordering::Relaxed);
        let (mut one, mut two) = (Metadata { own: 0, all: all.clone() }, Metadata { own: 0, all: all.clone() });
        one.set(5);
        two.set(7);
        one.set(3);
        assert_eq!(count(), 10);
        let third = two.clone();
        assert_eq!(count(), 17);
        drop((two, third));
        assert_eq!(count(), 3);
    }
}
