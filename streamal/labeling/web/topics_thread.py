"""The topics thread: the only thread of the label page that reads and writes topics. Requests call functions on it.

Functions run one after the other, so no lock is needed and no two annotators can lease the same request. Between two
functions the thread reads new records. It shows a passing trouble of the transport and tries again; a lasting one ends
the page.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from streamal.bootstrap.rules import topic_names, wire_rules
from streamal.config import Config
from streamal.core.records import Record, Request, coordinates
from streamal.errors import Fatal, InconsistentLog, StreamalError, Uncommitted
from streamal.labeling.feed import Feed
from streamal.labeling.queue import OpenQueue, QueueRules
from streamal.labeling.web.status import StatusFold
from streamal.ports import Log, scan

__all__ = ["TopicsThread"]

T = TypeVar("T")
_READ_EVERY_S = 0.2
"""A new request is on the page after so many seconds at most."""
_COMMITTED_EVERY_S = 1.0
_CALLS_MAX = 1_000
_REFUSALS = 20
_COORDINATES_MAX = 30
"""Characters of an event's coordinates."""


class TopicsThread:
    """Owns the log, the queue and the figures. `call` runs a function on its thread."""

    def __init__(self, config: Config, open_log: Callable[[], Log], clock: Callable[[], float] = time.time) -> None:
        """Take the parts; `start` opens the log."""
        self._config, self._open_log, self.clock = config, open_log, clock
        self._calls: queue.Queue[Callable[[], None] | None] = queue.Queue(_CALLS_MAX)
        self._thread = threading.Thread(target=self._run, name="topics", daemon=True)
        self._started: Future[None] = Future()
        self._committed_at, self._dead_letters = 0.0, -1
        self.on_change: Callable[[], object] = lambda: None
        """Called on this thread when the queue or the trouble has changed."""
        self.on_failure: Callable[[], object] = lambda: None
        """Called on this thread when it ends because of an error."""
        self.trouble = ""
        """Why the topics cannot be read now, "" if they can."""
        self.error: BaseException | None = None
        """The error that ended the thread."""

    def start(self) -> None:
        """Open the topics and read the open queue.

        Raises:
            ConfigError: there are no topics.
            Fatal: they cannot be read.
        """
        self._thread.start()
        self._started.result()

    def stop(self) -> None:
        """Finish the functions that were called and close the topics."""
        self._calls.put(None)
        self._thread.join()

    def call(self, function: Callable[[], T]) -> Future[T]:
        """Run *function* on this thread.

        Raises:
            Uncommitted: too many functions wait already.
        """
        future: Future[T] = Future()

        def run() -> None:
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(function())
                except BaseException as error:
                    future.set_exception(error)

        try:
            self._calls.put_nowait(run)
        except queue.Full:
            raise Uncommitted("the label page has more to do than it can; try again") from None
        return future

    def event(self, request: str) -> Record | None:
        """Return the event with these coordinates as it was written, None if the log has none (any more)."""
        partition, _, offset = request.partition("-")
        topic = self.topics.events
        if not (partition.isdecimal() and offset.isdecimal()) or len(request) > _COORDINATES_MAX:
            return None
        if coordinates(int(partition), int(offset)) != request or int(partition) >= self._log.partitions(topic):
            return None
        try:
            records = self._log.read(topic, int(partition), int(offset), 1)
        except InconsistentLog:  # retention has deleted it
            return None
        return records[0] if records and records[0].offset == int(offset) else None

    def request(self, request: str) -> Request | None:
        """Return an open request, None if it is not open."""
        entry = self.queue.entry(request)
        return None if entry is None else self.feed.fetch(entry)

    def _run(self) -> None:
        try:
            self._log = self._open_log()
            try:
                self._begin()
                self._started.set_result(None)
                self._loop()
            finally:
                self._log.close()
        except BaseException as error:
            self.error = error
            if not self._started.done():
                self._started.set_exception(error)
            else:
                self.trouble = str(error)
                self.on_failure()
        self._run_last_calls()
        self.call = self._refuse_call  # type: ignore[method-assign]

    def _begin(self) -> None:
        page, limits = self._config.label_page, self._config.limits
        bounds = QueueRules(open_max=2 * limits.open_requests, closed_max=limits.closed_requests, lease_s=page.lease_s)
        self.topics, self.queue, self.status = topic_names(self._config), OpenQueue(bounds), StatusFold(self._config)
        self.feed = Feed(self._log, self.topics, self._config.transport.group, self.queue, wire_rules(self._config))
        self.feed.on_request = self.status.apply_request
        self.feed.on_tombstone = self.status.apply_tombstone
        self.feed.on_training = self.status.apply_training
        self._read()
        if self.trouble:
            raise Fatal(self.trouble)

    def _loop(self) -> None:
        read_at = time.monotonic()
        while True:
            if time.monotonic() >= read_at:  # read however many calls wait: the queue would run dry without
                self._read()
                # a long training log is read in parts, and calls run between two parts
                pause_s = _READ_EVERY_S if self.feed.caught_up or self.trouble else 0.0
                read_at = time.monotonic() + pause_s
            try:
                call = self._calls.get(timeout=max(0.001, read_at - time.monotonic()))
            except queue.Empty:
                continue
            if call is None:
                return
            call()

    def _read(self) -> None:
        now = self.clock()
        try:
            changed = self.feed.read(now)
            if abs(now - self._committed_at) >= _COMMITTED_EVERY_S:
                self._committed_at = now
                self.status.apply_committed(self._log.committed(self._config.transport.group))
                self._read_dead_letters()
        except Uncommitted as error:
            changed, trouble = False, str(error)
        else:
            trouble = ""
        if changed or trouble != self.trouble:
            self.trouble = trouble
            self.on_change()

    def _read_dead_letters(self) -> None:
        topic = self.topics.dead_letters
        if self._dead_letters < 0:
            self._dead_letters = max(0, self._log.end(topic, 0) - _REFUSALS)
        for record in scan(self._log, topic, 0, self._dead_letters):
            self._dead_letters = record.offset + 1
            self.status.apply_dead_letter(record)

    def _run_last_calls(self) -> None:
        """Run the functions that still wait: each gets its result, or the error that ended the thread."""
        while True:
            try:
                call = self._calls.get_nowait()
            except queue.Empty:
                return
            if call is not None:
                call()

    def _refuse_call(self, function: Callable[[], Any]) -> Future[Any]:
        del function
        future: Future[Any] = Future()
        future.set_exception(StreamalError("the label page has ended"))
        return future
