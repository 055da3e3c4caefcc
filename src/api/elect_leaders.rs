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
use super::turns::Turns;
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
    let results = match &request.topic_partitions {
        None if unknown_type => Vec::new(),
        // All: Kafka names every topic, and of its partitions those that were in need of it.
        None => services.meta.read(|image| {
            let none = |topic: &String| ReplicaElectionResult::default().with_topic(topic_name(topic));
            image.names.keys().map(none).collect()
        }),
        Some(topics) => {
            let (mut results, mut turns) = (Vec::with_capacity(topics.len()), Turns::default());
            for topic in topics {
                let mut rows = Vec::with_capacity(topic.partitions.len());
                for index in &topic.partitions {
                    turns.next().await;
                    let refusal = match unknown_type {
                        true => Refusal::new(ResponseError::InvalidRequest, unknown.clone()),
                        false => services.meta.read(|image| elect(image, &topic.topic, *index)),
                    };
                    rows.push(row(*index, &refusal));
                }
                let result = ReplicaElectionResult::default().with_topic(topic_name(&topic.topic));
                results.push(result.with_partition_result(rows));
            }
            results
        }
    };
    let code = if unknown_type { ResponseError::InvalidRequest.code() } else { NONE };
    ElectLeadersResponse::default().with_error_code(code).with_replica_election_results(results)
}

fn row(index: i32, refusal: &Refusal) -> PartitionResult {
    PartitionResult::default()
        .with_partition_id(index)
        .with_error_code(refusal.code())
        .with_error_message(refusal.text())
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
