//! The footer's columns: FORMAT.md "Footer". Encoding and decoding mirror each other line by line.
//!
//! Positions, extent lengths, last offsets and extent timestamps follow from the batches and are not stored. Whatever is usual
//! costs a bit of the flags: as many records as offsets, the producer of the batch before, the sequence that follows.

use super::varint::{Cursor, put, put_signed};
use super::{BATCH_HEADER_BYTES, BatchMeta, ControlMeta, Damage, ExtentMeta, Footer};
use crate::types::{PartitionId, SessionId, TimestampMs, TopicId};

const HAS_PRODUCER: u8 = 1;
const SAME_PRODUCER: u8 = 1 << 1;
const NEXT_SEQUENCE: u8 = 1 << 2;
const EPOCH_ZERO: u8 = 1 << 3;
const TRANSACTIONAL: u8 = 1 << 4;
const LOG_APPEND_TIME: u8 = 1 << 5;
const CONTROL: u8 = 1 << 6;
/// The batch has a record count other than the number of its offsets.
const SPARSE: u8 = 1 << 7;

/// Fewest bytes of an extent's columns, without its batches.
const LEAST_EXTENT_BYTES: usize = 4;
/// Fewest bytes of a batch's columns.
const LEAST_BATCH_BYTES: usize = 4;

/// The producer fields of the last batch that had any, as the decoder sees them too.
#[derive(Clone, Copy)]
struct Producer {
    id: i64,
    epoch: i16,
    /// The sequence that follows without a gap.
    next_sequence: i32,
}

impl Producer {
    fn after(batch: &BatchMeta) -> Producer {
        let records = i64::from(batch.last_offset_delta) + 1;
        let next = (i64::from(batch.base_sequence) + records).rem_euclid(1 << 31);
        Producer {
            id: batch.producer_id,
            epoch: batch.producer_epoch,
            next_sequence: i32::try_from(next).expect("less than 2^31"),
        }
    }
}

fn flags_of(batch: &BatchMeta, previous: Option<Producer>) -> u8 {
    let mut flags = 0;
    let mut set = |flag, condition| flags |= if condition { flag } else { 0 };
    let has_producer = batch.producer_id >= 0;
    let same =
        previous.filter(|last| has_producer && (last.id, last.epoch) == (batch.producer_id, batch.producer_epoch));
    set(HAS_PRODUCER, has_producer);
    set(SAME_PRODUCER, same.is_some());
    set(NEXT_SEQUENCE, same.is_some_and(|last| last.next_sequence == batch.base_sequence));
    set(EPOCH_ZERO, has_producer && same.is_none() && batch.producer_epoch == 0);
    set(TRANSACTIONAL, batch.transactional);
    set(LOG_APPEND_TIME, batch.log_append_time);
    set(CONTROL, batch.control.is_some());
    set(SPARSE, i64::from(batch.record_count) != i64::from(batch.last_offset_delta) + 1);
    flags
}

/// The bytes of a footer whose extents are in order (see [`Footer::extents`]).
pub fn encode(footer: &Footer) -> Vec<u8> {
    let batches: usize = footer.extents.iter().map(|extent| extent.batches.len()).sum();
    let mut bytes = Vec::with_capacity(64 + footer.extents.len() * 16 + batches * 16);
    put(&mut bytes, footer.session.revision);
    bytes.extend_from_slice(&footer.session.random.to_be_bytes());
    put(&mut bytes, footer.number);
    bytes.extend_from_slice(&footer.nonce.to_be_bytes());
    put_signed(&mut bytes, footer.created_ms);
    put(&mut bytes, footer.committed);
    encode_extents(&mut bytes, &footer.extents);
    let all: Vec<&BatchMeta> = footer.extents.iter().flat_map(|extent| &extent.batches).collect();
    encode_batches(&mut bytes, &all, footer.created_ms);
    bytes
}

fn encode_extents(bytes: &mut Vec<u8>, extents: &[ExtentMeta]) {
    let topics: Vec<&[ExtentMeta]> = extents.chunk_by(|a, b| a.partition.topic == b.partition.topic).collect();
    put(bytes, topics.len() as u64);
    topics.iter().for_each(|topic| bytes.extend_from_slice(&topic[0].partition.topic.0.to_be_bytes()));
    topics.iter().for_each(|topic| put(bytes, topic.len() as u64));
    for topic in &topics {
        let mut last = 0;
        for extent in *topic {
            put(bytes, u64::from(extent.partition.index.abs_diff(last)));
            last = extent.partition.index;
        }
    }
    let mut last = 0;
    for extent in extents {
        put_signed(bytes, i64::from(extent.epoch) - last);
        last = i64::from(extent.epoch);
    }
    extents.iter().for_each(|extent| put(bytes, extent.base_offset.cast_unsigned()));
    extents.iter().for_each(|extent| put(bytes, extent.batches.len() as u64));
}

fn encode_batches(bytes: &mut Vec<u8>, batches: &[&BatchMeta], created_ms: TimestampMs) {
    let mut flags = Vec::with_capacity(batches.len());
    let mut ids = Vec::new();
    let (mut last_id, mut previous) = (0, None);
    for batch in batches {
        let flag = flags_of(batch, previous);
        flags.push(flag);
        if flag & HAS_PRODUCER != 0 {
            if flag & SAME_PRODUCER == 0 {
                put_signed(&mut ids, batch.producer_id - last_id);
                last_id = batch.producer_id;
            }
            previous = Some(Producer::after(batch));
        }
    }
    let flagged = |set: u8, clear: u8| {
        let chosen = move |flag: u8| flag & set == set && flag & clear == 0;
        batches.iter().zip(&flags).filter(move |(_, flag)| chosen(**flag)).map(|(batch, _)| *batch)
    };
    bytes.extend_from_slice(&flags);
    batches.iter().for_each(|batch| put(bytes, u64::from(batch.length)));
    batches.iter().for_each(|batch| put(bytes, u64::from(batch.last_offset_delta.cast_unsigned())));
    flagged(SPARSE, 0).for_each(|batch| put(bytes, u64::from(batch.record_count.cast_unsigned())));
    let mut last = created_ms;
    for batch in batches {
        put_signed(bytes, batch.max_timestamp.wrapping_sub(last));
        last = batch.max_timestamp;
    }
    bytes.extend_from_slice(&ids);
    flagged(HAS_PRODUCER, SAME_PRODUCER | EPOCH_ZERO)
        .for_each(|batch| put(bytes, u64::from(batch.producer_epoch.cast_unsigned())));
    flagged(HAS_PRODUCER, NEXT_SEQUENCE)
        .for_each(|batch| put(bytes, u64::from(batch.base_sequence.wrapping_add(1).cast_unsigned())));
    let markers = || batches.iter().filter_map(|batch| batch.control);
    markers().for_each(|marker| put(bytes, u64::from(marker.marker_type.cast_unsigned())));
    markers().for_each(|marker| put(bytes, u64::from(marker.coordinator_epoch.cast_unsigned())));
}

/// Reads a footer back and checks all that can be known without the object around it.
pub fn decode(bytes: &[u8]) -> Result<Footer, Damage> {
    let mut cursor = Cursor::new(bytes);
    let revision = cursor.unsigned("session revision")?;
    let random = u64::from_be_bytes(cursor.array("session random bits")?);
    let number = cursor.unsigned("segment number")?;
    let nonce = u64::from_be_bytes(cursor.array("nonce")?);
    let created_ms = cursor.signed("creation time")?;
    let committed = cursor.unsigned("committed")?;
    if committed > number {
        return Err(Damage::content(format!("segment {number} says that segment {committed} was committed before it")));
    }
    let (mut extents, counts) = decode_extents(&mut cursor)?;
    let total = counts.iter().sum();
    let batches = decode_batches(&mut cursor, total, created_ms)?;
    cursor.end("footer")?;
    let mut rest = batches.as_slice();
    let mut position = 0;
    for (extent, count) in extents.iter_mut().zip(counts) {
        let (own, others) = rest.split_at(count);
        rest = others;
        fill_extent(extent, own, position)?;
        position += u64::from(extent.length);
    }
    check_order(&extents)?;
    Ok(Footer { session: SessionId { revision, random }, number, nonce, created_ms, committed, extents })
}

/// Extents with what their own columns say, and how many batches each has.
fn decode_extents(cursor: &mut Cursor<'_>) -> Result<(Vec<ExtentMeta>, Vec<usize>), Damage> {
    let topic_count = cursor.count(16 + 1, "topics")?;
    let mut topics = Vec::with_capacity(topic_count);
    for _ in 0..topic_count {
        topics.push(TopicId(u128::from_be_bytes(cursor.array("topic id")?)));
    }
    if !topics.is_sorted_by(|a, b| a < b) {
        return Err(Damage::content("topics are out of order"));
    }
    let mut extents: Vec<ExtentMeta> = Vec::new();
    for topic in topics {
        let count = cursor.count(LEAST_EXTENT_BYTES, "extents of a topic")?;
        if count == 0 || (extents.len() + count).saturating_mul(LEAST_EXTENT_BYTES) > cursor.remaining() {
            return Err(Damage::content(format!("topic {topic}: {count} extents can't be")));
        }
        let blank = ExtentMeta {
            partition: PartitionId { topic, index: 0 },
            epoch: 0,
            base_offset: 0,
            next_offset: 0,
            position: 0,
            length: 0,
            max_timestamp: 0,
            batches: Vec::new(),
        };
        extents.extend(std::iter::repeat_n(blank, count));
    }
    let out_of_range = |what: &str| Damage::content(format!("{what} is out of range"));
    let (mut topic, mut last) = (None, 0);
    for extent in &mut extents {
        if topic.replace(extent.partition.topic) != Some(extent.partition.topic) {
            last = 0;
        }
        last = cursor.number::<i32>("partition")?.checked_add(last).ok_or_else(|| out_of_range("partition"))?;
        extent.partition.index = last;
    }
    let mut last = 0;
    for extent in &mut extents {
        last = add(last, cursor.signed("lease epoch")?, "lease epoch")?;
        extent.epoch = i32::try_from(last).map_err(|_| out_of_range("lease epoch"))?;
    }
    for extent in &mut extents {
        extent.base_offset = cursor.number("base offset")?;
    }
    let mut counts: Vec<usize> = Vec::with_capacity(extents.len());
    let mut total = 0;
    for _ in &extents {
        let count = cursor.count(LEAST_BATCH_BYTES, "batches of an extent")?;
        total += count;
        if count == 0 || total > cursor.remaining() / LEAST_BATCH_BYTES {
            return Err(Damage::content(format!("an extent of {count} batches can't be")));
        }
        counts.push(count);
    }
    Ok((extents, counts))
}

fn add(base: i64, more: i64, what: &str) -> Result<i64, Damage> {
    base.checked_add(more).ok_or_else(|| Damage::content(format!("{what} is out of range")))
}

fn decode_batches(cursor: &mut Cursor<'_>, count: usize, created_ms: TimestampMs) -> Result<Vec<BatchMeta>, Damage> {
    let flags = cursor.bytes(count, "batch flags")?;
    let blank = BatchMeta {
        base_offset: 0,
        last_offset_delta: 0,
        length: 0,
        record_count: 0,
        max_timestamp: 0,
        producer_id: -1,
        producer_epoch: -1,
        base_sequence: -1,
        transactional: false,
        log_append_time: false,
        control: None,
    };
    let mut batches = vec![blank; count];
    for batch in &mut batches {
        batch.length = cursor.number("batch length")?;
        if (batch.length as usize) < BATCH_HEADER_BYTES {
            return Err(Damage::content(format!("a batch of {} bytes can't be", batch.length)));
        }
    }
    for batch in &mut batches {
        batch.last_offset_delta = non_negative(cursor, "last offset delta")?;
    }
    for (batch, flag) in batches.iter_mut().zip(flags) {
        batch.record_count = if flag & SPARSE != 0 {
            non_negative(cursor, "record count")?
        } else {
            batch.last_offset_delta.checked_add(1).ok_or_else(|| Damage::content("a batch of 2^31 records can't be"))?
        };
        batch.transactional = flag & TRANSACTIONAL != 0;
        batch.log_append_time = flag & LOG_APPEND_TIME != 0;
    }
    let mut last = created_ms;
    for batch in &mut batches {
        last = last.wrapping_add(cursor.signed("max timestamp")?);
        batch.max_timestamp = last;
    }
    decode_producers(cursor, &mut batches, flags)?;
    for (batch, _) in batches.iter_mut().zip(flags).filter(|(_, flag)| **flag & CONTROL != 0) {
        let marker_type = cursor.number::<u16>("marker type")?.cast_signed();
        batch.control = Some(ControlMeta { marker_type, coordinator_epoch: 0 });
    }
    for marker in batches.iter_mut().filter_map(|batch| batch.control.as_mut()) {
        marker.coordinator_epoch = cursor.number::<u32>("coordinator epoch")?.cast_signed();
    }
    check_flags(&batches, flags)?;
    Ok(batches)
}

fn non_negative(cursor: &mut Cursor<'_>, what: &str) -> Result<i32, Damage> {
    cursor.number(what)
}

fn decode_producers(cursor: &mut Cursor<'_>, batches: &mut [BatchMeta], flags: &[u8]) -> Result<(), Damage> {
    let mut last_id = 0;
    for (batch, flag) in batches.iter_mut().zip(flags).filter(|(_, flag)| **flag & HAS_PRODUCER != 0) {
        if flag & SAME_PRODUCER == 0 {
            last_id = add(last_id, cursor.signed("producer id")?, "producer id")?;
        }
        batch.producer_id = last_id;
    }
    let mut last_epoch = 0;
    for (batch, flag) in batches.iter_mut().zip(flags).filter(|(_, flag)| **flag & HAS_PRODUCER != 0) {
        if flag & EPOCH_ZERO != 0 {
            last_epoch = 0;
        } else if flag & SAME_PRODUCER == 0 {
            last_epoch = cursor.number::<u16>("producer epoch")?.cast_signed();
        }
        batch.producer_epoch = last_epoch;
    }
    let mut next_sequence = 0;
    for (batch, flag) in batches.iter_mut().zip(flags).filter(|(_, flag)| **flag & HAS_PRODUCER != 0) {
        batch.base_sequence = if flag & NEXT_SEQUENCE != 0 {
            next_sequence
        } else {
            cursor.number::<u32>("base sequence")?.cast_signed().wrapping_sub(1)
        };
        next_sequence = Producer::after(batch).next_sequence;
    }
    Ok(())
}

/// Flags have one spelling: what the encoder would write for these batches.
fn check_flags(batches: &[BatchMeta], flags: &[u8]) -> Result<(), Damage> {
    let mut previous = None;
    for (index, (batch, flag)) in batches.iter().zip(flags).enumerate() {
        if flags_of(batch, previous) != *flag {
            return Err(Damage::content(format!("batch {index}: flags {flag:08b} contradict its fields")));
        }
        if batch.producer_id >= 0 {
            previous = Some(Producer::after(batch));
        }
    }
    Ok(())
}

/// Gives an extent its batches: base offsets, lengths and what follows from them.
pub fn fill_extent(extent: &mut ExtentMeta, batches: &[BatchMeta], position: u64) -> Result<(), Damage> {
    let overflow = |what: &str| Damage::content(format!("partition {}: {what} overflow", extent.partition));
    let (mut next, mut length, mut max_timestamp) = (extent.base_offset, 0u32, TimestampMs::MIN);
    let mut own = Vec::with_capacity(batches.len());
    for batch in batches {
        let batch = BatchMeta { base_offset: next, ..*batch };
        next = batch.next_offset().ok_or_else(|| overflow("offsets"))?;
        length = length.checked_add(batch.length).ok_or_else(|| overflow("lengths"))?;
        max_timestamp = max_timestamp.max(batch.max_timestamp);
        own.push(batch);
    }
    *extent = ExtentMeta { next_offset: next, position, length, max_timestamp, batches: own, ..extent.clone() };
    Ok(())
}

/// Extents ascend by (partition, epoch), no index or epoch is negative, no partition's offsets go back.
pub fn check_order(extents: &[ExtentMeta]) -> Result<(), Damage> {
    for extent in extents {
        if extent.partition.index < 0 || extent.epoch < 0 || extent.base_offset < 0 || extent.batches.is_empty() {
            return Err(Damage::content(format!("partition {}: a negative or empty extent", extent.partition)));
        }
    }
    for pair in extents.windows(2) {
        let (before, after) = (&pair[0], &pair[1]);
        if (before.partition, before.epoch) >= (after.partition, after.epoch) {
            return Err(Damage::content(format!(
                "extents out of order: partition {} epoch {} before partition {} epoch {}",
                before.partition, before.epoch, after.partition, after.epoch
            )));
        }
        if before.partition == after.partition && before.next_offset > after.base_offset {
            return Err(Damage::content(format!(
                "partition {}: offset {} of epoch {} goes back behind {}",
                after.partition, after.base_offset, after.epoch, before.next_offset
            )));
        }
    }
    Ok(())
}
