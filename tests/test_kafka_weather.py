"""Bad weather, seen by who runs the commands: exit code, one line, and what was promised holds afterwards."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from kafka import KafkaProducer

from streamal.bootstrap import transports
from streamal.config import Config, load_config
from streamal.core.records import TopicPartition
from streamal.edge.kafka import base_transport
from streamal.edge.kafka.membership import INPUTS_S
from streamal.edge.kafka.python import Connection, TopicSettings, create_topics, differences
from streamal.edge.kafka.python import transport as transport_module
from streamal.errors import ConfigError, Fenced, Uncommitted
from tests import kafka_broker
from tests.conftest import Cli, environment
from tests.kafka_broker import Cluster
from tests.kafka_settings import Extra
from tests.kafka_world import Client, Worker, World, copy_all, echo, on_both, take

pytestmark = pytest.mark.kafka

ROLES = ("events", "labels", "predictions", "requests", "training", "dead_letters")
EVENT = b'{"features": {"x": 1}}'


def configured(directory: Path, bootstrap: str, partitions: int = 1, timeout_s: float = 20) -> Config:
    """Write a configuration with topics of its own, which are not made."""
    name = f"w.{os.getpid()}.{time.monotonic_ns()}"  # other files use this module under another name
    path = directory / "config.toml"
    path.write_text(
        f'[transport]\nkind = "kafka"\nbootstrap_servers = "{bootstrap}"\ngroup = "{name}"\n'
        f"partitions = {partitions}\nconnect_timeout_s = {timeout_s}\nsession_timeout_s = 3\n"
        "[server]\nenabled = false\n[topics]\n" + "\n".join(f'{role} = "{name}.{role}"' for role in ROLES)
    )
    return load_config(path)


@contextmanager
def running(directory: Path, *arguments: str, name: str = "log.txt") -> Iterator[subprocess.Popen[bytes]]:
    """A command that does not outlive the test, its standard error in a file."""
    with (directory / name).open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "streamal", *arguments], cwd=directory, env=environment(), stderr=log
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


def until(holds: Callable[[], bool], patience_s: float = 120.0) -> None:
    deadline = time.monotonic() + patience_s
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


# At the start


def test_an_absent_broker_is_tried_for_the_time_that_is_set(streamal: Cli, tmp_path: Path) -> None:
    """Nobody listens: `run` tries again for transport.connect_timeout_s, then one line, and exit 1 (F47)."""
    [port] = kafka_broker._free_ports(1)
    configured(tmp_path, f"127.0.0.1:{port}", timeout_s=3)
    ended = streamal("run", cwd=tmp_path)
    assert ended.code == 1
    assert ended.line.startswith(f"streamal: no Kafka at 127.0.0.1:{port} within 3 s (")
    assert "ECONNREFUSED" in ended.line or "Unable to bootstrap" in ended.line
    assert "check transport.bootstrap_servers" in ended.line
    assert ended.seconds > 2.0


def test_a_broker_that_comes_late_is_waited_for(fragile: Cluster, tmp_path: Path) -> None:
    """It starts after the command, within transport.connect_timeout_s: all is well (F10)."""
    fragile.nodes[0].kill()
    try:
        configured(tmp_path, fragile.bootstrap)
        with running(tmp_path, "topics", "create") as process:
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(timeout=3.0)
            fragile.nodes[0].start()
            assert process.wait(timeout=120) == 0, (tmp_path / "log.txt").read_text()
    finally:
        if fragile.nodes[0].process is None:
            fragile.nodes[0].start()
        fragile.wait()


@pytest.mark.parametrize("command", ["run", "check"])
def test_missing_topics_are_named(kafka: Cluster, cli: Cli, directory: Path, command: str) -> None:
    """Exit 2, every missing topic, and the command that makes them (F47)."""
    config = configured(directory, kafka.bootstrap)
    ended = cli(command)
    assert ended.code == 2
    assert all(f"topic '{getattr(config.topics, role)}' is missing" in ended.line for role in ROLES)
    assert "streamal topics create" in ended.line


def wrong_topics(kafka: Cluster, config: Config) -> list[TopicSettings]:
    """Make the six topics, three of them so that a promise would break."""
    topics = config.topics
    made = [
        TopicSettings(topics.events, 3),
        TopicSettings(topics.labels, 1),
        TopicSettings(topics.predictions, 2, at_least={"max.message.bytes": 1_000}),
        TopicSettings(topics.requests, 2, {"cleanup.policy": "delete"}, {"max.message.bytes": 5_000_000}),
        TopicSettings(topics.training, 1, {"retention.ms": "86400000"}, {"max.message.bytes": 5_000_000}),
        TopicSettings(topics.dead_letters, 2, at_least={"max.message.bytes": 5_000_000}),
    ]
    create_topics(Connection(kafka.bootstrap), made)
    return made


@pytest.mark.parametrize("command", ["run", "check"])
def test_each_wrong_setting_is_named(kafka: Cluster, cli: Cli, directory: Path, command: str) -> None:
    """Partitions, retention, compaction, size: exit 2 with one line that names them all (F14, F15)."""
    config = configured(directory, kafka.bootstrap, partitions=2)
    wrong_topics(kafka, config)
    ended = cli(command)
    assert ended.code == 2
    least = 2 * config.limits.record_bytes + 65_536
    for told in (
        f"'{config.topics.events}' has 3 partitions, not 2",
        f"'{config.topics.training}' has retention.ms=86400000, not -1",
        f"'{config.topics.requests}' has cleanup.policy=delete, not compact",
        f"'{config.topics.predictions}' has max.message.bytes=1000, less than {least}",
    ):
        assert told in ended.line


def test_topics_that_are_there_stay_as_they_are(kafka: Cluster, cli: Cli, directory: Path) -> None:
    """`topics create` makes what is missing, and alters nothing, however wrong it is (F15)."""
    config = configured(directory, kafka.bootstrap, partitions=2)
    made = wrong_topics(kafka, config)
    ended = cli("topics", "create")
    assert ended.code == 0, ended.err
    assert ended.out.count("was there") == 6
    assert differences(Connection(kafka.bootstrap), made) == []


# At work


@on_both
def test_partitions_that_are_added_stop_the_worker(
    kafka: Cluster, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The budget was divided among those that were there: nothing of a new one is read, and the text says why (F15)."""
    assert INPUTS_S <= 30
    monkeypatch.setattr(base_transport, "INPUTS_S", 0.5)
    world = World(kafka, client=client)
    try:
        world.feed(b"1")
        worker = world.worker()
        worker.commit(*echo(world, take(worker, world.events, 1)))
        admin = world.admin()
        admin.create_partitions({world.events: 2})
        admin.close()
        with pytest.raises(ConfigError, match=rf"'{world.events}' has 2 partitions, not 1"):
            until(lambda: bool(worker.poll({world.events: 1}, 0.1)))
        assert set(world.log.committed(world.name)) == {TopicPartition(world.events, 0)}
    finally:
        world.close()


@on_both
@pytest.mark.parametrize("role", ["events", "labels"])
def test_an_input_that_is_deleted_under_way_is_named(
    kafka: Cluster, client: Client, role: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client takes it for a passing trouble; the worker ends, and says which topic it was."""
    monkeypatch.setattr(base_transport, "INPUTS_S", 0.5)
    world = World(kafka, client=client)
    try:
        world.feed(b"1")
        worker = world.worker()
        worker.commit(*echo(world, take(worker, world.events, 1)))
        topic = getattr(world, role)
        admin = world.admin()
        admin.delete_topics([topic])
        admin.close()
        with pytest.raises(ConfigError, match=rf"'{topic}' was deleted under way"):
            poll_for_long(worker, world)
    finally:
        world.close()


def poll_for_long(worker: Worker, world: World) -> None:
    """Poll as the daemon does, with a rewind after each trouble that may pass."""
    deadline = time.monotonic() + 60.0
    while time.monotonic() < deadline:
        try:
            worker.poll({world.events: 10, world.labels: 10}, 0.1)
        except Uncommitted:
            with suppress(Uncommitted):
                worker.rewind()


@pytest.mark.parametrize("instance", [None, "w"])
def test_a_transaction_that_takes_too_long_costs_a_restart_and_no_record(
    world: World, monkeypatch: pytest.MonkeyPatch, instance: str | None
) -> None:
    """The broker aborts it: a nameless worker rewinds, a named one ends and starts again; all is copied once (F11)."""
    monkeypatch.setattr(transport_module, "TRANSACTION_S", 1.0)
    world.feed(b"1", b"2")
    named = {"instance": instance} if instance else {}
    worker = world.worker(**named)
    records = take(worker, world.events, 2)
    flush = KafkaProducer.flush

    def slow(producer: KafkaProducer, timeout: float | None = None) -> None:
        flush(producer, timeout)
        threading.Event().wait(2.5)  # the cluster looks for such transactions twice a second

    with monkeypatch.context() as patch:
        patch.setattr(KafkaProducer, "flush", slow)
        with pytest.raises(Fenced if instance else Uncommitted):
            worker.commit(*echo(world, records))
    if instance:
        worker.close()
        worker = world.worker(**named)
    else:
        worker.rewind()
    copy_all(world, worker)
    assert world.copied() == [b"1", b"2"]


def test_a_worker_that_was_replaced_ends_and_says_so(kafka: Cluster, streamal: Cli, tmp_path: Path) -> None:
    """The second `run` of an instance fences the first: exit 1, a line, and each event is predicted once (F11)."""
    config = configured(tmp_path, kafka.bootstrap)
    transports.create_topics(config)
    log = transports.open_log(config)
    settings = ("run", "--set", "transport.instance=one", "--set")
    sent = 0

    def works(name: str) -> bool:
        nonlocal sent
        log.append(config.topics.events, 0, None, EVENT)
        sent += 1
        return '"assigned"' in (tmp_path / name).read_text()

    try:
        with running(tmp_path, *settings, "snapshots.directory=a", name="first.txt") as first:
            until(lambda: works("first.txt"))
            with running(tmp_path, *settings, "snapshots.directory=b", name="second.txt") as second:
                until(lambda: works("second.txt"))
                until(lambda: works("second.txt") and first.poll() is not None)
                assert first.returncode == 1
                last = (tmp_path / "first.txt").read_text().splitlines()[-1]
                assert last.startswith("streamal: ")
                assert "end" in last
                until(lambda: predicted(config) == sent)
                second.terminate()
                assert second.wait(timeout=120) == 0
        assert predicted(config) == sent
        assert streamal("verify", cwd=tmp_path).code == 0
    finally:
        log.close()


def predicted(config: Config) -> int:
    log = transports.open_log(config)
    try:
        return len(log.read(config.topics.predictions, 0, 0, 10_000))
    finally:
        log.close()


def test_a_broker_that_takes_no_metadata_is_told(streamal: Cli, tmp_path: Path) -> None:
    """Its offset.metadata.max.bytes is too small for a partition's state: exit 1, and that setting is named (F16)."""
    with kafka_broker.fragile(1, Extra({"offset.metadata.max.bytes": "20"})) as cluster:
        config = configured(tmp_path, cluster.bootstrap)
        transports.create_topics(config)
        log = transports.open_log(config)
        log.append(config.topics.events, 0, None, EVENT)
        ended = streamal("run", cwd=tmp_path)
        assert ended.code == 1
        last = ended.err.splitlines()[-1]
        assert last.startswith("streamal: ")
        assert "offset.metadata.max.bytes" in last
        assert log.read(config.topics.predictions, 0, 0, 9) == []
        log.close()
