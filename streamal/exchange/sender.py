"""Writes events to their topic, at a pace, each into the partition that it belongs to."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from streamal.core.codec.events import decode_training
from streamal.core.records import OutputRecord, SchemaSet
from streamal.core.schema import Schema
from streamal.errors import ConfigError
from streamal.exchange.events import EventLine, partition_of_key
from streamal.ports import Log, scan

__all__ = ["Sender", "find_schema"]

_BATCH = 1_000
_BATCH_BYTES = 4_194_304
_TICK_S = 0.05
"""With a rate, the events of so many seconds are written together."""


def find_schema(log: Log, topic: str, schema: Schema) -> Schema | None:
    """Return *schema* with the features that the daemon has found and written to *topic*, None if it has not yet."""
    for record in scan(log, topic, 0):
        training = decode_training(record.value)
        if isinstance(training, SchemaSet):
            return Schema({**schema.kinds, **training.features}, schema.unknown, schema.open, schema.required)
    return None


@dataclass(slots=True)
class Sender:
    """Writes events to *topic*.

    Attributes:
        log: the topics.
        partition: the one for all events; None: that of the event's key, or each in turn.
        rate: events per second; None: as fast as they come.
        wait: sleeps so many seconds; returns True if the command is to end.
        on_sent: called with the last line of the events that were written.
        sent: events that were written so far.
    """

    log: Log
    topic: str
    partition: int | None
    rate: float | None
    wait: Callable[[float], bool]
    on_sent: Callable[[int], object] = lambda _: None
    sent: int = 0
    _partitions: int = field(init=False)
    _began: float | None = None

    def __post_init__(self) -> None:
        """Look for the partitions.

        Raises:
            ConfigError: there is no such topic, or no such partition.
        """
        self._partitions = self.log.partitions(self.topic)
        if not self._partitions:
            raise ConfigError(f"there is no topic {self.topic!r}; `streamal topics create` makes it")
        if self.partition is not None and self.partition >= self._partitions:
            last = self._partitions - 1
            raise ConfigError(f"--partition {self.partition}: topic {self.topic!r} has the partitions 0 to {last}")

    def send(self, events: Sequence[EventLine]) -> None:
        """Write *events*, at once or when the rate allows it; stop between two batches if the command is to end.

        Raises:
            StreamalError: they could not be written; `sent` says how many were.
        """
        begin = 0
        while begin < len(events):
            size = self._wait_for_turn()
            if not size:
                return
            batch = _within_bytes(events[begin : begin + size])
            self.log.append_all([self._record(number, event) for number, event in enumerate(batch, self.sent)])
            begin += len(batch)
            self.sent += len(batch)
            self.on_sent(batch[-1].line)

    def _wait_for_turn(self) -> int:
        """Return how many events may be written now; 0 if the command is to end."""
        if self.rate is None:
            return 0 if self.wait(0.0) else _BATCH
        now = time.monotonic()
        if self._began is None:
            self._began = now - self.sent / self.rate
        size = max(1, min(_BATCH, int(self.rate * _TICK_S)))
        due = self._began + self.sent / self.rate
        self._began += max(0.0, now - due - 1.0)  # what came late is not made up for at once
        return 0 if self.wait(max(0.0, due - now)) else size

    def _record(self, number: int, event: EventLine) -> OutputRecord:
        if self.partition is not None:
            partition = self.partition
        elif event.key is not None:
            partition = partition_of_key(event.key, self._partitions)
        else:
            partition = number % self._partitions
        return OutputRecord(self.topic, partition, event.key, event.value)


def _within_bytes(events: Sequence[EventLine]) -> Sequence[EventLine]:
    """Return as many of *events* as make a request of bounded size, at least one."""
    size = 0
    for number, event in enumerate(events):
        size += len(event.value)
        if size > _BATCH_BYTES and number:
            return events[:number]
    return events
