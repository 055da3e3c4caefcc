//! Random request bodies of every served API, within what a version can carry.

use std::collections::BTreeMap;
use std::ops::RangeBounds;

use alluvium::wire::newest::Newest;
use bytes::Bytes;
use kafka_protocol::messages::*;
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};
use uuid::Uuid;

mod newest;

/// A seeded source of values, for one version of one message.
pub struct Gen {
    state: u64,
    version: i16,
    flexible: bool,
    nulls: bool,
    known: &'static Known,
}

/// Values that mean something to a broker; most random ones are of these, if there are any.
#[derive(Default)]
pub struct Known {
    pub numbers: Vec<i64>,
    pub names: Vec<String>,
    pub ids: Vec<Uuid>,
    pub blobs: Vec<Bytes>,
}

static NOTHING: Known = Known { numbers: Vec::new(), names: Vec::new(), ids: Vec::new(), blobs: Vec::new() };

impl Gen {
    pub fn new(seed: u64, version: i16, flexible: bool) -> Gen {
        let state = seed.wrapping_mul(0x1234_5678_9abc_def1) ^ version as u64;
        Gen { state, version, flexible, nulls: true, known: &NOTHING }
    }

    #[allow(dead_code, reason = "only fuzzing knows any")]
    pub fn with(self, known: &'static Known) -> Gen {
        Gen { known, ..self }
    }

    /// One of those that are known, most of the time.
    fn familiar<T>(&mut self, known: &'static [T]) -> Option<&'static T> {
        if known.is_empty() || self.below(8) == 0 {
            None
        } else {
            Some(&known[self.below(known.len() as u64) as usize])
        }
    }

    /// splitmix64
    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn byte(&mut self) -> u8 {
        self.next() as u8
    }

    /// From 0 to `limit` - 1.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    fn value<T: Random>(&mut self, nulls: bool) -> T {
        self.nulls = nulls;
        let value = T::random(self);
        self.nulls = true;
        value
    }

    fn has(&self, versions: impl RangeBounds<i16>) -> bool {
        versions.contains(&self.version)
    }

    fn tags(&mut self) -> BTreeMap<i32, Bytes> {
        let count = if self.flexible { self.below(3) } else { 0 };
        (0..count).map(|tag| (100 + tag as i32, Random::random(self))).collect()
    }
}

trait Random: Sized {
    fn random(g: &mut Gen) -> Self;
}

macro_rules! numbers {
    ($($number:ty),*) => {$(
        impl Random for $number {
            fn random(g: &mut Gen) -> Self {
                g.familiar(&g.known.numbers).map_or_else(|| g.next(), |number| *number as u64) as $number
            }
        }
    )*};
}
numbers!(i8, i16, i32, i64);

macro_rules! wrapped {
    ($($name:ident),*) => {$(
        impl Random for $name {
            fn random(g: &mut Gen) -> Self {
                $name(Random::random(g))
            }
        }
    )*};
}
wrapped!(TopicName, GroupId, TransactionalId, BrokerId, ProducerId);

impl Random for bool {
    fn random(g: &mut Gen) -> Self {
        g.below(2) == 0
    }
}

impl Random for Uuid {
    fn random(g: &mut Gen) -> Self {
        g.familiar(&g.known.ids)
            .copied()
            .unwrap_or_else(|| Uuid::from_u128(u128::from(g.next()) << 64 | u128::from(g.next())))
    }
}

impl Random for StrBytes {
    fn random(g: &mut Gen) -> Self {
        if let Some(name) = g.familiar(&g.known.names) {
            return StrBytes::from_string(name.clone());
        }
        let length = if g.below(20) == 0 { 200 } else { g.below(9) };
        StrBytes::from_string((0..length).map(|_| (b'a' + g.below(26) as u8) as char).collect())
    }
}

impl Random for Bytes {
    fn random(g: &mut Gen) -> Self {
        if let Some(blob) = g.familiar(&g.known.blobs) {
            return blob.clone();
        }
        let length = if g.below(20) == 0 { 200 } else { g.below(9) };
        (0..length).map(|_| g.byte()).collect()
    }
}

impl<T: Random> Random for Option<T> {
    fn random(g: &mut Gen) -> Self {
        if g.nulls && g.below(4) == 0 { None } else { Some(T::random(g)) }
    }
}

impl<T: Random> Random for Vec<T> {
    fn random(g: &mut Gen) -> Self {
        (0..g.below(4)).map(|_| g.value(true)).collect()
    }
}

/// `field`, `field in versions`, `field null versions` (in which it may be null).
macro_rules! messages {
    ($($($part:ident)::+ { $($field:ident $(in $versions:expr)? $(, null $nulls:expr)?;)* })*) => {$(
        impl Random for $($part)::+ {
            fn random(g: &mut Gen) -> Self {
                let mut message = <$($part)::+>::default();
                $(
                    if true $(&& g.has($versions))? {
                        let nulls = true $(&& g.has($nulls))?;
                        message.$field = g.value(nulls);
                    }
                )*
                message.unknown_tagged_fields = g.tags();
                message
            }
        }
    )*};
}

messages! {
    ProduceRequest { transactional_id; acks; timeout_ms; topic_data; }
    produce_request::TopicProduceData { name in ..=12; topic_id in 13..; partition_data; }
    produce_request::PartitionProduceData { index; records; }
    FetchRequest {
        cluster_id in 12..; replica_id in ..=14; replica_state in 15..; max_wait_ms; min_bytes; max_bytes; isolation_level;
        session_id in 7..; session_epoch in 7..; topics; forgotten_topics_data in 7..; rack_id in 11..;
    }
    fetch_request::ReplicaState { replica_id in 15..; replica_epoch in 15..; }
    fetch_request::FetchTopic { topic in ..=12; topic_id in 13..; partitions; }
    fetch_request::FetchPartition {
        partition; current_leader_epoch in 9..; fetch_offset; last_fetched_epoch in 12..; log_start_offset in 5..;
        partition_max_bytes; replica_directory_id in 17..; high_watermark in 18..;
    }
    fetch_request::ForgottenTopic { topic in 7..=12; topic_id in 13..; partitions in 7..; }
    ListOffsetsRequest { replica_id; isolation_level in 2..; topics; timeout_ms in 10..; }
    list_offsets_request::ListOffsetsTopic { name; partitions; }
    list_offsets_request::ListOffsetsPartition { partition_index; current_leader_epoch in 4..; timestamp; }
    MetadataRequest {
        topics, null 1..; allow_auto_topic_creation in 4..; include_cluster_authorized_operations in 8..=10;
        include_topic_authorized_operations in 8..;
    }
    metadata_request::MetadataRequestTopic { topic_id in 10..; name, null 10..; }
    OffsetCommitRequest {
        group_id; generation_id_or_member_epoch; member_id; group_instance_id in 7..; retention_time_ms in ..=4; topics;
    }
    offset_commit_request::OffsetCommitRequestTopic { name in ..=9; topic_id in 10..; partitions; }
    offset_commit_request::OffsetCommitRequestPartition {
        partition_index; committed_offset; committed_leader_epoch in 6..; committed_metadata;
    }
    OffsetFetchRequest { group_id in ..=7; topics in ..=7, null 2..; groups in 8..; require_stable in 7..; }
    offset_fetch_request::OffsetFetchRequestTopic { name in ..=7; partition_indexes in ..=7; }
    offset_fetch_request::OffsetFetchRequestGroup { group_id in 8..; member_id in 9..; member_epoch in 9..; topics in 8..; }
    offset_fetch_request::OffsetFetchRequestTopics { name in 8..=9; topic_id in 10..; partition_indexes in 8..; }
    FindCoordinatorRequest { key in ..=3; key_type in 1..; coordinator_keys in 4..; }
    JoinGroupRequest {
        group_id; session_timeout_ms; rebalance_timeout_ms in 1..; member_id; group_instance_id in 5..; protocol_type;
        protocols; reason in 8..;
    }
    join_group_request::JoinGroupRequestProtocol { name; metadata; }
    HeartbeatRequest { group_id; generation_id; member_id; group_instance_id in 3..; }
    LeaveGroupRequest { group_id; member_id in ..=2; members in 3..; }
    leave_group_request::MemberIdentity { member_id in 3..; group_instance_id in 3..; reason in 5..; }
    SyncGroupRequest {
        group_id; generation_id; member_id; group_instance_id in 3..; protocol_type in 5..; protocol_name in 5..; assignments;
    }
    sync_group_request::SyncGroupRequestAssignment { member_id; assignment; }
    DescribeGroupsRequest { groups; include_authorized_operations in 3..; }
    ListGroupsRequest { states_filter in 4..; types_filter in 5..; }
    ApiVersionsRequest { client_software_name in 3..; client_software_version in 3..; }
    CreateTopicsRequest { topics; timeout_ms; validate_only; }
    create_topics_request::CreatableTopic { name; num_partitions; replication_factor; assignments; configs; }
    create_topics_request::CreatableReplicaAssignment { partition_index; broker_ids; }
    create_topics_request::CreatableTopicConfig { name; value; }
    DeleteTopicsRequest { topics in 6..; topic_names in ..=5; timeout_ms; }
    delete_topics_request::DeleteTopicState { name in 6..; topic_id in 6..; }
    DeleteRecordsRequest { topics; timeout_ms; }
    delete_records_request::DeleteRecordsTopic { name; partitions; }
    delete_records_request::DeleteRecordsPartition { partition_index; offset; }
    InitProducerIdRequest { transactional_id; transaction_timeout_ms; producer_id in 3..; producer_epoch in 3..; }
    OffsetForLeaderEpochRequest { replica_id in 3..; topics; }
    offset_for_leader_epoch_request::OffsetForLeaderTopic { topic; partitions; }
    offset_for_leader_epoch_request::OffsetForLeaderPartition { partition; current_leader_epoch; leader_epoch; }
    DescribeConfigsRequest { resources; include_synonyms; include_documentation in 3..; }
    describe_configs_request::DescribeConfigsResource { resource_type; resource_name; configuration_keys; }
    AlterConfigsRequest { resources; validate_only; }
    alter_configs_request::AlterConfigsResource { resource_type; resource_name; configs; }
    alter_configs_request::AlterableConfig { name; value; }
    DescribeLogDirsRequest { topics; }
    describe_log_dirs_request::DescribableLogDirTopic { topic; partitions; }
    CreatePartitionsRequest { topics; timeout_ms; validate_only; }
    create_partitions_request::CreatePartitionsTopic { name; count; assignments; }
    create_partitions_request::CreatePartitionsAssignment { broker_ids; }
    DeleteGroupsRequest { groups_names; }
    ElectLeadersRequest { election_type in 1..; topic_partitions; timeout_ms; }
    elect_leaders_request::TopicPartitions { topic; partitions; }
    IncrementalAlterConfigsRequest { resources; validate_only; }
    incremental_alter_configs_request::AlterConfigsResource { resource_type; resource_name; configs; }
    incremental_alter_configs_request::AlterableConfig { name; config_operation; value; }
    AlterPartitionReassignmentsRequest { timeout_ms; allow_replication_factor_change in 1..; topics; }
    alter_partition_reassignments_request::ReassignableTopic { name; partitions; }
    alter_partition_reassignments_request::ReassignablePartition { partition_index; replicas; }
    ListPartitionReassignmentsRequest { timeout_ms; topics; }
    list_partition_reassignments_request::ListPartitionReassignmentsTopics { name; partition_indexes; }
    DescribeClusterRequest { include_cluster_authorized_operations; endpoint_type in 1..; include_fenced_brokers in 2..; }
    DescribeProducersRequest { topics; }
    describe_producers_request::TopicRequest { name; partition_indexes; }
    ListConfigResourcesRequest { resource_types in 1..; }
    DescribeTopicPartitionsRequest { topics; response_partition_limit; cursor; }
    describe_topic_partitions_request::TopicRequest { name; }
    describe_topic_partitions_request::Cursor { topic_name; partition_index; }
    SaslAuthenticateRequest { auth_bytes; }
    DescribeAclsRequest {
        resource_type_filter; resource_name_filter; pattern_type_filter; principal_filter; host_filter; operation; permission_type;
    }
    CreateAclsRequest { creations; }
    create_acls_request::AclCreation {
        resource_type; resource_name; resource_pattern_type; principal; host; operation; permission_type;
    }
    DeleteAclsRequest { filters; }
    delete_acls_request::DeleteAclsFilter {
        resource_type_filter; resource_name_filter; pattern_type_filter; principal_filter; host_filter; operation; permission_type;
    }
    AlterReplicaLogDirsRequest { dirs; }
    alter_replica_log_dirs_request::AlterReplicaLogDir { path; topics; }
    alter_replica_log_dirs_request::AlterReplicaLogDirTopic { name; partitions; }
    CreateDelegationTokenRequest { owner_principal_type in 3..; owner_principal_name in 3..; renewers; max_lifetime_ms; }
    create_delegation_token_request::CreatableRenewers { principal_type; principal_name; }
    RenewDelegationTokenRequest { hmac; renew_period_ms; }
    ExpireDelegationTokenRequest { hmac; expiry_time_period_ms; }
    DescribeDelegationTokenRequest { owners; }
    describe_delegation_token_request::DescribeDelegationTokenOwner { principal_type; principal_name; }
    DescribeClientQuotasRequest { components; strict; }
    describe_client_quotas_request::ComponentData { entity_type; match_type; _match; }
    DescribeUserScramCredentialsRequest { users; }
    describe_user_scram_credentials_request::UserName { name; }
    UnregisterBrokerRequest { broker_id; }
}

/// Never flexible, so without tagged fields.
impl Random for OffsetDeleteRequest {
    fn random(g: &mut Gen) -> Self {
        OffsetDeleteRequest::default().with_group_id(Random::random(g)).with_topics(Random::random(g))
    }
}

impl Random for SaslHandshakeRequest {
    fn random(g: &mut Gen) -> Self {
        SaslHandshakeRequest::default().with_mechanism(Random::random(g))
    }
}

impl Random for offset_delete_request::OffsetDeleteRequestTopic {
    fn random(g: &mut Gen) -> Self {
        let partitions: Vec<i32> = Random::random(g);
        let partition = offset_delete_request::OffsetDeleteRequestPartition::default;
        let partitions = partitions.into_iter().map(|index| partition().with_partition_index(index)).collect();
        Self::default().with_name(Random::random(g)).with_partitions(partitions)
    }
}

fn encode<T: Random + Encodable>(g: &mut Gen) -> Vec<u8> {
    let mut out = Vec::new();
    T::random(g).encode(&mut out, g.version).expect("a generated message fits its version");
    out
}

fn decode_as<T: Decodable>(version: i16, mut body: Bytes) -> Result<usize, String> {
    T::decode(&mut body, version).map(|_| body.len()).map_err(|error| error.to_string())
}

macro_rules! dispatch {
    (known: $($key:ident $request:ident),*; newer: $($newer:ident $newest:ident $encode:path),*) => {
        /// A random body; its seed is the generator's.
        pub fn random_body(key: ApiKey, g: &mut Gen) -> Vec<u8> {
            match key {
                $(ApiKey::$key => encode::<$request>(g),)*
                $(ApiKey::$newer => $encode(&$newest::random(g), g.version),)*
                other => panic!("no generator for {other:?}"),
            }
        }

        /// Decodes a body, and says how many bytes were left.
        pub fn decode(key: ApiKey, version: i16, body: Bytes) -> Result<usize, String> {
            match key {
                $(ApiKey::$key => decode_as::<$request>(version, body),)*
                $(ApiKey::$newer => decode_as::<Newest<$newest>>(version, body),)*
                other => panic!("no decoder for {other:?}"),
            }
        }
    };
}

dispatch! {
    known:
    Produce ProduceRequest, Fetch FetchRequest, Metadata MetadataRequest, FindCoordinator FindCoordinatorRequest,
    JoinGroup JoinGroupRequest, Heartbeat HeartbeatRequest, LeaveGroup LeaveGroupRequest, SyncGroup SyncGroupRequest,
    DescribeGroups DescribeGroupsRequest, ListGroups ListGroupsRequest, ApiVersions ApiVersionsRequest,
    CreateTopics CreateTopicsRequest, DeleteTopics DeleteTopicsRequest, DeleteRecords DeleteRecordsRequest,
    InitProducerId InitProducerIdRequest, OffsetForLeaderEpoch OffsetForLeaderEpochRequest,
    DescribeConfigs DescribeConfigsRequest, AlterConfigs AlterConfigsRequest,
    CreatePartitions CreatePartitionsRequest, DeleteGroups DeleteGroupsRequest, ElectLeaders ElectLeadersRequest,
    IncrementalAlterConfigs IncrementalAlterConfigsRequest,
    AlterPartitionReassignments AlterPartitionReassignmentsRequest,
    ListPartitionReassignments ListPartitionReassignmentsRequest, OffsetDelete OffsetDeleteRequest,
    DescribeCluster DescribeClusterRequest, DescribeProducers DescribeProducersRequest,
    ListConfigResources ListConfigResourcesRequest, DescribeTopicPartitions DescribeTopicPartitionsRequest,
    SaslHandshake SaslHandshakeRequest, SaslAuthenticate SaslAuthenticateRequest, DescribeAcls DescribeAclsRequest,
    CreateAcls CreateAclsRequest, DeleteAcls DeleteAclsRequest, AlterReplicaLogDirs AlterReplicaLogDirsRequest,
    CreateDelegationToken CreateDelegationTokenRequest, RenewDelegationToken RenewDelegationTokenRequest,
    ExpireDelegationToken ExpireDelegationTokenRequest, DescribeDelegationToken DescribeDelegationTokenRequest,
    DescribeClientQuotas DescribeClientQuotasRequest,
    DescribeUserScramCredentials DescribeUserScramCredentialsRequest, UnregisterBroker UnregisterBrokerRequest;
    newer:
    ListOffsets ListOffsetsRequest newest::as_before, DescribeLogDirs DescribeLogDirsRequest newest::as_before,
    OffsetCommit OffsetCommitRequest newest::offset_commit, OffsetFetch OffsetFetchRequest newest::offset_fetch
}
