//! What is read: by those who recover, and by clients.

use super::state::{Life, Name, State};
use super::{Merge, Mutant};

const TWO_AT_ONE_OFFSET: &str = "two records were shown at one offset";
const ACKED_BEHIND_END: &str = "a record behind its session's end was acknowledged";
const LOST_IN_SILENCE: &str = "a record that was shown is not in the log of a later owner";
const NOT_CONTIGUOUS: &str = "offsets of the log are not contiguous";
const CLOSED_FOR_NOTHING: &str = "nothing was lost, and recovery meets a hole";
const UNREADABLE: &str = "a record that was shown can not be read";
const WAITS_FOR_EVER: &str = "a successor waits for a segment that was merged and deleted";
const REUSED: &str = "an offset is given out again";

/// Where an image says that a record is.
enum Read {
    There,
    Missing,
    Fence,
}

impl Merge {
    /// Reads the sessions before, by an image in which `known` segments of the last one were merged.
    /// `false`: what is missing may still come.
    pub fn recover(&self, state: &mut State, at: usize, known: u8) -> bool {
        let (mut log, mut next) = (Vec::new(), 0);
        for earlier in 0..at {
            let source = state.sessions[earlier];
            let known = if earlier + 1 == at { known } else { source.merged };
            for number in 0..source.tenure_end() {
                let offset = source.sealed[usize::from(number)];
                if offset < state.log_start {
                    continue;
                }
                match self.read(state, earlier, number, known) {
                    Read::There => {}
                    Read::Fence if self.has(Mutant::MetFenceIsEnd) => break,
                    Read::Fence if self.bounds.early && source.open() && number >= source.merged => break,
                    Read::Missing | Read::Fence => {
                        let again = self.read(state, earlier, number, source.merged);
                        let found = matches!(again, Read::There);
                        if source.open() && !found {
                            return false;
                        }
                        if !found || self.has(Mutant::RecoverByOldImage) {
                            state.breaks(CLOSED_FOR_NOTHING);
                            return true;
                        }
                        if source.open() && self.has(Mutant::WaitsByOldImage) {
                            state.breaks(WAITS_FOR_EVER);
                        }
                    }
                }
                if offset != next && next != 0 {
                    state.breaks(NOT_CONTIGUOUS);
                    return true;
                }
                log.push((offset, (earlier as u8, number)));
                next = offset + 1;
            }
        }
        let of_others = |record: &(u8, u8)| usize::from(record.0) < at;
        let shown = (0..).zip(state.shown).filter_map(|(offset, shown)| Some((offset, shown.filter(of_others)?)));
        if shown.filter(|(offset, _)| *offset >= state.log_start).any(|shown| !log.contains(&shown)) {
            state.breaks(LOST_IN_SILENCE);
        }
        let from_data = self.has(Mutant::NextOffsetFromData);
        state.sessions[at].next_offset = if from_data { next } else { next.max(state.log_start) };
        state.sessions[at].life = Life::Serving;
        true
    }

    /// Below `merged` a run stands for the segment.
    fn read(&self, state: &State, session: usize, number: u8, merged: u8) -> Read {
        if number < merged {
            let run = state.run_with(session, number).and_then(|run| run.folder);
            return if run.is_some_and(|holds| holds >> number & 1 == 1) { Read::There } else { Read::Missing };
        }
        match state.sessions[session].names[usize::from(number)] {
            Name::Segment => Read::There,
            Name::Free => Read::Missing,
            Name::Fence => Read::Fence,
        }
    }

    /// Acknowledges what may be, and reads all that ever was.
    pub fn show_all(&self, state: &mut State) {
        for at in 0..usize::from(state.granted) {
            let session = state.sessions[at];
            for number in 0..session.committed().min(session.seals) {
                if number >= session.end {
                    state.breaks(ACKED_BEHIND_END);
                }
                let offset = session.sealed[usize::from(number)];
                let record = (at as u8, number);
                if state.shown[usize::from(offset)].is_some_and(|before| before != record) {
                    state.breaks(if offset < state.log_start { REUSED } else { TWO_AT_ONE_OFFSET });
                }
                state.shown[usize::from(offset)] = Some(record);
            }
        }
        for (offset, shown) in (0..).zip(state.shown) {
            let Some((session, number)) = shown.filter(|_| offset >= state.log_start) else { continue };
            let session = usize::from(session);
            // The oldest index that anybody may have says that nothing is merged.
            let old = self.read(state, session, number, 0);
            let new = self.read(state, session, number, state.sessions[session].merged);
            let found = matches!(new, Read::There) && (matches!(old, Read::There) || !self.has(Mutant::ReadByOldIndex));
            if !found {
                state.breaks(UNREADABLE);
            }
        }
    }
}
