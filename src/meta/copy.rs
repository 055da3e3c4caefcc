//! Moves a stopped cluster to another table.
//!
//! 1. All entries that count are appended to the new table, byte for byte; what is there already must be the same.
//! 2. [`Change::MoveTable`] is appended to the old table, behind the last entry that was copied: whoever still runs on it, unseen, reads
//!    it and stops, and what it had on its way to that revision is lost. An append that lost the revision to somebody else means that
//!    somebody is alive: the copy ends there.
//! 3. That entry is copied as well, and the new table is read back, compared with the old one, and replayed.
//! 4. `meta/moved/<number>` is created: from now on the new table is the valid one.
//!
//! A crash before step 4 leaves the old table valid: a broker that starts on it takes the number of step 4 for the old table, so that a
//! copy that wakes up later can't have it ([`super::cluster`]). A copy that is begun again goes on where the first one ended. The same steps
//! lead back. Snapshots and markers stay in the bucket throughout.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};

use super::alive::living;
use super::backends::{self, TableSettings};
use super::cluster::{self, Cluster, Place};
use super::entry::{Change, Entry};
use super::error::MetaError;
use super::history::{History, Outcome, Waiters};
use super::retry::{Pauses, until};
use super::table::{Append, TableError, TableRef};
use super::truncate::{CLOSED_PREFIX, generation_of, is_closed};
use super::{MetaOptions, load_or_stay};
use crate::store::StoreRef;
use crate::types::Revision;
use crate::types::env::Env;

/// Appends side by side.
const SIDE_BY_SIDE: usize = 16;

/// One entry is tried for so long.
const APPEND_LIMIT: Duration = Duration::from_secs(60);

/// What was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copied {
    pub cluster_id: String,
    pub from: String,
    pub to: String,
    /// Entries that the new table holds.
    pub entries: u64,
    /// The last of them.
    pub revision: Revision,
}

/// Copies the cluster's table, which `from` names, to the one that `to` names, and makes that one the cluster's.
///
/// # Errors
/// A broker is alive; the tables hold different histories; or a table or the bucket failed: then the old table is still the valid one.
pub async fn copy(
    store: &StoreRef,
    env: &Env,
    from: &TableSettings,
    to: &TableSettings,
    options: &MetaOptions,
) -> Result<Copied, MetaError> {
    let (cluster, place, source) = backends::find(store, env, from).await?;
    if source.name() == to.url.address() {
        return Err(MetaError::WrongCluster(format!("the metadata table is in {} already", source.name())));
    }
    let target = backends::target(store, env, to, &cluster.cluster_id).await?;
    copy_tables(store, env, (cluster, place), source, target, options).await
}

/// The same, of tables that are open already.
pub async fn copy_between(
    store: &StoreRef,
    env: &Env,
    source: TableRef,
    target: TableRef,
    options: &MetaOptions,
) -> Result<Copied, MetaError> {
    let history = History::new(store.clone(), source.clone(), env.clone(), options);
    let (cluster, place) = cluster::join(history.objects(), env, source.name()).await?;
    copy_tables(store, env, (cluster, place), source, target, options).await
}

async fn copy_tables(
    store: &StoreRef,
    env: &Env,
    (cluster, place): (Cluster, Place),
    source: TableRef,
    target: TableRef,
    options: &MetaOptions,
) -> Result<Copied, MetaError> {
    let mut source = History::new(store.clone(), source, env.clone(), options);
    let target = History::new(store.clone(), target, env.clone(), options);
    let (image, _) = load_or_stay(&mut source, place.clone()).await?;
    let objects = source.objects();
    let living = living(objects, &image).await?;
    if let Some(session) = living.first() {
        let node = image.sessions.get(session).map_or(-1, |session| session.node_id);
        return Err(MetaError::WrongCluster(format!(
            "broker {node} is alive (session {session} wrote a segment just now): stop all brokers, then copy"
        )));
    }
    // What was pending is settled by now, and counts.
    let place = cluster::find(objects).await?.map_or(place, |(_, place)| place);
    let start = first_live(&source).await?;
    copy_range(&source, &target, start, image.revision).await?;
    let last = mark_the_move(&source, image.revision + 1, target.table.name()).await?;
    copy_range(&source, &target, image.revision + 1, last).await?;
    let entries = compare(&source, &target, start, last).await?;
    replay(&target, last).await?;
    let settled = cluster::settle(objects, place.moves + 1, target.table.name(), last).await?;
    if settled.table != target.table.name() || settled.revision != last {
        return Err(MetaError::WrongCluster(format!(
            "the table was settled in {} meanwhile, at revision {}: a broker started, or another copy was quicker",
            settled.table, settled.revision
        )));
    }
    Ok(Copied {
        cluster_id: cluster.cluster_id,
        from: source.table.name().to_owned(),
        to: target.table.name().to_owned(),
        entries,
        revision: last,
    })
}

/// The first revision that no closed generation holds.
async fn first_live(source: &History) -> Result<Revision, MetaError> {
    let closed = source.objects().keys(CLOSED_PREFIX).await?;
    let newest = closed.iter().filter_map(|key| key.strip_prefix(CLOSED_PREFIX)?.parse::<u64>().ok()).max();
    Ok(newest.map_or(1, |generation| (generation + 1) * source.generation + 1))
}

/// Appends the revisions `from..=to` of the one to the other.
async fn copy_range(source: &History, target: &History, from: Revision, to: Revision) -> Result<(), MetaError> {
    let mut next = from;
    while next <= to {
        let bodies = bodies(source, next, to).await?;
        let appends = (next..).zip(&bodies).map(|(revision, body)| append(target, revision, body));
        futures::stream::iter(appends).buffer_unordered(SIDE_BY_SIDE).try_collect::<Vec<()>>().await?;
        next += bodies.len() as u64;
    }
    Ok(())
}

/// Some of the revisions from `from` on, at least one.
async fn bodies(table: &History, from: Revision, to: Revision) -> Result<Vec<Bytes>, MetaError> {
    let wanted = usize::try_from(to - from + 1).unwrap_or(usize::MAX);
    let bodies = table.read(from, wanted.min(1024)).await?.bodies;
    if bodies.is_empty() {
        return Err(MetaError::unreadable(format!("{}, revision {from}", table.table.name()), "it is not there"));
    }
    Ok(bodies)
}

async fn append(target: &History, revision: Revision, body: &Bytes) -> Result<(), MetaError> {
    let again = |error: &TableError| matches!(error, TableError::Unavailable(_));
    let late = || TableError::Unavailable(format!("revision {revision}: no answer within {APPEND_LIMIT:?}"));
    let attempt = || async {
        match target.table.append(revision, body.clone()).await? {
            Append::Appended | Append::Taken => Ok(()),
            Append::Unknown { reason } => Err(TableError::Unavailable(reason)),
        }
    };
    until(&target.env, APPEND_LIMIT, again, late, attempt).await.map_err(|error| match error {
        TableError::Permanent(reason) => MetaError::Refused(reason),
        TableError::Unavailable(reason) => MetaError::Unavailable(reason),
    })
}

/// Step 2. Returns the revision of the mark.
async fn mark_the_move(source: &History, revision: Revision, to: &str) -> Result<Revision, MetaError> {
    let change = Change::MoveTable { to: to.to_owned() };
    let entry = Entry::new(revision, source.env.entropy.next_u128(), vec![change]);
    // Somebody waits for it, to the end.
    let waiters = Waiters { gone: vec![Arc::default()], ..Waiters::default() };
    match source.append(&entry, &waiters).await {
        Outcome::Counted => Ok(revision),
        Outcome::Lost(_) | Outcome::Truncated => Err(MetaError::WrongCluster(format!(
            "{}: somebody changed it while it was copied (revision {revision}): stop all brokers, then copy",
            source.table.name()
        ))),
        Outcome::Refused(reason) => Err(MetaError::Refused(reason)),
        Outcome::Abandoned => Err(MetaError::Unavailable("given up".to_owned())),
        Outcome::Broken(error) => Err(error),
    }
}

/// Both hold the same bytes at `from..=to`, and the new one nothing behind them. Returns how many entries that are.
async fn compare(source: &History, target: &History, from: Revision, to: Revision) -> Result<u64, MetaError> {
    let differs = |revision: Revision| {
        let reason = format!("it holds another history than {}: use an empty table", source.table.name());
        MetaError::unreadable(format!("{}, revision {revision}", target.table.name()), reason)
    };
    let mut next = from;
    while next <= to {
        let here = bodies(source, next, to).await?;
        let mut pauses = Pauses::new(&target.env);
        let mut there = bodies(target, next, to).await?;
        // The fault may be on the way.
        if here.iter().zip(&there).any(|(here, there)| here != there) {
            pauses.pause().await;
            there = bodies(target, next, to).await?;
        }
        for (revision, (here, there)) in (next..).zip(here.iter().zip(&there)) {
            if here != there {
                return Err(differs(revision));
            }
        }
        next += here.len().min(there.len()) as u64;
    }
    let beyond = target.table.at_or_after(to + 1).await;
    match beyond.map_err(|error| MetaError::Unavailable(error.to_string()))? {
        Some(revision) => Err(differs(revision)),
        None => Ok(to + 1 - from),
    }
}

/// A broker can read the new table from the newest snapshot to the end.
async fn replay(target: &History, last: Revision) -> Result<(), MetaError> {
    let mut image = target.newest_snapshot().await?;
    while image.revision < last {
        if is_closed(target.objects(), generation_of(image.revision + 1, target.generation)).await? {
            let reason = "the newest snapshot lies in a closed generation";
            return Err(MetaError::unreadable(format!("revision {}", image.revision), reason));
        }
        let next = image.revision + 1;
        for (revision, body) in (next..).zip(&bodies(target, next, last).await?) {
            let name = || format!("{}, revision {revision}", target.table.name());
            let entry = Entry::decode(revision, body).map_err(|error| MetaError::unreadable(name(), error))?;
            image.apply(&entry).map_err(|error| MetaError::unreadable(name(), error))?;
        }
    }
    Ok(())
}
