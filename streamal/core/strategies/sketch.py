"""An estimate, from 256 small counts, of how many labels lie near an event: the state of `Probabilistic` stays small.

A repeated array-of-counts estimator (Luo & Shrivastava, WWW 2018; Coleman & Shrivastava, WWW 2020): each of 8 rows
cuts the space by eight random hyperplanes, folds the eight bits into one of 32 buckets, and counts the labels in each.
Two points meet in a row the more often the closer they are, so that the mean of an event's own 8 counts, less what
chance alone would put there, is a kernel sum over all labels, however many and however long ago.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from hashlib import blake2b
from operator import add
from typing import Any

import numpy as np

__all__ = ["EMPTY_COUNTS", "Hyperplanes", "Vector", "add_label", "labels_near"]

_ROWS, _BITS, _BUCKETS = 8, 8, 32
_ZERO = 35
"""Code of the character that counts none; up to the backslash JSON writes all of them as they are."""
_MOST = 56
EMPTY_COUNTS = chr(_ZERO) * (_ROWS * _BUCKETS)
"""The counts without any label."""
_FOLDED = bytes((byte >> 5) ^ (byte & 31) for byte in range(256))
_FIRST = tuple(row * _BUCKETS for row in range(_ROWS))

Vector = Any  # np.ndarray, whose shape mypy cannot see


class Hyperplanes:
    """The cuts through a space of named columns; the same for the same names, wherever and whenever."""

    def __init__(self, names: Sequence[str], words: int = 0) -> None:
        """Cut the space of the numbers with these *names* and of so many columns of *words*, which are no feature's."""
        names = [*names, *(f"\0{column}" for column in range(words))]
        signs = np.array([_signs(name) for name in names]).reshape(len(names), _ROWS * _BITS)
        self._normals = (signs / max(1, len(names)) ** 0.5).T.copy()
        self._cuts = _cuts()

    def places(self, point: Vector) -> Sequence[int]:
        """Return the number of the count in each row that *point* belongs to."""
        buckets = np.packbits(self._normals.dot(point) > self._cuts).tobytes().translate(_FOLDED)
        return list(map(add, _FIRST, buckets))


def labels_near(counts: str, labels: int, places: Sequence[int]) -> float:
    """Return how many of the *labels* in *counts* lie where an event with these *places* lies."""
    found = sum(map(counts.encode().__getitem__, places)) / _ROWS - _ZERO
    return max(0.0, (found - labels / _BUCKETS) * (_BUCKETS / (_BUCKETS - 1)))


def add_label(counts: str, labels: int, places: Sequence[int]) -> tuple[str, int]:
    """Return counts and labels with one more; when a count is full all counts are halved, which forgets old labels."""
    if not places:
        return counts, labels
    codes, labels = bytearray(counts.encode()), labels + 1
    for place in places:
        codes[place] += 1
    if max(map(codes.__getitem__, places)) > _ZERO + _MOST:
        codes, labels = bytearray(_ZERO + (code - _ZERO) // 2 for code in codes), labels // 2
    return codes.decode(), labels


@cache
def _cuts() -> Vector:
    """Return where the hyperplanes cut, within a deviation of the middle."""
    return np.frombuffer(blake2b(b"cuts", digest_size=_ROWS * _BITS).digest(), "u1") / 127.5 - 1.0


@cache
def _signs(name: str) -> Vector:
    bits = np.unpackbits(np.frombuffer(blake2b(name.encode(errors="replace"), digest_size=_ROWS).digest(), "u1"))
    return bits * 2.0 - 1.0
