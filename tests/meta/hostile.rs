//! Damaged and foreign objects: a precise error that names the object, and nothing skipped.

use std::sync::Arc;

use alluvium::meta::entry::{Entry, EntryError};
use alluvium::meta::table::bucket::{self, BucketTable};
use alluvium::meta::table::memory::MemoryTable;
use alluvium::meta::{MetaError, MetaOptions, ProposeError, cluster, snapshot};
use alluvium::store::Store;
use alluvium::store::fault::{Call, Fault};
use bytes::Bytes;

use crate::world::{World, always, create, eventually, fill, ttl};

/// Bodies that are not entry 2, with a part of what is said about them.
fn bad_entries() -> Vec<(Bytes, &'static str)> {
    let good = Entry::new(2, 5, vec![ttl(1000)]).encode();
    let mut flipped = good.to_vec();
    flipped[good.len() / 2] ^= 1;
    let text = String::from_utf8(good.to_vec()).unwrap();
    // With the right CRC, as a newer program would write it.
    let sealed = |content: &str| {
        let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, content.as_bytes());
        Bytes::from(format!("{content},\"crc32c\":\"{crc:08x}\"}}"))
    };
    vec![
        (Bytes::new(), "damaged"),
        (Bytes::from_static(b"{}"), "version"),
        (good.slice(..good.len() - 1), "damaged"),
        (Bytes::from(flipped), "CRC"),
        (Bytes::from(text.replace("1000", "1001")), "CRC"),
        (Bytes::from(text.replace("\"version\":1", "\"version\":3")), "version 3"),
        (Bytes::from(text.replace("\"version\":1", "\"version\":99999999999")), "version 99999999999"),
        (Entry::new(3, 5, vec![ttl(1)]).encode(), "revision 3"),
        (sealed(r#"{"version":1,"revision":2,"nonce":"0","changes":[{"type":"teleport"}]"#), "teleport"),
        (sealed(r#"{"version":1,"revision":2,"nonce":"0","changes":[{"type":"nop","extra":1}]"#), "extra"),
        (sealed(r#"{"version":1,"revision":2,"nonce":"0","changes":[],"more":1"#), "more"),
        (sealed(r#"{"version":1,"revision":2,"nonce":"0","changes":[{"type":"ready","session":"1-2"}]"#), "session id"),
        (Bytes::from("[".repeat(200_000)), "damaged"),
        (Bytes::from_static(&[0xff; 64]), "damaged"),
    ]
}

#[tokio::test(start_paused = true)]
async fn a_damaged_entry_stops_a_broker_by_name() {
    for (body, expected) in bad_entries() {
        let world = World::new();
        let (a, b) = (world.broker(1).await, world.broker(2).await);
        fill(&a, 1).await;
        b.catch_up().await.unwrap();
        world.memory.create(&bucket::key(2), body.clone()).await.unwrap();
        world.memory.create(&bucket::key(3), Entry::new(3, 1, vec![ttl(77)]).encode()).await.unwrap();

        let error = b.catch_up().await.unwrap_err();
        assert!(matches!(&error, MetaError::Unreadable { object, .. } if *object == bucket::key(2)), "{error}");
        assert!(error.to_string().contains(expected), "{error} does not say {expected:?}");
        assert_eq!(b.read(|image| image.revision), 1, "nothing is skipped");
        let reason = b.stopped().await;
        assert!(matches!(&reason, MetaError::Stopped(text) if text.contains(&bucket::key(2))), "{reason}");
        assert!(matches!(b.catch_up().await, Err(MetaError::Stopped(_))));
        assert!(matches!(b.propose(create(1, "a")).await, Err(ProposeError::Meta(MetaError::Stopped(_)))));
        // A proposer runs into it as well, and a fresh broker does not start.
        assert!(matches!(a.propose(always(vec![ttl(5)])).await, Err(ProposeError::Meta(MetaError::Unreadable { .. }))));
        let error = world.open(3, Arc::new(BucketTable::new(world.store.clone()))).await.err().unwrap();
        assert!(error.to_string().contains(&bucket::key(2)), "{error}");
    }
}

/// As after a failover to a standby that had not heard of all of it: who appends behind what is lost knew it, and nobody may give it anew.
#[tokio::test(start_paused = true)]
async fn a_table_that_lost_revisions_stops_brokers() {
    for lost in [vec![9], vec![5, 6, 7], vec![5]] {
        let world = World::new();
        let table = Arc::new(MemoryTable::default());
        let (a, b) = (world.open(1, table.clone()).await.unwrap(), world.open(2, table.clone()).await.unwrap());
        fill(&a, 4).await;
        b.catch_up().await.unwrap();
        fill(&a, 6).await;
        lost.iter().for_each(|revision| table.lose(*revision));
        let error = b.catch_up().await.unwrap_err();
        assert!(matches!(&error, MetaError::Unreadable { .. }), "{error}");
        assert!(error.to_string().contains(&format!("revision {}", lost[0])), "{error}");
        assert_eq!(b.read(|image| image.revision), 4, "nothing is skipped");
        b.stopped().await;
        let error = world.open(3, table).await.err().unwrap();
        assert!(error.to_string().contains("lost writes"), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_table_that_ends_before_a_snapshot_is_refused() {
    for (lost, good) in [(14..=14, true), (12..=14, true), (10..=14, false), (1..=14, false)] {
        let options = MetaOptions { generation: 100, snapshot_every: 10, ..MetaOptions::default() };
        let world = World { options, ..World::new() };
        let table = Arc::new(MemoryTable::default());
        let a = world.open(1, table.clone()).await.unwrap();
        fill(&a, 14).await;
        eventually("a snapshot", async || world.keys(snapshot::PREFIX).await.len() == 1).await;
        drop(a);
        lost.clone().for_each(|revision| table.lose(revision));
        match world.open(2, table).await {
            Ok(_) => assert!(good, "{lost:?} was lost"),
            Err(error) => assert!(!good && error.to_string().contains("lost writes"), "{lost:?}: {error}"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn damage_on_the_way_is_read_again() {
    let world = World::small();
    let (a, b) = (world.broker(1).await, world.broker(2).await);
    fill(&a, 3).await;
    world.store.script(Call::Read, &bucket::key(2), [Fault::Corrupt, Fault::Truncated, Fault::Corrupt]);
    assert_eq!(b.catch_up().await.unwrap(), 3);
    fill(&a, 10).await;
    eventually("a snapshot", async || world.keys(snapshot::PREFIX).await.len() == 1).await;
    world.store.script(Call::Read, snapshot::PREFIX, [Fault::Corrupt, Fault::Truncated]);
    world.store.script(Call::Read, cluster::KEY, [Fault::Corrupt, Fault::Truncated]);
    assert_eq!(world.broker(3).await.read(Clone::clone), a.read(Clone::clone));
}

#[tokio::test(start_paused = true)]
async fn a_damaged_snapshot_stops_the_start_by_name() {
    let world = World::small();
    let a = world.broker(1).await;
    fill(&a, 22).await;
    eventually("two snapshots", async || world.keys(snapshot::PREFIX).await.len() == 2).await;
    let good = snapshot::encode(&a.read(Clone::clone));
    assert_eq!(snapshot::decode(22, &good).unwrap(), a.read(Clone::clone));
    let image = snapshot::decode(22, &good).unwrap();
    let mut of_20 = image.clone();
    of_20.revision = 20;
    let good_20 = snapshot::encode(&of_20).to_vec();
    let mut flipped = good_20.clone();
    *flipped.last_mut().unwrap() ^= 2;
    let text = String::from_utf8(good_20.clone()).unwrap();
    for (body, expected) in [
        (Vec::new(), "no head"),
        (good_20[..good_20.len() - 5].to_vec(), "CRC"),
        (flipped, "CRC"),
        (good.to_vec(), "revision 22"),
        (text.replace("\"version\":1", "\"version\":7").into_bytes(), "version 7"),
        (text.replace("alluvium metadata snapshot", "something else").into_bytes(), "something else"),
        (b"{}\n{}".to_vec(), "head"),
    ] {
        world.memory.overwrite(&snapshot::key(20), Bytes::from(body));
        let error = world.open(2, Arc::new(BucketTable::new(world.store.clone()))).await.err().unwrap();
        assert!(matches!(&error, MetaError::Unreadable { object, .. } if *object == snapshot::key(20)), "{error}");
        assert!(error.to_string().contains(expected), "{error} does not say {expected:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_cluster_has_one_table() {
    let world = World::new();
    let a = world.broker(1).await;
    let error = world.open(2, Arc::new(MemoryTable::new())).await.err().unwrap();
    let text = error.to_string();
    assert!(matches!(error, MetaError::WrongCluster(_)), "{text}");
    assert!(text.contains("\"bucket\"") && text.contains("\"memory\"") && text.contains(a.cluster_id()), "{text}");
    for (body, expected) in [("", "EOF"), ("{\"version\":2}", "version 2"), ("{\"version\":1}", "CRC")] {
        world.memory.overwrite(cluster::KEY, Bytes::from(body));
        let error = world.open(2, Arc::new(BucketTable::new(world.store.clone()))).await.err().unwrap();
        assert!(error.to_string().starts_with("meta/cluster: "), "{error}");
        assert!(error.to_string().contains(expected), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn two_founders_found_one_cluster() {
    let world = World::new();
    let (a, b) = tokio::join!(world.broker(1), world.broker(2));
    assert_eq!(a.cluster_id(), b.cluster_id());
    world.store.script(Call::Create, cluster::KEY, [Fault::LostAnswer(alluvium::store::fault::Answer::Maybe)]);
    assert_eq!(world.broker(3).await.cluster_id(), a.cluster_id());
}

#[test]
fn errors_tell_versions_from_damage() {
    let good = Entry::new(2, 5, vec![ttl(1)]).encode();
    assert_eq!(Entry::decode(2, &good), Ok(Entry::new(2, 5, vec![ttl(1)])));
    assert_eq!(Entry::decode(1, &good), Err(EntryError::Misplaced(2)));
    for length in 0..good.len() {
        assert!(matches!(Entry::decode(2, &good[..length]), Err(EntryError::Unreadable(_))), "{length}");
    }
    for position in 0..good.len() {
        for bit in 0..8 {
            let mut damaged = good.to_vec();
            damaged[position] ^= 1 << bit;
            assert!(Entry::decode(2, &damaged).is_err(), "byte {position}, bit {bit}");
        }
    }
}
