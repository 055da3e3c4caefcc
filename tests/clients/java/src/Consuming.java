import java.time.Duration;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.Future;
import java.util.regex.Pattern;
import java.util.stream.IntStream;
import org.apache.kafka.clients.consumer.CloseOptions;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.consumer.OffsetAndTimestamp;
import org.apache.kafka.clients.consumer.OffsetOutOfRangeException;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;

/** What a single consumer may rely on. */
final class Consuming {
    private final Suite suite;

    Consuming(Suite suite) {
        this.suite = suite;
    }

    void register() {
        suite.smoke("consume_seek", this::seek);
        suite.smoke("consume_offsets_for_times", this::offsetsForTimes);
        suite.full("consume_offsets_for_times_compressed", this::offsetsForTimesCompressed);
        suite.full("consume_out_of_range", this::outOfRange);
        suite.full("consume_pause_resume", this::pauseResume);
        suite.full("consume_small_limits", this::smallLimits);
        suite.smoke("consume_many_partitions", this::manyPartitions);
        suite.smoke("consume_long_poll_wakes", this::longPoll);
        suite.full("consume_long_poll_waits", this::longPollWaits);
        suite.smoke("consume_commit_and_resume", this::commitAndResume);
        suite.full("consume_commit_async", this::commitAsync);
        suite.full("consume_auto_commit", this::autoCommit);
        suite.smoke("consume_by_pattern", this::pattern);
        suite.full("consume_read_committed", this::readCommitted);
        suite.full("consume_tail_while_producing", this::tail);
        suite.full("consume_partition_metadata", this::metadata);
    }

    private void seek() throws Exception {
        TopicPartition from = new TopicPartition(suite.topic("seek", 1), 0);
        // One batch, so that most seeks go into its middle.
        try (KafkaProducer<String, String> producer = suite.producer("linger.ms", "200", "batch.size", "100000")) {
            Suite.send(producer, from, 0, 500);
        }
        try (KafkaConsumer<String, String> consumer = suite.consumer("max.poll.records", "1")) {
            consumer.assign(List.of(from));
            for (int offset : new int[] {0, 1, 250, 499, 3}) {
                consumer.seek(from, offset);
                ConsumerRecord<String, String> record = Suite.take(consumer, 1).get(0);
                Suite.equal((long) offset, record.offset(), "offset after seek");
                Suite.equal("v" + offset, record.value(), "value after seek");
                Suite.equal(offset + 1L, consumer.position(from), "position");
            }
            consumer.seekToEnd(List.of(from));
            Suite.equal(500L, consumer.position(from), "position at the end");
            Suite.that(consumer.poll(Duration.ofMillis(300)).isEmpty(), "nothing after the end");
            consumer.seekToBeginning(List.of(from));
            Suite.equal(0L, consumer.position(from), "position at the beginning");
            Suite.equal(Map.of(from, 0L), consumer.beginningOffsets(List.of(from)), "beginning");
            Suite.equal(Map.of(from, 500L), consumer.endOffsets(List.of(from)), "end");
            Suite.equal(0L, Suite.take(consumer, 1).get(0).offset(), "first offset");
        }
    }

    private void offsetsForTimes() throws Exception {
        times("times", "none");
    }

    private void offsetsForTimesCompressed() throws Exception {
        times("times-zstd", "zstd");
    }

    private void times(String stem, String codec) throws Exception {
        TopicPartition from = new TopicPartition(suite.topic(stem, 1), 0);
        // Two batches; timestamps do not only grow.
        long[] stamps = {1000, 3000, 2000, 5000, 4000, 4500, 9000, 7000, 9000, 8000};
        try (KafkaProducer<String, String> producer =
                suite.producer("linger.ms", "1000", "compression.type", codec)) {
            for (int half = 0; half < 2; half++) {
                for (int i = half * 5; i < half * 5 + 5; i++) {
                    producer.send(new ProducerRecord<>(from.topic(), 0, stamps[i], "k" + i, "v" + i));
                }
                producer.flush();
            }
        }
        try (KafkaConsumer<String, String> consumer = suite.consumer()) {
            for (long wanted : new long[] {0, 1000, 1001, 2000, 3001, 4001, 5000, 5001, 8500, 9000, 9001}) {
                int first = IntStream.range(0, stamps.length).filter(i -> stamps[i] >= wanted).findFirst().orElse(-1);
                OffsetAndTimestamp found = consumer.offsetsForTimes(Map.of(from, wanted)).get(from);
                if (first < 0) {
                    Suite.equal(null, found, "offset for " + wanted);
                } else {
                    Suite.equal((long) first, found.offset(), "offset for " + wanted);
                    Suite.equal(stamps[first], found.timestamp(), "timestamp found for " + wanted);
                }
            }
        }
    }

    private void outOfRange() throws Exception {
        TopicPartition from = new TopicPartition(suite.topic("range", 1), 0);
        suite.fill(from, 10);
        try (KafkaConsumer<String, String> consumer = suite.consumer()) {
            consumer.assign(List.of(from));
            consumer.seek(from, 1_000_000);
            Suite.equal(0L, Suite.take(consumer, 10).get(0).offset(), "offset after the reset to earliest");
        }
        try (KafkaConsumer<String, String> consumer = suite.consumer("auto.offset.reset", "none")) {
            consumer.assign(List.of(from));
            consumer.seek(from, 11);
            OffsetOutOfRangeException error = Suite.fails(OffsetOutOfRangeException.class, () -> Suite.take(consumer, 1));
            Suite.equal(Map.of(from, 11L), error.offsetOutOfRangePartitions(), "offsets out of range");
            consumer.seek(from, 10);
            Suite.that(consumer.poll(Duration.ofMillis(300)).isEmpty(), "the end itself is in range");
        }
    }

    private void pauseResume() throws Exception {
        String topic = suite.topic("pause", 2);
        TopicPartition one = new TopicPartition(topic, 0);
        TopicPartition two = new TopicPartition(topic, 1);
        try (KafkaConsumer<String, String> consumer = suite.consumer()) {
            consumer.assign(List.of(one, two));
            consumer.pause(List.of(one));
            suite.fill(one, 10);
            suite.fill(two, 10);
            for (ConsumerRecord<String, String> record : Suite.take(consumer, 10)) {
                Suite.equal(1, record.partition(), "partition while the other is paused");
            }
            consumer.resume(List.of(one));
            for (ConsumerRecord<String, String> record : Suite.take(consumer, 10)) {
                Suite.equal(0, record.partition(), "partition after the resumption");
            }
        }
    }

    private void smallLimits() throws Exception {
        String topic = suite.topic("limits", 4);
        for (int p = 0; p < 4; p++) suite.fill(new TopicPartition(topic, p), 100);
        for (String limit : List.of("fetch.max.bytes", "max.partition.fetch.bytes")) {
            // Even a limit below the size of a batch lets the first batch through.
            try (KafkaConsumer<String, String> consumer = suite.consumer(limit, "10", "max.poll.records", "7")) {
                consumer.assign(IntStream.range(0, 4).mapToObj(p -> new TopicPartition(topic, p)).toList());
                long[] next = new long[4];
                long end = System.nanoTime() + Suite.DEADLINE.toNanos();
                while (next[0] + next[1] + next[2] + next[3] < 400) {
                    Suite.that(System.nanoTime() < end, limit + ": all records arrive");
                    ConsumerRecords<String, String> records = consumer.poll(Duration.ofMillis(100));
                    Suite.that(records.count() <= 7, "max.poll.records");
                    for (ConsumerRecord<String, String> record : records) {
                        Suite.equal(next[record.partition()]++, record.offset(), "next offset");
                    }
                }
            }
        }
    }

    private void manyPartitions() throws Exception {
        String topic = suite.topic("drain", 8);
        List<TopicPartition> all = IntStream.range(0, 8).mapToObj(p -> new TopicPartition(topic, p)).toList();
        try (KafkaProducer<String, String> producer = suite.producer("linger.ms", "5")) {
            for (int i = 0; i < 4000; i++) producer.send(new ProducerRecord<>(topic, i % 8, "k", "v" + i / 8));
        }
        try (KafkaConsumer<String, String> consumer = suite.consumer()) {
            consumer.assign(all);
            int[] next = new int[8];
            for (ConsumerRecord<String, String> record : Suite.take(consumer, 4000)) {
                int expected = next[record.partition()]++;
                Suite.equal((long) expected, record.offset(), "offset in partition " + record.partition());
                Suite.equal("v" + expected, record.value(), "value in partition " + record.partition());
            }
        }
    }

    private void longPoll() throws Exception {
        TopicPartition from = new TopicPartition(suite.topic("wake", 1), 0);
        try (KafkaConsumer<String, String> consumer = suite.consumer("fetch.max.wait.ms", "20000");
                KafkaProducer<String, String> producer = suite.producer()) {
            consumer.assign(List.of(from));
            consumer.poll(Duration.ofMillis(500));
            CompletableFuture<Void> sent = CompletableFuture.runAsync(() -> {
                try {
                    Thread.sleep(700);
                    Suite.send(producer, from, 0, 1);
                } catch (Exception e) {
                    throw new IllegalStateException(e);
                }
            });
            long begin = System.nanoTime();
            Suite.take(consumer, 1);
            long waited = (System.nanoTime() - begin) / 1_000_000;
            Suite.that(waited < 10_000, "a produce wakes the waiting fetch; it took " + waited + " ms");
            sent.get();
            // The next fetch waits already; do not wait for it.
            consumer.close(CloseOptions.timeout(Duration.ZERO));
        }
    }

    private void longPollWaits() throws Exception {
        TopicPartition from = new TopicPartition(suite.topic("min-bytes", 1), 0);
        suite.fill(from, 1);
        try (KafkaConsumer<String, String> consumer =
                suite.consumer("fetch.min.bytes", "1000000", "fetch.max.wait.ms", "1500")) {
            consumer.assign(List.of(from));
            consumer.position(from);
            long begin = System.nanoTime();
            Suite.take(consumer, 1);
            long waited = (System.nanoTime() - begin) / 1_000_000;
            Suite.that(waited >= 1_300, "fetch.min.bytes holds the answer back; it took only " + waited + " ms");
        }
    }

    private void commitAndResume() throws Exception {
        String topic = suite.topic("commit", 2);
        TopicPartition one = new TopicPartition(topic, 0);
        TopicPartition two = new TopicPartition(topic, 1);
        suite.fill(one, 20);
        String group = suite.name("commit-group");
        try (KafkaConsumer<String, String> consumer = suite.consumer("group.id", group, "max.poll.records", "5")) {
            consumer.subscribe(List.of(topic));
            Suite.take(consumer, 5);
            consumer.commitSync();
            Suite.equal(5L, consumer.committed(Set.of(one)).get(one).offset(), "committed");
            consumer.commitSync(Map.of(two, new OffsetAndMetadata(0, "some metadata ✓")));
        }
        try (KafkaConsumer<String, String> consumer = suite.consumer("group.id", group)) {
            Map<TopicPartition, OffsetAndMetadata> committed = consumer.committed(Set.of(one, two));
            Suite.equal(5L, committed.get(one).offset(), "committed after the restart");
            Suite.equal("some metadata ✓", committed.get(two).metadata(), "metadata");
            consumer.subscribe(List.of(topic));
            Suite.equal(5L, Suite.take(consumer, 15).get(0).offset(), "resumes after the commit");
        }
        try (KafkaConsumer<String, String> consumer = suite.consumer("group.id", suite.name("nobody"))) {
            Suite.equal(null, consumer.committed(Set.of(one)).get(one), "a group that never committed");
        }
    }

    private void commitAsync() throws Exception {
        TopicPartition from = new TopicPartition(suite.topic("async", 1), 0);
        suite.fill(from, 10);
        try (KafkaConsumer<String, String> consumer = suite.consumer("group.id", suite.name("async-group"))) {
            consumer.assign(List.of(from));
            Suite.take(consumer, 10);
            CompletableFuture<Map<TopicPartition, OffsetAndMetadata>> done = new CompletableFuture<>();
            consumer.commitAsync((offsets, error) -> {
                if (error == null) done.complete(offsets);
                else done.completeExceptionally(error);
            });
            Suite.eventually("the commit is answered", () -> {
                consumer.poll(Duration.ofMillis(50));
                return done.isDone();
            });
            Suite.equal(10L, done.get().get(from).offset(), "offset in the answer");
            Suite.equal(10L, consumer.committed(Set.of(from)).get(from).offset(), "committed");
        }
    }

    private void autoCommit() throws Exception {
        TopicPartition from = new TopicPartition(suite.topic("auto-commit", 1), 0);
        suite.fill(from, 10);
        String group = suite.name("auto-commit-group");
        try (KafkaConsumer<String, String> consumer = suite.consumer("group.id", group, "enable.auto.commit", "true")) {
            consumer.subscribe(List.of(from.topic()));
            Suite.take(consumer, 10);
        }
        try (KafkaConsumer<String, String> consumer = suite.consumer("group.id", group)) {
            Suite.equal(10L, consumer.committed(Set.of(from)).get(from).offset(), "committed by closing");
        }
    }

    private void pattern() throws Exception {
        String stem = suite.name("pattern");
        suite.fill(new TopicPartition(suite.topic("pattern", 1), 0), 1);
        suite.fill(new TopicPartition(suite.topic("not-pattern", 1), 0), 1);
        try (KafkaConsumer<String, String> consumer =
                suite.consumer("group.id", stem, "metadata.max.age.ms", "300")) {
            consumer.subscribe(Pattern.compile("^" + stem + ".*"));
            Suite.equal(stem, Suite.take(consumer, 1).get(0).topic(), "topic");
            consumer.commitSync();
            String later = stem + "-later";
            suite.admin.createTopics(List.of(new org.apache.kafka.clients.admin.NewTopic(later, 1, (short) 1))).all().get();
            suite.fill(new TopicPartition(later, 0), 1);
            Suite.equal(later, Suite.take(consumer, 1).get(0).topic(), "topic that came later");
        }
    }

    private void readCommitted() throws Exception {
        TopicPartition from = new TopicPartition(suite.topic("read-committed", 1), 0);
        suite.fill(from, 50);
        try (KafkaConsumer<String, String> consumer = suite.consumer("isolation.level", "read_committed")) {
            consumer.assign(List.of(from));
            Suite.take(consumer, 50);
            Suite.equal(Map.of(from, 50L), consumer.endOffsets(List.of(from)), "last stable offset");
        }
    }

    private void tail() throws Exception {
        TopicPartition from = new TopicPartition(suite.topic("tail", 1), 0);
        try (KafkaConsumer<String, String> consumer = suite.consumer();
                KafkaProducer<String, String> producer = suite.producer("linger.ms", "1")) {
            consumer.assign(List.of(from));
            Future<?> sending = CompletableFuture.runAsync(() -> {
                for (int i = 0; i < 300; i++) {
                    producer.send(new ProducerRecord<>(from.topic(), 0, "k" + i, "v" + i));
                    if (i % 10 == 0) producer.flush();
                }
                producer.flush();
            });
            List<ConsumerRecord<String, String>> read = Suite.take(consumer, 300);
            for (int i = 0; i < 300; i++) Suite.equal("v" + i, read.get(i).value(), "value " + i);
            sending.get();
        }
    }

    private void metadata() throws Exception {
        String topic = suite.topic("metadata", 3);
        try (KafkaConsumer<String, String> consumer = suite.consumer()) {
            Set<Integer> partitions = new HashSet<>();
            consumer.partitionsFor(topic).forEach(info -> {
                Suite.that(info.leader() != null, "a leader");
                Suite.equal(1, info.replicas().length, "replicas");
                Suite.equal(1, info.inSyncReplicas().length, "replicas in sync");
                partitions.add(info.partition());
            });
            Suite.equal(Set.of(0, 1, 2), partitions, "partitions");
            Suite.that(consumer.listTopics().containsKey(topic), "it is listed");
        }
    }
}
