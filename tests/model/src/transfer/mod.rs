//! Leases that move: by `TransferLease` of a living holder, and by `FenceSession` when a holder dies, side by side.
//!
//! A holder that hands a partition over parks it, and appends `TransferLease {partition, epoch, to, end}` to the metadata table, perhaps
//! while its last segment with the partition's data is on its way: its tenure ends at `end` = `through` + 1. The successor serves when it
//! has read all of the holder's segments below `end`; one that is missing may still come while the holder's session is open. When the
//! holder was fenced, its tenures end at the lower of `end` and the fence.
//!
//! Whoever can be late is as late as can be: a session never hears of its fence, and goes on as far as it can. A PUT may land at any later
//! time while its name is free, so no state says which PUTs are on their way. A segment is acknowledged when it stands and all before it
//! do. An append to the table may take effect at any later time, unless something else took its revision; its sender hears of it whenever
//! it looks. Whoever is granted a lease begins at any later time. Fencers put a fence at the first free number (`commit` shows that walks
//! find just that), and `FenceSession` records it some time later. Followers read at once what they may, by the newest image and by all
//! older ones. With [`Bounds::reads`] holders answer reads as long as they have proof, and what they show must never go back.
//!
//! A segment holds one record of each partition that its session serves when it is sealed; who serves nothing any more seals empty ones.

mod readers;
mod state;
mod steps;
mod table;

use crate::Run;

#[derive(Clone, Copy)]
struct Bounds {
    sessions: usize,
    partitions: usize,
    /// Segments of the first session and of others, less than [`state::NAMES`].
    segments: (u8, u8),
    /// Segments that are sealed and not committed.
    window: u8,
    tenures: usize,
    /// `TransferLease`s on their way at a time.
    proposals: usize,
    reads: bool,
    /// A transfer may name any end from the last segment with the partition's data to the last that is sealed.
    any_end: bool,
    /// One follower that takes its time, instead of all that read at once.
    follower: bool,
}

/// One rule of the design, left out.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mutant {
    /// The holder goes on taking records while the transfer is under way.
    ProduceNotParked,
    /// The holder goes on answering reads while the transfer is under way.
    FetchNotParked,
    /// `end` counts the holder's committed segments only, not those on their way.
    EndOfCommitted,
    /// `end` counts a segment that is not sealed.
    EndOfUnsealed,
    /// The outcome of an append is not awaited: no answer, so it did not happen.
    ResumeOnUnknown,
    /// `TransferLease` is taken from whoever holds the partition: neither the holder nor its epoch is compared.
    OfAnyHolder,
    /// The holder is compared, the lease epoch is not.
    OfAnyEpoch,
    /// A partition may be handed to a session that is fenced.
    ToFenced,
    /// The successor serves without the segments that are still missing.
    SuccessorDoesNotWait,
    /// The successor waits for the last holder's segments, and takes those before it as they are.
    WaitsForLastOnly,
    /// A segment that is missing below the end is a loss, whether the session is open or not.
    AlarmWhileOpen,
    /// `FenceSession` closes the tenures that run, and leaves those that were handed over as they are.
    FenceKeepsEnd,
    /// `FenceSession` grants all partitions that the session ever held.
    FenceGrantsHandedOver,
    /// A session that gets a partition back goes on with what it remembers.
    RegainFromMemory,
    /// Records of a session are all its own: the epoch of an extent is not compared with the tenure's.
    EpochsNotCompared,
    /// A follower turns to the next tenure when it has read what is there of the one before.
    FollowerSwitchesEarly,
    /// Reads are answered without proof.
    ReadsWithoutProof,
    /// A segment that stands is proof, though one before it is missing.
    ProofOfAnySegment,
    /// `FenceSession` does not wait until the proof of the fenced session is over.
    FenceBeforeTtl,
    /// The wait counts from any segment seen, not from the last before the end.
    WaitFromAnySegment,
}

struct Transfer {
    bounds: Bounds,
    mutant: Option<Mutant>,
}

impl Transfer {
    fn has(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }
}

const SMALL: Bounds = Bounds {
    sessions: 2,
    partitions: 1,
    segments: (3, 2),
    window: 2,
    tenures: 3,
    proposals: 1,
    reads: false,
    any_end: false,
    follower: false,
};
const READS: Bounds = Bounds { reads: true, segments: (2, 2), ..SMALL };
const BACK: Bounds = Bounds { segments: (2, 2), tenures: 4, ..SMALL };
const FOLLOWER: Bounds = Bounds { follower: true, segments: (2, 2), ..SMALL };
const THREE: Bounds = Bounds { sessions: 3, segments: (2, 1), tenures: 4, ..SMALL };

/// Name, world, and the rule that is left out.
const RUNS: &[(&str, Bounds, Option<Mutant>)] = &[
    ("transfers", SMALL, None),
    ("two_partitions", Bounds { partitions: 2, segments: (2, 1), ..SMALL }, None),
    ("three_holders", THREE, None),
    ("two_transfers_at_once", Bounds { proposals: 2, ..BACK }, None),
    ("back_and_forth", BACK, None),
    ("any_end", Bounds { any_end: true, ..BACK }, None),
    ("reads", READS, None),
    ("reads_three", Bounds { reads: true, tenures: 3, ..THREE }, None),
    ("a_follower", FOLLOWER, None),
    ("produce_not_parked", SMALL, Some(Mutant::ProduceNotParked)),
    ("fetch_not_parked", READS, Some(Mutant::FetchNotParked)),
    ("end_of_committed", SMALL, Some(Mutant::EndOfCommitted)),
    ("end_of_unsealed", SMALL, Some(Mutant::EndOfUnsealed)),
    ("resume_on_unknown", SMALL, Some(Mutant::ResumeOnUnknown)),
    ("of_any_holder", Bounds { proposals: 2, ..THREE }, Some(Mutant::OfAnyHolder)),
    ("of_any_epoch", Bounds { proposals: 2, ..THREE }, Some(Mutant::OfAnyEpoch)),
    ("to_fenced", SMALL, Some(Mutant::ToFenced)),
    ("successor_does_not_wait", SMALL, Some(Mutant::SuccessorDoesNotWait)),
    ("waits_for_last_only", THREE, Some(Mutant::WaitsForLastOnly)),
    ("alarm_while_open", SMALL, Some(Mutant::AlarmWhileOpen)),
    ("fence_keeps_end", SMALL, Some(Mutant::FenceKeepsEnd)),
    ("fence_grants_handed_over", SMALL, Some(Mutant::FenceGrantsHandedOver)),
    ("regain_from_memory", SMALL, Some(Mutant::RegainFromMemory)),
    ("epochs_not_compared", BACK, Some(Mutant::EpochsNotCompared)),
    ("follower_switches_early", FOLLOWER, Some(Mutant::FollowerSwitchesEarly)),
    ("reads_without_proof", READS, Some(Mutant::ReadsWithoutProof)),
    ("proof_of_any_segment", READS, Some(Mutant::ProofOfAnySegment)),
    ("fence_before_ttl", READS, Some(Mutant::FenceBeforeTtl)),
    ("wait_from_any_segment", READS, Some(Mutant::WaitFromAnySegment)),
];

pub fn runs() -> Vec<Run> {
    let run = |(name, bounds, mutant): &(&'static str, Bounds, Option<Mutant>)| {
        Run::new("transfer", name, mutant.is_some(), Transfer { bounds: *bounds, mutant: *mutant })
    };
    RUNS.iter().map(run).collect()
}
