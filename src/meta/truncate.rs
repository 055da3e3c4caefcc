//! How old revisions go away without ever being mistaken for new ones.
//!
//! Revisions form generations: generation g holds `g·size + 1 ..= (g + 1)·size`. The order of events is what makes it safe:
//!
//! 1. a snapshot at or above the generation's end is written and read back;
//! 2. `meta/closed/<g>` is created, and never deleted;
//! 3. the revisions of the generation are deleted.
//!
//! A deleted name is free again, so an append that was on its way for an hour may land there and look like the truth, both to its
//! sender and to a reader. Whoever appended or read a revision looks for the marker of its generation *afterwards*; if it is there,
//! what was seen proves nothing, and the newest snapshot is the truth. If it is not there, nothing of the generation was deleted
//! when the name was seen, so the name was never free before. Looking first and then appending would not do: the marker and the
//! deletion fit in between. Explored as a model; each of its mutants is a test in `tests/meta`.
//!
//! Any broker may do any of the steps again: each is idempotent, and a crash between them leaves work for the next.

use bytes::Bytes;

use super::error::MetaError;
use super::retry::Objects;
use super::table::{Table, TableError};
use crate::types::Revision;
use crate::types::mutant::{self, Mutant};

/// Revisions of a generation. Part of the format; only tests use another.
pub const GENERATION: u64 = 10_000;

pub const CLOSED_PREFIX: &str = "meta/closed/";

pub fn closed_key(generation: u64) -> String {
    format!("{CLOSED_PREFIX}{generation:020}")
}

/// The generation of a revision; revisions begin at 1.
pub fn generation_of(revision: Revision, size: u64) -> u64 {
    revision.saturating_sub(1) / size
}

/// The last revision of a generation.
pub fn end_of(generation: u64, size: u64) -> Revision {
    (generation + 1) * size
}

/// The generations that may be closed when the oldest revision in the table is `first` and a snapshot of `snapshot` was read back.
pub fn closable(first: Revision, snapshot: Revision, size: u64) -> std::ops::Range<u64> {
    let full = snapshot / size;
    generation_of(first, size).min(full)..full
}

/// Whether the generation's marker is there, asked now.
pub(super) async fn is_closed(objects: Objects<'_>, generation: u64) -> Result<bool, MetaError> {
    Ok(objects.read(&closed_key(generation)).await?.is_some())
}

/// Steps 2 and 3, for every generation that a snapshot of `snapshot`, which was read back, makes superfluous.
pub(super) async fn truncate(
    objects: Objects<'_>,
    table: &dyn Table,
    snapshot: Revision,
    size: u64,
) -> Result<(), MetaError> {
    let Some(first) = table.first().await.map_err(unavailable)? else { return Ok(()) };
    for generation in closable(first, snapshot, size) {
        let body = Bytes::from(format!("{{\"version\":1,\"generation\":{generation},\"snapshot\":{snapshot}}}"));
        if !mutant::on(Mutant::TruncateWithoutMarker) {
            objects.ensure(&closed_key(generation), &body).await?;
        }
        table.delete_through(end_of(generation, size)).await.map_err(unavailable)?;
    }
    Ok(())
}

fn unavailable(error: TableError) -> MetaError {
    MetaError::Unavailable(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generations_meet_without_gap() {
        for (revision, generation) in [(1, 0), (10, 0), (11, 1), (20, 1), (21, 2)] {
            assert_eq!(generation_of(revision, 10), generation, "{revision}");
        }
        assert_eq!(end_of(0, 10), 10);
        for (first, snapshot, expected) in
            [(1, 9, 0..0), (1, 10, 0..1), (1, 25, 0..2), (11, 25, 1..2), (21, 25, 2..2), (31, 25, 2..2)]
        {
            assert_eq!(closable(first, snapshot, 10), expected, "{first} {snapshot}");
        }
    }
}
