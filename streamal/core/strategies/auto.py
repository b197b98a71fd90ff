"""`auto`: several strategies at once, each with the weight that the audit lane's labels give it.

There is one model, so no arm can be credited with the accuracy that it would have led to. What every arm does show,
without bias, is **which of its requests would have corrected the model**: the audit lane's events are a uniform
sample, whatever any arm thinks of them. For an audit label let a be the arm's own propensity for that event and e
whether the prediction was wrong; then, over the audit labels,

    yield = Σ a·e / Σ a

is the share of errors among the labels that the arm would buy. Random's is the model's error rate; that of an arm
whose uncertainty is worth something is higher, and falls below random's when the model becomes wrong where it is
sure. Every label rates all arms, so nothing has to be explored. Old labels are forgotten, as the best arm changes
(non-stationary experts: Herbster & Warmuth 1998; bandits over strategies: Pang et al., arXiv 1810.07778; Krawczyk &
Cano, IJCAI 2019).

The weights are a fold of ``training``, so every worker has the same. An event's propensity is the weighted mean of the
arms'; each arm goes on in its own state as if it had been alone, moved by its own propensity.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from streamal.core.records import FeatureValue
from streamal.core.strategies.base import EventView, Memory, Requirements, State, Strategy, requirements_of

__all__ = ["Auto", "Bandit", "Memories", "Scores"]

_FORGETTING = 0.995
"""An audit label counts half after 138 further ones."""
_PRIOR = 10.0
"""Every arm begins with so many requests at the model's own error rate."""
_SHARPNESS = 60.0
"""An arm whose yield is 0.05 higher has e³ times the weight: a mean of many arms is as good as their mean, not more."""
_LEADER, _LEAD = "quantile", 0.15
"""The arm that is the best one most often, and by how much another one's yield must be higher to take its place.

Where labels are few, as with forty classes in 4,000 events, yields tell hardly more than that random is worse.
"""
_FLOOR = 0.02
"""This much of the weight is shared equally, so that every arm stays in play."""


class Bandit:
    """The weights of the arms, from audit labels; a part of the fold."""

    def __init__(self, leads: Sequence[float] = ()) -> None:
        """Begin without a label; *leads* (`Auto.leads`) are added to the arms' yields."""
        self._leads = tuple(leads)
        self._labels = self._wrong = 0.0
        self._requests: list[float] = []
        self._errors: list[float] = []

    def reward(self, arms: Sequence[float], wrong: bool) -> None:
        """Take in an audit label: the *arms*' propensities for its event, and whether the prediction was *wrong*."""
        if len(arms) != len(self._requests):  # the first label, or the first one under another configuration
            self._requests, self._errors = [0.0] * len(arms), [0.0] * len(arms)
        self._labels = _FORGETTING * self._labels + 1.0
        self._wrong = _FORGETTING * self._wrong + wrong
        for i, propensity in enumerate(arms):
            self._requests[i] = _FORGETTING * self._requests[i] + propensity
            self._errors[i] = _FORGETTING * self._errors[i] + propensity * wrong

    def yields(self) -> list[float]:
        """Return each arm's share of errors among its requests, drawn to the model's error rate where it has few."""
        rate = self._wrong / self._labels if self._labels else 0.0
        pairs = zip(self._errors, self._requests, strict=True)
        return [(errors + _PRIOR * rate) / (requests + _PRIOR) for errors, requests in pairs]

    def weights(self) -> tuple[float, ...]:
        """Return the weights, which sum to 1; before the first reward by the leads alone, empty without any."""
        yields = self.yields() or [0.0] * len(self._leads)
        if not yields:
            return ()
        if len(self._leads) == len(yields):
            yields = [each + lead for each, lead in zip(yields, self._leads, strict=True)]
        best = max(yields)
        raw = [math.exp(_SHARPNESS * (each - best)) for each in yields]
        total = sum(raw)
        return tuple((1.0 - _FLOOR) * each / total + _FLOOR / len(raw) for each in raw)


class Scores(NamedTuple):
    """What the arms see of an event: their *weights*, and each one's own score."""

    weights: Sequence[float]
    each: Sequence[Any]

    def __mul__(self, factor: Any) -> Scores:
        """Return every arm's score multiplied by *factor*, which is how the near-duplicates of requests are damped."""
        return Scores(self.weights, [score * factor for score in self.each])


class Memories:
    """One memory for each arm that looks back."""

    def __init__(self, parts: Sequence[Any]) -> None:
        """Join *parts*, None for an arm without."""
        self.parts = parts

    def take(self, offset: int, features: Mapping[str, FeatureValue]) -> None:
        """Take in the event at *offset*."""
        for part in self.parts:
            if part is not None:
                part.take(offset, features)

    def copy(self) -> Memories:
        """Return one that can be changed without changing this one."""
        return Memories([None if part is None else part.copy() for part in self.parts])


@dataclass(frozen=True, slots=True)
class Auto:
    """Ask with the weighted mean of the *strategies*' propensities; see the module. *names* are for the metrics."""

    strategies: tuple[Strategy, ...]
    names: tuple[str, ...] = ()
    _requirements: tuple[Requirements, ...] = field(init=False, repr=False, compare=False)
    _slices: tuple[slice, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        lengths = [len(strategy.initial()) for strategy in self.strategies]
        ends = [sum(lengths[: i + 1]) for i in range(len(lengths))]
        object.__setattr__(self, "_requirements", tuple(requirements_of(strategy) for strategy in self.strategies))
        object.__setattr__(
            self, "_slices", tuple(slice(end - length, end) for end, length in zip(ends, lengths, strict=True))
        )

    @property
    def leads(self) -> tuple[float, ...]:
        """What is added to each arm's yield."""
        return tuple(_LEAD if name == _LEADER else 0.0 for name in self.names)

    @property
    def lookback(self) -> int:
        """The furthest of the arms'."""
        return max(requirements.lookback for requirements in self._requirements)

    @property
    def votes(self) -> bool:
        """Whether an arm requires votes."""
        return any(requirements.votes for requirements in self._requirements)

    def memory(self) -> Memory:
        """Return one for each arm that looks back."""
        return Memories(
            [requirements.memory() if requirements.lookback else None for requirements in self._requirements]
        )

    def score(self, view: EventView) -> Scores:
        """Return the arms' weights and scores."""
        count = len(self.strategies)
        weights = view.weights if len(view.weights) == count else (1.0 / count,) * count
        parts = [None] * count if view.memory is None else view.memory.parts
        scores = [
            requirements.score(view._replace(memory=part)) if requirements.score is not None else view.uncertainty
            for requirements, part in zip(self._requirements, parts, strict=True)
        ]
        return Scores(weights, scores)

    def initial(self) -> State:
        """Return the states of all arms, one after the other."""
        return tuple(value for strategy in self.strategies for value in strategy.initial())

    def propensity(self, score: Scores | float, state: State) -> float:
        """Return the weighted mean."""
        weights, asked = self._split(score)[0], self.arm_propensities(score, state)
        return min(1.0, math.fsum(weight * each for weight, each in zip(weights, asked, strict=True)))

    def update(self, score: Scores | float, asked: float, state: State) -> State:
        """Return the states of the arms, each after its own decision."""
        after: list[int | float | str] = []
        scores = self._split(score)[1]
        parts = zip(self.strategies, scores, self._slices, self.arm_propensities(score, state), strict=True)
        for strategy, each, where, chosen in parts:
            after += strategy.update(each, chosen, state[where])
        return tuple(after)

    def arm_propensities(self, score: Scores | float, state: State) -> list[float]:
        """Return each arm's own propensity."""
        parts = zip(self.strategies, self._split(score)[1], self._slices, strict=True)
        return [strategy.propensity(each, state[where]) for strategy, each, where in parts]

    def _split(self, score: Scores | float) -> Scores:
        """Return the arms' weights and scores; a bare uncertainty is every arm's, and all weigh the same."""
        if isinstance(score, Scores):
            return score
        count = len(self.strategies)
        return Scores((1.0 / count,) * count, (score,) * count)
