//! Broker configs that tools and user interfaces read, with Kafka's names, types and defaults, sorted by name.
//!
//! Values come from three places: what the process was started with (`config::KafkaSettings` and what the broker knows of itself,
//! given as a map), what was set for one broker, and what was set for all brokers (both in the image). Kafka lets the last two be set
//! for its dynamic configs only; the others are read-only here as well.

use std::collections::BTreeMap;

use super::config_def::Check::{Any, Between, GzipLevel, ListOf, Min, OneOf, Ratio};
use super::config_def::Kind::{Boolean, Double, Int, List, Long, Short, String as Text};
use super::config_def::{Check, ConfigError, Definition, Kind, Value, find};
use super::topic_config_table::COMPRESSION_TYPES;

type Configs = BTreeMap<String, String>;

const fn row(
    name: &'static str,
    kind: Kind,
    default: Option<&'static str>,
    check: Check,
    documentation: &'static str,
) -> Definition {
    Definition { name, kind, default, check, synonyms: &[], documentation }
}

const FOR_EVER: Option<&str> = Some("9223372036854775807");
const NO_LIMIT: Option<&str> = Some("2147483647");
const NO_EFFECT: &str = "Kafka's setting, shown for its tools; without effect here.";
const DEFAULT_OF_TOPICS: &str = "Default of the topic config that it stands for.";
const THREADS: &str = "Kafka's setting, shown for its tools; threads follow the number of processors here.";
const NEXT_GENERATION: &str = "Limit or default of the newer group protocols.";

#[rustfmt::skip]
pub static BROKER_CONFIGS: &[Definition] = &[
    row("advertised.listeners", List, None, Any, "Where clients are told to connect."),
    row("allow.everyone.if.no.acl.found", Boolean, Some("false"), Any, "Whether resources without an access rule are open to all."),
    row("authorizer.class.name", Text, Some(""), Any, "Which authorizer checks requests; empty: none."),
    row("auto.create.topics.enable", Boolean, Some("true"), Any, "Whether a client's question for an unknown topic creates it."),
    row("background.threads", Int, Some("10"), Min(1), THREADS),
    row("broker.id", Int, Some("-1"), Any, "The number of this broker."),
    row("broker.rack", Text, None, Any, "Where the broker stands, for clients that look for a near one."),
    row("compression.gzip.level", Int, Some("-1"), GzipLevel, DEFAULT_OF_TOPICS),
    row("compression.lz4.level", Int, Some("9"), Between(1, 17), DEFAULT_OF_TOPICS),
    row("compression.type", Text, Some("producer"), OneOf(COMPRESSION_TYPES), DEFAULT_OF_TOPICS),
    row("compression.zstd.level", Int, Some("3"), Between(-131_072, 22), DEFAULT_OF_TOPICS),
    row("connections.max.idle.ms", Long, Some("600000"), Any, "A connection without requests is closed after this time."),
    row("connections.max.reauth.ms", Long, Some("0"), Any, "Longest life of an authenticated connection; 0: no limit."),
    row("default.replication.factor", Int, Some("1"), Min(1), "Replication factor that new topics report when none is given."),
    row("delete.topic.enable", Boolean, Some("true"), Any, "Whether topics may be deleted."),
    row("fetch.max.bytes", Int, Some("57671680"), Min(1024), "Most bytes of one fetch response."),
    row("follower.replication.throttled.rate", Long, FOR_EVER, Min(0), NO_EFFECT),
    row("group.consumer.assignment.interval.ms", Int, Some("1000"), Min(0), NEXT_GENERATION),
    row("group.consumer.assignors", List, Some("uniform,range"), Any, NEXT_GENERATION),
    row("group.consumer.heartbeat.interval.ms", Int, Some("5000"), Min(1), NEXT_GENERATION),
    row("group.consumer.max.assignment.interval.ms", Int, Some("15000"), Min(0), NEXT_GENERATION),
    row("group.consumer.max.heartbeat.interval.ms", Int, Some("15000"), Min(1), NEXT_GENERATION),
    row("group.consumer.max.session.timeout.ms", Int, Some("60000"), Min(1), NEXT_GENERATION),
    row("group.consumer.max.size", Int, NO_LIMIT, Min(1), NEXT_GENERATION),
    row("group.consumer.migration.policy", Text, Some("bidirectional"), Any, NEXT_GENERATION),
    row("group.consumer.min.assignment.interval.ms", Int, Some("0"), Min(0), NEXT_GENERATION),
    row("group.consumer.min.heartbeat.interval.ms", Int, Some("5000"), Min(1), NEXT_GENERATION),
    row("group.consumer.min.session.timeout.ms", Int, Some("45000"), Min(1), NEXT_GENERATION),
    row("group.consumer.session.timeout.ms", Int, Some("45000"), Min(1), NEXT_GENERATION),
    row("group.coordinator.rebalance.protocols", List, Some("classic"), Any, "Group protocols that are served."),
    row("group.initial.rebalance.delay.ms", Int, Some("3000"), Any, "How long a new group waits for more members."),
    row("group.max.session.timeout.ms", Int, Some("1800000"), Any, "Longest session timeout of a group member."),
    row("group.max.size", Int, NO_LIMIT, Min(1), "Most members of a group."),
    row("group.min.session.timeout.ms", Int, Some("6000"), Any, "Shortest session timeout of a group member."),
    row("inter.broker.listener.name", Text, None, Any, "Listener that brokers use among themselves."),
    row("leader.replication.throttled.rate", Long, FOR_EVER, Min(0), NO_EFFECT),
    row("listener.security.protocol.map", Text, Some("PLAINTEXT:PLAINTEXT"), Any, "Security protocol of each listener."),
    row("listeners", List, None, Any, "Where the broker listens."),
    row("log.cleaner.backoff.ms", Long, Some("15000"), Min(0), NO_EFFECT),
    row("log.cleaner.dedupe.buffer.size", Long, Some("134217728"), Any, NO_EFFECT),
    row("log.cleaner.delete.retention.ms", Long, Some("86400000"), Min(0), DEFAULT_OF_TOPICS),
    row("log.cleaner.max.compaction.lag.ms", Long, FOR_EVER, Min(1), DEFAULT_OF_TOPICS),
    row("log.cleaner.min.cleanable.ratio", Double, Some("0.5"), Ratio, DEFAULT_OF_TOPICS),
    row("log.cleaner.min.compaction.lag.ms", Long, Some("0"), Min(0), DEFAULT_OF_TOPICS),
    row("log.cleaner.threads", Int, Some("1"), Min(0), THREADS),
    row("log.cleanup.policy", List, Some("delete"), ListOf(&["compact", "delete"]), DEFAULT_OF_TOPICS),
    row("log.dirs", List, None, Any, "Where the data is: the object store's address."),
    row("log.flush.interval.messages", Long, FOR_EVER, Min(1), DEFAULT_OF_TOPICS),
    row("log.flush.interval.ms", Long, None, Any, DEFAULT_OF_TOPICS),
    row("log.flush.scheduler.interval.ms", Long, FOR_EVER, Any, DEFAULT_OF_TOPICS),
    row("log.index.interval.bytes", Int, Some("4096"), Min(0), DEFAULT_OF_TOPICS),
    row("log.index.size.max.bytes", Int, Some("10485760"), Min(4), DEFAULT_OF_TOPICS),
    row("log.local.retention.bytes", Long, Some("-2"), Min(-2), DEFAULT_OF_TOPICS),
    row("log.local.retention.ms", Long, Some("-2"), Min(-2), DEFAULT_OF_TOPICS),
    row("log.message.timestamp.after.max.ms", Long, Some("3600000"), Min(0), DEFAULT_OF_TOPICS),
    row("log.message.timestamp.before.max.ms", Long, FOR_EVER, Min(0), DEFAULT_OF_TOPICS),
    row("log.message.timestamp.type", Text, Some("CreateTime"), OneOf(&["CreateTime", "LogAppendTime"]), DEFAULT_OF_TOPICS),
    row("log.preallocate", Boolean, Some("false"), Any, DEFAULT_OF_TOPICS),
    row("log.retention.bytes", Long, Some("-1"), Any, DEFAULT_OF_TOPICS),
    row("log.retention.check.interval.ms", Long, Some("300000"), Min(1), NO_EFFECT),
    row("log.retention.hours", Int, Some("168"), Any, DEFAULT_OF_TOPICS),
    row("log.retention.minutes", Int, None, Any, DEFAULT_OF_TOPICS),
    row("log.retention.ms", Long, None, Any, DEFAULT_OF_TOPICS),
    row("log.roll.hours", Int, Some("168"), Min(1), DEFAULT_OF_TOPICS),
    row("log.roll.jitter.hours", Int, Some("0"), Min(0), DEFAULT_OF_TOPICS),
    row("log.roll.jitter.ms", Long, None, Any, DEFAULT_OF_TOPICS),
    row("log.roll.ms", Long, None, Any, DEFAULT_OF_TOPICS),
    row("log.segment.bytes", Int, Some("1073741824"), Min(1_048_576), DEFAULT_OF_TOPICS),
    row("log.segment.delete.delay.ms", Long, Some("60000"), Min(0), DEFAULT_OF_TOPICS),
    row("max.connection.creation.rate", Int, NO_LIMIT, Min(0), NO_EFFECT),
    row("max.connections", Int, NO_LIMIT, Min(0), NO_EFFECT),
    row("max.connections.per.ip", Int, NO_LIMIT, Min(0), "Most connections from one address, as the broker was started; more are closed at once."),
    row("max.incremental.fetch.session.cache.slots", Int, Some("1000"), Min(0), "Most fetch sessions that the broker remembers."),
    row("max.request.partition.size.limit", Int, Some("2000"), Min(1), "Most partitions of one DescribeTopicPartitions response."),
    row("message.max.bytes", Int, Some("1048588"), Min(0), "Largest record batch where the topic sets no limit."),
    row("min.insync.replicas", Int, Some("1"), Min(1), DEFAULT_OF_TOPICS),
    row("node.id", Int, None, Any, "The number of this broker."),
    row("num.io.threads", Int, Some("8"), Min(1), THREADS),
    row("num.network.threads", Int, Some("3"), Min(1), THREADS),
    row("num.partitions", Int, Some("1"), Min(1), "Partitions of a new topic when none are given."),
    row("num.replica.fetchers", Int, Some("1"), Min(1), NO_EFFECT),
    row("offset.metadata.max.bytes", Int, Some("4096"), Any, "Longest text that a committed offset may carry."),
    row("offsets.retention.check.interval.ms", Long, Some("600000"), Min(1), "How often expired offsets are looked for."),
    row("offsets.retention.minutes", Int, Some("10080"), Min(1), "How long the offsets of an empty group are kept."),
    row("offsets.topic.num.partitions", Int, Some("50"), Min(1), "Partitions of the topic that keeps groups' offsets."),
    row("offsets.topic.replication.factor", Short, Some("3"), Min(1), "Replication factor that the offsets topic reports, as far as there are brokers."),
    row("offsets.topic.segment.bytes", Int, Some("104857600"), Min(1), NO_EFFECT),
    row("process.roles", List, Some(""), Any, "Roles of the process."),
    row("producer.id.expiration.ms", Int, Some("86400000"), Min(1), "How long an idle producer's sequence numbers are remembered."),
    row("quota.window.num", Int, Some("11"), Min(1), NO_EFFECT),
    row("quota.window.size.seconds", Int, Some("1"), Min(1), NO_EFFECT),
    row("replica.alter.log.dirs.io.max.bytes.per.second", Long, FOR_EVER, Min(0), NO_EFFECT),
    row("request.timeout.ms", Int, Some("30000"), Any, "How long a request may wait at most."),
    row("sasl.enabled.mechanisms", List, Some("GSSAPI"), Any, "Mechanisms of SASL that are offered."),
    row("socket.request.max.bytes", Int, Some("104857600"), Min(1), "Largest request."),
    row("socket.send.buffer.bytes", Int, Some("262144"), Min(-1), "What the kernel takes of an answer before the client reads; -1: its choice."),
    row("super.users", Text, Some(""), Any, "Users who may do everything."),
    row("transaction.max.timeout.ms", Int, Some("900000"), Min(1), "Longest timeout of a transaction."),
    row("transaction.state.log.min.isr", Int, Some("2"), Min(1), NO_EFFECT),
    row("transaction.state.log.num.partitions", Int, Some("50"), Min(1), "Partitions of the topic that keeps transactions' states."),
    row("transaction.state.log.replication.factor", Short, Some("3"), Min(1), NO_EFFECT),
    row("transactional.id.expiration.ms", Int, Some("604800000"), Min(1), "How long an idle transactional id is remembered."),
    row("unclean.leader.election.enable", Boolean, Some("false"), Any, DEFAULT_OF_TOPICS),
];

/// The names of [`BROKER_CONFIGS`] that Kafka lets change while it runs, sorted.
const DYNAMIC: &[&str] = &[
    "background.threads",
    "compression.gzip.level",
    "compression.lz4.level",
    "compression.type",
    "compression.zstd.level",
    "follower.replication.throttled.rate",
    "group.consumer.assignment.interval.ms",
    "leader.replication.throttled.rate",
    "log.cleaner.backoff.ms",
    "log.cleaner.dedupe.buffer.size",
    "log.cleaner.delete.retention.ms",
    "log.cleaner.max.compaction.lag.ms",
    "log.cleaner.min.cleanable.ratio",
    "log.cleaner.min.compaction.lag.ms",
    "log.cleaner.threads",
    "log.cleanup.policy",
    "log.flush.interval.messages",
    "log.flush.interval.ms",
    "log.index.interval.bytes",
    "log.index.size.max.bytes",
    "log.local.retention.bytes",
    "log.local.retention.ms",
    "log.message.timestamp.after.max.ms",
    "log.message.timestamp.before.max.ms",
    "log.message.timestamp.type",
    "log.preallocate",
    "log.retention.bytes",
    "log.retention.ms",
    "log.roll.jitter.ms",
    "log.roll.ms",
    "log.segment.bytes",
    "log.segment.delete.delay.ms",
    "max.connection.creation.rate",
    "max.connections",
    "max.connections.per.ip",
    "message.max.bytes",
    "min.insync.replicas",
    "num.io.threads",
    "num.network.threads",
    "num.replica.fetchers",
    "producer.id.expiration.ms",
    "replica.alter.log.dirs.io.max.bytes.per.second",
    "unclean.leader.election.enable",
];

/// Kafka knows these and describes them only where they are set.
pub const UNLESS_SET: &[&str] = &[
    "allow.everyone.if.no.acl.found",
    "follower.replication.throttled.rate",
    "leader.replication.throttled.rate",
    "replica.alter.log.dirs.io.max.bytes.per.second",
    "super.users",
];

/// The definition of a broker config of the table.
pub fn definition(name: &str) -> Option<&'static Definition> {
    find(BROKER_CONFIGS, name)
}

/// Whether the config may be set while brokers run. What Kafka lets one broker change about its own listeners is fixed here.
pub fn is_dynamic(name: &str) -> bool {
    DYNAMIC.binary_search(&name).is_ok()
}

/// Checks values that somebody sets for one broker or for all. Names that the table does not hold pass, as in Kafka: they may belong
/// to a plug-in.
pub fn validate(set: &Configs) -> Result<(), ConfigError> {
    let read_only = set.keys().filter(|name| definition(name).is_some() && !is_dynamic(name));
    let read_only: Vec<&str> = read_only.map(String::as_str).collect();
    if !read_only.is_empty() {
        return Err(ConfigError(format!("Cannot update these configs dynamically: [{}]", read_only.join(", "))));
    }
    set.iter().try_for_each(|(name, value)| match definition(name) {
        Some(definition) => definition.parse(value).and_then(|value| required(name, &value)),
        None => Ok(()),
    })
}

/// What Kafka checks of the whole configuration, in the words of Scala's `require` (`KafkaConfig.validateValues`).
fn required(name: &str, value: &Value) -> Result<(), ConfigError> {
    let Value::Integer(number) = *value else { return Ok(()) };
    let message = match (name, number) {
        ("log.roll.ms", ..1) => "requirement failed: log.roll.ms must be greater than or equal to 1".to_owned(),
        ("log.roll.jitter.ms", ..0) => {
            "requirement failed: log.roll.jitter.ms must be greater than or equal to 0".to_owned()
        }
        ("log.retention.ms", 0) => {
            "requirement failed: log.retention.ms must be unlimited (-1) or, greater than or equal to 1".to_owned()
        }
        ("max.connections.per.ip", 0) => "requirement failed: max.connections.per.ip can be set to zero only if \
                                          max.connections.per.ip.overrides property is set."
            .to_owned(),
        ("max.connections" | "max.connection.creation.rate", 0) => format!(
            "Invalid value org.apache.kafka.common.config.ConfigException: Invalid {name} 0 for configuration Invalid dynamic \
             configuration"
        ),
        _ => return Ok(()),
    };
    Err(ConfigError(message))
}

/// The broker's values by rank: set for it, set for all, given at start. What none of them names has its default.
pub fn effective(at_start: &Configs, all_brokers: Option<&Configs>, this_broker: Option<&Configs>) -> Configs {
    let mut values = at_start.clone();
    for layer in [all_brokers, this_broker].into_iter().flatten() {
        values.extend(layer.iter().map(|(name, value)| (name.clone(), value.clone())));
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&str, &str)]) -> Configs {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn tables_are_sorted_and_their_defaults_valid() {
        assert!(BROKER_CONFIGS.is_sorted_by(|a, b| a.name < b.name));
        assert!(DYNAMIC.is_sorted());
        for name in DYNAMIC {
            assert!(definition(name).is_some(), "{name}");
        }
        for definition in BROKER_CONFIGS {
            assert!(definition.default.is_none_or(|text| definition.parse(text).is_ok()), "{}", definition.name);
        }
    }

    #[test]
    fn only_dynamic_configs_are_set() {
        for (name, value, message) in [
            ("log.retention.ms", "5", ""),
            ("log.roll.ms", "1", ""),
            ("log.roll.ms", "0", "requirement failed: log.roll.ms must be greater than or equal to 1"),
            ("log.roll.jitter.ms", "-1", "requirement failed: log.roll.jitter.ms must be greater than or equal to 0"),
            ("leader.replication.throttled.rate", "100", ""),
            (
                "log.retention.ms",
                "0",
                "requirement failed: log.retention.ms must be unlimited (-1) or, greater than or equal to 1",
            ),
            (
                "max.connections",
                "0",
                "Invalid value org.apache.kafka.common.config.ConfigException: Invalid max.connections 0 for configuration \
                 Invalid dynamic configuration",
            ),
            ("plugin.setting", "x", ""),
            ("num.partitions", "5", "Cannot update these configs dynamically: [num.partitions]"),
            ("listeners", "PLAINTEXT://:1", "Cannot update these configs dynamically: [listeners]"),
            (
                "message.max.bytes",
                "-1",
                "Invalid value -1 for configuration message.max.bytes: Value must be at least 0",
            ),
            ("log.retention.ms", "x", "Invalid value x for configuration log.retention.ms: Not a number of type LONG"),
        ] {
            let answer = validate(&map(&[(name, value)])).map_or_else(|error| error.0, |()| String::new());
            assert_eq!(answer, message, "{name}");
        }
    }

    #[test]
    fn one_brokers_value_beats_that_of_all() {
        let start = map(&[("a", "start"), ("b", "start"), ("c", "start")]);
        let values = effective(&start, Some(&map(&[("b", "all"), ("c", "all")])), Some(&map(&[("c", "one")])));
        assert_eq!(values, map(&[("a", "start"), ("b", "all"), ("c", "one")]));
    }
}
