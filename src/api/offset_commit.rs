//! OffsetCommit (8), v2-10: stores where a group stands.
//!
//! v2-4 retention time · v6 leader epoch · v7 static members · v9 GROUP_ID_NOT_FOUND instead of ILLEGAL_GENERATION for unknown
//! groups · v10 topics by id. Each partition has its own answer: topics and partitions that do not exist are refused, the rest is
//! stored. The offset is not compared with the log.

use std::collections::BTreeMap;

use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::offset_commit_response::{OffsetCommitResponsePartition, OffsetCommitResponseTopic};
use kafka_protocol::messages::{OffsetCommitRequest, OffsetCommitResponse, TopicName};
use uuid::Uuid;

use super::context::{RequestContext, TopicLookup, optional_text, text};
use super::turns::Turns;
use crate::coord::message::{Commit, CommitPartition, Input, Limits, Reply};
use crate::coord::{GroupError, Groups};
use crate::types::TopicId;

const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
const UNKNOWN_TOPIC_ID: i16 = 100;

pub async fn handle(
    groups: &Groups,
    topics: &dyn TopicLookup,
    cx: &RequestContext,
    request: OffsetCommitRequest,
) -> OffsetCommitResponse {
    let (mut refused, mut accepted) = (Rows::default(), Vec::<OffsetCommitResponseTopic>::new());
    let mut commits = Vec::new();
    // Where in `accepted` the result of each of `commits` belongs.
    let mut places = Vec::new();
    let mut turns = Turns::default();
    for topic in &request.topics {
        let found = find(topics, cx.api_version, topic);
        if found.is_err() {
            refused.of(topic);
        }
        let mut row = row(topic);
        for partition in &topic.partitions {
            turns.next().await;
            let index = partition.partition_index;
            let result = OffsetCommitResponsePartition::default().with_partition_index(index);
            match &found {
                Err(code) => refused.of(topic).partitions.push(result.with_error_code(*code)),
                Ok((_, _, count)) if !(0..*count).contains(&index) => {
                    refused.of(topic).partitions.push(result.with_error_code(UNKNOWN_TOPIC_OR_PARTITION));
                }
                Ok((name, id, _)) => {
                    places.push((accepted.len(), row.partitions.len()));
                    commits.push(commit(name, *id, partition));
                    row.partitions.push(result);
                }
            }
        }
        if !row.partitions.is_empty() {
            accepted.push(row);
        }
    }
    if !commits.is_empty() {
        let results = store(groups, cx, &request, commits).await;
        for (number, (topic, partition)) in places.into_iter().enumerate() {
            let result = match &results {
                Ok(results) => results.get(number).copied().unwrap_or(Err(GroupError::NotAvailable)),
                Err(error) => Err(*error),
            };
            accepted[topic].partitions[partition].error_code = result.err().map_or(0, GroupError::code);
        }
    }
    OffsetCommitResponse::default().with_topics(refused.and(accepted))
}

/// Whether there is every topic and partition that is named.
pub fn knows_all(topics: &dyn TopicLookup, version: i16, request: &OffsetCommitRequest) -> bool {
    request.topics.iter().all(|topic| {
        let count = find(topics, version, topic).map_or(0, |(_, _, count)| count);
        topic.partitions.iter().all(|partition| (0..count).contains(&partition.partition_index))
    })
}

/// The answer's row of a topic, without partitions.
fn row(topic: &OffsetCommitRequestTopic) -> OffsetCommitResponseTopic {
    OffsetCommitResponseTopic::default().with_name(topic.name.clone()).with_topic_id(topic.topic_id)
}

/// What is refused, one row of each topic however often it is named. Source: OffsetCommitResponse.Builder.
#[derive(Default)]
struct Rows {
    rows: Vec<OffsetCommitResponseTopic>,
    places: BTreeMap<(TopicName, Uuid), usize>,
}

impl Rows {
    fn of(&mut self, topic: &OffsetCommitRequestTopic) -> &mut OffsetCommitResponseTopic {
        let place = *self.places.entry((topic.name.clone(), topic.topic_id)).or_insert(self.rows.len());
        if place == self.rows.len() {
            self.rows.push(row(topic));
        }
        &mut self.rows[place]
    }

    /// With what the group has answered: a row of each mention, unless something is refused.
    fn and(mut self, accepted: Vec<OffsetCommitResponseTopic>) -> Vec<OffsetCommitResponseTopic> {
        if self.rows.is_empty() {
            return accepted;
        }
        for topic in accepted {
            let place = *self.places.entry((topic.name.clone(), topic.topic_id)).or_insert(self.rows.len());
            match self.rows.get_mut(place) {
                Some(row) => row.partitions.extend(topic.partitions),
                None => self.rows.push(topic),
            }
        }
        self.rows
    }
}

/// Name, id and number of partitions of the topic, or an error code for all its partitions.
fn find(
    topics: &dyn TopicLookup,
    version: i16,
    topic: &OffsetCommitRequestTopic,
) -> Result<(String, TopicId, i32), i16> {
    if version >= 10 {
        let id = TopicId::from(topic.topic_id);
        let (name, count) = topics.by_id(id).ok_or(UNKNOWN_TOPIC_ID)?;
        return Ok((name, id, count));
    }
    let (id, count) = topics.by_name(topic.name.as_str()).ok_or(UNKNOWN_TOPIC_OR_PARTITION)?;
    Ok((text(&topic.name), id, count))
}

fn commit(name: &str, topic_id: TopicId, partition: &OffsetCommitRequestPartition) -> CommitPartition {
    CommitPartition {
        topic: name.to_owned(),
        topic_id,
        partition: partition.partition_index,
        offset: partition.committed_offset,
        leader_epoch: partition.committed_leader_epoch,
        metadata: optional_text(&partition.committed_metadata).unwrap_or_default(),
    }
}

async fn store(
    groups: &Groups,
    cx: &RequestContext,
    request: &OffsetCommitRequest,
    partitions: Vec<CommitPartition>,
) -> Result<Vec<Result<(), GroupError>>, GroupError> {
    let group = request.group_id.as_str();
    if group.len() > Limits::MAX_NAME_BYTES {
        return Err(GroupError::InvalidGroupId);
    }
    let input = |reply| {
        Input::Commit(Commit {
            reply,
            generation: request.generation_id_or_member_epoch,
            member_id: text(&request.member_id),
            instance_id: optional_text(&request.group_instance_id),
            retention_ms: (request.retention_time_ms != -1).then_some(request.retention_time_ms),
            knows_group_not_found: cx.api_version >= 9,
            partitions,
        })
    };
    match groups.call(group, input).await? {
        Reply::Partitions(results) => results,
        _ => Err(GroupError::NotAvailable),
    }
}
