import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.UUID;
import java.util.concurrent.Future;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

/** Short forms for making and using Java clients. `settings` are pairs of key and value. */
final class Clients {
    static final Admin ADMIN = Admin.create(Map.of("bootstrap.servers", Suite.BOOTSTRAP));

    private Clients() {}

    static Map<String, Object> settings(Map<String, Object> defaults, String... settings) {
        Map<String, Object> all = new HashMap<>(defaults);
        all.put("bootstrap.servers", Suite.BOOTSTRAP);
        for (int i = 0; i < settings.length; i += 2) {
            all.put(settings[i], settings[i + 1]);
        }
        return all;
    }

    static KafkaProducer<String, String> producer(String... settings) {
        return new KafkaProducer<>(settings(Map.of(), settings), new StringSerializer(), new StringSerializer());
    }

    static KafkaConsumer<String, String> consumer(String group, String... settings) {
        Map<String, Object> defaults = Map.of(
                "group.id", group, "group.protocol", "classic", "auto.offset.reset", "earliest", "enable.auto.commit", "false",
                "session.timeout.ms", "6000", "heartbeat.interval.ms", "300", "allow.auto.create.topics", "false");
        return new KafkaConsumer<>(settings(defaults, settings), new StringDeserializer(), new StringDeserializer());
    }

    static String unique(String word) {
        return "java." + word + "-" + UUID.randomUUID().toString().substring(0, 8);
    }

    static String topic(String word, int partitions, String... configs) throws Exception {
        String name = unique(word);
        Map<String, String> entries = new HashMap<>();
        for (int i = 0; i < configs.length; i += 2) {
            entries.put(configs[i], configs[i + 1]);
        }
        ADMIN.createTopics(List.of(new NewTopic(name, partitions, Suite.REPLICAS).configs(entries))).all().get();
        waitForPartitions(name, partitions);
        return name;
    }

    /** A controller may answer before every broker has heard of its change. */
    static void waitForPartitions(String topic, int count) throws Exception {
        Suite.waitFor(count + " partitions", () -> {
            try {
                return ADMIN.describeTopics(List.of(topic)).allTopicNames().get().get(topic).partitions().size() == count;
            } catch (java.util.concurrent.ExecutionException e) {
                return false;
            }
        });
    }

    /** Sends the values "0", "1", ... to one partition and returns their offsets. */
    static List<Long> fill(KafkaProducer<String, String> producer, String topic, int partition, int count) throws Exception {
        List<Future<RecordMetadata>> sent = new ArrayList<>();
        for (int i = 0; i < count; i++) {
            sent.add(producer.send(new ProducerRecord<>(topic, partition, null, "" + i)));
        }
        producer.flush();
        List<Long> offsets = new ArrayList<>();
        for (Future<RecordMetadata> one : sent) {
            offsets.add(one.get().offset());
        }
        return offsets;
    }

    static void fill(String topic, int partition, int count) throws Exception {
        try (KafkaProducer<String, String> producer = producer()) {
            fill(producer, topic, partition, count);
        }
    }

    static RecordMetadata sendAt(String topic, long timestamp) throws Exception {
        try (KafkaProducer<String, String> producer = producer()) {
            return producer.send(new ProducerRecord<>(topic, 0, timestamp, null, "v")).get();
        }
    }

    static List<ConsumerRecord<String, String>> poll(KafkaConsumer<String, String> consumer, int count) throws Exception {
        List<ConsumerRecord<String, String>> records = new ArrayList<>();
        Suite.waitFor(count + " records", () -> {
            consumer.poll(Duration.ofMillis(100)).forEach(records::add);
            return records.size() >= count;
        });
        return records;
    }

    static List<Long> offsets(List<ConsumerRecord<String, String>> records) {
        return records.stream().map(ConsumerRecord::offset).toList();
    }

    static KafkaConsumer<String, String> at(String topic, long offset, String... settings) {
        KafkaConsumer<String, String> consumer = consumer(topic, settings);
        TopicPartition partition = new TopicPartition(topic, 0);
        consumer.assign(List.of(partition));
        consumer.seek(partition, offset);
        return consumer;
    }
}
