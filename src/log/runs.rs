//! Turns readers from segments to the runs that stand for them.
//!
//! The image says which runs there are. Whoever merged hands the manifest over, otherwise it is read; then every open partition
//! gets the run's extents in the place of those of the merged segments. Segments are deleted only when every broker had the time
//! to do so (`maintain::collect`); a reader that comes too late finds an object missing, and asks for this once more.
//!
//! A partition that is being recovered meanwhile is not open. [`RunBook::switched`] tells its recovery what it has missed: a run is noted
//! there before the partitions are looked at, so either the recovery sees the note, or its partition is open when it is looked for.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};

use super::Log;
use super::fetch::{Ahead, Batches, ReadError};
use super::index::{IndexedExtent, ObjectRef, Window};
use super::recover::RecoveryError;
use super::slot::PartitionSlot;
use crate::meta::image::{Image, Run};
use crate::segment::Manifest;
use crate::store::StoreError;
use crate::types::mutant::{self, Mutant};
use crate::types::{Offset, PartitionId, RunId, SessionId};

/// After so many reads that the store did not answer it is not asked for more manifests.
const SILENT_MAX: usize = 2;

/// A run that readers are to be turned to.
#[derive(Clone, Copy)]
struct NextRun {
    session: SessionId,
    /// So many runs of the session come before it.
    at: usize,
    run: Run,
}

/// How many runs of each session readers were turned to.
#[derive(Debug, Default)]
pub struct Switched {
    counts: BTreeMap<SessionId, usize>,
}

impl Switched {
    pub fn of(&self, session: SessionId) -> usize {
        self.counts.get(&session).copied().unwrap_or(0)
    }

    /// Runs in the image that are not noted here.
    fn new_runs(&self, image: &Image) -> Vec<NextRun> {
        let sessions = image.merges.sessions.iter();
        sessions
            .flat_map(|(session, merged)| {
                let runs = merged.runs.iter().enumerate().skip(self.of(*session));
                runs.map(|(at, run)| NextRun { session: *session, at, run: *run })
            })
            .collect()
    }
}

#[derive(Default)]
pub struct RunBook {
    switched: Mutex<Switched>,
    /// Manifests that this process wrote itself.
    own: Mutex<BTreeMap<RunId, Arc<Manifest>>>,
    /// Whoever reads manifests.
    following: tokio::sync::Mutex<()>,
}

impl RunBook {
    /// For a session without partitions: what the image has now is read when they are recovered.
    pub fn new(image: &Image) -> RunBook {
        let counts = image.merges.sessions.iter().map(|(session, merged)| (*session, merged.runs.len())).collect();
        RunBook { switched: Mutex::new(Switched { counts }), ..RunBook::default() }
    }

    pub fn switched(&self) -> MutexGuard<'_, Switched> {
        self.switched.lock()
    }

    /// Keeps a manifest that is about to be committed, so that it need not be read.
    pub fn bring(&self, manifest: Arc<Manifest>) {
        self.own.lock().insert(manifest.run, manifest);
    }

    fn take_own(&self, run: RunId) -> Option<Arc<Manifest>> {
        self.own.lock().remove(&run)
    }

    /// Forgets one that was not.
    pub fn drop_own(&self, run: RunId) {
        self.own.lock().remove(&run);
    }
}

impl Log {
    /// Turns readers to the runs whose manifests this process brought: needs no store.
    pub fn follow_own_runs(&self) {
        let mut unread = BTreeSet::new();
        for next in self.new_runs() {
            if unread.contains(&next.session) {
                continue;
            }
            match self.runs.take_own(next.run.id) {
                Some(manifest) => self.turn(next, &manifest),
                None => drop(unread.insert(next.session)),
            }
        }
    }

    /// Turns readers to all runs that the image has by now. A manifest that can't be read holds up the runs of its session behind it; the first
    /// such error is given. A store that does not answer twice is not asked on.
    pub async fn follow_runs(&self) -> Result<(), RecoveryError> {
        self.follow_own_runs();
        // Each is read by one task.
        let _one_at_a_time = self.runs.following.lock().await;
        let mut unread: BTreeMap<SessionId, RecoveryError> = BTreeMap::new();
        let mut silent = 0;
        for next in self.new_runs() {
            if unread.contains_key(&next.session) {
                continue;
            }
            let manifest = match self.runs.take_own(next.run.id) {
                Some(manifest) => Ok(manifest),
                None => self.footers.manifest(next.run.id).await.map(Arc::new),
            };
            match manifest {
                Ok(manifest) => self.turn(next, &manifest),
                Err(error) => {
                    silent += usize::from(error.is_passing());
                    unread.insert(next.session, error);
                    if silent == SILENT_MAX {
                        break;
                    }
                }
            }
        }
        unread.into_values().next().map_or(Ok(()), Err)
    }

    fn new_runs(&self) -> Vec<NextRun> {
        if mutant::on(Mutant::KeepOldIndex) {
            return Vec::new();
        }
        // This lock before the image's, as recovery takes them.
        let switched = self.runs.switched();
        self.meta.read(|image| switched.new_runs(image))
    }

    /// Notes the run and turns the partitions to it that are open, unless another task did.
    fn turn(&self, next: NextRun, manifest: &Manifest) {
        {
            let mut switched = self.runs.switched();
            let count = switched.counts.entry(next.session).or_default();
            if *count != next.at {
                return;
            }
            *count += 1;
        }
        self.switch(next.session, next.run, manifest);
    }

    fn switch(&self, session: SessionId, run: Run, manifest: &Manifest) {
        let window = Window { session, from: run.from, to: run.to };
        let mut extents: Vec<(PartitionId, IndexedExtent)> = Vec::new();
        for (number, body_length, extent) in manifest.extents() {
            let object = ObjectRef::run(run.id, number, body_length);
            extents.push((extent.partition, IndexedExtent::of_run(object, extent)));
        }
        for same in extents.chunk_by(|a, b| a.0 == b.0) {
            let id = same[0].0;
            let Some(slot) = self.slots.get(id) else { continue };
            let extents: Vec<IndexedExtent> = same.iter().map(|(_, extent)| extent.clone()).collect();
            let fits = slot.lock().held().is_none_or(|partition| partition.switch(window, &extents));
            if !fits {
                tracing::error!(partition = %id, run = %run.id, %session, from = run.from, to = run.to,
                    "a run does not hold the offsets of the segments that it stands for: readers keep to the segments");
            }
        }
    }

    /// As [`super::fetch::Reader::run`]; an object that is missing is looked for once more where the image says that it is now.
    pub async fn run_again(
        &self,
        slot: &PartitionSlot,
        offset: Offset,
        max_bytes: usize,
        first_whole: bool,
        ahead: &Ahead,
    ) -> Result<Batches, ReadError> {
        self.refresh(slot).await;
        let plan = super::fetch::plan::Plan::make(slot.lock().partition()?, offset, max_bytes)?;
        self.reader.run(slot, &plan, offset, max_bytes, first_whole, ahead).await
    }

    /// As [`super::fetch::Reader::read`], with a second look for an object that is missing.
    pub async fn read(
        &self,
        slot: &PartitionSlot,
        offset: Offset,
        max_bytes: usize,
        first_whole: bool,
    ) -> Result<Batches, ReadError> {
        match self.reader.read(slot, offset, max_bytes, first_whole).await {
            Err(error) if error.is_missing() => {
                self.refresh(slot).await;
                self.reader.read(slot, offset, max_bytes, first_whole).await
            }
            read => read,
        }
    }

    /// Reads the table's tail and turns readers to what was merged. What fails here shows in the read that follows.
    pub async fn refresh(&self, slot: &PartitionSlot) {
        let refreshed = async {
            self.meta.catch_up_hint().await.map_err(|error| error.to_string())?;
            self.follow_runs().await.map_err(|error| error.to_string())
        };
        match refreshed.await {
            Ok(()) => tracing::debug!(partition = %slot.id, "an object was missing: looked where its records are now"),
            Err(error) => {
                tracing::warn!(partition = %slot.id, error, "an object is missing, and the runs can't be read")
            }
        }
    }
}

impl ReadError {
    /// An object is not there: it may have been merged.
    pub fn is_missing(&self) -> bool {
        matches!(self, ReadError::Store(StoreError::NotFound { .. }))
    }
}
