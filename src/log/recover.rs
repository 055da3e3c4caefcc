//! Rebuilds partitions from the newest checkpoint, the runs, and the footers of the segments of all their tenures that are not merged.
//!
//! The image says which sessions wrote a partition, under which epochs and up to which segment, and what of it was merged. Manifests
//! and footers are read once per session for all partitions that are taken over, footers 64 at a time where a segment repeats those
//! before it. Whatever is missing, damaged or
//! does not fit stops the recovery of the partitions that need it, with an error that names the object: nothing is ever skipped.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::StreamExt;
use futures::future::try_join_all;
use futures::stream::iter;
use tokio::time::Instant;

use super::index::ObjectRef;
use super::partition::{Partition, RecoverError};
use crate::meta::image::{Merges, PartitionState};
use crate::segment::{
    ExtentMeta, Footer, Manifest, PartitionCheckpoint, RunExtent, RunTail, SegmentError, SegmentTail, Tail,
    manifest_key, parse_run_tail, parse_tail, segment_key,
};
use crate::store::retry::{Backoff, ReadPolicy, read_retrying};
use crate::store::{ReadRange, StoreError, StoreRef};
use crate::types::env::Env;
use crate::types::mutant::{self, Mutant};
use crate::types::{LeaseEpoch, PartitionId, RunId, SegmentNumber, SessionId, TimestampMs};

/// Segments that repeat footers are this far apart (written by the flusher).
const REPEAT_EVERY: SegmentNumber = 64;

/// Reads of one session side by side, and sessions. In a cluster whose brokers come and go a partition has many tenures, most of them short.
const PARALLEL: usize = 32;
const PARALLEL_SESSIONS: usize = 16;

/// A segment of a session that lives is waited for so long, and looked for so often.
const PATIENCE: Duration = Duration::from_secs(1);
const FIRST_AWAITED_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_AWAITED_PAUSE: Duration = Duration::from_millis(100);

/// An object that looks damaged is read so often again.
const DAMAGED_LOOKS: usize = 2;

/// What one suffix read asks for at first, in bytes.
const TAIL_BYTES: u64 = 64 * 1024;

#[derive(Debug, Clone, thiserror::Error)]
pub enum RecoveryError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Segment(#[from] SegmentError),
    #[error(transparent)]
    Partition(#[from] RecoverError),
    #[error("{object}: a committed segment is missing or not a segment")]
    Missing { object: String },
}

impl RecoveryError {
    /// The store could not answer: asking again may give another answer. A denial is the operator's to mend, and may be, too.
    pub fn is_passing(&self) -> bool {
        match self {
            RecoveryError::Store(error) => error.is_passing() || matches!(error, StoreError::Permanent { .. }),
            RecoveryError::Segment(_) | RecoveryError::Partition(_) | RecoveryError::Missing { .. } => false,
        }
    }
}

/// Reads objects for recovery.
#[derive(Clone)]
pub struct FooterReader {
    pub store: StoreRef,
    pub env: Env,
}

impl FooterReader {
    /// Footer and repeated footers of a segment that must exist.
    pub async fn segment(&self, session: SessionId, number: SegmentNumber) -> Result<SegmentTail, RecoveryError> {
        let key = segment_key(session, number);
        match self.tail(&key).await? {
            Some(Tail::Segment(segment)) => Ok(segment),
            _ => Err(RecoveryError::Missing { object: key }),
        }
    }

    /// The same of a segment that may be under way.
    async fn awaited_segment(
        &self,
        session: SessionId,
        number: SegmentNumber,
        patience: Duration,
    ) -> Result<SegmentTail, RecoveryError> {
        let deadline = Instant::now() + patience;
        let mut backoff = Backoff::new(FIRST_AWAITED_PAUSE, LONGEST_AWAITED_PAUSE);
        loop {
            match self.segment(session, number).await {
                Err(RecoveryError::Missing { .. }) if Instant::now() < deadline => {
                    tokio::time::sleep(backoff.next(self.env.entropy.as_ref())).await;
                }
                result => return result,
            }
        }
    }

    /// What stands under a segment's name; `None`: nothing yet.
    pub async fn tail(&self, key: &str) -> Result<Option<Tail>, RecoveryError> {
        self.parsed(key, |size, bytes| match parse_tail(key, size, bytes)? {
            Tail::NeedMore(more) => Ok(Err(more)),
            tail => Ok(Ok(tail)),
        })
        .await
    }

    /// What the end of an object below `runs/` says; `None`: there is no such object.
    pub async fn run_tail(&self, key: &str) -> Result<Option<RunTail>, RecoveryError> {
        self.parsed(key, |size, bytes| match parse_run_tail(key, size, bytes)? {
            RunTail::NeedMore(more) => Ok(Err(more)),
            tail => Ok(Ok(tail)),
        })
        .await
    }

    /// The manifest of a run that must exist.
    pub async fn manifest(&self, run: RunId) -> Result<Manifest, RecoveryError> {
        let key = manifest_key(run);
        match self.run_tail(&key).await? {
            Some(RunTail::Manifest(manifest)) => Ok(manifest),
            _ => Err(RecoveryError::Missing { object: key }),
        }
    }

    /// Reads the end of an object until `parse` has enough of it: it gives `Err(bytes)` when it needs more.
    async fn parsed<T>(
        &self,
        key: &str,
        parse: impl Fn(u64, &[u8]) -> Result<Result<T, u64>, SegmentError>,
    ) -> Result<Option<T>, RecoveryError> {
        let policy = ReadPolicy { deadline: Duration::from_secs(60), ..ReadPolicy::default() };
        let mut wanted = TAIL_BYTES;
        let mut looks = 0;
        loop {
            let range = ReadRange::Suffix(wanted);
            let read = match read_retrying(self.store.as_ref(), &self.env, key, range, &policy).await {
                Ok(read) => read,
                Err(StoreError::NotFound { .. }) => return Ok(None),
                Err(error) => return Err(error.into()),
            };
            match parse(read.object_size, &read.bytes) {
                Ok(Err(more)) => wanted = more,
                Ok(Ok(tail)) => return Ok(Some(tail)),
                // A bit that flipped on the way must not close a partition for good.
                Err(damage) if looks == DAMAGED_LOOKS => return Err(damage.into()),
                Err(_) => {
                    looks += 1;
                    tokio::time::sleep(policy.first_backoff).await;
                }
            }
        }
    }

    /// Footers of the segments `from..end` of a session, in order.
    pub async fn footers(
        &self,
        session: SessionId,
        from: SegmentNumber,
        end: SegmentNumber,
    ) -> Result<Vec<Footer>, RecoveryError> {
        self.awaited_footers(session, from, end, Duration::ZERO).await
    }

    /// The same; for those that are missing it waits so long.
    async fn awaited_footers(
        &self,
        session: SessionId,
        from: SegmentNumber,
        end: SegmentNumber,
        patience: Duration,
    ) -> Result<Vec<Footer>, RecoveryError> {
        let mut footers: BTreeMap<SegmentNumber, Footer> = BTreeMap::new();
        let first = from / REPEAT_EVERY + 1;
        let repeating: Vec<_> = (first..).map(|n| n * REPEAT_EVERY).take_while(|n| *n < end).collect();
        // Nothing repeats what follows the last of these: it need not be known what they repeat.
        let last = repeating.last().copied();
        let unrepeated: Vec<_> = (last.map_or(from, |last| last + 1)..end).collect();
        let unrepeated = if mutant::on(Mutant::RepeatedAreAll) { Vec::new() } else { unrepeated };
        let reads = [repeating, unrepeated].map(|numbers| self.read_all(session, numbers, patience));
        for segment in try_join_all(reads).await?.into_iter().flatten() {
            footers.extend(segment.repeated.into_iter().map(|footer| (footer.number, footer)));
            footers.insert(segment.footer.number, segment.footer);
        }
        footers.retain(|number, _| *number >= from);
        let believed = if mutant::on(Mutant::RepeatedAreAll) { end - end % REPEAT_EVERY } else { 0 };
        let missing: Vec<_> = (believed.max(from)..end).filter(|number| !footers.contains_key(number)).collect();
        for segment in self.read_all(session, missing, patience).await? {
            footers.insert(segment.footer.number, segment.footer);
        }
        Ok(footers.into_values().collect())
    }

    async fn read_all(
        &self,
        session: SessionId,
        numbers: Vec<SegmentNumber>,
        patience: Duration,
    ) -> Result<Vec<SegmentTail>, RecoveryError> {
        let mut reads = iter(numbers).map(|number| self.awaited_segment(session, number, patience)).buffered(PARALLEL);
        let mut segments = Vec::new();
        while let Some(segment) = reads.next().await {
            match segment {
                Err(_) if mutant::on(Mutant::SkipDamaged) || mutant::on(Mutant::ServeBeforeThrough) => {}
                segment => segments.push(segment?),
            }
        }
        Ok(segments)
    }
}

/// Rebuilds the partitions given; `merges` is the image's, at least for their sessions. What can't be read of a session fails all
/// partitions that need it, and only these. Last segments of sessions in `living`, which handed something over, may be under way: they are
/// waited for a moment, so that nothing else need be read again.
pub async fn recover(
    reader: &FooterReader,
    wanted: &[(PartitionId, PartitionState)],
    merges: &Merges,
    living: &BTreeSet<SessionId>,
) -> Vec<(PartitionId, Result<Partition, RecoveryError>)> {
    let mut ends: BTreeMap<SessionId, SegmentNumber> = BTreeMap::new();
    for tenure in wanted.iter().flat_map(|(_, state)| &state.tenures) {
        if let Some(end) = tenure.end {
            let known = ends.entry(tenure.session).or_default();
            *known = end.max(*known);
        }
    }
    let last = |state: &PartitionState| state.tenures.iter().rev().find(|tenure| tenure.end.is_some()).map(|t| t.epoch);
    let needed: Needed = wanted.iter().filter_map(|(id, state)| Some((*id, last(state)?))).collect();
    let needed = &needed;
    let mut reads = iter(ends)
        .map(|(session, end)| async move {
            let patience = if living.contains(&session) && !mutant::on(Mutant::ServeBeforeThrough) {
                PATIENCE
            } else {
                Duration::ZERO
            };
            (session, read_session(reader, session, end, merges, needed, patience).await)
        })
        .buffer_unordered(PARALLEL_SESSIONS);
    let mut sessions = BTreeMap::new();
    while let Some((session, found)) = reads.next().await {
        sessions.insert(session, found);
    }
    wanted.iter().map(|(id, state)| (*id, rebuild(*id, state, &sessions))).collect()
}

/// Partitions that are rebuilt, and up to which lease epoch.
type Needed = BTreeMap<PartitionId, LeaseEpoch>;

/// An extent and where it lies.
enum Located {
    Run(ObjectRef, RunExtent),
    /// With the number and the time of its segment.
    Segment(ObjectRef, SegmentNumber, TimestampMs, ExtentMeta),
}

/// What a session wrote in one partition.
#[derive(Default)]
struct Written {
    /// In the order of their segments.
    extents: Vec<Located>,
    /// The newest of its runs.
    checkpoint: Option<PartitionCheckpoint>,
}

type SessionLog = BTreeMap<PartitionId, Written>;

/// Manifests of its runs, and beside them footers of the segments behind: what was merged is known beforehand.
async fn read_session(
    reader: &FooterReader,
    session: SessionId,
    end: SegmentNumber,
    merges: &Merges,
    needed: &Needed,
    patience: Duration,
) -> Result<SessionLog, RecoveryError> {
    let mut log = SessionLog::new();
    let ids: Vec<RunId> = merges.runs(session).iter().map(|run| run.id).collect();
    let runs = async {
        let mut manifests = iter(ids).map(|run| reader.manifest(run)).buffered(PARALLEL);
        while let Some(manifest) = manifests.next().await {
            match manifest {
                Err(_) if mutant::on(Mutant::IgnoreRuns) || mutant::on(Mutant::SkipDamaged) => {}
                manifest => take_run(&mut log, manifest?, needed),
            }
        }
        Ok::<_, RecoveryError>(())
    };
    let merged = merges.merged(session);
    let segments = async {
        if merged < end { reader.awaited_footers(session, merged, end, patience).await } else { Ok(Vec::new()) }
    };
    let ((), footers) = tokio::try_join!(runs, segments)?;
    take_segments(&mut log, footers, needed);
    Ok(log)
}

fn take_run(log: &mut SessionLog, manifest: Manifest, needed: &Needed) {
    for (number, body_length, extent) in
        manifest.extents().filter(|(_, _, extent)| needed.contains_key(&extent.partition))
    {
        let object = ObjectRef::run(manifest.run, number, body_length);
        log.entry(extent.partition).or_default().extents.push(Located::Run(object, *extent));
    }
    for state in manifest.checkpoint {
        let newest = state.epochs.last().map_or(0, |(epoch, _)| *epoch);
        let partition = state.partition;
        if needed.get(&partition).is_some_and(|last| newest <= *last) {
            log.entry(partition).or_default().checkpoint = Some(state);
        }
    }
}

fn take_segments(log: &mut SessionLog, footers: Vec<Footer>, needed: &Needed) {
    for footer in footers {
        let object = ObjectRef::segment(footer.session, footer.number, footer.body_length());
        for extent in footer.extents.into_iter().filter(|extent| needed.contains_key(&extent.partition)) {
            let located = |extent| Located::Segment(object, footer.number, footer.created_ms, extent);
            log.entry(extent.partition).or_default().extents.push(located(extent));
        }
    }
}

fn rebuild(
    id: PartitionId,
    state: &PartitionState,
    sessions: &BTreeMap<SessionId, Result<SessionLog, RecoveryError>>,
) -> Result<Partition, RecoveryError> {
    let mut partition = Partition::new(id, state.epoch, state.log_start);
    let mut tenures = Vec::new();
    for tenure in &state.tenures {
        let (Some(end), Some(found)) = (tenure.end, sessions.get(&tenure.session)) else { continue };
        if let Some(written) = found.as_ref().map_err(Clone::clone)?.get(&id) {
            tenures.push((tenure.epoch, end, written));
        }
    }
    let checkpoints = tenures.iter().filter_map(|(_, _, written)| written.checkpoint.as_ref());
    if let Some(newest) = checkpoints.max_by_key(|checkpoint| checkpoint.next_offset) {
        partition.restore(newest);
    }
    for (epoch, end, written) in tenures {
        for located in &written.extents {
            let next_offset = match located {
                Located::Run(_, extent) => extent.next_offset,
                Located::Segment(_, _, _, extent) => extent.next_offset,
            };
            if mutant::on(Mutant::NextOffsetFromData) && next_offset <= state.log_start {
                continue;
            }
            match located {
                Located::Run(object, extent) if extent.epoch == epoch => partition.replay_run(*object, extent)?,
                Located::Segment(object, number, written_ms, extent) if extent.epoch == epoch && *number < end => {
                    partition.replay(*object, extent, *written_ms)?;
                }
                Located::Run(..) | Located::Segment(..) => {}
            }
        }
    }
    partition.finish_replay()?;
    Ok(partition)
}

#[cfg(test)]
#[path = "recover_tests.rs"]
mod tests;
