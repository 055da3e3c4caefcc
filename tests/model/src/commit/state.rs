//! What there is: names, sessions, fencers, and what clients were shown.

pub const SESSIONS: usize = 3;
pub const NAMES: usize = 5;
pub const OFFSETS: usize = SESSIONS * NAMES;
pub const FENCERS: usize = 2;
pub const NO_END: u8 = u8::MAX;

/// How large a world is explored.
#[derive(Clone, Copy)]
pub struct Bounds {
    pub sessions: usize,
    /// Segments of the first session and of later ones, less than `NAMES`: one name more is there for a fence.
    pub segments: (usize, usize),
    /// Segments that are sealed and not known to be committed.
    pub window: u8,
    pub fencers: usize,
    pub loss: bool,
}

/// One rule of the design, left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// Acknowledged as soon as the own PUT is known to be there, whatever is before it.
    AckOutOfOrder,
    /// Acknowledged when sealed.
    AckBeforePut,
    /// A name that is taken is taken for one's own object.
    TrustTaken,
    /// A second attempt holds a record more than the first.
    RetryTakesMore,
    /// A new session of the same process goes on with the offsets of the one before.
    KeepMemory,
    /// A fencer takes the end from what it reads.
    EndFromReads,
    /// A fencer puts a fence above all that it sees, and that is the end.
    FenceAheadIsEnd,
    /// A fencer takes a name that is taken for a fence.
    FencerTrustsTaken,
    /// The lowest fence is deleted once the end is recorded.
    FenceDeleted,
    /// A follower goes on behind a gap.
    FollowerSkipsGap,
    /// The walk starts above the highest segment seen.
    StartAboveSeen,
    /// A segment's statement counts those before it that are on their way.
    StatementCountsInFlight,
    /// The walk starts at 0, with no look at statements.
    StartAtZero,
    /// The walk starts at the statement of any segment met, not of the highest.
    StartAtAnyStatement,
    /// Recovery goes on behind a hole.
    SkipHole,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Name {
    Free,
    Segment,
    /// A segment that lacks its record: only [`Mutant::RetryTakesMore`] makes it.
    Short,
    Fence,
}

impl Name {
    pub fn is_segment(self) -> bool {
        matches!(self, Name::Segment | Name::Short)
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub enum Life {
    Waiting,
    Recovering,
    Serving,
    /// Recovery met a hole: the partition is closed, with an alarm.
    Alarm,
    Over,
}

/// What was decided when a segment was sealed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Sealed {
    pub offset: u8,
    /// So many segments of the session were committed.
    pub committed: u8,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Session {
    pub life: Life,
    pub names: [Name; NAMES],
    pub sealed: [Sealed; NAMES],
    /// How many are sealed.
    pub seals: u8,
    /// Bits of the segments that the session knows to be there.
    pub learned: u8,
    pub next_offset: u8,
}

impl Session {
    pub fn committed(&self) -> u8 {
        (!self.learned).trailing_zeros() as u8
    }

    /// Numbers of the segments that stand.
    pub fn standing(&self) -> impl DoubleEndedIterator<Item = usize> {
        (0..NAMES).filter(|number| self.names[*number].is_segment())
    }

    pub fn highest(&self) -> Option<usize> {
        self.standing().next_back()
    }

    pub fn first_gap(&self) -> u8 {
        self.names.iter().position(|name| !name.is_segment()).expect("the last name is never a segment") as u8
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Fencer {
    Idle,
    /// Is to look at, or put a fence to, number `at`.
    Walking {
        target: u8,
        at: u8,
    },
    Found {
        target: u8,
        end: u8,
    },
}

/// Session and segment number; every record has one.
pub type Record = (u8, u8);

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct State {
    pub sessions: [Session; SESSIONS],
    pub fencers: [Fencer; FENCERS],
    /// Sessions 0..granted had the partition; the last may still have it.
    pub granted: u8,
    /// The recorded end of each session.
    pub ends: [u8; SESSIONS],
    /// What clients were told or shown, by offset.
    pub shown: [Option<Record>; OFFSETS],
    pub lost: bool,
    pub broken: Option<&'static str>,
}
