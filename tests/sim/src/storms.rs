//! What befalls brokers with node ids of their own: two neighbours, clusters of two to five, rolling upgrades, leases that come back
//! unheard of, pauses of hours.

use alluvium::store::fault::FaultRates;

use crate::plan::{A, Action, AtHandover, B, HOSTS, Objects, Part, Plan, Program, jump, rates, way};
use crate::world::Dice;

/// Clients that ask one broker only, whatever it says.
const ASKERS: [&str; 3] = ["asker-1", "asker-2", "asker-3"];

/// Clocks run so fast, in thousandths: the slowest and the fastest differ by less than a quarter.
const SLOWEST: u64 = 876;
pub(crate) const FASTEST: u64 = 1140;

impl Plan {
    /// Who keeps to one broker shows what that one says when others have gone on without it.
    fn settle_clients(&mut self, dice: &Dice) {
        for name in self.clients() {
            if dice.chance(25) {
                self.homes.insert(name, self.pick(dice));
            }
        }
        let asked = self.hosts.len().min(ASKERS.len());
        for (name, host) in ASKERS.into_iter().zip(&self.hosts.clone()[..asked]) {
            if dice.chance(70) {
                self.parts.push(Part::Client(name));
                self.homes.insert(name, host);
            }
        }
    }

    fn drift(&mut self, dice: &Dice) {
        if dice.chance(60) {
            for host in self.hosts.clone() {
                let permille = if dice.chance(40) {
                    [SLOWEST, FASTEST][dice.below(2) as usize]
                } else {
                    dice.between(SLOWEST, FASTEST + 1)
                };
                self.parts.push(Part::Rate(host, permille));
            }
        }
    }

    fn pick(&self, dice: &Dice) -> &'static str {
        self.hosts[dice.below(self.hosts.len() as u64) as usize]
    }

    /// So long segments are in the making, and are not yet in the bucket when their leases go.
    fn busy_handovers(&mut self, dice: &Dice) {
        let what = match dice.below(4) {
            0 => return,
            1 => AtHandover::Crash,
            _ => AtHandover::StandStill(dice.between(self.ttl_ms / 8, 3 * self.ttl_ms)),
        };
        self.parts.push(Part::AtHandover(what));
        self.flush_interval_ms = dice.between(50, 200);
    }

    /// Between what a broker may show and when another may go on there is time then for clients to see both.
    fn long_ttl(&mut self, dice: &Dice) {
        if dice.chance(30) {
            self.ttl_ms = dice.between(1_500, 4_000);
            self.latency_ms.1 = dice.between(3, 8);
        }
    }

    /// Each of two brokers dies, leaves, is cut off from its clients or from the store, or stands still for longer than the other waits.
    pub(crate) fn two_neighbours(&mut self, dice: &Dice, length: u64) -> u64 {
        self.long_ttl(dice);
        let length = length + 2 * self.ttl_ms;
        self.busy_handovers(dice);
        self.settle_clients(dice);
        self.drift(dice);
        self.fault([(dice.between(0, 1000), Action::Start(B))]);
        for _ in 0..dice.between(1, 5) {
            let host = if dice.chance(50) { A } else { B };
            let from = dice.between(1200, length);
            let until = from + dice.between(self.ttl_ms / 2, 3 * self.ttl_ms);
            match dice.below(8) {
                0 => self.fault([(from, Action::Crash(host))]),
                1 => self.fault([(from, Action::Restart(host))]),
                2 => self.fault([(from, Action::Deny(host, true)), (until, Action::Deny(host, false))]),
                3 => self.stands_still(dice, host, from, until),
                _ => self.fault([(from, Action::PauseStore(host, true)), (until, Action::PauseStore(host, false))]),
            }
        }
        length
    }

    /// As a process that is stopped: nothing gets through to the store, clients or other brokers, and everything goes on later. Half of them
    /// are, with their timers; the others only seem so.
    fn stands_still(&mut self, dice: &Dice, host: &'static str, from: u64, until: u64) {
        if until % 2 == 0 {
            self.fault([(from, Action::Freeze(host, true)), (until, Action::Freeze(host, false))]);
            return;
        }
        let mut actions = vec![(from, Action::PauseStore(host, true)), (until, Action::PauseStore(host, false))];
        let others = self.hosts.iter().copied().filter(|other| *other != host);
        for other in self.clients().into_iter().chain(others) {
            actions.push((from, Action::Hold(other, host)));
            actions.push((until + dice.below(30), Action::Release(other, host)));
        }
        self.fault(actions);
    }

    /// Links to some of the others are cut, in one direction or both.
    fn is_cut_off(&mut self, dice: &Dice, host: &'static str, others: &[&'static str], from: u64, until: u64) {
        let (way, all) = (way(dice), dice.chance(70));
        let mut actions = Vec::new();
        for other in others.iter().copied().filter(|other| *other != host) {
            if all || dice.chance(50) {
                actions.push((from, Action::Cut(other, host, way)));
                actions.push((until, Action::Mend(other, host)));
            }
        }
        self.fault(actions);
    }

    /// The store, the table or both are away for all.
    fn outage(&mut self, dice: &Dice, from: u64, until: u64) {
        let objects = [Objects::Metadata, Objects::Data, Objects::All][dice.below(3) as usize];
        let way = way(dice);
        let mut actions = Vec::new();
        for host in self.hosts.iter().copied() {
            actions.push((from, Action::CutStore(host, objects, way)));
            actions.push((until + dice.below(50), Action::MendStore(host)));
        }
        self.fault(actions);
    }

    /// One thing that may befall a broker of a cluster.
    fn mishap(&mut self, dice: &Dice, host: &'static str, from: u64) {
        let short = from + dice.between(self.ttl_ms / 2, 3 * self.ttl_ms);
        let until = if dice.chance(10) { from + dice.between(3, 10) * self.ttl_ms } else { short };
        let cut = |objects, way| [(from, Action::CutStore(host, objects, way)), (until, Action::MendStore(host))];
        match dice.below(18) {
            0 | 1 => self.fault([(from, Action::Crash(host))]),
            2 => self.fault([(from, Action::Restart(host))]),
            3 => self.fault([(from, Action::Die(host)), (until, Action::Start(host))]),
            4 => self.fault([(from, Action::Leave(host)), (until, Action::Start(host))]),
            5 => self.fault([(from, Action::Deny(host, true)), (until, Action::Deny(host, false))]),
            6 => self.stands_still(dice, host, from, until),
            7 | 8 => self.fault([(from, Action::PauseStore(host, true)), (until, Action::PauseStore(host, false))]),
            9 => self.fault(cut(Objects::Metadata, way(dice))),
            10 => self.fault(cut(Objects::Data, way(dice))),
            11 => self.fault(cut(Objects::All, way(dice))),
            12 => {
                let clients = self.clients();
                self.is_cut_off(dice, host, &clients, from, until);
            }
            13 => {
                let hosts = self.hosts.clone();
                self.is_cut_off(dice, host, &hosts, from, until);
            }
            14 => {
                let late = dice.between(100, 3000);
                self.fault([(from, Action::LateReads(host, late)), (until, Action::LateReads(host, 0))]);
            }
            15 => self.fault([(from, Action::WallClock(host, jump(dice)))]),
            16 => self.outage(dice, from, until),
            _ => {
                let heavy = rates(dice, true, if dice.chance(50) { 300 } else { 4000 });
                self.fault([(from, Action::Rates(host, heavy)), (until, Action::Rates(host, FaultRates::default()))]);
            }
        }
    }

    /// Some are there from the beginning, others come later; who is not needed any more leaves.
    pub(crate) fn cluster(&mut self, dice: &Dice, length: u64) -> (u64, Vec<&'static str>) {
        self.long_ttl(dice);
        let length = length + dice.between(2, 5) * self.ttl_ms;
        if dice.chance(30) {
            self.busy_handovers(dice);
        }
        self.settle_clients(dice);
        self.drift(dice);
        for host in self.hosts.clone().into_iter().skip(1) {
            let at = if dice.chance(50) { dice.between(0, 300) } else { dice.between(300, length) };
            self.fault([(at, Action::Start(host))]);
        }
        for _ in 0..dice.between(1, 7) {
            let (host, from) = (self.pick(dice), dice.between(800, length));
            self.mishap(dice, host, from);
        }
        let alive = self.remain(dice);
        (length, alive)
    }

    /// Who is there when the storm is over: at least one.
    fn remain(&self, dice: &Dice) -> Vec<&'static str> {
        let mut alive: Vec<_> = self.hosts.iter().copied().filter(|_| dice.chance(60)).collect();
        if alive.is_empty() {
            alive.push(self.pick(dice));
        }
        alive
    }

    /// One broker, then three, five, two.
    pub(crate) fn scaling(&mut self, dice: &Dice, length: u64) -> (u64, Vec<&'static str>) {
        let step = length / 3 + self.ttl_ms;
        self.settle_clients(dice);
        self.drift(dice);
        if dice.chance(25) {
            self.busy_handovers(dice);
        }
        for (round, hosts) in [&HOSTS[1..3], &HOSTS[3..5]].into_iter().enumerate() {
            for host in hosts {
                self.fault([((round as u64 + 1) * step / 2 + dice.below(step / 2), Action::Start(host))]);
            }
        }
        let mut alive = self.hosts.clone();
        while alive.len() > 2 {
            let gone = alive.remove(dice.below(alive.len() as u64) as usize);
            let at = 2 * step + dice.below(step);
            self.fault([(at, if dice.chance(80) { Action::Leave(gone) } else { Action::Die(gone) })]);
        }
        for _ in 0..dice.below(3) {
            let (host, from) = (self.pick(dice), dice.between(step / 2, 3 * step));
            self.mishap(dice, host, from);
        }
        (3 * step + self.ttl_ms, alive)
    }

    /// A rolling upgrade: who founds the cluster, and most others, know level 1 only, or are told to stay there. They are exchanged one
    /// after the other, some are taken back, and the level rises when it may, under load. At level 1 who leaves hands nothing over: it
    /// closes its session, and others write at once, of which it need not have heard.
    pub(crate) fn upgrade(&mut self, dice: &Dice, length: u64) -> (u64, Vec<&'static str>) {
        self.long_ttl(dice);
        let length = length + dice.between(2, 5) * self.ttl_ms + 2_000;
        self.settle_ms = dice.below(1_500);
        if dice.chance(60) {
            self.parts.push(Part::AtClose(dice.between(100, 1_500)));
        }
        self.settle_clients(dice);
        self.drift(dice);
        for host in self.hosts.clone().into_iter().skip(1) {
            let at = if dice.chance(70) { dice.between(0, 300) } else { dice.between(300, length) };
            self.fault([(at, Action::Start(host))]);
        }
        for host in self.hosts.clone() {
            if host != A && dice.chance(30) {
                continue;
            }
            let first = if dice.chance(80) { Program::Older } else { Program::Held };
            self.fault([(0, Action::Exchange(host, first))]);
            if dice.chance(15) {
                continue;
            }
            let mut at = dice.between(800, length / 2);
            self.exchange(dice, host, at, Program::Newest);
            if dice.chance(25) {
                for program in [Program::Older, Program::Newest] {
                    at += dice.between(200, 1_500);
                    self.exchange(dice, host, at, program);
                }
            }
        }
        for _ in 0..dice.below(4) {
            let (host, from) = (self.pick(dice), dice.between(800, length));
            self.mishap(dice, host, from);
        }
        let alive = self.remain(dice);
        (length, alive)
    }

    fn exchange(&mut self, dice: &Dice, host: &'static str, at: u64, program: Program) {
        let end = if dice.chance(80) { Action::Restart(host) } else { Action::Crash(host) };
        self.fault([(at, Action::Exchange(host, program)), (at, end)]);
    }

    /// Who hands leases over does not hear that it is done, while the others are told to leave as soon as they have them. A look at the
    /// table ends that with the hand-over itself; who finds its generation truncated learns of there and back at once.
    pub(crate) fn regain(&mut self, dice: &Dice, length: u64) -> (u64, Vec<&'static str>) {
        let length = length + 5_000;
        self.settle_clients(dice);
        self.drift(dice);
        if dice.chance(80) {
            self.meta_generation = dice.between(4, 7);
            self.admin_pace_ms = (1, 30);
        }
        let leaves_after_ms = dice.between(200, 2_000);
        let deaf_ms = leaves_after_ms + dice.between(300, 4_000);
        self.parts.push(Part::AtHandover(AtHandover::Regain { deaf_ms, leaves_after_ms }));
        for host in self.hosts.clone().into_iter().skip(1) {
            self.fault([(dice.between(0, 1500), Action::Start(host))]);
        }
        for _ in 0..dice.below(3) {
            let host = self.pick(dice);
            let from = dice.between(800, length);
            if dice.chance(50) {
                let late = dice.between(100, 3000);
                let until = from + dice.between(self.ttl_ms, 4 * self.ttl_ms);
                self.fault([(from, Action::LateReads(host, late)), (until, Action::LateReads(host, 0))]);
            } else {
                self.mishap(dice, host, from);
            }
        }
        let alive = self.remain(dice);
        (length, alive)
    }

    /// A broker stands still for half a minute to an hour, or is cut off from one thing only, or all are, with the times of a real
    /// installation.
    pub(crate) fn long(&mut self, dice: &Dice) -> (u64, Vec<&'static str>) {
        self.scale = 20;
        self.ttl_ms = dice.between(5_000, 15_000);
        self.patience *= 4;
        self.limit *= 20;
        self.flush_interval_ms = dice.between(50, 150);
        for part in &mut self.parts {
            match part {
                Part::Merging(merging) => {
                    merging.window_ms *= self.scale;
                    merging.grace_ms *= self.scale;
                }
                // Planned for a storm of seconds.
                Part::Fault(actions) => actions.iter_mut().for_each(|(at, _)| *at *= self.scale as u32),
                _ => {}
            }
        }
        self.settle_clients(dice);
        self.drift(dice);
        for host in self.hosts.clone().into_iter().skip(1) {
            self.fault([(dice.between(0, 20_000), Action::Start(host))]);
        }
        let from = dice.between(30_000, 60_000);
        // Half of them up to two minutes, one in ten more than half an hour.
        let (low, high) = match dice.below(10) {
            0..5 => (30_000, 120_000),
            5..8 => (120_000, 480_000),
            8 => (480_000, 1_800_000),
            _ => (1_800_000, 3_600_000),
        };
        let pause = dice.between(low, high);
        let until = from + pause;
        let host = self.pick(dice);
        match dice.below(10) {
            0 => self.fault([(from, Action::PauseStore(host, true)), (until, Action::PauseStore(host, false))]),
            1 | 2 => self.outage(dice, from, until),
            3 | 4 => {
                let objects = [Objects::Metadata, Objects::Data, Objects::All][dice.below(3) as usize];
                let cut = Action::CutStore(host, objects, way(dice));
                self.fault([(from, cut), (until, Action::MendStore(host))]);
            }
            _ => self.stands_still(dice, host, from, until),
        }
        if pause > 60_000 {
            let dusk = from + 3 * self.ttl_ms;
            self.fault([(dusk, Action::Night(true)), (until - 5_000, Action::Night(false))]);
        }
        let other = self.pick(dice);
        if dice.chance(40) {
            let at = dice.between(20_000, until);
            self.fault([(at, Action::Crash(other))]);
        }
        let length = until + 2 * self.ttl_ms + dice.between(1_000, 10_000);
        let alive = self.remain(dice);
        (length, alive)
    }
}
