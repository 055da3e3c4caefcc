//! How the batches of a window stand in the objects of its run: sorted by partition, then by offset. Pure.
//!
//! The extents of a segment are sorted by partition as well, so what one object takes of one segment lies close together there: an
//! object costs one read of each segment, or few.

use crate::segment::{BatchMeta, EXTENT_TARGET_BYTES, ExtentMeta, RunExtent};
use crate::types::{LeaseEpoch, Offset, PartitionId, SegmentNumber};

/// Batches that stand one after another in a segment, and do so in the object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    pub segment: SegmentNumber,
    /// In the segment.
    pub from: u64,
    /// In the object.
    pub to: u64,
    pub length: u64,
    pub epoch: LeaseEpoch,
    /// Offset and length of each batch.
    pub batches: Vec<(Offset, u32)>,
}

/// An object to be written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Draft {
    pub extents: Vec<RunExtent>,
    /// In order of `to`.
    pub pieces: Vec<Piece>,
    pub length: u64,
}

/// Segments of one session, in order of their numbers, with what is taken of each, become objects of about `object_bytes`.
pub fn lay_out(segments: &[(SegmentNumber, Vec<ExtentMeta>)], object_bytes: u64) -> Vec<Draft> {
    let mut extents: Vec<(SegmentNumber, &ExtentMeta)> =
        segments.iter().flat_map(|(number, extents)| extents.iter().map(|extent| (*number, extent))).collect();
    extents.sort_by_key(|(_, extent)| (extent.partition, extent.base_offset));
    let mut drafts = Vec::new();
    let mut draft = Draft::default();
    for (segment, extent) in extents {
        let mut position = extent.position;
        let mut begins = true;
        for batch in &extent.batches {
            if draft.length >= object_bytes {
                drafts.push(std::mem::take(&mut draft));
                begins = true;
            }
            draft.add(extent, segment, position, batch, begins);
            position += u64::from(batch.length);
            begins = false;
        }
    }
    if draft.length > 0 {
        drafts.push(draft);
    }
    drafts
}

impl Draft {
    /// `begins`: it does not go on with the piece before it.
    fn add(&mut self, extent: &ExtentMeta, segment: SegmentNumber, position: u64, batch: &BatchMeta, begins: bool) {
        let length = u64::from(batch.length);
        match self.pieces.last_mut().filter(|_| !begins) {
            Some(piece) => {
                piece.length += length;
                piece.batches.push((batch.base_offset, batch.length));
            }
            None => self.pieces.push(Piece {
                segment,
                from: position,
                to: self.length,
                length,
                epoch: extent.epoch,
                batches: vec![(batch.base_offset, batch.length)],
            }),
        }
        let next_offset = batch.base_offset + i64::from(batch.last_offset_delta) + 1;
        let follows = |last: &&mut RunExtent| {
            (last.partition, last.epoch, last.next_offset) == (extent.partition, extent.epoch, batch.base_offset)
                && last.length < EXTENT_TARGET_BYTES
        };
        match self.extents.last_mut().filter(follows) {
            Some(last) => {
                last.next_offset = next_offset;
                last.length += batch.length;
                last.max_timestamp = last.max_timestamp.max(batch.max_timestamp);
            }
            None => self.extents.push(RunExtent {
                partition: extent.partition,
                epoch: extent.epoch,
                base_offset: batch.base_offset,
                next_offset,
                position: self.length,
                length: batch.length,
                max_timestamp: batch.max_timestamp,
            }),
        }
        self.length += length;
    }
}

/// Partitions with records in the window: the epoch of their last extent and where it ends.
pub fn ends(segments: &[(SegmentNumber, Vec<ExtentMeta>)]) -> Vec<(PartitionId, LeaseEpoch, Offset)> {
    let mut ends = std::collections::BTreeMap::new();
    for extent in segments.iter().flat_map(|(_, extents)| extents) {
        ends.insert(extent.partition, (extent.epoch, extent.next_offset));
    }
    ends.into_iter().map(|(partition, (epoch, next))| (partition, epoch, next)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::TopicId;

    fn partition(index: i32) -> PartitionId {
        PartitionId { topic: TopicId(1), index }
    }

    /// Batches of one record; (length, …) from `base_offset` on at `position`.
    fn extent(index: i32, epoch: i32, base_offset: Offset, position: u64, lengths: &[u32]) -> ExtentMeta {
        let batch = |(at, length): (usize, &u32)| BatchMeta {
            base_offset: base_offset + at as i64,
            last_offset_delta: 0,
            length: *length,
            record_count: 1,
            max_timestamp: base_offset + at as i64,
            producer_id: -1,
            producer_epoch: -1,
            base_sequence: -1,
            transactional: false,
            log_append_time: false,
            control: None,
        };
        ExtentMeta {
            partition: partition(index),
            epoch,
            base_offset,
            next_offset: base_offset + lengths.len() as i64,
            position,
            length: lengths.iter().sum(),
            max_timestamp: base_offset + lengths.len() as i64 - 1,
            batches: lengths.iter().enumerate().map(batch).collect(),
        }
    }

    fn window() -> Vec<(SegmentNumber, Vec<ExtentMeta>)> {
        vec![
            (4, vec![extent(0, 0, 0, 0, &[100, 100]), extent(2, 1, 7, 200, &[300])]),
            (5, vec![]),
            (6, vec![extent(0, 0, 2, 0, &[100]), extent(0, 2, 9, 100, &[50]), extent(1, 0, 0, 150, &[600])]),
            (7, vec![extent(2, 1, 8, 0, &[100])]),
        ]
    }

    /// (object, partition, epoch, offsets, position, length) of extents; (object, segment, from, to, length) of pieces.
    type Laid = (Vec<(usize, i32, i32, Offset, Offset, u64, u32)>, Vec<(usize, u64, u64, u64, u64)>);

    fn laid(object_bytes: u64) -> Laid {
        let (mut extents, mut pieces) = (Vec::new(), Vec::new());
        for (at, draft) in lay_out(&window(), object_bytes).iter().enumerate() {
            let extent =
                |e: &RunExtent| (at, e.partition.index, e.epoch, e.base_offset, e.next_offset, e.position, e.length);
            extents.extend(draft.extents.iter().map(extent));
            pieces.extend(draft.pieces.iter().map(|p| (at, p.segment, p.from, p.to, p.length)));
            assert_eq!(draft.length, draft.pieces.iter().map(|piece| piece.length).sum::<u64>());
            for piece in &draft.pieces {
                assert_eq!(piece.length, piece.batches.iter().map(|(_, length)| u64::from(*length)).sum::<u64>());
            }
        }
        (extents, pieces)
    }

    #[test]
    fn partitions_lie_together() {
        let (extents, pieces) = laid(1 << 20);
        let expected =
            [(0, 0, 0, 0, 3, 0, 300), (0, 0, 2, 9, 10, 300, 50), (0, 1, 0, 0, 1, 350, 600), (0, 2, 1, 7, 9, 950, 400)];
        assert_eq!(extents, expected);
        let expected = [
            (0, 4, 0, 0, 200),
            (0, 6, 0, 200, 100),
            (0, 6, 100, 300, 50),
            (0, 6, 150, 350, 600),
            (0, 4, 200, 950, 300),
            (0, 7, 0, 1250, 100),
        ];
        assert_eq!(pieces, expected);
    }

    #[test]
    fn objects_are_cut_at_batches() {
        let (extents, pieces) = laid(150);
        let starts: Vec<_> = extents.iter().map(|e| (e.0, e.1, e.3, e.5)).collect();
        let expected = [(0, 0, 0, 0), (1, 0, 2, 0), (1, 0, 9, 100), (2, 1, 0, 0), (3, 2, 7, 0), (4, 2, 8, 0)];
        assert_eq!(starts, expected);
        assert_eq!(pieces.len(), 6);
        let (extents, _) = laid(1);
        assert_eq!(extents.iter().map(|e| (e.0, e.1, e.3)).collect::<Vec<_>>()[..3], [(0, 0, 0), (1, 0, 1), (2, 0, 2)]);
    }

    #[test]
    fn extents_end_when_they_are_long() {
        let half = EXTENT_TARGET_BYTES / 2;
        let segments = [(0, vec![extent(0, 0, 0, 0, &[half, half, 70, 70])])];
        let drafts = lay_out(&segments, 1 << 30);
        let extents: Vec<_> = drafts[0].extents.iter().map(|e| (e.base_offset, e.next_offset, e.length)).collect();
        assert_eq!(extents, [(0, 2, 2 * half), (2, 4, 140)]);
        assert_eq!(drafts[0].pieces.len(), 1);
    }

    #[test]
    fn ends_are_those_of_the_newest_extent() {
        assert_eq!(ends(&window()), [(partition(0), 2, 10), (partition(1), 0, 1), (partition(2), 1, 9)]);
    }
}
