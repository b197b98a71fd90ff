"""Helpers that both Kafka clients share: timeouts, fair polling over partitions, fencing, hanging transactions, errors.

Nothing here calls a client. What both clients do in the same order stands in `streamal.edge.kafka.base`.
"""

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
    "INPUTS_S",
    "POLL_GAP_MS",
    "SETTLED_S",
    "STABLE_S",
    "TRANSACTION_S",
    "VISIBLE_S",
    "WATCHDOG_S",
    "Fence",
    "NoOpenTransaction",
    "call_with_timeout",
    "deleted_records",
    "describe_offset_reading",
    "expired_offsets",
    "hanging_transaction",
    "missing_partition",
    "require_inputs",
    "require_known",
    "take_in_turn",
]

_T = TypeVar("_T")

HEARTBEAT_MS = 300
"""Between two heartbeats, which also bring the news of a rebalance; until all members know, none of them fetches."""

POLL_GAP_MS = 60_000
"""The longest step: after so long without a poll the group takes the worker's partitions away."""

TRANSACTION_S = 10.0
"""Then the broker aborts a transaction. F13: a dead worker holds its successor back for so long."""

INPUTS_S = 20.0
"""Between two looks at whether the inputs are there, with as many partitions as before."""

STABLE_S = 3.0
"""How long a commit waits for the end of a predecessor's transaction before it gives up and is tried again."""

VISIBLE_S = 3.0
"""How long a read waits for the markers of our own transaction; it is committed without them."""

SETTLED_S = 3 * TRANSACTION_S
"""A transaction that is open for longer never ends: the broker looks every ten seconds for those over their time."""

WATCHDOG_S = 15.0
"""For a whole transaction; a healthy broker needs some milliseconds."""


def take_in_turn(
    prefetched: Mapping[TopicPartition, deque[Record]], records_max_by_topic: Mapping[str, int], turn: int
) -> list[Record]:
    """Remove up to *records_max_by_topic* records of each topic from *prefetched* and return them.

    F26, a flood in one partition starves the others: the partition that comes first changes with each *turn*.

    >>> place, other = TopicPartition("t", 0), TopicPartition("t", 1)
    >>> prefetched = {place: deque([Record("t", 0, 7, None, b"a")]), other: deque([Record("t", 1, 9, None, b"b")])}
    >>> [record.offset for record in take_in_turn(prefetched, {"t": 1}, turn=1)]
    [9]
    """
    records: list[Record] = []
    for topic, records_max in records_max_by_topic.items():
        queues = [queue for place, queue in sorted(prefetched.items()) if place.topic == topic]
        first, full = turn % max(len(queues), 1), len(records) + records_max
        for queue in queues[first:] + queues[:first]:
            records.extend(queue.popleft() for _ in range(min(len(queue), full - len(records))))
    return records


def missing_partition(topic: str, partition: int, bootstrap_servers: str) -> ConfigError:
    """Return the error for a partition that does not exist."""
    return ConfigError(
        f"there is no partition {partition} of topic {topic!r} at {bootstrap_servers}; run `streamal topics create`"
    )


def deleted_records(place: TopicPartition, begin: int, offset: int) -> InconsistentLog:
    """Return the error for F14, records that retention has deleted: the log begins at *begin*, *offset* is needed."""
    return InconsistentLog(
        f"{place.topic}-{place.partition} starts at {begin}; {offset} was deleted: raise its retention"
    )


def require_known(place: TopicPartition, before: Mapping[str, int], count: Callable[[str], int]) -> None:
    """Raise a ConfigError for F15, a partition that was added while we ran: the budget is divided among *before*."""
    topic = place.topic
    if place.partition >= before[topic]:
        raise ConfigError(
            f"topic {topic!r} has {count(topic)} partitions, not {before[topic]}: some were added. Add as many to the "
            "requests and predictions, set transport.partitions, and start all workers again"
        )


def require_inputs(before: Mapping[str, int], count: Callable[[str], int]) -> None:
    """Raise a ConfigError if an input is not there any more, or has more partitions than *before*.

    A client notices added partitions after five minutes, and takes a deleted topic for a passing trouble, for ever.
    """
    for topic in before:
        now = count(topic)
        if not now:
            raise ConfigError(
                f"topic {topic!r} was deleted under way, and with it what the workers had not read yet. Restore it, or "
                "begin afresh: new topics and a new transport.group"
            )
        require_known(TopicPartition(topic, now - 1), before, count)


def expired_offsets(group: str, place: TopicPartition, predictions_topic: str) -> InconsistentLog:
    """Return the error for a group without an offset in *place*, although *predictions_topic* shows its work there."""
    return InconsistentLog(
        f"group {group!r} has no offset for {place.topic}-{place.partition}, yet {predictions_topic} has "
        "predictions for it: the offsets have expired (offsets.retention.minutes) or belong to another group. "
        "Setting them by hand loses the budget and the counts: restore the offsets with their metadata from a copy, or "
        "begin afresh: new topics, and another transport.group"
    )


def describe_offset_reading(group: str, bootstrap_servers: str) -> str:
    """Return what a worker does at its start, with the advice for when it gets no answer.

    The broker does not answer while a transaction on the group's offsets is open. F56, a transaction that never ends,
    is met here before it is met in any output; but the broker may just be away as well.
    """
    return (
        f"read the offsets of group {group!r} (should that last, look for a hanging transaction on __consumer_offsets: "
        f"`kafka-transactions.sh --bootstrap-server {bootstrap_servers} find-hanging --broker-id N "
        "--max-transaction-timeout 1`)"
    )


def hanging_transaction(place: TopicPartition, offset: int, bootstrap_servers: str) -> InconsistentLog:
    """Return the error for F56, a transaction that never ends: the first in *place* begins at *offset*."""
    return InconsistentLog(
        f"{place.topic}-{place.partition} has had an open transaction at {offset} for {SETTLED_S:g} s: the broker has "
        "ended it without a marker there, or another producer holds it. The next marker of ours might commit what was "
        f"aborted. End it with `kafka-transactions.sh --bootstrap-server {bootstrap_servers} abort "
        f"--topic {place.topic} --partition {place.partition} --start-offset {offset}`, start again, and let "
        "`streamal verify` tell whether anything is missing"
    )


class Fence:
    """Remembers that this worker was fenced: from then on each call of it fails at once."""

    def __init__(self, instance: str | None) -> None:
        """Guard the worker that is called *instance*.

        A worker without a name shares its transactional id with nobody. If it is fenced, the coordinator itself has
        done it, because a transaction took too long; a new producer goes on at the committed offsets.
        """
        self._instance = instance
        self._fenced: str | None = None

    @contextmanager
    def guard(self, translation: AbstractContextManager[None]) -> Iterator[None]:
        """Run the block inside *translation*, which turns the client's errors into ours, unless we are fenced."""
        if self._fenced is not None:
            raise Fenced(self._fenced)
        try:
            with translation:
                yield
        except Fenced as error:
            if self._instance is None:
                raise Uncommitted(f"{error} (our transaction has timed out; going on)") from error
            self._fenced = str(error)
            raise


class NoOpenTransaction:
    """Lets a producer write to a partition only when no earlier transaction is open there.

    F56, a transaction that never ends: Kafka 4 may end a transaction without writing its marker to a partition. Its
    records stay open there until the producer's next transaction on that partition ends. That marker then holds for
    them too, and commits what the transaction's own end has aborted.
    """

    def __init__(
        self,
        bootstrap_servers: str,
        high_watermarks: Callable[[list[TopicPartition]], Mapping[TopicPartition, int]],
        last_stable: Callable[[list[TopicPartition]], Mapping[TopicPartition, int]],
    ) -> None:
        """Take two functions: one returns the ends with what is open, the other the ends without it."""
        self._servers, self._high_watermarks, self._last_stable = bootstrap_servers, high_watermarks, last_stable
        self._clear: set[TopicPartition] = set()
        self._awaited: dict[TopicPartition, int] = {}
        self._since = self._looked_at = -math.inf

    def forget(self) -> None:
        """Begin afresh, with a new producer."""
        self._clear.clear()
        self._awaited.clear()

    def note_begin(self, places: Iterable[TopicPartition]) -> None:
        """Note that our own transaction is open in *places*."""
        self._clear.difference_update(places)

    def note_end(self, places: Iterable[TopicPartition]) -> None:
        """Note that the marker of our last transaction was seen in *places*."""
        self._clear.update(places)

    def require(self, places: set[TopicPartition]) -> None:
        """Wait up to `STABLE_S` for the end of what is open in *places*; no question where the answer is known.

        Raises:
            Behind: a transaction is open. A worker that has died holds us up so until its transaction times out.
            InconsistentLog: it was open for `SETTLED_S`.
        """
        unclear = sorted(places - self._clear)
        if not unclear:
            return
        if unknown := [place for place in unclear if place not in self._awaited]:
            self._awaited.update(self._high_watermarks(unknown))
        began = time.monotonic()
        if began - self._looked_at > TRANSACTION_S:  # for the first time, or the cluster was away
            self._since = began
        left: Mapping[TopicPartition, int] = dict.fromkeys(unclear, 0)
        while left := self._find_open(left):
            place, offset = min(left.items())
            self._looked_at = time.monotonic()
            if self._looked_at - self._since >= SETTLED_S:
                raise hanging_transaction(place, offset, self._servers)
            if self._looked_at - began >= STABLE_S:
                raise Behind(f"{place.topic}-{place.partition} has an open transaction at {offset}; waiting for it")
            time.sleep(0.01)
        self._looked_at = -math.inf

    def _find_open(self, places: Iterable[TopicPartition]) -> Mapping[TopicPartition, int]:
        """Return those of *places* where something is still open, and from which offset on."""
        stable = self._last_stable(list(places))
        left = {place: end for place, end in stable.items() if end < self._awaited[place]}
        for place in stable.keys() - left.keys():
            del self._awaited[place]
            self._clear.add(place)
        return left


def call_with_timeout(action: Callable[[], _T], timeout_s: float) -> _T:
    """Return ``action()``; after *timeout_s* raise TimeoutError and leave the action behind in its thread."""
    results: list[_T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(action())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, name="kafka-transaction", daemon=True)
    thread.start()
    thread.join(timeout_s)
    if errors:
        raise errors[0]
    if not results:
        raise TimeoutError(f"no answer within {timeout_s:g} s")
    return results[0]
