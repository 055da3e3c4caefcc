//! What the metadata table's entries do to the image, and the rules that they keep.

use super::state::{Life, NONE, OF_NODE, OTHER, SESSIONS, Session, Stand, State, Tenure, Walk};
use super::steps::Step;
use super::{Mutant, Start};

const TWO_HOLDERS: &str = "two sessions hold the partition";
const TWO_READY: &str = "two sessions of one node id are ready";

/// Why the second entry of a start is not appended.
enum NotYet {
    /// An end is below what is merged: look for it anew.
    MergedMeanwhile,
    /// It breaks a rule.
    Refused,
}

impl Start {
    /// `OpenSession`: those of its node id that are older and not closed are its predecessors.
    pub fn open_session(&self, state: &State, at: usize) -> State {
        let mut predecessors = 0;
        for other in (0..SESSIONS).filter(|other| *other != at && state.sessions[*other].stand.is_open()) {
            let missed = self.has(Mutant::PredecessorsBeforeRace) && other > OTHER;
            let same_node = OF_NODE.contains(&other) || self.has(Mutant::ClosesOthers);
            predecessors |= u8::from(same_node && !missed) << other;
        }
        state.with(at, |session| {
            session.stand = Stand::Open;
            session.predecessors = predecessors;
        })
    }

    pub fn predecessors(&self, session: &Session) -> impl Iterator<Item = usize> + use<> {
        let bits = session.predecessors;
        (0..SESSIONS).filter(move |other| bits >> other & 1 == 1)
    }

    /// The second entry of a start, one for each session that may be granted the partition.
    pub fn admit(&self, state: &State, at: usize, take: &mut impl FnMut(Step, State)) {
        match self.may_admit(state, at) {
            Err(NotYet::MergedMeanwhile) => {
                let after = state.with(at, |session| match self.mutant {
                    Some(Mutant::SameEndAgain) => {}
                    Some(Mutant::EndRaised) => {
                        for (walk, other) in session.walks.iter_mut().zip(&state.sessions) {
                            if let Walk::Found(end) = walk {
                                *end = other.merged.max(*end);
                            }
                        }
                    }
                    _ => session.walks = [Walk::None; SESSIONS],
                });
                take(Step::MergedMeanwhile { session: at }, after);
            }
            Err(NotYet::Refused) => {
                let mut after = *state;
                self.fails(&mut after, at);
                take(Step::Refused { session: at }, after);
            }
            Ok(()) => {
                let mut ready = *state;
                ready.sessions[at].stand = Stand::Ready;
                ready.sessions[at].life = Life::Admitted;
                let closes = |other: &usize| ready.sessions[*other].stand.is_open();
                let closed: Vec<_> = self.predecessors(&ready.sessions[at]).filter(closes).collect();
                for to in self.candidates(&ready).filter(|to| !closed.contains(to)) {
                    let mut after = ready;
                    for other in &closed {
                        if let Walk::Found(end) = ready.sessions[at].walks[*other] {
                            self.fence_session(&mut after, *other, end, Some(to));
                        }
                    }
                    if after.holder().is_none() && !self.has(Mutant::VacantLeft) {
                        self.grant(&mut after, to);
                    }
                    after.sessions[at].walks = [Walk::None; SESSIONS];
                    take(Step::Admit { session: at, to, closes: closed.len() }, after);
                }
            }
        }
    }

    fn may_admit(&self, state: &State, at: usize) -> Result<(), NotYet> {
        let own = &state.sessions[at];
        let ends = || self.predecessors(own).map(|other| (&state.sessions[other], own.walks[other]));
        let merged_past = |(other, walk): (&Session, Walk)| matches!(walk, Walk::Found(end) if end < other.merged);
        if ends().any(merged_past) && !self.has(Mutant::MergedNotCompared) {
            return Err(NotYet::MergedMeanwhile);
        }
        let may_be_ready = own.stand == Stand::Open || self.has(Mutant::ReadyThoughClosed);
        let may_close = |(other, walk): (&Session, Walk)| match walk {
            _ if !other.stand.is_open() => !self.has(Mutant::ClosesTheClosed),
            Walk::Found(end) => may_fence(other, end),
            Walk::None | Walk::At(_) => false,
        };
        if may_be_ready && ends().all(may_close) { Ok(()) } else { Err(NotYet::Refused) }
    }

    /// The entry of one who watches, by the end that he found.
    pub fn close(&self, state: &State, by: usize, target: usize, end: u8, take: &mut impl FnMut(Step, State)) {
        let session = &state.sessions[target];
        let mut without = state.with(by, |own| own.walks[target] = Walk::None);
        let merged_not_compared = self.has(Mutant::MergedNotCompared);
        if !session.stand.is_open() || !may_fence(session, end) || (end < session.merged && !merged_not_compared) {
            return take(Step::NotClosed { by, target }, without);
        }
        let mut ready: Vec<_> = self.candidates(state).filter(|to| *to != target).map(Some).collect();
        if ready.is_empty() {
            ready.push(None);
        }
        if by == target {
            without.sessions[by].life = Life::Over;
        }
        for to in ready {
            let mut after = without;
            self.fence_session(&mut after, target, end, to);
            take(Step::Close { by, target, end, to }, after);
        }
    }

    fn candidates(&self, state: &State) -> impl Iterator<Item = usize> + use<> {
        let stands = state.sessions.map(|session| session.stand);
        let also_open = self.has(Mutant::GrantsToOpen);
        (0..SESSIONS).filter(move |at| stands[*at] == Stand::Ready || (also_open && stands[*at] == Stand::Open))
    }

    /// A session that was not ready holds nothing.
    pub fn fence_session(&self, state: &mut State, target: usize, end: u8, to: Option<usize>) {
        let was_ready = std::mem::replace(&mut state.sessions[target].stand, Stand::Fenced { end }) == Stand::Ready;
        if !was_ready {
            return;
        }
        let holds = state.holder() == Some(target);
        for tenure in state.tenures.iter_mut().flatten().filter(|tenure| usize::from(tenure.session) == target) {
            tenure.end = tenure.end.min(end);
        }
        if let Some(to) = to.filter(|_| holds) {
            self.grant(state, to);
        }
    }

    pub fn grant(&self, state: &mut State, to: usize) {
        if state.holder().is_some() {
            state.breaks(TWO_HOLDERS);
        }
        if let Some(free) = state.tenures.iter_mut().find(|tenure| tenure.is_none()) {
            *free = Some(Tenure { session: to as u8, end: NONE });
        }
    }

    pub fn check_image(&self, state: &mut State) {
        if OF_NODE.iter().filter(|at| state.sessions[**at].stand == Stand::Ready).count() > 1 {
            state.breaks(TWO_READY);
        }
    }
}

/// The rule of `FenceSession`: who was ready has a segment 0.
fn may_fence(session: &Session, end: u8) -> bool {
    session.stand == Stand::Open || end > 0
}
