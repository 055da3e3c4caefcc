//! Group coordinators: classic consumer groups and committed offsets.
//!
//! Flow: an API handler in `api` calls [`Groups`], which finds the partition of `__consumer_offsets` that the group's id falls
//! on, lets the pure core ([`partition::Partition`], [`group::Group`]) decide, appends the records that the decision consists
//! of, and releases the reply when these are committed. The coordinator of a group is the holder of that partition's lease.
//!
//! Owned here: everything about groups. Not owned: the log itself (port [`log::OffsetsLog`]) and who holds what.

pub mod codec;
pub mod durable;
pub mod error;
pub mod group;
mod join;
pub mod log;
pub mod message;
pub mod offsets;
pub mod partition;
pub mod producer_ids;
mod rebalance;
pub mod records;
mod requests;
mod restore;
mod runtime;
mod shard;
pub mod subscription;
#[cfg(test)]
mod tests;
pub mod timers;

pub use error::GroupError;
pub use log::{CoordRecord, LogError, OffsetsLog};
pub use message::Limits;
pub use runtime::Groups;

/// The partition of `__consumer_offsets` that a group belongs to: Java's string hash over UTF-16 units, made non-negative as
/// Kafka's `Utils.abs` does it, modulo the number of partitions.
pub fn partition_for(group_id: &str, partitions: i32) -> i32 {
    let hash = group_id.encode_utf16().fold(0i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)));
    hash.checked_abs().unwrap_or(0) % partitions.max(1)
}
