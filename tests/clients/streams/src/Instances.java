import java.nio.file.Path;
import java.time.Duration;
import java.util.concurrent.atomic.AtomicLong;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.processor.StateRestoreListener;

/** Several instances of the word count: killed, started again with no state, and sharing the work. */
final class Instances {
    private static final int PARTITIONS = 4;
    private final Suite suite;

    Instances(Suite suite) {
        this.suite = suite;
    }

    void register() {
        suite.full("killed_and_restored_from_the_changelog", this::killed);
        suite.full("two_instances_share_and_hand_over", this::shared);
    }

    private void killed() throws Exception {
        try (App app = new App(suite, "killed")) {
            String input = suite.topic("killed-lines", PARTITIONS);
            String output = suite.topic("killed-counts", PARTITIONS);
            String repartition = app.id + "-words-repartition";
            Words words = new Words();
            app.send(input, words.lines(400));
            Process victim = spawn(app, input, output);
            try {
                app.drained(input, repartition);
            } finally {
                // All is committed, so that nothing is counted twice after this.
                victim.destroyForcibly().waitFor();
            }
            app.send(input, words.lines(400));
            Restored restored = new Restored();
            KafkaStreams streams = app.start(App.wordCount(input, output), each -> each.setGlobalStateRestoreListener(restored));
            app.running(streams);
            app.drained(input, repartition);
            Suite.that(restored.records.get() > 0, "records are restored from the changelog");
            Suite.equal(words.counts(), app.latest(output), "counts over both lives");
        }
    }

    private static Process spawn(App app, String input, String output) throws Exception {
        Path log = App.stateDir().resolve("log");
        return new ProcessBuilder(Path.of(System.getProperty("java.home"), "bin", "java").toString(), "-Xmx192m",
                "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Djava.io.tmpdir=" + System.getProperty("java.io.tmpdir"),
                "-cp", System.getProperty("java.class.path"), "Instance", app.suite.bootstrap, app.id, input, output,
                App.stateDir().toString()).redirectErrorStream(true).redirectOutput(log.toFile()).start();
    }

    private static final class Restored implements StateRestoreListener {
        final AtomicLong records = new AtomicLong();

        @Override
        public void onRestoreStart(TopicPartition partition, String store, long begin, long end) { }

        @Override
        public void onBatchRestored(TopicPartition partition, String store, long end, long count) {
            records.addAndGet(count);
        }

        @Override
        public void onRestoreEnd(TopicPartition partition, String store, long total) { }
    }

    private void shared() throws Exception {
        try (App app = new App(suite, "shared")) {
            String input = suite.topic("shared-lines", PARTITIONS);
            String output = suite.topic("shared-counts", PARTITIONS);
            String repartition = app.id + "-words-repartition";
            Words words = new Words();
            app.send(input, words.lines(300));
            // Warm-up replicas would take probing rebalances, ten minutes apart, until the second one gets its share.
            String[] more = {"acceptable.recovery.lag", "1000000"};
            KafkaStreams first = app.start(App.wordCount(input, output), more);
            app.running(first);
            app.drained(input, repartition);
            Suite.equal(2 * PARTITIONS, tasks(first), "tasks of a lone instance");

            KafkaStreams second = app.start(App.wordCount(input, output), more);
            Suite.eventually("both have half of the tasks", () -> {
                app.send(input, words.lines(5));
                return tasks(first) == PARTITIONS && tasks(second) == PARTITIONS;
            });
            app.send(input, words.lines(300));
            app.drained(input, repartition);
            Suite.equal(words.counts(), app.latest(output), "counts of both");

            Suite.that(first.close(new KafkaStreams.CloseOptions().leaveGroup(true).timeout(Duration.ofSeconds(20))), "the first one closes");
            Suite.eventually("the second has all tasks", () -> tasks(second) == 2 * PARTITIONS);
            app.send(input, words.lines(300));
            app.drained(input, repartition);
            Suite.equal(words.counts(), app.latest(output), "counts after the handover");
        }
    }

    private static int tasks(KafkaStreams streams) {
        return streams.metadataForLocalThreads().stream().mapToInt(each -> each.activeTasks().size()).sum();
    }
}
