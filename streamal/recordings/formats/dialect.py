"""How a text file is written: compression, encoding, delimiter, lines before the header."""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from streamal.recordings.findings import Findings
from streamal.recordings.rules import ReadingRules

__all__ = ["FALLBACK", "Dialect", "open_binary", "read_encoding", "sniff"]

_SAMPLE_BYTES = 1 << 18
_SAMPLE_LINES = 200
_DELIMITERS = ",;\t|"
_NAMES = {"tab": "\t", "\\t": "\t", "comma": ",", "semicolon": ";", "space": " ", "pipe": "|"}
_MARKS: Sequence[tuple[bytes, str]] = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
FALLBACK = "cp1252"
"""What a file that is no UTF-8 is taken for; said, since no program can tell."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a table is written as text.

    Attributes:
        delimiter: one character between two cells.
        skipped: lines before the header.
        header_prefix: what is cut off the header line: "#" where the header is a comment.
    """

    delimiter: str
    skipped: int = 0
    header_prefix: str = ""


@contextmanager
def open_binary(path: Path, findings: Findings) -> Iterator[BinaryIO]:
    """Give the bytes of *path*, unpacked if its name ends in ``.gz``.

    Raises:
        ConfigError: it cannot be opened or unpacked.
    """
    try:
        with cast("BinaryIO", gzip.open(path)) if path.suffix.lower() == ".gz" else path.open("rb") as file:
            yield file
    except (OSError, EOFError, zlib.error) as error:
        raise findings.error(getattr(error, "strerror", None) or f"{error}") from error


def read_encoding(path: Path, rules: ReadingRules, findings: Findings) -> str:
    """Return the encoding of *path*: the one that is given, that of its mark, UTF-16 or UTF-8 by its bytes.

    Raises:
        ConfigError: Python knows no encoding of the given name.
    """
    if rules.encoding is not None:
        try:
            name = codecs.lookup(rules.encoding).name
        except LookupError as error:
            raise findings.error(f"--encoding {rules.encoding}: there is no such encoding; try cp1252") from error
        return "utf-8-sig" if name == "utf-8" else name
    with open_binary(path, findings) as file:
        sample = file.read(_SAMPLE_BYTES)
    for mark, name in _MARKS:
        if sample.startswith(mark):
            return name
    if b"\0" in sample[:1_000]:
        zeros = [sample[:1_000:2].count(0), sample[1:1_000:2].count(0)]
        if max(zeros) > len(sample[:1_000]) // 8:
            return "utf-16-be" if zeros[0] > zeros[1] else "utf-16-le"
    try:
        codecs.getincrementaldecoder("utf-8")().decode(sample)
    except UnicodeDecodeError:
        return FALLBACK
    return "utf-8-sig"


def sniff(path: Path, encoding: str, rules: ReadingRules, label: str, findings: Findings) -> Dialect:
    """Return how the table in *path* is written; *label* is a column of it.

    Raises:
        ConfigError: the delimiter that was given is not one character.
    """
    with open_binary(path, findings) as file:
        sample = file.read(_SAMPLE_BYTES).decode(encoding, errors="replace")
    lines = list(io.StringIO(sample.removeprefix("\ufeff"), newline=""))[: _SAMPLE_LINES + 50]
    skipped, delimiter, comments = 0, rules.delimiter, []
    while skipped < len(lines):
        line = lines[skipped].strip()
        if line.strip('"').lower().startswith("sep=") and skipped == 0:
            delimiter = delimiter or line.strip('"')[4:5] or "\t"
        elif line.startswith("#"):
            comments.append(line)
        elif line:
            break
        skipped += 1
    body = lines[skipped : skipped + _SAMPLE_LINES]
    delimiter = _delimiter(body, label) if delimiter is None else _NAMES.get(delimiter, delimiter)
    if len(delimiter) != 1 or delimiter in '"\r\n':
        raise findings.error(f"--delimiter {delimiter!r}: one character, or tab")
    if comments and _is_header(comments[-1], body, label, delimiter, rules):
        findings.note("dialect", f"the header is the comment {comments[-1][:40]!r}")
        return Dialect(delimiter, skipped - 1, "#")
    if comments:
        findings.note("dialect", f"{len(comments)} lines before the header are comments", len(comments))
    return Dialect(delimiter, skipped)


def _is_header(comment: str, body: Sequence[str], label: str, delimiter: str, rules: ReadingRules) -> bool:
    """Return whether the header stands in *comment*, and not in the first line of *body*."""
    guessed = delimiter if rules.delimiter else _delimiter([comment], label)
    names, first = (_split(line, guessed) for line in (comment.lstrip("# "), body[0] if body else ""))
    return label in names and label not in first


def _delimiter(lines: Sequence[str], label: str) -> str:
    """Return the delimiter that gives the header the *label*, and the rows as many cells as the header has names."""
    scores = []
    for delimiter in _DELIMITERS:
        try:
            rows = [row for row in csv.reader(lines, delimiter=delimiter, skipinitialspace=True) if row]
        except csv.Error:
            continue
        if rows and len(rows[0]) > 1:
            width = len(rows[0])
            even = sum(len(row) == width for row in rows) / len(rows)
            scores.append((label in map(str.strip, rows[0]), even > 0.9, width, delimiter))
    return max(scores, key=lambda score: score[:3])[3] if scores else ","


def _split(line: str, delimiter: str) -> list[str]:
    return [name.strip().strip('"') for name in line.split(delimiter)]
