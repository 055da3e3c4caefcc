/** Tools for what Alluvium does not serve yet, or what a cluster without controllers does not have: a clear answer, at once. */
final class Unserved {
    private static final String TOOLS = "org.apache.kafka.tools.";
    private final Tools tools;
    private final Given given;

    Unserved(Tools tools) {
        this.tools = tools;
        this.given = new Given(tools);
    }

    void register() {
        tools.full("features", this::features);
        tools.full("metadata_quorum", this::quorum);
        tools.full("transactions", this::transactions);
        tools.full("acls", this::acls);
        tools.full("delegation_tokens", this::tokens);
        tools.full("client_metrics", this::metrics);
        tools.full("users_and_quotas", this::users);
    }

    private void features() throws Exception {
        Transcript transcript = new Transcript(tools, "features").mask("Epoch: \\d+", "Epoch: N");
        String tool = TOOLS + "FeatureCommand";
        String script = "kafka-features";
        transcript.call(script, tool, 0, "describe");
        transcript.call(script, tool, 0, "upgrade", "--feature", "no.such.feature=3");
        transcript.call(script, tool, 0, "upgrade", "--feature", "group.version=99");
        transcript.call(script, tool, 0, "downgrade", "--feature", "no.such.feature=1");
        transcript.call(script, tool, 0, "disable", "--feature", "no.such.feature");
        transcript.compare();
    }

    private void quorum() throws Exception {
        Transcript transcript = new Transcript(tools, "metadata_quorum").mask("Cluster(I|i)d: .*", "ClusterId: ID")
                .mask("(Epoch|HighWatermark|LeaderEpoch|MaxFollowerLag|MaxFollowerLagTimeMs|CurrentVoters): .*", "$1: ...")
                .mask("\\d{13}", "TIME").mask("\t\\d+ +\t", "\tN\t");
        String tool = TOOLS + "MetadataQuorumCommand";
        transcript.call("kafka-metadata-quorum", tool, 0, "describe", "--status");
        transcript.call("kafka-metadata-quorum", tool, 0, "describe", "--replication");
        transcript.compare();
    }

    private void transactions() throws Exception {
        String topic = given.topic("transactions", 1, 3);
        Transcript transcript = new Transcript(tools, "transactions").mask("\\d{13}", "TIME").mask(" +\t", "\t");
        String tool = TOOLS + "TransactionsCommand";
        String script = "kafka-transactions";
        transcript.call(script, tool, 0, "list");
        transcript.keep("\\$.*|TransactionalId.*|!.*|exit.*");
        transcript.call(script, tool, 0, "describe", "--transactional-id", tools.name("no-such-id"));
        transcript.mask("^\\d+\t0\t", "PRODUCER\t0\t");
        transcript.call(script, tool, 0, "describe-producers", "--topic", topic, "--partition", "0");
        transcript.call(script, tool, 0, "find-hanging", "--topic", topic);
        transcript.call(script, tool, 0, "forceTerminateTransaction", "--transactionalId", tools.name("no-such-id"));
        transcript.compare();
    }

    private void acls() throws Exception {
        Transcript transcript = new Transcript(tools, "acls");
        String tool = TOOLS + "AclCommand";
        transcript.call("kafka-acls", tool, 0, "--list");
        transcript.call("kafka-acls", tool, 0, "--add", "--allow-principal", "User:someone", "--operation", "Read", "--topic", "some-topic");
        transcript.call("kafka-acls", tool, 0, "--remove", "--force", "--topic", "some-topic");
        transcript.compare();
    }

    private void tokens() throws Exception {
        String settings = Given.json("");
        Transcript transcript = new Transcript(tools, "delegation_tokens");
        String tool = TOOLS + "DelegationTokenCommand";
        String script = "kafka-delegation-tokens";
        transcript.call(script, tool, 0, "--describe", "--command-config", settings);
        transcript.call(script, tool, 0, "--create", "--max-life-time-period", "-1", "--command-config", settings);
        transcript.call(script, tool, 0, "--renew", "--renew-time-period", "-1", "--hmac", "aGVsbG8=", "--command-config", settings);
        transcript.compare();
    }

    private void metrics() throws Exception {
        Transcript transcript = new Transcript(tools, "client_metrics");
        transcript.call("kafka-client-metrics", TOOLS + "ClientMetricsCommand", 0, "--list");
        transcript.call("kafka-client-metrics", TOOLS + "ClientMetricsCommand", 0, "--describe");
        transcript.compare();
    }

    private void users() throws Exception {
        Transcript transcript = new Transcript(tools, "users_and_quotas");
        String tool = "kafka.admin.ConfigCommand";
        transcript.call("kafka-configs", tool, 0, "--describe", "--entity-type", "users");
        String[] someone = {"--entity-type", "clients", "--entity-name", "someone"};
        transcript.call("kafka-configs", tool, 0, Given.join(someone, "--alter", "--add-config", "consumer_byte_rate=1000000"));
        if (Transcript.kafka()) Given.eventually(() -> tools.run(tool, Given.join(someone, "--describe")).out().contains("consumer_byte_rate"));
        transcript.call("kafka-configs", tool, 0, Given.join(someone, "--describe"));
        transcript.call("kafka-configs", tool, 0, Given.join(someone, "--alter", "--delete-config", "consumer_byte_rate"));
        transcript.call("kafka-configs", tool, 0, "--describe", "--entity-type", "ips");
        transcript.compare();
    }
}
