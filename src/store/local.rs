//! Objects as files of one folder on a local disk. One process at a time, by a lock file.
//!
//! **A create** (on a writer thread of its own, see [`pool`]): the body goes to a temporary name with O_DIRECT, is cut to
//! length and fsynced; a hard link gives it its final name (the link fails when the name is taken: that is the create-only);
//! the temporary name goes away; the folder is fsynced; only then the answer goes out, be it yes or "taken". So an answer is
//! never sent that a power cut could take back, not even the answer that somebody else's object is there.
//!
//! **A read** may find a name that a create has linked and not synced yet: `create_once` reads back when it runs out of patience
//! with a slow disk, and would take the name for done. So names between link and fsync are on a list; who reads one of them
//! syncs its folder before it answers.
//!
//! **Failure.** A failed fsync of a file is never tried again on that file: the kernel may have dropped the pages and would say
//! yes the second time. Nothing has the final name yet, so the attempt simply failed. A failed fsync of a *folder* leaves names
//! whose fate nobody knows: the store goes dead, answers nothing but errors, and calls [`Fatal`], upon which the process must exit.
//!
//! **Crash.** Left are temporary names (swept at the next start) and names that are visible but perhaps not yet durable;
//! therefore all folders are fsynced at start, before the first read. A half-written file never has a final name.
//!
//! **Creates first.** Few long reads ask the disk at a time, and while creates come they do so bit by bit, see [`gate`].
//!
//! **Full disk.** A reserve file keeps room for what must still be written then, see [`reserve`].

mod files;
mod folders;
mod gate;
mod listing;
mod pool;
mod reserve;
mod start;

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;

use self::files::{Direct, Linking};
use self::folders::{Failure, Folders};
use self::gate::Gate;
use self::pool::WriterPool;
use self::reserve::Reserve;
use super::key::{check_key, check_prefix};
use super::{BLOCK_READ_BYTES, ListedObject, ReadBlocks, ReadBytes, ReadRange, Store, StoreError};
use crate::types::aligned::AlignedPool;

/// Buffers of block reads that lie idle at most (16 MiB): about as many as an answer of a third of the largest gives back at once.
const BLOCK_BUFFERS_IDLE: usize = 32;

/// Called once when a folder could not be fsynced; the process must exit without another answer to anybody.
pub type Fatal = Arc<dyn Fn(&str) + Send + Sync>;

/// Why a folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    #[error("the folder {folder} is in use by {holder}: one folder, one broker")]
    InUse { folder: String, holder: String },
    #[error(
        "the folder {folder} lies on a network file system ({kind}), whose locks and fsyncs cannot be trusted; \
         use a local disk, or an object store with s3://"
    )]
    NetworkFileSystem { folder: String, kind: &'static str },
    #[error("the folder {folder} cannot be used: {what}: {error}")]
    Unusable { folder: String, what: &'static str, error: std::io::Error },
}

/// A folder of objects, held until it is dropped.
pub struct LocalStore {
    inner: Arc<Inner>,
    pool: WriterPool,
}

struct Inner {
    root: PathBuf,
    folders: Folders,
    reserve: Reserve,
    direct: Direct,
    linking: Linking,
    /// For reads of one block.
    buffers: Arc<AlignedPool>,
    gate: Gate,
    /// Keys whose link may be visible and is not durable yet, with the number of creates that are at it.
    unsynced: Mutex<BTreeMap<String, usize>>,
    dead: AtomicBool,
    fatal: Fatal,
    _lock: std::fs::File,
}

impl LocalStore {
    /// Takes the folder (made when absent) for this process: lock, sweep, fsync of all folders, probes. Blocks for as long as
    /// that takes; a start-up step.
    pub fn open(root: &Path, fatal: Fatal) -> Result<LocalStore, LocalError> {
        let started = start::start(root)?;
        let inner = Inner {
            folders: Folders::new(started.root_fd),
            reserve: started.reserve,
            direct: started.direct,
            linking: started.linking,
            buffers: AlignedPool::new(BLOCK_READ_BYTES, BLOCK_BUFFERS_IDLE),
            gate: Gate::new(),
            root: started.root,
            unsynced: Mutex::default(),
            dead: AtomicBool::new(false),
            fatal,
            _lock: started.lock,
        };
        Ok(LocalStore { inner: Arc::new(inner), pool: WriterPool::start() })
    }

    /// The folder, absolute.
    pub fn root(&self) -> &Path {
        &self.inner.root
    }

    async fn blocking<T: Send + 'static>(
        &self,
        key: &str,
        work: impl FnOnce(&Inner) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let inner = Arc::clone(&self.inner);
        let key = key.to_owned();
        let work = move || {
            inner.check_alive(&key)?;
            work(&inner)
        };
        match tokio::task::spawn_blocking(work).await {
            Ok(result) => result,
            Err(error) => Err(StoreError::maybe("", format!("a file thread ended: {error}"))),
        }
    }
}

impl Inner {
    fn check_alive(&self, key: &str) -> Result<(), StoreError> {
        if self.dead.load(Ordering::Acquire) {
            return Err(StoreError::maybe(key, "the folder failed to sync; the process must exit"));
        }
        Ok(())
    }

    fn create(&self, key: &str, body: &Bytes) -> Result<(), StoreError> {
        self.check_alive(key)?;
        let _creating = self.gate.create();
        self.reserve.admit(body.len()).map_err(|error| map_error(key, &error))?;
        let result = match self.attempt(key, body) {
            Err(Failure::Io(error)) if reserve::is_full(&error) && self.reserve.give_up(body.len()) => {
                self.attempt(key, body)
            }
            result => result,
        };
        match result {
            Ok(()) => Ok(()),
            Err(Failure::Io(error)) => match map_error(key, &error) {
                StoreError::NotFound { .. } => Err(StoreError::permanent(key, "its folder is gone, or is a file")),
                other => Err(other),
            },
            Err(Failure::Sync(error)) => Err(self.die(key, &error)),
        }
    }

    /// `AlreadyExists` is only said when the other's name is durable.
    fn attempt(&self, key: &str, body: &Bytes) -> Result<(), Failure> {
        let (folder_name, file_name) = key.rsplit_once('/').unwrap_or(("", key));
        let folder = self.folders.open_or_make(folder_name)?;
        let temporary = files::write_temporary(self.folders.temporary(), body, self.direct).map_err(Failure::Io)?;
        *self.unsynced.lock().entry(key.to_owned()).or_default() += 1;
        let linked = temporary.link(folder.fd(), file_name, self.linking);
        drop(temporary);
        let visible = match &linked {
            Ok(()) => true,
            Err(error) => error.kind() == std::io::ErrorKind::AlreadyExists,
        };
        if visible {
            // After a failure the key stays on the list.
            folder.sync().map_err(Failure::Sync)?;
        }
        let mut unsynced = self.unsynced.lock();
        match unsynced.get_mut(key) {
            Some(creates) if *creates > 1 => *creates -= 1,
            _ => drop(unsynced.remove(key)),
        }
        linked.map_err(Failure::Io)
    }

    /// To be called after the name was seen, before anybody hears of it.
    fn sync_if_new(&self, key: &str) -> Result<(), StoreError> {
        if !self.unsynced.lock().contains_key(key) {
            return Ok(());
        }
        let (folder_name, _) = key.rsplit_once('/').unwrap_or(("", key));
        let synced = self.folders.open_or_make(folder_name).and_then(|folder| folder.sync().map_err(Failure::Sync));
        match synced {
            Ok(()) => Ok(()),
            Err(Failure::Io(error)) => Err(map_error(key, &error)),
            Err(Failure::Sync(error)) => Err(self.die(key, &error)),
        }
    }

    /// Nobody knows which names are durable now, and asking again would not tell.
    fn die(&self, key: &str, error: &std::io::Error) -> StoreError {
        let reason = format!("the folder of {key} in {} did not sync: {error}", self.root.display());
        if !self.dead.swap(true, Ordering::AcqRel) {
            tracing::error!(%reason, "local store failed");
            (self.fatal)(&reason);
        }
        StoreError::maybe(key, reason)
    }

    fn read(&self, key: &str, range: &ReadRange) -> Result<ReadBytes, StoreError> {
        let read = files::read(&self.root.join(key), range, self.direct, &self.buffers, &self.gate);
        let read = read.map_err(|error| map_read_error(key, range, &error))?;
        self.sync_if_new(key)?;
        Ok(read)
    }

    fn read_blocks(&self, key: &str, range: Range<u64>) -> Result<ReadBlocks, StoreError> {
        if self.direct == Direct::Yes {
            let read = files::read_blocks(&self.root.join(key), &range, &self.buffers, &self.gate);
            if let Some(read) = read.map_err(|error| map_read_error(key, &ReadRange::Range(range.clone()), &error))? {
                self.sync_if_new(key)?;
                return Ok(read);
            }
        }
        self.read(key, &ReadRange::Range(range)).map(ReadBytes::into_blocks)
    }

    fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<ListedObject>, StoreError> {
        let listed = listing::list(&self.root, prefix, after, limit).map_err(|error| map_error(prefix, &error))?;
        let new: Vec<String> = self.unsynced.lock().keys().cloned().collect();
        for key in new.iter().filter(|key| listed.binary_search_by(|object| object.key.cmp(key)).is_ok()) {
            self.sync_if_new(key)?;
        }
        Ok(listed)
    }
}

fn map_read_error(key: &str, range: &ReadRange, error: &files::ReadError) -> StoreError {
    match error {
        files::ReadError::Io(error) => map_error(key, error),
        files::ReadError::OutOfRange(object_size) => {
            StoreError::permanent(key, format!("{range:?} is not in its {object_size} bytes"))
        }
    }
}

/// What an error of the file system proves. Disk errors prove nothing.
fn map_error(key: &str, error: &std::io::Error) -> StoreError {
    use std::io::ErrorKind as Kind;
    match error.kind() {
        Kind::NotFound | Kind::IsADirectory | Kind::NotADirectory => StoreError::not_found(key),
        Kind::AlreadyExists => StoreError::taken(key),
        Kind::StorageFull | Kind::QuotaExceeded => StoreError::permanent(
            key,
            format!("no space left ({error}): free some, or move the folder to a larger disk"),
        ),
        Kind::PermissionDenied | Kind::ReadOnlyFilesystem | Kind::FileTooLarge | Kind::InvalidFilename => {
            StoreError::permanent(key, error)
        }
        _ => StoreError::maybe(key, error),
    }
}

#[async_trait]
impl Store for LocalStore {
    async fn create(&self, key: &str, body: Bytes) -> Result<(), StoreError> {
        check_key(key)?;
        let inner = Arc::clone(&self.inner);
        let owned = key.to_owned();
        match self.pool.run(move || inner.create(&owned, &body)).await {
            Some(result) => result,
            None => Err(StoreError::maybe(key, "the writer thread ended")),
        }
    }

    async fn read(&self, key: &str, range: ReadRange) -> Result<ReadBytes, StoreError> {
        check_key(key)?;
        let owned = key.to_owned();
        let _entered = match &range {
            ReadRange::Range(range) if files::is_long(range) => self.inner.gate.enter().await,
            _ => None,
        };
        self.blocking(key, move |inner| inner.read(&owned, &range)).await
    }

    async fn read_blocks(&self, key: &str, range: Range<u64>) -> Result<ReadBlocks, StoreError> {
        check_key(key)?;
        let owned = key.to_owned();
        let _entered = if files::is_long(&range) { self.inner.gate.enter().await } else { None };
        self.blocking(key, move |inner| inner.read_blocks(&owned, range)).await
    }

    /// Not fsynced: a deletion that a power cut undoes is garbage again, nothing more.
    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        check_key(key)?;
        let owned = key.to_owned();
        self.blocking(key, move |inner| match std::fs::remove_file(inner.root.join(&owned)) {
            Ok(()) => Ok(()),
            Err(error) => match map_error(&owned, &error) {
                StoreError::NotFound { .. } => Ok(()),
                other => Err(other),
            },
        })
        .await
    }

    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<ListedObject>, StoreError> {
        check_prefix(prefix)?;
        let (prefix, after) = (prefix.to_owned(), after.map(str::to_owned));
        self.blocking("", move |inner| inner.list(&prefix, after.as_deref(), limit)).await
    }

    async fn list_folders(&self, prefix: &str) -> Result<Vec<String>, StoreError> {
        check_prefix(prefix)?;
        let prefix = prefix.to_owned();
        self.blocking("", move |inner| {
            listing::list_folders(&inner.root, &prefix).map_err(|error| map_error(&prefix, &error))
        })
        .await
    }

    fn describe(&self) -> String {
        format!("file://{}", self.inner.root.display())
    }

    fn endpoint(&self) -> String {
        self.describe()
    }

    fn is_shared(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn p20_a_name_is_not_shown_before_it_is_durable() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = LocalStore::open(folder.path(), Arc::new(|reason| panic!("{reason}"))).expect("opens");
        store.create("s/0", Bytes::from_static(b"body")).await.expect("free");
        let syncs = || store.inner.folders.open_or_make("s").ok().expect("there").syncs_begun();
        let before = syncs();
        store.read("s/0", ReadRange::Full).await.expect("there");
        store.list("s/", None, 10).await.expect("a list");
        assert_eq!(syncs(), before);
        // As a create that has linked and not synced yet.
        store.inner.unsynced.lock().insert("s/0".to_owned(), 1);
        store.read("s/0", ReadRange::Full).await.expect("there");
        assert_eq!(syncs(), before + 1);
        store.list("s/", None, 10).await.expect("a list");
        assert_eq!(syncs(), before + 2);
        store.read("s/1", ReadRange::Full).await.expect_err("absent");
        assert_eq!(syncs(), before + 2);
    }

    #[tokio::test]
    async fn a_folder_that_does_not_sync_is_the_end() {
        let folder = tempfile::tempdir().expect("a folder");
        let told = Arc::new(Mutex::new(Vec::new()));
        let fatal: Fatal = {
            let told = Arc::clone(&told);
            Arc::new(move |reason: &str| told.lock().push(reason.to_owned()))
        };
        let store = LocalStore::open(folder.path(), fatal).expect("opens");
        store.create("s/0", Bytes::from_static(b"body")).await.expect("free");
        store.inner.folders.break_syncs("s");
        store.inner.unsynced.lock().insert("s/0".to_owned(), 1);
        for _ in 0..2 {
            let read = store.read("s/0", ReadRange::Full).await;
            assert!(matches!(read, Err(StoreError::Maybe { .. })), "{read:?}");
        }
        let created = store.create("other/0", Bytes::from_static(b"body")).await;
        assert!(matches!(created, Err(StoreError::Maybe { .. })), "{created:?}");
        let told = told.lock();
        assert!(told.len() == 1 && told[0].contains("s/0 in "), "{told:?}");
    }
}
