//! Lives and ends of sessions: restarts, a second broker with the same node id, a store that refuses.

use std::sync::Arc;
use std::time::Duration;

use alluvium::broker::BrokerError;
use alluvium::store::StoreRef;
use alluvium::store::fault::{Answer, Call, Fault, FaultRates, FaultStore};
use alluvium::store::measure::MeasuredStore;
use alluvium::types::env::Env;
use bytes::Bytes;
use kafka_protocol::messages::{ApiKey, ProduceResponse};

use crate::harness::{
    Broker, PRODUCE, batch, create_topic, fetch, produce, produce_request, produced, producer_id, shared_memory,
};

fn numbered(records: &[(i64, String)]) -> Vec<&str> {
    assert!(records.iter().enumerate().all(|(at, (offset, _))| at as i64 == *offset), "{records:?}");
    records.iter().map(|(_, value)| value.as_str()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_acknowledged_survives_a_kill() {
    let store = shared_memory();
    let broker = Broker::start(store.clone(), |settings| settings.flush_interval_ms = Some(1)).await;
    let mut client = broker.client().await;
    assert_eq!(create_topic(&mut client, "t", 1).await, 0);
    let id = producer_id(&mut client).await;
    let mut expected = Vec::new();
    for at in 0..100 {
        expected.push(at.to_string());
        assert_eq!(produce(&mut client, "t", batch(Some((id, 0, at)), &[&at.to_string()])).await, (0, i64::from(at)));
    }
    broker.kill().await;
    let broker = Broker::start(store, |_| {}).await;
    let mut client = broker.client().await;
    let again = produce(&mut client, "t", batch(Some((id, 0, 99)), &["99"])).await;
    assert_eq!(again, (0, 99), "a retry gets the original's offset");
    let gap = produce(&mut client, "t", batch(Some((id, 0, 101)), &["101"])).await;
    assert_eq!(gap.0, 45, "a gap is refused");
    let (error, high_watermark, records) = fetch(&mut client, "t", 0).await;
    assert_eq!((error, high_watermark), (0, 100));
    assert_eq!(numbered(&records), expected);
    assert_ne!(producer_id(&mut client).await, id, "producer ids are never given twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_later_of_two_brokers_with_one_node_id_fences_the_earlier() {
    let store = shared_memory();
    let first = Broker::start(store.clone(), |_| {}).await;
    let mut client = first.client().await;
    assert_eq!(create_topic(&mut client, "t", 1).await, 0);
    assert_eq!(produce(&mut client, "t", batch(None, &["a"])).await, (0, 0));
    let second = Broker::start(store, |_| {}).await;
    let end = tokio::time::timeout(Duration::from_secs(10), first.running).await.expect("notices").expect("no panic");
    assert!(matches!(end, Err(BrokerError::Fenced { node_id: 1, .. })), "{end:?}");
    let mut client = second.client().await;
    assert_eq!(produce(&mut client, "t", batch(None, &["b"])).await, (0, 1));
    assert_eq!(numbered(&fetch(&mut client, "t", 0).await.2), ["a", "b"]);
}

fn faulty(inner: StoreRef) -> Arc<FaultStore> {
    FaultStore::new(inner, Env::system().entropy, FaultRates::default())
}

/// Between two sessions, too: an older program that was closed while it stood still, and the cluster was upgraded meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn metadata_that_it_can_not_read_end_a_broker_without_a_session() {
    let memory = shared_memory();
    let store = faulty(memory.clone());
    let broker = Broker::start(store.clone(), |_| {}).await;
    let mut client = broker.client().await;
    assert_eq!(create_topic(&mut client, "t", 1).await, 0);
    store.set_denied(true);
    assert_eq!(produce(&mut client, "t", batch(None, &["lost"])).await.0, 6, "the session is over");
    let entries = memory.list("meta/log/", None, 1000).await.expect("lists");
    let next = entries.len() + 1;
    memory.create(&format!("meta/log/{next:020}"), Bytes::from_static(b"of a later program")).await.expect("creates");
    store.set_denied(false);
    let end = tokio::time::timeout(Duration::from_secs(20), broker.running).await.expect("ends").expect("no panic");
    let Err(BrokerError::Metadata(error)) = end else { panic!("{end:?}") };
    assert!(error.to_string().contains(&format!("meta/log/{next:020}")), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_refuses_ends_the_session_and_a_new_one_follows() {
    let store = faulty(shared_memory());
    let broker = Broker::start(store.clone(), |_| {}).await;
    let mut client = broker.client().await;
    assert_eq!(create_topic(&mut client, "t", 1).await, 0);
    assert_eq!(produce(&mut client, "t", batch(None, &["a"])).await, (0, 0));
    store.set_denied(true);
    let refused = produce(&mut client, "t", batch(None, &["lost"])).await;
    assert_eq!(refused.0, 6, "a retriable error");
    store.set_denied(false);
    let mut tries = 0;
    let (mut client, answer) = loop {
        // The old session may still take the connection: it refuses or closes it.
        let mut client = broker.client().await;
        let request = produce_request("t", 0, batch(None, &["b"]), -1);
        match client
            .call::<_, ProduceResponse>(ApiKey::Produce, PRODUCE, &request)
            .await
            .map(|answer| produced(&answer))
        {
            Ok((6, _)) | Err(_) if tries < 50 => tries += 1,
            answer => break (client, answer.expect("answers in the end")),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert_eq!(answer, (0, 1), "the refused record left no gap");
    assert_eq!(numbered(&fetch(&mut client, "t", 0).await.2), ["a", "b"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_and_late_answers_of_the_store_cost_time_only() {
    let store = faulty(shared_memory());
    let broker = Broker::start(store.clone(), |settings| settings.flush_interval_ms = Some(1)).await;
    let mut client = broker.client().await;
    assert_eq!(create_topic(&mut client, "t", 1).await, 0);
    let faults = [
        Fault::LostAnswer(Answer::Maybe),
        Fault::LostAnswer(Answer::Taken),
        Fault::Refused(Answer::Maybe),
        Fault::Refused(Answer::Busy),
        Fault::Refused(Answer::Taken),
        Fault::LandsLate { answer: Answer::Maybe, after: Duration::from_millis(50) },
        Fault::DelayAfter(Duration::from_millis(50)),
    ];
    for (at, fault) in faults.into_iter().enumerate() {
        store.script(Call::Create, "segments/", [fault]);
        let value = at.to_string();
        assert_eq!(produce(&mut client, "t", batch(None, &[&value])).await, (0, at as i64), "{fault:?}");
    }
    let expected = ["0", "1", "2", "3", "4", "5", "6"];
    assert_eq!(numbered(&fetch(&mut client, "t", 0).await.2), expected);
    // What this broker has in memory is no evidence that it is in the store.
    broker.kill().await;
    let broker = Broker::start(store, |_| {}).await;
    let mut client = broker.client().await;
    assert_eq!(numbered(&fetch(&mut client, "t", 0).await.2), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_committed_segment_that_was_lost_is_not_taken_for_the_end() {
    let store = shared_memory();
    let broker = Broker::start(store.clone(), |settings| settings.flush_interval_ms = Some(1)).await;
    let mut client = broker.client().await;
    assert_eq!(create_topic(&mut client, "t", 1).await, 0);
    for at in 0..10 {
        assert_eq!(produce(&mut client, "t", batch(None, &["x"])).await, (0, at));
    }
    broker.kill().await;
    let segments = store.list("segments/", None, 100).await.expect("lists");
    assert!(segments.len() > 10, "{segments:?}");
    store.delete(&segments[1].key).await.expect("deletes");
    let broker = Broker::start(store, |_| {}).await;
    let mut client = broker.client().await;
    assert_eq!(fetch(&mut client, "t", 0).await.0, 56, "closed, and nothing skipped");
    assert_eq!(produce(&mut client, "t", batch(None, &["y"])).await.0, 56);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_start_asks_little_of_the_store() {
    let store = shared_memory();
    let mut starts = Vec::new();
    for _ in 0..2 {
        let measured = Arc::new(MeasuredStore::new(store.clone(), Env::system().clock));
        let stats = measured.stats();
        let broker = Broker::start(measured, |settings| settings.session_ttl_ms = 60_000).await;
        starts.push(stats.snapshot().operations.map(|operation| operation.calls));
        broker.stop().await.expect("a clean end");
    }
    let [first, second] = starts[..] else { panic!("two starts") };
    assert!(first[0] > 20 && first[2] == 3, "the first one probes: {first:?}");
    // The probe's two, and those of the session: open, fence the predecessor, segment 0, ready.
    assert!(second[0] < 10 && second[1] < 25, "the second one does not: {second:?}");
    assert_eq!(second[2], 0, "and leaves nothing to delete");
}
