//! Reads committed batches back: plan (pure, under the slot's lock) → read (tail, block cache, bucket) → cut to whole batches.
//!
//! What comes back begins with the batch that holds the wanted offset and ends with a whole batch. A tailing reader gets slices of
//! the very buffers that were uploaded; nothing is copied and nothing is read from the bucket. What the bucket gave is checked by the
//! batches' own checksums, and read once more if they do not match.

pub mod cut;
pub mod lookup;
pub mod plan;

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use self::cut::{Cut, CutError};
use self::plan::{OutOfRange, Piece, Plan};
use super::index::ObjectRef;
use super::slot::{PartitionSlot, Unavailable};
use crate::cache::{BlockCache, TailCache};
use crate::segment::segment_key;
use crate::store::StoreError;
use crate::types::Offset;

/// At least so many bytes are asked for at once, so that a small limit does not make many small reads.
const READ_AT_LEAST: u64 = 64 * 1024;

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
        let mut read =
            Batches { slices: Vec::new(), bytes: 0, high_watermark: plan.high_watermark, log_start: plan.log_start };
        for piece in &plan.pieces {
            let room = max_bytes.saturating_sub(read.bytes);
            let first = first_whole && read.bytes == 0;
            if room == 0 && !first {
                break;
            }
            let (batches, reached_end) = match self.read_piece(piece, offset, room, first).await {
                Ok(found) => found,
                // What lies before it is told first: the error comes when the client asks for what can't be read.
                Err(_) if read.bytes > 0 => break,
                Err(error) => return Err(error),
            };
            read.bytes += batches.len();
            if !batches.is_empty() {
                read.slices.push(batches);
            }
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
    ) -> Result<(Bytes, bool), ReadError> {
        let mut position = piece.range.start;
        let mut window = READ_AT_LEAST.max(room as u64);
        let mut again = true;
        loop {
            let end = piece.range.end.min(position + window);
            let (bytes, from) = self.bytes(piece.object, position..end).await?;
            let ends = end == piece.range.end;
            let found = cut::cut(&bytes, offset, room, first, ends).and_then(|cut| match &cut {
                Cut::Batches(range) if from == From::Store => {
                    cut::check(&bytes[range.clone()], &piece.expected).map(|()| cut)
                }
                _ => Ok(cut),
            });
            match found {
                Ok(Cut::Batches(range)) => {
                    let reached_end = position + range.end as u64 == piece.range.end;
                    return Ok((bytes.slice(range), reached_end));
                }
                Ok(Cut::Nothing) => return Ok((Bytes::new(), false)),
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
    async fn bytes(&self, object: ObjectRef, range: Range<u64>) -> Result<(Bytes, From), StoreError> {
        let key = segment_key(object.session, object.number);
        if let Some(bytes) = self.tail.get(&key, range.clone()) {
            return Ok((bytes, From::Tail));
        }
        let mut pieces = self.blocks.read(&Arc::from(key), range, object.body_length).await?;
        let bytes = match pieces.len() {
            1 => pieces.swap_remove(0),
            _ => Bytes::from(pieces.concat()),
        };
        Ok((bytes, From::Store))
    }

    /// The next read of this range goes to the store.
    fn forget(&self, object: ObjectRef, range: Range<u64>) {
        self.blocks.forget(&Arc::from(segment_key(object.session, object.number)), range);
    }
}
