import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Future;
import java.util.concurrent.atomic.AtomicReference;
import java.util.function.Consumer;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.errors.StreamsUncaughtExceptionHandler.StreamThreadExceptionResponse;
import org.apache.kafka.streams.kstream.Grouped;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.kstream.Produced;

/** One Streams application: its id, its topics, its instances in this JVM, and what it has done. */
final class App implements AutoCloseable {
    final Suite suite;
    final String id;
    /** What ended an instance, if anything did. */
    final AtomicReference<Throwable> failure = new AtomicReference<>();
    private final List<KafkaStreams> running = new ArrayList<>();

    App(Suite suite, String stem) {
        this.suite = suite;
        this.id = suite.name(stem);
    }

    static Map<String, Object> settings(String bootstrap, String id, String stateDir) {
        Map<String, Object> map = new HashMap<>();
        map.put("bootstrap.servers", bootstrap);
        map.put("application.id", id);
        map.put("state.dir", stateDir);
        map.put("default.key.serde", Serdes.StringSerde.class.getName());
        map.put("default.value.serde", Serdes.StringSerde.class.getName());
        map.put("processing.guarantee", "at_least_once");
        map.put("commit.interval.ms", "200");
        map.put("num.stream.threads", "1");
        map.put("consumer.auto.offset.reset", "earliest");
        map.put("consumer.session.timeout.ms", "6000");
        map.put("consumer.heartbeat.interval.ms", "500");
        return map;
    }

    /** Lines to words, through a repartition topic, to counts in a store with a changelog. */
    static Topology wordCount(String input, String output) {
        StreamsBuilder builder = new StreamsBuilder();
        builder.<String, String>stream(input)
                .flatMapValues(line -> List.of(line.split(" ")))
                .groupBy((key, word) -> word, Grouped.as("words"))
                .count(Materialized.as("counts"))
                .toStream()
                .mapValues(String::valueOf)
                .to(output, Produced.with(Serdes.String(), Serdes.String()));
        return builder.build();
    }

    static Path stateDir() throws Exception {
        return Files.createTempDirectory("state");
    }

    KafkaStreams start(Topology topology, String... more) throws Exception {
        return start(topology, streams -> { }, more);
    }

    /** Starts an instance with a new state folder. */
    KafkaStreams start(Topology topology, Consumer<KafkaStreams> before, String... more) throws Exception {
        Map<String, Object> map = settings(suite.bootstrap, id, stateDir().toString());
        for (int i = 0; i < more.length; i += 2) map.put(more[i], more[i + 1]);
        java.util.Properties properties = new java.util.Properties();
        properties.putAll(map);
        KafkaStreams streams = new KafkaStreams(topology, properties);
        running.add(streams);
        streams.setUncaughtExceptionHandler(error -> {
            failure.compareAndSet(null, error);
            return StreamThreadExceptionResponse.SHUTDOWN_CLIENT;
        });
        before.accept(streams);
        streams.start();
        return streams;
    }

    /** The innermost cause of the failure. */
    Throwable cause() {
        Throwable each = failure.get();
        while (each != null && each.getCause() != null) each = each.getCause();
        return each;
    }

    void running(KafkaStreams streams) throws Exception {
        Suite.eventually(id + " runs", () -> {
            Suite.that(streams.state() != KafkaStreams.State.ERROR, "the application ended: " + cause());
            return streams.state() == KafkaStreams.State.RUNNING;
        });
    }

    /** Sends key, value pairs. */
    void send(String topic, List<String[]> pairs) throws Exception {
        List<ProducerRecord<String, String>> records = new ArrayList<>();
        for (String[] pair : pairs) records.add(new ProducerRecord<>(topic, pair[0], pair[1]));
        sendRecords(records);
    }

    void sendRecords(List<ProducerRecord<String, String>> records) throws Exception {
        try (KafkaProducer<String, String> producer = suite.producer("linger.ms", "5")) {
            List<Future<?>> sent = new ArrayList<>();
            for (ProducerRecord<String, String> record : records) sent.add(producer.send(record));
            producer.flush();
            for (Future<?> each : sent) each.get();
        }
    }

    /** Waits until the application has committed the ends of all these topics; name upstream topics first. */
    void drained(String... topics) throws Exception {
        for (String topic : topics) {
            Suite.eventually(id + " has read all of " + topic, () -> {
                Map<TopicPartition, OffsetSpec> asked = new HashMap<>();
                for (TopicPartition each : partitions(topic)) asked.put(each, OffsetSpec.latest());
                if (asked.isEmpty()) return false;
                Map<TopicPartition, OffsetAndMetadata> committed =
                        suite.admin.listConsumerGroupOffsets(id).partitionsToOffsetAndMetadata().get();
                var ends = suite.admin.listOffsets(asked).all().get();
                return ends.entrySet().stream().allMatch(end -> {
                    OffsetAndMetadata found = committed.get(end.getKey());
                    return end.getValue().offset() == 0 || found != null && found.offset() == end.getValue().offset();
                });
            });
        }
    }

    List<TopicPartition> partitions(String topic) throws Exception {
        try {
            List<TopicPartition> found = new ArrayList<>();
            suite.admin.describeTopics(List.of(topic)).allTopicNames().get().get(topic).partitions()
                    .forEach(each -> found.add(new TopicPartition(topic, each.partition())));
            return found;
        } catch (ExecutionException e) {
            return List.of();
        }
    }

    /** All records of a topic, up to the ends that the broker names now. */
    List<ConsumerRecord<String, String>> read(String topic) throws Exception {
        try (KafkaConsumer<String, String> consumer = suite.consumer("isolation.level", "read_committed")) {
            List<TopicPartition> partitions = partitions(topic);
            consumer.assign(partitions);
            consumer.seekToBeginning(partitions);
            Map<TopicPartition, Long> ends = consumer.endOffsets(partitions);
            List<ConsumerRecord<String, String>> all = new ArrayList<>();
            long deadline = System.nanoTime() + Suite.DEADLINE.toNanos();
            while (partitions.stream().anyMatch(each -> consumer.position(each) < ends.get(each))) {
                Suite.that(System.nanoTime() < deadline, "not read to the end: " + topic);
                consumer.poll(Duration.ofMillis(100)).forEach(all::add);
            }
            return all;
        }
    }

    /** The newest value of each key; a null deletes. */
    Map<String, String> latest(String topic) throws Exception {
        Map<String, String> map = new TreeMap<>();
        for (ConsumerRecord<String, String> each : read(topic)) {
            if (each.value() == null) map.remove(each.key());
            else map.put(each.key(), each.value());
        }
        return map;
    }

    String config(String topic, String name) throws Exception {
        var resource = new org.apache.kafka.common.config.ConfigResource(
                org.apache.kafka.common.config.ConfigResource.Type.TOPIC, topic);
        return suite.admin.describeConfigs(List.of(resource)).all().get().get(resource).get(name).value();
    }

    @Override
    public void close() {
        for (KafkaStreams each : running) each.close(Duration.ofSeconds(10));
    }
}
