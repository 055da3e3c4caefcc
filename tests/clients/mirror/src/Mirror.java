import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Map;
import java.util.Objects;
import java.util.concurrent.TimeUnit;
import org.apache.kafka.clients.admin.Admin;

/** MirrorMaker 2 in its dedicated mode, a process that mirrors both ways between the clusters `peer` and `target`. */
final class Mirror implements AutoCloseable {
    private static final int START_SECONDS = 90;

    /** One of the two clusters. */
    record Cluster(String alias, String bootstrap, Admin admin) {
        static Cluster of(String alias, String bootstrap) {
            return new Cluster(alias, bootstrap, Admin.create(Map.of("bootstrap.servers", bootstrap)));
        }
    }

    final Cluster peer = Cluster.of("peer", Objects.requireNonNull(System.getenv("PEER_BOOTSTRAP"), "PEER_BOOTSTRAP"));
    final Cluster target;
    private final Path folder = Files.createTempDirectory("mirror");
    private final String topics;
    private Process process;

    Mirror(Suite suite) throws Exception {
        target = Cluster.of("target", suite.bootstrap);
        // Both clusters may have topics and groups of other suites and of an earlier run.
        topics = suite.name(".*");
    }

    /** Starts it and waits for the first heartbeat in both directions. */
    void start() throws Exception {
        Path settings = folder.resolve("mirror.properties");
        Files.writeString(settings, String.join("\n", "clusters=peer,target", "peer.bootstrap.servers=" + peer.bootstrap,
                "target.bootstrap.servers=" + target.bootstrap, "peer->target.enabled=true", "target->peer.enabled=true",
                "topics=" + topics, "groups=" + topics, "replication.factor=1", "checkpoints.topic.replication.factor=1",
                "heartbeats.topic.replication.factor=1", "offset-syncs.topic.replication.factor=1",
                "config.storage.replication.factor=1", "offset.storage.replication.factor=1",
                "status.storage.replication.factor=1", "refresh.topics.interval.seconds=2", "refresh.groups.interval.seconds=2",
                "sync.topic.configs.interval.seconds=2", "emit.heartbeats.interval.seconds=1",
                "emit.checkpoints.interval.seconds=1", "sync.group.offsets.enabled=true", "sync.group.offsets.interval.seconds=1",
                "offset.lag.max=0", "peer.offset.flush.interval.ms=500", "target.offset.flush.interval.ms=500", "tasks.max=2", "plugin.discovery=service_load", ""));
        process = new ProcessBuilder(Path.of(System.getProperty("java.home"), "bin", "java").toString(), "-Xmx256m",
                "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-cp", System.getProperty("java.class.path"),
                "org.apache.kafka.connect.mirror.MirrorMaker", settings.toString())
                .redirectErrorStream(true).redirectOutput(folder.resolve("log").toFile()).start();
        Runtime.getRuntime().addShutdownHook(new Thread(process::destroyForcibly));
        long end = System.nanoTime() + TimeUnit.SECONDS.toNanos(START_SECONDS);
        while (!has(target, "peer.heartbeats") || !has(peer, "target.heartbeats")) {
            Suite.that(process.isAlive(), "MirrorMaker ended: " + Files.readString(folder.resolve("log")));
            Suite.that(System.nanoTime() < end, "no heartbeats after " + START_SECONDS + " s");
            Thread.sleep(100);
        }
    }

    /** Ends it as an operator does. */
    void stop() throws Exception {
        process.destroy();
        Suite.that(process.waitFor(30, TimeUnit.SECONDS), "MirrorMaker does not end");
    }

    static boolean has(Cluster cluster, String topic) throws Exception {
        return cluster.admin.listTopics().names().get().contains(topic);
    }

    @Override
    public void close() throws Exception {
        if (process != null) process.destroyForcibly().waitFor();
    }
}
