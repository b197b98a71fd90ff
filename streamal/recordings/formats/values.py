"""Python values as JSON would hold them: what a row of a dictionary, a data frame or a data set may bring."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date, datetime, time, timedelta
from typing import Any

__all__ = ["plain"]


def plain(value: Any) -> Any:
    """Return a Python value as JSON would hold it: text, float, bool, list, dict or None.

    Bytes are text in UTF-8, moments ISO 8601, scalars of NumPy what they hold; NaN, NaT and NA are None.

    >>> plain(b"dry"), plain(3), plain(float("nan")), plain(date(2024, 3, 1))
    ('dry', 3.0, None, '2024-03-01')

    Raises:
        ValueError: JSON has nothing for it.
    """
    if value is None or isinstance(value, str | bool):
        return value if type(value) in _EXACT else str(value)
    for types, convert in _CONVERSIONS:
        if isinstance(value, types):
            return convert(value)
    if type(value).__name__ in {"NAType", "NaTType"}:
        return None
    if hasattr(value, "tolist"):  # a scalar or an array of NumPy
        return plain(value.tolist())
    try:
        return _finite_or_none(float(value))
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"a {type(value).__name__}") from None


def _finite_or_none(value: Any) -> float | None:
    number = float(value)
    return None if number != number or number in {float("inf"), float("-inf")} else number  # noqa: PLR0124


_EXACT = {str, bool, type(None)}
_CONVERSIONS: Sequence[tuple[type | tuple[type, ...], Callable[[Any], Any]]] = (
    ((int, float), _finite_or_none),
    ((bytes, bytearray, memoryview), lambda value: bytes(value).decode()),
    (datetime, lambda value: value.isoformat()),
    ((date, time), lambda value: value.isoformat()),
    (timedelta, lambda value: value.total_seconds()),
    (dict, lambda value: {str(name): plain(part) for name, part in value.items()}),
    ((list, tuple, set, frozenset), lambda value: [plain(part) for part in value]),
)
