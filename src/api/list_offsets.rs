//! ListOffsets (key 2), versions 1–11.
//!
//! Special timestamps: -1 latest (the high watermark), -2 earliest, -3 the record with the highest timestamp (v7), -4 earliest local
//! (v8; the earliest, nothing is tiered here), -5 latest tiered (v9; none), -6 earliest pending upload (v11; none). Anything else is a lookup by time, exact to
//! the record. Below the version that knows a special timestamp: UNSUPPORTED_VERSION for the partition. Duplicates: INVALID_REQUEST.

use std::collections::BTreeSet;
use std::time::Duration;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse};
use kafka_protocol::messages::{ListOffsetsRequest, ListOffsetsResponse};

use tokio::time::Instant;

use super::Services;
use super::errors;
use super::turns::Turns;
use crate::log::PARK_LIMIT;
use crate::log::fetch::ReadError;
use crate::log::fetch::lookup::Found;
use crate::log::slot::PartitionSlot;

/// A request that waited so long for the store and got an error looks nothing more up.
const STORE_PATIENCE: Duration = Duration::from_secs(1);

const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;
const EARLIEST_LOCAL: i64 = -4;
const LATEST_TIERED: i64 = -5;
const EARLIEST_PENDING_UPLOAD: i64 = -6;

/// No such record, or no timestamp.
const NOTHING: Found = Found { offset: -1, timestamp: -1 };

pub async fn handle(services: &Services, version: i16, request: ListOffsetsRequest) -> ListOffsetsResponse {
    let mut seen = BTreeSet::new();
    let mut twice = BTreeSet::new();
    let mut turns = Turns::default();
    for topic in &request.topics {
        for partition in &topic.partitions {
            turns.next().await;
            let place = (topic.name.to_string(), partition.partition_index);
            if !seen.insert(place.clone()) {
                twice.insert(place);
            }
        }
    }
    let mut response = ListOffsetsResponse::default();
    let begun = Instant::now();
    let mut store_failed = false;
    for topic in request.topics {
        let mut answers = Vec::with_capacity(topic.partitions.len());
        for partition in &topic.partitions {
            turns.next().await;
            let place = (topic.name.to_string(), partition.partition_index);
            let doubled = twice.contains(&place);
            // One answer for all its mentions.
            if doubled && !seen.remove(&place) {
                continue;
            }
            let found = if doubled {
                Err(ResponseError::InvalidRequest)
            } else if store_failed && partition.timestamp > LATEST {
                Err(ResponseError::KafkaStorageError)
            } else {
                look_up(services, version, &topic, partition, begun + PARK_LIMIT).await
            };
            // Each look-up has its own patience with the store; one that was in vain is enough.
            store_failed |= found == Err(ResponseError::KafkaStorageError) && begun.elapsed() > STORE_PATIENCE;
            answers.push(answer(version, partition.partition_index, found));
        }
        response.topics.push(ListOffsetsTopicResponse::default().with_name(topic.name).with_partitions(answers));
    }
    if !services.log.proof.awaited(PARK_LIMIT).await {
        for unproven in response.topics.iter_mut().flat_map(|topic| &mut topic.partitions) {
            *unproven = answer(version, unproven.partition_index, Err(ResponseError::NotLeaderOrFollower));
        }
    }
    response
}

/// The leader epoch stands in the answer from version 4 on.
fn answer(version: i16, index: i32, found: Result<(Found, i32), ResponseError>) -> ListOffsetsPartitionResponse {
    let response = ListOffsetsPartitionResponse::default().with_partition_index(index);
    match found {
        Ok((found, epoch)) => {
            let epoch = if version >= 4 { epoch } else { -1 };
            response.with_offset(found.offset).with_timestamp(found.timestamp).with_leader_epoch(epoch)
        }
        Err(code) => response.with_error_code(code.code()).with_offset(-1).with_timestamp(-1).with_leader_epoch(-1),
    }
}

/// The offset asked for, and the lease epoch of its record.
async fn look_up(
    services: &Services,
    version: i16,
    topic: &ListOffsetsTopic,
    partition: &ListOffsetsPartition,
    parked: Instant,
) -> Result<(Found, i32), ResponseError> {
    if partition.timestamp < lowest_timestamp(version) {
        return Err(ResponseError::UnsupportedVersion);
    }
    let slot = services.slot_by_name(topic.name.as_str(), partition.partition_index, parked).await?;
    let (epoch, start, end) = {
        let mut inner = slot.lock();
        let partition = inner.partition().map_err(|error| errors::of_unavailable(&error))?;
        (partition.epoch(), partition.log_start(), partition.high_watermark())
    };
    errors::check_given_leader_epoch(partition.current_leader_epoch, epoch)?;
    let at = |offset| Some(Found { offset, timestamp: -1 });
    let found = match partition.timestamp {
        LATEST => at(end),
        EARLIEST | EARLIEST_LOCAL => at(start),
        LATEST_TIERED | EARLIEST_PENDING_UPLOAD => None,
        target => {
            let found = match by_time(services, &slot, target).await {
                Err(error) if error.is_missing() => {
                    services.log.refresh(&slot).await;
                    by_time(services, &slot, target).await
                }
                found => found,
            };
            found.map_err(|error| errors::of_read(&error))?
        }
    };
    let epoch_of = |offset| slot.lock().partition().map_or(-1, |partition| partition.epoch_at(offset));
    Ok(found.map_or((NOTHING, -1), |found| {
        let epoch = if partition.timestamp == LATEST { epoch } else { epoch_of(found.offset) };
        (found, epoch)
    }))
}

async fn by_time(services: &Services, slot: &PartitionSlot, target: i64) -> Result<Option<Found>, ReadError> {
    match target {
        MAX_TIMESTAMP => services.log.reader.at_max_timestamp(slot).await,
        target => services.log.reader.first_at_or_after(slot, target).await,
    }
}

fn lowest_timestamp(version: i16) -> i64 {
    match version {
        ..=6 => EARLIEST,
        7 => MAX_TIMESTAMP,
        8 => EARLIEST_LOCAL,
        9 | 10 => LATEST_TIERED,
        _ => EARLIEST_PENDING_UPLOAD,
    }
}
