//! Threads that write. A fixed few, so that a create neither waits for a thread to be born nor stands behind reads, and so that
//! the fsyncs of neighbours meet.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;

/// As many as segments upload side by side by default.
const WRITERS: usize = 8;

type Job = Box<dyn FnOnce() + Send>;

pub struct WriterPool {
    queue: Arc<Queue>,
}

#[derive(Default)]
struct Queue {
    state: Mutex<QueueState>,
    changed: Condvar,
}

#[derive(Default)]
struct QueueState {
    jobs: VecDeque<Job>,
    closed: bool,
}

impl WriterPool {
    pub fn start() -> WriterPool {
        let queue = Arc::new(Queue::default());
        for number in 0..WRITERS {
            let queue = Arc::clone(&queue);
            let thread = std::thread::Builder::new().name(format!("store-write-{number}")).spawn(move || queue.work());
            if let Err(error) = thread {
                tracing::warn!(%error, number, "fewer writer threads than planned");
            }
        }
        WriterPool { queue }
    }

    /// Runs `job` on a writer thread, to its end even if nobody waits any more; `None` when it panicked or no thread is left.
    pub async fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        let (sender, receiver) = oneshot::channel();
        let job = Box::new(move || drop(sender.send(job())));
        self.queue.state.lock().jobs.push_back(job);
        self.queue.changed.notify_one();
        receiver.await.ok()
    }
}

impl Drop for WriterPool {
    /// Threads end when the queue is empty.
    fn drop(&mut self) {
        self.queue.state.lock().closed = true;
        self.queue.changed.notify_all();
    }
}

impl Queue {
    fn work(&self) {
        loop {
            let job = {
                let mut state = self.state.lock();
                loop {
                    if let Some(job) = state.jobs.pop_front() {
                        break job;
                    }
                    if state.closed {
                        return;
                    }
                    self.changed.wait(&mut state);
                }
            };
            if std::panic::catch_unwind(std::panic::AssertUnwindSafe(job)).is_err() {
                tracing::error!("a write panicked");
            }
        }
    }
}
