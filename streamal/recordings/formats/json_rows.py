"""JSON lines (or one JSON array) as `Records`: a line that a live daemon could not decode is refused here too."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec

from streamal.core.codec.features import parse_raw
from streamal.core.codec.wire_rules import WireRules
from streamal.core.records import Reason, Refusal
from streamal.recordings.findings import Findings
from streamal.recordings.formats.dialect import FALLBACK, open_binary, read_encoding
from streamal.recordings.rules import ReadingRules
from streamal.recordings.table import Records

__all__ = ["inner_fields", "read_json", "read_lines", "split_features"]

_NO_JSON = (b"NaN", b"Infinity")
_decode_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_BYTE = re.compile(r"\(byte (\d+)\)")
_decode_elements = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_array = msgspec.json.Decoder(list[dict[str, msgspec.Raw]]).decode


def read_json(path: Path, rules: ReadingRules, limit: int | None, findings: Findings) -> Records:
    """Return the rows of a file of JSON lines, or of one array of objects.

    Raises:
        ConfigError: the file cannot be read.
    """
    return _records(read_lines(path, rules, findings), limit, rules.wire, findings)


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


def _records(lines: Iterable[bytes], limit: int | None, wire: WireRules, findings: Findings) -> Records:
    numbered = [(number, line) for number, line in enumerate(lines, 1) if line.strip()]
    if numbered and numbered[0][1].lstrip()[:1] == b"[" and not _is_json(numbered[0][1], of_several=len(numbered) > 1):
        found = _array(numbered, wire, findings)[:limit]
        findings.rows = len(found)
        for row, value in enumerate(found):
            if isinstance(value, Refusal):
                findings.refuse(row, value)
        return split_features(found)
    if numbered and numbered[0][1].strip() == b"{":
        raise findings.error(
            f"line {numbered[0][0]}: an object takes several lines: write each object in one line, or all in one array"
        )
    numbered = list(islice(numbered, limit))
    findings.rows = len(numbered)
    findings.line_of = [number for number, _ in numbered].__getitem__
    decoded = []
    for row, (_, line) in enumerate(numbered):
        value = parse_raw(line.rstrip(b"\r\n"), _decode_object, wire.record_bytes_max)
        if isinstance(value, Refusal):
            findings.refuse(row, _explain(value, line))
        decoded.append(value)
    return split_features(decoded)


def _is_json(line: bytes, *, of_several: bool) -> bool:
    """Return whether *line* is JSON by itself, and one line *of_several*: then the file is no array."""
    try:
        return of_several and msgspec.json.decode(line) is not None
    except (ValueError, RecursionError):
        return False


def _array(numbered: Sequence[tuple[int, bytes]], wire: WireRules, findings: Findings) -> list[Any]:
    """Return the objects of the JSON array in lines with numbers, their fields not decoded yet, or refusals.

    Raises:
        ConfigError: it is malformed.
    """
    text = b"".join(line for _, line in numbered)
    try:
        return _decode_array(text)
    except (ValueError, RecursionError):
        pass  # which element it is that is no object is found out below
    try:
        elements = _decode_elements(text)
    except (ValueError, RecursionError) as error:
        place = _BYTE.search(f"{error}")
        line = numbered[text.count(b"\n", 0, int(place[1])) if place else -1][0]
        why = f"{error}".removeprefix("JSON is malformed: ")
        token = next((f": {t.decode()} is no JSON; write null" for t in _NO_JSON if t in text), "")
        raise findings.error(f"line {line}: the JSON array is malformed: {why}{token}") from error
    found = [parse_raw(bytes(each), _decode_object, wire.record_bytes_max) for each in elements]
    return [_explain(each, text) if isinstance(each, Refusal) else each for each in found]


def _explain(refusal: Refusal, line: bytes) -> Refusal:
    """Return *refusal* with what to do."""
    text = refusal.detail
    if refusal.reason is Reason.NOT_UTF8:
        text += "; a file of another encoding needs --encoding"
    elif refusal.reason is Reason.NOT_AN_OBJECT:
        text = f"every row must be a JSON object: {text}"
    elif refusal.reason is Reason.NOT_JSON and (token := next((t for t in _NO_JSON if t in line), None)):
        text += f": {token.decode()} is no JSON; leave the field out, or write null"
    return Refusal(refusal.reason, text)


def split_features(rows: Iterable[Any]) -> Records:
    """Return *rows*, each an object or a Refusal, as `Records`: ``{"features": {…}, …}`` has its features apart."""
    features: list[dict[str, Any] | None] = []
    beside: list[dict[str, Any]] = []
    raw = False
    for row in rows:
        if isinstance(row, Refusal):
            features.append(None)
            beside.append({})
            continue
        inner = row.get("features")
        raw = raw or any(isinstance(value, msgspec.Raw) for value in row.values())
        if isinstance(inner, msgspec.Raw):
            inner = inner_fields(inner)
        features.append(inner if isinstance(inner, dict) else row)
        beside.append({n: v for n, v in row.items() if n != "features"} if isinstance(inner, dict) else row)
    return Records(features, beside, raw)


def inner_fields(raw: msgspec.Raw) -> dict[str, msgspec.Raw] | None:
    """Return the fields of an object that is not decoded yet, None if *raw* is something else."""
    if bytes(memoryview(raw)[:1]) != b"{":
        return None
    try:
        return _decode_object(raw)
    except (ValueError, RecursionError):
        return None
