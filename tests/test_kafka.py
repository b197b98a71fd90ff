"""What is Kafka's own: outages, fencing, rebalances, expired offsets, deleted records, defects of its clients (K…)."""

from __future__ import annotations

import itertools
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import pytest
from kafka import KafkaAdminClient, TopicPartition, errors

from streamal.cli import parts
from streamal.cluster import watched
from streamal.config import Config, TransportConfig, load_config
from streamal.core.records import Committed, Output, Place, Record
from streamal.edge import confluent
from streamal.edge import kafka as edge
from streamal.edge.confluent import ConfluentLog, ConfluentTransport
from streamal.edge.kafka import Connection, KafkaLog, KafkaTransport, TopicSettings, create_topics, differences
from streamal.edge.kafka.connection import mapped
from streamal.errors import ConfigError, Fatal, Fenced, LogDisagrees, StreamalError, Uncommitted
from tests import kafka_broker
from tests.kafka_broker import Cluster

NUMBERS = itertools.count()
PATIENCE_S = 30.0
Worker = KafkaTransport | ConfluentTransport
Client = Literal["kafka-python", "confluent"]
CLIENTS: tuple[Client, ...] = ("kafka-python", "confluent")
on_both = pytest.mark.parametrize("client", CLIENTS)


class World:
    """Topics, a log, and workers that are closed in the end; of one client, unless a worker is told otherwise."""

    def __init__(self, cluster: Cluster, partitions: int = 1, client: Client = "kafka-python") -> None:
        self.connection, self.client = Connection(cluster.bootstrap, timeout_s=20), client
        self.other = confluent.Connection(cluster.bootstrap, timeout_s=20)
        self.name = f"t.{os.getpid()}.{next(NUMBERS)}"
        self.events, self.labels, self.out = (f"{self.name}.{role}" for role in ("events", "labels", "out"))
        counts = {self.events: partitions, self.labels: 1, self.out: partitions}
        create_topics(self.connection, [TopicSettings(topic, count) for topic, count in counts.items()])
        self.log = self.new_log()
        self._opened: list[KafkaLog | ConfluentLog] = [self.log]

    def new_log(self) -> KafkaLog | ConfluentLog:
        return KafkaLog(self.connection) if self.client == "kafka-python" else ConfluentLog(self.other)

    def seat(self, group: str, events: str, labels: str, client: str | None = None, **settings: Any) -> Worker:
        if (client or self.client) == "kafka-python":
            return KafkaTransport(self.connection, group, events, labels, **settings)
        return ConfluentTransport(self.other, group, events, labels, **settings)

    def worker(self, **settings: str) -> Worker:
        made = self.seat(
            self.name,
            self.events,
            self.labels,
            instance=settings.get("instance"),
            name=f"w{next(NUMBERS)}",
            session_timeout_s=6,
            witness=settings.get("witness"),
            client=settings.get("client"),
        )
        self._opened.append(made)
        return made

    def admin(self) -> KafkaAdminClient:
        return self.connection.admin()

    def feed(self, *values: bytes, partition: int = 0) -> None:
        for value in values:
            self.log.append(self.events, partition, None, value)

    def copied(self, partition: int = 0) -> list[bytes | None]:
        return [record.value for record in self.log.read(self.out, partition, 0, 10_000)]

    def close(self) -> None:
        for each in reversed(self._opened):
            each.close()


@pytest.fixture(params=CLIENTS)
def world(kafka: Cluster, request: pytest.FixtureRequest) -> Iterator[World]:
    made = World(kafka, client=request.param)
    yield made
    made.close()


@pytest.fixture(scope="module")
def fragile() -> Iterator[Cluster]:
    """A cluster of our own, to torment."""
    with kafka_broker.fragile() as cluster:
        yield cluster


def take(worker: Worker, topic: str, count: int, at_once: int = 10) -> list[Record]:
    found: list[Record] = []
    deadline = time.monotonic() + PATIENCE_S
    while len(found) < count:
        assert time.monotonic() < deadline, found
        found += worker.poll({topic: at_once}, 0.1)
    return found


def echo(world: World, records: Sequence[Record]) -> tuple[list[Output], dict[Place, Committed]]:
    outputs = [Output(world.out, record.partition, record.key, record.value) for record in records]
    return outputs, {Place(r.topic, r.partition): Committed(r.offset + 1, "s") for r in records}


def copy_all(world: World, worker: Worker, patience_s: float = 60.0) -> int:
    """Copy events to out as the daemon does, whatever happens, until nothing is left; return the aborts on the way."""
    aborts, deadline = 0, time.monotonic() + patience_s
    trouble = False
    while True:
        assert time.monotonic() < deadline
        try:
            if trouble:
                worker.rewind()
            trouble = False
            worker.commit(*echo(world, worker.poll({world.events: 7}, 0.1)))
            if worker.committed(world.name).get(Place(world.events, 0), Committed(0, ""))[0] == worker.end(
                world.events, 0
            ):
                return aborts
        except Uncommitted:
            aborts, trouble = aborts + 1, True
            time.sleep(0.05)


def copy_until(world: World, worker: Worker, seats: int) -> None:
    """Copy until all events are copied and so many workers have a share; each worker in a thread of its own."""
    log, admin = world.new_log(), world.admin()
    deadline = time.monotonic() + PATIENCE_S
    while True:
        assert time.monotonic() < deadline
        try:
            worker.commit(*echo(world, worker.poll({world.events: 5}, 0.1)))
        except Uncommitted:
            worker.rewind()
        done = log.committed(world.name)
        copied = all(done.get(Place(world.events, p), Committed(0, ""))[0] == log.end(world.events, p) for p in (0, 1))
        if copied and len(admin.describe_groups([world.name])[world.name]["members"]) == seats:
            worker.poll({}, 0.1)
            break
    log.close()
    admin.close()


# The cluster in trouble


@pytest.mark.kafka
@on_both
def test_a_short_outage_costs_time_and_nothing_else(fragile: Cluster, client: Client) -> None:
    """The broker is killed and comes back amid transactions: none hangs, each record is copied once (K1, F4, F10)."""
    world = World(fragile, client=client)
    try:
        values = [b"%d" % number for number in range(100)]
        world.feed(*values)
        worker = world.worker(**({"instance": "w"} if client == "kafka-python" else {}))  # R10
        take(worker, world.events, 1)
        worker.rewind()
        node = fragile.nodes[0]

        with ThreadPoolExecutor(1) as pool:
            copied = pool.submit(copy_all, world, worker)
            time.sleep(0.2)
            node.kill()
            node.start()
            copied.result()
        fragile.wait()
        world.feed(*values)
        copy_all(world, worker)
        assert world.copied() == [*values, *values]
    finally:
        fragile.wait()
        world.close()


@pytest.mark.kafka
@on_both
def test_a_transaction_that_gets_no_answer_is_given_up(
    fragile: Cluster, monkeypatch: pytest.MonkeyPatch, client: Client
) -> None:
    """The watchdog ends the wait; a new producer finds out, and each record is copied once (K1, F4)."""
    monkeypatch.setattr(f"streamal.edge.{client.partition('-')[0]}.transport._WATCH_S", 1.0)
    world = World(fragile, client=client)
    try:
        world.feed(b"1", b"2", b"3")
        worker = world.worker()
        records = take(worker, world.events, 3)
        assert worker.partitions(world.out) == 1
        fragile.nodes[0].pause()
        began = time.monotonic()
        try:
            with pytest.raises(Uncommitted, match="1 s"):
                worker.commit(*echo(world, records))
            assert time.monotonic() - began < 3
            with pytest.raises(Uncommitted, match="rewind first"):
                worker.commit(*echo(world, records))
        finally:
            fragile.nodes[0].resume()
        monkeypatch.undo()
        worker.rewind()
        copy_all(world, worker)
        assert world.copied() == [b"1", b"2", b"3"]
    finally:
        world.close()


def test_an_absent_cluster_is_waited_for_and_then_given_up() -> None:
    """Nobody listens: Fatal, after the time-out, with the address."""
    began = time.monotonic()
    with pytest.raises(Fatal, match=r"no Kafka at 127\.0\.0\.1:1 within 1 s") as raised:
        Connection("127.0.0.1:1", timeout_s=1.0).admin()
    assert raised.value.exit_code == 1
    assert 0.5 < time.monotonic() - began < 5


# Who owns what


@pytest.mark.kafka
@pytest.mark.parametrize("clients", list(itertools.product(CLIENTS, CLIENTS)), ids=" ".join)
def test_a_worker_that_joins_gets_its_share_and_no_record_is_lost_or_doubled(
    kafka: Cluster, clients: tuple[Client, Client]
) -> None:
    """What was polled and not committed before the rebalance is polled again, by whoever owns it now (F12)."""
    world = World(kafka, partitions=2)
    try:
        world.feed(b"a", partition=0)
        world.feed(b"b", partition=1)
        first, second = (world.worker(client=client) for client in clients)
        take(first, world.events, 2)
        assert len(first.assignment()[1]) == 3
        with ThreadPoolExecutor(2) as pool:
            for done in [pool.submit(copy_until, world, worker, 2) for worker in (first, second)]:
                done.result()
        assert (world.copied(0), world.copied(1)) == ([b"a"], [b"b"])
        owned = [set(worker.assignment()[1]) for worker in (first, second)]
        assert sorted(owned[0] | owned[1]) == [Place(world.events, 0), Place(world.events, 1), Place(world.labels, 0)]
        assert owned[0]
        assert owned[1]
        assert not owned[0] & owned[1]
    finally:
        world.close()


@pytest.mark.kafka
def test_offsets_of_a_generation_that_is_over_are_refused(world: World) -> None:
    """The broker compares the seat that comes with the offsets; the worker rewinds, and goes on (KIP-447, F11, F12)."""
    world.feed(b"1")
    worker = world.worker()
    records = take(worker, world.events, 1)
    assert worker._seat is not None
    if isinstance(worker, KafkaTransport):
        worker._seat = worker._seat._replace(generation_id=worker._seat.generation_id + 1)
    else:  # librdkafka's own encoding: a mark, then the generation
        generation = int.from_bytes(worker._seat[7:11], sys.byteorder)
        worker._seat = worker._seat[:7] + (generation + 1).to_bytes(4, sys.byteorder) + worker._seat[11:]
    with pytest.raises(Uncommitted, match=r"(?i)illegal_?generation"):
        worker.commit(*echo(world, records))
    worker.rewind()
    copy_all(world, worker)
    assert world.copied() == [b"1"]


@pytest.mark.kafka
def test_a_nameless_worker_whose_transaction_has_timed_out_goes_on(world: World) -> None:
    """Nobody else has its transactional id: it is the coordinator that has fenced it, and it may come back."""
    world.feed(b"1", b"2")
    worker = world.worker()
    records = take(worker, world.events, 2)
    usurper = world.connection.producer(transactional_id=worker._transactional_id)
    usurper.init_transactions()
    usurper.close(timeout=2)
    with pytest.raises(Uncommitted, match="timed out"):
        worker.commit(*echo(world, records))
    worker.rewind()
    copy_all(world, worker)
    assert world.copied() == [b"1", b"2"]


@pytest.mark.kafka
def test_a_fenced_worker_stays_fenced(world: World) -> None:
    """A named worker that was replaced takes nothing back: commit, poll and rewind say so from then on (F11, K6)."""
    world.feed(b"1")
    zombie = world.worker(instance="w")
    records = take(zombie, world.events, 1)
    successor = world.worker(instance="w")
    with pytest.raises(Fenced):
        zombie.commit(*echo(world, records))
    for again in (zombie.rewind, lambda: zombie.poll({}, 0.0), lambda: zombie.commit([], {})):
        with pytest.raises(Fenced):
            again()
    copy_all(world, successor)
    assert world.copied() == [b"1"]


# What is stored, and what is not any more


@pytest.mark.kafka
def test_offsets_that_have_expired_stop_the_worker(world: World) -> None:
    """The group has no offsets, yet there are predictions: LogDisagrees, for the budget's state is lost with them."""
    world.feed(b"1")
    worker = world.worker(witness=world.out)
    worker.commit(*echo(world, take(worker, world.events, 1)))
    worker.close()
    admin = world.admin()
    admin.delete_groups([world.name])
    admin.close()
    with pytest.raises(LogDisagrees, match="expired") as raised:
        take(world.worker(witness=world.out), world.events, 1)
    assert raised.value.exit_code == 2


@pytest.mark.kafka
def test_records_that_were_deleted_stop_the_worker(world: World) -> None:
    """The committed offset, or a reader's, is below the log's start: LogDisagrees; from 0, what is left (F14)."""
    world.feed(b"1", b"2", b"3", b"4")
    worker = world.worker()
    records = take(worker, world.events, 1, at_once=1)
    worker.commit(*echo(world, records))
    worker.close()
    admin = world.admin()
    admin.delete_records({TopicPartition(world.events, 0): 3})
    admin.close()
    with pytest.raises(LogDisagrees):
        take(world.worker(), world.events, 1)
    with pytest.raises(LogDisagrees, match="starts at 3"):
        world.log.read(world.events, 0, 1, 10)
    assert [record.value for record in world.log.read(world.events, 0, 0, 10)] == [b"4"]


@pytest.mark.kafka
def test_a_group_without_offsets_starts_at_the_first_record_that_is_left(world: World) -> None:
    """Nothing is skipped and nothing is reset: the start is an explicit one."""
    world.feed(b"1", b"2", b"3")
    admin = world.admin()
    admin.delete_records({TopicPartition(world.events, 0): 1})
    admin.close()
    worker = world.worker()
    assert [record.value for record in take(worker, world.events, 2)] == [b"2", b"3"]
    assert worker.assignment()[1][Place(world.events, 0)] == Committed(1, "")


@pytest.mark.kafka
def test_a_state_above_the_brokers_limit_is_fatal(world: World) -> None:
    """It is measured before it is sent, in bytes; the broker would refuse it, and the transaction with it (F16)."""
    worker = world.worker()
    take(worker, world.events, 0)
    with pytest.raises(Fatal, match="4098 bytes"):
        worker.commit([], {Place(world.events, 0): Committed(0, "é" * 2049)})


@pytest.mark.kafka
def test_a_record_above_the_topics_limit_is_fatal(world: World) -> None:
    """It would be so at the next attempt too; the text says which limit."""
    worker = world.worker()
    with pytest.raises(Fatal, match=r"max\.message\.bytes"):
        worker.commit([Output(world.out, 0, None, b"x" * 2_000_000)], {})
    assert world.copied() == []


@pytest.mark.kafka
def test_a_topic_that_is_not_there_is_a_config_error(world: World) -> None:
    """Reading, appending, committing and taking a seat name the topic and the remedy."""
    worker = world.worker()
    calls: list[Callable[[], object]] = [
        lambda: world.log.end("nonsense", 0),
        lambda: world.log.read(world.out, 7, 0, 1),
        lambda: worker.commit([Output("nonsense", 0, None, b"x")], {}),
        lambda: world.seat("g", "nonsense", world.labels),
    ]
    for call in calls:
        with pytest.raises(ConfigError, match="streamal topics create"):
            call()


@pytest.mark.kafka
@on_both
def test_labels_have_one_partition(kafka: Cluster, client: Client) -> None:
    """Their owner is the trainer, and there is one."""
    world = World(kafka, partitions=2, client=client)
    with pytest.raises(ConfigError, match="must have 1 partition"):
        world.seat("g", world.labels, world.events)
    world.close()


@pytest.mark.kafka
def test_each_difference_of_a_topic_is_named(world: World) -> None:
    """Missing, partitions, retention, size: one line each; what was created by us has none."""
    name = f"{world.name}.made"
    right = TopicSettings(name, 2, {"retention.ms": "-1"}, {"max.message.bytes": 2_000_000})
    assert differences(world.connection, [right]) == [f"topic '{name}' is missing"]
    assert create_topics(world.connection, [right]) == [name]
    assert create_topics(world.connection, [right]) == []
    assert differences(world.connection, [right]) == []
    wrong = TopicSettings(name, 3, {"cleanup.policy": "compact"}, {"max.message.bytes": 3_000_000})
    assert differences(world.connection, [wrong]) == [
        f"topic '{name}' has 2 partitions, not 3",
        f"topic '{name}' has cleanup.policy=delete, not compact",
        f"topic '{name}' has max.message.bytes=2000000, less than 3000000",
    ]


# Errors and settings


def wrapped(inner: BaseException) -> BaseException:
    """Return *inner* as the client surfaces it at times: behind another error, as an argument (K4)."""
    outer: BaseException = errors.KafkaError(
        "Cannot perform send because at least one previous request has failed", inner
    )
    return outer


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        (errors.FencedInstanceIdError(), Fenced),
        (wrapped(errors.ProducerFencedError()), Fenced),
        (wrapped(wrapped(errors.InvalidProducerEpochError())), Fenced),
        (errors.TopicAuthorizationFailedError("t"), ConfigError),
        (errors.SaslAuthenticationFailedError(), ConfigError),
        (errors.OffsetOutOfRangeError(), LogDisagrees),
        (wrapped(errors.MessageSizeTooLargeError()), Fatal),
        (errors.CommitFailedError(), Uncommitted),
        (errors.KafkaTimeoutError(), Uncommitted),
        (errors.NotEnoughReplicasError(), Uncommitted),
        (ConnectionResetError(), Uncommitted),
    ],
)
def test_each_error_of_the_client_has_a_meaning(theirs: BaseException, ours: type[StreamalError]) -> None:
    """The most telling of the errors that are wrapped in one another decides (K4)."""
    with pytest.raises(StreamalError) as raised, mapped("do it"):
        raise theirs
    assert type(raised.value) is ours
    assert str(raised.value).startswith("cannot do it: ")


def test_the_watchdog_returns_raises_and_gives_up() -> None:
    """Its outcome is the action's, or a time-out."""
    assert watched(lambda: 7, 1.0) == 7
    with pytest.raises(ZeroDivisionError):
        watched(lambda: 1 / 0, 1.0)
    with pytest.raises(TimeoutError):
        watched(lambda: time.sleep(0.5), 0.01)


def test_the_password_comes_from_the_environment_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a file or on the command line it is refused; from the environment it reaches the client, and no text (F52)."""
    login = 'security = { protocol = "SASL_SSL", sasl_mechanism = "PLAIN", sasl_username = "me"'
    file = tmp_path / "config.toml"
    file.write_text(f'[transport]\n{login}, sasl_password = "hunter2" }}\n')
    with pytest.raises(ConfigError, match="STREAMAL_TRANSPORT__SECURITY__SASL_PASSWORD") as raised:
        load_config(file)
    assert "hunter2" not in str(raised.value)
    with pytest.raises(ConfigError, match="environment only"):
        load_config(None, ["transport.security.sasl_password=hunter2"])
    file.write_text(f"[transport]\n{login} }}\n")
    with pytest.raises(ConfigError, match="password in the environment"):
        load_config(file)
    monkeypatch.setenv("STREAMAL_TRANSPORT__SECURITY__SASL_PASSWORD", "hunter2")
    config = load_config(file)
    connection = parts._connection(config)
    assert connection.security["sasl_plain_password"] == "hunter2"
    assert connection.security["security_protocol"] == "SASL_SSL"
    assert "hunter2" not in f"{config!r} {connection!r} {config.model_dump_json()}"


@pytest.mark.parametrize(
    "setting",
    [
        "bootstrap_servers=kafka",
        "instance='a b'",
        "session_timeout_s=0.1",
        "security={protocol='SASL_SSL'}",
        "kind=nats",
    ],
)
def test_wrong_settings_of_the_transport_are_refused(setting: str) -> None:
    """The text names the key."""
    with pytest.raises(ConfigError, match=f"transport.{setting.partition('=')[0]}"):
        load_config(None, [f"transport.{setting}"])


def test_the_public_names_are_those_of_the_package() -> None:
    """Whoever joins the parts needs these."""
    assert sorted(edge.__all__) == edge.__all__
    assert all(hasattr(edge, name) for name in edge.__all__)


@pytest.mark.kafka
def test_a_worker_does_not_start_on_topics_that_cannot_keep_the_promises(kafka: Cluster) -> None:
    """What is missing or different is named, with the command that makes it right."""
    names = {role: f"{role}.{os.getpid()}.{next(NUMBERS)}" for role in ("events", "labels", "predictions", "requests")}
    config = Config(transport=TransportConfig(kind="kafka", bootstrap_servers=kafka.bootstrap))
    config = config.model_copy(update={"topics": config.topics.model_copy(update=names)})
    with pytest.raises(ConfigError, match=rf"topic '{names['events']}' is missing.*streamal topics create") as raised:
        parts.open_transport(config)
    assert raised.value.exit_code == 2
