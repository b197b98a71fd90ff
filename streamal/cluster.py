"""What a seat in a Kafka cluster needs whatever the client: limits, times, whose turn it is, an end to every wait."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import AbstractContextManager, contextmanager
from typing import TypeVar

from streamal.core.records import Committed, Output, Place, Record
from streamal.errors import ConfigError, Fatal, Fenced, LogDisagrees, Uncommitted

__all__ = [
    "HEARTBEAT_MS",
    "METADATA_BYTES_MAX",
    "POLL_GAP_MS",
    "STABLE_S",
    "TRANSACTION_S",
    "VISIBLE_S",
    "Fence",
    "Own",
    "deleted",
    "expired",
    "missing",
    "require_known",
    "require_small",
    "served",
    "watched",
]

_T = TypeVar("_T")

METADATA_BYTES_MAX = 4095
"""Kafka's default ``offset.metadata.max.bytes``, less a final NUL; above it the broker refuses the commit (F16)."""

HEARTBEAT_MS = 300
"""Tells of a rebalance too; until all know, nobody in the group can fetch."""

POLL_GAP_MS = 60_000
"""So long may a step take before its worker has to join anew."""

TRANSACTION_S = 10.0
"""Then the broker aborts it: so long may a dead worker hold back its successor (F13)."""

STABLE_S = 3.0
"""To wait for the end of a predecessor's transaction before trouble is reported."""

VISIBLE_S = 3.0
"""To wait for the markers of our own transaction; it is committed without them."""


def require_small(offsets: Mapping[Place, Committed]) -> None:
    """Raise Fatal for a state above `METADATA_BYTES_MAX`, before it is sent: the broker would refuse all of it."""
    for (topic, partition), (_, metadata) in offsets.items():
        if (size := len(metadata.encode())) > METADATA_BYTES_MAX:
            raise Fatal(f"the state of {topic}-{partition} has {size} bytes: above offset.metadata.max.bytes")


def served(ahead: Mapping[Place, deque[Record]], quota: Mapping[str, int], turn: int) -> list[Record]:
    """Take what was fetched out of *ahead*, within *quota*; the partitions of a topic take turns in being first (F26).

    >>> place, other = Place("t", 0), Place("t", 1)
    >>> ahead = {place: deque([Record("t", 0, 7, None, b"a")]), other: deque([Record("t", 1, 9, None, b"b")])}
    >>> [record.offset for record in served(ahead, {"t": 1}, turn=1)]
    [9]
    """
    records: list[Record] = []
    for topic, records_max in quota.items():
        queues = [queue for place, queue in sorted(ahead.items()) if place.topic == topic]
        first, full = turn % max(len(queues), 1), len(records) + records_max
        for queue in queues[first:] + queues[:first]:
            while queue and len(records) < full:
                records.append(queue.popleft())
    return records


def missing(topic: str, partition: int, bootstrap_servers: str) -> ConfigError:
    """Return the error for a partition that there is not."""
    return ConfigError(
        f"there is no partition {partition} of topic {topic!r} at {bootstrap_servers}; run `streamal topics create`"
    )


def deleted(place: Place, begin: int, offset: int) -> LogDisagrees:
    """Return the error for records that retention has eaten: the log begins at *begin*, *offset* is needed (F14)."""
    return LogDisagrees(f"{place.topic}-{place.partition} starts at {begin}; {offset} was deleted: raise its retention")


def require_known(place: Place, before: Mapping[str, int], count: Callable[[str], int]) -> None:
    """Raise a ConfigError for a partition that was added while we ran (F15): the budget is divided among *before*."""
    topic = place.topic
    if place.partition >= before[topic]:
        raise ConfigError(
            f"topic {topic!r} has {count(topic)} partitions, not {before[topic]}: some were added. Add as many to the "
            "requests and predictions, set transport.partitions, and start all workers again"
        )


def expired(group: str, place: Place, witness: str) -> LogDisagrees:
    """Return the error for a group that has worked here, as *witness* shows, and has no offset any more."""
    return LogDisagrees(
        f"group {group!r} has no offset for {place.topic}-{place.partition}, yet {witness} has "
        "predictions for it: the offsets have expired (offsets.retention.minutes) or belong to another group. "
        "Set them by hand to where that group was, or begin afresh with new topics"
    )


class Own:
    """What a worker has just committed to partitions that it reads back: it need not be fetched from the cluster.

    A step's requests and examples are folded as they are read after the commit. They are served from here only where
    the offsets prove that nothing else lies between: as many as were written, then the marker, then the end.
    """

    def __init__(self) -> None:
        self._written: dict[Place, tuple[list[Output], int]] = {}
        self._over: tuple[Place, int] | None = None

    def committed(self, outputs: Sequence[Output], last: Mapping[Place, int], read_back: AbstractSet[Place]) -> None:
        """Keep *outputs* to places that are *read_back*, whose *last* offsets are known; forget those before."""
        self._written.clear()
        self._over = None
        for output in outputs:
            place = Place(output.topic, output.partition)
            if place in read_back and place in last:
                self._written.setdefault(place, ([], last[place]))[0].append(output)

    def read(self, place: Place, offset: int, end: int, records_max: int) -> list[Record] | None:
        """Return what was committed at *offset* of *place*, which ends at *end*; None if it has to be fetched."""
        outputs, last = self._written.pop(place, ((), 0))
        first = last - len(outputs) + 1
        if not outputs or len(outputs) > records_max or (first, last + 2) != (offset, end):
            return None
        self._over = place, last + 1
        return [Record(*place, first + number, each.key, each.value) for number, each in enumerate(outputs)]

    def over(self, place: Place, offset: int) -> bool:
        """Whether nothing but our marker was at *offset* when it was last read up to there; told once."""
        over, self._over = self._over, None
        return over == (place, offset)

    def forget(self) -> None:
        """Ask the cluster again."""
        self._written.clear()
        self._over = None


class Fence:
    """Remembers that a worker was fenced: from then on it does nothing any more."""

    def __init__(self, instance: str | None) -> None:
        """Guard the worker with this *instance*.

        Without one nobody else has its transactional id: then the coordinator itself has fenced it, because its
        transaction took too long, and a new producer may go on where the committed offsets say.
        """
        self._instance = instance
        self._fenced: str | None = None

    @contextmanager
    def around(self, mapped: AbstractContextManager[None]) -> Iterator[None]:
        """Do what the block does, its errors *mapped* to ours, unless the worker is fenced."""
        if self._fenced is not None:
            raise Fenced(self._fenced)
        try:
            with mapped:
                yield
        except Fenced as error:
            if self._instance is None:
                raise Uncommitted(f"{error} (our transaction has timed out; going on)") from error
            self._fenced = str(error)
            raise


def watched(action: Callable[[], _T], timeout_s: float) -> _T:
    """Return ``action()``, or raise TimeoutError if it takes longer: it is left behind in its thread."""
    results: list[_T] = []
    raised: list[BaseException] = []

    def run() -> None:
        try:
            results.append(action())
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=run, name="kafka-transaction", daemon=True)
    thread.start()
    thread.join(timeout_s)
    if raised:
        raise raised[0]
    if not results:
        raise TimeoutError(f"no answer within {timeout_s:g} s")
    return results[0]
