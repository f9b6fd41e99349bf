import pytest
from aiokafka import TopicPartition, errors
from conftest import CODECS, assert_one_producer, compressible, stored_codecs

from .conftest import eventually, fill, poll_until, read

COUNT = 20


@pytest.mark.parametrize("acks", [0, 1, "all"])
@pytest.mark.parametrize("codec", CODECS)
async def test_codec_and_acks(codec, acks, make_topic, producer, consumer):
    topic = await make_topic()
    sender = await producer(compression_type=None if codec == "none" else codec, acks=acks, linger_ms=5)
    headers = [("h", b"1"), ("h", b"")]
    futures = [await sender.send(topic, compressible(i), b"k", 0, 1000 + i, headers) for i in range(COUNT)]
    await sender.flush()
    if acks != 0:
        assert [(await f).offset for f in futures] == list(range(COUNT))
    found = await read(await consumer(), topic, COUNT)
    assert [(r.offset, r.key, r.value, r.timestamp, list(r.headers)) for r in found] == [
        (i, b"k", compressible(i), 1000 + i, headers) for i in range(COUNT)
    ]
    assert stored_codecs(topic, 1) == {codec}


async def test_idempotent(make_topic, producer, consumer):
    topic = await make_topic()
    found = await fill(await producer(enable_idempotence=True, max_batch_size=500), topic, 300)
    assert [r.offset for r in found] == list(range(300))
    assert_one_producer(topic, 0, 300)


async def test_null_and_empty_differ(make_topic, producer, consumer):
    topic = await make_topic()
    sent = [(b"", b""), (None, b"v"), (b"k", None)]
    sender = await producer()
    for key, value in sent:
        await sender.send_and_wait(topic, value, key, 0)
    assert [(r.key, r.value) for r in await read(await consumer(), topic, 3)] == sent


async def test_log_append_time(make_topic, producer, consumer):
    topic = await make_topic(message_timestamp_type="LogAppendTime")
    sent = await (await producer()).send_and_wait(topic, b"v", partition=0, timestamp_ms=1234)
    (record,) = await read(await consumer(), topic, 1)
    assert sent.timestamp == record.timestamp > 1_700_000_000_000
    assert record.timestamp_type == 1


async def test_message_too_large(make_topic, producer):
    topic = await make_topic(max_message_bytes=10_000)
    sender = await producer()
    with pytest.raises(errors.MessageSizeTooLargeError):
        await sender.send_and_wait(topic, bytes(20_000), partition=0)
    assert (await sender.send_and_wait(topic, bytes(9_000), partition=0)).offset == 0


async def test_auto_create(admin, name, producer):
    assert (await (await producer()).send_and_wait(name, b"v", b"k")).offset == 0
    (found,) = await admin.describe_topics([name])
    assert len(found["partitions"]) == 2


async def test_invalid_topic_name(producer):
    with pytest.raises(errors.UnknownTopicOrPartitionError):  # how aiokafka reports any error in metadata
        await (await producer(request_timeout_ms=1500)).send_and_wait("no such name!", b"v")


async def test_beginning_end_and_offset(make_topic, producer, consumer):
    topic = await make_topic()
    where = TopicPartition(topic, 0)
    sender = await producer()
    await fill(sender, topic, 10)
    reader = await consumer()
    assert [r.offset for r in await read(reader, topic, 3, offset=7)] == [7, 8, 9]
    await reader.seek_to_beginning(where)
    assert len(await poll_until(reader, 10)) == 10
    await reader.seek_to_end(where)
    assert await reader.position(where) == 10
    await fill(sender, topic, 1)
    assert (await poll_until(reader, 1))[0].offset == 10
    assert await reader.beginning_offsets([where]) == {where: 0}
    assert await reader.end_offsets([where]) == {where: 11}


async def test_offsets_for_times(make_topic, producer, consumer):
    topic = await make_topic()
    where = TopicPartition(topic, 0)
    sender = await producer()
    for stamp in (1000, 2000, 3000):
        await sender.send_and_wait(topic, b"v", partition=0, timestamp_ms=stamp)
    reader = await consumer()
    found = (await reader.offsets_for_times({where: 1500}))[where]
    assert (found.offset, found.timestamp) == (1, 2000)
    assert await reader.offsets_for_times({where: 3001}) == {where: None}


@pytest.mark.parametrize("reset", ["earliest", "latest", "none"])
async def test_out_of_range(reset, make_topic, producer, consumer):
    topic = await make_topic()
    where = TopicPartition(topic, 0)
    await fill(await producer(), topic, 5)
    reader = await consumer(auto_offset_reset=reset)
    reader.assign([where])
    reader.seek(where, 1000)
    if reset == "earliest":
        assert (await poll_until(reader, 1))[0].offset == 0
    elif reset == "latest":

        async def at_end():
            await reader.getmany(timeout_ms=100)
            return await reader.position(where) == 5

        await eventually(at_end, "the end")
    else:
        with pytest.raises(errors.OffsetOutOfRangeError):
            await poll_until(reader, 1)


async def test_max_bytes(make_topic, producer, consumer):
    topic = await make_topic()
    sender = await producer()
    for _ in range(5):
        await sender.send_and_wait(topic, bytes(50_000), partition=0)
    reader = await consumer(fetch_max_bytes=1000, max_partition_fetch_bytes=1000)
    assert [len(r.value) for r in await read(reader, topic, 5)] == [50_000] * 5


async def test_pause_and_resume(make_topic, producer, consumer):
    topic = await make_topic(2)
    both = [TopicPartition(topic, p) for p in (0, 1)]
    sender, reader = await producer(), await consumer()
    reader.assign(both)
    await reader.seek_to_beginning(*both)
    reader.pause(both[0])
    await fill(sender, topic, 2, partition=0)
    await fill(sender, topic, 2, partition=1)
    assert {r.partition for r in await poll_until(reader, 2)} == {1}
    assert await reader.getmany(timeout_ms=500) == {}
    reader.resume(both[0])
    assert {r.partition for r in await poll_until(reader, 2)} == {0}


@pytest.mark.parametrize("level", ["read_committed", "read_uncommitted"])
async def test_isolation(level, make_topic, producer, consumer):
    topic = await make_topic()
    await fill(await producer(enable_idempotence=True), topic, 20)
    reader = await consumer(isolation_level=level)
    assert len(await read(reader, topic, 20)) == 20
    if level == "read_committed":
        assert reader.last_stable_offset(TopicPartition(topic, 0)) == 20
