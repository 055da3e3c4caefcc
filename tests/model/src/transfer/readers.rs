//! What is read: by those who recover, by clients of holders, by followers.

use super::state::{Follower, Held, Lease, NAMES, NO_END, Name, Record, State, Tenure, record};
use super::{Mutant, Transfer};

const TWO_AT_ONE_OFFSET: &str = "two records were shown at one offset";
const ACKED_BEHIND_END: &str = "a record behind the end of its tenure was acknowledged";
const LOST_IN_SILENCE: &str = "a record that was shown is not in the log of a later holder";
const NOT_CONTIGUOUS: &str = "offsets of the log are not contiguous";
const CLOSED_FOR_NOTHING: &str = "nothing was lost, and recovery gives a partition up";
const WAITS_FOR_EVER: &str = "a successor waits for a segment that will never come";
const WENT_BACK: &str = "a read showed less than was shown or acknowledged before";

/// What recovery finds in the tenures before.
enum Found {
    Log(Vec<Record>),
    /// What is missing may still come.
    NotYet,
    Wrong(&'static str),
}

impl Transfer {
    /// The holder under `epoch` reads the log, and serves. `false`: it has to wait.
    pub fn recover(&self, state: &mut State, at: usize, partition: usize, epoch: u8) -> bool {
        match self.read_log(state, partition, epoch) {
            Found::NotYet => return false,
            Found::Wrong(rule) => state.breaks(rule),
            Found::Log(log) => {
                self.check_kept(state, partition, epoch, &log);
                let remembered = std::mem::take(&mut state.sessions[at].memory[partition]);
                let next = if remembered > 0 { remembered } else { log.len() as u8 };
                state.sessions[at].leases[partition] = Lease::Serving(Held { epoch, base: next, next });
            }
        }
        true
    }

    /// The records of all tenures before `below`. A segment that is missing comes yet, or the fence of its session; when that stands in
    /// the image, nothing below the end of the tenure is missing.
    fn read_log(&self, state: &State, partition: usize, below: u8) -> Found {
        let mut log = Vec::new();
        for (epoch, Tenure { session, end }) in (0..below).zip(state.tenures[partition].iter().flatten().copied()) {
            let source = &state.sessions[usize::from(session)];
            for number in 0..end {
                if source.names[usize::from(number)] != Name::Segment {
                    if !state.open(session.into()) || self.has(Mutant::AlarmWhileOpen) {
                        return Found::Wrong(CLOSED_FOR_NOTHING);
                    }
                    let is_last = epoch + 1 == below;
                    if self.has(Mutant::SuccessorDoesNotWait) || (self.has(Mutant::WaitsForLastOnly) && !is_last) {
                        continue;
                    }
                    return Found::NotYet;
                }
                let Some(extent) = source.sealed[usize::from(number)][partition] else { continue };
                if extent.epoch != epoch && !self.has(Mutant::EpochsNotCompared) {
                    continue;
                }
                if usize::from(extent.offset) != log.len() {
                    return Found::Wrong(NOT_CONTIGUOUS);
                }
                log.push(record(session.into(), number));
            }
        }
        Found::Log(log)
    }

    /// Whoever waits can go on in the end: when all that was sealed has landed, or its session is closed at the fence that kept it out.
    fn check_wait(&self, state: &mut State, partition: usize, epoch: u8) {
        let mut later = *state;
        for at in 0..self.bounds.sessions {
            let session = &mut later.sessions[at];
            for name in session.names[..usize::from(session.seals)].iter_mut().filter(|name| **name == Name::Free) {
                *name = Name::Segment;
            }
            let end = session.committed();
            if session.names[usize::from(end)] == Name::Fence && later.open(at) {
                self.fence_session(&mut later, at, end, None);
            }
        }
        if matches!(self.read_log(&later, partition, epoch), Found::NotYet) {
            state.breaks(WAITS_FOR_EVER);
        }
    }

    /// All that was shown of earlier tenures is in the log.
    fn check_kept(&self, state: &mut State, partition: usize, epoch: u8, log: &[Record]) {
        let earlier = |shown: Record| {
            let (session, number) = (usize::from(shown - 1) / NAMES, usize::from(shown - 1) % NAMES);
            state.sessions[session].sealed[number][partition].is_some_and(|extent| extent.epoch < epoch)
        };
        let mut shown = state.shown[partition].iter().enumerate().filter(|(_, shown)| **shown > 0 && earlier(**shown));
        if shown.any(|(offset, shown)| log.get(offset) != Some(shown)) {
            state.breaks(LOST_IN_SILENCE);
        }
    }

    /// Acknowledges and shows what may be.
    pub fn show_all(&self, state: &mut State) {
        for at in 0..self.bounds.sessions {
            let session = state.sessions[at];
            for number in 0..session.committed() {
                for partition in 0..self.bounds.partitions {
                    let Some(extent) = session.sealed[usize::from(number)][partition] else { continue };
                    let tenure = state.tenures[partition][usize::from(extent.epoch)];
                    if tenure.is_some_and(|tenure| number >= tenure.end) {
                        state.breaks(ACKED_BEHIND_END);
                    }
                    show(state, partition, extent.offset, record(at, number));
                    state.seen[partition] = state.seen[partition].max(extent.offset + 1);
                }
            }
        }
        for partition in 0..self.bounds.partitions {
            for view in 0..if self.bounds.follower { 0 } else { state.tenure_count(partition) } {
                self.follow(state, partition, view);
            }
            for at in 0..self.bounds.sessions {
                if let Lease::Recovering { epoch } = state.sessions[at].leases[partition] {
                    self.check_wait(state, partition, epoch);
                }
                if self.bounds.reads {
                    self.read(state, at, partition);
                }
            }
        }
    }

    /// A holder answers a read, with all that is committed; parked while it hands over, and only under proof.
    fn read(&self, state: &mut State, at: usize, partition: usize) {
        let session = &state.sessions[at];
        let held = match session.leases[partition] {
            Lease::Serving(held) => held,
            Lease::HandingOver { held, .. } if self.has(Mutant::FetchNotParked) => held,
            _ => return,
        };
        let highest =
            session.names.iter().rposition(|name| *name == Name::Segment).map_or(0, |number| number as u8 + 1);
        let proven = match self.mutant {
            Some(Mutant::ReadsWithoutProof) => true,
            Some(Mutant::ProofOfAnySegment) => highest >= session.expired,
            _ => session.proven(),
        };
        if !proven {
            return;
        }
        let committed = session.sealed[..usize::from(session.committed())].iter().filter_map(|all| all[partition]);
        let end = held.base + committed.filter(|extent| extent.epoch == held.epoch).count() as u8;
        if end < state.seen[partition] {
            state.breaks(WENT_BACK);
        }
        state.seen[partition] = end.max(state.seen[partition]);
    }

    /// One look of a follower that takes its time; `false`: there is nothing to read yet.
    pub fn follow_step(&self, state: &mut State) -> bool {
        let Follower { epoch, number, offset } = state.follower;
        let Some(Tenure { session, end }) = state.tenures[0][usize::from(epoch)] else { return false };
        let source = state.sessions[usize::from(session)];
        let next_tenure = Follower { epoch: epoch + 1, number: 0, offset };
        if number == end {
            state.follower = next_tenure;
            return true;
        }
        if source.names[usize::from(number)] != Name::Segment {
            if end != NO_END && self.has(Mutant::FollowerSwitchesEarly) {
                state.follower = next_tenure;
            }
            return state.follower == next_tenure;
        }
        state.follower.number += 1;
        if let Some(extent) = source.sealed[usize::from(number)][0].filter(|extent| extent.epoch == epoch) {
            if extent.offset != offset {
                state.breaks(NOT_CONTIGUOUS);
            }
            show(state, 0, extent.offset, record(session.into(), number));
            state.follower.offset += 1;
        }
        true
    }

    /// A follower reads from the bucket, without jumping a gap, by an image in which the tenure `view` is the last: it turns to the next
    /// tenure when it has read the one before to its end.
    fn follow(&self, state: &mut State, partition: usize, view: usize) {
        let mut offset = 0;
        for epoch in 0..=view {
            let Some(tenure) = state.tenures[partition][epoch] else { return };
            let source = state.sessions[usize::from(tenure.session)];
            let end = if epoch == view { NO_END } else { tenure.end };
            for number in 0..end.min(NAMES as u8) {
                if source.names[usize::from(number)] != Name::Segment {
                    return;
                }
                let Some(extent) = source.sealed[usize::from(number)][partition] else { continue };
                if usize::from(extent.epoch) != epoch {
                    continue;
                }
                if extent.offset != offset {
                    return state.breaks(NOT_CONTIGUOUS);
                }
                show(state, partition, offset, record(tenure.session.into(), number));
                offset += 1;
            }
        }
    }
}

fn show(state: &mut State, partition: usize, offset: u8, record: Record) {
    let shown = &mut state.shown[partition][usize::from(offset)];
    let before = std::mem::replace(shown, record);
    if before != 0 && before != record {
        state.breaks(TWO_AT_ONE_OFFSET);
    }
}
