"""The other edges from a `Config`: the clock, the snapshots, the admin port as it is reached from its own machine."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from streamal.config import Config, ServerConfig, reveal
from streamal.daemon.poison import Poison, Timer
from streamal.edge.snapshots import DirectorySnapshots
from streamal.edge.step_notes import FileNotes
from streamal.errors import StreamalError, Unreadable
from streamal.ports import Clock, Snapshots

__all__ = ["AdminPort", "WallClock", "admin_port", "new_poison", "note_life", "open_snapshots"]


class AdminPort(NamedTuple):
    """The address of a daemon's admin port, without a path, and what it takes to get in.

    `streamal.edge.scrape.ask` uses it.
    """

    url: str
    token: str | None
    certificate: str | None


class WallClock(Clock):
    """The time of day."""

    def now(self) -> float:
        """Return seconds since the epoch."""
        return time.time()

    def monotonic(self) -> float:
        """Return seconds since some moment in the past."""
        return time.monotonic()


def admin_port(server: ServerConfig) -> AdminPort | None:
    """Return how to reach the port of *server* from its own machine; None if it is off, or any free one."""
    if not server.enabled or not server.port:
        return None
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]", "::1": "[::1]"}.get(server.host, server.host)  # noqa: S104
    url = f"http{'s' * (server.tls_certfile is not None)}://{host}:{server.port}"
    certificate = None if server.tls_certfile is None else str(server.tls_certfile)
    return AdminPort(url, reveal(server.token), certificate)


def new_poison(config: Config, timer: Timer) -> Poison | None:
    """Return what notes the work under way, beside the snapshots; None without a directory for them."""
    directory, limits = config.snapshots.directory, config.limits
    if directory is None:
        return None
    return Poison(FileNotes(directory / "under-way.json"), timer, limits.poison_attempts, limits.step_max_s)


@contextmanager
def note_life(config: Config) -> Iterator[bool]:
    """Note on the disk, while the block runs, that this process works; yield whether the last one died without a word.

    Whoever is killed (memory used up, `kill -9`) cannot take the note back. Nor does a batch that cannot be read:
    the next start is to find it too.
    """
    directory = config.snapshots.directory
    if directory is None:
        yield False
        return
    note = FileNotes(directory / "running")
    died = bool(note.load())
    note.write(b"running", durable=False)
    try:
        yield died
    except Unreadable:
        raise
    except StreamalError:
        note.write(b"", durable=False)
        raise
    note.write(b"", durable=False)


def open_snapshots(config: Config) -> Snapshots | None:
    """Return the snapshot cache, or None where it is switched off."""
    directory, key = config.snapshots.directory, reveal(config.snapshots.key)
    return None if directory is None else DirectorySnapshots(directory, key=None if key is None else key.encode())
