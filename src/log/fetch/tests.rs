//! The read path over blocks that say what was asked of them, come damaged, or do not come.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use tokio::sync::Notify;

use super::*;
use crate::cache::CacheCounters;
use crate::log::partition::Partition;
use crate::log::slot::SlotState;
use crate::segment::{BatchMeta, ExtentMeta, parse_segment_key};
use crate::types::{PartitionId, SegmentNumber, SessionId, TopicId};
use crate::wire::batch::{BatchHeader, patch_offset_and_epoch};
use crate::wire::build::{BatchBuilder, BatchOptions, NewRecord};

const SESSION: SessionId = SessionId { revision: 3, random: 4 };
const EPOCH: i32 = 5;
/// Batches of one record in each extent.
const BATCHES: i64 = 4;
/// What lies behind the extent in its object.
const BEHIND: u64 = 1000;

#[derive(Default)]
struct Blocks {
    bodies: BTreeMap<SegmentNumber, Bytes>,
    asked: Mutex<Vec<(SegmentNumber, Range<u64>)>>,
    /// A bit of these is flipped until somebody says that what is kept is wrong.
    flipped: Mutex<BTreeSet<SegmentNumber>>,
    /// And of these for ever.
    damaged: BTreeSet<SegmentNumber>,
    /// These do not come before they leave the list.
    held_back: Mutex<BTreeSet<SegmentNumber>>,
    freed: Notify,
}

#[async_trait]
impl BlockCache for Blocks {
    async fn read(&self, object: &Arc<str>, range: Range<u64>, readable: u64) -> Result<Vec<Bytes>, StoreError> {
        let (_, number) = parse_segment_key(object).expect("a segment");
        assert!(range.start < range.end && range.end <= readable, "{range:?} of {readable}");
        self.asked.lock().push((number, range.clone()));
        while self.held_back.lock().contains(&number) {
            self.freed.notified().await;
        }
        let mut bytes = self.bodies[&number][range.start as usize..range.end as usize].to_vec();
        if self.damaged.contains(&number) || self.flipped.lock().contains(&number) {
            bytes[100] ^= 1;
        }
        Ok(bytes.chunks(5000).map(Bytes::copy_from_slice).collect())
    }

    fn forget(&self, object: &Arc<str>, _: Range<u64>) {
        let (_, number) = parse_segment_key(object).expect("a segment");
        self.flipped.lock().remove(&number);
    }

    fn counters(&self) -> CacheCounters {
        CacheCounters::default()
    }
}

/// A batch of one record with a value of so many bytes.
fn batch(base_offset: Offset, value: usize) -> (Vec<u8>, BatchMeta) {
    let mut builder = BatchBuilder::new(BatchOptions::default());
    let value = vec![7; value];
    builder.push(NewRecord { value: Some(&value), ..NewRecord::default() }).expect("fits");
    let mut bytes = builder.build().expect("builds").to_vec();
    patch_offset_and_epoch(&mut bytes, base_offset, EPOCH).expect("a batch");
    let meta = BatchMeta {
        base_offset,
        last_offset_delta: 0,
        length: bytes.len() as u32,
        record_count: 1,
        max_timestamp: 0,
        producer_id: -1,
        producer_epoch: -1,
        base_sequence: -1,
        transactional: false,
        log_append_time: false,
        control: None,
    };
    (bytes, meta)
}

/// A partition of so many extents, one an object from number `first` on, and the size of a batch.
fn partition(blocks: &mut Blocks, index: i32, first: u64, extents: u64, value: usize) -> (Arc<PartitionSlot>, usize) {
    let id = PartitionId { topic: TopicId(1), index };
    let mut partition = Partition::new(id, EPOCH, 0);
    let mut size = 0;
    for number in first..first + extents {
        let base_offset = (number - first) as i64 * BATCHES;
        let (bodies, batches): (Vec<_>, Vec<_>) =
            (base_offset..base_offset + BATCHES).map(|at| batch(at, value)).unzip();
        let mut body = bodies.concat();
        let length = body.len() as u32;
        size = bodies[0].len();
        body.resize(body.len() + BEHIND as usize, 0);
        let object = ObjectRef::segment(SESSION, number, body.len() as u64);
        let next_offset = base_offset + BATCHES;
        let extent = ExtentMeta {
            partition: id,
            epoch: EPOCH,
            base_offset,
            next_offset,
            position: 0,
            length,
            max_timestamp: 0,
            batches,
        };
        partition.replay(object, &extent, 0).expect("it follows");
        blocks.bodies.insert(number, Bytes::from(body));
    }
    partition.finish_replay().expect("all is there");
    let slot = PartitionSlot::recovering(id);
    slot.settle(SlotState::Serving(Box::new(partition)));
    (slot, size)
}

fn reader(blocks: &Arc<Blocks>, cache_bytes: usize) -> Reader {
    Reader::new(Arc::new(TailCache::new(0)), Arc::clone(blocks) as Arc<dyn BlockCache>, cache_bytes)
}

/// Base offsets of whole batches.
fn offsets(batches: &Batches) -> Vec<Offset> {
    let bytes = batches.slices.concat();
    assert_eq!(bytes.len(), batches.bytes);
    let mut rest = &bytes[..];
    let mut offsets = Vec::new();
    while !rest.is_empty() {
        let header = BatchHeader::parse(rest).expect("a batch");
        offsets.push(header.base_offset);
        rest = &rest[header.size()..];
    }
    offsets
}

#[tokio::test]
async fn the_limit_counts_over_all_pieces() {
    let mut blocks = Blocks::default();
    let (slot, size) = partition(&mut blocks, 0, 0, 3, 10);
    let reader = reader(&Arc::new(blocks), 0);
    // (offset, most bytes, first whole, batches)
    let table = [
        (0, 100 * size, false, 0..12),
        (0, 12 * size, false, 0..12),
        (0, 12 * size - 1, false, 0..11),
        (0, 5 * size, false, 0..5),
        (0, 4 * size + size / 2, true, 0..4),
        (0, 4 * size, false, 0..4),
        (0, size - 1, false, 0..0),
        (0, size - 1, true, 0..1),
        (0, 0, true, 0..1),
        (3, size, false, 3..4),
        (7, 6 * size, false, 7..10),
        (11, 100 * size, true, 11..12),
        (12, 100 * size, true, 12..12),
    ];
    for (offset, most, first_whole, expected) in table {
        let read = reader.read(&slot, offset, most, first_whole).await.expect("it is there");
        assert_eq!(
            offsets(&read),
            expected.clone().collect::<Vec<_>>(),
            "from {offset}, at most {most}, {first_whole}"
        );
        assert_eq!((read.log_start, read.high_watermark), (0, 12));
    }
    let outside = reader.read(&slot, 13, 100, true).await;
    assert!(matches!(outside, Err(ReadError::OutOfRange(_))), "{outside:?}");
}

/// Who holds a little of a block must not hold all of it.
#[tokio::test]
async fn what_is_small_is_copied_out_of_its_blocks() {
    // (bytes of a value, whether the extent of four is given as the blocks' slices)
    for (value, shares) in [(3000, false), (30_000, false), (40_000, true)] {
        let mut blocks = Blocks::default();
        let (slot, size) = partition(&mut blocks, 0, 0, 1, value);
        let reader = reader(&Arc::new(blocks), 0);
        let read = reader.read(&slot, 0, 4 * size, true).await.expect("it is there");
        assert_eq!((offsets(&read).len(), read.slices.len() > 1), (4, shares), "{value}");
    }
}

#[tokio::test]
async fn damage_is_read_once_more_and_told_at_its_own_offsets() {
    let mut blocks = Blocks { damaged: BTreeSet::from([2]), ..Blocks::default() };
    let (slot, _) = partition(&mut blocks, 0, 0, 4, 10);
    *blocks.flipped.get_mut() = BTreeSet::from([0, 1]);
    let blocks = Arc::new(blocks);
    let reader = reader(&blocks, 0);
    let read = reader.read(&slot, 0, 1 << 20, true).await.expect("the first two pieces");
    assert_eq!(offsets(&read), (0..8).collect::<Vec<_>>());
    let damaged = reader.read(&slot, 8, 1 << 20, true).await;
    assert!(matches!(damaged, Err(ReadError::Damaged { .. })), "{damaged:?}");
    let behind = reader.read(&slot, 12, 1 << 20, true).await.expect("it is whole");
    assert_eq!(offsets(&behind), (12..16).collect::<Vec<_>>());
    let looks = |number| blocks.asked.lock().iter().filter(|(asked, _)| *asked == number).count();
    assert_eq!([looks(0), looks(1), looks(2)], [2, 2, 4], "two looks by each of the two reads that needed it");
}

const SIZE: usize = 64 << 10;
const EXTENT: usize = 4 * SIZE;
/// The value in a batch of that size.
const VALUE: usize = SIZE - 72;

/// Reads one extent as a step of a replay, and lets run what runs beside it.
async fn step(reader: &Reader, slot: &PartitionSlot, extent: i64) {
    let read = reader.read(slot, extent * BATCHES, EXTENT, true).await.expect("it is there");
    assert_eq!(read.bytes, EXTENT);
    let_others_run().await;
}

async fn let_others_run() {
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
}

/// What was asked for since the last look, without the first, which is the reader's own.
fn ahead(blocks: &Blocks) -> Vec<(SegmentNumber, Range<u64>)> {
    std::mem::take(&mut *blocks.asked.lock()).split_off(1)
}

#[tokio::test]
async fn reads_ahead_what_comes_next_and_not_what_lies_behind_it() {
    let mut blocks = Blocks::default();
    let (slot, _) = partition(&mut blocks, 0, 0, 14, VALUE);
    let blocks = Arc::new(blocks);
    let reader = reader(&blocks, 12 * 8 * EXTENT);
    let extents = |numbers: Range<u64>| numbers.map(|number| (number, 0..EXTENT as u64)).collect::<Vec<_>>();
    // (extent, those read ahead)
    let table = [
        (0, 0..0, "nobody knows yet whether this one goes on"),
        (1, 2..6, "the first step: a mebibyte"),
        (2, 6..11, "twice as much, of which something lies there"),
        (3, 0..0, "enough lies there"),
        (4, 11..14, "as much as there is"),
        (9, 0..0, "a jump"),
        (10, 11..14, "up to the end"),
        (13, 0..0, "another jump"),
    ];
    for (extent, expected, what) in table {
        step(&reader, &slot, extent).await;
        assert_eq!(ahead(&blocks), extents(expected), "{what}");
    }
}

#[tokio::test]
async fn the_last_batch_of_a_read_need_not_fit() {
    let mut blocks = Blocks::default();
    let (slot, _) = partition(&mut blocks, 0, 0, 14, VALUE);
    let blocks = Arc::new(blocks);
    let reader = reader(&blocks, 16 * 8 * EXTENT);
    // Two extents, and a piece of the third that is smaller than its first batch.
    for (offset, expected) in [(0, &[] as &[_]), (8, &[4, 5, 6, 7])] {
        let read = reader.read(&slot, offset, 2 * EXTENT + SIZE / 2, true).await.expect("it is there");
        assert_eq!(read.bytes, 2 * EXTENT);
        let_others_run().await;
        let ahead: Vec<_> = blocks.asked.lock().drain(..).skip(3).map(|(number, _)| number).collect();
        assert_eq!(ahead, expected);
    }
}

#[tokio::test]
async fn what_lies_ahead_is_half_of_the_cache_at_most() {
    let mut blocks = Blocks::default();
    let slots: Vec<_> = (0..7u64).map(|at| partition(&mut blocks, at as i32, at * 10, 9, VALUE)).collect();
    let blocks = Arc::new(blocks);
    // Twelve extents, and three of one reader.
    let reader = reader(&blocks, 24 * EXTENT);
    let mut numbers = Vec::new();
    for (slot, _) in &slots {
        step(&reader, slot, 0).await;
        assert_eq!(ahead(&blocks), []);
        step(&reader, slot, 1).await;
        numbers.extend(ahead(&blocks).into_iter().map(|(number, _)| number));
    }
    assert_eq!(numbers, [2, 3, 4, 12, 13, 14, 22, 23, 24, 32, 33, 34]);
    step(&reader, &slots[6].0, 2).await;
    assert_eq!(ahead(&blocks), [], "the others have everything");
    // The first reader goes through all of it.
    let numbers = async |slot, extent| {
        step(&reader, slot, extent).await;
        ahead(&blocks).into_iter().map(|(number, _)| number).collect::<Vec<_>>()
    };
    assert_eq!(numbers(&slots[0].0, 2).await, [] as [u64; 0]);
    assert_eq!(numbers(&slots[6].0, 3).await, [64], "what the first has read");
    assert_eq!(numbers(&slots[0].0, 3).await, [5]);
}
