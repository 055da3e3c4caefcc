//! Planted bugs, by which `tests/sim` shows that it would notice real ones.
//!
//! Without the cargo feature `mutants` (which only the simulation enables) [`on`] is a constant `false` and every hook vanishes. With
//! it, one mutant may be planted per thread: a simulated world lives on one thread.

/// One rule of the design each, left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mutant {
    /// Segments count as committed in the order in which their uploads finish.
    AckOutOfOrder,
    /// A produce is acknowledged when its segment is sealed.
    AckBeforePut,
    /// A produce whose segment was not committed when the session ended is acknowledged all the same.
    AckAtSessionEnd,
    /// A 412 is taken for our own object.
    TrustTaken,
    /// A time-out of a create is taken for a yes.
    TrustUnclear,
    /// A retried upload holds less than the attempt before it, whose answer was unclear.
    RetryTakesOther,
    /// A duplicate is answered although its original is not committed.
    DuplicateAnsweredEarly,
    /// An offset commit is answered although its segment is not committed.
    OffsetCommitAnsweredEarly,
    /// What is in flight counts to the high watermark.
    ShowUncommitted,
    /// Recovery goes on behind what is missing or damaged.
    SkipDamaged,
    /// Recovery takes the next offset from the data that is left, not from the log start.
    NextOffsetFromData,
    /// The log start in the image is not looked at.
    ForgetLogStart,
    /// Recovery does not look at producers.
    ForgetProducers,
    /// A refused batch may be overtaken by its successors.
    ForgetRefused,
    /// The same where the refusal finds no slot: the topic is not known yet.
    ForgetRefusedWithoutSlot,
    /// Recovery believes that repeated footers leave nothing out.
    RepeatedAreAll,
    /// A fencer puts a fence ahead and does not go up to it.
    FenceAheadOnly,
    /// A fencer's walk starts at 0, whatever the segments say.
    FenceFromZero,
    /// A fencer takes the end from what it reads.
    EndFromReads,
    /// A dead session's partitions are granted before it is fenced.
    GrantBeforeFence,
    /// A session that meets a fence goes on.
    IgnoreFence,
    /// State is shown however old the session's evidence is.
    ServeWithoutProof,
    /// "Out of range" is said however old the session's evidence is, and nothing else.
    OutOfRangeUnproven,
    /// An append to the metadata table whose answer was lost counts as done.
    TrustLostMeta,
    /// Old revisions are deleted without a marker that says so.
    TruncateWithoutMarker,
    /// An append to the metadata table counts without a look at the marker.
    AppendWithoutLook,
    /// A fencer that knows an old image ends a session below what was merged of it.
    FenceBelowMerged,
    /// A merge takes segments above what is committed.
    MergePastEnd,
    /// A merge whose input can't be read leaves it out and is committed all the same.
    MergeWithoutMissing,
    /// A run is committed without a look at what it holds.
    CommitUnverified,
    /// A merge writes into the folder of the one before it.
    ClaimTwice,
    /// Merged segments are deleted at once, while others still read them.
    DeleteWithoutGrace,
    /// Segments are deleted when their merge is claimed, before it is committed.
    DeleteUnmerged,
    /// The lowest fence of a session is deleted with its segments.
    DeleteFences,
    /// The folder of a claim under way is deleted as garbage.
    DeleteClaimed,
    /// A checkpoint leaves out the producers.
    ForgetCheckpointProducers,
    /// A checkpoint holds what was not committed when its window ended.
    CheckpointAhead,
    /// A checkpoint is what the partition remembers of the batches in its window: what is in flight has pushed them out.
    CheckpointFromLive,
    /// Recovery goes on without the runs' records when a manifest does not come.
    IgnoreRuns,
    /// A partition goes on while its lease is handed over.
    HandOverUnparked,
    /// A lease is handed over with the end of what is committed: what is in flight is forgotten.
    HandOverUnflushed,
    /// Who was handed a lease does not wait for segments that are still uploading.
    ServeBeforeThrough,
    /// The end of a session does not cut what it handed over.
    FenceForgetsTransfers,
    /// Readers go on with segments that were merged and never look again.
    KeepOldIndex,
    /// A partition whose lease was another's meanwhile goes on from memory.
    RegainFromMemory,
    /// What was uploaded in an earlier tenure, and is heard of only when the partition has come back, is shown once more.
    CommitEarlierTenure,
    /// Who was silent for two fifths of a ttl is closed, while what it shows is still proven.
    CloseEarly,
    /// Looks that failed, and own segments that did not land, count as evidence: after an outage everybody is taken for dead.
    CloseAfterOutage,
    /// A broker that leaves goes on reading requests while its session is closed, and shows what was proven before.
    LeaveProven,
    /// The feature level is raised although a program that does not support it has an open session.
    RaiseOverOlder,
    /// An entry of the metadata table of a version that the program does not know is skipped.
    SkipUnknown,
    /// Entries of the metadata table that were read together are applied in the wrong order.
    ApplyOutOfOrder,
    /// A session that opens closes those of other nodes, too, at once.
    CloseOthersAtStart,
    /// Fences are empty objects.
    EmptyFence,
    /// A request that has to wait for its partition is overtaken by those behind it on its connection.
    ParkedIsOvertaken,
}

impl Mutant {
    pub const ALL: &[Mutant] = &[
        Mutant::AckOutOfOrder,
        Mutant::AckBeforePut,
        Mutant::AckAtSessionEnd,
        Mutant::TrustTaken,
        Mutant::TrustUnclear,
        Mutant::RetryTakesOther,
        Mutant::DuplicateAnsweredEarly,
        Mutant::OffsetCommitAnsweredEarly,
        Mutant::ShowUncommitted,
        Mutant::SkipDamaged,
        Mutant::NextOffsetFromData,
        Mutant::ForgetLogStart,
        Mutant::ForgetProducers,
        Mutant::ForgetRefused,
        Mutant::ForgetRefusedWithoutSlot,
        Mutant::RepeatedAreAll,
        Mutant::FenceAheadOnly,
        Mutant::FenceFromZero,
        Mutant::EndFromReads,
        Mutant::GrantBeforeFence,
        Mutant::IgnoreFence,
        Mutant::ServeWithoutProof,
        Mutant::OutOfRangeUnproven,
        Mutant::TrustLostMeta,
        Mutant::TruncateWithoutMarker,
        Mutant::AppendWithoutLook,
        Mutant::FenceBelowMerged,
        Mutant::MergePastEnd,
        Mutant::MergeWithoutMissing,
        Mutant::CommitUnverified,
        Mutant::ClaimTwice,
        Mutant::DeleteWithoutGrace,
        Mutant::DeleteUnmerged,
        Mutant::DeleteFences,
        Mutant::DeleteClaimed,
        Mutant::ForgetCheckpointProducers,
        Mutant::CheckpointAhead,
        Mutant::CheckpointFromLive,
        Mutant::IgnoreRuns,
        Mutant::HandOverUnparked,
        Mutant::HandOverUnflushed,
        Mutant::ServeBeforeThrough,
        Mutant::FenceForgetsTransfers,
        Mutant::KeepOldIndex,
        Mutant::RegainFromMemory,
        Mutant::CommitEarlierTenure,
        Mutant::CloseEarly,
        Mutant::CloseAfterOutage,
        Mutant::LeaveProven,
        Mutant::RaiseOverOlder,
        Mutant::SkipUnknown,
        Mutant::ApplyOutOfOrder,
        Mutant::CloseOthersAtStart,
        Mutant::EmptyFence,
        Mutant::ParkedIsOvertaken,
    ];
}

/// Whether this bug is planted.
#[cfg(not(feature = "mutants"))]
#[inline(always)]
pub const fn on(_mutant: Mutant) -> bool {
    false
}

#[cfg(feature = "mutants")]
mod planted {
    use super::Mutant;
    use std::cell::Cell;

    thread_local! {
        static PLANTED: Cell<Option<Mutant>> = const { Cell::new(None) };
    }

    /// Plants a bug in everything that runs on this thread, in place of any other.
    pub fn plant(mutant: Option<Mutant>) {
        PLANTED.set(mutant);
    }

    /// Whether this bug is planted.
    pub fn on(mutant: Mutant) -> bool {
        PLANTED.get() == Some(mutant)
    }
}

#[cfg(feature = "mutants")]
pub use planted::{on, plant};
