//! OffsetFetch (9), v1-10: where a group stands.
//!
//! v1 errors per partition · v2-7 one error at the top, null topics mean all · v7 RequireStable · v8 several groups, each with
//! its error · v9 member id and epoch (KIP-848 only) · v10 topics by id, unknown ones UNKNOWN_TOPIC_ID.
//! A partition without an offset, also of a group that does not exist, is no error: offset −1.
//! Groups behind a very long answer are INVALID_REQUEST: Kafka makes answers of any length.

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use kafka_protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions, OffsetFetchResponseTopic,
    OffsetFetchResponseTopics,
};
use kafka_protocol::messages::{OffsetFetchRequest, OffsetFetchResponse, TopicName};
use kafka_protocol::protocol::StrBytes;
use tokio::task::yield_now;

use super::context::{RequestContext, TopicLookup, text};
use super::turns::{ELEMENTS_AT_ONCE, Turns};
use super::unread::LONG_ANSWER_BYTES;
use crate::coord::group::Group;
use crate::coord::message::Limits;
use crate::coord::offsets::Offsets;
use crate::coord::records::CommittedOffset;
use crate::coord::{GroupError, Groups};
use crate::types::TopicId;

const UNKNOWN_TOPIC_ID: i16 = 100;

pub async fn handle(
    groups: &Groups,
    topics: &dyn TopicLookup,
    cx: &RequestContext,
    request: OffsetFetchRequest,
) -> OffsetFetchResponse {
    if cx.api_version >= 8 {
        let mut answers = Vec::with_capacity(request.groups.len());
        let mut bytes = 0;
        for asked in request.groups.chunks(GROUPS_AT_ONCE) {
            if bytes > LONG_ANSWER_BYTES {
                let refused = |group: &OffsetFetchRequestGroup| {
                    let answer = OffsetFetchResponseGroup::default().with_group_id(group.group_id.clone());
                    answer.with_error_code(ResponseError::InvalidRequest.code())
                };
                answers.extend(asked.iter().map(refused));
                continue;
            }
            let fetches = asked.iter().map(|group| fetch(groups, topics, cx.api_version, group));
            let fetched = futures::future::join_all(fetches).await;
            bytes += fetched
                .iter()
                .flat_map(|group| &group.topics)
                .flat_map(|topic| &topic.partitions)
                .map(size)
                .sum::<usize>();
            answers.extend(fetched);
            tokio::task::yield_now().await;
        }
        return OffsetFetchResponse::default().with_groups(answers);
    }
    let asked = request.topics.map(|topics| {
        let topics = topics.into_iter().map(|topic| {
            OffsetFetchRequestTopics::default().with_name(topic.name).with_partition_indexes(topic.partition_indexes)
        });
        topics.collect::<Vec<_>>()
    });
    let group = OffsetFetchRequestGroup::default().with_group_id(request.group_id).with_topics(asked);
    let answer = fetch(groups, topics, cx.api_version, &group).await;
    single(cx.api_version, &group, answer)
}

/// Groups that are looked at side by side.
const GROUPS_AT_ONCE: usize = 32;

/// About the bytes of a partition in memory.
fn size(partition: &OffsetFetchResponsePartitions) -> usize {
    const FIXED: usize = 100;
    FIXED + partition.metadata.as_ref().map_or(0, |metadata| metadata.len())
}

/// The answer in the shape of versions before 8.
fn single(version: i16, asked: &OffsetFetchRequestGroup, answer: OffsetFetchResponseGroup) -> OffsetFetchResponse {
    let error = answer.error_code;
    let mut topics: Vec<OffsetFetchResponseTopic> = answer.topics.into_iter().map(old_topic).collect();
    if version < 2 && error != 0 {
        // There is no error at the top: every partition that was asked for bears it.
        let failed = |topic: &OffsetFetchRequestTopics| {
            let partitions = topic.partition_indexes.iter().map(|index| old_partition(missing(*index, error)));
            OffsetFetchResponseTopic::default().with_name(topic.name.clone()).with_partitions(partitions.collect())
        };
        topics = asked.topics.iter().flatten().map(failed).collect();
    }
    OffsetFetchResponse::default().with_topics(topics).with_error_code(if version < 2 { 0 } else { error })
}

fn old_topic(topic: OffsetFetchResponseTopics) -> OffsetFetchResponseTopic {
    let partitions = topic.partitions.into_iter().map(old_partition).collect();
    OffsetFetchResponseTopic::default().with_name(topic.name).with_partitions(partitions)
}

fn old_partition(partition: OffsetFetchResponsePartitions) -> OffsetFetchResponsePartition {
    OffsetFetchResponsePartition::default()
        .with_partition_index(partition.partition_index)
        .with_committed_offset(partition.committed_offset)
        .with_committed_leader_epoch(partition.committed_leader_epoch)
        .with_metadata(partition.metadata)
        .with_error_code(partition.error_code)
}

async fn fetch(
    groups: &Groups,
    topics: &dyn TopicLookup,
    version: i16,
    asked: &OffsetFetchRequestGroup,
) -> OffsetFetchResponseGroup {
    let id = asked.group_id.as_str();
    let answer = OffsetFetchResponseGroup::default().with_group_id(asked.group_id.clone());
    if id.len() > Limits::MAX_NAME_BYTES {
        return answer.with_error_code(GroupError::InvalidGroupId.code());
    }
    let look = |group: Option<&Group>| {
        let offsets = group.map(|group| &group.offsets);
        match &asked.topics {
            None => Found::Answered(all(topics, version, offsets)),
            Some(named) if is_long(named) => Found::Offsets(offsets.cloned()),
            Some(named) => Found::Answered(named.iter().map(|topic| some(topics, version, offsets, topic)).collect()),
        }
    };
    match groups.read(id, look).await {
        Ok(Found::Answered(found)) => answer.with_topics(found),
        Ok(Found::Offsets(offsets)) => {
            let named = asked.topics.as_deref().unwrap_or_default();
            answer.with_topics(in_turns(topics, version, offsets.as_ref(), named).await)
        }
        // Consumers before 3.9 do not expect COORDINATOR_NOT_AVAILABLE here.
        Err(GroupError::NotAvailable) => answer.with_error_code(GroupError::NotCoordinator.code()),
        Err(error) => answer.with_error_code(error.code()),
    }
}

/// What a look at a group brings.
enum Found {
    Answered(Vec<OffsetFetchResponseTopics>),
    /// All offsets as of one moment, to be looked through when the group is not held any more.
    Offsets(Option<Offsets>),
}

/// Whether to look for all of it at once would take long.
fn is_long(named: &[OffsetFetchRequestTopics]) -> bool {
    named.len() + named.iter().map(|topic| topic.partition_indexes.len()).sum::<usize>() > ELEMENTS_AT_ONCE
}

/// As [`some`] for each topic; a topic with many partitions is looked through piece by piece.
async fn in_turns(
    topics: &dyn TopicLookup,
    version: i16,
    offsets: Option<&Offsets>,
    named: &[OffsetFetchRequestTopics],
) -> Vec<OffsetFetchResponseTopics> {
    let (mut found, mut turns) = (Vec::with_capacity(named.len()), Turns::default());
    for topic in named {
        turns.next().await;
        let (some_of, rest) = topic.partition_indexes.split_at(topic.partition_indexes.len().min(ELEMENTS_AT_ONCE));
        let piece = |indexes: &[i32]| {
            let named = OffsetFetchRequestTopics::default().with_name(topic.name.clone()).with_topic_id(topic.topic_id);
            named.with_partition_indexes(indexes.to_vec())
        };
        let mut answer = some(topics, version, offsets, &piece(some_of));
        for indexes in rest.chunks(ELEMENTS_AT_ONCE) {
            yield_now().await;
            answer.partitions.extend(some(topics, version, offsets, &piece(indexes)).partitions);
        }
        found.push(answer);
    }
    found
}

fn all(topics: &dyn TopicLookup, version: i16, offsets: Option<&Offsets>) -> Vec<OffsetFetchResponseTopics> {
    let mut found: Vec<OffsetFetchResponseTopics> = Vec::new();
    for (name, index, offset) in offsets.iter().flat_map(|offsets| offsets.iter()) {
        let known = topics.by_name(name).map(|(id, _)| id);
        let is_gone = known.is_some_and(|id| is_of_another_topic(offset, id));
        if is_gone || (version >= 10 && known.is_none()) {
            continue;
        }
        if found.last().is_none_or(|topic| topic.name.as_str() != name) {
            found.push(OffsetFetchResponseTopics::default().with_name(TopicName(name.to_owned().into())));
            if let (10.., Some(id), Some(topic)) = (version, known, found.last_mut()) {
                topic.topic_id = id.into();
            }
        }
        if let Some(topic) = found.last_mut() {
            topic.partitions.push(committed(index, offset));
        }
    }
    found
}

fn some(
    topics: &dyn TopicLookup,
    version: i16,
    offsets: Option<&Offsets>,
    asked: &OffsetFetchRequestTopics,
) -> OffsetFetchResponseTopics {
    let answer = OffsetFetchResponseTopics::default();
    let (answer, name, id) = if version >= 10 {
        let id = TopicId::from(asked.topic_id);
        let answer = answer.with_topic_id(asked.topic_id);
        let Some((name, _)) = topics.by_id(id) else {
            let unknown = asked.partition_indexes.iter().map(|index| missing(*index, UNKNOWN_TOPIC_ID));
            return answer.with_partitions(unknown.collect());
        };
        (answer, name, Some(id))
    } else {
        let name = text(&asked.name);
        let id = topics.by_name(&name).map(|(id, _)| id);
        (answer.with_name(TopicName(name.clone().into())), name, id)
    };
    let partitions = asked.partition_indexes.iter().map(|index| {
        let offset = offsets.and_then(|offsets| offsets.get(&name, *index));
        match offset.filter(|offset| !id.is_some_and(|id| is_of_another_topic(offset, id))) {
            Some(offset) => committed(*index, offset),
            None => missing(*index, 0),
        }
    });
    answer.with_partitions(partitions.collect())
}

/// The offset was committed for an earlier topic of the same name.
fn is_of_another_topic(offset: &CommittedOffset, id: TopicId) -> bool {
    !offset.topic_id.is_zero() && offset.topic_id != id
}

fn committed(index: i32, offset: &CommittedOffset) -> OffsetFetchResponsePartitions {
    OffsetFetchResponsePartitions::default()
        .with_partition_index(index)
        .with_committed_offset(offset.offset)
        .with_committed_leader_epoch(offset.leader_epoch)
        .with_metadata(Some(offset.metadata.clone().into()))
}

fn missing(index: i32, code: i16) -> OffsetFetchResponsePartitions {
    OffsetFetchResponsePartitions::default()
        .with_partition_index(index)
        .with_committed_offset(-1)
        .with_committed_leader_epoch(-1)
        .with_metadata(Some(StrBytes::default()))
        .with_error_code(code)
}
