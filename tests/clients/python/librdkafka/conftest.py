"""Fixtures and short forms for confluent-kafka, the Python face of librdkafka."""

import pytest
from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from conftest import BOOTSTRAP, REPLICAS, wait_for  # noqa: F401  (the conftest of the folder above)


@pytest.fixture(scope="session")
def admin():
    return AdminClient({"bootstrap.servers": BOOTSTRAP, "log_level": 0})


@pytest.fixture
def make_topic(admin, name):
    """Makes topics named after the test; returns their names."""
    made = 0

    def make(partitions=1, replicas=REPLICAS, **config):
        nonlocal made
        made += 1
        topic = f"{name}.{made}"
        settings = {key.replace("_", "."): str(value) for key, value in config.items()}
        admin.create_topics([NewTopic(topic, partitions, replicas, config=settings)])[topic].result(20)
        wait_for_partitions(admin, topic, partitions)
        return topic

    return make


@pytest.fixture
def producer():
    """Makes producers; what they still hold at the end of a test is an error."""
    made = []

    def make(**config):
        settings = {"bootstrap.servers": BOOTSTRAP, "linger.ms": 5, "log_level": 0}
        made.append(Producer(settings | {key.replace("_", "."): value for key, value in config.items()}))
        return made[-1]

    yield make
    assert [len(p) for p in made] == [0] * len(made)


@pytest.fixture
def consumer(name):
    """Makes consumers, closed at the end of the test."""
    made = []

    def make(**config):
        settings = {
            "bootstrap.servers": BOOTSTRAP,
            "group.id": name,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "session.timeout.ms": 6000,
            "heartbeat.interval.ms": 300,
            "allow.auto.create.topics": False,
            "log_level": 0,
        }
        made.append(Consumer(settings | {key.replace("_", "."): value for key, value in config.items()}))
        return made[-1]

    yield make
    for c in made:
        c.close()


def wait_for_partitions(admin, topic, count):
    """A controller may answer before every broker has heard of its change."""
    wait_for(lambda: len(admin.list_topics(topic, 10).topics[topic].partitions) == count, f"{count} partitions")


class Deliveries:
    """Delivery reports: messages acknowledged, and errors."""

    def __init__(self):
        self.acked, self.errors = [], []

    def __call__(self, error, message):
        if error:
            self.errors.append(error)
        else:
            self.acked.append(message)


def send(producer, topic, messages, **common):
    """Produces dicts of arguments, waits for all, and returns the deliveries."""
    reports = Deliveries()
    for message in messages:
        producer.produce(topic, **(common | message), on_delivery=reports)
    assert producer.flush(30) == 0
    return reports


def send_one(producer, topic, **message):
    """The delivered message, or the KafkaError."""
    reports = send(producer, topic, [message])
    return (reports.acked + reports.errors)[0]


def fill(producer, topic, count, partition=0, **message):
    """`count` values b'0', b'1', ... in one partition."""
    reports = send(producer, topic, [{"value": str(i).encode()} for i in range(count)], partition=partition, **message)
    assert not reports.errors
    return reports.acked


def poll_until(consumer, count, timeout_s=20.0):
    """The next `count` messages; any error ends the test."""
    messages = []

    def enough():
        for message in consumer.consume(count - len(messages), 0.2):
            assert message.error() is None, message.error()
            messages.append(message)
        return len(messages) >= count

    wait_for(enough, f"{count} messages", timeout_s)
    return messages


def read(consumer, topic, count, partition=0, offset=0):
    consumer.assign([TopicPartition(topic, partition, offset)])
    return poll_until(consumer, count)


def nothing_more(consumer, seconds=0.5):
    messages = [m for m in consumer.consume(10, seconds) if m.error() is None]
    assert not messages, [m.value() for m in messages]


def code_of(future, timeout_s=20):
    """The error code of an admin future that must fail."""
    with pytest.raises(Exception) as raised:
        future.result(timeout_s)
    error = raised.value.args[0]
    assert isinstance(error, KafkaError), raised.value
    return error.code()
