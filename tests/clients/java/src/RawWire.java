import java.nio.ByteBuffer;
import java.util.ArrayList;
import java.util.List;
import org.apache.kafka.common.Uuid;
import org.apache.kafka.common.compress.Compression;
import org.apache.kafka.common.message.ApiVersionsRequestData;
import org.apache.kafka.common.message.ApiVersionsResponseData;
import org.apache.kafka.common.message.ProduceRequestData;
import org.apache.kafka.common.protocol.ApiKeys;
import org.apache.kafka.common.protocol.ByteBufferAccessor;
import org.apache.kafka.common.protocol.Errors;
import org.apache.kafka.common.record.internal.MemoryRecords;
import org.apache.kafka.common.record.internal.SimpleRecord;
import org.apache.kafka.common.requests.AbstractResponse;
import org.apache.kafka.common.requests.ApiVersionsRequest;
import org.apache.kafka.common.requests.ApiVersionsResponse;
import org.apache.kafka.common.requests.ProduceRequest;
import org.apache.kafka.common.requests.ProduceResponse;
import org.apache.kafka.common.requests.RequestHeader;

/** Frames: negotiation, order of answers, and what ends a connection, and only that connection. */
final class RawWire {
    private final Suite suite;

    RawWire(Suite suite) {
        this.suite = suite;
    }

    void register() {
        suite.full("wire_api_versions", this::apiVersions);
        suite.full("wire_api_versions_from_the_future", this::apiVersionsFromTheFuture);
        suite.smoke("wire_pipelined_answers_in_order", this::pipelined);
        suite.full("wire_acks_0_has_no_answer", this::acksZero);
        suite.full("wire_acks_0_error_closes", this::acksZeroError);
        suite.full("wire_unknown_version_closes", () -> closes(header(ApiKeys.METADATA.id, 99)));
        suite.full("wire_unknown_api_closes", () -> closes(header(999, 0)));
        suite.full("wire_short_frame_closes", () -> closes(ByteBuffer.wrap(new byte[] {0, 3, 0})));
        suite.full("wire_empty_body_closes", () -> closes(header(ApiKeys.PRODUCE.id, 9)));
        suite.full("wire_huge_count_closes", this::hugeCount);
        suite.full("wire_huge_frame_closes", () -> closesAfter(Integer.MAX_VALUE));
        suite.full("wire_negative_frame_closes", () -> closesAfter(-1));
    }

    private void apiVersions() throws Exception {
        try (Raw raw = new Raw(suite.bootstrap)) {
            for (short version = 0; version <= 4; version++) {
                ApiVersionsRequest request = new ApiVersionsRequest(
                        new ApiVersionsRequestData().setClientSoftwareName("raw").setClientSoftwareVersion("1"), version);
                ApiVersionsResponse answer = (ApiVersionsResponse) raw.call(request);
                Suite.equal(Errors.NONE, Errors.forCode(answer.data().errorCode()), "version " + version);
                for (ApiKeys api : List.of(ApiKeys.PRODUCE, ApiKeys.FETCH, ApiKeys.METADATA, ApiKeys.JOIN_GROUP)) {
                    ApiVersionsResponseData.ApiVersion range = answer.apiVersion(api.id);
                    Suite.that(range != null, api + " is served");
                    Suite.that(range.minVersion() <= api.latestVersion() - 1, api + " range " + range);
                }
            }
            ApiVersionsRequest nameless = new ApiVersionsRequest(
                    new ApiVersionsRequestData().setClientSoftwareName("").setClientSoftwareVersion(""), (short) 3);
            ApiVersionsResponse answer = (ApiVersionsResponse) raw.call(nameless);
            Suite.equal(Errors.INVALID_REQUEST, Errors.forCode(answer.data().errorCode()), "a client without a name");
        }
    }

    /** KIP-511: an unknown version of ApiVersions is answered in version 0 with the versions that are served. */
    private void apiVersionsFromTheFuture() throws Exception {
        try (Raw raw = new Raw(suite.bootstrap)) {
            raw.writeFrame(header(ApiKeys.API_VERSIONS.id, 77));
            ByteBuffer frame = raw.frame();
            Suite.equal(7, frame.getInt(), "correlation id");
            ApiVersionsResponseData data = new ApiVersionsResponseData(new ByteBufferAccessor(frame), (short) 0);
            Suite.equal(Errors.UNSUPPORTED_VERSION, Errors.forCode(data.errorCode()), "error");
            Suite.equal(true, data.apiKeys().find(ApiKeys.API_VERSIONS.id).maxVersion() >= 3, "range of ApiVersions");
        }
    }

    private static ByteBuffer header(int api, int version) {
        ByteBuffer header = ByteBuffer.allocate(11);
        return header.putShort((short) api).putShort((short) version).putInt(7).putShort((short) -1).put((byte) 0).flip();
    }

    private static ProduceRequest produce(String topic, int acks, int value) {
        var topics = new ProduceRequestData.TopicProduceDataCollection();
        MemoryRecords records = MemoryRecords.withRecords(Compression.NONE,
                new SimpleRecord(1L, ("k" + value).getBytes(), ("v" + value).getBytes()));
        topics.add(new ProduceRequestData.TopicProduceData().setName(topic).setPartitionData(
                List.of(new ProduceRequestData.PartitionProduceData().setIndex(0).setRecords(records))));
        return new ProduceRequest(
                new ProduceRequestData().setAcks((short) acks).setTimeoutMs(10_000).setTopicData(topics), (short) 9);
    }

    private void pipelined() throws Exception {
        String topic = suite.topic("pipelined", 1);
        try (Raw raw = new Raw(suite.bootstrap)) {
            List<RequestHeader> sent = new ArrayList<>();
            for (int i = 0; i < 40; i++) sent.add(raw.write(produce(topic, i % 2 == 0 ? -1 : 1, i)));
            for (int i = 0; i < 40; i++) {
                ProduceResponse answer = (ProduceResponse) AbstractResponse.parseResponse(raw.frame(), sent.get(i));
                var partition = answer.data().responses().iterator().next().partitionResponses().get(0);
                Suite.equal((short) 0, partition.errorCode(), "error of " + i);
                Suite.equal((long) i, partition.baseOffset(), "offset of " + i);
            }
        }
        suite.holds(new org.apache.kafka.common.TopicPartition(topic, 0), 40);
    }

    private void acksZero() throws Exception {
        String topic = suite.topic("no-answer", 1);
        try (Raw raw = new Raw(suite.bootstrap)) {
            for (int i = 0; i < 5; i++) raw.write(produce(topic, 0, i));
            // The answer to the sixth is the first that comes.
            ProduceResponse answer = (ProduceResponse) raw.call(produce(topic, -1, 5));
            Suite.equal(5L, answer.data().responses().iterator().next().partitionResponses().get(0).baseOffset(), "offset");
        }
        suite.holds(new org.apache.kafka.common.TopicPartition(topic, 0), 6);
    }

    private void acksZeroError() throws Exception {
        try (Raw raw = new Raw(suite.bootstrap)) {
            raw.write(produce(suite.name("no-such"), 0, 0));
            Suite.that(raw.closed(), "the error of an acks=0 request closes the connection");
        }
    }

    private void closes(ByteBuffer frame) throws Exception {
        try (Raw raw = new Raw(suite.bootstrap)) {
            raw.writeFrame(frame);
            Suite.that(raw.closed(), "the connection is closed without an answer");
        }
        suite.admin.describeCluster().nodes().get();
    }

    private void closesAfter(int length) throws Exception {
        try (Raw raw = new Raw(suite.bootstrap)) {
            raw.writeLength(length);
            Suite.that(raw.closed(), "the connection is closed");
        }
        suite.admin.describeCluster().nodes().get();
    }

    /** A count that promises two billion elements in a frame of a few bytes. */
    private void hugeCount() throws Exception {
        ByteBuffer frame = ByteBuffer.allocate(64);
        frame.putShort(ApiKeys.METADATA.id).putShort((short) 1).putInt(7).putShort((short) -1);
        frame.putInt(Integer.MAX_VALUE).flip();
        closes(frame);
    }
}
