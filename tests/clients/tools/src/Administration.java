import java.util.ArrayList;
import java.util.List;

/** Tools that ask about the cluster or move things in it. */
final class Administration {
    private static final String TOOLS = "org.apache.kafka.tools.";
    private static final String REASSIGN = TOOLS + "reassign.ReassignPartitionsCommand";
    private static final String ELECTION = TOOLS + "LeaderElectionCommand";
    private final Tools tools;
    private final Given given;

    Administration(Tools tools) {
        this.tools = tools;
        this.given = new Given(tools);
    }

    void register() {
        tools.smoke("cluster", this::cluster);
        tools.full("broker_api_versions", this::apiVersions);
        tools.smoke("log_dirs", this::logDirs);
        tools.smoke("reassign_partitions", this::reassign);
        tools.smoke("leader_election", this::election);
        tools.full("streams_application_reset", this::reset);
        tools.full("groups", this::groups);
    }

    private void cluster() throws Exception {
        Transcript transcript = new Transcript(tools, "cluster").mask("Cluster ID: [A-Za-z0-9_-]{22}$", "Cluster ID: 22 CHARACTERS")
                .mask(tools.bootstrap.split(":")[1] + " +", "PORT ");
        String tool = TOOLS + "ClusterTool";
        transcript.call("kafka-cluster", tool, 1, "cluster-id");
        transcript.call("kafka-cluster", tool, 1, "list-endpoints");
        transcript.call("kafka-cluster", tool, 1, "unregister", "--id", "99");
        transcript.compare();
    }

    /** On Alluvium, each API that is served has the versions of Kafka. */
    private void apiVersions() throws Exception {
        Transcript transcript = new Transcript(tools, "broker_api_versions");
        transcript.call("kafka-broker-api-versions", TOOLS + "BrokerApiVersionsCommand", 0);
        if (Transcript.kafka()) {
            transcript.compare();
            return;
        }
        List<String> kafka = transcript.ofKafka();
        List<String> found = transcript.lines();
        if (found.size() != kafka.size()) throw new AssertionError(found.size() + " lines, Kafka has " + kafka.size());
        List<String> wrong = new ArrayList<>();
        for (int i = 0; i < kafka.size(); i++) {
            if (kafka.get(i).equals(found.get(i))) continue;
            boolean unserved = found.get(i).matches("^\t\\w+\\(\\d+\\): UNSUPPORTED,?$");
            if (!unserved) wrong.add(found.get(i).strip() + " (Kafka: " + kafka.get(i).strip() + ")");
        }
        if (!wrong.isEmpty()) throw new AssertionError("not Kafka's versions: " + wrong);
    }

    private void logDirs() throws Exception {
        String topic = given.topic("log-dirs", 1, 20);
        Transcript transcript = new Transcript(tools, "log_dirs").mask("\"size\":[1-9]\\d*", "\"size\":SIZE")
                .mask("\"logDir\":\"[^\"]+\"", "\"logDir\":\"DIR\"");
        String tool = TOOLS + "LogDirsCommand";
        transcript.call("kafka-log-dirs", tool, 0, "--describe", "--topic-list", topic);
        transcript.call("kafka-log-dirs", tool, 0, "--describe", "--topic-list", topic, "--broker-list", "1");
        transcript.call("kafka-log-dirs", tool, 0, "--describe", "--topic-list", topic, "--broker-list", "1,7");
        transcript.call("kafka-log-dirs", tool, 0, "--describe", "--topic-list", tools.name("no-such-topic"));
        transcript.compare();
    }

    private static String assignment(String topic, String replicas) throws Exception {
        return Given.json("{\"version\":1,\"partitions\":[{\"topic\":\"" + topic + "\",\"partition\":0,\"replicas\":" + replicas + "}]}");
    }

    private void reassign() throws Exception {
        String topic = given.topic("reassigned", 1, 3);
        Transcript transcript = new Transcript(tools, "reassign_partitions")
                .mask("\"log_dirs\":\\[\"(?!any)[^\"]+\"\\]", "\"log_dirs\":[\"DIR\"]");
        String here = assignment(topic, "[1]");
        String script = "kafka-reassign-partitions";
        transcript.call(script, REASSIGN, 0, "--list");
        transcript.call(script, REASSIGN, 0, "--generate", "--broker-list", "1", "--topics-to-move-json-file",
                Given.json("{\"version\":1,\"topics\":[{\"topic\":\"" + topic + "\"}]}"));
        transcript.call(script, REASSIGN, 0, "--verify", "--reassignment-json-file", here);
        transcript.call(script, REASSIGN, 0, "--execute", "--reassignment-json-file", here);
        transcript.call(script, REASSIGN, 0, "--verify", "--preserve-throttles", "--reassignment-json-file", here);
        // Without --preserve-throttles, Kafka's tool waits a minute for the broker 2 that is not there.
        transcript.call(script, REASSIGN, 0, "--verify", "--preserve-throttles", "--reassignment-json-file", assignment(topic, "[2]"));
        transcript.call(script, REASSIGN, 0, "--execute", "--reassignment-json-file", assignment(topic, "[2]"));
        transcript.call(script, REASSIGN, 0, "--execute", "--reassignment-json-file", assignment(topic, "[1,1]"));
        transcript.call(script, REASSIGN, 0, "--execute", "--reassignment-json-file", assignment(tools.name("no-such-topic"), "[1]"));
        transcript.call(script, REASSIGN, 0, "--cancel", "--reassignment-json-file", here);
        transcript.call(script, REASSIGN, 0, "--list");
        transcript.compare();
    }

    private void election() throws Exception {
        String topic = given.topic("elected", 2, 0);
        Transcript transcript = new Transcript(tools, "leader_election");
        String script = "kafka-leader-election";
        transcript.call(script, ELECTION, 0, "--election-type", "preferred", "--topic", topic, "--partition", "0");
        transcript.call(script, ELECTION, 0, "--election-type", "unclean", "--topic", topic, "--partition", "1");
        transcript.call(script, ELECTION, 0, "--election-type", "preferred", "--path-to-json-file",
                Given.json("{\"partitions\":[{\"topic\":\"" + topic + "\",\"partition\":0}]}"));
        transcript.call(script, ELECTION, 0, "--election-type", "preferred", "--topic", topic, "--partition", "9");
        transcript.call(script, ELECTION, 0, "--election-type", "preferred", "--topic", tools.name("no-such-topic"), "--partition", "0");
        transcript.call(script, ELECTION, 0, "--election-type", "preferred", "--all-topic-partitions");
        transcript.compare();
    }

    private void reset() throws Exception {
        String application = tools.name("application");
        String input = given.topic("reset-input", 1, 10);
        String changelog = given.topic("application", 1, 0, "-counts-changelog");
        String repartition = given.topic("application", 1, 0, "-words-repartition");
        given.committed(application, input, 1, 7);
        // The tool keeps the names in a set.
        Transcript transcript = new Transcript(tools, "streams_application_reset")
                .mask("\\[(application-(words-repartition|counts-changelog)(, )?){2}\\]", "[BOTH]");
        String tool = TOOLS + "StreamsResetter";
        String script = "kafka-streams-application-reset";
        transcript.call(script, tool, 0, "--application-id", application, "--input-topics", input, "--dry-run");
        transcript.call(script, tool, 0, "--application-id", application, "--input-topics", input, "--to-offset", "3");
        given.shown(transcript, application);
        transcript.call(script, tool, 0, "--application-id", application, "--input-topics", tools.name("no-such-topic"));
        transcript.add(List.of("left: " + given.left(List.of(changelog, repartition))));
        transcript.compare();
    }

    private void groups() throws Exception {
        String topic = given.topic("grouped", 1, 5);
        String group = tools.name("listed-group");
        given.committed(group, topic, 1, 2);
        Transcript transcript = new Transcript(tools, "groups").mask(" +", " ");
        transcript.call("kafka-groups", TOOLS + "GroupsCommand", 0, "--list", "--group-type", "classic");
        transcript.keep("\\$ .*|GROUP .*|listed-group .*");
        transcript.call("kafka-consumer-groups", TOOLS + "consumer.group.ConsumerGroupCommand", 0, "--describe", "--group", group);
        transcript.call("kafka-consumer-groups", TOOLS + "consumer.group.ConsumerGroupCommand", 0, "--describe", "--group", group, "--state");
        transcript.call("kafka-share-groups", TOOLS + "consumer.group.ShareGroupCommand", 0, "--list");
        transcript.call("kafka-streams-groups", TOOLS + "streams.StreamsGroupCommand", 0, "--list");
        // The groups of other suites have other names.
        transcript.keep("[$!].*|GROUP .*|listed-group .*");
        transcript.compare();
    }
}
