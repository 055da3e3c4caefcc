//! The manifest of a run: the one object that names the others, says which window they replace, and holds the checkpoint of its
//! partitions. FORMAT.md "Manifest".

use std::collections::BTreeSet;

use bytes::Bytes;

use super::read::{FOOTER_MAX_BYTES, Kind, trailer};
use super::run::{put_run, run};
use super::varint::{Cursor, put, put_signed};
use super::{Damage, RunExtent, RunFooter, SegmentError, TRAILER_BYTES, manifest_key};
use crate::types::{LeaseEpoch, Offset, PartitionId, RunId, SegmentNumber, SessionId, TimestampMs, TopicId};

/// Fewest bytes of a partition, an epoch, a producer and a batch.
const LEAST: usize = 2;

/// As Kafka: so many batches of a producer are remembered at most.
const BATCHES_MAX: usize = 5;

/// What one run is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    pub run: RunId,
    pub nonce: u64,
    pub created_ms: TimestampMs,
    /// Whose segments were merged.
    pub session: SessionId,
    /// Segments `from..to`.
    pub from: SegmentNumber,
    pub to: SegmentNumber,
    /// Footers of the objects, in order of their numbers; together sorted like the extents of one.
    pub objects: Vec<RunFooter>,
    /// The checkpoint has all partitions that the session held, not only those with data in the window.
    pub whole: bool,
    /// Ascending by partition.
    pub checkpoint: Vec<PartitionCheckpoint>,
}

/// What recovery needs of a partition besides its extents, as it was behind the last segment of the window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionCheckpoint {
    pub partition: PartitionId,
    pub next_offset: Offset,
    pub log_start: Offset,
    /// Each lease epoch that wrote something, and where it began; ascending.
    pub epochs: Vec<(LeaseEpoch, Offset)>,
    /// Ascending by producer id.
    pub producers: Vec<ProducerCheckpoint>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProducerCheckpoint {
    pub id: i64,
    pub epoch: i16,
    /// Wall clock of the broker that took its last batch.
    pub last_written_ms: TimestampMs,
    /// Its last batches, oldest first: one to five.
    pub batches: Vec<BatchCheckpoint>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchCheckpoint {
    pub first_sequence: i32,
    pub last_sequence: i32,
    pub base_offset: Offset,
    pub last_offset: Offset,
    pub max_timestamp: TimestampMs,
}

/// What a checkpoint does without, since the manifest would be too large.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeftOut {
    pub partitions: usize,
    pub producers: usize,
}

impl Manifest {
    /// Extents of all objects, with the number and the body's length of their object.
    pub fn extents(&self) -> impl Iterator<Item = (u64, u64, &RunExtent)> {
        self.objects.iter().flat_map(|object| {
            let length = object.body_length();
            object.extents.iter().map(move |extent| (object.number, length, extent))
        })
    }

    pub fn checkpoint_of(&self, partition: PartitionId) -> Option<&PartitionCheckpoint> {
        let at = self.checkpoint.binary_search_by_key(&partition, |state| state.partition).ok()?;
        self.checkpoint.get(at)
    }

    /// If a checkpoint makes the manifest larger than readers take, leaves out what it can do without, and tells how much. First partitions
    /// without records in the window: nothing is lost by that, for recovery reads the manifests of all runs and takes the newest state of
    /// each partition, which is the one of the last run that has records of it. Then the producers that wrote longest ago: they are
    /// forgotten as if they had expired.
    pub fn fit(&mut self) -> LeftOut {
        self.fit_into(FOOTER_MAX_BYTES)
    }

    /// [`Manifest::fit`] for a content of at most so many bytes.
    fn fit_into(&mut self, most: usize) -> LeftOut {
        let mut left_out = LeftOut::default();
        if self.whole && self.content().len() > most {
            let written: BTreeSet<PartitionId> = self.extents().map(|(_, _, extent)| extent.partition).collect();
            let all = self.checkpoint.len();
            self.checkpoint.retain(|state| written.contains(&state.partition));
            self.whole = false;
            left_out.partitions = all - self.checkpoint.len();
        }
        while self.content().len() > most {
            let producers = self.checkpoint.iter().flat_map(|state| &state.producers);
            let mut times: Vec<TimestampMs> = producers.map(|producer| producer.last_written_ms).collect();
            if times.is_empty() {
                break;
            }
            // The older half: it may take some rounds, of a tenth of a second each.
            let middle = times.len() / 2;
            let newest = *times.select_nth_unstable(middle).1;
            for state in &mut self.checkpoint {
                state.producers.retain(|producer| producer.last_written_ms > newest);
            }
            left_out.producers += times.iter().filter(|time| **time <= newest).count();
        }
        left_out
    }

    /// The bytes of the object.
    ///
    /// # Errors
    /// One that no reader would take since it is too large, or no manifest at all: a defect of the caller.
    pub fn encode(&self) -> Result<Bytes, SegmentError> {
        let encode = || {
            let content = self.content();
            if content.len() > FOOTER_MAX_BYTES {
                return Err(self.too_large(content.len()));
            }
            decode(&content)?;
            let mut bytes = Vec::with_capacity(content.len() + TRAILER_BYTES);
            let trailer = trailer(Kind::Manifest, &content, 0, self.nonce)?;
            bytes.extend_from_slice(&content);
            bytes.extend_from_slice(&trailer);
            Ok(Bytes::from(bytes))
        };
        encode().map_err(|damage: Damage| damage.of(&manifest_key(self.run)))
    }

    fn too_large(&self, bytes: usize) -> Damage {
        let (objects, partitions) = (self.objects.len(), self.checkpoint.len());
        let producers: usize = self.checkpoint.iter().map(|state| state.producers.len()).sum();
        Damage::content(format!(
            "a manifest of {bytes} bytes is too large, readers take {FOOTER_MAX_BYTES}: it has {objects} objects, and {partitions} \
             partitions with {producers} producers in its checkpoint"
        ))
    }

    fn content(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        put_run(&mut bytes, self.run);
        bytes.extend_from_slice(&self.nonce.to_be_bytes());
        put_signed(&mut bytes, self.created_ms);
        put(&mut bytes, self.session.revision);
        bytes.extend_from_slice(&self.session.random.to_be_bytes());
        put(&mut bytes, self.from);
        put(&mut bytes, self.to);
        put(&mut bytes, self.objects.len() as u64);
        for object in &self.objects {
            let footer = object.encode();
            put(&mut bytes, footer.len() as u64);
            bytes.extend_from_slice(&footer);
        }
        bytes.push(u8::from(self.whole));
        let topics: Vec<_> =
            self.checkpoint.chunk_by(|a, b| a.partition.topic == b.partition.topic).collect::<Vec<_>>();
        put(&mut bytes, topics.len() as u64);
        for topic in topics {
            bytes.extend_from_slice(&topic[0].partition.topic.0.to_be_bytes());
            put(&mut bytes, topic.len() as u64);
            topic.iter().for_each(|state| put_partition(&mut bytes, state, self.created_ms));
        }
        bytes
    }
}

fn put_partition(bytes: &mut Vec<u8>, state: &PartitionCheckpoint, created_ms: TimestampMs) {
    put(bytes, u64::from(state.partition.index.cast_unsigned()));
    put(bytes, state.next_offset.cast_unsigned());
    put(bytes, state.log_start.cast_unsigned());
    put(bytes, state.epochs.len() as u64);
    for (epoch, start) in &state.epochs {
        put(bytes, u64::from(epoch.cast_unsigned()));
        put(bytes, start.cast_unsigned());
    }
    put(bytes, state.producers.len() as u64);
    for producer in &state.producers {
        put(bytes, producer.id.cast_unsigned());
        put(bytes, u64::from(producer.epoch.cast_unsigned()));
        put_signed(bytes, producer.last_written_ms.wrapping_sub(created_ms));
        put(bytes, producer.batches.len() as u64);
        for batch in &producer.batches {
            put(bytes, u64::from(batch.first_sequence.cast_unsigned()));
            put(bytes, u64::from(batch.last_sequence.cast_unsigned()));
            put(bytes, batch.base_offset.cast_unsigned());
            put(bytes, batch.last_offset.wrapping_sub(batch.base_offset).cast_unsigned());
            put_signed(bytes, batch.max_timestamp.wrapping_sub(created_ms));
        }
    }
    // Open transactions: there are none yet.
    put(bytes, 0);
}

/// Reads the content of a manifest, which is everything before its trailer.
pub(super) fn decode(bytes: &[u8]) -> Result<Manifest, Damage> {
    let mut cursor = Cursor::new(bytes);
    let run = run(&mut cursor)?;
    let nonce = u64::from_be_bytes(cursor.array("nonce")?);
    let created_ms = cursor.signed("creation time")?;
    let revision = cursor.unsigned("session revision")?;
    let session = SessionId { revision, random: u64::from_be_bytes(cursor.array("session random bits")?) };
    let (from, to) = (cursor.unsigned("first segment")?, cursor.unsigned("end of the segments")?);
    if from >= to {
        return Err(Damage::content(format!("a window from {from} to {to} is empty")));
    }
    let count = cursor.count(LEAST, "objects")?;
    let mut objects: Vec<RunFooter> = Vec::with_capacity(count);
    for number in 0..count as u64 {
        let length = cursor.number("length of an object's footer")?;
        let footer = RunFooter::decode(cursor.bytes(length, "footer of an object")?)?;
        if (footer.run, footer.number) != (run, number) {
            return Err(Damage::content(format!(
                "object {number} says that it is {} of {}",
                footer.number, footer.run
            )));
        }
        if let (Some(last), Some(first)) = (objects.last().and_then(|o| o.extents.last()), footer.extents.first())
            && (last.partition, last.next_offset) > (first.partition, first.base_offset)
        {
            return Err(Damage::content(format!("object {number} begins before the end of the one before it")));
        }
        objects.push(footer);
    }
    let whole = flag(&mut cursor, "whole")?;
    let checkpoint = decode_checkpoint(&mut cursor, created_ms)?;
    cursor.end("manifest")?;
    Ok(Manifest { run, nonce, created_ms, session, from, to, objects, whole, checkpoint })
}

fn flag(cursor: &mut Cursor<'_>, what: &str) -> Result<bool, Damage> {
    match cursor.array::<1>(what)? {
        [0] => Ok(false),
        [1] => Ok(true),
        [other] => Err(Damage::content(format!("{what}: {other} is neither 0 nor 1"))),
    }
}

fn decode_checkpoint(cursor: &mut Cursor<'_>, created_ms: TimestampMs) -> Result<Vec<PartitionCheckpoint>, Damage> {
    let mut checkpoint: Vec<PartitionCheckpoint> = Vec::new();
    for _ in 0..cursor.count(16 + 1, "topics of the checkpoint")? {
        let topic = TopicId(u128::from_be_bytes(cursor.array("topic id")?));
        if checkpoint.last().is_some_and(|last| last.partition.topic >= topic) {
            return Err(Damage::content("topics of the checkpoint are out of order"));
        }
        let count = cursor.count(LEAST, "partitions of a topic")?;
        if count == 0 {
            return Err(Damage::content(format!("topic {topic} without partitions")));
        }
        for _ in 0..count {
            let state = partition(cursor, topic, created_ms)?;
            if checkpoint.last().is_some_and(|last| last.partition >= state.partition) {
                return Err(Damage::content("partitions of the checkpoint are out of order"));
            }
            checkpoint.push(state);
        }
    }
    Ok(checkpoint)
}

fn partition(cursor: &mut Cursor<'_>, topic: TopicId, created_ms: TimestampMs) -> Result<PartitionCheckpoint, Damage> {
    let partition = PartitionId { topic, index: cursor.number("partition")? };
    let (next_offset, log_start) = (cursor.number("next offset")?, cursor.number("log start")?);
    let mut epochs = Vec::new();
    for _ in 0..cursor.count(LEAST, "epochs")? {
        epochs.push((cursor.number("epoch")?, cursor.number("start of an epoch")?));
    }
    let mut producers: Vec<ProducerCheckpoint> = Vec::new();
    for _ in 0..cursor.count(LEAST, "producers")? {
        producers.push(producer(cursor, created_ms)?);
    }
    let ascends = |a: &(LeaseEpoch, Offset), b: &(LeaseEpoch, Offset)| a.0 < b.0 && a.1 <= b.1;
    if !epochs.is_sorted_by(ascends) || !producers.is_sorted_by(|a, b| a.id < b.id) {
        return Err(Damage::content(format!("partition {partition}: its checkpoint is out of order")));
    }
    if cursor.unsigned("open transactions")? != 0 {
        return Err(Damage::content(format!(
            "partition {partition}: open transactions, which version 1 does not know"
        )));
    }
    Ok(PartitionCheckpoint { partition, next_offset, log_start, epochs, producers })
}

fn producer(cursor: &mut Cursor<'_>, created_ms: TimestampMs) -> Result<ProducerCheckpoint, Damage> {
    let id = cursor.number("producer id")?;
    let epoch = cursor.number::<u16>("producer epoch")?.cast_signed();
    let last_written_ms = created_ms.wrapping_add(cursor.signed("time of the last batch")?);
    let count = cursor.count(LEAST, "batches of a producer")?;
    if count == 0 || count > BATCHES_MAX {
        return Err(Damage::content(format!("{count} batches of producer {id}")));
    }
    let mut batches = Vec::with_capacity(count);
    for _ in 0..count {
        let (first_sequence, last_sequence) = (cursor.number("first sequence")?, cursor.number("last sequence")?);
        let base_offset: Offset = cursor.number("base offset")?;
        let last_offset = base_offset
            .checked_add(cursor.number("offsets of a batch")?)
            .ok_or_else(|| Damage::content("last offset is out of range"))?;
        let max_timestamp = created_ms.wrapping_add(cursor.signed("max timestamp")?);
        batches.push(BatchCheckpoint { first_sequence, last_sequence, base_offset, last_offset, max_timestamp });
    }
    Ok(ProducerCheckpoint { id, epoch, last_written_ms, batches })
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUN: RunId = RunId { revision: 7, random: 8 };

    fn id(index: i32) -> PartitionId {
        PartitionId { topic: TopicId(3), index }
    }

    fn state(index: i32, producers: i64) -> PartitionCheckpoint {
        let batches = vec![BatchCheckpoint {
            first_sequence: 0,
            last_sequence: 0,
            base_offset: 5,
            last_offset: 5,
            max_timestamp: 1000,
        }];
        let producer = |id| ProducerCheckpoint { id, epoch: 0, last_written_ms: 1000, batches: batches.clone() };
        PartitionCheckpoint {
            partition: id(index),
            next_offset: 6,
            log_start: 0,
            epochs: vec![(0, 0)],
            producers: (0..producers).map(producer).collect(),
        }
    }

    /// Partitions 1 and 3 have records in the window; of the others 0 is large.
    fn manifest(whole: bool, indexes: &[i32]) -> Manifest {
        let extent = |(index, position)| RunExtent {
            partition: id(index),
            epoch: 0,
            base_offset: 5,
            next_offset: 6,
            position,
            length: 100,
            max_timestamp: 1000,
        };
        let extents = [(1, 0), (3, 100)].map(extent).to_vec();
        Manifest {
            run: RUN,
            nonce: 9,
            created_ms: 1000,
            session: SessionId { revision: 1, random: 2 },
            from: 10,
            to: 20,
            objects: vec![RunFooter { run: RUN, number: 0, nonce: 4, created_ms: 1000, extents }],
            whole,
            checkpoint: indexes.iter().map(|index| state(*index, if *index == 0 { 100 } else { 2 })).collect(),
        }
    }

    #[test]
    fn idle_partitions_are_left_out_where_they_do_not_fit() {
        const ALL: &[i32] = &[0, 1, 2, 3];
        const WRITTEN: &[i32] = &[1, 3];
        let full = manifest(true, ALL).content().len();
        for (whole, partitions, most, kept, stays_whole) in [
            (true, ALL, full, ALL, true),
            (true, ALL, full - 1, WRITTEN, false),
            // Smaller than what must be there: `encode` says so.
            (true, ALL, 0, WRITTEN, false),
            (true, WRITTEN, 0, WRITTEN, false),
            // It has what the run itself needs, and nothing else.
            (false, WRITTEN, 0, WRITTEN, false),
        ] {
            let mut manifest = manifest(whole, partitions);
            let left_out = manifest.fit_into(most);
            let found: Vec<i32> = manifest.checkpoint.iter().map(|state| state.partition.index).collect();
            assert_eq!((found.as_slice(), manifest.whole), (kept, stays_whole), "{whole} {partitions:?} {most}");
            assert_eq!(left_out.partitions, partitions.len() - kept.len(), "{whole} {partitions:?} {most}");
            let bytes = manifest.encode().expect("it is right");
            assert_eq!(decode(&bytes[..bytes.len() - TRAILER_BYTES]), Ok(manifest));
        }
        let mut small = manifest(true, ALL);
        assert_eq!((small.fit(), small.whole), (LeftOut::default(), true));
    }

    #[test]
    fn producers_that_wrote_longest_ago_are_forgotten_where_they_do_not_fit() {
        let with = |producers: i64| {
            let mut manifest = manifest(false, &[1, 3]);
            manifest.checkpoint[0].producers = state(1, producers).producers;
            (0..)
                .zip(&mut manifest.checkpoint[0].producers)
                .for_each(|(at, producer)| producer.last_written_ms = 2000 - at);
            manifest
        };
        let small = with(3).content().len();
        let mut large = with(100);
        let left_out = large.fit_into(small);
        let kept = &large.checkpoint[0].producers;
        assert!((1..=3).contains(&kept.len()), "{kept:?}");
        assert!(kept.iter().map(|producer| producer.id).eq(0..kept.len() as i64), "the newest: {kept:?}");
        assert_eq!(left_out, LeftOut { partitions: 0, producers: 102 - kept.len() });
        assert!(large.content().len() <= small && large.encode().is_ok());
    }

    /// 14 bytes an epoch.
    #[test]
    fn what_no_reader_takes_is_not_written() {
        let epochs = (i32::MAX - 4_900_000..i32::MAX).map(|epoch| (epoch, Offset::MAX)).collect();
        let large = PartitionCheckpoint { epochs, ..state(0, 0) };
        let mut whole = Manifest { checkpoint: vec![large, state(1, 2), state(3, 2)], ..manifest(true, &[]) };
        let error = whole.encode().expect_err("it has more than 64 MiB").to_string();
        assert!(error.contains(&manifest_key(RUN)) && error.contains("3 partitions with 4 producers"), "{error}");
        assert_eq!(whole.fit().partitions, 1);
        assert!(whole.encode().is_ok());
    }
}
