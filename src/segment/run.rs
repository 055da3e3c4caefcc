//! The object of a run: batches of one merged window, sorted by partition. FORMAT.md "Run".
//!
//! Batches stand in it as they stood in their segments. Extents are short ([`EXTENT_TARGET_BYTES`]), so that neither the index nor the
//! manifest needs to know single batches: a reader finds its batch from the start of the extent.

use bytes::Bytes;

use super::names::{RunPart, manifest_key, parse_run_key, run_object_key};
use super::read::{self, Kind, check_nonce, trailer};
use super::varint::{Cursor, put, put_signed};
use super::{BATCH_HEADER_BYTES, Damage, Manifest, SegmentError, manifest};
use crate::types::aligned::AlignedBuffer;
use crate::types::{LeaseEpoch, Offset, PartitionId, RunId, TimestampMs, TopicId};

/// An extent of a run ends with the batch that makes it so long.
pub const EXTENT_TARGET_BYTES: u32 = 512 << 10;

/// Fewest bytes of an extent's columns.
const LEAST_EXTENT_BYTES: usize = 6;

/// Contiguous batches of one partition and epoch inside one object of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunExtent {
    pub partition: PartitionId,
    pub epoch: LeaseEpoch,
    pub base_offset: Offset,
    /// One past the last offset.
    pub next_offset: Offset,
    /// Where the first batch begins in the object, in bytes; follows from the lengths before it.
    pub position: u64,
    pub length: u32,
    pub max_timestamp: TimestampMs,
}

/// What the end of a run's object says of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunFooter {
    pub run: RunId,
    /// Objects of a run count from 0.
    pub number: u64,
    /// Random bits of this object.
    pub nonce: u64,
    pub created_ms: TimestampMs,
    /// Never empty; sorted by (partition, base offset), one after another in the object.
    pub extents: Vec<RunExtent>,
}

impl RunFooter {
    /// Bytes of all batches.
    pub fn body_length(&self) -> u64 {
        self.extents.iter().map(|extent| u64::from(extent.length)).sum()
    }

    /// The bytes of the footer.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(64 + self.extents.len() * 16);
        put_run(&mut bytes, self.run);
        put(&mut bytes, self.number);
        bytes.extend_from_slice(&self.nonce.to_be_bytes());
        put_signed(&mut bytes, self.created_ms);
        encode_extents(&mut bytes, &self.extents, self.created_ms);
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<RunFooter, Damage> {
        let mut cursor = Cursor::new(bytes);
        let run = run(&mut cursor)?;
        let number = cursor.unsigned("number of the object")?;
        let nonce = u64::from_be_bytes(cursor.array("nonce")?);
        let created_ms = cursor.signed("creation time")?;
        let extents = decode_extents(&mut cursor, created_ms)?;
        cursor.end("footer of a run")?;
        check_extents(&extents)?;
        Ok(RunFooter { run, number, nonce, created_ms, extents })
    }

    /// The whole object: `body` holds the batches, with room behind them (see [`RunFooter::room`]), and gets footer and trailer.
    ///
    /// # Errors
    /// A body that is not what the extents say: a defect of the caller.
    pub fn seal(&self, mut body: AlignedBuffer) -> Result<Bytes, SegmentError> {
        let key = run_object_key(self.run, self.number);
        let seal = || {
            check_extents(&self.extents)?;
            if body.len() as u64 != self.body_length() {
                return Err(Damage::content(format!("a body of {} bytes is not that of its footer", body.len())));
            }
            let footer = self.encode();
            body.extend(&footer);
            body.extend(&trailer(Kind::Run, &footer, 0, self.nonce)?);
            Ok(body.freeze())
        };
        seal().map_err(|damage| damage.of(&key))
    }

    /// Bytes of the object behind its body, at most.
    pub fn room(&self) -> usize {
        256 + self.extents.len() * 96
    }
}

/// What the last bytes of an object of a run say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RunTail {
    Object(RunFooter),
    Manifest(Manifest),
    /// The bytes given are too few: read so many from the end and ask again.
    NeedMore(u64),
}

/// Understands the end of an object below `runs/`; see [`super::parse_tail`].
///
/// # Errors
/// Anything that is not to the letter what FORMAT.md says of the object named `key`.
pub fn parse_run_tail(key: &str, object_size: u64, tail: &[u8]) -> Result<RunTail, SegmentError> {
    let name = parse_run_key(key)?;
    parse(object_size, tail, Some(name)).map_err(|damage| damage.of(key))
}

/// The same for an object whose key is not known; `label` names it in errors.
pub fn parse_unnamed_run_tail(label: &str, object_size: u64, tail: &[u8]) -> Result<RunTail, SegmentError> {
    parse(object_size, tail, None).map_err(|damage| damage.of(label))
}

fn parse(object_size: u64, tail: &[u8], name: Option<(RunId, RunPart)>) -> Result<RunTail, Damage> {
    let opened = match read::open(object_size, tail) {
        Ok(opened) => opened,
        Err(Ok(more)) => return Ok(RunTail::NeedMore(more)),
        Err(Err(damage)) => return Err(damage),
    };
    if !opened.repeated.is_empty() {
        return Err(Damage::content("an object of a run repeats no footers"));
    }
    let (tail, found, nonce) = match opened.kind {
        Kind::Run => {
            let footer = RunFooter::decode(opened.footer)?;
            let body = object_size - opened.described;
            if footer.body_length() != body {
                let speaks = footer.body_length();
                return Err(Damage::content(format!("the body has {body} bytes, the footer speaks of {speaks}")));
            }
            let (name, nonce) = ((footer.run, RunPart::Object(footer.number)), footer.nonce);
            (RunTail::Object(footer), name, nonce)
        }
        Kind::Manifest => {
            if opened.described != object_size {
                return Err(Damage::content("a manifest has nothing before its content"));
            }
            let manifest = manifest::decode(opened.footer)?;
            let (name, nonce) = ((manifest.run, RunPart::Manifest), manifest.nonce);
            (RunTail::Manifest(manifest), name, nonce)
        }
        Kind::Segment | Kind::Fence => return Err(Damage::content("it belongs to a session, not to a run")),
    };
    check_nonce(nonce, opened.nonce)?;
    match name {
        Some(name) if name != found => Err(Damage::Identity { found: key_of(found), expected: key_of(name) }),
        _ => Ok(tail),
    }
}

fn key_of((run, part): (RunId, RunPart)) -> String {
    match part {
        RunPart::Object(number) => run_object_key(run, number),
        RunPart::Manifest => manifest_key(run),
    }
}

pub(super) fn put_run(bytes: &mut Vec<u8>, run: RunId) {
    put(bytes, run.revision);
    bytes.extend_from_slice(&run.random.to_be_bytes());
}

pub(super) fn run(cursor: &mut Cursor<'_>) -> Result<RunId, Damage> {
    let revision = cursor.unsigned("revision of the run")?;
    Ok(RunId { revision, random: u64::from_be_bytes(cursor.array("random bits of the run")?) })
}

fn encode_extents(bytes: &mut Vec<u8>, extents: &[RunExtent], created_ms: TimestampMs) {
    let topics: Vec<&[RunExtent]> = extents.chunk_by(|a, b| a.partition.topic == b.partition.topic).collect();
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
    extents.iter().for_each(|extent| put(bytes, (extent.next_offset - extent.base_offset).cast_unsigned()));
    extents.iter().for_each(|extent| put(bytes, u64::from(extent.length)));
    let mut last = created_ms;
    for extent in extents {
        put_signed(bytes, extent.max_timestamp.wrapping_sub(last));
        last = extent.max_timestamp;
    }
}

fn decode_extents(cursor: &mut Cursor<'_>, created_ms: TimestampMs) -> Result<Vec<RunExtent>, Damage> {
    let topic_count = cursor.count(16 + 1, "topics")?;
    let mut topics = Vec::with_capacity(topic_count);
    for _ in 0..topic_count {
        topics.push(TopicId(u128::from_be_bytes(cursor.array("topic id")?)));
    }
    if !topics.is_sorted_by(|a, b| a < b) {
        return Err(Damage::content("topics are out of order"));
    }
    let mut extents = Vec::new();
    for topic in topics {
        let count = cursor.count(LEAST_EXTENT_BYTES, "extents of a topic")?;
        if count == 0 || (extents.len() + count).saturating_mul(LEAST_EXTENT_BYTES) > cursor.remaining() {
            return Err(Damage::content(format!("topic {topic}: {count} extents can't be")));
        }
        let partition = PartitionId { topic, index: 0 };
        let blank =
            RunExtent { partition, epoch: 0, base_offset: 0, next_offset: 0, position: 0, length: 0, max_timestamp: 0 };
        extents.extend(std::iter::repeat_n(blank, count));
    }
    fill_columns(cursor, &mut extents, created_ms)?;
    Ok(extents)
}

fn fill_columns(cursor: &mut Cursor<'_>, extents: &mut [RunExtent], created_ms: TimestampMs) -> Result<(), Damage> {
    let out_of_range = |what: &str| Damage::content(format!("{what} is out of range"));
    let (mut topic, mut last) = (None, 0i32);
    for extent in extents.iter_mut() {
        if topic.replace(extent.partition.topic) != Some(extent.partition.topic) {
            last = 0;
        }
        last = last.checked_add(cursor.number("partition")?).ok_or_else(|| out_of_range("partition"))?;
        extent.partition.index = last;
    }
    let mut last = 0i64;
    for extent in extents.iter_mut() {
        last = last.checked_add(cursor.signed("lease epoch")?).ok_or_else(|| out_of_range("lease epoch"))?;
        extent.epoch = i32::try_from(last).map_err(|_| out_of_range("lease epoch"))?;
    }
    for extent in extents.iter_mut() {
        extent.base_offset = cursor.number("base offset")?;
    }
    for extent in extents.iter_mut() {
        let offsets: i64 = cursor.number("offsets")?;
        extent.next_offset = extent.base_offset.checked_add(offsets).ok_or_else(|| out_of_range("next offset"))?;
    }
    let mut position = 0u64;
    for extent in extents.iter_mut() {
        extent.length = cursor.number("length")?;
        extent.position = position;
        position += u64::from(extent.length);
    }
    let mut last = created_ms;
    for extent in extents.iter_mut() {
        last = last.wrapping_add(cursor.signed("max timestamp")?);
        extent.max_timestamp = last;
    }
    Ok(())
}

/// Extents ascend by partition; in a partition neither offsets nor epochs go back; none is empty.
fn check_extents(extents: &[RunExtent]) -> Result<(), Damage> {
    let fault = |extent: &RunExtent, what: &str| {
        Damage::content(format!("partition {} at offset {}: {what}", extent.partition, extent.base_offset))
    };
    if extents.is_empty() {
        return Err(Damage::content("an object of a run without extents"));
    }
    let mut position = 0;
    for extent in extents {
        if extent.partition.index < 0 || extent.epoch < 0 || extent.base_offset < 0 {
            return Err(fault(extent, "a negative number"));
        }
        if extent.next_offset <= extent.base_offset || (extent.length as usize) < BATCH_HEADER_BYTES {
            return Err(fault(extent, "an empty extent"));
        }
        if extent.position != position {
            return Err(fault(extent, "it does not follow the extent before it"));
        }
        position += u64::from(extent.length);
    }
    for pair in extents.windows(2) {
        let (before, after) = (&pair[0], &pair[1]);
        let same = before.partition == after.partition;
        let ordered = if same {
            before.next_offset <= after.base_offset && before.epoch <= after.epoch
        } else {
            before.partition < after.partition
        };
        if !ordered {
            return Err(fault(after, "it is out of order"));
        }
    }
    Ok(())
}
