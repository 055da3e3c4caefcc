//! DescribeTopicPartitions (75), v0: topics by name in pages (KIP-966). No topic named means all; topics come sorted; a page ends
//! where its limit of partitions is reached, and the cursor names the next partition.

use std::collections::BTreeSet;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::describe_topic_partitions_response::{
    Cursor, DescribeTopicPartitionsResponsePartition, DescribeTopicPartitionsResponseTopic,
};
use kafka_protocol::messages::{BrokerId, DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse};

use super::context::RequestContext;
use super::ports::AdminServices;
use super::refusal::topic_name;
use super::topic_view::{BrokerView, TOPIC_OPERATIONS, live_brokers, partition_view, topic_named};
use super::turns::Turns;
use crate::meta::image::{Image, Topic};
use crate::types::{NodeId, TopicId, topic_name as names};

pub async fn handle(
    services: &AdminServices,
    _cx: &RequestContext,
    request: DescribeTopicPartitionsRequest,
) -> DescribeTopicPartitionsResponse {
    let limit = services.kafka.max_request_partition_size_limit.min(request.response_partition_limit).max(1);
    let limit = usize::try_from(limit).unwrap_or(1);
    let (mut asked, mut turns) = (BTreeSet::new(), Turns::default());
    for topic in &request.topics {
        turns.next().await;
        asked.insert(topic.name.to_string());
    }
    let start = request.cursor.map(|cursor| (cursor.topic_name.to_string(), cursor.partition_index));
    services.meta.read(|image| {
        let brokers = live_brokers(image, &services.node);
        page(image, &brokers, asked, start, limit)
    })
}

type Brokers = std::collections::BTreeMap<NodeId, BrokerView>;

fn page(
    image: &Image,
    brokers: &Brokers,
    asked: BTreeSet<String>,
    start: Option<(String, i32)>,
    limit: usize,
) -> DescribeTopicPartitionsResponse {
    let all = asked.is_empty();
    if let Some((topic, partition)) = &start
        && (*partition < 0 || (!all && !asked.contains(topic)))
    {
        let refused = |name: &str| {
            DescribeTopicPartitionsResponseTopic::default()
                .with_error_code(ResponseError::InvalidRequest.code())
                .with_name(Some(topic_name(name)))
        };
        let topics = if all { vec![refused(topic)] } else { asked.iter().map(|name| refused(name)).collect() };
        return DescribeTopicPartitionsResponse::default().with_topics(topics).with_next_cursor(None);
    }
    let mut wanted: BTreeSet<String> = if all { image.names.keys().cloned().collect() } else { asked };
    let mut first = 0;
    if let Some((topic, partition)) = start {
        wanted = wanted.split_off(&topic);
        // The topic of the cursor may have gone since; the page then begins with the one after it.
        if wanted.first() == Some(&topic) {
            first = usize::try_from(partition).unwrap_or(0);
        }
    }
    let (mut topics, mut left) = (Vec::new(), limit);
    for name in wanted {
        if left == 0 {
            return response(topics, Some((&name, 0)));
        }
        let Some((id, topic)) = topic_named(image, &name) else {
            topics.push(unknown(&name));
            continue;
        };
        let from = std::mem::take(&mut first).min(topic.partitions.len());
        let count = left.min(topic.partitions.len() - from);
        topics.push(described(image, brokers, id, topic, from..from + count));
        left -= count;
        if from + count < topic.partitions.len() {
            return response(topics, Some((&name, from + count)));
        }
    }
    response(topics, None)
}

fn response(
    topics: Vec<DescribeTopicPartitionsResponseTopic>,
    next: Option<(&str, usize)>,
) -> DescribeTopicPartitionsResponse {
    let cursor = next.map(|(name, partition)| {
        Cursor::default().with_topic_name(topic_name(name)).with_partition_index(index(partition))
    });
    DescribeTopicPartitionsResponse::default().with_topics(topics).with_next_cursor(cursor)
}

fn index(partition: usize) -> i32 {
    i32::try_from(partition).unwrap_or(i32::MAX)
}

fn unknown(name: &str) -> DescribeTopicPartitionsResponseTopic {
    let error = match names::validate(name) {
        Ok(()) => ResponseError::UnknownTopicOrPartition,
        Err(_) => ResponseError::InvalidTopicException,
    };
    DescribeTopicPartitionsResponseTopic::default()
        .with_error_code(error.code())
        .with_name(Some(topic_name(name)))
        .with_is_internal(names::is_internal(name))
        .with_topic_authorized_operations(TOPIC_OPERATIONS)
}

fn described(
    image: &Image,
    brokers: &Brokers,
    id: TopicId,
    topic: &Topic,
    range: std::ops::Range<usize>,
) -> DescribeTopicPartitionsResponseTopic {
    let partitions = topic.partitions.iter().enumerate().take(range.end).skip(range.start).map(|(place, state)| {
        let view = partition_view(image, brokers, topic, place, state);
        let replicas: Vec<BrokerId> = view.replicas.into_iter().map(BrokerId).collect();
        DescribeTopicPartitionsResponsePartition::default()
            .with_error_code(if view.leader.is_some() { 0 } else { ResponseError::LeaderNotAvailable.code() })
            .with_partition_index(index(place))
            .with_leader_id(BrokerId(view.leader.unwrap_or(-1)))
            .with_leader_epoch(view.epoch)
            .with_isr_nodes(replicas.clone())
            .with_replica_nodes(replicas)
            .with_eligible_leader_replicas(Some(Vec::new()))
            .with_last_known_elr(Some(Vec::new()))
    });
    DescribeTopicPartitionsResponseTopic::default()
        .with_name(Some(topic_name(&topic.name)))
        .with_topic_id(id.into())
        .with_is_internal(topic.internal)
        .with_partitions(partitions.collect())
        .with_topic_authorized_operations(TOPIC_OPERATIONS)
}

#[cfg(test)]
#[path = "describe_topic_partitions_tests.rs"]
mod tests;
