//! Who runs: brokers, each in a runtime of its own, which is dropped when it dies, and all others together in one.
//!
//! Time passes in ticks, in which one runtime after the other runs, in an order of the seed's. The clocks of the runtimes stand still
//! but for that: what sleeps wakes at its millisecond.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::runtime::{Builder, RngSeed, Runtime, UnhandledPanic};
use tokio::task::LocalSet;
use tokio::time::{advance, sleep};

use crate::net::Net;
use crate::world::Dice;

/// Begins a life of a broker's process.
type Program = Box<dyn Fn() -> BoxFuture<'static, ()>>;

struct Broker {
    name: &'static str,
    program: Program,
    /// `None`: it is dead.
    life: Option<Runtime>,
    /// It does not run, as after SIGSTOP.
    frozen: bool,
    /// So long it did not run. When it does again, it is as late as that: all that was to wake it meanwhile does so at once.
    missed: Duration,
}

impl Broker {
    fn renew(&mut self, life: Option<Runtime>) {
        (self.life, self.frozen, self.missed) = (life, false, Duration::ZERO);
    }

    fn step(&mut self, tick: Duration) {
        let Some(life) = &self.life else { return };
        if self.frozen {
            self.missed += tick;
            return;
        }
        let missed = std::mem::take(&mut self.missed);
        life.block_on(async {
            if !missed.is_zero() {
                advance(missed).await;
            }
            sleep(tick).await;
        });
    }
}

pub struct Hosts {
    brokers: Vec<Broker>,
    /// Those who never die.
    others: (Runtime, LocalSet),
    /// Clients that have not come to their ends.
    busy: Rc<Cell<usize>>,
    net: Arc<Net>,
    dice: Dice,
    tick: Duration,
    elapsed: Duration,
}

impl Hosts {
    pub fn new(net: Arc<Net>, dice: Dice, tick: Duration) -> Hosts {
        let mut local = LocalSet::new();
        local.unhandled_panic(UnhandledPanic::ShutdownRuntime);
        let others = (runtime(&dice), local);
        Hosts { brokers: Vec::new(), others, busy: Rc::default(), net, dice, tick, elapsed: Duration::ZERO }
    }

    /// A broker whose first life begins at once.
    pub fn broker(&mut self, name: &'static str, program: impl Fn() -> BoxFuture<'static, ()> + 'static) {
        let (life, frozen, missed) = (None, false, Duration::ZERO);
        self.brokers.push(Broker { name, program: Box::new(program), life, frozen, missed });
        self.bounce(name);
    }

    /// Runs as long as anything does.
    pub fn besides(&mut self, task: impl Future<Output = ()> + 'static) {
        drop(self.others.1.spawn_local(task));
    }

    /// The run is over when all clients are.
    pub fn client(&mut self, task: impl Future<Output = ()> + 'static) {
        self.busy.set(self.busy.get() + 1);
        let busy = self.busy.clone();
        self.besides(async move {
            task.await;
            busy.set(busy.get() - 1);
        });
    }

    pub fn elapsed(&self) -> Duration {
        self.elapsed
    }

    pub fn crash(&mut self, name: &str) {
        self.named(name).renew(None);
    }

    /// Begins a new life, in place of the present one if there is one.
    pub fn bounce(&mut self, name: &str) {
        let life = runtime(&self.dice);
        let broker = self.named(name);
        broker.renew(None);
        life.spawn((broker.program)());
        broker.renew(Some(life));
    }

    /// Stops a broker's process between two steps, or lets it go on.
    pub fn freeze(&mut self, name: &str, frozen: bool) {
        self.named(name).frozen = frozen;
    }

    pub fn is_running(&self, name: &str) -> bool {
        self.brokers.iter().any(|broker| broker.name == name && broker.life.is_some())
    }

    fn named(&mut self, name: &str) -> &mut Broker {
        self.brokers.iter_mut().find(|broker| broker.name == name).expect("it is one of the plan's")
    }

    /// One tick; tells whether all clients are done.
    pub fn step(&mut self) -> bool {
        self.net.deliver(self.elapsed);
        let sides = self.brokers.len() + 1;
        let first = self.dice.below(sides as u64) as usize;
        let tick = self.tick;
        for side in (first..sides).chain(0..first) {
            match self.brokers.get_mut(side) {
                Some(broker) => broker.step(tick),
                None => self.others.0.block_on(self.others.1.run_until(async { sleep(tick).await })),
            }
        }
        self.elapsed += self.tick;
        self.busy.get() == 0
    }
}

fn runtime(dice: &Dice) -> Runtime {
    let seed = RngSeed::from_bytes(&dice.below(u64::MAX).to_be_bytes());
    let mut builder = Builder::new_current_thread();
    builder.enable_time().start_paused(true).rng_seed(seed).unhandled_panic(UnhandledPanic::ShutdownRuntime);
    builder.build().expect("a runtime without i/o needs nothing")
}

#[cfg(test)]
mod tests {
    use alluvium::types::env::testing::SeededEntropy;
    use parking_lot::Mutex;
    use tokio::time::Instant;

    use super::*;

    #[test]
    fn what_is_due_while_a_broker_stands_still_comes_at_once_when_it_goes_on() {
        let dice = Dice::new(Arc::new(SeededEntropy::new(1)));
        let mut hosts = Hosts::new(Net::new(dice.clone()), dice, Duration::from_millis(1));
        let seen = Arc::new(Mutex::new(Vec::new()));
        let noted = seen.clone();
        hosts.broker("a", move || {
            let noted = noted.clone();
            Box::pin(async move {
                let begun = Instant::now();
                for due in [5, 20, 30, 50].map(Duration::from_millis) {
                    let noted = noted.clone();
                    tokio::spawn(async move {
                        sleep(due - begun.elapsed()).await;
                        noted.lock().push((due.as_millis(), begun.elapsed().as_millis()));
                    });
                }
                std::future::pending().await
            })
        });
        for step in 0..60 {
            match step {
                10 => hosts.freeze("a", true),
                40 => hosts.freeze("a", false),
                _ => {}
            }
            if step == 40 {
                assert_eq!(seen.lock().len(), 1, "it stands still");
            }
            hosts.step();
        }
        let late: Vec<_> = seen.lock().iter().map(|(due, came)| (*due, came - due)).collect();
        assert!(matches!(late[..], [(5, ..=1), (20, 20..=22), (30, 10..=12), (50, ..=2)]), "{late:?}");
    }
}
