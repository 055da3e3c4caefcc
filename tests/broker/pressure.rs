//! A store that hangs, clients that do not read, requests that nobody answers: what is bounded, and what still works.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use alluvium::store::fault::{Call, Fault, FaultRates, FaultStore};
use alluvium::types::env::Env;
use alluvium::wire::batch::{BatchHeader, batches};
use alluvium::wire::codec::Codec;
use bytes::{BufMut, BytesMut};
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::{
    ApiKey, ApiVersionsRequest, ApiVersionsResponse, FetchRequest, FetchResponse, GroupId, JoinGroupRequest,
    JoinGroupResponse, MetadataRequest, MetadataResponse, ProduceResponse, RequestHeader,
};
use kafka_protocol::protocol::{Encodable, HeaderVersion, StrBytes};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use crate::client::Client;
use crate::harness::{
    Broker, FETCH, PRODUCE, batch, create_topic, create_topic_with, fetch, produce, produce_request, produced,
    shared_memory, topic_name,
};

fn faulty() -> Arc<FaultStore> {
    FaultStore::new(shared_memory(), Env::system().entropy, FaultRates::default())
}

/// From now on no segment is created, and no answer comes.
fn hang(store: &FaultStore) {
    store.script(Call::Create, "segments/", vec![Fault::Hang; 10_000]);
}

fn one_partition(offset: i64) -> FetchRequest {
    let partition = FetchPartition::default().with_fetch_offset(offset).with_partition_max_bytes(1 << 20);
    let topic = FetchTopic::default().with_topic(topic_name("t")).with_partitions(vec![partition]);
    FetchRequest::default().with_max_bytes(1 << 20).with_session_epoch(-1).with_topics(vec![topic])
}

/// Sends until the broker reads no more; counts the bytes.
async fn flood(mut client: Client<TcpStream>, sent: Arc<AtomicUsize>) {
    let value = "x".repeat(20_000);
    loop {
        let request = produce_request("t", 0, batch(None, &[&value]), -1);
        if client.send(ApiKey::Produce, PRODUCE, &request).await.is_err() {
            return;
        }
        sent.fetch_add(value.len(), Ordering::Relaxed);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_hangs_stops_producers_and_nobody_else() {
    let store = faulty();
    let broker = Broker::start(store.clone(), |settings| {
        settings.flush_bytes = 64 << 10;
        settings.buffer_bytes = 1 << 20;
        settings.session_ttl_ms = 60_000;
    })
    .await;
    let mut client = broker.client().await;
    assert_eq!(create_topic(&mut client, "t", 1).await, 0);
    assert_eq!(produce(&mut client, "t", batch(None, &["a"])).await, (0, 0));
    hang(&store);
    let begun = Instant::now();
    let request = produce_request("t", 0, batch(None, &["b"]), -1).with_timeout_ms(1);
    let id = client.send(ApiKey::Produce, PRODUCE, &request).await.expect("sends");
    let sent = Arc::new(AtomicUsize::new(0));
    let mut floods = tokio::task::JoinSet::new();
    for _ in 0..3 {
        floods.spawn(flood(broker.client().await, sent.clone()));
    }
    let mut before = 0;
    loop {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let now = sent.load(Ordering::Relaxed);
        if now == before && now > 1 << 20 {
            break;
        }
        before = now;
        assert!(begun.elapsed() < Duration::from_secs(9), "the broker goes on reading: {now} bytes");
    }
    let others = async {
        let mut other = broker.client().await;
        let versions: ApiVersionsResponse =
            other.call(ApiKey::ApiVersions, 0, &ApiVersionsRequest::default()).await.expect("answers");
        let known: MetadataResponse =
            other.call(ApiKey::Metadata, 12, &MetadataRequest::default().with_topics(None)).await.expect("answers");
        assert!(versions.api_keys.len() > 30 && known.topics.len() == 1);
        assert_eq!(fetch(&mut other, "t", 0).await.2, [(0, "a".to_owned())]);
    };
    tokio::time::timeout(Duration::from_secs(5), others).await.expect("answered while producers wait");
    // A store that is slow costs a retriable error in the end, not a hang.
    let answer: ProduceResponse = tokio::time::timeout(Duration::from_secs(20), client.receive(id, PRODUCE))
        .await
        .expect("no hang")
        .expect("an answer");
    assert_eq!(produced(&answer), (7, -1));
    assert!(begun.elapsed() >= Duration::from_secs(10), "many clients' time-outs are meant for a disk");
    broker.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_proof_nobody_loses_his_place() {
    let store = faulty();
    let broker = Broker::start(store.clone(), |settings| settings.session_ttl_ms = 2000).await;
    let mut client = broker.client().await;
    assert_eq!(create_topic(&mut client, "t", 1).await, 0);
    assert_eq!(produce(&mut client, "t", batch(None, &["a"])).await, (0, 0));
    assert_eq!(fetch(&mut client, "t", 1000).await.0, 1, "out of range, under proof");
    hang(&store);
    tokio::time::sleep(Duration::from_millis(2200)).await;
    for offset in [0, 1, 1000] {
        assert_eq!(fetch(&mut client, "t", offset).await.0, 6, "offset {offset}");
    }
    broker.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hundreds_of_requests_wait_for_a_client_that_does_not_read() {
    let broker = Broker::start(shared_memory(), |_| {}).await;
    let (mut lazy, mut other) = (broker.client().await, broker.client().await);
    assert_eq!(create_topic(&mut other, "t", 1).await, 0);
    let mut ids = Vec::new();
    for _ in 0..500 {
        let request = MetadataRequest::default().with_topics(None);
        ids.push(lazy.send(ApiKey::Metadata, 12, &request).await.expect("sends"));
    }
    assert_eq!(produce(&mut other, "t", batch(None, &["a"])).await, (0, 0));
    for id in ids {
        let answer: MetadataResponse = lazy.receive(id, 12).await.expect("an answer");
        assert_eq!(answer.topics.len(), 1);
    }
    broker.stop().await.expect("a clean end");
}

#[tokio::test(flavor = "multi_thread")]
async fn acks_0_keeps_the_order_and_closes_on_errors() {
    let broker = Broker::start(shared_memory(), |_| {}).await;
    let mut client = broker.client().await;
    assert_eq!(create_topic(&mut client, "t", 1).await, 0);
    for at in 0..30 {
        let request = produce_request("t", 0, batch(None, &[&at.to_string()]), 0);
        client.send(ApiKey::Produce, PRODUCE, &request).await.expect("sends");
    }
    assert_eq!(produce(&mut client, "t", batch(None, &["last"])).await, (0, 30), "the only answer");
    let records = fetch(&mut client, "t", 0).await.2;
    assert!(records.iter().take(30).enumerate().all(|(at, (_, value))| *value == at.to_string()), "{records:?}");
    let request = produce_request("unknown", 0, batch(None, &["x"]), 0);
    client.send(ApiKey::Produce, PRODUCE, &request).await.expect("sends");
    assert!(tokio::time::timeout(Duration::from_secs(5), client.is_closed()).await.expect("closes"));
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_choose_codec_and_clock() {
    let broker = Broker::start(shared_memory(), |_| {}).await;
    let mut client = broker.client().await;
    for (codec, expected) in [("zstd", Codec::Zstd), ("lz4", Codec::Lz4), ("uncompressed", Codec::None)] {
        let configs = [("compression.type", codec), ("message.timestamp.type", "LogAppendTime")];
        assert_eq!(create_topic_with(&mut client, codec, 1, &configs).await, 0);
        let sent = crate::harness::timed_batch(Codec::Gzip, &[5; 1000]);
        let request = produce_request(codec, 0, sent, -1);
        let answer: ProduceResponse = client.call(ApiKey::Produce, PRODUCE, &request).await.expect("answers");
        assert_eq!(produced(&answer), (0, 0));
        let time = answer.responses[0].partition_responses[0].log_append_time_ms;
        let mut request = one_partition(0);
        request.topics[0].topic = topic_name(codec);
        let fetched: FetchResponse = client.call(ApiKey::Fetch, FETCH, &request).await.expect("answers");
        let records = fetched.responses[0].partitions[0].records.clone().expect("records");
        let header = BatchHeader::parse(&records).expect("a batch");
        assert_eq!((header.compression(), header.max_timestamp), (Ok(expected), time), "{codec}");
        assert!(header.is_log_append_time() && time > 1_600_000_000_000 && header.record_count == 1000);
        assert!(alluvium::wire::batch::crc_matches(&records) && batches(&records).count() == 1);
    }
}

fn join(member: &str) -> JoinGroupRequest {
    JoinGroupRequest::default()
        .with_group_id(GroupId(StrBytes::from_static_str("g")))
        .with_session_timeout_ms(60_000)
        .with_rebalance_timeout_ms(60_000)
        .with_member_id(StrBytes::from_string(member.to_owned()))
        .with_protocol_type(StrBytes::from_static_str("consumer"))
        .with_protocols(vec![JoinGroupRequestProtocol::default().with_name(StrBytes::from_static_str("range"))])
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_delays_the_end() {
    let broker = Broker::start(shared_memory(), |_| {}).await;
    let mut client = broker.client().await;
    assert_eq!(create_topic(&mut client, "t", 1).await, 0);
    let first: JoinGroupResponse = client.call(ApiKey::JoinGroup, 2, &join("")).await.expect("answers");
    assert_eq!(first.error_code, 0);
    let (mut joins, mut polls) = (broker.client().await, broker.client().await);
    let (mut half, _idle) = (broker.client().await, broker.client().await);
    joins.send(ApiKey::JoinGroup, 2, &join("")).await.expect("sends");
    let poll = one_partition(0).with_max_wait_ms(60_000).with_min_bytes(1);
    let id = polls.send(ApiKey::Fetch, FETCH, &poll).await.expect("sends");
    half.send_raw(&[0, 0, 1, 0, 0, 0]).await.expect("sends");
    let request = produce_request("t", 0, batch(None, &["last"]), -1);
    tokio::time::sleep(Duration::from_millis(200)).await;
    let begun = Instant::now();
    let produced_last = client.send(ApiKey::Produce, PRODUCE, &request).await.expect("sends");
    let answer: ProduceResponse = client.receive(produced_last, PRODUCE).await.expect("an answer");
    assert_eq!(produced(&answer), (0, 0));
    let answer: FetchResponse = polls.receive(id, FETCH).await.expect("woken");
    assert_eq!(answer.responses[0].partitions[0].high_watermark, 1);
    polls
        .send(ApiKey::Fetch, FETCH, &one_partition(1).with_max_wait_ms(60_000).with_min_bytes(1))
        .await
        .expect("sends");
    broker.stop().await.expect("a clean end");
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_was_idle_for_longest_leaves_when_all_places_are_taken() {
    let broker = Broker::start(shared_memory(), |settings| settings.max_connections = 4).await;
    let (mut busy, mut waits) = (broker.client().await, broker.client().await);
    let (mut idlest, mut idle) = (broker.client().await, broker.client().await);
    let versions = ApiVersionsRequest::default();
    idlest.call::<_, ApiVersionsResponse>(ApiKey::ApiVersions, 0, &versions).await.expect("answers");
    assert_eq!(create_topic(&mut busy, "t", 1).await, 0);
    let poll = one_partition(0).with_max_wait_ms(60_000).with_min_bytes(1);
    let id = waits.send(ApiKey::Fetch, FETCH, &poll).await.expect("sends");
    tokio::time::sleep(Duration::from_millis(500)).await;
    idle.call::<_, ApiVersionsResponse>(ApiKey::ApiVersions, 0, &versions).await.expect("answers");
    let (left, mut stays) = (CancellationToken::new(), true);
    let goes_on = async {
        while stays {
            busy.call::<_, ApiVersionsResponse>(ApiKey::ApiVersions, 0, &versions).await.expect("a busy one stays");
            stays = !left.is_cancelled();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let leaves = async {
        let begun = Instant::now();
        tokio::select! {
            biased;
            closed = idlest.is_closed() => assert!(closed),
            _ = idle.is_closed() => panic!("an idler one is there"),
        }
        assert!(begun.elapsed() > Duration::from_secs(1), "two seconds are not idle");
        let mut next = broker.client().await;
        next.call::<_, ApiVersionsResponse>(ApiKey::ApiVersions, 0, &versions).await.expect("has its place");
        next
    };
    let leaves = async {
        let next = tokio::time::timeout(Duration::from_secs(10), leaves).await.expect("in time");
        left.cancel();
        next
    };
    let (next, ()) = tokio::join!(leaves, goes_on);
    assert_eq!(produce(&mut busy, "t", batch(None, &["a"])).await, (0, 0));
    let answer: FetchResponse = waits.receive(id, FETCH).await.expect("who waits for an answer has not left");
    assert_eq!(answer.responses[0].partitions[0].high_watermark, 1);
    drop((idle, next));
    broker.stop().await.expect("a clean end");
}

/// The room for frames without records: so many of so many bytes each.
const FRAMES: usize = 16;
const FRAME_BYTES: usize = 8 << 10;

/// Sends a request with zeros behind it, which nobody looks at: its frame takes a part of the room.
async fn send_padded<Q>(client: &mut Client<TcpStream>, key: ApiKey, version: i16, id: i32, request: &Q)
where
    Q: Encodable + HeaderVersion,
{
    let header = RequestHeader::default()
        .with_request_api_key(key as i16)
        .with_request_api_version(version)
        .with_correlation_id(id);
    let mut frame = BytesMut::new();
    frame.put_i32(FRAME_BYTES as i32);
    header.encode(&mut frame, Q::header_version(version)).expect("header");
    request.encode(&mut frame, version).expect("request");
    frame.resize(4 + FRAME_BYTES, 0);
    client.send_raw(&frame).await.expect("sends");
}

/// When those who wait have had time to be read.
async fn is_answered(client: &mut Client<TcpStream>, case: &str) {
    tokio::time::sleep(Duration::from_millis(300)).await;
    let request = MetadataRequest::default().with_topics(None);
    let answer = client.call::<_, MetadataResponse>(ApiKey::Metadata, 12, &request);
    tokio::time::timeout(Duration::from_secs(10), answer).await.expect(case).expect("answers");
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_only_wait_leave_their_room_to_others() {
    let broker = Broker::start(shared_memory(), |settings| {
        settings.flush_bytes = 64 << 10;
        settings.buffer_bytes = 8 * FRAMES * FRAME_BYTES;
    })
    .await;
    let mut other = broker.client().await;
    assert_eq!(create_topic(&mut other, "t", 1).await, 0);
    let first: JoinGroupResponse = other.call(ApiKey::JoinGroup, 2, &join("")).await.expect("answers");
    assert_eq!(first.error_code, 0);
    let poll = one_partition(0).with_max_wait_ms(60_000).with_min_bytes(1);
    let all_topics = MetadataRequest::default().with_topics(None);
    let (mut polls, mut joins, mut behind) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..FRAMES {
        let mut client = broker.client().await;
        send_padded(&mut client, ApiKey::Fetch, FETCH, 1, &poll).await;
        polls.push(client);
    }
    is_answered(&mut other, "beside long polls").await;
    for _ in 0..FRAMES {
        let mut client = broker.client().await;
        send_padded(&mut client, ApiKey::JoinGroup, 2, 1, &join("")).await;
        joins.push(client);
    }
    is_answered(&mut other, "beside members who wait for the first").await;
    for _ in 0..FRAMES {
        let mut client = broker.client().await;
        let id = client.send(ApiKey::Fetch, FETCH, &poll).await.expect("sends");
        send_padded(&mut client, ApiKey::Metadata, 12, id + 1, &all_topics).await;
        behind.push((client, id));
    }
    is_answered(&mut other, "beside what comes behind long polls").await;
    let end = async {
        assert_eq!(produce(&mut other, "t", batch(None, &["a"])).await, (0, 0));
        let again: JoinGroupResponse =
            other.call(ApiKey::JoinGroup, 2, &join(first.member_id.as_str())).await.expect("answers");
        assert_eq!(again.error_code, 0);
        for mut client in polls {
            let polled: FetchResponse = client.receive(1, FETCH).await.expect("woken");
            assert_eq!(polled.responses[0].partitions[0].high_watermark, 1);
        }
        for mut client in joins {
            assert_eq!(client.receive::<JoinGroupResponse>(1, 2).await.expect("answers").error_code, 0);
        }
        for (mut client, id) in behind {
            client.receive::<FetchResponse>(id, FETCH).await.expect("woken");
            client.receive::<MetadataResponse>(id + 1, 12).await.expect("answers");
        }
    };
    tokio::time::timeout(Duration::from_secs(20), end).await.expect("everybody is answered");
    broker.stop().await.expect("a clean end");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_poll_of_a_client_that_left_keeps_no_place() {
    let broker = Broker::start(shared_memory(), |settings| settings.max_connections = 1).await;
    let mut leaves = broker.client().await;
    assert_eq!(create_topic(&mut leaves, "t", 1).await, 0);
    let poll = one_partition(0).with_max_wait_ms(60_000).with_min_bytes(1);
    leaves.send(ApiKey::Fetch, FETCH, &poll).await.expect("sends");
    tokio::time::sleep(Duration::from_millis(200)).await;
    drop(leaves);
    let mut next = broker.client().await;
    let versions = ApiVersionsRequest::default();
    let answer = next.call::<_, ApiVersionsResponse>(ApiKey::ApiVersions, 0, &versions);
    tokio::time::timeout(Duration::from_secs(10), answer).await.expect("has its place").expect("answers");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_poll_waits_for_what_it_wants_and_for_no_more_than_it_may_bring() {
    let broker = Broker::start(shared_memory(), |settings| {
        settings.flush_interval_ms = Some(1);
        // One fetch may bring a quarter of as much.
        settings.buffer_bytes = 16 << 20;
    })
    .await;
    let mut client = broker.client().await;
    assert_eq!(create_topic(&mut client, "t", 1).await, 0);
    let value = "x".repeat(900_000);
    for at in 0..6 {
        assert_eq!(produce(&mut client, "t", batch(None, &[&value])).await, (0, at));
    }
    let cases = [(0, 5, 60_000, 3 << 20, 4 << 20), (5, 1, 300, 900_000, 1 << 20)];
    for (offset, min_mib, max_wait_ms, least, most) in cases {
        let mut poll = one_partition(offset).with_max_bytes(16 << 20);
        poll = poll.with_min_bytes(min_mib << 20).with_max_wait_ms(max_wait_ms);
        poll.topics[0].partitions[0].partition_max_bytes = 16 << 20;
        let begun = Instant::now();
        let answer = client.call::<_, FetchResponse>(ApiKey::Fetch, FETCH, &poll);
        let answer = tokio::time::timeout(Duration::from_secs(20), answer).await.expect("in time").expect("answers");
        let bytes = answer.responses[0].partitions[0].records.as_ref().map_or(0, |records| records.len());
        assert!((least..=most).contains(&bytes), "{bytes} bytes from offset {offset}");
        let waited = begun.elapsed() >= Duration::from_millis(290);
        assert!(waited || offset == 0, "one batch is not enough");
    }
    broker.stop().await.expect("a clean end");
}
