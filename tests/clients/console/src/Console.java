import java.nio.file.Files;
import java.nio.file.Path;

/** Kafka's console tools, as a user calls them. BOOTSTRAP names the broker, LEVEL is full or smoke. */
public final class Console {
    private static final String TOOLS = "org.apache.kafka.tools.";
    private static final String TOPICS = TOOLS + "TopicCommand";
    private static final String PRODUCER = TOOLS + "ConsoleProducer";
    private static final String CONSUMER = TOOLS + "consumer.ConsoleConsumer";
    private static final String GROUPS = TOOLS + "consumer.group.ConsumerGroupCommand";
    private static final String ALL_GROUPS = TOOLS + "GroupsCommand";
    private static final String CONFIGS = "kafka.admin.ConfigCommand";
    private static final String OFFSETS = TOOLS + "GetOffsetShell";
    private static final String DELETE_RECORDS = TOOLS + "DeleteRecordsCommand";
    private static final String PRODUCER_PERF = TOOLS + "ProducerPerformance";
    private static final String CONSUMER_PERF = TOOLS + "ConsumerPerformance";
    private static final String LATENCY = TOOLS + "EndToEndLatency";
    private static final String LOG_DIRS = TOOLS + "LogDirsCommand";
    private static final String API_VERSIONS = TOOLS + "BrokerApiVersionsCommand";
    private static final String CLUSTER = TOOLS + "ClusterTool";
    private static final String ELECTION = TOOLS + "LeaderElectionCommand";
    private static final String REASSIGN = TOOLS + "reassign.ReassignPartitionsCommand";

    private final Tools tools = new Tools();

    public static void main(String[] args) {
        Console console = new Console();
        console.checks();
        console.tools.end();
    }

    private void checks() {
        tools.smoke("cluster_id", this::clusterId);
        tools.smoke("api_versions", this::apiVersions);
        tools.smoke("topics_create_list_describe", this::topics);
        tools.full("topics_alter_and_delete", this::alterAndDelete);
        tools.full("topics_refusals", this::topicRefusals);
        tools.smoke("produce_and_consume", this::produceAndConsume);
        tools.full("keys_headers_nulls", this::keysHeadersNulls);
        tools.full("codecs", this::codecs);
        tools.smoke("consume_with_a_group", this::consumeWithGroup);
        tools.smoke("groups_list_and_describe", this::groups);
        tools.smoke("groups_reset_offsets", this::resetOffsets);
        tools.full("groups_reset_offsets_by_time", this::resetByTime);
        tools.full("groups_delete_offsets", this::deleteOffsets);
        tools.smoke("groups_delete", this::deleteGroup);
        tools.smoke("get_offsets", this::offsets);
        tools.smoke("delete_records", this::deleteRecords);
        tools.smoke("configs_of_topics", this::topicConfigs);
        tools.full("configs_of_brokers", this::brokerConfigs);
        tools.smoke("perf_producer_and_consumer", this::perf);
        tools.full("perf_end_to_end_latency", this::latency);
        tools.full("log_dirs", this::logDirs);
        tools.full("leader_election", this::leaderElection);
        tools.full("reassign_partitions", this::reassign);
    }

    private String topic(String stem, int partitions) throws Exception {
        String topic = tools.name(stem);
        tools.run(TOPICS, "--create", "--topic", topic, "--partitions", "" + partitions).good();
        return topic;
    }

    /** A topic of one partition with the records v0…v<count-1>. */
    private String filled(String stem, int count) throws Exception {
        String topic = topic(stem, 1);
        StringBuilder lines = new StringBuilder();
        for (int i = 0; i < count; i++) lines.append("v").append(i).append('\n');
        tools.feed(lines.toString(), PRODUCER, "--topic", topic).good();
        return topic;
    }

    private Tools.Result consume(String topic, int count, String... more) throws Exception {
        String[] args = new String[more.length + 6];
        System.arraycopy(new String[] {"--topic", topic, "--timeout-ms", "20000", "--max-messages", "" + count}, 0, args, 0, 6);
        System.arraycopy(more, 0, args, 6, more.length);
        return tools.run(CONSUMER, args);
    }

    private void clusterId() throws Exception {
        tools.call("", CLUSTER, "cluster-id", "--bootstrap-server", tools.bootstrap).good()
                .matches("^Cluster ID: [A-Za-z0-9_-]{22}$");
        tools.call("", CLUSTER, "list-endpoints", "--bootstrap-server", tools.bootstrap).good()
                .matches("127\\.0\\.0\\.1 +" + tools.bootstrap.split(":")[1]);
    }

    private void apiVersions() throws Exception {
        tools.run(API_VERSIONS).good().says(tools.bootstrap + " (id: ").says("Produce(0): 0 to 13 [usable: 13]")
                .matches("Fetch\\(1\\): 4 to \\d+ \\[usable: \\d+\\]").matches("JoinGroup\\(11\\): 0 to 9 ")
                .matches("OffsetCommit\\(8\\): 2 to 10 ");
    }

    private void topics() throws Exception {
        String topic = tools.name("topics");
        tools.run(TOPICS, "--create", "--topic", topic, "--partitions", "3", "--replication-factor", "1",
                "--config", "retention.ms=100000").good().lines("Created topic " + topic + ".");
        tools.run(TOPICS, "--list").good().matches("^" + topic + "$");
        tools.run(TOPICS, "--describe", "--topic", topic).good().says("PartitionCount: 3")
                .says("ReplicationFactor: 1").says("retention.ms=100000").matches("TopicId: [A-Za-z0-9_-]{22}\t")
                .matches("Topic: " + topic + "\tPartition: 2\tLeader: (\\d+)\tReplicas: \\1\tIsr: \\1\t");
    }

    private void alterAndDelete() throws Exception {
        String topic = topic("alter", 1);
        tools.run(TOPICS, "--alter", "--topic", topic, "--partitions", "4").good();
        tools.run(TOPICS, "--describe", "--topic", topic).good().says("PartitionCount: 4");
        tools.run(TOPICS, "--describe", "--topic", topic, "--under-replicated-partitions").good().lines();
        tools.run(TOPICS, "--describe", "--topic", topic, "--unavailable-partitions").good().lines();
        tools.run(TOPICS, "--create", "--topic", topic, "--if-not-exists").good();
        tools.run(TOPICS, "--delete", "--topic", topic).good();
        tools.run(TOPICS, "--list").good().lacks(topic);
        tools.run(TOPICS, "--delete", "--topic", topic, "--if-exists").good();
    }

    private void topicRefusals() throws Exception {
        String topic = topic("refusals", 2);
        tools.run(TOPICS, "--create", "--topic", topic).bad("already exists");
        tools.run(TOPICS, "--alter", "--topic", topic, "--partitions", "2").bad("already has 2 partition");
        tools.run(TOPICS, "--alter", "--topic", topic, "--partitions", "1").bad("would not be an increase");
        tools.run(TOPICS, "--create", "--topic", tools.name("rf"), "--replication-factor", "4")
                .bad("Unable to replicate the partition 4 time(s)");
        tools.run(TOPICS, "--create", "--topic", tools.name("cfg"), "--config", "retention.ms=soon").bad("retention.ms");
        tools.run(TOPICS, "--describe", "--topic", tools.name("no-such")).bad("does not exist as expected");
        tools.run(TOPICS, "--delete", "--topic", tools.name("no-such")).bad("does not exist as expected");
    }

    private void produceAndConsume() throws Exception {
        String topic = filled("plain", 5);
        consume(topic, 5, "--from-beginning").good().lines("v0", "v1", "v2", "v3", "v4").says("Processed a total of 5");
        consume(topic, 2, "--partition", "0", "--offset", "3", "--formatter-property", "print.offset=true")
                .good().lines("Offset:3\tv3", "Offset:4\tv4");
    }

    private void keysHeadersNulls() throws Exception {
        String topic = topic("shapes", 1);
        tools.feed("h1:a,h2:b\tk0\tv0\nNULL\tk1\tNULL\n", PRODUCER, "--topic", topic, "--reader-property", "parse.key=true",
                "--reader-property", "parse.headers=true", "--reader-property", "null.marker=NULL").good();
        consume(topic, 2, "--from-beginning", "--formatter-property", "print.key=true",
                "--formatter-property", "print.headers=true", "--formatter-property", "print.partition=true",
                "--formatter-property", "null.literal=nothing").good()
                .lines("Partition:0\th1:a,h2:b\tk0\tv0", "Partition:0\tNO_HEADERS\tk1\tnothing");
    }

    private void codecs() throws Exception {
        String topic = topic("codecs", 1);
        for (String codec : new String[] {"none", "gzip", "snappy", "lz4", "zstd"}) {
            tools.feed(codec + "\n", PRODUCER, "--topic", topic, "--compression-codec", codec).good();
        }
        consume(topic, 5, "--from-beginning").good().lines("none", "gzip", "snappy", "lz4", "zstd");
    }

    private void consumeWithGroup() throws Exception {
        String topic = filled("grouped", 6);
        String group = tools.name("grouped");
        consume(topic, 4, "--from-beginning", "--group", group).good().lines("v0", "v1", "v2", "v3");
        consume(topic, 2, "--from-beginning", "--group", group).good().lines("v4", "v5");
    }

    /** A group that has read all records of a topic. */
    private String group(String topic, int count) throws Exception {
        consume(topic, count, "--from-beginning", "--group", topic).good();
        return topic;
    }

    private void groups() throws Exception {
        String topic = filled("described", 5);
        String group = group(topic, 5);
        tools.run(GROUPS, "--list").good().matches("^" + group + "$");
        tools.run(GROUPS, "--list", "--state").good().matches("^" + group + "\\s+.*Empty");
        tools.run(GROUPS, "--describe", "--group", group).good()
                .matches("^" + group + "\\s+" + topic + "\\s+0\\s+5\\s+5\\s+0\\s");
        tools.run(GROUPS, "--describe", "--group", group, "--state").good().matches(tools.bootstrap + ".*Empty");
        tools.run(GROUPS, "--describe", "--group", group, "--members").good();
        tools.run(GROUPS, "--describe", "--all-groups").good().says(group);
        tools.run(ALL_GROUPS, "--list").good().matches(group + "\\s+Classic\\s+consumer");
        tools.run(GROUPS, "--describe", "--group", tools.name("no-such")).says("GroupIdNotFoundException");
    }

    private void reset(String group, String topic, int to, String... how) throws Exception {
        String[] args = new String[how.length + 5];
        System.arraycopy(new String[] {"--reset-offsets", "--group", group, "--topic", topic}, 0, args, 0, 5);
        System.arraycopy(how, 0, args, 5, how.length);
        tools.run(GROUPS, args).good().matches("^" + group + "\\s+" + topic + "\\s+0\\s+" + to + "\\s*$");
    }

    private void resetOffsets() throws Exception {
        String topic = filled("reset", 9);
        String group = group(topic, 9);
        reset(group, topic, 0, "--to-earliest", "--dry-run");
        tools.run(GROUPS, "--describe", "--group", group).good().matches("\\s0\\s+9\\s+9\\s+0\\s");
        reset(group, topic, 0, "--to-earliest", "--execute");
        consume(topic, 9, "--group", group).good().says("v0").says("v8");
        reset(group, topic, 7, "--to-offset", "7", "--execute");
        reset(group, topic, 5, "--shift-by", "-2", "--execute");
        reset(group, topic, 9, "--to-latest", "--execute");
        reset(group, topic, 4, "--to-offset", "4", "--execute");
        consume(topic, 5, "--group", group).good().lines("v4", "v5", "v6", "v7", "v8");
    }

    private void resetByTime() throws Exception {
        String topic = filled("reset-time", 3);
        String group = group(topic, 3);
        reset(group, topic, 0, "--to-datetime", "2020-01-01T00:00:00.000", "--execute");
        reset(group, topic, 3, "--to-datetime", "2100-01-01T00:00:00.000", "--execute");
        reset(group, topic, 0, "--by-duration", "PT1H", "--execute");
    }

    private void deleteOffsets() throws Exception {
        String topic = filled("delete-offsets", 2);
        String group = group(topic, 2);
        tools.run(GROUPS, "--delete-offsets", "--group", group, "--topic", topic).good()
                .says("Request succeeded for deleting offsets").matches(topic + "\\s+0\\s+Successful");
        tools.run(GROUPS, "--describe", "--group", group).lacks(topic + " ");
    }

    private void deleteGroup() throws Exception {
        String topic = filled("delete-group", 2);
        String group = group(topic, 2);
        tools.run(GROUPS, "--delete", "--group", group).good().says("was successful");
        tools.run(GROUPS, "--list").good().lacks(group);
        tools.run(GROUPS, "--delete", "--group", group).says("could not be deleted").says("GroupIdNotFoundException");
    }

    private void offsets() throws Exception {
        String topic = filled("offsets", 4);
        String line = topic + ":0:";
        tools.run(OFFSETS, "--topic", topic).good().lines(line + "4");
        tools.run(OFFSETS, "--topic", topic, "--time", "-1").good().lines(line + "4");
        tools.run(OFFSETS, "--topic", topic, "--time", "earliest").good().lines(line + "0");
        tools.run(OFFSETS, "--topic", topic, "--time", "-2").good().lines(line + "0");
        tools.run(OFFSETS, "--topic", topic, "--time", "max-timestamp").good().matches("^" + line + "[0-3]$");
        tools.run(OFFSETS, "--topic", topic, "--time", "-4").good().lines(line + "0");
        tools.run(OFFSETS, "--topic", topic, "--time", "1577836800000").good().lines(line + "0");
        tools.run(OFFSETS, "--topic", topic, "--time", "4102444800000").good().lines();
        tools.run(OFFSETS, "--topic-partitions", topic + ":0", "--exclude-internal-topics").good().lines(line + "4");
    }

    private static Path json(String text) throws Exception {
        Path file = Files.createTempFile("console", ".json");
        Files.writeString(file, text);
        file.toFile().deleteOnExit();
        return file;
    }

    private void deleteRecords() throws Exception {
        String topic = filled("delete-records", 10);
        Path file = json("{\"version\":1,\"partitions\":[{\"topic\":\"" + topic + "\",\"partition\":0,\"offset\":6}]}");
        tools.run(DELETE_RECORDS, "--offset-json-file", file.toString()).good().says("low_watermark: 6");
        Files.delete(file);
        tools.run(OFFSETS, "--topic", topic, "--time", "earliest").good().lines(topic + ":0:6");
        consume(topic, 4, "--from-beginning").good().lines("v6", "v7", "v8", "v9");
    }

    private void topicConfigs() throws Exception {
        String topic = topic("configs", 1);
        String[] entity = {"--entity-type", "topics", "--entity-name", topic};
        configs(entity, "--alter", "--add-config", "retention.ms=77777,cleanup.policy=[compact,delete]").good()
                .says("Completed updating config for topic " + topic);
        configs(entity, "--describe").good().says("retention.ms=77777").says("cleanup.policy=compact,delete")
                .says("DEFAULT_CONFIG:log.cleanup.policy=delete").lacks("segment.bytes");
        configs(entity, "--describe", "--all").good().says("segment.bytes=1073741824 sensitive=false");
        configs(entity, "--alter", "--delete-config", "retention.ms").good();
        configs(entity, "--describe").good().lacks("retention.ms").says("cleanup.policy");
        configs(entity, "--alter", "--add-config", "no.such.config=1").bad("Unknown topic config name: no.such.config");
        configs(entity, "--alter", "--delete-config", "no.such.config").good();
    }

    private Tools.Result configs(String[] entity, String... more) throws Exception {
        String[] args = new String[entity.length + more.length];
        System.arraycopy(entity, 0, args, 0, entity.length);
        System.arraycopy(more, 0, args, entity.length, more.length);
        return tools.run(CONFIGS, args);
    }

    private void brokerConfigs() throws Exception {
        String[] entity = {"--entity-type", "brokers", "--entity-name", "1"};
        configs(entity, "--describe").good().says("Dynamic configs for broker 1 are:");
        configs(entity, "--describe", "--all").good().says("  num.partitions=1 ")
                .says("  auto.create.topics.enable=true ").says("  message.max.bytes=1048588 ");
        configs(new String[] {"--entity-type", "brokers"}, "--describe", "--entity-default").good()
                .says("Default configs for brokers in the cluster are:");
    }

    private void perf() throws Exception {
        String topic = topic("perf", 3);
        tools.run(PRODUCER_PERF, "--topic", topic, "--num-records", "20000", "--record-size", "200",
                "--throughput", "-1").good().says("20000 records sent");
        tools.run(CONSUMER_PERF, "--topic", topic, "--num-records", "20000", "--timeout", "20000").good()
                .matches(", 20000, ");
    }

    private void latency() throws Exception {
        String topic = topic("latency", 1);
        tools.run(LATENCY, "--topic", topic, "--num-records", "50", "--producer-acks", "all", "--record-size", "100")
                .good().says("Avg latency").says("Percentiles");
    }

    private void logDirs() throws Exception {
        String topic = filled("log-dirs", 50);
        tools.run(LOG_DIRS, "--describe", "--topic-list", topic).good().says("\"partition\":\"" + topic + "-0\"")
                .matches("\"size\":[1-9]").says("\"offsetLag\":0").says("\"isFuture\":false");
    }

    private void leaderElection() throws Exception {
        String topic = topic("election", 1);
        tools.run(ELECTION, "--election-type", "preferred", "--topic", topic, "--partition", "0").good()
                .says("Valid replica already elected for partitions " + topic + "-0");
    }

    private void reassign() throws Exception {
        String topic = topic("reassign", 1);
        tools.run(REASSIGN, "--list").good().says("No partition reassignments found.");
        Path file = json("{\"version\":1,\"partitions\":[{\"topic\":\"" + topic
                + "\",\"partition\":0,\"replicas\":[1],\"log_dirs\":[\"any\"]}]}");
        tools.run(REASSIGN, "--verify", "--reassignment-json-file", file.toString()).good()
                .says("Reassignment of partition " + topic + "-0 is completed.")
                .says("Clearing broker-level throttles on broker 1");
        Files.delete(file);
    }
}
