"""A column of texts, as CSV has them: which kind it is, and each cell as a value of that kind or missing.

A kind is declared, or it is that of 95 % of the cells that hold anything; the rest is missing then, and named.
"""

from __future__ import annotations

import itertools
import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, NamedTuple

from streamal.core.records import Scalar
from streamal.recordings.findings import shorten
from streamal.recordings.missing import Missing, is_infinite
from streamal.recordings.numerals import CURRENCY, DATE, STYLES, is_code, is_long_integer, parse_number, parse_styled

__all__ = ["SHARE_MIN", "Parser", "TextColumn", "find_parser", "kind_of_texts", "read_texts", "read_thousands"]

SHARE_MIN = 0.95
"""This part of the cells that hold anything makes the kind of a column."""

_WORDS_OF_TEXT = 5
"""A column of strings with more words than this, on average, is free text rather than categories."""
_TRUTHS: Mapping[str, bool] = {"true": True, "false": False}
_DECLARED_TRUTHS: Mapping[str, bool] = {
    **_TRUTHS,
    **dict.fromkeys(("1", "1.0", "yes", "y", "t", "on"), True),
    **dict.fromkeys(("0", "0.0", "no", "n", "f", "off"), False),
}
_SAMPLE = 100
_STYLED_LENGTH_MAX = 60
_TRUTH_LENGTH_MAX = 40
"""A longer text is no truth value, even with blanks around it."""
_MIXED_MIN = 0.5
"""If so many cells of a column of texts are numbers, that is said."""
_UNIT = re.compile(r"[+-]?[\d.,]*\d(\s?[^\W\d]{1,5}|\s?[^\w\s.,-]{1,2}\w?)", re.ASCII)
_PAIRS = [{"yes", "no"}, {"y", "n"}, {"t", "f"}, {"on", "off"}]
_THOUSANDS = re.compile(r"\s*[+-]?(\d{1,3}|[1-9]\d{0,2}(\.\d{3})+)\s*", re.ASCII)
_PADDED_CODE = re.compile(r"(?m)^[ \t]*[+-]?0\d+[ \t]*$", re.ASCII)


@dataclass(slots=True)
class TextColumn:
    """A column that was read.

    Attributes:
        kind: "number", "string", "boolean" or "text"; "" if no cell holds anything.
        values: one for each cell; None is missing.
        nulls: cells in which the source itself says that there is nothing.
        spellings: how the other missing ones are spelt -> cells.
        misfits: the cells that hold no value of *kind*, and are missing for that: text -> cells.
        notes: how the cells were read, where that is not plain.
        has_decimal_commas: whether numbers are written so.
    """

    kind: str
    values: list[Any]
    nulls: int = 0
    spellings: Mapping[str, int] = field(default_factory=dict)
    misfits: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    has_decimal_commas: bool = False


_Parse = Callable[[str], Scalar | None]


class Parser(NamedTuple):
    """How the texts of a column are read: the kind, what makes a value of a text (None: it is none), and notes."""

    kind: str
    parse: _Parse
    notes: tuple[str, ...]


def read_texts(cells: Sequence[str | None], missing: Missing, declared: str | None, *, typed: bool) -> TextColumn:
    """Return *cells* as values of the kind *declared*, or of the kind that they are found to be.

    Args:
        cells: None where the format itself says that there is nothing.
        missing: the spellings of a missing value.
        declared: the kind; None finds it out.
        typed: the source calls them texts, so that they stay texts unless another kind is declared.
    """
    is_plain = declared in {None, "number"} and not typed and not missing.has_numbers
    if is_plain and (numbers := _all_numbers(cells)) is not None:
        return TextColumn("number", numbers)
    counts = Counter(cells)
    nulls = counts.pop(None, 0)
    spellings = {text: count for text, count in counts.items() if text is not None and missing.is_missing(text)}
    present = {text: count for text, count in counts.items() if text is not None and text not in spellings}
    kind, parse, notes = find_parser(present, declared, typed=typed)
    table: dict[str | None, Scalar | None] = {text: parse(text) for text in present}
    if kind == "number":
        infinite = {text: count for text, count in present.items() if table[text] is None and is_infinite(text)}
        spellings |= infinite
    misfits = {text: count for text, count in present.items() if table[text] is None and text not in spellings}
    commas = isinstance(parse, partial) and parse.keywords.get("style") == "comma"
    return TextColumn(kind, list(map(table.get, cells)), nulls, spellings, misfits, notes, commas)


def read_thousands(column: TextColumn, cells: Sequence[str | None], missing: Missing) -> TextColumn:
    """Return a *column* of numbers from a table with decimal commas: points that may separate thousands do so there."""
    present = dict.fromkeys(text for text in cells if text is not None and not missing.is_missing(text))
    example = next((text for text in present if "." in text), None)
    if column.kind != "number" or column.misfits or example is None or not all(map(_THOUSANDS.fullmatch, present)):
        return column
    values = [parse_styled(text, "comma") if text is not None and text in present else None for text in cells]
    note = f"{example.strip()!r} is read as {parse_styled(example, 'comma'):g}, since other columns have decimal commas"
    return replace(column, values=values, notes=(*column.notes, note))


def find_parser(present: Mapping[str, int], declared: str | None, *, typed: bool = False) -> Parser:
    """Return how a column is read whose cells that hold anything are *present* (text -> cells).

    *declared* and *typed* are those of `read_texts`.
    """
    return Parser(*(_of_declared(declared, present) if declared is not None else _of_found(present, typed=typed)))


def kind_of_texts(texts: Mapping[str, int]) -> str:
    """Return "text" if *texts* (text -> cells) are free text, with many words, else "string"."""
    words = cells = 0
    for text, count in texts.items():
        words += len(text.split()) * count
        cells += count
        if cells >= 1_000:
            break
    return "text" if words > _WORDS_OF_TEXT * cells else "string"


def _all_numbers(cells: Sequence[str | None]) -> list[Any] | None:
    """Return *cells* as numbers if each writes one plainly: the quick way for a clean column."""
    try:
        joined = "\n".join(cells)  # type: ignore[arg-type]  # a None raises
        if not joined.isascii() or "_" in joined or _PADDED_CODE.search(joined):
            return None
        numbers = list(map(float, cells))  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
    if not numbers or not all(map(math.isfinite, numbers)):
        return None
    return None if max(numbers) > 2**53 or min(numbers) < -(2**53) else numbers


def _of_declared(kind: str, present: Mapping[str, int]) -> tuple[str, _Parse, tuple[str, ...]]:
    """Return *kind*, how its cells are parsed, and what is to be noted."""
    if kind == "number":
        parse, note = _number_parser(present)
        return kind, parse, (note,) if note else ()
    if kind == "boolean":
        return kind, lambda text: _DECLARED_TRUTHS.get(text.strip().casefold()), ()
    if kind.startswith("vector"):
        return kind, lambda _: None, ()  # a text is no vector, and a live daemon would refuse it
    return kind, str.strip if kind == "string" else str, ()


def _of_found(present: Mapping[str, int], *, typed: bool) -> tuple[str, _Parse, tuple[str, ...]]:
    """Return the kind of the cells *present*, how they are parsed, and what is to be noted."""
    total = sum(present.values())
    if not total:
        return "", str, ()
    if not typed:
        if _share(present, _truth) >= SHARE_MIN:
            return "boolean", _truth, ()
        finite = {text: count for text, count in present.items() if not is_infinite(text)}
        parse, note = _number_parser(finite)
        if _share(finite, parse) >= SHARE_MIN:
            reason = _not_counted(present)
            return ("string", str.strip, (reason,)) if reason else ("number", parse, (note,) if note else ())
    kind = kind_of_texts(present)
    return kind, str.strip if kind == "string" else str, _notes_on_texts(present, typed=typed)


def _number_parser(present: Mapping[str, int]) -> tuple[_Parse, str]:
    """Return what parses most of the cells *present* as numbers, the plain way first, and a note on any other."""
    best: tuple[float, _Parse, str] = (_share(present, parse_number), parse_number, "")
    is_styled = best[0] < 1.0 and any(map(_may_be_styled, itertools.islice(present, _SAMPLE)))
    for style in STYLES if is_styled else ():
        parse = partial(parse_styled, style=style)
        share = _share(present, parse)
        if share > best[0]:
            example = next(text for text in present if parse_number(text) is None and parse(text) is not None)
            best = (share, parse, f"{example.strip()!r} is read as {parse(example):g}{_mixed_marks(present)}")
    return best[1], best[2]


def _may_be_styled(text: str) -> bool:
    """Return whether *text* may be a number as spreadsheets write it: short, with a digit."""
    return len(text) <= _STYLED_LENGTH_MAX and any(map(str.isdigit, text))


def _mixed_marks(present: Mapping[str, int]) -> str:
    """Return a warning if the numbers in *present* are of several currencies, or some of them per cent."""
    marks = {tuple(CURRENCY.findall(text)) for text in present} - {()}
    if len(marks) > 1:
        return ", though the cells are of several currencies"
    percent = sum(text.strip().endswith("%") for text in present)
    return ", though other cells have no % sign" if 0 < percent < len(present) else ""


def _not_counted(present: Mapping[str, int]) -> str:
    """Return why cells that look like numbers are none, "" if they are."""
    code = next(filter(is_code, present), None)
    if code is not None:
        return f"codes with leading zeros, such as {code.strip()!r}, stay texts"
    long = next(filter(is_long_integer, present), None)
    return "" if long is None else f"integers that no number holds exactly, such as {long.strip()}, stay texts"


def _notes_on_texts(present: Mapping[str, int], *, typed: bool) -> tuple[str, ...]:
    """Return what may be something else than the text that it is read as."""
    example = next(iter(present)).strip()
    if {text.strip().casefold() for text in present} in _PAIRS:
        return (f"{' / '.join(sorted({text.strip() for text in present}))} stay texts; declare a boolean to read them",)
    if _share(present, lambda text: DATE.fullmatch(text.strip())) >= SHARE_MIN:
        return (f"dates, such as {example!r}, stay texts: name them with --time, or drop them",)
    if not typed:
        return _notes_on_mixtures(present)
    if _share(present, parse_number) >= SHARE_MIN:
        return (f"numbers as texts, such as {example!r}, stay texts; declare a number to read them",)
    if _share(present, _truth) >= SHARE_MIN:
        return (f"truth values as texts, such as {example!r}, stay texts; declare a boolean to read them",)
    return ()


def _notes_on_mixtures(present: Mapping[str, int]) -> tuple[str, ...]:
    """Return a note on texts of which many look like numbers or truth values: in two spellings, or with a unit."""
    some = [text for text in itertools.islice(present, None, None, 1 + len(present) // _SAMPLE) if _may_be_mixed(text)]
    if len(some) < _MIXED_MIN * min(_SAMPLE, len(present)) / 2:
        return ()
    unit = _UNIT.fullmatch(next(iter(present)).strip())
    if unit and _share(present, lambda text: text.strip().endswith(unit[1]) or None) >= SHARE_MIN:
        inner = {text.strip().removesuffix(unit[1]): count for text, count in present.items()}
        if _share(inner, _any_number) >= SHARE_MIN:
            return (f"numbers with a unit, such as {next(iter(present)).strip()!r}, stay texts: cut the unit off",)
    for kind, what, parse in (("number", "numbers", _any_number), ("boolean", "truth values", _DECLARED_TRUTHS.get)):
        like = {text.strip(): count for text, count in present.items() if parse(text.strip().casefold()) is not None}
        share = sum(like.values()) / sum(present.values())
        if share >= _MIXED_MIN:
            other = next((text.strip() for text in present if text.strip() not in like), None)
            advice = f"in several spellings: declare a {kind} to read them"
            if other is not None:
                advice = f"others are not, such as {shorten(other)}; name what means missing (--na, features.missing)"
            return (f"{share:.0%} of the cells are {what}, such as {next(iter(like))!r}, {advice}: they stay texts",)
    return ()


def _may_be_mixed(text: str) -> bool:
    return _may_be_styled(text) or text.strip().casefold() in _DECLARED_TRUTHS


def _any_number(text: str) -> float | None:
    """Return the number in *text* in any style, None if it is none, or a code."""
    if is_code(text) or is_long_integer(text):
        return None
    return next((n for style in STYLES if (n := parse_styled(text, style)) is not None), None)


def _share(present: Mapping[str, int], parse: Callable[[str], object]) -> float:
    total = sum(present.values())
    some = itertools.islice(present, None, None, 1 + len(present) // _SAMPLE)
    if not any(parse(text) is not None for text in some):
        return 0.0  # not one in a hundred of them: it is not worth a look at all
    return sum(count for text, count in present.items() if parse(text) is not None) / total


def _truth(text: str) -> bool | None:
    return _TRUTHS.get(text.strip().casefold()) if len(text) < _TRUTH_LENGTH_MAX else None
