//! All topic configs of Kafka 4.3 (`LogConfig`, `TopicConfig`), sorted by name.

use super::config_def::Check::{Any, Between, GzipLevel, ListOf, Min, OneOf, Ratio, ThrottledReplicas};
use super::config_def::Kind::{Boolean, Double, Int, List, Long, String};
use super::config_def::{Check, Definition, Kind, Synonym, Unit};

const fn row(
    name: &'static str,
    kind: Kind,
    default: &'static str,
    check: Check,
    synonyms: &'static [Synonym],
    documentation: &'static str,
) -> Definition {
    Definition { name, kind, default: Some(default), check, synonyms, documentation }
}

const fn same(name: &'static str) -> Synonym {
    Synonym { name, unit: Unit::Same }
}

const FOR_EVER: &str = "9223372036854775807";

/// Codecs of `compression.type`, in the order in which Kafka's message names them.
pub const COMPRESSION_TYPES: &[&str] = &["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"];

/// Every topic config; the order by name lets [`super::config_def::find`] search it.
#[rustfmt::skip]
pub static TOPIC_CONFIGS: &[Definition] = &[
    row("cleanup.policy", List, "delete", ListOf(&["compact", "delete"]), &[same("log.cleanup.policy")],
        "What happens to old records: delete removes them by age and size, compact keeps the newest of each key; both may be set, none keeps everything."),
    row("compression.gzip.level", Int, "-1", GzipLevel, &[same("compression.gzip.level")],
        "Level of gzip where the broker compresses itself."),
    row("compression.lz4.level", Int, "9", Between(1, 17), &[same("compression.lz4.level")],
        "Level of lz4 where the broker compresses itself."),
    row("compression.type", String, "producer", OneOf(COMPRESSION_TYPES), &[same("compression.type")],
        "Codec in which batches are stored; producer leaves them as they come."),
    row("compression.zstd.level", Int, "3", Between(-131_072, 22), &[same("compression.zstd.level")],
        "Level of zstd where the broker compresses itself."),
    row("delete.retention.ms", Long, "86400000", Min(0), &[same("log.cleaner.delete.retention.ms")],
        "How long a compacted topic keeps tombstones, in milliseconds."),
    row("file.delete.delay.ms", Long, "60000", Min(0), &[same("log.segment.delete.delay.ms")],
        "Accepted for Kafka's tools; objects go away by the rules of garbage collection."),
    row("flush.messages", Long, FOR_EVER, Min(1), &[same("log.flush.interval.messages")],
        "Accepted for Kafka's tools; every acknowledged record is durable."),
    row("flush.ms", Long, FOR_EVER, Min(0), &[same("log.flush.interval.ms"), same("log.flush.scheduler.interval.ms")],
        "Accepted for Kafka's tools; every acknowledged record is durable."),
    row("follower.replication.throttled.replicas", List, "", ThrottledReplicas, &[],
        "Accepted for Kafka's tools; there is no replication between brokers."),
    row("index.interval.bytes", Int, "4096", Min(0), &[same("log.index.interval.bytes")],
        "Accepted for Kafka's tools; indexes hold every batch."),
    row("leader.replication.throttled.replicas", List, "", ThrottledReplicas, &[],
        "Accepted for Kafka's tools; there is no replication between brokers."),
    row("local.retention.bytes", Long, "-2", Min(-2), &[same("log.local.retention.bytes")],
        "Accepted for Kafka's tools; there is no local tier."),
    row("local.retention.ms", Long, "-2", Min(-2), &[same("log.local.retention.ms")],
        "Accepted for Kafka's tools; there is no local tier."),
    row("max.compaction.lag.ms", Long, FOR_EVER, Min(1), &[same("log.cleaner.max.compaction.lag.ms")],
        "A record is compacted at the latest after this time, in milliseconds."),
    row("max.message.bytes", Int, "1048588", Min(0), &[same("message.max.bytes")],
        "Largest record batch that is taken, in bytes as it arrives."),
    row("message.timestamp.after.max.ms", Long, "3600000", Min(0), &[same("log.message.timestamp.after.max.ms")],
        "How far a record's timestamp may lie ahead of the broker's clock, in milliseconds."),
    row("message.timestamp.before.max.ms", Long, FOR_EVER, Min(0), &[same("log.message.timestamp.before.max.ms")],
        "How far a record's timestamp may lie behind the broker's clock, in milliseconds."),
    row("message.timestamp.type", String, "CreateTime", OneOf(&["CreateTime", "LogAppendTime"]), &[same("log.message.timestamp.type")],
        "Whether a record keeps its producer's time or gets that of its arrival."),
    row("min.cleanable.dirty.ratio", Double, "0.5", Ratio, &[same("log.cleaner.min.cleanable.ratio")],
        "Share of uncompacted data from which compaction starts."),
    row("min.compaction.lag.ms", Long, "0", Min(0), &[same("log.cleaner.min.compaction.lag.ms")],
        "A record stays uncompacted at least for this time, in milliseconds."),
    row("min.insync.replicas", Int, "1", Min(1), &[same("min.insync.replicas")],
        "Accepted for Kafka's tools; the object store keeps the copies."),
    row("preallocate", Boolean, "false", Any, &[same("log.preallocate")],
        "Accepted for Kafka's tools; there are no log files."),
    row("remote.log.copy.disable", Boolean, "false", Any, &[],
        "Accepted for Kafka's tools; there is no second tier."),
    row("remote.log.delete.on.disable", Boolean, "false", Any, &[],
        "Accepted for Kafka's tools; there is no second tier."),
    row("remote.storage.enable", Boolean, "false", Any, &[],
        "Always false: all data is in the object store anyway."),
    row("retention.bytes", Long, "-1", Any, &[same("log.retention.bytes")],
        "How many bytes of a partition are kept; -1 sets no limit."),
    row("retention.ms", Long, "604800000", Min(-1), &[same("log.retention.ms"),
        Synonym { name: "log.retention.minutes", unit: Unit::Minutes }, Synonym { name: "log.retention.hours", unit: Unit::Hours }],
        "How long records are kept, in milliseconds; -1 sets no limit."),
    row("segment.bytes", Int, "1073741824", Min(1_048_576), &[same("log.segment.bytes")],
        "Accepted for Kafka's tools; objects are cut by the flush and merge rules."),
    row("segment.index.bytes", Int, "10485760", Min(4), &[same("log.index.size.max.bytes")],
        "Accepted for Kafka's tools; indexes are in memory."),
    row("segment.jitter.ms", Long, "0", Min(0), &[same("log.roll.jitter.ms"),
        Synonym { name: "log.roll.jitter.hours", unit: Unit::Hours }],
        "Accepted for Kafka's tools; objects are cut by the flush and merge rules."),
    row("segment.ms", Long, "604800000", Min(1), &[same("log.roll.ms"), Synonym { name: "log.roll.hours", unit: Unit::Hours }],
        "Accepted for Kafka's tools; objects are cut by the flush and merge rules."),
    row("unclean.leader.election.enable", Boolean, "false", Any, &[same("unclean.leader.election.enable")],
        "Accepted for Kafka's tools; a new holder always knows everything that was acknowledged."),
];
