"""What both Kafka clients share, first part: topics, read without a group and appended to without a transaction.

The order of the steps stands here once. The package of a client adds how its library does each of them, and what the
traps of that library need. The second part, a worker's membership, is `streamal.edge.kafka.base_transport`.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from streamal.core.records import OutputRecord, Record, TopicPartition
from streamal.edge.kafka.membership import deleted_records, missing_partition
from streamal.errors import Uncommitted, Unreadable

__all__ = ["ANSWER_S", "INFLATED_BYTES_MAX", "Cluster", "ClusterLog", "DeletedError"]

ANSWER_S = 10.0
"""For one answer of a broker, and for records that are known to be there."""

INFLATED_BYTES_MAX = 32 * 1_048_576
"""What a compressed batch may inflate to, by default."""


@dataclass(frozen=True)
class Cluster:
    """The way to a cluster.

    Attributes:
        bootstrap_servers: ``host:port``, several with commas.
        security: settings in the client's words.
        timeout_s: how long to keep trying to reach the cluster for the first time.
        inflated_bytes_max: F59, a decompression bomb: no batch inflates to more. librdkafka has no such limit.
    """

    bootstrap_servers: str
    security: Mapping[str, Any] = field(default_factory=dict, repr=False)
    timeout_s: float = 60.0
    inflated_bytes_max: int = INFLATED_BYTES_MAX


class DeletedError(Exception):
    """The record that was to be fetched is not there any more; the client's part raises it, `ClusterLog` judges it."""


class _Scan(NamedTuple):
    """Where the reader stands: the next offset, and the end as it was when the scan began."""

    place: TopicPartition
    offset: int
    end: int


class ClusterLog(ABC):
    """The `streamal.ports.Log` of a cluster. One thread uses it; others open their own."""

    def __init__(self, cluster: Cluster) -> None:
        self._servers = cluster.bootstrap_servers
        self._counts: dict[str, int] = {}
        self._scan: _Scan | None = None
        self._gaps: dict[TopicPartition, tuple[int, int]] = {}
        """Where only markers and aborted records were found: who waits for news asks from there every time."""

    @abstractmethod
    def partitions(self, topic: str) -> int:
        """Return the number of partitions of *topic*, and note it in `_counts`; 0 if there is no such topic."""

    @abstractmethod
    def close(self) -> None:
        """Leave the cluster; closing twice is allowed."""

    def begin(self, topic: str, partition: int) -> int:
        """Return the start of the log: what was before it, retention has deleted."""
        place = self._require(topic, partition)
        with self._translate(f"ask for the beginning of {topic}-{partition}"):
            return self._begin(place)

    def end(self, topic: str, partition: int) -> int:
        """Return the last stable offset."""
        place = self._require(topic, partition)
        with self._translate(f"ask for the end of {topic}-{partition}"):
            return self._end(place)

    def read(self, topic: str, partition: int, offset: int, records_max: int) -> list[Record]:
        """Return up to *records_max* committed records from *offset* on; 0 means from the first that is still there.

        Raises:
            InconsistentLog: F14, the records from *offset* on were deleted.
            Unreadable: the batch at *offset* cannot be read; the records before it come first.
        """
        place = self._require(topic, partition)
        if records_max <= 0:
            return []
        begin, scan = self._beyond_gap(place, offset), self._scan
        with self._translate(f"read {topic}-{partition} from {offset}"):
            is_under_way = scan is not None and scan[:2] == (place, begin) and begin < scan.end
            end = scan.end if scan is not None and is_under_way else self._end(place)
            return self._fetch(place, begin, end, records_max) if begin < end else []

    def append(self, topic: str, partition: int, key: bytes | None, value: bytes | None) -> int:
        """Write one record, wait for all replicas, and return its offset."""
        return self.append_all([OutputRecord(topic, partition, key, value)])[0]

    def append_all(self, outputs: Sequence[OutputRecord]) -> list[int]:
        """Write records, wait once for all of them at all replicas, and return their offsets."""
        for topic, partition in {(output.topic, output.partition) for output in outputs}:
            self._require(topic, partition)
        with self._translate("append records"):
            return self._produce(outputs)

    @staticmethod
    @abstractmethod
    def _translate(doing: str) -> AbstractContextManager[None]:
        """Turn the client's errors into ours; the text says what was being done."""

    @abstractmethod
    def _produce(self, outputs: Sequence[OutputRecord]) -> list[int]:
        """Write *outputs* outside any transaction and return their offsets."""

    @abstractmethod
    def _last_stable(self, places: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        """Return the ends of *places* without what is open there, with one question."""

    @abstractmethod
    def _high_watermarks(self, places: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        """Return the ends of *places* with what is open there."""

    @abstractmethod
    def _begin(self, place: TopicPartition) -> int:
        """Return the offset of the first record that is left."""

    @abstractmethod
    def _aim(self, place: TopicPartition, offset: int | None) -> None:
        """Let the reader fetch *place*, from *offset* on; None means from where it stands."""

    @abstractmethod
    def _fetch_some(self, place: TopicPartition, position: int, records_max: int) -> tuple[list[Record], int]:
        """Return (the records that have come by a short wait, the position behind them and behind gaps).

        Raises:
            DeletedError: nothing has come, for there is no record at *position* any more.
        """

    @abstractmethod
    def _rest(self) -> None:
        """Let the reader do nothing between two reads."""

    def _require(self, topic: str, partition: int) -> TopicPartition:
        """Return the partition; a ConfigError if it does not exist. What was there once is not asked for again."""
        if partition >= self._counts.get(topic, 0) and partition >= self.partitions(topic):
            raise missing_partition(topic, partition, self._servers)
        return TopicPartition(topic, partition)

    def _beyond_gap(self, place: TopicPartition, offset: int) -> int:
        """Return where the next record after *offset* can be."""
        after, before = self._gaps.get(place, (0, 0))
        return before if after <= offset < before else offset

    def _end(self, place: TopicPartition) -> int:
        """Return the last stable offset, asked for now."""
        return self._last_stable([place])[place]

    def _fetch(self, place: TopicPartition, offset: int, end: int, records_max: int) -> list[Record]:
        """Read on until *records_max* records are found or *end* is reached, perhaps over nothing but gaps."""
        stands_there = self._scan is not None and self._scan[:2] == (place, offset)
        self._scan = None
        records: list[Record] = []
        position, deadline = offset, time.monotonic() + ANSWER_S
        try:
            self._aim(place, None if stands_there else offset)
            while len(records) < records_max and position < end:
                try:
                    found, position = self._fetch_some(place, position, records_max - len(records))
                except DeletedError:
                    position = self._begin(place)
                    if offset > 0 or records:
                        raise deleted_records(place, position, offset) from None
                    self._aim(place, position)
                except Unreadable:
                    if records:
                        return records
                    raise
                else:
                    records += found
                if time.monotonic() > deadline:
                    raise Uncommitted(
                        f"{place.topic}-{place.partition} ends at {end}, but stops answering at {position}"
                    )
            self._scan = _Scan(place, position, end)
        finally:
            self._rest()
        self._gaps[place] = (records[-1].offset + 1 if records else offset, position)
        return records
