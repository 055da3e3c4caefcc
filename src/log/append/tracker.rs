//! Uploads finish in any order; segments commit in one. Pure.

use std::collections::BTreeMap;

use crate::types::SegmentNumber;
use crate::types::mutant::{self, Mutant};

/// Holds finished segments back until all before them have finished too.
pub struct Tracker<T> {
    committed: SegmentNumber,
    finished: BTreeMap<SegmentNumber, T>,
}

impl<T> Tracker<T> {
    /// Segments 0..committed are committed.
    pub fn new(committed: SegmentNumber) -> Tracker<T> {
        Tracker { committed, finished: BTreeMap::new() }
    }

    /// Takes a finished upload and returns all that are committed by it, in order.
    pub fn finish(&mut self, number: SegmentNumber, value: T) -> Vec<(SegmentNumber, T)> {
        self.finished.insert(number, value);
        let mut newly = Vec::new();
        if mutant::on(Mutant::AckOutOfOrder) {
            self.committed = self.committed.max(number + 1);
            return self.finished.remove(&number).map(|value| (number, value)).into_iter().collect();
        }
        while let Some(value) = self.finished.remove(&self.committed) {
            newly.push((self.committed, value));
            self.committed += 1;
        }
        newly
    }

    /// How many segments are committed; the next to commit has this number.
    pub fn committed(&self) -> SegmentNumber {
        self.committed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commits_in_order_whatever_finishes_first() {
        let mut tracker = Tracker::new(1);
        assert_eq!(tracker.finish(3, 'c'), vec![]);
        assert_eq!(tracker.finish(2, 'b'), vec![]);
        assert_eq!(tracker.committed(), 1);
        assert_eq!(tracker.finish(1, 'a'), vec![(1, 'a'), (2, 'b'), (3, 'c')]);
        assert_eq!(tracker.committed(), 4);
    }
}
