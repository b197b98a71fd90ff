"""``streamal top``: the figures of a running daemon, live in the terminal."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer
from rich.columns import Columns
from rich.console import Group, RenderableType
from rich.live import Live
from rich.panel import Panel as Box
from rich.table import Table

from streamal.bootstrap import edges
from streamal.cli.console import echo_json, grow, new_console, render, text
from streamal.cli.options import ConfigPath, Json, Overrides
from streamal.config import load_config
from streamal.edge.scrape import scrape
from streamal.errors import ConfigError, ServiceUnavailable
from streamal.inspection.top import Panel, Series, merge, panels, rate, sparkline

__all__ = ["command"]

_HISTORY = 60
_WIDTH = 58


def command(
    url: Annotated[
        list[str] | None,
        typer.Option("--url", help="URL of /metrics; by default from the configuration. Repeatable: --workers."),
    ] = None,
    every: Annotated[float, typer.Option("--every", min=0.1, max=3_600, help="Seconds between two readings.")] = 2.0,
    once: Annotated[bool, typer.Option("--once", help="Print the figures once and end, e.g. into a pipe.")] = False,
    config: ConfigPath = Path("config.toml"),
    overrides: Overrides = None,
    as_json: Json = False,
) -> None:
    """Watch a running daemon: throughput, spend against the budget, quality with its interval, queue, guards, refusals.

    The figures come from its admin port, live, until Ctrl-C. Without a daemon the command says so and waits for one;
    `streamal status` reads figures from the topics and needs no daemon.

    ```text
    streamal top
    streamal top --once | less
    streamal top --url http://a:9464/metrics --url http://a:9465/metrics
    ```
    """
    port = edges.admin_port(load_config(config if config.exists() or not url else None, overrides or ()).server)
    if port is None and not url:
        raise ConfigError("server.port: the daemon's port is not in the configuration; give --url")
    _, token, certificate = port or (None, None, None)
    urls = url or [f"{port.url}/metrics" for port in (port,) if port is not None]

    def read(at: float) -> Series:
        return merge([scrape(each, at, token=token, certificate=certificate).values for each in urls])

    if once or as_json or not sys.stdout.isatty():
        now = read(time.time())
        shown = panels(now, None, 0.0)
        if as_json:
            echo_json({panel.title: dict(panel.rows) for panel in shown})
            return
        render(_draw(shown, urls, ""))
        return
    _watch(urls, every, read)


def _watch(urls: list[str], every_s: float, read: Callable[[float], Series]) -> None:
    """Draw every *every_s* seconds until Ctrl-C; without a daemon keep the last figures, and say so."""
    speeds: deque[float | None] = deque(maxlen=_HISTORY)
    accuracies: deque[float | None] = deque(maxlen=_HISTORY)
    before: tuple[float, Series] | None = None
    shown: list[Panel] = []
    with suppress(KeyboardInterrupt), Live(console=new_console(), screen=True, auto_refresh=False) as live:
        while True:
            at, trouble = time.time(), ""
            try:
                now = read(at)
            except ServiceUnavailable as error:
                trouble, before = f"{error}; `streamal status` needs none. Trying again …", None
                speeds.append(None)
                accuracies.append(None)
            else:
                then, last = before or (at, None)
                shown, before = panels(now, last, at - then), (at, now)
                speeds.append(rate(now, last, "events_total", at - then))
                accuracies.append(now.get(("quality_accuracy_ratio", "")))
            lines = {"events per second": sparkline(list(speeds)), "accuracy": sparkline(list(accuracies))}
            live.update(_draw(shown, urls, trouble, lines), refresh=True)
            time.sleep(every_s)


def _draw(shown: list[Panel], urls: list[str], trouble: str, lines: dict[str, str] | None = None) -> RenderableType:
    parts: list[RenderableType] = [text(f"streamal at {', '.join(urls)}   {time.strftime('%H:%M:%S')}", "bold")]
    if trouble:
        parts.append(text(trouble, "bold red"))
    boxes = []
    for panel in shown:
        table = grow(Table.grid(padding=(0, 2)), 2)
        for name, value in panel.rows.items():
            table.add_row(text(name, "dim"), text(value))
        style = "red" if panel.alarm else "dim" if trouble else "none"
        boxes.append(Box(table, title=text(panel.title), width=_WIDTH, border_style=style, title_align="left"))
    parts.append(Columns(boxes))
    parts += [text(f"{name:<18} {line}") for name, line in (lines or {}).items() if line.strip()]
    return Group(*parts)
