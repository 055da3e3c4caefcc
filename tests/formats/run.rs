//! Runs: objects and manifests are read back as written, what is damaged is refused, and old bytes stay readable.

use alluvium::segment::{
    BatchCheckpoint, Damage, Manifest, PartitionCheckpoint, ProducerCheckpoint, RunExtent, RunFooter, RunTail,
    SegmentError, manifest_key, parse_run_tail, parse_tail, parse_unnamed_run_tail, parse_unnamed_tail, run_object_key,
    segment_key, verify_run_body,
};
use alluvium::types::aligned::AlignedBuffer;
use alluvium::types::{PartitionId, RunId, SessionId, TopicId};
use bytes::Bytes;
use proptest::prelude::*;

use crate::segment::golden;

const RUN: RunId = RunId { revision: 77, random: 0xfedc_ba98_7654_3210 };
const SESSION: SessionId = SessionId { revision: 42, random: 0x0123_4567_89ab_cdef };
const CREATED_MS: i64 = 1_790_000_000_123;

fn partition(topic: u128, index: i32) -> PartitionId {
    PartitionId { topic: TopicId(topic), index }
}

/// A batch of `records` records with a valid frame.
fn batch(base_offset: i64, epoch: i32, records: i32, length: usize) -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..length).map(|at| (at * 7) as u8).collect();
    bytes[0..8].copy_from_slice(&base_offset.to_be_bytes());
    bytes[8..12].copy_from_slice(&u32::try_from(length - 12).unwrap().to_be_bytes());
    bytes[12..16].copy_from_slice(&epoch.to_be_bytes());
    bytes[16] = 2;
    bytes[23..27].copy_from_slice(&(records - 1).to_be_bytes());
    let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, &bytes[21..]) as u32;
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    bytes
}

/// (partition, epoch, base offset, lengths of batches of two records), laid out one after another.
type Laid = (PartitionId, i32, i64, Vec<usize>);

fn object(number: u64, laid: &[Laid]) -> (RunFooter, Bytes) {
    let mut extents = Vec::new();
    let mut body = Vec::new();
    for (partition, epoch, base_offset, lengths) in laid {
        let position = body.len() as u64;
        let mut next_offset = *base_offset;
        for length in lengths {
            body.extend(batch(next_offset, *epoch, 2, *length));
            next_offset += 2;
        }
        extents.push(RunExtent {
            partition: *partition,
            epoch: *epoch,
            base_offset: *base_offset,
            next_offset,
            position,
            length: u32::try_from(body.len() as u64 - position).unwrap(),
            max_timestamp: CREATED_MS - next_offset,
        });
    }
    let footer = RunFooter { run: RUN, number, nonce: number ^ 0xbeef << 40, created_ms: CREATED_MS, extents };
    let mut buffer = AlignedBuffer::with_capacity(body.len() + footer.room());
    buffer.extend(&body);
    let sealed = footer.seal(buffer).expect("it is right");
    (footer, sealed)
}

/// The inputs of the golden files: never change them.
fn objects() -> [(RunFooter, Bytes); 2] {
    [
        object(
            0,
            &[
                (partition(5, 2), 7, 1000, vec![200, 61]),
                (partition(5, 2), 9, 1004, vec![70]),
                (partition(5, 300), 4, 70_000_000_000, vec![90]),
            ],
        ),
        object(1, &[(partition(5, 300), 4, 70_000_000_002, vec![61]), (partition(1 << 100, 0), 0, 0, vec![99])]),
    ]
}

fn manifest() -> Manifest {
    let batch = |first_sequence, base_offset| BatchCheckpoint {
        first_sequence,
        last_sequence: first_sequence + 1,
        base_offset,
        last_offset: base_offset + 1,
        max_timestamp: CREATED_MS - 3,
    };
    let producers = vec![
        ProducerCheckpoint {
            id: 9001,
            epoch: 0,
            last_written_ms: CREATED_MS - 50,
            batches: vec![batch(15, 1000), batch(17, 1002)],
        },
        ProducerCheckpoint {
            id: 9_000_000_000,
            epoch: i16::MAX,
            last_written_ms: CREATED_MS,
            batches: vec![batch(i32::MAX - 1, 1004)],
        },
    ];
    let state = |partition, next_offset, producers| PartitionCheckpoint {
        partition,
        next_offset,
        log_start: 12,
        epochs: vec![(7, 1000), (9, 1004)],
        producers,
    };
    Manifest {
        run: RUN,
        nonce: 0xabcd,
        created_ms: CREATED_MS,
        session: SESSION,
        from: 120,
        to: 131,
        objects: objects().into_iter().map(|(footer, _)| footer).collect(),
        whole: true,
        checkpoint: vec![
            state(partition(5, 2), 1006, producers),
            PartitionCheckpoint { epochs: Vec::new(), ..state(partition(5, 7), 3, Vec::new()) },
            state(partition(1 << 100, 0), 2, Vec::new()),
        ],
    }
}

fn read(key: &str, bytes: &[u8]) -> Result<RunTail, SegmentError> {
    parse_run_tail(key, bytes.len() as u64, bytes)
}

#[test]
fn golden_bytes_of_a_run() {
    for (footer, bytes) in objects() {
        golden(&format!("v1-run-{}.bin", footer.number), &bytes);
        assert_eq!(read(&run_object_key(RUN, footer.number), &bytes), Ok(RunTail::Object(footer.clone())));
        assert_eq!(verify_run_body("run", &bytes, &footer), Ok(if footer.number == 0 { 4 } else { 2 }));
    }
    let manifest = manifest();
    let bytes = manifest.encode().expect("it is right");
    golden("v1-manifest.bin", &bytes);
    assert_eq!(read(&manifest_key(RUN), &bytes), Ok(RunTail::Manifest(manifest.clone())));
    assert_eq!(manifest.checkpoint_of(partition(5, 7)).map(|state| state.next_offset), Some(3));
    assert_eq!(manifest.checkpoint_of(partition(5, 8)), None);
    assert_eq!(manifest.extents().map(|(number, _, extent)| (number, extent.position)).last(), Some((1, 61)));
}

/// Offsets of a partition lie apart by more than 32 bits, in objects of runs, in their manifest, and in its checkpoint.
#[test]
fn p07_offsets_far_apart_keep_their_places() {
    const FAR: i64 = 1 << 62;
    let (a, b) = (partition(5, 2), partition(5, 3));
    let laid = [
        (a, 7, 0, vec![61]),
        (a, 7, (1 << 31) - 1, vec![61]),
        (a, 7, 1 << 32, vec![61]),
        (a, 7, FAR, vec![70]),
        (b, 0, 3, vec![61]),
    ];
    let (footer, bytes) = object(0, &laid);
    let Ok(RunTail::Object(read_back)) = read(&run_object_key(RUN, 0), &bytes) else { panic!("an object") };
    assert_eq!(read_back, footer);
    let found: Vec<_> = read_back.extents.iter().map(|extent| (extent.partition, extent.base_offset)).collect();
    assert_eq!(found, laid.map(|(partition, _, base, _)| (partition, base)));
    assert_eq!(verify_run_body("run", &bytes, &read_back), Ok(5));
    let mut checkpoint = manifest().checkpoint.remove(0);
    (checkpoint.next_offset, checkpoint.log_start) = (FAR + 2, 1 << 40);
    checkpoint.epochs = vec![(7, 0), (9, FAR)];
    for producer in &mut checkpoint.producers {
        for (batch, base) in producer.batches.iter_mut().zip([5, 1 << 33, FAR, FAR + 1, FAR + 2]) {
            (batch.base_offset, batch.last_offset) = (base, base);
        }
    }
    let manifest = Manifest { objects: vec![footer], checkpoint: vec![checkpoint], ..manifest() };
    let bytes = manifest.encode().expect("it is right");
    assert_eq!(read(&manifest_key(RUN), &bytes), Ok(RunTail::Manifest(manifest)));
}

#[test]
fn what_is_read_follows_from_the_trailer() {
    let (_, bytes) = &objects()[0];
    let key = run_object_key(RUN, 0);
    let size = bytes.len() as u64;
    let Ok(RunTail::NeedMore(more)) = parse_run_tail(&key, size, &bytes[bytes.len() - 10..]) else { panic!("too few") };
    let Ok(RunTail::NeedMore(more)) = parse_run_tail(&key, size, &bytes[bytes.len() - more as usize..]) else {
        panic!("the trailer only")
    };
    assert!(more < size, "not the body");
    assert!(matches!(parse_run_tail(&key, size, &bytes[bytes.len() - more as usize..]), Ok(RunTail::Object(_))));
}

#[test]
fn kinds_are_not_taken_for_each_other() {
    let (_, run) = &objects()[0];
    let manifest = manifest().encode().expect("it is right");
    for bytes in [run, &manifest] {
        let size = bytes.len() as u64;
        assert!(parse_tail(&segment_key(SESSION, 130), size, bytes).is_err());
        assert!(parse_unnamed_tail("file", size, bytes).is_err());
        assert!(parse_unnamed_run_tail("file", size, bytes).is_ok());
        for key in [run_object_key(RUN, 7), run_object_key(RunId { revision: 1, random: 1 }, 0)] {
            let error = read(&key, bytes).expect_err("another name");
            assert!(matches!(error.damage, Damage::Identity { .. }), "{error}");
        }
    }
    assert!(read(&manifest_key(RUN), run).is_err() && read(&run_object_key(RUN, 0), &manifest).is_err());
    let segment = std::fs::read("tests/golden/segment/v1-segment.bin").expect("it is there");
    assert!(parse_unnamed_run_tail("file", segment.len() as u64, &segment).is_err());
}

#[test]
fn a_newer_version_is_named() {
    for bytes in [objects()[0].1.clone(), manifest().encode().expect("it is right")] {
        let mut bytes = bytes.to_vec();
        let at = bytes.len() - 32 + 17;
        bytes[at] = 2;
        let error = parse_unnamed_run_tail("file", bytes.len() as u64, &bytes).expect_err("unknown");
        assert_eq!(error.damage, Damage::Version { found: 2, known: 1 });
    }
}

/// A manifest or a footer that contradicts itself is never written.
#[test]
fn nonsense_is_refused_by_the_writer() {
    let changes: [fn(&mut Manifest); 10] = [
        |m| m.to = m.from,
        |m| m.objects.swap(0, 1),
        |m| m.objects[1].number = 2,
        |m| m.objects[1].run = RunId { revision: 1, random: 1 },
        |m| m.objects[0].extents.clear(),
        |m| m.objects[0].extents[1].base_offset = 900,
        |m| m.objects[0].extents[1].epoch = 3,
        |m| m.checkpoint.swap(0, 1),
        |m| m.checkpoint[0].producers.swap(0, 1),
        |m| m.checkpoint[0].producers[0].batches.clear(),
    ];
    for (at, change) in changes.into_iter().enumerate() {
        let mut manifest = manifest();
        change(&mut manifest);
        assert!(manifest.encode().is_err(), "change {at}");
    }
    let (footer, _) = object(0, &[(partition(5, 2), 7, 1000, vec![200])]);
    assert!(footer.seal(AlignedBuffer::zeroed(199)).is_err());
}

#[test]
fn a_wrong_body_is_found() {
    let (footer, bytes) = &objects()[0];
    for at in 0..footer.body_length() as usize {
        let mut wrong = bytes.to_vec();
        wrong[at] ^= 0x10;
        assert!(verify_run_body("run", &wrong, footer).is_err(), "bit {at}");
    }
}

proptest! {
    #[test]
    fn damage_is_never_taken_for_content(at in 0usize..2000, bit in 0u8..8, cut in 0usize..2000, whole in any::<bool>()) {
        let (footer, object) = objects()[0].clone();
        let manifest_bytes = manifest().encode().expect("it is right");
        for (key, bytes, from) in [
            (run_object_key(RUN, 0), object, footer.body_length() as usize),
            (manifest_key(RUN), manifest_bytes, 0),
        ] {
            let mut wrong = bytes.to_vec();
            let at = from + at % (wrong.len() - from);
            wrong[at] ^= 1 << bit;
            prop_assert!(read(&key, &wrong).is_err(), "bit {} of byte {}", bit, at);
            let cut = cut % bytes.len();
            let rest = if whole { &bytes[..cut] } else { &bytes[cut + 1..] };
            prop_assert!(read(&key, rest).is_err());
        }
    }

    #[test]
    fn any_bytes_are_harmless(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let trailer = objects()[0].1.slice(objects()[0].1.len() - 32..);
        let mut object = bytes.clone();
        object.extend_from_slice(&trailer);
        let _whatever = parse_unnamed_run_tail("file", object.len() as u64, &object);
        let _whatever = parse_unnamed_run_tail("file", bytes.len() as u64, &bytes);
    }
}
