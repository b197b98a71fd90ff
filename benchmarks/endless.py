"""The production loop without a transport's cost: a seat whose events never end and whose outputs are not kept.

Only the last of ``requests`` and ``training`` is held, as long as the daemon needs to read it back; so whatever
grows meanwhile is the daemon's own.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence

import structlog

from streamal.bootstrap import build
from streamal.bootstrap.edges import WallClock
from streamal.bootstrap.rules import topic_names
from streamal.cli.run import meter
from streamal.config import Config
from streamal.core.records import OffsetAndMetadata, OutputRecord, Record, TopicPartition
from streamal.daemon.daemon import Daemon
from streamal.edge.metrics import PrometheusMeter
from streamal.ports import Transport

_KEPT = 2_000


class Endless:
    """A `Transport`: *values* over and over as events, each request answered by the label of its event."""

    def __init__(self, config: Config, values: Sequence[bytes], labels: Sequence[str]) -> None:
        """Own the only partition from the start."""
        self._topics, self.values, self._labels = topic_names(config), values, labels
        self._ends = dict.fromkeys(self._topics, 0)
        self._tails: dict[str, deque[Record]] = {
            topic: deque(maxlen=_KEPT) for topic in (self._topics.requests, self._topics.training)
        }
        self._answers: deque[Record] = deque()
        self._states = {
            TopicPartition(topic, 0): OffsetAndMetadata(0, "") for topic in (self._topics.events, self._topics.labels)
        }
        self.predicted = self.learned = 0

    def partitions(self, topic: str) -> int:
        """Return 1."""
        return int(topic in self._ends)

    def begin(self, topic: str, partition: int) -> int:  # noqa: ARG002
        """Return 0."""
        return 0

    def end(self, topic: str, partition: int) -> int:  # noqa: ARG002
        """Return how many records *topic* has had."""
        return self._ends[topic]

    def read(self, topic: str, partition: int, offset: int, records_max: int) -> list[Record]:  # noqa: ARG002
        """Return what is still held from *offset* on."""
        if offset >= self._ends[topic]:
            return []
        held = [record for record in self._tails.get(topic, ()) if record.offset >= offset]
        assert topic not in self._tails or held[0].offset == offset, "more was written at once than is held"
        return held[:records_max]

    def append(self, topic: str, partition: int, key: bytes | None, value: bytes | None) -> int:
        """Write one record."""
        self._ends[topic] += 1
        if topic in self._tails:
            self._tails[topic].append(Record(topic, partition, self._ends[topic] - 1, key, value))
        return self._ends[topic] - 1

    def append_all(self, outputs: Sequence[OutputRecord]) -> list[int]:
        """Write all."""
        return [self.append(each.topic, each.partition, each.key, each.value) for each in outputs]

    def committed(self, group: str) -> Mapping[TopicPartition, OffsetAndMetadata]:  # noqa: ARG002
        """Return the committed states."""
        return self._states

    def assignment(self) -> tuple[int, Mapping[TopicPartition, OffsetAndMetadata]]:
        """Return the only assignment there is."""
        return 1, self._states

    def poll(self, records_max_by_topic: Mapping[str, int], timeout_s: float) -> list[Record]:  # noqa: ARG002  (never waits)
        """Return as many events as are asked for, and the answers so far."""
        topic, first, values = self._topics.events, self._ends[self._topics.events], self.values
        size = len(values)
        polled = [
            Record(topic, 0, at, None, values[at % size])
            for at in range(first, first + records_max_by_topic.get(topic, 0))
        ]
        self._ends[topic] += len(polled)
        due = min(len(self._answers), records_max_by_topic.get(self._topics.labels, 0))
        return polled + [self._answers.popleft() for _ in range(due)]

    def commit(self, outputs: Sequence[OutputRecord], offsets: Mapping[TopicPartition, OffsetAndMetadata]) -> None:
        """Drop the predictions, answer the requests."""
        requests, training = self._topics.requests, self._topics.training
        for each in outputs:
            if each.topic == requests:
                self.append(each.topic, each.partition, each.key, each.value)
                if each.key is not None and each.value is not None:
                    self._reply(each.key)
            elif each.topic == training:
                self.append(each.topic, each.partition, each.key, each.value)
                self.learned += 1
            else:
                self._ends[each.topic] += 1
        self._states = {**self._states, **offsets}

    def _reply(self, key: bytes) -> None:
        label = self._labels[int(key[2:]) % len(self._labels)]
        value = b'{"request":"%s","label":"%s"}' % (key, label.encode())
        self._answers.append(Record(self._topics.labels, 0, self._ends[self._topics.labels], None, value))
        self._ends[self._topics.labels] += 1

    def rewind(self) -> None:
        """There is nothing to go back to."""
        raise AssertionError("nothing fails here")

    def close(self) -> None:
        """Do nothing."""


def daemon_over(config: Config, transport: Transport) -> tuple[Daemon, PrometheusMeter]:
    """Return the daemon of `streamal run` over *transport*, quiet, without snapshots, and its metrics."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    measured = meter(config)
    parts = build(config)
    daemon = Daemon(parts.settings, parts.new_fold, transport, None, WallClock(), measured, structlog.get_logger())
    return daemon, measured
