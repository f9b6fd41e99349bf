"""All pods of a rendered StatefulSet, each on a host of its own, and clients on one more beside them.

Hosts are network namespaces joined by a bridge; the headless Service's names are in everybody's /etc/hosts.
"""

import json
import pathlib
import subprocess
import sys
import time

from harness import chart
from harness.pod import Network, Pod
from harness.ports import wait_for

CLIENT = pathlib.Path(__file__).with_name("client.py")
DOMAIN = f"ottla-headless.{chart.NAMESPACE}.svc.cluster.local"
# RFC 2544's block for benchmarks, which no route leads to.
ADDRESS = "198.19.0.{}"
CLIENTS = 254


SET = """
import sys
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource
bootstrap, broker, key, value = sys.argv[1:]
entry = ConfigEntry(key, value, incremental_operation=AlterConfigOpType.SET)
resource = ConfigResource(ConfigResource.Type.BROKER, broker, incremental_configs=[entry])
admin = AdminClient({"bootstrap.servers": bootstrap})
for done in admin.incremental_alter_configs([resource]).values():
    done.result(60)
"""


def run(*command):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


class Cluster:
    def __init__(self, objects, folder):
        replicas = objects["StatefulSet", "ottla"]["spec"]["replicas"]
        names = {f"ottla-{i}.{DOMAIN}": ADDRESS.format(i + 1) for i in range(replicas)}
        self.bootstrap = ",".join(f"{name}:9092" for name in names)
        self.folder = pathlib.Path(folder)
        self.networks = []
        self.pods = []
        self.clients = self._network("clients", names)
        for command in ("link add bridge type bridge", f"addr add {ADDRESS.format(CLIENTS)}/24 dev bridge", "link set bridge up"):
            run(*self.clients.within("ip", *command.split()))
        for index in range(replicas):
            network = self._network(str(index), names)
            self._join(network, index)
            self.pods.append(Pod(objects, self.folder / str(index), index=index, network=network))

    def _network(self, name, names):
        (self.folder / name).mkdir()
        network = Network(self.folder / name, names)
        self.networks.append(network)
        return network

    def _join(self, network, index):
        port = f"pod{index}"
        here = self.clients.within
        run(*here("ip", "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", network.holder.pid, mount=False))
        run(*here("ip", "link", "set", port, "master", "bridge", "up"))
        for command in (f"addr add {ADDRESS.format(index + 1)}/24 dev eth0", "link set eth0 up"):
            run(*network.within("ip", *command.split()))

    def start(self):
        """All at once, as podManagementPolicy: Parallel has it."""
        for pod in self.pods:
            pod.start()
        for pod in self.pods:
            pod.wait("startupProbe")
            pod.wait()

    def roll(self, objects, when_ready):
        """As the StatefulSet's controller does: the highest first, the next once it has been ready for a while.
        `when_ready(pod)` must hold as soon as the pod says that it is."""
        for pod in reversed(self.pods):
            assert pod.terminate() == 0
            pod.update(objects)
            pod.start()
            pod.wait("startupProbe")
            pod.wait()
            assert when_ready(pod), f"{pod.name} is ready too early"
            self.wait_ready(pod)

    def wait_ready(self, pod):
        """Ready for minReadySeconds on end. The others are not looked at: the controller does not, either."""

        def is_steady():
            until = time.monotonic() + pod.stateful["minReadySeconds"]
            while pod.probe("readinessProbe"):
                if time.monotonic() > until:
                    return True
                time.sleep(pod.container["readinessProbe"]["periodSeconds"])
            return False

        wait_for("a pod that stays ready", is_steady)

    def kcat(self, *arguments, data=None):
        command = self.clients.within("kcat", "-b", self.bootstrap, *arguments)
        done = subprocess.run(command, input=data, text=True, capture_output=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def set_on_brokers(self, key, value):
        """A dynamic config of each broker."""
        for index in range(len(self.pods)):
            run(*self.clients.within(sys.executable, "-c", SET, self.bootstrap, index, key, value))

    def partitions(self, topic=None, *, asked=0):
        """What one broker says of the partitions of a topic, or of all."""
        command = self.clients.within("kcat", "-b", self.pods[asked].name + f".{DOMAIN}:9092", "-L", "-J")
        told = json.loads(subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout)
        return [partition for found in told["topics"] if topic in (None, found["topic"]) for partition in found["partitions"]]

    def close(self):
        for pod in self.pods:
            pod.kill()
        for network in self.networks:
            network.close()


class Load:
    """A producer and a consumer group of confluent-kafka, in a process on the clients' host."""

    def __init__(self, cluster, topic):
        command = cluster.clients.within(sys.executable, "-B", str(CLIENT), cluster.bootstrap, topic)
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        self.process = subprocess.Popen(command, **pipes)
        assert self.process.stdout.readline() == "both work\n", self.process.communicate()

    def finish(self):
        """What it has seen, once all that was sent is read."""
        out, errors = self.process.communicate(input="stop\n", timeout=120)
        assert self.process.returncode == 0, errors
        return json.loads(out)

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.communicate()
