//! What comes of a state when nothing more goes wrong: processes that run go on, what they sent lands, and whoever serves watches.

use super::Start;
use super::state::{Life, Name, OF_NODE, SESSIONS, Stand, State, Walk};

const STUCK: &str = "a start does not end, though nothing goes wrong any more";
const NOBODY_SERVES: &str = "nobody serves the partition in the end";
const NOT_CLOSED: &str = "two sessions of one node id stay open";

/// More than any state needs.
const MOST_STEPS: usize = 100;

impl Start {
    /// The rule that the end of a state breaks.
    pub fn ends_badly(&self, state: &State) -> Option<&'static str> {
        let mut later = *state;
        for _ in 0..MOST_STEPS {
            let Some(next) = self.next(&later) else { break };
            later = next;
        }
        if later.broken.is_some() {
            return later.broken;
        }
        if later.sessions.iter().any(|session| session.life.is_start()) {
            return Some(STUCK);
        }
        watcher(&later)?;
        let served = later.holder().map(|holder| &later.sessions[holder]);
        if !served.is_some_and(|holder| holder.life == Life::Serving && holder.held.is_some()) {
            return Some(NOBODY_SERVES);
        }
        let open = OF_NODE.iter().filter(|at| later.sessions[**at].stand.is_open()).count();
        (open > 1).then_some(NOT_CLOSED)
    }

    fn next(&self, state: &State) -> Option<State> {
        (0..SESSIONS).find_map(|at| self.process_goes_on(state, at)).or_else(|| self.watcher_goes_on(state))
    }

    fn process_goes_on(&self, state: &State, at: usize) -> Option<State> {
        let own = &state.sessions[at];
        if !own.life.runs() {
            return None;
        }
        for number in own.under_way() {
            match own.names[usize::from(number)] {
                Name::Free => {
                    return Some(state.with(at, |session| session.names[usize::from(number)] = Name::Segment));
                }
                Name::Fence => {
                    let mut after = *state;
                    self.meet_fence(&mut after, at, number);
                    return Some(after);
                }
                Name::Segment => {}
            }
        }
        match own.life {
            Life::Opening if own.seals == 0 => Some(state.with(at, |session| session.seals = 1)),
            Life::Opening => self.start_goes_on(state, at),
            Life::Admitted => Some(state.with(at, |session| session.life = Life::Serving)),
            // The next segment, which comes in a third of a ttl, would meet it.
            Life::Serving if own.names[usize::from(own.seals)] == Name::Fence => {
                Some(state.with(at, |session| session.life = Life::Over))
            }
            Life::Serving if state.holder() == Some(at) && own.held.is_none() => {
                let mut after = *state;
                self.recover(&mut after, at);
                Some(after)
            }
            Life::Leaving => self.closes(state, at, at),
            _ => None,
        }
    }

    fn start_goes_on(&self, state: &State, at: usize) -> Option<State> {
        let own = &state.sessions[at];
        let found = |target: &usize| matches!(own.walks[*target], Walk::Found(_));
        match self.predecessors(own).find(|target| !found(target)) {
            Some(target) => self.fences(state, at, target),
            None => {
                let mut after = None;
                self.admit(state, at, &mut |_, next| after = after.or(Some(next)));
                after
            }
        }
    }

    /// Whoever serves closes those whose processes are gone.
    fn watcher_goes_on(&self, state: &State) -> Option<State> {
        let by = watcher(state)?;
        let dead = |at: &usize| state.sessions[*at].stand.is_open() && !state.sessions[*at].life.runs();
        let target = (0..SESSIONS).find(dead)?;
        match state.sessions[by].walks[target] {
            Walk::None | Walk::At(_) => self.fences(state, by, target),
            Walk::Found(_) => self.closes(state, by, target),
        }
    }

    fn fences(&self, state: &State, by: usize, target: usize) -> Option<State> {
        Some(match state.sessions[by].walks[target] {
            Walk::None => self.start_walk(state, by, target, state.sessions[target].merged),
            _ => self.walk(state, by, target),
        })
    }

    fn closes(&self, state: &State, by: usize, target: usize) -> Option<State> {
        let Walk::Found(end) = state.sessions[by].walks[target] else { return None };
        let mut after = None;
        self.close(state, by, target, end, &mut |_, next| after = after.or(Some(next)));
        after
    }
}

fn watcher(state: &State) -> Option<usize> {
    let serves = |at: &usize| state.sessions[*at].life == Life::Serving && state.sessions[*at].stand == Stand::Ready;
    (0..SESSIONS).find(serves)
}
