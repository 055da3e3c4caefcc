//! The six methods, one caller at a time.

use alluvium::store::{BLOCK_READ_BYTES, ListedObject, ReadRange, StoreError};
use bytes::Bytes;

use crate::backends::Backend;

crate::on_every_store!(
    creates_once_and_reads_back,
    reads_ranges,
    reads_blocks,
    refuses_strange_names,
    deletes_and_forgets,
    lists_in_order,
    lists_folders,
    lists_more_than_a_page,
    keeps_odd_sizes,
    answers_for_absent_objects,
);

async fn creates_once_and_reads_back(backend: &Backend) {
    let store = &backend.store;
    let body = Bytes::from_static(b"the first body");
    store.create("meta/log/1", body.clone()).await.expect("a free name");
    for other in [Bytes::from_static(b"another"), body.clone()] {
        let second = store.create("meta/log/1", other).await;
        assert!(matches!(&second, Err(StoreError::Taken { key }) if key == "meta/log/1"), "{second:?}");
    }
    let read = store.read("meta/log/1", ReadRange::Full).await.expect("it is there");
    assert_eq!((read.bytes, read.start, read.object_size), (body.clone(), 0, body.len() as u64));
}

async fn reads_ranges(backend: &Backend) {
    let store = &backend.store;
    let body: Vec<u8> = (0..100_000u32).map(|i| (i % 251) as u8).collect();
    store.create("segments/s/0", Bytes::from(body.clone())).await.expect("a free name");
    let size = body.len() as u64;
    for (range, start, end) in [
        (ReadRange::Full, 0, size),
        (ReadRange::Range(0..1), 0, 1),
        (ReadRange::Range(4095..4097), 4095, 4097),
        (ReadRange::Range(0..size), 0, size),
        (ReadRange::Range(99_990..200_000), 99_990, size),
        (ReadRange::Suffix(1), size - 1, size),
        (ReadRange::Suffix(30_000), 70_000, size),
        (ReadRange::Suffix(500_000), 0, size),
    ] {
        let read = store.read("segments/s/0", range.clone()).await.expect("a range inside");
        assert_eq!((read.start, read.object_size), (start, size), "{range:?}");
        assert_eq!(read.bytes, body[start as usize..end as usize], "{range:?}");
    }
    for range in [ReadRange::Range(size..size + 1), ReadRange::Range(200_000..200_001)] {
        let read = store.read("segments/s/0", range.clone()).await;
        assert!(matches!(read, Err(StoreError::Permanent { .. })), "{range:?}: {read:?}");
    }
}

/// Of blocks, each is whole but the last, and keeps no other alive.
async fn reads_blocks(backend: &Backend) {
    const BLOCK: u64 = BLOCK_READ_BYTES as u64;
    let size = 3 * BLOCK + 100;
    let body: Vec<u8> = (0..size).map(|i| (i % 251) as u8).collect();
    backend.store.create("segments/s/0", Bytes::from(body.clone())).await.expect("a free name");
    for range in [0..1, 0..BLOCK, BLOCK..2 * BLOCK, 0..size, BLOCK..size, 2 * BLOCK..4 * BLOCK, 3 * BLOCK..size] {
        let read = backend.store.read_blocks("segments/s/0", range.clone()).await.expect("a range inside");
        let end = range.end.min(size);
        assert_eq!(read.object_size, size);
        assert!(read.blocks.concat() == body[range.start as usize..end as usize], "{range:?}");
        assert_eq!(read.blocks.len() as u64, (end - range.start).div_ceil(BLOCK), "{range:?}");
        assert!(read.blocks.iter().rev().skip(1).all(|block| block.len() == BLOCK_READ_BYTES), "{range:?}");
    }
    let outside = backend.store.read_blocks("segments/s/0", size..size + 1).await;
    assert!(matches!(outside, Err(StoreError::Permanent { .. })), "{outside:?}");
    let absent = backend.store.read_blocks("segments/s/1", 0..1).await;
    assert!(matches!(absent, Err(StoreError::NotFound { .. })), "{absent:?}");
}

async fn refuses_strange_names(backend: &Backend) {
    for key in ["", "/absolute", "a/../../b", "a//b", "a/", ".lock", ".tmp/x", "with space"] {
        let created = backend.store.create(key, Bytes::from_static(b"x")).await;
        assert!(matches!(created, Err(StoreError::Permanent { .. })), "{key}: {created:?}");
        let read = backend.store.read(key, ReadRange::Full).await;
        assert!(matches!(read, Err(StoreError::Permanent { .. })), "{key}: {read:?}");
        let deleted = backend.store.delete(key).await;
        assert!(matches!(deleted, Err(StoreError::Permanent { .. })), "{key}: {deleted:?}");
    }
}

async fn deletes_and_forgets(backend: &Backend) {
    let store = &backend.store;
    store.delete("runs/1").await.expect("an absent object is no error");
    store.create("runs/1", Bytes::from_static(b"one")).await.expect("a free name");
    store.delete("runs/1").await.expect("deleted");
    let read = store.read("runs/1", ReadRange::Full).await;
    assert!(matches!(read, Err(StoreError::NotFound { .. })), "{read:?}");
    store.create("runs/1", Bytes::from_static(b"two")).await.expect("free again");
}

async fn lists_in_order(backend: &Backend) {
    let store = &backend.store;
    let mut keys =
        vec!["meta/log/10", "meta/log/2", "meta/log/9", "meta/snapshot/1", "a", "meta-x/1", "meta/log-y", "z/1"];
    for key in &keys {
        store.create(key, Bytes::from(vec![7; key.len()])).await.expect("a free name");
    }
    keys.sort_unstable();
    let listed = |prefix: &str, after: Option<&str>, limit: usize| -> Vec<ListedObject> {
        keys.iter()
            .filter(|key| key.starts_with(prefix) && after.is_none_or(|after| **key > after))
            .take(limit)
            .map(|key| ListedObject { key: (*key).to_owned(), size: key.len() as u64 })
            .collect()
    };
    for prefix in ["", "meta/", "meta/log/", "meta/log/1", "meta/log", "meta", "absent/", "z/", "z"] {
        for after in [None, Some("meta/log/10"), Some("meta/log/2"), Some("meta/log"), Some("a"), Some("zz"), Some("m")]
        {
            for limit in [1, 2, 1000] {
                let found = store.list(prefix, after, limit).await.expect("a list");
                assert_eq!(found, listed(prefix, after, limit), "{} {prefix:?} {after:?} {limit}", backend.name);
            }
        }
    }
    assert_eq!(store.list("meta/", None, 0).await.expect("a list"), []);
}

async fn lists_folders(backend: &Backend) {
    let store = &backend.store;
    for key in ["segments/b/1", "segments/a/1", "segments/a/2", "segments/a/deep/1", "segments/file", "meta/x"] {
        store.create(key, Bytes::from_static(b"x")).await.expect("a free name");
    }
    assert_eq!(store.list_folders("segments/").await.expect("folders"), ["a", "b"]);
    assert_eq!(store.list_folders("segments/a/").await.expect("folders"), ["deep"]);
    assert_eq!(store.list_folders("absent/").await.expect("folders"), [""; 0]);
    store.delete("segments/b/1").await.expect("deleted");
    assert_eq!(store.list_folders("segments/").await.expect("folders"), ["a"]);
}

/// S3 gives a thousand names at a time.
async fn lists_more_than_a_page(backend: &Backend) {
    use futures::StreamExt;
    let store = &backend.store;
    let names: Vec<String> = (0..1050).map(|number| format!("{number:05}")).collect();
    let creates =
        names.iter().map(|name| async move { store.create(&format!("f/{name}/x"), Bytes::from_static(b"x")).await });
    let created: Vec<_> = futures::stream::iter(creates).buffer_unordered(8).collect().await;
    assert!(created.iter().all(Result::is_ok));
    let listed = |after: Option<&'static str>, limit: usize| async move {
        let listed = store.list("f/", after, limit).await.expect("a list");
        listed.into_iter().map(|object| object.key[2..7].to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(listed(None, usize::MAX).await, names);
    assert_eq!(listed(None, 1001).await, names[..1001]);
    assert_eq!(listed(Some("f/00009/x"), 1020).await, names[10..1030]);
    assert_eq!(store.list_folders("f/").await.expect("folders"), names);
}

/// Sizes around pages, where a padded write is cut to length; bodies that begin off a page boundary.
async fn keeps_odd_sizes(backend: &Backend) {
    let store = &backend.store;
    let pattern: Vec<u8> = (0..20_000u32).map(|i| (i * 7 % 253) as u8).collect();
    let mut aligned = alluvium::types::aligned::AlignedBuffer::with_capacity(pattern.len());
    aligned.extend(&pattern);
    let aligned = aligned.freeze();
    for (start, length) in
        [(0, 1), (0, 4095), (0, 4096), (0, 4097), (0, 8192), (0, 20_000), (1, 4096), (7, 12_289), (4096, 5000)]
    {
        let key = format!("sizes/{start}-{length}");
        let body = aligned.slice(start..start + length);
        store.create(&key, body.clone()).await.expect("a free name");
        let read = store.read(&key, ReadRange::Full).await.expect("it is there");
        assert_eq!(read.bytes, body, "{key}");
        assert_eq!(read.object_size, length as u64, "{key}");
    }
}

async fn answers_for_absent_objects(backend: &Backend) {
    for range in [ReadRange::Full, ReadRange::Range(0..10), ReadRange::Suffix(10)] {
        let read = backend.store.read("segments/none/0", range.clone()).await;
        assert!(matches!(read, Err(StoreError::NotFound { .. })), "{range:?}: {read:?}");
    }
}
