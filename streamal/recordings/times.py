"""Times of a recording as seconds since the epoch: units are told apart, one far-off time is not believed."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from statistics import median
from typing import Any

from streamal.recordings.findings import FIRST, Findings, shorten
from streamal.recordings.missing import Missing
from streamal.recordings.numerals import parse_number

__all__ = ["read_times"]

_UNITS: Sequence[tuple[float, float, str]] = (
    (1e11, 1.0, "seconds"),
    (1e14, 1e3, "milliseconds"),
    (1e17, 1e6, "microseconds"),
    (math.inf, 1e9, "nanoseconds"),
)
"""Below so much, a time counts so many in a second: today is 1.7e9 s, 1.7e12 ms, 1.7e15 µs, 1.7e18 ns."""
_CALENDARS = {8: "%Y%m%d", 12: "%Y%m%d%H%M", 14: "%Y%m%d%H%M%S"}
"""Digits of a date, written without separators -> its form."""
_YEARS = (1900, 2100)
_TODAY_MIN = 1e9
"""Smaller counts may begin at any time; larger ones are of today in one unit or another: 2001 in seconds."""
_COUNT_MAX = 1e8
"""Seconds that may be a count from 0 (three years): a 0 among them is no placeholder."""
_SHEET_DAYS = (36_526, 73_050)
"""The days since 1899 of 2000 and 2100, as Excel writes moments."""
_CALENDAR_NUMBERS: Mapping[str, Callable[[float], bool]] = {
    "years": lambda number: number.is_integer() and _YEARS[0] <= number <= _YEARS[1],
    "months": lambda number: (
        number.is_integer() and _YEARS[0] <= number // 100 <= _YEARS[1] and 1 <= number % 100 <= 12
    ),
    "days of a spreadsheet": lambda number: _SHEET_DAYS[0] <= number <= _SHEET_DAYS[1],
}
_ABSURD = (datetime(1900, 1, 1, tzinfo=UTC).timestamp(), datetime(2200, 1, 1, tzinfo=UTC).timestamp())
_PYTHON = (datetime(1, 1, 1, tzinfo=UTC).timestamp(), datetime(9999, 12, 31, tzinfo=UTC).timestamp())
_BAD_SHARE_MAX = 0.05
_FAR_SHARE_MAX = 0.01
_SPANS_FAR = 20.0
"""So many times the span of the middle nine tenths of all times, away from them, is far off."""
_ROWS_FOR_FAR = 10
_ZONE = re.compile(r" ?(UTC|GMT|Z)$| (?=[+-]\d\d:?\d\d$)", re.IGNORECASE)
_ORDINAL = re.compile(r"(\d{4})-?(\d{3})(T.*)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class _Column:
    """A column of times that is read, for messages."""

    name: str
    cells: Sequence[Any]
    findings: Findings

    def show(self, row: int) -> str:
        """Return row and cell."""
        return f"{self.findings.location(row)}: {shorten(self.cells[row])}"


def read_times(
    cells: Sequence[Any], name: str, missing: Missing, findings: Findings, *, in_seconds: bool
) -> list[float | None]:
    """Return each of *cells* in seconds since the epoch; None where there is no time, or one that is not believed.

    Args:
        cells: numbers, texts, or moments of Python.
        name: of the column, for messages.
        missing: the spellings of a missing value.
        findings: takes the unit, if it is not seconds, and what is not believed.
        in_seconds: whether the source has said that these are seconds since the epoch.

    Raises:
        ConfigError: more than one cell in twenty is no time, or the times are of two kinds.
    """
    column = _Column(name, cells, findings)
    numbers: dict[int, float] = {}
    moments: dict[int, float] = {}
    bad: list[int] = []
    for row, cell in enumerate(cells):
        if cell is None or (isinstance(cell, str) and missing.is_missing(cell)):
            continue
        number = _number(cell)
        if number is not None:
            numbers[row] = number
        elif (moment := _moment(cell)) is not None:
            moments[row] = moment
        elif not (isinstance(cell, float) and math.isnan(cell)):
            bad.append(row)
    bad += _minority(column, numbers, moments)
    times = numbers if in_seconds else _scale(column, numbers)
    times |= moments
    bad += [row for row, time in times.items() if not _PYTHON[0] <= time <= _PYTHON[1]]
    unread = set(bad)
    _require_few_bad(column, sorted(unread), len(unread | times.keys()))
    believed = {row: time for row, time in times.items() if row not in unread}
    for row in _far_off(column, believed):
        del believed[row]
    return [believed.get(row) for row in range(len(cells))]


def _number(cell: Any) -> float | None:
    if isinstance(cell, bool):
        return None
    if isinstance(cell, str):
        return parse_number(cell)
    if not isinstance(cell, int | float):
        return None
    try:
        return float(cell) if math.isfinite(cell) else None
    except OverflowError:
        return None


def _moment(cell: Any) -> float | None:
    """Return a moment of Python, or a text in ISO 8601, in seconds since the epoch; UTC unless it says otherwise."""
    try:
        moment = cell if isinstance(cell, datetime) else _parse_iso(cell) if isinstance(cell, str) else cell
        if isinstance(moment, date) and not isinstance(moment, datetime):
            moment = datetime(moment.year, moment.month, moment.day)  # noqa: DTZ001
        if not isinstance(moment, datetime):
            return None
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None


def _parse_iso(text: str) -> datetime:
    """Return the moment in *text*: what Python reads, and ordinal dates, year/month/day, a zone after a blank.

    >>> _parse_iso("2024-061").isoformat(), _parse_iso("2024/03/01 12:00 UTC").isoformat()
    ('2024-03-01T00:00:00', '2024-03-01T12:00:00+00:00')
    """
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        pass  # it may still be one of the other forms
    stripped = _ZONE.sub(lambda found: "+00:00" if found[1] else "", text.strip())
    if stripped[4:5] == "/" and stripped[7:8] == "/":
        stripped = stripped.replace("/", "-", 2)
    ordinal = _ORDINAL.fullmatch(stripped)
    if ordinal is not None and 1 <= int(ordinal[2]) <= 366:
        day = date(int(ordinal[1]), 1, 1) + timedelta(days=int(ordinal[2]) - 1)
        stripped = f"{day.isoformat()}{ordinal[3] or ''}"
    if re.fullmatch(r"\d{4}-\d{2}", stripped):
        stripped += "-01"
    return datetime.fromisoformat(stripped)


def _minority(column: _Column, numbers: dict[int, float], moments: dict[int, float]) -> list[int]:
    """Empty the smaller of the two kinds, and return its rows.

    Raises:
        ConfigError: it is too large for slips.
    """
    few, many = sorted((numbers, moments), key=len)
    if len(few) > _BAD_SHARE_MAX * (len(few) + len(many)):
        raise column.findings.error(
            f"column {column.name!r} has times of two kinds: {column.show(min(many))}, "
            f"and {column.show(min(few))}; write one kind"
        )
    rows = list(few)
    few.clear()
    return rows


def _scale(column: _Column, numbers: dict[int, float]) -> dict[int, float]:
    """Return *numbers* in seconds since the epoch, by their unit or as dates without separators."""
    if not numbers:
        return {}
    if _calendar(next(iter(numbers.values()))) is not None:
        dates = {row: date for row, number in numbers.items() if (date := _calendar(number)) is not None}
        if len(dates) == len(numbers):
            column.findings.note("time_unit", f"column {column.name!r} is read as dates without separators")
            return dates
    middle = median(map(abs, numbers.values()))
    per_second, unit = next((count, unit) for bound, count, unit in _UNITS if middle < bound)
    _require_one_unit(column, numbers, unit)
    if per_second == 1.0:
        _note_calendar(column, numbers)
        return numbers
    column.findings.note("time_unit", f"column {column.name!r} is read in {unit} since 1970")
    return {row: number / per_second for row, number in numbers.items()}


def _require_one_unit(column: _Column, numbers: dict[int, float], unit: str) -> None:
    """Raise a ConfigError if more than a few of *numbers* are of today in another unit than most."""
    others = {}
    for row, number in numbers.items():
        other = next(name for bound, _, name in _UNITS if abs(number) < bound)
        if other != unit and abs(number) >= _TODAY_MIN:
            others[row] = other
    if len(others) > max(1, _FAR_SHARE_MAX * len(numbers)):
        row = min(others)
        first = next(row for row in numbers if row not in others)
        raise column.findings.error(
            f"column {column.name!r} has times of two units: {column.show(first)} in {unit}, and {column.show(row)} "
            f"in {others[row]} (and {len(others) - 1} more); write one unit"
        )


def _note_calendar(column: _Column, numbers: dict[int, float]) -> None:
    """Note it if *numbers* that are read as seconds could be meant as years, months or days of a spreadsheet."""
    example = f"times such as {next(iter(numbers.values())):g} are read in seconds since 1970"
    for what, fits in _CALENDAR_NUMBERS.items():
        if all(map(fits, numbers.values())):
            text = f"column {column.name!r}: {example}; if they are {what}, write the times in ISO 8601"
            column.findings.note("time_unit", text)


def _calendar(number: float) -> float | None:
    """Return the moment that the digits of *number* write, year first; None if they write none."""
    if not number.is_integer() or number <= 0:
        return None
    digits = f"{number:.0f}"
    form = _CALENDARS.get(len(digits))
    if form is None:
        return None
    try:
        moment = datetime.strptime(digits, form).replace(tzinfo=UTC)
    except ValueError:
        return None
    return moment.timestamp() if _YEARS[0] <= moment.year <= _YEARS[1] else None


def _require_few_bad(column: _Column, bad: Sequence[int], present: int) -> None:
    """Note the cells that are no times, or raise if they are too many to be slips."""
    if not bad:
        return
    if len(bad) > _BAD_SHARE_MAX * present:
        location = column.findings.location(bad[0])
        raise column.findings.error(
            f"{location}: column {column.name!r} is {shorten(column.cells[bad[0]])}, no time of the years 1 to 9999 "
            f"(so are {len(bad)} of {present}); a time is in seconds since 1970 or ISO 8601"
        )
    _note_unbelieved(column, bad, "are no times")


def _far_off(column: _Column, times: dict[int, float]) -> list[int]:
    """Return the rows whose time is far from all others; they are noted.

    Raises:
        ConfigError: there are many, and they are of years that nobody would write.
    """
    if len(times) < _ROWS_FOR_FAR:
        return []
    ordered = sorted(times.values())
    few = max(1, int(_FAR_SHARE_MAX * len(times)))
    _require_plausible(column, times, ordered[len(ordered) // 2], few)
    low, high = ordered[len(ordered) // 20], ordered[-1 - len(ordered) // 20]
    away = _SPANS_FAR * max(high - low, 86_400.0)
    far = [row for row, time in times.items() if not low - away <= time <= high + away]
    if not far or len(far) > few:
        return []
    _note_unbelieved(column, far, "are far from all others")
    return far


def _require_plausible(column: _Column, times: dict[int, float], middle: float, few: int) -> None:
    """Raise a ConfigError if the times are of our days, and more than *few* of years that nobody would write."""
    if _is_absurd(middle) or abs(middle) < _COUNT_MAX:
        return
    absurd = [row for row, time in times.items() if _is_absurd(time)]
    if len(absurd) > few:
        other = next(row for row, time in times.items() if time == middle)
        raise column.findings.error(
            f"column {column.name!r} has times of two kinds: {column.show(other)}, and {column.show(absurd[0])} "
            f"(and {len(absurd) - 1} more); write one kind"
        )


def _is_absurd(time: float) -> bool:
    """Return whether *time* is a placeholder, or of no year in which anything was recorded."""
    return time == 0.0 or not _ABSURD[0] <= time <= _ABSURD[1]


def _note_unbelieved(column: _Column, rows: Sequence[int], what: str) -> None:
    shown = ", ".join(column.show(row) for row in rows[:FIRST]) + (" …" if rows[FIRST:] else "")
    text = f"column {column.name!r}: {len(rows)} times {what}, and are not believed: {shown}"
    locations = [column.findings.location(row, column.name, column.cells[row]) for row in rows[:FIRST]]
    column.findings.add("time", text, len(rows), locations)
