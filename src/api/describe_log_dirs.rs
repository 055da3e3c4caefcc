//! DescribeLogDirs (35), v1-5: one log dir, the object store, with the sizes of the partitions that this broker holds. v3 top-level
//! error · v4 total and usable bytes, which nobody knows of an object store (-1) · v5 cordoned, which it is not.

use std::collections::{BTreeMap, BTreeSet};

use kafka_protocol::messages::describe_log_dirs_response::{
    DescribeLogDirsPartition, DescribeLogDirsResult, DescribeLogDirsTopic,
};
use kafka_protocol::messages::{DescribeLogDirsRequest, DescribeLogDirsResponse};

use super::context::RequestContext;
use super::ports::AdminServices;
use super::refusal::{string, topic_name};
use super::turns::Turns;
use crate::meta::image::Image;
use crate::types::{PartitionId, SessionId};

const UNKNOWN_BYTES: i64 = -1;

pub async fn handle(
    services: &AdminServices,
    _cx: &RequestContext,
    request: DescribeLogDirsRequest,
) -> DescribeLogDirsResponse {
    let (mut asked, mut turns) = (BTreeMap::<String, BTreeSet<i32>>::new(), Turns::default());
    let all = request.topics.is_none();
    for topic in request.topics.into_iter().flatten() {
        let partitions = asked.entry(topic.topic.to_string()).or_default();
        for index in topic.partitions {
            turns.next().await;
            partitions.insert(index);
        }
    }
    let asked = (!all).then_some(asked);
    let held = services.meta.read(|image| held(image, services.node.session, asked.as_ref()));
    let topics = held.into_iter().map(|(name, partitions)| {
        let rows = partitions.into_iter().map(|partition| {
            let bytes = services.log.size_bytes(partition);
            DescribeLogDirsPartition::default()
                .with_partition_index(partition.index)
                .with_partition_size(i64::try_from(bytes).unwrap_or(i64::MAX))
        });
        DescribeLogDirsTopic::default().with_name(topic_name(&name)).with_partitions(rows.collect())
    });
    let dir = DescribeLogDirsResult::default()
        .with_log_dir(string(&services.node.store))
        .with_topics(topics.collect())
        .with_total_bytes(UNKNOWN_BYTES)
        .with_usable_bytes(UNKNOWN_BYTES);
    DescribeLogDirsResponse::default().with_results(vec![dir])
}

/// Partitions of the session by topic name; of those asked for, or all.
fn held(
    image: &Image,
    session: SessionId,
    asked: Option<&BTreeMap<String, BTreeSet<i32>>>,
) -> BTreeMap<String, Vec<PartitionId>> {
    let mut held = BTreeMap::new();
    for (name, id) in &image.names {
        let wanted = asked.map(|asked| asked.get(name));
        let (Some(topic), true) = (image.topics.get(id), wanted != Some(None)) else { continue };
        let partitions = (0..).zip(&topic.partitions);
        let mine = partitions.filter(|(_, state)| state.holder == Some(session)).map(|(index, _)| index);
        let mine = mine.filter(|index| wanted.flatten().is_none_or(|indexes| indexes.contains(index)));
        let mine: Vec<PartitionId> = mine.map(|index| PartitionId { topic: *id, index }).collect();
        if !mine.is_empty() {
            held.insert(name.clone(), mine);
        }
    }
    held
}
