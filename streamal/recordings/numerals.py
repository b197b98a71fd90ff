"""Texts as numbers: plain, or as spreadsheets write them (decimal comma, thousands, currency, percent)."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Literal

__all__ = ["CURRENCY", "DATE", "STYLES", "Style", "is_code", "is_long_integer", "parse_number", "parse_styled"]

Style = Literal["point", "comma"]
STYLES: tuple[Style, ...] = ("point", "comma")
"""What separates the decimals where other characters separate the thousands."""

_PLAIN = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_GROUPS = {"point": r"[,'’\u00a0\u202f ]", "comma": r"[.'’\u00a0\u202f ]"}
_POINTS = {"point": r"\.", "comma": ","}
_STYLED: Mapping[Style, re.Pattern[str]] = {
    style: re.compile(rf"[+-]?([1-9]\d{{0,2}}({_GROUPS[style]}\d{{3}})+|\d+)?({_POINTS[style]}\d+)?", re.ASCII)
    for style in STYLES
}
CURRENCY = re.compile(r"[$€£¥₹₩]|\b(?:USD|EUR|GBP|CHF|JPY|CNY|INR)\b|\bFr\.")
"""Signs and codes of money."""
_CODE = re.compile(r"[+-]?0\d+", re.ASCII)
_DIGITS = re.compile(r"[+-]?\d{16,}", re.ASCII)
_EXACT_MAX = 2**53
_STYLED_LENGTH_MAX = 60
_LENGTH_MAX = 400
"""A longer text is no number: any double can be written in fewer digits."""
DATE = re.compile(
    r"\d{4}[-/.]\d{1,2}([-/.]\d{1,2})?([T ]\d{1,2}:\d{2}.*)?|\d{1,2}[-/.]\d{1,2}[-/.](\d{4}|\d{2})( \d{1,2}:\d{2}.*)?",
    re.ASCII,
)
"""What looks like a date or a moment."""


def parse_number(text: str) -> float | None:
    """Return the finite number that *text* writes plainly, or None; ``2_5`` is none, though Python reads it.

    >>> parse_number(" 1.5e3 "), parse_number("2_5"), parse_number("nan"), parse_number("0x10")
    (1500.0, None, None, None)
    """
    if len(text) > _LENGTH_MAX:
        return None
    stripped = text.strip()
    if _PLAIN.fullmatch(stripped) is None:
        return None
    number = float(stripped)
    return number if math.isfinite(number) else None


def parse_styled(text: str, style: Style) -> float | None:
    """Return the number in *text* whose decimals follow a point or a comma, with thousands, currency, percent; or None.

    >>> parse_styled("1.234,50 €", "comma"), parse_styled("$1,234.50", "point"), parse_styled("12,5 %", "comma")
    (1234.5, 1234.5, 12.5)
    >>> parse_styled("(1,200)", "point"), parse_styled("12,5", "point"), parse_styled("5 apples", "point")
    (-1200.0, None, None)
    """
    if len(text) > _STYLED_LENGTH_MAX:
        return None
    stripped = text.strip().replace("−", "-")
    negative = stripped.startswith("(") and stripped.endswith(")")
    if negative:
        stripped = stripped[1:-1]
    stripped = CURRENCY.sub("", stripped.removesuffix("%")).strip()
    sign, digits = (stripped[0], stripped[1:].lstrip()) if stripped[:1] in {"+", "-"} else ("", stripped)
    if not digits or not digits[-1].isdigit() or _STYLED[style].fullmatch(digits) is None:
        return None if style == "comma" and "." in stripped else parse_number(stripped)
    plain = re.sub(_GROUPS[style], "", digits).replace(",", ".")
    number = parse_number(sign + plain)
    return -number if negative and number is not None else number


def is_code(text: str) -> bool:
    """Return whether *text* is digits with a leading zero, such as a postal code: no number writes one.

    >>> is_code("01067"), is_code("0"), is_code("0.5"), is_code("10")
    (True, False, False, False)
    """
    return _CODE.fullmatch(text.strip()) is not None


def is_long_integer(text: str) -> bool:
    """Return whether *text* is an integer that no double holds exactly, such as the number of an account."""
    stripped = text.strip()
    return _DIGITS.fullmatch(stripped) is not None and abs(int(stripped[:400])) > _EXACT_MAX
