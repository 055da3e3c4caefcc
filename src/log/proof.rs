//! A session's evidence that it was not fenced a moment ago: needed to show state, never to acknowledge a produce.
//!
//! It lasts three quarters of the ttl on the boot-time clock, from the sending of the first attempt of the newest committed segment. A
//! fencer waits a whole ttl after that segment was seen, so clocks may differ in rate by a quarter.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::types::SegmentNumber;
use crate::types::env::Env;
use crate::types::mutant::{self, Mutant};

/// The newest committed segment of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Newest {
    pub number: SegmentNumber,
    pub nonce: u64,
    /// Boot clock when it was first sent.
    pub sent_at: Duration,
}

pub struct Proof {
    env: Env,
    /// `None`: nobody can fence this session while it lives (the local directory's lock file).
    lasts: Option<Duration>,
    newest: Mutex<Newest>,
    renewed: watch::Sender<u64>,
    revoked: AtomicBool,
}

impl Proof {
    /// `ttl`: the session's, on a shared store. `newest`: the last segment that opened it.
    pub fn new(env: Env, ttl: Option<Duration>, newest: Newest) -> Proof {
        Proof {
            env,
            lasts: ttl.map(|ttl| ttl * 3 / 4),
            newest: Mutex::new(newest),
            renewed: watch::Sender::new(0),
            revoked: AtomicBool::new(false),
        }
    }

    /// This one was committed behind all before it.
    pub fn renew(&self, newest: Newest) {
        let mut before = self.newest.lock();
        *before = Newest { sent_at: before.sent_at.max(newest.sent_at), ..newest };
        drop(before);
        self.renewed.send_modify(|count| *count += 1);
    }

    /// Never holds again: the session is about to be closed by itself, and others won't wait for what it proved before.
    pub fn revoke(&self) {
        self.revoked.store(true, Ordering::SeqCst);
        self.renewed.send_modify(|count| *count += 1);
    }

    fn is_revoked(&self) -> bool {
        self.revoked.load(Ordering::SeqCst) && !mutant::on(Mutant::LeaveProven)
    }

    /// Boot clock when the newest committed segment was first sent.
    pub fn sent_at(&self) -> Duration {
        self.newest().sent_at
    }

    pub fn newest(&self) -> Newest {
        *self.newest.lock()
    }

    /// Whether state that was read before this call may be shown.
    pub fn holds(&self) -> bool {
        let lasts = |lasts| self.env.clock.boot() < self.sent_at() + lasts;
        mutant::on(Mutant::ServeWithoutProof) || (!self.is_revoked() && self.lasts.is_none_or(lasts))
    }

    /// Waits up to `patience` for the proof to hold; tells whether it does.
    pub async fn awaited(&self, patience: Duration) -> bool {
        let mut renewed = self.renewed.subscribe();
        let wait = async {
            while !self.holds() && !self.is_revoked() {
                if renewed.changed().await.is_err() {
                    return;
                }
            }
        };
        let _ = tokio::time::timeout(patience, wait).await;
        self.holds()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::env::testing::env;

    #[tokio::test(start_paused = true)]
    async fn what_is_revoked_is_not_waited_for() {
        const TTL: Duration = Duration::from_secs(4);
        for ttl in [Some(TTL), None] {
            let env = env(1);
            let newest = |number| Newest { number, nonce: number, sent_at: env.clock.boot() };
            let proof = Proof::new(env.clone(), ttl, newest(0));
            assert!(proof.holds() && proof.awaited(TTL).await);
            let begun = tokio::time::Instant::now();
            let waits = async {
                tokio::time::sleep(TTL).await;
                assert_eq!(proof.holds(), ttl.is_none());
                proof.awaited(TTL).await
            };
            let revokes = async {
                tokio::time::sleep(TTL + TTL / 2).await;
                proof.revoke();
            };
            let (held, ()) = tokio::join!(waits, revokes);
            assert_eq!(held, ttl.is_none());
            assert_eq!(begun.elapsed(), TTL + TTL / 2);
            proof.renew(newest(1));
            assert!(!proof.holds() && !proof.awaited(TTL).await, "for good");
            assert_eq!(begun.elapsed(), TTL + TTL / 2);
        }
    }
}
