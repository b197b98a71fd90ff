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

__all__ = [
    "FALLBACK",
    "Dialect",
    "named_delimiter",
    "open_binary",
    "read_encoding",
    "require_kind",
    "require_no_utf8",
    "sniff",
]

_SAMPLE_BYTES = 1 << 18
_SAMPLE_LINES = 200
_TITLE_LINES = 30
_DELIMITERS = ",;\t|"
_NAMES = {"tab": "\t", "\\t": "\t", "comma": ",", "semicolon": ";", "space": " ", "pipe": "|"}
_MARKS: Sequence[tuple[bytes, str]] = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_GZIP = b"\x1f\x8b"
_OTHER_KINDS: Sequence[tuple[bytes, str]] = (
    (_GZIP, "packed with gzip: let its name end in .gz"),
    (b"PK\x03\x04", "an Excel file or a ZIP archive: save the sheet as CSV, or unpack it"),
    (b"\xd0\xcf\x11\xe0", "an Excel file: save the sheet as CSV"),
    (b"PAR1", "a Parquet file: let its name end in .parquet"),
    (b"BZh", "packed with bzip2: unpack it"),
    (b"\xfd7zXZ", "packed with xz: unpack it"),
    (b"\x28\xb5\x2f\xfd", "packed with zstd: unpack it"),
    (b"SQLite format 3", "a data base of SQLite: export the table as CSV"),
)
"""The first bytes of files that are no text, and what to do with them."""
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
    is_packed = path.suffix.lower() == ".gz"
    try:
        require_kind(path, is_packed, findings)
        with cast("BinaryIO", gzip.open(path)) if is_packed else path.open("rb") as file:
            yield file
    except gzip.BadGzipFile as error:
        raise findings.error(f"it is damaged, or other bytes follow what is packed ({error}): pack it anew") from error
    except EOFError as error:
        raise findings.error(f"it is cut off ({error}): copy it again") from error
    except (OSError, zlib.error) as error:
        raise findings.error(getattr(error, "strerror", None) or f"{error}") from error


def require_kind(path: Path, is_packed: bool, findings: Findings) -> None:
    """Raise a ConfigError if the first bytes of *path* are those of another kind of file than its name says."""
    with path.open("rb") as file:
        first = file.read(16)
    if is_packed and first and not first.startswith(_GZIP):
        raise findings.error("it is not packed with gzip, as its name says: leave .gz out of the name")
    for mark, text in () if is_packed else _OTHER_KINDS:
        if first.startswith(mark):
            raise findings.error(f"it is {text}")


def read_encoding(path: Path, rules: ReadingRules, findings: Findings) -> str:
    """Return the encoding of *path*: the one that is given, that of its mark, UTF-16 or UTF-8 by its bytes.

    Raises:
        ConfigError: Python knows no encoding of the given name.
    """
    if rules.encoding is not None:
        try:
            name = codecs.lookup(rules.encoding).name
            b"a".decode(name, errors="replace")  # not all that Python calls codecs are encodings of texts
        except (LookupError, UnicodeError) as error:
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


def require_no_utf8(path: Path, findings: Findings) -> None:
    """Raise a ConfigError that names the line if *path* is UTF-8 but for few bytes: in cp1252 all texts were odd."""
    with open_binary(path, findings) as file:
        text = file.read().decode(errors="replace")
    bad = text.count("\ufffd")
    if sum(not char.isascii() for char in text) > 2 * bad:
        line = text.count("\n", 0, text.index("\ufffd")) + 1
        raise findings.error(
            f"line {line} is no UTF-8, and other lines are: mend it, or name the encoding (--encoding)"
        )


def named_delimiter(line: str) -> str:
    """Return the delimiter that a ``sep=`` line names, as Excel writes it above the header; "" if it is no such line.

    >>> named_delimiter("sep=;"), named_delimiter("a;b")
    (';', '')
    """
    bare = line.strip().strip('"')
    return (bare[4:5] or "\t") if bare.lower().startswith("sep=") else ""


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
        if skipped == 0 and (named := named_delimiter(line)):
            delimiter = delimiter or named
        elif line.startswith("#"):
            comments.append(line)
        elif line:
            break
        skipped += 1
    above = _lines_above(lines[skipped:], label, delimiter) if label else 0
    if above:
        title = lines[skipped].strip()[:40]
        text = f"the header is line {skipped + above + 1}: {title!r} and what else is above is no row"
        findings.note("dialect", text, above)
        skipped += above
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


def _lines_above(lines: Sequence[str], label: str, delimiter: str | None) -> int:
    """Return how many of *lines* are a title above the header: it is the first one with the *label* as a cell."""
    for above, line in enumerate(lines[:_TITLE_LINES]):
        for each in _DELIMITERS if delimiter is None else [_NAMES.get(delimiter, delimiter)]:
            if each and label in _split(line.removeprefix("#"), each) and (above == 0 or each in line):
                return above
    return 0


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
