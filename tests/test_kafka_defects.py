"""The traps of kafka-python, one by one: K1 … K15 as in `streamal.edge.kafka.python`; each test needs its remedy."""

from __future__ import annotations

import threading
import time
import types
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import crc32c
import pytest
from confluent_kafka import KafkaError, KafkaException
from kafka import KafkaConsumer, KafkaProducer, errors
from kafka import TopicPartition as KafkaPartition
from kafka.producer.record_accumulator import RecordAccumulator
from kafka.record import util as checksums

from streamal.core.records import OutputRecord, TopicPartition
from streamal.edge.kafka.membership import call_with_timeout
from streamal.edge.kafka.python import KafkaLog
from streamal.edge.kafka.python import connection as connection_module
from streamal.edge.kafka.python import transport as transport_module
from streamal.edge.kafka.python.connection import restore_prefetched, translate_errors
from streamal.errors import ConfigError, Fatal, Fenced, InconsistentLog, StreamalError, Uncommitted
from tests.kafka_broker import Cluster
from tests.kafka_world import PACKAGES, Client, World, copy_all, echo, on_both, take


@pytest.mark.kafka
@on_both
def test_a_short_outage_costs_time_and_nothing_else(fragile: Cluster, client: Client) -> None:
    """The broker is killed and comes back amid transactions: none hangs, each record is copied once (K1, F4, F10)."""
    world = World(fragile, client=client)
    try:
        values = [b"%d" % number for number in range(100)]
        world.feed(*values)
        worker = world.worker()  # one with a name ends if the outage outlasts its transaction
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
    monkeypatch.setattr(f"streamal.edge.kafka.{PACKAGES[client]}.transport.WATCHDOG_S", 1.0)
    world = World(fragile, client=client)
    try:
        world.feed(b"1", b"2", b"3")
        worker = world.worker()
        first, *records = take(worker, world.events, 3)
        worker.commit(*echo(world, [first]))
        worker.end(world.out, 0)  # a step reads what it has written: so that it is known to be over (F56)
        fragile.nodes[0].pause()
        began = time.monotonic()
        try:
            with pytest.raises(Uncommitted, match=r"[12] s"):  # librdkafka itself may go on (R9)
                worker.commit(*echo(world, records))
            assert time.monotonic() - began < 10  # the transaction's own time-out
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
        (errors.OffsetOutOfRangeError(), InconsistentLog),
        (wrapped(errors.MessageSizeTooLargeError()), Fatal),
        (
            errors.KafkaError("Unexpected error in TxnOffsetCommitResponse: [Error 12] OffsetMetadataTooLargeError"),
            Fatal,
        ),
        (errors.CommitFailedError(), Uncommitted),
        (errors.KafkaTimeoutError(), Uncommitted),
        (errors.NotEnoughReplicasError(), Uncommitted),
        (ConnectionResetError(), Uncommitted),
    ],
)
def test_each_error_of_the_client_has_a_meaning(theirs: BaseException, ours: type[StreamalError]) -> None:
    """The most telling of the errors that are wrapped in one another decides (K4)."""
    with pytest.raises(StreamalError) as raised, translate_errors("do it"):
        raise theirs
    assert type(raised.value) is ours
    assert str(raised.value).startswith("cannot do it: ")


def test_the_watchdog_returns_raises_and_gives_up() -> None:
    """Its outcome is the action's, or a time-out."""
    assert call_with_timeout(lambda: 7, 1.0) == 7
    with pytest.raises(ZeroDivisionError):
        call_with_timeout(lambda: 1 / 0, 1.0)
    with pytest.raises(TimeoutError):
        call_with_timeout(lambda: time.sleep(0.5), 0.01)


# K1: what waits for ever


@pytest.mark.kafka
def test_a_commit_outlives_an_outage(fragile: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """The broker goes while the commit is sent; then the very same commit ends well (K1: patch_producer)."""
    monkeypatch.setattr(connection_module, "_TRANSACTED_S", 90.0)  # a busy machine takes its time to start a broker
    world = World(fragile)
    producer = world.connection.producer(transactional_id=world.name)
    try:
        producer.init_transactions()
        producer.begin_transaction()
        producer.send(world.out, b"1", partition=0)
        producer.flush(10)
        node = fragile.nodes[0]
        node.kill()
        with ThreadPoolExecutor(1) as pool:
            committing = pool.submit(lambda: call_with_timeout(producer.commit_transaction, 90.0))
            time.sleep(0.5)  # so that it finds nobody
            node.start()
            committing.result()
        fragile.wait()
        assert world.copied() == [b"1"]
    finally:
        producer.close(timeout=0)
        fragile.wait()
        world.close()


@pytest.mark.kafka
def test_nothing_of_a_step_that_was_given_up_is_left_behind(fragile: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the watchdog's thread waits for ever (K1), nor does the producer's own go on trying (K12, I9)."""
    monkeypatch.setattr(transport_module, "WATCHDOG_S", 1.0)
    monkeypatch.setattr(transport_module, "TRANSACTION_S", 1.5)
    monkeypatch.setattr(connection_module, "_TRANSACTED_S", 1.0)
    world = World(fragile)
    try:
        before = count_threads("kafka-transaction", "streamal-network-thread")
        worker = world.worker()
        worker.commit([OutputRecord(world.out, 0, None, b"1")], {})
        worker.end(world.out, 0)
        fragile.nodes[0].kill()
        with pytest.raises(Uncommitted, match="1 s"):
            worker.commit([OutputRecord(world.out, 0, None, b"2")], {})
        deadline = time.monotonic() + 15.0
        while count_threads("kafka-transaction", "streamal-network-thread") > before:
            assert time.monotonic() < deadline
            time.sleep(0.05)
    finally:
        fragile.nodes[0].start()
        fragile.wait()
        world.close()


def count_threads(*names: str) -> int:
    return sum(thread.name in names for thread in threading.enumerate())


# K2, K3, K5, K11: the producer


@pytest.mark.kafka
def test_a_commit_does_not_switch_lingering_off(world: World) -> None:
    """After commits the client does not believe that a flush is under way, so batches are filled (K2)."""
    worker = world.worker()
    for _ in range(3):
        worker.commit([OutputRecord(world.out, 0, None, b"x")], {})
        assert isinstance(worker._producer, KafkaProducer)
        assert not worker._producer._accumulator.flush_in_progress()  # a number in there that only it reads


@pytest.mark.kafka
def test_transactions_in_a_row_do_not_wait_a_tenth_of_a_second_each(world: World) -> None:
    """The next one begins as soon as the markers of the last are written, not 100 ms later (K3)."""
    producer = world.connection.producer(transactional_id=world.name)
    producer.init_transactions()
    seconds = []
    for _ in range(15):
        began = time.monotonic()
        transport_module._transaction(producer, [OutputRecord(world.out, 0, None, b"x")], {}, None)
        seconds.append(time.monotonic() - began)
    producer.close(timeout=2)
    assert sorted(seconds)[4] < 0.09, seconds  # a busy machine may delay most, the trap delays almost all


@pytest.mark.kafka
def test_a_record_that_was_refused_is_told(world: World) -> None:
    """A flush returns as if all were well; what came with it stays hidden; the log's append says so too (K5)."""
    worker = world.worker()
    outputs = [OutputRecord(world.out, 0, None, value) for value in (b"small", b"x" * 2_000_000)]
    with pytest.raises(Fatal, match=r"max\.message\.bytes"):
        worker.commit(outputs, {})
    with pytest.raises(Fatal, match=r"max\.message\.bytes"):
        world.log.append_all(outputs[1:])
    assert world.copied() == []


class Refusing:
    """A producer that refuses every record, and says so only to those who ask the record's future."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self._accumulator = self._transaction_manager = self

    def append(self, *_: object, **__: object) -> tuple[Refusing]:
        return (self,)

    def partitions_for(self, topic: str) -> None:
        pass

    def maybe_add_partition_to_transaction(self, place: KafkaPartition) -> None:
        pass

    def succeeded(self) -> bool:
        return False

    def get(self, timeout: float) -> None:
        raise errors.NotEnoughReplicasError

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_: self.calls.append(name)


def test_a_transaction_with_a_refused_record_is_aborted() -> None:
    """Each record's future is looked at before the commit (K5)."""
    producer = Refusing()
    with pytest.raises(errors.NotEnoughReplicasError):
        transport_module._transaction(producer, [OutputRecord("out", 0, None, b"x")], {}, None)
    assert producer.calls == ["begin_transaction", "flush", "abort_transaction"]


@pytest.mark.kafka
def test_what_waits_for_a_stalled_broker_is_bounded(fragile: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """The client takes whatever comes; but no step is sent before the last one is settled (K11, I9)."""
    monkeypatch.setattr(transport_module, "WATCHDOG_S", 0.5)
    sent: list[int] = []
    append = RecordAccumulator.append

    def counted(*arguments: Any, **named: Any) -> Any:
        sent.append(1)
        return append(*arguments, **named)

    monkeypatch.setattr(RecordAccumulator, "append", counted)
    world = World(fragile)
    worker = world.worker()
    outputs = [OutputRecord(world.out, 0, None, b"x" * 1_000)] * 100
    try:
        worker.commit(outputs, {})
        worker.end(world.out, 0)
        assert not worker._producer._accumulator.has_incomplete  # type: ignore[union-attr]
        sent.clear()
        fragile.nodes[0].pause()
        for _ in range(5):
            with pytest.raises(Uncommitted):
                worker.commit(outputs, {})
        assert len(sent) == len(outputs)
    finally:
        fragile.nodes[0].resume()
        world.close()


@pytest.mark.kafka
def test_no_record_goes_through_send(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step's records reach the topics, in order and with their keys, without the client's dear way in (K15)."""
    monkeypatch.setattr(KafkaProducer, "send", None)
    worker = world.worker()
    worker.commit([OutputRecord(world.out, 0, b"k%d" % number, b"%d" % number) for number in range(5)], {})
    assert [(one.key, one.value) for one in world.log.read(world.out, 0, 0, 9)] == [
        (b"k%d" % number, b"%d" % number) for number in range(5)
    ]


# K7 … K10: the consumer


@pytest.mark.kafka
def test_the_group_is_joined_with_the_topics_known(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who joins may be the leader, and has to know what there is to be assigned (K7)."""
    known: list[bool] = []
    poll = KafkaConsumer.poll

    def looking(consumer: KafkaConsumer, *arguments: Any, **named: Any) -> Any:
        known.append(all(consumer._cluster.partitions_for_topic(topic) for topic in (world.events, world.labels)))
        return poll(consumer, *arguments, **named)

    monkeypatch.setattr(KafkaConsumer, "poll", looking)
    world.worker().poll({}, 0.0)
    assert known
    assert all(known)


@pytest.mark.kafka
def test_a_resumed_partition_has_its_fetched_records_back(kafka: Cluster) -> None:
    """The client fetches no more of it; without `restore_prefetched` it does not return them either (K8)."""
    world = World(kafka, partitions=2)
    first, second = (KafkaPartition(world.events, partition) for partition in (0, 1))
    for partition in (0, 1):
        world.log.append_all([OutputRecord(world.events, partition, None, b"%d" % number) for number in range(3)])
    consumer = world.connection.consumer()
    consumer.assign([first, second])
    for place in (first, second):
        consumer.seek(place, 0)
    try:
        parked = next(iter(polled(consumer, 1)))
        other = second if parked == first else first
        consumer.pause(parked)
        assert len(polled(consumer, 2)[other]) == 2
        consumer.pause(other)
        consumer.resume(parked)
        assert len(polled(consumer, 5)[parked]) == 2
        consumer.pause(parked)
        consumer.resume(other)
        restore_prefetched(consumer)
        assert [record.value for record in polled(consumer, 5)[other]] == [b"2"]
    finally:
        consumer.close(autocommit=False, timeout_ms=2_000)
        world.close()


def polled(consumer: KafkaConsumer, records_max: int) -> dict[KafkaPartition, list[Any]]:
    """Return the next records."""
    deadline = time.monotonic() + 5.0
    while True:
        found: dict[KafkaPartition, list[Any]] = consumer.poll(100, max_records=records_max)
        if found:
            return found
        assert time.monotonic() < deadline


class Forgetful:
    """A reader that knows the leaders of its partitions at the third time of asking only."""

    def __init__(self, reader: KafkaConsumer) -> None:
        self._reader, self.asked = reader, 0

    def end_offsets(self, places: list[KafkaPartition], **named: int) -> dict[KafkaPartition, int]:
        self.asked += 1
        if self.asked < 3:
            raise KeyError(places[0])
        ends: dict[KafkaPartition, int] = self._reader.end_offsets(places, **named)
        return ends

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reader, name)


@pytest.mark.kafka
def test_the_end_is_asked_for_until_the_leader_is_known(world: World) -> None:
    """The client's KeyError is no answer, and no error either (K9; it cannot be provoked at will on a real broker)."""
    world.feed(b"1", b"2")
    log = KafkaLog(world.connection)
    log._reader_or_none = forgetful = Forgetful(log._reader)
    assert log.end(world.events, 0) == 2
    assert forgetful.asked == 3
    log.close()


@pytest.mark.kafka
def test_hasty_polls_take_the_seat_at_the_first_attempt(world: World) -> None:
    """A poll that has begun to join waits for the answer: between two polls it would be lost, for ever anew (K10)."""
    worker = world.worker()
    deadline = time.monotonic() + 10.0
    while not worker.assignment()[1]:
        assert time.monotonic() < deadline
        worker.poll({}, 0.0)
        time.sleep(0.05)  # in which the answer comes
    assert set(worker.assignment()[1]) == {TopicPartition(world.events, 0), TopicPartition(world.labels, 0)}


def test_checksums_are_computed_in_c() -> None:
    """The client has found the package crc32c, whose function is no Python; else each record costs twice as much."""
    assert checksums._crc32c is crc32c.crc32c
    assert checksums.calc_crc32c.__defaults__ == (crc32c.crc32c,)
    assert isinstance(crc32c.crc32c, types.BuiltinFunctionType)
    assert checksums.calc_crc32c(b"123456789") == 0xE3069283


@pytest.mark.kafka
@on_both
def test_a_read_whose_question_gets_no_answer_is_tried_again(
    kafka: Cluster, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ends behind our own commit are asked for in time, or the step is rolled back; no other error comes out."""
    world = World(kafka, client=client)
    try:
        world.feed(b"1", b"2")
        worker = world.worker()
        worker.end(world.out, 0)
        worker.read(world.out, 0, 0, 9)
        worker.commit(*echo(world, take(worker, world.events, 2)))
        timed_out: Exception = (
            errors.KafkaTimeoutError("no answer")
            if client == "kafka-python"
            else KafkaException(KafkaError(KafkaError._TIMED_OUT))
        )

        def give_up(_: object) -> dict[TopicPartition, int]:
            raise timed_out

        monkeypatch.setattr(worker._read_back, "_last_stable", give_up)
        with pytest.raises(Uncommitted, match="ask for the end"):
            worker.read(world.out, 0, 0, 9)
    finally:
        world.close()
