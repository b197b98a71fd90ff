"""One life of a worker, and how a broken promise is reported."""

from __future__ import annotations

from dataclasses import dataclass

from streamal.daemon.daemon import Daemon
from streamal.edge.memory import MemoryTransport


class Violation(Exception):
    """A promise was broken; *check* is the number of the invariant."""

    def __init__(self, check: str, what: str) -> None:
        super().__init__(f"{check}: {what}")
        self.check = check


@dataclass(eq=False, slots=True)
class Process:
    """One life of a worker."""

    name: str
    before: Process | None
    transport: MemoryTransport | None = None
    daemon: Daemon | None = None
    alive: bool = True
    paused: bool = False
    woken: bool = False
    fenced: bool = False
    started: tuple[float, float] = (0.0, 0.0)
    """What its clock and its monotonic clock showed when it started."""
    generation: int = 0
    """Of the group, at the last poll."""
