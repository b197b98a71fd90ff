"""The raw forms of a source, columns or rows, and the one that both are typed into."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from streamal.core.records import FeatureValue
from streamal.recordings.account import Column

__all__ = ["Parsed", "Records", "Table"]


@dataclass(frozen=True, slots=True)
class Table:
    """Columns of one length, as CSV, Parquet and data frames have them.

    Attributes:
        columns: name -> its cells; None where there is nothing.
        kinds: name -> what the source says of the cells: "" (nothing: they are texts), "string", "number" (floats,
            NaN among them), "boolean", "time" (seconds since the epoch), or "nested" (lists, objects).
        names: of all columns of the source, in their order.
        outside: columns that were left out already.
    """

    columns: Mapping[str, Sequence[Any]]
    kinds: Mapping[str, str]
    names: Sequence[str]
    outside: tuple[Column, ...] = ()


@dataclass(frozen=True, slots=True)
class Records:
    """Rows of typed values, as JSON lines, dictionaries and data sets of River have them.

    Attributes:
        features: of each row, name -> value; None for a row that could not be read at all.
        beside: of each row, what stands beside its features, where those are an object of their own; else the same.
        raw: whether the values are JSON that is not decoded yet; else they may be anything that Python has.
    """

    features: Sequence[dict[str, Any] | None]
    beside: Sequence[dict[str, Any]]
    raw: bool = False


@dataclass(slots=True)
class Parsed:
    """Rows with typed features, and the cells that are no features yet as they were.

    Attributes:
        features: of each row; those of a refused one mean nothing.
        kinds: feature -> kind.
        columns: name -> how it was read.
        cells: column of the label or of times -> its cells.
        guesses: whether texts among those cells may be spellings of a missing value.
        seconds: the columns among those whose cells are seconds already.
    """

    features: Sequence[dict[str, FeatureValue]]
    kinds: dict[str, str]
    columns: dict[str, Column]
    cells: dict[str, Sequence[Any]]
    guesses: bool
    seconds: frozenset[str] = field(default_factory=frozenset)
