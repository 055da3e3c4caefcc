//! Commit, fence, grant and recovery of one partition, as the design has them.
//!
//! Sessions hold the partition one after the other; each writes numbered segments under names that can only be created. A PUT that was
//! sent may land at any later time while its name is free, so no state says which PUTs are on their way. Fences land likewise: any
//! number of fencers may put one at any free name, and those that look for an end do it step by step. The metadata table is a register
//! that changes at once (its own log has other rules); who has the partition next is decided by the first end that is recorded there.
//!
//! What may be acknowledged is acknowledged at once, and what a follower may read it reads at once: nothing shows more, and later steps must
//! stand by all of it.
//!
//! Every segment holds one record, and says how many segments of its session were committed when it was sealed: a fencer starts its
//! walk at such a statement. With [`Bounds::loss`] one object may vanish that a statement counts as committed; then a partition may stay
//! closed, but must not lose a record in silence. A fencer looks at what is there after the loss: an object that vanishes while somebody
//! walks towards it is beyond this.
//!
//! Not here: what the other worlds are for. They take from this one that any number of fencers find the same end.

mod state;

use crate::Run;
use crate::explore::{Spec, bits};
use state::{
    Bounds, FENCERS, Fencer, Life, Mutant, NAMES, NO_END, Name, OFFSETS, Record, SESSIONS, Sealed, Session, State,
};

#[derive(Clone, Copy, Debug)]
#[expect(dead_code, reason = "the numbers are there to be printed")]
pub enum Step {
    Seal { session: usize },
    Land { session: usize, number: usize },
    LandShort { session: usize, number: usize },
    Learn { session: usize, number: usize },
    StrayFence { session: usize, number: usize },
    Look { fencer: usize, target: usize, start: u8 },
    Walk { fencer: usize },
    Record { fencer: usize },
    Grant { session: usize },
    Recover { session: usize },
    Lose { session: usize, number: usize },
    DeleteFence { session: usize },
}

const TWO_AT_ONE_OFFSET: &str = "two records were shown at one offset";
const ACKED_BEHIND_END: &str = "a record behind its session's end was acknowledged";
const LOST_IN_SILENCE: &str = "a record that was shown is not in the log of a later owner";
const NOT_CONTIGUOUS: &str = "offsets of the log are not contiguous";
const CLOSED_FOR_NOTHING: &str = "nothing was lost, and recovery meets a hole";
const TWO_ENDS: &str = "two fencers found different ends";

struct Commit {
    bounds: Bounds,
    mutant: Option<Mutant>,
}

const SMALL: Bounds = Bounds { sessions: 2, segments: (3, 2), window: 2, fencers: 1, loss: false };
const LOSS: Bounds = Bounds { loss: true, ..SMALL };

/// Name, world, and the rule that is left out.
const RUNS: &[(&str, Bounds, Option<Mutant>)] = &[
    ("two_sessions", SMALL, None),
    ("two_fencers", Bounds { fencers: 2, ..SMALL }, None),
    ("longer_sessions", Bounds { segments: (4, 2), window: 3, fencers: 2, ..SMALL }, None),
    ("three_sessions", Bounds { sessions: 3, segments: (2, 2), ..SMALL }, None),
    ("an_object_is_lost", Bounds { segments: (4, 2), window: 3, fencers: 2, ..LOSS }, None),
    ("ack_out_of_order", SMALL, Some(Mutant::AckOutOfOrder)),
    ("ack_before_put", SMALL, Some(Mutant::AckBeforePut)),
    ("trust_taken", SMALL, Some(Mutant::TrustTaken)),
    ("retry_takes_more", SMALL, Some(Mutant::RetryTakesMore)),
    ("keep_memory", SMALL, Some(Mutant::KeepMemory)),
    ("end_from_reads", SMALL, Some(Mutant::EndFromReads)),
    ("fence_ahead_is_end", SMALL, Some(Mutant::FenceAheadIsEnd)),
    ("fencer_trusts_taken", SMALL, Some(Mutant::FencerTrustsTaken)),
    ("fence_deleted", SMALL, Some(Mutant::FenceDeleted)),
    ("follower_skips_gap", SMALL, Some(Mutant::FollowerSkipsGap)),
    ("start_above_seen", SMALL, Some(Mutant::StartAboveSeen)),
    ("statement_counts_in_flight", SMALL, Some(Mutant::StatementCountsInFlight)),
    ("start_at_zero", LOSS, Some(Mutant::StartAtZero)),
    ("start_at_any_statement", LOSS, Some(Mutant::StartAtAnyStatement)),
    ("skip_hole", LOSS, Some(Mutant::SkipHole)),
];

pub fn runs() -> Vec<Run> {
    let run = |(name, bounds, mutant): &(&'static str, Bounds, Option<Mutant>)| {
        Run::new("commit", name, mutant.is_some(), Commit { bounds: *bounds, mutant: *mutant })
    };
    RUNS.iter().map(run).collect()
}

impl Commit {
    fn has(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }
}

impl Spec for Commit {
    type State = State;
    type Step = Step;

    fn start(&self) -> State {
        let session = Session {
            life: Life::Waiting,
            names: [Name::Free; NAMES],
            sealed: [Sealed::default(); NAMES],
            seals: 0,
            learned: 0,
            next_offset: 0,
        };
        let mut sessions = [session; SESSIONS];
        sessions[0].life = Life::Serving;
        State {
            sessions,
            fencers: [Fencer::Idle; FENCERS],
            granted: 1,
            ends: [NO_END; SESSIONS],
            shown: [None; OFFSETS],
            lost: false,
            broken: None,
        }
    }

    fn steps(&self, state: &State, take: &mut dyn FnMut(Step, State)) {
        let mut take = |step, mut after: State| {
            self.show_all(&mut after);
            after.fencers[..self.bounds.fencers].sort_unstable();
            take(step, after);
        };
        for session in 0..usize::from(state.granted) {
            self.session_steps(state, session, &mut take);
            self.name_steps(state, session, &mut take);
        }
        for fencer in 0..self.bounds.fencers {
            self.fencer_steps(state, fencer, &mut take);
        }
        self.grant(state, &mut take);
    }

    fn broken(&self, state: &State) -> Option<&'static str> {
        state.broken
    }

    fn situations(&self) -> &'static [&'static str] {
        &[
            "a segment landed behind its session's end",
            "a session met its fence",
            "a later owner acknowledged",
            "a session learned of a commit after its end was recorded",
            "the last session served",
            "a walk started above 0",
            "recovery stopped at a loss",
        ]
    }

    fn reached(&self, step: Step, state: &State) -> u32 {
        let lives = |life: Life| state.sessions.iter().any(|session| session.life == life);
        let ended = |session: usize| state.ends[session] != NO_END;
        let situations = [
            matches!(step, Step::Land { session, number } if ended(session) && number > state.ends[session].into()),
            lives(Life::Over),
            state.sessions[1..].iter().any(|session| session.committed() > 0),
            matches!(step, Step::Learn { session, .. } if ended(session) && state.sessions[session].committed() > 0),
            state.sessions[self.bounds.sessions - 1].life == Life::Serving,
            matches!(step, Step::Look { start, .. } if start > 0),
            lives(Life::Alarm),
        ];
        bits(&situations)
    }

    fn beyond(&self) -> &'static [&'static str] {
        if self.bounds.loss { &[] } else { &["recovery stopped at a loss"] }
    }
}

impl Commit {
    /// What a session does by itself, be it the owner still or not.
    fn session_steps(&self, state: &State, at: usize, take: &mut impl FnMut(Step, State)) {
        let session = &state.sessions[at];
        if session.life == Life::Recovering {
            let mut after = *state;
            self.recover(&mut after, at);
            take(Step::Recover { session: at }, after);
        }
        if session.life != Life::Serving {
            return;
        }
        let next = usize::from(session.seals);
        if next < self.segments(at) && session.seals - session.committed().min(session.seals) < self.bounds.window {
            let mut after = *state;
            let session = &mut after.sessions[at];
            let in_flight_too = self.has(Mutant::StatementCountsInFlight);
            let committed = if in_flight_too { session.seals } else { session.committed() };
            session.sealed[next] = Sealed { offset: session.next_offset, committed };
            session.next_offset += 1;
            session.seals += 1;
            take(Step::Seal { session: at }, after);
        }
        for number in 0..next {
            self.learn(state, at, number, take);
        }
    }

    fn segments(&self, session: usize) -> usize {
        if session == 0 { self.bounds.segments.0 } else { self.bounds.segments.1 }
    }

    /// The answer of the PUT arrives, or the trailer is read: all the same. What is not there says nothing.
    fn learn(&self, state: &State, at: usize, number: usize, take: &mut impl FnMut(Step, State)) {
        let session = &state.sessions[at];
        if session.learned >> number & 1 == 1 || session.names[number] == Name::Free {
            return;
        }
        let mut after = *state;
        if session.names[number] == Name::Fence && !self.has(Mutant::TrustTaken) {
            let ended = &mut after.sessions[at];
            ended.life = Life::Over;
            ended.learned = 0;
            if !self.has(Mutant::KeepMemory) {
                ended.next_offset = 0;
            }
        } else {
            after.sessions[at].learned |= 1 << number;
        }
        take(Step::Learn { session: at, number }, after);
    }

    fn acknowledges(&self, session: &Session, number: u8) -> bool {
        match self.mutant {
            Some(Mutant::AckOutOfOrder) => session.learned >> number & 1 == 1,
            Some(Mutant::AckBeforePut) => number < session.seals,
            _ => number < session.committed(),
        }
    }

    /// Acknowledges and reads what may be. What is read is read by a follower, from the bucket: without jumping a gap.
    fn show_all(&self, state: &mut State) {
        for at in 0..usize::from(state.granted) {
            let session = state.sessions[at];
            for number in (0..session.seals).filter(|number| self.acknowledges(&session, *number)) {
                if number >= state.ends[at] {
                    state.broken = Some(ACKED_BEHIND_END);
                }
                show(state, session.sealed[usize::from(number)].offset, (at as u8, number));
            }
        }
        self.follow(state);
    }

    /// What happens to the names of a session, whoever lives.
    fn name_steps(&self, state: &State, at: usize, take: &mut impl FnMut(Step, State)) {
        let session = &state.sessions[at];
        let with = |number: usize, name: Name| {
            let mut after = *state;
            after.sessions[at].names[number] = name;
            after
        };
        for number in 0..=self.segments(at) {
            if session.names[number] == Name::Free {
                if number < session.seals.into() {
                    take(Step::Land { session: at, number }, with(number, Name::Segment));
                    if self.has(Mutant::RetryTakesMore) {
                        take(Step::LandShort { session: at, number }, with(number, Name::Short));
                    }
                }
                // Who knows of a loss puts no fence into the hole: a fence that runs ahead is above all that was seen.
                if !self.bounds.loss || session.highest().is_none_or(|highest| number > highest) {
                    take(Step::StrayFence { session: at, number }, with(number, Name::Fence));
                }
            }
            let counted = |other: usize| other != number && usize::from(session.sealed[other].committed) > number;
            let walked = state.fencers.iter().any(|fencer| *fencer != Fencer::Idle);
            let may_vanish = self.bounds.loss && !state.lost && !walked && session.names[number].is_segment();
            if may_vanish && session.standing().any(counted) {
                let mut after = with(number, Name::Free);
                after.lost = true;
                take(Step::Lose { session: at, number }, after);
            }
        }
        if self.has(Mutant::FenceDeleted) && state.ends[at] != NO_END {
            let end = usize::from(state.ends[at]);
            if session.names[end] == Name::Fence {
                take(Step::DeleteFence { session: at }, with(end, Name::Free));
            }
        }
    }

    fn fencer_steps(&self, state: &State, fencer: usize, take: &mut impl FnMut(Step, State)) {
        match state.fencers[fencer] {
            Fencer::Idle => {
                for target in (0..usize::from(state.granted)).filter(|target| state.ends[*target] == NO_END) {
                    self.look(state, fencer, target, take);
                }
            }
            Fencer::Walking { target, at } => {
                let mut after = *state;
                let name = &mut after.sessions[usize::from(target)].names[usize::from(at)];
                let is_segment = name.is_segment() && !self.has(Mutant::FencerTrustsTaken);
                if *name == Name::Free {
                    *name = Name::Fence;
                }
                let next = Fencer::Walking { target, at: at + 1 };
                after.fencers[fencer] = if is_segment { next } else { Fencer::Found { target, end: at } };
                take(Step::Walk { fencer }, after);
            }
            Fencer::Found { target, end } => {
                let mut after = *state;
                let recorded = &mut after.ends[usize::from(target)];
                if *recorded == NO_END {
                    *recorded = end;
                } else if *recorded != end && !self.bounds.loss {
                    after.broken = Some(TWO_ENDS);
                }
                after.fencers[fencer] = Fencer::Idle;
                take(Step::Record { fencer }, after);
            }
        }
    }

    /// Where a walk may start.
    fn look(&self, state: &State, fencer: usize, target: usize, take: &mut impl FnMut(Step, State)) {
        let session = &state.sessions[target];
        let statement = |number: usize| session.sealed[number].committed;
        let above = session.highest().map_or(0, |highest| highest as u8 + 1);
        let target_id = target as u8;
        let walking = |at: u8| Fencer::Walking { target: target_id, at };
        let found = |end: u8| Fencer::Found { target: target_id, end };
        let mut set = |start: u8, next: Fencer, fence: Option<u8>| {
            let mut after = *state;
            after.fencers[fencer] = next;
            if let Some(number) = fence {
                after.sessions[target].names[usize::from(number)] = Name::Fence;
            }
            take(Step::Look { fencer, target, start }, after);
        };
        match self.mutant {
            Some(Mutant::EndFromReads) => set(0, found(session.first_gap()), None),
            Some(Mutant::FenceAheadIsEnd) if session.names[usize::from(above)] != Name::Fence => {
                set(0, found(above), Some(above));
            }
            Some(Mutant::StartAboveSeen) => set(above, walking(above), None),
            Some(Mutant::StartAtZero) => set(0, walking(0), None),
            // What a fencer saw may be old, but it saw some segment; when nothing was lost any of them will do.
            _ if !self.bounds.loss || self.has(Mutant::StartAtAnyStatement) => {
                set(0, walking(0), None);
                for start in session.standing().map(statement).filter(|start| *start > 0) {
                    set(start, walking(start), None);
                }
            }
            _ => {
                let start = session.standing().map(statement).max().unwrap_or(0);
                set(start, walking(start), None);
            }
        }
    }

    fn grant(&self, state: &State, take: &mut impl FnMut(Step, State)) {
        let next = usize::from(state.granted);
        if next < self.bounds.sessions && state.ends[next - 1] != NO_END {
            let mut after = *state;
            after.sessions[next].life = Life::Recovering;
            after.granted += 1;
            take(Step::Grant { session: next }, after);
        }
    }

    /// Reads all names below the ends of the sessions before.
    fn recover(&self, state: &mut State, at: usize) {
        let mut log = Vec::new();
        for earlier in 0..at {
            for number in 0..state.ends[earlier] {
                let name = state.sessions[earlier].names[usize::from(number)];
                if !name.is_segment() {
                    if self.has(Mutant::SkipHole) {
                        continue;
                    }
                    state.sessions[at].life = Life::Alarm;
                    state.broken = if state.lost { None } else { Some(CLOSED_FOR_NOTHING) };
                    return;
                }
                if name == Name::Segment {
                    let offset = state.sessions[earlier].sealed[usize::from(number)].offset;
                    if usize::from(offset) != log.len() && !self.has(Mutant::SkipHole) {
                        state.broken = Some(NOT_CONTIGUOUS);
                    }
                    log.push((earlier as u8, number));
                }
            }
        }
        // Who recovers late, by an old image, need not know what later owners wrote: its segments meet its fence.
        let kept = |(offset, record): (usize, &Option<Record>)| {
            record.is_none_or(|(session, _)| usize::from(session) >= at) || *record == log.get(offset).copied()
        };
        if state.broken.is_none() && !state.shown.iter().enumerate().all(kept) {
            state.broken = Some(LOST_IN_SILENCE);
        }
        let remembered = if self.has(Mutant::KeepMemory) { state.sessions[at - 1].next_offset } else { 0 };
        state.sessions[at].next_offset = remembered.max(log.len() as u8);
        state.sessions[at].life = Life::Serving;
    }

    fn follow(&self, state: &mut State) {
        let mut offset = 0;
        for at in 0..usize::from(state.granted) {
            let open = state.ends[at] == NO_END;
            let end = if open { self.segments(at) } else { state.ends[at].into() };
            for number in 0..end {
                match state.sessions[at].names[number] {
                    Name::Segment => {}
                    Name::Short => continue,
                    Name::Free if open && self.has(Mutant::FollowerSkipsGap) => continue,
                    _ => return,
                }
                let sealed = state.sessions[at].sealed[number];
                if sealed.offset != offset && !self.has(Mutant::FollowerSkipsGap) {
                    state.broken = Some(NOT_CONTIGUOUS);
                }
                show(state, sealed.offset, (at as u8, number as u8));
                offset += 1;
            }
        }
    }
}

fn show(state: &mut State, offset: u8, record: Record) {
    let shown = &mut state.shown[usize::from(offset)];
    if shown.is_some_and(|before| before != record) {
        state.broken = state.broken.or(Some(TWO_AT_ONE_OFFSET));
    }
    *shown = Some(record);
}
