"""The admin port: ``/metrics``, ``/livez``, ``/readyz``. One thread, few connections, short deadlines, GET only.

F48, slow or hostile clients: a server with a thread per connection has 400 threads when 400 clients open sockets and
say nothing. Here one event loop holds at most *connections_max* connections. Each has *timeout_s* to send its request
and as long again to take its answer. When one more comes, the oldest that has not sent its request is dropped.

h11 parses the requests. The port never reads a file; a page is a function that the caller gives. With a token, only
`/livez` and `/readyz` answer without it: they say one word. Without a token, the other pages answer only requests whose
Host header names this machine: a web page elsewhere can make its own name lead here (DNS rebinding), and would read
them in its visitor's browser. A TLS handshake counts as a part of the request.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import socket
import ssl
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from http import HTTPStatus
from ipaddress import ip_address
from threading import Thread
from typing import NamedTuple, cast
from urllib.parse import urlsplit

import h11

from streamal.errors import ConfigError

__all__ = ["AdminServer", "Headers", "Page"]

_HEAD_BYTES_MAX = 8_192
_BACKLOG = 128
"""Connections that the kernel may queue; with fewer, a burst makes an honest client wait for a second SYN."""
_TEXT = "text/plain; charset=utf-8"
_OPEN = frozenset({"/livez", "/readyz", "/healthz"})
"""The paths of probes, which have no token: their answers tell nothing that a stranger may not know."""

Headers = Mapping[str, str]
"""The headers of a request by lower-case name; the last one of a name counts."""

_Ready = Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]]
"""The loop, once it runs, and the event that ends it."""
_log = logging.getLogger(__name__)
_SWITCH_S = 0.001
"""How long another thread may hold the interpreter while a request waits; with Python's 5 ms a scrape takes twice."""


class Page(NamedTuple):
    """The answer of a path."""

    status: int
    content_type: str
    body: bytes


class AdminServer:
    """Serves *pages*, path -> function, on a thread of its own; ``/healthz`` is another name of ``/livez``.

    The thread calls the functions one at a time: they must be quick, and safe beside the daemon's thread. If one
    raises, the error is logged and the client gets a 500 with a fixed text.
    """

    def __init__(
        self,
        host: str,
        port: int,
        pages: Mapping[str, Callable[[Headers], Page]],
        timeout_s: float = 5.0,
        connections_max: int = 64,
        token: str | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """Take the settings; `start` opens the port. Port 0 lets the system choose.

        With a *token*, a request for more than a probe sends it as ``Authorization: Bearer TOKEN``.
        """
        self._host, self._port = host, port
        alias = {"/healthz": pages["/livez"]} if "/livez" in pages else {}
        self._site = _Site({**alias, **pages}, timeout_s, connections_max, token, tls)
        self._running: tuple[Thread, asyncio.AbstractEventLoop, asyncio.Event, float] | None = None

    def start(self) -> int:
        """Listen, and return the port.

        Raises:
            ConfigError: the address cannot be had; the text names server.host or server.port.
        """
        assert self._running is None, "started already"
        listener = _listen(self._host, self._port)
        port = cast("int", listener.getsockname()[1])
        ready: _Ready = Future()
        thread = Thread(target=_run, args=(listener, self._site, ready), name="admin", daemon=True)
        thread.start()
        self._running = (thread, *ready.result(), sys.getswitchinterval())
        sys.setswitchinterval(_SWITCH_S)
        return port

    def stop(self) -> None:
        """Close the port and every connection, and wait for the thread; stopping twice is allowed."""
        running, self._running = self._running, None
        if running is not None:
            thread, loop, stopping, switch_s = running
            with suppress(RuntimeError):  # the loop has ended by itself
                loop.call_soon_threadsafe(stopping.set)
            thread.join()
            sys.setswitchinterval(switch_s)


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except (OSError, UnicodeError) as error:
        raise ConfigError(f"server.host = {host!r} is no address of this machine: {error}") from error
    try:
        return socket.create_server(address, family=family, backlog=_BACKLOG)
    except OSError as error:
        raise ConfigError(
            f"server.port = {port}: cannot listen on {host}: {error.strerror or error}; "
            "choose another port (0: any free one) or another server.host"
        ) from error


def _run(listener: socket.socket, site: _Site, ready: _Ready) -> None:
    try:
        with listener:
            asyncio.run(_serve(listener, site, ready))
    except BaseException as error:
        if ready.done():
            raise
        ready.set_exception(error)


async def _serve(listener: socket.socket, site: _Site, ready: _Ready) -> None:
    loop, stopping = asyncio.get_running_loop(), asyncio.Event()
    server = await loop.create_server(lambda: _Connection(site, loop), sock=listener, backlog=_BACKLOG)
    ready.set_result((loop, stopping))
    await stopping.wait()
    # A connection whose transport is made after server.close() is leaked by asyncio: accept no more, make those, close.
    loop.remove_reader(listener)
    for connection in list(site.connections):
        connection.drop()  # or a handshake would be waited for
    await asyncio.gather(*asyncio.all_tasks(loop) - {asyncio.current_task(loop)}, return_exceptions=True)
    server.close()
    for connection in list(site.connections):
        connection.drop()
    await asyncio.sleep(0)  # let the sockets be closed


class _Site:
    """Pages, limits and the open connections: what all connections share."""

    def __init__(
        self,
        pages: Mapping[str, Callable[[Headers], Page]],
        timeout_s: float,
        connections_max: int,
        token: str | None,
        tls: ssl.SSLContext | None,
    ) -> None:
        self.timeout_s, self.tls = timeout_s, tls
        self._token = None if token is None else token.encode()
        self.connections: dict[_Connection, None] = {}
        """The open connections, oldest first."""
        self._pages, self._connections_max = pages, connections_max

    def admit(self, connection: _Connection) -> None:
        """Add *connection*; at the limit, drop the oldest one that has not sent its request, else the oldest one."""
        if len(self.connections) >= self._connections_max:
            waiting = (other for other in self.connections if not other.is_answered)
            next(waiting, next(iter(self.connections))).drop()
        self.connections[connection] = None

    def respond(self, request: h11.Request) -> bytes:
        """Return the whole answer to *request*."""
        if not request.http_version.startswith(b"1."):
            return _response(_plain(HTTPStatus.BAD_REQUEST))
        method, path = request.method.decode("ascii"), request.target.decode("ascii").partition("?")[0]
        headers = {name.decode("ascii"): value.decode("latin-1") for name, value in request.headers}
        if path not in _OPEN and self._token is None and not _is_loopback(headers.get("host", "")):
            return _response(_plain(HTTPStatus.MISDIRECTED_REQUEST))
        if path not in _OPEN and not self._is_known(headers):
            return _response(_plain(HTTPStatus.UNAUTHORIZED), "WWW-Authenticate: Bearer\r\n")
        page = self._pages.get(path)
        if page is None:
            return _response(_plain(HTTPStatus.NOT_FOUND), with_body=method != "HEAD")
        if method not in ("GET", "HEAD"):
            return _response(_plain(HTTPStatus.METHOD_NOT_ALLOWED), "Allow: GET, HEAD\r\n")
        try:
            answer = page(headers)
        except Exception:
            _log.exception("the page %s failed", path)  # a path of ours: it was found among the pages
            answer = _plain(HTTPStatus.INTERNAL_SERVER_ERROR)
        return _response(answer, with_body=method == "GET")

    def _is_known(self, headers: Headers) -> bool:
        """Return whether no token is needed or the right one was sent; the time this takes tells nothing about it."""
        scheme, _, sent = headers.get("authorization", "").partition(" ")
        return self._token is None or (
            scheme.lower() == "bearer" and hmac.compare_digest(sent.strip().encode("latin-1", "replace"), self._token)
        )


class _Connection(asyncio.Protocol):
    """One request, one answer; whatever else the client sends is thrown away until it hangs up or its time is over."""

    def __init__(self, site: _Site, loop: asyncio.AbstractEventLoop) -> None:
        self.is_answered = False
        self._site, self._loop = site, loop
        self._parser, self._received = h11.Connection(h11.SERVER, _HEAD_BYTES_MAX), 0
        self._may_answer = site.tls is None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._deadline = self._loop.call_later(self._site.timeout_s, self.drop)
        self._site.admit(self)
        if self._site.tls is not None:
            self._greeting = self._loop.create_task(self._greet(self._site.tls))

    async def _greet(self, tls: ssl.SSLContext) -> None:
        """Put TLS between us and the client; a request that arrives meanwhile, decrypted, waits in the parser."""
        self._transport.pause_reading()
        with suppress(OSError):  # an SSLError is one: no handshake, no answer
            patience = self._site.timeout_s
            safe = await self._loop.start_tls(
                self._transport, self, tls, server_side=True, ssl_handshake_timeout=patience, ssl_shutdown_timeout=1.0
            )
            if safe is not None:
                self._transport = safe
                self._may_answer = True
                self._parse()

    def data_received(self, data: bytes) -> None:
        data = data[: _HEAD_BYTES_MAX + len(b"\r\n\r\n") - self._received]
        if self.is_answered or not data:  # nothing at all would tell h11 that the input has ended
            return
        self._received += len(data)
        self._parser.receive_data(data)
        if self._may_answer:
            self._parse()

    def _parse(self) -> None:
        """Answer the request, if all of it has come, or if it is none."""
        try:
            event = self._parser.next_event()
        except h11.RemoteProtocolError as error:
            self._answer(_response(_plain(HTTPStatus(error.error_status_hint))))
        else:
            if isinstance(event, h11.Request):
                self._answer(self._site.respond(event))

    def _answer(self, answer: bytes) -> None:
        """Send *answer* and hang up, but only our half: closing on unread input would reset the connection."""
        self.is_answered = True
        self._deadline.cancel()
        self._deadline = self._loop.call_later(self._site.timeout_s, self.drop)
        self._transport.write(answer)
        if self._transport.can_write_eof():
            self._transport.write_eof()
        else:
            self._transport.close()  # TLS has a farewell of its own

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self._deadline.cancel()
        self._site.connections.pop(self, None)

    def drop(self) -> None:
        """Close the connection at once, answered or not."""
        self._site.connections.pop(self, None)
        self._transport.abort()


def _is_loopback(host: str) -> bool:
    """Return whether a Host header names this machine: ``localhost``, or a loopback address, with any port."""
    try:
        name = urlsplit(f"//{host}").hostname or ""
        return name == "localhost" or ip_address(name).is_loopback
    except ValueError:
        return False


def _plain(status: HTTPStatus) -> Page:
    return Page(status, _TEXT, f"{status.value} {status.phrase}\n".encode())


def _response(page: Page, more: str = "", *, with_body: bool = True) -> bytes:
    head = (
        f"HTTP/1.1 {page.status} {HTTPStatus(page.status).phrase}\r\n"
        f"Content-Type: {page.content_type}\r\nContent-Length: {len(page.body)}\r\n"
        f"{more}Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\n"
    )
    return head.encode("latin-1") + (page.body if with_body else b"")
