"""The label page, the status page and the REST interface: one Starlette application over one desk."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from streamal.config import Config
from streamal.errors import StreamalError
from streamal.labeling.annotating import Denied
from streamal.labeling.topics_thread import Desk
from streamal.labeling.web.api import Api
from streamal.labeling.web.auth import COOKIE, Caller, Gate, Headers, address, body, same_origin
from streamal.labeling.web.rendering import guidelines
from streamal.labeling.web.sessions import SESSION_S, Access

__all__ = ["application"]

_HERE = Path(__file__).parent


def application(config: Config, desk: Desk, daemon: Callable[[], Mapping[str, Any] | None]) -> Starlette:
    """Return the application; *desk* is started and stopped by the caller.

    Args:
        config: what the pages show and who may come in.
        desk: owns the topics.
        daemon: what the daemon says of itself at its admin port, None if it does not answer; may block for a second.

    Raises:
        ConfigError: the guidelines cannot be read.
    """
    page = config.label_page
    tokens = {name: token.get_secret_value() for name, token in page.tokens.items()}
    gate = Gate(Access(tokens, page.admins))
    pages = _Pages(config, gate, desk)
    api = Api(config, gate, desk, daemon)
    routes = [
        Route("/", pages.label),
        Route("/status", pages.status),
        Route("/login", pages.login, methods=["GET", "POST"]),
        Route("/logout", pages.logout, methods=["POST"]),
        Route("/healthz", pages.health),
        Route("/api/next", api.next, methods=["POST"]),
        Route("/api/skip", api.skip, methods=["POST"]),
        Route("/api/labels", api.labels, methods=["POST"]),
        Route("/api/requests", api.requests),
        Route("/api/events/{coordinates}", api.event),
        Route("/api/status", api.status),
        Route("/api/live", api.live),
        Route("/api/openapi.json", api.openapi),
        Mount("/static", StaticFiles(directory=_HERE / "static")),
    ]
    app = Starlette(
        routes=routes,
        middleware=[Middleware(Headers, image_hosts=page.image_hosts, loopback_only=gate.access.open)],
        exception_handlers={Denied: _denied, StreamalError: _in_trouble},
        lifespan=api.lifespan,
    )
    app.state.end = api.end
    return app


async def _denied(request: Request, error: Exception) -> Response:
    assert isinstance(error, Denied)
    if error.status == HTTPStatus.UNAUTHORIZED and request.url.path in ("/", "/status"):
        return RedirectResponse("/login", 303)
    if request.url.path.startswith("/api/"):
        return JSONResponse({"error": str(error)}, error.status)
    return PlainTextResponse(f"{error}\n", error.status)


async def _in_trouble(_: Request, error: Exception) -> Response:
    return JSONResponse({"error": f"the topics cannot be reached now: {error}"}, HTTPStatus.SERVICE_UNAVAILABLE)


class _Pages:
    """What browsers are shown; everything that comes from outside is put in by the scripts, as text."""

    def __init__(self, config: Config, gate: Gate, desk: Desk) -> None:
        environment = Environment(
            loader=FileSystemLoader(_HERE / "templates"), autoescape=True, undefined=StrictUndefined
        )
        self._templates, self._gate, self._desk = environment, gate, desk
        self._page, self._secure = config.label_page, config.label_page.secure_cookies
        self._guidelines = guidelines(config.label_page.guidelines)

    async def label(self, request: Request) -> Response:
        """Show the label page."""
        caller = self._named(request)
        return self._render("label.html", caller, guidelines=self._guidelines, undo_s=self._page.undo_s)

    async def status(self, request: Request) -> Response:
        """Show the status page."""
        caller = self._named(request)
        if not caller.person.admin:
            raise Denied(403, "the status page needs the role admin (label_page.admins)")
        return self._render("status.html", caller)

    async def login(self, request: Request) -> Response:
        """Ask for the token, or, where nobody has one, for a name; with the right answer begin a session."""
        if request.method == "GET":
            return self._login_page("", 200)
        same_origin(request)
        fields = parse_qs((await body(request)).decode("utf-8", "replace"))
        given = fields.get("token", [""])[0].strip()
        if self._gate.access.open:
            if not 0 < len(given.encode()) <= 64 or not given.isprintable():
                return self._login_page("Give a name of 1 to 64 characters.", 400)
            name = given
        else:
            try:
                name = self._gate.login(given, address(request)).name
            except Denied as denied:
                return self._login_page(f"{str(denied).capitalize()}.", denied.status)
        response = RedirectResponse("/", 303)
        cookie = self._gate.access.session(name, time.time())
        response.set_cookie(
            COOKIE, cookie, max_age=SESSION_S, httponly=True, samesite="strict", secure=self._secure, path="/"
        )
        return response

    async def logout(self, request: Request) -> Response:
        """End the session."""
        same_origin(request)
        response = RedirectResponse("/login", 303)
        response.delete_cookie(COOKIE, path="/")
        return response

    async def health(self, _: Request) -> Response:
        """Say whether the topics can be read."""
        return PlainTextResponse("in trouble\n", 503) if self._desk.trouble else PlainTextResponse("ok\n")

    def _named(self, request: Request) -> Caller:
        caller = self._gate.caller(request)
        if caller is None or caller.csrf is None:
            raise Denied(401, "log in first")
        return caller

    def _login_page(self, error: str, status: int) -> Response:
        template = self._templates.get_template("login.html")
        return HTMLResponse(template.render(open=self._gate.access.open, error=error), status)

    def _render(self, name: str, caller: Caller, **more: Any) -> Response:
        return HTMLResponse(self._templates.get_template(name).render(person=caller.person, csrf=caller.csrf, **more))
