"""The broker stops, or dies, under clients that are at work; they go on without being told."""

import threading

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition
from conftest import wait_for

from .conftest import Deliveries, fill, poll_until

pytestmark = pytest.mark.control
BOTH = pytest.mark.parametrize("how", ["restart", "crash"])


@BOTH
def test_consumer_goes_on_and_commits_are_kept(how, broker, make_topic, producer, consumer):
    topic = make_topic()
    sender = producer()
    fill(sender, topic, 10)
    reader = consumer(session_timeout_ms=45_000)
    reader.subscribe([topic])
    messages = poll_until(reader, 10)
    reader.commit(messages[6], asynchronous=False)
    getattr(broker, how)()
    fill(sender, topic, 5)
    assert [m.offset() for m in poll_until(reader, 5, 40)] == [10, 11, 12, 13, 14]
    other = consumer()

    def committed():
        return other.committed([TopicPartition(topic, 0)], 10)[0].offset

    assert wait_for(committed, "the commit") == 7
    reader.commit(messages[6], asynchronous=False)  # it has its coordinator back: without, close() would not tell it
    reader.close()
    other.subscribe([topic])
    assert poll_until(other, 1, 30)[0].offset() == 7


@BOTH
@pytest.mark.timeout(120)
def test_an_idempotent_producer_loses_and_repeats_nothing(how, broker, make_topic, producer, consumer):
    topic = make_topic()
    sender = producer(enable_idempotence=True, message_timeout_ms=100_000, linger_ms=1)
    reports = Deliveries()
    stop = threading.Event()
    sent = 0

    def load():
        nonlocal sent
        while not stop.is_set():
            sender.produce(topic, value=str(sent), partition=0, on_delivery=reports)
            sent += 1
            sender.poll(0.001)

    worker = threading.Thread(target=load)
    worker.start()
    try:
        wait_for(lambda: len(reports.acked) > 200, "first acknowledgements")
        getattr(broker, how)()
        acked = len(reports.acked)
        wait_for(lambda: len(reports.acked) > acked + 200, "acknowledgements after the broker came back", 60)
    finally:
        stop.set()
        worker.join()
    assert sender.flush(60) == 0
    assert not reports.errors
    reader = consumer()
    reader.assign([TopicPartition(topic, 0, 0)])
    assert [int(m.value()) for m in poll_until(reader, sent, 60)] == list(range(sent))
    assert [m.offset() for m in reports.acked] == list(range(sent))


@BOTH
def test_topics_configs_and_groups_are_kept(how, broker, admin, make_topic, name, consumer):
    topic = make_topic(3, retention_ms=123456)
    reader = consumer()
    reader.commit(offsets=[TopicPartition(topic, 2, 0, "kept")], asynchronous=False)
    cluster = admin.list_topics(timeout=10).cluster_id
    getattr(broker, how)()
    found = admin.list_topics(timeout=20)
    assert found.cluster_id == cluster
    assert len(found.topics[topic].partitions) == 3

    def listed():  # by whoever is its coordinator now, once it has been loaded
        return name in [g.group_id for g in admin.list_consumer_groups().result(20).valid]

    wait_for(listed, "the group")

    def committed():
        try:
            return reader.committed([TopicPartition(topic, 2)], 20)[0]
        except KafkaException as error:  # it asked its former coordinator, and looks for the new one
            assert error.args[0].code() == KafkaError.NOT_COORDINATOR
            return None

    commit = wait_for(committed, "the commit")
    assert (commit.offset, commit.metadata) == (0, "kept")
