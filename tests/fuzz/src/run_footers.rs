//! Mutations of the `runs` target that know what a footer is: one of its numbers at an end, or objects and manifests as the broker
//! writes them, with every number of theirs at an end now and then.

use alluvium::segment::{
    BatchCheckpoint, Manifest, PartitionCheckpoint, ProducerCheckpoint, RunExtent, RunFooter, TRAILER_BYTES,
};
use alluvium::types::aligned::AlignedBuffer;
use alluvium::types::{LeaseEpoch, Offset, PartitionId, RunId, SessionId, TimestampMs, TopicId};

use crate::edges::{number, put};
use crate::footers::{offset, renumbered};
use crate::messages::Gen;

/// Behind the size of the body.
const KIND_AT: usize = 4;

/// Bytes behind the first numbers that are none: of the run's id and the nonce; of a manifest also of the session's id.
const FIXED_IN_OBJECT: &[usize] = &[8, 8];
const FIXED_IN_MANIFEST: &[usize] = &[16, 0, 8];

/// Changes `data`, of which `size` bytes are an input, and returns its new size; `None` leaves the change to libFuzzer.
pub fn mutate(data: &mut [u8], size: usize, max_size: usize, seed: u32) -> Option<usize> {
    let mut dice = Gen::new(u64::from(seed), 0, false);
    let input = &data[..size];
    let is_manifest = input.get(KIND_AT).is_some_and(|kind| kind & 1 == 1);
    let fixed = if is_manifest { FIXED_IN_MANIFEST } else { FIXED_IN_OBJECT };
    let new = match dice.below(4) {
        0 => drawn(&mut dice)?,
        1 | 2 => renumbered(input, &mut dice, fixed)?,
        _ => return None,
    };
    put(data, max_size, &new)
}

/// An object of a run or a manifest that the broker might have written, as an input.
fn drawn(dice: &mut Gen) -> Option<Vec<u8>> {
    let run = RunId { revision: number(dice), random: dice.below(u64::MAX) };
    let created_ms = number(dice).cast_signed();
    if dice.below(2) == 0 {
        let content = manifest(dice, run, created_ms)?.encode().ok()?;
        return Some([&[0, 0, 0, 0, 1], &content[..content.len() - TRAILER_BYTES]].concat());
    }
    let (number, mut end) = (number(dice), End::new(dice));
    let footer = object(dice, &mut end, (run, number), created_ms)?;
    let body = usize::try_from(footer.body_length()).ok()?;
    let sealed = footer.seal(AlignedBuffer::zeroed(body)).ok()?;
    let size = u32::try_from(body).ok()?.to_be_bytes();
    Some([&size[..], &[0], &sealed[body..sealed.len() - TRAILER_BYTES]].concat())
}

/// Where the extent before ended.
struct End {
    partition: PartitionId,
    epoch: LeaseEpoch,
    offset: Offset,
}

impl End {
    fn new(dice: &mut Gen) -> End {
        End { partition: PartitionId { topic: TopicId(1), index: 0 }, epoch: 0, offset: offset(dice) }
    }
}

/// `None`: there are no offsets left.
fn object(dice: &mut Gen, end: &mut End, (run, number): (RunId, u64), created_ms: TimestampMs) -> Option<RunFooter> {
    let (mut extents, mut position) = (Vec::new(), 0);
    for _ in 0..=dice.below(3) {
        let PartitionId { topic, index } = end.partition;
        match dice.below(3) {
            0 => end.epoch += 1,
            1 => (end.partition.index, end.offset) = (index + 1 + dice.below(2) as i32, offset(dice)),
            _ => (end.partition, end.offset) = (PartitionId { topic: TopicId(topic.0 + 1), index }, offset(dice)),
        }
        let base_offset = end.offset;
        end.offset = offset(dice).checked_add(1)?.checked_add(base_offset)?;
        let length = 61 + dice.below(3) as u32;
        extents.push(RunExtent {
            partition: end.partition,
            epoch: end.epoch,
            base_offset,
            next_offset: end.offset,
            position,
            length,
            max_timestamp: created_ms.wrapping_add(self::number(dice).cast_signed()),
        });
        position += u64::from(length);
    }
    Some(RunFooter { run, number, nonce: dice.below(u64::MAX), created_ms, extents })
}

fn manifest(dice: &mut Gen, run: RunId, created_ms: TimestampMs) -> Option<Manifest> {
    let mut end = End::new(dice);
    let mut objects = Vec::new();
    for at in 0..dice.below(3) {
        objects.push(object(dice, &mut end, (run, at), created_ms)?);
    }
    let from = number(dice);
    let mut checkpoint = Vec::new();
    for index in 0..dice.below(4) as i32 {
        // Two partitions a topic.
        let partition = PartitionId { topic: TopicId(1 + u128::from(index.cast_unsigned() / 2)), index };
        checkpoint.push(state(dice, partition, created_ms));
    }
    Some(Manifest {
        run,
        nonce: dice.below(u64::MAX),
        created_ms,
        session: SessionId { revision: number(dice), random: dice.below(u64::MAX) },
        from,
        to: from.checked_add(1 + dice.below(3))?,
        objects,
        whole: dice.below(2) == 0,
        checkpoint,
    })
}

fn state(dice: &mut Gen, partition: PartitionId, created_ms: TimestampMs) -> PartitionCheckpoint {
    let (mut epochs, mut producers) = (Vec::new(), Vec::new());
    let (first, start) = (positive(dice) / 2, offset(dice) / 2);
    for at in 0..dice.below(3) as i32 {
        epochs.push((first + at, start + i64::from(at / 2)));
    }
    let id = offset(dice) / 2;
    for at in 0..dice.below(3) as i64 {
        producers.push(producer(dice, id + at, created_ms));
    }
    PartitionCheckpoint { partition, next_offset: offset(dice), log_start: offset(dice), epochs, producers }
}

fn producer(dice: &mut Gen, id: i64, created_ms: TimestampMs) -> ProducerCheckpoint {
    let mut batches = Vec::new();
    for _ in 0..=dice.below(5) {
        let base_offset = offset(dice);
        batches.push(BatchCheckpoint {
            first_sequence: positive(dice),
            last_sequence: positive(dice),
            base_offset,
            last_offset: base_offset.saturating_add(offset(dice)),
            max_timestamp: created_ms.wrapping_add(number(dice).cast_signed()),
        });
    }
    let last_written_ms = created_ms.wrapping_add(number(dice).cast_signed());
    ProducerCheckpoint { id, epoch: number(dice) as i16, last_written_ms, batches }
}

/// From 0 to 2^31 - 1.
fn positive(dice: &mut Gen) -> i32 {
    (number(dice) & 0x7fff_ffff) as i32
}
