"""What the scripts of the pages and other tools talk to: JSON in, JSON out, and streams of news."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from streamal.config import Config
from streamal.labeling.annotating import Answer, Answering, Denied
from streamal.labeling.topics_thread import Desk
from streamal.labeling.web.auth import Gate, body
from streamal.labeling.web.openapi import document

__all__ = ["Api", "decoded"]

T = TypeVar("T")
_STREAMS_MAX = 200
"""Pages that may be open at a time; each holds one connection for its news."""
_QUIET_S = 15.0
"""A stream of news says something at least that often, so that a dead one is noticed."""
_STATUS_EVERY_S = 2.0
_LIST_MAX = 1_000


class _Next(msgspec.Struct, forbid_unknown_fields=True):
    without: list[str] = []


class _Skip(msgspec.Struct, forbid_unknown_fields=True):
    request: str


class Api:
    """What scripts and other tools talk to."""

    def __init__(self, config: Config, gate: Gate, desk: Desk, daemon: Callable[[], Mapping[str, Any] | None]) -> None:
        """Take the parts; see `streamal.labeling.web.app`."""
        self._gate, self._desk, self._daemon = gate, desk, daemon
        self._answering = Answering(config, desk)
        self._streams: set[asyncio.Event] = set()
        self._ending = False
        self._status: dict[str, Any] | None = None
        self._status_at, self._status_lock = 0.0, asyncio.Lock()

    @asynccontextmanager
    async def lifespan(self, _: Starlette) -> AsyncIterator[None]:
        """Let the desk wake the streams while the application runs."""
        loop = asyncio.get_running_loop()
        self._desk.changed = lambda: loop.call_soon_threadsafe(self._wake)
        yield
        self._desk.changed = lambda: None

    def end(self) -> None:
        """End the streams of news: the server is about to stop, and would wait for them."""
        self._ending = True
        self._wake()

    async def next(self, request: Request) -> Response:
        """Lease the next request."""
        person = self._gate.required(request)
        wanted = decoded(await body(request), _Next)
        return JSONResponse(await self._at_desk(lambda: self._answering.next(person.name, wanted.without[:10])))

    async def skip(self, request: Request) -> Response:
        """Put a request aside."""
        person = self._gate.required(request)
        wanted = decoded(await body(request), _Skip)
        await self._at_desk(lambda: self._answering.skip(wanted.request, person.name))
        return JSONResponse({})

    async def labels(self, request: Request) -> Response:
        """Take an answer."""
        person = self._gate.required(request)
        answer = decoded(await body(request), Answer)
        if answer.annotator not in (None, person.name) and not person.admin:
            raise Denied(403, "to answer for somebody else needs the role admin")
        return JSONResponse(
            await self._at_desk(lambda: self._answering.answer(answer.annotator or person.name, answer))
        )

    async def requests(self, request: Request) -> Response:
        """List open requests."""
        self._gate.required(request)
        limit = request.query_params.get("limit", "50")
        if not (limit.isascii() and limit.isdecimal() and 1 <= int(limit[:9]) <= _LIST_MAX):
            raise Denied(422, f"limit must be a number from 1 to {_LIST_MAX}")
        found = await self._at_desk(lambda: (len(self._desk.queue), self._answering.waiting(int(limit))))
        return JSONResponse({"waiting": found[0], "requests": found[1]})

    async def event(self, request: Request) -> Response:
        """Return an event."""
        self._gate.required(request)
        coordinates = str(request.path_params["coordinates"])
        found = await self._at_desk(lambda: self._answering.event(coordinates))
        if found is None:
            raise Denied(404, "the log has no event with these coordinates (any more)")
        return JSONResponse(found)

    async def status(self, request: Request) -> Response:
        """Return the figures."""
        self._gate.required(request, admin=True)
        return JSONResponse(await self._shown())

    async def openapi(self, _: Request) -> Response:
        """Describe the interface; there is nothing secret about it."""
        return JSONResponse(document())

    async def live(self, request: Request) -> Response:
        """Send news as they come: of the queue, and with ``?status=1`` the figures."""
        figures = request.query_params.get("status") == "1"
        person = self._gate.required(request, admin=figures)
        if len(self._streams) >= _STREAMS_MAX:
            raise Denied(503, f"{_STREAMS_MAX} pages are open already")
        news = self._figures() if figures else self._news(person.name)
        return StreamingResponse(news, media_type="text/event-stream")

    async def _news(self, name: str) -> AsyncIterator[str]:
        async for _ in self._woken(_QUIET_S):
            yield _event(await self._at_desk(lambda: self._answering.around(name)))

    async def _figures(self) -> AsyncIterator[str]:
        async for _ in self._woken(_STATUS_EVERY_S):
            yield _event(await self._shown())
            await asyncio.sleep(_STATUS_EVERY_S / 2)

    async def _woken(self, quiet_s: float) -> AsyncIterator[None]:
        """Yield at once, at each change, and after *quiet_s* without any."""
        event = asyncio.Event()
        self._streams.add(event)
        try:
            while not self._ending:
                yield
                try:
                    await asyncio.wait_for(event.wait(), quiet_s)
                except TimeoutError:
                    continue
                event.clear()
        finally:
            self._streams.discard(event)

    async def _shown(self) -> dict[str, Any]:
        """Return the figures, computed at most every other second however many look."""
        async with self._status_lock:
            now = time.monotonic()
            if self._status is None or now - self._status_at >= _STATUS_EVERY_S / 2:
                daemon = await asyncio.to_thread(self._daemon)
                self._status = await self._at_desk(lambda: self._figures_now(daemon))
                self._status_at = now
            return self._status

    def _figures_now(self, daemon: Mapping[str, Any] | None) -> dict[str, Any]:
        now, queue = self._desk.clock(), self._desk.queue
        waiting = {"waiting": len(queue), "leased": queue.leases(now), "trouble": self._desk.trouble}
        return self._desk.standing.shown(now) | {"queue": waiting, "daemon": daemon}

    def _at_desk(self, function: Callable[[], T]) -> Awaitable[T]:
        return asyncio.wrap_future(self._desk.call(function))

    def _wake(self) -> None:
        for event in self._streams:
            event.set()


def decoded(data: bytes, kind: type[T]) -> T:
    """Return the *kind* of thing that *data* says in JSON; Denied if it says another, or nothing."""
    try:
        return msgspec.json.decode(data or b"{}", type=kind)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise Denied(422, f"the body is not as it should be: {error}") from None


def _event(news: Mapping[str, Any]) -> str:
    return f"data: {json.dumps(news)}\n\n"
