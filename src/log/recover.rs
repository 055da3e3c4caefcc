//! Rebuilds partitions from the newest checkpoint, the runs, and the footers of the segments of all their tenures that are not merged.
//!
//! The image says which sessions wrote a partition, under which epochs and up to which segment, and what of it was merged. Manifests
//! and footers are read once per session for all partitions that are taken over, footers 64 at a time where a segment repeats those
//! before it. Whatever is missing, damaged or
//! does not fit stops the recovery of the partitions that need it, with an error that names the object: nothing is ever skipped.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::iter;

use super::index::ObjectRef;
use super::partition::{Partition, RecoverError};
use crate::meta::image::{Merges, PartitionState};
use crate::segment::{
    ExtentMeta, Footer, Manifest, PartitionCheckpoint, RunExtent, RunTail, SegmentError, SegmentTail, Tail,
    manifest_key, parse_run_tail, parse_tail, segment_key,
};
use crate::store::retry::{ReadPolicy, read_retrying};
use crate::store::{ReadRange, StoreError, StoreRef};
use crate::types::env::Env;
use crate::types::mutant::{self, Mutant};
use crate::types::{LeaseEpoch, PartitionId, RunId, SegmentNumber, SessionId, TimestampMs};

/// Segments that repeat footers are this far apart (written by the flusher).
const REPEAT_EVERY: SegmentNumber = 64;

/// Reads of one session side by side, and sessions.
const PARALLEL: usize = 32;
const PARALLEL_SESSIONS: usize = 4;

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
        let mut footers: BTreeMap<SegmentNumber, Footer> = BTreeMap::new();
        let first = from / REPEAT_EVERY + 1;
        let repeating: Vec<_> = (first..).map(|n| n * REPEAT_EVERY).take_while(|n| *n < end).collect();
        for segment in self.read_all(session, repeating).await? {
            footers.extend(segment.repeated.into_iter().map(|footer| (footer.number, footer)));
            footers.insert(segment.footer.number, segment.footer);
        }
        footers.retain(|number, _| *number >= from);
        let believed = if mutant::on(Mutant::RepeatedAreAll) { end - end % REPEAT_EVERY } else { 0 };
        let missing: Vec<_> = (believed.max(from)..end).filter(|number| !footers.contains_key(number)).collect();
        for segment in self.read_all(session, missing).await? {
            footers.insert(segment.footer.number, segment.footer);
        }
        Ok(footers.into_values().collect())
    }

    async fn read_all(
        &self,
        session: SessionId,
        numbers: Vec<SegmentNumber>,
    ) -> Result<Vec<SegmentTail>, RecoveryError> {
        let mut reads = iter(numbers).map(|number| self.segment(session, number)).buffered(PARALLEL);
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
/// partitions that need it, and only these.
pub async fn recover(
    reader: &FooterReader,
    wanted: &[(PartitionId, PartitionState)],
    merges: &Merges,
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
        .map(|(session, end)| async move { (session, read_session(reader, session, end, merges, needed).await) })
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

/// Manifests of its runs, then footers of the segments behind them.
async fn read_session(
    reader: &FooterReader,
    session: SessionId,
    end: SegmentNumber,
    merges: &Merges,
    needed: &Needed,
) -> Result<SessionLog, RecoveryError> {
    let mut log = SessionLog::new();
    let ids: Vec<RunId> = merges.runs(session).iter().map(|run| run.id).collect();
    let mut manifests = iter(ids).map(|run| reader.manifest(run)).buffered(PARALLEL);
    while let Some(manifest) = manifests.next().await {
        match manifest {
            Err(_) if mutant::on(Mutant::IgnoreRuns) || mutant::on(Mutant::SkipDamaged) => {}
            manifest => take_run(&mut log, manifest?, needed),
        }
    }
    let merged = merges.merged(session);
    if merged < end {
        take_segments(&mut log, reader.footers(session, merged, end).await?, needed);
    }
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
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;

    use super::*;
    use crate::meta::image::Tenure;
    use crate::segment::{BatchMeta, ExtentDraft, SegmentDraft, build};
    use crate::store::Store;
    use crate::store::fault::{Call, Fault, FaultRates, FaultStore};
    use crate::store::memory::MemoryStore;
    use crate::types::TopicId;
    use crate::types::env::testing::{SeededEntropy, env};

    const A: SessionId = SessionId { revision: 1, random: 1 };
    const B: SessionId = SessionId { revision: 2, random: 2 };

    fn id(index: i32) -> PartitionId {
        PartitionId { topic: TopicId(1), index }
    }

    /// (partition, epoch, base offset, batches of one record)
    type Written = (i32, i32, i64, i64);

    fn extent((index, epoch, base, count): &Written) -> ExtentDraft {
        let batch = |base_offset| BatchMeta {
            base_offset,
            last_offset_delta: 0,
            length: 61,
            record_count: 1,
            max_timestamp: 0,
            producer_id: 9,
            producer_epoch: 0,
            base_sequence: i32::try_from(base_offset).expect("few records"),
            transactional: false,
            log_append_time: false,
            control: None,
        };
        let batches = (*base..base + count).map(|base| (Bytes::from_static(&[0; 61]), batch(base))).collect();
        ExtentDraft { partition: id(*index), epoch: *epoch, batches }
    }

    async fn write(store: &dyn Store, session: SessionId, segments: &[&[Written]]) {
        for (number, extents) in (0..).zip(segments) {
            let extents = extents.iter().map(extent).collect();
            let draft = SegmentDraft {
                session,
                number,
                nonce: 1,
                created_ms: 0,
                committed: number,
                extents,
                repeated: Vec::new(),
            };
            let sealed = build(draft).expect("a segment");
            store.create(&segment_key(session, number), sealed.bytes).await.expect("free");
        }
    }

    fn reader(store: StoreRef) -> FooterReader {
        FooterReader { store, env: env(1) }
    }

    fn state(tenures: &[(SessionId, i32, Option<u64>)], log_start: i64) -> PartitionState {
        let tenure = |(session, epoch, end): &(SessionId, i32, Option<u64>)| Tenure {
            session: *session,
            epoch: *epoch,
            end: *end,
        };
        let epoch = tenures.last().map_or(0, |(_, epoch, _)| *epoch);
        PartitionState { epoch, holder: None, tenures: tenures.iter().map(tenure).collect(), log_start }
    }

    #[tokio::test(start_paused = true)]
    async fn each_tenure_gives_what_it_committed() {
        let store = Arc::new(MemoryStore::shared());
        write(&*store, A, &[&[], &[(0, 0, 0, 2)], &[(0, 0, 2, 1), (1, 0, 0, 3)], &[(0, 0, 3, 1), (0, 2, 4, 1)]]).await;
        write(&*store, B, &[&[], &[(0, 1, 3, 1)], &[(1, 1, 3, 1), (2, 0, 1, 1)]]).await;
        let a_b = [(A, 0, Some(3)), (B, 1, Some(3))];
        // (partition, tenures, log start, next offset or the object and offset of the error)
        let table: &[(i32, &[_], i64, Result<i64, &str>)] = &[
            (0, &[], 0, Ok(0)),
            (0, &[], 7, Ok(7)),
            (0, &a_b[..1], 0, Ok(3)),
            (0, &a_b, 0, Ok(4)),
            (0, &a_b, 2, Ok(4)),
            (0, &a_b, 9, Ok(9)),
            (1, &a_b, 0, Ok(4)),
            (0, &[(A, 0, Some(2))], 0, Ok(2)),
            (0, &[(A, 0, None)], 0, Ok(0)),
            (0, &[(A, 0, Some(3)), (B, 1, Some(3)), (A, 2, Some(4))], 0, Ok(5)),
            (0, &[(A, 0, Some(2)), (B, 1, Some(3))], 0, Err("expected offset 2, found an extent from 3")),
            (0, &[(B, 1, Some(3)), (A, 0, Some(3))], 0, Err("expected offset 0, found an extent from 3")),
            (2, &a_b, 0, Ok(0)),
            (2, &[(B, 0, Some(3))], 0, Err("expected offset 0, found an extent from 1")),
            (0, &[(A, 0, Some(5))], 0, Err("00000000000000000004: a committed segment is missing")),
        ];
        for (index, tenures, log_start, expected) in table {
            let wanted = [(id(*index), state(tenures, *log_start))];
            let (_, found) = recover(&reader(store.clone()), &wanted, &Merges::default()).await.remove(0);
            match (found, expected) {
                (Ok(partition), Ok(next)) => {
                    let ends = (partition.next_offset(), partition.high_watermark(), partition.log_start());
                    assert_eq!(ends, (*next, *next, *log_start), "{wanted:?}");
                    assert_eq!(
                        partition.producers().len(),
                        usize::from(partition.index().iter().count() > 0 || *log_start == 9)
                    );
                }
                (Err(error), Err(expected)) => assert!(error.to_string().contains(expected), "{wanted:?}: {error}"),
                (found, expected) => panic!("{wanted:?}: {found:?}, not {expected:?}"),
            }
        }
        // Side by side each has its own end, and the failure of one is not the other's.
        let both =
            [(id(0), state(&[(A, 0, Some(2))], 0)), (id(1), state(&a_b, 0)), (id(2), state(&[(B, 0, Some(3))], 0))];
        let next: Vec<_> = recover(&reader(store), &both, &Merges::default())
            .await
            .into_iter()
            .map(|(_, p)| p.ok().map(|p| p.next_offset()))
            .collect();
        assert_eq!(next, [Some(2), Some(4), None]);
    }

    /// The end may fall on a segment that would repeat footers: it need not be there.
    #[tokio::test(start_paused = true)]
    async fn nothing_is_read_behind_the_end() {
        let store = Arc::new(MemoryStore::shared());
        let extents: Vec<[Written; 1]> = (0..130).map(|at| [(0, 0, at, 1)]).collect();
        let segments: Vec<&[Written]> = extents.iter().map(|extent| &extent[..]).collect();
        write(&*store, A, &segments[..128]).await;
        for end in [1, 63, 64, 65, 127, 128] {
            let footers = reader(store.clone()).footers(A, 0, end).await.expect("all are there");
            assert_eq!(footers.iter().map(|footer| footer.number).collect::<Vec<_>>(), (0..end).collect::<Vec<_>>());
        }
        let missing = reader(store).footers(A, 0, 129).await.expect_err("one is missing").to_string();
        assert!(missing.contains(&segment_key(A, 128)), "{missing}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_footer_is_read_again_when_it_is_long_or_damaged() {
        let memory = Arc::new(MemoryStore::shared());
        write(&*memory, A, &[&[]]).await;
        write(&*memory, B, &[&[(0, 0, 0, 20_000)]]).await;
        let store = FaultStore::new(memory, Arc::new(SeededEntropy::new(1)), FaultRates::default());
        let long = reader(store.clone()).segment(B, 0).await.expect("it is there");
        assert_eq!(long.footer.extents[0].next_offset, 20_000);
        for (looks, good) in [(0, true), (1, true), (DAMAGED_LOOKS, true), (DAMAGED_LOOKS + 1, false)] {
            store.script(Call::Read, "", vec![Fault::Corrupt; looks]);
            let read = reader(store.clone()).segment(A, 0).await;
            assert_eq!(read.is_ok(), good, "damaged {looks} times: {read:?}");
        }
    }
}
