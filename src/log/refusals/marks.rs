//! Who may be remembered: a few bits per partition that are read without a lock, by every batch. A bit that is set says "perhaps",
//! one that is not says "no".

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use crate::types::{PartitionId, TimestampMs};

/// 64 Ki bits: with all places taken one partition of seven looks in vain.
const WORDS: usize = 1024;

const NEVER: TimestampMs = TimestampMs::MIN;

pub struct Marks {
    words: Box<[AtomicU64]>,
    dropped_at: AtomicI64,
}

/// Of a partition under its id.
pub fn hash_of_id(id: PartitionId) -> u64 {
    hash(&(id.topic, id.index))
}

/// Of a partition under its topic's name.
pub fn hash_of_name(name: &str, index: i32) -> u64 {
    hash(&(name, index))
}

fn hash(value: &impl Hash) -> u64 {
    // With fixed keys: nothing but speed depends on it.
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

fn place(hash: u64) -> (usize, u64) {
    ((hash >> 6) as usize % WORDS, 1 << (hash % 64))
}

impl Marks {
    pub fn new() -> Marks {
        Marks { words: (0..WORDS).map(|_| AtomicU64::new(0)).collect(), dropped_at: AtomicI64::new(NEVER) }
    }

    pub fn set(&self, hash: u64) {
        let (word, bit) = place(hash);
        self.words[word].fetch_or(bit, Ordering::SeqCst);
    }

    pub fn may_have(&self, hash: u64) -> bool {
        let (word, bit) = place(hash);
        self.words[word].load(Ordering::SeqCst) & bit != 0
    }

    /// From now on these alone; a mark that stays is there all the time. Under the lock of what is marked.
    pub fn reset(&self, hashes: impl IntoIterator<Item = u64>) {
        let mut kept = [0u64; WORDS];
        for hash in hashes {
            let (word, bit) = place(hash);
            kept[word] |= bit;
        }
        for (word, kept) in self.words.iter().zip(kept) {
            word.store(kept, Ordering::SeqCst);
        }
    }

    /// When refusals of anybody were dropped for want of room.
    pub fn dropped_at(&self) -> Option<TimestampMs> {
        Some(self.dropped_at.load(Ordering::SeqCst)).filter(|at| *at != NEVER)
    }

    pub fn drop_all(&self, now: TimestampMs) {
        self.dropped_at.fetch_max(now, Ordering::SeqCst);
    }
}
