//! Our own object formats: the segment, the fence, the object of a run and its manifest. FORMAT.md beside this file is their specification.
//!
//! Flow: the append path fills a [`SegmentDraft`] and [`build`]s it into the bytes of one object. Recovery, followers and
//! `alluvium inspect` read the last bytes of an object and give them to [`parse_tail`], which answers: a segment, a fence, or
//! "read more". Both formats end in the same [trailer](read::TRAILER_BYTES), so that one suffix read tells them apart and, by nonce
//! and checksum, tells our object from anybody else's.
//!
//! Everything here is pure. Nothing is skipped or guessed: whatever does not follow FORMAT.md to the letter is a [`SegmentError`]
//! that names the object, and memory stays in proportion to the bytes given, whatever they claim.

mod fence;
mod footer;
mod manifest;
mod names;
mod read;
mod run;
mod varint;
mod verify;
mod write;

pub use fence::Fence;
pub use manifest::{BatchCheckpoint, LeftOut, Manifest, PartitionCheckpoint, ProducerCheckpoint};
pub use names::{
    RUNS_PREFIX, RunPart, SEGMENTS_PREFIX, manifest_key, parse_run_key, parse_segment_key, run_object_key, run_prefix,
    segment_key, session_prefix,
};
pub use read::{FORMAT_VERSION, IDENTITY_BYTES, SegmentTail, TRAILER_BYTES, Tail, parse_tail, parse_unnamed_tail};
pub use run::{EXTENT_TARGET_BYTES, RunExtent, RunFooter, RunTail, parse_run_tail, parse_unnamed_run_tail};
pub use verify::{verify_batch, verify_body, verify_run_body};
pub use write::{ExtentDraft, RepeatedFooter, SealedSegment, SegmentDraft, build};

use crate::types::{LeaseEpoch, Offset, PartitionId, SegmentNumber, SessionId, TimestampMs};

/// Smallest record batch of magic 2: its header, in bytes.
pub const BATCH_HEADER_BYTES: usize = crate::types::batch_layout::HEADER_BYTES;

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
    /// -1: none. Then epoch and sequence are -1 as well.
    pub producer_id: i64,
    pub producer_epoch: i16,
    /// -1: none.
    pub base_sequence: i32,
    pub transactional: bool,
    /// All records of the batch bear its max timestamp (attribute bit 3).
    pub log_append_time: bool,
    pub control: Option<ControlMeta>,
}

impl BatchMeta {
    /// One past the last offset of the batch; `None` if there is no such offset.
    pub fn next_offset(&self) -> Option<Offset> {
        self.base_offset.checked_add(i64::from(self.last_offset_delta))?.checked_add(1)
    }
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
    /// Never empty in a segment; they lie one after another.
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
    /// whatever else is found. At most `number`.
    pub committed: SegmentNumber,
    /// Sorted by (partition, epoch), each pair once; offsets of a partition never go back.
    pub extents: Vec<ExtentMeta>,
}

impl Footer {
    /// Bytes of all batches.
    pub fn body_length(&self) -> u64 {
        self.extents.iter().map(|extent| u64::from(extent.length)).sum()
    }
}

/// An object that is not what its name promises. Recovery stops with it; nothing is ever skipped.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{object}: {damage}")]
pub struct SegmentError {
    /// The object's key, or the file it was read from.
    pub object: String,
    pub damage: Damage,
}

/// What is wrong with an object.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    #[error(
        "this is no name of a segment (segments/<session>/<number, 20 digits>) or of a part of a run (runs/<run>/…)"
    )]
    Name,
    #[error("the object has {size} bytes, fewer than the {least} it must have: it is cut short or not ours")]
    TooShort { size: u64, least: u64 },
    #[error("the object does not end in a magic of ours but in {found:02x?}")]
    Magic { found: [u8; 8] },
    #[error("format version {found} is not known to this program (it knows {known}); a newer program wrote it")]
    Version { found: u16, known: u16 },
    #[error("checksum mismatch: stored {stored:08x}, computed {computed:08x}")]
    Checksum { stored: u32, computed: u32 },
    #[error("it says that it is {found}, its name says {expected}")]
    Identity { found: String, expected: String },
    #[error("{what}")]
    Content { what: String },
}

impl Damage {
    pub(crate) fn content(what: impl Into<String>) -> Damage {
        Damage::Content { what: what.into() }
    }

    pub(crate) fn of(self, object: &str) -> SegmentError {
        SegmentError { object: object.to_owned(), damage: self }
    }
}
