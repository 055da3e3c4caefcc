//! What a produced batch is refused for. Codes and messages were measured on Apache Kafka 4.3.1 with these very batches;
//! where this broker differs on purpose, the row says so.

use alluvium::wire::batch::{self, BatchHeader, HEADER_BYTES};
use alluvium::wire::codec::{Codec, compress, decompress};
use alluvium::wire::records::{MAX_UNCOMPRESSED_BYTES, RecordIter};
use alluvium::wire::validate::{CompressionRule, MAX_RECORD_ERRORS, ProduceRules, Refusal, TimestampType, ValidBatch};
use alluvium::wire::validate::{single_batch, validate, validate_at_once};
use bytes::Bytes;
use kafka_protocol::error::ResponseError::{self, *};

const NOW: i64 = 1_795_254_167_524;
const HOUR: i64 = 3_600_000;

/// A record before its length is put in front.
#[derive(Clone)]
struct Rec {
    delta: i64,
    timestamp: i64,
    key: Option<&'static [u8]>,
    value: Vec<u8>,
    headers: i64,
    tail: Vec<u8>,
    length: Option<i64>,
}

fn rec(delta: i64) -> Rec {
    Rec { delta, timestamp: 0, key: Some(b"k"), value: b"v".to_vec(), headers: 0, tail: Vec::new(), length: None }
}

fn no_key(delta: i64) -> Rec {
    Rec { key: None, ..rec(delta) }
}

fn at(delta: i64, timestamp: i64) -> Rec {
    Rec { timestamp, ..rec(delta) }
}

fn varint(value: i64) -> Vec<u8> {
    let mut raw = ((value << 1) ^ (value >> 63)) as u64;
    let mut out = Vec::new();
    while raw >= 0x80 {
        out.push(raw as u8 | 0x80);
        raw >>= 7;
    }
    out.push(raw as u8);
    out
}

fn section(records: &[Rec]) -> Vec<u8> {
    let one = |record: &Rec| {
        let mut body = vec![0];
        body.extend(varint(record.timestamp));
        body.extend(varint(record.delta));
        match record.key {
            Some(key) => body.extend([varint(key.len() as i64), key.to_vec()].concat()),
            None => body.extend(varint(-1)),
        }
        body.extend(varint(record.value.len() as i64));
        body.extend(&record.value);
        body.extend(varint(record.headers));
        body.extend(&record.tail);
        [varint(record.length.unwrap_or(body.len() as i64)), body].concat()
    };
    records.iter().flat_map(one).collect()
}

/// A batch of these records under a codec; `change` sees the header before the CRC is computed.
fn batch(codec: Codec, records: &[Rec], change: impl FnOnce(&mut BatchHeader)) -> Bytes {
    raw(codec, &section(records), records.len(), change)
}

fn raw(codec: Codec, section: &[u8], count: usize, change: impl FnOnce(&mut BatchHeader)) -> Bytes {
    around(codec, &compress(codec, None, section).expect("compresses"), count, change)
}

/// A batch around a section that is compressed already, or not at all.
fn around(codec: Codec, section: &[u8], count: usize, change: impl FnOnce(&mut BatchHeader)) -> Bytes {
    let mut header = BatchHeader {
        base_offset: 0,
        batch_length: (HEADER_BYTES - 12 + section.len()) as i32,
        partition_leader_epoch: -1,
        magic: 2,
        crc: 0,
        attributes: codec.id(),
        last_offset_delta: count as i32 - 1,
        base_timestamp: NOW,
        max_timestamp: NOW,
        producer_id: -1,
        producer_epoch: -1,
        base_sequence: -1,
        record_count: count as i32,
    };
    change(&mut header);
    let with_crc = [header.encode().as_slice(), section].concat();
    header.crc = batch::compute_crc(&with_crc).expect("long enough");
    Bytes::from([header.encode().as_slice(), section].concat())
}

fn rules() -> ProduceRules {
    ProduceRules::new("X-0")
}

fn code(batch: Bytes, rules: &ProduceRules) -> Option<ResponseError> {
    let at_once = validate_at_once(&batch, rules, NOW);
    let outcome = validate(batch, rules, NOW);
    assert!(at_once.is_none_or(|at_once| at_once == outcome));
    outcome.err().map(|refusal| refusal.code)
}

fn plain(codec: Codec) -> Bytes {
    batch(codec, &[rec(0), rec(1)], |_| {})
}

#[test]
fn good_batches_pass_as_they_are() {
    for codec in Codec::ALL {
        let batch = plain(codec);
        let header = BatchHeader::parse(&batch).expect("header");
        let valid = validate(batch.clone(), &rules(), NOW);
        assert_eq!(valid, Ok(ValidBatch { header, bytes: batch.clone(), log_append_time_ms: -1 }));
        let bytes = valid.expect("valid").bytes;
        assert_eq!(bytes.as_ptr(), batch.as_ptr(), "not copied");
    }
}

#[test]
fn one_batch_per_partition() {
    let one = plain(Codec::None);
    let with = |tail: &[u8]| Some(Bytes::from([one.as_ref(), tail].concat()));
    let cut = |length: usize| Some(one.slice(..length));
    let patched = |at: usize, bytes: &[u8]| {
        let mut batch = one.to_vec();
        batch[at..at + bytes.len()].copy_from_slice(bytes);
        Some(Bytes::from(batch))
    };
    let zstd = Some(plain(Codec::Zstd));
    let table: Vec<(&str, Option<Bytes>, i16, Option<ResponseError>)> = vec![
        ("one", with(&[]), 3, None),
        ("null", None, 9, Some(InvalidRecord)),
        ("empty", cut(0), 9, Some(InvalidRecord)),
        ("11 bytes", cut(11), 9, Some(InvalidRecord)),
        ("16 bytes", cut(16), 9, Some(InvalidRecord)),
        ("60 bytes", cut(60), 9, Some(InvalidRecord)),
        ("two", with(&one), 9, Some(InvalidRecord)),
        ("5 bytes behind", with(b"12345"), 9, None),
        ("a cut batch behind", with(&one[..one.len() - 1]), 9, None),
        ("17 zeros behind", with(&[0; 17]), 9, Some(CorruptMessage)),
        ("magic 0", patched(16, &[0]), 9, Some(InvalidRecord)),
        ("magic 1", patched(16, &[1]), 9, Some(InvalidRecord)),
        ("magic 3", patched(16, &[3]), 9, Some(CorruptMessage)),
        ("magic -1", patched(16, &[0xff]), 9, Some(CorruptMessage)),
        ("length 13", patched(8, &[0, 0, 0, 13]), 9, Some(CorruptMessage)),
        ("length -1", patched(8, &[0xff; 4]), 9, Some(CorruptMessage)),
        ("length beyond", patched(8, &[0, 0, 4, 0]), 9, Some(InvalidRecord)),
        ("length 2 GiB", patched(8, &[0x7f, 0xff, 0xff, 0xff]), 9, Some(InvalidRecord)),
        ("zstd in version 6", zstd.clone(), 6, Some(UnsupportedCompressionType)),
        ("zstd in version 7", zstd, 7, None),
    ];
    for (what, records, version, expected) in table {
        let answer = single_batch(records, version);
        assert_eq!(answer.as_ref().err().map(|refusal| refusal.code), expected, "{what}");
        if let Ok(batch) = answer {
            assert_eq!(BatchHeader::parse(&batch).map(|header| header.size()), Ok(batch.len()), "{what}");
        }
    }
    let message = |records| single_batch(records, 9).expect_err("refused").error_message;
    assert_eq!(message(patched(16, &[3])).as_deref(), Some("Invalid magic found in record: 3"));
    let small = "Record size 13 is less than the minimum record overhead (14)";
    assert_eq!(message(patched(8, &[0, 0, 0, 13])).as_deref(), Some(small));
    assert_eq!(message(with(&one)), None);
}

#[test]
fn short_lengths_are_corrupt() {
    for length in [14, 20, 48] {
        let batch = batch(Codec::None, &[rec(0)], |header| header.batch_length = length);
        let one = single_batch(Some(batch.slice(..usize::try_from(length).expect("small") + 12)), 9);
        assert_eq!(one.map(|batch| code(batch, &rules())), Ok(Some(CorruptMessage)), "{length}");
    }
}

#[test]
fn no_batch_is_longer_than_a_segment_of_kafka() {
    for codec in Codec::ALL {
        let good = batch(codec, &[rec(0), rec(1)], |_| {});
        for (segment_bytes, expected) in [(good.len(), None), (good.len() - 1, Some(RecordListTooLarge))] {
            assert_eq!(code(good.clone(), &ProduceRules { segment_bytes, ..rules() }), expected, "{codec:?}");
        }
        let both = ProduceRules { segment_bytes: 50, max_message_bytes: 50, ..rules() };
        assert_eq!(code(good.clone(), &both), Some(MessageTooLarge), "{codec:?}: that comes first");
    }
}

#[test]
fn headers_are_checked_in_kafkas_order() {
    let small = ProduceRules { max_message_bytes: 70, ..rules() };
    type Row = (&'static str, fn(&mut BatchHeader), Option<ResponseError>, Option<ResponseError>);
    let table: Vec<Row> = vec![
        ("good", |_| {}, None, Some(MessageTooLarge)),
        ("base offset", |h| h.base_offset = 5, Some(InvalidRecord), Some(InvalidRecord)),
        ("last delta 5", |h| h.last_offset_delta = 5, Some(InvalidRecord), Some(MessageTooLarge)),
        ("last delta -1", |h| h.last_offset_delta = -1, Some(InvalidRecord), Some(MessageTooLarge)),
        ("last delta max", |h| h.last_offset_delta = i32::MAX, Some(InvalidRecord), Some(MessageTooLarge)),
        ("count 0", |h| h.record_count = 0, Some(InvalidRecord), Some(MessageTooLarge)),
        ("count -1", |h| h.record_count = -1, Some(InvalidRecord), Some(MessageTooLarge)),
        ("all max", |h| (h.record_count, h.last_offset_delta) = (i32::MAX, i32::MAX - 1), Some(InvalidRecord), None),
        ("three counted", |h| (h.record_count, h.last_offset_delta) = (3, 2), Some(InvalidRecord), None),
        ("one counted", |h| (h.record_count, h.last_offset_delta) = (1, 0), Some(InvalidRecord), None),
        ("control", |h| h.attributes |= 0x20, Some(InvalidRecord), None),
        ("no sequence", |h| h.producer_id = 5, Some(InvalidRecord), None),
        ("sequence", |h| (h.producer_id, h.producer_epoch, h.base_sequence) = (5, 0, 0), None, None),
        ("transactional", |h| h.attributes |= 0x10, None, None),
        ("unused bits", |h| h.attributes |= 0x7f80, None, None),
    ];
    for codec in Codec::ALL {
        for (what, change, expected, small_expected) in &table {
            let batch = batch(codec, &[rec(0), rec(1)], change);
            assert_eq!(code(batch.clone(), &rules()), *expected, "{codec:?} {what}");
            if let Some(expected) = small_expected {
                assert_eq!(code(batch, &small), Some(*expected), "{codec:?} {what} too large");
            }
        }
    }
    for id in [5, 6, 7] {
        let batch = batch(Codec::None, &[rec(0)], |header| header.attributes = id);
        assert_eq!(code(batch, &rules()), Some(UnsupportedCompressionType), "Kafka: UNKNOWN_SERVER_ERROR");
    }
}

#[test]
fn damage_is_corrupt_after_size_and_offset() {
    let damage = |batch: Bytes| {
        let mut batch = batch.to_vec();
        batch[HEADER_BYTES - 1 + 4] ^= 0x10;
        Bytes::from(batch)
    };
    let refusal = validate(damage(plain(Codec::None)), &rules(), NOW).expect_err("damaged");
    assert_eq!((refusal.code, refusal.error_message, refusal.record_errors.len()), (CorruptMessage, None, 0));
    let small = ProduceRules { max_message_bytes: 70, ..rules() };
    assert_eq!(code(damage(plain(Codec::None)), &small), Some(MessageTooLarge));
    let moved = damage(batch(Codec::None, &[rec(0)], |header| header.base_offset = 1));
    assert_eq!(code(moved, &rules()), Some(InvalidRecord));
    let every_bit = plain(Codec::Gzip);
    for at in 21..every_bit.len() {
        let mut batch = every_bit.to_vec();
        batch[at] ^= 1;
        assert_eq!(code(Bytes::from(batch), &rules()), Some(CorruptMessage), "{at}");
    }
}

#[test]
fn records_must_be_what_the_header_says() {
    let with = |change: fn(&mut Rec)| {
        let mut record = rec(0);
        change(&mut record);
        vec![record]
    };
    let table: Vec<(&str, Vec<Rec>, Option<ResponseError>)> = vec![
        ("deltas 0, 0: stored by Kafka", vec![rec(0), rec(0)], Some(InvalidRecord)),
        ("deltas 1, 0: stored by Kafka", vec![rec(1), rec(0)], Some(InvalidRecord)),
        ("deltas 0, 5: stored by Kafka", vec![rec(0), rec(5)], Some(InvalidRecord)),
        ("delta -1", vec![rec(-1)], Some(InvalidRecord)),
        ("length too long", with(|r| r.length = Some(50)), Some(InvalidRecord)),
        ("length too short", with(|r| r.length = Some(3)), Some(InvalidRecord)),
        ("length negative", with(|r| r.length = Some(-3)), Some(InvalidRecord)),
        ("bytes behind the headers", with(|r| r.tail = b"zz".to_vec()), Some(InvalidRecord)),
        ("headers -1", with(|r| r.headers = -1), Some(InvalidRecord)),
        ("headers 100", with(|r| r.headers = 100), Some(InvalidRecord)),
        ("header key null", with(|r| (r.headers, r.tail) = (1, vec![1, 0])), Some(InvalidRecord)),
        ("header value null", with(|r| (r.headers, r.tail) = (1, vec![2, b'a', 1])), None),
        ("empty key", with(|r| r.key = Some(b"")), None),
    ];
    for codec in Codec::ALL {
        for (what, records, expected) in &table {
            assert_eq!(code(batch(codec, records, |_| {}), &rules()), *expected, "{codec:?} {what}");
        }
        let behind = [section(&[rec(0)]).as_slice(), b"zz"].concat();
        assert_eq!(code(raw(codec, &behind, 1, |_| {}), &rules()), Some(InvalidRecord), "{codec:?} bytes behind");
        assert_eq!(code(raw(codec, b"", 1, |_| {}), &rules()), Some(InvalidRecord), "{codec:?} nothing");
        let garbage = around(codec, b"garbage!!", 1, |_| {});
        assert_eq!(code(garbage, &rules()), Some(InvalidRecord), "{codec:?} garbage; Kafka: UNKNOWN_SERVER_ERROR");
        let packed = compress(codec, None, &section(&[rec(0)])).expect("compresses");
        for cut in 0..packed.len().min(section(&[rec(0)]).len()) {
            let refused = code(around(codec, &packed[..cut], 1, |_| {}), &rules());
            assert_eq!(refused, Some(InvalidRecord), "{codec:?} cut at {cut}");
        }
    }
}

#[test]
fn compacted_topics_need_keys() {
    let compacted = ProduceRules { compacted: true, ..rules() };
    let reason = "Compacted topic cannot accept message without key in topic partition X-0";
    for codec in Codec::ALL {
        assert_eq!(code(batch(codec, &[Rec { key: Some(b""), ..rec(0) }], |_| {}), &compacted), None);
        let records = [rec(0), no_key(1), no_key(2), no_key(3), no_key(4), no_key(5)];
        let refusal = validate(batch(codec, &records, |_| {}), &compacted, NOW).expect_err("refused");
        let three = (1..=3).map(|at| format!("RecordError(batchIndex={at}, message='{reason}')")).collect::<Vec<_>>();
        let message = format!(
            "One or more records have been rejected due to 5 record errors in total, and only showing the first three \
             errors at most: [{}]",
            three.join(", ")
        );
        assert_eq!((refusal.code, refusal.error_message), (InvalidRecord, Some(message)));
        let listed = refusal.record_errors.iter().map(|error| (error.batch_index, error.message.as_str()));
        assert_eq!(listed.collect::<Vec<_>>(), (1..=5).map(|at| (at, reason)).collect::<Vec<_>>());
    }
    let many = (0..MAX_RECORD_ERRORS as i64 + 7).map(no_key).collect::<Vec<_>>();
    let refusal = validate(batch(Codec::None, &many, |_| {}), &compacted, NOW).expect_err("refused");
    assert_eq!(refusal.record_errors.len(), MAX_RECORD_ERRORS);
    assert!(refusal.error_message.is_some_and(|message| message.contains(" 1007 record errors in total")));
}

fn timestamp_refusal(refusal: Refusal) -> Vec<(i32, String)> {
    assert_eq!(refusal.code, InvalidTimestamp);
    let message = "One or more records have been rejected due to invalid timestamp";
    assert_eq!(refusal.error_message.as_deref(), Some(message));
    refusal.record_errors.into_iter().map(|error| (error.batch_index, error.message)).collect()
}

#[test]
fn timestamps_must_be_in_range() {
    let before = ProduceRules { timestamp_before_max_ms: 1000, ..rules() };
    for codec in Codec::ALL {
        let edge = [at(0, -1000), at(1, HOUR)];
        assert_eq!(code(batch(codec, &edge, |_| {}), &before), None);
        let refused = validate(batch(codec, &[at(0, -1001), at(1, 0), at(2, HOUR + 1)], |_| {}), &before, NOW);
        let range = format!("is out of range. The timestamp should be within [{}, {}]", NOW - 1000, NOW + HOUR);
        let expected = vec![
            (0, format!("Timestamp {} of message with offset 0 {range}", NOW - 1001)),
            (2, format!("Timestamp {} of message with offset 2 {range}", NOW + HOUR + 1)),
        ];
        assert_eq!(timestamp_refusal(refused.expect_err("refused")), expected);
        for (base, expected) in [(-1, None), (-2, Some(InvalidTimestamp))] {
            let old = batch(codec, &[rec(0)], |h| (h.base_timestamp, h.max_timestamp) = (base, base));
            assert_eq!(code(old, &before), expected, "{base}");
        }
        let wrapped = batch(codec, &[at(0, i64::MAX)], |header| header.base_timestamp = 5);
        assert_eq!(code(wrapped, &rules()), Some(InvalidTimestamp));
    }
    let compacted = ProduceRules { compacted: true, ..before };
    let mixed = batch(Codec::None, &[no_key(0), at(1, -5000)], |_| {});
    let indexes = timestamp_refusal(validate(mixed, &compacted, NOW).expect_err("refused"));
    assert!(indexes[0].1.starts_with("Compacted topic") && indexes[1].1.starts_with("Timestamp"));
}

#[test]
fn the_highest_timestamp_is_set_right() {
    for codec in Codec::ALL {
        for attributes in [0, 0x08] {
            let batch = batch(codec, &[at(0, -5), at(1, 7), at(2, 3)], |header| {
                header.max_timestamp = NOW - 99;
                header.attributes |= attributes;
            });
            let valid = validate(batch.clone(), &rules(), NOW).expect("valid");
            let expected = if attributes == 0 { NOW + 7 } else { NOW - 99 };
            assert_eq!((valid.header.max_timestamp, valid.header.is_log_append_time()), (expected, false));
            assert!(batch::crc_matches(&valid.bytes));
            assert_eq!(valid.bytes[HEADER_BYTES..], batch[HEADER_BYTES..]);
        }
    }
}

#[test]
fn log_append_time_is_the_brokers() {
    let rules = ProduceRules { timestamp_type: TimestampType::LogAppendTime, timestamp_before_max_ms: 1, ..rules() };
    for codec in Codec::ALL {
        let original = batch(codec, &[at(0, -500_000), at(1, HOUR * 9)], |_| {});
        let valid = validate(original.clone(), &rules, NOW).expect("valid");
        assert_eq!((valid.header.max_timestamp, valid.log_append_time_ms), (NOW, NOW));
        assert_eq!(valid.header.base_timestamp, BatchHeader::parse(&original).expect("header").base_timestamp);
        assert!(valid.header.is_log_append_time() && batch::crc_matches(&valid.bytes));
        assert_eq!(valid.bytes[HEADER_BYTES..], original[HEADER_BYTES..]);
        let set = batch(codec, &[no_key(0), rec(1)], |header| header.attributes |= 0x08);
        let (class, null) = if codec == Codec::None { ("DefaultRecord", 0) } else { ("PartialDefaultRecord", -1) };
        let message = |offset: i32, key: i32| {
            format!(
                "Invalid timestamp type in message {class}(offset={offset}, timestamp={NOW}, key={key} bytes, value=1 \
                 bytes). Producer should not set timestamp type to LogAppendTime."
            )
        };
        let refused = timestamp_refusal(validate(set, &rules, NOW).expect_err("refused"));
        assert_eq!(refused, vec![(0, message(0, null)), (1, message(1, 1))]);
    }
}

#[test]
fn topics_with_a_codec_recompress() {
    for from in Codec::ALL {
        for to in Codec::ALL {
            for timestamp_type in [TimestampType::CreateTime, TimestampType::LogAppendTime] {
                let compression = CompressionRule::Codec(to, Some(2));
                let rules = ProduceRules { compression, timestamp_type, ..rules() };
                let original = batch(from, &[at(0, 3), at(1, 9)], |header| {
                    (header.producer_id, header.producer_epoch, header.base_sequence) = (4, 5, 6);
                });
                let valid = validate(original, &rules, NOW).expect("valid");
                assert!(batch::crc_matches(&valid.bytes));
                assert_eq!((valid.header.compression(), valid.header.size()), (Ok(to), valid.bytes.len()));
                assert_eq!((valid.header.producer_id, valid.header.last_sequence()), (4, 7));
                let append = timestamp_type == TimestampType::LogAppendTime;
                let max = if append { NOW } else { NOW + 9 };
                assert_eq!((valid.header.max_timestamp, valid.header.is_log_append_time()), (max, append));
                let section = decompress(to, &valid.bytes[HEADER_BYTES..], 1000).expect("section");
                let deltas = RecordIter::new(&section).map(|record| record.map(|record| record.timestamp_delta));
                assert_eq!(deltas.collect::<Result<Vec<_>, _>>(), Ok(vec![3, 9]));
            }
        }
    }
    let large = batch(Codec::Gzip, &[Rec { value: vec![0; 5000], ..rec(0) }], |_| {});
    let compression = CompressionRule::Codec(Codec::None, None);
    assert_eq!(code(large, &ProduceRules { compression, max_message_bytes: 1000, ..rules() }), Some(MessageTooLarge));
}

#[test]
fn bombs_are_too_large() {
    let zeros = vec![0; MAX_UNCOMPRESSED_BYTES];
    let section = section(&[Rec { value: zeros, ..rec(0) }]);
    let bomb = raw(Codec::Zstd, &section, 1, |_| {});
    assert!(bomb.len() < 100_000);
    assert_eq!(code(bomb, &rules()), Some(MessageTooLarge));
}

/// What takes milliseconds is known before they have passed.
#[test]
fn long_work_is_known_beforehand() {
    let noise: Vec<u8> =
        (0..300_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8 ^ (n >> 3) as u8).collect();
    let of = |codec, value: Vec<u8>| batch(codec, &[Rec { value, ..rec(0) }], |_| {});
    let always = |codec| ProduceRules { compression: CompressionRule::Codec(codec, None), ..rules() };
    let rows = [
        ("short", of(Codec::Gzip, vec![0; 1000]), rules(), true),
        ("long, not compressed", of(Codec::None, noise.clone()), rules(), true),
        ("long and compressed", of(Codec::Lz4, noise), rules(), false),
        ("short, becomes a bit longer", of(Codec::Zstd, vec![0; 4_000_000]), rules(), true),
        ("a bomb", of(Codec::Zstd, vec![0; 5_000_000]), rules(), false),
        ("short, to be compressed", of(Codec::None, vec![0; 10_000]), always(Codec::Zstd), true),
        ("to be compressed", of(Codec::None, vec![0; 20_000]), always(Codec::Zstd), false),
        ("compressed as it is to be", of(Codec::Zstd, vec![0; 20_000]), always(Codec::Zstd), true),
        ("a wrong header", Bytes::from_static(b"x"), rules(), true),
    ];
    for (what, batch, rules, at_once) in rows {
        let outcome = validate_at_once(&batch, &rules, NOW);
        assert_eq!(outcome.is_some(), at_once, "{what}");
        assert!(outcome.is_none_or(|outcome| outcome == validate(batch, &rules, NOW)), "{what}");
    }
}

/// Every byte of the records, with a CRC that is right: any answer but a panic.
#[test]
fn mutated_records_never_panic() {
    for codec in Codec::ALL {
        let packed = compress(codec, None, &section(&[rec(0), no_key(1), at(2, -70)])).expect("compresses");
        for at in 0..packed.len() {
            for byte in [0, 1, 0x7f, 0x80, 0xff, packed[at] ^ 1, packed[at].wrapping_add(1)] {
                let mut mutant = packed.clone();
                mutant[at] = byte;
                let _ = validate(around(codec, &mutant, 3, |_| {}), &rules(), NOW);
            }
        }
    }
}
