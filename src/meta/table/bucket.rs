//! The table in the bucket: one object per revision, `meta/log/<revision, 20 digits>`, created only where there is none.
//!
//! Needs nothing but the store. A poll at the end of the table is one GET. Many entries are read with growing windows of parallel
//! GETs, or with large ones from the beginning by who knows that there are many; what follows a gap in a window is left for the next read, since the gap may have been filled in between. A GET that fails
//! costs only what comes after it.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::future::join_all;
use tokio::time::Instant;

use super::{Append, Chunk, Table, TableError};
use crate::store::{ReadRange, StoreError, StoreRef};
use crate::types::Revision;

/// Where the revisions stand.
pub const PREFIX: &str = "meta/log/";

/// GETs side by side when many entries are read.
const WINDOW_MAX: usize = 64;

/// After this a read gives what it has: who waits for an answer, for a limited time, must not lose it to a slow store.
const READ_TIME: Duration = Duration::from_secs(2);

/// DELETEs side by side, and keys per LIST, when a generation is removed.
const DELETES_SIDE_BY_SIDE: usize = 16;
const LIST_PAGE: usize = 1000;

/// The object of a revision.
pub fn key(revision: Revision) -> String {
    format!("{PREFIX}{revision:020}")
}

/// The revision that a key names; `None` for anything else under the prefix.
pub fn parse_key(key: &str) -> Option<Revision> {
    let digits = key.strip_prefix(PREFIX)?;
    let plain = digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit());
    if plain { digits.parse().ok() } else { None }
}

pub struct BucketTable {
    store: StoreRef,
}

impl BucketTable {
    pub fn new(store: StoreRef) -> Self {
        BucketTable { store }
    }

    async fn get(&self, revision: Revision) -> Result<Option<Bytes>, TableError> {
        match self.store.read(&key(revision), ReadRange::Full).await {
            Ok(read) if read.bytes.len() as u64 == read.object_size => Ok(Some(read.bytes)),
            Ok(_) => Err(TableError::Unavailable(format!("{}: a read gave only a part of it", key(revision)))),
            Err(StoreError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

/// For reads, lists and deletes.
impl From<StoreError> for TableError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Permanent { .. } => TableError::Permanent(error.to_string()),
            _ => TableError::Unavailable(error.to_string()),
        }
    }
}

#[async_trait]
impl Table for BucketTable {
    fn name(&self) -> &str {
        "bucket"
    }

    async fn append(&self, revision: Revision, body: Bytes) -> Result<Append, TableError> {
        match self.store.create(&key(revision), body).await {
            Ok(()) => Ok(Append::Appended),
            Err(StoreError::Taken { .. }) => Ok(Append::Taken),
            Err(error @ StoreError::Permanent { .. }) => Err(TableError::Permanent(error.to_string())),
            Err(error) => Ok(Append::Unknown { reason: error.to_string() }),
        }
    }

    async fn read(&self, from: Revision, limit: usize) -> Result<Chunk, TableError> {
        self.read_likely(from, limit, 1).await
    }

    async fn read_likely(&self, from: Revision, limit: usize, likely: usize) -> Result<Chunk, TableError> {
        let mut chunk = Chunk::default();
        let mut next = from;
        let mut window = likely.clamp(1, WINDOW_MAX);
        let begun = Instant::now();
        while chunk.bodies.len() < limit && (chunk.bodies.is_empty() || begun.elapsed() < READ_TIME) {
            let count = window.min(limit - chunk.bodies.len()) as u64;
            for body in join_all((next..next + count).map(|revision| self.get(revision))).await {
                match body {
                    Ok(Some(body)) => chunk.bodies.push(body),
                    Ok(None) => return Ok(Chunk { end: true, ..chunk }),
                    Err(_) if !chunk.bodies.is_empty() => return Ok(chunk),
                    Err(error) => return Err(error),
                }
            }
            next += count;
            window = (window * 2).min(WINDOW_MAX);
        }
        Ok(chunk)
    }

    async fn at_or_after(&self, from: Revision) -> Result<Option<Revision>, TableError> {
        let after = from.checked_sub(1).map(key);
        let page = self.store.list(PREFIX, after.as_deref(), LIST_PAGE).await?;
        Ok(page.iter().find_map(|object| parse_key(&object.key)))
    }

    async fn delete_through(&self, last: Revision) -> Result<(), TableError> {
        let mut after: Option<String> = None;
        loop {
            let page = self.store.list(PREFIX, after.as_deref(), LIST_PAGE).await?;
            let complete = page.len() < LIST_PAGE || page.last().is_some_and(|object| object.key > key(last));
            after = page.last().map(|object| object.key.clone());
            let doomed =
                page.into_iter().map(|object| object.key).filter(|key| parse_key(key).is_some_and(|r| r <= last));
            let deletes = doomed.map(|key| async move { self.store.delete(&key).await });
            let mut deletes = futures::stream::iter(deletes).buffer_unordered(DELETES_SIDE_BY_SIDE);
            while let Some(result) = deletes.next().await {
                result?;
            }
            if complete {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::store::fault::{FaultRates, FaultStore};
    use crate::store::memory::MemoryStore;
    use crate::types::env::Env;

    #[tokio::test(start_paused = true)]
    async fn a_slow_store_gives_what_it_has_in_time() {
        let rates = FaultRates { delay: 1000, max_delay: Duration::from_millis(700), ..FaultRates::default() };
        let memory: StoreRef = Arc::new(MemoryStore::shared());
        for revision in 1..=400 {
            memory.create(&key(revision), Bytes::from_static(b"x")).await.expect("creates");
        }
        let table = BucketTable::new(FaultStore::new(memory, Env::system().entropy, rates));
        let begun = Instant::now();
        let chunk = table.read(1, 1000).await.expect("reads");
        assert!(begun.elapsed() < READ_TIME + Duration::from_secs(1), "{:?}", begun.elapsed());
        assert!(!chunk.end && (7..400).contains(&chunk.bodies.len()), "{}", chunk.bodies.len());
    }

    #[test]
    fn only_plain_names_are_revisions() {
        assert_eq!(parse_key(&key(42)), Some(42));
        for other in ["meta/log/42", "meta/log/+0000000000000000042", "meta/log/0000000000000000004x", "meta/closed/0"]
        {
            assert_eq!(parse_key(other), None, "{other}");
        }
    }
}
