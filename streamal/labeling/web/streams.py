"""The event streams of the pages: a bound on all of them, and a share for each person."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator

__all__ = ["STREAMS_MAX", "EventStreams"]

STREAMS_MAX = 200
"""Event streams that may be open at a time: one for each page that is open in a browser."""
STREAMS_PER_PERSON_MAX = 10


class _Stream:
    def __init__(self, person: str) -> None:
        self.person, self.changed, self.ended = person, asyncio.Event(), False


class EventStreams:
    """All open streams, oldest first. One event loop uses it."""

    def __init__(self) -> None:
        """Begin without streams."""
        self._streams: dict[_Stream, None] = {}
        self._ending = False

    def has_room(self, person: str) -> bool:
        """Whether a stream of *person* may be opened, be it in place of another one."""
        return len(self._streams) < STREAMS_MAX or self._surplus(person) is not None

    async def changes(self, person: str, quiet_s: float) -> AsyncIterator[None]:
        """Yield at once, at each change, and after *quiet_s* without any, until the stream is ended."""
        surplus = self._surplus(person)
        if surplus is not None:
            self._end(surplus)
        elif len(self._streams) >= STREAMS_MAX:
            return
        stream = _Stream(person)
        self._streams[stream] = None
        try:
            while not (stream.ended or self._ending):
                yield
                try:
                    await asyncio.wait_for(stream.changed.wait(), quiet_s)
                except TimeoutError:
                    continue
                stream.changed.clear()
        finally:
            self._streams.pop(stream, None)

    def wake(self) -> None:
        """Let every stream yield."""
        for stream in self._streams:
            stream.changed.set()

    def end(self) -> None:
        """End every stream, and each that is opened later."""
        self._ending = True
        self.wake()

    def _end(self, stream: _Stream) -> None:
        self._streams.pop(stream, None)
        stream.ended = True
        stream.changed.set()

    def _surplus(self, person: str) -> _Stream | None:
        """Return the stream that a new one of *person* replaces, None if it replaces none.

        A person with all of the share gives up the oldest. When all places are taken, the person with most streams
        gives one up, if that is more than *person* will have.
        """
        counts = Counter(stream.person for stream in self._streams)
        if counts[person] >= STREAMS_PER_PERSON_MAX:
            greediest = person
        elif len(self._streams) >= STREAMS_MAX:
            greediest, most = counts.most_common(1)[0]
            if most <= counts[person] + 1:
                return None
        else:
            return None
        return next(stream for stream in self._streams if stream.person == greediest)
