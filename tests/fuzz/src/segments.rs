//! Ends of segments and fences: `[size of the body, 4 bytes] [kind] footer | repeated footers`, put under a right trailer, or any
//! bytes with any size. What is taken has its extents in order, and a fence is written again as it was read.

use alluvium::segment::{FORMAT_VERSION, Footer, SegmentTail, TRAILER_BYTES, Tail, parse_tail, parse_unnamed_tail};
use alluvium::segment::{segment_key, verify_body};

use crate::{memory, pieces};

const MAGICS: [&[u8; 8]; 2] = [b"ALVM-SEG", b"ALVM-FNC"];

pub fn run(data: &[u8]) {
    let Some((size, rest)) = data.split_first_chunk::<4>() else { return };
    let body = u64::from(u32::from_be_bytes(*size));
    // Positions, batches and text of a footer of so many bytes.
    memory::within(128 * data.len() + 64 * 1024, || {
        let _ = parse_unnamed_tail("object", body + rest.len() as u64, rest);
        let _ = parse_tail("segments/x", body, rest);
        let tail = mend(rest);
        if let Ok(found) = parse_unnamed_tail("object", body + tail.len() as u64, &tail) {
            check(found, &tail, body);
        }
    });
}

fn check(found: Tail, tail: &[u8], body: u64) {
    match found {
        Tail::Segment(SegmentTail { footer, repeated }) => {
            assert_eq!(footer.body_length(), body);
            check_footer(&footer);
            repeated.iter().for_each(check_footer);
            let key = segment_key(footer.session, footer.number);
            assert!(parse_tail(&key, body + tail.len() as u64, tail).is_ok());
            let _ = verify_body("object", tail, &footer);
        }
        Tail::Fence(fence) => assert_eq!(fence.encode(), tail, "a fence has one spelling"),
        Tail::NeedMore(more) => panic!("{more} bytes of {}", tail.len()),
    }
}

fn check_footer(footer: &Footer) {
    let mut position = 0;
    for extent in &footer.extents {
        assert!(!extent.batches.is_empty() && extent.base_offset < extent.next_offset);
        assert_eq!(extent.position, position);
        position += u64::from(extent.length);
        let length: u64 = extent.batches.iter().map(|batch| u64::from(batch.length)).sum();
        assert_eq!(u64::from(extent.length), length);
        let mut next = extent.base_offset;
        for batch in &extent.batches {
            assert!(batch.base_offset == next && batch.last_offset_delta >= 0 && batch.record_count >= 0);
            next = batch.next_offset().expect("offsets do not overflow");
        }
        assert_eq!(next, extent.next_offset);
    }
}

/// Puts `[kind] footer | repeated footers` before a trailer that is right: nonce, lengths and checksum.
pub fn mend(content: &[u8]) -> Vec<u8> {
    let (kind, content) = content.split_first().unwrap_or((&0, &[]));
    let kind = usize::from(kind & 1);
    let pieces = pieces::split(content);
    let repeated = pieces.get(1).copied().unwrap_or_default();
    let mut out = [pieces[0], repeated].concat();
    let mut trailer = [0; TRAILER_BYTES];
    let lengths = [pieces[0].len(), repeated.len()].map(|length| u32::try_from(length).unwrap_or(0).to_be_bytes());
    trailer[..4].copy_from_slice(&lengths[0]);
    trailer[4..8].copy_from_slice(&lengths[1]);
    trailer[8..16].copy_from_slice(&nonce(pieces[0]).unwrap_or_default());
    trailer[16..18].copy_from_slice(&FORMAT_VERSION.to_be_bytes());
    trailer[18] = [1, 2][kind];
    let checked = [out.as_slice(), &trailer[..20]].concat();
    let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, &checked);
    trailer[20..24].copy_from_slice(&u32::try_from(crc).unwrap_or(0).to_be_bytes());
    trailer[24..].copy_from_slice(MAGICS[kind]);
    out.extend_from_slice(&trailer);
    out
}

/// Where footers and fences keep it: behind revision, 8 random bytes and number.
fn nonce(content: &[u8]) -> Option<[u8; 8]> {
    let behind = |bytes: &'_ [u8]| bytes.iter().position(|byte| *byte < 0x80).map(|at| at + 1);
    let at = behind(content)? + 8;
    let at = at + behind(content.get(at..)?)?;
    content.get(at..at + 8)?.try_into().ok()
}
