//! Buffers whose first byte lies on a page boundary, so that a file opened with O_DIRECT takes them without a copy.

use bytes::Bytes;

/// Alignment of memory, file position and length that O_DIRECT asks for, in bytes.
pub const PAGE: usize = 4096;

/// Collects bytes at a page boundary.
pub struct AlignedBuffer {
    bytes: Vec<u8>,
    start: usize,
}

impl AlignedBuffer {
    /// Room for `capacity` bytes; growing past it moves the bytes and may lose the alignment (never the content).
    pub fn with_capacity(capacity: usize) -> Self {
        let mut bytes: Vec<u8> = Vec::with_capacity(capacity + PAGE);
        let start = bytes.as_ptr().align_offset(PAGE).min(PAGE);
        bytes.resize(start, 0);
        AlignedBuffer { bytes, start }
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
        Bytes::from(self.bytes).slice(self.start..)
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
}
