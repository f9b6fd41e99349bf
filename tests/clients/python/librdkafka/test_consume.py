import time

import pytest
from confluent_kafka import OFFSET_BEGINNING, OFFSET_END, KafkaError, TopicPartition
from confluent_kafka.admin import NewTopic
from conftest import REPLICAS, wait_for

from .conftest import fill, nothing_more, poll_until, read, send


def values(messages):
    return [int(m.value()) for m in messages]


def test_from_beginning_offset_and_end(make_topic, producer, consumer):
    topic = make_topic()
    sender = producer()
    fill(sender, topic, 10)
    assert values(read(consumer(), topic, 10, offset=OFFSET_BEGINNING)) == list(range(10))
    assert values(read(consumer(), topic, 3, offset=7)) == [7, 8, 9]
    at_end = consumer(enable_partition_eof=True)
    at_end.assign([TopicPartition(topic, 0, OFFSET_END)])
    first = wait_for(lambda: at_end.poll(0.2), "the end of the partition")
    assert (first.error().code(), first.offset()) == (KafkaError._PARTITION_EOF, 10)
    fill(sender, topic, 1)
    assert poll_until(at_end, 1)[0].offset() == 10


def test_an_offset_inside_a_batch(make_topic, producer, consumer):
    topic = make_topic()
    fill(producer(linger_ms=200, compression_codec="lz4"), topic, 100)
    for offset in (1, 50, 99):
        assert read(consumer(), topic, 1, offset=offset)[0].offset() == offset


@pytest.mark.parametrize("reset, first", [("earliest", 0), ("latest", None), ("error", None)])
def test_out_of_range_resets(reset, first, make_topic, producer, consumer):
    topic = make_topic()
    sender = producer()
    fill(sender, topic, 5)
    reader = consumer(auto_offset_reset=reset, enable_partition_eof=reset == "latest")
    reader.assign([TopicPartition(topic, 0, 1000)])
    if reset == "earliest":
        assert poll_until(reader, 1)[0].offset() == first
    elif reset == "latest":
        end = wait_for(lambda: reader.poll(0.2), "the end of the partition")
        assert (end.error().code(), end.offset()) == (KafkaError._PARTITION_EOF, 5)
    else:
        error = wait_for(lambda: reader.poll(0.2), "an error").error()
        assert error.code() == KafkaError._AUTO_OFFSET_RESET


def test_the_log_end_offset_is_not_out_of_range(make_topic, producer, consumer):
    topic = make_topic()
    sender = producer()
    fill(sender, topic, 5)
    reader = consumer(auto_offset_reset="error")
    reader.assign([TopicPartition(topic, 0, 5)])
    nothing_more(reader)
    fill(sender, topic, 1)
    assert poll_until(reader, 1)[0].offset() == 5


def test_offsets_for_times(make_topic, producer, consumer):
    topic = make_topic()
    stamps = [1000, 2000, 3000, 3000, 5000]
    for stamp in stamps:
        send(producer(), topic, [{"value": b"v", "timestamp": stamp}], partition=0)
    reader = consumer()

    def at(stamp):
        (found,) = reader.offsets_for_times([TopicPartition(topic, 0, stamp)], 10)
        return found.offset

    assert [at(stamp) for stamp in (1, 1000, 1001, 3000, 3001, 5000)] == [0, 0, 1, 2, 4, 4]
    assert at(5001) == OFFSET_END


def test_a_timestamp_inside_one_batch(make_topic, producer, consumer):
    topic = make_topic()
    messages = [{"value": b"v", "timestamp": 1000 + i} for i in range(50)]
    send(producer(linger_ms=100, compression_codec="gzip"), topic, messages, partition=0)
    (found,) = consumer().offsets_for_times([TopicPartition(topic, 0, 1033)], 10)
    assert found.offset == 33


def test_watermarks(make_topic, producer, consumer):
    topic = make_topic()
    reader = consumer()
    assert reader.get_watermark_offsets(TopicPartition(topic, 0), 10) == (0, 0)
    fill(producer(), topic, 4)
    assert reader.get_watermark_offsets(TopicPartition(topic, 0), 10) == (0, 4)


def test_a_message_above_max_bytes_is_still_returned(make_topic, producer, consumer):
    topic = make_topic()
    send(producer(linger_ms=0), topic, [{"value": bytes(50_000)} for _ in range(5)], partition=0)
    reader = consumer(fetch_max_bytes=1000, message_max_bytes=1000, fetch_message_max_bytes=1000)
    assert [len(m.value()) for m in read(reader, topic, 5)] == [50_000] * 5


def test_max_bytes_bounds_an_answer(make_topic, producer, consumer):
    """With room for one batch per answer, twenty partitions all make progress."""
    topic = make_topic(20)
    sender = producer(linger_ms=0)
    for partition in range(20):
        send(sender, topic, [{"value": bytes(5000)} for _ in range(4)], partition=partition)
    reader = consumer(fetch_max_bytes=6000, message_max_bytes=6000)
    reader.assign([TopicPartition(topic, p, 0) for p in range(20)])
    found = poll_until(reader, 80)
    assert {m.partition() for m in found} == set(range(20))


def test_pause_and_resume(make_topic, producer, consumer):
    topic = make_topic(2)
    sender = producer()
    reader = consumer()
    both = [TopicPartition(topic, p, 0) for p in (0, 1)]
    reader.assign(both)
    fill(sender, topic, 1, partition=0)
    fill(sender, topic, 1, partition=1)
    assert {m.partition() for m in poll_until(reader, 2)} == {0, 1}
    reader.pause(both[:1])
    fill(sender, topic, 3, partition=0)
    fill(sender, topic, 3, partition=1)
    assert {m.partition() for m in poll_until(reader, 3)} == {1}
    nothing_more(reader)
    reader.resume(both[:1])
    assert [m.offset() for m in poll_until(reader, 3)] == [1, 2, 3]


def test_seek(make_topic, producer, consumer):
    topic = make_topic()
    fill(producer(), topic, 10)
    reader = consumer()
    read(reader, topic, 10)
    reader.seek(TopicPartition(topic, 0, 4))
    assert poll_until(reader, 1)[0].offset() == 4
    (position,) = reader.position([TopicPartition(topic, 0)])
    assert position.offset == 5


@pytest.mark.parametrize("level", ["read_committed", "read_uncommitted"])
def test_isolation_levels_see_all_that_is_not_transactional(level, make_topic, producer, consumer):
    topic = make_topic()
    fill(producer(enable_idempotence=True), topic, 20)
    reader = consumer(isolation_level=level)
    assert values(read(reader, topic, 20)) == list(range(20))
    assert reader.get_watermark_offsets(TopicPartition(topic, 0), 10) == (0, 20)


def test_partition_end_is_reported(make_topic, producer, consumer):
    topic = make_topic()
    fill(producer(), topic, 3)
    reader = consumer(enable_partition_eof=True)
    reader.assign([TopicPartition(topic, 0, 0)])
    seen = [wait_for(lambda: reader.poll(0.2), "a message or the end") for _ in range(4)]
    assert [m.error() and m.error().code() for m in seen] == [None, None, None, KafkaError._PARTITION_EOF]
    assert seen[3].offset() == 3


def test_a_waiting_fetch_is_woken_by_a_record(make_topic, producer, consumer):
    topic = make_topic()
    reader = consumer(fetch_wait_max_ms=20_000)
    reader.assign([TopicPartition(topic, 0, 0)])
    nothing_more(reader, 1.0)  # the fetch now waits in the broker
    sent = time.monotonic()
    fill(producer(linger_ms=0), topic, 1)
    poll_until(reader, 1)
    assert time.monotonic() - sent < 5


def test_min_bytes_waits_no_longer_than_max_wait(make_topic, producer, consumer):
    topic = make_topic()
    fill(producer(), topic, 1)
    reader = consumer(fetch_min_bytes=1_000_000, fetch_wait_max_ms=1000)
    began = time.monotonic()
    read(reader, topic, 1)
    assert 0.8 < time.monotonic() - began < 8


def test_a_deleted_and_recreated_topic_starts_anew(admin, make_topic, producer, consumer):
    topic = make_topic()
    fill(producer(), topic, 5)
    admin.delete_topics([topic])[topic].result(20)
    wait_for(lambda: topic not in admin.list_topics(timeout=10).topics, "the deletion")
    admin.create_topics([NewTopic(topic, 1, REPLICAS)])[topic].result(20)
    fill(producer(), topic, 2)
    reader = consumer()
    assert values(read(reader, topic, 2)) == [0, 1]
    nothing_more(reader)
