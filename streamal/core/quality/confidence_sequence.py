"""A confidence sequence for an accuracy from biased labels: an interval that one may look at all the time.

A 95 % interval is wrong one time in twenty *each time one looks at it*: who looks every day, and acts when it leaves
a bound, sees it wrong sooner or later. A confidence sequence is ever wrong with a probability of at most 5 %.

For each event let Y = (c - f)/p if it was asked and labelled, else 0: c whether the prediction was right, f its
confidence, p the propensity. Given the past, E[Y] = c - f, and Y >= -b with b = 1/ε, ε the audit lane's propensity.
Hence for 0 <= λ < 1 (Fan, Grama & Liu 2015; Howard, Ramdas, McAuliffe & Sekhon 2021, lemma 4.1)

    exp(λ Σ(Y - E[Y])/b - (-log(1 - λ) - λ) Σ Y²/b²)

is a supermartingale that begins at 1, and so is any mixture over λ (Robbins 1970): by Ville's inequality it ever
exceeds 2/α with a probability of at most α/2. The same holds of -Y. See Waudby-Smith & Ramdas (JRSS-B 2024) and
Karampatziakis, Mineiro & Ramdas (ICML 2021) for importance-weighted means. Nothing is assumed about drift: what is
covered is the accuracy over all events up to now, whatever it was at each of them.
"""

from __future__ import annotations

import math

from streamal.core.quality.estimates import Estimate

__all__ = ["ConfidenceSequence"]

_ALPHA = 0.05
_BETS = tuple((0.9 * 0.5**k, 1.0 / ((k + 1) * (k + 2))) for k in range(30))
"""(λ, weight): one for every order of magnitude of Σ Y²/b², up to 10^18; the weights sum to less than 1."""


class ConfidenceSequence:
    """The two sums that the confidence sequence needs."""

    __slots__ = ("_bound", "_y", "_yy")

    def __init__(self, floor: float) -> None:
        """Begin; *floor* in (0, 1] is the least propensity, ε."""
        self._bound = 1.0 / floor
        self._y = self._yy = 0.0

    def add(self, weight: float, correct: bool, confidence: float) -> None:
        """Add a label of this *weight* = 1/propensity.

        A label of less than the least propensity (the audit lane was closed) counts with the weight of that one: it
        is pulled towards f, rather than breaking the bound that everything rests on.
        """
        y = min(weight, self._bound) * (correct - confidence)
        self._y += y
        self._yy += y * y

    def accuracy(self, events: int, confidence: float) -> Estimate | None:
        """Return the accuracy over all *events*, *confidence* being the sum of f over them; None without any."""
        if not events:
            return None
        value = (confidence + self._y) / events
        half = self._bound * _deviation(self._yy / (self._bound * self._bound)) / events
        return Estimate(min(1.0, max(0.0, value)), max(0.0, value - half), min(1.0, value + half))


def _deviation(variance: float) -> float:
    """Return the least s at which the mixture of bets reaches 2/α when the sum of squares is *variance*."""
    low, high = 0.0, 1.0
    while _wealth(high, variance) < math.log(2.0 / _ALPHA):
        low, high = high, 2.0 * high
    for _ in range(40):
        middle = (low + high) / 2.0
        if _wealth(middle, variance) < math.log(2.0 / _ALPHA):
            low = middle
        else:
            high = middle
    return high


def _wealth(s: float, variance: float) -> float:
    """Return the logarithm of the mixture."""
    logs = [math.log(weight) + bet * s + (math.log1p(-bet) + bet) * variance for bet, weight in _BETS]
    most = max(logs)
    return most + math.log(math.fsum(math.exp(each - most) for each in logs))
