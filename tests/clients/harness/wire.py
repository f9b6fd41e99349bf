"""A few hand-encoded Kafka requests, for what client libraries hide: readiness and stored batches.

The clients decompress and re-number what they read, so none of them can tell whether the codec or
the producer id that a test asked for is what the broker stored. `batches` can.

Sources: the Kafka protocol guide (ApiVersions v0, Metadata v1, Fetch v4) and the record batch
layout, magic 2 (KIP-98).
"""

import dataclasses
import socket
import struct

API_FETCH, API_METADATA, API_VERSIONS = 1, 3, 18
CODECS = {0: "none", 1: "gzip", 2: "snappy", 3: "lz4", 4: "zstd"}
BATCH_HEADER = struct.Struct(">qiibIhiqqqhii")
FETCH_BYTES_MAX = 64 * 1024 * 1024


class WireError(Exception):
    """The broker did not answer, or answered with an error code."""


@dataclasses.dataclass(frozen=True)
class Batch:
    """The header of one stored record batch."""

    base_offset: int
    last_offset: int
    leader_epoch: int
    codec: str
    log_append_time: bool
    transactional: bool
    control: bool
    base_timestamp: int
    max_timestamp: int
    producer_id: int
    producer_epoch: int
    base_sequence: int
    records: int


def _string(text):
    raw = text.encode()
    return struct.pack(">h", len(raw)) + raw


def _read_exactly(sock, count):
    data = bytearray()
    while len(data) < count:
        chunk = sock.recv(count - len(data))
        if not chunk:
            raise WireError("the broker closed the connection")
        data += chunk
    return bytes(data)


def call(bootstrap, api_key, version, body, timeout_s=10.0):
    """Sends one request with a v1 header and returns the response body after the correlation id."""
    host, port = bootstrap.rsplit(":", 1)
    with socket.create_connection((host, int(port)), timeout=timeout_s) as sock:
        frame = struct.pack(">hhi", api_key, version, 7) + _string("client-suites") + body
        sock.sendall(struct.pack(">i", len(frame)) + frame)
        (length,) = struct.unpack(">i", _read_exactly(sock, 4))
        payload = _read_exactly(sock, length)
    (correlation,) = struct.unpack_from(">i", payload)
    if correlation != 7:
        raise WireError(f"correlation id {correlation}, sent 7")
    return payload[4:]


def api_versions(bootstrap, timeout_s=2.0):
    """{api key: (lowest version, highest version)} as the broker advertises them."""
    body = call(bootstrap, API_VERSIONS, 0, b"", timeout_s)
    error, count = struct.unpack_from(">hi", body)
    if error:
        raise WireError(f"ApiVersions answered error {error}")
    entries = (struct.unpack_from(">hhh", body, 6 + 6 * i) for i in range(count))
    return {key: (low, high) for key, low, high in entries}


def leader_of(bootstrap, topic, partition):
    """HOST:PORT of a partition's leader, from Metadata v1."""
    body = call(bootstrap, API_METADATA, 1, struct.pack(">i", 1) + _string(topic))
    at = 4
    brokers = {}
    for _ in range(struct.unpack_from(">i", body)[0]):
        node, size = struct.unpack_from(">ih", body, at)
        host = body[at + 6 : at + 6 + size].decode()
        at += 6 + size
        port, rack = struct.unpack_from(">ih", body, at)
        at += 6 + max(rack, 0)
        brokers[node] = f"{host}:{port}"
    at += 4 + 4  # controller id, topic count (one)
    error, size = struct.unpack_from(">hh", body, at)
    if error:
        raise WireError(f"Metadata answered error {error} for {topic}")
    at += 4 + size + 1
    (count,) = struct.unpack_from(">i", body, at)
    at += 4
    for _ in range(count):
        _, index, leader = struct.unpack_from(">hii", body, at)
        at += 10
        for _ in range(2):  # replicas, in-sync replicas
            at += 4 + 4 * struct.unpack_from(">i", body, at)[0]
        if index == partition:
            return brokers[leader]
    raise WireError(f"{topic} has no partition {partition}")


def batches(bootstrap, topic, partition=0, offset=0):
    """The headers of all batches that one Fetch v4 from `offset` returns."""
    body = struct.pack(">iiiib", -1, 0, 0, FETCH_BYTES_MAX, 0)
    body += struct.pack(">i", 1) + _string(topic)
    body += struct.pack(">iiqi", 1, partition, offset, FETCH_BYTES_MAX)
    answer = call(leader_of(bootstrap, topic, partition), API_FETCH, 4, body)
    at = 4 + 4  # throttle time, topic count (one)
    at += 2 + struct.unpack_from(">h", answer, at)[0] + 4  # name, partition count (one)
    _, error, _, _, aborted = struct.unpack_from(">ihqqi", answer, at)
    if error:
        raise WireError(f"Fetch answered error {error} for {topic}-{partition}")
    at += 26 + 16 * max(aborted, 0)
    (size,) = struct.unpack_from(">i", answer, at)
    return list(_headers(answer[at + 4 : at + 4 + max(size, 0)]))


def _headers(records):
    at = 0
    while at + BATCH_HEADER.size <= len(records):
        fields = BATCH_HEADER.unpack_from(records, at)
        base, length, leader_epoch, magic, _crc, attributes, delta = fields[:7]
        if magic != 2:
            raise WireError(f"a batch with magic {magic}")
        at += 12 + length
        if at > len(records):
            return  # cut off by the size limit
        yield Batch(
            base_offset=base,
            last_offset=base + delta,
            leader_epoch=leader_epoch,
            codec=CODECS.get(attributes & 7, "unknown"),
            log_append_time=bool(attributes & 8),
            transactional=bool(attributes & 16),
            control=bool(attributes & 32),
            base_timestamp=fields[7],
            max_timestamp=fields[8],
            producer_id=fields[9],
            producer_epoch=fields[10],
            base_sequence=fields[11],
            records=fields[12],
        )
