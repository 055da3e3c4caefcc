//! Which pieces of which objects answer a fetch. Pure.

use std::ops::Range;

use super::cut::Expected;
use crate::log::index::ObjectRef;
use crate::log::partition::Partition;
use crate::types::Offset;

/// A fetch touches at most so many objects; the client comes again.
const PIECES_MAX: usize = 256;

/// The offset is below the log start or above the end (OFFSET_OUT_OF_RANGE).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("offset {offset} is outside of {log_start}..={end}")]
pub struct OutOfRange {
    pub offset: Offset,
    pub log_start: Offset,
    pub end: Offset,
    pub high_watermark: Offset,
}

/// Part of an extent, from a batch boundary to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    pub object: ObjectRef,
    pub range: Range<u64>,
    /// Base offset of the batch at its start.
    pub first: Offset,
    /// Of the whole extent.
    pub expected: Expected,
}

impl Piece {
    pub fn bytes(&self) -> usize {
        usize::try_from(self.range.end - self.range.start).unwrap_or(usize::MAX)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    pub pieces: Vec<Piece>,
    pub high_watermark: Offset,
    pub log_start: Offset,
}

impl Plan {
    /// Pieces from `offset` on that together hold at least `max_bytes`, if there is so much.
    pub fn make(partition: &Partition, offset: Offset, max_bytes: usize) -> Result<Plan, OutOfRange> {
        let high_watermark = partition.high_watermark();
        let log_start = partition.log_start();
        if offset < log_start || offset > partition.next_offset() {
            return Err(OutOfRange { offset, log_start, end: partition.next_offset(), high_watermark });
        }
        let mut pieces = Vec::new();
        let mut bytes = 0;
        for extent in partition.index().from_offset(offset) {
            if pieces.len() == PIECES_MAX || (bytes >= max_bytes as u64 && !pieces.is_empty()) {
                break;
            }
            let (start, first) = extent.batch_before(offset);
            bytes += extent.end_position() - start;
            pieces.push(Piece {
                object: extent.object,
                range: start..extent.end_position(),
                first,
                expected: Expected::of(extent),
            });
        }
        Ok(Plan { pieces, high_watermark, log_start })
    }

    /// Bytes of all pieces.
    pub fn bytes(&self) -> usize {
        self.pieces.iter().map(Piece::bytes).fold(0, usize::saturating_add)
    }
}
