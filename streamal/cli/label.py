"""``streamal label``: the label page, in this process."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import typer

from streamal.bootstrap import transports
from streamal.cli.logs import set_up_logs
from streamal.cli.options import ConfigPath, Overrides
from streamal.cli.workers import stop_on_signals
from streamal.config import Config, load_config
from streamal.edge.scrape import ask
from streamal.errors import ConfigError

__all__ = ["command", "daemon_of"]

_ANSWER_BYTES_MAX = 262_144


def command(config: ConfigPath = Path("config.toml"), overrides: Overrides = None) -> None:
    """Serve the label page: people answer in the browser, the most valuable request first.

    It reads the open requests from the topics and writes the answers to them, beside the daemon or on another
    machine; both may be restarted at any time. See `docs/labelling.md`.

    ```text
    streamal label                                     # http://127.0.0.1:8800, no login, this machine only
    STREAMAL_LABEL_PAGE__TOKENS='{"ann": "…"}' streamal label --set label_page.host=0.0.0.0
    ```
    """
    loaded = load_config(config, overrides or ())
    set_up_logs(loaded.log)
    for module in ("starlette", "uvicorn", "jinja2", "markdown_it"):
        if find_spec(module) is None:
            raise ConfigError(f"{module} is not installed; run `pip install 'streamal[label]'`")
    from streamal.labeling.web.server import PageServer  # noqa: PLC0415  (an extra)

    def announce(url: str) -> None:
        typer.echo(f"label page: {url}")

    server = PageServer(loaded, lambda: transports.open_log(loaded), lambda: daemon_of(loaded), announce)
    stop_on_signals(server.stop)  # uvicorn sends the signal once more when it has ended: it would kill us unfinished
    server.run()


def daemon_of(config: Config) -> Mapping[str, Any] | None:
    """Return what the daemon's admin port tells of itself; None if there is none, or it does not answer in a second."""
    port = transports.admin_port(config.server)
    if port is None:
        return None
    try:
        told = json.loads(ask(f"{port.url}/status", _ANSWER_BYTES_MAX, 1.0, port.token, port.certificate))
    except (OSError, ValueError):
        return None
    return told if isinstance(told, dict) else None
