//! What starters, sessions and the one who watches do.

use super::state::{
    BEFORE, FIRST, Life, NAMES, NONE, Name, OFFSETS, OTHER, SECOND, SESSIONS, Session, Stand, State, TENURES, Tenure,
    Walk,
};
use super::{Mutant, Start};
use crate::explore::{Spec, bits};

#[derive(Clone, Copy, Debug)]
#[expect(dead_code, reason = "the numbers are there to be printed")]
pub enum Step {
    Open { session: usize },
    Beat { session: usize, number: u8 },
    Land { session: usize, number: u8 },
    MeetFence { session: usize, number: u8 },
    StartWalk { by: usize, target: usize, from: u8 },
    Walk { by: usize, target: usize },
    Ahead { target: usize, number: u8 },
    Admit { session: usize, to: usize, closes: usize },
    MergedMeanwhile { session: usize },
    Refused { session: usize },
    LearnReady { session: usize },
    ProposeAgain { session: usize },
    CloseEarly { session: usize, target: usize },
    Die { session: usize },
    TtlPasses { session: usize, seen: u8 },
    Close { by: usize, target: usize, end: u8, to: Option<usize> },
    NotClosed { by: usize, target: usize },
    Leave,
    Merge { to: u8 },
    Delete { number: u8 },
    Recover { session: usize },
    Seal { session: usize, number: u8 },
}

// Situations.
pub const ITS_OWN: &str = "a start closed its predecessor, and got what that held";
pub const ANOTHERS: &str = "another broker got what the predecessor held";
pub const MERGED: &str = "more was merged than where the end was found";
pub const FENCED: &str = "a start was fenced while it opened, and failed";
pub const READY_ALL_THE_SAME: &str = "a start whose own fence stands was ready all the same";
pub const DIED_OPEN: &str = "a start died between its entries";
pub const DIED_READY: &str = "a start died before it knew that it was ready";
pub const CLOSED_READY: &str = "the second start closed the first, which was ready";
pub const ZOMBIE: &str = "a predecessor met its fence";
pub const BEHIND_END: &str = "a segment landed behind the end of its session";
pub const VACANT: &str = "a start took what nobody held";
pub const TWO_EMPTY: &str = "a start served behind two empty segments";
pub const WROTE: &str = "a session that was started acknowledged a record";
pub const CLOSED_BEFORE: &str = "a predecessor that was never ready was closed before";
pub const AHEAD: &str = "a fence ahead stands where its session has sealed";

const FAILED_FOR_NOTHING: &str = "a start failed, and nothing was wrong";
const TWO_AT_ONE_OFFSET: &str = "two records were shown at one offset";
const ACKED_BEHIND_END: &str = "a record behind its session's end was acknowledged";
const LOST_IN_SILENCE: &str = "a record that was shown is not in the log of a later holder";
const NOT_CONTIGUOUS: &str = "offsets of the log are not contiguous";
const CLOSED_FOR_NOTHING: &str = "nothing was lost, and recovery meets a hole";
const WENT_BACK: &str = "a read showed less than was shown or acknowledged before";

impl Spec for Start {
    type State = State;
    type Step = Step;

    fn start(&self) -> State {
        let mut sessions = [Session::new(); SESSIONS];
        sessions[BEFORE] = Session { held: Some((0, 0)), ..Session::serving() };
        if self.bounds.other {
            sessions[OTHER] = Session::serving();
        }
        let mut tenures = [None; TENURES];
        tenures[0] = Some(Tenure { session: BEFORE as u8, end: NONE });
        State { sessions, tenures, shown: [None; OFFSETS], seen: 0, faults: 0, broken: None }
    }

    fn steps(&self, state: &State, take: &mut dyn FnMut(Step, State)) {
        let mut take = |step, mut after: State| {
            self.check_image(&mut after);
            self.show_all(&mut after);
            take(step, after);
        };
        for at in 0..SESSIONS {
            self.process_steps(state, at, &mut take);
            self.name_steps(state, at, &mut take);
        }
        self.predecessor_steps(state, &mut take);
        if self.bounds.other {
            self.watch(state, &mut take);
        }
    }

    fn broken(&self, state: &State) -> Option<&'static str> {
        state.broken.or_else(|| self.ends_badly(state))
    }

    fn situations(&self) -> &'static [&'static str] {
        &[
            ITS_OWN,
            ANOTHERS,
            MERGED,
            FENCED,
            READY_ALL_THE_SAME,
            DIED_OPEN,
            DIED_READY,
            CLOSED_READY,
            ZOMBIE,
            BEHIND_END,
            VACANT,
            TWO_EMPTY,
            WROTE,
            CLOSED_BEFORE,
            AHEAD,
        ]
    }

    fn reached(&self, step: Step, state: &State) -> u32 {
        let session = |at: usize| &state.sessions[at];
        let starts = || state.sessions[FIRST..].iter();
        let fence_in = |session: &Session| {
            session.names[..usize::from(session.seals)].contains(&Name::Fence)
                || session.names[usize::from(session.seals)] == Name::Fence
        };
        let records = |session: &Session| {
            session.offsets[..usize::from(session.committed().min(session.seals))].iter().any(|offset| *offset != NONE)
        };
        let fenced = |at: usize| matches!(session(at).stand, Stand::Fenced { .. });
        bits(&[
            matches!(step, Step::Admit { session, to, closes } if session == to && closes > 0),
            matches!(step, Step::Close { target: BEFORE, to: Some(OTHER), .. }),
            matches!(step, Step::MergedMeanwhile { .. }),
            matches!(step, Step::MeetFence { session, .. } if session >= FIRST && state.sessions[session].held.is_none()),
            matches!(step, Step::Admit { session: at, .. } if fence_in(session(at))),
            matches!(step, Step::Die { session: at } if session(at).stand == Stand::Open),
            matches!(step, Step::Die { session: at } if session(at).stand == Stand::Ready),
            matches!(step, Step::Admit { session: SECOND, .. }) && fenced(FIRST) && state.tenures[2].is_some(),
            matches!(step, Step::MeetFence { session: BEFORE, .. }),
            matches!(step, Step::Land { session: at, number }
                if matches!(session(at).stand, Stand::Fenced { end } if number > end)),
            matches!(step, Step::Admit { session, closes: 0, .. } if state.holder() == Some(session)),
            starts()
                .any(|session| session.life == Life::Serving && session.offsets[..2] == [NONE; 2] && session.seals > 1),
            starts().any(records),
            matches!(step, Step::CloseEarly { .. }),
            matches!(step, Step::Ahead { target, number } if number < state.sessions[target].seals),
        ])
    }

    fn beyond(&self) -> &'static [&'static str] {
        self.bounds.beyond
    }
}

impl Start {
    /// What the process of a session does.
    fn process_steps(&self, state: &State, at: usize, take: &mut impl FnMut(Step, State)) {
        let own = &state.sessions[at];
        match own.life {
            Life::Waiting => self.open(state, at, take),
            Life::Opening => {
                self.beat(state, at, take);
                self.fence_predecessors(state, at, take);
            }
            Life::Admitted => {
                self.beat(state, at, take);
                self.learn_ready(state, at, take);
            }
            Life::Serving => self.serve(state, at, take),
            Life::Leaving | Life::Over | Life::Dead => {}
        }
        for number in own.under_way().filter(|number| own.life.runs() && own.names[usize::from(*number)] == Name::Fence)
        {
            let mut after = *state;
            self.meet_fence(&mut after, at, number);
            take(Step::MeetFence { session: at, number }, after);
        }
        let may_die = own.life.is_start() && state.faults < self.bounds.faults;
        // A zombie that does nothing any more is as good as gone, unless somebody watches.
        let may_go = at == BEFORE && own.life.runs() && (self.bounds.other || !self.bounds.zombie);
        if may_die || may_go {
            let mut after = state.with(at, |session| session.life = Life::Dead);
            after.faults += u8::from(at != BEFORE);
            take(Step::Die { session: at }, after);
        }
    }

    fn open(&self, state: &State, at: usize, take: &mut impl FnMut(Step, State)) {
        let in_turn = at == FIRST || state.sessions[FIRST].stand != Stand::Absent;
        let gone = !state.sessions[BEFORE].life.runs();
        let may_begin = self.bounds.zombie || gone || self.has(Mutant::PredecessorReads);
        if at >= FIRST && at < FIRST + self.bounds.starts && in_turn && may_begin {
            let mut after = self.open_session(state, at);
            after.sessions[at].life = Life::Opening;
            if at == SECOND && self.has(Mutant::FencesNewer) && state.sessions[FIRST].life == Life::Opening {
                after.sessions[FIRST].predecessors |= 1 << SECOND;
            }
            take(Step::Open { session: at }, after);
        }
    }

    /// The next empty segment, when the one before is known to stand.
    fn beat(&self, state: &State, at: usize, take: &mut impl FnMut(Step, State)) {
        let own = &state.sessions[at];
        let most = if self.has(Mutant::SilentStart) { 1 } else { self.bounds.beats };
        if own.under_way().is_empty() && own.seals < most {
            take(Step::Beat { session: at, number: own.seals }, state.with(at, |session| session.seals += 1));
        }
    }

    fn fence_predecessors(&self, state: &State, at: usize, take: &mut impl FnMut(Step, State)) {
        let own = &state.sessions[at];
        for target in self.predecessors(own) {
            self.walk_steps(state, at, target, take);
        }
        let found = |target: usize| matches!(own.walks[target], Walk::Found(_));
        let begun = own.committed() > 0 || self.has(Mutant::ReadyBeforeSegment);
        if !begun || !self.predecessors(own).all(found) {
            return;
        }
        self.admit(state, at, take);
        for target in self.predecessors(own).filter(|_| self.bounds.in_steps) {
            if let (Stand::Open, Walk::Found(end)) = (state.sessions[target].stand, own.walks[target]) {
                let mut after = *state;
                self.fence_session(&mut after, target, end, None);
                take(Step::CloseEarly { session: at, target }, after);
            }
        }
    }

    /// The answer to the second entry. A segment that is under way is waited for.
    fn learn_ready(&self, state: &State, at: usize, take: &mut impl FnMut(Step, State)) {
        let own = &state.sessions[at];
        if own.under_way().is_empty() || self.has(Mutant::BeatNotAwaited) {
            let after = state.with(at, |session| {
                session.life = Life::Serving;
                session.assumed = if self.has(Mutant::BeatNotAwaited) { session.seals } else { session.assumed };
            });
            take(Step::LearnReady { session: at }, after);
        }
        if self.has(Mutant::ProposesAgain) {
            let mut after = *state;
            self.fails(&mut after, at);
            take(Step::ProposeAgain { session: at }, after);
        }
    }

    /// A start that fails does so because somebody took it for dead, or for a newer session of its node id.
    pub fn fails(&self, state: &mut State, at: usize) {
        let newer = at == FIRST && state.sessions[SECOND].stand != Stand::Absent;
        if !newer && !state.sessions[at].slow {
            state.breaks(FAILED_FOR_NOTHING);
        }
        state.sessions[at].life = Life::Over;
    }

    pub fn meet_fence(&self, state: &mut State, at: usize, number: u8) {
        if state.sessions[at].life.is_start() {
            if self.has(Mutant::BeatTrustsTaken) {
                state.sessions[at].assumed = number + 1;
                return;
            }
            return self.fails(state, at);
        }
        state.sessions[at].life = Life::Over;
    }

    fn serve(&self, state: &State, at: usize, take: &mut impl FnMut(Step, State)) {
        let own = &state.sessions[at];
        let Some((base, next)) = own.held else {
            if state.holder() == Some(at) {
                let mut after = *state;
                self.recover(&mut after, at);
                take(Step::Recover { session: at }, after);
            }
            return;
        };
        let most = match at {
            BEFORE => self.bounds.records,
            OTHER => u8::from(self.bounds.other_writes),
            _ => 1,
        };
        if next - base < most {
            let after = state.with(at, |session| {
                session.offsets[usize::from(session.seals)] = next;
                session.held = Some((base, next + 1));
                session.seals += 1;
            });
            take(Step::Seal { session: at, number: own.seals }, after);
        }
    }

    /// What only the predecessor does: it merges what is committed, or closes itself.
    fn predecessor_steps(&self, state: &State, take: &mut impl FnMut(Step, State)) {
        let own = &state.sessions[BEFORE];
        let committed = own.committed();
        if self.bounds.merges && own.life == Life::Serving && committed > own.merged {
            take(Step::Merge { to: committed }, state.with(BEFORE, |session| session.merged = committed));
        }
        for number in (0..own.merged).filter(|number| own.names[usize::from(*number)] != Name::Free) {
            let free = |session: &mut Session| session.names[usize::from(number)] = Name::Free;
            take(Step::Delete { number }, state.with(BEFORE, free));
        }
        if self.bounds.leaves && own.life == Life::Serving && own.under_way().is_empty() {
            let after = state.with(BEFORE, |session| {
                session.life = Life::Leaving;
                session.names[usize::from(committed)] = Name::Fence;
                session.walks[BEFORE] = Walk::Found(committed);
            });
            take(Step::Leave, after);
        }
        if let (Life::Leaving, Walk::Found(end)) = (own.life, own.walks[BEFORE]) {
            self.close(state, BEFORE, BEFORE, end, take);
        }
    }

    /// What happens to the names of a session, whoever lives.
    fn name_steps(&self, state: &State, at: usize, take: &mut impl FnMut(Step, State)) {
        let own = &state.sessions[at];
        let with = |number: u8, name| state.with(at, |session| session.names[usize::from(number)] = name);
        for number in (0..NAMES as u8).filter(|number| own.names[usize::from(*number)] == Name::Free) {
            // What was merged has landed.
            if number < own.seals && number >= own.merged {
                take(Step::Land { session: at, number }, with(number, Name::Segment));
            }
            if own.attacked {
                let mut after = with(number, Name::Fence);
                after.sessions[at].attacked = false;
                take(Step::Ahead { target: at, number }, after);
            }
        }
    }

    /// The other broker: who was silent for a ttl is fenced, and closed when it was silent for one behind its last segment.
    fn watch(&self, state: &State, take: &mut impl FnMut(Step, State)) {
        for target in (0..SESSIONS).filter(|target| *target != OTHER && state.sessions[*target].stand.is_open()) {
            let session = &state.sessions[target];
            let seen = session.committed();
            let slow = session.life.runs() && self.bounds.slow && state.faults < self.bounds.faults;
            let silent = !session.life.runs() || slow || {
                let waits = session.life.is_start() && seen > 0 && session.under_way().is_empty();
                self.has(Mutant::SilentStart) && waits
            };
            if silent && session.expired <= seen {
                let mut after = state.with(target, |session| {
                    session.expired = if self.bounds.reads { seen + 1 } else { NAMES as u8 };
                    session.slow |= slow;
                });
                after.faults += u8::from(slow);
                take(Step::TtlPasses { session: target, seen }, after);
            }
            if session.expired > 0 {
                self.walk_steps(state, OTHER, target, take);
            }
        }
        for target in 0..SESSIONS {
            let Walk::Found(end) = state.sessions[OTHER].walks[target] else { continue };
            let seen_open = state.sessions[OTHER].predecessors >> target & 1 == 1;
            if state.sessions[target].expired > end || seen_open {
                self.close(state, OTHER, target, end, take);
            }
        }
    }

    pub fn walk_steps(&self, state: &State, by: usize, target: usize, take: &mut impl FnMut(Step, State)) {
        match state.sessions[by].walks[target] {
            Walk::None => {
                for from in 0..=state.sessions[target].merged {
                    take(Step::StartWalk { by, target, from }, self.start_walk(state, by, target, from));
                }
            }
            Walk::At(_) => take(Step::Walk { by, target }, self.walk(state, by, target)),
            Walk::Found(_) => {}
        }
    }

    pub fn start_walk(&self, state: &State, by: usize, target: usize, from: u8) -> State {
        let mut after = state.with(target, |session| session.attacked = self.bounds.ahead);
        let names = &mut after.sessions[target].names;
        let above = names.iter().rposition(|name| *name == Name::Segment).map_or(from, |highest| highest as u8 + 1);
        let seen = (from..NAMES as u8).find(|number| names[usize::from(*number)] == Name::Fence);
        let walk = match self.mutant {
            Some(Mutant::FenceAheadIsEnd) => {
                names[usize::from(above)] = Name::Fence;
                Walk::Found(above)
            }
            Some(Mutant::FenceSeenIsEnd) => seen.map_or(Walk::At(from), Walk::Found),
            _ => Walk::At(from),
        };
        if self.has(Mutant::OpenNeedsNoWait) && by == OTHER && state.sessions[target].stand == Stand::Open {
            after.sessions[OTHER].predecessors |= 1 << target;
        }
        after.sessions[by].walks[target] = walk;
        after
    }

    pub fn walk(&self, state: &State, by: usize, target: usize) -> State {
        let mut after = *state;
        let Walk::At(at) = state.sessions[by].walks[target] else { return after };
        let name = &mut after.sessions[target].names[usize::from(at)];
        let is_segment = *name == Name::Segment;
        if *name == Name::Free {
            *name = Name::Fence;
        }
        after.sessions[by].walks[target] = if is_segment { Walk::At(at + 1) } else { Walk::Found(at) };
        after
    }

    /// Reads what the holders before wrote, and goes on behind it.
    pub fn recover(&self, state: &mut State, at: usize) {
        let mut log = Vec::new();
        for tenure in state.tenures.iter().flatten().take_while(|tenure| usize::from(tenure.session) != at) {
            let source = state.sessions[usize::from(tenure.session)];
            for number in 0..tenure.end.min(NAMES as u8) {
                if number >= source.merged && source.names[usize::from(number)] != Name::Segment {
                    return state.breaks(CLOSED_FOR_NOTHING);
                }
                match source.offsets[usize::from(number)] {
                    NONE => {}
                    offset if usize::from(offset) != log.len() => return state.breaks(NOT_CONTIGUOUS),
                    _ => log.push((tenure.session, number)),
                }
            }
        }
        let kept = |(offset, shown): (usize, &Option<_>)| {
            shown.is_none_or(|(session, _)| usize::from(session) == at) || *shown == log.get(offset).copied()
        };
        if !state.shown.iter().enumerate().all(kept) {
            state.breaks(LOST_IN_SILENCE);
        }
        state.sessions[at].held = Some((log.len() as u8, log.len() as u8));
    }

    /// Acknowledges and shows what may be.
    fn show_all(&self, state: &mut State) {
        for at in 0..SESSIONS {
            let session = state.sessions[at];
            for number in 0..session.committed().min(session.seals) {
                let offset = session.offsets[usize::from(number)];
                if offset == NONE {
                    continue;
                }
                if matches!(session.stand, Stand::Fenced { end } if number >= end) {
                    state.breaks(ACKED_BEHIND_END);
                }
                let record = (at as u8, number);
                if state.shown[usize::from(offset)].is_some_and(|before| before != record) {
                    state.breaks(TWO_AT_ONE_OFFSET);
                }
                state.shown[usize::from(offset)] = Some(record);
                state.seen = state.seen.max(offset + 1);
            }
        }
        for session in state.sessions.iter().filter(|session| self.bounds.reads && session.life == Life::Serving) {
            let Some((base, _)) = session.held.filter(|_| session.proven()) else { continue };
            let committed = &session.offsets[..usize::from(session.committed().min(session.seals))];
            let end = base + committed.iter().filter(|offset| **offset != NONE).count() as u8;
            if end < state.seen {
                state.broken = state.broken.or(Some(WENT_BACK));
            }
            state.seen = state.seen.max(end);
        }
    }
}
