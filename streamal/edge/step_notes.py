"""A note on the local disk about the work under way, by which the next life learns where this one died (F35)."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

__all__ = ["FileNotes"]

_BYTES_MAX = 65_536


class FileNotes:
    """One line in the file *path*, written over in place: a death of the process cannot lose it, only of the machine.

    The note is advice and no truth: where the disk refuses it, the loop goes on without one.
    """

    def __init__(self, path: Path) -> None:
        """Open the file, or make it."""
        self._file = -1
        with suppress(OSError):
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            self._file = os.open(path, flags, 0o600)

    def load(self) -> bytes:
        """Return the note of the life before, b"" if there is none."""
        with suppress(OSError):
            return os.pread(self._file, _BYTES_MAX, 0).partition(b"\n")[0]
        return b""

    def write(self, note: bytes, *, durable: bool) -> None:
        """Replace the note; *durable*: it survives a death of the machine too."""
        with suppress(OSError):
            os.pwrite(self._file, note + b"\n", 0)
            if durable:
                os.fsync(self._file)

    def close(self) -> None:
        """Close the file; closing twice is allowed."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
