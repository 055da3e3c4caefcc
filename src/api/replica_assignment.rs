//! Assignments of partitions to brokers that clients make by hand: checked as in Kafka (`ReplicationControlManager`), then forgotten,
//! since partitions go where the leases go.

use std::collections::BTreeSet;

use kafka_protocol::error::ResponseError;

use super::refusal::Refusal;
use crate::types::NodeId;

pub struct Assignment<'a> {
    pub partition: i32,
    pub brokers: &'a [NodeId],
}

/// Checks one partition's brokers; `replication_factor` is what the partitions before it have.
pub fn check(brokers: &[NodeId], replication_factor: Option<usize>, live: &BTreeSet<NodeId>) -> Result<(), Refusal> {
    let invalid = |message: String| Err(Refusal::new(ResponseError::InvalidReplicaAssignment, message));
    if brokers.is_empty() {
        return invalid("The manual partition assignment includes an empty replica list.".to_owned());
    }
    let mut sorted = brokers.to_vec();
    sorted.sort_unstable();
    let mut previous = None;
    for broker in sorted {
        if !live.contains(&broker) {
            return invalid(format!(
                "The manual partition assignment includes broker {broker}, but no such broker is registered."
            ));
        }
        if previous == Some(broker) {
            return invalid(format!("The manual partition assignment includes the broker {broker} more than once."));
        }
        previous = Some(broker);
    }
    match replication_factor {
        Some(factor) if factor != brokers.len() => invalid(format!(
            "The manual partition assignment includes a partition with {} replica(s), but this is not consistent with previous \
             partitions, which have {factor} replica(s).",
            brokers.len()
        )),
        _ => Ok(()),
    }
}

/// Partitions and replication factor of a new topic whose partitions were assigned by hand.
pub fn of_new_topic(assignments: &[Assignment<'_>], live: &BTreeSet<NodeId>) -> Result<(i32, i16), Refusal> {
    let invalid = |message: String| Err(Refusal::new(ResponseError::InvalidReplicaAssignment, message));
    let mut partitions = BTreeSet::new();
    let mut factor = None;
    for assignment in assignments {
        if !partitions.insert(assignment.partition) {
            return invalid(format!(
                "Found multiple manual partition assignments for partition {}",
                assignment.partition
            ));
        }
        check(assignment.brokers, factor, live)?;
        factor = Some(assignment.brokers.len());
    }
    if !partitions.iter().copied().eq(0..i32::try_from(partitions.len()).unwrap_or(i32::MAX)) {
        return invalid("partitions should be a consecutive 0-based integer sequence".to_owned());
    }
    let count = i32::try_from(partitions.len()).unwrap_or(i32::MAX);
    Ok((count, factor.and_then(|factor| i16::try_from(factor).ok()).unwrap_or(1)))
}
