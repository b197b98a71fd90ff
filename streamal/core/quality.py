"""Honest accuracy from labels that were bought where the model is weak.

The share of correct predictions *among the labels asked* is wrong by 10 to 20 points, since the hard events were
asked. Each example carries the propensity p with which its event was to be asked; weighting by 1/p undoes the
choice (Hájek's estimator, Σ c/p / Σ 1/p, c = 1 if the prediction made *before* the label came was right).
It assumes that whether an annotator answers does not depend on whether the model was right.
"""

from __future__ import annotations

import bisect
import math
from collections import Counter, deque
from typing import NamedTuple

from streamal.core.records import Closing, Example

__all__ = ["Estimate", "Quality", "Sums"]

_Z = 1.959963984540054
"""Two-sided 95 %."""


class Estimate(NamedTuple):
    """An accuracy with its 95 % interval, all in [0, 1]."""

    value: float
    low: float
    high: float


class Sums:
    """The sums that the estimate needs."""

    __slots__ = ("count", "right", "w", "w2", "w2c", "wc")

    def __init__(self) -> None:
        """Start with no example."""
        self.count = self.right = 0
        self.w = self.wc = self.w2 = self.w2c = 0.0

    def add(self, weight: float, correct: bool) -> None:
        """Add one example of this *weight* = 1/propensity."""
        self.count += 1
        self.w += weight
        self.w2 += weight * weight
        if correct:
            self.right += 1
            self.wc += weight
            self.w2c += weight * weight

    def naive(self) -> float | None:
        """Return the share of correct predictions among the labels: what one should not look at."""
        return self.right / self.count if self.count else None

    def estimate(self) -> Estimate | None:
        """Return Hájek's estimate with a Wilson interval of the effective sample size, or None without examples.

        Delta method: V = Σ w²(c - Â)² / (Σ w)². The effective size is that of a simple random sample with this
        variance, Â(1-Â)/V, but never more than Kish's (Σ w)²/Σ w²: V is too small for as long as no mistake of a
        large weight has been sampled, which is how intervals without that bound come to be overconfident.
        """
        if not self.count or self.w <= 0.0:
            return None
        a = min(1.0, max(0.0, self.wc / self.w))
        kish = self.w * self.w / self.w2
        variance = max(0.0, self.w2c * (1.0 - 2.0 * a) + self.w2 * a * a) / (self.w * self.w)
        n = min(kish, a * (1.0 - a) / variance) if variance > 0.0 and 0.0 < a < 1.0 else kish
        return _wilson(a, max(1.0, n))


class Quality:
    """A fold of ``training``: the estimate over everything, and over the last labels in order of their events."""

    def __init__(self, window: int) -> None:
        """Keep *window* examples for the figure that follows the present."""
        self._window_max = window
        self._window: list[tuple[float, str, float, bool]] = []
        self.total = Sums()
        self.closed: Counter[str] = Counter()
        """How many requests of each lane ended how: "audit example", "strategy expiry" …"""
        self._natural: deque[bool] = deque(maxlen=window)
        self.natural_count = 0

    def fold(self, record: Closing) -> None:
        """Take in one closed request."""
        self.closed[f"{record.lane} {type(record).__name__.lower()}"] += 1
        if not isinstance(record, Example) or record.propensity <= 0.0:
            return
        weight, correct = 1.0 / record.propensity, record.label == record.predicted
        self.total.add(weight, correct)
        bisect.insort(self._window, (record.asked_at, record.request, weight, correct))
        if len(self._window) > self._window_max:
            del self._window[0]

    def recent(self) -> Sums:
        """Return the sums over the window, added up afresh so that no rounding gathers over the years."""
        sums = Sums()
        for _, _, weight, correct in self._window:
            sums.add(weight, correct)
        return sums

    def natural(self, correct: bool) -> None:
        """Take in a natural label: whether the model, as it was just before learning it, says the same."""
        self._natural.append(correct)
        self.natural_count += 1

    def natural_accuracy(self) -> float | None:
        """Return the share of the last natural labels that the model knew already; biased by which of them arrive."""
        return sum(self._natural) / len(self._natural) if self._natural else None

    def unanswered(self) -> float | None:
        """Return the share of closed requests that brought no label: what the estimate cannot see."""
        total = sum(self.closed.values())
        examples = sum(count for how, count in self.closed.items() if how.endswith("example"))
        return 1.0 - examples / total if total else None


def _wilson(p: float, n: float) -> Estimate:
    """Return the score interval for a proportion *p* of *n* (Wilson 1927); *n* need not be whole."""
    z2 = _Z * _Z
    middle = (p + z2 / (2.0 * n)) / (1.0 + z2 / n)
    half = _Z / (1.0 + z2 / n) * math.sqrt(p * (1.0 - p) / n + z2 / (4.0 * n * n))
    return Estimate(p, max(0.0, middle - half), min(1.0, middle + half))
