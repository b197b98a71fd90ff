"""``streamal label``: the label page, served by this process."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from streamal import INSTALL
from streamal.bootstrap import edges, transports
from streamal.cli.console import echo
from streamal.cli.logs import set_up_logs
from streamal.cli.options import ConfigPath, Overrides
from streamal.cli.workers import stop_on_signals
from streamal.config import Config, load_config
from streamal.edge.scrape import ask
from streamal.errors import ConfigError

__all__ = ["command", "daemon_status"]

_STATUS_BYTES_MAX = 262_144


def command(config: ConfigPath = Path("config.toml"), overrides: Overrides = None) -> None:
    """Serve the label page: people answer in the browser, the most valuable request first.

    The page reads open requests from the topics and writes replies to them, beside the daemon or on another machine;
    either may be restarted at any time. See `docs/labelling.md`.

    ```text
    streamal label                                     # http://127.0.0.1:8800, no login, this machine only
    STREAMAL_LABEL_PAGE__TOKENS='{"ann": "…"}' streamal label --set label_page.host=0.0.0.0
    ```
    """
    loaded = load_config(config, overrides or ())
    set_up_logs(loaded.log)
    for module in ("starlette", "uvicorn", "jinja2", "markdown_it"):
        if find_spec(module) is None:
            raise ConfigError(f"{module} is not installed; run `{INSTALL.format(extra='label')}`")
    from streamal.labeling.web.server import PageServer  # noqa: PLC0415  (an extra)

    def announce(url: str) -> None:
        echo(f"label page: {url}")

    server = PageServer(loaded, lambda: transports.open_log(loaded), lambda: daemon_status(loaded), announce)
    # with handlers of its own uvicorn raises the signal again when it has ended, and that kills us with the topics open
    stop_on_signals(server.stop)
    server.run()


def daemon_status(config: Config) -> Mapping[str, Any] | None:
    """Return the status that the daemon's admin port gives; None without a port, or without a response in a second."""
    port = edges.admin_port(config.server)
    if port is None:
        return None
    try:
        status = json.loads(ask(f"{port.url}/status", _STATUS_BYTES_MAX, 1.0, port.token, port.certificate))
    except (OSError, ValueError):
        return None
    return status if isinstance(status, dict) else None
