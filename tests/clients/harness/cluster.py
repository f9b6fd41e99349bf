"""Three brokers that form a cluster: one state folder each, `node-1` to `node-3`, in the cluster's folder."""

import concurrent.futures
import json
import pathlib
import shutil

from .broker import SETTINGS, Broker, free_ports

NODES = (1, 2, 3)
CLUSTER_SETTINGS = SETTINGS | {
    "process.roles": "broker,controller",
    "controller.listener.names": "CONTROLLER",
    "default.replication.factor": "3",
    "min.insync.replicas": "2",
    "offsets.topic.replication.factor": "3",
    "ottla.memory.bytes": str(256 << 20),
    "ottla.metrics.listener": "",
}


class Cluster:
    """The brokers of one folder. What a suite does to `the broker` is done to all of them at once."""

    def __init__(self, state):
        self.state = pathlib.Path(state)
        self.nodes = {node: Broker(self.state / f"node-{node}") for node in NODES}

    @classmethod
    def create(cls, state, binary):
        """Fresh brokers with empty data folders, not yet started."""
        shutil.rmtree(state, ignore_errors=True)
        cluster = cls(state)
        ports = free_ports(2 * len(NODES))
        clients, controllers = ports[: len(NODES)], ports[len(NODES) :]
        voters = ",".join(f"{node}@127.0.0.1:{port}" for node, port in zip(NODES, controllers))
        for node, port, controller in zip(NODES, clients, controllers):
            broker = cluster.nodes[node]
            broker.state.mkdir(parents=True)
            settings = CLUSTER_SETTINGS | {
                "node.id": str(node),
                "controller.quorum.voters": voters,
                "listeners": f"PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}",
                "advertised.listeners": f"PLAINTEXT://127.0.0.1:{port}",
                "log.dirs": str(broker.state / "data"),
            }
            properties = broker.state / "server.properties"
            properties.write_text("".join(f"{key}={value}\n" for key, value in settings.items()))
            spec = {"serve": [binary, "server", str(properties)], "format": None, "env": {}}
            spec["bootstrap"] = f"127.0.0.1:{port}"
            (broker.state / "spec.json").write_text(json.dumps(spec, indent=1))
        return cluster

    @property
    def bootstrap(self):
        return ",".join(broker.bootstrap for broker in self.nodes.values())

    def running(self):
        return all(broker.running() for broker in self.nodes.values())

    def exit_code(self):
        return {node: broker.exit_code() for node, broker in self.nodes.items() if not broker.running()}

    def log_tail(self, lines=15):
        return "\n".join(f"node {node}:\n{broker.log_tail(lines)}" for node, broker in self.nodes.items())

    def _all(self, act, brokers):
        with concurrent.futures.ThreadPoolExecutor(len(NODES)) as pool:
            list(pool.map(act, brokers))

    def start(self):
        self._all(Broker.start, [broker for broker in self.nodes.values() if not broker.running()])

    def stop(self):
        self._all(Broker.stop, self.nodes.values())

    def kill9(self):
        self._all(Broker.kill9, [broker for broker in self.nodes.values() if broker.running()])
