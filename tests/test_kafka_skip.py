"""`streamal skip`: past a batch that cannot be read, with a dead letter for each of its records (F58)."""

from __future__ import annotations

import contextlib
import json
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import structlog

from streamal.bootstrap import build, edges, transports
from streamal.config import Config, load_config
from streamal.core.records import OffsetAndMetadata, TopicPartition
from streamal.daemon.daemon import Daemon
from streamal.edge.metrics import NullMeter
from streamal.errors import Unreadable
from streamal.ports import Transport, scan
from tests.conftest import Cli
from tests.kafka_broker import Cluster
from tests.kafka_damage import flip, produce
from tests.kafka_world import Client, World, on_both
from tests.test_kafka_weather import configured

EVENTS = [b'{"features": {"x": %d.0}}' % number for number in range(10)]
REPLIES = [b'{"request": "0-%d", "label": "a"}' % number for number in range(10)]


@pytest.fixture
def broken(kafka: Cluster) -> Cluster:
    """The shared broker, whose disk we may damage."""
    if not kafka.nodes:
        pytest.skip("the disk of the cluster at STREAMAL_TEST_BOOTSTRAP is not ours")
    return kafka


@contextlib.contextmanager
def working(config: Config) -> Iterator[tuple[Daemon, Transport]]:
    transport = transports.open_transport(config)
    try:
        parts = build(config)
        log = structlog.get_logger()
        daemon = Daemon(parts.settings, parts.new_fold, transport, None, edges.WallClock(), NullMeter(), log)
        daemon.start()
        yield daemon, transport
    finally:
        transport.close()


def work(config: Config, done: Callable[[Transport], bool]) -> None:
    """Be a worker until *done*, or until it raises what a worker ends with."""
    with working(config) as (daemon, transport):
        deadline = time.monotonic() + 30.0
        while not done(transport):
            assert time.monotonic() < deadline
            daemon.tick()


def has_read(place: TopicPartition, offset: int) -> Callable[[Transport], bool]:
    return lambda transport: transport.assignment()[1].get(place, OffsetAndMetadata(0, "")).offset >= offset


@pytest.mark.kafka
@on_both
def test_damaged_records_become_dead_letters_and_the_rest_goes_on(
    broken: Cluster, directory: Path, cli: Cli, client: Client
) -> None:
    """Twice ten events and ten replies around a damaged ten: 20 predictions, 20 dead letters, and `verify` agrees."""
    config = configured(directory, broken.bootstrap)
    settings = [f"transport.client={client}", "labels.classes=['a','b']"]
    options = [f"--set={setting}" for setting in settings]
    config = load_config(directory / "config.toml", settings)
    transports.create_topics(config)
    world = World(broken)
    topics = config.topics
    events, labels = TopicPartition(topics.events, 0), TopicPartition(topics.labels, 0)
    for place, values in ((events, EVENTS), (labels, REPLIES)):
        for _ in range(3):
            produce(world, place.topic, values, "zstd")
        flip(broken, place.topic, 10)
    with contextlib.closing(transports.open_log(config)) as log:
        for _ in (events, labels):
            with pytest.raises(Unreadable, match=r"streamal skip") as raised:
                work(config, lambda _: False)
            assert raised.value.offset == 10
            state = log.committed(config.transport.group)[TopicPartition(raised.value.topic, 0)]
            assert state.offset == 10
            command = re.findall(r"`streamal skip (\S+) (\d+) (\d+) ", str(raised.value))[0]
            skipped = cli("skip", *command, "--why", "a disk was replaced", "--json", *options)
            assert (skipped.code, json.loads(skipped.out)) == (0, {"skipped": 10, "from": 10, "next": 20})
            after = log.committed(config.transport.group)[TopicPartition(raised.value.topic, 0)]
            assert after == OffsetAndMetadata(20, state.metadata)
            again = cli("skip", *command, "--why", "once more", *options)
            assert again.code == 2
            assert "there is nothing to skip" in again.line
        done = has_read(events, 30), has_read(labels, 30)
        work(config, lambda transport: all(each(transport) for each in done))
        letters = [json.loads(record.value or b"") for record in scan(log, topics.dead_letters, 0)]
        assert sorted((letter["topic"], letter["offset"]) for letter in letters) == sorted(
            (place.topic, offset) for place in (events, labels) for offset in range(10, 20)
        )
        assert {letter["reason"] for letter in letters} == {"unreadable"}
        assert all(letter["detail"].startswith("a disk was replaced (its checksum is wrong") for letter in letters)
        assert len(list(scan(log, topics.predictions, 0))) == 20
    verified = cli("verify", *options)
    assert verified.code == 0, verified.out
    world.close()


@pytest.mark.kafka
def test_nothing_is_skipped_while_somebody_works_or_where_all_is_well(
    kafka: Cluster, directory: Path, cli: Cli
) -> None:
    """A worker in the group, another topic, a partition that is none, records that can be read: exit 2, one line."""
    config = configured(directory, kafka.bootstrap)
    transports.create_topics(config)
    topics = config.topics
    with contextlib.closing(transports.open_log(config)) as log:
        log.append(topics.events, 0, None, EVENTS[0])
    for place, text in (
        ((topics.training, 0), "every record of the others is needed"),
        ((topics.events, 1), "has 1 partitions"),
        ((topics.events, 0), "comes next to offset 0"),
        ((topics.labels, 0), "to its end"),
    ):
        ended = cli("skip", *map(str, place), "0", "--why", "x")
        assert ended.code == 2
        assert text in ended.line
    with working(config) as (daemon, transport):
        while not transport.assignment()[1]:
            daemon.tick()
        ended = cli("skip", topics.events, "0", "0", "--why", "x")
        assert ended.code == 2
        assert "has 1 members" in ended.line


@pytest.mark.kafka
def test_a_death_of_a_bomb_is_named_at_the_next_start(kafka: Cluster, directory: Path, cli: Cli) -> None:
    """Librdkafka inflates whatever comes; after a death kafka-python looks at what comes next, and skips it (F59)."""
    settings = ["transport.client=confluent", "limits.record_bytes=20000", "snapshots.directory='snapshots'"]
    options = [f"--set={setting}" for setting in settings]
    config = configured(directory, kafka.bootstrap)
    transports.create_topics(load_config(directory / "config.toml", settings))
    world = World(kafka)
    for values in (EVENTS, [bytes(1_000_000)], EVENTS):
        produce(world, config.topics.events, values, "gzip")
    world.close()
    (directory / "snapshots").mkdir(mode=0o700)
    (directory / "snapshots" / "running").write_text("running\n")
    for _ in range(2):
        ended = cli("run", *options)
        assert ended.code == 2
        assert f"{config.topics.events}-0 from offset 10 on" in ended.err
        assert "inflate to more than 640,000 bytes" in ended.err
        assert f"`streamal skip {config.topics.events} 0 10" in ended.err
    skipped = cli("skip", config.topics.events, "0", "10", "--why", "a bomb", *options)
    assert skipped.code == 2
    assert "comes next to offset 0" in skipped.line  # the ten before it come first: with kafka-python they do
    structlog.reset_defaults()
    settings[0] = "transport.client=kafka-python"
    with pytest.raises(Unreadable, match="inflate to more than 640,000 bytes"):
        work(load_config(directory / "config.toml", settings), lambda _: False)
    assert cli("skip", config.topics.events, "0", "10", "--why", "a bomb", *options).code == 0
    transports.look_ahead(load_config(directory / "config.toml", [settings[1], "transport.client=confluent"]))


def test_a_file_has_nothing_to_skip(directory: Path, cli: Cli) -> None:
    """SQLite has neither groups nor batches: it says so."""
    (directory / "config.toml").touch()
    ended = cli("skip", "streamal.events", "0", "0", "--why", "x")
    assert ended.code == 2
    assert "this command is for Kafka" in ended.line
