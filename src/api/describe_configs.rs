//! DescribeConfigs (32), v1-4. v1 synonyms · v3 types and documentation.
//!
//! Errors belong to their resource. Resources behind a very long answer are INVALID_REQUEST: Kafka makes answers of any length. Any live broker's configs are answered by any broker: Kafka asks for the one that is described.

use std::collections::BTreeSet;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
};
use kafka_protocol::messages::{DescribeConfigsRequest, DescribeConfigsResponse};
use kafka_protocol::protocol::StrBytes;

use super::config_resource::Kind;
use super::config_view::{
    ConfigEntry, Layers, UNKNOWN_TYPE, all_brokers_entries, at_start, broker_entries, client_metrics_entries,
    group_entries, source, topic_entries,
};
use super::context::RequestContext;
use super::ports::{AdminServices, NodeInfo};
use super::refusal::{Refusal, string};
use super::topic_view::topic_named;
use super::unread::LONG_ANSWER_BYTES;
use crate::meta::entry::ConfigResource;
use crate::meta::image::{Configs, Image, SessionState};
use crate::types::{NodeId, topic_name};

pub async fn handle(
    services: &AdminServices,
    cx: &RequestContext,
    request: DescribeConfigsRequest,
) -> DescribeConfigsResponse {
    let shown = Shown {
        synonyms: request.include_synonyms,
        types: cx.api_version >= 3,
        documentation: cx.api_version >= 3 && request.include_documentation,
    };
    // One resource of a kind that is none spoils the request, as in Kafka.
    let spoilt = request.resources.iter().any(|resource| Kind::of(resource.resource_type).is_none());
    let mut bytes = 0;
    let mut results = Vec::with_capacity(request.resources.len());
    for resource in &request.resources {
        let entries = match bytes {
            _ if spoilt => Err(Refusal::standard(ResponseError::InvalidRequest)),
            ..LONG_ANSWER_BYTES => services.meta.read(|image| describe(services, image, resource)),
            _ => Err(Refusal::new(
                ResponseError::InvalidRequest,
                "The answer is too long: describe fewer resources at a time.",
            )),
        };
        let result = result(resource, entries, shown);
        bytes += result.configs.iter().map(size).sum::<usize>();
        results.push(result);
        if results.len() % RESOURCES_AT_ONCE == 0 {
            tokio::task::yield_now().await;
        }
    }
    DescribeConfigsResponse::default().with_results(results)
}

/// After so many resources other tasks have their turn.
const RESOURCES_AT_ONCE: usize = 32;

/// About the bytes of a config in the answer.
fn size(config: &DescribeConfigsResourceResult) -> usize {
    const FIXED: usize = 16;
    let text = |text: &Option<StrBytes>| text.as_ref().map_or(0, |text| text.len());
    let synonyms: usize = config.synonyms.iter().map(|synonym| FIXED + synonym.name.len() + text(&synonym.value)).sum();
    FIXED + config.name.len() + text(&config.value) + text(&config.documentation) + synonyms
}

/// Parts of an entry that the client asked for.
#[derive(Clone, Copy)]
struct Shown {
    synonyms: bool,
    types: bool,
    documentation: bool,
}

fn result(
    resource: &DescribeConfigsResource,
    entries: Result<Vec<ConfigEntry>, Refusal>,
    shown: Shown,
) -> DescribeConfigsResult {
    let result = DescribeConfigsResult::default()
        .with_resource_type(resource.resource_type)
        .with_resource_name(string(&resource.resource_name));
    let entries = match entries {
        Ok(entries) => entries,
        Err(refusal) => {
            let message = refusal.message.as_deref().unwrap_or_default();
            return result.with_error_code(refusal.code()).with_error_message(Some(string(message)));
        }
    };
    let keys: Option<BTreeSet<&str>> =
        resource.configuration_keys.as_ref().map(|keys| keys.iter().map(|key| key.as_str()).collect());
    let keys = keys.filter(|keys| !keys.is_empty());
    let wanted =
        entries.into_iter().filter(|entry| keys.as_ref().is_none_or(|keys| keys.contains(entry.name.as_str())));
    result.with_configs(wanted.map(|entry| config(entry, shown)).collect())
}

fn config(entry: ConfigEntry, shown: Shown) -> DescribeConfigsResourceResult {
    let value = |value: &Option<String>| value.as_deref().filter(|_| !entry.sensitive).map(string);
    let synonyms = entry.synonyms.iter().filter(|_| shown.synonyms).map(|synonym| {
        DescribeConfigsSynonym::default()
            .with_name(string(&synonym.name))
            .with_value(value(&synonym.value))
            .with_source(synonym.source)
    });
    DescribeConfigsResourceResult::default()
        .with_name(string(&entry.name))
        .with_value(value(&entry.value))
        .with_read_only(entry.read_only)
        .with_config_source(entry.source)
        .with_is_sensitive(entry.sensitive)
        .with_synonyms(synonyms.collect())
        .with_config_type(if shown.types { entry.kind } else { 0 })
        .with_documentation(shown.documentation.then(|| StrBytes::from_static_str(entry.documentation)))
}

fn describe(
    services: &AdminServices,
    image: &Image,
    resource: &DescribeConfigsResource,
) -> Result<Vec<ConfigEntry>, Refusal> {
    let name = resource.resource_name.as_str();
    let invalid = |message: String| Refusal::new(ResponseError::InvalidRequest, message);
    let layers = Layers::of(image, &services.at_start, services.node.node_id);
    let set = |resource: ConfigResource| image.configs.get(&resource).cloned().unwrap_or_default();
    match Kind::of(resource.resource_type) {
        Some(Kind::Topic) => topic_configs(image, name, &layers),
        Some(Kind::Broker) if name.is_empty() => Ok(all_brokers_entries(layers.all_brokers)),
        Some(Kind::Broker) => {
            let id = broker_id(name, "Broker")?;
            let at_start = at_start_of(services, image, id).ok_or_else(|| {
                let own = services.node.node_id;
                invalid(format!("Unexpected broker id, expected {own} or empty string, but received {name}"))
            })?;
            Ok(broker_entries(&Layers::of(image, &at_start, id)))
        }
        Some(Kind::BrokerLogger) if name.is_empty() => Err(invalid("Broker id must not be empty".to_owned())),
        Some(Kind::BrokerLogger) => broker_id(name, "Broker").map(|_| vec![root_logger()]),
        Some(Kind::ClientMetrics) if name.is_empty() => {
            Err(invalid("Client metrics subscription name must not be empty".to_owned()))
        }
        Some(Kind::ClientMetrics) => Ok(client_metrics_entries(&set(ConfigResource::ClientMetrics(name.to_owned())))),
        Some(Kind::Group) if name.is_empty() => Err(invalid("Group name must not be empty".to_owned())),
        Some(Kind::Group) => Ok(group_entries(&set(ConfigResource::Group(name.to_owned())), &layers)),
        None => Err(Refusal::standard(ResponseError::InvalidRequest)),
    }
}

fn topic_configs(image: &Image, name: &str, layers: &Layers<'_>) -> Result<Vec<ConfigEntry>, Refusal> {
    topic_name::validate(name).map_err(|message| Refusal::new(ResponseError::InvalidTopicException, message))?;
    let unknown = Refusal::plain(ResponseError::UnknownTopicOrPartition);
    let (_, topic) = topic_named(image, name).ok_or(unknown)?;
    Ok(topic_entries(&topic.configs, layers))
}

/// Reads the name of a broker resource. Kafka calls it `what`, "Broker" to who describes and "Node" to who changes.
pub fn broker_id(name: &str, what: &str) -> Result<NodeId, Refusal> {
    let message = || format!("{what} id must be an integer, but it is: {name}");
    name.parse().map_err(|_| Refusal::new(ResponseError::InvalidRequest, message()))
}

/// What a live broker was started with. Brokers of a cluster have the same settings; what differs stands in their sessions.
fn at_start_of(services: &AdminServices, image: &Image, id: NodeId) -> Option<Configs> {
    if id == services.node.node_id {
        return Some(services.at_start.clone());
    }
    let mut sessions = image.sessions.iter().rev();
    let (session, found) =
        sessions.find(|(_, session)| session.node_id == id && session.state == SessionState::Ready)?;
    let node = NodeInfo {
        node_id: id,
        session: *session,
        endpoint: found.endpoints.first()?.clone(),
        rack: found.rack.clone(),
        store: services.node.store.clone(),
    };
    Some(at_start(&services.kafka, &node))
}

/// The one logger that tools see.
fn root_logger() -> ConfigEntry {
    ConfigEntry {
        name: "root".to_owned(),
        value: Some("INFO".to_owned()),
        read_only: true,
        source: source::BROKER_LOGGER,
        sensitive: false,
        synonyms: Vec::new(),
        kind: UNKNOWN_TYPE,
        documentation: "Set by the process's environment.",
    }
}
