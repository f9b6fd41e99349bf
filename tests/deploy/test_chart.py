"""The chart renders objects that Kubernetes takes, and that fit together, over a matrix of values."""

import itertools

import kubernetes_validate
import pytest

from harness import chart

EXTERNAL = {"enabled": True, "host": "kafka-{index}.example.com"}
MONITORING = {"serviceMonitor": {"enabled": True}, "rules": {"enabled": True}, "dashboards": {"enabled": True}}
OPERATOR_KINDS = {"ServiceMonitor", "PrometheusRule"}

# Each is tried alone and with each other.
VALUES = {
    "external-nodeport": {"externalAccess": EXTERNAL},
    "external-loadbalancer": {
        "externalAccess": EXTERNAL
        | {
            "type": "LoadBalancer",
            "annotations": {"external-dns.alpha.kubernetes.io/hostname": "{host}"},
            "sourceRanges": ["10.0.0.0/8"],
            "loadBalancerClass": "service.k8s.aws/nlb",
        }
    },
    "monitoring": {"monitoring": MONITORING},
    "placement": {
        "spread": {"nodes": "required", "zones": "DoNotSchedule"},
        "nodeSelector": {"disk": "nvme"},
        "tolerations": [{"key": "events", "operator": "Exists", "effect": "NoSchedule"}],
        "priorityClassName": "high",
    },
    "config": {
        "config": {"num.partitions": 6, "log.retention.bytes": 1 << 40, "log.cleanup.policy": "compact,delete"},
        "configFromSecrets": {"log.retention.hours": {"name": "s", "key": "k"}},
        "logLevels": "info,ottla_log=debug",
    },
    "names": {
        "fullnameOverride": "events-of-our-department-in-the-north",
        "podLabels": {"team": "payments"},
        "podAnnotations": {"a": "b"},
        "imagePullSecrets": ["registry"],
        "image": {"repository": "registry.example.com/ottla", "digest": "sha256:" + "0" * 64},
        "serviceAccount": {"annotations": {"eks.amazonaws.com/role-arn": "arn:aws:iam::1:role/ottla"}},
    },
    "little": {
        "networkPolicy": {"enabled": False},
        "serviceAccount": {"create": False},
        "rack": {"podLabel": ""},
        "spread": {"nodes": "none", "zones": "none"},
        "shutdown": {"sleepSeconds": 0},
    },
    "connect": {
        "connect": {
            "enabled": True,
            "replicas": 2,
            "connectors": {"archive": {"connector.class": "S3SinkConnector", "topics": "payments", "flush.size": 1000}},
            "connectorFiles": [{"name": "theirs", "key": "audit.json"}],
            "secrets": ["s3"],
            "secretVariables": {"S3_SECRET": {"name": "s3", "key": "secret"}},
            "clients": [{"podSelector": {"matchLabels": {"app": "prometheus"}}}],
            "logLevels": "debug",
            "serviceAccount": {"annotations": {"eks.amazonaws.com/role-arn": "arn:aws:iam::1:role/archive"}},
        }
    },
    "closed": {
        "networkPolicy": {
            "clients": [{"namespaceSelector": {"matchLabels": {"team": "payments"}}}],
            "metrics": [{"podSelector": {"matchLabels": {"app": "prometheus"}}}],
        },
        "persistence": {"size": "1Ti", "storageClass": "fast", "whenScaled": "Delete", "annotations": {"backup": "daily"}},
    },
}
ALONE = [{}] + [{a: VALUES[a]} for a in VALUES]
PAIRS = [{a: VALUES[a], b: VALUES[b]} for a, b in itertools.combinations(VALUES, 2)]


def merged(parts):
    values = {}
    for part in parts.values():
        values |= part
    return values


@pytest.mark.parametrize("parts", ALONE, ids=lambda parts: "+".join(parts) or "default")
def test_kubernetes_takes_one_broker(parts):
    check(chart.render(merged(parts)))


@pytest.mark.parametrize("parts", ALONE + PAIRS, ids=lambda parts: "+".join(parts) or "default")
def test_kubernetes_takes_three_brokers(parts):
    check(chart.render(merged(parts) | {"replicas": 3}))


def check(objects):
    for (kind, name), found in objects.items():
        if kind not in OPERATOR_KINDS:
            kubernetes_validate.validate(found, "1.37", strict=True)
        assert len(name) <= 63
    workers = {key: found for key, found in objects.items() if is_of_workers(found)}
    check_fit({key: found for key, found in objects.items() if key not in workers})
    if workers:
        check_workers_fit(workers, objects)


def is_of_workers(found):
    return found["metadata"]["labels"]["app.kubernetes.io/name"].endswith("-connect")


def check_workers_fit(workers, objects):
    ((_, name),) = [key for key in workers if key[0] == "Deployment"]
    template = workers["Deployment", name]["spec"]["template"]
    labels, pod = template["metadata"]["labels"], template["spec"]
    (container,) = pod["containers"]
    selectors = [
        found["spec"].get("podSelector", found["spec"].get("selector", {})) for found in workers.values() if "spec" in found
    ]
    for selector in selectors:
        assert selector.get("matchLabels", selector).items() <= labels.items()
    (brokers,) = [found["spec"]["selector"]["matchLabels"] for (kind, _), found in objects.items() if kind == "StatefulSet"]
    assert not brokers.items() <= labels.items(), "no Service or budget of brokers takes a worker for one"
    assert ("ServiceAccount", pod["serviceAccountName"]) in workers
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}
    folders = [mount["mountPath"] for mount in container["volumeMounts"]]
    assert len(set(folders)) == len(folders)
    files = set(workers["ConfigMap", name]["data"])
    for word in container["args"][1:]:
        folder, file = word.rsplit("/", 1)
        assert word in folders or (folder in folders and file in files)
    assert container["securityContext"]["readOnlyRootFilesystem"] and pod["automountServiceAccountToken"] is False


def check_fit(objects):
    """Selectors select, named ports exist, what is referred to is there."""
    (stateful,) = [found for (kind, _), found in objects.items() if kind == "StatefulSet"]
    spec = stateful["spec"]
    pod = spec["template"]["spec"]
    labels = spec["template"]["metadata"]["labels"]
    name = stateful["metadata"]["name"]
    pods = [f"{name}-{i}" for i in range(spec["replicas"])]
    ports = {port["name"] for port in pod["containers"][0]["ports"]}

    def selects(selector):
        own = {key: value for key, value in selector.items() if key != "statefulset.kubernetes.io/pod-name"}
        wanted = selector.get("statefulset.kubernetes.io/pod-name")
        return own.items() <= labels.items() and wanted in [None, *pods]

    assert selects(spec["selector"]["matchLabels"])
    assert ("Service", spec["serviceName"]) in objects
    account = pod["serviceAccountName"]
    assert account == "default" or ("ServiceAccount", account) in objects
    assert list(objects["ConfigMap", name]["data"]) == [f"{pod}.properties" for pod in pods]
    for (kind, _), found in objects.items():
        if kind == "Service":
            assert selects(found["spec"]["selector"])
            assert {port["targetPort"] for port in found["spec"]["ports"]} <= ports
        elif kind == "NetworkPolicy":
            assert selects(found["spec"]["podSelector"]["matchLabels"])
            named = {port["port"] for rule in found["spec"]["ingress"] for port in rule["ports"]}
            assert named == ports, "every port is let in, and no other"
        elif kind in {"PodDisruptionBudget", "ServiceMonitor"}:
            assert selects(found["spec"]["selector"]["matchLabels"])
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert pod["containers"][0][probe]["httpGet"]["port"] in ports


def test_the_default_is_safe():
    objects = chart.render()
    pod = objects["StatefulSet", "ottla"]["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] and pod["securityContext"]["runAsUser"] > 0
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    inner = chart.container(objects)["securityContext"]
    assert inner["readOnlyRootFilesystem"] and not inner["allowPrivilegeEscalation"]
    assert inner["capabilities"] == {"drop": ["ALL"]}
    assert pod["automountServiceAccountToken"] is False
    assert pod["enableServiceLinks"] is False
    grace = pod["terminationGracePeriodSeconds"]
    assert grace >= chart.container(objects)["lifecycle"]["preStop"]["sleep"]["seconds"] + 30


def test_budget_of_disruption_only_with_several():
    assert ("PodDisruptionBudget", "ottla") not in chart.render({"replicas": 1})
    three = chart.render({"replicas": 3})
    assert three["PodDisruptionBudget", "ottla"]["spec"]["maxUnavailable"] == 1


def test_three_brokers_know_each_other():
    objects = chart.render({"replicas": 3, "externalAccess": EXTERNAL})
    files = [chart.properties(objects, index) for index in range(3)]
    voters = ",".join(f"{i}@ottla-{i}.ottla-headless.events.svc.cluster.local:9093" for i in range(3))
    for index, file in enumerate(files):
        assert file["node.id"] == str(index)
        assert file["controller.quorum.voters"] == voters
        assert file["default.replication.factor"] == file["offsets.topic.replication.factor"] == "3"
        assert file["advertised.listeners"] == (
            f"PLAINTEXT://ottla-{index}.ottla-headless.events.svc.cluster.local:9092,"
            f"EXTERNAL://kafka-{index}.example.com:{31090 + index}"
        )
        service = objects["Service", f"ottla-{index}-external"]["spec"]
        assert service["ports"][0]["nodePort"] == 31090 + index
        assert service["selector"]["statefulset.kubernetes.io/pod-name"] == f"ottla-{index}"
    different = {key for key in files[0] if len({file[key] for file in files}) > 1}
    assert different == {"node.id", "advertised.listeners"}


def test_external_load_balancers():
    values = VALUES["external-loadbalancer"] | {"replicas": 3}
    objects = chart.render(values)
    service = objects["Service", "ottla-2-external"]
    assert service["metadata"]["annotations"] == {"external-dns.alpha.kubernetes.io/hostname": "kafka-2.example.com"}
    assert service["spec"]["loadBalancerSourceRanges"] == ["10.0.0.0/8"]
    assert chart.properties(objects, 2)["advertised.listeners"].endswith(",EXTERNAL://kafka-2.example.com:9094")


@pytest.mark.parametrize(
    "limit, percent, bytes_", [("2Gi", 75, 1610612736), ("4000M", 50, 2000000000), ("1Ti", 80, 879609302220), (3 << 30, 75, 2415919104)]
)
def test_memory_budget(limit, percent, bytes_):
    objects = chart.render({"resources": {"limits": {"memory": limit}}, "memory": {"budgetPercent": percent}})
    assert chart.properties(objects)["ottla.memory.bytes"] == str(bytes_)


def test_a_new_config_rolls_the_pods():
    def checksum(values=None):
        pod = chart.render(values)["StatefulSet", "ottla"]["spec"]["template"]
        return pod["metadata"]["annotations"]["checksum/config"]

    assert checksum() == checksum()
    assert checksum() != checksum({"config": {"num.partitions": 2}})


def test_values_become_properties():
    config = {
        "num.partitions": 1_000_000,  # a float in helm's hands
        "log.retention.bytes": "9223372036854775807",
        "auto.create.topics.enable": False,
        "log.cleaner.min.cleanable.ratio": 0.25,
        "default.replication.factor": 1,
    }
    found = chart.properties(chart.render({"config": config}))
    assert {key: found[key] for key in config} == {
        "num.partitions": "1000000",
        "log.retention.bytes": "9223372036854775807",
        "auto.create.topics.enable": "false",
        "log.cleaner.min.cleanable.ratio": "0.25",
        "default.replication.factor": "1",
    }


def test_secrets_are_referred_to():
    objects = chart.render({"configFromSecrets": {"log.retention.hours": {"name": "kept", "key": "hours"}}})
    variable = {v["name"]: v for v in chart.container(objects)["env"]}["KAFKA_LOG_RETENTION_HOURS"]
    assert variable["valueFrom"] == {"secretKeyRef": {"name": "kept", "key": "hours"}}


def test_scraped_metrics_have_the_labels_of_rules_and_dashboards():
    monitor = chart.render({"monitoring": MONITORING})["ServiceMonitor", "ottla"]["spec"]
    (endpoint,) = monitor["endpoints"]
    labels = {found["targetLabel"]: found["replacement"] for found in endpoint["relabelings"]}
    assert labels == {"job": "ottla", "ottla_cluster": "events/ottla"}
    services = {name: found["spec"]["ports"] for (kind, name), found in chart.render().items() if kind == "Service"}
    scraped = [name for name, ports in services.items() if endpoint["port"] in {port["name"] for port in ports}]
    assert scraped == ["ottla-headless"], "each broker once"


def test_notes_say_where_and_how():
    text = chart.notes({"externalAccess": EXTERNAL})
    assert "ottla.events.svc.cluster.local:9092" in text
    assert "kafka-0.example.com:31090" in text
    assert "-t greetings -P" in text and "-t greetings -C" in text


def test_lint():
    chart.helm("lint", "--strict", str(chart.CHART))
