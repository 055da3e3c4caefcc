//! What a hostile or broken client sends: it costs that client its connection and nobody else anything.

use std::time::{Duration, Instant};

use alluvium::wire::batch::compute_crc;
use alluvium::wire::table::API_TABLE;
use bytes::Bytes;
use kafka_protocol::messages::{ApiKey, ApiVersionsRequest, ApiVersionsResponse, ProduceResponse};

use crate::harness::{
    Broker, PRODUCE, batch, create_topic, create_topic_with, fetch, produce, produce_request, produced, shared_memory,
};

#[tokio::test(flavor = "multi_thread")]
async fn broken_frames_close_their_connection_only() {
    let broker = Broker::start(shared_memory(), |_| {}).await;
    let mut good = broker.client().await;
    assert_eq!(create_topic(&mut good, "t", 1).await, 0);
    let head =
        |key: i16, version: i16| [&key.to_be_bytes()[..], &version.to_be_bytes(), &[0, 0, 0, 1, 255, 255]].concat();
    let framed = |body: &[u8]| [&(body.len() as u32).to_be_bytes()[..], body].concat();
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("negative length", vec![255, 255, 255, 255]),
        ("length beyond the limit", vec![0x7f, 255, 255, 255]),
        ("length too short for a header", vec![0, 0, 0, 3, 0, 0, 0]),
        ("unknown API", framed(&head(9999, 0))),
        ("version that is not served", framed(&head(0, 2))),
        ("an array of two billion topics", framed(&[head(3, 4), vec![0x7f, 255, 255, 255, 0]].concat())),
        ("a Metadata request larger than its cap", [&(64u32 << 20).to_be_bytes()[..], &head(3, 4)].concat()),
    ];
    for (name, bytes) in cases {
        let mut bad = broker.client().await;
        bad.send_raw(&bytes).await.expect("sends");
        let closed = tokio::time::timeout(Duration::from_secs(5), bad.is_closed()).await;
        assert_eq!(closed, Ok(true), "{name}");
        assert_eq!(produce(&mut good, "t", batch(None, &[name])).await.0, 0, "{name}: others go on");
    }
    broker.stop().await.expect("a clean end");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_too_new_api_versions_request_is_answered_in_version_0() {
    let broker = Broker::start(shared_memory(), |_| {}).await;
    let mut client = broker.client().await;
    client.send_raw(&[0, 0, 0, 11, 0, 18, 0, 99, 0, 0, 0, 7, 0, 0, 0xee]).await.expect("sends");
    let answer: ApiVersionsResponse = client.receive(7, 0).await.expect("an answer");
    assert_eq!((answer.error_code, answer.api_keys.len(), answer.api_keys[0].api_key), (35, 1, 18));
    let answer: ApiVersionsResponse =
        client.call(ApiKey::ApiVersions, 0, &ApiVersionsRequest::default()).await.expect("goes on");
    assert!(answer.api_keys.len() > 30);
}

/// The header alone decides: nobody has to send, and the broker to hold, what will be refused.
#[tokio::test(flavor = "multi_thread")]
async fn each_api_has_its_own_cap() {
    let broker = Broker::start(shared_memory(), |settings| settings.kafka.socket_request_max_bytes = 9 << 20).await;
    let (mut good, mut waits) = (broker.client().await, Vec::new());
    for row in API_TABLE {
        let cap = row.frame_cap.min(9 << 20);
        for (length, refused) in [(cap, false), (cap + 1, true)] {
            let mut client = broker.client().await;
            let head = [(row.key as i16).to_be_bytes(), row.max.to_be_bytes(), [0, 0], [0, 1]].concat();
            client.send_raw(&[&(length as u32).to_be_bytes()[..], &head].concat()).await.expect("sends");
            waits.push(async move {
                let closed = tokio::time::timeout(Duration::from_secs(2), client.is_closed()).await;
                assert_eq!(closed.is_ok(), refused, "{} with {length} bytes", row.name);
            });
        }
    }
    assert_eq!(waits.len(), 2 * API_TABLE.len());
    futures::future::join_all(waits).await;
    assert_eq!(create_topic(&mut good, "t", 1).await, 0, "others go on");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frame_that_stalls_ends_its_connection_and_a_slow_one_does_not() {
    let broker = Broker::start(shared_memory(), |_| {}).await;
    let frame = [0, 0, 0, 11, 0, 18, 0, 0, 0, 0, 0, 7, 0, 1, b'm'];
    let (mut after_length, mut after_head, mut slow) =
        (broker.client().await, broker.client().await, broker.client().await);
    after_length.send_raw(&frame[..3]).await.expect("sends");
    after_head.send_raw(&frame[..12]).await.expect("sends");
    let begun = Instant::now();
    let stalled = async {
        for client in [&mut after_length, &mut after_head] {
            tokio::time::timeout(Duration::from_secs(15), client.is_closed()).await.expect("closes");
            assert!(begun.elapsed() > Duration::from_secs(9), "{:?}", begun.elapsed());
        }
    };
    let slowly = async {
        // 11 s in all, with a byte every second behind the length.
        slow.send_raw(&frame[..4]).await.expect("sends");
        for byte in &frame[4..] {
            tokio::time::sleep(Duration::from_secs(1)).await;
            slow.send_raw(&[*byte]).await.expect("sends");
        }
        let answer: ApiVersionsResponse = slow.receive(7, 0).await.expect("an answer");
        assert_eq!(answer.error_code, 0);
    };
    tokio::join!(stalled, slowly);
}

/// A batch of two records without keys, changed, and with a CRC that fits again.
fn changed(change: impl FnOnce(&mut [u8])) -> Bytes {
    let mut bytes = batch(None, &["a", "b"]).to_vec();
    change(&mut bytes);
    let crc = compute_crc(&bytes).expect("long enough");
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    bytes.into()
}

/// As [`changed`], with these bits of one byte flipped and the CRC left wrong.
fn spoilt(at: usize, bits: u8) -> Bytes {
    let mut bytes = batch(None, &["a", "b"]).to_vec();
    bytes[at] ^= bits;
    bytes.into()
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_batches_are_refused_and_nothing_is_stored() {
    let broker = Broker::start(shared_memory(), |_| {}).await;
    let mut client = broker.client().await;
    assert_eq!(create_topic(&mut client, "t", 1).await, 0);
    let counts = |count: i32| changed(|bytes| bytes[57..61].copy_from_slice(&count.to_be_bytes()));
    let last_delta = |delta: i32| changed(|bytes| bytes[23..27].copy_from_slice(&delta.to_be_bytes()));
    let length = |length: i32| changed(|bytes| bytes[8..12].copy_from_slice(&length.to_be_bytes()));
    let mut cut = batch(None, &["a", "b"]);
    cut.truncate(70);
    // Length, attributes, timestamp delta, offset delta of the second record begin at 69.
    let table: Vec<(&str, Bytes, i16)> = vec![
        ("wrong CRC", spoilt(17, 1), 2),
        ("a changed record", spoilt(64, 2), 2),
        ("magic 0", spoilt(16, 2), 87),
        ("magic 1", spoilt(16, 2 ^ 1), 87),
        ("magic 3", spoilt(16, 2 ^ 3), 2),
        ("offset deltas 0, 2", changed(|bytes| bytes[72] = 4), 87),
        ("offset deltas 0, 0", changed(|bytes| bytes[72] = 0), 87),
        ("offset deltas 1, 0", changed(|bytes| bytes.copy_within(64..65, 72)), 87),
        ("a last offset beyond the records", last_delta(2), 87),
        ("a last offset before the records", last_delta(0), 87),
        ("a negative last offset", last_delta(-1), 87),
        ("a last offset that overflows", last_delta(i32::MAX), 87),
        ("one record too many is counted", counts(3), 87),
        ("one record is not counted", counts(1), 87),
        ("no record is counted", counts(0), 87),
        ("two billion records are counted", counts(i32::MAX), 87),
        ("a negative count", counts(-1), 87),
        ("a base offset", changed(|bytes| bytes[7] = 1), 87),
        ("two billion bytes", length(i32::MAX), 87),
        ("a negative length", length(-1), 2),
        ("a control batch", changed(|bytes| bytes[22] |= 0x20), 87),
        ("a codec that is not", changed(|bytes| bytes[22] |= 7), 76),
        ("a codec that does not fit", changed(|bytes| bytes[22] |= 1), 87),
        ("half a batch", cut, 87),
        ("two batches", [batch(None, &["a"]), batch(None, &["b"])].concat().into(), 87),
        ("nothing", Bytes::new(), 87),
        ("too large", batch(None, &["x".repeat(1_100_000).as_str()]), 10),
    ];
    for (name, records, code) in table {
        assert_eq!(produce(&mut client, "t", records).await.0, code, "{name}");
    }
    let (error, high_watermark, values) = fetch(&mut client, "t", 0).await;
    assert_eq!((error, high_watermark, values), (0, 0, vec![]));
    assert_eq!(produce(&mut client, "t", changed(|_| {})).await, (0, 0), "what was not changed is taken");
}

#[tokio::test(flavor = "multi_thread")]
async fn records_of_compacted_topics_need_keys() {
    let broker = Broker::start(shared_memory(), |_| {}).await;
    let mut client = broker.client().await;
    assert_eq!(create_topic_with(&mut client, "c", 1, &[("cleanup.policy", "compact")]).await, 0);
    let request = produce_request("c", 0, batch(None, &["a", "b"]), -1);
    let answer: ProduceResponse = client.call(ApiKey::Produce, PRODUCE, &request).await.expect("answers");
    let refused = &answer.responses[0].partition_responses[0];
    assert_eq!((refused.error_code, refused.base_offset), (87, -1));
    let message = "Compacted topic cannot accept message without key in topic partition c-0";
    let told: Vec<_> = refused
        .record_errors
        .iter()
        .map(|error| (error.batch_index, error.batch_index_error_message.as_deref()))
        .collect();
    assert_eq!(told, [(0, Some(message)), (1, Some(message))]);
    assert!(refused.error_message.as_ref().is_some_and(|all| all.contains(message)), "{refused:?}");
    assert_eq!(fetch(&mut client, "c", 0).await, (0, 0, vec![]));
}

#[tokio::test(flavor = "multi_thread")]
async fn pipelined_requests_are_answered_in_order() {
    let broker = Broker::start(shared_memory(), |settings| settings.flush_interval_ms = Some(30)).await;
    let mut client = broker.client().await;
    assert_eq!(create_topic(&mut client, "t", 1).await, 0);
    let mut ids = Vec::new();
    for at in 0..50 {
        let request = produce_request("t", 0, batch(None, &[&at.to_string()]), -1);
        ids.push(client.send(ApiKey::Produce, PRODUCE, &request).await.expect("sends"));
    }
    for (at, id) in ids.into_iter().enumerate() {
        let answer: ProduceResponse = client.receive(id, PRODUCE).await.expect("an answer");
        assert_eq!(produced(&answer), (0, at as i64));
    }
}
