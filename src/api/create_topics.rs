//! CreateTopics (19), v2-7. v4 -1 means the broker's default · v5 the configs come back · v7 topic id.
//!
//! Kafka's checks in Kafka's order (`ControllerApis`, `ReplicationControlManager`). Other than there:
//!
//! - The replication factor is a label: up to three are accepted on any number of brokers, since many tools ask for three.
//! - Names of internal topics are refused: brokers make these topics themselves.

use std::collections::{BTreeMap, BTreeSet};

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::create_topics_response::{CreatableTopicConfigs, CreatableTopicResult};
use kafka_protocol::messages::{CreateTopicsRequest, CreateTopicsResponse};

use super::config_view::{Layers, topic_entries};
use super::context::RequestContext;
use super::ports::AdminServices;
use super::refusal::{Refusal, decide_within, json_bytes, runs, string, topic_name};
use super::replica_assignment::{self, Assignment};
use super::topic_view::live_brokers;
use super::turns::Turns;
use crate::meta::entry::Change;
use crate::meta::image::{Configs, Image};
use crate::types::env::Env;
use crate::types::topic_name::{Collisions, METADATA_TOPIC, is_internal, validate};
use crate::types::{NodeId, TopicId, topic_config};

/// Most new partitions of one request, as in Kafka, and most records that Kafka writes of one.
pub const MAX_PARTITIONS_PER_REQUEST: usize = 10_000;

/// A replication factor that is accepted however few brokers there are.
const FREE_REPLICATION_FACTOR: usize = 3;

/// Longest config value, as in Kafka.
pub const MAX_VALUE_BYTES: usize = 32_767;

/// Kafka's `Uuid.ZERO_UUID` and `ONE_UUID` name no topic.
pub fn new_topic_id(env: &Env) -> TopicId {
    loop {
        let id = env.entropy.next_u128();
        if id > 1 {
            return TopicId(id);
        }
    }
}

/// A topic of the request in owned strings, so that nothing of the frame is kept.
#[derive(Clone, Debug)]
struct Draft {
    /// Its place in the response.
    place: usize,
    id: TopicId,
    name: String,
    partitions: i32,
    replication_factor: i16,
    assignments: Vec<(i32, Vec<NodeId>)>,
    configs: Vec<(String, Option<String>)>,
}

/// What a topic was, or would be, created with.
#[derive(Clone, Debug, PartialEq)]
struct Created {
    id: TopicId,
    partitions: i32,
    replication_factor: i16,
    configs: Configs,
}

type Answers = Vec<(usize, Result<Created, Refusal>)>;

/// What a decision needs besides the image.
#[derive(Clone)]
struct Rules {
    default_partitions: i32,
    default_replication_factor: i16,
    at_start: Configs,
    node: super::ports::NodeInfo,
    validate_only: bool,
}

pub async fn handle(
    services: &AdminServices,
    cx: &RequestContext,
    request: CreateTopicsRequest,
) -> CreateTopicsResponse {
    let names = answered_names(&request.topics).await;
    let mut results: Vec<Option<Result<Created, Refusal>>> = vec![None; names.len()];
    let rules = Rules {
        default_partitions: services.kafka.num_partitions,
        default_replication_factor: services.kafka.default_replication_factor,
        at_start: services.at_start.clone(),
        node: services.node.clone(),
        validate_only: request.validate_only,
    };
    let drafts = drafts(services, &request.topics, &names, &mut results).await;
    let too_many = too_many_partitions(&request.topics, rules.default_partitions);
    for run in runs(drafts, draft_bytes) {
        let places: Vec<usize> = run.iter().map(|draft| draft.place).collect();
        if let Some(refusal) = &too_many {
            places.iter().for_each(|place| results[*place] = Some(Err(refusal.clone())));
            continue;
        }
        let rules = rules.clone();
        match decide_within(&services.meta, request.timeout_ms, move |image| create(image, &rules, &run)).await {
            Ok(answers) => answers.into_iter().for_each(|(place, answer)| results[place] = Some(answer)),
            Err(refusal) => places.iter().for_each(|place| results[*place] = Some(Err(refusal.clone()))),
        }
    }
    let (mut topics, mut turns) = (Vec::with_capacity(names.len()), Turns::default());
    for (name, result) in names.iter().zip(results) {
        turns.next().await;
        topics.extend(result.map(|result| answer(services, cx, &rules, name, result)));
    }
    CreateTopicsResponse::default().with_topics(topics)
}

/// Each name once, in the order of the request.
async fn answered_names(topics: &[CreatableTopic]) -> Vec<String> {
    let (mut seen, mut names, mut turns) = (BTreeSet::new(), Vec::new(), Turns::default());
    for topic in topics {
        turns.next().await;
        if seen.insert(topic.name.as_str()) {
            names.push(topic.name.to_string());
        }
    }
    names
}

/// The topics that may be looked at further; the others get their refusal.
async fn drafts(
    services: &AdminServices,
    topics: &[CreatableTopic],
    names: &[String],
    results: &mut [Option<Result<Created, Refusal>>],
) -> Vec<Draft> {
    let (mut turns, mut drafts) = (Turns::default(), Vec::new());
    let (mut places, mut counts) = (BTreeMap::<&str, usize>::new(), BTreeMap::<&str, usize>::new());
    for (place, name) in names.iter().enumerate() {
        turns.next().await;
        places.insert(name, place);
    }
    for topic in topics {
        turns.next().await;
        *counts.entry(topic.name.as_str()).or_default() += 1;
    }
    for topic in topics {
        turns.next().await;
        let name = topic.name.as_str();
        let Some(place) = places.get(name).copied() else { continue };
        let refusal = if counts.get(name).is_some_and(|count| *count > 1) {
            Some(Refusal::new(ResponseError::InvalidRequest, "Duplicate topic name."))
        } else if name == METADATA_TOPIC {
            let message = format!("Creation of internal topic {name} is prohibited.");
            Some(Refusal::new(ResponseError::InvalidRequest, message))
        } else {
            None
        };
        match refusal {
            Some(refusal) => results[place] = Some(Err(refusal)),
            None => drafts.push(draft(place, new_topic_id(&services.env), topic)),
        }
    }
    drafts
}

fn draft(place: usize, id: TopicId, topic: &CreatableTopic) -> Draft {
    let assignments = topic.assignments.iter();
    let configs = topic.configs.iter();
    Draft {
        place,
        id,
        name: topic.name.to_string(),
        partitions: topic.num_partitions,
        replication_factor: topic.replication_factor,
        assignments: assignments
            .map(|assignment| (assignment.partition_index, assignment.broker_ids.iter().map(|id| id.0).collect()))
            .collect(),
        configs: configs
            .map(|config| (config.name.to_string(), config.value.as_ref().map(|value| value.to_string())))
            .collect(),
    }
}

fn draft_bytes(draft: &Draft) -> usize {
    let configs = draft.configs.iter();
    let value = |value: &Option<String>| value.as_deref().map_or(4, json_bytes);
    configs.map(|(name, text)| json_bytes(name) + value(text) + 2).sum::<usize>() + json_bytes(&draft.name) + 256
}

fn too_many_partitions(topics: &[CreatableTopic], default_partitions: i32) -> Option<Refusal> {
    let of_topic = |topic: &CreatableTopic| match topic.num_partitions {
        _ if !topic.assignments.is_empty() => topic.assignments.len(),
        -1 => usize::try_from(default_partitions).unwrap_or(0),
        count => usize::try_from(count).unwrap_or(0),
    };
    let total: usize = topics.iter().map(of_topic).sum();
    // Kafka writes a record for each partition, config and topic that is good, and not more than this at once.
    let records = |topic: &CreatableTopic| match of_topic(topic) {
        0 => 0,
        partitions => 1 + partitions + topic.configs.len(),
    };
    let message = if total > MAX_PARTITIONS_PER_REQUEST {
        "Excessively large number of partitions per request."
    } else if topics.iter().map(records).sum::<usize>() > MAX_PARTITIONS_PER_REQUEST {
        "Unable to perform excessively large batch operation."
    } else {
        return None;
    };
    Some(Refusal::new(ResponseError::PolicyViolation, message))
}

/// The decision for one run of topics.
fn create(image: &Image, rules: &Rules, drafts: &[Draft]) -> (Vec<Change>, Answers) {
    let live: BTreeSet<NodeId> = live_brokers(image, &rules.node).into_keys().collect();
    let layers = Layers::of(image, &rules.at_start, rules.node.node_id);
    let broker = layers.effective();
    let collisions = Collisions::new(image.names.keys().map(String::as_str), drafts.len());
    let mut changes = Vec::new();
    let mut answers = Vec::with_capacity(drafts.len());
    for draft in drafts {
        let answer = match validate(&draft.name) {
            Err(message) => Err(Refusal::new(ResponseError::InvalidTopicException, message)),
            Ok(()) => match collisions.with(&draft.name) {
                Some(other) => Err(collision(&draft.name, other)),
                None => create_one(image, rules, &live, &broker, draft),
            },
        };
        if let (Ok(created), false) = (&answer, rules.validate_only) {
            changes.push(Change::CreateTopic {
                id: created.id,
                name: draft.name.clone(),
                partitions: created.partitions,
                replication_factor: created.replication_factor,
                configs: created.configs.clone(),
                internal: false,
            });
        }
        answers.push((draft.place, answer));
    }
    (changes, answers)
}

fn collision(name: &str, other: &str) -> Refusal {
    let message = format!("Topic '{name}' collides with existing topic: {other}");
    Refusal::new(ResponseError::InvalidTopicException, message)
}

/// Decides on a topic whose name is a good one.
fn create_one(
    image: &Image,
    rules: &Rules,
    live: &BTreeSet<NodeId>,
    broker: &Configs,
    draft: &Draft,
) -> Result<Created, Refusal> {
    let name = &draft.name;
    if image.names.contains_key(name) {
        return Err(Refusal::new(ResponseError::TopicAlreadyExists, format!("Topic '{name}' already exists.")));
    }
    if is_internal(name) {
        let message = format!("Topic name is invalid: '{name}' is an internal topic, which brokers create themselves");
        return Err(Refusal::new(ResponseError::InvalidTopicException, message));
    }
    let configs = checked_configs(draft, broker)?;
    let (partitions, replication_factor) = shape(rules, live, draft)?;
    Ok(Created { id: draft.id, partitions, replication_factor, configs })
}

fn checked_configs(draft: &Draft, broker: &Configs) -> Result<Configs, Refusal> {
    let invalid = |message: String| Refusal::new(ResponseError::InvalidConfig, message);
    let null: Vec<&str> =
        draft.configs.iter().filter(|(_, value)| value.is_none()).map(|(name, _)| name.as_str()).collect();
    if !null.is_empty() {
        return Err(invalid(format!("Null value not supported for topic configs: {}", null.join(","))));
    }
    let configs: Configs =
        draft.configs.iter().filter_map(|(name, value)| Some((name.clone(), value.clone()?))).collect();
    topic_config::validate(&configs, broker).map_err(|error| invalid(error.0))?;
    value_sizes(&configs)?;
    Ok(configs)
}

/// Refuses values that are longer than Kafka's records of them may be.
pub fn value_sizes(configs: &Configs) -> Result<(), Refusal> {
    if configs.values().all(|value| value.len() <= MAX_VALUE_BYTES) {
        return Ok(());
    }
    let message = format!(
        "The configuration value cannot be added because it exceeds the maximum value size of {MAX_VALUE_BYTES} bytes."
    );
    Err(Refusal::new(ResponseError::InvalidConfig, message))
}

/// Number of partitions and replication factor.
fn shape(rules: &Rules, live: &BTreeSet<NodeId>, draft: &Draft) -> Result<(i32, i16), Refusal> {
    let invalid_request = |message: &str| Err(Refusal::new(ResponseError::InvalidRequest, message));
    if !draft.assignments.is_empty() {
        if draft.replication_factor != -1 {
            return invalid_request(
                "A manual partition assignment was specified, but replication factor was not set to -1.",
            );
        }
        if draft.partitions != -1 {
            return invalid_request(
                "A manual partition assignment was specified, but numPartitions was not set to -1.",
            );
        }
        let assignments: Vec<Assignment<'_>> = draft
            .assignments
            .iter()
            .map(|(partition, brokers)| Assignment { partition: *partition, brokers })
            .collect();
        return replica_assignment::of_new_topic(&assignments, live);
    }
    let replication_factor = match draft.replication_factor {
        -1 => rules.default_replication_factor,
        factor => factor,
    };
    if replication_factor <= 0 {
        let message = "Replication factor must be larger than 0, or -1 to use the default value.";
        return Err(Refusal::new(ResponseError::InvalidReplicationFactor, message));
    }
    let partitions = if draft.partitions == -1 { rules.default_partitions } else { draft.partitions };
    if partitions <= 0 {
        let message = "Number of partitions was set to an invalid non-positive value.";
        return Err(Refusal::new(ResponseError::InvalidPartitions, message));
    }
    if usize::try_from(replication_factor).is_ok_and(|factor| factor > live.len().max(FREE_REPLICATION_FACTOR)) {
        let message = format!(
            "Unable to replicate the partition {replication_factor} time(s): The target replication factor of \
             {replication_factor} cannot be reached because only {} broker(s) are registered or some brokers have all their log \
             directories cordoned.",
            live.len()
        );
        return Err(Refusal::new(ResponseError::InvalidReplicationFactor, message));
    }
    Ok((partitions, replication_factor))
}

fn answer(
    services: &AdminServices,
    cx: &RequestContext,
    rules: &Rules,
    name: &str,
    result: Result<Created, Refusal>,
) -> CreatableTopicResult {
    let answer = CreatableTopicResult::default().with_name(topic_name(name));
    let created = match result {
        Ok(created) => created,
        Err(refusal) => {
            return answer.with_error_code(refusal.code()).with_error_message(refusal.text());
        }
    };
    let answer = answer.with_error_message(None).with_topic_id(created.id.into());
    if cx.api_version < 5 {
        return answer;
    }
    let entries = services.meta.read(|image| {
        let layers = Layers::of(image, &rules.at_start, rules.node.node_id);
        topic_entries(&created.configs, &layers)
    });
    let configs = entries.into_iter().map(|entry| {
        CreatableTopicConfigs::default()
            .with_name(string(&entry.name))
            // What was asked for comes back as it was written, the rest as DescribeConfigs shows it.
            .with_value(created.configs.get(&entry.name).or(entry.value.as_ref()).map(|value| string(value)))
            .with_read_only(entry.read_only)
            .with_config_source(entry.source)
            .with_is_sensitive(entry.sensitive)
    });
    answer
        .with_num_partitions(created.partitions)
        .with_replication_factor(created.replication_factor)
        .with_configs(Some(configs.collect()))
}

#[cfg(test)]
#[path = "create_topics_tests.rs"]
mod tests;
