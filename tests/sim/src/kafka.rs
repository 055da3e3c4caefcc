//! Requests as the clients of the simulation make them: one connection that ends with the first fault, every call with a time limit.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use alluvium::wire::batch::{HEADER_BYTES, batches, crc_matches};
use alluvium::wire::build::{BatchBuilder, BatchOptions, NewRecord};
use alluvium::wire::records::RecordIter;
use bytes::Bytes;
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestTopic;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{
    ApiKey, CreateTopicsRequest, CreateTopicsResponse, DeleteRecordsRequest, DeleteRecordsResponse, FetchRequest,
    FetchResponse, FindCoordinatorRequest, FindCoordinatorResponse, GroupId, InitProducerIdRequest,
    InitProducerIdResponse, ListOffsetsRequest, ListOffsetsResponse, MetadataRequest, MetadataResponse,
    OffsetCommitRequest, OffsetCommitResponse, OffsetFetchRequest, OffsetFetchResponse, ProduceRequest,
    ProduceResponse, TopicName,
};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, StrBytes};

use crate::client::Client;
use crate::judge::Place;
use crate::net::{Net, Stream};
use crate::world::Dice;

const PRODUCE: i16 = 11;
const FETCH: i16 = 12;

/// Stands for "the batch's CRC is wrong" where Kafka has an error code.
pub const DAMAGED: i16 = -2;

pub struct Conn {
    client: Client<Stream>,
    pub host: &'static str,
    pub patience: Duration,
}

pub fn text(value: &str) -> StrBytes {
    StrBytes::from_string(value.to_owned())
}

pub fn topic_name(name: &str) -> TopicName {
    TopicName(text(name))
}

fn late() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "no answer in time")
}

/// Error code and the rest of one partition of a Fetch.
#[derive(Debug)]
pub struct Fetched {
    pub place: Place,
    pub error: i16,
    pub end: i64,
    /// Below it no transaction is open: without any, all of it.
    pub stable: i64,
    pub start: i64,
    pub records: Vec<(i64, String)>,
}

impl Conn {
    pub async fn open(net: &Arc<Net>, from: &'static str, host: &'static str, patience: Duration) -> io::Result<Conn> {
        let stream = tokio::time::timeout(patience, net.connect(from, host)).await.map_err(|_| late())??;
        Ok(Conn { client: Client::new(stream), host, patience })
    }

    pub async fn call<Q, A>(&mut self, key: ApiKey, version: i16, request: &Q) -> io::Result<A>
    where
        Q: Encodable + HeaderVersion,
        A: Decodable + HeaderVersion,
    {
        let call = self.client.call(key, version, request);
        tokio::time::timeout(self.patience, call).await.map_err(|_| late())?
    }

    pub async fn send_batch(&mut self, place: &Place, records: Bytes) -> io::Result<i32> {
        self.send_with_acks(place, records, -1).await
    }

    /// With acks=0 no answer comes.
    pub async fn send_with_acks(&mut self, place: &Place, records: Bytes, acks: i16) -> io::Result<i32> {
        let data = PartitionProduceData::default().with_index(place.1).with_records(Some(records));
        let topic = TopicProduceData::default().with_name(topic_name(&place.0)).with_partition_data(vec![data]);
        let request = ProduceRequest::default().with_acks(acks).with_timeout_ms(10_000).with_topic_data(vec![topic]);
        let send = self.client.send(ApiKey::Produce, PRODUCE, &request);
        tokio::time::timeout(self.patience, send).await.map_err(|_| late())?
    }

    /// Error code and base offset.
    pub async fn receive_ack(&mut self, id: i32) -> io::Result<(i16, i64)> {
        let receive = self.client.receive::<ProduceResponse>(id, PRODUCE);
        let answer = tokio::time::timeout(self.patience, receive).await.map_err(|_| late())??;
        let partition = &answer.responses[0].partition_responses[0];
        Ok((partition.error_code, partition.base_offset))
    }

    pub async fn producer_id(&mut self) -> io::Result<(i16, i64)> {
        let request = InitProducerIdRequest::default()
            .with_transactional_id(None)
            .with_producer_id((-1).into())
            .with_producer_epoch(-1)
            .with_transaction_timeout_ms(60_000);
        let answer: InitProducerIdResponse = self.call(ApiKey::InitProducerId, 4, &request).await?;
        Ok((answer.error_code, answer.producer_id.0))
    }

    pub async fn create_topic(&mut self, name: &str, partitions: i32) -> io::Result<i16> {
        let topic = CreatableTopic::default()
            .with_name(topic_name(name))
            .with_num_partitions(partitions)
            .with_replication_factor(1);
        let request = CreateTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(10_000);
        let answer: CreateTopicsResponse = self.call(ApiKey::CreateTopics, 7, &request).await?;
        Ok(answer.topics[0].error_code)
    }

    pub async fn topics(&mut self) -> io::Result<BTreeSet<String>> {
        let request = MetadataRequest::default().with_topics(None).with_allow_auto_topic_creation(false);
        let answer: MetadataResponse = self.call(ApiKey::Metadata, 9, &request).await?;
        let named = answer.topics.iter().filter(|topic| topic.error_code == 0);
        Ok(named.filter_map(|topic| topic.name.as_ref().map(|name| name.0.to_string())).collect())
    }

    pub async fn fetch(&mut self, asks: &[(Place, i64)], wait_ms: i32, max_bytes: i32) -> io::Result<Vec<Fetched>> {
        let topics = asks.iter().map(|((topic, index), offset)| {
            let partition = FetchPartition::default()
                .with_partition(*index)
                .with_fetch_offset(*offset)
                .with_partition_max_bytes(max_bytes);
            FetchTopic::default().with_topic(topic_name(topic)).with_partitions(vec![partition])
        });
        let request = FetchRequest::default()
            .with_max_wait_ms(wait_ms)
            .with_min_bytes(1)
            .with_max_bytes(8 << 20)
            .with_topics(topics.collect());
        let answer: FetchResponse = self.call(ApiKey::Fetch, FETCH, &request).await?;
        let mut fetched = Vec::new();
        for topic in answer.responses {
            for partition in topic.partitions {
                let place = (topic.topic.0.to_string(), partition.partition_index);
                let from = asks.iter().find(|(asked, _)| *asked == place).map_or(0, |(_, offset)| *offset);
                let records = values(&partition.records.unwrap_or_default(), from);
                fetched.push(Fetched {
                    error: if records.is_some() { partition.error_code } else { DAMAGED },
                    end: partition.high_watermark,
                    stable: partition.last_stable_offset,
                    start: partition.log_start_offset,
                    records: records.unwrap_or_default(),
                    place,
                });
            }
        }
        Ok(fetched)
    }

    /// The name of the broker that leads a partition, as this one knows it.
    pub async fn leader(&mut self, place: &Place) -> io::Result<Option<String>> {
        let topic = MetadataRequestTopic::default().with_name(Some(topic_name(&place.0)));
        let request = MetadataRequest::default().with_topics(Some(vec![topic])).with_allow_auto_topic_creation(false);
        let answer: MetadataResponse = self.call(ApiKey::Metadata, 9, &request).await?;
        let mut partitions = answer.topics.iter().flat_map(|topic| &topic.partitions);
        let leader = partitions.find(|partition| partition.partition_index == place.1).map(|found| found.leader_id);
        let broker = answer.brokers.iter().find(|broker| Some(broker.node_id) == leader);
        Ok(broker.map(|broker| broker.host.to_string()))
    }

    /// The name of the broker that coordinates a group.
    pub async fn coordinator(&mut self, group: &str) -> io::Result<Option<String>> {
        let request = FindCoordinatorRequest::default().with_key(text(group)).with_key_type(0);
        let answer: FindCoordinatorResponse = self.call(ApiKey::FindCoordinator, 3, &request).await?;
        Ok((answer.error_code == 0).then(|| answer.host.to_string()))
    }

    /// Error code, offset and timestamp of the first record from this moment on.
    pub async fn list_by_time(&mut self, place: &Place, timestamp: i64) -> io::Result<(i16, i64, i64)> {
        self.list(place, timestamp).await
    }

    /// Error code and offset; `timestamp` -1: the end, -2: the start.
    pub async fn list_offset(&mut self, place: &Place, timestamp: i64) -> io::Result<(i16, i64)> {
        self.list(place, timestamp).await.map(|(code, offset, _)| (code, offset))
    }

    async fn list(&mut self, place: &Place, timestamp: i64) -> io::Result<(i16, i64, i64)> {
        let partition = ListOffsetsPartition::default().with_partition_index(place.1).with_timestamp(timestamp);
        let topic = ListOffsetsTopic::default().with_name(topic_name(&place.0)).with_partitions(vec![partition]);
        let request = ListOffsetsRequest::default().with_replica_id((-1).into()).with_topics(vec![topic]);
        let answer: ListOffsetsResponse = self.call(ApiKey::ListOffsets, 7, &request).await?;
        let partition = &answer.topics[0].partitions[0];
        Ok((partition.error_code, partition.offset, partition.timestamp))
    }

    pub async fn delete_records(&mut self, place: &Place, offset: i64) -> io::Result<(i16, i64)> {
        let partition = DeleteRecordsPartition::default().with_partition_index(place.1).with_offset(offset);
        let topic = DeleteRecordsTopic::default().with_name(topic_name(&place.0)).with_partitions(vec![partition]);
        let request = DeleteRecordsRequest::default().with_topics(vec![topic]).with_timeout_ms(10_000);
        let answer: DeleteRecordsResponse = self.call(ApiKey::DeleteRecords, 2, &request).await?;
        let partition = &answer.topics[0].partitions[0];
        Ok((partition.error_code, partition.low_watermark))
    }

    pub async fn commit(&mut self, group: &str, place: &Place, offset: i64) -> io::Result<i16> {
        let partition =
            OffsetCommitRequestPartition::default().with_partition_index(place.1).with_committed_offset(offset);
        let topic =
            OffsetCommitRequestTopic::default().with_name(topic_name(&place.0)).with_partitions(vec![partition]);
        let request = OffsetCommitRequest::default()
            .with_group_id(GroupId(text(group)))
            .with_generation_id_or_member_epoch(-1)
            .with_topics(vec![topic]);
        let answer: OffsetCommitResponse = self.call(ApiKey::OffsetCommit, 8, &request).await?;
        Ok(answer.topics[0].partitions[0].error_code)
    }

    pub async fn committed(&mut self, group: &str, place: &Place) -> io::Result<(i16, i64)> {
        let topic =
            OffsetFetchRequestTopic::default().with_name(topic_name(&place.0)).with_partition_indexes(vec![place.1]);
        let request = OffsetFetchRequest::default().with_group_id(GroupId(text(group))).with_topics(Some(vec![topic]));
        let answer: OffsetFetchResponse = self.call(ApiKey::OffsetFetch, 7, &request).await?;
        if answer.error_code != 0 {
            return Ok((answer.error_code, -1));
        }
        let partition = &answer.topics[0].partitions[0];
        Ok((partition.error_code, partition.committed_offset))
    }
}

/// The wall clocks of all clients begin here.
const EPOCH_MS: i64 = 1_700_000_000_000;

pub fn time_of(now: Duration) -> i64 {
    EPOCH_MS + i64::try_from(now.as_millis()).expect("short runs")
}

/// A value with the timestamp that its record gets: about now, not in order.
pub fn dated(dice: &Dice, now: Duration, value: String) -> String {
    format!("{value}@{}", now.as_millis() as u64 + dice.below(40))
}

/// The timestamp of a dated value.
pub fn timestamp_of(value: &str) -> Option<i64> {
    let (_, date) = value.rsplit_once('@')?;
    Some(EPOCH_MS + date.parse::<i64>().ok()?)
}

/// A batch as a producer builds it.
pub fn batch(producer: Option<(i64, i16, i32)>, values: &[String]) -> Bytes {
    let (producer_id, producer_epoch, base_sequence) = producer.unwrap_or((-1, -1, -1));
    let options = BatchOptions { producer_id, producer_epoch, base_sequence, ..BatchOptions::default() };
    let mut builder = BatchBuilder::new(options);
    for (at, value) in values.iter().enumerate() {
        let offset_delta = i32::try_from(at).expect("few records");
        let record = NewRecord {
            offset_delta,
            timestamp: timestamp_of(value).unwrap_or(EPOCH_MS),
            key: None,
            value: Some(value.as_bytes()),
            headers: &[],
        };
        builder.push(record).expect("fits");
    }
    builder.build().expect("builds")
}

/// Records from `from` on; `None` if a batch is damaged, which every client would notice.
pub fn values(records: &Bytes, from: i64) -> Option<Vec<(i64, String)>> {
    let mut values = Vec::new();
    for batch in batches(records) {
        let (header, bytes) = batch.ok()?;
        if !crc_matches(&bytes) {
            return None;
        }
        for record in RecordIter::new(&bytes[HEADER_BYTES..]) {
            let record = record.ok()?;
            let offset = header.base_offset + i64::from(record.offset_delta);
            if offset >= from {
                let mut value = String::from_utf8_lossy(record.value.unwrap_or_default()).into_owned();
                let timestamp = header.base_timestamp + record.timestamp_delta;
                if timestamp_of(&value).is_some_and(|sent| sent != timestamp) {
                    // Nobody sent that.
                    value.push_str(&format!(" with timestamp {timestamp}"));
                }
                values.push((offset, value));
            }
        }
    }
    Some(values)
}
