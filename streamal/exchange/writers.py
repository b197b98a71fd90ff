"""Writers of the training log: JSON lines, CSV, Parquet, Label Studio's tasks. One row is in memory at a time."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator
from enum import StrEnum
from itertools import islice
from pathlib import Path
from typing import Any, Protocol, assert_never

from streamal import INSTALL
from streamal.core.records import (
    Abstention,
    Example,
    Expiry,
    NaturalExample,
    Quarantine,
    SchemaSet,
    Training,
    WarmStart,
)
from streamal.errors import ConfigError
from streamal.exchange.label_studio import closed_task
from streamal.exchange.rows import Columns, Row, flatten

__all__ = ["Format", "TextSink", "format_of", "write_parquet", "write_text"]

_BATCH = 10_000
Rows = Iterable[tuple[Row, Training]]


class TextSink(Protocol):
    """Where text is written: a file, or a terminal that shows it."""

    def write(self, text: str, /) -> int:
        """Write *text*."""
        ...

    def writelines(self, lines: Iterable[str], /) -> None:
        """Write each of *lines*."""
        ...


class Format(StrEnum):
    """The format of a file of labels."""

    JSONL = "jsonl"
    CSV = "csv"
    PARQUET = "parquet"
    LABEL_STUDIO = "label-studio"


_SUFFIXES = {".jsonl": Format.JSONL, ".csv": Format.CSV, ".parquet": Format.PARQUET, ".json": Format.LABEL_STUDIO}


def format_of(path: Path, option: str) -> Format:
    """Return the format that the suffix of *path* names; an error names *option*."""
    if path.suffix not in _SUFFIXES:
        raise ConfigError(
            f"{option} {path}: end its name in .jsonl, .csv, .parquet or .json (Label Studio), or give --format"
        )
    return _SUFFIXES[path.suffix]


def write_text(rows: Rows, kind: Format, columns: Columns, texts: tuple[str, ...], file: TextSink) -> None:
    """Write *rows* as JSON lines, CSV or Label Studio's JSON; *texts* are the features that are free text."""
    if kind is Format.JSONL:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row, _ in rows)
    elif kind is Format.CSV:
        writer = csv.DictWriter(file, list(columns.kinds), restval="")
        writer.writeheader()
        writer.writerows({name: _csv_cell(value) for name, value in flatten(row).items()} for row, _ in rows)
    else:
        separator = "[\n"
        for task in _tasks(rows, texts):
            file.write(separator + json.dumps(task, ensure_ascii=False))
            separator = ",\n"
        file.write("[]\n" if separator == "[\n" else "\n]\n")


def write_parquet(rows: Rows, columns: Columns, path: Path) -> None:
    """Write *rows* into a Parquet file, a row group for every 10,000.

    Raises:
        ConfigError: pyarrow is not installed.
    """
    try:
        import pyarrow as pa  # noqa: PLC0415
        from pyarrow import parquet  # noqa: PLC0415
    except ImportError as error:
        raise ConfigError(f"--format parquet needs pyarrow: {INSTALL.format(extra='parquet')}") from error
    types = {int: pa.int64(), float: pa.float64(), bool: pa.bool_(), str: pa.string(), list: pa.list_(pa.float64())}
    chosen = {name: columns.type_of(name) for name in columns.kinds}
    schema = pa.schema([(name, types[kind]) for name, kind in chosen.items()])
    with parquet.ParquetWriter(path, schema) as writer:
        left = (flatten(row) for row, _ in rows)
        while batch := list(islice(left, _BATCH)):
            arrays = [
                pa.array([_convert(row.get(name), kind) for row in batch], types[kind]) for name, kind in chosen.items()
            ]
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema))


def _tasks(rows: Rows, texts: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    for _, record in rows:
        match record:
            case Example() | Abstention() | Expiry() | NaturalExample():
                yield closed_task(record, texts)
            case SchemaSet() | WarmStart() | Quarantine():
                pass
            case _:
                assert_never(record)


def _csv_cell(value: Any) -> Any:
    """Return *value* as a cell of a CSV file; a vector is JSON text there."""
    return json.dumps(value, separators=(",", ":")) if isinstance(value, list) else value


def _convert(value: Any, kind: type) -> Any:
    """Return *value* as the type of its column: a number in a column of texts becomes text."""
    return str(value) if kind is str and value is not None else value
