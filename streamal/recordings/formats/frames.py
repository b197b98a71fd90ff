"""Data frames of any library (by way of narwhals) as a `Table`; Parquet comes through here too."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import narwhals as nw

from streamal.recordings.account import Column
from streamal.recordings.findings import Findings
from streamal.recordings.formats.values import plain
from streamal.recordings.rules import ReadingRules, Roles
from streamal.recordings.table import Table

__all__ = ["frame_table", "is_frame", "require_distinct"]

_PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}


def is_frame(source: object) -> bool:
    """Return whether *source* is a data frame that narwhals knows."""
    try:
        return isinstance(nw.from_native(source, pass_through=True), nw.DataFrame | nw.LazyFrame)
    except nw.exceptions.NarwhalsError:  # one that narwhals knows, and refuses: a name stands in it twice
        return True


def require_distinct(names: Iterable[str], findings: Findings) -> None:
    """Raise a ConfigError that names the column if one of *names* comes twice."""
    seen: dict[str, int] = {}
    for position, name in enumerate(names, 1):
        if name in seen:
            raise findings.error(f"two columns, {seen[name]} and {position}, are called {name!r}: rename one of them")
        seen[name] = position


def frame_table(source: Any, roles: Roles, rules: ReadingRules, limit: int | None, findings: Findings) -> Table:
    """Return the columns of a data frame; those that are not needed are not read.

    Raises:
        ConfigError: a column stands in it twice.
    """
    try:
        frame = nw.from_native(source)
        frame = frame if limit is None else frame.head(limit)
        frame = frame.collect() if isinstance(frame, nw.LazyFrame) else frame
        names = list(frame.columns)
    except Exception as error:
        raise findings.error(f"no readable data frame: {' '.join(str(error).split())}") from error
    require_distinct(map(str, names), findings)
    findings.rows = len(frame)
    columns: dict[str, Sequence[Any]] = {}
    kinds: dict[str, str] = {}
    outside = []
    for position, name in enumerate(names):
        text = str(name)
        if not roles.is_used(text, rules):
            outside.append(Column(text, roles.of_unused(text)))
            continue
        try:
            for part, series in _flattened(text, frame[:, position], rules.flatten):
                columns[part], kinds[part] = _labels(series) if part == roles.label else _cells(series)
        except ValueError as error:
            raise findings.error(f"column {text!r} holds what JSON has nothing for: {error}") from error
    return Table(columns, kinds, list(map(str, names)), tuple(outside))


def _flattened(name: str, series: Any, flatten: bool) -> Iterable[tuple[str, Any]]:
    """Yield the series itself; or, of one of objects, that of each field, ``a.b``, if one is to *flatten*."""
    if flatten and isinstance(series.dtype, nw.Struct):
        for field in series.dtype.fields:
            yield from _flattened(f"{name}.{field.name}", series.struct.field(field.name), flatten)
    else:
        yield name, series


def _labels(series: Any) -> tuple[Sequence[Any], str]:
    """Return labels as `_cells` does, but whole numbers as they are: two beyond 53 bits would become one class."""
    if series.dtype.is_integer():
        return series.to_list(), "number"
    return _cells(series)


def _cells(series: Any) -> tuple[Sequence[Any], str]:
    """Return the cells of a column, None where there is nothing, and their kind, see `Table`."""
    dtype = series.dtype
    if dtype.is_numeric():
        values = series.to_list()
        try:
            return [None if value is None else float(value) for value in values], "number"
        except TypeError:  # pandas' NA
            return list(map(plain, values)), "number"
    if dtype == nw.Boolean:
        return list(map(plain, series.to_list())), "boolean"
    if isinstance(dtype, nw.Datetime | nw.Date):
        return _seconds(series)
    if dtype == nw.Duration:
        return [None if v is None else v.total_seconds() for v in series.to_list()], "number"
    if isinstance(dtype, nw.Categorical | nw.Enum):
        series = series.cast(nw.String)
    return _typed_cells([plain(value) for value in series.to_list()])


def _seconds(series: Any) -> tuple[Sequence[Any], str]:
    """Return moments as seconds since the epoch: Python's own would not hold all of them."""
    unit = "ms" if series.dtype == nw.Date else series.dtype.time_unit
    unit = unit if unit != "s" else "ms"
    count = _PER_SECOND[unit]
    return [None if v is None or v != v else v / count for v in series.dt.timestamp(unit).to_list()], "time"  # noqa: PLR0124


def _typed_cells(values: list[Any]) -> tuple[Sequence[Any], str]:
    """Return *values* that are plain already, and the kind that holds them all: "" (texts) where they differ."""
    types = {type(value) for value in values} - {type(None)}
    if types <= {str}:
        return values, "string"
    if types == {bool}:
        return values, "boolean"
    if types == {float}:
        return values, "number"
    if types & {dict, list}:
        return values, "nested"
    return [value if value is None or isinstance(value, str) else _text_of(value) for value in values], ""


def _text_of(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) and value.is_integer() and abs(value) < 1e6 else str(value)
