//! Producers as the merged segments of a session left them: what a checkpoint states.
//!
//! A partition's own memory of its producers runs ahead: it counts what is in flight, and each new batch pushes out an old one. What the
//! merged window left can't be told from it, and if the broker dies now, what is in flight was never written: recovery would know nothing of
//! a producer whose five newest batches were. So the state behind the merged windows is kept beside, and goes on by the windows.

use std::collections::BTreeMap;

use super::producers::{Claim, Producers, Written};
use crate::segment::{ExtentMeta, ProducerCheckpoint};
use crate::types::aside::aside;
use crate::types::{Offset, PartitionId, SegmentNumber, SessionId};

/// What a window of segments says of one partition. It is read without the partition's lock: windows are long.
#[derive(Debug, Default)]
pub struct WindowState {
    producers: Producers,
    /// Offsets of the records.
    begin: Option<Offset>,
    end: Offset,
    /// Records between are missing: they were deleted.
    has_hole: bool,
}

impl WindowState {
    /// Of every partition in a window. There may be half a million batches.
    pub fn of_all<'a>(extents: impl Iterator<Item = &'a ExtentMeta>) -> BTreeMap<PartitionId, WindowState> {
        let mut windows = BTreeMap::<PartitionId, WindowState>::new();
        aside(|| extents.for_each(|extent| windows.entry(extent.partition).or_default().take(extent)));
        windows
    }

    /// Where the records end.
    pub fn end(&self) -> Offset {
        self.end
    }

    /// Takes the next extent.
    fn take(&mut self, extent: &ExtentMeta) {
        self.has_hole |= self.begin.is_some() && extent.base_offset != self.end;
        self.begin.get_or_insert(extent.base_offset);
        self.end = extent.next_offset;
        for batch in &extent.batches {
            self.producers.write(Claim::of(batch), Written::in_log(batch, None), 0);
        }
    }
}

#[derive(Clone, Debug, Default)]
struct Behind {
    producers: Producers,
    /// The partition's records end there.
    next_offset: Offset,
}

/// The state behind the merged windows, and before this session.
#[derive(Debug, Default)]
pub struct Merged {
    behind: Behind,
    /// Behind the window of this session up to this segment, whose run is not committed.
    claimed: Option<(SessionId, SegmentNumber, Behind)>,
}

impl Merged {
    /// The partition is recovered: it writes from here on.
    pub fn begin(producers: &Producers, next_offset: Offset) -> Merged {
        Merged { behind: Behind { producers: producers.clone(), next_offset }, claimed: None }
    }

    /// What to say of producers behind a window of this session that ends before segment `end` and holds `window` of this partition, or
    /// nothing of it; its records end at `next_offset` there. `None`: windows between are not known here. `live` knows when each producer
    /// wrote last.
    pub fn checkpoint(
        &mut self,
        (session, end): (SessionId, SegmentNumber),
        window: Option<&WindowState>,
        next_offset: Offset,
        live: &Producers,
    ) -> Option<Vec<ProducerCheckpoint>> {
        let Some(window) = window else {
            return (self.behind.next_offset == next_offset).then(|| self.behind.producers.checkpoint(|_| true));
        };
        if window.has_hole || window.begin != Some(self.behind.next_offset) || window.end != next_offset {
            return None;
        }
        let mut behind = self.behind.clone();
        behind.producers.follow(&window.producers, live);
        behind.next_offset = next_offset;
        let said = behind.producers.checkpoint(|_| true);
        self.claimed = Some((session, end, behind));
        Some(said)
    }

    /// The run of a window is committed.
    pub fn commit(&mut self, session: SessionId, end: SegmentNumber) {
        if let Some((_, _, behind)) = self.claimed.take_if(|(of, to, _)| (*of, *to) == (session, end)) {
            self.behind = behind;
        }
    }

    /// [`Producers::expire`].
    pub fn expire(&mut self, now: i64, expiration_ms: i64) {
        self.behind.producers.expire(now, expiration_ms);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::segment::BatchMeta;
    use crate::types::TopicId;

    const S: SessionId = SessionId { revision: 1, random: 1 };

    /// One record at this offset, with the producer's sequence.
    fn batch(offset: Offset, (producer_id, producer_epoch, base_sequence): (i64, i16, i32)) -> BatchMeta {
        BatchMeta {
            base_offset: offset,
            last_offset_delta: 0,
            length: 100,
            record_count: 1,
            max_timestamp: 0,
            producer_id,
            producer_epoch,
            base_sequence,
            transactional: false,
            log_append_time: false,
            control: None,
        }
    }

    fn extent(base_offset: Offset, batches: &[(i64, i16, i32)]) -> ExtentMeta {
        let partition = PartitionId { topic: TopicId(1), index: 0 };
        let batches: Vec<_> = (base_offset..).zip(batches).map(|(offset, of)| batch(offset, *of)).collect();
        let next_offset = base_offset + batches.len() as Offset;
        ExtentMeta { partition, epoch: 0, base_offset, next_offset, position: 0, length: 0, max_timestamp: 0, batches }
    }

    fn window(extents: &[ExtentMeta]) -> WindowState {
        let mut window = WindowState::default();
        extents.iter().for_each(|extent| window.take(extent));
        window
    }

    /// Whatever was committed behind the window when the broker died, and whatever was in flight: checkpoint and the segments behind it
    /// give what the committed batches give.
    #[test]
    fn what_was_in_flight_does_not_count() {
        let batches: Vec<(i64, i16, i32)> =
            (0..9).map(|at| (7, 0, at)).chain([(7, 1, 0), (8, 0, 0), (7, 1, 1)]).collect();
        let all_of = |count: usize| {
            let mut producers = Producers::default();
            for (offset, of) in (0..).zip(&batches[..count]) {
                let batch = batch(offset, *of);
                producers.write(Claim::of(&batch), Written::in_log(&batch, None), 0);
            }
            producers
        };
        let count = batches.len();
        for (first, end) in (0..=count).flat_map(|first| (first..=count).map(move |end| (first, end))) {
            let mut merged = Merged::begin(&all_of(first), first as Offset);
            // In two windows; everything else is in flight.
            let middle = usize::midpoint(first, end);
            let mut said = merged.checkpoint((S, 0), None, first as Offset, &all_of(count));
            for (at, to) in [(first, middle), (middle, end)].into_iter().filter(|(at, to)| at < to) {
                let window = window(&[extent(at as Offset, &batches[at..to])]);
                said = merged.checkpoint((S, to as u64), Some(&window), to as Offset, &all_of(count));
                merged.commit(S, to as u64);
            }
            for committed in end..=count {
                let mut recovered = Producers::default();
                recovered.restore(&said.clone().expect("nothing is missing"));
                for (offset, of) in (0..).zip(&batches[..committed]).skip(end) {
                    let batch = batch(offset, *of);
                    recovered.write(Claim::of(&batch), Written::in_log(&batch, None), 0);
                }
                let known = |producers: &Producers| producers.checkpoint(|_| true);
                assert_eq!(known(&recovered), known(&all_of(committed)), "{first}..{end}, committed {committed}");
            }
        }
    }

    #[test]
    fn nothing_is_said_where_something_is_missing() {
        let one = |at| window(&[extent(at, &[(7, 0, at as i32)])]);
        let holed = window(&[extent(4, &[(7, 0, 4)]), extent(6, &[(7, 0, 6)])]);
        // (the window, where the records end behind it, whether something is said)
        let table = [
            (Some(one(4)), 5, true),
            (Some(one(4)), 6, false),
            (Some(one(3)), 4, false),
            (Some(one(5)), 6, false),
            (Some(holed), 7, false),
            (Some(WindowState::default()), 0, false),
            (None, 4, true),
            (None, 5, false),
        ];
        for (at, (window, next_offset, expected)) in table.iter().enumerate() {
            let mut merged = Merged::begin(&Producers::default(), 4);
            let live = Producers::default();
            let said = merged.checkpoint((S, 9), window.as_ref(), *next_offset, &live);
            assert_eq!(said.is_some(), *expected, "row {at}");
        }
    }

    #[test]
    fn a_window_counts_when_its_run_is_committed() {
        let other = SessionId { revision: 2, random: 2 };
        // (committed, whether the next window follows it)
        for (session, end, follows) in [(S, 9, true), (S, 8, false), (other, 9, false)] {
            let mut merged = Merged::begin(&Producers::default(), 0);
            let live = Producers::default();
            merged.checkpoint((S, 9), Some(&window(&[extent(0, &[(7, 0, 0)])])), 1, &live).expect("nothing is missing");
            merged.commit(session, end);
            let next = window(&[extent(1, &[(7, 0, 1)])]);
            assert_eq!(merged.checkpoint((S, 12), Some(&next), 2, &live).is_some(), follows, "{session} {end}");
            let again = window(&[extent(0, &[(7, 0, 0), (7, 0, 1)])]);
            assert_eq!(merged.checkpoint((S, 12), Some(&again), 2, &live).is_some(), !follows, "{session} {end}");
        }
    }
}
