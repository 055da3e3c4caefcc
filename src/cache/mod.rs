//! Blocks of objects in memory, in front of the store.
//!
//! Names never come again, so a block is valid for ever: nothing is ever invalidated, only evicted. A read is cut into blocks of
//! 512 KiB. What is in memory is taken from there; what somebody is fetching already is waited for; what is left is fetched, with one
//! ranged GET for neighbours (up to 8 MiB) of a store that is far away, and many readers of one block share it.
//!
//! A fetch is driven by whoever waits for it. When all of them go away it stops, and the next reader starts anew; an error reaches
//! everyone who waited, and is not kept.
//!
//! No threads, no timers of its own, one fixed hasher: under simulation the same reads give the same GETs.

mod tail;

use std::collections::BTreeMap;
use std::hash::BuildHasherDefault;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use foyer::{Cache, CacheBuilder, S3FifoConfig};
use futures::FutureExt;
use futures::future::{BoxFuture, Shared, WeakShared, try_join_all};
use parking_lot::Mutex;

pub use self::tail::TailCache;
use crate::store::retry::{ReadPolicy, read_retrying};
use crate::store::{BLOCK_READ_BYTES, ReadRange, StoreError, StoreRef};
use crate::types::env::Env;

pub const BLOCK_BYTES: u64 = BLOCK_READ_BYTES as u64;
/// One GET of a store that is far away fetches so many neighbours at most. On a local disk each block is a read of its own: it comes
/// in a buffer of its own, and is not copied.
const GET_BLOCKS: u64 = 16;

/// Reads of objects that may be answered from memory.
#[async_trait]
pub trait BlockCache: Send + Sync {
    /// The bytes of `range`, in order, in as many pieces as it touches blocks. The range must lie inside the first
    /// `readable` bytes of the object (of a segment: its body), which must be the same in every read of it: blocks end there.
    async fn read(&self, object: &Arc<str>, range: Range<u64>, readable: u64) -> Result<Vec<Bytes>, StoreError>;

    /// What is kept of these bytes is wrong, or may be: the next read of them goes to the store.
    fn forget(&self, object: &Arc<str>, range: Range<u64>);

    fn counters(&self) -> CacheCounters;
}

/// Since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheCounters {
    /// Blocks found in memory.
    pub hits: u64,
    /// Blocks that were not.
    pub misses: u64,
    /// Of the misses, blocks that another reader was fetching already.
    pub joined: u64,
    /// Reads of the store.
    pub gets: u64,
    /// Bytes in memory now.
    pub bytes: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct BlockKey {
    object: Arc<str>,
    block: u64,
}

/// SipHash with fixed keys.
type FixedHasher = BuildHasherDefault<std::hash::DefaultHasher>;

/// Neighbouring blocks, from the first one on.
type Fetched = Result<Arc<[Bytes]>, StoreError>;
type Fetch = Shared<BoxFuture<'static, Fetched>>;

/// The memory tier.
pub struct MemoryBlockCache {
    inner: Arc<Inner>,
}

struct Inner {
    store: StoreRef,
    env: Env,
    policy: ReadPolicy,
    blocks: Cache<BlockKey, Bytes, FixedHasher>,
    /// Blocks of one GET.
    get_blocks: u64,
    /// No fetch may be let go under this lock: its end takes the lock to leave the list.
    fetches: Mutex<Fetches>,
    hits: AtomicU64,
    misses: AtomicU64,
    joined: AtomicU64,
    gets: AtomicU64,
}

/// Fetches under way, by each of their blocks.
#[derive(Default)]
struct Fetches {
    by_block: BTreeMap<BlockKey, Listed>,
    next_id: u64,
}

struct Listed {
    id: u64,
    first_block: u64,
    fetch: WeakShared<BoxFuture<'static, Fetched>>,
}

/// Where a block of a read comes from.
enum Source {
    Memory(Bytes),
    /// The fetch and the block's place in it.
    Fetch(Fetch, usize),
}

impl MemoryBlockCache {
    /// Keeps at most about `capacity_bytes` of blocks.
    pub fn new(store: StoreRef, env: Env, capacity_bytes: usize, policy: ReadPolicy) -> MemoryBlockCache {
        let blocks = CacheBuilder::new(capacity_bytes)
            .with_shards(4)
            .with_eviction_config(S3FifoConfig::default())
            .with_hash_builder(FixedHasher::default())
            .with_weighter(|key: &BlockKey, block: &Bytes| key.object.len() + block.len())
            .build();
        let get_blocks = if store.is_shared() { GET_BLOCKS } else { 1 };
        let inner = Inner {
            store,
            get_blocks,
            env,
            policy,
            blocks,
            fetches: Mutex::default(),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
            joined: AtomicU64::new(0),
            gets: AtomicU64::new(0),
        };
        MemoryBlockCache { inner: Arc::new(inner) }
    }
}

#[async_trait]
impl BlockCache for MemoryBlockCache {
    async fn read(&self, object: &Arc<str>, range: Range<u64>, readable: u64) -> Result<Vec<Bytes>, StoreError> {
        if range.start >= range.end || range.end > readable {
            return Err(StoreError::permanent(object, format!("{range:?} is not in its {readable} bytes")));
        }
        let sources = self.inner.sources(object, &range, readable);
        // All fetches are driven at once; a fetch that several blocks wait for runs once.
        let blocks = try_join_all(sources.into_iter().map(|source| async {
            match source {
                Source::Memory(block) => Ok(block),
                Source::Fetch(fetch, index) => fetch.await.map(|blocks| blocks[index].clone()),
            }
        }))
        .await?;
        let first = range.start / BLOCK_BYTES;
        let slices = blocks.iter().zip(first..).map(|(bytes, block)| {
            let start = block * BLOCK_BYTES;
            let from = range.start.saturating_sub(start);
            let to = (range.end - start).min(bytes.len() as u64);
            bytes.slice(index_of(from)..index_of(to))
        });
        Ok(slices.collect())
    }

    fn forget(&self, object: &Arc<str>, range: Range<u64>) {
        for block in range.start / BLOCK_BYTES..range.end.div_ceil(BLOCK_BYTES) {
            self.inner.blocks.remove(&BlockKey { object: Arc::clone(object), block });
        }
    }

    fn counters(&self) -> CacheCounters {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        CacheCounters {
            hits: get(&self.inner.hits),
            misses: get(&self.inner.misses),
            joined: get(&self.inner.joined),
            gets: get(&self.inner.gets),
            bytes: self.inner.blocks.usage() as u64,
        }
    }
}

impl Inner {
    /// Finds a source for each block of the range, starting fetches for runs of blocks that have none.
    fn sources(self: &Arc<Self>, object: &Arc<str>, range: &Range<u64>, readable: u64) -> Vec<Source> {
        let blocks = range.start / BLOCK_BYTES..range.end.div_ceil(BLOCK_BYTES);
        // One lock over look and registration, or two readers could both find nothing. A fetch puts its blocks into memory before
        // it leaves the list, so a block that is not in memory is on the list while somebody fetches it.
        let mut fetches = self.fetches.lock();
        let mut sources = Vec::new();
        let mut block = blocks.start;
        while block < blocks.end {
            if let Some(source) = self.existing(&fetches, object, block) {
                sources.push(source);
                block += 1;
                continue;
            }
            let mut end = block + 1;
            while end < blocks.end && end - block < self.get_blocks && !self.is_known(&fetches, object, end) {
                end += 1;
            }
            let fetch = self.start_fetch(&mut fetches, object, block..end, readable);
            self.misses.fetch_add(end - block, Ordering::Relaxed);
            sources.extend((block..end).map(|member| Source::Fetch(fetch.clone(), index_of(member - block))));
            block = end;
        }
        sources
    }

    fn existing(&self, fetches: &Fetches, object: &Arc<str>, block: u64) -> Option<Source> {
        let key = BlockKey { object: Arc::clone(object), block };
        if let Some(entry) = self.blocks.get(&key) {
            self.hits.fetch_add(1, Ordering::Relaxed);
            return Some(Source::Memory(entry.value().clone()));
        }
        let listed = fetches.by_block.get(&key)?;
        // Nobody waits for it any more, and it is about to leave the list: as good as absent.
        let fetch = listed.fetch.upgrade()?;
        self.misses.fetch_add(1, Ordering::Relaxed);
        self.joined.fetch_add(1, Ordering::Relaxed);
        Some(Source::Fetch(fetch, index_of(block - listed.first_block)))
    }

    fn is_known(&self, fetches: &Fetches, object: &Arc<str>, block: u64) -> bool {
        let key = BlockKey { object: Arc::clone(object), block };
        self.blocks.contains(&key) || fetches.by_block.contains_key(&key)
    }

    fn start_fetch(
        self: &Arc<Self>,
        fetches: &mut Fetches,
        object: &Arc<str>,
        blocks: Range<u64>,
        readable: u64,
    ) -> Fetch {
        let id = fetches.next_id;
        fetches.next_id += 1;
        let fetch = self.fetch(id, object, blocks.clone(), readable);
        if let Some(weak) = fetch.downgrade() {
            for block in blocks.clone() {
                let listed = Listed { id, first_block: blocks.start, fetch: weak.clone() };
                fetches.by_block.insert(BlockKey { object: Arc::clone(object), block }, listed);
            }
        }
        fetch
    }

    /// A fetch that nobody has begun to drive.
    fn fetch(self: &Arc<Self>, id: u64, object: &Arc<str>, blocks: Range<u64>, readable: u64) -> Fetch {
        let (inner, object) = (Arc::clone(self), Arc::clone(object));
        let guard = OnList { id, inner: Arc::clone(self), object: Arc::clone(&object), blocks: blocks.clone() };
        let run = async move {
            let _on_list = guard;
            inner.gets.fetch_add(1, Ordering::Relaxed);
            let bytes = blocks.start * BLOCK_BYTES..(blocks.end * BLOCK_BYTES).min(readable);
            let range = ReadRange::Range(bytes.clone());
            let read = read_retrying(inner.store.as_ref(), &inner.env, &object, range, &inner.policy).await?;
            if read.object_size < readable || read.bytes.len() as u64 != bytes.end - bytes.start {
                let reason = format!("it has {} bytes, and {readable} or more were expected", read.object_size);
                return Err(StoreError::permanent(&object, reason));
            }
            let fetched: Arc<[Bytes]> = match inner.get_blocks {
                1 => Arc::from([read.bytes]),
                _ => blocks_of(&read.bytes),
            };
            for (block, number) in fetched.iter().zip(blocks.clone()) {
                inner.blocks.insert(BlockKey { object: Arc::clone(&object), block: number }, block.clone());
            }
            Ok(fetched)
        };
        run.boxed().shared()
    }
}

/// Takes a fetch off the list when it has ended or nobody waits for it any more.
struct OnList {
    id: u64,
    inner: Arc<Inner>,
    object: Arc<str>,
    blocks: Range<u64>,
}

impl Drop for OnList {
    fn drop(&mut self) {
        let mut fetches = self.inner.fetches.lock();
        for block in self.blocks.clone() {
            let key = BlockKey { object: Arc::clone(&self.object), block };
            // A later fetch of the block may stand there by now.
            if fetches.by_block.get(&key).is_some_and(|listed| listed.id == self.id) {
                fetches.by_block.remove(&key);
            }
        }
    }
}

/// Copies blocks out of a larger buffer, so that keeping one does not keep all.
fn blocks_of(bytes: &Bytes) -> Arc<[Bytes]> {
    bytes.chunks(index_of(BLOCK_BYTES)).map(Bytes::copy_from_slice).collect()
}

/// Positions inside a buffer fit.
fn index_of(position: u64) -> usize {
    usize::try_from(position).expect("a position in a buffer fits a usize")
}

#[cfg(test)]
mod tests {
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

    /// Of a store that is not far away each block is a read of its own, and is kept as it came.
    #[tokio::test(start_paused = true)]
    async fn near_blocks_are_not_copied() {
        let memory = Arc::new(MemoryStore::new());
        let body = Bytes::from(vec![7; index_of(SIZE)]);
        memory.create("segments/s/0", body.clone()).await.expect("free");
        let cache = MemoryBlockCache::new(memory, env(1), 64 << 20, ReadPolicy::default());
        let pieces = cache.read(&Arc::from("segments/s/0"), 10..SIZE, SIZE).await.expect("it is there");
        assert_eq!(pieces[0].as_ptr(), body[10..].as_ptr());
        assert_eq!((pieces.concat().as_slice(), cache.counters().gets), (&body[10..], 6));
    }

    /// Of one GET of many neighbours one may stay in memory alone: it must not keep the others' bytes.
    #[test]
    fn far_blocks_are_copied_out_of_what_came() {
        let came = Bytes::from((0..2 * BLOCK_BYTES + 100).map(|at| (at % 251) as u8).collect::<Vec<_>>());
        let blocks = blocks_of(&came);
        assert_eq!((blocks.concat() == came, blocks.len(), blocks[2].len()), (true, 3, 100));
        assert!(came.is_unique(), "nothing else holds what came");
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
        let hung =
            tokio::time::timeout(Duration::from_millis(10), cache.read(&object_tail, SIZE - 1..SIZE, SIZE)).await;
        assert!(hung.is_err() && cache.inner.fetches.lock().by_block.is_empty());
        cache.read(&object, SIZE - 1..SIZE, SIZE).await.expect("it is there");
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
}
