//! The end of an object: the trailer, and what stands before it. FORMAT.md "Trailer".
//!
//! Checked in this order: size, magic, version, kind, lengths, checksum, content, and that the object is the one its key names.

use super::fence::{self, Fence};
use super::names::{parse_segment_key, segment_key};
use super::varint::{Cursor, put};
use super::{Damage, Footer, SegmentError, footer};
use crate::types::{SegmentNumber, SessionId};

/// The version that this program writes and the only one that it reads.
pub const FORMAT_VERSION: u16 = 1;

/// Size of the trailer that every object of ours ends in.
pub const TRAILER_BYTES: usize = 32;

/// So many last bytes of an object tell it from any other that might have its name: they hold nonce, checksum and magic.
pub const IDENTITY_BYTES: usize = TRAILER_BYTES;

/// A footer may not be larger than this.
pub const FOOTER_MAX_BYTES: usize = 64 << 20;

/// Repeated footers take no more than this; those that do not fit are left out, oldest first.
pub const REPEATED_MAX_BYTES: usize = 8 << 20;

const SEGMENT_MAGIC: [u8; 8] = *b"ALVM-SEG";
const FENCE_MAGIC: [u8; 8] = *b"ALVM-FNC";
const RUN_MAGIC: [u8; 8] = *b"ALVM-RUN";
const MANIFEST_MAGIC: [u8; 8] = *b"ALVM-MAN";
const KIND_SEGMENT: u8 = 1;
const KIND_FENCE: u8 = 2;
const KIND_RUN: u8 = 3;
const KIND_MANIFEST: u8 = 4;

/// What the last bytes of an object say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tail {
    Segment(SegmentTail),
    Fence(Fence),
    /// The bytes given are too few: read so many from the end (never more than the object has) and ask again.
    NeedMore(u64),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentTail {
    pub footer: Footer,
    /// Footers of earlier segments of the session, ascending by number, all below [`Footer::committed`].
    pub repeated: Vec<Footer>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Segment,
    Fence,
    Run,
    Manifest,
}

impl Kind {
    fn code(self) -> (u8, [u8; 8]) {
        match self {
            Kind::Segment => (KIND_SEGMENT, SEGMENT_MAGIC),
            Kind::Fence => (KIND_FENCE, FENCE_MAGIC),
            Kind::Run => (KIND_RUN, RUN_MAGIC),
            Kind::Manifest => (KIND_MANIFEST, MANIFEST_MAGIC),
        }
    }
}

fn crc32c(bytes: &[u8]) -> u32 {
    u32::try_from(crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, bytes)).expect("a CRC-32 has 32 bits")
}

/// The trailer for `described`, which is the footer and the repeated footers as they will stand before it.
pub(super) fn trailer(
    kind: Kind,
    described: &[u8],
    repeated_length: usize,
    nonce: u64,
) -> Result<[u8; TRAILER_BYTES], Damage> {
    let length = |length: usize| {
        u32::try_from(length).map_err(|_| Damage::content(format!("a footer of {length} bytes is too large")))
    };
    let (code, magic) = kind.code();
    let mut trailer = [0; TRAILER_BYTES];
    trailer[0..4].copy_from_slice(&length(described.len() - repeated_length)?.to_be_bytes());
    trailer[4..8].copy_from_slice(&length(repeated_length)?.to_be_bytes());
    trailer[8..16].copy_from_slice(&nonce.to_be_bytes());
    trailer[16..18].copy_from_slice(&FORMAT_VERSION.to_be_bytes());
    trailer[18] = code;
    let mut digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi);
    digest.update(described);
    digest.update(&trailer[..20]);
    let crc = u32::try_from(digest.finalize()).expect("a CRC-32 has 32 bits");
    trailer[20..24].copy_from_slice(&crc.to_be_bytes());
    trailer[24..32].copy_from_slice(&magic);
    Ok(trailer)
}

fn be_u32(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0, |value, byte| (value << 8) | u32::from(*byte))
}

/// Understands the end of an object of the store. `tail` is its last bytes, `object_size` the size of all of it.
///
/// # Errors
/// Anything that is not to the letter what FORMAT.md says of the object named `key`.
pub fn parse_tail(key: &str, object_size: u64, tail: &[u8]) -> Result<Tail, SegmentError> {
    let name = parse_segment_key(key)?;
    parse(object_size, tail, Some(name)).map_err(|damage| damage.of(key))
}

/// The same for an object whose key is not known, such as a file that an operator downloaded; `label` names it in errors.
pub fn parse_unnamed_tail(label: &str, object_size: u64, tail: &[u8]) -> Result<Tail, SegmentError> {
    parse(object_size, tail, None).map_err(|damage| damage.of(label))
}

/// The end of an object whose trailer and checksum are right.
pub(super) struct Opened<'a> {
    pub kind: Kind,
    pub footer: &'a [u8],
    pub repeated: &'a [u8],
    pub nonce: u64,
    /// Bytes of footers and trailer.
    pub described: u64,
}

/// Looks at the trailer, and at the checksum of what it describes. `Err(Ok(more))`: so many bytes from the end are needed.
pub(super) fn open(object_size: u64, tail: &[u8]) -> Result<Opened<'_>, Result<u64, Damage>> {
    if tail.len() as u64 > object_size {
        let what = format!("{} bytes were read of an object of {object_size}", tail.len());
        return Err(Err(Damage::content(what)));
    }
    if object_size < TRAILER_BYTES as u64 {
        return Err(Err(Damage::TooShort { size: object_size, least: TRAILER_BYTES as u64 }));
    }
    let Some((before, trailer)) = tail.split_last_chunk::<TRAILER_BYTES>() else {
        return Err(Ok(TRAILER_BYTES as u64));
    };
    let kind = kind_of(trailer).map_err(Err)?;
    let (footer_length, repeated_length) = (be_u32(&trailer[0..4]) as usize, be_u32(&trailer[4..8]) as usize);
    if footer_length > FOOTER_MAX_BYTES || repeated_length > REPEATED_MAX_BYTES {
        return Err(Err(Damage::content(format!(
            "footers of {footer_length} and {repeated_length} bytes can't be: the trailer is damaged"
        ))));
    }
    let described = footer_length + repeated_length;
    let needed = (described + TRAILER_BYTES) as u64;
    if needed > object_size {
        return Err(Err(Damage::TooShort { size: object_size, least: needed }));
    }
    if before.len() < described {
        return Err(Ok(needed));
    }
    let checked = &tail[before.len() - described..tail.len() - TRAILER_BYTES + 20];
    let (stored, computed) = (be_u32(&trailer[20..24]), crc32c(checked));
    if stored != computed {
        return Err(Err(Damage::Checksum { stored, computed }));
    }
    let (footer, repeated) = checked[..described].split_at(footer_length);
    let nonce = (u64::from(be_u32(&trailer[8..12])) << 32) | u64::from(be_u32(&trailer[12..16]));
    Ok(Opened { kind, footer, repeated, nonce, described: needed })
}

fn parse(object_size: u64, tail: &[u8], name: Option<(SessionId, SegmentNumber)>) -> Result<Tail, Damage> {
    let opened = match open(object_size, tail) {
        Ok(opened) => opened,
        Err(Ok(more)) => return Ok(Tail::NeedMore(more)),
        Err(Err(damage)) => return Err(damage),
    };
    let (tail, found, own_nonce) = match opened.kind {
        Kind::Segment => {
            let tail = parse_segment(opened.footer, opened.repeated, object_size - opened.described)?;
            let identity = (tail.footer.session, tail.footer.number);
            let nonce = tail.footer.nonce;
            (Tail::Segment(tail), identity, nonce)
        }
        Kind::Fence => {
            if opened.described != object_size || !opened.repeated.is_empty() {
                return Err(Damage::content("a fence has nothing before or behind its content"));
            }
            let fence = fence::decode(opened.footer)?;
            (Tail::Fence(fence), (fence.session, fence.number), fence.nonce)
        }
        Kind::Run | Kind::Manifest => return Err(Damage::content("it belongs to a run, and is no segment")),
    };
    check_nonce(own_nonce, opened.nonce)?;
    match name {
        Some((session, number)) if (session, number) != found => {
            Err(Damage::Identity { found: segment_key(found.0, found.1), expected: segment_key(session, number) })
        }
        _ => Ok(tail),
    }
}

pub(super) fn check_nonce(inside: u64, trailer: u64) -> Result<(), Damage> {
    if inside != trailer {
        return Err(Damage::content(format!("nonce {inside:016x} inside, {trailer:016x} in the trailer")));
    }
    Ok(())
}

fn kind_of(trailer: &[u8; TRAILER_BYTES]) -> Result<Kind, Damage> {
    let mut found = [0; 8];
    found.copy_from_slice(&trailer[24..32]);
    let kind = match found {
        SEGMENT_MAGIC => Kind::Segment,
        FENCE_MAGIC => Kind::Fence,
        RUN_MAGIC => Kind::Run,
        MANIFEST_MAGIC => Kind::Manifest,
        _ => return Err(Damage::Magic { found }),
    };
    let version = u16::from_be_bytes([trailer[16], trailer[17]]);
    if version != FORMAT_VERSION {
        return Err(Damage::Version { found: version, known: FORMAT_VERSION });
    }
    if trailer[18] != kind.code().0 || trailer[19] != 0 {
        return Err(Damage::content(format!("kind {} does not go with magic {found:02x?}", trailer[18])));
    }
    Ok(kind)
}

fn parse_segment(footer_bytes: &[u8], repeated_bytes: &[u8], body_length: u64) -> Result<SegmentTail, Damage> {
    let own = footer::decode(footer_bytes)?;
    if own.body_length() != body_length {
        return Err(Damage::content(format!(
            "the body has {body_length} bytes, the footer speaks of {}",
            own.body_length()
        )));
    }
    let mut repeated: Vec<Footer> = Vec::new();
    let mut cursor = Cursor::new(repeated_bytes);
    while cursor.remaining() > 0 {
        let number = cursor.unsigned("number of a repeated footer")?;
        let length = cursor.number("length of a repeated footer")?;
        let in_repeated = |damage: Damage| Damage::content(format!("repeated footer of segment {number}: {damage}"));
        let earlier = footer::decode(cursor.bytes(length, "repeated footer")?).map_err(in_repeated)?;
        if (earlier.session, earlier.number) != (own.session, number) {
            return Err(in_repeated(Damage::content(format!(
                "it is that of {}",
                segment_key(earlier.session, earlier.number)
            ))));
        }
        if number >= own.committed || repeated.last().is_some_and(|last| last.number >= number) {
            return Err(in_repeated(Damage::content("it is out of order or not yet committed")));
        }
        repeated.push(earlier);
    }
    Ok(SegmentTail { footer: own, repeated })
}

/// Repeated footers as they stand in an object. Those that would not fit are left out, oldest first.
pub(super) fn encode_repeated(mut footers: Vec<super::RepeatedFooter>) -> Vec<u8> {
    footers.sort_by_key(|footer| footer.number);
    footers.dedup_by_key(|footer| footer.number);
    let (mut room, mut first) = (REPEATED_MAX_BYTES, footers.len());
    for footer in footers.iter().rev() {
        let Some(left) = room.checked_sub(footer.footer_bytes.len() + 2 * 10) else { break };
        room = left;
        first -= 1;
    }
    let mut bytes = Vec::new();
    for footer in &footers[first..] {
        put(&mut bytes, footer.number);
        put(&mut bytes, footer.footer_bytes.len() as u64);
        bytes.extend_from_slice(&footer.footer_bytes);
    }
    bytes
}
