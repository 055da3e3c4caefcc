import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.TimeUnit;

/** Tools that write and read records. */
final class Traffic {
    private static final String TOOLS = "org.apache.kafka.tools.";
    private static final ObjectMapper JSON = new ObjectMapper();
    private final Tools tools;
    private final Given given;

    Traffic(Tools tools) {
        this.tools = tools;
        this.given = new Given(tools);
    }

    void register() {
        tools.smoke("verifiable_producer_and_consumer", this::verifiable);
        tools.full("verifiable_share_consumer", this::share);
        tools.smoke("e2e_latency", this::latency);
        tools.full("replica_verification", this::replicas);
        tools.full("client_compatibility", this::compatibility);
    }

    /** The kinds of events in order of their names, each with the sum of its counts; and the sums that the tool names itself. */
    private static List<String> events(List<String> out) throws Exception {
        Map<String, Long> sums = new TreeMap<>();
        for (String line : out) {
            JsonNode event = JSON.readTree(line);
            sums.merge(event.get("name").asText(), event.path("count").asLong(), Long::sum);
            if (event.path("name").asText().equals("tool_data")) {
                sums.put("sent", event.get("sent").asLong());
                sums.put("acked", event.get("acked").asLong());
            }
        }
        List<String> lines = new ArrayList<>();
        sums.forEach((name, sum) -> lines.add(name + " " + sum));
        return lines;
    }

    private void verifiable() throws Exception {
        String topic = given.topic("verifiable", 3, 0);
        Transcript transcript = new Transcript(tools, "verifiable_producer_and_consumer");
        transcript.add(List.of("$ kafka-verifiable-producer"));
        transcript.add(events(process(null, "VerifiableProducer", "--bootstrap-server", tools.bootstrap, "--topic", topic,
                "--max-messages", "1000", "--repeating-keys", "50", "--acks", "-1")));
        transcript.add(List.of("$ kafka-verifiable-consumer"));
        transcript.add(events(process(null, "VerifiableConsumer", "--bootstrap-server", tools.bootstrap, "--topic", topic,
                "--group-id", topic, "--max-messages", "1000", "--reset-policy", "earliest")));
        given.shown(transcript, topic);
        transcript.compare();
    }

    private void share() throws Exception {
        String topic = given.topic("shared", 1, 300);
        Transcript transcript = new Transcript(tools, "verifiable_share_consumer");
        transcript.add(List.of("$ kafka-verifiable-share-consumer"));
        transcript.add(events(process(null, "VerifiableShareConsumer", "--bootstrap-server", tools.bootstrap, "--topic", topic,
                "--group-id", topic, "--max-messages", "300", "--offset-reset-strategy", "earliest")));
        transcript.compare();
    }

    /** Runs a tool in a process of its own until it ends or prints a line with `last`, and returns its lines. */
    private static List<String> process(String last, String tool, String... args) throws Exception {
        List<String> command = new ArrayList<>(List.of(Path.of(System.getProperty("java.home"), "bin", "java").toString(), "-Xmx128m",
                "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-cp", System.getProperty("java.class.path"), TOOLS + tool));
        command.addAll(List.of(args));
        Process process = new ProcessBuilder(command).redirectErrorStream(true).start();
        Thread watch = new Thread(() -> {
            try {
                if (!process.waitFor(40, TimeUnit.SECONDS)) process.destroyForcibly();
            } catch (InterruptedException e) {
                process.destroyForcibly();
            }
        });
        watch.setDaemon(true);
        watch.start();
        List<String> shown = new ArrayList<>();
        try (var lines = new BufferedReader(new InputStreamReader(process.getInputStream(), StandardCharsets.UTF_8))) {
            String line;
            while ((line = lines.readLine()) != null) {
                if (line.startsWith("SLF4J")) continue;
                shown.add(line);
                if (last != null && line.contains(last)) break;
            }
        } finally {
            process.destroyForcibly().waitFor();
        }
        return shown;
    }

    private void latency() throws Exception {
        String topic = given.topic("latency", 1, 0);
        Transcript transcript = new Transcript(tools, "e2e_latency").mask("\\d+(\\.\\d+)?(E-?\\d+)? ms", "N ms").mask("th = \\d+", "th = N")
                .mask("^\\d+\\t\\d+\\.\\d+$", "N\tN");
        transcript.call("kafka-e2e-latency", TOOLS + "EndToEndLatency", 0, "--topic", topic, "--num-records", "200", "--producer-acks", "all",
                "--record-size", "100");
        transcript.compare();
    }

    /** It runs until it is ended. */
    private void replicas() throws Exception {
        String topic = given.topic("replicas", 1, 10);
        Transcript transcript = new Transcript(tools, "replica_verification").mask("^\\d{4}-[^:]+:\\d\\d:\\d\\d,\\d+: ", "TIME: ");
        transcript.add(List.of("$ kafka-replica-verification"));
        transcript.add(process("max lag is", "ReplicaVerificationTool", "--broker-list", tools.bootstrap, "--topics-include", topic,
                "--time", "-2", "--report-interval-ms", "500"));
        transcript.compare();
    }

    private void compatibility() throws Exception {
        String topic = given.topic("compatibility", 1, 0);
        Transcript transcript = new Transcript(tools, "client_compatibility");
        List<String> args = new ArrayList<>(List.of("--topic", topic, "--num-cluster-nodes", "1"));
        for (String supported : List.of("offsets-for-times", "cluster-id", "create-topics", "describe-acls", "describe-configs",
                "idempotent-producer")) {
            args.addAll(List.of("--" + supported + "-supported", "true"));
        }
        args.addAll(List.of("--expect-record-too-large-exception", "false"));
        transcript.call("ClientCompatibilityTest", TOOLS + "ClientCompatibilityTest", 0, args.toArray(String[]::new));
        transcript.compare();
    }
}
