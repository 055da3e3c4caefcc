//! Room for the last words: 16 MiB on disk that are given up when it is full, so that a fence or a metadata revision, both
//! small, can still be written. Until the reserve stands again nothing larger is taken, or it would eat what was freed.

use std::fs::OpenOptions;
use std::io;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use rustix::fs::FallocateFlags;

pub const RESERVE_FILE: &str = ".reserve";
const RESERVE_BYTES: u64 = 16 << 20;
/// Bodies up to here may use the reserve.
const SMALL_BYTES: usize = 4 << 10;

pub struct Reserve {
    path: PathBuf,
    state: Mutex<State>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Standing,
    /// Given up, or there was no room for it.
    Gone,
    /// This file system cannot have one.
    Impossible,
}

impl Reserve {
    /// Makes the reserve if there is room for it.
    pub fn new(root: &Path) -> Reserve {
        let path = root.join(RESERVE_FILE);
        let state = match make(&path) {
            Ok(()) => State::Standing,
            Err(error) => {
                tracing::warn!(%error, path = %path.display(), "no reserve file: a full disk may hold up shutdown");
                if is_full(&error) { State::Gone } else { State::Impossible }
            }
        };
        Reserve { path, state: Mutex::new(state) }
    }

    /// Whether a body of `length` bytes may be written now.
    pub fn admit(&self, length: usize) -> io::Result<()> {
        let mut state = self.state.lock();
        if length > SMALL_BYTES && *state == State::Gone {
            make(&self.path)?;
            *state = State::Standing;
            tracing::info!(path = %self.path.display(), "there is room again; the reserve file stands");
        }
        Ok(())
    }

    /// The disk is full: frees the reserve for a small body. Whether it is worth a second try.
    pub fn give_up(&self, length: usize) -> bool {
        if length > SMALL_BYTES {
            return false;
        }
        let mut state = self.state.lock();
        if *state == State::Standing && std::fs::remove_file(&self.path).is_ok() {
            tracing::warn!(path = %self.path.display(), "the disk is full; the reserve file is given up");
            *state = State::Gone;
        }
        *state == State::Gone
    }
}

pub fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Really allocates; a file that could not be filled is removed again.
fn make(path: &Path) -> io::Result<()> {
    let file = OpenOptions::new().write(true).create(true).truncate(false).open(path)?;
    let result = match rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, RESERVE_BYTES) {
        Err(rustix::io::Errno::OPNOTSUPP) => fill(&file),
        other => other.map_err(io::Error::from),
    };
    if result.is_err() {
        // The file is of use only as a whole.
        std::fs::remove_file(path)?;
    }
    result
}

fn fill(file: &std::fs::File) -> io::Result<()> {
    use std::os::unix::fs::FileExt;
    let block = vec![1u8; 1 << 20];
    for position in (0..RESERVE_BYTES).step_by(block.len()) {
        file.write_all_at(&block, position)?;
    }
    file.sync_all()
}
