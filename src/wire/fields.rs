//! What a request body holds, field by field, for every API and version that is served.
//!
//! The order of the rows is the order on the wire. A field without bounds stands in every version that is served; tagged
//! fields stand in the tag section of their struct. Source: the message schemas of Apache Kafka 4.3
//! (`common/message/*Request.json`), cut to the versions in [`super::table`].

use super::guard::Kind::{Blob, Fixed, List, OptionStruct, Struct, Structs, Text};
use super::guard::{Fields, f};

pub(super) const PRODUCE: Fields = &[
    f("transactional_id", Text).null(3),
    f("acks", Fixed(2)),
    f("timeout_ms", Fixed(4)),
    f(
        "topic_data",
        Structs(&[
            f("name", Text).until(12),
            f("topic_id", Fixed(16)).since(13),
            f("partition_data", Structs(&[f("index", Fixed(4)), f("records", Blob).null(3)])),
        ]),
    ),
];

pub(super) const FETCH: Fields = &[
    f("cluster_id", Text).tag(0).since(12).null(12),
    f("replica_id", Fixed(4)).until(14),
    f("replica_state", Struct(&[f("replica_id", Fixed(4)).since(15), f("replica_epoch", Fixed(8)).since(15)]))
        .tag(1)
        .since(15),
    f("max_wait_ms", Fixed(4)),
    f("min_bytes", Fixed(4)),
    f("max_bytes", Fixed(4)),
    f("isolation_level", Fixed(1)),
    f("session_id", Fixed(4)).since(7),
    f("session_epoch", Fixed(4)).since(7),
    f(
        "topics",
        Structs(&[
            f("topic", Text).until(12),
            f("topic_id", Fixed(16)).since(13),
            f(
                "partitions",
                Structs(&[
                    f("partition", Fixed(4)),
                    f("current_leader_epoch", Fixed(4)).since(9),
                    f("fetch_offset", Fixed(8)),
                    f("last_fetched_epoch", Fixed(4)).since(12),
                    f("log_start_offset", Fixed(8)).since(5),
                    f("partition_max_bytes", Fixed(4)),
                    f("replica_directory_id", Fixed(16)).tag(0).since(17),
                    f("high_watermark", Fixed(8)).tag(1).since(18),
                ]),
            ),
        ]),
    ),
    f(
        "forgotten_topics_data",
        Structs(&[
            f("topic", Text).since(7).until(12),
            f("topic_id", Fixed(16)).since(13),
            f("partitions", List(&Fixed(4))).since(7),
        ]),
    )
    .since(7),
    f("rack_id", Text).since(11),
];

pub(super) const LIST_OFFSETS: Fields = &[
    f("replica_id", Fixed(4)),
    f("isolation_level", Fixed(1)).since(2),
    f(
        "topics",
        Structs(&[
            f("name", Text),
            f(
                "partitions",
                Structs(&[
                    f("partition_index", Fixed(4)),
                    f("current_leader_epoch", Fixed(4)).since(4),
                    f("timestamp", Fixed(8)),
                ]),
            ),
        ]),
    ),
    f("timeout_ms", Fixed(4)).since(10),
];

pub(super) const METADATA: Fields = &[
    f("topics", Structs(&[f("topic_id", Fixed(16)).since(10), f("name", Text).null(10)])).null(1),
    f("allow_auto_topic_creation", Fixed(1)).since(4),
    f("include_cluster_authorized_operations", Fixed(1)).since(8).until(10),
    f("include_topic_authorized_operations", Fixed(1)).since(8),
];

pub(super) const OFFSET_COMMIT: Fields = &[
    f("group_id", Text),
    f("generation_id_or_member_epoch", Fixed(4)),
    f("member_id", Text),
    f("group_instance_id", Text).since(7).null(7),
    f("retention_time_ms", Fixed(8)).until(4),
    f(
        "topics",
        Structs(&[
            f("name", Text).until(9),
            f("topic_id", Fixed(16)).since(10),
            f(
                "partitions",
                Structs(&[
                    f("partition_index", Fixed(4)),
                    f("committed_offset", Fixed(8)),
                    f("committed_leader_epoch", Fixed(4)).since(6),
                    f("committed_metadata", Text).null(2),
                ]),
            ),
        ]),
    ),
];

pub(super) const OFFSET_FETCH: Fields = &[
    f("group_id", Text).until(7),
    f("topics", Structs(&[f("name", Text).until(7), f("partition_indexes", List(&Fixed(4))).until(7)]))
        .until(7)
        .null(2),
    f(
        "groups",
        Structs(&[
            f("group_id", Text).since(8),
            f("member_id", Text).since(9).null(9),
            f("member_epoch", Fixed(4)).since(9),
            f(
                "topics",
                Structs(&[
                    f("name", Text).since(8).until(9),
                    f("topic_id", Fixed(16)).since(10),
                    f("partition_indexes", List(&Fixed(4))).since(8),
                ]),
            )
            .since(8)
            .null(8),
        ]),
    )
    .since(8),
    f("require_stable", Fixed(1)).since(7),
];

pub(super) const FIND_COORDINATOR: Fields =
    &[f("key", Text).until(3), f("key_type", Fixed(1)).since(1), f("coordinator_keys", List(&Text)).since(4)];

pub(super) const JOIN_GROUP: Fields = &[
    f("group_id", Text),
    f("session_timeout_ms", Fixed(4)),
    f("rebalance_timeout_ms", Fixed(4)).since(1),
    f("member_id", Text),
    f("group_instance_id", Text).since(5).null(5),
    f("protocol_type", Text),
    f("protocols", Structs(&[f("name", Text), f("metadata", Blob)])),
    f("reason", Text).since(8).null(8),
];

pub(super) const HEARTBEAT: Fields = &[
    f("group_id", Text),
    f("generation_id", Fixed(4)),
    f("member_id", Text),
    f("group_instance_id", Text).since(3).null(3),
];

pub(super) const LEAVE_GROUP: Fields = &[
    f("group_id", Text),
    f("member_id", Text).until(2),
    f(
        "members",
        Structs(&[
            f("member_id", Text).since(3),
            f("group_instance_id", Text).since(3).null(3),
            f("reason", Text).since(5).null(5),
        ]),
    )
    .since(3),
];

pub(super) const SYNC_GROUP: Fields = &[
    f("group_id", Text),
    f("generation_id", Fixed(4)),
    f("member_id", Text),
    f("group_instance_id", Text).since(3).null(3),
    f("protocol_type", Text).since(5).null(5),
    f("protocol_name", Text).since(5).null(5),
    f("assignments", Structs(&[f("member_id", Text), f("assignment", Blob)])),
];

pub(super) const DESCRIBE_GROUPS: Fields =
    &[f("groups", List(&Text)), f("include_authorized_operations", Fixed(1)).since(3)];

pub(super) const LIST_GROUPS: Fields =
    &[f("states_filter", List(&Text)).since(4), f("types_filter", List(&Text)).since(5)];

pub(super) const API_VERSIONS: Fields =
    &[f("client_software_name", Text).since(3), f("client_software_version", Text).since(3)];

pub(super) const CREATE_TOPICS: Fields = &[
    f(
        "topics",
        Structs(&[
            f("name", Text),
            f("num_partitions", Fixed(4)),
            f("replication_factor", Fixed(2)),
            f("assignments", Structs(&[f("partition_index", Fixed(4)), f("broker_ids", List(&Fixed(4)))])),
            f("configs", Structs(&[f("name", Text), f("value", Text).null(2)])),
        ]),
    ),
    f("timeout_ms", Fixed(4)),
    f("validate_only", Fixed(1)),
];

pub(super) const DELETE_TOPICS: Fields = &[
    f("topics", Structs(&[f("name", Text).since(6).null(6), f("topic_id", Fixed(16)).since(6)])).since(6),
    f("topic_names", List(&Text)).until(5),
    f("timeout_ms", Fixed(4)),
];

pub(super) const DELETE_RECORDS: Fields = &[
    f(
        "topics",
        Structs(&[f("name", Text), f("partitions", Structs(&[f("partition_index", Fixed(4)), f("offset", Fixed(8))]))]),
    ),
    f("timeout_ms", Fixed(4)),
];

pub(super) const INIT_PRODUCER_ID: Fields = &[
    f("transactional_id", Text).null(0),
    f("transaction_timeout_ms", Fixed(4)),
    f("producer_id", Fixed(8)).since(3),
    f("producer_epoch", Fixed(2)).since(3),
];

pub(super) const OFFSET_FOR_LEADER_EPOCH: Fields = &[
    f("replica_id", Fixed(4)).since(3),
    f(
        "topics",
        Structs(&[
            f("topic", Text),
            f(
                "partitions",
                Structs(&[f("partition", Fixed(4)), f("current_leader_epoch", Fixed(4)), f("leader_epoch", Fixed(4))]),
            ),
        ]),
    ),
];

pub(super) const DESCRIBE_CONFIGS: Fields = &[
    f(
        "resources",
        Structs(&[
            f("resource_type", Fixed(1)),
            f("resource_name", Text),
            f("configuration_keys", List(&Text)).null(1),
        ]),
    ),
    f("include_synonyms", Fixed(1)),
    f("include_documentation", Fixed(1)).since(3),
];

pub(super) const ALTER_CONFIGS: Fields = &[
    f(
        "resources",
        Structs(&[
            f("resource_type", Fixed(1)),
            f("resource_name", Text),
            f("configs", Structs(&[f("name", Text), f("value", Text).null(0)])),
        ]),
    ),
    f("validate_only", Fixed(1)),
];

pub(super) const DESCRIBE_LOG_DIRS: Fields =
    &[f("topics", Structs(&[f("topic", Text), f("partitions", List(&Fixed(4)))])).null(1)];

pub(super) const CREATE_PARTITIONS: Fields = &[
    f(
        "topics",
        Structs(&[
            f("name", Text),
            f("count", Fixed(4)),
            f("assignments", Structs(&[f("broker_ids", List(&Fixed(4)))])).null(0),
        ]),
    ),
    f("timeout_ms", Fixed(4)),
    f("validate_only", Fixed(1)),
];

pub(super) const DELETE_GROUPS: Fields = &[f("groups_names", List(&Text))];

pub(super) const ELECT_LEADERS: Fields = &[
    f("election_type", Fixed(1)).since(1),
    f("topic_partitions", Structs(&[f("topic", Text), f("partitions", List(&Fixed(4)))])).null(0),
    f("timeout_ms", Fixed(4)),
];

pub(super) const INCREMENTAL_ALTER_CONFIGS: Fields = &[
    f(
        "resources",
        Structs(&[
            f("resource_type", Fixed(1)),
            f("resource_name", Text),
            f("configs", Structs(&[f("name", Text), f("config_operation", Fixed(1)), f("value", Text).null(0)])),
        ]),
    ),
    f("validate_only", Fixed(1)),
];

pub(super) const ALTER_PARTITION_REASSIGNMENTS: Fields = &[
    f("timeout_ms", Fixed(4)),
    f("allow_replication_factor_change", Fixed(1)).since(1),
    f(
        "topics",
        Structs(&[
            f("name", Text),
            f("partitions", Structs(&[f("partition_index", Fixed(4)), f("replicas", List(&Fixed(4))).null(0)])),
        ]),
    ),
];

pub(super) const LIST_PARTITION_REASSIGNMENTS: Fields = &[
    f("timeout_ms", Fixed(4)),
    f("topics", Structs(&[f("name", Text), f("partition_indexes", List(&Fixed(4)))])).null(0),
];

pub(super) const OFFSET_DELETE: Fields = &[
    f("group_id", Text),
    f("topics", Structs(&[f("name", Text), f("partitions", Structs(&[f("partition_index", Fixed(4))]))])),
];

pub(super) const DESCRIBE_CLUSTER: Fields = &[
    f("include_cluster_authorized_operations", Fixed(1)),
    f("endpoint_type", Fixed(1)).since(1),
    f("include_fenced_brokers", Fixed(1)).since(2),
];

pub(super) const DESCRIBE_PRODUCERS: Fields =
    &[f("topics", Structs(&[f("name", Text), f("partition_indexes", List(&Fixed(4)))]))];

pub(super) const LIST_CONFIG_RESOURCES: Fields = &[f("resource_types", List(&Fixed(1))).since(1)];

pub(super) const DESCRIBE_TOPIC_PARTITIONS: Fields = &[
    f("topics", Structs(&[f("name", Text)])),
    f("response_partition_limit", Fixed(4)),
    f("cursor", OptionStruct(&[f("topic_name", Text), f("partition_index", Fixed(4))])),
];

pub(super) const UNREGISTER_BROKER: Fields = &[f("broker_id", Fixed(4))];

pub(super) const SASL_HANDSHAKE: Fields = &[f("mechanism", Text)];

pub(super) const SASL_AUTHENTICATE: Fields = &[f("auth_bytes", Blob)];

/// Which rules: DescribeAcls has one filter, DeleteAcls several.
const ACL_FILTER: Fields = &[
    f("resource_type_filter", Fixed(1)),
    f("resource_name_filter", Text).null(1),
    f("pattern_type_filter", Fixed(1)),
    f("principal_filter", Text).null(1),
    f("host_filter", Text).null(1),
    f("operation", Fixed(1)),
    f("permission_type", Fixed(1)),
];

pub(super) const DESCRIBE_ACLS: Fields = ACL_FILTER;

pub(super) const CREATE_ACLS: Fields = &[f(
    "creations",
    Structs(&[
        f("resource_type", Fixed(1)),
        f("resource_name", Text),
        f("resource_pattern_type", Fixed(1)),
        f("principal", Text),
        f("host", Text),
        f("operation", Fixed(1)),
        f("permission_type", Fixed(1)),
    ]),
)];

pub(super) const DELETE_ACLS: Fields = &[f("filters", Structs(ACL_FILTER))];

pub(super) const ALTER_REPLICA_LOG_DIRS: Fields = &[f(
    "dirs",
    Structs(&[f("path", Text), f("topics", Structs(&[f("name", Text), f("partitions", List(&Fixed(4)))]))]),
)];

const PRINCIPAL: Fields = &[f("principal_type", Text), f("principal_name", Text)];

pub(super) const CREATE_DELEGATION_TOKEN: Fields = &[
    f("owner_principal_type", Text).since(3).null(3),
    f("owner_principal_name", Text).since(3).null(3),
    f("renewers", Structs(PRINCIPAL)),
    f("max_lifetime_ms", Fixed(8)),
];

pub(super) const RENEW_DELEGATION_TOKEN: Fields = &[f("hmac", Blob), f("renew_period_ms", Fixed(8))];

pub(super) const EXPIRE_DELEGATION_TOKEN: Fields = &[f("hmac", Blob), f("expiry_time_period_ms", Fixed(8))];

pub(super) const DESCRIBE_DELEGATION_TOKEN: Fields = &[f("owners", Structs(PRINCIPAL)).null(1)];

pub(super) const DESCRIBE_CLIENT_QUOTAS: Fields = &[
    f("components", Structs(&[f("entity_type", Text), f("match_type", Fixed(1)), f("match", Text).null(0)])),
    f("strict", Fixed(1)),
];

pub(super) const DESCRIBE_USER_SCRAM_CREDENTIALS: Fields = &[f("users", Structs(&[f("name", Text)])).null(0)];
