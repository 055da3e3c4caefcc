//! Turns admitted batches into committed segments.
//!
//! ```text
//! admit (Gather::append, synchronous) ─► open segment ─► flush::Flusher seals, uploads side by side, commits in order
//!                                                              └─► partitions show the extents ─► Appender::committed returns
//! ```
//!
//! Roles: the [`Appender`] owns the open segment and the commit watermark; the [`flush::Flusher`] owns pacing, uploads and their
//! order; [`tracker::Tracker`] decides what is committed; [`budget::Budget`] bounds the bytes in all of it.
//!
//! Failure: an upload is retried until the name is ours or somebody else's. A fence, or a refusal for good, ends the session: the open
//! segment closes, every waiter gets [`SessionOver`], nothing that was not committed is ever acknowledged.

pub mod budget;
pub mod flush;
pub mod tracker;
pub mod unmerged;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use self::budget::Charge;
use super::partition::{AdmitError, Admitted};
use super::slot::{PartitionSlot, Unavailable};
use crate::segment::{BatchMeta, ExtentDraft};
use crate::types::mutant::{self, Mutant};
use crate::types::{Offset, PartitionId, SegmentNumber, TimestampMs};

/// Why a session ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionEnd {
    /// Everything was committed, on request.
    Drained,
    /// Somebody put a fence at this number: another broker took over.
    Fenced { number: SegmentNumber },
    /// The store refuses for good (denied, full).
    Refused { number: SegmentNumber, reason: String },
    /// Something that must not be: an object that is neither ours nor a fence.
    Broken { reason: String },
}

/// The session ended before the answer was known to be right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the session is over")]
pub struct SessionOver;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    #[error(transparent)]
    Refused(#[from] AdmitError),
    #[error(transparent)]
    Over(#[from] SessionOver),
}

/// A batch that was admitted, and what its answer says besides.
#[derive(Clone, Copy, Debug)]
pub struct Appended {
    pub admitted: Admitted,
    pub log_start: Offset,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Commit {
    /// Segments 0..committed are committed.
    committed: SegmentNumber,
    ended: Option<SessionEnd>,
}

/// A segment holds so many batches at most, and a few; their footer stays well below its limit.
const SEGMENT_BATCHES: usize = 500_000;

/// Batches that wait to be sealed.
#[derive(Default)]
struct Open {
    number: SegmentNumber,
    extents: BTreeMap<PartitionId, ExtentDraft>,
    bytes: usize,
    batches: usize,
    charges: Vec<Arc<Charge>>,
    /// The flusher was woken for it.
    told: bool,
    /// Somebody waits for the object: it goes out before its time.
    urgent: bool,
    /// Records are in it that have waited since another broker ceased to lead: it goes out soon.
    awaited: bool,
}

/// What was admitted and is not yet sealed. A segment that is full takes nothing more, also when no upload may begin: a store
/// that is slow must not be given ever larger objects.
#[derive(Default)]
struct Unsealed {
    /// Full ones, oldest first.
    full: VecDeque<Open>,
    open: Open,
    closed: bool,
}

impl Unsealed {
    /// The segment for the next batch.
    fn room(&mut self, flush_bytes: usize) -> &mut Open {
        if self.open.is_full(flush_bytes) {
            let next = Open { number: self.open.number + 1, ..Open::default() };
            self.full.push_back(std::mem::replace(&mut self.open, next));
        }
        &mut self.open
    }
}

impl Open {
    fn is_full(&self, flush_bytes: usize) -> bool {
        self.bytes >= flush_bytes || self.batches >= SEGMENT_BATCHES
    }
}

pub struct Appender {
    unsealed: Mutex<Unsealed>,
    /// The flusher should look again.
    wake: Notify,
    flush_bytes: usize,
    commit: watch::Sender<Commit>,
    /// Cancelled with `commit.ended`: who waits for the end only is not woken by every commit.
    over: CancellationToken,
}

impl Appender {
    /// `committed` segments of the session exist already: those that opened it.
    pub fn new(committed: SegmentNumber, flush_bytes: usize) -> Appender {
        Appender {
            unsealed: Mutex::new(Unsealed {
                open: Open { number: committed, ..Open::default() },
                ..Unsealed::default()
            }),
            wake: Notify::new(),
            flush_bytes,
            commit: watch::Sender::new(Commit { committed, ended: None }),
            over: CancellationToken::new(),
        }
    }

    /// For batches that come together, so that they go out together.
    pub fn gather(&self) -> Gather<'_> {
        Gather { appender: self }
    }

    /// Tells the flusher of batches that it may not have seen.
    fn tell(&self) {
        let open = &mut self.unsealed.lock().open;
        if open.batches > 0 && !open.told {
            open.told = true;
            self.wake.notify_one();
        }
    }

    /// Returns when segment `number` and all before it are committed.
    pub async fn committed(&self, number: SegmentNumber) -> Result<(), SessionOver> {
        let mut commit = self.commit.subscribe();
        let done = |commit: &Commit| commit.committed > number || commit.ended.is_some();
        match commit.wait_for(done).await {
            Ok(commit) if commit.committed > number => Ok(()),
            _ => Err(SessionOver),
        }
    }

    /// Returns when the session is over.
    pub async fn ended(&self) {
        self.over.cancelled().await;
    }

    pub fn is_over(&self) -> bool {
        self.over.is_cancelled()
    }

    pub fn committed_count(&self) -> SegmentNumber {
        self.commit.borrow().committed
    }

    /// Whether there is anything to seal, and whether it is time.
    fn state(&self) -> OpenState {
        let unsealed = self.unsealed.lock();
        OpenState {
            empty: unsealed.full.is_empty() && unsealed.open.extents.is_empty(),
            full: !unsealed.full.is_empty() || unsealed.open.is_full(self.flush_bytes),
            urgent: unsealed.open.urgent,
            awaited: unsealed.open.awaited,
        }
    }

    fn seal(&self) -> Open {
        let mut unsealed = self.unsealed.lock();
        if let Some(oldest) = unsealed.full.pop_front() {
            return oldest;
        }
        let next = Open { number: unsealed.open.number + 1, ..Open::default() };
        std::mem::replace(&mut unsealed.open, next)
    }

    /// The newest segment that may hold anything of a partition that takes no more. It goes out at once, for another broker waits for it.
    pub fn last_of_what_is_in(&self) -> SegmentNumber {
        if mutant::on(Mutant::HandOverUnflushed) {
            return self.committed_count().saturating_sub(1);
        }
        let open = {
            let open = &mut self.unsealed.lock().open;
            open.urgent = !open.extents.is_empty();
            if open.urgent { open.number } else { open.number.saturating_sub(1) }
        };
        // Also when it waits for its time already.
        self.wake.notify_one();
        open
    }

    fn advance(&self, committed: SegmentNumber) {
        self.commit.send_modify(|commit| commit.committed = committed);
    }

    fn close(&self, end: SessionEnd) {
        let mut unsealed = self.unsealed.lock();
        let number = unsealed.open.number;
        *unsealed = Unsealed { closed: true, open: Open { number, ..Open::default() }, ..Unsealed::default() };
        drop(unsealed);
        self.commit.send_modify(|commit| commit.ended = Some(end));
        self.over.cancel();
    }
}

/// Batches of one request. The flusher, which may be idle, is told of them when the last is in: were it told of the first, that
/// one would be a segment of its own, and the others would wait for the next.
pub struct Gather<'a> {
    appender: &'a Appender,
}

impl Gather<'_> {
    /// Judges one valid batch of a partition and puts it into the open segment. Order of calls is order in the log.
    pub fn append(
        &self,
        slot: &PartitionSlot,
        bytes: Bytes,
        mut meta: BatchMeta,
        charges: &[Arc<Charge>],
        now: TimestampMs,
    ) -> Result<Appended, AppendError> {
        let mut inner = slot.lock();
        let partition = inner.partition()?;
        let mut unsealed = self.appender.unsealed.lock();
        if unsealed.closed {
            return Err(SessionOver.into());
        }
        let open = unsealed.room(self.appender.flush_bytes);
        let admitted = partition.admit(&mut meta, open.number, now)?;
        let appended = Appended { admitted, log_start: partition.log_start() };
        if admitted.duplicate {
            return Ok(appended);
        }
        open.bytes += bytes.len();
        open.batches += 1;
        open.awaited |= partition.was_awaited(now);
        let draft = || ExtentDraft { partition: slot.id, epoch: partition.epoch(), batches: Vec::new() };
        open.extents.entry(slot.id).or_insert_with(draft).batches.push((bytes, meta));
        for charge in charges {
            if !open.charges.last().is_some_and(|last| Arc::ptr_eq(last, charge)) {
                open.charges.push(charge.clone());
            }
        }
        if open.is_full(self.appender.flush_bytes) {
            self.appender.wake.notify_one();
        }
        Ok(appended)
    }

    /// What is in may go out: the next batch may be long in coming.
    pub fn release(&self) {
        self.appender.tell();
    }
}

impl Drop for Gather<'_> {
    fn drop(&mut self) {
        self.release();
    }
}

struct OpenState {
    empty: bool,
    full: bool,
    urgent: bool,
    awaited: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::append::budget::Budget;
    use crate::log::partition::Partition;
    use crate::log::slot::SlotState;
    use crate::types::TopicId;

    fn meta(length: u32) -> BatchMeta {
        BatchMeta {
            base_offset: 0,
            last_offset_delta: 0,
            length,
            record_count: 1,
            max_timestamp: 0,
            producer_id: -1,
            producer_epoch: -1,
            base_sequence: -1,
            transactional: false,
            log_append_time: false,
            control: None,
        }
    }

    #[tokio::test]
    async fn a_full_segment_takes_nothing_more_while_it_waits() {
        let id = PartitionId { topic: TopicId(1), index: 0 };
        let slot = PartitionSlot::recovering(id);
        slot.settle(SlotState::Serving(Box::new(Partition::new(id, 0, 0))));
        let appender = Appender::new(5, 100);
        let budget = Budget::new(1000);
        for at in 0..7 {
            let charge = Arc::new(budget.charge(40).await);
            let appended =
                appender.gather().append(&slot, Bytes::from_static(&[0; 40]), meta(40), &[charge], 0).expect("fits");
            assert_eq!((appended.admitted.base_offset, appended.admitted.segment), (at, Some(5 + at as u64 / 3)));
        }
        assert!(appender.state().full);
        let sealed: Vec<_> = (0..4).map(|_| appender.seal()).map(|open| (open.number, open.bytes)).collect();
        assert_eq!(sealed, [(5, 120), (6, 120), (7, 40), (8, 0)]);
        assert!(appender.state().empty && !appender.state().full && budget.used() == 0);
        appender.gather().append(&slot, Bytes::from_static(&[0; 40]), meta(40), &[], 0).expect("fits");
        appender.close(SessionEnd::Drained);
        assert!(appender.is_over() && appender.state().empty);
        let late = appender.gather().append(&slot, Bytes::new(), meta(0), &[], 0);
        assert_eq!(late.map(|_| ()), Err(AppendError::Over(SessionOver)));
    }

    fn serving() -> Arc<PartitionSlot> {
        let id = PartitionId { topic: TopicId(1), index: 0 };
        let slot = PartitionSlot::recovering(id);
        slot.settle(SlotState::Serving(Box::new(Partition::new(id, 0, 0))));
        slot
    }

    #[tokio::test]
    async fn a_duplicate_waits_for_its_original_and_is_not_written() {
        let (slot, appender) = (serving(), Appender::new(5, 100));
        let idempotent = |base_sequence| BatchMeta { producer_id: 1, producer_epoch: 0, base_sequence, ..meta(40) };
        // (sequence, segment, offset, duplicate): three batches fill a segment.
        let table = [
            (0, 5, 0, false),
            (1, 5, 1, false),
            (1, 5, 1, true),
            (2, 5, 2, false),
            (3, 6, 3, false),
            (0, 5, 0, true),
            (3, 6, 3, true),
        ];
        for (sequence, segment, offset, duplicate) in table {
            let admitted = appender.gather().append(&slot, Bytes::from_static(&[0; 40]), idempotent(sequence), &[], 0);
            let admitted = admitted.expect("it follows").admitted;
            let found = (admitted.segment, admitted.base_offset, admitted.duplicate);
            assert_eq!(found, (Some(segment), offset, duplicate), "sequence {sequence}");
        }
        assert_eq!([appender.seal().bytes, appender.seal().bytes], [120, 40]);
    }

    #[tokio::test]
    async fn the_first_records_after_a_takeover_are_awaited() {
        // (ms since the takeover, the segment is awaited); in order, each in a segment of its own
        let table: &[(i64, &[(i64, bool)])] = &[
            (1000, &[(1000, true), (1001, false)]),
            (1000, &[(2999, true), (2999, false)]),
            (1000, &[(3000, false), (1001, false)]),
            // The wall clock was turned back.
            (1000, &[(999, false), (1001, false)]),
        ];
        for (taken_over_at, appends) in table {
            let (slot, appender) = (serving(), Appender::new(5, 100));
            slot.lock().partition().expect("it serves").taken_over(*taken_over_at);
            for (now, awaited) in *appends {
                appender.gather().append(&slot, Bytes::from_static(&[0; 40]), meta(40), &[], *now).expect("fits");
                assert_eq!(appender.state().awaited, *awaited, "taken over at {taken_over_at}, written at {now}");
                appender.seal();
            }
        }
    }

    #[tokio::test]
    async fn charges_are_held_until_the_segment_is_gone() {
        let (slot, appender, budget) = (serving(), Appender::new(0, 100), Budget::new(1000));
        for _ in 0..2 {
            let charge = Arc::new(budget.charge(40).await);
            for _ in 0..2 {
                let charges = [Arc::clone(&charge)];
                appender.gather().append(&slot, Bytes::from_static(&[0; 20]), meta(20), &charges, 0).expect("fits");
            }
        }
        assert_eq!(budget.used(), 80);
        let sealed = appender.seal();
        assert_eq!((budget.used(), sealed.charges.len()), (80, 2));
        drop(sealed);
        assert_eq!(budget.used(), 0);
    }

    #[tokio::test]
    async fn who_waits_hears_of_his_own_segment_only() {
        use futures::FutureExt;
        let appender = Appender::new(5, 100);
        let now = |number| appender.committed(number).now_or_never();
        assert_eq!([now(4), now(5), now(6)], [Some(Ok(())), None, None]);
        appender.advance(6);
        assert_eq!([now(4), now(5), now(6)], [Some(Ok(())), Some(Ok(())), None]);
        appender.close(SessionEnd::Drained);
        assert_eq!([now(5), now(6), now(7)], [Some(Ok(())), Some(Err(SessionOver)), Some(Err(SessionOver))]);
    }

    #[tokio::test]
    async fn the_flusher_is_told_when_the_last_batch_is_in() {
        let id = PartitionId { topic: TopicId(1), index: 0 };
        let slot = PartitionSlot::recovering(id);
        slot.settle(SlotState::Serving(Box::new(Partition::new(id, 0, 0))));
        let appender = Appender::new(0, 100);
        let told = || futures::FutureExt::now_or_never(appender.wake.notified()).is_some();
        let append = |to: &Gather<'_>| {
            to.append(&slot, Bytes::from_static(&[0; 40]), meta(40), &[], 0).expect("fits");
        };
        let request = appender.gather();
        append(&request);
        assert!(!told(), "more may come");
        request.release();
        assert!(told());
        append(&request);
        drop(request);
        assert!(!told(), "it knows already");
        appender.seal();
        let full = appender.gather();
        (0..3).for_each(|_| append(&full));
        assert!(told(), "a full segment waits for nothing");
        drop(full);
        drop(appender.gather());
        appender.seal();
        drop(appender.gather());
        assert!(told() && !told(), "nothing to tell of");
    }
}
