//! Checks the body of a segment against its footer and the batches' own checksums: for `inspect` and for tests, not for the hot path.

use super::{BATCH_HEADER_BYTES, Damage, Footer, SegmentError};
use crate::types::batch_layout::{ATTRIBUTES_AT, CRC_AT, EPOCH_AT, LENGTH_AT, LENGTH_END, MAGIC, MAGIC_AT};

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
            expect("its base offset", number(0, LENGTH_AT), batch.base_offset.cast_unsigned())?;
            expect("its length field", number(LENGTH_AT, LENGTH_END), (bytes.len() - LENGTH_END) as u64)?;
            expect("its leader epoch", number(EPOCH_AT, MAGIC_AT), u64::from(extent.epoch.cast_unsigned()))?;
            expect("its magic", number(MAGIC_AT, CRC_AT), MAGIC as u64)?;
            let computed = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, &bytes[ATTRIBUTES_AT..]);
            expect("its CRC-32C", number(CRC_AT, ATTRIBUTES_AT), computed)?;
            at = end;
        }
    }
    Ok(())
}
