//! Trying again: pauses that grow, with jitter, up to a deadline.

use std::time::Duration;

use bytes::Bytes;

use crate::store::{ReadRange, Store, StoreError};
use crate::types::env::Env;

const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// The pauses of one operation: 20 ms, doubled each time up to a second, each shortened by up to a half at random.
pub(super) struct Backoff<'a> {
    env: &'a Env,
    next: Duration,
}

impl<'a> Backoff<'a> {
    pub fn new(env: &'a Env) -> Self {
        Backoff { env, next: FIRST_PAUSE }
    }

    pub async fn pause(&mut self) {
        let half = self.next / 2;
        let permille = u32::try_from(self.env.entropy.next_u64() % 1000).unwrap_or(0);
        tokio::time::sleep(half + half * permille / 1000).await;
        self.next = (self.next * 2).min(LONGEST_PAUSE);
    }
}

/// Repeats `attempt` until it gives anything but an error for which `again` says so, or `limit` has passed: then the last such
/// error. An attempt that hangs is cut off at the limit and counts as `late`.
pub(super) async fn until<T, E, F: Future<Output = Result<T, E>>>(
    env: &Env,
    limit: Duration,
    again: impl Fn(&E) -> bool,
    late: impl FnOnce() -> E,
    mut attempt: impl FnMut() -> F,
) -> Result<T, E> {
    let mut last = None;
    let attempts = async {
        let mut backoff = Backoff::new(env);
        loop {
            match attempt().await {
                Err(error) if again(&error) => last = Some(error),
                result => return result,
            }
            backoff.pause().await;
        }
    };
    match tokio::time::timeout(limit, attempts).await {
        Ok(result) => result,
        Err(_) => Err(last.unwrap_or_else(late)),
    }
}

fn may_pass(error: &StoreError) -> bool {
    matches!(error, StoreError::Busy { .. } | StoreError::Maybe { .. })
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
        until(self.env, self.limit, may_pass, late, attempt).await
    }

    /// `None`: the store says that there is no such object.
    pub async fn read(&self, key: &str) -> Result<Option<Bytes>, StoreError> {
        match self.until(key, || self.store.read(key, ReadRange::Full)).await {
            Ok(read) => Ok(Some(read.bytes)),
            Err(StoreError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
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
