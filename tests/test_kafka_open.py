"""Nothing is written to a partition in which a transaction from before is still open (F56)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

import kafka
import pytest
from kafka import ConsumerGroupMetadata, KafkaProducer

from streamal.core.records import TopicPartition
from streamal.edge.kafka import membership
from streamal.edge.kafka.membership import NoOpenTransaction
from streamal.edge.kafka.python.connection import abandon
from streamal.errors import Behind, InconsistentLog, Uncommitted
from tests.kafka_broker import Cluster
from tests.kafka_world import CLIENTS, World, copy_all, echo, take

A, B = TopicPartition("t", 0), TopicPartition("t", 1)


@pytest.fixture(params=CLIENTS)
def world(kafka: Cluster, request: pytest.FixtureRequest) -> Iterator[World]:
    """Topics of their own, and workers of each client."""
    made = World(kafka, client=request.param)
    yield made
    made.close()


@pytest.fixture
def holder(world: World) -> Iterator[KafkaProducer]:
    """A producer that holds a transaction open on the first partition of the outputs; the broker will not end it."""
    made = world.connection.producer(transactional_id=f"{world.name}.holder", transaction_timeout_ms=120_000)
    made.init_transactions()
    made.begin_transaction()
    made.send(world.out, b"open", partition=0)
    made.flush(10)
    yield made
    abandon(made)


@pytest.mark.kafka
def test_a_worker_writes_when_what_was_open_has_ended(
    world: World, holder: KafkaProducer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until then its commit is refused, however often it tries; polling goes on; afterwards each record goes once."""
    monkeypatch.setattr(membership, "STABLE_S", 0.2)
    world.feed(b"1", b"2")
    worker = world.worker()
    for _ in range(2):
        records = take(worker, world.events, 2)
        with pytest.raises(Behind, match=rf"{world.out}-0 has an open transaction at 0; waiting"):
            worker.commit(*echo(world, records))
        worker.rewind()
    holder.abort_transaction()
    copy_all(world, worker)
    assert world.copied() == [b"1", b"2"]


@pytest.mark.kafka
def test_a_transaction_that_nobody_ends_stops_the_worker(
    world: World, holder: KafkaProducer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line names the partition, the offset and the command, in the words of Kafka's own tool; exit 2."""
    monkeypatch.setattr(membership, "SETTLED_S", 0.2)
    world.feed(b"1")
    worker = world.worker()
    command = f"--bootstrap-server {world.connection.bootstrap_servers} abort --topic {world.out} --partition 0"
    with pytest.raises(
        InconsistentLog, match=re.escape(f"kafka-transactions.sh {command} --start-offset 0`")
    ) as raised:
        worker.commit(*echo(world, take(worker, world.events, 1)))
    assert raised.value.exit_code == 2
    holder.commit_transaction()
    assert world.copied() == [b"open"]


@pytest.mark.kafka
def test_offsets_that_stay_open_are_told(world: World, holder: KafkaProducer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who cannot read where its group stands is told how to look for what hangs there; when it ends, work goes on."""
    monkeypatch.setattr("streamal.edge.kafka.base_transport.STABLE_S", 0.5)
    world.feed(b"1", b"2")
    seat = ConsumerGroupMetadata(world.name, -1, "", None)
    holder.send_offsets_to_transaction(
        {kafka.TopicPartition(world.events, 0): kafka.OffsetAndMetadata(1, "", -1)}, seat
    )
    worker = world.worker()
    with pytest.raises(Uncommitted, match=rf"group '{world.name}' .*kafka-transactions.sh .*find-hanging"):
        take(worker, world.events, 1)
    holder.commit_transaction()
    monkeypatch.undo()
    worker.rewind()
    copy_all(world, worker)
    assert world.copied() == [b"open", b"2"]


class Log:
    """The two ends of each partition, and how often they were asked for."""

    def __init__(self, high: Mapping[TopicPartition, int], stable: Mapping[TopicPartition, int]) -> None:
        self.highs, self.stables = dict(high), dict(stable)
        self.asked: list[tuple[str, list[TopicPartition]]] = []

    def high(self, places: list[TopicPartition]) -> dict[TopicPartition, int]:
        self.asked.append(("high", places))
        return {place: self.highs[place] for place in places}

    def stable(self, places: list[TopicPartition]) -> dict[TopicPartition, int]:
        self.asked.append(("stable", places))
        return {place: self.stables[place] for place in places}


def no_open_transaction(log: Log) -> NoOpenTransaction:
    return NoOpenTransaction("k:9092", log.high, log.stable)


def test_what_is_known_to_be_settled_is_not_asked_for() -> None:
    """One question for all partitions of a step, once for each producer; and again where its own end was not seen."""
    log = Log({A: 5, B: 7}, {A: 5, B: 7})
    guard = no_open_transaction(log)
    both = [("high", [A, B]), ("stable", [A, B])]
    guard.require({A, B})
    guard.require({A})
    assert log.asked == both
    guard.note_begin([A, B])
    guard.note_end([A])
    guard.require({A, B})
    assert log.asked == [*both, ("high", [B]), ("stable", [B])]
    guard.forget()
    guard.require({A, B})
    assert log.asked[-2:] == both


def test_what_others_begin_meanwhile_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """The high watermark is asked for once: who shares a partition with busy workers is not held up for ever."""
    monkeypatch.setattr(membership, "STABLE_S", 0.0)
    log = Log({A: 5}, {A: 3})
    guard = no_open_transaction(log)
    with pytest.raises(Behind, match="t-0 has an open transaction at 3"):
        guard.require({A})
    log.highs[A], log.stables[A] = 9, 6
    guard.require({A})


class Watch:
    """A clock that is set by hand."""

    now = 1.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def test_the_limit_counts_waits_in_a_row_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not what has ended in between, nor the time that the cluster was away: its clock for time-outs may have stood."""
    watch = Watch()
    monkeypatch.setattr(membership, "time", watch)
    log = Log({A: 5, B: 5}, {A: 3, B: 5})
    guard = no_open_transaction(log)

    def wait(times: int) -> None:
        for _ in range(times):
            with pytest.raises(Behind):
                guard.require({A})
            watch.now += 2.0

    wait(6)
    watch.now += 60.0  # away
    wait(5)
    log.stables[A] = 5
    guard.require({A})
    log.stables[A] = 3
    guard.note_begin([A])
    wait(6)
    with pytest.raises(InconsistentLog, match="open transaction at 3 for 30 s"):
        guard.require({A})
