"""Renders the chart."""

import pathlib
import shutil
import subprocess

import yaml

from harness import tools

CHART = tools.ROOT / "deploy" / "helm" / "ottla"
SUPPORTED = '{{- define "ottla.supported.replicas" -}}1{{- end -}}'
NAMESPACE = "events"


class Refused(Exception):
    """helm did not take the values; the text is helm's."""


def helm(*arguments, values=None):
    # --values - reads standard input.
    command = [str(tools.helm()), *arguments] + (["--values", "-"] if values else [])
    done = subprocess.run(
        command, input=yaml.safe_dump(values) if values else "", text=True, capture_output=True, timeout=60
    )
    if done.returncode:
        raise Refused(done.stderr + done.stdout)
    return done.stdout


def render(values=None, *, chart=CHART, release="ottla"):
    """All objects, by (kind, name)."""
    text = helm("template", release, str(chart), "--namespace", NAMESPACE, values=values)
    objects = [found for found in yaml.safe_load_all(text) if found]
    by_name = {(found["kind"], found["metadata"]["name"]): found for found in objects}
    assert len(by_name) == len(objects), "two objects share a name"
    return by_name


def notes(values=None):
    text = helm("install", "ottla", str(CHART), "--namespace", NAMESPACE, "--dry-run=client", values=values)
    return text.split("NOTES:\n")[1]


def for_clusters(folder):
    """A copy of the chart as it will be once several brokers form a cluster: one line is another."""
    copy = pathlib.Path(folder) / "ottla"
    if not copy.exists():
        shutil.copytree(CHART, copy)
        file = copy / "templates" / "_supported.tpl"
        text = file.read_text()
        if SUPPORTED in text:
            file.write_text(text.replace(SUPPORTED, SUPPORTED.replace("1", "1 3 5")))
    return copy


def properties(objects, index=0, name="ottla"):
    """server.properties of one broker, as a dict; no key twice."""
    text = objects["ConfigMap", name]["data"][f"{name}-{index}.properties"]
    pairs = [line.split("=", 1) for line in text.splitlines() if line]
    assert len({key for key, _ in pairs}) == len(pairs), "a key is set twice"
    return dict(pairs)


def container(objects, name="ottla"):
    (only,) = objects["StatefulSet", name]["spec"]["template"]["spec"]["containers"]
    return only
