"""What retention does on a real Kafka: `verify` judges what is left; the topics' settings are made and named."""

from __future__ import annotations

import dataclasses
import json
import os
import time
from collections import Counter

import pytest
from kafka import TopicPartition

from streamal.bootstrap import build, transports
from streamal.bootstrap.transports.kafka import python_connection
from streamal.config import Config
from streamal.core.records import OutputRecord
from streamal.daemon.daemon import Daemon
from streamal.edge.kafka.python import TopicSettings, create_topics
from streamal.errors import ConfigError
from streamal.inspection.verify.verify import verify
from streamal.ports import Log, scan
from tests.kafka_broker import Cluster
from tests.kafka_world import CLIENTS, NUMBERS, PATIENCE_S
from tests.recorded import CountingMeter, ListLog, make_config

EVENTS = 60


def config_on(cluster: Cluster, client: str = "kafka-python") -> Config:
    """Return a configuration with topics of its own."""
    name = f"r.{os.getpid()}.{next(NUMBERS)}"
    roles = ("events", "labels", "predictions", "requests", "training", "dead_letters")
    return make_config(
        transport={
            "kind": "kafka",
            "bootstrap_servers": cluster.bootstrap,
            "group": name,
            "partitions": 2,
            "client": client,
        },
        topics={role: f"{name}.{role}" for role in roles},
        budget={"share": 0.5, "burst": 20},
    )


def work(config: Config, log: Log) -> None:
    """Let a worker predict events, refuse some, and learn from answers."""
    topics, parts = config.topics, build(config)
    values = [b'{"features": {"x1": %d, "x2": 0.5}}' % n if n % 10 else b"junk" for n in range(EVENTS)]
    log.append_all([OutputRecord(topics.events, n % 2, None, value) for n, value in enumerate(values)])
    transport = transports.open_transport(config)
    try:
        meter = CountingMeter()
        settings = dataclasses.replace(parts.settings, poll_timeout_s=0.05)
        daemon = Daemon(settings, parts.new_fold, transport, None, _Clock(), meter, ListLog())
        daemon.start()
        deadline, answered = time.monotonic() + PATIENCE_S, 0
        while sum(n for (name, _), n in meter.counts.items() if name == "events") < EVENTS or answered < 10:
            assert time.monotonic() < deadline
            daemon.tick()
            for request in list(daemon.fold.books.pending.open)[:10] if not answered else ():
                value = json.dumps({"request": request, "label": "yes"}).encode()
                answered += log.append(topics.labels, 0, None, value) >= 0
        while meter.counts["replies", "accepted"] < answered:
            assert time.monotonic() < deadline
            daemon.tick()
    finally:
        transport.close()


class _Clock:
    def now(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.time()


@pytest.mark.kafka
@pytest.mark.parametrize("client", CLIENTS)
def test_nothing_is_broken_because_it_was_deleted(kafka: Cluster, client: str) -> None:
    """After `delete_records` of consumed events, of labels, of predictions: no BROKEN, and how much is unseen (F60)."""
    config = config_on(kafka, client)
    transports.create_topics(config)
    log = transports.open_log(config)
    try:
        work(config, log)
        assert not_judged(config, log) == {}
        found: Counter[str] = Counter()
        for role in ("events", "labels", "predictions"):
            delete_half(config, log, getattr(config.topics, role))
            after = not_judged(config, log)
            assert after.total() > found.total(), role
            found = after
        assert found["events were deleted by retention"] == EVENTS // 2
        assert found["replies were deleted by retention"] == 5
    finally:
        log.close()


def not_judged(config: Config, log: Log) -> Counter[str]:
    """Return reason -> how much `verify` could not judge; nothing may be broken."""
    built = build(config)
    checks = verify(log, built.rules, built.budget, config.transport.group, built.new_fold)
    assert [(check.promise, check.where) for check in checks if check.broken] == []
    return sum((check.not_judged for check in checks), Counter())


def delete_half(config: Config, log: Log, topic: str) -> None:
    """Delete the older half of each partition, as retention does."""
    admin = python_connection(config).admin()
    offsets = {}
    for partition in range(log.partitions(topic)):
        records = list(scan(log, topic, partition))
        offsets[TopicPartition(topic, partition)] = records[len(records) // 2].offset
    admin.delete_records(offsets)
    admin.close()
    for place, offset in offsets.items():
        deadline = time.monotonic() + PATIENCE_S
        while log.begin(topic, place.partition) < offset:
            assert time.monotonic() < deadline


@pytest.mark.kafka
def test_new_topics_have_a_retention_on_purpose_and_it_is_named(kafka: Cluster) -> None:
    """Each of the six lines says partitions, compaction, retention, compression; one, how long offsets are kept."""
    config = config_on(kafka)
    assert len(transports.create_topics(config)) == 6
    described, topics = transports.describe_topics(config), config.topics
    assert described[topics.events] == described[topics.predictions]
    assert described[topics.events] == "2 partitions, kept for 7 days, compressed as the producer does"
    assert described[topics.labels] == "1 partition, kept for 30 days, compressed as the producer does"
    assert described[topics.dead_letters] == described[topics.labels]
    assert described[topics.training] == "1 partition, kept for ever, compressed as the producer does"
    assert described[topics.requests].startswith("2 partitions, compacted, tombstones kept for 24 hours")
    assert described["group offsets"] == "kept for 7 days after the last worker has stopped"
    assert transports.topic_problems(config) == []


@pytest.mark.kafka
def test_nothing_is_made_beside_a_topic_of_another_size(kafka: Cluster) -> None:
    """A producer has made `events` with one partition: `topics create` refuses, and says what to do (F15)."""
    config = config_on(kafka)
    connection = python_connection(config)
    create_topics(connection, [TopicSettings(config.topics.events, 1)])
    with pytest.raises(ConfigError, match=r"1 partitions, not 2 .*Nothing was created.*transport\.partitions = 1"):
        transports.create_topics(config)
    log = transports.open_log(config)
    assert log.partitions(config.topics.training) == 0
    log.close()
