//! Proof: what a holder shows is current, though it may stand still at any moment, and no two clocks agree.
//!
//! A holder answers reads while it has proof: for ¾ of the ttl, on its clock, from the sending of the first attempt of its newest committed
//! segment. Who suspects it looks at its segments, fences it, and closes it in the table when, on *his* clock, a whole ttl is over since the
//! end of the look that first saw the end at which the fence stands. Then the successor serves, and whatever the old holder answers is old.
//! The clocks' rates change all the time, and one may be slower than the other by a quarter; nothing else of them is relied on.
//!
//! Over a connection the holder tells which segment is the newest that it knows to be committed, and by which nonce to know it; such an
//! answer may be heard long after it was given, and anybody may lie there. Who looks, and finds the very segment that he was told of and nothing
//! behind it, counts the wait from when he was told: that is when he first saw it.
//!
//! What keeps an outage from ending in everybody fencing everybody is in `outage`; what is shown does not depend on it.

use crate::Run;
use crate::explore::{Spec, bits};

/// In units of the clocks; a tick is three or four.
const TTL: u8 = 12;
const PROOF_LASTS: u8 = 9;

/// Units of the holder's clock and of the other's in one tick.
const RATES: [(u8, u8); 3] = [(3, 4), (4, 4), (4, 3)];

/// One rule of the design, left out.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mutant {
    /// The proof lasts as long as the other waits.
    ProofOfWholeTtl,
    /// It lasts from the answer to the PUT.
    ProofFromAnswer,
    /// It lasts from the sending of the attempt that was answered.
    ProofFromLastAttempt,
    /// The proof is looked at first, then the state is read.
    ProofBeforeState,
    /// The holder's clock stands still while its machine sleeps.
    ClockSleeps,
    /// Clocks' rates differ by a half.
    ClocksTooFarApart,
    /// The wait counts from the beginning of the look.
    WaitFromBeginning,
    /// The fence may stand above the end that was seen.
    FenceAboveSeen,
    /// The wait counts from the fence's creation, though looks saw nothing before.
    NoWait,
    /// What was told counts though the segment that is found is another than the one told of.
    ToldNotCompared,
    /// What was told stands for a look.
    ToldIsLook,
    /// An answer names a segment that is not sealed yet.
    ToldBeforeSealed,
}

struct Proof {
    segments: u8,
    /// There is a connection.
    connected: bool,
    mutant: Option<Mutant>,
}

/// Name, segments of the holder, and the rule that is left out. With four segments nothing is told.
const RUNS: &[(&str, u8, Option<Mutant>)] = &[
    ("two_segments", 2, None),
    ("four_segments", 4, None),
    ("proof_of_whole_ttl", 2, Some(Mutant::ProofOfWholeTtl)),
    ("proof_from_answer", 2, Some(Mutant::ProofFromAnswer)),
    ("proof_from_last_attempt", 2, Some(Mutant::ProofFromLastAttempt)),
    ("proof_before_state", 2, Some(Mutant::ProofBeforeState)),
    ("clock_sleeps", 2, Some(Mutant::ClockSleeps)),
    ("clocks_too_far_apart", 2, Some(Mutant::ClocksTooFarApart)),
    ("wait_from_beginning", 2, Some(Mutant::WaitFromBeginning)),
    ("fence_above_seen", 2, Some(Mutant::FenceAboveSeen)),
    ("no_wait", 2, Some(Mutant::NoWait)),
    ("told_not_compared", 2, Some(Mutant::ToldNotCompared)),
    ("told_is_look", 2, Some(Mutant::ToldIsLook)),
    ("told_before_sealed", 2, Some(Mutant::ToldBeforeSealed)),
];

pub fn runs() -> Vec<Run> {
    let run = |(name, segments, mutant): &(&'static str, u8, Option<Mutant>)| {
        Run::new(
            "proof",
            name,
            mutant.is_some(),
            Proof { segments: *segments, connected: *segments < 4, mutant: *mutant },
        )
    };
    RUNS.iter().map(run).collect()
}

/// Ages are in units of the clock of whom they belong to, and stop when they are long enough.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct State {
    /// Segments that the holder sealed, and that it knows to be committed.
    sealed: u8,
    known: u8,
    /// Since the first attempt of the segment under way.
    sent: u8,
    /// Segments that stand. The fence stands behind the last of them.
    stand: u8,
    fence: bool,
    /// Since the first attempt of the newest segment that is known to be committed.
    proof: u8,
    /// For [`Mutant::ProofBeforeState`]: a read whose proof held when it was looked at.
    read_under_way: bool,
    look: Option<Look>,
    seen: Option<Seen>,
    /// What was told last, and since when it is told.
    told: Option<(Said, u8)>,
    /// The session is closed, and its successor serves.
    closed: bool,
    broken: Option<&'static str>,
}

/// A look under way: since it began, and what it found.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Look {
    since: u8,
    found: Option<u8>,
}

/// An end that somebody tells, and whether the nonce is that of the segment below it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Said {
    end: u8,
    true_nonce: bool,
}

/// An end, and since when it is known.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Seen {
    end: u8,
    since: u8,
}

#[derive(Clone, Copy, Debug)]
#[expect(dead_code, reason = "the numbers are there to be printed")]
enum Step {
    Tick { holder: u8, other: u8 },
    Seal,
    SendAgain,
    Land,
    Learn,
    LookAtProof,
    Answer,
    LookBegins,
    LookReads { end: u8 },
    LookEnds,
    Hear { said: Said },
    Fence,
    FenceSession,
}

const OLD: &str = "a holder whose successor serves has shown something";

impl Spec for Proof {
    type State = State;
    type Step = Step;

    fn start(&self) -> State {
        State {
            sealed: 0,
            known: 0,
            sent: 0,
            stand: 0,
            fence: false,
            proof: 0,
            read_under_way: false,
            look: None,
            seen: None,
            told: None,
            closed: false,
            broken: None,
        }
    }

    fn steps(&self, state: &State, take: &mut dyn FnMut(Step, State)) {
        let mut take = |step, mut after: State| {
            if self.proven(&after) && after.closed && !self.has(Mutant::ProofBeforeState) {
                after.broken = Some(OLD);
            }
            take(step, after);
        };
        let rates = match self.mutant {
            Some(Mutant::ClocksTooFarApart) => &[(2, 4), (4, 4)][..],
            Some(Mutant::ClockSleeps) => &[(0, 4), (4, 4)][..],
            _ => &RATES[..],
        };
        for (holder, other) in rates {
            take(Step::Tick { holder: *holder, other: *other }, tick(state, *holder, *other));
        }
        self.holder_steps(state, &mut take);
        self.other_steps(state, &mut take);
    }

    fn broken(&self, state: &State) -> Option<&'static str> {
        state.broken
    }

    fn situations(&self) -> &'static [&'static str] {
        let all = &[
            "a session was closed",
            "a session was closed whose last segment it does not know to be committed",
            "a segment was long under way, and its proof held",
            "a fence met more segments than had been seen",
            "a proof was just over when the session was closed",
            "a wait counted from what was told",
            "a lie was told of the end at which the fence stands",
        ];
        if self.connected { all } else { &all[..5] }
    }

    fn reached(&self, step: Step, state: &State) -> u32 {
        bits(&[
            state.closed,
            state.closed && state.known < state.stand,
            matches!(step, Step::Learn) && state.proof >= PROOF_LASTS - 4 && self.proven(state),
            state.fence && state.seen.is_some_and(|seen| seen.end < state.stand),
            matches!(step, Step::FenceSession) && state.proof == PROOF_LASTS,
            matches!(step, Step::LookEnds) && state.seen.is_some_and(|seen| seen.since > TTL / 2),
            state.fence && state.told.is_some_and(|(said, _)| !said.true_nonce && said.end == state.stand),
        ])
    }
}

/// Time passes, while requests are under way and processes stand still.
fn tick(state: &State, holder: u8, other: u8) -> State {
    let holders = |age: u8| (age + holder).min(TTL + 1);
    let others = |age: u8| (age + other).min(TTL + 1);
    State {
        sent: if state.sealed > state.known { holders(state.sent) } else { 0 },
        proof: holders(state.proof),
        look: state.look.map(|look| Look { since: others(look.since), ..look }),
        seen: state.seen.map(|seen| Seen { since: others(seen.since), ..seen }),
        told: state.told.map(|(said, since)| (said, others(since))),
        ..*state
    }
}

impl Proof {
    fn has(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }

    fn proven(&self, state: &State) -> bool {
        state.proof < if self.has(Mutant::ProofOfWholeTtl) { TTL } else { PROOF_LASTS }
    }

    /// One segment is under way at a time. A holder does not hear of its fence.
    fn holder_steps(&self, state: &State, take: &mut impl FnMut(Step, State)) {
        let under_way = state.sealed > state.known;
        if !under_way && state.sealed < self.segments {
            take(Step::Seal, State { sealed: state.sealed + 1, sent: 0, ..*state });
        }
        if under_way && self.has(Mutant::ProofFromLastAttempt) {
            take(Step::SendAgain, State { sent: 0, ..*state });
        }
        if state.sealed > state.stand && !state.fence {
            take(Step::Land, State { stand: state.sealed, ..*state });
        }
        if under_way && state.stand == state.sealed {
            let proof = if self.has(Mutant::ProofFromAnswer) { 0 } else { state.sent };
            take(Step::Learn, State { known: state.sealed, sent: 0, proof, ..*state });
        }
        if self.has(Mutant::ProofBeforeState) {
            if self.proven(state) && !state.read_under_way {
                take(Step::LookAtProof, State { read_under_way: true, ..*state });
            }
            if state.read_under_way {
                let broken = state.closed.then_some(OLD);
                take(Step::Answer, State { read_under_way: false, broken, ..*state });
            }
        }
    }

    fn other_steps(&self, state: &State, take: &mut impl FnMut(Step, State)) {
        if state.closed {
            return;
        }
        match state.look {
            None => take(Step::LookBegins, State { look: Some(Look { since: 0, found: None }), ..*state }),
            Some(look @ Look { found: None, .. }) => {
                let end = state.stand;
                take(Step::LookReads { end }, State { look: Some(Look { found: Some(end), ..look }), ..*state });
            }
            Some(Look { since, found: Some(end) }) => {
                let since = if self.has(Mutant::WaitFromBeginning) { since } else { 0 };
                let told = state.told.filter(|(said, _)| said.end == end && self.counts(*said));
                let since = told.map_or(since, |(_, told)| told.max(since));
                let new = state.seen.is_none_or(|seen| end > seen.end);
                let seen = if new { Some(Seen { end, since }) } else { state.seen };
                take(Step::LookEnds, State { look: None, seen, ..*state });
            }
        }
        self.answer_steps(state, take);
        if !state.fence {
            take(Step::Fence, State { fence: true, ..*state });
        }
        let waited = match (self.mutant, state.seen) {
            (Some(Mutant::NoWait), _) => true,
            (Some(Mutant::ToldIsLook), _) => {
                state.told.is_some_and(|(said, since)| said.end == state.stand && since >= TTL)
            }
            (_, Some(seen)) => seen.since >= TTL && (seen.end == state.stand || self.has(Mutant::FenceAboveSeen)),
            (_, None) => false,
        };
        if state.fence && waited {
            take(Step::FenceSession, State { closed: true, ..*state });
        }
    }

    /// Whatever was known to be committed once may be heard now, and any lie.
    fn answer_steps(&self, state: &State, take: &mut impl FnMut(Step, State)) {
        let known = if self.has(Mutant::ToldBeforeSealed) { self.segments } else { state.known };
        for end in (1..=self.segments).filter(|_| self.connected) {
            for true_nonce in [false, true].into_iter().filter(|true_nonce| !true_nonce || end <= known) {
                let said = Said { end, true_nonce };
                let told = state.told.filter(|(told, _)| *told == said).or(Some((said, 0)));
                take(Step::Hear { said }, State { told, ..*state });
            }
        }
    }

    fn counts(&self, said: Said) -> bool {
        said.true_nonce || self.has(Mutant::ToldNotCompared)
    }
}
