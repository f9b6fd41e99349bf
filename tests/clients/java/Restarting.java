import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.Future;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.stream.LongStream;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.TopicPartition;

/** The broker stops, or dies, under clients that are at work; they go on without being told. */
final class Restarting {
    private Restarting() {}

    private static void groupGoesOn(String how) throws Exception {
        String topic = Clients.topic(how, 1);
        TopicPartition partition = new TopicPartition(topic, 0);
        try (KafkaProducer<String, String> producer = Clients.producer();
                KafkaConsumer<String, String> consumer = Clients.consumer(topic, "session.timeout.ms", "45000")) {
            consumer.subscribe(List.of(topic));
            Clients.fill(producer, topic, 0, 10);
            Clients.poll(consumer, 10);
            consumer.commitSync(Map.of(partition, new OffsetAndMetadata(8, "kept")));
            Suite.broker(how);
            Suite.equal(List.of(10L, 11L, 12L), Clients.fill(producer, topic, 0, 3));
            List<Long> found = new ArrayList<>(Clients.offsets(Clients.poll(consumer, 3)));
            if (found.get(0) == 8) { // the member had to join again, so it starts from its commit
                found.addAll(Clients.offsets(Clients.poll(consumer, 5 - found.size())));
            }
            Suite.equal(LongStream.rangeClosed(found.get(0), 12).boxed().toList(), found);
            Suite.check(found.get(0) == 8 || found.get(0) == 10, found);
            OffsetAndMetadata kept = consumer.committed(Set.of(partition)).get(partition);
            Suite.equal("8 kept", kept.offset() + " " + kept.metadata());
        }
    }

    private static void idempotentLoad(String how) throws Exception {
        String topic = Clients.topic("load-" + how, 1);
        List<Future<RecordMetadata>> sent = new ArrayList<>();
        AtomicBoolean stop = new AtomicBoolean();
        try (KafkaProducer<String, String> producer = Clients.producer("linger.ms", "1")) {
            Thread load = new Thread(() -> {
                while (!stop.get()) {
                    sent.add(producer.send(new ProducerRecord<>(topic, 0, null, "" + sent.size())));
                    java.util.concurrent.locks.LockSupport.parkNanos(500_000);
                }
            });
            load.start();
            Suite.broker(how);
            stop.set(true);
            load.join();
            producer.flush();
        }
        List<Long> acknowledged = new ArrayList<>();
        for (Future<RecordMetadata> one : sent) {
            acknowledged.add(one.get().offset());
        }
        Suite.equal(LongStream.range(0, sent.size()).boxed().toList(), acknowledged);
        try (KafkaConsumer<String, String> consumer = Clients.at(topic, 0)) {
            List<Long> values = Clients.poll(consumer, sent.size()).stream().map(r -> Long.parseLong(r.value())).toList();
            Suite.equal(LongStream.range(0, sent.size()).boxed().toList(), values);
        }
    }

    public static void groupAfterKill9() throws Exception {
        groupGoesOn("crash");
    }

    public static void groupAfterSigterm() throws Exception {
        groupGoesOn("restart");
    }

    public static void loadOverKill9() throws Exception {
        idempotentLoad("crash");
    }

    public static void loadOverSigterm() throws Exception {
        idempotentLoad("restart");
    }
}
