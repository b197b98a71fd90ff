"""The gain over random: two small models beside the real one, and the difference between their accuracies.

*random* learns the audit lane's labels alone, which are a uniform sample of the stream. *chosen* learns exactly as
many: whenever an audit label comes, one of the labels of both lanes since the last audit label (itself included),
drawn by a keyed hash. Both are asked about each audit label before they learn anything from it, so the events that they
are compared on are a uniform sample too, and the same for both.

The difference is what choosing labels is worth **at the audit lane's number of labels**, which is smaller than all that
are bought: as many random labels as that cannot be had without buying them. A choice that is worth something with few
labels may be worth less with many. What *chosen* learns was chosen by the uncertainty of the real model, which
knows more than *chosen* does, and that may make it look worse than it is.
"""

from __future__ import annotations

import math
from collections import deque

from streamal.core.coins import HashedUniform
from streamal.core.model.model import Model
from streamal.core.quality.estimates import Z_95, Estimate
from streamal.core.records import Example, Lane
from streamal.core.vectors import ModelFeatures

__all__ = ["RandomControl"]

_COIN = HashedUniform(0, "control")


class RandomControl:
    """The two models, and how they compared on the last audit labels; a fold, like the model itself."""

    def __init__(self, random: Model, chosen: Model, window: int) -> None:
        """Take two models that begin as the real one did; compare them over the last *window* audit labels."""
        self.random, self.chosen = random, chosen
        self._candidate: tuple[ModelFeatures, str] | None = None
        self._candidates = 0
        self._gains: deque[int] = deque(maxlen=window)

    def fold(self, example: Example, features: ModelFeatures) -> None:
        """Take in one bought label with its selected *features*."""
        self._candidates += 1
        if self._candidate is None or _COIN.uniform(example.request) * self._candidates < 1.0:
            self._candidate = features, example.label
        if example.lane is not Lane.AUDIT:
            return
        by_choice, at_random = (self._right(model, example, features) for model in (self.chosen, self.random))
        self._gains.append(by_choice - at_random)
        self.random.learn(features, example.label)
        self.chosen.learn(*self._candidate)
        self._candidate, self._candidates = None, 0

    def gain(self) -> Estimate | None:
        """Return accuracy(chosen) - accuracy(random) in [-1, 1], paired, with its 95 % interval; None without labels.

        Agresti & Min 2005: half a made-up win on each side, so that few labels without a difference prove nothing.
        """
        n = len(self._gains)
        if not n:
            return None
        total, discordant = sum(self._gains), sum(map(abs, self._gains)) + 1.0
        middle = total / (n + 2.0)
        half = Z_95 * math.sqrt(max(0.0, discordant - total * total / (n + 2.0))) / (n + 2.0)
        return Estimate(total / n, max(-1.0, middle - half), min(1.0, middle + half))

    @staticmethod
    def _right(model: Model, example: Example, features: ModelFeatures) -> bool:
        said = model.predict(features)
        return bool(said) and max(said, key=said.__getitem__) == example.label
