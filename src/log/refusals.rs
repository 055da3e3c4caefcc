//! Sequences that were refused with an error that their producers retry. Until a refused batch comes again nothing of the same producer
//! may overtake it: an unknown producer may start anywhere, so its successor would be taken, and the retry would be lost as "out of
//! order" (or written twice).
//!
//! What finds no room is not forgotten in silence: for as long as it would have been remembered no unknown producer starts above 0.

mod marks;

use std::collections::BTreeMap;

use parking_lot::Mutex;

use self::marks::{Marks, hash_of_id, hash_of_name};
use super::producers::Claim;
use crate::types::mutant::{self, Mutant};
use crate::types::{PartitionId, TimestampMs, TopicId};

/// A refused sequence is remembered for so long.
pub const REFUSAL_MEMORY_MS: i64 = 10 * 60 * 1000;

/// Who was refused with a retriable error asks again within so long.
pub const COMES_AGAIN_MS: i64 = 10_000;

/// So many producers' refusals are remembered per partition; the oldest go first.
pub const REFUSALS_MAX: usize = 1000;

/// So many are remembered of all partitions that have no slot: half a kilobyte each at most.
const WITHOUT_SLOT_MAX: usize = 10_000;

/// No topic has a longer name: a refusal for one need not be remembered.
const NAME_BYTES_MAX: usize = 249;

fn recent(at: TimestampMs, now: TimestampMs) -> bool {
    now - at < REFUSAL_MEMORY_MS
}

/// A batch that was refused, as its header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RefusedBatch {
    pub producer_id: i64,
    pub epoch: i16,
    pub first_sequence: i32,
}

impl RefusedBatch {
    fn is_idempotent(&self) -> bool {
        self.producer_id >= 0 && self.first_sequence >= 0
    }
}

/// The refusals of one partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Refusals {
    /// (producer id, epoch) → lowest sequence refused.
    lowest: BTreeMap<(i64, i16), Lowest>,
    /// When one found no room.
    dropped_at: Option<TimestampMs>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Lowest {
    sequence: i32,
    /// The highest that was refused, which need not have come again when the lowest has.
    highest: i32,
    /// When it was refused last.
    refused_at: TimestampMs,
    /// When it or any higher one was.
    at: TimestampMs,
}

impl Refusals {
    pub fn remember(&mut self, batch: RefusedBatch, now: TimestampMs) {
        if !batch.is_idempotent() || mutant::on(Mutant::ForgetRefused) {
            return;
        }
        let key = (batch.producer_id, batch.epoch);
        if self.lowest.len() >= REFUSALS_MAX && !self.lowest.contains_key(&key) {
            let oldest = self.lowest.iter().min_by_key(|(_, lowest)| lowest.at).map(|(key, lowest)| (*key, lowest.at));
            if let Some((oldest, at)) = oldest {
                self.lowest.remove(&oldest);
                self.dropped_at = self.dropped_at.max(Some(at));
            }
        }
        let sequence = batch.first_sequence;
        let refused = Lowest { sequence, highest: sequence, refused_at: now, at: now };
        let known = self.lowest.entry(key).or_insert(refused);
        known.at = now.max(known.at);
        known.highest = sequence.max(known.highest);
        if refused.sequence <= known.sequence {
            *known = Lowest { at: known.at, highest: known.highest, ..refused };
        }
    }

    /// Whether a batch of a producer that is not known would overtake one that was refused.
    pub fn bar(&self, claim: Claim, now: TimestampMs) -> bool {
        let lowest = self.lowest.get(&(claim.producer_id, claim.epoch)).filter(|lowest| recent(lowest.at, now));
        let dropped = self.dropped_at.is_some_and(|at| recent(at, now));
        lowest.is_some_and(|lowest| claim.first_sequence > lowest.sequence) || (dropped && claim.first_sequence > 0)
    }

    /// Whether a batch comes behind one that was refused a moment ago, which will come again before it.
    pub fn comes_again(&self, claim: Claim, now: TimestampMs) -> bool {
        let lowest = self.lowest.get(&(claim.producer_id, claim.epoch));
        lowest.is_some_and(|lowest| claim.first_sequence > lowest.sequence && now - lowest.refused_at < COMES_AGAIN_MS)
    }

    /// The producer is known from now on, up to this sequence. What was refused behind it has yet to come again: clients send the
    /// first of several refused batches while the answers to the others are on their way, and then one that they never sent before.
    pub fn written(&mut self, producer_id: i64, epoch: i16, last_sequence: i32) {
        let key = (producer_id, epoch);
        let Some(known) = self.lowest.get_mut(&key) else { return };
        if known.highest <= last_sequence {
            self.lowest.remove(&key);
        } else if known.sequence <= last_sequence {
            (known.sequence, known.refused_at) = (last_sequence + 1, known.at);
        }
    }

    pub fn absorb(&mut self, others: Refusals) {
        self.dropped_at = self.dropped_at.max(others.dropped_at);
        for ((producer_id, epoch), lowest) in others.lowest {
            let batch = RefusedBatch { producer_id, epoch, first_sequence: lowest.sequence };
            self.remember(batch, lowest.refused_at);
            if let Some(known) = self.lowest.get_mut(&(producer_id, epoch)) {
                known.at = known.at.max(lowest.at);
                known.highest = known.highest.max(lowest.highest);
            }
        }
    }

    pub fn expire(&mut self, now: TimestampMs) {
        self.lowest.retain(|_, lowest| recent(lowest.at, now));
        self.dropped_at = self.dropped_at.filter(|at| recent(*at, now));
    }

    pub fn is_empty(&self) -> bool {
        self.lowest.is_empty() && self.dropped_at.is_none()
    }
}

/// A topic as a request names it: it need not exist (yet).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TopicKey {
    Id(TopicId),
    Name(String),
}

/// Refusals for partitions that have no slot: the topic is not known yet, or the lease is not here. A batch that is admitted
/// later takes them along, by [`WithoutSlot::take`].
pub struct WithoutSlot {
    inner: Mutex<Places>,
    /// Whom a look under the lock may concern; each batch asks it.
    marks: Marks,
}

#[derive(Default)]
struct Places {
    by_id: BTreeMap<PartitionId, Refusals>,
    by_name: BTreeMap<String, BTreeMap<i32, Refusals>>,
    count: usize,
}

impl Default for WithoutSlot {
    fn default() -> Self {
        WithoutSlot { inner: Mutex::default(), marks: Marks::new() }
    }
}

impl WithoutSlot {
    pub fn remember(&self, topic: TopicKey, index: i32, batch: RefusedBatch, now: TimestampMs) {
        let no_topic = matches!(&topic, TopicKey::Name(name) if name.len() > NAME_BYTES_MAX);
        if !batch.is_idempotent() || no_topic || mutant::on(Mutant::ForgetRefusedWithoutSlot) {
            return;
        }
        let mut places = self.inner.lock();
        if places.count >= WITHOUT_SLOT_MAX {
            *places = Places::default();
            // First, so that who finds no mark any more finds this.
            self.marks.drop_all(now);
            self.marks.reset([]);
        }
        let hash = match &topic {
            TopicKey::Id(id) => hash_of_id(PartitionId { topic: *id, index }),
            TopicKey::Name(name) => hash_of_name(name, index),
        };
        let Places { by_id, by_name, count } = &mut *places;
        let refusals = match topic {
            TopicKey::Id(topic) => by_id.entry(PartitionId { topic, index }).or_default(),
            TopicKey::Name(name) => by_name.entry(name).or_default().entry(index).or_default(),
        };
        let before = refusals.lowest.len();
        refusals.remember(batch, now);
        *count += refusals.lowest.len() - before;
        self.marks.set(hash);
    }

    /// What was refused of a partition, under its id or its name; it is not kept here. Takes the lock only where something may
    /// be remembered of this very partition, and copies nothing.
    pub fn take(&self, id: PartitionId, name: &str, now: TimestampMs) -> Option<Refusals> {
        let mut taken = Refusals::default();
        if self.marks.may_have(hash_of_id(id)) || self.marks.may_have(hash_of_name(name, id.index)) {
            let mut places = self.inner.lock();
            places.take(id, name, &mut taken);
            if places.is_empty() {
                self.marks.reset([]);
            }
        }
        // After the marks: they go when this comes.
        taken.dropped_at = taken.dropped_at.max(self.marks.dropped_at());
        taken.expire(now);
        (!taken.is_empty()).then_some(taken)
    }

    /// Forgets what is old.
    pub fn expire(&self, now: TimestampMs) {
        let mut places = self.inner.lock();
        let keep = |refusals: &mut Refusals| {
            refusals.expire(now);
            !refusals.is_empty()
        };
        places.by_id.retain(|_, refusals| keep(refusals));
        places.by_name.retain(|_, indexes| {
            indexes.retain(|_, refusals| keep(refusals));
            !indexes.is_empty()
        });
        let named = || places.by_name.iter().flat_map(|(name, indexes)| indexes.iter().map(move |each| (name, each)));
        let count = places.by_id.values().chain(named().map(|(_, (_, refusals))| refusals));
        let count = count.map(|refusals| refusals.lowest.len()).sum();
        let by_name = named().map(|(name, (index, _))| hash_of_name(name, *index));
        self.marks.reset(places.by_id.keys().map(|id| hash_of_id(*id)).chain(by_name));
        places.count = count;
    }
}

impl Places {
    fn is_empty(&self) -> bool {
        self.by_id.is_empty() && self.by_name.is_empty()
    }

    fn take(&mut self, id: PartitionId, name: &str, taken: &mut Refusals) {
        let by_id = self.by_id.remove(&id);
        let mut by_name = None;
        if let Some(indexes) = self.by_name.get_mut(name) {
            by_name = indexes.remove(&id.index);
            if indexes.is_empty() {
                self.by_name.remove(name);
            }
        }
        for refusals in by_id.into_iter().chain(by_name) {
            self.count -= refusals.lowest.len();
            taken.absorb(refusals);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: PartitionId = PartitionId { topic: TopicId(5), index: 2 };

    fn batch(producer_id: i64, first_sequence: i32) -> RefusedBatch {
        RefusedBatch { producer_id, epoch: 0, first_sequence }
    }

    fn claim(producer_id: i64, first_sequence: i32) -> Claim {
        Claim { producer_id, epoch: 0, first_sequence, last_sequence: first_sequence }
    }

    #[test]
    fn a_refused_sequence_bars_what_would_overtake_it() {
        let of = |producer_id, epoch, first_sequence| RefusedBatch { producer_id, epoch, first_sequence };
        let mut refusals = Refusals::default();
        for (batch, at) in [
            (of(7, 3, 5), 100),
            (of(7, 3, 8), 500),
            (of(7, 0, 20), 100),
            (of(8, 3, 9), 100),
            (of(8, 3, 6), 90),
            (of(9, 1, 4), 100),
            (of(-1, -1, -1), 100),
        ] {
            refusals.remember(batch, at);
        }
        refusals.written(9, 1, 4);
        refusals.written(7, 1, 9);
        let old = 100 + REFUSAL_MEMORY_MS;
        // (producer, epoch, first sequence, when, barred)
        let table = [
            (7, 3, 5, 600, false, "the refused one itself"),
            (7, 3, 4, 600, false, "one before it"),
            (7, 3, 6, 600, true, "its successor"),
            (7, 3, 8, old, true, "the second refusal renews the memory of the first"),
            (7, 3, 8, 500 + REFUSAL_MEMORY_MS, false, "both are forgotten"),
            (7, 0, 20, 600, false, "each epoch has its own"),
            (7, 0, 21, 600, true, "each epoch has its own"),
            (7, 0, 21, old - 1, true, "to the last moment"),
            (7, 0, 21, old, false, "and no longer"),
            (7, 1, 6, 600, false, "an epoch that was not refused"),
            (8, 3, 7, 600, true, "the lowest counts, whichever came last"),
            (8, 3, 7, old - 1, true, "and the latest time"),
            (9, 1, 5, 600, false, "known meanwhile"),
            (6, 3, 9, 600, false, "another producer"),
        ];
        let mut absorbed = Refusals::default();
        absorbed.absorb(refusals.clone());
        for (producer_id, epoch, sequence, now, barred, what) in table {
            let claim = Claim { producer_id, epoch, first_sequence: sequence, last_sequence: sequence };
            assert_eq!(refusals.bar(claim, now), barred, "{what}");
            assert_eq!(absorbed.bar(claim, now), barred, "absorbed: {what}");
        }
        refusals.expire(old);
        assert_eq!(refusals.lowest.keys().collect::<Vec<_>>(), [&(7, 3)]);
        refusals.expire(500 + REFUSAL_MEMORY_MS);
        assert!(refusals.is_empty());
    }

    #[test]
    fn what_is_taken_of_one_partition_leaves_the_others() {
        let memory = WithoutSlot::default();
        for (index, producer_id) in [(0, 1), (1, 2), (1, 3), (2, 4)] {
            memory.remember(TopicKey::Name("t".to_owned()), index, batch(producer_id, 3), 50);
        }
        let count = || memory.inner.lock().count;
        for (index, producers, left) in [(1, &[2, 3][..], 2), (0, &[1], 1), (7, &[], 1)] {
            let taken = memory.take(PartitionId { index, ..ID }, "t", 60).unwrap_or_default();
            let barred: Vec<_> = (1..5).filter(|id| taken.bar(claim(*id, 4), 60)).collect();
            assert_eq!((barred.as_slice(), count()), (producers, left), "partition {index}");
        }
        memory.expire(49 + REFUSAL_MEMORY_MS);
        assert_eq!(count(), 1);
        memory.expire(50 + REFUSAL_MEMORY_MS);
        assert_eq!(count(), 0);
    }

    #[test]
    fn what_finds_no_room_bars_all_that_start_above_zero() {
        let mut refusals = Refusals::default();
        let producers = REFUSALS_MAX as i64 + 1;
        (0..producers).for_each(|id| refusals.remember(batch(id, 4), id));
        assert_eq!(refusals.lowest.len(), REFUSALS_MAX);
        // (producer, first sequence, when, barred)
        let table = [
            (0, 5, 2000, true, "the one that was dropped"),
            (0, 0, 2000, false, "starts at 0"),
            (producers + 7, 1, 2000, true, "anybody may be the one that was dropped"),
            (0, 5, REFUSAL_MEMORY_MS, false, "too long ago"),
            (3, 5, REFUSAL_MEMORY_MS, true, "this one is remembered still"),
        ];
        for (producer, sequence, now, barred, what) in table {
            assert_eq!(refusals.bar(claim(producer, sequence), now), barred, "{what}");
        }
    }

    #[test]
    fn refusals_without_a_slot_are_found_under_id_and_name() {
        let named = || TopicKey::Name("t".to_owned());
        // (topic, index, batch, then asked for at, found)
        let table = [
            (TopicKey::Id(ID.topic), 2, batch(1, 3), 100, true, "by id"),
            (named(), 2, batch(1, 3), 100, true, "by name"),
            (named(), 1, batch(1, 3), 100, false, "another partition"),
            (TopicKey::Id(TopicId(6)), 2, batch(1, 3), 100, false, "another topic"),
            (named(), 2, batch(-1, -1), 100, false, "not idempotent"),
            (named(), 2, batch(1, 3), 100 + REFUSAL_MEMORY_MS, false, "too long ago"),
            (TopicKey::Name("t".repeat(300)), 2, batch(1, 3), 100, false, "no topic has such a name"),
        ];
        for (topic, index, refused, now, found, what) in table {
            let memory = WithoutSlot::default();
            memory.remember(topic, index, refused, 50);
            let taken = memory.take(ID, "t", now);
            assert_eq!(taken.is_some_and(|taken| taken.bar(claim(1, 4), now)), found, "{what}");
            assert_eq!(memory.take(ID, "t", now), None, "{what}: only once");
        }
    }

    /// While the memory is locked a batch passes that does not concern it.
    #[test]
    fn others_do_not_wait_for_what_is_remembered() {
        let memory = WithoutSlot::default();
        memory.remember(TopicKey::Name("t".to_owned()), 1, batch(1, 3), 50);
        let held = memory.inner.lock();
        assert_eq!(memory.take(ID, "t", 60), None);
        assert_eq!(memory.take(ID, "other", 60), None);
        drop(held);
        let other = TopicKey::Name("u".to_owned());
        memory.remember(other, 2, batch(1, 3), 50 + REFUSAL_MEMORY_MS / 2);
        memory.expire(50 + REFUSAL_MEMORY_MS);
        assert!(!memory.marks.may_have(hash_of_name("t", 1)) && memory.marks.may_have(hash_of_name("u", 2)));
        assert_eq!(memory.inner.lock().count, 1);
    }

    #[test]
    fn too_many_without_a_slot_make_the_broker_strict() {
        let memory = WithoutSlot::default();
        for at in 0..=WITHOUT_SLOT_MAX as i64 {
            memory.remember(TopicKey::Name(format!("t{at}")), 0, batch(at, 0), 50);
        }
        assert_eq!(memory.inner.lock().count, 1);
        let taken = memory.take(ID, "other", 60).expect("something was dropped");
        assert!(taken.bar(claim(99, 1), 60) && !taken.bar(claim(99, 0), 60));
        memory.expire(60 + REFUSAL_MEMORY_MS);
        assert_eq!(memory.take(ID, "other", 60 + REFUSAL_MEMORY_MS), None);
        let marked = memory.marks.may_have(hash_of_name(&format!("t{WITHOUT_SLOT_MAX}"), 0));
        assert!(!marked && memory.inner.lock().is_empty());
    }
}
