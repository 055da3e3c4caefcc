import org.apache.kafka.streams.KafkaStreams;

/** What Alluvium does not serve yet: it works on Kafka, and ends with a clear error, soon, on Alluvium. */
final class Refusals {
    private final Suite suite;
    private final boolean kafka = "kafka".equals(System.getenv("TARGET"));

    Refusals(Suite suite) {
        this.suite = suite;
    }

    void register() {
        suite.full("exactly_once_v2", () -> run("exactly-once", "processing.guarantee", "exactly_once_v2",
                "Transactional Id authorization failed"));
        suite.full("streams_group_protocol", () -> run("protocol", "group.protocol", "streams", "UnsupportedVersionException"));
    }

    private void run(String stem, String setting, String value, String says) throws Exception {
        try (App app = new App(suite, stem)) {
            String input = suite.topic(stem + "-lines", 2);
            String output = suite.topic(stem + "-counts", 2);
            Words words = new Words();
            app.send(input, words.lines(200));
            KafkaStreams streams = app.start(App.wordCount(input, output), setting, value);
            if (kafka) {
                Suite.eventually("the counts are exact", () -> words.counts().equals(app.latest(output)));
                return;
            }
            Suite.eventually("the application ends", () -> streams.state() == KafkaStreams.State.ERROR);
            Suite.that(String.valueOf(app.cause()).contains(says), "expected " + says + ", got " + app.cause());
        }
    }
}
