"""Running the label page until a signal: listening, the desk, and the way out of trouble that does not pass."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from typing import Any

import uvicorn

from streamal.config import Config
from streamal.errors import ConfigError, Fatal
from streamal.labeling.desk import Desk
from streamal.labeling.web import application
from streamal.ports import Log

__all__ = ["serve"]

_CONNECTIONS_MAX = 500


class _Server(uvicorn.Server):
    """Tells where it listens, once it does."""

    def __init__(self, config: uvicorn.Config, announce: Callable[[], object]) -> None:
        super().__init__(config)
        self._announce = announce

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._announce()


def serve(
    config: Config,
    open_log: Callable[[], Log],
    daemon: Callable[[], Mapping[str, Any] | None],
    announce: Callable[[str], object],
) -> None:
    """Serve the pages until SIGINT or SIGTERM.

    Raises:
        ConfigError: the address cannot be had, or there are no topics.
        Fatal: the topics are gone for good.
    """
    page = config.label_page
    listener = _listen(page.host, page.port)
    with listener:
        desk = Desk(config, open_log)
        app = application(config, desk, daemon)
        host = f"[{page.host}]" if ":" in page.host else page.host
        url = f"http://{host}:{listener.getsockname()[1]}/"
        server = _Server(
            uvicorn.Config(
                app,
                log_config=None,
                access_log=False,
                server_header=False,
                limit_concurrency=_CONNECTIONS_MAX,
                timeout_keep_alive=5,
                timeout_graceful_shutdown=1,
                proxy_headers=False,
                ws="none",
            ),
            lambda: announce(f"label page: {url}"),
        )

        def failed() -> None:
            server.should_exit = True

        desk.failed = failed
        desk.start()
        try:
            server.run([listener])
        finally:
            desk.stop()
        if desk.error is not None:
            raise Fatal(f"the label page has ended: {desk.error}") from desk.error


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0][0]
        return socket.create_server((host, port), family=family)
    except (OSError, UnicodeError) as error:
        raise ConfigError(
            f"label_page.port = {port}: cannot listen on {host}: {error}; choose another port (0: any free one)"
        ) from error
