"""Figures as a data frame of pandas, Polars or PyArrow, whichever is installed, by way of narwhals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Any, Literal

import narwhals

from streamal.errors import StreamalError

__all__ = ["frame"]

_LIBRARIES: Sequence[Literal["pandas", "polars", "pyarrow"]] = ("pandas", "polars", "pyarrow")


def frame(rows: Sequence[Mapping[str, Any]]) -> Any:
    """Return *rows*, which have the same keys, as a frame of the first of pandas, Polars, PyArrow that is installed.

    Raises:
        StreamalError: none of them is installed.
    """
    library = next((name for name in _LIBRARIES if find_spec(name)), None)
    if library is None:
        raise StreamalError("a data frame needs one of pandas, polars or pyarrow: pip install pandas")
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    return narwhals.from_dict(columns, backend=library).to_native()
