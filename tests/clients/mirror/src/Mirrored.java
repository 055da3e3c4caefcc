import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.concurrent.Future;
import java.util.concurrent.locks.ReadWriteLock;
import java.util.concurrent.locks.ReentrantReadWriteLock;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;
import org.apache.kafka.connect.mirror.MirrorClient;
import org.apache.kafka.connect.mirror.RemoteClusterUtils;

/** What must arrive on the other side: records, configs, partitions, heartbeats, checkpoints and the offsets of groups. */
final class Mirrored {
    private static final int PARTITIONS = 3;
    private static final int RECORDS = 900;
    /** Of the records' timestamps; old enough to be no clock's, young enough for retention. */
    private static final long BEGIN = System.currentTimeMillis() - 3_600_000;
    private final Suite suite;
    private final Mirror mirror;
    /** Held for writing while MirrorMaker restarts. */
    private final ReadWriteLock restarting = new ReentrantReadWriteLock();

    Mirrored(Suite suite, Mirror mirror) {
        this.suite = suite;
        this.mirror = mirror;
    }

    void register() {
        both("records_are_equal", this::records);
        if (!suite.full) return;
        both("configs_and_partitions_follow", this::configs);
        both("heartbeats", this::heartbeats);
        both("offsets_of_groups_are_translated", this::groups);
        suite.full("restart_goes_on_without_a_gap", this::restart);
    }

    private interface Direction {
        void check(Mirror.Cluster from, Mirror.Cluster to) throws Exception;
    }

    private void both(String name, Direction body) {
        suite.smoke(name + "_from_kafka", () -> undisturbed(() -> body.check(mirror.peer, mirror.target)));
        suite.smoke(name + "_to_kafka", () -> undisturbed(() -> body.check(mirror.target, mirror.peer)));
    }

    private void undisturbed(Suite.Body body) throws Exception {
        restarting.readLock().lock();
        try {
            body.run();
        } finally {
            restarting.readLock().unlock();
        }
    }

    private String topic(Mirror.Cluster in, String stem, Map<String, String> configs) throws Exception {
        String topic = suite.name(stem + "-of-" + in.alias());
        in.admin().createTopics(List.of(new NewTopic(topic, PARTITIONS, (short) 1).configs(configs))).all().get();
        return topic;
    }

    /** Sends records with every kind of key, value, header, timestamp and codec. */
    private void send(Mirror.Cluster to, String topic, int first, int count) throws Exception {
        List<String> codecs = List.of("none", "gzip", "snappy", "lz4", "zstd");
        for (String codec : codecs) {
            Map<String, Object> settings = Map.of("bootstrap.servers", to.bootstrap(), "compression.type", codec);
            try (var producer = new KafkaProducer<>(settings, new StringSerializer(), new StringSerializer())) {
                List<Future<?>> sent = new ArrayList<>();
                for (int i = first; i < first + count; i++) {
                    if (i % codecs.size() != codecs.indexOf(codec)) continue;
                    List<Header> headers = new ArrayList<>();
                    for (int h = 0; h < i % 3; h++) headers.add(new RecordHeader("h" + h, ("x" + i).getBytes(StandardCharsets.UTF_8)));
                    sent.add(producer.send(new ProducerRecord<>(topic, i % PARTITIONS, BEGIN + i,
                            i % 7 == 0 ? null : "k" + i, i % 11 == 0 ? null : "v" + i, headers)));
                }
                producer.flush();
                for (Future<?> each : sent) each.get();
            }
        }
    }

    private static KafkaConsumer<String, String> consumer(Mirror.Cluster from, Map<String, Object> more) {
        Map<String, Object> map = new HashMap<>(more);
        map.put("bootstrap.servers", from.bootstrap());
        map.put("auto.offset.reset", "earliest");
        map.put("enable.auto.commit", "false");
        return new KafkaConsumer<>(map, new StringDeserializer(), new StringDeserializer());
    }

    /** All that is in a topic now, as text, by partition and in order. */
    private static Map<Integer, List<String>> read(Mirror.Cluster from, String topic, int partitions) {
        try (KafkaConsumer<String, String> consumer = consumer(from, Map.of())) {
            List<TopicPartition> all = new ArrayList<>();
            for (int p = 0; p < partitions; p++) all.add(new TopicPartition(topic, p));
            consumer.assign(all);
            Map<TopicPartition, Long> ends = consumer.endOffsets(all);
            Map<Integer, List<String>> found = new TreeMap<>();
            while (all.stream().anyMatch(each -> consumer.position(each) < ends.get(each))) {
                for (ConsumerRecord<String, String> each : consumer.poll(Duration.ofMillis(100))) {
                    StringBuilder text = new StringBuilder(each.key() + "=" + each.value() + "@" + each.timestamp());
                    for (Header header : each.headers()) text.append(' ').append(header.key()).append(':').append(new String(header.value()));
                    found.computeIfAbsent(each.partition(), none -> new ArrayList<>()).add(text.toString());
                }
            }
            return found;
        }
    }

    private static int count(Map<Integer, List<String>> records) {
        return records.values().stream().mapToInt(List::size).sum();
    }

    private void arrive(Mirror.Cluster at, String topic, int count) throws Exception {
        Suite.eventually(topic + " is in " + at.alias(), () -> Mirror.has(at, topic));
        int[] found = new int[1];
        try {
            Suite.eventually(count + " records are in " + topic, () -> (found[0] = count(read(at, topic, PARTITIONS))) >= count);
        } catch (AssertionError e) {
            throw new AssertionError(e.getMessage() + ", but only " + found[0], e);
        }
    }

    private void records(Mirror.Cluster from, Mirror.Cluster to) throws Exception {
        String topic = topic(from, "records", Map.of());
        String remote = from.alias() + "." + topic;
        send(from, topic, 0, RECORDS);
        arrive(to, remote, RECORDS);
        send(from, topic, RECORDS, RECORDS);
        arrive(to, remote, 2 * RECORDS);
        Map<Integer, List<String>> sent = read(from, topic, PARTITIONS);
        Suite.equal(2 * RECORDS, count(sent), "records that were sent");
        Suite.equal(sent, read(to, remote, PARTITIONS), "records");
        Suite.that(!Mirror.has(from, to.alias() + "." + remote), "a mirrored topic is not mirrored back");
    }

    private static String config(Mirror.Cluster in, String topic, String name) throws Exception {
        ConfigResource resource = new ConfigResource(ConfigResource.Type.TOPIC, topic);
        return in.admin().describeConfigs(List.of(resource)).all().get().get(resource).get(name).value();
    }

    private void configs(Mirror.Cluster from, Mirror.Cluster to) throws Exception {
        String topic = topic(from, "configs", Map.of("retention.ms", "123456789", "cleanup.policy", "compact", "max.message.bytes", "77777"));
        String remote = from.alias() + "." + topic;
        Suite.eventually(remote + " is there", () -> Mirror.has(to, remote));
        Suite.equal("compact", config(to, remote, "cleanup.policy"), "cleanup.policy");
        Suite.equal("123456789", config(to, remote, "retention.ms"), "retention.ms");
        Suite.equal("77777", config(to, remote, "max.message.bytes"), "max.message.bytes");
        from.admin().createPartitions(Map.of(topic, NewPartitions.increaseTo(PARTITIONS + 2))).all().get();
        var resource = new ConfigResource(ConfigResource.Type.TOPIC, topic);
        from.admin().incrementalAlterConfigs(Map.of(resource, List.of(new org.apache.kafka.clients.admin.AlterConfigOp(
                new org.apache.kafka.clients.admin.ConfigEntry("retention.ms", "987654321"),
                org.apache.kafka.clients.admin.AlterConfigOp.OpType.SET)))).all().get();
        Suite.eventually("the change of the config follows", () -> "987654321".equals(config(to, remote, "retention.ms")));
        Suite.eventually("the new partitions follow", () -> to.admin().describeTopics(List.of(remote)).allTopicNames().get()
                .get(remote).partitions().size() == PARTITIONS + 2);
    }

    private void heartbeats(Mirror.Cluster from, Mirror.Cluster to) throws Exception {
        try (MirrorClient client = new MirrorClient(Map.of("bootstrap.servers", to.bootstrap()))) {
            Suite.equal(1, client.replicationHops(from.alias()), "hops from " + from.alias());
            Suite.that(client.upstreamClusters().contains(from.alias()), "upstream clusters: " + client.upstreamClusters());
            Suite.that(client.heartbeatTopics().contains(from.alias() + ".heartbeats"), "topics: " + client.heartbeatTopics());
        }
        String topic = from.alias() + ".heartbeats";
        int before = count(read(to, topic, 1));
        Suite.eventually("heartbeats go on", () -> count(read(to, topic, 1)) > before + 1);
    }

    /** A group that has read everything in the partitions 0 and 1, and the first 100 records of partition 2. */
    private String group(Mirror.Cluster in, String topic) throws Exception {
        String group = suite.name("group-of-" + in.alias());
        Map<TopicPartition, OffsetAndMetadata> offsets = new HashMap<>();
        try (KafkaConsumer<String, String> consumer = consumer(in, Map.of("group.id", group))) {
            for (int p = 0; p < PARTITIONS; p++) {
                TopicPartition each = new TopicPartition(topic, p);
                offsets.put(each, new OffsetAndMetadata(p < 2 ? RECORDS / PARTITIONS : 100));
            }
            consumer.assign(offsets.keySet());
            consumer.commitSync(offsets);
        }
        return group;
    }

    private void groups(Mirror.Cluster from, Mirror.Cluster to) throws Exception {
        String topic = topic(from, "groups", Map.of());
        String remote = from.alias() + "." + topic;
        send(from, topic, 0, RECORDS);
        arrive(to, remote, RECORDS);
        String group = group(from, topic);
        Map<TopicPartition, OffsetAndMetadata> translated = new HashMap<>();
        Map<String, Object> settings = Map.of("bootstrap.servers", to.bootstrap());
        long ends = RECORDS / PARTITIONS;
        Suite.eventually("checkpoints of " + group, () -> {
            translated.clear();
            translated.putAll(RemoteClusterUtils.translateOffsets(settings, from.alias(), group, Duration.ofSeconds(10)));
            return at(translated, remote, 0) == ends && at(translated, remote, 1) == ends;
        });
        // A position in the middle may be translated to an earlier one or not at all, but never to a later one.
        Suite.that(at(translated, remote, 2) <= 100, "translated to " + translated);
        Suite.eventually("the offsets of " + group + " are committed in " + to.alias(), () -> {
            var found = to.admin().listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata().get();
            return at(found, remote, 0) == ends && at(found, remote, 1) == ends && at(found, remote, 2) <= 100;
        });
        Suite.equal("compact", config(from, "mm2-offset-syncs." + to.alias() + ".internal", "cleanup.policy"), "policy of the offset syncs");
        Suite.equal("compact", config(to, from.alias() + ".checkpoints.internal", "cleanup.policy"), "policy of the checkpoints");
    }

    private static long at(Map<TopicPartition, OffsetAndMetadata> offsets, String topic, int partition) {
        OffsetAndMetadata found = offsets.get(new TopicPartition(topic, partition));
        return found == null ? -1 : found.offset();
    }

    private void restart() throws Exception {
        String there = topic(mirror.peer, "restart", Map.of());
        String here = topic(mirror.target, "restart", Map.of());
        send(mirror.peer, there, 0, RECORDS);
        send(mirror.target, here, 0, RECORDS);
        arrive(mirror.target, "peer." + there, RECORDS);
        arrive(mirror.peer, "target." + here, RECORDS);
        restarting.writeLock().lock();
        try {
            mirror.stop();
            send(mirror.peer, there, RECORDS, RECORDS);
            send(mirror.target, here, RECORDS, RECORDS);
            mirror.start();
        } finally {
            restarting.writeLock().unlock();
        }
        arrive(mirror.target, "peer." + there, 2 * RECORDS);
        arrive(mirror.peer, "target." + here, 2 * RECORDS);
        gapless(read(mirror.peer, there, PARTITIONS), read(mirror.target, "peer." + there, PARTITIONS));
        gapless(read(mirror.target, here, PARTITIONS), read(mirror.peer, "target." + here, PARTITIONS));
    }

    /** All records are there; those whose offsets were not flushed before the end may be there twice. */
    private static void gapless(Map<Integer, List<String>> sent, Map<Integer, List<String>> found) {
        for (int p = 0; p < PARTITIONS; p++) {
            Set<String> expected = new TreeSet<>(sent.get(p));
            Suite.equal(expected, new TreeSet<>(found.get(p)), "records of partition " + p);
        }
    }
}
