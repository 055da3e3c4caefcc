//! Settings: plain data with defaults; units stand in the names.
//!
//! Flow: [`load`] merges what flags, environment and file say, in this order of precedence, over the defaults, by the one table of
//! settings in [`table`]; [`Settings::check`] then looks at them together, once. Nothing here reads the environment or a file:
//! the caller brings both, so that every error can be tested.

mod kafka;
pub mod load;
pub mod table;
mod units;

pub use kafka::KafkaSettings;
pub use load::{ConfigError, Given, Loaded, Source, load};

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::store::local::Fatal;
use crate::store::open::{OpenOptions, StoreUrl};
use crate::types::table_url::TableUrl;

/// Everything that a broker is told from outside. Flags, environment and file are merged into this before anything starts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Where the data is: `file:///dir`, `s3://bucket/prefix`, `memory:`.
    pub store: String,
    /// Where the metadata table is: beside the data, in DynamoDB or in PostgreSQL. May hold a password; shows none.
    pub metadata: TableUrl,
    /// Where Kafka clients connect.
    pub listen: SocketAddr,
    /// What clients are told to connect to, `host:port`; default: the listening address.
    pub advertise: Option<String>,
    /// HTTP: health, metrics.
    pub admin: SocketAddr,
    /// Default: the one it had before, or the smallest from 1 on that is free.
    pub node_id: Option<i32>,
    pub rack: Option<String>,
    /// Where S3 is, `http(s)://host[:port]`; default: AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL, the profile, then AWS itself.
    pub s3_endpoint: Option<String>,
    /// Default: AWS_REGION, AWS_DEFAULT_REGION, the profile, then us-east-1.
    pub s3_region: Option<String>,
    /// The bucket stands in the path (true) or in the host name (false); default: in the path when there is an endpoint.
    pub s3_path_style: Option<bool>,
    /// Where DynamoDB is; default: AWS_ENDPOINT_URL_DYNAMODB, AWS_ENDPOINT_URL, then AWS itself.
    pub dynamodb_endpoint: Option<String>,
    /// Creates carry a CRC-64 that the server checks; false for servers that refuse it.
    pub s3_checksum: bool,
    /// Shortest time between two flushes; default 100 on shared stores, on the local directory 1 while the disk keeps up, else 5.
    pub flush_interval_ms: Option<u64>,
    /// A flush starts at once when so much is buffered.
    pub flush_bytes: usize,
    /// Segments that upload side by side, at most 64.
    pub flush_inflight: usize,
    /// Budget for everything received and not yet committed; a merge takes a third of it at most.
    pub buffer_bytes: usize,
    /// Newest segments kept in memory as they were written, for consumers at the tail.
    pub tail_cache_bytes: usize,
    /// Blocks read back from the store, in memory.
    pub block_cache_bytes: usize,
    /// Life of a session without a new segment, on shared stores. Written into the metadata table by the first broker.
    pub session_ttl_ms: u64,
    /// The cluster's feature level is raised no higher; default: as high as all brokers support.
    pub feature_level: Option<u16>,
    /// It is raised when all brokers have supported that for so long.
    pub feature_level_settle_ms: u64,
    /// Segments are merged when the oldest that holds records is so old.
    pub merge_window_ms: u64,
    /// Or when they hold so much together; a merge takes no more at once.
    pub merge_window_bytes: u64,
    /// Or when there are half as many as this; when there are more, segments become fewer and larger. Default 600 on shared stores,
    /// 20,000 on the local directory.
    pub merge_unmerged_max: Option<usize>,
    /// What is merged or garbage is deleted when this broker has known that for so long.
    pub collect_grace_ms: u64,
    /// Connections at the same time.
    pub max_connections: usize,
    pub log_format: LogFormat,
    /// A level (`info`) or directives of tracing-subscriber (`info,alluvium::log=debug`).
    pub log_level: String,
    pub kafka: KafkaSettings,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    Text,
    Json,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            store: "file://./alluvium-data".to_owned(),
            metadata: TableUrl::Bucket,
            listen: SocketAddr::from(([127, 0, 0, 1], 9092)),
            advertise: None,
            admin: SocketAddr::from(([127, 0, 0, 1], 9644)),
            node_id: None,
            rack: None,
            s3_endpoint: None,
            s3_region: None,
            s3_path_style: None,
            dynamodb_endpoint: None,
            s3_checksum: true,
            flush_interval_ms: None,
            flush_bytes: 8 << 20,
            flush_inflight: 8,
            buffer_bytes: 256 << 20,
            tail_cache_bytes: 128 << 20,
            block_cache_bytes: 128 << 20,
            session_ttl_ms: 10_000,
            feature_level: None,
            feature_level_settle_ms: 600_000,
            merge_window_ms: 60_000,
            merge_window_bytes: 512 << 20,
            merge_unmerged_max: None,
            collect_grace_ms: 600_000,
            max_connections: 10_000,
            log_format: LogFormat::Text,
            log_level: "info".to_owned(),
            kafka: KafkaSettings::default(),
        }
    }
}

impl Settings {
    /// What `store` means.
    pub fn store_url(&self) -> Result<StoreUrl, String> {
        let store = self.store.as_str();
        StoreUrl::parse(store).map_err(|_| {
            let path = store.strip_prefix("file://").unwrap_or(store);
            let relative = if path.starts_with(['/', '.']) { "" } else { "./" };
            let hint =
                if path.contains(':') { String::new() } else { format!(" (a directory: file://{relative}{path})") };
            format!("neither file:///dir, file://./dir, s3://bucket/prefix nor memory:{hint}")
        })
    }

    /// How the store is to be opened. `fatal` must end the process (see [`Fatal`]).
    pub fn open_options(&self, fatal: Fatal) -> OpenOptions {
        OpenOptions {
            fatal,
            s3_endpoint: self.s3_endpoint.clone(),
            s3_region: self.s3_region.clone(),
            s3_path_style: self.s3_path_style,
            s3_without_checksum: !self.s3_checksum,
        }
    }

    /// Host and port that clients are told to connect to.
    pub fn advertised(&self) -> Result<(String, u16), String> {
        let Some(advertise) = &self.advertise else {
            return Ok((self.listen.ip().to_string(), self.listen.port()));
        };
        let error = || format!("{advertise:?} is no host:port");
        let (host, port) = advertise.rsplit_once(':').ok_or_else(error)?;
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let blank = host.is_empty() || host.contains(|letter: char| letter.is_whitespace() || letter == '/');
        let port: u16 = port.parse().map_err(|_| error())?;
        if blank || port == 0 { Err(error()) } else { Ok((host.to_owned(), port)) }
    }

    /// Looks at settings together. Each alone was checked when it was read.
    ///
    /// # Errors
    /// The first contradiction, by the name of the setting to change.
    pub fn check(&self) -> Result<(), ConfigError> {
        let conflict = |name: &'static str, reason: String| Err(ConfigError::Conflict { name, reason });
        if let Err(reason) = self.store_url() {
            return conflict("store", format!("{:?} is {reason}", self.store));
        }
        if matches!(self.store_url(), Ok(StoreUrl::Memory)) && self.metadata != TableUrl::Bucket {
            return conflict(
                "metadata",
                "store memory: forgets its cluster; keep its metadata in it (bucket)".to_owned(),
            );
        }
        if let Err(reason) = self.advertised() {
            return conflict("advertise", reason);
        }
        if self.advertise.is_none() && self.listen.ip().is_unspecified() {
            let listen = self.listen;
            return conflict("advertise", format!("clients can't connect to {listen}: say --advertise host:port"));
        }
        if self.listen == self.admin && self.listen.port() != 0 {
            return conflict("admin", format!("{} is taken by listen", self.admin));
        }
        if self.buffer_bytes < self.flush_bytes {
            let (buffer, flush) = (self.buffer_bytes, self.flush_bytes);
            return conflict("buffer-bytes", format!("{buffer} is less than one flush (flush-bytes {flush})"));
        }
        // No request gets more than its share of the buffer.
        let batch = usize::try_from(self.kafka.message_max_bytes).unwrap_or(0);
        if self.buffer_bytes / 2 < batch {
            let buffer = self.buffer_bytes;
            return conflict("buffer-bytes", format!("{buffer} is less than two batches (message.max.bytes {batch})"));
        }
        let (least, most) = (self.kafka.group_min_session_timeout_ms, self.kafka.group_max_session_timeout_ms);
        if least > most {
            return conflict(
                "group.min.session.timeout.ms",
                format!("{least} is more than group.max.session.timeout.ms, {most}"),
            );
        }
        Ok(())
    }
}

/// The Kafka-named settings as Kafka writes them: name → value.
pub fn kafka_configs(kafka: &KafkaSettings) -> std::collections::BTreeMap<String, String> {
    let text = |value: &serde_json::Value| match value {
        serde_json::Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    match serde_json::to_value(kafka) {
        Ok(serde_json::Value::Object(map)) => map.iter().map(|(name, value)| (name.clone(), text(value))).collect(),
        _ => std::collections::BTreeMap::new(),
    }
}
