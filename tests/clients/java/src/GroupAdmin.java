import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.Set;
import org.apache.kafka.clients.admin.ConsumerGroupDescription;
import org.apache.kafka.clients.admin.GroupListing;
import org.apache.kafka.clients.admin.ListConsumerGroupOffsetsSpec;
import org.apache.kafka.clients.admin.ListGroupsOptions;
import org.apache.kafka.clients.admin.ListTopicsOptions;
import org.apache.kafka.clients.admin.MemberDescription;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.common.GroupState;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.GroupIdNotFoundException;
import org.apache.kafka.common.errors.GroupNotEmptyException;
import org.apache.kafka.common.errors.GroupSubscribedToTopicException;
import org.apache.kafka.common.errors.UnknownMemberIdException;

/** Groups as the admin client sees and changes them. */
final class GroupAdmin {
    private final Suite suite;

    GroupAdmin(Suite suite) {
        this.suite = suite;
    }

    void register() {
        suite.smoke("groups_describe_and_list", this::describe);
        suite.smoke("groups_alter_and_list_offsets", this::alterOffsets);
        suite.full("groups_delete_offsets", this::deleteOffsets);
        suite.smoke("groups_delete", this::delete);
        suite.full("groups_unknown", this::unknown);
        suite.full("groups_deleted_topic_takes_its_offsets", this::deletedTopic);
        suite.full("groups_internal_topic", this::internalTopic);
    }

    private ConsumerGroupDescription description(String group) throws Exception {
        return suite.admin.describeConsumerGroups(List.of(group)).describedGroups().get(group).get();
    }

    /** A consumer that has joined and read the partition's ten records. */
    private KafkaConsumer<String, String> joined(TopicPartition from, String group) throws Exception {
        suite.fill(from, 10);
        KafkaConsumer<String, String> consumer = suite.consumer("group.id", group, "client.id", "the-client");
        consumer.subscribe(List.of(from.topic()));
        Suite.take(consumer, 10);
        return consumer;
    }

    private void describe() throws Exception {
        TopicPartition from = new TopicPartition(suite.topic("describe-group", 1), 0);
        String group = suite.name("describe-group");
        try (KafkaConsumer<String, String> consumer = joined(from, group)) {
            consumer.commitSync();
            ConsumerGroupDescription found = description(group);
            Suite.equal(GroupState.STABLE, found.groupState(), "state");
            Suite.equal("range", found.partitionAssignor(), "assignor");
            Suite.that(found.coordinator() != null && found.coordinator().port() > 0, "coordinator");
            Suite.equal(1, found.members().size(), "members");
            MemberDescription member = found.members().iterator().next();
            Suite.equal("the-client", member.clientId(), "client id");
            Suite.that(member.consumerId().startsWith("the-client-"), "member id " + member.consumerId());
            Suite.equal("/127.0.0.1", member.host(), "host");
            Suite.equal(Set.of(from), member.assignment().topicPartitions(), "assignment");
            Suite.equal("Stable", listed(group), "state in the list");
        }
        Suite.equal(GroupState.EMPTY, description(group).groupState(), "state without members");
        Suite.equal(0, description(group).members().size(), "members");
        Suite.equal("Empty", listed(group), "state in the list");
        ListGroupsOptions stable = new ListGroupsOptions().inGroupStates(Set.of(GroupState.STABLE));
        Suite.that(suite.admin.listGroups(stable).all().get().stream().noneMatch(g -> g.groupId().equals(group)),
                "an empty group is not among the stable ones");
    }

    private String listed(String group) throws Exception {
        for (GroupListing listing : suite.admin.listGroups().all().get()) {
            if (!listing.groupId().equals(group)) continue;
            Suite.equal("consumer", listing.protocol(), "kind of protocol");
            return listing.groupState().orElseThrow().toString();
        }
        return null;
    }

    private Map<TopicPartition, OffsetAndMetadata> offsets(String group) throws Exception {
        return suite.admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata(group).get();
    }

    private void alterOffsets() throws Exception {
        TopicPartition from = new TopicPartition(suite.topic("alter-offsets", 1), 0);
        String group = suite.name("alter-offsets");
        // A group that exists only by its offsets.
        suite.admin.alterConsumerGroupOffsets(group, Map.of(from, new OffsetAndMetadata(3, "by hand"))).all().get();
        Suite.equal(Map.of(from, new OffsetAndMetadata(3, "by hand")), offsets(group), "offsets");
        Suite.equal(GroupState.EMPTY, description(group).groupState(), "state");
        try (KafkaConsumer<String, String> consumer = suite.consumer("group.id", group)) {
            suite.fill(from, 10);
            consumer.subscribe(List.of(from.topic()));
            Suite.equal(3L, Suite.take(consumer, 7).get(0).offset(), "starts at the offset");
            consumer.commitSync();
            Suite.fails(UnknownMemberIdException.class, () -> suite.admin
                    .alterConsumerGroupOffsets(group, Map.of(from, new OffsetAndMetadata(0))).all().get());
        }
        Suite.equal(10L, offsets(group).get(from).offset(), "offset after the consumer");
        ListConsumerGroupOffsetsSpec other =
                new ListConsumerGroupOffsetsSpec().topicPartitions(List.of(new TopicPartition(from.topic(), 7)));
        Map<TopicPartition, OffsetAndMetadata> none =
                suite.admin.listConsumerGroupOffsets(Map.of(group, other)).partitionsToOffsetAndMetadata(group).get();
        Suite.equal(null, none.get(new TopicPartition(from.topic(), 7)), "offset of a partition without a commit");
    }

    private void deleteOffsets() throws Exception {
        TopicPartition from = new TopicPartition(suite.topic("delete-offsets", 1), 0);
        String group = suite.name("delete-offsets");
        try (KafkaConsumer<String, String> consumer = joined(from, group)) {
            consumer.commitSync();
            Suite.fails(GroupSubscribedToTopicException.class,
                    () -> suite.admin.deleteConsumerGroupOffsets(group, Set.of(from)).partitionResult(from).get());
        }
        suite.admin.deleteConsumerGroupOffsets(group, Set.of(from)).all().get();
        Suite.equal(null, offsets(group).get(from), "offset after its deletion");
    }

    private void delete() throws Exception {
        TopicPartition from = new TopicPartition(suite.topic("delete-group", 1), 0);
        String group = suite.name("delete-group");
        try (KafkaConsumer<String, String> consumer = joined(from, group)) {
            consumer.commitSync();
            Suite.fails(GroupNotEmptyException.class,
                    () -> suite.admin.deleteConsumerGroups(List.of(group)).all().get());
        }
        suite.admin.deleteConsumerGroups(List.of(group)).all().get();
        Suite.equal(null, listed(group), "it is no longer listed");
        Suite.equal(Map.of(), offsets(group), "offsets after the deletion");
    }

    private void unknown() throws Exception {
        String group = suite.name("unknown-group");
        Suite.fails(GroupIdNotFoundException.class, () -> suite.admin.deleteConsumerGroups(List.of(group)).all().get());
        Suite.fails(GroupIdNotFoundException.class, () -> description(group));
        Suite.equal(Map.of(), offsets(group), "offsets of an unknown group");
    }

    private void deletedTopic() throws Exception {
        TopicPartition from = new TopicPartition(suite.topic("gone", 1), 0);
        TopicPartition stays = new TopicPartition(suite.topic("stays", 1), 0);
        String group = suite.name("gone-group");
        suite.admin.alterConsumerGroupOffsets(group,
                Map.of(from, new OffsetAndMetadata(1), stays, new OffsetAndMetadata(2))).all().get();
        suite.admin.deleteTopics(List.of(from.topic())).all().get();
        Suite.eventually("the offset goes with its topic", () -> offsets(group).get(from) == null);
        Suite.equal(2L, offsets(group).get(stays).offset(), "the other topic's offset");
    }

    private void internalTopic() throws Exception {
        TopicPartition from = new TopicPartition(suite.topic("internal", 1), 0);
        try (KafkaConsumer<String, String> consumer = joined(from, suite.name("internal"))) {
            consumer.commitSync(Duration.ofSeconds(10));
        }
        Suite.that(suite.admin.listTopics(new ListTopicsOptions().listInternal(true)).namesToListings().get()
                .get("__consumer_offsets").isInternal(), "__consumer_offsets is internal");
        Suite.that(!suite.admin.listTopics().names().get().contains("__consumer_offsets"), "and not listed by default");
    }
}
