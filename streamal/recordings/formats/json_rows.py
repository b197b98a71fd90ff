"""JSON lines (or one JSON array) as `Records`: a line that a live daemon could not decode is refused here too."""

from __future__ import annotations

import codecs
import json
import math
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec

from streamal.core.records import Reason, Refusal
from streamal.recordings.findings import Findings
from streamal.recordings.formats.dialect import FALLBACK, open_binary, read_encoding
from streamal.recordings.rules import ReadingRules
from streamal.recordings.table import Records

__all__ = ["read_json", "read_lines", "split_features"]

_NO_JSON = (b"NaN", b"Infinity")
_DIGITS_MAX = 400
"""An integer of more digits is beyond any double."""
_NO_OBJECT = "every line must be a JSON object"


def read_json(path: Path, rules: ReadingRules, limit: int | None, findings: Findings) -> Records:
    """Return the rows of a file of JSON lines, or of one array of objects.

    Raises:
        ConfigError: the file cannot be read.
    """
    return _records(read_lines(path, rules, findings), limit, findings)


def read_lines(path: Path, rules: ReadingRules, findings: Findings) -> Iterator[bytes]:
    """Yield the lines of *path* in UTF-8, without the mark at its begin.

    Bytes that are no UTF-8 stay as they are, unless an encoding is given: a live daemon refuses such a line.

    Raises:
        ConfigError: the file cannot be read.
    """
    encoding = read_encoding(path, rules, findings)
    with open_binary(path, findings) as file:
        try:
            if rules.encoding is None and encoding in {"utf-8-sig", FALLBACK}:
                for number, line in enumerate(file):
                    yield line if number else line.removeprefix(codecs.BOM_UTF8)
            else:
                text = file.read().decode(encoding)
                yield from text.encode().splitlines(keepends=True)
        except ValueError as error:
            raise findings.error(f"{error}") from error


def _records(lines: Iterable[bytes], limit: int | None, findings: Findings) -> Records:
    numbered = [(number, line) for number, line in enumerate(lines, 1) if line.strip()]
    if numbered and numbered[0][1].lstrip()[:1] == b"[":
        rows = _array(b"".join(line for _, line in numbered))
        if rows is not None:
            found: list[Any] = rows[:limit]
            findings.rows = len(found)
            return split_features(found)
    numbered = list(islice(numbered, limit))
    findings.rows = len(numbered)
    findings.line_of = [number for number, _ in numbered].__getitem__
    decoded = []
    for row, (_, line) in enumerate(numbered):
        value = _decode(line)
        if isinstance(value, Refusal):
            findings.refuse(row, value)
        decoded.append(value)
    return split_features(decoded)


def _array(text: bytes) -> list[Any] | None:
    """Return the objects of a JSON array; None if *text* is none of that."""
    try:
        rows = msgspec.json.decode(text)
    except (ValueError, RecursionError):
        return None
    return rows if isinstance(rows, list) and all(isinstance(row, dict) for row in rows) else None


def _decode(line: bytes) -> Any:
    """Return the object in *line*, or the Refusal that a live daemon would write."""
    try:
        value = msgspec.json.decode(line)
    except UnicodeDecodeError as error:
        return Refusal(Reason.NOT_UTF8, f"{error}; a text file of another encoding needs --encoding")
    except msgspec.ValidationError:
        value = _decode_huge(line)
    except ValueError as error:
        token = next((token.decode() for token in _NO_JSON if token in line), None)
        text = str(error) if token is None else f"{error}: {token} is no JSON; leave the field out, or write null"
        return Refusal(Reason.NOT_JSON, text)
    except RecursionError:
        return Refusal(Reason.TOO_DEEP, "the object is nested too deeply")
    return value if isinstance(value, dict) else Refusal(Reason.NOT_AN_OBJECT, _NO_OBJECT)


def _decode_huge(line: bytes) -> Any:
    """Return the object in *line*, which holds a number beyond any double: that is infinite, and so out of range.

    A live daemon refuses the record only if a feature that it uses is such a number.
    """
    try:
        msgspec.json.decode(line, type=dict[str, msgspec.Raw])  # it is stricter than Python about what is JSON
        return json.loads(line, parse_constant=_refuse_constant, parse_int=_integer)
    except RecursionError:
        return Refusal(Reason.TOO_DEEP, "the object is nested too deeply")
    except ValueError as error:
        return Refusal(Reason.NOT_JSON, str(error))


def _refuse_constant(token: str) -> Any:
    raise ValueError(f"{token} is no JSON; leave the field out, or write null")


def _integer(digits: str) -> float:
    return int(digits) if len(digits) < _DIGITS_MAX else math.copysign(math.inf, -1.0 if digits[0] == "-" else 1.0)


def split_features(rows: Iterable[Any]) -> Records:
    """Return *rows*, each an object or a Refusal, as `Records`: ``{"features": {…}, …}`` has its features apart."""
    features: list[dict[str, Any] | None] = []
    beside: list[dict[str, Any]] = []
    for row in rows:
        if isinstance(row, Refusal):
            features.append(None)
            beside.append({})
        elif isinstance(inner := row.get("features"), dict):
            features.append(inner)
            beside.append({name: value for name, value in row.items() if name != "features"})
        else:
            features.append(row)
            beside.append(row)
    return Records(features, beside)
