//! The port to the shared table: revisions and bytes, and nothing else. Backends know neither entries nor snapshots nor markers.
//!
//! That a generation is closed ([`super::truncate`]) is looked up above this port, after every append and every read, by
//! [`super::history`]: it is the same for all backends, and no backend can forget it.

pub mod bucket;
pub mod dynamodb;
pub mod faults;
pub mod memory;
pub mod postgres;

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use crate::types::Revision;

/// What the table says of an append.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Append {
    /// The revision was free and holds these bytes now, durably.
    Appended,
    /// The revision holds something; it may be these very bytes, from an attempt whose answer was lost.
    Taken,
    /// It happened, or did not, or will in a while. Reading the revision shows the first case only.
    Unknown { reason: String },
}

/// Part of the table's tail.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chunk {
    /// Bodies of consecutive revisions.
    pub bodies: Vec<Bytes>,
    /// Nothing followed the last of them at a moment after the read began.
    pub end: bool,
    /// The next revision is missing, and a later one is there. Not every table notices.
    pub gap: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TableError {
    /// Said no for good (denied, no such table). An append did not happen and will not.
    #[error("{0}")]
    Permanent(String),
    /// No answer, for reads and deletes. Appends report this as [`Append::Unknown`].
    #[error("{0}")]
    Unavailable(String),
}

/// A log with conditional append. All methods are one attempt.
#[async_trait]
pub trait Table: Send + Sync {
    /// The backend and its address, without secrets, as `meta/cluster` names it: `bucket`, `dynamodb://table`,
    /// `postgres://host:port/database`.
    fn name(&self) -> &str;

    /// Writes the revision if nothing has it.
    async fn append(&self, revision: Revision, body: Bytes) -> Result<Append, TableError>;

    /// Whether revisions that were answered may be gone later and given anew, as after a failover to a server that was behind.
    fn may_lose(&self) -> bool {
        false
    }

    /// As [`Table::append`]; a table that may lose writes also says [`Append::Taken`] where the revision before is there and does not
    /// hold `nonce`, which the caller knows of it, or is missing while earlier ones are there.
    async fn append_after(&self, _nonce: &str, revision: Revision, body: Bytes) -> Result<Append, TableError> {
        self.append(revision, body).await
    }

    /// Bodies of `from`, `from + 1` … without a gap, at most `limit`; fewer also without an end. Strongly consistent: an append that
    /// was answered before the read began is seen. Nothing at `from`: it is the end of the table, or it was deleted.
    async fn read(&self, from: Revision, limit: usize) -> Result<Chunk, TableError>;

    /// As [`Table::read`]; there are about so many revisions, as far as the caller knows. For a backend that asks for each by itself.
    async fn read_likely(&self, from: Revision, limit: usize, _likely: usize) -> Result<Chunk, TableError> {
        self.read(from, limit).await
    }

    /// The lowest revision from `from` on that the table holds.
    async fn at_or_after(&self, from: Revision) -> Result<Option<Revision>, TableError>;

    /// The lowest revision that the table holds. (Backends outside the bucket keep a mark of their cluster at revision 0.)
    async fn first(&self) -> Result<Option<Revision>, TableError> {
        self.at_or_after(1).await
    }

    /// Deletes revisions 1 up to and including `last`. May stop halfway; then it is called again.
    async fn delete_through(&self, last: Revision) -> Result<(), TableError>;

    /// Waits until a revision above `known` may be there, where the backend tells; else for ever. A hint that may be missed: pollers
    /// poll besides.
    async fn changed(&self, _known: Revision) {
        std::future::pending().await
    }
}

pub type TableRef = Arc<dyn Table>;
