//! The one place where "did my create happen?" is answered.
//!
//! A create-only write can fail in ways that say nothing: the answer is lost, a proxy sends it twice and meets itself, the
//! store is busy. So only a plain yes of the store is believed at once. After everything else the object is read back and
//! its last bytes compared with those of our body, which must hold something that nobody else writes (a nonce):
//!
//! ```text
//!   send ──Ok──────────────────────────────► Ours
//!    ▲ │ ──Permanent, nothing unclear before─► Permanent
//!    │ └─everything else─► look back ──our tail──────► Ours
//!    │                        │ ▲  ──another tail, twice the same──► Theirs
//!    └──────absent, pause─────┘ └── unclear, pause
//! ```
//!
//! *Absent never proves anything*: an attempt that timed out may land after the look. That is why it is only ever a reason to
//! send the same bytes again, and why a refusal for good ends the request only when no earlier attempt is unclear. Walk through
//! it: attempt 1 times out, attempt 2 is denied (the key was just revoked), the caller gives the number to another body, attempt 1
//! lands. So after an unclear attempt a denial is met with patience, until the deadline if there is one.
//!
//! Attempts may overlap (a hedge beside a slow one, or a late one behind a time-out): they carry the same name and the same
//! bytes, so whichever lands first is the object and the others are told that the name is taken.
//!
//! Owns nothing. Dropping the future leaves the outcome unknown: whoever does it must treat the name as possibly used.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::hedge::HedgeTracker;
use super::retry::Backoff;
use super::{ReadRange, Store, StoreError};
use crate::types::env::Env;
use crate::types::mutant::{self, Mutant};

/// What to create.
#[derive(Clone, Debug)]
pub struct CreateOnce {
    pub key: String,
    pub body: Bytes,
    /// So many last bytes of the body tell it from every other body that might get this name.
    pub identity_bytes: usize,
}

/// How patient a create is.
#[derive(Clone)]
pub struct CreatePolicy {
    pub first_backoff: Duration,
    pub max_backoff: Duration,
    /// Limit of one attempt, besides the adapter's own.
    pub attempt_timeout: Duration,
    /// Give up after so long, with the outcome unknown; `None` tries without end.
    pub deadline: Option<Duration>,
    /// Send slow attempts a second time.
    pub hedge: Option<Arc<HedgeTracker>>,
}

impl Default for CreatePolicy {
    fn default() -> Self {
        CreatePolicy {
            first_backoff: Duration::from_millis(20),
            max_backoff: Duration::from_secs(1),
            attempt_timeout: Duration::from_secs(30),
            deadline: None,
            hedge: None,
        }
    }
}

/// Whose object has the name now. Either way the name is used up for ever.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Created {
    /// Our bytes are the object, durably.
    Ours,
    /// Another body has the name: its last `identity_bytes` (all of it when shorter) and its size.
    Theirs { tail: Bytes, object_size: u64 },
}

#[derive(Debug, Clone, thiserror::Error)]
pub enum CreateError {
    /// The store says no for good, and no attempt of this request can land any more.
    #[error("{key}: {reason}")]
    Permanent { key: String, reason: String },
    /// The deadline passed; the object may exist, now or later.
    #[error("{key}: not created before the deadline, outcome unknown: {reason}")]
    Deadline { key: String, reason: String },
}

/// Creates the object and does not return before it is known whose it is.
pub async fn create_once(
    store: &dyn Store,
    env: &Env,
    request: CreateOnce,
    policy: &CreatePolicy,
) -> Result<Created, CreateError> {
    let mut run = Run {
        store,
        env,
        policy,
        backoff: Backoff::new(policy.first_backoff, policy.max_backoff),
        started: env.clock.boot(),
        attempts: 0,
        request,
    };
    let mut unclear = false;
    loop {
        let error = match run.send().await {
            Ok(()) => return Ok(Created::Ours),
            Err(StoreError::Permanent { key, reason }) if !unclear => {
                return Err(CreateError::Permanent { key, reason });
            }
            Err(StoreError::Taken { .. }) if mutant::on(Mutant::TrustTaken) => return Ok(Created::Ours),
            Err(StoreError::Maybe { .. }) if mutant::on(Mutant::TrustUnclear) => return Ok(Created::Ours),
            Err(error) => error,
        };
        unclear = true;
        // A taken name is looked at right away; anything else gets time to land first.
        let taken = matches!(error, StoreError::Taken { .. });
        if !taken {
            run.pause(&error).await?;
        }
        if let Some(created) = run.look_until_clear().await? {
            return Ok(created);
        }
        if taken {
            run.pause(&error).await?;
        }
    }
}

struct Run<'a> {
    store: &'a dyn Store,
    env: &'a Env,
    policy: &'a CreatePolicy,
    backoff: Backoff,
    started: Duration,
    attempts: u32,
    request: CreateOnce,
}

/// What a look at the name shows.
enum Look {
    Found(Created),
    Absent,
    Unclear(StoreError),
}

impl Run<'_> {
    /// One attempt, or two that overlap.
    async fn send(&mut self) -> Result<(), StoreError> {
        self.attempts += 1;
        let Some(hedge) = self.policy.hedge.as_deref() else {
            return self.attempt().await;
        };
        let delay = hedge.request();
        let sent = self.env.clock.boot();
        let result = match delay {
            Some(delay) => self.attempt_hedged(hedge, delay).await,
            None => self.attempt().await,
        };
        let now = self.env.clock.boot();
        match &result {
            Ok(()) => hedge.record(now.saturating_sub(sent)),
            Err(StoreError::Busy { .. }) => hedge.busy(now),
            Err(_) => {}
        }
        result
    }

    async fn attempt(&self) -> Result<(), StoreError> {
        let attempt = self.store.create(&self.request.key, self.request.body.clone());
        match tokio::time::timeout(self.policy.attempt_timeout, attempt).await {
            Ok(result) => result,
            Err(_) => Err(StoreError::maybe(
                &self.request.key,
                format!("no answer to a create within {:?}", self.policy.attempt_timeout),
            )),
        }
    }

    /// Sends a second time when the first answer is late. The first yes wins, and so does the first "taken", since then there is
    /// an object to look at; otherwise both are waited for and the less clear answer counts.
    async fn attempt_hedged(&self, hedge: &HedgeTracker, delay: Duration) -> Result<(), StoreError> {
        let mut first = Box::pin(self.attempt());
        tokio::select! {
            biased;
            result = &mut first => return result,
            () = tokio::time::sleep(delay) => {}
        }
        if !hedge.take_permit(self.env.clock.boot()) {
            return first.await;
        }
        let second = Box::pin(self.attempt());
        let (result, other) = match futures::future::select(first, second).await {
            futures::future::Either::Left((result, other)) => (result, other),
            futures::future::Either::Right((result, other)) => (result, other),
        };
        match result {
            Ok(()) | Err(StoreError::Taken { .. }) => result,
            Err(one) => other.await.map_err(|two| less_clear(one, two)),
        }
    }

    /// Waits out what cannot be read; `None` when the store says that nothing has the name.
    async fn look_until_clear(&mut self) -> Result<Option<Created>, CreateError> {
        loop {
            match self.look().await {
                Look::Found(created) => return Ok(Some(created)),
                Look::Absent => return Ok(None),
                Look::Unclear(error) => self.pause(&error).await?,
            }
        }
    }

    /// Somebody else's tail is believed when it reads the same twice: a bit that flipped on the way must not make us give up
    /// our own object.
    async fn look(&self) -> Look {
        let first = match self.read_tail().await {
            Ok(created) => created,
            Err(StoreError::NotFound { .. }) => return Look::Absent,
            Err(error) => return Look::Unclear(error),
        };
        if first == Created::Ours {
            return Look::Found(first);
        }
        match self.read_tail().await {
            Ok(second) if second == first || second == Created::Ours => Look::Found(second),
            Ok(_) => Look::Unclear(StoreError::maybe(&self.request.key, "two reads gave different bytes")),
            Err(error) => Look::Unclear(error),
        }
    }

    async fn read_tail(&self) -> Result<Created, StoreError> {
        let key = &self.request.key;
        let body = &self.request.body;
        let wanted = self.request.identity_bytes.clamp(1, body.len().max(1)) as u64;
        let read = self.store.read(key, ReadRange::Suffix(wanted));
        let tail = tokio::time::timeout(self.policy.attempt_timeout, read)
            .await
            .map_err(|_| StoreError::maybe(key, "no answer to a read"))??;
        let length = tail.bytes.len() as u64;
        if length != wanted.min(tail.object_size) || tail.start + length != tail.object_size {
            return Err(StoreError::maybe(key, "a read gave less than it promised"));
        }
        if tail.object_size == body.len() as u64 && body.ends_with(&tail.bytes) {
            return Ok(Created::Ours);
        }
        Ok(Created::Theirs { tail: tail.bytes, object_size: tail.object_size })
    }

    /// Waits before the next try, or ends the request at its deadline.
    async fn pause(&mut self, error: &StoreError) -> Result<(), CreateError> {
        let waited = self.env.clock.boot().saturating_sub(self.started);
        if self.policy.deadline.is_some_and(|deadline| waited >= deadline) {
            return Err(CreateError::Deadline { key: self.request.key.clone(), reason: error.to_string() });
        }
        if self.attempts >= 4 && self.attempts.is_power_of_two() {
            tracing::warn!(attempts = self.attempts, waited_ms = waited.as_millis(), %error, "a create is not clear yet");
        }
        tokio::time::sleep(self.backoff.next(self.env.entropy.as_ref())).await;
        Ok(())
    }
}

/// Of two failed attempts at once the one that leaves more open.
fn less_clear(one: StoreError, two: StoreError) -> StoreError {
    let rank = |error: &StoreError| match error {
        StoreError::Taken { .. } => 4,
        StoreError::Maybe { .. } => 3,
        StoreError::Busy { .. } => 2,
        StoreError::NotFound { .. } => 1,
        StoreError::Permanent { .. } => 0,
    };
    if rank(&two) > rank(&one) { two } else { one }
}
