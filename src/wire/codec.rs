//! Compression of record sections, in the formats that Java clients read and write.
//!
//! Declared sizes are never trusted: 87 bytes can declare gigabytes. Readers give what is really there, in small pieces, and
//! [`decompress`] stops at the caller's limit. Formats: gzip (members may follow one another), snappy in xerial's framing
//! or raw, lz4 frames with independent blocks, zstd frames. Source: the classes in `org.apache.kafka.common.compress`.

use std::borrow::Cow;
use std::io::{self, Read, Write};

use flate2::bufread::GzDecoder;

use super::batch::BatchError;

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

const LZ4_MAGIC: [u8; 4] = [0x04, 0x22, 0x4d, 0x18];
/// Version 1 and independent blocks, the only ones that Java clients read.
const LZ4_FLAGS: u8 = 0b0110_0000;
const LZ4_FLAGS_MASK: u8 = 0b1110_0000;

/// The uncompressed bytes of a section, in pieces, as they are read.
pub(super) fn reader(codec: Codec, section: &[u8]) -> io::Result<Box<dyn Read + '_>> {
    Ok(match codec {
        Codec::None => Box::new(section),
        Codec::Gzip => Box::new(Gzip(GzDecoder::new(section))),
        Codec::Snappy => Box::new(Snappy::new(section)?),
        Codec::Lz4 => {
            let descriptor = section.get(..5).filter(|head| head[..4] == LZ4_MAGIC);
            if descriptor.is_none_or(|head| head[4] & LZ4_FLAGS_MASK != LZ4_FLAGS) {
                return Err(invalid("no lz4 frame with independent blocks"));
            }
            Box::new(lz4::Decoder::new(section)?)
        }
        Codec::Zstd => Box::new(zstd::stream::read::Decoder::with_buffer(section)?),
    })
}

/// The uncompressed bytes of a section, at most `limit`. Memory: at most twice the limit, never more than twice what is
/// really there.
pub fn decompress(codec: Codec, section: &[u8], limit: usize) -> Result<Cow<'_, [u8]>, BatchError> {
    if codec == Codec::None {
        return if section.len() > limit { Err(BatchError::TooLarge { limit }) } else { Ok(Cow::Borrowed(section)) };
    }
    let corrupt = |error: io::Error| BatchError::Decompress(format!("{}: {error}", codec.name()));
    let mut bytes = Vec::new();
    let bound = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    reader(codec, section).map_err(corrupt)?.take(bound).read_to_end(&mut bytes).map_err(corrupt)?;
    if bytes.len() > limit {
        return Err(BatchError::TooLarge { limit });
    }
    Ok(Cow::Owned(bytes))
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
            let mut encoder = lz4::EncoderBuilder::new()
                .level(lz4_level(level))
                .block_size(lz4::BlockSize::Max64KB)
                .block_mode(lz4::BlockMode::Independent)
                .checksum(lz4::ContentChecksum::NoChecksum)
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

fn invalid(reason: &'static str) -> io::Error {
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
    /// The uncompressed bytes of a block; one buffer for all of them.
    block: Vec<u8>,
    /// So many of them are read.
    at: usize,
}

impl<'a> Snappy<'a> {
    fn new(section: &'a [u8]) -> io::Result<Snappy<'a>> {
        let framed = section.starts_with(&XERIAL_HEADER[..XERIAL_MAGIC_BYTES]);
        let rest = if framed {
            section.get(XERIAL_HEADER.len()..).ok_or_else(|| invalid("the xerial header is cut"))?
        } else {
            section
        };
        Ok(Snappy { rest, raw: !framed, decoder: snap::raw::Decoder::new(), block: Vec::new(), at: 0 })
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

impl Read for Snappy<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.at == self.block.len() && !self.rest.is_empty() {
            let block = self.next_block()?;
            let declared = snap::raw::decompress_len(block).map_err(|_| invalid("a block has no length"))?;
            if declared > block.len().saturating_mul(SNAPPY_MAX_RATIO) {
                return Err(invalid("a block declares more than it can hold"));
            }
            self.at = 0;
            self.block.resize(declared, 0);
            let length = self.decoder.decompress(block, &mut self.block);
            self.block.truncate(*length.as_ref().unwrap_or(&0));
            length.map_err(|_| invalid("a block is damaged"))?;
        }
        let read = (&self.block[self.at..]).read(out)?;
        self.at += read;
        Ok(read)
    }
}
