//! An allocator that ends the process when a target holds more than it may: unbounded memory is a finding with a backtrace.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Counts what is held, in bytes asked for.
pub struct Limited;

static HELD: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(usize::MAX);

// SAFETY: every call is the system allocator's with the same arguments.
unsafe impl GlobalAlloc for Limited {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        add(layout.size());
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        add(layout.size());
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Relaxed);
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        add(size);
        HELD.fetch_sub(layout.size(), Relaxed);
        unsafe { System.realloc(at, layout, size) }
    }
}

fn add(bytes: usize) {
    let held = HELD.fetch_add(bytes, Relaxed).wrapping_add(bytes);
    let most = MOST.load(Relaxed);
    // A panic is a finding already; its backtrace may take what it needs.
    if held > most && !std::thread::panicking() {
        MOST.store(usize::MAX, Relaxed);
        let backtrace = std::backtrace::Backtrace::force_capture();
        eprintln!("memory: {bytes} bytes more make {held}, the limit is {most}\n{backtrace}");
        std::process::abort();
    }
}

/// Runs `work`, which may hold at most so many bytes more than now at any moment.
pub fn within<T>(bytes: usize, work: impl FnOnce() -> T) -> T {
    MOST.store(HELD.load(Relaxed).saturating_add(bytes), Relaxed);
    let result = work();
    MOST.store(usize::MAX, Relaxed);
    result
}
