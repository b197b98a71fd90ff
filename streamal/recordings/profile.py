"""A look at a recorded stream: what its columns and classes hold, and what in it is suspicious."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from streamal.recordings.html import html_table
from streamal.recordings.reading import Stream
from streamal.recordings.suspicions import Suspicion, column_suspicions, label_suspicions

__all__ = ["ColumnProfile", "Profile", "profile"]

_EXAMPLES = 3
_EXAMPLE_CHARACTERS = 30
_RANGE_MIN = 10
"""A column of more different numbers is shown by its range."""


@dataclass(frozen=True, slots=True)
class ColumnProfile:
    """What a column holds.

    Attributes:
        name, role, kind, missing: as in `Column`.
        distinct: different values in the rows that were looked at; None where the column was not read.
        examples: the most frequent values; long ones are shortened. Of many numbers: the least, the median, the most.
        is_range: whether the examples are such a range.
        notes: how it was read, where that is not plain.
    """

    name: str
    role: str
    kind: str
    missing: int
    distinct: int | None
    examples: tuple[str, ...]
    is_range: bool = False
    notes: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, object]:
        """Return the description as JSON-ready values."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True, repr=False)
class Profile:
    """What a stream holds.

    Attributes:
        stream: its name.
        rows, kept: rows of the source, and those that are events.
        columns: all of the source, in their order.
        classes: class -> events, the commonest first.
        left_out: one line for each thing that the reader left out, changed or guessed.
        suspicions: what a person should look at before the first replay.
    """

    stream: str
    rows: int
    kept: int
    columns: Sequence[ColumnProfile]
    classes: Mapping[str, int]
    left_out: Sequence[str]
    suspicions: Sequence[Suspicion]

    def to_leave_out(self) -> list[str]:
        """Return the columns that should be no features if the suspicions are right; [] if nothing would be left."""
        names = list(dict.fromkeys(suspicion.column for suspicion in self.suspicions if suspicion.drop))
        features = [column.name for column in self.columns if column.role == "feature" and column.kind]
        return names if len(names) < len(features) else []

    def lines(self) -> list[str]:
        """Return the two lines that stand before a replay: what is there, and what is suspicious of it."""
        kinds = Counter(column.kind for column in self.columns if column.role == "feature" and column.kind)
        features = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())
        shown = ", ".join(f"{_example(label)} {count:,}" for label, count in list(self.classes.items())[:5])
        more = f" and {len(self.classes) - 5} more" if len(self.classes) > 5 else ""
        first = f"{self.kept:,} events, features: {features or 'none'}; classes: {shown}{more}"
        if not self.suspicions:
            return [first]
        names = "; ".join(suspicion.text for suspicion in self.suspicions[:2])
        rest = f"; and {len(self.suspicions) - 2} more" if len(self.suspicions) > 2 else ""
        return [first, f"suspicious: {names}{rest} (`streamal look` says more)"]

    def __repr__(self) -> str:
        """Return what is there on one line."""
        return f"Profile({self.stream}: {self.lines()[0]}; {len(self.suspicions)} suspicions)"

    def _repr_html_(self) -> str:
        """Return the columns as a table for a notebook, with what was left out and what is suspicious below it."""
        rows = [
            (
                column.name,
                column.role,
                column.kind,
                f"{column.missing:,}",
                "" if column.distinct is None else f"{column.distinct:,}",
                (" … " if column.is_range else ", ").join(column.examples),
            )
            for column in self.columns
        ]
        below = [*self.left_out, *(f"{each.text}: {each.advice}" for each in self.suspicions)]
        header = ("column", "is", "kind", "missing", "distinct", "for example")
        return html_table(self.lines()[0], header, rows, below)

    def as_dict(self) -> dict[str, object]:
        """Return the profile as JSON-ready values."""
        return {
            "stream": self.stream,
            "rows": self.rows,
            "kept": self.kept,
            "columns": [column.as_dict() for column in self.columns],
            "classes": dict(self.classes),
            "left_out": list(self.left_out),
            "suspicions": [suspicion.as_dict() for suspicion in self.suspicions],
        }


def profile(stream: Stream, rows_max: int | None = None) -> Profile:
    """Return what *stream* holds; with *rows_max*, columns are judged by so many rows, taken evenly."""
    step = 1 if rows_max is None else -(-len(stream.rows) // rows_max)
    looked_at = stream if step == 1 else replace(stream, rows=stream.rows[::step])
    classes = dict(sorted(Counter(row.label for row in stream.rows).items(), key=lambda item: (-item[1], item[0])))
    columns, suspicions = [], list(label_suspicions(stream, classes))
    seen = Counter(row.label for row in looked_at.rows)
    for column in stream.columns.values():
        distinct, examples, is_range = None, tuple[str, ...](), False
        if column.role == "feature" and column.name in stream.kinds and not column.kind.startswith("vector"):
            counts = Counter(row.features.get(column.name) for row in looked_at.rows)
            counts.pop(None, None)
            distinct = len(counts)
            is_range = column.kind == "number" and distinct > _RANGE_MIN
            values = _range(counts) if is_range else [value for value, _ in counts.most_common(_EXAMPLES)]
            examples = tuple(map(_example, values))
        elif column.role == "label":
            distinct, examples = len(classes), tuple(map(_example, list(classes)[:_EXAMPLES]))
        columns.append(
            ColumnProfile(
                column.name, column.role, column.kind, column.missing, distinct, examples, is_range, column.notes
            )
        )
    for name in stream.kinds:
        suspicions += column_suspicions(looked_at, name, seen)
    account = stream.account
    rows = account.rows or len(stream.rows)
    return Profile(stream.name, rows, len(stream.rows), columns, classes, account.lines(), suspicions)


def _range(counts: Counter[Any]) -> list[float]:
    """Return the least, the median and the largest of some numbers."""
    numbers = sorted(counts.elements())
    return [numbers[0], numbers[len(numbers) // 2], numbers[-1]]


def _example(value: object) -> str:
    """Return a value as a cell of a table."""
    text = f"{value:g}" if isinstance(value, float) else str(value).lower() if isinstance(value, bool) else str(value)
    text = " ".join(text.split())
    return text if len(text) <= _EXAMPLE_CHARACTERS else f"{text[:_EXAMPLE_CHARACTERS]}…"
