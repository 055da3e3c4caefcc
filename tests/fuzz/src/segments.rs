//! Ends of segments and fences: `[size of the body, 4 bytes] [kind] footer | repeated footers`, put under a right trailer, or any
//! bytes with any size. What is taken has its extents in order, and a fence is written again as it was read.

use alluvium::segment::{Footer, SegmentTail, Tail, parse_tail, parse_unnamed_tail, segment_key, verify_body};

use crate::{memory, trailers};

pub fn run(data: &[u8]) {
    let Some((size, rest)) = data.split_first_chunk::<4>() else { return };
    let body = u64::from(u32::from_be_bytes(*size));
    // Positions, batches and text of a footer of so many bytes.
    memory::within(128 * data.len() + 64 * 1024, || {
        let _ = parse_unnamed_tail("object", body + rest.len() as u64, rest);
        let _ = parse_tail("segments/x", body, rest);
        let tail = trailers::mend(rest, &trailers::OF_SESSIONS);
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
