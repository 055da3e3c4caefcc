//! What there is: sessions with their names and processes, and the image.

pub const SESSIONS: usize = 4;
pub const NAMES: usize = 4;
pub const TENURES: usize = 4;
pub const OFFSETS: usize = 6;
pub const NONE: u8 = u8::MAX;

/// Had the partition when all begins.
pub const BEFORE: usize = 0;
/// Of another node.
pub const OTHER: usize = 1;
/// Are opened under the node id of [`BEFORE`], in this order.
pub const FIRST: usize = 2;
pub const SECOND: usize = 3;

/// The sessions of one node id, in the order of their names.
pub const OF_NODE: [usize; 3] = [BEFORE, FIRST, SECOND];

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Name {
    Free,
    Segment,
    Fence,
}

/// What the image says of a session.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Stand {
    Absent,
    Open,
    Ready,
    Fenced { end: u8 },
}

impl Stand {
    pub fn is_open(self) -> bool {
        matches!(self, Stand::Open | Stand::Ready)
    }
}

/// How far the process of a session is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Life {
    Waiting,
    /// `OpenSession` stands: it writes its first segments, and fences its predecessors.
    Opening,
    /// The second entry stands, and its process does not know yet.
    Admitted,
    Serving,
    /// Put a fence behind its last segment, to close itself.
    Leaving,
    /// It ended: its start failed, or it met its fence, or left.
    Over,
    /// Gone from one moment to the next.
    Dead,
}

impl Life {
    pub fn is_start(self) -> bool {
        matches!(self, Life::Opening | Life::Admitted)
    }

    pub fn runs(self) -> bool {
        self.is_start() || matches!(self, Life::Serving | Life::Leaving)
    }
}

/// How far a session has come with fencing another.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub enum Walk {
    None,
    /// Is to look at, or put a fence to, this number.
    At(u8),
    Found(u8),
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Session {
    pub life: Life,
    pub names: [Name; NAMES],
    /// The offset of the record in each sealed segment, `NONE` if it is empty.
    pub offsets: [u8; NAMES],
    pub seals: u8,
    /// Recovered the partition: where its log ended then, and where it ends with what is on its way.
    pub held: Option<(u8, u8)>,
    pub stand: Stand,
    /// In the image: segments below are merged.
    pub merged: u8,
    pub walks: [Walk; SESSIONS],
    /// Bits of the sessions that it is to close when it starts.
    pub predecessors: u8,
    /// Somebody began to fence it: a fence ahead may land.
    pub attacked: bool,
    /// Somebody saw it end below this number for a ttl.
    pub expired: u8,
    /// It was silent for a ttl though its process ran.
    pub slow: bool,
    /// For mutants: segments below are taken for committed.
    pub assumed: u8,
}

impl Session {
    pub fn new() -> Session {
        Session {
            life: Life::Waiting,
            names: [Name::Free; NAMES],
            offsets: [NONE; NAMES],
            seals: 0,
            held: None,
            stand: Stand::Absent,
            merged: 0,
            walks: [Walk::None; SESSIONS],
            predecessors: 0,
            attacked: false,
            expired: 0,
            slow: false,
            assumed: 0,
        }
    }

    /// A session that serves, behind its segment 0.
    pub fn serving() -> Session {
        let mut session = Session { life: Life::Serving, stand: Stand::Ready, seals: 1, ..Session::new() };
        session.names[0] = Name::Segment;
        session
    }

    /// So many segments stand without a gap, or were merged.
    pub fn committed(&self) -> u8 {
        let from = self.merged.max(self.assumed);
        (from..NAMES as u8).find(|number| self.names[usize::from(*number)] != Name::Segment).unwrap_or(NAMES as u8)
    }

    /// Segments whose PUTs have no answer yet.
    pub fn under_way(&self) -> std::ops::Range<u8> {
        self.committed()..self.seals
    }

    pub fn proven(&self) -> bool {
        self.committed() >= self.expired
    }
}

/// In the image: who wrote the partition, and below which number.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Tenure {
    pub session: u8,
    pub end: u8,
}

/// Session and segment number.
pub type Record = (u8, u8);

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct State {
    pub sessions: [Session; SESSIONS],
    pub tenures: [Option<Tenure>; TENURES],
    /// What clients were told or shown, by offset.
    pub shown: [Option<Record>; OFFSETS],
    /// The highest log end that was acknowledged or shown.
    pub seen: u8,
    pub faults: u8,
    pub broken: Option<&'static str>,
}

impl State {
    pub fn holder(&self) -> Option<usize> {
        let last = self.tenures.iter().flatten().next_back()?;
        (last.end == NONE).then_some(usize::from(last.session))
    }

    pub fn breaks(&mut self, rule: &'static str) {
        self.broken = self.broken.or(Some(rule));
    }

    pub fn with(&self, at: usize, change: impl FnOnce(&mut Session)) -> State {
        let mut after = *self;
        change(&mut after.sessions[at]);
        after
    }
}
