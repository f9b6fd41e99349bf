"""A real Prometheus that scrapes a real Ottla, with some load on it."""

import json
import signal
import subprocess
import threading
import urllib.error
import urllib.parse
import urllib.request

import yaml

from harness import tools
from harness.chart import CHART
from harness.ports import free_ports, wait_for

ALERTS = CHART / "files" / "alerts.yaml"
CLUSTER = "events/ottla"
SCRAPES = 4


class Broker:
    """`ottla server` on loopback, in a folder."""

    def __init__(self, folder):
        self.folder = folder
        self.kafka, self.metrics = free_ports(2)

    def start(self):
        settings = {
            "listeners": f"PLAINTEXT://127.0.0.1:{self.kafka}",
            "log.dirs": str(self.folder / "data"),
            "ottla.metrics.listener": f"127.0.0.1:{self.metrics}",
            "offsets.topic.num.partitions": "2",
            "group.initial.rebalance.delay.ms": "0",
            "log.cleaner.backoff.ms": "200",
        }
        words = [word for key, value in settings.items() for word in ("--override", f"{key}={value}")]
        log = (self.folder / "ottla.log").open("wb")
        self.process = subprocess.Popen([tools.ottla(), "server", *words], stdout=log, stderr=log)
        wait_for("a broker that is ready", self.ready)

    def ready(self):
        try:
            return urllib.request.urlopen(f"http://127.0.0.1:{self.metrics}/health/ready", timeout=5).status == 200
        except OSError:
            return False

    def kcat(self, *arguments, data=None):
        command = ["kcat", "-b", f"127.0.0.1:{self.kafka}", *arguments]
        subprocess.run(command, input=data, text=True, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, timeout=60)

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)


class Worker:
    """`ottla connect-standalone` beside a broker, with a connector that has nothing to put yet."""

    def __init__(self, folder, broker):
        self.folder, self.broker = folder, broker
        (self.rest,) = free_ports(1)

    def start(self):
        bytes_ = "org.apache.kafka.connect.converters.ByteArrayConverter"
        files = {
            "worker": {
                "bootstrap.servers": f"127.0.0.1:{self.broker.kafka}",
                "key.converter": bytes_,
                "value.converter": bytes_,
                "listeners": f"http://127.0.0.1:{self.rest}",
                "offset.storage.file.filename": str(self.folder / "offsets"),
                "ottla.connect.spool.dir": str(self.folder / "spool"),
            },
            "archive": {
                "name": "archive",
                "connector.class": "io.confluent.connect.s3.S3SinkConnector",
                "topics": "payments",
                "s3.bucket.name": "archive",
                "store.url": "http://127.0.0.1:1",
                "format.class": "io.confluent.connect.s3.format.bytearray.ByteArrayFormat",
                "flush.size": "1000000000",
                "aws.access.key.id": "x",
                "aws.secret.access.key": "x",
            },
        }
        for name, keys in files.items():
            (self.folder / f"{name}.properties").write_text("".join(f"{key}={value}\n" for key, value in keys.items()))
        paths = [self.folder / f"{name}.properties" for name in files]
        log = (self.folder / "worker.log").open("wb")
        self.process = subprocess.Popen([tools.ottla(), "connect-standalone", *paths], stdout=log, stderr=log)
        wait_for("a worker", lambda: exported(self.rest, quietly=True))

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)


def exported(port, quietly=False):
    """Names of the metrics on a port."""
    try:
        text = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5).read().decode()
    except OSError:
        if quietly:
            return set()
        raise
    return {line.split("{")[0].split(" ")[0] for line in text.splitlines() if line and not line.startswith("#")}


class Load:
    """Produces and consumes in a group, again and again: every counter that moves, moves."""

    def __init__(self, broker):
        self.broker = broker
        self.ended = threading.Event()
        self.failure = None
        self.acknowledged = 0
        self.thread = threading.Thread(target=self._run)

    def _run(self):
        try:
            while not self.ended.is_set():
                self.broker.kcat("-t", "payments", "-P", "-X", "acks=all", data="a payment\n" * 100)
                self.acknowledged += 100
                self.broker.kcat("-G", "fraud", "-X", "auto.offset.reset=earliest", "-c", "10", "payments")
        except subprocess.SubprocessError as error:
            self.failure = error

    def start(self):
        self.thread.start()

    def stop(self):
        self.ended.set()
        self.thread.join()
        assert self.failure is None, self.failure


class Prometheus:
    """It scrapes by job: a dict of ports."""

    def __init__(self, folder, jobs):
        self.folder = folder
        (self.port,) = free_ports(1)
        config = {
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": [str(ALERTS)],
            "scrape_configs": [
                {
                    "job_name": job,
                    "static_configs": [{"targets": [f"127.0.0.1:{port}"], "labels": {"ottla_cluster": CLUSTER}}],
                }
                for job, port in jobs.items()
            ],
        }
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config))

    def start(self):
        log = (self.folder / "prometheus.log").open("wb")
        self.process = subprocess.Popen(
            [
                tools.prometheus() / "prometheus",
                f"--config.file={self.folder / 'prometheus.yml'}",
                f"--storage.tsdb.path={self.folder / 'tsdb'}",
                f"--web.listen-address=127.0.0.1:{self.port}",
            ],
            stdout=log, stderr=log, cwd=self.folder,
        )
        wait_for("scrapes", self.has_scraped)

    def has_scraped(self):
        try:
            found = self.query(f"count_over_time(kafka_server_brokertopicmetrics_bytesout_total{{topic='payments'}}[1m]) >= {SCRAPES}")
        except OSError:
            return False
        return bool(found)

    def get(self, path, **parameters):
        url = f"http://127.0.0.1:{self.port}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        try:
            text = urllib.request.urlopen(url, timeout=10).read()
        except urllib.error.HTTPError as error:
            if error.code == 503:  # it starts
                raise
            text = error.read()
        answer = json.loads(text)
        assert answer["status"] == "success", answer
        return answer["data"]

    def query(self, expression):
        return self.get("query", query=expression)["result"]

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)
