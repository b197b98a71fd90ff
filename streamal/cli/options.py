"""Options that several commands share, and how results are printed."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

__all__ = ["ConfigPath", "Json", "OptionalConfigPath", "Overrides", "progress_bar", "show"]

ConfigPath = Annotated[Path, typer.Option("--config", "-c", help="The configuration file; it must exist.")]
OptionalConfigPath = Annotated[
    Path | None, typer.Option("--config", "-c", help="A configuration file; without one the defaults hold.")
]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="SECTION.KEY=VALUE",
        help="Set one key, stronger than file and environment; the value is TOML, a bare word a string. Repeatable.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of a table.")]


def show(title: str, figures: Mapping[str, Any], as_json: bool) -> None:
    """Print *figures* on standard output, as a table for people or as JSON for programs."""
    if as_json:
        typer.echo(json.dumps(figures))
        return
    typer.echo(title)  # a table would break it at its own width
    table = Table(show_header=False)
    for name, value in figures.items():
        table.add_row(name.replace("_", " "), _readable(value))
    console = Console(file=sys.stdout)
    with console.capture() as shown:  # rich ends with 1 if the reader of our output has gone (| head)
        console.print(table)
    typer.echo(shown.get(), nl=False)


@contextmanager
def progress_bar(what: str, total: int | None) -> Iterator[Progress]:
    """Give a progress bar on standard error (only if that is a terminal) with one task, number 0."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        progress.add_task(what, total=total, note="")
        yield progress


def _readable(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.4f}" if abs(value) < 100 else f"{value:,.0f}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_readable(part)}" for name, part in value.items())
    return "-" if value is None else str(value)
