"""Figures over *all* events from labels that were bought where the model is weak, each with its 95 % interval.

Each label carries the propensity p with which its event was to be asked; weighting by w = 1/p undoes the choice.

* Hájek: Σ wy / Σ w, y = 1 if the prediction made *before* the label came was right (or its log loss).
* AIPW (Zrnic & Candès, "Active statistical inference", ICML 2024), in the regression form of survey sampling: the
  confidence f of *every* event is known, so Hájek's estimate is moved by b(F - Σ wf / Σ w), F the mean of f over all
  events and b the weighted slope of y on f. A confidence that tells nothing has a slope of 0; one that is wrong on
  average moves nothing, since F and Σ wf / Σ w are wrong alike: the estimate needs no calibrated model.

They assume that whether an annotator answers does not depend on whether the model was right.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

__all__ = ["Z_95", "Estimate", "Sums", "mean_recall"]

Z_95 = 1.959963984540054
"""The normal quantile of a two-sided interval of 95 %."""
_SPREAD_MIN = 1e-9
"""Below this variance of f there is no slope to be had."""


class Estimate(NamedTuple):
    """A figure with its 95 % interval; an accuracy in [0, 1], a log loss in nats."""

    value: float
    low: float
    high: float


class Sums:
    """The sums that the estimates need; each is of fixed size, however many labels there were."""

    __slots__ = ("count", "plain", "w", "w2", "w2f", "w2ff", "w2fy", "w2y", "w2yy", "wf", "wff", "wfy", "wy")

    def __init__(self) -> None:
        """Start with no label."""
        self.count = 0
        self.plain = self.w = self.wy = self.wf = self.wff = self.wfy = 0.0
        self.w2 = self.w2y = self.w2yy = self.w2f = self.w2ff = self.w2fy = 0.0

    def add(self, weight: float, y: float, f: float = 0.0) -> None:
        """Add a label of this *weight* = 1/propensity: what is measured, *y*, and the prediction's confidence."""
        square = weight * weight
        self.count += 1
        self.plain += y
        self.w += weight
        self.wy += weight * y
        self.wf += weight * f
        self.wff += weight * f * f
        self.wfy += weight * f * y
        self.w2 += square
        self.w2y += square * y
        self.w2yy += square * y * y
        self.w2f += square * f
        self.w2ff += square * f * f
        self.w2fy += square * f * y

    def naive(self) -> float | None:
        """Return the mean of y among the labels: what one should not look at."""
        return self.plain / self.count if self.count else None

    def proportion(self, confidence: float | None = None) -> Estimate | None:
        """Return the estimate of a share, y in {0, 1}, or None without labels.

        *confidence* is the mean of f over all events; with it AIPW is taken wherever its variance is the smaller.
        Delta method: V = Σ w²e² / (Σ w)², e = y - Â or the regression's residual. The interval is Wilson's, of the size
        that a simple random sample with this variance has. Hájek's is never taken for more than Kish's (Σ w)²/Σ w²:
        V is too small for as long as no mistake of a large weight was sampled, which is how intervals without that
        bound come to be overconfident. AIPW may multiply it by as much as it lowers the variance.
        """
        if not self.count or self.w <= 0.0:
            return None
        a = min(1.0, max(0.0, self.wy / self.w))
        variance = self._residual(a, 0.0) / (self.w * self.w)
        n = self.kish()
        if variance > 0.0 and 0.0 < a < 1.0:
            n = min(n, a * (1.0 - a) / variance)
        shift, ratio = self._adjustment(confidence)
        return _wilson(min(1.0, max(0.0, a + shift)), max(1.0, n / ratio))

    def mean(self, confidence: float | None = None) -> Estimate | None:
        """Return the estimate of the mean of y >= 0, whatever its size; None with fewer than two labels."""
        if self.count < 2 or self.w <= 0.0:
            return None
        a = self.wy / self.w
        shift, ratio = self._adjustment(confidence)
        n = max(2.0, self.kish())
        half = Z_95 * math.sqrt(self._residual(a, 0.0) * ratio * n / (n - 1.0)) / self.w
        return Estimate(max(0.0, a + shift), max(0.0, a + shift - half), a + shift + half)

    def kish(self) -> float:
        """Return how many labels of one weight would be worth as much; at least one label is needed."""
        return self.w * self.w / self.w2

    def _adjustment(self, confidence: float | None) -> tuple[float, float]:
        """Return by how much f moves the estimate, and the variance left, as a ratio to Hájek's (1: leave it alone)."""
        kish = self.kish()
        spread = self.wff / self.w - (self.wf / self.w) ** 2
        before = self._residual(self.wy / self.w, 0.0)
        if confidence is None or spread <= _SPREAD_MIN or before <= 0.0 or kish <= 3.0:
            return 0.0, 1.0
        slope = (self.wfy / self.w - self.wf * self.wy / (self.w * self.w)) / spread
        # the slope was fitted to the labels that it is judged by: one degree of freedom
        ratio = self._residual(self.wy / self.w, slope) / before * (kish - 1.0) / (kish - 2.0)
        return (slope * (confidence - self.wf / self.w), ratio) if 0.0 < ratio < 1.0 else (0.0, 1.0)

    def _residual(self, a: float, slope: float) -> float:
        """Return Σ w²e², e = y - a - slope·(f - Σ wf / Σ w)."""
        c = a - slope * self.wf / self.w
        fitted = c * c * self.w2 + slope * slope * self.w2ff + 2.0 * c * slope * self.w2f
        return max(0.0, self.w2yy - 2.0 * (c * self.w2y + slope * self.w2fy) + fitted)


def mean_recall(classes: Iterable[Sums]) -> Estimate | None:
    """Return the mean recall over *classes*, y = 1 if an event of the class was predicted as such; None without any.

    The interval adds the classes' variances up, each by Agresti & Coull (z²/2 made-up hits and misses a class, so that
    a class with few labels is known to be little known). A class without a label does not count.
    """
    n, value, middle, variance = 0, 0.0, 0.0, 0.0
    for sums in classes:
        estimate = sums.proportion()
        if estimate is None:
            continue
        size = sums.kish() + Z_95 * Z_95
        p = (estimate.value * sums.kish() + Z_95 * Z_95 / 2.0) / size
        n, value, middle, variance = n + 1, value + estimate.value, middle + p, variance + p * (1.0 - p) / size
    if not n:
        return None
    value, middle, half = value / n, middle / n, Z_95 * math.sqrt(variance) / n
    return Estimate(value, max(0.0, min(value, middle - half)), min(1.0, max(value, middle + half)))


def _wilson(p: float, n: float) -> Estimate:
    """Return the score interval for a proportion *p* of *n* (Wilson 1927); *n* need not be whole."""
    z2 = Z_95 * Z_95
    middle = (p + z2 / (2.0 * n)) / (1.0 + z2 / n)
    half = Z_95 / (1.0 + z2 / n) * math.sqrt(p * (1.0 - p) / n + z2 / (4.0 * n * n))
    return Estimate(p, max(0.0, middle - half), min(1.0, middle + half))
