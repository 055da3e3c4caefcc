//! Trailers that are right whatever they stand behind: of segments, fences, objects of runs and manifests.

use alluvium::segment::{FORMAT_VERSION, TRAILER_BYTES};

use crate::pieces;

/// A kind of object, as its trailer tells it.
pub struct Kind {
    code: u8,
    magic: &'static [u8; 8],
    /// A number stands before the nonce.
    is_numbered: bool,
}

/// Segments and fences.
pub const OF_SESSIONS: [Kind; 2] =
    [Kind { code: 1, magic: b"ALVM-SEG", is_numbered: true }, Kind { code: 2, magic: b"ALVM-FNC", is_numbered: true }];

/// Objects of runs and manifests.
pub const OF_RUNS: [Kind; 2] =
    [Kind { code: 3, magic: b"ALVM-RUN", is_numbered: true }, Kind { code: 4, magic: b"ALVM-MAN", is_numbered: false }];

/// Puts `[which of the kinds] footer | repeated footers` before a trailer that is right: nonce, lengths and checksum.
pub fn mend(content: &[u8], kinds: &[Kind; 2]) -> Vec<u8> {
    let (kind, content) = content.split_first().unwrap_or((&0, &[]));
    let kind = &kinds[usize::from(kind & 1)];
    let pieces = pieces::split(content);
    let repeated = pieces.get(1).copied().unwrap_or_default();
    let mut out = [pieces[0], repeated].concat();
    let mut trailer = [0; TRAILER_BYTES];
    let lengths = [pieces[0].len(), repeated.len()].map(|length| u32::try_from(length).unwrap_or(0).to_be_bytes());
    trailer[..4].copy_from_slice(&lengths[0]);
    trailer[4..8].copy_from_slice(&lengths[1]);
    trailer[8..16].copy_from_slice(&nonce(pieces[0], kind).unwrap_or_default());
    trailer[16..18].copy_from_slice(&FORMAT_VERSION.to_be_bytes());
    trailer[18] = kind.code;
    let checked = [out.as_slice(), &trailer[..20]].concat();
    let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, &checked);
    trailer[20..24].copy_from_slice(&u32::try_from(crc).unwrap_or(0).to_be_bytes());
    trailer[24..].copy_from_slice(kind.magic);
    out.extend_from_slice(&trailer);
    out
}

/// Where all of them keep it: behind revision, 8 random bytes and, but for manifests, number.
fn nonce(content: &[u8], kind: &Kind) -> Option<[u8; 8]> {
    let behind = |bytes: &'_ [u8]| bytes.iter().position(|byte| *byte < 0x80).map(|at| at + 1);
    let mut at = behind(content)? + 8;
    if kind.is_numbered {
        at += behind(content.get(at..)?)?;
    }
    content.get(at..at + 8)?.try_into().ok()
}
