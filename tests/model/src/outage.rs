//! Suspicion after an outage: a store that was away must not end in brokers that live being fenced.
//!
//! One broker lives, and writes a segment every third of the ttl as long as the store takes it, also while its session is still being
//! opened; when the store comes back its segment lands within a moment. Another watches it, and may look at any time. The store is away
//! once, altogether or for writes only, for however long. Nothing here is needed for what is true (a fence is always safe), and clocks go
//! alike.
//!
//! While their connection is up the watcher is told of each segment within a moment, and looks only when it must: when the connection is
//! down, or nothing new was told for half a ttl. The connection may be cut and mended at any time. The first of the looks, if it finds
//! what was told last, counts the wait from when that was told, unless that is too long ago. The watched broker may die, or be cut off
//! from the store only, and then it has to be fenced in time.

use crate::Run;
use crate::explore::{Spec, bits};

/// A tick is a sixth of the ttl.
const TICK: u8 = 2;
const TTL: u8 = 12;
const THIRD: u8 = TTL / 3;
const HALF: u8 = TTL / 2;
/// What was told so long ago is no beginning of a wait.
const TOLD_LASTS: u8 = TTL * 2 / 3;
/// Who writes no more is fenced so long after the last moment at which it might have written.
const LATEST: u8 = TTL + TICK;

/// One rule of the design, left out.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mutant {
    /// The watcher need not commit anything itself.
    WatcherIdle,
    /// One segment of the watcher's own, first sent after the wait began, is enough: it may be the first that landed after an outage.
    CommittedOnce,
    /// A connection that is cut starts the fence, not the looks.
    CutIsDeath,
    /// Who answers lives, whatever he tells.
    AnswerHides,
    /// What was told counts however long ago it was, also before the watcher itself was cut off.
    ToldOfAnyAge,
    /// Looks do not begin when the connection is down.
    NoLooks,
    /// How old a segment is counts from when it was told, not from what is told of its age.
    AgeNotTold,
    /// Who is still being opened writes its first segment and no other.
    SilentStart,
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
    ("cut_is_death", true, Some(Mutant::CutIsDeath)),
    ("answer_hides", true, Some(Mutant::AnswerHides)),
    ("told_of_any_age", true, Some(Mutant::ToldOfAnyAge)),
    ("no_looks", true, Some(Mutant::NoLooks)),
    ("age_not_told", true, Some(Mutant::AgeNotTold)),
    ("silent_start", true, Some(Mutant::SilentStart)),
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

/// What became of the watched broker.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Fate {
    Lives,
    /// It answers, and writes no more.
    CutOff,
    Died,
    /// It ended, and was fenced.
    Fenced,
}

/// Ages stop when they are long enough.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct State {
    fate: Fate,
    /// Its session is being opened: it writes, and answers nobody yet.
    opening: bool,
    /// Since it ended, if it did.
    ended: u8,
    /// The connection to it, and since when its newest segment was told, if that was told.
    up: bool,
    told: Option<u8>,
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
    Link { up: bool },
    Tell,
    Serves,
    Ends { fate: Fate },
    Fence,
}

const FENCED_ALIVE: &str = "a session that lives was fenced";
const NOT_FENCED: &str = "a session that writes no more was not fenced in time";

impl Spec for Outage {
    type State = State;
    type Step = Step;

    fn start(&self) -> State {
        State {
            fate: Fate::Lives,
            opening: true,
            ended: 0,
            up: false,
            told: None,
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
        if state.fate == Fate::Fenced {
            return;
        }
        if !self.is_due(state) {
            take(Step::Tick, tick(state));
        }
        match state.store {
            Store::Up if !state.over && state.fate == Fate::Lives => {
                for store in [Store::ReadOnly, Store::Away] {
                    take(Step::Turn { store }, State { store, over: true, ..*state });
                }
            }
            Store::Up => {}
            Store::ReadOnly | Store::Away => {
                take(Step::Turn { store: Store::Up }, State { store: Store::Up, ..*state })
            }
        }
        if up && self.may_write(state) {
            take(Step::Write, State { silent: 0, moved: true, told: None, ..*state });
        }
        if up && state.fate == Fate::Lives {
            for fate in [Fate::CutOff, Fate::Died] {
                let up = state.up && fate == Fate::CutOff;
                take(Step::Ends { fate }, State { fate, up, ..*state });
            }
        }
        if state.fate == Fate::Lives && state.opening {
            take(Step::Serves, State { opening: false, ..*state });
        }
        if state.fate != Fate::Died && !state.opening {
            take(Step::Link { up: !state.up }, State { up: !state.up, ..*state });
        }
        if state.up && state.told.is_none() {
            take(Step::Tell, State { told: Some(0), ..*state });
        }
        match state.under_way {
            None => take(Step::Send, State { under_way: Some(0), ..*state }),
            Some(sent) if up => {
                let since = if self.was_cut_off(state) { 0 } else { state.since };
                take(Step::Commit, State { landed: 0, sent, under_way: None, since, ..*state });
            }
            Some(_) => {}
        }
        if state.store != Store::Away && !(self.has(Mutant::NoLooks) && !state.up) {
            take(Step::Look, self.look(state));
        }
        if up && self.is_dead(state) {
            let broken = (state.fate == Fate::Lives).then_some(FENCED_ALIVE);
            take(Step::Fence, State { broken, fate: Fate::Fenced, ..*state });
        }
    }

    fn broken(&self, state: &State) -> Option<&'static str> {
        let late = matches!(state.fate, Fate::CutOff | Fate::Died) && state.ended > LATEST;
        state.broken.or(late.then_some(NOT_FENCED))
    }

    fn situations(&self) -> &'static [&'static str] {
        &[
            "the other was silent for a ttl and the watcher saw it",
            "the store was back, and the other had not written yet",
            "who was cut off from the store was fenced while it answered",
            "who died was fenced a ttl after what it told last",
            "who died while it was opened was fenced",
        ]
    }

    fn reached(&self, step: Step, state: &State) -> u32 {
        let silent = state.silent > TTL;
        bits(&[
            silent && matches!(step, Step::Look),
            silent && state.store == Store::Up && state.fate == Fate::Lives,
            matches!(step, Step::Fence) && state.up,
            matches!(step, Step::Fence) && !state.up && state.told.is_some_and(|told| told == TTL),
            matches!(step, Step::Fence) && state.opening && state.ended > 0,
        ])
    }
}

/// Time passes.
fn tick(state: &State) -> State {
    let older = |age: u8| (age + TICK).min(TTL + TICK);
    let (landed, sent) = (older(state.landed), older(state.sent));
    let (since, looked) = (older(state.since), older(state.looked));
    let (under_way, told) = (state.under_way.map(older), state.told.map(older));
    let ended = if state.fate == Fate::Lives { 0 } else { (state.ended + TICK).min(LATEST + TICK) };
    let silent = older(state.silent);
    State { ended, silent, landed, sent, under_way, told, since, looked, ..*state }
}

impl Outage {
    fn has(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }

    /// Whether something has to happen before time passes: the other writes, both tell, the watcher writes, looks and fences.
    fn is_due(&self, state: &State) -> bool {
        if state.store != Store::Up {
            return false;
        }
        let writes = self.may_write(state) && state.silent >= THIRD;
        let tells = state.up && state.told.is_none();
        let looks = !self.trusts(state) && state.looked > 0 && !(self.has(Mutant::NoLooks) && !state.up);
        writes || tells || state.landed >= THIRD || looks || self.is_dead(state)
    }

    fn may_write(&self, state: &State) -> bool {
        state.fate == Fate::Lives && !(state.opening && self.has(Mutant::SilentStart))
    }

    /// The watcher need not look.
    fn trusts(&self, state: &State) -> bool {
        let age = match self.mutant {
            Some(Mutant::AnswerHides) => 0,
            Some(Mutant::AgeNotTold) => state.told.unwrap_or(0),
            _ => state.silent,
        };
        state.up && state.told.is_some() && age < HALF
    }

    /// The wait starts anew when the end moved, when nobody looked for a third of the ttl, and when nothing of the watcher's own landed
    /// for half of it: then it is the store that is silent.
    fn look(&self, state: &State) -> State {
        let gap = state.looked > THIRD && self.looks_count;
        let any_age = self.has(Mutant::ToldOfAnyAge);
        let told = state.told.filter(|told| any_age || *told <= TOLD_LASTS).unwrap_or(0);
        let since = match state.moved || gap {
            _ if self.was_cut_off(state) && !any_age => 0,
            true => told,
            false => state.since,
        };
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
        if self.has(Mutant::CutIsDeath) && !state.up && state.silent > 0 {
            return true;
        }
        // It is decided right after a look.
        state.since >= TTL && state.looked == 0 && !state.moved && committed
    }
}
