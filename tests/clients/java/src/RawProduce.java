import java.nio.ByteBuffer;
import java.util.ArrayList;
import java.util.List;
import org.apache.kafka.common.Uuid;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.compress.Compression;
import org.apache.kafka.common.message.ProduceResponseData.PartitionProduceResponse;
import org.apache.kafka.common.protocol.Errors;
import org.apache.kafka.common.record.internal.MemoryRecords;
import org.apache.kafka.common.record.internal.SimpleRecord;
import org.apache.kafka.common.requests.InitProducerIdResponse;
import org.apache.kafka.common.utils.Crc32C;

/** Produce requests that no good client sends, and retries at the level of batches. */
final class RawProduce {
    // Where the fields of a batch stand.
    private static final int MAGIC = 16, CRC = 17, ATTRIBUTES = 21, LAST_DELTA = 23, RECORD_COUNT = 57, BODY = 61;

    private final Suite suite;

    RawProduce(Suite suite) {
        this.suite = suite;
    }

    void register() {
        suite.smoke("raw_duplicate_gets_the_original_offset", this::duplicates);
        suite.full("raw_sequence_gap", this::gap);
        suite.full("raw_unknown_producer_may_start_anywhere", this::unknownProducer);
        suite.full("raw_sequences_wrap_around", this::wrapAround);
        suite.full("raw_stale_epoch", this::staleEpoch);
        suite.full("raw_new_epoch_starts_at_zero", this::newEpoch);
        suite.full("raw_producer_ids_differ", this::producerIds);
        suite.smoke("raw_wrong_crc", () -> refused("crc", Errors.CORRUPT_MESSAGE, this::wrongCrc));
        suite.full("raw_flipped_byte", () -> refused("flip", Errors.CORRUPT_MESSAGE, this::flippedByte));
        suite.full("raw_magic_1", () -> refused("magic", Errors.INVALID_RECORD, b -> put(b, MAGIC, 1)));
        suite.full("raw_two_batches", () -> refused("two", Errors.INVALID_RECORD, RawProduce::twice));
        suite.full("raw_wrong_record_count", () -> refused("count", Errors.INVALID_RECORD, b -> sealed(b, RECORD_COUNT, 2)));
        suite.full("raw_wrong_last_delta", () -> refused("delta", Errors.INVALID_RECORD, b -> sealed(b, LAST_DELTA, 7)));
        suite.full("raw_control_batch", () -> refused("control", Errors.INVALID_RECORD, this::control));
        suite.full("raw_base_offset_is_not_zero", () -> refused("base", Errors.INVALID_RECORD, b -> b.putLong(0, 5)));
        suite.full("raw_compressed_garbage", this::compressedGarbage);
        suite.full("raw_unknown_topics", this::unknownTopics);
        suite.full("raw_invalid_acks", this::invalidAcks);
        suite.full("raw_every_version", this::everyVersion);
    }

    private interface Damage {
        ByteBuffer to(ByteBuffer batch);
    }

    /** A topic of one partition and a connection. */
    private final class Target implements AutoCloseable {
        final String topic;
        final TopicPartition partition;
        final Uuid id;
        final Raw raw = new Raw(suite.bootstrap);

        Target(String stem) throws Exception {
            topic = suite.topic("raw-" + stem, 1);
            partition = new TopicPartition(topic, 0);
            id = Raw.topicId(suite, topic);
        }

        /** Sends count records v<value>… and returns "error@base offset". */
        String send(InitProducerIdResponse producer, int epoch, int sequence, int value, int count) throws Exception {
            return send(batch(Compression.NONE, producer.data().producerId(), epoch, sequence, value, count));
        }

        String send(MemoryRecords records) throws Exception {
            PartitionProduceResponse answer = raw.produce(id, topic, (short) -1, records);
            return Errors.forCode(answer.errorCode()) + "@" + answer.baseOffset();
        }

        @Override
        public void close() throws Exception {
            raw.close();
        }
    }

    private static SimpleRecord[] values(int first, int count) {
        SimpleRecord[] records = new SimpleRecord[count];
        for (int i = 0; i < count; i++) {
            records[i] = new SimpleRecord(1000L, ("k" + (first + i)).getBytes(), ("v" + (first + i)).getBytes());
        }
        return records;
    }

    private static MemoryRecords batch(Compression codec, long producer, int epoch, int sequence, int first, int count) {
        return MemoryRecords.withIdempotentRecords(codec, producer, (short) epoch, sequence, values(first, count));
    }

    private static InitProducerIdResponse producer(Target target) throws Exception {
        InitProducerIdResponse answer = target.raw.initProducer(-1L, (short) -1);
        Suite.equal(Errors.NONE, answer.error(), "InitProducerId");
        Suite.equal((short) 0, answer.data().producerEpoch(), "first epoch");
        return answer;
    }

    /** A batch of one producer, and what it is told: "error@base offset". */
    private record Sent(String told, int epoch, int sequence, int value, int count, String what) {}

    private static Sent sent(String told, int epoch, int sequence, int value, int count, String what) {
        return new Sent(told, epoch, sequence, value, count, what);
    }

    /** Sends the batches one after the other; then the partition holds so many records. */
    private void told(String stem, int records, List<Sent> batches) throws Exception {
        try (Target target = new Target(stem)) {
            InitProducerIdResponse id = producer(target);
            for (Sent one : batches) {
                Suite.equal(one.told, target.send(id, one.epoch, one.sequence, one.value, one.count), one.what);
            }
            suite.holds(target.partition, records);
        }
    }

    private void duplicates() throws Exception {
        List<Sent> batches = new ArrayList<>();
        for (int i = 0; i < 6; i++) batches.add(sent("NONE@" + 3 * i, 0, 3 * i, 3 * i, 3, "batch " + i));
        for (int i : new int[] {5, 1, 3, 5}) {
            batches.add(sent("NONE@" + 3 * i, 0, 3 * i, 3 * i, 3, "batch " + i + ", again"));
        }
        // The sixth from the end is forgotten: Kafka says OUT_OF_ORDER_SEQUENCE_NUMBER, Alluvium DUPLICATE_SEQUENCE_NUMBER (see tests/diff).
        batches.add(sent("NONE@18", 0, 18, 18, 2, "the next batch"));
        told("duplicate", 20, batches);
    }

    private void gap() throws Exception {
        told("gap", 4, List.of(
                sent("NONE@0", 0, 0, 0, 2, "first"),
                sent("OUT_OF_ORDER_SEQUENCE_NUMBER@-1", 0, 3, 3, 1, "after a gap"),
                sent("OUT_OF_ORDER_SEQUENCE_NUMBER@-1", 0, 1, 1, 2, "overlapping"),
                sent("NONE@2", 0, 2, 2, 1, "the right one"),
                sent("NONE@3", 0, 3, 3, 1, "the one that was refused")));
    }

    private void unknownProducer() throws Exception {
        told("unknown", 1, List.of(sent("NONE@0", 0, 17, 0, 1, "first batch of an unknown producer")));
    }

    private void wrapAround() throws Exception {
        told("wrap", 5, List.of(
                sent("NONE@0", 0, Integer.MAX_VALUE - 1, 0, 4, "over the edge"),
                sent("NONE@4", 0, 2, 4, 1, "the next"),
                sent("NONE@0", 0, Integer.MAX_VALUE - 1, 0, 4, "again"),
                sent("OUT_OF_ORDER_SEQUENCE_NUMBER@-1", 0, 4, 4, 1, "a gap")));
    }

    private void staleEpoch() throws Exception {
        told("epoch", 2, List.of(
                sent("NONE@0", 1, 0, 0, 1, "epoch 1"),
                sent("INVALID_PRODUCER_EPOCH@-1", 0, 0, 0, 1, "epoch 0 after it"),
                sent("NONE@1", 1, 1, 1, 1, "epoch 1 goes on")));
    }

    private void newEpoch() throws Exception {
        told("new-epoch", 2, List.of(
                sent("NONE@0", 0, 0, 0, 1, "epoch 0"),
                sent("OUT_OF_ORDER_SEQUENCE_NUMBER@-1", 1, 1, 1, 1, "epoch 1 with sequence 1"),
                sent("NONE@1", 1, 0, 1, 1, "epoch 1 with sequence 0")));
    }

    private void producerIds() throws Exception {
        try (Target target = new Target("ids")) {
            List<Long> ids = new ArrayList<>();
            for (int i = 0; i < 20; i++) ids.add(producer(target).data().producerId());
            Suite.equal(20L, ids.stream().distinct().count(), "different ids");
        }
    }

    /** A batch with this damage is refused with this error, and the partition stays as it is. */
    private void refused(String stem, Errors error, Damage damage) throws Exception {
        try (Target target = new Target(stem)) {
            Suite.equal("NONE@0", target.send(MemoryRecords.withRecords(Compression.NONE, values(0, 3))), "a good batch");
            ByteBuffer batch = copy(MemoryRecords.withRecords(Compression.NONE, values(3, 3)));
            Suite.equal(error + "@-1", target.send(MemoryRecords.readableRecords(damage.to(batch))), "the damaged batch");
            Suite.equal("NONE@3", target.send(MemoryRecords.withRecords(Compression.NONE, values(3, 3))), "a good batch");
            suite.holds(target.partition, 6);
        }
    }

    private static ByteBuffer copy(MemoryRecords records) {
        ByteBuffer copy = ByteBuffer.allocate(records.sizeInBytes());
        copy.put(records.buffer().duplicate()).flip();
        return copy;
    }

    private static ByteBuffer put(ByteBuffer batch, int at, int value) {
        return batch.put(at, (byte) value);
    }

    private static ByteBuffer seal(ByteBuffer batch) {
        return batch.putInt(CRC, (int) Crc32C.compute(batch, ATTRIBUTES, batch.limit() - ATTRIBUTES));
    }

    private static ByteBuffer sealed(ByteBuffer batch, int at, int value) {
        return seal(batch.putInt(at, value));
    }

    private ByteBuffer wrongCrc(ByteBuffer batch) {
        return batch.putInt(CRC, batch.getInt(CRC) + 1);
    }

    private ByteBuffer flippedByte(ByteBuffer batch) {
        return put(batch, batch.limit() - 2, batch.get(batch.limit() - 2) ^ 1);
    }

    private static ByteBuffer twice(ByteBuffer batch) {
        ByteBuffer both = ByteBuffer.allocate(2 * batch.limit());
        both.put(batch.duplicate()).put(batch.duplicate()).flip();
        return both;
    }

    private ByteBuffer control(ByteBuffer batch) {
        return seal(batch.putShort(ATTRIBUTES, (short) 0x20));
    }

    private void compressedGarbage() throws Exception {
        try (Target target = new Target("garbage")) {
            for (Compression codec : List.of(Compression.gzip().build(), Compression.snappy().build(),
                    Compression.lz4().build(), Compression.zstd().build())) {
                ByteBuffer batch = copy(MemoryRecords.withRecords(codec, values(0, 50)));
                for (int i = BODY + 2; i < batch.limit(); i++) batch.put(i, (byte) (i * 31));
                String answer = target.send(MemoryRecords.readableRecords(seal(batch)));
                Suite.that(!answer.startsWith("NONE"), codec.type() + " garbage: " + answer);
            }
            Suite.equal(0L, Raw.latest(suite, target.partition), "end");
        }
    }

    private void unknownTopics() throws Exception {
        try (Target target = new Target("nowhere")) {
            MemoryRecords records = MemoryRecords.withRecords(Compression.NONE, values(0, 1));
            PartitionProduceResponse answer = target.raw.produce(Uuid.randomUuid(), "", (short) -1, records);
            Suite.equal(Errors.UNKNOWN_TOPIC_ID, Errors.forCode(answer.errorCode()), "an unknown id");
            answer = target.raw.produce(Uuid.ZERO_UUID, suite.name("no-such"), (short) -1, (short) 9, records);
            Suite.equal(Errors.UNKNOWN_TOPIC_OR_PARTITION, Errors.forCode(answer.errorCode()), "an unknown name");
        }
    }

    private void invalidAcks() throws Exception {
        try (Target target = new Target("acks")) {
            MemoryRecords records = MemoryRecords.withRecords(Compression.NONE, values(0, 1));
            PartitionProduceResponse answer = target.raw.produce(target.id, target.topic, (short) 7, records);
            Suite.equal(Errors.INVALID_REQUIRED_ACKS, Errors.forCode(answer.errorCode()), "acks=7");
            Suite.equal(0L, Raw.latest(suite, target.partition), "end");
        }
    }

    private void everyVersion() throws Exception {
        try (Target target = new Target("versions")) {
            for (short version = 3; version <= 13; version++) {
                MemoryRecords records = MemoryRecords.withRecords(Compression.NONE, values(version - 3, 1));
                PartitionProduceResponse answer =
                        target.raw.produce(target.id, target.topic, (short) -1, version, records);
                Suite.equal(Errors.NONE, Errors.forCode(answer.errorCode()), "version " + version);
                Suite.equal(version - 3L, answer.baseOffset(), "offset, version " + version);
                Suite.equal(-1L, answer.logAppendTimeMs(), "append time, version " + version);
            }
            suite.holds(target.partition, 11);
        }
    }
}
