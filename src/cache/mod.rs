//! Blocks of objects in memory, in front of the store.
//!
//! Names never come again, so a block is valid for ever: nothing is ever invalidated, only evicted. A read is cut into blocks of
//! 512 KiB. What is in memory is taken from there; what somebody is fetching already is waited for; what is left is fetched, with one
//! ranged GET for neighbours (up to 8 MiB; less from a local disk), and many readers of one block share it. A GET goes out
//! when everybody else had a turn: a consumer asks for all partitions of a segment at the same moment, and gets them with one.
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
use foyer::{Cache, CacheBuilder, LruConfig};
use futures::FutureExt;
use futures::future::{BoxFuture, Shared, WeakShared, try_join_all};
use parking_lot::Mutex;

pub use self::tail::TailCache;
use crate::store::retry::{ReadPolicy, read_blocks_retrying};
use crate::store::{BLOCK_READ_BYTES, StoreError, StoreRef};
use crate::types::env::Env;

pub const BLOCK_BYTES: u64 = BLOCK_READ_BYTES as u64;
/// One GET of a store that is far away fetches so many neighbours at most; one of a local disk fewer, for there nobody pays for a GET, and
/// who waits for the first of them waits for all.
const GET_BLOCKS: u64 = 16;
const NEAR_GET_BLOCKS: u64 = 4;

/// About what an entry costs besides its name and its bytes; of tiny objects it is most of the cost.
const ENTRY_BYTES: usize = 256;

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

/// Neighbouring blocks, from number `first` on.
#[derive(Clone)]
struct Neighbours {
    first: u64,
    blocks: Arc<[Bytes]>,
}

type Fetched = Result<Neighbours, StoreError>;
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

#[derive(Default)]
struct Fetches {
    /// The fetch of each block.
    by_block: BTreeMap<BlockKey, u64>,
    by_id: BTreeMap<u64, UnderWay>,
    next_id: u64,
}

struct UnderWay {
    blocks: Range<u64>,
    /// What it fetches is settled.
    gone_out: bool,
    fetch: WeakShared<BoxFuture<'static, Fetched>>,
}

/// Where a block of a read comes from.
enum Source {
    Memory(Bytes),
    /// The fetch and the block's number.
    Fetch(Fetch, u64),
}

impl MemoryBlockCache {
    /// Keeps at most about `capacity_bytes` of blocks.
    pub fn new(store: StoreRef, env: Env, capacity_bytes: usize, policy: ReadPolicy) -> MemoryBlockCache {
        let blocks = CacheBuilder::new(capacity_bytes)
            // Not several: half of it is filled with what was read ahead, and what hashes make uneven would throw some of that out. A block
            // is long enough that nobody waits for the lock.
            .with_shards(1)
            // Not one that prefers what was asked for twice: what was read ahead must lie there until its reader comes, and what he
            // has read may go. (S3-FIFO, once there is much of the latter, throws out the former.)
            .with_eviction_config(LruConfig::default())
            .with_hash_builder(FixedHasher::default())
            .with_weighter(|key: &BlockKey, block: &Bytes| ENTRY_BYTES + key.object.len() + block.len())
            .build();
        let get_blocks = if store.is_shared() { GET_BLOCKS } else { NEAR_GET_BLOCKS };
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
        if sources.iter().any(|source| matches!(source, Source::Fetch(..))) {
            // Others ask for the neighbours in the same moment.
            tokio::task::yield_now().await;
        }
        // All fetches are driven at once; a fetch that several blocks wait for runs once.
        let blocks = try_join_all(sources.into_iter().map(|source| async {
            match source {
                Source::Memory(block) => Ok(block),
                Source::Fetch(fetch, block) => fetch.await.map(|all| all.blocks[index_of(block - all.first)].clone()),
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
            let fetch = self.widened(&mut fetches, object, block..end);
            let fetch = fetch.unwrap_or_else(|| self.start_fetch(&mut fetches, object, block..end, readable));
            self.misses.fetch_add(end - block, Ordering::Relaxed);
            sources.extend((block..end).map(|member| Source::Fetch(fetch.clone(), member)));
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
        let id = fetches.by_block.get(&key)?;
        // Nobody waits for it any more, and it is about to leave the list: as good as absent.
        let fetch = fetches.by_id.get(id)?.fetch.upgrade()?;
        self.misses.fetch_add(1, Ordering::Relaxed);
        self.joined.fetch_add(1, Ordering::Relaxed);
        Some(Source::Fetch(fetch, block))
    }

    /// A fetch of neighbours that has not gone out, and takes these blocks along.
    fn widened(&self, fetches: &mut Fetches, object: &Arc<str>, blocks: Range<u64>) -> Option<Fetch> {
        let key = |block| BlockKey { object: Arc::clone(object), block };
        let before = blocks.start.checked_sub(1).and_then(|block| fetches.by_block.get(&key(block)));
        let after = fetches.by_block.get(&key(blocks.end));
        for id in [before, after].into_iter().flatten().copied().collect::<Vec<_>>() {
            let Some(other) = fetches.by_id.get_mut(&id) else { continue };
            let whole = other.blocks.start.min(blocks.start)..other.blocks.end.max(blocks.end);
            if other.gone_out || whole.end - whole.start > self.get_blocks {
                continue;
            }
            // Let go it must not be here; it is not, for it is what comes back.
            let Some(fetch) = other.fetch.upgrade() else { continue };
            other.blocks = whole;
            fetches.by_block.extend(blocks.map(|block| (key(block), id)));
            return Some(fetch);
        }
        None
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
        let fetch = self.fetch(id, object, readable);
        if let Some(weak) = fetch.downgrade() {
            let key = |block| BlockKey { object: Arc::clone(object), block };
            fetches.by_block.extend(blocks.clone().map(|block| (key(block), id)));
            fetches.by_id.insert(id, UnderWay { blocks, gone_out: false, fetch: weak });
        }
        fetch
    }

    /// A fetch that nobody has begun to drive; what it fetches stands on the list until it goes out.
    fn fetch(self: &Arc<Self>, id: u64, object: &Arc<str>, readable: u64) -> Fetch {
        let (inner, object) = (Arc::clone(self), Arc::clone(object));
        let guard = OnList { id, inner: Arc::clone(self), object: Arc::clone(&object) };
        let run = async move {
            let _on_list = guard;
            let Some(blocks) = inner.go_out(id) else { return Err(StoreError::maybe(&object, "an unlisted read")) };
            inner.gets.fetch_add(1, Ordering::Relaxed);
            let bytes = blocks.start * BLOCK_BYTES..(blocks.end * BLOCK_BYTES).min(readable);
            let read =
                read_blocks_retrying(inner.store.as_ref(), &inner.env, &object, bytes.clone(), &inner.policy).await?;
            if read.object_size < readable || read.bytes() as u64 != bytes.end - bytes.start {
                let reason = format!("it has {} bytes, and {readable} or more were expected", read.object_size);
                return Err(StoreError::permanent(&object, reason));
            }
            for (block, number) in read.blocks.iter().zip(blocks.clone()) {
                inner.blocks.insert(BlockKey { object: Arc::clone(&object), block: number }, block.clone());
            }
            Ok(Neighbours { first: blocks.start, blocks: Arc::from(read.blocks) })
        };
        run.boxed().shared()
    }

    /// From here on nothing is added to a fetch. Gives what it is to fetch.
    fn go_out(&self, id: u64) -> Option<Range<u64>> {
        let mut fetches = self.fetches.lock();
        let fetch = fetches.by_id.get_mut(&id)?;
        fetch.gone_out = true;
        Some(fetch.blocks.clone())
    }
}

/// Takes a fetch off the list when it has ended or nobody waits for it any more.
struct OnList {
    id: u64,
    inner: Arc<Inner>,
    object: Arc<str>,
}

impl Drop for OnList {
    fn drop(&mut self) {
        let mut fetches = self.inner.fetches.lock();
        let Some(fetch) = fetches.by_id.remove(&self.id) else { return };
        for block in fetch.blocks {
            let key = BlockKey { object: Arc::clone(&self.object), block };
            // A later fetch of the block may stand there by now.
            if fetches.by_block.get(&key) == Some(&self.id) {
                fetches.by_block.remove(&key);
            }
        }
    }
}

/// Positions inside a buffer fit.
fn index_of(position: u64) -> usize {
    usize::try_from(position).expect("a position in a buffer fits a usize")
}

#[cfg(test)]
mod tests;
