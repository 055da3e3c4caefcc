//! What the metadata of a large cluster costs, counted by an allocator that counts: 100,000 partitions, each of which was handed over once.
//!
//! The limit is for everything that a broker has of it: the image, the second copy on which proposals are folded, and a snapshot that is
//! read at the start or written beside. Times are printed, not judged: a machine may be slow (`cargo test --release --test sizes --
//! --nocapture` for times that mean something).

use std::alloc::System;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

use alluvium::meta::entry::{Change, Entry, TransferredPartitions};
use alluvium::meta::image::Image;
use alluvium::meta::table::bucket::{self, BucketTable};
use alluvium::meta::{MetaOptions, Metadata, snapshot};
use alluvium::store::StoreRef;
use alluvium::store::memory::MemoryStore;
use alluvium::types::env::testing;
use alluvium::types::{SessionId, TopicId};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const TOPICS: u128 = 100;
const PARTITIONS: i32 = 1000;
const LIMIT: usize = 100 << 20;

fn live() -> usize {
    let stats = ALLOCATOR.stats();
    stats.bytes_allocated.saturating_sub(stats.bytes_deallocated)
}

/// Looks at what is allocated all the time, on a thread of its own.
struct Peak {
    highest: Arc<AtomicUsize>,
    over: Arc<AtomicBool>,
    looking: std::thread::JoinHandle<()>,
    before: usize,
}

impl Peak {
    fn watch() -> Peak {
        let (highest, over) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let (seen, end) = (highest.clone(), over.clone());
        let before = live();
        let looking = std::thread::spawn(move || {
            while !end.load(Ordering::Relaxed) {
                seen.fetch_max(live(), Ordering::Relaxed);
                std::thread::sleep(std::time::Duration::from_micros(200));
            }
        });
        Peak { highest, over, looking, before }
    }

    /// Bytes above what there was when the watch began.
    fn end(self) -> usize {
        self.highest.fetch_max(live(), Ordering::Relaxed);
        self.over.store(true, Ordering::Relaxed);
        self.looking.join().expect("it only looks");
        self.highest.load(Ordering::Relaxed).saturating_sub(self.before)
    }
}

/// Three brokers; every partition was the first one's neighbour's once.
fn image() -> Image {
    let mut image = Image::default();
    let mut apply = |changes: Vec<Change>| {
        let entry = Entry::new(image.revision + 1, u128::from(image.revision), changes);
        image.apply(&entry).expect("known");
        entry.revision
    };
    apply(vec![Change::SetCluster { session_ttl_ms: 10_000 }]);
    let mut sessions = Vec::new();
    for node_id in 1..=3 {
        let random = node_id as u64;
        let opened = apply(vec![Change::OpenSession {
            node_id,
            random: format!("{random:016x}"),
            endpoints: Vec::new(),
            rack: Some("eu-central-1a".to_owned()),
        }]);
        sessions.push(SessionId { revision: opened, random });
        apply(vec![Change::Ready { session: sessions[sessions.len() - 1] }]);
    }
    for topic in 0..TOPICS {
        apply(vec![Change::CreateTopic {
            id: TopicId(topic << 64 | 0xdead_beef),
            name: format!("a.topic.with.a.name.of.usual.length-{topic}"),
            partitions: PARTITIONS,
            replication_factor: 3,
            configs: BTreeMap::from([("retention.ms".to_owned(), "604800000".to_owned())]),
            internal: false,
        }]);
    }
    for (at, session) in sessions.iter().enumerate() {
        let held = image.held_by(*session).map(|(id, _)| id).collect::<Vec<_>>();
        let mut moved: BTreeMap<TopicId, Vec<i32>> = BTreeMap::new();
        held.iter().for_each(|id| moved.entry(id.topic).or_default().push(id.index));
        let partitions = moved.into_iter().map(|(topic, indexes)| TransferredPartitions { topic, indexes }).collect();
        let to = sessions[(at + 1) % sessions.len()];
        let change = Change::TransferLease { session: *session, to, through: 1_000_000, partitions };
        let entry = Entry::new(image.revision + 1, 7, vec![change]);
        image.apply(&entry).expect("known");
    }
    image
}

#[tokio::test]
async fn a_hundred_thousand_partitions_fit_into_a_hundred_mebibytes() {
    let began = Instant::now();
    let image = image();
    println!("made in {:?}", began.elapsed());
    let partitions = || image.topics.values().flat_map(|topic| &topic.partitions);
    assert_eq!(partitions().count(), 100_000);
    assert!(partitions().all(|partition| partition.tenures.len() >= 2), "each was handed over");

    let writing = Peak::watch();
    let began = Instant::now();
    let bytes = snapshot::encode(&image);
    println!("a snapshot of {:.1} MiB, encoded in {:?}", bytes.len() as f64 / f64::from(1 << 20), began.elapsed());
    let to_write = writing.end();

    let store: StoreRef = Arc::new(MemoryStore::shared());
    store.create(&snapshot::key(image.revision), bytes.clone()).await.expect("free");
    let last = Entry::new(image.revision, 1, vec![Change::Nop {}]);
    store.create(&bucket::key(last.revision), last.encode()).await.expect("free");
    drop(image);
    let loading = Peak::watch();
    let began = Instant::now();
    let table = Arc::new(BucketTable::new(store.clone()));
    let metadata = Metadata::open(store, table, testing::env(1), MetaOptions::default()).await.expect("loads");
    let took = began.elapsed();
    let held = live().saturating_sub(loading.before);
    let to_load = loading.end();
    assert_eq!(metadata.read(|image| image.topics.len()), 100);
    let mib = |bytes: usize| bytes as f64 / f64::from(1 << 20);
    println!("loaded in {took:?}: {:.1} MiB held, {:.1} at most meanwhile", mib(held), mib(to_load));
    println!("to write a snapshot takes {:.1} MiB more", mib(to_write));
    assert!(to_load + bytes.len() <= LIMIT, "to load takes {to_load} and the snapshot {}", bytes.len());
    assert!(held + to_write <= LIMIT, "{held} held, {to_write} more to write a snapshot");
    assert!(held > 20 << 20, "it was counted: {held}");
}
