//! Long requests give way: a request of 4 MiB may name a quarter of a million things, and whoever works on all of them without a pause
//! keeps every other task of his thread waiting for as long.

use tokio::task::yield_now;

use crate::types::aside::aside_in_turn;

/// Other tasks have their turn after so many elements: about a millisecond of work.
pub const ELEMENTS_AT_ONCE: usize = 1024;

/// A request from this length on is read, and its answer written, in turns of their own.
const LONG_REQUEST_BYTES: usize = 64 << 10;

/// Counts what is worked on.
#[derive(Default)]
pub struct Turns {
    elements: usize,
}

impl Turns {
    /// One more element is done.
    pub async fn next(&mut self) {
        self.elements += 1;
        if self.elements.is_multiple_of(ELEMENTS_AT_ONCE) {
            yield_now().await;
        }
    }
}

/// A step over all of a request of so many bytes is done that can't be cut.
pub async fn after_step(request_bytes: usize) {
    if request_bytes >= LONG_REQUEST_BYTES {
        yield_now().await;
    }
}

/// From here on a step that can't be cut takes milliseconds.
const LONG_STEP_BYTES: usize = 256 << 10;

/// Runs a step over all of a request of so many bytes, or of its answer, that can't be cut: if it is long, aside and in turn.
pub fn uncut<T>(request_bytes: usize, step: impl FnOnce() -> T) -> T {
    if request_bytes >= LONG_STEP_BYTES { aside_in_turn(step) } else { step() }
}

/// So many elements are let go of at once; more aside and in turn.
const LET_GO_AT_ONCE: usize = 4 * ELEMENTS_AT_ONCE;

/// Lets go of what holds so many elements. Of a quarter of a million that takes milliseconds, too.
pub fn let_go<T>(elements: usize, all: T) {
    if elements > LET_GO_AT_ONCE { aside_in_turn(|| drop(all)) } else { drop(all) }
}

#[cfg(test)]
#[path = "turns_tests.rs"]
mod tests;
