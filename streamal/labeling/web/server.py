"""Running the label page until a signal: listening, the desk, and the way out of trouble that does not pass."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from typing import Any

import uvicorn

from streamal.config import Config
from streamal.errors import ConfigError, Fatal
from streamal.labeling.topics_thread import Desk
from streamal.labeling.web.app import application
from streamal.ports import Log

__all__ = ["PageServer"]

_CONNECTIONS_MAX = 500


class _Server(uvicorn.Server):
    """Tells where it listens, once it does."""

    def __init__(self, config: uvicorn.Config, announce: Callable[[], object], end: Callable[[], object]) -> None:
        super().__init__(config)
        self._announce, self._end = announce, end

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._announce()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._end()
        await super().shutdown(sockets)


class PageServer:
    """Serves the pages of one configuration. `run` returns after a signal, or after `stop` from another thread."""

    def __init__(
        self,
        config: Config,
        open_log: Callable[[], Log],
        daemon: Callable[[], Mapping[str, Any] | None],
        announce: Callable[[str], object],
    ) -> None:
        """Take the parts; *announce* is told the address, once there is somebody to answer.

        Raises:
            ConfigError: the guidelines cannot be read.
        """
        self._page = config.label_page
        self._desk = Desk(config, open_log)
        self._desk.failed = self.stop
        app = application(config, self._desk, daemon)
        settings = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            server_header=False,
            limit_concurrency=_CONNECTIONS_MAX,
            timeout_keep_alive=5,
            timeout_graceful_shutdown=1,
            proxy_headers=False,
            ws="none",
        )
        self._server = _Server(settings, lambda: announce(self.url), app.state.end)
        self.url = ""
        """Where the page is, once `run` listens."""

    def run(self) -> None:
        """Serve until SIGINT, SIGTERM or `stop`.

        Raises:
            ConfigError: the address cannot be had, or there are no topics.
            Fatal: the topics are gone for good.
        """
        host = f"[{self._page.host}]" if ":" in self._page.host else self._page.host
        with _listen(self._page.host, self._page.port) as listener:
            self.url = f"http://{host}:{listener.getsockname()[1]}/"
            self._desk.start()
            try:
                self._server.run([listener])
            finally:
                self._desk.stop()
        if self._desk.error is not None:
            raise Fatal(f"the label page has ended: {self._desk.error}") from self._desk.error

    def stop(self) -> None:
        """Ask `run` to end; safe from any thread."""
        self._server.should_exit = True


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0][0]
        listener = socket.create_server((host, port), family=family)
        # asyncio leaves it unset for sockets of protocol 0, and every answer's body would wait 40 ms for an ACK
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except (OSError, UnicodeError) as error:
        raise ConfigError(
            f"label_page.port = {port}: cannot listen on {host}: {error}; choose another port (0: any free one)"
        ) from error
    return listener
