"""The contract suite passes every strategy of ours, and finds each way to break it."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from streamal.core.strategies import STRATEGIES, EventView, SamplingRules, State, Strategy, build_strategy
from streamal.core.strategies.base import Past
from streamal.core.strategies.checks import check_strategy

MUTE_BY_THEIR_PAPERS = ("entropy", "fixed")


class Sound:
    """A strategy of a user's own, as plain as can be: it breaks nothing."""

    def __init__(self, rate: float = 0.1) -> None:
        self.rate = rate

    def initial(self) -> State:
        return (0,)

    def propensity(self, score: Any, state: State) -> float:
        return self.rate

    def update(self, score: Any, asked: Any, state: State) -> State:
        return (state[0] + 1,)


class AboveOne(Sound):
    def propensity(self, score: Any, state: State) -> float:
        return 1.0 + float(score)


class NotANumber(Sound):
    def propensity(self, score: Any, state: State) -> float:
        return float("nan")


class Draws(Sound):
    def propensity(self, score: Any, state: State) -> float:
        return random.random()


class Remembers(Sound):
    def __init__(self) -> None:
        self.seen = 0

    def propensity(self, score: Any, state: State) -> float:
        self.seen += 1
        return 1.0 / (1.0 + self.seen)


class Nested(Sound):
    """JSON makes a list of its inner tuple."""

    def initial(self) -> State:
        return ((0, 1),)

    def update(self, score: Any, asked: Any, state: State) -> State:
        return state


class Hoards(Sound):
    def initial(self) -> State:
        return ("",)

    def update(self, score: Any, asked: Any, state: State) -> State:
        return (state[0] + "x",)


class Mute(Sound):
    def propensity(self, score: Any, state: State) -> float:
        return 1.0 if score > 0.2 else 0.0


class Clock:
    """Shows the seconds that strategies say they take."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


CLOCK = Clock()


class Slow(Sound):
    """Takes 2 ms for a decision, by the clock."""

    def propensity(self, score: Any, state: State) -> float:
        CLOCK.now += 0.002
        return 0.1


class Raises(Sound):
    def propensity(self, score: Any, state: State) -> float:
        return 1.0 / len(state[1:])


class LooksBack(Sound):
    """A user's strategy with a window: it asks about what it has seen lately, without any memory class of its own."""

    lookback = 20

    def score(self, view: EventView) -> float:
        recent = [features.get("s") for features in view.memory]
        return float(recent.count(view.features.get("s")) / (1.0 + len(recent)))

    def propensity(self, score: Any, state: State) -> float:
        return float(score)


class Counting(Past):
    """It knows how many events there have ever been, which no look back can tell."""

    def __init__(self, total: int = 0) -> None:
        super().__init__(20)
        self.total = total

    def take(self, offset: int, features: Any) -> None:
        self.total += 1

    def copy(self) -> Counting:
        return Counting(self.total)


class LooksFurther(Sound):
    lookback = 20

    def memory(self) -> Past:
        return Counting()

    def score(self, view: EventView) -> float:
        return float(1.0 / (1.0 + view.memory.total))

    def propensity(self, score: Any, state: State) -> float:
        return float(score)


class Shared(Past):
    """Its copy is itself."""

    def copy(self) -> Shared:
        return self


class Shares(LooksBack):
    def memory(self) -> Past:
        return Shared(20)


BROKEN: list[tuple[Callable[[], Strategy], str]] = [
    (AboveOne, "is no probability"),
    (NotANumber, "is no probability"),
    (Draws, "decide differently on the same stream"),
    (Remembers, "remembers something outside of its state"),
    (Nested, "not the same after JSON"),
    (Hoards, "bytes, more than 600"),
    (Mute, "it is mute: with an uncertainty of 0 for ever"),
    (Slow, "µs, more than 500"),
    (Raises, "it raised ZeroDivisionError"),
    (LooksFurther, "reads back from the last 20 offsets"),
    (Shares, "changing a copy of its memory changes the memory"),
]


def problems(new: Callable[[], Strategy], *, audited: bool = False) -> list[str]:
    return check_strategy(new, 0.1, audited, CLOCK)


def built(name: str, **parameters: Any) -> Strategy:
    return build_strategy(SamplingRules(name, rate=0.07, share=0.1, floor=0.5, parameters=parameters))


@pytest.mark.parametrize("name", STRATEGIES)
def test_every_strategy_keeps_its_contract(name: str) -> None:
    """Beside an audit lane all do; without one, those that are mute by their papers are told apart (T1)."""
    assert problems(lambda: built(name), audited=True) == []
    alone = problems(lambda: built(name), audited=False)
    assert [line.partition(":")[0] for line in alone] == (["it is mute"] if name in MUTE_BY_THEIR_PAPERS else [])


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("quantile", {"window": 250, "tolerance": 1.0}),
        ("density", {"window": 16}),
        ("cognitive", {"rule": "random"}),
        ("cognitive", {"rule": "variable", "density_threshold": 2, "horizon": 40}),
        ("probabilistic", {"labels_max": 1, "window": 30}),
        ("auto", {"arms": ["density", "quantile", "committee", "cognitive"]}),
    ],
)
def test_so_does_every_variant(name: str, parameters: dict[str, Any]) -> None:
    """Other windows and variants; arms of `auto` that look back or want votes."""
    assert problems(lambda: built(name, **parameters), audited=True) == []


@pytest.mark.parametrize("new", [Sound, LooksBack])
def test_a_class_of_the_users_passes(new: Callable[[], Strategy]) -> None:
    """Three methods are enough; with ``lookback`` the past events come by themselves."""
    assert problems(new, audited=True) == []


@pytest.mark.parametrize(("new", "sentence"), BROKEN)
def test_each_broken_strategy_is_found_out(new: Callable[[], Strategy], sentence: str) -> None:
    """One for each clause, and the sentence says which."""
    assert any(sentence in line for line in problems(new)), problems(new)
