"""Rows of CSV as events: one column a feature, in the types of the schema, or in those that the first rows show."""

from __future__ import annotations

import csv
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from streamal.core.codec.wire_rules import WireRules
from streamal.core.records import Scalar
from streamal.errors import ConfigError
from streamal.exchange.events import EventLine, Events, LineFlaw
from streamal.exchange.lines import Line
from streamal.recordings.findings import plural
from streamal.recordings.formats.dialect import named_delimiter
from streamal.recordings.missing import Missing, is_infinite
from streamal.recordings.numerals import parse_number
from streamal.recordings.rules import is_index
from streamal.recordings.text_columns import Parser, find_parser

__all__ = ["CsvEvents", "CsvOptions"]

_DELIMITERS = ",;\t|"
_ANSWERS = frozenset({"label", "target", "class", "y"})
_NAMES_SHOWN = 10


@dataclass(frozen=True, slots=True)
class CsvOptions:
    """What a CSV file does not say of itself.

    Attributes:
        name: of the file, for messages.
        delimiter: one character; None: the one that the header shows.
        drop: columns that are not sent.
        key: the column that is the key of a record; it may be one that is not sent.
        sample_rows: so many rows are waited for, to tell what type a column has that nobody has declared.
    """

    name: str
    delimiter: str | None = None
    drop: frozenset[str] = frozenset()
    key: str | None = None
    sample_rows: int = 100


class CsvEvents:
    """Reads events out of the rows of a CSV file; the first one is the header.

    A field in quotes may have several lines. A row that repeats the header is left out (two files, one after the
    other). Nothing is guessed of a column that the schema knows.
    """

    def __init__(self, rules: WireRules, kinds: Mapping[str, str], options: CsvOptions) -> None:
        """Make events of the form that *rules* want; *kinds* are those of the features that the schema knows."""
        csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
        self._rules, self._known, self._options = rules, kinds, options
        self._delimiter = options.delimiter
        self._header: list[str] = []
        self._missing = Missing(rules.missing)
        self._parsers: dict[str, Parser] | None = None
        self._open: list[Line] = []
        """The lines of a row whose quotes are not closed yet."""
        self._open_bytes = 0
        self._sample: list[tuple[int, list[str]]] = []

    def feed(self, lines: Sequence[Line]) -> Events:
        """Return the events in *lines*; the first rows wait until there are enough of them to tell the types.

        Raises:
            ConfigError: quotes are where none can be, so that nobody knows where the next row begins; or the header
                is wrong.
        """
        found = Events()
        for line in lines:
            row = self._row(line, found)
            if row is None:
                continue
            if not self._header:
                self._begin([name.strip() for name in row])
            elif len(row) != len(self._header):
                text = f"{plural(len(row), 'field')}, but the header has {len(self._header)}"
                found.flaws.append(LineFlaw(line.number, text))
            elif [name.strip() for name in row] == self._header:
                continue
            elif self._parsers is not None:
                self._add(line.number, row, self._parsers, found)
            else:
                self._sample.append((line.number, row))
        if self._parsers is None and len(self._sample) >= self._options.sample_rows:
            self._decide(found)
        return found

    def finish(self) -> Events:
        """Return the events of the rows that were waiting.

        Raises:
            ConfigError: a quote was never closed.
        """
        found = Events()
        if self._header and self._parsers is None:
            self._decide(found)
        if self._open:
            raise self._error(self._open[0].number, "a quote begins here and is never closed")
        return found

    def notes(self) -> Sequence[str]:
        """Return what a person should know of the columns: which are left out, and which the daemon will drop."""
        notes = []
        if nameless := sum(map(self._is_index, self._header)):
            notes.append(f"{plural(nameless, 'column')} of row numbers without a name: left out")
        for name, parser in (self._parsers or {}).items():
            notes += [f"column {name!r}: {note}" for note in parser.notes]
        unknown = [name for name in self._header if self._is_feature(name) and name not in self._known]
        if self._known and unknown:
            notes.append(f"the schema does not know {_listed(unknown)}: the daemon drops what it does not know")
        answers = [name for name in unknown if name.lower() in _ANSWERS]
        if answers and not self._known:
            notes.append(f"{_listed(answers)} is sent as a feature; if it is the answer, add --drop {answers[0]}")
        return notes

    def _row(self, line: Line, found: Events) -> list[str] | None:
        """Return the row that ends with *line*; None if it goes on, is blank, or is no text."""
        if not self._open and not line.text.strip():
            return None
        self._open.append(line)
        self._open_bytes += len(line.text)
        first = self._open[0].number
        if self._open_bytes > self._rules.record_bytes_max and len(self._open) > 1:
            raise self._error(
                first, f"a quote begins here and is not closed within {self._rules.record_bytes_max} bytes"
            )
        if len(self._open) > 1 and b'"' not in line.text:
            return None  # nothing closes the quote here
        try:
            texts = [each.text.decode() + "\n" for each in self._open]
        except UnicodeDecodeError as error:
            if not self._header:
                raise self._error(first, f"the header is no UTF-8 ({error.reason}): save the file as UTF-8") from None
            found.flaws.append(LineFlaw(line.number, f"it is no UTF-8: {error.reason}"))
            return self._close([])
        if not self._header and (named := named_delimiter(texts[0])):
            self._delimiter = self._delimiter or named
            return self._close([])
        if self._delimiter is None:
            self._delimiter = max(_DELIMITERS, key=texts[0].count)
        try:
            return self._close(next(csv.reader(texts, delimiter=self._delimiter, strict=True, skipinitialspace=True)))
        except csv.Error as error:
            if "unexpected end of data" in str(error):
                return None
            until = f" to {line.number}" if line.number > first else ""
            text = f'a quote is where none can be ({error}); inside of a field it is written ""'
            raise self._error(f"{first}{until}", text) from None

    def _close(self, row: list[str]) -> list[str] | None:
        self._open.clear()
        self._open_bytes = 0
        return row or None

    def _begin(self, header: list[str]) -> None:
        """Take the header."""
        named = [name for name in header if name]
        twice = sorted({name for name in named if named.count(name) > 1})
        if twice:
            raise self._error(1, f"column {twice[0]!r} is there twice; give each a name of its own")
        wanted = [*self._options.drop, *([self._options.key] if self._options.key is not None else [])]
        for name in wanted:
            if name not in header:
                raise self._error(1, f"there is no column {name!r}, but {_listed(header)}")
        self._header = header

    def _is_feature(self, name: str) -> bool:
        return not self._is_index(name) and name not in {self._rules.id, self._rules.time, *self._options.drop}

    def _is_index(self, name: str) -> bool:
        return is_index(name) and (not name or name not in self._known)

    def _decide(self, found: Events) -> None:
        """Tell by the rows that have come how each column is read, and take those rows."""
        self._parsers = {}
        for position, name in enumerate(self._header):
            if self._is_feature(name):
                cells = Counter(row[position] for _, row in self._sample)
                present = {text: count for text, count in cells.items() if not self._missing.is_missing(text)}
                self._parsers[name] = find_parser(present, self._known.get(name))
        for number, row in self._sample:
            self._add(number, row, self._parsers, found)
        self._sample.clear()

    def _add(self, number: int, row: Sequence[str], parsers: Mapping[str, Parser], found: Events) -> None:
        """Add the event in *row*, or what is wrong with it."""
        cells = dict(zip(self._header, row, strict=True))
        features: dict[str, Scalar] = {}
        for name, parser in parsers.items():
            text = cells[name]
            if self._missing.is_missing(text):
                continue
            value = parser.parse(text)
            if value is not None:
                features[name] = value
            elif parser.kind != "number" or not is_infinite(text):
                found.flaws.append(LineFlaw(number, f"column {name!r} is {text[:40]!r}, not a {parser.kind}"))
                return
        own = {"id": _identity(cells.get(self._rules.id)), "time": _time(cells.get(self._rules.time))}
        given = {field: value for field, value in own.items() if value is not None}
        event: dict[str, Any] = {**given, "features": features}
        if self._rules.format == "flat":
            event = {**{getattr(self._rules, field): value for field, value in given.items()}, **features}
        key = None if self._options.key is None else cells[self._options.key].encode()
        found.ready.append(EventLine(number, msgspec.json.encode(event), key))

    def _error(self, line: int | str, text: str) -> ConfigError:
        return ConfigError(f"{self._options.name}, line {line}: {text}")


def _identity(text: str | None) -> int | str | None:
    """Return an id: a number if it is written as one writes it."""
    if text is None or not text.strip():
        return None
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 and str(int(text)) == text else text


def _time(text: str | None) -> float | str | None:
    if text is None or not text.strip():
        return None
    number = parse_number(text)
    return text if number is None else number


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else ""
    return ", ".join(map(repr, names[:_NAMES_SHOWN])) + more
