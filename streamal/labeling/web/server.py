"""The server of the label page: listens, runs the topics thread, and ends on a signal or a lasting trouble."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from typing import Any

import uvicorn

from streamal.config import Config
from streamal.errors import ConfigError, Fatal
from streamal.labeling.web.app import application
from streamal.labeling.web.connections import GuardedProtocol
from streamal.labeling.web.topics_thread import TopicsThread
from streamal.ports import Log

__all__ = ["PageServer"]


class _Server(uvicorn.Server):
    """Calls *announce* once it listens, and *end* before it waits for open connections."""

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
    """Serves the label page. `run` returns after a signal, or after `stop` from another thread."""

    def __init__(
        self,
        config: Config,
        open_log: Callable[[], Log],
        daemon: Callable[[], Mapping[str, Any] | None],
        announce: Callable[[str], object],
    ) -> None:
        """Take the parts; *announce* is called with the URL once the page listens.

        Raises:
            ConfigError: the guidelines cannot be read.
        """
        self._page = config.label_page
        self._topics = TopicsThread(config, open_log)
        self._topics.on_failure = self.stop
        app = application(config, self._topics, daemon)
        settings = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            server_header=False,
            http=GuardedProtocol,
            timeout_keep_alive=5,
            timeout_graceful_shutdown=1,
            proxy_headers=False,
            ws="none",
        )
        self._server = _Server(settings, lambda: announce(self.url), app.state.end)
        self.url = ""
        """The URL of the page, once `run` listens."""

    def run(self) -> None:
        """Serve until SIGINT, SIGTERM or `stop`.

        Raises:
            ConfigError: the port is taken, or there are no topics.
            Fatal: the topics cannot be read any more.
        """
        host = f"[{self._page.host}]" if ":" in self._page.host else self._page.host
        with _listen(self._page.host, self._page.port) as listener:
            self.url = f"http://{host}:{listener.getsockname()[1]}/"
            self._topics.start()
            try:
                self._server.run([listener])
            finally:
                self._topics.stop()
        if self._topics.error is not None:
            raise Fatal(f"the label page has ended: {self._topics.error}") from self._topics.error

    def stop(self) -> None:
        """Ask `run` to end; safe from any thread."""
        self._server.should_exit = True


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0][0]
        listener = socket.create_server((host, port), family=family)
        # asyncio does not set it on sockets of protocol 0; without it every response body waits 40 ms for an ACK
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except (OSError, UnicodeError) as error:
        raise ConfigError(
            f"label_page.port = {port}: cannot listen on {host}: {error}; choose another port (0: any free one)"
        ) from error
    return listener
