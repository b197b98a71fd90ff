"""Each new label repeats some recent ones: the same for every worker, and never more than the window (I4, I9)."""

from __future__ import annotations

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamal.config import RehearsalConfig
from streamal.core.model.rehearsal import Rehearsal, WeightedExample

COURSE = [WeightedExample({"x": float(number)}, "ab"[number % 2]) for number in range(200)]


def train(rehearsal: Rehearsal, course: list[WeightedExample]) -> list[list[float]]:
    """Return the numbers that were learned, for each example."""
    return [[float(str(each.features["x"])) for each in rehearsal.rehearse(example)] for example in course]


def test_by_default_nothing_is_repeated_or_kept() -> None:
    """A example alone."""
    rehearsal = Rehearsal()
    assert train(rehearsal, COURSE) == [[example.features["x"]] for example in COURSE]
    assert rehearsal._kept == []
    assert RehearsalConfig().repeats == 0


@given(st.integers(1, 30), st.integers(1, 4), st.integers(0, 99))
def test_only_the_last_ones_are_repeated(window: int, repeats: int, seed: int) -> None:
    """The new example comes first and once; what is repeated is among the *window* before it."""
    rehearsal = Rehearsal(window, repeats, seed)
    for number, learned in enumerate(train(rehearsal, COURSE)):
        assert learned[0] == number
        assert len(learned) == 1 + (repeats if number else 0)
        assert all(max(0, number - window) <= again < number for again in learned[1:])
        assert len(rehearsal._kept) <= window


def test_every_lesson_of_the_window_has_its_turn() -> None:
    """The coin is fair: over 200 examples nearly all are repeated, none very often."""
    again = [number for learned in train(Rehearsal(20, 2, 1), COURSE) for number in learned[1:]]
    assert len(set(again)) > 150
    assert max(again.count(number) for number in set(again)) <= 10


@given(st.integers(0, 200))
def test_a_pickle_anywhere_changes_nothing(cut: int) -> None:
    """I4: the window is part of a snapshot, and the coin of the example's number."""
    whole, first = Rehearsal(10, 2, 7), Rehearsal(10, 2, 7)
    train(first, COURSE[:cut])
    again = pickle.loads(pickle.dumps(first))
    assert train(whole, COURSE)[cut:] == train(again, COURSE[cut:])


def test_repeats_need_a_window() -> None:
    """A programmer's error."""
    with pytest.raises(AssertionError, match="window"):
        Rehearsal(0, 1)
