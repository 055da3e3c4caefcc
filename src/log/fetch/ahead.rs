//! Who reads the log from offset to offset, and how far to read ahead of him. Pure.
//!
//! A read that begins where an earlier one ended is the next step of somebody who goes through the log. What he will ask for next is
//! fetched while he digests what he has: as much as he takes in a step, and from step to step twice as much while others leave room.
//! Whoever jumps about gets nothing that he did not ask for.
//!
//! What was read ahead is claimed until its reader comes for it: more than memory keeps would push out what others are about to
//! ask for. Claims of readers who do not come any more go to those who do.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::types::{Offset, PartitionId};

/// So many ends of reads are remembered, the newest.
const ENDS_MAX: usize = 4096;

/// The first step ahead, at least.
const FIRST_BYTES: usize = 1 << 20;

/// A read of less than this is no step of a replay.
const STEP_BYTES: usize = 64 << 10;

/// A reader who has not come for so long may have gone away.
const STALE: Duration = Duration::from_secs(2);

/// Where a reader goes on, if he goes on.
type End = (PartitionId, Offset);

pub struct Readers {
    ends: BTreeMap<End, Reach>,
    /// With the number of the read: a place may be reached again.
    order: VecDeque<(End, u64)>,
    reads: u64,
    /// Bytes of all claims, and how many readers have some.
    claimed: usize,
    claimants: usize,
    most: usize,
}

/// What is ahead of a reader.
#[derive(Clone, Copy)]
struct Reach {
    /// Bytes that shall lie ahead of him when he comes.
    wanted: usize,
    /// Bytes that do, about, and where they end.
    claimed: usize,
    until: Offset,
    read: u64,
    at: Duration,
}

/// To be read ahead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    pub from: Offset,
    /// No more than are left for claims.
    pub bytes: usize,
}

impl Readers {
    /// `most`: bytes read ahead of all readers; of one reader a quarter of that at most.
    pub fn new(most: usize) -> Readers {
        Readers { ends: BTreeMap::new(), order: VecDeque::new(), reads: 0, claimed: 0, claimants: 0, most }
    }

    /// A read of `bytes` began at `offset` and ended before `next`. Gives what to read ahead of who goes on there.
    pub fn step(
        &mut self,
        partition: PartitionId,
        offset: Offset,
        next: Offset,
        bytes: usize,
        now: Duration,
    ) -> Option<Step> {
        if bytes < STEP_BYTES {
            return None;
        }
        let known = self.forget((partition, offset));
        let wanted = known.map_or(0, |reach| reach.wanted);
        let more = (wanted * 2).max(FIRST_BYTES).min(self.share()).max(bytes).min(self.most / 4);
        self.reads += 1;
        let mut reach = Reach { wanted: more, claimed: 0, until: next, read: self.reads, at: now };
        if let Some(known) = known
            && known.until > next
        {
            (reach.until, reach.claimed) = (known.until, known.claimed.saturating_sub(bytes));
        }
        let end = (partition, next);
        // The same step again, since its answer was lost; or another reader's.
        if let Some(there) = self.forget(end) {
            reach.wanted = reach.wanted.max(there.wanted);
            if there.until > reach.until {
                (reach.until, reach.claimed) = (there.until, there.claimed);
            }
        }
        let missing = wanted.saturating_sub(reach.claimed);
        let enough = missing * 2 < wanted || missing == 0;
        let from = reach.until;
        self.remember(end, reach);
        if enough {
            return None;
        }
        let bytes = missing.min(self.room(missing, now));
        (bytes >= STEP_BYTES).then_some(Step { from, bytes })
    }

    /// So many bytes, which end before `until`, are being read ahead of who goes on at `next`.
    pub fn claim(&mut self, partition: PartitionId, next: Offset, bytes: usize, until: Offset) {
        if let Some(mut reach) = self.forget((partition, next)) {
            reach.claimed += bytes;
            reach.until = until;
            self.put((partition, next), reach);
        }
    }

    /// One reader's part if one more comes; he may always have what he takes in a step.
    fn share(&self) -> usize {
        self.most / (self.claimants + 1)
    }

    /// What is left for claims, after those are let go that stand in the way of `missing` bytes and are stale.
    fn room(&mut self, missing: usize, now: Duration) -> usize {
        while self.claimed + missing > self.most {
            let Some((oldest, read)) = self.order.front().copied() else { break };
            if self.ends.get(&oldest).is_some_and(|reach| reach.read == read && now.saturating_sub(reach.at) < STALE) {
                break;
            }
            self.order.pop_front();
            self.forget_read(oldest, read);
        }
        self.most.saturating_sub(self.claimed)
    }

    /// Nothing is there.
    fn put(&mut self, end: End, reach: Reach) {
        self.claimed += reach.claimed;
        self.claimants += usize::from(reach.claimed > 0);
        self.ends.insert(end, reach);
    }

    fn remember(&mut self, end: End, reach: Reach) {
        self.put(end, reach);
        self.order.push_back((end, reach.read));
        while self.order.len() > ENDS_MAX {
            let Some((oldest, read)) = self.order.pop_front() else { break };
            self.forget_read(oldest, read);
        }
    }

    fn forget_read(&mut self, end: End, read: u64) {
        if self.ends.get(&end).is_some_and(|reach| reach.read == read) {
            self.forget(end);
        }
    }

    fn forget(&mut self, end: End) -> Option<Reach> {
        let reach = self.ends.remove(&end)?;
        self.claimed -= reach.claimed;
        self.claimants -= usize::from(reach.claimed > 0);
        Some(reach)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::TopicId;

    const MIB: usize = 1 << 20;
    /// Of all readers; of one a quarter.
    const MOST: usize = 16 * MIB;
    const NOW: Duration = Duration::from_secs(100);

    fn partition(index: i32) -> PartitionId {
        PartitionId { topic: TopicId(1), index }
    }

    fn from(from: Offset, bytes: usize) -> Option<Step> {
        Some(Step { from, bytes })
    }

    /// A step whose plan is just as long as it should be; an offset is a tenth of a mebibyte.
    fn go(
        readers: &mut Readers,
        index: i32,
        offset: Offset,
        next: Offset,
        bytes: usize,
        now: Duration,
    ) -> Option<Step> {
        let step = readers.step(partition(index), offset, next, bytes, now);
        if let Some(step) = step {
            readers.claim(partition(index), next, step.bytes, step.from + (step.bytes * 10 / MIB) as Offset);
        }
        step
    }

    #[test]
    fn steps_grow_and_jumps_get_nothing() {
        let mut readers = Readers::new(MOST);
        let table = [
            ("the first read", 0, 0, 10, MIB, None),
            ("the second", 0, 10, 20, MIB, from(20, MIB)),
            ("the same again, for its answer was lost: nobody was seen to come there", 0, 10, 20, MIB, None),
            ("the third: what it reads lay ahead", 0, 20, 30, MIB, from(30, 2 * MIB)),
            ("the fourth", 0, 30, 40, MIB, from(50, 3 * MIB)),
            ("the fifth: three of four lie ahead", 0, 40, 50, MIB, None),
            ("the sixth: two of four", 0, 50, 60, MIB, from(80, 2 * MIB)),
            ("a long one, over all that lies ahead", 0, 60, 160, 10 * MIB, from(160, 4 * MIB)),
            ("another partition", 1, 50, 60, MIB, None),
            ("a jump", 0, 7, 9, MIB, None),
            ("a little", 0, 160, 161, 100, None),
        ];
        for (name, index, offset, next, bytes, expected) in table {
            assert_eq!(go(&mut readers, index, offset, next, bytes, NOW), expected, "{name}");
        }
    }

    #[test]
    fn each_of_many_has_a_step_ahead_and_one_alone_has_more() {
        // (partitions, bytes of a step, bytes that lie ahead of each when they have gone on for a while)
        for (partitions, step, expected) in [
            (1, 3 * MIB, 4 * MIB..=4 * MIB),
            (5, 3 * MIB, 3 * MIB..=MOST / 5),
            (2, MIB, 2 * MIB..=4 * MIB),
            (8, MIB, MIB..=2 * MIB),
            (2, 10 * MIB, 4 * MIB..=4 * MIB),
        ] {
            let mut readers = Readers::new(MOST);
            let offset = |round: usize| (round * step * 10 / MIB) as Offset;
            let mut round = |round: usize, index: i32| {
                go(&mut readers, index, offset(round), offset(round + 1), step, NOW);
                let claimants = readers.ends.values().filter(|reach| reach.claimed > 0).count();
                assert_eq!(claimants, readers.claimants);
                readers.ends[&(partition(index), offset(round + 1))].claimed
            };
            (0..partitions).for_each(|index| assert_eq!(round(0, index), 0));
            assert_eq!(round(1, 0), step.min(MOST / 4), "all of what he takes, as soon as he goes on");
            (1..partitions).for_each(|index| assert!(round(1, index) > 0));
            for (at, index) in (2..9).flat_map(|at| (0..partitions).map(move |index| (at, index))) {
                let ahead = round(at, index);
                assert!(at < 5 || expected.contains(&ahead), "{partitions} of {step}: {ahead} ahead of {index}");
            }
        }
    }

    #[test]
    fn no_more_is_claimed_than_memory_keeps_and_who_has_gone_away_gives_back() {
        let mut readers = Readers::new(MOST);
        let mut claimed = Vec::new();
        for index in 0..6 {
            for step in 0..3 {
                go(&mut readers, index, step * 100, step * 100 + 100, 10 * MIB, NOW);
            }
            claimed.push(readers.claimed / MIB);
        }
        assert_eq!(claimed, [4, 8, 12, 16, 16, 16]);
        for index in 0..6 {
            go(&mut readers, index, 300, 400, 10 * MIB, NOW);
        }
        assert_eq!(readers.claimed, MOST, "four each are too much");
        assert_eq!(go(&mut readers, 0, 400, 500, 10 * MIB, NOW), from(500, 4 * MIB), "it gave its own back");
        let later = NOW + STALE;
        for step in 0..4 {
            go(&mut readers, 9, step * 100, step * 100 + 100, 10 * MIB, later);
        }
        assert_eq!(readers.claimed, MOST - 4 * MIB + 4 * MIB, "one of the old ones was let go for the new one");
        let sum: usize = readers.ends.values().map(|reach| reach.claimed).sum();
        assert_eq!(sum, readers.claimed);
    }

    #[test]
    fn remembers_a_bounded_number() {
        let mut readers = Readers::new(MOST);
        for reader in 0..3 * ENDS_MAX as i64 {
            go(&mut readers, 0, reader * 100, reader * 100 + 50, MIB, NOW);
        }
        assert!(readers.ends.len() <= ENDS_MAX && readers.order.len() <= ENDS_MAX);
        let newest = (3 * ENDS_MAX as i64 - 1) * 100 + 50;
        assert_eq!(go(&mut readers, 0, newest, newest + 1, MIB, NOW), from(newest + 1, MIB));
        // A place that is reached again is not let go with its first visit.
        for _ in 0..ENDS_MAX - 1 {
            go(&mut readers, 1, 0, 7, MIB, NOW);
        }
        go(&mut readers, 2, 0, 7, MIB, NOW);
        assert!(readers.ends.contains_key(&(partition(1), 7)) && readers.ends.contains_key(&(partition(2), 7)));
    }
}
