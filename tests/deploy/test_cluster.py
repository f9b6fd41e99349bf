"""Three pods as the chart renders them, on hosts of their own: founded, rolled, lost, under the load of real clients."""

import shutil

import pytest

from harness import chart
from harness.cluster import Cluster, Load
from harness.pod import isolated
from harness.ports import wait_for

pytestmark = pytest.mark.skipif(not isolated(), reason="hosts of their own need root")

BEFORE = {"config": {"num.partitions": 6}}
AFTER = {"config": {"num.partitions": 5, "log.retention.hours": 24}}
COPIED_KB = 16_000


@pytest.fixture
def cluster(tmp_path):
    tmp_path.chmod(0o755)
    cluster = Cluster(chart.render(BEFORE), tmp_path)
    try:
        yield cluster
    finally:
        cluster.close()


@pytest.fixture
def load(cluster):
    loads = []

    def go(topic):
        loads.append(Load(cluster, topic))
        return loads[-1]

    yield go
    for load in loads:
        load.close()


def is_whole(cluster, asked=0):
    partitions = cluster.partitions(asked=asked)
    return bool(partitions) and all(len(p["isrs"]) == len(p["replicas"]) == 3 for p in partitions)


def assert_nothing_shown_or_lost(seen):
    assert seen["errors"] == []
    assert seen["left"] == 0 and seen["acknowledged"] == seen["sent"]
    assert seen["missing"] == [], "acknowledged, and not read by the group"
    assert seen["stored_as_acknowledged"], "once each, where its producer was told"


def test_an_upgrade_shows_no_error_and_loses_nothing(cluster, load):
    """helm upgrade: each pod in turn by its preStop, SIGTERM and probes; it hands over what it leads first."""
    cluster.start()
    cluster.kcat("-L", "-t", "payments")
    wait_for("three replicas in sync", lambda: is_whole(cluster))
    clients = load("payments")
    cluster.roll(chart.render(AFTER), when_ready=lambda pod: is_whole(cluster, asked=cluster.pods.index(pod)))
    assert_nothing_shown_or_lost(clients.finish())
    cluster.kcat("-L", "-t", "refunds")
    assert len(cluster.partitions("refunds")) == 5, "the pods run with their new files"
    for pod in cluster.pods:
        assert "was not handed over" not in pod.log.read_text(errors="replace")


def test_a_lost_volume_comes_back_before_its_pod_is_ready(cluster, load):
    """A node dies with its disk: the pod gets an empty volume, and is ready once it has all of it again."""
    cluster.start()
    for topic in ("payments", "refunds"):
        cluster.kcat("-L", "-t", topic)
    wait_for("three replicas in sync", lambda: is_whole(cluster))
    # So much, and so slow a copy, that a broker which does not wait for it is ready long before.
    cluster.kcat("-P", "-t", "payments", "-X", "compression.type=none", data=f"{'x' * 999}\n" * COPIED_KB)
    cluster.set_on_brokers("leader.replication.throttled.rate", COPIED_KB * 1000 // 8)
    clients = load("refunds")
    lost = cluster.pods[2]
    lost.kill()
    shutil.rmtree(lost.data)
    lost.data.mkdir()
    lost.start()
    lost.wait("startupProbe")
    lost.wait()
    assert is_whole(cluster, asked=2), "ready, so in sync in every group"
    assert_nothing_shown_or_lost(clients.finish())
