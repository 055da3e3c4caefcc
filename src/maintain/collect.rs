//! Deletes what nothing names any more: merged segments, what lies above the end of a fenced session, folders of merges that came to
//! nothing.
//!
//! Garbage is what a *revision* says it is, never what looks old. A deleter waits for the grace period on its own clock from the moment at
//! which it first knew that revision, so that every reader has turned to the run by then; one that has not finds an object missing
//! and looks again. A name can come back: a PUT that was sent before may land after the deletion. It proves nothing then, for nobody
//! asks names below what is merged, and the next pass takes it away. The lowest fence of a session stays for ever: it is the one name
//! that a late PUT must never find free.
//!
//! The ledger decides, and is pure; the collector lists and deletes, in batches with pauses between them.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::stream::iter;
use futures::{FutureExt, StreamExt};

use super::Maintenance;
use crate::meta::image::{Image, SessionState};
use crate::segment::{RUNS_PREFIX, parse_segment_key, run_prefix, session_prefix};
use crate::store::StoreError;
use crate::types::mutant::{self, Mutant};
use crate::types::{Revision, RunId, SegmentNumber, SessionId};

/// Names in one answer to a list.
const PAGE: usize = 1000;

/// Deletions side by side, and the pause after so many.
const DELETES_AT_ONCE: usize = 8;
const BATCH: usize = 100;
const BATCH_PAUSE: Duration = Duration::from_millis(20);

/// After so many objects that could not be deleted a pass is given up.
const FAILURES_MAX: usize = 16;

/// What is known of one session's garbage.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Known {
    /// Numbers below which all is merged, and since when that is known; both ascend.
    merged: Vec<(SegmentNumber, Duration)>,
    /// Its end, and since when that is known.
    end: Option<(SegmentNumber, Duration)>,
    /// What the last complete sweep took away.
    swept: Option<Sweep>,
}

/// What may be deleted of a session: numbers below `below`, and numbers above `above`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sweep {
    pub session: SessionId,
    pub below: SegmentNumber,
    /// The number of its lowest fence, which stays.
    pub above: Option<SegmentNumber>,
}

impl Sweep {
    pub fn takes(&self, number: SegmentNumber) -> bool {
        let fences = mutant::on(Mutant::DeleteFences) && self.above.is_some_and(|fence| number >= fence);
        number < self.below || self.above.is_some_and(|fence| number > fence) || fences
    }
}

/// What this process knows to be garbage, and since when by its own clock.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    grace: Duration,
    sessions: BTreeMap<SessionId, Known>,
    folders: BTreeMap<RunId, Duration>,
}

impl Ledger {
    pub fn new(grace: Duration) -> Ledger {
        let grace = if mutant::on(Mutant::DeleteWithoutGrace) { Duration::ZERO } else { grace };
        Ledger { grace, ..Ledger::default() }
    }

    /// Looks at the image as it is at boot time `now`.
    pub fn observe(&mut self, image: &Image, now: Duration) {
        for (session, state) in &image.sessions {
            let merged = merged_of(image, *session);
            let end = match state.state {
                SessionState::Fenced { end } => Some(end),
                SessionState::Open | SessionState::Ready => None,
            };
            if merged == 0 && end.is_none() {
                continue;
            }
            let known = self.sessions.entry(*session).or_default();
            if merged > known.merged.last().map_or(0, |(merged, _)| *merged) {
                known.merged.push((merged, now));
            }
            if let (None, Some(end)) = (known.end, end) {
                known.end = Some((end, now));
            }
        }
    }

    /// Sweeps that are due at `now` and would find something new.
    pub fn sweeps(&mut self, now: Duration) -> Vec<Sweep> {
        let grace = self.grace;
        let ripe = |since: Duration| now.saturating_sub(since) >= grace;
        let mut sweeps = Vec::new();
        for (session, known) in &mut self.sessions {
            let count = known.merged.iter().take_while(|(_, since)| ripe(*since)).count();
            if count > 1 {
                known.merged.drain(..count - 1);
            }
            let below = known.merged.first().filter(|(_, since)| ripe(*since)).map_or(0, |(merged, _)| *merged);
            let above = known.end.filter(|(_, since)| ripe(*since)).map(|(end, _)| end);
            let sweep = Sweep { session: *session, below, above };
            if (below > 0 || above.is_some()) && known.swept != Some(sweep) {
                sweeps.push(sweep);
            }
        }
        sweeps
    }

    pub fn swept(&mut self, sweep: Sweep) {
        if let Some(known) = self.sessions.get_mut(&sweep.session) {
            known.swept = Some(sweep);
        }
    }

    /// Looks at the folders that are in the store; gives those that are garbage for the grace period. `named` says what an image of
    /// revision `revision` names: a folder above that may be one that we do not know yet.
    pub fn folders(
        &mut self,
        found: &[RunId],
        revision: Revision,
        named: impl Fn(RunId) -> bool,
        now: Duration,
    ) -> Vec<RunId> {
        let garbage = |run: &&RunId| run.revision <= revision && !named(**run);
        let folders: BTreeMap<RunId, Duration> =
            found.iter().filter(garbage).map(|run| (*run, self.folders.get(run).copied().unwrap_or(now))).collect();
        self.folders = folders;
        let ripe = |since: Duration| now.saturating_sub(since) >= self.grace;
        self.folders.iter().filter(|(_, since)| ripe(**since)).map(|(run, _)| *run).collect()
    }
}

fn merged_of(image: &Image, session: SessionId) -> SegmentNumber {
    let merged = image.merges.merged(session);
    if mutant::on(Mutant::DeleteUnmerged) {
        return image.merges.claim_on(session).map_or(merged, |(_, claim)| claim.to);
    }
    merged
}

pub(super) struct Collector {
    room: Maintenance,
    ledger: Ledger,
}

impl Collector {
    pub fn new(room: Maintenance) -> Collector {
        let ledger = Ledger::new(room.grace);
        Collector { room, ledger }
    }

    /// Collects until it is cancelled.
    pub async fn run(mut self) {
        let pause = (self.room.grace / 4).clamp(Duration::from_millis(50), Duration::from_secs(60));
        // Folders are listed more rarely: a list costs money.
        let mut folders = self.room.log.env.clock.boot();
        loop {
            tokio::time::sleep(pause).await;
            let now = self.room.log.env.clock.boot();
            self.room.log.meta.read(|image| self.ledger.observe(image, now));
            let swept = self.sweep_sessions(now).await;
            let looked = if now >= folders { self.sweep_folders().await } else { Ok(()) };
            if now >= folders && looked.is_ok() {
                folders = now + self.room.grace.max(pause);
            }
            if let Err(error) = swept.and(looked) {
                self.room.metrics.collect_failures.inc();
                tracing::warn!(%error, "garbage stays until the next pass");
            }
        }
    }

    /// What can't be deleted of one session holds up nothing else.
    async fn sweep_sessions(&mut self, now: Duration) -> Result<(), StoreError> {
        let mut failed = Ok(());
        for sweep in self.ledger.sweeps(now) {
            let prefix = session_prefix(sweep.session);
            let takes = |key: &str| parse_segment_key(key).is_ok_and(|(_, number)| sweep.takes(number));
            let deleted = match self.room.delete_all(&prefix, takes, sweep.above.is_some()).await {
                Ok(deleted) => deleted,
                Err(error) => {
                    failed = failed.and(Err(error));
                    continue;
                }
            };
            self.ledger.swept(sweep);
            if deleted > 0 {
                let Sweep { session, below, above } = sweep;
                tracing::info!(%session, below, ?above, deleted, "deleted segments that are merged, or were never committed");
            }
        }
        failed
    }

    async fn sweep_folders(&mut self) -> Result<(), StoreError> {
        let names = self.room.log.footers.store.list_folders(RUNS_PREFIX).await?;
        let found: Vec<RunId> = names.iter().filter_map(|name| name.parse().ok()).collect();
        let garbage = self.room.log.meta.read(|image| {
            // All at once: there are as many folders as runs.
            let mut named = image.merges.folders();
            if mutant::on(Mutant::DeleteClaimed) {
                named.retain(|run| !image.merges.claims.contains_key(run));
            }
            let named = |run| named.contains(&run);
            // The store may have taken its time, and what is garbage by this image may be so for a moment only.
            self.ledger.folders(&found, image.revision, named, self.room.log.env.clock.boot())
        });
        let mut failed = Ok(());
        for run in garbage {
            match self.room.delete_all(&run_prefix(run), |_| true, true).await {
                Ok(0) => {}
                Ok(deleted) => tracing::info!(%run, deleted, "deleted what is left of a merge that was not committed"),
                Err(error) => failed = failed.and(Err(error)),
            }
        }
        failed
    }
}

impl Maintenance {
    /// Deletes the objects below `prefix` that `takes` names; without `to_end` only up to the first page that has none. A few that can't be
    /// deleted hold up no other; their error is given at the end.
    async fn delete_all(
        &self,
        prefix: &str,
        takes: impl Fn(&str) -> bool + Send,
        to_end: bool,
    ) -> Result<usize, StoreError> {
        let store = self.log.footers.store.clone();
        let mut after: Option<String> = None;
        let mut deleted = 0;
        let mut failed = Vec::new();
        loop {
            let page = store.list(prefix, after.as_deref(), PAGE).await?;
            let garbage: Vec<String> = page.iter().map(|object| object.key.clone()).filter(|key| takes(key)).collect();
            for batch in garbage.chunks(BATCH) {
                let deletes = batch.iter().cloned().map(|key| {
                    let store = store.clone();
                    async move { store.delete(&key).await }.boxed()
                });
                let mut deletes = iter(deletes.collect::<Vec<_>>()).buffer_unordered(DELETES_AT_ONCE);
                while let Some(done) = deletes.next().await {
                    match done {
                        Ok(()) | Err(StoreError::NotFound { .. }) => deleted += 1,
                        Err(error) if failed.len() == FAILURES_MAX => return Err(error),
                        Err(error) => {
                            failed.push(error);
                            continue;
                        }
                    }
                    self.metrics.objects_collected.inc();
                }
                tokio::time::sleep(BATCH_PAUSE).await;
            }
            match page.last() {
                Some(last) if page.len() == PAGE && (to_end || !garbage.is_empty()) => after = Some(last.key.clone()),
                _ => return failed.pop().map_or(Ok(deleted), Err),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meta::image::{Claim, Merged, Session};

    const A: SessionId = SessionId { revision: 1, random: 1 };
    const GRACE: Duration = Duration::from_secs(10);

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn image(merged: SegmentNumber, end: Option<SegmentNumber>) -> Image {
        let state = end.map_or(SessionState::Ready, |end| SessionState::Fenced { end });
        let session = Session { node_id: 1, endpoints: Vec::new(), rack: None, state };
        let mut image = Image { sessions: [(A, session)].into(), ..Image::default() };
        if merged > 0 {
            image.merges.sessions.insert(A, Merged { through: merged, runs: Vec::new() });
        }
        image
    }

    #[test]
    fn merged_segments_go_when_that_is_known_for_the_grace_period() {
        let mut ledger = Ledger::new(GRACE);
        let sweep = |below, above| vec![Sweep { session: A, below, above }];
        // (seconds, merged, end, what is due then)
        let table = [
            (0, 0, None, vec![]),
            (1, 5, None, vec![]),
            (7, 9, None, vec![]),
            (10, 9, None, vec![]),
            (11, 9, None, sweep(5, None)),
            (12, 9, Some(9), vec![]),
            (17, 9, Some(9), sweep(9, None)),
            (21, 9, Some(9), vec![]),
            (22, 9, Some(9), sweep(9, Some(9))),
            (90, 9, Some(9), vec![]),
        ];
        for (seconds, merged, end, expected) in table {
            ledger.observe(&image(merged, end), at(seconds));
            let sweeps = ledger.sweeps(at(seconds));
            assert_eq!(sweeps, expected, "after {seconds} s");
            sweeps.into_iter().for_each(|sweep| ledger.swept(sweep));
        }
    }

    #[test]
    fn p17_what_was_not_swept_is_due_again() {
        let mut ledger = Ledger::new(GRACE);
        ledger.observe(&image(5, None), at(0));
        for _ in 0..2 {
            assert_eq!(ledger.sweeps(at(10)).len(), 1);
        }
    }

    #[test]
    fn the_lowest_fence_stays() {
        let sweep = Sweep { session: A, below: 5, above: Some(9) };
        let taken: Vec<_> = (0..14).filter(|number| sweep.takes(*number)).collect();
        assert_eq!(taken, [0, 1, 2, 3, 4, 10, 11, 12, 13]);
        let open = Sweep { above: None, ..sweep };
        assert_eq!((0..14).filter(|number| open.takes(*number)).count(), 5);
    }

    #[test]
    fn folders_go_when_no_image_can_name_them_any_more() {
        let id = |revision| RunId { revision, random: 9 };
        let mut image = image(5, None);
        let merged = image.merges.sessions.get_mut(&A).expect("it is there");
        merged.runs.push(crate::meta::image::Run { id: id(3), from: 0, to: 5 });
        image.merges.claims.insert(id(4), Claim { session: A, from: 5, to: 6, by: A });
        let found = [id(2), id(3), id(4), id(8)];
        let mut ledger = Ledger::new(GRACE);
        let mut look = |revision, seconds| ledger.folders(&found, revision, |run| image.merges.names(run), at(seconds));
        assert_eq!(look(7, 0), []);
        assert_eq!(look(7, 9), []);
        assert_eq!(look(8, 10), [id(2)], "8 may be a claim that we did not see at 7");
        assert_eq!(look(8, 19), [id(2)]);
        assert_eq!(look(8, 20), [id(2), id(8)]);
    }
}
