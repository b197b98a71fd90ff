"""The label page, the status page and the REST interface: one Starlette application over one topics thread."""

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
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from streamal.config import Config
from streamal.errors import StreamalError
from streamal.labeling.keys import CLASS_KEYS, FIND
from streamal.labeling.web.annotating import Denied
from streamal.labeling.web.api import Api
from streamal.labeling.web.auth import (
    COOKIE,
    Authenticator,
    Caller,
    SecurityHeaders,
    read_body,
    require_same_origin,
)
from streamal.labeling.web.proxies import ForwardedHeaders, client_network, path_of, root_of
from streamal.labeling.web.rendering import render_guidelines
from streamal.labeling.web.sessions import SESSION_S, Sessions
from streamal.labeling.web.topics_thread import TopicsThread

__all__ = ["application"]

_HERE = Path(__file__).parent


def application(
    config: Config, topics_thread: TopicsThread, daemon: Callable[[], Mapping[str, Any] | None]
) -> Starlette:
    """Return the application; the caller starts and stops *topics_thread*.

    Args:
        config: the template, the guidelines, the tokens.
        topics_thread: reads and writes the topics.
        daemon: returns the daemon's own status from its admin port, None if it does not answer; may block for a second.

    Raises:
        ConfigError: the guidelines cannot be read.
    """
    page = config.label_page
    tokens = {name: token.get_secret_value() for name, token in page.tokens.items()}
    authenticator = Authenticator(Sessions(tokens, page.admins))
    pages = _Pages(config, authenticator, topics_thread)
    api = Api(config, authenticator, topics_thread, daemon)
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
        middleware=[
            Middleware(ForwardedHeaders, trusted=page.trusted_proxies, root_path=page.root_path),
            Middleware(SecurityHeaders, image_hosts=page.image_hosts, loopback_only=authenticator.sessions.open_to_all),
        ],
        exception_handlers={
            Denied: _respond_denied,
            StreamalError: _respond_unavailable,
            ClientDisconnect: _respond_nobody,
        },
        lifespan=api.lifespan,
    )
    app.state.end = api.end
    return app


async def _respond_denied(request: Request, error: Exception) -> Response:
    assert isinstance(error, Denied)
    path = path_of(request)
    if error.status == HTTPStatus.UNAUTHORIZED and path in ("/", "/status"):
        return RedirectResponse(f"{root_of(request)}/login", 303)
    if path.startswith("/api/"):
        return JSONResponse({"error": str(error)}, error.status)
    return PlainTextResponse(f"{error}\n", error.status)


async def _respond_unavailable(_: Request, error: Exception) -> Response:
    return JSONResponse({"error": f"the topics cannot be reached now: {error}"}, HTTPStatus.SERVICE_UNAVAILABLE)


async def _respond_nobody(_: Request, __: Exception) -> Response:
    """Answer a client that has left in the middle of its body: the server throws the answer away."""
    return Response(status_code=HTTPStatus.BAD_REQUEST)


class _Pages:
    """The HTML pages. They hold no event: the scripts fetch events and put them into text nodes."""

    def __init__(self, config: Config, authenticator: Authenticator, topics_thread: TopicsThread) -> None:
        environment = Environment(
            loader=FileSystemLoader(_HERE / "templates"), autoescape=True, undefined=StrictUndefined
        )
        self._templates, self._authenticator, self._topics = environment, authenticator, topics_thread
        self._page, self._secure = config.label_page, config.label_page.secure_cookies
        self._guidelines = render_guidelines(config.label_page.guidelines)

    async def label(self, request: Request) -> Response:
        """Show the label page."""
        caller = self._require_session(request)
        return self._render(
            "label.html",
            request,
            caller,
            guidelines=self._guidelines,
            undo_s=self._page.undo_s,
            class_keys=CLASS_KEYS,
            find_key=FIND,
        )

    async def status(self, request: Request) -> Response:
        """Show the status page."""
        caller = self._require_session(request)
        if not caller.person.admin:
            raise Denied(403, "the status page needs the role admin (label_page.admins)")
        return self._render("status.html", request, caller)

    async def login(self, request: Request) -> Response:
        """Ask for the token, or for a name where there are no tokens; with the right answer begin a session."""
        if request.method == "GET":
            return self._render_login(request, "", 200)
        require_same_origin(request)
        fields = parse_qs((await read_body(request)).decode("utf-8", "replace"))
        given = fields.get("token", [""])[0].strip()
        if self._authenticator.sessions.open_to_all:
            if not 0 < len(given.encode()) <= 64 or not given.isprintable():
                return self._render_login(request, "Give a name of 1 to 64 characters.", 400)
            name = given
        else:
            try:
                name = self._authenticator.check_token(given, client_network(request)).name
            except Denied as denied:
                return self._render_login(request, f"{str(denied).capitalize()}.", denied.status)
        response = RedirectResponse(f"{root_of(request)}/", 303)
        cookie = self._authenticator.sessions.new_cookie(name, time.time())
        response.set_cookie(
            COOKIE,
            cookie,
            max_age=SESSION_S,
            httponly=True,
            samesite="strict",
            secure=self._secure,
            path=f"{root_of(request)}/",
        )
        return response

    async def logout(self, request: Request) -> Response:
        """End the session, here and in the browser."""
        require_same_origin(request)
        self._authenticator.sessions.end(request.cookies.get(COOKIE, ""), time.time())
        response = RedirectResponse(f"{root_of(request)}/login", 303)
        response.delete_cookie(COOKIE, path=f"{root_of(request)}/")
        return response

    async def health(self, _: Request) -> Response:
        """Answer 200 while the topics can be read, else 503."""
        return PlainTextResponse("in trouble\n", 503) if self._topics.trouble else PlainTextResponse("ok\n")

    def _require_session(self, request: Request) -> Caller:
        caller = self._authenticator.caller(request)
        if caller is None or caller.csrf is None:
            raise Denied(401, "log in first")
        return caller

    def _render_login(self, request: Request, error: str, status: int) -> Response:
        template = self._templates.get_template("login.html")
        open_to_all = self._authenticator.sessions.open_to_all
        return HTMLResponse(template.render(root=root_of(request), open=open_to_all, error=error), status)

    def _render(self, name: str, request: Request, caller: Caller, **more: Any) -> Response:
        template = self._templates.get_template(name)
        return HTMLResponse(template.render(root=root_of(request), person=caller.person, csrf=caller.csrf, **more))
