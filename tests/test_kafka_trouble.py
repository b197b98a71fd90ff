"""Trouble that passes, and what it must not leave behind; each of these was found by chaos."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

import pytest
from kafka import KafkaAdminClient, errors

from streamal.core.records import OffsetAndMetadata, OutputRecord, TopicPartition
from streamal.edge.kafka.python import (
    Connection,
    KafkaLog,
    KafkaTransport,
    TopicSettings,
    WorkerOptions,
    create_topics,
    differences,
)
from streamal.errors import Uncommitted
from tests.kafka_broker import Cluster


@pytest.mark.kafka
def test_the_offsets_of_an_aborted_transaction_never_come_back(kafka: Cluster) -> None:
    """Refused as those of an old generation, they are not sent along with the next ones (K13, I1).

    By then their partition may be somebody else's, who has gone on from there: its offset would jump back.
    """
    name = f"aborts.{os.getpid()}.{time.monotonic_ns()}"
    connection, events, labels = Connection(kafka.bootstrap, timeout_s=20), f"{name}.events", f"{name}.labels"
    create_topics(connection, [TopicSettings(events, 2), TopicSettings(labels, 1)])
    worker = KafkaTransport(connection, WorkerOptions(name, events, labels))
    try:
        worker.append_all([OutputRecord(events, partition, None, b"1") for partition in (0, 1)])
        polled, deadline = 0, time.monotonic() + 30
        while polled < 2:
            assert time.monotonic() < deadline
            polled += len(worker.poll({events: 10}, 0.1))
        assert worker._membership is not None
        worker._membership = worker._membership._replace(generation_id=worker._membership.generation_id + 1)
        with pytest.raises(Uncommitted, match="IllegalGeneration"):
            worker.commit([], {TopicPartition(events, 0): OffsetAndMetadata(1, "refused")})
        worker.rewind()
        worker.commit([], {TopicPartition(events, 1): OffsetAndMetadata(1, "taken")})
        assert worker.committed(name) == {TopicPartition(events, 1): OffsetAndMetadata(1, "taken")}
    finally:
        worker.close()


class Interrupted:
    """An admin client whose questions are lost once each, as when a broker dies that it was just talking to."""

    def __init__(self, inner: KafkaAdminClient) -> None:
        self._inner, self._lost = inner, set[str]()

    def __getattr__(self, name: str) -> Any:
        answer: Callable[..., Any] = getattr(self._inner, name)

        def ask(*arguments: Any, **options: Any) -> Any:
            if name.startswith("describe") and name not in self._lost:
                self._lost.add(name)
                raise errors.KafkaConnectionError(name)
            return answer(*arguments, **options)

        return ask


class Frail(Connection):
    def admin(self) -> Any:
        return Interrupted(super().admin())


@pytest.mark.kafka
def test_a_broker_that_dies_while_the_topics_are_looked_at_is_asked_again(kafka: Cluster) -> None:
    """A worker that starts just then does not end (F10)."""
    wanted = [TopicSettings(f"looked.{os.getpid()}.{time.monotonic_ns()}", 1)]
    create_topics(Connection(kafka.bootstrap, timeout_s=20), wanted)
    assert differences(Frail(kafka.bootstrap, timeout_s=20), wanted) == []


class Lost:
    """What became of a record that a stuck producer was given."""

    def get(self, timeout: float) -> None:
        raise errors.KafkaTimeoutError(f"nothing within {timeout} s")


@pytest.mark.kafka
def test_a_producer_that_does_not_deliver_is_replaced(kafka: Cluster) -> None:
    """Its client may never get over the loss of a broker: the next append has a new one (K14, I16)."""
    topic = f"stuck.{os.getpid()}.{time.monotonic_ns()}"
    connection = Connection(kafka.bootstrap, timeout_s=20)
    create_topics(connection, [TopicSettings(topic, 1)])
    log = KafkaLog(connection)
    try:
        assert log.append(topic, 0, None, b"before") == 0
        assert log._appender is not None
        log._appender.send = lambda *_, **__: Lost()
        with pytest.raises(Uncommitted):
            log.append(topic, 0, None, b"lost")
        assert log.append(topic, 0, None, b"after") == 1
    finally:
        log.close()
