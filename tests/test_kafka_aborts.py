"""What an aborted transaction may leave behind in the client: nothing that a later one would carry along."""

from __future__ import annotations

import os
import time

import pytest

from streamal.core.records import Committed, Output, Place
from streamal.edge.kafka import Connection, KafkaTransport, TopicSettings, create_topics
from streamal.errors import Uncommitted
from tests.kafka_broker import Cluster


@pytest.mark.kafka
def test_the_offsets_of_an_aborted_transaction_never_come_back(kafka: Cluster) -> None:
    """Refused as those of an old generation, they are not sent along with the next ones (K11, I1).

    By then their partition may be somebody else's, who has gone on from there: its offset would jump back.
    """
    name = f"aborts.{os.getpid()}.{time.monotonic_ns()}"
    connection, events, labels = Connection(kafka.bootstrap, timeout_s=20), f"{name}.events", f"{name}.labels"
    create_topics(connection, [TopicSettings(events, 2), TopicSettings(labels, 1)])
    worker = KafkaTransport(connection, name, events, labels)
    try:
        worker.append_all([Output(events, partition, None, b"1") for partition in (0, 1)])
        polled, deadline = 0, time.monotonic() + 30
        while polled < 2:
            assert time.monotonic() < deadline
            polled += len(worker.poll({events: 10}, 0.1))
        assert worker._seat is not None
        worker._seat = worker._seat._replace(generation_id=worker._seat.generation_id + 1)
        with pytest.raises(Uncommitted, match="IllegalGeneration"):
            worker.commit([], {Place(events, 0): Committed(1, "refused")})
        worker.rewind()
        worker.commit([], {Place(events, 1): Committed(1, "taken")})
        assert worker.committed(name) == {Place(events, 1): Committed(1, "taken")}
    finally:
        worker.close()
