import pytest
from conftest import CODECS, assert_one_producer, compressible, stored_codecs, wait_for
from kafka import TopicPartition, errors

from .conftest import fill, read

COUNT = 20


@pytest.mark.parametrize("acks", [0, 1, "all"])
@pytest.mark.parametrize("codec", CODECS)
def test_codec_and_acks(codec, acks, make_topic, producer, consumer):
    topic = make_topic()
    sender = producer(compression_type=None if codec == "none" else codec, acks=acks, enable_idempotence=False, linger_ms=5)
    headers = [("h", b"1"), ("h", b"")]
    futures = [sender.send(topic, compressible(i), b"k", headers, 0) for i in range(COUNT)]
    sender.flush(20)
    if acks != 0:
        assert [f.get(20).offset for f in futures] == list(range(COUNT))
    found = read(consumer(), topic, COUNT)
    assert [(r.offset, r.key, r.value, list(map(tuple, r.headers))) for r in found] == [
        (i, b"k", compressible(i), headers) for i in range(COUNT)
    ]
    assert stored_codecs(topic, 1) == {codec}


def test_idempotent(make_topic, producer, consumer):
    topic = make_topic()
    found = fill(producer(enable_idempotence=True, batch_size=500, linger_ms=2), topic, 300)
    assert [r.offset for r in found] == list(range(300))
    assert_one_producer(topic, 0, 300)
    assert [int(r.value) for r in read(consumer(), topic, 300)] == list(range(300))


def test_null_and_empty_differ(make_topic, producer, consumer):
    topic = make_topic()
    sent = [(b"", b""), (None, b"v"), (b"k", None)]
    sender = producer()
    for key, value in sent:
        sender.send(topic, value, key, partition=0).get(20)
    assert [(r.key, r.value) for r in read(consumer(), topic, 3)] == sent


def test_timestamps(make_topic, producer, consumer):
    created, appended = make_topic(), make_topic(message_timestamp_type="LogAppendTime")
    sender = producer()
    assert sender.send(created, b"v", partition=0, timestamp_ms=1234).get(20).timestamp == 1234
    assert sender.send(appended, b"v", partition=0, timestamp_ms=1234).get(20).timestamp > 1_700_000_000_000
    (record,) = read(consumer(), created, 1)
    assert (record.timestamp, record.timestamp_type) == (1234, 0)
    (record,) = read(consumer(), appended, 1)
    assert (record.timestamp > 1_700_000_000_000, record.timestamp_type) == (True, 1)


def test_message_too_large(make_topic, producer):
    topic = make_topic(max_message_bytes=10_000)
    sender = producer(enable_idempotence=False)  # an idempotent one of kafka-python takes the refusal as fatal
    with pytest.raises(errors.MessageSizeTooLargeError):
        sender.send(topic, bytes(20_000), partition=0).get(20)
    assert sender.send(topic, bytes(9_000), partition=0).get(20).offset == 0


def test_compacted_topic_refuses_a_null_key(make_topic, producer):
    topic = make_topic(cleanup_policy="compact")
    with pytest.raises(errors.InvalidRecordError):
        producer().send(topic, b"v", partition=0).get(20)


def test_auto_create(admin, name, producer):
    assert producer().send(name, b"v", b"k").get(20).offset == 0
    assert len(admin.describe_topics([name])[0]["partitions"]) == 2


def test_partitions_of_an_unknown_topic(name, consumer, admin):
    reader = consumer(group_id=None)
    assert not reader.partitions_for_topic(name)
    assert name not in admin.list_topics()


def test_round_trip_over_partitions(make_topic, producer, consumer):
    topic = make_topic(5)
    sender = producer(compression_type="zstd", linger_ms=5)
    for i in range(2000):
        sender.send(topic, str(i).encode(), str(i % 50).encode())
    sender.flush(30)
    reader = consumer(group_id=None)
    partitions = [TopicPartition(topic, p) for p in range(5)]
    reader.assign(partitions)
    seen = []

    def all_seen():
        for batch in reader.poll(timeout_ms=100).values():
            seen.extend(int(r.value) for r in batch)
        return len(seen) >= 2000

    wait_for(all_seen, "2000 records")
    assert sorted(seen) == list(range(2000))
    assert sum(reader.end_offsets(partitions).values()) == 2000
