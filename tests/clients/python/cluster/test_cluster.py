"""Three brokers: killed, paused, restarted, robbed of their disks, under clients that must not notice."""

import os
import shutil
import signal
import time

import pytest
from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka.admin import AdminClient, NewTopic
from conftest import BOOTSTRAP, wait_for
from harness.cluster import Cluster

from . import history

PARTITIONS = 6
ROUNDS = int(os.environ.get("OTTLA_CLUSTER_ROUNDS", "3"))


@pytest.fixture
def cluster():
    """Whole before and after each test."""
    cluster = Cluster(os.environ["OTTLA_BROKER_STATE"])
    cluster.start()
    yield cluster
    for broker in cluster.nodes.values():
        if broker.running():
            os.kill(broker.pid, signal.SIGCONT)
    cluster.start()


@pytest.fixture
def admin():
    return AdminClient({"bootstrap.servers": BOOTSTRAP})


def make(admin, topic, partitions=PARTITIONS, replicas=3, wait_s=30, **config):
    topics = [NewTopic(topic, partitions, replicas, config=config)]
    [making] = admin.create_topics(topics, request_timeout=wait_s).values()
    making.result()  # fails when the request has taken that long


def made(admin, topic):
    """Whether it is: while controllers change, the client is told so and asks again."""
    admin.list_topics(timeout=30)  # librdkafka asks who is the controller when one is gone, and not again
    try:
        make(admin, topic, wait_s=5)
    except KafkaException as error:
        return error.args[0].code() == KafkaError.TOPIC_ALREADY_EXISTS
    return True


def placed(admin, topic):
    return admin.list_topics(topic, timeout=30).topics[topic].partitions


def wait_until_whole(admin, *topics, timeout_s=60):
    """Every partition has a leader, and all of its replicas are in sync."""

    def whole():
        found = [p for topic in topics for p in placed(admin, topic).values()]
        return all(p.leader > 0 and len(p.isrs) == len(p.replicas) == 3 for p in found)

    wait_for(whole, f"full in-sync replicas of {topics}", timeout_s)


def finish(load, cluster):
    logs = history.read_all(cluster.bootstrap, load.topic, load.partitions)
    history.check(load, logs)
    now = history.committed(load)
    for partition, offsets in load.commits.items():
        if partition != "refused":
            assert now[partition] >= offsets[-1], f"partition {partition}: {offsets[-1]} was committed, {now[partition]} is"
    assert load.commits, "nothing was committed"
    records = sum(map(len, load.acked.values()))
    print(f"{records} records acknowledged, the longest silence of a partition {load.longest_silence_s():.2f} s")


def loaded(cluster, name):
    return history.Load(cluster.bootstrap, name, PARTITIONS, f"group-{name}")


def test_what_it_tells(cluster, admin, name):
    make(admin, name)
    wait_until_whole(admin, name)
    seen = admin.list_topics(timeout=30)
    assert sorted(seen.brokers) == [1, 2, 3]
    assert seen.controller_id in seen.brokers
    assert {p.leader for p in placed(admin, name).values()} == {1, 2, 3}
    for broker in cluster.nodes.values():
        one = AdminClient({"bootstrap.servers": broker.bootstrap}).list_topics(name, timeout=30)
        assert one.cluster_id == seen.cluster_id
        assert sorted(one.brokers) == [1, 2, 3]
    make(admin, f"{name}-two", replicas=2)
    assert all(len(p.replicas) == 3 for p in placed(admin, f"{name}-two").values())
    with pytest.raises(KafkaException) as refused:
        make(admin, f"{name}-five", replicas=5)
    assert refused.value.args[0].code() == KafkaError.INVALID_REPLICATION_FACTOR


@pytest.mark.timeout(60 + 60 * ROUNDS)
def test_leaders_are_killed(cluster, admin, name):
    make(admin, name)
    with loaded(cluster, name) as load:
        load.wait_for_progress()
        for _ in range(ROUNDS):
            leader = placed(admin, name)[0].leader
            cluster.nodes[leader].kill9()
            load.wait_for_progress()
            cluster.nodes[leader].start()
            wait_until_whole(admin, name)
    finish(load, cluster)


@pytest.mark.timeout(60 + 60 * ROUNDS)
def test_a_paused_leader_wakes_up(cluster, admin, name):
    make(admin, name)
    with loaded(cluster, name) as load:
        load.wait_for_progress()
        for _ in range(ROUNDS):
            leader = placed(admin, name)[0].leader
            os.kill(cluster.nodes[leader].pid, signal.SIGSTOP)
            time.sleep(5)
            os.kill(cluster.nodes[leader].pid, signal.SIGCONT)
            load.wait_for_progress()
            wait_until_whole(admin, name)
    finish(load, cluster)


@pytest.mark.timeout(180)
def test_all_are_killed_at_once(cluster, admin, name):
    make(admin, name)
    with loaded(cluster, name) as load:
        load.wait_for_progress()
        cluster.kill9()
        cluster.start()
        load.wait_for_progress()
    finish(load, cluster)


@pytest.mark.timeout(180)
def test_a_rolling_restart(cluster, admin, name):
    make(admin, name)
    with loaded(cluster, name) as load:
        load.wait_for_progress()
        for broker in cluster.nodes.values():
            broker.stop()
            broker.start()
            wait_until_whole(admin, name)
        load.wait_for_progress()
    finish(load, cluster)


@pytest.mark.timeout(240)
def test_a_disk_is_lost(cluster, admin, name):
    make(admin, name)
    with loaded(cluster, name) as load:
        load.wait_for_progress()
        cluster.nodes[2].kill9()
        shutil.rmtree(cluster.nodes[2].state / "data")
        load.wait_for_progress()
        cluster.nodes[2].start()
        wait_until_whole(admin, name, "__consumer_offsets", timeout_s=120)
        # What the new replica has counts now.
        cluster.nodes[3].kill9()
        load.wait_for_progress()
        cluster.nodes[3].start()
        wait_until_whole(admin, name)
    finish(load, cluster)


@pytest.mark.timeout(180)
def test_the_controller_is_killed(cluster, admin, name):
    make(admin, name)
    with loaded(cluster, name) as load:
        load.wait_for_progress()
        controller = admin.list_topics(timeout=30).controller_id
        elsewhere = [p.id for p in placed(admin, name).values() if p.leader != controller]
        cluster.nodes[controller].kill9()
        load.wait_for_progress(partitions=elsewhere)
        wait_for(lambda: made(admin, f"{name}-after"), "a topic made by the next controller", 30)
        cluster.nodes[controller].start()
        wait_until_whole(admin, name)
        load.wait_for_progress()
    finish(load, cluster)


@pytest.mark.timeout(180)
def test_a_minority_acknowledges_nothing(cluster, admin, name):
    make(admin, name, partitions=1)
    leader = placed(admin, name)[0].leader
    others = [broker for node, broker in cluster.nodes.items() if node != leader]
    for broker in others:
        broker.kill9()
    outcomes = []
    producer = Producer({"bootstrap.servers": cluster.bootstrap, "delivery.timeout.ms": 6000})
    producer.produce(name, "lost?", on_delivery=lambda error, _: outcomes.append(error))
    producer.flush(30)
    assert len(outcomes) == 1 and outcomes[0] is not None, outcomes
    for broker in others:
        broker.start()
    wait_until_whole(admin, name)
    later = []
    producer.produce(name, "kept", on_delivery=lambda error, _: later.append(error))
    producer.flush(30)
    assert later == [None]
