//! Which segments are merged next. Pure.

use std::time::Duration;

use crate::log::append::unmerged::SegmentNote;
use crate::meta::image::{Image, SessionState};
use crate::types::mutant::{self, Mutant};
use crate::types::{RunId, SegmentNumber, SessionId};

/// What the footers of one window say is held in memory while it is merged.
const BATCHES_MAX: u64 = 100_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// A window is due when its oldest segment with records is so old.
    pub window: Duration,
    /// Or when it holds so much.
    pub window_bytes: u64,
    /// Or when half as many segments wait; no window has more than that half.
    pub unmerged_max: usize,
    /// Objects of a run become about so large.
    pub object_bytes: u64,
}

impl Limits {
    fn segments(&self) -> usize {
        (self.unmerged_max / 2).max(1)
    }
}

/// Where the next window of the session's own committed segments ends; `None`: nothing is due. `notes` are in order of numbers.
pub fn due<'a>(
    notes: impl Iterator<Item = &'a SegmentNote> + Clone,
    now: Duration,
    limits: &Limits,
) -> Option<SegmentNumber> {
    let old = |note: &SegmentNote| note.bytes > 0 && now.saturating_sub(note.at) >= limits.window;
    let bytes: u64 = notes.clone().map(|note| note.bytes).sum();
    let batches: u64 = notes.clone().map(|note| note.batches).sum();
    let many = notes.clone().count() >= limits.segments();
    let is_due = many || bytes >= limits.window_bytes || batches >= BATCHES_MAX || notes.clone().any(old);
    if is_due { cut(notes, limits) } else { None }
}

/// How far a window goes: as many segments as the limits allow, at least one.
pub fn cut<'a>(notes: impl Iterator<Item = &'a SegmentNote>, limits: &Limits) -> Option<SegmentNumber> {
    let (mut end, mut bytes, mut batches) = (None, 0, 0);
    for note in notes.take(limits.segments()) {
        bytes += note.bytes;
        batches += note.batches;
        if end.is_some() && (bytes > limits.window_bytes || batches > BATCHES_MAX) {
            break;
        }
        end = Some(note.number + 1);
    }
    if mutant::on(Mutant::MergePastEnd) { end.map(|end| end + 2) } else { end }
}

/// Work that the image shows, besides the own session's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chore {
    /// A claim of a session that is over, or an own one that nobody works on.
    EndClaim(RunId),
    /// Segments of a fenced session that are not merged: `from..end`.
    Merge { session: SessionId, from: SegmentNumber, end: SegmentNumber },
}

/// What is to be done for others, claims first, then sessions in their order: later ones go on where earlier ones ended. `own` claims
/// must not be under way.
pub fn chores(image: &Image, own: SessionId) -> Vec<Chore> {
    let state = |session: &SessionId| image.sessions.get(session).map(|session| session.state);
    let over = |by: &SessionId| !matches!(state(by), Some(SessionState::Open | SessionState::Ready));
    let claims = image.merges.claims.iter().filter(|(_, claim)| claim.by == own || over(&claim.by));
    let claims = claims.map(|(id, _)| Chore::EndClaim(*id));
    let fenced = image.sessions.iter().filter_map(|(session, state)| match state.state {
        SessionState::Fenced { end } => {
            let from = image.merges.merged(*session);
            let free = image.merges.claim_on(*session).is_none_or(|(_, claim)| claim.by == own || over(&claim.by));
            (from < end && free).then_some(Chore::Merge { session: *session, from, end })
        }
        SessionState::Open | SessionState::Ready => None,
    });
    claims.chain(fenced).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meta::entry::{Change, Entry};

    const LIMITS: Limits =
        Limits { window: Duration::from_secs(60), window_bytes: 1000, unmerged_max: 20, object_bytes: 100 };

    #[test]
    fn a_window_is_due_by_age_by_bytes_and_by_number() {
        // (sizes of the segments from number 5 on, age of the first in seconds and one less for each, where the window ends)
        let table: &[(&[u64], u64, Option<u64>)] = &[
            (&[], 0, None),
            (&[0], 1000, None),
            (&[0, 10], 60, None),
            (&[0, 10], 61, Some(7)),
            (&[10, 0], 60, Some(7)),
            (&[10, 10], 59, None),
            (&[400, 599], 0, None),
            (&[400, 600], 0, Some(7)),
            (&[400, 601], 0, Some(6)),
            (&[5000, 1, 1], 0, Some(6)),
            (&[1, 5000, 1], 0, Some(6)),
            (&[0; 9], 1000, None),
            (&[0; 10], 0, Some(15)),
            (&[0; 25], 0, Some(15)),
        ];
        for (sizes, age, expected) in table {
            let note = |(at, bytes): (usize, &u64)| SegmentNote {
                number: 5 + at as u64,
                bytes: *bytes,
                batches: *bytes,
                at: Duration::from_secs(2000 - age + at as u64),
            };
            let notes: Vec<_> = sizes.iter().enumerate().map(note).collect();
            assert_eq!(due(notes.iter(), Duration::from_secs(2000), &LIMITS), *expected, "{sizes:?} {age}");
        }
    }

    #[test]
    fn chores_follow_from_the_image() {
        let mut image = Image::default();
        let mut apply = |changes: Vec<Change>| {
            image.apply(&Entry::new(image.revision + 1, 0, changes)).expect("known");
            image.clone()
        };
        let open =
            |node_id| Change::OpenSession { node_id, random: format!("{:016x}", 7), endpoints: Vec::new(), rack: None };
        let [one, two, own] = [1, 2, 3].map(|revision| SessionId { revision, random: 7 });
        let claim = |session, from, to, by| Change::ClaimMerge { session, from, to, by, random: format!("{:016x}", 9) };
        let id = |revision| RunId { revision, random: 9 };
        (1..=3).for_each(|node| drop(apply(vec![open(node)])));
        assert_eq!(chores(&apply(vec![]), own), []);
        let fenced = apply(vec![Change::FenceSession { session: one, end: 5, ready: vec![] }]);
        assert_eq!(chores(&fenced, own), [Chore::Merge { session: one, from: 0, end: 5 }]);
        let claimed = apply(vec![claim(one, 0, 3, two)]);
        assert_eq!(chores(&claimed, own), [], "somebody is at it");
        let merge = |from| Chore::Merge { session: one, from, end: 5 };
        assert_eq!(chores(&claimed, two), [Chore::EndClaim(id(6)), merge(0)], "what nobody works on");
        let over = apply(vec![Change::FenceSession { session: two, end: 0, ready: vec![] }]);
        assert_eq!(chores(&over, own), [Chore::EndClaim(id(6)), merge(0)]);
        let committed = apply(vec![Change::CommitRun { claim: id(6), empty: false }]);
        assert_eq!(chores(&committed, own), [merge(3)]);
        let all = apply(vec![claim(one, 3, 5, own)]);
        assert_eq!(chores(&all, own), [Chore::EndClaim(id(9)), merge(3)]);
        assert_eq!(chores(&apply(vec![Change::CommitRun { claim: id(9), empty: true }]), own), []);
    }
}
