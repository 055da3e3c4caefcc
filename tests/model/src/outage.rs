//! Suspicion after an outage: a store that was away must not end in brokers that live being fenced.
//!
//! One broker lives, and writes a segment every third of the ttl as long as the store takes it; when the store comes back its segment
//! lands within a moment. Another watches it, and may look at any time. The store is away once, altogether or for writes only, for however
//! long. Nothing here is needed for what is true (a fence is always safe), and clocks go alike.
//!
//! The rule that holds is a proposal: `src/log/suspicion.rs` has that of [`Mutant::CommittedOnce`].

use crate::Run;
use crate::explore::{Spec, bits};

/// A tick is a sixth of the ttl.
const TICK: u8 = 2;
const TTL: u8 = 12;
const THIRD: u8 = TTL / 3;
const HALF: u8 = TTL / 2;

/// One rule of the design, left out.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mutant {
    /// The watcher need not commit anything itself.
    WatcherIdle,
    /// One segment of the watcher's own, first sent after the wait began, is enough: it may be the first that landed after an outage.
    CommittedOnce,
}

struct Outage {
    /// A gap between looks starts the wait anew, too.
    looks_count: bool,
    mutant: Option<Mutant>,
}

/// Name, whether gaps between looks count, and the rule that is left out.
const RUNS: &[(&str, bool, Option<Mutant>)] = &[
    ("an_outage", true, None),
    ("looks_far_apart", false, None),
    ("watcher_idle", true, Some(Mutant::WatcherIdle)),
    ("committed_once", true, Some(Mutant::CommittedOnce)),
];

pub fn runs() -> Vec<Run> {
    let run = |(name, looks_count, mutant): &(&'static str, bool, Option<Mutant>)| {
        Run::new("outage", name, mutant.is_some(), Outage { looks_count: *looks_count, mutant: *mutant })
    };
    RUNS.iter().map(run).collect()
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Store {
    Up,
    ReadOnly,
    Away,
}

/// Ages stop when they are long enough.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct State {
    store: Store,
    /// It was away, and will not be again.
    over: bool,
    /// Since the other's last segment landed, and whether that was after the last look.
    silent: u8,
    moved: bool,
    /// Since the watcher's newest segment landed, since its first attempt, and since that of the one under way.
    landed: u8,
    sent: u8,
    under_way: Option<u8>,
    /// Since the other's end was first seen, or looked at again after a gap; since the last look.
    since: u8,
    looked: u8,
    broken: Option<&'static str>,
}

#[derive(Clone, Copy, Debug)]
#[expect(dead_code, reason = "the numbers are there to be printed")]
enum Step {
    Tick,
    Turn { store: Store },
    Write,
    Send,
    Commit,
    Look,
    Fence,
}

const FENCED_ALIVE: &str = "a session that lives was fenced";

impl Spec for Outage {
    type State = State;
    type Step = Step;

    fn start(&self) -> State {
        State {
            store: Store::Up,
            over: false,
            silent: 0,
            moved: false,
            landed: 0,
            sent: 0,
            under_way: None,
            since: 0,
            looked: 0,
            broken: None,
        }
    }

    fn steps(&self, state: &State, take: &mut dyn FnMut(Step, State)) {
        let up = state.store == Store::Up;
        let watcher_is_late = state.landed >= THIRD;
        if !up || (state.silent < THIRD && !watcher_is_late) {
            let older = |age: u8| (age + TICK).min(TTL + TICK);
            let under_way = state.under_way.map(older);
            let (silent, landed, sent) = (older(state.silent), older(state.landed), older(state.sent));
            let (since, looked) = (older(state.since), older(state.looked));
            take(Step::Tick, State { silent, landed, sent, under_way, since, looked, ..*state });
        }
        match state.store {
            Store::Up if !state.over => {
                for store in [Store::ReadOnly, Store::Away] {
                    take(Step::Turn { store }, State { store, over: true, ..*state });
                }
            }
            Store::Up => {}
            Store::ReadOnly | Store::Away => {
                take(Step::Turn { store: Store::Up }, State { store: Store::Up, ..*state })
            }
        }
        if up {
            take(Step::Write, State { silent: 0, moved: true, ..*state });
        }
        match state.under_way {
            None => take(Step::Send, State { under_way: Some(0), ..*state }),
            Some(sent) if up => {
                let since = if self.was_cut_off(state) { 0 } else { state.since };
                take(Step::Commit, State { landed: 0, sent, under_way: None, since, ..*state });
            }
            Some(_) => {}
        }
        if state.store != Store::Away {
            take(Step::Look, self.look(state));
        }
        if up && self.is_dead(state) {
            take(Step::Fence, State { broken: Some(FENCED_ALIVE), ..*state });
        }
    }

    fn broken(&self, state: &State) -> Option<&'static str> {
        state.broken
    }

    fn situations(&self) -> &'static [&'static str] {
        &[
            "the other was silent for a ttl and the watcher saw it",
            "the store was back, and the other had not written yet",
        ]
    }

    fn reached(&self, step: Step, state: &State) -> u32 {
        let silent = state.silent > TTL;
        bits(&[silent && matches!(step, Step::Look), silent && state.store == Store::Up])
    }
}

impl Outage {
    fn has(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }

    /// The wait starts anew when the end moved, when nobody looked for a third of the ttl, and when nothing of the watcher's own landed
    /// for half of it: then it is the store that is silent.
    fn look(&self, state: &State) -> State {
        let gap = state.looked > THIRD && self.looks_count;
        let since = if state.moved || gap || self.was_cut_off(state) { 0 } else { state.since };
        State { since, looked: 0, moved: false, ..*state }
    }

    fn was_cut_off(&self, state: &State) -> bool {
        state.landed > HALF && !self.has(Mutant::WatcherIdle) && !self.has(Mutant::CommittedOnce)
    }

    fn is_dead(&self, state: &State) -> bool {
        let committed = match self.mutant {
            Some(Mutant::WatcherIdle) => true,
            Some(Mutant::CommittedOnce) => state.sent < state.since,
            _ => state.landed <= HALF,
        };
        // It is decided right after a look.
        state.since >= TTL && state.looked == 0 && !state.moved && committed
    }
}
