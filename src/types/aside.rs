//! Steps that can't be cut and take milliseconds.

use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::task::block_in_place;

/// Runs a long step. The other tasks of this thread go on meanwhile on another one, and the kernel shares the processors between the two.
/// (Runtimes of one thread have no other.)
pub fn aside<T>(step: impl FnOnce() -> T) -> T {
    let several = Handle::try_current().is_ok_and(|runtime| runtime.runtime_flavor() == RuntimeFlavor::MultiThread);
    if several { block_in_place(step) } else { step() }
}
