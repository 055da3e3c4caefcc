//! What all parts of one run share: simulated time, the trace, the judge, and the switches that the fault plan throws.
//!
//! One run lives on one thread; the locks are there because the broker's ports must be `Send + Sync`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use alluvium::types::env::{Clock, Entropy, Env, testing::SeededEntropy};
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::judge::Judge;
use crate::net::Net;
use crate::plan::{Objects, Plan, Program, Way};

/// 2023-11-14, where the wall clocks of all hosts begin.
const EPOCH_MS: i64 = 1_700_000_000_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Faults are injected.
    Storm,
    /// The weather is fair: everything has to work again.
    Quiet,
    /// The broker was restarted once more: all that the bucket holds must come back.
    Reborn,
    Done,
}

/// The sequence of everything that happened. Two runs of one seed must have the same.
pub struct Trace {
    hash: u64,
    events: u64,
    kept: Option<Vec<String>>,
}

impl Trace {
    fn add(&mut self, line: String) {
        self.events += 1;
        for byte in line.bytes() {
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        if let Some(kept) = &mut self.kept {
            kept.push(line);
        }
    }
}

/// What may be switched on one host that runs a broker.
pub struct HostSwitches {
    /// Calls of the store wait while it is true: the process is stopped, as far as the bucket can tell.
    pub paused: watch::Sender<bool>,
    /// What of the store is out of reach, and in which direction.
    pub cut: Mutex<Option<(Objects, Way)>>,
    /// Answers to reads of the metadata table come up to so many milliseconds late.
    pub late_reads_ms: AtomicU64,
    /// The broker may be started.
    pub allowed: watch::Sender<bool>,
    pub wall_skew_ms: Mutex<i64>,
    /// The boot clock runs at so many thousandths, from a moment of its own.
    pub rate: u64,
    pub booted: Duration,
    pub lives: AtomicU64,
    /// What the next life is.
    pub program: Mutex<Program>,
    /// It closed its own session, and nobody has looked yet.
    pub closed_itself: AtomicBool,
    /// To whom it handed leases over, and nobody has looked yet.
    pub handed_to: Mutex<Vec<String>>,
    /// Why the process ended by itself, until somebody has seen it.
    pub exited: Mutex<Option<Exit>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    Fenced,
    Other,
}

pub struct World {
    pub seed: u64,
    now_micros: AtomicU64,
    trace: Mutex<Trace>,
    pub judge: Mutex<Judge>,
    pub phase: watch::Sender<Phase>,
    pub hosts: BTreeMap<&'static str, HostSwitches>,
    /// The hosts that clients should find alive in the quiet phases.
    pub alive: Mutex<Vec<&'static str>>,
    /// All times of clients are so many times as long.
    pub scale: u32,
    pub night: AtomicBool,
    pub counters: Mutex<BTreeMap<&'static str, u64>>,
    pub net: Arc<Net>,
}

impl World {
    pub fn new(seed: u64, judge: Judge, plan: &Plan, keep_trace: bool) -> Arc<World> {
        let hosts = &plan.hosts;
        let switches = |(at, name): (usize, &&'static str)| {
            let switches = HostSwitches {
                paused: watch::Sender::new(false),
                cut: Mutex::new(None),
                late_reads_ms: AtomicU64::new(0),
                allowed: watch::Sender::new(false),
                wall_skew_ms: Mutex::new(0),
                rate: plan.rate(name),
                booted: Duration::from_secs(1000) * (at as u32 + 1),
                lives: AtomicU64::new(0),
                program: Mutex::new(Program::Newest),
                closed_itself: AtomicBool::new(false),
                handed_to: Mutex::default(),
                exited: Mutex::new(None),
            };
            (*name, switches)
        };
        Arc::new(World {
            seed,
            now_micros: AtomicU64::new(0),
            trace: Mutex::new(Trace { hash: 0xcbf2_9ce4_8422_2325, events: 0, kept: keep_trace.then(Vec::new) }),
            judge: Mutex::new(judge),
            phase: watch::Sender::new(Phase::Storm),
            hosts: hosts.iter().enumerate().map(switches).collect(),
            alive: Mutex::new(vec![hosts[0]]),
            scale: u32::try_from(plan.scale).expect("small"),
            night: AtomicBool::new(false),
            counters: Mutex::default(),
            net: Net::new(Dice::new(Arc::new(SeededEntropy::new(seed.rotate_left(17))))),
        })
    }

    pub fn set_now(&self, now: Duration) {
        self.now_micros.store(u64::try_from(now.as_micros()).expect("short runs"), Ordering::Relaxed);
    }

    pub fn now(&self) -> Duration {
        Duration::from_micros(self.now_micros.load(Ordering::Relaxed))
    }

    pub fn note(&self, who: &str, what: impl std::fmt::Display) {
        let line = format!("{:9.3} {who:<9} {what}", self.now().as_secs_f64());
        self.trace.lock().add(line);
    }

    pub fn count(&self, what: &'static str, by: u64) {
        *self.counters.lock().entry(what).or_default() += by;
    }

    /// Hash and number of events.
    pub fn fingerprint(&self) -> (u64, u64) {
        let trace = self.trace.lock();
        (trace.hash, trace.events)
    }

    pub fn timeline(&self) -> Vec<String> {
        self.trace.lock().kept.take().unwrap_or_default()
    }

    pub fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    /// Brokers that somebody may hope to find.
    pub fn up(&self) -> Vec<&'static str> {
        if self.phase() != Phase::Storm {
            return self.alive.lock().clone();
        }
        self.hosts.iter().filter(|(_, host)| *host.allowed.borrow()).map(|(name, _)| *name).collect()
    }

    /// Lets the judge look, and notes what it objects to.
    pub fn judge<R>(&self, look: impl FnOnce(&mut Judge, Duration) -> R) -> R {
        let now = self.now();
        let mut judge = self.judge.lock();
        let before = judge.violations().len();
        let result = look(&mut judge, now);
        for violation in &judge.violations()[before..] {
            self.note("JUDGE", violation);
        }
        result
    }

    /// Clocks and random numbers of one life of a broker.
    pub fn env(self: &Arc<Self>, host: &'static str, life: u64) -> Env {
        let clock = Arc::new(HostClock { world: self.clone(), host });
        Env { clock, entropy: self.entropy(host, life) }
    }

    pub fn entropy(&self, name: &str, salt: u64) -> Arc<dyn Entropy> {
        let mut hash = self.seed ^ salt.rotate_left(32);
        for byte in name.bytes() {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(5);
        }
        Arc::new(SeededEntropy::new(hash))
    }
}

/// Waits for a switch to be as wanted.
pub async fn until<T>(switch: &watch::Sender<T>, wanted: impl FnMut(&T) -> bool) {
    // The switch outlives its watchers, and no look at it may be kept: it is a lock.
    drop(switch.subscribe().wait_for(wanted).await);
}

struct HostClock {
    world: Arc<World>,
    host: &'static str,
}

impl Clock for HostClock {
    fn wall_ms(&self) -> i64 {
        let elapsed = i64::try_from(self.world.now().as_millis()).expect("short runs");
        EPOCH_MS + elapsed + *self.world.hosts[self.host].wall_skew_ms.lock()
    }

    fn boot(&self) -> Duration {
        let host = &self.world.hosts[self.host];
        host.booted + self.world.now() * u32::try_from(host.rate).expect("about a thousand") / 1000
    }
}

/// Random choices of the simulation itself.
#[derive(Clone)]
pub struct Dice(Arc<dyn Entropy>);

impl Dice {
    pub fn new(entropy: Arc<dyn Entropy>) -> Dice {
        Dice(entropy)
    }

    pub fn below(&self, limit: u64) -> u64 {
        self.0.next_u64() % limit.max(1)
    }

    pub fn between(&self, low: u64, high: u64) -> u64 {
        low + self.below(high - low)
    }

    pub fn ms(&self, low: u64, high: u64) -> Duration {
        Duration::from_millis(self.between(low, high))
    }

    pub fn chance(&self, percent: u64) -> bool {
        self.below(100) < percent
    }
}
