//! Checks the body of a segment against its footer and the batches' own checksums: for `inspect` and for tests, not for the hot path.

use super::{BATCH_HEADER_BYTES, Damage, Footer, RunFooter, SegmentError};
use crate::types::batch_layout::{
    ATTRIBUTES_AT, CRC_AT, EPOCH_AT, LAST_DELTA_AT, LENGTH_AT, LENGTH_END, MAGIC, MAGIC_AT,
};
use crate::types::{LeaseEpoch, Offset};

/// Checks that every batch stands where the footer says, whole and with the footer's offsets. `object` is the whole object.
///
/// # Errors
/// Names the first batch that is not what it should be.
pub fn verify_body(label: &str, object: &[u8], footer: &Footer) -> Result<(), SegmentError> {
    for extent in &footer.extents {
        let mut at = usize::try_from(extent.position).unwrap_or(usize::MAX);
        for batch in &extent.batches {
            let fault = |what: String| {
                let (partition, offset) = (extent.partition, batch.base_offset);
                Damage::content(format!("partition {partition}, batch at offset {offset}: {what}")).of(label)
            };
            let end = at.saturating_add(batch.length as usize);
            if (batch.length as usize) < BATCH_HEADER_BYTES {
                return Err(fault("it is shorter than a batch's header".to_owned()));
            }
            let bytes = object.get(at..end).ok_or_else(|| fault("it lies past the end of the object".to_owned()))?;
            verify_batch(bytes, batch.base_offset, extent.epoch).map_err(fault)?;
            at = end;
        }
    }
    Ok(())
}

/// Checks that `bytes` are one whole batch with this offset and leader epoch, by its own checksum.
///
/// # Errors
/// What is wrong with it, in words.
pub fn verify_batch(bytes: &[u8], base_offset: Offset, epoch: LeaseEpoch) -> Result<(), String> {
    if bytes.len() < BATCH_HEADER_BYTES {
        return Err("it is shorter than a batch's header".to_owned());
    }
    let number = |from: usize, to: usize| bytes[from..to].iter().fold(0u64, |all, byte| (all << 8) | u64::from(*byte));
    let expect = |what: &str, found: u64, expected: u64| {
        (found == expected).then_some(()).ok_or_else(|| format!("{what} is {found}, expected {expected}"))
    };
    expect("its base offset", number(0, LENGTH_AT), base_offset.cast_unsigned())?;
    expect("its length field", number(LENGTH_AT, LENGTH_END), (bytes.len() - LENGTH_END) as u64)?;
    expect("its leader epoch", number(EPOCH_AT, MAGIC_AT), u64::from(epoch.cast_unsigned()))?;
    expect("its magic", number(MAGIC_AT, CRC_AT), MAGIC as u64)?;
    let computed = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, &bytes[ATTRIBUTES_AT..]);
    expect("its CRC-32C", number(CRC_AT, ATTRIBUTES_AT), computed)
}

/// Checks that the extents of a run's object are whole batches that follow each other. `object` is the whole object. Gives the
/// number of batches.
///
/// # Errors
/// Names the first batch that is not what it should be.
pub fn verify_run_body(label: &str, object: &[u8], footer: &RunFooter) -> Result<usize, SegmentError> {
    let mut batches = 0;
    for extent in &footer.extents {
        let start = usize::try_from(extent.position).unwrap_or(usize::MAX);
        let (mut at, end) = (start, start.saturating_add(extent.length as usize));
        let mut offset = extent.base_offset;
        while at < end {
            let fault = |what: String| {
                Damage::content(format!("partition {}, batch at offset {offset}: {what}", extent.partition)).of(label)
            };
            let header = object
                .get(at..end)
                .filter(|rest| rest.len() >= BATCH_HEADER_BYTES)
                .ok_or_else(|| fault("it is not whole".to_owned()))?;
            let field =
                |from: usize| header[from..from + 4].iter().fold(0usize, |all, byte| (all << 8) | usize::from(*byte));
            let batch = header
                .get(..LENGTH_END + field(LENGTH_AT))
                .ok_or_else(|| fault("it lies past the end of its extent".to_owned()))?;
            verify_batch(batch, offset, extent.epoch).map_err(fault)?;
            offset = offset.saturating_add(i64::try_from(field(LAST_DELTA_AT)).unwrap_or(i64::MAX / 2) + 1);
            at += batch.len();
            batches += 1;
        }
        if offset != extent.next_offset {
            let what =
                format!("partition {}: an extent ends at {offset}, not {}", extent.partition, extent.next_offset);
            return Err(Damage::content(what).of(label));
        }
    }
    Ok(batches)
}
