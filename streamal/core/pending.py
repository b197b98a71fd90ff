"""The open requests: a set difference, ``requests - training``.

Difference commutes, so the two topics may be read back in any order and interleaving. Open requests are bounded
by the budget (which stops asking), closed ones are remembered up to a bound: older ones count as unknown.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Mapping
from itertools import islice
from typing import assert_never

from streamal.core.records import (
    Abstention,
    Closing,
    Example,
    Expiry,
    FeatureValue,
    Lane,
    Outcome,
    Reply,
    Request,
    partition_of,
)

__all__ = ["Pending", "RecentLabels", "closing_of", "resident_bytes", "resident_bytes_max"]

ABSTAINED, EXPIRED = "abstained", "expired"
"""How a request was closed without a label; with a label it is "=" + label, so that no class can equal these two."""


_FORGOTTEN = 8
"""This part of the closed requests is forgotten at once when there are too many."""
_REQUEST_BYTES, _VALUE_BYTES, _COMPONENT_BYTES = 2_000, 150, 36
"""What an open request takes besides its texts, each of its features and probabilities, and each number of a vector."""
_SCALARS = frozenset({float, bool, int})
_STALE_MAX = 1_000
"""Deadlines of closed requests that may wait behind an old open one before they are swept out."""


def resident_bytes(features: Mapping[str, FeatureValue], classes: int) -> int:
    """Return the most memory that an open request takes, about: a text may take four bytes for each character.

    >>> resident_bytes({"x": 1.0, "text": "word"}, 2)
    2609
    """
    size = _REQUEST_BYTES + _VALUE_BYTES * (len(features) + classes)
    for name, value in features.items():
        size += len(name) if name.isascii() else 4 * len(name)
        if isinstance(value, str):
            size += len(value) if value.isascii() else 4 * len(value)
        elif value.__class__ not in _SCALARS:
            size += _COMPONENT_BYTES * len(value)  # type: ignore[arg-type]
    return size


def resident_bytes_max(record_bytes: int, features: int, *, has_vectors: bool) -> int:
    """Return more than `resident_bytes` of any event with so many bytes and features, and up to 10,000 classes."""
    # a text takes up to four bytes for each byte of its record; a number of a vector has two there at least, as "1,"
    bytes_of_byte = _COMPONENT_BYTES // 2 if has_vectors else 4
    return _REQUEST_BYTES + bytes_of_byte * record_bytes + _VALUE_BYTES * (features + 10_000)


class RecentLabels:
    """The labels of the last events that were noted, as far back as a bound lets; the oldest are forgotten first."""

    __slots__ = ("_count_max", "_labels")

    def __init__(self, count_max: int) -> None:
        """Remember at most *count_max* events, and at least the last seven eighths of them."""
        self._count_max = count_max
        self._labels: dict[str, str] = {}

    def note(self, event: str, label: str) -> None:
        """Remember that *event* has *label*."""
        labels = self._labels
        labels[event] = label
        if len(labels) > self._count_max:
            # many at once: a dictionary looks for its first key behind all that were deleted since it last grew
            for oldest in [*islice(labels, max(1, self._count_max // _FORGOTTEN))]:
                del labels[oldest]

    def has(self, event: str, label: str) -> bool:
        """Return whether *event* is remembered with *label*."""
        return self._labels.get(event) == label

    def get(self, event: str, default: str | None = None) -> str | None:
        """Return what is remembered of *event*."""
        return self._labels.get(event, default)

    def __contains__(self, event: str) -> bool:
        """Whether *event* is remembered."""
        return event in self._labels


class Pending:
    """Open requests with their deadlines, and the memory of the closed ones."""

    def __init__(self, closed_max: int) -> None:
        """Remember at most *closed_max* closed requests, and at least the last seven eighths of them."""
        self._open: dict[str, Request] = {}
        self._closed = RecentLabels(closed_max)
        self._natural = RecentLabels(closed_max)
        self._deadlines: list[tuple[float, str]] = []
        self._counts: Counter[tuple[int, Lane]] = Counter()
        self._bytes: Counter[tuple[int, Lane]] = Counter()
        self._closed_counts: Counter[tuple[str, Lane]] = Counter()

    def __len__(self) -> int:
        """Return the number of open requests."""
        return len(self._open)

    def __contains__(self, request: str) -> bool:
        """Whether *request* was ever seen, as far back as is remembered."""
        return request in self._open or request in self._closed

    @property
    def open(self) -> Mapping[str, Request]:
        """The open requests by coordinates, oldest first."""
        return self._open

    def count(self, partition: int, lane: Lane, asked: int = 0) -> int:
        """Return how many requests of *partition* and *lane* are open, of *asked* that its counters have counted.

        F13: an unfinished transaction of another worker may hide the last of them; they count as open all the same.
        """
        return max(self._counts[partition, lane], asked - self._closed_counts[str(partition), lane])

    def count_missing(self, partition: int, lane: Lane, asked: int) -> int:
        """Return how many requests of *partition* and *lane* are neither open nor closed, of *asked*."""
        return max(0, asked - self._closed_counts[str(partition), lane] - self._counts[partition, lane])

    @property
    def bytes(self) -> int:
        """About how much memory all open requests take."""
        return self._bytes.total()

    def open_bytes(self, partition: int, lane: Lane, asked: int, largest: int) -> int:
        """Return about how much memory the open requests of *partition* and *lane* take, of *asked* ones.

        Of each that is hidden (F13, see `count`) it is assumed that it takes as much as the *largest*.
        """
        hidden = self.count(partition, lane, asked) - self._counts[partition, lane]
        return self._bytes[partition, lane] + hidden * largest

    def add(self, request: Request) -> None:
        """Apply a record of ``requests``; one that is already open or closed changes nothing."""
        if request.request in self:
            return
        self._open[request.request] = request
        self._count(request, 1)
        heapq.heappush(self._deadlines, (request.expires_at, request.request))
        if len(self._deadlines) > 2 * len(self._open) + _STALE_MAX:
            self._deadlines = [(open_.expires_at, key) for key, open_ in self._open.items()]
            heapq.heapify(self._deadlines)

    def close(self, record: Closing) -> None:
        """Apply a record of ``training``, whether or not its request was seen already."""
        self._forget(record.request)
        self._closed.note(record.request, _closing_of_record(record))
        self._closed_counts[record.request.partition("-")[0], record.lane] += 1

    def note_natural(self, event: str, label: str) -> None:
        """Apply a natural label: a request for *event* stays open, but the label is remembered like a bought one."""
        self._natural.note(event, closing_of(label))

    def outcome(self, reply: Reply, closings: Mapping[str, str]) -> Outcome:
        """Return what becomes of *reply*, given also how this step has closed requests so far (*closings*).

        ACCEPTED or ABSTAINED close the request; all others change counters only (invariant I12).
        """
        closing = closings.get(reply.request) or self._closed.get(reply.request)
        if closing is None:
            if reply.request not in self._open:
                return Outcome.UNKNOWN
            return Outcome.ABSTAINED if reply.label is None else Outcome.ACCEPTED
        if closing == EXPIRED:
            return Outcome.LATE
        return Outcome.DUPLICATE if closing == closing_of(reply.label) else Outcome.CONFLICTING

    def natural_outcome(self, event: str, label: str, labels: Mapping[str, str]) -> Outcome:
        """Return what becomes of a natural label of *event*, given what this step has learned so far (*labels*).

        An event is learned once, with the label that comes first. An abstention and an expiry bring no label.
        """
        closing = labels.get(event) or self._natural.get(event) or self._closed.get(event, EXPIRED)
        if closing in (EXPIRED, ABSTAINED):
            return Outcome.ACCEPTED
        return Outcome.DUPLICATE if closing == closing_of(label) else Outcome.CONFLICTING

    def withdraw(self, request: str) -> None:
        """Apply a tombstone of ``requests``: *request* is not open any more; ``training`` says how it was closed."""
        self._forget(request)

    def due(self, now: float, count_max: int) -> list[Request]:
        """Return up to *count_max* open requests whose deadline, written in the request, has passed; earliest first."""
        deadline = self.deadline()
        if deadline is None or deadline > now:
            return []
        due = (request for request in self._open.values() if request.expires_at <= now)
        return heapq.nsmallest(count_max, due, key=lambda request: (request.expires_at, request.request))

    def deadline(self) -> float | None:
        """Return the earliest deadline of an open request, in seconds since the epoch."""
        while self._deadlines and self._deadlines[0][1] not in self._open:
            heapq.heappop(self._deadlines)
        return self._deadlines[0][0] if self._deadlines else None

    def _forget(self, request: str) -> None:
        known = self._open.pop(request, None)
        if known is not None:
            self._count(known, -1)

    def _count(self, request: Request, sign: int) -> None:
        place = partition_of(request.request), request.lane
        self._counts[place] += sign
        self._bytes[place] += sign * resident_bytes(request.features, len(request.probabilities))


def closing_of(label: str | None) -> str:
    """Return how a reply with this *label* (None: an abstention) closes its request."""
    return ABSTAINED if label is None else f"={label}"


def _closing_of_record(record: Closing) -> str:
    match record:
        case Example() | Abstention():
            return closing_of(record.label)
        case Expiry():
            return EXPIRED
        case _:
            assert_never(record)
