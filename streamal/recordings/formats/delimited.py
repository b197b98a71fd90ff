"""CSV and its kin as a `Table`: strict, so that no row is lost to a quote; short rows are left out, and counted."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate, islice
from operator import itemgetter
from pathlib import Path
from typing import TextIO

from streamal.recordings.account import Column, Location
from streamal.recordings.findings import FIRST, Findings, plural
from streamal.recordings.formats.dialect import FALLBACK, Dialect, open_binary, read_encoding, require_no_utf8, sniff
from streamal.recordings.formats.frames import require_distinct
from streamal.recordings.rules import ReadingRules, Roles
from streamal.recordings.table import Table

__all__ = ["read_cells", "read_delimited"]

Cells = list[list[str]]

_CLASSES_MAX = 100


def read_delimited(path: Path, roles: Roles, rules: ReadingRules, limit: int | None, findings: Findings) -> Table:
    """Return the columns of the table in *path*, each cell a text.

    Raises:
        ConfigError: the file cannot be read, a quote is not closed, a row is too long, or a name stands twice.
    """
    names, rows = read_cells(path, roles.label, rules, limit, findings)
    columns, outside = {}, []
    for position, name in enumerate(names):
        if roles.is_used(name, rules):
            columns[name] = list(map(itemgetter(position), rows))
        else:
            outside.append(Column(name, roles.of_unused(name)))
    return Table(columns, dict.fromkeys(columns, ""), names, tuple(outside))


def read_cells(
    path: Path, label: str, rules: ReadingRules, limit: int | None, findings: Findings
) -> tuple[list[str], Cells]:
    """Return the names in the header of *path*, and its rows, all as long as the header.

    *label* is a column that tells the header from other lines. Raises as `read_delimited` does.
    """
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    encoding = read_encoding(path, rules, findings)
    while True:
        dialect = sniff(path, encoding, rules, label, findings)
        try:
            with _open_text(path, encoding, findings) as text:
                found = _read(text, dialect, limit, findings)
        except UnicodeError as error:
            if encoding == FALLBACK or rules.encoding is not None:
                raise findings.error(f"{error}: name its encoding with --encoding") from error
            encoding = FALLBACK
        else:
            if encoding == FALLBACK and rules.encoding is None:
                require_no_utf8(path, findings)
                findings.note("dialect", f"it is no UTF-8, and read as {FALLBACK}: --encoding names another")
            return found


@contextmanager
def _open_text(path: Path, encoding: str, findings: Findings) -> Iterator[TextIO]:
    with open_binary(path, findings) as raw, io.TextIOWrapper(raw, encoding=encoding, newline="") as text:
        yield text


def _read(text: TextIO, dialect: Dialect, limit: int | None, findings: Findings) -> tuple[list[str], Cells]:
    """Return names and rows; the quick way for a table without any irregularity."""
    for _ in range(dialect.skipped):
        text.readline()
    reader = csv.reader(text, delimiter=dialect.delimiter, strict=True, skipinitialspace=True)
    header: list[str] = []
    rows: Cells = []
    before = dialect.skipped
    try:
        header = next((row for row in reader if row), [])
        before += reader.line_num
        rows.extend(islice(reader, limit))  # what comes before an error stays in the list, and says where it is
    except csv.Error as error:
        row, line = sum(map(bool, rows)) + 1, _starts(rows, before)[-1]
        raise findings.error(
            f"line {line}, row {row}: a quote is not closed, or closed too early, as line "
            f"{dialect.skipped + reader.line_num} shows ({error}); a quote inside a quoted cell is written twice"
        ) from error
    names = _names(header, dialect)
    width, lines = len(names), dialect.skipped + reader.line_num - before
    findings.rows, findings.line_of = len(rows), lambda row: before + 1 + row
    if lines != len(rows) or header in rows or not set(map(len, rows)) <= {width}:
        table = _Uneven(names, header, rows, _starts(rows, before), dialect.delimiter)
        names, rows = table.even(findings)
    require_distinct((name for name in names if name), findings)
    return names, rows


def _names(header: Sequence[str], dialect: Dialect) -> list[str]:
    """Return the names in the *header*; a row number has none."""
    names = [name.strip() for name in header]
    if names:
        names[0] = names[0].removeprefix("\ufeff").removeprefix(dialect.header_prefix).strip()
    return names


def _starts(rows: Cells, before: int) -> list[int]:
    """Return the line in which each of *rows* begins, and that of the row after them; *before* is the header's last."""
    return list(accumulate((1 + sum(cell.count("\n") for cell in row) for row in rows), initial=before + 1))


def _few_values(cells: Iterable[str]) -> set[str]:
    """Return the different values of *cells* of one line, none if they are too many to be classes."""
    values = {cell.strip() for cell in cells if "\n" not in cell}
    return values if len(values) <= _CLASSES_MAX else set()


@dataclass(frozen=True, slots=True)
class _Uneven:
    """A table with blank lines, cells of several lines, or rows of another length than the header."""

    names: list[str]
    header: list[str]
    rows: Cells
    starts: Sequence[int]
    delimiter: str

    def even(self, findings: Findings) -> tuple[list[str], Cells]:
        """Return names and rows of one length; what is left out is noted.

        Raises:
            ConfigError: a row is too long, or holds several because of a stray quote.
        """
        names, width = self.names, len(self.names)
        numbered = [(start, row) for start, row in zip(self.starts, self.rows, strict=False) if row]
        repeated = [start for start, row in numbered if row == self.header]
        comments = [start for start, row in numbered if len(row) != width and row[0].startswith("#")]
        left_out = {*repeated, *comments}
        numbered = [(start, row) for start, row in numbered if start not in left_out]
        findings.rows = len(numbered)
        known = [_few_values(row[at] for _, row in numbered if len(row) == width == 2) for at in range(2)]
        for start, row in numbered:
            self._require_one_row(start, row, known, findings)
        if numbered and all(len(row) == width + 1 for _, row in numbered):
            names, width = self._with_one_more([row for _, row in numbered])
        trimmed = [
            (number, start, self._trim(start, row, width, findings)) for number, (start, row) in enumerate(numbered, 1)
        ]
        short = [(number, start) for number, start, row in trimmed if len(row) < width]
        kept = [(number, start, row) for number, start, row in trimmed if len(row) == width]
        findings.number_of = [number for number, _, _ in kept].__getitem__
        findings.line_of = [start for _, start, _ in kept].__getitem__
        if short:
            first = [Location(number, start) for number, start in short[:FIRST]]
            text = f"{len(short)} of {findings.rows} rows are shorter than the header, and left out: {first[0]}"
            findings.add("short_rows", text, len(short), first)
        if repeated:
            findings.note("dialect", f"the header stands again in line {repeated[0]}: left out", len(repeated))
        if comments:
            findings.note(
                "dialect", f"{plural(len(comments), 'line')} of comment, the first line {comments[0]}", len(comments)
            )
        return names, [row for _, _, row in kept]

    def _require_one_row(self, start: int, row: list[str], known: Sequence[set[str]], findings: Findings) -> None:
        """Raise a ConfigError if each line of a *row* of several lines has the cells of a row of its own.

        Of a table of two columns each line must have a value of *known* too: a text may have one comma in each line.
        """
        delimiters, width = self.delimiter, len(self.names)
        tall = [position for position, cell in enumerate(row) if "\n" in cell]
        if len(tall) != 1 or width < 2 or len(row) != width:
            return
        first, *inner, last = row[tall[0]].split("\n")
        counts = [tall[0] + first.count(delimiters), *(line.count(delimiters) for line in inner)]
        counts.append(width - 1 - tall[0] + last.count(delimiters))
        if width == 2:
            at = 1 - tall[0]
            ends = [first, *inner] if at == 1 else [*inner, last]
            if not all(line.split(delimiters)[-at].strip() in known[at] for line in ends):
                return
        if all(count == width - 1 for count in counts):
            raise findings.error(
                f"line {start}, row {1 + sum(map(bool, self.rows[: self.starts.index(start)]))}: a quote opens "
                f"a cell that takes in {len(counts)} whole rows, up to line {start + len(counts) - 1}: "
                "a quote inside a cell is written twice, and the cell in quotes"
            )

    def _with_one_more(self, rows: Cells) -> tuple[list[str], int]:
        """Return the names where each row has one cell more: a delimiter at its end, or row names as R writes them."""
        if not any(row[-1].strip() for row in rows):
            return self.names, len(self.names)
        if len({row[0] for row in rows}) < max(2, len(rows)):  # the names of rows are distinct; decimal commas are not
            return self.names, len(self.names)
        return ["", *self.names], len(self.names) + 1

    @staticmethod
    def _trim(start: int, row: list[str], width: int, findings: Findings) -> list[str]:
        """Return *row* without blank cells beyond the header.

        Raises:
            ConfigError: a cell beyond the header holds something.
        """
        if len(row) > width and any(cell.strip() for cell in row[width:]):
            raise findings.error(
                f"line {start} has more fields than the header ({len(row)}, not {width}): "
                "a cell that holds the delimiter, such as a decimal comma, stands in quotes"
            )
        return row[:width]
