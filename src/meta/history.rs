//! The one history: table, markers and snapshots together, so that nothing above sees an entry that might not be the truth.
//!
//! Every read of entries and every append ends with a look at `meta/closed/<generation>` ([`super::truncate`] says why it comes last).
//!
//! Where the table may lose what it answered, the last entry that was applied is looked at again with each read and each append: a table
//! that holds another in its place, or none, holds another history, and the broker stops.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;

use super::MetaOptions;
use super::entry::{Change, Entry, newer};
use super::error::MetaError;
use super::image::Image;
use super::retry::{Objects, Pauses, READS_BEFORE_BELIEF, until};
use super::snapshot;
use super::table::{Append, Chunk, TableError, TableRef, bucket};
use super::truncate::{self, end_of, generation_of};
use crate::store::StoreRef;
use crate::types::Revision;
use crate::types::env::Env;
use crate::types::mutant::{self, Mutant};

/// Entries of one read.
const READ_MAX: usize = 1024;

/// Entries that are likely to follow: a snapshot, while a broker starts; a revision that another broker was first to take, while who wants
/// to append hurries to be next; a hint, or a client that asks for what is not known: one entry, and a look behind it at the same time; any other.
pub(super) const LIKELY_AT_START: usize = 16;
const LIKELY_AFTER_LOSS: usize = 8;
pub(super) const LIKELY_AFTER_HINT: usize = 2;
pub(super) const LIKELY: usize = 1;

/// Time for one write or read of a snapshot, with its retries.
const SNAPSHOT_TIMEOUT: Duration = Duration::from_secs(180);

pub(super) struct History {
    pub store: StoreRef,
    pub table: TableRef,
    pub env: Env,
    pub generation: u64,
    /// Marks of moves of the table up to this revision are history.
    pub moved_at: Revision,
    /// Time for one read, with its retries.
    pub read_timeout: Duration,
    /// Time for one attempt of an append; what takes longer is unknown.
    pub append_timeout: Duration,
    /// Entries and snapshots up to this version are understood.
    pub supports: u16,
    /// The last entry that was applied, and its nonce, where the table may lose it; not when it was found truncated.
    known: Mutex<Option<(Revision, String)>>,
}

/// What follows a revision.
pub(super) enum Tail {
    /// The next entries, in order. `complete` when nothing followed the last of them while it was read.
    Entries { entries: Vec<Entry>, complete: bool },
    /// The place was truncated: only a snapshot helps.
    Truncated,
}

/// How an append ended.
#[derive(Debug)]
pub(super) enum Outcome {
    /// The entry is the truth.
    Counted,
    /// Another entry has the revision, this one never will.
    Lost(Option<Overtaken>),
    /// The generation was closed meanwhile. The entry may have been the truth before that.
    Truncated,
    /// It did not happen and never will.
    Refused(String),
    /// The process ends before it is known.
    Abandoned,
    /// The table can't be read on, and the entry is not seen in it.
    Broken(MetaError),
}

/// What was read of the table when another broker was found to be first.
#[derive(Debug)]
pub(super) struct Overtaken {
    /// From the revision that was to be ours.
    pub entries: Vec<Entry>,
    /// Nothing followed the last of them while it was read.
    pub complete: bool,
    /// When the read began, on the boot clock.
    pub began: Duration,
}

/// Who waits for an append, seen from the task that makes it.
#[derive(Default)]
pub(super) struct Waiters {
    /// One per proposal: whether its caller went away.
    pub gone: Vec<Arc<AtomicBool>>,
    /// Whether the whole `Metadata` is being dropped.
    pub closing: Arc<AtomicBool>,
}

impl Waiters {
    fn any(&self) -> bool {
        self.gone.iter().any(|gone| !gone.load(Ordering::Acquire))
    }

    fn closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }
}

impl History {
    pub fn new(store: StoreRef, table: TableRef, env: Env, options: &MetaOptions) -> History {
        History {
            store,
            table,
            env,
            generation: options.generation,
            moved_at: 0,
            read_timeout: options.read_timeout,
            append_timeout: options.append_timeout,
            supports: options.supports,
            known: Mutex::new(None),
        }
    }

    /// The entry was applied to the image: what follows must follow it.
    pub fn learn(&self, entry: &Entry) {
        if self.table.may_lose() {
            *self.known.lock() = Some((entry.revision, entry.nonce.clone()));
        }
    }

    fn known(&self, revision: Revision) -> Option<String> {
        self.known.lock().as_ref().filter(|known| known.0 == revision).map(|known| known.1.clone())
    }

    pub fn objects(&self) -> Objects<'_> {
        Objects { store: &*self.store, env: &self.env, limit: self.read_timeout }
    }

    /// For snapshots, which may be large.
    pub fn large_objects(&self) -> Objects<'_> {
        Objects { limit: SNAPSHOT_TIMEOUT, ..self.objects() }
    }

    /// The image of the newest snapshot, or of nothing.
    pub async fn newest_snapshot(&self) -> Result<Image, MetaError> {
        let image = snapshot::newest(self.large_objects()).await?.unwrap_or_default();
        if image.level > self.supports && !mutant::on(Mutant::SkipUnknown) {
            let reason = newer("snapshot", u64::from(image.level), self.supports);
            return Err(MetaError::unreadable(snapshot::key(image.revision), reason));
        }
        Ok(image)
    }

    /// Whether the table holds the revision of a snapshot, or has truncated it: a table that ends before has lost writes.
    pub async fn reaches(&self, snapshot: Revision) -> Result<(), MetaError> {
        let mut pauses = Pauses::new(&self.env);
        for _ in 0..READS_BEFORE_BELIEF {
            let there = snapshot == 0 || !self.read_likely(snapshot, 1, 1).await?.bodies.is_empty();
            if there || truncate::is_closed(self.objects(), generation_of(snapshot, self.generation)).await? {
                return Ok(());
            }
            pauses.pause().await;
        }
        let reason = "there is a snapshot of this revision, and the table does not hold it: the table has lost writes";
        Err(MetaError::unreadable(self.object_name(snapshot), reason))
    }

    /// The newest snapshot, after `at`'s successor was found truncated: it must lie beyond that generation.
    pub async fn reload(&self, at: Revision) -> Result<Image, MetaError> {
        let generation = generation_of(at + 1, self.generation);
        let image = self.newest_snapshot().await?;
        if image.revision < end_of(generation, self.generation) {
            let reason = format!("the generation is closed, but the newest snapshot is of revision {}", image.revision);
            return Err(MetaError::unreadable(truncate::closed_key(generation), reason));
        }
        Ok(image)
    }

    /// The entries after `revision`, about so many. `look`: look for the marker also if nothing follows, at the price of a GET.
    pub async fn after(&self, revision: Revision, look: bool, likely: usize) -> Result<Tail, MetaError> {
        let mut pauses = Pauses::new(&self.env);
        for _ in 1..READS_BEFORE_BELIEF {
            match self.try_after(revision, look, likely).await {
                Err(MetaError::Unreadable { .. }) => pauses.pause().await,
                result => return result,
            }
        }
        self.try_after(revision, look, likely).await
    }

    async fn try_after(&self, revision: Revision, look: bool, likely: usize) -> Result<Tail, MetaError> {
        let from = revision + 1;
        let Chunk { bodies, end, gap } = self.read_after(revision, likely).await?;
        let missing = from + bodies.len() as u64;
        let generations = if bodies.is_empty() && !look && !gap {
            None
        } else {
            let last = if gap { missing } else { revision + (bodies.len() as u64).max(1) };
            Some(generation_of(from, self.generation)..=generation_of(last, self.generation))
        };
        for generation in generations.into_iter().flatten() {
            if truncate::is_closed(self.objects(), generation).await? {
                return Ok(Tail::Truncated);
            }
        }
        if gap {
            // Whoever appended what follows knew what is missing; who takes this for the end would write another history.
            let reason = "the revision is missing, and later ones are there: the table has lost writes";
            return Err(MetaError::unreadable(self.object_name(missing), reason));
        }
        let decoded = (from..).zip(&bodies).map(|(revision, body)| self.decode(revision, body));
        let entries: Vec<Entry> = decoded.collect::<Result<_, _>>()?;
        self.check_moves(&entries)?;
        Ok(Tail::Entries { entries, complete: end })
    }

    /// The bodies after `revision`, whose own must still be there, as far as it is known. A place that was truncated says nothing: what was
    /// on its way for long may land there.
    async fn read_after(&self, revision: Revision, likely: usize) -> Result<Chunk, MetaError> {
        if let Some(nonce) = self.known(revision) {
            let mut chunk = self.read_likely(revision, READ_MAX, likely + 1).await?;
            let reason = match chunk.bodies.first() {
                Some(body) if String::from_utf8_lossy(body).contains(&nonce) => {
                    chunk.bodies.remove(0);
                    return Ok(chunk);
                }
                Some(_) => {
                    "the revision holds another entry than it did: the table has lost writes and was written anew"
                }
                None => "the revision was there, and is missing: the table has lost writes",
            };
            if !truncate::is_closed(self.objects(), generation_of(revision, self.generation)).await? {
                return Err(MetaError::unreadable(self.object_name(revision), reason));
            }
            *self.known.lock() = None;
        }
        self.read_likely(revision + 1, READ_MAX, likely).await
    }

    /// The table must not go on elsewhere.
    fn check_moves(&self, entries: &[Entry]) -> Result<(), MetaError> {
        for entry in entries.iter().filter(|entry| entry.revision > self.moved_at) {
            for change in &entry.changes {
                if let Change::MoveTable { to } = change {
                    return Err(MetaError::Moved { revision: entry.revision, to: to.clone() });
                }
            }
        }
        Ok(())
    }

    pub async fn read(&self, from: Revision, limit: usize) -> Result<Chunk, MetaError> {
        self.read_likely(from, limit, LIKELY).await
    }

    async fn read_likely(&self, from: Revision, limit: usize, likely: usize) -> Result<Chunk, MetaError> {
        let again = |error: &TableError| matches!(error, TableError::Unavailable(_));
        let late = || TableError::Unavailable(format!("revision {from}: no answer within {:?}", self.read_timeout));
        let read = || self.table.read_likely(from, limit, likely);
        until(&self.env, self.read_timeout, again, late, read)
            .await
            .map_err(|error| MetaError::Unavailable(error.to_string()))
    }

    fn decode(&self, revision: Revision, body: &[u8]) -> Result<Entry, MetaError> {
        let unreadable = |reason: String| MetaError::unreadable(self.object_name(revision), reason);
        let entry = Entry::decode(revision, body).map_err(|error| unreadable(error.to_string()))?;
        if entry.version > self.supports && mutant::on(Mutant::SkipUnknown) {
            return Ok(Entry { version: 1, changes: vec![Change::Nop {}], ..entry });
        }
        if entry.version > self.supports {
            return Err(unreadable(newer("entry", u64::from(entry.version), self.supports)));
        }
        Ok(entry)
    }

    fn object_name(&self, revision: Revision) -> String {
        match self.table.name() {
            "bucket" => bucket::key(revision),
            table => format!("{table}, revision {revision}"),
        }
    }

    /// Appends the entry and does not return before its outcome is certain, however long that takes; only the end of the process
    /// cuts it short. While the outcome is unknown the same entry is sent again, or, when nobody waits for it any more, a no-op
    /// in its place: whichever lands first decides.
    pub async fn append(&self, entry: &Entry, waiters: &Waiters) -> Outcome {
        let body = entry.encode();
        let no_op = Entry::new(entry.revision, self.env.entropy.next_u128(), vec![Change::Nop {}]).encode();
        let mut pauses = Pauses::new(&self.env);
        let mut may_have_landed = false;
        loop {
            if waiters.closing() {
                return if may_have_landed { Outcome::Abandoned } else { Outcome::Refused(CLOSING.to_owned()) };
            }
            let original = waiters.any() || !may_have_landed;
            let sent = if original { body.clone() } else { no_op.clone() };
            let owner = match tokio::time::timeout(self.append_timeout, self.send(entry.revision, sent)).await {
                Ok(Ok(Append::Appended)) if original => Some(true),
                Ok(Ok(Append::Appended)) => Some(false),
                Ok(Err(TableError::Permanent(reason))) if !may_have_landed => return Outcome::Refused(reason),
                Ok(Ok(Append::Taken)) => match self.overtaken(entry).await {
                    Ok(outcome) => return outcome,
                    Err(error) => match self.owner(entry).await {
                        None if error.is_fatal() => return Outcome::Broken(error),
                        owner => owner,
                    },
                },
                Ok(Ok(Append::Unknown { .. })) if mutant::on(Mutant::TrustLostMeta) => Some(true),
                Ok(Ok(Append::Unknown { .. }) | Err(_)) | Err(_) => {
                    pauses.pause().await;
                    self.owner(entry).await
                }
            };
            if let Some(ours) = owner {
                return self.conclude(entry.revision, ours, waiters).await;
            }
            if !may_have_landed {
                tracing::warn!(
                    revision = entry.revision,
                    "the outcome of an append to the metadata table is unknown; asking on"
                );
            }
            may_have_landed = true;
            pauses.pause().await;
        }
    }

    /// One attempt to append the body, behind the entry that is known to come before.
    async fn send(&self, revision: Revision, body: Bytes) -> Result<Append, TableError> {
        match self.known(revision - 1) {
            Some(nonce) => self.table.append_after(&nonce, revision, body).await,
            None => self.table.append(revision, body).await,
        }
    }

    /// Who was first, from a read of the revision and of what follows it, and a look after that: what a broker does after a loss before
    /// it tries again, while others append on. An error: that read can't tell.
    async fn overtaken(&self, entry: &Entry) -> Result<Outcome, MetaError> {
        let began = self.env.clock.boot();
        match self.after(entry.revision - 1, true, LIKELY_AFTER_LOSS).await? {
            Tail::Truncated => Ok(Outcome::Truncated),
            Tail::Entries { entries, complete } => match entries.first() {
                None => Err(MetaError::Unavailable("nothing is seen where something was".to_owned())),
                Some(first) if first.nonce == entry.nonce => Ok(Outcome::Counted),
                Some(_) => Ok(Outcome::Lost(Some(Overtaken { entries, complete, began }))),
            },
        }
    }

    /// Whether the revision holds this very entry; `None` while nothing is seen there, or nothing can be seen. An entry that can't
    /// be decoded is not this one: whoever reads on will say what is wrong with it.
    async fn owner(&self, entry: &Entry) -> Option<bool> {
        let mut owner = None;
        for _ in 0..READS_BEFORE_BELIEF {
            let body = self.read(entry.revision, 1).await.ok()?.bodies.into_iter().next()?;
            match self.decode(entry.revision, &body) {
                Ok(found) => return Some(found.nonce == entry.nonce),
                Err(_) => owner = Some(false),
            }
        }
        owner
    }

    /// The last look: what was seen at the revision counts only if its generation is not closed now.
    async fn conclude(&self, revision: Revision, ours: bool, waiters: &Waiters) -> Outcome {
        let mut pauses = Pauses::new(&self.env);
        if mutant::on(Mutant::AppendWithoutLook) {
            return if ours { Outcome::Counted } else { Outcome::Lost(None) };
        }
        loop {
            match truncate::is_closed(self.objects(), generation_of(revision, self.generation)).await {
                Ok(true) => return Outcome::Truncated,
                Ok(false) if ours => return Outcome::Counted,
                Ok(false) => return Outcome::Lost(None),
                Err(_) if waiters.closing() => return Outcome::Abandoned,
                Err(_) => pauses.pause().await,
            }
        }
    }
}

const CLOSING: &str = "the broker is stopping";
