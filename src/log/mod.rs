//! The engine of the log: what happens to a record between the socket and the bucket, and back.
//!
//! - [`partition`] is one partition as its lease holder sees it: offsets, producers, epochs, index. Pure.
//! - [`append`] turns admitted batches into committed segments: admit → open segment → seal → upload → commit in order → acknowledge.
//! - [`fetch`] reads committed batches back, out of the tail, the block cache or the bucket.
//! - [`recover`] rebuilds partitions from the footers of the segments of all their tenures.
//!
//! Ownership: a [`slot::PartitionSlot`] guards one partition by a mutex that is never held across an await. The open segment has its
//! own. Locks are taken in that order.

pub mod append;
pub mod fetch;
pub mod index;
pub mod partition;
pub mod producers;
pub mod proof;
pub mod recover;
pub mod slot;
