"""The open queue: the requests that wait for an answer, the most valuable first, and the annotators' leases on them.

The queue is a fold of ``requests`` (a record opens a request, a tombstone closes it), of ``training`` (a closing record
closes it) and of those ``labels`` that the trainer has not joined yet (the request has a reply, but is still open for
the daemon). A process rebuilds the queue from the topics when it starts; only leases and skips live in memory alone:
losing them costs minutes. An open request takes some hundred bytes, whatever its features are: the log keeps those.
Nothing here reads a clock: the time is an argument, in seconds since the epoch.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from streamal.core.records import Lane, Request, coordinates

__all__ = ["Entry", "Lease", "OpenQueue", "QueueRules", "entry_of", "priority"]

_SKIPS_MAX = 1_000
"""Skips that are remembered of one annotator."""
_ANNOTATORS_MAX = 1_000
"""Annotators whose skips are remembered."""


@dataclass(frozen=True, slots=True)
class QueueRules:
    """The bounds of an open queue.

    Attributes:
        open_max: open requests that the queue holds; the daemon's own limit (`limits.open_requests`) is lower.
        closed_max: closed requests that the queue remembers: one topic may be read before another.
        lease_s: the length of a lease.
        leases_max: leases that one annotator may hold.
    """

    open_max: int = 20_000
    closed_max: int = 100_000
    lease_s: float = 120.0
    leases_max: int = 5


class Entry(NamedTuple):
    """An open request without its features; *priority* is in [0, 1], *offset* is its record's on ``requests``."""

    request: str
    offset: int
    priority: float
    asked_at: float
    expires_at: float

    @property
    def partition(self) -> int:
        """The partition of the request's record, which is also its event's."""
        return int(self.request.partition("-")[0])


class Lease(NamedTuple):
    """A request is reserved for an annotator until a time."""

    annotator: str
    until: float


class OpenQueue:
    """Open requests by priority, with leases. One thread uses it."""

    def __init__(self, rules: QueueRules) -> None:
        """Begin empty; `streamal.labeling.feed` folds the topics into the queue."""
        self._rules = rules
        self._entries: dict[str, Entry] = {}
        self._order: list[tuple[float, float, str]] = []
        self._closed: dict[str, None] = {}
        self._replied: dict[str, int] = {}
        self._leases: dict[str, Lease] = {}
        self._skips: dict[str, dict[str, None]] = {}
        self.changes = 0
        """Grows with every change of the queue."""
        self.left_out = 0
        """Open requests that are not in the queue because it was full."""

    def __len__(self) -> int:
        """Return the number of requests that wait for an answer; a request with a reply does not."""
        return len(self._order)

    def __contains__(self, request: str) -> bool:
        """Whether *request* waits for an answer."""
        return request in self._entries and request not in self._replied

    def apply_request(self, entry: Entry) -> None:
        """Fold a record of ``requests``; a request that is already known stays as it is."""
        if entry.request in self._entries or entry.request in self._closed:
            return
        if len(self._entries) >= self._rules.open_max:
            self.left_out += 1
            return
        self._entries[entry.request] = entry
        if entry.request not in self._replied:
            insort(self._order, _key(entry))
        self.changes += 1

    def apply_closing(self, request: str) -> None:
        """Close *request*: fold its tombstone or its record in ``training``, whichever is read first."""
        self._closed[request] = None
        if len(self._closed) > self._rules.closed_max:
            del self._closed[next(iter(self._closed))]
        entry = self._entries.pop(request, None)
        self._leases.pop(request, None)
        if self._replied.pop(request, None) is None and entry is not None:
            self._remove(entry)
        if entry is not None:
            self.changes += 1

    def apply_reply(self, request: str, offset: int) -> None:
        """Fold a reply at *offset* of ``labels``: offer *request* no more, though it is still open for the daemon."""
        if request in self._closed or request in self._replied:
            return
        self._replied[request] = offset
        self._leases.pop(request, None)
        if len(self._replied) > self._rules.open_max:  # most of them are forged: there are fewer open requests
            self._offer_again(next(iter(self._replied)))
        entry = self._entries.get(request)
        if entry is not None and request in self._replied:
            self._remove(entry)
            self.changes += 1

    def reopen(self, before: int) -> Sequence[str]:
        """Offer again the open requests whose reply lies below the offset *before* of ``labels``; return them.

        The caller knows that the trainer has joined the replies below *before*, and has folded every closing that
        followed from them. A request that is open all the same got a reply that the trainer refused.
        """
        again = [request for request, offset in self._replied.items() if offset < before]
        for request in again:
            self._offer_again(request)
        return [request for request in again if request in self._entries]

    def entry(self, request: str) -> Entry | None:
        """Return the entry of *request*, None if it does not wait for an answer."""
        return self._entries.get(request) if request in self else None

    def entries(self, now: float) -> Iterator[Entry]:
        """Yield the requests that wait for an answer, the most valuable first, leased or not, without expired ones."""
        for _, _, request in self._order:
            entry = self._entries[request]
            if entry.expires_at > now:
                yield entry

    def lease(self, annotator: str, now: float, without: Sequence[str] = ()) -> Entry | None:
        """Lease the most valuable free request to *annotator*, None if there is none.

        A request that the annotator holds already comes first, except those in *without*, which the client still
        shows. Skipped requests come only when nothing else is left.
        """
        mine = [request for request, lease in self._leases.items() if lease == (annotator, lease.until)]
        for request in mine:
            if request not in without and self._entries[request].expires_at > now:
                return self._renew(self._entries[request], annotator, now)
        if len(mine) >= self._rules.leases_max:
            for request in [request for request in mine if request not in without] or mine[:1]:
                del self._leases[request]
        skipped, first_skipped = self._skips.get(annotator, {}), None
        for entry in self.entries(now):
            if entry.request in without or self.holder(entry.request, now) not in (None, annotator):
                continue
            if entry.request not in skipped:
                return self._renew(entry, annotator, now)
            first_skipped = first_skipped or entry
        if first_skipped is None:
            return None
        skipped.clear()  # the annotator has skipped all: begin again with the most valuable
        return self._renew(first_skipped, annotator, now)

    def hold(self, request: str, annotator: str, now: float) -> bool:
        """Lease *request* to *annotator*, or renew the lease; False if it is not open or leased to somebody else."""
        entry = self.entry(request)
        if entry is None or self.holder(request, now) not in (None, annotator):
            return False
        self._renew(entry, annotator, now)
        return True

    def skip(self, request: str, annotator: str) -> None:
        """Release *request*, and offer it to *annotator* only when nothing else is left."""
        skips = self._skips.setdefault(annotator, {})
        skips[request] = None
        if len(skips) > _SKIPS_MAX:
            del skips[next(iter(skips))]
        if len(self._skips) > _ANNOTATORS_MAX:
            del self._skips[next(iter(self._skips))]
        self.release(request, annotator)

    def release(self, request: str, annotator: str) -> None:
        """End the lease on *request*, if it is *annotator*'s."""
        lease = self._leases.get(request)
        if lease is not None and lease.annotator == annotator:
            del self._leases[request]

    def holder(self, request: str, now: float) -> str | None:
        """Return the annotator to whom *request* is leased, None if it is free."""
        lease = self._leases.get(request)
        return lease.annotator if lease is not None and lease.until > now else None

    def lease_count(self, now: float) -> int:
        """Return how many requests are leased."""
        return sum(lease.until > now for lease in self._leases.values())

    def _renew(self, entry: Entry, annotator: str, now: float) -> Entry:
        self._leases[entry.request] = Lease(annotator, now + self._rules.lease_s)
        return entry

    def _remove(self, entry: Entry) -> None:
        key = _key(entry)
        index = bisect_left(self._order, key)
        if index < len(self._order) and self._order[index] == key:
            del self._order[index]

    def _offer_again(self, request: str) -> None:
        del self._replied[request]
        entry = self._entries.get(request)
        if entry is not None:
            insort(self._order, _key(entry))
            self.changes += 1


def priority(request: Request) -> float:
    """Return how much an answer is worth, in [0, 1]: 1 for the audit lane, else the uncertainty.

    The audit lane is a random sample that measures quality. If its requests waited behind the others and expired, the
    sample would be biased towards the hours in which people had time.

    >>> priority(Request("0-7", {}, None, {}, 0, Lane.STRATEGY, "split", 0.25, 0.5, 0.0, 9.0))
    0.25
    """
    return 1.0 if request.lane is Lane.AUDIT else min(1.0, max(0.0, request.uncertainty))


def entry_of(request: Request, partition: int, offset: int) -> Entry | None:
    """Return the entry of *request*, read at *offset* of *partition*; None if its coordinates name another partition.

    >>> entry_of(Request("0-7", {}, None, {}, 0, Lane.AUDIT, "split", 0.25, 0.5, 0.0, 9.0), 0, 3)
    Entry(request='0-7', offset=3, priority=1.0, asked_at=0.0, expires_at=9.0)
    """
    event = request.request.partition("-")[2]
    if not event.isdecimal() or request.request != coordinates(partition, int(event)):
        return None
    return Entry(request.request, offset, priority(request), request.asked_at, request.expires_at)


def _key(entry: Entry) -> tuple[float, float, str]:
    """Return the key that sorts by priority, then by age, the oldest first."""
    return -entry.priority, entry.asked_at, entry.request
