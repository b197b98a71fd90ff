"""``streamal look``: what a recorded stream holds, before anything is replayed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from streamal.cli.console import echo, echo_block, echo_json, plain, render
from streamal.cli.experiment_options import StreamOptions
from streamal.cli.options import Json, OptionalConfigOptions, with_options
from streamal.config import load_config
from streamal.errors import ConfigError
from streamal.experiments.starter import render_start, starting_config
from streamal.recordings.profile import Profile, profile

__all__ = ["command"]

_CLASSES_MAX = 20
_SINGLES_MAX = 3
"""If no label comes twice, so many are enough to see."""
_BAR = 30
"""Characters of the longest bar."""


@with_options
def command(
    stream: StreamOptions,
    configuration: OptionalConfigOptions,
    write: Annotated[
        Path | None,
        typer.Option("--write", metavar="FILE", help="Write the config.toml to begin with."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Look at a recorded stream before you replay it: its columns and classes, and what in it is suspicious.

    Suspicious are columns that look like identifiers, like the label itself or like the future, constant and mostly
    missing ones; labels that are numbers of a regression, rare classes, near-misses, rows sorted by label. What the
    reader left out, changed or guessed is said too. In the end stands the configuration to begin with.

    ```text
    streamal look elec.csv.gz --label class
    streamal look events.jsonl --label label --time time --write config.toml
    ```
    """
    if write is not None and not write.parent.is_dir():
        raise ConfigError(f"{write}: there is no directory {write.parent}")
    if write is not None and write.exists():
        load_config(write)  # a file that cannot be updated is refused now
    config = configuration.load()
    recorded = stream.load(config)
    found = profile(recorded)
    if not as_json:
        _print(found)
    try:
        start = starting_config(recorded, found, config)
    except ConfigError:
        if write is not None:
            raise
        start = None  # the suspicions say why
    existing = write.read_text(encoding="utf-8") if write is not None and write.exists() else ""
    toml = "" if start is None else render_start(recorded, found, start, existing)
    if write is not None:
        write.write_text(toml, encoding="utf-8")
    if as_json:
        echo_json({**found.as_dict(), "config": toml})
    elif write is not None:
        echo(f"Written: {write}")
    elif start is None:
        echo("There is no configuration to begin with: the label is no class.")
    else:
        echo("The configuration to begin with (--write config.toml writes it):")
        echo_block(f"\n{toml}", end="")


def _print(found: Profile) -> None:
    echo(f"{found.stream}: {found.rows:,} rows, {found.kept:,} of them events")
    render(_columns(found))
    render(_classes(found))
    for line in found.left_out:
        echo(f"* {line}")
    for suspicion in found.suspicions:
        echo(f"! {suspicion.text}: {suspicion.advice}")
    if not found.suspicions:
        echo("Nothing in it is suspicious.")


def _columns(found: Profile) -> Table:
    table = Table("column", "is", "kind", "missing", "distinct", "for example")
    for column in found.columns:
        table.add_row(
            plain(column.name),
            column.role.replace("_", " "),
            column.kind or "-",
            f"{column.missing:,}" if column.kind else "-",
            "-" if column.distinct is None else f"{column.distinct:,}",
            plain((" … " if column.kind == "number" and column.is_range else ", ").join(column.examples)),
        )
    for each in (table.columns[0], table.columns[-1]):
        each.overflow = "fold"
    return table


def _classes(found: Profile) -> Table:
    table = Table("class", "events", "share", "")
    table.columns[0].overflow = "fold"
    most = max(found.classes.values())
    shown = _CLASSES_MAX if most > 1 else _SINGLES_MAX
    for label, count in list(found.classes.items())[:shown]:
        bar = "█" * max(1, round(_BAR * count / most))
        table.add_row(plain(label), f"{count:,}", f"{count / found.kept:.1%}", bar)
    if len(found.classes) > shown:
        rest = sum(list(found.classes.values())[shown:])
        table.add_row(f"{len(found.classes) - shown} more", f"{rest:,}", f"{rest / found.kept:.1%}", "")
    return table
