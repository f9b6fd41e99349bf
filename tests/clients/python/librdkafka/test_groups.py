import pytest
from confluent_kafka import OFFSET_INVALID, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import NewPartitions
from conftest import killable_member, wait_for

from .conftest import fill, poll_until

COOPERATIVE = "cooperative-sticky"


class Member:
    """A consumer in a group, with its rebalances noted."""

    def __init__(self, make, topic, **config):
        self.assigned, self.revoked, self.lost = [], [], []
        self.consumer = make(**config)
        self.consumer.subscribe(
            [topic],
            on_assign=lambda _, p: self.assigned.append(numbers(p)),
            on_revoke=lambda _, p: self.revoked.append(numbers(p)),
            on_lost=lambda _, p: self.lost.append(numbers(p)),
        )

    def owns(self):
        self.consumer.poll(0.02)
        return numbers(self.consumer.assignment())


def numbers(partitions):
    return {p.partition for p in partitions}


def settle(members, expected):
    """Polls all members until the sizes of their shares are `expected`, and no partition is shared."""

    def settled():
        shares = [member.owns() for member in members]
        return sorted(map(len, shares)) == sorted(expected) and len(set().union(*shares)) == sum(expected) and shares

    return wait_for(settled, f"shares of {expected}", 30)


@pytest.mark.parametrize("assignor", ["range", "roundrobin", COOPERATIVE])
def test_join_share_and_leave(assignor, make_topic, consumer):
    topic = make_topic(4)
    config = {"partition_assignment_strategy": assignor}
    first = Member(consumer, topic, **config)
    settle([first], [4])
    second = Member(consumer, topic, **config)
    settle([first, second], [2, 2])
    second.consumer.unsubscribe()
    settle([first], [4])


def test_cooperative_members_keep_what_does_not_move(make_topic, consumer):
    topic = make_topic(4)
    first = Member(consumer, topic, partition_assignment_strategy=COOPERATIVE)
    settle([first], [4])
    second = Member(consumer, topic, partition_assignment_strategy=COOPERATIVE)
    settle([first, second], [2, 2])
    assert sum(map(len, first.revoked)) == 2
    assert not first.lost


def test_members_without_a_common_assignor(make_topic, consumer):
    topic = make_topic(2)
    first = Member(consumer, topic, partition_assignment_strategy="range")
    settle([first], [2])
    other = Member(consumer, topic, partition_assignment_strategy="roundrobin")

    def refused():
        first.owns()
        message = other.consumer.poll(0.02)
        return message and message.error() and message.error().code() == KafkaError.INCONSISTENT_GROUP_PROTOCOL

    wait_for(refused, "INCONSISTENT_GROUP_PROTOCOL")
    assert first.owns() == {0, 1}


def test_more_members_than_partitions(make_topic, consumer):
    topic = make_topic(1)
    members = [Member(consumer, topic) for _ in range(3)]
    settle(members, [0, 0, 1])


def test_a_killed_member_is_replaced_after_its_session_timeout(make_topic, name, consumer):
    topic = make_topic(2)
    with killable_member(name, topic) as other:
        member = Member(consumer, topic)
        settle([member], [1])
        other.kill()
        settle([member], [2])


def test_a_new_topic_partition_rebalances_the_group(admin, make_topic, consumer):
    topic = make_topic(1)
    member = Member(consumer, topic, topic_metadata_refresh_interval_ms=300)
    settle([member], [1])
    admin.create_partitions([NewPartitions(topic, 3)])[topic].result(20)
    settle([member], [3])


def test_subscribing_by_pattern(make_topic, name, consumer):
    topics = [make_topic(1), make_topic(1)]
    reader = consumer(topic_metadata_refresh_interval_ms=300)
    pattern = "^" + "".join(c if c.isalnum() else "[" + c + "]" for c in name) + ".*"
    reader.subscribe([pattern])

    def assigned():
        reader.poll(0.05)
        return sorted(p.topic for p in reader.assignment()) == topics

    wait_for(assigned, "both topics")


def test_static_member_comes_back_to_its_partitions(admin, make_topic, name, consumer):
    topic = make_topic(2)
    one = Member(consumer, topic, group_instance_id="one", session_timeout_ms=20_000)
    two = Member(consumer, topic, group_instance_id="two", session_timeout_ms=20_000)
    before = settle([one, two], [1, 1])
    two.consumer.close()  # a static member does not leave the group
    rebalances = len(one.assigned)
    back = Member(consumer, topic, group_instance_id="two", session_timeout_ms=20_000)
    after = settle([one, back], [1, 1])
    assert after == before
    assert len(one.assigned) == rebalances
    group = admin.describe_consumer_groups([name])[name].result(20)
    assert sorted(m.group_instance_id for m in group.members) == ["one", "two"]


def test_a_second_holder_of_an_instance_id_fences_the_first(make_topic, consumer):
    topic = make_topic(1)
    first = Member(consumer, topic, group_instance_id="same")
    settle([first], [1])
    second = Member(consumer, topic, group_instance_id="same")

    def fenced():
        second.owns()
        message = first.consumer.poll(0.05)
        return message and message.error()

    error = wait_for(fenced, "the first to be fenced")
    assert error.code() in (KafkaError.FENCED_INSTANCE_ID, KafkaError._FATAL)
    settle([second], [1])


def test_commits_with_metadata(make_topic, producer, consumer):
    topic = make_topic(2)
    fill(producer(), topic, 10)
    reader = consumer()
    commits = [TopicPartition(topic, 0, 7, "so far"), TopicPartition(topic, 1, 0, "ü" * 500)]
    reader.commit(offsets=commits, asynchronous=False)
    found = reader.committed([TopicPartition(topic, 0), TopicPartition(topic, 1)], 10)
    assert [(p.offset, p.metadata) for p in found] == [(7, "so far"), (0, "ü" * 500)]


def test_metadata_above_the_limit_is_refused(make_topic, consumer):
    topic = make_topic()
    with pytest.raises(KafkaException) as raised:
        consumer().commit(offsets=[TopicPartition(topic, 0, 1, "m" * 5000)], asynchronous=False)
    assert raised.value.args[0].code() == KafkaError.OFFSET_METADATA_TOO_LARGE


def test_nothing_is_committed_at_first(make_topic, consumer):
    topic = make_topic()
    (found,) = consumer().committed([TopicPartition(topic, 0)], 10)
    assert found.offset == OFFSET_INVALID
    assert found.error is None


def test_a_member_resumes_from_the_commit(make_topic, producer, consumer):
    topic = make_topic()
    fill(producer(), topic, 10)
    first = consumer()
    first.subscribe([topic])
    for message in poll_until(first, 10)[:4]:
        first.commit(message, asynchronous=False)
    first.close()
    second = consumer()
    second.subscribe([topic])
    assert poll_until(second, 1)[0].offset() == 4


def test_automatic_commit(make_topic, producer, consumer):
    topic = make_topic()
    fill(producer(), topic, 10)
    first = consumer(enable_auto_commit=True, auto_commit_interval_ms=100)
    first.subscribe([topic])
    poll_until(first, 10)

    def committed():
        first.poll(0.05)
        return first.committed([TopicPartition(topic, 0)], 10)[0].offset == 10

    wait_for(committed, "the automatic commit")


def test_only_members_commit_while_a_group_is_active(make_topic, consumer):
    topic = make_topic()
    member = Member(consumer, topic)
    settle([member], [1])
    outsider = consumer()
    with pytest.raises(KafkaException) as raised:
        outsider.commit(offsets=[TopicPartition(topic, 0, 1)], asynchronous=False)
    assert raised.value.args[0].code() == KafkaError.UNKNOWN_MEMBER_ID
