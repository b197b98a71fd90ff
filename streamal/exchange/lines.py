"""The lines of a file, of a pipe, or of a file that grows, in batches as they come."""

from __future__ import annotations

import gzip
import io
import os
import select
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple

from streamal.errors import ConfigError
from streamal.recordings.findings import Findings
from streamal.recordings.formats.dialect import require_kind

__all__ = ["Line", "count_lines", "follow_file", "read_file", "read_pipe", "split_lines"]

_CHUNK = 1 << 16
_WAIT_S = 0.2
"""A pipe that is silent is left so often, to look whether the command is to end."""


class Line(NamedTuple):
    """A line without its end; *number* counts from 1."""

    number: int
    text: bytes


def read_file(path: Path) -> Iterator[bytes]:
    """Yield the bytes of *path* in chunks, inflated if its name ends in ``.gz``.

    Raises:
        ConfigError: it cannot be read.
    """
    is_packed = path.suffix.lower() == ".gz"
    with _named(path), gzip.open(path) if is_packed else path.open("rb") as file:
        require_kind(path, is_packed, Findings(str(path)))
        yield from iter(lambda: file.read(_CHUNK), b"")


def count_lines(path: Path) -> int:
    """Return the number of line ends in *path*, for a progress bar."""
    return sum(chunk.count(b"\n") for chunk in read_file(path))


def read_pipe(stream: BinaryIO, stopped: Callable[[], bool]) -> Iterator[bytes]:
    """Yield what comes from *stream* as soon as it is there, until it ends or *stopped* returns True."""
    try:
        number = stream.fileno()
    except io.UnsupportedOperation:  # a stream in memory
        yield from iter(lambda: stream.read(_CHUNK), b"")
        return
    while not stopped():
        if not select.select([number], [], [], _WAIT_S)[0]:
            continue
        chunk = os.read(number, _CHUNK)
        if not chunk:
            return
        yield chunk


def follow_file(path: Path, wait: Callable[[], bool]) -> Iterator[bytes]:
    """Yield the bytes of *path*, and what is added to it, until *wait*, which sleeps a moment, returns True.

    A file that is replaced by another one (a log that is rotated) is read to its end, then the other one from its
    beginning; so is a file that was cut.

    Raises:
        ConfigError: it cannot be read.
    """
    with _named(path):
        file: BinaryIO = path.open("rb")
        try:
            last = b"\n"
            while True:
                if chunk := file.read(_CHUNK):
                    last = chunk[-1:]
                    yield chunk
                    continue
                if wait():
                    return
                following = _reopen(path, file)
                if following is None:
                    continue
                if rest := file.read():
                    last = rest[-1:]
                    yield rest
                if last != b"\n":
                    last = b"\n"
                    yield last  # nobody will finish that line
                file.close()
                file = following
        finally:
            file.close()


def _reopen(path: Path, file: BinaryIO) -> BinaryIO | None:
    """Return the file that is now in the place of *file*, the same one if it was cut; None if all is as it was."""
    try:
        there, ours = path.stat(), os.fstat(file.fileno())
    except FileNotFoundError:
        return None  # the other one is not there yet
    if (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino) and there.st_size >= file.tell():
        return None
    return path.open("rb")


def split_lines(chunks: Iterator[bytes], bytes_max: int, *, whole: bool = False) -> Iterator[list[Line]]:
    """Yield the lines in *chunks*, those of one chunk together; a byte order mark at the beginning is left out.

    A line that is longer than *bytes_max* is cut to one byte more than that: whoever checks its length refuses it.

    Args:
        chunks: the bytes as they come.
        bytes_max: so much of a line is kept.
        whole: leave out a last line without an end: whoever writes the file may be in the middle of it.
    """
    number, pending, first = 0, bytearray(), True
    for chunk in chunks:
        *ended, rest = chunk.split(b"\n")
        lines = []
        for part in ended:
            pending += part[: bytes_max + 2 - len(pending)]
            number += 1
            lines.append(Line(number, bytes(pending).removesuffix(b"\r")[: bytes_max + 1]))
            pending.clear()
        pending += rest[: bytes_max + 2 - len(pending)]
        if lines:
            yield _without_mark(lines) if first else lines
            first = False
    if pending and not whole:
        last = [Line(number + 1, bytes(pending).removesuffix(b"\r")[: bytes_max + 1])]
        yield _without_mark(last) if first else last


def _without_mark(lines: list[Line]) -> list[Line]:
    """Return *lines* without the byte order mark that spreadsheets write."""
    return [lines[0]._replace(text=lines[0].text.removeprefix(b"\xef\xbb\xbf")), *lines[1:]]


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Turn what reading *path* raises into a ConfigError that names it."""
    try:
        yield
    except (OSError, EOFError, zlib.error) as error:
        hint = ": it is damaged, or other bytes follow what is packed" if isinstance(error, gzip.BadGzipFile) else ""
        raise ConfigError(f"{path}: {getattr(error, 'strerror', None) or error}{hint}") from error
