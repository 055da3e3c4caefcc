//! Patience: pauses between tries, and reads that are tried until a deadline.

use std::ops::Range;
use std::time::Duration;

use super::{ReadBlocks, ReadBytes, ReadRange, Store, StoreError};
use crate::types::env::{Entropy, Env};

/// Pauses that double up to a limit, each shortened by up to a half at random, so that many waiters do not come back together.
#[derive(Clone, Debug)]
pub struct Backoff {
    next: Duration,
    max: Duration,
}

impl Backoff {
    pub fn new(first: Duration, max: Duration) -> Backoff {
        Backoff { next: first.min(max), max }
    }

    pub fn next(&mut self, entropy: &dyn Entropy) -> Duration {
        let full = self.next;
        self.next = (full * 2).min(self.max);
        let half_nanos = u64::try_from(full.as_nanos() / 2).unwrap_or(u64::MAX);
        full - Duration::from_nanos(entropy.next_u64() % half_nanos.max(1)).min(full)
    }
}

/// How patient a read is.
#[derive(Clone, Debug)]
pub struct ReadPolicy {
    pub first_backoff: Duration,
    pub max_backoff: Duration,
    /// Limit of one attempt, besides the adapter's own.
    pub attempt_timeout: Duration,
    /// The last attempt begins before so long has passed.
    pub deadline: Duration,
}

impl Default for ReadPolicy {
    fn default() -> Self {
        ReadPolicy {
            first_backoff: Duration::from_millis(20),
            max_backoff: Duration::from_secs(1),
            attempt_timeout: Duration::from_secs(10),
            deadline: Duration::from_secs(30),
        }
    }
}

/// Reads, and reads again while the store is busy or unclear. An absent object and a refusal are answers, not faults.
/// An answer shorter than the range and the object's size promise counts as a fault.
pub async fn read_retrying(
    store: &dyn Store,
    env: &Env,
    key: &str,
    range: ReadRange,
    policy: &ReadPolicy,
) -> Result<ReadBytes, StoreError> {
    let read = || async {
        let read = store.read(key, range.clone()).await?;
        let end = read.start + read.bytes.len() as u64;
        whole(range.resolve(read.object_size) == Some(read.start..end), key, read)
    };
    retrying(env, key, policy, read).await
}

/// The same in blocks.
pub async fn read_blocks_retrying(
    store: &dyn Store,
    env: &Env,
    key: &str,
    range: Range<u64>,
    policy: &ReadPolicy,
) -> Result<ReadBlocks, StoreError> {
    let read = || async {
        let read = store.read_blocks(key, range.clone()).await?;
        let end = range.start + read.bytes() as u64;
        let wanted = ReadRange::Range(range.clone()).resolve(read.object_size);
        whole(wanted == Some(range.start..end), key, read)
    };
    retrying(env, key, policy, read).await
}

fn whole<T>(is_whole: bool, key: &str, read: T) -> Result<T, StoreError> {
    if is_whole { Ok(read) } else { Err(StoreError::maybe(key, "a read gave less than it promised")) }
}

async fn retrying<T, F>(env: &Env, key: &str, policy: &ReadPolicy, read: impl Fn() -> F) -> Result<T, StoreError>
where
    F: Future<Output = Result<T, StoreError>>,
{
    let started = env.clock.boot();
    let mut backoff = Backoff::new(policy.first_backoff, policy.max_backoff);
    loop {
        let error = match tokio::time::timeout(policy.attempt_timeout, read()).await {
            Ok(Err(error)) if error.is_passing() => error,
            Ok(result) => return result,
            Err(_) => StoreError::maybe(key, format!("no answer to a read within {:?}", policy.attempt_timeout)),
        };
        let pause = backoff.next(env.entropy.as_ref());
        if env.clock.boot().saturating_sub(started) + pause >= policy.deadline {
            return Err(error);
        }
        tokio::time::sleep(pause).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::env::testing::SeededEntropy;

    #[test]
    fn pauses_double_and_stay_in_bounds() {
        let entropy = SeededEntropy::new(1);
        let mut backoff = Backoff::new(Duration::from_millis(20), Duration::from_millis(100));
        for full_ms in [20, 40, 80, 100, 100] {
            let pause = backoff.next(&entropy);
            let full = Duration::from_millis(full_ms);
            assert!(pause > full / 2 - Duration::from_nanos(1) && pause <= full, "{pause:?} of {full:?}");
        }
    }
}
