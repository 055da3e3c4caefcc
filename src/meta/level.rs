//! The feature level of a cluster: what may stand in its table and its bucket. Programs of different versions serve one cluster as long as
//! each supports its level.
//!
//! Level 1 is the format of the first brokers. Level 2 knows hand-overs of leases, merging (entries, `runs/`) and moves of the table. At level n all
//! that is written can be read by a program that supports n: entries have versions up to n, snapshots are of version n.
//!
//! ```text
//! a session says what it supports, in a way that every program reads ─► all open sessions support n, for the settling time ─► RaiseLevel n
//! ```
//!
//! The rule is the proposer's, on the image at r, and the entry counts only as r + 1: a session of an older program that opens meanwhile takes
//! r + 1 itself, and then nothing is raised; one that comes later finds an entry or a snapshot of a version that it does not know before
//! it has written anything, and stops with an error that says so. Until the level rises older programs may come back at any time, so the
//! settling time lets a rolling restart end and be taken back; `feature-level` holds the level for longer. It never falls.
//!
//! A cluster that is founded begins at the level of its founder: nobody older is there.

use std::time::Duration;

use super::entry::{Change, Endpoint};
use super::image::{Image, Session};
use crate::types::FEATURE_LEVEL;
use crate::types::mutant::{self, Mutant};

/// From here on leases are handed over between sessions that live.
pub const HAND_OVER: u16 = 2;

/// From here on segments are merged into runs.
pub const MERGE: u16 = 2;

/// From here on all brokers take, when they start, what nobody holds; those of level 1 need not.
pub const TAKE_VACANT: u16 = 2;

/// For errors.
pub(super) const WHY_NOT_RAISED: &str =
    "a session of an older program is open, was so a moment ago, or feature-level holds it back";

/// Of tables that say nothing of levels.
pub(super) const fn first() -> u16 {
    1
}

/// The name of the listener that is none. Programs of level 1 refuse fields that they do not know, but take any number of endpoints and
/// look at the first only.
const LISTENER: &str = "FEATURE_LEVEL";

/// Says, behind the endpoints of a session, what its program supports.
pub fn endpoint(supported: u16) -> Endpoint {
    Endpoint { listener: LISTENER.to_owned(), host: String::new(), port: supported }
}

/// What a session with these endpoints supports.
pub fn told_by(endpoints: &[Endpoint]) -> u16 {
    let told = endpoints.iter().find(|endpoint| endpoint.listener == LISTENER);
    told.map_or(first(), |endpoint| endpoint.port).max(first())
}

impl Session {
    /// The level that its program supports.
    pub fn level(&self) -> u16 {
        told_by(&self.endpoints)
    }
}

/// The level that all open sessions support; `None`: there is no open session.
pub fn supported_by_all(image: &Image) -> Option<u16> {
    image.open_sessions().map(|(_, session)| session.level()).min()
}

/// Raises the level to `wanted` if all open sessions support it, and otherwise as far as they do.
pub fn raise(image: &Image, wanted: u16) -> Vec<Change> {
    let all = supported_by_all(image).filter(|_| !mutant::on(Mutant::RaiseOverOlder));
    let level = all.map_or(wanted, |all| all.min(wanted));
    if level > image.level { vec![Change::RaiseLevel { level }] } else { Vec::new() }
}

/// Since when all open sessions have supported a higher level than the cluster's.
#[derive(Clone, Copy, Debug)]
pub struct Settling {
    wanted: u16,
    time: Duration,
    /// The level that they support, and when that was seen first.
    since: Option<(u16, Duration)>,
}

impl Settling {
    pub fn new(wanted: u16, time: Duration) -> Settling {
        Settling { wanted: wanted.min(FEATURE_LEVEL), time, since: None }
    }

    /// Looks at the image as it is at boot time `now`. The level to propose, when it has been possible for the settling time.
    pub fn look(&mut self, image: &Image, now: Duration) -> Option<u16> {
        let Some(Change::RaiseLevel { level }) = raise(image, self.wanted).pop() else {
            self.since = None;
            return None;
        };
        let begun = match self.since {
            Some((at, begun)) if at <= level => begun,
            _ => now,
        };
        self.since = Some((self.since.map_or(level, |(at, _)| at.min(level)), begun));
        (now.saturating_sub(begun) >= self.time).then_some(level)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meta::entry::Entry;
    use crate::types::SessionId;

    fn apply(image: &mut Image, change: Change) {
        let entry = Entry::new(image.revision + 1, 1, vec![change]);
        image.apply(&entry).expect("the next one");
    }

    /// Opens a session; level 0 says nothing.
    fn open(image: &mut Image, level: u16) -> SessionId {
        let client = Endpoint { listener: "PLAINTEXT".to_owned(), host: "h".to_owned(), port: 9092 };
        let endpoints = if level == 0 { vec![client] } else { vec![client, endpoint(level)] };
        apply(image, Change::OpenSession { node_id: 1, random: format!("{:016x}", 7), endpoints, rack: None });
        SessionId { revision: image.revision, random: 7 }
    }

    fn close(image: &mut Image, session: SessionId) {
        apply(image, Change::FenceSession { session, end: 0, ready: Vec::new() });
    }

    #[test]
    fn the_lowest_open_session_decides() {
        // (what open sessions say, what is wanted, what it is raised to)
        let table: [(&[u16], u16, Option<u16>); 9] = [
            (&[], 2, Some(2)),
            (&[], 1, None),
            (&[2], 2, Some(2)),
            (&[2], 1, None),
            (&[0], 2, None),
            (&[1], 2, None),
            (&[2, 0, 2], 2, None),
            (&[2, 3], 9, Some(2)),
            (&[4, 3], 9, Some(3)),
        ];
        for (open_levels, wanted, expected) in table {
            let mut image = Image::default();
            for level in open_levels {
                open(&mut image, *level);
            }
            let raised = raise(&image, wanted);
            let level = raised.first().map(|change| match change {
                Change::RaiseLevel { level } => *level,
                other => panic!("{other:?}"),
            });
            assert_eq!(level, expected, "{open_levels:?} {wanted}");
        }
        let mut image = Image::default();
        let old = open(&mut image, 0);
        close(&mut image, old);
        assert_eq!(raise(&image, 2), [Change::RaiseLevel { level: 2 }], "who is over is not asked");
        apply(&mut image, Change::RaiseLevel { level: 2 });
        assert_eq!((image.level, raise(&image, 2)), (2, Vec::new()));
    }

    #[test]
    fn it_settles_anew_whenever_somebody_older_comes() {
        let at = Duration::from_secs;
        let mut image = Image::default();
        let mut settling = Settling::new(2, at(10));
        let old = open(&mut image, 0);
        open(&mut image, 2);
        assert_eq!(settling.look(&image, at(100)), None);
        close(&mut image, old);
        assert_eq!((settling.look(&image, at(101)), settling.look(&image, at(110))), (None, None));
        let old = open(&mut image, 1);
        assert_eq!(settling.look(&image, at(112)), None, "an older one came back");
        close(&mut image, old);
        assert_eq!((settling.look(&image, at(113)), settling.look(&image, at(122))), (None, None));
        assert_eq!(settling.look(&image, at(123)), Some(2));
        assert_eq!(settling.look(&image, at(124)), Some(2), "until it is done");
        apply(&mut image, Change::RaiseLevel { level: 2 });
        assert_eq!(settling.look(&image, at(200)), None);
        assert_eq!(Settling::new(1, at(0)).look(&image, at(200)), None);
        assert_eq!(Settling::new(9, at(0)).look(&Image::default(), at(0)), Some(FEATURE_LEVEL));
    }
}
