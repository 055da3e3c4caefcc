//! The read path over the wire: limits, long polls, sessions, look-ups, log starts.

use std::time::{Duration, Instant};

use alluvium::wire::codec::Codec;
use kafka_protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic, ForgottenTopic};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::{
    ApiKey, DeleteRecordsRequest, DeleteRecordsResponse, FetchRequest, FetchResponse, ListOffsetsRequest,
    ListOffsetsResponse, ProduceResponse,
};
use tokio::net::TcpStream;

use crate::client::Client;
use crate::harness::{
    Broker, FETCH, PRODUCE, batch, create_topic, fetch, produce, produce_request, produced, shared_memory, timed_batch,
    topic_name, values,
};

/// (partition, offset, its max bytes)
type Wanted = (i32, i64, i32);

fn fetch_request(topic: &str, wanted: &[Wanted]) -> FetchRequest {
    let partition = |(index, offset, max): &Wanted| {
        FetchPartition::default().with_partition(*index).with_fetch_offset(*offset).with_partition_max_bytes(*max)
    };
    let topic = FetchTopic::default()
        .with_topic(topic_name(topic))
        .with_partitions(wanted.iter().map(partition).collect::<Vec<_>>());
    let topics = if wanted.is_empty() { vec![] } else { vec![topic] };
    FetchRequest::default().with_max_bytes(1 << 20).with_session_epoch(-1).with_topics(topics)
}

async fn ask(client: &mut Client<TcpStream>, request: &FetchRequest) -> FetchResponse {
    client.call(ApiKey::Fetch, FETCH, request).await.expect("answers")
}

/// Partition, error, high watermark and number of bytes of each partition told.
fn told(answer: &FetchResponse) -> Vec<(i32, i16, i64, usize)> {
    let partitions = answer.responses.iter().flat_map(|topic| &topic.partitions);
    partitions
        .map(|p| (p.partition_index, p.error_code, p.high_watermark, p.records.as_ref().map_or(0, |r| r.len())))
        .collect()
}

async fn produce_to(client: &mut Client<TcpStream>, partition: i32, values: &[&str]) -> (i16, i64) {
    let request = produce_request("t", partition, batch(None, values), -1);
    produced(&client.call::<_, ProduceResponse>(ApiKey::Produce, PRODUCE, &request).await.expect("answers"))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_batch_comes_whole_whatever_the_limits() {
    let broker = Broker::start(shared_memory(), |settings| settings.flush_interval_ms = Some(1)).await;
    let mut client = broker.client().await;
    assert_eq!(create_topic(&mut client, "t", 3).await, 0);
    let size = batch(None, &["x".repeat(1000).as_str()]).len();
    for partition in [1, 2] {
        for _ in 0..3 {
            assert_eq!(produce_to(&mut client, partition, &[&"x".repeat(1000)]).await.0, 0);
        }
    }
    let all = i32::MAX;
    // Request's limit, asked, bytes told of each.
    let table: &[(&str, i32, &[Wanted], &[usize])] = &[
        ("one batch once per request", 0, &[(0, 0, all), (1, 0, all), (2, 0, all)], &[0, size, 0]),
        ("negative limits", i32::MIN, &[(1, 0, i32::MIN), (2, 0, all)], &[size, 0]),
        ("a partition's limit", 1 << 20, &[(1, 0, 1), (2, 0, size as i32 * 2)], &[size, size * 2]),
        ("not below a batch for the second", 1 << 20, &[(1, 0, all), (2, 0, size as i32 - 1)], &[size * 3, 0]),
        ("the request's limit goes on counting", size as i32 * 4 + 1, &[(1, 0, all), (2, 0, all)], &[size * 3, size]),
        ("the end is no error", 1 << 20, &[(1, 3, all)], &[0]),
        ("over several segments from the middle", 1 << 20, &[(1, 1, all)], &[size * 2]),
    ];
    for (name, limit, wanted, bytes) in table {
        let answer = ask(&mut client, &fetch_request("t", wanted).with_max_bytes(*limit)).await;
        let found: Vec<usize> =
            told(&answer).iter().map(|(_, error, _, bytes)| (*bytes).max(*error as usize)).collect();
        assert_eq!(found, *bytes, "{name}");
    }
    for (offset, code) in [(-1, 1), (i64::MIN, 1), (4, 1), (i64::MAX, 1), (3, 0)] {
        let answer = ask(&mut client, &fetch_request("t", &[(1, offset, all)])).await;
        assert_eq!(told(&answer)[0].1, code, "offset {offset}");
    }
    broker.stop().await.expect("a clean end");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_poll_wakes_for_the_commit_and_not_before() {
    let broker = Broker::start(shared_memory(), |settings| settings.flush_interval_ms = Some(1)).await;
    let (mut reader, mut writer) = (broker.client().await, broker.client().await);
    assert_eq!(create_topic(&mut writer, "t", 2).await, 0);
    for at in 0..20 {
        let request = fetch_request("t", &[(0, at, 1 << 20), (1, 0, 1 << 20)]);
        let request = request.with_max_wait_ms(60_000).with_min_bytes(1);
        let id = reader.send(ApiKey::Fetch, FETCH, &request).await.expect("sends");
        if at % 3 == 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(produce(&mut writer, "t", batch(None, &["x"])).await, (0, at));
        let answer = tokio::time::timeout(Duration::from_secs(10), reader.receive::<FetchResponse>(id, FETCH)).await;
        let answer = answer.expect("wakes").expect("answers");
        assert!(told(&answer)[0].3 > 0, "record {at}");
    }
    let begun = Instant::now();
    let request = fetch_request("t", &[(0, 20, 1 << 20)]).with_max_wait_ms(300).with_min_bytes(1);
    let answer = ask(&mut reader, &request).await;
    assert!(begun.elapsed() >= Duration::from_millis(290), "{:?}", begun.elapsed());
    assert_eq!(told(&answer), [(0, 0, 20, 0)]);
    let unknown = fetch_request("t", &[(0, 20, 1 << 20), (7, 0, 1)]).with_max_wait_ms(60_000).with_min_bytes(1);
    assert_eq!(told(&ask(&mut reader, &unknown).await), [(0, 0, 20, 0), (7, 3, -1, 0)], "an error is told at once");
}

#[tokio::test(flavor = "multi_thread")]
async fn fetch_sessions_tell_news_only() {
    let broker = Broker::start(shared_memory(), |settings| settings.flush_interval_ms = Some(1)).await;
    let mut client = broker.client().await;
    assert_eq!(create_topic(&mut client, "t", 3).await, 0);
    let all: &[Wanted] = &[(0, 0, 1 << 20), (1, 0, 1 << 20), (2, 0, 1 << 20)];
    let first = ask(&mut client, &fetch_request("t", all).with_session_epoch(0)).await;
    let id = first.session_id;
    assert!(id > 0 && told(&first).len() == 3);
    let next = |epoch: i32, wanted: &[Wanted]| fetch_request("t", wanted).with_session_id(id).with_session_epoch(epoch);
    assert_eq!(told(&ask(&mut client, &next(1, &[])).await), []);
    assert_eq!(produce_to(&mut client, 1, &["a"]).await.0, 0);
    let news = ask(&mut client, &next(2, &[])).await;
    assert_eq!((news.session_id, told(&news).len(), told(&news)[0].0), (id, 1, 1));
    let repeated = ask(&mut client, &next(3, &[])).await;
    assert_eq!(told(&repeated).len(), 1, "records that were not fetched on from come again");
    assert_eq!(told(&ask(&mut client, &next(4, &[(1, 1, 1 << 20)])).await), []);
    let forgotten = ForgottenTopic::default().with_topic(topic_name("t")).with_partitions(vec![2]);
    let forget = next(5, &[]).with_forgotten_topics_data(vec![forgotten]);
    assert_eq!(told(&ask(&mut client, &forget).await), []);
    assert_eq!(produce_to(&mut client, 2, &["b"]).await.0, 0);
    assert_eq!(told(&ask(&mut client, &next(6, &[])).await), []);
    let stale = ask(&mut client, &next(6, &[])).await;
    assert_eq!((stale.error_code, stale.session_id), (71, 0));
    let closed = ask(&mut client, &next(-1, all)).await;
    assert_eq!((closed.error_code, closed.session_id, told(&closed).len()), (0, 0, 3));
    assert_eq!(ask(&mut client, &next(7, &[])).await.error_code, 70);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_left_the_caches_is_read_from_the_store() {
    let broker = Broker::start(shared_memory(), |settings| {
        settings.flush_interval_ms = Some(1);
        settings.tail_cache_bytes = 4096;
        settings.block_cache_bytes = 1 << 20;
    })
    .await;
    let mut client = broker.client().await;
    assert_eq!(create_topic(&mut client, "t", 1).await, 0);
    let value = "x".repeat(5000);
    for at in 0..300 {
        assert_eq!(produce(&mut client, "t", batch(None, &[&value, "y"])).await, (0, at * 2));
    }
    let mut offset = 0;
    let mut seen = Vec::new();
    while offset < 600 {
        let answer = ask(&mut client, &fetch_request("t", &[(0, offset, 20_000)])).await;
        let records = values(&answer.responses[0].partitions[0].records.clone().expect("records"));
        assert!(records[0].0 <= offset, "the batch that holds the offset comes whole");
        seen.extend(records.iter().map(|(at, _)| *at).filter(|at| *at >= offset));
        let asked = offset;
        offset = records.last().expect("some").0 + 1;
        // An answer may end with the batch asked for: where a read of a run happens to end, once these segments are merged.
        if offset < 300 && offset > asked + 1 {
            // From the middle of the last batch again.
            seen.pop();
            offset -= 1;
        }
    }
    assert_eq!(seen, (0..600).collect::<Vec<i64>>());
}

async fn list(client: &mut Client<TcpStream>, timestamp: i64) -> (i16, i64, i64) {
    let partition = ListOffsetsPartition::default().with_timestamp(timestamp).with_current_leader_epoch(-1);
    let topic = ListOffsetsTopic::default().with_name(topic_name("t")).with_partitions(vec![partition]);
    let request = ListOffsetsRequest::default().with_topics(vec![topic]);
    let answer: ListOffsetsResponse = client.call(ApiKey::ListOffsets, 7, &request).await.expect("answers");
    let partition = &answer.topics[0].partitions[0];
    (partition.error_code, partition.offset, partition.timestamp)
}

async fn delete_records(client: &mut Client<TcpStream>, offset: i64) -> (i16, i64) {
    let partition = DeleteRecordsPartition::default().with_offset(offset);
    let topic = DeleteRecordsTopic::default().with_name(topic_name("t")).with_partitions(vec![partition]);
    let request = DeleteRecordsRequest::default().with_topics(vec![topic]).with_timeout_ms(10_000);
    let answer: DeleteRecordsResponse = client.call(ApiKey::DeleteRecords, 2, &request).await.expect("answers");
    (answer.topics[0].partitions[0].error_code, answer.topics[0].partitions[0].low_watermark)
}

#[tokio::test(flavor = "multi_thread")]
async fn offsets_by_time_are_exact_over_segments_and_codecs() {
    let broker = Broker::start(shared_memory(), |settings| settings.flush_interval_ms = Some(1)).await;
    let mut client = broker.client().await;
    assert_eq!(create_topic(&mut client, "t", 1).await, 0);
    assert_eq!(list(&mut client, -3).await, (0, -1, -1), "nothing yet");
    let base = 1_700_000_000_000;
    let codecs = [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd];
    for (at, codec) in codecs.into_iter().enumerate() {
        // Offsets 0..: base, base+2, base+1; the next batch 10 later.
        let times = [0, 2, 1].map(|ms| base + at as i64 * 10 + ms);
        assert_eq!(produce(&mut client, "t", timed_batch(codec, &times)).await, (0, at as i64 * 3));
    }
    for (target, offset, timestamp) in [
        (0, 0, base),
        (base + 1, 1, base + 2),
        (base + 3, 3, base + 10),
        (base + 21, 7, base + 22),
        (base + 41, 13, base + 42),
        (base + 43, -1, -1),
        (-3, 13, base + 42),
        (-2, 0, -1),
        (-1, 15, -1),
    ] {
        assert_eq!(list(&mut client, target).await, (0, offset, timestamp), "target {target}");
    }
    assert_eq!(delete_records(&mut client, 14).await, (0, 14));
    assert_eq!(list(&mut client, -2).await, (0, 14, -1), "seen by the next request");
    assert_eq!(list(&mut client, base).await, (0, 14, base + 41), "records below the log start are gone");
}

#[tokio::test(flavor = "multi_thread")]
async fn deleted_records_stay_deleted_and_offsets_go_on() {
    let store = shared_memory();
    let fast = |settings: &mut alluvium::config::Settings| settings.flush_interval_ms = Some(1);
    let mut broker = Broker::start(store.clone(), fast).await;
    let mut client = broker.client().await;
    assert_eq!(create_topic(&mut client, "t", 1).await, 0);
    assert_eq!(produce(&mut client, "t", batch(None, &["a", "b", "c"])).await, (0, 0));
    // In the middle of the extent, then all of it.
    for (offset, low, next) in [(1, 1, 3), (-1, 3, 3)] {
        assert_eq!(delete_records(&mut client, offset).await, (0, low));
        broker.kill().await;
        broker = Broker::start(store.clone(), fast).await;
        client = broker.client().await;
        assert_eq!((list(&mut client, -2).await.1, list(&mut client, -1).await.1), (low, next));
        assert_eq!(fetch(&mut client, "t", low - 1).await.0, 1, "out of range");
        assert_eq!(fetch(&mut client, "t", low).await.2.len() as i64, next - low);
    }
    assert_eq!(produce(&mut client, "t", batch(None, &["d"])).await, (0, 3));
    broker.kill().await;
    broker = Broker::start(store, fast).await;
    client = broker.client().await;
    assert_eq!(fetch(&mut client, "t", 3).await.2, [(3, "d".to_owned())]);
    broker.stop().await.expect("a clean end");
}
