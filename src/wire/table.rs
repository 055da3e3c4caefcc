//! The APIs that are served: one row each. The ApiVersions answer, the length guard and the frame caps are computed from it.
//!
//! The ranges are those of Apache Kafka 4.3. Where the schemas of the kafka-protocol crate end before, [`super::newest`] goes on.

use kafka_protocol::messages::ApiKey;

use super::fields;
use super::guard::Fields;

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// One API and the versions of it that are served.
#[derive(Clone, Copy, Debug)]
pub struct ApiRow {
    pub key: ApiKey,
    pub name: &'static str,
    /// Lowest version in the ApiVersions answer. Lower than `min` for Produce only: librdkafka up to 2.10 turns compression
    /// off when it does not find version 0 (KAFKA-18659).
    pub advertised_min: i16,
    /// Lowest version that is parsed.
    pub min: i16,
    /// Highest version, advertised and parsed.
    pub max: i16,
    /// From this version on requests and responses have compact lengths and tagged fields; `NEVER` if no version has.
    pub flexible: i16,
    /// Longest request in bytes, without the length prefix; `UNBOUNDED` leaves it to `socket.request.max.bytes`.
    pub frame_cap: usize,
    pub(super) fields: Fields,
}

/// "No version is flexible."
pub const NEVER: i16 = i16::MAX;

/// "The cap is the caller's": only Produce carries data.
pub const UNBOUNDED: usize = usize::MAX;

impl ApiRow {
    pub fn serves(&self, version: i16) -> bool {
        (self.min..=self.max).contains(&version)
    }

    pub fn is_flexible(&self, version: i16) -> bool {
        version >= self.flexible
    }

    /// Header version of a request: 2 has tagged fields after the client id.
    pub fn request_header_version(&self, version: i16) -> i16 {
        if self.is_flexible(version) { 2 } else { 1 }
    }

    /// Header version of a response: 1 has tagged fields. ApiVersions always answers with 0, so that a client that
    /// does not know the broker yet can read it (KIP-511).
    pub fn response_header_version(&self, version: i16) -> i16 {
        i16::from(self.is_flexible(version) && self.key != ApiKey::ApiVersions)
    }
}

/// The row of an API, or none if it is not served.
pub fn find(api_key: i16) -> Option<&'static ApiRow> {
    let at = API_TABLE.binary_search_by_key(&api_key, |row| row.key as i16).ok()?;
    Some(&API_TABLE[at])
}

const fn row(
    key: ApiKey,
    name: &'static str,
    versions: (i16, i16),
    flexible: i16,
    cap: usize,
    fields: Fields,
) -> ApiRow {
    ApiRow { key, name, advertised_min: versions.0, min: versions.0, max: versions.1, flexible, frame_cap: cap, fields }
}

/// Every API that is served, by rising key.
pub const API_TABLE: &[ApiRow] = &[
    ApiRow { advertised_min: 0, ..row(ApiKey::Produce, "Produce", (3, 13), 9, UNBOUNDED, fields::PRODUCE) },
    row(ApiKey::Fetch, "Fetch", (4, 18), 12, 4 * MIB, fields::FETCH),
    row(ApiKey::ListOffsets, "ListOffsets", (1, 11), 6, 4 * MIB, fields::LIST_OFFSETS),
    row(ApiKey::Metadata, "Metadata", (0, 13), 9, 4 * MIB, fields::METADATA),
    row(ApiKey::OffsetCommit, "OffsetCommit", (2, 10), 8, 4 * MIB, fields::OFFSET_COMMIT),
    row(ApiKey::OffsetFetch, "OffsetFetch", (1, 10), 6, 4 * MIB, fields::OFFSET_FETCH),
    row(ApiKey::FindCoordinator, "FindCoordinator", (0, 6), 3, MIB, fields::FIND_COORDINATOR),
    row(ApiKey::JoinGroup, "JoinGroup", (0, 9), 6, 4 * MIB, fields::JOIN_GROUP),
    row(ApiKey::Heartbeat, "Heartbeat", (0, 4), 4, 128 * KIB, fields::HEARTBEAT),
    row(ApiKey::LeaveGroup, "LeaveGroup", (0, 5), 4, MIB, fields::LEAVE_GROUP),
    row(ApiKey::SyncGroup, "SyncGroup", (0, 5), 4, 4 * MIB, fields::SYNC_GROUP),
    row(ApiKey::DescribeGroups, "DescribeGroups", (0, 6), 5, 4 * MIB, fields::DESCRIBE_GROUPS),
    row(ApiKey::ListGroups, "ListGroups", (0, 5), 3, 64 * KIB, fields::LIST_GROUPS),
    row(ApiKey::SaslHandshake, "SaslHandshake", (0, 1), NEVER, 64 * KIB, fields::SASL_HANDSHAKE),
    row(ApiKey::ApiVersions, "ApiVersions", (0, 4), 3, 64 * KIB, fields::API_VERSIONS),
    row(ApiKey::CreateTopics, "CreateTopics", (2, 7), 5, 4 * MIB, fields::CREATE_TOPICS),
    row(ApiKey::DeleteTopics, "DeleteTopics", (1, 6), 4, 4 * MIB, fields::DELETE_TOPICS),
    row(ApiKey::DeleteRecords, "DeleteRecords", (0, 2), 2, 4 * MIB, fields::DELETE_RECORDS),
    row(ApiKey::InitProducerId, "InitProducerId", (0, 5), 2, 64 * KIB, fields::INIT_PRODUCER_ID),
    row(ApiKey::OffsetForLeaderEpoch, "OffsetForLeaderEpoch", (2, 4), 4, 4 * MIB, fields::OFFSET_FOR_LEADER_EPOCH),
    row(ApiKey::DescribeAcls, "DescribeAcls", (1, 3), 2, 64 * KIB, fields::DESCRIBE_ACLS),
    row(ApiKey::CreateAcls, "CreateAcls", (1, 3), 2, MIB, fields::CREATE_ACLS),
    row(ApiKey::DeleteAcls, "DeleteAcls", (1, 3), 2, MIB, fields::DELETE_ACLS),
    row(ApiKey::DescribeConfigs, "DescribeConfigs", (1, 4), 4, 4 * MIB, fields::DESCRIBE_CONFIGS),
    row(ApiKey::AlterConfigs, "AlterConfigs", (0, 2), 2, 4 * MIB, fields::ALTER_CONFIGS),
    row(ApiKey::AlterReplicaLogDirs, "AlterReplicaLogDirs", (1, 2), 2, MIB, fields::ALTER_REPLICA_LOG_DIRS),
    row(ApiKey::DescribeLogDirs, "DescribeLogDirs", (1, 5), 2, 4 * MIB, fields::DESCRIBE_LOG_DIRS),
    row(ApiKey::SaslAuthenticate, "SaslAuthenticate", (0, 2), 2, MIB, fields::SASL_AUTHENTICATE),
    row(ApiKey::CreatePartitions, "CreatePartitions", (0, 3), 2, 4 * MIB, fields::CREATE_PARTITIONS),
    row(ApiKey::CreateDelegationToken, "CreateDelegationToken", (1, 3), 2, MIB, fields::CREATE_DELEGATION_TOKEN),
    row(ApiKey::RenewDelegationToken, "RenewDelegationToken", (1, 2), 2, 64 * KIB, fields::RENEW_DELEGATION_TOKEN),
    row(ApiKey::ExpireDelegationToken, "ExpireDelegationToken", (1, 2), 2, 64 * KIB, fields::EXPIRE_DELEGATION_TOKEN),
    row(ApiKey::DescribeDelegationToken, "DescribeDelegationToken", (1, 3), 2, MIB, fields::DESCRIBE_DELEGATION_TOKEN),
    row(ApiKey::DeleteGroups, "DeleteGroups", (0, 2), 2, 4 * MIB, fields::DELETE_GROUPS),
    row(ApiKey::ElectLeaders, "ElectLeaders", (0, 2), 2, 4 * MIB, fields::ELECT_LEADERS),
    row(
        ApiKey::IncrementalAlterConfigs,
        "IncrementalAlterConfigs",
        (0, 1),
        1,
        4 * MIB,
        fields::INCREMENTAL_ALTER_CONFIGS,
    ),
    row(
        ApiKey::AlterPartitionReassignments,
        "AlterPartitionReassignments",
        (0, 1),
        0,
        4 * MIB,
        fields::ALTER_PARTITION_REASSIGNMENTS,
    ),
    row(
        ApiKey::ListPartitionReassignments,
        "ListPartitionReassignments",
        (0, 0),
        0,
        4 * MIB,
        fields::LIST_PARTITION_REASSIGNMENTS,
    ),
    row(ApiKey::OffsetDelete, "OffsetDelete", (0, 0), NEVER, 4 * MIB, fields::OFFSET_DELETE),
    row(ApiKey::DescribeClientQuotas, "DescribeClientQuotas", (0, 1), 1, 64 * KIB, fields::DESCRIBE_CLIENT_QUOTAS),
    row(
        ApiKey::DescribeUserScramCredentials,
        "DescribeUserScramCredentials",
        (0, 0),
        0,
        MIB,
        fields::DESCRIBE_USER_SCRAM_CREDENTIALS,
    ),
    row(ApiKey::DescribeCluster, "DescribeCluster", (0, 2), 0, 64 * KIB, fields::DESCRIBE_CLUSTER),
    row(ApiKey::DescribeProducers, "DescribeProducers", (0, 0), 0, 4 * MIB, fields::DESCRIBE_PRODUCERS),
    row(ApiKey::UnregisterBroker, "UnregisterBroker", (0, 0), 0, 64 * KIB, fields::UNREGISTER_BROKER),
    row(ApiKey::ListConfigResources, "ListConfigResources", (0, 1), 0, 64 * KIB, fields::LIST_CONFIG_RESOURCES),
    row(
        ApiKey::DescribeTopicPartitions,
        "DescribeTopicPartitions",
        (0, 0),
        0,
        4 * MIB,
        fields::DESCRIBE_TOPIC_PARTITIONS,
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_within_the_schemas() {
        assert!(API_TABLE.is_sorted_by_key(|row| row.key as i16));
        for row in API_TABLE {
            let (name, known) = (row.name, row.key.valid_versions());
            let newest = i16::from(matches!(row.key, ApiKey::ListOffsets | ApiKey::DescribeLogDirs));
            assert!(known.min <= row.min && row.max <= known.max + newest && row.min <= row.max, "{name}");
            assert_eq!(row.frame_cap == UNBOUNDED, row.key == ApiKey::Produce, "{name}");
            assert_eq!(row.advertised_min == row.min, row.key != ApiKey::Produce, "{name}");
            assert_eq!(find(row.key as i16).map(|found| found.key), Some(row.key), "{name}");
            for version in row.min..=row.max {
                assert_eq!(row.request_header_version(version), row.key.request_header_version(version), "{name}");
                assert_eq!(row.response_header_version(version), row.key.response_header_version(version), "{name}");
            }
        }
        let produce = find(0).map(|row| (row.advertised_min, row.min, row.max));
        assert_eq!(produce, Some((0, 3, 13)));
        assert!(find(4).is_none() && find(-1).is_none() && find(i16::MAX).is_none());
    }
}
