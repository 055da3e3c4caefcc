//! What AlterConfigs and IncrementalAlterConfigs share: from resources and operations to one change each (Kafka's
//! `ConfigAdminManager` and `ConfigurationControlManager`, with their codes and messages).

use std::collections::{BTreeMap, BTreeSet};

use kafka_protocol::error::ResponseError;
use kafka_protocol::protocol::StrBytes;

use super::config_resource::Kind;
use super::config_view::Layers;
use super::create_topics::value_sizes;
use super::describe_configs::broker_id;
use super::ports::{AdminServices, NodeInfo};
use super::refusal::{Refusal, decide, json_bytes, runs, string};
use super::topic_view::{live_brokers, topic_named};
use super::turns::Turns;
use crate::meta::entry::{Change, ConfigResource};
use crate::meta::image::{Configs, Image};
use crate::types::config_def::{Definition, Kind as ConfigKind};
use crate::types::group_config::{self, MetricsError};
use crate::types::{broker_config, config_def, topic_config, topic_name};

/// Groups, subscriptions and brokers that may have configs of their own.
const MAX_RESOURCES: usize = 10_000;

/// Configs that one resource may have. Kafka's tables are far smaller; names that they do not hold may be set for brokers.
const MAX_CONFIGS: usize = 500;

/// Longest name of a resource or config.
const MAX_NAME_BYTES: usize = 1024;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    Set(String),
    Delete,
    Append(String),
    Subtract(String),
}

/// One resource of a request.
#[derive(Clone, Debug)]
pub struct Alteration {
    pub resource_type: i8,
    pub name: String,
    /// Keys with their operations, in the order of the request.
    pub operations: Vec<(String, Operation)>,
    /// Keys that are not named lose their values (AlterConfigs).
    pub replace: bool,
}

/// A resource of a request with what can be said without looking at the image.
pub type Asked = Result<Alteration, (i8, String, Refusal)>;

/// A row of the response.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    pub resource_type: i8,
    pub name: String,
    pub refusal: Option<Refusal>,
}

impl Row {
    /// Error code, message, resource type and name, as both responses have them.
    pub fn told(self) -> (i16, Option<StrBytes>, i8, StrBytes) {
        let code = self.refusal.as_ref().map_or(0, |refusal| refusal.code());
        (code, self.refusal.and_then(|refusal| refusal.text()), self.resource_type, string(&self.name))
    }
}

/// Counts how often a request names each resource.
pub async fn mentions<'a>(named: impl Iterator<Item = (i8, &'a str)>) -> BTreeMap<(i8, &'a str), usize> {
    let (mut times, mut turns) = (BTreeMap::new(), Turns::default());
    for resource in named {
        turns.next().await;
        *times.entry(resource).or_default() += 1;
    }
    times
}

/// Checks what both requests check first: resources and keys named twice, values that are missing.
pub fn check_shape(
    resource_type: i8,
    name: &str,
    times: usize,
    keys: &[&str],
    without_value: &[&str],
) -> Result<(), (i8, String, Refusal)> {
    let invalid =
        |message: String| Err((resource_type, name.to_owned(), Refusal::new(ResponseError::InvalidRequest, message)));
    if times > 1 {
        return invalid("Each resource must appear at most once.".to_owned());
    }
    if keys.iter().collect::<BTreeSet<_>>().len() != keys.len() {
        return invalid("Error due to duplicate config keys".to_owned());
    }
    if !without_value.is_empty() {
        return invalid(format!("Null value not supported for : {}", without_value.join(", ")));
    }
    if name.len() > MAX_NAME_BYTES || keys.iter().any(|key| key.len() > MAX_NAME_BYTES) {
        return invalid(format!("Names of resources and configs have at most {MAX_NAME_BYTES} bytes."));
    }
    Ok(())
}

/// Alters the resources, in as few revisions as they fit into. One row per resource, in order.
pub async fn alter(services: &AdminServices, asked: Vec<Asked>, validate_only: bool) -> Vec<Row> {
    let mut rows: Vec<Option<Row>> = vec![None; asked.len()];
    let mut alterations = Vec::new();
    for (place, asked) in asked.into_iter().enumerate() {
        match asked {
            Ok(alteration) => alterations.push((place, alteration)),
            Err((resource_type, name, refusal)) => {
                rows[place] = Some(Row { resource_type, name, refusal: Some(refusal) });
            }
        }
    }
    for run in runs(alterations, |(_, alteration)| alteration_bytes(alteration)) {
        let (rules, copy) =
            (Rules { at_start: services.at_start.clone(), node: services.node.clone(), validate_only }, run.clone());
        let answers = decide(&services.meta, move |image| decision(image, &rules, &run)).await;
        for (index, (place, alteration)) in copy.into_iter().enumerate() {
            let refusal = match &answers {
                Ok(answers) => answers.get(index).cloned().flatten(),
                Err(refusal) => Some(refusal.clone()),
            };
            rows[place] = Some(Row { resource_type: alteration.resource_type, name: alteration.name, refusal });
        }
    }
    rows.into_iter().flatten().collect()
}

fn alteration_bytes(alteration: &Alteration) -> usize {
    let operations = alteration.operations.iter().map(|(key, operation)| {
        let value = match operation {
            Operation::Set(value) | Operation::Append(value) | Operation::Subtract(value) => json_bytes(value),
            Operation::Delete => 4,
        };
        json_bytes(key) + value
    });
    operations.sum::<usize>() + json_bytes(&alteration.name) + 256
}

struct Rules {
    at_start: Configs,
    node: NodeInfo,
    validate_only: bool,
}

fn decision(image: &Image, rules: &Rules, run: &[(usize, Alteration)]) -> (Vec<Change>, Vec<Option<Refusal>>) {
    let mut changes = Vec::new();
    let mut answers = Vec::with_capacity(run.len());
    for (_, alteration) in run {
        match alter_one(image, rules, alteration) {
            Ok(change) => {
                changes.extend(change.filter(|_| !rules.validate_only));
                answers.push(None);
            }
            Err(refusal) => answers.push(Some(refusal)),
        }
    }
    (changes, answers)
}

/// The change that the alteration comes to; `None` if everything is so already.
fn alter_one(image: &Image, rules: &Rules, alteration: &Alteration) -> Result<Option<Change>, Refusal> {
    let (resource, kind) = resource(image, rules, alteration)?;
    let nameless = alteration.name.is_empty() && matches!(kind, Kind::Topic | Kind::Group | Kind::ClientMetrics);
    let misnamed = nameless || (kind == Kind::Topic && topic_name::validate(&alteration.name).is_err());
    let present = match &resource {
        Ok(ConfigResource::Topic(id)) => image.topics.get(id).map(|topic| &topic.configs),
        Ok(other) => image.configs.get(other),
        Err(_) => None,
    };
    let none = Configs::new();
    let present = present.unwrap_or(&none);
    let layers = Layers::of(image, &rules.at_start, rules.node.node_id);
    let broker = layers.effective();
    let wanted = wanted(kind, present, &broker, alteration)?;
    let resource = if misnamed { Ok(resource?) } else { resource };
    validate(kind, &wanted, present, &broker)?;
    value_sizes(&wanted)?;
    let resource = resource?;
    if wanted.len() > MAX_CONFIGS || (present.is_empty() && image.configs.len() >= MAX_RESOURCES) {
        let message = "Too many configs are set.";
        return Err(Refusal::new(ResponseError::PolicyViolation, message));
    }
    let mut set: BTreeMap<String, Option<String>> = BTreeMap::new();
    for (key, value) in &wanted {
        if present.get(key) != Some(value) {
            set.insert(key.clone(), Some(value.clone()));
        }
    }
    set.extend(present.keys().filter(|key| !wanted.contains_key(*key)).map(|key| (key.clone(), None)));
    Ok((!set.is_empty()).then_some(Change::AlterConfigs { resource, set }))
}

/// What is to be altered. What is wrong with its name comes second: Kafka looks at the operations before its name, and at the values
/// before its existence.
fn resource(
    image: &Image,
    rules: &Rules,
    alteration: &Alteration,
) -> Result<(Result<ConfigResource, Refusal>, Kind), Refusal> {
    let name = alteration.name.as_str();
    let invalid = |message: String| Refusal::new(ResponseError::InvalidRequest, message);
    let kind = Kind::of(alteration.resource_type)
        .ok_or_else(|| invalid(format!("Unknown resource type {}", alteration.resource_type)))?;
    let resource = match kind {
        Kind::Topic => {
            let unknown = format!("The topic '{name}' does not exist.");
            let topic = match (topic_named(image, name), topic_name::validate(name)) {
                (Some((id, _)), _) => Ok(ConfigResource::Topic(id)),
                _ if name.is_empty() => Err(invalid("Default topic resources are not allowed.".to_owned())),
                (None, Err(message)) => Err(Refusal::new(ResponseError::InvalidTopicException, message)),
                (None, Ok(())) => Err(Refusal::new(ResponseError::UnknownTopicOrPartition, unknown)),
            };
            return Ok((topic, kind));
        }
        Kind::Broker if name.is_empty() => ConfigResource::Brokers,
        Kind::Broker => {
            let id = broker_id(name, "Node")?;
            if !live_brokers(image, &rules.node).contains_key(&id) {
                let own = rules.node.node_id;
                return Err(invalid(format!("Unexpected broker id, expected {own}, but received {name}")));
            }
            ConfigResource::Broker(id)
        }
        Kind::BrokerLogger => {
            let logger = alteration.operations.first().map_or("", |(key, _)| key.as_str());
            let message = match logger {
                "root" => "The log level is set by the process's environment.".to_owned(),
                other => format!("Logger {other} does not exist!"),
            };
            return Err(Refusal::new(ResponseError::InvalidConfig, message));
        }
        Kind::ClientMetrics if name.is_empty() => {
            return Ok((Err(invalid("Subscription name can't be empty".to_owned())), kind));
        }
        Kind::ClientMetrics => ConfigResource::ClientMetrics(name.to_owned()),
        Kind::Group if name.is_empty() => {
            return Ok((Err(invalid("Default group resources are not allowed.".to_owned())), kind));
        }
        Kind::Group => ConfigResource::Group(name.to_owned()),
    };
    Ok((Ok(resource), kind))
}

fn definition(kind: Kind, key: &str) -> Option<&'static Definition> {
    match kind {
        Kind::Topic => topic_config::definition(key),
        Kind::Broker => broker_config::definition(key),
        Kind::Group => group_config::definition(key),
        Kind::ClientMetrics => config_def::find(group_config::CLIENT_METRICS_CONFIGS, key),
        Kind::BrokerLogger => None,
    }
}

/// All values that the resource would have afterwards.
fn wanted(kind: Kind, present: &Configs, broker: &Configs, alteration: &Alteration) -> Result<Configs, Refusal> {
    let mut wanted = if alteration.replace { Configs::new() } else { present.clone() };
    for (key, operation) in &alteration.operations {
        let (verb, text) = match operation {
            Operation::Set(value) => {
                wanted.insert(key.clone(), value.clone());
                continue;
            }
            Operation::Delete => {
                wanted.remove(key);
                continue;
            }
            Operation::Append(text) => ("APPEND", text),
            Operation::Subtract(text) => ("SUBTRACT", text),
        };
        let definition = definition(kind, key).filter(|definition| is_list(kind, definition)).ok_or_else(|| {
            let message = match kind {
                Kind::Broker if broker_config::UNLESS_SET.contains(&key.as_str()) && broker_config::is_dynamic(key) => {
                    format!("Unknown config name: {key}")
                }
                Kind::Broker => {
                    format!("Config value {} is not allowed for config key: {key}", verb.to_ascii_lowercase())
                }
                _ => format!("Can't {verb} to key {key} because its type is not LIST."),
            };
            Refusal::new(ResponseError::InvalidConfig, message)
        })?;
        let inherited = || topic_config::inherited(definition, broker).map(|(_, value)| value);
        let at_broker = || broker.get(key).filter(|_| kind == Kind::Broker).cloned();
        let current = wanted.get(key).cloned().or_else(at_broker).or_else(inherited);
        let current = current.unwrap_or_else(|| definition.default.unwrap_or_default().to_owned());
        let mut parts = parts(&current);
        for part in changed_parts(text) {
            let known = parts.contains(&part);
            match operation {
                Operation::Append(_) if !known => parts.push(part),
                Operation::Subtract(_) => parts.retain(|other| *other != part),
                _ => {}
            }
        }
        wanted.insert(key.clone(), parts.join(","));
    }
    Ok(wanted)
}

fn parts(list: &str) -> Vec<String> {
    list.split(',').map(|part| part.trim().to_owned()).filter(|part| !part.is_empty()).collect()
}

/// Kafka's controller knows the types of topic and broker configs only.
fn is_list(kind: Kind, definition: &Definition) -> bool {
    definition.kind == ConfigKind::List && kind != Kind::ClientMetrics
}

/// The words to append or to take away, as Java's `split` sees them: an empty text is one empty word.
fn changed_parts(text: &str) -> Vec<String> {
    if text.is_empty() { vec![String::new()] } else { parts(text) }
}

fn validate(kind: Kind, wanted: &Configs, present: &Configs, broker: &Configs) -> Result<(), Refusal> {
    let invalid_config = |message: String| Refusal::new(ResponseError::InvalidConfig, message);
    let invalid_request = |message: String| Refusal::new(ResponseError::InvalidRequest, message);
    match kind {
        Kind::Topic => topic_config::validate(wanted, broker).map_err(|error| invalid_config(error.0)),
        Kind::Broker => {
            let changed = wanted.iter().filter(|(key, value)| present.get(*key) != Some(*value));
            let changed = changed.map(|(key, value)| (key.clone(), value.clone())).collect();
            broker_config::validate(&changed).map_err(|error| invalid_request(error.0))
        }
        Kind::Group => group_config::validate(wanted, broker).map_err(|error| invalid_config(error.0)),
        Kind::ClientMetrics => group_config::validate_client_metrics(wanted).map_err(|error| match error {
            MetricsError::Request(message) => invalid_request(message),
            MetricsError::Config(error) => invalid_config(error.0),
        }),
        Kind::BrokerLogger => Ok(()),
    }
}

#[cfg(test)]
#[path = "config_alter_tests.rs"]
mod tests;
