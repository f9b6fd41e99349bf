import time

import pytest
from confluent_kafka import TIMESTAMP_CREATE_TIME, TIMESTAMP_LOG_APPEND_TIME, Consumer, KafkaError, KafkaException
from conftest import BOOTSTRAP, BROKERS, CODECS, assert_one_producer, compressible, stored_codecs, wait_for, wire

from .conftest import fill, poll_until, read, send, send_one

COUNT = 30


@pytest.mark.parametrize("acks", [0, 1, "all"])
@pytest.mark.parametrize("codec", CODECS)
def test_codec_and_acks(codec, acks, make_topic, producer, consumer):
    topic = make_topic()
    messages = [{"key": f"k{i}", "value": compressible(i), "headers": [("n", str(i).encode())]} for i in range(COUNT)]
    reports = send(producer(compression_codec=codec, acks=acks), topic, messages, partition=0)
    assert not reports.errors
    if acks != 0:
        assert [m.offset() for m in reports.acked] == list(range(COUNT))
    found = read(consumer(), topic, COUNT)
    assert [(m.offset(), m.key(), m.value(), m.headers()) for m in found] == [
        (i, f"k{i}".encode(), compressible(i), [("n", str(i).encode())]) for i in range(COUNT)
    ]
    assert stored_codecs(topic, 1) == {codec}


@pytest.mark.parametrize("codec", CODECS)
def test_idempotent(codec, make_topic, producer, consumer):
    topic = make_topic()
    sender = producer(compression_codec=codec, enable_idempotence=True, batch_num_messages=7)
    reports = send(sender, topic, [{"value": compressible(i)} for i in range(200)], partition=0)
    assert [m.offset() for m in reports.acked] == list(range(200))
    assert [m.value() for m in read(consumer(), topic, 200)] == [compressible(i) for i in range(200)]
    assert_one_producer(topic, 0, 200)
    assert stored_codecs(topic, 1) == {codec}


def test_ten_thousand_in_order(make_topic, producer, consumer):
    topic = make_topic(6)
    messages = [{"key": str(i % 97), "value": str(i)} for i in range(10_000)]
    reports = send(producer(enable_idempotence=True, compression_codec="lz4"), topic, messages)
    assert len(reports.acked) == 10_000
    reader = consumer()
    reader.subscribe([topic])
    by_key = {}
    for message in poll_until(reader, 10_000, 40):
        by_key.setdefault(message.key(), []).append(int(message.value()))
    assert sorted(n for values in by_key.values() for n in values) == list(range(10_000))
    assert all(values == sorted(values) for values in by_key.values())


def test_null_and_empty_differ(make_topic, producer, consumer):
    topic = make_topic()
    sent = [(None, None), (b"", b""), (None, b"v"), (b"k", None)]
    send(producer(), topic, [{"key": k, "value": v} for k, v in sent], partition=0)
    assert [(m.key(), m.value()) for m in read(consumer(), topic, 4)] == sent


def test_headers_keep_order_repeats_and_nulls(make_topic, producer, consumer):
    topic = make_topic()
    headers = [("b", b"1"), ("a", None), ("b", b""), ("ä", "ü".encode())]
    send_one(producer(), topic, value=b"v", headers=headers)
    assert read(consumer(), topic, 1)[0].headers() == headers


def test_create_time(make_topic, producer, consumer):
    topic = make_topic()
    stamps = [1_500_000_000_000, 1_400_000_000_000, 1_600_000_000_000]
    send(producer(), topic, [{"value": b"v", "timestamp": stamp} for stamp in stamps], partition=0)
    found = [m.timestamp() for m in read(consumer(), topic, 3)]
    assert found == [(TIMESTAMP_CREATE_TIME, stamp) for stamp in stamps]


def test_log_append_time(make_topic, producer, consumer):
    topic = make_topic(message_timestamp_type="LogAppendTime")
    before = int(time.time() * 1000)
    send_one(producer(), topic, value=b"v", timestamp=1_500_000_000_000)
    kind, stamp = read(consumer(), topic, 1)[0].timestamp()
    assert kind == TIMESTAMP_LOG_APPEND_TIME
    assert before <= stamp <= int(time.time() * 1000)


def test_large_message(make_topic, producer, consumer):
    topic = make_topic()
    value = bytes(range(256)) * 3900  # just under a megabyte, the default limit of both
    assert send_one(producer(), topic, value=value).offset() == 0
    assert read(consumer(), topic, 1)[0].value() == value


@pytest.mark.parametrize("limit", [10_000, 2_000_000])
def test_topic_limits_the_message_size(limit, make_topic, producer):
    topic = make_topic(max_message_bytes=limit)
    sender = producer(message_max_bytes=5_000_000)
    assert send_one(sender, topic, value=b"x" * (limit + 1)).code() == KafkaError.MSG_SIZE_TOO_LARGE
    assert send_one(sender, topic, value=b"x" * (limit - 200)).offset() == 0


def test_compacted_topic_refuses_a_null_key(make_topic, producer):
    topic = make_topic(cleanup_policy="compact")
    assert send_one(producer(), topic, value=b"v").code() == KafkaError.INVALID_RECORD
    assert send_one(producer(), topic, key=b"k", value=b"v").offset() == 0


def test_timestamp_too_far_ahead_is_refused(make_topic, producer):
    topic = make_topic(**{"message_timestamp_after_max_ms": 1000})
    tomorrow = int(time.time() * 1000) + 86_400_000
    assert send_one(producer(), topic, value=b"v", timestamp=tomorrow).code() == KafkaError.INVALID_TIMESTAMP


def test_unknown_partition(make_topic, producer):
    topic = make_topic(2)
    sender = producer()
    fill(sender, topic, 1)  # learns of the topic
    with pytest.raises(KafkaException) as raised:
        sender.produce(topic, value=b"v", partition=7)
    assert raised.value.args[0].code() == KafkaError._UNKNOWN_PARTITION


def test_invalid_topic_name(producer):
    sender, topic = producer(), "no such name!"
    try:
        code = send_one(sender, topic, value=b"v").code()
    except KafkaException:  # librdkafka had the broker's answer before it took the message
        code = sender.list_topics(topic, 10).topics[topic].error.code()
    assert code == KafkaError.TOPIC_EXCEPTION


def test_auto_create(admin, name, producer):
    sender = producer()
    report = send_one(sender, name, key=b"k", value=b"v")
    assert report.offset() == 0
    topic = admin.list_topics(name, 10).topics[name]
    assert len(topic.partitions) == 2  # num.partitions of the broker under test


def test_reading_an_unknown_topic_neither_creates_it_nor_hangs(admin, name, consumer):
    reader = consumer()
    reader.subscribe([name])

    def error():
        message = reader.poll(0.2)
        return message and message.error()

    assert wait_for(error, "an error").code() == KafkaError.UNKNOWN_TOPIC_OR_PART
    assert name not in admin.list_topics(timeout=10).topics


def test_a_consumer_may_auto_create(admin, name, consumer):
    reader = consumer(allow_auto_create_topics=True)

    def created():
        reader.list_topics(name, 10)  # a metadata request that permits creation
        return name in admin.list_topics(timeout=10).topics

    wait_for(created, "the topic")


def test_min_insync_replicas_counts_no_more_than_the_replicas(make_topic, producer):
    """A partition with one replica acknowledges acks=all although two in-sync replicas are asked for."""
    topic = make_topic(replicas=1, min_insync_replicas=2)
    assert send_one(producer(acks="all"), topic, value=b"v").offset() == 0


def test_library_hears_of_every_broker_from_the_bootstrap_address():
    reader = Consumer({"bootstrap.servers": BOOTSTRAP, "group.id": "x"})
    found = reader.list_topics(timeout=10).brokers.values()
    reader.close()
    assert sorted(f"{broker.host}:{broker.port}" for broker in found) == BROKERS
    assert all(wire.API_FETCH in wire.api_versions(address) for address in BROKERS)
