"""What producers and a group saw of a topic, and whether the log agrees with it."""

import dataclasses
import threading
import time

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Producer, TopicPartition


@dataclasses.dataclass
class Acked:
    sequence: int
    offset: int
    at: float


class Load:
    """One idempotent producer per partition, and a group that reads and commits, until told to stop."""

    def __init__(self, bootstrap, topic, partitions, group):
        self.bootstrap, self.topic, self.partitions, self.group = bootstrap, topic, partitions, group
        self.acked = {partition: [] for partition in range(partitions)}
        self.sent = dict.fromkeys(range(partitions), 0)
        self.failed = []
        self.commits = {}
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._produce, args=(p,)) for p in range(partitions)]
        self._threads.append(threading.Thread(target=self._consume))

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _produce(self, partition):
        producer = Producer(
            {
                "bootstrap.servers": self.bootstrap,
                "enable.idempotence": True,
                "linger.ms": 1,
                "delivery.timeout.ms": 120_000,
                "reconnect.backoff.max.ms": 500,
                "retry.backoff.max.ms": 200,
                "topic.metadata.refresh.interval.ms": 1000,
            }
        )

        def report(sequence):
            def delivered(error, message):
                if error:
                    self.failed.append(f"{partition}: record {sequence}: {error}")
                else:
                    self.acked[partition].append(Acked(sequence, message.offset(), time.monotonic()))

            return delivered

        while not self._stop.is_set():
            sequence = self.sent[partition]
            try:
                producer.produce(self.topic, str(sequence), partition=partition, on_delivery=report(sequence))
                self.sent[partition] += 1
            except BufferError:
                pass
            producer.poll(0.002)
        left = producer.flush(120)
        if left:
            self.failed.append(f"{partition}: {left} records without a verdict")

    def _consume(self):
        consumer = Consumer(
            {
                "bootstrap.servers": self.bootstrap,
                "group.id": self.group,
                "auto.offset.reset": "earliest",
                "enable.auto.commit": False,
                "session.timeout.ms": 10_000,
                "reconnect.backoff.max.ms": 500,
            }
        )
        consumer.subscribe([self.topic])
        last_commit = time.monotonic()
        while not self._stop.is_set():
            message = consumer.poll(0.1)
            if time.monotonic() - last_commit > 0.2 and message and not message.error():
                last_commit = time.monotonic()
                try:
                    for done in consumer.commit(asynchronous=False):
                        # Nothing to commit of this partition: OFFSET_INVALID.
                        if not done.error and done.offset >= 0:
                            self.commits.setdefault(done.partition, []).append(done.offset)
                except KafkaException as error:
                    retriable = error.args[0].code() in (KafkaError._NO_OFFSET, KafkaError.REBALANCE_IN_PROGRESS)
                    if not (retriable or error.args[0].retriable() or error.args[0].code() < 0):
                        # A generation that ended, a coordinator that moved: the members go on.
                        self.commits.setdefault("refused", []).append(str(error))
        consumer.close()

    def wait_for_progress(self, records=100, timeout_s=60, partitions=None):
        """Until every partition has this many more records acknowledged."""
        partitions = range(self.partitions) if partitions is None else partitions
        goals = {p: len(self.acked[p]) + records for p in partitions}
        deadline = time.monotonic() + timeout_s
        while any(len(self.acked[p]) < goal for p, goal in goals.items()):
            missing = {p: goal - len(self.acked[p]) for p, goal in goals.items() if len(self.acked[p]) < goal}
            assert time.monotonic() < deadline, f"no progress in {timeout_s} s: partition: missing {missing}, {self.failed[:3]}"
            time.sleep(0.01)

    def longest_silence_s(self):
        """Between two acknowledgements of one partition."""
        times = [[one.at for one in acked] for acked in self.acked.values()]
        return max(later - earlier for at in times for earlier, later in zip(at, at[1:]))


def watermarks(consumer, place, timeout_s=30):
    """The client asks whom it takes for the leader, once."""
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            return consumer.get_watermark_offsets(place, timeout=timeout_s)
        except KafkaException as error:
            moved = error.args[0].code() == KafkaError.NOT_LEADER_FOR_PARTITION
            if not moved or time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def read_all(bootstrap, topic, partitions):
    """Every partition's records as (offset, value), from the beginning to the end of now."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": f"check-{time.monotonic_ns()}", "enable.auto.commit": False})
    logs = {}
    for partition in range(partitions):
        low, high = watermarks(consumer, TopicPartition(topic, partition))
        assert low == 0
        log = logs[partition] = []
        consumer.assign([TopicPartition(topic, partition, OFFSET_BEGINNING)])
        deadline = time.monotonic() + 60
        while len(log) < high:
            assert time.monotonic() < deadline, f"partition {partition}: {len(log)} of {high} records in 60 s"
            for message in consumer.consume(1000, 0.5):
                if message.error():
                    assert message.error().retriable(), str(message.error())
                    continue
                log.append((message.offset(), int(message.value())))
    consumer.close()
    return logs


def violations(acked, log):
    """What one partition's log has against the acknowledgements of its only producer, in words."""
    found = []
    if [offset for offset, _ in log] != list(range(len(log))):
        found.append("offsets are not dense")
    sequences = [sequence for _, sequence in log]
    for earlier, later in zip(sequences, sequences[1:]):
        if later != earlier + 1:
            found.append(f"record {later} follows record {earlier}")
    where = {}
    for offset, sequence in log:
        where.setdefault(sequence, []).append(offset)
    for one in acked:
        if where.get(one.sequence) != [one.offset]:
            found.append(f"record {one.sequence} was acknowledged at {one.offset} and is at {where.get(one.sequence, [])}")
    return found[:5]


def check(load, logs):
    """Nothing acknowledged is lost, doubled or reordered, no send failed, and commits never moved back."""
    assert not load.failed, load.failed[:3]
    for partition, log in logs.items():
        found = violations(load.acked[partition], log)
        assert not found, f"partition {partition}: {found}"
    for partition, offsets in load.commits.items():
        if partition != "refused":
            assert offsets == sorted(offsets), f"partition {partition}: commits went {offsets}"
            assert offsets[-1] <= len(logs[partition])


def committed(load):
    """The group's offsets as the cluster has them now."""
    consumer = Consumer({"bootstrap.servers": load.bootstrap, "group.id": load.group})
    asked = [TopicPartition(load.topic, partition) for partition in range(load.partitions)]
    found = {one.partition: one.offset for one in consumer.committed(asked, 30)}
    consumer.close()
    return found
