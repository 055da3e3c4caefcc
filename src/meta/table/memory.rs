//! The table in memory: the twin of the real backends, for tests and simulation.

use std::collections::BTreeMap;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;

use super::{Append, Chunk, Table, TableError};
use crate::types::Revision;

#[derive(Default)]
pub struct MemoryTable {
    revisions: Mutex<BTreeMap<Revision, Bytes>>,
}

impl MemoryTable {
    pub fn new() -> Self {
        MemoryTable::default()
    }

    /// What it holds: for tests.
    pub fn revisions(&self) -> BTreeMap<Revision, Bytes> {
        self.revisions.lock().clone()
    }

    /// Loses a revision, as a database does that goes on from a backup or from a standby that had not heard of it.
    pub fn lose(&self, revision: Revision) {
        self.revisions.lock().remove(&revision);
    }

    /// Overwrites a revision, which no broker can: for tests with damaged bytes.
    pub fn damage(&self, revision: Revision, body: Bytes) {
        self.revisions.lock().insert(revision, body);
    }
}

#[async_trait]
impl Table for MemoryTable {
    fn name(&self) -> &str {
        "memory"
    }

    async fn append(&self, revision: Revision, body: Bytes) -> Result<Append, TableError> {
        let mut revisions = self.revisions.lock();
        if revisions.contains_key(&revision) {
            return Ok(Append::Taken);
        }
        revisions.insert(revision, body);
        Ok(Append::Appended)
    }

    async fn read(&self, from: Revision, limit: usize) -> Result<Chunk, TableError> {
        let revisions = self.revisions.lock();
        let contiguous = (from..).zip(revisions.range(from..)).take_while(|(expected, (found, _))| expected == *found);
        let bodies: Vec<Bytes> = contiguous.map(|(_, (_, body))| body.clone()).take(limit).collect();
        let next = from + bodies.len() as u64;
        let end = !revisions.contains_key(&next);
        Ok(Chunk { bodies, end, gap: end && revisions.range(next..).next().is_some() })
    }

    async fn at_or_after(&self, from: Revision) -> Result<Option<Revision>, TableError> {
        Ok(self.revisions.lock().range(from..).next().map(|(revision, _)| *revision))
    }

    async fn delete_through(&self, last: Revision) -> Result<(), TableError> {
        self.revisions.lock().retain(|revision, _| *revision > last || *revision == 0);
        Ok(())
    }
}
