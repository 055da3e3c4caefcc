//! Rebuilds partitions from the footers of the segments of all their tenures.
//!
//! The image says which sessions wrote a partition, under which epochs and up to which segment. Footers are read once per session for
//! all partitions that are taken over, 64 at a time where a segment repeats the footers before it. Whatever is missing, damaged or
//! does not fit stops the recovery of the partitions that need it, with an error that names the object: nothing is ever skipped.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::iter;

use super::index::ObjectRef;
use super::partition::{Partition, RecoverError};
use crate::meta::image::PartitionState;
use crate::segment::{ExtentMeta, Footer, SegmentError, SegmentTail, Tail, parse_tail, segment_key};
use crate::store::retry::{ReadPolicy, read_retrying};
use crate::store::{ReadRange, StoreError, StoreRef};
use crate::types::env::Env;
use crate::types::mutant::{self, Mutant};
use crate::types::{PartitionId, SegmentNumber, SessionId, TimestampMs};

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
            match parse_tail(key, read.object_size, &read.bytes) {
                Ok(Tail::NeedMore(more)) => wanted = more,
                Ok(tail) => return Ok(Some(tail)),
                // A bit that flipped on the way must not close a partition for good.
                Err(damage) if looks == DAMAGED_LOOKS => return Err(damage.into()),
                Err(_) => {
                    looks += 1;
                    tokio::time::sleep(policy.first_backoff).await;
                }
            }
        }
    }

    /// Footers of the segments 0..end of a session, in order.
    pub async fn footers(&self, session: SessionId, end: SegmentNumber) -> Result<Vec<Footer>, RecoveryError> {
        let mut footers: BTreeMap<SegmentNumber, Footer> = BTreeMap::new();
        let repeating: Vec<_> = (1..).map(|n| n * REPEAT_EVERY).take_while(|n| *n < end).collect();
        for segment in self.read_all(session, repeating).await? {
            footers.extend(segment.repeated.into_iter().map(|footer| (footer.number, footer)));
            footers.insert(segment.footer.number, segment.footer);
        }
        let believed = if mutant::on(Mutant::RepeatedAreAll) { end - end % REPEAT_EVERY } else { 0 };
        let missing: Vec<_> = (believed..end).filter(|number| !footers.contains_key(number)).collect();
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
                Err(_) if mutant::on(Mutant::SkipDamaged) => {}
                segment => segments.push(segment?),
            }
        }
        Ok(segments)
    }
}

/// Rebuilds the partitions given. A session's footers that can't be read fail all partitions that need them, and only these.
pub async fn recover(
    reader: &FooterReader,
    wanted: &[(PartitionId, PartitionState)],
) -> Vec<(PartitionId, Result<Partition, RecoveryError>)> {
    let mut ends: BTreeMap<SessionId, SegmentNumber> = BTreeMap::new();
    for tenure in wanted.iter().flat_map(|(_, state)| &state.tenures) {
        if let Some(end) = tenure.end {
            let known = ends.entry(tenure.session).or_default();
            *known = end.max(*known);
        }
    }
    let needed: BTreeSet<PartitionId> = wanted.iter().map(|(id, _)| *id).collect();
    let mut reads = iter(ends)
        .map(|(session, end)| async move { (session, reader.footers(session, end).await) })
        .buffer_unordered(PARALLEL_SESSIONS);
    let mut sessions = BTreeMap::new();
    while let Some((session, footers)) = reads.next().await {
        sessions.insert(session, footers.map(|footers| by_partition(footers, &needed)));
    }
    wanted.iter().map(|(id, state)| (*id, rebuild(*id, state, &sessions))).collect()
}

/// An extent, where it lies and when its segment was sealed.
type Located = (ObjectRef, TimestampMs, ExtentMeta);

/// Extents of the partitions wanted, in the order of their segments.
fn by_partition(footers: Vec<Footer>, needed: &BTreeSet<PartitionId>) -> BTreeMap<PartitionId, Vec<Located>> {
    let mut extents: BTreeMap<PartitionId, Vec<Located>> = BTreeMap::new();
    for footer in footers {
        let object = ObjectRef { session: footer.session, number: footer.number, body_length: footer.body_length() };
        for extent in footer.extents.into_iter().filter(|extent| needed.contains(&extent.partition)) {
            extents.entry(extent.partition).or_default().push((object, footer.created_ms, extent));
        }
    }
    extents
}

fn rebuild(
    id: PartitionId,
    state: &PartitionState,
    sessions: &BTreeMap<SessionId, Result<BTreeMap<PartitionId, Vec<Located>>, RecoveryError>>,
) -> Result<Partition, RecoveryError> {
    let mut partition = Partition::new(id, state.epoch, state.log_start);
    for tenure in &state.tenures {
        let (Some(end), Some(found)) = (tenure.end, sessions.get(&tenure.session)) else { continue };
        let Some(extents) = found.as_ref().map_err(Clone::clone)?.get(&id) else { continue };
        for (object, written_ms, extent) in extents {
            if mutant::on(Mutant::NextOffsetFromData) && extent.next_offset <= state.log_start {
                continue;
            }
            if object.number < end && extent.epoch == tenure.epoch {
                partition.replay(*object, extent, *written_ms)?;
            }
        }
    }
    partition.finish_replay();
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
            let (_, found) = recover(&reader(store.clone()), &wanted).await.remove(0);
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
        let next: Vec<_> =
            recover(&reader(store), &both).await.into_iter().map(|(_, p)| p.ok().map(|p| p.next_offset())).collect();
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
            let footers = reader(store.clone()).footers(A, end).await.expect("all are there");
            assert_eq!(footers.iter().map(|footer| footer.number).collect::<Vec<_>>(), (0..end).collect::<Vec<_>>());
        }
        let missing = reader(store).footers(A, 129).await.expect_err("one is missing").to_string();
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
