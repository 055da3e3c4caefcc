//! The task that owns the image: the only one that reads the table's tail, applies entries and appends.
//!
//! It takes commands in batches: callers who want the tail share one read, proposals become one entry. Since it appends one entry at
//! a time and does not go on before the outcome is certain, a caller that gives up can't leave an append behind that later
//! changes are not aware of.
//!
//! It keeps a second copy of the image, the scratch, on which proposals are folded: applying a change to both is cheap, copying an
//! image of 100,000 partitions for each entry is not. After a lost race the scratch is copied anew.
//!
//! A table that can't be understood ends it: state "stopped", every later call hears the reason.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use super::MetaOptions;
use super::entry::Entry;
use super::error::MetaError;
use super::history::{History, LIKELY, Outcome, Overtaken, Tail, Waiters};
use super::image::Image;
use super::proposal::{BoxedProposal, End, Plan, fold};
use super::{snapshot, truncate};
use crate::types::Revision;
use crate::types::aside::aside;
use crate::types::mutant::{self, Mutant};

/// Commands taken at once.
const BATCH: usize = 256;

/// Of the reads that find nothing new, one in so many looks for the marker of its generation.
const LOOK_EVERY_IDLE_READS: u32 = 30;

/// [`MetaOptions::image_max_age`] of an installation.
pub(super) const IMAGE_MAX_AGE: Duration = Duration::from_secs(10);

pub(super) enum Command {
    Propose(BoxedProposal),
    /// `look`: also look whether what follows the image was truncated. `likely`: about so many entries follow.
    CatchUp {
        reader: oneshot::Sender<Result<Revision, MetaError>>,
        look: bool,
        likely: usize,
    },
    Poll,
}

/// What to read besides what proposals need.
struct Wanted {
    readers: Vec<oneshot::Sender<Result<Revision, MetaError>>>,
    poll: bool,
    look: bool,
    likely: usize,
}

/// What callers see of the owner's work.
pub(super) struct Shared {
    pub image: RwLock<Image>,
    pub revision: watch::Sender<Revision>,
    pub stopped: watch::Sender<Option<Arc<str>>>,
    pub closing: Arc<AtomicBool>,
    /// When the last complete read of the tail began, on the boot clock.
    pub last_read: Mutex<Option<Duration>>,
}

impl Shared {
    /// The reason, once the metadata stopped.
    pub fn check(&self) -> Result<(), MetaError> {
        match &*self.stopped.borrow() {
            Some(reason) => Err(MetaError::Stopped(reason.clone())),
            None => Ok(()),
        }
    }

    fn stop(&self, error: &MetaError) {
        tracing::error!(reason = %error, "the metadata can't be read on");
        self.stopped.send_if_modified(|stopped| {
            let first = stopped.is_none();
            if first {
                *stopped = Some(error.to_string().into());
            }
            first
        });
    }
}

pub(super) struct Owner {
    history: Arc<History>,
    shared: Arc<Shared>,
    options: MetaOptions,
    scratch: Image,
    /// The scratch holds changes that are not known to count.
    scratch_dirty: bool,
    idle_reads: u32,
    /// The last read of the tail failed.
    failing: bool,
    snapshots: Option<JoinHandle<()>>,
}

impl Owner {
    pub fn new(history: Arc<History>, shared: Arc<Shared>, options: MetaOptions) -> Self {
        let scratch = shared.image.read().clone();
        Owner {
            history,
            shared,
            options,
            scratch,
            scratch_dirty: false,
            idle_reads: 0,
            failing: false,
            snapshots: None,
        }
    }

    pub async fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        let mut batch = Vec::new();
        while commands.recv_many(&mut batch, BATCH).await > 0 {
            let mut queue = VecDeque::new();
            let mut wanted = Wanted { readers: Vec::new(), poll: false, look: false, likely: LIKELY };
            for command in batch.drain(..) {
                match command {
                    Command::Propose(proposal) => queue.push_back(proposal),
                    Command::CatchUp { reader, look, likely } => {
                        wanted.readers.push(reader);
                        wanted.look |= look;
                        wanted.likely = wanted.likely.max(likely);
                    }
                    Command::Poll => wanted.poll = true,
                }
            }
            self.serve(queue, wanted).await;
        }
    }

    async fn serve(&mut self, mut queue: VecDeque<BoxedProposal>, wanted: Wanted) {
        let Wanted { readers, poll, look, likely } = wanted;
        let mut fresh = false;
        if poll || !readers.is_empty() || (!queue.is_empty() && self.is_stale()) {
            let result = self.catch_up(look, likely).await;
            fresh = result.is_ok();
            for reader in readers {
                let _caller_may_be_gone = reader.send(result.clone());
            }
            if let Err(error) = result {
                queue.drain(..).for_each(|proposal| proposal.finish(End::Failed(error.clone())));
            }
        }
        while !queue.is_empty() {
            if let Err(error) = self.round(&mut queue, &mut fresh).await {
                queue.drain(..).for_each(|proposal| proposal.finish(End::Failed(error.clone())));
            }
        }
    }

    /// Makes one entry of what is in the queue. Proposals that lost stay in it; on an error those that were in the entry have heard
    /// of it, and the rest of the queue did not happen.
    async fn round(&mut self, queue: &mut VecDeque<BoxedProposal>, fresh: &mut bool) -> Result<(), MetaError> {
        self.shared.check()?;
        let mut plan = self.plan(queue);
        if plan.changes.is_empty() {
            return self.settle(plan, queue, fresh).await;
        }
        let changes = std::mem::take(&mut plan.changes);
        let entry = Entry::new(self.scratch.revision + 1, self.history.env.entropy.next_u128(), changes);
        let waiters = Waiters {
            gone: plan.members.iter().map(|member| member.gone().clone()).collect(),
            closing: self.shared.closing.clone(),
        };
        match self.history.append(&entry, &waiters).await {
            Outcome::Counted => {
                self.apply_own(&entry)?;
                let revision = entry.revision;
                plan.members.into_iter().for_each(|member| member.finish(End::Done(revision)));
                plan.decided.into_iter().for_each(|(proposal, verdict)| proposal.finish(verdict.end(revision)));
                Ok(())
            }
            Outcome::Lost(overtaken) => {
                requeue(plan, queue);
                match overtaken {
                    Some(overtaken) => self.give_way(overtaken).await?,
                    None => self.catch_up(false, LIKELY).await.map(drop)?,
                }
                *fresh = true;
                Ok(())
            }
            Outcome::Truncated => {
                let reason = format!("revision {} was truncated before its outcome was seen", entry.revision);
                finish(plan, &End::Failed(MetaError::OutcomeUnknown(reason)));
                self.catch_up(true, LIKELY).await.map(|_| ())
            }
            Outcome::Refused(reason) => {
                finish(plan, &End::Failed(MetaError::Unavailable(reason)));
                Ok(())
            }
            Outcome::Broken(error) => {
                self.shared.stop(&error);
                finish(plan, &End::Failed(MetaError::OutcomeUnknown(error.to_string())));
                Err(error)
            }
            Outcome::Abandoned => {
                finish(plan, &End::Failed(MetaError::OutcomeUnknown("the broker is stopping".to_owned())));
                Err(MetaError::Unavailable("the broker is stopping".to_owned()))
            }
        }
    }

    fn plan(&mut self, queue: &mut VecDeque<BoxedProposal>) -> Plan {
        let image = self.shared.image.read();
        if self.scratch_dirty {
            self.scratch.clone_from(&image);
        }
        let plan = fold(&image, &mut self.scratch, queue);
        self.scratch_dirty = !plan.changes.is_empty();
        plan
    }

    /// Nobody changes anything. That is said only on an image that was read after the proposals came.
    async fn settle(
        &mut self,
        plan: Plan,
        queue: &mut VecDeque<BoxedProposal>,
        fresh: &mut bool,
    ) -> Result<(), MetaError> {
        if *fresh || plan.decided.is_empty() {
            let revision = self.scratch.revision;
            plan.decided.into_iter().for_each(|(proposal, verdict)| proposal.finish(verdict.end(revision)));
            return Ok(());
        }
        requeue(plan, queue);
        self.catch_up(false, LIKELY).await?;
        *fresh = true;
        Ok(())
    }

    fn is_stale(&self) -> bool {
        let now = self.history.env.clock.boot();
        self.shared.last_read.lock().is_none_or(|read| now.saturating_sub(read) > self.options.image_max_age)
    }

    /// Reads and applies what follows the image. `look`: also look whether the place was truncated if nothing follows.
    async fn catch_up(&mut self, look: bool, likely: usize) -> Result<Revision, MetaError> {
        self.shared.check()?;
        let look = look || self.is_stale() || self.idle_reads + 1 >= LOOK_EVERY_IDLE_READS;
        let before = self.shared.image.read().revision;
        let result = self.follow(look, likely).await;
        self.note(&result);
        match &result {
            Ok(revision) if look || *revision > before => self.idle_reads = 0,
            Ok(_) => self.idle_reads += 1,
            Err(error) if error.is_fatal() => self.shared.stop(error),
            Err(_) => {}
        }
        result
    }

    /// One line when the table stops answering, one when it answers again.
    fn note(&mut self, result: &Result<Revision, MetaError>) {
        match result {
            Err(error) if !self.failing => tracing::warn!(%error, "the metadata table can't be read; trying on"),
            Ok(revision) if self.failing => tracing::info!(revision, "the metadata table answers again"),
            _ => {}
        }
        self.failing = result.is_err();
    }

    /// Applies what came before our own entry.
    async fn give_way(&mut self, overtaken: Overtaken) -> Result<(), MetaError> {
        for entry in &overtaken.entries {
            self.apply(entry).inspect_err(|error| self.shared.stop(error))?;
        }
        if !overtaken.complete {
            return self.catch_up(false, LIKELY).await.map(drop);
        }
        *self.shared.last_read.lock() = Some(overtaken.began);
        self.idle_reads = 0;
        Ok(())
    }

    async fn follow(&mut self, look: bool, likely: usize) -> Result<Revision, MetaError> {
        loop {
            let began = self.history.env.clock.boot();
            let at = self.shared.image.read().revision;
            match self.history.after(at, look, likely).await? {
                Tail::Truncated => {
                    let image = self.history.reload(at).await?;
                    tracing::info!(from = at, to = image.revision, "the metadata table was truncated; snapshot loaded");
                    self.publish(image);
                }
                Tail::Entries { mut entries, complete } => {
                    if mutant::on(Mutant::ApplyOutOfOrder) {
                        swap_pairs(&mut entries);
                    }
                    for entry in &entries {
                        self.apply(entry)?;
                    }
                    if complete {
                        *self.shared.last_read.lock() = Some(began);
                        return Ok(at + entries.len() as u64);
                    }
                }
            }
        }
    }

    fn publish(&mut self, image: Image) {
        let revision = image.revision;
        self.scratch.clone_from(&image);
        self.scratch_dirty = false;
        let before = std::mem::replace(&mut *self.shared.image.write(), image);
        self.shared.revision.send_replace(revision);
        // Readers are let in before a large image is taken apart.
        drop(before);
    }

    /// Applies another broker's entry.
    fn apply(&mut self, entry: &Entry) -> Result<(), MetaError> {
        self.apply_to_image(entry)?;
        if !self.scratch_dirty {
            self.scratch
                .apply(entry)
                .map_err(|error| MetaError::unreadable(format!("revision {}", entry.revision), error))?;
        }
        Ok(())
    }

    /// Applies the entry whose changes the scratch already holds.
    fn apply_own(&mut self, entry: &Entry) -> Result<(), MetaError> {
        self.apply_to_image(entry)?;
        self.scratch.revision = entry.revision;
        self.scratch_dirty = false;
        if entry.revision.is_multiple_of(self.options.snapshot_every)
            || entry.revision.is_multiple_of(self.options.generation)
        {
            self.write_snapshot();
        }
        Ok(())
    }

    fn apply_to_image(&self, entry: &Entry) -> Result<(), MetaError> {
        let applied = self.shared.image.write().apply(entry);
        applied.map_err(|error| {
            let error = MetaError::unreadable(format!("revision {}", entry.revision), error);
            self.shared.stop(&error);
            error
        })?;
        self.history.learn(entry);
        self.shared.revision.send_replace(entry.revision);
        Ok(())
    }

    /// Writes a snapshot of the image as it is and deletes what it makes superfluous, on a task of its own; skipped while one runs.
    /// A failure costs nothing but space: the next snapshot does all that was left.
    pub fn write_snapshot(&mut self) {
        if self.snapshots.as_ref().is_some_and(|running| !running.is_finished()) {
            return;
        }
        // Readers are not in its way: nobody but this task writes to the image. Of 100,000 partitions it takes a tenth of a second.
        let (revision, bytes) = aside(|| {
            let image = self.shared.image.read();
            (image.revision, snapshot::encode(&image))
        });
        let history = self.history.clone();
        self.snapshots = Some(tokio::spawn(async move {
            let objects = history.large_objects();
            let result = async {
                snapshot::write(objects, revision, &bytes).await?;
                truncate::truncate(objects, &*history.table, revision, history.generation).await?;
                snapshot::prune(objects, revision).await
            };
            if let Err(error) = result.await {
                tracing::warn!(revision, %error, "a snapshot of the metadata failed; the next one makes up for it");
            }
        }));
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        if let Some(snapshots) = &self.snapshots {
            snapshots.abort();
        }
        self.shared.closing.store(true, Ordering::Release);
        if std::thread::panicking() {
            self.shared.stop(&MetaError::Unavailable("its task panicked".to_owned()));
        }
    }
}

fn requeue(plan: Plan, queue: &mut VecDeque<BoxedProposal>) {
    let mut again = plan.into_queue();
    again.append(queue);
    *queue = again;
}

/// For the mutant of that name.
fn swap_pairs(entries: &mut [Entry]) {
    for pair in entries.chunks_exact_mut(2) {
        let [first, second] = pair else { continue };
        std::mem::swap(&mut first.changes, &mut second.changes);
    }
}

fn finish(plan: Plan, end: &End) {
    plan.into_queue().into_iter().for_each(|proposal| proposal.finish(end.clone()));
}
