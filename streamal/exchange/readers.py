"""Readers of replies in a file: every format of the export. They check what a row looks like, not its request."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from streamal import INSTALL
from streamal.core.codec.replies import decode_reply
from streamal.core.codec.wire_rules import WireRules
from streamal.core.labels import class_name
from streamal.core.records import Refusal, Reply
from streamal.errors import ConfigError
from streamal.exchange.label_studio import read_annotation
from streamal.exchange.writers import Format
from streamal.recordings.findings import Findings
from streamal.recordings.formats.delimited import read_cells
from streamal.recordings.formats.json_rows import read_lines
from streamal.recordings.missing import Missing
from streamal.recordings.rules import ReadingRules

__all__ = ["RowFlaw", "RowReply", "read_replies"]

_ABSTAINS = {"example": False, "abstention": True}
"""The kinds of exported rows that are replies -> whether the reply is an abstention."""
_GUESSED = frozenset({"label", "abstain", "seconds", "annotator"})
"""Fields in which texts such as NA stand for nothing."""
_FIELDS = ("request", "label", "abstain", "annotator", "reply", "seconds")


class RowReply(NamedTuple):
    """The reply in a row; *value* is the record for ``labels``."""

    row: int
    reply: Reply
    value: bytes


class RowFlaw(NamedTuple):
    """The reason why a row is refused."""

    row: int
    reason: str


def read_replies(
    path: Path, kind: Format, rules: WireRules, reading: ReadingRules, findings: Findings
) -> Iterator[RowReply | RowFlaw | None]:
    """Yield for each row of *path* its reply, its flaw, or None where it is no reply (an expiry).

    Rows are counted from 1: lines of JSON lines, rows after the header of a table, tasks of Label Studio. *reading*
    says how a text file is to be understood; what was guessed goes into *findings*.

    Raises:
        ConfigError: the file cannot be read, or is not of this format.
    """
    readers: Mapping[Format, Callable[[Path, ReadingRules, Findings], Iterator[tuple[int, Any]]]] = {
        Format.JSONL: _jsonl,
        Format.CSV: _csv,
        Format.PARQUET: _parquet,
        Format.LABEL_STUDIO: _tasks,
    }
    try:
        for number, row in readers[kind](path, reading, findings):
            yield row if isinstance(row, RowFlaw) else _decode_row(number, row, rules)
    except (OSError, ValueError, RecursionError) as error:  # UnicodeError and pyarrow's are ValueErrors
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise ConfigError(f"{path}: not readable as {kind}: {reason}") from error


def _decode_row(number: int, row: Any, rules: WireRules) -> RowReply | RowFlaw | None:
    """Return the reply in *row*, after the same checks that the trainer makes."""
    if not isinstance(row, dict):
        return RowFlaw(number, "it is no JSON object")
    kind = row.get("kind")
    if kind is not None and kind not in _ABSTAINS:
        return None
    given = {name: row[name] for name in _FIELDS if row.get(name) is not None}
    if kind is not None:
        given["abstain"] = _ABSTAINS[kind]
    if not given.get("abstain"):
        given.pop("abstain", None)
    if "reply" not in given:
        given["reply"] = _reply_name(given)
    value = json.dumps(given, ensure_ascii=False).encode("utf-8", "surrogatepass")
    reply = decode_reply(value, rules, None)
    if isinstance(reply, Refusal):
        return RowFlaw(number, reply.detail)
    if not isinstance(reply, Reply):
        return RowFlaw(number, "field 'request' is missing")
    return RowReply(number, reply, value)


def _reply_name(given: Mapping[str, Any]) -> str:
    """Return a name for a reply that has none: the same reply gets the same name at every import."""
    label = None if given.get("label") is None else class_name(given["label"])
    content = json.dumps([given.get("request"), label, given.get("abstain"), given.get("annotator")])
    return f"import-{hashlib.sha256(content.encode()).hexdigest()[:24]}"


def _jsonl(path: Path, reading: ReadingRules, findings: Findings) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(read_lines(path, reading, findings), 1):
        if line.strip():
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                row = RowFlaw(number, f"it is no JSON: {error}")
            yield number, row


def _csv(path: Path, reading: ReadingRules, findings: Findings) -> Iterator[tuple[int, Any]]:
    names, rows = read_cells(path, "request", reading, None, findings)
    if "request" not in names:
        raise ValueError(f"there is no column 'request', but {', '.join(names) or 'none at all'}")
    missing = Missing(reading.na, reading.classes)
    for row, cells in enumerate(rows):
        number = findings.location(row).row
        yield number, _parse_texts(number, dict(zip(names, cells, strict=True)), missing)
    for loss in findings.losses():
        yield loss.first[0].row, RowFlaw(loss.first[0].row, loss.text)


def _parse_texts(number: int, row: Mapping[str, str], missing: Missing) -> Any:
    """Return a row of texts with its numbers and truth values parsed and its missing fields left out."""
    given: dict[str, Any] = {
        name: value.strip() if name == "request" else value
        for name, value in row.items()
        if not (missing.is_missing(value) if name in _GUESSED else not value)
    }
    try:
        if "seconds" in given:
            given["seconds"] = float(given["seconds"])
    except ValueError:
        return RowFlaw(number, f"field 'seconds' is {given['seconds']!r}, no number")
    if "abstain" in given:
        truth = given["abstain"].strip().lower()
        if truth not in ("true", "false", "1", "0"):
            return RowFlaw(number, f"field 'abstain' is {given['abstain']!r}, neither true nor false")
        given["abstain"] = truth in ("true", "1")
    return given


def _parquet(path: Path, _reading: ReadingRules, _findings: Findings) -> Iterator[tuple[int, Any]]:
    try:
        from pyarrow import parquet  # noqa: PLC0415
    except ImportError as error:
        raise ConfigError(f"Parquet needs pyarrow: {INSTALL.format(extra='parquet')}") from error
    with parquet.ParquetFile(path) as file:
        names = [name for name in (*_FIELDS, "kind") if name in file.schema_arrow.names]
        if "request" not in names:
            raise ValueError("there is no column 'request'")
        rows = (row for batch in file.iter_batches(columns=names) for row in batch.to_pylist())
        yield from enumerate(rows, 1)


def _tasks(path: Path, _reading: ReadingRules, _findings: Findings) -> Iterator[tuple[int, Any]]:
    """Yield one row for each annotation of each task; a task without any is no reply."""
    tasks = json.loads(path.read_bytes())
    if not isinstance(tasks, list):
        raise ValueError("Label Studio's JSON is a list of tasks")  # noqa: TRY004
    for number, task in enumerate(tasks, 1):
        if not isinstance(task, dict) or not isinstance(task.get("data"), dict):
            yield number, RowFlaw(number, "it is no task: it has no object 'data'")
            continue
        request, meta = task["data"].get("request"), task.get("meta") or {}
        annotations = [each for each in task.get("annotations") or () if isinstance(each, dict)]
        if request is None and annotations:
            yield number, RowFlaw(number, "its data have no field 'request': it is none of our tasks")
        for annotation in annotations if request is not None else ():
            parsed = read_annotation(annotation)
            if parsed.flaw:
                yield number, RowFlaw(number, f"an annotation of request {request} is unclear: {parsed.flaw}")
                continue
            row = {
                "request": request,
                "label": parsed.label,
                "abstain": parsed.label is None,
                "seconds": parsed.seconds,
            }
            row["annotator"] = parsed.annotator or meta.get("annotator")
            row["reply"] = parsed.reply or meta.get("reply")
            yield number, row
        if not annotations:
            yield number, {"kind": "unanswered"}
