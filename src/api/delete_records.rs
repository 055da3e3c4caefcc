//! DeleteRecords (21), v0-2: moves log starts up. -1 means the high watermark. Answers the new log start of each partition.
//!
//! Only the holder knows the high watermark; others answer NOT_LEADER_OR_FOLLOWER. The log start stands in the metadata table, so the
//! records are gone for every reader once the answer is out.

use std::collections::BTreeMap;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::delete_records_response::{DeleteRecordsPartitionResult, DeleteRecordsTopicResult};
use kafka_protocol::messages::{DeleteRecordsRequest, DeleteRecordsResponse, TopicName};

use super::config_view::Layers;
use super::context::RequestContext;
use super::ports::AdminServices;
use super::refusal::{decide_within, runs, topic_name};
use super::topic_view::partition_of;
use super::turns::Turns;
use crate::meta::entry::Change;
use crate::meta::image::{Configs, Image};
use crate::types::topic_config::TopicConfig;
use crate::types::{Offset, PartitionId, SessionId, TopicId};

/// "No low watermark", in refusals.
const NO_LOW_WATERMARK: i64 = -1;

/// About the bytes of one partition in an entry.
const PARTITION_BYTES: usize = 40;

/// A partition that may be cut, and where.
type Cut = (PartitionId, Offset);

/// A partition of the request by its index, and what it is if it may be cut.
type Admitted = (i32, Result<PartitionId, ResponseError>);

/// The log start of each partition afterwards.
type Starts = BTreeMap<PartitionId, Result<Offset, ResponseError>>;

pub async fn handle(
    services: &AdminServices,
    _cx: &RequestContext,
    request: DeleteRecordsRequest,
) -> DeleteRecordsResponse {
    let mut results: Vec<(TopicName, Vec<Admitted>)> = Vec::new();
    let mut cuts: Vec<Cut> = Vec::new();
    let broker = services.meta.read(|image| Layers::of(image, &services.at_start, services.node.node_id).effective());
    let mut turns = Turns::default();
    for topic in request.topics.iter().filter(|topic| !topic.partitions.is_empty()) {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        // As in Kafka's maps, of a partition that is named twice the last mention counts, and a topic without partitions does not.
        let last: BTreeMap<i32, usize> =
            topic.partitions.iter().enumerate().map(|(at, asked)| (asked.partition_index, at)).collect();
        for (_, asked) in topic.partitions.iter().enumerate().filter(|(at, asked)| last[&asked.partition_index] == *at)
        {
            turns.next().await;
            let cut = admit(services, &broker, &topic.name, asked.partition_index, asked.offset);
            cuts.extend(cut.as_ref().ok());
            partitions.push((asked.partition_index, cut.map(|(partition, _)| partition)));
        }
        results.push((topic_name(&topic.name), partitions));
    }
    let mut starts = Starts::new();
    let holder = services.node.session;
    for run in runs(cuts, |_| PARTITION_BYTES) {
        let asked: Vec<PartitionId> = run.iter().map(|(partition, _)| *partition).collect();
        match decide_within(&services.meta, request.timeout_ms, move |image| advance(image, holder, &run)).await {
            Ok(decided) => starts.extend(decided),
            Err(refusal) => starts.extend(asked.into_iter().map(|partition| (partition, Err(refusal.error)))),
        }
    }
    // At once, not when this broker follows the table: whoever reads after the answer finds nothing below.
    for (partition, start) in &starts {
        if let Ok(start) = start {
            services.log.advance_log_start(*partition, *start);
        }
    }
    let topics = results.into_iter().map(|(name, partitions)| {
        let rows = partitions.into_iter().map(|(index, result)| {
            let lost = Err(ResponseError::UnknownServerError);
            row(index, result.and_then(|partition| starts.get(&partition).copied().unwrap_or(lost)))
        });
        DeleteRecordsTopicResult::default().with_name(name).with_partitions(rows.collect())
    });
    DeleteRecordsResponse::default().with_topics(topics.collect())
}

fn row(index: i32, result: Result<Offset, ResponseError>) -> DeleteRecordsPartitionResult {
    let row = DeleteRecordsPartitionResult::default().with_partition_index(index);
    match result {
        Ok(start) => row.with_low_watermark(start),
        Err(error) => row.with_low_watermark(NO_LOW_WATERMARK).with_error_code(error.code()),
    }
}

/// Checks one partition in Kafka's order: internal, known, held here, policy, range.
fn admit(
    services: &AdminServices,
    broker: &Configs,
    topic: &str,
    index: i32,
    offset: Offset,
) -> Result<Cut, ResponseError> {
    let partition = services.meta.read(|image| {
        let found = partition_of(image, topic, index);
        if crate::types::topic_name::is_internal(topic) {
            return Err(ResponseError::InvalidTopicException);
        }
        let (partition, topic, state) = found.ok_or(ResponseError::UnknownTopicOrPartition)?;
        if state.holder != Some(services.node.session) {
            return Err(ResponseError::NotLeaderOrFollower);
        }
        let config = TopicConfig::from(&topic.configs, broker);
        if config.cleanup_compact && !config.cleanup_delete {
            return Err(ResponseError::PolicyViolation);
        }
        Ok(partition)
    })?;
    let high_watermark = services.log.high_watermark(partition).ok_or(ResponseError::NotLeaderOrFollower)?;
    Ok((partition, target(offset, high_watermark)?))
}

/// Where the log is to start.
fn target(offset: Offset, high_watermark: Offset) -> Result<Offset, ResponseError> {
    match offset {
        -1 => Ok(high_watermark),
        0.. if offset <= high_watermark => Ok(offset),
        _ => Err(ResponseError::OffsetOutOfRange),
    }
}

/// Changes for those cuts that lie above the log start, and the log start of each partition afterwards. Only the holder may cut: of
/// another broker's change it would hear late, and show meanwhile what was deleted.
fn advance(image: &Image, holder: SessionId, cuts: &[Cut]) -> (Vec<Change>, Starts) {
    let mut moved: BTreeMap<TopicId, BTreeMap<i32, Offset>> = BTreeMap::new();
    let mut starts = Starts::new();
    for (partition, offset) in cuts {
        let topic = image.topics.get(&partition.topic);
        let state = topic.and_then(|topic| topic.partitions.get(usize::try_from(partition.index).ok()?));
        let Some(state) = state else {
            starts.insert(*partition, Err(ResponseError::UnknownTopicOrPartition));
            continue;
        };
        if state.holder != Some(holder) {
            starts.insert(*partition, Err(ResponseError::NotLeaderOrFollower));
            continue;
        }
        let before = starts.get(partition).and_then(|start| start.ok()).unwrap_or(state.log_start);
        starts.insert(*partition, Ok(before.max(*offset)));
        if *offset > before {
            moved.entry(partition.topic).or_default().insert(partition.index, *offset);
        }
    }
    let changes = moved.into_iter().map(|(topic, offsets)| Change::AdvanceLogStart { topic, offsets });
    (changes.collect(), starts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meta::image::{PartitionState, Topic};

    #[test]
    fn targets_are_judged_as_in_kafka() {
        for (offset, answer) in [
            (-1, Ok(10)),
            (0, Ok(0)),
            (10, Ok(10)),
            (11, Err(ResponseError::OffsetOutOfRange)),
            (-2, Err(ResponseError::OffsetOutOfRange)),
        ] {
            assert_eq!(target(offset, 10), answer, "{offset}");
        }
    }

    #[test]
    fn a_log_start_never_goes_back() {
        let topic = TopicId(7);
        let holder = SessionId { revision: 3, random: 1 };
        let state = PartitionState { epoch: 0, holder: Some(holder), tenures: Vec::new(), log_start: 5 };
        let mut image = Image::default();
        let partitions = vec![state.clone(), state];
        let entry =
            Topic { name: "t".into(), replication_factor: 1, internal: false, configs: BTreeMap::new(), partitions };
        image.topics.insert(topic, entry);
        let at = |index| PartitionId { topic, index };
        let (changes, starts) = advance(&image, holder, &[(at(0), 4), (at(1), 9), (at(2), 1), (at(1), 8)]);
        assert_eq!(changes, [Change::AdvanceLogStart { topic, offsets: [(1, 9)].into() }]);
        let unknown = Err(ResponseError::UnknownTopicOrPartition);
        assert_eq!(starts, Starts::from([(at(0), Ok(5)), (at(1), Ok(9)), (at(2), unknown)]));
        let replaced = SessionId { revision: 2, random: 1 };
        let (changes, starts) = advance(&image, replaced, &[(at(0), 9)]);
        assert_eq!(changes, []);
        assert_eq!(starts, Starts::from([(at(0), Err(ResponseError::NotLeaderOrFollower))]));
    }
}
