"""How unsure a prediction is: 0 = certain, 1 = as unsure as can be (a uniform distribution over two classes or more).

Each measure maps class probabilities (summing to 1, but for rounding) to [0, 1]. The strategies' papers speak of
*confidence*, which here is ``1 - uncertainty``; for `least_confidence` that is their p̂ = max P(y|x).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

__all__ = ["MEASURES", "SMOOTHED_MEASURES", "entropy", "least_confidence", "likeliest", "margin", "smooth", "trust"]

_DOUBT = 10.0
"""In labels: a model that has learned so many is believed by half."""


def smooth(probabilities: Mapping[str, float], examples: int) -> Mapping[str, float]:
    """Return *probabilities* as a strategy should see them: mixed with uniform ones by 10/(*examples* + 10).

    After a label of each class a tree or a naive Bayes is certain of everything, and a strategy that believed it would
    never ask again (trap T1). The prediction itself stays the model's own.

    >>> smooth({"ham": 1.0, "spam": 0.0}, 10)
    {'ham': 0.75, 'spam': 0.25}
    """
    if not probabilities:
        return probabilities
    believed = trust(examples)
    even = (1.0 - believed) / len(probabilities)
    return {label: believed * p + even for label, p in probabilities.items()}


def trust(examples: int) -> float:
    """Return how far a model that has learned so many labels is believed, in [0, 1).

    >>> trust(10)
    0.5
    """
    return 1.0 - _DOUBT / (examples + _DOUBT)


def _smoothed_least_confidence(uncertainty: float, trust: float, classes: int) -> float:
    return 1.0 - trust * (1.0 - uncertainty) - (1.0 - trust) / classes


def _smoothed_margin(uncertainty: float, trust: float, classes: int) -> float:
    return 1.0 - trust * (1.0 - uncertainty) if classes > 1 else trust * uncertainty


def likeliest(probabilities: Mapping[str, float]) -> tuple[str, float]:
    """Return the class of the largest probability, and that; of equal ones the first.

    >>> likeliest({"ham": 0.75, "spam": 0.25})
    ('ham', 0.75)
    """
    if len(probabilities) == 2:  # the common case, without the search
        one, other = probabilities.items()
        return other if other[1] > one[1] else one
    label = max(probabilities, key=probabilities.__getitem__)
    return label, probabilities[label]


def least_confidence(probabilities: Mapping[str, float]) -> float:
    """Return 1 - max P(y|x), at most 1 - 1/C (Lewis & Gale 1994).

    >>> least_confidence({"ham": 0.75, "spam": 0.25})
    0.25
    """
    return max(0.0, 1.0 - max(probabilities.values(), default=0.0))


def margin(probabilities: Mapping[str, float]) -> float:
    """Return 1 - (p1 - p2), the two largest probabilities (Scheffer et al. 2001).

    >>> margin({"ham": 0.75, "spam": 0.25})
    0.5
    """
    if len(probabilities) == 2:
        one, other = probabilities.values()
        return max(0.0, 1.0 - abs(one - other))
    first = second = 0.0
    for p in probabilities.values():
        if p > first:
            first, second = p, first
        elif p > second:
            second = p
    return max(0.0, 1.0 - (first - second))


def entropy(probabilities: Mapping[str, float]) -> float:
    """Return H(p) / log(number of classes with p > 0), River's normalisation; 1.0 for an empty prediction.

    A single class with p slightly below 1 would divide by log(1) = 0: it counts as certain.

    >>> entropy({"ham": 0.5, "spam": 0.5})
    1.0
    """
    positive = [p for p in probabilities.values() if p > 0.0]
    if len(positive) < 2:
        return 0.0 if positive else 1.0
    return min(1.0, max(0.0, -sum(p * math.log(p) for p in positive) / math.log(len(positive))))


MEASURES: Mapping[str, Callable[[Mapping[str, float]], float]] = {
    "least_confidence": least_confidence,
    "margin": margin,
    "entropy": entropy,
}

SMOOTHED_MEASURES: Mapping[str, Callable[[float, float, int], float]] = {
    "least_confidence": _smoothed_least_confidence,
    "margin": _smoothed_margin,
}
"""(uncertainty, trust, classes) -> that of the `smooth` probabilities, computed without them."""
