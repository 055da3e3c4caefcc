//! Where the committed records of one partition are: extents in offset order. Pure.

use crate::segment::{ExtentMeta, RunExtent, run_object_key, segment_key};
use crate::types::mutant::{self, Mutant};
use crate::types::{LeaseEpoch, Offset, RunId, SegmentNumber, SessionId, TimestampMs};

/// A position inside an extent is remembered about every so many bytes, so that a fetch need not read it from its start.
const MARK_EVERY_BYTES: u64 = 64 * 1024;

/// What kind of object it is, and which.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    Segment { session: SessionId, number: SegmentNumber },
    Run { run: RunId, number: u64 },
}

/// The object that an extent lies in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ObjectRef {
    pub place: Place,
    /// Bytes of the object that hold batches; reads never go past them.
    pub body_length: u64,
}

impl ObjectRef {
    pub fn segment(session: SessionId, number: SegmentNumber, body_length: u64) -> ObjectRef {
        ObjectRef { place: Place::Segment { session, number }, body_length }
    }

    pub fn run(run: RunId, number: u64, body_length: u64) -> ObjectRef {
        ObjectRef { place: Place::Run { run, number }, body_length }
    }

    pub fn key(&self) -> String {
        match self.place {
            Place::Segment { session, number } => segment_key(session, number),
            Place::Run { run, number } => run_object_key(run, number),
        }
    }
}

/// Segments `from..to` of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    pub session: SessionId,
    pub from: SegmentNumber,
    pub to: SegmentNumber,
}

impl Window {
    fn holds(&self, object: ObjectRef) -> bool {
        match object.place {
            Place::Segment { session, number } => session == self.session && (self.from..self.to).contains(&number),
            Place::Run { .. } => false,
        }
    }
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

    /// Extents of a run are short: they need no marks.
    pub fn of_run(object: ObjectRef, extent: &RunExtent) -> IndexedExtent {
        IndexedExtent {
            object,
            epoch: extent.epoch,
            base_offset: extent.base_offset,
            next_offset: extent.next_offset,
            position: extent.position,
            length: extent.length,
            max_timestamp: extent.max_timestamp,
            marks: Box::default(),
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
        // Of planted bugs the simulation's judge has to see what follows.
        let planted = [
            Mutant::AckOutOfOrder,
            Mutant::SkipDamaged,
            Mutant::IgnoreRuns,
            Mutant::CommitEarlierTenure,
            Mutant::MergeWithoutMissing,
        ];
        debug_assert!(
            self.extents.back().is_none_or(|last| last.next_offset == extent.base_offset)
                || planted.iter().any(|bug| mutant::on(*bug))
        );
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

    /// Puts the extents of a run, in offset order, in the place of those that lie in segments of its window. What lies below
    /// `log_start` is left out. `false`: they do not hold the same offsets, and nothing was changed. Done twice it changes nothing.
    #[must_use]
    pub fn switch(&mut self, window: Window, run: &[IndexedExtent], log_start: Offset) -> bool {
        let run = &run[run.partition_point(|extent| extent.next_offset <= log_start)..];
        let Some(first) = run.first() else { return true };
        let near = self.extents.partition_point(|extent| extent.next_offset <= first.base_offset);
        let Some(skip) = self.extents.range(near..).position(|extent| window.holds(extent.object)) else { return true };
        let lowest = near + skip;
        let Some(switched) = self.switched(lowest, window, run, log_start) else { return false };
        let bytes = |extents: &mut dyn Iterator<Item = &IndexedExtent>| -> u64 {
            extents.map(|extent| u64::from(extent.length)).sum()
        };
        self.bytes -= bytes(&mut self.extents.range(lowest..));
        self.bytes += bytes(&mut switched.iter());
        self.extents.truncate(lowest);
        self.extents.extend(switched);
        true
    }

    /// What stands from the extent number `lowest` on, the first of the window, after the switch; `None`: it does not fit.
    fn switched(
        &self,
        lowest: usize,
        window: Window,
        run: &[IndexedExtent],
        log_start: Offset,
    ) -> Option<Vec<IndexedExtent>> {
        let mut run = run.iter().peekable();
        let mut switched = Vec::with_capacity(self.extents.len() - lowest);
        let mut next = lowest.checked_sub(1).map(|before| self.extents[before].next_offset);
        let mut follow = |extent: &IndexedExtent| {
            let fits = next.is_none_or(|next| next == extent.base_offset);
            next = Some(extent.next_offset);
            switched.push(extent.clone());
            fits.then_some(())
        };
        for extent in self.extents.range(lowest..) {
            if !window.holds(extent.object) {
                follow(extent)?;
                continue;
            }
            while let Some(from) = run.next_if(|from| from.base_offset < extent.next_offset) {
                follow(from)?;
            }
        }
        let whole = next == self.extents.back().map(|extent| extent.next_offset);
        let begins = switched.first()?.base_offset <= self.extents[lowest].base_offset.max(log_start);
        (whole && begins && run.next().is_none()).then_some(switched)
    }

    /// One past the newest offset that lies in no segment of the session from `number` on; `None`: there is no such offset.
    pub fn end_below(&self, session: SessionId, number: SegmentNumber) -> Option<Offset> {
        let later = Window { session, from: number, to: SegmentNumber::MAX };
        self.extents.iter().rev().find(|extent| !later.holds(extent.object)).map(|extent| extent.next_offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{PartitionId, TopicId};

    const A: SessionId = SessionId { revision: 1, random: 1 };
    const B: SessionId = SessionId { revision: 2, random: 2 };
    const RUN: RunId = RunId { revision: 9, random: 9 };

    fn extent(base_offset: Offset, next_offset: Offset) -> RunExtent {
        let partition = PartitionId { topic: TopicId(1), index: 0 };
        let length = u32::try_from(next_offset - base_offset).expect("few") * 100;
        RunExtent { partition, epoch: 0, base_offset, next_offset, position: 0, length, max_timestamp: 0 }
    }

    fn at(object: ObjectRef, (base, next): (Offset, Offset)) -> IndexedExtent {
        IndexedExtent::of_run(object, &extent(base, next))
    }

    fn run(extents: &[(Offset, Offset)]) -> Vec<IndexedExtent> {
        extents.iter().map(|range| at(ObjectRef::run(RUN, 0, 0), *range)).collect()
    }

    /// Session A's segments 1 to 3, one of B, A's segments 7 and 8.
    fn index() -> Index {
        let mut index = Index::default();
        let parts = [(A, 1, (0, 2)), (A, 2, (2, 5)), (A, 3, (5, 6)), (B, 1, (6, 8)), (A, 7, (8, 9)), (A, 8, (9, 12))];
        for (session, number, range) in parts {
            index.push(at(ObjectRef::segment(session, number, 0), range));
        }
        index
    }

    #[test]
    fn a_run_stands_for_the_segments_of_its_window() {
        // (window, the run's extents, log start, what the index holds then or None when it does not fit; r: of the run)
        type Case<'a> = (u64, u64, &'a [(Offset, Offset)], Offset, Option<&'a str>);
        let table: &[Case] = &[
            (0, 3, &[(0, 5)], 0, Some("r0 5 6 8 9")),
            (0, 3, &[(0, 1), (1, 5)], 0, Some("r0 r1 5 6 8 9")),
            (0, 4, &[(0, 6)], 0, Some("r0 6 8 9")),
            (0, 8, &[(0, 6), (8, 9)], 0, Some("r0 6 r8 9")),
            (0, 9, &[(0, 4), (4, 6), (8, 12)], 0, Some("r0 r4 6 r8")),
            (3, 8, &[(5, 6), (8, 9)], 0, Some("0 2 r5 6 r8 9")),
            (0, 9, &[(0, 4), (4, 6), (8, 12)], 4, Some("r4 6 r8")),
            (0, 9, &[(0, 4), (4, 6), (8, 12)], 5, Some("r4 6 r8")),
            (20, 30, &[(0, 5)], 0, Some("0 2 5 6 8 9")),
            (0, 3, &[], 0, Some("0 2 5 6 8 9")),
            (0, 3, &[(0, 4)], 0, None),
            (0, 3, &[(1, 5)], 0, None),
            (0, 3, &[(0, 6)], 0, None),
            (0, 8, &[(0, 6)], 0, None),
            (0, 8, &[(0, 9)], 0, None),
            (0, 9, &[(0, 6), (8, 12), (12, 13)], 0, None),
        ];
        for (from, to, extents, log_start, expected) in table {
            let mut index = index();
            index.trim(*log_start);
            let before = format!("{index:?}");
            let window = Window { session: A, from: *from, to: *to };
            let fits = index.switch(window, &run(extents), *log_start);
            assert_eq!(fits, expected.is_some(), "{from}..{to} {extents:?}");
            let Some(expected) = expected else {
                assert_eq!(format!("{index:?}"), before, "nothing is changed");
                continue;
            };
            let name = |extent: &IndexedExtent| match extent.object.place {
                Place::Run { .. } => format!("r{}", extent.base_offset),
                Place::Segment { .. } => extent.base_offset.to_string(),
            };
            assert_eq!(index.iter().map(name).collect::<Vec<_>>().join(" "), *expected, "{from}..{to} {extents:?}");
            let bytes: u64 = index.iter().map(|extent| u64::from(extent.length)).sum();
            assert_eq!(index.bytes(), bytes);
            let once = format!("{index:?}");
            assert!(index.switch(window, &run(extents), *log_start));
            assert_eq!(format!("{index:?}"), once, "done twice it changes nothing");
        }
    }

    #[test]
    fn the_end_below_a_segment() {
        for (number, end) in [(9, Some(12)), (8, Some(9)), (7, Some(8)), (3, Some(8)), (1, Some(8))] {
            assert_eq!(index().end_below(A, number), end, "{number}");
        }
        assert_eq!(Index::default().end_below(A, 0), None);
    }
}
