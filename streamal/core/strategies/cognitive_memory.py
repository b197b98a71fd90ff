"""The memory of `Cognitive`: ten past events. With so few, plain lists are quicker than NumPy."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import repeat
from operator import le
from typing import Any

from streamal.core.records import FeatureValue
from streamal.core.strategies.space import Block, Vector

__all__ = ["CognitiveMemory"]


class CognitiveMemory(Block):
    """The ten events that `Cognitive` remembers; its docstring says which one is forgotten."""

    size = 10

    def __init__(self, window: int) -> None:
        """Remember ten events of the last *window* offsets or more."""
        super().__init__(window)
        self._time = 0
        self._kept: list[list[float]] = []
        """The points; the other lists go with it."""
        self._least: list[float] = []
        """The distance of the nearest event ever since."""
        self._recalled: list[int] = []
        self._recalls: list[int] = []

    def _has_scale(self) -> bool:
        return len(self._kept) > 1

    def _restart(self, points: Vector) -> None:
        """Take in the events of the last offsets again, under the new scale."""
        self._time, self._kept, self._least, self._recalled, self._recalls = 0, [], [], [], []
        if self._names or self._words:
            for point in points:
                self._add(0, point, None)

    def _measure(self, point: Vector) -> tuple[list[float], list[float]]:
        """Return (point, its distance from each kept event); so few are quicker without NumPy."""
        plain = point.tolist()
        return plain, list(map(math.dist, self._kept, repeat(plain)))

    def _add(self, offset: int, point: Vector, found: Any) -> None:
        plain, away = self._measure(point) if found is None else found[1]
        self._time += 1
        now, least, recalled, recalls = self._time, self._least, self._recalled, self._recalls
        for i, distance in enumerate(away):
            if distance <= least[i]:
                least[i], recalled[i] = distance, now
                recalls[i] += 1
        self._kept.append(plain)
        least.append(min(away, default=math.inf))
        recalled.append(now)
        recalls.append(0)
        if len(recalls) > self.size:
            # memory strength exp(-(now - recalled)/(recalls + 1)): the exponent says as much
            strengths = [(when - now) / (times + 1) for when, times in zip(recalled, recalls, strict=True)]
            weakest = strengths.index(min(strengths))
            del self._kept[weakest], least[weakest], recalled[weakest], recalls[weakest]

    def local_density(self, offset: int, features: Mapping[str, FeatureValue]) -> int:
        """Return how many of the remembered events this one would be the nearest neighbour of; 1 at first."""
        found = self.look(offset, features)
        return 1 if found is None else sum(map(le, found[1][1], self._least))
