package alluvium.spring;

import java.time.Duration;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.common.TopicPartition;
import org.springframework.beans.factory.annotation.Value;
import org.springframework.boot.SpringApplication;
import org.springframework.boot.autoconfigure.SpringBootApplication;
import org.springframework.context.ConfigurableApplicationContext;
import org.springframework.context.annotation.Bean;
import org.springframework.kafka.config.TopicBuilder;
import org.springframework.kafka.core.KafkaOperations;
import org.springframework.kafka.listener.DeadLetterPublishingRecoverer;
import org.springframework.kafka.listener.DefaultErrorHandler;
import org.springframework.util.backoff.FixedBackOff;

/** A shop that sends and receives orders: the beans are what a Spring user writes, the checks are in {@link Checks}. */
@SpringBootApplication
public class App {
    static final int PARTITIONS = 3;
    private static final Duration TOTAL_LIMIT = Duration.ofSeconds(500);

    public static void main(String[] args) {
        System.setProperty("orders.run", Long.toString(System.nanoTime(), 36));
        Thread watchdog = new Thread(App::giveUp);
        watchdog.setDaemon(true);
        watchdog.start();
        boolean good;
        try (ConfigurableApplicationContext context = SpringApplication.run(App.class, args)) {
            good = context.getBean(Checks.class).run();
        } catch (Exception e) {
            System.out.println("FAIL application: " + String.valueOf(e).replace('\n', ' '));
            good = false;
        }
        System.out.flush();
        Runtime.getRuntime().halt(good ? 0 : 1);
    }

    private static void giveUp() {
        try {
            Thread.sleep(TOTAL_LIMIT.toMillis());
        } catch (InterruptedException e) {
            return;
        }
        System.out.println("FAIL application: not finished after " + TOTAL_LIMIT.toSeconds() + " s");
        System.out.flush();
        Runtime.getRuntime().halt(1);
    }

    @Bean
    NewTopic orders(@Value("${orders.topic}") String name) {
        return TopicBuilder.name(name).partitions(PARTITIONS).replicas(1).build();
    }

    @Bean
    NewTopic deadOrders(@Value("${orders.topic}-dlt") String name) {
        return TopicBuilder.name(name).partitions(PARTITIONS).replicas(1).build();
    }

    /** Two more attempts, then the record goes to the dead letters. */
    @Bean
    DefaultErrorHandler errorHandler(KafkaOperations<Object, Object> template, @Value("${orders.topic}-dlt") String to) {
        DeadLetterPublishingRecoverer recoverer = new DeadLetterPublishingRecoverer(template,
                (record, error) -> new TopicPartition(to, record.partition()));
        return new DefaultErrorHandler(recoverer, new FixedBackOff(50, 2));
    }
}
