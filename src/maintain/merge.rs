//! Merges windows of segments into runs, one after the other: of this session out of its cache, of sessions that are over out of the
//! store.
//!
//! `ClaimMerge` names the folder before the first byte is written there; each attempt has its own. Objects and manifest are created
//! once and read back; `CommitRun` counts only while the claim is in the image. Walk through the ways to fail: before the commit
//! was sent, the claim is ended and the folder is garbage. With an unclear answer to the commit, the image tells: as long as the claim
//! is there the commit is sent again, when it is gone either the run is there, or somebody else ended the claim, because our session is
//! over. Nothing is ever deleted here.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::copy::{hold, in_memory};
use super::layout::{Draft, lay_out};
use super::plan::{Chore, chores, cut, due};
use super::{FIRST_PAUSE, LONGEST_PAUSE, Maintenance};
use crate::log::append::unmerged::SegmentNote;
use crate::log::recover::RecoveryError;
use crate::meta::entry::Change;
use crate::meta::image::Image;
use crate::meta::{MetaError, ProposeError, level};
use crate::segment::{
    ExtentMeta, Footer, IDENTITY_BYTES, LeftOut, Manifest, RunFooter, RunTail, SegmentError, Tail, manifest_key,
    parse_tail, run_object_key, segment_key,
};
use crate::store::StoreError;
use crate::store::create::{CreateError, CreateOnce, CreatePolicy, Created, create_once};
use crate::store::retry::Backoff;
use crate::types::aligned::Spare;
use crate::types::mutant::{self, Mutant};
use crate::types::{RunId, SegmentNumber, SessionId, TimestampMs, TopicId};

/// Sessions that are over wait for this part of a window after our start: those who come back to us go first.
const START_PART: u32 = 4;

/// The checkpoint of every so manieth run of a session has all its partitions.
const WHOLE_EVERY: usize = 16;

/// One attempt to create an object of a run, and all of them.
const CREATE_ATTEMPT: Duration = Duration::from_secs(120);
const CREATE_DEADLINE: Duration = Duration::from_secs(600);

/// Pauses between two tries to commit.
const COMMIT_PAUSE: Duration = Duration::from_millis(500);

#[derive(Debug, Clone, thiserror::Error)]
pub enum MergeError {
    #[error(transparent)]
    Read(#[from] RecoveryError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Create(#[from] CreateError),
    #[error(transparent)]
    Segment(#[from] SegmentError),
    #[error("{object}: {what}; it was read several times, and nothing is merged without it")]
    Damaged { object: String, what: String },
    #[error("{0}: somebody else's object has this name")]
    NameTaken(String),
    #[error("{0}: it is not what was written")]
    NotAsWritten(String),
    #[error("an object of {0} bytes is too large")]
    TooLarge(u64),
    #[error("claim {0} was ended by somebody else")]
    ClaimGone(RunId),
    #[error("the metadata table: {0}")]
    Metadata(String),
}

/// A window, claimed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Claimed {
    pub run: RunId,
    pub session: SessionId,
    pub from: SegmentNumber,
    pub to: SegmentNumber,
}

/// What is taken of each segment of a window.
pub(super) type Segments = Vec<(SegmentNumber, Vec<ExtentMeta>)>;

/// What failed is tried again after a pause, which grows.
struct Patience {
    backoff: Backoff,
    /// Boot clock.
    until: Duration,
}

impl Patience {
    fn new() -> Patience {
        Patience { backoff: Backoff::new(FIRST_PAUSE, LONGEST_PAUSE), until: Duration::ZERO }
    }

    /// Says that something failed, and gives the pause.
    fn failed(&mut self, room: &Maintenance, error: &MergeError) -> Duration {
        room.metrics.merge_failures.inc();
        let pause = self.backoff.next(room.log.env.entropy.as_ref());
        self.until = room.log.env.clock.boot() + pause;
        tracing::warn!(%error, unmerged = room.unmerged.count(), ?pause, "a merge failed; it is tried again");
        pause
    }
}

pub(super) struct Merger {
    room: Maintenance,
    /// Sessions of others that could not be merged: our own must not wait for them.
    failing: BTreeMap<SessionId, Patience>,
    /// Manifests of others that could not be read.
    following: Patience,
    /// Boot clock before which only our own segments are merged.
    others_from: Duration,
    /// For the mutant `ClaimTwice`: where the last run was written.
    folder: Option<RunId>,
}

impl Merger {
    pub fn new(room: Maintenance) -> Merger {
        let others_from = room.log.env.clock.boot() + room.limits.window / START_PART;
        Merger { room, failing: BTreeMap::new(), following: Patience::new(), others_from, folder: None }
    }

    /// Merges what is due, until it is cancelled.
    pub async fn run(mut self) {
        let tick = (self.room.limits.window / 10).clamp(Duration::from_millis(20), Duration::from_secs(1));
        let mut patience = Patience::new();
        let mut pause = tick;
        loop {
            tokio::time::sleep(pause).await;
            match self.step().await {
                // More may be due.
                Ok(merged) => {
                    pause = if merged { tick / 10 } else { tick };
                    patience = Patience::new();
                }
                Err(error) => pause = tick + patience.failed(&self.room, &error),
            }
        }
    }

    /// Tells whether anything was merged. An error is of our own session, or of the table.
    async fn step(&mut self) -> Result<bool, MergeError> {
        let room = self.room.clone();
        self.follow().await;
        let own = room.log.session;
        // Also after a commit of which we did not hear.
        room.unmerged.merged(room.log.meta.read(|image| image.merges.merged(own)));
        self.show();
        if room.log.meta.read(|image| image.level < level::MERGE) {
            return Ok(false);
        }
        room.unmerged.are_merged();
        let chores = room.log.meta.read(|image| chores(image, own));
        for chore in &chores {
            if let Chore::EndClaim(run) = chore {
                room.end_claim(*run).await?;
            }
        }
        let now = room.log.env.clock.boot();
        let mut merged = self.merge_own(now).await;
        for chore in chores {
            if let Chore::Merge { session, from, end } = chore
                && now >= self.others_from
                && self.merge_other(session, from, end).await
            {
                merged = merged.map(|_| true);
            }
        }
        self.show();
        merged
    }

    /// Turns readers to our own runs, and to those of others. One that can't be read holds up its session's only.
    async fn follow(&mut self) {
        self.room.log.follow_own_runs();
        if self.room.log.env.clock.boot() < self.following.until {
            return;
        }
        match self.room.log.follow_runs().await {
            Ok(()) => self.following = Patience::new(),
            Err(error) => drop(self.following.failed(&self.room, &error.into())),
        }
    }

    /// The next window of our own segments, if one is due.
    async fn merge_own(&mut self, now: Duration) -> Result<bool, MergeError> {
        let room = self.room.clone();
        let (own, limits) = (room.log.session, room.limits);
        let due = room.unmerged.look(|notes| Some((notes.front()?.number, due(notes.iter(), now, &limits)?)));
        let Some((from, to)) = due else { return Ok(false) };
        let footers = room.own_footers(own, from, to).await?;
        self.merge(own, from, to, footers).await?;
        Ok(true)
    }

    /// The next window of a session that is over; tells whether it was merged. One that can't be must not keep the others from it.
    async fn merge_other(&mut self, session: SessionId, from: SegmentNumber, end: SegmentNumber) -> bool {
        let now = self.room.log.env.clock.boot();
        if self.failing.get(&session).is_some_and(|patience| now < patience.until) {
            return false;
        }
        let merged = self.merge_over(session, from, end).await;
        match &merged {
            Ok(()) => drop(self.failing.remove(&session)),
            Err(error) => {
                let patience = self.failing.entry(session).or_insert_with(Patience::new);
                patience.failed(&self.room, error);
                // One that fails slowly takes no more than half of the time.
                patience.until += self.room.log.env.clock.boot().saturating_sub(now);
            }
        }
        merged.is_ok()
    }

    fn show(&self) {
        let count = i64::try_from(self.room.unmerged.count()).unwrap_or(i64::MAX);
        self.room.metrics.unmerged_segments.set(count);
    }

    /// The next window of a session that is over.
    async fn merge_over(
        &mut self,
        session: SessionId,
        from: SegmentNumber,
        end: SegmentNumber,
    ) -> Result<(), MergeError> {
        let room = self.room.clone();
        let most = u64::try_from(room.limits.unmerged_max / 2).unwrap_or(u64::MAX).max(1);
        let footers = room.footers(session, from, end.min(from.saturating_add(most))).await?;
        let notes: Vec<SegmentNote> = footers.iter().map(note_of).collect();
        let Some(to) = cut(notes.iter(), &room.limits) else { return Ok(()) };
        self.merge(session, from, to, footers).await
    }

    /// Merges segments `from..to`; `footers` are theirs, and perhaps of some more.
    async fn merge(
        &mut self,
        session: SessionId,
        from: SegmentNumber,
        to: SegmentNumber,
        footers: Vec<Footer>,
    ) -> Result<(), MergeError> {
        let room = self.room.clone();
        let begun = room.log.env.clock.boot();
        let claimed = room.claim(session, from, to).await?;
        let segments = room.living(footers, claimed.to);
        let folder = self.folder.filter(|_| mutant::on(Mutant::ClaimTwice)).unwrap_or(claimed.run);
        self.folder = Some(folder);
        let written = match room.write_run(Claimed { run: folder, ..claimed }, &segments).await {
            Ok(written) => written,
            Err(error) => {
                // If this fails too, the next step does it.
                room.end_claim(claimed.run).await?;
                return Err(error);
            }
        };
        room.commit(claimed, written.clone()).await?;
        if session == room.log.session {
            room.unmerged.merged(claimed.to);
        }
        let seconds = (room.log.env.clock.boot() - begun).as_secs_f64();
        let metrics = &room.metrics;
        metrics.segments_merged.inc_by(claimed.to - claimed.from);
        metrics.merge_latency.observe(seconds);
        if let Some(manifest) = written {
            let bytes: u64 = manifest.objects.iter().map(RunFooter::body_length).sum();
            metrics.runs_committed.inc();
            metrics.merged_bytes.inc_by(bytes);
            tracing::info!(%session, run = %claimed.run, from = claimed.from, to = claimed.to, bytes,
                objects = manifest.objects.len(), partitions = manifest.checkpoint.len(), seconds, "merged");
        } else {
            tracing::debug!(%session, from = claimed.from, to = claimed.to, "merged segments without records");
        }
        self.follow().await;
        Ok(())
    }
}

fn note_of(footer: &Footer) -> SegmentNote {
    SegmentNote {
        number: footer.number,
        bytes: footer.body_length(),
        batches: footer.extents.iter().map(|extent| extent.batches.len() as u64).sum(),
        at: Duration::ZERO,
    }
}

impl Maintenance {
    /// Footers of our own committed segments: the newest are in memory.
    async fn own_footers(
        &self,
        session: SessionId,
        from: SegmentNumber,
        to: SegmentNumber,
    ) -> Result<Vec<Footer>, MergeError> {
        let mut newest = Vec::new();
        for number in (from..to).rev() {
            if number.is_multiple_of(32) {
                // Those who serve go first.
                tokio::task::yield_now().await;
            }
            let key = segment_key(session, number);
            let Some(bytes) = self.tail.whole(&key) else { break };
            match parse_tail(&key, bytes.len() as u64, &bytes)? {
                Tail::Segment(tail) => newest.push(tail.footer),
                Tail::Fence(_) | Tail::NeedMore(_) => return Err(MergeError::NotAsWritten(key)),
            }
        }
        let known = to - newest.len() as u64;
        let mut footers = if from < known { self.footers(session, from, known).await? } else { Vec::new() };
        footers.extend(newest.into_iter().rev());
        Ok(footers)
    }

    async fn footers(
        &self,
        session: SessionId,
        from: SegmentNumber,
        to: SegmentNumber,
    ) -> Result<Vec<Footer>, MergeError> {
        let reader = &self.log.footers;
        if !mutant::on(Mutant::MergePastEnd) && !mutant::on(Mutant::MergeWithoutMissing) {
            return Ok(reader.footers(session, from, to).await?);
        }
        let mut footers = Vec::new();
        for number in from..to {
            if let Ok(mut one) = reader.footers(session, number, number + 1).await {
                footers.append(&mut one);
            }
        }
        Ok(footers)
    }

    /// What is taken of segments below `to`: all that belongs to a topic which is still there. (A topic that we do not know yet has
    /// nothing there: who wrote knew it, and in the table that stands before the end of his session.)
    fn living(&self, footers: Vec<Footer>, to: SegmentNumber) -> Segments {
        let mut topics: BTreeSet<TopicId> =
            footers.iter().flat_map(|footer| &footer.extents).map(|extent| extent.partition.topic).collect();
        self.log.meta.read(|image| topics.retain(|topic| image.topics.contains_key(topic)));
        let lives = |extent: &ExtentMeta| topics.contains(&extent.partition.topic);
        let of = |footer: Footer| (footer.number, footer.extents.into_iter().filter(lives).collect());
        footers.into_iter().filter(|footer| footer.number < to).map(of).collect()
    }

    async fn claim(&self, session: SessionId, from: SegmentNumber, to: SegmentNumber) -> Result<Claimed, MergeError> {
        let random = self.log.env.entropy.next_u64();
        let by = self.log.session;
        let change = Change::ClaimMerge { session, from, to, by, random: format!("{random:016x}") };
        let revision = self.propose(move |_| Ok(vec![change.clone()])).await?;
        Ok(Claimed { run: RunId { revision, random }, session, from, to })
    }

    async fn end_claim(&self, run: RunId) -> Result<(), MergeError> {
        self.propose(move |image| {
            let there = image.merges.claims.contains_key(&run);
            Ok(if there { vec![Change::EndClaim { claim: run }] } else { Vec::new() })
        })
        .await?;
        tracing::info!(%run, "ended the claim of a merge");
        Ok(())
    }

    async fn propose(
        &self,
        build: impl FnMut(&Image) -> Result<Vec<Change>, Gone> + Send + 'static,
    ) -> Result<u64, MergeError> {
        self.log.meta.propose(build).await.map_err(|error| MergeError::Metadata(error.to_string()))
    }

    /// Makes the run count, and does not return before it is known whether it does.
    async fn commit(&self, claimed: Claimed, written: Option<Arc<Manifest>>) -> Result<(), MergeError> {
        let Claimed { run, session, to, .. } = claimed;
        let empty = written.is_none();
        if let Some(manifest) = written {
            self.log.runs.bring(manifest);
        }
        let mut backoff = Backoff::new(COMMIT_PAUSE, LONGEST_PAUSE);
        let result = loop {
            let proposed = self.log.meta.propose(move |image| {
                if image.merges.claims.contains_key(&run) {
                    return Ok(vec![Change::CommitRun { claim: run, empty }]);
                }
                let done = image.merges.merged(session) >= to && (empty || image.merges.names(run));
                if done { Ok(Vec::new()) } else { Err(Gone) }
            });
            match proposed.await {
                Ok(_) => break Ok(()),
                Err(ProposeError::Refused(Gone)) => break Err(MergeError::ClaimGone(run)),
                Err(ProposeError::Meta(MetaError::Unavailable(_) | MetaError::OutcomeUnknown(_))) => {
                    tokio::time::sleep(backoff.next(self.log.env.entropy.as_ref())).await;
                }
                Err(error) => break Err(MergeError::Metadata(error.to_string())),
            }
        };
        if result.is_err() {
            self.log.runs.drop_own(run);
        }
        result
    }

    /// Objects, then the manifest; all of them read back. `None`: there is nothing to write.
    async fn write_run(&self, claimed: Claimed, segments: &Segments) -> Result<Option<Arc<Manifest>>, MergeError> {
        let env = &self.log.env;
        let created_ms = env.clock.wall_ms();
        let footer = |(number, draft): (u64, &Draft)| {
            let nonce = env.entropy.next_u64();
            RunFooter { run: claimed.run, number, nonce, created_ms, extents: draft.extents.clone() }
        };
        let drafts = lay_out(segments, self.limits.object_bytes);
        let objects: Vec<RunFooter> = (0..).zip(&drafts).map(footer).collect();
        if objects.is_empty() {
            return Ok(None);
        }
        // Before the first object: if it can't be made, nothing was written in vain.
        let (manifest, bytes) = self.manifest(claimed, created_ms, segments, objects).await?;
        // One after the other in the same memory.
        let made = || drafts.iter().zip(&manifest.objects);
        let most = made().map(|(draft, footer)| in_memory(draft) + footer.room()).max();
        let _held = hold(&self.log.budget, most.unwrap_or(0)).await;
        let spare = Arc::default();
        for (draft, footer) in made() {
            self.write_object(claimed.session, draft, footer, &spare).await?;
        }
        drop(spare);
        let key = manifest_key(claimed.run);
        self.create(&key, bytes).await?;
        match self.log.footers.run_tail(&key).await? {
            Some(RunTail::Manifest(read)) if read == manifest => Ok(Some(Arc::new(manifest))),
            _ if mutant::on(Mutant::CommitUnverified) => Ok(Some(Arc::new(manifest))),
            _ => Err(MergeError::NotAsWritten(key)),
        }
    }

    /// The manifest and its bytes. Every so manieth checkpoint of ours has all partitions, if readers take so much; no recovery needs them.
    async fn manifest(
        &self,
        claimed: Claimed,
        created_ms: TimestampMs,
        segments: &Segments,
        objects: Vec<RunFooter>,
    ) -> Result<(Manifest, bytes::Bytes), MergeError> {
        let Claimed { run, session, from, to } = claimed;
        let runs = self.log.meta.read(|image| image.merges.runs(session).len());
        let whole = session == self.log.session && runs % WHOLE_EVERY == WHOLE_EVERY - 1;
        let checkpoint = self.checkpoint(claimed, segments, whole).await?;
        let nonce = self.log.env.entropy.next_u64();
        let mut manifest = Manifest { run, nonce, created_ms, session, from, to, objects, whole, checkpoint };
        let LeftOut { partitions, producers } = manifest.fit();
        if partitions + producers > 0 {
            tracing::warn!(%run, partitions, producers,
                "a checkpoint is too large: partitions without new records are left out, then producers that wrote longest ago");
        }
        let bytes = manifest.encode()?;
        Ok((manifest, bytes))
    }

    async fn write_object(
        &self,
        session: SessionId,
        draft: &Draft,
        footer: &RunFooter,
        spare: &Arc<Spare>,
    ) -> Result<(), MergeError> {
        let body = self.fill(session, draft, footer.room(), spare).await?;
        let key = run_object_key(footer.run, footer.number);
        self.create(&key, footer.seal(body)?).await?;
        match self.log.footers.run_tail(&key).await? {
            Some(RunTail::Object(read)) if read == *footer => Ok(()),
            _ if mutant::on(Mutant::CommitUnverified) || mutant::on(Mutant::ClaimTwice) => Ok(()),
            _ => Err(MergeError::NotAsWritten(key)),
        }
    }

    async fn create(&self, key: &str, body: bytes::Bytes) -> Result<(), MergeError> {
        let policy = CreatePolicy {
            attempt_timeout: CREATE_ATTEMPT,
            deadline: Some(CREATE_DEADLINE),
            ..CreatePolicy::default()
        };
        let request = CreateOnce { key: key.to_owned(), body, identity_bytes: IDENTITY_BYTES };
        match create_once(self.log.footers.store.as_ref(), &self.log.env, request, &policy).await? {
            Created::Theirs { .. } if !mutant::on(Mutant::ClaimTwice) => Err(MergeError::NameTaken(key.to_owned())),
            Created::Ours | Created::Theirs { .. } => Ok(()),
        }
    }
}

#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("the claim is gone")]
struct Gone;
