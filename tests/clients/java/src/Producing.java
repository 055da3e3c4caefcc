import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.Future;
import java.util.stream.IntStream;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.InvalidRecordException;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.InvalidTimestampException;
import org.apache.kafka.common.errors.InvalidTopicException;
import org.apache.kafka.common.errors.RecordTooLargeException;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.record.TimestampType;

/** What a producer may rely on. */
final class Producing {
    private static final List<String> CODECS = List.of("none", "gzip", "snappy", "lz4", "zstd");
    private final Suite suite;

    Producing(Suite suite) {
        this.suite = suite;
    }

    void register() {
        for (String acks : List.of("0", "1", "all")) suite.smoke("produce_acks_" + acks, () -> acks(acks));
        for (String codec : CODECS) suite.smoke("produce_codec_" + codec, () -> codec(codec));
        for (String stored : List.of("uncompressed", "gzip", "snappy", "lz4", "zstd")) {
            suite.full("produce_recompressed_to_" + stored, () -> recompressed(stored));
        }
        suite.smoke("produce_idempotent_in_order", this::idempotent);
        suite.smoke("produce_record_shapes", this::shapes);
        suite.smoke("produce_1_mib_batches", this::largeBatches);
        suite.full("produce_largest_record", this::largestRecord);
        suite.smoke("produce_record_too_large", this::tooLarge);
        suite.full("produce_null_key_on_compacted_topic", this::nullKeyOnCompacted);
        suite.full("produce_timestamp_out_of_bounds", this::timestampOutOfBounds);
        suite.smoke("produce_log_append_time", this::logAppendTime);
        suite.full("produce_log_append_time_compressed", this::logAppendTimeCompressed);
        suite.full("produce_creates_the_topic", this::autoCreation);
        suite.full("produce_to_an_invalid_topic", this::invalidTopic);
        suite.full("produce_many_partitions", this::manyPartitions);
    }

    private void acks(String acks) throws Exception {
        TopicPartition to = new TopicPartition(suite.topic("acks-" + acks, 1), 0);
        String idempotent = acks.equals("all") ? "true" : "false";
        try (KafkaProducer<String, String> producer = suite.producer("acks", acks, "enable.idempotence", idempotent)) {
            List<RecordMetadata> sent = Suite.send(producer, to, 0, 100);
            for (int i = 0; i < 100; i++) {
                Suite.equal(acks.equals("0") ? -1L : i, sent.get(i).offset(), "offset in the answer");
            }
        }
        // With acks=0 nobody said when the records are there.
        Suite.eventually("the end is at 100", () -> Raw.latest(suite, to) == 100);
        suite.holds(to, 100);
    }

    private void codec(String codec) throws Exception {
        TopicPartition to = new TopicPartition(suite.topic("codec-" + codec, 1), 0);
        try (KafkaProducer<String, String> producer =
                suite.producer("compression.type", codec, "linger.ms", "50", "batch.size", "65536")) {
            Suite.send(producer, to, 0, 2000);
        }
        suite.holds(to, 2000);
        Suite.equal(List.of(codec), Raw.codecs(suite, to), "codecs of the stored batches");
    }

    private void recompressed(String stored) throws Exception {
        TopicPartition to = new TopicPartition(suite.topic("stored-" + stored, 1, "compression.type", stored), 0);
        int count = 0;
        for (String codec : CODECS) {
            try (KafkaProducer<String, String> producer =
                    suite.producer("compression.type", codec, "linger.ms", "50")) {
                List<RecordMetadata> sent = Suite.send(producer, to, count, 200);
                Suite.equal((long) count, sent.get(0).offset(), "first offset of " + codec);
                Suite.equal((long) count + 199, sent.get(199).offset(), "last offset of " + codec);
            }
            count += 200;
        }
        suite.holds(to, count);
        Suite.equal(List.of(stored.equals("uncompressed") ? "none" : stored), Raw.codecs(suite, to), "stored codecs");
    }

    private void idempotent() throws Exception {
        String topic = suite.topic("idempotent", 2);
        List<List<Future<RecordMetadata>>> sent = List.of(new ArrayList<>(), new ArrayList<>());
        try (KafkaProducer<String, String> producer = suite.producer("enable.idempotence", "true", "acks", "all",
                "max.in.flight.requests.per.connection", "5", "batch.size", "500", "linger.ms", "0")) {
            for (int i = 0; i < 3000; i++) {
                for (int p = 0; p < 2; p++) {
                    sent.get(p).add(producer.send(new ProducerRecord<>(topic, p, "k" + i, "v" + i)));
                }
            }
            producer.flush();
        }
        for (int p = 0; p < 2; p++) {
            for (int i = 0; i < 3000; i++) Suite.equal((long) i, sent.get(p).get(i).get().offset(), "acknowledged");
            suite.holds(new TopicPartition(topic, p), 3000);
        }
    }

    private void shapes() throws Exception {
        TopicPartition to = new TopicPartition(suite.topic("shapes", 1), 0);
        List<Header> headers = List.of(new RecordHeader("a", "1".getBytes(StandardCharsets.UTF_8)),
                new RecordHeader("a", null), new RecordHeader("", new byte[0]));
        List<ProducerRecord<String, String>> records = List.of(
                new ProducerRecord<>(to.topic(), 0, 1_000L, "key", "value", headers),
                new ProducerRecord<>(to.topic(), 0, 500L, null, "no key"),
                new ProducerRecord<>(to.topic(), 0, 1_500L, "tombstone", null, List.of()),
                new ProducerRecord<>(to.topic(), 0, 0L, "", ""),
                new ProducerRecord<>(to.topic(), 0, 1_700L, "ключ 键", "wert ✓"));
        try (KafkaProducer<String, String> producer = suite.producer("linger.ms", "50")) {
            List<Future<RecordMetadata>> sent = new ArrayList<>();
            for (ProducerRecord<String, String> record : records) sent.add(producer.send(record));
            producer.flush();
            for (int i = 0; i < sent.size(); i++) {
                Suite.equal((long) i, sent.get(i).get().offset(), "offset");
                Suite.equal(records.get(i).timestamp(), sent.get(i).get().timestamp(), "acknowledged timestamp");
            }
        }
        List<ConsumerRecord<String, String>> read = suite.readAll(to);
        for (int i = 0; i < records.size(); i++) {
            Suite.equal(records.get(i).key(), read.get(i).key(), "key " + i);
            Suite.equal(records.get(i).value(), read.get(i).value(), "value " + i);
            Suite.equal(records.get(i).timestamp(), read.get(i).timestamp(), "timestamp " + i);
            Suite.equal(TimestampType.CREATE_TIME, read.get(i).timestampType(), "kind of timestamp " + i);
            Suite.equal(records.get(i).headers().toArray().length, read.get(i).headers().toArray().length, "headers");
            Suite.that(read.get(i).leaderEpoch().isPresent(), "a record has its leader epoch");
        }
        Suite.equal(headers, List.of(read.get(0).headers().toArray()), "headers of the first record");
    }

    private void largeBatches() throws Exception {
        TopicPartition to = new TopicPartition(suite.topic("large", 1), 0);
        String value = "x".repeat(10_000);
        try (KafkaProducer<String, String> producer = suite.producer("batch.size", "1048576", "linger.ms", "200",
                "max.request.size", "2000000", "buffer.memory", "67108864")) {
            List<Future<RecordMetadata>> sent = new ArrayList<>();
            for (int i = 0; i < 800; i++) sent.add(producer.send(new ProducerRecord<>(to.topic(), 0, "k" + i, value)));
            producer.flush();
            for (int i = 0; i < 800; i++) Suite.equal((long) i, sent.get(i).get().offset(), "offset");
        }
        List<ConsumerRecord<String, String>> read = suite.readAll(to);
        Suite.equal(800, read.size(), "records");
        for (ConsumerRecord<String, String> record : read) {
            Suite.equal(value, record.value(), "value at " + record.offset());
        }
    }

    private void largestRecord() throws Exception {
        TopicPartition to = new TopicPartition(suite.topic("largest", 1), 0);
        // A batch of one record of this size has exactly max.message.bytes = 1,048,588 bytes.
        int largest = 1_048_588 - 61 - 11;
        try (KafkaProducer<String, byte[]> producer = bytes("max.request.size", "3000000")) {
            Suite.fails(RecordTooLargeException.class,
                    () -> producer.send(new ProducerRecord<>(to.topic(), 0, null, new byte[largest + 1])).get());
            producer.send(new ProducerRecord<>(to.topic(), 0, null, new byte[largest])).get();
        }
        Suite.equal(1, suite.readAll(to).size(), "records");
    }

    private KafkaProducer<String, byte[]> bytes(String... configs) {
        java.util.Map<String, Object> map = new java.util.HashMap<>();
        map.put("bootstrap.servers", suite.bootstrap);
        for (int i = 0; i < configs.length; i += 2) map.put(configs[i], configs[i + 1]);
        return new KafkaProducer<>(map, new org.apache.kafka.common.serialization.StringSerializer(),
                new org.apache.kafka.common.serialization.ByteArraySerializer());
    }

    private void tooLarge() throws Exception {
        TopicPartition to = new TopicPartition(suite.topic("too-large", 1, "max.message.bytes", "10000"), 0);
        try (KafkaProducer<String, String> producer = suite.producer()) {
            Suite.send(producer, to, 0, 1);
            Suite.fails(RecordTooLargeException.class,
                    () -> producer.send(new ProducerRecord<>(to.topic(), 0, "k", "x".repeat(20_000))).get());
            Suite.send(producer, to, 1, 1);
        }
        suite.holds(to, 2);
    }

    private void nullKeyOnCompacted() throws Exception {
        TopicPartition to = new TopicPartition(suite.topic("compacted", 1, "cleanup.policy", "compact"), 0);
        try (KafkaProducer<String, String> producer = suite.producer()) {
            Suite.send(producer, to, 0, 1);
            Suite.fails(InvalidRecordException.class,
                    () -> producer.send(new ProducerRecord<>(to.topic(), 0, null, "no key")).get());
            Suite.send(producer, to, 1, 1);
        }
        suite.holds(to, 2);
    }

    private void timestampOutOfBounds() throws Exception {
        TopicPartition to = new TopicPartition(suite.topic("bounds", 1,
                "message.timestamp.after.max.ms", "60000", "message.timestamp.before.max.ms", "60000"), 0);
        long now = System.currentTimeMillis();
        try (KafkaProducer<String, String> producer = suite.producer()) {
            for (long wrong : List.of(now + 3_600_000, now - 3_600_000)) {
                Suite.fails(InvalidTimestampException.class,
                        () -> producer.send(new ProducerRecord<>(to.topic(), 0, wrong, "k", "v")).get());
            }
            producer.send(new ProducerRecord<>(to.topic(), 0, now, "k0", "v0")).get();
        }
        suite.holds(to, 1);
    }

    private void logAppendTime() throws Exception {
        appendTime("append-time", "none");
    }

    private void logAppendTimeCompressed() throws Exception {
        appendTime("append-time-lz4", "lz4");
    }

    private void appendTime(String stem, String codec) throws Exception {
        TopicPartition to =
                new TopicPartition(suite.topic(stem, 1, "message.timestamp.type", "LogAppendTime"), 0);
        long before = System.currentTimeMillis();
        RecordMetadata first;
        try (KafkaProducer<String, String> producer = suite.producer("compression.type", codec)) {
            first = producer.send(new ProducerRecord<>(to.topic(), 0, 1_000L, "k0", "v0")).get();
            producer.send(new ProducerRecord<>(to.topic(), 0, 2_000L, "k1", "v1")).get();
        }
        long after = System.currentTimeMillis();
        Suite.that(first.timestamp() >= before && first.timestamp() <= after, "the answer has the broker's time");
        List<ConsumerRecord<String, String>> read = suite.readAll(to);
        Suite.equal(first.timestamp(), read.get(0).timestamp(), "timestamp of the first record");
        for (ConsumerRecord<String, String> record : read) {
            Suite.equal(TimestampType.LOG_APPEND_TIME, record.timestampType(), "kind of timestamp");
            Suite.that(record.timestamp() >= before && record.timestamp() <= after, "a record has the broker's time");
        }
    }

    private void autoCreation() throws Exception {
        TopicPartition to = new TopicPartition(suite.name("auto"), 0);
        try (KafkaProducer<String, String> producer = suite.producer()) {
            Suite.equal(0L, producer.send(new ProducerRecord<>(to.topic(), "k0", "v0")).get().offset(), "offset");
        }
        int partitions = suite.admin.describeTopics(List.of(to.topic())).allTopicNames().get().get(to.topic())
                .partitions().size();
        Suite.equal(1, partitions, "num.partitions");
        suite.holds(to, 1);
        String absent = suite.name("absent");
        try (KafkaConsumer<String, String> consumer = suite.consumer("allow.auto.create.topics", "false",
                "group.id", absent)) {
            consumer.subscribe(List.of(absent));
            consumer.poll(Duration.ofMillis(500));
        }
        Suite.that(!suite.admin.listTopics().names().get().contains(absent), "a consumer did not create the topic");
    }

    private void invalidTopic() throws Exception {
        try (KafkaProducer<String, String> producer = suite.producer("max.block.ms", "5000")) {
            Suite.fails(InvalidTopicException.class,
                    () -> producer.send(new ProducerRecord<>("not a topic!", "k", "v")).get());
        }
    }

    private void manyPartitions() throws Exception {
        String topic = suite.topic("many", 24);
        try (KafkaProducer<String, String> producer = suite.producer("linger.ms", "5")) {
            for (int p : IntStream.range(0, 24).toArray()) Suite.send(producer, new TopicPartition(topic, p), 0, 10);
        }
        for (int p = 0; p < 24; p += 5) suite.holds(new TopicPartition(topic, p), 10);
        try (KafkaConsumer<String, String> consumer = suite.consumer()) {
            consumer.assign(IntStream.range(0, 24).mapToObj(p -> new TopicPartition(topic, p)).toList());
            Suite.take(consumer, 240);
        }
    }
}
