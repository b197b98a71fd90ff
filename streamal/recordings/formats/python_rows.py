"""Rows that Python brings: dictionaries of any iterator, pairs of features and label, the data sets of River."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from streamal.recordings.findings import Findings
from streamal.recordings.formats.json_rows import split_features
from streamal.recordings.table import Records, Table

__all__ = ["read_data_set", "read_rows"]

Row = Mapping[str, Any]


def read_rows(source: Iterable[Any], label: str, limit: int | None, findings: Findings) -> Records | Table:
    """Return the rows of an iterator of dictionaries, or of pairs of a dictionary and a label as River has them.

    Rows that hold nothing but texts, as `csv.DictReader` gives them, are a `Table` without types.

    Raises:
        ConfigError: a row is something else, or a feature of a pair has the name *label*.
    """
    rows = []
    for number, row in enumerate(islice(source, limit), 1):
        if isinstance(row, Mapping):
            rows.append({str(name): value for name, value in row.items()})
        elif isinstance(row, tuple) and len(row) == 2 and isinstance(row[0], Mapping):
            if label in row[0]:
                raise findings.error(f"--label {label}: it has a feature of that name; call its target otherwise")
            rows.append({**{str(name): value for name, value in row[0].items()}, label: row[1]})
        else:
            raise findings.error(f"row {number} is a {type(row).__name__}, not a dictionary")
    findings.rows = len(rows)
    if rows and all(isinstance(value, str | None) for row in rows for value in row.values()):
        return _table(rows)
    return split_features(rows)


def _table(rows: Sequence[Row]) -> Table:
    names = dict.fromkeys(name for row in rows for name in row)
    return Table({name: [row.get(name) for row in rows] for name in names}, dict.fromkeys(names, ""), list(names))


def read_data_set(name: str, label: str, limit: int | None, findings: Findings) -> Records | Table:
    """Return the rows of ``river.datasets.NAME`` (``synth.NAME`` too), the target under *label*.

    Raises:
        ConfigError: there is no such data set, or it cannot be read.
    """
    try:
        return read_rows(_data_set(name), label, limit, findings)
    except (AttributeError, ImportError, TypeError, OSError, ValueError) as error:
        raise findings.error(f"{type(error).__name__}: {error}; try river:Phishing") from error


def _data_set(name: str) -> Iterator[Any]:
    module_name, _, class_name = f"river.datasets.{name}".rpartition(".")
    return iter(getattr(importlib.import_module(module_name), class_name)())
