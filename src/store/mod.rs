//! The port to object bytes: a few methods, no knowledge of Kafka.
//!
//! Names are create-only and never come again, so a body read once is true for ever. A `create` is ambiguous by nature (the
//! answer may be lost, or an inner retry may meet its own write): an adapter reports one attempt honestly and
//! [`create::create_once`] resolves it by reading back.
//!
//! Adapters: [`memory`], [`local`] (a folder), [`s3`]; [`open::open`] picks one by its URL. Decorators: [`measure`] counts,
//! [`fault`] breaks things on purpose. Above them [`create::create_once`] and [`retry::read_retrying`] are how everybody else
//! writes and reads, and [`probe::probe`] refuses a store that does not keep the promise of create-only names.

pub mod create;
pub mod distant;
pub mod fault;
pub mod hedge;
pub mod key;
pub mod local;
pub mod measure;
pub mod memory;
pub mod open;
pub mod probe;
pub mod retry;
pub mod s3;

use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

/// What most reads ask for, at positions that are a multiple of it; see [`crate::cache`]. Adapters may be quick at it.
pub const BLOCK_READ_BYTES: usize = 512 << 10;

/// What to read of an object, in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadRange {
    Full,
    Range(Range<u64>),
    /// The last so many bytes, or the whole object when it is shorter.
    Suffix(u64),
}

/// Bytes of an object and where they stand in it.
#[derive(Clone, Debug)]
pub struct ReadBytes {
    pub bytes: Bytes,
    /// Position of the first of `bytes` in the object.
    pub start: u64,
    /// Size of the whole object.
    pub object_size: u64,
}

/// Bytes of an object from a position on, in blocks that can be kept one without the other.
#[derive(Clone, Debug)]
pub struct ReadBlocks {
    /// Of [`BLOCK_READ_BYTES`] each, the last one perhaps shorter.
    pub blocks: Vec<Bytes>,
    /// Size of the whole object.
    pub object_size: u64,
}

impl ReadBytes {
    /// Copies, if they are several: each block can be let go without the others.
    pub fn into_blocks(self) -> ReadBlocks {
        let ReadBytes { bytes, object_size, .. } = self;
        let blocks = match bytes.len() {
            ..=BLOCK_READ_BYTES => vec![bytes],
            _ => bytes.chunks(BLOCK_READ_BYTES).map(Bytes::copy_from_slice).collect(),
        };
        ReadBlocks { blocks, object_size }
    }
}

impl ReadBlocks {
    /// Bytes of all blocks.
    pub fn bytes(&self) -> usize {
        self.blocks.iter().map(Bytes::len).sum()
    }
}

impl ReadRange {
    /// The bytes meant by this range in an object of `object_size` bytes, cut at its end; `None` when the range is empty or
    /// begins at or past the end. (An empty object has an empty suffix.)
    pub fn resolve(&self, object_size: u64) -> Option<Range<u64>> {
        match self {
            ReadRange::Full => Some(0..object_size),
            ReadRange::Range(range) => {
                let end = range.end.min(object_size);
                (range.start < end).then_some(range.start..end)
            }
            ReadRange::Suffix(length) => (*length > 0).then(|| object_size.saturating_sub(*length)..object_size),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedObject {
    pub key: String,
    pub size: u64,
}

/// How sure an error is. The default of every conversion is `Maybe`: only what the store said plainly is `Definite`.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// Somebody's object has this name (412). It may be our own, from an attempt whose answer was lost.
    #[error("{key}: the name is taken")]
    Taken { key: String },
    /// There is no such object (for reads and deletes), said by the store.
    #[error("{key}: no such object")]
    NotFound { key: String },
    /// Said no for good: denied access, no such bucket, no space, a name it does not accept. Nothing happened.
    #[error("{key}: {reason}")]
    Permanent { key: String, reason: String },
    /// Said "later" (409, 429, 503), or could not be reached. Nothing happened, or (503) it may have.
    #[error("{key}: not now: {reason}")]
    Busy { key: String, reason: String },
    /// Time-out, reset, 5xx, anything unclear: it may have happened.
    #[error("{key}: outcome unknown: {reason}")]
    Maybe { key: String, reason: String },
}

impl StoreError {
    pub fn permanent(key: &str, reason: impl ToString) -> StoreError {
        StoreError::Permanent { key: key.to_owned(), reason: reason.to_string() }
    }

    pub fn maybe(key: &str, reason: impl ToString) -> StoreError {
        StoreError::Maybe { key: key.to_owned(), reason: reason.to_string() }
    }

    pub fn busy(key: &str, reason: impl ToString) -> StoreError {
        StoreError::Busy { key: key.to_owned(), reason: reason.to_string() }
    }

    pub fn not_found(key: &str) -> StoreError {
        StoreError::NotFound { key: key.to_owned() }
    }

    pub fn taken(key: &str) -> StoreError {
        StoreError::Taken { key: key.to_owned() }
    }

    /// Asking again may give another answer.
    pub fn is_passing(&self) -> bool {
        matches!(self, StoreError::Busy { .. } | StoreError::Maybe { .. })
    }
}

/// Object storage. All methods are one attempt with a time limit of the adapter's; callers decide about more.
#[async_trait]
pub trait Store: Send + Sync {
    /// Creates the object if the name is free; `Ok` only on the store's plain yes. Durable before it answers.
    async fn create(&self, key: &str, body: Bytes) -> Result<(), StoreError>;

    /// A range is cut at the object's end; one that begins at or past it is `Permanent`.
    async fn read(&self, key: &str, range: ReadRange) -> Result<ReadBytes, StoreError>;

    /// A read of `range` in blocks. An adapter whose bytes come little by little puts them where they are to stay.
    async fn read_blocks(&self, key: &str, range: Range<u64>) -> Result<ReadBlocks, StoreError> {
        self.read(key, ReadRange::Range(range)).await.map(ReadBytes::into_blocks)
    }

    /// Deletes; an absent object is `Ok`.
    async fn delete(&self, key: &str) -> Result<(), StoreError>;

    /// Up to `limit` objects under `prefix` whose key is greater than `after`, in key order.
    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<ListedObject>, StoreError>;

    /// Subfolder names directly under `prefix` (which ends in `/`), in order, without the trailing slash.
    async fn list_folders(&self, prefix: &str) -> Result<Vec<String>, StoreError>;

    /// What a person would call it: `s3://bucket/prefix`, `file:///dir`, `memory:`.
    fn describe(&self) -> String;

    /// The server and the place in it, so that what is remembered of one store is not believed of another.
    fn endpoint(&self) -> String;

    /// Whether other processes can reach it at the same time: then sessions need proofs and idle segments.
    fn is_shared(&self) -> bool;
}

pub type StoreRef = Arc<dyn Store>;
