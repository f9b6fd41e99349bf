import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collection;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.FencedInstanceIdException;
import org.apache.kafka.common.errors.InconsistentGroupProtocolException;
import org.apache.kafka.common.errors.OffsetMetadataTooLarge;
import org.apache.kafka.common.errors.UnknownMemberIdException;

/** Consumer groups, the classic protocol. */
final class Grouping {
    private static final String ASSIGNOR = "partition.assignment.strategy";
    private static final String RANGE = "org.apache.kafka.clients.consumer.RangeAssignor";
    private static final String ROUND_ROBIN = "org.apache.kafka.clients.consumer.RoundRobinAssignor";
    private static final String STICKY = "org.apache.kafka.clients.consumer.StickyAssignor";
    private static final String COOPERATIVE = "org.apache.kafka.clients.consumer.CooperativeStickyAssignor";

    private Grouping() {}

    /** A consumer that is polled by a thread of its own, as JoinGroup may block inside poll. */
    static final class Member implements ConsumerRebalanceListener, AutoCloseable {
        final KafkaConsumer<String, String> consumer;
        final List<TopicPartition> revoked = new ArrayList<>();
        volatile Set<TopicPartition> owned = Set.of();
        volatile RuntimeException error;
        volatile int rebalances;
        private volatile boolean running = true;
        private final Thread thread;

        Member(String group, String topic, String... settings) {
            consumer = Clients.consumer(group, settings);
            consumer.subscribe(List.of(topic), this);
            thread = new Thread(this::work, "member");
            thread.setDaemon(true);
            thread.start();
        }

        private void work() {
            try {
                while (running) {
                    consumer.poll(Duration.ofMillis(50));
                    owned = Set.copyOf(consumer.assignment());
                }
            } catch (RuntimeException e) {
                error = e;
            }
            owned = Set.of();
        }

        @Override
        public void onPartitionsRevoked(Collection<TopicPartition> partitions) {
            revoked.addAll(partitions);
        }

        @Override
        public void onPartitionsAssigned(Collection<TopicPartition> partitions) {
            rebalances++;
        }

        @Override
        public void close() {
            running = false;
            try {
                thread.join();
            } catch (InterruptedException e) {
                Thread.currentThread().interrupt();
            }
            consumer.close();
        }
    }

    private static void settle(String what, List<Member> members, Integer... expected) throws Exception {
        Suite.waitFor(what, () -> {
            Set<TopicPartition> all = new HashSet<>();
            List<Integer> shares = new ArrayList<>();
            for (Member member : members) {
                all.addAll(member.owned);
                shares.add(member.owned.size());
            }
            shares.sort(null);
            return shares.equals(Arrays.asList(expected)) && all.size() == shares.stream().mapToInt(i -> i).sum();
        });
    }

    private static void joinShareAndLeave(String assignor) throws Exception {
        String topic = Clients.topic("share", 4);
        try (Member first = new Member(topic, topic, ASSIGNOR, assignor)) {
            settle("the first to own all", List.of(first), 4);
            try (Member second = new Member(topic, topic, ASSIGNOR, assignor)) {
                settle("halves", List.of(first, second), 2, 2);
            }
            settle("the first to own all again", List.of(first), 4);
            if (assignor.equals(COOPERATIVE)) {
                Suite.equal(2, first.revoked.size());
            }
        }
    }

    public static void cooperativeSticky() throws Exception {
        joinShareAndLeave(COOPERATIVE);
    }

    public static void range() throws Exception {
        joinShareAndLeave(RANGE);
    }

    public static void roundRobin() throws Exception {
        joinShareAndLeave(ROUND_ROBIN);
    }

    public static void sticky() throws Exception {
        joinShareAndLeave(STICKY);
    }

    public static void noCommonAssignor() throws Exception {
        String topic = Clients.topic("protocol", 1);
        try (Member first = new Member(topic, topic, ASSIGNOR, RANGE)) {
            settle("the first to join", List.of(first), 1);
            try (Member other = new Member(topic, topic, ASSIGNOR, ROUND_ROBIN)) {
                Suite.waitFor("the refusal", () -> other.error != null);
                Suite.check(other.error instanceof InconsistentGroupProtocolException, other.error);
            }
            Suite.equal(1, first.owned.size());
        }
    }

    public static void aMemberThatStopsPollingIsReplaced() throws Exception {
        String topic = Clients.topic("lazy", 2);
        try (Member busy = new Member(topic, topic);
                KafkaConsumer<String, String> lazy = Clients.consumer(topic, "max.poll.interval.ms", "2000", "session.timeout.ms", "2000")) {
            settle("the busy one to own all", List.of(busy), 2);
            lazy.subscribe(List.of(topic));
            Suite.waitFor("a share for the lazy one", () -> {
                lazy.poll(Duration.ofMillis(100));
                return lazy.assignment().size() == 1;
            });
            settle("the busy one to own all again", List.of(busy), 2);
        }
    }

    public static void staticMemberComesBack() throws Exception {
        String topic = Clients.topic("static", 2);
        try (Member one = new Member(topic, topic, "group.instance.id", "one", "session.timeout.ms", "20000")) {
            Member two = new Member(topic, topic, "group.instance.id", "two", "session.timeout.ms", "20000");
            settle("one each", List.of(one, two), 1, 1);
            Set<TopicPartition> before = two.owned;
            two.close();
            int rebalances = one.rebalances;
            try (Member back = new Member(topic, topic, "group.instance.id", "two", "session.timeout.ms", "20000")) {
                settle("one each again", List.of(one, back), 1, 1);
                Suite.equal(before, back.owned);
            }
            Suite.equal(rebalances, one.rebalances);
        }
    }

    public static void staticMemberIsFencedByItsTwin() throws Exception {
        String topic = Clients.topic("twin", 1);
        try (Member first = new Member(topic, topic, "group.instance.id", "same")) {
            settle("the first to own all", List.of(first), 1);
            try (Member second = new Member(topic, topic, "group.instance.id", "same")) {
                Suite.waitFor("the first to be fenced", () -> first.error != null);
                Suite.check(first.error instanceof FencedInstanceIdException, first.error);
                settle("the second to own all", List.of(second), 1);
            }
        }
    }

    public static void commitsWithMetadata() throws Exception {
        String topic = Clients.topic("commit", 1);
        TopicPartition partition = new TopicPartition(topic, 0);
        try (KafkaConsumer<String, String> consumer = Clients.consumer(topic)) {
            Suite.equal(null, consumer.committed(Set.of(partition)).get(partition));
            OffsetAndMetadata commit = new OffsetAndMetadata(3, java.util.Optional.of(0), "so far ü");
            consumer.commitSync(Map.of(partition, commit));
            Suite.equal(commit, consumer.committed(Set.of(partition)).get(partition));
            Suite.fails(OffsetMetadataTooLarge.class, () -> {
                consumer.commitSync(Map.of(partition, new OffsetAndMetadata(3, "m".repeat(5000))));
                return null;
            });
        }
    }

    public static void resumesFromTheCommit() throws Exception {
        String topic = Clients.topic("resume", 1);
        Clients.fill(topic, 0, 10);
        try (KafkaConsumer<String, String> consumer = Clients.consumer(topic)) {
            consumer.subscribe(List.of(topic));
            Clients.poll(consumer, 10);
            consumer.commitSync(Map.of(new TopicPartition(topic, 0), new OffsetAndMetadata(4)));
        }
        try (KafkaConsumer<String, String> consumer = Clients.consumer(topic)) {
            consumer.subscribe(List.of(topic));
            Suite.equal(4L, Clients.poll(consumer, 1).get(0).offset());
        }
    }

    public static void onlyMembersCommitWhileAGroupIsActive() throws Exception {
        String topic = Clients.topic("outsider", 1);
        try (Member member = new Member(topic, topic); KafkaConsumer<String, String> outsider = Clients.consumer(topic)) {
            settle("the member to join", List.of(member), 1);
            Exception error = Suite.fails(Exception.class, () -> {
                outsider.commitSync(Map.of(new TopicPartition(topic, 0), new OffsetAndMetadata(1)));
                return null;
            });
            boolean expected = error instanceof UnknownMemberIdException
                    || error instanceof org.apache.kafka.clients.consumer.CommitFailedException;
            Suite.check(expected, error);
        }
    }

    public static void patternFindsANewTopic() throws Exception {
        String word = Clients.unique("pattern");
        try (KafkaConsumer<String, String> consumer = Clients.consumer(word, "metadata.max.age.ms", "300")) {
            consumer.subscribe(java.util.regex.Pattern.compile("java\\." + word + ".*"));
            consumer.poll(Duration.ofMillis(200));
            Clients.topic(word, 2);
            Suite.waitFor("the new topic", () -> {
                consumer.poll(Duration.ofMillis(100));
                return consumer.assignment().size() == 2;
            });
        }
    }
}
