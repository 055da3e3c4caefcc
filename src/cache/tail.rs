//! The newest segments of this broker, whole, as they were written: whoever reads at the tail is served from here, without a copy
//! and without a GET. First in, first out by bytes.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

use crate::types::aligned::PAGE;

/// What an object costs besides its bytes: a page, at most, for the alignment of its buffer, its name, its place here. Of segments of
/// a few records it is most of the cost.
const OVERHEAD_BYTES: usize = PAGE + 256;

fn weight(body: &Bytes) -> usize {
    body.len() + OVERHEAD_BYTES
}

pub struct TailCache {
    capacity_bytes: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    objects: BTreeMap<Arc<str>, Bytes>,
    order: VecDeque<Arc<str>>,
    bytes: usize,
}

impl TailCache {
    pub fn new(capacity_bytes: usize) -> TailCache {
        TailCache { capacity_bytes, state: Mutex::default() }
    }

    /// Keeps the object until newer ones need its room. One that is larger than the cache is not kept.
    pub fn insert(&self, object: Arc<str>, body: Bytes) {
        if weight(&body) > self.capacity_bytes {
            return;
        }
        // Evicted bodies are freed after the lock.
        let mut evicted = Vec::new();
        let mut state = self.state.lock();
        if state.objects.contains_key(&object) {
            return;
        }
        state.bytes += weight(&body);
        state.objects.insert(Arc::clone(&object), body);
        state.order.push_back(object);
        while state.bytes > self.capacity_bytes {
            let Some(oldest) = state.order.pop_front() else { break };
            if let Some(body) = state.objects.remove(&oldest) {
                state.bytes -= weight(&body);
                evicted.push(body);
            }
        }
        drop(state);
        drop(evicted);
    }

    /// A slice of the object as it was written; `None` when it is not here, or does not reach so far.
    pub fn get(&self, object: &str, range: Range<u64>) -> Option<Bytes> {
        let body = self.state.lock().objects.get(object).cloned()?;
        let (start, end) = (usize::try_from(range.start).ok()?, usize::try_from(range.end).ok()?);
        (start <= end && end <= body.len()).then(|| body.slice(start..end))
    }

    /// The whole object as it was written.
    pub fn whole(&self, object: &str) -> Option<Bytes> {
        self.state.lock().objects.get(object).cloned()
    }

    /// Bytes held now. Slices that readers still hold after an eviction do not count.
    pub fn bytes(&self) -> usize {
        self.state.lock().bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_newest() {
        let two = 2 * (40 + OVERHEAD_BYTES);
        let cache = TailCache::new(two + 20);
        for number in 0..5u8 {
            cache.insert(Arc::from(format!("s/{number}")), Bytes::from(vec![number; 40]));
        }
        assert_eq!(cache.bytes(), two);
        assert_eq!(cache.get("s/2", 0..1), None);
        assert_eq!(cache.get("s/4", 38..40), Some(Bytes::from_static(&[4, 4])));
        assert_eq!(cache.get("s/4", 38..41), None);
        cache.insert(Arc::from("large"), Bytes::from(vec![0; two + 21 - OVERHEAD_BYTES]));
        assert_eq!((cache.get("large", 0..1), cache.bytes()), (None, two));
        cache.insert(Arc::from("s/4"), Bytes::from(vec![4; 40]));
        assert_eq!(cache.bytes(), two);
    }
}
