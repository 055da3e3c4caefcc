//! Settings: plain data with defaults; units stand in the names.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

/// Everything that a broker is told from outside. Flags, environment and file are merged into this before anything starts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Where the data is: `file:///dir`, `s3://bucket/prefix`, `memory:`.
    pub store: String,
    /// Where Kafka clients connect.
    pub listen: SocketAddr,
    /// What clients are told to connect to, `host:port`; default: the listening address.
    pub advertise: Option<String>,
    /// HTTP: health, metrics.
    pub admin: SocketAddr,
    pub node_id: i32,
    pub rack: Option<String>,
    /// Shortest time between two flushes; default 100 on shared stores, 5 on the local directory.
    pub flush_interval_ms: Option<u64>,
    /// A flush starts at once when so much is buffered.
    pub flush_bytes: usize,
    /// Segments that upload side by side, at most 64.
    pub flush_inflight: usize,
    /// Budget for everything received and not yet committed.
    pub buffer_bytes: usize,
    /// Newest segments kept in memory as they were written, for consumers at the tail.
    pub tail_cache_bytes: usize,
    /// Blocks read back from the store, in memory.
    pub block_cache_bytes: usize,
    /// Life of a session without a new segment, on shared stores. Written into the metadata table by the first broker.
    pub session_ttl_ms: u64,
    /// Connections at the same time.
    pub max_connections: usize,
    pub kafka: KafkaSettings,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            store: "file://./alluvium-data".to_owned(),
            listen: SocketAddr::from(([127, 0, 0, 1], 9092)),
            advertise: None,
            admin: SocketAddr::from(([127, 0, 0, 1], 9644)),
            node_id: 1,
            rack: None,
            flush_interval_ms: None,
            flush_bytes: 8 << 20,
            flush_inflight: 8,
            buffer_bytes: 256 << 20,
            tail_cache_bytes: 128 << 20,
            block_cache_bytes: 128 << 20,
            session_ttl_ms: 10_000,
            max_connections: 10_000,
            kafka: KafkaSettings::default(),
        }
    }
}

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
    #[serde(rename = "connections.max.idle.ms")]
    pub connections_max_idle_ms: i64,
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
            connections_max_idle_ms: 600_000,
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
