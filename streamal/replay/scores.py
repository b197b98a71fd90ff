"""Scores of predictions against the truth: recall by class, balanced accuracy, confusion, and baselines."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence

__all__ = ["balanced_accuracy", "confusion", "majority_accuracy", "no_change_accuracy", "recalls"]


def recalls(truths: Sequence[str], correct: Sequence[bool]) -> dict[str, float]:
    """Return class -> the share of its events that were predicted rightly, for the classes that occur, sorted.

    >>> recalls(["a", "a", "b"], [True, False, True])
    {'a': 0.5, 'b': 1.0}
    """
    there = Counter(truths)
    right = Counter(truth for truth, hit in zip(truths, correct, strict=True) if hit)
    return {label: right[label] / count for label, count in sorted(there.items())}


def balanced_accuracy(truths: Sequence[str], correct: Sequence[bool]) -> float:
    """Return the mean recall of the classes that occur.

    >>> balanced_accuracy(["a", "a", "a", "b"], [True, True, False, True])
    0.8333333333333333
    """
    found = recalls(truths, correct)
    return sum(found.values()) / len(found)


def confusion(truths: Sequence[str], predicted: Sequence[str | None]) -> dict[str, dict[str, int]]:
    """Return true class -> predicted class -> events; "" where nothing was predicted. Only pairs that occur are there.

    >>> confusion(["a", "a", "b"], ["a", "b", None])
    {'a': {'a': 1, 'b': 1}, 'b': {'': 1}}
    """
    pairs = Counter((truth, said or "") for truth, said in zip(truths, predicted, strict=True))
    found: dict[str, dict[str, int]] = {}
    for (truth, said), count in sorted(pairs.items()):
        found.setdefault(truth, {})[said] = count
    return found


def no_change_accuracy(truths: Sequence[str]) -> float:
    """Return the accuracy of predicting each label by the one before it (the first one counts as wrong)."""
    return sum(a == b for a, b in itertools.pairwise(truths)) / len(truths)


def majority_accuracy(truths: Sequence[str]) -> float:
    """Return the share of the commonest class."""
    return max(Counter(truths).values()) / len(truths)
