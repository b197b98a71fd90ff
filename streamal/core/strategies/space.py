"""Past events as points, and the distances between them, for the strategies that look back.

Features become a point: numbers and truth values are standardised over the window, strings and texts hashed word by
word into a few columns, a vector added up in a few numbers. Standardising anew with each event would change all
distances each time, so the scale stands still for a *block* of w offsets: at its start it is taken from the w offsets
before, and everything else is computed afresh. So what is known at any time is a function of the events at the last 2w
offsets alone: a worker that has just started reads them back and decides as its predecessor would have.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import Any, Self

import numpy as np

from streamal.core.records import FeatureValue
from streamal.core.strategies.points import HASHED, vectorise
from streamal.core.strategies.sketch import Hyperplanes, Vector

__all__ = ["Block", "Cloud", "Neighbours", "Vector"]

_DEVIATIONS_MAX = 10.0
"""A number that lies further from the middle, in standard deviations, is moved to this distance."""
_AT_ONCE = 100_000  # numbers, when all distances are measured: what the processor's cache holds
_FIRST_BLOCK = 8
"""Before so many offsets there is no scale, and no distance."""


class Block(ABC):
    """Vectors of the events at the last offsets under the present block's scale."""

    def __init__(self, window: int) -> None:
        """Look back *window* offsets."""
        self.window = window
        self._recent: list[tuple[int, Mapping[str, FeatureValue], Vector]] = []
        self._start, self._words = -1, False
        self._names: list[str] = []
        self._middles: list[tuple[str, float]] = []
        self._mean: Vector = np.zeros(0)
        self._scale: Vector = np.ones(0)
        self._low = self._high = np.zeros(0)  # bounds, as arrays: NumPy takes long to make one of a float
        self._last_look: tuple[int, Any] | None = None

    def copy(self) -> Self:
        """Return one that can be changed without changing this one."""
        other = object.__new__(type(self))
        other.__dict__.update(
            (name, value.copy() if isinstance(value, list | np.ndarray) else value)
            for name, value in self.__dict__.items()
        )
        return other

    def take(self, offset: int, features: Mapping[str, FeatureValue]) -> None:
        """Take in the event at *offset*."""
        start = _block_of(offset, self.window)
        found = None
        if start != self._start:
            self._start, self._last_look = start, None
            self._recent = [past for past in self._recent if past[0] >= start - self.window]
            self._restart(self._rescale())
        elif self._last_look is not None and self._last_look[0] == offset:
            found = self._last_look[1]
        numbers, words = vectorise(features) if found is None else found[2]
        self._recent.append((offset, numbers, words))
        if self._names or self._words:
            self._add(offset, self._vector(numbers, words) if found is None else found[0], found)

    def look(self, offset: int, features: Mapping[str, FeatureValue]) -> Any:
        """Return what is known of the event at *offset*, which is not taken in yet; None if nothing is."""
        if not self._has_scale():
            return None
        if self._last_look is None or self._last_look[0] != offset:
            parsed = vectorise(features)
            point = self._vector(*parsed)
            self._last_look = offset, (point, self._measure(point), parsed)
        return self._last_look[1]

    def _rescale(self) -> Vector:
        """Take names, means and deviations from the last offsets; return those as points, a row each."""
        self._names = sorted(set[str]().union(*(numbers for _, numbers, _ in self._recent)))
        self._words = any(words is not None for _, _, words in self._recent)
        if self._start < _FIRST_BLOCK:
            self._names, self._words = [], False
        table = np.array(self._rows(), dtype=float).reshape(len(self._recent), len(self._names))
        if not table.size:
            self._mean = self._scale = self._low = self._high = np.zeros(0)
            self._middles = []
            return self._with_words(table)
        there = ~np.isnan(table)
        counts = there.sum(axis=0)
        self._mean = np.where(there, table, 0.0).sum(axis=0) / counts
        spread = np.sqrt((np.where(there, table - self._mean, 0.0) ** 2).sum(axis=0) / counts)
        self._scale = np.where(spread > 1e-12, spread, 1.0)
        self._middles = list(zip(self._names, self._mean.tolist(), strict=True))
        self._high = np.full(len(self._names), _DEVIATIONS_MAX)
        self._low = -self._high
        points = np.where(there, (table - self._mean) / self._scale, 0.0)
        return self._with_words(np.minimum(_DEVIATIONS_MAX, np.maximum(-_DEVIATIONS_MAX, points)))

    def _rows(self) -> Sequence[Any]:
        """Return the numbers of the last offsets, NaN where one is missing."""
        rows = [numbers for _, numbers, _ in self._recent]
        if self._names and all(len(numbers) == len(self._names) for numbers in rows):
            return list(map(itemgetter(*self._names), rows))
        return [[numbers.get(name, np.nan) for name in self._names] for numbers in rows]

    def _with_words(self, points: Vector) -> Vector:
        """Return *points* of the last offsets with the columns of their words."""
        if not self._words:
            return points
        none = np.zeros(HASHED)
        return np.hstack([points, np.array([none if words is None else words for _, _, words in self._recent])])

    def _vector(self, numbers: Mapping[str, FeatureValue], words: Vector) -> Vector:
        """Return the point: missing numbers lie in the middle, wild ones ten deviations from it."""
        get = numbers.get
        point = np.array([get(name, middle) for name, middle in self._middles], dtype=float)
        np.subtract(point, self._mean, out=point)
        np.divide(point, self._scale, out=point)
        np.maximum(point, self._low, out=point)
        np.minimum(point, self._high, out=point)
        if not self._words:
            return point
        return np.concatenate([point, np.zeros(HASHED) if words is None else words])

    @abstractmethod
    def _has_scale(self) -> bool: ...

    @abstractmethod
    def _restart(self, points: Vector) -> None: ...

    @abstractmethod
    def _measure(self, point: Vector) -> Any: ...

    @abstractmethod
    def _add(self, offset: int, point: Vector, found: Any) -> None: ...


class Cloud(Block):
    """The last w offsets as points; for `Probabilistic`."""

    def __init__(self, window: int) -> None:
        """Look back *window* offsets."""
        super().__init__(window)
        self._offsets: list[int] = []  # of the slots, -1 for an empty one
        self._oldest = self._newest = 0
        self._cut: Hyperplanes | None = None
        # a column each: a distance is then a sum of whole rows, and the same whatever the other columns hold
        self._points: Vector = None

    def _has_scale(self) -> bool:
        return self._points is not None and self._newest - self._oldest >= _FIRST_BLOCK // 2

    def _restart(self, points: Vector) -> None:
        """Take the last offsets under the new scale."""
        self._oldest = self._newest = 0
        self._points = self._cut = None
        if not (self._names or self._words):
            return
        self._newest = len(points)
        self._offsets = [offset for offset, _, _ in self._recent] + [-1] * (self.window - len(points))
        self._points = np.zeros((points.shape[1], self.window))
        self._points[:, : len(points)] = points.T

    def _measure(self, point: Vector) -> Vector:
        """Return the squared distance of *point* from each slot, an empty one or not."""
        return _squared_distances(self._points, point)

    def _add(self, offset: int, point: Vector, found: Any) -> None:
        self._forget(offset)
        self._put(offset, point)

    def _forget(self, offset: int) -> list[int]:
        """Empty the slots that are too old for the event at *offset*, and return which."""
        size, expired = self.window, []
        while self._oldest < self._newest and self._offsets[self._oldest % size] <= offset - size:
            expired.append(self._oldest % size)
            self._offsets[expired[-1]] = -1
            self._oldest += 1
        return expired

    def _put(self, offset: int, point: Vector) -> None:
        """Put *point* into the next slot."""
        slot = self._newest % self.window
        self._points[:, slot], self._offsets[slot] = point, offset
        self._newest += 1

    def likeness(self, offset: int, features: Mapping[str, FeatureValue]) -> tuple[float, float, Sequence[int]]:
        """Return the means of exp(-16d²), "the same", and exp(-2d²), "in a crowd", d² over its mean; and the places."""
        found = self.look(offset, features)
        if found is None:
            return 1.0, 1.0, ()
        if self._cut is None:
            self._cut = Hyperplanes(self._names, HASHED if self._words else 0)
        squares = found[1]
        if self._newest - self._oldest < self.window:
            squares = squares[np.array(self._offsets) >= 0]
        n = len(squares)
        width = max(1e-12, float(np.add.reduce(squares)) / n)
        wide = np.exp(squares * (-2.0 / width))
        fourth = np.square(np.square(wide))
        return float(fourth @ fourth) / n, float(np.add.reduce(wide)) / n, self._cut.places(found[0])


class Neighbours(Cloud):
    """The last w offsets and the distances between them; for `Density`."""

    def __init__(self, window: int) -> None:
        """Look back *window* offsets."""
        super().__init__(window)
        self._squared_distances: Vector = (
            None  # between slots; -1 all along the row of an empty one, which is nobody's neighbour
        )
        self._nearest: Vector = None  # each slot's least

    def _restart(self, points: Vector) -> None:
        """Measure all distances among the last offsets under the new scale."""
        super()._restart(points)
        if self._points is None:
            return
        n = len(points)
        self._squared_distances = np.full((self.window, self.window), -1.0)
        few = max(1, _AT_ONCE // self._points.size)
        for first in range(0, n, few):
            # as a difference of squares, equal points would not be at a distance of 0
            away = self._points[:, None, :] - points.T[:, first : first + few, None]
            np.multiply(away, away, out=away)
            np.add.reduce(away, axis=0, out=self._squared_distances[first : min(n, first + few)])
        self._squared_distances[:n, n:] = np.inf
        np.fill_diagonal(self._squared_distances[:n, :n], np.inf)
        self._nearest = self._squared_distances.min(axis=1)

    def _add(self, offset: int, point: Vector, found: Any) -> None:
        row = self._measure(point) if found is None else found[1]
        expired, slot = self._forget(offset), self._newest % self.window
        self._put(offset, point)
        squares, nearest = self._squared_distances, self._nearest
        orphans = (nearest == squares[slot]).nonzero()[0].tolist() if slot in expired else []
        for other in expired:
            if other != slot:
                orphans += (nearest == squares[other]).nonzero()[0].tolist()
                squares[:, other] = np.inf
                squares[other] = nearest[other] = -1.0
        row[slot] = np.inf
        nearest[slot] = -1.0
        if self._newest - self._oldest < self.window:
            members = nearest >= 0.0
            row = np.where(members, row, np.inf)
            squares[members, slot] = row[members]
        else:
            squares[:, slot] = row
        squares[slot] = row
        np.minimum(nearest, row, out=nearest)
        for other in orphans:  # whoever had one that is gone as its nearest neighbour has to find another
            nearest[other] = np.minimum.reduce(squares[other])
        nearest[slot] = np.minimum.reduce(row)

    def local_density(self, offset: int, features: Mapping[str, FeatureValue]) -> int:
        """Return of how many past events this is the, or a, nearest neighbour (Ienco); 1 while too little is known."""
        found = self.look(offset, features)
        return 1 if found is None else int(np.count_nonzero(found[1] <= self._nearest))


def _block_of(offset: int, window: int) -> int:
    """Return the first offset of the block that *offset* is in; the first blocks grow from 8 to *window* offsets."""
    if offset >= window:
        return offset // window * window
    return 1 << (offset.bit_length() - 1) if offset >= _FIRST_BLOCK else 0


def _squared_distances(points: Vector, point: Vector) -> Vector:
    """Return the squared distances of *points*, a column each, from *point*."""
    away = points - point[:, None]
    np.multiply(away, away, out=away)
    return np.add.reduce(away, axis=0)
