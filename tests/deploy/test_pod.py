"""What the chart renders, run for real: `ottla` with exactly these files, arguments, variables and rights."""

import json
import pathlib
import subprocess
import threading

import pytest

from harness import chart
from harness.pod import Pod, isolated
from harness.ports import wait_for


@pytest.fixture
def start(tmp_path):
    """Starts a pod with some values; what runs at the end is killed."""
    pods = []

    def go(values=None, **options):
        pod = Pod(chart.render(values), tmp_path, **options)
        pods.append(pod)
        pod.start()
        return pod

    yield go
    for pod in pods:
        pod.close()


def advertised(pod):
    metadata = json.loads(pod.kcat("-L", "-J"))
    return [broker["name"] for broker in metadata["brokers"]]


def test_the_default_starts_serves_and_stops(start):
    pod = start()
    pod.wait("startupProbe")
    pod.wait("readinessProbe")
    assert pod.probe("livenessProbe")
    if isolated():
        assert advertised(pod) == ["ottla-0.ottla-headless.events.svc.cluster.local:9092"]
        status = pathlib.Path(f"/proc/{pod.process.pid}/status").read_text()
        fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
        assert fields["Uid"].split() == ["10001"] * 4
        assert int(fields["CapEff"], 16) == int(fields["CapBnd"], 16) == 0
        assert fields["NoNewPrivs"] == "1"
    assert "ottla_memory_budget_bytes 1610612736" in pod.get("/metrics")[1]
    assert pod.terminate() == 0
    assert "stopped; everything is on disk" in pod.tail()


def test_data_outlives_the_pod(start):
    pod = start({"config": {"num.partitions": 3}})
    pod.wait()
    cluster = (pod.data / "meta.properties").read_text()
    pod.kcat("-L", "-t", "payments")  # makes the topic
    assert pod.terminate() == 0
    pod.start()
    pod.wait()
    topics = {t["topic"]: len(t["partitions"]) for t in json.loads(pod.kcat("-L", "-J"))["topics"]}
    assert topics["payments"] == 3
    assert (pod.data / "meta.properties").read_text() == cluster
    pod.kill()
    pod.start()
    pod.wait()
    assert "payments" in pod.kcat("-L")


class Producer:
    """An idempotent kcat that is fed line by line; -E lets it go on while nobody answers, as any client does."""

    def __init__(self, pod, topic):
        words = ["-P", "-E", "-t", topic, "-p", "0", "-X", "enable.idempotence=true", "-X", "linger.ms=0"]
        self.process = subprocess.Popen(pod.kcat_command(*words), stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.sent = 0
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self._feed)
        self.thread.start()

    def _feed(self):
        while not self.ended.wait(0.002):
            self.process.stdin.write(f"payment {self.sent}\n")
            self.process.stdin.flush()
            self.sent += 1

    def finish(self):
        """What it complained about; everything is delivered then."""
        self.ended.set()
        self.thread.join()
        _, complaints = self.process.communicate(timeout=60)
        assert self.process.returncode == 0, complaints
        return complaints


def test_restarts_under_load_show_no_error_and_lose_nothing(start):
    """As the StatefulSet does an upgrade: preStop, SIGTERM, a new container, readiness; then a node that dies."""
    pod = start()
    pod.wait()
    pod.kcat("-P", "-t", "payments", data="the first\n")
    producer = Producer(pod, "payments")
    wait_for("records", lambda: producer.sent > 200)
    assert pod.terminate() == 0
    pod.start()
    pod.wait()
    wait_for("more records", lambda sent=producer.sent: producer.sent > sent + 200)
    pod.kill()
    pod.start()
    pod.wait()
    wait_for("more records", lambda sent=producer.sent: producer.sent > sent + 200)
    assert "Delivery failed" not in producer.finish()
    found = pod.kcat("-C", "-t", "payments", "-o", "beginning", "-e", "-q").splitlines()
    assert found == ["the first", *(f"payment {i}" for i in range(producer.sent))]


def test_everything_at_once_starts(start):
    values = {
        "externalAccess": {"enabled": True, "host": "kafka-{index}.example.com"},
        "config": {"log.retention.bytes": 1 << 40, "auto.create.topics.enable": False, "log.cleaner.min.cleanable.ratio": 0.3},
        "logLevels": "debug",
        "ports": {"kafka": 19092, "controller": 19093, "external": 19094, "metrics": 19644},
        "resources": {"limits": {"memory": "512Mi"}},
        "shutdown": {"sleepSeconds": 0},
    }
    pod = start(values, zone="eu-north-1a")
    pod.wait()
    assert pod.probe("livenessProbe")
    if isolated():
        listener = pod.within("kcat", "-b", "127.0.0.1:19094", "-L", "-J")
        told = json.loads(subprocess.run(listener, check=True, capture_output=True).stdout)
        assert [broker["name"] for broker in told["brokers"]] == ["kafka-0.example.com:31090"]
    assert pod.terminate() == 0


def test_a_key_from_a_secret(start):
    """A variable of the pod goes before the file."""
    values = {"config": {"num.partitions": 2}, "configFromSecrets": {"num.partitions": {"name": "s", "key": "k"}}}
    pod = start(values, secrets={("s", "k"): "5"})
    pod.wait()
    pod.kcat("-L", "-t", "payments")
    topics = {t["topic"]: len(t["partitions"]) for t in json.loads(pod.kcat("-L", "-J"))["topics"]}
    assert topics["payments"] == 5


def test_addresses_of_both_kinds(start):
    """On "[::]" IPv4 is answered, too; without namespaces the address is replaced and nothing is shown."""
    pod = start({"listenAddress": "[::]", "shutdown": {"sleepSeconds": 0}})
    pod.wait()
    if isolated():
        for host in ("[::1]", "127.0.0.1"):
            assert pod.get("/health/live", host=host)[0] == 200
            command = pod.within("kcat", "-b", f"{host}:9092", "-L")
            subprocess.run(command, check=True, capture_output=True, timeout=60)
    assert pod.terminate() == 0
