"""The state of a bridge, folded from the topics: open and closed requests, and the replies that it has written."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple

import msgspec

from streamal.core.records import Request, Training
from streamal.labeling.feed import Feed
from streamal.ports import Log, scan

__all__ = ["PREFIX", "BridgeState", "Key", "WrittenReply"]

PREFIX = "ls-"
"""The names of a bridge's replies begin with it, see `streamal.exchange.label_studio.read_annotation`."""
_CLOSED_MAX = 100_000
"""Closed requests that are remembered, beyond those that have a task."""
Key = tuple[str, float]
"""The request that a task asks: coordinates and time of asking. Another database has the same coordinates."""


class WrittenReply(NamedTuple):
    """The last reply on ``labels`` for an annotation; a label of None is an abstention or a retraction."""

    reply: str
    label: str | None


class _Reply(msgspec.Struct):
    """A reply that a bridge has written, corrections included, which the trainer may refuse."""

    request: str
    reply: str
    label: str | None = None


_decode = msgspec.json.Decoder(_Reply).decode


class BridgeState:
    """A fold of ``requests``, ``training`` and ``labels``, each from its first record."""

    def __init__(self, log: Log, labels: str, feed: Feed, wanted: Collection[Key]) -> None:
        """Fold what *feed* reads; never forget a closed request among *wanted*, which may change."""
        self._log, self._labels, self._feed, self._wanted = log, labels, feed, wanted
        feed.on_training, feed.on_request, feed.on_tombstone = (
            self._apply_training,
            self._apply_request,
            self._remove_open,
        )
        self._open: dict[str, float] = {}
        self._closed: dict[str, float] = {}
        self._replies: dict[str, dict[str, WrittenReply]] = {}
        self._labels_read = 0

    def read(self, now: float) -> None:
        """Fold every record written since the call before; *now* in seconds."""
        self._feed.read(now)
        while not self._feed.caught_up:
            self._feed.read(now)
        self.read_labels()

    def read_labels(self) -> None:
        """Fold the replies written since the call before, the bridge's own included."""
        for record in scan(self._log, self._labels, 0, self._labels_read, unreadable=[]):
            self._labels_read = record.offset + 1
            try:
                reply = _decode(record.value or b"")
            except (msgspec.DecodeError, UnicodeError, RecursionError):
                continue  # not a bridge's
            self._note_reply(reply, keep=False)

    def knows(self, key: Key) -> bool:
        """Whether *key* is a request of this database, open or closed."""
        return key[1] in (self._open.get(key[0]), self._closed.get(key[0]))

    def is_closed(self, key: Key) -> bool:
        """Whether the request *key* is closed."""
        return self._closed.get(key[0]) == key[1]

    def written_replies(self, request: str) -> Mapping[str, WrittenReply]:
        """Return annotation -> the last reply on ``labels`` for it."""
        return self._replies.get(request, {})

    def _apply_request(self, request: Request) -> None:
        if request.request not in self._closed:
            self._open[request.request] = request.asked_at

    def _remove_open(self, request: str) -> None:
        self._open.pop(request, None)

    def _apply_training(self, offset: int, value: bytes | None, record: Training) -> None:  # noqa: ARG002
        if not record.closes_request:
            return
        self._remove_open(record.request)
        self._closed[record.request] = record.asked_at
        if len(self._closed) > _CLOSED_MAX + 2 * len(self._wanted):
            self._forget_old()
        if record.reply is not None:  # retention may have deleted it from labels
            self._note_reply(_Reply(record.request, record.reply, record.label), keep=True)

    def _forget_old(self) -> None:
        """Keep the closed requests that have a task, and the latest ones: their tasks may not be known yet."""
        recent = list(self._closed)[-_CLOSED_MAX // 2 :]
        kept = {request for request, _ in self._wanted}.union(recent, self._open)
        self._closed = {request: at for request, at in self._closed.items() if request in kept}
        self._replies = {request: replies for request, replies in self._replies.items() if request in kept}

    def _note_reply(self, reply: _Reply, *, keep: bool) -> None:
        """Remember *reply* as the last one for its annotation; with *keep* a reply that is already known stays."""
        if not reply.reply.startswith(PREFIX):
            return
        annotation = reply.reply.split("-", 2)[1]
        replies = self._replies.setdefault(reply.request, {})
        if not (keep and annotation in replies):
            replies[annotation] = WrittenReply(reply.reply, reply.label)
