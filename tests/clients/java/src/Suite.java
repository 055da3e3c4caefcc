import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.concurrent.Callable;
import java.util.concurrent.CompletionException;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.DescribeClusterOptions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.UnknownTopicOrPartitionException;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

/** Runs named checks side by side, each with topics of its own, and prints one line for each. */
final class Suite {
    static final Duration DEADLINE = Duration.ofSeconds(120);
    private static final long CHECK_SECONDS = 240;
    private static final int SIDE_BY_SIDE = 6;

    interface Body {
        void run() throws Exception;
    }

    private record Check(String name, Body body) {}

    final String bootstrap = Objects.requireNonNull(System.getenv("BOOTSTRAP"), "BOOTSTRAP is not set");
    final boolean full = !"smoke".equals(System.getenv("LEVEL"));
    final Admin admin = Admin.create(Map.of("bootstrap.servers", bootstrap));
    private final String run = Long.toString(System.nanoTime(), 36);
    private final String only = System.getenv().getOrDefault("ONLY", "");
    private final List<Check> checks = new ArrayList<>();

    /** A check of the smoke level, which every store sees. */
    void smoke(String name, Body body) {
        if (name.contains(only)) checks.add(new Check(name, body));
    }

    /** A check of the full level. */
    void full(String name, Body body) {
        if (full) smoke(name, body);
    }

    /** Is there a broker at all? Without one, every check would wait for its deadline. */
    boolean answers() {
        try {
            admin.describeCluster(new DescribeClusterOptions().timeoutMs(15_000)).nodes().get();
            return true;
        } catch (Exception e) {
            System.out.println("FAIL broker_answers: " + unwrap(e));
            System.out.flush();
            return false;
        }
    }

    boolean runAll() throws Exception {
        ExecutorService checkers = Executors.newFixedThreadPool(SIDE_BY_SIDE);
        ExecutorService bodies = Executors.newCachedThreadPool(Suite::daemon);
        List<Callable<Boolean>> jobs = new ArrayList<>();
        for (Check check : checks) jobs.add(() -> runOne(check, bodies));
        boolean good = true;
        for (Future<Boolean> result : checkers.invokeAll(jobs)) good &= result.get();
        checkers.shutdown();
        admin.close(Duration.ZERO);
        return good && !checks.isEmpty();
    }

    private static boolean runOne(Check check, ExecutorService bodies) {
        long begin = System.nanoTime();
        Future<?> running = bodies.submit(() -> {
            check.body.run();
            return null;
        });
        Throwable failure = null;
        try {
            running.get(CHECK_SECONDS, TimeUnit.SECONDS);
        } catch (TimeoutException e) {
            running.cancel(true);
            failure = new AssertionError("not finished after " + CHECK_SECONDS + " s");
        } catch (Exception e) {
            failure = unwrap(e);
        }
        if (failure == null) {
            if (System.getenv("TIMES") != null) {
                System.err.println(check.name + " " + (System.nanoTime() - begin) / 1_000_000 + " ms");
            }
            System.out.println("ok " + check.name);
            return true;
        }
        System.out.println("FAIL " + check.name + ": " + String.valueOf(failure).replace('\n', ' ') + place(failure));
        return false;
    }

    /** The line of this suite where it went wrong. */
    private static String place(Throwable failure) {
        for (Throwable each = failure; each != null; each = each.getCause()) {
            for (StackTraceElement frame : each.getStackTrace()) {
                boolean ours = !frame.getClassName().contains(".") && !frame.getClassName().equals("Suite");
                if (ours) return " (" + frame.getFileName() + ":" + frame.getLineNumber() + ")";
            }
        }
        return "";
    }

    static Thread daemon(Runnable body) {
        Thread thread = new Thread(body);
        thread.setDaemon(true);
        return thread;
    }

    static Throwable unwrap(Throwable e) {
        boolean wrapper = e instanceof ExecutionException || e instanceof CompletionException;
        return wrapper && e.getCause() != null ? unwrap(e.getCause()) : e;
    }

    static void that(boolean holds, String otherwise) {
        if (!holds) throw new AssertionError(otherwise);
    }

    static void equal(Object expected, Object actual, String what) {
        if (!Objects.equals(expected, actual)) {
            throw new AssertionError(what + ": expected " + expected + ", got " + shorten(String.valueOf(actual)));
        }
    }

    private static String shorten(String text) {
        return text.length() <= 300 ? text : text.substring(0, 300) + "…";
    }

    /** The body must fail with exactly this kind of error. */
    static <T extends Throwable> T fails(Class<T> kind, Body body) {
        try {
            body.run();
        } catch (Throwable e) {
            Throwable cause = unwrap(e);
            if (kind.isInstance(cause)) return kind.cast(cause);
            throw new AssertionError("expected " + kind.getSimpleName() + ", got " + cause, cause);
        }
        throw new AssertionError("expected " + kind.getSimpleName() + ", but it succeeded");
    }

    /** Polls a condition until it holds. */
    static void eventually(String what, Callable<Boolean> condition) throws Exception {
        long end = System.nanoTime() + DEADLINE.toNanos();
        while (!condition.call()) {
            that(System.nanoTime() < end, "not within " + DEADLINE.toSeconds() + " s: " + what);
            Thread.sleep(20);
        }
    }

    String name(String stem) {
        return stem + "-" + run;
    }

    /**
     * Creates a topic that this run alone uses, and waits until all its partitions answer. Without the wait, Kafka may
     * refuse an idempotent producer's first batch as too early and take its second one, and the producer never recovers.
     */
    String topic(String stem, int partitions, String... configs) throws Exception {
        Map<String, String> map = new HashMap<>();
        for (int i = 0; i < configs.length; i += 2) map.put(configs[i], configs[i + 1]);
        String name = name(stem);
        admin.createTopics(List.of(new NewTopic(name, partitions, (short) 1).configs(map))).all().get();
        Map<TopicPartition, OffsetSpec> ends = new HashMap<>();
        for (int p = 0; p < partitions; p++) ends.put(new TopicPartition(name, p), OffsetSpec.latest());
        eventually("the partitions of " + name + " answer", () -> answers(ends));
        return name;
    }

    private boolean answers(Map<TopicPartition, OffsetSpec> ends) throws Exception {
        try {
            admin.listOffsets(ends).all().get();
            return true;
        } catch (ExecutionException e) {
            if (e.getCause() instanceof UnknownTopicOrPartitionException) return false;
            throw e;
        }
    }

    private Map<String, Object> settings(String... more) {
        Map<String, Object> map = new HashMap<>();
        map.put("bootstrap.servers", bootstrap);
        for (int i = 0; i < more.length; i += 2) map.put(more[i], more[i + 1]);
        return map;
    }

    KafkaProducer<String, String> producer(String... configs) {
        return new KafkaProducer<>(settings(configs), new StringSerializer(), new StringSerializer());
    }

    KafkaConsumer<String, String> consumer(String... configs) {
        Map<String, Object> map = settings(configs);
        map.putIfAbsent("auto.offset.reset", "earliest");
        map.putIfAbsent("enable.auto.commit", "false");
        return new KafkaConsumer<>(map, new StringDeserializer(), new StringDeserializer());
    }

    /** Sends values first..first+count-1 to one partition as "v<i>" with key "k<i>" and returns their metadata. */
    static List<RecordMetadata> send(KafkaProducer<String, String> producer, TopicPartition to, int first, int count)
            throws Exception {
        List<Future<RecordMetadata>> sent = new ArrayList<>();
        for (int i = first; i < first + count; i++) {
            sent.add(producer.send(new ProducerRecord<>(to.topic(), to.partition(), "k" + i, "v" + i)));
        }
        producer.flush();
        List<RecordMetadata> all = new ArrayList<>();
        for (Future<RecordMetadata> each : sent) all.add(each.get());
        return all;
    }

    /** Fills one partition with count records. */
    void fill(TopicPartition to, int count) throws Exception {
        try (KafkaProducer<String, String> producer = producer()) {
            send(producer, to, 0, count);
        }
    }

    /** Polls until count records are there; more or fewer is a failure. */
    static List<ConsumerRecord<String, String>> take(KafkaConsumer<String, String> consumer, int count) {
        List<ConsumerRecord<String, String>> all = new ArrayList<>();
        long end = System.nanoTime() + DEADLINE.toNanos();
        while (all.size() < count) {
            that(System.nanoTime() < end, "only " + all.size() + " of " + count + " records arrived");
            consumer.poll(Duration.ofMillis(100)).forEach(all::add);
        }
        equal(count, all.size(), "records");
        return all;
    }

    /** All records of a partition, read from the start to the end that the broker names. */
    List<ConsumerRecord<String, String>> readAll(TopicPartition from) {
        try (KafkaConsumer<String, String> consumer = consumer()) {
            consumer.assign(List.of(from));
            consumer.seekToBeginning(List.of(from));
            long begin = consumer.position(from);
            long end = consumer.endOffsets(List.of(from)).get(from);
            return take(consumer, (int) (end - begin));
        }
    }

    /** Checks that a partition holds v<first>… in order, at offsets without a gap from 0. */
    void holds(TopicPartition partition, int count) {
        List<ConsumerRecord<String, String>> records = readAll(partition);
        equal(count, records.size(), "records in " + partition);
        for (int i = 0; i < count; i++) {
            equal((long) i, records.get(i).offset(), "offset");
            equal("v" + i, records.get(i).value(), "value at offset " + i);
            equal("k" + i, records.get(i).key(), "key at offset " + i);
        }
    }
}
