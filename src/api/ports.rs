//! What the admin handlers ask of the rest of the broker.

use std::sync::Arc;

use super::config_view::at_start;
use crate::config::KafkaSettings;
use crate::coord::producer_ids::ProducerIds;
use crate::meta::Metadata;
use crate::meta::entry::Endpoint;
use crate::meta::image::Configs;
use crate::types::env::Env;
use crate::types::{NodeId, Offset, PartitionId, SessionId, TimestampMs};

/// One producer of a partition, as DescribeProducers shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProducerRow {
    pub producer_id: i64,
    pub epoch: i16,
    /// -1: none.
    pub last_sequence: i32,
    pub last_timestamp: TimestampMs,
    /// -1: none.
    pub coordinator_epoch: i32,
    /// -1: no transaction is open.
    pub current_txn_start_offset: Offset,
}

/// The partitions that this broker holds. `None`: it does not hold the partition now.
pub trait LogView: Send + Sync {
    fn log_start(&self, partition: PartitionId) -> Option<Offset>;
    fn high_watermark(&self, partition: PartitionId) -> Option<Offset>;
    /// Bytes of the partition's records, as far as known.
    fn size_bytes(&self, partition: PartitionId) -> u64;
    fn producers(&self, partition: PartitionId) -> Option<Vec<ProducerRow>>;
    /// The table says that the log starts there now: nothing below is shown any more.
    fn advance_log_start(&self, partition: PartitionId, log_start: Offset);
}

/// This broker, for one session.
#[derive(Clone, Debug)]
pub struct NodeInfo {
    pub node_id: NodeId,
    pub session: SessionId,
    /// What clients are told to connect to.
    pub endpoint: Endpoint,
    pub rack: Option<String>,
    /// What a person calls the store; the one log dir that tools see.
    pub store: String,
}

/// What the admin handlers work with, for one session of this broker.
pub struct AdminServices {
    pub meta: Arc<Metadata>,
    pub log: Arc<dyn LogView>,
    pub node: NodeInfo,
    pub kafka: KafkaSettings,
    /// What the process was started with, under the names of Kafka's broker configs.
    pub at_start: Configs,
    pub env: Env,
    pub producer_ids: ProducerIds,
}

impl AdminServices {
    pub fn new(meta: Arc<Metadata>, log: Arc<dyn LogView>, node: NodeInfo, kafka: KafkaSettings, env: Env) -> Self {
        let producer_ids = ProducerIds::new(meta.clone(), node.session);
        let at_start = at_start(&kafka, &node);
        AdminServices { meta, log, node, kafka, at_start, env, producer_ids }
    }
}
