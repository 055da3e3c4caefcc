import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.kafka.clients.consumer.CommitFailedException;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.InvalidRecordException;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.RebalanceInProgressException;
import org.apache.kafka.common.errors.RecordTooLargeException;
import org.apache.kafka.common.errors.RetriableException;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/**
 * Apache Kafka's client in a chaos run: an idempotent producer and two members of a group, one JSON line on standard output per event.
 * Arguments: bootstrap, client name, seed, topic/partition,…, group, how many times slower than it could be. The record format is
 * `pattern` in workload/workload.go. The line `finish` on standard input ends the producer, its end the members.
 */
public final class JavaClient {
    private static final AtomicInteger WAITING = new AtomicInteger();
    private static volatile boolean writing = true;
    private static volatile boolean reading = true;

    public static void main(String[] arguments) throws Exception {
        String bootstrap = arguments[0], client = arguments[1], group = arguments[4];
        Random random = new Random(Long.parseUnsignedLong(arguments[2]));
        List<TopicPartition> places = new ArrayList<>();
        for (String place : arguments[3].split(",")) {
            int bar = place.lastIndexOf('/');
            places.add(new TopicPartition(place.substring(0, bar), Integer.parseInt(place.substring(bar + 1))));
        }
        int pace = Integer.parseInt(arguments[5]);
        List<Thread> threads = new ArrayList<>();
        threads.add(start(() -> produce(bootstrap, client, places, random, pace)));
        for (int i = 0; i < 2; i++) {
            String member = group + "-m" + i;
            threads.add(start(() -> consume(bootstrap, member, group, places)));
        }
        for (int b = System.in.read(); b >= 0; b = System.in.read()) {
            if (b == '\n') writing = false;
        }
        writing = reading = false;
        for (Thread thread : threads) thread.join();
    }

    private static Thread start(Runnable work) {
        Thread thread = new Thread(() -> {
            try {
                work.run();
            } catch (Throwable error) {
                emit("trouble", "java", null, 0, 0, ",\"err\":" + quoted(error.toString()));
            }
        });
        thread.start();
        return thread;
    }

    private static Map<String, Object> common(String bootstrap, String client) {
        Map<String, Object> config = new HashMap<>();
        config.put("bootstrap.servers", bootstrap);
        config.put("client.id", client);
        config.put("reconnect.backoff.ms", 50);
        config.put("reconnect.backoff.max.ms", 300);
        config.put("retry.backoff.ms", 50);
        config.put("metadata.recovery.rebootstrap.trigger.ms", 20_000);
        return config;
    }

    private static void produce(String bootstrap, String client, List<TopicPartition> places, Random random, int pace) {
        Map<String, Object> config = common(bootstrap, client);
        config.put("enable.idempotence", true);
        config.put("acks", "all");
        config.put("retries", Integer.MAX_VALUE);
        config.put("delivery.timeout.ms", Integer.MAX_VALUE);
        config.put("request.timeout.ms", 6_000);
        config.put("max.block.ms", 300_000);
        config.put("linger.ms", 2);
        config.put("compression.type", List.of("none", "gzip", "lz4", "zstd", "snappy").get(random.nextInt(5)));
        long[] sequence = {0};
        try (KafkaProducer<byte[], byte[]> producer = new KafkaProducer<>(config, new ByteArraySerializer(), new ByteArraySerializer())) {
            while (writing) {
                if (WAITING.get() < 500) {
                    for (int i = 1 + random.nextInt(11); i > 0; i--) send(producer, client, places.get(random.nextInt(places.size())), ++sequence[0], random);
                }
                pause(random.nextInt(40) * (long) pace);
            }
            for (TopicPartition place : places) send(producer, client, place, ++sequence[0], random);
            producer.flush();
        }
        emit("finished", client, null, 0, System.nanoTime(), "");
    }

    private static void send(KafkaProducer<byte[], byte[]> producer, String client, TopicPartition place, long sequence, Random random) {
        String name = client + ":" + sequence;
        emit("send", client, place, 0, System.nanoTime(), ",\"v\":\"" + name + "\",\"seq\":" + sequence);
        byte[] id = name.getBytes(StandardCharsets.UTF_8);
        ProducerRecord<byte[], byte[]> record = new ProducerRecord<>(place.topic(), place.partition(), id, pattern(name, 20 + random.nextInt(1480)));
        record.headers().add("id", id);
        WAITING.incrementAndGet();
        producer.send(record, (metadata, error) -> {
            long now = System.nanoTime();
            WAITING.decrementAndGet();
            String words = ",\"v\":\"" + name + "\"";
            if (error == null) {
                emit("ack", client, place, metadata.hasOffset() ? metadata.offset() : -2, now, words);
            } else if (error instanceof RecordTooLargeException || error instanceof InvalidRecordException) {
                emit("fail", client, place, 0, now, words + ",\"err\":" + quoted(error.toString()));
            } else {
                emit("unknown", client, place, 0, now, words + ",\"err\":" + quoted(error.toString()));
                emit("trouble", client, place, 0, now, ",\"err\":" + quoted(name + ": " + error));
            }
        });
    }

    private static void consume(String bootstrap, String client, String group, List<TopicPartition> places) {
        Map<String, Object> config = common(bootstrap, client);
        config.put("group.id", group);
        config.put("enable.auto.commit", false);
        config.put("auto.offset.reset", "earliest");
        config.put("session.timeout.ms", 6_000);
        config.put("heartbeat.interval.ms", 500);
        config.put("max.poll.records", 300);
        config.put("default.api.timeout.ms", 120_000);
        config.put("partition.assignment.strategy", "org.apache.kafka.clients.consumer.CooperativeStickyAssignor");
        try (KafkaConsumer<byte[], byte[]> consumer = new KafkaConsumer<>(config, new ByteArrayDeserializer(), new ByteArrayDeserializer())) {
            consumer.subscribe(places.stream().map(TopicPartition::topic).distinct().toList(), new ConsumerRebalanceListener() {
                @Override
                public void onPartitionsRevoked(Collection<TopicPartition> gone) {
                    // What was read is committed before the next poll already.
                }

                @Override
                public void onPartitionsAssigned(Collection<TopicPartition> added) {
                    for (TopicPartition place : added) emit("assign", client, place, -1, System.nanoTime(), ",\"g\":\"" + group + "\"");
                }
            });
            while (reading) {
                try {
                    round(consumer, client, group);
                } catch (RetriableException | CommitFailedException | RebalanceInProgressException error) {
                    pause(50); // the next commit covers these records too, or whoever is assigned the partition reads them again
                }
            }
        }
    }

    private static void round(KafkaConsumer<byte[], byte[]> consumer, String client, String group) {
        ConsumerRecords<byte[], byte[]> records = consumer.poll(Duration.ofMillis(200));
        long now = System.nanoTime();
        Map<TopicPartition, OffsetAndMetadata> next = new HashMap<>();
        for (TopicPartition place : records.partitions()) {
            StringBuilder list = new StringBuilder();
            for (ConsumerRecord<byte[], byte[]> record : records.records(place)) {
                list.append(list.length() == 0 ? "" : ",").append("{\"o\":").append(record.offset()).append(",\"v\":").append(quoted(name(record)))
                    .append(",\"ts\":").append(record.timestamp()).append('}');
                next.put(place, new OffsetAndMetadata(record.offset() + 1, record.leaderEpoch(), ""));
            }
            emit("poll", client, place, 0, now, ",\"g\":\"" + group + "\",\"r\":[" + list + "]");
        }
        if (next.isEmpty()) return;
        long asked = System.nanoTime();
        String outcome = "";
        KafkaException failure = null;
        try {
            consumer.commitSync(next);
        } catch (KafkaException error) {
            outcome = error.toString();
            failure = error;
        }
        long told = System.nanoTime();
        for (Map.Entry<TopicPartition, OffsetAndMetadata> each : next.entrySet()) {
            String words = ",\"s\":" + asked + ",\"g\":\"" + group + "\"" + (outcome.isEmpty() ? "" : ",\"err\":" + quoted(outcome));
            emit("commit", client, each.getKey(), each.getValue().offset(), told, words);
        }
        if (failure != null) throw failure;
    }

    private static byte[] pattern(String name, int size) {
        StringBuilder value = new StringBuilder(name).append('|');
        while (value.length() < size) value.append(name);
        return Arrays.copyOf(value.toString().getBytes(StandardCharsets.UTF_8), Math.max(size, name.length() + 1));
    }

    private static String name(ConsumerRecord<byte[], byte[]> record) {
        String value = new String(record.value(), StandardCharsets.UTF_8);
        int bar = value.indexOf('|');
        if (bar < 0) return "corrupt:value";
        String name = value.substring(0, bar);
        byte[] id = name.getBytes(StandardCharsets.UTF_8);
        if (!Arrays.equals(record.value(), pattern(name, record.value().length))) return "corrupt:value of " + name;
        if (!Arrays.equals(record.key(), id)) return "corrupt:key of " + name;
        var headers = record.headers().toArray();
        return headers.length == 1 && headers[0].key().equals("id") && Arrays.equals(headers[0].value(), id) ? name : "corrupt:headers of " + name;
    }

    private static void emit(String kind, String client, TopicPartition place, long offset, long at, String rest) {
        String where = place == null ? ",\"p\":0" : ",\"tp\":\"" + place.topic() + "\",\"p\":" + place.partition();
        String line = "{\"t\":" + at + ",\"k\":\"" + kind + "\",\"c\":\"" + client + "\"" + where + ",\"o\":" + offset + rest + "}\n";
        synchronized (System.out) {
            System.out.print(line);
            System.out.flush();
        }
    }

    private static String quoted(String text) {
        StringBuilder out = new StringBuilder("\"");
        for (char c : text.toCharArray()) out.append(c == '"' || c == '\\' ? "\\" + c : c < ' ' ? " " : String.valueOf(c));
        return out.append('"').toString();
    }

    private static void pause(long millis) {
        try {
            Thread.sleep(millis);
        } catch (InterruptedException error) {
            Thread.currentThread().interrupt();
        }
    }
}
