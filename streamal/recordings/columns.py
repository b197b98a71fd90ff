"""Types the columns of a `Table`: each cell a feature or missing, each row within the bounds of an event."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from streamal.core.codec.features import checked
from streamal.core.codec.wire_rules import WireRules
from streamal.core.records import FeatureValue, Reason, Refusal
from streamal.core.schema import kind_of, quote
from streamal.recordings.account import Column
from streamal.recordings.findings import FIRST, Findings, count_texts, plural, shorten
from streamal.recordings.missing import Missing
from streamal.recordings.rules import ReadingRules, Roles
from streamal.recordings.table import Parsed, Table
from streamal.recordings.text_columns import SHARE_MIN, TextColumn, read_texts, read_thousands

__all__ = ["is_unicode", "is_vector", "iso_of", "nested_type", "note_empty", "parse_table"]

_EPOCH_MS = (1e12, 4e12)
"""Milliseconds since 1970, from 2001 to 2096."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def parse_table(table: Table, roles: Roles, rules: ReadingRules, findings: Findings) -> Parsed:
    """Return the rows of *table*; what is left out of them is noted in *findings*."""
    missing = Missing((*rules.na, *rules.wire.missing))
    columns = {column.name: column for column in table.outside}
    read: dict[str, TextColumn] = {}
    for name, cells in table.columns.items():
        role = roles.of(name)
        columns[name] = Column(name, role)
        if role != "feature":
            continue
        if not roles.is_feature(name, rules):
            columns[name] = Column(name, "undeclared")
            continue
        column = _read_column(name, cells, table.kinds[name], rules, missing, findings)
        read[name] = column
        spellings = {text: count for text, count in column.spellings.items() if text.strip()}
        absent = column.nulls + sum(column.spellings.values()) + sum(column.misfits.values())
        columns[name] = Column(name, "feature", column.kind, absent, spellings, column.notes)
        if absent == len(cells) and table.kinds[name] not in {"time", "nested"}:
            findings.note("empty_column", f"column {name!r} holds no value in any row: it is no feature")
    if any(column.has_decimal_commas for column in read.values()):
        for name in [name for name in read if not table.kinds[name]]:
            read[name] = read_thousands(read[name], table.columns[name], missing)
            columns[name] = replace(columns[name], notes=read[name].notes)
    rank = {name: position for position, name in enumerate(table.names)}
    columns = dict(sorted(columns.items(), key=lambda item: rank.get(item[0], len(rank))))
    _note_columns(columns, findings)
    return Parsed(
        features=_rows_of(read, len(next(iter(table.columns.values()), ())), rules, findings),
        kinds={name: column.kind for name, column in read.items() if column.kind},
        columns=columns,
        cells={name: table.columns[name] for name in roles.named if name in table.columns},
        guesses=True,
        seconds=frozenset(name for name in roles.named if table.kinds.get(name) == "time"),
    )


def _read_column(
    name: str, cells: Sequence[Any], kind: str, rules: ReadingRules, missing: Missing, findings: Findings
) -> TextColumn:
    """Return the cells of a feature, typed; rows that a live daemon would refuse for it are noted."""
    declared = rules.declared.get(name)
    if len(name.encode(errors="replace")) > rules.wire.feature_name_bytes_max:
        raise findings.error(
            f"the name {quote(name)} has {len(name.encode())} bytes, {rules.wire.feature_name_bytes_max} allowed "
            "(limits.feature_name_bytes): rename the column, or drop it"
        )
    if kind in {"", "string"}:
        column = read_texts(cells, missing, declared, typed=kind == "string")
    else:
        column = _TYPED[kind](cells)
        if declared is not None and column.kind:
            column = _as_declared(name, column, declared, findings)
    if column.misfits:
        _name_misfits(name, cells, column, declared, findings)
    if column.kind == "number":
        _refuse_large(name, column.values, rules.wire, findings)
    elif column.kind in {"string", "text"}:
        _refuse_surrogates(name, column.values, findings)
    elif kind == "nested":
        _refuse_nested(name, cells, column, rules.wire, findings)
    return column


def _numbers(cells: Sequence[Any]) -> TextColumn:
    """Return a column of numbers; NaN and the infinite ones are missing."""
    if None not in cells and all(map(math.isfinite, cells)):
        return TextColumn("number", list(cells))
    values = [cell if cell is not None and math.isfinite(cell) else None for cell in cells]
    infinite = Counter(f"{cell}" for cell in cells if cell is not None and math.isinf(cell))
    absent = values.count(None)
    return TextColumn("number" if absent < len(cells) else "", values, absent - sum(infinite.values()), infinite)


def _booleans(cells: Sequence[Any]) -> TextColumn:
    nulls = sum(cell is None for cell in cells)
    return TextColumn("boolean" if nulls < len(cells) else "", list(cells), nulls)


def _times(cells: Sequence[Any]) -> TextColumn:
    """Return moments as ISO 8601: a live daemon sees them as such texts."""
    values = [None if cell is None else iso_of(cell) for cell in cells]
    nulls = sum(cell is None for cell in cells)
    beyond = values.count(None) - nulls
    notes = ["moments are read as texts in ISO 8601: name them with --time, or drop them"]
    if beyond:
        notes.insert(0, f"{plural(beyond, 'moment')} beyond the years that Python knows: missing")
    return TextColumn("string" if any(values) else "", values, nulls + beyond, notes=tuple(notes))


def _nested(cells: Sequence[Any]) -> TextColumn:
    """Return lists of numbers as vectors of the length that most have; whatever else is there is refused later."""
    kinds = Counter(kind_of(cell) for cell in cells if is_vector(cell))
    kind = kinds.most_common(1)[0][0] if kinds else ""
    values = [cell if is_vector(cell) and kind_of(cell) == kind else None for cell in cells]
    return TextColumn(kind, values, sum(cell is None for cell in cells), notes=() if kind else ("it holds no vectors",))


def is_vector(cell: Any) -> bool:
    """Return whether *cell* is a list of floats."""
    return isinstance(cell, list) and bool(cell) and all(type(each) is float for each in cell)


_TYPED: Mapping[str, Callable[[Sequence[Any]], TextColumn]] = {
    "number": _numbers,
    "boolean": _booleans,
    "time": _times,
    "nested": _nested,
}


def iso_of(seconds: float) -> str | None:
    """Return the moment *seconds* after the epoch in ISO 8601 (UTC), None if Python has no such year.

    >>> iso_of(0.0), iso_of(2.6e11)
    ('1970-01-01T00:00:00', None)
    """
    try:
        return (_EPOCH + timedelta(seconds=seconds)).replace(tzinfo=None).isoformat()
    except (OverflowError, ValueError):
        return None


def _as_declared(name: str, column: TextColumn, declared: str, findings: Findings) -> TextColumn:
    """Return a typed *column* as the kind that is *declared*; another JSON type is refused, as by a live daemon."""
    plain = {"text": "string"}.get(declared, declared)
    if column.kind == plain:
        return replace(column, kind=declared)
    for row, value in enumerate(column.values):
        if value is not None:
            text = f"feature {quote(name)} is a {column.kind}, not a {declared}"
            findings.refuse(row, Refusal(Reason.FEATURE_TYPE, text))
    return replace(column, kind=declared, values=[None] * len(column.values))


def _name_misfits(
    name: str, cells: Sequence[Any], column: TextColumn, declared: str | None, findings: Findings
) -> None:
    """Note the cells that hold no value of the column's kind, or raise if they are too many to be slips."""
    rows = [row for row, value in enumerate(column.values) if value is None and cells[row] in column.misfits]
    first, count = rows[0], len(rows)
    present = sum(value is not None for value in column.values) + count
    what = {"boolean": "true or false"}.get(column.kind, f"a {column.kind}")
    if declared is not None and count > (1 - SHARE_MIN) * present:
        raise findings.error(
            f"{findings.location(first)}: column {name!r} is {shorten(cells[first])}, not {what} as declared; "
            f"{count} of {present} cells are none"
        )
    shown = ", ".join(f"{findings.location(row)} {shorten(cells[row])}" for row in rows[:FIRST])
    text = f"column {name!r}: {count} of {present} cells are not {what}, and so missing: {shown}"
    locations = [findings.location(row, name, cells[row]) for row in rows[:FIRST]]
    findings.add("misfit", text + (" …" if count > FIRST else ""), count, locations)


def _refuse_large(name: str, values: Sequence[Any], wire: WireRules, findings: Findings) -> None:
    """Refuse the rows whose number is beyond the bound, as a live daemon does."""
    bound = wire.magnitude_max
    present = values if None not in values else [value for value in values if value is not None]
    if not present or (max(present) <= bound and min(present) >= -bound):
        return
    text = f"feature {quote(name)} is beyond ±{bound:g}, the bound of a number (limits.magnitude)"
    if all(_EPOCH_MS[0] <= value < _EPOCH_MS[1] for value in present[:100]):
        text += "; if it is a time in milliseconds, name it with --time or --label-time, or drop it"
    for row, value in enumerate(values):
        if value is not None and not -bound <= value <= bound:
            findings.refuse(row, Refusal(Reason.NUMBER_OUT_OF_RANGE, text))


def _refuse_surrogates(name: str, values: Sequence[Any], findings: Findings) -> None:
    """Refuse the rows whose text is no Unicode (half of a surrogate pair): no JSON can hold it."""
    try:
        "".join(filter(None, values)).encode()
    except UnicodeEncodeError:
        for row, value in enumerate(values):
            if value is not None and not is_unicode(value):
                text = f"{name!r} is no Unicode text: it has half of a surrogate pair"
                findings.refuse(row, Refusal(Reason.NOT_UTF8, text))


def is_unicode(text: str) -> bool:
    """Return whether *text* has no half of a surrogate pair, so that JSON can hold it."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _refuse_nested(name: str, cells: Sequence[Any], column: TextColumn, wire: WireRules, findings: Findings) -> None:
    """Refuse the rows with an object, or with a list that is no vector of the column's length or bounds."""
    for row, (cell, value) in enumerate(zip(cells, column.values, strict=True)):
        if cell is None:
            continue
        if value is None:
            kind = kind_of(cell) if is_vector(cell) else nested_type(cell)
            reason = Reason.FEATURE_TYPE if is_vector(cell) else Reason.BAD_FIELD
            text = f"feature {quote(name)} is {kind}, not a {column.kind or 'number, text, truth value or vector'}"
            findings.refuse(row, Refusal(reason, text))
        else:
            found = checked(None, None, {name: value}, wire, None)
            if isinstance(found, Refusal):
                findings.refuse(row, found)


def nested_type(cell: Any) -> str:
    """Return what a list or an object is called in a message."""
    return "an object" if isinstance(cell, dict) else "a list of other things"


def _note_columns(columns: Mapping[str, Column], findings: Findings) -> None:
    """Note, over all columns, how missing values are spelt, which columns are empty and what was guessed."""
    spelt = [(column, sum(column.spellings.values())) for column in columns.values() if column.spellings]
    if spelt:
        spellings = Counter[str]()
        for column, _ in spelt:
            spellings.update(column.spellings)
        cells = sum(count for _, count in spelt)
        names = ", ".join(f"{column.name!r} {count}" for column, count in spelt[:5]) + (" …" if spelt[5:] else "")
        findings.note(
            "missing", f"{plural(cells, 'cell')} missing, spelt {count_texts(spellings)}: columns {names}", cells
        )
    for column in columns.values():
        if column.role == "index":
            findings.note("index", f"column {column.name!r} is a row number without a name: left out")
        for note in column.notes:
            findings.note("guess", f"column {column.name!r}: {note}")


def _rows_of(
    read: Mapping[str, TextColumn], count: int, rules: ReadingRules, findings: Findings
) -> list[dict[str, FeatureValue]]:
    """Return the features of each of *count* rows, without the missing ones; rows with too many are refused."""
    names = [name for name, column in read.items() if column.kind]
    values = [read[name].values for name in names]
    if not any(None in column for column in values):
        rows = [dict(zip(names, row, strict=True)) for row in zip(*values, strict=True)]
    else:
        rows = [
            {name: value for name, value in zip(names, row, strict=True) if value is not None}
            for row in zip(*values, strict=True)
        ]
    rows = rows or [{} for _ in range(count)]
    note_empty(rows, rules, findings)
    if len(names) > rules.wire.features_max:
        for number, row in enumerate(rows):
            if len(row) > rules.wire.features_max:
                text = f"{len(row)} features, {rules.wire.features_max} allowed (limits.features)"
                findings.refuse(number, Refusal(Reason.FEATURES_TOO_MANY, text))
    return rows


def note_empty(rows: Sequence[Mapping[str, Any]], rules: ReadingRules, findings: Findings) -> None:
    """Refuse the rows without a declared feature; where none is declared, note them: a daemon will refuse them."""
    known = rules.declared.keys() if rules.drops_undeclared else None
    empty = [
        number
        for number, row in enumerate(rows)
        if (not row if known is None else known.isdisjoint(row)) and number not in findings.refused
    ]
    if not empty:
        return
    if rules.declared:
        for number in empty:
            text = "no feature left: there is none, or none that the schema knows"
            findings.refuse(number, Refusal(Reason.FEATURES_EMPTY, text))
    else:
        first = findings.location(empty[0])
        text = f"{len(empty)} of {findings.rows} rows hold no feature, and a daemon refuses them: {first}"
        findings.add("no_features", text, len(empty), [findings.location(number) for number in empty[:FIRST]])
