import java.io.DataInputStream;
import java.io.DataOutputStream;
import java.io.IOException;
import java.net.Socket;
import java.nio.ByteBuffer;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.Uuid;
import org.apache.kafka.common.message.InitProducerIdRequestData;
import org.apache.kafka.common.message.ProduceRequestData;
import org.apache.kafka.common.message.ProduceResponseData.PartitionProduceResponse;
import org.apache.kafka.common.protocol.ApiKeys;
import org.apache.kafka.common.record.internal.CompressionType;
import org.apache.kafka.common.record.internal.MemoryRecords;
import org.apache.kafka.common.record.internal.Records;
import org.apache.kafka.common.record.internal.RecordBatch;
import org.apache.kafka.common.requests.AbstractRequest;
import org.apache.kafka.common.requests.AbstractResponse;
import org.apache.kafka.common.requests.FetchRequest;
import org.apache.kafka.common.requests.FetchResponse;
import org.apache.kafka.common.requests.InitProducerIdRequest;
import org.apache.kafka.common.requests.InitProducerIdResponse;
import org.apache.kafka.common.requests.ProduceRequest;
import org.apache.kafka.common.requests.ProduceResponse;
import org.apache.kafka.common.requests.RequestHeader;

/** One connection that sends single requests, for what the clients hide: batches as they are stored, error codes. */
final class Raw implements AutoCloseable {
    private final Socket socket;
    private final DataInputStream in;
    private final DataOutputStream out;
    private int correlation = 100;

    Raw(String bootstrap) throws IOException {
        int colon = bootstrap.lastIndexOf(':');
        socket = new Socket(bootstrap.substring(0, colon), Integer.parseInt(bootstrap.substring(colon + 1)));
        socket.setSoTimeout((int) Suite.DEADLINE.toMillis());
        socket.setTcpNoDelay(true);
        in = new DataInputStream(socket.getInputStream());
        out = new DataOutputStream(socket.getOutputStream());
    }

    AbstractResponse call(AbstractRequest request) throws IOException {
        RequestHeader header = write(request);
        return AbstractResponse.parseResponse(frame(), header);
    }

    /** Writes a request without waiting for its answer. */
    RequestHeader write(AbstractRequest request) throws IOException {
        ApiKeys api = request.apiKey();
        RequestHeader header = new RequestHeader(api, request.version(), "raw", correlation++);
        writeFrame(request.serializeWithHeader(header));
        return header;
    }

    void writeFrame(ByteBuffer bytes) throws IOException {
        byte[] frame = new byte[bytes.remaining()];
        bytes.get(frame);
        out.writeInt(frame.length);
        out.write(frame);
        out.flush();
    }

    /** Announces a frame of this length and sends none of it. */
    void writeLength(int length) throws IOException {
        out.writeInt(length);
        out.flush();
    }

    ByteBuffer frame() throws IOException {
        byte[] answer = new byte[in.readInt()];
        in.readFully(answer);
        return ByteBuffer.wrap(answer);
    }


    /** Has the broker closed the connection? */
    boolean closed() throws IOException {
        try {
            return in.read() < 0;
        } catch (java.net.SocketException e) {
            return true;
        }
    }

    PartitionProduceResponse produce(Uuid topicId, String topic, short acks, MemoryRecords records) throws IOException {
        return produce(topicId, topic, acks, ApiKeys.PRODUCE.latestVersion(), records);
    }

    PartitionProduceResponse produce(Uuid topicId, String topic, short acks, short version, MemoryRecords records)
            throws IOException {
        ProduceRequestData.TopicProduceDataCollection topics = new ProduceRequestData.TopicProduceDataCollection();
        topics.add(new ProduceRequestData.TopicProduceData().setTopicId(topicId).setName(topic)
                .setPartitionData(List.of(new ProduceRequestData.PartitionProduceData().setIndex(0).setRecords(records))));
        ProduceRequestData data = new ProduceRequestData().setAcks(acks).setTimeoutMs(10_000).setTopicData(topics);
        ProduceResponse answer = (ProduceResponse) call(new ProduceRequest(data, version));
        return answer.data().responses().iterator().next().partitionResponses().get(0);
    }

    InitProducerIdResponse initProducer(long id, short epoch) throws IOException {
        InitProducerIdRequestData data = new InitProducerIdRequestData().setTransactionalId(null)
                .setTransactionTimeoutMs(Integer.MAX_VALUE).setProducerId(id).setProducerEpoch(epoch);
        return (InitProducerIdResponse) call(new InitProducerIdRequest.Builder(data).build((short) 4));
    }

    FetchResponse fetch(Uuid topicId, TopicPartition from, long offset, int maxBytes) throws IOException {
        LinkedHashMap<TopicPartition, FetchRequest.PartitionData> wanted = new LinkedHashMap<>();
        wanted.put(from, new FetchRequest.PartitionData(topicId, offset, -1L, maxBytes, java.util.Optional.empty()));
        FetchRequest request = FetchRequest.Builder.forConsumer((short) 16, 0, 0, wanted).build((short) 16);
        return (FetchResponse) call(request);
    }

    @Override
    public void close() throws IOException {
        socket.close();
    }

    /** The batches of a partition as they are stored. */
    static List<RecordBatch> batches(Suite suite, TopicPartition from) throws Exception {
        Uuid id = topicId(suite, from.topic());
        long offset = 0;
        long end = latest(suite, from);
        List<RecordBatch> all = new ArrayList<>();
        try (Raw raw = new Raw(suite.bootstrap)) {
            while (offset < end) {
                FetchResponse answer = raw.fetch(id, from, offset, 1 << 20);
                var data = answer.responseData(java.util.Map.of(id, from.topic()), (short) 16).get(from);
                Suite.equal((short) 0, data.errorCode(), "error code of the fetch");
                long before = offset;
                for (RecordBatch batch : ((Records) data.records()).batches()) {
                    all.add(batch);
                    offset = batch.nextOffset();
                }
                Suite.that(offset > before, "a fetch at " + before + " below the end " + end + " is empty");
            }
        }
        return all;
    }

    /** The names of the codecs that occur in a partition. */
    static List<String> codecs(Suite suite, TopicPartition from) throws Exception {
        return batches(suite, from).stream().map(RecordBatch::compressionType).map(CompressionType::name)
                .map(name -> name.toLowerCase(java.util.Locale.ROOT)).distinct().toList();
    }

    static Uuid topicId(Suite suite, String topic) throws Exception {
        return suite.admin.describeTopics(List.of(topic)).allTopicNames().get().get(topic).topicId();
    }

    static long latest(Suite suite, TopicPartition of) throws Exception {
        return suite.admin.listOffsets(java.util.Map.of(of, OffsetSpec.latest())).partitionResult(of).get().offset();
    }
}
