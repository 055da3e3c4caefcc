//! Ends a session for good: puts a fence at the first number that its writer has not taken, and so learns where it ended.
//!
//! Any number of fencers find the same end, and a late fence changes nothing: names are create-only, so the lowest number that holds a
//! fence is fixed once all below it hold segments. The walk starts at a number that is known to be committed: every segment says how
//! many of its session were committed when it was sealed, so any segment found, at whatever number, proves a start. Which numbers are
//! probed to find one is only a matter of speed: the newest of those that a list shows, or, of more than one answer to a list holds, a
//! high one, and the names above are listed then, so that a lost object is not taken for the end.
//!
//! ```text
//! list ─► the newest segments, side by side ─► a fence ahead of them, and one at the first number that is free, or the next …
//! ```
//!
//! The fence ahead only stops a writer that races, wherever and whenever it lands; so the walk need not wait for it.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use futures::future::{join_all, try_join};

use crate::segment::{Fence, IDENTITY_BYTES, Tail, parse_segment_key, segment_key, session_prefix};
use crate::store::ListedObject;
use crate::store::create::{CreateError, CreateOnce, CreatePolicy, Created, create_once};
use crate::store::retry::Backoff;
use crate::types::mutant::{self, Mutant};
use crate::types::{SegmentNumber, SessionId};

use super::recover::{FooterReader, RecoveryError};

/// The fence that stops a racing writer goes so far ahead of the highest segment seen.
const AHEAD: SegmentNumber = 16;

/// Of the names in a list the newest are looked at, so many side by side: some more than a writer has in flight, so that the end is near.
const NEWEST: usize = 8;

/// Names in one answer to a list.
const LIST_PAGE: usize = 1000;

/// A list is tried for so long.
const LIST_DEADLINE: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, thiserror::Error)]
pub enum FenceError {
    #[error(transparent)]
    Read(#[from] RecoveryError),
    #[error(transparent)]
    Create(#[from] CreateError),
}

/// Fences `target` on behalf of `fencer` and returns its end: segments 0..end are committed, nothing else ever was. `merged`: so many
/// of its segments were merged, as far as is known; their names are free again and prove nothing. If more were merged meanwhile the
/// end may be below that, and does not count: fence again.
pub async fn fence(
    reader: &FooterReader,
    policy: &CreatePolicy,
    target: SessionId,
    fencer: SessionId,
    merged: SegmentNumber,
) -> Result<SegmentNumber, FenceError> {
    let seen = newest_seen(reader, target, merged).await?;
    let ahead = async {
        match seen.highest.filter(|_| !mutant::on(Mutant::EndFromReads)) {
            Some(highest) => put(reader, policy, target, highest + AHEAD, fencer).await,
            None => Ok(false),
        }
    };
    if mutant::on(Mutant::FenceAheadOnly) {
        ahead.await?;
        return Ok(seen.highest.map_or(merged, |highest| highest + 1));
    }
    let from_zero = mutant::on(Mutant::FenceFromZero) || mutant::on(Mutant::FenceBelowMerged);
    let start = if from_zero { 0 } else { seen.first_free() };
    let (_, end) = try_join(ahead, walk(reader, policy, target, start, fencer)).await?;
    Ok(end)
}

/// Fences our own session, whose first `committed` segments are committed and which seals no more. What it may have in flight races
/// with the fence as with anybody's.
pub async fn fence_own(
    reader: &FooterReader,
    policy: &CreatePolicy,
    session: SessionId,
    committed: SegmentNumber,
) -> Result<SegmentNumber, FenceError> {
    walk(reader, policy, session, committed, session).await
}

/// Creates a fence at each number from `from` on until one stands.
async fn walk(
    reader: &FooterReader,
    policy: &CreatePolicy,
    target: SessionId,
    from: SegmentNumber,
    fencer: SessionId,
) -> Result<SegmentNumber, FenceError> {
    let mut number = from;
    while !put(reader, policy, target, number, fencer).await? {
        number += 1;
    }
    Ok(number)
}

/// For the mutant `GrantBeforeFence`: the end as far as it can be seen, which no fence holds.
pub async fn seen_end(
    reader: &FooterReader,
    target: SessionId,
    merged: SegmentNumber,
) -> Result<SegmentNumber, FenceError> {
    Ok(newest_seen(reader, target, merged).await?.first_free())
}

/// Tells whether a fence stands at the number now (ours or another's); `false`: a segment does.
async fn put(
    reader: &FooterReader,
    policy: &CreatePolicy,
    target: SessionId,
    number: SegmentNumber,
    fencer: SessionId,
) -> Result<bool, FenceError> {
    let key = segment_key(target, number);
    if mutant::on(Mutant::EndFromReads) {
        return Ok(!matches!(reader.tail(&key).await?, Some(Tail::Segment(_))));
    }
    let fence = Fence {
        nonce: reader.env.entropy.next_u64(),
        created_ms: reader.env.clock.wall_ms(),
        session: target,
        number,
        fencer: Some(fencer),
    };
    let body = if mutant::on(Mutant::EmptyFence) { Bytes::new() } else { fence.encode() };
    let request = CreateOnce { key: key.clone(), body, identity_bytes: IDENTITY_BYTES };
    match create_once(reader.store.as_ref(), &reader.env, request, policy).await? {
        Created::Ours => Ok(true),
        Created::Theirs { .. } => match reader.tail(&key).await? {
            Some(Tail::Fence(_)) => Ok(true),
            Some(Tail::Segment(_)) => Ok(false),
            _ => Err(RecoveryError::Missing { object: key }.into()),
        },
    }
}

struct Seen {
    highest: Option<SegmentNumber>,
    committed: SegmentNumber,
    /// Numbers at which segments stand.
    segments: BTreeSet<SegmentNumber>,
}

impl Seen {
    /// The first number, from those that are known to be committed on, at which no segment was seen.
    fn first_free(&self) -> SegmentNumber {
        (self.committed..).find(|number| !self.segments.contains(number)).unwrap_or(self.committed)
    }

    fn segment(&mut self, number: SegmentNumber, committed: SegmentNumber) {
        self.highest = self.highest.max(Some(number));
        self.committed = self.committed.max(committed);
        self.segments.insert(number);
    }
}

/// Looks at the newest segments of the session, from the first that is not merged on.
async fn newest_seen(reader: &FooterReader, target: SessionId, merged: SegmentNumber) -> Result<Seen, FenceError> {
    let mut seen = Seen { highest: None, committed: merged, segments: BTreeSet::new() };
    let after = merged.checked_sub(1).map(|last| segment_key(target, last));
    let page = list_retrying(reader, &session_prefix(target), after.as_deref()).await?;
    if page.len() == LIST_PAGE {
        highest_seen(reader, target, merged, &mut seen).await?;
        return Ok(seen);
    }
    let numbers: Vec<_> =
        page.iter().filter_map(|object| parse_segment_key(&object.key).ok()).map(|(_, number)| number).collect();
    for newest in numbers.rchunks(NEWEST) {
        let tails = join_all(newest.iter().map(|number| segment_committed(reader, target, *number))).await;
        for (number, committed) in newest.iter().zip(tails).rev() {
            match committed {
                Ok(Some(committed)) => seen.segment(*number, committed),
                Ok(None) => {}
                // What is known to be committed need not be read here: recovery does, for the partitions that are in it.
                Err(_) if *number < seen.committed => {}
                Err(error) => return Err(error.into()),
            }
        }
        if seen.highest.is_some() {
            break;
        }
    }
    Ok(seen)
}

/// Gallops and bisects for a high segment of the session, from the first that is not merged.
async fn highest_seen(
    reader: &FooterReader,
    target: SessionId,
    merged: SegmentNumber,
    seen: &mut Seen,
) -> Result<(), FenceError> {
    let mut above: SegmentNumber = 1;
    while look(reader, target, merged + above - 1, seen).await? {
        above *= 2;
    }
    let mut above = merged + above;
    let mut low = seen.highest.map_or(merged, |highest| highest + 1);
    while low < above {
        let middle = low + (above - low) / 2;
        if look(reader, target, middle, seen).await? {
            low = middle + 1;
        } else {
            above = middle;
        }
    }
    look_above(reader, target, merged, seen).await
}

/// Looks at the names above the highest segment found, which probing may have missed: a segment there tells how far its session was
/// committed, so that a committed object that was lost is met by recovery as a hole, and not taken for the end here.
async fn look_above(
    reader: &FooterReader,
    target: SessionId,
    merged: SegmentNumber,
    seen: &mut Seen,
) -> Result<(), FenceError> {
    let mut after = segment_key(target, seen.highest.unwrap_or(merged));
    loop {
        let page = list_retrying(reader, &session_prefix(target), Some(&after)).await?;
        for object in page.iter().rev() {
            let Ok((_, number)) = parse_segment_key(&object.key) else { continue };
            if look(reader, target, number, seen).await? {
                break;
            }
        }
        match page.last() {
            Some(last) if page.len() == LIST_PAGE => after.clone_from(&last.key),
            _ => return Ok(()),
        }
    }
}

async fn list_retrying(
    reader: &FooterReader,
    prefix: &str,
    after: Option<&str>,
) -> Result<Vec<ListedObject>, RecoveryError> {
    let mut backoff = Backoff::new(Duration::from_millis(20), Duration::from_secs(1));
    let deadline = reader.env.clock.boot() + LIST_DEADLINE;
    loop {
        match reader.store.list(prefix, after, LIST_PAGE).await {
            Ok(page) => return Ok(page),
            Err(error) if error.is_passing() && reader.env.clock.boot() < deadline => {
                tokio::time::sleep(backoff.next(reader.env.entropy.as_ref())).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

async fn look(
    reader: &FooterReader,
    target: SessionId,
    number: SegmentNumber,
    seen: &mut Seen,
) -> Result<bool, FenceError> {
    let Some(committed) = segment_committed(reader, target, number).await? else { return Ok(false) };
    seen.segment(number, committed);
    Ok(true)
}

/// How many segments of its session were committed when this one was sealed; `None`: there is none.
async fn segment_committed(
    reader: &FooterReader,
    target: SessionId,
    number: SegmentNumber,
) -> Result<Option<SegmentNumber>, RecoveryError> {
    match reader.tail(&segment_key(target, number)).await? {
        Some(Tail::Segment(segment)) => Ok(Some(segment.footer.committed)),
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::segment::{SegmentDraft, build};
    use crate::store::Store;
    use crate::store::distant::DistantStore;
    use crate::store::memory::MemoryStore;
    use crate::types::env::testing::env;

    const TARGET: SessionId = SessionId { revision: 1, random: 1 };
    const FENCER: SessionId = SessionId { revision: 2, random: 2 };

    #[tokio::test(start_paused = true)]
    async fn merged_names_that_came_free_are_not_taken_for_the_end() {
        // (segments that are there, merged, the end)
        let table: &[(std::ops::Range<u64>, u64, u64)] =
            &[(5..9, 5, 9), (5..9, 3, 3), (0..9, 5, 9), (0..0, 7, 7), (7..8, 7, 8)];
        for (there, merged, end) in table {
            let store = Arc::new(MemoryStore::shared());
            for number in there.clone() {
                assert!(write(&store, number, *merged.min(&number)).await);
            }
            let reader = FooterReader { store: store.clone(), env: env(1) };
            let found = fence(&reader, &CreatePolicy::default(), TARGET, FENCER, *merged).await.expect("fences");
            assert_eq!(found, *end, "{there:?}, {merged} merged");
        }
    }

    async fn write(store: &MemoryStore, number: SegmentNumber, committed: SegmentNumber) -> bool {
        let (extents, repeated) = (Vec::new(), Vec::new());
        let draft =
            SegmentDraft { session: TARGET, number, nonce: number, created_ms: 0, committed, extents, repeated };
        let sealed = build(draft).expect("a segment");
        store.create(&segment_key(TARGET, number), sealed.bytes).await.is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_is_the_lowest_number_that_is_free() {
        // (segments and how many each says were committed, the end)
        let table: &[(&[(u64, u64)], u64)] = &[
            (&[], 0),
            (&[(0, 0)], 1),
            (&[(0, 0), (1, 1), (2, 2)], 3),
            (&[(0, 0), (1, 0), (2, 0), (3, 0)], 4),
            (&[(0, 0), (2, 0)], 1),
            (&[(0, 0), (1, 1), (3, 1), (4, 1)], 2),
            (&[(0, 0), (1, 1), (2, 1), (3, 1), (4, 2), (6, 2)], 5),
            // What was committed is not looked at: where it is lost, recovery says so.
            (&[(0, 0), (3, 3)], 4),
        ];
        for (segments, end) in table {
            let store = Arc::new(MemoryStore::shared());
            for (number, committed) in *segments {
                assert!(write(&store, *number, *committed).await);
            }
            let reader = FooterReader { store: store.clone(), env: env(1) };
            for fencer in [FENCER, SessionId { revision: 3, random: 3 }] {
                let found = fence(&reader, &CreatePolicy::default(), TARGET, fencer, 0).await.expect("fences");
                assert_eq!(found, *end, "{segments:?} by {fencer}");
            }
            assert!(!write(&store, *end, *end).await, "the writer can not go on");
            let own = fence_own(&reader, &CreatePolicy::default(), TARGET, *end).await.expect("fences");
            assert_eq!(own, *end);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_a_short_chain_of_round_trips_however_much_was_written() {
        const TRIP: Duration = Duration::from_millis(100);
        // (segments, what each says was committed when it was sealed: so many less; round trips)
        for (count, in_flight, most) in [(0, 0, 2), (1, 0, 3), (1, 1, 3), (600, 4, 3), (999, 4, 3), (1500, 4, 45)] {
            let memory = Arc::new(MemoryStore::shared());
            for number in 0..count {
                assert!(write(&memory, number, number.saturating_sub(in_flight)).await);
            }
            let reader = FooterReader { store: Arc::new(DistantStore::new(memory, TRIP)), env: env(1) };
            let begun = tokio::time::Instant::now();
            let found = fence(&reader, &CreatePolicy::default(), TARGET, FENCER, 0).await.expect("fences");
            let trips = begun.elapsed().as_millis().div_ceil(TRIP.as_millis());
            assert_eq!(found, count);
            assert!(trips <= most, "{count} segments: {trips} round trips");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn damage_below_what_is_known_to_be_committed_is_recoverys_to_meet() {
        // (number of the object that is spoilt, of ten that each say that all but two before them were committed; the end)
        for (spoilt, end) in [(3, Some(10)), (6, Some(10)), (8, None), (9, None)] {
            let store = Arc::new(MemoryStore::shared());
            for number in 0..10u64 {
                assert!(write(&store, number, number.saturating_sub(2)).await);
            }
            let key = segment_key(TARGET, spoilt);
            store.delete(&key).await.expect("deletes");
            store.create(&key, bytes::Bytes::from_static(b"no segment")).await.expect("free");
            let reader = FooterReader { store, env: env(1) };
            let found = fence(&reader, &CreatePolicy::default(), TARGET, FENCER, 0).await;
            match (found, end) {
                (Ok(found), Some(end)) => assert_eq!(found, end, "{spoilt}"),
                (Err(error), None) => assert!(error.to_string().contains(&key), "{error}"),
                (found, _) => panic!("{spoilt}: {found:?}, not {end:?}"),
            }
        }
    }
}
