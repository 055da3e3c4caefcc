//! The newest segments of this broker, whole, as they were written: whoever reads at the tail is served from here, without a copy
//! and without a GET. First in, first out by bytes.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

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
        if body.len() > self.capacity_bytes {
            return;
        }
        // Evicted bodies are freed after the lock.
        let mut evicted = Vec::new();
        let mut state = self.state.lock();
        let length = body.len();
        if state.objects.contains_key(&object) {
            return;
        }
        state.objects.insert(Arc::clone(&object), body);
        state.order.push_back(object);
        state.bytes += length;
        while state.bytes > self.capacity_bytes {
            let Some(oldest) = state.order.pop_front() else { break };
            if let Some(body) = state.objects.remove(&oldest) {
                state.bytes -= body.len();
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
        let cache = TailCache::new(100);
        for number in 0..5u8 {
            cache.insert(Arc::from(format!("s/{number}")), Bytes::from(vec![number; 40]));
        }
        assert_eq!(cache.bytes(), 80);
        assert_eq!(cache.get("s/2", 0..1), None);
        assert_eq!(cache.get("s/4", 38..40), Some(Bytes::from_static(&[4, 4])));
        assert_eq!(cache.get("s/4", 38..41), None);
        cache.insert(Arc::from("large"), Bytes::from(vec![0; 101]));
        assert_eq!((cache.get("large", 0..1), cache.bytes()), (None, 80));
        cache.insert(Arc::from("s/4"), Bytes::from(vec![4; 40]));
        assert_eq!(cache.bytes(), 80);
    }
}
