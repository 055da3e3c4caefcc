//! How long a start takes where every answer takes long: it is a chain of round trips to the store, and they are counted here. Time is simulated.

use std::sync::Arc;
use std::time::Duration;

use alluvium::admin::Readiness;
use alluvium::broker::{Ports, run_on};
use alluvium::config::Settings;
use alluvium::meta::entry::Change;
use alluvium::meta::image::{Image, SessionState};
use alluvium::meta::table::bucket::BucketTable;
use alluvium::meta::{MetaOptions, Metadata, level};
use alluvium::server::memory::Network;
use alluvium::store::StoreRef;
use alluvium::store::distant::DistantStore;
use alluvium::store::memory::MemoryStore;
use alluvium::types::env::testing;
use alluvium::types::metrics::Metrics;
use alluvium::types::{FEATURE_LEVEL, TopicId};
use alluvium::wire::codec::Codec;
use bytes::Bytes;
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::client::Client;
use crate::harness::{create_topic, produce, timed_batch};

/// What a round trip to the store takes.
const TRIP: Duration = Duration::from_millis(350);

/// Of sessions that are not to end.
const LONG_TTL: Duration = Duration::from_secs(30);

/// The wall clock of [`testing::env`].
const NOW_MS: i64 = 1_700_000_000_000;

/// Starts a broker and waits until it serves.
async fn start(network: &Network, store: StoreRef, node_id: u16, ttl: Duration) {
    let settings = Settings {
        node_id: Some(i32::from(node_id)),
        session_ttl_ms: ttl.as_millis() as u64,
        flush_interval_ms: Some(1),
        // What is not merged makes a start long.
        merge_window_ms: 24 * 3_600_000,
        ..Settings::default()
    };
    let ports = Ports {
        store,
        env: testing::env(u64::from(node_id)),
        listener: network.listen("broker", node_id),
        dial: Arc::new(network.clone()),
        advertised: ("broker".to_owned(), node_id),
        metrics: Metrics::new(),
        readiness: watch::Sender::new(Readiness::NotReady("starting".to_owned())),
    };
    let (ready, is_ready) = oneshot::channel();
    let running = run_on(ports, settings, CancellationToken::new(), |_| {
        let _ = ready.send(());
    });
    let running = tokio::spawn(running);
    if is_ready.await.is_err() {
        panic!("broker {node_id} did not start: {:?}", running.await);
    }
}

/// Runs it in a simulated time of its own; what it leaves running then dies as a process does.
fn life<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime").block_on(work)
}

fn record() -> Bytes {
    timed_batch(Codec::None, &[NOW_MS])
}

/// Broker 1 makes so many topics and dies after so many segments that nobody merged.
fn first_life(store: StoreRef, topics: usize, segments: i64) {
    life(async {
        let network = Network::default();
        start(&network, store, 1, LONG_TTL).await;
        let mut client = Client::new(network.connect("broker", 1).await.expect("listens"));
        for number in 0..topics {
            assert_eq!(create_topic(&mut client, &format!("t{number}"), 1).await, 0);
        }
        for offset in 0..segments {
            assert_eq!(produce(&mut client, "t0", record()).await, (0, offset));
        }
    });
}

fn trips(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() / TRIP.as_secs_f64()
}

/// Round trips until the broker is ready, and until it has taken the next record of the partition.
fn comes_back(store: StoreRef, next_offset: i64) -> (f64, f64) {
    life(async {
        let network = Network::default();
        // Another broker is there, and near the store.
        start(&network, store.clone(), 2, LONG_TTL).await;
        let begun = Instant::now();
        start(&network, Arc::new(DistantStore::new(store, TRIP)), 1, LONG_TTL).await;
        let ready = trips(begun);
        let mut client = Client::new(network.connect("broker", 1).await.expect("listens"));
        let answer = produce(&mut client, "t0", record()).await;
        assert_eq!(answer, (0, next_offset), "its partitions are its own again");
        (ready, trips(begun))
    })
}

/// The chain of a start: whether the store passed its probe, and whether it still does (2); the cluster (1); the newest snapshot (1, for there
/// is none yet); revisions, 16 side by side, then 32, then 64 each time, and the look behind them; OpenSession and the look behind it (2); the predecessor's names, the
/// newest of its segments, the fence (3), and beside that segment 0; Ready and the look behind it (2).
#[test]
fn a_start_is_a_short_chain_of_round_trips() {
    // (topics, each a revision or two; segments that are not merged; trips until it is ready, until it has written)
    for (topics, segments, ready, written) in [(1, 1, 15.0, 19.0), (300, 450, 21.0, 28.0)] {
        let store: StoreRef = Arc::new(MemoryStore::shared());
        first_life(store.clone(), topics, segments);
        let found = comes_back(store, segments);
        println!("{topics} topics, {segments} segments: {found:?} round trips");
        assert!(found.0 <= ready && found.1 <= written, "{topics} topics, {segments} segments: {found:?} round trips");
    }
}

/// Others change the table all the time, and would close a session that is silent for a ttl. A start loses races to them, one after the other,
/// and takes longer than that.
#[test]
fn a_slow_start_among_the_busy_is_in_time_and_not_taken_for_dead() {
    const TTL: Duration = Duration::from_secs(3);
    const STARTS: u16 = 5;
    let store: StoreRef = Arc::new(MemoryStore::shared());
    let (mut slowest, mut closed) = (Duration::ZERO, 0);
    life(async {
        let network = Network::default();
        start(&network, store.clone(), 1, TTL).await;
        let table = Arc::new(BucketTable::new(store.clone()));
        let near = Metadata::open(store.clone(), table, testing::env(99), MetaOptions::default()).await.expect("opens");
        let busy = near.clone();
        tokio::spawn(async move {
            let entropy = testing::env(7).entropy;
            for number in 1u128.. {
                // A change a second.
                tokio::time::sleep(Duration::from_millis(entropy.next_u64() % 2000)).await;
                let topic = move |_: &Image| {
                    Ok::<_, std::convert::Infallible>(vec![Change::CreateTopic {
                        id: TopicId(number),
                        name: format!("t{number}"),
                        partitions: 1,
                        replication_factor: 1,
                        configs: Default::default(),
                        internal: false,
                    }])
                };
                busy.propose(topic).await.expect("changes");
            }
        });
        for node_id in 2..2 + STARTS {
            let begun = Instant::now();
            start(&network, Arc::new(DistantStore::new(store.clone(), TRIP)), node_id, TTL).await;
            slowest = slowest.max(begun.elapsed());
            near.catch_up().await.expect("reads");
            closed += near.read(|image| {
                let over = |state| matches!(state, SessionState::Fenced { .. });
                image
                    .sessions
                    .values()
                    .filter(|session| session.node_id == i32::from(node_id) && over(session.state))
                    .count()
            });
        }
    });
    println!("the slowest of {STARTS} starts took {slowest:?}");
    assert!(slowest > TTL, "{slowest:?}: the test is to be harder than that");
    assert!(slowest < Duration::from_secs(25), "{slowest:?}");
    assert_eq!(closed, 0, "sessions that were closed before they served");
}

/// A start that fails behind `OpenSession` leaves a session, and a supervisor tries again all the time. What closes thousands of them
/// is longer than an entry may be.
#[test]
fn a_node_whose_starts_failed_for_days_starts_in_the_end() {
    const FAILED: u64 = 4000;
    let store: StoreRef = Arc::new(MemoryStore::shared());
    let table = || Arc::new(BucketTable::new(store.clone()));
    life(async {
        start(&Network::default(), store.clone(), 1, LONG_TTL).await;
        let near =
            Metadata::open(store.clone(), table(), testing::env(99), MetaOptions::default()).await.expect("opens");
        for number in 0..FAILED {
            let open = move |_: &Image| {
                let (random, endpoints) = (format!("{number:016x}"), vec![level::endpoint(FEATURE_LEVEL)]);
                Ok::<_, std::convert::Infallible>(vec![Change::OpenSession {
                    node_id: 1,
                    random,
                    endpoints,
                    rack: None,
                }])
            };
            near.propose(open).await.expect("opens a session");
        }
    });
    life(async {
        start(&Network::default(), store.clone(), 1, LONG_TTL).await;
        let near =
            Metadata::open(store.clone(), table(), testing::env(99), MetaOptions::default()).await.expect("opens");
        let (open, ready) = near.read(|image| (image.open_sessions().count(), image.ready_sessions().count()));
        assert_eq!((open, ready), (1, 1), "all before it are closed");
    });
}
