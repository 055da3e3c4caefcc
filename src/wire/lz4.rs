//! LZ4 frames as Java clients read them: of version 1, with independent blocks, without a dictionary.
//!
//! The checksums of the header and of blocks are checked where they are there. That of the whole content is passed over, as Java's reader
//! does: the CRC-32C of the batch covers every byte already, and to hash what was decompressed takes longer than to decompress it.
//! What follows the frame is left out. Source: the LZ4 frame format 1.6, Lz4BlockInputStream.java.

use std::io;

use twox_hash::XxHash32;

use super::codec::{Pieces, invalid};

const MAGIC: u32 = 0x184d_2204;
const VERSION_MASK: u8 = 0b1100_0000;
const VERSION: u8 = 0b0100_0000;
const INDEPENDENT: u8 = 1 << 5;
const BLOCK_CHECKSUM: u8 = 1 << 4;
const CONTENT_SIZE: u8 = 1 << 3;
/// One bit that means nothing yet, and that of dictionaries.
const RESERVED: u8 = 0b11;
/// Of the second byte of the descriptor: the block size has three bits, the others mean nothing yet.
const BLOCK_SIZE_SHIFT: u8 = 4;
const BLOCK_RESERVED: u8 = 0b1000_1111;
/// Of a block's length: it is stored as it is.
const STORED: u32 = 1 << 31;
/// A byte of a compressed block makes at most so many: those of a match's length.
const MAX_RATIO: usize = 255;
/// Most blocks hold less than this, or than this many times their length.
const LIKELY_BYTES: usize = 64 << 10;
const LIKELY_RATIO: usize = 4;

/// The blocks of one frame.
pub struct Frame<'a> {
    rest: &'a [u8],
    block_bytes: usize,
    block_checksums: bool,
    ended: bool,
}

impl<'a> Frame<'a> {
    pub fn new(section: &'a [u8]) -> io::Result<Frame<'a>> {
        let mut rest = section;
        if number(&mut rest)? != MAGIC {
            return Err(invalid("it does not begin as an lz4 frame"));
        }
        let descriptor = rest;
        let [flags, block] = *array(&mut rest)?;
        if flags & VERSION_MASK != VERSION || flags & RESERVED != 0 || block & BLOCK_RESERVED != 0 {
            return Err(invalid("an lz4 frame of another kind"));
        }
        if flags & INDEPENDENT == 0 {
            return Err(invalid("no lz4 frame with independent blocks"));
        }
        let block_bytes = match block >> BLOCK_SIZE_SHIFT {
            size @ 4..=7 => 1 << (8 + 2 * size),
            _ => return Err(invalid("its lz4 blocks have no size that exists")),
        };
        if flags & CONTENT_SIZE != 0 {
            array::<8>(&mut rest)?;
        }
        let hash = XxHash32::oneshot(0, &descriptor[..descriptor.len() - rest.len()]);
        if *array(&mut rest)? != [hash.to_le_bytes()[1]] {
            return Err(invalid("the header of its lz4 frame is damaged"));
        }
        Ok(Frame { rest, block_bytes, block_checksums: flags & BLOCK_CHECKSUM != 0, ended: false })
    }
}

impl Pieces for Frame<'_> {
    /// A block at a time.
    fn fill(&mut self, piece: &mut Vec<u8>) -> io::Result<()> {
        piece.truncate(self.block_bytes);
        while !self.ended {
            let length = number(&mut self.rest)?;
            if length == 0 {
                self.ended = true;
                break;
            }
            let stored = length & STORED != 0;
            let length = usize::try_from(length & !STORED).map_err(io::Error::other)?;
            if length > self.block_bytes {
                return Err(invalid("an lz4 block is longer than its frame allows"));
            }
            let block = bytes(&mut self.rest, length)?;
            if self.block_checksums && number(&mut self.rest)? != XxHash32::oneshot(0, block) {
                return Err(invalid("an lz4 block is damaged"));
            }
            if stored {
                piece.clear();
                piece.extend_from_slice(block);
            } else {
                decompress(block, self.block_bytes.min(block.len() * MAX_RATIO), piece)?;
            }
            if !piece.is_empty() {
                return Ok(());
            }
        }
        piece.clear();
        Ok(())
    }
}

/// Puts the content of a block, at most `bound` bytes, in place of what is in `piece`. Frames allow blocks far larger than what is in them,
/// and to fill so much memory with zeros takes as long as to decompress: more room is made when it proves too small.
fn decompress(block: &[u8], bound: usize, piece: &mut Vec<u8>) -> io::Result<()> {
    let mut room = bound.min(LIKELY_BYTES.max(block.len() * LIKELY_RATIO));
    loop {
        piece.resize(room, 0);
        let size = i32::try_from(room).map_err(io::Error::other)?;
        match lz4::block::decompress_to_buffer(block, Some(size), piece) {
            Ok(made) => {
                piece.truncate(made);
                return Ok(());
            }
            Err(_) if room < bound => room = bound.min(room * LIKELY_RATIO),
            Err(_) => return Err(invalid("an lz4 block can't be decompressed")),
        }
    }
}

fn bytes<'a>(rest: &mut &'a [u8], length: usize) -> io::Result<&'a [u8]> {
    let (head, tail) = rest.split_at_checked(length).ok_or_else(|| invalid("its lz4 frame is cut"))?;
    *rest = tail;
    Ok(head)
}

fn array<'a, const N: usize>(rest: &mut &'a [u8]) -> io::Result<&'a [u8; N]> {
    let (head, tail) = rest.split_first_chunk().ok_or_else(|| invalid("its lz4 frame is cut"))?;
    *rest = tail;
    Ok(head)
}

fn number(rest: &mut &[u8]) -> io::Result<u32> {
    array(rest).map(|bytes| u32::from_le_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use lz4::{BlockMode, BlockSize, ContentChecksum, EncoderBuilder};

    use super::*;

    fn read(section: &[u8]) -> io::Result<Vec<u8>> {
        let (mut frame, mut piece, mut all) = (Frame::new(section)?, Vec::new(), Vec::new());
        loop {
            frame.fill(&mut piece)?;
            if piece.is_empty() {
                return Ok(all);
            }
            assert!(piece.len() <= frame.block_bytes);
            all.extend_from_slice(&piece);
        }
    }

    fn encode(builder: &mut EncoderBuilder, content: &[u8]) -> Vec<u8> {
        let mut encoder = builder.build(Vec::new()).expect("a frame");
        encoder.write_all(content).expect("written");
        let (bytes, result) = encoder.finish();
        result.expect("ended");
        bytes
    }

    /// Words that compress, then bytes that do not.
    fn content(length: usize) -> Vec<u8> {
        let mut state = 1_u32;
        let mut noise = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state.to_be_bytes()[0]
        };
        (0..length).map(|at| if at % 300_000 < 200_000 { b"alluvium"[at % 8] } else { noise() }).collect()
    }

    #[test]
    fn reads_what_the_library_writes() {
        let sizes = [BlockSize::Max64KB, BlockSize::Max256KB, BlockSize::Max1MB, BlockSize::Max4MB];
        for (size, length) in sizes.iter().flat_map(|size| [0, 1, 65_536, 3_000_001].map(|length| (size, length))) {
            for (checksum, level) in [(ContentChecksum::NoChecksum, 0), (ContentChecksum::ChecksumEnabled, 9)] {
                let mut builder = EncoderBuilder::new();
                builder.block_mode(BlockMode::Independent).level(level);
                builder.block_size(size.clone()).checksum(checksum).content_size(length as u64);
                let content = content(length);
                let mut frame = encode(&mut builder, &content);
                assert_eq!(read(&frame).expect("whole"), content, "{size:?} {length}");
                frame.extend(b"what follows is left out");
                assert_eq!(read(&frame).expect("whole"), content, "{size:?} {length}");
            }
        }
    }

    /// A frame of 64 KiB blocks with these flags and blocks as they are; its header's checksum is right.
    fn frame(flags: u8, block: u8, rest: &[u8]) -> Vec<u8> {
        let mut frame = MAGIC.to_le_bytes().to_vec();
        frame.extend([flags, block]);
        let hash = XxHash32::oneshot(0, &frame[4..]);
        frame.push(hash.to_le_bytes()[1]);
        frame.extend(rest);
        frame
    }

    #[test]
    fn what_java_does_not_read_is_refused() {
        let stored = |length: u32, rest: &[u8]| [&(length | STORED).to_le_bytes()[..], rest].concat();
        let end = [0; 4];
        let good = [&stored(3, b"abc")[..], &end].concat();
        let checked = [&stored(3, b"abc")[..], &XxHash32::oneshot(0, b"abc").to_le_bytes(), &end].concat();
        let flags = VERSION | INDEPENDENT;
        assert_eq!(read(&frame(flags, 0x40, &good)).expect("whole"), b"abc");
        assert_eq!(read(&frame(flags | BLOCK_CHECKSUM, 0x40, &checked)).expect("whole"), b"abc");
        let empty_block = [&stored(0, b"")[..], &good].concat();
        assert_eq!(read(&frame(flags, 0x40, &empty_block)).expect("whole"), b"abc");
        let bad: [(&str, Vec<u8>); 14] = [
            ("nothing", Vec::new()),
            ("another magic", b"\x28\xb5\x2f\xfd\x60\x40\x82\0\0\0\0".to_vec()),
            ("another version", frame(INDEPENDENT, 0x40, &good)),
            ("blocks that depend", frame(VERSION, 0x40, &good)),
            ("a dictionary", frame(flags | 1, 0x40, &good)),
            ("a reserved flag", frame(flags | 2, 0x40, &good)),
            ("a reserved bit", frame(flags, 0xc0, &good)),
            ("another reserved bit", frame(flags, 0x41, &good)),
            ("small blocks", frame(flags, 0x30, &good)),
            ("no end", frame(flags, 0x40, &good[..good.len() - 1])),
            ("a cut block", frame(flags, 0x40, &good[..6])),
            ("a long block", frame(flags, 0x40, &stored(65_537, &[0; 70_000]))),
            ("a bad checksum", frame(flags | BLOCK_CHECKSUM, 0x40, &[&stored(3, b"abc")[..], &[1; 4], &end].concat())),
            ("no lz4", frame(flags, 0x40, &[&3_u32.to_le_bytes()[..], &[0xff; 3], &end].concat())),
        ];
        for (name, section) in bad {
            assert!(read(&section).is_err(), "{name}");
        }
        let mut damaged = frame(flags, 0x40, &good);
        damaged[6] ^= 1;
        assert!(read(&damaged).is_err(), "the header's checksum");
    }
}
