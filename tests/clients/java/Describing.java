import java.util.Collection;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.stream.Collectors;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AlterConsumerGroupOffsetsResult;
import org.apache.kafka.clients.admin.ConsumerGroupDescription;
import org.apache.kafka.clients.admin.LogDirDescription;
import org.apache.kafka.clients.admin.MemberDescription;
import org.apache.kafka.clients.admin.MemberToRemove;
import org.apache.kafka.clients.admin.ProducerState;
import org.apache.kafka.clients.admin.RemoveMembersFromConsumerGroupOptions;
import org.apache.kafka.clients.admin.ReplicaInfo;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.common.GroupState;
import org.apache.kafka.common.Node;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.GroupIdNotFoundException;
import org.apache.kafka.common.errors.GroupNotEmptyException;
import org.apache.kafka.common.errors.GroupSubscribedToTopicException;
import org.apache.kafka.common.errors.UnknownMemberIdException;

/** Admin: groups, the cluster, log directories, producers. */
final class Describing {
    private static final Admin ADMIN = Clients.ADMIN;

    private Describing() {}

    private static Set<String> groups() throws Exception {
        return ADMIN.listGroups().all().get().stream().map(g -> g.groupId()).collect(Collectors.toSet());
    }

    public static void groupLife() throws Exception {
        String topic = Clients.topic("group", 2);
        TopicPartition zero = new TopicPartition(topic, 0);
        TopicPartition one = new TopicPartition(topic, 1);
        try (KafkaConsumer<String, String> consumer = Clients.consumer(topic, "client.id", "describer")) {
            consumer.subscribe(List.of(topic));
            Suite.waitFor("the assignment", () -> {
                consumer.poll(java.time.Duration.ofMillis(100));
                return consumer.assignment().size() == 2;
            });
            consumer.commitSync(Map.of(zero, new OffsetAndMetadata(5), one, new OffsetAndMetadata(6)));
            ConsumerGroupDescription group = ADMIN.describeConsumerGroups(List.of(topic)).all().get().get(topic);
            Suite.equal(GroupState.STABLE, group.groupState());
            Suite.equal("range", group.partitionAssignor());
            Suite.check(Suite.BROKERS.contains(address(group.coordinator())), group.coordinator());
            MemberDescription member = group.members().iterator().next();
            Suite.equal("describer", member.clientId());
            Suite.equal("/127.0.0.1", member.host());
            Suite.equal(Set.of(zero, one), member.assignment().topicPartitions());
            Suite.check(groups().contains(topic), "the group is listed");
            Suite.fails(GroupNotEmptyException.class, () -> ADMIN.deleteConsumerGroups(List.of(topic)).all().get());
            Suite.fails(GroupSubscribedToTopicException.class,
                    () -> ADMIN.deleteConsumerGroupOffsets(topic, Set.of(zero)).all().get());
            Suite.fails(UnknownMemberIdException.class, () -> setOffset(topic, zero, 1).all().get());
        }
        setOffset(topic, zero, 2).all().get();
        ADMIN.deleteConsumerGroupOffsets(topic, Set.of(one)).all().get();
        Map<TopicPartition, OffsetAndMetadata> left = ADMIN.listConsumerGroupOffsets(topic).partitionsToOffsetAndMetadata().get();
        Suite.equal(Map.of(zero, new OffsetAndMetadata(2)), left);
        ADMIN.deleteConsumerGroups(List.of(topic)).all().get();
        Suite.check(!groups().contains(topic), "the group is gone");
        Suite.fails(GroupIdNotFoundException.class, () -> ADMIN.deleteConsumerGroups(List.of(topic)).all().get());
    }

    private static AlterConsumerGroupOffsetsResult setOffset(String group, TopicPartition partition, long offset) {
        return ADMIN.alterConsumerGroupOffsets(group, Map.of(partition, new OffsetAndMetadata(offset)));
    }

    public static void groupThatDoesNotExist() throws Exception {
        String group = Clients.unique("nobody");
        Suite.fails(GroupIdNotFoundException.class, () -> ADMIN.describeConsumerGroups(List.of(group)).all().get());
        Suite.equal(Map.of(), ADMIN.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata().get());
    }

    public static void groupMadeByItsOffsetsAlone() throws Exception {
        String topic = Clients.topic("simple", 1);
        setOffset(topic, new TopicPartition(topic, 0), 3).all().get();
        ConsumerGroupDescription group = ADMIN.describeConsumerGroups(List.of(topic)).all().get().get(topic);
        Suite.equal(GroupState.EMPTY, group.groupState());
        Suite.equal(true, group.isSimpleConsumerGroup());
    }

    public static void removeAStaticMember() throws Exception {
        String topic = Clients.topic("remove", 1);
        try (Grouping.Member member = new Grouping.Member(topic, topic, "group.instance.id", "one")) {
            Suite.waitFor("the assignment", () -> member.owned.size() == 1);
            ADMIN.removeMembersFromConsumerGroup(topic, new RemoveMembersFromConsumerGroupOptions(Set.of(new MemberToRemove("one"))))
                    .all().get();
            Suite.waitFor("the member to notice", () -> member.error != null || member.rebalances > 1);
        }
        Suite.fails(UnknownMemberIdException.class, () -> ADMIN.removeMembersFromConsumerGroup(
                topic, new RemoveMembersFromConsumerGroupOptions(Set.of(new MemberToRemove("nobody")))).all().get());
    }

    public static void cluster() throws Exception {
        Collection<Node> nodes = ADMIN.describeCluster().nodes().get();
        Suite.equal(Suite.BROKERS.size(), nodes.size());
        Suite.equal(Suite.BROKERS, nodes.stream().map(Describing::address).collect(Collectors.toSet()));
        Node controller = ADMIN.describeCluster().controller().get();
        Suite.check(nodes.stream().anyMatch(node -> node.id() == controller.id()), controller);
        Suite.check(!ADMIN.describeCluster().clusterId().get().isEmpty(), "a cluster id");
    }

    public static void logDirs() throws Exception {
        String topic = Clients.topic("log-dirs", 1);
        Clients.fill(topic, 0, 100);
        for (Node node : ADMIN.describeCluster().nodes().get()) {
            Suite.waitFor("all records on node " + node, () -> {
                ReplicaInfo replica = directory(node).replicaInfos().get(new TopicPartition(topic, 0));
                return replica != null && replica.size() > 500 && replica.offsetLag() == 0;
            });
            LogDirDescription dir = directory(node);
            Suite.equal(null, dir.error());
            Suite.check(dir.totalBytes().getAsLong() >= dir.usableBytes().getAsLong(), dir);
            Suite.check(dir.usableBytes().getAsLong() > 0, dir);
            Suite.equal(false, dir.replicaInfos().get(new TopicPartition(topic, 0)).isFuture());
        }
    }

    private static LogDirDescription directory(Node node) throws Exception {
        Map<Integer, Map<String, LogDirDescription>> found = ADMIN.describeLogDirs(List.of(node.id())).allDescriptions().get();
        Suite.equal(1, found.get(node.id()).size());
        return found.get(node.id()).values().iterator().next();
    }

    private static String address(Node node) {
        return node.host() + ":" + node.port();
    }

    public static void producers() throws Exception {
        String topic = Clients.topic("producers", 1);
        TopicPartition partition = new TopicPartition(topic, 0);
        try (KafkaProducer<String, String> producer = Clients.producer()) {
            Clients.fill(producer, topic, 0, 5);
        }
        List<ProducerState> active = ADMIN.describeProducers(List.of(partition)).partitionResult(partition).get().activeProducers();
        Suite.equal(1, active.size());
        Suite.equal(4, active.get(0).lastSequence());
        Suite.equal(0, active.get(0).producerEpoch());
        Suite.check(active.get(0).currentTransactionStartOffset().isEmpty(), "no transaction");
    }
}
