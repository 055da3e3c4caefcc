//! Fills an object of a run: reads what it takes of each segment, from memory or the store, and checks every batch.
//!
//! In memory are one object and the few pieces on their way to it. What was read wrong would be wrong for ever, for the segment it came
//! from is deleted later: a batch that does not match its own checksum is read again, and then stops the merge.

use std::ops::Range;
use std::sync::Arc;

use futures::stream::iter;
use futures::{FutureExt, StreamExt};

use super::Maintenance;
use super::layout::{Draft, Piece};
use super::merge::MergeError;
use crate::log::append::budget::{Budget, Charge};
use crate::segment::{segment_key, verify_batch};
use crate::store::retry::{ReadPolicy, read_retrying};
use crate::store::{ReadRange, StoreError};
use crate::types::aligned::{AlignedBuffer, Spare};
use crate::types::mutant::{self, Mutant};
use crate::types::{SegmentNumber, SessionId};

/// Reads side by side, and the bytes of one.
const READS_AT_ONCE: usize = 2;
const READ_BYTES: u64 = 8 << 20;

/// After so many bytes those who serve go first: a worker thread that fills fresh memory or computes checksums for longer makes their
/// answers late.
const STEP_BYTES: usize = 512 << 10;

/// Pieces so close together are read with what lies between them.
const GAP_BYTES: u64 = 64 << 10;

/// What was read wrong is read so often again.
const READS_AGAIN: usize = 2;

/// The part of the buffers' budget that a merge may take, and how much of it at once.
const HELD_PART: usize = 3;
const HOLD_STEP: usize = 1 << 20;

/// Pieces of one segment that are read at once.
struct Stretch<'a> {
    segment: SegmentNumber,
    range: Range<u64>,
    pieces: Vec<&'a Piece>,
}

fn stretches(draft: &Draft) -> Vec<Stretch<'_>> {
    let mut pieces: Vec<&Piece> = draft.pieces.iter().collect();
    pieces.sort_by_key(|piece| (piece.segment, piece.from));
    let mut stretches: Vec<Stretch<'_>> = Vec::new();
    for piece in pieces {
        let end = piece.from + piece.length;
        match stretches.last_mut().filter(|last| {
            let near = piece.segment == last.segment && piece.from <= last.range.end + GAP_BYTES;
            near && end - last.range.start <= READ_BYTES
        }) {
            Some(last) => {
                last.range.end = end;
                last.pieces.push(piece);
            }
            None => stretches.push(Stretch { segment: piece.segment, range: piece.from..end, pieces: vec![piece] }),
        }
    }
    stretches
}

/// Takes memory for a merge out of the buffers of what is received, so that both together keep within the setting: step by step, for
/// records go first, and never more than a part of it, however small it is. Cancellation safe.
pub(super) async fn hold(buffers: &Budget, bytes: usize) -> Charge {
    let bytes = bytes.min(buffers.total() / HELD_PART);
    let mut held = Charge::none();
    while held.bytes() < bytes {
        held.add(buffers.charge(HOLD_STEP.min(bytes - held.bytes())).await);
    }
    held
}

/// Bytes that lie in memory while the object is filled: its own, and what is read for it.
pub(super) fn in_memory(draft: &Draft) -> usize {
    let own = usize::try_from(draft.length).unwrap_or(usize::MAX);
    own.saturating_add(own.min(READS_AT_ONCE * READ_BYTES as usize))
}

impl Maintenance {
    /// The body of the object, with room for `more` bytes behind it, in the memory of the one before it.
    pub(super) async fn fill(
        &self,
        session: SessionId,
        draft: &Draft,
        more: usize,
        spare: &Arc<Spare>,
    ) -> Result<AlignedBuffer, MergeError> {
        let length = usize::try_from(draft.length).map_err(|_| MergeError::TooLarge(draft.length))?;
        // The pieces cover all of it.
        let mut body = spare.take(length + more, length);
        while body.len() < length {
            body.extend_zeros(STEP_BYTES.min(length - body.len()));
            tokio::task::yield_now().await;
        }
        let reads: Vec<_> =
            stretches(draft).into_iter().map(|stretch| self.stretch(session, stretch).boxed()).collect();
        let mut reads = iter(reads).buffered(READS_AT_ONCE);
        while let Some(read) = reads.next().await {
            for (piece, bytes) in read? {
                let mut at = usize::try_from(piece.to).expect("inside of the body");
                for step in bytes.chunks(STEP_BYTES) {
                    body.as_mut_slice()[at..at + step.len()].copy_from_slice(step);
                    at += step.len();
                    tokio::task::yield_now().await;
                }
            }
        }
        Ok(body)
    }

    /// Reads and checks.
    async fn stretch<'a>(
        &self,
        session: SessionId,
        stretch: Stretch<'a>,
    ) -> Result<Vec<(&'a Piece, bytes::Bytes)>, MergeError> {
        let key = segment_key(session, stretch.segment);
        for again in 0.. {
            let kept = if again == 0 { self.tail.get(&key, stretch.range.clone()) } else { None };
            let bytes = match kept {
                Some(bytes) => bytes,
                None => match self.range(&key, stretch.range.clone()).await {
                    Err(_) if mutant::on(Mutant::MergeWithoutMissing) => return Ok(Vec::new()),
                    read => read?,
                },
            };
            let slice = |piece: &Piece| {
                let from = usize::try_from(piece.from - stretch.range.start).expect("inside of what was read");
                bytes.slice(from..from + usize::try_from(piece.length).expect("inside of what was read"))
            };
            let pieces: Vec<_> = stretch.pieces.iter().map(|piece| (*piece, slice(piece))).collect();
            match check_all(&pieces).await {
                Err(_) if mutant::on(Mutant::CommitUnverified) => return Ok(pieces),
                Err(what) if again == READS_AGAIN => return Err(MergeError::Damaged { object: key, what }),
                Err(_) => {}
                Ok(()) => return Ok(pieces),
            }
        }
        unreachable!("the last look returns")
    }

    async fn range(&self, key: &str, range: Range<u64>) -> Result<bytes::Bytes, StoreError> {
        let footers = &self.log.footers;
        let length = range.end - range.start;
        if mutant::on(Mutant::MergeWithoutMissing) {
            let read = footers.store.read(key, ReadRange::Range(range)).await?;
            return if read.bytes.len() as u64 == length { Ok(read.bytes) } else { Err(StoreError::maybe(key, "cut")) };
        }
        let policy = ReadPolicy::default();
        let read = read_retrying(footers.store.as_ref(), &footers.env, key, ReadRange::Range(range), &policy).await?;
        if read.bytes.len() as u64 != length {
            return Err(StoreError::permanent(key, "it is shorter than its footer says"));
        }
        Ok(read.bytes)
    }
}

async fn check_all(pieces: &[(&Piece, bytes::Bytes)]) -> Result<(), String> {
    let mut checked = 0;
    for (piece, bytes) in pieces {
        let mut rest = &bytes[..];
        for (offset, length) in &piece.batches {
            let (batch, behind) = rest.split_at(*length as usize);
            verify_batch(batch, *offset, piece.epoch).map_err(|what| format!("batch at offset {offset}: {what}"))?;
            rest = behind;
            checked += batch.len();
            if checked >= STEP_BYTES {
                checked = 0;
                tokio::task::yield_now().await;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn close_pieces_are_read_together() {
        let piece = |segment, from, length| Piece { segment, from, to: 0, length, epoch: 0, batches: Vec::new() };
        let gap = GAP_BYTES;
        // (pieces: segment, from, length; what is read)
        type Case<'a> = (&'a [(u64, u64, u64)], &'a [(u64, u64, u64)]);
        let table: &[Case] = &[
            (&[], &[]),
            (&[(1, 0, 10), (1, 10, 10)], &[(1, 0, 20)]),
            (&[(1, 10, 10), (2, 20, 5), (1, 0, 10)], &[(1, 0, 20), (2, 20, 25)]),
            (&[(1, 0, 10), (1, 10 + gap, 10)], &[(1, 0, 20 + gap)]),
            (&[(1, 0, 10), (1, 11 + gap, 10)], &[(1, 0, 10), (1, 11 + gap, 21 + gap)]),
            (&[(1, 0, READ_BYTES), (1, READ_BYTES, 1)], &[(1, 0, READ_BYTES), (1, READ_BYTES, READ_BYTES + 1)]),
            (&[(1, 0, 3 * READ_BYTES)], &[(1, 0, 3 * READ_BYTES)]),
        ];
        for (pieces, expected) in table {
            let pieces = pieces.iter().map(|(segment, from, length)| piece(*segment, *from, *length)).collect();
            let draft = Draft { pieces, ..Draft::default() };
            let read: Vec<_> = stretches(&draft).iter().map(|s| (s.segment, s.range.start, s.range.end)).collect();
            assert_eq!(read, *expected);
        }
    }

    #[tokio::test]
    async fn merges_take_from_the_buffers_and_leave_most_to_records() {
        const MIB: usize = 1 << 20;
        for (total, bytes, expected) in [(256, 80, 80), (30, 80, 10), (1, 80, 0), (256, 0, 0)] {
            let held = hold(&Budget::new(total * MIB), bytes * MIB).await;
            assert_eq!(held.bytes() / MIB, expected, "{bytes} of {total}");
        }
        let budget = Budget::new(30 * MIB);
        let records = budget.charge(25 * MIB).await;
        let mut merge = Box::pin(hold(&budget, 80 * MIB));
        assert!(merge.as_mut().now_or_never().is_none());
        let mut batch = Box::pin(budget.charge(MIB));
        assert!(batch.as_mut().now_or_never().is_none(), "all is taken");
        drop(records);
        assert!(batch.now_or_never().is_some(), "a merge that needs more stands behind who came before");
        assert_eq!(merge.await.bytes(), 10 * MIB);
        assert_eq!(budget.used(), 0);
    }
}
