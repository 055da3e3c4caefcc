//! Idempotent producers of one partition: which sequences were written, so that a retry never writes twice (guarantee 3).
//!
//! Kafka's rules (`ProducerStateManager`, `ProducerAppendInfo`): per producer id the newest epoch and its last five batches. A batch
//! that equals one of these is a duplicate and gets the original's offsets; otherwise its first sequence must follow the last.
//! In one thing this is kinder than Kafka: what was certainly written, but so long ago that nobody knows where, is told from what is
//! missing. A client that follows its partition to another broker while answers of the first one are lost asks for such batches
//! again, and again for ever when it is told that they are out of order.
//! The state here is speculative (it counts batches that are not yet committed); whoever answers from it waits for the commit.

use std::collections::{BTreeMap, VecDeque};

use super::refusals::{Refusals, RefusedBatch};
use crate::segment::{BatchCheckpoint, BatchMeta, ProducerCheckpoint};
use crate::types::{Offset, SegmentNumber, TimestampMs};

/// Batches remembered per producer, as in Kafka: the most that a client may have in flight.
const REMEMBERED_BATCHES: usize = 5;

/// A batch in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    pub first_sequence: i32,
    pub last_sequence: i32,
    pub base_offset: Offset,
    pub last_offset: Offset,
    /// The newest of its records' timestamps: what Kafka remembers of a batch's time.
    pub max_timestamp: TimestampMs,
    /// The segment of this session that carries it; `None` when it was committed before this tenure was recovered.
    pub segment: Option<SegmentNumber>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Producer {
    pub epoch: i16,
    pub batches: VecDeque<Written>,
    /// From this sequence on nothing is missing, up to the newest.
    since: i32,
    /// When its last batch arrived. Kafka expires producers by their batches' timestamps, so that records from long ago forget theirs
    /// at once.
    pub last_written_ms: TimestampMs,
}

/// What a batch claims about itself.
#[derive(Clone, Copy, Debug)]
pub struct Claim {
    pub producer_id: i64,
    pub epoch: i16,
    pub first_sequence: i32,
    pub last_sequence: i32,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    New,
    Duplicate(Written),
    /// It was written before all that is remembered. The answer waits for the commit of this segment.
    Forgotten(Option<SegmentNumber>),
    /// INVALID_PRODUCER_EPOCH.
    StaleEpoch,
    /// OUT_OF_ORDER_SEQUENCE_NUMBER.
    OutOfOrder,
    /// What is missing before it was refused a moment ago, while the partition was on its way from one broker to another: the client
    /// sends both again. (At OUT_OF_ORDER_SEQUENCE_NUMBER some clients begin a new epoch, and write what is in flight twice.)
    TooEarly,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Producers {
    by_id: BTreeMap<i64, Producer>,
    /// Sequences refused with a retriable error.
    refused: Refusals,
    /// When the partition was taken over from another session.
    taken_over_at: Option<TimestampMs>,
}

/// After a partition was taken over no unknown producer starts above 0 for so long. What it sent before may be on its way to the broker that
/// had the partition, which answers nobody any more, while what follows it comes here: were that taken, the first one would be "out of
/// order" whenever it came again, for ever. Longer than clients wait for an answer; who is unknown since it wrote nothing for a day waits so long.
const STRAGGLERS_MS: i64 = 60_000;

impl Producers {
    pub fn judge(&self, claim: Claim, now: TimestampMs) -> Verdict {
        if claim.producer_id < 0 {
            return Verdict::New;
        }
        let Some(producer) = self.by_id.get(&claim.producer_id) else {
            if claim.first_sequence > 0 && self.may_straggle(now) {
                return Verdict::TooEarly;
            }
            return if self.refused.bar(claim, now) { self.gap(claim, now) } else { Verdict::New };
        };
        if claim.epoch < producer.epoch {
            return Verdict::StaleEpoch;
        }
        if claim.epoch > producer.epoch {
            return if claim.first_sequence == 0 { Verdict::New } else { self.gap(claim, now) };
        }
        let same = |b: &&Written| b.first_sequence == claim.first_sequence && b.last_sequence == claim.last_sequence;
        if let Some(original) = producer.batches.iter().find(same) {
            return Verdict::Duplicate(*original);
        }
        if let Some(oldest) = producer.batches.front()
            && producer.wrote_before(oldest, claim)
        {
            return Verdict::Forgotten(oldest.segment);
        }
        match producer.batches.back() {
            Some(last) if !follows(last.last_sequence, claim.first_sequence) => self.gap(claim, now),
            _ => Verdict::New,
        }
    }

    /// The partition was another session's until now.
    pub fn taken_over(&mut self, now: TimestampMs) {
        self.taken_over_at = Some(now);
    }

    fn may_straggle(&self, now: TimestampMs) -> bool {
        self.taken_over_at.is_some_and(|at| (0..STRAGGLERS_MS).contains(&now.saturating_sub(at)))
    }

    fn gap(&self, claim: Claim, now: TimestampMs) -> Verdict {
        if self.refused.comes_again(claim, now) { Verdict::TooEarly } else { Verdict::OutOfOrder }
    }

    /// Takes a batch that was judged new, or that recovery found in the log.
    pub fn write(&mut self, claim: Claim, written: Written, now: TimestampMs) {
        if claim.producer_id < 0 || claim.first_sequence < 0 {
            return;
        }
        let since = claim.first_sequence;
        let fresh = || Producer { epoch: claim.epoch, batches: VecDeque::new(), since, last_written_ms: now };
        let producer = self.by_id.entry(claim.producer_id).or_insert_with(fresh);
        if producer.epoch != claim.epoch {
            *producer = fresh();
        }
        producer.last_written_ms = now;
        if producer.batches.len() == REMEMBERED_BATCHES {
            producer.batches.pop_front();
        }
        producer.batches.push_back(written);
        self.refused.written(claim.producer_id, claim.epoch, claim.last_sequence);
    }

    /// Remembers that a batch was refused with an error that its producer will retry, see [`Refusals`].
    pub fn refuse(&mut self, batch: RefusedBatch, now: TimestampMs) {
        self.refused.remember(batch, now);
    }

    /// The same for what was refused before there was a partition to ask.
    pub fn recall(&mut self, refused: Refusals) {
        self.refused.absorb(refused);
    }

    /// Forgets producers that wrote nothing for `expiration_ms` (`producer.id.expiration.ms`).
    pub fn expire(&mut self, now: TimestampMs, expiration_ms: i64) {
        self.by_id.retain(|_, producer| now - producer.last_written_ms < expiration_ms);
        self.refused.expire(now);
    }

    /// What stands in a checkpoint. `counts`: all batches; of those that do not count yet see [`super::merged`].
    pub fn checkpoint(&self, counts: impl Fn(&Written) -> bool) -> Vec<ProducerCheckpoint> {
        let of = |(id, producer): (&i64, &Producer)| {
            let batches: Vec<_> = producer.batches.iter().filter(|written| counts(written)).map(checkpointed).collect();
            let (epoch, last_written_ms) = (producer.epoch, producer.last_written_ms);
            (!batches.is_empty()).then_some(ProducerCheckpoint { id: *id, epoch, last_written_ms, batches })
        };
        self.by_id.iter().filter_map(of).collect()
    }

    /// Goes on by what `next` wrote behind all that is known here; `live` knows when.
    pub fn follow(&mut self, next: &Producers, live: &Producers) {
        for (id, later) in &next.by_id {
            let mut producer = later.clone();
            if let Some(earlier) = self.by_id.remove(id)
                && earlier.epoch == later.epoch
            {
                producer.since = earlier.since;
                producer.batches = earlier.batches.into_iter().chain(producer.batches).collect();
                producer.batches.drain(..producer.batches.len().saturating_sub(REMEMBERED_BATCHES));
            }
            // Who is not known any more wrote too long ago.
            producer.last_written_ms = live.by_id.get(id).map_or(0, |live| live.last_written_ms);
            self.by_id.insert(*id, producer);
        }
    }

    /// Puts back what a checkpoint says, in the place of all that is known.
    pub fn restore(&mut self, checkpoint: &[ProducerCheckpoint]) {
        let of = |producer: &ProducerCheckpoint| {
            let batches: VecDeque<_> = producer.batches.iter().map(restored).collect();
            let since = batches.front().map_or(0, |oldest| oldest.first_sequence);
            let (epoch, last_written_ms) = (producer.epoch, producer.last_written_ms);
            (producer.id, Producer { epoch, batches, since, last_written_ms })
        };
        self.by_id = checkpoint.iter().map(of).collect();
    }

    pub fn iter(&self) -> impl Iterator<Item = (i64, &Producer)> {
        self.by_id.iter().map(|(id, producer)| (*id, producer))
    }

    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }
}

impl Producer {
    /// Each batch followed the one before it, so between `since` and `oldest` there is nothing that was not written. Where sequences
    /// have begun again at 0 nothing is said: nobody asks for what lies half of all sequences back, so a claim that seems to is one of those
    /// that come next.
    fn wrote_before(&self, oldest: &Written, claim: Claim) -> bool {
        let newest = self.batches.back().map_or(-1, |newest| newest.last_sequence);
        let ascending = [self.since, claim.first_sequence, claim.last_sequence, oldest.first_sequence, newest];
        ascending.is_sorted()
            && claim.last_sequence < oldest.first_sequence
            && oldest.first_sequence - claim.first_sequence < i32::MAX / 2
    }
}

impl Written {
    /// A batch that has its offsets.
    pub fn in_log(batch: &BatchMeta, segment: Option<SegmentNumber>) -> Written {
        Written {
            first_sequence: batch.base_sequence,
            last_sequence: Claim::of(batch).last_sequence,
            base_offset: batch.base_offset,
            last_offset: batch.base_offset + i64::from(batch.last_offset_delta),
            max_timestamp: batch.max_timestamp,
            segment,
        }
    }
}

fn checkpointed(written: &Written) -> BatchCheckpoint {
    BatchCheckpoint {
        first_sequence: written.first_sequence,
        last_sequence: written.last_sequence,
        base_offset: written.base_offset,
        last_offset: written.last_offset,
        max_timestamp: written.max_timestamp,
    }
}

fn restored(batch: &BatchCheckpoint) -> Written {
    Written {
        first_sequence: batch.first_sequence,
        last_sequence: batch.last_sequence,
        base_offset: batch.base_offset,
        last_offset: batch.last_offset,
        max_timestamp: batch.max_timestamp,
        segment: None,
    }
}

impl Claim {
    pub fn of(batch: &BatchMeta) -> Claim {
        Claim {
            producer_id: batch.producer_id,
            epoch: batch.producer_epoch,
            first_sequence: batch.base_sequence,
            last_sequence: last_sequence(batch.base_sequence, batch.last_offset_delta),
        }
    }
}

/// Sequences wrap from `i32::MAX` to 0.
fn last_sequence(first: i32, delta: i32) -> i32 {
    if first < 0 { first } else { ((i64::from(first) + i64::from(delta)) % (i64::from(i32::MAX) + 1)) as i32 }
}

fn follows(last: i32, next: i32) -> bool {
    last_sequence(last, 1) == next
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::refusals::{COMES_AGAIN_MS, REFUSAL_MEMORY_MS};

    fn claim(epoch: i16, first: i32, count: i32) -> Claim {
        Claim { producer_id: 7, epoch, first_sequence: first, last_sequence: last_sequence(first, count - 1) }
    }

    fn written(claim: Claim, offset: Offset) -> Written {
        Written {
            first_sequence: claim.first_sequence,
            last_sequence: claim.last_sequence,
            base_offset: offset,
            last_offset: offset,
            max_timestamp: -1,
            segment: None,
        }
    }

    /// The first batch is on its way to the broker that had the partition, and never heard of there; the second one comes here.
    #[test]
    fn who_is_unknown_begins_at_the_beginning_where_a_partition_came_from_elsewhere() {
        let mut producers = Producers::default();
        assert_eq!(producers.judge(claim(0, 2, 1), 100), Verdict::New, "it may have been forgotten");
        producers.taken_over(100);
        assert_eq!(producers.judge(claim(0, 2, 1), 100), Verdict::TooEarly);
        assert_eq!(producers.judge(claim(0, 2, 1), 99 + STRAGGLERS_MS), Verdict::TooEarly);
        assert_eq!(producers.judge(claim(0, 2, 1), 100 + STRAGGLERS_MS), Verdict::New, "nothing comes any more");
        assert_eq!(producers.judge(claim(0, 2, 1), 0), Verdict::New, "a wall clock that jumped bars nobody for long");
        assert_eq!(producers.judge(claim(0, 0, 2), 101), Verdict::New);
        producers.write(claim(0, 0, 2), written(claim(0, 0, 2), 0), 101);
        assert_eq!(producers.judge(claim(0, 2, 1), 102), Verdict::New);
    }

    /// A known producer's batches 3 and 4 are refused while the partition moves, then 5 comes.
    #[test]
    fn who_stands_behind_a_refused_batch_is_told_to_come_again() {
        let mut producers = after(&[(0, 0, 3)]);
        let refused = |first_sequence| RefusedBatch { producer_id: 7, epoch: 0, first_sequence };
        assert_eq!(producers.judge(claim(0, 5, 1), 100), Verdict::OutOfOrder, "a gap that nobody explains");
        producers.refuse(refused(3), 100);
        producers.refuse(refused(4), 100);
        assert_eq!(producers.judge(claim(0, 5, 1), 101), Verdict::TooEarly);
        producers.refuse(refused(5), 101 + COMES_AGAIN_MS / 2);
        assert_eq!(producers.judge(claim(0, 5, 1), 100 + COMES_AGAIN_MS), Verdict::OutOfOrder, "3 does not come again");
        assert_eq!(producers.judge(claim(0, 3, 1), 101), Verdict::New);
    }

    /// Batches 3 to 5 are refused, 3 comes again before the client has heard of 4 and 5, and 6, which it never sent before, behind it.
    #[test]
    fn the_first_of_several_refused_batches_does_not_stand_for_the_others() {
        let refused = |first_sequence| RefusedBatch { producer_id: 7, epoch: 0, first_sequence };
        for absorbed in [false, true] {
            let (mut producers, mut early) = (after(&[(0, 0, 3)]), Refusals::default());
            for sequence in [3, 4, 5] {
                if absorbed { early.remember(refused(sequence), 100) } else { producers.refuse(refused(sequence), 100) }
            }
            producers.recall(early);
            for sequence in [3, 4] {
                assert_eq!(producers.judge(claim(0, sequence, 1), 101), Verdict::New);
                producers.write(claim(0, sequence, 1), written(claim(0, sequence, 1), i64::from(sequence)), 101);
                assert_eq!(
                    producers.judge(claim(0, 6, 1), 101),
                    Verdict::TooEarly,
                    "{sequence} is there, and 5 is not"
                );
                assert_eq!(producers.judge(claim(0, 6, 1), 100 + COMES_AGAIN_MS), Verdict::OutOfOrder);
            }
            producers.write(claim(0, 5, 1), written(claim(0, 5, 1), 5), 101);
            assert_eq!(producers.judge(claim(0, 6, 1), 101), Verdict::New);
            assert_eq!(producers.judge(claim(0, 7, 1), 101), Verdict::OutOfOrder, "nothing refused is missing");
        }
    }

    #[test]
    fn what_was_written_long_ago_is_told_from_what_is_missing() {
        let end = i32::MAX;
        // (batches of one producer, a claim, the verdict: forgotten or out of order)
        type Batch = (i16, i32, i32);
        let ten: Vec<Batch> = (0..10).map(|at| (0, 10 + at * 2, 2)).collect();
        let newer: Vec<Batch> = ten.iter().copied().chain((0..7).map(|at| (1, at, 1))).collect();
        let around: Vec<Batch> =
            [5, 4, 3, 2, 1, 0].map(|left| (0, end - left, 1)).into_iter().chain([(0, 0, 1), (0, 1, 1)]).collect();
        let table: [(&[Batch], Batch, bool); 12] = [
            (&ten, (0, 10, 2), true),
            (&ten, (0, 12, 2), true),
            (&ten, (0, 11, 3), true),
            (&ten, (0, 18, 2), true),
            (&ten, (0, 18, 3), false),
            (&ten, (0, 21, 1), false),
            (&ten, (0, 9, 2), false),
            (&ten, (0, 0, 1), false),
            (&ten, (0, 31, 1), false),
            (&newer, (1, 1, 1), true),
            (&newer, (1, 5, 2), false),
            (&around, (0, end - 5, 1), false),
        ];
        for (batches, (epoch, first, count), forgotten) in table {
            let verdict = after(batches).judge(claim(epoch, first, count), 0);
            let expected = if forgotten { Verdict::Forgotten(None) } else { Verdict::OutOfOrder };
            assert_eq!(verdict, expected, "{first} + {count} after {batches:?}");
        }
        // A checkpoint knows of the last five only.
        let mut restored = Producers::default();
        restored.restore(&after(&ten).checkpoint(|_| true));
        assert_eq!(restored.judge(claim(0, 18, 2), 0), Verdict::OutOfOrder);
        for at in 0..5 {
            let next = claim(0, 30 + at, 1);
            restored.write(next, written(next, 100), 0);
        }
        assert_eq!(restored.judge(claim(0, 18, 2), 0), Verdict::OutOfOrder);
        assert_eq!(restored.judge(claim(0, 20, 2), 0), Verdict::Forgotten(None));
    }

    /// A producer that began at 0 comes to the end of all sequences, and to 0 again.
    #[test]
    fn sequences_begin_again_at_0() {
        let end = i32::MAX;
        let before: Vec<(i16, i32, i32)> =
            [(0, 0, 1)].into_iter().chain([5, 4, 3, 2, 1].map(|left| (0, end - left, 1))).collect();
        let complete: Vec<_> = before.iter().copied().chain([(0, end, 1)]).collect();
        assert_eq!(after(&complete).judge(claim(0, 0, 1), 0), Verdict::New);
        assert_eq!(after(&complete).judge(claim(0, 1, 1), 0), Verdict::OutOfOrder);
        assert_eq!(after(&before).judge(claim(0, 0, 1), 0), Verdict::OutOfOrder, "the last one is missing");
        assert_eq!(after(&before).judge(claim(0, end, 2), 0), Verdict::New, "across the end");
    }

    /// The first batch of a new epoch is refused while the partition moves: those behind it are to come again as well.
    #[test]
    fn who_stands_behind_a_refused_batch_of_a_new_epoch_is_told_to_come_again() {
        let mut producers = after(&[(0, 0, 3)]);
        producers.refuse(RefusedBatch { producer_id: 7, epoch: 1, first_sequence: 0 }, 100);
        assert_eq!(producers.judge(claim(1, 1, 1), 101), Verdict::TooEarly);
        assert_eq!(producers.judge(claim(1, 0, 1), 101), Verdict::New);
        assert_eq!(producers.judge(claim(1, 1, 1), 100 + COMES_AGAIN_MS), Verdict::OutOfOrder);
    }

    fn after(batches: &[(i16, i32, i32)]) -> Producers {
        let mut producers = Producers::default();
        for (at, (epoch, first, count)) in batches.iter().enumerate() {
            let claim = claim(*epoch, *first, *count);
            producers.write(claim, written(claim, at as i64 * 10), 0);
        }
        producers
    }

    #[test]
    fn judges_like_kafka() {
        let none: &[(i16, i32, i32)] = &[];
        let one: &[(i16, i32, i32)] = &[(0, 0, 10)];
        let wrapped: &[(i16, i32, i32)] = &[(0, i32::MAX - 1, 2)];
        let six: &[(i16, i32, i32)] = &[(0, 0, 1), (0, 1, 1), (0, 2, 1), (0, 3, 1), (0, 4, 1), (0, 5, 1)];
        type Case<'a> = (&'a str, &'a [(i16, i32, i32)], Claim, &'a str);
        let table: &[Case] = &[
            ("unknown producers start anywhere", none, claim(3, 17, 1), "New"),
            ("the next sequence", one, claim(0, 10, 5), "New"),
            ("a gap", one, claim(0, 11, 5), "OutOfOrder"),
            ("the same batch", one, claim(0, 0, 10), "Duplicate"),
            ("an overlap that is no duplicate", one, claim(0, 0, 5), "OutOfOrder"),
            ("an older epoch", &[(4, 0, 1)], claim(3, 1, 1), "StaleEpoch"),
            ("a newer epoch starts at 0", one, claim(1, 0, 1), "New"),
            ("a newer epoch elsewhere", one, claim(1, 10, 1), "OutOfOrder"),
            ("wrap to 0", wrapped, claim(0, 0, 1), "New"),
            ("no wrap to 1", wrapped, claim(0, 1, 1), "OutOfOrder"),
            ("fifth last", six, claim(0, 1, 1), "Duplicate"),
            ("older than five, but for that", six, claim(0, 0, 1), "Forgotten"),
        ];
        for (name, before, claim, expected) in table {
            let verdict = format!("{:?}", after(before).judge(*claim, 0));
            assert!(verdict.starts_with(expected), "{name}: {verdict}");
        }
    }

    #[test]
    fn p03_failed_batch_poisons_successors() {
        let mut producers = Producers::default();
        let refused = |first_sequence| RefusedBatch { producer_id: 7, epoch: 0, first_sequence };
        producers.refuse(refused(5), 100);
        producers.refuse(refused(8), 101);
        assert_eq!(producers.judge(claim(0, 8, 1), 102), Verdict::TooEarly);
        assert_eq!(producers.judge(claim(0, 6, 1), 102), Verdict::TooEarly);
        assert_eq!(producers.judge(claim(0, 6, 1), 100 + COMES_AGAIN_MS), Verdict::OutOfOrder, "it does not come");
        assert_eq!(producers.judge(claim(1, 6, 1), 102), Verdict::New, "another epoch");
        assert_eq!(producers.judge(claim(0, 5, 1), 102), Verdict::New, "the refused one itself");
        assert_eq!(producers.judge(claim(0, 8, 1), 102 + REFUSAL_MEMORY_MS), Verdict::New, "forgotten");
    }

    #[test]
    fn forgets_idle_producers() {
        let mut producers = after(&[(0, 0, 1)]);
        producers.expire(999, 1000);
        assert_eq!(producers.len(), 1);
        producers.expire(1000, 1000);
        assert!(producers.is_empty());
    }
}
