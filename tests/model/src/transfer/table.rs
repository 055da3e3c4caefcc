//! What the metadata table's entries do, and the rules that they keep when they take their place.

use super::state::{Lease, NO_END, State, TENURES, Tenure, TransferLease};
use super::steps::Step;
use super::{Mutant, Transfer};

const HELD_BY_THE_DEAD: &str = "a session that is over holds a partition, and nobody will take it";
const TWO_HOLDERS: &str = "two sessions hold a partition";
const FENCED_BELOW_SERVED: &str = "a tenure ends lower than its successor has read it";

impl Transfer {
    pub fn table_steps(&self, state: &State, take: &mut impl FnMut(Step, State)) {
        for (at, proposal) in state.proposals.iter().enumerate() {
            let Some(transfer) = *proposal else { continue };
            let mut after = *state;
            after.proposals[at] = None;
            take(Step::LoseRevision(transfer), after);
            if self.may_move(state, transfer) {
                self.transfer_lease(&mut after, transfer);
                take(Step::TransferLease(transfer), after);
            }
        }
    }

    /// The rule of `TransferLease {partition, from, epoch, to, end}`: `from` holds the partition under this lease epoch, and `to` is
    /// ready. That `from` is open follows: a fenced session holds nothing.
    fn may_move(&self, state: &State, transfer: TransferLease) -> bool {
        let TransferLease { from, partition, epoch, to, .. } = transfer;
        let (from, partition, to) = (usize::from(from), usize::from(partition), usize::from(to));
        let holder = state.holder(partition);
        let holds = match self.mutant {
            Some(Mutant::OfAnyHolder) => holder.is_some_and(|(session, _)| session != to),
            Some(Mutant::OfAnyEpoch) => holder.is_some_and(|(session, _)| session == from),
            _ => holder == Some((from, epoch)),
        };
        let ready = state.open(to) || self.has(Mutant::ToFenced);
        holds && ready && state.tenure_count(partition) < self.bounds.tenures
    }

    /// The tenure ends, and the next begins.
    fn transfer_lease(&self, state: &mut State, transfer: TransferLease) {
        let partition = usize::from(transfer.partition);
        let last = state.tenure_count(partition) - 1;
        if let Some(tenure) = &mut state.tenures[partition][last] {
            tenure.end = transfer.end;
        }
        self.grant(state, partition, transfer.to.into());
        if !state.open(transfer.to.into()) {
            state.breaks(HELD_BY_THE_DEAD);
        }
    }

    /// `FenceSession {session, end, ready}`: tenures that run end at `end`, and those that were handed over at the lower of their end
    /// and this. What the session holds goes to somebody who is ready.
    pub fn fence_session(&self, state: &mut State, at: usize, end: u8, to: Option<usize>) {
        state.ends[at] = end;
        for partition in 0..self.bounds.partitions {
            let mut goes_on = state.holder(partition).is_some_and(|(holder, _)| holder == at);
            for epoch in 0..state.tenure_count(partition) {
                let Some(mut tenure) = state.tenures[partition][epoch].filter(|own| usize::from(own.session) == at)
                else {
                    continue;
                };
                let handed_over = tenure.end != NO_END;
                goes_on |= handed_over && self.has(Mutant::FenceGrantsHandedOver);
                if tenure.end > end && !(handed_over && self.has(Mutant::FenceKeepsEnd)) {
                    if handed_over && successor_served(state, partition, epoch) {
                        state.breaks(FENCED_BELOW_SERVED);
                    }
                    tenure.end = end;
                }
                state.tenures[partition][epoch] = Some(tenure);
            }
            if let Some(to) = to.filter(|_| goes_on && state.tenure_count(partition) < self.bounds.tenures) {
                self.grant(state, partition, to);
            }
        }
    }

    fn grant(&self, state: &mut State, partition: usize, to: usize) {
        let epoch = state.tenure_count(partition);
        if state.holder(partition).is_some() {
            state.breaks(TWO_HOLDERS);
        }
        state.tenures[partition][epoch] = Some(Tenure { session: to as u8, end: NO_END });
        state.sessions[to].leases[partition] = Lease::Recovering { epoch: epoch as u8 };
    }
}

fn successor_served(state: &State, partition: usize, epoch: usize) -> bool {
    let next = epoch + 1;
    next < TENURES
        && state
            .sessions
            .iter()
            .any(|session| matches!(session.leases[partition], Lease::Serving(held) if usize::from(held.epoch) == next))
}
