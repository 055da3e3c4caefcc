//! Reads committed batches back: plan (pure, under the slot's lock) → read (tail, block cache, bucket) → cut to whole batches.
//!
//! What comes back begins with the batch that holds the wanted offset and ends with a whole batch. A tailing reader gets slices of
//! the very buffers that were uploaded; nothing is copied and nothing is read from the bucket. What the bucket gave is checked by the
//! batches' own checksums, and read once more if they do not match.

pub mod cut;
pub mod lookup;
pub mod plan;
mod stretch;

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures::stream::{self, StreamExt};

use self::cut::{Cut, CutError};
use self::plan::{OutOfRange, Piece, Plan};
use self::stretch::Stretch;
use super::index::ObjectRef;
use super::slot::{PartitionSlot, Unavailable};
use crate::cache::{BlockCache, TailCache};
use crate::segment::segment_key;
use crate::store::StoreError;
use crate::types::Offset;

/// At least so many bytes are asked for at once, so that a small limit does not make many small reads.
const READ_AT_LEAST: u64 = 64 * 1024;

/// Pieces of one partition that are read side by side.
const PIECES_AT_ONCE: usize = 4;

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
    pub tail: Arc<TailCache>,
    pub blocks: Arc<dyn BlockCache>,
}

impl Reader {
    /// Reads from `offset` up to `max_bytes`; with `first_whole` the first batch comes whole even if it is larger.
    pub async fn read(
        &self,
        slot: &PartitionSlot,
        offset: Offset,
        max_bytes: usize,
        first_whole: bool,
    ) -> Result<Batches, ReadError> {
        let plan = Plan::make(slot.lock().partition()?, offset, max_bytes)?;
        self.run(&plan, offset, max_bytes, first_whole).await
    }

    /// Reads what was planned for these arguments; several pieces at once.
    pub async fn run(
        &self,
        plan: &Plan,
        offset: Offset,
        max_bytes: usize,
        first_whole: bool,
    ) -> Result<Batches, ReadError> {
        let mut read = Batches::none(plan);
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
            let (slices, reached_end) = match piece {
                Ok(found) => found,
                // What lies before it is told first: the error comes when the client asks for what can't be read.
                Err(_) if read.bytes > 0 => break,
                Err(error) => return Err(error),
            };
            read.bytes += slices.iter().map(Bytes::len).sum::<usize>();
            read.slices.extend(slices);
            if !reached_end {
                break;
            }
        }
        Ok(read)
    }

    /// Whole batches of one piece from the one that holds `offset` on, and whether they reach to its end.
    async fn read_piece(
        &self,
        piece: &Piece,
        offset: Offset,
        room: usize,
        first: bool,
    ) -> Result<(Vec<Bytes>, bool), ReadError> {
        let mut position = piece.range.start;
        let mut window = READ_AT_LEAST.max(room as u64);
        let mut again = true;
        loop {
            let end = piece.range.end.min(position + window);
            let (stretch, from) = self.stretch(piece.object, position..end).await?;
            let ends = end == piece.range.end;
            let found = cut::cut(&stretch, offset, room, first, ends).and_then(|cut| match &cut {
                Cut::Batches(range) if from == From::Store => {
                    cut::check(&stretch, range.clone(), &piece.expected).map(|()| cut)
                }
                _ => Ok(cut),
            });
            match found {
                Ok(Cut::Batches(range)) => {
                    let reached_end = position + range.end as u64 == piece.range.end;
                    return Ok((stretch.slices(range), reached_end));
                }
                Ok(Cut::Nothing) => return Ok((Vec::new(), false)),
                Ok(Cut::Skip(more)) => position += more as u64,
                Ok(Cut::NeedsWindow { skip, window: needed }) => {
                    position += skip as u64;
                    window = needed as u64;
                }
                // Damaged on the way, perhaps, and kept in memory so: once more from the store.
                Err(_) if again => {
                    again = false;
                    self.forget(piece.object, position..end);
                }
                Err(error) => {
                    let object = segment_key(piece.object.session, piece.object.number);
                    return Err(ReadError::Damaged { object, error });
                }
            }
        }
    }

    /// A range of an object, from memory if it is there.
    async fn stretch(&self, object: ObjectRef, range: Range<u64>) -> Result<(Stretch, From), StoreError> {
        let key = segment_key(object.session, object.number);
        if let Some(bytes) = self.tail.get(&key, range.clone()) {
            return Ok((bytes.into(), From::Tail));
        }
        let pieces = self.blocks.read(&Arc::from(key), range, object.body_length).await?;
        Ok((Stretch::new(pieces), From::Store))
    }

    /// The next read of this range goes to the store.
    fn forget(&self, object: ObjectRef, range: Range<u64>) {
        self.blocks.forget(&Arc::from(segment_key(object.session, object.number)), range);
    }
}
