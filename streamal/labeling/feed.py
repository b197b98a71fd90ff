"""A feed: fills the open queue from the topics. `Feed.read` takes in the records written since the call before.

One thread uses a feed, the one that owns its `Log`. Each call reads a bounded part of ``training``, so that none takes
long. Records that another program wrote are skipped and counted: they must not stop the page.
"""

from __future__ import annotations

from collections.abc import Callable

from streamal.core.codec.events import decode_request, decode_training
from streamal.core.codec.replies import decode_reply
from streamal.core.codec.wire_rules import WireRules
from streamal.core.records import Closing, Record, Refusal, Reply, Request, TopicPartition, Training
from streamal.core.rules import TopicNames
from streamal.labeling.queue import Entry, OpenQueue, entry_of
from streamal.ports import Log, scan

__all__ = ["Feed"]

_TRAINING_MAX = 2_000
"""Records of ``training`` that one call reads."""
_CACHE_MAX = 256
"""Requests that are kept decoded."""
_TRAINER_EVERY_S = 2.0
"""Seconds between two looks at the trainer's committed offset on ``labels``."""


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
        self._labels = self._trainer_offset()
        self._requests = dict.fromkeys(range(log.partitions(topics.requests)), 0)
        self._trainer, self._trainer_at = 0, -_TRAINER_EVERY_S
        self._cache: dict[str, Request] = {}
        self.on_request: Callable[[Request], object] | None = None
        """Called with each request that is read, open or not."""
        self.on_training: Callable[[int, bytes | None, Training], object] | None = None
        """Called with each record of ``training``: offset, bytes, record."""
        self.on_tombstone: Callable[[str], object] | None = None
        """Called with the coordinates of each tombstone on ``requests``."""
        self.foreign = 0
        """Records that streamal did not write."""
        self.caught_up = False
        """Whether the last `read` has reached the end of ``training``."""

    def read(self, now: float) -> bool:
        """Take in the new records and return whether the queue has changed; *now* in seconds.

        Raises:
            Uncommitted: a passing trouble of the transport; call again.
        """
        changes = self.queue.changes
        for partition, position in self._requests.items():
            for record in scan(self._log, self._topics.requests, partition, position):
                self._requests[partition] = record.offset + 1
                self._apply_request(record)
        self._read_training()
        self._read_labels()
        if self.caught_up and now - self._trainer_at >= _TRAINER_EVERY_S:
            # what the trainer has closed up to its offset of the look before was folded by now
            self.queue.reopen(self._trainer)
            self._trainer, self._trainer_at = self._trainer_offset(), now
        if self.queue.left_out and not len(self.queue):
            self.queue.left_out, self._requests = 0, dict.fromkeys(self._requests, 0)
        return self.queue.changes != changes

    def fetch(self, entry: Entry) -> Request | None:
        """Return the whole request of *entry*, None if the log no longer has it."""
        request = self._cache.get(entry.request)
        if request is None:
            records = self._log.read(self._topics.requests, entry.partition, entry.offset, 1)
            value = records[0].value if records and records[0].offset == entry.offset else None
            decoded = None if value is None else decode_request(value)
            if not isinstance(decoded, Request) or decoded.request != entry.request:
                return None
            request = decoded
            self._cache_request(request)
        return request

    def write_reply(self, request: str, value: bytes) -> None:
        """Append a reply to ``labels`` and offer *request* no more.

        Raises:
            Uncommitted: the reply may not have been written; the request stays open.
        """
        offset = self._log.append(self._topics.labels, 0, request.encode(), value)
        self.queue.apply_reply(request, offset)

    def _apply_request(self, record: Record) -> None:
        if record.value is None:
            request = (record.key or b"").decode(errors="replace")
            self._cache.pop(request, None)
            self.queue.apply_closing(request)
            if self.on_tombstone is not None:
                self.on_tombstone(request)
            return
        decoded = decode_request(record.value)
        entry = None if isinstance(decoded, Refusal) else entry_of(decoded, record.partition, record.offset)
        if entry is None or isinstance(decoded, Refusal):
            self.foreign += 1
            return
        self.queue.apply_request(entry)
        if self.on_request is not None:
            self.on_request(decoded)

    def _read_training(self) -> None:
        records = self._log.read(self._topics.training, 0, self._training, _TRAINING_MAX)
        for record in records:
            self._training = record.offset + 1
            decoded = decode_training(record.value)
            if isinstance(decoded, Refusal):
                self.foreign += 1
                continue
            if isinstance(decoded, Closing):
                self.queue.apply_closing(decoded.request)
            if self.on_training is not None:
                self.on_training(record.offset, record.value, decoded)
        self.caught_up = len(records) < _TRAINING_MAX

    def _read_labels(self) -> None:
        for record in scan(self._log, self._topics.labels, 0, self._labels, unreadable=[]):
            self._labels = record.offset + 1
            reply = decode_reply(record.value, self._wire, None)
            if isinstance(reply, Reply):
                self.queue.apply_reply(reply.request, record.offset)

    def _trainer_offset(self) -> int:
        """Return the offset on ``labels`` below which the trainer has joined every reply."""
        committed = self._log.committed(self._group).get(TopicPartition(self._topics.labels, 0))
        return 0 if committed is None else committed.offset

    def _cache_request(self, request: Request) -> None:
        self._cache[request.request] = request
        if len(self._cache) > _CACHE_MAX:
            del self._cache[next(iter(self._cache))]
