//! What goes wrong, and when: a plan is made from the seed before the run begins.

use std::time::Duration;

use alluvium::store::fault::FaultRates;

use crate::world::Dice;

pub const A: &str = "broker-a";
pub const B: &str = "broker-b";

/// What a schedule is mostly about. The seed picks one; all get some faults of the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The process dies and comes back.
    Crashes,
    /// Answers of the store are lost, writes land late, calls are refused.
    Unclear,
    /// The store denies everything for a while.
    Denied,
    /// Calls of the store hang or are slow.
    Slow,
    /// Reads come back truncated or with a wrong bit.
    Corrupt,
    /// Links between clients and the broker are cut or held.
    Network,
    /// A second broker with the same node id takes over.
    Takeover,
    /// A broker stands still, is replaced, and goes on.
    Paused,
    /// The same, only its way to the store stands still; many changes of metadata meanwhile.
    CutOff,
    /// Two brokers share the partitions; they die, stand still and leave, and the other takes over.
    Neighbours,
    /// An object of the log is damaged or lost for good: an error, never a gap.
    Damage,
}

pub const KINDS: [Kind; 11] = [
    Kind::Crashes,
    Kind::Unclear,
    Kind::Denied,
    Kind::Slow,
    Kind::Corrupt,
    Kind::Network,
    Kind::Takeover,
    Kind::Paused,
    Kind::CutOff,
    Kind::Damage,
    Kind::Neighbours,
];

#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    Start(&'static str),
    Crash(&'static str),
    /// Ends by request, as SIGTERM does.
    Restart(&'static str),
    Partition(&'static str, &'static str),
    Repair(&'static str, &'static str),
    Hold(&'static str, &'static str),
    Release(&'static str, &'static str),
    Rates(&'static str, FaultRates),
    Deny(&'static str, bool),
    PauseStore(&'static str, bool),
    WallClock(&'static str, i64),
    Damage,
    /// The storm is over; this broker survives it.
    Quiet(&'static str),
}

/// Its last segments may not be in the bucket yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AtHandover {
    Nothing,
    Crash,
    /// For so many milliseconds.
    StandStill(u64),
}

/// Everything that the seed decides about a run.
#[derive(Clone, Debug)]
pub struct Plan {
    pub kind: Kind,
    pub hosts: Vec<&'static str>,
    pub clients: Vec<&'static str>,
    pub partitions: i32,
    pub latency_ms: (u64, u64),
    pub flush_interval_ms: u64,
    pub ttl_ms: u64,
    pub patience: Duration,
    pub meta_generation: u64,
    pub merging: Merging,
    pub admin_pace_ms: (u64, u64),
    pub producer_pace_ms: (u64, u64),
    pub deletes: bool,
    /// By time, ascending.
    pub actions: Vec<(Duration, Action)>,
    /// The brokers have node ids of their own, and share the partitions.
    pub neighbours: bool,
    /// What befalls a broker that hands leases over, at once, half of the times.
    pub at_handover: AtHandover,
    /// In the quiet phases everything must have come back within this.
    pub limit: Duration,
}

/// How often segments are merged, and how soon they go: in most runs several times within the storm.
#[derive(Clone, Debug, PartialEq)]
pub struct Merging {
    pub window_ms: u64,
    pub window_bytes: u64,
    pub unmerged_max: usize,
    pub grace_ms: u64,
    /// Little or nothing is in memory: merges and readers go to the store.
    pub tail_bytes: usize,
}

impl Merging {
    fn new(dice: &Dice) -> Merging {
        let rarely = dice.chance(15);
        Merging {
            window_ms: if rarely { 60_000 } else { dice.between(20, 500) },
            window_bytes: if dice.chance(50) { dice.between(1 << 10, 20 << 10) } else { 1 << 20 },
            unmerged_max: if rarely { 600 } else { dice.between(4, 80) as usize },
            grace_ms: dice.between(20, 1500),
            tail_bytes: if dice.chance(60) { dice.between(0, 64 << 10) as usize } else { 1 << 20 },
        }
    }
}

fn ms(value: u64) -> Duration {
    Duration::from_millis(value)
}

fn rates(dice: &Dice, heavy: bool, max_delay_ms: u64) -> FaultRates {
    let scale = if heavy { 8 } else { 2 };
    FaultRates {
        refused: (dice.below(10) * scale) as u32,
        lost_answer: (dice.below(10) * scale) as u32,
        lands_late: (dice.below(10) * scale) as u32,
        delay: (dice.below(10) * scale) as u32,
        hang: 0,
        truncated: 0,
        corrupt: 0,
        max_delay: ms(max_delay_ms),
    }
}

impl Plan {
    pub fn new(seed: u64, dice: &Dice, kind: Option<Kind>) -> Plan {
        let kind = kind.unwrap_or(KINDS[(seed % KINDS.len() as u64) as usize]);
        let two = matches!(kind, Kind::Takeover | Kind::Paused | Kind::CutOff | Kind::Neighbours);
        let mut clients = vec!["idem-1", "reader-1", "admin-1"];
        if dice.chance(60) {
            clients.push("idem-2");
        }
        if dice.chance(50) {
            clients.push("plain-1");
        }
        if dice.chance(40) {
            clients.push("reader-2");
        }
        if dice.chance(35) {
            clients.extend(["member-1", "member-2", "member-3"]);
        }
        if dice.chance(30) {
            clients.extend(["churn-1", "churn-2"]);
        }
        if dice.chance(35) {
            clients.push("silent-1");
        }
        let busy_table = kind == Kind::CutOff || dice.chance(25);
        let mut plan = Plan {
            kind,
            hosts: if two { vec![A, B] } else { vec![A] },
            clients,
            partitions: dice.between(1, 4) as i32,
            latency_ms: (1, dice.between(3, 25)),
            flush_interval_ms: dice.between(1, 30),
            ttl_ms: dice.between(400, 1200),
            patience: ms(match kind {
                Kind::CutOff => 4000,
                // Who does not wait for long for one broker soon asks the other.
                Kind::Neighbours => dice.between(300, 900),
                _ => dice.between(600, 2500),
            }),
            meta_generation: dice.between(4, 20),
            merging: Merging::new(dice),
            admin_pace_ms: if busy_table { (1, 30) } else { (50, 250) },
            producer_pace_ms: (1, dice.between(10, 120)),
            deletes: dice.chance(60),
            actions: Vec::new(),
            neighbours: kind == Kind::Neighbours,
            at_handover: AtHandover::Nothing,
            limit: ms(match kind {
                Kind::Slow => 150_000,
                Kind::Damage => 6_000,
                _ => 60_000,
            }),
        };
        let length = plan.storm(dice);
        let survivor = if two && !(plan.neighbours && dice.chance(50)) { B } else { A };
        plan.actions.push((ms(length), Action::Quiet(survivor)));
        plan.actions.sort_by_key(|(at, _)| *at);
        plan
    }

    fn at(&mut self, ms_at: u64, action: Action) {
        self.actions.push((ms(ms_at), action));
    }

    /// Plans the faults; returns how long the storm lasts, in milliseconds.
    fn storm(&mut self, dice: &Dice) -> u64 {
        let length = dice.between(1600, 3500);
        self.at(0, Action::Start(A));
        let heavy = self.kind == Kind::Unclear;
        if heavy || dice.chance(60) {
            let rates = rates(dice, heavy, if dice.chance(50) { 300 } else { 4000 });
            self.at(dice.between(0, 800), Action::Rates(A, rates.clone()));
            if dice.chance(50) && self.hosts.len() > 1 {
                self.at(dice.between(0, 800), Action::Rates(B, rates));
            }
        }
        if dice.chance(30) {
            let jump = dice.between(0, 7_200_000) as i64 - 3_600_000;
            self.at(dice.between(300, length), Action::WallClock(A, jump));
        }
        let crashes = match self.kind {
            Kind::Crashes => dice.between(2, 6),
            Kind::Unclear | Kind::Slow | Kind::Corrupt => dice.between(1, 4),
            Kind::Denied | Kind::Network => dice.below(2),
            _ => 0,
        };
        for _ in 0..crashes {
            let end = if dice.chance(80) { Action::Crash(A) } else { Action::Restart(A) };
            self.at(dice.between(500, length), end);
        }
        match self.kind {
            Kind::Crashes | Kind::Unclear => {}
            Kind::Denied => {
                for _ in 0..dice.between(1, 4) {
                    let from = dice.between(500, length);
                    self.at(from, Action::Deny(A, true));
                    self.at(from + dice.between(20, 1500), Action::Deny(A, false));
                }
            }
            Kind::Slow => {
                let hang = if dice.chance(60) { dice.between(2, 20) as u32 } else { 0 };
                let slow = FaultRates { hang, delay: 150, max_delay: ms(2000), ..FaultRates::default() };
                self.at(dice.between(400, 1200), Action::Rates(A, slow));
            }
            Kind::Corrupt => {
                let bad = FaultRates { truncated: 40, corrupt: 80, max_delay: ms(50), ..FaultRates::default() };
                self.at(dice.between(0, 1200), Action::Rates(A, bad));
            }
            Kind::Network => self.network(dice, length),
            Kind::Takeover => self.takeover(dice, length),
            Kind::Neighbours => return self.neighbours(dice, length),
            Kind::Paused => return self.stand_still(dice, true),
            Kind::CutOff => return self.stand_still(dice, false),
            Kind::Damage => {
                self.at(dice.between(500, 1000), Action::Crash(A));
                let at = dice.between(1500, length + 1);
                self.at(at, Action::Crash(A));
                self.at(at, Action::Damage);
            }
        }
        length
    }

    fn network(&mut self, dice: &Dice, length: u64) {
        for _ in 0..dice.between(2, 6) {
            let client = self.clients[dice.below(self.clients.len() as u64) as usize];
            let from = dice.between(400, length);
            let until = from + dice.between(20, 1500);
            if dice.chance(50) {
                self.at(from, Action::Partition(client, A));
                self.at(until, Action::Repair(client, A));
            } else {
                self.at(from, Action::Hold(client, A));
                self.at(until, Action::Release(client, A));
            }
        }
    }

    fn takeover(&mut self, dice: &Dice, length: u64) {
        self.at(dice.between(600, length), Action::Start(B));
        if dice.chance(40) {
            self.at(dice.between(600, length), Action::Crash(A));
        }
    }

    /// Each of two brokers dies, leaves, is cut off from its clients or from the store, or stands still for longer than the other waits.
    fn neighbours(&mut self, dice: &Dice, length: u64) -> u64 {
        let length = length + 2 * self.ttl_ms;
        self.at_handover = match dice.below(4) {
            0 => AtHandover::Nothing,
            1 => AtHandover::Crash,
            _ => AtHandover::StandStill(dice.between(self.ttl_ms / 8, 3 * self.ttl_ms)),
        };
        if self.at_handover != AtHandover::Nothing {
            // So long segments are in the making, and are not yet in the bucket when their leases go.
            self.flush_interval_ms = dice.between(50, 200);
        }
        self.at(dice.between(0, 1000), Action::Start(B));
        for _ in 0..dice.between(1, 5) {
            let host = if dice.chance(50) { A } else { B };
            let from = dice.between(1200, length);
            let until = from + dice.between(self.ttl_ms / 2, 3 * self.ttl_ms);
            match dice.below(8) {
                0 => self.at(from, Action::Crash(host)),
                1 => self.at(from, Action::Restart(host)),
                2 => {
                    self.at(from, Action::Deny(host, true));
                    self.at(until, Action::Deny(host, false));
                }
                both_or_store => {
                    self.at(from, Action::PauseStore(host, true));
                    self.at(until, Action::PauseStore(host, false));
                    if both_or_store == 3 {
                        for client in self.clients.clone() {
                            self.at(from, Action::Hold(client, host));
                            self.at(until + dice.below(30), Action::Release(client, host));
                        }
                    }
                }
            }
        }
        length
    }

    /// A stops, B takes over, A goes on much later.
    fn stand_still(&mut self, dice: &Dice, network_too: bool) -> u64 {
        let from = dice.between(700, 1500);
        let next = from + dice.between(20, 600);
        let until = next + dice.between(800, 2500);
        self.at(from, Action::PauseStore(A, true));
        self.at(next, Action::Start(B));
        self.at(until, Action::PauseStore(A, false));
        if network_too {
            for client in self.clients.clone() {
                self.at(from, Action::Hold(client, A));
                self.at(until + dice.below(30), Action::Release(client, A));
            }
        }
        until + dice.between(300, 800)
    }
}
