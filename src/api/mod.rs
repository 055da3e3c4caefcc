//! One file per Kafka API; this one holds what they share and sends each request to its file.
//!
//! A request goes two steps: [`begin`] runs in the order of arrival on its connection (a Produce appends its batches there), and the
//! future that it returns makes the answer, in its turn. Everything but Produce runs whole in the second step, one after the other,
//! as Kafka does it.

pub mod alter_configs;
pub mod alter_partition_reassignments;
pub mod alter_replica_log_dirs;
pub mod api_versions;
pub mod auto_create;
mod config_alter;
mod config_resource;
pub mod config_view;
pub mod context;
pub mod create_acls;
pub mod create_delegation_token;
pub mod create_partitions;
pub mod create_topics;
pub mod delete_acls;
pub mod delete_groups;
pub mod delete_records;
pub mod delete_topics;
pub mod describe_acls;
pub mod describe_client_quotas;
pub mod describe_cluster;
pub mod describe_configs;
pub mod describe_delegation_token;
pub mod describe_groups;
pub mod describe_log_dirs;
pub mod describe_producers;
pub mod describe_topic_partitions;
pub mod describe_user_scram_credentials;
mod dispatch;
pub mod elect_leaders;
pub mod errors;
pub mod expire_delegation_token;
pub mod fetch;
pub mod fetch_sessions;
pub mod find_coordinator;
#[cfg(test)]
mod group_tests;
pub mod heartbeat;
pub mod incremental_alter_configs;
pub mod init_producer_id;
pub mod join_group;
pub mod leave_group;
mod link;
pub mod list_config_resources;
pub mod list_groups;
pub mod list_offsets;
pub mod list_partition_reassignments;
mod log_view;
mod measure;
pub mod metadata;
mod named_twice;
pub mod offset_commit;
pub mod offset_delete;
pub mod offset_fetch;
pub mod offset_for_leader_epoch;
pub mod ports;
pub mod produce;
pub mod refusal;
pub mod renew_delegation_token;
mod replica_assignment;
pub mod sasl_authenticate;
pub mod sasl_handshake;
#[cfg(test)]
mod security_tests;
pub mod sync_group;
#[cfg(test)]
mod testing;
pub mod topic_view;
pub mod topics;
mod turns;
pub mod unread;
pub mod unregister_broker;
#[cfg(test)]
mod version_tests;

use std::sync::Arc;

use bytes::Bytes;
use kafka_protocol::error::ResponseError;
use parking_lot::Mutex;
use tokio::time::Instant;

use self::context::CoordinatorLocator;
pub use self::dispatch::{Reply, Request};
use self::fetch_sessions::FetchSessions;
pub use self::measure::begin;
use self::ports::AdminServices;
use self::topic_view::{BrokerView, live_brokers};
use self::topics::Topics;
use self::unread::Unread;
use crate::config::Settings;
use crate::coord::{Groups, partition_for};
use crate::log::Log;
use crate::log::slot::PartitionSlot;
use crate::meta::Metadata;
use crate::types::env::Env;
use crate::types::metrics::Metrics;
use crate::types::pace::Pace;
use crate::types::topic_name::OFFSETS_TOPIC;
use crate::types::{LeaseEpoch, NodeId, TopicId};
use crate::wire::fetch::NodeEndpoint;

/// What the handlers work with, for one session of this broker.
pub struct Services {
    pub settings: Arc<Settings>,
    pub env: Env,
    pub metrics: Arc<Metrics>,
    pub meta: Arc<Metadata>,
    pub log: Arc<Log>,
    pub groups: Arc<Groups>,
    pub admin: AdminServices,
    pub topics: Topics,
    pub fetch_sessions: Mutex<FetchSessions>,
    /// Room for large requests and for answers that were not read yet.
    pub unread: Unread,
    /// For log lines about fetches that fail, and about clients that misbehave.
    pub complaints: Pace,
}

impl Services {
    /// Node id and lease epoch of a partition's holder.
    pub fn leader(&self, topic: TopicId, index: i32) -> Option<(NodeId, LeaseEpoch)> {
        self.meta.read(|image| {
            let partition = image.topics.get(&topic)?.partitions.get(usize::try_from(index).ok()?)?;
            let holder = image.sessions.get(&partition.holder?)?;
            Some((holder.node_id, partition.epoch))
        })
    }

    /// Where clients reach the brokers that are ready, each once.
    pub fn node_endpoints(&self) -> Vec<NodeEndpoint> {
        let brokers = self.meta.read(|image| live_brokers(image, &self.admin.node));
        let endpoint = |(node_id, view): (NodeId, BrokerView)| NodeEndpoint {
            node_id,
            host: view.host,
            port: view.port,
            rack: view.rack,
        };
        brokers.into_iter().map(endpoint).collect()
    }

    /// A partition by its topic's name, parked until `parked` while it recovers.
    pub async fn slot_by_name(
        &self,
        topic: &str,
        index: i32,
        parked: Instant,
    ) -> Result<Arc<PartitionSlot>, ResponseError> {
        let find = || {
            let view = self.topics.view();
            let id = view
                .by_name(topic)
                .and_then(|topic| topic.partition(index))
                .ok_or(ResponseError::UnknownTopicOrPartition)?;
            self.log.slot(id).map_err(|error| errors::of_unavailable(&error))
        };
        let slot = match find() {
            Ok(slot) => slot,
            Err(_) => {
                self.log.look_before_refusal(|| find().is_ok()).await;
                find()?
            }
        };
        self.log.settled(&slot, parked).await;
        Ok(slot)
    }
}

impl CoordinatorLocator for Services {
    fn locate(&self, group: &str) -> Option<(i32, String, u16)> {
        self.meta.read(|image| {
            let partitions = &image.topics.get(image.names.get(OFFSETS_TOPIC)?)?.partitions;
            let count = i32::try_from(partitions.len()).ok()?;
            let partition = partitions.get(usize::try_from(partition_for(group, count)).ok()?)?;
            let holder = image.sessions.get(&partition.holder?)?;
            let endpoint = holder.endpoints.first()?;
            Some((holder.node_id, endpoint.host.clone(), endpoint.port))
        })
    }
}

/// A response as chunks for one vectored write.
pub type Chunks = Vec<Bytes>;
