use kafka_protocol::messages::create_topics_request::{CreatableReplicaAssignment, CreatableTopicConfig};
use kafka_protocol::messages::{BrokerId, TopicName};

use super::*;
use crate::api::testing::{at_version, one_broker};

fn topic(name: &str, partitions: i32, factor: i16) -> CreatableTopic {
    let name = TopicName(string(name));
    CreatableTopic::default().with_name(name).with_num_partitions(partitions).with_replication_factor(factor)
}

fn assigned(assignments: &[(i32, &[i32])]) -> CreatableTopic {
    let assignments = assignments.iter().map(|(partition, brokers)| {
        let brokers = brokers.iter().map(|id| BrokerId(*id)).collect();
        CreatableReplicaAssignment::default().with_partition_index(*partition).with_broker_ids(brokers)
    });
    topic("n", -1, -1).with_assignments(assignments.collect())
}

fn configured(configs: &[(&'static str, Option<&str>)]) -> CreatableTopic {
    let configs = configs
        .iter()
        .map(|(name, value)| CreatableTopicConfig::default().with_name((*name).into()).with_value(value.map(string)));
    topic("n", 1, 1).with_configs(configs.collect())
}

async fn create(
    services: &AdminServices,
    topics: Vec<CreatableTopic>,
    validate_only: bool,
) -> Vec<CreatableTopicResult> {
    let request =
        CreateTopicsRequest::default().with_topics(topics).with_validate_only(validate_only).with_timeout_ms(5000);
    handle(services, &at_version(7), request).await.topics
}

/// Asked of Kafka 4.3.1 with the same topics there.
#[tokio::test]
async fn refusals_are_those_of_kafka() {
    let services = one_broker().await;
    let made = create(&services, vec![topic("t1", 2, 1), topic("a.b", 1, 1)], false).await;
    assert!(made.iter().all(|topic| topic.error_code == 0), "{made:?}");
    use ResponseError::{
        InvalidConfig, InvalidPartitions, InvalidReplicaAssignment, InvalidReplicationFactor, InvalidRequest,
        InvalidTopicException, PolicyViolation, TopicAlreadyExists,
    };
    let no_factor = "Replication factor must be larger than 0, or -1 to use the default value.";
    let no_partitions = "Number of partitions was set to an invalid non-positive value.";
    let many = "Excessively large number of partitions per request.";
    let gap = "partitions should be a consecutive 0-based integer sequence";
    let more = "Unable to replicate the partition 4 time(s): The target replication factor of 4 cannot be reached because only 1 \
                broker(s) are registered or some brokers have all their log directories cordoned.";
    for (asked, error, message) in [
        (
            topic("bad name", 1, 1),
            InvalidTopicException,
            "Topic name is invalid: 'bad name' contains one or more characters other than ASCII alphanumerics, '.', '_' and '-'",
        ),
        (topic("..", 1, 1), InvalidTopicException, "Topic name is invalid: '..' is not allowed"),
        (topic("a_b", 1, 1), InvalidTopicException, "Topic 'a_b' collides with existing topic: a.b"),
        (topic("t1", 1, 1), TopicAlreadyExists, "Topic 't1' already exists."),
        (topic("t1", 0, 1), TopicAlreadyExists, "Topic 't1' already exists."),
        (topic("n", 0, 1), InvalidPartitions, no_partitions),
        (topic("n", -2, 1), InvalidPartitions, no_partitions),
        (topic("n", 1, 0), InvalidReplicationFactor, no_factor),
        (topic("n", 0, -2), InvalidReplicationFactor, no_factor),
        (topic("n", 1, 4), InvalidReplicationFactor, more),
        (topic("n", 10_001, 1), PolicyViolation, many),
        (assigned(&[(0, &[1]), (2, &[1])]), InvalidReplicaAssignment, gap),
        (assigned(&[(1, &[1])]), InvalidReplicaAssignment, gap),
        (
            assigned(&[(0, &[1, 1])]),
            InvalidReplicaAssignment,
            "The manual partition assignment includes the broker 1 more than once.",
        ),
        (
            assigned(&[(0, &[])]),
            InvalidReplicaAssignment,
            "The manual partition assignment includes an empty replica list.",
        ),
        (
            assigned(&[(0, &[5])]),
            InvalidReplicaAssignment,
            "The manual partition assignment includes broker 5, but no such broker is registered.",
        ),
        (
            assigned(&[(0, &[1]), (0, &[1])]),
            InvalidReplicaAssignment,
            "Found multiple manual partition assignments for partition 0",
        ),
        (
            assigned(&[(0, &[1])]).with_num_partitions(1),
            InvalidRequest,
            "A manual partition assignment was specified, but numPartitions was not set to -1.",
        ),
        (
            assigned(&[(0, &[1])]).with_replication_factor(1),
            InvalidRequest,
            "A manual partition assignment was specified, but replication factor was not set to -1.",
        ),
        (configured(&[("nope", Some("1"))]), InvalidConfig, "Unknown topic config name: nope"),
        (
            configured(&[("retention.ms", Some("x"))]),
            InvalidConfig,
            "Invalid value x for configuration retention.ms: Not a number of type LONG",
        ),
        (
            configured(&[("nope", None), ("retention.ms", None)]),
            InvalidConfig,
            "Null value not supported for topic configs: nope,retention.ms",
        ),
        (
            topic("__cluster_metadata", 1, 1),
            InvalidRequest,
            "Creation of internal topic __cluster_metadata is prohibited.",
        ),
        (
            topic("__consumer_offsets", 1, 1),
            InvalidTopicException,
            "Topic name is invalid: '__consumer_offsets' is an internal topic, which brokers create themselves",
        ),
    ] {
        let answers = create(&services, vec![asked.clone()], true).await;
        assert_eq!(answers.len(), 1);
        assert_eq!(
            answers[0].error_message.as_deref().map(|text| text.to_string()),
            Some(message.to_owned()),
            "{asked:?}"
        );
        assert_eq!(answers[0].error_code, error.code(), "{asked:?}");
    }
}

#[tokio::test]
async fn shapes_and_configs_come_back() {
    let services = one_broker().await;
    for (asked, partitions, factor) in
        [(topic("n", -1, -1), 1, 1), (topic("n", 7, 3), 7, 3), (assigned(&[(1, &[1]), (0, &[1])]), 2, 1)]
    {
        let answer = create(&services, vec![asked], true).await.remove(0);
        assert_eq!((answer.error_code, answer.num_partitions, answer.replication_factor), (0, partitions, factor));
        assert!(!answer.topic_id.is_nil());
    }
    assert!(services.meta.read(|image| image.names.is_empty()), "validate_only makes nothing");
    let answer = create(&services, vec![configured(&[("cleanup.policy", Some("compact"))])], false).await.remove(0);
    let configs = answer.configs.unwrap();
    assert_eq!(configs.len(), 33);
    let own: Vec<_> = configs.iter().filter(|config| config.config_source != 5).collect();
    assert_eq!(own.len(), 1);
    assert_eq!(
        (own[0].name.as_str(), own[0].value.as_deref(), own[0].config_source),
        ("cleanup.policy", Some("compact"), 1)
    );
    let stored = services.meta.read(|image| image.topics.get(&answer.topic_id.into()).cloned()).unwrap();
    assert_eq!((stored.name.as_str(), stored.partitions.len(), stored.internal), ("n", 1, false));
}

#[tokio::test]
async fn a_name_that_comes_twice_has_one_row() {
    let services = one_broker().await;
    let answers = create(&services, vec![topic("d", 1, 1), topic("e", 1, 1), topic("d", 2, 1)], false).await;
    let rows: Vec<_> =
        answers.iter().map(|row| (row.name.to_string(), row.error_code, row.error_message.clone())).collect();
    let duplicate = Some(string("Duplicate topic name."));
    assert_eq!(rows, [("d".to_owned(), ResponseError::InvalidRequest.code(), duplicate), ("e".to_owned(), 0, None)]);
}

#[tokio::test]
async fn a_thousand_topics_take_few_revisions() {
    let services = one_broker().await;
    let before = services.meta.read(|image| image.revision);
    let topics = (0..1000).map(|number| topic(&format!("topic.with-a-longer-name.{number}"), 1, 1));
    let answers = create(&services, topics.collect(), false).await;
    assert!(answers.iter().all(|row| row.error_code == 0));
    let (count, after) = services.meta.read(|image| (image.names.len(), image.revision));
    assert_eq!(count, 1000);
    assert!(after - before <= 4, "{} revisions", after - before);
    let ids: BTreeSet<_> = answers.iter().map(|row| row.topic_id).collect();
    assert_eq!(ids.len(), 1000);
}

#[test]
fn reserved_ids_are_never_made() {
    use crate::types::env::{Entropy, testing};
    use std::sync::atomic::{AtomicU64, Ordering};
    struct Counting(AtomicU64);
    impl Entropy for Counting {
        fn next_u64(&self) -> u64 {
            // Two halves make one id: 0, then 1, then 2.
            let call = self.0.fetch_add(1, Ordering::Relaxed);
            if call.is_multiple_of(2) { 0 } else { call / 2 }
        }
    }
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let mut env = runtime.block_on(async { testing::env(1) });
    env.entropy = std::sync::Arc::new(Counting(AtomicU64::new(0)));
    assert_eq!(new_topic_id(&env), TopicId(2));
}
