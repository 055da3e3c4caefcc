//! One file: written under a temporary name, durable, then linked; and read back.

use std::fs::{File, OpenOptions};
use std::io::{self, IoSliceMut, Read, Seek, SeekFrom};
use std::ops::Range;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use rustix::fd::{AsFd, BorrowedFd};
use rustix::fs::{AtFlags, OFlags, RenameFlags};

use super::super::{BLOCK_READ_BYTES, ReadBlocks, ReadBytes, ReadRange};
use super::folders::TemporaryFolder;
use super::gate::Gate;
use crate::types::aligned::{AlignedBuffer, AlignedPool, PAGE, PooledBuffer};

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

/// A body larger than segments usually are goes out in pieces with pauses between them: nobody waits for it, and those whose
/// acknowledgements wait for a small one must not stand behind all of it in the disk's queue.
const LARGE_BYTES: usize = 16 << 20;
const PIECE_BYTES: usize = 1 << 20;
const PIECE_PAUSE: Duration = Duration::from_millis(1);

/// Whole pages go out straight from the body when it begins on a page boundary, else by way of a buffer that does; the last
/// partial page is padded, and the file then cut to length.
fn write_direct(file: &File, body: &Bytes) -> io::Result<()> {
    let whole = body.len() - body.len() % PAGE;
    if body.as_ptr().align_offset(PAGE) == 0 {
        let piece = if whole > LARGE_BYTES { PIECE_BYTES } else { LARGE_BYTES };
        for at in (0..whole).step_by(piece) {
            file.write_all_at(&body[at..whole.min(at + piece)], at as u64)?;
            if whole > LARGE_BYTES {
                std::thread::sleep(PIECE_PAUSE);
            }
        }
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

/// Whether a read of so much is one that others may have to wait for.
pub fn is_long(range: &Range<u64>) -> bool {
    range.end.saturating_sub(range.start) >= DIRECT_READ_BYTES as u64
}

/// Reads a range of a file that never changes. Long reads go past the page cache, in which nobody would look for them again.
pub fn read(
    path: &Path,
    range: &ReadRange,
    direct: Direct,
    pool: &Arc<AlignedPool>,
    gate: &Gate,
) -> Result<ReadBytes, ReadError> {
    let mut file = File::open(path)?;
    let metadata = file.metadata()?;
    if metadata.is_dir() {
        return Err(io::Error::from(io::ErrorKind::IsADirectory).into());
    }
    let object_size = metadata.len();
    let range = range.resolve(object_size).ok_or(ReadError::OutOfRange(object_size))?;
    let length = usize::try_from(range.end - range.start).map_err(io::Error::other)?;
    if direct == Direct::Yes && length >= DIRECT_READ_BYTES {
        let bytes = read_direct(path, range.start, length, pool, gate)?;
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

/// Reads blocks that lie side by side with one call of the kernel, past the page cache, each into the buffer that it stays in. `None`:
/// a range that does not begin on a page, one that is short, or a file that can't be read so; see [`read`].
pub fn read_blocks(
    path: &Path,
    range: &Range<u64>,
    pool: &Arc<AlignedPool>,
    gate: &Gate,
) -> Result<Option<ReadBlocks>, ReadError> {
    if !range.start.is_multiple_of(PAGE as u64) || !is_long(range) {
        return Ok(None);
    }
    let Ok(file) = open_direct(path) else { return Ok(None) };
    let object_size = file.metadata()?.len();
    let range = ReadRange::Range(range.clone()).resolve(object_size).ok_or(ReadError::OutOfRange(object_size))?;
    let length = usize::try_from(range.end - range.start).map_err(io::Error::other)?;
    let lengths = || (0..length).step_by(BLOCK_READ_BYTES).map(|at| BLOCK_READ_BYTES.min(length - at));
    let mut buffers: Vec<PooledBuffer> = lengths().map(|length| pool.take_for(length)).collect();
    let mut slices: Vec<&mut [u8]> = buffers.iter_mut().map(PooledBuffer::as_mut_slice).collect();
    fill_direct(&file, range.start, &mut slices, length, gate)?;
    let blocks = buffers.into_iter().zip(lengths()).map(|(buffer, length)| buffer.freeze(length)).collect();
    Ok(Some(ReadBlocks { blocks, object_size }))
}

fn open_direct(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(OFlags::DIRECT.bits().cast_signed()).open(path)
}

/// Reads whole pages around the range into a buffer at a page boundary; into one of the pool's if it is just as long.
fn read_direct(path: &Path, start: u64, length: usize, pool: &Arc<AlignedPool>, gate: &Gate) -> io::Result<Bytes> {
    let file = open_direct(path)?;
    let before = usize::try_from(start % PAGE as u64).map_err(io::Error::other)?;
    let mut buffer = pool.take_for(before + length);
    fill_direct(&file, start - before as u64, &mut [buffer.as_mut_slice()], before + length, gate)?;
    Ok(buffer.freeze(before + length).slice(before..))
}

/// Reads from `start` on into one buffer after the other, each of whole pages, until `wanted` bytes of them are those of the file.
fn fill_direct(file: &File, start: u64, buffers: &mut [&mut [u8]], wanted: usize, gate: &Gate) -> io::Result<()> {
    let mut read = 0;
    // The last page of the file comes short; any other short read goes on where it stopped, at a page boundary.
    while read < wanted {
        let from = read - read % PAGE;
        let step = |most| rustix::io::preadv(file, &mut behind(buffers, from, most), start + from as u64);
        match gate.step(step) {
            Ok(more) if from + more > read => read = from + more,
            Ok(_) => return Err(io::Error::from(io::ErrorKind::UnexpectedEof)),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// What lies behind the first `skip` bytes of the buffers, `most` bytes of it.
fn behind<'a>(buffers: &'a mut [&mut [u8]], mut skip: usize, mut most: usize) -> Vec<IoSliceMut<'a>> {
    let mut slices = Vec::with_capacity(buffers.len());
    for buffer in buffers {
        let begin = skip.min(buffer.len());
        skip -= begin;
        let end = buffer.len().min(begin.saturating_add(most));
        most -= end - begin;
        if begin < end {
            slices.push(IoSliceMut::new(&mut buffer[begin..end]));
        }
    }
    slices
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_come_into_buffers_of_their_own() {
        const BLOCK: u64 = BLOCK_READ_BYTES as u64;
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("object");
        let body: Vec<u8> = (0..2 * BLOCK + 200_001).map(|i| u8::try_from(i % 251).expect("small")).collect();
        std::fs::write(&path, &body).expect("written");
        let pool = AlignedPool::new(BLOCK_READ_BYTES, 9);
        let size = body.len() as u64;
        // (range, the blocks' lengths; none: not to be read so)
        let table: [(Range<u64>, Option<&[u64]>); 8] = [
            (0..BLOCK, Some(&[BLOCK])),
            (0..size, Some(&[BLOCK, BLOCK, 200_001])),
            (BLOCK..2 * BLOCK + 5, Some(&[BLOCK, 5])),
            (2 * BLOCK..size, Some(&[200_001])),
            (BLOCK..size + 99, Some(&[BLOCK, 200_001])),
            (PAGE as u64..PAGE as u64 + 150_000, Some(&[150_000])),
            (10..BLOCK, None),
            (0..100, None),
        ];
        let gate = Gate::new();
        for ((range, lengths), busy) in table.iter().flat_map(|case| [(case.clone(), false), (case.clone(), true)]) {
            let _create = busy.then(|| gate.create());
            let read = match read_blocks(&path, &range, &pool, &gate) {
                Ok(read) => read,
                Err(ReadError::Io(error)) => panic!("{range:?}: {error}"),
                Err(ReadError::OutOfRange(size)) => panic!("{range:?} of {size}"),
            };
            let found =
                read.as_ref().map(|read| read.blocks.iter().map(|block| block.len() as u64).collect::<Vec<_>>());
            assert_eq!(found.as_deref(), lengths, "{range:?}");
            if let Some(read) = read {
                let range = range.start as usize..range.end.min(size) as usize;
                assert!(read.object_size == size && read.blocks.concat() == body[range.clone()], "{range:?}");
            }
        }
        let outside = read_blocks(&path, &(size.next_multiple_of(BLOCK)..size * 2), &pool, &gate);
        assert!(matches!(outside, Err(ReadError::OutOfRange(found)) if found == size));
    }

    #[test]
    fn a_short_read_goes_on_where_it_stopped() {
        let all = usize::MAX;
        let table: [(usize, usize, &[usize]); 10] = [
            (0, all, &[2, 3, 1]),
            (1, all, &[1, 3, 1]),
            (2, all, &[3, 1]),
            (4, all, &[1, 1]),
            (6, all, &[]),
            (0, 2, &[2]),
            (0, 3, &[2, 1]),
            (1, 5, &[1, 3, 1]),
            (1, 2, &[1, 1]),
            (5, 4, &[1]),
        ];
        for (skip, most, expected) in table {
            let (mut a, mut b, mut c) = ([0; 2], [0; 3], [0; 1]);
            let mut buffers: [&mut [u8]; 3] = [&mut a, &mut b, &mut c];
            let lengths: Vec<usize> = behind(&mut buffers, skip, most).iter().map(|slice| slice.len()).collect();
            assert_eq!(lengths, expected, "{skip} {most}");
        }
    }
}
