//! Objects in memory: what simulation runs on, and `--store memory:`. Everything happens at once under one lock, in key order,
//! so one seed gives one trace. Bodies are kept as they come (no copy), so they pin the buffers they were cut from.

use std::collections::BTreeMap;
use std::ops::{Bound, Range};

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;

use super::key::check_key;
use super::{BLOCK_READ_BYTES, ListedObject, ReadBlocks, ReadBytes, ReadRange, Store, StoreError};

/// Keeps objects until it is dropped.
pub struct MemoryStore {
    objects: Mutex<BTreeMap<String, Bytes>>,
    shared: bool,
}

impl MemoryStore {
    /// A store of this process alone.
    pub fn new() -> MemoryStore {
        MemoryStore { objects: Mutex::default(), shared: false }
    }

    /// One that says that others reach it too, as several simulated brokers do.
    pub fn shared() -> MemoryStore {
        MemoryStore { objects: Mutex::default(), shared: true }
    }

    /// Number of objects and bytes held.
    pub fn usage(&self) -> (usize, u64) {
        let objects = self.objects.lock();
        (objects.len(), objects.values().map(|body| body.len() as u64).sum())
    }

    /// Puts other bytes in the place of an object: damage, for tests.
    pub fn overwrite(&self, key: &str, body: Bytes) {
        self.objects.lock().insert(key.to_owned(), body);
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        MemoryStore::new()
    }
}

/// Objects under `prefix` after `after`, in order.
fn under<'a>(
    objects: &'a BTreeMap<String, Bytes>,
    prefix: &'a str,
    after: Option<&str>,
) -> impl Iterator<Item = (&'a String, &'a Bytes)> {
    let start = match after {
        Some(after) if after >= prefix => Bound::Excluded(after.to_owned()),
        _ => Bound::Included(prefix.to_owned()),
    };
    objects.range((start, Bound::Unbounded)).take_while(move |(key, _)| key.starts_with(prefix))
}

#[async_trait]
impl Store for MemoryStore {
    async fn create(&self, key: &str, body: Bytes) -> Result<(), StoreError> {
        check_key(key)?;
        let mut objects = self.objects.lock();
        if objects.contains_key(key) {
            return Err(StoreError::taken(key));
        }
        objects.insert(key.to_owned(), body);
        Ok(())
    }

    async fn read(&self, key: &str, range: ReadRange) -> Result<ReadBytes, StoreError> {
        check_key(key)?;
        let body = self.objects.lock().get(key).cloned().ok_or_else(|| StoreError::not_found(key))?;
        let object_size = body.len() as u64;
        let range = range
            .resolve(object_size)
            .ok_or_else(|| StoreError::permanent(key, format!("{range:?} is not in its {object_size} bytes")))?;
        let bytes = body.slice(usize_of(range.start)..usize_of(range.end));
        Ok(ReadBytes { bytes, start: range.start, object_size })
    }

    /// Of a store of this process alone slices: what is here is in memory anyway. A shared one stands for those that are far away.
    async fn read_blocks(&self, key: &str, range: Range<u64>) -> Result<ReadBlocks, StoreError> {
        let read = self.read(key, ReadRange::Range(range)).await?;
        if self.shared {
            return Ok(read.into_blocks());
        }
        let ReadBytes { bytes, object_size, .. } = read;
        let starts = (0..bytes.len()).step_by(BLOCK_READ_BYTES);
        let blocks = starts.map(|at| bytes.slice(at..bytes.len().min(at + BLOCK_READ_BYTES))).collect();
        Ok(ReadBlocks { blocks, object_size })
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        check_key(key)?;
        self.objects.lock().remove(key);
        Ok(())
    }

    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<ListedObject>, StoreError> {
        let objects = self.objects.lock();
        Ok(under(&objects, prefix, after)
            .take(limit)
            .map(|(key, body)| ListedObject { key: key.clone(), size: body.len() as u64 })
            .collect())
    }

    async fn list_folders(&self, prefix: &str) -> Result<Vec<String>, StoreError> {
        let objects = self.objects.lock();
        let mut folders: Vec<String> = under(&objects, prefix, None)
            .filter_map(|(key, _)| key[prefix.len()..].split_once('/').map(|(folder, _)| folder.to_owned()))
            .collect();
        folders.sort_unstable();
        folders.dedup();
        Ok(folders)
    }

    fn describe(&self) -> String {
        "memory:".to_owned()
    }

    fn endpoint(&self) -> String {
        self.describe()
    }

    fn is_shared(&self) -> bool {
        self.shared
    }
}

/// Positions inside a body in memory always fit.
fn usize_of(position: u64) -> usize {
    usize::try_from(position).expect("a position in a buffer fits a usize")
}
