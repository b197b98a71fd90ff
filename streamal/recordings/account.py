"""The account of a reading: what was left out, changed or guessed, how often, and where first.

Nothing that the reader does to a recording goes silently. Each `Finding` is one line; a clean file has none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

__all__ = ["Account", "Column", "Finding", "Location", "Role"]

Role = Literal["feature", "label", "time", "label_time", "dropped", "index", "undeclared", "beside"]
"""What a column is for: "index" is a row number that a library wrote, "beside" stands beside nested features."""


class Location(NamedTuple):
    """Where something was found.

    Attributes:
        row: counted from 1, without header, comments and blank lines.
        line: the line of a text file in which the row begins.
        column, value: what holds it, and what it is there, cut to a short text.
    """

    row: int
    line: int | None = None
    column: str | None = None
    value: str | None = None

    def __str__(self) -> str:
        """Return the place for a message.

        >>> str(Location(50, 51)), str(Location(7, 7)), str(Location(3))
        ('line 51, row 50', 'line 7', 'row 3')
        """
        if self.line is None:
            return f"row {self.row}"
        return f"line {self.line}" if self.line == self.row else f"line {self.line}, row {self.row}"


@dataclass(frozen=True, slots=True)
class Finding:
    """One kind of thing that the reader left out, changed or guessed.

    Attributes:
        kind: a stable name, such as "short_rows", "no_label", "refused", "no_number", "missing", "sorted".
        text: one line for people, with count and place.
        count: how many rows, cells or columns.
        reason: of refused rows, as in a dead letter.
        first: the first places.
        is_loss: whether something of the recording is lost; ``--strict`` makes an error of it.
    """

    kind: str
    text: str
    count: int = 1
    first: tuple[Location, ...] = ()
    is_loss: bool = True
    reason: str | None = None

    def as_dict(self) -> dict[str, object]:
        """Return the finding as JSON-ready values."""
        return {
            "kind": self.kind,
            **({} if self.reason is None else {"reason": self.reason}),
            "count": self.count,
            "is_loss": self.is_loss,
            "text": self.text,
            "first": [{name: value for name, value in p._asdict().items() if value is not None} for p in self.first],
        }


@dataclass(frozen=True, slots=True)
class Account:
    """What became of the rows of a source.

    Attributes:
        rows: rows in the source, without its header, its comments and blank lines.
        kept: rows that are events of the stream.
        findings: in the order in which a person wants to read them.
    """

    rows: int = 0
    kept: int = 0
    findings: tuple[Finding, ...] = ()

    def count(self, kind: str) -> int:
        """Return how many rows, cells or columns the findings of *kind* count."""
        return sum(finding.count for finding in self.findings if finding.kind == kind)

    def lines(self) -> list[str]:
        """Return one line for each finding; none for a clean recording."""
        return [finding.text for finding in self.findings]

    def as_dict(self) -> dict[str, object]:
        """Return the account as JSON-ready values."""
        return {"rows": self.rows, "kept": self.kept, "findings": [finding.as_dict() for finding in self.findings]}


@dataclass(frozen=True, slots=True)
class Column:
    """How a column was read.

    Attributes:
        name: as in the source.
        role: what it is for.
        kind: "number", "string", "boolean", "text" or "vector"; "time" for times; "" where it was not read.
        missing: rows without a value in it.
        spellings: how the source spells them, where it has no null: spelling -> cells.
        notes: how its cells were read, where that is not plain ("decimal comma", "codes with leading zeros").
    """

    name: str
    role: Role = "feature"
    kind: str = ""
    missing: int = 0
    spellings: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
