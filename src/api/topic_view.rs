//! What clients are told of brokers, leaders and replicas, read from the image.
//!
//! The holder of a partition is its leader, the lease epoch the leader epoch. There are no replicas; tools compare their number with
//! the replication factor and the in-sync replicas, so a partition reports as many live brokers as the factor asks for, the leader
//! first, all of them in sync.

use std::collections::BTreeMap;

use crate::meta::image::{Image, PartitionState, Session, SessionState, Topic};
use crate::types::{LeaseEpoch, NodeId, PartitionId, TopicId};

use super::ports::NodeInfo;

/// Where clients reach a broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerView {
    pub host: String,
    pub port: i32,
    pub rack: Option<String>,
}

/// Ready brokers by node id; this one is always among them. Of two sessions of a node the newer counts.
pub fn live_brokers(image: &Image, node: &NodeInfo) -> BTreeMap<NodeId, BrokerView> {
    let mut brokers = BTreeMap::new();
    for session in image.sessions.values().filter(|session| session.state == SessionState::Ready) {
        if let Some(view) = broker_view(session) {
            brokers.insert(session.node_id, view);
        }
    }
    brokers.entry(node.node_id).or_insert_with(|| BrokerView {
        host: node.endpoint.host.clone(),
        port: i32::from(node.endpoint.port),
        rack: node.rack.clone(),
    });
    brokers
}

fn broker_view(session: &Session) -> Option<BrokerView> {
    let endpoint = session.endpoints.first()?;
    Some(BrokerView { host: endpoint.host.clone(), port: i32::from(endpoint.port), rack: session.rack.clone() })
}

/// Leader and replicas of one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionView {
    pub leader: Option<NodeId>,
    pub epoch: LeaseEpoch,
    /// The leader first; also the in-sync replicas.
    pub replicas: Vec<NodeId>,
}

pub fn partition_view(
    image: &Image,
    brokers: &BTreeMap<NodeId, BrokerView>,
    topic: &Topic,
    index: usize,
    state: &PartitionState,
) -> PartitionView {
    let session = state.holder.and_then(|holder| image.sessions.get(&holder));
    let leader = session.filter(|session| session.state == SessionState::Ready).map(|session| session.node_id);
    let nodes: Vec<NodeId> = brokers.keys().copied().collect();
    let first = leader.and_then(|leader| nodes.iter().position(|node| *node == leader));
    let first = first.unwrap_or(if nodes.is_empty() { 0 } else { index % nodes.len() });
    let count = usize::try_from(topic.replication_factor).unwrap_or(1).max(1);
    let replicas = nodes.iter().cycle().skip(first).take(count.min(nodes.len())).copied().collect();
    PartitionView { leader, epoch: state.epoch, replicas }
}

/// The partition's place in `image`, if the topic has it.
pub fn partition_of<'a>(
    image: &'a Image,
    topic: &str,
    index: i32,
) -> Option<(PartitionId, &'a Topic, &'a PartitionState)> {
    let (id, topic) = topic_named(image, topic)?;
    let state = topic.partitions.get(usize::try_from(index).ok()?)?;
    Some((PartitionId { topic: id, index }, topic, state))
}

pub fn topic_named<'a>(image: &'a Image, name: &str) -> Option<(TopicId, &'a Topic)> {
    let id = *image.names.get(name)?;
    Some((id, image.topics.get(&id)?))
}

/// Operations that everybody may do to a topic while there are no access rules: one bit per `AclOperation`.
pub const TOPIC_OPERATIONS: i32 = 0b1101_1111_1000;
/// The same for the cluster.
pub const CLUSTER_OPERATIONS: i32 = 0b1_1111_1010_0000;
/// "Not asked."
pub const NO_OPERATIONS: i32 = i32::MIN;
