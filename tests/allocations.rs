//! What the hot path allocates and copies, counted by an allocator that counts: the broker as it ships, over sockets, in this process.
//!
//! Counted is all that the process allocates while prepared frames go out and answers come into a buffer that is there already, so
//! it is the broker's alone. Requests follow one another, each is a segment of its own; the averages are over as many requests as
//! lie between two segments that repeat footers.
//!
//! - **Produce**: the number of allocations does not depend on the number of records. Record bytes lie in two buffers: the frame, of
//!   just its length, which the kernel fills from the socket, and the segment, into which they are copied once, which begins on a
//!   page boundary so that the disk takes it without another copy, and of which the tail's readers get slices. A third would be seen.
//! - **Fetch**: from the tail and from cached blocks nothing is allocated that grows with records or bytes.
//!
//! The counter is `stats_alloc`: this package forbids `unsafe`, which an allocator of its own would need.

#[allow(dead_code, reason = "shared with tests/broker, which uses all of it")]
#[path = "broker/client.rs"]
mod client;
#[allow(dead_code, reason = "shared with tests/broker, which uses all of it")]
#[path = "broker/harness.rs"]
mod harness;

use std::alloc::System;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use alluvium::store::StoreRef;
use alluvium::store::memory::MemoryStore;
use alluvium::types::env::Env;
use alluvium::wire::build::{BatchBuilder, BatchOptions, NewRecord};
use alluvium::wire::codec::Codec;
use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::produce_request::PartitionProduceData;
use kafka_protocol::messages::{ApiKey, FetchRequest, ProduceRequest, RequestHeader};
use kafka_protocol::protocol::{Encodable, HeaderVersion};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

use harness::{Broker, FETCH, PRODUCE, create_topic, fetch, produce_request, topic_name};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Every 64th segment repeats the footers of those before it.
const REQUESTS: usize = 64;

/// Bytes of records in a batch, whatever their number.
const BATCH_BYTES: usize = 880_000;
const MANY: usize = 10_000;

/// Allocations per request, records aside. What varies is how often tasks meet.
const NOISE: f64 = 8.0;

/// Frame and segment, and what surrounds the records.
const COPIES_OF_A_PRODUCED_BYTE: f64 = 2.05;

/// Of a fetch, whatever it brings.
const FETCH_BYTES: f64 = 16_384.0;

/// What a request costs on average.
#[derive(Clone, Copy, Debug)]
struct Cost {
    allocations: f64,
    bytes: f64,
}

/// Blocking, without an allocation between a frame and its answer.
struct Prepared {
    stream: TcpStream,
    answer: Vec<u8>,
}

impl Prepared {
    fn connect(broker: &Broker) -> Prepared {
        let stream = TcpStream::connect(broker.address).expect("connects");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("set");
        stream.set_nodelay(true).expect("set");
        Prepared { stream, answer: vec![0; 4 << 20] }
    }

    /// Bytes of the answer.
    fn call(&mut self, frame: &[u8]) -> usize {
        self.stream.write_all(frame).expect("sends");
        let mut length = [0; 4];
        self.stream.read_exact(&mut length).expect("answers");
        let length = u32::from_be_bytes(length) as usize;
        self.stream.read_exact(&mut self.answer[..length]).expect("answers");
        length
    }

    /// The cost of one such request, after as many that nobody counts.
    fn cost(&mut self, frame: &[u8]) -> Cost {
        (0..REQUESTS).for_each(|_| assert!(self.call(frame) > 0));
        let region = Region::new(ALLOCATOR);
        (0..REQUESTS).for_each(|_| assert!(self.call(frame) > 0));
        let change = region.change();
        let each = |count: usize| count as f64 / REQUESTS as f64;
        Cost { allocations: each(change.allocations + change.reallocations), bytes: each(change.bytes_allocated) }
    }
}

fn frame<Q: Encodable + HeaderVersion>(key: ApiKey, version: i16, request: &Q) -> Vec<u8> {
    let header = RequestHeader::default()
        .with_request_api_key(key as i16)
        .with_request_api_version(version)
        .with_correlation_id(1);
    let mut frame = BytesMut::new();
    frame.put_i32(0);
    header.encode(&mut frame, Q::header_version(version)).expect("header");
    request.encode(&mut frame, version).expect("request");
    let length = (frame.len() - 4) as i32;
    frame[..4].copy_from_slice(&length.to_be_bytes());
    frame.to_vec()
}

/// A batch of so many records that hold [`BATCH_BYTES`] together.
fn batch(codec: Codec, records: usize) -> Bytes {
    let mut builder = BatchBuilder::new(BatchOptions { codec, ..BatchOptions::default() });
    let value: Vec<u8> = (0..BATCH_BYTES / records).map(|at| (at * at % 251) as u8).collect();
    let timestamp = Env::system().clock.wall_ms();
    for at in 0..records {
        let offset_delta = at as i32;
        builder
            .push(NewRecord { offset_delta, timestamp, key: None, value: Some(&value), headers: &[] })
            .expect("fits");
    }
    builder.build().expect("builds")
}

fn produce_frame(topic: &str, codec: Codec, records: usize) -> Vec<u8> {
    frame(ApiKey::Produce, PRODUCE, &produce_request(topic, 0, batch(codec, records), -1))
}

fn four_partitions(topic: &str, batch: &Bytes) -> ProduceRequest {
    let mut request = produce_request(topic, 0, batch.clone(), -1);
    let data = |index| PartitionProduceData::default().with_index(index).with_records(Some(batch.clone()));
    request.topic_data[0].partition_data = (0..4).map(data).collect();
    request
}

fn fetch_frame(topic: &str) -> Vec<u8> {
    let partition = FetchPartition::default().with_partition_max_bytes(1 << 20);
    let topic = FetchTopic::default().with_topic(topic_name(topic)).with_partitions(vec![partition]);
    let request = FetchRequest::default().with_max_bytes(8 << 20).with_session_epoch(-1).with_topics(vec![topic]);
    frame(ApiKey::Fetch, FETCH, &request)
}

fn same_allocations(what: &str, few: Cost, many: Cost) {
    println!("{what}: {few:?} with one record, {many:?} with {MANY}");
    let more = (many.allocations - few.allocations).abs();
    assert!(more < NOISE, "{what}: allocations follow the number of records");
}

/// A topic with batches of one record and one with batches of many, made by the requests that are counted.
fn produces(wire: &mut Prepared) {
    let frames = [("one", 1), ("many", MANY)].map(|(topic, records)| produce_frame(topic, Codec::None, records));
    let [few, many] = [0, 1].map(|at| wire.cost(&frames[at]));
    same_allocations("produce", few, many);
    for (frame, cost) in frames.iter().zip([few, many]) {
        let copies = cost.bytes / frame.len() as f64;
        assert!(copies < COPIES_OF_A_PRODUCED_BYTE, "{copies:.2} bytes are allocated for each that is produced");
    }
    // Four partitions make a frame that is longer than what is reserved for it at once.
    let wide = frame(ApiKey::Produce, PRODUCE, &four_partitions("wide", &batch(Codec::None, MANY)));
    let cost = wire.cost(&wide);
    let copies = cost.bytes / wide.len() as f64;
    println!("produce four partitions, {} bytes: {cost:?}", wide.len());
    assert!(copies < COPIES_OF_A_PRODUCED_BYTE, "{copies:.2} bytes are allocated for each of a large request");
    for codec in [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
        let few = wire.cost(&produce_frame("compressed", codec, 1));
        let many = wire.cost(&produce_frame("compressed", codec, MANY));
        same_allocations(&format!("produce {codec:?}"), few, many);
    }
}

fn fetches(what: &str, wire: &mut Prepared) {
    let [few, many] = ["one", "many"].map(|topic| {
        let frame = fetch_frame(topic);
        assert!(wire.call(&frame) > BATCH_BYTES, "the whole batch comes");
        wire.cost(&frame)
    });
    same_allocations(what, few, many);
    for cost in [few, many] {
        assert!(cost.bytes < FETCH_BYTES, "{what}: {} bytes are allocated for {BATCH_BYTES} that are sent", cost.bytes);
    }
}

/// The only test of this binary, because it counts what the process allocates.
#[test]
fn record_bytes_are_copied_once_and_records_cost_no_allocation() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("starts");
    let store: StoreRef = Arc::new(MemoryStore::new());
    let start = || async {
        let settings = |settings: &mut alluvium::config::Settings| {
            settings.tail_cache_bytes = 512 << 20;
            // What merging allocates is not the requests'.
            (settings.merge_window_ms, settings.merge_window_bytes) = (3_600_000, 1 << 40);
        };
        let broker = Broker::start(store.clone(), settings).await;
        let mut client = broker.client().await;
        for (topic, partitions) in [("one", 1), ("many", 1), ("wide", 4), ("compressed", 1)] {
            create_topic(&mut client, topic, partitions).await;
        }
        broker
    };
    let broker = runtime.block_on(start());
    let mut wire = Prepared::connect(&broker);
    produces(&mut wire);
    fetches("fetch from the tail", &mut wire);
    drop(wire);
    runtime.block_on(broker.stop()).expect("drains");

    // The next broker finds the records in its store; nothing is in its tail.
    let broker = runtime.block_on(start());
    let mut wire = Prepared::connect(&broker);
    fetches("fetch from blocks", &mut wire);
    let (error, high_watermark, _) = runtime.block_on(async {
        let mut client = broker.client().await;
        fetch(&mut client, "many", 0).await
    });
    assert_eq!((error, high_watermark), (0, (2 * REQUESTS * MANY) as i64), "every request was taken");
    drop(wire);
    runtime.block_on(broker.stop()).expect("drains");
}
