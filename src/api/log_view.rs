//! What the admin APIs ask of the log.

use super::ports::{LogView, ProducerRow};
use crate::log::Log;
use crate::log::partition::Partition;
use crate::types::{Offset, PartitionId};

fn look<T>(log: &Log, id: PartitionId, look: impl FnOnce(&Partition) -> T) -> Option<T> {
    let slot = log.slots.get(id)?;
    let mut inner = slot.lock();
    inner.partition().ok().map(|partition| look(partition))
}

impl LogView for Log {
    fn log_start(&self, partition: PartitionId) -> Option<Offset> {
        look(self, partition, Partition::log_start)
    }

    fn high_watermark(&self, partition: PartitionId) -> Option<Offset> {
        look(self, partition, Partition::high_watermark)
    }

    fn size_bytes(&self, partition: PartitionId) -> u64 {
        look(self, partition, |partition| partition.index().bytes()).unwrap_or(0)
    }

    fn advance_log_start(&self, partition: PartitionId, log_start: Offset) {
        if let Some(slot) = self.slots.get(partition)
            && let Ok(partition) = slot.lock().partition()
        {
            partition.advance_log_start(log_start);
        }
    }

    fn producers(&self, partition: PartitionId) -> Option<Vec<ProducerRow>> {
        look(self, partition, |partition| {
            let row = |(producer_id, producer): (i64, &crate::log::producers::Producer)| ProducerRow {
                producer_id,
                epoch: producer.epoch,
                last_sequence: producer.batches.back().map_or(-1, |batch| batch.last_sequence),
                last_timestamp: producer.batches.back().map_or(-1, |batch| batch.max_timestamp),
                coordinator_epoch: -1,
                current_txn_start_offset: -1,
            };
            partition.producers().iter().map(row).collect()
        })
    }
}
