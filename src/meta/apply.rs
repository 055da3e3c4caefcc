//! How an entry changes the image. Pure, and the same on every broker and for ever: what an entry of a version does may not change.
//!
//! Rules are the proposer's ([`super::rules`]); `apply` refuses no known change. A change whose rule does not hold, which no
//! proposer that obeys them appends, has no effect at all; each case is listed at its function. So a mistake in one broker
//! stays a mistake that all brokers see alike. But for one thing: the image's level is never below an applied change's version.

use std::collections::{BTreeMap, BTreeSet};

use super::entry::{Change, ConfigResource, ENTRY_VERSION, Endpoint, Entry, TransferredPartitions};
use super::hash;
use super::image::{Claim, Configs, Image, PartitionState, Run, Session, SessionState, Tenure, Topic};
use super::rules::PARTITIONS_MAX;
use crate::types::mutant::{self, Mutant};
use crate::types::{NodeId, Offset, Revision, RunId, SegmentNumber, SessionId, TopicId};

/// Why an entry can't be applied. The image is unchanged; the broker has to stop.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnknownEntry {
    #[error("entry version {0} is unknown to this program")]
    Version(u16),
    #[error("revision {found} does not follow revision {image}")]
    NotNext { image: Revision, found: Revision },
}

impl Image {
    /// Applies all changes of the next entry.
    pub fn apply(&mut self, entry: &Entry) -> Result<(), UnknownEntry> {
        if !(1..=ENTRY_VERSION).contains(&entry.version) {
            return Err(UnknownEntry::Version(entry.version));
        }
        if self.revision.checked_add(1) != Some(entry.revision) {
            return Err(UnknownEntry::NotNext { image: self.revision, found: entry.revision });
        }
        for change in &entry.changes {
            self.apply_change(entry.revision, change);
        }
        self.revision = entry.revision;
        Ok(())
    }

    /// One change of the entry `revision`. Does not move [`Image::revision`].
    pub(super) fn apply_change(&mut self, revision: Revision, change: &Change) {
        // Whoever reads on from here must know this version, so that is the level.
        self.level = self.level.max(change.since());
        match change {
            Change::Nop {} | Change::MoveTable { .. } | Change::RaiseLevel { .. } => {}
            Change::SetCluster { session_ttl_ms } => self.session_ttl_ms = *session_ttl_ms,
            Change::OpenSession { node_id, random, endpoints, rack } => {
                self.open_session(revision, *node_id, random, endpoints, rack.as_ref());
            }
            Change::Ready { session } => self.ready(*session),
            Change::FenceSession { session, end, ready } => self.fence_session(*session, *end, ready),
            Change::GrantVacant { ready } => {
                let candidates = self.candidates(ready);
                self.each_partition(|topic, index, partition| {
                    if partition.holder.is_none() {
                        grant(partition, topic, index, &candidates);
                    }
                });
            }
            Change::TransferLease { session, to, through, partitions } => {
                self.transfer_lease(*session, *to, *through, partitions);
            }
            Change::CreateTopic { id, name, partitions, replication_factor, configs, internal } => {
                let topic = Topic {
                    name: name.clone(),
                    replication_factor: *replication_factor,
                    internal: *internal,
                    configs: configs.clone(),
                    partitions: Vec::new(),
                };
                self.create_topic(*id, topic, *partitions);
            }
            Change::DeleteTopic { id } => self.delete_topic(*id),
            Change::CreatePartitions { id, count } => self.create_partitions(*id, *count),
            Change::AlterConfigs { resource, set } => self.alter_configs(resource, set),
            Change::AdvanceLogStart { topic, offsets } => self.advance_log_start(*topic, offsets),
            Change::AllocateProducerIds { session, count } => self.allocate_producer_ids(*session, *count),
            Change::ClaimMerge { session, from, to, by, random } => {
                let claim = Claim { session: *session, from: *from, to: *to, by: *by };
                self.claim_merge(revision, random, claim);
            }
            Change::CommitRun { claim, empty } => self.commit_run(*claim, *empty),
            Change::EndClaim { claim } => {
                self.merges.claims.remove(claim);
            }
        }
    }

    /// No effect: a random part that is not 16 hexadecimal digits; a second session of the same entry with the same random part.
    fn open_session(
        &mut self,
        revision: Revision,
        node: NodeId,
        random: &str,
        endpoints: &[Endpoint],
        rack: Option<&String>,
    ) {
        let Some(random) = parse_random(random) else { return };
        self.sessions.entry(SessionId { revision, random }).or_insert_with(|| Session {
            node_id: node,
            endpoints: endpoints.to_vec(),
            rack: rack.cloned(),
            state: SessionState::Open,
        });
    }

    /// No effect: the session is unknown, ready already, or fenced.
    fn ready(&mut self, session: SessionId) {
        if let Some(session) = self.sessions.get_mut(&session)
            && session.state == SessionState::Open
        {
            session.state = SessionState::Ready;
        }
    }

    /// No effect: the session is unknown or fenced already. Names in `ready` that are not ready get nothing.
    fn fence_session(&mut self, id: SessionId, end: SegmentNumber, ready: &[SessionId]) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        if matches!(session.state, SessionState::Fenced { .. }) {
            return;
        }
        let held_leases = session.state == SessionState::Ready;
        session.state = SessionState::Fenced { end };
        if !held_leases {
            return;
        }
        let candidates = self.candidates(ready);
        self.each_partition(|topic, index, partition| {
            // What was handed over is cut as well: a segment up to `through` may never have come to be.
            for tenure in partition.tenures.iter_mut().filter(|tenure| tenure.session == id) {
                tenure.end = Some(tenure.end.map_or(end, |through| lower(through, end)));
            }
            if partition.holder == Some(id) {
                partition.holder = None;
                grant(partition, topic, index, &candidates);
            }
        });
    }

    /// No effect: the sessions are one, or not both ready; the segment has the highest number of all. Partitions that the session
    /// does not hold are left out, and those that have no epoch left.
    fn transfer_lease(
        &mut self,
        session: SessionId,
        to: SessionId,
        through: SegmentNumber,
        partitions: &[TransferredPartitions],
    ) {
        let ready = |id| self.sessions.get(&id).is_some_and(|found| found.state == SessionState::Ready);
        let Some(end) = through.checked_add(1).filter(|_| session != to && ready(session) && ready(to)) else { return };
        for moved in partitions {
            let Some(topic) = self.topics.get_mut(&moved.topic) else { continue };
            for index in &moved.indexes {
                let Some(partition) = usize::try_from(*index).ok().and_then(|index| topic.partitions.get_mut(index))
                else {
                    continue;
                };
                let Some(epoch) = partition.epoch.checked_add(1).filter(|_| partition.holder == Some(session)) else {
                    continue;
                };
                for tenure in partition.tenures.iter_mut().filter(|tenure| tenure.end.is_none()) {
                    tenure.end = Some(end);
                }
                partition.epoch = epoch;
                partition.holder = Some(to);
                partition.tenures.push(Tenure { session: to, epoch, end: None });
            }
        }
    }

    /// No effect: the id or the name is taken, there would be no partition, or more than a topic may have.
    fn create_topic(&mut self, id: TopicId, topic: Topic, partitions: i32) {
        let taken = self.topics.contains_key(&id) || self.names.contains_key(&topic.name);
        if taken || !(1..=PARTITIONS_MAX).contains(&partitions) {
            return;
        }
        self.names.insert(topic.name.clone(), id);
        self.topics.insert(id, topic);
        self.create_partitions(id, partitions);
    }

    /// Nothing of the topic stays. No effect: it is unknown.
    fn delete_topic(&mut self, id: TopicId) {
        if let Some(topic) = self.topics.remove(&id) {
            self.names.remove(&topic.name);
        }
    }

    /// No effect: the topic is unknown, has as many partitions or more, or would have more than it may.
    fn create_partitions(&mut self, id: TopicId, count: i32) {
        if count > PARTITIONS_MAX {
            return;
        }
        let candidates: Vec<_> = self.ready_sessions().map(|(session, state)| (session, state.node_id)).collect();
        let Some(topic) = self.topics.get_mut(&id) else { return };
        let present = i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX);
        for index in present..count {
            let mut partition = PartitionState { epoch: -1, holder: None, tenures: Vec::new(), log_start: 0 };
            grant(&mut partition, id, index, &candidates);
            topic.partitions.push(partition);
        }
    }

    /// No effect: configs of an unknown topic. A thing without configs has no entry in the image.
    fn alter_configs(&mut self, resource: &ConfigResource, set: &BTreeMap<String, Option<String>>) {
        if let ConfigResource::Topic(id) = resource {
            if let Some(topic) = self.topics.get_mut(id) {
                alter(&mut topic.configs, set);
            }
            return;
        }
        let configs = self.configs.entry(resource.clone()).or_default();
        alter(configs, set);
        if configs.is_empty() {
            self.configs.remove(resource);
        }
    }

    /// No effect: unknown topic or partition, an offset that is not above the log start.
    fn advance_log_start(&mut self, topic: TopicId, offsets: &BTreeMap<i32, Offset>) {
        let Some(topic) = self.topics.get_mut(&topic) else { return };
        for (index, offset) in offsets {
            if let Some(partition) = usize::try_from(*index).ok().and_then(|index| topic.partitions.get_mut(index)) {
                partition.log_start = partition.log_start.max(*offset);
            }
        }
    }

    /// No effect: the session is unknown or fenced, or the ids would run out.
    fn allocate_producer_ids(&mut self, session: SessionId, count: u32) {
        let open = self.sessions.get(&session).is_some_and(|state| !matches!(state.state, SessionState::Fenced { .. }));
        if open && let Some(next) = self.next_producer_id.checked_add(i64::from(count)) {
            self.next_producer_id = next;
        }
    }

    /// No effect: a random part that is not 16 hexadecimal digits, an unknown session, one that has a claim already, a window that
    /// does not begin where the last one ended.
    fn claim_merge(&mut self, revision: Revision, random: &str, claim: Claim) {
        let Some(random) = parse_random(random) else { return };
        let known = self.sessions.contains_key(&claim.session) && self.merges.claim_on(claim.session).is_none();
        if known && claim.from == self.merges.merged(claim.session) && claim.from < claim.to {
            self.merges.claims.insert(RunId { revision, random }, claim);
        }
    }

    /// No effect: there is no such claim. (While it is there nobody else can have merged its window.)
    fn commit_run(&mut self, id: RunId, empty: bool) {
        let Some(claim) = self.merges.claims.remove(&id) else { return };
        let merged = self.merges.sessions.entry(claim.session).or_default();
        merged.through = claim.to;
        if !empty {
            merged.runs.push(Run { id, from: claim.from, to: claim.to });
        }
    }

    /// Those of `named` that are ready, each once.
    fn candidates(&self, named: &[SessionId]) -> Vec<(SessionId, NodeId)> {
        let named: BTreeSet<SessionId> = named.iter().copied().collect();
        self.ready_sessions().filter(|(id, _)| named.contains(id)).map(|(id, session)| (id, session.node_id)).collect()
    }

    fn each_partition(&mut self, mut visit: impl FnMut(TopicId, i32, &mut PartitionState)) {
        for (id, topic) in &mut self.topics {
            for (index, partition) in (0i32..).zip(&mut topic.partitions) {
                visit(*id, index, partition);
            }
        }
    }
}

fn lower(through: SegmentNumber, end: SegmentNumber) -> SegmentNumber {
    if mutant::on(Mutant::FenceForgetsTransfers) { through } else { through.min(end) }
}

/// The random part of a session id as it stands in entries.
pub(super) fn parse_random(text: &str) -> Option<u64> {
    let digits = text.len() == 16 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    if digits { u64::from_str_radix(text, 16).ok() } else { None }
}

fn alter(configs: &mut Configs, set: &BTreeMap<String, Option<String>>) {
    for (key, value) in set {
        match value {
            Some(value) => configs.insert(key.clone(), value.clone()),
            None => configs.remove(key),
        };
    }
}

/// Gives a vacant partition its next tenure; it stays vacant, with its epoch, when there is no candidate or no epoch left.
fn grant(partition: &mut PartitionState, topic: TopicId, index: i32, candidates: &[(SessionId, NodeId)]) {
    let Some(session) = hash::choose(topic, index, candidates) else { return };
    let Some(epoch) = partition.epoch.checked_add(1) else { return };
    partition.epoch = epoch;
    partition.holder = Some(session);
    partition.tenures.push(Tenure { session, epoch: partition.epoch, end: None });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leases_go_to_those_that_are_named_and_ready() {
        let id = |random| SessionId { revision: 1, random };
        // Session 4 is not ready for leases; 9 is nobody's name.
        let sessions = (1..=4).map(|random| {
            let state = if random == 4 { SessionState::Open } else { SessionState::Ready };
            (id(random), Session { node_id: random as i32, endpoints: Vec::new(), rack: None, state })
        });
        let topic = Topic {
            name: "t".to_owned(),
            replication_factor: 1,
            internal: false,
            configs: Configs::new(),
            partitions: Vec::new(),
        };
        let mut image = Image { sessions: sessions.collect(), ..Image::default() };
        image.create_topic(TopicId(7), topic, 64);
        let holders = |image: &Image| {
            let partitions = &image.topics[&TopicId(7)].partitions;
            partitions.iter().map(|partition| partition.holder.map_or(0, |id| id.random)).collect::<BTreeSet<_>>()
        };
        assert_eq!(holders(&image), [1, 2, 3].into(), "all that are ready");
        let fence = |random, ready| Change::FenceSession { session: id(random), end: 1, ready };
        // (change, who holds leases after it; 0: nobody does)
        let table: [(Change, &[u64]); 7] = [
            (fence(1, vec![id(2)]), &[2, 3]),
            (fence(3, vec![id(4), id(9), id(1)]), &[0, 2]),
            (Change::GrantVacant { ready: vec![id(4), id(9)] }, &[0, 2]),
            (Change::Ready { session: id(4) }, &[0, 2]),
            (fence(2, vec![]), &[0]),
            (Change::GrantVacant { ready: vec![id(9), id(4)] }, &[4]),
            (Change::GrantVacant { ready: vec![id(2), id(3)] }, &[4]),
        ];
        for (change, expected) in table {
            image.apply_change(2, &change);
            assert_eq!(holders(&image), expected.iter().copied().collect(), "{change:?}");
        }
    }
}
