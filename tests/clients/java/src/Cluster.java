import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import org.apache.kafka.clients.admin.Config;
import org.apache.kafka.clients.admin.DescribeClusterResult;
import org.apache.kafka.clients.admin.DescribeProducersResult.PartitionProducerState;
import org.apache.kafka.clients.admin.ProducerState;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.common.ElectionType;
import org.apache.kafka.common.Node;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.ElectionNotNeededException;
import org.apache.kafka.common.errors.NoReassignmentInProgressException;

/** The cluster as tools see it, and the answers that a single broker gives for form's sake. */
final class Cluster {
    private final Suite suite;

    Cluster(Suite suite) {
        this.suite = suite;
    }

    void register() {
        suite.smoke("cluster_describe", this::describe);
        suite.full("cluster_broker_configs", this::brokerConfigs);
        suite.full("cluster_list_config_resources", this::listConfigResources);
        suite.smoke("cluster_describe_producers", this::describeProducers);
        suite.full("cluster_log_dirs", this::logDirs);
        suite.full("cluster_elect_leaders", this::electLeaders);
        suite.full("cluster_reassignments", this::reassignments);
    }

    private void describe() throws Exception {
        DescribeClusterResult cluster = suite.admin.describeCluster();
        Suite.equal(1, cluster.nodes().get().size(), "brokers");
        Node node = cluster.nodes().get().iterator().next();
        Suite.equal(suite.bootstrap, node.host() + ":" + node.port(), "advertised address");
        Suite.equal(node.id(), cluster.controller().get().id(), "controller");
        Suite.equal(22, cluster.clusterId().get().length(), "length of the cluster id");
        Suite.equal(cluster.clusterId().get(), suite.admin.describeCluster().clusterId().get(), "cluster id, again");
    }

    private String broker() throws Exception {
        return suite.admin.describeCluster().nodes().get().iterator().next().idString();
    }

    private void brokerConfigs() throws Exception {
        ConfigResource resource = new ConfigResource(ConfigResource.Type.BROKER, broker());
        Config found = suite.admin.describeConfigs(List.of(resource)).all().get().get(resource);
        Map.of("num.partitions", "1", "auto.create.topics.enable", "true", "message.max.bytes", "1048588",
                "offsets.topic.num.partitions", "50", "group.initial.rebalance.delay.ms", "0").forEach((name, value) -> {
            Suite.that(found.get(name) != null, name + " is described");
            Suite.equal(value, found.get(name).value(), name);
        });
    }

    private void listConfigResources() throws Exception {
        String topic = suite.topic("resources", 1);
        Set<ConfigResource.Type> types = Set.of(ConfigResource.Type.TOPIC, ConfigResource.Type.BROKER);
        Set<ConfigResource> all = Set.copyOf(suite.admin
                .listConfigResources(types, new org.apache.kafka.clients.admin.ListConfigResourcesOptions()).all().get());
        Suite.that(all.contains(new ConfigResource(ConfigResource.Type.TOPIC, topic)), "the topic is listed");
        Suite.that(all.contains(new ConfigResource(ConfigResource.Type.BROKER, broker())), "the broker is listed");
    }

    private void describeProducers() throws Exception {
        TopicPartition of = new TopicPartition(suite.topic("producers", 1), 0);
        try (KafkaProducer<String, String> producer = suite.producer("linger.ms", "0")) {
            for (int i = 0; i < 3; i++) Suite.send(producer, of, i, 1);
            PartitionProducerState found = suite.admin.describeProducers(List.of(of)).partitionResult(of).get();
            Suite.equal(1, found.activeProducers().size(), "active producers");
            ProducerState state = found.activeProducers().get(0);
            Suite.that(state.producerId() >= 0, "producer id");
            Suite.equal(0, state.producerEpoch(), "epoch");
            Suite.equal(2, state.lastSequence(), "last sequence");
            Suite.that(System.currentTimeMillis() - state.lastTimestamp() < 60_000, "last timestamp");
            Suite.that(state.currentTransactionStartOffset().isEmpty(), "no transaction");
        }
    }

    private void logDirs() throws Exception {
        TopicPartition of = new TopicPartition(suite.topic("log-dirs", 1), 0);
        suite.fill(of, 100);
        int broker = Integer.parseInt(broker());
        var dirs = suite.admin.describeLogDirs(List.of(broker)).allDescriptions().get().get(broker);
        Suite.equal(1, dirs.size(), "log dirs");
        var replica = dirs.values().iterator().next().replicaInfos().get(of);
        Suite.that(replica != null, "the partition is there");
        Suite.that(replica.size() > 500, "its size " + replica.size());
        Suite.equal(0L, replica.offsetLag(), "lag");
        Suite.that(!replica.isFuture(), "it is not a future replica");
    }

    private void electLeaders() throws Exception {
        TopicPartition of = new TopicPartition(suite.topic("elect", 1), 0);
        for (ElectionType type : ElectionType.values()) {
            Optional<Throwable> result = suite.admin.electLeaders(type, Set.of(of)).partitions().get().get(of);
            Suite.that(result.isPresent() && result.get() instanceof ElectionNotNeededException, type + ": " + result);
        }
    }

    private void reassignments() throws Exception {
        TopicPartition of = new TopicPartition(suite.topic("reassign", 1), 0);
        Suite.equal(Map.of(), suite.admin.listPartitionReassignments(Set.of(of)).reassignments().get(), "reassignments");
        Suite.equal(Map.of(), suite.admin.listPartitionReassignments().reassignments().get(), "all reassignments");
        Suite.fails(NoReassignmentInProgressException.class,
                () -> suite.admin.alterPartitionReassignments(Map.of(of, Optional.empty())).all().get());
    }
}
