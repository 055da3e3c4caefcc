//! How a broker starts, beside predecessors of its node id, another start of the same node id, and a broker that watches.
//!
//! ```text
//! OpenSession ─► segment 0, 1, … while it opens
//!             └► a fence behind each predecessor ─► one entry: Ready, FenceSession of each, what nobody holds is granted ─► it serves
//! ```
//!
//! Between an entry and what its proposer does next anything may happen, for the answer may be lost; who dies has sent what he sent. An
//! entry counts on the image before it, and who loses the race makes it anew on what won: so an entry is one step, on the newest image,
//! by what its proposer knows: his predecessors, as they were when he was opened, and the ends that he found. A PUT that was sent may
//! land at any later time while its name is free, and so does a fence ahead, at any name of a session that somebody began to fence.
//! Fences are looked for step by step, by each starter behind each predecessor, and by the other broker behind whoever was silent for a
//! ttl. Images are old as far as they may be: a walk begins at any number that ever was merged.
//!
//! A session is silent for a ttl when its process is gone, or slow ([`Bounds::slow`]): paused, or with a store that takes nothing from
//! it. Nothing else lets a start fail but a newer session of its node id.
//!
//! What may be acknowledged is acknowledged at once, and sessions hear of their fence as late as they like. In every state all is tried
//! out with no more faults: then each start ends, the partition is served, and the node has one open session (`settle`).
//!
//! Not here: walks that begin at a segment's statement (`commit`), leases that are handed over (`transfer`), claims (`merge`).

mod settle;
mod state;
mod steps;
mod table;

use crate::Run;
use steps::{
    AHEAD, ANOTHERS, BEHIND_END, CLOSED_BEFORE, CLOSED_READY, FENCED, MERGED, READY_ALL_THE_SAME, TWO_EMPTY, VACANT,
};

#[derive(Clone, Copy)]
struct Bounds {
    /// A broker of another node watches, and takes what is granted to it.
    other: bool,
    /// Sessions that are opened under the node id.
    starts: usize,
    /// So often a start dies, or whoever runs is silent for a ttl.
    faults: u8,
    /// Empty segments of a start.
    beats: u8,
    /// Records of the predecessor.
    records: u8,
    /// The other broker writes what it is granted.
    other_writes: bool,
    /// Fences ahead.
    ahead: bool,
    /// The predecessor's process may live on.
    zombie: bool,
    /// Whoever runs may be silent for a ttl.
    slow: bool,
    /// The predecessor merges its segments, and their names come free again.
    merges: bool,
    /// The predecessor may close itself.
    leaves: bool,
    /// Predecessors that were never ready may be closed in entries of their own.
    in_steps: bool,
    /// Holders answer reads as long as they have proof.
    reads: bool,
    /// Situations that such a world does not bring about.
    beyond: &'static [&'static str],
}

/// One rule of the design, left out.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mutant {
    /// A start fences newer sessions of its node id, too.
    FencesNewer,
    /// Predecessors are those of the image on which `OpenSession` was first proposed, before it lost a race.
    PredecessorsBeforeRace,
    /// Sessions of other nodes are closed like predecessors.
    ClosesOthers,
    /// `Ready` does not wait for segment 0.
    ReadyBeforeSegment,
    /// `Ready` counts though the session was closed.
    ReadyThoughClosed,
    /// Partitions are granted to sessions that are open and not ready.
    GrantsToOpen,
    /// What nobody holds is not granted.
    VacantLeft,
    /// A predecessor that somebody else closed meanwhile is closed again: the entry breaks a rule.
    ClosesTheClosed,
    /// The entry is appended again when no answer comes, and not looked for.
    ProposesAgain,
    /// An end below what is merged counts.
    MergedNotCompared,
    /// Such an end is proposed again and again.
    SameEndAgain,
    /// Such an end is raised to what is merged, without another fence.
    EndRaised,
    /// The fence ahead is the end.
    FenceAheadIsEnd,
    /// A fence that is seen, wherever it stands, is the end.
    FenceSeenIsEnd,
    /// A start writes segment 0 only.
    SilentStart,
    /// A start takes a name that is taken for its own segment.
    BeatTrustsTaken,
    /// A start serves while a segment of it is under way, and counts that.
    BeatNotAwaited,
    /// Who watches closes a session that was not ready when he saw it without the wait.
    OpenNeedsNoWait,
    /// A predecessor's process still answers reads.
    PredecessorReads,
}

struct Start {
    bounds: Bounds,
    mutant: Option<Mutant>,
}

impl Start {
    fn has(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }
}

const ALONE: Bounds = Bounds {
    other: false,
    starts: 2,
    faults: 2,
    beats: 1,
    records: 1,
    other_writes: true,
    ahead: true,
    zombie: true,
    slow: false,
    merges: false,
    leaves: false,
    in_steps: false,
    reads: false,
    beyond: &[ANOTHERS, MERGED, BEHIND_END, VACANT, TWO_EMPTY, CLOSED_BEFORE],
};
const MERGES: Bounds = Bounds {
    merges: true,
    starts: 1,
    faults: 1,
    records: 2,
    beyond: &[ANOTHERS, FENCED, READY_ALL_THE_SAME, CLOSED_READY, VACANT, TWO_EMPTY, CLOSED_BEFORE],
    ..ALONE
};
const LEAVES: Bounds =
    Bounds { leaves: true, beyond: &[ANOTHERS, MERGED, BEHIND_END, TWO_EMPTY, CLOSED_BEFORE], ..ALONE };
const IN_STEPS: Bounds = Bounds { in_steps: true, beyond: &[ANOTHERS, MERGED, BEHIND_END, VACANT, TWO_EMPTY], ..ALONE };
const WATCHED: Bounds = Bounds {
    other: true,
    starts: 1,
    beats: 2,
    slow: true,
    beyond: &[MERGED, CLOSED_READY, BEHIND_END, VACANT, CLOSED_BEFORE],
    ..ALONE
};
const BOTH: Bounds = Bounds {
    starts: 2,
    faults: 1,
    beats: 1,
    other_writes: false,
    ahead: false,
    zombie: false,
    beyond: &[MERGED, BEHIND_END, VACANT, TWO_EMPTY, CLOSED_BEFORE, AHEAD],
    ..WATCHED
};
const READS: Bounds = Bounds { reads: true, zombie: false, ..WATCHED };

/// Name, world, and the rule that is left out.
const RUNS: &[(&str, Bounds, Option<Mutant>)] = &[
    ("alone", ALONE, None),
    ("merges", MERGES, None),
    ("leaves", LEAVES, None),
    ("watched", WATCHED, None),
    ("two_starts", BOTH, None),
    ("in_steps", IN_STEPS, None),
    ("reads", READS, None),
    ("fences_newer", ALONE, Some(Mutant::FencesNewer)),
    ("predecessors_before_race", ALONE, Some(Mutant::PredecessorsBeforeRace)),
    ("closes_others", Bounds { faults: 0, beats: 1, ..READS }, Some(Mutant::ClosesOthers)),
    ("ready_before_segment", WATCHED, Some(Mutant::ReadyBeforeSegment)),
    ("ready_though_closed", ALONE, Some(Mutant::ReadyThoughClosed)),
    ("grants_to_open", WATCHED, Some(Mutant::GrantsToOpen)),
    ("vacant_left", LEAVES, Some(Mutant::VacantLeft)),
    ("closes_the_closed", WATCHED, Some(Mutant::ClosesTheClosed)),
    ("proposes_again", ALONE, Some(Mutant::ProposesAgain)),
    ("merged_not_compared", MERGES, Some(Mutant::MergedNotCompared)),
    ("same_end_again", MERGES, Some(Mutant::SameEndAgain)),
    ("end_raised", MERGES, Some(Mutant::EndRaised)),
    ("fence_ahead_is_end", Bounds { starts: 1, records: 2, ..ALONE }, Some(Mutant::FenceAheadIsEnd)),
    ("fence_seen_is_end", ALONE, Some(Mutant::FenceSeenIsEnd)),
    ("silent_start", Bounds { slow: false, ..WATCHED }, Some(Mutant::SilentStart)),
    ("beat_trusts_taken", WATCHED, Some(Mutant::BeatTrustsTaken)),
    ("beat_not_awaited", Bounds { faults: 1, ..WATCHED }, Some(Mutant::BeatNotAwaited)),
    ("open_needs_no_wait", Bounds { faults: 1, beats: 1, ..READS }, Some(Mutant::OpenNeedsNoWait)),
    ("predecessor_reads", READS, Some(Mutant::PredecessorReads)),
];

pub fn runs() -> Vec<Run> {
    let run = |(name, bounds, mutant): &(&'static str, Bounds, Option<Mutant>)| {
        Run::new("start", name, mutant.is_some(), Start { bounds: *bounds, mutant: *mutant })
    };
    RUNS.iter().map(run).collect()
}
