//! What goes wrong, and when: a plan is made from the seed before the run begins.
//!
//! A plan has parts, which are numbered. Any of them may be left out (`--without 3,7`), so that a schedule that fails can be made smaller
//! until every part of it is needed; what is left is played as it was, on the same clocks.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use alluvium::store::fault::FaultRates;

use crate::world::Dice;

pub const HOSTS: [&str; 5] = ["broker-a", "broker-b", "broker-c", "broker-d", "broker-e"];
pub const A: &str = HOSTS[0];
pub const B: &str = HOSTS[1];

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
    /// An object of the log is damaged or lost for good: an error, never a gap.
    Damage,
    /// Two brokers share the partitions; they die, stand still and leave, and the other takes over.
    Neighbours,
    /// Two to five brokers that come, leave, die, stand still and are cut off from one thing or the other.
    Cluster,
    /// From one broker to three, to five, to two.
    Scaling,
    /// A cluster of older programs that are exchanged one after the other, until its feature level rises.
    Upgrade,
    /// A lease is handed over by a broker that does not hear of it, and comes back before it does.
    Regain,
    /// A broker stands still for minutes or hours.
    Long,
}

/// By seed, modulo their number.
pub const KINDS: [Kind; 16] = [
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
    Kind::Cluster,
    Kind::Scaling,
    Kind::Upgrade,
    Kind::Regain,
    Kind::Long,
];

pub fn kind_of(seed: u64) -> Kind {
    KINDS[(seed % KINDS.len() as u64) as usize]
}

/// What does not get through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Both,
    /// Requests, or what the first named sends to the second.
    There,
    /// Answers, or the other direction.
    Back,
}

/// Which objects of the store are out of reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Objects {
    All,
    /// The metadata table, its snapshots and markers.
    Metadata,
    /// Segments and runs.
    Data,
}

impl Objects {
    pub fn hold(self, key: &str) -> bool {
        match self {
            Objects::All => true,
            Objects::Metadata => key.starts_with("meta/"),
            Objects::Data => !key.starts_with("meta/"),
        }
    }
}

/// Which program a broker is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// It supports feature level 1: what it meets of level 2 ends it.
    Older,
    /// This one, told to leave the level at 1.
    Held,
    Newest,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// May be started, from now on.
    Start(&'static str),
    /// Dies and is started again.
    Crash(&'static str),
    /// Ends by request, as by SIGTERM, and is started again.
    Restart(&'static str),
    /// Ends by request and stays away until [`Action::Start`].
    Leave(&'static str),
    /// Dies and stays away until [`Action::Start`].
    Die(&'static str),
    /// Is this program from its next start on.
    Exchange(&'static str, Program),
    Cut(&'static str, &'static str, Way),
    Mend(&'static str, &'static str),
    /// What is sent waits for [`Action::Release`].
    Hold(&'static str, &'static str),
    Release(&'static str, &'static str),
    Rates(&'static str, FaultRates),
    Deny(&'static str, bool),
    /// The process stops, all of it, as by SIGSTOP.
    Freeze(&'static str, bool),
    /// Calls of the store wait until it is over, and go on.
    PauseStore(&'static str, bool),
    /// Calls of the store are lost on the way.
    CutStore(&'static str, Objects, Way),
    MendStore(&'static str),
    /// Answers to reads of the metadata table come up to so many milliseconds late: they say what was true when the read began.
    LateReads(&'static str, u64),
    WallClock(&'static str, i64),
    /// Clients do next to nothing.
    Night(bool),
    Damage,
    /// The storm is over; these brokers are there from now on, and no others.
    Quiet(Vec<&'static str>),
}

/// What befalls a broker that hands leases over, at once, half of the times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AtHandover {
    Nothing,
    /// Its last segments may not be in the bucket yet.
    Crash,
    /// For so many milliseconds.
    StandStill(u64),
    /// It hears nothing from the metadata table for so long; who was handed the leases is told to leave meanwhile.
    Regain {
        deaf_ms: u64,
        leaves_after_ms: u64,
    },
}

/// Something that a plan can do without.
#[derive(Clone, Debug, PartialEq)]
pub enum Part {
    Client(&'static str),
    /// What goes wrong, and how it ends.
    Fault(Vec<(Duration, Action)>),
    AtHandover(AtHandover),
    /// Who closes its own session hears nothing from the metadata table from then on, for so many milliseconds.
    AtClose(u64),
    /// The clock of this host runs at so many thousandths of time.
    Rate(&'static str, u64),
    Merging(Merging),
}

impl fmt::Display for Part {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Part::Client(name) => write!(out, "client {name}"),
            Part::Fault(actions) => {
                let text: Vec<String> =
                    actions.iter().map(|(at, action)| format!("{:.3} {action:?}", at.as_secs_f64())).collect();
                write!(out, "{}", text.join(", "))
            }
            Part::AtHandover(what) => write!(out, "at a hand-over: {what:?}"),
            Part::AtClose(ms) => write!(out, "who closes its session is deaf for {ms} ms"),
            Part::Rate(host, permille) => write!(out, "the clock of {host} runs at {permille} ‰"),
            Part::Merging(merging) => write!(out, "{merging:?}"),
        }
    }
}

/// Everything that the seed decides about a run.
#[derive(Clone, Debug)]
pub struct Plan {
    pub kind: Kind,
    pub hosts: Vec<&'static str>,
    /// Brokers that clients keep to, whether they should or not.
    pub homes: BTreeMap<&'static str, &'static str>,
    pub partitions: i32,
    pub latency_ms: (u64, u64),
    pub flush_interval_ms: u64,
    pub ttl_ms: u64,
    pub patience: Duration,
    pub meta_generation: u64,
    pub admin_pace_ms: (u64, u64),
    pub producer_pace_ms: (u64, u64),
    pub deletes: bool,
    /// The first broker, and the end of the storm.
    pub frame: Vec<(Duration, Action)>,
    pub parts: Vec<Part>,
    /// The brokers have node ids of their own, and share the partitions.
    pub neighbours: bool,
    /// The feature level is raised when all brokers have supported that for so long.
    pub settle_ms: u64,
    /// In the quiet phases everything must have come back within this.
    pub limit: Duration,
    /// Everything takes so many times as long as usual: the steps of the simulation, too.
    pub scale: u64,
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

    /// Nothing is merged in a run's time.
    const NEVER: Merging = Merging {
        window_ms: 3_600_000,
        window_bytes: 1 << 30,
        unmerged_max: 1_000_000,
        grace_ms: 1500,
        tail_bytes: 1 << 20,
    };
}

pub(crate) fn ms(value: u64) -> Duration {
    Duration::from_millis(value)
}

pub(crate) fn rates(dice: &Dice, heavy: bool, max_delay_ms: u64) -> FaultRates {
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

fn clients(dice: &Dice, kind: Kind) -> Vec<&'static str> {
    let mut clients = vec!["idem-1", "reader-1", "admin-1"];
    let mut add = |percent: u64, names: &[&'static str]| {
        if dice.chance(percent) {
            clients.extend(names);
        }
    };
    add(60, &["idem-2"]);
    add(50, &["plain-1"]);
    add(40, &["reader-2"]);
    // Members would die of the pauses of a long run.
    add(if kind == Kind::Long { 0 } else { 35 }, &["member-1", "member-2", "member-3"]);
    add(30, &["churn-1", "churn-2"]);
    add(35, &["silent-1"]);
    clients
}

impl Plan {
    pub fn new(seed: u64, dice: &Dice, kind: Option<Kind>) -> Plan {
        let kind = kind.unwrap_or(kind_of(seed));
        let brokers = match kind {
            Kind::Takeover | Kind::Paused | Kind::CutOff | Kind::Neighbours => 2,
            Kind::Cluster => dice.between(2, 6) as usize,
            Kind::Scaling => 5,
            Kind::Upgrade => dice.between(2, 5) as usize,
            Kind::Regain | Kind::Long => dice.between(2, 4) as usize,
            _ => 1,
        };
        let clients = clients(dice, kind);
        let busy_table = kind == Kind::CutOff || dice.chance(25);
        let neighbours = matches!(
            kind,
            Kind::Neighbours | Kind::Cluster | Kind::Scaling | Kind::Upgrade | Kind::Regain | Kind::Long
        );
        let mut plan = Plan {
            kind,
            hosts: HOSTS[..brokers].to_vec(),
            homes: BTreeMap::new(),
            partitions: dice.between(1, 4) as i32,
            latency_ms: (1, dice.between(3, 25)),
            flush_interval_ms: dice.between(1, 30),
            ttl_ms: dice.between(400, 1200),
            patience: ms(match kind {
                Kind::CutOff => 4000,
                // Who does not wait for long for one broker soon asks the other.
                _ if neighbours => dice.between(300, 900),
                _ => dice.between(600, 2500),
            }),
            meta_generation: dice.between(4, 20),
            admin_pace_ms: if busy_table { (1, 30) } else { (50, 250) },
            producer_pace_ms: (1, dice.between(10, 120)),
            deletes: dice.chance(60),
            frame: Vec::new(),
            parts: clients.into_iter().map(Part::Client).collect(),
            neighbours,
            settle_ms: 600_000,
            limit: ms(match kind {
                Kind::Slow => 150_000,
                Kind::Damage => 6_000,
                _ => 60_000,
            }),
            scale: 1,
        };
        plan.parts.push(Part::Merging(Merging::new(dice)));
        plan.frame.push((ms(0), Action::Start(A)));
        let (length, alive) = plan.storm(dice);
        plan.frame.push((ms(length), Action::Quiet(alive)));
        plan
    }

    /// The plan without some of its parts.
    pub fn without(mut self, dropped: &[usize]) -> Plan {
        let kept = std::mem::take(&mut self.parts).into_iter().enumerate();
        self.parts = kept.filter(|(at, _)| !dropped.contains(at)).map(|(_, part)| part).collect();
        self
    }

    pub fn clients(&self) -> Vec<&'static str> {
        let client = |part: &Part| if let Part::Client(name) = part { Some(*name) } else { None };
        self.parts.iter().filter_map(client).collect()
    }

    /// Everything that happens at a time of its own, ascending.
    pub fn actions(&self) -> Vec<(Duration, Action)> {
        let faults =
            self.parts.iter().filter_map(|part| if let Part::Fault(actions) = part { Some(actions) } else { None });
        let mut actions: Vec<_> = faults.flatten().chain(&self.frame).cloned().collect();
        actions.sort_by_key(|(at, _)| *at);
        actions
    }

    pub fn merging(&self) -> Merging {
        let merging = |part: &Part| if let Part::Merging(merging) = part { Some(merging.clone()) } else { None };
        self.parts.iter().find_map(merging).unwrap_or(Merging::NEVER)
    }

    pub fn at_handover(&self) -> AtHandover {
        let what = |part: &Part| if let Part::AtHandover(what) = part { Some(*what) } else { None };
        self.parts.iter().find_map(what).unwrap_or(AtHandover::Nothing)
    }

    /// For how many milliseconds who closes its own session hears nothing.
    pub fn at_close(&self) -> Option<u64> {
        self.parts.iter().find_map(|part| if let Part::AtClose(ms) = part { Some(*ms) } else { None })
    }

    /// How fast the clock of a host runs, in thousandths.
    pub fn rate(&self, host: &str) -> u64 {
        let rate = |part: &Part| match part {
            Part::Rate(of, permille) if *of == host => Some(*permille),
            _ => None,
        };
        self.parts.iter().find_map(rate).unwrap_or(1000)
    }

    /// A broker may not hear from the metadata table for so long.
    pub fn longest_silence(&self) -> Duration {
        use Action::{CutStore, Freeze, LateReads, PauseStore};
        let Some((end, _)) = self.frame.last() else { return ms(0) };
        let silent = self
            .actions()
            .into_iter()
            .any(|(_, action)| matches!(action, CutStore(..) | Freeze(..) | PauseStore(..) | LateReads(..)));
        let deaf = self.at_handover() != AtHandover::Nothing || self.at_close().is_some();
        if silent || deaf { *end } else { ms(0) }
    }

    pub(crate) fn fault(&mut self, actions: impl IntoIterator<Item = (u64, Action)>) {
        self.parts.push(Part::Fault(actions.into_iter().map(|(at, action)| (ms(at), action)).collect()));
    }

    fn at(&mut self, ms_at: u64, action: Action) {
        self.fault([(ms_at, action)]);
    }

    /// Plans the faults; returns how long the storm lasts, in milliseconds, and who is there afterwards.
    fn storm(&mut self, dice: &Dice) -> (u64, Vec<&'static str>) {
        let length = dice.between(1600, 3500);
        let heavy = self.kind == Kind::Unclear;
        if heavy || dice.chance(60) {
            let rates = rates(dice, heavy, if dice.chance(50) { 300 } else { 4000 });
            self.at(dice.between(0, 800), Action::Rates(A, rates.clone()));
            if dice.chance(50) && self.hosts.len() > 1 {
                self.at(dice.between(0, 800), Action::Rates(B, rates));
            }
        }
        if dice.chance(30) {
            self.at(dice.between(300, length), Action::WallClock(A, jump(dice)));
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
        let mut end = length;
        match self.kind {
            Kind::Crashes | Kind::Unclear => {}
            Kind::Denied => {
                for _ in 0..dice.between(1, 4) {
                    let from = dice.between(500, length);
                    self.fault([
                        (from, Action::Deny(A, true)),
                        (from + dice.between(20, 1500), Action::Deny(A, false)),
                    ]);
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
            Kind::Paused => end = self.stand_still(dice, true),
            Kind::CutOff => end = self.stand_still(dice, false),
            Kind::Damage => {
                self.at(dice.between(500, 1000), Action::Crash(A));
                let at = dice.between(1500, length + 1);
                self.fault([(at, Action::Crash(A)), (at, Action::Damage)]);
            }
            Kind::Neighbours => {
                end = self.two_neighbours(dice, length);
                return (end, vec![if dice.chance(50) { A } else { B }]);
            }
            Kind::Cluster => return self.cluster(dice, length),
            Kind::Scaling => return self.scaling(dice, length),
            Kind::Upgrade => return self.upgrade(dice, length),
            Kind::Regain => return self.regain(dice, length),
            Kind::Long => return self.long(dice),
        }
        (end, vec![self.hosts[self.hosts.len() - 1]])
    }

    fn network(&mut self, dice: &Dice, length: u64) {
        let clients = self.clients();
        for _ in 0..dice.between(2, 6) {
            let client = clients[dice.below(clients.len() as u64) as usize];
            let from = dice.between(400, length);
            let until = from + dice.between(20, 1500);
            if dice.chance(50) {
                let way = way(dice);
                self.fault([(from, Action::Cut(client, A, way)), (until, Action::Mend(client, A))]);
            } else {
                self.fault([(from, Action::Hold(client, A)), (until, Action::Release(client, A))]);
            }
        }
    }

    fn takeover(&mut self, dice: &Dice, length: u64) {
        self.at(dice.between(600, length), Action::Start(B));
        if dice.chance(40) {
            self.at(dice.between(600, length), Action::Crash(A));
        }
    }

    /// A stops, B takes over, A goes on much later.
    fn stand_still(&mut self, dice: &Dice, network_too: bool) -> u64 {
        let from = dice.between(700, 1500);
        let next = from + dice.between(20, 600);
        let until = next + dice.between(800, 2500);
        let mut actions = vec![(from, Action::PauseStore(A, true)), (until, Action::PauseStore(A, false))];
        if network_too && until % 2 == 0 {
            actions = vec![(from, Action::Freeze(A, true)), (until, Action::Freeze(A, false))];
        } else if network_too {
            for client in self.clients() {
                actions.push((from, Action::Hold(client, A)));
                actions.push((until + dice.below(30), Action::Release(client, A)));
            }
        }
        self.fault(actions);
        self.at(next, Action::Start(B));
        until + dice.between(300, 800)
    }
}

pub(crate) fn way(dice: &Dice) -> Way {
    [Way::Both, Way::There, Way::Back][dice.below(3) as usize]
}

/// Milliseconds by which a wall clock is wrong: ahead by minutes, hours, a year, or behind. Not by more than an hour: a broker then refuses
/// records as of the future, as Kafka does.
pub(crate) fn jump(dice: &Dice) -> i64 {
    let most = [60_000, 3_300_000, 86_400_000 * 400][dice.below(3) as usize];
    let ahead = dice.below(most) as i64;
    if dice.chance(50) { ahead } else { -(ahead % 3_300_000) }
}
