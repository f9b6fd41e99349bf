"""Kafka's own command-line tools, unchanged, in one warm JVM (java/ToolHost.java)."""

import base64
import json
import os
import re
import subprocess

import pytest
from conftest import BOOTSTRAP, BROKERS, REPLICAS, wait_for

TOOLS = "org.apache.kafka.tools."
CLASSES = {
    "topics": TOOLS + "TopicCommand",
    "console-producer": TOOLS + "ConsoleProducer",
    "console-consumer": TOOLS + "consumer.ConsoleConsumer",
    "consumer-groups": TOOLS + "consumer.group.ConsumerGroupCommand",
    "configs": "kafka.admin.ConfigCommand",
    "get-offsets": TOOLS + "GetOffsetShell",
    "delete-records": TOOLS + "DeleteRecordsCommand",
    "verifiable-producer": TOOLS + "VerifiableProducer",
    "verifiable-consumer": TOOLS + "VerifiableConsumer",
    "producer-perf-test": TOOLS + "ProducerPerformance",
    "consumer-perf-test": TOOLS + "ConsumerPerformance",
    "broker-api-versions": TOOLS + "BrokerApiVersionsCommand",
    "log-dirs": TOOLS + "LogDirsCommand",
    "cluster": TOOLS + "ClusterTool",
    "metadata-quorum": TOOLS + "MetadataQuorumCommand",
    "leader-election": TOOLS + "LeaderElectionCommand",
    "reassign-partitions": TOOLS + "reassign.ReassignPartitionsCommand",
}
SERVER = ("--bootstrap-server", BOOTSTRAP)


@pytest.fixture(scope="module")
def kafka():
    """Runs a tool by its script's name; the exit code must be `code`."""
    host = subprocess.Popen([*java(), "ToolHost"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def run(tool, *arguments, given="", code=0):
        words = "\0".join([CLASSES[tool], *map(str, arguments)])
        encoded = [base64.b64encode(text.encode()).decode() for text in (words, given)]
        host.stdin.write(" ".join(encoded) + "\n")
        host.stdin.flush()
        exit_code, printed = host.stdout.readline().split(" ")
        printed = base64.b64decode(printed).decode()
        assert int(exit_code) == code, printed
        return printed

    yield run
    host.stdin.close()
    host.wait(20)


def java():
    options = ["-Xmx256m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Dorg.slf4j.simpleLogger.defaultLogLevel=error"]
    return ["java", *options, "-cp", spelled_out(os.environ["JAVA_CLASS_PATH"])]


def in_its_own_jvm(tool, *arguments):
    """For tools that print and close in a shutdown hook of the JVM."""
    command = [*java(), CLASSES[tool], *map(str, arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=60)
    assert done.returncode == 0, done.stdout
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def spelled_out(class_path):
    """The class path without a star: ToolHost looks for a jar by its name."""
    folders = class_path.split(":")
    jars = []
    for entry in folders:
        if entry.endswith("/*"):
            jars += sorted(os.path.join(entry[:-2], jar) for jar in os.listdir(entry[:-2]) if jar.endswith(".jar"))
        else:
            jars.append(entry)
    return ":".join(jars)


@pytest.fixture
def make_topic(kafka, name):
    def make(partitions=1, *configs):
        settings = [word for config in configs for word in ("--config", config)]
        kafka("topics", *SERVER, "--create", "--topic", name, "--partitions", partitions, *settings)
        wait_for(lambda: kafka("topics", *SERVER, "--list").split().count(name), "the topic")
        return name

    return make


@pytest.fixture
def filled(kafka, make_topic):
    """A topic whose only partition holds the values v0 to v9 with the keys k0 to k9."""
    topic = make_topic()
    produce(kafka, topic, "".join(f"k{i}:v{i}\n" for i in range(10)))
    return topic


def produce(kafka, topic, lines, *options):
    properties = ["--reader-property", "parse.key=true", "--reader-property", "key.separator=:"]
    kafka("console-producer", *SERVER, "--topic", topic, *properties, *options, given=lines)


def consume(kafka, topic, count, *options):
    command = ["--topic", topic, "--max-messages", count, "--timeout-ms", 15000, *options]
    printed = kafka("console-consumer", *SERVER, *command)
    notes = ("Processed a total", "The consumer rebalance protocol")
    return [line for line in printed.splitlines() if not line.startswith(notes)]


def offsets(kafka, topic, *options):
    return sorted(kafka("get-offsets", *SERVER, "--topic", topic, *options).split())


def group_rows(kafka, group):
    """{partition: (current offset, log end offset, lag)}"""
    rows = [line.split() for line in kafka("consumer-groups", *SERVER, "--describe", "--group", group).splitlines()]
    return {int(row[2]): tuple(row[3:6]) for row in rows if len(row) > 5 and row[0] == group}


def test_topics(kafka, make_topic):
    topic = make_topic(3, "retention.ms=5000")

    def described():
        return kafka("topics", *SERVER, "--describe", "--topic", topic)

    assert re.search(rf"PartitionCount: 3\s+ReplicationFactor: {REPLICAS}\s+Configs: .*retention.ms=5000", described())
    ids = r"\d+" + r",\d+" * (REPLICAS - 1)
    row = rf"Partition: \d\s+Leader: \d+\s+Replicas: {ids}\s+Isr: {ids}\s"
    wait_for(lambda: len(re.findall(row, described())) == 3, "three partitions with full in-sync replicas")
    kafka("topics", *SERVER, "--alter", "--topic", topic, "--partitions", 5)
    wait_for(lambda: "PartitionCount: 5" in described(), "five partitions")
    assert "TopicExistsException" in kafka("topics", *SERVER, "--create", "--topic", topic, code=1)
    assert "InvalidPartitionsException" in kafka("topics", *SERVER, "--alter", "--topic", topic, "--partitions", 2, code=1)
    kafka("topics", *SERVER, "--delete", "--topic", topic)
    wait_for(lambda: topic not in kafka("topics", *SERVER, "--list").split(), "the deletion")
    assert "does not exist" in kafka("topics", *SERVER, "--describe", "--topic", topic, code=1)


@pytest.mark.parametrize("codec", ["none", "gzip", "snappy", "lz4", "zstd"])
def test_console_producer_and_consumer(codec, kafka, make_topic):
    topic = make_topic()
    produce(kafka, topic, "k1:v1\nk2:v2\n", "--compression-codec", codec)
    wanted = ["--from-beginning", "--formatter-property", "print.key=true", "--formatter-property", "print.offset=true"]
    assert consume(kafka, topic, 2, *wanted) == ["Offset:0\tk1\tv1", "Offset:1\tk2\tv2"]


def test_console_consumer_in_a_group(kafka, filled):
    assert consume(kafka, filled, 4, "--group", filled, "--from-beginning") == [f"v{i}" for i in range(4)]
    assert consume(kafka, filled, 6, "--group", filled) == [f"v{i}" for i in range(4, 10)]
    assert group_rows(kafka, filled) == {0: ("10", "10", "0")}


def test_console_consumer_at_an_offset(kafka, filled):
    assert consume(kafka, filled, 2, "--partition", 0, "--offset", 7) == ["v7", "v8"]


def test_consumer_groups(kafka, filled):
    def reset(*how):
        kafka("consumer-groups", *SERVER, "--group", filled, "--topic", filled, "--reset-offsets", "--execute", *how)
        return group_rows(kafka, filled)[0]

    consume(kafka, filled, 6, "--group", filled, "--from-beginning")
    assert filled in kafka("consumer-groups", *SERVER, "--list").split()
    assert reset("--to-offset", 5) == ("5", "10", "5")
    assert reset("--shift-by", -2) == ("3", "10", "7")
    assert reset("--to-earliest") == ("0", "10", "10")
    assert reset("--to-latest") == ("10", "10", "0")
    assert reset("--to-datetime", "2020-01-01T00:00:00.000") == ("0", "10", "10")
    printed = kafka("consumer-groups", *SERVER, "--describe", "--group", filled, "--state")
    assert re.search(rf"{filled}\s+({'|'.join(BROKERS)})\s.*Empty\s+0", printed), printed
    kafka("consumer-groups", *SERVER, "--group", filled, "--topic", filled, "--delete-offsets")
    assert group_rows(kafka, filled) == {}
    consume(kafka, filled, 1, "--group", filled, "--from-beginning")
    assert "was successful" in kafka("consumer-groups", *SERVER, "--delete", "--group", filled)
    assert filled not in kafka("consumer-groups", *SERVER, "--list").split()


def test_configs(kafka, make_topic):
    topic = make_topic()
    entity = ["--entity-type", "topics", "--entity-name", topic]

    def described(*more):
        return kafka("configs", *SERVER, *entity, "--describe", *more)

    kafka("configs", *SERVER, *entity, "--alter", "--add-config", "retention.ms=5000,cleanup.policy=[compact,delete]")
    wait_for(lambda: "retention.ms=5000" in described(), "the change")
    assert "cleanup.policy=compact,delete" in described()
    everything = described("--all")
    assert re.search(r"max.message.bytes=1048588 sensitive=false synonyms=\{.*DEFAULT_CONFIG:message.max.bytes=1048588", everything)
    kafka("configs", *SERVER, *entity, "--alter", "--delete-config", "retention.ms,cleanup.policy")
    wait_for(lambda: "retention.ms" not in described(), "the default")
    refused = kafka("configs", *SERVER, *entity, "--alter", "--add-config", "retention.ms=soon", code=1)
    assert "InvalidConfigurationException" in refused


def test_broker_configs(kafka):
    nodes = re.findall(r"^(\S+) \(id: (\d+)", kafka("broker-api-versions", *SERVER), re.MULTILINE)
    assert sorted(address for address, _ in nodes) == BROKERS
    for address, node in nodes:
        printed = kafka("configs", *SERVER, "--entity-type", "brokers", "--entity-name", node, "--describe", "--all")
        assert "num.partitions=2" in printed
        assert re.search(rf"^\s*listeners=\S*{address}\b", printed, re.MULTILINE)


def test_get_offsets(kafka, filled):
    assert offsets(kafka, filled) == [f"{filled}:0:10"]
    assert offsets(kafka, filled, "--time", "earliest") == [f"{filled}:0:0"]
    assert offsets(kafka, filled, "--time", "-2") == [f"{filled}:0:0"]
    assert offsets(kafka, filled, "--time", "1000") == [f"{filled}:0:0"]
    ((_, _, newest),) = [line.split(":") for line in offsets(kafka, filled, "--time", "max-timestamp")]
    assert 0 <= int(newest) < 10


def test_delete_records(kafka, filled, tmp_path):
    wish = tmp_path / "offsets.json"
    wish.write_text(json.dumps({"partitions": [{"topic": filled, "partition": 0, "offset": 6}], "version": 1}))
    assert "low_watermark: 6" in kafka("delete-records", *SERVER, "--offset-json-file", wish)
    assert offsets(kafka, filled, "--time", "earliest") == [f"{filled}:0:6"]
    assert consume(kafka, filled, 1, "--from-beginning") == ["v6"]


def test_verifiable_producer_and_consumer(kafka, make_topic):
    topic = make_topic(2)
    sent = in_its_own_jvm("verifiable-producer", *SERVER, "--topic", topic, "--max-messages", 500, "--acks", -1)
    assert len([event for event in sent if event["name"] == "producer_send_success"]) == 500
    assert [event["acked"] for event in sent if event["name"] == "tool_data"] == [500]
    group = ["--group-id", topic, "--reset-policy", "earliest", "--max-messages", 500]
    seen = in_its_own_jvm("verifiable-consumer", *SERVER, "--topic", topic, *group)
    assert sum(event["count"] for event in seen if event["name"] == "records_consumed") == 500
    assert all(event["success"] for event in seen if event["name"] == "offsets_committed")


def test_performance_tools(kafka, make_topic):
    topic = make_topic(2)
    load = ["--num-records", 20000, "--record-size", 200, "--throughput", -1]
    printed = kafka("producer-perf-test", "--topic", topic, *load, *SERVER, "--command-property", "acks=all")
    assert re.search(r"20000 records sent, [\d.]+ records/sec", printed)
    printed = kafka("consumer-perf-test", *SERVER, "--topic", topic, "--num-records", 20000, "--timeout", 30000)
    assert int(printed.splitlines()[-1].split(",")[4]) >= 20000


def test_broker_api_versions(kafka):
    printed = kafka("broker-api-versions", *SERVER)
    assert sorted(re.findall(r"^\S+:\d+(?= \(id: )", printed, re.MULTILINE)) == BROKERS
    assert len(re.findall(r"Fetch\(1\): \d+ to \d+ \[usable: \d+\]", printed)) == len(BROKERS)


def test_log_dirs(kafka, filled):
    def directories():
        printed = kafka("log-dirs", *SERVER, "--describe", "--topic-list", filled)
        found = json.loads(next(line for line in printed.splitlines() if line.startswith("{")))
        return [broker["logDirs"] for broker in found["brokers"]]

    def all_have_it():
        return all(p["size"] > 0 for (directory,) in directories() for p in directory["partitions"])

    wait_for(all_have_it, "the records on every replica")
    found = directories()
    assert len(found) == len(BROKERS)
    for (directory,) in found:
        assert directory["error"] is None
        assert [p["partition"] for p in directory["partitions"]] == [f"{filled}-0"]


def test_cluster_id(kafka):
    assert re.match(r"Cluster ID: \S+", kafka("cluster", "cluster-id", *SERVER))


def test_metadata_quorum(kafka):
    def status():
        return kafka("metadata-quorum", *SERVER, "describe", "--status")

    wait_for(lambda: re.search(r"MaxFollowerLag:\s+0\b", status()), "followers with all of the metadata")
    printed = status()
    leader = re.search(r"LeaderId:\s+(\d+)", printed).group(1)
    voters = re.findall(r'"id": (\d+), ', re.search(r"CurrentVoters:\s+(.*)", printed).group(1))
    assert len(set(voters)) == len(voters) == len(BROKERS) and leader in voters, printed

    def rows():
        printed = kafka("metadata-quorum", *SERVER, "describe", "--replication")
        return sorted((row[0], row[3], row[-1]) for row in map(str.split, printed.splitlines()[1:]))

    expected = sorted((voter, "0", "Leader" if voter == leader else "Follower") for voter in voters)
    wait_for(lambda: rows() == expected, f"the replicas {expected}")


def test_leader_election(kafka, make_topic):
    topic = make_topic(2)
    elect = ("--election-type", "preferred", "--topic", topic, "--partition")
    printed = kafka("leader-election", *SERVER, *elect, 1)
    assert f"Valid replica already elected for partitions {topic}-1" in printed
    assert "UnknownTopicOrPartitionException" in kafka("leader-election", *SERVER, *elect, 2, code=1)


def test_reassign_partitions(kafka, make_topic, tmp_path):
    topic = make_topic()
    described = kafka("topics", *SERVER, "--describe", "--topic", topic)
    present = [int(broker) for broker in re.search(r"Replicas: ([\d,]+)", described).group(1).split(",")]
    plan = tmp_path / "plan.json"

    def reassign(action, replicas, code=0):
        partition = {"topic": topic, "partition": 0, "replicas": replicas}
        plan.write_text(json.dumps({"version": 1, "partitions": [partition]}))
        return kafka("reassign-partitions", *SERVER, action, "--reassignment-json-file", plan, code=code)

    assert f"Successfully started partition reassignment for {topic}-0" in reassign("--execute", present)
    assert f"Reassignment of partition {topic}-0 is completed" in reassign("--verify", present)
    assert "No partition reassignments found" in kafka("reassign-partitions", *SERVER, "--list")
    assert "Unknown broker id" in reassign("--execute", [max(present) + 1], code=1)
