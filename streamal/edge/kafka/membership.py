"""What a seat in a Kafka cluster needs whatever the client: limits, times, whose turn it is, an end to every wait."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import TypeVar

from streamal.core.records import Record, TopicPartition
from streamal.errors import Behind, ConfigError, Fenced, InconsistentLog, Uncommitted

__all__ = [
    "HEARTBEAT_MS",
    "POLL_GAP_MS",
    "SETTLED_S",
    "STABLE_S",
    "TRANSACTION_S",
    "VISIBLE_S",
    "Fence",
    "Settled",
    "deleted",
    "expired",
    "missing",
    "reading_offsets",
    "require_known",
    "served",
    "stuck",
    "watched",
]

_T = TypeVar("_T")

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

SETTLED_S = 3 * TRANSACTION_S
"""Then what is open stays open: the broker looks every ten seconds for transactions that are over their time."""


def served(
    ahead: Mapping[TopicPartition, deque[Record]], records_max_by_topic: Mapping[str, int], turn: int
) -> list[Record]:
    """Take up to *records_max_by_topic* records out of *ahead*; a topic's partitions take turns in being first (F26).

    >>> place, other = TopicPartition("t", 0), TopicPartition("t", 1)
    >>> ahead = {place: deque([Record("t", 0, 7, None, b"a")]), other: deque([Record("t", 1, 9, None, b"b")])}
    >>> [record.offset for record in served(ahead, {"t": 1}, turn=1)]
    [9]
    """
    records: list[Record] = []
    for topic, records_max in records_max_by_topic.items():
        queues = [queue for place, queue in sorted(ahead.items()) if place.topic == topic]
        first, full = turn % max(len(queues), 1), len(records) + records_max
        for queue in queues[first:] + queues[:first]:
            records.extend(queue.popleft() for _ in range(min(len(queue), full - len(records))))
    return records


def missing(topic: str, partition: int, bootstrap_servers: str) -> ConfigError:
    """Return the error for a partition that there is not."""
    return ConfigError(
        f"there is no partition {partition} of topic {topic!r} at {bootstrap_servers}; run `streamal topics create`"
    )


def deleted(place: TopicPartition, begin: int, offset: int) -> InconsistentLog:
    """Return the error for records that retention has eaten: the log begins at *begin*, *offset* is needed (F14)."""
    return InconsistentLog(
        f"{place.topic}-{place.partition} starts at {begin}; {offset} was deleted: raise its retention"
    )


def require_known(place: TopicPartition, before: Mapping[str, int], count: Callable[[str], int]) -> None:
    """Raise a ConfigError for a partition that was added while we ran (F15): the budget is divided among *before*."""
    topic = place.topic
    if place.partition >= before[topic]:
        raise ConfigError(
            f"topic {topic!r} has {count(topic)} partitions, not {before[topic]}: some were added. Add as many to the "
            "requests and predictions, set transport.partitions, and start all workers again"
        )


def expired(group: str, place: TopicPartition, predictions_topic: str) -> InconsistentLog:
    """Return the error for a group that has worked here, as *predictions_topic* shows, and has no offset any more."""
    return InconsistentLog(
        f"group {group!r} has no offset for {place.topic}-{place.partition}, yet {predictions_topic} has "
        "predictions for it: the offsets have expired (offsets.retention.minutes) or belong to another group. "
        "Set them by hand to where that group was, or begin afresh with new topics"
    )


def reading_offsets(group: str, bootstrap_servers: str) -> str:
    """Return what a worker is doing that gets no answer as long as a transaction on its group's offsets is open.

    One that never ends (F56) is met here before it is met in any output; but the broker may just be away as well.
    """
    return (
        f"read the offsets of group {group!r} (should that last, look for a hanging transaction on __consumer_offsets: "
        f"`kafka-transactions.sh --bootstrap-server {bootstrap_servers} find-hanging --broker-id N "
        "--max-transaction-timeout 1`)"
    )


def stuck(place: TopicPartition, offset: int, bootstrap_servers: str) -> InconsistentLog:
    """Return the error for a transaction, the first in *place*, at *offset*, that does not end by itself (F56)."""
    return InconsistentLog(
        f"{place.topic}-{place.partition} has had an open transaction at {offset} for {SETTLED_S:g} s: the broker has "
        "ended it without a marker there, or another producer holds it. The next marker of ours might commit what was "
        f"aborted. End it with `kafka-transactions.sh --bootstrap-server {bootstrap_servers} abort "
        f"--topic {place.topic} --partition {place.partition} --start-offset {offset}`, start again, and let "
        "`streamal verify` tell whether anything is missing"
    )


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


class Settled:
    """Lets a producer write to a partition only when no transaction from before is open there (F56).

    Kafka 4 may end a transaction without writing its marker to a partition. Its records are open there from then on,
    until the producer's next transaction on that partition ends: that marker is theirs too, and commits what the
    transaction's own end has aborted.
    """

    def __init__(
        self,
        bootstrap_servers: str,
        high: Callable[[list[TopicPartition]], Mapping[TopicPartition, int]],
        stable: Callable[[list[TopicPartition]], Mapping[TopicPartition, int]],
    ) -> None:
        """Ask *high* for the ends of partitions with what is open there, *stable* for those without."""
        self._servers, self._high, self._stable = bootstrap_servers, high, stable
        self._settled: set[TopicPartition] = set()
        self._awaited: dict[TopicPartition, int] = {}
        self._since = self._looked_at = -math.inf

    def forget(self) -> None:
        """Begin afresh, with a new producer."""
        self._settled.clear()
        self._awaited.clear()

    def begun(self, places: Iterable[TopicPartition]) -> None:
        """Note that a transaction of ours is open in *places*, until it is seen to be over (`ended`)."""
        self._settled.difference_update(places)

    def ended(self, places: Iterable[TopicPartition]) -> None:
        """Note that the last transaction of ours is over in *places*: its marker was seen."""
        self._settled.update(places)

    def require(self, places: set[TopicPartition]) -> None:
        """Wait up to `STABLE_S` for the end of what was open in *places* when first asked; what is known costs nothing.

        Raises:
            Behind: something is open; a worker that has died holds us up so until its transaction has timed out.
            LogDisagrees: it was so for `SETTLED_S`.
        """
        asked = sorted(places - self._settled)
        if not asked:
            return
        if unknown := [place for place in asked if place not in self._awaited]:
            self._awaited.update(self._high(unknown))
        began = time.monotonic()
        if began - self._looked_at > TRANSACTION_S:  # for the first time, or the cluster was away
            self._since = began
        left: Mapping[TopicPartition, int] = dict.fromkeys(asked, 0)
        while left := self._still_open(left):
            place, offset = min(left.items())
            self._looked_at = time.monotonic()
            if self._looked_at - self._since >= SETTLED_S:
                raise stuck(place, offset, self._servers)
            if self._looked_at - began >= STABLE_S:
                raise Behind(f"{place.topic}-{place.partition} has an open transaction at {offset}; waiting for it")
            time.sleep(0.01)
        self._looked_at = -math.inf

    def _still_open(self, asked: Iterable[TopicPartition]) -> Mapping[TopicPartition, int]:
        """Return those of *asked* where something is still open, and from which offset on."""
        stable = self._stable(list(asked))
        left = {place: end for place, end in stable.items() if end < self._awaited[place]}
        for place in stable.keys() - left.keys():
            del self._awaited[place]
            self._settled.add(place)
        return left


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
