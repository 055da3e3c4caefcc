//! Starts brokers on stores that a test keeps, and talks to them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use alluvium::admin::Readiness;
use alluvium::broker::{BrokerError, Ports, run_on};
use alluvium::config::Settings;
use alluvium::links::{Stream, TcpDial};
use alluvium::store::StoreRef;
use alluvium::types::env::Env;
use alluvium::types::metrics::Metrics;
use alluvium::wire::build::{BatchBuilder, BatchOptions, NewRecord};
use alluvium::wire::codec::Codec;
use bytes::Bytes;
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{
    ApiKey, CreateTopicsRequest, CreateTopicsResponse, FetchRequest, FetchResponse, InitProducerIdRequest,
    InitProducerIdResponse, ProduceRequest, ProduceResponse, TopicName,
};
use kafka_protocol::protocol::StrBytes;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::client::Client;

pub const PRODUCE: i16 = 11;
pub const FETCH: i16 = 12;
pub const CREATE_TOPICS: i16 = 7;

pub struct Broker {
    pub address: SocketAddr,
    pub shutdown: CancellationToken,
    pub running: JoinHandle<Result<(), BrokerError>>,
}

impl Broker {
    /// Starts a broker and waits until it serves.
    pub async fn start(store: StoreRef, change: impl FnOnce(&mut Settings)) -> Broker {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let mut settings = Settings { node_id: Some(1), session_ttl_ms: 3000, ..Settings::default() };
        settings.kafka.group_initial_rebalance_delay_ms = 0;
        change(&mut settings);
        let ports = Ports {
            store,
            env: Env::system(),
            listener,
            dial: Arc::new(TcpDial),
            advertised: ("127.0.0.1".to_owned(), address.port()),
            metrics: Metrics::new(),
            readiness: watch::Sender::new(Readiness::NotReady("starting".to_owned())),
        };
        let shutdown = CancellationToken::new();
        let (ready, is_ready) = oneshot::channel();
        let stop = shutdown.clone();
        let running = tokio::spawn(async move {
            run_on(ports, settings, stop, |_node_id| {
                let _ = ready.send(());
            })
            .await
        });
        tokio::time::timeout(Duration::from_secs(20), is_ready).await.expect("starts in time").expect("starts");
        Broker { address, shutdown, running }
    }

    pub async fn client(&self) -> Client<TcpStream> {
        Client::new(TcpStream::connect(self.address).await.expect("connects"))
    }

    pub async fn stop(self) -> Result<(), BrokerError> {
        self.shutdown.cancel();
        tokio::time::timeout(Duration::from_secs(10), self.running).await.expect("stops in time").expect("no panic")
    }

    /// As far as this process can: nothing of the broker runs on.
    pub async fn kill(self) {
        self.running.abort();
        let _ = self.running.await;
    }
}

pub fn topic_name(name: &str) -> TopicName {
    TopicName(StrBytes::from_string(name.to_owned()))
}

pub async fn create_topic<S: Stream>(client: &mut Client<S>, name: &str, partitions: i32) -> i16 {
    create_topic_with(client, name, partitions, &[]).await
}

/// With these configs.
pub async fn create_topic_with<S: Stream>(
    client: &mut Client<S>,
    name: &str,
    partitions: i32,
    configs: &[(&str, &str)],
) -> i16 {
    try_create_topic(client, name, partitions, configs).await.expect("answers")
}

/// An error: the connection was closed.
pub async fn try_create_topic<S: Stream>(
    client: &mut Client<S>,
    name: &str,
    partitions: i32,
    configs: &[(&str, &str)],
) -> std::io::Result<i16> {
    let config = |(name, value): &(&str, &str)| {
        let text = |text: &str| StrBytes::from_string(text.to_owned());
        CreatableTopicConfig::default().with_name(text(name)).with_value(Some(text(value)))
    };
    let topic = CreatableTopic::default()
        .with_name(topic_name(name))
        .with_num_partitions(partitions)
        .with_replication_factor(1)
        .with_configs(configs.iter().map(config).collect());
    let request = CreateTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(10_000);
    let answer: CreateTopicsResponse = client.call(ApiKey::CreateTopics, CREATE_TOPICS, &request).await?;
    Ok(answer.topics[0].error_code)
}

pub async fn producer_id(client: &mut Client<TcpStream>) -> i64 {
    let request = InitProducerIdRequest::default().with_transactional_id(None).with_transaction_timeout_ms(60_000);
    let answer: InitProducerIdResponse = client.call(ApiKey::InitProducerId, 4, &request).await.expect("answers");
    assert_eq!(answer.error_code, 0);
    answer.producer_id.0
}

/// One batch of records with these values.
pub fn batch(producer: Option<(i64, i16, i32)>, values: &[&str]) -> Bytes {
    let (producer_id, producer_epoch, base_sequence) = producer.unwrap_or((-1, -1, -1));
    let options = BatchOptions { producer_id, producer_epoch, base_sequence, ..BatchOptions::default() };
    let mut builder = BatchBuilder::new(options);
    let now = Env::system().clock.wall_ms();
    for (at, value) in values.iter().enumerate() {
        let record = NewRecord {
            offset_delta: at as i32,
            timestamp: now,
            key: None,
            value: Some(value.as_bytes()),
            headers: &[],
        };
        builder.push(record).expect("fits");
    }
    builder.build().expect("builds")
}

/// One batch of records with these timestamps.
pub fn timed_batch(codec: Codec, timestamps: &[i64]) -> Bytes {
    let mut builder = BatchBuilder::new(BatchOptions { codec, ..BatchOptions::default() });
    for (at, timestamp) in timestamps.iter().enumerate() {
        let record = NewRecord {
            offset_delta: at as i32,
            timestamp: *timestamp,
            key: None,
            value: Some(b"value"),
            headers: &[],
        };
        builder.push(record).expect("fits");
    }
    builder.build().expect("builds")
}

pub fn produce_request(topic: &str, partition: i32, records: Bytes, acks: i16) -> ProduceRequest {
    let data = PartitionProduceData::default().with_index(partition).with_records(Some(records));
    let topic = TopicProduceData::default().with_name(topic_name(topic)).with_partition_data(vec![data]);
    ProduceRequest::default().with_acks(acks).with_timeout_ms(10_000).with_topic_data(vec![topic])
}

/// Error code and base offset of the only partition.
pub fn produced(answer: &ProduceResponse) -> (i16, i64) {
    let partition = &answer.responses[0].partition_responses[0];
    (partition.error_code, partition.base_offset)
}

pub async fn produce<S: Stream>(client: &mut Client<S>, topic: &str, records: Bytes) -> (i16, i64) {
    let request = produce_request(topic, 0, records, -1);
    let answer: ProduceResponse = client.call(ApiKey::Produce, PRODUCE, &request).await.expect("answers");
    produced(&answer)
}

/// Error code, high watermark and values from `offset` on.
pub async fn fetch(client: &mut Client<TcpStream>, topic: &str, offset: i64) -> (i16, i64, Vec<(i64, String)>) {
    let partition = FetchPartition::default().with_fetch_offset(offset).with_partition_max_bytes(1 << 20);
    let topic = FetchTopic::default().with_topic(topic_name(topic)).with_partitions(vec![partition]);
    let request = FetchRequest::default()
        .with_max_wait_ms(200)
        .with_min_bytes(1)
        .with_max_bytes(8 << 20)
        .with_topics(vec![topic]);
    let answer: FetchResponse = client.call(ApiKey::Fetch, FETCH, &request).await.expect("answers");
    let partition = &answer.responses[0].partitions[0];
    let records = partition.records.clone().unwrap_or_default();
    (
        partition.error_code,
        partition.high_watermark,
        values(&records).into_iter().filter(|(at, _)| *at >= offset).collect(),
    )
}

pub fn values(records: &Bytes) -> Vec<(i64, String)> {
    let mut values = Vec::new();
    for batch in alluvium::wire::batch::batches(records) {
        let (header, bytes) = batch.expect("a whole batch");
        let section = &bytes[alluvium::wire::batch::HEADER_BYTES..];
        for record in alluvium::wire::records::RecordIter::new(section) {
            let record = record.expect("a record");
            let value = String::from_utf8_lossy(record.value.unwrap_or_default()).into_owned();
            values.push((header.base_offset + i64::from(record.offset_delta), value));
        }
    }
    values
}

/// A store in memory that other brokers could reach, too.
pub fn shared_memory() -> StoreRef {
    Arc::new(alluvium::store::memory::MemoryStore::shared())
}
