"""``streamal status``: the state of the daemon, read from the topics; it need not run."""

from __future__ import annotations

import time
from pathlib import Path

from streamal.bootstrap import transports
from streamal.cli.options import ConfigPath, Json, Overrides, show
from streamal.config import load_config
from streamal.inspection.status import read_status

__all__ = ["command"]


def command(config: ConfigPath = Path("config.toml"), overrides: Overrides = None, as_json: Json = False) -> None:
    """Show spend, quality, the open queue and the lag, from the topics alone."""
    loaded = load_config(config, overrides or ())
    log = transports.open_log(loaded)
    try:
        found = read_status(log, loaded, time.time())
    finally:
        log.close()
    show(f"{transports.describe_transport(loaded)}, group {loaded.transport.group}", found, as_json)
