"""Read recorded streams: CSV, JSON lines, Parquet or a data set of River, as rows of features, true label and times."""

from __future__ import annotations

import csv
import gzip
import importlib
import io
import itertools
import json
import math
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from streamal import INSTALL
from streamal.core.labels import class_name
from streamal.core.records import FeatureValue, Scalar
from streamal.errors import ConfigError
from streamal.recordings.account import Account, Column, Finding, Location, Role

__all__ = ["Recorded", "Stream", "is_blank", "raw_rows", "read_stream"]

Row = Mapping[str, Any]

_WORDS_OF_TEXT = 5
"""A column of strings with more words than this, on average, is free text rather than categories."""


class Recorded(NamedTuple):
    """One event of a recorded stream; *label* is the true one, *label_time* is when it became known (seconds)."""

    features: dict[str, FeatureValue]
    label: str
    time: float
    label_time: float | None


@dataclass(frozen=True, slots=True)
class Stream:
    """A recorded stream in memory.

    Attributes:
        name: its name in a report.
        rows: in order of arrival; times never decrease.
        kinds: feature -> "number" | "string" | "boolean" | "text".
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


def read_stream(
    source: str,
    label: str,
    time: str | None = None,
    label_time: str | None = None,
    drop: Sequence[str] = (),
    limit: int | None = None,
) -> Stream:
    """Return the recorded stream in *source*.

    Args:
        source: a path (``.csv``, ``.jsonl``, either with ``.gz``, or ``.parquet``), or ``river:NAME``.
        label: the column of the true label.
        time: the column of the event's time (seconds since the epoch, or ISO 8601); without it one event per second.
        label_time: the column of the time when the label became known; without it the annotators' delay decides.
        drop: columns that are no features, besides *label*, *time* and *label_time*.
        limit: the number of rows to read at most.

    A column whose values are all numbers becomes numbers, any other column strings; a blank (or NaN) is a missing
    feature. Rows without a label are left out.

    Raises:
        ConfigError: the source cannot be read, or a column does not exist.
    """
    rows = list(itertools.islice(raw_rows(source, label), limit))
    if not rows:
        raise ConfigError(f"stream {source}: no rows")
    columns = list(dict.fromkeys(itertools.chain.from_iterable(rows)))
    for column in (label, time, label_time, *drop):
        if column is not None and column not in columns:
            raise ConfigError(f"stream {source}: there is no column {column!r}, but {', '.join(columns[:50])}")
    kinds = {
        column: _kind(row.get(column) for row in rows)
        for column in columns
        if column not in {label, time, label_time, *drop}
    }
    recorded = []
    latest = -math.inf
    for number, row in enumerate(rows):
        if is_blank(row.get(label)):
            continue
        latest = max(latest, float(number) if time is None else _seconds(row.get(time), source, time, number))
        known_at = row.get(label_time) if label_time is not None else None
        recorded.append(
            Recorded(
                {c: v for c, kind in kinds.items() if (v := _value(row.get(c), kind)) is not None},
                class_name(row[label]),
                latest,
                None if is_blank(known_at) else _seconds(known_at, source, str(label_time), number),
            )
        )
    if not recorded:
        raise ConfigError(f"stream {source}: column {label!r}, the label, is blank in every row")
    roles: dict[str, Role] = {**dict.fromkeys(drop, "dropped"), label: "label"}
    roles |= {name: role for name, role in ((time, "time"), (label_time, "label_time")) if name is not None}  # type: ignore[misc]
    described = {
        name: Column(
            name, roles.get(name, "feature"), kinds.get(name, ""), sum(is_blank(row.get(name)) for row in rows)
        )
        for name in columns
    }
    classes = tuple(sorted({row.label for row in recorded}))
    return Stream(source, _shift_to_1970(recorded), kinds, classes, _account_of(rows, label), described)


def _account_of(rows: Sequence[Row], label: str) -> Account:
    unlabelled = [number for number, row in enumerate(rows, 1) if is_blank(row.get(label))]
    if not unlabelled:
        return Account(len(rows), len(rows))
    text = f"{len(unlabelled)} of {len(rows)} rows have no label and are left out, first row {unlabelled[0]}"
    finding = Finding("no_label", text, len(unlabelled), tuple(Location(number, label) for number in unlabelled[:3]))
    return Account(len(rows), len(rows) - len(unlabelled), (finding,))


def _shift_to_1970(rows: list[Recorded]) -> list[Recorded]:
    """Return *rows*, shifted to begin at 0 if they begin before 1970: the daemon's clock has no earlier time."""
    shift = min(0.0, rows[0].time)
    if shift == 0.0:
        return rows
    return [
        row._replace(time=row.time - shift, label_time=None if row.label_time is None else row.label_time - shift)
        for row in rows
    ]


def raw_rows(source: str, label: str) -> Iterator[Row]:
    """Yield the rows of *source* unchanged; *source*, *label* and errors are those of `read_stream`."""
    if source.startswith("river:"):
        return _river_rows(source.removeprefix("river:"), label)
    path = Path(source)
    if not path.is_file():
        raise ConfigError(f"stream {source}: no such file")
    name = path.name.removesuffix(".gz")
    if name.endswith(".csv"):
        return _text_rows(path, _csv_rows)
    if name.endswith((".jsonl", ".ndjson")):
        return _text_rows(path, _json_rows)
    if name.endswith(".parquet"):
        return _parquet_rows(path)
    raise ConfigError(f"stream {source}: the name must end in .csv, .csv.gz, .jsonl, .jsonl.gz or .parquet")


def _text_rows(path: Path, parse: Callable[[TextIO], Iterator[Row]]) -> Iterator[Row]:
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    try:
        with (
            gzip.open(path) if path.suffix == ".gz" else path.open("rb") as raw,
            io.TextIOWrapper(raw, encoding="utf-8-sig", newline="") as text,  # spreadsheets write a byte order mark
        ):
            yield from parse(text)
    except (OSError, EOFError, ValueError, csv.Error, zlib.error) as error:
        raise ConfigError(f"stream {path}: {error}") from error


def _csv_rows(text: TextIO) -> Iterator[Row]:
    reader = csv.DictReader(text)
    for row in reader:
        if None in row:
            raise ValueError(f"line {reader.line_num} has more fields than the header")
        yield row


def _json_rows(text: TextIO) -> Iterator[Row]:
    for number, line in enumerate(text, 1):
        if line.strip():
            try:
                row = _flatten(json.loads(line))
            except (ValueError, RecursionError) as error:
                raise ValueError(f"line {number}: {getattr(error, 'msg', error)}") from error
            yield row


def _flatten(row: Any) -> Row:
    """Return a JSON line as a row; the nested form ``{"features": {…}, …}`` is flattened."""
    if not isinstance(row, dict):
        raise ValueError("every line must be a JSON object")  # noqa: TRY004
    features = row.pop("features", {})
    return {**row, **features} if isinstance(features, dict) else {**row, "features": features}


def _parquet_rows(path: Path) -> Iterator[Row]:
    try:
        from pyarrow import parquet  # noqa: PLC0415
    except ImportError as error:
        raise ConfigError(f"stream {path}: Parquet needs pyarrow: {INSTALL.format(extra='parquet')}") from error
    try:
        for batch in parquet.ParquetFile(path).iter_batches():
            yield from batch.to_pylist()
    except (OSError, ValueError) as error:  # pyarrow's errors are either
        raise ConfigError(f"stream {path}: {error}") from error


def _river_rows(name: str, label: str) -> Iterator[Row]:
    """Yield the rows of ``river.datasets.NAME`` (``synth.NAME`` too), the target under *label*."""
    module_name, _, class_name = f"river.datasets.{name}".rpartition(".")
    try:
        data = getattr(importlib.import_module(module_name), class_name)()
        rows = iter(data)
    except Exception as error:
        raise ConfigError(f"stream river:{name}: {type(error).__name__}: {error}; try river:Phishing") from error
    for features, target in rows:
        if label in features:
            raise ConfigError(f"--label {label}: river:{name} has a feature of that name; call its target otherwise")
        yield {**{str(key): value for key, value in features.items()}, label: target}


def _kind(values: Iterable[Any]) -> str:
    """Return the type of a column: "number" if all its values are finite numbers, "boolean", "text" or "string"."""
    present = [value for value in values if not is_blank(value)]
    if present and all(isinstance(value, bool) for value in present):
        return "boolean"
    if present and all(_number(value) is not None for value in present):
        return "number"
    words = sum(len(str(value).split()) for value in present[:1_000])
    return "text" if words > _WORDS_OF_TEXT * min(len(present), 1_000) else "string"


def is_blank(value: Any) -> bool:
    """Return True if *value* stands for a missing one: a blank, null or NaN."""
    if isinstance(value, str):
        return value.strip().lower() in {"", "nan"}
    return value is None or (isinstance(value, float) and math.isnan(value))


def _number(value: Any) -> float | None:
    if isinstance(value, bool):
        return None
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _value(value: Any, kind: str) -> Scalar | None:
    if is_blank(value):
        return None
    if kind == "number":
        return _number(value)
    return bool(value) if kind == "boolean" else str(value)


def _seconds(value: Any, source: str, column: str, number: int) -> float:
    seconds = _number(value)
    if seconds is not None:
        return seconds
    try:
        moment = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
    except ValueError as error:
        raise ConfigError(
            f"{source}, row {number + 1}: column {column!r} is {value!r}; a time is in seconds or ISO 8601"
        ) from error
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
