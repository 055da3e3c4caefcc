use super::*;
use crate::api::testing::{at_version, one_broker};
use crate::api::{create_topics, refusal::topic_name};
use kafka_protocol::messages::CreateTopicsRequest;
use kafka_protocol::messages::create_topics_request::CreatableTopic;

const TOPIC: i8 = 2;
const BROKER: i8 = 4;
const LOGGER: i8 = 8;
const METRICS: i8 = 16;
const GROUP: i8 = 32;

async fn services() -> AdminServices {
    let services = one_broker().await;
    let topic = CreatableTopic::default().with_name(topic_name("t1")).with_num_partitions(1).with_replication_factor(1);
    let request = CreateTopicsRequest::default().with_topics(vec![topic]);
    let response = create_topics::handle(&services, &at_version(7), request).await;
    assert_eq!(response.topics[0].error_code, 0);
    services
}

async fn run(services: &AdminServices, kind: i8, name: &str, key: &str, operation: Operation) -> Option<Refusal> {
    let operations = vec![(key.to_owned(), operation)];
    let alteration = Alteration { resource_type: kind, name: name.to_owned(), operations, replace: false };
    alter(services, vec![Ok(alteration)], false).await.remove(0).refusal
}

fn set(value: &str) -> Operation {
    Operation::Set(value.to_owned())
}

fn configs(services: &AdminServices, name: &str) -> Configs {
    services.meta.read(|image| topic_named(image, name).map(|(_, topic)| topic.configs.clone()).unwrap_or_default())
}

#[tokio::test]
async fn refusals_are_those_of_kafka() {
    use ResponseError::{InvalidConfig, InvalidRequest, InvalidTopicException, UnknownTopicOrPartition};
    let services = services().await;
    let append = |value: &str| Operation::Append(value.to_owned());
    let too_long = "x".repeat(32_768);
    for (kind, name, key, operation, error, message) in [
        (TOPIC, "t1", "nope", set("1"), InvalidConfig, "Unknown topic config name: nope"),
        (
            TOPIC,
            "t1",
            "retention.ms",
            set("x"),
            InvalidConfig,
            "Invalid value x for configuration retention.ms: Not a number of type LONG",
        ),
        (
            TOPIC,
            "t1",
            "retention.ms",
            append("5"),
            InvalidConfig,
            "Can't APPEND to key retention.ms because its type is not LIST.",
        ),
        (
            TOPIC,
            "t1",
            "nope",
            Operation::Subtract("5".to_owned()),
            InvalidConfig,
            "Can't SUBTRACT to key nope because its type is not LIST.",
        ),
        (TOPIC, "missing", "retention.ms", set("5"), UnknownTopicOrPartition, "The topic 'missing' does not exist."),
        (
            TOPIC,
            "bad name",
            "retention.ms",
            set("5"),
            InvalidTopicException,
            "Topic name is invalid: 'bad name' contains one or more characters other than ASCII alphanumerics, '.', '_' and '-'",
        ),
        (TOPIC, "", "retention.ms", set("5"), InvalidRequest, "Default topic resources are not allowed."),
        (
            BROKER,
            "1",
            "num.partitions",
            set("5"),
            InvalidRequest,
            "Cannot update these configs dynamically: [num.partitions]",
        ),
        (
            BROKER,
            "",
            "message.max.bytes",
            set("-1"),
            InvalidRequest,
            "Invalid value -1 for configuration message.max.bytes: Value must be at least 0",
        ),
        (BROKER, "2", "log.retention.ms", set("5"), InvalidRequest, "Unexpected broker id, expected 1, but received 2"),
        (BROKER, "x", "log.retention.ms", set("5"), InvalidRequest, "Node id must be an integer, but it is: x"),
        (
            BROKER,
            "",
            "plug.in",
            set(&too_long),
            InvalidConfig,
            "The configuration value cannot be added because it exceeds the maximum value size of 32767 bytes.",
        ),
        (GROUP, "g", "nope", set("x"), InvalidConfig, "Unknown group config name: nope"),
        (
            GROUP,
            "",
            "consumer.session.timeout.ms",
            set("45000"),
            InvalidRequest,
            "Default group resources are not allowed.",
        ),
        (METRICS, "m", "nope", set("x"), InvalidRequest, "Unknown client metrics configuration: nope"),
        (METRICS, "", "interval.ms", set("100"), InvalidRequest, "Subscription name can't be empty"),
        (LOGGER, "1", "kafka.x", set("INFO"), InvalidConfig, "Logger kafka.x does not exist!"),
        (0, "1", "x", set("y"), InvalidRequest, "Unknown resource type 0"),
    ] {
        let refusal = run(&services, kind, name, key, operation).await;
        assert_eq!(refusal, Some(Refusal::new(error, message)), "{kind} {name} {key}");
    }
    assert!(configs(&services, "t1").is_empty());
}

#[tokio::test]
async fn lists_grow_from_what_is_in_force() {
    let services = services().await;
    let change = async |operation| assert_eq!(run(&services, TOPIC, "t1", "cleanup.policy", operation).await, None);
    let policy = || configs(&services, "t1").get("cleanup.policy").cloned();
    change(Operation::Append("compact".to_owned())).await;
    assert_eq!(policy().as_deref(), Some("delete,compact"));
    change(Operation::Append("compact".to_owned())).await;
    assert_eq!(policy().as_deref(), Some("delete,compact"));
    change(Operation::Subtract("delete".to_owned())).await;
    assert_eq!(policy().as_deref(), Some("compact"));
    change(Operation::Delete).await;
    assert_eq!(policy(), None);
    let revision = services.meta.read(|image| image.revision);
    change(Operation::Delete).await;
    assert_eq!(services.meta.read(|image| image.revision), revision, "nothing to change writes nothing");
}

#[tokio::test]
async fn replacing_drops_what_is_not_named() {
    let services = services().await;
    assert_eq!(run(&services, TOPIC, "t1", "retention.ms", set("5")).await, None);
    let operations = vec![("segment.ms".to_owned(), set("7"))];
    let replace = Alteration { resource_type: TOPIC, name: "t1".to_owned(), operations, replace: true };
    for (validate_only, key) in [(true, "retention.ms"), (false, "segment.ms")] {
        let row = alter(&services, vec![Ok(replace.clone())], validate_only).await.remove(0);
        assert_eq!(row.refusal, None);
        assert_eq!(configs(&services, "t1").keys().collect::<Vec<_>>(), [key]);
    }
}

#[tokio::test]
async fn many_long_values_take_several_revisions() {
    let services = services().await;
    let long = "x".repeat(30_000);
    let asked = (0..40).map(|number| {
        let operations = vec![(format!("plug.in.{number}"), set(&long))];
        Ok(Alteration { resource_type: METRICS, name: format!("m{number}"), operations, replace: false })
    });
    // Unknown keys of subscriptions are refused, but only after the request was cut.
    let rows = alter(&services, asked.collect(), false).await;
    assert!(
        rows.iter()
            .all(|row| row.refusal.as_ref().is_some_and(|refusal| refusal.error == ResponseError::InvalidRequest))
    );
    let asked = (0..6).map(|number| (format!("plug.in.{number}"), set(&long))).map(|operation| {
        let (resource_type, name) = if operation.0.ends_with('0') { (BROKER, "") } else { (BROKER, "1") };
        Ok(Alteration { resource_type, name: name.to_owned(), operations: vec![operation], replace: false })
    });
    let rows = alter(&services, asked.collect(), false).await;
    assert!(rows.iter().all(|row| row.refusal.is_none()), "{rows:?}");
    let set = services.meta.read(|image| image.configs.get(&ConfigResource::Broker(1)).map(Configs::len));
    assert_eq!(set, Some(5));
}

#[test]
fn shapes_are_judged_as_in_kafka() {
    let refusal = |times, keys: &[&str], null: &[&str]| {
        check_shape(TOPIC, "t", times, keys, null).map_err(|(.., refusal)| refusal)
    };
    let invalid = |message: &str| Err(Refusal::new(ResponseError::InvalidRequest, message));
    assert_eq!(refusal(1, &["a", "b"], &[]), Ok(()));
    assert_eq!(refusal(2, &["a"], &[]), invalid("Each resource must appear at most once."));
    assert_eq!(refusal(1, &["a", "a"], &[]), invalid("Error due to duplicate config keys"));
    assert_eq!(refusal(1, &["a", "b"], &["a", "b"]), invalid("Null value not supported for : a, b"));
}
