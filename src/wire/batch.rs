//! The 61-byte header of a v2 record batch, read and patched in place; the records behind it stay opaque.
//!
//! Base offset, batch length and leader epoch lie outside the CRC, so a broker gives offsets without touching the rest.
//! Source: DefaultRecordBatch.java.

use bytes::Bytes;
use crc_fast::CrcAlgorithm;

use super::codec::Codec;
use crate::types::batch_layout::{
    ATTRIBUTES_AT, BASE_SEQUENCE_AT, BASE_TIMESTAMP_AT, CRC_AT, EPOCH_AT, LAST_DELTA_AT, LENGTH_AT, MAGIC_AT,
    MAX_TIMESTAMP_AT, PRODUCER_EPOCH_AT, PRODUCER_ID_AT, RECORD_COUNT_AT,
};
pub use crate::types::batch_layout::{HEADER_BYTES, LENGTH_END, MAGIC};
use crate::types::{LeaseEpoch, Offset, TimestampMs};

/// "No timestamp", "no producer", "no sequence".
pub const NONE: i64 = -1;

const CODEC_MASK: i16 = 0x07;
const LOG_APPEND_TIME: i16 = 0x08;
const TRANSACTIONAL: i16 = 0x10;
const CONTROL: i16 = 0x20;

/// A batch header by value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchHeader {
    pub base_offset: Offset,
    /// Bytes after this field; see [`BatchHeader::size`].
    pub batch_length: i32,
    pub partition_leader_epoch: LeaseEpoch,
    pub magic: i8,
    /// CRC-32C of everything from the attributes on.
    pub crc: u32,
    pub attributes: i16,
    pub last_offset_delta: i32,
    pub base_timestamp: TimestampMs,
    pub max_timestamp: TimestampMs,
    pub producer_id: i64,
    pub producer_epoch: i16,
    pub base_sequence: i32,
    pub record_count: i32,
}

/// Why bytes are no batch.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    #[error("a batch needs {needed} bytes, {found} are there")]
    Truncated { needed: usize, found: usize },
    #[error("batch length {0} is impossible")]
    Length(i32),
    #[error("magic {0} is not 2")]
    Magic(i8),
    #[error("the stored CRC is {stored:08x}, the bytes give {computed:08x}")]
    Crc { stored: u32, computed: u32 },
    #[error("compression id {0} is unknown")]
    Codec(i16),
    #[error("record {index}: {reason}")]
    Record { index: usize, reason: &'static str },
    #[error("the records don't decompress: {0}")]
    Decompress(String),
    #[error("the records decompress to more than {limit} bytes")]
    TooLarge { limit: usize },
}

impl BatchHeader {
    /// Reads a header; only the first 61 bytes need to be there. Checks magic and that the length covers the header.
    pub fn parse(bytes: &[u8]) -> Result<BatchHeader, BatchError> {
        let header: &[u8; HEADER_BYTES] =
            bytes.first_chunk().ok_or(BatchError::Truncated { needed: HEADER_BYTES, found: bytes.len() })?;
        let parsed = BatchHeader {
            base_offset: i64::from_be_bytes(at(header, 0)),
            batch_length: i32::from_be_bytes(at(header, LENGTH_AT)),
            partition_leader_epoch: i32::from_be_bytes(at(header, EPOCH_AT)),
            magic: i8::from_be_bytes(at(header, MAGIC_AT)),
            crc: u32::from_be_bytes(at(header, CRC_AT)),
            attributes: i16::from_be_bytes(at(header, ATTRIBUTES_AT)),
            last_offset_delta: i32::from_be_bytes(at(header, LAST_DELTA_AT)),
            base_timestamp: i64::from_be_bytes(at(header, BASE_TIMESTAMP_AT)),
            max_timestamp: i64::from_be_bytes(at(header, MAX_TIMESTAMP_AT)),
            producer_id: i64::from_be_bytes(at(header, PRODUCER_ID_AT)),
            producer_epoch: i16::from_be_bytes(at(header, PRODUCER_EPOCH_AT)),
            base_sequence: i32::from_be_bytes(at(header, BASE_SEQUENCE_AT)),
            record_count: i32::from_be_bytes(at(header, RECORD_COUNT_AT)),
        };
        if parsed.magic != MAGIC {
            return Err(BatchError::Magic(parsed.magic));
        }
        if parsed.size() < HEADER_BYTES {
            return Err(BatchError::Length(parsed.batch_length));
        }
        Ok(parsed)
    }

    /// The header as it is written.
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut out = [0; HEADER_BYTES];
        put(&mut out, 0, self.base_offset.to_be_bytes());
        put(&mut out, LENGTH_AT, self.batch_length.to_be_bytes());
        put(&mut out, EPOCH_AT, self.partition_leader_epoch.to_be_bytes());
        put(&mut out, MAGIC_AT, self.magic.to_be_bytes());
        put(&mut out, CRC_AT, self.crc.to_be_bytes());
        put(&mut out, ATTRIBUTES_AT, self.attributes.to_be_bytes());
        put(&mut out, LAST_DELTA_AT, self.last_offset_delta.to_be_bytes());
        put(&mut out, BASE_TIMESTAMP_AT, self.base_timestamp.to_be_bytes());
        put(&mut out, MAX_TIMESTAMP_AT, self.max_timestamp.to_be_bytes());
        put(&mut out, PRODUCER_ID_AT, self.producer_id.to_be_bytes());
        put(&mut out, PRODUCER_EPOCH_AT, self.producer_epoch.to_be_bytes());
        put(&mut out, BASE_SEQUENCE_AT, self.base_sequence.to_be_bytes());
        put(&mut out, RECORD_COUNT_AT, self.record_count.to_be_bytes());
        out
    }

    /// Bytes of the whole batch; 0 for a negative length.
    pub fn size(&self) -> usize {
        usize::try_from(self.batch_length).map_or(0, |length| length + LENGTH_END)
    }

    /// Offset of the last record.
    pub fn last_offset(&self) -> Offset {
        self.base_offset.saturating_add(i64::from(self.last_offset_delta))
    }

    /// Offset after the last record.
    pub fn next_offset(&self) -> Offset {
        self.last_offset().saturating_add(1)
    }

    pub fn compression(&self) -> Result<Codec, BatchError> {
        Codec::from_id(self.attributes & CODEC_MASK).ok_or(BatchError::Codec(self.attributes & CODEC_MASK))
    }

    /// All records have `max_timestamp`, given by the broker.
    pub fn is_log_append_time(&self) -> bool {
        self.attributes & LOG_APPEND_TIME != 0
    }

    pub fn is_transactional(&self) -> bool {
        self.attributes & TRANSACTIONAL != 0
    }

    pub fn is_control(&self) -> bool {
        self.attributes & CONTROL != 0
    }

    pub fn has_producer_id(&self) -> bool {
        self.producer_id > NONE
    }

    /// Sequence of the last record; after `i32::MAX` comes 0. -1 without a sequence.
    pub fn last_sequence(&self) -> i32 {
        if self.base_sequence < 0 {
            return -1;
        }
        let next = i64::from(self.base_sequence) + i64::from(self.last_offset_delta);
        let wrapped = if next > i64::from(i32::MAX) { next - i64::from(i32::MAX) - 1 } else { next };
        i32::try_from(wrapped).unwrap_or(-1)
    }

    pub(super) fn set_compression(&mut self, codec: Codec) {
        self.attributes = (self.attributes & !CODEC_MASK) | codec.id();
    }

    pub(super) fn set_flags(&mut self, transactional: bool, control: bool) {
        self.attributes |= if transactional { TRANSACTIONAL } else { 0 } | if control { CONTROL } else { 0 };
    }

    pub(super) fn set_timestamp(&mut self, log_append_time: bool, max_timestamp: TimestampMs) {
        self.attributes = (self.attributes & !LOG_APPEND_TIME) | if log_append_time { LOG_APPEND_TIME } else { 0 };
        self.max_timestamp = max_timestamp;
    }
}

fn at<const N: usize>(header: &[u8; HEADER_BYTES], from: usize) -> [u8; N] {
    std::array::from_fn(|i| header[from + i])
}

fn put<const N: usize>(header: &mut [u8; HEADER_BYTES], from: usize, value: [u8; N]) {
    header[from..from + N].copy_from_slice(&value);
}

/// The batch at the start of `bytes`, whole.
pub fn whole(bytes: &[u8]) -> Result<(BatchHeader, &[u8]), BatchError> {
    let header = BatchHeader::parse(bytes)?;
    let truncated = BatchError::Truncated { needed: header.size(), found: bytes.len() };
    Ok((header, bytes.get(..header.size()).ok_or(truncated)?))
}

/// CRC-32C of a whole batch as it should stand in its header; `None` if the bytes are too short.
pub fn compute_crc(batch: &[u8]) -> Option<u32> {
    let covered = batch.get(ATTRIBUTES_AT..)?;
    u32::try_from(crc_fast::checksum(CrcAlgorithm::Crc32Iscsi, covered)).ok()
}

/// [`compute_crc`] of a batch that comes in pieces.
pub struct CrcOfPieces {
    digest: crc_fast::Digest,
    /// Bytes to come that the checksum does not cover.
    skip: usize,
}

impl Default for CrcOfPieces {
    fn default() -> Self {
        CrcOfPieces { digest: crc_fast::Digest::new(CrcAlgorithm::Crc32Iscsi), skip: ATTRIBUTES_AT }
    }
}

impl CrcOfPieces {
    pub fn new() -> CrcOfPieces {
        CrcOfPieces::default()
    }

    pub fn update(&mut self, piece: &[u8]) {
        let skipped = self.skip.min(piece.len());
        self.skip -= skipped;
        self.digest.update(&piece[skipped..]);
    }

    /// `None` if the bytes were too short for a batch.
    pub fn finish(self) -> Option<u32> {
        if self.skip > 0 { None } else { u32::try_from(self.digest.finalize()).ok() }
    }
}

/// Whether the batch at the start of `bytes` is whole and undamaged.
pub fn crc_matches(bytes: &[u8]) -> bool {
    whole(bytes).is_ok_and(|(header, batch)| compute_crc(batch) == Some(header.crc))
}

/// Gives a batch its place. Outside of the CRC.
pub fn patch_offset_and_epoch(
    batch: &mut [u8],
    base_offset: Offset,
    leader_epoch: LeaseEpoch,
) -> Result<(), BatchError> {
    let header = header_mut(batch)?;
    put(header, 0, base_offset.to_be_bytes());
    put(header, EPOCH_AT, leader_epoch.to_be_bytes());
    Ok(())
}

/// Gives all records of a whole batch the broker's time; computes the CRC anew.
pub fn patch_log_append_time(batch: &mut [u8], now_ms: TimestampMs) -> Result<(), BatchError> {
    patch_timestamp(batch, true, now_ms)
}

/// Sets the timestamp type and the highest timestamp of a whole batch; computes the CRC anew.
pub(super) fn patch_timestamp(batch: &mut [u8], log_append_time: bool, max_ms: TimestampMs) -> Result<(), BatchError> {
    let (mut header, _) = whole(batch)?;
    header.set_timestamp(log_append_time, max_ms);
    let size = header.size();
    *header_mut(batch)? = header.encode();
    patch_crc(&mut batch[..size])
}

pub(super) fn patch_crc(batch: &mut [u8]) -> Result<(), BatchError> {
    let crc = compute_crc(batch).ok_or(BatchError::Truncated { needed: HEADER_BYTES, found: batch.len() })?;
    put(header_mut(batch)?, CRC_AT, crc.to_be_bytes());
    Ok(())
}

fn header_mut(batch: &mut [u8]) -> Result<&mut [u8; HEADER_BYTES], BatchError> {
    let found = batch.len();
    batch.first_chunk_mut().ok_or(BatchError::Truncated { needed: HEADER_BYTES, found })
}

/// Splits concatenated batches. Ends after the first error; bytes that are left over are an error.
pub fn batches(bytes: &Bytes) -> Batches {
    Batches { rest: bytes.clone() }
}

/// See [`batches`].
pub struct Batches {
    rest: Bytes,
}

impl Iterator for Batches {
    type Item = Result<(BatchHeader, Bytes), BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let size = whole(&self.rest).map(|(header, batch)| (header, batch.len()));
        Some(match size {
            Ok((header, size)) => Ok((header, self.rest.split_to(size))),
            Err(error) => {
                self.rest.clear();
                Err(error)
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checksum_over_pieces_is_that_of_the_whole() {
        let bytes: Vec<u8> = (0..HEADER_BYTES as u8 + 90).map(|at| at.wrapping_mul(37)).collect();
        let over = |pieces: &mut dyn Iterator<Item = &[u8]>| {
            let mut sum = CrcOfPieces::new();
            pieces.for_each(|piece| sum.update(piece));
            sum.finish()
        };
        for length in [0, 1, ATTRIBUTES_AT - 1, ATTRIBUTES_AT, ATTRIBUTES_AT + 1, HEADER_BYTES, bytes.len()] {
            let whole = &bytes[..length];
            let expected = compute_crc(whole);
            assert_eq!(expected.is_some(), length >= ATTRIBUTES_AT, "{length} bytes");
            for size in 1..=bytes.len() {
                assert_eq!(over(&mut whole.chunks(size)), expected, "{length} bytes in pieces of {size}");
            }
            // The first byte that counts is the last of a piece, the first, or in the middle; and pieces of nothing.
            for cut in 0..=length {
                let (head, tail) = whole.split_at(cut);
                assert_eq!(over(&mut [head, &[], tail].into_iter()), expected, "{length} bytes, cut at {cut}");
            }
        }
    }
}
