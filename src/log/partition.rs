//! One partition as its lease holder sees it. Pure: no clock, no store, no locks.
//!
//! Appends are decided on speculative state (committed + in flight); [`Partition::commit`] makes them visible, in segment order. A
//! session that ends drops the whole struct; the next one starts from recovery.

use super::index::{Index, IndexedExtent, ObjectRef, Window};
use super::merged::{Merged, WindowState};
use super::producers::{Claim, Producers, Verdict, Written};
use super::refusals::{Refusals, RefusedBatch};
use crate::segment::{BatchMeta, ExtentMeta, PartitionCheckpoint, ProducerCheckpoint, RunExtent};
use crate::types::mutant::{self, Mutant};
use crate::types::{LeaseEpoch, Offset, PartitionId, SegmentNumber, SessionId, TimestampMs};

/// For so long after a partition was taken over its first records are what somebody has waited for.
const AWAITED_MS: i64 = 2_000;

#[derive(Debug)]
pub struct Partition {
    id: PartitionId,
    epoch: LeaseEpoch,
    log_start: Offset,
    /// One past the newest record admitted, committed or not.
    next_offset: Offset,
    /// One past the newest committed record.
    high_watermark: Offset,
    /// Start offset of each lease epoch that wrote something, in order.
    epochs: Vec<(LeaseEpoch, Offset)>,
    producers: Producers,
    merged: Merged,
    index: Index,
    /// What lies below this offset was counted by the checkpoint that the producers came from.
    restored: Offset,
    /// When it was taken over from another broker, until the first records since then.
    taken_over_at: Option<TimestampMs>,
}

/// What became of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Admitted {
    /// -1 of a duplicate that is in the log, nobody remembers where.
    pub base_offset: Offset,
    /// LogAppendTime, or -1; of a duplicate the newest timestamp of the original, whatever the topic's type (`ProducerStateManager`).
    pub log_append_time: TimestampMs,
    /// The answer waits for the commit of this segment; `None`: it is committed already.
    pub segment: Option<SegmentNumber>,
    /// An earlier batch stands in for this one: do not write it.
    pub duplicate: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AdmitError {
    #[error("the producer's epoch is older than the newest")]
    StaleProducerEpoch,
    #[error("the batch does not follow the producer's last one")]
    OutOfOrderSequence,
    #[error("the batch before it was refused, and has to come first")]
    TooEarly,
}

/// What recovery found to be impossible. Nothing is skipped: the partition stays closed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecoverError {
    #[error("partition {partition}: expected offset {expected}, found an extent from {found}")]
    NotContiguous { partition: PartitionId, expected: Offset, found: Offset },
    #[error("partition {partition}: its records end at {found}, its checkpoint was at {expected}")]
    EndsEarly { partition: PartitionId, expected: Offset, found: Offset },
    #[error("partition {partition}: lease epoch {found} after {last}")]
    EpochFell { partition: PartitionId, last: LeaseEpoch, found: LeaseEpoch },
}

impl Partition {
    /// A partition before its first extent is replayed. `log_start` is the image's.
    pub fn new(id: PartitionId, epoch: LeaseEpoch, log_start: Offset) -> Partition {
        Partition {
            id,
            epoch,
            log_start: if mutant::on(Mutant::ForgetLogStart) { 0 } else { log_start },
            next_offset: 0,
            high_watermark: 0,
            epochs: Vec::new(),
            producers: Producers::default(),
            merged: Merged::default(),
            index: Index::default(),
            restored: 0,
            taken_over_at: None,
        }
    }

    /// Takes the next extent that an earlier tenure committed. `written_ms` is when its segment was sealed.
    pub fn replay(
        &mut self,
        object: ObjectRef,
        extent: &ExtentMeta,
        written_ms: TimestampMs,
    ) -> Result<(), RecoverError> {
        if mutant::on(Mutant::SkipDamaged) || (mutant::on(Mutant::NextOffsetFromData) && self.next_offset == 0) {
            self.next_offset = extent.base_offset;
        }
        self.check_next(extent.base_offset, extent.epoch)?;
        // What a checkpoint counted already is not counted again.
        let later = |batch: &&BatchMeta| batch.base_offset >= self.restored;
        for batch in extent.batches.iter().filter(later).filter(|_| !mutant::on(Mutant::ForgetProducers)) {
            self.producers.write(Claim::of(batch), Written::in_log(batch, None), written_ms);
        }
        self.next_offset = extent.next_offset;
        self.show(IndexedExtent::new(object, extent));
        Ok(())
    }

    /// Takes the next extent out of a run. What it says of producers stands in a checkpoint at or behind it.
    pub fn replay_run(&mut self, object: ObjectRef, extent: &RunExtent) -> Result<(), RecoverError> {
        if mutant::on(Mutant::IgnoreRuns) || (mutant::on(Mutant::NextOffsetFromData) && self.next_offset == 0) {
            self.next_offset = extent.base_offset;
        }
        self.check_next(extent.base_offset, extent.epoch)?;
        self.next_offset = extent.next_offset;
        self.show(IndexedExtent::of_run(object, extent));
        Ok(())
    }

    /// Takes producers and epochs from a checkpoint, before the first extent is replayed. It must be the newest one.
    pub fn restore(&mut self, checkpoint: &PartitionCheckpoint) {
        self.restored = checkpoint.next_offset;
        if !mutant::on(Mutant::ForgetProducers) {
            self.producers.restore(&checkpoint.producers);
        }
    }

    /// What stands in the checkpoint of a merge of this session's segments below `end`, and of all before this session. Whatever is
    /// newer, in flight or committed, is left out. `window`: what is merged of this partition. `None`: it can't be told from what is
    /// known here, see [`Merged`], or nothing tells where the records end (they are deleted).
    pub fn checkpoint(
        &mut self,
        session: SessionId,
        end: SegmentNumber,
        window: Option<&WindowState>,
    ) -> Option<PartitionCheckpoint> {
        let next_offset = window.map(WindowState::end).or_else(|| self.index.end_below(session, end))?;
        let said = self.merged.checkpoint((session, end), window, next_offset, &self.producers);
        let live = |below| self.producers.checkpoint(|written| written.segment.is_none_or(|segment| segment < below));
        let producers = if mutant::on(Mutant::CheckpointAhead) {
            live(SegmentNumber::MAX)
        } else if mutant::on(Mutant::CheckpointFromLive) {
            live(end)
        } else {
            said?
        };
        Some(self.stated(next_offset, producers))
    }

    /// The checkpoint of a partition that was recovered up to where its records end.
    pub fn checkpoint_here(&self, next_offset: Offset) -> PartitionCheckpoint {
        self.stated(next_offset, self.producers.checkpoint(|_| true))
    }

    fn stated(&self, next_offset: Offset, producers: Vec<ProducerCheckpoint>) -> PartitionCheckpoint {
        PartitionCheckpoint {
            partition: self.id,
            next_offset,
            log_start: self.log_start,
            epochs: self.epochs.iter().copied().filter(|(_, start)| *start < next_offset).collect(),
            producers: if mutant::on(Mutant::ForgetCheckpointProducers) { Vec::new() } else { producers },
        }
    }

    /// Reads go to the run from here on, see [`Index::switch`].
    #[must_use]
    pub fn switch(&mut self, window: Window, run: &[IndexedExtent]) -> bool {
        self.merged.commit(window.session, window.to);
        self.index.switch(window, run, self.log_start)
    }

    fn check_next(&self, base_offset: Offset, epoch: LeaseEpoch) -> Result<(), RecoverError> {
        let (partition, expected) = (self.id, self.next_offset);
        if base_offset != expected {
            return Err(RecoverError::NotContiguous { partition, expected, found: base_offset });
        }
        match self.epochs.last() {
            Some((last, _)) if *last > epoch => Err(RecoverError::EpochFell { partition, last: *last, found: epoch }),
            _ => Ok(()),
        }
    }

    /// Ends the replay: an emptied extent keeps its offset range, so the next offset is never below the log start.
    pub fn finish_replay(&mut self) -> Result<(), RecoverError> {
        if self.next_offset < self.restored && !mutant::on(Mutant::IgnoreRuns) && !mutant::on(Mutant::SkipDamaged) {
            let (partition, expected, found) = (self.id, self.restored, self.next_offset);
            return Err(RecoverError::EndsEarly { partition, expected, found });
        }
        if !mutant::on(Mutant::NextOffsetFromData) {
            self.next_offset = self.next_offset.max(self.log_start);
        }
        self.high_watermark = self.next_offset;
        self.index.trim(self.log_start);
        self.merged = Merged::begin(&self.producers, self.next_offset);
        Ok(())
    }

    /// Judges a batch (its `base_offset` is ignored) and, if it is new, gives it offsets in `segment`, the segment now open.
    pub fn admit(
        &mut self,
        batch: &mut BatchMeta,
        segment: SegmentNumber,
        now: TimestampMs,
    ) -> Result<Admitted, AdmitError> {
        match self.producers.judge(Claim::of(batch), now) {
            Verdict::StaleEpoch => Err(AdmitError::StaleProducerEpoch),
            Verdict::OutOfOrder => Err(AdmitError::OutOfOrderSequence),
            Verdict::TooEarly => Err(AdmitError::TooEarly),
            Verdict::Duplicate(original) => Ok(Admitted {
                base_offset: original.base_offset,
                log_append_time: original.max_timestamp,
                segment: original.segment,
                duplicate: true,
            }),
            Verdict::Forgotten(segment) => {
                Ok(Admitted { base_offset: -1, log_append_time: -1, segment, duplicate: true })
            }
            Verdict::New => {
                batch.base_offset = self.next_offset;
                self.next_offset += i64::from(batch.last_offset_delta) + 1;
                let written = Written::in_log(batch, Some(segment));
                self.producers.write(Claim::of(batch), written, now);
                Ok(Admitted {
                    base_offset: written.base_offset,
                    log_append_time: if batch.log_append_time { batch.max_timestamp } else { -1 },
                    segment: Some(segment),
                    duplicate: false,
                })
            }
        }
    }

    /// See [`Producers::refuse`].
    pub fn refuse(&mut self, batch: RefusedBatch, now: TimestampMs) {
        self.producers.refuse(batch, now);
    }

    /// See [`Producers::recall`].
    pub fn recall(&mut self, refused: Refusals) {
        self.producers.recall(refused);
    }

    /// See [`Producers::taken_over`].
    pub fn taken_over(&mut self, now: TimestampMs) {
        self.producers.taken_over(now);
        self.taken_over_at = Some(now);
    }

    /// Whether what is admitted now has waited since another broker ceased to lead, as far as one can tell: it is the first since then, and
    /// comes soon.
    pub fn was_awaited(&mut self, now: TimestampMs) -> bool {
        let at = self.taken_over_at.take();
        at.is_some_and(|at| (0..AWAITED_MS).contains(&now.saturating_sub(at)))
    }

    /// Shows an extent whose segment, and all before it, are committed. One of an earlier tenure is there already: the partition went to another
    /// broker and came back, and was recovered, before this one heard that its own upload had landed.
    pub fn commit(&mut self, object: ObjectRef, extent: &ExtentMeta) {
        if extent.epoch == self.epoch || mutant::on(Mutant::CommitEarlierTenure) {
            self.show(IndexedExtent::new(object, extent));
        }
    }

    fn show(&mut self, extent: IndexedExtent) {
        if self.epochs.last().is_none_or(|(last, _)| *last < extent.epoch) {
            self.epochs.push((extent.epoch, extent.base_offset));
        }
        self.high_watermark = extent.next_offset;
        self.index.push(extent);
    }

    /// Moves the log start up; a lower value changes nothing.
    pub fn advance_log_start(&mut self, log_start: Offset) {
        if mutant::on(Mutant::ForgetLogStart) {
            return;
        }
        self.log_start = self.log_start.max(log_start);
        self.index.trim(self.log_start);
    }

    pub fn expire_producers(&mut self, now: TimestampMs, expiration_ms: i64) {
        self.producers.expire(now, expiration_ms);
        self.merged.expire(now, expiration_ms);
    }

    pub fn id(&self) -> PartitionId {
        self.id
    }

    pub fn epoch(&self) -> LeaseEpoch {
        self.epoch
    }

    pub fn log_start(&self) -> Offset {
        self.log_start
    }

    pub fn next_offset(&self) -> Offset {
        self.next_offset
    }

    pub fn high_watermark(&self) -> Offset {
        if mutant::on(Mutant::ShowUncommitted) { self.next_offset } else { self.high_watermark }
    }

    pub fn index(&self) -> &Index {
        &self.index
    }

    pub fn producers(&self) -> &Producers {
        &self.producers
    }

    /// The lease epoch under which the record at `offset` was or would be written.
    pub fn epoch_at(&self, offset: Offset) -> LeaseEpoch {
        let after = self.epochs.partition_point(|(_, start)| *start <= offset);
        if after == 0 { self.epochs.first().map_or(self.epoch, |(epoch, _)| *epoch) } else { self.epochs[after - 1].0 }
    }

    /// Answers OffsetForLeaderEpoch (KIP-320, `LeaderEpochFileCache.endOffsetFor`): the largest epoch not above `requested` and the
    /// offset at which the next one starts; (-1, -1) if undefined. Before all epochs: the one asked for and where the first one starts.
    pub fn end_of_epoch(&self, requested: LeaseEpoch) -> (LeaseEpoch, Offset) {
        if requested == -1 || requested > self.epoch {
            return (-1, -1);
        }
        if requested == self.epoch {
            return (self.epoch, self.high_watermark);
        }
        let after = self.epochs.partition_point(|(epoch, _)| *epoch <= requested);
        let end = self.epochs.get(after).map_or(self.high_watermark, |(_, start)| *start);
        if after == 0 { (requested, end) } else { (self.epochs[after - 1].0, end) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::TopicId;

    const ID: PartitionId = PartitionId { topic: TopicId(1), index: 0 };
    const OBJECT: ObjectRef = ObjectRef {
        place: crate::log::index::Place::Segment { session: SessionId { revision: 1, random: 1 }, number: 0 },
        body_length: 0,
    };

    fn batch(base_offset: Offset, records: i32, producer_id: i64, base_sequence: i32) -> BatchMeta {
        BatchMeta {
            base_offset,
            last_offset_delta: records - 1,
            length: 100,
            record_count: records,
            max_timestamp: 0,
            producer_id,
            producer_epoch: if producer_id < 0 { -1 } else { 0 },
            base_sequence,
            transactional: false,
            log_append_time: false,
            control: None,
        }
    }

    fn extent(epoch: LeaseEpoch, batches: Vec<BatchMeta>) -> ExtentMeta {
        let last = batches[batches.len() - 1];
        ExtentMeta {
            partition: ID,
            epoch,
            base_offset: batches[0].base_offset,
            next_offset: last.base_offset + i64::from(last.last_offset_delta) + 1,
            position: 0,
            length: 100 * batches.len() as u32,
            max_timestamp: 0,
            batches,
        }
    }

    #[test]
    fn p08_offsets_show_after_the_commit_of_their_own_segment() {
        let mut partition = Partition::new(ID, 7, 0);
        let mut first = batch(-1, 10, -1, -1);
        let mut second = batch(-1, 5, -1, -1);
        assert_eq!(partition.admit(&mut first, 3, 0).map(|a| a.base_offset), Ok(0));
        assert_eq!(partition.admit(&mut second, 4, 0).map(|a| a.base_offset), Ok(10));
        assert_eq!((partition.next_offset(), partition.high_watermark()), (15, 0));
        partition.commit(OBJECT, &extent(7, vec![first]));
        assert_eq!((partition.next_offset(), partition.high_watermark()), (15, 10));
        partition.commit(OBJECT, &extent(7, vec![second]));
        // What was uploaded in an earlier tenure is in the log by now, and heard of only now.
        partition.commit(OBJECT, &extent(6, vec![first]));
        assert_eq!((partition.next_offset(), partition.high_watermark()), (15, 15));
    }

    /// A newer epoch whose first batch was not committed never was: the one before it goes on after recovery, and only then ends.
    #[test]
    fn p05_an_epoch_that_was_not_committed_bars_nobody() {
        let of_epoch = |epoch, base_sequence| BatchMeta { producer_epoch: epoch, ..batch(-1, 1, 9, base_sequence) };
        for committed in [false, true] {
            let mut partition = Partition::new(ID, 0, 0);
            let (mut first, mut newer) = (of_epoch(0, 0), of_epoch(1, 0));
            partition.admit(&mut first, 3, 0).expect("new");
            partition.admit(&mut newer, 4, 0).expect("a newer epoch");
            let stale = partition.admit(&mut of_epoch(0, 1), 5, 0);
            assert!(matches!(stale, Err(AdmitError::StaleProducerEpoch)), "while it is in flight: {stale:?}");
            let mut recovered = Partition::new(ID, 1, 0);
            recovered.replay(OBJECT, &extent(0, vec![first]), 0).expect("contiguous");
            if committed {
                recovered.replay(OBJECT, &extent(0, vec![newer]), 0).expect("contiguous");
            }
            recovered.finish_replay().expect("all is there");
            let older = recovered.admit(&mut of_epoch(0, 1), 0, 0);
            assert_eq!(older.is_ok(), !committed, "{older:?}");
        }
    }

    /// Each extent begins where the one before ended, the first at 0, and the last is not below what a checkpoint counted.
    #[test]
    fn p10_a_hole_is_never_recovered_over() {
        // (log start, what a checkpoint counted, where extents of two begin, which one is refused; the end: one more)
        type Case<'a> = (Offset, Offset, &'a [Offset], Option<usize>);
        let table: [Case; 8] = [
            (0, 0, &[0, 2, 4], None),
            (0, 0, &[2], Some(0)),
            (0, 0, &[0, 4], Some(1)),
            (0, 0, &[0, 0], Some(1)),
            (3, 0, &[0, 2], None),
            (3, 0, &[4], Some(0)),
            (0, 4, &[0, 2], None),
            (0, 6, &[0, 2], Some(2)),
        ];
        for (log_start, next_offset, bases, refused) in table {
            let mut partition = Partition::new(ID, 0, log_start);
            let (epochs, producers) = (Vec::new(), Vec::new());
            partition.restore(&PartitionCheckpoint { partition: ID, next_offset, log_start, epochs, producers });
            let two = |base: &Offset| extent(0, vec![batch(*base, 2, -1, -1)]);
            let mut steps: Vec<_> = bases.iter().map(|base| partition.replay(OBJECT, &two(base), 0)).collect();
            if steps.iter().all(Result::is_ok) {
                steps.push(partition.finish_replay());
            }
            assert_eq!(steps.iter().position(Result::is_err), refused, "{bases:?}, {next_offset} from {log_start}");
        }
    }

    #[test]
    fn a_duplicate_points_at_the_segment_of_its_original() {
        let mut partition = Partition::new(ID, 0, 0);
        let mut original = batch(-1, 2, 9, 0);
        partition.admit(&mut original, 3, 0).expect("new");
        let again = partition.admit(&mut batch(-1, 2, 9, 0), 8, 0).expect("known");
        assert_eq!((again.base_offset, again.segment, again.duplicate), (0, Some(3), true));
        assert_eq!(partition.next_offset(), 2);
    }

    #[test]
    fn a_duplicate_has_the_time_of_its_original() {
        for (log_append_time, first) in [(false, -1), (true, 1234)] {
            let stamped = || BatchMeta { max_timestamp: 1234, log_append_time, ..batch(-1, 2, 9, 0) };
            let mut partition = Partition::new(ID, 0, 0);
            assert_eq!(partition.admit(&mut stamped(), 3, 7_000).map(|a| a.log_append_time), Ok(first));
            let again = || BatchMeta { max_timestamp: 9999, ..stamped() };
            assert_eq!(partition.admit(&mut again(), 3, 8_000).map(|a| a.log_append_time), Ok(1234));
            let mut recovered = Partition::new(ID, 1, 0);
            let stored = BatchMeta { base_offset: 0, ..stamped() };
            recovered.replay(OBJECT, &extent(0, vec![stored]), 5_000).expect("contiguous");
            recovered.finish_replay().expect("all is there");
            assert_eq!(recovered.admit(&mut again(), 3, 8_000).map(|a| a.log_append_time), Ok(1234));
        }
    }

    #[test]
    fn recovery_rebuilds_what_was_committed() {
        let mut partition = Partition::new(ID, 2, 0);
        partition.replay(OBJECT, &extent(0, vec![batch(0, 2, 9, 0)]), 0).expect("contiguous");
        partition.replay(OBJECT, &extent(1, vec![batch(2, 1, 9, 2)]), 0).expect("contiguous");
        let gap = partition.replay(OBJECT, &extent(1, vec![batch(4, 1, -1, -1)]), 0);
        assert!(matches!(gap, Err(RecoverError::NotContiguous { expected: 3, found: 4, .. })), "{gap:?}");
        let fell = partition.replay(OBJECT, &extent(0, vec![batch(3, 1, -1, -1)]), 0);
        assert!(matches!(fell, Err(RecoverError::EpochFell { .. })), "{fell:?}");
        partition.finish_replay().expect("all is there");
        assert_eq!(partition.high_watermark(), 3);
        let duplicate = partition.admit(&mut batch(-1, 1, 9, 2), 0, 0).expect("known");
        assert_eq!((duplicate.base_offset, duplicate.segment), (2, None));
        let table = [(-1, (-1, -1)), (-7, (-7, 0)), (0, (0, 2)), (1, (1, 3)), (2, (2, 3)), (3, (-1, -1))];
        for (requested, answer) in table {
            assert_eq!(partition.end_of_epoch(requested), answer, "epoch {requested}");
        }
    }

    #[test]
    fn an_emptied_partition_keeps_its_offsets() {
        let mut partition = Partition::new(ID, 0, 100);
        partition.finish_replay().expect("all is there");
        assert_eq!(partition.admit(&mut batch(-1, 1, -1, -1), 0, 0).map(|a| a.base_offset), Ok(100));
    }
}
