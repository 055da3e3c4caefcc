//! Metadata (3), v0-13: brokers, topics, leaders. v0 empty = all, v1 null = all · v4 auto-creation is the client's choice · v7 leader
//! epochs · v8-10 authorized operations · v10 topic ids · v12 topics by id · v13 top-level error (never set).
//!
//! An unknown topic that the client lets us create is created before the answer goes out, so that the answer is complete.

use std::collections::{BTreeMap, BTreeSet};

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::{BrokerId, MetadataRequest, MetadataResponse};
use tokio::task::yield_now;

use super::auto_create;
use super::context::RequestContext;
use super::ports::AdminServices;
use super::refusal::{string, topic_name};
use super::topic_view::{
    BrokerView, CLUSTER_OPERATIONS, NO_OPERATIONS, TOPIC_OPERATIONS, live_brokers, partition_view, topic_named,
};
use super::turns::{ELEMENTS_AT_ONCE, Turns, let_go};
use crate::meta::image::{Image, Topic};
use crate::types::{NodeId, TopicId, topic_name as names};

/// What is asked for.
enum Wanted {
    All,
    Topics(Vec<MetadataRequestTopic>),
}

pub async fn handle(services: &AdminServices, cx: &RequestContext, request: MetadataRequest) -> MetadataResponse {
    let topic_operations = cx.api_version >= 8 && request.include_topic_authorized_operations;
    let cluster_operations = (8..=10).contains(&cx.api_version) && request.include_cluster_authorized_operations;
    if matches!(cx.api_version, 10 | 11)
        && let Some(topics) = &request.topics
        && topics.iter().any(|topic| topic.name.is_none() || !TopicId::from(topic.topic_id).is_zero())
    {
        return ids_too_early(topics);
    }
    let create = services.kafka.auto_create_topics_enable && request.allow_auto_topic_creation;
    let wanted = match request.topics {
        None => Wanted::All,
        Some(topics) if topics.is_empty() && cx.api_version == 0 => Wanted::All,
        Some(topics) => Wanted::Topics(by_ids_or_names(topics, cx.api_version)),
    };
    if let (Wanted::Topics(topics), true) = (&wanted, create) {
        let (mut asked, mut turns) = (BTreeSet::new(), Turns::default());
        for name in topics.iter().filter_map(|topic| topic.name.as_ref()) {
            turns.next().await;
            asked.insert(name.to_string());
        }
        auto_create::create_missing(services, asked).await;
    }
    let brokers = services.meta.read(|image| live_brokers(image, &services.node));
    let shown = Shown { brokers: &brokers, version: cx.api_version, operations: topic_operations };
    let topics = match wanted {
        Wanted::All => services.meta.read(|image| View { image, shown }.all()),
        Wanted::Topics(asked) => {
            let asked = once(asked, cx.api_version).await;
            let mut topics = Vec::with_capacity(asked.len());
            for some in asked.chunks(ELEMENTS_AT_ONCE) {
                topics.extend(services.meta.read(|image| {
                    let view = View { image, shown };
                    some.iter().map(|topic| view.one(topic, topic.topic_id.into())).collect::<Vec<_>>()
                }));
                if some.len() == ELEMENTS_AT_ONCE {
                    yield_now().await;
                }
            }
            let_go(asked.len(), asked);
            topics
        }
    };
    let response = MetadataResponse::default()
        .with_brokers(brokers.into_iter().map(broker).collect())
        .with_cluster_id(Some(string(services.meta.cluster_id())))
        .with_controller_id(BrokerId(services.node.node_id))
        .with_topics(topics);
    if cluster_operations { response.with_cluster_authorized_operations(CLUSTER_OPERATIONS) } else { response }
}

/// From v12 on topics can be asked for by id; then what has only a name is left out.
fn by_ids_or_names(mut asked: Vec<MetadataRequestTopic>, version: i16) -> Vec<MetadataRequestTopic> {
    let by_id = |topic: &MetadataRequestTopic| !TopicId::from(topic.topic_id).is_zero();
    if version >= 12 && asked.iter().any(by_id) {
        asked.retain(by_id);
    }
    asked
}

/// What stands in the request several times is answered once. From v12 on who gives an id is answered by it alone, whatever name stands
/// beside.
async fn once(asked: Vec<MetadataRequestTopic>, version: i16) -> Vec<MetadataRequestTopic> {
    let (mut seen, mut first, mut turns) = (BTreeSet::new(), Vec::with_capacity(asked.len()), Turns::default());
    for topic in asked {
        turns.next().await;
        let id = TopicId::from(topic.topic_id);
        let name = if version >= 12 && !id.is_zero() { None } else { topic.name.clone() };
        if seen.insert((name, id)) {
            first.push(topic);
        }
    }
    let_go(seen.len(), seen);
    first
}

/// v10 and v11 have topic ids, but not for asking: Kafka refuses the whole request.
fn ids_too_early(topics: &[MetadataRequestTopic]) -> MetadataResponse {
    let refused = topics.iter().map(|topic| {
        MetadataResponseTopic::default()
            .with_error_code(ResponseError::InvalidRequest.code())
            .with_name(Some(topic.name.clone().unwrap_or_default()))
            .with_topic_id(topic.topic_id)
    });
    MetadataResponse::default().with_cluster_id(None).with_controller_id(BrokerId(-1)).with_topics(refused.collect())
}

fn broker((node_id, view): (NodeId, BrokerView)) -> MetadataResponseBroker {
    MetadataResponseBroker::default()
        .with_node_id(BrokerId(node_id))
        .with_host(string(&view.host))
        .with_port(view.port)
        .with_rack(view.rack.as_deref().map(string))
}

#[derive(Clone, Copy)]
struct Shown<'a> {
    brokers: &'a BTreeMap<NodeId, BrokerView>,
    version: i16,
    operations: bool,
}

struct View<'a> {
    image: &'a Image,
    shown: Shown<'a>,
}

impl View<'_> {
    fn all(&self) -> Vec<MetadataResponseTopic> {
        let all = self.image.names.values().filter_map(|id| Some((*id, self.image.topics.get(id)?)));
        all.map(|(id, topic)| self.found(id, topic)).collect()
    }

    fn one(&self, asked: &MetadataRequestTopic, id: TopicId) -> MetadataResponseTopic {
        if !id.is_zero() {
            return match self.image.topics.get(&id) {
                Some(topic) => self.found(id, topic),
                None => self.failed(asked, ResponseError::UnknownTopicId),
            };
        }
        let Some(name) = &asked.name else { return self.failed(asked, ResponseError::InvalidRequest) };
        match topic_named(self.image, name) {
            Some((id, topic)) => self.found(id, topic),
            None if names::validate(name).is_err() => self.failed(asked, ResponseError::InvalidTopicException),
            None => self.failed(asked, ResponseError::UnknownTopicOrPartition),
        }
    }

    fn failed(&self, asked: &MetadataRequestTopic, error: ResponseError) -> MetadataResponseTopic {
        let name = asked.name.as_deref().map(|name| topic_name(name));
        // Only v12 can say "no name".
        let name = if self.shown.version < 12 { Some(name.unwrap_or_default()) } else { name };
        let internal = asked.name.as_ref().is_some_and(|name| names::is_internal(name));
        let answer =
            MetadataResponseTopic::default().with_error_code(error.code()).with_name(name).with_is_internal(internal);
        // What may be done with a topic that is not there is told of one that was asked for by name.
        let operations = if self.shown.operations && asked.name.is_some() { TOPIC_OPERATIONS } else { NO_OPERATIONS };
        answer.with_topic_id(asked.topic_id).with_topic_authorized_operations(operations)
    }

    fn found(&self, id: TopicId, topic: &Topic) -> MetadataResponseTopic {
        let partitions = topic.partitions.iter().enumerate().map(|(index, state)| {
            let view = partition_view(self.image, self.shown.brokers, topic, index, state);
            let replicas: Vec<BrokerId> = view.replicas.into_iter().map(BrokerId).collect();
            let error = if view.leader.is_some() { 0 } else { ResponseError::LeaderNotAvailable.code() };
            MetadataResponsePartition::default()
                .with_error_code(error)
                .with_partition_index(i32::try_from(index).unwrap_or(i32::MAX))
                .with_leader_id(BrokerId(view.leader.unwrap_or(-1)))
                .with_leader_epoch(view.epoch)
                .with_isr_nodes(replicas.clone())
                .with_replica_nodes(replicas)
        });
        MetadataResponseTopic::default()
            .with_name(Some(topic_name(&topic.name)))
            .with_topic_id(id.into())
            .with_is_internal(topic.internal)
            .with_partitions(partitions.collect())
            .with_topic_authorized_operations(if self.shown.operations { TOPIC_OPERATIONS } else { NO_OPERATIONS })
    }
}
