//! What this session committed and nobody merged yet: the flusher notes it, the merge planner looks, and beyond a bound the flusher's
//! pace falls. So what the next owner has to read stays bounded even when merging stands still.

use std::collections::VecDeque;
use std::time::Duration;

use parking_lot::Mutex;

use crate::types::SegmentNumber;

/// The pace falls to so little of itself at most.
const SLOWEST: u32 = 16;

/// A committed segment, as far as merging it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentNote {
    pub number: SegmentNumber,
    /// Of its body.
    pub bytes: u64,
    pub batches: u64,
    /// Boot clock at its commit.
    pub at: Duration,
}

pub struct Unmerged {
    /// More than these make the session slow.
    bound: usize,
    notes: Mutex<VecDeque<SegmentNote>>,
}

impl Unmerged {
    /// Segment 0, which opened the session, is there.
    pub fn new(bound: usize, at: Duration) -> Unmerged {
        let zero = SegmentNote { number: 0, bytes: 0, batches: 0, at };
        Unmerged { bound, notes: Mutex::new(VecDeque::from([zero])) }
    }

    pub fn note(&self, segment: SegmentNote) {
        self.notes.lock().push_back(segment);
    }

    /// Segments below this one are merged.
    pub fn merged(&self, through: SegmentNumber) {
        let mut notes = self.notes.lock();
        while notes.front().is_some_and(|note| note.number < through) {
            notes.pop_front();
        }
    }

    pub fn count(&self) -> usize {
        self.notes.lock().len()
    }

    /// Looks at them in order of their numbers, under a lock: keep it short.
    pub fn look<R>(&self, look: impl FnOnce(&VecDeque<SegmentNote>) -> R) -> R {
        look(&self.notes.lock())
    }

    /// How many times longer the flusher waits between segments.
    pub fn slowness(&self) -> u32 {
        slowness(self.count(), self.bound)
    }
}

/// 1 up to the bound, twice as much with every quarter more.
fn slowness(count: usize, bound: usize) -> u32 {
    let beyond = count.saturating_sub(bound);
    if beyond == 0 {
        return 1;
    }
    let quarters = beyond / (bound / 4).max(1);
    u32::try_from(quarters + 1).ok().and_then(|power| 2u32.checked_pow(power)).unwrap_or(SLOWEST).min(SLOWEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pace_falls_beyond_the_bound() {
        let table = [(0, 1), (600, 1), (601, 2), (749, 2), (750, 4), (899, 4), (900, 8), (1050, 16), (100_000, 16)];
        for (count, expected) in table {
            assert_eq!(slowness(count, 600), expected, "{count}");
        }
        assert_eq!((slowness(1, 0), slowness(9, 1)), (4, 16));
    }

    #[test]
    fn what_is_merged_is_forgotten() {
        let unmerged = Unmerged::new(2, Duration::ZERO);
        for number in 1..6 {
            unmerged.note(SegmentNote { number, bytes: 1, batches: 1, at: Duration::ZERO });
        }
        assert_eq!((unmerged.count(), unmerged.slowness()), (6, 16));
        unmerged.merged(4);
        assert_eq!((unmerged.count(), unmerged.slowness()), (2, 1));
        assert_eq!(unmerged.look(|notes| notes.iter().map(|note| note.number).collect::<Vec<_>>()), [4, 5]);
    }
}
