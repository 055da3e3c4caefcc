//! Coordination state: the metadata table of revisions and the image that follows from it.
//!
//! ```text
//! propose ─► owner task: build on the image at r ─► append r+1 if absent ─► look for the marker ─► apply ─► answer
//! poll, catch_up ─► owner task: read from r+1 ─► look for the marker ─► apply
//! read ─► image (a lock held for the length of a closure)
//! ```
//!
//! Pure: [`entry`], [`image`], [`apply`], [`rules`], [`level`], [`hash`]. Bytes: [`table`] (revisions), [`snapshot`], [`truncate`], [`cluster`].
//! [`Metadata`] runs them: one task per process owns the image ([`owner`]), another reminds it to read ([`poller`]). [`backends`] finds the table that the settings name; [`audit`] and
//! [`copy`] are for people: they look at all of a table, and move a stopped cluster to another one.
//!
//! Failure: a table that does not answer costs time (`Unavailable`, `OutcomeUnknown` after a deadline); a table that can't be
//! understood stops the metadata for good, and [`Metadata::stopped`] tells the composition root to end the process.
//! Cancellation: a caller may drop any future here; an append on its way is resolved by the owner before the next one.
//! Crash: nothing is kept in the process that the table does not say.

mod alive;
pub mod apply;
pub mod audit;
pub mod backends;
pub mod cluster;
pub mod copy;
pub mod entry;
pub mod error;
pub mod hash;
mod history;
pub mod image;
pub mod level;
mod owner;
mod poller;
mod proposal;
mod retry;
pub mod rules;
mod sealed;
pub mod snapshot;
pub mod table;
pub mod truncate;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use crate::store::StoreRef;
use crate::types::env::Env;
use crate::types::{FEATURE_LEVEL, Revision};
use entry::Change;
pub use error::{MetaError, ProposeError};
use history::{History, LIKELY, LIKELY_AFTER_HINT, LIKELY_AT_START, Tail};
use image::Image;
use owner::{Command, Owner, Shared};
use poller::{Poller, Told};
use proposal::Typed;
use table::TableRef;

/// Commands that may wait for the owner task.
const MAILBOX: usize = 1024;

/// For hints the tail is read no more often than this.
const HINT_PAUSE: Duration = Duration::from_millis(50);

/// Constants that tests make smaller. All brokers of a cluster must agree on `generation`.
#[derive(Clone, Debug)]
pub struct MetaOptions {
    /// Revisions of a generation.
    pub generation: u64,
    /// Whoever appends a multiple of this writes a snapshot.
    pub snapshot_every: u64,
    /// How long `propose` waits before it gives up with `OutcomeUnknown`.
    pub propose_timeout: Duration,
    /// Time for one read of the table or an object, with its retries.
    pub read_timeout: Duration,
    /// Time for one attempt of an append.
    pub append_timeout: Duration,
    /// The table is polled so often while nobody tells of changes.
    pub poll_interval: Duration,
    /// A proposal is built on an image that was compared with the table within this time, lest a broker that did not poll appends to a
    /// generation that is long gone; and who has not read for so long looks whether what follows was truncated. No generation may be
    /// filled within it.
    pub image_max_age: Duration,
    /// The feature level that this program supports; a lower one makes it an older program.
    pub supports: u16,
}

impl Default for MetaOptions {
    fn default() -> Self {
        MetaOptions {
            generation: truncate::GENERATION,
            snapshot_every: 1000,
            propose_timeout: Duration::from_secs(30),
            read_timeout: Duration::from_secs(10),
            append_timeout: Duration::from_secs(10),
            poll_interval: Duration::from_secs(2),
            image_max_age: owner::IMAGE_MAX_AGE,
            supports: FEATURE_LEVEL,
        }
    }
}

/// This process's view of the metadata table, and its way to change it.
pub struct Metadata {
    shared: Arc<Shared>,
    commands: mpsc::Sender<Command>,
    table: TableRef,
    cluster: cluster::Cluster,
    env: Env,
    options: MetaOptions,
    told: watch::Sender<Told>,
}

impl Metadata {
    /// Joins the cluster in the bucket (or founds it) and loads the image: newest snapshot, then the entries after it.
    pub async fn open(
        store: StoreRef,
        table: TableRef,
        env: Env,
        options: MetaOptions,
    ) -> Result<Arc<Metadata>, MetaError> {
        let mut history = History::new(store, table.clone(), env.clone(), &options);
        let (cluster, place) = cluster::join(history.objects(), &env, history.table.name()).await?;
        let began = env.clock.boot();
        let (image, replayed) = load_or_stay(&mut history, place).await?;
        let history = Arc::new(history);
        let shared = Arc::new(Shared {
            revision: watch::Sender::new(image.revision),
            image: RwLock::new(image),
            stopped: watch::Sender::new(None),
            closing: Arc::new(AtomicBool::new(false)),
            last_read: Mutex::new(Some(began)),
        });
        let mut owner = Owner::new(history, shared.clone(), options.clone());
        if replayed >= 2 * options.snapshot_every {
            owner.write_snapshot();
        }
        let (commands, mailbox) = mpsc::channel(MAILBOX);
        tokio::spawn(owner.run(mailbox));
        let told = watch::Sender::new(Told::default());
        Ok(Arc::new(Metadata { shared, commands, table, cluster, env, options, told }))
    }

    /// Looks at the image as this process knows it, up to a poll behind the table. The closure runs under a lock: keep it short, and
    /// call nothing of `Metadata` in it.
    pub fn read<R>(&self, look: impl FnOnce(&Image) -> R) -> R {
        look(&self.shared.image.read())
    }

    /// The feature level that this program supports.
    pub fn supports(&self) -> u16 {
        self.options.supports
    }

    /// 128 random bits in Kafka's 22 characters.
    pub fn cluster_id(&self) -> &str {
        &self.cluster.cluster_id
    }

    /// The revision of the image, and each later one.
    pub fn subscribe(&self) -> watch::Receiver<Revision> {
        self.shared.revision.subscribe()
    }

    /// Changes the table. `build` gives the changes on the image that it is shown, or refuses; it is called again on a newer image as
    /// often as another change comes first, so it has no effects but its result (it may remember what it saw last: of
    /// `AllocateProducerIds`, the first id). Each change is checked by [`rules::check`]. No change at all means "nothing to do".
    ///
    /// Returns the revision that made the change, after this process has applied it. Refusals and "nothing to do" are decided on
    /// the table as it was after the call. Proposals of one process that wait together become one entry, one after the other.
    ///
    /// Dropping the future may or may not stop the change.
    pub async fn propose<E, F>(&self, build: F) -> Result<Revision, ProposeError<E>>
    where
        E: Send + 'static,
        F: FnMut(&Image) -> Result<Vec<Change>, E> + Send + 'static,
    {
        self.shared.check()?;
        let gone = Gone(Arc::new(AtomicBool::new(false)));
        let (reply, answer) = oneshot::channel();
        let proposal = Box::new(Typed { build, refused: None, reply, gone: gone.0.clone() });
        let deadline = tokio::time::Instant::now() + self.options.propose_timeout;
        match tokio::time::timeout_at(deadline, self.commands.send(Command::Propose(proposal))).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return Err(self.ended().into()),
            Err(_) => return Err(MetaError::Unavailable("too many changes wait for it".to_owned()).into()),
        }
        match tokio::time::timeout_at(deadline, answer).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(MetaError::OutcomeUnknown(self.ended().to_string()).into()),
            Err(_) => {
                Err(MetaError::OutcomeUnknown(format!("no answer within {:?}", self.options.propose_timeout)).into())
            }
        }
    }

    /// Reads the table's tail, by a read that begins after the call, and applies it, also when what followed the image was truncated
    /// meanwhile. Returns the image's revision then.
    pub async fn catch_up(&self) -> Result<Revision, MetaError> {
        self.read_tail(true, LIKELY).await
    }

    async fn read_tail(&self, look: bool, likely: usize) -> Result<Revision, MetaError> {
        self.shared.check()?;
        let (reader, answer) = oneshot::channel();
        let ask = async {
            self.commands.send(Command::CatchUp { reader, look, likely }).await.map_err(|_| self.ended())?;
            answer.await.map_err(|_| self.ended())?
        };
        match tokio::time::timeout(self.options.propose_timeout, ask).await {
            Ok(result) => result,
            Err(_) => Err(MetaError::Unavailable(format!("no answer within {:?}", self.options.propose_timeout))),
        }
    }

    /// For hints from outside, however many come: reads the tail unless it was read within the last 50 ms. That the tail was truncated
    /// is noticed by a broker that did not read it for 10 s, and now and then by others.
    pub async fn catch_up_hint(&self) -> Result<Revision, MetaError> {
        self.catch_up_unless_recent(LIKELY).await
    }

    async fn catch_up_unless_recent(&self, likely: usize) -> Result<Revision, MetaError> {
        self.shared.check()?;
        let now = self.env.clock.boot();
        let recent = self.shared.last_read.lock().is_some_and(|read| now.saturating_sub(read) < HINT_PAUSE);
        if recent {
            return Ok(self.shared.image.read().revision);
        }
        self.read_tail(false, likely).await
    }

    /// As [`Metadata::catch_up_hint`], by a read that begins after the call, which waits for up to 50 ms for that.
    pub async fn catch_up_soon(&self) -> Result<Revision, MetaError> {
        let read = *self.shared.last_read.lock();
        let age = read.map(|read| self.env.clock.boot().saturating_sub(read));
        if let Some(early) = age.and_then(|age| HINT_PAUSE.checked_sub(age)) {
            tokio::time::sleep(early).await;
        }
        self.catch_up_unless_recent(LIKELY_AFTER_HINT).await
    }

    /// Somebody says that this revision exists. It may be a lie: at most it costs a read that finds nothing, see [`poller`].
    pub fn hint(&self, revision: Revision) {
        if revision > self.shared.image.read().revision {
            self.told.send_if_modified(|told| told.hear(revision));
        }
    }

    /// All other brokers tell of changes, or not any more: the table is polled less often, or as ever.
    pub fn told_by_all(&self, by_all: bool) {
        self.told.send_if_modified(|told| std::mem::replace(&mut told.by_all, by_all) != by_all);
    }

    /// Follows the table from now on, see [`poller`]. Ends with the metadata.
    pub fn spawn_poller(&self, interval: Duration) -> JoinHandle<()> {
        let poller = Poller {
            interval,
            commands: self.commands.downgrade(),
            shared: self.shared.clone(),
            table: self.table.clone(),
            entropy: self.env.entropy.clone(),
            told: self.told.clone(),
        };
        tokio::spawn(poller.run())
    }

    /// Waits until the metadata stops for good, and says why: then the process has to end with this message.
    pub async fn stopped(&self) -> MetaError {
        let mut stopped = self.shared.stopped.subscribe();
        match stopped.wait_for(Option::is_some).await {
            Ok(reason) => MetaError::Stopped(reason.clone().unwrap_or_else(|| ENDED.into())),
            Err(_) => MetaError::Stopped(ENDED.into()),
        }
    }

    fn ended(&self) -> MetaError {
        self.shared.check().err().unwrap_or_else(|| MetaError::Stopped(ENDED.into()))
    }
}

const ENDED: &str = "its task has ended";

impl Drop for Metadata {
    fn drop(&mut self) {
        self.shared.closing.store(true, Ordering::Release);
    }
}

/// Says that a caller no longer waits, also when its future is dropped.
struct Gone(Arc<AtomicBool>);

impl Drop for Gone {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// Loads the image. A mark of a move that never came to be is made history: this table is the one that stays.
async fn load_or_stay(history: &mut History, mut place: cluster::Place) -> Result<(Image, u64), MetaError> {
    loop {
        history.moved_at = place.revision;
        match load(history).await {
            Err(MetaError::Moved { revision, to }) => {
                tracing::warn!(revision, to, "the metadata table was about to be moved; it stays where it is");
                let table = history.table.name();
                let settled = cluster::settle(history.objects(), place.moves + 1, table, revision).await?;
                if settled.table != table {
                    return Err(MetaError::Moved { revision: settled.revision, to: settled.table });
                }
                place = settled;
            }
            result => return result,
        }
    }
}

/// The image at the end of the table, and how many entries were read after the snapshot.
async fn load(history: &History) -> Result<(Image, u64), MetaError> {
    let mut image = history.newest_snapshot().await?;
    history.reaches(image.revision).await?;
    let mut replayed = 0;
    loop {
        match history.after(image.revision, true, LIKELY_AT_START).await? {
            Tail::Truncated => {
                image = history.reload(image.revision).await?;
                replayed = 0;
            }
            Tail::Entries { entries, complete } => {
                for entry in &entries {
                    let name = || format!("revision {}", entry.revision);
                    image.apply(entry).map_err(|error| MetaError::unreadable(name(), error))?;
                    history.learn(entry);
                }
                replayed += entries.len() as u64;
                if complete {
                    return Ok((image, replayed));
                }
            }
        }
    }
}
