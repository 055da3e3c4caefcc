//! What a broker checks before it takes a produced batch, in Kafka's order, with Kafka's codes and messages.
//!
//! Measured against Apache Kafka 4.3.1 (ProduceRequest.validateRecords, UnifiedLog.analyzeAndValidateRecords,
//! LogValidator). Differences, on purpose:
//!
//! - Records whose offset deltas are not 0, 1, 2, … are refused with INVALID_RECORD. Kafka stores them as they are when
//!   uncompressed, and answers UNKNOWN_SERVER_ERROR when compressed; here an offset belongs to one record for ever.
//! - Record lengths inside compressed batches must fit their content; Kafka does not look.
//! - An unknown compression id is UNSUPPORTED_COMPRESSION_TYPE and a section that does not decompress is INVALID_RECORD,
//!   both UNKNOWN_SERVER_ERROR in Kafka.
//! - Null records are INVALID_RECORD; Kafka never answers.
//! - Records that decompress to more than [`MAX_UNCOMPRESSED_BYTES`] are MESSAGE_TOO_LARGE, so that clients split them.
//! - Of the refused records only the first [`MAX_RECORD_ERRORS`] are listed.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use kafka_protocol::error::ResponseError;

use super::batch::{self, BatchError, BatchHeader, HEADER_BYTES, LENGTH_END, MAGIC};
use super::build;
use super::codec::{self, Codec};
use super::records::{self, MAX_UNCOMPRESSED_BYTES, Seen};
use crate::types::TimestampMs;

/// Record errors that one answer lists.
pub const MAX_RECORD_ERRORS: usize = 1000;

const FULL_RECORD: &str = "DefaultRecord";
const PARTIAL_RECORD: &str = "PartialDefaultRecord";

/// First Produce version that may carry zstd.
const ZSTD_SINCE: i16 = 7;
/// Smallest batch length of any magic; below it Kafka calls a batch corrupt before it looks further.
const LEGACY_OVERHEAD: i32 = 14;
/// Bytes up to and with the magic.
const MAGIC_END: usize = 17;

/// `message.timestamp.type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum TimestampType {
    #[default]
    CreateTime,
    LogAppendTime,
}

/// `compression.type`: as the producer sent it, or always the same codec with a level (`None` is the codec's default).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum CompressionRule {
    #[default]
    Producer,
    Codec(Codec, Option<i32>),
}

/// What the configuration of a topic asks of produced batches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProduceRules {
    /// The partition as Kafka's messages name it: topic, hyphen, index.
    pub partition: Arc<str>,
    /// `max.message.bytes`
    pub max_message_bytes: usize,
    /// `segment.bytes`: no batch may be longer than one of Kafka's segments, whatever segments are here.
    pub segment_bytes: usize,
    pub timestamp_type: TimestampType,
    /// `message.timestamp.before.max.ms`
    pub timestamp_before_max_ms: i64,
    /// `message.timestamp.after.max.ms`
    pub timestamp_after_max_ms: i64,
    /// `cleanup.policy` has `compact`: records need keys.
    pub compacted: bool,
    pub compression: CompressionRule,
}

impl ProduceRules {
    /// Kafka's defaults for the partition of this name.
    pub fn new(partition: impl Into<Arc<str>>) -> Self {
        ProduceRules {
            partition: partition.into(),
            max_message_bytes: 1_048_588,
            segment_bytes: 1 << 30,
            timestamp_type: TimestampType::CreateTime,
            timestamp_before_max_ms: i64::MAX,
            timestamp_after_max_ms: 3_600_000,
            compacted: false,
            compression: CompressionRule::Producer,
        }
    }
}

/// A batch that may be stored, once it has its offset and epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValidBatch {
    /// The header of `bytes`.
    pub header: BatchHeader,
    /// A slice of what came in, or a new batch where timestamps or compression changed.
    pub bytes: Bytes,
    /// The broker's time for the answer, -1 with CreateTime.
    pub log_append_time_ms: TimestampMs,
}

/// Why a partition's records are refused. Nothing of them may be stored.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code:?}: {detail}")]
pub struct Refusal {
    /// The partition's error code in the answer.
    pub code: ResponseError,
    /// For the log. Kafka does not send it.
    pub detail: String,
    /// ErrorMessage in the answer.
    pub error_message: Option<String>,
    /// RecordErrors in the answer.
    pub record_errors: Vec<RecordError>,
}

/// A record that was the reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordError {
    /// Position in the batch.
    pub batch_index: i32,
    pub message: String,
}

impl Refusal {
    fn new(code: ResponseError, detail: impl Into<String>) -> Refusal {
        Refusal { code, detail: detail.into(), error_message: None, record_errors: Vec::new() }
    }

    /// A code that says everything.
    pub fn bare(code: ResponseError) -> Refusal {
        Refusal::new(code, String::new())
    }

    fn corrupt(message: String) -> Refusal {
        Refusal { error_message: Some(message.clone()), ..Refusal::new(ResponseError::CorruptMessage, message) }
    }
}

fn invalid(detail: impl Into<String>) -> Refusal {
    Refusal::new(ResponseError::InvalidRecord, detail)
}

/// The one batch that a partition of a Produce request must carry. A cut batch behind it is dropped, as Kafka does.
/// Source: ProduceRequest.validateRecords, ByteBufferLogInputStream.
pub fn single_batch(records: Option<Bytes>, produce_version: i16) -> Result<Bytes, Refusal> {
    let request = || format!("Produce requests with version {produce_version}");
    let none = || invalid(format!("{} must have at least one record batch per partition", request()));
    let mut batch = records.ok_or_else(none)?;
    let size = next_batch(&batch)?.ok_or_else(none)?;
    let rest = batch.split_off(size);
    if batch[MAGIC_END - 1] != MAGIC.cast_unsigned() {
        return Err(invalid(format!("{} are only allowed to contain record batches with magic version 2", request())));
    }
    let zstd = BatchHeader::parse(&batch).is_ok_and(|header| header.compression() == Ok(Codec::Zstd));
    if zstd && produce_version < ZSTD_SINCE {
        let detail = format!("{} are not allowed to use ZStandard compression", request());
        return Err(Refusal::new(ResponseError::UnsupportedCompressionType, detail));
    }
    let second = next_batch(&rest).map_err(|refusal| Refusal { error_message: None, ..refusal })?;
    match second {
        None => Ok(batch),
        Some(_) => {
            Err(invalid(format!("{} are only allowed to contain exactly one record batch per partition", request())))
        }
    }
}

/// Size of the batch at the start, if it is whole.
fn next_batch(bytes: &[u8]) -> Result<Option<usize>, Refusal> {
    let Some(prefix) = bytes.first_chunk::<LENGTH_END>() else { return Ok(None) };
    let length = i32::from_be_bytes([prefix[8], prefix[9], prefix[10], prefix[11]]);
    if length < LEGACY_OVERHEAD {
        let message = format!("Record size {length} is less than the minimum record overhead ({LEGACY_OVERHEAD})");
        return Err(Refusal::corrupt(message));
    }
    let Some(magic) = bytes.get(MAGIC_END - 1) else { return Ok(None) };
    let magic = magic.cast_signed();
    if !(0..=MAGIC).contains(&magic) {
        return Err(Refusal::corrupt(format!("Invalid magic found in record: {magic}")));
    }
    let size = usize::try_from(length).unwrap_or(0) + LENGTH_END;
    Ok((size <= bytes.len()).then_some(size))
}

/// A compressed batch from this length on takes milliseconds.
const LONG_COMPRESSED_BYTES: usize = 256 << 10;
/// A batch of no more than that may decompress to so many bytes at once: gzip's take ten milliseconds.
const UNCOMPRESSED_AT_ONCE: usize = 4 << 20;
/// To compress this much takes milliseconds with the highest levels.
const LONG_RECOMPRESSED_BYTES: usize = 16 << 10;

/// Checks one whole batch. `now_ms` is the broker's clock.
pub fn validate(batch: Bytes, rules: &ProduceRules, now_ms: TimestampMs) -> Result<ValidBatch, Refusal> {
    let limit = MAX_UNCOMPRESSED_BYTES;
    validate_within(batch, rules, now_ms, limit)?.ok_or_else(|| refuse_records(BatchError::TooLarge { limit }))
}

/// [`validate`], if that takes few milliseconds; `None` if not. A bomb is known by what comes out of it.
pub fn validate_at_once(
    batch: &Bytes,
    rules: &ProduceRules,
    now_ms: TimestampMs,
) -> Option<Result<ValidBatch, Refusal>> {
    let mut limit = UNCOMPRESSED_AT_ONCE;
    if let Ok(codec) = BatchHeader::parse(batch).and_then(|header| header.compression()) {
        let again = matches!(rules.compression, CompressionRule::Codec(target, _) if target != codec);
        let long = match codec {
            Codec::None => usize::MAX,
            _ => LONG_COMPRESSED_BYTES,
        };
        if batch.len() >= if again { LONG_RECOMPRESSED_BYTES } else { long } {
            return None;
        }
        if again {
            limit = LONG_RECOMPRESSED_BYTES;
        }
    }
    validate_within(batch.clone(), rules, now_ms, limit).transpose()
}

/// `None`: it decompresses to more than `limit` bytes.
fn validate_within(
    batch: Bytes,
    rules: &ProduceRules,
    now_ms: TimestampMs,
    limit: usize,
) -> Result<Option<ValidBatch>, Refusal> {
    let header =
        BatchHeader::parse(&batch).map_err(|error| Refusal::new(ResponseError::CorruptMessage, error.to_string()))?;
    check_bytes(&header, &batch, rules)?;
    let codec = header
        .compression()
        .map_err(|error| Refusal::new(ResponseError::UnsupportedCompressionType, error.to_string()))?;
    check_header(&header, rules)?;
    let mut judge = Judge::new(&header, codec, rules, now_ms);
    match records::walk(&header, &batch, limit, |seen| judge.record(&seen)) {
        Err(BatchError::TooLarge { .. }) => return Ok(None),
        walked => walked.map_err(refuse_records)?,
    }
    let max_timestamp = judge.verdict()?;
    let append_time = rules.timestamp_type == TimestampType::LogAppendTime;
    let (max_timestamp, log_append_time_ms) = if append_time { (now_ms, now_ms) } else { (max_timestamp, batch::NONE) };
    let bytes = match rules.compression {
        CompressionRule::Codec(target, level) if target != codec => {
            let mut header = header;
            header.set_timestamp(append_time, max_timestamp);
            recompress(header, &batch, (codec, target, level), rules)?
        }
        _ if header.is_log_append_time() == append_time && header.max_timestamp == max_timestamp => batch,
        _ => {
            let mut copy = BytesMut::from(&batch[..]);
            batch::patch_timestamp(&mut copy, append_time, max_timestamp).map_err(refuse_records)?;
            copy.freeze()
        }
    };
    if bytes.len() > rules.segment_bytes {
        let detail = format!(
            "Message batch size is {} bytes in append to partition {} which exceeds the maximum configured segment size of {}.",
            bytes.len(),
            rules.partition,
            rules.segment_bytes
        );
        return Err(Refusal::new(ResponseError::RecordListTooLarge, detail));
    }
    let header = BatchHeader::parse(&bytes).map_err(refuse_records)?;
    Ok(Some(ValidBatch { header, bytes, log_append_time_ms }))
}

/// UnifiedLog.analyzeAndValidateRecords.
fn check_bytes(header: &BatchHeader, batch: &[u8], rules: &ProduceRules) -> Result<(), Refusal> {
    let partition = &rules.partition;
    if header.base_offset != 0 {
        let offset = header.base_offset;
        let what = "The baseOffset of the record batch in the append to";
        return Err(invalid(format!("{what} {partition} should be 0, but it is {offset}")));
    }
    check_size(header.size(), rules)?;
    if header.size() != batch.len() || batch::compute_crc(batch) != Some(header.crc) {
        let crc = header.crc;
        let detail = format!("Record is corrupt (stored crc = {crc}) in topic partition {partition}.");
        return Err(Refusal::new(ResponseError::CorruptMessage, detail));
    }
    Ok(())
}

fn check_size(size: usize, rules: &ProduceRules) -> Result<(), Refusal> {
    let (partition, max) = (&rules.partition, rules.max_message_bytes);
    if size <= max {
        return Ok(());
    }
    let what = "The record batch size in the append to";
    let detail = format!("{what} {partition} is {size} bytes which exceeds the maximum configured value of {max}.");
    Err(Refusal::new(ResponseError::MessageTooLarge, detail))
}

/// LogValidator.validateBatch.
fn check_header(header: &BatchHeader, rules: &ProduceRules) -> Result<(), Refusal> {
    let partition = &rules.partition;
    let (last, count) = (header.last_offset(), header.record_count);
    let by_offsets = i64::from(header.last_offset_delta) + 1;
    if by_offsets <= 0 {
        let detail = format!("Batch has an invalid offset range: [0, {last}] in topic partition {partition}");
        return Err(invalid(detail));
    }
    if count <= 0 {
        let detail = format!("Invalid reported count for record batch: {count} in topic partition {partition}");
        return Err(invalid(detail));
    }
    if by_offsets != i64::from(count) {
        return Err(invalid(format!(
            "Inconsistent batch offset range [0, {last}] and count of records {count} in topic partition {partition}"
        )));
    }
    if header.is_control() {
        let detail = format!("Clients are not allowed to write control records in topic partition {partition}");
        return Err(invalid(detail));
    }
    if header.has_producer_id() && header.base_sequence < 0 {
        let (sequence, producer) = (header.base_sequence, header.producer_id);
        let what = format!("Invalid sequence number {sequence} in record batch with producerId {producer}");
        return Err(invalid(format!("{what} in topic partition {partition}")));
    }
    Ok(())
}

fn refuse_records(error: BatchError) -> Refusal {
    let code = match error {
        BatchError::TooLarge { .. } => ResponseError::MessageTooLarge,
        _ => ResponseError::InvalidRecord,
    };
    Refusal::new(code, error.to_string())
}

/// The records are copied byte for byte under another codec.
fn recompress(
    header: BatchHeader,
    batch: &[u8],
    (from, to, level): (Codec, Codec, Option<i32>),
    rules: &ProduceRules,
) -> Result<Bytes, Refusal> {
    let section = codec::decompress(from, &batch[HEADER_BYTES..], MAX_UNCOMPRESSED_BYTES).map_err(refuse_records)?;
    let bytes = build::assemble(header, to, level, &section)
        .map_err(|error| Refusal::new(ResponseError::UnknownServerError, error.to_string()))?;
    check_size(bytes.len(), rules)?;
    Ok(bytes)
}

/// LogValidator.validateRecord for each record, and what they add up to.
struct Judge<'a> {
    header: &'a BatchHeader,
    rules: &'a ProduceRules,
    now_ms: TimestampMs,
    /// What Kafka calls the record in a message, by how it reads this batch.
    class: &'static str,
    max_timestamp: TimestampMs,
    /// The first record that is not where it should be.
    misplaced: Option<Seen>,
    errors: Vec<RecordError>,
    error_count: usize,
    bad_timestamp: bool,
}

impl<'a> Judge<'a> {
    fn new(header: &'a BatchHeader, codec: Codec, rules: &'a ProduceRules, now_ms: TimestampMs) -> Self {
        let in_place = match rules.compression {
            CompressionRule::Producer => true,
            CompressionRule::Codec(target, _) => target == codec,
        };
        let class = if codec != Codec::None && in_place { PARTIAL_RECORD } else { FULL_RECORD };
        Judge {
            header,
            rules,
            now_ms,
            class,
            max_timestamp: batch::NONE,
            misplaced: None,
            errors: Vec::new(),
            error_count: 0,
            bad_timestamp: false,
        }
    }

    #[inline]
    fn record(&mut self, seen: &Seen) {
        let in_place = usize::try_from(seen.offset_delta) == Ok(seen.index);
        if !in_place && self.misplaced.is_none() {
            self.misplaced = Some(*seen);
        }
        let header = self.header;
        let timestamp = if header.is_log_append_time() {
            header.max_timestamp
        } else {
            header.base_timestamp.wrapping_add(seen.timestamp_delta)
        };
        self.max_timestamp = self.max_timestamp.max(timestamp);
        if self.rules.compacted && seen.key_length < 0 {
            self.refuse(seen, false, |judge| {
                let partition = &judge.rules.partition;
                format!("Compacted topic cannot accept message without key in topic partition {partition}")
            });
        } else if self.rules.timestamp_type == TimestampType::CreateTime && timestamp != batch::NONE {
            if self.out_of_range(timestamp) {
                self.refuse(seen, true, |judge| judge.range_message(seen, timestamp));
            }
        } else if header.is_log_append_time() {
            self.refuse(seen, true, |judge| judge.type_message(seen, timestamp));
        }
    }

    /// Wraps as Java's arithmetic does.
    fn out_of_range(&self, timestamp: TimestampMs) -> bool {
        let age = self.now_ms.wrapping_sub(timestamp);
        age > self.rules.timestamp_before_max_ms || age.wrapping_neg() > self.rules.timestamp_after_max_ms
    }

    #[cold]
    fn refuse(&mut self, seen: &Seen, bad_timestamp: bool, message: impl FnOnce(&Self) -> String) {
        self.bad_timestamp |= bad_timestamp;
        self.error_count += 1;
        if self.errors.len() < MAX_RECORD_ERRORS {
            let batch_index = i32::try_from(seen.index).unwrap_or(i32::MAX);
            self.errors.push(RecordError { batch_index, message: message(self) });
        }
    }

    fn range_message(&self, seen: &Seen, timestamp: TimestampMs) -> String {
        let oldest = self.now_ms.wrapping_sub(self.rules.timestamp_before_max_ms);
        let newest = self.now_ms.wrapping_add(self.rules.timestamp_after_max_ms);
        let offset = seen.offset_delta;
        format!(
            "Timestamp {timestamp} of message with offset {offset} is out of range. The timestamp should be within \
             [{oldest}, {newest}]"
        )
    }

    fn type_message(&self, seen: &Seen, timestamp: TimestampMs) -> String {
        let whole = self.class == FULL_RECORD;
        let shown = |length: i32| if whole { length.max(0) } else { length };
        let (class, offset) = (self.class, seen.offset_delta);
        let (key, value) = (shown(seen.key_length), shown(seen.value_length));
        format!(
            "Invalid timestamp type in message {class}(offset={offset}, timestamp={timestamp}, key={key} bytes, \
             value={value} bytes). Producer should not set timestamp type to LogAppendTime."
        )
    }

    /// LogValidator.processRecordErrors: the batch's highest timestamp, or why it is refused.
    fn verdict(self) -> Result<TimestampMs, Refusal> {
        if let Some(seen) = self.misplaced {
            let (index, delta) = (seen.index, seen.offset_delta);
            let partition = &self.rules.partition;
            let detail = format!("Record {index} has offset delta {delta} in topic partition {partition}");
            return Err(invalid(detail));
        }
        if self.error_count == 0 {
            return Ok(self.max_timestamp);
        }
        let (code, message) = if self.bad_timestamp {
            let message = "One or more records have been rejected due to invalid timestamp";
            (ResponseError::InvalidTimestamp, message.to_owned())
        } else {
            (ResponseError::InvalidRecord, self.invalid_records_message())
        };
        let error_message = Some(message.clone());
        Err(Refusal { code, detail: message, error_message, record_errors: self.errors })
    }

    fn invalid_records_message(&self) -> String {
        let shown = self
            .errors
            .iter()
            .take(3)
            .map(|error| format!("RecordError(batchIndex={}, message='{}')", error.batch_index, error.message));
        let shown = shown.collect::<Vec<_>>().join(", ");
        let count = self.error_count;
        format!(
            "One or more records have been rejected due to {count} record errors in total, and only showing the first \
             three errors at most: [{shown}]"
        )
    }
}
