"""``streamal answer``: a labelling session in the terminal."""

from __future__ import annotations

import codecs
import getpass
import os
import select
import sys
import termios
import time
import tty
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table

from streamal.bootstrap import transports
from streamal.bootstrap.rules import topic_names, wire_rules
from streamal.cli.console import echo, grow, new_console, plain, text
from streamal.cli.options import ConfigPath, Overrides
from streamal.config import Config, load_config
from streamal.core.records import Request
from streamal.core.vectors import describe_vector
from streamal.errors import ConfigError, Uncommitted
from streamal.labeling.feed import Feed
from streamal.labeling.keys import FIND, keys_of
from streamal.labeling.queue import OpenQueue, QueueRules
from streamal.labeling.terminal import CANNOT_TELL, QUIT, SKIP, UNDO, Session
from streamal.ports import Log

__all__ = ["command"]

_ESCAPE = b"\x1b"
_ENTER = (b"\n", b"\r", b"")  # the last: the terminal is gone
_BACKSPACE = (b"\x7f", b"\b")
_UNDO_S = 5.0
_POLL_S = 0.5
_VALUE_MAX = 2_000
"""Characters of a value to show."""
_FEATURES_MAX = 100
"""Features to show."""
_NAME_MAX = 1_024


def command(
    annotator: Annotated[str, typer.Option("--annotator", "-a", help="Your name; by default your login name.")] = "",
    show_guess: Annotated[
        bool, typer.Option("--show-guess", help="Show the model's guess; needs label_page.show_prediction.")
    ] = False,
    config: ConfigPath = Path("config.toml"),
    overrides: Overrides = None,
) -> None:
    """Answer open requests in the terminal: one key for each class, the most valuable request first.

    The keys of the classes are those of the label page. / and a name, or a part of it that no other class has, answers
    with any class. s skips a request, x answers that one cannot tell, u takes the last answer back (for five seconds,
    or until the next answer), q ends. Keys may also come from a pipe, one a line. The command works on the daemon's
    machine and on every other that reaches the topics.

    ```text
    streamal answer --annotator ada
    ssh server streamal answer
    ```
    """
    loaded = load_config(config, overrides or ())
    if not loaded.labels.classes:
        raise ConfigError("labels.classes: declare them; each gets a key")
    if show_guess and not loaded.label_page.show_prediction:
        raise ConfigError("--show-guess: label_page.show_prediction is false: annotators are not to see the guess")
    log = transports.open_log(loaded)
    try:
        session = _open_session(loaded, log, annotator or getpass.getuser())
        with _key_reader() as read:
            _run(
                session,
                new_console().print,
                read,
                partial(_render, hide=loaded.label_page.template.hide, show_guess=show_guess),
            )
    except KeyboardInterrupt:
        session.finish()
    finally:
        log.close()
    echo(f"{session.answered} answers")


def _open_session(config: Config, log: Log, annotator: str) -> Session:
    limits = config.limits
    queue = OpenQueue(QueueRules(open_max=2 * limits.open_requests, closed_max=limits.closed_requests))
    feed = Feed(log, topic_names(config), config.transport.group, queue, wire_rules(config), history=0)
    return Session(feed, annotator, config.labels.classes, _UNDO_S)


def _run(
    session: Session,
    draw: Callable[[RenderableType], None],
    read: Callable[[float], str | None],
    render: Callable[[Request, Sequence[str]], Group],
) -> None:
    """Show questions and take keys until q or the end of the input; try again after a passing failure."""
    shown: str | None = ""
    while True:
        try:
            request = session.question(time.time())
            about = None if request is None else request.request
            if about != shown:
                draw(render(request, session.classes) if request else "nothing waits for an answer …")
                shown = about
            key = read(_POLL_S)
            if key in (QUIT, None):
                session.finish()
                return
            line = session.press(key, time.time()) if key else ""
        except Uncommitted as error:
            line = f"{error}; trying again"
            time.sleep(_POLL_S)
        if line:
            draw(text(plain(line)))
            shown = ""


def _render(request: Request, classes: Sequence[str], *, hide: Collection[str] = (), show_guess: bool = False) -> Group:
    """Return the question without the features *hide*; the event in it is plain text without control characters."""
    table = grow(Table.grid(padding=(0, 2)), 2)
    features = [(name, value) for name, value in request.features.items() if name not in hide]
    for name, value in features[:_FEATURES_MAX]:
        table.add_row(text(plain(name), "dim"), text(_shorten(value)))
    if len(features) > _FEATURES_MAX:
        table.add_row("…", f"and {len(features) - _FEATURES_MAX} more features")
    keys = keys_of(classes)
    choices = "   ".join(f"[{key}] {plain(label)}" for key, label in keys.items())
    if len(classes) > len(keys):
        choices += f"   [{FIND}] and a name: {len(classes) - len(keys)} more classes"
    help_line = f"[{FIND}] class by name   [{SKIP}] skip   [{CANNOT_TELL}] cannot tell   [{UNDO}] undo   [{QUIT}] quit"
    parts = [Panel(table, title=text(plain(request.request)), title_align="left")]
    if show_guess and request.label is not None:
        chance = request.probabilities.get(request.label, 0.0)
        parts.append(Panel(text(f"the model thinks: {plain(request.label)} ({chance:.0%})")))
    return Group(*parts, text(choices, "bold"), text(help_line, "dim"))


def _shorten(value: object) -> str:
    """Return *value* for a person, cut where it is very long."""
    if isinstance(value, list):
        return describe_vector(value)
    found = f"{value:g}" if isinstance(value, float) else str(value)
    return found if len(found) <= _VALUE_MAX else f"{found[:_VALUE_MAX]} … ({len(found):,} characters)"


@contextmanager
def _key_reader() -> Iterator[Callable[[float], str | None]]:
    """Yield a function that waits some seconds for a key and returns it: "" if none came, None at the end."""
    if not sys.stdin.isatty():
        yield _line_reader(sys.stdin)
        return
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    tty.setcbreak(descriptor)

    def read(wait_s: float) -> str | None:
        # os.read, not sys.stdin: select does not see what sys.stdin has buffered
        if not select.select([descriptor], [], [], wait_s)[0]:
            return ""
        key = os.read(descriptor, 1)
        if key == _ESCAPE:
            _skip_escape_sequence(descriptor)
            return ""
        if key == FIND.encode():
            return _read_name(descriptor)
        return key.decode(errors="ignore") if key else None

    try:
        yield read
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


def _read_name(descriptor: int) -> str:
    """Read the name of a class up to the end of the line, show it, and let backspace correct it.

    Key by key: the terminal's own line mode takes keys that were typed before it began as they are.
    """
    typed, decode = "", codecs.getincrementaldecoder("utf-8")("replace").decode
    while True:
        if sys.stdout.isatty():
            sys.stdout.write(f"\r\x1b[K{FIND}{plain(typed)}")
            sys.stdout.flush()
        key = os.read(descriptor, 1)
        if key in _ENTER:
            echo("")
            return f"{FIND}{typed.strip()}" if typed.strip() else ""
        if key == _ESCAPE:
            _skip_escape_sequence(descriptor)
        elif key in _BACKSPACE:
            typed = typed[:-1]
        else:
            typed = (typed + decode(key))[:_NAME_MAX]


def _skip_escape_sequence(descriptor: int) -> None:
    """Read up to the final letter of an escape sequence: the digits in an arrow key's sequence are no answers."""
    begun = False
    while select.select([descriptor], [], [], 0.0)[0]:
        byte = os.read(descriptor, 1)
        if begun and b"@" <= byte <= b"~":
            return
        begun = True


def _line_reader(lines: Iterable[str]) -> Callable[[float], str | None]:
    """Return a function that takes a key from the next of *lines* without waiting."""
    left = iter(lines)

    def read(wait_s: float) -> str | None:  # noqa: ARG001
        line = next(left, None)
        if line is None:
            return None
        return line.strip() if line.startswith(FIND) else line.strip()[:1]

    return read
