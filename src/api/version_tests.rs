//! Every answer of the admin handlers can be written at every version that is served.

use bytes::BytesMut;
use kafka_protocol::messages as m;
use kafka_protocol::protocol::Encodable;

use super::refusal::{string, topic_name};
use super::testing::{Cluster, at_version, one_broker};
use super::{ports::AdminServices, *};
use crate::config::KafkaSettings;
use crate::types::topic_name::OFFSETS_TOPIC;
use crate::wire::newest::Newest;

fn writes(response: &impl Encodable, version: i16) {
    let mut bytes = BytesMut::new();
    response.encode(&mut bytes, version).unwrap_or_else(|error| panic!("version {version}: {error}"));
}

async fn with_topic() -> AdminServices {
    let services = one_broker().await;
    let topic = m::create_topics_request::CreatableTopic::default()
        .with_name(topic_name("t1"))
        .with_num_partitions(2)
        .with_replication_factor(3);
    for version in 2..=7 {
        let request = m::CreateTopicsRequest::default().with_topics(vec![topic.clone()]);
        writes(&create_topics::handle(&services, &at_version(version), request).await, version);
    }
    services
}

#[tokio::test]
async fn metadata_at_every_version() {
    let services = with_topic().await;
    let asked = |name: &str| m::metadata_request::MetadataRequestTopic::default().with_name(Some(topic_name(name)));
    let unknown =
        m::metadata_request::MetadataRequestTopic::default().with_topic_id(uuid::Uuid::from_u128(77)).with_name(None);
    for version in 0..=13 {
        let mut topics = vec![asked("t1"), asked("t1"), asked("none"), asked("bad name")];
        if matches!(version, 10 | 11) {
            topics.push(unknown.clone());
        }
        let request = m::MetadataRequest::default()
            .with_topics(Some(topics))
            .with_allow_auto_topic_creation(false)
            .with_include_topic_authorized_operations(true)
            .with_include_cluster_authorized_operations(true);
        let response = metadata::handle(&services, &at_version(version), request).await;
        writes(&response, version);
        let codes: Vec<i16> = response.topics.iter().map(|topic| topic.error_code).collect();
        // By id from v12 on; before, who asks so is refused as a whole.
        let expected: &[i16] = if matches!(version, 10 | 11) { &[42, 42, 42, 42, 42] } else { &[0, 3, 17] };
        assert_eq!(codes, expected, "version {version}");
        if matches!(version, 10 | 11) {
            assert_eq!(
                (response.brokers.len(), response.cluster_id.is_none(), response.controller_id.0),
                (0, true, -1)
            );
            continue;
        }
        let partition = &response.topics[0].partitions[0];
        assert_eq!(
            (partition.leader_id.0, &partition.replica_nodes, &partition.isr_nodes),
            (1, &vec![m::BrokerId(1)], &vec![m::BrokerId(1)])
        );
        assert_eq!((response.brokers[0].host.as_str(), response.brokers[0].port), ("broker-1", 9092));
    }
    for version in 12..=13 {
        let mixed = m::MetadataRequest::default().with_topics(Some(vec![asked("t1"), unknown.clone(), asked("none")]));
        let response = metadata::handle(&services, &at_version(version), mixed).await;
        let codes: Vec<i16> = response.topics.iter().map(|topic| topic.error_code).collect();
        assert_eq!(codes, [100], "what is asked by name beside an id is left out, as in Kafka");
        writes(&response, version);
    }
    let none = m::MetadataRequest::default().with_topics(Some(Vec::new()));
    assert_eq!(metadata::handle(&services, &at_version(0), none.clone()).await.topics.len(), 1);
    assert_eq!(metadata::handle(&services, &at_version(1), none).await.topics.len(), 0);
    let all = m::MetadataRequest::default().with_topics(None);
    assert_eq!(metadata::handle(&services, &at_version(12), all).await.topics.len(), 1);
}

#[tokio::test]
async fn metadata_creates_what_it_may() {
    let request = |create: bool| {
        let names = ["auto.one", "auto_one", "bad name", OFFSETS_TOPIC, "__transaction_state"];
        let asked =
            names.map(|name| m::metadata_request::MetadataRequestTopic::default().with_name(Some(topic_name(name))));
        m::MetadataRequest::default().with_topics(Some(asked.into())).with_allow_auto_topic_creation(create)
    };
    for (enabled, allowed, codes) in
        [(true, true, [0, 3, 17, 0, 3]), (true, false, [3, 3, 17, 3, 3]), (false, true, [3, 3, 17, 3, 3])]
    {
        let kafka = KafkaSettings { auto_create_topics_enable: enabled, num_partitions: 3, ..KafkaSettings::default() };
        let services = Cluster::new().broker(1, kafka).await;
        let response = metadata::handle(&services, &at_version(9), request(allowed)).await;
        assert_eq!(response.topics.iter().map(|topic| topic.error_code).collect::<Vec<_>>(), codes);
        if codes[0] == 0 {
            assert_eq!(response.topics[0].partitions.len(), 3);
            let offsets = &response.topics[3];
            assert_eq!((offsets.is_internal, offsets.partitions.len()), (true, 50));
            assert!(
                auto_create::ensure_offsets_topic(&services)
                    .await
                    .is_ok_and(|id| uuid::Uuid::from(id) == offsets.topic_id)
            );
        }
    }
}

#[tokio::test]
async fn configs_at_every_version() {
    let services = with_topic().await;
    let resources = [
        (2, "t1"),
        (2, "none"),
        (2, "bad name"),
        (4, "1"),
        (4, ""),
        (4, "2"),
        (8, "1"),
        (16, "m"),
        (32, "g"),
        (32, ""),
    ];
    let set = m::incremental_alter_configs_request::AlterableConfig::default()
        .with_name("retention.ms".into())
        .with_value(Some("5".into()));
    let resource = m::incremental_alter_configs_request::AlterConfigsResource::default()
        .with_resource_type(2)
        .with_resource_name("t1".into())
        .with_configs(vec![set]);
    for version in 0..=1 {
        let request = m::IncrementalAlterConfigsRequest::default().with_resources(vec![resource.clone()]);
        let response = incremental_alter_configs::handle(&services, &at_version(version), request).await;
        assert_eq!(response.responses[0].error_code, 0);
        writes(&response, version);
    }
    for version in 1..=4 {
        let asked = resources.map(|(kind, name)| {
            m::describe_configs_request::DescribeConfigsResource::default()
                .with_resource_type(kind)
                .with_resource_name(string(name))
                .with_configuration_keys(None)
        });
        let request = m::DescribeConfigsRequest::default()
            .with_resources(asked.into())
            .with_include_synonyms(true)
            .with_include_documentation(true);
        let response = describe_configs::handle(&services, &at_version(version), request).await;
        writes(&response, version);
        let codes: Vec<i16> = response.results.iter().map(|result| result.error_code).collect();
        assert_eq!(codes, [0, 3, 17, 0, 0, 42, 0, 0, 0, 42]);
        let retention =
            response.results[0].configs.iter().find(|config| config.name.as_str() == "retention.ms").unwrap();
        assert_eq!((retention.value.as_deref(), retention.config_source, retention.synonyms.len()), (Some("5"), 1, 1));
        let message =
            response.results[0].configs.iter().find(|config| config.name.as_str() == "max.message.bytes").unwrap();
        assert_eq!((message.config_source, message.synonyms[0].name.as_str()), (5, "message.max.bytes"));
        assert_eq!(response.results[0].configs.len(), 33);
        assert_eq!(response.results[8].configs.len(), 17);
    }
    let kinds = [2, 1].map(|kind| {
        m::describe_configs_request::DescribeConfigsResource::default()
            .with_resource_type(kind)
            .with_resource_name(string("t1"))
            .with_configuration_keys(None)
    });
    let request = m::DescribeConfigsRequest::default().with_resources(kinds.into());
    let spoilt = describe_configs::handle(&services, &at_version(4), request).await;
    assert_eq!(spoilt.results.iter().map(|result| result.error_code).collect::<Vec<_>>(), [42, 42]);
    for version in 0..=2 {
        let resource = m::alter_configs_request::AlterConfigsResource::default()
            .with_resource_type(2)
            .with_resource_name("t1".into());
        let request = m::AlterConfigsRequest::default().with_resources(vec![resource]);
        writes(&alter_configs::handle(&services, &at_version(version), request).await, version);
    }
    for version in 0..=1 {
        let request = m::ListConfigResourcesRequest::default();
        let response = list_config_resources::handle(&services, &at_version(version), request).await;
        assert_eq!(response.config_resources.len(), if version == 0 { 0 } else { 3 });
        writes(&response, version);
    }
}

#[tokio::test]
async fn cluster_and_tools_at_every_version() {
    let services = with_topic().await;
    for version in 0..=2 {
        let mut request = m::DescribeClusterRequest::default();
        let response = describe_cluster::handle(&services, &at_version(version), request.clone()).await;
        assert_eq!((response.error_code, response.brokers.len(), response.cluster_id.len()), (0, 1, 22));
        writes(&response, version);
        if version > 0 {
            for (kind, code) in [(2, 114), (3, 115)] {
                request.endpoint_type = kind;
                let response = describe_cluster::handle(&services, &at_version(version), request.clone()).await;
                assert_eq!(response.error_code, code);
                writes(&response, version);
            }
        }
        let partitions = || {
            m::elect_leaders_request::TopicPartitions::default()
                .with_topic(topic_name("t1"))
                .with_partitions(vec![0, 9])
        };
        let request = m::ElectLeadersRequest::default().with_topic_partitions(Some(vec![partitions()]));
        let response = elect_leaders::handle(&services, &at_version(version), request).await;
        let codes: Vec<i16> =
            response.replica_election_results[0].partition_result.iter().map(|row| row.error_code).collect();
        assert_eq!(codes, [84, 3]);
        writes(&response, version);
        let all = m::ElectLeadersRequest::default().with_topic_partitions(None);
        let response = elect_leaders::handle(&services, &at_version(version), all.clone()).await;
        let rows = &response.replica_election_results;
        assert_eq!((rows.len(), rows[0].topic.as_str(), rows[0].partition_result.len()), (1, "t1", 0));
        if version > 0 {
            let unknown = all.with_election_type(9).with_topic_partitions(Some(vec![partitions()]));
            let response = elect_leaders::handle(&services, &at_version(version), unknown).await;
            let row = &response.replica_election_results[0].partition_result[0];
            assert_eq!((response.error_code, row.error_code), (42, 42));
            writes(&response, version);
        }
    }
    for version in 1..=5 {
        let response = describe_log_dirs::handle(
            &services,
            &at_version(version),
            m::DescribeLogDirsRequest::default().with_topics(None),
        )
        .await;
        let sizes: Vec<i64> = response.results[0].topics[0].partitions.iter().map(|row| row.partition_size).collect();
        assert_eq!(sizes, [100, 101]);
        writes(&Newest(response), version);
    }
    let partition = |index, replicas: Option<&[i32]>| {
        let replicas = replicas.map(|replicas| replicas.iter().map(|id| m::BrokerId(*id)).collect());
        m::alter_partition_reassignments_request::ReassignablePartition::default()
            .with_partition_index(index)
            .with_replicas(replicas)
    };
    let asked = vec![
        partition(0, Some(&[1])),
        partition(1, None),
        partition(1, Some(&[1, 1])),
        partition(0, Some(&[7])),
        partition(9, Some(&[1])),
    ];
    let topic = m::alter_partition_reassignments_request::ReassignableTopic::default()
        .with_name(topic_name("t1"))
        .with_partitions(asked);
    for version in 0..=1 {
        let request = m::AlterPartitionReassignmentsRequest::default().with_topics(vec![topic.clone()]);
        let response = alter_partition_reassignments::handle(&services, &at_version(version), request).await;
        let codes: Vec<i16> = response.responses[0].partitions.iter().map(|row| row.error_code).collect();
        assert_eq!(codes, [0, 85, 39, 39, 3]);
        writes(&response, version);
    }
    let nothing = m::AlterPartitionReassignmentsRequest::default();
    let response = alter_partition_reassignments::handle(&services, &at_version(0), nothing).await;
    assert_eq!(response.error_message.as_deref(), Some(""));
    let request = m::ListPartitionReassignmentsRequest::default();
    writes(&list_partition_reassignments::handle(&services, &at_version(0), request).await, 0);
    let request = m::DescribeTopicPartitionsRequest::default().with_response_partition_limit(0);
    let response = describe_topic_partitions::handle(&services, &at_version(0), request).await;
    assert_eq!(response.topics[0].partitions.len(), 1, "a limit of 0 is taken for 1");
    writes(&response, 0);
    let topic = m::describe_producers_request::TopicRequest::default()
        .with_name(topic_name("t1"))
        .with_partition_indexes(vec![0, 9]);
    let request = m::DescribeProducersRequest::default().with_topics(vec![topic]);
    let response = describe_producers::handle(&services, &at_version(0), request).await;
    let rows: Vec<_> =
        response.topics[0].partitions.iter().map(|row| (row.error_code, row.active_producers.len())).collect();
    assert_eq!(rows, [(0, 1), (3, 0)]);
    writes(&response, 0);
}

#[tokio::test]
async fn topics_change_at_every_version() {
    let services = with_topic().await;
    for version in 0..=3 {
        let topic = m::create_partitions_request::CreatePartitionsTopic::default()
            .with_name(topic_name("t1"))
            .with_count(3 + i32::from(version))
            .with_assignments(None);
        let request =
            m::CreatePartitionsRequest::default().with_topics(vec![topic.clone(), topic.with_name(topic_name("none"))]);
        let response = create_partitions::handle(&services, &at_version(version), request).await;
        assert_eq!(response.results.iter().map(|row| row.error_code).collect::<Vec<_>>(), [0, 3]);
        writes(&response, version);
    }
    for version in 0..=2 {
        let rows = [(0, 4), (0, -1), (1, 11), (9, 0)].map(|(index, offset)| {
            m::delete_records_request::DeleteRecordsPartition::default().with_partition_index(index).with_offset(offset)
        });
        let topic = m::delete_records_request::DeleteRecordsTopic::default()
            .with_name(topic_name("t1"))
            .with_partitions(rows.into());
        let request = m::DeleteRecordsRequest::default().with_topics(vec![topic]);
        let response = delete_records::handle(&services, &at_version(version), request).await;
        let rows: Vec<_> =
            response.topics[0].partitions.iter().map(|row| (row.error_code, row.low_watermark)).collect();
        assert_eq!(rows, [(0, 10), (1, -1), (3, -1)], "named twice is named once");
        writes(&response, version);
    }
    for version in 1..=6 {
        let topic = m::delete_topics_request::DeleteTopicState::default().with_name(Some(topic_name("t1")));
        let request =
            m::DeleteTopicsRequest::default().with_topics(vec![topic]).with_topic_names(vec![topic_name("t1")]);
        let response = delete_topics::handle(&services, &at_version(version), request).await;
        assert_eq!(response.responses[0].error_code, if version == 1 { 0 } else { 3 });
        writes(&response, version);
    }
}

#[tokio::test]
async fn producer_ids_are_never_given_twice() {
    let cluster = Cluster::new();
    let mut seen = std::collections::BTreeSet::new();
    for random in 1..=3 {
        let services = cluster.broker(random, KafkaSettings::default()).await;
        let cx = at_version(4);
        let ask = || {
            init_producer_id::handle(&services, &cx, m::InitProducerIdRequest::default().with_transactional_id(None))
        };
        for response in futures::future::join_all((0..1500).map(|_| ask())).await {
            assert_eq!((response.error_code, response.producer_epoch), (0, 0));
            assert!(seen.insert(response.producer_id.0), "{} came twice", response.producer_id.0);
        }
    }
    assert_eq!(seen.len(), 4500);
    let services = cluster.broker(4, KafkaSettings::default()).await;
    for version in 0..=5 {
        let request = m::InitProducerIdRequest::default().with_transactional_id(Some(m::TransactionalId("t".into())));
        let response = init_producer_id::handle(&services, &at_version(version), request).await;
        assert_eq!((response.error_code, response.producer_id.0), (53, -1));
        writes(&response, version);
    }
}
