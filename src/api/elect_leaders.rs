//! ElectLeaders (43), v0-2: answered, never done. Leases go where they belong by themselves, so no known partition needs an election;
//! tools print that as success.

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::elect_leaders_response::{PartitionResult, ReplicaElectionResult};
use kafka_protocol::messages::{ElectLeadersRequest, ElectLeadersResponse};

use super::context::RequestContext;
use super::errors::NONE;
use super::ports::AdminServices;
use super::refusal::{Refusal, topic_name};
use super::topic_view::{partition_of, topic_named};
use crate::meta::image::Image;

/// 0 preferred, 1 unclean.
const ELECTION_TYPES: std::ops::RangeInclusive<i8> = 0..=1;

pub async fn handle(
    services: &AdminServices,
    cx: &RequestContext,
    request: ElectLeadersRequest,
) -> ElectLeadersResponse {
    let unknown_type = cx.api_version >= 1 && !ELECTION_TYPES.contains(&request.election_type);
    let unknown = format!("Unknown election type {}", request.election_type);
    let results = services.meta.read(|image| {
        let Some(topics) = &request.topic_partitions else {
            // All: Kafka names every topic, and of its partitions those that were in need of it.
            let none = |topic: &String| ReplicaElectionResult::default().with_topic(topic_name(topic));
            return if unknown_type { Vec::new() } else { image.names.keys().map(none).collect() };
        };
        let results = topics.iter().map(|topic| {
            let rows = topic.partitions.iter().map(|index| {
                let refusal = match unknown_type {
                    true => Refusal::new(ResponseError::InvalidRequest, unknown.clone()),
                    false => elect(image, &topic.topic, *index),
                };
                PartitionResult::default()
                    .with_partition_id(*index)
                    .with_error_code(refusal.code())
                    .with_error_message(refusal.text())
            });
            ReplicaElectionResult::default().with_topic(topic_name(&topic.topic)).with_partition_result(rows.collect())
        });
        results.collect()
    });
    let code = if unknown_type { ResponseError::InvalidRequest.code() } else { NONE };
    ElectLeadersResponse::default().with_error_code(code).with_replica_election_results(results)
}

fn elect(image: &Image, topic: &str, index: i32) -> Refusal {
    if topic_named(image, topic).is_none() {
        return Refusal::new(ResponseError::UnknownTopicOrPartition, format!("No such topic as {topic}"));
    }
    if partition_of(image, topic, index).is_none() {
        return Refusal::new(ResponseError::UnknownTopicOrPartition, format!("No such partition as {topic}-{index}"));
    }
    Refusal::standard(ResponseError::ElectionNotNeeded)
}
