"""River, faster where it costs most and the result stays the same: predictions of naive Bayes and trees, and pickles.

Written against River 0.26.1, with nothing else of streamal in it, so that any part can go upstream as it is.

* **Naive Bayes.** ``BaseNB.predict_proba_one`` (river/naive_bayes/base.py) spends most of its time in SciPy's
  ``logsumexp`` on a list as short as there are classes, and `ComplementNB` and `BernoulliNB` walk through their whole
  vocabulary for each prediction. The classes here have the names, parameters, attributes and pickled state of River's,
  whose subclasses they are, and override predictions alone: the same joint log-likelihoods (`GaussianNB` and
  `MultinomialNB` to the last bit, the other two up to the order of additions), normalised without ``logsumexp``.
* **Hoeffding trees**: see `streamal.core.model.river_tree`.
* **Pickles.** Each ``proba.Gaussian`` (river/proba/base.py) carries a ``random.Random`` of 2.5 kB that only ``sample``
  asks: neither a naive Bayes model nor a tree ever does. Left out, models of Gaussians are 10 to 50 times smaller and
  quicker to copy, and equal models have equal bytes, since those generators are the only unseeded ones.
"""

from __future__ import annotations

import copyreg
import math
import pickle
from collections import Counter
from collections.abc import Mapping
from typing import IO, Any

from river import base, naive_bayes, proba, tree

from streamal.core.model.river_tree import HoeffdingTreeClassifier

__all__ = ["FASTER", "BernoulliNB", "ComplementNB", "GaussianNB", "MultinomialNB", "SlimPickler"]


class _Normalised:
    """Probabilities from joint log-likelihoods, which the class itself must have."""

    joint_log_likelihood: Any

    def predict_proba_one(self, x: Mapping[Any, Any]) -> dict[Any, float]:
        """Return class → probability, {} before the first label.

        The greatest likelihood is taken out before the exponential: so none overflows, and the sum is at least 1.
        """
        jll = self.joint_log_likelihood(x)
        if not jll:
            return {}
        top = max(jll.values())
        weights = {label: math.exp(ll - top) for label, ll in jll.items()}
        total = sum(weights.values())
        return {label: weight / total for label, weight in weights.items()}


class GaussianNB(_Normalised, naive_bayes.GaussianNB):  # type: ignore[misc]
    """``naive_bayes.GaussianNB``; what a class has in common is looked up once for all features."""

    def joint_log_likelihood(self, x: Mapping[Any, Any]) -> dict[Any, float]:  # type: ignore[override]
        """Return class → log P(class) + log P(x | class), {} before the first label."""
        total, log_pdf = sum(self.class_counts.values()), self._log_gaussian_pdf
        jll = {}
        for label, count in self.class_counts.items():
            gaussians: Mapping[Any, Any] = self.gaussians.get(label, {})
            jll[label] = math.log(count / total) + sum([log_pdf(gaussians.get(i), xi) for i, xi in x.items()])
        return jll


class MultinomialNB(_Normalised, naive_bayes.MultinomialNB):  # type: ignore[misc]
    """``naive_bayes.MultinomialNB``; what a class has in common is looked up once for all features."""

    def joint_log_likelihood(self, x: Mapping[Any, Any]) -> dict[Any, float]:  # type: ignore[override]
        """Return class → log P(class) + log P(x | class), {} before the first label."""
        total, alpha = sum(self.class_counts.values()), self.alpha
        terms = [(frequency, self.feature_counts.get(f, {})) for f, frequency in x.items()]
        jll = {}
        for label, count in self.class_counts.items():
            weight = self.class_totals[label] + alpha * len(self.feature_counts)
            said = [frequency * math.log((counts.get(label, 0.0) + alpha) / weight) for frequency, counts in terms]
            jll[label] = math.log(count / total) + sum(said)
        return jll


class ComplementNB(_Normalised, naive_bayes.ComplementNB):  # type: ignore[misc]
    """``naive_bayes.ComplementNB`` in O(features of x), not O(vocabulary): a complement's sum is that of all, less one.

    River adds ``feature_totals[f] + alpha - feature_counts[f][c]`` up over the vocabulary; the totals of the features
    and of the classes are the same sum.
    """

    def joint_log_likelihood(self, x: Mapping[Any, Any]) -> dict[Any, float]:  # type: ignore[override]
        """Return class → log P(x | not class), negated; {} before the first label."""
        alpha, totals = self.alpha, self.feature_totals
        everything = sum(self.class_totals.values()) + alpha * len(self.feature_counts)
        terms = [
            (frequency, totals[f] + alpha if f in self.feature_counts else alpha, self.feature_counts.get(f, {}))
            for f, frequency in x.items()
        ]
        jll = {}
        for label in self.class_counts:
            others = everything - self.class_totals[label]
            jll[label] = sum(
                [frequency * -math.log((both - counts.get(label, 0)) / others) for frequency, both, counts in terms]
            )
        return jll


class BernoulliNB(_Normalised, naive_bayes.BernoulliNB):  # type: ignore[misc]
    """``naive_bayes.BernoulliNB`` in O(features of x): the likelihood of an empty x is kept, and corrected by them.

    An absent feature's likelihood depends only on how often the class has had it, and those counts take few values: so
    the sum over the vocabulary is one over how many features have each count. The counts of counts are moved with each
    label, made afresh where they are missing, and no part of the pickled state.
    """

    _ranks: dict[Any, Counter[int]] | None = None
    """Class → count → how many features the class has had so often; without the zeros."""
    _absent: dict[Any, tuple[float, dict[int, float]]] | None = None
    """Class → log P(no feature at all | class), and count → what a present feature of that count adds to it."""

    def __getstate__(self) -> dict[str, Any]:
        """Return what River's own class holds."""
        return {name: value for name, value in self.__dict__.items() if name not in {"_ranks", "_absent"}}

    def learn_one(self, x: Mapping[Any, Any], y: Any) -> None:
        """Update the model with a single observation."""
        # if River raises half-way the counts of counts are made afresh
        ranks, self._ranks, self._absent = self._ranks, None, None
        super().learn_one(x, y)  # type: ignore[no-untyped-call]
        if ranks is None:
            return
        of_class = ranks.setdefault(y, Counter())
        for f, xi in x.items():
            if xi > self.true_threshold:
                count = int(self.feature_counts[f][y])
                of_class[count] += 1
                if count > 1:
                    of_class[count - 1] -= 1
                    if not of_class[count - 1]:
                        del of_class[count - 1]
        self._ranks = ranks

    def learn_many(self, X: Any, y: Any) -> None:  # noqa: N803  (River's name)
        """Update the model with a frame of observations."""
        self._ranks = self._absent = None
        super().learn_many(X, y)

    def joint_log_likelihood(self, x: Mapping[Any, Any]) -> dict[Any, float]:  # type: ignore[override]
        """Return class → log P(class) + log P(x | class), {} before the first label."""
        if self._absent is None:
            self._absent = self._nothing_present()
        total, counts, threshold = sum(self.class_counts.values()), self.feature_counts, self.true_threshold
        present = [counts[f] for f, xi in x.items() if f in counts and xi > threshold]
        jll = {}
        for label, (nothing, added) in self._absent.items():
            here = sum([added[each.get(label, 0)] for each in present])
            jll[label] = math.log(self.class_counts[label] / total) + (nothing + here)
        return jll

    def _nothing_present(self) -> dict[Any, tuple[float, dict[int, float]]]:
        if self._ranks is None:
            self._ranks = {}
            for of_feature in self.feature_counts.values():
                for label, count in of_feature.items():
                    if count:
                        self._ranks.setdefault(label, Counter())[count] += 1
        found = {}
        for label, examples in self.class_counts.items():
            ranks = self._ranks.get(label, Counter())
            zero = len(self.feature_counts) - ranks.total()
            terms, added = [], {}
            for count, features in (*ranks.items(), (0, zero)):
                p = (count + self.alpha) / (examples + self.alpha * 2)
                without = math.log(10e-10 + (1.0 - p))
                terms.append(features * without)
                added[count] = math.log(10e-10 + p) - without
            # exact, and so the same in whatever order the counts came about: before a pickle and after it
            found[label] = math.fsum(terms), added
        return found


FASTER: Mapping[type[base.Base], type[base.Base]] = {
    naive_bayes.BernoulliNB: BernoulliNB,
    naive_bayes.ComplementNB: ComplementNB,
    naive_bayes.GaussianNB: GaussianNB,
    naive_bayes.MultinomialNB: MultinomialNB,
    tree.HoeffdingTreeClassifier: HoeffdingTreeClassifier,
}
"""River's class → the one to build in its place."""


class SlimPickler(pickle.Pickler):
    """A pickler that leaves the generators of unseeded Gaussians out.

    What it writes is an ordinary pickle of River's own classes, for ``pickle.loads``. The Gaussians in it learn and
    predict as before; only ``sample`` would fail. A seeded one keeps its generator.
    """

    def __init__(self, file: IO[bytes], protocol: int = pickle.HIGHEST_PROTOCOL) -> None:
        """Write to *file*."""
        super().__init__(file, protocol)
        # a table costs a look-up for each object, a `reducer_override` a call of Python
        self.dispatch_table = {**copyreg.dispatch_table, proba.Gaussian: _slim}


def _slim(gaussian: proba.Gaussian) -> Any:
    reduced: Any = gaussian.__reduce_ex__(pickle.HIGHEST_PROTOCOL)
    if gaussian.seed is not None:
        return reduced
    make, arguments, state = reduced[:3]
    return make, arguments, {**state, "_rng": None}
