//! Keeps long reads from standing in the way of creates: a disk serves what is in its queue, and whoever waits for an acknowledgement must
//! not stand behind the hundreds of megabytes that consumers of old records have asked for.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::{Semaphore, SemaphorePermit};

/// Long reads that the disk is asked for side by side.
const LONG_READS: usize = 4;

/// While creates come, one read at a time asks for so much: about a millisecond of a disk.
const STEP_BYTES: usize = 512 << 10;

/// A create was here so short ago that the next one may come any moment.
const RECENT: Duration = Duration::from_millis(50);

pub struct Gate {
    long_reads: Semaphore,
    creates: AtomicUsize,
    began: Instant,
    /// When the last create ended, in milliseconds after `began`, and one more; 0: there was none.
    last_create: AtomicU64,
    turn: Mutex<()>,
}

/// A create is under way until this is dropped.
pub struct Creating<'a>(&'a Gate);

impl Gate {
    pub fn new() -> Gate {
        Gate {
            long_reads: Semaphore::new(LONG_READS),
            creates: AtomicUsize::new(0),
            began: Instant::now(),
            last_create: AtomicU64::new(0),
            turn: Mutex::new(()),
        }
    }

    /// Waits until one more long read may ask the disk, first come, first served.
    pub async fn enter(&self) -> Option<SemaphorePermit<'_>> {
        self.long_reads.acquire().await.ok()
    }

    pub fn create(&self) -> Creating<'_> {
        self.creates.fetch_add(1, Ordering::Relaxed);
        Creating(self)
    }

    /// Runs one step of a long read, of so many bytes at most.
    pub fn step<T>(&self, step: impl FnOnce(usize) -> T) -> T {
        if !self.is_busy() {
            return step(usize::MAX);
        }
        let _turn = self.turn.lock();
        step(STEP_BYTES)
    }

    fn is_busy(&self) -> bool {
        let last = self.last_create.load(Ordering::Relaxed);
        self.creates.load(Ordering::Relaxed) > 0 || last > 0 && self.now() - last < RECENT.as_millis() as u64
    }

    /// Milliseconds, from 1 on.
    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX - 1) + 1
    }
}

impl Drop for Creating<'_> {
    fn drop(&mut self) {
        self.0.last_create.fetch_max(self.0.now(), Ordering::Relaxed);
        self.0.creates.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[test]
    fn steps_are_short_while_creates_come() {
        let gate = Gate::new();
        let most = || gate.step(|most| most);
        assert_eq!(most(), usize::MAX);
        let create = gate.create();
        assert_eq!(most(), STEP_BYTES);
        drop(create);
        assert_eq!(most(), STEP_BYTES, "the next one may come");
        gate.last_create.store(0, Ordering::Relaxed);
        assert_eq!(most(), usize::MAX);
    }

    #[test]
    fn one_step_at_a_time_while_creates_come() {
        let gate = Gate::new();
        let _create = gate.create();
        let at_once = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    gate.step(|_| {
                        assert_eq!(at_once.fetch_add(1, Ordering::SeqCst), 0);
                        std::thread::yield_now();
                        at_once.fetch_sub(1, Ordering::SeqCst);
                    });
                });
            }
        });
    }

    #[test]
    fn few_long_reads_at_once() {
        let gate = Gate::new();
        let mut inside: Vec<_> = (0..LONG_READS).map(|_| gate.enter().now_or_never().expect("there is room")).collect();
        assert!(gate.enter().now_or_never().is_none());
        inside.pop();
        assert!(gate.enter().now_or_never().is_some());
    }
}
