//! `__consumer_offsets` on the log: the coordinator's port, as the broker has it.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::time::Instant;

use super::log::{CoordRecord, Lease, LogError, OffsetsLog};
use crate::log::Log;
use crate::log::append::Appended;
use crate::log::slot::{PartitionSlot, Unavailable};
use crate::meta::entry::Change;
use crate::meta::image::Image;
use crate::types::mutant::{self, Mutant};
use crate::types::topic_name::OFFSETS_TOPIC;
use crate::types::{LeaseEpoch, Offset, PartitionId, TopicId};
use crate::wire::batch::{BatchHeader, batches};
use crate::wire::build::{BatchBuilder, BatchOptions, NewRecord};
use crate::wire::records::{MAX_UNCOMPRESSED_BYTES, RecordIter};

/// Kafka's default for internal topics; cosmetic here.
const INTERNAL_REPLICATION_FACTOR: i16 = 3;

/// So much is read at a time when a partition is replayed, in bytes.
const REPLAY_STEP: usize = 4 << 20;

pub struct DurableOffsets {
    pub log: Arc<Log>,
    /// `offsets.topic.num.partitions`.
    pub partitions: i32,
    /// Makes the bytes of a batch of records, which is all of `api::produce` that is needed here.
    pub meta_of: fn(&BatchHeader) -> crate::segment::BatchMeta,
}

impl DurableOffsets {
    fn slot(&self, partition: i32) -> Option<Arc<PartitionSlot>> {
        let topic = self.log.meta.read(|image| image.names.get(OFFSETS_TOPIC).copied())?;
        self.log.slot(PartitionId { topic, index: partition }).ok()
    }

    fn append_now(&self, partition: i32, records: &[CoordRecord]) -> Result<Appended, LogError> {
        let slot = self.slot(partition).ok_or(LogError::Retriable)?;
        let now = self.log.env.clock.wall_ms();
        let batch = build(records, now)?;
        let header = BatchHeader::parse(&batch).map_err(|error| LogError::Failed(error.to_string()))?;
        let charge = self.log.internal_budget.try_charge(batch.len());
        let charge = charge.ok_or_else(|| LogError::Failed("too many offsets wait for the store".to_owned()))?;
        let meta = (self.meta_of)(&header);
        let appended = self.log.appender.gather().append(&slot, batch, meta, &[Arc::new(charge)], now);
        appended.map_err(|error| match error {
            crate::log::append::AppendError::Refused(refused) => LogError::Failed(refused.to_string()),
            _ => LogError::Retriable,
        })
    }
}

fn build(records: &[CoordRecord], now: i64) -> Result<Bytes, LogError> {
    let mut builder = BatchBuilder::new(BatchOptions::default());
    for (at, record) in records.iter().enumerate() {
        let pushed = builder.push(NewRecord {
            offset_delta: i32::try_from(at).unwrap_or(i32::MAX),
            timestamp: now,
            key: Some(&record.key),
            value: record.value.as_deref(),
            headers: &[],
        });
        pushed.map_err(|error| LogError::Failed(error.to_string()))?;
    }
    builder.build().map_err(|error| LogError::Failed(error.to_string()))
}

#[async_trait]
impl OffsetsLog for DurableOffsets {
    async fn ensure_topic(&self) -> Result<i32, LogError> {
        if let Some(count) = self.partition_count() {
            return Ok(count);
        }
        let id = TopicId(self.log.env.entropy.next_u128() | 1 << 64);
        let partitions = self.partitions;
        let proposed = self.log.meta.propose(move |image| Ok::<_, LogError>(create(image, id, partitions))).await;
        proposed.map_err(|error| LogError::Failed(error.to_string()))?;
        self.log.reconcile();
        self.partition_count().ok_or(LogError::Retriable)
    }

    fn partition_count(&self) -> Option<i32> {
        self.log.meta.read(|image| {
            let topic = image.topics.get(image.names.get(OFFSETS_TOPIC)?)?;
            i32::try_from(topic.partitions.len()).ok()
        })
    }

    fn holds(&self, partition: i32) -> Option<LeaseEpoch> {
        let slot = self.slot(partition)?;
        let epoch = slot.lock().partition().ok()?.epoch();
        self.log.proof.holds().then_some(epoch)
    }

    async fn awaited(&self, partition: i32, until: Instant) -> Lease {
        let Some(slot) = self.slot(partition) else { return Lease::Elsewhere };
        self.log.settled(&slot, until).await;
        let epoch = slot.lock().partition().map(|partition| partition.epoch());
        match epoch {
            Ok(epoch) if self.log.proof.awaited(until.saturating_duration_since(Instant::now())).await => {
                Lease::Held(epoch)
            }
            Ok(_) | Err(Unavailable::Parked) => Lease::Unproven,
            Err(Unavailable::NotHeld | Unavailable::Damaged(_)) => Lease::Elsewhere,
        }
    }

    async fn look(&self) {
        self.log.look_before_refusal(|| false).await;
    }

    async fn changed(&self) -> Vec<i32> {
        loop {
            let changed = self.log.slots.news().next().await;
            let topic = self.log.meta.read(|image| image.names.get(OFFSETS_TOPIC).copied());
            let ours: Vec<i32> = changed.into_iter().filter(|id| Some(id.topic) == topic).map(|id| id.index).collect();
            if !ours.is_empty() {
                return ours;
            }
        }
    }

    fn admits(&self, _partition: i32) -> bool {
        !self.log.internal_budget.under_pressure()
    }

    /// Ids that the image does not have. A topic that the image does not know yet is not among them: whoever wrote an id found it in its own
    /// image while it held the partition, so the topic was created before the revision that ended that tenure. The image has that
    /// revision, for by it the partition came to be held here. What this broker wrote itself it found in this very image, which only
    /// goes forward. So the topic was known and is deleted, and no topic gets its id again.
    fn deleted(&self, ids: BTreeSet<TopicId>) -> BTreeSet<TopicId> {
        self.log.meta.read(|image| missing(image, ids))
    }

    fn append(&self, partition: i32, records: Vec<CoordRecord>) -> BoxFuture<'static, Result<Offset, LogError>> {
        let appended = match self.append_now(partition, &records) {
            Ok(appended) => appended,
            Err(error) => return futures::future::ready(Err(error)).boxed(),
        };
        let log = self.log.clone();
        async move {
            if let Some(segment) = appended.admitted.segment
                && !mutant::on(Mutant::OffsetCommitAnsweredEarly)
            {
                log.appender.committed(segment).await.map_err(|_| LogError::Retriable)?;
            }
            Ok(appended.admitted.base_offset)
        }
        .boxed()
    }

    async fn replay(&self, partition: i32, sink: &mut (dyn FnMut(CoordRecord) + Send)) -> Result<(), LogError> {
        let slot = self.slot(partition).ok_or(LogError::Retriable)?;
        let failed = |error: &dyn std::fmt::Display| LogError::Failed(format!("{OFFSETS_TOPIC}-{partition}: {error}"));
        let (mut offset, end) = {
            let mut inner = slot.lock();
            let partition = inner.partition().map_err(|_| LogError::Retriable)?;
            (partition.log_start(), partition.high_watermark())
        };
        while offset < end {
            let read = self.log.read(&slot, offset, REPLAY_STEP, true).await.map_err(|error| failed(&error))?;
            if read.slices.is_empty() {
                return Err(failed(&format!("nothing to read at offset {offset} below {end}")));
            }
            for batch in batches(&joined(read.slices)) {
                let (header, batch) = batch.map_err(|error| failed(&error))?;
                offset = header.next_offset();
                hand_out(&header, &batch, sink).map_err(|error| failed(&error))?;
            }
        }
        Ok(())
    }
}

fn missing(image: &Image, mut ids: BTreeSet<TopicId>) -> BTreeSet<TopicId> {
    ids.retain(|id| !image.topics.contains_key(id));
    ids
}

/// What was read, in one piece: a batch may begin in one slice and end in the next, where the cache's blocks meet.
fn joined(mut slices: Vec<Bytes>) -> Bytes {
    if slices.len() == 1 { slices.swap_remove(0) } else { Bytes::from(slices.concat()) }
}

/// Hands out the records of one batch.
fn hand_out(
    header: &BatchHeader,
    batch: &Bytes,
    sink: &mut (dyn FnMut(CoordRecord) + Send),
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    if header.is_control() {
        return Ok(());
    }
    let section = crate::wire::codec::decompress(
        header.compression()?,
        &batch[crate::wire::batch::HEADER_BYTES..],
        MAX_UNCOMPRESSED_BYTES,
    )?;
    for record in RecordIter::new(&section) {
        let record = record?;
        let Some(key) = record.key else { continue };
        sink(CoordRecord { key: Bytes::copy_from_slice(key), value: record.value.map(Bytes::copy_from_slice) });
    }
    Ok(())
}

/// The topic as Kafka makes it, unless it is there already.
fn create(image: &Image, id: TopicId, partitions: i32) -> Vec<Change> {
    if image.names.contains_key(OFFSETS_TOPIC) { Vec::new() } else { vec![offsets_topic(id, partitions)] }
}

/// `__consumer_offsets` as Kafka makes it.
pub fn offsets_topic(id: TopicId, partitions: i32) -> Change {
    let configs = [("cleanup.policy", "compact"), ("compression.type", "producer"), ("segment.bytes", "104857600")];
    Change::CreateTopic {
        id,
        name: OFFSETS_TOPIC.to_owned(),
        partitions,
        replication_factor: INTERNAL_REPLICATION_FACTOR,
        configs: configs.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        internal: true,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::meta::image::Topic;

    #[test]
    fn topics_that_the_image_has_not_are_deleted() {
        let topic = |name: &str| Topic {
            name: name.to_owned(),
            replication_factor: 1,
            internal: false,
            configs: BTreeMap::new(),
            partitions: Vec::new(),
        };
        let image = Image { topics: [(TopicId(1), topic("a")), (TopicId(3), topic("b"))].into(), ..Image::default() };
        let table: [(&[u128], &[u128]); 3] = [(&[], &[]), (&[1, 3], &[]), (&[1, 2, 3, 4], &[2, 4])];
        for (asked, expected) in table {
            let ids = |ids: &[u128]| ids.iter().copied().map(TopicId).collect::<BTreeSet<_>>();
            assert_eq!(missing(&image, ids(asked)), ids(expected), "{asked:?}");
        }
    }
}
