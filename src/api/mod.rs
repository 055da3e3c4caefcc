//! Kafka's APIs, one file each.

pub mod context;
pub mod delete_groups;
pub mod describe_groups;
pub mod find_coordinator;
#[cfg(test)]
mod group_tests;
pub mod heartbeat;
pub mod join_group;
pub mod leave_group;
pub mod list_groups;
pub mod offset_commit;
pub mod offset_delete;
pub mod offset_fetch;
pub mod sync_group;
