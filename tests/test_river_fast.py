"""River's faster twins: the same probabilities, the same state, and pickles without what nobody asks for."""

from __future__ import annotations

import io
import pickle
import random
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from river import drift, ensemble, forest, naive_bayes, proba, tree

from streamal.core.model import river_fast
from streamal.core.model.pipeline import build_estimator
from streamal.core.model.river_tree import HoeffdingTreeClassifier
from streamal.core.model.slim_pickle import dumps, loads

PAIRS = {
    "GaussianNB": (naive_bayes.GaussianNB, river_fast.GaussianNB),
    "MultinomialNB": (naive_bayes.MultinomialNB, river_fast.MultinomialNB),
    "ComplementNB": (naive_bayes.ComplementNB, river_fast.ComplementNB),
    "BernoulliNB": (naive_bayes.BernoulliNB, river_fast.BernoulliNB),
}
NAMES = st.sampled_from("abcdefgh")
Examples = Sequence[tuple[dict[str, Any], str]]


def examples(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Examples]:
    """Return lists of (features, label): few names, so that they meet again; few labels, some of them rare."""
    return st.lists(st.tuples(st.dictionaries(NAMES, values, max_size=6), st.sampled_from("xxxyyz")), max_size=30)


@st.composite
def histories(draw: st.DrawFn) -> tuple[str, dict[str, float], Examples]:
    """Return the name of a class, its parameters and what it is taught."""
    name = draw(st.sampled_from(sorted(PAIRS)))
    if name == "GaussianNB":
        return name, {}, draw(examples(st.floats(-1e6, 1e6) | st.sampled_from([0.0, 1.0, 1.0 + 1e-9])))
    parameters = {"alpha": draw(st.sampled_from([0.01, 0.5, 1.0]))}
    if name == "BernoulliNB":
        parameters["true_threshold"] = draw(st.sampled_from([0.0, 1.0]))
    return name, parameters, draw(examples(draw(st.sampled_from([st.integers(0, 9), st.floats(0.01, 9.0)]))))


def outcome(predict: Callable[[Any], dict[Any, float]], features: dict[str, Any]) -> dict[Any, float]:
    """Return what *predict* returns; the name of what it raises (without any feature there is nothing to divide by)."""
    try:
        return predict(features)
    except ArithmeticError as error:
        return {type(error).__name__: 0.0}


@settings(deadline=None, max_examples=200)
@given(histories())
def test_the_probabilities_are_rivers(history: tuple[str, dict[str, float], Examples]) -> None:
    """From {} before the first label on, over the same classes in the same order, to 1e-12; a copy's are equal."""
    name, parameters, taught = history
    slow, fast = (make(**parameters) for make in PAIRS[name])
    for i, (features, label) in enumerate(taught):
        for probe in ({}, features, {**features, "new": 1}):
            expected, found = outcome(slow.predict_proba_one, probe), outcome(fast.predict_proba_one, probe)
            assert list(found) == list(expected)
            assert list(found.values()) == pytest.approx(list(expected.values()), abs=1e-12)
            if name in {"GaussianNB", "MultinomialNB"}:
                assert outcome(fast.joint_log_likelihood, probe) == outcome(slow.joint_log_likelihood, probe)
        if i % 4 == 3:  # with what was kept, and made afresh
            copied = loads(dumps(fast))
            assert outcome(copied.predict_proba_one, features) == outcome(fast.predict_proba_one, features)
        slow.learn_one(features, label)
        fast.learn_one(features, label)
    assert fast.__getstate__().keys() == slow.__getstate__().keys()
    assert (fast.class_counts, str(fast)) == (slow.class_counts, str(slow))
    assert getattr(fast, "feature_counts", 0) == getattr(slow, "feature_counts", 0)


@pytest.mark.parametrize("name", sorted(PAIRS))
def test_what_river_raises_on_leaves_the_same_model(name: str) -> None:
    """F34: a text among the numbers half-updates both alike, whether or not something was predicted before."""
    slow, fast, late = PAIRS[name][0](), PAIRS[name][1](), PAIRS[name][1]()
    for features in ({"a": 1, "b": 2}, {"a": 1, "b": "two", "c": 3}, {"b": 1, "c": 1}):
        for label in "xy":
            for model in (slow, fast, late):
                if "two" in features.values():
                    with pytest.raises(TypeError):
                        model.learn_one(features, label)
                else:
                    model.learn_one(features, label)
            assert fast.predict_proba_one({"a": 1}) == pytest.approx(slow.predict_proba_one({"a": 1}), abs=1e-12)
    assert late.predict_proba_one({"a": 1, "c": 2}) == fast.predict_proba_one({"a": 1, "c": 2})


@pytest.mark.parametrize("name", sorted(PAIRS))
def test_rivers_name_builds_the_faster_one(name: str) -> None:
    """Also inside an ensemble; a pickled model of River's own class stays what it is."""
    spec = {"use": f"naive_bayes.{name}"}
    assert type(build_estimator([spec], None, 0)) is PAIRS[name][1]
    several: Any = build_estimator([{"use": "ensemble.VotingClassifier", "models": [spec, spec]}], None, 0)
    assert {type(member) for member in several} == {PAIRS[name][1]}
    assert type(loads(pickle.dumps(PAIRS[name][0]()))) is PAIRS[name][0]


# Trees.


def tree_of(make: Callable[..., Any]) -> Any:
    """Return a tree that tries to split soon."""
    return make(grace_period=5, delta=0.5, tau=0.9)


@settings(deadline=None, max_examples=150)
@given(
    st.lists(
        st.tuples(
            st.dictionaries(NAMES, st.floats(-1e3, 1e3) | st.integers(0, 3) | st.sampled_from([1e200]), max_size=4),
            st.sampled_from("xxyyz"),
        ),
        max_size=80,
    ),
    st.booleans(),
)
def test_a_trees_probabilities_are_rivers(taught: Examples, with_text: bool) -> None:
    """To the last bit, in the same order, whatever is missing, and from a copy too; the tree itself is the same."""
    slow, fast = tree_of(tree.HoeffdingTreeClassifier), tree_of(HoeffdingTreeClassifier)
    for i, (numbers, label) in enumerate(taught):
        features = {**numbers, "word": "ab"[i % 2]} if with_text and i % 3 else numbers
        for probe in (features, {**features, "new": 1.0}, {}, {"a": 0.5, "b": 2.0}):
            expected, found = outcome(slow.predict_proba_one, probe), outcome(fast.predict_proba_one, probe)
            assert repr(found) == repr(expected)
        if i % 10 == 9:
            fast = loads(dumps(fast))
        for model in (slow, fast):
            with suppress(OverflowError):  # a square: both are half-updated alike (F34)
                model.learn_one(features, label)
    assert (fast.n_leaves, fast.height) == (slow.n_leaves, slow.height)


def test_a_tree_that_has_split_and_was_closed_down_is_rivers() -> None:
    """Over thousands of examples: leaves that split, leaves of one class, leaves that were put to sleep and woken."""
    slow, fast = tree_of(tree.HoeffdingTreeClassifier), tree_of(HoeffdingTreeClassifier)
    examples = course(3_000, 1)
    for number, (features, label) in enumerate(examples):
        assert fast.predict_proba_one(features) == slow.predict_proba_one(features)
        for model in (slow, fast):
            model.learn_one(features, label)
            if number % 500 == 499:
                model._deactivate_all_leaves()
            if number % 500 == 49 and number > 500:
                for leaf in model._root.iter_leaves():
                    leaf.activate()
    assert fast.n_leaves == slow.n_leaves > 1


# Pickles.


def course(count: int, seed: int) -> Examples:
    """Return examples of two overlapping classes."""
    rng = random.Random(seed)
    return [({f"x{k}": rng.gauss(i % 2, 1.0) for k in range(3)}, "ab"[i % 2]) for i in range(count)]


gaussian_nb: Any = naive_bayes.GaussianNB
MODELS: dict[str, Callable[[], Any]] = {
    "GaussianNB": river_fast.GaussianNB,
    "HoeffdingTree": lambda: tree.HoeffdingTreeClassifier(grace_period=20),
    "HoeffdingAdaptiveTree": lambda: tree.HoeffdingAdaptiveTreeClassifier(grace_period=20, seed=1),
    "ARF": lambda: forest.ARFClassifier(n_models=3, grace_period=20, seed=1),
    "Bagging": lambda: ensemble.BaggingClassifier(tree.HoeffdingTreeClassifier(grace_period=20), n_models=3, seed=1),
    "LeveragingBagging": lambda: ensemble.LeveragingBaggingClassifier(gaussian_nb(), n_models=3, seed=1),
    "Retrained": lambda: drift.DriftRetrainingClassifier(gaussian_nb(), drift.binary.DDM()),
}


def train(make: Callable[[], Any], examples: Examples) -> Any:
    """Return a new model that has learned *examples*."""
    model = make()
    for example in examples:
        model.learn_one(*example)
    return model


@pytest.mark.parametrize("name", sorted(MODELS))
def test_a_slim_copy_goes_on_as_the_original(name: str) -> None:
    """Without the generators that nobody asks it is a fraction of the size, and learns on bit by bit alike."""
    model = train(MODELS[name], course(400, seed=1))
    data = dumps(model)
    assert len(data) < len(pickle.dumps(model, protocol=5)) / 3
    copy = loads(data)
    for features, label in course(300, seed=2):
        assert copy.predict_proba_one(features) == model.predict_proba_one(features)
        for each in (model, copy):
            each.learn_one(features, label)
    assert len(dumps(copy)) == len(dumps(model))


@pytest.mark.parametrize("name", sorted(MODELS))
def test_equal_models_have_equal_bytes(name: str) -> None:
    """The generators left out were the only ones that nobody seeds."""
    examples = course(400, seed=1)
    assert dumps(train(MODELS[name], examples)) == dumps(train(MODELS[name], examples))


def test_a_seeded_gaussian_keeps_its_generator() -> None:
    """What somebody has seeded may be asked."""
    seeded: Any = proba.Gaussian(seed=3)  # type: ignore[no-untyped-call]
    for value in (1.0, 2.0, 4.0):
        seeded.update(value)
    data = io.BytesIO()
    river_fast.SlimPickler(data).dump(seeded)
    assert pickle.loads(data.getvalue()).sample() == seeded.sample()
