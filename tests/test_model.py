"""What the model guarantees whatever River does: probabilities, purity, one fold for all replicas (I4, I10)."""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from river import base, forest, linear_model, naive_bayes, neighbors, preprocessing, tree

from streamal.core.model.checks import synthetic_examples
from streamal.core.model.model import LabelRules, Model
from streamal.core.records import FeatureValue

KINDS = {"x": "number", "y": "number"}
BAYES: Callable[[], Any] = naive_bayes.GaussianNB  # River leaves it untyped
ABC = LabelRules(("a", "b", "c"))
Examples = list[tuple[dict[str, FeatureValue], str]]


class Answering(base.Classifier):
    """A classifier that answers what it was told to, or raises it, and remembers what it was taught."""

    def __init__(self, answer: Any, multiclass: bool = True) -> None:
        self.answer = answer
        self.multiclass = multiclass
        self.taught: list[Any] = []

    @property
    def _multiclass(self) -> bool:
        return self.multiclass

    def learn_one(self, x: Any, y: Any) -> None:
        self.taught.append(y)

    def predict_proba_one(self, x: Any, **kwargs: Any) -> Any:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


ESTIMATORS: Mapping[str, Callable[[], Any]] = {
    "logistic": lambda: preprocessing.StandardScaler() | linear_model.LogisticRegression(),
    "softmax": lambda: preprocessing.StandardScaler() | linear_model.SoftmaxRegression(),
    "naive bayes": BAYES,
    "tree": lambda: tree.HoeffdingTreeClassifier(grace_period=20),
    "forest": lambda: forest.ARFClassifier(n_models=2, grace_period=20, seed=1),
    # not with its default engine: SWINN keeps `Vertex._isolated` on the class, shared by all models of the process
    "neighbours": lambda: neighbors.KNNClassifier(engine=neighbors.LazySearch(window_size=50)),
}


def make(name: str) -> Model:
    return Model(ESTIMATORS[name](), LabelRules(("a", "b")) if name == "logistic" else ABC)


def examples_for(model: Model, count: int, seed: int = 0) -> Examples:
    return list(synthetic_examples(KINDS, model.classes, count, seed))


def told(answer: Any) -> Model:
    """Return a model of classes a, b that has learned both and from now on is told its answers."""
    model = Model(Answering(answer), LabelRules(("a", "b")))
    for label in ("a", "b"):
        model.learn({"x": 1.0}, label)
    return model


# Before it knows anything.


def test_an_untrained_model_is_uniform_over_the_declared_classes() -> None:
    """No label yet: every class is as probable, so that every strategy asks (0.1)."""
    assert make("softmax").predict({"x": 1.0}) == {"a": 1 / 3, "b": 1 / 3, "c": 1 / 3}
    assert Model(BAYES(), LabelRules()).predict({"x": 1.0}) == {}


@pytest.mark.parametrize("name", ESTIMATORS)
def test_one_known_class_is_never_certain(name: str) -> None:
    """T1, 0.1: after labels of one class only, River's trees and Bayes say 1.0; the model says (n + 1)/(n + C)."""
    model = make(name)
    for features, _ in examples_for(model, 8):
        model.learn(features, "a")
    classes = len(model.classes)
    predicted = model.predict({"x": 1.0})
    assert predicted["a"] == pytest.approx(9 / (8 + classes))
    assert math.fsum(predicted.values()) == pytest.approx(1.0)


def test_a_class_that_nobody_declared_is_learned() -> None:
    """Without declared classes they are those met, in that order, smoothed likewise."""
    model = Model(BAYES(), LabelRules(learn_new=True))
    model.learn({"x": 1.0}, "z")
    assert model.predict({"x": 1.0}) == {"z": 1.0}
    model.learn({"x": 9.0}, "a")
    assert list(model.predict({"x": 1.0})) == ["z", "a"]
    assert (list(model.classes), dict(model.learned)) == (["z", "a"], {"z": 1, "a": 1})


# Labels.


def test_a_binary_estimator_sees_false_and_true_only() -> None:
    """0.5: River's LogisticRegression would learn 2, "1" or "ham" as True; the second declared class is True."""
    estimator = Answering({False: 0.25, True: 0.75}, multiclass=False)
    model = Model(estimator, LabelRules(("ham", "spam")))
    for label in ("spam", "ham", "spam"):
        model.learn({"x": 1.0}, label)
    assert estimator.taught == [True, False, True]
    assert all(type(label) is bool for label in estimator.taught)
    assert model.predict({"x": 1.0}) == {"ham": 0.25, "spam": 0.75}


def test_labels_reach_a_multiclass_estimator_as_they_are() -> None:
    """No cast on the way: "1" and "true" stay text."""
    estimator = Answering({"1": 1.0})
    model = Model(estimator, LabelRules(("1", "true")))
    model.learn({"x": 1.0}, "1")
    model.learn({"x": 1.0}, "true")
    assert estimator.taught == ["1", "true"]


def test_a_binary_model_never_accepts_a_third_class() -> None:
    """Whatever ``new_classes`` and the limit say: two are all that the estimator can tell apart (F25)."""
    model = Model(linear_model.LogisticRegression(), LabelRules(("a",), learn_new=True, classes_max=50))
    assert model.accepts("b")
    assert not model.accepts("c", {"b"})
    model.learn({"x": 1.0}, "b")
    assert not model.accepts("c")
    assert model.accepts("a")


def test_new_classes_are_bounded() -> None:
    """Up to ``classes_max``, those about to be learned included; or not at all (F25, I9)."""
    model = Model(BAYES(), LabelRules(("a",), learn_new=True, classes_max=3))
    assert model.accepts("b", {"c"})
    assert model.accepts("c", {"b", "c"})
    assert not model.accepts("d", {"b", "c"})
    model.admit("b")
    model.admit("b")
    assert list(model.classes) == ["a", "b"]
    assert not Model(BAYES(), LabelRules(("a",))).accepts("b")


def test_the_prior_counts_examples() -> None:
    """(n_y + 1)/(n + C), the prediction while there is no schema."""
    model = make("naive bayes")
    for label in "aab":
        model.learn({"x": 1.0}, label)
    assert model.prior() == {"a": 3 / 6, "b": 2 / 6, "c": 1 / 6}


def test_a_model_names_its_estimator() -> None:
    """On one line, for people."""
    assert make("logistic").describe() == "StandardScaler | LogisticRegression"


# Estimators that fail.

UNIFORM = {"a": 0.5, "b": 0.5}


@pytest.mark.parametrize(
    "answer",
    [
        {"a": math.nan, "b": math.nan},
        {"a": math.nan, "b": 1.0},
        {"a": math.inf, "b": 0.0},
        {"a": math.inf, "b": -math.inf},
        {"a": 1e308, "b": 1e308},
        {"a": -0.5, "b": 1.5},
        {"a": -1.0, "b": -2.0},
        {"a": 0.0, "b": 0.0},
        {"a": None, "b": 1.0},
        {"a": "much", "b": 1.0},
        {"a": 10**400},
        {},
        None,
        ValueError("broken"),
        RecursionError(),
    ],
    ids=repr,
)
def test_a_broken_estimator_predicts_uniformly(answer: Any) -> None:
    """0.4: NaN, infinities, negative numbers, nonsense, exceptions: uniform, so that the strategies go on asking."""
    assert told(answer).predict({"x": 1.0}) == UNIFORM


@pytest.mark.parametrize("answer", [{"a": 3.0, "b": 1.0}, {"a": 0.3, "b": 0.1}, {"a": 3e-9, "b": 1e-9}])
def test_scores_are_normalised(answer: dict[str, float]) -> None:
    """What only does not sum to 1 is scaled."""
    assert told(answer).predict({}) == pytest.approx({"a": 0.75, "b": 0.25})


def test_unknown_classes_of_the_estimator_are_left_out() -> None:
    """A prediction names the known classes, all of them and no other."""
    assert told({"a": 1.0, "ghost": 0.0}).predict({}) == {"a": 1.0, "b": 0.0}


def test_a_nan_in_a_real_model_leaves_it_uniform() -> None:
    """F31: should a NaN ever get through, softmax is dead for good, and says so by being uniform, not by NaN."""
    model = make("softmax")
    for features, label in examples_for(model, 50):
        model.learn(features, label)
    model.learn({"x": math.nan, "y": 0.0}, "a")
    assert model.predict({"x": 0.5, "y": 0.5}) == pytest.approx(dict.fromkeys("abc", 1 / 3))


def test_an_example_that_cannot_be_learned_is_skipped_alike_everywhere() -> None:
    """F34: a text half-updates GaussianNB; it is counted, and the replicas stay equal, a pickled one too."""
    one, two = make("naive bayes"), make("naive bayes")
    examples = examples_for(one, 60)
    examples[20:20] = [({"x": 1.0, "y": "text"}, "b"), ({"x": "text", "y": 2.0}, "a")]
    for number, (features, label) in enumerate(examples):
        one.learn(features, label)
        two.learn(features, label)
        if number == 20:
            two = pickle.loads(pickle.dumps(two))
    assert one.failures == two.failures == 2
    probes = [features for features, _ in examples_for(one, 20, seed=1)]
    assert [one.predict(probe) for probe in probes] == [two.predict(probe) for probe in probes]


# Purity and the fold.


@pytest.mark.parametrize("name", ESTIMATORS)
def test_predicting_changes_nothing(name: str) -> None:
    """I10: a model that was asked all the time, about strange events too, equals one that never was."""
    asked, silent = make(name), make(name)
    probes = [features for features, _ in examples_for(asked, 10, seed=1)]
    strange: list[dict[str, FeatureValue]] = [{}, {"x": 1e12}, {"x": -1e12, "y": 1e12}, {"y": 0.0}]
    for features, label in examples_for(asked, 120):
        for probe in (*probes[:3], *strange):
            asked.predict(probe)
        asked.learn(features, label)
        silent.learn(features, label)
    assert [asked.predict(probe) for probe in probes] == [silent.predict(probe) for probe in probes]
    for probe in (*probes, *strange):
        predicted = asked.predict(probe)
        assert math.fsum(predicted.values()) == pytest.approx(1.0, abs=1e-3)
        assert all(0.0 <= p <= 1.0 + 1e-9 for p in predicted.values())


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(sorted(ESTIMATORS)), st.integers(0, 60), st.integers(0, 60), st.integers(0, 2**32))
def test_a_fold_can_be_cut_anywhere(name: str, first: int, second: int, seed: int) -> None:
    """I4: from nothing or from a snapshot taken anywhere, twice, the same examples give the same model."""
    whole, cut = make(name), make(name)
    for number, (features, label) in enumerate(examples_for(whole, 60, seed)):
        if number in (first, second):
            cut = pickle.loads(pickle.dumps(cut, protocol=5))
        whole.learn(features, label)
        cut.learn(features, label)
    probes = [features for features, _ in examples_for(whole, 10, seed + 1)]
    # River's distance is summed over a *set* of names, in whatever order that has: the last digit may differ
    tolerance = 1e-12 if name == "neighbours" else 0.0
    for probe in probes:
        assert whole.predict(probe) == pytest.approx(cut.predict(probe), rel=tolerance, abs=tolerance)
    assert whole.learned == cut.learned
