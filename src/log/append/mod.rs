//! Turns admitted batches into committed segments.
//!
//! ```text
//! admit (Appender::append, synchronous) ─► open segment ─► flush::Flusher seals, uploads side by side, commits in order
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

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use self::budget::Charge;
use super::partition::{AdmitError, Admitted};
use super::slot::{PartitionSlot, Unavailable};
use crate::segment::{BatchMeta, ExtentDraft};
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

/// Batches that wait to be sealed.
#[derive(Default)]
struct Open {
    number: SegmentNumber,
    extents: BTreeMap<PartitionId, ExtentDraft>,
    bytes: usize,
    charges: Vec<Arc<Charge>>,
    closed: bool,
}

pub struct Appender {
    open: Mutex<Open>,
    /// The flusher should look again.
    wake: Notify,
    flush_bytes: usize,
    commit: watch::Sender<Commit>,
}

impl Appender {
    /// `committed` segments of the session exist already (segment 0).
    pub fn new(committed: SegmentNumber, flush_bytes: usize) -> Appender {
        Appender {
            open: Mutex::new(Open { number: committed, ..Open::default() }),
            wake: Notify::new(),
            flush_bytes,
            commit: watch::Sender::new(Commit { committed, ended: None }),
        }
    }

    /// Judges one valid batch of a partition and puts it into the open segment. Order of calls is order in the log.
    pub fn append(
        &self,
        slot: &PartitionSlot,
        bytes: Bytes,
        mut meta: BatchMeta,
        charge: &Arc<Charge>,
        now: TimestampMs,
    ) -> Result<Appended, AppendError> {
        let mut inner = slot.lock();
        let partition = inner.partition()?;
        let mut open = self.open.lock();
        if open.closed {
            return Err(SessionOver.into());
        }
        let admitted = partition.admit(&mut meta, open.number, now)?;
        let appended = Appended { admitted, log_start: partition.log_start() };
        if admitted.duplicate {
            return Ok(appended);
        }
        let was = open.bytes;
        open.bytes += bytes.len();
        let draft = || ExtentDraft { partition: slot.id, epoch: partition.epoch(), batches: Vec::new() };
        open.extents.entry(slot.id).or_insert_with(draft).batches.push((bytes, meta));
        if !open.charges.last().is_some_and(|last| Arc::ptr_eq(last, charge)) {
            open.charges.push(charge.clone());
        }
        if was == 0 || (was < self.flush_bytes && open.bytes >= self.flush_bytes) {
            self.wake.notify_one();
        }
        Ok(appended)
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

    /// Returns when the session is over, with the reason.
    pub async fn ended(&self) -> SessionEnd {
        let mut commit = self.commit.subscribe();
        match commit.wait_for(|commit| commit.ended.is_some()).await {
            Ok(commit) => commit.ended.clone().unwrap_or(SessionEnd::Drained),
            Err(_) => SessionEnd::Drained,
        }
    }

    pub fn committed_count(&self) -> SegmentNumber {
        self.commit.borrow().committed
    }

    /// The open segment's number, with whether it holds anything.
    fn state(&self) -> OpenState {
        let open = self.open.lock();
        OpenState { empty: open.extents.is_empty(), full: open.bytes >= self.flush_bytes }
    }

    fn seal(&self) -> Open {
        let mut open = self.open.lock();
        let next = Open { number: open.number + 1, closed: open.closed, ..Open::default() };
        std::mem::replace(&mut *open, next)
    }

    fn advance(&self, committed: SegmentNumber) {
        self.commit.send_modify(|commit| commit.committed = committed);
    }

    fn close(&self, end: SessionEnd) {
        let mut open = self.open.lock();
        open.closed = true;
        open.extents.clear();
        open.charges.clear();
        drop(open);
        self.commit.send_modify(|commit| commit.ended = Some(end));
    }
}

struct OpenState {
    empty: bool,
    full: bool,
}
