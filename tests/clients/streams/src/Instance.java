import java.util.Properties;
import org.apache.kafka.streams.KafkaStreams;

/** The word count in a process of its own, made to be killed: java Instance BOOTSTRAP APPLICATION INPUT OUTPUT STATE-DIR. */
public final class Instance {
    public static void main(String[] args) {
        Properties properties = new Properties();
        properties.putAll(App.settings(args[0], args[1], args[4]));
        new KafkaStreams(App.wordCount(args[2], args[3]), properties).start();
    }
}
