"""What every request has to pass: the host's name, its origin, its login; and the headers of every answer.

Nothing here knows what a page shows. The policy (CSP) begins with ``default-src 'none'`` and allows what the pages
use: scripts, styles and data of their own, and images of the configured hosts.
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
from streamal.labeling.annotating import Denied
from streamal.labeling.web.sessions import Access, Person, Throttle

__all__ = ["COOKIE", "Caller", "Gate", "Headers", "address", "body", "same_origin"]

COOKIE = "streamal_session"
BODY_BYTES_MAX = 65_536
_ANYBODY = Person("unnamed", admin=True)


class Caller(NamedTuple):
    """Who asks; *csrf* is what the page of a session has to send, None without one."""

    person: Person
    csrf: str | None


class Gate:
    """Lets people in, by token or session."""

    def __init__(self, access: Access) -> None:
        """Take who there is."""
        self.access, self.throttle = access, Throttle()

    def caller(self, request: Request) -> Caller | None:
        """Return who asks, None for a stranger.

        Raises:
            Denied: 401 for a wrong token, 429 for too many of them.
        """
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return Caller(self.login(token.strip(), address(request)), None)
        cookie = request.cookies.get(COOKIE, "")
        person = self.access.person(cookie, time.time()) if cookie else None
        if person is not None:
            return Caller(person, self.access.csrf(cookie, person.name))
        return Caller(_ANYBODY, None) if self.access.open else None

    def required(self, request: Request, *, admin: bool = False) -> Person:
        """Return who asks; what changes something needs the right origin, and a session its second signature.

        Raises:
            Denied: 401 for a stranger, 403 for who may not.
        """
        if request.method not in ("GET", "HEAD"):
            same_origin(request)
        caller = self.caller(request)
        if caller is None:
            raise Denied(401, "log in first, or send the header Authorization: Bearer TOKEN")
        changing = request.method not in ("GET", "HEAD")
        if changing and caller.csrf is not None and request.headers.get("x-csrf-token") != caller.csrf:
            raise Denied(403, "the session has changed; load the page again")
        if admin and not caller.person.admin:
            raise Denied(403, "this needs the role admin (label_page.admins)")
        return caller.person

    def login(self, token: str, whence: str) -> Person:
        """Return whose token it is.

        Raises:
            Denied: 401 for a wrong token, 429 for too many of them from one address.
        """
        now = time.monotonic()
        wait_s = self.throttle.wait_s(whence, now)
        if wait_s > 0.0:
            raise Denied(429, f"too many wrong tokens; try again in {wait_s:.0f} s")
        person = self.access.bearer(token)
        if person is None:
            self.throttle.failed(whence, now)
            raise Denied(401, "this token is not known")
        return person


def same_origin(request: Request) -> None:
    """Refuse what a page of somebody else's makes a browser send.

    Raises:
        Denied: 403.
    """
    origin, site = request.headers.get("origin"), request.headers.get("sec-fetch-site", "none")
    foreign = origin is not None and urlsplit(origin).netloc != request.headers.get("host", "")
    if foreign or site not in ("same-origin", "none"):
        raise Denied(403, "this came from another site's page")


def address(request: Request) -> str:
    """Return from where *request* comes."""
    return request.client.host if request.client else "unknown"


async def body(request: Request) -> bytes:
    """Return the body.

    Raises:
        Denied: 413 for a large one, of which no more than the limit is read.
    """
    found = bytearray()
    async for chunk in request.stream():
        found += chunk
        if len(found) > BODY_BYTES_MAX:
            raise Denied(413, f"more than {BODY_BYTES_MAX} bytes")
    return bytes(found)


class Headers:
    """Adds the headers that make a browser careful; where there is no login, only loopback's names are served."""

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
        """Serve one request."""

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in self._headers.items():
                    headers[name] = value
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        # a page elsewhere may call a name of its own 127.0.0.1 (DNS rebinding); the Host header gives it away
        if scope["type"] == "http" and self._loopback_only and _host(scope) not in LOOPBACK:
            await sending({"type": "http.response.start", "status": HTTPStatus.MISDIRECTED_REQUEST, "headers": []})
            await sending({"type": "http.response.body", "body": b"open this page as http://127.0.0.1\n"})
            return
        await self._app(scope, receive, sending)


def _host(scope: Scope) -> str | None:
    values = [value.decode("latin-1") for name, value in scope["headers"] if name == b"host"]
    try:
        return urlsplit(f"//{values[0]}").hostname if len(values) == 1 else None
    except ValueError:
        return None
