import com.fasterxml.jackson.databind.JsonNode;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import java.util.concurrent.Callable;
import java.util.concurrent.locks.ReadWriteLock;
import java.util.concurrent.locks.ReentrantReadWriteLock;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.config.ConfigResource;

/** Lines of a file, through a topic, into another file, while workers come and go; and the REST calls around it. */
final class Pipelines {
    private static final String SOURCE = "org.apache.kafka.connect.file.FileStreamSourceConnector";
    private static final String SINK = "org.apache.kafka.connect.file.FileStreamSinkConnector";
    private static final int SINK_TASKS = 3;
    private final Suite suite;
    private final Workers workers;
    /** Held for writing while a worker dies, for reading by the checks that expect exact answers. */
    private final ReadWriteLock killing = new ReentrantReadWriteLock();
    private final Path folder = Files.createTempDirectory("lines");

    Pipelines(Suite suite, Workers workers) throws Exception {
        this.suite = suite;
        this.workers = workers;
    }

    void register() {
        suite.smoke("internal_topics", this::internalTopics);
        suite.full("rest", () -> undisturbed(this::rest));
        suite.full("source_restarts_where_it_was", () -> undisturbed(this::restart));
        suite.smoke("no_line_lost_when_a_worker_is_killed", this::killed);
    }

    private void undisturbed(Suite.Body body) throws Exception {
        killing.readLock().lock();
        try {
            body.run();
        } finally {
            killing.readLock().unlock();
        }
    }

    private void internalTopics() throws Exception {
        Map<String, Integer> partitions = Map.of(workers.configTopic, 1, workers.offsetTopic, 25, workers.statusTopic, 5);
        var topics = suite.admin.describeTopics(partitions.keySet()).allTopicNames().get();
        for (String topic : partitions.keySet()) {
            Suite.equal(partitions.get(topic), topics.get(topic).partitions().size(), "partitions of " + topic);
            ConfigResource resource = new ConfigResource(ConfigResource.Type.TOPIC, topic);
            var config = suite.admin.describeConfigs(List.of(resource)).all().get().get(resource);
            Suite.equal("compact", config.get("cleanup.policy").value(), "policy of " + topic);
        }
    }

    private static Map<String, String> config(String kind, String topic, Path file, int tasks) {
        Map<String, String> map = new HashMap<>();
        map.put("connector.class", kind);
        map.put("tasks.max", "" + tasks);
        map.put(kind.equals(SINK) ? "topics" : "topic", topic);
        map.put("file", file.toString());
        return map;
    }

    private void create(String name, Map<String, String> config) throws Exception {
        JsonNode made = workers.patient("POST", "/connectors", Map.of("name", name, "config", config));
        Suite.equal(name, made.get("name").asText(), "name");
    }

    /** The worker of each task, when the connector and so many tasks run on live workers; else nothing. */
    private List<String> runners(String name, int tasks) throws Exception {
        Workers.Answer answer = workers.call("GET", "/connectors/" + name + "/status", null);
        if (answer.status() == 404) return List.of();
        JsonNode status = answer.good();
        List<String> found = new ArrayList<>();
        boolean runs = runs(status.get("connector"));
        for (JsonNode task : status.get("tasks")) {
            Suite.that(!"FAILED".equals(task.get("state").asText()), "a task failed: " + task);
            runs &= runs(task);
            found.add(task.get("worker_id").asText());
        }
        return runs && found.size() == tasks ? found : List.of();
    }

    private boolean runs(JsonNode part) {
        return part.get("state").asText().equals("RUNNING") && workers.alive().contains(part.get("worker_id").asText());
    }

    private void running(String name, int tasks) throws Exception {
        Suite.eventually(name + " runs with " + tasks + " tasks", () -> !runners(name, tasks).isEmpty());
    }

    private void state(String name, String state) throws Exception {
        Suite.eventually(name + " is " + state, () -> workers.patient("GET", "/connectors/" + name + "/status", null)
                .get("connector").get("state").asText().equals(state));
    }

    /** While workers rebalance they answer 409 or 500 whatever is asked. */
    private void answers(int status, String what, Callable<Integer> ask) throws Exception {
        Suite.eventually(what + ": " + status, () -> ask.call() == status);
    }

    private void rest() throws Exception {
        JsonNode root = workers.patient("GET", "/", null);
        Suite.equal(suite.admin.describeCluster().clusterId().get(), root.get("kafka_cluster_id").asText(), "cluster id");
        String plugins = workers.patient("GET", "/connector-plugins", null).toString();
        Suite.that(plugins.contains(SOURCE) && plugins.contains(SINK), "plugins: " + plugins);
        Map<String, String> bad = Map.of("connector.class", SOURCE, "name", "bad", "tasks.max", "1");
        Suite.equal(1, workers.call("PUT", "/connector-plugins/FileStreamSource/config/validate", bad).good()
                .get("error_count").asInt(), "errors in a config without a topic");

        String name = suite.name("rest");
        Path file = folder.resolve(name);
        Files.writeString(file, "one\n");
        Map<String, String> config = config(SOURCE, suite.topic("rest", 1), file, 1);
        create(name, config);
        running(name, 1);
        answers(409, "created twice", () -> workers.call("POST", "/connectors", Map.of("name", name, "config", config)).status());
        answers(404, "an unknown connector", () -> workers.call("GET", "/connectors/" + name + "-no", null).status());
        config.put("batch.size", "100");
        workers.patient("PUT", "/connectors/" + name + "/config", config);
        Suite.eventually("the config is changed", () -> workers.patient("GET", "/connectors/" + name + "/config", null)
                .path("batch.size").asText().equals("100"));
        workers.patient("PUT", "/connectors/" + name + "/pause", null);
        state(name, "PAUSED");
        workers.patient("PUT", "/connectors/" + name + "/resume", null);
        running(name, 1);
        workers.patient("POST", "/connectors/" + name + "/restart?includeTasks=true", null);
        running(name, 1);
        workers.patient("PUT", "/connectors/" + name + "/stop", null);
        state(name, "STOPPED");
        // Position 4 of the file is behind its only line.
        Suite.eventually("the offsets are there", () -> workers.patient("GET", "/connectors/" + name + "/offsets", null)
                .toString().contains("{\"position\":4}"));
        workers.patient("DELETE", "/connectors/" + name + "/offsets", null);
        Suite.equal("{\"offsets\":[]}", workers.patient("GET", "/connectors/" + name + "/offsets", null).toString(), "offsets");
        workers.patient("DELETE", "/connectors/" + name, null);
        Suite.eventually("it is deleted", () -> workers.call("GET", "/connectors/" + name, null).status() == 404);
    }

    private static void append(Path file, int from, int to) throws Exception {
        StringBuilder lines = new StringBuilder();
        for (int i = from; i < to; i++) lines.append("line ").append(i).append('\n');
        Files.writeString(file, lines, StandardOpenOption.CREATE, StandardOpenOption.APPEND);
    }

    /** The source's position is in a compacted topic of Connect: stopped and started, it goes on, and repeats nothing. */
    private void restart() throws Exception {
        String name = suite.name("restart");
        String topic = suite.topic("restart", 1);
        Path file = folder.resolve(name);
        append(file, 0, 500);
        create(name, config(SOURCE, topic, file, 1));
        TopicPartition partition = new TopicPartition(topic, 0);
        Suite.eventually("500 lines are sent", () -> end(partition) == 500);
        workers.patient("PUT", "/connectors/" + name + "/stop", null);
        state(name, "STOPPED");
        append(file, 500, 1000);
        workers.patient("PUT", "/connectors/" + name + "/resume", null);
        Suite.eventually("1000 lines are sent", () -> end(partition) >= 1000);
        var records = suite.readAll(partition);
        for (int i = 0; i < 1000; i++) Suite.equal("line " + i, records.get(i).value(), "record " + i);
        Suite.equal(1000, records.size(), "records");
        workers.patient("DELETE", "/connectors/" + name, null);
    }

    private long end(TopicPartition partition) throws Exception {
        return suite.admin.listOffsets(Map.of(partition, OffsetSpec.latest())).partitionResult(partition).get().offset();
    }

    private void killed() throws Exception {
        String source = suite.name("source");
        String sink = suite.name("sink");
        String topic = suite.topic("piped", SINK_TASKS);
        Path from = folder.resolve(source);
        Path to = folder.resolve(sink);
        append(from, 0, 2000);
        create(source, config(SOURCE, topic, from, 1));
        create(sink, config(SINK, topic, to, SINK_TASKS));
        Suite.eventually("2000 lines arrive", () -> arrived(to).size() == 2000);
        Suite.eventually("the sink's tasks are spread", () -> new HashSet<>(runners(sink, SINK_TASKS)).size() > 1);

        killing.writeLock().lock();
        try {
            String victim = runners(source, 1).get(0);
            append(from, 2000, 3000);
            workers.kill(victim);
            append(from, 3000, 4000);
            Suite.eventually("both run on the workers that are left",
                    () -> !runners(source, 1).isEmpty() && !runners(sink, SINK_TASKS).isEmpty());
        } finally {
            killing.writeLock().unlock();
        }
        append(from, 4000, 5000);
        Set<String> expected = new TreeSet<>();
        for (int i = 0; i < 5000; i++) expected.add("line " + i);
        Suite.eventually("5000 lines arrive", () -> arrived(to).size() >= 5000);
        Suite.equal(expected, arrived(to), "lines");
    }

    /** The different lines that are in the file; after a kill, some may be in it twice. */
    private static Set<String> arrived(Path file) throws Exception {
        return Files.exists(file) ? new TreeSet<>(Files.readAllLines(file)) : Set.of();
    }
}
