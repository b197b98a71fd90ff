"""Read recorded streams of any format: rows of features, true label and times, and an account of what was left out."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from streamal.core.codec.wire_rules import TEXT_BYTES_MAX
from streamal.core.labels import class_name
from streamal.core.records import FeatureValue, Reason, Refusal
from streamal.recordings.account import Account, Column
from streamal.recordings.columns import is_unicode, iso_of
from streamal.recordings.findings import FIRST, Findings, count_texts, plural
from streamal.recordings.formats.values import plain
from streamal.recordings.missing import Missing
from streamal.recordings.rules import ReadingRules, Roles
from streamal.recordings.sources import name_of, parse_source
from streamal.recordings.table import Parsed
from streamal.recordings.times import read_times

__all__ = ["Recorded", "Stream", "read_stream"]


class Recorded(NamedTuple):
    """One event of a recorded stream; *label* is the true one, *label_time* is when it became known (seconds)."""

    features: dict[str, FeatureValue]
    label: str
    time: float
    label_time: float | None


@dataclass(frozen=True, slots=True, repr=False)
class Stream:
    """A recorded stream in memory.

    Attributes:
        name: its name in a report.
        rows: in order of arrival; times never decrease.
        kinds: feature -> "number" | "string" | "boolean" | "text" | "vector(384)" (so many numbers).
        classes: the labels that occur, sorted.
        account: what became of the rows of the source, and what was left out of them.
        columns: name -> how the column was read; all columns of the source, not the features alone.
    """

    name: str
    rows: Sequence[Recorded]
    kinds: Mapping[str, str]
    classes: tuple[str, ...]
    account: Account = field(default_factory=Account)
    columns: Mapping[str, Column] = field(default_factory=dict)

    def __repr__(self) -> str:
        """Return what is there on one line; `streamal.replay.profile` shows more."""
        names = ", ".join(self.classes[:5]) + (" …" if len(self.classes) > 5 else "")
        return f"Stream({self.name}: {len(self.rows)} events, {len(self.kinds)} features, classes {names})"

    @property
    def lacks_features(self) -> bool:
        """Whether some row lacks a feature that others have."""
        return any(column.missing for column in self.columns.values() if column.role == "feature")

    @property
    def spellings(self) -> frozenset[str]:
        """The texts that stand for a missing feature, but for the blank."""
        columns = [column for column in self.columns.values() if column.role == "feature"]
        return frozenset(text.strip() for column in columns for text in column.spellings) - {""}


def read_stream(
    source: str | Path | Iterable[Any] | Any,
    label: str,
    time: str | None = None,
    label_time: str | None = None,
    drop: Sequence[str] = (),
    limit: int | None = None,
    *,
    rules: ReadingRules | None = None,
) -> Stream:
    """Return the recorded stream in *source*.

    Args:
        source: a path (CSV, JSON lines, either with ``.gz``, Parquet, a directory of it), ``river:NAME``, a data frame
            of any library that narwhals knows, or an iterator of dictionaries, or of pairs (features, label).
        label: the column of the true label.
        time: the column of the event's time (a count since 1970, dates, ISO 8601); without it one event per second.
        label_time: the column of the time when the label became known; without it the annotators' delay decides.
        drop: columns that are no features, besides *label*, *time* and *label_time*.
        limit: the number of rows to read at most.
        rules: how the source is to be understood; by default that is found out.

    What has types (JSON, Parquet, Python) keeps them, and a row that a live daemon would refuse is refused. Of texts
    (CSV) the type is found out: 95 % of a column decide, the rest is missing. Rows without a label are left out, and
    rows out of order are sorted. Everything that is left out, changed or guessed stands in the account.

    Raises:
        ConfigError: the source cannot be read, a column does not exist, or no row is left.
    """
    rules, roles = rules or ReadingRules(), Roles(label, time, label_time, frozenset(drop))
    findings = Findings(name_of(source))
    parsed = parse_source(source, roles, rules, limit, findings)
    _require_columns(parsed, roles, rules, findings)
    columns = dict(parsed.columns)
    labels = _labels(parsed, roles, rules, findings)
    columns[label] = replace(columns[label], kind="label", missing=labels.missing, spellings=labels.spellings)
    missing = Missing(rules.na, guesses=parsed.guesses)
    times = {}
    for role, name in (("time", time), ("label_time", label_time)):
        if name is not None:
            seconds = read_times(parsed.cells[name], name, missing, findings, in_seconds=name in parsed.seconds)
            times[role] = seconds
            columns[name] = replace(columns[name], kind="time", missing=seconds.count(None))
    if "time" in times and None in times["time"]:
        count = times["time"].count(None)
        findings.note("no_time", f"{plural(count, 'row')} without a time: as late as the row before", count)
    rows = _rows(parsed, labels.values, times, findings)
    if label_time is not None:
        _note_label_times(rows, label_time, time, findings)
    account = findings.account(len(rows), rules.strict)
    classes = tuple(sorted({row.label for row in rows}))
    return Stream(findings.source, _shift_to_1970(rows), parsed.kinds, classes, account, columns)


class _Labels(NamedTuple):
    """The labels of all rows, None where there is none."""

    values: list[str | None]
    missing: int
    spellings: Mapping[str, int]


def _require_columns(parsed: Parsed, roles: Roles, rules: ReadingRules, findings: Findings) -> None:
    """Raise a ConfigError unless there is a row, and each column that was named."""
    if twice := sorted(set(roles.named) & set(roles.drop)):
        raise findings.error(f"column {twice[0]!r} is to be dropped, and is named as label or time: it cannot be both")
    if not findings.rows:
        raise findings.error("no rows")
    for name in (*roles.named, *sorted(name for name in roles.drop if name)):
        if name not in parsed.columns:
            if len(findings.refused) == findings.rows:
                findings.account(0, strict=False)  # raises: it says why nothing could be read
            names = ", ".join(itertools.islice(parsed.columns, 50)) or "none at all"
            hint = "; is the delimiter another? see --delimiter" if len(parsed.columns) == 1 else ""
            alike = next((other for other in parsed.columns if _bare(other) == _bare(name)), None)
            hint = hint if alike is None else f"; did you mean {alike!r}?"
            raise findings.error(f"there is no column {name!r}, but {names}{hint}")
    for name in rules.declared:
        if name not in parsed.columns:
            text = f"features.declared has {name!r}, and no row has a value of it"
            findings.add("declared_missing", text)


def _bare(name: str) -> str:
    """Return *name* without what an eye overlooks: case, quotes, characters without a width."""
    return "".join(filter(str.isalnum, name.casefold()))


def _labels(parsed: Parsed, roles: Roles, rules: ReadingRules, findings: Findings) -> _Labels:
    """Return the labels as text; rows with one that no reply may have are refused."""
    missing = Missing(rules.na, rules.classes, guesses=parsed.guesses)
    spelt, blank = Counter[str](), []
    known: dict[tuple[type, Any], str | Refusal | None] = {}
    values: list[str | None] = []
    for row, cell in enumerate(parsed.cells[roles.label]):
        key = (type(cell), cell) if isinstance(cell, str | float | int) else None
        found = known.get(key, known) if key is not None else known
        if found is known:
            found = _label(cell, roles.label, missing, in_seconds=roles.label in parsed.seconds)
            if key is not None:
                known[key] = found
        if isinstance(found, Refusal):
            findings.refuse(row, found)
            found = None
        elif found is None and row not in findings.refused:
            blank.append(row)
            if isinstance(cell, str) and cell.strip():
                spelt[cell.strip()] += 1
        values.append(found)  # type: ignore[arg-type]  # the default is gone by now
    if blank:
        text = f"{len(blank)} of {findings.rows} rows have no label, and are left out: {findings.location(blank[0])}"
        if len(blank) == findings.rows:
            text = f"no row has a label: column {roles.label!r} is blank in every row"
        text += f"; as which count {count_texts(spelt)}" if spelt else ""
        first = [findings.location(row, roles.label, parsed.cells[roles.label][row]) for row in blank[:FIRST]]
        findings.add("no_label", text, len(blank), first)
    _note_unusual(values, roles, findings)
    return _Labels(values, len(blank), spelt)


def _label(cell: Any, name: str, missing: Missing, *, in_seconds: bool) -> str | Refusal | None:
    """Return a label as text, None if there is none, or why it cannot be one."""
    try:
        cell = cell.tolist() if hasattr(cell, "tolist") else cell  # a scalar of NumPy
        if type(cell) is int:
            value: Any = cell  # as a float, two beyond 53 bits would become one class
        else:
            value = iso_of(cell) if in_seconds and cell is not None else plain(cell)
    except (ValueError, OverflowError) as error:
        return Refusal(Reason.BAD_FIELD, f"label {name!r} is no text, number or truth value: {error}")
    if value is None or (isinstance(value, str) and missing.is_missing(value)):
        return None
    if isinstance(value, dict | list):
        kind = f"an object; --flatten makes {name}.… of it" if isinstance(value, dict) else "a list"
        return Refusal(Reason.BAD_FIELD, f"label {name!r} is {kind}: a label is a text, a number or a truth value")
    text = class_name(value)
    if not is_unicode(text):
        return Refusal(Reason.NOT_UTF8, f"label {name!r} is no Unicode text: it has half of a surrogate pair")
    return text


def _note_unusual(values: Sequence[str | None], roles: Roles, findings: Findings) -> None:
    """Note the labels that no reply may have, and those of several lines, as a stray quote makes them."""
    unusual = {text for text in set(values) if text is not None and (len(text) > TEXT_BYTES_MAX // 4 or "\n" in text)}
    long = {text for text in unusual if len(text.encode()) > TEXT_BYTES_MAX}
    tall = {text for text in unusual if "\n" in text}
    for kind, texts, what in (
        ("long_label", long, f"longer than {TEXT_BYTES_MAX} bytes: a daemon refuses such a reply"),
        ("tall_label", tall, "of several lines: perhaps a quote is not closed"),
    ):
        rows = [row for row, text in enumerate(values) if text in texts] if texts else []
        if rows:
            first = [findings.location(row, roles.label, values[row]) for row in rows[:FIRST]]
            text = f"{len(rows)} of {findings.rows} labels are {what}: {first[0]}: {first[0].value}"
            findings.add(kind, text, len(rows), first)


def _rows(
    parsed: Parsed, labels: Sequence[str | None], times: Mapping[str, Sequence[float | None]], findings: Findings
) -> list[Recorded]:
    """Return the rows that are events, in order of their times."""
    moments = _filled(times["time"]) if "time" in times else list(map(float, range(len(labels))))
    known = times.get("label_time", itertools.repeat(None))
    refused = findings.refused
    found = [
        (row, Recorded(features, label, moment, late))
        for row, (features, label, moment, late) in enumerate(
            zip(parsed.features, labels, moments, known, strict=False)
        )
        if label is not None and row not in refused
    ]
    if "time" in times:
        found = _sorted(found, findings)
    return [recorded for _, recorded in found]


def _note_label_times(rows: Sequence[Recorded], name: str, time: str | None, findings: Findings) -> None:
    """Note times of labels that mean nothing: before their events, or beside events without times."""
    early = sum(row.label_time is not None and row.label_time < row.time for row in rows)
    if time is None:
        text = (
            f"column {name!r} has times of labels, but events have none, and come at second 0, 1, 2 …: name --time too"
        )
        findings.note("label_time", text)
    elif early:
        text = f"column {name!r}: {early} of {len(rows)} labels are known before their event: is it the right column?"
        findings.note("label_time", text, early)


def _filled(times: Sequence[float | None]) -> list[float]:
    """Return *times*; a row without one is taken to be as late as the row before it, the first as the first that is."""
    latest = next((time for time in times if time is not None), 0.0)
    filled = []
    for time in times:
        latest = latest if time is None else time
        filled.append(latest)
    return filled


def _sorted(rows: list[tuple[int, Recorded]], findings: Findings) -> list[tuple[int, Recorded]]:
    """Return *rows* in order of their times, and note it if they came in another."""
    late = [number for (_, before), (number, row) in itertools.pairwise(rows) if row.time < before.time]
    if not late:
        return rows
    time_of: Callable[[tuple[int, Recorded]], float] = lambda pair: pair[1].time  # noqa: E731
    if all(before.time >= row.time for (_, before), (_, row) in itertools.pairwise(rows)):
        findings.note("sorted", "the rows come newest first: sorted by their times", len(late))
        return sorted(reversed(rows), key=time_of)  # noqa: C414  # of two at one time, the last one comes first
    text = f"{len(late)} rows come before their time ({findings.location(late[0])} first): sorted by their times"
    findings.note("sorted", text, len(late))
    return sorted(rows, key=time_of)


def _shift_to_1970(rows: list[Recorded]) -> list[Recorded]:
    """Return *rows*, shifted to begin at 0 if they begin before 1970: the daemon's clock has no earlier time."""
    shift = min(0.0, rows[0].time)
    if shift == 0.0:
        return rows
    return [
        row._replace(time=row.time - shift, label_time=None if row.label_time is None else row.label_time - shift)
        for row in rows
    ]
