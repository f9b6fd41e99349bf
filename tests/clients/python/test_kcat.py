"""kcat, the command line of librdkafka (the C library of Debian, older than confluent-kafka's)."""

import json
import subprocess

import pytest
from conftest import BOOTSTRAP, BROKERS, CODECS, REPLICAS, compressible, stored_codecs, wait_for, wire


def kcat(*arguments, given="", timeout_s=30):
    command = ["kcat", "-b", BOOTSTRAP, "-m", "10", *arguments]
    done = subprocess.run(command, input=given, capture_output=True, text=True, timeout=timeout_s)
    assert done.returncode == 0, done.stderr
    return done.stdout


def records(topic, *arguments):
    lines = kcat("-C", "-t", topic, "-e", "-q", "-J", *arguments).splitlines()
    return sorted((json.loads(line) for line in lines), key=lambda r: (r["partition"], r["offset"]))


@pytest.mark.parametrize("acks", [0, 1, -1])
@pytest.mark.parametrize("codec", CODECS)
def test_codec_and_acks(codec, acks, name):
    values = [compressible(i).decode() for i in range(20)]
    kcat("-L", "-t", name)  # creates it
    kcat("-P", "-t", name, "-p", "0", "-z", codec, "-X", f"acks={acks}", given="\n".join(values) + "\n")
    wait_for(lambda: len(wire.batches(BOOTSTRAP, name, 0)) > 0, "the batch")
    assert [r["payload"] for r in records(name)] == values
    assert stored_codecs(name, 1) == {codec}


def test_idempotent(name):
    kcat("-P", "-t", name, "-p", "0", "-X", "enable.idempotence=true", given="a\nb\n")
    assert [r["payload"] for r in records(name)] == ["a", "b"]
    assert wire.batches(BOOTSTRAP, name, 0)[0].producer_id >= 0


def test_keys_headers_and_nulls(name):
    kcat("-P", "-t", name, "-p", "0", "-K", ":", "-Z", "-H", "h=1", "-H", "h=2", given="k:v\nk:\n")
    first, second = records(name)
    assert (first["key"], first["payload"], first["headers"]) == ("k", "v", ["h", "1", "h", "2"])
    assert (second["key"], second["payload"]) == ("k", None)


def test_metadata(name):
    kcat("-P", "-t", name, given="x\n")
    found = json.loads(kcat("-L", "-J", "-t", name))
    assert sorted(broker["name"] for broker in found["brokers"]) == BROKERS
    ids = sorted(broker["id"] for broker in found["brokers"])
    (topic,) = found["topics"]
    assert len(topic["partitions"]) == 2
    for partition in topic["partitions"]:
        assert partition["leader"] in ids
        assert sorted(replica["id"] for replica in partition["replicas"]) == ids


def test_offsets_and_timestamps(name):
    kcat("-P", "-t", name, "-p", "0", given="".join(f"{i}\n" for i in range(10)))
    assert [r["offset"] for r in records(name, "-p", "0", "-o", "7")] == [7, 8, 9]
    assert [r["offset"] for r in records(name, "-p", "0", "-o", "-2")] == [8, 9]
    assert records(name, "-p", "0", "-o", "end") == []
    assert kcat("-Q", "-t", f"{name}:0:1").strip() == f"{name} [0] offset 0"
    assert len(records(name, "-o", "s@1")) == 10


def test_group(name):
    kcat("-P", "-t", name, "-p", "0", given="a\nb\nc\n")
    options = ["-X", "auto.offset.reset=earliest", "-q", "-G", name]
    assert kcat("-c", "2", *options, name).split() == ["a", "b"]
    assert kcat("-c", "1", *options, name).split() == ["c"]
