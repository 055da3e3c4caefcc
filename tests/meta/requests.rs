//! What an idle broker asks for, counted, and what that costs in a month at list prices: less than five dollars on each backend.
//!
//! | | requests a minute | of S3, $ a month | of the table, $ a month |
//! | --- | --- | --- | --- |
//! | idle segments (every ttl/3 = 3.3 s), a list | 18.2 PUT, LIST | 4.03 | |
//! | polls (every 8 to 9 s), bucket | 7.0 GET | 0.12 | |
//! | polls, DynamoDB (on demand, strongly consistent: one read unit each) | 7.0 Query | | 0.04 |
//! | polls, PostgreSQL | 7.0 statements | | the server's |
//! | looks for the marker (every 30th poll) | 0.2 GET | 0.00 | |
//! | looks at the other broker's segments (every minute) | 2.7 GET | 0.05 | |
//!
//! In all, two brokers: each 4.20 with the bucket, 4.11 with DynamoDB, 4.08 with PostgreSQL and the server. Where they do not reach each other they poll every
//! 1.8 to 2 s and look all the time, 105 GET a minute: 5.87. A broker that is alone looks at nobody: 4.12. Prices of us-east-1: S3 PUT and LIST 5.00, GET 0.40, DynamoDB read
//! unit 0.125, write unit 0.625 per million; DELETE is free.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use alluvium::admin::Readiness;
use alluvium::broker::{Ports, run_on};
use alluvium::config::Settings;
use alluvium::meta::table::memory::MemoryTable;
use alluvium::meta::table::{Append, Chunk, Table, TableError, TableRef};
use alluvium::meta::{MetaOptions, Metadata};
use alluvium::server::memory::Network;
use alluvium::store::measure::{MeasuredStore, StoreSnapshot};
use alluvium::store::memory::MemoryStore;
use alluvium::types::Revision;
use alluvium::types::env::testing;
use alluvium::types::metrics::Metrics;
use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::proxy::HttpProxy;
use crate::tables::{dynamodb_settings, founded, server};
use crate::world::fill;

/// Dollars for one request.
const PUT: f64 = 5.0e-6;
const GET: f64 = 0.4e-6;
const READ_UNIT: f64 = 0.125e-6;
const MINUTES_A_MONTH: f64 = 365.25 * 24.0 * 60.0 / 12.0;
const MOST: f64 = 5.0;

/// Simulated time that is counted.
const MINUTES: f64 = 60.0;

fn calls(from: &StoreSnapshot, to: &StoreSnapshot) -> [f64; 4] {
    let calls = |at: usize| (to.operations[at].calls - from.operations[at].calls) as f64;
    [calls(0), calls(1), calls(2), calls(3) + calls(4)]
}

/// Creates, reads, deletes and lists a minute of the first of some brokers that nobody talks to, their table in the bucket. They may
/// reach each other.
async fn idle_broker(brokers: u16, connected: bool) -> [f64; 4] {
    let (network, bucket) = (Network::default(), Arc::new(MemoryStore::shared()));
    let shutdown = CancellationToken::new();
    let (mut stats, mut running) = (Vec::new(), Vec::new());
    for number in 1..=brokers {
        let env = testing::env(u64::from(number));
        let store = Arc::new(MeasuredStore::new(bucket.clone(), env.clock.clone()));
        stats.push(store.stats());
        let ports = Ports {
            store,
            env,
            listener: network.listen("broker", number),
            dial: Arc::new(if connected { network.clone() } else { Network::default() }),
            advertised: ("broker".to_owned(), number),
            metrics: Metrics::new(),
            readiness: watch::Sender::new(Readiness::NotReady("starting".to_owned())),
        };
        running.push(tokio::spawn(run_on(ports, Settings::default(), shutdown.clone(), |_| {})));
    }
    tokio::time::sleep(Duration::from_secs(300)).await;
    let before = stats[0].snapshot();
    tokio::time::sleep(Duration::from_secs_f64(MINUTES * 60.0)).await;
    let after = stats[0].snapshot();
    shutdown.cancel();
    for running in running {
        running.await.expect("ends").expect("ends well");
    }
    calls(&before, &after).map(|count| count / MINUTES)
}

#[derive(Default)]
struct Counts {
    appends: AtomicU64,
    reads: AtomicU64,
    others: AtomicU64,
}

struct Counted {
    inner: TableRef,
    counts: Arc<Counts>,
}

#[async_trait]
impl Table for Counted {
    fn name(&self) -> &str {
        self.inner.name()
    }

    async fn append(&self, revision: Revision, body: Bytes) -> Result<Append, TableError> {
        self.counts.appends.fetch_add(1, Ordering::Relaxed);
        self.inner.append(revision, body).await
    }

    async fn read(&self, from: Revision, limit: usize) -> Result<Chunk, TableError> {
        self.counts.reads.fetch_add(1, Ordering::Relaxed);
        self.inner.read(from, limit).await
    }

    async fn at_or_after(&self, from: Revision) -> Result<Option<Revision>, TableError> {
        self.counts.others.fetch_add(1, Ordering::Relaxed);
        self.inner.at_or_after(from).await
    }

    async fn delete_through(&self, last: Revision) -> Result<(), TableError> {
        self.counts.others.fetch_add(1, Ordering::Relaxed);
        self.inner.delete_through(last).await
    }
}

/// Reads a minute of the table, and objects a minute, of metadata that is only followed, its table elsewhere.
async fn idle_metadata(told: bool) -> (f64, f64) {
    let env = testing::env(2);
    let store = Arc::new(MeasuredStore::new(Arc::new(MemoryStore::shared()), env.clock.clone()));
    let (stats, counts) = (store.stats(), Arc::new(Counts::default()));
    let table = Arc::new(Counted { inner: Arc::new(MemoryTable::new()), counts: counts.clone() });
    let metadata = Metadata::open(store, table, env, MetaOptions::default()).await.expect("opens");
    fill(&metadata, 3).await;
    metadata.told_by_all(told);
    let poller = metadata.spawn_poller(Duration::from_secs(2));
    tokio::time::sleep(Duration::from_secs(300)).await;
    let reads = || counts.reads.load(Ordering::Relaxed);
    let (before, reads_before) = (stats.snapshot(), reads());
    tokio::time::sleep(Duration::from_secs_f64(MINUTES * 60.0)).await;
    let [creates, gets, deletes, lists] = calls(&before, &stats.snapshot());
    assert_eq!((creates, deletes, lists), (0.0, 0.0, 0.0));
    assert_eq!((counts.appends.load(Ordering::Relaxed), counts.others.load(Ordering::Relaxed)), (3, 0));
    poller.abort();
    ((reads() - reads_before) as f64 / MINUTES, gets / MINUTES)
}

#[tokio::test(start_paused = true)]
async fn an_idle_broker_costs_less_than_five_dollars_a_month() {
    // (brokers, whether they reach each other, polls a minute, looks at the other's segments a minute)
    for (brokers, connected, polls, most_looks) in
        [(1, true, 6.0..=8.0, 0.0), (2, true, 6.0..=8.0, 3.0), (2, false, 28.0..=35.0, 90.0)]
    {
        let [puts, gets, deletes, lists] = idle_broker(brokers, connected).await;
        let (found, markers) = idle_metadata(connected).await;
        println!(
            "{brokers}, connected: {connected}; idle, a minute: {puts:.1} PUT, {gets:.1} GET, {deletes:.1} DELETE, {lists:.1} LIST; \
             {found:.1} polls, {markers:.1} looks for the marker"
        );
        assert!((17.0..=20.0).contains(&puts), "idle segments: {puts}");
        assert!(polls.contains(&found) && (0.1..=1.5).contains(&markers), "{found} {markers}");
        let looks = gets - found - markers;
        assert!(looks > -1.0 && looks <= most_looks + 1.0, "{looks} looks at other sessions");
        let segments = (puts + lists) * PUT;
        for (backend, a_minute) in [
            ("bucket", segments + gets * GET),
            ("dynamodb", segments + (gets - found) * GET + found * READ_UNIT),
            ("postgres", segments + (gets - found) * GET),
        ] {
            let dollars = a_minute * MINUTES_A_MONTH;
            println!("{backend}: {dollars:.2} $ a month");
            assert!(dollars < MOST || !connected, "{backend}: {dollars}");
        }
    }
}

/// A poll of DynamoDB is one request, and so is an append.
#[tokio::test]
async fn a_call_is_one_request() {
    let Some(endpoint) = server("ALLUVIUM_TEST_DYNAMODB") else { return };
    let proxy = HttpProxy::to(&endpoint).await;
    let place = founded("DynamoDB", dynamodb_settings(&proxy.url())).await;
    let before = proxy.seen().len();
    place.table.append(1, Bytes::from_static(b"{}")).await.expect("appends");
    for _ in 0..5 {
        place.table.read(2, 1024).await.expect("reads");
    }
    let seen: Vec<String> = proxy.seen()[before..].iter().map(|(operation, _)| operation.clone()).collect();
    assert_eq!(seen, ["PutItem", "Query", "Query", "Query", "Query", "Query"]);
}
