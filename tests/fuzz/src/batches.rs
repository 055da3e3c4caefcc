//! Record batches as a producer sends them: `[rules] [rules] [how] batch`. Length and CRC are made right on demand, so that what is
//! behind them is reached. A batch that is taken holds what its header says, also after the topic's compression.

use alluvium::wire::batch::{self, BatchHeader, HEADER_BYTES};
use alluvium::wire::codec::{Codec, decompress};
use alluvium::wire::records::{
    MAX_UNCOMPRESSED_BYTES, RecordIter, find_by_timestamp, find_by_timestamp_from, find_max_timestamp,
};
use alluvium::wire::validate::{CompressionRule, ProduceRules, TimestampType, ValidBatch, single_batch, validate};
use bytes::Bytes;

use crate::memory;

const NOW_MS: i64 = 1_700_000_000_000;

/// A batch that is decompressed whole, for a topic that compresses anew.
const WHOLE: usize = 2 * MAX_UNCOMPRESSED_BYTES + (64 << 20);

pub fn run(data: &[u8]) {
    let Some(([rules, more, how], content)) = data.split_first_chunk() else { return };
    let rules = rules_of(*rules, *more);
    let mut content = content.to_vec();
    if how & 1 != 0 {
        mend(&mut content, how & 2 != 0);
    }
    let records = Bytes::from(content);
    memory::within(WHOLE + 64 * data.len(), || {
        for split in batch::batches(&records) {
            let Ok((header, bytes)) = split else { break };
            let _ = (header.last_offset(), header.next_offset(), header.last_sequence(), batch::crc_matches(&bytes));
            look(&bytes);
        }
        let Ok(one) = single_batch(Some(records.clone()), i16::from(how >> 4)) else { return };
        match validate(one, &rules, NOW_MS) {
            Ok(valid) => check(&valid, &rules),
            Err(refusal) => {
                let _ = refusal.to_string();
            }
        }
    });
}

fn rules_of(rules: u8, more: u8) -> ProduceRules {
    let level = match more >> 4 {
        0 => None,
        level => Some(i32::from(level) - 3),
    };
    ProduceRules {
        max_message_bytes: if rules & 1 != 0 { 200 } else { 1_048_588 },
        timestamp_type: if rules & 2 != 0 { TimestampType::LogAppendTime } else { TimestampType::CreateTime },
        timestamp_before_max_ms: if rules & 4 != 0 { 3_600_000 } else { i64::MAX },
        timestamp_after_max_ms: if rules & 8 != 0 { i64::MAX } else { 3_600_000 },
        compacted: rules & 16 != 0,
        compression: match usize::from(more & 7) {
            at if at < Codec::ALL.len() => CompressionRule::Codec(Codec::ALL[at], level),
            _ => CompressionRule::Producer,
        },
        ..ProduceRules::new("t-0")
    }
}

/// Makes length, magic and CRC right; with `plain`, base offset and offsets to their count, too.
fn mend(batch: &mut [u8], plain: bool) {
    if batch.len() < HEADER_BYTES {
        return;
    }
    let length = i32::try_from(batch.len() - batch::LENGTH_END).unwrap_or(0);
    batch[8..12].copy_from_slice(&length.to_be_bytes());
    batch[16] = 2;
    if plain {
        batch[..8].fill(0);
        let count = i32::from_be_bytes([batch[57], batch[58], batch[59], batch[60]]);
        batch[23..27].copy_from_slice(&count.wrapping_sub(1).to_be_bytes());
    }
    let crc = batch::compute_crc(batch).unwrap_or(0);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
}

/// The ways to look into a batch that is stored.
fn look(batch: &[u8]) {
    for target in [i64::MIN, 0, NOW_MS, i64::MAX] {
        let _ = find_by_timestamp(batch, target);
        let _ = find_by_timestamp_from(batch, target, 1);
    }
    let _ = find_max_timestamp(batch);
    for record in RecordIter::new(&batch[HEADER_BYTES..]) {
        let Ok(record) = record else { break };
        assert_eq!(record.headers().count(), record.header_count);
    }
}

fn check(valid: &ValidBatch, rules: &ProduceRules) {
    let ValidBatch { header, bytes, .. } = valid;
    assert_eq!(BatchHeader::parse(bytes).as_ref(), Ok(header));
    assert!(batch::crc_matches(bytes) && bytes.len() == header.size() && bytes.len() <= rules.max_message_bytes);
    let codec = header.compression().expect("a known codec");
    if let CompressionRule::Codec(target, _) = rules.compression {
        assert_eq!(codec, target);
    }
    let section = decompress(codec, &bytes[HEADER_BYTES..], MAX_UNCOMPRESSED_BYTES).expect("it was read before");
    let mut count = 0;
    let mut max_timestamp = -1;
    for (index, record) in RecordIter::new(&section).enumerate() {
        let record = record.expect("it was read before");
        assert_eq!(usize::try_from(record.offset_delta), Ok(index));
        max_timestamp = max_timestamp.max(record.timestamp(header));
        count += 1;
    }
    assert_eq!((header.record_count, header.last_offset_delta), (count, count - 1));
    assert_eq!(header.max_timestamp, max_timestamp);
    look(bytes);
    let mut placed = bytes.to_vec();
    batch::patch_offset_and_epoch(&mut placed, i64::MAX - i64::from(count), 7).expect("a whole batch");
    assert!(batch::crc_matches(&placed), "the place of a batch is outside of its CRC");
    look(&placed);
}
