"""Types `Records`: what their values say counts, as in a live daemon, and its own code decides what is refused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import msgspec

from streamal.core.codec.features import checked, decode_features, keep_known
from streamal.core.records import Reason, Refusal
from streamal.core.schema import Schema, kind_of, quote
from streamal.recordings.account import Column
from streamal.recordings.columns import is_unicode, is_vector, nested_type, note_empty
from streamal.recordings.findings import Findings, count_texts, plural, shorten
from streamal.recordings.formats.json_rows import inner_fields
from streamal.recordings.formats.values import plain
from streamal.recordings.numerals import is_code, parse_number
from streamal.recordings.rules import ReadingRules, Roles, is_index
from streamal.recordings.table import Parsed, Records
from streamal.recordings.text_columns import kind_of_texts

__all__ = ["parse_records"]

_ABSENT = object()


def parse_records(records: Records, roles: Roles, rules: ReadingRules, findings: Findings) -> Parsed:
    """Return the rows of *records*; each that a live daemon would refuse is noted in *findings*."""
    reader = _Reader(roles, rules, records.raw)
    rows: list[dict[str, Any]] = []
    for number, (features, beside) in enumerate(zip(records.features, records.beside, strict=True)):
        found = {} if features is None else reader.read(features, beside)
        if isinstance(found, Refusal):
            findings.refuse(number, found)
            found = {}
        rows.append(found)
    kinds = _kinds(rows, rules)
    _refuse_rows(rows, kinds, rules, findings)
    note_empty(rows, rules, findings)
    if not rules.declared:
        _note_quoted_numbers(rows, kinds, findings)
    if not rules.declared:
        seen = {name for number, row in enumerate(rows) if number not in findings.refused for name in row}
        kinds = {name: kind for name, kind in kinds.items() if name in seen}
    cells = {name: list(_cells(records, name, rules)) for name in roles.named}
    columns = _describe(rows, kinds, reader, findings)
    for name, column in cells.items():
        if any(cell is not _ABSENT for cell in column):
            columns[name] = Column(name, roles.of(name))
    if reader.spelt:
        total = sum(reader.spelt.values())
        findings.note("missing", f"{plural(total, 'value')} missing, spelt {count_texts(reader.spelt)}", total)
    return Parsed(
        features=rows,
        kinds=kinds,
        columns=columns,
        cells={name: [None if cell is _ABSENT else cell for cell in column] for name, column in cells.items()},
        guesses=False,
    )


class _Reader:
    """Picks the features out of one row after the other."""

    def __init__(self, roles: Roles, rules: ReadingRules, raw: bool) -> None:
        self.roles, self.rules, self._raw = roles, rules, raw
        self.beside, self.unused, self.spelt = dict[str, None](), dict[str, None](), Counter[str]()
        self._schema = _schema_of(rules.declared, rules) if rules.drops_undeclared else None
        self._wanted: dict[str, bool] = {}
        self._missing = {text.strip() for text in (*rules.na, *rules.wire.missing)}

    def read(self, features: Mapping[str, Any], beside: Mapping[str, Any]) -> dict[str, Any] | Refusal:
        """Return the features of a row, numbers as floats, or what is wrong with one of them."""
        if beside is not features:
            self.beside |= dict.fromkeys(name for name in beside if name not in self.roles.named)
        wanted = {}
        for name, value in self._items(features):
            if self._is_wanted(name):
                if name in wanted:
                    return Refusal(Reason.BAD_FIELD, f"feature {quote(name)} stands there twice")
                wanted[name] = value
        found = decode_features(wanted, self._schema) if self._raw else _convert_all(wanted)
        if isinstance(found, Refusal):
            hint = "; --flatten makes names like a.b of it" if "is an object" in found.detail else ""
            return Refusal(found.reason, found.detail + hint)
        found = keep_known(found, self.rules.wire, self._schema)
        if self._missing:
            absent = {n: v.strip() for n, v in found.items() if type(v) is str and v.strip() in self._missing}
            self.spelt.update(absent.values())
            found = {name: value for name, value in found.items() if name not in absent}
        return found

    def _items(self, features: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
        """Yield name and value of each feature; of an object, if one is to flatten, those of its fields."""
        for key, value in features.items():
            name = f"{prefix}{key}"
            if self.rules.flatten and name not in self.roles.named:
                inner = inner_fields(value) if isinstance(value, msgspec.Raw) else value
                if isinstance(inner, dict):
                    yield from self._items(inner, f"{name}.")
                    continue
            yield name, value

    def _is_wanted(self, name: str) -> bool:
        wanted = self._wanted.get(name)
        if wanted is None:
            roles, known = self.roles, name in self.rules.declared
            wanted = roles.of(name) == "feature" and (known or not is_index(name))
            self._wanted[name] = wanted
            if name not in roles.named and not (wanted and roles.is_feature(name, self.rules)):
                self.unused[name] = None
        return wanted


def _convert_all(features: Mapping[str, Any]) -> dict[str, Any] | Refusal:
    """Return Python's values as JSON would hold them, without NaN, or why one cannot be a feature."""
    found = {}
    for name, value in features.items():
        converted = _convert(name, value)
        if isinstance(converted, Refusal):
            return converted
        if converted is not None or value is None:
            found[name] = converted
    return found


def _convert(name: str, value: Any) -> Any:
    try:
        value = plain(value)
    except OverflowError:
        return Refusal(Reason.NUMBER_OUT_OF_RANGE, f"feature {quote(name)} is a number beyond any double")
    except ValueError as error:
        return Refusal(Reason.BAD_FIELD, f"feature {quote(name)} is no number, text or truth value: {error}")
    if isinstance(value, list | dict) and value != [] and not is_vector(value):
        text = f"feature {quote(name)} is {nested_type(value)}, not a number, text, truth value or vector"
        return Refusal(Reason.BAD_FIELD, text)
    if isinstance(value, str) and not is_unicode(value):
        return Refusal(Reason.NOT_UTF8, f"feature {quote(name)} is no Unicode text: half of a surrogate pair")
    return value


def _kinds(rows: Sequence[Mapping[str, Any]], rules: ReadingRules) -> dict[str, str]:
    """Return the declared kinds, else for each name the kind of most of its values."""
    if rules.declared:
        return dict(rules.declared)
    counts: dict[str, Counter[str]] = {}
    for row in rows:
        for name, value in row.items():
            if value is not None:
                counts.setdefault(name, Counter())[kind_of(value)] += 1
    kinds = {}
    for name, found in counts.items():
        kinds[name] = found.most_common(1)[0][0]
        if kinds[name] == "string":
            kinds[name] = kind_of_texts(Counter(v for row in rows if isinstance(v := row.get(name), str)))
    return kinds


def _note_quoted_numbers(rows: Sequence[Mapping[str, Any]], kinds: Mapping[str, str], findings: Findings) -> None:
    """Note the features that are texts of numbers alone: a daemon takes each for a category."""
    for name, kind in kinds.items():
        if kind not in {"string", "text"}:
            continue
        texts = [value for row in rows if isinstance(value := row.get(name), str)]
        if texts and all(parse_number(text) is not None and not is_code(text) for text in texts):
            text = (
                f"feature {name!r}: numbers as texts, such as {shorten(texts[0])}, stay texts: send them without quotes"
            )
            findings.note("guess", text)


def _schema_of(kinds: Mapping[str, str], rules: ReadingRules) -> Schema:
    """Return the schema of a live daemon with these *kinds*."""
    return Schema(kinds, "drop" if rules.drops_undeclared or rules.open else "refuse", rules.open)


def _refuse_rows(rows: list[dict[str, Any]], kinds: Mapping[str, str], rules: ReadingRules, findings: Findings) -> None:
    """Refuse the rows that break a bound, or whose values are of other types than the schema's; drop the nulls."""
    schema = _schema_of(rules.declared if rules.open else kinds, rules)
    wire = replace(rules.wire, null="missing") if rules.null_is_missing else rules.wire
    for number, row in enumerate(rows):
        if number in findings.refused:
            continue
        if not rules.declared and not any(value is not None for value in row.values()):
            rows[number] = {}
            continue
        found = checked(None, None, row, wire, schema if rules.declared else None)
        refusal = found if isinstance(found, Refusal) else schema.mismatch(found)
        if refusal is not None:
            findings.refuse(number, refusal)
        elif not isinstance(found, Refusal):
            rows[number] = found


def _cells(records: Records, name: str, rules: ReadingRules) -> Iterator[Any]:
    """Yield what each row has under *name*, beside its features or among them; `_ABSENT` where there is nothing."""
    for features, beside in zip(records.features, records.beside, strict=True):
        value = beside.get(name, _ABSENT)
        if value is _ABSENT and features is not None:
            value = features.get(name, _ABSENT)
        if value is _ABSENT and rules.flatten and "." in name:
            value = _inner(features or {}, name, _inner(beside, name, _ABSENT))
        yield _decoded(value) if isinstance(value, msgspec.Raw) else value


def _inner(row: Any, name: str, otherwise: Any) -> Any:
    """Return what *row* has under the parts of the dotted *name*."""
    for part in name.split("."):
        row = _decoded(row) if isinstance(row, msgspec.Raw) else row
        if not isinstance(row, Mapping) or part not in row:
            return otherwise
        row = row[part]
    return row


def _decoded(raw: msgspec.Raw) -> Any:
    """Return the value in *raw*; itself if it is a number beyond any double, which is no label or time."""
    try:
        return msgspec.json.decode(raw)
    except (ValueError, RecursionError):
        return raw


def _describe(
    rows: Sequence[Mapping[str, Any]], kinds: Mapping[str, str], reader: _Reader, findings: Findings
) -> dict[str, Column]:
    """Return how each column was read, and note the ones beside the features."""
    there = Counter(name for row in rows for name, value in row.items() if value is not None)
    events = sum(bool(row) for row in rows)
    columns = {name: Column(name, "feature", kind, events - there[name]) for name, kind in kinds.items() if there[name]}
    columns |= {name: Column(name, reader.roles.of_unused(name)) for name in reader.unused}
    for name in filter(is_index, reader.unused):
        findings.note("index", f"field {name!r} is a row number without a name: left out")
    beside = [name for name in reader.beside if name not in columns]
    if beside:
        shown = ", ".join(map(repr, beside[:5])) + (" …" if beside[5:] else "")
        findings.note("beside", f"what stands beside 'features' is no feature: {shown}", len(beside))
    columns |= {name: Column(name, "dropped" if name in reader.roles.drop else "beside") for name in beside}
    return columns
