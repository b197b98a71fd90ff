"""The protocols that edges implement and the daemon uses: log, transport, clock, snapshots, meter. The core uses none.

A *record* is bytes at an offset of a partition. A *commit* is one transaction: outputs, consumed offsets and, beside
each offset, the partition's state as a short text (Kafka calls it the offset's commit metadata).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol, runtime_checkable

from streamal.core.records import OffsetAndMetadata, OutputRecord, Record, TopicPartition, coordinates
from streamal.errors import Fatal, InconsistentLog, Unreadable

__all__ = [
    "METADATA_BYTES_MAX",
    "Clock",
    "Log",
    "Meter",
    "Snapshots",
    "Transport",
    "find_readable",
    "read_events",
    "require_small_states",
    "scan",
]

METADATA_BYTES_MAX = 4_095
"""The most that a state may have beside its offset: Kafka's default for ``offset.metadata.max.bytes`` is 4,096, and
librdkafka sends one byte more, a final NUL (F16: above the limit the broker refuses every commit)."""

_NEAR = 1_000
"""Records within so many offsets are read together."""


@runtime_checkable
class Log(Protocol):
    """Topics that can be read without a group, committed records only, and appended to."""

    def partitions(self, topic: str) -> int:
        """Return the number of partitions of *topic*; 0 if there is no such topic."""
        ...

    def begin(self, topic: str, partition: int) -> int:
        """Return the offset from which on nothing was deleted by retention; 0 if nothing ever was."""
        ...

    def end(self, topic: str, partition: int) -> int:
        """Return the offset after the last committed record (Kafka: the last stable offset)."""
        ...

    def read(self, topic: str, partition: int, offset: int, records_max: int) -> list[Record]:
        """Return up to *records_max* committed records from *offset* on, in order; [] at the end. Never blocks long."""
        ...

    def append(self, topic: str, partition: int, key: bytes | None, value: bytes | None) -> int:
        """Write one record outside any transaction (as producers and annotators do) and return its offset."""
        ...

    def append_all(self, outputs: Sequence[OutputRecord]) -> list[int]:
        """Write records as `append` does, with one wait for all of them, and return their offsets."""
        ...

    def committed(self, group: str) -> Mapping[TopicPartition, OffsetAndMetadata]:
        """Return what *group* has committed, for every partition that it ever consumed."""
        ...

    def close(self) -> None:
        """Release everything; closing twice is allowed."""
        ...


@runtime_checkable
class Transport(Log, Protocol):
    """A worker's membership in the consumer group on ``events`` and ``labels``, with exactly-once commits.

    One thread uses it. Nothing is consumed until `commit` says so: after an `Uncommitted` error the caller
    must `rewind` and drop whatever it had polled.
    """

    def assignment(self) -> tuple[int, Mapping[TopicPartition, OffsetAndMetadata]]:
        """Return (generation, owned input partitions with their committed state).

        The generation grows with every change of ownership and every `rewind`; it is 0, and nothing is owned,
        before the first `poll`. The mapping given out never changes.
        """
        ...

    def poll(self, records_max_by_topic: Mapping[str, int], timeout_s: float) -> list[Record]:
        """Return the next records of the owned partitions, at most ``records_max_by_topic[topic]`` of each topic.

        Records of one partition come in order and follow those polled before. Returns [] when there is
        nothing after at most *timeout_s* seconds. May change the assignment.

        Raises:
            Uncommitted: a trouble that will pass, here and in every other read; `rewind`, then go on.
            Fenced: a newer worker owns the partitions; end the process.
        """
        ...

    def commit(self, outputs: Sequence[OutputRecord], offsets: Mapping[TopicPartition, OffsetAndMetadata]) -> None:
        """Write *outputs* and move *offsets* in one transaction: all of it becomes visible, or nothing.

        Its own `read` and `end` see it; others may see it a moment later.

        Raises:
            Uncommitted: aborted, or the outcome is unknown; call `rewind`.
            Fenced: a newer worker owns the partitions; end the process.
            Fatal: a state is above `METADATA_BYTES_MAX`; nothing was sent.
        """
        ...

    def rewind(self) -> None:
        """Go back to the committed offsets (fencing our own unfinished transaction first)."""
        ...


class Clock(Protocol):
    """Seconds since the epoch: the wall clock live, the stream's own in a replay."""

    def now(self) -> float:
        """Return the present time in seconds; it may jump and go back, which the daemon expects."""
        ...

    def monotonic(self) -> float:
        """Return seconds since any moment, by a clock that never jumps: in a replay the stream's own time."""
        ...


class Snapshots(Protocol):
    """A cache of folds, newest first; losing it costs only time."""

    @property
    def problems(self) -> Sequence[str]:
        """A line for each thing that was wrong at the last `load` or `save`."""
        ...

    def load(self) -> Sequence[bytes]:
        """Return the readable snapshots, newest first; damaged ones are left out."""
        ...

    def save(self, data: bytes) -> bool:
        """Store *data* durably, keep the one before; return False (never raise) when the disk refuses."""
        ...


class Meter(Protocol):
    """Takes counts and gauges; the daemon calls it once per step, never per event."""

    def count(self, name: str, kind: str, amount: float, at: str = "") -> None:
        """Add *amount* to the counter *name* for *kind*, a value out of a closed set; *at* is one of them."""
        ...

    def gauge(self, name: str, value: float) -> None:
        """Set the gauge *name*."""
        ...

    def observe(self, name: str, value: float, at: str = "") -> None:
        """Add an observation to the histogram *name*; *at* are the coordinates where it was met."""
        ...


def require_small_states(offsets: Mapping[TopicPartition, OffsetAndMetadata]) -> None:
    """Raise Fatal for a state above `METADATA_BYTES_MAX`, before anything is sent."""
    for (topic, partition), (_, metadata) in offsets.items():
        if (size := len(metadata.encode())) > METADATA_BYTES_MAX:
            raise Fatal(f"the state of {topic}-{partition} has {size} bytes: above offset.metadata.max.bytes")


def scan(
    log: Log, topic: str, partition: int, offset: int = 0, unreadable: list[range] | None = None
) -> Iterator[Record]:
    """Yield the committed records of a partition from *offset* on, up to the end as it is when it is reached.

    Offsets that cannot be read are added to *unreadable* and left out.

    Raises:
        Unreadable: there are such offsets, and no list for them.
    """
    while True:
        try:
            records = log.read(topic, partition, offset, 1_000)
        except Unreadable as error:
            if unreadable is None:
                raise
            offset = find_readable(log, topic, partition, error.offset)
            unreadable.append(range(error.offset, offset))
            continue
        if not records:
            return
        yield from records
        offset = records[-1].offset + 1


def find_readable(log: Log, topic: str, partition: int, offset: int) -> int:
    """Return the offset of the first record after *offset* that can be read; the end of the partition without any.

    A batch in the middle is fetched whole, so each offset is tried: two damaged batches may have a good one between.
    """
    end = log.end(topic, partition)
    for following in range(offset + 1, end):
        try:
            records = log.read(topic, partition, following, 1)
        except Unreadable:
            continue
        return records[0].offset if records else end
    return end


def read_events(log: Log, topic: str, wanted: Mapping[int, Sequence[int]]) -> dict[str, Record]:
    """Return those of *wanted* (partition → ascending offsets) that *topic* still has, by coordinates.

    Neighbours are read in one go.
    """
    found: dict[str, Record] = {}
    for partition, offsets in wanted.items():
        left = deque(offsets)
        while left:
            first = left[0]
            near = {offset for offset in left if offset < first + _NEAR}
            try:
                records = log.read(topic, partition, first, max(near) - first + 1)
            except InconsistentLog:  # the first of them was deleted
                records, near = [], {first}
            for _ in near:
                left.popleft()
            found |= {coordinates(partition, each.offset): each for each in records if each.offset in near}
    return found
