//! AlterPartitionReassignments (45), v0-1: checked as in Kafka, then complete at once, since there is no data to move.

use std::collections::BTreeSet;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::alter_partition_reassignments_request::ReassignablePartition;
use kafka_protocol::messages::alter_partition_reassignments_response::{
    ReassignablePartitionResponse, ReassignableTopicResponse,
};
use kafka_protocol::messages::{AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse};

use kafka_protocol::protocol::StrBytes;

use super::context::RequestContext;
use super::ports::AdminServices;
use super::refusal::{Refusal, topic_name};
use super::replica_assignment;
use super::topic_view::{live_brokers, partition_of, topic_named};
use super::turns::{ELEMENTS_AT_ONCE, Turns};
use crate::meta::image::Image;
use crate::types::NodeId;

pub async fn handle(
    services: &AdminServices,
    _cx: &RequestContext,
    request: AlterPartitionReassignmentsRequest,
) -> AlterPartitionReassignmentsResponse {
    let live = services.meta.read(|image| live_brokers(image, &services.node));
    let live: BTreeSet<NodeId> = live.into_keys().collect();
    let mut turns = Turns::default();
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in &request.topics {
        turns.next().await;
        let mut rows = Vec::with_capacity(topic.partitions.len());
        for some in topic.partitions.chunks(ELEMENTS_AT_ONCE) {
            services.meta.read(|image| rows.extend(some.iter().map(|one| answer(image, &live, &topic.name, one))));
            if some.len() == ELEMENTS_AT_ONCE {
                tokio::task::yield_now().await;
            }
        }
        let name = topic_name(&topic.name);
        topics.push(ReassignableTopicResponse::default().with_name(name).with_partitions(rows));
    }
    // Kafka's sentence about nothing is empty.
    let message = request.topics.is_empty().then(StrBytes::new);
    AlterPartitionReassignmentsResponse::default()
        .with_error_message(message)
        .with_allow_replication_factor_change(request.allow_replication_factor_change)
        .with_responses(topics)
}

fn answer(
    image: &Image,
    live: &BTreeSet<NodeId>,
    topic: &str,
    partition: &ReassignablePartition,
) -> ReassignablePartitionResponse {
    let row = ReassignablePartitionResponse::default().with_partition_index(partition.partition_index);
    match reassign(image, live, topic, partition) {
        Ok(()) => row.with_error_message(None),
        Err(refusal) => row.with_error_code(refusal.code()).with_error_message(refusal.text()),
    }
}

fn reassign(
    image: &Image,
    live: &BTreeSet<NodeId>,
    topic: &str,
    partition: &ReassignablePartition,
) -> Result<(), Refusal> {
    let unknown = |message: String| Refusal::new(ResponseError::UnknownTopicOrPartition, message);
    let index = partition.partition_index;
    let named = topic_named(image, topic);
    named.ok_or_else(|| unknown(format!("Unable to find a topic named {topic}.")))?;
    let found = partition_of(image, topic, index);
    found.ok_or_else(|| unknown(format!("Unable to find partition {topic}:{index}.")))?;
    let Some(replicas) = &partition.replicas else {
        return Err(Refusal::plain(ResponseError::NoReassignmentInProgress));
    };
    let replicas: Vec<NodeId> = replicas.iter().map(|id| id.0).collect();
    replica_assignment::check(&replicas, None, live)
}
