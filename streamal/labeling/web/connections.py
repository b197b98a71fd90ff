"""The connections of the label page: a deadline for each head, body and response, and a bound on their number.

uvicorn waits for a request's head for ever, and answers 503 to everybody once its limit of connections is reached, so
a few hundred silent sockets shut all others out. Here each phase of a request has a deadline that a slow drip of bytes
does not move. One connection too many takes the place
of an idle one; a connection whose request is being answered keeps its place.
"""

from __future__ import annotations

import asyncio
from typing import Any, cast

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

__all__ = ["GuardedProtocol"]

CONNECTIONS_MAX = 500
HEAD_S = 10.0
"""Seconds for the head of a request, from the connection's start or the response before."""
BODY_S = 10.0
"""Seconds for the body of a request, from the end of its head."""
RESPONSE_S = 30.0
"""Seconds in which a client has to read on, once what we send waits for it."""

_Phase = tuple[str, object]


class GuardedProtocol(H11Protocol):
    """One connection of uvicorn's server, with deadlines."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Take what uvicorn gives."""
        super().__init__(*args, **kwargs)
        self._opened_at = self.loop.time()
        self._phase: _Phase = ("new", None)
        self._deadline: asyncio.TimerHandle | None = None
        self._write_deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a place; if there is none, that of the idle connection that is least likely to be missed."""
        super().connection_made(transport)
        self._set_deadline()
        if len(self.connections) > CONNECTIONS_MAX:
            others = cast("set[GuardedProtocol]", self.connections) - {self}
            idle = [each for each in others if each.is_droppable]
            min(idle, key=GuardedProtocol._rank, default=self).drop()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the deadlines."""
        super().connection_lost(exc)
        for timer in (self._deadline, self._write_deadline):
            if timer is not None:
                timer.cancel()

    def data_received(self, data: bytes) -> None:
        """Take bytes; a new phase of the request gets its own deadline."""
        super().data_received(data)
        self._set_deadline()

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        super().on_response_complete()
        self._set_deadline()

    def pause_writing(self) -> None:
        """Give the client time to read."""
        super().pause_writing()
        self._write_deadline = self.loop.call_later(RESPONSE_S, self.drop)

    def resume_writing(self) -> None:
        """Go on: the client reads."""
        super().resume_writing()
        if self._write_deadline is not None:
            self._write_deadline.cancel()

    def send_400_response(self, msg: str) -> None:
        """Refuse bytes that are no HTTP; hang up where a response is under way or was sent."""
        try:
            super().send_400_response(msg)
        except h11.LocalProtocolError:
            self.transport.close()

    def drop(self) -> None:
        """Close the connection at once."""
        self.connections.discard(self)
        self.transport.abort()

    @property
    def is_droppable(self) -> bool:
        """Whether no request of this connection is being answered."""
        return self._phase[0] != "response"

    def _current_phase(self) -> _Phase:
        if self.cycle is None or self.cycle.response_complete:
            return "head", self.cycle
        return ("body" if self.cycle.more_body else "response"), self.cycle

    def _set_deadline(self) -> None:
        """Start the deadline of a phase when the phase begins."""
        phase = self._current_phase()
        if phase == self._phase:
            return
        self._phase = phase
        if self._deadline is not None:
            self._deadline.cancel()
        seconds = {"head": HEAD_S, "body": BODY_S}.get(phase[0])
        closing = self.transport.is_closing()
        self._deadline = None if seconds is None or closing else self.loop.call_later(seconds, self.drop)

    def _rank(self) -> tuple[int, float]:
        """Return the order of dropping: silent from the start, idle after a response, sending a body; oldest first."""
        name, cycle = self._phase
        return (2 if name == "body" else 0 if cycle is None else 1), self._opened_at
