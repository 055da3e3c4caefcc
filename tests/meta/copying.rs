//! Moving a table, and looking at one: what a crash at each step leaves, who may not go on, what an audit finds.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use alluvium::meta::audit::{Audit, audit, bounds};
use alluvium::meta::backends;
use alluvium::meta::copy::{Copied, copy, copy_between};
use alluvium::meta::table::bucket::{self, BucketTable};
use alluvium::meta::table::memory::MemoryTable;
use alluvium::meta::table::{Append, Chunk, Table, TableError, TableRef};
use alluvium::meta::{MetaError, MetaOptions, Metadata, cluster, snapshot};
use alluvium::segment::{Fence, segment_key};
use alluvium::store::fault::{Answer, Call, Fault};
use alluvium::store::{Store, StoreRef};
use alluvium::types::Revision;
use alluvium::types::env::{Env, testing};
use async_trait::async_trait;
use bytes::Bytes;

use crate::tables::{bucket as bucket_place, dynamodb, postgres};
use crate::world::{World, always, create, eventually, fill, open_session, session, ttl};

/// Copies from the bucket to the table.
async fn copy_to(world: &World, target: TableRef) -> Result<Copied, MetaError> {
    let source: TableRef = Arc::new(BucketTable::new(world.store.clone()));
    let store: StoreRef = world.store.clone();
    copy_between(&store, &testing::env(50), source, target, &world.options).await
}

/// A bucket with some history, over several generations.
async fn begun() -> World {
    let world = World::small();
    let broker = world.broker(1).await;
    fill(&broker, 25).await;
    broker.propose(create(1, "t")).await.expect("creates");
    eventually("two snapshots", async || world.keys(snapshot::PREFIX).await.len() == 2).await;
    eventually("a generation goes", async || bounds(&table(&world)).await.unwrap().unwrap().0 > 20).await;
    world
}

fn table(world: &World) -> TableRef {
    Arc::new(BucketTable::new(world.store.clone()))
}

async fn audited(world: &World, table: TableRef) -> Audit {
    let store: StoreRef = world.store.clone();
    let stored = store.read(cluster::KEY, alluvium::store::ReadRange::Full).await.unwrap().bytes;
    let mut found = cluster::decode(&stored).unwrap();
    found.table = table.name().to_owned();
    let place = cluster::Place { moves: 0, table: found.table.clone(), revision: u64::MAX };
    audit(&store, &testing::env(9), &table, (&found, &place), &world.options).await.expect("looks")
}

/// Brokers may start on exactly one of the two; returns which.
async fn valid(world: &World, memory: &TableRef) -> &'static str {
    let in_memory = world.open(70, memory.clone()).await;
    let in_bucket = world.open(71, table(world)).await;
    match (in_bucket, in_memory) {
        (Ok(_), Err(MetaError::WrongCluster(_))) => "bucket",
        (Err(MetaError::WrongCluster(_)), Ok(_)) => "memory",
        (bucket, memory) => panic!("bucket {:?}, memory {:?}", bucket.err(), memory.err()),
    }
}

#[tokio::test(start_paused = true)]
async fn a_table_moves_there_and_back() {
    let world = begun().await;
    let image = world.broker(2).await.read(Clone::clone);
    let memory = Arc::new(MemoryTable::new());
    let copied = copy_to(&world, memory.clone()).await.expect("copies");
    assert_eq!((copied.from.as_str(), copied.to.as_str(), copied.revision), ("bucket", "memory", 27));
    let target: TableRef = memory.clone();
    assert_eq!(valid(&world, &target).await, "memory");
    let broker = world.open(3, memory.clone()).await.expect("opens");
    assert_eq!(broker.read(|moved| moved.topics.clone()), image.topics);
    fill(&broker, 12).await;
    assert_eq!(broker.propose(create(2, "u")).await.expect("creates"), 40);
    drop(broker);
    assert!(audited(&world, memory.clone()).await.is_sound());
    let store: StoreRef = world.store.clone();
    let copied = copy_between(&store, &testing::env(4), memory.clone(), table(&world), &world.options).await;
    assert_eq!(copied.expect("copies back").revision, 41);
    assert_eq!(valid(&world, &target).await, "bucket");
    let broker = world.broker(5).await;
    assert_eq!(broker.read(|image| image.topics.len()), 2);
    assert_eq!(broker.propose(create(3, "v")).await.expect("creates"), 42);
    let again = copy_between(&store, &testing::env(4), table(&world), memory, &world.options).await;
    assert_eq!(again.expect("and there again").revision, 43);
}

/// Gives up for good after so many appends, and again at the look at its end; and tells how often it was asked.
struct Dies {
    inner: TableRef,
    left: AtomicUsize,
}

impl Dies {
    fn step(&self) -> Result<(), TableError> {
        let left = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        left.map(drop).map_err(|_| TableError::Permanent("the copier died".to_owned()))
    }
}

#[async_trait]
impl Table for Dies {
    fn name(&self) -> &str {
        self.inner.name()
    }

    async fn append(&self, revision: Revision, body: Bytes) -> Result<Append, TableError> {
        self.step()?;
        self.inner.append(revision, body).await
    }

    async fn read(&self, from: Revision, limit: usize) -> Result<Chunk, TableError> {
        self.step()?;
        self.inner.read(from, limit).await
    }

    async fn at_or_after(&self, from: Revision) -> Result<Option<Revision>, TableError> {
        self.step()?;
        self.inner.at_or_after(from).await
    }

    async fn delete_through(&self, last: Revision) -> Result<(), TableError> {
        self.inner.delete_through(last).await
    }
}

#[tokio::test(start_paused = true)]
async fn a_crash_at_any_step_leaves_one_valid_table() {
    let mut outcomes = Vec::new();
    for steps in 0..40 {
        let world = begun().await;
        let memory: TableRef = Arc::new(MemoryTable::new());
        // Every call of either table is a step at which the copier may die.
        let left = Arc::new(Dies { inner: memory.clone(), left: steps.into() });
        let copied = copy_to(&world, left).await;
        let died = copied.is_err();
        // Whether a broker starts in between or not, a copy that is begun again arrives.
        if steps % 2 == 0 {
            assert_eq!(valid(&world, &memory).await, if died { "bucket" } else { "memory" }, "after {steps} steps");
            if died {
                let broker = world.broker(6).await;
                fill(&broker, 2).await;
            }
        }
        if died {
            copy_to(&world, memory.clone()).await.unwrap_or_else(|error| panic!("after {steps} steps: {error}"));
        }
        assert_eq!(valid(&world, &memory).await, "memory", "after {steps} steps");
        let broker = world.open(7, memory).await.expect("opens");
        assert!(broker.read(|image| image.names.contains_key("t")));
        outcomes.push(died);
    }
    assert!(outcomes.contains(&true) && outcomes.contains(&false), "{outcomes:?}");
}

#[tokio::test(start_paused = true)]
async fn a_move_whose_answer_is_lost_is_a_move() {
    let world = begun().await;
    world.store.script(Call::Create, "meta/moved/", [Fault::LostAnswer(Answer::Maybe)]);
    world.table.script([]);
    let memory: TableRef = Arc::new(MemoryTable::new());
    copy_to(&world, memory.clone()).await.expect("copies");
    assert_eq!(valid(&world, &memory).await, "memory");
}

/// Opens a broker on the old table when the copier looks at the new one for the last time.
struct Interrupted {
    inner: TableRef,
    world: Arc<World>,
    started: parking_lot::Mutex<Option<Arc<Metadata>>>,
}

#[async_trait]
impl Table for Interrupted {
    fn name(&self) -> &str {
        self.inner.name()
    }

    async fn append(&self, revision: Revision, body: Bytes) -> Result<Append, TableError> {
        self.inner.append(revision, body).await
    }

    async fn read(&self, from: Revision, limit: usize) -> Result<Chunk, TableError> {
        self.inner.read(from, limit).await
    }

    async fn at_or_after(&self, from: Revision) -> Result<Option<Revision>, TableError> {
        let broker = self.world.broker(8).await;
        *self.started.lock() = Some(broker);
        self.inner.at_or_after(from).await
    }

    async fn delete_through(&self, last: Revision) -> Result<(), TableError> {
        self.inner.delete_through(last).await
    }
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_starts_in_the_middle_keeps_the_old_table() {
    let world = Arc::new(begun().await);
    let memory: TableRef = Arc::new(MemoryTable::new());
    let target =
        Arc::new(Interrupted { inner: memory.clone(), world: world.clone(), started: parking_lot::Mutex::default() });
    let error = copy_to(&world, target.clone()).await.expect_err("somebody was quicker");
    assert!(error.to_string().contains("a broker started"), "{error}");
    let broker = target.started.lock().take().expect("it started");
    assert_eq!(broker.propose(create(2, "u")).await.expect("goes on"), 28);
    assert_eq!(valid(&world, &memory).await, "bucket");
}

/// A broker that nobody saw, on the old table: it stops at the mark, and what it does afterwards is nowhere.
#[tokio::test(start_paused = true)]
async fn a_zombie_stops_at_the_mark() {
    let world = begun().await;
    let zombie = world.broker(10).await;
    let memory = Arc::new(MemoryTable::new());
    copy_to(&world, memory.clone()).await.expect("copies");
    let refused = zombie.propose(create(5, "late")).await;
    assert!(refused.is_err(), "{refused:?}");
    let stopped = tokio::time::timeout(Duration::from_secs(60), zombie.stopped()).await.expect("it stops");
    assert!(stopped.to_string().contains("moved to memory"), "{stopped}");
    let broker = world.open(11, memory).await.expect("opens");
    assert!(broker.read(|image| !image.names.contains_key("late")));
}

#[tokio::test(start_paused = true)]
async fn nothing_moves_under_a_living_broker() {
    let world = begun().await;
    let broker = world.broker(12).await;
    broker.propose(always(vec![ttl(2000)])).await.expect("sets");
    let revision = broker.propose(always(vec![open_session(4, 0xabc)])).await.expect("opens a session");
    drop(broker);
    let id = session(revision, 0xabc);
    let writer = tokio::spawn({
        let store = world.store.clone();
        async move {
            for number in 0.. {
                store.create(&segment_key(id, number), Bytes::from_static(b"segment")).await.expect("creates");
                tokio::time::sleep(Duration::from_millis(600)).await;
            }
        }
    });
    tokio::time::sleep(Duration::from_secs(1)).await;
    let memory: TableRef = Arc::new(MemoryTable::new());
    let error = copy_to(&world, memory.clone()).await.expect_err("somebody lives");
    assert!(error.to_string().contains("broker 4 is alive"), "{error}");
    assert_eq!(valid(&world, &memory).await, "bucket");
    // It is killed: after a ttl without a segment it counts as gone.
    writer.abort();
    copy_to(&world, memory.clone()).await.expect("copies");
    // It ends by a fence: then nothing is waited for.
    let fence = Fence { session: id, number: 90, nonce: 1, created_ms: 0, fencer: Some(id) };
    world.store.create(&segment_key(id, 90), fence.encode()).await.expect("fences");
    let begun = tokio::time::Instant::now();
    let store: StoreRef = world.store.clone();
    copy_between(&store, &testing::env(4), memory, table(&world), &world.options).await.expect("copies back");
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn another_history_is_not_overwritten() {
    let world = begun().await;
    let memory = Arc::new(MemoryTable::new());
    memory.damage(26, Bytes::from_static(b"{\"something\":\"else\"}"));
    let target: TableRef = memory;
    let error = copy_to(&world, target.clone()).await.expect_err("it differs");
    assert!(error.to_string().contains("another history"), "{error}");
    assert_eq!(valid(&world, &target).await, "bucket");
}

/// From the bucket to DynamoDB, to PostgreSQL and back, by the settings that a user gives.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_travels_over_all_backends() {
    let (Some(dynamodb), Some(postgres)) = (dynamodb().await, postgres().await) else { return };
    let place = bucket_place();
    let (env, options) = (Env::system(), MetaOptions { generation: 10, snapshot_every: 10, ..MetaOptions::default() });
    let broker = place.broker(&options).await;
    fill(&broker, 33).await;
    drop(broker);
    let stops = [&place.settings, &dynamodb.settings, &postgres.settings, &place.settings];
    for (n, way) in (0u128..).zip(stops.windows(2)) {
        copy(&place.store, &env, way[0], way[1], &options).await.unwrap_or_else(|error| panic!("{n}: {error}"));
        let table = backends::open(&place.store, &env, way[1]).await.expect("opens");
        let broker = place.broker_on(table, &options).await.expect("opens");
        broker.propose(create(n + 1, &format!("t{n}"))).await.expect("creates");
        fill(&broker, 9).await;
        drop(broker);
        let (cluster, place_now, table) = backends::find(&place.store, &env, way[1]).await.expect("finds");
        let found = audit(&place.store, &env, &table, (&cluster, &place_now), &options).await.expect("looks");
        assert_eq!(found.faults, [""; 0], "{}", found.table);
        assert_eq!((found.moves, found.last), (n as u64 + 1, 33 + 11 * (n as u64 + 1)));
        assert!(backends::find(&place.store, &env, way[0]).await.is_err(), "the old one is told so");
    }
}

#[tokio::test(start_paused = true)]
async fn an_audit_names_gaps_and_damage() {
    let world = begun().await;
    let sound = audited(&world, table(&world)).await;
    assert_eq!((sound.faults.clone(), sound.first, sound.last, sound.entries), (vec![], 21, 26, 6));
    assert_eq!((sound.snapshots, sound.closed_generations, sound.replayed_from), (vec![10, 20], vec![0, 1], 20));
    let read = world.memory.read(&bucket::key(25), alluvium::store::ReadRange::Full).await.unwrap().bytes;
    world
        .memory
        .overwrite(&bucket::key(25), Bytes::from(String::from_utf8(read.to_vec()).unwrap().replace("ttl", "tt1")));
    world.memory.delete(&bucket::key(23)).await.unwrap();
    let found = audited(&world, table(&world)).await;
    assert_eq!(found.faults.len(), 2, "{:?}", found.faults);
    assert_eq!(found.faults[0], "revisions 23 to 23 are not there, 24 is");
    assert!(found.faults[1].starts_with("revision 25: it is damaged"), "{:?}", found.faults);
    world.memory.delete(&snapshot::key(20)).await.unwrap();
    let found = audited(&world, table(&world)).await;
    assert!(found.faults.iter().any(|fault| fault.contains("no snapshot reaches beyond")), "{:?}", found.faults);
}
