//! Where the committed records of one partition are: extents in offset order. Pure.

use crate::segment::ExtentMeta;
use crate::types::{LeaseEpoch, Offset, SegmentNumber, SessionId, TimestampMs};

/// A position inside an extent is remembered about every so many bytes, so that a fetch need not read it from its start.
const MARK_EVERY_BYTES: u64 = 64 * 1024;

/// The object that an extent lies in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ObjectRef {
    pub session: SessionId,
    pub number: SegmentNumber,
    /// Bytes of the object that hold batches; reads never go past them.
    pub body_length: u64,
}

/// The start of some batch inside an extent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Mark {
    base_offset: Offset,
    position: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexedExtent {
    pub object: ObjectRef,
    pub epoch: LeaseEpoch,
    pub base_offset: Offset,
    pub next_offset: Offset,
    pub position: u64,
    pub length: u32,
    pub max_timestamp: TimestampMs,
    marks: Box<[Mark]>,
}

impl IndexedExtent {
    pub fn new(object: ObjectRef, extent: &ExtentMeta) -> IndexedExtent {
        let mut marks = Vec::new();
        let mut position = extent.position;
        let mut marked = extent.position;
        for batch in &extent.batches {
            if position - marked >= MARK_EVERY_BYTES {
                marks.push(Mark { base_offset: batch.base_offset, position });
                marked = position;
            }
            position += u64::from(batch.length);
        }
        IndexedExtent {
            object,
            epoch: extent.epoch,
            base_offset: extent.base_offset,
            next_offset: extent.next_offset,
            position: extent.position,
            length: extent.length,
            max_timestamp: extent.max_timestamp,
            marks: marks.into_boxed_slice(),
        }
    }

    /// Position and base offset of a batch at or before the one that holds `offset`.
    pub fn batch_before(&self, offset: Offset) -> (u64, Offset) {
        let after = self.marks.partition_point(|mark| mark.base_offset <= offset);
        let mark = after.checked_sub(1).map(|last| self.marks[last]);
        mark.map_or((self.position, self.base_offset), |mark| (mark.position, mark.base_offset))
    }

    pub fn end_position(&self) -> u64 {
        self.position + u64::from(self.length)
    }
}

#[derive(Clone, Debug, Default)]
pub struct Index {
    extents: std::collections::VecDeque<IndexedExtent>,
    bytes: u64,
}

impl Index {
    /// Extents come in offset order without gaps; the caller has checked that.
    pub fn push(&mut self, extent: IndexedExtent) {
        debug_assert!(self.extents.back().is_none_or(|last| last.next_offset == extent.base_offset));
        self.bytes += u64::from(extent.length);
        self.extents.push_back(extent);
    }

    /// Extents from the one that holds `offset` on.
    pub fn from_offset(&self, offset: Offset) -> impl Iterator<Item = &IndexedExtent> {
        let first = self.extents.partition_point(|extent| extent.next_offset <= offset);
        self.extents.range(first..)
    }

    pub fn iter(&self) -> impl Iterator<Item = &IndexedExtent> {
        self.extents.iter()
    }

    /// Forgets extents that lie below `log_start` as a whole.
    pub fn trim(&mut self, log_start: Offset) {
        while self.extents.front().is_some_and(|extent| extent.next_offset <= log_start) {
            if let Some(gone) = self.extents.pop_front() {
                self.bytes -= u64::from(gone.length);
            }
        }
    }

    /// Bytes of all extents.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}
