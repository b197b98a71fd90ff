"""Types `Records`: what their values say counts, as in a live daemon, and its own code decides what is refused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from streamal.core.codec.features import checked
from streamal.core.records import Reason, Refusal
from streamal.core.schema import Schema, kind_of, quote
from streamal.recordings.account import Column
from streamal.recordings.columns import is_unicode, is_vector, nested_type, note_empty
from streamal.recordings.findings import Findings, count_texts
from streamal.recordings.formats.values import plain
from streamal.recordings.rules import ReadingRules, Roles
from streamal.recordings.table import Parsed, Records
from streamal.recordings.text_columns import kind_of_texts

__all__ = ["parse_records"]

_ABSENT = object()
_NESTED = frozenset({list, dict})


def parse_records(records: Records, roles: Roles, rules: ReadingRules, findings: Findings) -> Parsed:
    """Return the rows of *records*; each that a live daemon would refuse is noted in *findings*."""
    reader = _Reader(roles, rules, records.decoded)
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
    cells = {name: list(_cells(records, name, rules)) for name in roles.named}
    columns = _describe(rows, kinds, reader, findings)
    for name, column in cells.items():
        if any(cell is not _ABSENT for cell in column):
            columns[name] = Column(name, roles.of(name))
    if reader.spelt:
        total = sum(reader.spelt.values())
        findings.note("missing", f"{total} values are missing, spelt {count_texts(reader.spelt)}", total)
    return Parsed(
        features=rows,
        kinds=kinds,
        columns=columns,
        cells={roles.of(n): [None if cell is _ABSENT else cell for cell in column] for n, column in cells.items()},
        guesses=False,
    )


class _Reader:
    """Picks the features out of one row after the other."""

    def __init__(self, roles: Roles, rules: ReadingRules, decoded: bool) -> None:
        self.roles, self.rules, self._decoded = roles, rules, decoded
        self.beside, self.unused, self.spelt = dict[str, None](), dict[str, None](), Counter[str]()
        self._wanted: dict[str, bool] = {}
        self._missing = {text.strip() for text in (*rules.na, *rules.missing)}

    def read(self, features: Mapping[str, Any], beside: Mapping[str, Any]) -> dict[str, Any] | Refusal:
        """Return the features of a row, numbers as floats, or what is wrong with one of them."""
        if beside is not features:
            self.beside |= dict.fromkeys(name for name in beside if name not in self.roles.named)
        found: dict[str, Any] = {}
        for name, value in self._items(features):
            if not self._is_wanted(name):
                continue
            if name in found:
                return Refusal(Reason.BAD_FIELD, f"feature {quote(name)} stands there twice")
            kind = type(value)
            if kind is int or kind in _NESTED or not (self._decoded or kind is float):
                value = self._convert(name, value)  # noqa: PLW2901
                if isinstance(value, Refusal):
                    return value
            if value is None and (self.rules.null_is_missing or kind is not type(None)):
                continue  # NaN is no null, but nothing either
            if kind is str and self._missing and value.strip() in self._missing:
                self.spelt[value.strip()] += 1
                continue
            found[name] = value
        return found

    def _convert(self, name: str, value: Any) -> Any:
        """Return *value* as JSON would hold it, numbers as floats, or why it cannot."""
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

    def _items(self, features: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
        for key, value in features.items():
            name = f"{prefix}{key}"
            if self.rules.flatten and isinstance(value, dict) and name not in self.roles.named:
                yield from self._items(value, f"{name}.")
            else:
                yield name, value

    def _is_wanted(self, name: str) -> bool:
        wanted = self._wanted.get(name)
        if wanted is None:
            wanted = self.roles.is_used(name, self.rules) and self.roles.of(name) == "feature"
            self._wanted[name] = wanted
            if not wanted and name not in self.roles.named:
                self.unused[name] = None
        return wanted


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


def _refuse_rows(
    rows: Sequence[dict[str, Any]], kinds: Mapping[str, str], rules: ReadingRules, findings: Findings
) -> None:
    """Refuse the rows that break a bound, or whose values are of other types than the schema's."""
    known = rules.declared if rules.open else kinds
    schema = Schema(known, "drop" if rules.drops_undeclared or rules.open else "refuse", rules.open)
    for number, row in enumerate(rows):
        if number in findings.refused:
            continue
        found = checked(None, None, row, rules.wire, None) if row else None
        refusal = found if isinstance(found, Refusal) else schema.mismatch(row)
        if refusal is not None:
            findings.refuse(number, refusal)


def _cells(records: Records, name: str, rules: ReadingRules) -> Iterator[Any]:
    """Yield what each row has under *name*, beside its features or among them; `_ABSENT` where there is nothing."""
    for features, beside in zip(records.features, records.beside, strict=True):
        value = beside.get(name, _ABSENT)
        if value is _ABSENT and features is not None:
            value = features.get(name, _ABSENT)
        if value is _ABSENT and rules.flatten and "." in name:
            value = _inner(features or {}, name, _inner(beside, name, _ABSENT))
        yield value


def _inner(row: Any, name: str, otherwise: Any) -> Any:
    """Return what *row* has under the parts of the dotted *name*."""
    for part in name.split("."):
        if not isinstance(row, Mapping) or part not in row:
            return otherwise
        row = row[part]
    return row


def _describe(
    rows: Sequence[Mapping[str, Any]], kinds: Mapping[str, str], reader: _Reader, findings: Findings
) -> dict[str, Column]:
    """Return how each column was read, and note the ones beside the features."""
    there = Counter(name for row in rows for name, value in row.items() if value is not None)
    events = sum(bool(row) for row in rows)
    columns = {name: Column(name, "feature", kind, events - there[name]) for name, kind in kinds.items()}
    columns |= {name: Column(name, reader.roles.of_unused(name)) for name in reader.unused}
    beside = [name for name in reader.beside if name not in columns]
    if beside:
        shown = ", ".join(map(repr, beside[:5])) + (" …" if beside[5:] else "")
        findings.note("beside", f"what stands beside 'features' is no feature: {shown}", len(beside))
    columns |= {name: Column(name, "dropped" if name in reader.roles.drop else "beside") for name in beside}
    return columns
