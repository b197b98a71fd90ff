"""What the topics say about a bridge's requests: open, closed, and which replies of the bridge were written already."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple

import msgspec

from streamal.core.records import Abstention, Closing, Example, Request, Training
from streamal.labeling.feed import Feed
from streamal.ports import Log, scan

__all__ = ["PREFIX", "Key", "Known", "Written"]

PREFIX = "ls-"
"""What the names of our replies begin with, see `streamal.exchange.label_studio.read_annotation`."""
_CLOSED_MAX = 100_000
"""Closed requests that are remembered beyond those that have a task."""
Key = tuple[str, float]
"""What a task asks: the request and when it was asked; coordinates alone come again in another database."""


class Written(NamedTuple):
    """The last reply that was written about an annotation; a label of None is an abstention, or a retraction."""

    reply: str
    label: str | None


class _Reply(msgspec.Struct):
    """What is read back of a reply of ours; corrections too, which the trainer may refuse."""

    request: str
    reply: str
    label: str | None = None


_decode = msgspec.json.Decoder(_Reply).decode


class Known:
    """A fold of ``requests``, ``training`` and ``labels``; it begins with the first record of each."""

    def __init__(self, log: Log, labels: str, feed: Feed, wanted: Collection[Key]) -> None:
        """Listen to *feed*; of what is closed, *wanted*, which may change, is never forgotten."""
        self._log, self._labels, self._feed, self._wanted = log, labels, feed, wanted
        feed.on_training, feed.on_request, feed.on_tombstone = self._training, self._request, self._gone
        self._open: dict[str, float] = {}
        self._closed: dict[str, float] = {}
        self._written: dict[str, dict[str, Written]] = {}
        self._labels_read = 0

    def read(self, now: float) -> None:
        """Take in everything that was written since the last time; *now* in seconds."""
        self._feed.read(now)
        while not self._feed.caught_up:
            self._feed.read(now)
        self.read_labels()

    def read_labels(self) -> None:
        """Take in the replies that were written since the last time, our own too."""
        for record in scan(self._log, self._labels, 0, self._labels_read):
            self._labels_read = record.offset + 1
            try:
                reply = _decode(record.value or b"")
            except (msgspec.DecodeError, UnicodeError, RecursionError):
                continue  # not one of ours, whatever it is
            self._note(reply, keep=False)

    def has(self, key: Key) -> bool:
        """Whether *key* is a request of ours: one that is open, or was closed."""
        return key[1] in (self._open.get(key[0]), self._closed.get(key[0]))

    def closed(self, key: Key) -> bool:
        """Whether *key* was closed, by whomever."""
        return self._closed.get(key[0]) == key[1]

    def written(self, request: str) -> Mapping[str, Written]:
        """Return annotation -> the last reply about it that is on ``labels``."""
        return self._written.get(request, {})

    def _request(self, request: Request) -> None:
        if request.request not in self._closed:
            self._open[request.request] = request.asked_at

    def _gone(self, request: str) -> None:
        self._open.pop(request, None)

    def _training(self, offset: int, value: bytes | None, record: Training) -> None:  # noqa: ARG002
        if not isinstance(record, Closing):
            return
        self._gone(record.request)
        self._closed[record.request] = record.asked_at
        if len(self._closed) > _CLOSED_MAX + 2 * len(self._wanted):
            self._forget()
        if isinstance(record, Example | Abstention) and record.reply is not None:  # labels may be gone (retention)
            label = record.label if isinstance(record, Example) else None
            self._note(_Reply(record.request, record.reply, label), keep=True)

    def _forget(self) -> None:
        """Keep, of what is closed, what has a task, and the last ones: their tasks may not be known yet."""
        recent = list(self._closed)[-_CLOSED_MAX // 2 :]
        kept = {request for request, _ in self._wanted}.union(recent, self._open)
        self._closed = {request: at for request, at in self._closed.items() if request in kept}
        self._written = {request: about for request, about in self._written.items() if request in kept}

    def _note(self, reply: _Reply, *, keep: bool) -> None:
        """Remember *reply* as the last one about its annotation; with *keep* one that is known already stays."""
        if not reply.reply.startswith(PREFIX):
            return
        annotation = reply.reply.split("-", 2)[1]
        about = self._written.setdefault(reply.request, {})
        if not (keep and annotation in about):
            about[annotation] = Written(reply.reply, reply.label)
