//! Our own object formats. FORMAT.md beside this file is their specification.

use crate::types::{LeaseEpoch, Offset, PartitionId, SegmentNumber, SessionId, TimestampMs};

/// What recovery and the index need to know of one record batch without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchMeta {
    pub base_offset: Offset,
    /// Last offset of the batch minus its base offset.
    pub last_offset_delta: i32,
    /// Bytes of the whole batch, header included.
    pub length: u32,
    pub record_count: i32,
    pub max_timestamp: TimestampMs,
    /// -1: none.
    pub producer_id: i64,
    pub producer_epoch: i16,
    /// -1: none.
    pub base_sequence: i32,
    pub transactional: bool,
    /// All records of the batch bear its max timestamp (attribute bit 3).
    pub log_append_time: bool,
    pub control: Option<ControlMeta>,
}

/// A transaction marker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ControlMeta {
    /// 0 abort, 1 commit.
    pub marker_type: i16,
    pub coordinator_epoch: i32,
}

/// A contiguous run of batches of one partition inside one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExtentMeta {
    pub partition: PartitionId,
    pub epoch: LeaseEpoch,
    pub base_offset: Offset,
    /// One past the last offset.
    pub next_offset: Offset,
    /// Where the first batch begins in the object, in bytes.
    pub position: u64,
    pub length: u32,
    pub max_timestamp: TimestampMs,
    pub batches: Vec<BatchMeta>,
}

/// What the end of a segment object says of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Footer {
    pub session: SessionId,
    pub number: SegmentNumber,
    /// Random bits of this segment; with the footer's CRC they tell our object from anybody else's.
    pub nonce: u64,
    pub created_ms: TimestampMs,
    /// How many segments of the session its writer knew to be committed when it sealed this one: segments 0..committed exist,
    /// whatever else is found.
    pub committed: SegmentNumber,
    /// Sorted by partition.
    pub extents: Vec<ExtentMeta>,
}
