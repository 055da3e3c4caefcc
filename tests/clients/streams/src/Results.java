import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StoreQueryParameters;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.kstream.GlobalKTable;
import org.apache.kafka.streams.kstream.Grouped;
import org.apache.kafka.streams.kstream.KTable;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.kstream.Suppressed;
import org.apache.kafka.streams.kstream.TimeWindows;
import org.apache.kafka.streams.state.QueryableStoreTypes;

/** One instance each: the results are exact, and the internal topics are what Streams asked for. */
final class Results {
    private static final int PARTITIONS = 3;
    private final Suite suite;

    Results(Suite suite) {
        this.suite = suite;
    }

    void register() {
        suite.smoke("word_count", this::wordCount);
        suite.full("windows_and_late_records", this::windows);
        suite.full("joins_of_tables", this::joins);
        suite.smoke("join_with_a_global_table", this::globalJoin);
    }

    private void wordCount() throws Exception {
        try (App app = new App(suite, "word-count")) {
            String input = suite.topic("lines", PARTITIONS);
            String output = suite.topic("counts", PARTITIONS);
            String repartition = app.id + "-words-repartition";
            String changelog = app.id + "-counts-changelog";
            Words words = new Words();
            app.send(input, words.lines(500));
            KafkaStreams streams = app.start(App.wordCount(input, output));
            app.running(streams);
            app.send(input, words.lines(500));
            app.drained(input, repartition);

            Suite.equal(words.counts(), app.latest(output), "counts in the output topic");
            var store = streams.store(StoreQueryParameters.fromNameAndType("counts", QueryableStoreTypes.<String, Long>keyValueStore()));
            for (Map.Entry<String, String> each : words.counts().entrySet()) {
                Suite.equal(each.getValue(), String.valueOf(store.get(each.getKey())), "in the store: " + each.getKey());
            }
            Suite.equal("compact", app.config(changelog, "cleanup.policy"), "policy of the changelog");
            Suite.equal("delete", app.config(repartition, "cleanup.policy"), "policy of the repartition topic");
            Suite.equal("-1", app.config(repartition, "retention.ms"), "retention of the repartition topic");
            Suite.equal(PARTITIONS, app.partitions(repartition).size(), "partitions of the repartition topic");
            Suite.equal(PARTITIONS, app.partitions(changelog).size(), "partitions of the changelog");
        }
    }

    private void windows() throws Exception {
        try (App app = new App(suite, "windows")) {
            String input = suite.topic("clicks", PARTITIONS);
            String output = suite.topic("windows", 1);
            StreamsBuilder builder = new StreamsBuilder();
            builder.<String, String>stream(input).groupByKey(Grouped.with(Serdes.String(), Serdes.String()))
                    .windowedBy(TimeWindows.ofSizeWithNoGrace(Duration.ofSeconds(10)))
                    .count(Materialized.as("windows"))
                    .suppress(Suppressed.untilWindowCloses(Suppressed.BufferConfig.unbounded()))
                    .toStream((window, count) -> window.key() + "@" + window.window().start())
                    .mapValues(String::valueOf)
                    .to(output);

            long start = (System.currentTimeMillis() / 10_000 - 60) * 10_000;
            Map<String, Integer> expected = new TreeMap<>();
            List<ProducerRecord<String, String>> records = new ArrayList<>();
            for (int i = 0; i < 600; i++) {
                // One partition for each key, so that each has a stream time of its own, and it grows.
                long time = start + i * 100L;
                records.add(new ProducerRecord<>(input, i % PARTITIONS, time, "key" + i % PARTITIONS, "click"));
                expected.merge("key" + i % PARTITIONS + "@" + time / 10_000 * 10_000, 1, Integer::sum);
            }
            for (int p = 0; p < PARTITIONS; p++) {
                records.add(new ProducerRecord<>(input, p, start, "key" + p, "too late"));
                records.add(new ProducerRecord<>(input, p, start + 100_000, "end", "closes all windows"));
            }
            app.sendRecords(records);
            app.running(app.start(builder.build()));
            app.drained(input);

            Map<String, String> strings = new TreeMap<>();
            expected.forEach((key, count) -> strings.put(key, count.toString()));
            Suite.equal(strings, app.latest(output), "closed windows");
            Suite.equal(expected.size(), app.read(output).size(), "results; each window closes once");
            Suite.equal("compact,delete", app.config(app.id + "-windows-changelog", "cleanup.policy"), "policy of the changelog");
        }
    }

    private void joins() throws Exception {
        try (App app = new App(suite, "joins")) {
            String users = suite.topic("users", PARTITIONS, "cleanup.policy", "compact");
            String cities = suite.topic("cities", PARTITIONS, "cleanup.policy", "compact");
            String ages = suite.topic("ages", PARTITIONS, "cleanup.policy", "compact");
            String output = suite.topic("joined", PARTITIONS);
            StreamsBuilder builder = new StreamsBuilder();
            KTable<String, String> userTable = builder.table(users, Materialized.as("users"));
            KTable<String, String> cityTable = builder.table(cities, Materialized.as("cities"));
            KTable<String, String> ageTable = builder.table(ages, Materialized.as("ages"));
            // By the same key, and by a foreign key, which goes through two more internal topics.
            userTable.leftJoin(ageTable, (city, age) -> city + "," + age)
                    .join(cityTable, value -> value.split(",")[0], (value, name) -> value + "," + name)
                    .toStream().to(output);
            app.running(app.start(builder.build()));

            app.send(cities, List.of(new String[] {"c0", "Aden"}, new String[] {"c1", "Bern"}, new String[] {"c2", "Cork"}));
            List<String[]> userRows = new ArrayList<>();
            List<String[]> ageRows = new ArrayList<>();
            for (int i = 0; i < 60; i++) {
                userRows.add(new String[] {"u" + i, "c" + i % 4});
                if (i % 2 == 0) ageRows.add(new String[] {"u" + i, "" + (20 + i)});
            }
            app.send(users, userRows);
            app.send(ages, ageRows);
            // A change on each side, and deletions.
            app.send(cities, List.of(new String[] {"c1", "Basel"}, new String[] {"c2", null}));
            app.send(users, List.of(new String[] {"u4", "c1"}, new String[] {"u8", null}));

            Map<String, String> expected = new TreeMap<>();
            for (int i = 0; i < 60; i++) {
                int city = i == 4 ? 1 : i % 4;
                if (i == 8 || city > 1) continue;
                String age = i % 2 == 0 ? "" + (20 + i) : "null";
                expected.put("u" + i, "c" + city + "," + age + "," + (city == 0 ? "Aden" : "Basel"));
            }
            app.drained(users, ages, cities);
            Suite.eventually("the joined table is " + expected, () -> expected.equals(app.latest(output)));
            app.drained(app.suite.admin.listTopics().names().get().stream()
                    .filter(each -> each.startsWith(app.id) && each.contains("-SUBSCRIPTION-") && each.endsWith("-topic"))
                    .toArray(String[]::new));
            Suite.equal(expected, app.latest(output), "the joined table at last");
        }
    }

    private void globalJoin() throws Exception {
        try (App app = new App(suite, "global-join")) {
            String prices = suite.topic("prices", PARTITIONS, "cleanup.policy", "compact");
            String orders = suite.topic("orders", PARTITIONS);
            String output = suite.topic("priced", PARTITIONS);
            List<String[]> priceRows = new ArrayList<>();
            List<String[]> orderRows = new ArrayList<>();
            Map<String, String> expected = new TreeMap<>();
            for (int i = 0; i < 50; i++) priceRows.add(new String[] {"item" + i, "" + i * 3});
            for (int i = 0; i < 300; i++) {
                orderRows.add(new String[] {"order" + i, "item" + i % 60});
                if (i % 60 < 50) expected.put("order" + i, "item" + i % 60 + " for " + i % 60 * 3);
            }
            app.send(prices, priceRows);
            app.send(orders, orderRows);
            StreamsBuilder builder = new StreamsBuilder();
            GlobalKTable<String, String> table = builder.globalTable(prices, Materialized.as("prices"));
            builder.<String, String>stream(orders)
                    .join(table, (order, item) -> item, (item, price) -> item + " for " + price)
                    .to(output);
            app.running(app.start(builder.build()));
            app.drained(orders);
            Suite.equal(expected, app.latest(output), "priced orders");
            Suite.equal(expected.size(), app.read(output).size(), "results");
        }
    }
}
