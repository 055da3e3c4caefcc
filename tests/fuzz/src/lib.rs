//! The targets: what each does with the bytes that it is given, and what must hold then. One file a target.
//!
//! None may panic (debug assertions and overflow checks are on), none may take more memory than it says, and what one says of its
//! result is asserted there. Nothing is random and no clock is read: a file of bytes is a case for ever.

pub mod batches;
pub mod codecs;
pub mod connection;
pub mod edges;
pub mod entries;
pub mod footers;
pub mod inspect;
pub mod links;
pub mod memory;
pub mod metadata;
pub mod mutate;
pub mod offsets;
pub mod pieces;
pub mod requests;
pub mod run_footers;
pub mod runs;
pub mod samples;
pub mod segments;
pub mod settings;
pub mod trailers;

/// Random valid requests and the decoders of all: those of the broker's own tests.
#[path = "../../messages/mod.rs"]
#[allow(clippy::unwrap_used, reason = "a generator that can not go on fails")]
pub mod messages;

#[global_allocator]
static ALLOCATOR: memory::Limited = memory::Limited;
