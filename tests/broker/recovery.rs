//! What a new session finds: many segments, uploads that overlapped, a store that does not answer at once.

use std::sync::Arc;
use std::time::Duration;

use alluvium::segment::{Tail, parse_tail};
use alluvium::store::fault::{Answer, Call, Fault, FaultRates, FaultStore};
use alluvium::store::memory::MemoryStore;
use alluvium::store::{ReadRange, Store, StoreRef};
use alluvium::types::env::Env;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::{ApiKey, FetchRequest, FetchResponse, ProduceResponse};
use tokio::net::TcpStream;

use crate::client::Client;
use crate::harness::{
    Broker, FETCH, PRODUCE, batch, create_topic, fetch, produce, produce_request, produced, producer_id, shared_memory,
    topic_name, values,
};

fn faulty() -> Arc<FaultStore> {
    FaultStore::new(shared_memory(), Env::system().entropy, FaultRates::default())
}

/// Requests that one producer has in flight.
const WINDOW: i32 = 5;

/// One idempotent producer of a partition of its own; returns how many were acknowledged.
async fn write(address: std::net::SocketAddr, partition: i32, count: i32) {
    let stream = TcpStream::connect(address).await.expect("connects");
    let mut client = Client::new(stream);
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

/// One record more.
async fn produced_to(client: &mut Client<TcpStream>, partition: i32) -> (i16, i64) {
    let request = produce_request("t", partition, batch(None, &["after"]), -1);
    produced(&client.call::<_, ProduceResponse>(ApiKey::Produce, PRODUCE, &request).await.expect("answers"))
}

#[tokio::test(flavor = "multi_thread")]
async fn hundreds_of_segments_with_repeated_footers_come_back_whole() {
    let store = faulty();
    let settings = |settings: &mut alluvium::config::Settings| {
        settings.flush_interval_ms = Some(1);
        settings.flush_bytes = 64 << 10;
        // No segment without records in between.
        settings.session_ttl_ms = 60_000;
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
    let segments = store.list("segments/", None, 5000).await.expect("lists").len() as u64;
    assert!(segments > 200, "only {segments} segments");
    // The newest segment that repeats footers leaves out the one before it, which is still on its way.
    let mut next = [400; 4];
    let padding = 63 - segments % 64;
    for _ in 0..padding {
        assert_eq!(produced_to(&mut client, 3).await, (0, next[3]));
        next[3] += 1;
    }
    let late = segments + padding;
    let key = segment_key(store.as_ref(), late).await;
    store.script(Call::Create, &key, [Fault::DelayBefore(Duration::from_secs(1)); 3]);
    let delays = store.injected().delays;
    let mut ids = Vec::new();
    for partition in [0, 1] {
        let request = produce_request("t", partition, batch(None, &["last"]), -1);
        ids.push(client.send(ApiKey::Produce, PRODUCE, &request).await.expect("sends"));
        next[partition as usize] += 1;
        while store.injected().delays == delays {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    for id in ids {
        let answer: ProduceResponse = client.receive(id, PRODUCE).await.expect("an answer");
        assert_eq!(produced(&answer), (0, 400));
    }
    let key = segment_key(store.as_ref(), late + 1).await;
    let bytes = store.read(&key, ReadRange::Full).await.expect("there").bytes;
    let Ok(Tail::Segment(tail)) = parse_tail(&key, bytes.len() as u64, &bytes) else { panic!("{key} is a segment") };
    let repeated: Vec<u64> = tail.repeated.iter().map(|footer| footer.number).collect();
    assert!(repeated.contains(&(late - 1)) && !repeated.contains(&late), "{key} repeats {repeated:?}");
    broker.kill().await;
    let broker = Broker::start(store, settings).await;
    let mut client = broker.client().await;
    for partition in 0..4 {
        assert_eq!(produced_to(&mut client, partition).await, (0, next[partition as usize]), "partition {partition}");
    }
    let mut seen = Vec::new();
    while seen.len() < 402 {
        let (error, high_watermark, records) = fetch(&mut client, "t", seen.len() as i64).await;
        assert_eq!((error, high_watermark), (0, 402));
        seen.extend(records);
    }
    let expected: Vec<_> =
        (0..400).map(|at| (at, at.to_string())).chain([(400, "last".to_owned()), (401, "after".to_owned())]).collect();
    assert_eq!(seen, expected);
}

/// A broker came, wrote so many records to "t", one segment each, and was killed.
async fn written_to(store: StoreRef, records: i64) {
    let broker = Broker::start(store, |settings| settings.flush_interval_ms = Some(1)).await;
    let mut client = broker.client().await;
    assert_eq!(create_topic(&mut client, "t", 1).await, 0);
    for at in 0..records {
        assert_eq!(produce(&mut client, "t", batch(None, &["x"])).await, (0, at));
    }
    broker.kill().await;
}

/// A segment of the first session.
async fn segment_key(store: &dyn Store, number: u64) -> String {
    let folders = store.list_folders("segments/").await.expect("lists");
    format!("segments/{}/{number:020}", folders[0])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_fails_for_a_while_does_not_close_partitions() {
    let store = faulty();
    written_to(store.clone(), 60).await;
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

fn flipped(bytes: &[u8], at: usize) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[at] ^= 1;
    bytes
}

/// What happens to a segment's bytes; `None`: it is gone.
type Damage = fn(&[u8]) -> Option<Vec<u8>>;

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_segment_closes_its_partition_and_is_never_skipped() {
    let damages: [(&str, Damage); 6] = [
        ("gone", |_| None),
        ("empty", |_| Some(Vec::new())),
        ("without its last byte", |bytes| Some(bytes[..bytes.len() - 1].to_vec())),
        ("without its first byte", |bytes| Some(bytes[1..].to_vec())),
        ("a bit of the footer", |bytes| Some(flipped(bytes, bytes.len() - 45))),
        ("a bit of the trailer", |bytes| Some(flipped(bytes, bytes.len() - 1))),
    ];
    for (name, damage) in damages {
        let store = Arc::new(MemoryStore::shared());
        written_to(store.clone(), 60).await;
        let key = segment_key(store.as_ref(), 37).await;
        let bytes = store.read(&key, ReadRange::Full).await.expect("there").bytes;
        match damage(&bytes) {
            Some(bytes) => store.overwrite(&key, bytes.into()),
            None => store.delete(&key).await.expect("deletes"),
        }
        let broker = Broker::start(store, |_| {}).await;
        let mut client = broker.client().await;
        assert_eq!(produce(&mut client, "t", batch(None, &["after"])).await.0, 56, "{name}: a storage error");
        assert_eq!(fetch(&mut client, "t", 0).await.0, 56, "{name}");
        assert_eq!(create_topic(&mut client, "u", 1).await, 0, "{name}");
        assert_eq!(produce(&mut client, "u", batch(None, &["other topics go on"])).await, (0, 0), "{name}");
    }
}

/// What was lost and is put back, and what only seemed damaged, need no restart.
#[tokio::test(flavor = "multi_thread")]
async fn a_partition_opens_when_its_segments_are_whole_again() {
    let store = Arc::new(MemoryStore::shared());
    written_to(store.clone(), 60).await;
    let key = segment_key(store.as_ref(), 37).await;
    let whole = store.read(&key, ReadRange::Full).await.expect("there").bytes;
    store.overwrite(&key, flipped(&whole, whole.len() - 1).into());
    let broker = Broker::start(store.clone(), |_| {}).await;
    let mut client = broker.client().await;
    assert_eq!(produce(&mut client, "t", batch(None, &["refused"])).await.0, 56);
    store.overwrite(&key, whole);
    let opens = async {
        loop {
            match produce(&mut client, "t", batch(None, &["after"])).await {
                (56, _) => tokio::time::sleep(Duration::from_millis(50)).await,
                answer => return answer,
            }
        }
    };
    let answer = tokio::time::timeout(Duration::from_secs(30), opens).await.expect("in time");
    assert_eq!(answer, (0, 60), "behind all that was acknowledged");
    let (error, high_watermark, records) = fetch(&mut client, "t", 0).await;
    assert_eq!((error, high_watermark, records.len()), (0, 61, 61));
}

/// Recovery does not read bodies; who fetches is told, and gets all that stands before and behind.
#[tokio::test(flavor = "multi_thread")]
async fn p16_a_damaged_body_is_an_error_of_its_offsets_only() {
    let store = Arc::new(MemoryStore::shared());
    written_to(store.clone(), 10).await;
    let key = segment_key(store.as_ref(), 5).await;
    let bytes = store.read(&key, ReadRange::Full).await.expect("there").bytes;
    let Ok(Tail::Segment(tail)) = parse_tail(&key, bytes.len() as u64, &bytes) else { panic!("{key} is a segment") };
    let body = usize::try_from(tail.footer.body_length()).expect("short");
    let at = bytes[..body].iter().rposition(|byte| *byte == b'x').expect("the value of the only record");
    store.overwrite(&key, [&bytes[..at], b"y", &bytes[at + 1..]].concat().into());
    let broker = Broker::start(store, |_| {}).await;
    let mut client = broker.client().await;
    let (error, high_watermark, before) = fetch(&mut client, "t", 0).await;
    assert_eq!((error, high_watermark), (0, 10));
    let damaged = before.len() as i64;
    assert!((1..10).contains(&damaged), "{before:?}");
    let (error, _, none) = fetch(&mut client, "t", damaged).await;
    assert_eq!((error, none.len()), (56, 0));
    let (error, _, behind) = fetch(&mut client, "t", damaged + 1).await;
    assert_eq!((error, behind.len() as i64), (0, 9 - damaged));
    assert_eq!(create_topic(&mut client, "u", 1).await, 0);
    assert_eq!(produce(&mut client, "u", batch(None, &["sound"])).await, (0, 0));
    for order in [["t", "u"], ["u", "t"]] {
        let partition = |offset| FetchPartition::default().with_fetch_offset(offset).with_partition_max_bytes(1 << 20);
        let topic = |name: &str| {
            let offset = if name == "t" { damaged } else { 0 };
            FetchTopic::default().with_topic(topic_name(name)).with_partitions(vec![partition(offset)])
        };
        let request = FetchRequest::default().with_max_bytes(1 << 20).with_topics(order.map(topic).to_vec());
        let answer: FetchResponse = client.call(ApiKey::Fetch, FETCH, &request).await.expect("answers");
        for found in &answer.responses {
            let partition = &found.partitions[0];
            let count = values(&partition.records.clone().unwrap_or_default()).len();
            let expected = if &**found.topic == "t" { (56, 0) } else { (0, 1) };
            assert_eq!((partition.error_code, count), expected, "{order:?}: one answer for both");
        }
    }
    assert_eq!(produce(&mut client, "t", batch(None, &["after"])).await, (0, 10));
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
    let written = store.list("segments/", None, 1000).await.expect("lists");
    let first = written.into_iter().find(|object| object.size > 10_000).expect("the first with a record").key;
    store.script(Call::Read, &first, [Fault::Corrupt, Fault::Corrupt]);
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
