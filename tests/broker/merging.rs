//! Merging on a whole broker: what is read, written again and recovered is the same before, during and after it; what is merged goes away.

use std::sync::Arc;
use std::time::Duration;

use alluvium::config::Settings;
use alluvium::segment::{RUNS_PREFIX, RunTail, parse_run_tail, run_object_key, verify_run_body};
use alluvium::store::fault::{Answer, Call, Fault, FaultRates, FaultStore};
use alluvium::store::{ReadRange, Store, StoreRef};
use alluvium::types::RunId;
use alluvium::types::env::Env;
use kafka_protocol::messages::{ApiKey, ProduceResponse};
use tokio::net::TcpStream;

use crate::client::Client;
use crate::harness::{
    Broker, PRODUCE, batch, create_topic, fetch, produce, produce_request, produced, producer_id, shared_memory,
};

/// Tests wait for something no longer than this.
/// However busy the machine is.
const PATIENCE: Duration = Duration::from_secs(60);

fn faulty() -> Arc<FaultStore> {
    FaultStore::new(shared_memory(), Env::system().entropy, FaultRates::default())
}

/// Windows of a moment, and nothing deleted before the test ends.
fn eager(settings: &mut Settings) {
    settings.flush_interval_ms = Some(1);
    settings.merge_window_ms = 50;
    settings.collect_grace_ms = 600_000;
    settings.session_ttl_ms = 60_000;
}

/// The same, and what is merged is gone soon after.
fn thorough(settings: &mut Settings) {
    eager(settings);
    settings.collect_grace_ms = 100;
}

/// No merging worth the name.
fn never(settings: &mut Settings) {
    settings.flush_interval_ms = Some(1);
    settings.session_ttl_ms = 60_000;
}

async fn until<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !holds().await {
        assert!(tokio::time::Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn keys(store: &dyn Store, prefix: &str) -> Vec<String> {
    store.list(prefix, None, 10_000).await.expect("lists").into_iter().map(|object| object.key).collect()
}

/// Manifests of runs.
async fn runs(store: &dyn Store) -> usize {
    keys(store, "runs/").await.iter().filter(|key| key.ends_with("/manifest")).count()
}

/// Whether revisions of this kind are in the table: `commit_run`.
async fn changes(store: &dyn Store, kind: &str) -> usize {
    let mut count = 0;
    for key in keys(store, "meta/log/").await {
        let body = store.read(&key, alluvium::store::ReadRange::Full).await.expect("there").bytes;
        count += String::from_utf8_lossy(&body).matches(&format!("\"type\":\"{kind}\"")).count();
    }
    count
}

/// Writes records `from..to` of an idempotent producer.
async fn write(client: &mut Client<TcpStream>, id: i64, from: i64, to: i64) {
    for at in from..to {
        let sequence = i32::try_from(at).expect("few");
        let records = batch(Some((id, 0, sequence)), &[&format!("v{at}")]);
        assert_eq!(produce(client, "t", records).await, (0, at));
    }
}

/// All records are there, once and in order.
async fn read_all(client: &mut Client<TcpStream>, count: i64) {
    let mut next = 0;
    while next < count {
        let (error, high_watermark, records) = fetch(client, "t", next).await;
        assert_eq!((error, high_watermark), (0, count), "at offset {next}");
        assert!(!records.is_empty(), "nothing at offset {next}");
        for (offset, value) in records {
            assert_eq!((offset, value), (next, format!("v{next}")));
            next += 1;
        }
    }
}

/// The last five batches of the producer are known; an older one and one that leaves a gap are not.
async fn producer_is_known(client: &mut Client<TcpStream>, id: i64, count: i64) {
    for back in 1..=5 {
        let at = i32::try_from(count - back).expect("few");
        let again = batch(Some((id, 0, at)), &[&format!("v{at}")]);
        assert_eq!(produce(client, "t", again).await, (0, i64::from(at)), "a retry of batch {at} of {count}");
    }
    // A checkpoint does not say how far back nothing is missing.
    for (wrong, codes) in [(count - 6, &[45, 46][..]), (count + 1, &[45])] {
        let wrong = batch(Some((id, 0, i32::try_from(wrong).expect("few"))), &["wrong"]);
        let code = produce(client, "t", wrong).await.0;
        assert!(codes.contains(&code), "out of order or forgotten: {code}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn segments_are_merged_read_deleted_and_recovered() {
    let store = shared_memory();
    let broker = Broker::start(store.clone(), thorough).await;
    let mut client = broker.client().await;
    assert_eq!(create_topic(&mut client, "t", 1).await, 0);
    let id = producer_id(&mut client).await;
    write(&mut client, id, 0, 40).await;
    until("a run", || async { runs(store.as_ref()).await > 0 }).await;
    write(&mut client, id, 40, 80).await;
    until("merged segments are deleted", || async { keys(store.as_ref(), "segments/").await.len() < 10 }).await;
    read_all(&mut client, 80).await;
    producer_is_known(&mut client, id, 80).await;
    for life in 1..=3 {
        broker_again(&store, id, 80 + (life - 1) * 7).await;
    }
    broker.kill().await;
}

/// A later broker finds so many records, and writes seven more.
async fn broker_again(store: &StoreRef, id: i64, count: i64) {
    let broker = Broker::start(store.clone(), thorough).await;
    let mut client = broker.client().await;
    read_all(&mut client, count).await;
    producer_is_known(&mut client, id, count).await;
    write(&mut client, id, count, count + 7).await;
    read_all(&mut client, count + 7).await;
    broker.kill().await;
}

/// Below the level that knows runs a session writes on as if nobody had ever merged; when the level rises, all of it is merged.
#[tokio::test(flavor = "multi_thread")]
async fn at_a_level_without_runs_nothing_is_merged_and_nobody_slows_down() {
    let store = shared_memory();
    let held = |settings: &mut Settings| {
        thorough(settings);
        (settings.feature_level, settings.merge_unmerged_max) = (Some(1), Some(8));
    };
    let broker = Broker::start(store.clone(), held).await;
    let mut client = broker.client().await;
    assert_eq!(create_topic(&mut client, "t", 1).await, 0);
    let id = producer_id(&mut client).await;
    let begun = tokio::time::Instant::now();
    write(&mut client, id, 0, 100).await;
    // Slowed down, as behind a bound of 8, it takes 27 s.
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!((changes(store.as_ref(), "claim_merge").await, runs(store.as_ref()).await), (0, 0));
    broker.kill().await;
    let free = |settings: &mut Settings| {
        thorough(settings);
        settings.feature_level_settle_ms = 0;
    };
    let broker = Broker::start(store.clone(), free).await;
    until("the level rises", || async { changes(store.as_ref(), "raise_level").await == 1 }).await;
    until("merged segments are deleted", || async { keys(store.as_ref(), "segments/").await.len() < 10 }).await;
    let mut client = broker.client().await;
    read_all(&mut client, 100).await;
    producer_is_known(&mut client, id, 100).await;
    broker.kill().await;
}

/// The step at which a merge is cut off: the call on objects whose key holds this, and what becomes of it.
const STEPS: &[(&str, Call, &str, Fault)] = &[
    ("the object is not written", Call::Create, "runs/", Fault::Hang),
    ("the object is written, and no answer comes", Call::Create, "runs/", Fault::HangAfter),
    ("the object is not read back", Call::Read, "runs/", Fault::Hang),
    ("the manifest is not written", Call::Create, "/manifest", Fault::Hang),
    ("the manifest is written, and no answer comes", Call::Create, "/manifest", Fault::HangAfter),
    ("the manifest is not read back", Call::Read, "/manifest", Fault::Hang),
];

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_killed_at_any_step_of_a_merge_loses_nothing() {
    for (name, call, part, fault) in STEPS {
        let store = faulty();
        let broker = Broker::start(store.clone(), never).await;
        let mut client = broker.client().await;
        assert_eq!(create_topic(&mut client, "t", 1).await, 0);
        let id = producer_id(&mut client).await;
        write(&mut client, id, 0, 20).await;
        broker.kill().await;
        let hangs = store.injected().hangs;
        store.script(*call, part, [*fault]);
        let broker = Broker::start(store.clone(), thorough).await;
        until(name, || async { store.injected().hangs > hangs }).await;
        let mut client = broker.client().await;
        read_all(&mut client, 20).await;
        broker.kill().await;
        let broker = Broker::start(store.clone(), thorough).await;
        let mut client = broker.client().await;
        read_all(&mut client, 20).await;
        producer_is_known(&mut client, id, 20).await;
        write(&mut client, id, 20, 25).await;
        until("the claim of the dead is ended", || async { changes(store.as_ref(), "end_claim").await > 0 }).await;
        until("its folder is gone", || async {
            let folders = store.list_folders("runs/").await.expect("lists").len();
            folders > 0
                && folders == runs(store.as_ref()).await
                && folders < changes(store.as_ref(), "claim_merge").await
        })
        .await;
        read_all(&mut client, 25).await;
        broker.kill().await;
        let broker = Broker::start(store.clone(), thorough).await;
        let mut client = broker.client().await;
        read_all(&mut client, 25).await;
        producer_is_known(&mut client, id, 25).await;
        broker.kill().await;
    }
}

/// The append of a revision gets no answer, or a wrong one: the table tells what became of it. Nothing is deleted because of the error, and
/// what is merged goes away as ever.
#[tokio::test(flavor = "multi_thread")]
async fn p06_an_unclear_answer_deletes_nothing() {
    let lost = Fault::LostAnswer(Answer::Maybe);
    let late = Fault::LandsLate { answer: Answer::Maybe, after: Duration::from_millis(300) };
    for fault in [lost, late, Fault::Refused(Answer::Busy), Fault::Refused(Answer::Maybe)] {
        for part in ["runs/", "meta/log/"] {
            let store = faulty();
            let broker = Broker::start(store.clone(), never).await;
            let mut client = broker.client().await;
            assert_eq!(create_topic(&mut client, "t", 1).await, 0);
            let id = producer_id(&mut client).await;
            write(&mut client, id, 0, 20).await;
            broker.kill().await;
            let broker = Broker::start(store.clone(), thorough).await;
            store.script(Call::Create, part, [fault; 3]);
            until("a run", || async { changes(store.as_ref(), "commit_run").await > 0 }).await;
            let mut client = broker.client().await;
            read_all(&mut client, 20).await;
            producer_is_known(&mut client, id, 20).await;
            let runs = runs(store.as_ref()).await;
            until("merged segments are deleted", || async { keys(store.as_ref(), "segments/").await.len() < 15 }).await;
            assert!(runs > 0 && self::runs(store.as_ref()).await >= runs, "{fault:?} on {part}");
            broker.kill().await;
            let broker = Broker::start(store.clone(), never).await;
            read_all(&mut broker.client().await, 20).await;
            broker.kill().await;
        }
    }
}

/// What is read wrong on the way is read again, and never copied.
#[tokio::test(flavor = "multi_thread")]
async fn damage_is_not_copied() {
    let store = faulty();
    let from_the_store = |settings: &mut Settings| {
        thorough(settings);
        settings.tail_cache_bytes = 0;
    };
    let broker = Broker::start(store.clone(), from_the_store).await;
    let mut client = broker.client().await;
    assert_eq!(create_topic(&mut client, "t", 1).await, 0);
    let id = producer_id(&mut client).await;
    store.set_rates(FaultRates { corrupt: 60, ..FaultRates::default() });
    write(&mut client, id, 0, 60).await;
    until("runs", || async { changes(store.as_ref(), "commit_run").await > 1 }).await;
    store.set_rates(FaultRates::default());
    assert!(store.injected().corrupt > 0);
    read_all(&mut client, 60).await;
    broker.kill().await;
    let broker = Broker::start(store.clone(), never).await;
    let mut client = broker.client().await;
    read_all(&mut client, 60).await;
    producer_is_known(&mut client, id, 60).await;
    broker.kill().await;
}

/// An object that is lost stops the merge of its session, and nothing of it is deleted.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_merged_without_what_is_missing() {
    let store = faulty();
    let broker = Broker::start(store.clone(), never).await;
    let mut client = broker.client().await;
    assert_eq!(create_topic(&mut client, "t", 1).await, 0);
    let id = producer_id(&mut client).await;
    write(&mut client, id, 0, 20).await;
    broker.kill().await;
    let segments = keys(store.as_ref(), "segments/").await;
    store.delete(&segments[15]).await.expect("deletes");
    let broker = Broker::start(store.clone(), thorough).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!((changes(store.as_ref(), "commit_run").await, runs(store.as_ref()).await), (0, 0));
    // What the broker writes itself is merged meanwhile, however often the other has failed.
    tokio::time::sleep(Duration::from_secs(8)).await;
    let mut client = broker.client().await;
    assert_eq!(create_topic(&mut client, "u", 1).await, 0);
    for count in 0..3 {
        assert_eq!(write_to(&mut client, "u", 0, "sound").await, (0, count));
        let written = tokio::time::Instant::now();
        until("a run", || async { runs(store.as_ref()).await as i64 > count }).await;
        assert!(written.elapsed() < Duration::from_secs(4), "{:?}", written.elapsed());
    }
    let left = keys(store.as_ref(), "segments/").await;
    assert!(segments.iter().enumerate().all(|(at, key)| at == 15 || left.contains(key)), "nothing is deleted");
    broker.kill().await;
}

/// The grace period of a folder of a merge that came to nothing begins when it is known for garbage, however long the store took to name it.
#[tokio::test(flavor = "multi_thread")]
async fn garbage_is_known_when_the_store_has_answered() {
    const GRACE: Duration = Duration::from_secs(2);
    const LATE: Duration = Duration::from_secs(3);
    let store = faulty();
    let garbage = run_object_key(RunId { revision: 1, random: 9 }, 0);
    store.create(&garbage, "left over".into()).await.expect("creates");
    store.script(Call::Other, RUNS_PREFIX, [Fault::DelayAfter(LATE)]);
    let begun = tokio::time::Instant::now();
    let patient = |settings: &mut Settings| settings.collect_grace_ms = GRACE.as_millis() as u64;
    let broker = Broker::start(store.clone(), patient).await;
    until("it is deleted", || async { store.read(&garbage, ReadRange::Full).await.is_err() }).await;
    assert!(begun.elapsed() >= LATE + GRACE, "after {:?}", begun.elapsed());
    broker.kill().await;
}

/// A store that is too busy to delete, and now and then says so although it did, cuts passes short; what is left is deleted later, and
/// neither writers nor readers wait for it.
#[tokio::test(flavor = "multi_thread")]
async fn p17_throttled_deletes_drain_in_the_end() {
    let objects = shared_memory();
    let store = FaultStore::new(objects.clone(), Env::system().entropy, FaultRates::default());
    let broker = Broker::start(store.clone(), never).await;
    let mut client = broker.client().await;
    assert_eq!(create_topic(&mut client, "t", 1).await, 0);
    let id = producer_id(&mut client).await;
    write(&mut client, id, 0, 80).await;
    broker.kill().await;
    let segments = keys(objects.as_ref(), "segments/").await;
    let folder = segments[0].rsplit_once('/').expect("in a folder").0;
    assert!(segments.len() >= 80 && segments.iter().all(|key| key.starts_with(folder)));
    // A quarter of them takes an object away, fewer than there are: not all is gone before the last refusal. Lists have no digit behind
    // the slash.
    let deletes = (0..200).map(|at| match at % 8 {
        0 => Fault::DelayBefore(Duration::ZERO),
        1 => Fault::LostAnswer(Answer::Maybe),
        2 => Fault::Refused(Answer::Maybe),
        _ => Fault::Refused(Answer::Busy),
    });
    store.script(Call::Other, &format!("{folder}/0"), deletes);
    let broker = Broker::start(store.clone(), thorough).await;
    // Of any session: the first list of a pass, or a delete.
    store.script(Call::Other, "segments/", [Fault::Refused(Answer::Busy); 20]);
    let mut client = broker.client().await;
    write(&mut client, id, 80, 120).await;
    read_all(&mut client, 120).await;
    until("all refusals were met", || async {
        let injected = store.injected();
        (injected.refused, injected.lost_answers, injected.delays) == (150 + 20, 25, 25)
    })
    .await;
    until("the fence is all that is left", || async { keys(objects.as_ref(), folder).await.len() == 1 }).await;
    until("merged segments are deleted", || async { keys(objects.as_ref(), "segments/").await.len() < 10 }).await;
    read_all(&mut client, 120).await;
    producer_is_known(&mut client, id, 120).await;
    broker.kill().await;
    let store: StoreRef = store;
    broker_again(&store, id, 120).await;
}

async fn write_to(client: &mut Client<TcpStream>, topic: &str, partition: i32, value: &str) -> (i16, i64) {
    let request = produce_request(topic, partition, batch(None, &[value]), -1);
    produced(&client.call::<_, ProduceResponse>(ApiKey::Produce, PRODUCE, &request).await.expect("answers"))
}

/// Many partitions, many small objects, a topic that goes away: every object of a run is whole and holds what it says.
#[tokio::test(flavor = "multi_thread")]
async fn runs_hold_all_partitions_of_the_topics_that_are_left() {
    let store = shared_memory();
    let small = |settings: &mut Settings| {
        thorough(settings);
        settings.merge_window_bytes = 4 << 10;
    };
    let broker = Broker::start(store.clone(), small).await;
    let mut client = broker.client().await;
    assert_eq!((create_topic(&mut client, "a", 5).await, create_topic(&mut client, "b", 1).await), (0, 0));
    let value = "x".repeat(300);
    for at in 0..30 {
        for partition in 0..5 {
            assert_eq!(write_to(&mut client, "a", partition, &value).await, (0, at));
        }
        assert_eq!(write_to(&mut client, "b", 0, &value).await, (0, at));
    }
    until("merged segments are deleted", || async { keys(store.as_ref(), "segments/").await.len() < 20 }).await;
    let (mut objects, mut batches) = (0, 0);
    for key in keys(store.as_ref(), "runs/").await {
        let bytes = store.read(&key, alluvium::store::ReadRange::Full).await.expect("there").bytes;
        if let RunTail::Object(footer) = parse_run_tail(&key, bytes.len() as u64, &bytes).expect("it is right") {
            batches += verify_run_body(&key, &bytes, &footer).expect("it is whole");
            objects += 1;
        }
    }
    assert!(objects >= 10 && batches >= 100, "{batches} batches in {objects} objects");
    broker.kill().await;
    let broker = Broker::start(store.clone(), small).await;
    let mut client = broker.client().await;
    for partition in 0..5 {
        assert_eq!(write_to(&mut client, "a", partition, "after").await, (0, 30), "partition {partition}");
    }
    let mut next = 0;
    while next < 31 {
        let (error, high_watermark, records) = fetch(&mut client, "a", next).await;
        assert_eq!((error, high_watermark), (0, 31));
        next += records.len() as i64;
    }
    broker.kill().await;
}
