//! Trying again, with pauses, up to a time limit.

use std::time::Duration;

use bytes::Bytes;

use super::error::MetaError;
use crate::store::retry::{Backoff, ReadPolicy, read_retrying};
use crate::store::{ReadRange, Store, StoreError};
use crate::types::env::Env;

const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Damaged bytes are believed when they come so often.
pub(super) const READS_BEFORE_BELIEF: u32 = 3;

/// An attempt may take this part of the time for all of them.
const ATTEMPTS: u32 = 3;

/// The pauses of one operation.
pub(super) struct Pauses<'a> {
    env: &'a Env,
    backoff: Backoff,
}

impl<'a> Pauses<'a> {
    pub fn new(env: &'a Env) -> Self {
        Pauses { env, backoff: Backoff::new(FIRST_PAUSE, LONGEST_PAUSE) }
    }

    pub async fn pause(&mut self) {
        tokio::time::sleep(self.backoff.next(&*self.env.entropy)).await;
    }
}

/// Repeats `attempt` until it gives anything but an error for which `again` says so, or `limit` has passed: then the last such
/// error. An attempt that takes a third of the limit is cut off and gives `late`.
pub(super) async fn until<T, E, F: Future<Output = Result<T, E>>>(
    env: &Env,
    limit: Duration,
    again: impl Fn(&E) -> bool,
    late: impl Fn() -> E,
    mut attempt: impl FnMut() -> F,
) -> Result<T, E> {
    let deadline = tokio::time::Instant::now() + limit;
    let mut pauses = Pauses::new(env);
    loop {
        let result = tokio::time::timeout(limit / ATTEMPTS, attempt()).await.unwrap_or_else(|_| Err(late()));
        match result {
            Err(error) if again(&error) && tokio::time::Instant::now() < deadline => pauses.pause().await,
            result => return result,
        }
    }
}

/// Objects of the metadata in the bucket, with retries up to a time limit per call.
#[derive(Clone, Copy)]
pub(super) struct Objects<'a> {
    pub store: &'a dyn Store,
    pub env: &'a Env,
    pub limit: Duration,
}

impl Objects<'_> {
    async fn until<T, F>(&self, key: &str, attempt: impl FnMut() -> F) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        let late = || StoreError::Maybe { key: key.to_owned(), reason: format!("no answer within {:?}", self.limit) };
        until(self.env, self.limit, StoreError::is_passing, late, attempt).await
    }

    /// `None`: the store says that there is no such object.
    pub async fn read(&self, key: &str) -> Result<Option<Bytes>, StoreError> {
        let policy =
            ReadPolicy { attempt_timeout: self.limit / ATTEMPTS, deadline: self.limit, ..ReadPolicy::default() };
        match read_retrying(self.store, self.env, key, ReadRange::Full, &policy).await {
            Ok(read) => Ok(Some(read.bytes)),
            Err(StoreError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Reads and decodes. What can't be decoded is read again before that is believed, for the fault may be on the way.
    pub async fn read_as<T>(
        &self,
        key: &str,
        decode: impl Fn(&[u8]) -> Result<T, MetaError>,
    ) -> Result<Option<T>, MetaError> {
        let mut pauses = Pauses::new(self.env);
        for _ in 1..READS_BEFORE_BELIEF {
            match self.read(key).await?.map(|bytes| decode(&bytes)) {
                None => return Ok(None),
                Some(Ok(value)) => return Ok(Some(value)),
                Some(Err(_)) => pauses.pause().await,
            }
        }
        self.read(key).await?.map(|bytes| decode(&bytes)).transpose()
    }

    /// Makes sure that there is an object of this name, this one or an earlier one; whose it is, a read shows.
    pub async fn ensure(&self, key: &str, body: &Bytes) -> Result<(), StoreError> {
        match self.until(key, || self.store.create(key, body.clone())).await {
            Err(StoreError::Taken { .. }) => Ok(()),
            result => result,
        }
    }

    pub async fn delete(&self, key: &str) -> Result<(), StoreError> {
        self.until(key, || self.store.delete(key)).await
    }

    /// All keys under the prefix, in order. For prefixes with few objects.
    pub async fn keys(&self, prefix: &str) -> Result<Vec<String>, StoreError> {
        const PAGE: usize = 1000;
        let mut keys: Vec<String> = Vec::new();
        loop {
            let after = keys.last().cloned();
            let page = self.until(prefix, || self.store.list(prefix, after.as_deref(), PAGE)).await?;
            let complete = page.len() < PAGE;
            keys.extend(page.into_iter().map(|object| object.key));
            if complete {
                return Ok(keys);
            }
        }
    }
}
