import java.util.Collection;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.stream.Collectors;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.AlterConfigOp.OpType;
import org.apache.kafka.clients.admin.AlterConfigsOptions;
import org.apache.kafka.clients.admin.Config;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.ConfigEntry.ConfigSource;
import org.apache.kafka.clients.admin.CreatePartitionsOptions;
import org.apache.kafka.clients.admin.CreateTopicsOptions;
import org.apache.kafka.clients.admin.CreateTopicsResult;
import org.apache.kafka.clients.admin.DescribeConfigsOptions;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.admin.RecordsToDelete;
import org.apache.kafka.clients.admin.TopicDescription;
import org.apache.kafka.common.TopicCollection;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.Uuid;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.InvalidConfigurationException;
import org.apache.kafka.common.errors.InvalidPartitionsException;
import org.apache.kafka.common.errors.InvalidReplicationFactorException;
import org.apache.kafka.common.errors.InvalidReplicaAssignmentException;
import org.apache.kafka.common.errors.InvalidTopicException;
import org.apache.kafka.common.errors.OffsetOutOfRangeException;
import org.apache.kafka.common.errors.TopicExistsException;
import org.apache.kafka.common.errors.UnknownTopicIdException;
import org.apache.kafka.common.errors.UnknownTopicOrPartitionException;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;

/** Topics, their configs, partitions and offsets, through the admin client. */
final class Topics {
    private final Suite suite;

    Topics(Suite suite) {
        this.suite = suite;
    }

    void register() {
        suite.smoke("topics_create_describe_delete", this::createDescribeDelete);
        suite.full("topics_create_with_defaults", this::createWithDefaults);
        suite.full("topics_create_refusals", this::createRefusals);
        suite.full("topics_create_with_assignments", this::createWithAssignments);
        suite.full("topics_recreate", this::recreate);
        suite.smoke("topics_create_partitions", this::createPartitions);
        suite.smoke("topics_alter_configs", this::alterConfigs);
        suite.full("topics_alter_configs_refusals", this::alterConfigsRefusals);
        suite.full("topics_describe_configs", this::describeConfigs);
        suite.full("topics_config_takes_effect", this::configTakesEffect);
        suite.smoke("topics_delete_records", this::deleteRecords);
        suite.smoke("topics_list_offsets", this::listOffsets);
    }

    private TopicDescription description(String topic) throws Exception {
        return suite.admin.describeTopics(List.of(topic)).allTopicNames().get().get(topic);
    }

    private void createDescribeDelete() throws Exception {
        String topic = suite.topic("create", 3);
        TopicDescription found = description(topic);
        Suite.equal(List.of(0, 1, 2), found.partitions().stream().map(p -> p.partition()).toList(), "partitions");
        Suite.that(!found.isInternal(), "it is not internal");
        Suite.that(!found.topicId().equals(Uuid.ZERO_UUID), "it has an id");
        int broker = suite.admin.describeCluster().nodes().get().iterator().next().id();
        found.partitions().forEach(p -> {
            Suite.equal(broker, p.leader().id(), "leader");
            Suite.equal(List.of(broker), p.replicas().stream().map(n -> n.id()).toList(), "replicas");
            Suite.equal(List.of(broker), p.isr().stream().map(n -> n.id()).toList(), "in sync");
        });
        TopicDescription byId = suite.admin.describeTopics(TopicCollection.ofTopicIds(List.of(found.topicId())))
                .allTopicIds().get().get(found.topicId());
        Suite.equal(topic, byId.name(), "name by id");
        Suite.equal(found.topicId(), suite.admin.listTopics().namesToListings().get().get(topic).topicId(), "listed id");
        Suite.fails(TopicExistsException.class,
                () -> suite.admin.createTopics(List.of(new NewTopic(topic, 1, (short) 1))).all().get());
        suite.admin.deleteTopics(List.of(topic)).all().get();
        Suite.eventually("it is gone", () -> !suite.admin.listTopics().names().get().contains(topic));
        Suite.fails(UnknownTopicOrPartitionException.class, () -> description(topic));
        Suite.fails(UnknownTopicOrPartitionException.class,
                () -> suite.admin.deleteTopics(List.of(topic)).all().get());
        Suite.fails(UnknownTopicIdException.class, () -> suite.admin
                .describeTopics(TopicCollection.ofTopicIds(List.of(Uuid.randomUuid()))).allTopicIds().get());
    }

    private void createWithDefaults() throws Exception {
        String topic = suite.name("defaults");
        NewTopic wanted = new NewTopic(topic, Optional.empty(), Optional.empty())
                .configs(Map.of("retention.ms", "123456"));
        CreateTopicsResult result = suite.admin.createTopics(List.of(wanted));
        Suite.equal(1, result.numPartitions(topic).get(), "partitions in the answer");
        Suite.equal(1, result.replicationFactor(topic).get(), "replication factor in the answer");
        Suite.equal("123456", result.config(topic).get().get("retention.ms").value(), "config in the answer");
        Suite.equal("delete", result.config(topic).get().get("cleanup.policy").value(), "default in the answer");
        Suite.equal(description(topic).topicId(), result.topicId(topic).get(), "id in the answer");
    }

    private void createRefusals() throws Exception {
        String topic = suite.name("refused");
        refused(InvalidPartitionsException.class, new NewTopic(topic, 0, (short) 1));
        refused(InvalidReplicationFactorException.class, new NewTopic(topic, 1, (short) 4));
        refused(InvalidReplicationFactorException.class, new NewTopic(topic, 1, (short) 0));
        refused(InvalidConfigurationException.class,
                new NewTopic(topic, 1, (short) 1).configs(Map.of("no.such.config", "1")));
        refused(InvalidConfigurationException.class,
                new NewTopic(topic, 1, (short) 1).configs(Map.of("retention.ms", "soon")));
        refused(InvalidConfigurationException.class,
                new NewTopic(topic, 1, (short) 1).configs(Map.of("cleanup.policy", "burn")));
        refused(InvalidTopicException.class, new NewTopic("a b", 1, (short) 1));
        refused(InvalidTopicException.class, new NewTopic("..", 1, (short) 1));
        refused(InvalidTopicException.class, new NewTopic("x".repeat(250), 1, (short) 1));
        refused(InvalidReplicaAssignmentException.class, new NewTopic(topic, Map.of(0, List.of(4711))));
        // A dot and an underscore are the same in metric names.
        String dotted = suite.topic("collide.x", 1);
        refused(InvalidTopicException.class, new NewTopic(dotted.replace('.', '_'), 1, (short) 1));
        CreateTopicsOptions validate = new CreateTopicsOptions().validateOnly(true);
        suite.admin.createTopics(List.of(new NewTopic(topic, 1, (short) 1)), validate).all().get();
        Suite.that(!suite.admin.listTopics().names().get().contains(topic), "validation creates nothing");
    }

    private void refused(Class<? extends Throwable> kind, NewTopic topic) {
        Suite.fails(kind, () -> suite.admin.createTopics(List.of(topic)).all().get());
    }

    private void createWithAssignments() throws Exception {
        int broker = suite.admin.describeCluster().nodes().get().iterator().next().id();
        String topic = suite.name("assigned");
        suite.admin.createTopics(List.of(new NewTopic(topic, Map.of(0, List.of(broker), 1, List.of(broker)))))
                .all().get();
        Suite.equal(2, description(topic).partitions().size(), "partitions");
    }

    private void recreate() throws Exception {
        TopicPartition one = new TopicPartition(suite.topic("again", 1), 0);
        suite.fill(one, 10);
        Uuid before = description(one.topic()).topicId();
        suite.admin.deleteTopics(List.of(one.topic())).all().get();
        Suite.eventually("it can be created again", () -> {
            try {
                suite.topic("again", 1);
                return true;
            } catch (Exception e) {
                return false;
            }
        });
        Suite.that(!before.equals(description(one.topic()).topicId()), "it has another id");
        suite.fill(one, 5);
        suite.holds(one, 5);
    }

    private void createPartitions() throws Exception {
        String topic = suite.topic("grow", 1);
        suite.fill(new TopicPartition(topic, 0), 3);
        suite.admin.createPartitions(Map.of(topic, NewPartitions.increaseTo(3)),
                new CreatePartitionsOptions().validateOnly(true)).all().get();
        Suite.equal(1, description(topic).partitions().size(), "partitions after a validation");
        suite.admin.createPartitions(Map.of(topic, NewPartitions.increaseTo(3))).all().get();
        Suite.eventually("three partitions", () -> description(topic).partitions().size() == 3);
        suite.fill(new TopicPartition(topic, 2), 4);
        suite.holds(new TopicPartition(topic, 0), 3);
        suite.holds(new TopicPartition(topic, 2), 4);
        for (int wrong : new int[] {3, 2}) {
            Suite.fails(InvalidPartitionsException.class,
                    () -> suite.admin.createPartitions(Map.of(topic, NewPartitions.increaseTo(wrong))).all().get());
        }
        Suite.fails(UnknownTopicOrPartitionException.class, () -> suite.admin
                .createPartitions(Map.of(suite.name("no-such"), NewPartitions.increaseTo(2))).all().get());
    }

    private Config configs(String topic) throws Exception {
        ConfigResource resource = new ConfigResource(ConfigResource.Type.TOPIC, topic);
        DescribeConfigsOptions options = new DescribeConfigsOptions().includeSynonyms(true).includeDocumentation(true);
        return suite.admin.describeConfigs(List.of(resource), options).all().get().get(resource);
    }

    private void alter(String topic, String name, String value, OpType op) throws Exception {
        ConfigResource resource = new ConfigResource(ConfigResource.Type.TOPIC, topic);
        Collection<AlterConfigOp> ops = List.of(new AlterConfigOp(new ConfigEntry(name, value), op));
        suite.admin.incrementalAlterConfigs(Map.of(resource, ops)).all().get();
    }

    private void becomes(String topic, String name, String value) throws Exception {
        Suite.eventually(name + " is " + value, () -> value.equals(configs(topic).get(name).value()));
    }

    private void alterConfigs() throws Exception {
        String topic = suite.topic("alter", 1, "retention.ms", "1000000");
        alter(topic, "retention.ms", "2000000", OpType.SET);
        becomes(topic, "retention.ms", "2000000");
        alter(topic, "cleanup.policy", "compact", OpType.APPEND);
        becomes(topic, "cleanup.policy", "delete,compact");
        alter(topic, "cleanup.policy", "delete", OpType.SUBTRACT);
        becomes(topic, "cleanup.policy", "compact");
        alter(topic, "retention.ms", "", OpType.DELETE);
        becomes(topic, "retention.ms", "604800000");
        Suite.equal(ConfigSource.DEFAULT_CONFIG, configs(topic).get("retention.ms").source(), "source of a default");
        Suite.equal(ConfigSource.DYNAMIC_TOPIC_CONFIG, configs(topic).get("cleanup.policy").source(), "source");
    }

    private void alterConfigsRefusals() throws Exception {
        String topic = suite.topic("alter-refused", 1);
        Suite.fails(InvalidConfigurationException.class, () -> alter(topic, "no.such.config", "1", OpType.SET));
        Suite.fails(InvalidConfigurationException.class, () -> alter(topic, "retention.ms", "soon", OpType.SET));
        Suite.fails(InvalidConfigurationException.class, () -> alter(topic, "max.message.bytes", "-1", OpType.SET));
        Suite.fails(InvalidConfigurationException.class, () -> alter(topic, "retention.ms", "1", OpType.APPEND));
        Suite.fails(UnknownTopicOrPartitionException.class,
                () -> alter(suite.name("no-such"), "retention.ms", "1000", OpType.SET));
        ConfigResource resource = new ConfigResource(ConfigResource.Type.TOPIC, topic);
        Collection<AlterConfigOp> ops =
                List.of(new AlterConfigOp(new ConfigEntry("retention.ms", "77777"), OpType.SET));
        suite.admin.incrementalAlterConfigs(Map.of(resource, ops), new AlterConfigsOptions().validateOnly(true))
                .all().get();
        Suite.equal("604800000", configs(topic).get("retention.ms").value(), "value after a validation");
    }

    private void describeConfigs() throws Exception {
        String topic = suite.topic("configs", 1, "segment.bytes", "2000000", "min.insync.replicas", "1");
        Config all = configs(topic);
        Map<String, String> defaults = Map.of("cleanup.policy", "delete", "compression.type", "producer",
                "delete.retention.ms", "86400000", "max.message.bytes", "1048588", "retention.bytes", "-1",
                "message.timestamp.type", "CreateTime", "min.cleanable.dirty.ratio", "0.5", "segment.ms", "604800000");
        defaults.forEach((name, value) -> {
            Suite.equal(value, all.get(name).value(), name);
            Suite.equal(ConfigSource.DEFAULT_CONFIG, all.get(name).source(), "source of " + name);
            Suite.that(all.get(name).isDefault(), name + " is a default");
        });
        Suite.equal(ConfigEntry.ConfigType.LONG, all.get("retention.ms").type(), "type of retention.ms");
        Suite.equal(ConfigEntry.ConfigType.LIST, all.get("cleanup.policy").type(), "type of cleanup.policy");
        Suite.equal(ConfigEntry.ConfigType.INT, all.get("segment.bytes").type(), "type of segment.bytes");
        Suite.equal(ConfigEntry.ConfigType.STRING, all.get("compression.type").type(), "type of compression.type");
        Suite.equal(ConfigEntry.ConfigType.DOUBLE, all.get("min.cleanable.dirty.ratio").type(), "type of a ratio");
        Suite.equal(ConfigEntry.ConfigType.BOOLEAN, all.get("preallocate").type(), "type of preallocate");
        List<String> synonyms = all.get("segment.bytes").synonyms().stream()
                .map(s -> s.source() + " " + s.name() + "=" + s.value()).toList();
        Suite.equal(List.of("DYNAMIC_TOPIC_CONFIG segment.bytes=2000000", "DEFAULT_CONFIG log.segment.bytes=1073741824"),
                synonyms, "synonyms of segment.bytes");
        Suite.that(all.get("segment.bytes").documentation().length() > 20, "documentation");
        Suite.that(all.entries().stream().noneMatch(e -> e.isReadOnly() || e.isSensitive()), "nothing is read-only");
        Suite.fails(UnknownTopicOrPartitionException.class, () -> configs(suite.name("no-such")));
    }

    private void configTakesEffect() throws Exception {
        TopicPartition to = new TopicPartition(suite.topic("effect", 1), 0);
        try (KafkaProducer<String, String> producer = suite.producer()) {
            producer.send(new ProducerRecord<>(to.topic(), 0, "k", "x".repeat(5000))).get();
            alter(to.topic(), "max.message.bytes", "1000", OpType.SET);
            Suite.eventually("large records are refused", () -> {
                try {
                    producer.send(new ProducerRecord<>(to.topic(), 0, "k", "x".repeat(5000))).get();
                    return false;
                } catch (Exception e) {
                    return Suite.unwrap(e) instanceof org.apache.kafka.common.errors.RecordTooLargeException;
                }
            });
            alter(to.topic(), "max.message.bytes", "", OpType.DELETE);
            Suite.eventually("large records pass again", () -> {
                try {
                    producer.send(new ProducerRecord<>(to.topic(), 0, "k", "x".repeat(5000))).get();
                    return true;
                } catch (Exception e) {
                    return false;
                }
            });
        }
    }

    private void deleteRecords() throws Exception {
        TopicPartition from = new TopicPartition(suite.topic("delete-records", 1), 0);
        suite.fill(from, 100);
        Suite.equal(40L, suite.admin.deleteRecords(Map.of(from, RecordsToDelete.beforeOffset(40))).lowWatermarks()
                .get(from).get().lowWatermark(), "low watermark");
        try (KafkaConsumer<String, String> consumer = suite.consumer()) {
            Suite.equal(Map.of(from, 40L), consumer.beginningOffsets(List.of(from)), "beginning");
            consumer.assign(List.of(from));
            Suite.equal(40L, Suite.take(consumer, 60).get(0).offset(), "first offset");
        }
        Suite.equal(40L, suite.admin.deleteRecords(Map.of(from, RecordsToDelete.beforeOffset(10))).lowWatermarks()
                .get(from).get().lowWatermark(), "the low watermark never goes back");
        Suite.fails(OffsetOutOfRangeException.class,
                () -> suite.admin.deleteRecords(Map.of(from, RecordsToDelete.beforeOffset(101))).all().get());
        Suite.equal(100L, suite.admin.deleteRecords(Map.of(from, RecordsToDelete.beforeOffset(-1))).lowWatermarks()
                .get(from).get().lowWatermark(), "everything up to the high watermark");
        Suite.equal(0, suite.readAll(from).size(), "records that are left");
        try (KafkaProducer<String, String> producer = suite.producer()) {
            Suite.equal(100L, Suite.send(producer, from, 0, 1).get(0).offset(), "offsets go on");
        }
    }

    private void listOffsets() throws Exception {
        TopicPartition from = new TopicPartition(suite.topic("list-offsets", 1), 0);
        long[] stamps = {5000, 9000, 7000};
        try (KafkaProducer<String, String> producer = suite.producer()) {
            for (long stamp : stamps) producer.send(new ProducerRecord<>(from.topic(), 0, stamp, "k", "v")).get();
        }
        Map<String, OffsetSpec> specs = Map.of("earliest", OffsetSpec.earliest(), "latest", OffsetSpec.latest(),
                "max", OffsetSpec.maxTimestamp(), "time", OffsetSpec.forTimestamp(5001),
                "local", OffsetSpec.earliestLocal(), "tiered", OffsetSpec.latestTiered(),
                "after", OffsetSpec.forTimestamp(9001));
        Map<String, String> found = specs.entrySet().stream().collect(Collectors.toMap(Map.Entry::getKey, spec -> {
            try {
                var info = suite.admin.listOffsets(Map.of(from, spec.getValue())).partitionResult(from).get();
                return info.offset() + "@" + info.timestamp();
            } catch (Exception e) {
                return Suite.unwrap(e).toString();
            }
        }));
        Suite.equal("0@-1", found.get("earliest"), "earliest");
        Suite.equal("3@-1", found.get("latest"), "latest");
        Suite.equal("1@9000", found.get("max"), "max timestamp");
        Suite.equal("1@9000", found.get("time"), "for a timestamp");
        Suite.equal("-1@-1", found.get("after"), "after all timestamps");
        Suite.equal("0@-1", found.get("local"), "earliest local");
        Suite.equal("-1@-1", found.get("tiered"), "latest tiered");
        TopicPartition empty = new TopicPartition(suite.topic("list-empty", 1), 0);
        Suite.equal(-1L, suite.admin.listOffsets(Map.of(empty, OffsetSpec.maxTimestamp())).partitionResult(empty).get()
                .offset(), "max timestamp of an empty partition");
    }
}
