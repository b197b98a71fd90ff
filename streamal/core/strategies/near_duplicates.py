"""Damping: near-duplicates of open requests are worth less, since their labels are on the way (Pham et al. 2022).

The uncertainty u of an event becomes u · Π (1 - k(x, xⱼ)) over the newest open requests xⱼ of its partition, with a
Gaussian kernel k over the features: numbers by their distance in mean absolute deviations of the open requests,
vectors by theirs in mean distances from the mean, everything else by equality.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Mapping

import numpy as np

from streamal.core.records import FeatureValue
from streamal.core.vectors import Array, ModelFeatures, as_arrays

__all__ = ["Damper"]

_KEPT = 50
"""Open requests that are compared with each event."""
_FEW = 3
"""With fewer there is no scale."""


class Damper:
    """The newest open requests of a partition, while a step lasts."""

    def __init__(self, width: float, open_: Iterable[Mapping[str, FeatureValue]]) -> None:
        """Damp within *width* scales, by *open_* features, oldest first."""
        self._factor = -0.5 / (width * width)
        self._open = deque(map(as_arrays, open_), maxlen=_KEPT)
        self._scales: dict[str, float] | None = None

    def add_request(self, features: Mapping[str, FeatureValue]) -> None:
        """Add the *features* of one more open request."""
        self._open.append(as_arrays(features))
        self._scales = None

    def damp(self, uncertainty: float, features: Mapping[str, FeatureValue]) -> float:
        """Return *uncertainty*, lowered by each open request that is near."""
        if len(self._open) < _FEW or not features:
            return uncertainty
        if self._scales is None:
            self._scales = self._deviations()
        point = as_arrays(features)
        for other in self._open:
            uncertainty *= 1.0 - math.exp(self._factor * self._distance(point, other))
        return uncertainty

    def _distance(self, one: ModelFeatures, other: ModelFeatures) -> float:
        """Return the mean squared distance over the features of *one*."""
        assert self._scales is not None
        total = 0.0
        for name, value in one.items():
            scale = self._scales.get(name, 0.0)
            theirs = other.get(name)
            if scale > 0.0 and isinstance(value, float) and isinstance(theirs, float):
                apart = (value - theirs) / scale
                total += min(1e6, apart * apart)
            elif isinstance(value, np.ndarray):
                total += _vectors_apart(value, theirs, scale)
            elif isinstance(theirs, np.ndarray) or value != theirs:
                total += 1.0
        return total / len(one)

    def _deviations(self) -> dict[str, float]:
        """Return name -> mean absolute deviation of the numbers among the open requests; of vectors, mean distance."""
        found: dict[str, list[float]] = {}
        vectors: dict[str, list[Array]] = {}
        for features in self._open:
            for name, value in features.items():
                if isinstance(value, float):
                    found.setdefault(name, []).append(value)
                elif isinstance(value, np.ndarray):
                    vectors.setdefault(name, []).append(value)
        scales = {}
        for name, values in found.items():
            middle = math.fsum(values) / len(values)
            scales[name] = math.fsum(abs(value - middle) for value in values) / len(values)
        for name, all_rows in vectors.items():
            # before there is a schema lengths may differ
            rows = [row for row in all_rows if len(row) == len(all_rows[-1])]
            apart = np.array(rows) - np.mean(rows, axis=0)
            scales[name] = float(np.sqrt(np.square(apart).sum(axis=1)).mean())
        return scales


def _vectors_apart(value: Array, theirs: object, scale: float) -> float:
    """Return the squared distance of two vectors in units of *scale*; 1 if there is none and they differ."""
    if not isinstance(theirs, np.ndarray) or len(theirs) != len(value):
        return 1.0
    square = float(np.square(value - theirs).sum())
    return min(1e6, square / scale**2) if scale > 0.0 else float(square > 0.0)
