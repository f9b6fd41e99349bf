import pytest
from confluent_kafka import (
    ConsumerGroupState,
    ConsumerGroupTopicPartitions,
    IsolationLevel,
    KafkaError,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import (
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ConfigSource,
    NewPartitions,
    NewTopic,
    OffsetSpec,
    ResourceType,
)
from conftest import BROKERS, REPLICAS, wait_for

from .conftest import code_of, fill, poll_until, read, send, wait_for_partitions


def topic_resource(topic, *changes):
    entries = [ConfigEntry(key, value, incremental_operation=operation) for key, value, operation in changes]
    return ConfigResource(ResourceType.TOPIC, topic, incremental_configs=entries)


def configs(admin, kind, name):
    resource = ConfigResource(kind, name)
    return admin.describe_configs([resource])[resource].result(20)


def alter(admin, topic, *changes, **options):
    resource = topic_resource(topic, *changes)
    return admin.incremental_alter_configs([resource], **options)[resource]


def test_create_describe_delete_topic(admin, name):
    admin.create_topics([NewTopic(name, 3, REPLICAS)])[name].result(20)
    wait_for_partitions(admin, name, 3)

    def described():
        return admin.describe_topics(TopicCollection([name]))[name].result(20)

    # The leader of a new group of replicas says a moment later who is in sync.
    wait_for(lambda: all(len(p.isr) == REPLICAS for p in described().partitions), "full in-sync replicas")
    found = described()
    assert [p.id for p in found.partitions] == [0, 1, 2]
    assert all(p.leader.id >= 0 and len(p.replicas) == REPLICAS for p in found.partitions)
    assert not found.is_internal
    assert str(found.topic_id) != "AAAAAAAAAAAAAAAAAAAAAA"
    admin.delete_topics([name])[name].result(20)
    wait_for(lambda: name not in admin.list_topics(timeout=10).topics, "the deletion")
    assert code_of(admin.describe_topics(TopicCollection([name]))[name]) == KafkaError.UNKNOWN_TOPIC_OR_PART


def test_defaults_of_the_broker_apply(admin, name):
    admin.create_topics([NewTopic(name)])[name].result(20)
    wait_for_partitions(admin, name, 2)  # num.partitions of the broker under test
    made = admin.list_topics(name, 10).topics[name]
    assert [len(p.replicas) for p in made.partitions.values()] == [REPLICAS] * 2  # and default.replication.factor


def test_validate_only_creates_nothing(admin, name):
    admin.create_topics([NewTopic(name, 1, REPLICAS)], validate_only=True)[name].result(20)
    assert name not in admin.list_topics(timeout=10).topics


@pytest.mark.parametrize(
    "arguments, code",
    [
        ({"num_partitions": 0, "replication_factor": 1}, KafkaError.INVALID_PARTITIONS),
        ({"num_partitions": 1, "replication_factor": 9}, KafkaError.INVALID_REPLICATION_FACTOR),
        ({"num_partitions": 1, "config": {"no.such.key": "1"}}, KafkaError.INVALID_CONFIG),
        ({"num_partitions": 1, "config": {"retention.ms": "soon"}}, KafkaError.INVALID_CONFIG),
        ({"num_partitions": 1, "config": {"cleanup.policy": "burn"}}, KafkaError.INVALID_CONFIG),
    ],
)
def test_invalid_topics_are_refused(arguments, code, admin, name):
    assert code_of(admin.create_topics([NewTopic(name, **arguments)])[name]) == code
    assert name not in admin.list_topics(timeout=10).topics


@pytest.mark.parametrize("bad", ["", ".", "..", "has space", "slash/", "x" * 250])
def test_invalid_names_are_refused(bad, admin):
    assert code_of(admin.create_topics([NewTopic(bad or " ", 1, REPLICAS)])[bad or " "]) == KafkaError.TOPIC_EXCEPTION


def test_a_topic_cannot_be_made_twice(admin, make_topic):
    topic = make_topic()
    assert code_of(admin.create_topics([NewTopic(topic, 1, REPLICAS)])[topic]) == KafkaError.TOPIC_ALREADY_EXISTS


def test_names_that_collide_as_metrics_are_refused(admin, name):
    admin.create_topics([NewTopic(name + "_x", 1, REPLICAS)])[name + "_x"].result(20)
    assert code_of(admin.create_topics([NewTopic(name + ".x", 1, REPLICAS)])[name + ".x"]) == KafkaError.TOPIC_EXCEPTION


def test_each_topic_of_a_request_has_its_own_result(admin, name):
    futures = admin.create_topics([NewTopic(name, 1, REPLICAS), NewTopic("bad name", 1, REPLICAS)])
    futures[name].result(20)
    assert code_of(futures["bad name"]) == KafkaError.TOPIC_EXCEPTION


def test_delete_unknown_topic(admin, name):
    assert code_of(admin.delete_topics([name])[name]) == KafkaError.UNKNOWN_TOPIC_OR_PART


def test_partitions_grow_and_never_shrink(admin, make_topic, producer):
    topic = make_topic(2)
    admin.create_partitions([NewPartitions(topic, 5)])[topic].result(20)
    wait_for_partitions(admin, topic, 5)
    fill(producer(), topic, 1, partition=4)
    for count in (5, 3):
        assert code_of(admin.create_partitions([NewPartitions(topic, count)])[topic]) == KafkaError.INVALID_PARTITIONS


def test_partitions_of_an_unknown_topic(admin, name):
    assert code_of(admin.create_partitions([NewPartitions(name, 5)])[name]) == KafkaError.UNKNOWN_TOPIC_OR_PART


def test_topic_configs(admin, make_topic):
    topic = make_topic(retention_ms=5000)
    found = configs(admin, ResourceType.TOPIC, topic)
    assert found["retention.ms"].value == "5000"
    assert found["retention.ms"].source == ConfigSource.DYNAMIC_TOPIC_CONFIG.value
    assert [s.value for s in found["retention.ms"].synonyms.values()][0] == "5000"
    assert found["cleanup.policy"].value == "delete"
    assert found["cleanup.policy"].source == ConfigSource.DEFAULT_CONFIG.value
    assert found["cleanup.policy"].is_default
    assert not found["retention.ms"].is_read_only and not found["retention.ms"].is_sensitive
    expected = "compression.type max.message.bytes min.insync.replicas segment.bytes message.timestamp.type"
    assert set(expected.split()) <= set(found)


def test_broker_configs(admin):
    brokers = admin.list_topics(timeout=10).brokers
    assert len(brokers) == len(BROKERS)
    for node, broker in brokers.items():
        found = configs(admin, ResourceType.BROKER, str(node))
        assert f"{broker.host}:{broker.port}" in found["listeners"].value
        assert found["listeners"].source == ConfigSource.STATIC_BROKER_CONFIG.value
        assert found["num.partitions"].value == "2"
        assert found["message.max.bytes"].value == "1048588"


def test_alter_topic_configs(admin, make_topic, producer, consumer):
    topic = make_topic()
    alter(admin, topic, ("max.message.bytes", "1000", AlterConfigOpType.SET)).result(20)
    wait_for(lambda: configs(admin, ResourceType.TOPIC, topic)["max.message.bytes"].value == "1000", "the change")
    reports = send(producer(), topic, [{"value": bytes(2000)}])
    assert [e.code() for e in reports.errors] == [KafkaError.MSG_SIZE_TOO_LARGE]
    alter(admin, topic, ("max.message.bytes", None, AlterConfigOpType.DELETE)).result(20)
    wait_for(lambda: configs(admin, ResourceType.TOPIC, topic)["max.message.bytes"].is_default, "the default")
    fill(producer(), topic, 1)


def test_append_and_subtract(admin, make_topic):
    topic = make_topic()
    policy = "cleanup.policy"

    def now(expected):
        found = configs(admin, ResourceType.TOPIC, topic)[policy].value
        return set(found.split(",")) == expected

    alter(admin, topic, (policy, "compact", AlterConfigOpType.APPEND)).result(20)
    wait_for(lambda: now({"delete", "compact"}), "both policies")
    alter(admin, topic, (policy, "delete", AlterConfigOpType.SUBTRACT)).result(20)
    wait_for(lambda: now({"compact"}), "one policy")


def test_validate_only_alters_nothing(admin, make_topic):
    topic = make_topic()
    alter(admin, topic, ("retention.ms", "7", AlterConfigOpType.SET), validate_only=True).result(20)
    assert configs(admin, ResourceType.TOPIC, topic)["retention.ms"].value == "604800000"


def test_invalid_alterations(admin, make_topic, name):
    topic = make_topic()
    bad_value = alter(admin, topic, ("retention.ms", "x", AlterConfigOpType.SET))
    assert code_of(bad_value) == KafkaError.INVALID_CONFIG
    bad_key = alter(admin, topic, ("no.such.key", "1", AlterConfigOpType.SET))
    assert code_of(bad_key) == KafkaError.INVALID_CONFIG
    unknown = alter(admin, name, ("retention.ms", "1", AlterConfigOpType.SET))
    assert code_of(unknown) == KafkaError.UNKNOWN_TOPIC_OR_PART


def test_delete_records(admin, make_topic, producer, consumer):
    topic = make_topic()
    fill(producer(), topic, 10)
    partition = TopicPartition(topic, 0, 4)
    assert admin.delete_records([partition])[partition].result(20).low_watermark == 4
    reader = consumer()
    assert reader.get_watermark_offsets(TopicPartition(topic, 0), 10) == (4, 10)
    assert read(reader, topic, 1, offset=0)[0].offset() == 4  # reset to the earliest
    everything = TopicPartition(topic, 0, -1)
    assert admin.delete_records([everything])[everything].result(20).low_watermark == 10
    too_far = TopicPartition(topic, 0, 11)
    assert code_of(admin.delete_records([too_far])[too_far]) == KafkaError.OFFSET_OUT_OF_RANGE


def test_list_offsets(admin, make_topic, producer):
    topic = make_topic()
    for value, stamp in enumerate((3000, 9000, 5000)):
        send(producer(), topic, [{"value": str(value), "timestamp": stamp}], partition=0)
    partition = TopicPartition(topic, 0)

    def offset(spec, **options):
        found = admin.list_offsets({partition: spec}, **options)[partition].result(20)
        return found.offset, found.timestamp

    assert offset(OffsetSpec.earliest())[0] == 0
    assert offset(OffsetSpec.latest())[0] == 3
    assert offset(OffsetSpec.max_timestamp()) == (1, 9000)
    assert offset(OffsetSpec.for_timestamp(4000)) == (1, 9000)
    assert offset(OffsetSpec.for_timestamp(9001))[0] == -1
    assert offset(OffsetSpec.latest(), isolation_level=IsolationLevel.READ_COMMITTED)[0] == 3


def test_list_and_describe_groups(admin, make_topic, name, producer, consumer):
    topic = make_topic()
    fill(producer(), topic, 1)
    member = consumer(client_id="the client")
    member.subscribe([topic])
    poll_until(member, 1)
    (listed,) = [g for g in admin.list_consumer_groups().result(20).valid if g.group_id == name]
    assert listed.state == ConsumerGroupState.STABLE
    assert not listed.is_simple_consumer_group
    group = admin.describe_consumer_groups([name])[name].result(20)
    assert (group.state, group.partition_assignor) == (ConsumerGroupState.STABLE, "range")
    assert f"{group.coordinator.host}:{group.coordinator.port}" in BROKERS
    (found,) = group.members
    assert found.client_id == "the client"
    assert found.host.strip("/") == "127.0.0.1"
    assert [(p.topic, p.partition) for p in found.assignment.topic_partitions] == [(topic, 0)]
    states = admin.list_consumer_groups(states={ConsumerGroupState.EMPTY}).result(20).valid
    assert name not in [g.group_id for g in states]


def test_describe_unknown_group(admin, name):
    group = admin.describe_consumer_groups([name])[name].result(20)
    assert (group.state, group.members) == (ConsumerGroupState.DEAD, [])


def test_group_offsets_and_deletion(admin, make_topic, name, consumer):
    topic = make_topic(2)
    member = consumer()
    member.subscribe([topic])

    def joined():
        member.poll(0.05)
        return member.assignment()

    wait_for(joined, "the assignment")
    member.commit(offsets=[TopicPartition(topic, 0, 5)], asynchronous=False)
    assert code_of(admin.delete_consumer_groups([name])[name]) == KafkaError.NON_EMPTY_GROUP
    member.close()
    change = ConsumerGroupTopicPartitions(name, [TopicPartition(topic, 0, 2), TopicPartition(topic, 1, 3)])
    admin.alter_consumer_group_offsets([change])[name].result(20)
    found = admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(name)])[name].result(20)
    assert sorted((p.partition, p.offset) for p in found.topic_partitions) == [(0, 2), (1, 3)]
    admin.delete_consumer_groups([name])[name].result(20)
    assert name not in [g.group_id for g in admin.list_consumer_groups().result(20).valid]
    assert code_of(admin.delete_consumer_groups([name])[name]) == KafkaError.GROUP_ID_NOT_FOUND


def test_describe_cluster(admin):
    cluster = admin.describe_cluster().result(20)
    assert cluster.cluster_id == admin.list_topics(timeout=10).cluster_id
    assert sorted(f"{n.host}:{n.port}" for n in cluster.nodes) == BROKERS
    assert cluster.controller.id in [n.id for n in cluster.nodes]
