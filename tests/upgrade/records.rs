//! What clients wrote, through whichever brokers, and that all of it is there in its place.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestTopic;
use kafka_protocol::messages::{
    ApiKey, FetchRequest, FetchResponse, FindCoordinatorRequest, FindCoordinatorResponse, GroupId, MetadataRequest,
    MetadataResponse, OffsetCommitRequest, OffsetCommitResponse, OffsetFetchRequest, OffsetFetchResponse,
    ProduceResponse,
};
use kafka_protocol::protocol::StrBytes;
use tokio::net::TcpStream;

use crate::client::Client;
use crate::harness::{FETCH, PRODUCE, batch, create_topic, produce_request, produced, producer_id, topic_name, values};
use crate::process::{Broker, PATIENCE};

pub const PARTITIONS: i32 = 8;
const TOPIC: &str = "t";

/// Errors after which clients ask again: no coordinator yet, no leader here, none anywhere, no such topic or group here.
const PASSING: [i16; 8] = [3, 5, 6, 7, 14, 15, 16, 100];

/// The last batch of a partition: its first sequence and offset, and its values.
type Batch = (i32, Vec<String>);

/// What was acknowledged.
pub struct Records {
    producer: i64,
    /// Values of each partition by offset.
    log: Vec<Vec<String>>,
    last: Vec<Batch>,
    committed: i64,
}

async fn connect(broker: &Broker) -> Client<TcpStream> {
    let connected = TcpStream::connect(broker.address).await;
    Client::new(connected.unwrap_or_else(|error| panic!("{:?}: {error}\n{}", broker.version, broker.log())))
}

/// A client of the broker that leads each partition, as `broker` says, once all have a leader.
async fn leaders(broker: &Broker) -> Vec<(i32, String)> {
    let begun = Instant::now();
    loop {
        let asked = MetadataRequestTopic::default().with_name(Some(topic_name(TOPIC)));
        let request = MetadataRequest::default().with_topics(Some(vec![asked])).with_allow_auto_topic_creation(false);
        let mut client = connect(broker).await;
        let answer: MetadataResponse = client.call(ApiKey::Metadata, 9, &request).await.unwrap();
        let at: BTreeMap<i32, String> =
            answer.brokers.iter().map(|node| (node.node_id.0, format!("{}:{}", node.host, node.port))).collect();
        let mut led: Vec<_> = answer.topics[0].partitions.iter().collect();
        led.sort_by_key(|partition| partition.partition_index);
        let led = led.iter().map(|partition| Some((partition.leader_id.0, at.get(&partition.leader_id.0)?.clone())));
        match led.collect::<Option<Vec<_>>>() {
            Some(led) if led.len() == PARTITIONS as usize => return led,
            _ => assert!(begun.elapsed() < PATIENCE, "{answer:?}\n{}", broker.log()),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Which nodes lead.
pub async fn nodes(broker: &Broker) -> std::collections::BTreeSet<i32> {
    leaders(broker).await.into_iter().map(|(node, _)| node).collect()
}

/// A client of the leader of the partition.
async fn leader(broker: &Broker, partition: i32) -> Option<Client<TcpStream>> {
    let (_, address) = leaders(broker).await.swap_remove(partition as usize);
    Some(Client::new(TcpStream::connect(address).await.ok()?))
}

/// Asks until the answer is not that one has to ask again; `None`: the connection was lost.
async fn patiently<A>(broker: &Broker, mut ask: impl AsyncFnMut() -> Option<(i16, A)>) -> A {
    let begun = Instant::now();
    loop {
        let answer = ask().await;
        match answer {
            Some((0, answer)) => return answer,
            Some((error, _)) if !PASSING.contains(&error) => panic!("error {error}\n{}", broker.log()),
            answer => {
                assert!(begun.elapsed() < PATIENCE, "still {:?}\n{}", answer.map(|(error, _)| error), broker.log())
            }
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

impl Records {
    pub async fn create(broker: &Broker) -> Records {
        let mut client = connect(broker).await;
        assert_eq!(create_topic(&mut client, TOPIC, PARTITIONS).await, 0);
        let producer = producer_id(&mut client).await;
        let partitions = PARTITIONS as usize;
        let last = vec![(0, Vec::new()); partitions];
        Records { producer, log: vec![Vec::new(); partitions], last, committed: 0 }
    }

    async fn produce(&self, broker: &Broker, partition: i32, (sequence, values): &Batch) -> i64 {
        let values: Vec<&str> = values.iter().map(String::as_str).collect();
        let records = batch(Some((self.producer, 0, *sequence)), &values);
        let ask = async || {
            let request = produce_request(TOPIC, partition, records.clone(), -1);
            let mut client = leader(broker, partition).await?;
            let answer: ProduceResponse = client.call(ApiKey::Produce, PRODUCE, &request).await.ok()?;
            Some(produced(&answer))
        };
        patiently(broker, ask).await
    }

    /// Repeats what was written last, and writes more: to all partitions, by way of `broker`.
    pub async fn write(&mut self, broker: &Broker) {
        for partition in 0..PARTITIONS {
            let at = partition as usize;
            let next = self.log[at].len() as i64;
            if !self.last[at].1.is_empty() {
                let (sequence, _) = self.last[at];
                let answer = self.produce(broker, partition, &self.last[at]).await;
                assert_eq!(answer, i64::from(sequence), "a repeated batch keeps its offset");
            }
            let value = |number| format!("{:?} {partition}:{number}", broker.version);
            let more = (next as i32, (next..next + 3).map(value).collect());
            assert_eq!(self.produce(broker, partition, &more).await, next, "offsets go on");
            self.log[at].extend(more.1.iter().cloned());
            self.last[at] = more;
        }
        self.committed += 1;
        let partition = OffsetCommitRequestPartition::default().with_committed_offset(self.committed);
        let topic = OffsetCommitRequestTopic::default().with_name(topic_name(TOPIC)).with_partitions(vec![partition]);
        let request = OffsetCommitRequest::default()
            .with_group_id(group())
            .with_generation_id_or_member_epoch(-1)
            .with_topics(vec![topic]);
        let ask = async || {
            let mut client = coordinator(broker).await?;
            let answer: OffsetCommitResponse = client.call(ApiKey::OffsetCommit, 8, &request).await.ok()?;
            Some((answer.topics[0].partitions[0].error_code, ()))
        };
        patiently(broker, ask).await;
    }

    /// Everything is there in its place, and nothing else.
    pub async fn read(&self, broker: &Broker) {
        for (partition, expected) in (0..).zip(&self.log) {
            let begun = Instant::now();
            let mut found = Vec::new();
            while found.len() < expected.len() {
                let from = found.len() as i64;
                let ask = async || fetch(&mut leader(broker, partition).await?, partition, from).await;
                found.extend(patiently(broker, ask).await);
                assert!(begun.elapsed() < PATIENCE, "partition {partition}: {found:?}, not {expected:?}");
            }
            let expected: Vec<_> = (0..).zip(expected.iter().cloned()).collect();
            assert_eq!(found, expected, "partition {partition}");
        }
        let topic = OffsetFetchRequestTopic::default().with_name(topic_name(TOPIC)).with_partition_indexes(vec![0]);
        let request = OffsetFetchRequest::default().with_group_id(group()).with_topics(Some(vec![topic]));
        let ask = async || {
            let mut client = coordinator(broker).await?;
            let answer: OffsetFetchResponse = client.call(ApiKey::OffsetFetch, 7, &request).await.ok()?;
            Some((answer.error_code, answer.topics.first()?.partitions[0].committed_offset))
        };
        assert_eq!(patiently(broker, ask).await, self.committed);
    }
}

/// Error code and records from `from` on.
async fn fetch(client: &mut Client<TcpStream>, partition: i32, from: i64) -> Option<(i16, Vec<(i64, String)>)> {
    let asked = FetchPartition::default().with_partition(partition).with_fetch_offset(from);
    let topic = FetchTopic::default()
        .with_topic(topic_name(TOPIC))
        .with_partitions(vec![asked.with_partition_max_bytes(1 << 20)]);
    let request = FetchRequest::default().with_max_wait_ms(200).with_max_bytes(8 << 20).with_topics(vec![topic]);
    let answer: FetchResponse = client.call(ApiKey::Fetch, FETCH, &request).await.ok()?;
    let partition = &answer.responses[0].partitions[0];
    let records = values(&partition.records.clone().unwrap_or_default());
    Some((partition.error_code, records.into_iter().filter(|(offset, _)| *offset >= from).collect()))
}

fn group() -> GroupId {
    GroupId(StrBytes::from_static_str("g"))
}

/// A client of the group's coordinator.
async fn coordinator(broker: &Broker) -> Option<Client<TcpStream>> {
    let request = FindCoordinatorRequest::default().with_key(group().0);
    let answer: FindCoordinatorResponse =
        connect(broker).await.call(ApiKey::FindCoordinator, 3, &request).await.ok()?;
    let address = format!("{}:{}", answer.host, answer.port);
    Some(Client::new(TcpStream::connect(address).await.ok()?))
}
