use super::*;
use crate::store::Store;
use crate::store::fault::{Answer, Call, Fault, FaultRates, FaultStore};
use crate::store::memory::MemoryStore;
use crate::types::env::testing::{SeededEntropy, env};
use std::time::Duration;

const SIZE: u64 = 5 * BLOCK_BYTES + 100;

async fn setup() -> (Arc<FaultStore>, Arc<MemoryBlockCache>, Arc<str>, Vec<u8>) {
    let memory = Arc::new(MemoryStore::shared());
    let body: Vec<u8> = (0..SIZE).map(|i| u8::try_from(i % 251).expect("small")).collect();
    memory.create("segments/s/0", Bytes::from(body.clone())).await.expect("free");
    let store = FaultStore::new(memory, Arc::new(SeededEntropy::new(1)), FaultRates::default());
    let policy = ReadPolicy { deadline: Duration::ZERO, ..ReadPolicy::default() };
    let cache = MemoryBlockCache::new(Arc::clone(&store) as StoreRef, env(1), 64 << 20, policy);
    (store, Arc::new(cache), Arc::from("segments/s/0"), body)
}

#[tokio::test(start_paused = true)]
async fn neighbours_are_one_get_and_then_none() {
    let (_, cache, object, body) = setup().await;
    for (range, gets) in [
        (10..20, 1),
        (0..BLOCK_BYTES, 1),
        (2 * BLOCK_BYTES - 1..2 * BLOCK_BYTES + 1, 2),
        (0..SIZE, 3),
        (SIZE - 1..SIZE, 3),
        (BLOCK_BYTES - 1..SIZE, 3),
    ] {
        let pieces = cache.read(&object, range.clone(), SIZE).await.expect("it is there");
        assert!(pieces.iter().all(|piece| !piece.is_empty()));
        assert_eq!(pieces.concat(), body[index_of(range.start)..index_of(range.end)], "{range:?}");
        assert_eq!(cache.counters().gets, gets, "{range:?}");
    }
    for bad in [0..SIZE + 1, 5..5] {
        cache.read(&object, bad, SIZE).await.expect_err("outside");
    }
}

/// Reads of neighbours at the same moment, as a consumer of several partitions makes them, are one GET in whatever order they come.
#[tokio::test(start_paused = true)]
async fn neighbours_asked_for_at_once_are_one_get() {
    const B: u64 = BLOCK_BYTES;
    for (name, ranges, gets) in [
        ("in order", vec![0..B + 10, B + 10..2 * B + 5, 2 * B + 5..SIZE], 1),
        ("the other way round", vec![3 * B..SIZE, B..3 * B, 0..B], 1),
        ("with a gap", vec![0..B, 2 * B..3 * B], 2),
        ("a gap that is filled", vec![0..B, 2 * B..3 * B, B..2 * B], 2),
    ] {
        let (_, cache, object, body) = setup().await;
        let reads = ranges.iter().map(|range| cache.read(&object, range.clone(), SIZE));
        let read = try_join_all(reads).await.expect("it is there");
        for (range, pieces) in ranges.iter().zip(read) {
            assert_eq!(pieces.concat(), body[index_of(range.start)..index_of(range.end)], "{name}: {range:?}");
        }
        assert_eq!(cache.counters().gets, gets, "{name}");
        let fetches = cache.inner.fetches.lock();
        assert!(fetches.by_block.is_empty() && fetches.by_id.is_empty(), "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_get_has_its_limit_and_takes_nothing_along_once_it_is_out() {
    let memory = Arc::new(MemoryStore::shared());
    let size = 3 * GET_BLOCKS * BLOCK_BYTES;
    memory.create("segments/s/0", Bytes::from(vec![7; index_of(size)])).await.expect("free");
    let store = FaultStore::new(memory, Arc::new(SeededEntropy::new(1)), FaultRates::default());
    let cache = MemoryBlockCache::new(Arc::clone(&store) as StoreRef, env(1), 64 << 20, ReadPolicy::default());
    let object: Arc<str> = Arc::from("segments/s/0");
    let third = size / 3;
    let reads = [0..third, third..third + 1].map(|range| cache.read(&object, range, size));
    try_join_all(reads).await.expect("it is there");
    assert_eq!(cache.counters().gets, 2, "no longer than the limit");

    store.script(Call::Read, "", [Fault::DelayBefore(Duration::from_secs(1))]);
    let late = async {
        tokio::time::sleep(Duration::from_millis(10)).await;
        cache.read(&object, 2 * third + 1..2 * third + 2 * BLOCK_BYTES, size).await
    };
    let (early, late) = tokio::join!(cache.read(&object, 2 * third..2 * third + 1, size), late);
    assert_eq!((early.expect("there").concat(), late.expect("there").len()), (vec![7], 2));
    assert_eq!(cache.counters().gets, 4, "what is out is not widened");
}

/// Of a store that is not far away a few blocks are one read, and are kept as they came.
#[tokio::test(start_paused = true)]
async fn near_blocks_are_not_copied() {
    let memory = Arc::new(MemoryStore::new());
    let body = Bytes::from(vec![7; index_of(SIZE)]);
    memory.create("segments/s/0", body.clone()).await.expect("free");
    let cache = MemoryBlockCache::new(memory, env(1), 64 << 20, ReadPolicy::default());
    let pieces = cache.read(&Arc::from("segments/s/0"), 10..SIZE, SIZE).await.expect("it is there");
    assert_eq!(pieces[0].as_ptr(), body[10..].as_ptr());
    assert_eq!((pieces.concat().as_slice(), cache.counters().gets), (&body[10..], 2));
}

#[tokio::test(start_paused = true)]
async fn many_readers_of_one_block_are_one_get() {
    let (store, cache, object, _) = setup().await;
    store.script(Call::Read, "", [Fault::DelayBefore(Duration::from_secs(1))]);
    let readers: Vec<_> = (0..50)
        .map(|reader| {
            let (cache, object) = (Arc::clone(&cache), Arc::clone(&object));
            tokio::spawn(async move { cache.read(&object, reader..reader + 1000, SIZE).await })
        })
        .collect();
    for reader in readers {
        reader.await.expect("ends").expect("it is there");
    }
    let counters = cache.counters();
    assert_eq!((counters.gets, counters.misses, counters.joined), (1, 50, 49));
    assert!(cache.inner.fetches.lock().by_block.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_goes_away_takes_nobody_along() {
    let (store, cache, object, _) = setup().await;
    store.script(Call::Read, "", [Fault::DelayBefore(Duration::from_secs(1))]);
    let read = |cache: Arc<MemoryBlockCache>| {
        let object = Arc::clone(&object);
        tokio::spawn(async move { cache.read(&object, 0..1, SIZE).await })
    };
    let (first, second) = (read(Arc::clone(&cache)), read(Arc::clone(&cache)));
    tokio::time::sleep(Duration::from_millis(10)).await;
    first.abort();
    second.await.expect("ends").expect("it is there");
    assert_eq!(cache.counters().gets, 1);

    // When all go away the fetch ends, and a later reader makes its own.
    store.script(Call::Read, "", [Fault::Hang]);
    let object_tail = Arc::clone(&object);
    let hung = tokio::time::timeout(Duration::from_millis(10), cache.read(&object_tail, SIZE - 1..SIZE, SIZE)).await;
    assert!(hung.is_err() && cache.inner.fetches.lock().by_block.is_empty());
    cache.read(&object, SIZE - 1..SIZE, SIZE).await.expect("it is there");
}

#[tokio::test(start_paused = true)]
async fn errors_reach_all_and_are_not_kept() {
    let (store, cache, object, _) = setup().await;
    for fault in [Fault::Refused(Answer::Maybe), Fault::Refused(Answer::Denied), Fault::Truncated] {
        store.script(Call::Read, "", [fault]);
        cache.read(&object, 0..1, SIZE).await.expect_err("injected");
    }
    cache.read(&object, 0..1, SIZE + 1).await.expect_err("it is shorter than that");
    cache.read(&object, 0..1, SIZE).await.expect("it is there");
    let absent: Arc<str> = Arc::from("segments/s/1");
    let read = cache.read(&absent, 0..1, SIZE).await;
    assert!(matches!(read, Err(StoreError::NotFound { .. })), "{read:?}");
}

#[tokio::test(start_paused = true)]
async fn stays_within_its_bytes() {
    let memory = Arc::new(MemoryStore::new());
    let cache = MemoryBlockCache::new(Arc::clone(&memory) as StoreRef, env(1), 4 << 20, ReadPolicy::default());
    for number in 0..20 {
        let key = format!("segments/s/{number}");
        memory.create(&key, Bytes::from(vec![1; 1 << 20])).await.expect("free");
        cache.read(&Arc::from(key), 0..1 << 20, 1 << 20).await.expect("it is there");
    }
    let bytes = cache.counters().bytes;
    assert!(bytes <= 4 << 20 && bytes > 1 << 20, "{bytes}");
}

#[tokio::test(start_paused = true)]
async fn who_joins_a_fetch_gets_his_own_blocks() {
    let (store, cache, object, body) = setup().await;
    store.script(Call::Read, "", [Fault::DelayBefore(Duration::from_secs(1))]);
    let ranges = [0..SIZE, 2 * BLOCK_BYTES + 5..3 * BLOCK_BYTES + 7, SIZE - 1..SIZE];
    let reads = ranges.iter().map(|range| cache.read(&object, range.clone(), SIZE));
    for (pieces, range) in try_join_all(reads).await.expect("it is there").into_iter().zip(&ranges) {
        assert_eq!(pieces.concat(), body[index_of(range.start)..index_of(range.end)], "{range:?}");
    }
    assert_eq!((cache.counters().gets, cache.counters().joined), (1, 3));
}

#[tokio::test(start_paused = true)]
async fn what_is_forgotten_is_read_again_and_nothing_else() {
    for (forgotten, anew) in [
        (0..1, 0..1),
        (BLOCK_BYTES - 1..BLOCK_BYTES + 1, 0..2),
        (BLOCK_BYTES..2 * BLOCK_BYTES, 1..2),
        (SIZE - 1..SIZE, 5..6),
        (0..SIZE, 0..6),
    ] {
        let (_, cache, object, _) = setup().await;
        cache.read(&object, 0..SIZE, SIZE).await.expect("it is there");
        cache.forget(&Arc::from("segments/s/1"), 0..SIZE);
        cache.forget(&object, forgotten.clone());
        for block in 0..6 {
            let gets = cache.counters().gets;
            cache.read(&object, block * BLOCK_BYTES..block * BLOCK_BYTES + 1, SIZE).await.expect("it is there");
            assert_eq!(cache.counters().gets > gets, anew.contains(&block), "{forgotten:?}, block {block}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_fetch_that_ends_leaves_later_ones_on_the_list() {
    let (_, cache, object, _) = setup().await;
    let start = |blocks| cache.inner.start_fetch(&mut cache.inner.fetches.lock(), &object, blocks, SIZE);
    let (first, later) = (start(0..2), start(1..3));
    let listed = || cache.inner.fetches.lock().by_block.keys().map(|key| key.block).collect::<Vec<_>>();
    assert_eq!(listed(), [0, 1, 2]);
    drop(first);
    assert_eq!(listed(), [1, 2]);
    drop(later);
    assert!(listed().is_empty());
}

/// Of one GET of many neighbours one may stay in memory alone: it must not keep the others' bytes.
#[tokio::test(start_paused = true)]
async fn blocks_of_one_get_keep_no_more_than_themselves() {
    let memory = Arc::new(MemoryStore::shared());
    let body = Bytes::from(vec![7; index_of(SIZE)]);
    memory.create("segments/s/0", body.clone()).await.expect("free");
    let cache = MemoryBlockCache::new(memory, env(1), 64 << 20, ReadPolicy::default());
    let blocks = cache.read(&Arc::from("segments/s/0"), 0..SIZE, SIZE).await.expect("it is there");
    assert_eq!((blocks.concat() == body, blocks.len(), cache.counters().gets), (true, 6, 1));
    assert!(blocks.iter().all(|block| !body.as_ptr_range().contains(&block.as_ptr())), "a part of all that came");
}

/// What was read ahead waits for its reader, though the rest of memory is full of what was asked for twice.
#[tokio::test(start_paused = true)]
async fn what_is_new_stays_until_its_reader_comes() {
    const OBJECTS: usize = 400;
    let memory = Arc::new(MemoryStore::shared());
    let names: Vec<Arc<str>> = (0..2 * OBJECTS).map(|at| Arc::from(format!("segments/s/{at}"))).collect();
    for name in &names {
        memory.create(name, Bytes::from_static(&[7; 1000])).await.expect("free");
    }
    let store = FaultStore::new(memory, Arc::new(SeededEntropy::new(1)), FaultRates::default());
    let one = ENTRY_BYTES + 1000 + names[0].len();
    let cache = MemoryBlockCache::new(Arc::clone(&store) as StoreRef, env(1), OBJECTS * one, ReadPolicy::default());
    let read_all = async |names: &[Arc<str>]| {
        for name in names {
            cache.read(name, 0..1000, 1000).await.expect("it is there");
        }
        cache.counters().gets
    };
    let (old, new) = names.split_at(OBJECTS);
    read_all(old).await;
    read_all(old).await;
    // Half of it may lie ahead of readers (see `crate::log::fetch`), and others read meanwhile.
    let before = read_all(&new[..OBJECTS * 9 / 10]).await;
    assert_eq!(read_all(&new[..OBJECTS * 9 / 10]).await, before, "not even by chance");
}
