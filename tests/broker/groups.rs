//! Groups whose offsets come back from the store.

use std::time::Duration;

use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestTopic;
use kafka_protocol::messages::{
    ApiKey, GroupId, OffsetCommitRequest, OffsetCommitResponse, OffsetFetchRequest, OffsetFetchResponse,
};
use kafka_protocol::protocol::StrBytes;
use tokio::net::TcpStream;

use crate::client::Client;
use crate::harness::{Broker, create_topic, shared_memory, topic_name};

const COMMIT: i16 = 8;
const OFFSET_FETCH: i16 = 7;
const PARTITIONS: i32 = 300;

fn group() -> GroupId {
    GroupId(StrBytes::from_static_str("g"))
}

async fn commit(client: &mut Client<TcpStream>, offset: i64, metadata: &str) -> Vec<i16> {
    let partition = |index| {
        OffsetCommitRequestPartition::default()
            .with_partition_index(index)
            .with_committed_offset(offset)
            .with_committed_metadata(Some(StrBytes::from(metadata.to_owned())))
    };
    let topic = OffsetCommitRequestTopic::default()
        .with_name(topic_name("t"))
        .with_partitions((0..PARTITIONS).map(partition).collect());
    let request = OffsetCommitRequest::default()
        .with_group_id(group())
        .with_generation_id_or_member_epoch(-1)
        .with_topics(vec![topic]);
    let answer: OffsetCommitResponse = client.call(ApiKey::OffsetCommit, COMMIT, &request).await.expect("answers");
    answer.topics.iter().flat_map(|topic| &topic.partitions).map(|partition| partition.error_code).collect()
}

/// The error of the group, and what it has committed.
async fn committed(client: &mut Client<TcpStream>) -> (i16, Vec<i64>) {
    let topic =
        OffsetFetchRequestTopic::default().with_name(topic_name("t")).with_partition_indexes((0..PARTITIONS).collect());
    let request = OffsetFetchRequest::default().with_group_id(group()).with_topics(Some(vec![topic]));
    let answer: OffsetFetchResponse = client.call(ApiKey::OffsetFetch, OFFSET_FETCH, &request).await.expect("answers");
    let partitions = answer.topics.iter().flat_map(|topic| &topic.partitions);
    (answer.error_code, partitions.map(|partition| partition.committed_offset).collect())
}

/// A commit that is larger than a block of the cache comes back in several slices.
#[tokio::test(flavor = "multi_thread")]
async fn commits_that_lie_across_blocks_are_loaded() {
    let store = shared_memory();
    let broker = Broker::start(store.clone(), |_| {}).await;
    let mut client = broker.client().await;
    assert_eq!(create_topic(&mut client, "t", PARTITIONS).await, 0);
    for offset in 1..=3 {
        let mut errors = commit(&mut client, offset, &"m".repeat(4000)).await;
        for _ in 0..100 {
            if !errors.iter().any(|error| [14, 15, 16].contains(error)) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
            errors = commit(&mut client, offset, &"m".repeat(4000)).await;
        }
        assert_eq!(errors, vec![0; PARTITIONS as usize]);
    }
    broker.kill().await;
    let broker = Broker::start(store, |_| {}).await;
    let mut client = broker.client().await;
    let loaded = async {
        loop {
            let (error, offsets) = committed(&mut client).await;
            if error == 0 {
                return offsets;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let offsets = tokio::time::timeout(Duration::from_secs(20), loaded).await.expect("the group is loaded");
    assert_eq!(offsets, vec![3; PARTITIONS as usize]);
}
