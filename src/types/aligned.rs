//! Buffers whose first byte lies on a page boundary, so that a file opened with O_DIRECT takes them without a copy.

use std::sync::{Arc, Weak};

use bytes::Bytes;
use parking_lot::Mutex;

/// Alignment of memory, file position and length that O_DIRECT asks for, in bytes.
pub const PAGE: usize = 4096;

/// Collects bytes at a page boundary.
pub struct AlignedBuffer {
    bytes: Vec<u8>,
    start: usize,
    /// Where the memory goes back to.
    home: Weak<Spare>,
}

impl AlignedBuffer {
    /// Room for `capacity` bytes; growing past it moves the bytes and may lose the alignment (never the content).
    pub fn with_capacity(capacity: usize) -> Self {
        let mut bytes: Vec<u8> = Vec::with_capacity(capacity + PAGE);
        let start = bytes.as_ptr().align_offset(PAGE).min(PAGE);
        bytes.resize(start, 0);
        AlignedBuffer { bytes, start, home: Weak::new() }
    }

    /// `length` zeros.
    pub fn zeroed(length: usize) -> Self {
        let mut buffer = AlignedBuffer::with_capacity(length);
        buffer.bytes.resize(buffer.start + length, 0);
        buffer
    }

    pub fn extend(&mut self, more: &[u8]) {
        self.bytes.extend_from_slice(more);
    }

    pub fn extend_zeros(&mut self, length: usize) {
        self.bytes.resize(self.bytes.len() + length, 0);
    }

    /// Bytes collected so far.
    pub fn len(&self) -> usize {
        self.bytes.len() - self.start
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes collected so far, to be patched in place.
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..]
    }

    pub fn freeze(self) -> Bytes {
        if self.home.strong_count() > 0 {
            return Bytes::from_owner(Lent(Some(self)));
        }
        Bytes::from(self.bytes).slice(self.start..)
    }
}

impl AsRef<[u8]> for AlignedBuffer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[self.start..]
    }
}

/// Memory for large bodies that are made one after the other: it is not given back between them, so that it is neither taken
/// afresh nor filled with zeros for each.
#[derive(Default)]
pub struct Spare(Mutex<Option<AlignedBuffer>>);

impl Spare {
    /// Room for `capacity` bytes. At most `used` bytes are in it already, with whatever the last user left in them.
    pub fn take(self: &Arc<Self>, capacity: usize, used: usize) -> AlignedBuffer {
        let mut buffer = match self.0.lock().take() {
            Some(kept) if kept.bytes.capacity() - kept.start >= capacity => kept,
            _ => AlignedBuffer::with_capacity(capacity.next_multiple_of(SPARE_STEP)),
        };
        buffer.bytes.truncate(buffer.start + used);
        buffer.home = Arc::downgrade(self);
        buffer
    }
}

/// Bodies of about the same size find room in each other's memory.
const SPARE_STEP: usize = 4 << 20;

/// Goes back where it came from.
struct Lent(Option<AlignedBuffer>);

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        self.0.as_ref().map_or(&[], AsRef::as_ref)
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let Some(buffer) = self.0.take() else { return };
        if let Some(home) = buffer.home.upgrade() {
            *home.0.lock() = Some(buffer);
        }
    }
}

/// Buffers of one size that come back when nobody reads them any more: a new one costs a pass over its bytes, to zero them, and
/// page faults besides. A handful is kept, the rest goes back to the allocator.
pub struct AlignedPool {
    size: usize,
    keep: usize,
    free: Mutex<Vec<AlignedBuffer>>,
}

impl AlignedPool {
    /// Buffers of `size` bytes, of which at most `keep` lie idle.
    pub fn new(size: usize, keep: usize) -> Arc<AlignedPool> {
        Arc::new(AlignedPool { size, keep, free: Mutex::default() })
    }

    /// Bytes of each buffer.
    pub fn size(&self) -> usize {
        self.size
    }

    /// A buffer with whatever its last user left in it.
    pub fn take(self: &Arc<Self>) -> PooledBuffer {
        let buffer = self.free.lock().pop().unwrap_or_else(|| AlignedBuffer::zeroed(self.size));
        PooledBuffer { buffer: Some(buffer), pool: Arc::downgrade(self) }
    }

    /// A buffer for `length` bytes, in whole pages: of the pool, if they are as many as its buffers hold, else one of its own.
    pub fn take_for(self: &Arc<Self>, length: usize) -> PooledBuffer {
        if length == self.size {
            return self.take();
        }
        PooledBuffer { buffer: Some(AlignedBuffer::zeroed(length.next_multiple_of(PAGE))), pool: Weak::new() }
    }
}

/// A buffer that goes back to its pool.
pub struct PooledBuffer {
    /// `None` only while it is dropped.
    buffer: Option<AlignedBuffer>,
    pool: Weak<AlignedPool>,
}

impl PooledBuffer {
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        self.buffer.as_mut().map_or(&mut [], AlignedBuffer::as_mut_slice)
    }

    /// The first `length` bytes; the buffer goes back when the last slice of them is gone.
    pub fn freeze(self, length: usize) -> Bytes {
        Bytes::from_owner(self).slice(..length)
    }
}

impl AsRef<[u8]> for PooledBuffer {
    fn as_ref(&self) -> &[u8] {
        self.buffer.as_ref().map_or(&[], AsRef::as_ref)
    }
}

impl Drop for PooledBuffer {
    fn drop(&mut self) {
        let (Some(buffer), Some(pool)) = (self.buffer.take(), self.pool.upgrade()) else { return };
        let mut free = pool.free.lock();
        if free.len() < pool.keep {
            free.push(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts_on_a_page() {
        for size in [0, 1, PAGE, 100_000] {
            let mut buffer = AlignedBuffer::with_capacity(size);
            buffer.extend(&vec![7; size]);
            assert_eq!(buffer.len(), size);
            let bytes = buffer.freeze();
            assert_eq!(bytes.len(), size);
            assert!(size == 0 || (bytes.as_ptr() as usize).is_multiple_of(PAGE));
            assert!(bytes.iter().all(|byte| *byte == 7));
        }
    }

    #[test]
    fn memory_is_used_again_when_nobody_reads_it_any_more() {
        let spare = Arc::new(Spare::default());
        let mut first = spare.take(10_000, 10_000);
        assert!(first.is_empty());
        first.extend(&[7; 9000]);
        let first = first.freeze();
        let (at, slice) = (first.as_ptr(), first.slice(8000..));
        assert!((at as usize).is_multiple_of(PAGE) && first.len() == 9000);
        drop(first);
        let other = spare.take(10_000, 0);
        assert!(other.as_ref().as_ptr() != at && slice.iter().all(|byte| *byte == 7), "it is still read");
        drop(other);
        drop(slice);
        // (asked for, already in it, the same memory, bytes in it)
        for (capacity, used, same, length) in
            [(9000, 5000, true, 5000), (9000, 9999, true, 5000), (1, 0, true, 0), (5 << 20, 9, false, 0)]
        {
            let buffer = spare.take(capacity, used);
            assert_eq!((buffer.as_ref().as_ptr() == at, buffer.len()), (same, length), "{capacity}");
            drop(buffer.freeze());
        }
        let orphan = spare.take(1, 0);
        drop(spare);
        assert!(orphan.freeze().is_empty());
    }

    #[test]
    fn buffers_come_back_when_the_last_slice_is_gone() {
        let pool = AlignedPool::new(2 * PAGE, 1);
        let mut buffer = pool.take();
        buffer.as_mut_slice().fill(7);
        assert!((buffer.as_ref().as_ptr() as usize).is_multiple_of(PAGE) && buffer.as_ref().len() == 2 * PAGE);
        let bytes = buffer.freeze(5000);
        let slice = bytes.slice(4000..);
        assert_eq!((bytes.len(), slice.len()), (5000, 1000));
        drop(bytes);
        assert_eq!(pool.free.lock().len(), 0);
        let other = pool.take();
        drop(slice);
        drop(other);
        assert_eq!(pool.free.lock().len(), 1, "no more than are to be kept");
        let orphan = pool.take();
        drop(pool);
        drop(orphan);
    }

    #[test]
    fn a_buffer_that_came_back_is_as_long_as_a_new_one() {
        let pool = AlignedPool::new(2 * PAGE, 2);
        for length in [0, 1, PAGE, 2 * PAGE] {
            let mut buffer = pool.take();
            let at = buffer.as_ref().as_ptr();
            assert_eq!((buffer.as_ref().len(), buffer.as_mut_slice().len()), (2 * PAGE, 2 * PAGE), "before {length}");
            let bytes = buffer.freeze(length);
            assert!(bytes.len() == length && (length == 0 || bytes.as_ptr() == at));
            drop(bytes);
            assert_eq!(pool.free.lock().len(), 1);
            assert_eq!(pool.take().as_ref().as_ptr(), at, "the same comes back");
        }
    }

    #[test]
    fn buffers_of_another_length_are_their_own() {
        let pool = AlignedPool::new(2 * PAGE, 9);
        for (length, pages, kept) in
            [(1, 1, 0), (PAGE, 1, 0), (2 * PAGE - 1, 2, 0), (2 * PAGE + 1, 3, 0), (2 * PAGE, 2, 1)]
        {
            let buffer = pool.take_for(length);
            assert_eq!(buffer.as_ref().len(), pages * PAGE, "{length}");
            drop(buffer.freeze(length));
            assert_eq!(pool.free.lock().len(), kept, "{length}");
        }
    }

    #[test]
    fn no_more_buffers_than_asked_for_lie_idle() {
        for keep in [0, 1, 3] {
            let pool = AlignedPool::new(PAGE, keep);
            let taken: Vec<_> = (0..5).map(|_| pool.take()).collect();
            drop(taken);
            assert_eq!(pool.free.lock().len(), keep);
        }
    }
}
