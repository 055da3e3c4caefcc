//! Offsets by timestamp (ListOffsets): exact, as Kafka answers them.

use bytes::Bytes;

use super::cut::Expected;
use super::{ReadError, Reader, cut};
use crate::log::index::IndexedExtent;
use crate::log::slot::PartitionSlot;
use crate::types::aside::aside;
use crate::types::{Offset, TimestampMs};
use crate::wire::batch::{self, BatchError, BatchHeader};
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
        let mut from = Offset::MIN;
        // The first candidate nearly always has it: the others are not copied beforehand.
        while let Some((log_start, extent)) = next_extent(slot, from, |extent| extent.max_timestamp >= target)? {
            let found = self.search(&extent, |header, batch| {
                if header.max_timestamp < target || header.last_offset() < log_start {
                    return Ok(None);
                }
                find_by_timestamp_from(batch, target, log_start)
            });
            if let Some(found) = found.await? {
                return Ok(Some(found));
            }
            from = extent.next_offset;
        }
        Ok(None)
    }

    /// The first record with the highest timestamp, in the first batch that has it.
    pub async fn at_max_timestamp(&self, slot: &PartitionSlot) -> Result<Option<Found>, ReadError> {
        let Some((log_start, first)) = next_extent(slot, Offset::MIN, |_| true)? else { return Ok(None) };
        let highest = highest_timestamp(slot, log_start)?;
        // The log starts inside of the first extent: what it says of itself may be a record that is gone.
        if first.base_offset < log_start && highest.is_none_or(|highest| first.max_timestamp >= highest) {
            let found = self.at_max_of_first(&first, log_start).await?;
            if found.is_some_and(|found| highest.is_none_or(|highest| found.timestamp >= highest)) {
                return Ok(found);
            }
        }
        // Of records without a time none is the newest.
        let Some(highest) = highest.filter(|highest| *highest > batch::NONE) else { return Ok(None) };
        let mut from = log_start;
        while let Some((_, extent)) = next_extent(slot, from, |extent| extent.max_timestamp == highest)? {
            let found =
                self.search(
                    &extent,
                    |header, batch| {
                        if header.max_timestamp < highest { Ok(None) } else { find_max_timestamp(batch) }
                    },
                );
            if let Some(found) = found.await? {
                return Ok(Some(found));
            }
            from = extent.next_offset;
        }
        Ok(None)
    }

    /// The same, in the extent that the log starts in.
    async fn at_max_of_first(&self, extent: &IndexedExtent, log_start: Offset) -> Result<Option<Found>, ReadError> {
        let mut best: Option<(Offset, TimestampMs)> = None;
        let looked = self.search(extent, |header, batch| {
            let better = best.is_none_or(|(_, timestamp)| header.max_timestamp > timestamp);
            if better && header.last_offset() >= log_start {
                best = find_max_timestamp(batch)?.or(best);
            }
            Ok(None)
        });
        looked.await?;
        Ok(best.map(|(offset, timestamp)| Found { offset, timestamp }))
    }

    /// The whole extent, intact.
    async fn whole(&self, extent: &IndexedExtent) -> Result<Bytes, ReadError> {
        let (range, expected) = (extent.position..extent.end_position(), Expected::of(extent));
        let mut again = true;
        loop {
            let (stretch, _) = self.stretch(extent.object, range.clone()).await?;
            match cut::check(&stretch, 0..stretch.len(), &expected) {
                Ok(_) => return Ok(stretch.joined()),
                Err(_) if again => {
                    again = false;
                    self.forget(extent.object, range.clone());
                }
                Err(error) => {
                    let object = extent.object.key();
                    return Err(ReadError::Damaged { object, error });
                }
            }
        }
    }

    /// Looks into the batches of an extent, one after the other.
    async fn search(
        &self,
        extent: &IndexedExtent,
        mut look: impl FnMut(&BatchHeader, &[u8]) -> Result<Option<(Offset, TimestampMs)>, BatchError>,
    ) -> Result<Option<Found>, ReadError> {
        let bytes = self.whole(extent).await?;
        let damaged = |error: BatchError| ReadError::Damaged { object: extent.object.key(), error: error.into() };
        // Batches may decompress to a thousand times their size.
        aside(|| {
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
        })
    }
}

/// The first extent from `from` on that is wanted, and the log start now.
fn next_extent(
    slot: &PartitionSlot,
    from: Offset,
    wanted: impl Fn(&IndexedExtent) -> bool,
) -> Result<Option<(Offset, IndexedExtent)>, ReadError> {
    let mut inner = slot.lock();
    let partition = inner.partition()?;
    let found = partition.index().from_offset(from).find(|extent| wanted(extent)).cloned();
    Ok(found.map(|extent| (partition.log_start(), extent)))
}

/// The highest timestamp of the extents that lie above the log start as a whole.
fn highest_timestamp(slot: &PartitionSlot, log_start: Offset) -> Result<Option<TimestampMs>, ReadError> {
    let mut inner = slot.lock();
    let extents = inner.partition()?.index().iter();
    Ok(extents.filter(|extent| extent.base_offset >= log_start).map(|extent| extent.max_timestamp).max())
}
