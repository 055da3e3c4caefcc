//! What every backend of the table must do, bare and behind a network that loses answers.

use std::sync::Arc;
use std::time::Duration;

use alluvium::meta::table::bucket::BucketTable;
use alluvium::meta::table::faults::{AppendFault, FaultyTable};
use alluvium::meta::table::{Append, Chunk, Table, TableError, TableRef};
use alluvium::meta::truncate::closed_key;
use alluvium::meta::{MetaOptions, backends};
use alluvium::store::ReadRange;
use alluvium::store::fault::{Answer, Call, Fault, FaultRates, FaultStore};
use alluvium::store::memory::MemoryStore;
use alluvium::types::Revision;
use alluvium::types::env::testing::SeededEntropy;
use alluvium::types::env::{Entropy, Env};
use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;

use crate::tables::{Place, places};
use crate::world::{create, eventually, fill};

fn body(n: u64) -> Bytes {
    Bytes::from(format!("{{\"n\":{n}}}"))
}

async fn append_all(table: &TableRef, revisions: impl Iterator<Item = Revision>) {
    let appends = revisions.map(|n| async move { table.append(n, body(n)).await });
    let results: Vec<_> = futures::stream::iter(appends).buffer_unordered(16).collect().await;
    assert!(results.iter().all(|result| *result == Ok(Append::Appended)), "{results:?}");
}

async fn read_all(table: &TableRef, from: Revision) -> Vec<Bytes> {
    let mut bodies = Vec::new();
    loop {
        let chunk = table.read(from + bodies.len() as u64, 1000).await.unwrap();
        bodies.extend(chunk.bodies);
        if chunk.end {
            return bodies;
        }
    }
}

#[tokio::test]
async fn a_revision_is_given_once() {
    for Place { table, .. } in places().await {
        assert_eq!(table.append(1, body(1)).await, Ok(Append::Appended));
        assert_eq!(table.append(1, body(2)).await, Ok(Append::Taken));
        assert_eq!(table.append(1, body(1)).await, Ok(Append::Taken), "also with the same bytes");
        assert_eq!(table.read(1, 9).await.unwrap().bodies, [body(1)]);
    }
}

#[tokio::test]
async fn reads_are_contiguous_and_say_where_the_end_is() {
    for Place { table, name, .. } in places().await {
        let empty = table.read(1, 10).await.unwrap();
        assert!(empty.bodies.is_empty() && empty.end, "{name}");
        assert_eq!(table.first().await, Ok(None));
        append_all(&table, (1..=150).chain(152..=160)).await;
        let up_to = |last: u64, from: u64| (from..=last).map(body).collect::<Vec<_>>();
        let all = table.read(1, 1000).await.unwrap();
        assert_eq!((all.bodies, all.end), (up_to(150, 1), true), "not beyond the gap");
        assert!(!table.read(152, 1000).await.unwrap().gap);
        let notices = table.name() != "bucket";
        let some = table.read(20, 7).await.unwrap();
        assert_eq!((some.bodies, some.end), (up_to(26, 20), false));
        assert_eq!(table.read(152, 1000).await.unwrap().bodies, up_to(160, 152));
        let nothing = table.read(151, 10).await.unwrap();
        assert!(nothing.bodies.is_empty() && nothing.end);
        assert_eq!((all.gap, nothing.gap), (notices, notices), "{name}");
        assert_eq!(table.first().await, Ok(Some(1)));
        for (from, found) in [(1, Some(1)), (150, Some(150)), (151, Some(152)), (160, Some(160)), (161, None)] {
            assert_eq!(table.at_or_after(from).await, Ok(found), "{name} {from}");
        }
    }
}

/// Entries of the largest size: more than fit into one answer of some backends.
#[tokio::test]
async fn large_entries_come_in_pieces() {
    for Place { table, name, .. } in places().await {
        let large = |n: u64| Bytes::from(format!("{{\"n\":{n},\"text\":\"{}\"}}", "ü".repeat(128 * 1024 - 100)));
        for n in 1..=12 {
            assert_eq!(table.append(n, large(n)).await, Ok(Append::Appended), "{name}");
        }
        let bodies = read_all(&table, 1).await;
        assert_eq!(bodies.len(), 12, "{name}");
        assert!((1..).zip(&bodies).all(|(n, body)| *body == large(n)), "{name}");
    }
}

#[tokio::test]
async fn deletes_all_up_to_a_revision_and_nothing_else() {
    for Place { table, name, .. } in places().await {
        // More than a page of names or rows, but where a request takes long.
        let last = if matches!(name, "LocalStack" | "local") { 120 } else { 1100 };
        append_all(&table, 1..=last).await;
        for _ in 0..2 {
            table.delete_through(last - 50).await.unwrap();
            assert_eq!(table.first().await, Ok(Some(last - 49)), "{name}");
        }
        assert_eq!(read_all(&table, last - 49).await.len(), 50);
        table.delete_through(9999).await.unwrap();
        assert_eq!(table.first().await, Ok(None));
        assert_eq!(table.append(5, body(6)).await, Ok(Append::Appended), "a deleted revision is free again");
    }
}

#[tokio::test]
async fn many_appenders_one_winner() {
    for Place { table, name, .. } in places().await {
        for revision in 1..=20 {
            let attempts = (0..8).map(|n| {
                let table = table.clone();
                tokio::spawn(async move { table.append(revision, body(n)).await })
            });
            let mut winners = 0;
            for attempt in attempts.collect::<Vec<_>>() {
                match attempt.await.unwrap() {
                    Ok(Append::Appended) => winners += 1,
                    answer => assert_eq!(answer, Ok(Append::Taken), "{name}"),
                }
            }
            assert_eq!(winners, 1, "{name}");
        }
    }
}

#[tokio::test]
async fn faults_are_what_they_say() {
    for place in places().await {
        let table = FaultyTable::new(place.table);
        use AppendFault::{Delay, Deny, Duplicate, LoseAnswer, LoseRequest};
        table.script([LoseRequest, LoseAnswer, Duplicate, Delay, Deny]);
        assert!(matches!(table.append(1, body(1)).await, Ok(Append::Unknown { .. })));
        assert!(table.read(1, 1).await.unwrap().bodies.is_empty());
        assert!(matches!(table.append(1, body(1)).await, Ok(Append::Unknown { .. })));
        assert_eq!(table.read(1, 1).await.unwrap().bodies, [body(1)]);
        assert_eq!(table.append(2, body(2)).await, Ok(Append::Taken));
        assert!(matches!(table.append(3, body(3)).await, Ok(Append::Unknown { .. })));
        assert!(matches!(table.append(4, body(4)).await, Err(TableError::Permanent(_))));
        assert_eq!(table.read(1, 9).await.unwrap().bodies, [body(1), body(2)]);
        table.land().await;
        assert_eq!(table.read(1, 9).await.unwrap().bodies, [body(1), body(2), body(3)]);
    }
}

#[tokio::test]
async fn a_store_is_believed_only_when_it_is_plain() {
    let memory = Arc::new(MemoryStore::shared());
    let store = FaultStore::new(memory, Arc::new(SeededEntropy::new(1)), FaultRates::default());
    let table = BucketTable::new(store.clone());
    for answer in [Answer::Busy, Answer::Maybe] {
        store.script(Call::Create, "meta/log/", [Fault::Refused(answer)]);
        assert!(matches!(table.append(1, body(1)).await, Ok(Append::Unknown { .. })), "{answer:?}");
    }
    store.script(Call::Create, "meta/log/", [Fault::LostAnswer(Answer::Taken)]);
    assert_eq!(table.append(1, body(1)).await, Ok(Append::Taken), "its own, and it can't know");
    store.script(Call::Create, "meta/log/", [Fault::Refused(Answer::Denied)]);
    assert!(matches!(table.append(2, body(2)).await, Err(TableError::Permanent(_))));
    store.script(Call::Read, "meta/log/", [Fault::Refused(Answer::Maybe)]);
    assert!(matches!(table.read(1, 1).await, Err(TableError::Unavailable(_))), "never 'nothing there'");
    store.script(Call::Read, "meta/log/", [Fault::Truncated]);
    assert!(matches!(table.read(1, 1).await, Err(TableError::Unavailable(_))), "half a body is none");
    for n in 2..=5 {
        table.append(n, body(n)).await.unwrap();
    }
    store.script(Call::Read, "00004", [Fault::Refused(Answer::Maybe)]);
    let part = table.read(1, 9).await.unwrap();
    assert_eq!((part.bodies.len(), part.end), (3, false), "a failure costs only what follows it");
}

/// Half of the reads show what was true a while ago: nothing yet of what follows.
struct Stale {
    inner: TableRef,
    dice: SeededEntropy,
}

#[async_trait]
impl Table for Stale {
    fn name(&self) -> &str {
        self.inner.name()
    }

    async fn append(&self, revision: Revision, body: Bytes) -> Result<Append, TableError> {
        self.inner.append(revision, body).await
    }

    async fn read(&self, from: Revision, limit: usize) -> Result<Chunk, TableError> {
        if self.dice.next_u64().is_multiple_of(2) {
            Ok(Chunk { end: true, ..Chunk::default() })
        } else {
            self.inner.read(from, limit).await
        }
    }

    async fn at_or_after(&self, from: Revision) -> Result<Option<Revision>, TableError> {
        self.inner.at_or_after(from).await
    }

    async fn delete_through(&self, last: Revision) -> Result<(), TableError> {
        self.inner.delete_through(last).await
    }
}

/// Brokers that race, one behind a network that loses and repeats, one whose reads are stale: each change happens once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn racing_brokers_agree_whatever_the_network_does() {
    use AppendFault::{Delay, Duplicate, LoseAnswer, LoseRequest};
    let options = MetaOptions::default();
    for place in places().await {
        let faulty = Arc::new(FaultyTable::new(place.table.clone()));
        let stale = Arc::new(Stale { inner: place.table.clone(), dice: SeededEntropy::new(7) });
        let plain = place.broker(&options).await;
        let lossy = place.broker_on(faulty.clone(), &options).await.expect("opens");
        let behind = place.broker_on(stale, &options).await.expect("opens");
        faulty.script([LoseAnswer, Duplicate, LoseRequest, LoseAnswer, Delay, LoseRequest, Duplicate, LoseAnswer]);
        let brokers = [plain.clone(), lossy, behind];
        let proposals = (0..24u128).map(|n| {
            let broker = brokers[n as usize % 3].clone();
            async move {
                tokio::time::sleep(Duration::from_millis(n as u64 * 4)).await;
                broker.propose(create(n + 1, &format!("t{n}"))).await
            }
        });
        let mut revisions = Vec::new();
        for result in futures::future::join_all(proposals).await {
            revisions.push(result.expect("creates"));
        }
        faulty.land().await;
        plain.catch_up().await.expect("reads");
        let image = plain.read(Clone::clone);
        assert_eq!(image.topics.len(), 24, "{}", place.name);
        assert!(revisions.iter().all(|revision| *revision <= image.revision), "{}", place.name);
        for broker in brokers {
            eventually("all see the same", async || {
                broker.catch_up().await.expect("reads");
                broker.read(|theirs| theirs.revision) == image.revision
            })
            .await;
            assert_eq!(broker.read(Clone::clone), image, "{}", place.name);
        }
    }
}

/// Old revisions go, markers stay, and what lands late at a name that came free again is believed by nobody.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn truncation_is_marked_in_the_bucket_on_every_table() {
    let options = MetaOptions { generation: 10, snapshot_every: 10, ..MetaOptions::default() };
    for place in places().await {
        let sleeper = place.broker(&options).await;
        fill(&sleeper, 3).await;
        let broker = place.broker(&options).await;
        fill(&broker, 30).await;
        // A snapshot is skipped while another one is being written.
        eventually("two generations go", async || {
            fill(&broker, 1).await;
            place.table.first().await.unwrap().is_some_and(|first| first > 20)
        })
        .await;
        for generation in [0, 1] {
            let marker = place.store.read(&closed_key(generation), ReadRange::Full).await;
            assert!(marker.is_ok(), "{} {generation}: {marker:?}", place.name);
        }
        let image = broker.read(Clone::clone);
        assert_eq!(place.table.append(4, body(4)).await, Ok(Append::Appended), "the name is free again");
        // At once, or, when a last deletion takes the late one away again, with its next look for the marker.
        eventually("the sleeper loads the snapshot", async || {
            sleeper.catch_up().await.expect("reads");
            sleeper.read(|theirs| theirs.revision) == image.revision
        })
        .await;
        assert_eq!(sleeper.read(Clone::clone), image, "{}", place.name);
        drop((sleeper, broker));
        assert_eq!(place.broker(&options).await.read(Clone::clone), image, "{}", place.name);
    }
}

/// In real time, on real threads: what was proposed is there after a restart, past snapshots and truncation.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_survives_a_restart_on_every_table() {
    let options = MetaOptions { generation: 10, snapshot_every: 10, ..MetaOptions::default() };
    for place in places().await {
        let before = place.broker(&options).await;
        let proposals = (0..60u128).map(|n| {
            let before = before.clone();
            async move {
                tokio::time::sleep(Duration::from_millis(n as u64 * 3)).await;
                before.propose(create(n + 1, &format!("t{n}"))).await
            }
        });
        for result in futures::future::join_all(proposals).await {
            result.expect("creates");
        }
        let (image, cluster_id) = (before.read(Clone::clone), before.cluster_id().to_owned());
        drop(before);
        let table = match place.name {
            "memory" => place.table.clone(),
            _ => backends::open(&place.store, &Env::system(), &place.settings).await.expect("opens again"),
        };
        let after = place.broker_on(table, &options).await.expect("opens again");
        assert_eq!(after.read(Clone::clone), image, "{}", place.name);
        assert_eq!(after.cluster_id(), cluster_id);
        assert_eq!(after.propose(create(99, "next")).await.expect("creates"), image.revision + 1);
    }
}
