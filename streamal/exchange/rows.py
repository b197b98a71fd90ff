"""The training log as rows: each record with its offset; and the columns of a table of such rows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import msgspec

from streamal.core.codec.events import decode_training
from streamal.core.records import Refusal, Training
from streamal.ports import Log, scan

__all__ = ["LEARNED", "Columns", "Row", "flatten", "training_rows"]

Row = dict[str, Any]
LEARNED = ("example", "natural")
"""The kinds of records that the model learns from."""


def training_rows(
    log: Log, topic: str, examples_only: bool, end: int, foreign: list[str]
) -> Iterator[tuple[Row, Training]]:
    """Yield the records of the training log before the offset *end*, each as a row and decoded.

    A record that another program wrote is skipped and adds a line to *foreign*.
    """
    for record in scan(log, topic, 0):
        if record.offset >= end:
            return
        training = decode_training(record.value)
        if isinstance(training, Refusal):
            foreign.append(f"training offset {record.offset} is not ours: {training.detail}")
            continue
        row: Row = {"offset": record.offset, **msgspec.to_builtins(training)}
        if row["kind"] in LEARNED or not examples_only:
            yield row, training


def flatten(row: Row) -> Row:
    """Return *row* with one column per feature; other nested values (a schema, a list) become JSON text.

    A vector stays a list.

    >>> flatten({"kind": "example", "features": {"x": 1.0}, "arms": (0.5, 1.0)})
    {'kind': 'example', 'arms': '[0.5,1.0]', 'features.x': 1.0}
    """
    features = row.get("features")
    plain = {name: _to_scalar(value) for name, value in row.items() if name != "features"}
    if features is None:
        return plain
    if row["kind"] not in LEARNED:
        return {**plain, "schema": _to_scalar(features)}
    return {**plain, **{f"features.{name}": value for name, value in features.items()}}


@dataclass(slots=True)
class Columns:
    """The columns of a table of flat rows, and the types of their values."""

    kinds: dict[str, set[type]] = field(default_factory=dict)

    def add(self, row: Row) -> None:
        """Note the columns and types of a flat *row*."""
        for name, value in row.items():
            self.kinds.setdefault(name, set()).add(type(value))

    def type_of(self, column: str) -> type:
        """Return the type that holds every value of *column*: text where numbers and texts are mixed.

        >>> columns = Columns()
        >>> columns.add({"id": 7}), columns.type_of("id"), columns.add({"id": "seven"}), columns.type_of("id")
        (None, <class 'int'>, None, <class 'str'>)
        """
        kinds = self.kinds[column] - {type(None)}
        if kinds == {int, float}:
            return float
        return next(iter(kinds)) if len(kinds) == 1 else str


def _to_scalar(value: Any) -> Any:
    return (
        json.dumps(value, ensure_ascii=False, separators=(",", ":"))
        if isinstance(value, dict | list | tuple)
        else value
    )
