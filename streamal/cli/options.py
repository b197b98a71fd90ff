"""Options that several commands share, and how results are printed."""

from __future__ import annotations

import csv
import dataclasses
import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from streamal.bootstrap.rules import reading_rules
from streamal.cli.console import echo, echo_json, grow, new_console, plain, progress_text, render
from streamal.config import Config, load_config
from streamal.recordings.account import Account
from streamal.recordings.rules import ReadingRules

__all__ = [
    "ConfigOptions",
    "ConfigPath",
    "Json",
    "OptionalConfigOptions",
    "OptionalConfigPath",
    "Overrides",
    "ReadingOptions",
    "echo_account",
    "progress_bar",
    "show",
    "split_columns",
    "with_options",
]

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


_FINDINGS_SHOWN = 20


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReadingOptions:
    """How a file is to be understood, where that is not left to the reader."""

    delimiter: Annotated[
        str | None, typer.Option("--delimiter", help="Between the cells of a text file: one character, or tab.")
    ] = None
    encoding: Annotated[
        str | None, typer.Option("--encoding", help="Of a text file, if it is not UTF-8: cp1252, latin2, gbk …")
    ] = None
    na: Annotated[
        str, typer.Option("--na", metavar="A,B", help="Further spellings of a missing value, besides NA, null, - …")
    ] = ""
    flatten: Annotated[bool, typer.Option("--flatten", help="Make names like a.b of nested objects.")] = False
    strict: Annotated[
        bool, typer.Option("--strict", help="Make an error of whatever would be left out: rows, cells, labels.")
    ] = False

    def rules(self, config: Config) -> ReadingRules:
        """Return these options for the reader, beside what *config* says of features and labels."""
        return dataclasses.replace(
            reading_rules(config),
            delimiter=self.delimiter,
            encoding=self.encoding,
            na=split_columns(self.na or None),
            flatten=self.flatten,
            strict=self.strict,
        )


def split_columns(names: str | None) -> list[str]:
    """Return the names in a list with commas; a name that holds a comma stands in quotes, and "" is a blank name.

    >>> split_columns('a, "b, c"'), split_columns(""), split_columns(None)
    (['a', 'b, c'], [''], [])
    """
    if names is None:
        return []
    return [name.strip() for name in next(csv.reader([names], skipinitialspace=True)) or [""]]


def echo_account(source: object, account: Account) -> None:
    """Say on standard error what was left out, changed or guessed while *source* was read, one line for each."""
    for line in account.lines()[:_FINDINGS_SHOWN]:
        echo(f"streamal: {source}: {line}", err=True)
    if len(account.findings) > _FINDINGS_SHOWN:
        echo(f"streamal: {source}: … and {len(account.findings) - _FINDINGS_SHOWN} more; --json has all", err=True)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConfigOptions:
    """``--config`` and ``--set`` of a command that needs a configuration file."""

    config: ConfigPath = Path("config.toml")
    overrides: Overrides = None

    def load(self) -> Config:
        """Return the configuration."""
        return load_config(self.config, self.overrides or ())


@dataclasses.dataclass(frozen=True, kw_only=True)
class OptionalConfigOptions:
    """``--config`` and ``--set`` of a command that runs without a configuration file too."""

    config: OptionalConfigPath = None
    overrides: Overrides = None

    def load(self) -> Config:
        """Return the configuration."""
        return load_config(self.config, self.overrides or ())


def with_options(command: Callable[..., None]) -> Callable[..., None]:
    """Return *command* with its option records spread out: each field of a record becomes an option of its own.

    Options of one topic are the fields of one frozen dataclass, ``Annotated`` as Typer wants them, and a command takes
    that dataclass as a parameter. Typer does not know dataclasses: it is shown a function with one parameter a field,
    which makes the records and calls *command* with them.

    >>> @dataclasses.dataclass(frozen=True, kw_only=True)
    ... class Size:
    ...     width: int
    ...     height: int = 2
    >>> def draw(size: Size, colour: str = "red") -> None:
    ...     print(size, colour)
    >>> inspect.signature(with_options(draw))
    <Signature (*, width: int, height: int = 2, colour: str = 'red') -> None>
    >>> with_options(draw)(width=1, height=3, colour="blue")
    Size(width=1, height=3) blue
    """
    hints = get_type_hints(command, include_extras=True)
    records: dict[str, Any] = {}
    shown = []
    for parameter in inspect.signature(command).parameters.values():
        record = hints[parameter.name]
        if not dataclasses.is_dataclass(record):
            shown.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=record))
            continue
        records[parameter.name] = record
        shown += _parameters(record)

    @functools.wraps(command)
    def spread(**values: Any) -> None:
        made = {
            name: record(**{field.name: values.pop(field.name) for field in dataclasses.fields(record)})
            for name, record in records.items()
        }
        command(**made, **values)

    signature = inspect.Signature(shown, return_annotation=None)
    vars(spread).update(__signature__=signature, __annotations__={each.name: each.annotation for each in shown})
    return spread


def _parameters(record: Any) -> list[inspect.Parameter]:
    """Return the fields of a dataclass as parameters."""
    hints = get_type_hints(record, include_extras=True)
    return [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=inspect.Parameter.empty if field.default is dataclasses.MISSING else field.default,
            annotation=hints[field.name],
        )
        for field in dataclasses.fields(record)
    ]


def show(title: str, figures: Mapping[str, Any], as_json: bool) -> None:
    """Print *figures* on standard output, as a table for people or as JSON for programs."""
    if as_json:
        echo_json(figures)
        return
    echo(title)  # a table would break it at its own width
    table = grow(Table(show_header=False), 2)
    for name, value in figures.items():
        table.add_row(plain(name.replace("_", " ")), plain(_readable(value)))
    render(table)


@contextmanager
def progress_bar(what: str, total: int | None) -> Iterator[Progress]:
    """Give a progress bar on standard error (only if that is a terminal) with one task, number 0."""
    columns = (
        progress_text("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        progress_text("{task.fields[note]}"),
    )
    console = new_console(stderr=True)
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        progress.add_task(plain(what), total=total, note="")
        yield progress


def _readable(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.4f}" if abs(value) < 100 else f"{value:,.0f}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_readable(part)}" for name, part in value.items())
    return "-" if value is None else str(value)
