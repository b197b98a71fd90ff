"""Vectors on the fast path: the same numbers as River gives for their numbers by name, to the last bit."""

from __future__ import annotations

import numbers
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from river import compose, linear_model, multiclass, naive_bayes, optim, preprocessing

from streamal.bootstrap import build
from streamal.config import load_config
from streamal.core.model.linear_rows import LinearRows, has_unit_vectors
from streamal.core.model.model import LabelRules, Model
from streamal.core.model.pipeline import build_estimator, default_pipeline
from streamal.core.model.slim_pickle import dumps, loads
from streamal.core.model.unit_vectors import UnitVectors
from streamal.core.records import Event, FeatureValue
from streamal.core.vectors import name_components

Row = dict[str, FeatureValue]


def logistic(lr: float = 3.0) -> Any:
    return linear_model.LogisticRegression(optimizer=optim.SGD(lr), intercept_lr=0.2)


def beside_numbers() -> Any:
    scaled = compose.SelectType(numbers.Number) | preprocessing.StandardScaler()
    return compose.TransformerUnion(scaled, UnitVectors(0.5)) | linear_model.LogisticRegression(optim.AdaGrad(1.0))


ESTIMATORS: dict[str, Callable[[], Any]] = {
    "unit": lambda: UnitVectors() | logistic(),
    "one for each class": lambda: UnitVectors() | multiclass.OneVsRestClassifier(logistic()),
    "beside numbers": beside_numbers,
    "by name": logistic,
    "by name, scaled": lambda: preprocessing.StandardScaler() | logistic(0.1),
    "softmax": lambda: UnitVectors() | linear_model.SoftmaxRegression(),
}


def rows_of(count: int, seed: int, length: int = 40, *, number: bool = True) -> list[Row]:
    rng = np.random.default_rng(seed)
    rows: list[Row] = []
    for i in range(count):
        row: Row = {"x": float(rng.normal())} if number else {}
        row["e"] = (
            [0.0] * length if i % 17 == 5 else rng.normal(scale=rng.choice([1e-3, 1.0, 1e4]), size=length).tolist()
        )
        rows.append(row)
    return rows


def model_of(kind: str, labels: int, taught: list[Row]) -> Model:
    estimator = ESTIMATORS[kind]()
    classes = ("a", "b", "c")[: labels if estimator._multiclass else 2]
    model = Model(estimator, LabelRules(classes))
    for i, row in enumerate(taught):
        model.learn(row, classes[i * i % len(classes)])
    return model


@pytest.mark.parametrize("kind", sorted(ESTIMATORS))
@given(seed=st.integers(0, 999), count=st.integers(1, 7), taught=st.integers(2, 30), number=st.booleans())
@settings(max_examples=15)
def test_rows_give_the_same_bits(kind: str, seed: int, count: int, taught: int, number: bool) -> None:
    """Whoever is beside an event in the batch; zeros, and vectors of any length among them."""
    lessons = rows_of(taught, seed, number=number)
    model = model_of(kind, 3, lessons)
    rows = rows_of(count, seed + 1, number=number)
    found = model.predict_many([*rows[0]], rows)
    if found is None:
        assert kind == "softmax"
        return
    assert found == [model.predict(row) for row in rows]


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="sum() is compensated there, so that softmax is not folded")
def test_the_rows_of_a_softmax_are_folded() -> None:
    """Where addition is plain."""
    assert model_of("softmax", 3, rows_of(20, 1)).predict_many(["x", "e"], rows_of(3, 2)) is not None


def test_the_rows_are_what_river_alone_says() -> None:
    """River's classes and nothing of ours: difference 0.0 for unit vectors, 1e-12 where River divides by the length."""
    rng = np.random.default_rng(5)
    model = Model(UnitVectors() | logistic(), LabelRules(("no", "yes")))
    normalizer: Any = preprocessing.Normalizer
    exact, near = logistic(), normalizer() | logistic()
    for i in range(200):
        row: Row = {"e": rng.normal(loc=(i % 2) - 0.5, size=384).tolist()}
        named, scaled = name_components(row), UnitVectors().transform_one(row)
        if i > 2:
            [found] = model.predict_many(["e"], [row]) or [{}]
            assert found["yes"] == exact.predict_proba_one(scaled)[True]
            assert found["yes"] == pytest.approx(near.predict_proba_one(named)[True], abs=1e-12)
        model.learn(row, ("no", "yes")[i % 2])
        exact.learn_one(scaled, bool(i % 2))
        near.learn_one(named, bool(i % 2))


def test_a_model_of_river_meets_named_numbers() -> None:
    """Whatever the estimator, its result is that of River alone."""
    gaussian: Any = naive_bayes.GaussianNB
    model, alone = Model(gaussian(), LabelRules(("a", "b"))), gaussian()
    for i, row in enumerate(rows_of(30, 1, 5)):
        model.learn(row, "ab"[i % 2])
        alone.learn_one(name_components(row), "ab"[i % 2])
    for row in rows_of(5, 2, 5):
        assert model.predict(row) == pytest.approx(alone.predict_proba_one(name_components(row)))
        assert model.predict_many([*row], [row]) is None


def test_what_is_laid_out_is_made_again_after_each_example() -> None:
    """And is no part of a copy."""
    model = model_of("unit", 2, rows_of(10, 1))
    [row] = rows_of(1, 3)
    before = model.predict_many([*row], [row])
    copy = loads(dumps(model))
    model.learn(row, "b")
    after = model.predict_many([*row], [row])
    assert after != before
    assert after == [model.predict(row)]
    assert copy.predict_many([*row], [row]) == before


def test_a_name_that_is_taken_twice_is_predicted_one_by_one() -> None:
    """A number that is called like a number of a vector."""
    row: Row = {"e": [1.0, 2.0], "e[0]": 3.0}
    assert LinearRows.lay_out(model_of("by name", 2, [row])._estimator, row) is None


def test_strings_beside_a_vector_are_left_to_river() -> None:
    """What is no number goes through River's own steps."""
    pipeline = default_pipeline({"e": "vector(3)", "s": "string"}, binary=True)
    model = Model(build_estimator(pipeline, None, 1), LabelRules(("a", "b")))
    for i in range(40):
        model.learn({"e": [1.0, -1.0, i % 2], "s": "word"}, "ab"[i % 2])
    assert model.predict({"e": [1.0, -1.0, 1.0], "s": "word"})["b"] > 0.6
    assert model.failures == 0


@pytest.mark.parametrize("classes", [["no", "yes"], ["a", "b", "c"]])
@pytest.mark.parametrize("declared", ['{e="vector(8)"}', '{e="vector(8)",x="number"}'])
def test_a_fold_predicts_vectors_alike_however_many_come(classes: list[str], declared: str) -> None:
    """Also where a feature is missing, or the order is another one."""
    named = ",".join(f'"{name}"' for name in classes)
    config = load_config(None, [f"features.declared={declared}", f"labels.classes=[{named}]"])
    learned = build(config).new_fold().learned
    assert learned.schema is not None
    rows = rows_of(60, 7, 8, number="x" in declared)
    for i, row in enumerate(rows):
        learned.model.learn(learned.schema.select(row), classes[i * i % len(classes)])
    rows[3] = dict(reversed(rows[3].items()))
    rows[5] = {"x": 1.0} if "x" in declared else {"e": [0.0] * 8}
    events = [Event(0, i, None, None, row) for i, row in enumerate(rows)]
    one_by_one = [learned.predict(event) for event in events]
    for size in (1, 7, 60):
        found = [p for start in range(0, 60, size) for p in learned.predict_many(events[start : start + size])]
        assert found == one_by_one
    assert len({str(each) for each in one_by_one}) > 40
    assert learned.model.failures == 0


def test_the_default_pipeline_scales_vectors_rather_than_their_numbers() -> None:
    """Alone by plain gradient descent; beside other features as a part of the union."""
    alone: Any = build_estimator(default_pipeline({"e": "vector(384)"}, binary=True), None, 1)
    beside = build_estimator(default_pipeline({"e": "vector(384)", "x": "number"}, binary=False), None, 1)
    for estimator in (alone, beside):
        assert has_unit_vectors(estimator)
    assert "SGD" in str(alone["LogisticRegression"].optimizer)
    assert not has_unit_vectors(build_estimator(default_pipeline({"x": "number"}, binary=True), None, 1))


def test_a_length_of_nothing_is_refused() -> None:
    """As any wrong argument of a step."""
    for norm in (0.0, -1.0, float("inf"), float("nan")):
        with pytest.raises(ValueError, match="norm must be a positive number"):
            UnitVectors(norm)
