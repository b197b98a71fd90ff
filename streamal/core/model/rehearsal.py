"""Rehearsal: with each new example some recent ones are learned again, since labels are scarce and computing is not.

The choice is a keyed hash of how many examples there were, so that every worker, every replay and every snapshot
repeats the same. It is experience replay (Lin 1992) with a window for a memory: what is older than the window is never
repeated, so that a stream that drifts is not held back.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from streamal.core.coins import HashedUniform
from streamal.core.vectors import ModelFeatures

__all__ = ["Rehearsal", "WeightedExample"]


class WeightedExample(NamedTuple):
    """One example as a model learns it: the arguments of `Model.learn`."""

    features: ModelFeatures
    label: str
    weight: float | None = None


class Rehearsal:
    """The last *window* examples; each new one repeats *repeats* of them. 0: nothing is kept or repeated."""

    def __init__(self, window: int = 0, repeats: int = 0, seed: int = 0) -> None:
        """Start with nothing to repeat; *seed* is of the coin."""
        assert (window > 0) >= (repeats > 0), "repeats need a window"
        self._window, self.repeats, self._seed = window, repeats, seed
        self._kept: list[WeightedExample] = []
        self._count = 0

    def rehearse(self, example: WeightedExample) -> Iterator[WeightedExample]:
        """Yield *example* and then those to be repeated with it, and keep it."""
        yield example
        if not self.repeats:
            return
        coin, kept = HashedUniform(self._seed, "rehearsal"), self._kept
        for repeat in range(self.repeats if kept else 0):
            yield kept[int(coin.uniform(f"{self._count}.{repeat}") * len(kept))]
        if len(kept) < self._window:
            kept.append(example)
        else:
            kept[self._count % self._window] = example
        self._count += 1
