//! Who has a place among the connections. Decides, and knows no socket.
//!
//! There are so many places as the settings and the descriptors of the process allow, and for one address so many as
//! `max.connections.per.ip`. When all are taken, the next connection waits in the kernel's queue, and those leave that were idle for
//! longest (Kafka closes the least recently used one of another listener, `SocketServer.ConnectionQuotas`): ten thousand sockets that
//! nobody uses keep nobody out. Whoever waits for an answer, or was served a moment ago, is not idle.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// Who was served within this time is not idle.
const IDLE_LEAST: Duration = Duration::from_secs(2);

/// So many leave at once, as a part of all: looking for them costs a look at all.
const LEAVING_PART: usize = 64;

/// What is kept of the descriptors for files, the store and the admin pages: this part, within bounds.
const RESERVED_PART: u64 = 4;
const RESERVED_LEAST: u64 = 64;
const RESERVED_MOST: u64 = 1024;

/// How many connections a process can afford that may have so many descriptors.
pub fn affordable(max_connections: usize, descriptors: Option<u64>) -> usize {
    let Some(descriptors) = descriptors else { return max_connections };
    let reserved = (descriptors / RESERVED_PART).clamp(RESERVED_LEAST, RESERVED_MOST);
    let left = usize::try_from(descriptors.saturating_sub(reserved)).unwrap_or(usize::MAX);
    max_connections.min(left).max(1)
}

/// What a connection tells of itself.
#[derive(Debug, Default)]
pub struct Guest {
    /// Bytes of its requests that were not answered yet.
    pub unanswered: AtomicUsize,
    /// When it was last asked or answered something: milliseconds on the steady clock.
    used_at_ms: AtomicU64,
    /// Cancelled when the place is needed.
    pub leave: CancellationToken,
}

impl Guest {
    pub fn used(&self, now: Duration) {
        self.used_at_ms.store(millis(now), Ordering::Relaxed);
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[derive(Default)]
struct Taken {
    next_id: u64,
    guests: BTreeMap<u64, Arc<Guest>>,
    by_address: BTreeMap<IpAddr, usize>,
}

/// All places of a listener.
pub struct Places {
    total: usize,
    per_address: usize,
    taken: Mutex<Taken>,
    left: Notify,
}

/// A place, until it is dropped.
pub struct Place {
    places: Arc<Places>,
    id: u64,
    address: IpAddr,
    pub guest: Arc<Guest>,
}

impl Places {
    pub fn new(total: usize, per_address: usize) -> Arc<Places> {
        Arc::new(Places { total, per_address, taken: Mutex::default(), left: Notify::new() })
    }

    pub fn is_full(&self) -> bool {
        self.taken.lock().guests.len() >= self.total
    }

    /// Returns when some place was left. Cancellation safe.
    pub async fn left(&self) {
        self.left.notified().await;
    }

    /// Takes a place; `None` when the address has as many as it may have.
    pub fn take(self: &Arc<Self>, address: IpAddr, now: Duration) -> Option<Place> {
        let address = address.to_canonical();
        let mut taken = self.taken.lock();
        let of_address = taken.by_address.entry(address).or_default();
        if *of_address >= self.per_address {
            if *of_address == 0 {
                taken.by_address.remove(&address);
            }
            return None;
        }
        *of_address += 1;
        let id = taken.next_id;
        taken.next_id += 1;
        let guest = Arc::new(Guest::default());
        guest.used(now);
        taken.guests.insert(id, guest.clone());
        Some(Place { places: self.clone(), id, address, guest })
    }

    /// Asks those to leave that were idle for longest; tells how many.
    pub fn clear_some(&self, now: Duration) -> usize {
        let taken = self.taken.lock();
        let state = |(id, guest): (&u64, &Arc<Guest>)| {
            let waits = guest.unanswered.load(Ordering::Relaxed) > 0 || guest.leave.is_cancelled();
            (!waits).then(|| (guest.used_at_ms.load(Ordering::Relaxed), *id))
        };
        let idle = taken.guests.iter().filter_map(state).collect();
        let leaving = idlest(idle, millis(now), taken.guests.len().div_ceil(LEAVING_PART));
        for id in &leaving {
            if let Some(guest) = taken.guests.get(id) {
                guest.leave.cancel();
            }
        }
        leaving.len()
    }
}

/// Of (last use, id), the ids of those that were idle for longest and for long enough.
fn idlest(mut unused_since: Vec<(u64, u64)>, now_ms: u64, count: usize) -> Vec<u64> {
    unused_since.retain(|(used_at, _)| now_ms.saturating_sub(*used_at) >= millis(IDLE_LEAST));
    if unused_since.len() > count && count > 0 {
        unused_since.select_nth_unstable(count - 1);
    }
    unused_since.truncate(count);
    unused_since.into_iter().map(|(_, id)| id).collect()
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock();
        taken.guests.remove(&self.id);
        if let Some(count) = taken.by_address.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                taken.by_address.remove(&self.address);
            }
        }
        drop(taken);
        self.places.left.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_are_kept_for_the_log() {
        for (max, descriptors, expected) in [
            (10_000, None, 10_000),
            (10_000, Some(1_048_576), 10_000),
            (10_000, Some(1024), 768),
            (10_000, Some(100), 36),
            (10_000, Some(10), 1),
            (10_000, Some(10_000), 8976),
            (50, Some(1024), 50),
        ] {
            assert_eq!(affordable(max, descriptors), expected, "{max} {descriptors:?}");
        }
    }

    #[test]
    fn who_was_idle_for_longest_leaves_first() {
        let ids = |unused: &[(u64, u64)], count| {
            let mut ids = idlest(unused.to_vec(), 10_000, count);
            ids.sort_unstable();
            ids
        };
        assert_eq!(ids(&[(5000, 1), (3000, 2), (4000, 3)], 2), [2, 3]);
        assert_eq!(ids(&[(5000, 1), (8001, 2), (8000, 3)], 9), [1, 3]);
        assert!(ids(&[(9999, 1)], 1).is_empty() && ids(&[(1, 1)], 0).is_empty() && ids(&[], 3).is_empty());
    }

    #[test]
    fn places_are_counted_and_left() {
        let at = Duration::from_secs;
        let (first, second) = (IpAddr::from([127, 0, 0, 1]), IpAddr::from([127, 0, 0, 2]));
        let places = Places::new(3, 2);
        let (a, b) = (places.take(first, at(0)).expect("room"), places.take(first, at(1)));
        assert!(places.take(first, at(1)).is_none(), "two for an address");
        let mapped = std::net::Ipv4Addr::new(127, 0, 0, 1).to_ipv6_mapped();
        assert!(places.take(mapped.into(), at(1)).is_none(), "the same one in other words");
        assert!(!places.is_full());
        let c = places.take(second, at(9)).expect("room");
        assert!(places.is_full());
        a.guest.unanswered.store(1, Ordering::Relaxed);
        assert_eq!(places.clear_some(at(10)), 1);
        let b = b.expect("room");
        assert!(b.guest.leave.is_cancelled() && !a.guest.leave.is_cancelled() && !c.guest.leave.is_cancelled());
        assert_eq!(places.clear_some(at(10)), 0, "one waits, one was asked, one was just served");
        drop(b);
        assert!(!places.is_full() && places.take(first, at(10)).is_some());
        assert!(Places::new(1, 0).take(first, at(0)).is_none());
    }
}
