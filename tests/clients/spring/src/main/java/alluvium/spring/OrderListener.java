package alluvium.spring;

import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.atomic.AtomicInteger;
import org.springframework.kafka.annotation.KafkaListener;
import org.springframework.kafka.support.KafkaHeaders;
import org.springframework.messaging.handler.annotation.Header;
import org.springframework.messaging.handler.annotation.Payload;
import org.springframework.stereotype.Component;

/** Receives orders on three threads and remembers what came from where. */
@Component
class OrderListener {
    record Received(Order order, long offset, String source) {}

    final Map<Integer, List<Received>> byPartition = new ConcurrentHashMap<>();
    final Map<Integer, Set<String>> threads = new ConcurrentHashMap<>();
    final List<Order> dead = new CopyOnWriteArrayList<>();
    final AtomicInteger attempts = new AtomicInteger();
    volatile int poison = -1;

    @KafkaListener(id = "orders", topics = "${orders.topic}", groupId = "${orders.group}", concurrency = "3")
    void receive(@Payload Order order, @Header(KafkaHeaders.RECEIVED_PARTITION) int partition,
            @Header(KafkaHeaders.OFFSET) long offset, @Header(name = "source", required = false) String source) {
        if (order.number() == poison) {
            attempts.incrementAndGet();
            throw new IllegalStateException("poison");
        }
        threads.computeIfAbsent(partition, p -> ConcurrentHashMap.newKeySet()).add(Thread.currentThread().getName());
        byPartition.computeIfAbsent(partition, p -> new CopyOnWriteArrayList<>())
                .add(new Received(order, offset, source));
    }

    @KafkaListener(id = "dead", topics = "${orders.topic}-dlt", groupId = "${orders.group}-dlt")
    void bury(@Payload Order order) {
        dead.add(order);
    }

    int count() {
        return byPartition.values().stream().mapToInt(List::size).sum();
    }
}
