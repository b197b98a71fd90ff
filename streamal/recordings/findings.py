"""Collects what is found while a source is read, and makes the account of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from streamal.core.records import Refusal
from streamal.errors import ConfigError
from streamal.recordings.account import Account, Finding, Location

__all__ = ["FIRST", "Findings", "count_texts", "plural", "shorten"]

FIRST = 3
"""So many places of a finding are kept."""
_SHOWN = 60
_ORDER = {"refused": 1, "no_label": 2, "short_rows": 3}


class Findings:
    """The findings of one reading.

    Attributes:
        source: the name of what is read; every error begins with it.
        rows: how many rows it has.
        number_of: row, from 0 -> its number in the source, from 1; None where no row before it was left out.
        line_of: row, from 0 -> the line in which it begins, from 1; None where the source has no lines.
        refused: row, from 0 -> why it is no event.
    """

    def __init__(self, source: str) -> None:
        """Begin the account of *source*."""
        self.source = source
        self.rows = 0
        self.number_of: Callable[[int], int] | None = None
        self.line_of: Callable[[int], int] | None = None
        self.refused: dict[int, Refusal] = {}
        self._found: list[Finding] = []

    def error(self, text: str) -> ConfigError:
        """Return the error that *text* explains."""
        return ConfigError(f"{self.source}: {text}")

    def location(self, row: int, column: str | None = None, value: Any = None) -> Location:
        """Return where *row* (from 0) is."""
        line = None if self.line_of is None else self.line_of(row)
        number = row + 1 if self.number_of is None else self.number_of(row)
        return Location(number, line, column, None if value is None else shorten(value))

    def add(
        self,
        kind: str,
        text: str,
        count: int = 1,
        first: Sequence[Location] = (),
        *,
        is_loss: bool = True,
        reason: str | None = None,
    ) -> None:
        """Note a finding; see `Finding`."""
        self._found.append(Finding(kind, text, count, tuple(first[:FIRST]), is_loss, reason))

    def note(self, kind: str, text: str, count: int = 1) -> None:
        """Note something that was understood, so that nothing is lost."""
        self.add(kind, text, count, is_loss=False)

    def refuse(self, row: int, refusal: Refusal) -> None:
        """Note that *row* is no event; the first reason counts."""
        self.refused.setdefault(row, refusal)

    def losses(self) -> list[Finding]:
        """Return what was lost so far, but for refused rows."""
        return [finding for finding in self._found if finding.is_loss]

    def guesses(self) -> list[Finding]:
        """Return what was understood without being told, so far."""
        return [finding for finding in self._found if not finding.is_loss]

    def account(self, kept: int, strict: bool) -> Account:
        """Return the account, with *kept* rows that are events.

        Raises:
            ConfigError: no row is left; or there is a loss, and one is *strict*.
        """
        self._add_refused()
        losses = self.losses()
        if strict and losses:
            raise self.error(f"--strict: {losses[0].text}" + (f"; and {len(losses) - 1} more" if losses[1:] else ""))
        rows_lost = sorted((f for f in losses if f.kind in _ORDER), key=lambda f: (-f.count, _ORDER[f.kind]))
        if not kept:
            raise self.error(f"no row is an acceptable event: {rows_lost[0].text}" if rows_lost else "no rows")
        return Account(self.rows, kept, tuple(sorted(self._found, key=lambda finding: not finding.is_loss)))

    def _add_refused(self) -> None:
        """Make one finding of the refused rows for each reason."""
        by_reason: dict[str, list[int]] = {}
        for row, refusal in sorted(self.refused.items()):
            by_reason.setdefault(refusal.reason.value, []).append(row)
        for reason, rows in by_reason.items():
            where = self.location(rows[0])
            detail = self.refused[rows[0]].detail
            text = f"{len(rows)} of {self.rows} rows were refused: {reason}, as by a live daemon: {where}: {detail}"
            self.add("refused", text, len(rows), [self.location(row) for row in rows[:FIRST]], reason=reason)


def plural(count: int, noun: str) -> str:
    """Return *count* and *noun*, in the plural if need be.

    >>> plural(1, "cell"), plural(2, "cell")
    ('1 cell', '2 cells')
    """
    return f"{count} {noun}{'s' * (count != 1)}"


def count_texts(counts: Mapping[str, int]) -> str:
    """Return *counts* as text, the most frequent first, not more than five.

    >>> count_texts({"-": 2, "NA": 10})
    "'NA' 10, '-' 2"
    """
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{shorten(text)} {count}" for text, count in ordered[:5]) + (" …" if len(ordered) > 5 else "")


def shorten(value: Any) -> str:
    """Return *value* for a message: a text in quotes, and not the whole of a long one."""
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"
