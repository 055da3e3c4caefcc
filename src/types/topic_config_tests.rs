use super::*;

fn map(pairs: &[(&str, &str)]) -> Configs {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// What Kafka 4.3.1 answers when the value is set: "" for success; `R…` stands for "Invalid value <value> for configuration <name>: …".
#[rustfmt::skip]
const ANSWERS: &[(&str, &str, &str)] = &[
    ("cleanup.policy", "delete", ""), ("cleanup.policy", "compact,delete", ""), ("cleanup.policy", "", ""),
    ("cleanup.policy", " compact , delete ", ""), ("cleanup.policy", "delete,delete", ""),
    ("cleanup.policy", "bogus", "RString must be one of: compact, delete"), ("cleanup.policy", "Delete", "RString must be one of: compact, delete"),
    ("cleanup.policy", "delete,bogus", "Invalid value bogus for configuration cleanup.policy: String must be one of: compact, delete"),
    ("cleanup.policy", ",", "Configuration 'cleanup.policy' values must not be empty."),
    ("cleanup.policy", "delete,", "Configuration 'cleanup.policy' values must not be empty."),
    ("compression.type", "zstd", ""), ("compression.type", " gzip ", ""),
    ("compression.type", "none", "RString must be one of: uncompressed, zstd, lz4, snappy, gzip, producer"),
    ("compression.type", "ZSTD", "RString must be one of: uncompressed, zstd, lz4, snappy, gzip, producer"),
    ("compression.gzip.level", "-1", ""), ("compression.gzip.level", "9", ""),
    ("compression.gzip.level", "0", "RValue must be between 1 and 9 or equal to -1"), ("compression.gzip.level", "10", "RValue must be between 1 and 9 or equal to -1"),
    ("compression.gzip.level", "x", "RNot a number of type INT"),
    ("compression.lz4.level", "17", ""), ("compression.lz4.level", "0", "RValue must be at least 1"), ("compression.lz4.level", "18", "RValue must be no more than 17"),
    ("compression.lz4.level", "9.5", "RNot a number of type INT"),
    ("compression.zstd.level", "-5", ""), ("compression.zstd.level", "-131073", "RValue must be at least -131072"), ("compression.zstd.level", "23", "RValue must be no more than 22"),
    ("delete.retention.ms", "0", ""), ("delete.retention.ms", "  5 ", ""), ("delete.retention.ms", "+5", ""),
    ("delete.retention.ms", "-1", "RValue must be at least 0"), ("delete.retention.ms", "9223372036854775808", "RNot a number of type LONG"),
    ("delete.retention.ms", "", "RNot a number of type LONG"), ("delete.retention.ms", "1e3", "RNot a number of type LONG"),
    ("file.delete.delay.ms", "1", ""), ("file.delete.delay.ms", "-1", "RValue must be at least 0"),
    ("flush.messages", "1", ""), ("flush.messages", "0", "RValue must be at least 1"),
    ("flush.ms", "0", ""), ("flush.ms", "-1", "RValue must be at least 0"),
    ("follower.replication.throttled.replicas", "*", ""), ("follower.replication.throttled.replicas", "0:1,1:1", ""),
    ("follower.replication.throttled.replicas", "", ""), ("follower.replication.throttled.replicas", "0:1 , 1:2", ""),
    ("leader.replication.throttled.replicas", "*", ""),
    ("index.interval.bytes", "0", ""), ("index.interval.bytes", "-1", "RValue must be at least 0"), ("index.interval.bytes", "2147483648", "RNot a number of type INT"),
    ("local.retention.bytes", "5000", ""), ("local.retention.bytes", "-3", "RValue must be at least -2"),
    ("local.retention.ms", "604800001", ""), ("local.retention.ms", "-3", "RValue must be at least -2"),
    ("max.compaction.lag.ms", "100", ""), ("max.compaction.lag.ms", "0", "RValue must be at least 1"),
    ("max.message.bytes", "0", ""), ("max.message.bytes", "-1", "RValue must be at least 0"),
    ("message.timestamp.after.max.ms", "0", ""), ("message.timestamp.after.max.ms", "-1", "RValue must be at least 0"),
    ("message.timestamp.before.max.ms", "0", ""), ("message.timestamp.before.max.ms", "-1", "RValue must be at least 0"),
    ("message.timestamp.type", "LogAppendTime", ""), ("message.timestamp.type", "logappendtime", "RString must be one of: CreateTime, LogAppendTime"),
    ("min.cleanable.dirty.ratio", "0.01", ""), ("min.cleanable.dirty.ratio", "1", ""), ("min.cleanable.dirty.ratio", "1d", ""), ("min.cleanable.dirty.ratio", "NaN", ""),
    ("min.cleanable.dirty.ratio", "-0.1", "RValue must be at least 0"), ("min.cleanable.dirty.ratio", "1.1", "RValue must be no more than 1"),
    ("min.cleanable.dirty.ratio", "x", "RNot a number of type DOUBLE"), ("min.cleanable.dirty.ratio", "inf", "RNot a number of type DOUBLE"),
    ("min.compaction.lag.ms", "5", ""), ("min.compaction.lag.ms", "-1", "RValue must be at least 0"),
    ("min.insync.replicas", "3", ""), ("min.insync.replicas", "0", "RValue must be at least 1"),
    ("preallocate", "TRUE", ""), ("preallocate", " true ", ""), ("preallocate", "", "RExpected value to be either true or false"),
    ("preallocate", "yes", "RExpected value to be either true or false"),
    ("remote.storage.enable", "false", ""), ("remote.storage.enable", "x", "RExpected value to be either true or false"),
    ("remote.storage.enable", "true", "Tiered Storage functionality is disabled in the broker. Topic cannot be configured with remote log storage."),
    ("remote.log.copy.disable", "true", ""), ("remote.log.copy.disable", "1", "RExpected value to be either true or false"),
    ("remote.log.delete.on.disable", "true", ""), ("remote.log.delete.on.disable", "1", "RExpected value to be either true or false"),
    ("retention.bytes", "-5", ""), ("retention.bytes", "x", "RNot a number of type LONG"),
    ("retention.ms", "-1", ""), ("retention.ms", "1", ""), ("retention.ms", "-2", "RValue must be at least -1"),
    ("segment.bytes", "1048576", ""), ("segment.bytes", "1048575", "RValue must be at least 1048576"), ("segment.bytes", "2147483648", "RNot a number of type INT"),
    ("segment.index.bytes", "4", ""), ("segment.index.bytes", "3", "RValue must be at least 4"),
    ("segment.jitter.ms", "0", ""), ("segment.jitter.ms", "-1", "RValue must be at least 0"),
    ("segment.ms", "500", ""), ("segment.ms", "0", "RValue must be at least 1"),
    ("unclean.leader.election.enable", "true", ""), ("unclean.leader.election.enable", "1", "RExpected value to be either true or false"),
    ("internal.segment.bytes", "100", ""),
    ("nope", "1", "Unknown topic config name: nope"), ("message.format.version", "2.8", "Unknown topic config name: message.format.version"),
    ("", "", "Unknown topic config name: "),
];

#[test]
fn values_are_judged_as_in_kafka() {
    for (name, value, message) in ANSWERS {
        let expected = match message.strip_prefix('R') {
            Some(reason) => format!("Invalid value {value} for configuration {name}: {reason}"),
            None => (*message).to_owned(),
        };
        let answer = validate(&map(&[(name, value)]), &Configs::new()).map_or_else(|error| error.0, |()| String::new());
        assert_eq!(answer, expected, "{name}={value}");
    }
}

#[test]
fn throttled_replicas_are_judged_as_in_kafka() {
    for name in ["follower.replication.throttled.replicas", "leader.replication.throttled.replicas"] {
        for (value, shown) in [
            ("x", "[x]"),
            ("0:", "[0:]"),
            ("*,0:1", "[*, 0:1]"),
            ("0:1:2", "[0:1:2]"),
            ("-1:1", "[-1:1]"),
            ("none", "[none]"),
        ] {
            let answer = validate(&map(&[(name, value)]), &Configs::new());
            let expected = format!(
                "Invalid value {shown} for configuration {name}: {name} must be the literal '*' or a list of replicas in the \
                 following format: [partitionId]:[brokerId],[partitionId]:[brokerId],..."
            );
            assert_eq!(answer, Err(ConfigError(expected)));
        }
    }
}

#[test]
fn every_config_has_a_judged_value_and_a_valid_default() {
    assert!(TOPIC_CONFIGS.is_sorted_by(|a, b| a.name < b.name));
    assert_eq!(TOPIC_CONFIGS.len(), 33);
    for definition in TOPIC_CONFIGS {
        assert!(
            ANSWERS.iter().any(|(name, _, message)| *name == definition.name && message.is_empty()),
            "{}",
            definition.name
        );
        assert!(definition.default.is_some_and(|text| definition.parse(text).is_ok()), "{}", definition.name);
        assert!(!definition.documentation.is_empty());
    }
}

#[test]
fn a_contradiction_is_refused() {
    let configs = map(&[("min.compaction.lag.ms", "10"), ("max.compaction.lag.ms", "9")]);
    let message = "conflict topic config setting min.compaction.lag.ms (10) > max.compaction.lag.ms (9)";
    assert_eq!(validate(&configs, &Configs::new()), Err(ConfigError(message.to_owned())));
}

#[test]
fn the_view_takes_topic_then_broker_then_default() {
    let view = TopicConfig::from(&Configs::new(), &Configs::new());
    assert_eq!((view.retention_ms, view.max_message_bytes), (604_800_000, 1_048_588));
    assert_eq!((view.cleanup_compact, view.cleanup_delete), (false, true));
    assert_eq!(view.compression, TopicCompression::Producer);
    let broker = map(&[("log.retention.hours", "2"), ("log.cleanup.policy", "compact"), ("compression.type", "zstd")]);
    let view = TopicConfig::from(&map(&[("compression.zstd.level", " 7 ")]), &broker);
    assert_eq!((view.retention_ms, view.cleanup_compact, view.cleanup_delete), (7_200_000, true, false));
    assert_eq!(view.compression, TopicCompression::Zstd(7));
    let broker = map(&[("log.retention.hours", "2"), ("log.retention.minutes", "-1"), ("message.max.bytes", "77")]);
    let view = TopicConfig::from(&map(&[("cleanup.policy", "")]), &broker);
    assert_eq!((view.retention_ms, view.max_message_bytes), (-1, 77));
    assert_eq!((view.cleanup_compact, view.cleanup_delete), (false, false));
    let view = TopicConfig::from(&map(&[("retention.ms", "5"), ("message.timestamp.type", "LogAppendTime")]), &broker);
    assert_eq!((view.retention_ms, view.timestamp_type), (5, TimestampType::LogAppendTime));
}

#[test]
fn values_are_shown_as_kafka_shows_them() {
    for (name, stored, shown) in [
        ("cleanup.policy", " compact , delete ", "compact,delete"),
        ("cleanup.policy", "delete,delete,compact,delete", "delete,compact"),
        ("leader.replication.throttled.replicas", "0:1,", "0:1,"),
        ("leader.replication.throttled.replicas", "*,", "*,"),
        ("min.cleanable.dirty.ratio", "1e-4", "1.0E-4"),
        ("min.cleanable.dirty.ratio", "1e-3", "0.001"),
        ("preallocate", "TRUE", "true"),
        ("retention.ms", "+5", "5"),
        ("min.cleanable.dirty.ratio", "1", "1.0"),
        ("compression.type", " gzip ", "gzip"),
        ("retention.ms", "broken", "broken"),
    ] {
        assert_eq!(definition(name).map(|definition| definition.shown(stored)).as_deref(), Some(shown));
    }
}
