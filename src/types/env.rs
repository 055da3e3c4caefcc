//! Time and randomness come in as arguments: production reads the machine's, simulation its own.

use std::sync::Arc;
use std::time::Duration;

use super::TimestampMs;

/// Clocks that code may read. Waiting is done with `tokio::time`, which simulation controls as well.
pub trait Clock: Send + Sync {
    /// The wall clock. It may jump; nothing that must be right depends on it.
    fn wall_ms(&self) -> TimestampMs;

    /// Time since some fixed moment, counted also while the machine sleeps (CLOCK_BOOTTIME): proofs are measured with it.
    fn boot(&self) -> Duration;
}

/// Random bits: names, nonces, jitter.
pub trait Entropy: Send + Sync {
    fn next_u64(&self) -> u64;

    fn next_u128(&self) -> u128 {
        (u128::from(self.next_u64()) << 64) | u128::from(self.next_u64())
    }
}

/// What code may know of the world besides its ports.
#[derive(Clone)]
pub struct Env {
    pub clock: Arc<dyn Clock>,
    pub entropy: Arc<dyn Entropy>,
}

impl Env {
    /// The machine's clocks and the kernel's random numbers.
    pub fn system() -> Env {
        Env { clock: Arc::new(SystemClock), entropy: Arc::new(SystemEntropy) }
    }
}

struct SystemClock;

impl Clock for SystemClock {
    fn wall_ms(&self) -> TimestampMs {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
        now.tv_sec * 1000 + now.tv_nsec / 1_000_000
    }

    fn boot(&self) -> Duration {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap_or(0))
    }
}

struct SystemEntropy;

impl Entropy for SystemEntropy {
    fn next_u64(&self) -> u64 {
        let mut bytes = [0u8; 8];
        let read = rustix::rand::getrandom(&mut bytes[..], rustix::rand::GetRandomFlags::empty());
        assert_eq!(read, Ok(8), "the kernel gives random numbers");
        u64::from_le_bytes(bytes)
    }
}

/// Clocks and randomness that a test sets: time follows `tokio::time`, randomness a seed (splitmix64).
pub mod testing {
    use super::{Arc, Clock, Duration, Entropy, Env, TimestampMs};
    use std::sync::atomic::{AtomicU64, Ordering};

    struct TokioClock {
        start: tokio::time::Instant,
        epoch_ms: TimestampMs,
    }

    impl Clock for TokioClock {
        fn wall_ms(&self) -> TimestampMs {
            self.epoch_ms + i64::try_from(self.start.elapsed().as_millis()).unwrap_or(i64::MAX)
        }

        fn boot(&self) -> Duration {
            self.start.elapsed()
        }
    }

    pub struct SeededEntropy(AtomicU64);

    impl SeededEntropy {
        pub fn new(seed: u64) -> Self {
            SeededEntropy(AtomicU64::new(seed))
        }
    }

    impl Entropy for SeededEntropy {
        fn next_u64(&self) -> u64 {
            let mut z = self.0.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed).wrapping_add(0x9e37_79b9_7f4a_7c15);
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ (z >> 31)
        }
    }

    /// Must be called inside a tokio runtime.
    pub fn env(seed: u64) -> Env {
        Env {
            clock: Arc::new(TokioClock { start: tokio::time::Instant::now(), epoch_ms: 1_700_000_000_000 }),
            entropy: Arc::new(SeededEntropy::new(seed)),
        }
    }
}
