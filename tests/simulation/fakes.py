"""The parts that the simulation gives to the daemon: all small, all deterministic, all able to fail."""

from __future__ import annotations

import math
import pickle
import sys
from collections import Counter
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

from river import base

from streamal.core.fold import Fold
from streamal.core.snapshot import encode_snapshot

FINGERPRINT = "simulated"
SNAPSHOTS_KEPT = 2
DEADLY = frozenset({6, 60, 66})
LETHAL = 666


class SimulatedCrash(BaseException):
    """The process is gone; only the world catches it."""


class Chain(base.Classifier):
    """A classifier whose state is a hash chain of all that it has learned: any divergence shows in any prediction.

    It raises on an example with a true ``poison``, when it has already changed: the half-learn of fault F34. One whose
    ``x`` is `DEADLY` leaves it answering NaN for good, from the example after it on (0.4). An event whose ``x`` is
    `LETHAL` ends the process that predicts it (F35).
    """

    def __init__(self, salt: str = "") -> None:
        self.salt = salt
        self.chain = _digest(salt.encode())
        self.seen: list[str] = []
        self.ill = self.dead = False

    @property
    def _multiclass(self) -> bool:
        return True

    def learn_one(self, x: dict[Any, Any], y: Any) -> None:
        self.chain = _digest(self.chain + repr(sorted(x.items())).encode())
        self.ill, self.dead = self.ill or x.get("x") in DEADLY, self.ill
        if x.get("poison"):
            raise ValueError("half-learned")
        self.chain = _digest(self.chain + str(y).encode())
        if y not in self.seen:
            self.seen.append(y)

    def predict_proba_one(self, x: dict[Any, Any], **kwargs: Any) -> dict[Any, float]:
        if x.get("x") == LETHAL:
            raise SimulatedCrash
        drawn = _digest(self.chain + repr(sorted(x.items())).encode())
        weights = {label: 1 + drawn[number % len(drawn)] for number, label in enumerate(self.seen)}
        total = math.nan if self.dead else sum(weights.values())
        return {label: weight / total for label, weight in weights.items()}


class FakeClock:
    """Stands where the schedule has put it; no worker may believe a time after *latest*.

    Attributes:
        elapsed: what the monotonic clock shows.
        skews: worker -> how wrong its own clock is.
        jumps: when the clock, or that of one worker (else None), has jumped, and how far.
    """

    def __init__(self) -> None:
        self.time = self.latest = 1_000.0
        self.elapsed = 0.0
        self.skews: dict[str, float] = {}
        self.jumps: list[tuple[float, str | None, float]] = []

    def move(self, seconds: float) -> None:
        """Let *seconds* pass."""
        self.time, self.elapsed, self.latest = self.time + seconds, self.elapsed + seconds, self.latest + seconds

    def jump(self, seconds: float) -> None:
        """Set the clock forward or back; no monotonic clock sees it."""
        self.time = max(0.0, self.time + seconds)
        self.jumps.append((self.elapsed, None, abs(seconds)))
        self._look()

    def skew(self, worker: str, seconds: float) -> None:
        """Set the clock of *worker* alone wrong, or right again (0)."""
        self.jumps.append((self.elapsed, worker, abs(seconds - self.skews.get(worker, 0.0))))
        self.skews[worker] = seconds
        self._look()

    def of(self, worker: str) -> WorkerClock:
        """Return the clock of *worker*."""
        return WorkerClock(self, worker)

    def _look(self) -> None:
        self.latest = max(self.latest, self.time + max(0.0, *self.skews.values(), 0.0))


@dataclass(frozen=True)
class WorkerClock:
    """The clock as one worker sees it."""

    clock: FakeClock
    worker: str

    def now(self) -> float:
        return max(0.0, self.clock.time + self.clock.skews.get(self.worker, 0.0))

    def monotonic(self) -> float:
        return self.clock.elapsed


@dataclass(slots=True)
class Stored:
    """A snapshot on the disk; *damaged* is what the checksum of the real shelf would find out."""

    data: bytes
    damaged: bool = False


@dataclass
class Shelf:
    """The snapshots of one instance, newest first, on a disk that outlives processes and can be tampered with."""

    disk: list[Stored] = field(default_factory=list)
    full: bool = False
    saved: list[bytes] = field(default_factory=list)
    """Whatever was ever saved, for the checks."""
    problems: tuple[str, ...] = ()

    def load(self) -> list[bytes]:
        return [stored.data for stored in self.disk if not stored.damaged]

    def save(self, data: bytes) -> bool:
        if self.full:
            return False
        self.disk.insert(0, Stored(data))
        self.saved.append(data)
        del self.disk[SNAPSHOTS_KEPT:]
        return True

    def lose(self) -> None:
        """Lose everything."""
        self.disk.clear()

    def rot(self) -> None:
        """Flip bits of the newest: it still loads, and would predict differently (F39), but for the checksum."""
        if self.disk:
            self.disk[0] = Stored(_altered(self.disk[0].data, FINGERPRINT), damaged=True)

    def remake(self) -> None:
        """Put a snapshot of another make on top (F41): same log, another model."""
        if self.disk:
            self.disk.insert(0, Stored(_altered(self.disk[0].data, "another make")))

    def garble(self) -> None:
        """Replace the newest by bytes that pass the checksum and are no snapshot."""
        if self.disk:
            self.disk[0] = Stored(b"garbage")

    def copy(self, other: Shelf) -> None:
        """Take over the (staler or newer) files of another instance (F42)."""
        self.disk[:] = other.disk


@dataclass
class Notes:
    """The step note of one instance, on a disk that outlives processes; see `streamal.daemon.poison.NoteFile`."""

    note: bytes = b""

    def load(self) -> bytes:
        return self.note

    def write(self, note: bytes, *, durable: bool) -> None:
        if not isinstance(sys.exc_info()[1], SimulatedCrash):  # the dead write nothing
            self.note = note


class NoTimer:
    """No step takes time here."""

    def arm(self, seconds: float) -> None:
        """Do nothing."""

    def disarm(self) -> None:
        """Do nothing."""


class MarkMeter:
    """Counts what the daemon counts, as marks "name kind"."""

    def __init__(self, marks: Counter[str]) -> None:
        self._marks = marks

    def count(self, name: str, kind: str, amount: float, at: str = "") -> None:
        self._marks[f"{name} {kind}".strip()] += int(amount)

    def gauge(self, name: str, value: float) -> None:
        """Forget it."""

    def observe(self, name: str, value: float, at: str = "") -> None:
        """Forget it."""


class MarkLog:
    """Turns what the daemon says at its start into marks."""

    def __init__(self, marks: Counter[str], shelf: Shelf) -> None:
        self._marks, self._shelf = marks, shelf
        self._skipped = bool(shelf.disk) and shelf.disk[0].damaged

    def info(self, event: str, **fields: Any) -> None:
        if event.startswith("clock_"):
            self._marks[event.replace("_", " ")] += 1
        if event != "started":
            return
        if fields["restored"] and self._skipped:
            self._marks["fallback to an older snapshot"] += 1
        elif fields["restored"]:
            self._marks["restored from a snapshot"] += 1
        elif fields["version"]:
            self._marks["full replay"] += 1

    def warning(self, event: str, **fields: Any) -> None:
        if event == "snapshot_not_taken":
            self._skipped = True
            self._marks["snapshot not taken"] += 1
        elif isinstance(fields.get("error"), str) and "can be read up to" in fields["error"]:
            self._marks["waits for the log"] += 1
        elif event == "example_quarantined":
            self._marks["quarantined"] += 1
        elif event.startswith("clock_"):
            self._marks[event.replace("_", " ")] += 1
        elif event == "model_sick":
            self._marks["sick"] += 1


def _digest(data: bytes) -> bytes:
    return blake2b(data, digest_size=8).digest()


def _altered(data: bytes, fingerprint: str) -> bytes:
    """Return the snapshot *data* with another model inside."""
    try:
        fold: Fold = pickle.loads(data)[2]
    except pickle.UnpicklingError:
        return data
    estimator: Chain = fold.learned.model._estimator
    estimator.chain = _digest(estimator.chain)
    fold.learned.model._learned["rotten"] = 3
    return encode_snapshot(fold, fingerprint)
