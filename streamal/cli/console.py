"""The console: everything that a command prints for people goes through here, and every text is only text.

A class, an annotator, a feature or a path is whatever somebody wrote into a record. F70: Rich reads ``[/b]`` in it as
markup, and a terminal obeys the escape sequences in it. So no text is markup here, and what could change a terminal
(control characters, direction marks, line ends in a name) is shown as an escape such as ``\\x1b``.
ruff forbids the other ways to print (``banned-api`` in pyproject.toml).
"""

from __future__ import annotations

import json
import sys
import unicodedata
from collections.abc import Iterable
from typing import Any, TextIO

import typer
from rich.console import Console, RenderableType
from rich.progress import TextColumn
from rich.table import Table
from rich.text import Text

from streamal.exchange.writers import TextSink

__all__ = [
    "data_stream",
    "echo",
    "echo_block",
    "echo_error",
    "echo_json",
    "grow",
    "new_console",
    "plain",
    "plain_block",
    "progress_text",
    "render",
    "text",
]

_UNSAFE = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""Unicode categories: control, format (direction marks among them), surrogate, line and paragraph separator."""
_KEPT = frozenset("\n\t\N{ZERO WIDTH NON-JOINER}\N{ZERO WIDTH JOINER}")
"""Parts of ordinary text of several lines."""


def plain(value: object) -> str:
    r"""Return *value* as one line of text that no terminal obeys.

    >>> print(plain("a\x1b[2J\nb\u202e [/c]"))
    a\x1b[2J\nb\u202e [/c]
    """
    found = str(value)
    return found if found.isascii() and found.isprintable() else "".join(map(_escape, found))


def plain_block(value: object) -> str:
    r"""Return *value* as text of several lines that no terminal obeys.

    >>> print(plain_block("a\r\nb\x07"))
    a
    b\x07
    """
    found = str(value).replace("\r\n", "\n")
    return "".join(c if c in _KEPT else _escape(c) for c in found)


def _escape(character: str) -> str:
    if unicodedata.category(character) not in _UNSAFE:
        return character
    return character.encode("unicode_escape").decode()


def echo(line: object, *, err: bool = False) -> None:
    """Print one line, on standard output or standard error."""
    typer.echo(plain(line), err=err)


def echo_error(line: object) -> None:
    """Print one line on standard error as ours, in red on a terminal."""
    typer.secho(f"streamal: {plain(line)}", err=True, fg=typer.colors.RED if sys.stderr.isatty() else None)


def echo_block(lines: object, *, end: str = "\n") -> None:
    """Print text of several lines on standard output."""
    typer.echo(f"{plain_block(lines)}{end}", nl=False)


def echo_json(value: object) -> None:
    """Print *value* on standard output as one line of JSON in ASCII."""
    typer.echo(json.dumps(value))


def text(value: object, style: str = "") -> Text:
    """Return *value* as text for a cell or a panel; it may have several lines."""
    return Text(plain_block(value), style=style)


def progress_text(template: str) -> TextColumn:
    """Return a column of a progress bar; fields of the task in *template* are text."""
    return TextColumn(template, markup=False)


def new_console(*, stderr: bool = False) -> Console:
    """Return a Rich console to which every string is text."""
    return _Console(stderr=stderr, markup=False, emoji=False, highlight=False)


def grow(table: Table, columns: int) -> Table:
    """Return *table* with so many columns that fold a long word: by default Rich cuts it and shows an ellipsis."""
    for _ in range(columns):
        table.add_column(overflow="fold")
    return table


def render(what: RenderableType) -> None:
    """Print a table or a panel on standard output."""
    console = new_console()
    with console.capture() as captured:  # Rich ends with 1 if the reader of our output has gone (| head)
        console.print(what)
    typer.echo(captured.get(), nl=False)


def data_stream() -> TextSink:
    """Return standard output for data: a pipe gets every character as it is, a terminal none that it obeys."""
    return _PlainStream(sys.stdout) if sys.stdout.isatty() else sys.stdout


class _Console(Console):
    """Takes every string as text: cells, titles and lines all come through `render_str`."""

    def render_str(self, text: str, **options: Any) -> Text:
        """Return *text* without reading markup in it."""
        asked = {**options, "markup": False, "emoji": False, "highlight": False}
        return super().render_str(plain_block(text), **asked)


class _PlainStream:
    """Writes to a terminal, only text."""

    def __init__(self, terminal: TextIO) -> None:
        self._terminal = terminal

    def write(self, part: str) -> int:
        """Write *part*."""
        return self._terminal.write(plain_block(part))

    def writelines(self, parts: Iterable[str]) -> None:
        """Write each of *parts*."""
        for part in parts:
            self.write(part)
