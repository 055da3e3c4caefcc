//! The feature level of a cluster: programs of two versions come, go and come back under the same node ids.
//!
//! A new program appends what an old one can't read, once the level says so; it raises the level when, on the image at r, all open sessions
//! support that, and the entry counts only as r + 1. Nobody knows who lives: who stands still may go on at any time, and any running broker
//! may close any session but its own.
//!
//! No program may meet an entry that it can't read while its session is open. One that comes without a session reads before it writes, and
//! stops there: it has changed nothing. Neither has the settling time a part in this: it is for people who want to go back.

use crate::Run;
use crate::explore::{Spec, bits};

const NODES: usize = 3;
const REVISIONS: usize = 6;

/// One rule of the design, left out.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mutant {
    /// The level is raised by what an older image says.
    RaiseByOldImage,
    /// What is new is appended without the level.
    NewAtOnce,
    /// A node id is taken to support what its program once supported.
    ToldByNode,
    /// A session that says nothing is not asked.
    SilentNotAsked,
    /// A session of which it is not known whether it lives is not asked.
    AbsentNotAsked,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Entry {
    Open { node: u8, new: bool },
    Close { opened: u8 },
    Raise,
    New,
}

impl Entry {
    fn is_read_by_old(self) -> bool {
        matches!(self, Entry::Open { .. } | Entry::Close { .. })
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Phase {
    Down,
    /// It has read the table up to some revision, and wants to open a session.
    Starting,
    /// Its session was opened at this revision.
    Open(u8),
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Process {
    new: bool,
    phase: Phase,
    /// Entries that it has read.
    known: u8,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct State {
    table: [Option<Entry>; REVISIONS],
    length: u8,
    processes: [Process; NODES],
    broken: Option<&'static str>,
}

#[derive(Clone, Copy, Debug)]
#[expect(dead_code, reason = "the numbers are there to be printed")]
enum Step {
    Start {
        node: usize,
        new: bool,
    },
    /// An old program can't read the table.
    Refuse {
        node: usize,
    },
    Open {
        node: usize,
        new: bool,
    },
    Read {
        node: usize,
    },
    /// A program whose session is closed meets what it can't read.
    Stop {
        node: usize,
    },
    Crash {
        node: usize,
    },
    Close {
        by: usize,
        opened: u8,
    },
    Raise {
        by: usize,
    },
    /// Somebody's image is too old to raise the level.
    Lose {
        by: usize,
    },
    New {
        by: usize,
    },
}

const CANT_READ: &str = "a program whose session is open can't read the table";
const TOO_EARLY: &str = "what is new stands in the table before the level has risen";

struct Level {
    nodes: usize,
    revisions: usize,
    mutant: Option<Mutant>,
}

/// Name, nodes, revisions, and the rule that is left out.
const RUNS: &[(&str, usize, usize, Option<Mutant>)] = &[
    ("two_nodes", 2, REVISIONS, None),
    ("three_nodes", NODES, 4, None),
    ("raise_by_old_image", 2, REVISIONS, Some(Mutant::RaiseByOldImage)),
    ("new_at_once", 2, REVISIONS, Some(Mutant::NewAtOnce)),
    ("told_by_node", 2, REVISIONS, Some(Mutant::ToldByNode)),
    ("silent_not_asked", 2, REVISIONS, Some(Mutant::SilentNotAsked)),
    ("absent_not_asked", 2, REVISIONS, Some(Mutant::AbsentNotAsked)),
];

pub fn runs() -> Vec<Run> {
    let run = |(name, nodes, revisions, mutant): &(&'static str, usize, usize, Option<Mutant>)| {
        let (nodes, revisions) = (*nodes, *revisions);
        Run::new("level", name, mutant.is_some(), Level { nodes, revisions, mutant: *mutant })
    };
    RUNS.iter().map(run).collect()
}

impl State {
    fn prefix(&self, known: u8) -> impl Iterator<Item = (u8, Entry)> + '_ {
        (0..).zip(self.table[..usize::from(known)].iter().flatten().copied())
    }

    /// Sessions that are open after so many entries: where they were opened, node, whether their program is new.
    fn open(&self, known: u8) -> impl Iterator<Item = (u8, u8, bool)> + '_ {
        let closed = move |at| self.prefix(known).any(|(_, entry)| entry == Entry::Close { opened: at });
        self.prefix(known).filter_map(move |(at, entry)| match entry {
            Entry::Open { node, new } if !closed(at) => Some((at, node, new)),
            _ => None,
        })
    }

    fn is_raised(&self, known: u8) -> bool {
        self.prefix(known).any(|(_, entry)| matches!(entry, Entry::Raise | Entry::New))
    }

    fn appended(&self, by: usize, entry: Entry) -> State {
        let mut after = *self;
        after.table[usize::from(self.length)] = Some(entry);
        after.length += 1;
        after.processes[by].known = after.length;
        if entry == Entry::New && !self.prefix(self.length).any(|(_, entry)| entry == Entry::Raise) {
            after.broken = Some(TOO_EARLY);
        }
        after
    }
}

impl Spec for Level {
    type State = State;
    type Step = Step;

    fn start(&self) -> State {
        let process = Process { new: false, phase: Phase::Down, known: 0 };
        State { table: [None; REVISIONS], length: 0, processes: [process; NODES], broken: None }
    }

    fn steps(&self, state: &State, take: &mut dyn FnMut(Step, State)) {
        for node in 0..self.nodes {
            let process = state.processes[node];
            let with = |process: Process| {
                let mut after = *state;
                after.processes[node] = process;
                after
            };
            if process.phase == Phase::Down {
                for new in [false, true] {
                    let readable = new || state.prefix(state.length).all(|(_, entry)| entry.is_read_by_old());
                    let started = Process { new, phase: Phase::Starting, known: state.length };
                    match readable {
                        true => take(Step::Start { node, new }, with(started)),
                        false => take(Step::Refuse { node }, *state),
                    }
                }
                continue;
            }
            take(Step::Crash { node }, with(Process { phase: Phase::Down, ..process }));
            if process.known < state.length {
                self.read(state, node, take);
            } else if process.phase == Phase::Starting && usize::from(state.length) < self.revisions {
                let mut after = state.appended(node, Entry::Open { node: node as u8, new: process.new });
                after.processes[node].phase = Phase::Open(state.length);
                take(Step::Open { node, new: process.new }, after);
            }
            if let Phase::Open(own) = process.phase
                && usize::from(state.length) < self.revisions
            {
                self.running(state, node, own, take);
            }
        }
    }

    fn broken(&self, state: &State) -> Option<&'static str> {
        state.broken
    }

    fn situations(&self) -> &'static [&'static str] {
        &[
            "the level rose",
            "something new was written",
            "an old program was refused",
            "an old program came back after a new one",
            "a raise came too late: somebody was quicker",
            "a zombie met what it can't read",
        ]
    }

    fn reached(&self, step: Step, state: &State) -> u32 {
        let came_back = |node: usize| {
            let of_node = |(_, entry): &(u8, Entry)| matches!(entry, Entry::Open { node: of, new: true } if usize::from(*of) == node);
            state.prefix(state.length).any(|entry| of_node(&entry))
        };
        bits(&[
            matches!(step, Step::Raise { .. }),
            matches!(step, Step::New { .. }),
            matches!(step, Step::Refuse { .. }),
            matches!(step, Step::Open { node, new: false } if came_back(node)),
            matches!(step, Step::Lose { .. }),
            matches!(step, Step::Stop { .. }),
        ])
    }
}

impl Level {
    fn has(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }

    fn read(&self, state: &State, node: usize, take: &mut dyn FnMut(Step, State)) {
        let process = state.processes[node];
        let mut after = *state;
        let Some(entry) = state.table[usize::from(process.known)] else { return };
        if process.new || entry.is_read_by_old() {
            after.processes[node].known += 1;
            return take(Step::Read { node }, after);
        }
        // What counts is the session at that revision, not how far the process has come.
        if let Phase::Open(own) = process.phase
            && state.open(process.known + 1).any(|(opened, ..)| opened == own)
        {
            after.broken = Some(CANT_READ);
        }
        after.processes[node].phase = Phase::Down;
        take(Step::Stop { node }, after);
    }

    /// What a broker with a session appends.
    fn running(&self, state: &State, node: usize, own: u8, take: &mut dyn FnMut(Step, State)) {
        let process = state.processes[node];
        let known = process.known;
        let is_newest = known == state.length;
        if is_newest {
            for (opened, ..) in state.open(known).filter(|(opened, ..)| *opened != own) {
                take(Step::Close { by: node, opened }, state.appended(node, Entry::Close { opened }));
            }
        }
        if !process.new {
            return;
        }
        if !state.is_raised(known) && self.may_raise(state, known, own) {
            if is_newest || self.has(Mutant::RaiseByOldImage) {
                take(Step::Raise { by: node }, state.appended(node, Entry::Raise));
            } else {
                take(Step::Lose { by: node }, *state);
            }
        }
        let once = state.prefix(known).all(|(_, entry)| entry != Entry::New);
        let level_is_there = once && (state.is_raised(known) || self.has(Mutant::NewAtOnce));
        if is_newest && level_is_there {
            take(Step::New { by: node }, state.appended(node, Entry::New));
        }
    }

    /// Whether all open sessions of the image support the higher level.
    fn may_raise(&self, state: &State, known: u8, own: u8) -> bool {
        let once_new = |node: u8| state.prefix(known).any(|(_, entry)| entry == Entry::Open { node, new: true });
        state.open(known).all(|(opened, node, new)| {
            new || self.has(Mutant::SilentNotAsked)
                || self.has(Mutant::AbsentNotAsked) && opened != own
                || self.has(Mutant::ToldByNode) && once_new(node)
        })
    }
}
