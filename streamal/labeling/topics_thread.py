"""The desk: the one thread that owns the topics. Pages bring it work; between two pieces it reads what is new.

No lock is needed, and no two annotators can have the same request: whatever leases or answers runs here, one after
the other. A passing trouble of the transport is shown and outlived; one that cannot pass ends the page.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from streamal.bootstrap.assembly import topic_names, wire_rules
from streamal.config import Config
from streamal.core.records import Record, Request, coordinates
from streamal.errors import Fatal, InconsistentLog, StreamalError, Uncommitted
from streamal.labeling.feed import Feed
from streamal.labeling.queue import OpenQueue, QueueRules
from streamal.labeling.web.status import Standing
from streamal.ports import Log, scan

__all__ = ["Desk"]

T = TypeVar("T")
_TICK_S = 0.2
"""How long a new request may wait until the page knows it."""
_COMMITTED_EVERY_S = 1.0
_WORK_MAX = 1_000
_REFUSALS = 20


class Desk:
    """Owns log, queue and figures. `call` runs a function on its thread."""

    def __init__(self, config: Config, open_log: Callable[[], Log], clock: Callable[[], float] = time.time) -> None:
        """Take the parts; nothing is opened before `start`."""
        self._config, self._open_log, self.clock = config, open_log, clock
        self._work: queue.Queue[Callable[[], None] | None] = queue.Queue(_WORK_MAX)
        self._thread = threading.Thread(target=self._run, name="desk", daemon=True)
        self._started: Future[None] = Future()
        self._committed_at, self._letters = 0.0, -1
        self.changed: Callable[[], object] = lambda: None
        """Told, on the desk's thread, when the queue has changed."""
        self.failed: Callable[[], object] = lambda: None
        """Told, on the desk's thread, when it ends because of an error."""
        self.trouble = ""
        """What keeps the topics from being read, "" if nothing does."""
        self.error: BaseException | None = None

    def start(self) -> None:
        """Open the topics and read the open queue; what that raises is raised here."""
        self._thread.start()
        self._started.result()

    def stop(self) -> None:
        """Finish the work at hand and close the topics."""
        self._work.put(None)
        self._thread.join()

    def call(self, function: Callable[[], T]) -> Future[T]:
        """Run *function* on the desk's thread.

        Raises:
            Uncommitted: too much is waiting already.
        """
        future: Future[T] = Future()

        def work() -> None:
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(function())
                except BaseException as error:
                    future.set_exception(error)

        try:
            self._work.put_nowait(work)
        except queue.Full:
            raise Uncommitted("the label page has more to do than it can; try again") from None
        return future

    def event(self, request: str) -> Record | None:
        """Return the event with these coordinates as it was written, None if the log has none (any more)."""
        partition, _, offset = request.partition("-")
        topic = self.topics.events
        if not (partition.isdecimal() and offset.isdecimal()) or len(request) > 30:
            return None
        if coordinates(int(partition), int(offset)) != request or int(partition) >= self._log.partitions(topic):
            return None
        try:
            found = self._log.read(topic, int(partition), int(offset), 1)
        except InconsistentLog:  # deleted long ago
            return None
        return found[0] if found and found[0].offset == int(offset) else None

    def fetch(self, request: str) -> Request | None:
        """Return an open request."""
        entry = self.queue.entry(request)
        return None if entry is None else self.feed.fetch(entry)

    def _run(self) -> None:
        try:
            self._log = self._open_log()
            try:
                self._begin()
                self._started.set_result(None)
                self._serve()
            finally:
                self._log.close()
        except BaseException as error:
            self.error = error
            if not self._started.done():
                self._started.set_exception(error)
            else:
                self.trouble = str(error)
                self.failed()
        self._drain()

    def _begin(self) -> None:
        page, limits = self._config.label_page, self._config.limits
        bounds = QueueRules(open_max=2 * limits.open_requests, closed_max=limits.closed_requests, lease_s=page.lease_s)
        self.topics, self.queue, self.standing = topic_names(self._config), OpenQueue(bounds), Standing(self._config)
        self.feed = Feed(self._log, self.topics, self._config.transport.group, self.queue, wire_rules(self._config))
        self.feed.on_request = self.standing.requested
        self.feed.on_tombstone = self.standing.withdrawn
        self.feed.on_training = self.standing.trained
        self._read()
        if self.trouble:
            raise Fatal(self.trouble)

    def _serve(self) -> None:
        due = time.monotonic()
        while True:
            if time.monotonic() >= due:  # however much work there is: without reading there would be none left
                self._read()
                # a long training log is read in slices, with work in between
                due = time.monotonic() + (_TICK_S if self.feed.caught_up or self.trouble else 0.0)
            try:
                work = self._work.get(timeout=max(0.001, due - time.monotonic()))
            except queue.Empty:
                continue
            if work is None:
                return
            work()

    def _read(self) -> None:
        now = self.clock()
        try:
            changed = self.feed.read(now)
            if abs(now - self._committed_at) >= _COMMITTED_EVERY_S:
                self._committed_at = now
                self.standing.committed(self._log.committed(self._config.transport.group))
                self._read_letters()
        except Uncommitted as error:
            changed, trouble = False, str(error)
        else:
            trouble = ""
        if changed or trouble != self.trouble:
            self.trouble = trouble
            self.changed()

    def _read_letters(self) -> None:
        topic = self.topics.dead_letters
        if self._letters < 0:
            self._letters = max(0, self._log.end(topic, 0) - _REFUSALS)
        for record in scan(self._log, topic, 0, self._letters):
            self._letters = record.offset + 1
            self.standing.refused(record)

    def _drain(self) -> None:
        """Whatever still waits is told that nobody works here any more."""
        self._work_after_the_end()
        self.call = self._closed  # type: ignore[method-assign]

    def _work_after_the_end(self) -> None:
        while True:
            try:
                work = self._work.get_nowait()
            except queue.Empty:
                return
            if work is not None:
                work()

    def _closed(self, function: Callable[[], Any]) -> Future[Any]:
        del function
        future: Future[Any] = Future()
        future.set_exception(StreamalError("the label page has ended"))
        return future
