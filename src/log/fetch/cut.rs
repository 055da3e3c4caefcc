//! Cuts a stretch of an extent to whole batches. Pure.
//!
//! The stretch begins at a batch boundary and may end in the middle of a batch.

use std::ops::Range;

use crate::types::Offset;
use crate::wire::batch::{BatchError, BatchHeader, HEADER_BYTES, compute_crc, whole};

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CutError {
    #[error("no batch where one must begin: {0}")]
    NoBatch(#[from] BatchError),
    #[error("the extent ends inside of a batch")]
    EndsInside,
    #[error("the checksum of the batch at offset {offset} does not match")]
    Checksum { offset: Offset },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cut {
    /// Whole batches lie here.
    Batches(Range<usize>),
    /// The first batch does not fit into the room left.
    Nothing,
    /// Everything whole lies below the offset: go on so many bytes later.
    Skip(usize),
    /// Go on `skip` bytes later with a stretch of at least `window` bytes: the first batch is not whole.
    NeedsWindow { skip: usize, window: usize },
}

/// `room`: bytes that may be returned; with `first_whole` the first batch may exceed it. `ends`: the extent ends with the stretch.
pub fn cut(stretch: &[u8], offset: Offset, room: usize, first_whole: bool, ends: bool) -> Result<Cut, CutError> {
    let mut at = 0;
    let mut start = None;
    while at < stretch.len() {
        let rest = &stretch[at..];
        if rest.len() < HEADER_BYTES {
            return unfinished(at, start, HEADER_BYTES, ends);
        }
        let header = BatchHeader::parse(rest)?;
        let size = header.size();
        if start.is_none() && header.last_offset() < offset {
            if size > rest.len() {
                return if ends { Err(CutError::EndsInside) } else { Ok(Cut::Skip(at + size)) };
            }
            at += size;
            continue;
        }
        let begin = *start.get_or_insert(at);
        let fits = at + size - begin <= room || (first_whole && at == begin);
        if !fits {
            return Ok(if at == begin { Cut::Nothing } else { Cut::Batches(begin..at) });
        }
        if size > rest.len() {
            return unfinished(at, start, size, ends);
        }
        at += size;
    }
    Ok(match start {
        Some(begin) => Cut::Batches(begin..at),
        None if ends => Cut::Nothing,
        None => Cut::Skip(at),
    })
}

/// Checks whole batches that lie one after the other by their own checksums.
pub fn check(mut batches: &[u8]) -> Result<(), CutError> {
    while !batches.is_empty() {
        let (header, batch) = whole(batches)?;
        if compute_crc(batch) != Some(header.crc) {
            return Err(CutError::Checksum { offset: header.base_offset });
        }
        batches = &batches[batch.len()..];
    }
    Ok(())
}

/// The stretch ends inside of the batch at `at`.
fn unfinished(at: usize, start: Option<usize>, window: usize, ends: bool) -> Result<Cut, CutError> {
    match start {
        _ if ends => Err(CutError::EndsInside),
        Some(begin) if begin < at => Ok(Cut::Batches(begin..at)),
        _ => Ok(Cut::NeedsWindow { skip: at, window: window.max(HEADER_BYTES) }),
    }
}
