//! A session's evidence that it was not fenced a moment ago: needed to show state, never to acknowledge a produce.
//!
//! It lasts three quarters of the ttl on the boot-time clock, from the sending of the first attempt of the newest committed segment. A
//! fencer waits a whole ttl after that segment was seen, so clocks may differ in rate by a quarter.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::types::env::Env;
use crate::types::mutant::{self, Mutant};

pub struct Proof {
    env: Env,
    /// `None`: nobody can fence this session while it lives (the local directory's lock file).
    lasts: Option<Duration>,
    sent_at: Mutex<Duration>,
    renewed: watch::Sender<u64>,
}

impl Proof {
    /// `ttl`: the session's, on a shared store. `sent_at`: boot clock when segment 0 was first sent.
    pub fn new(env: Env, ttl: Option<Duration>, sent_at: Duration) -> Proof {
        Proof { env, lasts: ttl.map(|ttl| ttl * 3 / 4), sent_at: Mutex::new(sent_at), renewed: watch::Sender::new(0) }
    }

    pub fn renew(&self, sent_at: Duration) {
        let mut newest = self.sent_at.lock();
        *newest = (*newest).max(sent_at);
        drop(newest);
        self.renewed.send_modify(|count| *count += 1);
    }

    /// Boot clock when the newest committed segment was first sent.
    pub fn sent_at(&self) -> Duration {
        *self.sent_at.lock()
    }

    /// Whether state that was read before this call may be shown.
    pub fn holds(&self) -> bool {
        mutant::on(Mutant::ServeWithoutProof)
            || self.lasts.is_none_or(|lasts| self.env.clock.boot() < *self.sent_at.lock() + lasts)
    }

    /// Waits up to `patience` for the proof to hold; tells whether it does.
    pub async fn awaited(&self, patience: Duration) -> bool {
        let mut renewed = self.renewed.subscribe();
        let wait = async {
            while !self.holds() {
                if renewed.changed().await.is_err() {
                    return;
                }
            }
        };
        let _ = tokio::time::timeout(patience, wait).await;
        self.holds()
    }
}
