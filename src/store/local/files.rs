//! One file: written under a temporary name, durable, then linked; and read back.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use rustix::fd::{AsFd, BorrowedFd};
use rustix::fs::{AtFlags, OFlags, RenameFlags};

use super::super::{ReadBytes, ReadRange};
use super::folders::TemporaryFolder;
use crate::types::aligned::{AlignedBuffer, AlignedPool, PAGE};

/// Whether files are written past the page cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direct {
    Yes,
    No,
}

/// How a finished file gets its name, failing when the name is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Linking {
    HardLink,
    /// `renameat2` with `RENAME_NOREPLACE`, where hard links do not exist.
    RenameNoReplace,
}

/// A durable file under a temporary name, which goes away with this value.
pub struct Temporary {
    name: String,
    path: PathBuf,
    folder: rustix::fd::OwnedFd,
    renamed: std::cell::Cell<bool>,
}

static NEXT_NAME: AtomicU64 = AtomicU64::new(0);

/// Writes `body` to a new temporary file and fsyncs it. On error the file is gone.
pub fn write_temporary(folder: &TemporaryFolder, body: &Bytes, direct: Direct) -> io::Result<Temporary> {
    let name = format!("{:016x}", NEXT_NAME.fetch_add(1, Ordering::Relaxed));
    let path = folder.path.join(&name);
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o644);
    if direct == Direct::Yes {
        options.custom_flags(OFlags::DIRECT.bits().cast_signed());
    }
    let file = options.open(&path)?;
    let temporary = Temporary { name, path, folder: folder.fd.try_clone()?, renamed: std::cell::Cell::new(false) };
    match direct {
        Direct::Yes => write_direct(&file, body)?,
        Direct::No => file.write_all_at(body, 0)?,
    }
    file.sync_all()?;
    Ok(temporary)
}

/// Whole pages go out straight from the body when it begins on a page boundary, else by way of a buffer that does; the last
/// partial page is padded, and the file then cut to length.
fn write_direct(file: &File, body: &Bytes) -> io::Result<()> {
    let whole = body.len() - body.len() % PAGE;
    if body.as_ptr().align_offset(PAGE) == 0 {
        file.write_all_at(&body[..whole], 0)?;
        if whole < body.len() {
            file.write_all_at(&padded(&body[whole..]), whole as u64)?;
        }
    } else {
        file.write_all_at(&padded(body), 0)?;
    }
    if whole < body.len() {
        file.set_len(body.len() as u64)?;
    }
    Ok(())
}

fn padded(bytes: &[u8]) -> Bytes {
    let length = bytes.len().next_multiple_of(PAGE);
    let mut buffer = AlignedBuffer::with_capacity(length);
    buffer.extend(bytes);
    buffer.extend(&[0; PAGE][..length - bytes.len()]);
    buffer.freeze()
}

impl Temporary {
    /// Gives the file its final name; `AlreadyExists` when something has it.
    pub fn link(&self, folder: BorrowedFd<'_>, name: &str, linking: Linking) -> io::Result<()> {
        match linking {
            Linking::HardLink => {
                rustix::fs::linkat(self.folder.as_fd(), &self.name, folder, name, AtFlags::empty())?;
            }
            Linking::RenameNoReplace => {
                let flags = RenameFlags::NOREPLACE;
                rustix::fs::renameat_with(self.folder.as_fd(), &self.name, folder, name, flags)?;
                self.renamed.set(true);
            }
        }
        Ok(())
    }
}

impl Drop for Temporary {
    /// What cannot be removed now is swept at the next start.
    fn drop(&mut self) {
        if !self.renamed.get()
            && let Err(error) = std::fs::remove_file(&self.path)
        {
            tracing::warn!(path = %self.path.display(), %error, "a temporary file stays behind");
        }
    }
}

pub enum ReadError {
    Io(io::Error),
    /// The file has so many bytes.
    OutOfRange(u64),
}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> Self {
        ReadError::Io(error)
    }
}

/// Shorter reads go through the page cache: they are of footers and of the little that consumers at the tail miss.
const DIRECT_READ_BYTES: usize = 128 << 10;

/// Reads a range of a file that never changes. Long reads go past the page cache, in which nobody would look for them again.
pub fn read(path: &Path, range: &ReadRange, direct: Direct, pool: &Arc<AlignedPool>) -> Result<ReadBytes, ReadError> {
    let mut file = File::open(path)?;
    let metadata = file.metadata()?;
    if metadata.is_dir() {
        return Err(io::Error::from(io::ErrorKind::IsADirectory).into());
    }
    let object_size = metadata.len();
    let range = range.resolve(object_size).ok_or(ReadError::OutOfRange(object_size))?;
    let length = usize::try_from(range.end - range.start).map_err(io::Error::other)?;
    if direct == Direct::Yes && length >= DIRECT_READ_BYTES {
        let bytes = read_direct(path, range.start, length, pool)?;
        return Ok(ReadBytes { bytes, start: range.start, object_size });
    }
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(length).map_err(io::Error::other)?;
    file.seek(SeekFrom::Start(range.start))?;
    file.take(length as u64).read_to_end(&mut bytes)?;
    if bytes.len() != length {
        return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
    }
    Ok(ReadBytes { bytes: Bytes::from(bytes), start: range.start, object_size })
}

/// Reads whole pages around the range into a buffer at a page boundary; into one of the pool's if it is just as long.
fn read_direct(path: &Path, start: u64, length: usize, pool: &Arc<AlignedPool>) -> io::Result<Bytes> {
    let file = OpenOptions::new().read(true).custom_flags(OFlags::DIRECT.bits().cast_signed()).open(path)?;
    let before = usize::try_from(start % PAGE as u64).map_err(io::Error::other)?;
    let pages = (before + length).next_multiple_of(PAGE);
    let first = start - before as u64;
    if before == 0 && length == pool.size() {
        let mut buffer = pool.take();
        fill_direct(&file, first, buffer.as_mut_slice(), length)?;
        return Ok(buffer.freeze(length));
    }
    let mut buffer = AlignedBuffer::zeroed(pages);
    fill_direct(&file, first, buffer.as_mut_slice(), before + length)?;
    Ok(buffer.freeze().slice(before..before + length))
}

/// Reads from `start` on until `wanted` bytes of the buffer, which may be longer, are those of the file.
fn fill_direct(file: &File, start: u64, buffer: &mut [u8], wanted: usize) -> io::Result<()> {
    let mut read = 0;
    // The last page of the file comes short; any other short read goes on where it stopped, at a page boundary.
    while read < wanted {
        let from = read - read % PAGE;
        match file.read_at(&mut buffer[from..], start + from as u64) {
            Ok(more) if from + more > read => read = from + more,
            Ok(_) => return Err(io::Error::from(io::ErrorKind::UnexpectedEof)),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
