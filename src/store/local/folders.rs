//! Folders that stay open, and one fsync for all who wait for the same folder.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{Mode, OFlags};

/// Open folders at most; a broker writes to two or three at a time.
const OPEN_FOLDERS: usize = 64;

pub enum Failure {
    /// Not opened, not made, not written: no final name was given.
    Io(io::Error),
    /// A folder did not sync, so a name may or may not be durable: the end of this process.
    Sync(io::Error),
}

/// The temporary names' own folder: they need no fsync, and the sweep knows where to look.
pub struct TemporaryFolder {
    pub path: PathBuf,
    pub fd: OwnedFd,
}

/// Opens a folder for fsync and as the base of names.
pub fn open_folder(path: &Path) -> io::Result<File> {
    let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
    std::fs::OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path)
}

/// The root's folders that are in use.
pub struct Folders {
    root: Arc<Folder>,
    temporary: TemporaryFolder,
    open: Mutex<BTreeMap<String, Arc<Folder>>>,
}

impl Folders {
    pub fn new((root, temporary): (File, TemporaryFolder)) -> Folders {
        Folders { root: Arc::new(Folder::new(root)), temporary, open: Mutex::default() }
    }

    pub fn temporary(&self) -> &TemporaryFolder {
        &self.temporary
    }

    /// From now on this folder is one that the kernel cannot sync: a pipe.
    #[cfg(test)]
    pub fn break_syncs(&self, name: &str) {
        let (reader, _writer) = std::io::pipe().expect("a pipe");
        let broken = Folder::new(File::from(OwnedFd::from(reader)));
        self.open.lock().insert(name.to_owned(), Arc::new(broken));
    }

    /// The folder `name` (parts with `/`, "" is the root), made durably with its parents when absent.
    pub fn open_or_make(&self, name: &str) -> Result<Arc<Folder>, Failure> {
        if name.is_empty() {
            return Ok(Arc::clone(&self.root));
        }
        if let Some(folder) = self.open.lock().get(name) {
            return Ok(Arc::clone(folder));
        }
        let (parent, last) = name.rsplit_once('/').unwrap_or(("", name));
        let parent = self.open_or_make(parent)?;
        match rustix::fs::mkdirat(parent.fd(), last, Mode::from_raw_mode(0o755)) {
            Ok(()) => {}
            Err(rustix::io::Errno::EXIST) => {}
            Err(error) => return Err(Failure::Io(error.into())),
        }
        // Also when it was there: another thread may have made it and not synced it yet.
        parent.sync().map_err(Failure::Sync)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd =
            rustix::fs::openat(parent.fd(), last, flags, Mode::empty()).map_err(|error| Failure::Io(error.into()))?;
        let mut open = self.open.lock();
        if open.len() >= OPEN_FOLDERS {
            // Names of sessions grow, so the first are the oldest. Whoever uses one keeps it by its own handle.
            open.pop_first();
        }
        let folder = open.entry(name.to_owned()).or_insert_with(|| Arc::new(Folder::new(File::from(fd))));
        Ok(Arc::clone(folder))
    }
}

/// An open folder. Fsyncs are numbered; who needs one waits for the first that *starts* after it asks.
pub struct Folder {
    file: File,
    syncs: Mutex<Syncs>,
    ended: Condvar,
}

struct Syncs {
    /// The number of the next fsync to start.
    next: u64,
    /// All below have ended well.
    done: u64,
    running: bool,
    failed: bool,
}

impl Folder {
    fn new(file: File) -> Folder {
        Folder {
            file,
            syncs: Mutex::new(Syncs { next: 1, done: 0, running: false, failed: false }),
            ended: Condvar::new(),
        }
    }

    pub fn fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    #[cfg(test)]
    pub fn syncs_begun(&self) -> u64 {
        self.syncs.lock().next - 1
    }

    /// Everything done in the folder before this call is durable after it. A failure is never taken back.
    pub fn sync(&self) -> io::Result<()> {
        let mut syncs = self.syncs.lock();
        let needed = syncs.next;
        loop {
            if syncs.failed {
                return Err(io::Error::other("an earlier fsync of the folder failed"));
            }
            if syncs.done >= needed {
                return Ok(());
            }
            if syncs.running {
                self.ended.wait(&mut syncs);
                continue;
            }
            syncs.running = true;
            let number = syncs.next;
            syncs.next += 1;
            let result = parking_lot::MutexGuard::unlocked(&mut syncs, || self.file.sync_all());
            syncs.running = false;
            match &result {
                Ok(()) => syncs.done = number,
                Err(_) => syncs.failed = true,
            }
            self.ended.notify_all();
            result?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_sync_is_never_taken_back() {
        let (reader, _writer) = std::io::pipe().expect("a pipe");
        // A pipe cannot be fsynced.
        let folder = Folder::new(File::from(OwnedFd::from(reader)));
        assert!(folder.sync().is_err());
        assert!(folder.sync().is_err());
        assert_eq!(folder.syncs.lock().next, 2, "asked the kernel once");
    }

    #[test]
    fn waiters_share_syncs() {
        let root = tempfile::tempdir().expect("a folder");
        let folder = Folder::new(open_folder(root.path()).expect("open"));
        std::thread::scope(|scope| {
            for _ in 0..16 {
                scope.spawn(|| folder.sync().expect("synced"));
            }
        });
        let syncs = folder.syncs.lock();
        assert!(syncs.next <= 17 && syncs.done + 1 == syncs.next && !syncs.running, "{} {}", syncs.next, syncs.done);
    }
}
