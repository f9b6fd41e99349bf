"""Three brokers that form a cluster: one state folder each, `node-1` to `node-3`, in the cluster's folder."""

import concurrent.futures
import json
import pathlib
import shutil

from .broker import SETTINGS, Broker, free_ports

NODES = (1, 2, 3)
CLUSTER_SETTINGS = SETTINGS | {
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
        # Controllers that are no brokers.
        self.controllers = {}

    @classmethod
    def create(cls, state, binary, settings=None, controllers=(), racks=None):
        """Fresh brokers with empty data folders, not yet started. They are the controllers, if no others are named."""
        shutil.rmtree(state, ignore_errors=True)
        cluster = cls(state)
        cluster.binary, cluster.settings, cluster.racks = binary, CLUSTER_SETTINGS | (settings or {}), racks or {}
        ports = dict(zip(controllers or NODES, free_ports(len(controllers or NODES))))
        cluster.voters = ",".join(f"{node}@127.0.0.1:{port}" for node, port in ports.items())
        for node, port in ports.items():
            if controllers:
                cluster.controllers[node] = cluster._prepare(node, "controller", port)
        for node in NODES:
            roles = "broker" if controllers else "broker,controller"
            cluster.nodes[node] = cluster._prepare(node, roles, ports.get(node))
        return cluster

    def add(self, node):
        """One more broker, started."""
        self.nodes[node] = self._prepare(node, "broker", None)
        self.nodes[node].start()

    def _prepare(self, node, roles, controller_port):
        broker = Broker(self.state / f"node-{node}")
        broker.state.mkdir(parents=True)
        listeners, advertised = [], ""
        if "broker" in roles:
            advertised = f"PLAINTEXT://127.0.0.1:{free_ports(1)[0]}"
            listeners.append(advertised)
        if "controller" in roles:
            listeners.append(f"CONTROLLER://127.0.0.1:{controller_port}")
        settings = self.settings | {
            "process.roles": roles,
            "node.id": str(node),
            "controller.quorum.voters": self.voters,
            "listeners": ",".join(listeners),
            "log.dirs": str(broker.state / "data"),
        }
        if advertised:
            settings["advertised.listeners"] = advertised
        if node in self.racks:
            settings["broker.rack"] = self.racks[node]
        properties = broker.state / "server.properties"
        properties.write_text("".join(f"{key}={value}\n" for key, value in settings.items()))
        spec = {"serve": [self.binary, "server", str(properties)], "format": None, "env": {}}
        spec["bootstrap"] = listeners[0].partition("://")[2]
        (broker.state / "spec.json").write_text(json.dumps(spec, indent=1))
        return broker

    def all(self):
        return [*self.controllers.values(), *self.nodes.values()]

    @property
    def bootstrap(self):
        return ",".join(broker.bootstrap for broker in self.nodes.values())

    def running(self):
        return all(broker.running() for broker in self.all())

    def exit_code(self):
        return {node: broker.exit_code() for node, broker in self.nodes.items() if not broker.running()}

    def log_tail(self, lines=15):
        return "\n".join(f"node {node}:\n{broker.log_tail(lines)}" for node, broker in self.nodes.items())

    def _all(self, act, brokers):
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            list(pool.map(act, brokers))

    def start(self):
        self._all(Broker.start, [broker for broker in self.all() if not broker.running()])

    def stop(self):
        self._all(Broker.stop, self.all())

    def kill9(self):
        self._all(Broker.kill9, [broker for broker in self.all() if broker.running()])
