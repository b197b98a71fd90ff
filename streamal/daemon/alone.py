"""Being the only member of the group, for one transaction outside the loop."""

from __future__ import annotations

import time
from collections.abc import Mapping

from streamal.core.records import OffsetAndMetadata, TopicPartition
from streamal.core.rules import Rules
from streamal.errors import Fatal
from streamal.ports import Transport

__all__ = ["own_all"]

_JOIN_S = 30.0
"""A worker that died keeps its partitions for its session, 10 s by default."""


def own_all(transport: Transport, rules: Rules) -> Mapping[TopicPartition, OffsetAndMetadata]:
    """Join the group; return the committed states of all its partitions once all are ours: then nobody else consumes.

    Raises:
        Fatal: another member keeps some of them.
        Uncommitted: the cluster is in trouble.
    """
    topics = rules.topics
    events = (TopicPartition(topics.events, partition) for partition in range(rules.partitions))
    wanted = {TopicPartition(topics.labels, 0), *events}
    deadline = time.monotonic() + _JOIN_S
    while True:
        transport.poll({}, 0.1)
        owned = transport.assignment()[1]
        if owned.keys() >= wanted:
            return owned
        if time.monotonic() > deadline:
            raise Fatal(f"the group gave us {len(owned)} of {len(wanted)} partitions: stop all workers, and try again")
