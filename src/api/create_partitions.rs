//! CreatePartitions (37), v0-3. Kafka's checks (`ReplicationControlManager.createPartitions`); assignments are checked and forgotten.

use std::collections::{BTreeMap, BTreeSet};

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::create_partitions_response::CreatePartitionsTopicResult;
use kafka_protocol::messages::{CreatePartitionsRequest, CreatePartitionsResponse};

use super::context::RequestContext;
use super::create_topics::MAX_PARTITIONS_PER_REQUEST;
use super::ports::{AdminServices, NodeInfo};
use super::refusal::{Refusal, decide_within, runs, topic_name};
use super::replica_assignment;
use super::topic_view::{live_brokers, topic_named};
use super::turns::Turns;
use crate::meta::entry::Change;
use crate::meta::image::Image;
use crate::types::NodeId;

/// About the bytes of one change in an entry.
const CHANGE_BYTES: usize = 128;

#[derive(Clone, Debug)]
struct Asked {
    name: String,
    count: i32,
    assignments: Option<Vec<Vec<NodeId>>>,
}

type Rows = Vec<(String, Result<(), Refusal>)>;

pub async fn handle(
    services: &AdminServices,
    _cx: &RequestContext,
    request: CreatePartitionsRequest,
) -> CreatePartitionsResponse {
    let (mut counts, mut turns) = (BTreeMap::<String, usize>::new(), Turns::default());
    for topic in &request.topics {
        turns.next().await;
        *counts.entry(topic.name.to_string()).or_default() += 1;
    }
    let (mut asked, mut rows): (Vec<Asked>, Rows) = (Vec::new(), Vec::new());
    for topic in &request.topics {
        turns.next().await;
        let name = topic.name.to_string();
        match counts.get_mut(&name) {
            // Named twice: one row for all of them.
            Some(count) if *count > 1 => {
                *count = 0;
                rows.push((name, Err(Refusal::new(ResponseError::InvalidRequest, "Duplicate topic name."))));
            }
            Some(1) => {
                let ids = |brokers: &[kafka_protocol::messages::BrokerId]| brokers.iter().map(|id| id.0).collect();
                let assignments = topic.assignments.as_ref();
                let assignments = assignments.map(|all| all.iter().map(|one| ids(&one.broker_ids)).collect());
                asked.push(Asked { name, count: topic.count, assignments });
            }
            _ => {}
        }
    }
    for run in runs(asked, |_| CHANGE_BYTES) {
        let (node, validate_only, copy) = (services.node.clone(), request.validate_only, run.clone());
        let decision = move |image: &Image| create(image, &node, &run, validate_only);
        match decide_within(&services.meta, request.timeout_ms, decision).await {
            Ok(decided) => rows.extend(decided),
            Err(refusal) => rows.extend(copy.into_iter().map(|asked| (asked.name, Err(refusal.clone())))),
        }
    }
    CreatePartitionsResponse::default().with_results(rows.into_iter().map(row).collect())
}

fn row((name, result): (String, Result<(), Refusal>)) -> CreatePartitionsTopicResult {
    let row = CreatePartitionsTopicResult::default().with_name(topic_name(&name));
    match result {
        Ok(()) => row.with_error_message(None),
        Err(refusal) => row.with_error_code(refusal.code()).with_error_message(refusal.text()),
    }
}

fn create(image: &Image, node: &NodeInfo, run: &[Asked], validate_only: bool) -> (Vec<Change>, Rows) {
    let live: BTreeSet<NodeId> = live_brokers(image, node).into_keys().collect();
    let (mut changes, mut rows, mut added) = (Vec::new(), Vec::with_capacity(run.len()), 0);
    for asked in run {
        let result = create_one(image, &live, asked, &mut added);
        let result = result.map(|change| if validate_only { None } else { Some(change) });
        rows.push((asked.name.clone(), result.map(|change| changes.extend(change))));
    }
    (changes, rows)
}

/// `added` counts the new partitions of the request so far.
fn create_one(image: &Image, live: &BTreeSet<NodeId>, asked: &Asked, added: &mut usize) -> Result<Change, Refusal> {
    let unknown = Refusal::plain(ResponseError::UnknownTopicOrPartition);
    let (id, topic) = topic_named(image, &asked.name).ok_or(unknown)?;
    let invalid = |message: String| Err(Refusal::new(ResponseError::InvalidPartitions, message));
    let present = topic.partitions.len();
    let more = match usize::try_from(asked.count) {
        Ok(count) if count == present => return invalid(format!("Topic already has {present} partition(s).")),
        Ok(count) if count > present => count - present,
        _ => {
            return invalid(format!(
                "The topic {} currently has {present} partition(s); {} would not be an increase.",
                asked.name, asked.count
            ));
        }
    };
    if topic.internal {
        let message = format!("The number of partitions of the internal topic {} can't be changed.", asked.name);
        return Err(Refusal::new(ResponseError::InvalidTopicException, message));
    }
    if let Some(assignments) = asked.assignments.as_ref().filter(|assignments| assignments.len() != more) {
        let message = format!(
            "Attempted to add {more} additional partition(s), but only {} assignment(s) were specified.",
            assignments.len()
        );
        return Err(Refusal::new(ResponseError::InvalidReplicaAssignment, message));
    }
    if more > MAX_PARTITIONS_PER_REQUEST || *added + more > MAX_PARTITIONS_PER_REQUEST {
        let message = "Excessively large number of partitions per request.";
        return Err(Refusal::new(ResponseError::PolicyViolation, message));
    }
    if let Some(assignments) = &asked.assignments {
        let factor = usize::try_from(topic.replication_factor).unwrap_or(1).min(live.len());
        assignments.iter().try_for_each(|brokers| replica_assignment::check(brokers, Some(factor), live))?;
    }
    *added += more;
    Ok(Change::CreatePartitions { id, count: asked.count })
}

#[cfg(test)]
#[path = "create_partitions_tests.rs"]
mod tests;
