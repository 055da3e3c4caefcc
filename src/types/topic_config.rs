//! Topic configs: what may be set, and the typed view that the engine works with.
//!
//! A topic's own value wins, then the broker's value of a synonym (`log.*`), then the default in [`TOPIC_CONFIGS`]. Values that are
//! stored have passed [`validate`]; one that does not parse all the same (a newer program wrote it) counts as not set.

use std::collections::BTreeMap;

use super::config_def::{ConfigError, Definition, Value, find};
pub use super::topic_config_table::TOPIC_CONFIGS;

type Configs = BTreeMap<String, String>;

/// Names that Kafka's own tests set and DescribeConfigs never shows.
const HIDDEN: &str = "internal.segment.bytes";

/// The definition of a topic config.
pub fn definition(name: &str) -> Option<&'static Definition> {
    find(TOPIC_CONFIGS, name)
}

/// Checks all of a topic's own configs together, as Kafka's `LogConfig.validate` does: unknown names, then each value, then those that
/// contradict each other. `broker` are the broker's effective values.
pub fn validate(topic: &Configs, broker: &Configs) -> Result<(), ConfigError> {
    if let Some(name) = topic.keys().find(|name| definition(name).is_none() && *name != HIDDEN) {
        return Err(ConfigError(format!("Unknown topic config name: {name}")));
    }
    for (name, value) in topic {
        if let Some(definition) = definition(name) {
            definition.parse(value)?;
        }
    }
    let number = |name| integer(topic, broker, name);
    let (min, max) = (number("min.compaction.lag.ms"), number("max.compaction.lag.ms"));
    if min > max {
        return Err(ConfigError(format!(
            "conflict topic config setting min.compaction.lag.ms ({min}) > max.compaction.lag.ms ({max})"
        )));
    }
    if boolean(topic, broker, "remote.storage.enable") {
        return Err(ConfigError(
            "Tiered Storage functionality is disabled in the broker. Topic cannot be configured with remote log storage."
                .to_owned(),
        ));
    }
    Ok(())
}

/// How batches are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TopicCompression {
    /// As they come.
    Producer,
    Uncompressed,
    /// -1: the codec's default; else 1 to 9.
    Gzip(i32),
    Snappy,
    Lz4(i32),
    Zstd(i32),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimestampType {
    CreateTime,
    LogAppendTime,
}

/// A topic's effective configs, as far as the engine acts on them.
#[derive(Clone, Debug, PartialEq)]
pub struct TopicConfig {
    pub max_message_bytes: i32,
    pub timestamp_type: TimestampType,
    pub timestamp_before_max_ms: i64,
    pub timestamp_after_max_ms: i64,
    pub compression: TopicCompression,
    pub cleanup_compact: bool,
    pub cleanup_delete: bool,
    /// -1: no limit.
    pub retention_ms: i64,
    /// -1 (or below): no limit.
    pub retention_bytes: i64,
    pub segment_bytes: i32,
    pub segment_ms: i64,
    pub min_compaction_lag_ms: i64,
    pub max_compaction_lag_ms: i64,
    pub delete_retention_ms: i64,
    pub min_cleanable_dirty_ratio: f64,
}

impl TopicConfig {
    /// `topic` are the topic's own values, `broker` the broker's effective ones (`broker_config::effective`).
    pub fn from(topic: &Configs, broker: &Configs) -> TopicConfig {
        let long = |name| integer(topic, broker, name);
        let int = |name| i32::try_from(integer(topic, broker, name)).unwrap_or(i32::MAX);
        let policies = match value(topic, broker, "cleanup.policy") {
            Value::List(parts) => parts,
            _ => Vec::new(),
        };
        let compression = match text(topic, broker, "compression.type").as_str() {
            "uncompressed" => TopicCompression::Uncompressed,
            "gzip" => TopicCompression::Gzip(int("compression.gzip.level")),
            "snappy" => TopicCompression::Snappy,
            "lz4" => TopicCompression::Lz4(int("compression.lz4.level")),
            "zstd" => TopicCompression::Zstd(int("compression.zstd.level")),
            _ => TopicCompression::Producer,
        };
        let arrival = text(topic, broker, "message.timestamp.type") == "LogAppendTime";
        TopicConfig {
            max_message_bytes: int("max.message.bytes"),
            timestamp_type: if arrival { TimestampType::LogAppendTime } else { TimestampType::CreateTime },
            timestamp_before_max_ms: long("message.timestamp.before.max.ms"),
            timestamp_after_max_ms: long("message.timestamp.after.max.ms"),
            compression,
            cleanup_compact: policies.iter().any(|policy| policy == "compact"),
            cleanup_delete: policies.iter().any(|policy| policy == "delete"),
            retention_ms: long("retention.ms"),
            retention_bytes: long("retention.bytes"),
            segment_bytes: int("segment.bytes"),
            segment_ms: long("segment.ms"),
            min_compaction_lag_ms: long("min.compaction.lag.ms"),
            max_compaction_lag_ms: long("max.compaction.lag.ms"),
            delete_retention_ms: long("delete.retention.ms"),
            min_cleanable_dirty_ratio: match value(topic, broker, "min.cleanable.dirty.ratio") {
                Value::Double(ratio) => ratio,
                _ => 0.5,
            },
        }
    }
}

/// The value that a broker's configs give a topic that does not set its own, and the name of the synonym it came from.
pub fn inherited(definition: &Definition, broker: &Configs) -> Option<(&'static str, String)> {
    definition.synonyms.iter().find_map(|synonym| {
        let converted = synonym.unit.convert(broker.get(synonym.name)?)?;
        definition.parse(&converted).ok()?;
        Some((synonym.name, converted))
    })
}

fn value(topic: &Configs, broker: &Configs, name: &'static str) -> Value {
    let definition = definition(name).expect("the view names configs of the table");
    let own = topic.get(name).and_then(|text| definition.parse(text).ok());
    own.or_else(|| inherited(definition, broker).and_then(|(_, text)| definition.parse(&text).ok()))
        .or_else(|| definition.default.and_then(|text| definition.parse(text).ok()))
        .expect("defaults of topic configs are valid")
}

fn integer(topic: &Configs, broker: &Configs, name: &'static str) -> i64 {
    match value(topic, broker, name) {
        Value::Integer(number) => number,
        _ => 0,
    }
}

fn text(topic: &Configs, broker: &Configs, name: &'static str) -> String {
    match value(topic, broker, name) {
        Value::Text(text) => text,
        _ => String::new(),
    }
}

fn boolean(topic: &Configs, broker: &Configs, name: &'static str) -> bool {
    value(topic, broker, name) == Value::Boolean(true)
}

#[cfg(test)]
#[path = "topic_config_tests.rs"]
mod tests;
