import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse.BodyHandlers;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/** Three Connect workers of one group, each a process with a REST port. */
final class Workers implements AutoCloseable {
    private static final int COUNT = 3;
    private static final ObjectMapper JSON = new ObjectMapper();

    /** A status and the body that came with it. */
    record Answer(int status, JsonNode body) {
        JsonNode good() {
            Suite.that(status >= 200 && status < 300, "status " + status + ": " + body);
            return body;
        }
    }

    final String group;
    final String configTopic;
    final String offsetTopic;
    final String statusTopic;
    /** By the worker's id, which is its address. */
    private final Map<String, Process> running = new LinkedHashMap<>();
    private final HttpClient http = HttpClient.newHttpClient();
    private final Path folder = Files.createTempDirectory("workers");

    Workers(Suite suite) throws Exception {
        group = suite.name("connect");
        configTopic = group + "-configs";
        offsetTopic = group + "-offsets";
        statusTopic = group + "-status";
        List<ServerSocket> sockets = new ArrayList<>();
        for (int i = 0; i < COUNT; i++) sockets.add(new ServerSocket(0, 1, InetAddress.getLoopbackAddress()));
        List<Integer> ports = new ArrayList<>();
        for (ServerSocket each : sockets) {
            ports.add(each.getLocalPort());
            each.close();
        }
        Runtime.getRuntime().addShutdownHook(new Thread(() -> running.values().forEach(Process::destroyForcibly)));
        for (int port : ports) running.put("127.0.0.1:" + port, spawn(suite.bootstrap, port));
    }

    private Process spawn(String bootstrap, int port) throws Exception {
        Path settings = folder.resolve(port + ".properties");
        Files.writeString(settings, String.join("\n", "bootstrap.servers=" + bootstrap, "group.id=" + group,
                "config.storage.topic=" + configTopic, "offset.storage.topic=" + offsetTopic,
                "status.storage.topic=" + statusTopic, "config.storage.replication.factor=-1",
                "offset.storage.replication.factor=-1", "status.storage.replication.factor=-1",
                "key.converter=org.apache.kafka.connect.storage.StringConverter",
                "value.converter=org.apache.kafka.connect.storage.StringConverter",
                "listeners=http://127.0.0.1:" + port, "offset.flush.interval.ms=500", "session.timeout.ms=6000",
                "heartbeat.interval.ms=500", "rebalance.timeout.ms=10000", "scheduled.rebalance.max.delay.ms=1000",
                "consumer.session.timeout.ms=6000", "consumer.heartbeat.interval.ms=500", "plugin.discovery=service_load", ""));
        Path log = folder.resolve(port + ".log");
        return new ProcessBuilder(Path.of(System.getProperty("java.home"), "bin", "java").toString(), "-Xmx192m",
                "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-cp", System.getProperty("java.class.path"),
                "org.apache.kafka.connect.cli.ConnectDistributed", settings.toString())
                .redirectErrorStream(true).redirectOutput(log.toFile()).start();
    }

    List<String> alive() {
        return running.entrySet().stream().filter(each -> each.getValue().isAlive()).map(Map.Entry::getKey).toList();
    }

    /** kill -9. */
    void kill(String worker) throws Exception {
        Suite.that(running.containsKey(worker), "no such worker: " + worker);
        running.get(worker).destroyForcibly().waitFor();
    }

    /** Waits until every worker serves requests as a member of the group. */
    void ready() throws Exception {
        for (String worker : running.keySet()) {
            Suite.eventually("worker " + worker + " is ready", () -> {
                Suite.that(running.get(worker).isAlive(), "worker " + worker + " ended: " + tail(worker));
                try {
                    return call(worker, "GET", "/connectors", null).status == 200;
                } catch (java.io.IOException e) {
                    return false;
                }
            });
        }
    }

    private String tail(String worker) throws Exception {
        List<String> lines = Files.readAllLines(folder.resolve(worker.split(":")[1] + ".log"));
        return String.join(" | ", lines.subList(Math.max(0, lines.size() - 5), lines.size()));
    }

    /** Asks any live worker. */
    Answer call(String method, String path, Object body) throws Exception {
        return call(alive().get(0), method, path, body);
    }

    /** A request that meets a rebalance or a change is refused for the moment, by 409 or 500, and is sent again. */
    JsonNode patient(String method, String path, Object body) throws Exception {
        Answer[] last = new Answer[1];
        Suite.eventually(method + " " + path + " is served", () -> {
            last[0] = call(method, path, body);
            String message = last[0].body.path("message").asText();
            return last[0].status < 400 || !message.contains("rebalance") && !message.contains("momentarily");
        });
        return last[0].good();
    }

    private Answer call(String worker, String method, String path, Object body) throws Exception {
        HttpRequest request = HttpRequest.newBuilder(URI.create("http://" + worker + path)).timeout(Duration.ofSeconds(20))
                .header("Content-Type", "application/json")
                .method(method, body == null ? BodyPublishers.noBody() : BodyPublishers.ofString(JSON.writeValueAsString(body)))
                .build();
        var response = http.send(request, BodyHandlers.ofString());
        return new Answer(response.statusCode(), JSON.readTree(response.body()));
    }

    @Override
    public void close() throws Exception {
        for (Process each : running.values()) each.destroyForcibly();
        for (Process each : running.values()) each.waitFor();
    }
}
