//! Offsets by timestamp (ListOffsets): exact, as Kafka answers them.

use super::{ReadError, Reader};
use crate::log::index::IndexedExtent;
use crate::log::slot::PartitionSlot;
use crate::segment::segment_key;
use crate::types::{Offset, TimestampMs};
use crate::wire::batch::{BatchError, BatchHeader};
use crate::wire::records::{find_by_timestamp_from, find_max_timestamp};

/// A record found by its timestamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    pub offset: Offset,
    pub timestamp: TimestampMs,
}

impl Reader {
    /// The first record at or above `target`, if there is one.
    pub async fn first_at_or_after(
        &self,
        slot: &PartitionSlot,
        target: TimestampMs,
    ) -> Result<Option<Found>, ReadError> {
        let (log_start, candidates) = extents(slot, |extent| extent.max_timestamp >= target)?;
        for extent in candidates {
            let found = self.search(&extent, |header, batch| {
                if header.max_timestamp < target || header.last_offset() < log_start {
                    return Ok(None);
                }
                find_by_timestamp_from(batch, target, log_start)
            });
            if let Some(found) = found.await? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// The first record with the highest timestamp, in the first batch that has it.
    pub async fn at_max_timestamp(&self, slot: &PartitionSlot) -> Result<Option<Found>, ReadError> {
        let (log_start, all) = extents(slot, |_| true)?;
        let Some(highest) = all.iter().map(|extent| extent.max_timestamp).max() else { return Ok(None) };
        for extent in all.iter().filter(|extent| extent.max_timestamp == highest) {
            let found = self.search(extent, |header, batch| {
                if header.max_timestamp < highest || header.last_offset() < log_start {
                    return Ok(None);
                }
                find_max_timestamp(batch)
            });
            if let Some(found) = found.await? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// Looks into the batches of an extent, one after the other.
    async fn search(
        &self,
        extent: &IndexedExtent,
        mut look: impl FnMut(&BatchHeader, &[u8]) -> Result<Option<(Offset, TimestampMs)>, BatchError>,
    ) -> Result<Option<Found>, ReadError> {
        let bytes = self.bytes(extent.object, extent.position..extent.end_position()).await?;
        let damaged = |error: BatchError| ReadError::Damaged {
            object: segment_key(extent.object.session, extent.object.number),
            error: error.into(),
        };
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let header = BatchHeader::parse(rest).map_err(damaged)?;
            let size = header.size().min(rest.len());
            if let Some((offset, timestamp)) = look(&header, &rest[..size]).map_err(damaged)? {
                return Ok(Some(Found { offset, timestamp }));
            }
            rest = &rest[size..];
        }
        Ok(None)
    }
}

fn extents(
    slot: &PartitionSlot,
    wanted: impl Fn(&IndexedExtent) -> bool,
) -> Result<(Offset, Vec<IndexedExtent>), ReadError> {
    let mut inner = slot.lock();
    let partition = inner.partition()?;
    let extents = partition.index().iter().filter(|extent| wanted(extent)).cloned().collect();
    Ok((partition.log_start(), extents))
}
