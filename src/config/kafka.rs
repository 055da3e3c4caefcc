//! Broker settings that are Kafka's own, with Kafka's names, defaults and units (`ServerConfigs`, `GroupCoordinatorConfig`,
//! `ReplicationConfigs` of Kafka 4.3).

use serde::{Deserialize, Serialize};

/// Broker settings that keep Kafka's names, defaults and units, since tools and test suites set them by these.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct KafkaSettings {
    #[serde(rename = "auto.create.topics.enable")]
    pub auto_create_topics_enable: bool,
    #[serde(rename = "delete.topic.enable")]
    pub delete_topic_enable: bool,
    #[serde(rename = "num.partitions")]
    pub num_partitions: i32,
    #[serde(rename = "default.replication.factor")]
    pub default_replication_factor: i16,
    #[serde(rename = "message.max.bytes")]
    pub message_max_bytes: i32,
    #[serde(rename = "fetch.max.bytes")]
    pub fetch_max_bytes: i32,
    #[serde(rename = "socket.request.max.bytes")]
    pub socket_request_max_bytes: i32,
    /// Kafka's is 102,400.
    #[serde(rename = "socket.send.buffer.bytes")]
    pub socket_send_buffer_bytes: i32,
    #[serde(rename = "connections.max.idle.ms")]
    pub connections_max_idle_ms: i64,
    #[serde(rename = "max.connections.per.ip")]
    pub max_connections_per_ip: i32,
    #[serde(rename = "max.incremental.fetch.session.cache.slots")]
    pub max_incremental_fetch_session_cache_slots: i32,
    #[serde(rename = "max.request.partition.size.limit")]
    pub max_request_partition_size_limit: i32,
    #[serde(rename = "producer.id.expiration.ms")]
    pub producer_id_expiration_ms: i64,
    #[serde(rename = "offsets.topic.num.partitions")]
    pub offsets_topic_num_partitions: i32,
    #[serde(rename = "offset.metadata.max.bytes")]
    pub offset_metadata_max_bytes: i32,
    #[serde(rename = "offsets.retention.minutes")]
    pub offsets_retention_minutes: i32,
    #[serde(rename = "offsets.retention.check.interval.ms")]
    pub offsets_retention_check_interval_ms: i64,
    #[serde(rename = "group.initial.rebalance.delay.ms")]
    pub group_initial_rebalance_delay_ms: i32,
    #[serde(rename = "group.min.session.timeout.ms")]
    pub group_min_session_timeout_ms: i32,
    #[serde(rename = "group.max.session.timeout.ms")]
    pub group_max_session_timeout_ms: i32,
    #[serde(rename = "group.max.size")]
    pub group_max_size: i32,
}

impl Default for KafkaSettings {
    fn default() -> Self {
        KafkaSettings {
            auto_create_topics_enable: true,
            delete_topic_enable: true,
            num_partitions: 1,
            default_replication_factor: 1,
            message_max_bytes: 1_048_588,
            fetch_max_bytes: 57_671_680,
            socket_request_max_bytes: 104_857_600,
            socket_send_buffer_bytes: 262_144,
            connections_max_idle_ms: 600_000,
            max_connections_per_ip: i32::MAX,
            max_incremental_fetch_session_cache_slots: 1000,
            max_request_partition_size_limit: 2000,
            producer_id_expiration_ms: 86_400_000,
            offsets_topic_num_partitions: 50,
            offset_metadata_max_bytes: 4096,
            offsets_retention_minutes: 10_080,
            offsets_retention_check_interval_ms: 600_000,
            group_initial_rebalance_delay_ms: 3000,
            group_min_session_timeout_ms: 6000,
            group_max_session_timeout_ms: 1_800_000,
            group_max_size: i32::MAX,
        }
    }
}
