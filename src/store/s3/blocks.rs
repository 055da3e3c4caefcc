//! Blocks that are filled as bytes come. Pure.

use bytes::{Bytes, BytesMut};

use crate::store::BLOCK_READ_BYTES;

/// Bytes on their way into buffers of [`BLOCK_READ_BYTES`] each.
pub struct BlockBuffers {
    full: Vec<Bytes>,
    filling: BytesMut,
    /// Bytes that are still to come.
    missing: usize,
}

impl BlockBuffers {
    /// For `length` bytes; room is made block by block, since the length is only the sender's word.
    pub fn new(length: usize) -> BlockBuffers {
        BlockBuffers { full: Vec::new(), filling: BytesMut::new(), missing: length }
    }

    /// The next bytes. Those past the length are not taken.
    pub fn put(&mut self, bytes: &[u8]) {
        let mut bytes = &bytes[..bytes.len().min(self.missing)];
        while !bytes.is_empty() {
            if self.filling.is_empty() {
                self.filling = BytesMut::with_capacity(self.missing.min(BLOCK_READ_BYTES));
            }
            let (now, later) = bytes.split_at(bytes.len().min(BLOCK_READ_BYTES - self.filling.len()));
            self.filling.extend_from_slice(now);
            self.missing -= now.len();
            if self.missing == 0 || self.filling.len() == BLOCK_READ_BYTES {
                self.full.push(std::mem::take(&mut self.filling).freeze());
            }
            bytes = later;
        }
    }

    /// What came. It is shorter than the length if not everything did.
    pub fn finish(mut self) -> Vec<Bytes> {
        if !self.filling.is_empty() {
            self.full.push(self.filling.freeze());
        }
        self.full
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_the_same_however_the_bytes_come() {
        const BLOCK: usize = BLOCK_READ_BYTES;
        let sent: Vec<u8> = (0..3 * BLOCK).map(|i| u8::try_from(i % 251).expect("small")).collect();
        for (length, sent_bytes) in
            [(0, 10), (1, 1), (BLOCK, BLOCK), (BLOCK + 1, 3 * BLOCK), (3 * BLOCK, 3 * BLOCK), (3 * BLOCK, BLOCK + 7)]
        {
            for chunk in [1000, BLOCK - 1, BLOCK, 2 * BLOCK + 1] {
                let mut buffers = BlockBuffers::new(length);
                sent[..sent_bytes].chunks(chunk).for_each(|bytes| buffers.put(bytes));
                let blocks = buffers.finish();
                let came = length.min(sent_bytes);
                assert_eq!(blocks.concat(), sent[..came], "{length} {chunk}");
                assert_eq!(blocks.len(), came.div_ceil(BLOCK));
                assert!(blocks.iter().rev().skip(1).all(|block| block.len() == BLOCK));
            }
        }
    }
}
