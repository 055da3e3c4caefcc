//! DescribeProducers (61), v0: the idempotent producers that a partition remembers (KIP-664). Only the holder knows them.

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::describe_producers_response::{PartitionResponse, ProducerState, TopicResponse};
use kafka_protocol::messages::{DescribeProducersRequest, DescribeProducersResponse, ProducerId};

use super::context::RequestContext;
use super::ports::{AdminServices, ProducerRow};
use super::refusal::{Refusal, topic_name};
use super::topic_view::{partition_of, topic_named};
use super::turns::Turns;
use crate::types::topic_name::validate;

pub async fn handle(
    services: &AdminServices,
    _cx: &RequestContext,
    request: DescribeProducersRequest,
) -> DescribeProducersResponse {
    let (mut told, mut turns) = (0, Turns::default());
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in &request.topics {
        let mut rows = Vec::with_capacity(topic.partition_indexes.len());
        for index in &topic.partition_indexes {
            turns.next().await;
            let row = PartitionResponse::default().with_partition_index(*index);
            let found = match told {
                ..PRODUCERS_MAX => producers(services, &topic.name, *index),
                _ => Err(Refusal::new(
                    ResponseError::InvalidRequest,
                    "The answer is too long: ask for fewer partitions.",
                )),
            };
            told += found.as_ref().map_or(0, Vec::len);
            rows.push(match found {
                Ok(producers) => {
                    row.with_error_message(None).with_active_producers(producers.into_iter().map(state).collect())
                }
                Err(refusal) => row.with_error_code(refusal.code()).with_error_message(refusal.text()),
            });
        }
        topics.push(TopicResponse::default().with_name(topic_name(&topic.name)).with_partitions(rows));
    }
    DescribeProducersResponse::default().with_topics(topics)
}

/// When about so many producers are told, the partitions behind are INVALID_REQUEST: Kafka makes answers of any length.
const PRODUCERS_MAX: usize = 262_144;

fn producers(services: &AdminServices, topic: &str, index: i32) -> Result<Vec<ProducerRow>, Refusal> {
    validate(topic).map_err(|message| Refusal::new(ResponseError::InvalidTopicException, message))?;
    let (partition, held) = services.meta.read(|image| {
        topic_named(image, topic).ok_or(Refusal::standard(ResponseError::UnknownTopicOrPartition))?;
        let found = partition_of(image, topic, index);
        let (partition, _, state) = found.ok_or(Refusal::plain(ResponseError::UnknownTopicOrPartition))?;
        Ok::<_, Refusal>((partition, state.holder == Some(services.node.session)))
    })?;
    let rows = if held { services.log.producers(partition) } else { None };
    rows.ok_or(Refusal::plain(ResponseError::NotLeaderOrFollower))
}

fn state(row: ProducerRow) -> ProducerState {
    ProducerState::default()
        .with_producer_id(ProducerId(row.producer_id))
        .with_producer_epoch(i32::from(row.epoch))
        .with_last_sequence(row.last_sequence)
        .with_last_timestamp(row.last_timestamp)
        .with_coordinator_epoch(row.coordinator_epoch)
        .with_current_txn_start_offset(row.current_txn_start_offset)
}
