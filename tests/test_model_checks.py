"""The contract passes good models and refuses bad ones with the reason: each checker has a mutant that it catches."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from river import base, linear_model, naive_bayes, preprocessing, tree

from streamal.core.model.checks import check_absence, check_growth, check_model, synthetic_examples
from streamal.core.model.model import LabelRules, Model
from streamal.core.model.pipeline import build_estimator

KINDS = {"x": "number", "y": "number"}
AB = LabelRules(("a", "b"))


class Counting(base.Classifier):
    """A good, simple classifier: the smoothed share of each class, by the sign of x."""

    def __init__(self) -> None:
        self.counts = {(sign, label): 1.0 for sign in (False, True) for label in "ab"}

    @property
    def _multiclass(self) -> bool:
        return True

    def learn_one(self, x: Any, y: Any) -> None:
        self.counts[x["x"] > 0.5, y] += 1.0

    def predict_proba_one(self, x: Any, **kwargs: Any) -> Any:
        sign = x["x"] > 0.5
        total = self.counts[sign, "a"] + self.counts[sign, "b"]
        return {label: self.counts[sign, label] / total for label in "ab"}


class Impure(Counting):
    """Every look at it changes it."""

    def predict_proba_one(self, x: Any, **kwargs: Any) -> Any:
        self.counts[True, "a"] += 0.01
        return super().predict_proba_one(x)


class Unseeded(Counting):
    """It draws from the process's own generator."""

    def learn_one(self, x: Any, y: Any) -> None:
        if random.random() < 0.5:
            super().learn_one(x, y)


class Lossy(Counting):
    """Its pickle forgets."""

    def __getstate__(self) -> dict[str, Any]:
        return {"counts": dict.fromkeys(self.counts, 1.0)}


class Raising(Counting):
    """It cannot predict."""

    def predict_proba_one(self, x: Any, **kwargs: Any) -> Any:
        raise ArithmeticError("no idea")


class Unteachable(Counting):
    """It cannot learn one class."""

    def learn_one(self, x: Any, y: Any) -> None:
        if y == "b":
            raise ArithmeticError("never heard of it")
        super().learn_one(x, y)


class Scoring(Counting):
    """Its numbers are scores."""

    factor: float = 7.0

    def predict_proba_one(self, x: Any, **kwargs: Any) -> Any:
        return {label: p * self.factor for label, p in super().predict_proba_one(x).items()}


class NotANumber(Scoring):
    factor = math.nan


class Negative(Counting):
    """They sum to 1, and that is all."""

    def predict_proba_one(self, x: Any, **kwargs: Any) -> Any:
        return {"a": -0.5, "b": 1.5}


class Silent(Counting):
    """It knows labels only, as most of River's anomaly detectors and some ensembles."""

    def predict_proba_one(self, x: Any, **kwargs: Any) -> Any:
        return {}


GOOD: Mapping[str, tuple[Callable[[], Any], LabelRules]] = {
    "logistic": (lambda: preprocessing.StandardScaler() | linear_model.LogisticRegression(), AB),
    "softmax": (lambda: preprocessing.StandardScaler() | linear_model.SoftmaxRegression(), LabelRules(("a", "b", "c"))),
    "naive bayes": (naive_bayes.GaussianNB, LabelRules(("a", "b", "c"))),
    "tree": (lambda: tree.HoeffdingTreeClassifier(grace_period=50), AB),
    "undeclared classes": (naive_bayes.GaussianNB, LabelRules(learn_new=True)),
    "counting": (Counting, AB),
}


@pytest.mark.parametrize("name", GOOD)
def test_a_good_model_passes(name: str) -> None:
    """Nothing is said against models that keep the four habits."""
    new, labels = GOOD[name]
    assert check_model(lambda: Model(new(), labels), KINDS) == []


class Changing(Counting):
    """It changes what it is given."""

    def learn_one(self, x: Any, y: Any) -> None:
        super().learn_one(x, y)
        x["x"] = 0.0


class Ending(Counting):
    """It ends the process."""

    def learn_one(self, x: Any, y: Any) -> None:
        raise SystemExit(3)


BAD: list[tuple[type[Counting], str]] = [
    (Changing, "learning changes the features"),
    (Ending, "SystemExit: 3"),
    (Impure, "predicting changes the model"),
    (Unseeded, "folding the same examples twice gave two models"),
    (Lossy, "a snapshot does not go on as the original does"),
    (Raising, "predict_proba_one raised ArithmeticError: no idea"),
    (Unteachable, "well-formed examples: ArithmeticError: never heard of it"),
    (Scoring, "the probabilities of"),
    (NotANumber, "the probabilities of"),
    (Negative, "the probabilities of"),
    (Silent, "the probabilities of"),
]


@pytest.mark.parametrize(("kind", "sentence"), BAD)
def test_a_bad_model_is_refused_with_the_reason(kind: type[Counting], sentence: str) -> None:
    """Each broken habit is found, and told in a sentence that names it."""
    problems = check_model(lambda: Model(kind(), AB), KINDS)
    assert any(sentence in problem for problem in problems), problems


def test_an_impure_model_is_blamed_for_nothing_else() -> None:
    """Folding twice and a pickle are compared without predictions in between, so the reasons stay apart."""
    problems = check_model(lambda: Model(Lossy(), AB), KINDS)
    assert len(problems) == 1


def test_made_up_examples_fit_their_schema() -> None:
    """They are the same for the same seed, of the declared types, and some of every class."""
    kinds = {"x": "number", "b": "boolean", "s": "string", "t": "text"}
    examples = synthetic_examples(kinds, ["a", "b"], 200, 3)
    assert examples == synthetic_examples(kinds, ["a", "b"], 200, 3)
    assert examples != synthetic_examples(kinds, ["a", "b"], 200, 4)
    for features, _ in examples:
        assert [type(value) for value in features.values()] == [float, bool, str, str]
    assert {label for _, label in examples} == {"a", "b"}


class Unpicklable(Counting):
    """Holds a function, as FuncTransformer does with a lambda."""

    def __init__(self) -> None:
        super().__init__()
        self.function = lambda: None


def test_a_model_that_cannot_be_pickled_is_refused() -> None:
    """No snapshot could be taken of it; that is a reason, not a traceback."""
    problems = check_model(lambda: Model(Unpicklable(), LabelRules(("a", "b"))), {"x": "number"})
    assert any("cannot be pickled for a snapshot" in problem for problem in problems)


def test_an_open_schema_needs_a_model_that_does_not_grow() -> None:
    """With features.open a scaler would keep state for every name it is shown; a hasher keeps none."""
    rules, logistic = LabelRules(("a", "b")), {"use": "linear_model.LogisticRegression"}

    def problems(first: dict[str, object]) -> list[str]:
        return check_growth(lambda: Model(build_estimator([first, logistic], None, 1), rules), {"x": "number"})

    scaled = problems({"use": "preprocessing.StandardScaler"})
    hashed = problems({"use": "preprocessing.FeatureHasher", "n_features": 64})
    assert len(scaled) == 1
    assert "FeatureHasher" in scaled[0]
    assert hashed == []


class Filling(Counting):
    """It does without x, whose place a zero takes."""

    def learn_one(self, x: Any, y: Any) -> None:
        super().learn_one({"x": 0.0, **x}, y)

    def predict_proba_one(self, x: Any, **kwargs: Any) -> Any:
        return super().predict_proba_one({"x": 0.0, **x})


class Spoiled(Filling):
    """It predicts without x, yet learns a NaN from its absence."""

    def learn_one(self, x: Any, y: Any) -> None:
        super().learn_one(x, y)
        self.counts[x.get("x", 0.0) > 0.5, y] += 0.0 if "x" in x else math.nan


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        (Counting, "without 'x' predict_proba_one raised KeyError: 'x'"),
        (Spoiled, "without 'x' it learns something after which the probabilities are"),
    ],
)
def test_each_feature_is_left_out_once(kind: type[Counting], sentence: str) -> None:
    """A model that raises without one of them, or learns a NaN from its absence, is refused before it runs."""
    problems = check_absence(lambda: Model(kind(), AB), KINDS)
    assert any(sentence in problem for problem in problems), problems
    assert not any("'y'" in problem for problem in problems if kind is Counting)


@pytest.mark.parametrize("name", ["logistic", "softmax", "naive bayes", "tree"])
def test_a_good_model_does_without_any_feature(name: str) -> None:
    """River's own models do."""
    new, labels = GOOD[name]
    assert check_absence(lambda: Model(new(), labels), KINDS) == []
    assert check_absence(lambda: Model(Filling(), AB), KINDS) == []


def test_the_only_feature_is_never_left_out() -> None:
    """An event without any feature is refused before it reaches a model."""
    assert check_absence(lambda: Model(Counting(), AB), {"x": "number"}) == []


def test_many_absences_are_told_briefly() -> None:
    """Three of them, and how many more."""
    needed = {f"x{number}": "number" for number in range(6)}

    class Needing(Counting):
        def predict_proba_one(self, x: Any, **kwargs: Any) -> Any:
            return dict.fromkeys("ab", 0.5) if all(name in x for name in needed) else {}

        def learn_one(self, x: Any, y: Any) -> None:
            """Learn nothing."""

    problems = check_absence(lambda: Model(Needing(), AB), needed)
    assert len(problems) == 4
    assert problems[-1] == "and so without 3 more"
