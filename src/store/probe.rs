//! Asks a store, before anything is trusted to it, whether a name can be created once only.
//!
//! It shows that conditions are understood and, as far as a small race can, atomic. It cannot show that they stay so when the
//! store itself is in trouble (a server farm without its quorum).
//!
//! ```text
//! read meta/probe/passed-… ──what we would write──► create it again ──taken, or unclear──► Before: two requests in all
//!          │                                              └──done: the name came twice─┐
//!          └──absent, or anything else─────────────────────────────────────────────────┴─► twice, races ─► remember ─► Now
//! ```
//!
//! A store that passed is remembered in itself, under a name that follows from its endpoint and from what the probe does: another
//! endpoint (a copied bucket) and another probe ask again. The object is only ever a reason to ask less. Who deletes it makes the
//! next start ask more, who damages it makes every start do so.
//!
//! All other objects are deleted whatever the result, also when the limit has passed or the broker is told to stop. A process
//! that is killed in between, or a create that lands after its deletion, leaves a few bytes under `meta/probe/<random>/`, which
//! nobody reads. Nothing sweeps them: they might be those of a broker that probes right now.

use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use serde::Serialize;

use super::retry::{Backoff, ReadPolicy, read_retrying};
use super::{ReadBytes, ReadRange, Store, StoreError, StoreRef};
use crate::types::env::Env;

/// Version of the object that remembers.
const FORMAT_VERSION: u32 = 1;
/// What the probe does. Raised whenever it asks more, so that stores that passed the lesser one are asked again.
pub const PROBE_VERSION: u32 = 1;

/// Creators in one race, and races.
const RACERS: usize = 8;
const RACES: usize = 2;
/// One request, besides the adapter's own limit.
const ATTEMPT_LIMIT: Duration = Duration::from_secs(4);
/// A step that stays unclear for so long ends the probe.
const STEP_DEADLINE: Duration = Duration::from_secs(10);
/// All of it, however slowly each step goes on.
const PROBE_LIMIT: Duration = Duration::from_secs(30);
const CLEANUP_LIMIT: Duration = Duration::from_secs(1);
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// How a store passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passed {
    /// It was asked everything.
    Now,
    /// It had been; now it was only asked whether the promise still holds.
    Before,
}

/// Why a store is refused.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    #[error("it cannot be used: {0}")]
    Unusable(#[from] StoreError),
    #[error("it was asked whether it can create a name only once, and it cannot: {0}")]
    NotCreateOnly(String),
    #[error("it is too slow to start on: {} s passed while {step}; check the way to the store and its load", PROBE_LIMIT.as_secs())]
    TooSlow { step: &'static str },
    /// `stop` came first.
    #[error("stopped while the store was probed")]
    Stopped,
}

/// The object that remembers a store that passed. JSON, with its fields in this order.
#[derive(Serialize)]
struct Remembered<'a> {
    version: u32,
    probe_version: u32,
    endpoint: &'a str,
}

/// Creates, reads and deletes a few small objects under `meta/probe/`, unless the store passed before; ends early with `stop`.
pub async fn probe(store: &StoreRef, env: &Env, stop: impl Future<Output = ()>) -> Result<Passed, ProbeError> {
    let folder = format!("meta/probe/{:032x}", env.entropy.next_u128());
    let mut run = Run { store: store.as_ref(), env, folder, step: "reading", keys: Vec::new() };
    let result = tokio::select! {
        biased;
        () = stop => None,
        result = tokio::time::timeout(PROBE_LIMIT, run.all()) => Some(result),
    };
    run.clean_up().await;
    match result {
        None => Err(ProbeError::Stopped),
        Some(Ok(result)) => result,
        Some(Err(_)) => Err(ProbeError::TooSlow { step: run.step }),
    }
}

/// Where a store that passed is remembered, and the bytes. The body decides; the name is only as good as a checksum.
pub fn remembered(endpoint: &str) -> (String, Bytes) {
    let body = Remembered { version: FORMAT_VERSION, probe_version: PROBE_VERSION, endpoint };
    let body = serde_json::to_vec(&body).expect("text and numbers are always JSON");
    let name = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc64Nvme, &body);
    (format!("meta/probe/passed-{name:016x}"), Bytes::from(body))
}

struct Run<'a> {
    store: &'a dyn Store,
    env: &'a Env,
    folder: String,
    /// What takes so long, for the error.
    step: &'static str,
    /// To be deleted in the end.
    keys: Vec<String>,
}

impl Run<'_> {
    async fn all(&mut self) -> Result<Passed, ProbeError> {
        let (key, body) = remembered(&self.store.endpoint());
        if self.passed_before(&key, &body).await? {
            return Ok(Passed::Before);
        }
        self.twice().await?;
        for number in 0..RACES {
            self.race(number).await?;
        }
        self.step = "remembering that the store passed";
        match self.attempt(&key, &body).await {
            Ok(()) | Err(StoreError::Taken { .. }) => {}
            Err(error) => tracing::warn!(%error, "that the store passed its probe is not remembered"),
        }
        Ok(Passed::Now)
    }

    /// Whether the store is remembered and still refuses a name that is taken. The bytes are the same, so that a store that
    /// replaces them does no harm.
    async fn passed_before(&mut self, key: &str, body: &Bytes) -> Result<bool, ProbeError> {
        self.step = "reading whether the store passed before";
        match self.read(key).await {
            Err(StoreError::NotFound { .. }) => return Ok(false),
            Err(error) => return Err(error.into()),
            Ok(read) if read.bytes != body => {
                tracing::warn!(key, "is not what a probe writes: probing again");
                return Ok(false);
            }
            Ok(_) => {}
        }
        self.step = "creating a name that is taken";
        match self.attempt(key, body).await {
            Ok(()) => {
                tracing::warn!(key, "was created a second time: probing again");
                Ok(false)
            }
            // Whether the store answers in time is for the session to find out.
            Err(StoreError::Taken { .. } | StoreError::Busy { .. } | StoreError::Maybe { .. }) => Ok(true),
            Err(error) => Err(error.into()),
        }
    }

    /// One creator after the other.
    async fn twice(&mut self) -> Result<(), ProbeError> {
        let key = format!("{}/twice", self.folder);
        self.step = "reading a name that is free";
        match self.read(&key).await {
            Err(StoreError::NotFound { .. }) => {}
            Err(error) => return Err(error.into()),
            Ok(_) => return Err(not_create_only(format!("it has an object {key} that nobody wrote"))),
        }
        self.keys.push(key.clone());
        self.step = "creating an object";
        let first = Bytes::from_static(b"first");
        self.create(&key, &first).await?;
        self.step = "creating a name that is taken";
        match self.create(&key, &Bytes::from_static(b"second")).await {
            Err(StoreError::Taken { .. }) => {}
            Err(error) => return Err(error.into()),
            Ok(()) => return Err(not_create_only("a second create of one name took effect: it ignores If-None-Match")),
        }
        self.step = "reading an object back";
        if self.read(&key).await?.bytes != first {
            return Err(not_create_only("a refused create changed the object"));
        }
        Ok(())
    }

    /// Several creators of one name at once: no two may win, and the winner's bytes must be the object.
    async fn race(&mut self, number: usize) -> Result<(), ProbeError> {
        let key = format!("{}/race-{number}", self.folder);
        self.keys.push(key.clone());
        self.step = "creating one name many times at once";
        let bodies: Vec<Bytes> = (0..RACERS).map(|racer| Bytes::from(format!("racer {racer}"))).collect();
        let results = join_all(bodies.iter().map(|body| self.attempt(&key, body))).await;
        let winners: Vec<usize> = (0..RACERS).filter(|racer| results[*racer].is_ok()).collect();
        if winners.len() > 1 {
            let count = winners.len();
            return Err(not_create_only(format!("{count} of {RACERS} racing creates of one name succeeded")));
        }
        let errors = || results.iter().filter_map(|result| result.as_ref().err());
        let refused = errors().find(|error| matches!(error, StoreError::Permanent { .. }));
        if let Some(refused) = refused {
            return Err(refused.clone().into());
        }
        self.step = "reading who won";
        match (self.read(&key).await, winners.first()) {
            (Ok(read), Some(winner)) if read.bytes != bodies[*winner] => {
                Err(not_create_only("a racing create that was refused is the object"))
            }
            (Ok(_), _) => Ok(()),
            // Without a winner every answer may have been lost before it took effect, unless all were plain.
            (Err(StoreError::NotFound { .. }), None) if errors().any(StoreError::is_passing) => Ok(()),
            (Err(StoreError::NotFound { .. }), None) => {
                Err(not_create_only("none of the racing creates of a free name took effect"))
            }
            (Err(StoreError::NotFound { .. }), Some(_)) => {
                Err(not_create_only("an object that was created is not there"))
            }
            (Err(error), _) => Err(error.into()),
        }
    }

    /// Reads until the answer is plain, and says so once when it is not.
    async fn read(&self, key: &str) -> Result<ReadBytes, StoreError> {
        let policy = ReadPolicy {
            first_backoff: FIRST_PAUSE,
            max_backoff: LONGEST_PAUSE,
            attempt_timeout: ATTEMPT_LIMIT,
            deadline: STEP_DEADLINE,
        };
        let mut patient = std::pin::pin!(read_retrying(self.store, self.env, key, ReadRange::Full, &policy));
        tokio::select! {
            biased;
            result = &mut patient => return result,
            () = tokio::time::sleep(LONGEST_PAUSE) => {}
        }
        tracing::warn!("the store does not answer yet; trying for {} s", STEP_DEADLINE.as_secs());
        patient.await
    }

    async fn attempt(&self, key: &str, body: &Bytes) -> Result<(), StoreError> {
        let late = |_| Err(StoreError::maybe(key, format!("no answer to a create within {ATTEMPT_LIMIT:?}")));
        tokio::time::timeout(ATTEMPT_LIMIT, self.store.create(key, body.clone())).await.unwrap_or_else(late)
    }

    /// Tries until the answer is plain. A create that finds its own bytes counts as done: an earlier attempt may have met itself.
    async fn create(&self, key: &str, body: &Bytes) -> Result<(), StoreError> {
        let started = self.env.clock.boot();
        let mut backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
        loop {
            let error = match self.attempt(key, body).await {
                Ok(()) => return Ok(()),
                Err(StoreError::Taken { .. }) => {
                    let ours = self.read(key).await?.bytes == *body;
                    return if ours { Ok(()) } else { Err(StoreError::taken(key)) };
                }
                Err(error) if error.is_passing() => error,
                Err(error) => return Err(error),
            };
            let pause = backoff.next(self.env.entropy.as_ref());
            if self.env.clock.boot().saturating_sub(started) + pause >= STEP_DEADLINE {
                return Err(error);
            }
            tokio::time::sleep(pause).await;
        }
    }

    async fn clean_up(&self) {
        let deleting = join_all(self.keys.iter().map(|key| self.delete(key)));
        if tokio::time::timeout(CLEANUP_LIMIT, deleting).await.is_err() {
            tracing::warn!(
                folder = self.folder,
                "objects of the probe stay behind: the store is slow; they do no harm"
            );
        }
    }

    async fn delete(&self, key: &str) {
        let mut backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
        while let Err(error) = self.store.delete(key).await {
            if !error.is_passing() {
                return tracing::warn!(%error, "an object of the probe stays behind; it does no harm");
            }
            tokio::time::sleep(backoff.next(self.env.entropy.as_ref())).await;
        }
    }
}

fn not_create_only(what: impl Into<String>) -> ProbeError {
    ProbeError::NotCreateOnly(what.into())
}
