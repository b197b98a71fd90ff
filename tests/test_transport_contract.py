"""What every transport promises, whatever it is made of: one suite, run on each of `WORLDS` (F-rows: docs/promises.md).

The simulation runs on the memory transport; that both pass here is what makes it evidence about the others.
"""

from __future__ import annotations

import itertools
import os
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kafka import KafkaProducer
from kafka.errors import KafkaTimeoutError
from msgspec.structs import replace

from streamal.core.records import OffsetAndMetadata, OutputRecord, Record, TopicPartition
from streamal.edge.kafka import librdkafka as confluent
from streamal.edge.kafka.librdkafka.log import flush
from streamal.edge.kafka.python import Connection, KafkaLog, KafkaTransport, TopicSettings, WorkerOptions, create_topics
from streamal.edge.memory import Broker, MemoryTransport
from streamal.edge.sqlite import SqliteLog, SqliteTransport
from streamal.errors import ConfigError, Fenced, Uncommitted
from streamal.ports import Log, Transport, read_events
from tests import kafka_broker

PARTITIONS = {"events": 2, "labels": 1, "out": 2}
PATIENCE_S = 120.0  # for a real broker's group coordinator, on a busy machine; the embedded ones need one poll


@dataclass(frozen=True)
class World:
    """One kind of transport with the topics of `PARTITIONS`, all empty.

    Attributes:
        log: reads and appends without a seat.
        worker: takes the one seat of group "workers", fencing the worker before.
        sabotage: while it is open, commits abort (and nothing else fails).
    """

    log: Log
    worker: Callable[[], Transport]
    sabotage: Callable[[], AbstractContextManager[None]]


@contextmanager
def memory_world() -> Iterator[World]:
    broker = Broker()
    for topic, partitions in PARTITIONS.items():
        broker.create(topic, partitions)

    def abort(_instance: str, point: str) -> None:
        if point == "commit:before":
            raise Uncommitted("sabotage")

    @contextmanager
    def sabotage() -> Iterator[None]:
        broker.fault = abort
        yield
        broker.fault = None

    yield World(broker, lambda: MemoryTransport(broker, "workers", "w", "events", "labels"), sabotage)


@contextmanager
def sqlite_world() -> Iterator[World]:
    opened: list[SqliteLog] = []
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "streamal.db"
        log = SqliteLog(path, create=True, synchronous="OFF")
        for topic, partitions in PARTITIONS.items():
            log.create(topic, partitions)

        def worker() -> Transport:
            transport = SqliteTransport(path, "workers", "w", "events", "labels", synchronous="OFF", busy_s=0.01)
            opened.append(transport)
            return transport

        @contextmanager
        def sabotage() -> Iterator[None]:
            other = sqlite3.connect(path, isolation_level=None)
            other.execute("BEGIN IMMEDIATE")
            yield
            other.close()

        yield World(log, worker, sabotage)
        for each in (*opened, log):
            each.close()


NUMBERS = itertools.count()


class Renamed:
    """Gives each world topics of its own on the broker that all worlds share: "events" is "events.17" there."""

    def __init__(self, inner: Log, suffix: str) -> None:
        self._inner, self._suffix = inner, suffix

    def partitions(self, topic: str) -> int:
        return self._inner.partitions(topic + self._suffix)

    def begin(self, topic: str, partition: int) -> int:
        return self._inner.begin(topic + self._suffix, partition)

    def end(self, topic: str, partition: int) -> int:
        return self._inner.end(topic + self._suffix, partition)

    def read(self, topic: str, partition: int, offset: int, records_max: int) -> list[Record]:
        return self._short(self._inner.read(topic + self._suffix, partition, offset, records_max))

    def append(self, topic: str, partition: int, key: bytes | None, value: bytes | None) -> int:
        return self._inner.append(topic + self._suffix, partition, key, value)

    def append_all(self, outputs: Sequence[OutputRecord]) -> list[int]:
        return self._inner.append_all([replace(output, topic=output.topic + self._suffix) for output in outputs])

    def committed(self, group: str) -> Mapping[TopicPartition, OffsetAndMetadata]:
        return self._places(self._inner.committed(group + self._suffix))

    def close(self) -> None:
        self._inner.close()

    def _short(self, records: list[Record]) -> list[Record]:
        return [replace(record, topic=record.topic.removesuffix(self._suffix)) for record in records]

    def _places(self, states: Mapping[TopicPartition, OffsetAndMetadata]) -> dict[TopicPartition, OffsetAndMetadata]:
        return {place._replace(topic=place.topic.removesuffix(self._suffix)): state for place, state in states.items()}


class RenamedWorker(Renamed):
    """The same for a worker."""

    def __init__(self, inner: Transport, suffix: str) -> None:
        super().__init__(inner, suffix)
        self._worker = inner

    def assignment(self) -> tuple[int, Mapping[TopicPartition, OffsetAndMetadata]]:
        generation, committed = self._worker.assignment()
        return generation, self._places(committed)

    def poll(self, records_max_by_topic: Mapping[str, int], timeout_s: float) -> list[Record]:
        long = {topic + self._suffix: records_max for topic, records_max in records_max_by_topic.items()}
        return self._short(self._worker.poll(long, timeout_s))

    def commit(self, outputs: Sequence[OutputRecord], offsets: Mapping[TopicPartition, OffsetAndMetadata]) -> None:
        self._worker.commit(
            [replace(output, topic=output.topic + self._suffix) for output in outputs],
            {place._replace(topic=place.topic + self._suffix): state for place, state in offsets.items()},
        )
        for place in {(output.topic, output.partition) for output in outputs}:
            self.end(*place)  # so that another log sees it too

    def rewind(self) -> None:
        self._worker.rewind()


@contextmanager
def kafka_world() -> Iterator[World]:
    connection = Connection(kafka_broker.shared().bootstrap)

    @contextmanager
    def sabotage() -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch:
            flush = KafkaProducer.flush

            def broken(producer: KafkaProducer, timeout: float | None = None) -> None:
                flush(producer, timeout)
                raise KafkaTimeoutError("sabotage")

            patch.setattr(KafkaProducer, "flush", broken)
            yield

    with cluster_world(partial(KafkaLog, connection), partial(KafkaTransport, connection), sabotage) as world:
        yield world


@contextmanager
def confluent_world() -> Iterator[World]:
    connection = confluent.Connection(kafka_broker.shared().bootstrap)

    @contextmanager
    def sabotage() -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch:

            def broken(producer: Any, timeout_s: float) -> None:
                flush(producer, timeout_s)
                raise KafkaException(KafkaError(KafkaError._TIMED_OUT, "sabotage"))

            patch.setattr("streamal.edge.kafka.librdkafka.transaction.flush", broken)
            yield

    made = partial(confluent.ConfluentLog, connection), partial(confluent.ConfluentTransport, connection)
    with cluster_world(*made, sabotage) as world:
        yield world


@contextmanager
def cluster_world(
    new_log: Callable[[], Log],
    new_worker: Callable[[WorkerOptions], Transport],
    sabotage: Callable[[], AbstractContextManager[None]],
) -> Iterator[World]:
    """Topics of their own on the shared broker, whatever the client."""
    suffix = f".{os.getpid()}.{next(NUMBERS)}"
    topics = [TopicSettings(topic + suffix, count) for topic, count in PARTITIONS.items()]
    create_topics(Connection(kafka_broker.shared().bootstrap), topics)
    log = Renamed(new_log(), suffix)
    opened: list[Log] = [log]

    def worker() -> Transport:
        names = ("workers" + suffix, "events" + suffix, "labels" + suffix)
        made = new_worker(WorkerOptions(*names, instance="w", session_timeout_s=6))
        opened.append(made)
        return RenamedWorker(made, suffix)

    yield World(log, worker, sabotage)
    for each in reversed(opened):
        each.close()


WORLDS = {"memory": memory_world, "sqlite": sqlite_world}
CLUSTERS = {"kafka": kafka_world, "confluent": confluent_world}
EVERYWHERE = [
    *(pytest.param(make, id=name) for name, make in WORLDS.items()),
    *(pytest.param(make, id=name, marks=pytest.mark.kafka) for name, make in CLUSTERS.items()),
]


@pytest.fixture(params=EVERYWHERE)
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    with request.param() as made:
        yield made


def seated(worker: Transport) -> Mapping[TopicPartition, OffsetAndMetadata]:
    """Poll nothing until the partitions are ours."""
    deadline = time.monotonic() + PATIENCE_S
    while not worker.assignment()[1]:
        assert time.monotonic() < deadline
        assert worker.poll({}, 0.05) == []
    return worker.assignment()[1]


def take(worker: Transport, records_max_by_topic: Mapping[str, int], count: int) -> list[Record]:
    """Poll until *count* records are there."""
    records: list[Record] = []
    deadline = time.monotonic() + PATIENCE_S
    while len(records) < count:
        assert time.monotonic() < deadline
        records += worker.poll(records_max_by_topic, 0.05)
    return records


def feed(log: Log, topic: str, partition: int, *values: bytes) -> list[int]:
    return [log.append(topic, partition, None, value) for value in values]


def everything(log: Log, topic: str, partition: int) -> list[bytes | None]:
    return [record.value for record in log.read(topic, partition, 0, 10_000)]


def echo(records: Sequence[Record]) -> tuple[list[OutputRecord], dict[TopicPartition, OffsetAndMetadata]]:
    """Return the transaction that copies *records* to ``out``."""
    outputs = [OutputRecord("out", record.partition, record.key, record.value) for record in records]
    offsets = {
        TopicPartition(record.topic, record.partition): OffsetAndMetadata(record.offset + 1, "") for record in records
    }
    return outputs, offsets


def test_it_is_a_transport(world: World) -> None:
    """A worker satisfies `Transport`, a reader `Log`."""
    assert isinstance(world.worker(), Transport)
    assert isinstance(world.log, Log)


def test_the_number_of_partitions_is_known(world: World) -> None:
    """A topic has the partitions it was created with; a topic that is not there has 0."""
    assert world.log.partitions("events") == 2
    assert world.worker().partitions("labels") == 1
    assert world.log.partitions("nonsense") == 0


def test_an_unknown_topic_is_a_config_error(world: World) -> None:
    """Appending to a topic that was not created names the topic."""
    with pytest.raises(ConfigError, match="nonsense"):
        world.log.append("nonsense", 0, None, b"x")


def test_single_records_can_be_recalled(world: World) -> None:
    """What natural labels name is found again, near or far; what was never there is not, and is no error."""
    offsets = feed(world.log, "events", 0, *(b"%d" % number for number in range(30)))
    feed(world.log, "events", 1, b"other")
    wanted = {0: [offsets[0], offsets[1], offsets[29], offsets[29] + 5, offsets[29] + 5_000], 1: [0, 3]}
    found = read_events(world.worker(), "events", wanted)
    assert {key: record.value for key, record in found.items()} == {
        **{f"0-{offsets[number]}": b"%d" % number for number in (0, 1, 29)},
        "1-0": b"other",
    }


def test_the_one_worker_owns_all_inputs(world: World) -> None:
    """A single worker's assignment is every partition of events and labels, from the start, without state."""
    want = {TopicPartition("events", 0), TopicPartition("events", 1), TopicPartition("labels", 0)}
    assert seated(world.worker()) == dict.fromkeys(want, OffsetAndMetadata(0, ""))


def test_appended_records_are_polled(world: World) -> None:
    """What a producer appended arrives as it was: topic, partition, offset, key, value."""
    offset = world.log.append("events", 1, b"key", b"value")
    assert take(world.worker(), {"events": 10}, 1) == [Record("events", 1, offset, b"key", b"value")]


def test_many_records_are_appended_in_order(world: World) -> None:
    """`append_all` writes as `append` would one by one, and tells the offset of each."""
    outputs = [OutputRecord("events", number % 2, None, b"%d" % number) for number in range(6)]
    offsets = world.log.append_all(outputs)
    for output, offset in zip(outputs, offsets, strict=True):
        found = world.log.read("events", output.partition, offset, 1)
        assert found == [Record("events", output.partition, offset, None, output.value)]
    assert world.log.append_all([]) == []


def test_a_worker_can_append_outside_a_transaction(world: World) -> None:
    """`append` of a worker is visible at once, whatever becomes of its next commit."""
    worker = world.worker()
    offset = worker.append("labels", 0, None, b"reply")
    assert world.log.read("labels", 0, 0, 10) == [Record("labels", 0, offset, None, b"reply")]


def test_a_tombstone_survives(world: World) -> None:
    """A value of None stays None, and an empty value or key stays empty."""
    worker = world.worker()
    worker.commit(
        [OutputRecord("out", 0, b"k", None), OutputRecord("out", 0, None, b""), OutputRecord("out", 0, b"", b"v")], {}
    )
    assert [(r.key, r.value) for r in world.log.read("out", 0, 0, 10)] == [(b"k", None), (None, b""), (b"", b"v")]


def test_the_order_within_a_partition_is_kept(world: World) -> None:
    """Records of one partition come in the order of their appending, their offsets growing."""
    values = [b"%d" % number for number in range(20)]
    offsets = feed(world.log, "events", 0, *values)
    records = take(world.worker(), {"events": 3}, 20)
    assert [record.value for record in records] == values
    assert [record.offset for record in records] == offsets == sorted(set(offsets))


def test_the_maximum_of_each_topic_is_respected(world: World) -> None:
    """A poll returns at most what was asked for of a topic, over all its partitions, and nothing of other topics."""
    worker = world.worker()
    seated(worker)
    for partition in (0, 1):
        feed(world.log, "events", partition, b"1", b"2", b"3", b"4")
    feed(world.log, "labels", 0, b"1", b"2", b"3")
    for records_max_by_topic in ({"events": 3, "labels": 1}, {"events": 2}, {"labels": 2, "events": 0}):
        polled = worker.poll(records_max_by_topic, 0.05)
        for topic in ("events", "labels"):
            assert sum(record.topic == topic for record in polled) <= records_max_by_topic.get(topic, 0)


def test_no_partition_starves(world: World) -> None:
    """With one record a poll and a flood on partition 0, partition 1 is served all the same (F26)."""
    feed(world.log, "events", 0, *[b"flood"] * 50)
    feed(world.log, "events", 1, b"drop")
    worker = world.worker()
    assert b"drop" in [record.value for record in take(worker, {"events": 1}, 20)]


def test_the_position_advances_without_a_commit(world: World) -> None:
    """A second poll follows the first one, though nothing was committed."""
    feed(world.log, "events", 0, b"1", b"2")
    worker = world.worker()
    assert [record.value for record in take(worker, {"events": 1}, 2)] == [b"1", b"2"]


def test_an_empty_poll_returns_in_time(world: World) -> None:
    """With nothing to read, a poll returns [] and does not go on waiting."""
    worker = world.worker()
    seated(worker)
    started = time.monotonic()
    assert worker.poll({"events": 10, "labels": 10}, 0.05) == []
    assert time.monotonic() - started < 30.0


def test_a_commit_shows_everything_at_once(world: World) -> None:
    """After `commit` all outputs and all offsets with their metadata are there, also for others."""
    feed(world.log, "events", 0, b"1", b"2")
    worker = world.worker()
    take(worker, {"events": 2}, 2)
    offsets = {
        TopicPartition("events", 0): OffsetAndMetadata(2, "state"),
        TopicPartition("labels", 0): OffsetAndMetadata(0, "trainer"),
    }
    worker.commit(
        [OutputRecord("out", 0, None, b"a"), OutputRecord("out", 1, None, b"b"), OutputRecord("out", 0, None, b"c")],
        offsets,
    )
    assert everything(world.log, "out", 0) == [b"a", b"c"]
    assert everything(world.log, "out", 1) == [b"b"]
    assert world.log.committed("workers") == offsets == worker.committed("workers")


def test_nothing_is_visible_before_the_commit(world: World) -> None:
    """Polling alone writes nothing, moves no offset, and `committed` of a foreign group is empty."""
    feed(world.log, "events", 0, b"1")
    worker = world.worker()
    take(worker, {"events": 1}, 1)
    assert world.log.committed("workers") == {}
    assert world.log.committed("others") == {}
    assert world.log.end("out", 0) == 0


def test_an_aborted_transaction_leaves_nothing(world: World) -> None:
    """A commit that raises Uncommitted shows no output and moves no offset, now or after the next commit (F2, F3)."""
    feed(world.log, "events", 0, b"1")
    worker = world.worker()
    transaction = echo(take(worker, {"events": 1}, 1))
    with world.sabotage(), pytest.raises(Uncommitted):
        worker.commit(*transaction)
    assert everything(world.log, "out", 0) == []
    assert world.log.committed("workers") == {}
    worker.rewind()
    worker.commit(*echo(take(worker, {"events": 1}, 1)))
    assert everything(world.log, "out", 0) == [b"1"]


def test_rewind_delivers_again(world: World) -> None:
    """After `rewind` the worker polls again from the committed offsets, and only from there (F9)."""
    feed(world.log, "events", 0, b"1", b"2", b"3")
    worker = world.worker()
    worker.commit(*echo(take(worker, {"events": 1}, 1)))
    take(worker, {"events": 2}, 2)
    before = worker.assignment()[0]
    worker.rewind()
    assert [record.value for record in take(worker, {"events": 2}, 2)] == [b"2", b"3"]
    assert worker.assignment()[0] > before


def test_the_generation_stands_still_between_changes(world: World) -> None:
    """Polls and commits alone do not change the generation; a mapping handed out is not changed afterwards."""
    feed(world.log, "events", 0, b"1", b"2")
    worker = world.worker()
    seated(worker)
    generation, committed = worker.assignment()
    worker.commit(*echo(take(worker, {"events": 1}, 1)))
    take(worker, {"events": 1}, 1)
    assert worker.assignment()[0] == generation
    assert committed[TopicPartition("events", 0)] == OffsetAndMetadata(0, "")


def test_a_successor_starts_at_the_committed_state(world: World) -> None:
    """A new worker finds offset and metadata as committed, and polls from there; an orderly close loses nothing."""
    feed(world.log, "events", 0, b"1", b"2")
    first = world.worker()
    take(first, {"events": 2}, 2)
    first.commit([], {TopicPartition("events", 0): OffsetAndMetadata(1, "state of 1")})
    first.close()
    second = world.worker()
    assert seated(second)[TopicPartition("events", 0)] == OffsetAndMetadata(1, "state of 1")
    assert [record.value for record in take(second, {"events": 5}, 1)] == [b"2"]


def test_a_replaced_worker_is_fenced(world: World) -> None:
    """A zombie's commit raises Fenced and shows nothing, and its successor goes on undisturbed (F11, I7)."""
    feed(world.log, "events", 0, b"1")
    zombie = world.worker()
    stale = echo(take(zombie, {"events": 1}, 1))
    successor = world.worker()
    fresh = echo(take(successor, {"events": 1}, 1))
    with pytest.raises(Fenced):
        zombie.commit(*stale)
    successor.commit(*fresh)
    with pytest.raises(Fenced):
        zombie.commit(*stale)
    zombie.close()
    assert everything(world.log, "out", 0) == [b"1"]


def test_metadata_of_a_thousand_bytes_survives(world: World) -> None:
    """A partition's state may have 1,000 bytes and any letters."""
    state = "{§" + "x" * 996 + "}"
    worker = world.worker()
    seated(worker)
    worker.commit([], {TopicPartition("events", 0): OffsetAndMetadata(0, state)})
    worker.rewind()
    assert worker.assignment()[1][TopicPartition("events", 0)].metadata == state


def test_end_and_read_agree_in_spite_of_gaps(world: World) -> None:
    """Reading in pieces from each last offset + 1 finds every record once and stops at `end`, aborts or not."""
    worker = world.worker()
    seated(worker)
    for number in range(6):
        with world.sabotage(), pytest.raises(Uncommitted):
            worker.commit([OutputRecord("out", 0, None, b"aborted")] * 3, {})
        worker.rewind()
        worker.commit([OutputRecord("out", 0, None, b"%d" % number)] * 2, {})
    found: list[Record] = []
    offset, end = 0, world.log.end("out", 0)
    while records := world.log.read("out", 0, offset, 5):
        found += records
        offset = records[-1].offset + 1
    assert [record.value for record in found] == [b"%d" % number for number in range(6) for _ in range(2)]
    assert all(before.offset < after.offset for before, after in pairwise(found))
    assert offset <= end
    assert world.log.read("out", 0, end, 5) == []
    assert len(found) <= end == worker.end("out", 0)


def test_at_most_as_many_records_as_wanted_are_read(world: World) -> None:
    """`read` returns a prefix of what is there from the offset on, of the wanted length."""
    offsets = feed(world.log, "out", 1, b"1", b"2", b"3")
    assert [record.value for record in world.log.read("out", 1, offsets[1], 1)] == [b"2"]
    assert world.log.read("out", 1, 0, 0) == []
    assert len(world.log.read("out", 1, 0, 9)) == 3


def test_closing_twice_is_allowed(world: World) -> None:
    """A second `close` does nothing."""
    worker = world.worker()
    worker.close()
    worker.close()


ACTIONS = st.lists(
    st.sampled_from(["append", "append", "poll", "poll", "commit", "abort", "rewind", "replace"]), max_size=40
)


@pytest.mark.parametrize("make", WORLDS.values(), ids=WORLDS)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(actions=ACTIONS, records_max=st.integers(1, 4))
def test_every_record_is_processed_exactly_once(
    make: Callable[[], AbstractContextManager[World]], actions: list[str], records_max: int
) -> None:
    """Any interleaving of appends, polls, commits, aborts, rewinds and replacements copies each record once (I1)."""
    copies_each_record_once(make, actions, records_max)


@pytest.mark.kafka
@pytest.mark.parametrize("make", CLUSTERS.values(), ids=CLUSTERS)
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(actions=ACTIONS, records_max=st.integers(1, 4))
def test_every_record_is_processed_exactly_once_on_kafka(
    make: Callable[[], AbstractContextManager[World]], actions: list[str], records_max: int
) -> None:
    """The same with fewer examples: each needs topics of its own and seconds."""
    copies_each_record_once(make, actions, records_max)


def copies_each_record_once(
    make: Callable[[], AbstractContextManager[World]], actions: list[str], records_max: int
) -> None:
    with make() as world:
        worker, appended, polled = world.worker(), 0, list[Record]()
        for action in [*actions, "rewind"]:
            if action == "append":
                feed(world.log, "events", appended % 3 % 2, b"%d" % appended)
                appended += 1
            elif action == "poll":
                polled += worker.poll({"events": records_max}, 0.0)
            elif action == "commit":
                worker.commit(*echo(polled))
                polled.clear()
            elif action == "abort" and polled:
                with world.sabotage(), pytest.raises(Uncommitted):
                    worker.commit(*echo(polled))
            elif action == "replace":
                worker = world.worker()
            if action in ("abort", "rewind", "replace"):
                worker.rewind()
                polled.clear()
        left = appended - sum(len(everything(world.log, "out", partition)) for partition in (0, 1))
        worker.commit(*echo(take(worker, {"events": records_max}, left)))
        for partition in (0, 1):
            assert everything(world.log, "out", partition) == everything(world.log, "events", partition)
