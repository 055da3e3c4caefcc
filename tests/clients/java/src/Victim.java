import java.time.Duration;
import java.util.List;
import java.util.Map;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.serialization.StringDeserializer;

/** A group member in a process of its own, made to be killed: java Victim BOOTSTRAP TOPIC GROUP. */
public final class Victim {
    public static void main(String[] args) {
        Map<String, Object> configs = Map.of("bootstrap.servers", args[0], "group.id", args[2],
                "session.timeout.ms", "6000", "heartbeat.interval.ms", "200");
        try (KafkaConsumer<String, String> consumer =
                new KafkaConsumer<>(configs, new StringDeserializer(), new StringDeserializer())) {
            consumer.subscribe(List.of(args[1]));
            while (true) consumer.poll(Duration.ofMillis(100));
        }
    }
}
