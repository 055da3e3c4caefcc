//! Compression of record sections, in the formats that Java clients read and write.
//!
//! Declared sizes are never trusted: 87 bytes can declare gigabytes. Readers give what is really there, in small pieces, and
//! [`decompress`] stops at the caller's limit. Formats: gzip (members may follow one another), snappy in xerial's framing
//! or raw, lz4 frames (see [`lz4`]), zstd frames. Source: the classes in `org.apache.kafka.common.compress`.

use std::borrow::Cow;
use std::io::{self, Read, Write};

use flate2::bufread::GzDecoder;

use super::batch::BatchError;
use super::lz4;

/// A batch's compression. The ids are on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Codec {
    #[default]
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

impl Codec {
    pub const ALL: [Codec; 5] = [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd];

    pub fn from_id(id: i16) -> Option<Codec> {
        Codec::ALL.into_iter().find(|codec| codec.id() == id)
    }

    pub fn id(self) -> i16 {
        self as i16
    }

    /// The name in `compression.type`; `uncompressed` is a name of none's too.
    pub fn from_name(name: &str) -> Option<Codec> {
        match name {
            "none" | "uncompressed" => Some(Codec::None),
            "gzip" => Some(Codec::Gzip),
            "snappy" => Some(Codec::Snappy),
            "lz4" => Some(Codec::Lz4),
            "zstd" => Some(Codec::Zstd),
            _ => None,
        }
    }

    pub fn name(self) -> &'static str {
        ["none", "gzip", "snappy", "lz4", "zstd"][self as usize]
    }
}

/// What xerial's framing starts with: magic, version 1, compatible with version 1.
const XERIAL_HEADER: [u8; 16] = *b"\x82SNAPPY\x00\x00\x00\x00\x01\x00\x00\x00\x01";
const XERIAL_MAGIC_BYTES: usize = 8;
const XERIAL_BLOCK_BYTES: usize = 32 * 1024;
/// A snappy element of 3 bytes makes at most 64: a block that declares more than this many times its size is refused.
const SNAPPY_MAX_RATIO: usize = 22;

const PIECE_BYTES: usize = 16 * 1024;

/// Uncompressed bytes, a piece at a time. Each codec makes pieces as large as it likes, so that nothing is copied twice.
pub(super) trait Pieces {
    /// Puts the next piece in place of what is in `piece`; none is left when it comes out empty.
    fn fill(&mut self, piece: &mut Vec<u8>) -> io::Result<()>;
}

/// The pieces of what is read as a stream.
struct Stream<R>(R);

impl<R: Read> Pieces for Stream<R> {
    fn fill(&mut self, piece: &mut Vec<u8>) -> io::Result<()> {
        piece.resize(PIECE_BYTES, 0);
        let read = self.0.read(piece);
        piece.truncate(*read.as_ref().unwrap_or(&0));
        read.map(|_| ())
    }
}

/// The uncompressed bytes of a section, in pieces, as they are asked for.
pub(super) fn pieces(codec: Codec, section: &[u8]) -> io::Result<Box<dyn Pieces + '_>> {
    Ok(match codec {
        Codec::None => Box::new(Stream(section)),
        Codec::Gzip => Box::new(Stream(Gzip(GzDecoder::new(section)))),
        Codec::Snappy => Box::new(Snappy::new(section)?),
        Codec::Lz4 => Box::new(lz4::Frame::new(section)?),
        Codec::Zstd => Box::new(Stream(zstd::stream::read::Decoder::with_buffer(section)?)),
    })
}

/// The uncompressed bytes of a section, at most `limit`. Memory: at most twice the limit, never more than twice what is
/// really there.
pub fn decompress(codec: Codec, section: &[u8], limit: usize) -> Result<Cow<'_, [u8]>, BatchError> {
    if codec == Codec::None {
        return if section.len() > limit { Err(BatchError::TooLarge { limit }) } else { Ok(Cow::Borrowed(section)) };
    }
    let corrupt = |error: io::Error| BatchError::Decompress(format!("{}: {error}", codec.name()));
    let (mut bytes, mut piece) = (Vec::new(), Vec::new());
    let mut pieces = pieces(codec, section).map_err(corrupt)?;
    loop {
        pieces.fill(&mut piece).map_err(corrupt)?;
        if piece.is_empty() {
            return Ok(Cow::Owned(bytes));
        }
        if piece.len() > limit - bytes.len() {
            return Err(BatchError::TooLarge { limit });
        }
        bytes.extend_from_slice(&piece);
    }
}

/// Compresses a section. `level` is Kafka's (`compression.gzip.level` 1–9, `.lz4.level` 1–17, `.zstd.level` -131072–22);
/// `None` is the codec's default; what is out of range is brought into it.
pub fn compress(codec: Codec, level: Option<i32>, section: &[u8]) -> io::Result<Vec<u8>> {
    match codec {
        Codec::None => Ok(section.to_vec()),
        Codec::Gzip => {
            let level = level.and_then(|level| u32::try_from(level).ok()).filter(|level| *level > 0);
            let level = level.map_or(flate2::Compression::default(), |level| flate2::Compression::new(level.min(9)));
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), level);
            encoder.write_all(section)?;
            encoder.finish()
        }
        Codec::Snappy => compress_xerial(section),
        Codec::Lz4 => {
            let mut encoder = ::lz4::EncoderBuilder::new()
                .level(lz4_level(level))
                .block_size(::lz4::BlockSize::Max64KB)
                .block_mode(::lz4::BlockMode::Independent)
                .checksum(::lz4::ContentChecksum::NoChecksum)
                .build(Vec::new())?;
            encoder.write_all(section)?;
            let (bytes, result) = encoder.finish();
            result.map(|()| bytes)
        }
        // At once, not as a stream: told the size, level 22 takes memory for what is there and not for 128 MiB.
        Codec::Zstd => zstd::bulk::compress(section, level.unwrap_or(3).clamp(-131_072, 22)),
    }
}

/// Kafka's default, 9, means the fast compressor there; other levels are those of the high-compression one (3–12 here).
fn lz4_level(level: Option<i32>) -> u32 {
    match level {
        None | Some(9) => 0,
        Some(level) => u32::try_from(level.clamp(3, 12)).unwrap_or(0),
    }
}

fn compress_xerial(section: &[u8]) -> io::Result<Vec<u8>> {
    let mut out = XERIAL_HEADER.to_vec();
    let mut encoder = snap::raw::Encoder::new();
    for block in section.chunks(XERIAL_BLOCK_BYTES) {
        let block = encoder.compress_vec(block).map_err(io::Error::other)?;
        out.extend(u32::try_from(block.len()).map_err(io::Error::other)?.to_be_bytes());
        out.extend(block);
    }
    Ok(out)
}

pub(super) fn invalid(reason: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

/// Members one after another; what follows the last one and is no member is left out, as Java's reader does.
struct Gzip<'a>(GzDecoder<&'a [u8]>);

impl Read for Gzip<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        loop {
            let read = self.0.read(out)?;
            let rest: &[u8] = self.0.get_ref();
            if read > 0 || out.is_empty() || !rest.starts_with(&[0x1f, 0x8b]) {
                return Ok(read);
            }
            self.0 = GzDecoder::new(rest);
        }
    }
}

/// Blocks of xerial's framing, or one raw block without it.
struct Snappy<'a> {
    rest: &'a [u8],
    raw: bool,
    decoder: snap::raw::Decoder,
}

impl<'a> Snappy<'a> {
    fn new(section: &'a [u8]) -> io::Result<Snappy<'a>> {
        let framed = section.starts_with(&XERIAL_HEADER[..XERIAL_MAGIC_BYTES]);
        let rest = if framed {
            section.get(XERIAL_HEADER.len()..).ok_or_else(|| invalid("the xerial header is cut"))?
        } else {
            section
        };
        Ok(Snappy { rest, raw: !framed, decoder: snap::raw::Decoder::new() })
    }

    fn next_block(&mut self) -> io::Result<&'a [u8]> {
        if self.raw {
            return Ok(std::mem::take(&mut self.rest));
        }
        let (length, rest) = self.rest.split_first_chunk().ok_or_else(|| invalid("a block length is cut"))?;
        let length = usize::try_from(i32::from_be_bytes(*length)).map_err(|_| invalid("a block length is negative"))?;
        let (block, rest) = rest.split_at_checked(length).ok_or_else(|| invalid("a block is cut"))?;
        self.rest = rest;
        Ok(block)
    }
}

impl Pieces for Snappy<'_> {
    /// A block at a time.
    fn fill(&mut self, piece: &mut Vec<u8>) -> io::Result<()> {
        while !self.rest.is_empty() {
            let block = self.next_block()?;
            let declared = snap::raw::decompress_len(block).map_err(|_| invalid("a block has no length"))?;
            if declared > block.len().saturating_mul(SNAPPY_MAX_RATIO) {
                return Err(invalid("a block declares more than it can hold"));
            }
            piece.resize(declared, 0);
            let length = self.decoder.decompress(block, piece);
            piece.truncate(length.map_err(|_| invalid("a block is damaged"))?);
            if !piece.is_empty() {
                return Ok(());
            }
        }
        piece.clear();
        Ok(())
    }
}
