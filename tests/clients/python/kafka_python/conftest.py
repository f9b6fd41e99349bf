"""Fixtures and short forms for kafka-python."""

import pytest
from conftest import BOOTSTRAP, REPLICAS, wait_for
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition


@pytest.fixture
def admin():
    with KafkaAdminClient(bootstrap_servers=BOOTSTRAP) as client:
        yield client


@pytest.fixture
def make_topic(admin, name):
    made = 0

    def make(partitions=1, **config):
        nonlocal made
        made += 1
        topic = f"{name}.{made}"
        settings = {key.replace("_", "."): str(value) for key, value in config.items()}
        spec = {"num_partitions": partitions, "replication_factor": REPLICAS, "configs": settings}
        admin.create_topics({topic: spec}, wait_for_metadata=True)
        return topic

    return make


@pytest.fixture
def producer():
    made = []

    def make(**config):
        made.append(KafkaProducer(bootstrap_servers=BOOTSTRAP, **config))
        return made[-1]

    yield make
    for p in made:
        p.close(timeout=10)


@pytest.fixture
def consumer(name):
    made = []

    def make(*topics, **config):
        settings = {
            "bootstrap_servers": BOOTSTRAP,
            "group_id": name,
            "auto_offset_reset": "earliest",
            "enable_auto_commit": False,
            "heartbeat_interval_ms": 300,
            "session_timeout_ms": 6000,
            "allow_auto_create_topics": False,
        }
        made.append(KafkaConsumer(*topics, **(settings | config)))
        for topic in topics:  # kafka-python may stall for good if it joins a group before it knows the topic
            wait_for(lambda topic=topic: made[-1].partitions_for_topic(topic), "the partitions")
        return made[-1]

    yield make
    for c in made:
        c.close(autocommit=False, timeout_ms=5000)


def fill(producer, topic, count, partition=0, **message):
    futures = [producer.send(topic, value=str(i).encode(), partition=partition, **message) for i in range(count)]
    producer.flush(20)
    return [future.get(20) for future in futures]


def poll_until(consumer, count, timeout_s=20.0):
    records = []

    def enough():
        for batch in consumer.poll(timeout_ms=200, max_records=count - len(records)).values():
            records.extend(batch)
        return len(records) >= count

    wait_for(enough, f"{count} records", timeout_s)
    return records


def read(consumer, topic, count, partition=0, offset=0):
    where = TopicPartition(topic, partition)
    consumer.assign([where])
    consumer.seek(where, offset)
    return poll_until(consumer, count)
