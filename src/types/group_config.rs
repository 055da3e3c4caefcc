//! Configs of groups and of client metrics subscriptions (Kafka's `GroupConfig` and `ClientMetricsConfigs`), sorted by name.
//!
//! A group config takes its default from the broker config `group.<name>` and must lie within `group.<type>.min.…` and
//! `group.<type>.max.…` of the broker.

use std::collections::BTreeMap;

use super::broker_config;
use super::config_def::Check::{Any, Min, OffsetReset, OneOf};
use super::config_def::Kind::{Boolean, Int, List, String as Text};
use super::config_def::{ConfigError, Definition, Value, find, row, same};

type Configs = BTreeMap<String, String>;

#[rustfmt::skip]
pub static GROUP_CONFIGS: &[Definition] = &[
    row("consumer.assignment.interval.ms", Int, "1000", Min(0), &[same("group.consumer.assignment.interval.ms")],
        "Shortest time between two assignments of a consumer group."),
    row("consumer.heartbeat.interval.ms", Int, "5000", Min(1), &[same("group.consumer.heartbeat.interval.ms")],
        "How often members of a consumer group send heartbeats."),
    row("consumer.session.timeout.ms", Int, "45000", Min(1), &[same("group.consumer.session.timeout.ms")],
        "A member of a consumer group without heartbeats is removed after this time."),
    row("share.assignment.interval.ms", Int, "1000", Min(0), &[same("group.share.assignment.interval.ms")],
        "Shortest time between two assignments of a share group."),
    row("share.auto.offset.reset", Text, "latest", OffsetReset, &[],
        "Where a share group without a position starts."),
    row("share.delivery.count.limit", Int, "5", Min(2), &[same("group.share.delivery.count.limit")],
        "How often a record is delivered before it is given up."),
    row("share.heartbeat.interval.ms", Int, "5000", Min(1), &[same("group.share.heartbeat.interval.ms")],
        "How often members of a share group send heartbeats."),
    row("share.isolation.level", Text, "read_uncommitted", OneOf(&["read_committed", "read_uncommitted"]), &[],
        "Whether a share group sees records of open transactions."),
    row("share.partition.max.record.locks", Int, "2000", Min(100), &[same("group.share.partition.max.record.locks")],
        "Most records of a partition that a share group holds at a time."),
    row("share.record.lock.duration.ms", Int, "30000", Min(1000), &[same("group.share.record.lock.duration.ms")],
        "How long a record is held for a member of a share group."),
    row("share.renew.acknowledge.enable", Boolean, "true", Any, &[],
        "Whether members of a share group may hold a record longer."),
    row("share.session.timeout.ms", Int, "45000", Min(1), &[same("group.share.session.timeout.ms")],
        "A member of a share group without heartbeats is removed after this time."),
    row("streams.assignment.interval.ms", Int, "1000", Min(0), &[same("group.streams.assignment.interval.ms")],
        "Shortest time between two assignments of a streams group."),
    row("streams.heartbeat.interval.ms", Int, "5000", Min(1), &[same("group.streams.heartbeat.interval.ms")],
        "How often members of a streams group send heartbeats."),
    row("streams.initial.rebalance.delay.ms", Int, "3000", Min(0), &[same("group.streams.initial.rebalance.delay.ms")],
        "How long a new streams group waits for more members."),
    row("streams.num.standby.replicas", Int, "0", Min(0), &[same("group.streams.num.standby.replicas")],
        "Spare copies of each task's state."),
    row("streams.session.timeout.ms", Int, "45000", Min(1), &[same("group.streams.session.timeout.ms")],
        "A member of a streams group without heartbeats is removed after this time."),
];

#[rustfmt::skip]
pub static CLIENT_METRICS_CONFIGS: &[Definition] = &[
    row("interval.ms", Int, "300000", Any, &[], "How often clients push their metrics."),
    row("match", List, "", Any, &[], "Which clients are meant: name=pattern, all of which must fit."),
    row("metrics", List, "", Any, &[], "Prefixes of the metrics that are wanted; * for all."),
];

/// Bounds that the broker sets: group config, `min` or `max`, broker config, its default.
const BOUNDS: &[(&str, bool, &str, i64)] = &[
    ("consumer.heartbeat.interval.ms", false, "group.consumer.min.heartbeat.interval.ms", 5000),
    ("consumer.heartbeat.interval.ms", true, "group.consumer.max.heartbeat.interval.ms", 15_000),
    ("consumer.session.timeout.ms", false, "group.consumer.min.session.timeout.ms", 45_000),
    ("consumer.session.timeout.ms", true, "group.consumer.max.session.timeout.ms", 60_000),
    ("consumer.assignment.interval.ms", false, "group.consumer.min.assignment.interval.ms", 0),
    ("consumer.assignment.interval.ms", true, "group.consumer.max.assignment.interval.ms", 15_000),
    ("share.heartbeat.interval.ms", false, "group.share.min.heartbeat.interval.ms", 5000),
    ("share.heartbeat.interval.ms", true, "group.share.max.heartbeat.interval.ms", 15_000),
    ("share.session.timeout.ms", false, "group.share.min.session.timeout.ms", 45_000),
    ("share.session.timeout.ms", true, "group.share.max.session.timeout.ms", 60_000),
    ("share.record.lock.duration.ms", false, "group.share.min.record.lock.duration.ms", 15_000),
    ("share.record.lock.duration.ms", true, "group.share.max.record.lock.duration.ms", 60_000),
    ("share.delivery.count.limit", false, "group.share.min.delivery.count.limit", 2),
    ("share.delivery.count.limit", true, "group.share.max.delivery.count.limit", 10),
    ("share.partition.max.record.locks", false, "group.share.min.partition.max.record.locks", 100),
    ("share.partition.max.record.locks", true, "group.share.max.partition.max.record.locks", 4000),
    ("share.assignment.interval.ms", false, "group.share.min.assignment.interval.ms", 0),
    ("share.assignment.interval.ms", true, "group.share.max.assignment.interval.ms", 15_000),
    ("streams.heartbeat.interval.ms", false, "group.streams.min.heartbeat.interval.ms", 5000),
    ("streams.heartbeat.interval.ms", true, "group.streams.max.heartbeat.interval.ms", 15_000),
    ("streams.session.timeout.ms", false, "group.streams.min.session.timeout.ms", 45_000),
    ("streams.session.timeout.ms", true, "group.streams.max.session.timeout.ms", 60_000),
    ("streams.num.standby.replicas", true, "group.streams.max.standby.replicas", 2),
    ("streams.assignment.interval.ms", false, "group.streams.min.assignment.interval.ms", 0),
    ("streams.assignment.interval.ms", true, "group.streams.max.assignment.interval.ms", 15_000),
];

pub fn definition(name: &str) -> Option<&'static Definition> {
    find(GROUP_CONFIGS, name)
}

/// Checks all configs of a group; `broker` are the broker's effective values.
pub fn validate(group: &Configs, broker: &Configs) -> Result<(), ConfigError> {
    let mut numbers = BTreeMap::new();
    for (name, text) in group {
        let Some(definition) = definition(name) else {
            return Err(ConfigError(format!("Unknown group config name: {name}")));
        };
        if let Value::Integer(number) = definition.parse(text)? {
            numbers.insert(name.as_str(), number);
        }
    }
    for (name, is_max, bound_name, default) in BOUNDS {
        let Some(number) = numbers.get(name) else { continue };
        let own = broker.get(*bound_name).and_then(|text| text.trim().parse().ok());
        let bound = own.or_else(|| broker_config::definition(bound_name)?.default?.parse().ok()).unwrap_or(*default);
        if *is_max && *number > bound {
            return Err(ConfigError(format!("{name} must be less than or equal to {bound_name}")));
        }
        if !*is_max && *number < bound {
            return Err(ConfigError(format!("{name} must be greater than or equal to {bound_name}")));
        }
    }
    Ok(())
}

/// Why a client metrics subscription is refused: Kafka answers the two with different codes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MetricsError {
    /// INVALID_REQUEST
    Request(String),
    /// INVALID_CONFIG
    Config(ConfigError),
}

/// Checks all configs of a client metrics subscription.
pub fn validate_client_metrics(subscription: &Configs) -> Result<(), MetricsError> {
    for (name, text) in subscription {
        let Some(definition) = find(CLIENT_METRICS_CONFIGS, name) else {
            return Err(MetricsError::Request(format!("Unknown client metrics configuration: {name}")));
        };
        match (name.as_str(), definition.parse(text).map_err(MetricsError::Config)?) {
            ("interval.ms", Value::Integer(interval)) if !(100..=3_600_000).contains(&interval) => {
                return Err(MetricsError::Request(format!(
                    "Invalid value {interval} for interval.ms, interval must be between 100 and 3600000 (1 hour)"
                )));
            }
            ("match", Value::List(patterns)) => {
                if let Some(pattern) = patterns.iter().find(|pattern| !client_pattern(pattern)) {
                    let error = ConfigError(format!("Illegal client matching pattern: {pattern}"));
                    return Err(MetricsError::Config(error));
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// `name=regular expression`. The expression is only checked for open groups and classes: nothing matches clients yet.
fn client_pattern(pattern: &str) -> bool {
    const NAMES: [&str; 6] = [
        "client_id",
        "client_instance_id",
        "client_software_name",
        "client_software_version",
        "client_source_address",
        "client_source_port",
    ];
    let Some((name, expression)) = pattern.split_once('=') else { return false };
    let balanced = |open, close| expression.matches(open).count() == expression.matches(close).count();
    NAMES.contains(&name.trim()) && !expression.trim().is_empty() && balanced('[', ']') && balanced('(', ')')
}

#[cfg(test)]
#[path = "group_config_tests.rs"]
mod tests;
