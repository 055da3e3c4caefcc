//! Building v2 batches: what internal topics hold, and client batches that are compressed anew.

use bytes::Bytes;

use super::batch::{self, BatchHeader, HEADER_BYTES, LENGTH_END, MAGIC};
use super::codec::{self, Codec};
use super::records::Header;
use crate::types::{LeaseEpoch, Offset, TimestampMs};

/// What a batch says besides its records. The default is a plain uncompressed batch at offset 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchOptions {
    pub base_offset: Offset,
    pub leader_epoch: LeaseEpoch,
    pub codec: Codec,
    /// Kafka's level of the codec; `None` is its default.
    pub level: Option<i32>,
    pub producer_id: i64,
    pub producer_epoch: i16,
    pub base_sequence: i32,
    pub transactional: bool,
    pub control: bool,
}

impl Default for BatchOptions {
    fn default() -> Self {
        BatchOptions {
            base_offset: 0,
            leader_epoch: -1,
            codec: Codec::None,
            level: None,
            producer_id: -1,
            producer_epoch: -1,
            base_sequence: -1,
            transactional: false,
            control: false,
        }
    }
}

/// A record to be written; `timestamp` in milliseconds, not a delta.
#[derive(Clone, Copy, Debug, Default)]
pub struct NewRecord<'a> {
    pub offset_delta: i32,
    pub timestamp: TimestampMs,
    pub key: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
    pub headers: &'a [Header<'a>],
}

/// Why no batch was built.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    #[error("a batch needs at least one record")]
    Empty,
    #[error("offset delta {next} follows {last}")]
    Order { last: i32, next: i32 },
    #[error("a batch can't be longer than 2 GiB")]
    TooLong,
    #[error("the records can't be compressed: {0}")]
    Compress(String),
}

/// Collects records, in memory, then writes the batch.
pub struct BatchBuilder {
    options: BatchOptions,
    section: Vec<u8>,
    count: i32,
    last_offset_delta: i32,
    base_timestamp: TimestampMs,
    max_timestamp: TimestampMs,
}

impl BatchBuilder {
    pub fn new(options: BatchOptions) -> Self {
        BatchBuilder {
            options,
            section: Vec::new(),
            count: 0,
            last_offset_delta: -1,
            base_timestamp: batch::NONE,
            max_timestamp: batch::NONE,
        }
    }

    /// Records so far.
    pub fn count(&self) -> i32 {
        self.count
    }

    /// Bytes of the batch so far, before compression.
    pub fn size(&self) -> usize {
        HEADER_BYTES + self.section.len()
    }

    /// Adds a record; offset deltas must rise (compaction leaves gaps).
    pub fn push(&mut self, record: NewRecord<'_>) -> Result<(), BuildError> {
        if record.offset_delta <= self.last_offset_delta {
            return Err(BuildError::Order { last: self.last_offset_delta, next: record.offset_delta });
        }
        if self.count == 0 {
            self.base_timestamp = record.timestamp;
        }
        let mut body = vec![0];
        put_varint(&mut body, record.timestamp.wrapping_sub(self.base_timestamp));
        put_varint(&mut body, i64::from(record.offset_delta));
        put_nullable(&mut body, record.key)?;
        put_nullable(&mut body, record.value)?;
        put_length(&mut body, record.headers.len())?;
        for (key, value) in record.headers {
            put_nullable(&mut body, Some(key))?;
            put_nullable(&mut body, *value)?;
        }
        put_length(&mut self.section, body.len())?;
        self.section.extend_from_slice(&body);
        self.count += 1;
        self.last_offset_delta = record.offset_delta;
        self.max_timestamp = self.max_timestamp.max(record.timestamp);
        Ok(())
    }

    pub fn build(self) -> Result<Bytes, BuildError> {
        if self.count == 0 {
            return Err(BuildError::Empty);
        }
        let options = self.options;
        let mut header = BatchHeader {
            base_offset: options.base_offset,
            batch_length: 0,
            partition_leader_epoch: options.leader_epoch,
            magic: MAGIC,
            crc: 0,
            attributes: 0,
            last_offset_delta: self.last_offset_delta,
            base_timestamp: self.base_timestamp,
            max_timestamp: self.max_timestamp,
            producer_id: options.producer_id,
            producer_epoch: options.producer_epoch,
            base_sequence: options.base_sequence,
            record_count: self.count,
        };
        header.set_flags(options.transactional, options.control);
        assemble(header, options.codec, options.level, &self.section)
    }
}

/// Writes a batch: `header` with `section` (uncompressed records) under another codec; length and CRC are computed.
pub(super) fn assemble(
    mut header: BatchHeader,
    codec: Codec,
    level: Option<i32>,
    section: &[u8],
) -> Result<Bytes, BuildError> {
    let compressed;
    let section = if codec == Codec::None {
        section
    } else {
        compressed = codec::compress(codec, level, section).map_err(|error| BuildError::Compress(error.to_string()))?;
        &compressed
    };
    let size = HEADER_BYTES + section.len();
    header.batch_length = i32::try_from(size - LENGTH_END).map_err(|_| BuildError::TooLong)?;
    header.set_compression(codec);
    let mut out = Vec::with_capacity(size);
    out.extend_from_slice(&header.encode());
    out.extend_from_slice(section);
    batch::patch_crc(&mut out).map_err(|_| BuildError::TooLong)?;
    Ok(Bytes::from(out))
}

fn put_nullable(out: &mut Vec<u8>, bytes: Option<&[u8]>) -> Result<(), BuildError> {
    let Some(bytes) = bytes else {
        put_varint(out, -1);
        return Ok(());
    };
    put_length(out, bytes.len())?;
    out.extend_from_slice(bytes);
    Ok(())
}

fn put_length(out: &mut Vec<u8>, length: usize) -> Result<(), BuildError> {
    put_varint(out, i64::from(i32::try_from(length).map_err(|_| BuildError::TooLong)?));
    Ok(())
}

fn put_varint(out: &mut Vec<u8>, value: i64) {
    let mut raw = ((value << 1) ^ (value >> 63)).cast_unsigned();
    while raw >= 0x80 {
        out.push((raw & 0x7f) as u8 | 0x80);
        raw >>= 7;
    }
    out.push(raw as u8);
}
