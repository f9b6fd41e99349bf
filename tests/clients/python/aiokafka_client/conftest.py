"""Fixtures and short forms for aiokafka."""

import asyncio
import time

import pytest
import pytest_asyncio
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import for_code
from conftest import BOOTSTRAP, REPLICAS


async def eventually(condition, what, timeout_s=20.0):
    """Awaits `condition()` until it returns something true, and returns that."""
    deadline = time.monotonic() + timeout_s
    while True:
        found = await condition()
        if found:
            return found
        assert time.monotonic() < deadline, f"waited {timeout_s} s for {what}"
        await asyncio.sleep(0.02)


@pytest_asyncio.fixture
async def admin():
    client = AIOKafkaAdminClient(bootstrap_servers=BOOTSTRAP)
    await client.start()
    yield client
    await client.close()


@pytest.fixture
def make_topic(admin, name):
    made = 0

    async def make(partitions=1, **config):
        nonlocal made
        made += 1
        topic = f"{name}.{made}"
        settings = {key.replace("_", "."): str(value) for key, value in config.items()}
        check(await admin.create_topics([NewTopic(topic, partitions, REPLICAS, topic_configs=settings)]))
        await wait_for_partitions(admin, topic, partitions)
        return topic

    return make


def check(response):
    """Raises the first error of a CreateTopics or CreatePartitions response, which aiokafka leaves to its user."""
    for error in response.topic_errors:
        if error[1]:
            raise for_code(error[1])(*error)


async def wait_for_partitions(admin, topic, count):
    async def there():
        (found,) = await admin.describe_topics([topic])
        return len(found["partitions"]) == count

    await eventually(there, f"{count} partitions")


@pytest_asyncio.fixture
async def producer():
    made = []

    async def make(**config):
        made.append(AIOKafkaProducer(bootstrap_servers=BOOTSTRAP, **config))
        await made[-1].start()
        return made[-1]

    yield make
    for p in made:
        await p.stop()


@pytest_asyncio.fixture
async def consumer(name):
    made = []

    async def make(*topics, **config):
        settings = {
            "bootstrap_servers": BOOTSTRAP,
            "group_id": name,
            "auto_offset_reset": "earliest",
            "enable_auto_commit": False,
            "heartbeat_interval_ms": 300,
            "session_timeout_ms": 6000,
        }
        made.append(AIOKafkaConsumer(*topics, **(settings | config)))
        await made[-1].start()
        return made[-1]

    yield make
    for c in made:
        await c.stop()


async def fill(producer, topic, count, partition=0):
    futures = [await producer.send(topic, str(i).encode(), partition=partition) for i in range(count)]
    return [await future for future in futures]


async def poll_until(consumer, count, timeout_s=20.0):
    records = []

    async def enough():
        for batch in (await consumer.getmany(timeout_ms=200, max_records=count - len(records))).values():
            records.extend(batch)
        return len(records) >= count

    await eventually(enough, f"{count} records", timeout_s)
    return records


async def read(consumer, topic, count, partition=0, offset=0):
    where = TopicPartition(topic, partition)
    consumer.assign([where])
    consumer.seek(where, offset)
    return await poll_until(consumer, count)
