"""Wrong values are refused, by name, before anything is installed."""

import subprocess
import sys

import pytest

from harness import chart, tools

# (values, what helm says)
WRONG = [
    ({"replicas": 2}, "replicas: 2 brokers in a cluster are not supported by this release, only 1 or 3 or 5"),
    ({"replicas": 0}, "'/replicas'"),
    ({"replcas": 1}, "'replcas' not allowed"),
    ({"config": {"num.partitons": 3}}, "'num.partitons' not allowed"),
    ({"config": {"num.partitions": "many"}}, "'/config/num.partitions': got string, want integer"),
    ({"config": {"num.partitions": 0}}, "'/config/num.partitions': minimum"),
    ({"config": {"compression.type": "zstd"}}, "'/config/compression.type'"),
    ({"config": {"log.retention.bytes": 1 << 62}}, "config.log.retention.bytes: put a number this large in quotes"),
    ({"config": {"log.cleanup.policy": "a\nb"}}, "config.log.cleanup.policy: a value is one line"),
    ({"config": {"ssl.keystore.location": "/x"}}, "'ssl.keystore.location' not allowed"),
    ({"config": {"node.id": 4}}, "config.node.id: the chart sets it, from the pod's number"),
    ({"config": {"log.dirs": "/data"}}, "config.log.dirs: the chart sets it, from persistence"),
    ({"configFromSecrets": {"node.id": {"name": "s", "key": "k"}}}, "config.node.id: the chart sets it"),
    ({"configFromSecrets": {"num.partitions": {"name": "s"}}}, "missing property 'key'"),
    ({"resources": {"limits": {"memory": "256Mi"}}}, "resources.limits.memory: 75% of it are 201326592 bytes"),
    ({"resources": {"limits": {"memory": "2GB"}}}, "'/resources/limits/memory'"),
    ({"resources": {"limits": {"memory": None}}}, "resources.limits.memory: Ottla's memory budget is a share of it"),
    ({"memory": {"budgetPercent": 100}}, "'/memory/budgetPercent'"),
    ({"persistence": {"size": "big"}}, "'/persistence/size'"),
    ({"persistence": {"whenDeleted": "delete"}}, "'/persistence/whenDeleted'"),
    ({"ports": {"metrics": 9092}}, "ports: each must be another number"),
    ({"ports": {"kafka": 80}}, "'/ports/kafka'"),
    ({"externalAccess": {"enabled": True}}, "externalAccess.host: say under what name"),
    ({"externalAccess": {"type": "Ingress"}}, "'/externalAccess/type'"),
    ({"externalAccess": {"host": "kafka-{number}.example.com"}}, "'/externalAccess/host'"),
    ({"spread": {"nodes": "maybe"}}, "'/spread/nodes'"),
    ({"image": {"digest": "sha256:abc"}}, "'/image/digest'"),
    ({"shutdown": {"graceSeconds": 10}}, "'/shutdown/graceSeconds'"),
    ({"connect": {"enabled": True}}, "connect.connectors: a worker without connectors does nothing"),
    ({"connect": {"connectors": {"Archive": {}}}}, "invalid propertyName 'Archive'"),
    ({"connect": {"connectors": {"archive": {"topics": ["a"]}}}}, "'/connect/connectors/archive/topics'"),
    (
        {"connect": {"enabled": True, "connectors": {"a": {"flush.size": 1 << 62}}}},
        "connect.connectors.a.flush.size: put a number this large in quotes",
    ),
    (
        {"connect": {"enabled": True, "connectors": {"a": {}}, "config": {"listeners": "x"}}},
        "connect.config.listeners: the chart sets it, from connect.port",
    ),
    ({"connect": {"secretVariables": {"A-B": {"name": "s", "key": "k"}}}}, "invalid propertyName 'A-B'"),
]


@pytest.mark.parametrize("values, message", WRONG, ids=[str(values) for values, _ in WRONG])
def test_refused_by_name(values, message):
    with pytest.raises(chart.Refused) as refused:
        chart.render(values)
    assert message in str(refused.value)


def test_several_load_balancers_need_several_names():
    values = {"replicas": 3, "externalAccess": {"enabled": True, "type": "LoadBalancer", "host": "one.example.com"}}
    with pytest.raises(chart.Refused, match="externalAccess.host: several load balancers need several names"):
        chart.render(values)


@pytest.mark.parametrize("generator", ["schema", "dashboards"])
def test_what_is_generated_is_current(generator):
    subprocess.run([sys.executable, tools.ROOT / "deploy" / "helm" / generator, "--check"], check=True)
