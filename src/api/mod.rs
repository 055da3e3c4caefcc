//! One file per Kafka API, and what they share.

pub mod alter_configs;
pub mod alter_partition_reassignments;
pub mod auto_create;
mod config_alter;
mod config_resource;
pub mod config_view;
pub mod context;
pub mod create_partitions;
pub mod create_topics;
pub mod delete_records;
pub mod delete_topics;
pub mod describe_cluster;
pub mod describe_configs;
pub mod describe_log_dirs;
pub mod describe_producers;
pub mod describe_topic_partitions;
pub mod elect_leaders;
pub mod incremental_alter_configs;
pub mod init_producer_id;
pub mod list_config_resources;
pub mod list_partition_reassignments;
pub mod metadata;
pub mod ports;
pub mod refusal;
mod replica_assignment;
#[cfg(test)]
mod testing;
pub mod topic_view;

#[cfg(test)]
mod version_tests;
