"""Past events as points: what the strategies that look back measure distances with. The only NumPy of the core.

Features become a vector: numbers and truth values are standardised over the window, strings and texts hashed word by
word into a few columns. Standardising anew with each event would change all distances each time, so the scale stands
still for a *block* of w offsets: at its start it is taken from the w offsets before, and everything else is computed
afresh. So what is known at any time is a function of the events at the last 2w offsets, however it was come by: a
worker that has just started reads them back and decides as its predecessor would have.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping
from typing import Any, Self

import numpy as np

from streamal.core.records import Scalar

__all__ = ["Cognition", "Neighbours", "vectorised"]

_HASHED = 64
"""Columns for words. Two texts that meet in one look a little more alike than they are."""
_FIRST_BLOCK = 8
"""Before so many offsets there is no scale, and no distance."""

Vector = Any  # np.ndarray, whose shape mypy cannot see


class _Block:
    """Vectors of the events at the last offsets under the present block's scale."""

    def __init__(self, window: int) -> None:
        """Look back *window* offsets."""
        self.window = window
        self._recent: list[tuple[int, dict[str, float], Vector]] = []
        self._start = -1
        self._names: list[str] = []
        self._middles: list[tuple[str, float]] = []
        self._mean: Vector = np.zeros(0)
        self._scale: Vector = np.ones(0)
        self._words = False
        self._looked: tuple[int, Any] | None = None

    def copy(self) -> Self:
        """Return one that can be changed without changing this one."""
        other = object.__new__(type(self))
        other.__dict__.update(
            (name, value.copy() if isinstance(value, list | np.ndarray) else value)
            for name, value in self.__dict__.items()
        )
        return other

    def take(self, offset: int, features: Mapping[str, Scalar]) -> None:
        """Take in the event at *offset*."""
        start = _block_of(offset, self.window)
        looked = None
        if start != self._start:
            self._start, self._looked = start, None
            self._recent = [past for past in self._recent if past[0] >= start - self.window]
            self._restart(self._rescaled())
        elif self._looked is not None and self._looked[0] == offset:
            looked = self._looked[1]
        numbers, words = vectorised(features) if looked is None else looked[2]
        self._recent.append((offset, numbers, words))
        if self._names or self._words:
            self._add(offset, self._vector(numbers, words) if looked is None else looked[0], looked)

    def look(self, offset: int, features: Mapping[str, Scalar]) -> Any:
        """Return what is known of the event at *offset*, which is not taken in yet; None if nothing is."""
        if not self._known():
            return None
        if self._looked is None or self._looked[0] != offset:
            parsed = vectorised(features)
            point = self._vector(*parsed)
            self._looked = offset, (point, self._measured(point), parsed)
        return self._looked[1]

    def _rescaled(self) -> Vector:
        """Take names, means and deviations from the last offsets; return those as points, a row each."""
        self._names = sorted({name for _, numbers, _ in self._recent for name in numbers})
        self._words = any(words is not None for _, _, words in self._recent)
        if self._start < _FIRST_BLOCK:
            self._names, self._words = [], False
        rows = [[numbers.get(name, np.nan) for name in self._names] for _, numbers, _ in self._recent]
        table = np.array(rows, dtype=float).reshape(len(rows), len(self._names))
        if not table.size:
            self._mean, self._scale, self._middles = np.zeros(0), np.ones(0), []
            return self._with_words(table)
        there = ~np.isnan(table)
        counts = there.sum(axis=0)
        self._mean = np.where(there, table, 0.0).sum(axis=0) / counts
        spread = np.sqrt((np.where(there, table - self._mean, 0.0) ** 2).sum(axis=0) / counts)
        self._scale = np.where(spread > 1e-12, spread, 1.0)
        self._middles = list(zip(self._names, self._mean.tolist(), strict=True))
        points = np.where(there, (table - self._mean) / self._scale, 0.0)
        return self._with_words(np.minimum(10.0, np.maximum(-10.0, points)))

    def _with_words(self, points: Vector) -> Vector:
        """Return *points* of the last offsets with the columns of their words."""
        if not self._words:
            return points
        none = np.zeros(_HASHED)
        return np.hstack([points, np.array([none if words is None else words for _, _, words in self._recent])])

    def _vector(self, numbers: dict[str, float], words: Vector) -> Vector:
        """Return the point: missing numbers lie in the middle, wild ones ten deviations from it."""
        get = numbers.get
        raw = np.array([get(name, middle) for name, middle in self._middles])
        point = np.minimum(10.0, np.maximum(-10.0, (raw - self._mean) / self._scale))
        if not self._words:
            return point
        return np.concatenate([point, np.zeros(_HASHED) if words is None else words])

    def _known(self) -> bool:
        raise NotImplementedError

    def _restart(self, points: Vector) -> None:
        raise NotImplementedError

    def _measured(self, point: Vector) -> Any:
        raise NotImplementedError

    def _add(self, offset: int, point: Vector, looked: Any) -> None:
        raise NotImplementedError


class Neighbours(_Block):
    """The last w offsets and the distances between them; for `Density` and `Probabilistic`."""

    def __init__(self, window: int) -> None:
        """Look back *window* offsets."""
        super().__init__(window)
        self._offsets: list[int] = []
        """Of the slots, -1 for an empty one."""
        self._oldest = self._newest = 0
        self._points: Vector = None
        self._squares: Vector = None
        """Squared distances between slots; -1 all along the row of an empty slot, which is nobody's neighbour."""
        self._nearest: Vector = None
        """Each slot's least squared distance."""

    def _known(self) -> bool:
        return self._points is not None and self._newest - self._oldest >= _FIRST_BLOCK // 2

    def _restart(self, points: Vector) -> None:
        """Measure all distances among the last offsets under the new scale."""
        self._oldest = self._newest = 0
        self._points = None
        if not (self._names or self._words):
            return
        size, n = self.window, len(points)
        self._newest = n
        self._offsets = [offset for offset, _, _ in self._recent] + [-1] * (size - n)
        self._points = np.zeros((size, points.shape[1]))
        self._points[:n] = points
        self._squares = np.full((size, size), -1.0)
        for slot in range(n):  # one by one: as a difference of squares, equal points would not be at a distance of 0
            self._squares[slot, :n] = _squares(points, points[slot])
        self._squares[:n, n:] = np.inf
        np.fill_diagonal(self._squares[:n, :n], np.inf)
        self._nearest = self._squares.min(axis=1)

    def _measured(self, point: Vector) -> Vector:
        """Return the squared distance of *point* from each slot, an empty one or not."""
        return _squares(self._points, point)

    def _add(self, offset: int, point: Vector, looked: Any) -> None:
        row = self._measured(point) if looked is None else looked[1]
        size, squares, nearest = self.window, self._squares, self._nearest
        while self._oldest < self._newest and self._offsets[self._oldest % size] <= offset - size:
            self._evict(self._oldest % size)
            self._oldest += 1
        slot = self._newest % size
        self._newest += 1
        self._points[slot], self._offsets[slot] = point, offset
        row[slot] = np.inf
        if self._newest - self._oldest == size:
            squares[:, slot] = row
        else:
            members = nearest >= 0.0
            row = np.where(members, row, np.inf)
            np.copyto(squares[:, slot], row, where=members)
        squares[slot] = row
        np.minimum(nearest, row, out=nearest)
        nearest[slot] = np.minimum.reduce(row)

    def _evict(self, slot: int) -> None:
        """Empty *slot*; whoever had it as its nearest neighbour has to find another."""
        squares, nearest = self._squares, self._nearest
        bereft = (nearest == squares[slot]).nonzero()[0].tolist()
        squares[:, slot] = np.inf
        squares[slot] = -1.0
        nearest[slot] = -1.0
        for other in bereft:
            nearest[other] = np.minimum.reduce(squares[other])

    def local_density(self, offset: int, features: Mapping[str, Scalar]) -> int:
        """Return of how many past events this one is the (or a) nearest neighbour: Ienco's local density factor.

        1 as long as there is too little to tell.
        """
        looked = self.look(offset, features)
        return 1 if looked is None else len((looked[1] <= self._nearest).nonzero()[0])

    def likeness(self, offset: int, features: Mapping[str, Scalar]) -> float:
        """Return the mean Gaussian kernel between this and the past events, as wide as they are apart; 1 at first."""
        looked = self.look(offset, features)
        if looked is None:
            return 1.0
        squares = looked[1]
        if self._newest - self._oldest < self.window:
            squares = squares[self._nearest >= 0.0]
        width = max(1e-12, float(np.add.reduce(squares)) / len(squares))
        # a quarter of the mean squared distance: the cloud itself is no single neighbourhood
        return float(np.add.reduce(np.exp(squares * (-2.0 / width)))) / len(squares)


class Cognition(_Block):
    """A few events worth remembering; for `Cognitive`. See there for who is forgotten."""

    size = 10

    def __init__(self, window: int) -> None:
        """Remember ten events of the last *window* offsets or more."""
        super().__init__(window)
        self._time = 0
        self._kept: list[tuple[list[float], float, int, int]] = []
        """(point, least distance, time of the last recall, recalls)."""

    def _known(self) -> bool:
        return len(self._kept) > 1

    def _restart(self, points: Vector) -> None:
        """Live through the last offsets again under the new scale."""
        self._time, self._kept = 0, []
        if self._names or self._words:
            for point in points:
                self._add(0, point, None)

    def _measured(self, point: Vector) -> tuple[list[float], list[float]]:
        """Return (point, its distance from each kept event); so few are quicker without NumPy."""
        plain = point.tolist()
        return plain, [math.dist(kept[0], plain) for kept in self._kept]

    def _add(self, offset: int, point: Vector, looked: Any) -> None:
        plain, away = self._measured(point) if looked is None else looked[1]
        self._time += 1
        now = self._time
        self._kept = [
            (kept[0], distance, now, kept[3] + 1) if distance <= kept[1] else kept
            for kept, distance in zip(self._kept, away, strict=True)
        ]
        self._kept.append((plain, min(away, default=math.inf), now, 0))
        if len(self._kept) > self.size:
            # memory strength exp(-(now - recalled)/(recalls + 1)): the exponent says as much
            strengths = [(recalled - now) / (recalls + 1) for _, _, recalled, recalls in self._kept]
            del self._kept[strengths.index(min(strengths))]

    def local_density(self, offset: int, features: Mapping[str, Scalar]) -> int:
        """Return how many of the remembered events this one would be the nearest neighbour of; 1 at first."""
        looked = self.look(offset, features)
        if looked is None:
            return 1
        return sum([distance <= kept[1] for kept, distance in zip(self._kept, looked[1][1], strict=True)])


def _block_of(offset: int, window: int) -> int:
    """Return the first offset of the block that *offset* is in; the first blocks grow from 8 to *window* offsets."""
    if offset >= window:
        return offset // window * window
    return 1 << (offset.bit_length() - 1) if offset >= _FIRST_BLOCK else 0


def _squares(points: Vector, point: Vector) -> Vector:
    """Return the squared distances of *points* from *point*."""
    away = points - point
    return np.einsum("ij,ij->i", away, away)


def vectorised(features: Mapping[str, Scalar]) -> tuple[dict[str, float], Vector]:
    """Return (numbers by name, hashed words, each feature's of length √½: two single words are at a distance of 1)."""
    numbers: dict[str, float] = {}
    hashed: Vector = None
    for name, value in features.items():
        if isinstance(value, str):
            tokens = value.split()
            if tokens:
                seed = zlib.crc32(name.encode(errors="replace"))
                columns = [zlib.crc32(token.encode(errors="replace"), seed) % _HASHED for token in tokens]
                own = np.bincount(columns, minlength=_HASHED).astype(float)
                own *= 0.5**0.5 / np.sqrt(own @ own)
                hashed = own if hashed is None else hashed + own
        else:
            numbers[name] = float(value)
    return numbers, hashed
