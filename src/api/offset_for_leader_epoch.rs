//! OffsetForLeaderEpoch (key 23), versions 2–4: where a lease epoch ended (KIP-320). Only committed records are ever shown, so no
//! client has to truncate; the answer lets it know that.

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::offset_for_leader_epoch_request::OffsetForLeaderPartition;
use kafka_protocol::messages::offset_for_leader_epoch_response::{EpochEndOffset, OffsetForLeaderTopicResult};
use kafka_protocol::messages::{OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse, TopicName};

use tokio::time::Instant;

use super::Services;
use super::errors;
use super::turns::Turns;
use crate::log::PARK_LIMIT;

pub async fn handle(services: &Services, request: OffsetForLeaderEpochRequest) -> OffsetForLeaderEpochResponse {
    let parked = Instant::now() + PARK_LIMIT;
    let (mut response, mut turns) = (OffsetForLeaderEpochResponse::default(), Turns::default());
    for topic in request.topics {
        let mut result = OffsetForLeaderTopicResult::default().with_topic(topic.topic.clone());
        for partition in topic.partitions {
            turns.next().await;
            let answer = EpochEndOffset::default().with_partition(partition.partition);
            result.partitions.push(match end_of_epoch(services, &topic.topic, &partition, parked).await {
                Ok((epoch, end)) => answer.with_leader_epoch(epoch).with_end_offset(end),
                Err(code) => answer.with_error_code(code.code()).with_leader_epoch(-1).with_end_offset(-1),
            });
        }
        response.topics.push(result);
    }
    if !services.log.proof.awaited(PARK_LIMIT).await {
        for answer in response.topics.iter_mut().flat_map(|topic| &mut topic.partitions) {
            *answer = EpochEndOffset::default()
                .with_partition(answer.partition)
                .with_error_code(ResponseError::NotLeaderOrFollower.code())
                .with_leader_epoch(-1)
                .with_end_offset(-1);
        }
    }
    response
}

async fn end_of_epoch(
    services: &Services,
    topic: &TopicName,
    asked: &OffsetForLeaderPartition,
    parked: Instant,
) -> Result<(i32, i64), ResponseError> {
    let slot = services.slot_by_name(topic.as_str(), asked.partition, parked).await?;
    let mut inner = slot.lock();
    let partition = inner.partition().map_err(|error| errors::of_unavailable(&error))?;
    errors::check_given_leader_epoch(asked.current_leader_epoch, partition.epoch())?;
    Ok(partition.end_of_epoch(asked.leader_epoch))
}
