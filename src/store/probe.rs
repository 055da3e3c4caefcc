//! Asks a store, before anything is trusted to it, whether a name can be created once only.
//!
//! It shows that conditions are understood and, as far as a small race can, atomic. It cannot show that they stay so when the
//! store itself is in trouble (a server farm without its quorum).

use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;

use super::retry::{ReadPolicy, read_retrying};
use super::{ReadRange, Store, StoreError, StoreRef};
use crate::types::env::Env;

/// Creators in one race, and races.
const RACERS: usize = 8;
const RACES: usize = 2;
/// A step that stays unclear for so long ends the probe.
const STEP_DEADLINE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(250);

/// Why a store is refused.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    #[error("the store {store} cannot be used: {error}")]
    Unusable { store: String, error: StoreError },
    #[error("the store {store} was asked whether it can create a name only once, and it cannot: {what}")]
    NotCreateOnly { store: String, what: String },
}

/// Creates, reads and deletes a few small objects under `meta/probe/`.
pub async fn probe(store: &StoreRef, env: &Env) -> Result<(), ProbeError> {
    let folder = format!("meta/probe/{:032x}", env.entropy.next_u128());
    let mut keys = Vec::new();
    let result = run(store.as_ref(), env, &folder, &mut keys).await;
    for key in keys {
        if let Err(error) = store.delete(&key).await {
            tracing::warn!(%error, "an object of the probe stays behind");
        }
    }
    result
}

async fn run(store: &dyn Store, env: &Env, folder: &str, keys: &mut Vec<String>) -> Result<(), ProbeError> {
    let not_create_only = |what: String| ProbeError::NotCreateOnly { store: store.describe(), what };
    let policy = ReadPolicy { deadline: STEP_DEADLINE, ..ReadPolicy::default() };
    let unusable = |error| ProbeError::Unusable { store: store.describe(), error };

    let key = format!("{folder}/twice");
    if let Err(error) = store.read(&key, ReadRange::Full).await
        && error.is_passing()
    {
        tracing::warn!(%error, "the store does not answer yet; trying for {} s", STEP_DEADLINE.as_secs());
    }
    match read_retrying(store, env, &key, ReadRange::Full, &policy).await {
        Err(StoreError::NotFound { .. }) => {}
        Err(error) => return Err(unusable(error)),
        Ok(_) => return Err(not_create_only(format!("it has an object {key} that nobody wrote"))),
    }
    keys.push(key.clone());
    let first = Bytes::from_static(b"first");
    create_clearly(store, env, &key, &first).await.map_err(unusable)?;
    match create_clearly(store, env, &key, &Bytes::from_static(b"second")).await {
        Err(StoreError::Taken { .. }) => {}
        Err(error) => return Err(unusable(error)),
        Ok(()) => return Err(not_create_only("a second create of one name succeeded".to_owned())),
    }
    let read = read_retrying(store, env, &key, ReadRange::Full, &policy).await.map_err(unusable)?;
    if read.bytes != first {
        return Err(not_create_only("a refused create replaced the object".to_owned()));
    }
    for race in 0..RACES {
        let key = format!("{folder}/race-{race}");
        keys.push(key.clone());
        self::race(store, env, &key, &policy).await?;
    }
    Ok(())
}

/// Several creators of one name at once: no two may win, and the winner's bytes must be the object.
async fn race(store: &dyn Store, env: &Env, key: &str, policy: &ReadPolicy) -> Result<(), ProbeError> {
    let racers = (0..RACERS).map(|racer| async move { store.create(key, Bytes::from(format!("racer {racer}"))).await });
    let results = join_all(racers).await;
    let winners: Vec<usize> = (0..RACERS).filter(|racer| results[*racer].is_ok()).collect();
    let not_create_only = |what: String| ProbeError::NotCreateOnly { store: store.describe(), what };
    let unusable = |error| ProbeError::Unusable { store: store.describe(), error };
    if winners.len() > 1 {
        return Err(not_create_only(format!("{} of {RACERS} racing creates of one name succeeded", winners.len())));
    }
    let Some(winner) = winners.first() else {
        // A lost answer may hide the winner; without one, nothing can have been taken.
        let unclear = results.iter().flat_map(|result| result.as_ref().err()).find(|error| error.is_passing());
        return match unclear {
            Some(_) => Ok(()),
            None => Err(not_create_only("none of the racing creates of a free name succeeded".to_owned())),
        };
    };
    let read = read_retrying(store, env, key, ReadRange::Full, policy).await.map_err(unusable)?;
    if read.bytes != format!("racer {winner}") {
        return Err(not_create_only("a racing create that was refused is the object".to_owned()));
    }
    Ok(())
}

/// Tries until the answer is plain. A create that finds its own bytes counts as done.
async fn create_clearly(store: &dyn Store, env: &Env, key: &str, body: &Bytes) -> Result<(), StoreError> {
    let started = env.clock.boot();
    let mut unclear = false;
    loop {
        let error = match store.create(key, body.clone()).await {
            Ok(()) => return Ok(()),
            Err(StoreError::Taken { .. }) if unclear => {
                let read = store.read(key, ReadRange::Full).await?;
                return if read.bytes == *body { Ok(()) } else { Err(StoreError::taken(key)) };
            }
            Err(error) if error.is_passing() => error,
            Err(error) => return Err(error),
        };
        unclear = true;
        if env.clock.boot().saturating_sub(started) >= STEP_DEADLINE {
            return Err(error);
        }
        tokio::time::sleep(PAUSE).await;
    }
}
