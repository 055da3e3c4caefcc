//! Looks at all of a metadata table: what a person asks for who does not trust it.
//!
//! Replays the entries from the older of the kept snapshots on and compares with the newer one; names gaps, entries that this program can't
//! read, markers of closed generations that have no snapshot behind them. Changes nothing.

use std::collections::BTreeMap;

use serde::Serialize;

use super::MetaOptions;
use super::cluster::{self, Cluster, Place};
use super::entry::{Change, Entry};
use super::error::MetaError;
use super::history::History;
use super::image::Image;
use super::level;
use super::snapshot;
use super::table::TableRef;
use super::truncate::CLOSED_PREFIX;
use crate::store::StoreRef;
use crate::types::Revision;
use crate::types::env::Env;

/// More faults than this are counted, not named.
const FAULTS_NAMED: usize = 100;

/// Entries of one read.
const READ_MAX: usize = 1024;

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Audit {
    pub cluster_id: String,
    pub table: String,
    /// Moves of the table, those included that were given up.
    pub moves: u64,
    pub snapshots: Vec<Revision>,
    /// Generations that are closed; their revisions are deleted, or may be.
    pub closed_generations: Vec<u64>,
    /// The lowest revision that counts, and the highest that there is.
    pub first: Revision,
    pub last: Revision,
    /// Entries that count and could be read.
    pub entries: u64,
    /// The snapshot (0: none) from which they were replayed.
    pub replayed_from: Revision,
    /// The cluster's feature level at the end, and the highest that all open sessions support; 0: it could not be replayed, or no session
    /// is open.
    pub level: u16,
    pub level_supported: u16,
    /// What is wrong, for people. Nothing: the table is sound.
    pub faults: Vec<String>,
    pub more_faults: u64,
}

impl Audit {
    pub fn is_sound(&self) -> bool {
        self.faults.is_empty()
    }

    fn fault(&mut self, text: String) {
        if self.faults.len() < FAULTS_NAMED { self.faults.push(text) } else { self.more_faults += 1 }
    }
}

/// The lowest and the highest revision of the table, if it has any. What lies between is taken to be there.
pub async fn bounds(table: &TableRef) -> Result<Option<(Revision, Revision)>, MetaError> {
    let at_or_after = async |revision: Revision| {
        table.at_or_after(revision).await.map_err(|error| MetaError::Unavailable(error.to_string()))
    };
    let Some(first) = at_or_after(1).await? else { return Ok(None) };
    let (mut last, mut step) = (first, 1);
    loop {
        match at_or_after(last + step).await? {
            Some(found) => (last, step) = (found, step * 2),
            None if step == 1 => return Ok(Some((first, last))),
            None => step = (step / 4).max(1),
        }
    }
}

/// Looks at the table of the cluster in the bucket.
///
/// # Errors
/// Only when something does not answer, or is no cluster's; what is wrong with the content is in the result.
pub async fn audit(
    store: &StoreRef,
    env: &Env,
    table: &TableRef,
    (cluster, place): (&Cluster, &Place),
    options: &MetaOptions,
) -> Result<Audit, MetaError> {
    let history = History::new(store.clone(), table.clone(), env.clone(), options);
    cluster::check(cluster, place, table.name())?;
    let mut audit = Audit {
        cluster_id: cluster.cluster_id.clone(),
        table: table.name().to_owned(),
        moves: place.moves,
        ..Audit::default()
    };
    closed(&history, &mut audit).await?;
    let images = snapshots(&history, &mut audit).await?;
    let before = audit.first - 1;
    let usable: Vec<&Image> = images.values().filter(|image| image.revision >= before).collect();
    let start = usable.first().map(|image| (*image).clone());
    if start.is_none() && before > 0 {
        audit.fault(format!("revisions up to {before} are closed, and no snapshot reaches beyond them"));
    }
    let image = start.unwrap_or_default();
    audit.replayed_from = image.revision;
    walk(&history, &mut audit, image, &images, place).await?;
    Ok(audit)
}

/// Markers of generations: a row without holes, for generations are closed in order.
async fn closed(history: &History, audit: &mut Audit) -> Result<(), MetaError> {
    let keys = history.objects().keys(CLOSED_PREFIX).await?;
    audit.closed_generations = keys.iter().filter_map(|key| key.strip_prefix(CLOSED_PREFIX)?.parse().ok()).collect();
    let generations = audit.closed_generations.clone();
    for (expected, generation) in (0..).zip(&generations) {
        if expected != *generation {
            audit.fault(format!("generation {generation} is closed, and generation {expected} is not"));
            break;
        }
    }
    audit.first = generations.last().map_or(1, |generation| (generation + 1) * history.generation + 1);
    Ok(())
}

async fn snapshots(history: &History, audit: &mut Audit) -> Result<BTreeMap<Revision, Image>, MetaError> {
    audit.snapshots = snapshot::revisions(history.large_objects()).await?;
    let mut images = BTreeMap::new();
    for revision in audit.snapshots.clone() {
        let key = snapshot::key(revision);
        match history.large_objects().read_as(&key, |bytes| snapshot::decode(revision, bytes)).await {
            Ok(Some(image)) => drop(images.insert(revision, image)),
            Ok(None) => {}
            Err(error @ MetaError::Unreadable { .. }) => audit.fault(error.to_string()),
            Err(error) => return Err(error),
        }
    }
    Ok(images)
}

/// All entries that count, in order.
async fn walk(
    history: &History,
    audit: &mut Audit,
    image: Image,
    snapshots: &BTreeMap<Revision, Image>,
    place: &Place,
) -> Result<(), MetaError> {
    let mut replay = Some(image);
    let mut next = audit.first;
    loop {
        let chunk = history.read(next, READ_MAX).await?;
        for (revision, body) in (next..).zip(&chunk.bodies) {
            match Entry::decode(revision, body) {
                Ok(entry) => {
                    audit.entries += 1;
                    check_moves(audit, &entry, place);
                    replay = step(audit, replay, &entry, snapshots);
                }
                Err(error) => {
                    audit.fault(format!("revision {revision}: {error}"));
                    replay = None;
                }
            }
        }
        next += chunk.bodies.len() as u64;
        if !chunk.end {
            continue;
        }
        let beyond = history.table.at_or_after(next).await;
        match beyond.map_err(|error| MetaError::Unavailable(error.to_string()))? {
            // It may have been appended just now.
            Some(found) if found == next => {}
            Some(found) => {
                audit.fault(format!("revisions {next} to {} are not there, {found} is", found - 1));
                (next, replay) = (found, None);
            }
            None => break,
        }
    }
    audit.last = next - 1;
    if let Some(image) = &replay {
        audit.level = image.level;
        audit.level_supported = level::supported_by_all(image).unwrap_or(0);
    }
    let newest = audit.snapshots.last().copied().unwrap_or(0);
    if newest > audit.last {
        audit.fault(format!("a snapshot of revision {newest} is there, and the table ends at {}", audit.last));
    }
    Ok(())
}

fn check_moves(audit: &mut Audit, entry: &Entry, place: &Place) {
    for change in &entry.changes {
        if let Change::MoveTable { to } = change
            && entry.revision > place.revision
        {
            let revision = entry.revision;
            audit.fault(format!("revision {revision}: a move to {to} was begun and not finished; the next broker that starts gives it up"));
        }
    }
}

/// Applies the entry if it is the next one; `None` once the replay is broken.
fn step(
    audit: &mut Audit,
    replay: Option<Image>,
    entry: &Entry,
    snapshots: &BTreeMap<Revision, Image>,
) -> Option<Image> {
    let mut image = replay?;
    if entry.revision <= image.revision {
        return Some(image);
    }
    if let Err(error) = image.apply(entry) {
        audit.fault(format!("revision {}: {error}", entry.revision));
        return None;
    }
    if snapshots.get(&image.revision).is_some_and(|snapshot| *snapshot != image) {
        audit.fault(format!("the snapshot of revision {} is not what the entries give", image.revision));
    }
    Some(image)
}
