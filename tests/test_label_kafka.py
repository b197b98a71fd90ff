"""The label page over Kafka, with either client."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from streamal.bootstrap import transports
from streamal.bootstrap.rules import topic_names, wire_rules
from streamal.config import load_config
from streamal.core.codec.events import encode
from streamal.core.records import OutputRecord
from streamal.labeling.feed import Feed
from streamal.labeling.queue import OpenQueue, QueueRules
from tests.kafka_broker import Cluster
from tests.kafka_world import Client, on_both
from tests.making import make_request

pytestmark = pytest.mark.kafka


@on_both
def test_the_open_queue_is_read_and_answered_over_kafka(kafka: Cluster, tmp_path: Path, client: Client) -> None:
    """Requests of two partitions, a tombstone, an answer; and a second page knows what the first one has sent."""
    config = load_config(
        None,
        [
            "transport.kind=kafka",
            f"transport.client={client}",
            f"transport.bootstrap_servers={kafka.bootstrap}",
            f"transport.group=page.{client}",
            "transport.partitions=2",
            *(f"topics.{role}=page.{client}.{role}" for role in load_config(None).topics.model_dump()),
        ],
    )
    transports.create_topics(config, 1)
    topics, log = topic_names(config), transports.open_log(config)
    try:
        asked = [make_request(number, partition=number % 2, asked_at=float(number)) for number in range(4)]
        outputs = [
            OutputRecord(topics.requests, int(each.request[0]), each.request.encode(), encode(each)) for each in asked
        ]
        log.append_all([*outputs, OutputRecord(topics.requests, 0, b"0-2", None)])
        feed = Feed(log, topics, config.transport.group, OpenQueue(QueueRules()), wire_rules(config))
        feed.read(10.0)
        entry = feed.queue.lease("ann", 10.0)
        assert entry is not None
        fetched = feed.fetch(entry)
        assert fetched is not None
        assert fetched.features == {"x": 0.0}
        feed.write_reply(entry.request, json.dumps({"request": entry.request, "label": "a"}).encode())
        again = Feed(log, topics, config.transport.group, OpenQueue(QueueRules()), wire_rules(config))
        again.read(10.0)
        for each in (feed, again):
            assert [waiting.request for waiting in each.queue.entries(10.0)] == ["1-1", "1-3"]
    finally:
        log.close()
