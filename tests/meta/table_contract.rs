//! What every backend of the table must do, on memory and on a bucket, bare and behind a network that loses answers.

use std::sync::Arc;
use std::time::Duration;

use alluvium::meta::table::bucket::BucketTable;
use alluvium::meta::table::faults::{AppendFault, FaultyTable};
use alluvium::meta::table::memory::MemoryTable;
use alluvium::meta::table::{Append, Table, TableError, TableRef};
use alluvium::meta::{MetaOptions, Metadata};
use alluvium::store::fault::{Answer, Call, Fault, FaultRates, FaultStore};
use alluvium::store::memory::MemoryStore;
use alluvium::types::env::Env;
use alluvium::types::env::testing::SeededEntropy;
use bytes::Bytes;

use crate::backends;
use crate::world::create;

fn body(n: u64) -> Bytes {
    Bytes::from(format!("{{\"n\":{n}}}"))
}

/// The tables, each with what must live as long. Which servers are asked for, `tests/store_contract/backends.rs` says.
fn tables() -> Vec<(TableRef, Option<backends::Backend>)> {
    let mut tables: Vec<(TableRef, Option<backends::Backend>)> = vec![(Arc::new(MemoryTable::new()), None)];
    for backend in
        [backends::memory(), backends::local(), backends::minio(), backends::localstack()].into_iter().flatten()
    {
        eprintln!("on {}", backend.name);
        tables.push((Arc::new(BucketTable::new(backend.store.clone())), Some(backend)));
    }
    tables
}

#[tokio::test]
async fn a_revision_is_given_once() {
    for (table, _backend) in tables() {
        assert_eq!(table.append(1, body(1)).await, Ok(Append::Appended));
        assert_eq!(table.append(1, body(2)).await, Ok(Append::Taken));
        assert_eq!(table.append(1, body(1)).await, Ok(Append::Taken), "also with the same bytes");
        assert_eq!(table.read(1, 9).await.unwrap().bodies, [body(1)]);
    }
}

#[tokio::test]
async fn reads_are_contiguous_and_say_where_the_end_is() {
    for (table, _backend) in tables() {
        let empty = table.read(1, 10).await.unwrap();
        assert!(empty.bodies.is_empty() && empty.end);
        assert_eq!(table.first().await, Ok(None));
        for n in (1..=150).chain(152..=160) {
            table.append(n, body(n)).await.unwrap();
        }
        let up_to = |last: u64, from: u64| (from..=last).map(body).collect::<Vec<_>>();
        let all = table.read(1, 1000).await.unwrap();
        assert_eq!((all.bodies, all.end), (up_to(150, 1), true), "not beyond the gap");
        let some = table.read(20, 7).await.unwrap();
        assert_eq!((some.bodies, some.end), (up_to(26, 20), false));
        assert_eq!(table.read(152, 1000).await.unwrap().bodies, up_to(160, 152));
        let nothing = table.read(151, 10).await.unwrap();
        assert!(nothing.bodies.is_empty() && nothing.end);
        assert_eq!(table.first().await, Ok(Some(1)));
    }
}

#[tokio::test]
async fn deletes_all_up_to_a_revision_and_nothing_else() {
    for (table, _backend) in tables() {
        for n in 1..=1100 {
            table.append(n, body(n)).await.unwrap();
        }
        for _ in 0..2 {
            table.delete_through(1050).await.unwrap();
            assert_eq!(table.first().await, Ok(Some(1051)));
        }
        assert_eq!(table.read(1051, 1000).await.unwrap().bodies.len(), 50);
        table.delete_through(9999).await.unwrap();
        assert_eq!(table.first().await, Ok(None));
        assert_eq!(table.append(5, body(6)).await, Ok(Append::Appended), "a deleted revision is free again");
    }
}

#[tokio::test]
async fn many_appenders_one_winner() {
    for (table, _backend) in tables() {
        for revision in 1..=20 {
            let attempts = (0..8).map(|n| {
                let table = table.clone();
                tokio::spawn(async move { table.append(revision, body(n)).await })
            });
            let mut winners = 0;
            for attempt in attempts.collect::<Vec<_>>() {
                match attempt.await.unwrap() {
                    Ok(Append::Appended) => winners += 1,
                    answer => assert_eq!(answer, Ok(Append::Taken)),
                }
            }
            assert_eq!(winners, 1);
        }
    }
}

#[tokio::test]
async fn faults_are_what_they_say() {
    for (inner, _backend) in tables() {
        let table = FaultyTable::new(inner);
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

/// In real time, on real threads: what was proposed is there after a restart, past snapshots and truncation.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_survives_a_restart_on_every_store() {
    let options = MetaOptions { generation: 10, snapshot_every: 10, ..MetaOptions::default() };
    for backend in
        [backends::memory(), backends::local(), backends::minio(), backends::localstack()].into_iter().flatten()
    {
        let table = || Arc::new(BucketTable::new(backend.store.clone()));
        let open = || Metadata::open(backend.store.clone(), table(), Env::system(), options.clone());
        let before = open().await.expect("opens");
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
        let after = open().await.expect("opens again");
        assert_eq!(after.read(Clone::clone), image, "{}", backend.name);
        assert_eq!(after.cluster_id(), cluster_id);
        assert_eq!(after.propose(create(99, "next")).await.expect("creates"), image.revision + 1);
    }
}
