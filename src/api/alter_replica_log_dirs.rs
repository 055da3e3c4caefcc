//! AlterReplicaLogDirs (34), v1-2: moves replicas between the directories of a broker. There is one, the store, and every partition
//! lies in it: NONE for it, LOG_DIR_NOT_FOUND for any other (`ReplicaManager.alterReplicaLogDirs`).

use std::collections::BTreeMap;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::alter_replica_log_dirs_response::{
    AlterReplicaLogDirPartitionResult, AlterReplicaLogDirTopicResult,
};
use kafka_protocol::messages::{AlterReplicaLogDirsRequest, AlterReplicaLogDirsResponse};

use super::errors::NONE;
use super::ports::AdminServices;
use super::refusal::topic_name;
use super::topic_view::partition_of;

/// What Kafka adds to the name of the directory of a replica that moves, the hyphen before the partition counted in.
const MOVING_SUFFIX_BYTES: usize = 1 + ".00000000000000000000000000000000-future".len();

/// The longest name that a directory may have; Kafka refuses topics that would come above it.
const MAX_DIRECTORY_BYTES: usize = 255;

pub fn handle(services: &AdminServices, request: &AlterReplicaLogDirsRequest) -> AlterReplicaLogDirsResponse {
    // As in Kafka a partition that is named several times goes where it is told last.
    let mut asked: BTreeMap<&str, BTreeMap<i32, &str>> = BTreeMap::new();
    for dir in &request.dirs {
        for topic in &dir.topics {
            let rows = topic.partitions.iter().map(|index| (*index, dir.path.as_str()));
            asked.entry(topic.name.as_str()).or_default().extend(rows);
        }
    }
    let results = services.meta.read(|image| {
        let move_to = |topic: &str, index: i32, path: &str| {
            if topic.len() + index.to_string().len() + MOVING_SUFFIX_BYTES > MAX_DIRECTORY_BYTES {
                ResponseError::InvalidTopicException.code()
            } else if path != services.node.store {
                ResponseError::LogDirNotFound.code()
            } else if partition_of(image, topic, index).is_none() {
                ResponseError::UnknownTopicOrPartition.code()
            } else {
                NONE
            }
        };
        let topics = asked.iter().filter(|(_, partitions)| !partitions.is_empty()).map(|(topic, partitions)| {
            let rows = partitions.iter().map(|(index, path)| {
                AlterReplicaLogDirPartitionResult::default()
                    .with_partition_index(*index)
                    .with_error_code(move_to(topic, *index, path))
            });
            AlterReplicaLogDirTopicResult::default().with_topic_name(topic_name(topic)).with_partitions(rows.collect())
        });
        topics.collect()
    });
    AlterReplicaLogDirsResponse::default().with_results(results)
}
