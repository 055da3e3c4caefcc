//! What there is: sessions with their names, claims with their folders, a fencer, and the image.

pub const SESSIONS: usize = 3;
pub const NAMES: usize = 5;
pub const CLAIMS: usize = 3;
pub const OFFSETS: usize = 8;
pub const NO_END: u8 = u8::MAX;

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Name {
    Free,
    Segment,
    Fence,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub enum Life {
    Waiting,
    Recovering,
    Serving,
    HandedOver,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Session {
    pub life: Life,
    pub names: [Name; NAMES],
    /// The offset of the record in each sealed segment.
    pub sealed: [u8; NAMES],
    pub seals: u8,
    pub next_offset: u8,
    /// In the image: `NO_END` while it is open.
    pub end: u8,
    /// In the image: `NO_END` unless it handed the partition over.
    pub handed_over: u8,
    /// In the image: segments below are merged.
    pub merged: u8,
}

impl Session {
    /// All below stand without a gap, or were merged.
    pub fn committed(&self) -> u8 {
        let free = |number: &u8| self.names[usize::from(*number)] != Name::Segment;
        (self.merged..NAMES as u8).find(free).unwrap_or(NAMES as u8)
    }

    /// Where its records of the partition end.
    pub fn tenure_end(&self) -> u8 {
        self.handed_over.min(self.end)
    }

    pub fn open(&self) -> bool {
        self.end == NO_END
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Stand {
    Open,
    Ended,
    /// Its folder is a run.
    Run,
}

/// An entry of the image, and its folder in the bucket. What stands in a folder is said by a bit for each segment.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Claim {
    pub stand: Stand,
    pub session: u8,
    pub from: u8,
    pub to: u8,
    pub by: u8,
    /// A PUT of this content was sent.
    pub sent: Option<u8>,
    pub folder: Option<u8>,
    /// Who wrote it saw that it is there.
    pub read_back: bool,
}

impl Claim {
    pub fn window(&self) -> u8 {
        ((1 << self.to) - 1) & !((1 << self.from) - 1)
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fencer {
    Idle,
    Walking { target: u8, at: u8 },
    Found { target: u8, end: u8 },
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct State {
    pub sessions: [Session; SESSIONS],
    /// Sessions 0..granted had the partition.
    pub granted: u8,
    pub claims: [Option<Claim>; CLAIMS],
    pub fencer: Fencer,
    /// In the image: what lies below is deleted.
    pub log_start: u8,
    /// What clients were told or shown, by offset: session and number.
    pub shown: [Option<(u8, u8)>; OFFSETS],
    pub broken: Option<&'static str>,
}

impl State {
    pub fn claims(&self) -> impl Iterator<Item = (usize, Claim)> + '_ {
        self.claims.iter().enumerate().filter_map(|(id, claim)| Some((id, (*claim)?)))
    }

    /// The folder of the run that stands for the segment.
    pub fn run_with(&self, session: usize, number: u8) -> Option<Claim> {
        let stands = |claim: &Claim| {
            claim.stand == Stand::Run && usize::from(claim.session) == session && claim.window() >> number & 1 == 1
        };
        self.claims().map(|(_, claim)| claim).find(stands)
    }

    pub fn breaks(&mut self, rule: &'static str) {
        self.broken = self.broken.or(Some(rule));
    }
}
