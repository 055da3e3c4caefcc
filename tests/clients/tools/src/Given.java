import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import java.util.stream.Stream;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

/** What a tool finds when it is called: topics, records, committed offsets, files. */
final class Given {
    private final Tools tools;

    Given(Tools tools) {
        this.tools = tools;
    }

    private Map<String, Object> settings() {
        return new HashMap<>(Map.of("bootstrap.servers", tools.bootstrap));
    }

    /** A topic with this many records in each partition. */
    String topic(String stem, int partitions, int records) throws Exception {
        return topic(stem, partitions, records, "");
    }

    /** The same, with this behind its name. */
    String topic(String stem, int partitions, int records, String suffix) throws Exception {
        String topic = tools.name(stem) + suffix;
        try (Admin admin = Admin.create(settings());
                var producer = new KafkaProducer<>(settings(), new StringSerializer(), new StringSerializer())) {
            admin.createTopics(List.of(new NewTopic(topic, partitions, (short) 1))).all().get();
            Map<TopicPartition, OffsetSpec> ends = new HashMap<>();
            for (int p = 0; p < partitions; p++) ends.put(new TopicPartition(topic, p), OffsetSpec.latest());
            eventually(() -> {
                try {
                    return admin.listOffsets(ends).all().get().size() == partitions;
                } catch (ExecutionException e) {
                    return false;
                }
            });
            for (int i = 0; i < partitions * records; i++) {
                producer.send(new ProducerRecord<>(topic, i % partitions, "k" + i, "v" + i));
            }
        }
        return topic;
    }

    /** A group that has committed this offset in each partition, and has no members. */
    void committed(String group, String topic, int partitions, long offset) {
        Map<String, Object> settings = settings();
        settings.put("group.id", group);
        Map<TopicPartition, OffsetAndMetadata> offsets = new HashMap<>();
        for (int p = 0; p < partitions; p++) offsets.put(new TopicPartition(topic, p), new OffsetAndMetadata(offset));
        try (var consumer = new KafkaConsumer<>(settings, new StringDeserializer(), new StringDeserializer())) {
            consumer.assign(offsets.keySet());
            consumer.commitSync(offsets, Duration.ofSeconds(30));
        }
    }

    /** Adds the committed offsets of a group to a transcript. */
    void shown(Transcript transcript, String group) throws Exception {
        try (Admin admin = Admin.create(settings())) {
            List<String> lines = new ArrayList<>();
            admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata().get()
                    .forEach((partition, offset) -> lines.add("committed: " + partition + " " + offset.offset()));
            lines.sort(null);
            transcript.add(lines);
        }
    }

    /** Those of the topics that still exist when none should. */
    List<String> left(List<String> topics) throws Exception {
        List<String> found = new ArrayList<>();
        try (Admin admin = Admin.create(settings())) {
            eventually(() -> {
                found.clear();
                admin.listTopics().names().get().stream().filter(topics::contains).forEach(found::add);
                return found.isEmpty();
            });
        }
        return found;
    }

    /** Kafka's broker learns of what its controller did a little later. Gives up after some time, for the transcript will tell. */
    static void eventually(Callable<Boolean> condition) throws Exception {
        long end = System.nanoTime() + TimeUnit.SECONDS.toNanos(10);
        while (!condition.call() && System.nanoTime() < end) Thread.sleep(20);
    }

    static String[] join(String[] first, String... more) {
        return Stream.concat(Stream.of(first), Stream.of(more)).toArray(String[]::new);
    }

    static String json(String text) throws Exception {
        Path file = Files.createTempFile("tools", ".json");
        Files.writeString(file, text);
        file.toFile().deleteOnExit();
        return file.toString();
    }
}
