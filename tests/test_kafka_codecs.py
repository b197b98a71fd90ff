"""Batches of every codec are read (F57); a damaged one is named (F58); none inflates without a bound (F59)."""

from __future__ import annotations

import gzip
import subprocess
import sys
import textwrap
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import lz4.frame
import pytest
import snappy
import zstandard
from kafka import codec as their_codecs

from streamal.bootstrap.transports.kafka import python_connection
from streamal.config import load_config
from streamal.core.records import OutputRecord
from streamal.edge.kafka.base import INFLATED_BYTES_MAX
from streamal.edge.kafka.python import TopicSettings, codecs, create_topics
from streamal.edge.kafka.python.codecs import InflatedTooLargeError
from streamal.errors import Unreadable
from tests.conftest import environment
from tests.kafka_broker import Cluster
from tests.kafka_damage import CODECS, flip, produce
from tests.kafka_world import CLIENTS, World, echo, take

ROOT = Path(__file__).parents[1]
SOME = [b"%d " % number * 40 for number in range(10)]


@pytest.fixture(params=CLIENTS)
def world(kafka: Cluster, request: pytest.FixtureRequest) -> Iterator[World]:
    made = World(kafka, client=request.param)
    yield made
    made.close()


@pytest.mark.kafka
def test_batches_of_every_codec_are_read(world: World) -> None:
    """Events and labels of all five codecs reach a worker and a log; so do records that the broker compresses."""
    recompressed = {codec: f"{world.name}.{codec}" for codec in CODECS}
    topics = [
        TopicSettings(topic, 1, {"compression.type": "uncompressed" if codec == "none" else codec})
        for codec, topic in recompressed.items()
    ]
    create_topics(world.connection, topics)
    for codec in CODECS:
        produce(world, world.events, SOME, codec)
        produce(world, world.labels, SOME, codec)
    worker = world.worker()
    expected = SOME * len(CODECS)
    assert [record.value for record in take(worker, world.events, len(expected), 7)] == expected
    assert [record.value for record in take(worker, world.labels, len(expected), 7)] == expected
    assert [record.value for record in world.log.read(world.events, 0, 0, 1_000)] == expected
    worker.commit([OutputRecord(topic, 0, None, value) for topic in recompressed.values() for value in SOME], {})
    for topic in recompressed.values():
        assert [record.value for record in worker.read(topic, 0, 0, 1_000)] == SOME
        assert [record.value for record in world.log.read(topic, 0, 0, 1_000)] == SOME


@pytest.mark.kafka
@pytest.mark.parametrize("role", ["events", "labels"])
def test_a_damaged_batch_is_named(fragile: Cluster, world: World, role: str) -> None:
    """What comes before it is consumed; then worker and log name the place, however often they are asked."""
    topic: str = getattr(world, role)
    for _ in range(3):
        produce(world, topic, SOME, "lz4")
    flip(fragile, topic, 10)
    worker = world.worker()
    assert [record.offset for record in take(worker, topic, 10, 7)] == list(range(10))
    assert world.log.read(topic, 0, 4, 100)[-1].offset == 9
    for _ in range(3):
        with pytest.raises(Unreadable, match=rf"{topic}-0 from offset 10 on: .* damaged on the brokers") as raised:
            take(worker, topic, 1)
        assert f"`streamal skip {topic} 0 {raised.value.offset} " in str(raised.value)
        assert worker.poll({topic: 0}, 0.0) == []
        for offset in (10, 11, 19):
            with pytest.raises(Unreadable, match=rf"{topic}-0 from offset {offset} on"):
                world.log.read(topic, 0, offset, 100)
    assert world.log.read(topic, 0, 20, 100)[0].offset == 20


@pytest.mark.kafka
def test_a_damaged_batch_stops_no_other_partition(fragile: Cluster, world: World) -> None:
    """Labels that wait are consumed first; after a rewind it is met at the same offset."""
    produce(world, world.events, SOME, "zstd")
    produce(world, world.labels, SOME, "zstd")
    flip(fragile, world.events, 0)
    worker = world.worker()
    assert len(take(worker, world.labels, 10, 3)) == 10
    for _ in range(2):
        with pytest.raises(Unreadable, match=f"{world.events}-0 from offset 0 on"):
            take(worker, world.events, 1)
        worker.rewind()
    records = take(worker, world.labels, 10)
    worker.commit(*echo(world, records))


@pytest.fixture
def fragile(kafka: Cluster) -> Cluster:
    """The shared broker; what is damaged are topics that no other test uses."""
    if not kafka.nodes:
        pytest.skip("the disk of the cluster at STREAMAL_TEST_BOOTSTRAP is not ours")
    return kafka


# The decoders


def zeros(codec: str, count: int) -> bytes:
    """Return *count* zeros as a producer writes them, without the memory for them where the codec has a stream."""
    chunk = bytes(1_000_000)
    match codec:
        case "gzip":
            return gzip.compress(bytes(count), compresslevel=1)
        case "lz4":
            return bytes(lz4.frame.compress(bytes(count)))
        case "zstd":
            return zstandard.ZstdCompressor(write_content_size=False).compress(bytes(count))
        case "snappy":
            return bytes(snappy.compress(bytes(count)))
        case _:
            blocks = [snappy.compress(chunk)] * (count // len(chunk))
            header = b"\x82SNAPPY\0" + bytes([0, 0, 0, 1]) * 2
            return header + b"".join(len(block).to_bytes(4, "big") + block for block in blocks)


@pytest.mark.parametrize("codec", codecs.DECODERS)
@pytest.mark.parametrize("payload", [b"", b"x", bytes(range(256)) * 5_000], ids=len)
def test_decoders_return_what_was_encoded(codec: str, payload: bytes) -> None:
    """As kafka-python's own do, up to the bound, and not beyond it."""
    encoded = getattr(their_codecs, f"{codec}_encode")(payload)
    decode = codecs._bind(codec, codecs.DECODERS[codec], len(payload))
    assert decode(encoded) == decode(memoryview(encoded)) == payload
    if payload:
        with pytest.raises(InflatedTooLargeError, match=f"bytes of {codec} inflate to more than {len(payload) - 1:,}"):
            codecs._bind(codec, codecs.DECODERS[codec], len(payload) - 1)(encoded)


@pytest.mark.parametrize("codec", ["gzip", "lz4", "zstd"])
def test_streams_that_follow_one_another_are_one(codec: str) -> None:
    """Several members or frames in one batch, as the formats allow."""
    parts = [getattr(their_codecs, f"{codec}_encode")(part) for part in (b"one ", b"two")]
    assert codecs._bind(codec, codecs.DECODERS[codec], 7)(b"".join(parts)) == b"one two"


@pytest.mark.parametrize("codec", ["gzip", "lz4"])
def test_a_stream_that_ends_too_early_is_an_error(codec: str) -> None:
    """It neither loops nor passes for less than it is."""
    encoded = getattr(their_codecs, f"{codec}_encode")(b"12345" * 100)
    for size in range(1, len(encoded), 3):
        with pytest.raises((RuntimeError, EOFError, OSError, zlib.error)):
            codecs._bind(codec, codecs.DECODERS[codec], 1_000)(encoded[:size])


@pytest.mark.parametrize("codec", ["gzip", "snappy", "xerial", "lz4", "zstd"])
def test_a_bomb_takes_no_memory(codec: str, tmp_path: Path) -> None:
    """300 MB of zeros are given up at the bound: the process grows by less than two bounds."""
    bomb = tmp_path / "bomb"
    bomb.write_bytes(zeros(codec, 300_000_000))
    program = f"""
        import pathlib, resource
        from streamal.edge.kafka.python import codecs
        from kafka.record import default_records
        payload = pathlib.Path({str(bomb)!r}).read_bytes()
        codecs.limit_inflating({INFLATED_BYTES_MAX})
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        try:
            default_records.{"snappy" if codec == "xerial" else codec}_decode(payload)
        except codecs.InflatedTooLargeError:
            print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert int(done.stdout) * 1_024 < 2 * INFLATED_BYTES_MAX


def test_the_bound_follows_the_largest_record() -> None:
    """32 records of `limits.record_bytes`."""
    assert python_connection(load_config(None, [])).inflated_bytes_max == INFLATED_BYTES_MAX
    assert python_connection(load_config(None, ["limits.record_bytes=1000"])).inflated_bytes_max == 32_000


@pytest.mark.kafka
@pytest.mark.parametrize("codec", codecs.DECODERS)
def test_a_worker_names_a_bomb(kafka: Cluster, codec: str) -> None:
    """It comes to the bomb, says where it lies and how large it is, and does not inflate it (kafka-python)."""
    world = World(kafka)
    world.connection = replace(world.connection, inflated_bytes_max=5_000_000)
    try:
        produce(world, world.events, [b"1", b"2"], codec)
        produce(world, world.events, [bytes(6_000_000)], codec)
        worker = world.worker()
        assert len(take(worker, world.events, 2)) == 2
        with pytest.raises(Unreadable, match=rf"offset 2 on: [0-9,]+ bytes of {codec} inflate to more than 5,000,000"):
            take(worker, world.events, 1)
    finally:
        world.close()
