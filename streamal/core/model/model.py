"""The model: a River classifier behind three guarantees that River leaves to the application.

* Predicting never changes it, and always gives finite probabilities that sum to 1 over known class names: also
  before the first label (uniform over the declared classes), while only one class is known (smoothed), and if the
  estimator fails or returns NaN (uniform). So no strategy ever goes mute.
* A binary estimator only ever sees False and True; a label outside the class rules never reaches it.
* Folding the same examples gives the same model; an example on which the estimator raises is skipped,
  counted, and skipped by every replica alike.
"""

from __future__ import annotations

import inspect
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from river import base, compose, ensemble, multiclass

from streamal.core.model.linear import predict_proba
from streamal.core.model.linear_rows import LinearRows, has_unit_vectors
from streamal.core.vectors import ModelFeatures, has_vectors, name_components

__all__ = ["LabelRules", "Model"]

BINARY = 2
_HANDS_ON = (multiclass.OneVsRestClassifier, ensemble.BaggingClassifier)


@dataclass(frozen=True, slots=True)
class LabelRules:
    """Which labels are learned.

    Attributes:
        classes: the declared class names, in the order of the configuration; the second is "True" to a binary model.
        learn_new: learn a class outside of them (``labels.new_classes = "learn"``), rather than refuse its labels.
        classes_max: bound of the number of classes, declared and new.
    """

    classes: tuple[str, ...] = ()
    learn_new: bool = False
    classes_max: int = 100


class Model:
    """One River classifier, the classes it knows and how often it has met each."""

    def __init__(self, estimator: base.Classifier, rules: LabelRules, *, trained: bool = False) -> None:
        """Wrap an *estimator*, which nobody else may hold; *trained*: it knows the classes of *rules* already."""
        self._estimator: Any = estimator
        self._takes_vectors = has_unit_vectors(estimator)
        self._laid_out: LinearRows | None = None
        self._trained = trained
        self.binary = not estimator._multiclass
        """Whether the estimator knows False and True only."""
        self._classes_max = BINARY if self.binary else rules.classes_max
        self._learn_new = rules.learn_new
        self._classes = list(rules.classes)
        self._learned: dict[str, int] = {}
        self.failures = 0
        """Examples skipped because the estimator raised."""

    def __getstate__(self) -> dict[str, Any]:
        """Return what a copy needs: the estimator as it is laid out for rows is made again."""
        return {**self.__dict__, "_laid_out": None}

    @property
    def classes(self) -> Sequence[str]:
        """The declared classes and those met since, in that order."""
        return self._classes

    @property
    def learned(self) -> Mapping[str, int]:
        """How many examples of each class were learned."""
        return self._learned

    def describe(self) -> str:
        """Return the estimator on one line, as River names it."""
        return " ".join(str(self._estimator).split())

    def accepts(self, label: str, new: Collection[str] = ()) -> bool:
        """Whether *label* may be learned, given that the classes in *new* are about to be.

        >>> from river.linear_model import LogisticRegression
        >>> Model(LogisticRegression(), LabelRules(("ham", "spam"), learn_new=True)).accepts("virus")
        False
        """
        if label in self._classes or label in new:
            return True
        return self._learn_new and len(self._classes) + len(new) < self._classes_max

    def admit(self, label: str) -> None:
        """Make room for *label*, one that `accepts` has let in, before its first example is learned."""
        if label not in self._classes:
            self._classes.append(label)

    def replace_estimator(self, estimator: base.Classifier) -> None:
        """Go on with *estimator*, which nobody else may hold, before the first example; the classes stay."""
        assert not self._learned, "what was learned would be lost"
        assert self.binary != estimator._multiclass, "labels are said to both alike"
        self._estimator, self._laid_out = estimator, None
        self._takes_vectors = has_unit_vectors(estimator)

    def prior(self) -> dict[str, float]:
        """Return the smoothed shares of the classes among the examples: (n_y + 1)/(n + C), {} without any class."""
        total = sum(self._learned.values()) + len(self._classes)
        return {label: (self._learned.get(label, 0) + 1) / total for label in self._classes}

    def predict(self, features: ModelFeatures) -> dict[str, float]:
        """Return P(class | features) over all known classes, {} if none is known; never changes the model."""
        if len(self._learned) < BINARY and not self._trained:
            return self.prior()
        try:
            probabilities = self.raw(features)
        except (Exception, SystemExit):
            return self._uniform()
        if self.binary:  # the common case, without the sums below
            no, yes = probabilities.values()
            if no >= 0.0 and yes >= 0.0 and 0.999 < no + yes < 1.001:
                return probabilities
        total = sum(probabilities.values())
        # a NaN or an infinity anywhere fails this comparison too
        if not 0.999 < total < 1.001 or min(probabilities.values()) < 0.0:
            return self._normalise(probabilities)
        return probabilities

    def predict_many(self, names: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> list[dict[str, float]] | None:
        """Return what `predict` returns for each of *rows*, which have the features *names* in this order.

        All are numbers or vectors; a vector has the same length in each row.
        None if the estimator is none that `linear` knows, or one by one is the way to find out what is wrong with it.
        """
        if len(self._learned) < BINARY and not self._trained:
            return [self.prior() for _ in rows]
        is_wide = has_vectors(rows[0])
        found = self._predict_rows(names, rows) if is_wide else predict_proba(self._estimator, names, rows)
        if found is None:
            return None
        if self.binary:
            no, yes = self._classes
            return [{no: p_no, yes: p_yes} for p_no, p_yes in zip(found[False], found[True], strict=True)]
        nothing = [0.0] * len(rows)
        columns = [found.get(label, nothing) for label in self._classes]
        return [dict(zip(self._classes, row, strict=True)) for row in zip(*columns, strict=True)]

    def _predict_rows(self, names: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> dict[Any, list[float]] | None:
        """Return class -> its probability for each of *rows*; the estimator is laid out anew after each example."""
        if self._laid_out is None or [*self._laid_out.features] != [*names]:
            self._laid_out = LinearRows.lay_out(self._estimator, rows[0])
        return None if self._laid_out is None else self._laid_out.predict_proba(rows)

    def _named(self, features: ModelFeatures) -> Mapping[str, Any]:
        """Return *features* as the estimator takes them: for most, the numbers of a vector have names of their own."""
        return features if self._takes_vectors or not has_vectors(features) else name_components(features)

    def raw(self, features: ModelFeatures) -> dict[str, float]:
        """Return what the estimator itself says, by class name; raises what it raises. For the checks and the guard.

        As plain floats: a NumPy number could not be written as JSON.
        """
        raw = self._estimator.predict_proba_one(self._named(features))
        if self.binary:
            no, yes = self._classes
            return {no: float(raw.get(False, 0.0)), yes: float(raw.get(True, 0.0))}
        return {label: float(raw.get(label, 0.0)) for label in self._classes}

    def learn(self, features: ModelFeatures, label: str, weight: float | None = None) -> None:
        """Fold one example; *label* must be one that `accepts` has admitted, *weight* what the model can take."""
        self.admit(label)
        self._learned[label] = self._learned.get(label, 0) + 1
        try:
            self.learn_raw(features, label, weight)
        except (Exception, SystemExit):
            # F34: some estimators are left half-updated; every replica is left so alike
            self.failures += 1

    def learn_raw(self, features: ModelFeatures, label: str, weight: float | None = None) -> None:
        """Let the estimator itself learn an example of a known class; raises what it raises. For the checks."""
        self._laid_out = None
        said = self._classes.index(label) == 1 if self.binary else label
        if weight is None:
            self._estimator.learn_one(self._named(features), said)
        else:
            self._estimator.learn_one(self._named(features), said, w=weight)

    @property
    def takes_weight(self) -> bool:
        """Whether the estimator's ``learn_one`` heeds an importance weight ``w``."""
        return _takes_weight(self._estimator)

    @property
    def is_committee(self) -> bool:
        """Whether the estimator is an ensemble (at the end of a pipeline, perhaps) whose members can vote."""
        return isinstance(_last_step(self._estimator), base.Ensemble)

    def votes(self, features: ModelFeatures) -> dict[str, int] | None:
        """Return how many members vote for each known class; None without an ensemble, or if one of them raises."""
        if not self.is_committee or len(self._learned) < BINARY:
            return None
        x, last = dict(self._named(features)), self._estimator
        try:
            while isinstance(last, compose.Pipeline):
                x, last = last._transform_one(x)
            said = [member.predict_one(x) for member in last]
        except Exception:
            return None
        if self.binary:
            return {label: said.count(is_second) for label, is_second in zip(self._classes, (False, True), strict=True)}
        return {label: said.count(label) for label in self._classes}

    def _uniform(self) -> dict[str, float]:
        """Return the same probability for each known class."""
        return dict.fromkeys(self._classes, 1.0 / len(self._classes)) if self._classes else {}

    def _normalise(self, probabilities: dict[str, float]) -> dict[str, float]:
        """Return *probabilities* scaled to sum to 1 if that can be done, else uniform ones."""
        total = sum(probabilities.values())
        if 0.0 < total < float("inf") and min(probabilities.values()) >= 0.0:
            return {label: p / total for label, p in probabilities.items()}
        return self._uniform()


def _last_step(estimator: Any) -> Any:
    """Return the last step of a pipeline, which may be one itself."""
    while isinstance(estimator, compose.Pipeline):
        estimator = next(reversed(estimator.steps.values()))
    return estimator


def _takes_weight(estimator: Any) -> bool:
    """Whether ``w`` reaches something that heeds it: wrappers and pipelines hand it on, or drop it in silence."""
    last = _last_step(estimator)
    parameters = inspect.signature(last.learn_one).parameters
    if "w" in parameters:
        return True
    handed_on = any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values())
    inner = getattr(last, "classifier", None) or getattr(last, "model", None)
    # forests and boosting set a weight of their own for each member
    return handed_on and isinstance(last, _HANDS_ON) and inner is not None and _takes_weight(inner)
