package alluvium.spring;

import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.Callable;
import java.util.concurrent.CompletableFuture;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.springframework.beans.factory.annotation.Value;
import org.springframework.kafka.config.KafkaListenerEndpointRegistry;
import org.springframework.kafka.core.KafkaAdmin;
import org.springframework.kafka.core.KafkaTemplate;
import org.springframework.kafka.listener.ConcurrentMessageListenerContainer;
import org.springframework.kafka.support.SendResult;
import org.springframework.stereotype.Component;

/** Drives the application, one check after the other, and prints a line for each. */
@Component
class Checks {
    private static final Duration DEADLINE = Duration.ofSeconds(120);

    private final KafkaTemplate<Object, Object> template;
    private final KafkaAdmin kafkaAdmin;
    private final KafkaListenerEndpointRegistry listeners;
    private final OrderListener listener;
    private final String topic;
    private final String group;
    private final boolean full = !"smoke".equals(System.getenv("LEVEL"));
    private int next;
    private boolean good = true;

    Checks(KafkaTemplate<Object, Object> template, KafkaAdmin kafkaAdmin, KafkaListenerEndpointRegistry listeners,
            OrderListener listener, @Value("${orders.topic}") String topic, @Value("${orders.group}") String group) {
        this.template = template;
        this.kafkaAdmin = kafkaAdmin;
        this.listeners = listeners;
        this.listener = listener;
        this.topic = topic;
        this.group = group;
    }

    boolean run() {
        check("topic_has_three_partitions", this::topicHasThreePartitions);
        check("each_consumer_gets_a_partition", this::settle);
        check("orders_arrive_once_and_in_order", () -> exchange(full ? 6000 : 600));
        check("three_threads_share_the_partitions", this::threadsShare);
        check("offsets_are_committed", this::offsetsAreCommitted);
        check("a_restart_resumes", this::restartResumes);
        if (full) check("a_poisoned_order_is_retried_and_buried", this::poison);
        return good;
    }

    private interface Body {
        void run() throws Exception;
    }

    /** Each check builds on those before it, so the first failure ends the suite. */
    private void check(String name, Body body) {
        if (!good) return;
        try {
            body.run();
            System.out.println("ok " + name);
        } catch (Throwable e) {
            good = false;
            System.out.println("FAIL " + name + ": " + String.valueOf(e).replace('\n', ' '));
        }
    }

    private static void that(boolean holds, String otherwise) {
        if (!holds) throw new AssertionError(otherwise);
    }

    private static void eventually(String what, Callable<Boolean> condition) throws Exception {
        long end = System.nanoTime() + DEADLINE.toNanos();
        while (!condition.call()) {
            that(System.nanoTime() < end, "not within " + DEADLINE.toSeconds() + " s: " + what);
            Thread.sleep(20);
        }
    }

    private void topicHasThreePartitions() {
        int partitions = kafkaAdmin.describeTopics(topic).get(topic).partitions().size();
        that(partitions == App.PARTITIONS, "partitions: " + partitions);
    }

    /** Waits until each of the three consumers has its partition, so that no rebalance comes in between. */
    private void settle() throws Exception {
        var container = (ConcurrentMessageListenerContainer<?, ?>) listeners.getListenerContainer("orders");
        eventually("three consumers with a partition each", () -> container.getContainers().size() == 3
                && container.getContainers().stream().allMatch(
                        each -> each.getAssignedPartitions() != null && each.getAssignedPartitions().size() == 1));
    }

    /** Sends orders with keys, so that the partitioner spreads them, and waits until the listener has them all. */
    private void exchange(int count) throws Exception {
        int before = listener.count();
        List<CompletableFuture<SendResult<Object, Object>>> sent = new ArrayList<>();
        for (int i = 0; i < count; i++) {
            ProducerRecord<Object, Object> record =
                    new ProducerRecord<>(topic, "customer " + next % 50, Order.numbered(next));
            record.headers().add("source", "shop".getBytes(StandardCharsets.UTF_8));
            sent.add(template.send(record));
            next++;
        }
        template.flush();
        Map<Integer, Map<Long, Integer>> acknowledged = new HashMap<>();
        int first = next - count;
        for (int i = 0; i < count; i++) {
            var metadata = sent.get(i).get().getRecordMetadata();
            acknowledged.computeIfAbsent(metadata.partition(), p -> new HashMap<>()).put(metadata.offset(), first + i);
        }
        that(acknowledged.size() == App.PARTITIONS, "partitions that got orders: " + acknowledged.keySet());
        eventually(count + " orders; there are " + (listener.count() - before), () -> listener.count() - before >= count);
        verify(acknowledged, count, before);
    }

    private void verify(Map<Integer, Map<Long, Integer>> acknowledged, int count, int before) {
        that(listener.count() - before == count, "orders received: " + (listener.count() - before));
        Set<Integer> numbers = new HashSet<>();
        listener.byPartition.forEach((partition, received) -> {
            for (int i = 0; i < received.size(); i++) {
                OrderListener.Received each = received.get(i);
                that(each.offset() == i, "offset " + each.offset() + " at place " + i + " of partition " + partition);
                that(numbers.add(each.order().number()), "order " + each.order().number() + " came twice");
                that(each.order().equals(Order.numbered(each.order().number())), "content of " + each.order());
                that("shop".equals(each.source()), "header of " + each.order());
                Integer wanted = acknowledged.get(partition).get(each.offset());
                that(wanted == null || wanted == each.order().number(), "offset " + each.offset() + " holds another");
            }
        });
        that(numbers.size() == next, "different orders: " + numbers.size());
    }

    private void threadsShare() {
        that(listener.threads.size() == App.PARTITIONS, "partitions: " + listener.threads.keySet());
        Set<String> all = new HashSet<>();
        listener.threads.values().forEach(names -> {
            that(names.size() == 1, "threads of one partition: " + names);
            all.addAll(names);
        });
        that(all.size() == App.PARTITIONS, "threads: " + all);
    }

    private void offsetsAreCommitted() throws Exception {
        try (Admin admin = Admin.create(kafkaAdmin.getConfigurationProperties())) {
            eventually("committed offsets reach the ends", () -> {
                Map<TopicPartition, OffsetAndMetadata> committed =
                        admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata(group).get();
                for (int p = 0; p < App.PARTITIONS; p++) {
                    TopicPartition of = new TopicPartition(topic, p);
                    long end = admin.listOffsets(Map.of(of, OffsetSpec.latest())).partitionResult(of).get().offset();
                    if (committed.get(of) == null || committed.get(of).offset() != end) return false;
                }
                return true;
            });
        }
    }

    private void restartResumes() throws Exception {
        var container = listeners.getListenerContainer("orders");
        container.stop();
        eventually("the listener stops", () -> !container.isRunning());
        container.start();
        settle();
        exchange(300);
    }

    private void poison() throws Exception {
        Order poisoned = Order.numbered(next++);
        listener.poison = poisoned.number();
        template.send(topic, 0, "poison", poisoned).get();
        eventually("it is buried", () -> listener.dead.size() == 1);
        that(listener.dead.get(0).equals(poisoned), "buried: " + listener.dead);
        that(listener.attempts.get() == 3, "attempts: " + listener.attempts.get());
    }
}
