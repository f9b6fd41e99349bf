"""Brokers that come, are emptied, and are gone for good; controllers that are no brokers."""

import json
import os
import subprocess
import time

import pytest
from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition
from confluent_kafka.admin import AdminClient
from conftest import wait_for
from harness import cache
from harness.cluster import Cluster

from .test_cluster import finish, loaded, made, make, placed, wait_until_whole

OTTLA = os.environ.get("OTTLA_BIN", "ottla")


@pytest.fixture
def started(tmp_path):
    """Makes clusters of a test's own, and ends what is left of them."""
    made = []

    def start(**settings):
        cluster = Cluster.create(tmp_path / f"cluster-{len(made)}", OTTLA, **settings)
        made.append(cluster)
        cluster.start()
        return cluster

    yield start
    for cluster in made:
        cluster.kill9()


def client(cluster):
    return AdminClient({"bootstrap.servers": cluster.bootstrap})


def holders(admin, topic):
    return {replica for p in placed(admin, topic).values() for replica in p.replicas}


def ottla(cluster, *arguments):
    command = [OTTLA, "broker", *arguments, "--bootstrap-server", cluster.bootstrap]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


@pytest.mark.timeout(300)
def test_a_broker_comes_and_another_is_drained(started, name):
    cluster = started()
    admin = client(cluster)
    make(admin, name)
    wait_until_whole(admin, name)
    first = ottla(cluster, "drain", "1")
    assert first.returncode == 1 and "not as many other brokers" in first.stderr, first
    assert {p.leader for p in placed(admin, name).values()} == {2, 3}
    with loaded(cluster, name) as load:
        load.wait_for_progress()
        cluster.add(4)
        wait_for(lambda: holders(admin, name) == {2, 3, 4}, "broker 4 in the place of broker 1", 120)
        drained = ottla(cluster, "drain", "1")
        assert drained.returncode == 0 and "may stop" in drained.stdout, drained
        load.wait_for_progress()
        # Nobody needs it any more. It comes back, and gets its part by itself.
        cluster.nodes[1].stop()
        load.wait_for_progress()
        cluster.nodes[1].start()
        assert ottla(cluster, "undrain", "1").returncode == 0
        wait_for(lambda: holders(admin, name) == {1, 2, 3, 4}, "replicas on broker 1", 120)
        load.wait_for_progress()
    finish(load, cluster)
    lines = ottla(cluster, "list").stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["broker", "1", "2", "3", "4"]


@pytest.mark.timeout(300)
def test_a_broker_that_is_gone_is_replaced(started, name):
    settings = {"ottla.broker.replace.after.ms": "2000", "broker.session.timeout.ms": "3000"}
    cluster = started(settings=settings | {"broker.heartbeat.interval.ms": "500"})
    cluster.add(4)
    admin = client(cluster)
    make(admin, name)
    wait_until_whole(admin, name)
    with loaded(cluster, name) as load:
        load.wait_for_progress()
        cluster.nodes[2].kill9()
        wait_for(lambda: holders(admin, name) == {1, 3, 4}, "replicas elsewhere", 120)
        wait_until_whole(admin, name)
        load.wait_for_progress()
        cluster.nodes[2].start()
        wait_for(lambda: 2 in holders(admin, name), "replicas on the broker that came back", 120)
    finish(load, cluster)


@pytest.mark.timeout(300)
def test_controllers_that_are_no_brokers(started, name):
    cluster = started(controllers=(101, 102, 103))
    admin = client(cluster)
    make(admin, name)
    wait_until_whole(admin, name)
    seen = admin.list_topics(timeout=30)
    assert sorted(seen.brokers) == [1, 2, 3]
    quorum = java_quorum("--bootstrap-controller", cluster.controllers[101].bootstrap)
    voters = {line.split()[0] for line in quorum.splitlines() if "Leader" in line or "Follower" in line}
    assert {"101", "102", "103"} <= voters, quorum
    with loaded(cluster, name) as load:
        for node in cluster.controllers.values():
            load.wait_for_progress()
            node.kill9()
            wait_for(lambda: made(admin, f"{name}-without-{node.state.name}"), "a topic made by another controller", 30)
            load.wait_for_progress()
            node.start()
        cluster.nodes[1].kill9()
        load.wait_for_progress()
        cluster.nodes[1].start()
        wait_until_whole(admin, name)
    finish(load, cluster)


def java_quorum(*where):
    command = ["java", "-cp", f"{cache.jars()}/*", "org.apache.kafka.tools.MetadataQuorumCommand", *where]
    return subprocess.run([*command, "describe", "--replication"], capture_output=True, text=True, timeout=120, check=True).stdout


@pytest.mark.timeout(180)
def test_consumers_read_in_their_rack(started, name):
    selector = "org.apache.kafka.common.replica.RackAwareReplicaSelector"
    racks = {1: "a", 2: "b", 3: "c"}
    cluster = started(settings={"replica.selector.class": selector}, racks=racks)
    admin = client(cluster)
    make(admin, name)
    wait_until_whole(admin, name)
    with loaded(cluster, name) as load:
        load.wait_for_progress()
        for node, rack in racks.items():
            assert readers_of(cluster, name, rack, load) == {node}
        # A rack without a broker, and one whose broker is gone: the leaders serve.
        leaders = {p.leader for p in placed(admin, name).values()}
        assert readers_of(cluster, name, "d", load) == leaders == set(racks)
        cluster.nodes[2].stop()
        wait_for(lambda: all(2 not in p.isrs for p in placed(admin, name).values()), "smaller in-sync replicas", 60)
        assert readers_of(cluster, name, "b", load) == {1, 3}
        cluster.nodes[2].start()
    finish(load, cluster)


def readers_of(cluster, topic, rack, load):
    """The brokers that a consumer in the rack reads from, once it has read everything of all partitions for a while."""
    seen = {}

    def note(text):
        partitions = json.loads(text)["topics"].get(topic, {}).get("partitions", {})
        seen["now"] = {p["broker"] for p in partitions.values() if p["fetch_state"] == "active"}

    settings = {"bootstrap.servers": cluster.bootstrap, "group.id": f"{topic}-{rack}", "client.rack": rack}
    consumer = Consumer(settings | {"stats_cb": note, "statistics.interval.ms": 200, "enable.auto.commit": False})
    consumer.assign([TopicPartition(topic, p, OFFSET_BEGINNING) for p in range(load.partitions)])
    ends = {p: consumer.get_watermark_offsets(TopicPartition(topic, p), timeout=30)[1] for p in range(load.partitions)}
    read = {p: -1 for p in ends}
    deadline = time.monotonic() + 60
    steady_since = time.monotonic()
    last = None
    while any(read[p] + 1 < ends[p] for p in ends) or time.monotonic() - steady_since < 2:
        assert time.monotonic() < deadline, (read, ends, seen)
        for message in consumer.consume(500, 0.2):
            if message.error():
                assert message.error().retriable(), str(message.error())
                continue
            assert message.offset() == read[message.partition()] + 1
            read[message.partition()] = message.offset()
        if seen.get("now") != last:
            last, steady_since = seen.get("now"), time.monotonic()
    consumer.close()
    return last
