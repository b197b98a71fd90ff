"""Batches that cannot be read: compressed by any codec, damaged on the broker's disk, or far larger than they look."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

from tests.kafka_broker import Cluster
from tests.kafka_world import World

CODECS = ("none", "gzip", "snappy", "lz4", "zstd")
PAYLOAD = 70
"""A place in a batch that only its checksum covers, if the batch is longer."""


def produce(world: World, topic: str, values: Sequence[bytes], codec: str = "none", partition: int = 0) -> int:
    """Write *values* as one batch, and return the offset of the first."""
    producer = world.connection.producer(compression_type=None if codec == "none" else codec, linger_ms=500)
    sent = [producer.send(topic, value, partition=partition) for value in values]
    producer.flush(10)
    first: int = sent[0].get(timeout=10).offset
    producer.close(timeout=2)
    return first


def segment(cluster: Cluster, topic: str, partition: int = 0) -> Path:
    return next((cluster.nodes[0].directory / "log" / f"{topic}-{partition}").glob("*.log"))


def flip(cluster: Cluster, topic: str, offset: int, place: int = PAYLOAD, partition: int = 0) -> None:
    """Flip one bit in the batch that begins at *offset*, *place* bytes from its beginning, on the broker's disk."""
    path = segment(cluster, topic, partition)
    data, at = path.read_bytes(), 0
    while struct.unpack_from(">q", data, at)[0] != offset:
        at += 12 + struct.unpack_from(">i", data, at + 8)[0]
    with path.open("r+b") as file:
        file.seek(at + place)
        file.write(bytes([data[at + place] ^ 4]))
