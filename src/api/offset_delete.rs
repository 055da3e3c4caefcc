//! OffsetDelete (47), v0: forgets where a group stands. Topics that the group consumes are refused (GROUP_SUBSCRIBED_TO_TOPIC).

use kafka_protocol::messages::offset_delete_response::{OffsetDeleteResponsePartition, OffsetDeleteResponseTopic};
use kafka_protocol::messages::{OffsetDeleteRequest, OffsetDeleteResponse};

use super::context::{RequestContext, TopicLookup, text};
use crate::coord::message::{DeleteOffsets, Input, Limits, Reply};
use crate::coord::{GroupError, Groups};

const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;

pub async fn handle(
    groups: &Groups,
    topics: &dyn TopicLookup,
    _cx: &RequestContext,
    request: OffsetDeleteRequest,
) -> OffsetDeleteResponse {
    let mut partitions = Vec::new();
    for topic in request.topics.iter().filter(|topic| topics.by_name(topic.name.as_str()).is_some()) {
        partitions.extend(topic.partitions.iter().map(|partition| (text(&topic.name), partition.partition_index)));
    }
    let mut results = match delete(groups, request.group_id.as_str(), partitions).await {
        Ok(results) => results.into_iter(),
        Err(error) => return OffsetDeleteResponse::default().with_error_code(error.code()),
    };
    let answers = request.topics.iter().map(|topic| {
        let exists = topics.by_name(topic.name.as_str()).is_some();
        let partitions = topic.partitions.iter().map(|partition| {
            let code = match exists.then(|| results.next()).flatten() {
                Some(result) => result.err().map_or(0, GroupError::code),
                None => UNKNOWN_TOPIC_OR_PARTITION,
            };
            OffsetDeleteResponsePartition::default()
                .with_partition_index(partition.partition_index)
                .with_error_code(code)
        });
        OffsetDeleteResponseTopic::default().with_name(topic.name.clone()).with_partitions(partitions.collect())
    });
    OffsetDeleteResponse::default().with_topics(answers.collect())
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
