//! Cuts a stretch of an extent to whole batches. Pure.
//!
//! The stretch begins at a batch boundary and may end in the middle of a batch. Every batch must begin with the offset that follows the
//! one before it, those that are passed over, too: neither base offsets nor lengths are covered by checksums, and a bit that flipped
//! there would make records vanish between two others.

use std::ops::Range;

use super::stretch::Stretch;
use crate::log::index::IndexedExtent;
use crate::types::{LeaseEpoch, Offset};
use crate::wire::batch::{BatchError, HEADER_BYTES};

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CutError {
    #[error("no batch where one must begin: {0}")]
    NoBatch(#[from] BatchError),
    #[error("the extent ends inside of a batch")]
    EndsInside,
    #[error("the extent ends before offset {offset}")]
    EndsBefore { offset: Offset },
    #[error("the checksum of the batch at offset {offset} does not match")]
    Checksum { offset: Offset },
    #[error("the batch at offset {offset} has an offset or an epoch that the extent does not have")]
    Misplaced { offset: Offset },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cut {
    /// Whole batches lie here.
    Batches(Range<usize>),
    /// The first batch does not fit into the room left.
    Nothing,
    /// Everything whole lies below the offset: go on so many bytes later.
    Skip { bytes: usize, next: Offset },
    /// Go on `skip` bytes later with a stretch of at least `window` bytes: the first batch is not whole.
    NeedsWindow { skip: usize, window: usize, next: Offset },
}

/// What is asked of an extent.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// Lies in the extent or below it.
    pub offset: Offset,
    /// Bytes that may be returned.
    pub room: usize,
    /// The first batch may exceed the room.
    pub first_whole: bool,
}

/// `next`: base offset of the batch at the stretch's start. `ends`: the extent ends with the stretch.
pub fn cut(stretch: &Stretch, mut next: Offset, wanted: Wanted, ends: bool) -> Result<Cut, CutError> {
    let Wanted { offset, room, first_whole } = wanted;
    let mut at = 0;
    let mut start = None;
    while at < stretch.len() {
        let rest = stretch.len() - at;
        if rest < HEADER_BYTES {
            return unfinished(at, start, HEADER_BYTES, next, ends);
        }
        let header = stretch.header(at)?;
        let size = header.size();
        if header.base_offset != next {
            return Err(CutError::Misplaced { offset: header.base_offset });
        }
        if start.is_none() && header.last_offset() < offset {
            if size > rest {
                let skip = Cut::Skip { bytes: at + size, next: header.next_offset() };
                return if ends { Err(CutError::EndsInside) } else { Ok(skip) };
            }
            at += size;
            next = header.next_offset();
            continue;
        }
        let begin = *start.get_or_insert(at);
        let fits = at + size - begin <= room || (first_whole && at == begin);
        if !fits {
            return Ok(if at == begin { Cut::Nothing } else { Cut::Batches(begin..at) });
        }
        if size > rest {
            return unfinished(at, start, size, next, ends);
        }
        at += size;
        next = header.next_offset();
    }
    Ok(match start {
        Some(begin) => Cut::Batches(begin..at),
        None if ends => return Err(CutError::EndsBefore { offset }),
        None => Cut::Skip { bytes: at, next },
    })
}

/// What an extent says of its batches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    pub offsets: Range<Offset>,
    pub epoch: LeaseEpoch,
}

impl Expected {
    pub fn of(extent: &IndexedExtent) -> Expected {
        Expected { offsets: extent.base_offset..extent.next_offset, epoch: extent.epoch }
    }
}

/// Checks whole batches that lie one after the other by their own checksums, and what those don't cover by what is known of the
/// extent. Gives the offset after the last one.
pub fn check(stretch: &Stretch, batches: Range<usize>, expected: &Expected) -> Result<Offset, CutError> {
    let mut at = batches.start;
    let mut next = None;
    while at < batches.end {
        let header = stretch.header(at)?;
        let end = at + header.size();
        if end > batches.end {
            return Err(BatchError::Truncated { needed: header.size(), found: batches.end - at }.into());
        }
        if !stretch.crc_is(at..end, header.crc) {
            return Err(CutError::Checksum { offset: header.base_offset });
        }
        let offsets = header.base_offset..header.next_offset();
        let inside = offsets.start >= expected.offsets.start && offsets.end <= expected.offsets.end;
        let follows = next.is_none_or(|next| next <= offsets.start);
        if !inside || !follows || header.partition_leader_epoch != expected.epoch {
            return Err(CutError::Misplaced { offset: offsets.start });
        }
        next = Some(offsets.end);
        at = end;
    }
    Ok(next.unwrap_or(expected.offsets.start))
}

/// The stretch ends inside of the batch at `at`.
fn unfinished(at: usize, start: Option<usize>, window: usize, next: Offset, ends: bool) -> Result<Cut, CutError> {
    match start {
        _ if ends => Err(CutError::EndsInside),
        Some(begin) if begin < at => Ok(Cut::Batches(begin..at)),
        _ => Ok(Cut::NeedsWindow { skip: at, window: window.max(HEADER_BYTES), next }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::batch::patch_offset_and_epoch;
    use crate::wire::build::{BatchBuilder, BatchOptions, NewRecord};
    use bytes::Bytes;

    /// Two batches of two records each, from offset 10 on, epoch 3.
    fn extent() -> (Vec<u8>, usize) {
        let mut all = Vec::new();
        for base in [10, 12] {
            let mut builder = BatchBuilder::new(BatchOptions::default());
            for offset_delta in 0..2 {
                let record = NewRecord { offset_delta, timestamp: 5, key: None, value: Some(b"v"), headers: &[] };
                builder.push(record).expect("fits");
            }
            let mut batch = builder.build().expect("builds").to_vec();
            patch_offset_and_epoch(&mut batch, base, 3).expect("a batch");
            all.extend(batch);
        }
        let size = all.len() / 2;
        (all, size)
    }

    #[test]
    fn cuts_to_whole_batches() {
        let (bytes, size) = extent();
        let needs = |window| Cut::NeedsWindow { skip: size, window, next: 12 };
        let table = [
            ("all", bytes.len(), 10, 1000, false, true, Cut::Batches(0..2 * size)),
            ("from the middle of a batch", bytes.len(), 13, 1000, false, true, Cut::Batches(size..2 * size)),
            ("room for one", bytes.len(), 10, 2 * size - 1, false, true, Cut::Batches(0..size)),
            ("room for none", bytes.len(), 10, size - 1, false, true, Cut::Nothing),
            ("none, but the first whole", bytes.len(), 10, 0, true, true, Cut::Batches(0..size)),
            ("more to come", bytes.len(), 14, 1000, true, false, Cut::Skip { bytes: 2 * size, next: 14 }),
            ("the second is cut", size + 70, 10, 1000, true, false, Cut::Batches(0..size)),
            ("the wanted one is cut", size + 65, 12, 1000, true, false, needs(size)),
            ("its header is cut", size + 7, 12, 1000, true, false, needs(61)),
            ("the one to be skipped is cut", 65, 12, 1000, true, false, Cut::Skip { bytes: size, next: 12 }),
        ];
        // In one piece, and in pieces that cut through headers and records.
        for piece in [bytes.len(), 7, 50, size + 1] {
            let stretch =
                |length: usize| Stretch::new(bytes[..length].chunks(piece).map(Bytes::copy_from_slice).collect());
            for (name, length, offset, room, first_whole, ends, expected) in table.clone() {
                let found = cut(&stretch(length), 10, Wanted { offset, room, first_whole }, ends);
                assert_eq!(found, Ok(expected), "{name}, pieces of {piece}");
            }
            let from = |offset| Wanted { offset, room: 1000, first_whole: true };
            assert_eq!(cut(&stretch(size + 65), 10, from(10), true), Err(CutError::EndsInside));
            assert_eq!(cut(&stretch(65), 10, from(12), true), Err(CutError::EndsInside));
            assert_eq!(cut(&stretch(2 * size), 10, from(14), true), Err(CutError::EndsBefore { offset: 14 }));
        }
    }

    #[test]
    fn every_flipped_bit_is_found() {
        let (bytes, size) = extent();
        let expected = Expected { offsets: 10..14, epoch: 3 };
        let pieces = |bytes: &[u8]| Stretch::new(bytes.chunks(size + 30).map(Bytes::copy_from_slice).collect());
        assert_eq!(check(&pieces(&bytes), 0..2 * size, &expected), Ok(14));
        assert_eq!(check(&pieces(&bytes), size..2 * size, &expected), Ok(14));
        assert_eq!(check(&pieces(&bytes), 0..size, &expected), Ok(12));
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            check(&pieces(&flipped), 0..2 * size, &expected).expect_err("found");
        }
    }

    #[test]
    fn a_flipped_bit_makes_no_record_vanish() {
        let (bytes, size) = extent();
        let expected = Expected { offsets: 10..14, epoch: 3 };
        for (offset, room) in [(10, 1000), (10, size), (12, 1000), (13, size)] {
            let wanted = Wanted { offset, room, first_whole: true };
            let read = |bytes: &[u8]| {
                let stretch = Stretch::from(Bytes::copy_from_slice(bytes));
                match cut(&stretch, 10, wanted, true)? {
                    Cut::Batches(range) => check(&stretch, range.clone(), &expected).map(|_| stretch.slices(range)),
                    other => panic!("{other:?}"),
                }
            };
            let whole = read(&bytes).expect("intact");
            for bit in 0..bytes.len() * 8 {
                let mut flipped = bytes.clone();
                flipped[bit / 8] ^= 1 << (bit % 8);
                if let Ok(slices) = read(&flipped) {
                    // A length that seems too long for the room ends it earlier.
                    let begins = whole.concat().starts_with(&slices.concat());
                    assert!(begins && !slices.is_empty(), "bit {bit} of byte {}, from {offset}", bit / 8);
                }
            }
        }
    }
}
