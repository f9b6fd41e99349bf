"""The rendered worker beside a rendered broker: its command line, files, Secrets, rights and probes."""

import json

import pytest

from harness import chart
from harness.pod import Pod, Worker, isolated
from harness.ports import wait_for

pytestmark = pytest.mark.skipif(not isolated(), reason="a container of its own needs root")

SINK = {
    "connector.class": "io.confluent.connect.s3.S3SinkConnector",
    "topics": "payments",
    "s3.bucket.name": "archive",
    "store.url": "http://127.0.0.1:1",
    "format.class": "io.confluent.connect.s3.format.bytearray.ByteArrayFormat",
    "value.converter": "org.apache.kafka.connect.converters.ByteArrayConverter",
    "flush.size": 1_000_000,
    "aws.access.key.id": "${directory:/etc/ottla-connect/secrets/s3:id}",
    "aws.secret.access.key": "${env:S3_SECRET}",
}
VALUES = {
    "replicas": 1,
    "connect": {
        "enabled": True,
        "connectors": {"archive": SINK},
        "connectorFiles": [{"name": "of-another-team", "key": "audit.json"}],
        "secrets": ["s3"],
        "secretVariables": {"S3_SECRET": {"name": "s3", "key": "secret"}},
    },
}
AUDIT = {"name": "audit", "config": {**SINK, "flush.size": "1000000"}}
SECRETS = {("s3", "id"): "somebody", ("s3", "secret"): "hunter2"}


def test_connectors_run_from_values_and_config_maps(tmp_path):
    tmp_path.chmod(0o755)
    objects = chart.render(VALUES)
    broker = Pod(objects, tmp_path / "broker")
    worker = Worker(objects, tmp_path / "worker", broker, secrets=SECRETS,
                    config_maps={"of-another-team": {"audit.json": json.dumps(AUDIT)}})
    try:
        broker.start()
        broker.wait()
        broker.kcat("-P", "-t", "payments", data="a payment\n" * 10)
        worker.start()
        worker.wait("startupProbe")
        worker.wait()
        assert worker.probe("livenessProbe")

        def get(path):
            return json.loads(worker.get(path, "rest")[1])

        assert get("/connectors") == ["archive", "audit"]
        for name in ("archive", "audit"):
            line = f'ottla_connect_task_records_total{{connector="{name}",task="0"}} 10'
            wait_for("all records", lambda line=line: line in worker.get("/metrics", "rest")[1])
            status = get(f"/connectors/{name}/status")
            assert [task["state"] for task in status["tasks"]] == ["RUNNING"]
            assert status["connector"]["worker_id"] == "127.0.0.1:8083"
            shown = get(f"/connectors/{name}/config")
            assert shown["flush.size"] == "1000000", "a float in helm's hands"
            assert "hunter2" not in json.dumps(shown)
        assert worker.terminate() == 0
        assert "hunter2" not in worker.log.read_text()
    finally:
        worker.close()
        broker.close()


def test_a_wrong_connector_ends_the_worker_by_name(tmp_path):
    tmp_path.chmod(0o755)
    wrong = {"connect": {"enabled": True, "connectors": {"archive": {**SINK, "flsh.size": 3, "aws.access.key.id": "x", "aws.secret.access.key": "x"}}}}
    objects = chart.render({"replicas": 1} | wrong)
    broker = Pod(objects, tmp_path / "broker")
    worker = Worker(objects, tmp_path / "worker", broker, secrets={}, config_maps={})
    try:
        broker.start()
        broker.wait()
        worker.start()
        assert worker.process.wait(60) != 0
        assert "flsh.size" in worker.tail()
    finally:
        worker.close()
        broker.close()
