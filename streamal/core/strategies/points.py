"""One event's features as numbers with names and hashed words, before they are scaled."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from functools import lru_cache

import numpy as np

from streamal.core.records import FeatureValue
from streamal.core.strategies.sketch import Vector
from streamal.core.vectors import component_names

__all__ = ["HASHED", "vectorise"]

HASHED = 64
"""Columns for words. Two texts that meet in one look a little more alike than they are."""
_SKETCHED = 32
"""Numbers that a vector becomes."""
_COMPOUND = frozenset({str, list, np.ndarray})


def vectorise(features: Mapping[str, FeatureValue]) -> tuple[Mapping[str, FeatureValue], Vector]:
    """Return (numbers by name, hashed words, each feature's of length √½: two single words are at a distance of 1)."""
    if not _COMPOUND.intersection(map(type, features.values())):
        return features, None
    numbers: dict[str, float] = {}
    hashed: Vector = None
    for name, value in features.items():
        if isinstance(value, str):
            tokens = value.split()
            if tokens:
                seed = zlib.crc32(name.encode(errors="replace"))
                columns = [zlib.crc32(token.encode(errors="replace"), seed) % HASHED for token in tokens]
                own = np.bincount(columns, minlength=HASHED).astype(float)
                own *= 0.5**0.5 / np.sqrt(own @ own)
                hashed = own if hashed is None else hashed + own
        elif isinstance(value, bool | float | int):
            numbers[name] = float(value)
        else:
            numbers.update(_sketch(name, np.asarray(value)))
    return numbers, hashed


def _sketch(name: str, vector: Vector) -> Iterator[tuple[str, float]]:
    """Return the *vector* as a few named numbers: each is the sum of some of its numbers, by signs drawn once.

    Distances stay about the same (count sketch: Charikar, Chen & Farach-Colton, ICALP 2002).
    """
    columns, signs = _columns(len(vector))
    sums = np.bincount(columns, weights=vector * signs)
    return zip(component_names(name, len(sums)), sums.tolist(), strict=True)


@lru_cache(maxsize=64)
def _columns(length: int) -> tuple[Vector, Vector]:
    """Return the column of each number of a vector, and its sign."""
    signs = [1.0 if zlib.crc32(b"%d" % number) & 1 else -1.0 for number in range(length)]
    return np.arange(length) % _SKETCHED, np.array(signs)
