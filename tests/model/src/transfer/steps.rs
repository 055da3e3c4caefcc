//! What sessions and fencers do.

use super::state::{
    Extent, Follower, Held, Lease, NO_END, Name, OFFSETS, PARTITIONS, PROPOSALS, SESSIONS, Session, State,
};
use super::state::{TENURES, Tenure, TransferLease};
use super::{Mutant, Transfer};
use crate::explore::{Spec, bits};

#[derive(Clone, Copy, Debug)]
#[expect(dead_code, reason = "the numbers are there to be printed")]
pub enum Step {
    Seal {
        session: usize,
    },
    Land {
        session: usize,
        number: usize,
    },
    Fence {
        session: usize,
        number: u8,
    },
    TtlPasses {
        session: usize,
        seen: u8,
    },
    FenceSession {
        session: usize,
        end: u8,
        to: Option<usize>,
    },
    Recover {
        session: usize,
        partition: usize,
    },
    SendTransfer {
        session: usize,
        partition: usize,
        to: usize,
    },
    TransferLease(TransferLease),
    /// A no-op of the sender's, or somebody else's entry, has the revision.
    LoseRevision(TransferLease),
    Resolve {
        session: usize,
        partition: usize,
    },
    Follow,
}

impl Spec for Transfer {
    type State = State;
    type Step = Step;

    fn start(&self) -> State {
        let mut state = State {
            sessions: [Session::new(); SESSIONS],
            ends: [NO_END; SESSIONS],
            tenures: [[None; TENURES]; PARTITIONS],
            proposals: [None; PROPOSALS],
            shown: [[0; OFFSETS]; PARTITIONS],
            seen: [0; PARTITIONS],
            follower: Follower::default(),
            broken: None,
        };
        for partition in 0..self.bounds.partitions {
            state.tenures[partition][0] = Some(Tenure { session: 0, end: NO_END });
            state.sessions[0].leases[partition] = Lease::Serving(Held { epoch: 0, base: 0, next: 0 });
        }
        state
    }

    fn steps(&self, state: &State, take: &mut dyn FnMut(Step, State)) {
        let mut take = |step, mut after: State| {
            self.show_all(&mut after);
            after.proposals.sort_unstable();
            take(step, after);
        };
        for session in 0..self.bounds.sessions {
            self.segment_steps(state, session, &mut take);
            self.fence_steps(state, session, &mut take);
            for partition in 0..self.bounds.partitions {
                self.lease_steps(state, session, partition, &mut take);
            }
        }
        self.table_steps(state, &mut take);
        let mut after = *state;
        if self.bounds.follower && self.follow_step(&mut after) {
            take(Step::Follow, after);
        }
    }

    fn broken(&self, state: &State) -> Option<&'static str> {
        state.broken
    }

    fn situations(&self) -> &'static [&'static str] {
        &[
            "a holder was fenced above the end of its transfer",
            "a holder was fenced below the end of its transfer",
            "a successor served while the session before it was open",
            "a session got a partition back",
            "a transfer came after the fence of its holder",
            "a successor was fenced while it waited",
            "a segment landed behind its session's end",
            "a holder in the third tenure acknowledged",
            "a proof was over",
        ]
    }

    fn reached(&self, step: Step, state: &State) -> u32 {
        let handed_over = |at: usize, moved: fn(u8, u8) -> bool| {
            let first = state.tenures[0][0].zip(state.tenures[0][1]);
            first.is_some_and(|(own, next)| {
                usize::from(own.session) == at && next.end == NO_END && moved(own.end, state.ends[at])
            })
        };
        let before = |partition: usize, at: usize| {
            let own = state.tenures[partition].iter().flatten().position(|tenure| usize::from(tenure.session) == at);
            own.and_then(|own| state.tenures[partition][own.checked_sub(1)?])
        };
        let again = |session: usize, partition: usize| {
            let own = |tenure: &&Tenure| usize::from(tenure.session) == session;
            state.tenures[partition].iter().flatten().filter(own).count() > 1
        };
        let third = |session: &Session| {
            session.sealed[..usize::from(session.committed())].iter().flatten().flatten().any(|extent| extent.epoch > 1)
        };
        bits(&[
            matches!(step, Step::FenceSession { session, .. } if handed_over(session, |tenure, end| tenure < end)),
            matches!(step, Step::FenceSession { session, .. } if handed_over(session, |tenure, end| tenure == end)),
            matches!(step, Step::Recover { session, partition }
                if before(partition, session).is_some_and(|before| state.open(before.session.into()))),
            matches!(step, Step::Recover { session, partition } if again(session, partition)),
            matches!(step, Step::LoseRevision(transfer) if !state.open(transfer.from.into())),
            matches!(step, Step::FenceSession { session, .. }
                if matches!(state.sessions[session].leases[0], Lease::Recovering { .. })
                    && before(0, session).is_some_and(|before| state.open(before.session.into()))),
            matches!(step, Step::Land { session, number } if !state.open(session) && number > state.ends[session].into()),
            state.sessions.iter().any(third),
            state.sessions.iter().any(|session| !session.proven()),
        ])
    }

    fn beyond(&self) -> &'static [&'static str] {
        if self.bounds.reads { &[] } else { &["a proof was over"] }
    }
}

impl Transfer {
    fn segments(&self, session: usize) -> u8 {
        if session == 0 { self.bounds.segments.0 } else { self.bounds.segments.1 }
    }

    fn segment_steps(&self, state: &State, at: usize, take: &mut impl FnMut(Step, State)) {
        let session = &state.sessions[at];
        for number in (0..usize::from(session.seals)).filter(|number| session.names[*number] == Name::Free) {
            let mut after = *state;
            after.sessions[at].names[number] = Name::Segment;
            take(Step::Land { session: at, number }, after);
        }
        let under_way = session.seals - session.committed().min(session.seals);
        let has_a_reason = session.seals > 0 || session.leases.iter().any(|lease| self.takes_records(*lease));
        if session.seals < self.segments(at) && under_way < self.bounds.window && has_a_reason {
            let mut after = *state;
            self.seal(&mut after.sessions[at]);
            take(Step::Seal { session: at }, after);
        }
    }

    /// While a transfer is under way, nobody knows whose the partition is: produce is parked.
    fn takes_records(&self, lease: Lease) -> bool {
        match lease {
            Lease::Serving(_) => true,
            Lease::HandingOver { .. } => self.has(Mutant::ProduceNotParked),
            Lease::None | Lease::Recovering { .. } => false,
        }
    }

    fn seal(&self, session: &mut Session) {
        for partition in 0..self.bounds.partitions {
            if !self.takes_records(session.leases[partition]) {
                continue;
            }
            if let Lease::Serving(held) | Lease::HandingOver { held, .. } = &mut session.leases[partition] {
                let extent = Extent { epoch: held.epoch, offset: held.next };
                session.sealed[usize::from(session.seals)][partition] = Some(extent);
                held.next += 1;
            }
        }
        session.seals += 1;
    }

    fn fence_steps(&self, state: &State, at: usize, take: &mut impl FnMut(Step, State)) {
        let session = &state.sessions[at];
        let wrote = |tenure: &Tenure| usize::from(tenure.session) == at;
        if !state.open(at) || !state.tenures.iter().flatten().flatten().any(wrote) {
            return;
        }
        let end = session.committed();
        if session.names[usize::from(end)] == Name::Free {
            let mut after = *state;
            after.sessions[at].names[usize::from(end)] = Name::Fence;
            take(Step::Fence { session: at, number: end }, after);
        }
        // A ttl is over since somebody saw the session end at `seen`: any end that there was.
        for seen in (0..=end).filter(|seen| self.bounds.reads && session.expired <= *seen) {
            let mut after = *state;
            after.sessions[at].expired = seen + 1;
            take(Step::TtlPasses { session: at, seen }, after);
        }
        let waited = match self.mutant {
            Some(Mutant::FenceBeforeTtl) => true,
            Some(Mutant::WaitFromAnySegment) => session.expired > 0,
            _ => !self.bounds.reads || session.expired > end,
        };
        if session.names[usize::from(end)] == Name::Fence && waited {
            let ready: Vec<_> = (0..self.bounds.sessions).filter(|to| *to != at && state.open(*to)).map(Some).collect();
            for to in if ready.is_empty() { vec![None] } else { ready } {
                let mut after = *state;
                self.fence_session(&mut after, at, end, to);
                take(Step::FenceSession { session: at, end, to }, after);
            }
        }
    }

    fn lease_steps(&self, state: &State, at: usize, partition: usize, take: &mut impl FnMut(Step, State)) {
        let session = &state.sessions[at];
        match session.leases[partition] {
            Lease::None => {}
            Lease::Recovering { epoch } => {
                let mut after = *state;
                if self.recover(&mut after, at, partition, epoch) {
                    take(Step::Recover { session: at, partition }, after);
                }
            }
            Lease::Serving(held) => {
                for end in self.ends(session, partition, held.epoch) {
                    self.send(state, at, partition, (held, end), take);
                }
            }
            Lease::HandingOver { held, end } => {
                self.send(state, at, partition, (held, end), take);
                self.resolve(state, at, partition, held, take);
            }
        }
    }

    /// What a transfer may name as the end of the tenure: no segment behind it holds or will hold its records.
    fn ends(&self, session: &Session, partition: usize, epoch: u8) -> std::ops::RangeInclusive<u8> {
        let own =
            |extents: &[Option<Extent>; PARTITIONS]| extents[partition].is_some_and(|extent| extent.epoch == epoch);
        let behind_data = session.sealed.iter().rposition(own).map_or(0, |last| last as u8 + 1);
        match self.mutant {
            Some(Mutant::EndOfCommitted) => session.committed()..=session.committed(),
            Some(Mutant::EndOfUnsealed) => session.seals + 1..=session.seals + 1,
            _ if self.bounds.any_end => behind_data..=session.seals,
            _ => session.seals..=session.seals,
        }
    }

    /// The proposer checks the rules on its image, which may be old: what counts is whether they hold when the entry takes its place.
    fn send(&self, state: &State, at: usize, partition: usize, held: (Held, u8), take: &mut impl FnMut(Step, State)) {
        let (held, end) = held;
        let free = state.proposals.iter().position(Option::is_none);
        let Some(free) = free.filter(|_| state.proposals.iter().flatten().count() < self.bounds.proposals) else {
            return;
        };
        if usize::from(held.epoch) + 1 >= self.bounds.tenures {
            return;
        }
        for to in (0..self.bounds.sessions).filter(|to| *to != at) {
            let mut after = *state;
            let (from, epoch) = (at as u8, held.epoch);
            after.proposals[free] = Some(TransferLease { from, partition: partition as u8, epoch, to: to as u8, end });
            after.sessions[at].leases[partition] = Lease::HandingOver { held, end };
            take(Step::SendTransfer { session: at, partition, to }, after);
        }
    }

    /// When none of its transfers can take effect any more, the image tells the holder whether it still is one.
    fn resolve(&self, state: &State, at: usize, partition: usize, held: Held, take: &mut impl FnMut(Step, State)) {
        let on_its_way =
            |transfer: &TransferLease| (usize::from(transfer.from), usize::from(transfer.partition)) == (at, partition);
        if state.proposals.iter().flatten().any(on_its_way) && !self.has(Mutant::ResumeOnUnknown) {
            return;
        }
        let mut after = *state;
        let kept = state.holder(partition) == Some((at, held.epoch));
        after.sessions[at].leases[partition] = if kept { Lease::Serving(held) } else { Lease::None };
        if self.has(Mutant::RegainFromMemory) {
            after.sessions[at].memory[partition] = held.next;
        }
        take(Step::Resolve { session: at, partition }, after);
    }
}
