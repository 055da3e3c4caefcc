//! Who reads the log from offset to offset, and how far to read ahead of him. Pure.
//!
//! A read that begins where an earlier one ended is the next step of somebody who goes through the log. What he will ask for next is
//! fetched while he digests what he has; from step to step twice as much. Whoever jumps about gets nothing that he did not ask for.

use std::collections::{BTreeMap, VecDeque};

use crate::types::{Offset, PartitionId};

/// So many ends of reads are remembered, the newest.
const ENDS_MAX: usize = 4096;

/// The first step ahead.
const FIRST_BYTES: usize = 1 << 20;

/// A read of less than this is no step of a replay.
const STEP_BYTES: usize = 64 << 10;

/// Where a reader goes on, if he goes on.
type End = (PartitionId, Offset);

#[derive(Default)]
pub struct Readers {
    /// Bytes to read ahead when a read begins there.
    ends: BTreeMap<End, usize>,
    order: VecDeque<End>,
}

impl Readers {
    /// A read of `bytes` began at `offset` and ended before `next`. Gives the bytes to read ahead from `next` on, at most `most`.
    pub fn step(&mut self, partition: PartitionId, offset: Offset, next: Offset, bytes: usize, most: usize) -> usize {
        if bytes < STEP_BYTES {
            return 0;
        }
        let ahead = self.ends.remove(&(partition, offset)).unwrap_or(0).min(most);
        let end = (partition, next);
        let more = (ahead * 2).max(FIRST_BYTES);
        match self.ends.get_mut(&end) {
            // The same step again, since its answer was lost; or another reader's.
            Some(known) => *known = more.max(*known),
            None => {
                self.ends.insert(end, more);
                self.order.push_back(end);
            }
        }
        while self.order.len() > ENDS_MAX {
            let Some(oldest) = self.order.pop_front() else { break };
            self.ends.remove(&oldest);
        }
        ahead
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::TopicId;

    const MOST: usize = 4 << 20;

    fn partition(index: i32) -> PartitionId {
        PartitionId { topic: TopicId(1), index }
    }

    #[test]
    fn steps_grow_and_jumps_get_nothing() {
        let mut readers = Readers::default();
        let (a, b) = (partition(0), partition(1));
        let table = [
            ("the first read", a, 0, 10, 1 << 20, 0),
            ("the second step", a, 10, 20, 1 << 20, 1 << 20),
            ("the same again: its answer was lost", a, 10, 20, 1 << 20, 0),
            ("the third", a, 20, 30, 1 << 20, 2 << 20),
            ("the fourth", a, 30, 40, 1 << 20, 4 << 20),
            ("no more than the most", a, 40, 50, 1 << 20, 4 << 20),
            ("another partition", b, 50, 60, 1 << 20, 0),
            ("a jump", a, 7, 9, 1 << 20, 0),
            ("a little", a, 50, 51, 100, 0),
        ];
        for (name, partition, offset, next, bytes, ahead) in table {
            assert_eq!(readers.step(partition, offset, next, bytes, MOST), ahead, "{name}");
        }
    }

    #[test]
    fn remembers_a_bounded_number() {
        let mut readers = Readers::default();
        for reader in 0..3 * ENDS_MAX as i64 {
            readers.step(partition(0), reader * 100, reader * 100 + 50, 1 << 20, MOST);
        }
        assert!(readers.ends.len() <= ENDS_MAX && readers.order.len() <= ENDS_MAX);
        let newest = (3 * ENDS_MAX as i64 - 1) * 100 + 50;
        assert_eq!(readers.step(partition(0), newest, newest + 1, 1 << 20, MOST), FIRST_BYTES);
    }
}
