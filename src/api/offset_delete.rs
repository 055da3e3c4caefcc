//! OffsetDelete (47), v0: forgets where a group stands. Topics that the group consumes are refused (GROUP_SUBSCRIBED_TO_TOPIC).

use kafka_protocol::messages::offset_delete_response::{OffsetDeleteResponsePartition, OffsetDeleteResponseTopic};
use kafka_protocol::messages::{OffsetDeleteRequest, OffsetDeleteResponse};

use super::context::{RequestContext, TopicLookup, text};
use super::turns::Turns;
use crate::coord::message::{DeleteOffsets, Input, Limits, Reply};
use crate::coord::{GroupError, Groups};

const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;

pub async fn handle(
    groups: &Groups,
    topics: &dyn TopicLookup,
    _cx: &RequestContext,
    request: OffsetDeleteRequest,
) -> OffsetDeleteResponse {
    let exists = |topic: &str, index: i32| topics.by_name(topic).is_some_and(|(_, count)| (0..count).contains(&index));
    let mut partitions = Vec::new();
    let mut answers: Vec<OffsetDeleteResponseTopic> = Vec::with_capacity(request.topics.len());
    // Where in `answers` the result of each of `partitions` belongs.
    let mut places = Vec::new();
    let mut turns = Turns::default();
    // Kafka's answer is made of partitions: a topic without any is not in it.
    for topic in request.topics.iter().filter(|topic| !topic.partitions.is_empty()) {
        let mut answer = OffsetDeleteResponseTopic::default().with_name(topic.name.clone());
        for index in topic.partitions.iter().map(|partition| partition.partition_index) {
            turns.next().await;
            let known = exists(topic.name.as_str(), index);
            if known {
                places.push((answers.len(), answer.partitions.len()));
                partitions.push((text(&topic.name), index));
            }
            let code = if known { 0 } else { UNKNOWN_TOPIC_OR_PARTITION };
            let result = OffsetDeleteResponsePartition::default().with_partition_index(index).with_error_code(code);
            answer.partitions.push(result);
        }
        answers.push(answer);
    }
    match delete(groups, request.group_id.as_str(), partitions).await {
        Err(error) => OffsetDeleteResponse::default().with_error_code(error.code()),
        Ok(results) => {
            for ((topic, partition), result) in places.into_iter().zip(results) {
                answers[topic].partitions[partition].error_code = result.err().map_or(0, GroupError::code);
            }
            OffsetDeleteResponse::default().with_topics(answers)
        }
    }
}

async fn delete(
    groups: &Groups,
    group: &str,
    partitions: Vec<(String, i32)>,
) -> Result<Vec<Result<(), GroupError>>, GroupError> {
    if group.is_empty() || group.len() > Limits::MAX_NAME_BYTES {
        return Err(GroupError::InvalidGroupId);
    }
    match groups.call(group, |reply| Input::DeleteOffsets(DeleteOffsets { reply, partitions })).await? {
        Reply::Partitions(results) => results,
        _ => Err(GroupError::NotAvailable),
    }
}
