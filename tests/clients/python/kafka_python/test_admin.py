import pytest
from conftest import BROKERS, REPLICAS, wait_for
from kafka import TopicPartition, errors
from kafka.admin import ConfigResource, ConfigResourceType, NewPartitions, NewTopic, OffsetSpec
from kafka.structs import OffsetAndMetadata

from .conftest import fill, poll_until


def described(admin, topic, key):
    resource = ConfigResource(ConfigResourceType.TOPIC, topic)
    return admin.describe_configs([resource], include_synonyms=True, config_filter="all")["topic"][topic][key]


def test_create_describe_delete(admin, name):
    admin.create_topics({name: {"num_partitions": 3, "replication_factor": REPLICAS}}, wait_for_metadata=True)
    (found,) = admin.describe_topics([name])
    assert [p["partition_index"] for p in sorted(found["partitions"], key=lambda p: p["partition_index"])] == [0, 1, 2]
    assert all(p["error_code"] == 0 and p["leader_id"] >= 0 for p in found["partitions"])
    assert name in admin.list_topics()
    admin.delete_topics([name])
    wait_for(lambda: name not in admin.list_topics(), "the deletion")


@pytest.mark.parametrize(
    "spec, error",
    [
        ({"num_partitions": 0, "replication_factor": REPLICAS}, errors.InvalidPartitionsError),
        ({"num_partitions": 1, "replication_factor": 9}, errors.InvalidReplicationFactorError),
        ({"num_partitions": 1, "replication_factor": REPLICAS, "configs": {"no.such": "1"}}, errors.InvalidConfigurationError),
    ],
)
def test_invalid_topics(spec, error, admin, name):
    with pytest.raises(error):
        admin.create_topics({name: spec})


def test_topic_errors(admin, make_topic, name):
    with pytest.raises(errors.TopicAlreadyExistsError):
        admin.create_topics([NewTopic(make_topic(), 1, REPLICAS)])
    with pytest.raises(errors.InvalidTopicError):
        admin.create_topics([NewTopic("no such name!", 1, REPLICAS)])
    with pytest.raises(errors.UnknownTopicOrPartitionError):
        admin.delete_topics([name])


def test_create_partitions(admin, make_topic):
    topic = make_topic(2)
    admin.create_partitions({topic: NewPartitions(4)})
    wait_for(lambda: len(admin.describe_topics([topic])[0]["partitions"]) == 4, "four partitions")
    with pytest.raises(errors.InvalidPartitionsError):
        admin.create_partitions({topic: NewPartitions(3)})


def test_configs(admin, make_topic):
    topic = make_topic(retention_ms=5000)
    found = described(admin, topic, "retention.ms")
    assert (found["value"], found["config_source"], found["read_only"]) == ("5000", "DYNAMIC_TOPIC_CONFIG", False)
    admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, configs={"retention.ms": "6000"})])
    wait_for(lambda: described(admin, topic, "retention.ms")["value"] == "6000", "the change")
    admin.reset_configs([ConfigResource(ConfigResourceType.TOPIC, topic, configs=["retention.ms"])])
    wait_for(lambda: described(admin, topic, "retention.ms")["config_source"] == "DEFAULT_CONFIG", "the default")


def test_delete_records_and_list_offsets(admin, make_topic, producer):
    topic = make_topic(message_timestamp_after_max_ms=10**13)
    where = TopicPartition(topic, 0)
    fill(producer(), topic, 10)
    producer().send(topic, b"v", partition=0, timestamp_ms=1_900_000_000_000).get(20)
    assert admin.list_partition_offsets({where: OffsetSpec.MAX_TIMESTAMP})[where].offset == 10
    assert admin.delete_records({where: 6})[where]["low_watermark"] == 6
    assert admin.list_partition_offsets({where: OffsetSpec.EARLIEST})[where].offset == 6
    assert admin.list_partition_offsets({where: OffsetSpec.LATEST})[where].offset == 11
    with pytest.raises(errors.OffsetOutOfRangeError):
        admin.delete_records({where: 12})


def test_groups(admin, make_topic, name, producer, consumer):
    topic = make_topic()
    where = TopicPartition(topic, 0)
    fill(producer(), topic, 3)
    member = consumer(topic)
    poll_until(member, 3)
    assert name in [g["group_id"] for g in admin.list_groups()]
    group = admin.describe_groups([name])[name]
    (found,) = group["members"]
    assert (group["group_state"], group["protocol_type"]) == ("Stable", "consumer")
    assert found["member_metadata"]["topics"] == [topic]
    assert admin.delete_groups([name]) == {name: "NonEmptyGroupError"}
    member.close()
    admin.alter_group_offsets(name, {where: OffsetAndMetadata(2, "by hand", -1)})
    assert admin.list_group_offsets(name)[name][where].offset == 2
    admin.delete_group_offsets(name, [where])
    assert where not in admin.list_group_offsets(name)[name]
    admin.delete_groups([name])
    assert name not in [g["group_id"] for g in admin.list_groups()]


def test_cluster(admin):
    found = admin.describe_cluster()
    assert sorted(f"{broker['host']}:{broker['port']}" for broker in found["brokers"]) == BROKERS
    ids = {broker.get("broker_id", broker.get("node_id")) for broker in found["brokers"]}
    assert found["controller_id"] in ids
    assert {directories["broker"] for directories in admin.describe_log_dirs()} == ids
