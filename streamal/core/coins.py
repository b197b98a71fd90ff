"""Uniform numbers without a generator: each is a hash of a seed and of what it is for.

There is no state to save, numbers of different purposes are independent, and a replay decides as the live run did.
`HashedUniform` gives one number for each key, `EventCoins` four for each event of a partition.
"""

from __future__ import annotations

from functools import lru_cache
from hashlib import blake2b, shake_128

import numpy as np

__all__ = ["EventCoins", "HashedUniform"]


class HashedUniform:
    """Independent uniform numbers, one for each key.

    >>> HashedUniform(7, "strategy").uniform("0-1845") == HashedUniform(7, "strategy").uniform("0-1845")
    True
    """

    __slots__ = ("_keyed",)

    def __init__(self, seed: int, purpose: str) -> None:
        """Prepare the numbers of *seed* for one *purpose* (at most 16 bytes)."""
        self._keyed = blake2b(digest_size=8, key=str(seed).encode()[:64], person=purpose.encode())

    def uniform(self, key: str) -> float:
        """Return a number in [0, 1) that depends on seed, purpose and *key* alone; 53 bits of BLAKE2b (RFC 7693)."""
        state = self._keyed.copy()
        state.update(key.encode())
        return (int.from_bytes(state.digest()) >> 11) * 2.0**-53


class EventCoins:
    """Four independent uniform numbers for each event of a partition; one hash gives those of 64 events.

    >>> EventCoins(7).uniform(1845) == EventCoins(7).uniform(1845)
    True
    """

    __slots__ = ("_block", "_number", "_partition", "_seed")

    def __init__(self, seed: int, partition: int = 0) -> None:
        """Prepare the numbers of *partition* under *seed*."""
        self._seed, self._partition = seed, partition
        self._number = -1
        self._block: list[list[float]] = []

    def uniform(self, offset: int) -> list[float]:
        """Return four numbers in [0, 1) that depend on seed, partition and *offset* alone; 32 bits each."""
        number = offset // _EVENTS
        if number != self._number:
            self._number, self._block = number, _block(self._seed, self._partition, number)
        return self._block[offset % _EVENTS]


_EVENTS, _COINS = 64, 4


@lru_cache(maxsize=64)  # where a step has only few events, the next ones are of the same block
def _block(seed: int, partition: int, number: int) -> list[list[float]]:
    """Return the numbers of `_EVENTS` offsets, from SHAKE128 (FIPS 202), which gives as many bits as one asks for."""
    bits = shake_128(f"streamal {seed} {partition} {number}".encode()).digest(4 * _COINS * _EVENTS)
    coins: list[list[float]] = (np.frombuffer(bits, "<u4") * 2.0**-32).reshape(_EVENTS, _COINS).tolist()
    return coins
