import static java.nio.charset.StandardCharsets.UTF_8;

import java.util.ArrayList;
import java.util.List;
import java.util.stream.LongStream;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.InvalidRecordException;
import org.apache.kafka.common.errors.InvalidTimestampException;
import org.apache.kafka.common.errors.InvalidTopicException;
import org.apache.kafka.common.errors.RecordTooLargeException;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.record.TimestampType;

/** The producer. */
final class Producing {
    private static final List<String> CODECS = List.of("none", "gzip", "snappy", "lz4", "zstd");
    private static final int COUNT = 50;

    private Producing() {}

    private static void roundTrip(String codec, String acks, boolean idempotent) throws Exception {
        String topic = Clients.topic("codec", 1);
        try (KafkaProducer<String, String> producer = Clients.producer(
                "compression.type", codec, "acks", acks, "enable.idempotence", "" + idempotent, "batch.size", "4000")) {
            for (int i = 0; i < COUNT; i++) {
                ProducerRecord<String, String> record = new ProducerRecord<>(topic, 0, 1000L + i, "k" + i, "value ".repeat(50) + i);
                record.headers().add("h", ("" + i).getBytes(UTF_8)).add("h", null);
                producer.send(record);
            }
        }
        try (KafkaConsumer<String, String> consumer = Clients.at(topic, 0)) {
            List<ConsumerRecord<String, String>> records = Clients.poll(consumer, COUNT);
            for (int i = 0; i < COUNT; i++) {
                ConsumerRecord<String, String> record = records.get(i);
                Suite.equal((long) i, record.offset());
                Suite.equal("k" + i, record.key());
                Suite.equal("value ".repeat(50) + i, record.value());
                Suite.equal(1000L + i, record.timestamp());
                Header[] headers = record.headers().toArray();
                Suite.equal("" + i, new String(headers[0].value(), UTF_8));
                Suite.equal(null, headers[1].value());
            }
        }
        Suite.equal(List.of(codec), Suite.storedCodecs(topic, 0));
    }

    public static void everyCodecWithAcksNone() throws Exception {
        for (String codec : CODECS) {
            roundTrip(codec, "0", false);
        }
    }

    public static void everyCodecWithAcksLeader() throws Exception {
        for (String codec : CODECS) {
            roundTrip(codec, "1", false);
        }
    }

    public static void everyCodecWithAcksAll() throws Exception {
        for (String codec : CODECS) {
            roundTrip(codec, "all", false);
        }
    }

    public static void everyCodecIdempotent() throws Exception {
        for (String codec : CODECS) {
            roundTrip(codec, "all", true);
        }
    }

    public static void idempotentOffsetsAreDense() throws Exception {
        String topic = Clients.topic("dense", 1);
        try (KafkaProducer<String, String> producer = Clients.producer("batch.size", "200", "linger.ms", "0")) {
            Suite.equal(LongStream.range(0, 2000).boxed().toList(), Clients.fill(producer, topic, 0, 2000));
        }
    }

    public static void nullAndEmptyDiffer() throws Exception {
        String topic = Clients.topic("null", 1);
        try (KafkaProducer<String, String> producer = Clients.producer()) {
            producer.send(new ProducerRecord<>(topic, 0, "", ""));
            producer.send(new ProducerRecord<>(topic, 0, null, null));
        }
        try (KafkaConsumer<String, String> consumer = Clients.at(topic, 0)) {
            List<String> found = new ArrayList<>();
            Clients.poll(consumer, 2).forEach(r -> found.add(r.key() + "/" + r.value()));
            Suite.equal(List.of("/", "null/null"), found);
        }
    }

    public static void logAppendTime() throws Exception {
        String topic = Clients.topic("append-time", 1, "message.timestamp.type", "LogAppendTime");
        long before = System.currentTimeMillis();
        long acknowledged = Clients.sendAt(topic, 1234).timestamp();
        Suite.check(acknowledged >= before, acknowledged);
        try (KafkaConsumer<String, String> consumer = Clients.at(topic, 0)) {
            ConsumerRecord<String, String> record = Clients.poll(consumer, 1).get(0);
            Suite.equal(acknowledged, record.timestamp());
            Suite.equal(TimestampType.LOG_APPEND_TIME, record.timestampType());
        }
    }

    public static void timestampTooFarAhead() throws Exception {
        String topic = Clients.topic("ahead", 1, "message.timestamp.after.max.ms", "1000");
        Suite.fails(InvalidTimestampException.class, () -> Clients.sendAt(topic, System.currentTimeMillis() + 86_400_000));
    }

    public static void timestampTooFarBehind() throws Exception {
        String topic = Clients.topic("behind", 1, "message.timestamp.before.max.ms", "1000");
        Suite.fails(InvalidTimestampException.class, () -> Clients.sendAt(topic, 1));
    }

    public static void messageTooLarge() throws Exception {
        String topic = Clients.topic("large", 1, "max.message.bytes", "10000");
        try (KafkaProducer<String, String> producer = Clients.producer()) {
            Suite.fails(RecordTooLargeException.class,
                    () -> producer.send(new ProducerRecord<>(topic, "x".repeat(20_000))).get());
            Suite.equal(0L, producer.send(new ProducerRecord<>(topic, "x".repeat(9_000))).get().offset());
        }
    }

    public static void tooLargeBatchIsSplitAndSent() throws Exception {
        String topic = Clients.topic("split", 1, "max.message.bytes", "10000");
        try (KafkaProducer<String, String> producer = Clients.producer("batch.size", "100000", "linger.ms", "100")) {
            List<java.util.concurrent.Future<?>> sent = new ArrayList<>();
            for (int i = 0; i < 20; i++) {
                sent.add(producer.send(new ProducerRecord<>(topic, 0, null, "x".repeat(2000))));
            }
            for (java.util.concurrent.Future<?> one : sent) {
                one.get();
            }
        }
        try (KafkaConsumer<String, String> consumer = Clients.at(topic, 0)) {
            Suite.equal(20, Clients.poll(consumer, 20).size());
        }
    }

    public static void nullKeyOnACompactedTopic() throws Exception {
        String topic = Clients.topic("compact", 1, "cleanup.policy", "compact");
        try (KafkaProducer<String, String> producer = Clients.producer()) {
            Suite.fails(InvalidRecordException.class, () -> producer.send(new ProducerRecord<>(topic, "v")).get());
        }
    }

    public static void invalidTopicName() {
        try (KafkaProducer<String, String> producer = Clients.producer()) {
            Suite.fails(InvalidTopicException.class, () -> producer.send(new ProducerRecord<>("no such name!", "v")).get());
        }
    }

    public static void autoCreate() throws Exception {
        String topic = Clients.unique("auto");
        try (KafkaProducer<String, String> producer = Clients.producer()) {
            Suite.equal(0L, producer.send(new ProducerRecord<>(topic, "k", "v")).get().offset());
            Suite.equal(2, producer.partitionsFor(topic).size());
        }
    }
}
