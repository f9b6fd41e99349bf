import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import java.util.stream.LongStream;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetOutOfRangeException;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;

/** The consumer without a group: positions, limits, isolation. */
final class Consuming {
    private Consuming() {}

    public static void beginningEndAndOffset() throws Exception {
        String topic = Clients.topic("where", 1);
        Clients.fill(topic, 0, 10);
        List<TopicPartition> all = List.of(new TopicPartition(topic, 0));
        try (KafkaConsumer<String, String> consumer = Clients.at(topic, 7)) {
            Suite.equal(List.of(7L, 8L, 9L), Clients.offsets(Clients.poll(consumer, 3)));
            consumer.seekToBeginning(all);
            Suite.equal(LongStream.range(0, 10).boxed().toList(), Clients.offsets(Clients.poll(consumer, 10)));
            consumer.seekToEnd(all);
            Suite.equal(10L, consumer.position(all.get(0)));
            Clients.fill(topic, 0, 1);
            Suite.equal(List.of(10L), Clients.offsets(Clients.poll(consumer, 1)));
            Suite.equal(Map.of(all.get(0), 0L), consumer.beginningOffsets(all));
            Suite.equal(Map.of(all.get(0), 11L), consumer.endOffsets(all));
        }
    }

    public static void offsetsForTimes() throws Exception {
        String topic = Clients.topic("times", 1);
        for (long stamp : new long[] {1000, 2000, 3000}) {
            Clients.sendAt(topic, stamp);
        }
        TopicPartition partition = new TopicPartition(topic, 0);
        try (KafkaConsumer<String, String> consumer = Clients.consumer(topic)) {
            Suite.equal(1L, consumer.offsetsForTimes(Map.of(partition, 1500L)).get(partition).offset());
            Suite.equal(2000L, consumer.offsetsForTimes(Map.of(partition, 1500L)).get(partition).timestamp());
            Suite.equal(null, consumer.offsetsForTimes(Map.of(partition, 3001L)).get(partition));
        }
    }

    public static void outOfRange() throws Exception {
        String topic = Clients.topic("range", 1);
        Clients.fill(topic, 0, 5);
        try (KafkaConsumer<String, String> consumer = Clients.at(topic, 1000, "auto.offset.reset", "none")) {
            Suite.fails(OffsetOutOfRangeException.class, () -> Clients.poll(consumer, 1));
        }
        try (KafkaConsumer<String, String> consumer = Clients.at(topic, 1000)) {
            Suite.equal(0L, Clients.poll(consumer, 1).get(0).offset());
        }
        try (KafkaConsumer<String, String> consumer = Clients.at(topic, 1000, "auto.offset.reset", "latest")) {
            Suite.waitFor("the end", () -> {
                consumer.poll(Duration.ofMillis(100));
                return consumer.position(new TopicPartition(topic, 0)) == 5;
            });
        }
    }

    public static void resetByDuration() throws Exception {
        String topic = Clients.topic("by-duration", 1);
        Clients.sendAt(topic, 1000);
        Clients.sendAt(topic, System.currentTimeMillis());
        try (KafkaConsumer<String, String> consumer = Clients.at(topic, 1000, "auto.offset.reset", "by_duration:PT1H")) {
            Suite.equal(List.of(1L), Clients.offsets(Clients.poll(consumer, 1)));
        }
    }

    public static void aRecordAboveMaxBytesIsStillReturned() throws Exception {
        String topic = Clients.topic("max-bytes", 1);
        try (KafkaProducer<String, String> producer = Clients.producer("batch.size", "1")) {
            for (int i = 0; i < 5; i++) {
                producer.send(new ProducerRecord<>(topic, "x".repeat(50_000)));
            }
        }
        try (KafkaConsumer<String, String> consumer = Clients.at(topic, 0, "fetch.max.bytes", "1000", "max.partition.fetch.bytes", "1000")) {
            Suite.equal(5, Clients.poll(consumer, 5).size());
        }
    }

    public static void maxBytesStarvesNoPartition() throws Exception {
        String topic = Clients.topic("starve", 20);
        try (KafkaProducer<String, String> producer = Clients.producer()) {
            for (int i = 0; i < 80; i++) {
                producer.send(new ProducerRecord<>(topic, i % 20, null, "x".repeat(5000)));
                if (i % 20 == 19) {
                    producer.flush(); // one batch for each record
                }
            }
        }
        try (KafkaConsumer<String, String> consumer = Clients.consumer(topic, "fetch.max.bytes", "6000")) {
            consumer.assign(IntStream.range(0, 20).mapToObj(p -> new TopicPartition(topic, p)).toList());
            Set<Integer> seen = Clients.poll(consumer, 80).stream().map(ConsumerRecord::partition).collect(Collectors.toSet());
            Suite.equal(20, seen.size());
        }
    }

    public static void pauseAndResume() throws Exception {
        String topic = Clients.topic("pause", 2);
        TopicPartition zero = new TopicPartition(topic, 0);
        TopicPartition one = new TopicPartition(topic, 1);
        Clients.fill(topic, 0, 2);
        Clients.fill(topic, 1, 2);
        try (KafkaConsumer<String, String> consumer = Clients.consumer(topic)) {
            consumer.assign(List.of(zero, one));
            consumer.pause(List.of(zero));
            Suite.check(Clients.poll(consumer, 2).stream().allMatch(r -> r.partition() == 1), "only partition 1");
            Suite.equal(0, consumer.poll(Duration.ofMillis(500)).count());
            consumer.resume(List.of(zero));
            Suite.check(Clients.poll(consumer, 2).stream().allMatch(r -> r.partition() == 0), "only partition 0");
        }
    }

    public static void isolationLevels() throws Exception {
        String topic = Clients.topic("isolation", 1);
        Clients.fill(topic, 0, 20);
        for (String level : List.of("read_committed", "read_uncommitted")) {
            try (KafkaConsumer<String, String> consumer = Clients.at(topic, 0, "isolation.level", level)) {
                Suite.equal(20, Clients.poll(consumer, 20).size());
                TopicPartition partition = new TopicPartition(topic, 0);
                Suite.equal(Map.of(partition, 20L), consumer.endOffsets(List.of(partition)));
            }
        }
    }

    public static void aWaitingFetchIsWokenByARecord() throws Exception {
        String topic = Clients.topic("wake", 1);
        try (KafkaConsumer<String, String> consumer = Clients.at(topic, 0, "fetch.max.wait.ms", "8000")) {
            Suite.equal(0, consumer.poll(Duration.ofMillis(1000)).count());
            long sent = System.nanoTime();
            Clients.fill(topic, 0, 1);
            Clients.poll(consumer, 1);
            Suite.check(System.nanoTime() - sent < 5_000_000_000L, "the record came late");
        }
    }

    public static void fetchSessionFollowsAssignment() throws Exception {
        String topic = Clients.topic("session", 10);
        List<TopicPartition> all = IntStream.range(0, 10).mapToObj(p -> new TopicPartition(topic, p)).toList();
        try (KafkaConsumer<String, String> consumer = Clients.consumer(topic)) {
            consumer.assign(all);
            for (int turn = 0; turn < 4; turn++) {
                Clients.fill(topic, turn, 3);
                Suite.equal(List.of(0L, 1L, 2L), Clients.offsets(Clients.poll(consumer, 3)));
            }
            consumer.assign(all.subList(0, 2)); // the session forgets eight partitions
            consumer.seekToBeginning(all.subList(0, 2));
            Suite.equal(6, Clients.poll(consumer, 6).size());
        }
    }

    public static void topicList() throws Exception {
        String topic = Clients.topic("list", 3);
        try (KafkaConsumer<String, String> consumer = Clients.consumer(topic)) {
            Suite.equal(3, consumer.partitionsFor(topic).size());
            Suite.check(consumer.listTopics().containsKey(topic), "the topic is listed");
            String unknown = Clients.unique("unknown");
            Suite.equal(List.of(), consumer.partitionsFor(unknown));
            Suite.check(!consumer.listTopics().containsKey(unknown), "asking creates no topic");
        }
    }
}
