//! Checks the body of a segment against its footer and the batches' own checksums: for `inspect` and for tests, not for the hot path.

use super::{BATCH_HEADER_BYTES, Damage, Footer, SegmentError};

const LENGTH_AT: usize = 8;
const LEADER_EPOCH_AT: usize = 12;
const MAGIC_AT: usize = 16;
const CRC_AT: usize = 17;
/// What the CRC covers begins here.
const ATTRIBUTES_AT: usize = 21;
/// Base offset and length field, which the length field does not count.
const UNCOUNTED_BYTES: usize = 12;

/// Checks that every batch stands where the footer says, whole and with the footer's offsets. `object` is the whole object.
///
/// # Errors
/// Names the first batch that is not what it should be.
pub fn verify_body(label: &str, object: &[u8], footer: &Footer) -> Result<(), SegmentError> {
    for extent in &footer.extents {
        let mut at = usize::try_from(extent.position).unwrap_or(usize::MAX);
        for batch in &extent.batches {
            let fault = |what: String| {
                Damage::content(format!(
                    "partition {}, batch at offset {}: {what}",
                    extent.partition, batch.base_offset
                ))
                .of(label)
            };
            let end = at.saturating_add(batch.length as usize);
            if (batch.length as usize) < BATCH_HEADER_BYTES {
                return Err(fault("it is shorter than a batch's header".to_owned()));
            }
            let bytes = object.get(at..end).ok_or_else(|| fault("it lies past the end of the object".to_owned()))?;
            let number =
                |from: usize, to: usize| bytes[from..to].iter().fold(0u64, |all, byte| (all << 8) | u64::from(*byte));
            let expect = |what: &str, found: u64, expected: u64| {
                (found == expected)
                    .then_some(())
                    .ok_or_else(|| fault(format!("{what} is {found}, expected {expected}")))
            };
            expect("its base offset", number(0, 8), batch.base_offset.cast_unsigned())?;
            expect("its length field", number(LENGTH_AT, 12), (bytes.len() - UNCOUNTED_BYTES) as u64)?;
            expect("its leader epoch", number(LEADER_EPOCH_AT, 16), u64::from(extent.epoch.cast_unsigned()))?;
            expect("its magic", number(MAGIC_AT, 17), 2)?;
            let computed = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, &bytes[ATTRIBUTES_AT..]);
            expect("its CRC-32C", number(CRC_AT, ATTRIBUTES_AT), computed)?;
            at = end;
        }
    }
    Ok(())
}
