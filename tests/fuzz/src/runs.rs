//! Ends of objects of runs, and manifests: `[size of the body, 4 bytes] [kind] footer`, put under a right trailer, or any bytes with any
//! size. What is taken has its extents in order and is written again as it was read, an object with a body whose batches are found.

use alluvium::segment::{
    BATCH_HEADER_BYTES, Manifest, PartitionCheckpoint, RunExtent, RunFooter, RunTail, manifest_key, parse_run_tail,
    parse_unnamed_run_tail, run_object_key, verify_run_body,
};
use alluvium::types::aligned::AlignedBuffer;
use alluvium::types::batch_layout::{ATTRIBUTES_AT, CRC_AT, EPOCH_AT, LAST_DELTA_AT, LENGTH_AT, LENGTH_END, MAGIC_AT};

use crate::{memory, trailers};

/// Of the seeds.
const KEY: &str = "runs/00000000000000000077-fedcba9876543210/00000000000000000000";

/// Objects with larger bodies are not written again.
const BODY_MAX_BYTES: u64 = 16 << 10;

/// A topic of a checkpoint: its id, and how many partitions follow.
const TOPIC_LEAST_BYTES: usize = 16 + 1;

pub fn run(data: &[u8]) {
    let Some((size, rest)) = data.split_first_chunk::<4>() else { return };
    let body = u64::from(u32::from_be_bytes(*size));
    // Extents and checkpoints of a footer of so many bytes, twice; and bodies.
    memory::within(128 * data.len() + 128 * 1024, || {
        let _ = parse_unnamed_run_tail("object", body + rest.len() as u64, rest);
        let _ = parse_run_tail(KEY, body, rest);
        let tail = trailers::mend(rest, &trailers::OF_RUNS);
        match parse_unnamed_run_tail("object", body + tail.len() as u64, &tail) {
            Ok(RunTail::Object(footer)) => check_object(footer, &tail, body),
            Ok(RunTail::Manifest(manifest)) => check_manifest(&manifest, &tail),
            Ok(RunTail::NeedMore(more)) => panic!("{more} bytes of {}", tail.len()),
            Err(_) => {}
        }
    });
}

fn check_object(footer: RunFooter, tail: &[u8], body: u64) {
    assert_eq!(footer.body_length(), body);
    assert!(tail.len() <= footer.room(), "{} bytes behind the body", tail.len());
    check_extents(&footer.extents);
    let _ = verify_run_body("object", tail, &footer);
    if body <= BODY_MAX_BYTES {
        check_whole(&footer, tail);
    }
    let key = run_object_key(footer.run, footer.number);
    assert_eq!(parse_run_tail(&key, body + tail.len() as u64, tail), Ok(RunTail::Object(footer)));
}

/// The object with its body: it ends as it did, and one batch is found per extent.
fn check_whole(footer: &RunFooter, tail: &[u8]) {
    let mut body = Vec::new();
    footer.extents.iter().for_each(|extent| put_batch(&mut body, extent));
    let length = body.len();
    let mut buffer = AlignedBuffer::with_capacity(length + footer.room());
    buffer.extend(&body);
    let object = footer.seal(buffer).expect("it was read");
    assert!(object[length..] == *tail, "a footer has one spelling");
    let fits = |extent: &RunExtent| u32::try_from(extent.next_offset - extent.base_offset - 1).is_ok();
    if footer.extents.iter().all(fits) {
        assert_eq!(verify_run_body("object", &object, footer), Ok(footer.extents.len()));
    }
}

/// A batch that fills the extent.
fn put_batch(body: &mut Vec<u8>, extent: &RunExtent) {
    let start = body.len();
    body.resize(start + extent.length as usize, 0);
    let batch = &mut body[start..];
    let length = extent.length - LENGTH_END as u32;
    let last_delta = (extent.next_offset - extent.base_offset - 1) as u32;
    batch[..LENGTH_AT].copy_from_slice(&extent.base_offset.to_be_bytes());
    batch[LENGTH_AT..LENGTH_END].copy_from_slice(&length.to_be_bytes());
    batch[EPOCH_AT..MAGIC_AT].copy_from_slice(&extent.epoch.to_be_bytes());
    batch[MAGIC_AT] = 2;
    batch[LAST_DELTA_AT..LAST_DELTA_AT + 4].copy_from_slice(&last_delta.to_be_bytes());
    let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, &batch[ATTRIBUTES_AT..]);
    batch[CRC_AT..ATTRIBUTES_AT].copy_from_slice(&u32::try_from(crc).unwrap_or(0).to_be_bytes());
}

fn check_manifest(manifest: &Manifest, tail: &[u8]) {
    assert!(manifest.from < manifest.to);
    for (number, object) in (0..).zip(&manifest.objects) {
        assert_eq!((object.run, object.number), (manifest.run, number));
        check_extents(&object.extents);
    }
    let mut last: Option<&RunExtent> = None;
    for (number, body, extent) in manifest.extents() {
        assert!(extent.position + u64::from(extent.length) <= body, "object {number}");
        let ordered = |last: &RunExtent| (last.partition, last.next_offset) <= (extent.partition, extent.base_offset);
        assert!(last.is_none_or(ordered), "object {number}");
        last = Some(extent);
    }
    manifest.checkpoint.iter().for_each(check_state);
    assert!(manifest.checkpoint.iter().all(|state| manifest.checkpoint_of(state.partition) == Some(state)));
    let again = manifest.encode().expect("it was read");
    // A topic that the checkpoint names twice is named once then.
    assert!(*again == *tail || again.len() + TOPIC_LEAST_BYTES <= tail.len(), "a manifest has one spelling");
    let key = manifest_key(manifest.run);
    match parse_run_tail(&key, again.len() as u64, &again) {
        Ok(RunTail::Manifest(read)) => assert_eq!(read, *manifest),
        other => panic!("{other:?}"),
    }
}

fn check_state(state: &PartitionCheckpoint) {
    assert!(state.partition.index >= 0 && state.next_offset >= 0 && state.log_start >= 0);
    assert!(state.epochs.is_sorted_by(|a, b| a.0 < b.0 && a.1 <= b.1));
    assert!(state.producers.is_sorted_by(|a, b| a.id < b.id));
    for producer in &state.producers {
        assert!((1..=5).contains(&producer.batches.len()));
        assert!(producer.batches.iter().all(|batch| (0..=batch.last_offset).contains(&batch.base_offset)));
    }
}

fn check_extents(extents: &[RunExtent]) {
    assert!(!extents.is_empty());
    let mut position = 0;
    for extent in extents {
        assert_eq!(extent.position, position);
        position += u64::from(extent.length);
        assert!(extent.length as usize >= BATCH_HEADER_BYTES && extent.partition.index >= 0 && extent.epoch >= 0);
        assert!(extent.base_offset >= 0 && extent.base_offset < extent.next_offset);
    }
    for pair in extents.windows(2) {
        let (before, after) = (&pair[0], &pair[1]);
        if before.partition == after.partition {
            assert!(before.next_offset <= after.base_offset && before.epoch <= after.epoch);
        } else {
            assert!(before.partition < after.partition);
        }
    }
}
