import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.Uuid;
import org.apache.kafka.common.message.FetchResponseData;
import org.apache.kafka.common.message.OffsetForLeaderEpochRequestData;
import org.apache.kafka.common.message.OffsetForLeaderEpochResponseData.EpochEndOffset;
import org.apache.kafka.common.protocol.Errors;
import org.apache.kafka.common.requests.FetchMetadata;
import org.apache.kafka.common.requests.FetchRequest;
import org.apache.kafka.common.requests.FetchRequest.PartitionData;
import org.apache.kafka.common.requests.FetchResponse;
import org.apache.kafka.common.requests.OffsetsForLeaderEpochRequest;
import org.apache.kafka.common.requests.OffsetsForLeaderEpochResponse;

/** Fetch requests below the clients: versions, epochs, ranges, sessions. */
final class RawFetch {
    private static final short NEWEST = 17;
    private final Suite suite;

    RawFetch(Suite suite) {
        this.suite = suite;
    }

    void register() {
        suite.full("fetch_every_version", this::everyVersion);
        suite.full("fetch_ranges_and_epochs", this::rangesAndEpochs);
        suite.full("fetch_unknown_topic", this::unknownTopic);
        suite.smoke("fetch_session", this::session);
        suite.full("fetch_session_errors", this::sessionErrors);
        suite.full("fetch_empty_partition_waits", this::waits);
        suite.full("offset_for_leader_epoch", this::leaderEpoch);
    }

    private FetchResponse fetch(Raw raw, short version, FetchMetadata metadata, int waitMs,
            Map<TopicPartition, PartitionData> partitions) throws Exception {
        return (FetchResponse) raw.call(FetchRequest.Builder.forConsumer(version, waitMs, 1, partitions)
                .metadata(metadata).setMaxBytes(1 << 20).build(version));
    }

    private static PartitionData want(Uuid id, long offset, Optional<Integer> epoch) {
        return new PartitionData(id, offset, -1L, 1 << 20, epoch);
    }

    private FetchResponseData.PartitionData one(Raw raw, short version, TopicPartition from, Uuid id, long offset,
            Optional<Integer> epoch) throws Exception {
        FetchResponse answer =
                fetch(raw, version, FetchMetadata.LEGACY, 0, Map.of(from, want(id, offset, epoch)));
        Suite.equal(Errors.NONE, answer.error(), "error of the whole");
        return answer.responseData(Map.of(id, from.topic()), version).get(from);
    }

    private void everyVersion() throws Exception {
        TopicPartition from = new TopicPartition(suite.topic("fetch-versions", 1), 0);
        suite.fill(from, 10);
        Uuid id = Raw.topicId(suite, from.topic());
        try (Raw raw = new Raw(suite.bootstrap)) {
            for (short version = 4; version <= NEWEST; version++) {
                FetchResponseData.PartitionData data = one(raw, version, from, id, 0, Optional.empty());
                Suite.equal(Errors.NONE, Errors.forCode(data.errorCode()), "error, version " + version);
                Suite.equal(10L, data.highWatermark(), "high watermark, version " + version);
                Suite.equal(10L, data.lastStableOffset(), "last stable offset, version " + version);
                if (version >= 5) Suite.equal(0L, data.logStartOffset(), "log start, version " + version);
                int count = 0;
                for (var ignored : FetchResponse.recordsOrFail(data).records()) count++;
                Suite.equal(10, count, "records, version " + version);
            }
        }
    }

    private void rangesAndEpochs() throws Exception {
        TopicPartition from = new TopicPartition(suite.topic("fetch-ranges", 1), 0);
        suite.fill(from, 10);
        Uuid id = Raw.topicId(suite, from.topic());
        int epoch = suite.readAll(from).get(0).leaderEpoch().get();
        try (Raw raw = new Raw(suite.bootstrap)) {
            expect(raw, from, id, 10, Optional.empty(), Errors.NONE);
            expect(raw, from, id, 11, Optional.empty(), Errors.OFFSET_OUT_OF_RANGE);
            expect(raw, from, id, -5, Optional.empty(), Errors.OFFSET_OUT_OF_RANGE);
            expect(raw, from, id, 0, Optional.of(epoch), Errors.NONE);
            expect(raw, from, id, 0, Optional.of(epoch + 1), Errors.UNKNOWN_LEADER_EPOCH);
            if (epoch > 0) expect(raw, from, id, 0, Optional.of(epoch - 1), Errors.FENCED_LEADER_EPOCH);
            suite.admin.deleteRecords(Map.of(from, org.apache.kafka.clients.admin.RecordsToDelete.beforeOffset(4)))
                    .all().get();
            expect(raw, from, id, 3, Optional.empty(), Errors.OFFSET_OUT_OF_RANGE);
            expect(raw, from, id, 4, Optional.empty(), Errors.NONE);
        }
    }

    private void expect(Raw raw, TopicPartition from, Uuid id, long offset, Optional<Integer> epoch, Errors error)
            throws Exception {
        FetchResponseData.PartitionData data = one(raw, NEWEST, from, id, offset, epoch);
        Suite.equal(error, Errors.forCode(data.errorCode()), "offset " + offset + ", epoch " + epoch);
    }

    private void unknownTopic() throws Exception {
        Uuid id = Uuid.randomUuid();
        TopicPartition from = new TopicPartition(suite.name("no-such"), 0);
        try (Raw raw = new Raw(suite.bootstrap)) {
            expect(raw, from, id, 0, Optional.empty(), Errors.UNKNOWN_TOPIC_ID);
            FetchResponseData.PartitionData data = one(raw, (short) 12, from, Uuid.ZERO_UUID, 0, Optional.empty());
            Suite.equal(Errors.UNKNOWN_TOPIC_OR_PARTITION, Errors.forCode(data.errorCode()), "by name");
        }
    }

    /** KIP-227: the first fetch names all partitions, later ones only what changed; answers name only what has news. */
    private void session() throws Exception {
        String topic = suite.topic("fetch-session", 3);
        Uuid id = Raw.topicId(suite, topic);
        Map<TopicPartition, PartitionData> all = new LinkedHashMap<>();
        for (int p = 0; p < 3; p++) all.put(new TopicPartition(topic, p), want(id, 0, Optional.empty()));
        TopicPartition one = new TopicPartition(topic, 1);
        try (Raw raw = new Raw(suite.bootstrap)) {
            FetchResponse first = fetch(raw, NEWEST, FetchMetadata.INITIAL, 0, all);
            Suite.equal(Errors.NONE, first.error(), "first fetch");
            Suite.that(first.sessionId() != 0, "a session was made");
            Suite.equal(3, first.responseData(Map.of(id, topic), NEWEST).size(), "partitions in the first answer");
            suite.fill(one, 5);
            FetchMetadata next = FetchMetadata.newIncremental(first.sessionId());
            FetchResponse second = fetch(raw, NEWEST, next, 1000, Map.of());
            Suite.equal(first.sessionId(), second.sessionId(), "session");
            var news = second.responseData(Map.of(id, topic), NEWEST);
            Suite.equal(java.util.Set.of(one), news.keySet(), "partitions with news");
            Suite.equal(5L, news.get(one).highWatermark(), "high watermark");
            next = next.nextIncremental();
            FetchResponse third = fetch(raw, NEWEST, next, 0, Map.of(one, want(id, 5, Optional.empty())));
            Suite.equal(Errors.NONE, third.error(), "third fetch");
            Suite.equal(Map.of(), third.responseData(Map.of(id, topic), NEWEST), "nothing is new");
        }
    }

    private void sessionErrors() throws Exception {
        String topic = suite.topic("fetch-session-errors", 1);
        Uuid id = Raw.topicId(suite, topic);
        Map<TopicPartition, PartitionData> all = Map.of(new TopicPartition(topic, 0), want(id, 0, Optional.empty()));
        try (Raw raw = new Raw(suite.bootstrap)) {
            FetchResponse unknown = fetch(raw, NEWEST, FetchMetadata.newIncremental(987_654_321), 0, Map.of());
            Suite.equal(Errors.FETCH_SESSION_ID_NOT_FOUND, unknown.error(), "an unknown session");
            int session = fetch(raw, NEWEST, FetchMetadata.INITIAL, 0, all).sessionId();
            FetchMetadata skipped = FetchMetadata.newIncremental(session).nextIncremental();
            Suite.equal(Errors.INVALID_FETCH_SESSION_EPOCH, fetch(raw, NEWEST, skipped, 0, Map.of()).error(),
                    "an epoch that was skipped");
        }
    }

    private void waits() throws Exception {
        TopicPartition from = new TopicPartition(suite.topic("fetch-waits", 1), 0);
        Uuid id = Raw.topicId(suite, from.topic());
        try (Raw raw = new Raw(suite.bootstrap)) {
            long begin = System.nanoTime();
            fetch(raw, NEWEST, FetchMetadata.LEGACY, 800, Map.of(from, want(id, 0, Optional.empty())));
            long waited = (System.nanoTime() - begin) / 1_000_000;
            Suite.that(waited >= 700 && waited < 8_000, "max wait of 800 ms took " + waited + " ms");
        }
    }

    private void leaderEpoch() throws Exception {
        TopicPartition from = new TopicPartition(suite.topic("leader-epoch", 1), 0);
        suite.fill(from, 10);
        int epoch = suite.readAll(from).get(0).leaderEpoch().get();
        try (Raw raw = new Raw(suite.bootstrap)) {
            EpochEndOffset current = endOf(raw, from, -1, epoch);
            Suite.equal(Errors.NONE, Errors.forCode(current.errorCode()), "error");
            Suite.equal(epoch, current.leaderEpoch(), "epoch");
            Suite.equal(10L, current.endOffset(), "end of the current epoch");
            Suite.equal(-1L, endOf(raw, from, -1, epoch + 3).endOffset(), "end of an epoch to come");
            EpochEndOffset newer = endOf(raw, from, epoch + 1, epoch);
            Suite.equal(Errors.UNKNOWN_LEADER_EPOCH, Errors.forCode(newer.errorCode()), "a newer current epoch");
        }
    }

    private EpochEndOffset endOf(Raw raw, TopicPartition of, int current, int wanted) throws Exception {
        var topics = new OffsetForLeaderEpochRequestData.OffsetForLeaderTopicCollection();
        topics.add(new OffsetForLeaderEpochRequestData.OffsetForLeaderTopic().setTopic(of.topic())
                .setPartitions(List.of(new OffsetForLeaderEpochRequestData.OffsetForLeaderPartition()
                        .setPartition(0).setCurrentLeaderEpoch(current).setLeaderEpoch(wanted))));
        var answer = (OffsetsForLeaderEpochResponse)
                raw.call(OffsetsForLeaderEpochRequest.Builder.forConsumer(topics).build((short) 4));
        return answer.data().topics().iterator().next().partitions().get(0);
    }
}
