//! Where the fields of a v2 record batch stand, in bytes from its start. Source: DefaultRecordBatch.java.
//!
//! `wire` reads and writes batches by it, `segment` checks what it stores; neither knows the other.

/// Bytes before the records.
pub const HEADER_BYTES: usize = 61;
/// The length counts what stands behind it.
pub const LENGTH_AT: usize = 8;
/// Bytes that the length does not count: base offset and the length itself.
pub const LENGTH_END: usize = 12;
/// The leader epoch; like the base offset it lies outside of the CRC.
pub const EPOCH_AT: usize = 12;
pub const MAGIC_AT: usize = 16;
pub const CRC_AT: usize = 17;
/// What the CRC covers begins here and goes on to the end.
pub const ATTRIBUTES_AT: usize = 21;
pub const LAST_DELTA_AT: usize = 23;
pub const BASE_TIMESTAMP_AT: usize = 27;
pub const MAX_TIMESTAMP_AT: usize = 35;
pub const PRODUCER_ID_AT: usize = 43;
pub const PRODUCER_EPOCH_AT: usize = 51;
pub const BASE_SEQUENCE_AT: usize = 53;
pub const RECORD_COUNT_AT: usize = 57;

/// The only magic that is read and written.
pub const MAGIC: i8 = 2;
