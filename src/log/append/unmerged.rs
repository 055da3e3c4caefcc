//! What this session committed and nobody merged yet: the flusher notes it, the merge planner looks, and beyond a bound the flusher's
//! pace falls. So what the next owner has to read stays bounded even when merging stands still. At a feature level that knows no merging
//! nothing is bounded, and what gathered there slows nobody down while it is merged.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
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
    /// More than these make the session slow, once the bound holds.
    bound: usize,
    holds: AtomicBool,
    notes: Mutex<VecDeque<SegmentNote>>,
}

impl Unmerged {
    /// So many empty segments, which opened the session, are there. The bound does not hold yet.
    pub fn new(bound: usize, committed: SegmentNumber, at: Duration) -> Unmerged {
        let notes = (0..committed).map(|number| SegmentNote { number, bytes: 0, batches: 0, at }).collect();
        Unmerged { bound, holds: AtomicBool::new(false), notes: Mutex::new(notes) }
    }

    /// Segments are merged from now on: the bound holds as soon as no more than it allows are left.
    pub fn are_merged(&self) {
        if !self.holds.load(Ordering::Relaxed) && self.count() <= self.bound {
            self.holds.store(true, Ordering::Relaxed);
        }
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
        if self.holds.load(Ordering::Relaxed) { slowness(self.count(), self.bound) } else { 1 }
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
        let unmerged = Unmerged::new(2, 1, Duration::ZERO);
        unmerged.are_merged();
        for number in 1..6 {
            unmerged.note(SegmentNote { number, bytes: 1, batches: 1, at: Duration::ZERO });
        }
        assert_eq!((unmerged.count(), unmerged.slowness()), (6, 16));
        unmerged.merged(4);
        assert_eq!((unmerged.count(), unmerged.slowness()), (2, 1));
        assert_eq!(unmerged.look(|notes| notes.iter().map(|note| note.number).collect::<Vec<_>>()), [4, 5]);
    }

    #[test]
    fn what_gathered_before_merging_slows_nobody_down() {
        let unmerged = Unmerged::new(2, 1, Duration::ZERO);
        let note = |number| unmerged.note(SegmentNote { number, bytes: 1, batches: 1, at: Duration::ZERO });
        (1..6).for_each(note);
        assert_eq!((unmerged.count(), unmerged.slowness()), (6, 1), "nobody merges");
        unmerged.are_merged();
        assert_eq!(unmerged.slowness(), 1, "it is being merged");
        unmerged.merged(4);
        unmerged.are_merged();
        (6..11).for_each(note);
        assert_eq!((unmerged.count(), unmerged.slowness()), (7, 16), "from then on the bound holds");
    }
}
