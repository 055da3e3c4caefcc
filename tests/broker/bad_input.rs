//! What a hostile or broken client sends: it costs that client its connection and nobody else anything.

use std::time::Duration;

use kafka_protocol::messages::{ApiKey, ApiVersionsRequest, ApiVersionsResponse, ProduceResponse};

use crate::harness::{Broker, PRODUCE, batch, create_topic, fetch, produce, produce_request, produced, shared_memory};

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

#[tokio::test(flavor = "multi_thread")]
async fn bad_batches_are_refused_and_nothing_is_stored() {
    let broker = Broker::start(shared_memory(), |_| {}).await;
    let mut client = broker.client().await;
    assert_eq!(create_topic(&mut client, "t", 1).await, 0);
    let mutate = |at: usize, byte: u8| {
        let mut bytes = batch(None, &["a", "b"]).to_vec();
        bytes[at] ^= byte;
        bytes.into()
    };
    let twice = [batch(None, &["a"]), batch(None, &["b"])].concat().into();
    let table: Vec<(&str, bytes::Bytes, i16)> = vec![
        ("wrong CRC", mutate(17, 1), 2),
        ("a changed record", mutate(64, 1), 2),
        ("magic 1", mutate(16, 3), 87),
        ("two batches", twice, 87),
        ("too large", batch(None, &["x".repeat(1_100_000).as_str()]), 10),
    ];
    for (name, records, code) in table {
        assert_eq!(produce(&mut client, "t", records).await.0, code, "{name}");
    }
    let (error, high_watermark, values) = fetch(&mut client, "t", 0).await;
    assert_eq!((error, high_watermark, values), (0, 0, vec![]));
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
