"""Dashboards and alerts ask only for what a running Ottla exports, and every alert fires when it should."""

import json
import re
import subprocess

import pytest
import yaml

from harness import chart, tools
from harness.prometheus import ALERTS, CLUSTER, Broker, Load, Prometheus, Worker, exported

DASHBOARDS = sorted((chart.CHART / "files" / "dashboards").glob("*.json"))
RUNBOOKS = tools.ROOT / "docs" / "runbooks"
RULES = [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]
METRIC = re.compile(r"\b(?:ottla|kafka)_[a-z0-9_]+\b")
LABELS = {"ottla_cluster"}
# Panels of what a healthy broker has none of: their queries return nothing here.
SILENT = {"Partitions answered with an error"}


def panels():
    for file in DASHBOARDS:
        for panel in json.loads(file.read_text())["panels"]:
            for target in panel["targets"]:
                yield pytest.param(panel["title"], target["expr"], id=f"{file.stem}-{panel['title']}-{target['refId']}")


def metrics_of(expression):
    return set(METRIC.findall(re.sub(r'"[^"]*"', '""', expression))) - LABELS


@pytest.fixture(scope="session")
def broker(tmp_path_factory):
    broker = Broker(tmp_path_factory.mktemp("broker"))
    try:
        broker.start()
        load = Load(broker)
        load.start()
        yield broker
        load.stop()
    finally:
        broker.stop()


@pytest.fixture(scope="session")
def worker(broker, tmp_path_factory):
    worker = Worker(tmp_path_factory.mktemp("worker"), broker)
    try:
        worker.start()
        yield worker
    finally:
        worker.stop()


@pytest.fixture(scope="session")
def known(broker, worker):
    """Names of the metrics that broker and worker export."""
    return lambda: exported(broker.metrics) | exported(worker.rest)


@pytest.fixture(scope="session")
def prometheus(broker, worker, tmp_path_factory):
    jobs = {"ottla": broker.metrics, "ottla-connect": worker.rest}
    prometheus = Prometheus(tmp_path_factory.mktemp("prometheus"), jobs)
    try:
        prometheus.start()
        yield prometheus
    finally:
        prometheus.stop()


def as_grafana_sends(expression):
    values = {"$cluster": CLUSTER, "$topic": "payments", "$__rate_interval": "1m"}
    for variable, value in values.items():
        expression = expression.replace(variable, value)
    assert "$" not in expression, "a variable that no dashboard has"
    return expression


@pytest.mark.parametrize("title, expression", list(panels()))
def test_panel(prometheus, known, title, expression):
    unknown = metrics_of(expression) - known()
    assert not unknown or title in SILENT
    found = prometheus.query(as_grafana_sends(expression))
    assert found or title in SILENT


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_alert_asks_for_what_there_is(prometheus, known, rule):
    assert not metrics_of(rule["expr"]) - known()
    prometheus.query(rule["expr"])


def test_a_healthy_broker_raises_no_alert(prometheus):
    groups = prometheus.get("rules")["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    assert {rule["name"] for rule in rules} == {rule["alert"] for rule in RULES}
    assert [rule["name"] for rule in rules if rule["health"] not in {"ok", "unknown"}] == []
    # A trend over the first few seconds may be pending.
    assert [rule["name"] for rule in rules if rule["state"] == "firing"] == []


def test_variables_of_dashboards_find_something(prometheus):
    for file in DASHBOARDS:
        for variable in json.loads(file.read_text())["templating"]["list"]:
            if variable["type"] != "query":
                continue
            selector, label = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"]["query"]).groups()
            found = prometheus.get(f"label/{label}/values", **{"match[]": as_grafana_sends(selector)})
            assert found


def test_alerts_fire_when_they_should(tmp_path):
    script = (tools.HERE / "alerts.test.yaml").read_text()
    tested = [check for case in yaml.safe_load(script)["tests"] for check in case["alert_rule_test"]]
    for rule in RULES:
        mine = [check["exp_alerts"] for check in tested if check["alertname"] == rule["alert"]]
        assert [] in mine and any(mine), f"{rule['alert']}: one case in which it fires, and one in which it does not"
    file = tmp_path / "alerts.test.yaml"
    file.write_text(script.replace("@ALERTS@", str(ALERTS)))
    promtool = tools.prometheus() / "promtool"
    for arguments in (["check", "rules", ALERTS], ["test", "rules", file]):
        done = subprocess.run([promtool, *arguments], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr


def test_each_alert_has_a_runbook_and_each_runbook_an_alert():
    for rule in RULES:
        assert rule["annotations"]["runbook_url"] == f"docs/runbooks/{rule['alert']}.md"
        text = (RUNBOOKS / f"{rule['alert']}.md").read_text()
        assert text.startswith(f"# {rule['alert']}\n")
        assert [title for title in ("## Means", "## Look", "## Do") if title not in text] == []
    assert {page.stem for page in RUNBOOKS.glob("*.md")} == {rule["alert"] for rule in RULES} | {"README"}


def test_pages_speak_of_metrics_that_exist():
    """docs/metrics.md is held against the endpoint by tests/telemetry.rs, the worker's in docs/connect.md here."""
    known = {name for page in ("metrics.md", "connect.md") for name in METRIC.findall((tools.ROOT / "docs" / page).read_text())}
    for page in [*RUNBOOKS.glob("*.md"), tools.ROOT / "docs" / "operations.md"]:
        named = set(re.findall(r"`((?:ottla|kafka)_[a-z0-9_]+)", page.read_text())) - LABELS
        assert not named - known, page.name


def test_a_workers_metrics_are_as_documented(prometheus, worker):
    told = set(METRIC.findall((tools.ROOT / "docs" / "connect.md").read_text().split("## Metrics")[1].split("\n## ")[0]))
    assert told == exported(worker.rest)


def test_dashboards_are_what_grafana_expects():
    uids = set()
    for file in DASHBOARDS:
        board = json.loads(file.read_text())
        assert board["uid"] not in uids
        uids.add(board["uid"])
        names = {variable["name"] for variable in board["templating"]["list"]}
        taken = set()
        for panel in board["panels"]:
            assert panel["datasource"]["uid"] == "${datasource}" and "datasource" in names
            place = panel["gridPos"]
            cells = {(x, place["y"]) for x in range(place["x"], place["x"] + place["w"])}
            assert place["x"] + place["w"] <= 24 and not cells & taken, "panels overlap"
            taken |= cells
            used = set(re.findall(r"\$(\w+)", " ".join(target["expr"] for target in panel["targets"])))
            assert used - {"__rate_interval"} <= names


def test_rules_in_kubernetes_are_the_same():
    values = {"monitoring": {"rules": {"enabled": True, "runbookBase": "https://wiki.example.com/"}}}
    rendered = chart.render(values)["PrometheusRule", "ottla"]["spec"]["groups"]
    rules = [rule for group in rendered for rule in group["rules"]]
    assert [rule["expr"] for rule in rules] == [rule["expr"] for rule in RULES]
    assert rules[0]["annotations"]["runbook_url"] == f"https://wiki.example.com/{RULES[0]['alert']}.md"
    assert "{{ $labels.instance }}" in rules[0]["annotations"]["summary"]


def test_dashboards_in_kubernetes_are_the_same():
    objects = chart.render({"monitoring": {"dashboards": {"enabled": True}}})
    for file in DASHBOARDS:
        found = objects["ConfigMap", f"ottla-dashboard-{file.stem}"]
        assert json.loads(found["data"][file.name]) == json.loads(file.read_text())
        assert found["metadata"]["labels"]["grafana_dashboard"] == "1"
