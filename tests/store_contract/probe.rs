//! What the probe makes of stores that keep the promise of create-only names, that break it, and that do not answer.

use std::sync::Arc;
use std::time::Duration;

use alluvium::store::fault::{Answer, Call, Fault, FaultRates, FaultStore};
use alluvium::store::measure::MeasuredStore;
use alluvium::store::memory::MemoryStore;
use alluvium::store::probe::{Passed, ProbeError, probe, remembered};
use alluvium::store::s3::profile::Keys;
use alluvium::store::s3::{S3Config, S3Store};
use alluvium::store::{ListedObject, ReadBytes, ReadRange, Store, StoreError, StoreRef};
use alluvium::types::env::testing::env;
use async_trait::async_trait;
use bytes::Bytes;

use crate::backends::Backend;

crate::on_every_store!(leaves_one_object_and_asks_little_the_next_time);

async fn run(store: StoreRef) -> Result<Passed, ProbeError> {
    probe(&store, &env(1), std::future::pending()).await
}

fn faulty() -> Arc<FaultStore> {
    FaultStore::new(Arc::new(MemoryStore::shared()), env(2).entropy, FaultRates::default())
}

async fn left(store: &dyn Store) -> Vec<String> {
    store.list("", None, 100).await.expect("a list").into_iter().map(|object| object.key).collect()
}

async fn leaves_one_object_and_asks_little_the_next_time(backend: &Backend) {
    assert_eq!(run(backend.store.clone()).await.expect("keeps its promises"), Passed::Now);
    let (name, body) = remembered(&backend.store.endpoint());
    assert_eq!(left(backend.store.as_ref()).await, [name.as_str()]);
    assert_eq!(backend.store.read(&name, ReadRange::Full).await.expect("there").bytes, body);
    let measured = Arc::new(MeasuredStore::new(backend.store.clone(), env(1).clock));
    let stats = measured.stats();
    assert_eq!(run(measured).await.expect("still does"), Passed::Before);
    let calls = stats.snapshot().operations.map(|operation| operation.calls);
    assert_eq!(calls, [1, 1, 0, 0, 0], "one create, one read");
    backend.store.delete(&name).await.expect("deletes");
    assert_eq!(run(backend.store.clone()).await.expect("keeps its promises"), Passed::Now, "nothing hangs on it");
}

#[tokio::test]
async fn what_is_remembered_is_json_and_names_probe_and_endpoint() {
    let (name, body) = remembered("http://127.0.0.1:9000/bucket/prefix");
    let expected = r#"{"version":1,"probe_version":1,"endpoint":"http://127.0.0.1:9000/bucket/prefix"}"#;
    assert_eq!(body, expected);
    assert_eq!(name, "meta/probe/passed-4f58502aef9b775f");
}

#[test]
fn an_endpoint_is_server_bucket_and_prefix() {
    let endpoint = |endpoint: Option<&str>, region: Option<&str>, prefix: &str| {
        let config = S3Config {
            bucket: "bucket".to_owned(),
            prefix: prefix.to_owned(),
            endpoint: endpoint.map(str::to_owned),
            region: region.map(str::to_owned),
            credentials: Some(Keys { id: "key".to_owned(), secret: "secret".to_owned(), token: None }),
            ..S3Config::default()
        };
        S3Store::open(config).expect("a client").endpoint()
    };
    assert_eq!(endpoint(Some("http://127.0.0.1:9000/"), Some("eu"), "a/b"), "http://127.0.0.1:9000/bucket/a/b");
    assert_eq!(endpoint(None, Some("eu-west-1"), ""), "s3.eu-west-1.amazonaws.com/bucket");
    assert_eq!(endpoint(None, None, ""), "s3.us-east-1.amazonaws.com/bucket");
}

#[tokio::test]
async fn another_endpoint_or_damage_asks_again() {
    let store = Arc::new(MemoryStore::shared());
    let (of_another, body) = remembered("http://elsewhere/bucket");
    store.create(&of_another, body.clone()).await.expect("free");
    assert_eq!(run(store.clone()).await.expect("passes"), Passed::Now);
    assert_eq!(run(store.clone()).await.expect("passes"), Passed::Before);
    let (name, _) = remembered(&store.endpoint());
    for damage in [body, Bytes::from_static(b"{}"), Bytes::new()] {
        store.overwrite(&name, damage.clone());
        assert_eq!(run(store.clone()).await.expect("passes"), Passed::Now, "{damage:?}");
    }
    assert_eq!(left(store.as_ref()).await.len(), 2, "no garbage");
}

#[tokio::test(start_paused = true)]
async fn a_store_that_ignores_if_none_match_is_refused() {
    let store = faulty();
    store.set_unconditional(true);
    let error = run(store.clone()).await.expect_err("replaces objects").to_string();
    assert!(error.contains("only once, and it cannot") && error.contains("If-None-Match"), "{error}");
    assert_eq!(left(store.as_ref()).await, [""; 0]);
    // Once it passed, and then another server, or another version of it, answers at the same place.
    store.set_unconditional(false);
    assert_eq!(run(store.clone()).await.expect("passes"), Passed::Now);
    store.set_unconditional(true);
    assert!(matches!(run(store.clone()).await, Err(ProbeError::NotCreateOnly(_))));
    assert_eq!(left(store.as_ref()).await.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_looks_before_it_writes_is_refused() {
    let store = Arc::new(NotAtomic(MemoryStore::shared()));
    let error = run(store.clone()).await.expect_err("several win").to_string();
    assert!(error.contains("8 of 8 racing creates"), "{error}");
    assert_eq!(left(store.as_ref()).await, [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_hangs_is_refused_in_time_and_by_name() {
    for (call, key, patience_s) in [(Call::Read, "meta/probe/", 15), (Call::Create, "/twice", 15)] {
        let store = faulty();
        store.script(call, key, vec![Fault::Hang; 100]);
        let begun = tokio::time::Instant::now();
        let error = run(store.clone()).await.expect_err("hangs").to_string();
        assert!(error.contains("no answer to a") && error.contains("within 4s"), "{error}");
        assert!(begun.elapsed() < Duration::from_secs(patience_s), "{:?}", begun.elapsed());
        assert_eq!(left(store.as_ref()).await, [""; 0]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_ever_slow_is_refused_in_time_and_by_step() {
    let store = faulty();
    store.set_rates(FaultRates { delay: 1000, max_delay: Duration::from_micros(1), ..FaultRates::default() });
    store.script(Call::Read, "meta/probe/", vec![Fault::DelayBefore(Duration::from_millis(3500)); 100]);
    store.script(Call::Create, "meta/probe/", vec![Fault::DelayAfter(Duration::from_millis(3500)); 100]);
    let begun = tokio::time::Instant::now();
    let error = run(store.clone()).await.expect_err("too slow").to_string();
    assert!(error.contains("too slow to start on: 30 s passed while"), "{error}");
    assert!(begun.elapsed() <= Duration::from_secs(31), "{:?}", begun.elapsed());
    assert_eq!(left(store.as_ref()).await, [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn who_stops_it_does_not_wait_for_the_store() {
    let store = faulty();
    store.script(Call::Create, "/twice", vec![Fault::HangAfter; 100]);
    let begun = tokio::time::Instant::now();
    let stop = tokio::time::sleep(Duration::from_millis(100));
    let shared: StoreRef = store.clone();
    assert!(matches!(probe(&shared, &env(1), stop).await, Err(ProbeError::Stopped)));
    assert!(begun.elapsed() < Duration::from_millis(200), "{:?}", begun.elapsed());
    assert_eq!(left(store.as_ref()).await, [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn denied_creates_are_told_at_once() {
    for key in ["/twice", "/race-1"] {
        let store = faulty();
        store.script(Call::Create, key, vec![Fault::Refused(Answer::Denied); 10]);
        let error = run(store.clone()).await.expect_err("denied");
        assert!(matches!(&error, ProbeError::Unusable(StoreError::Permanent { .. })), "{error}");
        assert_eq!(left(store.as_ref()).await, [""; 0]);
    }
    let store = faulty();
    assert_eq!(run(store.clone()).await.expect("passes"), Passed::Now);
    store.script(Call::Create, "/passed-", [Fault::Refused(Answer::Denied)]);
    let error = run(store.clone()).await.expect_err("the key may only read now").to_string();
    assert!(error.contains("it cannot be used") && error.contains("injected denial"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn lost_answers_cost_time_only() {
    let faults = [
        Fault::LostAnswer(Answer::Maybe),
        Fault::LostAnswer(Answer::Taken),
        Fault::LostAnswer(Answer::Busy),
        Fault::Refused(Answer::Maybe),
        Fault::Refused(Answer::Busy),
        Fault::HangAfter,
        Fault::Hang,
    ];
    for fault in faults {
        for (key, times) in [("/twice", 1), ("/twice", 2), ("/race-0", 1), ("/race-1", 8), ("/passed-", 1)] {
            let store = faulty();
            store.script(Call::Create, key, vec![fault; times]);
            assert_eq!(run(store.clone()).await.expect(key), Passed::Now, "{key} {fault:?}");
            assert!(left(store.as_ref()).await.iter().all(|name| name.contains("/passed-")), "{key} {fault:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn objects_that_can_not_be_deleted_do_not_stop_a_start() {
    let store = faulty();
    store.script(Call::Other, "meta/probe/", vec![Fault::Refused(Answer::Denied); 3]);
    assert_eq!(run(store.clone()).await.expect("passes"), Passed::Now);
    assert_eq!(left(store.as_ref()).await.len(), 4);
    let store = faulty();
    store.script(Call::Other, "meta/probe/", vec![Fault::Refused(Answer::Busy); 3]);
    assert_eq!(run(store.clone()).await.expect("passes"), Passed::Now);
    assert_eq!(left(store.as_ref()).await.len(), 1, "tried again");
}

/// Looks whether the name is free, and writes a moment later.
struct NotAtomic(MemoryStore);

#[async_trait]
impl Store for NotAtomic {
    async fn create(&self, key: &str, body: Bytes) -> Result<(), StoreError> {
        match self.0.read(key, ReadRange::Full).await {
            Err(StoreError::NotFound { .. }) => {}
            _ => return Err(StoreError::taken(key)),
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
        self.0.overwrite(key, body);
        Ok(())
    }

    async fn read(&self, key: &str, range: ReadRange) -> Result<ReadBytes, StoreError> {
        self.0.read(key, range).await
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        self.0.delete(key).await
    }

    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<ListedObject>, StoreError> {
        self.0.list(prefix, after, limit).await
    }

    async fn list_folders(&self, prefix: &str) -> Result<Vec<String>, StoreError> {
        self.0.list_folders(prefix).await
    }

    fn describe(&self) -> String {
        self.0.describe()
    }

    fn endpoint(&self) -> String {
        self.0.endpoint()
    }

    fn is_shared(&self) -> bool {
        true
    }
}
