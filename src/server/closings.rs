//! Connections that end close their sockets a few at a time.
//!
//! To close a socket costs many times what it costs to see that it has ended: the kernel takes leave of the peer within the call. Of a
//! thousand that end at the same moment all would do it before the next request of anybody else is looked at.

use tokio::sync::{Semaphore, SemaphorePermit};

/// So many are closed before whatever else is ready has its turn.
const AT_ONCE: usize = 2;

pub(super) struct Closings(Semaphore);

impl Closings {
    pub fn new() -> Closings {
        Closings(Semaphore::new(AT_ONCE))
    }

    /// Waits for the turn to close one, which lasts until what is returned is dropped.
    pub async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        let permit = self.0.acquire().await.ok();
        tokio::task::yield_now().await;
        permit
    }
}
