package main

// The differences between Apache Kafka and this broker that are wanted. Each is printed at the end of a run with how
// often it occurred; one that no longer occurs fails the run. `path` has [] for every index.
var differences = []entry{}

// The lists whose order Kafka leaves to a hash map. They are compared as sets.
var sets = []set{
	{"Metadata", "Topics", "Kafka answers in the order of a hash set"},
	{"DeleteTopics", "Topics", "Kafka shuffles them on purpose"},
	{"CreateTopics", "Topics", "Kafka answers in the order of a hash map"},
	{"CreatePartitions", "Topics", "Kafka answers in the order of a hash map"},
	{"DeleteRecords", "Partitions", "Kafka answers in the order of a hash map"},
	{"DeleteRecords", "Topics", "Kafka answers in the order of a hash map"},
	{"ElectLeaders", "Topics|Partitions", "Kafka answers in the order of a hash map"},
	{"Produce", "Topics|Partitions", "Kafka answers in the order of a hash map"},
	{"DescribeProducers", "ActiveProducers", "Kafka answers in the order of a hash map"},
	{"DescribeConfigs", "Configs|Resources", "Kafka answers in the order of a hash map"},
	{"CreateTopics", "Configs", "Kafka answers in the order of a hash map"},
	{"AlterConfigs|IncrementalAlterConfigs", "Resources", "Kafka answers in the order of a hash map"},
	{"ListConfigResources", "ConfigResources", "Kafka answers in the order of hash sets"},
	{"DescribeLogDirs", "Topics|Partitions", "Kafka answers in the order of a hash map"},
}
