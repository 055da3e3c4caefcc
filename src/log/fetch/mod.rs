//! Reads committed batches back: plan (pure, under the slot's lock) → read (tail, block cache, bucket) → cut to whole batches.
//!
//! What comes back begins with the batch that holds the wanted offset and ends with a whole batch. A tailing reader gets slices of
//! the very buffers that were uploaded; nothing is copied and nothing is read from the bucket. Whoever goes through the log finds his next
//! bytes in memory: they are read while he digests the last. What the bucket gave is checked by the
//! batches' own checksums, and read once more if they do not match.

mod ahead;
pub mod cut;
pub mod lookup;
pub mod plan;
mod stretch;
#[cfg(test)]
mod tests;

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures::stream::{self, StreamExt};
use parking_lot::Mutex;
use tokio::time::Instant;

use self::ahead::Readers;
use self::cut::{Cut, CutError, Wanted};
use self::plan::{OutOfRange, Piece, Plan};
use self::stretch::Stretch;
use super::index::ObjectRef;
use super::slot::{PartitionSlot, Unavailable};
use crate::cache::{BlockCache, TailCache};
use crate::store::StoreError;
use crate::types::Offset;

/// At least so many bytes are asked for at once, so that a small limit does not make many small reads.
const READ_AT_LEAST: u64 = 64 * 1024;

/// Less than so many bytes of a block are copied: who holds them must not hold all of it, which is charged to nobody once it is evicted.
const SMALL_PART: usize = 128 * 1024;

/// Pieces of one partition that are read side by side.
const PIECES_AT_ONCE: usize = 4;

/// Pieces that are read ahead side by side.
const AHEAD_AT_ONCE: usize = 32;

#[derive(Debug, Clone, thiserror::Error)]
pub enum ReadError {
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    #[error(transparent)]
    OutOfRange(#[from] OutOfRange),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{object}: {error}")]
    Damaged { object: String, error: CutError },
}

/// Whole batches of one partition, and its bounds at the moment they were planned.
#[derive(Clone, Debug)]
pub struct Batches {
    pub slices: Vec<Bytes>,
    pub bytes: usize,
    pub high_watermark: Offset,
    pub log_start: Offset,
}

impl Batches {
    /// None.
    pub fn none(plan: &Plan) -> Batches {
        Batches { slices: Vec::new(), bytes: 0, high_watermark: plan.high_watermark, log_start: plan.log_start }
    }
}

/// Where bytes came from: what this process wrote itself, or what the store gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum From {
    Tail,
    Store,
}

/// Where bytes are read from.
pub struct Reader {
    tail: Arc<TailCache>,
    blocks: Arc<dyn BlockCache>,
    readers: Mutex<Readers>,
    begun: Instant,
}

/// What is to be read ahead when a request has been read.
#[derive(Default)]
pub struct Ahead {
    pieces: Mutex<Vec<Piece>>,
}

/// Whole batches of a piece.
struct Found {
    slices: Vec<Bytes>,
    /// The last of them is the piece's last.
    reached_end: bool,
    /// The offset after them, of those that came from the store.
    next: Option<Offset>,
}

impl Reader {
    /// `cache_bytes`: what `blocks` may hold. Half of it is for what lies ahead of all readers.
    pub fn new(tail: Arc<TailCache>, blocks: Arc<dyn BlockCache>, cache_bytes: usize) -> Reader {
        let readers = Mutex::new(Readers::new(cache_bytes / 2));
        Reader { tail, blocks, readers, begun: Instant::now() }
    }

    /// Reads from `offset` up to `max_bytes`; with `first_whole` the first batch comes whole even if it is larger.
    pub async fn read(
        &self,
        slot: &PartitionSlot,
        offset: Offset,
        max_bytes: usize,
        first_whole: bool,
    ) -> Result<Batches, ReadError> {
        let plan = Plan::make(slot.lock().partition()?, offset, max_bytes)?;
        let ahead = Ahead::default();
        let read = self.run(slot, &plan, offset, max_bytes, first_whole, &ahead).await;
        self.read_ahead(ahead);
        read
    }

    /// Reads what was planned for these arguments; several pieces at once. Notes what is to be read ahead.
    pub async fn run(
        &self,
        slot: &PartitionSlot,
        plan: &Plan,
        offset: Offset,
        max_bytes: usize,
        first_whole: bool,
        ahead: &Ahead,
    ) -> Result<Batches, ReadError> {
        let mut read = Batches::none(plan);
        let mut next = None;
        let mut before = 0;
        let pieces = plan.pieces.iter().enumerate().map_while(|(at, piece)| {
            let room = max_bytes.saturating_sub(before);
            before += piece.bytes();
            let first = first_whole && at == 0;
            (room > 0 || first).then(|| self.read_piece(piece, offset, room, first))
        });
        let pieces: Vec<_> = pieces.collect();
        let mut pieces = stream::iter(pieces).buffered(PIECES_AT_ONCE);
        while let Some(piece) = pieces.next().await {
            let found = match piece {
                Ok(found) => found,
                // What lies before it is told first: the error comes when the client asks for what can't be read.
                Err(_) if read.bytes > 0 => break,
                Err(error) => return Err(error),
            };
            read.bytes += found.slices.iter().map(Bytes::len).sum::<usize>();
            read.slices.extend(found.slices);
            next = found.next.or(next);
            if !found.reached_end {
                break;
            }
        }
        drop(pieces);
        if let Some(next) = next {
            self.plan_ahead(slot, offset, next, read.bytes, ahead);
        }
        Ok(read)
    }

    /// Notes what a reader who goes through the log will ask for next, if there is not too much of it already.
    fn plan_ahead(&self, slot: &PartitionSlot, offset: Offset, next: Offset, bytes: usize, ahead: &Ahead) {
        let step = self.readers.lock().step(slot.id, offset, next, bytes, self.begun.elapsed());
        let plan = match (step, slot.lock().partition()) {
            (Some(step), Ok(partition)) => Plan::make(partition, step.from, step.bytes),
            _ => return,
        };
        let Ok(mut plan) = plan else { return };
        let Some(until) = plan.pieces.last().map(|last| last.expected.offsets.end) else { return };
        plan.pieces.retain(|piece| {
            let key = piece.object.key();
            self.tail.get(&key, piece.range.clone()).is_none()
        });
        self.readers.lock().claim(slot.id, next, plan.bytes(), until);
        ahead.pieces.lock().extend(plan.pieces);
    }

    /// Fetches into memory what was noted; nobody waits for it. Pieces that lie side by side go together.
    pub fn read_ahead(&self, ahead: Ahead) {
        let mut pieces = ahead.pieces.into_inner();
        if pieces.is_empty() {
            return;
        }
        pieces.sort_by_key(|piece| (piece.object.place, piece.range.start));
        let blocks = Arc::clone(&self.blocks);
        tokio::spawn(async move {
            let blocks = &blocks;
            let read = |piece: Piece| async move {
                let key = Arc::from(piece.object.key());
                // Who needs it will see the error himself.
                let _read = blocks.read(&key, piece.range, piece.object.body_length).await;
            };
            stream::iter(pieces).for_each_concurrent(AHEAD_AT_ONCE, read).await;
        });
    }

    /// Whole batches of one piece from the one that holds `offset` on, and whether they reach to its end.
    async fn read_piece(&self, piece: &Piece, offset: Offset, room: usize, first: bool) -> Result<Found, ReadError> {
        let (mut position, mut next) = (piece.range.start, piece.first);
        let mut window = READ_AT_LEAST.max(room as u64);
        let mut again = true;
        let wanted = Wanted { offset, room, first_whole: first };
        loop {
            let end = piece.range.end.min(position + window);
            let (stretch, from) = self.stretch(piece.object, position..end).await?;
            let ends = end == piece.range.end;
            let found = cut::cut(&stretch, next, wanted, ends).and_then(|cut| match &cut {
                Cut::Batches(range) if from == From::Store => {
                    cut::check(&stretch, range.clone(), &piece.expected).map(|next| (cut, Some(next)))
                }
                Cut::Skip { bytes: skip, .. } | Cut::NeedsWindow { skip, .. }
                    if position + *skip as u64 >= piece.range.end =>
                {
                    Err(CutError::EndsInside)
                }
                _ => Ok((cut, None)),
            });
            match found {
                Ok((Cut::Batches(range), next)) => {
                    let reached_end = position + range.end as u64 == piece.range.end;
                    let small = from == From::Store && range.len() < SMALL_PART;
                    let mut slices = stretch.slices(range);
                    if small {
                        slices = vec![Bytes::from(slices.concat())];
                    }
                    return Ok(Found { slices, reached_end, next });
                }
                Ok((Cut::Nothing, _)) => return Ok(Found { slices: Vec::new(), reached_end: false, next: None }),
                Ok((Cut::Skip { bytes, next: after }, _)) => (position, next) = (position + bytes as u64, after),
                Ok((Cut::NeedsWindow { skip, window: needed, next: after }, _)) => {
                    (position, next) = (position + skip as u64, after);
                    window = needed as u64;
                }
                // Damaged on the way, perhaps, and kept in memory so: once more from the store, and from the beginning, for what
                // was passed over may be what is damaged.
                Err(_) if again => {
                    again = false;
                    self.forget(piece.object, piece.range.start..end);
                    (position, next) = (piece.range.start, piece.first);
                }
                Err(error) => {
                    let object = piece.object.key();
                    return Err(ReadError::Damaged { object, error });
                }
            }
        }
    }

    /// A range of an object, from memory if it is there.
    async fn stretch(&self, object: ObjectRef, range: Range<u64>) -> Result<(Stretch, From), StoreError> {
        let key = object.key();
        if let Some(bytes) = self.tail.get(&key, range.clone()) {
            return Ok((bytes.into(), From::Tail));
        }
        let pieces = self.blocks.read(&Arc::from(key), range, object.body_length).await?;
        Ok((Stretch::new(pieces), From::Store))
    }

    /// The next read of this range goes to the store.
    fn forget(&self, object: ObjectRef, range: Range<u64>) {
        self.blocks.forget(&Arc::from(object.key()), range);
    }
}
