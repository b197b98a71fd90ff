"""A batch of predictions by columns: the same numbers as one after the other, to the last bit."""

from __future__ import annotations

import math
import numbers
import sys
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from river import compose, linear_model, multiclass, naive_bayes, optim, preprocessing

from streamal.bootstrap import build
from streamal.config import load_config
from streamal.core.fold import Fold
from streamal.core.model.linear import predict_proba
from streamal.core.records import Event

NAMES = ["a", "b", "c", "never learned"]
VALUES = st.floats(-1e6, 1e6) | st.sampled_from([0.0, 1e12, -1e12, 5e-324])


def logistic(**how: Any) -> Any:
    return linear_model.LogisticRegression(**how)


ESTIMATORS: dict[str, Callable[[], Any]] = {
    "logistic": logistic,
    "scaled": lambda: preprocessing.StandardScaler() | logistic(),
    "centred": lambda: preprocessing.StandardScaler(with_std=False) | logistic(l2=0.1),
    "default": lambda: (
        compose.SelectType(numbers.Number)
        | preprocessing.StandardScaler()
        | multiclass.OneVsRestClassifier(logistic(optimizer=optim.AdaGrad(1.0), intercept_lr=0.2))
    ),
    "nested": lambda: (preprocessing.StandardScaler() | preprocessing.StandardScaler()) | logistic(),
    "softmax": lambda: preprocessing.StandardScaler() | linear_model.SoftmaxRegression(),
}
UNKNOWN: dict[str, Callable[[], Any]] = {
    "naive Bayes": naive_bayes.GaussianNB,
    "windowed": lambda: preprocessing.StandardScaler(window_size=9) | logistic(),
    "hinge": lambda: logistic(loss=optim.losses.Hinge()),
    "strings": lambda: compose.SelectType(str) | logistic(),
    "perceptron": lambda: preprocessing.StandardScaler() | linear_model.Perceptron(),
}


@st.composite
def examples(draw: st.DrawFn) -> list[tuple[dict[str, float], int]]:
    """Some of the names are missing now and then, one is never there, one does not vary."""
    rows = draw(
        st.lists(st.tuples(st.dictionaries(st.sampled_from(NAMES[:2]), VALUES), st.integers(0, 2)), max_size=30)
    )
    return [({**row, "c": 3.5}, label) for row, label in rows]


def learned(kind: str, taught: list[tuple[dict[str, float], int]]) -> Any:
    estimator = ESTIMATORS[kind]()
    for row, label in taught:
        estimator.learn_one(row, str(label) if estimator._multiclass else label > 0)
    return estimator


@pytest.mark.parametrize("kind", sorted(ESTIMATORS))
@given(taught=examples(), asked=st.lists(st.tuples(*[VALUES] * 4), min_size=1, max_size=9), size=st.integers(1, 4))
def test_columns_give_the_same_bits(
    kind: str, taught: list[tuple[dict[str, float], int]], asked: list[tuple[float, ...]], size: int
) -> None:
    """Whatever was learned, whoever is beside it in the batch: features without variance, never seen, missing."""
    estimator, names = learned(kind, taught), NAMES[-size:]
    rows = [dict(zip(names, row, strict=False)) for row in asked]
    found = predict_proba(estimator, names, rows)
    one_by_one = [estimator.predict_proba_one(row) for row in rows]
    if found is None:
        odd = kind == "softmax" or not one_by_one[0]
        assert odd or any(not math.isfinite(sum(each.values())) or _saturated(each) for each in one_by_one)
    else:
        assert [dict(zip(found, row, strict=True)) for row in zip(*found.values(), strict=True)] == one_by_one


def _saturated(probabilities: dict[Any, float]) -> bool:
    """Whether the logit may have been infinite, which one by one comes out as a certainty."""
    return max(probabilities.values()) == 1.0


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="sum() is compensated there, so that softmax is not folded")
def test_a_softmax_is_folded() -> None:
    """Where addition is plain, and each class has all weights."""
    taught = [({name: float(i % 5 + j) for j, name in enumerate(NAMES)}, i % 3) for i in range(20)]
    assert predict_proba(learned("softmax", taught), NAMES, [row for row, _ in taught]) is not None


@pytest.mark.parametrize("kind", sorted(UNKNOWN))
def test_what_is_not_known_is_left_alone(kind: str) -> None:
    """It is predicted one by one, rather than nearly right."""
    assert predict_proba(UNKNOWN[kind](), ["a"], [{"a": 1.0}] * 40) is None


@pytest.mark.parametrize("classes", [["no", "yes"], ["a", "b", "c"]])
@given(odd=st.lists(st.integers(0, 59), max_size=20), taught=st.integers(0, 40))
def test_a_fold_predicts_many_as_one_by_one(classes: list[str], odd: list[int], taught: int) -> None:
    """Also where some events miss a feature, have another order, or bring one that the schema does not know."""
    fold = fold_of(classes)
    for i in range(taught):
        fold.learned.model.learn({"x": float(i % 7), "y": float(i % 3)}, classes[i % len(classes)])
    strange: list[dict[str, Any]] = [{"y": 1.0}, {"y": 2.0, "x": 1.0}, {"x": 1.0, "y": 2.0, "z": 3.0}, {"z": "text"}]
    features: list[dict[str, Any]] = [{"x": 0.1 * i, "y": 5.0 - i} for i in range(60)]
    for i, which in enumerate(odd):
        features[which] = strange[i % len(strange)]
    events = [Event(0, i, None, None, each) for i, each in enumerate(features)]
    assert fold.learned.predict_many(events) == [fold.learned.predict(event) for event in events]


def fold_of(classes: list[str]) -> Fold:
    """Return an empty fold with a schema of two numbers and the default pipeline."""
    named = ",".join(f'"{name}"' for name in classes)
    config = load_config(None, ['features.declared={x="number",y="number"}', f"labels.classes=[{named}]"])
    return build(config).new_fold()
