use super::*;

fn one(name: &str, value: &str) -> Configs {
    BTreeMap::from([(name.to_owned(), value.to_owned())])
}

#[test]
fn tables_are_sorted_and_their_defaults_valid() {
    for table in [GROUP_CONFIGS, CLIENT_METRICS_CONFIGS] {
        assert!(table.is_sorted_by(|a, b| a.name < b.name));
        for definition in table {
            assert!(definition.default.is_some_and(|text| definition.parse(text).is_ok()), "{}", definition.name);
        }
    }
    for (name, ..) in BOUNDS {
        assert!(definition(name).is_some(), "{name}");
    }
}

#[test]
fn group_values_are_judged_as_in_kafka() {
    let reset = |value: &str| {
        format!(
            "Invalid value {value} for configuration share.auto.offset.reset: Invalid value `{value}` for configuration \
             share.auto.offset.reset. The value must be either 'earliest', 'latest' or of the format 'by_duration:<PnDTnHnMn.nS>'."
        )
    };
    let (x, duration, negative) = (reset("x"), reset("by_duration:x"), reset("by_duration:-PT1H"));
    for (name, value, message) in [
        ("consumer.session.timeout.ms", "45000", ""),
        (
            "consumer.session.timeout.ms",
            "44999",
            "consumer.session.timeout.ms must be greater than or equal to group.consumer.min.session.timeout.ms",
        ),
        (
            "consumer.session.timeout.ms",
            "60001",
            "consumer.session.timeout.ms must be less than or equal to group.consumer.max.session.timeout.ms",
        ),
        (
            "consumer.session.timeout.ms",
            "x",
            "Invalid value x for configuration consumer.session.timeout.ms: Not a number of type INT",
        ),
        (
            "consumer.session.timeout.ms",
            "0",
            "Invalid value 0 for configuration consumer.session.timeout.ms: Value must be at least 1",
        ),
        (
            "consumer.heartbeat.interval.ms",
            "4999",
            "consumer.heartbeat.interval.ms must be greater than or equal to group.consumer.min.heartbeat.interval.ms",
        ),
        (
            "consumer.heartbeat.interval.ms",
            "15001",
            "consumer.heartbeat.interval.ms must be less than or equal to group.consumer.max.heartbeat.interval.ms",
        ),
        (
            "consumer.assignment.interval.ms",
            "-1",
            "Invalid value -1 for configuration consumer.assignment.interval.ms: Value must be at least 0",
        ),
        (
            "consumer.assignment.interval.ms",
            "15001",
            "consumer.assignment.interval.ms must be less than or equal to group.consumer.max.assignment.interval.ms",
        ),
        (
            "share.record.lock.duration.ms",
            "999",
            "Invalid value 999 for configuration share.record.lock.duration.ms: Value must be at least 1000",
        ),
        (
            "share.record.lock.duration.ms",
            "14999",
            "share.record.lock.duration.ms must be greater than or equal to group.share.min.record.lock.duration.ms",
        ),
        ("share.record.lock.duration.ms", "15000", ""),
        (
            "share.delivery.count.limit",
            "1",
            "Invalid value 1 for configuration share.delivery.count.limit: Value must be at least 2",
        ),
        (
            "share.delivery.count.limit",
            "11",
            "share.delivery.count.limit must be less than or equal to group.share.max.delivery.count.limit",
        ),
        (
            "share.partition.max.record.locks",
            "4001",
            "share.partition.max.record.locks must be less than or equal to group.share.max.partition.max.record.locks",
        ),
        ("share.auto.offset.reset", "earliest", ""),
        ("share.auto.offset.reset", "by_duration:PT1H", ""),
        ("share.auto.offset.reset", "by_duration:P1DT2H3M4.5S", ""),
        ("share.auto.offset.reset", "x", x.as_str()),
        ("share.auto.offset.reset", "by_duration:x", duration.as_str()),
        ("share.auto.offset.reset", "by_duration:-PT1H", negative.as_str()),
        (
            "share.isolation.level",
            "x",
            "Invalid value x for configuration share.isolation.level: String must be one of: read_committed, read_uncommitted",
        ),
        (
            "share.renew.acknowledge.enable",
            "x",
            "Invalid value x for configuration share.renew.acknowledge.enable: Expected value to be either true or false",
        ),
        (
            "streams.num.standby.replicas",
            "3",
            "streams.num.standby.replicas must be less than or equal to group.streams.max.standby.replicas",
        ),
        ("nope", "x", "Unknown group config name: nope"),
    ] {
        let answer = validate(&one(name, value), &Configs::new()).map_or_else(|error| error.0, |()| String::new());
        assert_eq!(answer, message, "{name}={value}");
    }
}

#[test]
fn durations_have_their_parts_in_order() {
    for bad in ["P", "PT", "1H", "PT1", "PT1S2H", "PT1.5H", "P1H", "PTH"] {
        let text = format!("by_duration:{bad}");
        assert!(validate(&one("share.auto.offset.reset", &text), &Configs::new()).is_err(), "{bad}");
    }
}

#[test]
fn subscriptions_are_judged_as_in_kafka() {
    let interval = |value| {
        MetricsError::Request(format!(
            "Invalid value {value} for interval.ms, interval must be between 100 and 3600000 (1 hour)"
        ))
    };
    let pattern = |value| MetricsError::Config(ConfigError(format!("Illegal client matching pattern: {value}")));
    for (name, value, answer) in [
        ("interval.ms", "100", Ok(())),
        ("interval.ms", "99", Err(interval("99"))),
        ("interval.ms", "3600001", Err(interval("3600001"))),
        ("metrics", "a,b", Ok(())),
        ("metrics", "", Ok(())),
        ("match", "client_id=a,client_software_name=b", Ok(())),
        ("match", "", Ok(())),
        ("match", "x", Err(pattern("x"))),
        ("match", "foo=a", Err(pattern("foo=a"))),
        ("match", "client_id=[", Err(pattern("client_id=["))),
        ("match", "client_id=", Err(pattern("client_id="))),
        ("nope", "x", Err(MetricsError::Request("Unknown client metrics configuration: nope".to_owned()))),
    ] {
        assert_eq!(validate_client_metrics(&one(name, value)), answer, "{name}={value}");
    }
}
