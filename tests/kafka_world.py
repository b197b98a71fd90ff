"""What the tests of Kafka's own share: topics, workers that copy, and the loop of a daemon in small."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Sequence
from typing import Any, Literal

import pytest
from kafka import KafkaAdminClient

from streamal.core.records import OffsetAndMetadata, OutputRecord, Record, TopicPartition
from streamal.edge.kafka import librdkafka as confluent
from streamal.edge.kafka.librdkafka import ConfluentLog, ConfluentTransport
from streamal.edge.kafka.python import Connection, KafkaLog, KafkaTransport, TopicSettings, WorkerOptions, create_topics
from streamal.errors import Uncommitted
from streamal.ports import Transport
from tests.kafka_broker import Cluster

NUMBERS = itertools.count()
PATIENCE_S = 120.0  # on a busy machine
Worker = KafkaTransport | ConfluentTransport
Client = Literal["kafka-python", "confluent"]
PACKAGES: dict[Client, str] = {"kafka-python": "python", "confluent": "librdkafka"}
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

    def open_worker(self, group: str, events: str, labels: str, client: str | None = None, **settings: Any) -> Worker:
        options = WorkerOptions(group, events, labels, **settings)
        if (client or self.client) == "kafka-python":
            return KafkaTransport(self.connection, options)
        return ConfluentTransport(self.other, options)

    def worker(self, **settings: str) -> Worker:
        made = self.open_worker(
            self.name,
            self.events,
            self.labels,
            instance=settings.get("instance"),
            name=f"w{next(NUMBERS)}",
            session_timeout_s=6,
            predictions_topic=settings.get("predictions_topic"),
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


def take(worker: Transport, topic: str, count: int, at_once: int = 10) -> list[Record]:
    found: list[Record] = []
    deadline = time.monotonic() + PATIENCE_S
    while len(found) < count:
        assert time.monotonic() < deadline, found
        found += worker.poll({topic: at_once}, 0.1)
    return found


def echo(world: World, records: Sequence[Record]) -> tuple[list[OutputRecord], dict[TopicPartition, OffsetAndMetadata]]:
    outputs = [OutputRecord(world.out, record.partition, record.key, record.value) for record in records]
    return outputs, {TopicPartition(r.topic, r.partition): OffsetAndMetadata(r.offset + 1, "s") for r in records}


def copy_all(world: World, worker: Worker, patience_s: float = 120.0) -> int:
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
            if worker.committed(world.name).get(TopicPartition(world.events, 0), OffsetAndMetadata(0, ""))[
                0
            ] == worker.end(world.events, 0):
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
        copied = all(
            done.get(TopicPartition(world.events, p), OffsetAndMetadata(0, ""))[0] == log.end(world.events, p)
            for p in (0, 1)
        )
        if copied and len(admin.describe_groups([world.name])[world.name]["members"]) == seats:
            worker.poll({}, 0.1)
            break
    log.close()
    admin.close()
