"""Snapshots as files. A file that is damaged, or not ours, is left out; losing one costs only time.

F39, a snapshot rots: a bare pickle with one flipped bit loads without an error in a quarter of the cases and then
predicts differently. So a file is a frame, ``magic | version | length | SHA-256 | payload``. F38, killed while a
snapshot is written: a file gets its name only when all of it is on the disk (write a temporary file, fsync it, rename
it, fsync the directory). The reader decides what the payload means, and whether it fits the log and the code.

With a *key* the checksum is an HMAC: a file that somebody else has put there is never unpickled.
"""

from __future__ import annotations

import errno
import hashlib
import hmac
import os
import re
import secrets
import stat
import struct
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

__all__ = ["DirectorySnapshots", "Disk"]

_MAGIC = b"streamal"
_VERSION = 1
_SIGNED = 2
"""The version of a file whose digest is an HMAC."""
_HEAD = struct.Struct(">8sIQ32s")
"""Magic, version, length of the payload, SHA-256 of the payload."""
_NAME = re.compile(r"snapshot-(\d{12})\.bin")
_TMP = re.compile(r"snapshot-[0-9a-f]{16}\.tmp")
_OPEN_READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
"""A link is not followed, and a FIFO does not block the start."""
_OPEN_WRITE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
_CHUNK = 1 << 20


class Disk(NamedTuple):
    """The system calls in use. F40, a disk that is full, read-only or slow: a test replaces them."""

    makedirs: Callable[..., None] = os.makedirs
    listdir: Callable[[Path], list[str]] = os.listdir
    open: Callable[..., int] = os.open
    fstat: Callable[[int], os.stat_result] = os.fstat
    read: Callable[[int, int], bytes] = os.read
    write: Callable[[int, Any], int] = os.write
    fsync: Callable[[int], None] = os.fsync
    close: Callable[[int], None] = os.close
    replace: Callable[[Path, Path], None] = os.replace
    unlink: Callable[[Path], None] = os.unlink


class DirectorySnapshots:
    """The *keep* newest snapshots in *directory*; the number in a file's name tells its age, no clock does.

    F50, code in snapshots: the payload will be unpickled. So a file counts only if this user owns it and nobody else
    may write to it, whatever the directory's mode. Processes may share a directory; then they share the cache.

    Attributes:
        problems: what went wrong in the last call, one line each, for the log.
    """

    def __init__(self, directory: Path, keep: int = 2, disk: Disk | None = None, key: bytes | None = None) -> None:
        """Take the place; `save` creates it, for this user alone. With a *key*, only files signed with it count."""
        assert keep >= 1, "a snapshot that is not kept is none"
        assert key is None or key, "an empty key signs nothing"
        self._key, self._version = key, _VERSION if key is None else _SIGNED
        self._directory, self._keep, self._disk = directory, keep, disk or Disk()
        self._damaged: set[str] = set()
        self._swept = False
        self.problems: tuple[str, ...] = ()

    def load(self) -> Sequence[bytes]:
        """Return up to *keep* readable snapshots, newest first; `problems` names each that was left out and why."""
        self.problems = ()
        found: list[bytes] = []
        try:
            names = self._names()
        except FileNotFoundError:
            return found
        except OSError as error:
            self._note(f"{self._directory}: {error.strerror or error}")
            return found
        for name in names:
            if len(found) == self._keep:
                break
            try:
                found.append(self._read(self._directory / name))
            except (OSError, _DamagedError) as error:
                self._damaged.add(name)
                self._note(f"{self._directory / name}: {error}; left out")
        return found

    def save(self, data: bytes) -> bool:
        """Store *data* durably beside the snapshot before it; return False if the disk refuses, never raise OSError.

        After a refusal all files are as before, and `problems` has the reason.
        """
        self.problems = ()
        tmp = self._directory / f"snapshot-{secrets.token_hex(8)}.tmp"
        target: Path | None = None
        try:
            self._disk.makedirs(self._directory, mode=0o700, exist_ok=True)
            names = self._names()
            number = 1 + max((int(name[9:21]) for name in names), default=0)
            self._write(tmp, data)
            path = self._directory / f"snapshot-{number:012d}.bin"
            self._disk.replace(tmp, path)
            target = path
            self._sync_directory()
        except OSError as error:
            self._note(f"{self._directory}: snapshot not saved: {error}")
            for left in (tmp, target):
                if left is not None:
                    self._remove(left)
            return False
        self._damaged.discard(target.name)
        kept = sorted((target.name, *names), key=lambda name: (name not in self._damaged, name), reverse=True)
        for name in kept[self._keep :]:
            self._remove(self._directory / name)
            self._damaged.discard(name)
        return True

    def _names(self) -> list[str]:
        """Return the files' names, newest first; the first call removes what a killed process has left half-written."""
        listed = self._disk.listdir(self._directory)
        if not self._swept:
            # A process that shares the directory and is saving right now fails this once, and saves the next time.
            self._swept = True
            for name in filter(_TMP.fullmatch, listed):
                self._remove(self._directory / name)
        return sorted(filter(_NAME.fullmatch, listed), reverse=True)

    def _read(self, path: Path) -> bytes:
        fd = self._disk.open(path, _OPEN_READ)
        try:
            status = self._disk.fstat(fd)
            if not stat.S_ISREG(status.st_mode):
                raise _DamagedError("not a regular file")
            if status.st_uid != os.geteuid() or status.st_mode & 0o022:
                raise _DamagedError("another user owns it or may write to it")
            if status.st_size < _HEAD.size:
                raise _DamagedError("truncated")
            magic, version, length, digest = _HEAD.unpack(self._read_exactly(fd, _HEAD.size))
            if magic != _MAGIC:
                raise _DamagedError("no snapshot: wrong magic")
            if version != self._version:
                raise _DamagedError(
                    {
                        (_VERSION, _SIGNED): "not signed, and snapshots.key is set",
                        (_SIGNED, _VERSION): "signed, and snapshots.key is not set",
                    }.get((version, self._version), f"written in format {version}, this is format {self._version}")
                )
            if length != status.st_size - _HEAD.size:
                raise _DamagedError(f"announces {length} bytes and has {status.st_size - _HEAD.size}")
            payload = self._read_exactly(fd, length)
            if not hmac.compare_digest(self._digest(payload), digest):
                raise _DamagedError("checksum does not match" if self._key is None else "signature does not match")
            return payload
        finally:
            with suppress(OSError):
                self._disk.close(fd)

    def _digest(self, payload: bytes) -> bytes:
        if self._key is None:
            return hashlib.sha256(payload).digest()
        return hmac.digest(self._key, payload, "sha256")

    def _read_exactly(self, fd: int, length: int) -> bytes:
        parts = bytearray()
        while len(parts) < length:
            part = self._disk.read(fd, min(_CHUNK, length - len(parts)))
            if not part:
                raise _DamagedError("truncated while being read")
            parts += part
        return bytes(parts)

    def _write(self, path: Path, data: bytes) -> None:
        fd = self._disk.open(path, _OPEN_WRITE, 0o600)
        try:
            for part in (_HEAD.pack(_MAGIC, self._version, len(data), self._digest(data)), data):
                rest = memoryview(part)
                while rest:
                    rest = rest[self._disk.write(fd, rest[:_CHUNK]) :]
            self._disk.fsync(fd)
        except BaseException:
            with suppress(OSError):
                self._disk.close(fd)
            raise
        self._disk.close(fd)  # NFS reports a full disk only here

    def _sync_directory(self) -> None:
        """Make the rename durable; a file system that cannot sync a directory is accepted."""
        fd = self._disk.open(self._directory, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY)
        try:
            self._disk.fsync(fd)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOTSUP):
                raise
        finally:
            with suppress(OSError):
                self._disk.close(fd)

    def _remove(self, path: Path) -> None:
        try:
            self._disk.unlink(path)
        except FileNotFoundError:
            pass
        except OSError as error:
            self._note(f"{path}: cannot be removed: {error.strerror or error}")

    def _note(self, problem: str) -> None:
        self.problems = (*self.problems, problem)


class _DamagedError(Exception):
    """The reason why a file is left out."""
