"""The training log as rows: every record with its offset, and what a table of them needs to know beforehand."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import msgspec

from streamal.core.codec.events import decode_training
from streamal.core.records import Refusal, Training
from streamal.ports import Log, scan

__all__ = ["LEARNED", "Columns", "Row", "flat", "rows"]

Row = dict[str, Any]
LEARNED = ("example", "natural")


def rows(log: Log, topic: str, examples_only: bool, end: int, strange: list[str]) -> Iterator[tuple[Row, Training]]:
    """Yield the records of the training log before the offset *end*, each as a row and as it is.

    What is not ours is left out and told in *strange*, a line each.
    """
    for record in scan(log, topic, 0):
        if record.offset >= end:
            return
        training = decode_training(record.value)
        if isinstance(training, Refusal):
            strange.append(f"training offset {record.offset} is not ours: {training.detail}")
            continue
        row: Row = {"offset": record.offset, **msgspec.to_builtins(training)}
        if row["kind"] in LEARNED or not examples_only:
            yield row, training


def flat(row: Row) -> Row:
    """Return *row* with one column per feature; what is nested otherwise (a schema, a list) stays JSON.

    >>> flat({"kind": "example", "features": {"x": 1.0}, "arms": (0.5, 1.0)})
    {'kind': 'example', 'arms': '[0.5,1.0]', 'features.x': 1.0}
    """
    features = row.get("features")
    plain = {name: _plain(value) for name, value in row.items() if name != "features"}
    if features is None:
        return plain
    if row["kind"] not in LEARNED:
        return {**plain, "schema": _plain(features)}
    return {**plain, **{f"features.{name}": value for name, value in features.items()}}


@dataclass(slots=True)
class Columns:
    """The columns of a table of flat rows: which there are, and of which types."""

    kinds: dict[str, set[type]] = field(default_factory=dict)

    def add(self, row: Row) -> None:
        """Look at a flat *row*."""
        for name, value in row.items():
            self.kinds.setdefault(name, set()).add(type(value))

    def type_of(self, column: str) -> type:
        """Return what holds every value of *column*: where numbers and texts are mixed, a text.

        >>> columns = Columns()
        >>> columns.add({"id": 7}), columns.type_of("id"), columns.add({"id": "seven"}), columns.type_of("id")
        (None, <class 'int'>, None, <class 'str'>)
        """
        kinds = self.kinds[column] - {type(None)}
        if kinds == {int, float}:
            return float
        return next(iter(kinds)) if len(kinds) == 1 else str


def _plain(value: Any) -> Any:
    return (
        json.dumps(value, ensure_ascii=False, separators=(",", ":"))
        if isinstance(value, dict | list | tuple)
        else value
    )
