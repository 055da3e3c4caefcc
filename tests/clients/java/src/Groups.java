import java.time.Duration;
import java.util.ArrayList;
import java.util.Collection;
import java.util.Collections;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.kafka.clients.consumer.CommitFailedException;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.CooperativeStickyAssignor;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.RangeAssignor;
import org.apache.kafka.clients.consumer.RoundRobinAssignor;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.FencedInstanceIdException;

/** Consumer groups of several members: joining, leaving, dying, static members. */
final class Groups {
    private static final int PARTITIONS = 6;
    private final Suite suite;

    Groups(Suite suite) {
        this.suite = suite;
    }

    void register() {
        suite.smoke("group_range_joins_and_leaves", () -> joinsAndLeaves("range", RangeAssignor.class));
        suite.full("group_round_robin_joins_and_leaves", () -> joinsAndLeaves("robin", RoundRobinAssignor.class));
        suite.smoke("group_cooperative_joins_and_leaves", this::cooperative);
        suite.smoke("group_delivers_everything_once", this::everythingOnce);
        suite.full("group_survives_a_death", this::death);
        suite.full("group_static_member_returns", this::staticMember);
        suite.full("group_static_member_is_fenced", this::fencedInstance);
        suite.full("group_late_commit_is_refused", this::lateCommit);
        suite.full("group_sees_new_partitions", this::newPartitions);
    }

    /** A member that polls on a thread of its own until it is closed or killed. */
    final class Member implements AutoCloseable, ConsumerRebalanceListener {
        final KafkaConsumer<String, String> consumer;
        final List<ConsumerRecord<String, String>> records = new CopyOnWriteArrayList<>();
        final AtomicInteger revoked = new AtomicInteger();
        volatile Set<TopicPartition> assigned = Set.of();
        volatile Throwable failure;
        private volatile boolean closing;
        private final Thread thread;

        Member(String topic, String group, String... configs) {
            List<String> all = new ArrayList<>(List.of("group.id", group, "heartbeat.interval.ms", "200"));
            Collections.addAll(all, configs);
            consumer = suite.consumer(all.toArray(String[]::new));
            consumer.subscribe(List.of(topic), this);
            thread = Suite.daemon(this::poll);
            thread.start();
        }

        private void poll() {
            try {
                while (!closing) {
                    consumer.poll(Duration.ofMillis(50)).forEach(records::add);
                    assigned = Set.copyOf(consumer.assignment());
                    if (!assigned.isEmpty()) consumer.commitAsync();
                }
            } catch (Throwable e) {
                failure = e;
            } finally {
                consumer.close();
            }
        }

        @Override
        public void onPartitionsRevoked(Collection<TopicPartition> partitions) {
            revoked.addAndGet(partitions.size());
        }

        @Override
        public void onPartitionsAssigned(Collection<TopicPartition> partitions) {}

        @Override
        public void close() throws InterruptedException {
            closing = true;
            thread.join(Suite.DEADLINE.toMillis());
            assigned = Set.of();
        }
    }

    /** All partitions are assigned, each to one member, and each member has its share. */
    private static boolean shared(int each, Member... members) {
        Set<TopicPartition> union = new HashSet<>();
        for (Member member : members) {
            if (member.failure != null) throw new IllegalStateException(member.failure);
            if (member.assigned.size() != each) return false;
            union.addAll(member.assigned);
        }
        return union.size() == each * members.length;
    }

    private static void settles(int each, Member... members) throws Exception {
        Suite.eventually("each of " + members.length + " members has " + each + " partitions", () -> shared(each, members));
    }

    private void joinsAndLeaves(String stem, Class<?> assignor) throws Exception {
        String topic = suite.topic("group-" + stem, PARTITIONS);
        String group = suite.name("group-" + stem);
        String[] configs = {"partition.assignment.strategy", assignor.getName()};
        try (Member one = new Member(topic, group, configs)) {
            settles(6, one);
            Member two = new Member(topic, group, configs);
            settles(3, one, two);
            try (Member three = new Member(topic, group, configs)) {
                settles(2, one, two, three);
                Suite.that(one.revoked.get() >= 9, "eager members give everything up at each join");
                two.close();
                settles(3, one, three);
            }
            settles(6, one);
        }
    }

    private void cooperative() throws Exception {
        String topic = suite.topic("group-cooperative", PARTITIONS);
        String group = suite.name("group-cooperative");
        String[] configs = {"partition.assignment.strategy", CooperativeStickyAssignor.class.getName()};
        try (Member one = new Member(topic, group, configs)) {
            settles(6, one);
            Member two = new Member(topic, group, configs);
            settles(3, one, two);
            Suite.equal(3, one.revoked.get(), "partitions that the first member gave up");
            try (Member three = new Member(topic, group, configs)) {
                settles(2, one, two, three);
                Suite.equal(4, one.revoked.get(), "partitions that the first member gave up");
                two.close();
                settles(3, one, three);
                Suite.equal(4, one.revoked.get(), "nothing is given up when a member leaves");
            }
        }
    }

    private void everythingOnce() throws Exception {
        String topic = suite.topic("group-once", PARTITIONS);
        String group = suite.name("group-once");
        try (Member one = new Member(topic, group);
                Member two = new Member(topic, group);
                Member three = new Member(topic, group)) {
            settles(2, one, two, three);
            for (int p = 0; p < PARTITIONS; p++) suite.fill(new TopicPartition(topic, p), 100);
            List<Member> members = List.of(one, two, three);
            Suite.eventually("600 records", () -> members.stream().mapToInt(m -> m.records.size()).sum() >= 600);
            Set<String> seen = new HashSet<>();
            for (Member member : members) {
                Suite.equal(200, member.records.size(), "records of a member");
                long[] next = new long[PARTITIONS];
                for (ConsumerRecord<String, String> record : member.records) {
                    Suite.that(seen.add(record.partition() + "@" + record.offset()), "each record once");
                    Suite.equal(next[record.partition()]++, record.offset(), "next offset");
                }
            }
        }
    }

    /** A member in a process of its own is killed; the others get its partitions after its session's time-out. */
    private void death() throws Exception {
        String topic = suite.topic("group-death", PARTITIONS);
        String group = suite.name("group-death");
        String java = System.getProperty("java.home") + "/bin/java";
        Process victim = new ProcessBuilder(java, "-XX:TieredStopAtLevel=1", "-cp", System.getProperty("java.class.path"),
                "Victim", suite.bootstrap, topic, group).redirectErrorStream(true)
                .redirectOutput(ProcessBuilder.Redirect.DISCARD).start();
        try (Member one = new Member(topic, group, "session.timeout.ms", "6000")) {
            settles(3, one);
            long begin = System.nanoTime();
            victim.destroyForcibly().waitFor();
            settles(6, one);
            long waited = (System.nanoTime() - begin) / 1_000_000;
            Suite.that(waited > 4_000, "nobody said that it left; yet its session ended after " + waited + " ms");
        } finally {
            victim.destroyForcibly();
        }
    }

    private void staticMember() throws Exception {
        String topic = suite.topic("group-static", PARTITIONS);
        String group = suite.name("group-static");
        try (Member one = new Member(topic, group, "group.instance.id", "one")) {
            Member two = new Member(topic, group, "group.instance.id", "two");
            settles(3, one, two);
            Set<TopicPartition> before = two.assigned;
            int revoked = one.revoked.get();
            two.close();
            try (Member again = new Member(topic, group, "group.instance.id", "two")) {
                settles(3, one, again);
                Suite.equal(before, again.assigned, "the static member has its partitions back");
                Suite.equal(revoked, one.revoked.get(), "partitions that the other member gave up meanwhile");
            }
            // It left without saying so, as static members do: the admin client sends it away.
            suite.admin.removeMembersFromConsumerGroup(group,
                    new org.apache.kafka.clients.admin.RemoveMembersFromConsumerGroupOptions(
                            List.of(new org.apache.kafka.clients.admin.MemberToRemove("two")))).all().get();
            settles(6, one);
        }
    }

    private void fencedInstance() throws Exception {
        String topic = suite.topic("group-fenced", PARTITIONS);
        String group = suite.name("group-fenced");
        try (Member older = new Member(topic, group, "group.instance.id", "same")) {
            settles(6, older);
            try (Member newer = new Member(topic, group, "group.instance.id", "same")) {
                Suite.eventually("the older is fenced", () -> older.failure instanceof FencedInstanceIdException);
                settles(6, newer);
            }
        }
    }

    private void lateCommit() throws Exception {
        TopicPartition from = new TopicPartition(suite.topic("group-late", 1), 0);
        suite.fill(from, 5);
        String group = suite.name("group-late");
        try (KafkaConsumer<String, String> slow = suite.consumer("group.id", group, "max.poll.interval.ms", "1500",
                "heartbeat.interval.ms", "200", "session.timeout.ms", "6000")) {
            slow.subscribe(List.of(from.topic()));
            Suite.take(slow, 5);
            // It misses max.poll.interval.ms, so another member takes over; the late commit must not count.
            try (Member other = new Member(from.topic(), group)) {
                settles(1, other);
                Suite.fails(CommitFailedException.class, () -> slow.commitSync());
                Suite.eventually("the other member has read everything", () -> other.records.size() == 5);
            }
        }
    }

    private void newPartitions() throws Exception {
        String topic = suite.topic("group-grows", 2);
        try (Member one = new Member(topic, suite.name("group-grows"), "metadata.max.age.ms", "300")) {
            settles(2, one);
            suite.admin.createPartitions(Map.of(topic, org.apache.kafka.clients.admin.NewPartitions.increaseTo(5)))
                    .all().get();
            settles(5, one);
            suite.fill(new TopicPartition(topic, 4), 3);
            Suite.eventually("records of the new partition", () -> one.records.size() == 3);
        }
    }
}
