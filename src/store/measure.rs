//! Counts what goes through a store. Numbers only; the metrics page reads [`StoreStats::snapshot`].

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use super::{ListedObject, ReadBlocks, ReadBytes, ReadRange, Store, StoreError, StoreRef};
use crate::types::env::Clock;

/// The methods, in the order of their numbers.
pub const OPERATIONS: [&str; 5] = ["create", "read", "delete", "list", "list_folders"];
/// Kinds of errors, in the order of their numbers.
pub const ERROR_KINDS: [&str; 5] = ["taken", "not_found", "permanent", "busy", "maybe"];
/// Upper bounds of the latency buckets, in microseconds; one more bucket holds what is above.
pub const LATENCY_BOUNDS_US: [u64; 15] = [
    250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000, 5_000_000,
    10_000_000,
];
const BUCKETS: usize = LATENCY_BOUNDS_US.len() + 1;

/// Live counters; shared by the store and whoever shows them.
#[derive(Default)]
pub struct StoreStats {
    operations: [OperationStats; OPERATIONS.len()],
    created_bytes: AtomicU64,
    read_bytes: AtomicU64,
}

#[derive(Default)]
struct OperationStats {
    calls: AtomicU64,
    errors: [AtomicU64; ERROR_KINDS.len()],
    latency_sum_us: AtomicU64,
    latency_buckets: [AtomicU64; BUCKETS],
}

/// What the counters were at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoreSnapshot {
    /// By [`OPERATIONS`].
    pub operations: [OperationSnapshot; OPERATIONS.len()],
    /// Bytes of creates that said yes.
    pub created_bytes: u64,
    pub read_bytes: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OperationSnapshot {
    /// Calls that ended, well or not. Cancelled ones do not count.
    pub calls: u64,
    /// By [`ERROR_KINDS`].
    pub errors: [u64; ERROR_KINDS.len()],
    pub latency_sum_us: u64,
    /// Not cumulative; by [`LATENCY_BOUNDS_US`], the last one holds the rest.
    pub latency_buckets: [u64; BUCKETS],
}

impl StoreStats {
    pub fn snapshot(&self) -> StoreSnapshot {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        StoreSnapshot {
            operations: std::array::from_fn(|operation| {
                let stats = &self.operations[operation];
                OperationSnapshot {
                    calls: get(&stats.calls),
                    errors: std::array::from_fn(|kind| get(&stats.errors[kind])),
                    latency_sum_us: get(&stats.latency_sum_us),
                    latency_buckets: std::array::from_fn(|bucket| get(&stats.latency_buckets[bucket])),
                }
            }),
            created_bytes: get(&self.created_bytes),
            read_bytes: get(&self.read_bytes),
        }
    }

    fn count<T>(&self, operation: usize, latency: Duration, result: &Result<T, StoreError>) {
        let stats = &self.operations[operation];
        let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        stats.calls.fetch_add(1, Ordering::Relaxed);
        stats.latency_sum_us.fetch_add(micros, Ordering::Relaxed);
        let bucket = LATENCY_BOUNDS_US.partition_point(|bound| *bound < micros);
        stats.latency_buckets[bucket].fetch_add(1, Ordering::Relaxed);
        if let Err(error) = result {
            stats.errors[kind_of(error)].fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn kind_of(error: &StoreError) -> usize {
    match error {
        StoreError::Taken { .. } => 0,
        StoreError::NotFound { .. } => 1,
        StoreError::Permanent { .. } => 2,
        StoreError::Busy { .. } => 3,
        StoreError::Maybe { .. } => 4,
    }
}

/// A store whose calls are counted.
pub struct MeasuredStore {
    inner: StoreRef,
    clock: Arc<dyn Clock>,
    stats: Arc<StoreStats>,
}

impl MeasuredStore {
    pub fn new(inner: StoreRef, clock: Arc<dyn Clock>) -> MeasuredStore {
        MeasuredStore { inner, clock, stats: Arc::default() }
    }

    pub fn stats(&self) -> Arc<StoreStats> {
        Arc::clone(&self.stats)
    }

    async fn measured<T>(
        &self,
        operation: usize,
        call: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let started = self.clock.boot();
        let result = call.await;
        self.stats.count(operation, self.clock.boot().saturating_sub(started), &result);
        result
    }
}

#[async_trait]
impl Store for MeasuredStore {
    async fn create(&self, key: &str, body: Bytes) -> Result<(), StoreError> {
        let length = body.len() as u64;
        let result = self.measured(0, self.inner.create(key, body)).await;
        if result.is_ok() {
            self.stats.created_bytes.fetch_add(length, Ordering::Relaxed);
        }
        result
    }

    async fn read(&self, key: &str, range: ReadRange) -> Result<ReadBytes, StoreError> {
        let result = self.measured(1, self.inner.read(key, range)).await;
        if let Ok(read) = &result {
            self.stats.read_bytes.fetch_add(read.bytes.len() as u64, Ordering::Relaxed);
        }
        result
    }

    async fn read_blocks(&self, key: &str, range: Range<u64>) -> Result<ReadBlocks, StoreError> {
        let result = self.measured(1, self.inner.read_blocks(key, range)).await;
        if let Ok(read) = &result {
            self.stats.read_bytes.fetch_add(read.bytes() as u64, Ordering::Relaxed);
        }
        result
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        self.measured(2, self.inner.delete(key)).await
    }

    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<ListedObject>, StoreError> {
        self.measured(3, self.inner.list(prefix, after, limit)).await
    }

    async fn list_folders(&self, prefix: &str) -> Result<Vec<String>, StoreError> {
        self.measured(4, self.inner.list_folders(prefix)).await
    }

    fn describe(&self) -> String {
        self.inner.describe()
    }

    fn endpoint(&self) -> String {
        self.inner.endpoint()
    }

    fn is_shared(&self) -> bool {
        self.inner.is_shared()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::memory::MemoryStore;
    use crate::types::env::testing::env;

    #[tokio::test]
    async fn counts_calls_bytes_and_errors() {
        let store = MeasuredStore::new(Arc::new(MemoryStore::new()), env(1).clock);
        store.create("a", Bytes::from_static(b"12345")).await.expect("free");
        store.create("a", Bytes::from_static(b"12345")).await.expect_err("taken");
        store.read("a", ReadRange::Suffix(2)).await.expect("there");
        store.read_blocks("a", 1..4).await.expect("there");
        store.read("b", ReadRange::Full).await.expect_err("absent");
        let snapshot = store.stats().snapshot();
        assert_eq!((snapshot.created_bytes, snapshot.read_bytes), (5, 5));
        assert_eq!((snapshot.operations[0].calls, snapshot.operations[0].errors), (2, [1, 0, 0, 0, 0]));
        assert_eq!((snapshot.operations[1].calls, snapshot.operations[1].errors), (3, [0, 1, 0, 0, 0]));
        assert_eq!(snapshot.operations[0].latency_buckets.iter().sum::<u64>(), 2);
    }
}
