use std::cell::Cell;
use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;

use kafka_protocol::messages::alter_partition_reassignments_request::{ReassignablePartition, ReassignableTopic};
use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_producers_request::TopicRequest;
use kafka_protocol::messages::describe_topic_partitions_request;
use kafka_protocol::messages::elect_leaders_request::TopicPartitions;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::offset_delete_request::{OffsetDeleteRequestPartition, OffsetDeleteRequestTopic};
use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestTopic;
use kafka_protocol::messages::{describe_log_dirs_request, *};

use super::*;
use crate::api::context::{CoordinatorLocator, RequestContext, TopicLookup};
use crate::api::ports::AdminServices;
use crate::api::refusal::{string, topic_name};
use crate::api::testing::{at_version, one_broker};
use crate::api::*;
use crate::coord::log::memory::MemoryLog;
use crate::coord::{Groups, Limits};
use crate::types::TopicId;
use crate::types::env::testing;

const NAMES: usize = 20_000;

/// Nothing is there.
struct Nothing;

impl TopicLookup for Nothing {
    fn by_name(&self, _name: &str) -> Option<(TopicId, i32)> {
        None
    }

    fn by_id(&self, _id: TopicId) -> Option<(String, i32)> {
        None
    }
}

impl CoordinatorLocator for Nothing {
    fn locate(&self, _group: &str) -> Option<(i32, String, u16)> {
        None
    }
}

/// How often another task of the same thread has its turn meanwhile.
async fn turns_of_a_neighbour<T>(work: impl Future<Output = T>) -> usize {
    let local = tokio::task::LocalSet::new();
    local
        .run_until(async {
            let turns = Rc::new(Cell::new(0));
            let counted = turns.clone();
            let neighbour = tokio::task::spawn_local(async move {
                loop {
                    counted.set(counted.get() + 1);
                    yield_now().await;
                }
            });
            work.await;
            neighbour.abort();
            turns.get()
        })
        .await
}

fn names() -> impl Iterator<Item = String> {
    (0..NAMES).map(|number| format!("name-{number}"))
}

async fn check<T>(name: &str, work: impl Future<Output = T>) {
    let turns = turns_of_a_neighbour(work).await;
    assert!(turns >= NAMES / ELEMENTS_AT_ONCE, "{name}: {turns} turns");
}

#[tokio::test]
async fn a_neighbour_is_counted() {
    assert!(turns_of_a_neighbour(async { names().count() }).await < 2);
}

#[tokio::test]
async fn long_requests_about_topics_give_way() {
    let services: AdminServices = one_broker().await;
    let (services, cx) = (&services, at_version);
    let topics = names().map(|name| MetadataRequestTopic::default().with_name(Some(topic_name(&name))));
    let request = MetadataRequest::default().with_topics(Some(topics.collect())).with_allow_auto_topic_creation(false);
    check("Metadata", metadata::handle(services, &cx(9), request)).await;

    let topics = names().map(|name| CreatableTopic::default().with_name(topic_name(&name)).with_num_partitions(1));
    let request = CreateTopicsRequest::default().with_topics(topics.collect()).with_validate_only(true);
    check("CreateTopics", create_topics::handle(services, &cx(7), request)).await;

    let request = DeleteTopicsRequest::default().with_topic_names(names().map(|name| topic_name(&name)).collect());
    check("DeleteTopics", delete_topics::handle(services, &cx(5), request)).await;

    let topics = names().map(|name| CreatePartitionsTopic::default().with_name(topic_name(&name)).with_count(2));
    let request = CreatePartitionsRequest::default().with_topics(topics.collect());
    check("CreatePartitions", create_partitions::handle(services, &cx(3), request)).await;

    let cut = |name: String| {
        DeleteRecordsTopic::default()
            .with_name(topic_name(&name))
            .with_partitions(vec![DeleteRecordsPartition::default()])
    };
    let request = DeleteRecordsRequest::default().with_topics(names().map(cut).collect());
    check("DeleteRecords", delete_records::handle(services, &cx(2), request)).await;
}

#[tokio::test]
async fn long_questions_give_way() {
    let services: AdminServices = one_broker().await;
    let (services, cx) = (&services, at_version);
    let resource =
        |name: String| DescribeConfigsResource::default().with_resource_type(2).with_resource_name(string(&name));
    let request = DescribeConfigsRequest::default().with_resources(names().map(resource).collect());
    check("DescribeConfigs", describe_configs::handle(services, &cx(4), request)).await;

    let indexes: Vec<i32> = (0..NAMES as i32).collect();
    let topic = describe_log_dirs_request::DescribableLogDirTopic::default()
        .with_topic(topic_name("t"))
        .with_partitions(indexes.clone());
    let request = DescribeLogDirsRequest::default().with_topics(Some(vec![topic]));
    check("DescribeLogDirs", describe_log_dirs::handle(services, &cx(4), request)).await;

    let moved = |index: &i32| ReassignablePartition::default().with_partition_index(*index);
    let topic =
        ReassignableTopic::default().with_name(topic_name("t")).with_partitions(indexes.iter().map(moved).collect());
    let request = AlterPartitionReassignmentsRequest::default().with_topics(vec![topic]);
    check("AlterPartitionReassignments", alter_partition_reassignments::handle(services, &cx(0), request)).await;

    let topic = TopicRequest::default().with_name(topic_name("t")).with_partition_indexes(indexes.clone());
    let request = DescribeProducersRequest::default().with_topics(vec![topic]);
    check("DescribeProducers", describe_producers::handle(services, &cx(0), request)).await;

    let topic = |name: String| describe_topic_partitions_request::TopicRequest::default().with_name(topic_name(&name));
    let request = DescribeTopicPartitionsRequest::default().with_topics(names().map(topic).collect());
    check("DescribeTopicPartitions", describe_topic_partitions::handle(services, &cx(0), request)).await;

    let topic = TopicPartitions::default().with_topic(topic_name("t")).with_partitions(indexes);
    let request = ElectLeadersRequest::default().with_topic_partitions(Some(vec![topic]));
    check("ElectLeaders", elect_leaders::handle(services, &cx(2), request)).await;
}

#[tokio::test]
async fn long_requests_about_groups_give_way() {
    let settings = crate::config::KafkaSettings::default();
    let groups = Groups::start(testing::env(1), Limits::from_settings(&settings), Arc::new(MemoryLog::new(3)));
    let cx: fn(i16) -> RequestContext = at_version;
    let ids = || names().map(|name| GroupId(string(&name))).collect::<Vec<_>>();

    let request = DescribeGroupsRequest::default().with_groups(ids());
    check("DescribeGroups", describe_groups::handle(&groups, &cx(5), request)).await;

    let request = DeleteGroupsRequest::default().with_groups_names(ids());
    check("DeleteGroups", delete_groups::handle(&groups, &cx(2), request)).await;

    let request = FindCoordinatorRequest::default().with_coordinator_keys(names().map(|name| string(&name)).collect());
    check("FindCoordinator", find_coordinator::handle(&groups, &Nothing, &cx(4), request)).await;

    let commit = |name: String| {
        OffsetCommitRequestTopic::default()
            .with_name(topic_name(&name))
            .with_partitions(vec![OffsetCommitRequestPartition::default()])
    };
    let request = OffsetCommitRequest::default().with_topics(names().map(commit).collect());
    check("OffsetCommit", offset_commit::handle(&groups, &Nothing, &cx(8), request)).await;

    let topic = OffsetFetchRequestTopic::default()
        .with_name(topic_name("t"))
        .with_partition_indexes((0..NAMES as i32).collect());
    let request = OffsetFetchRequest::default().with_group_id(GroupId(string("g"))).with_topics(Some(vec![topic]));
    check("OffsetFetch", offset_fetch::handle(&groups, &Nothing, &cx(7), request)).await;

    let delete = |name: String| {
        OffsetDeleteRequestTopic::default()
            .with_name(topic_name(&name))
            .with_partitions(vec![OffsetDeleteRequestPartition::default()])
    };
    let request =
        OffsetDeleteRequest::default().with_group_id(GroupId(string("g"))).with_topics(names().map(delete).collect());
    check("OffsetDelete", offset_delete::handle(&groups, &Nothing, &cx(0), request)).await;
}

#[test]
fn others_go_on_beside_a_long_step() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().expect("a runtime");
    let (sender, receiver) = std::sync::mpsc::channel();
    runtime.block_on(async {
        let step = tokio::spawn(async move {
            uncut(LONG_STEP_BYTES, || receiver.recv_timeout(std::time::Duration::from_secs(30)))
        });
        // On the only thread, which waits for it.
        tokio::spawn(async move { sender.send(7) }).await.expect("it runs").expect("it is waited for");
        assert_eq!(step.await.expect("it runs"), Ok(7));
    });
}

#[tokio::test]
async fn a_runtime_of_one_thread_runs_long_steps_itself() {
    assert_eq!(uncut(LONG_STEP_BYTES, || std::thread::current().id()), std::thread::current().id());
}
