//! What a new session finds: many segments, uploads that overlapped, a store that does not answer at once.

use std::sync::Arc;
use std::time::Duration;

use alluvium::store::fault::{Answer, Call, Fault, FaultRates, FaultStore};
use alluvium::types::env::Env;
use kafka_protocol::messages::{ApiKey, ProduceResponse};

use crate::harness::{
    Broker, PRODUCE, batch, create_topic, fetch, produce, produce_request, produced, producer_id, shared_memory,
};

fn faulty() -> Arc<FaultStore> {
    FaultStore::new(shared_memory(), Env::system().entropy, FaultRates::default())
}

/// Requests that one producer has in flight.
const WINDOW: i32 = 5;

/// One idempotent producer of a partition of its own; returns how many were acknowledged.
async fn write(address: std::net::SocketAddr, partition: i32, count: i32) {
    let stream = tokio::net::TcpStream::connect(address).await.expect("connects");
    let mut client = crate::client::Client::new(stream);
    let id = producer_id(&mut client).await;
    let mut sent = std::collections::VecDeque::new();
    for at in 0..count + WINDOW {
        if at >= WINDOW {
            let (request, expected) = sent.pop_front().expect("in flight");
            let answer: ProduceResponse = client.receive(request, PRODUCE).await.expect("an answer");
            assert_eq!(produced(&answer), (0, expected));
        }
        if at < count {
            let request = produce_request("t", partition, batch(Some((id, 0, at)), &[&at.to_string()]), -1);
            sent.push_back((client.send(ApiKey::Produce, PRODUCE, &request).await.expect("sends"), i64::from(at)));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hundreds_of_segments_with_repeated_footers_come_back_whole() {
    let store = faulty();
    let settings = |settings: &mut alluvium::config::Settings| {
        settings.flush_interval_ms = Some(1);
        settings.flush_bytes = 64 << 10;
    };
    let broker = Broker::start(store.clone(), settings).await;
    let mut client = broker.client().await;
    assert_eq!(create_topic(&mut client, "t", 4).await, 0);
    // Uploads overtake each other.
    store.set_rates(FaultRates { delay: 700, max_delay: Duration::from_millis(15), ..FaultRates::default() });
    let mut writers = tokio::task::JoinSet::new();
    for partition in 0..4 {
        writers.spawn(write(broker.address, partition, 400));
    }
    while let Some(done) = writers.join_next().await {
        done.expect("all acknowledged in order");
    }
    store.set_rates(FaultRates::default());
    let folders = alluvium::store::Store::list_folders(store.as_ref(), "segments/").await.expect("lists");
    let prefix = format!("segments/{}/", folders[0]);
    let segments = alluvium::store::Store::list(store.as_ref(), &prefix, None, 5000).await.expect("lists").len();
    assert!(segments > 200, "only {segments} segments");
    broker.kill().await;
    let broker = Broker::start(store, settings).await;
    let mut client = broker.client().await;
    let mut seen = Vec::new();
    while seen.len() < 400 {
        let (error, high_watermark, records) = fetch(&mut client, "t", seen.len() as i64).await;
        assert_eq!((error, high_watermark), (0, 400));
        seen.extend(records);
    }
    let expected: Vec<_> = (0..400).map(|at| (at, at.to_string())).collect();
    assert_eq!(seen, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_fails_for_a_while_does_not_close_partitions() {
    let store = faulty();
    let broker = Broker::start(store.clone(), |settings| settings.flush_interval_ms = Some(1)).await;
    let mut client = broker.client().await;
    assert_eq!(create_topic(&mut client, "t", 1).await, 0);
    for at in 0..60 {
        assert_eq!(produce(&mut client, "t", batch(None, &["x"])).await, (0, at));
    }
    broker.kill().await;
    // A segment that only the recovery of the partition reads.
    let segment = format!("/{:020}", 37);
    store.script(Call::Read, &segment, [Fault::Refused(Answer::Denied), Fault::Refused(Answer::Denied)]);
    let broker = Broker::start(store.clone(), |_| {}).await;
    let mut client = broker.client().await;
    let mut waited = 0;
    loop {
        match produce(&mut client, "t", batch(None, &["after"])).await {
            (0, offset) => break assert_eq!(offset, 60),
            (6, _) if waited < 10 => waited += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(store.injected().refused, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_segment_closes_its_partition_and_is_never_skipped() {
    let store = faulty();
    let broker = Broker::start(store.clone(), |settings| settings.flush_interval_ms = Some(1)).await;
    let mut client = broker.client().await;
    assert_eq!(create_topic(&mut client, "t", 1).await, 0);
    for at in 0..60 {
        assert_eq!(produce(&mut client, "t", batch(None, &["x"])).await, (0, at));
    }
    broker.kill().await;
    let folders = alluvium::store::Store::list_folders(store.as_ref(), "segments/").await.expect("lists");
    let key = format!("segments/{}/{:020}", folders[0], 37);
    alluvium::store::Store::delete(store.as_ref(), &key).await.expect("deletes");
    let broker = Broker::start(store, |_| {}).await;
    let mut client = broker.client().await;
    assert_eq!(produce(&mut client, "t", batch(None, &["after"])).await.0, 56, "a storage error");
    assert_eq!(fetch(&mut client, "t", 0).await.0, 56);
    assert_eq!(create_topic(&mut client, "u", 1).await, 0);
    assert_eq!(produce(&mut client, "u", batch(None, &["other topics go on"])).await, (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bit_that_flips_on_the_way_costs_a_second_read() {
    let store = faulty();
    let broker = Broker::start(store.clone(), |settings| settings.tail_cache_bytes = 0).await;
    let mut client = broker.client().await;
    assert_eq!(create_topic(&mut client, "t", 1).await, 0);
    let value = "x".repeat(10_000);
    for at in 0..20 {
        assert_eq!(produce(&mut client, "t", batch(None, &[&value])).await, (0, at));
    }
    store.script(Call::Read, "segments/", [Fault::Corrupt, Fault::Corrupt]);
    // The first read is wrong, and so is the second: an error, and nothing wrong is kept.
    let first = fetch(&mut client, "t", 0).await;
    assert_eq!((first.0, first.2.len()), (56, 0));
    let second = fetch(&mut client, "t", 0).await;
    assert_eq!((second.0, second.2.len()), (0, 20));
    store.script(Call::Read, "segments/", [Fault::Corrupt]);
    broker.kill().await;
    let broker = Broker::start(store, |settings| settings.tail_cache_bytes = 0).await;
    let mut client = broker.client().await;
    let after = fetch(&mut client, "t", 0).await;
    assert_eq!((after.0, after.2.len()), (0, 20));
}
