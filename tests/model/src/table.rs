//! The metadata table's own log: revisions under names that can only be created, and that go away when a snapshot stands for them.
//!
//! A broker reads up to a revision, and appends the next one if it is absent. Revisions form generations. Before one is deleted a
//! snapshot at or above its end is read back, and its marker `meta/closed/<generation>` is created, which stays for ever. A name that was
//! deleted is free again, and an append that was on its way may land there: so whoever appended or read a revision looks for the marker
//! *afterwards*, and believes what it saw only when there is none; else it goes on from the snapshot.
//!
//! The first entry that lands at a revision is the truth. All brokers must come to the same history, and no proposal counts twice. An
//! append whose answer was lost stays what it is until its revision is seen to be taken; when that is truncated, nobody can tell any more
//! whether it counted, and its proposer looks at the image.

use crate::Run;
use crate::explore::{Spec, bits};

const BROKERS: usize = 3;
const REVISIONS: usize = 6;
/// Revisions of a generation.
const GENERATION: usize = 2;

#[derive(Clone, Copy)]
struct Bounds {
    brokers: usize,
    revisions: usize,
    /// Of each broker.
    proposals: u8,
}

/// One rule of the design, left out.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mutant {
    /// Nobody looks for markers.
    NoLook,
    /// Who appends looks for the marker before, and not after.
    LookBeforeAppend,
    /// Who reads does not look for the marker.
    NoLookAfterRead,
    /// Who finds another's entry at his revision does not look for the marker.
    NoLookAfterLost,
    /// He looks for the marker of the last revision that he read, and not of those before it.
    LooksAtLastOnly,
    /// Deletion begins before the marker stands.
    DeleteBeforeMarker,
    /// The marker goes when all of its generation is deleted.
    MarkerDeleted,
    /// A generation is closed before a snapshot stands for all of it.
    SnapshotTooLow,
    /// An append whose answer was lost is taken to have happened.
    UnknownIsDone,
    /// It is taken not to have happened, and the proposal is appended again elsewhere.
    UnknownIsNotDone,
}

/// Broker and number of the proposal.
type Entry = (u8, u8);

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Phase {
    Idle,
    /// An append was sent; what became of it is not known.
    Sent {
        revision: u8,
    },
    /// Our entry is there: the marker is looked for.
    Appended {
        revision: u8,
    },
    /// Another's is there: it is read, with what follows it, and the markers of all that was read are looked for.
    Taken {
        revision: u8,
        read: [Option<Entry>; REVISIONS],
    },
    /// An entry was read: the marker is looked for.
    Read {
        entry: Entry,
    },
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Broker {
    /// The history that it knows, so long.
    history: [Option<Entry>; REVISIONS],
    length: u8,
    phase: Phase,
    proposal: u8,
    /// Appends that may still land.
    on_the_way: [Option<Entry>; REVISIONS],
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct State {
    names: [Option<Entry>; REVISIONS],
    truth: [Option<Entry>; REVISIONS],
    brokers: [Broker; BROKERS],
    snapshot: [Option<Entry>; REVISIONS],
    /// Generations below are closed, by their markers.
    closed: u8,
    /// Generations below may be deleted.
    garbage: u8,
    broken: Option<&'static str>,
}

impl State {
    fn is_closed(&self, revision: u8) -> bool {
        usize::from(revision) / GENERATION < usize::from(self.closed)
    }

    fn snapshot_length(&self) -> u8 {
        self.snapshot.iter().flatten().count() as u8
    }
}

#[derive(Clone, Copy, Debug)]
#[expect(dead_code, reason = "the numbers are there to be printed")]
enum Step {
    Send { broker: usize, revision: u8 },
    SendAgain { broker: usize, revision: u8 },
    Land { broker: usize, revision: usize },
    SeeOwn { broker: usize, revision: u8 },
    SeeOther { broker: usize, revision: u8 },
    ReadOn { broker: usize, revision: u8 },
    GiveUp { broker: usize, revision: u8 },
    Count { broker: usize },
    Lose { broker: usize, read: usize },
    Read { broker: usize, revision: u8 },
    Apply { broker: usize },
    Truncated { broker: usize },
    LoadSnapshot { broker: usize },
    WriteSnapshot { broker: usize },
    CloseGeneration { generation: u8 },
    Delete { revision: usize },
    DeleteMarker,
}

const HISTORIES_DIFFER: &str = "a broker's history is not the log's";
const TWICE: &str = "one proposal counts twice";
const NOTHING_LEFT: &str = "a generation is gone, and no snapshot stands for it";

struct Table {
    bounds: Bounds,
    mutant: Option<Mutant>,
}

const SMALL: Bounds = Bounds { brokers: 2, revisions: 4, proposals: 2 };
const THREE: Bounds = Bounds { brokers: 3, revisions: 3, proposals: 1 };

/// Name, world, and the rule that is left out.
const RUNS: &[(&str, Bounds, Option<Mutant>)] = &[
    ("two_brokers", SMALL, None),
    ("three_brokers", THREE, None),
    ("no_look", SMALL, Some(Mutant::NoLook)),
    ("look_before_append", SMALL, Some(Mutant::LookBeforeAppend)),
    ("no_look_after_read", Bounds { proposals: 2, ..THREE }, Some(Mutant::NoLookAfterRead)),
    ("no_look_after_lost", SMALL, Some(Mutant::NoLookAfterLost)),
    ("looks_at_last_only", Bounds { proposals: 2, ..THREE }, Some(Mutant::LooksAtLastOnly)),
    ("delete_before_marker", SMALL, Some(Mutant::DeleteBeforeMarker)),
    ("marker_deleted", SMALL, Some(Mutant::MarkerDeleted)),
    ("snapshot_too_low", SMALL, Some(Mutant::SnapshotTooLow)),
    ("unknown_is_done", SMALL, Some(Mutant::UnknownIsDone)),
    ("unknown_is_not_done", SMALL, Some(Mutant::UnknownIsNotDone)),
];

pub fn runs() -> Vec<Run> {
    let run = |(name, bounds, mutant): &(&'static str, Bounds, Option<Mutant>)| {
        Run::new("table", name, mutant.is_some(), Table { bounds: *bounds, mutant: *mutant })
    };
    RUNS.iter().map(run).collect()
}

impl Spec for Table {
    type State = State;
    type Step = Step;

    fn start(&self) -> State {
        let broker = Broker {
            history: [None; REVISIONS],
            length: 0,
            phase: Phase::Idle,
            proposal: 0,
            on_the_way: [None; REVISIONS],
        };
        State {
            names: [None; REVISIONS],
            truth: [None; REVISIONS],
            brokers: [broker; BROKERS],
            snapshot: [None; REVISIONS],
            closed: 0,
            garbage: 0,
            broken: None,
        }
    }

    fn steps(&self, state: &State, take: &mut dyn FnMut(Step, State)) {
        for at in 0..self.bounds.brokers {
            self.land(state, at, take);
            let broker = &state.brokers[at];
            match broker.phase {
                Phase::Idle => self.idle(state, at, take),
                Phase::Sent { revision } => self.sent(state, at, revision, take),
                Phase::Appended { revision } => {
                    let mut after = *state;
                    let entry = (at as u8, broker.proposal);
                    after.brokers[at] = Broker { phase: Phase::Idle, proposal: broker.proposal + 1, ..*broker };
                    if state.is_closed(revision) && self.looks_after_append() {
                        take(Step::Truncated { broker: at }, after);
                    } else {
                        apply(&mut after, at, entry);
                        take(Step::Count { broker: at }, after);
                    }
                }
                Phase::Taken { revision, read } => self.taken(state, at, revision, read, take),
                Phase::Read { entry } => {
                    let mut after = *state;
                    after.brokers[at].phase = Phase::Idle;
                    if state.is_closed(broker.length) && self.looks_after_read() {
                        take(Step::Truncated { broker: at }, after);
                    } else {
                        apply(&mut after, at, entry);
                        take(Step::Apply { broker: at }, after);
                    }
                }
            }
        }
        self.truncate(state, take);
    }

    fn broken(&self, state: &State) -> Option<&'static str> {
        state.broken
    }

    fn situations(&self) -> &'static [&'static str] {
        &[
            "an append landed where a revision was deleted",
            "an append was found to be truncated",
            "a broker went on from a snapshot",
            "another's entry had the revision",
            "a broker that lost went on with two entries that it had read",
            "the log was full",
        ]
    }

    fn reached(&self, step: Step, state: &State) -> u32 {
        bits(&[
            matches!(step, Step::Land { revision, .. } if state.truth[revision] != state.names[revision]),
            matches!(step, Step::Truncated { .. }),
            matches!(step, Step::LoadSnapshot { .. }),
            matches!(step, Step::SeeOther { .. }),
            matches!(step, Step::Lose { read, .. } if read > 1),
            state.truth[..self.bounds.revisions].iter().all(Option::is_some),
        ])
    }

    fn beyond(&self) -> &'static [&'static str] {
        let all = usize::from(self.bounds.proposals) * self.bounds.brokers;
        if all < self.bounds.revisions { &["the log was full"] } else { &[] }
    }
}

/// The next entry of a broker's history.
fn apply(state: &mut State, at: usize, entry: Entry) {
    let broker = &mut state.brokers[at];
    let revision = usize::from(broker.length);
    broker.history[revision] = Some(entry);
    broker.length += 1;
    if state.truth[revision] != Some(entry) {
        state.broken = Some(HISTORIES_DIFFER);
    }
}

impl Table {
    fn has(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }

    fn looks_after_append(&self) -> bool {
        !self.has(Mutant::NoLook) && !self.has(Mutant::LookBeforeAppend)
    }

    fn looks_after_read(&self) -> bool {
        !self.has(Mutant::NoLook) && !self.has(Mutant::NoLookAfterRead)
    }

    fn land(&self, state: &State, at: usize, take: &mut dyn FnMut(Step, State)) {
        for revision in 0..self.bounds.revisions {
            let Some(entry) = state.brokers[at].on_the_way[revision] else { continue };
            let mut after = *state;
            after.brokers[at].on_the_way[revision] = None;
            if state.names[revision].is_none() {
                after.names[revision] = Some(entry);
                if state.truth[revision].is_none() {
                    if state.truth.contains(&Some(entry)) {
                        after.broken = Some(TWICE);
                    }
                    after.truth[revision] = Some(entry);
                }
            }
            take(Step::Land { broker: at, revision }, after);
        }
    }

    fn idle(&self, state: &State, at: usize, take: &mut dyn FnMut(Step, State)) {
        let broker = &state.brokers[at];
        let (revision, place) = (broker.length, usize::from(broker.length));
        let with = |broker: Broker| {
            let mut after = *state;
            after.brokers[at] = broker;
            after
        };
        let barred = self.has(Mutant::LookBeforeAppend) && state.is_closed(revision);
        if place < self.bounds.revisions && broker.proposal < self.bounds.proposals && !barred {
            let mut after = with(Broker { phase: Phase::Sent { revision }, ..*broker });
            after.brokers[at].on_the_way[place] = Some((at as u8, broker.proposal));
            take(Step::Send { broker: at, revision }, after);
        }
        if let Some(entry) = state.names.get(place).copied().flatten() {
            take(Step::Read { broker: at, revision }, with(Broker { phase: Phase::Read { entry }, ..*broker }));
        }
        if state.is_closed(revision) {
            let mut after = with(Broker { history: state.snapshot, length: state.snapshot_length(), ..*broker });
            if state.is_closed(state.snapshot_length()) {
                after.broken = Some(NOTHING_LEFT);
            }
            take(Step::LoadSnapshot { broker: at }, after);
        }
        if broker.length > state.snapshot_length() {
            take(Step::WriteSnapshot { broker: at }, State { snapshot: broker.history, ..*state });
        }
    }

    /// The same entry is sent again until its revision is seen to be taken, by it or by another.
    fn sent(&self, state: &State, at: usize, revision: u8, take: &mut dyn FnMut(Step, State)) {
        let (broker, place) = (&state.brokers[at], usize::from(revision));
        let entry = (at as u8, broker.proposal);
        let with = |phase: Phase| {
            let mut after = *state;
            after.brokers[at].phase = phase;
            after
        };
        match state.names[place] {
            Some(found) if found == entry => {
                take(Step::SeeOwn { broker: at, revision }, with(Phase::Appended { revision }));
            }
            Some(_) => {
                take(Step::SeeOther { broker: at, revision }, with(Phase::Taken { revision, read: [None; REVISIONS] }));
            }
            None if broker.on_the_way[place].is_none() => {
                let mut after = *state;
                after.brokers[at].on_the_way[place] = Some(entry);
                take(Step::SendAgain { broker: at, revision }, after);
            }
            None => {}
        }
        if self.has(Mutant::UnknownIsDone) {
            take(Step::GiveUp { broker: at, revision }, with(Phase::Appended { revision }));
        }
        if self.has(Mutant::UnknownIsNotDone) {
            take(Step::GiveUp { broker: at, revision }, with(Phase::Idle));
        }
    }

    /// Who lost the race reads what won, and as much of what follows as he likes; then he looks, and goes on with all that he read.
    fn taken(
        &self,
        state: &State,
        at: usize,
        revision: u8,
        read: [Option<Entry>; REVISIONS],
        take: &mut dyn FnMut(Step, State),
    ) {
        let entries = || read.iter().flatten();
        let next = revision + entries().count() as u8;
        if let Some(Some(entry)) =
            state.names.get(usize::from(next)).filter(|_| usize::from(next) < self.bounds.revisions)
        {
            let (mut after, mut read) = (*state, read);
            read[usize::from(next)] = Some(*entry);
            after.brokers[at].phase = Phase::Taken { revision, read };
            take(Step::ReadOn { broker: at, revision: next }, after);
        }
        // The proposal is made again at a later revision; or it counted before its revision was deleted, and is given up.
        let last = revision.max(next.saturating_sub(1));
        let first = if self.has(Mutant::LooksAtLastOnly) { last } else { revision };
        let given_up = (first..=last).any(|read| state.is_closed(read)) && !self.has(Mutant::NoLookAfterLost);
        let mut after = *state;
        after.brokers[at].phase = Phase::Idle;
        after.brokers[at].proposal += u8::from(given_up);
        if given_up {
            return take(Step::Truncated { broker: at }, after);
        }
        entries().for_each(|entry| apply(&mut after, at, *entry));
        take(Step::Lose { broker: at, read: entries().count() }, after);
    }

    fn truncate(&self, state: &State, take: &mut dyn FnMut(Step, State)) {
        let generation = state.closed;
        let end = (usize::from(generation) + 1) * GENERATION;
        let covered = usize::from(state.snapshot_length()) >= end;
        let too_low = self.has(Mutant::SnapshotTooLow) && state.truth[..end.min(REVISIONS)].iter().all(Option::is_some);
        let bit_deleted = self.has(Mutant::MarkerDeleted) && state.garbage > state.closed;
        if end <= self.bounds.revisions && (covered || too_low) && !bit_deleted {
            let after = State { closed: generation + 1, garbage: state.garbage.max(generation + 1), ..*state };
            take(Step::CloseGeneration { generation }, after);
            if self.has(Mutant::DeleteBeforeMarker) && state.garbage == generation {
                take(Step::Delete { revision: end }, State { garbage: generation + 1, ..*state });
            }
        }
        let garbage = usize::from(state.garbage) * GENERATION;
        for revision in (0..garbage).filter(|revision| state.names[*revision].is_some()) {
            let mut after = *state;
            after.names[revision] = None;
            take(Step::Delete { revision }, after);
        }
        let gone = state.names[..garbage].iter().all(Option::is_none);
        if self.has(Mutant::MarkerDeleted) && state.closed > 0 && gone {
            take(Step::DeleteMarker, State { closed: 0, ..*state });
        }
    }
}
