//! The one table of settings: name, unit, meaning, how to read and how to show each. Flags, environment, file, `alluvium config`
//! and the nearest name in an error all follow from it.

use std::ops::RangeInclusive;

pub use super::units::Unit;
use super::{LogFormat, Settings};
use crate::types::FEATURE_LEVEL;
use crate::types::table_url::{TableUrl, masked};

/// One setting.
pub struct Setting {
    /// `flush-bytes`, or Kafka's name, `num.partitions`.
    pub name: &'static str,
    pub unit: Unit,
    pub description: &'static str,
    /// The value in its unit; `None` when unset: then the description says what follows.
    pub show: fn(&Settings) -> Option<String>,
    /// Reads a value, with units, and checks its range.
    pub read: fn(&mut Settings, &str) -> Result<(), String>,
}

impl Setting {
    /// Whether it is one of Kafka's, named as Kafka names it.
    pub fn is_kafka(&self) -> bool {
        self.name.contains('.')
    }

    /// `ALLUVIUM_FLUSH_BYTES`, `ALLUVIUM_KAFKA_NUM_PARTITIONS`.
    pub fn variable(&self) -> String {
        let prefix = if self.is_kafka() { "ALLUVIUM_KAFKA_" } else { "ALLUVIUM_" };
        format!("{prefix}{}", self.name.replace(['-', '.'], "_").to_ascii_uppercase())
    }

    /// A value that somebody gave, as an error may repeat it.
    pub fn repeatable(&self, value: &str) -> String {
        if self.name == "metadata" { masked(value) } else { value.to_owned() }
    }

    /// Whether it is switched by a word rather than given a value.
    pub fn is_switch(&self) -> bool {
        matches!(self.name, "s3-path-style" | "s3-checksum")
    }
}

fn whole<T: TryFrom<i64>>(text: &str, unit: Unit, range: RangeInclusive<i64>) -> Result<T, String> {
    let value = unit.parse(text)?;
    let out_of_range = || match *range.end() {
        i64::MAX => format!("must be at least {}", range.start()),
        end => format!("must be from {} to {end}", range.start()),
    };
    if !range.contains(&value) {
        return Err(out_of_range());
    }
    T::try_from(value).map_err(|_| out_of_range())
}

fn truth(text: &str) -> Result<bool, String> {
    match text.trim().to_ascii_lowercase().as_str() {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err("neither true nor false".to_owned()),
    }
}

fn filled(text: &str) -> Result<String, String> {
    let text = text.trim();
    if text.is_empty() { Err("must not be empty".to_owned()) } else { Ok(text.to_owned()) }
}

fn log_format(text: &str) -> Result<LogFormat, String> {
    match text.trim() {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        _ => Err("neither text nor json".to_owned()),
    }
}

fn endpoint(text: &str) -> Result<String, String> {
    let text = filled(text)?;
    let known = text.starts_with("http://") || text.starts_with("https://");
    if known { Ok(text) } else { Err("must begin with http:// or https://".to_owned()) }
}

fn store(text: &str) -> Result<String, String> {
    let candidate = Settings { store: filled(text)?, ..Settings::default() };
    candidate.store_url().map(|_| candidate.store)
}

fn advertise(text: &str) -> Result<String, String> {
    let candidate = Settings { advertise: Some(filled(text)?), ..Settings::default() };
    candidate.advertised().map_err(|_| "not host:port".to_owned())?;
    filled(text)
}

const KIB: i64 = 1 << 10;
const MIB: i64 = 1 << 20;
const GIB: i64 = 1 << 30;
const INT: i64 = i32::MAX as i64;

macro_rules! setting {
    ($name:literal, $unit:ident, $description:literal, $show:expr, $read:expr) => {
        Setting { name: $name, unit: Unit::$unit, description: $description, show: $show, read: $read }
    };
}

/// A setting that is always set and holds a whole number.
macro_rules! number {
    ($name:literal, $unit:ident, $range:expr, $description:literal, $($field:ident).+) => {
        setting!($name, $unit, $description, |s| Some(s.$($field).+.to_string()), |s, text| {
            s.$($field).+ = whole(text, Unit::$unit, $range)?;
            Ok(())
        })
    };
}

macro_rules! text {
    ($name:literal, $read:expr, $description:literal, $field:ident) => {
        setting!($name, None, $description, |s| Some(s.$field.to_string()), |s, text| {
            s.$field = $read(text)?;
            Ok(())
        })
    };
}

macro_rules! optional {
    ($name:literal, $unit:ident, $read:expr, $description:literal, $field:ident) => {
        setting!($name, $unit, $description, |s| s.$field.as_ref().map(ToString::to_string), |s, text| {
            s.$field = Some($read(text)?);
            Ok(())
        })
    };
}

macro_rules! kafka_switch {
    ($name:literal, $description:literal, $field:ident) => {
        setting!($name, None, $description, |s| Some(s.kafka.$field.to_string()), |s, text| {
            s.kafka.$field = truth(text)?;
            Ok(())
        })
    };
}

fn address(text: &str) -> Result<std::net::SocketAddr, String> {
    let error = "not an address and port, such as 127.0.0.1:9092 or 0.0.0.0:9092";
    text.trim().replace("localhost:", "127.0.0.1:").parse().map_err(|_| error.to_owned())
}

/// All settings, ours first, in the order in which they are shown.
pub static SETTINGS: &[Setting] = &[
    text!(
        "store",
        store,
        "where the data is: file:///dir, s3://bucket/prefix (keys: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE, or a role), memory:",
        store
    ),
    text!(
        "metadata",
        TableUrl::parse,
        "where the metadata table is: bucket, dynamodb://table, postgres://user@host/database (password in the URL or in PGPASSWORD)",
        metadata
    ),
    text!("listen", address, "address and port for Kafka clients; port 0 takes a free one", listen),
    optional!(
        "advertise",
        None,
        advertise,
        "host:port that clients are told to connect to (unset: as listen)",
        advertise
    ),
    text!("admin", address, "address and port for health and metrics over HTTP", admin),
    optional!(
        "node-id",
        None,
        |text| whole(text, Unit::None, 0..=INT),
        "Kafka's id of this broker (unset: as before, by the advertised address, or a free one); a later one of the same id ends the earlier",
        node_id
    ),
    optional!("rack", None, filled, "rack or availability zone of this broker (unset: none)", rack),
    optional!(
        "s3-endpoint",
        None,
        endpoint,
        "URL of S3 (unset: AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL, the AWS profile, then AWS)",
        s3_endpoint
    ),
    optional!(
        "s3-region",
        None,
        filled,
        "region, also of DynamoDB (unset: AWS_REGION, AWS_DEFAULT_REGION, the AWS profile, then us-east-1)",
        s3_region
    ),
    optional!(
        "s3-path-style",
        None,
        truth,
        "bucket in the path, not in the host name (unset: if there is an endpoint)",
        s3_path_style
    ),
    optional!(
        "dynamodb-endpoint",
        None,
        endpoint,
        "URL of DynamoDB (unset: AWS_ENDPOINT_URL_DYNAMODB, AWS_ENDPOINT_URL, then AWS)",
        dynamodb_endpoint
    ),
    text!("s3-checksum", truth, "send a CRC-64 with every object; false for servers that refuse it", s3_checksum),
    optional!(
        "flush-interval-ms",
        Milliseconds,
        |text| whole(text, Unit::Milliseconds, 1..=60_000),
        "shortest time between two flushes (unset: 100 on shared stores, 1 to 5 on a local directory)",
        flush_interval_ms
    ),
    number!("flush-bytes", Bytes, 64 * KIB..=GIB, "a flush starts at once when so much is buffered", flush_bytes),
    number!("flush-inflight", None, 1..=64, "segments that upload side by side", flush_inflight),
    number!("buffer-bytes", Bytes, MIB..=1 << 40, "budget for everything received and not yet committed", buffer_bytes),
    number!(
        "tail-cache-bytes",
        Bytes,
        0..=1 << 40,
        "newest segments kept in memory for consumers at the tail",
        tail_cache_bytes
    ),
    number!(
        "block-cache-bytes",
        Bytes,
        MIB..=1 << 40,
        "blocks read back from the store, kept in memory",
        block_cache_bytes
    ),
    number!(
        "session-ttl-ms",
        Milliseconds,
        1000..=600_000,
        "life of a session without a new segment, on shared stores; the first broker writes it into the cluster",
        session_ttl_ms
    ),
    setting!(
        "feature-level",
        None,
        "auto, or the highest feature level to which this broker raises the cluster: what is written at a level can be read by every version that supports it",
        |s| Some(s.feature_level.map_or_else(|| "auto".to_owned(), |level| level.to_string())),
        |s, text| {
            let level = || whole(text, Unit::None, 1..=i64::from(FEATURE_LEVEL));
            s.feature_level = if text.trim() == "auto" { None } else { Some(level()?) };
            Ok(())
        }
    ),
    number!(
        "feature-level-settle-ms",
        Milliseconds,
        0..=i64::MAX,
        "the feature level is raised when all open sessions have supported that for so long",
        feature_level_settle_ms
    ),
    number!(
        "merge-window-ms",
        Milliseconds,
        10..=3_600_000,
        "segments are merged when the oldest that holds records is so old",
        merge_window_ms
    ),
    number!(
        "merge-window-bytes",
        Bytes,
        KIB..=1 << 40,
        "or when they hold so much; a merge takes no more at once",
        merge_window_bytes
    ),
    optional!(
        "merge-unmerged-max",
        None,
        |text| whole(text, Unit::None, 2..=1_000_000),
        "with more segments unmerged they become fewer and larger (unset: 600 on shared stores, 20000 on a local directory)",
        merge_unmerged_max
    ),
    number!(
        "collect-grace-ms",
        Milliseconds,
        0..=i64::MAX,
        "what is merged or garbage is deleted when this broker has known that for so long",
        collect_grace_ms
    ),
    number!(
        "max-connections",
        None,
        1..=1_000_000,
        "connections of Kafka clients at the same time, as far as descriptors allow; for more, the idlest leave",
        max_connections
    ),
    setting!(
        "log-format",
        None,
        "how log lines look: text or json",
        |s| Some(if s.log_format == LogFormat::Json { "json" } else { "text" }.to_owned()),
        |s, text| {
            s.log_format = log_format(text)?;
            Ok(())
        }
    ),
    text!("log-level", filled, "error, warn, info, debug, trace, or directives (info,alluvium::log=debug)", log_level),
    kafka_switch!("auto.create.topics.enable", "create a topic when a client asks for it", auto_create_topics_enable),
    kafka_switch!("delete.topic.enable", "allow the deletion of topics", delete_topic_enable),
    number!(
        "num.partitions",
        None,
        1..=INT,
        "partitions of a topic that is created without a number",
        kafka.num_partitions
    ),
    number!(
        "default.replication.factor",
        None,
        1..=i64::from(i16::MAX),
        "what topics report as their replication factor; the store replicates",
        kafka.default_replication_factor
    ),
    number!("message.max.bytes", Bytes, 0..=INT, "largest record batch", kafka.message_max_bytes),
    number!("fetch.max.bytes", Bytes, 1024..=INT, "most bytes of one fetch response", kafka.fetch_max_bytes),
    number!("socket.request.max.bytes", Bytes, 1..=INT, "largest request", kafka.socket_request_max_bytes),
    number!(
        "socket.send.buffer.bytes",
        Bytes,
        -1..=INT,
        "what the kernel takes of an answer before the client reads (SO_SNDBUF); more for clients far away; -1: the kernel's choice",
        kafka.socket_send_buffer_bytes
    ),
    number!(
        "connections.max.idle.ms",
        Milliseconds,
        -1..=i64::MAX,
        "idle connections are closed after this",
        kafka.connections_max_idle_ms
    ),
    number!(
        "max.connections.per.ip",
        None,
        0..=INT,
        "connections from one address at the same time; more are closed at once",
        kafka.max_connections_per_ip
    ),
    number!(
        "max.incremental.fetch.session.cache.slots",
        None,
        0..=INT,
        "fetch sessions kept at the same time",
        kafka.max_incremental_fetch_session_cache_slots
    ),
    number!(
        "max.request.partition.size.limit",
        None,
        1..=INT,
        "most partitions in one answer of DescribeTopicPartitions",
        kafka.max_request_partition_size_limit
    ),
    number!(
        "producer.id.expiration.ms",
        Milliseconds,
        1..=INT,
        "an idle producer is forgotten after this",
        kafka.producer_id_expiration_ms
    ),
    number!(
        "offsets.topic.num.partitions",
        None,
        1..=INT,
        "partitions of __consumer_offsets, when it is created",
        kafka.offsets_topic_num_partitions
    ),
    number!(
        "offset.metadata.max.bytes",
        Bytes,
        0..=INT,
        "longest text that goes with a committed offset",
        kafka.offset_metadata_max_bytes
    ),
    number!(
        "offsets.retention.minutes",
        Minutes,
        1..=INT,
        "offsets of an empty group are kept this long",
        kafka.offsets_retention_minutes
    ),
    number!(
        "offsets.retention.check.interval.ms",
        Milliseconds,
        1..=i64::MAX,
        "how often expired offsets are looked for",
        kafka.offsets_retention_check_interval_ms
    ),
    number!(
        "group.initial.rebalance.delay.ms",
        Milliseconds,
        0..=INT,
        "a new group waits this long for more members",
        kafka.group_initial_rebalance_delay_ms
    ),
    number!(
        "group.min.session.timeout.ms",
        Milliseconds,
        0..=INT,
        "shortest session timeout of a member",
        kafka.group_min_session_timeout_ms
    ),
    number!(
        "group.max.session.timeout.ms",
        Milliseconds,
        0..=INT,
        "longest session timeout of a member",
        kafka.group_max_session_timeout_ms
    ),
    number!("group.max.size", None, 1..=INT, "most members of a group", kafka.group_max_size),
];

/// The setting of this name: `flush-bytes`, `flush_bytes`, `num.partitions`, `kafka.num.partitions`.
pub fn find(name: &str) -> Option<&'static Setting> {
    let name = name.strip_prefix("kafka.").unwrap_or(name);
    let spelled =
        |setting: &&Setting| setting.name == name || (!setting.is_kafka() && setting.name == name.replace('_', "-"));
    SETTINGS.iter().find(spelled)
}
