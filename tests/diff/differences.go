package main

// The differences between Apache Kafka and this broker that are wanted. Each is printed at the end of a run with how
// often it occurred; one that no longer occurs fails the run. Patterns are regular expressions of the whole text, an
// empty one takes all, but an empty `path` only fields of an answer, and not what became of the connection; `path` has []
// for every number of an element. `here` is what this broker answers, wherever that can be told beforehand.
var differences = []entry{
	// what is served
	{id: "fewer-apis", api: "ApiVersions", path: `ApiKeys\.length`, here: "46",
		reason: "each API that Kafka has and this broker has not is in the table of APIs (apis.go), with the reason"},
	{id: "fewer-features", api: "ApiVersions", path: `(Supported|Finalized)Features(\.length|\[\]\..*)`, here: `1|"metadata\.version"|7|30`,
		reason: "features of what is not served are not announced; metadata.version is, for tools that ask"},
	{id: "no-transactions", api: "InitProducerID", label: "transactional id", path: "ErrorCode|ProducerID|ProducerEpoch", here: "53|-1",
		reason: "transactions wait for their own issue; TRANSACTIONAL_ID_AUTHORIZATION_FAILED is what clients do not retry"},

	// creation of topics
	{id: "auto-create-at-once", api: "Metadata", label: "(missing|odd|authorized operations), created", path: `Topics\[\]\.(ErrorCode|TopicID|Partitions\.length)`, here: "0|<id 1 of .*>|1",
		reason: "a topic that is created on demand is there at once, Kafka says UNKNOWN_TOPIC_OR_PARTITION first"},
	{id: "replication-factor", api: "CreateTopics", label: "more replicas than brokers.*",
		path: `Topics\[\]\.(ErrorCode|ErrorMessage|TopicID|NumPartitions|ReplicationFactor|Configs\.length)`, here: "0|null|<id [12] of .*>|1|2|3|33",
		reason: "the store replicates: factors up to 3 are taken whatever the number of brokers, since tools insist on 3"},
	{id: "internal-names", api: "CreateTopics", label: "name.*", path: `Topics\[\]\.Error(Code|Message)`, kafka: `36|"Topic '__transaction_state' already exists\."`,
		here:   `17|"Topic name is invalid: '__transaction_state' is an internal topic.*"`,
		reason: "the internal topics' names are reserved, the topics need not exist; this one does not"},

	// configs
	{id: "no-elr", api: "CreateTopics|DescribeConfigs", path: `.*Configs\[min\.insync\.replicas\]\.(Source|ConfigSynonyms.*)`, here: "DEFAULT_CONFIG|DYNAMIC_TOPIC_CONFIG|5|1|2",
		reason: "with eligible leader replicas Kafka writes min.insync.replicas=1 as a cluster default when it formats; there are none here"},
	{id: "no-elr-default", api: "DescribeConfigs", label: "cluster defaults", path: `Resources\[\]\.Configs\.length`, here: "none",
		reason: "the same: Kafka's cluster defaults begin with min.insync.replicas"},
	{id: "resource-twice", api: "AlterConfigs", label: "twice a resource", path: `\(connection\)`, kafka: "no answer", here: "answered with error 42",
		reason: "INVALID_REQUEST; Kafka never answers"},
	{id: "own-documentation", api: "DescribeConfigs", path: `.*\.Documentation`, here: `".+"`,
		reason: "the documentation is in own words, and says what a config means here"},
	{id: "unknown-operation", api: "IncrementalAlterConfigs", label: "an operation that is none", path: `Resources\[\]\.Error(Code|Message)`, here: `42|"Unknown operation type 4"`,
		reason: "INVALID_REQUEST with a sentence where Kafka fails with UNKNOWN_SERVER_ERROR"},

	{id: "broker-of-its-own", api: "DescribeConfigs", label: `broker: (advertised\.listeners|listeners|listener\.security\.protocol\.map|log\.dirs|process\.roles|group\.coordinator\.rebalance\.protocols)`, path: `Resources\[\]\.Configs\[.*\]\..*`,
		reason: "addresses, folder, role and protocols are the broker's own"},
	{id: "send-buffer", api: "DescribeConfigs", label: `broker: socket\.send\.buffer\.bytes`, path: `.*\.Value`, kafka: `"102400"`, here: `"262144"`,
		reason: "256 KiB instead of 100: consumers read faster; the setting itself is Kafka's"},
	{id: "oracle-settings", api: "DescribeConfigs", label: `broker: (offsets|transaction\.state\.log)\.?.*(replication\.factor|min\.isr)`,
		path: `.*\.(Value|Source|ConfigSynonyms\.length)`, here: `"3"|"2"|DEFAULT_CONFIG|5|1`,
		reason: "the Kafka of this test is set to one replica"},
	{id: "not-dynamic", api: "DescribeConfigs|IncrementalAlterConfigs", label: `broker: sasl\.enabled\.mechanisms|".*`,
		path:     `Resources\[\]\.(Error(Code|Message)|Configs\[sasl\.enabled\.mechanisms\]\.ReadOnly)`,
		here:     `true|0|null|42|"Cannot update these configs dynamically: .*"|40|"Config value append is not allowed for config key: .*"`,
		scenario: `describe-configs/.*|broker-config/(super\.users|allow\.everyone\.if\.no\.acl\.found|sasl\.enabled\.mechanisms|listeners|listener\.security\.protocol\.map|process\.roles)`,
		reason:   "listeners and security are settings of the start here; Kafka lets some be changed, or stores what it does not know"},
	{id: "threads", api: "IncrementalAlterConfigs", scenario: `broker-config/(background\.threads|num\..*threads|log\.cleaner\.threads|log\.cleaner\.dedupe\.buffer\.size)`, here: "0|null",
		reason: "numbers of threads and the cleaner's buffer have no effect here, so no step is too large (and none is a division by zero)"},
	{id: "local-retention", api: "IncrementalAlterConfigs", scenario: `broker-config/log\.local\.retention\.ms`, here: "0|null",
		reason: "nothing is tiered: local retention has no effect, and is not held against that of the log"},
	{id: "no-elr-change", api: "IncrementalAlterConfigs", scenario: `broker-config/min\.insync\.replicas`, here: "0|null",
		reason: "without eligible leader replicas min.insync.replicas may be changed anywhere"},

	// metadata by bad requests
	{id: "metadata-neither", api: "Metadata", version: "12|13", label: "by neither",
		path: `Brokers\.length|ClusterID|ControllerID|ErrorCode|Topics\[\]\.(ErrorCode|Topic)`, here: "1|<cluster-1>|0|42|null",
		reason: "a topic without name and id is INVALID_REQUEST for itself; Kafka fails with UNKNOWN_SERVER_ERROR as a whole"},
	{id: "bad-names-are-told", api: "DescribeTopicPartitions", label: "bad names", path: `Topics\[\]\.(ErrorCode|Topic|AuthorizedOperations)`, here: `17|"(a.*|x+|é)"|3576`,
		reason: "INVALID_TOPIC_EXCEPTION for each bad name; Kafka fails with UNKNOWN_SERVER_ERROR as a whole"},

	// lists that name something twice or nothing
	{id: "directory-size", api: "DescribeLogDirs", path: `Dirs\[\]\.(Total|Usable)Bytes`, kafka: "> 0", here: "-1",
		reason: "a bucket has no size"},

	// batches
	{id: "forgotten-duplicates", api: "Produce", label: "duplicate", path: `Topics\[\]\.Partitions\[\]\.ErrorCode`, kafka: "45", here: "46",
		reason: "a batch older than the five that are remembered, and certainly written: DUPLICATE_SEQUENCE_NUMBER, a success to clients; at Kafka's OUT_OF_ORDER_SEQUENCE_NUMBER its own producer asks again for ever"},
	{id: "offset-deltas", api: "Produce", label: ".*inner deltas", path: `Topics\[\]\.Partitions\[\]\.(ErrorCode|BaseOffset)`, here: "87|-1",
		reason: "records whose offset deltas are not 0, 1, 2, … are refused; Kafka stores them as they are when uncompressed. Here an offset belongs to one record for ever"},
	{id: "null-records", api: "Produce", label: "null records", path: `\(connection\)`, kafka: "no answer", here: "answered with error 87",
		reason: "INVALID_RECORD; Kafka never answers"},
	{id: "undecodable-is-told", api: "Produce", label: ".*(that is none|unknown codec.*|length 2147483647)", path: `Topics\[\]\.Partitions\[\]\.(ErrorCode|LogStartOffset)`, kafka: "-1", here: "76|87|0",
		reason: "INVALID_RECORD and UNSUPPORTED_COMPRESSION_TYPE where Kafka fails with UNKNOWN_SERVER_ERROR"},

	// reading
	{id: "isolation", api: "Fetch", label: "of an isolation that is none",
		path: `ErrorCode|Topics\.length|Topics\[\]\.Partitions\[\]\.(ErrorCode|.*Offset|HighWatermark|AbortedTransactions\.length|RecordBatches\.length)`, here: "0|1|9|none|3",
		reason: "read as read_uncommitted; Kafka fails with UNKNOWN_SERVER_ERROR"},
	{id: "not-utf-8", api: "Metadata", label: ".* that is not UTF-8", path: `\(connection\)`, here: "closed",
		reason: "text that is not UTF-8 is refused; Kafka reads replacement characters into it"},
	{id: "negative-length", api: "Metadata", label: "array of negative length", path: `\(connection\)`, here: "closed",
		reason: "a length below -1 is refused; Kafka reads it as null"},
	{id: "negative-sizes", api: "Fetch", label: "at most -?[0-9]+, -1 a partition.*",
		path: `Topics\[\]\.Partitions\[\]\.(ErrorCode|.*Offset|HighWatermark|RecordBatches\.length)`, here: "0|4|1",
		reason: "a negative size counts as zero; Kafka fails with UNKNOWN_SERVER_ERROR"},
	{id: "followers-epochs", api: "Fetch", label: "last fetched epoch of the future",
		path: `Topics\[\]\.Partitions\[\]\.(ErrorCode|.*Offset|HighWatermark|RecordBatches\.length)`, here: "0|9|1",
		reason: "only followers send a last fetched epoch, and there are none"},

	{id: "deleted-in-a-session", api: "Fetch", scenario: "deleted-topic/.*", label: "(gone|made again): session", path: `Topics\[\]\.Partitions\[\]\.(ErrorCode|AbortedTransactions\.length)`, here: "100|0",
		reason: "the id of a deleted topic is UNKNOWN_TOPIC_ID in a session too; Kafka's session remembers the name and says UNKNOWN_TOPIC_OR_PARTITION or INCONSISTENT_TOPIC_ID. Clients do the same on all three"},

	// limits
	{id: "too-many-new-partitions", api: "CreatePartitions", label: "grow to .*", path: `Topics\[\]\.Error(Code|Message)`, kafka: "-1|null", here: `44|"Excessively.*"`,
		reason: "POLICY_VIOLATION with Kafka's own sentence for topics; Kafka fails with UNKNOWN_SERVER_ERROR"},
	{id: "long-message", api: "CreateTopics", label: "new topic of 32767 bytes", path: `Topics\[\]\.Error(Code|Message)`, kafka: "-1|null", here: `17|"Topic name is invalid: the length of 'x+' .*"`,
		reason: "INVALID_TOPIC_EXCEPTION; Kafka's sentence gets too long with the name in it, and it fails with UNKNOWN_SERVER_ERROR"},
	{id: "long-group-names", label: `(m: )?"z+" of 9000.*|group of 32767 bytes`, here: `24|-1|null|none|""|0x`,
		reason: "INVALID_GROUP_ID above 8 KiB, so that names can't fill the memory; Kafka takes 32767 bytes"},
	{id: "frame-caps", scenario: "limits/frames", label: "long, without records", kafka: "waits", here: "closed",
		reason: "requests without records have lengths of their own, at most 4 MiB, that are refused at once; Kafka waits for up to socket.request.max.bytes of anything"},
	{id: "undecodable-subscription", api: "JoinGroup", label: "consumer subscribes to (no subscription|cut)", path: `\(connection\)`, kafka: "no answer", here: "answered",
		reason: "a consumer whose subscription nobody can read joins, and gets an assignment from its leader; Kafka never answers"},

	// frames
	{id: "work-overlaps", api: "Fetch", scenario: "frames/pipelined", label: "request 0.*",
		path: `\(answered\)|Topics\[\]\.Partitions\[\]\.(HighWatermark|LastStableOffset|RecordBatches\.length)`, kafka: "false|1|0", here: "true|3|1",
		reason: "a produce is taken while a fetch before it waits, and wakes it; answers keep their order. Kafka takes one request of a connection at a time"},
}

// The lists whose order Kafka leaves to a hash map. They are compared as sets.
var sets = []set{
	{"Metadata", "Topics", "Kafka answers in the order of a hash set"},
	{"DeleteTopics", "Topics", "Kafka shuffles them on purpose"},
	{"CreateTopics", "Topics", "Kafka answers in the order of a hash map"},
	{"CreatePartitions", "Topics", "Kafka answers in the order of a hash map"},
	{"DeleteRecords", "Topics|Partitions", "Kafka answers in the order of a hash map"},
	{"ElectLeaders", "Topics|Partitions", "Kafka answers in the order of a hash map"},
	{"Produce", "Topics|Partitions", "Kafka answers in the order of a hash map"},
	{"ListOffsets", "Topics|Partitions", "Kafka answers in the order of a hash map, wrong rows first"},
	{"DescribeProducers", "ActiveProducers", "Kafka answers in the order of a hash map"},
	{"DescribeGroups|DeleteGroups|ListGroups", "Groups", "Kafka answers in the order of coordinator shards"},
	{"OffsetFetch", "Groups|Topics|Partitions", "Kafka answers in the order of a hash map"},
	{"OffsetCommit|OffsetDelete", "Topics|Partitions", "Kafka answers in the order of a hash map"},
	{"FindCoordinator", "Coordinators", "Kafka answers in the order of a set"},
	{"DescribeConfigs", "Configs|Resources", "Kafka answers in the order of a hash map"},
	{"CreateTopics", "Configs", "Kafka answers in the order of a hash map"},
	{"AlterConfigs|IncrementalAlterConfigs", "Resources", "Kafka answers in the order of a hash map"},
	{"ListConfigResources", "ConfigResources", "Kafka answers in the order of hash sets"},
	{"AlterReplicaLogDirs", "Topics|Partitions", "Kafka answers in the order of a hash map"},
	{"DescribeUserSCRAMCredentials", "Results", "Kafka answers in the order of a hash map"},
	{"DescribeLogDirs", "Topics|Partitions", "Kafka answers in the order of a hash map"},
}
