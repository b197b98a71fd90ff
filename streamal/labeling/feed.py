"""From the topics into the open queue, bit by bit: `Feed.read` takes in what was written since the last time.

One thread uses a feed, the one that owns its `Log`. Reading never blocks for long, and each call reads a bounded part
of a long ``training``. Records that are not streamal's are left out and counted: a page must not stop for them.
"""

from __future__ import annotations

from collections.abc import Callable

from streamal.core.codec.events import WireRules, decode_request, decode_training
from streamal.core.codec.replies import decode_reply
from streamal.core.records import Closing, Record, Refusal, Reply, Request, TopicPartition, Training
from streamal.core.rules import TopicNames
from streamal.labeling.queue import Entry, OpenQueue, entry_of
from streamal.ports import Log, scan

__all__ = ["Feed"]

_SLICE = 2_000
"""Records of ``training`` taken in by one call."""
_RECENT = 256
"""Requests kept decoded."""
_JOINED_EVERY_S = 2.0
"""How often the trainer's place on ``labels`` is asked for: whatever it has closed by then is visible next time."""


class Feed:
    """Reads ``requests``, ``labels`` and ``training`` incrementally into *queue*."""

    def __init__(
        self,
        log: Log,
        topics: TopicNames,
        group: str,
        queue: OpenQueue,
        wire: WireRules,
        history: int | None = None,
    ) -> None:
        """Begin with *history* records of ``training`` before its end (None: with the first)."""
        self._log, self._topics, self._group, self.queue, self._wire = log, topics, group, queue, wire
        end = log.end(topics.training, 0)
        self._training = 0 if history is None else max(0, end - history)
        self._labels = self._joined(log)
        self._requests = dict.fromkeys(range(log.partitions(topics.requests)), 0)
        self._joined_to, self._joined_at = 0, -_JOINED_EVERY_S
        self._recent: dict[str, Request] = {}
        self.on_request: Callable[[Request], object] | None = None
        """Told of each request that is read, open or not."""
        self.on_training: Callable[[int, bytes | None, Training], object] | None = None
        """Told of each record of ``training``: offset, bytes, record."""
        self.on_tombstone: Callable[[str], object] | None = None
        """Told of each request that was taken off ``requests``."""
        self.strange = 0
        """Records that are none of streamal's."""
        self.caught_up = False
        """Whether the last `read` has reached the end of ``training``."""

    def read(self, now: float) -> bool:
        """Take in what is new; return whether the queue has changed. *now* in seconds.

        Raises:
            Uncommitted: a passing trouble of the transport; call again.
        """
        changes = self.queue.changes
        for partition, position in self._requests.items():
            for record in scan(self._log, self._topics.requests, partition, position):
                self._requests[partition] = record.offset + 1
                self._request(record)
        self._read_training()
        self._read_labels()
        if self.caught_up and now - self._joined_at >= _JOINED_EVERY_S:
            self.queue.refused(self._joined_to)
            self._joined_to, self._joined_at = self._joined(self._log), now
        if self.queue.beyond and not len(self.queue):
            self.queue.beyond, self._requests = 0, dict.fromkeys(self._requests, 0)
        return self.queue.changes != changes

    def fetch(self, entry: Entry) -> Request | None:
        """Return the whole request of *entry*, None if it is gone from the log."""
        known = self._recent.get(entry.request)
        if known is None:
            records = self._log.read(self._topics.requests, entry.partition, entry.offset, 1)
            value = records[0].value if records and records[0].offset == entry.offset else None
            decoded = None if value is None else decode_request(value)
            if not isinstance(decoded, Request) or decoded.request != entry.request:
                return None
            known = self._keep(decoded)
        return known

    def answer(self, request: str, value: bytes) -> None:
        """Append a reply to ``labels``; *request* is not offered any more from here on.

        Raises:
            Uncommitted: it may not have been written; the request stays open.
        """
        offset = self._log.append(self._topics.labels, 0, request.encode(), value)
        self.queue.answered(request, offset)

    def _request(self, record: Record) -> None:
        if record.value is None:
            request = (record.key or b"").decode(errors="replace")
            self._recent.pop(request, None)
            self.queue.closed(request)
            if self.on_tombstone is not None:
                self.on_tombstone(request)
            return
        decoded = decode_request(record.value)
        entry = None if isinstance(decoded, Refusal) else entry_of(decoded, record.partition, record.offset)
        if entry is None or isinstance(decoded, Refusal):
            self.strange += 1
            return
        self.queue.opened(entry)
        if self.on_request is not None:
            self.on_request(decoded)

    def _read_training(self) -> None:
        records = self._log.read(self._topics.training, 0, self._training, _SLICE)
        for record in records:
            self._training = record.offset + 1
            decoded = decode_training(record.value)
            if isinstance(decoded, Refusal):
                self.strange += 1
                continue
            if isinstance(decoded, Closing):
                self.queue.closed(decoded.request)
            if self.on_training is not None:
                self.on_training(record.offset, record.value, decoded)
        self.caught_up = len(records) < _SLICE

    def _read_labels(self) -> None:
        for record in scan(self._log, self._topics.labels, 0, self._labels):
            self._labels = record.offset + 1
            reply = decode_reply(record.value, self._wire, None)
            if isinstance(reply, Reply):
                self.queue.answered(reply.request, record.offset)

    def _joined(self, log: Log) -> int:
        """Return up to where the trainer has joined replies."""
        done = log.committed(self._group).get(TopicPartition(self._topics.labels, 0))
        return 0 if done is None else done.offset

    def _keep(self, request: Request) -> Request:
        self._recent[request.request] = request
        if len(self._recent) > _RECENT:
            del self._recent[next(iter(self._recent))]
        return request
