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
use crate::meta::image::Image;
use crate::types::NodeId;

pub async fn handle(
    services: &AdminServices,
    _cx: &RequestContext,
    request: AlterPartitionReassignmentsRequest,
) -> AlterPartitionReassignmentsResponse {
    let topics = services.meta.read(|image| {
        let live: BTreeSet<NodeId> = live_brokers(image, &services.node).into_keys().collect();
        let topics = request.topics.iter().map(|topic| {
            let rows = topic.partitions.iter().map(|partition| {
                let row = ReassignablePartitionResponse::default().with_partition_index(partition.partition_index);
                match reassign(image, &live, &topic.name, partition) {
                    Ok(()) => row.with_error_message(None),
                    Err(refusal) => row.with_error_code(refusal.code()).with_error_message(refusal.text()),
                }
            });
            ReassignableTopicResponse::default().with_name(topic_name(&topic.name)).with_partitions(rows.collect())
        });
        topics.collect()
    });
    // Kafka's sentence about nothing is empty.
    let message = request.topics.is_empty().then(StrBytes::new);
    AlterPartitionReassignmentsResponse::default()
        .with_error_message(message)
        .with_allow_replication_factor_change(request.allow_replication_factor_change)
        .with_responses(topics)
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
