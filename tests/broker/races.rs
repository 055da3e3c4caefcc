//! Two brokers that are asked for the same change at the same moment. The table takes one entry of each revision, so one of the two loses,
//! decides anew on what the other did, and answers as Kafka's one controller answers the request that it gets second
//! (`ReplicationControlManager`, `ControllerApis.deleteTopics`, `ConfigurationControlManager`).

use std::time::{Duration, Instant};

use alluvium::store::fault::{Call, Fault, FaultRates, FaultStore};
use alluvium::types::env::Env;
use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_protocol::messages::{
    ApiKey, CreatePartitionsRequest, CreatePartitionsResponse, DeleteTopicsRequest, DeleteTopicsResponse,
    DescribeConfigsRequest, DescribeConfigsResponse, IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse,
};
use kafka_protocol::protocol::StrBytes;
use tokio::net::TcpStream;

use crate::client::Client;
use crate::cluster::Node;
use crate::harness::{create_topic, shared_memory, topic_name};

const ROUNDS: usize = 8;

/// However busy the machine is.
const PATIENCE: Duration = Duration::from_secs(60);
const TIMEOUT_MS: i32 = 60_000;

/// Nobody waits for it, and nobody is taken for dead.
const TTL: Duration = Duration::from_secs(3600);

/// An entry is so long on its way into the table: time for the other broker to make its own of the same image.
const APPEND_DELAY: Duration = Duration::from_millis(10);

const NONE: i16 = 0;
const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
const TOPIC_ALREADY_EXISTS: i16 = 36;
const INVALID_PARTITIONS: i16 = 37;

const TOPIC: i8 = 2;
const SET: i8 = 0;
const KEY: &str = "retention.ms";

type Connection = Client<TcpStream>;

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

async fn create_partitions(client: &mut Connection, topic: &str, count: i32) -> i16 {
    let topic = CreatePartitionsTopic::default().with_name(topic_name(topic)).with_count(count).with_assignments(None);
    let request = CreatePartitionsRequest::default().with_topics(vec![topic]).with_timeout_ms(TIMEOUT_MS);
    let answer: CreatePartitionsResponse = client.call(ApiKey::CreatePartitions, 3, &request).await.expect("answers");
    answer.results[0].error_code
}

async fn delete_topic(client: &mut Connection, topic: &str) -> i16 {
    let request = DeleteTopicsRequest::default().with_topic_names(vec![topic_name(topic)]).with_timeout_ms(TIMEOUT_MS);
    let answer: DeleteTopicsResponse = client.call(ApiKey::DeleteTopics, 5, &request).await.expect("answers");
    answer.responses[0].error_code
}

async fn set_config(client: &mut Connection, topic: &str, value: &str) -> i16 {
    let config =
        AlterableConfig::default().with_name(text(KEY)).with_config_operation(SET).with_value(Some(text(value)));
    let resource = AlterConfigsResource::default()
        .with_resource_type(TOPIC)
        .with_resource_name(text(topic))
        .with_configs(vec![config]);
    let request = IncrementalAlterConfigsRequest::default().with_resources(vec![resource]);
    let answer = client.call(ApiKey::IncrementalAlterConfigs, 1, &request).await;
    let answer: IncrementalAlterConfigsResponse = answer.expect("answers");
    answer.responses[0].error_code
}

/// The value as this broker tells it.
async fn config(client: &mut Connection, topic: &str) -> Option<String> {
    let resource = DescribeConfigsResource::default()
        .with_resource_type(TOPIC)
        .with_resource_name(text(topic))
        .with_configuration_keys(Some(vec![text(KEY)]));
    let request = DescribeConfigsRequest::default().with_resources(vec![resource]);
    let answer: DescribeConfigsResponse = client.call(ApiKey::DescribeConfigs, 4, &request).await.expect("answers");
    let described = &answer.results[0];
    assert_eq!(described.error_code, NONE);
    described.configs[0].value.as_ref().map(|value| value.to_string())
}

/// The value on which both brokers agree in the end. Each of them has set one and knows at least its own, so it is the later one.
async fn agreed(clients: &mut [Connection; 2], topic: &str) -> Option<String> {
    let begun = Instant::now();
    loop {
        let [one, two] = &mut *clients;
        let told = [config(one, topic).await, config(two, topic).await];
        if told[0] == told[1] {
            return told[0].clone();
        }
        assert!(begun.elapsed() < PATIENCE, "{told:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// What both answer that are asked at once, the lower code first.
async fn at_once(clients: &mut [Connection; 2], ask: impl AsyncFn(&mut Connection, usize) -> i16) -> [i16; 2] {
    let [one, two] = clients;
    let (one, two) = tokio::join!(ask(one, 0), ask(two, 1));
    [one.min(two), one.max(two)]
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_that_are_asked_for_one_change_one_makes_it() {
    let store = FaultStore::new(shared_memory(), Env::system().entropy, FaultRates::default());
    let brokers = [Node::start(store.clone(), 1, TTL).await, Node::start(store.clone(), 2, TTL).await];
    store.script(Call::Create, "meta/log/", vec![Fault::DelayBefore(APPEND_DELAY); 10_000]);
    let mut clients = [brokers[0].broker.client().await, brokers[1].broker.client().await];
    for round in 0..ROUNDS {
        let topic = format!("t{round}");
        let codes = at_once(&mut clients, async |client, _| create_topic(client, &topic, 2).await).await;
        assert_eq!(codes, [NONE, TOPIC_ALREADY_EXISTS], "CreateTopics, {round}");
        let codes = at_once(&mut clients, async |client, _| create_partitions(client, &topic, 5).await).await;
        assert_eq!(codes, [NONE, INVALID_PARTITIONS], "CreatePartitions, {round}");
        let values = ["100000", "200000"];
        let codes = at_once(&mut clients, async |client, at| set_config(client, &topic, values[at]).await).await;
        assert_eq!(codes, [NONE, NONE], "IncrementalAlterConfigs, {round}");
        let value = agreed(&mut clients, &topic).await.expect("it was set");
        assert!(values.contains(&value.as_str()), "{value}, {round}");
        let codes = at_once(&mut clients, async |client, _| delete_topic(client, &topic).await).await;
        assert_eq!(codes, [NONE, UNKNOWN_TOPIC_OR_PARTITION], "DeleteTopics, {round}");
    }
    brokers.into_iter().for_each(Node::kill);
}
