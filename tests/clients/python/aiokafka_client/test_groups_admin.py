import asyncio

import pytest
from aiokafka import TopicPartition, errors
from aiokafka.admin import NewPartitions, NewTopic, RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from aiokafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor
from aiokafka.structs import OffsetAndMetadata
from conftest import BROKERS, REPLICAS, killable_member

from .conftest import check, eventually, fill, poll_until, wait_for_partitions


async def settle(consumers, expected):
    async def settled():
        shares = [{p.partition for p in consumer.assignment()} for consumer in consumers]
        return sorted(map(len, shares)) == sorted(expected) and len(set().union(*shares)) == sum(expected) and shares

    return await eventually(settled, f"shares of {expected}", 30)


@pytest.mark.parametrize("assignor", [RangePartitionAssignor, RoundRobinPartitionAssignor, StickyPartitionAssignor])
async def test_join_share_and_leave(assignor, make_topic, consumer):
    topic = await make_topic(4)
    first = await consumer(topic, partition_assignment_strategy=[assignor])
    await settle([first], [4])
    second = await consumer(topic, partition_assignment_strategy=[assignor])
    await settle([first, second], [2, 2])
    await second.stop()
    await settle([first], [4])


async def test_a_killed_member_is_replaced(make_topic, name, consumer):
    topic = await make_topic(2)
    with killable_member(name, topic) as other:  # another client library, so only range is common
        member = await consumer(topic, partition_assignment_strategy=[RangePartitionAssignor])
        await settle([member], [1])
        other.kill()
        await settle([member], [2])


async def test_static_member(make_topic, consumer):
    topic = await make_topic(2)
    config = {"session_timeout_ms": 20_000}
    one = await consumer(topic, group_instance_id="one", **config)
    two = await consumer(topic, group_instance_id="two", **config)
    before = await settle([one, two], [1, 1])
    generation = one._coordinator.generation
    await two.stop()
    back = await consumer(topic, group_instance_id="two", **config)
    assert await settle([one, back], [1, 1]) == before
    assert one._coordinator.generation == generation


async def test_commit_with_metadata(make_topic, consumer, admin, name):
    where = TopicPartition(await make_topic(), 0)
    reader = await consumer()
    reader.assign([where])
    assert await reader.committed(where) is None
    await reader.commit({where: (3, "note ü")})
    assert await reader.committed(where) == 3
    assert (await admin.list_consumer_group_offsets(name))[where] == OffsetAndMetadata(3, "note ü")
    with pytest.raises(errors.OffsetMetadataTooLargeError):
        await reader.commit({where: (3, "m" * 5000)})


async def test_resume_from_commit(make_topic, producer, consumer):
    topic = await make_topic()
    await fill(await producer(), topic, 10)
    first = await consumer(topic)
    await poll_until(first, 4)
    await first.commit({TopicPartition(topic, 0): 4})
    await first.stop()
    assert (await poll_until(await consumer(topic), 1))[0].offset == 4


@pytest.mark.control
@pytest.mark.parametrize("how", ["restart", "crash"])
async def test_broker_restart(how, broker, make_topic, producer, consumer):
    topic = await make_topic()
    sender = await producer(enable_idempotence=True)
    await fill(sender, topic, 10)
    reader = await consumer(topic, session_timeout_ms=45_000)
    await poll_until(reader, 10)
    await reader.commit({TopicPartition(topic, 0): 8})
    await asyncio.to_thread(getattr(broker, how))
    sent = await fill(sender, topic, 5)
    assert [r.offset for r in sent] == [10, 11, 12, 13, 14]
    assert [r.offset for r in await poll_until(reader, 5, 40)] == [10, 11, 12, 13, 14]

    async def committed():
        return await reader.committed(TopicPartition(topic, 0))

    assert await eventually(committed, "the commit") == 8


async def test_create_describe_delete(admin, name):
    check(await admin.create_topics([NewTopic(name, 3, REPLICAS)]))
    await wait_for_partitions(admin, name, 3)
    assert name in await admin.list_topics()
    response = await admin.delete_topics([name])
    assert response.topic_error_codes == [(name, 0)]

    async def gone():
        return name not in await admin.list_topics()

    await eventually(gone, "the deletion")


@pytest.mark.parametrize(
    "topic, error",
    [
        (NewTopic("?", 1, REPLICAS), errors.InvalidTopicError),
        (NewTopic("aiokafka-zero", 0, REPLICAS), errors.InvalidPartitionsError),
        (NewTopic("aiokafka-nine", 1, 9), errors.InvalidReplicationFactorError),
        (NewTopic("aiokafka-conf", 1, REPLICAS, topic_configs={"no.such": "1"}), errors.InvalidConfigurationError),
    ],
)
async def test_invalid_topics(topic, error, admin):
    with pytest.raises(error):
        check(await admin.create_topics([topic]))


async def test_topic_errors(admin, make_topic, name):
    topic = await make_topic()
    with pytest.raises(errors.TopicAlreadyExistsError):
        check(await admin.create_topics([NewTopic(topic, 1, REPLICAS)]))
    response = await admin.delete_topics([name])
    assert response.topic_error_codes == [(name, errors.UnknownTopicOrPartitionError.errno)]


async def test_create_partitions(admin, make_topic):
    topic = await make_topic(2)
    check(await admin.create_partitions({topic: NewPartitions(4)}))
    await wait_for_partitions(admin, topic, 4)
    with pytest.raises(errors.InvalidPartitionsError):
        check(await admin.create_partitions({topic: NewPartitions(3)}))


async def test_configs(admin, make_topic):
    topic = await make_topic(retention_ms=5000)

    async def retention():
        (response,) = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)])
        ((_, _, _, _, entries),) = response.resources
        return {entry[0]: entry[1] for entry in entries}["retention.ms"]

    assert await retention() == "5000"
    await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, configs={"retention.ms": "6000"})])

    async def changed():
        return await retention() == "6000"

    await eventually(changed, "the change")


async def test_delete_records(admin, make_topic, producer, consumer):
    where = TopicPartition(await make_topic(), 0)
    await fill(await producer(), where.topic, 10)
    assert await admin.delete_records({where: RecordsToDelete(6)}) == {where: 6}
    assert await (await consumer()).beginning_offsets([where]) == {where: 6}
    with pytest.raises(errors.OffsetOutOfRangeError):
        await admin.delete_records({where: RecordsToDelete(11)})


async def test_groups(admin, make_topic, name, producer, consumer):
    topic = await make_topic()
    await fill(await producer(), topic, 1)
    await poll_until(await consumer(topic), 1)
    assert (name, "consumer") in [tuple(group)[:2] for group in await admin.list_consumer_groups()]
    (response,) = await admin.describe_consumer_groups([name])
    (group,) = response.groups
    assert group[1:5] == (name, "Stable", "consumer", "roundrobin")
    assert len(group[5]) == 1


async def test_cluster(admin):
    found = await admin.describe_cluster()
    assert sorted(f"{broker['host']}:{broker['port']}" for broker in found["brokers"]) == BROKERS
    assert found["controller_id"] in [broker["node_id"] for broker in found["brokers"]]
    assert found["cluster_id"]
