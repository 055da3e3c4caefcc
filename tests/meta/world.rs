//! What the tests of this folder share: a bucket, its table with faults, brokers on it, and short ways to write changes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use alluvium::meta::entry::Change;
use alluvium::meta::image::Image;
use alluvium::meta::table::TableRef;
use alluvium::meta::table::bucket::BucketTable;
use alluvium::meta::table::faults::FaultyTable;
use alluvium::meta::{MetaError, MetaOptions, Metadata, level};
use alluvium::store::StoreRef;
use alluvium::store::fault::{FaultRates, FaultStore};
use alluvium::store::memory::MemoryStore;
use alluvium::types::env::testing;
use alluvium::types::{FEATURE_LEVEL, Revision, SessionId, TopicId};

pub struct World {
    pub memory: Arc<MemoryStore>,
    /// Faults of single objects.
    pub store: Arc<FaultStore>,
    /// Faults of appends.
    pub table: Arc<FaultyTable>,
    pub options: MetaOptions,
}

impl World {
    pub fn new() -> World {
        let memory = Arc::new(MemoryStore::shared());
        let entropy = Arc::new(testing::SeededEntropy::new(99));
        let store = FaultStore::new(memory.clone(), entropy, FaultRates::default());
        let table = Arc::new(FaultyTable::new(Arc::new(BucketTable::new(store.clone()))));
        World { memory, store, table, options: MetaOptions::default() }
    }

    /// Generations of 10, a snapshot at each of their ends.
    pub fn small() -> World {
        let options = MetaOptions { generation: 10, snapshot_every: 10, ..MetaOptions::default() };
        World { options, ..World::new() }
    }

    /// A broker whose appends go through the faulty table.
    pub async fn faulty_broker(&self, seed: u64) -> Arc<Metadata> {
        self.open(seed, self.table.clone()).await.expect("opens")
    }

    /// A broker with a table of its own on the same bucket.
    pub async fn broker(&self, seed: u64) -> Arc<Metadata> {
        self.open(seed, Arc::new(BucketTable::new(self.store.clone()))).await.expect("opens")
    }

    pub async fn open(&self, seed: u64, table: TableRef) -> Result<Arc<Metadata>, MetaError> {
        Metadata::open(self.store.clone(), table, testing::env(seed), self.options.clone()).await
    }

    pub async fn keys(&self, prefix: &str) -> Vec<String> {
        let store: StoreRef = self.memory.clone();
        let objects = store.list(prefix, None, usize::MAX).await.expect("memory lists");
        objects.into_iter().map(|object| object.key[prefix.len()..].to_owned()).collect()
    }
}

pub fn topic(id: u128, name: &str, partitions: i32) -> Change {
    Change::CreateTopic {
        id: TopicId(id),
        name: name.to_owned(),
        partitions,
        replication_factor: 1,
        configs: BTreeMap::new(),
        internal: false,
    }
}

pub fn ttl(session_ttl_ms: u64) -> Change {
    Change::SetCluster { session_ttl_ms }
}

pub fn open_session(node_id: i32, random: u64) -> Change {
    open_session_at(node_id, random, FEATURE_LEVEL)
}

/// Of a program that supports this level; 0: it is from before levels.
pub fn open_session_at(node_id: i32, random: u64, supported: u16) -> Change {
    let endpoints = if supported == 0 { Vec::new() } else { vec![level::endpoint(supported)] };
    Change::OpenSession { node_id, random: format!("{random:016x}"), endpoints, rack: None }
}

pub fn session(revision: Revision, random: u64) -> SessionId {
    SessionId { revision, random }
}

/// Why a test's `build` refuses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exists;

impl std::fmt::Display for Exists {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("it exists")
    }
}

/// A `build` that creates a topic of one partition unless the name is taken.
pub fn create(id: u128, name: &str) -> impl FnMut(&Image) -> Result<Vec<Change>, Exists> + Send + 'static + use<> {
    let name = name.to_owned();
    move |image| if image.names.contains_key(&name) { Err(Exists) } else { Ok(vec![topic(id, &name, 1)]) }
}

/// A `build` that always gives these changes.
pub fn always(changes: Vec<Change>) -> impl FnMut(&Image) -> Result<Vec<Change>, Exists> + Send + 'static {
    move |_| Ok(changes.clone())
}

/// Appends so many entries, each changing the session ttl.
pub async fn fill(metadata: &Metadata, count: u64) {
    for n in 0..count {
        metadata.propose(always(vec![ttl(1000 + n)])).await.expect("appends");
    }
}

/// Waits until the condition holds; fails after a simulated minute.
pub async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    for _ in 0..60_000 {
        if holds().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    panic!("not within a minute: {what}");
}
