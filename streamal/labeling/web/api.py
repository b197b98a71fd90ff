"""The REST interface for the pages' scripts and for other tools: JSON in, JSON out, and event streams."""

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
from streamal.labeling.web.annotating import Annotators, Denied
from streamal.labeling.web.auth import Authenticator, read_body
from streamal.labeling.web.bodies import Answer, NextBody, SkipBody
from streamal.labeling.web.openapi import document
from streamal.labeling.web.streams import STREAMS_MAX, EventStreams
from streamal.labeling.web.topics_thread import TopicsThread

__all__ = ["Api", "decode_body"]

T = TypeVar("T")
_QUIET_S = 15.0
"""A stream sends at least one event in so many seconds, so that a dead connection is noticed."""
_STATUS_EVERY_S = 2.0
_LIST_MAX = 1_000


class Api:
    """The handlers of the REST interface, and the event streams."""

    def __init__(
        self,
        config: Config,
        authenticator: Authenticator,
        topics_thread: TopicsThread,
        daemon: Callable[[], Mapping[str, Any] | None],
    ) -> None:
        """Take the parts; see `streamal.labeling.web.app`."""
        self._authenticator, self._topics, self._daemon = authenticator, topics_thread, daemon
        self._annotators = Annotators(config, topics_thread)
        self._streams = EventStreams()
        self._status: dict[str, Any] | None = None
        self._status_at, self._status_lock = 0.0, asyncio.Lock()

    @asynccontextmanager
    async def lifespan(self, _: Starlette) -> AsyncIterator[None]:
        """Wake the event streams when the queue changes, while the application runs."""
        loop = asyncio.get_running_loop()
        self._topics.on_change = lambda: loop.call_soon_threadsafe(self._streams.wake)
        yield
        self._topics.on_change = lambda: None

    def end(self) -> None:
        """End the event streams: the server is about to stop, and would wait for them."""
        self._streams.end()

    async def next(self, request: Request) -> Response:
        """Lease the next request."""
        person = self._authenticator.require(request)
        wanted = decode_body(await read_body(request), NextBody)
        return JSONResponse(await self._call(lambda: self._annotators.lease_next(person.name, wanted.without[:10])))

    async def skip(self, request: Request) -> Response:
        """Skip a request."""
        person = self._authenticator.require(request)
        wanted = decode_body(await read_body(request), SkipBody)
        await self._call(lambda: self._annotators.skip(wanted.request, person.name))
        return JSONResponse({})

    async def labels(self, request: Request) -> Response:
        """Write a reply."""
        person = self._authenticator.require(request)
        answer = decode_body(await read_body(request), Answer)
        if answer.annotator not in (None, person.name) and not person.admin:
            raise Denied(403, "to answer for somebody else needs the role admin")
        return _json(await self._call(lambda: self._annotators.respond(answer.annotator or person.name, answer)))

    async def requests(self, request: Request) -> Response:
        """List open requests."""
        self._authenticator.require(request)
        limit = request.query_params.get("limit", "50")
        if not (limit.isascii() and limit.isdecimal() and 1 <= int(limit[:9]) <= _LIST_MAX):
            raise Denied(422, f"limit must be a number from 1 to {_LIST_MAX}")
        return _json(await self._call(lambda: self._annotators.open_requests(int(limit))))

    async def event(self, request: Request) -> Response:
        """Return an event."""
        self._authenticator.require(request)
        coordinates = str(request.path_params["coordinates"])
        found = await self._call(lambda: self._annotators.event(coordinates))
        if found is None:
            raise Denied(404, "the log has no event with these coordinates (any more)")
        return _json(found)

    async def status(self, request: Request) -> Response:
        """Return the figures."""
        self._authenticator.require(request, admin=True)
        return JSONResponse(await self._figures())

    async def openapi(self, _: Request) -> Response:
        """Describe the interface; the description is public."""
        return JSONResponse(document())

    async def live(self, request: Request) -> Response:
        """Send events: the surroundings of a question, or the figures with ``?status=1``."""
        figures = request.query_params.get("status") == "1"
        person = self._authenticator.require(request, admin=figures)
        if not self._streams.has_room(person.name):
            raise Denied(503, f"{STREAMS_MAX} pages are open already")
        events = self._figures_events(person.name) if figures else self._surroundings_events(person.name)
        return StreamingResponse(events, media_type="text/event-stream")

    async def _surroundings_events(self, name: str) -> AsyncIterator[str]:
        async for _ in self._streams.changes(name, _QUIET_S):
            yield _encode_event(await self._call(lambda: self._annotators.surroundings(name)))

    async def _figures_events(self, name: str) -> AsyncIterator[str]:
        async for _ in self._streams.changes(name, _STATUS_EVERY_S):
            yield _encode_event(await self._figures())
            await asyncio.sleep(_STATUS_EVERY_S / 2)

    async def _figures(self) -> dict[str, Any]:
        """Return the figures, computed at most once a second however many pages are open."""
        async with self._status_lock:
            now = time.monotonic()
            if self._status is None or now - self._status_at >= _STATUS_EVERY_S / 2:
                daemon = await asyncio.to_thread(self._daemon)
                self._status = await self._call(lambda: self._compute_figures(daemon))
                self._status_at = now
            return self._status

    def _compute_figures(self, daemon: Mapping[str, Any] | None) -> dict[str, Any]:
        now, queue = self._topics.clock(), self._topics.queue
        waiting = {"waiting": len(queue), "leased": queue.lease_count(now), "trouble": self._topics.trouble}
        return self._topics.status.to_json(now) | {"queue": waiting, "daemon": daemon}

    def _call(self, function: Callable[[], T]) -> Awaitable[T]:
        return asyncio.wrap_future(self._topics.call(function))


def decode_body(data: bytes, kind: type[T]) -> T:
    """Return the JSON in *data* as a *kind*.

    Raises:
        Denied: 422 for JSON of another kind, or none.
    """
    try:
        return msgspec.json.decode(data or b"{}", type=kind)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise Denied(422, f"the body is not as it should be: {error}") from None


def _json(body: msgspec.Struct) -> Response:
    return Response(msgspec.json.encode(body), media_type="application/json")


def _encode_event(content: Mapping[str, Any]) -> str:
    return f"data: {json.dumps(content)}\n\n"
