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
