import static org.apache.kafka.clients.admin.OffsetSpec.earliest;
import static org.apache.kafka.clients.admin.OffsetSpec.forTimestamp;
import static org.apache.kafka.clients.admin.OffsetSpec.latest;
import static org.apache.kafka.clients.admin.OffsetSpec.maxTimestamp;

import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.concurrent.ExecutionException;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.CreateTopicsOptions;
import org.apache.kafka.clients.admin.CreateTopicsResult;
import org.apache.kafka.clients.admin.ListOffsetsOptions;
import org.apache.kafka.clients.admin.ListOffsetsResult.ListOffsetsResultInfo;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.admin.RecordsToDelete;
import org.apache.kafka.clients.admin.TopicDescription;
import org.apache.kafka.common.IsolationLevel;
import org.apache.kafka.common.Node;
import org.apache.kafka.common.TopicCollection;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.Uuid;
import org.apache.kafka.common.errors.InvalidConfigurationException;
import org.apache.kafka.common.errors.InvalidPartitionsException;
import org.apache.kafka.common.errors.InvalidReplicaAssignmentException;
import org.apache.kafka.common.errors.InvalidReplicationFactorException;
import org.apache.kafka.common.errors.InvalidTopicException;
import org.apache.kafka.common.errors.OffsetOutOfRangeException;
import org.apache.kafka.common.errors.TopicExistsException;
import org.apache.kafka.common.errors.UnknownTopicIdException;
import org.apache.kafka.common.errors.UnknownTopicOrPartitionException;

/** Admin: topics, partitions, records, offsets. */
final class Topics {
    private static final Admin ADMIN = Clients.ADMIN;

    private Topics() {}

    private static TopicDescription describe(String topic) throws Exception {
        return ADMIN.describeTopics(List.of(topic)).allTopicNames().get().get(topic);
    }

    /** All brokers, as a list of replicas. */
    private static List<Integer> everywhere() throws Exception {
        return ADMIN.describeCluster().nodes().get().stream().map(Node::id).toList();
    }

    public static void createDescribeAndDelete() throws Exception {
        String topic = Clients.unique("life");
        CreateTopicsResult made = ADMIN.createTopics(
                List.of(new NewTopic(topic, Optional.of(3), Optional.empty()).configs(Map.of("retention.ms", "5000"))));
        made.all().get();
        Suite.equal(3, made.numPartitions(topic).get());
        Suite.equal((int) Suite.REPLICAS, made.replicationFactor(topic).get());
        Suite.equal("5000", made.config(topic).get().get("retention.ms").value());
        Clients.waitForPartitions(topic, 3);
        TopicDescription found = describe(topic);
        Suite.equal(made.topicId(topic).get(), found.topicId());
        Suite.equal(false, found.isInternal());
        Suite.check(found.partitions().stream().allMatch(p -> p.isr().contains(p.leader())), found);
        Suite.check(found.partitions().stream().allMatch(p -> p.replicas().size() == Suite.REPLICAS), found);
        Suite.equal(topic, ADMIN.listTopics().namesToListings().get().get(topic).name());
        ADMIN.deleteTopics(List.of(topic)).all().get();
        Suite.waitFor("the deletion", () -> !ADMIN.listTopics().names().get().contains(topic));
        Suite.fails(UnknownTopicOrPartitionException.class, () -> describe(topic));
    }

    public static void describeAndDeleteById() throws Exception {
        String topic = Clients.topic("by-id", 2);
        Uuid id = describe(topic).topicId();
        TopicCollection ids = TopicCollection.ofTopicIds(List.of(id));
        Suite.equal(topic, ADMIN.describeTopics(ids).allTopicIds().get().get(id).name());
        ADMIN.deleteTopics(ids).all().get();
        Suite.waitFor("the deletion", () -> !ADMIN.listTopics().names().get().contains(topic));
        Suite.fails(UnknownTopicIdException.class, () -> ADMIN.deleteTopics(ids).all().get());
        Suite.fails(UnknownTopicIdException.class, () -> ADMIN.describeTopics(ids).allTopicIds().get());
    }

    public static void aRecreatedTopicHasANewId() throws Exception {
        String topic = Clients.topic("again", 1);
        Uuid id = describe(topic).topicId();
        ADMIN.deleteTopics(List.of(topic)).all().get();
        Suite.waitFor("the deletion", () -> !ADMIN.listTopics().names().get().contains(topic));
        ADMIN.createTopics(List.of(new NewTopic(topic, 1, Suite.REPLICAS))).all().get();
        Clients.waitForPartitions(topic, 1);
        Suite.check(!id.equals(describe(topic).topicId()), "a new id");
    }

    public static void createWithAssignment() throws Exception {
        String topic = Clients.unique("assigned");
        List<Integer> replicas = everywhere();
        ADMIN.createTopics(List.of(new NewTopic(topic, Map.of(0, replicas, 1, replicas)))).all().get();
        Clients.waitForPartitions(topic, 2);
        Suite.check(describe(topic).partitions().stream()
                .allMatch(p -> p.replicas().stream().map(Node::id).toList().equals(replicas)), replicas);
        Suite.fails(InvalidReplicaAssignmentException.class,
                () -> ADMIN.createTopics(List.of(new NewTopic(topic + "x", Map.of(0, List.of(12345))))).all().get());
        Suite.fails(InvalidReplicaAssignmentException.class,
                () -> ADMIN.createTopics(List.of(new NewTopic(topic + "x", Map.of(1, replicas)))).all().get());
    }

    public static void validateOnly() throws Exception {
        String topic = Clients.unique("validate");
        ADMIN.createTopics(List.of(new NewTopic(topic, 1, Suite.REPLICAS)), new CreateTopicsOptions().validateOnly(true)).all().get();
        Suite.check(!ADMIN.listTopics().names().get().contains(topic), "nothing was made");
    }

    private static <E extends Exception> void refused(Class<E> error, NewTopic topic) {
        Suite.fails(error, () -> ADMIN.createTopics(List.of(topic)).all().get());
    }

    public static void createErrors() throws Exception {
        String name = Clients.unique("bad");
        refused(InvalidTopicException.class, new NewTopic("no such name!", 1, Suite.REPLICAS));
        refused(InvalidTopicException.class, new NewTopic("x".repeat(250), 1, Suite.REPLICAS));
        refused(InvalidPartitionsException.class, new NewTopic(name, 0, Suite.REPLICAS));
        refused(InvalidReplicationFactorException.class, new NewTopic(name, 1, (short) 9));
        refused(InvalidReplicationFactorException.class, new NewTopic(name, 1, (short) 0));
        refused(InvalidConfigurationException.class, new NewTopic(name, 1, Suite.REPLICAS).configs(Map.of("no.such", "1")));
        refused(TopicExistsException.class, new NewTopic(Clients.topic("exists", 1), 1, Suite.REPLICAS));
        Suite.fails(UnknownTopicOrPartitionException.class, () -> ADMIN.deleteTopics(List.of(name)).all().get());
    }

    public static void createPartitions() throws Exception {
        String topic = Clients.topic("grow", 2);
        ADMIN.createPartitions(Map.of(topic, NewPartitions.increaseTo(4))).all().get();
        Clients.waitForPartitions(topic, 4);
        ADMIN.createPartitions(Map.of(topic, NewPartitions.increaseTo(5, List.of(everywhere())))).all().get();
        Clients.waitForPartitions(topic, 5);
        Suite.fails(InvalidPartitionsException.class,
                () -> ADMIN.createPartitions(Map.of(topic, NewPartitions.increaseTo(5))).all().get());
        Suite.fails(InvalidPartitionsException.class,
                () -> ADMIN.createPartitions(Map.of(topic, NewPartitions.increaseTo(1))).all().get());
        List<Integer> strangers = everywhere().stream().map(node -> node + 999).toList();
        Suite.fails(InvalidReplicaAssignmentException.class,
                () -> ADMIN.createPartitions(Map.of(topic, NewPartitions.increaseTo(6, List.of(strangers)))).all().get());
        Suite.fails(UnknownTopicOrPartitionException.class,
                () -> ADMIN.createPartitions(Map.of(topic + "x", NewPartitions.increaseTo(5))).all().get());
    }

    public static void describeManyPartitions() throws Exception {
        String topic = Clients.topic("many", 300);
        Suite.equal(300, describe(topic).partitions().size());
        Suite.equal(299, describe(topic).partitions().get(299).partition());
    }

    private static ListOffsetsResultInfo offset(String topic, OffsetSpec spec) throws ExecutionException, InterruptedException {
        TopicPartition partition = new TopicPartition(topic, 0);
        return ADMIN.listOffsets(Map.of(partition, spec)).partitionResult(partition).get();
    }

    public static void listOffsets() throws Exception {
        String topic = Clients.topic("offsets", 1);
        Suite.equal(-1L, offset(topic, maxTimestamp()).offset());
        for (long stamp : new long[] {3000, 9000, 5000}) {
            Clients.sendAt(topic, stamp);
        }
        Suite.equal(0L, offset(topic, earliest()).offset());
        Suite.equal(3L, offset(topic, latest()).offset());
        Suite.equal(1L, offset(topic, maxTimestamp()).offset());
        Suite.equal(9000L, offset(topic, maxTimestamp()).timestamp());
        Suite.equal(1L, offset(topic, forTimestamp(4000)).offset());
        Suite.equal(9000L, offset(topic, forTimestamp(4000)).timestamp());
        Suite.equal(-1L, offset(topic, forTimestamp(9001)).offset());
        Suite.equal(0L, offset(topic, OffsetSpec.earliestLocal()).offset());
        TopicPartition partition = new TopicPartition(topic, 0);
        ListOffsetsOptions committed = new ListOffsetsOptions(IsolationLevel.READ_COMMITTED);
        Suite.equal(3L, ADMIN.listOffsets(Map.of(partition, latest()), committed).partitionResult(partition).get().offset());
    }

    public static void deleteRecords() throws Exception {
        String topic = Clients.topic("delete-records", 1);
        Clients.fill(topic, 0, 10);
        TopicPartition partition = new TopicPartition(topic, 0);
        Suite.equal(6L, delete(partition, 6));
        Suite.equal(6L, offset(topic, earliest()).offset());
        Suite.equal(6L, delete(partition, 3)); // already gone
        Suite.equal(10L, delete(partition, -1));
        Suite.fails(OffsetOutOfRangeException.class, () -> delete(partition, 11));
    }

    private static long delete(TopicPartition partition, long offset) throws Exception {
        return ADMIN.deleteRecords(Map.of(partition, RecordsToDelete.beforeOffset(offset))).lowWatermarks().get(partition).get()
                .lowWatermark();
    }
}
