//! Steps that can't be cut and take milliseconds.

use std::sync::LazyLock;
use std::thread::available_parallelism;

use parking_lot::{Condvar, Mutex};
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::task::block_in_place;

/// Runs a long step. The other tasks of this thread go on meanwhile on another one, and the kernel shares the processors between the two.
/// (Runtimes of one thread have no other.)
pub fn aside<T>(step: impl FnOnce() -> T) -> T {
    let several = Handle::try_current().is_ok_and(|runtime| runtime.runtime_flavor() == RuntimeFlavor::MultiThread);
    if several { block_in_place(step) } else { step() }
}

/// [`aside`], where only so many go on at once that half of the processors are left to everybody else: whoever acknowledges a record
/// is woken several times on the way, and must find one.
pub fn aside_in_turn<T>(step: impl FnOnce() -> T) -> T {
    static PLACES: LazyLock<Places> =
        LazyLock::new(|| Places::new(available_parallelism().map_or(1, |all| all.get() / 2)));
    aside(|| PLACES.within(step))
}

struct Places {
    free: Mutex<usize>,
    freed: Condvar,
}

impl Places {
    fn new(places: usize) -> Places {
        Places { free: Mutex::new(places.max(1)), freed: Condvar::new() }
    }

    fn within<T>(&self, step: impl FnOnce() -> T) -> T {
        let mut free = self.free.lock();
        self.freed.wait_while(&mut free, |free| *free == 0);
        *free -= 1;
        drop(free);
        let _place = Place(self);
        step()
    }
}

/// A place that is free again when this is dropped, also by a panic.
struct Place<'a>(&'a Places);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        *self.0.free.lock() += 1;
        self.0.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn as_many_steps_at_once_as_there_are_places() {
        for places in 1..4 {
            let (all, inside, most) = (Places::new(places), AtomicUsize::new(0), AtomicUsize::new(0));
            std::thread::scope(|scope| {
                for _ in 0..8 {
                    scope.spawn(|| {
                        all.within(|| {
                            most.fetch_max(inside.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                            // Until all places are taken, or were.
                            while most.load(Ordering::SeqCst) < places {
                                std::thread::yield_now();
                            }
                            inside.fetch_sub(1, Ordering::SeqCst);
                        });
                    });
                }
            });
            assert_eq!(most.into_inner(), places);
            assert_eq!(*all.free.lock(), places);
        }
    }

    #[test]
    fn a_panic_leaves_its_place() {
        let all = Places::new(0);
        assert!(catch_unwind(AssertUnwindSafe(|| all.within(|| panic!("as asked")))).is_err());
        assert_eq!(all.within(|| 7), 7);
    }
}
