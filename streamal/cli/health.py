"""``streamal health``: whether a daemon is alive, as an exit code."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from streamal.cli.options import ConfigPath, Overrides
from streamal.edge.health import require_alive

__all__ = ["command"]


def command(
    label_page: Annotated[bool, typer.Option("--label-page", help="Ask the label page instead of the daemon.")] = False,
    config: ConfigPath = Path("config.toml"),
    overrides: Overrides = None,
) -> None:
    """Ask the daemon of this configuration whether it is alive: 0 if it is, 1 with a line that says what is wrong.

    It is the health check of a container: it asks `/livez` at `server.host` and `server.port` (with `--label-page`,
    `/healthz` at those of the label page), over TLS where the daemon uses it, never through a proxy, and waits at most
    two seconds. A loop that has stood still for 30 seconds is not alive. A key that the daemon got by `--set` is given
    here too.

    ```text
    streamal health --config /etc/streamal/config.toml
    ```
    """
    require_alive(str(config), overrides or (), "label_page" if label_page else "server")
