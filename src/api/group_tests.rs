//! The group APIs as a client sees them, in every version. What is expected here was asked of Apache Kafka 4.3.1.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::describe_groups_response::DescribedGroup;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::offset_delete_request::{OffsetDeleteRequestPartition, OffsetDeleteRequestTopic};
use kafka_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::*;
use kafka_protocol::protocol::{Decodable, Encodable, Message, StrBytes};

use super::context::{CoordinatorLocator, RequestContext, TopicLookup};
use super::*;
use crate::api::testing::passed;
use crate::coord::log::memory::MemoryLog;
use crate::coord::{Groups, Limits, OffsetsLog};
use crate::types::TopicId;
use crate::types::env::testing;

const TOPIC: TopicId = TopicId(0x77);

/// One topic "t" with two partitions; this broker, node 4, coordinates everything.
struct World;

impl TopicLookup for World {
    fn by_name(&self, name: &str) -> Option<(TopicId, i32)> {
        (name == "t").then_some((TOPIC, 2))
    }

    fn by_id(&self, id: TopicId) -> Option<(String, i32)> {
        (id == TOPIC).then(|| ("t".to_owned(), 2))
    }
}

impl CoordinatorLocator for World {
    fn locate(&self, group: &str) -> Option<(i32, String, u16)> {
        (group != "homeless").then(|| (4, "broker-4".to_owned(), 9092))
    }
}

fn start() -> (Groups, Arc<MemoryLog>) {
    let log = Arc::new(MemoryLog::new(3));
    let settings = crate::config::KafkaSettings::default();
    let limits = Limits { initial_rebalance_delay_ms: 0, ..Limits::from_settings(&settings) };
    let port: Arc<dyn OffsetsLog> = log.clone();
    (Groups::start(testing::env(1), limits, port), log)
}

fn cx(api_version: i16) -> RequestContext {
    RequestContext { api_version, client_id: Some("client".to_owned()), client_host: "10.0.0.9".to_owned() }
}

fn s(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

fn id(text: &str) -> GroupId {
    GroupId(s(text))
}

/// What arrives at the client: the answer, written and read in that version.
fn wire<T: Encodable + Decodable + PartialEq + std::fmt::Debug>(version: i16, response: T) -> T {
    let mut bytes = BytesMut::new();
    response.encode(&mut bytes, version).expect("the answer can be written in this version");
    T::decode(&mut bytes.freeze(), version).expect("and read")
}

fn join_request(group: &str, member: &str, instance: Option<&str>) -> JoinGroupRequest {
    let protocol = JoinGroupRequestProtocol::default()
        .with_name(s("range"))
        .with_metadata(Bytes::from_static(b"\0\0\0\0\0\x01\0\x01t"));
    JoinGroupRequest::default()
        .with_group_id(id(group))
        .with_member_id(s(member))
        .with_group_instance_id(instance.map(s))
        .with_session_timeout_ms(10_000)
        .with_rebalance_timeout_ms(20_000)
        .with_protocol_type(s("consumer"))
        .with_protocols(vec![protocol])
}

async fn join(groups: &Groups, version: i16, request: JoinGroupRequest) -> JoinGroupResponse {
    wire(version, join_group::handle(groups, &cx(version), request, &mut passed().await).await)
}

async fn sync(groups: &Groups, version: i16, group: &str, member: &str, generation: i32) -> SyncGroupResponse {
    let assignment =
        SyncGroupRequestAssignment::default().with_member_id(s(member)).with_assignment(Bytes::from_static(b"AB"));
    let request = SyncGroupRequest::default()
        .with_group_id(id(group))
        .with_member_id(s(member))
        .with_generation_id(generation)
        .with_protocol_type((version >= 5).then(|| s("consumer")))
        .with_protocol_name((version >= 5).then(|| s("range")))
        .with_assignments(vec![assignment]);
    wire(version, sync_group::handle(groups, &cx(version), request, &mut passed().await).await)
}

/// A stable group of one; its member id and generation.
async fn stable(groups: &Groups, group: &str, instance: Option<&str>) -> (String, i32) {
    let joined = join(groups, 5, join_request(group, "", instance.or(Some("i")))).await;
    assert_eq!(joined.error_code, 0);
    let member = joined.member_id.to_string();
    assert_eq!(sync(groups, 5, group, &member, joined.generation_id).await.error_code, 0);
    (member, joined.generation_id)
}

fn commit_request(group: &str, member: &str, generation: i32, version: i16, partition: i32) -> OffsetCommitRequest {
    let partition = OffsetCommitRequestPartition::default()
        .with_partition_index(partition)
        .with_committed_offset(5)
        .with_committed_metadata(Some(s("m")));
    let topic = OffsetCommitRequestTopic::default().with_partitions(vec![partition]);
    let topic = if version >= 10 { topic.with_topic_id(TOPIC.into()) } else { topic.with_name(TopicName(s("t"))) };
    OffsetCommitRequest::default()
        .with_group_id(id(group))
        .with_member_id(s(member))
        .with_generation_id_or_member_epoch(generation)
        .with_topics(vec![topic])
}

async fn commit(groups: &Groups, version: i16, request: OffsetCommitRequest) -> i16 {
    let response = wire(version, offset_commit::handle(groups, &World, &cx(version), request).await);
    response.topics[0].partitions[0].error_code
}

#[tokio::test(start_paused = true)]
async fn find_coordinator_in_all_versions() {
    let (groups, log) = start();
    for version in FindCoordinatorRequest::VERSIONS.min..=FindCoordinatorRequest::VERSIONS.max {
        let ask = async |key: &str, key_type: i8| {
            let request = FindCoordinatorRequest::default().with_key_type(key_type);
            let request = match version {
                4.. => request.with_coordinator_keys(vec![s(key)]),
                _ => request.with_key(s(key)),
            };
            let found = wire(version, find_coordinator::handle(&groups, &World, &cx(version), request).await);
            match found.coordinators.first() {
                Some(found) => (found.error_code, found.node_id.0, found.host.to_string(), found.port),
                None => (found.error_code, found.node_id.0, found.host.to_string(), found.port),
            }
        };
        assert_eq!(ask("g", 0).await, (0, 4, "broker-4".to_owned(), 9092), "{version}");
        assert_eq!(ask("", 0).await, (0, 4, "broker-4".to_owned(), 9092), "{version}");
        assert_eq!(ask("homeless", 0).await, (15, -1, String::new(), -1), "{version}");
        if version >= 1 {
            for (key_type, code) in [(1, 53), (2, 42), (3, 42), (-1, 42)] {
                assert_eq!(ask("g", key_type).await, (code, -1, String::new(), -1), "{version}, key type {key_type}");
            }
        }
    }
    assert_eq!(log.partition_count(), Some(3), "the topic exists from the first question on");
}

#[tokio::test(start_paused = true)]
async fn join_and_sync_in_all_versions() {
    let (groups, _log) = start();
    for version in 0..=9 {
        let group = format!("g{version}");
        let refused = join(&groups, version, join_request(&group, "zz", None)).await;
        assert_eq!((refused.error_code, refused.generation_id, refused.member_id.as_str()), (25, -1, "zz"));
        assert_eq!(refused.protocol_name.as_ref().map(StrBytes::as_str), (version < 7).then_some(""));
        let short = join_request(&group, "", None).with_session_timeout_ms(1);
        assert_eq!(join(&groups, version, short).await.error_code, 26);
        assert_eq!(join(&groups, version, join_request("", "", None)).await.error_code, 24);
        let none = join_request(&group, "", None).with_protocols(Vec::new());
        assert_eq!(join(&groups, version, none).await.error_code, 23);

        let mut joined = join(&groups, version, join_request(&group, "", None)).await;
        if version >= 4 {
            assert_eq!((joined.error_code, joined.leader.as_str()), (79, ""));
            assert!(joined.member_id.starts_with("client-"), "{}", joined.member_id);
            joined = join(&groups, version, join_request(&group, &joined.member_id, None)).await;
        }
        assert_eq!((joined.error_code, joined.generation_id, joined.members.len()), (0, 1, 1));
        assert_eq!(joined.leader, joined.member_id);
        assert_eq!(joined.protocol_type.is_some(), version >= 7);
        assert_eq!(joined.protocol_name.as_ref().map(StrBytes::as_str), Some("range"));
        let sync_version = version.min(5);
        let synced = sync(&groups, sync_version, &group, &joined.member_id, 1).await;
        assert_eq!((synced.error_code, &synced.assignment[..]), (0, &b"AB"[..]));
        assert_eq!(synced.protocol_name.is_some(), sync_version >= 5);
        let wrong = sync(&groups, sync_version, &group, &joined.member_id, 7).await;
        assert_eq!((wrong.error_code, wrong.assignment.len()), (22, 0));
    }
    let without = SyncGroupRequest::default().with_group_id(id("g5"));
    assert_eq!(sync_group::handle(&groups, &cx(5), without, &mut passed().await).await.error_code, 23);
}

#[tokio::test(start_paused = true)]
async fn members_are_shown_as_kafka_shows_them() {
    let (groups, _log) = start();
    let (member, _) = stable(&groups, "g", Some("i")).await;
    assert!(member.starts_with("i-") && member.len() == 2 + 36, "{member}");
    assert_eq!(commit(&groups, 9, commit_request("simple", "", -1, 9, 0)).await, 0);
    for version in 0..=6 {
        let request = DescribeGroupsRequest::default()
            .with_groups(vec![id("g"), id("simple"), id("nope")])
            .with_include_authorized_operations(version >= 3);
        let described = wire(version, describe_groups::handle(&groups, &cx(version), request).await).groups;
        let view = |group: &DescribedGroup| {
            let texts = [&group.group_id.0, &group.group_state, &group.protocol_type, &group.protocol_data];
            (group.error_code, texts.map(StrBytes::to_string), group.members.len())
        };
        let expected = |code, texts: [&str; 4], members| (code, texts.map(str::to_owned), members);
        assert_eq!(view(&described[0]), expected(0, ["g", "Stable", "consumer", "range"], 1));
        assert_eq!(view(&described[1]), expected(0, ["simple", "Empty", "", ""], 0));
        let unknown = if version >= 6 { 69 } else { 0 };
        assert_eq!(view(&described[2]), expected(unknown, ["nope", "Dead", "", ""], 0));
        let shown = &described[0].members[0];
        assert_eq!((shown.client_id.as_str(), shown.client_host.as_str()), ("client", "/10.0.0.9"));
        assert_eq!((&shown.member_assignment[..], shown.member_metadata.len()), (&b"AB"[..], 9));
        let operations = if version >= 3 { 3400 } else { i32::MIN };
        assert_eq!(described[0].authorized_operations, operations);
        if version >= 6 {
            assert_eq!(described[2].error_message.as_ref().map(StrBytes::as_str), Some("Group nope not found."));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn groups_are_listed_by_state_and_type() {
    let (groups, _log) = start();
    stable(&groups, "g", None).await;
    for number in 0..4 {
        let simple = format!("simple{number}");
        assert_eq!(commit(&groups, 9, commit_request(&simple, "", -1, 9, 0)).await, 0);
    }
    let list = async |version: i16, states: &[&str], types: &[&str]| {
        let filter = |names: &[&str]| names.iter().map(|name| s(name)).collect::<Vec<_>>();
        let request = ListGroupsRequest::default().with_states_filter(filter(states)).with_types_filter(filter(types));
        wire(version, list_groups::handle(&groups, &cx(version), request).await).groups
    };
    for version in 0..=5 {
        let listed = list(version, &[], &[]).await;
        assert_eq!(listed.len(), 5);
        let group = listed.iter().find(|group| group.group_id == id("g").0).expect("listed");
        let texts = [&group.protocol_type, &group.group_state, &group.group_type].map(StrBytes::to_string);
        let state = if version >= 4 { "Stable" } else { "" };
        assert_eq!(texts, ["consumer", state, if version >= 5 { "classic" } else { "" }]);
    }
    assert_eq!(list(4, &["STABLE"], &[]).await.len(), 1);
    assert_eq!(list(4, &["Empty", "stable"], &[]).await.len(), 5);
    assert_eq!(list(5, &[], &["Classic"]).await.len(), 5);
    assert_eq!(list(5, &[], &["share"]).await.len(), 0);
}

#[tokio::test(start_paused = true)]
async fn heartbeat_and_leave_in_all_versions() {
    let (groups, _log) = start();
    for version in 0..=5 {
        let group = format!("g{version}");
        let (member, generation) = stable(&groups, &group, Some("i")).await;
        let beat = async |generation: i32| {
            let version = version.min(4);
            let request = HeartbeatRequest::default()
                .with_group_id(id(&group))
                .with_member_id(s(&member))
                .with_generation_id(generation);
            wire(version, heartbeat::handle(&groups, &cx(version), request).await).error_code
        };
        assert_eq!((beat(generation).await, beat(9).await), (0, 22));
        let leave = async |group: &str, member: &str, instance: Option<&str>| {
            let request = LeaveGroupRequest::default().with_group_id(id(group));
            let identity = MemberIdentity::default().with_member_id(s(member)).with_group_instance_id(instance.map(s));
            let request = match version {
                3.. => request.with_members(vec![identity]),
                _ => request.with_member_id(s(member)),
            };
            let left = wire(version, leave_group::handle(&groups, &cx(version), request).await);
            (left.error_code, left.members.first().map(|member| member.error_code))
        };
        let expected = |code| if version >= 3 { (0, Some(code)) } else { (code, None) };
        assert_eq!(leave("nope", "m", None).await, expected(25));
        assert_eq!(leave("", "m", None).await, (24, None));
        match version {
            3.. => assert_eq!(leave(&group, "", Some("i")).await, expected(0)),
            _ => assert_eq!(leave(&group, &member, None).await, expected(0)),
        }
        assert_eq!(beat(generation).await, 25);
    }
}

#[tokio::test(start_paused = true)]
async fn commits_in_all_versions() {
    let (groups, _log) = start();
    for version in 2..=10 {
        let group = format!("simple{version}");
        let unknown_group = if version >= 9 { 69 } else { 22 };
        assert_eq!(commit(&groups, version, commit_request(&group, "m", 1, version, 0)).await, unknown_group);
        assert_eq!(commit(&groups, version, commit_request(&group, "", -1, version, 9)).await, 3);
        assert_eq!(commit(&groups, version, commit_request(&group, "", -1, version, 0)).await, 0);
        let mut other = commit_request(&group, "", -1, version, 0);
        other.topics[0].name = TopicName(s("nope"));
        other.topics[0].topic_id = TopicId(1).into();
        if version >= 10 {
            other.topics[0].name = TopicName::default();
        }
        assert_eq!(commit(&groups, version, other).await, if version >= 10 { 100 } else { 3 });
        let mut long = commit_request(&group, "", -1, version, 0);
        long.topics[0].partitions[0].committed_metadata = Some(s(&"x".repeat(4097)));
        assert_eq!(commit(&groups, version, long).await, 12);
        let mut without = commit_request(&group, "", -1, version, 1);
        without.topics[0].partitions[0].committed_metadata = None;
        assert_eq!(commit(&groups, version, without).await, 0);
    }
    assert_eq!(commit(&groups, 9, commit_request("", "", -1, 9, 0)).await, 0, "the empty group id is a group");
}

#[tokio::test(start_paused = true)]
async fn fetches_in_all_versions() {
    let (groups, log) = start();
    assert_eq!(commit(&groups, 9, commit_request("simple", "", -1, 9, 0)).await, 0);
    for version in 1..=7 {
        let named = |name: &str| {
            OffsetFetchRequestTopic::default().with_name(TopicName(s(name))).with_partition_indexes(vec![0, 7])
        };
        let request =
            OffsetFetchRequest::default().with_group_id(id("simple")).with_topics(Some(vec![named("t"), named("u")]));
        let fetched = wire(version, offset_fetch::handle(&groups, &World, &cx(version), request.clone()).await);
        let offsets = fetched.topics.iter().flat_map(|topic| &topic.partitions);
        let offsets: Vec<_> = offsets.map(|partition| (partition.committed_offset, partition.error_code)).collect();
        assert_eq!(offsets, [(5, 0), (-1, 0), (-1, 0), (-1, 0)]);
        let metadata = |partition: usize| fetched.topics[0].partitions[partition].metadata.clone();
        assert_eq!((metadata(0), metadata(1)), (Some(s("m")), Some(s(""))));
        if version >= 2 {
            let all = OffsetFetchRequest::default().with_group_id(id("simple")).with_topics(None);
            let fetched = wire(version, offset_fetch::handle(&groups, &World, &cx(version), all).await);
            assert_eq!((fetched.topics.len(), fetched.topics[0].partitions.len()), (1, 1));
        }
        // Not the coordinator: one error at the top, or one in each partition where there is no top.
        (0..3).for_each(|partition| log.set_lease(partition, None));
        let fetched = wire(version, offset_fetch::handle(&groups, &World, &cx(version), request).await);
        let partitions = fetched.topics.iter().flat_map(|topic| &topic.partitions);
        let codes: Vec<_> = partitions.map(|partition| partition.error_code).collect();
        let expected = if version == 1 { (0, vec![16; 4]) } else { (16, Vec::new()) };
        assert_eq!((fetched.error_code, codes), expected);
        (0..3).for_each(|partition| log.set_lease(partition, Some(i32::from(version))));
    }
    for version in 8..=10 {
        let topic = |name: &str, topic: TopicId| {
            let asked = OffsetFetchRequestTopics::default().with_partition_indexes(vec![0, 7]);
            if version >= 10 { asked.with_topic_id(topic.into()) } else { asked.with_name(TopicName(s(name))) }
        };
        let named = vec![topic("t", TOPIC), topic("u", TopicId(1))];
        let group = |name: &str, topics| OffsetFetchRequestGroup::default().with_group_id(id(name)).with_topics(topics);
        let asked = vec![group("simple", Some(named)), group("simple", None), group("nope", None)];
        let request = OffsetFetchRequest::default().with_groups(asked);
        let fetched = wire(version, offset_fetch::handle(&groups, &World, &cx(version), request).await).groups;
        let offsets = fetched[0].topics.iter().flat_map(|topic| &topic.partitions);
        let offsets: Vec<_> = offsets.map(|partition| (partition.committed_offset, partition.error_code)).collect();
        let unknown = if version >= 10 { (-1, 100) } else { (-1, 0) };
        assert_eq!(offsets, [(5, 0), (-1, 0), unknown, unknown]);
        assert_eq!((fetched[1].topics.len(), fetched[2].topics.len(), fetched[2].error_code), (1, 0, 0));
        let all = &fetched[1].topics[0];
        assert_eq!(TopicId::from(all.topic_id) == TOPIC, version >= 10);
        assert_eq!(all.name.as_str(), if version >= 10 { "" } else { "t" });
    }
}

#[tokio::test(start_paused = true)]
async fn offsets_of_an_earlier_topic_are_not_shown() {
    struct Recreated;
    impl TopicLookup for Recreated {
        fn by_name(&self, name: &str) -> Option<(TopicId, i32)> {
            (name == "t").then_some((TopicId(0x78), 2))
        }
        fn by_id(&self, id: TopicId) -> Option<(String, i32)> {
            (id == TopicId(0x78)).then(|| ("t".to_owned(), 2))
        }
    }
    let (groups, _log) = start();
    assert_eq!(commit(&groups, 9, commit_request("simple", "", -1, 9, 0)).await, 0);
    let topic = OffsetFetchRequestTopics::default().with_name(TopicName(s("t"))).with_partition_indexes(vec![0]);
    let group = |topics| OffsetFetchRequestGroup::default().with_group_id(id("simple")).with_topics(topics);
    let request = OffsetFetchRequest::default().with_groups(vec![group(Some(vec![topic])), group(None)]);
    let fetched = offset_fetch::handle(&groups, &Recreated, &cx(9), request).await.groups;
    assert_eq!(fetched[0].topics[0].partitions[0].committed_offset, -1);
    assert!(fetched[1].topics.is_empty());
}

#[tokio::test(start_paused = true)]
async fn deletions() {
    let (groups, _log) = start();
    let (member, generation) = stable(&groups, "g", None).await;
    assert_eq!(commit(&groups, 9, commit_request("g", &member, generation, 9, 0)).await, 0);
    assert_eq!(commit(&groups, 9, commit_request("simple", "", -1, 9, 0)).await, 0);
    let delete = async |group: &str| {
        let topic = |name: &str| {
            let partition = |index| OffsetDeleteRequestPartition::default().with_partition_index(index);
            OffsetDeleteRequestTopic::default()
                .with_name(TopicName(s(name)))
                .with_partitions(vec![partition(0), partition(77)])
        };
        let request = OffsetDeleteRequest::default().with_group_id(id(group)).with_topics(vec![topic("u"), topic("t")]);
        let deleted = wire(0, offset_delete::handle(&groups, &World, &cx(0), request).await);
        let partitions = deleted.topics.iter().flat_map(|topic| &topic.partitions);
        (deleted.error_code, partitions.map(|partition| partition.error_code).collect::<Vec<_>>())
    };
    assert_eq!(delete("g").await, (0, vec![3, 3, 86, 3]));
    assert_eq!(delete("simple").await, (0, vec![3, 3, 0, 3]));
    assert_eq!(delete("nope").await, (69, vec![]));
    assert_eq!(delete("").await, (24, vec![]));
    assert_eq!(commit(&groups, 9, commit_request("simple", "", -1, 9, 0)).await, 0);
    for version in 0..=2 {
        let request = DeleteGroupsRequest::default().with_groups_names(vec![id("g"), id("nope")]);
        let deleted = wire(version, delete_groups::handle(&groups, &cx(version), request).await).results;
        assert_eq!(deleted.iter().map(|result| result.error_code).collect::<Vec<_>>(), [68, 69]);
    }
    let request = DeleteGroupsRequest::default().with_groups_names(vec![id("simple")]);
    assert_eq!(delete_groups::handle(&groups, &cx(2), request).await.results[0].error_code, 0);
    assert_eq!(delete("simple").await.0, 69);
}

#[tokio::test(start_paused = true)]
async fn while_groups_are_loaded_only_heartbeats_succeed() {
    let (groups, log) = start();
    (0..3).for_each(|partition| log.fail_replays(partition, 1000));
    let beat = HeartbeatRequest::default().with_group_id(id("g")).with_member_id(s("m")).with_generation_id(1);
    assert_eq!(heartbeat::handle(&groups, &cx(4), beat).await.error_code, 0);
    assert_eq!(commit(&groups, 9, commit_request("g", "", -1, 9, 0)).await, 14);
    assert_eq!(list_groups::handle(&groups, &cx(5), ListGroupsRequest::default()).await.error_code, 14);
    assert_eq!(join(&groups, 9, join_request("g", "", None)).await.error_code, 14);
}

/// The server runs handlers in tasks of their own, so their futures must be able to move.
#[tokio::test(start_paused = true)]
async fn handlers_run_in_tasks() {
    let (groups, _log) = start();
    let groups = Arc::new(groups);
    macro_rules! spawn {
        ($api:ident, $request:ident $(, $port:expr)? $(; $passed:expr)?) => {{
            let groups = groups.clone();
            let task = tokio::spawn(async move {
                $api::handle(&groups $(, $port)?, &cx(0), $request::default() $(, $passed)?).await
            });
            assert!(tokio::time::timeout(Duration::from_secs(9), task).await.expect("it answers").is_ok());
        }};
    }
    spawn!(find_coordinator, FindCoordinatorRequest, &World);
    spawn!(join_group, JoinGroupRequest; &mut passed().await);
    spawn!(sync_group, SyncGroupRequest; &mut passed().await);
    spawn!(heartbeat, HeartbeatRequest);
    spawn!(leave_group, LeaveGroupRequest);
    spawn!(offset_commit, OffsetCommitRequest, &World);
    spawn!(offset_fetch, OffsetFetchRequest, &World);
    spawn!(offset_delete, OffsetDeleteRequest, &World);
    spawn!(describe_groups, DescribeGroupsRequest);
    spawn!(list_groups, ListGroupsRequest);
    spawn!(delete_groups, DeleteGroupsRequest);
}

#[tokio::test(start_paused = true)]
async fn without_proof_groups_wait_a_little_and_are_told_not_coordinator() {
    let (groups, log) = start();
    let (member, generation) = stable(&groups, "g", None).await;
    let prove = |proof: bool| (0..3).for_each(|index| log.set_proof(index, proof));
    prove(false);
    let topic = OffsetFetchRequestTopic::default().with_name(TopicName(s("t"))).with_partition_indexes(vec![0]);
    let fetch = OffsetFetchRequest::default().with_group_id(id("g")).with_topics(Some(vec![topic]));
    let beat =
        HeartbeatRequest::default().with_group_id(id("g")).with_member_id(s(&member)).with_generation_id(generation);
    let leave = LeaveGroupRequest::default().with_group_id(id("g")).with_member_id(s(&member));
    let describe = DescribeGroupsRequest::default().with_groups(vec![id("g")]);
    let delete = DeleteGroupsRequest::default().with_groups_names(vec![id("g")]);
    let answers = [
        ("JoinGroup", join(&groups, 5, join_request("g", "", Some("j"))).await.error_code, 16),
        ("SyncGroup", sync(&groups, 5, "g", &member, generation).await.error_code, 16),
        ("Heartbeat", heartbeat::handle(&groups, &cx(4), beat.clone()).await.error_code, 16),
        ("LeaveGroup", leave_group::handle(&groups, &cx(2), leave).await.error_code, 16),
        ("OffsetCommit", commit(&groups, 9, commit_request("g", &member, generation, 9, 0)).await, 16),
        ("OffsetFetch", offset_fetch::handle(&groups, &World, &cx(7), fetch).await.error_code, 16),
        ("DescribeGroups", describe_groups::handle(&groups, &cx(6), describe).await.groups[0].error_code, 16),
        ("DeleteGroups", delete_groups::handle(&groups, &cx(2), delete).await.results[0].error_code, 16),
        ("ListGroups", list_groups::handle(&groups, &cx(5), ListGroupsRequest::default()).await.error_code, 15),
    ];
    for (name, answer, expected) in answers {
        assert_eq!(answer, expected, "{name}");
    }
    let context = cx(4);
    let (answer, ()) = tokio::join!(heartbeat::handle(&groups, &context, beat), async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        prove(true);
    });
    assert_eq!(answer.error_code, 0, "a short lapse costs time only");
}
