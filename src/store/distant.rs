//! A store that is far away: every call takes a round trip, half of it before the store is reached. For tests that count how many calls
//! wait for each other; calls side by side take one.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use super::{ListedObject, ReadBytes, ReadRange, Store, StoreError, StoreRef};

pub struct DistantStore {
    inner: StoreRef,
    trip: Duration,
}

impl DistantStore {
    pub fn new(inner: StoreRef, trip: Duration) -> DistantStore {
        DistantStore { inner, trip }
    }

    async fn there_and_back<T>(&self, call: impl Future<Output = T>) -> T {
        tokio::time::sleep(self.trip / 2).await;
        let answer = call.await;
        tokio::time::sleep(self.trip / 2).await;
        answer
    }
}

#[async_trait]
impl Store for DistantStore {
    async fn create(&self, key: &str, body: Bytes) -> Result<(), StoreError> {
        self.there_and_back(self.inner.create(key, body)).await
    }

    async fn read(&self, key: &str, range: ReadRange) -> Result<ReadBytes, StoreError> {
        self.there_and_back(self.inner.read(key, range)).await
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        self.there_and_back(self.inner.delete(key)).await
    }

    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<ListedObject>, StoreError> {
        self.there_and_back(self.inner.list(prefix, after, limit)).await
    }

    async fn list_folders(&self, prefix: &str) -> Result<Vec<String>, StoreError> {
        self.there_and_back(self.inner.list_folders(prefix)).await
    }

    fn describe(&self) -> String {
        format!("{} (far away)", self.inner.describe())
    }

    fn endpoint(&self) -> String {
        self.inner.endpoint()
    }

    fn is_shared(&self) -> bool {
        self.inner.is_shared()
    }
}
