"""The three measures against their definitions, and their bounds."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamal.core.strategies.uncertainty import (
    MEASURES,
    SMOOTHED_MEASURES,
    entropy,
    least_confidence,
    margin,
    smooth,
    trust,
)
from tests.making import probabilities


@given(probabilities())
def test_the_measures_are_their_formulas(p: dict[str, float]) -> None:
    """Least confidence, margin and normalised entropy, recomputed the slow way."""
    ordered = sorted([*p.values(), 0.0], reverse=True)
    positive = [q for q in p.values() if q > 0.0]
    assert least_confidence(p) == pytest.approx(1.0 - ordered[0])
    assert margin(p) == pytest.approx(1.0 - (ordered[0] - ordered[1]))
    nats = math.fsum(q * math.log(1.0 / q) for q in positive)
    assert entropy(p) == pytest.approx(nats / math.log(len(positive)) if len(positive) > 1 else 0.0)


@given(probabilities(), st.floats(0.9991, 1.0009))
def test_the_measures_stay_within_0_and_1(p: dict[str, float], rounding: float) -> None:
    """Whatever the rounding of the model's sum, no strategy sees less than 0 or more than 1."""
    scaled = {label: q * rounding for label, q in p.items()}
    for measure in MEASURES.values():
        assert 0.0 <= measure(scaled) <= 1.0


@given(probabilities(), st.integers(0, 10**6), st.sampled_from(sorted(SMOOTHED_MEASURES)))
def test_what_is_smoothed_without_the_probabilities_is_what_is_smoothed_with_them(
    p: dict[str, float], examples: int, name: str
) -> None:
    """The short way to a smoothed measure agrees with the long one to the last digits."""
    slow = MEASURES[name](smooth(p, examples))
    assert SMOOTHED_MEASURES[name](MEASURES[name](p), trust(examples), len(p)) == pytest.approx(slow, abs=1e-12)


@given(probabilities(), st.randoms(use_true_random=False))
def test_the_order_of_the_classes_does_not_matter(p: dict[str, float], random: object) -> None:
    """A replica that has met the classes in another order is as unsure."""
    backwards = dict(reversed(p.items()))
    for measure in MEASURES.values():
        assert measure(backwards) == pytest.approx(measure(p))


@pytest.mark.parametrize("classes", [2, 3, 100])
def test_uniform_is_most_and_certain_is_least_uncertain(classes: int) -> None:
    """The ends of the scale: 0 for a certain class; uniform is 1, or 1 - 1/C under least confidence."""
    uniform = {f"c{i}": 1.0 / classes for i in range(classes)}
    certain = {**dict.fromkeys(uniform, 0.0), "c0": 1.0}
    assert margin(uniform) == pytest.approx(1.0)
    assert entropy(uniform) == pytest.approx(1.0)
    assert least_confidence(uniform) == pytest.approx(1.0 - 1.0 / classes)
    assert [measure(certain) for measure in MEASURES.values()] == [0.0, 0.0, 0.0]


def test_an_empty_prediction_is_wholly_unsure() -> None:
    """No class known yet: every measure says 1, so that the first events are asked (0.1)."""
    assert [measure({}) for measure in MEASURES.values()] == [1.0, 1.0, 1.0]
    assert entropy({"a": 0.9999}) == 0.0
