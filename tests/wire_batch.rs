//! Record batches: header view, patches, codecs, records and timestamps, against kafka-protocol's own encoder and decoder,
//! and against bytes that lie.

use alluvium::wire::batch::{self, BatchError, BatchHeader, HEADER_BYTES};
use alluvium::wire::build::{BatchBuilder, BatchOptions, BuildError, NewRecord};
use alluvium::wire::codec::{Codec, compress, decompress};
use alluvium::wire::records::{self, Record, RecordIter};
use bytes::Bytes;
use kafka_protocol::records as theirs;

const LIMIT: usize = 16 * 1024 * 1024;

/// Records with and without keys, values, headers; big enough for several blocks of every codec.
fn sample(options: BatchOptions) -> Bytes {
    let mut builder = BatchBuilder::new(options);
    for at in 0..400i32 {
        let (key, value) = (format!("key {at}"), "value ".repeat(usize::try_from(at).unwrap_or(0)));
        let headers: &[(&[u8], Option<&[u8]>)] = &[(b"same", Some(b"1")), (b"same", None)];
        let record = NewRecord {
            offset_delta: at,
            timestamp: 1_000 + i64::from(at % 7),
            key: (at % 3 != 0).then_some(key.as_bytes()),
            value: (at % 5 != 0).then_some(value.as_bytes()),
            headers: &headers[..usize::from(at % 2 == 0) * 2],
        };
        builder.push(record).expect("rising offsets");
    }
    builder.build().expect("records")
}

fn options(codec: Codec) -> BatchOptions {
    BatchOptions {
        codec,
        base_offset: 500,
        leader_epoch: 3,
        producer_id: 7,
        producer_epoch: 1,
        base_sequence: 11,
        ..Default::default()
    }
}

fn section(batch: &[u8]) -> Vec<u8> {
    let header = BatchHeader::parse(batch).expect("header");
    decompress(header.compression().expect("codec"), &batch[HEADER_BYTES..], LIMIT).expect("section").into_owned()
}

fn read(section: &[u8]) -> Vec<Record<'_>> {
    RecordIter::new(section).collect::<Result<_, _>>().expect("records")
}

#[test]
fn the_crate_reads_what_we_build() {
    for codec in Codec::ALL {
        for level in [None, Some(1), Some(9), Some(100), Some(-100)] {
            let batch = sample(BatchOptions { level, ..options(codec) });
            assert!(batch::crc_matches(&batch), "{codec:?}");
            let decoded = theirs::RecordBatchDecoder::decode(&mut batch.clone()).expect("decodes");
            let section = section(&batch);
            let ours = read(&section);
            let header = BatchHeader::parse(&batch).expect("header");
            assert_eq!((decoded.compression as i16, decoded.records.len(), ours.len()), (codec.id(), 400, 400));
            for (theirs, ours) in decoded.records.iter().zip(&ours) {
                assert_eq!(theirs.offset, 500 + i64::from(ours.offset_delta));
                assert_eq!(theirs.sequence, 11 + ours.offset_delta);
                assert_eq!(theirs.timestamp, ours.timestamp(&header));
                assert_eq!((theirs.key.as_deref(), theirs.value.as_deref()), (ours.key, ours.value));
                assert_eq!((theirs.producer_id, theirs.producer_epoch, theirs.partition_leader_epoch), (7, 1, 3));
                assert_eq!(ours.headers().count(), ours.header_count);
            }
        }
    }
}

#[test]
fn we_read_what_the_crate_builds() {
    let codecs = [
        theirs::Compression::None,
        theirs::Compression::Gzip,
        theirs::Compression::Snappy,
        theirs::Compression::Lz4,
        theirs::Compression::Zstd,
    ];
    for compression in codecs {
        let all = (0..300i64).map(|at| record_of_theirs(at, Bytes::from("x".repeat(at as usize)))).collect::<Vec<_>>();
        let mut bytes = Vec::new();
        let options = theirs::RecordEncodeOptions { version: 2, compression };
        theirs::RecordBatchEncoder::encode(&mut bytes, &all, &options).expect("encodes");
        let batches = batch::batches(&Bytes::from(bytes)).collect::<Result<Vec<_>, _>>().expect("batches");
        assert_eq!(batches.len(), 1);
        let (header, batch) = &batches[0];
        assert!(batch::crc_matches(batch));
        assert_eq!((header.base_offset, header.last_offset(), header.record_count), (40, 339, 300));
        assert_eq!((header.is_transactional(), header.is_control(), header.last_sequence()), (true, false, 304));
        let section = section(batch);
        for (ours, theirs) in read(&section).iter().zip(&all) {
            assert_eq!((ours.key, ours.value), (theirs.key.as_deref(), theirs.value.as_deref()));
            assert_eq!(ours.timestamp(header), theirs.timestamp);
        }
        assert_eq!(records::find_by_timestamp(batch, 9_017), Ok(Some((57, 9_017))));
        assert_eq!(records::find_max_timestamp(batch), Ok(Some((339, 9_299))));
    }
}

fn record_of_theirs(at: i64, value: Bytes) -> theirs::Record {
    theirs::Record {
        transactional: true,
        control: false,
        delete_horizon: false,
        partition_leader_epoch: 0,
        producer_id: 9,
        producer_epoch: 2,
        timestamp_type: theirs::TimestampType::Creation,
        offset: 40 + at,
        sequence: 5 + i32::try_from(at).expect("small"),
        timestamp: 9_000 + at,
        key: (at % 2 == 0).then(|| Bytes::from("key")),
        value: Some(value),
        headers: Default::default(),
    }
}

#[test]
fn headers_read_back_and_wrap() {
    let batch = sample(BatchOptions { transactional: true, control: true, ..options(Codec::Zstd) });
    let header = BatchHeader::parse(&batch).expect("header");
    assert_eq!(header.encode(), batch[..HEADER_BYTES]);
    assert_eq!((header.size(), header.next_offset(), header.last_sequence()), (batch.len(), 900, 410));
    assert_eq!((header.is_transactional(), header.is_control(), header.is_log_append_time()), (true, true, false));
    assert_eq!((header.base_timestamp, header.max_timestamp), (1_000, 1_006));
    let with = |base_sequence, last_offset_delta| BatchHeader { base_sequence, last_offset_delta, ..header };
    for (base, delta, last) in [
        (-1, 5, -1),
        (0, 0, 0),
        (i32::MAX, 0, i32::MAX),
        (i32::MAX, 1, 0),
        (i32::MAX - 1, 3, 1),
        (i32::MAX, i32::MAX, i32::MAX - 1),
    ] {
        assert_eq!(with(base, delta).last_sequence(), last, "{base} + {delta}");
    }
}

#[test]
fn patches_keep_the_crc_right() {
    for codec in Codec::ALL {
        let original = sample(options(codec));
        let mut batch = original.to_vec();
        batch::patch_offset_and_epoch(&mut batch, i64::MAX - 1000, 77).expect("patched");
        let header = BatchHeader::parse(&batch).expect("header");
        assert_eq!((header.base_offset, header.partition_leader_epoch), (i64::MAX - 1000, 77));
        assert!(batch::crc_matches(&batch));
        assert_eq!(batch[21..], original[21..]);
        batch::patch_log_append_time(&mut batch, 123_456).expect("patched");
        let header = BatchHeader::parse(&batch).expect("header");
        assert!(batch::crc_matches(&batch) && header.is_log_append_time());
        assert_eq!((header.max_timestamp, header.compression()), (123_456, Ok(codec)));
        assert_eq!(records::find_max_timestamp(&batch), Ok(Some((i64::MAX - 1000, 123_456))));
        assert_eq!(records::find_by_timestamp(&batch, 123_456), Ok(Some((i64::MAX - 1000, 123_456))));
        assert_eq!(records::find_by_timestamp(&batch, 123_457), Ok(None));
        batch[70] ^= 1;
        assert!(!batch::crc_matches(&batch));
    }
    let mut short = [0; 60];
    assert!(batch::patch_offset_and_epoch(&mut short, 0, 0).is_err());
    assert!(batch::patch_log_append_time(&mut short, 0).is_err());
}

#[test]
fn batches_are_split_and_damage_ends_the_split() {
    let one = sample(options(Codec::Lz4));
    let two = [one.as_ref(), one.as_ref()].concat();
    assert_eq!(batch::batches(&Bytes::from(two.clone())).filter(|batch| batch.is_ok()).count(), 2);
    assert_eq!(batch::batches(&Bytes::new()).count(), 0);
    for cut in one.len() + 1..two.len() {
        let split = batch::batches(&Bytes::from(two[..cut].to_vec())).collect::<Vec<_>>();
        assert!(split.len() == 2 && split[0].is_ok(), "{cut}");
        assert!(matches!(split[1], Err(BatchError::Truncated { .. })), "{cut}");
    }
    for (at, byte) in [(8, 0xff), (8, 0x7f), (16, 1), (16, 3)] {
        let mut bad = one.to_vec();
        bad[at] = byte;
        let split = batch::batches(&Bytes::from(bad)).collect::<Vec<_>>();
        assert!(split.len() == 1 && split[0].is_err(), "{at} {byte}");
    }
    let tiny = BatchHeader { batch_length: 48, ..BatchHeader::parse(&one).expect("header") };
    assert_eq!(BatchHeader::parse(&tiny.encode()), Err(BatchError::Length(48)));
    let negative = BatchHeader { batch_length: i32::MIN, ..tiny };
    assert_eq!(BatchHeader::parse(&negative.encode()), Err(BatchError::Length(i32::MIN)));
}

#[test]
fn timestamps_are_found_where_they_stand() {
    for codec in Codec::ALL {
        let mut builder = BatchBuilder::new(options(codec));
        for (offset_delta, timestamp) in [(0, 10), (2, 30), (3, 20), (9, 30), (11, -1)] {
            builder.push(NewRecord { offset_delta, timestamp, ..Default::default() }).expect("rising");
        }
        let batch = builder.build().expect("batch");
        for (target, found) in [
            (i64::MIN, Some((500, 10))),
            (10, Some((500, 10))),
            (11, Some((502, 30))),
            (30, Some((502, 30))),
            (31, None),
        ] {
            assert_eq!(records::find_by_timestamp(&batch, target), Ok(found), "{codec:?} {target}");
        }
        for (from, found) in [(502, Some((502, 30))), (503, Some((503, 20))), (504, Some((509, 30))), (512, None)] {
            assert_eq!(records::find_by_timestamp_from(&batch, 15, from), Ok(found), "{codec:?} {from}");
        }
        assert_eq!(records::find_max_timestamp(&batch), Ok(Some((502, 30))), "{codec:?}");
    }
    let mut builder = BatchBuilder::new(BatchOptions::default());
    builder.push(NewRecord { timestamp: -1, ..Default::default() }).expect("one");
    assert_eq!(records::find_max_timestamp(&builder.build().expect("batch")), Ok(None));
}

#[test]
fn builders_refuse_what_is_no_batch() {
    assert_eq!(BatchBuilder::new(BatchOptions::default()).build(), Err(BuildError::Empty));
    let mut builder = BatchBuilder::new(BatchOptions::default());
    builder.push(NewRecord { offset_delta: 4, ..Default::default() }).expect("one");
    let again = builder.push(NewRecord { offset_delta: 4, ..Default::default() });
    assert_eq!(again, Err(BuildError::Order { last: 4, next: 4 }));
    assert_eq!(builder.count(), 1);
}

#[test]
fn bombs_end_at_the_limit() {
    let zeros = vec![0u8; 8 * 1024 * 1024];
    for codec in Codec::ALL {
        let packed = compress(codec, None, &zeros).expect("compresses");
        let limit = zeros.len() - 1;
        assert_eq!(decompress(codec, &packed, limit), Err(BatchError::TooLarge { limit }), "{codec:?}");
        assert_eq!(decompress(codec, &packed, zeros.len()).map(|bytes| bytes.len()), Ok(zeros.len()), "{codec:?}");
    }
    // A block of a few bytes that declares 4 GiB, with and without xerial's framing.
    let declared = [0xff, 0xff, 0xff, 0xff, 0x0f, 0, 0];
    let framed = [b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01\0\0\0\x07".as_slice(), &declared].concat();
    for bomb in [&declared[..], &framed] {
        assert!(matches!(decompress(Codec::Snappy, bomb, usize::MAX), Err(BatchError::Decompress(_))));
    }
}

#[test]
fn formats_that_java_does_not_read_are_refused() {
    let linked = {
        use std::io::Write as _;
        let mut encoder =
            lz4::EncoderBuilder::new().block_mode(lz4::BlockMode::Linked).build(Vec::new()).expect("encoder");
        encoder.write_all(b"text").expect("written");
        encoder.finish().0
    };
    assert!(decompress(Codec::Lz4, &linked, LIMIT).is_err());
    for codec in [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
        assert!(decompress(codec, b"garbage, surely", LIMIT).is_err(), "{codec:?}");
    }
}

#[test]
fn readers_take_what_javas_readers_take() {
    let text = b"some text, some text, some text".repeat(9);
    let raw = snap::raw::Encoder::new().compress_vec(&text).expect("compresses");
    assert_eq!(decompress(Codec::Snappy, &raw, LIMIT).as_deref(), Ok(text.as_slice()));
    let member = compress(Codec::Gzip, None, &text).expect("compresses");
    let two = [member.as_slice(), &member].concat();
    assert_eq!(decompress(Codec::Gzip, &two, LIMIT).as_deref(), Ok(text.repeat(2).as_slice()));
    let tail = [member.as_slice(), b"xx"].concat();
    assert_eq!(decompress(Codec::Gzip, &tail, LIMIT).as_deref(), Ok(text.as_slice()));
    for codec in Codec::ALL {
        assert_eq!(Codec::from_name(codec.name()), Some(codec));
        assert_eq!(Codec::from_id(codec.id()), Some(codec));
        let empty = compress(codec, None, b"").expect("compresses");
        assert_eq!(decompress(codec, &empty, LIMIT).as_deref(), Ok(b"".as_slice()), "{codec:?}");
    }
    assert_eq!((Codec::from_id(5), Codec::from_id(-1), Codec::from_name("brotli")), (None, None, None));
}

#[test]
fn hostile_records_are_errors() {
    let table: &[(&[u8], &str)] = &[
        (&[0x80], "cut varint"),
        (&[0xff, 0xff, 0xff, 0xff, 0x1f], "varint beyond 32 bits"),
        (&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01], "varint of seven bytes"),
        (&[0x01], "negative length"),
        (&[0x02], "cut after the length"),
        (&[0xfe, 0xff, 0xff, 0xff, 0x0f], "length of 2 GiB"),
        (&[0x0c, 0, 0, 0, 1, 1], "no header count"),
        (&[0x0c, 0, 0, 0, 1, 1, 1], "negative header count"),
        (&[0x0e, 0, 0, 0, 1, 1, 0, 9], "bytes after the headers"),
        (&[0x10, 0, 0, 0, 1, 1, 2, 1, 1], "null header key"),
        (&[0x12, 0, 0, 0, 0xfe, 0xff, 0xff, 0xff, 0x0f, 0], "key of 2 GiB"),
        (&[0x14, 0, 0, 0, 1, 1, 0xfe, 0xff, 0xff, 0xff, 0x0f], "two billion headers"),
    ];
    for (bytes, what) in table {
        let read = RecordIter::new(bytes).collect::<Vec<_>>();
        assert!(read.len() == 1 && read[0].is_err(), "{what}: {read:?}");
    }
    let good: &[u8] = &[0x0c, 0, 0, 0, 1, 1, 0];
    assert_eq!(
        read(good)[0],
        Record {
            attributes: 0,
            timestamp_delta: 0,
            offset_delta: 0,
            key: None,
            value: None,
            header_count: 0,
            headers: &[]
        }
    );
}

/// No byte of a batch may make a reader panic or run away, also where the CRC is right again.
#[test]
fn mutated_batches_never_panic() {
    for codec in Codec::ALL {
        let mut builder = BatchBuilder::new(options(codec));
        for offset_delta in 0..3 {
            let headers: &[(&[u8], Option<&[u8]>)] = &[(b"h", Some(b"v"))];
            let record = NewRecord { offset_delta, timestamp: 5, key: Some(b"key"), value: Some(b"value"), headers };
            builder.push(record).expect("rising");
        }
        let batch = builder.build().expect("batch");
        for at in 0..batch.len() {
            for byte in [0, 1, 0x7f, 0x80, 0xff, batch[at] ^ 1, batch[at].wrapping_add(1)] {
                let mut mutant = batch.to_vec();
                mutant[at] = byte;
                let _ = records::find_by_timestamp(&mutant, i64::MIN);
                let _ = records::find_max_timestamp(&mutant);
                let _ = decompress(codec, &mutant[HEADER_BYTES..], LIMIT).map(|section| {
                    RecordIter::new(&section).flatten().map(|record| record.headers().count()).sum::<usize>()
                });
            }
        }
        for cut in 0..batch.len() {
            assert!(records::find_max_timestamp(&batch[..cut]).is_err(), "{codec:?} {cut}");
        }
    }
}

/// Written by Apache Kafka 4.3.1, which compressed three records anew.
const BY_JAVA: [&str; 4] = [
    "00000000000000000000007600000000026faff7460001000000020000018bcfe568000000018bcfe56807ffffffffffffffffffffffffffff0000\
     00031f8b08000000000000ff9bc0c4c0c0c094fd81b128b32cb54881fe240b5306530510ffbfc6c8c0c7c47882b138312f4581c604031f032b0b53\
     362303004e114355ff000000",
    "00000000000000000000008400000000020551fd7d0002000000020000018bcfe568000000018bcfe56807ffffffffffffffffffffffffffff0000\
     000382534e415050590000000001000000010000003fff01389002000000026bf001726976657220fe0600c60600540402680278026802ffd60100\
     0e0201c80173616e6420fe05007a050020000e000504026b0100",
    "00000000000000000000007900000000026e4200130003000000020000018bcfe568000000018bcfe56807ffffffffffffffffffffffffffff0000\
     000304224d1860408239000000ff009002000000026bf00172697665722006005fff070402680278026802ffd601000e0201c80173616e64200500\
     4c90000e000504026b010000000000",
    "0000000000000000000000760000000002827e271b0004000000020000018bcfe568000000018bcfe56807ffffffffffffffffffffffffffff0000\
     000328b52ffd0058cc0100e4029002000000026bf0017269766572200402680278026802ffd601000e0201c80173616e6420000e000504026b0100\
     020018656a5ed25207010000",
];

#[test]
fn we_read_what_java_writes() {
    for (text, codec) in BY_JAVA.into_iter().zip(&Codec::ALL[1..]) {
        let digits = text.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).expect("ASCII"));
        let batch = digits.map(|pair| u8::from_str_radix(pair, 16).expect("hexadecimal")).collect::<Vec<_>>();
        assert!(batch::crc_matches(&batch));
        assert_eq!(BatchHeader::parse(&batch).expect("header").compression(), Ok(*codec));
        let section = section(&batch);
        let records = read(&section);
        let (river, sand) = ("river ".repeat(20), "sand ".repeat(20));
        let values = records.iter().map(|record| (record.key, record.value)).collect::<Vec<_>>();
        let expected =
            [(Some(b"k".as_slice()), Some(river.as_bytes())), (None, Some(sand.as_bytes())), (Some(b"k"), None)];
        assert_eq!(values, expected, "{codec:?}");
        let headers = records[0].headers().collect::<Vec<_>>();
        assert_eq!(headers, [(b"h".as_slice(), Some(b"x".as_slice())), (b"h", Some(b"\xff"))]);
        assert_eq!(records::find_max_timestamp(&batch), Ok(Some((1, 1_700_000_000_007))));
    }
}

/// A stream of unknown length would make readers and writers of level 22 reserve 128 MiB and more.
#[test]
fn zstd_frames_say_how_much_they_hold() {
    let frame = compress(Codec::Zstd, Some(22), &[7; 1000]).expect("compresses");
    assert_eq!(zstd::zstd_safe::get_frame_content_size(&frame).ok().flatten(), Some(1000));
}
