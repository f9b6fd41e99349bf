from concurrent.futures import ThreadPoolExecutor

import pytest
from conftest import killable_member, wait_for
from kafka import OffsetAndMetadata, TopicPartition, errors
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.coordinator.assignors.range import RangePartitionAssignor

from .conftest import fill, poll_until


def settle(consumers, expected):
    """Polls all at once, as members do. In turns, short polls may keep kafka-python joining: a join that a poll
    has started ends between polls, and the next poll starts another."""

    def settled():
        with ThreadPoolExecutor(len(consumers)) as pool:
            list(pool.map(lambda consumer: consumer.poll(timeout_ms=500), consumers))
        shares = [{p.partition for p in consumer.assignment()} for consumer in consumers]
        return sorted(map(len, shares)) == sorted(expected) and len(set().union(*shares)) == sum(expected) and shares

    return wait_for(settled, f"shares of {expected}", 30)


@pytest.mark.parametrize("assignor", [RangePartitionAssignor, CooperativeStickyAssignor])
def test_join_share_and_leave(assignor, make_topic, consumer):
    topic = make_topic(4)
    first = consumer(topic, partition_assignment_strategy=[assignor])
    settle([first], [4])
    second = consumer(topic, partition_assignment_strategy=[assignor])
    settle([first, second], [2, 2])
    second.close()
    settle([first], [4])


def test_a_killed_member_is_replaced(make_topic, name, consumer):
    topic = make_topic(2)
    with killable_member(name, topic) as other:
        member = consumer(topic)  # of another client library than the other member
        settle([member], [1])
        other.kill()
        settle([member], [2])


def test_static_member(make_topic, consumer):
    topic = make_topic(2)
    config = {"session_timeout_ms": 20_000}
    one, two = (consumer(topic, group_instance_id=i, **config) for i in ("one", "two"))
    before = settle([one, two], [1, 1])
    generation = one.group_metadata().generation_id
    two.close()
    back = consumer(topic, group_instance_id="two", **config)
    assert settle([one, back], [1, 1]) == before
    assert one.group_metadata().generation_id == generation


def test_commit_with_metadata(make_topic, consumer):
    topic = make_topic()
    where = TopicPartition(topic, 0)
    reader = consumer()
    assert reader.committed(where) is None
    reader.commit({where: OffsetAndMetadata(3, "note ü", -1)})
    found = reader.committed(where, metadata=True)
    assert (found.offset, found.metadata) == (3, "note ü")


def test_commit_metadata_too_large(make_topic, consumer):
    where = TopicPartition(make_topic(), 0)
    with pytest.raises(errors.OffsetMetadataTooLargeError):
        consumer().commit({where: OffsetAndMetadata(3, "m" * 5000, -1)})


def test_resume_from_commit(make_topic, producer, consumer):
    topic = make_topic()
    fill(producer(), topic, 10)
    first = consumer(topic)
    poll_until(first, 4)
    first.commit({TopicPartition(topic, 0): OffsetAndMetadata(4, "", -1)})
    first.close()
    assert poll_until(consumer(topic), 1)[0].offset == 4


@pytest.mark.control
@pytest.mark.parametrize("how", ["restart", "crash"])
def test_broker_restart(how, broker, make_topic, producer, consumer):
    topic = make_topic()
    sender = producer(enable_idempotence=True)
    fill(sender, topic, 10)
    reader = consumer(topic, session_timeout_ms=45_000)
    poll_until(reader, 10)
    reader.commit({TopicPartition(topic, 0): OffsetAndMetadata(8, "kept", -1)})
    getattr(broker, how)()
    fill(sender, topic, 5)
    assert [r.offset for r in poll_until(reader, 5, 40)] == [10, 11, 12, 13, 14]
    found = reader.committed(TopicPartition(topic, 0), metadata=True)
    assert (found.offset, found.metadata) == (8, "kept")
