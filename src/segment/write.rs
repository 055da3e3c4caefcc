//! Builds the bytes of a segment out of what the append path collected: one allocation, one copy of each batch.

use bytes::Bytes;

use super::read::{FOOTER_MAX_BYTES, Kind, encode_repeated, trailer};
use super::{
    BATCH_HEADER_BYTES, BatchMeta, Damage, ExtentMeta, Footer, SegmentError, TRAILER_BYTES, footer, segment_key,
};
use crate::types::aligned::AlignedBuffer;
use crate::types::{LeaseEpoch, PartitionId, SegmentNumber, SessionId, TimestampMs};

/// Where a record batch has its partition leader epoch (KIP-98, `DefaultRecordBatch.PARTITION_LEADER_EPOCH_OFFSET`).
const LEADER_EPOCH_AT: usize = 12;

/// Everything that goes into one segment.
#[derive(Clone, Debug)]
pub struct SegmentDraft {
    pub session: SessionId,
    pub number: SegmentNumber,
    pub nonce: u64,
    pub created_ms: TimestampMs,
    /// See [`Footer::committed`].
    pub committed: SegmentNumber,
    /// In any order; drafts of one partition and epoch in order of arrival, each beginning where the one before ended.
    pub extents: Vec<ExtentDraft>,
    /// Footers of committed segments to be repeated; see [`super::SegmentTail::repeated`].
    pub repeated: Vec<RepeatedFooter>,
}

/// Batches of one partition under one lease epoch.
#[derive(Clone, Debug)]
pub struct ExtentDraft {
    pub partition: PartitionId,
    pub epoch: LeaseEpoch,
    /// The bytes as the client sent them; base offset and leader epoch are written into the copy. Of one without a producer id,
    /// producer epoch and sequence are not kept.
    pub batches: Vec<(Bytes, BatchMeta)>,
}

/// [`SealedSegment::footer_bytes`] of an earlier segment.
#[derive(Clone, Debug)]
pub struct RepeatedFooter {
    pub number: SegmentNumber,
    pub footer_bytes: Bytes,
}

/// A segment ready for upload. Its number and bytes never change again.
#[derive(Clone, Debug)]
pub struct SealedSegment {
    /// The whole object, beginning at a page boundary.
    pub bytes: Bytes,
    pub footer: Footer,
    /// The footer's own bytes, to be repeated in a later segment; does not keep `bytes` in memory.
    pub footer_bytes: Bytes,
}

/// Builds a segment. One without extents is valid: it says that the session lives.
///
/// # Errors
/// A draft that can't be a segment (offsets with a gap, a batch whose length is not what its meta says): a defect of the caller,
/// nothing that a client can bring about.
pub fn build(draft: SegmentDraft) -> Result<SealedSegment, SegmentError> {
    let key = segment_key(draft.session, draft.number);
    seal(draft).map_err(|damage| damage.of(&key))
}

fn seal(mut draft: SegmentDraft) -> Result<SealedSegment, Damage> {
    draft.extents.retain(|extent| !extent.batches.is_empty());
    draft.extents.sort_by_key(|extent| (extent.partition, extent.epoch));
    let footer = Footer {
        session: draft.session,
        number: draft.number,
        nonce: draft.nonce,
        created_ms: draft.created_ms,
        committed: draft.committed,
        extents: lay_out(&draft.extents)?,
    };
    if footer.committed > footer.number {
        return Err(Damage::content(format!("segment {} was not committed before it", footer.committed)));
    }
    if draft.repeated.iter().any(|repeated| repeated.number >= footer.committed) {
        return Err(Damage::content("a footer to be repeated is not yet committed"));
    }
    let footer_bytes = footer::encode(&footer);
    if footer_bytes.len() > FOOTER_MAX_BYTES {
        return Err(Damage::content(format!("a footer of {} bytes is too large", footer_bytes.len())));
    }
    let repeated = encode_repeated(draft.repeated);
    let body_length = usize::try_from(footer.body_length()).expect("the batches are in memory");
    let described = footer_bytes.len() + repeated.len();
    let mut buffer = AlignedBuffer::with_capacity(body_length + described + TRAILER_BYTES);
    for extent in &draft.extents {
        extent.batches.iter().for_each(|(bytes, _)| buffer.extend(bytes));
    }
    patch(buffer.as_mut_slice(), &footer);
    buffer.extend(&footer_bytes);
    buffer.extend(&repeated);
    let trailer = trailer(Kind::Segment, &buffer.as_mut_slice()[body_length..], repeated.len(), footer.nonce)?;
    buffer.extend(&trailer);
    Ok(SealedSegment { bytes: buffer.freeze(), footer, footer_bytes: Bytes::from(footer_bytes) })
}

/// Extents in the order of `drafts`, drafts of one partition and epoch joined.
fn lay_out(drafts: &[ExtentDraft]) -> Result<Vec<ExtentMeta>, Damage> {
    let mut extents = Vec::new();
    let mut position = 0;
    for same in drafts.chunk_by(|a, b| (a.partition, a.epoch) == (b.partition, b.epoch)) {
        let metas: Vec<BatchMeta> =
            same.iter().flat_map(|draft| &draft.batches).map(|(_, meta)| normal(*meta)).collect();
        let mut extent = ExtentMeta {
            partition: same[0].partition,
            epoch: same[0].epoch,
            base_offset: metas[0].base_offset,
            next_offset: 0,
            position: 0,
            length: 0,
            max_timestamp: 0,
            batches: Vec::new(),
        };
        footer::fill_extent(&mut extent, &metas, position)?;
        if let Some((laid, given)) = extent.batches.iter().zip(&metas).find(|(laid, given)| laid != given) {
            return Err(Damage::content(format!(
                "partition {}: offset {} where {} must follow",
                extent.partition, given.base_offset, laid.base_offset
            )));
        }
        for (bytes, meta) in same.iter().flat_map(|draft| &draft.batches) {
            check_batch(extent.partition, bytes, meta)?;
        }
        position += u64::from(extent.length);
        extents.push(extent);
    }
    footer::check_order(&extents)?;
    Ok(extents)
}

/// Without a producer id, Kafka gives epoch and sequence no meaning.
fn normal(meta: BatchMeta) -> BatchMeta {
    if meta.producer_id >= 0 {
        return meta;
    }
    BatchMeta { producer_id: -1, producer_epoch: -1, base_sequence: -1, ..meta }
}

fn check_batch(partition: PartitionId, bytes: &Bytes, meta: &BatchMeta) -> Result<(), Damage> {
    let fault = |what: &str| Damage::content(format!("partition {partition}, batch at {}: {what}", meta.base_offset));
    if bytes.len() != meta.length as usize || bytes.len() < BATCH_HEADER_BYTES {
        return Err(fault("its length is not what its meta says, or too short for a batch"));
    }
    if meta.last_offset_delta < 0 || meta.record_count < 0 {
        return Err(fault("it has a negative number of offsets or records"));
    }
    Ok(())
}

/// Writes base offsets and leader epochs into the body. Both lie outside the batch's own CRC.
fn patch(body: &mut [u8], footer: &Footer) {
    let mut at = 0;
    for extent in &footer.extents {
        for batch in &extent.batches {
            body[at..at + 8].copy_from_slice(&batch.base_offset.to_be_bytes());
            body[at + LEADER_EPOCH_AT..at + LEADER_EPOCH_AT + 4].copy_from_slice(&extent.epoch.to_be_bytes());
            at += batch.length as usize;
        }
    }
}
