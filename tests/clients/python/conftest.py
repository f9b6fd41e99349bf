"""Fixtures that all Python suites share."""

import contextlib
import os
import pathlib
import subprocess
import sys
import time
import uuid

import pytest

sys.path.insert(0, os.environ["OTTLA_CLIENTS"])

from harness import wire  # noqa: E402

BOOTSTRAP = os.environ["OTTLA_BOOTSTRAP"]
BROKERS = sorted(os.environ["OTTLA_BROKERS"].split(","))  # HOST:PORT of every broker
REPLICAS = len(BROKERS)  # of the topics that tests make
CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]


def pytest_collection_modifyitems(config, items):
    """Leaves out what the runner's -k, or a broker of someone else's, rules out."""
    only, controlled = os.environ.get("OTTLA_ONLY", ""), os.environ.get("OTTLA_BROKER_STATE")

    def wanted(item):
        return only in item.nodeid and (controlled or not item.get_closest_marker("control"))

    config.hook.pytest_deselected(items=[item for item in items if not wanted(item)])
    items[:] = [item for item in items if wanted(item)]


class Control:
    """Commands to the broker under test."""

    def __getattr__(self, command):
        script = str(pathlib.Path(os.environ["OTTLA_CLIENTS"]) / "broker")

        def act():
            subprocess.run([sys.executable, script, command], check=True, timeout=150)

        return act


@pytest.fixture
def broker():
    """The broker under test; left running, whatever the test did to it."""
    control = Control()
    yield control
    try:
        for address in BROKERS:
            wire.api_versions(address)
    except (OSError, wire.WireError):
        control.start()


@pytest.fixture
def name(request):
    """A name nobody used before, for a topic or a group."""
    test = "".join(c if c.isalnum() or c in "._-" else "." for c in request.node.name)
    return f"{test[:60]}-{uuid.uuid4().hex[:8]}"


@contextlib.contextmanager
def killable_member(group, topic):
    """A member of the group in a process of its own (librdkafka), owning partitions when this returns."""
    program = pathlib.Path(__file__).with_name("member.py")
    child = subprocess.Popen([sys.executable, program, BOOTSTRAP, group, topic], stdout=subprocess.PIPE, text=True)
    try:
        assert child.stdout.readline().startswith("assigned")
        yield child
    finally:
        child.kill()
        child.wait()
        child.stdout.close()


def wait_for(condition, what, timeout_s=20.0):
    """Calls `condition` until it returns something true, and returns that."""
    deadline = time.monotonic() + timeout_s
    while True:
        found = condition()
        if found:
            return found
        assert time.monotonic() < deadline, f"waited {timeout_s} s for {what}"
        time.sleep(0.02)


def compressible(index, size=400):
    """A value that every codec makes smaller: a client sends what does not shrink uncompressed."""
    return (f"value-{index:08d} " * (size // 15 + 1))[:size].encode()


def stored_codecs(topic, partitions):
    return {batch.codec for p in range(partitions) for batch in wire.batches(BOOTSTRAP, topic, p)}


def assert_one_producer(topic, partition, count):
    """The stored batches carry one producer id and sequences without gap or repeat."""
    batches = wire.batches(BOOTSTRAP, topic, partition)
    assert len({(b.producer_id, b.producer_epoch) for b in batches}) == 1
    assert batches[0].producer_id >= 0
    sequence = 0
    for batch in batches:
        assert batch.base_sequence == sequence
        sequence += batch.records
    assert sequence == count
