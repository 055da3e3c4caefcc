//! Configs as DescribeConfigs shows them: value, where it comes from, and who would give the next one (Kafka's `ConfigHelper`).

use std::collections::BTreeSet;

use crate::config::{KafkaSettings, kafka_configs};
use crate::meta::entry::ConfigResource;
use crate::meta::image::{Configs, Image};
use crate::types::broker_config::{self, BROKER_CONFIGS};
use crate::types::config_def::Definition;
use crate::types::group_config::{CLIENT_METRICS_CONFIGS, GROUP_CONFIGS};
use crate::types::topic_config::{self, TOPIC_CONFIGS};
use crate::types::{NodeId, broker_config::effective};

use super::ports::NodeInfo;

/// Kafka's numbers of the sources of a value (`DescribeConfigsResponse.ConfigSource`).
pub mod source {
    pub const TOPIC: i8 = 1;
    pub const BROKER: i8 = 2;
    pub const ALL_BROKERS: i8 = 3;
    pub const AT_START: i8 = 4;
    pub const DEFAULT: i8 = 5;
    pub const BROKER_LOGGER: i8 = 6;
    pub const CLIENT_METRICS: i8 = 7;
    pub const GROUP: i8 = 8;
}

/// Kafka's number for "type not known".
pub const UNKNOWN_TYPE: i8 = 0;

#[derive(Clone, Debug, PartialEq)]
pub struct SynonymEntry {
    pub name: String,
    pub value: Option<String>,
    pub source: i8,
}

#[derive(Clone, Debug, PartialEq)]
pub struct ConfigEntry {
    pub name: String,
    /// `None` also for a secret.
    pub value: Option<String>,
    pub read_only: bool,
    pub source: i8,
    pub sensitive: bool,
    /// Highest rank first; the first one gives the value.
    pub synonyms: Vec<SynonymEntry>,
    pub kind: i8,
    pub documentation: &'static str,
}

/// A broker's values by rank.
pub struct Layers<'a> {
    pub at_start: &'a Configs,
    pub all_brokers: Option<&'a Configs>,
    pub this_broker: Option<&'a Configs>,
}

/// What the process was started with, under Kafka's names.
pub fn at_start(kafka: &KafkaSettings, node: &NodeInfo) -> Configs {
    let mut values = kafka_configs(kafka);
    let listener = format!("{}://{}:{}", node.endpoint.listener, node.endpoint.host, node.endpoint.port);
    let own = [
        ("advertised.listeners", listener.clone()),
        ("broker.id", node.node_id.to_string()),
        ("inter.broker.listener.name", node.endpoint.listener.clone()),
        ("listeners", listener),
        ("log.dirs", node.store.clone()),
        ("node.id", node.node_id.to_string()),
        ("process.roles", "broker".to_owned()),
    ];
    values.extend(own.map(|(name, value)| (name.to_owned(), value)));
    if let Some(rack) = &node.rack {
        values.insert("broker.rack".to_owned(), rack.clone());
    }
    values
}

impl<'a> Layers<'a> {
    pub fn of(image: &'a Image, at_start: &'a Configs, node: NodeId) -> Layers<'a> {
        Layers {
            at_start,
            all_brokers: image.configs.get(&ConfigResource::Brokers),
            this_broker: image.configs.get(&ConfigResource::Broker(node)),
        }
    }

    pub fn effective(&self) -> Configs {
        effective(self.at_start, self.all_brokers, self.this_broker)
    }

    /// Everything that gives one of `names` a value, highest rank first. A default counts for the first name only, as in Kafka.
    fn synonyms(&self, names: &[&str], default: Option<&str>) -> Vec<SynonymEntry> {
        let mut found = Vec::new();
        let mut add = |name: &str, value: &str, source: i8| {
            let known = broker_config::definition(name);
            let value = known.map(|definition| definition.shown(value));
            found.push(SynonymEntry { name: name.to_owned(), value, source });
        };
        let layers = [(self.this_broker, source::BROKER), (self.all_brokers, source::ALL_BROKERS)];
        for (layer, source) in layers {
            for name in names {
                if let Some(value) = layer.and_then(|layer| layer.get(*name)) {
                    add(name, value, source);
                }
            }
        }
        for name in names {
            let value = self.at_start.get(*name);
            if let Some(value) = value.filter(|value| default_of(name) != Some(value.as_str())) {
                add(name, value, source::AT_START);
            }
        }
        if let Some(name) = names.first()
            && let Some(value) = default_of(name).or(default)
        {
            found.push(SynonymEntry {
                name: (*name).to_owned(),
                value: Some(value.to_owned()),
                source: source::DEFAULT,
            });
        }
        found
    }
}

fn default_of(name: &str) -> Option<&'static str> {
    broker_config::definition(name)?.default
}

/// One config whose own values stand in `own` and whose defaults come from the broker.
fn entry(
    definition: &'static Definition,
    own: &Configs,
    own_source: i8,
    layers: &Layers<'_>,
    broker: &Configs,
) -> ConfigEntry {
    let names: Vec<&str> = definition.synonyms.iter().map(|synonym| synonym.name).collect();
    // A broker default that the synonym does not have itself (group configs whose twin is not listed) is the config's.
    let fallback = names.first().filter(|name| broker_config::definition(name).is_none()).and(definition.default);
    let mut synonyms = layers.synonyms(&names, fallback);
    let own_value = own.get(definition.name);
    if let Some(value) = own_value {
        let value = Some(definition.shown(value));
        synonyms.insert(0, SynonymEntry { name: definition.name.to_owned(), value, source: own_source });
    }
    let inherited = || topic_config::inherited(definition, broker).map(|(_, value)| value);
    let value = own_value.cloned().or_else(inherited).or(definition.default.map(str::to_owned));
    ConfigEntry {
        name: definition.name.to_owned(),
        value: value.map(|value| definition.shown(&value)),
        read_only: false,
        source: synonyms.first().map_or(source::DEFAULT, |first| first.source),
        sensitive: false,
        synonyms,
        kind: definition.kind.code(),
        documentation: definition.documentation,
    }
}

pub fn topic_entries(topic: &Configs, layers: &Layers<'_>) -> Vec<ConfigEntry> {
    let broker = layers.effective();
    TOPIC_CONFIGS.iter().map(|definition| entry(definition, topic, source::TOPIC, layers, &broker)).collect()
}

pub fn group_entries(group: &Configs, layers: &Layers<'_>) -> Vec<ConfigEntry> {
    let broker = layers.effective();
    let entries = GROUP_CONFIGS.iter().map(|definition| {
        let mut entry = entry(definition, group, source::GROUP, layers, &broker);
        if definition.synonyms.is_empty() {
            let value = definition.default.map(str::to_owned);
            let default = SynonymEntry { name: definition.name.to_owned(), value, source: source::DEFAULT };
            entry.synonyms.push(default);
        }
        entry
    });
    entries.collect()
}

pub fn client_metrics_entries(subscription: &Configs) -> Vec<ConfigEntry> {
    let none = Configs::new();
    let layers = Layers { at_start: &none, all_brokers: None, this_broker: None };
    let entries = CLIENT_METRICS_CONFIGS.iter().map(|definition| {
        let mut entry = entry(definition, subscription, source::CLIENT_METRICS, &layers, &none);
        entry.synonyms.retain(|synonym| synonym.source == source::CLIENT_METRICS);
        entry
    });
    entries.collect()
}

/// All configs of a broker, and whatever else was set for it.
pub fn broker_entries(layers: &Layers<'_>) -> Vec<ConfigEntry> {
    let mut names: BTreeSet<&str> = BROKER_CONFIGS.iter().map(|definition| definition.name).collect();
    names.retain(|name| !broker_config::UNLESS_SET.contains(name) || layers.at_start.contains_key(*name));
    for layer in [layers.this_broker, layers.all_brokers].into_iter().flatten() {
        names.extend(layer.keys().map(String::as_str));
    }
    names.into_iter().map(|name| broker_entry(name, layers.synonyms(&[name], None))).collect()
}

/// What was set for all brokers, and nothing else.
pub fn all_brokers_entries(set: Option<&Configs>) -> Vec<ConfigEntry> {
    let none = Configs::new();
    let layers = Layers { at_start: &none, all_brokers: set, this_broker: None };
    let names = set.into_iter().flat_map(|set| set.keys());
    let only_set = |name: &String| {
        let mut synonyms = layers.synonyms(&[name], None);
        synonyms.retain(|synonym| synonym.source == source::ALL_BROKERS);
        broker_entry(name, synonyms)
    };
    names.map(only_set).collect()
}

fn broker_entry(name: &str, synonyms: Vec<SynonymEntry>) -> ConfigEntry {
    let definition = broker_config::definition(name);
    ConfigEntry {
        name: name.to_owned(),
        value: synonyms.first().and_then(|first| first.value.clone()),
        read_only: definition.is_some() && !broker_config::is_dynamic(name),
        source: synonyms.first().map_or(source::DEFAULT, |first| first.source),
        // What the table does not know may be a secret.
        sensitive: definition.is_none(),
        synonyms,
        kind: definition.map_or(UNKNOWN_TYPE, |definition| definition.kind.code()),
        documentation: definition.map_or("", |definition| definition.documentation),
    }
}

#[cfg(test)]
#[path = "config_view_tests.rs"]
mod tests;
