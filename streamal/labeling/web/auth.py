"""Authentication: checks the host, the origin and the login of every request, and sets the headers of every response.

The content security policy begins with ``default-src 'none'`` and allows what the pages use: scripts, styles and data
of their own, and images of the configured hosts.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from http import HTTPStatus
from typing import NamedTuple
from urllib.parse import urlsplit

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from streamal.config import LOOPBACK
from streamal.labeling.web.annotating import Denied
from streamal.labeling.web.proxies import client_network
from streamal.labeling.web.sessions import Person, Sessions, Throttle

__all__ = [
    "COOKIE",
    "Authenticator",
    "Caller",
    "SecurityHeaders",
    "read_body",
    "require_same_origin",
]

COOKIE = "streamal_session"
BODY_BYTES_MAX = 65_536
_ANYBODY = Person("unnamed", admin=True)


class Caller(NamedTuple):
    """Who sends a request; *csrf* is the token that the session's page has to send, None without a session."""

    person: Person
    csrf: str | None


class Authenticator:
    """Finds out who sends a request, by token or session."""

    def __init__(self, sessions: Sessions) -> None:
        """Begin without wrong tokens."""
        self.sessions, self._throttle = sessions, Throttle()

    def caller(self, request: Request) -> Caller | None:
        """Return who sends *request*, None for a stranger.

        Raises:
            Denied: 401 for a wrong token, 429 for too many of them.
        """
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return Caller(self.check_token(token.strip(), client_network(request)), None)
        cookie = request.cookies.get(COOKIE, "")
        person = self.sessions.person_of_cookie(cookie, time.time()) if cookie else None
        if person is not None:
            return Caller(person, self.sessions.csrf_token(cookie, person.name))
        return Caller(_ANYBODY, None) if self.sessions.open_to_all else None

    def require(self, request: Request, *, admin: bool = False) -> Person:
        """Return who sends *request*; a change needs the page's own origin, and a session its CSRF token.

        Raises:
            Denied: 401 for a stranger, 403 for who may not.
        """
        changing = request.method not in ("GET", "HEAD")
        if changing:
            require_same_origin(request)
        caller = self.caller(request)
        if caller is None:
            raise Denied(401, "log in first, or send the header Authorization: Bearer TOKEN")
        if changing and caller.csrf is not None and request.headers.get("x-csrf-token") != caller.csrf:
            raise Denied(403, "the session has changed; load the page again")
        if admin and not caller.person.admin:
            raise Denied(403, "this needs the role admin (label_page.admins)")
        return caller.person

    def check_token(self, token: str, address: str) -> Person:
        """Return whose *token* it is.

        Raises:
            Denied: 401 for a wrong token, 429 for too many of them from one address.
        """
        now = time.monotonic()
        wait_s = self._throttle.wait_s(address, now)
        if wait_s > 0.0:
            raise Denied(429, f"too many wrong tokens; try again in {wait_s:.0f} s")
        person = self.sessions.person_of_token(token)
        if person is None:
            self._throttle.add_failure(address, now)
            raise Denied(401, "this token is not known")
        return person


def require_same_origin(request: Request) -> None:
    """Refuse a request that another site's page made the browser send.

    Raises:
        Denied: 403.
    """
    origin, site = request.headers.get("origin"), request.headers.get("sec-fetch-site", "none")
    foreign = origin is not None and urlsplit(origin).netloc != request.headers.get("host", "")
    if foreign or site not in ("same-origin", "none"):
        raise Denied(403, "this came from another site's page")


async def read_body(request: Request) -> bytes:
    """Return the body of *request*.

    Raises:
        Denied: 413 when the body is too long; the rest is not read.
    """
    found = bytearray()
    async for chunk in request.stream():
        found += chunk
        if len(found) > BODY_BYTES_MAX:
            raise Denied(413, f"more than {BODY_BYTES_MAX} bytes")
    return bytes(found)


class SecurityHeaders:
    """Adds the headers that make a browser careful; without a login it answers to loopback's host names only."""

    def __init__(self, app: ASGIApp, image_hosts: Sequence[str], *, loopback_only: bool) -> None:
        """Wrap *app*."""
        images = " ".join(["'self'", *(f"https://{host}" for host in image_hosts)])
        self._app, self._loopback_only = app, loopback_only
        self._headers = {
            "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
            f"img-src {images}; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "same-origin",  # with "no-referrer" a form of our own comes with "Origin: null"
            "Cross-Origin-Opener-Policy": "same-origin",
            "Cross-Origin-Resource-Policy": "same-origin",
            "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request on to the application."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in self._headers.items():
                    headers[name] = value
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        # DNS rebinding: another site's page may resolve its own name to 127.0.0.1; the Host header shows that name
        if scope["type"] == "http" and self._loopback_only and _host(scope) not in LOOPBACK:
            status = HTTPStatus.MISDIRECTED_REQUEST
            await send_with_headers({"type": "http.response.start", "status": status, "headers": []})
            await send_with_headers({"type": "http.response.body", "body": b"open this page as http://127.0.0.1\n"})
            return
        await self._app(scope, receive, send_with_headers)


def _host(scope: Scope) -> str | None:
    values = [value.decode("latin-1") for name, value in scope["headers"] if name == b"host"]
    try:
        return urlsplit(f"//{values[0]}").hostname if len(values) == 1 else None
    except ValueError:
        return None
