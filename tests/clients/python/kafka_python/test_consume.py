import pytest
from conftest import wait_for
from kafka import TopicPartition, errors

from .conftest import fill, poll_until, read


def values(records):
    return [int(r.value) for r in records]


def test_beginning_end_and_offset(make_topic, producer, consumer):
    topic = make_topic()
    where = TopicPartition(topic, 0)
    sender = producer()
    fill(sender, topic, 10)
    reader = consumer()
    assert values(read(reader, topic, 3, offset=7)) == [7, 8, 9]
    reader.seek_to_beginning(where)
    assert values(poll_until(reader, 10)) == list(range(10))
    reader.seek_to_end(where)
    assert reader.position(where) == 10
    fill(sender, topic, 1)
    assert poll_until(reader, 1)[0].offset == 10
    assert (reader.beginning_offsets([where]), reader.end_offsets([where])) == ({where: 0}, {where: 11})


def test_offsets_for_times(make_topic, producer, consumer):
    topic = make_topic()
    where = TopicPartition(topic, 0)
    sender = producer()
    for stamp in (1000, 2000, 3000):
        sender.send(topic, b"v", partition=0, timestamp_ms=stamp).get(20)
    reader = consumer()
    found = reader.offsets_for_times({where: 1500})[where]
    assert (found.offset, found.timestamp) == (1, 2000)
    assert reader.offsets_for_times({where: 3001}) == {where: None}


@pytest.mark.parametrize("reset", ["earliest", "latest", "none"])
def test_out_of_range(reset, make_topic, producer, consumer):
    topic = make_topic()
    where = TopicPartition(topic, 0)
    sender = producer()
    fill(sender, topic, 5)
    reader = consumer(auto_offset_reset=reset)
    reader.assign([where])
    reader.seek(where, 1000)
    if reset == "earliest":
        assert poll_until(reader, 1)[0].offset == 0
    elif reset == "latest":

        def at_end():
            reader.poll(timeout_ms=100)
            return reader.position(where) == 5

        wait_for(at_end, "the end")
    else:
        with pytest.raises(errors.OffsetOutOfRangeError):
            poll_until(reader, 1)


def test_max_bytes(make_topic, producer, consumer):
    topic = make_topic()
    sender = producer(linger_ms=0)
    for _ in range(5):
        sender.send(topic, bytes(50_000), partition=0).get(20)
    reader = consumer(fetch_max_bytes=1000, max_partition_fetch_bytes=1000)
    assert [len(r.value) for r in read(reader, topic, 5)] == [50_000] * 5


def test_pause_and_resume(make_topic, producer, consumer):
    topic = make_topic(2)
    sender = producer()
    reader = consumer()
    both = [TopicPartition(topic, p) for p in (0, 1)]
    reader.assign(both)
    reader.seek_to_beginning(*both)
    reader.pause(both[0])
    fill(sender, topic, 2, partition=0)
    fill(sender, topic, 2, partition=1)
    assert {r.partition for r in poll_until(reader, 2)} == {1}
    assert reader.poll(timeout_ms=500) == {}
    reader.resume(both[0])
    assert {r.partition for r in poll_until(reader, 2)} == {0}


@pytest.mark.parametrize("sessions", [True, False])
def test_fetch_sessions(sessions, make_topic, producer, consumer):
    topic = make_topic(10)
    sender = producer()
    reader = consumer(enable_incremental_fetch_sessions=sessions, isolation_level="read_committed")
    everything = [TopicPartition(topic, p) for p in range(10)]
    reader.assign(everything)
    reader.seek_to_beginning(*everything)
    for turn in range(4):
        fill(sender, topic, 3, partition=turn)
        assert {(r.partition, r.offset) for r in poll_until(reader, 3)} == {(turn, o) for o in range(3)}
    reader.assign(everything[:2])  # the session forgets eight partitions
    reader.seek_to_beginning(*everything[:2])
    assert {r.partition for r in poll_until(reader, 6)} == {0, 1}
