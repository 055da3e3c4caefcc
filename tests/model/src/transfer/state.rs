//! What there is: sessions with their segments and leases, and the image.

pub const SESSIONS: usize = 3;
pub const PARTITIONS: usize = 2;
pub const NAMES: usize = 5;
pub const TENURES: usize = 4;
pub const PROPOSALS: usize = 2;
pub const OFFSETS: usize = 8;
pub const NO_END: u8 = u8::MAX;

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Name {
    Free,
    Segment,
    Fence,
}

/// What a session does with a partition.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub enum Lease {
    None,
    /// Granted; what is in the log is not known yet.
    Recovering {
        epoch: u8,
    },
    Serving(Held),
    /// Parked: a `TransferLease` was sent, and what became of it is not known.
    HandingOver {
        held: Held,
        end: u8,
    },
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Held {
    pub epoch: u8,
    /// Where the log ended when this tenure began, and where it ends with what is on its way.
    pub base: u8,
    pub next: u8,
}

/// A record of one partition in a segment.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Extent {
    pub epoch: u8,
    pub offset: u8,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Session {
    pub names: [Name; NAMES],
    pub sealed: [[Option<Extent>; PARTITIONS]; NAMES],
    pub seals: u8,
    pub leases: [Lease; PARTITIONS],
    /// Proofs that rest on fewer committed segments are over.
    pub expired: u8,
    /// For `Mutant::RegainFromMemory`.
    pub memory: [u8; PARTITIONS],
}

impl Session {
    pub fn new() -> Session {
        Session {
            names: [Name::Free; NAMES],
            sealed: [[None; PARTITIONS]; NAMES],
            seals: 0,
            leases: [Lease::None; PARTITIONS],
            expired: 0,
            memory: [0; PARTITIONS],
        }
    }

    /// So many segments stand without a gap: all that is committed.
    pub fn committed(&self) -> u8 {
        self.names.iter().position(|name| *name != Name::Segment).unwrap_or(NAMES) as u8
    }

    pub fn proven(&self) -> bool {
        self.committed() >= self.expired
    }
}

/// In the image: who wrote, and below which number the segments are that may hold it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Tenure {
    pub session: u8,
    pub end: u8,
}

/// An append on its way.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct TransferLease {
    pub from: u8,
    pub partition: u8,
    pub epoch: u8,
    pub to: u8,
    pub end: u8,
}

/// A record by session and segment, 0: none.
pub type Record = u8;

pub fn record(session: usize, number: u8) -> Record {
    (session * NAMES) as u8 + number + 1
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct State {
    pub sessions: [Session; SESSIONS],
    /// In the image: the end of each session, `NO_END` while it is open.
    pub ends: [u8; SESSIONS],
    /// In the image: the tenures of each partition. A tenure's place is its lease epoch.
    pub tenures: [[Option<Tenure>; TENURES]; PARTITIONS],
    pub proposals: [Option<TransferLease>; PROPOSALS],
    /// What clients were told or shown, by offset.
    pub shown: [[Record; OFFSETS]; PARTITIONS],
    /// The highest log end that a holder acknowledged or showed.
    pub seen: [u8; PARTITIONS],
    /// Of the first partition.
    pub follower: Follower,
    pub broken: Option<&'static str>,
}

/// What a follower reads next.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Follower {
    pub epoch: u8,
    pub number: u8,
    pub offset: u8,
}

impl State {
    pub fn tenure_count(&self, partition: usize) -> usize {
        self.tenures[partition].iter().flatten().count()
    }

    /// Who may assign offsets, and the lease epoch.
    pub fn holder(&self, partition: usize) -> Option<(usize, u8)> {
        let epoch = self.tenure_count(partition).checked_sub(1)?;
        let tenure = self.tenures[partition][epoch]?;
        (tenure.end == NO_END).then_some((usize::from(tenure.session), epoch as u8))
    }

    pub fn open(&self, session: usize) -> bool {
        self.ends[session] == NO_END
    }

    pub fn breaks(&mut self, rule: &'static str) {
        self.broken = self.broken.or(Some(rule));
    }
}
