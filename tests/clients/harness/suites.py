"""The suites: what each runs, how long it may take, and how its results are counted."""

import dataclasses
import re
from typing import Callable

from . import cache

HERE = cache.HERE


@dataclasses.dataclass(frozen=True)
class Suite:
    """One client's suite. `command(bootstrap, folder)` installs what it needs and returns (argv, env)."""

    name: str
    limit_s: int
    command: Callable
    count: Callable
    # Of the cluster that it gets.
    brokers: int = 1


@dataclasses.dataclass(frozen=True)
class Count:
    passed: int
    failed: int
    not_run: int = 0


def count_pytest(output):
    closing = next((line for line in reversed(output.splitlines()) if re.search(r" in [\d.]+s", line)), "")

    def of(*words):
        return sum(int(n) for word in words for n in re.findall(rf"(\d+) {word}", closing))

    return Count(of("passed", "xfailed"), of("failed", "error", "xpassed", "skipped"), of("deselected"))


def count_closing_line(output):
    found = re.findall(r"^(\d+) passed, (\d+) failed(?:, (\d+) not run)?$", output, re.MULTILINE)
    return Count(*(int(n or 0) for n in found[-1])) if found else Count(0, 1)


def _pytest(*files, limit_s=60):
    def command(bootstrap, folder):
        argv = [str(cache.python()), "-m", "pytest", "-q", "-c", str(HERE / "python" / "pytest.ini")]
        argv += ["--rootdir", str(HERE / "python"), "-p", "no:cacheprovider", f"--timeout={limit_s}"]
        argv += [str(HERE / "python" / name) for name in files]
        return argv, {"PYTHONDONTWRITEBYTECODE": "1"}

    return command


def _kcat(bootstrap, folder):
    cache.need_programs({"kcat": "kcat"})
    return _pytest("test_kcat.py")(bootstrap, folder)


def _java_tools(bootstrap, folder):
    argv, env = _pytest("test_java_tools.py")(bootstrap, folder)
    return argv, env | {"JAVA_CLASS_PATH": f"{cache.java_classes()}:{cache.jars()}/*"}


def _java(bootstrap, folder):
    path = f"{cache.java_classes()}:{cache.jars()}/*"
    options = ["-Xmx256m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"]
    return ["java", *options, "-Dorg.slf4j.simpleLogger.defaultLogLevel=error", "-cp", path, "Suite"], {}


def _kafkajs(bootstrap, folder):
    modules = cache.node_modules() / "node_modules"
    return ["node", str(HERE / "kafkajs" / "suite.js")], {"NODE_PATH": str(modules), "KAFKAJS_NO_PARTITIONER_WARNING": "1"}


def _upstream_kafka_python(bootstrap, folder):
    script = HERE / "upstream" / "kafka-python" / "run"
    return [str(cache.python()), str(script), bootstrap, str(folder)], {"SDIST": str(cache.sdist("kafka-python==3.0.12"))}


SUITES = [
    Suite("cluster", 900, _pytest("cluster", limit_s=240), count_pytest, brokers=3),
    Suite("librdkafka", 240, _pytest("librdkafka"), count_pytest),
    Suite("kafka-python", 240, _pytest("kafka_python"), count_pytest),
    Suite("aiokafka", 240, _pytest("aiokafka_client"), count_pytest),
    Suite("kcat", 60, _kcat, count_pytest),
    Suite("kafkajs", 240, _kafkajs, count_closing_line),
    Suite("java", 240, _java, count_closing_line),
    Suite("java-tools", 240, _java_tools, count_pytest),
    Suite("upstream-kafka-python", 300, _upstream_kafka_python, count_closing_line),
]
