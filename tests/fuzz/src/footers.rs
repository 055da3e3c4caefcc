//! Mutations of the `segments` target that know what a footer is: one of its numbers at an end, or segments as the broker builds them,
//! with every number of theirs at an end now and then.

use alluvium::segment::{BatchMeta, ControlMeta, ExtentDraft, RepeatedFooter, SealedSegment, SegmentDraft, build};
use alluvium::types::{PartitionId, SessionId, TopicId};
use bytes::Bytes;

use crate::edges::{edge, number, put, varint};
use crate::messages::Gen;
use crate::pieces;

/// Size of the body and kind, before the footer.
const HEAD_BYTES: usize = 5;

/// Bytes behind the first numbers that are none: random bits of the session's id, and the nonce.
const FIXED: &[usize] = &[8, 8];

/// Changes `data`, of which `size` bytes are an input, and returns its new size; `None` leaves the change to libFuzzer.
pub fn mutate(data: &mut [u8], size: usize, max_size: usize, seed: u32) -> Option<usize> {
    let mut dice = Gen::new(u64::from(seed), 0, false);
    let new = match dice.below(4) {
        0 => drawn(&mut dice)?,
        1 | 2 => renumbered(&data[..size], &mut dice, FIXED)?,
        _ => return None,
    };
    put(data, max_size, &new)
}

/// The same footer with another number in it. Topic ids and flags are taken for numbers, too, but not the bytes that stand behind the
/// first numbers, so many behind each.
pub fn renumbered(data: &[u8], dice: &mut Gen, fixed: &[usize]) -> Option<Vec<u8>> {
    let mut new = data.to_vec();
    for _ in 0..=dice.below(2) {
        let places = numbers(&new, fixed);
        let place = places.get(dice.below(places.len().max(1) as u64) as usize)?.clone();
        let value = if dice.below(4) == 0 { dice.below(4) } else { edge(dice) };
        new.splice(place, varint(value));
    }
    Some(new)
}

/// Where numbers stand.
fn numbers(data: &[u8], fixed: &[usize]) -> Vec<std::ops::Range<usize>> {
    let mut places = Vec::new();
    let mut at = HEAD_BYTES;
    while let Some(length) = data.get(at..).and_then(|rest| rest.iter().position(|byte| *byte < 0x80)) {
        let behind = fixed.get(places.len()).unwrap_or(&0);
        places.push(at..at + length + 1);
        at += length + 1 + behind;
    }
    places
}

/// A segment that the broker might have written, as an input; half of them repeat the footer of one before.
pub fn drawn(dice: &mut Gen) -> Option<Vec<u8>> {
    let session = SessionId { revision: number(dice), random: dice.below(u64::MAX) };
    let first = dice.below(100);
    let repeated = if dice.below(2) == 0 {
        let earlier = segment(dice, session, first, Vec::new())?;
        vec![RepeatedFooter { number: first, footer_bytes: earlier.footer_bytes }]
    } else {
        Vec::new()
    };
    let number = first + 1 + dice.below(3);
    let segment = segment(dice, session, number, repeated)?;
    let body = usize::try_from(segment.footer.body_length()).ok()?;
    let footer = &segment.footer_bytes[..];
    let described = segment.bytes.get(body..segment.bytes.len().checked_sub(alluvium::segment::TRAILER_BYTES)?)?;
    let mended = pieces::join(&[footer, described.get(footer.len()..)?]);
    Some([&u32::try_from(body).ok()?.to_be_bytes()[..], &[0], &mended].concat())
}

fn segment(dice: &mut Gen, session: SessionId, number_: u64, repeated: Vec<RepeatedFooter>) -> Option<SealedSegment> {
    let created_ms = number(dice).cast_signed();
    let mut extents = Vec::new();
    let (mut topic, mut index, mut epoch) = (1, 0, 0);
    let mut next = offset(dice);
    for _ in 0..dice.below(4) {
        match dice.below(3) {
            0 => epoch += 1,
            1 => (index, next) = (index + 1 + dice.below(2) as i32, offset(dice)),
            _ => (topic, next) = (topic + 1, offset(dice)),
        }
        let partition = PartitionId { topic: TopicId(topic), index };
        let mut batches = Vec::new();
        for _ in 0..=dice.below(3) {
            let meta = batch(dice, next, created_ms);
            next = meta.next_offset()?;
            batches.push((Bytes::from(vec![0; meta.length as usize]), meta));
        }
        extents.push(ExtentDraft { partition, epoch, batches });
    }
    let committed = number_ - u64::from(number_ > 0 && repeated.is_empty() && dice.below(2) == 0);
    let nonce = dice.below(u64::MAX);
    build(SegmentDraft { session, number: number_, nonce, created_ms, committed, extents, repeated }).ok()
}

/// Mostly a small offset, sometimes one at an end.
pub fn offset(dice: &mut Gen) -> i64 {
    (number(dice) & i64::MAX as u64).cast_signed()
}

fn batch(dice: &mut Gen, base_offset: i64, created_ms: i64) -> BatchMeta {
    let last_offset_delta = (number(dice) as i32).max(0);
    let has_producer = dice.below(2) == 0;
    let of_producer = |value| if has_producer { value } else { -1 };
    BatchMeta {
        base_offset,
        last_offset_delta,
        length: 61 + dice.below(3) as u32,
        record_count: if dice.below(3) == 0 {
            (number(dice) as i32).max(0)
        } else {
            last_offset_delta.saturating_add(1)
        },
        max_timestamp: created_ms.wrapping_add(number(dice).cast_signed()),
        producer_id: of_producer(number(dice).cast_signed() & i64::MAX),
        producer_epoch: of_producer((number(dice) & 0x7fff).cast_signed()) as i16,
        base_sequence: of_producer((number(dice) & 0x7fff_ffff).cast_signed()) as i32,
        transactional: has_producer && dice.below(4) == 0,
        log_append_time: dice.below(4) == 0,
        control: (has_producer && dice.below(4) == 0)
            .then(|| ControlMeta { marker_type: number(dice) as i16, coordinator_epoch: number(dice) as i32 }),
    }
}
