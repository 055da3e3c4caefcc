//! Merging and collection: names that come free again, and all that may still land on them.
//!
//! A session's own broker merges what is committed of it, in windows one after the other; of a fenced session any broker does, up to its
//! end. `ClaimMerge` names a folder, objects are created there, read back, and `CommitRun` makes them stand for the window's segments.
//! What no entry of the table names any more is deleted: merged segments, segments above a fenced end, folders of claims that ended.
//! PUTs of segments, of fences and into folders may land at any later time while their name is free, also when it is free *again*.
//!
//! A fencer walks step by step from where its image, which may be old, says that segments are merged. Who recovers reads by an image that
//! may be old, too, and looks at the newest when something is missing; so does every reader. What may be acknowledged is acknowledged at
//! once, sessions never hear of their fence, and what was shown must be readable in every state that follows, but for what retention took.
//!
//! One partition goes from each session to the next when its end is recorded, or when it is handed over. Every segment holds one record.

mod readers;
mod state;
mod steps;

use crate::Run;

#[derive(Clone, Copy)]
struct Bounds {
    sessions: usize,
    /// Segments of the first session and of others, less than [`state::NAMES`].
    segments: (u8, u8),
    window: u8,
    claims: usize,
    retention: bool,
    /// An owner may hand the partition over while its last segments are on their way.
    transfers: bool,
    /// A successor that meets a fence where, says the newest image, nothing is merged, need not wait for `FenceSession`.
    early: bool,
}

/// One rule of the design, left out.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mutant {
    /// `FenceSession` may end a session below what is merged of it.
    FenceBelowMerged,
    /// The lowest fence goes when all below it is merged.
    FenceOfMergedDeleted,
    /// The lowest fence goes with what lies above it.
    FenceDeletedWithOrphans,
    /// Segments are deleted when they are claimed, not when they are merged.
    DeleteClaimed,
    /// The folder of a claim that is not committed yet is deleted, for it looks old.
    DeleteOpenFolder,
    /// `CommitRun` counts though its claim was ended.
    CommitEndedClaim,
    /// `CommitRun` is appended before the objects are known to be there.
    CommitUnverified,
    /// Two claims of a session may be open, and the window of `CommitRun` need not begin where the last one ended.
    OverlappingWindows,
    /// A second attempt writes into the folder of the first.
    FolderUsedAgain,
    /// A window of an open session goes past what is committed; what is not there is left out.
    MergePastGap,
    /// A window of a fenced session goes past its end; what is not there is left out.
    MergePastEnd,
    /// Who recovers does not look at the newest image when something is missing.
    RecoverByOldImage,
    /// The successor of a transfer waits for a segment that is missing, whatever was merged meanwhile.
    WaitsByOldImage,
    /// Who recovers takes a fence that it meets for the end, whatever the image says.
    MetFenceIsEnd,
    /// A reader does not look again when an object is missing.
    ReadByOldIndex,
    /// The next offset is where the data ends, though retention took all of it.
    NextOffsetFromData,
}

struct Merge {
    bounds: Bounds,
    mutant: Option<Mutant>,
}

impl Merge {
    fn has(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }
}

const SMALL: Bounds =
    Bounds { sessions: 2, segments: (4, 1), window: 2, claims: 2, retention: false, transfers: false, early: false };
const THREE: Bounds = Bounds { sessions: 3, segments: (2, 1), ..SMALL };
const RETENTION: Bounds = Bounds { retention: true, segments: (2, 1), ..SMALL };

const HANDED_OVER: Bounds = Bounds { transfers: true, segments: (3, 1), claims: 1, ..SMALL };

/// Name, world, and the rule that is left out.
const RUNS: &[(&str, Bounds, Option<Mutant>)] = &[
    ("merges", SMALL, None),
    ("three_claims", Bounds { segments: (2, 1), claims: 3, ..SMALL }, None),
    ("three_owners", THREE, None),
    ("retention", RETENTION, None),
    ("handed_over", HANDED_OVER, None),
    ("early", Bounds { early: true, sessions: 3, segments: (2, 2), ..HANDED_OVER }, None),
    ("fence_below_merged", SMALL, Some(Mutant::FenceBelowMerged)),
    ("fence_of_merged_deleted", SMALL, Some(Mutant::FenceOfMergedDeleted)),
    ("fence_deleted_with_orphans", SMALL, Some(Mutant::FenceDeletedWithOrphans)),
    ("delete_claimed", SMALL, Some(Mutant::DeleteClaimed)),
    ("delete_open_folder", SMALL, Some(Mutant::DeleteOpenFolder)),
    ("commit_ended_claim", SMALL, Some(Mutant::CommitEndedClaim)),
    ("commit_unverified", SMALL, Some(Mutant::CommitUnverified)),
    ("overlapping_windows", SMALL, Some(Mutant::OverlappingWindows)),
    ("folder_used_again", SMALL, Some(Mutant::FolderUsedAgain)),
    ("merge_past_gap", SMALL, Some(Mutant::MergePastGap)),
    ("merge_past_end", SMALL, Some(Mutant::MergePastEnd)),
    ("recover_by_old_image", SMALL, Some(Mutant::RecoverByOldImage)),
    ("met_fence_is_end", SMALL, Some(Mutant::MetFenceIsEnd)),
    ("met_fence_is_end_of_transfer", HANDED_OVER, Some(Mutant::MetFenceIsEnd)),
    ("waits_by_old_image", HANDED_OVER, Some(Mutant::WaitsByOldImage)),
    ("read_by_old_index", SMALL, Some(Mutant::ReadByOldIndex)),
    ("next_offset_from_data", RETENTION, Some(Mutant::NextOffsetFromData)),
];

pub fn runs() -> Vec<Run> {
    let run = |(name, bounds, mutant): &(&'static str, Bounds, Option<Mutant>)| {
        Run::new("merge", name, mutant.is_some(), Merge { bounds: *bounds, mutant: *mutant })
    };
    RUNS.iter().map(run).collect()
}
