//! What sessions, mergers, fencers and collectors do.

use super::state::NAMES;
use super::state::{CLAIMS, Claim, Fencer, Life, NO_END, Name, OFFSETS, SESSIONS, Session, Stand, State};
use super::{Merge, Mutant};
use crate::explore::{Spec, bits};

#[derive(Clone, Copy, Debug)]
#[expect(dead_code, reason = "the numbers are there to be printed")]
pub enum Step {
    Seal { session: usize },
    Land { session: usize, number: u8 },
    LateFence { session: usize, number: u8 },
    ClaimMerge { session: usize, from: u8, to: u8, by: usize },
    SendObjects { claim: usize },
    ObjectsLand { claim: usize },
    ReadBack { claim: usize },
    CommitRun { claim: usize },
    EndClaim { claim: usize },
    DeleteSegment { session: usize, number: u8 },
    DeleteFolder { claim: usize },
    AdvanceLogStart { to: u8 },
    StartWalk { target: usize, at: u8 },
    Walk { at: u8 },
    FenceSession { session: usize, end: u8 },
    EndRefused { session: usize, end: u8 },
    Grant { session: usize },
    TransferLease { from: usize, end: u8 },
    Recover { session: usize, known: u8 },
}

const FENCED_BELOW_SERVED: &str = "a tenure ends lower than its successor has read it";
const TWO_RUNS: &str = "two runs stand for one segment";

impl Spec for Merge {
    type State = State;
    type Step = Step;

    fn start(&self) -> State {
        let session = Session {
            life: Life::Waiting,
            names: [Name::Free; NAMES],
            sealed: [0; NAMES],
            seals: 0,
            next_offset: 0,
            end: NO_END,
            handed_over: NO_END,
            merged: 0,
        };
        let mut sessions = [session; SESSIONS];
        sessions[0].life = Life::Serving;
        State {
            sessions,
            granted: 1,
            claims: [None; CLAIMS],
            fencer: Fencer::Idle,
            log_start: 0,
            shown: [None; OFFSETS],
            broken: None,
        }
    }

    fn steps(&self, state: &State, take: &mut dyn FnMut(Step, State)) {
        let mut take = |step, mut after: State| {
            self.show_all(&mut after);
            take(step, after);
        };
        for session in 0..usize::from(state.granted) {
            self.session_steps(state, session, &mut take);
            self.claim_steps(state, session, &mut take);
            self.collect(state, session, &mut take);
        }
        for (id, claim) in state.claims() {
            self.merge_steps(state, id, claim, &mut take);
        }
        self.fencer_steps(state, &mut take);
        self.owner_steps(state, &mut take);
    }

    fn broken(&self, state: &State) -> Option<&'static str> {
        state.broken
    }

    fn situations(&self) -> &'static [&'static str] {
        &[
            "a segment landed where one was merged and deleted",
            "a fence landed where a segment was merged and deleted",
            "a fence below what is merged was refused",
            "objects landed in the folder of a claim that had ended",
            "a run of a fenced session was committed",
            "a zombie's run was committed after its fence",
            "who recovered had an old image",
            "the last session served",
            "retention took all that there was",
            "a successor served while a segment that it needed was merged and deleted",
        ]
    }

    fn reached(&self, step: Step, state: &State) -> u32 {
        let below_merged = |session: usize, number: u8| number < state.sessions[session].merged;
        let claim = |id: usize| state.claims[id].filter(|claim| !state.sessions[usize::from(claim.session)].open());
        bits(&[
            matches!(step, Step::Land { session, number } if below_merged(session, number)),
            matches!(step, Step::LateFence { session, number } if below_merged(session, number)),
            matches!(step, Step::EndRefused { .. }),
            matches!(step, Step::ObjectsLand { claim } if state.claims[claim].is_some_and(|c| c.stand == Stand::Ended)),
            matches!(step, Step::CommitRun { claim: id } if claim(id).is_some_and(|claim| claim.by != claim.session)),
            matches!(step, Step::CommitRun { claim: id } if claim(id).is_some_and(|claim| claim.by == claim.session)),
            matches!(step, Step::Recover { session, known } if known < state.sessions[session - 1].merged),
            state.sessions[self.bounds.sessions - 1].life == Life::Serving,
            matches!(step, Step::AdvanceLogStart { to } if usize::from(to) == state.shown.iter().flatten().count()),
            matches!(step, Step::Recover { session, .. } if state.sessions[session - 1].open()
                && state.sessions[session - 1].merged > 0 && state.sessions[session - 1].names[0] != Name::Segment),
        ])
    }

    fn beyond(&self) -> &'static [&'static str] {
        let all = &[
            "retention took all that there was",
            "a successor served while a segment that it needed was merged and deleted",
            "a fence below what is merged was refused",
            "a run of a fenced session was committed",
        ];
        match (self.bounds.retention, self.bounds.transfers) {
            (true, _) => &all[1..2],
            (_, true) => &all[..1],
            _ => &all[..2],
        }
    }
}

impl Merge {
    fn segments(&self, session: usize) -> u8 {
        if session == 0 { self.bounds.segments.0 } else { self.bounds.segments.1 }
    }

    fn session_steps(&self, state: &State, at: usize, take: &mut impl FnMut(Step, State)) {
        let session = &state.sessions[at];
        let with = |number: u8, name: Name| {
            let mut after = *state;
            after.sessions[at].names[usize::from(number)] = name;
            after
        };
        let free = |number: &u8| session.names[usize::from(*number)] == Name::Free;
        for number in (0..session.seals).filter(free) {
            take(Step::Land { session: at, number }, with(number, Name::Segment));
        }
        for number in (0..session.merged).filter(free) {
            take(Step::LateFence { session: at, number }, with(number, Name::Fence));
        }
        let under_way = session.seals.saturating_sub(session.committed());
        if session.life == Life::Serving && session.seals < self.segments(at) && under_way < self.bounds.window {
            let mut after = *state;
            let session = &mut after.sessions[at];
            session.sealed[usize::from(session.seals)] = session.next_offset;
            session.next_offset += 1;
            session.seals += 1;
            take(Step::Seal { session: at }, after);
        }
    }

    /// The rule of `ClaimMerge`: nobody merges the session, the window begins where the last one ended, and the claimer knows that it is
    /// committed: its own, or below the end in the image.
    fn claim_steps(&self, state: &State, at: usize, take: &mut impl FnMut(Step, State)) {
        let session = &state.sessions[at];
        let Some(id) = state.claims[..self.bounds.claims].iter().position(Option::is_none) else { return };
        let open = |claim: &Claim| claim.stand == Stand::Open && usize::from(claim.session) == at;
        let twice = self.has(Mutant::OverlappingWindows);
        if state.claims().any(|(_, claim)| open(&claim)) && !twice {
            return;
        }
        let highest = session.names.iter().rposition(|name| *name == Name::Segment).map_or(0, |number| number + 1);
        let known = match self.mutant {
            Some(Mutant::MergePastGap) if session.open() => highest as u8,
            Some(Mutant::MergePastEnd) if !session.open() => highest as u8,
            _ if session.open() => session.committed().min(session.seals),
            _ => session.end,
        };
        let by = if session.open() { at..at + 1 } else { at + 1..usize::from(state.granted) };
        for by in by.filter(|by| state.sessions[*by].end == NO_END) {
            for to in session.merged + 1..=known {
                let mut after = *state;
                let (stand, session, by_id) = (Stand::Open, at as u8, by as u8);
                let from = state.sessions[at].merged;
                after.claims[id] =
                    Some(Claim { stand, session, from, to, by: by_id, sent: None, folder: None, read_back: false });
                take(Step::ClaimMerge { session: at, from, to, by }, after);
            }
        }
    }

    fn merge_steps(&self, state: &State, id: usize, claim: Claim, take: &mut impl FnMut(Step, State)) {
        let with = |claim: Claim| {
            let mut after = *state;
            after.claims[id] = Some(claim);
            after
        };
        let source = &state.sessions[usize::from(claim.session)];
        if claim.sent.is_none() && claim.stand == Stand::Open {
            let window = (claim.from..claim.to).map(|number| (number, source.names[usize::from(number)]));
            let found =
                window.filter(|(_, name)| *name == Name::Segment).fold(0, |bits, (number, _)| bits | 1 << number);
            if found == claim.window() || self.has(Mutant::MergePastEnd) || self.has(Mutant::MergePastGap) {
                take(Step::SendObjects { claim: id }, with(Claim { sent: Some(found), ..claim }));
            }
        }
        if claim.folder.is_none() && claim.sent.is_some() {
            take(Step::ObjectsLand { claim: id }, with(Claim { folder: claim.sent, ..claim }));
        }
        if claim.folder.is_some() && claim.folder == claim.sent && !claim.read_back {
            take(Step::ReadBack { claim: id }, with(Claim { read_back: true, ..claim }));
        }
        if self.may_commit(source, claim) {
            let mut after = with(Claim { stand: Stand::Run, ..claim });
            let same = |run: &Claim| run.stand == Stand::Run && run.session == claim.session;
            if state.claims().any(|(_, run)| same(&run) && run.window() & claim.window() != 0) {
                after.breaks(TWO_RUNS);
            }
            after.sessions[usize::from(claim.session)].merged = claim.to;
            take(Step::CommitRun { claim: id }, after);
        }
        // By its owner, who gives up, or by anybody when the owner is over.
        if claim.stand == Stand::Open {
            take(Step::EndClaim { claim: id }, self.end_claim(state, id, claim));
        }
        let garbage = match claim.stand {
            Stand::Ended => true,
            Stand::Open => self.has(Mutant::DeleteOpenFolder),
            Stand::Run => false,
        };
        if garbage && claim.folder.is_some() {
            take(Step::DeleteFolder { claim: id }, with(Claim { folder: None, ..claim }));
        }
    }

    /// The rule of `CommitRun`: the claim is in the image, its window begins where the last one ended and lies below the session's end.
    /// Before it is appended the objects were read back.
    fn may_commit(&self, source: &Session, claim: Claim) -> bool {
        let verified = claim.read_back || (claim.sent.is_some() && self.has(Mutant::CommitUnverified));
        let claimed = match claim.stand {
            Stand::Open => true,
            Stand::Ended => self.has(Mutant::CommitEndedClaim),
            Stand::Run => false,
        };
        let next = claim.from == source.merged || (self.has(Mutant::OverlappingWindows) && claim.to >= source.merged);
        let below_end = claim.to <= source.end || self.has(Mutant::MergePastEnd) || self.has(Mutant::MergePastGap);
        verified && claimed && next && below_end
    }

    fn end_claim(&self, state: &State, id: usize, claim: Claim) -> State {
        let mut after = *state;
        after.claims[id] = Some(Claim { stand: Stand::Ended, ..claim });
        if self.has(Mutant::FolderUsedAgain) {
            // The next attempt, of a window that may be another, finds what is there, and what is on its way lands in its folder.
            let source = &state.sessions[usize::from(claim.session)];
            let shorter = claim.from < claim.to && claim.to < source.committed().min(source.seals);
            if let (true, Some(next)) = (shorter, after.claims[..self.bounds.claims].iter().position(Option::is_none)) {
                let to = source.committed().min(source.seals);
                after.claims[next] = Some(Claim { stand: Stand::Open, to, folder: None, read_back: false, ..claim });
            }
        }
        after
    }

    /// What a revision says is garbage.
    fn collect(&self, state: &State, at: usize, take: &mut impl FnMut(Step, State)) {
        let session = &state.sessions[at];
        let claimed = |number: u8| {
            let of = |claim: Claim| usize::from(claim.session) == at && claim.window() >> number & 1 == 1;
            state.claims().any(|(_, claim)| claim.stand == Stand::Open && of(claim))
        };
        for number in (0..NAMES as u8).filter(|number| session.names[usize::from(*number)] != Name::Free) {
            let lowest_fence = match self.mutant {
                Some(Mutant::FenceOfMergedDeleted) => {
                    session.merged == session.end && number == session.end && number > 0
                }
                Some(Mutant::FenceDeletedWithOrphans) => number == session.end,
                _ => false,
            };
            let early = self.has(Mutant::DeleteClaimed) && claimed(number);
            if number < session.merged || number > session.end || lowest_fence || early {
                let mut after = *state;
                after.sessions[at].names[usize::from(number)] = Name::Free;
                take(Step::DeleteSegment { session: at, number }, after);
            }
        }
    }

    fn fencer_steps(&self, state: &State, take: &mut impl FnMut(Step, State)) {
        let mut after = *state;
        match state.fencer {
            Fencer::Idle => {
                for target in (0..usize::from(state.granted)).filter(|target| state.sessions[*target].open()) {
                    // What the fencer knows to be merged may be old.
                    for at in 0..=state.sessions[target].merged {
                        after.fencer = Fencer::Walking { target: target as u8, at };
                        take(Step::StartWalk { target, at }, after);
                    }
                }
            }
            Fencer::Walking { target, at } => {
                let name = &mut after.sessions[usize::from(target)].names[usize::from(at)];
                let is_segment = *name == Name::Segment;
                if *name == Name::Free {
                    *name = Name::Fence;
                }
                let next = Fencer::Walking { target, at: at + 1 };
                after.fencer = if is_segment { next } else { Fencer::Found { target, end: at } };
                take(Step::Walk { at }, after);
            }
            Fencer::Found { target, end } => {
                after.fencer = Fencer::Idle;
                let id = usize::from(target);
                // The rule of `FenceSession`. Who is refused fences again.
                let session = &mut after.sessions[id];
                if session.open() && (end >= session.merged || self.has(Mutant::FenceBelowMerged)) {
                    session.end = end;
                    let goes_by_fence = self.bounds.early || self.has(Mutant::MetFenceIsEnd);
                    let served = after.sessions.get(id + 1).is_some_and(|next| next.life == Life::Serving);
                    if served && end < after.sessions[id].handed_over && !goes_by_fence {
                        after.breaks(FENCED_BELOW_SERVED);
                    }
                    take(Step::FenceSession { session: id, end }, after);
                } else {
                    take(Step::EndRefused { session: id, end }, after);
                }
            }
        }
    }

    fn owner_steps(&self, state: &State, take: &mut impl FnMut(Step, State)) {
        let next = usize::from(state.granted);
        let last = &state.sessions[next - 1];
        if self.bounds.transfers && next < self.bounds.sessions && last.life == Life::Serving && last.open() {
            let mut after = *state;
            let holder = &mut after.sessions[next - 1];
            holder.handed_over = holder.seals;
            holder.life = Life::HandedOver;
            after.sessions[next].life = Life::Recovering;
            after.granted += 1;
            take(Step::TransferLease { from: next - 1, end: last.seals }, after);
        }
        if next < self.bounds.sessions && !last.open() {
            let mut after = *state;
            after.sessions[next].life = Life::Recovering;
            after.granted += 1;
            take(Step::Grant { session: next }, after);
        }
        for session in (1..next).filter(|session| state.sessions[*session].life == Life::Recovering) {
            for known in 0..=state.sessions[session - 1].merged {
                let whole = |claim: Claim| claim.from < known && known < claim.to && claim.stand == Stand::Run;
                let inside = |claim: Claim| usize::from(claim.session) + 1 == session && whole(claim);
                if !state.claims().any(|(_, claim)| inside(claim)) {
                    let mut after = *state;
                    if self.recover(&mut after, session, known) {
                        take(Step::Recover { session, known }, after);
                    }
                }
            }
        }
        if self.bounds.retention {
            let shown = state.shown.iter().flatten().count() as u8;
            for to in state.log_start + 1..=shown {
                let mut after = *state;
                after.log_start = to;
                take(Step::AdvanceLogStart { to }, after);
            }
        }
    }
}
