"""The open queue: which requests wait for an answer, the most valuable first, and who has which in hand.

It is a fold of ``requests`` (what was asked; a tombstone takes it off), of ``training`` (what was closed) and of those
``labels`` that the trainer has not joined yet (what was answered, but is still open for the daemon). So it is rebuilt
from the topics whenever its process starts; only leases and skips, which are worth minutes, live in memory alone. It
keeps some hundred bytes of each open request, whatever its features are: those are read from the log when they are
wanted. Nothing here knows a clock: the time is an argument, in seconds since the epoch.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from streamal.core.records import Lane, Request, coordinates

__all__ = ["Entry", "Lease", "OpenQueue", "QueueRules", "entry_of", "priority"]

_SKIPS_MAX = 1_000
"""Requests that one annotator may have put aside."""
_ANNOTATORS_MAX = 1_000
"""Annotators whose skips are remembered."""


@dataclass(frozen=True, slots=True)
class QueueRules:
    """The bounds.

    Attributes:
        open_max: so many open requests are kept; the daemon's own limit (`limits.open_requests`) is lower.
        closed_max: so many closed ones are remembered, for the topics are read one after the other.
        lease_s: how long a request is kept for the annotator who was shown it.
        leases_max: how many requests one annotator may have in hand.
    """

    open_max: int = 20_000
    closed_max: int = 100_000
    lease_s: float = 120.0
    leases_max: int = 5


class Entry(NamedTuple):
    """What is kept of an open request; *priority* is in [0, 1], *offset* is its record's on ``requests``."""

    request: str
    offset: int
    priority: float
    asked_at: float
    expires_at: float

    @property
    def partition(self) -> int:
        """The partition of ``requests``, which is the event's."""
        return int(self.request.partition("-")[0])


class Lease(NamedTuple):
    """A request in somebody's hands, until a time."""

    annotator: str
    until: float


class OpenQueue:
    """Open requests by priority, with leases. One thread uses it."""

    def __init__(self, rules: QueueRules) -> None:
        """Begin empty; whoever owns it folds the topics into it, see `streamal.labeling.feed`."""
        self._rules = rules
        self._entries: dict[str, Entry] = {}
        self._order: list[tuple[float, float, str]] = []
        self._closed: dict[str, None] = {}
        self._answered: dict[str, int] = {}
        self._leases: dict[str, Lease] = {}
        self._skips: dict[str, dict[str, None]] = {}
        self.changes = 0
        """Grows with every change of what is open."""
        self.beyond = 0
        """Open requests that were left out because there were too many."""

    def __len__(self) -> int:
        """Return the number of requests that wait for an answer; answered ones do not."""
        return len(self._order)

    def __contains__(self, request: str) -> bool:
        """Whether *request* waits for an answer."""
        return request in self._entries and request not in self._answered

    def opened(self, entry: Entry) -> None:
        """Fold a record of ``requests``; what is open or closed already stays as it is."""
        if entry.request in self._entries or entry.request in self._closed:
            return
        if len(self._entries) >= self._rules.open_max:
            self.beyond += 1
            return
        self._entries[entry.request] = entry
        if entry.request not in self._answered:
            insort(self._order, _key(entry))
        self.changes += 1

    def closed(self, request: str) -> None:
        """Fold what closes *request*: its tombstone, or its record in ``training``, whichever is read first."""
        self._closed[request] = None
        if len(self._closed) > self._rules.closed_max:
            del self._closed[next(iter(self._closed))]
        entry = self._entries.pop(request, None)
        self._leases.pop(request, None)
        if self._answered.pop(request, None) is None and entry is not None:
            self._take_out(entry)
        if entry is not None:
            self.changes += 1

    def answered(self, request: str, offset: int) -> None:
        """Fold a reply at *offset* of ``labels``: *request* is not offered any more, though the daemon has it still open."""
        if request in self._closed or request in self._answered:
            return
        self._answered[request] = offset
        self._leases.pop(request, None)
        if len(self._answered) > self._rules.open_max:  # forged ones; the real ones are fewer
            self._reopen(next(iter(self._answered)))
        entry = self._entries.get(request)
        if entry is not None and request in self._answered:
            self._take_out(entry)
            self.changes += 1

    def refused(self, before: int) -> Sequence[str]:
        """Offer again, and return, what was answered below *before* of ``labels`` and is still open.

        The caller knows that the trainer has joined the replies below *before*, and that what it has closed by that
        was folded: so these replies were refused.
        """
        again = [request for request, offset in self._answered.items() if offset < before]
        for request in again:
            self._reopen(request)
        return [request for request in again if request in self._entries]

    def entry(self, request: str) -> Entry | None:
        """Return *request* if it waits for an answer."""
        return self._entries.get(request) if request in self else None

    def waiting(self, now: float) -> Iterator[Entry]:
        """Yield what waits for an answer, the most valuable first, leased or not; what has expired is left out."""
        for _, _, request in self._order:
            entry = self._entries[request]
            if entry.expires_at > now:
                yield entry

    def lease(self, annotator: str, now: float, without: Sequence[str] = ()) -> Entry | None:
        """Give *annotator* the most valuable request that nobody else has in hand, None if there is none.

        One that the annotator was given before and has not answered comes again, but for those in *without* (that the
        client still shows). What the annotator has skipped comes only when nothing else is left.
        """
        mine = [request for request, lease in self._leases.items() if lease == (annotator, lease.until)]
        for request in mine:
            if request not in without and self._entries[request].expires_at > now:
                return self._leased(self._entries[request], annotator, now)
        if len(mine) >= self._rules.leases_max:
            for request in [request for request in mine if request not in without] or mine[:1]:
                del self._leases[request]
        skipped, second = self._skips.get(annotator, {}), None
        for entry in self.waiting(now):
            if entry.request in without or self.holder(entry.request, now) not in (None, annotator):
                continue
            if entry.request not in skipped:
                return self._leased(entry, annotator, now)
            second = second or entry
        if second is None:
            return None
        skipped.clear()  # all were skipped: begin again with the most valuable
        return self._leased(second, annotator, now)

    def hold(self, request: str, annotator: str, now: float) -> bool:
        """Lease *request* to *annotator*, or lengthen the lease; False if it is not open or another has it in hand."""
        entry = self.entry(request)
        if entry is None or self.holder(request, now) not in (None, annotator):
            return False
        self._leased(entry, annotator, now)
        return True

    def skip(self, request: str, annotator: str) -> None:
        """Put *request* aside for *annotator*: somebody else may have it."""
        skips = self._skips.setdefault(annotator, {})
        skips[request] = None
        if len(skips) > _SKIPS_MAX:
            del skips[next(iter(skips))]
        if len(self._skips) > _ANNOTATORS_MAX:
            del self._skips[next(iter(self._skips))]
        self.release(request, annotator)

    def release(self, request: str, annotator: str) -> None:
        """Give *request* back, if *annotator* has it in hand."""
        lease = self._leases.get(request)
        if lease is not None and lease.annotator == annotator:
            del self._leases[request]

    def holder(self, request: str, now: float) -> str | None:
        """Return who has *request* in hand."""
        lease = self._leases.get(request)
        return lease.annotator if lease is not None and lease.until > now else None

    def leases(self, now: float) -> int:
        """Return how many requests are in somebody's hands."""
        return sum(lease.until > now for lease in self._leases.values())

    def _leased(self, entry: Entry, annotator: str, now: float) -> Entry:
        self._leases[entry.request] = Lease(annotator, now + self._rules.lease_s)
        return entry

    def _take_out(self, entry: Entry) -> None:
        key = _key(entry)
        place = bisect_left(self._order, key)
        if place < len(self._order) and self._order[place] == key:
            del self._order[place]

    def _reopen(self, request: str) -> None:
        del self._answered[request]
        entry = self._entries.get(request)
        if entry is not None:
            insort(self._order, _key(entry))
            self.changes += 1


def priority(request: Request) -> float:
    """Return how much an answer is worth, in [0, 1]: 1 for the audit lane, else the uncertainty.

    The audit lane was drawn at random to measure quality: if its requests waited behind the others and expired, the
    measure would be of whatever people found time for.

    >>> priority(Request("0-7", {}, None, {}, 0, Lane.STRATEGY, "split", 0.25, 0.5, 0.0, 9.0))
    0.25
    """
    return 1.0 if request.lane is Lane.AUDIT else min(1.0, max(0.0, request.uncertainty))


def entry_of(request: Request, partition: int, offset: int) -> Entry | None:
    """Return what is kept of *request*, read at *offset* of *partition*; None if it is not of that partition.

    >>> entry_of(Request("0-7", {}, None, {}, 0, Lane.AUDIT, "split", 0.25, 0.5, 0.0, 9.0), 0, 3)
    Entry(request='0-7', offset=3, priority=1.0, asked_at=0.0, expires_at=9.0)
    """
    event = request.request.partition("-")[2]
    if not event.isdecimal() or request.request != coordinates(partition, int(event)):
        return None
    return Entry(request.request, offset, priority(request), request.asked_at, request.expires_at)


def _key(entry: Entry) -> tuple[float, float, str]:
    """Sort by value, then the oldest first."""
    return -entry.priority, entry.asked_at, entry.request
