"""The move from Kafka of docs/operations.md: the page's own mm2.properties, a real Kafka, a real MirrorMaker 2."""

import os
import re
import subprocess

import pytest

from harness import tools
from harness.ports import free_ports, wait_for
from harness.prometheus import Broker

RECORDS, MORE = 20_000, 3_000
QUICKER = """
sync.group.offsets.interval.seconds = 1
emit.checkpoints.interval.seconds = 1
refresh.topics.interval.seconds = 1
refresh.groups.interval.seconds = 1
"""


def java(*words):
    return ["java", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", *map(str, words)]


def with_jars():
    return os.environ | {"CLASSPATH": f"{tools.kafka_jars()}/*"}


class Kafka:
    """One combined node of Apache Kafka."""

    def __init__(self, folder):
        self.port, controller = free_ports(2)
        self.folder = folder
        self.file = folder / "server.properties"
        self.file.write_text(
            f"process.roles=broker,controller\nnode.id=1\ncontroller.quorum.voters=1@127.0.0.1:{controller}\n"
            f"listeners=PLAINTEXT://127.0.0.1:{self.port},CONTROLLER://127.0.0.1:{controller}\n"
            f"advertised.listeners=PLAINTEXT://127.0.0.1:{self.port}\ncontroller.listener.names=CONTROLLER\n"
            "listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT\n"
            f"log.dirs={folder / 'data'}\nnum.partitions=2\noffsets.topic.replication.factor=1\n"
            "offsets.topic.num.partitions=2\ngroup.initial.rebalance.delay.ms=0\n"
            "transaction.state.log.replication.factor=1\ntransaction.state.log.min.isr=1\n"
        )

    def start(self):
        log = (self.folder / "log").open("wb")
        tool = java("kafka.tools.StorageTool", "format", "-t", "4L6g3nShT-eMCtK--X86sw", "-c", self.file)
        subprocess.run(tool, env=with_jars(), stdout=log, stderr=log, check=True, timeout=60)
        self.process = subprocess.Popen(java("kafka.Kafka", self.file), env=with_jars(), stdout=log, stderr=log)
        wait_for("Kafka", lambda: kcat(self.port, "-L", check=False).returncode == 0)


def kcat(port, *words, data=None, check=True):
    command = ["kcat", "-b", f"127.0.0.1:{port}", *words]
    return subprocess.run(command, input=data, text=True, capture_output=True, check=check, timeout=60)


def records(port):
    """All records of the topic, with their places; none if it is not there yet."""
    done = kcat(port, "-C", "-t", "payments", "-o", "beginning", "-e", "-q", "-f", r"%p %o %k %s\n", check=False)
    assert done.returncode == 0 or "Unknown topic" in done.stderr, done.stderr
    return sorted(done.stdout.splitlines())


def consume(port, count):
    """As a member of the group, which commits at its end."""
    words = ["-G", "fraud", "-X", "auto.offset.reset=earliest", "-c", str(count), "-f", r"%p %o %k %s\n", "payments"]
    return kcat(port, *words).stdout.splitlines()


def committed(port):
    """{partition: (committed, end)} of the group."""
    tool = java("org.apache.kafka.tools.consumer.group.ConsumerGroupCommand")
    words = ["--bootstrap-server", f"127.0.0.1:{port}", "--describe", "--group", "fraud"]
    done = subprocess.run([*tool, *words], env=with_jars(), text=True, capture_output=True, timeout=60)
    rows = re.findall(r"fraud\s+payments\s+(\d+)\s+(\d+)\s+(\d+)", done.stdout)
    return {int(partition): (int(offset), int(end)) for partition, offset, end in rows}


def page_properties(kafka, ottla):
    """The block of the page, with these addresses."""
    page = (tools.ROOT / "docs" / "operations.md").read_text()
    block = re.search(r"```\n( +clusters = .*?)```", page, re.S)[1]
    text = "\n".join(line.strip() for line in block.splitlines())
    replaced = text.replace("KAFKA:9092", f"127.0.0.1:{kafka}").replace("OTTLA:9092", f"127.0.0.1:{ottla}")
    assert replaced.count("127.0.0.1") == 2
    return replaced + QUICKER


def payments(count, text):
    return "".join(f"k{i % 50}:{text} {i}\n" for i in range(count))


@pytest.mark.full
def test_move(tmp_path):
    folders = {name: tmp_path / name for name in ("kafka", "ottla", "mirror")}
    for folder in folders.values():
        folder.mkdir()
    kafka, ottla = Kafka(folders["kafka"]), Broker(folders["ottla"])
    processes = []
    try:
        kafka.start()
        processes.append(kafka.process)
        ottla.start()
        processes.append(ottla.process)
        kcat(kafka.port, "-P", "-t", "payments", "-K:", data=payments(RECORDS, "payment"))
        properties = folders["mirror"] / "mm2.properties"
        properties.write_text(page_properties(kafka.port, ottla.kafka))
        log = (folders["mirror"] / "log").open("wb")
        command = java("org.apache.kafka.connect.mirror.MirrorMaker", properties)
        mirror = subprocess.Popen(command, env=with_jars(), stdout=log, stderr=log)
        processes.append(mirror)
        wait_for("the copy", lambda: len(records(ottla.kafka)) == RECORDS, 180)

        # Both go on meanwhile; then the group has read everything, and is stopped.
        kcat(kafka.port, "-P", "-t", "payments", "-K:", data=payments(MORE, "later"))
        assert len(consume(kafka.port, RECORDS + MORE)) == RECORDS + MORE
        wait_for("the copy of the rest", lambda: records(ottla.kafka) == records(kafka.port), 120)
        source = committed(kafka.port)
        assert source and all(offset == end for offset, end in source.values())
        wait_for("the group on Ottla", lambda: committed(ottla.kafka).keys() == source.keys(), 120)

        # The group goes on at Ottla: it misses nothing of what comes now.
        mirror.terminate()
        mirror.wait(60)
        moved = committed(ottla.kafka)
        assert all(moved[p][0] <= source[p][0] and moved[p][1] == source[p][1] for p in source)
        kcat(ottla.kafka, "-P", "-t", "payments", "-K:", data=payments(10, "new"))
        again = sum(end - offset for offset, end in moved.values())
        read = consume(ottla.kafka, again + 10)
        assert sum(" new " in line for line in read) == 10
    finally:
        for process in reversed(processes):
            process.kill()
            process.wait()
