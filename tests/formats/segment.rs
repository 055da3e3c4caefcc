//! Segments and fences: what is written is read back, what is damaged is refused, and old bytes stay readable.

use std::path::PathBuf;

use alluvium::segment::{
    BATCH_HEADER_BYTES, BatchMeta, ControlMeta, Damage, ExtentDraft, Fence, Footer, IDENTITY_BYTES, RepeatedFooter,
    SealedSegment, SegmentDraft, SegmentError, SegmentTail, TRAILER_BYTES, Tail, build, parse_tail, parse_unnamed_tail,
    segment_key, verify_body,
};
use alluvium::types::{PartitionId, SessionId, TopicId};
use bytes::Bytes;
use proptest::prelude::*;

const SESSION: SessionId = SessionId { revision: 42, random: 0x0123_4567_89ab_cdef };
const CREATED_MS: i64 = 1_790_000_000_123;

fn meta(base_offset: i64, records: i32) -> BatchMeta {
    BatchMeta {
        base_offset,
        last_offset_delta: records - 1,
        length: 0,
        record_count: records,
        max_timestamp: CREATED_MS - 7,
        producer_id: -1,
        producer_epoch: -1,
        base_sequence: -1,
        transactional: false,
        log_append_time: false,
        control: None,
    }
}

/// Bytes with a valid frame of a batch: base offset and epoch as a client sends them, length, magic, CRC.
fn batch(mut meta: BatchMeta, length: usize) -> (Bytes, BatchMeta) {
    let mut bytes: Vec<u8> = (0..length).map(|at| (at * 7) as u8).collect();
    bytes[0..8].copy_from_slice(&0i64.to_be_bytes());
    bytes[8..12].copy_from_slice(&u32::try_from(length - 12).unwrap().to_be_bytes());
    bytes[12..16].copy_from_slice(&(-1i32).to_be_bytes());
    bytes[16] = 2;
    let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, &bytes[21..]) as u32;
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    meta.length = u32::try_from(length).unwrap();
    (Bytes::from(bytes), meta)
}

fn partition(topic: u128, index: i32) -> PartitionId {
    PartitionId { topic: TopicId(topic), index }
}

fn draft(number: u64, extents: Vec<ExtentDraft>) -> SegmentDraft {
    SegmentDraft {
        session: SESSION,
        number,
        nonce: number ^ 0xfeed_0000_0000_0000,
        created_ms: CREATED_MS,
        committed: number,
        extents,
        repeated: Vec::new(),
    }
}

fn read(sealed: &SealedSegment) -> Result<SegmentTail, SegmentError> {
    let key = segment_key(sealed.footer.session, sealed.footer.number);
    match parse_tail(&key, sealed.bytes.len() as u64, &sealed.bytes)? {
        Tail::Segment(tail) => Ok(tail),
        other => panic!("{other:?} is no segment"),
    }
}

/// One of everything, the input of the golden file: never change it.
fn sample() -> SegmentDraft {
    let producer = BatchMeta { producer_id: 9001, producer_epoch: 0, base_sequence: 15, ..meta(1000, 5) };
    let next = BatchMeta { producer_id: 9001, producer_epoch: 0, base_sequence: 20, ..meta(1005, 2) };
    let transactional = BatchMeta {
        producer_id: 9002,
        producer_epoch: 3,
        base_sequence: 0,
        transactional: true,
        ..meta(70_000_000_000, 1)
    };
    let marker = BatchMeta {
        producer_id: 9002,
        producer_epoch: 3,
        transactional: true,
        control: Some(ControlMeta { marker_type: 1, coordinator_epoch: 12 }),
        ..meta(70_000_000_001, 1)
    };
    let sparse = BatchMeta { record_count: 3, log_append_time: true, max_timestamp: -1, ..meta(0, 10) };
    let mut draft = draft(
        130,
        vec![
            ExtentDraft { partition: partition(5, 300), epoch: 4, batches: vec![batch(transactional, 90)] },
            ExtentDraft { partition: partition(5, 2), epoch: 7, batches: vec![batch(producer, 200), batch(next, 61)] },
            ExtentDraft { partition: partition(5, 300), epoch: 4, batches: vec![batch(marker, 78)] },
            ExtentDraft { partition: partition(1 << 100, 0), epoch: 0, batches: vec![batch(sparse, 70)] },
        ],
    );
    draft.committed = 129;
    draft.repeated = vec![repeated(127), repeated(128)];
    draft
}

fn repeated(number: u64) -> RepeatedFooter {
    let extent = ExtentDraft { partition: partition(5, 2), epoch: 7, batches: vec![batch(meta(number as i64, 1), 61)] };
    RepeatedFooter { number, footer_bytes: build(draft(number, vec![extent])).unwrap().footer_bytes }
}

fn sample_fence() -> Fence {
    Fence {
        session: SESSION,
        number: 131,
        nonce: 0xabcd,
        created_ms: CREATED_MS,
        fencer: Some(SessionId { revision: 43, random: 1 }),
    }
}

/// Compares with the released bytes. `ALLUVIUM_WRITE_GOLDEN=1` writes a file that is not there yet.
pub fn golden(name: &str, bytes: &[u8]) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/segment").join(name);
    if std::env::var_os("ALLUVIUM_WRITE_GOLDEN").is_some() && !path.exists() {
        std::fs::write(&path, bytes).unwrap();
    }
    assert_eq!(
        std::fs::read(&path).unwrap(),
        bytes,
        "{name}: the format changed; released bytes must stay as they are"
    );
}

#[test]
fn golden_bytes_of_a_segment() {
    let sealed = build(sample()).unwrap();
    golden("v1-segment.bin", &sealed.bytes);
    let tail = read(&sealed).unwrap();
    assert_eq!(tail.footer, sealed.footer);
    assert_eq!(tail.repeated.iter().map(|footer| footer.number).collect::<Vec<_>>(), [127, 128]);
    verify_body("sample", &sealed.bytes, &tail.footer).unwrap();
    let order: Vec<_> = tail.footer.extents.iter().map(|extent| (extent.partition.index, extent.base_offset)).collect();
    assert_eq!(order, [(2, 1000), (300, 70_000_000_000), (0, 0)]);
    assert_eq!(tail.footer.extents[1].next_offset, 70_000_000_002);
    assert_eq!(tail.footer.extents[1].batches[1].control, Some(ControlMeta { marker_type: 1, coordinator_epoch: 12 }));
    assert_eq!(tail.footer.extents[2].batches[0].record_count, 3);
}

#[test]
fn golden_bytes_of_an_empty_segment_and_a_fence() {
    let empty = build(draft(0, Vec::new())).unwrap();
    golden("v1-empty.bin", &empty.bytes);
    assert_eq!(read(&empty).unwrap(), SegmentTail { footer: empty.footer.clone(), repeated: Vec::new() });

    let fence = sample_fence();
    let bytes = fence.encode();
    golden("v1-fence.bin", &bytes);
    let key = segment_key(SESSION, 131);
    assert_eq!(parse_tail(&key, bytes.len() as u64, &bytes), Ok(Tail::Fence(fence)));
    let nameless = Fence { fencer: None, ..fence };
    let bytes = nameless.encode();
    assert_eq!(parse_unnamed_tail("file", bytes.len() as u64, &bytes), Ok(Tail::Fence(nameless)));
}

#[test]
fn batches_get_offset_and_epoch_and_nothing_else() {
    let (bytes, meta) = batch(BatchMeta { ..meta(77, 3) }, 100);
    let extent = ExtentDraft { partition: partition(1, 0), epoch: 9, batches: vec![(bytes.clone(), meta)] };
    let sealed = build(draft(3, vec![extent])).unwrap();
    let stored = &sealed.bytes[..100];
    assert_eq!(stored[0..8], 77i64.to_be_bytes());
    assert_eq!(stored[12..16], 9i32.to_be_bytes());
    assert_eq!((&stored[8..12], &stored[16..]), (&bytes[8..12], &bytes[16..]));
    assert_eq!(bytes[0..8], [0; 8], "the client's bytes are untouched");
    verify_body("sealed", &sealed.bytes, &sealed.footer).unwrap();
    let mut damaged = sealed.bytes.to_vec();
    damaged[99] ^= 1;
    let error = verify_body("x", &damaged, &sealed.footer).unwrap_err();
    assert!(error.to_string().contains("offset 77: its CRC-32C"), "{error}");
}

#[test]
fn a_short_tail_asks_for_exactly_what_is_missing() {
    let sealed = build(sample()).unwrap();
    let (key, size) = (segment_key(SESSION, 130), sealed.bytes.len() as u64);
    let body = sealed.footer.body_length();
    for length in 0..sealed.bytes.len() {
        let tail = &sealed.bytes[sealed.bytes.len() - length..];
        match parse_tail(&key, size, tail).unwrap() {
            Tail::NeedMore(more) if length < TRAILER_BYTES => assert_eq!(more, TRAILER_BYTES as u64),
            Tail::NeedMore(more) => {
                assert_eq!(more, size - body);
                assert!((length as u64) < more);
            }
            Tail::Segment(read) => assert!(read.footer == sealed.footer && length as u64 >= size - body),
            Tail::Fence(_) => panic!("no fence"),
        }
    }
}

#[test]
fn the_object_must_be_the_one_that_its_key_names() {
    let sealed = build(sample()).unwrap();
    let size = sealed.bytes.len() as u64;
    let other = SessionId { revision: 41, ..SESSION };
    for key in [segment_key(SESSION, 129), segment_key(other, 130)] {
        let error = parse_tail(&key, size, &sealed.bytes).unwrap_err();
        assert!(matches!(error.damage, Damage::Identity { .. }), "{error}");
        assert!(error.to_string().starts_with(&key));
    }
    let fence = sample_fence().encode();
    let error = parse_tail(&segment_key(SESSION, 7), fence.len() as u64, &fence).unwrap_err();
    assert!(matches!(error.damage, Damage::Identity { .. }), "{error}");
    assert!(matches!(parse_tail("segments/x", size, &sealed.bytes), Err(SegmentError { damage: Damage::Name, .. })));
}

/// Every bit of what describes the object matters: flipped, the object is refused, in full and through a suffix.
#[test]
fn no_flipped_bit_goes_unnoticed() {
    let segment = build(sample()).unwrap();
    let fence = sample_fence().encode();
    let body = segment.footer.body_length() as usize;
    for (key, object, from) in [(segment_key(SESSION, 130), segment.bytes, body), (segment_key(SESSION, 131), fence, 0)]
    {
        let size = object.len() as u64;
        for at in from..object.len() {
            for bit in 0..8 {
                let mut damaged = object.to_vec();
                damaged[at] ^= 1 << bit;
                let error = parse_tail(&key, size, &damaged).expect_err("a flipped bit");
                assert_eq!(error.object, key);
                let read = parse_tail(&key, size, &damaged[from..]);
                assert!(matches!(read, Err(_) | Ok(Tail::NeedMore(_))), "byte {at} bit {bit}: {read:?}");
            }
        }
    }
}

#[test]
fn cut_and_grown_objects_are_refused() {
    let object = build(sample()).unwrap().bytes;
    let key = segment_key(SESSION, 130);
    for length in 0..object.len() {
        assert!(parse_tail(&key, length as u64, &object[..length]).is_err(), "cut to {length}");
        assert!(parse_tail(&key, length as u64, &object[object.len() - length..]).is_err(), "the last {length}");
    }
    let grown = [&[0u8][..], &object[..]].concat();
    assert!(parse_tail(&key, grown.len() as u64, &grown).is_err());
    assert!(parse_tail(&key, object.len() as u64 - 1, &object).is_err());
    let fence = sample_fence().encode();
    let grown = [&[0u8][..], &fence[..]].concat();
    assert!(parse_tail(&segment_key(SESSION, 131), grown.len() as u64, &grown).is_err());
}

#[test]
fn a_newer_version_is_named() {
    let mut object = build(sample()).unwrap().bytes.to_vec();
    let at = object.len() - TRAILER_BYTES + 17;
    object[at] = 2;
    let error = parse_tail(&segment_key(SESSION, 130), object.len() as u64, &object).unwrap_err();
    assert_eq!(error.damage, Damage::Version { found: 2, known: 1 });
}

/// An object with these bytes as its footer and a valid trailer.
fn with_footer(body: &[u8], footer: &[u8], nonce: u64) -> Vec<u8> {
    let mut described = footer.to_vec();
    described.extend_from_slice(&u32::try_from(footer.len()).unwrap().to_be_bytes());
    described.extend_from_slice(&0u32.to_be_bytes());
    described.extend_from_slice(&nonce.to_be_bytes());
    described.extend_from_slice(&[0, 1, 1, 0]);
    let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, &described) as u32;
    [body, &described, &crc.to_be_bytes(), b"ALVM-SEG"].concat()
}

/// Counts that no object of this size can hold are refused before anything is made of them.
#[test]
fn boasting_counts_are_refused() {
    let empty = build(draft(0, Vec::new())).unwrap();
    let (head, _) = empty.footer_bytes.split_at(empty.footer_bytes.len() - 1);
    let nonce = empty.footer.nonce;
    assert_eq!(
        with_footer(&[], &empty.footer_bytes, nonce),
        empty.bytes,
        "an object made by hand is as one that was built"
    );
    let many = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f];
    let (topic, one, three) = ([7; 16], [1], [0; 3]);
    let columns: [&[&[u8]]; 5] = [
        &[&many],
        &[&one, &topic, &many],
        &[&one, &topic, &one, &three, &many],
        &[&one, &topic, &[2], &three, &three, &many, &many],
        &[&one, &topic, &one, &three, &[0x80, 0x80, 0x04], &[0; 40]],
    ];
    for columns in columns {
        let footer = [head, &columns.concat(), &[0; 8]].concat();
        let object = with_footer(&[], &footer, nonce);
        let error = parse_unnamed_tail("boast", object.len() as u64, &object).unwrap_err();
        assert!(matches!(error.damage, Damage::Content { .. }), "{error}");
        assert!(error.to_string().contains("can't be"), "{error}");
    }
}

#[test]
fn identity_differs_by_nonce_and_by_content() {
    let identity = |draft: SegmentDraft| {
        let bytes = build(draft).unwrap().bytes;
        bytes[bytes.len() - IDENTITY_BYTES..].to_vec()
    };
    let one = identity(draft(1, Vec::new()));
    assert_ne!(one, identity(SegmentDraft { nonce: 5, ..draft(1, Vec::new()) }));
    assert_ne!(one, identity(SegmentDraft { created_ms: 5, ..draft(1, Vec::new()) }));
    assert_eq!(one, identity(draft(1, Vec::new())));
}

#[test]
fn drafts_that_can_not_be_a_segment_are_refused() {
    let one = |base, epoch| ExtentDraft { partition: partition(1, 0), epoch, batches: vec![batch(meta(base, 2), 61)] };
    let broken_length = {
        let mut extent = one(0, 0);
        extent.batches[0].1.length += 1;
        extent
    };
    let short = ExtentDraft {
        partition: partition(1, 0),
        epoch: 0,
        batches: vec![(Bytes::from_static(&[0; 60]), BatchMeta { length: 60, ..meta(0, 1) })],
    };
    for (why, extents) in [
        ("gap", vec![one(0, 0), one(3, 0)]),
        ("overlap", vec![one(0, 0), one(1, 0)]),
        ("back under a later epoch", vec![one(5, 1), one(6, 2)]),
        ("negative", vec![one(-1, 0)]),
        ("past the last offset", vec![one(i64::MAX - 1, 0)]),
        ("negative epoch", vec![one(0, -1)]),
        ("length", vec![broken_length]),
        ("too short", vec![short]),
    ] {
        assert!(build(draft(1, extents)).is_err(), "{why}");
    }
    assert!(build(SegmentDraft { committed: 2, ..draft(1, Vec::new()) }).is_err());
    assert!(build(SegmentDraft { repeated: vec![repeated(7)], ..draft(7, Vec::new()) }).is_err());
    let later_epoch = build(draft(1, vec![one(9, 2), one(0, 1)])).unwrap();
    assert_eq!(later_epoch.footer.extents.len(), 2);
}

/// However batches come in, the footer has its extents in order, each where its bytes are, and offsets in order within a partition.
#[test]
fn p09_a_burst_in_any_order_leaves_the_index_sorted() {
    let mut extents = Vec::new();
    for index in [5, 0, 3, 9, 1, 7, 2, 8, 6, 4] {
        for topic in [9u128, 1 << 100, 3] {
            for epoch in [4, 2] {
                let first = i64::from(epoch) * 100;
                let batches = vec![batch(meta(first, 2), 61 + index as usize), batch(meta(first + 2, 3), 90)];
                extents.push(ExtentDraft { partition: partition(topic, index), epoch, batches });
            }
        }
    }
    let sealed = build(draft(1, extents)).unwrap();
    let footer = read(&sealed).unwrap().footer;
    let order: Vec<_> = footer.extents.iter().map(|extent| (extent.partition, extent.epoch)).collect();
    assert!(order.len() == 60 && order.is_sorted(), "{order:?}");
    assert!(footer.extents.windows(2).all(|pair| pair[0].position + u64::from(pair[0].length) == pair[1].position));
    verify_body("segment", &sealed.bytes, &footer).unwrap();
}

/// 64 producers, each with batches to some of 100 partitions, as a busy second would have them.
#[test]
fn footers_are_small() {
    let mut random = 1u64;
    let mut next = move |below: u64| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) % below
    };
    let extents_of = |batches_each: usize, next: &mut dyn FnMut(u64) -> u64| -> Vec<ExtentDraft> {
        let mut extents = Vec::new();
        for index in 0..100 {
            let mut offset = 3_000_000 + next(50_000_000) as i64;
            let mut batches = Vec::new();
            for _ in 0..batches_each {
                let records = 1 + next(200) as i32;
                let meta = BatchMeta {
                    max_timestamp: CREATED_MS - next(300) as i64,
                    producer_id: 12_000 + next(64) as i64,
                    producer_epoch: next(2) as i16,
                    base_sequence: next(1_000_000) as i32,
                    ..meta(offset, records)
                };
                offset += i64::from(records);
                batches.push(batch(meta, 100 + next(15_000) as usize));
            }
            extents.push(ExtentDraft { partition: partition(0xabcd, index), epoch: 3 + next(4) as i32, batches });
        }
        extents
    };
    let bytes_of = |extents| build(draft(1_000_000, extents)).unwrap().footer_bytes.len() as f64;
    let empty = bytes_of(Vec::new());
    let one = bytes_of(extents_of(1, &mut next));
    let nine = bytes_of(extents_of(9, &mut next));
    let a_batch = (nine - one) / 800.0;
    let an_extent = (one - empty) / 100.0 - a_batch;
    println!("head {empty} B, extent {an_extent:.1} B, batch {a_batch:.1} B");
    assert!(empty <= 48.0, "head: {empty} B");
    assert!(an_extent <= 16.0, "extent: {an_extent} B");
    assert!(a_batch <= 12.0, "batch: {a_batch} B");
}

#[test]
fn too_many_repeated_footers_leave_out_the_oldest() {
    let big: Vec<_> = (0..120_000).map(|at| batch(meta(at, 1), BATCH_HEADER_BYTES)).collect();
    let big = build(draft(3, vec![ExtentDraft { partition: partition(1, 0), epoch: 0, batches: big }])).unwrap();
    let repeat = |number: u64| {
        let footer = Footer { number, ..big.footer.clone() };
        let extents = footer.extents.iter().map(|extent| ExtentDraft {
            partition: extent.partition,
            epoch: extent.epoch,
            batches: extent.batches.iter().map(|meta| batch(*meta, BATCH_HEADER_BYTES)).collect(),
        });
        RepeatedFooter { number, footer_bytes: build(draft(number, extents.collect())).unwrap().footer_bytes }
    };
    let one = repeat(0);
    let count = (9 << 20) / one.footer_bytes.len() as u64;
    let all = (0..count).map(repeat).collect();
    let sealed = build(SegmentDraft { repeated: all, ..draft(count, Vec::new()) }).unwrap();
    let numbers: Vec<u64> = read(&sealed).unwrap().repeated.iter().map(|footer| footer.number).collect();
    assert!(!numbers.is_empty() && (numbers.len() as u64) < count);
    assert_eq!(numbers, (count - numbers.len() as u64..count).collect::<Vec<_>>());
}

prop_compose! {
    fn any_meta()(
        records in 1i32..100_000,
        count in prop_oneof![4 => Just(None), 1 => (0i32..i32::MAX).prop_map(Some)],
        max_timestamp in prop_oneof![Just(-1), Just(i64::MIN), Just(i64::MAX), CREATED_MS - 1000..CREATED_MS + 1000],
        producer_id in prop_oneof![Just(-1i64), 0i64..4, any::<i64>()],
        producer_epoch in prop_oneof![Just(0i16), any::<i16>()],
        base_sequence in prop_oneof![Just(-1i32), Just(i32::MAX), 0i32..10, any::<i32>()],
        transactional in any::<bool>(),
        log_append_time in any::<bool>(),
        control in prop::option::weighted(0.2, (any::<i16>(), any::<i32>())),
    ) -> BatchMeta {
        let (producer_epoch, base_sequence) = if producer_id < 0 { (-1, -1) } else { (producer_epoch, base_sequence) };
        BatchMeta {
            record_count: count.unwrap_or(records),
            max_timestamp,
            producer_id: producer_id.max(-1),
            producer_epoch,
            base_sequence,
            transactional,
            log_append_time,
            control: control.map(|(marker_type, coordinator_epoch)| ControlMeta { marker_type, coordinator_epoch }),
            ..meta(0, records)
        }
    }
}

prop_compose! {
    fn any_draft()(
        number in prop_oneof![Just(0u64), 1u64..1000, any::<u64>()],
        nonce in any::<u64>(),
        created_ms in prop_oneof![Just(CREATED_MS), any::<i64>()],
        extents in prop::collection::vec(
            ((0u128..3, 0i32..4), 0i32..3, prop::collection::vec((any_meta(), 61usize..200), 1..5)), 0..12),
    ) -> SegmentDraft {
        let mut next = std::collections::BTreeMap::<(PartitionId, i32), i64>::new();
        let extents = extents.into_iter().map(|((topic, index), epoch, metas)| {
            let partition = partition(topic << 90, index);
            let offset = next.entry((partition, epoch)).or_insert(i64::from(epoch) << 40);
            let batches = metas.into_iter().map(|(meta, length)| {
                let meta = BatchMeta { base_offset: *offset, ..meta };
                *offset = meta.next_offset().unwrap();
                batch(meta, length)
            });
            ExtentDraft { partition, epoch, batches: batches.collect() }
        });
        SegmentDraft { nonce, created_ms, committed: number / 2, ..draft(number, extents.collect()) }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn segments_read_back(draft in any_draft()) {
        let given: usize = draft.extents.iter().map(|extent| extent.batches.len()).sum();
        let sealed = build(draft).unwrap();
        prop_assert_eq!(sealed.bytes.as_ptr() as usize % 4096, 0);
        let tail = read(&sealed).unwrap();
        prop_assert_eq!(&tail.footer, &sealed.footer);
        prop_assert_eq!(given, tail.footer.extents.iter().map(|extent| extent.batches.len()).sum::<usize>());
        verify_body("segment", &sealed.bytes, &tail.footer).unwrap();
    }

    #[test]
    fn repeated_footers_read_back(mut drafts in prop::collection::vec(any_draft(), 1..6), nonce in any::<u64>()) {
        let mut originals = Vec::new();
        let mut repeated = Vec::new();
        for (number, draft) in drafts.iter_mut().enumerate() {
            let number = number as u64 * 3;
            let sealed = build(SegmentDraft { number, committed: 0, ..draft.clone() }).unwrap();
            originals.push(sealed.footer);
            repeated.push(RepeatedFooter { number, footer_bytes: sealed.footer_bytes });
        }
        let sealed = build(SegmentDraft { repeated, nonce, ..draft(100, Vec::new()) }).unwrap();
        prop_assert_eq!(read(&sealed).unwrap().repeated, originals);
    }

    /// Hostile bytes with a valid checksum: an error or a footer that is written back to the very same bytes.
    #[test]
    fn foreign_footers_are_refused_or_canonical(draft in any_draft(), at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<bool>()) {
        let sealed = build(SegmentDraft { repeated: Vec::new(), ..draft }).unwrap();
        let body = sealed.footer.body_length() as usize;
        let mut footer = sealed.footer_bytes.to_vec();
        let at = at.index(footer.len());
        footer[at] = byte;
        if cut {
            footer.truncate(at);
        }
        let object = with_footer(&sealed.bytes[..body], &footer, sealed.footer.nonce);
        if let Ok(Tail::Segment(tail)) = parse_unnamed_tail("foreign", object.len() as u64, &object) {
            let mut start = 0;
            let extents = tail.footer.extents.iter().map(|extent| ExtentDraft {
                partition: extent.partition,
                epoch: extent.epoch,
                batches: extent.batches.iter().map(|meta| {
                    start += meta.length as usize;
                    (Bytes::copy_from_slice(&object[start - meta.length as usize..start]), *meta)
                }).collect(),
            }).collect();
            let Footer { session, number, nonce, created_ms, committed, .. } = tail.footer;
            let again = build(SegmentDraft { session, number, nonce, created_ms, committed, extents, repeated: Vec::new() }).unwrap();
            prop_assert_eq!(&again.footer_bytes[..], &footer[..]);
        }
    }

    #[test]
    fn random_bytes_are_refused(mut bytes in prop::collection::vec(any::<u8>(), 0..200), magic in 0..3) {
        let length = bytes.len();
        if length >= TRAILER_BYTES && magic > 0 {
            bytes[length - 8..].copy_from_slice(if magic == 1 { b"ALVM-SEG" } else { b"ALVM-FNC" });
            bytes[length - 16..length - 12].copy_from_slice(&[0, 1, magic as u8, 0]);
        }
        prop_assert!(parse_unnamed_tail("random", length as u64, &bytes).is_err());
    }
}
