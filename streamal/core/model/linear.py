"""Many predictions of a linear River pipeline at once: the very same numbers, at a fraction of the cost.

``predict_proba_one`` spends its time on dictionaries; `predict_proba_many` on building data frames, and pays only above
some 500 events (River 0.26.1). Here a batch becomes columns, and each column goes through what River does to a single
number, in the same order: so every probability is equal **to the last bit**, whatever else is in the batch, and nobody
can tell from the predictions how many events came together. Supported are `SelectType` (of numbers), `StandardScaler`,
and `LogisticRegression`, `OneVsRestClassifier` of it, and `SoftmaxRegression`. It needs nothing but River and NumPy.
"""

from __future__ import annotations

import math
import numbers
import sys
from collections.abc import Callable, Hashable, Mapping, Sequence
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from river import compose, linear_model, multiclass, optim, preprocessing

__all__ = ["Scorers", "is_supported", "predict_proba", "scorers_of", "steps_of"]

Array = npt.NDArray[np.float64]
"""Here always by feature, or by class, and then by event: it is gone through one feature after the other."""

_SUMS_ARE_PLAIN = sys.version_info < (3, 12)
"""From Python 3.12 on ``sum``, which River's softmax uses, is compensated: other last bits than a plain addition's."""


def predict_proba(
    estimator: Any, names: Sequence[str], rows: Sequence[Mapping[str, float]]
) -> dict[Hashable, list[float]] | None:
    """Return class -> its probability for each of *rows*, as ``estimator.predict_proba_one`` gives them.

    Args:
        estimator: the classifier, or a pipeline that ends with one; it is not changed.
        names: the features, in the order in which each row has them.
        rows: mappings from exactly these names to finite floats.

    Returns:
        None if the estimator is not one of those that are supported, or has a number that is not finite.
    """
    *transformers, last = steps_of(estimator)
    scorers = scorers_of(last, names) if all(map(is_supported, transformers)) else None
    if scorers is None:
        return None
    flat = np.fromiter(chain.from_iterable(row.values() for row in rows), float, len(rows) * len(names))
    x = np.ascontiguousarray(flat.reshape(len(rows), len(names)).T)
    with np.errstate(all="ignore"):
        for transformer in transformers:
            if type(transformer) is preprocessing.StandardScaler:
                x = _standardise(transformer, names, x)
        return scorers.probabilities(_dot(scorers.weights, names, x))


def steps_of(estimator: Any) -> list[Any]:
    """Return the steps of a pipeline, and of those within it."""
    if type(estimator) is not compose.Pipeline:
        return [estimator]
    return [step for part in estimator.steps.values() for step in steps_of(part)]


def is_supported(transformer: Any) -> bool:
    """Return whether a step before the classifier is one of those that are supported."""
    if type(transformer) is compose.SelectType:
        return all(issubclass(float, kind) or kind is numbers.Number for kind in transformer.types)
    return type(transformer) is preprocessing.StandardScaler and transformer.window_size is None


def _standardise(scaler: Any, names: Sequence[str], x: Array) -> Array:
    """Return (x - mean) / deviation; 0 where nothing has varied yet, as `StandardScaler.transform_one` does."""
    x = x - np.array([scaler.means.get(name, 0.0) for name in names])[:, None]
    if not scaler.with_std:
        return x
    variances = [scaler.vars.get(name, 0.0) for name in names]
    x /= np.array([v**0.5 if v else 1.0 for v in variances])[:, None]
    x[[not v for v in variances]] = 0.0
    return x


def _dot(weights: Sequence[Mapping[str, float]], names: Sequence[str], x: Array) -> Array:
    """Return (classes x rows) the sums of weight times feature, added up one after the other, as River does."""
    total = np.zeros((len(weights), x.shape[1]))
    for name, column in zip(names, x, strict=True):
        total += np.array([each.get(name, 0.0) for each in weights])[:, None] * column
    return total


class Scorers(NamedTuple):
    """What a classifier adds up for each event, and what it makes of the sums.

    Attributes:
        weights: a mapping name -> weight for each sum; a name that is missing weighs nothing.
        intercepts: what is added to each sum.
        finish: (sums x rows) -> class -> its probability for each row; None if a sum is not finite.
    """

    weights: Sequence[Mapping[str, float]]
    intercepts: Sequence[float]
    finish: Callable[[Array], dict[Hashable, list[float]]]

    def probabilities(self, dots: Array) -> dict[Hashable, list[float]] | None:
        """Return class -> its probability for each row, given the sums of weight times feature (sums x rows)."""
        logits = dots + np.array(self.intercepts)[:, None]
        return self.finish(logits) if np.isfinite(logits).all() else None


def scorers_of(classifier: Any, names: Sequence[str]) -> Scorers | None:
    """Return what *classifier* adds up over the features *names*, None if it is not one of those that are supported."""
    if type(classifier) in _BINARY:
        return _binary([classifier], _logistic)
    if type(classifier) is multiclass.OneVsRestClassifier:
        labels = list(classifier.classifiers)
        return _binary(list(classifier.classifiers.values()), lambda logits: _one_vs_rest(labels, logits))
    if type(classifier) is linear_model.SoftmaxRegression:
        return _softmax_scorers(classifier, names)
    return None


def _binary(classifiers: Sequence[Any], finish: Callable[[Array], dict[Hashable, list[float]]]) -> Scorers | None:
    if not classifiers or any(
        type(each) not in _BINARY or type(each.loss) is not optim.losses.Log for each in classifiers
    ):
        return None
    return Scorers([each.weights for each in classifiers], [each.intercept for each in classifiers], finish)


def _softmax_scorers(classifier: Any, names: Sequence[str]) -> Scorers | None:
    labels, weights = list(classifier.weights), list(classifier.weights.values())
    if not weights or not _SUMS_ARE_PLAIN or any(not each.keys() >= set(names) for each in weights):
        return None  # with fewer weights than features River adds up in the order of the weights
    return Scorers(weights, [0.0] * len(weights), lambda logits: _softmax(labels, logits))


def _sigmoids(logits: Array) -> list[list[float]]:
    """Return P(True) by each classifier; by `math.exp`, since NumPy's differs in the last bit."""
    return [
        [1.0 / (1.0 + math.exp(-z)) if -30.0 <= z <= 30.0 else float(z > 0.0) for z in row] for row in logits.tolist()
    ]


def _logistic(logits: Array) -> dict[Hashable, list[float]]:
    [found] = _sigmoids(logits)
    return {False: [1.0 - p for p in found], True: found}


def _one_vs_rest(labels: Sequence[Hashable], logits: Array) -> dict[Hashable, list[float]]:
    votes = np.array(_sigmoids(logits))
    total = _sum_rows(votes)
    shares = np.where(total > 0.0, votes / total, 1.0 / len(votes))
    return dict(zip(labels, shares.tolist(), strict=True))


def _softmax(labels: Sequence[Hashable], logits: Array) -> dict[Hashable, list[float]]:
    powers = np.array([[*map(math.exp, row)] for row in (logits - logits.max(axis=0)).tolist()])
    return dict(zip(labels, (powers / _sum_rows(powers)).tolist(), strict=True))


def _sum_rows(rows: Array) -> Array:
    """Return the sum over the classes, one after the other."""
    total = np.zeros(rows.shape[1])
    for row in rows:
        total += row
    return total


_BINARY = frozenset({linear_model.LogisticRegression})
