"""Compacted topics: what two clients read once the broker has compacted."""

import kafka
import pytest
from conftest import BOOTSTRAP, CODECS, compressible, wait_for
from confluent_kafka import TopicPartition

from .conftest import poll_until, send, send_one

# Kafka, too, compacts what is older than segment.ms, once something newer is there.
EAGER = {"cleanup_policy": "compact", "segment_ms": 100, "min_cleanable_dirty_ratio": 0.01}
pytestmark = pytest.mark.timeout(120)


def read_all(consumer, topic):
    """Every record up to the end, as (offset, key, value)."""
    partition = TopicPartition(topic, 0)
    low, high = consumer.get_watermark_offsets(partition, 10)
    consumer.assign([TopicPartition(topic, 0, low)])
    found = []

    def at_end():
        found.extend(consumer.consume(1000, 0.1))
        assert all(m.error() is None for m in found)
        return low == high or (found and found[-1].offset() == high - 1)

    wait_for(at_end, f"offset {high - 1}")
    return [(m.offset(), m.key(), m.value()) for m in found]


def read_with_kafka_python(topic):
    partition = kafka.TopicPartition(topic, 0)
    reader = kafka.KafkaConsumer(bootstrap_servers=BOOTSTRAP, enable_auto_commit=False)
    try:
        reader.assign([partition])
        reader.seek_to_beginning(partition)
        end = reader.end_offsets([partition])[partition]
        found = []

        def at_end():
            for records in reader.poll(100).values():
                found.extend(records)
            return reader.position(partition) >= end

        wait_for(at_end, f"offset {end - 1}")
        return [(m.offset, m.key, m.value) for m in found]
    finally:
        reader.close()


@pytest.mark.parametrize("codec", CODECS)
def test_one_value_per_key_is_left(codec, make_topic, producer, consumer):
    topic = make_topic(**EAGER)
    sender = producer(compression_type=codec)
    expected, offset = {}, 0
    for turn in range(20):
        messages = [{"key": f"k{i}".encode(), "value": compressible(turn * 100 + i)} for i in range(turn % 7 + 1)]
        for message in send(sender, topic, messages, partition=0).acked:
            expected[message.key()] = (message.offset(), message.key(), message.value())
            offset = message.offset()
    reader = consumer()

    def compacted():
        last = send_one(sender, topic, key=b"last", value=b"x", partition=0)
        expected[b"last"] = (last.offset(), b"last", b"x")
        read = read_all(reader, topic)
        keys = [key for _, key, _ in read]
        # What was sent last may not be compacted yet.
        return len(keys) - keys.count(b"last") == len(expected) - 1 and read

    read = wait_for(compacted, "one value per key", 60)
    assert offset > 70
    wanted = sorted(expected.values())
    assert [r for r in read if r[1] != b"last"] == wanted[:-1]
    assert read[-1] == wanted[-1]
    again = [r for r in read_with_kafka_python(topic) if r[1] != b"last"]
    assert again == wanted[:-1]


def test_tombstones_are_kept_for_their_time_and_then_go(make_topic, producer, consumer):
    kept = make_topic(**EAGER, delete_retention_ms=3_600_000)
    gone = make_topic(**EAGER, delete_retention_ms=1)
    sender, reader = producer(), consumer()
    for topic in (kept, gone):
        for value in (b"1", b"2", None):
            assert send_one(sender, topic, key=b"a", value=value, partition=0).offset() >= 0
            assert send_one(sender, topic, key=b"b", value=b"x", partition=0).offset() >= 0

    def values(topic, key):
        send_one(sender, topic, key=b"last", value=b"x", partition=0)
        return [value for _, k, value in read_all(reader, topic) if k == key]

    wait_for(lambda: values(gone, b"a") == [], "the tombstone to go", 60)
    wait_for(lambda: values(kept, b"a") == [None], "the values to go", 60)
    assert values(gone, b"b") == values(kept, b"b") == [b"x"]


def test_offsets_stay_and_a_search_by_time_skips_what_is_gone(make_topic, producer, consumer):
    topic = make_topic(**EAGER)
    sender, reader = producer(), consumer()
    for i in range(10):
        send_one(sender, topic, key=b"k", value=str(i), partition=0, timestamp=1_000_000 + i)
    send_one(sender, topic, key=b"other", value=b"x", partition=0, timestamp=2_000_000)

    def compacted():
        send_one(sender, topic, key=b"last", value=b"x", partition=0)
        return [offset for offset, key, _ in read_all(reader, topic) if key == b"k"] == [9]

    wait_for(compacted, "compaction", 60)
    for offset, first in [(0, 9), (5, 9), (9, 9), (10, 10)]:
        reader.assign([TopicPartition(topic, 0, offset)])
        assert poll_until(reader, 1)[0].offset() == first

    def by_time(timestamp):
        return reader.offsets_for_times([TopicPartition(topic, 0, timestamp)], 10)[0].offset

    assert (by_time(1_000_003), by_time(1_000_009), by_time(1_000_010)) == (9, 9, 10)
