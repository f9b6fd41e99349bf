"""Starts, stops, kills and restarts the broker under test.

Everything about a running broker lies in one state folder, so that the runner, `tests/clients/broker`
and the suites of any language act on the same broker:

| file | what |
| --- | --- |
| spec.json | command lines (format, serve), environment, bootstrap address |
| pid | process id of the running broker |
| rc | exit code of the last run; written when it ends (137 after kill -9) |
| log | what it wrote |
| data/ | its data folder |
"""

import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import threading
import time

from . import wire

READY_TIMEOUT_S = 90
STOP_TIMEOUT_S = 60

# The shell stays as the broker's parent and notes the exit code: a later command, which is not the
# parent, can then ask for it.
SUPERVISE = """
"$@" >>"$STATE/log" 2>&1 &
echo $! >"$STATE/pid.new"; mv "$STATE/pid.new" "$STATE/pid"
wait $!; echo $? >"$STATE/rc.new"; mv "$STATE/rc.new" "$STATE/rc"
"""

# The same for both brokers. Short delays where Kafka's defaults would only make tests slow.
SETTINGS = {
    "auto.create.topics.enable": "true",
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "1000",
    "log.cleaner.backoff.ms": "100",
    "log.initial.task.delay.ms": "3600000",  # no retention meanwhile: many records have timestamps of 1970
    "num.partitions": "2",
    "offsets.topic.num.partitions": "5",
    "offsets.topic.replication.factor": "1",
}


class BrokerError(Exception):
    """The broker did not start, answer or stop as it should; the text says which."""


_handed_out = set()
_handing_out = threading.Lock()


def free_ports(count):
    """Ports that nobody listens on right now, outside the range of outgoing connections; no port twice."""
    found = []
    with _handing_out:
        # Processes started one after the other begin far from each other.
        for candidate in range(20_000 + os.getpid() * 97 % 10_000, 32_000):
            if candidate in _handed_out or not _can_bind(candidate):
                continue
            _handed_out.add(candidate)
            found.append(candidate)
            if len(found) == count:
                return found
    raise BrokerError("no free port between 20000 and 32000")


def _can_bind(port):
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def ottla_spec(state, binary, ports):
    settings = SETTINGS | {
        "listeners": f"PLAINTEXT://127.0.0.1:{ports[0]}",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{ports[0]}",
        "log.dirs": str(state / "data"),
        "ottla.metrics.listener": f"127.0.0.1:{ports[1]}",
    }
    overrides = [word for key, value in settings.items() for word in ("--override", f"{key}={value}")]
    return {"serve": [binary, "server", *overrides], "format": None, "env": {}}


def kafka_spec(state, jars, ports):
    """Apache Kafka as one combined node: the reference that the suites are written against."""
    settings = SETTINGS | {
        "process.roles": "broker,controller",
        "node.id": "1",
        "controller.quorum.voters": f"1@127.0.0.1:{ports[1]}",
        "listeners": f"PLAINTEXT://127.0.0.1:{ports[0]},CONTROLLER://127.0.0.1:{ports[1]}",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{ports[0]}",
        "controller.listener.names": "CONTROLLER",
        "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
        "log.dirs": str(state / "data"),
        "transaction.state.log.replication.factor": "1",
        "transaction.state.log.min.isr": "1",
        "transaction.state.log.num.partitions": "2",
        "share.coordinator.state.topic.replication.factor": "1",
        "share.coordinator.state.topic.min.isr": "1",
        "broker.heartbeat.interval.ms": "300",  # after kill -9, KRaft fences until the session ends
        "broker.session.timeout.ms": "1500",
    }
    config = state / "server.properties"
    config.write_text("".join(f"{key}={value}\n" for key, value in settings.items()))
    java = ["java", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
    cluster_id = "4L6g3nShT-eMCtK--X86sw"
    return {
        "serve": [*java, "kafka.Kafka", str(config)],
        "format": [*java, "kafka.tools.StorageTool", "format", "-t", cluster_id, "-c", str(config)],
        "env": {"CLASSPATH": f"{jars}/*"},
    }


class Broker:
    """The broker of one state folder."""

    def __init__(self, state):
        self.state = pathlib.Path(state)

    @classmethod
    def create(cls, state, *, ottla=None, kafka_jars=None):
        """A fresh broker with an empty data folder, not yet started."""
        broker = cls(state)
        shutil.rmtree(state, ignore_errors=True)
        broker.state.mkdir(parents=True)
        ports = free_ports(2)
        if kafka_jars:
            spec = kafka_spec(broker.state, kafka_jars, ports)
        else:
            spec = ottla_spec(broker.state, ottla, ports)
        spec["bootstrap"] = f"127.0.0.1:{ports[0]}"
        broker._file("spec.json").write_text(json.dumps(spec, indent=1))
        if spec["format"]:
            with broker._file("log").open("ab") as log:
                subprocess.run(spec["format"], env=broker._env(), stdout=log, stderr=log, check=True)
        return broker

    def _file(self, name):
        return self.state / name

    @property
    def spec(self):
        return json.loads(self._file("spec.json").read_text())

    @property
    def bootstrap(self):
        return self.spec["bootstrap"]

    @property
    def pid(self):
        return int(self._file("pid").read_text())

    def _env(self):
        return os.environ | self.spec["env"] | {"STATE": str(self.state)}

    def running(self):
        return self._file("pid").exists() and not self._file("rc").exists()

    def start(self):
        """Starts the broker and waits until it answers ApiVersions."""
        if self.running():
            raise BrokerError("the broker runs already")
        for name in ("pid", "rc"):
            self._file(name).unlink(missing_ok=True)
        subprocess.Popen(
            ["sh", "-c", SUPERVISE, "sh", *self.spec["serve"]],
            env=self._env(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._wait_ready()

    def _wait_ready(self):
        deadline = time.monotonic() + READY_TIMEOUT_S
        while time.monotonic() < deadline:
            if self._file("rc").exists():
                raise BrokerError(f"the broker ended with code {self.exit_code()} at start:\n{self.log_tail()}")
            try:
                wire.api_versions(self.bootstrap)
                return
            except (OSError, wire.WireError):
                time.sleep(0.02)
        raise BrokerError(f"no answer to ApiVersions within {READY_TIMEOUT_S} s:\n{self.log_tail()}")

    def _signal(self, number):
        os.kill(self.pid, number)
        deadline = time.monotonic() + STOP_TIMEOUT_S
        while not self._file("rc").exists():
            if time.monotonic() > deadline:
                os.kill(self.pid, signal.SIGKILL)
                raise BrokerError(f"the broker still ran {STOP_TIMEOUT_S} s after signal {number}")
            time.sleep(0.01)
        return self.exit_code()

    def exit_code(self):
        return int(self._file("rc").read_text())

    def stop(self):
        """SIGTERM; a broker that does not then exit with 0 is an error. (A JVM exits with 143.)"""
        code = self._signal(signal.SIGTERM)
        expected = 143 if self.spec["format"] else 0
        if code != expected:
            raise BrokerError(f"the broker exited with {code} after SIGTERM:\n{self.log_tail()}")

    def kill9(self):
        self._signal(signal.SIGKILL)

    def log_tail(self, lines=15):
        return "\n".join(self._file("log").read_text(errors="replace").splitlines()[-lines:])
