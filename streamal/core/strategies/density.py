"""Strategies that look back at past events, and ask where events lie densely. A restart reads their windows back.

They do not ask about outliers, which teach the model nothing about the rest of the stream. `Density` and `Cognitive`
lead in none of our own tables: they are reference implementations of their papers, to compare with. See
`streamal.core.strategies.space` for the distances.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from streamal.core.strategies.base import EventView, State, Strategy
from streamal.core.strategies.cognitive_memory import CognitiveMemory
from streamal.core.strategies.quantile import Quantile
from streamal.core.strategies.sketch import EMPTY_COUNTS, add_label, labels_near
from streamal.core.strategies.space import Cloud, Neighbours
from streamal.core.strategies.threshold import RandomisedVariable
from streamal.core.strategies.unconditional import Random

__all__ = ["Cognitive", "Density", "Probabilistic", "Promise", "gain"]

_DENSE_MIN = 0.01
"""A stream without dense events must not be flooded when they come back."""
_SPARSE = -1.0
"""The score of an event that is not to be asked, however uncertain."""


@dataclass(frozen=True, slots=True)
class Density:
    """Ask if c < θ·η and the event is some past event's new nearest neighbour (Ienco, Žliobaitė & Pfahringer 2014).

    "High density-focused uncertainty sampling for active learning over evolving stream data", BigMine. Their local
    density factor counts the events of the window that the new one is the nearest neighbour of. Equal distances
    count here: a stream of copies is as dense as can be.

    Attributes:
        rule: what is asked of the dense; θ rests where the share of *all* events is asked.
        window: how many offsets back it looks.
    """

    rule: RandomisedVariable
    window: int = 100

    def __post_init__(self) -> None:
        _require_window(self.window)

    @property
    def lookback(self) -> int:
        """Offsets to read back: the block's, and those that its scale is from."""
        return 2 * self.window

    def memory(self) -> Neighbours:
        """Return one that knows nothing yet."""
        return Neighbours(self.window)

    def score(self, view: EventView) -> float:
        """Return the uncertainty of a dense event."""
        dense = view.memory.local_density(view.offset, view.features) > 0
        return view.uncertainty if dense else _SPARSE

    def initial(self) -> tuple[float]:
        """Return (θ,)."""
        return self.rule.initial()

    def propensity(self, score: float, state: tuple[float]) -> float:
        """Return the rule's, 0 for a sparse event."""
        return self.rule.propensity(score, state) if score >= 0.0 else 0.0

    def update(self, score: float, asked: float, state: tuple[float]) -> tuple[float]:
        """Return the moved θ."""
        return self.rule.update(score, asked, state)


@dataclass(frozen=True, slots=True)
class Cognitive:
    """The cognitive dual query strategy, CogDQS (Liu et al., IEEE TNNLS 34(1), 2023).

    Ten events are remembered. Of those whose nearest neighbour the present event is, the memory is refreshed; when an
    eleventh comes, the one of the least strength exp(-(t - t_recalled)/(recalls + 1)) is forgotten. An event is
    dense if it refreshes one at least; the dense are asked by one of the rules of Žliobaitė et al.

    Attributes:
        rule: the variant: ran (`Random`), fixun (`Fixed`), varun (`Variable`), ranvarun (`RandomisedVariable`).
        horizon: offsets after which the memory begins anew with those of the last block, so that it can be read back.
        density_threshold: so many memories have to be refreshed.
    """

    rule: Strategy
    horizon: int = 100
    density_threshold: int = 1

    def __post_init__(self) -> None:
        _require_window(self.horizon)

    @property
    def lookback(self) -> int:
        """Offsets to read back."""
        return 2 * self.horizon

    def memory(self) -> CognitiveMemory:
        """Return one that knows nothing yet."""
        return CognitiveMemory(self.horizon)

    def score(self, view: EventView) -> float:
        """Return the uncertainty of a dense event."""
        dense = view.memory.local_density(view.offset, view.features) >= self.density_threshold
        return view.uncertainty if dense else _SPARSE

    def initial(self) -> State:
        """Return (share of dense events, the rule's state)."""
        return (1.0, *self.rule.initial())

    def propensity(self, score: float, state: State) -> float:
        """Return the rule's, 0 for a sparse event; `Random` asks the dense more often, to reach its share of all."""
        if score < 0.0:
            return 0.0
        p = self.rule.propensity(score, state[1:])
        return min(1.0, p / state[0]) if isinstance(self.rule, Random) else p

    def update(self, score: float, asked: float, state: State) -> State:
        """Return the rule's new state; for its threshold a sparse event is one that was not asked."""
        share = max(_DENSE_MIN, 0.99 * state[0] + 0.01 * (score >= 0.0))
        return (share, *self.rule.update(score, asked, state[1:]))


@dataclass(frozen=True, slots=True)
class Probabilistic:
    """Probabilistic active learning: ask where a label or two are expected to improve the decisions the most.

    Kottke, Krempl & Spiliopoulou, IDA 2015; the gain is that of McPAL (Kottke et al., ECAI 2016) in closed form for up
    to *labels_max* labels, times the density of the event's neighbourhood; the quantile filter picks the highest. They
    estimate how many labels of each class lie near the event with a kernel over labelled data. Here that is the
    model's own probability times the geometric mean of two estimates of the labels near: what a `sketch` of those that
    this strategy has asked counts there (with the others as the events lie), and those that would be there if all of
    them lay as the events of the window do. The sketch alone is noisy; without it, labels seem to lie near what is
    dense, asked or not, and on mixed columns up to 9 points are lost at a budget of 1 %.

    The kernel is about as narrow as that of scikit-activeml's "mean" criterion: with one four times as wide, labels
    seem to lie near everything, none promises anything any more, and up to 2.5 points of accuracy are lost.

    Attributes:
        rule: the filter.
        window: how many offsets back it looks.
        prior: of each class, in labels.
        labels_max: how many labels it looks ahead, 1 or 2.
    """

    rule: Quantile
    window: int = 100
    prior: float = 1e-3
    labels_max: int = 2

    def __post_init__(self) -> None:
        _require_window(self.window)
        if self.labels_max not in (1, 2):
            raise ValueError(f"labels_max must be 1 or 2, not {self.labels_max}")
        if not self.prior > 0.0:
            raise ValueError(f"prior must be above 0, not {self.prior}")

    @property
    def lookback(self) -> int:
        """Offsets to read back: the block's, and those that its scale is from."""
        return 2 * self.window

    def memory(self) -> Cloud:
        """Return one that knows nothing yet."""
        return Cloud(self.window)

    def score(self, view: EventView) -> Promise:
        """Return all that the gain depends on, except the labels that were asked."""
        return Promise(view.probabilities, view.examples, *view.memory.likeness(view.offset, view.features))

    def initial(self) -> tuple[str, str, float, str, int]:
        """Return the filter's window, and the sketch with how many labels are in it."""
        return (*self.rule.initial(), EMPTY_COUNTS, 0)

    def propensity(self, score: Promise | float, state: tuple[str, str, float, str, int]) -> float:
        """Return 1 or 0."""
        return self.rule.propensity(self._worth(score, state), state[:3])

    def update(
        self, score: Promise | float, asked: float, state: tuple[str, str, float, str, int]
    ) -> tuple[str, str, float, str, int]:
        """Return the filter's window with this score, and the sketch with this label if it was asked."""
        window = self.rule.update(self._worth(score, state), asked, state[:3])
        if isinstance(score, Promise) and asked >= 0.5:
            return window + add_label(state[3], state[4], score.places)
        return window + state[3:]

    def _worth(self, promise: Promise | float, state: tuple[str, str, float, str, int]) -> float:
        """Return the fourth root of gain · density: in the same order, but not all next to 0; a number is its own."""
        if not isinstance(promise, Promise):
            return float(promise)
        if promise.worth is None or promise.worth[0] is not state:
            as_events = promise.examples * promise.alike
            labels = state[4]
            asked = labels_near(state[3], labels, promise.places) if promise.places else 0.0
            known = asked + max(0, promise.examples - labels) * promise.alike
            here = math.sqrt(known * as_events)
            value = gain([p * here for p in promise.probabilities.values()], self.prior, self.labels_max)
            promise.worth = state, math.sqrt(math.sqrt(value * promise.density))
        return promise.worth[1] * promise.factor


@dataclass(slots=True)
class Promise:
    """The score of `Probabilistic`: all that the gain depends on, except the labels that were asked.

    *worth* caches the gain under one state. Damping multiplies it by a *factor*.
    """

    probabilities: Mapping[str, float]
    examples: int
    alike: float
    density: float
    places: Sequence[int]
    factor: float = 1.0
    worth: tuple[State, float] | None = None

    def __mul__(self, factor: float) -> Promise:
        """Return this score with only a *factor* of its worth."""
        return replace(self, factor=self.factor * factor)


def gain(frequencies: Sequence[float], prior: float, labels_max: int = 2) -> float:
    """Return McPAL's expected gain in accuracy per label, the larger of one label's and (labels_max = 2) of two.

    With k labels of each class near the event and a symmetric Dirichlet *prior*, the next labels l are drawn by
    P(l | k); the decision changes from ŷ to the class that is then in front, and is right more often by
    (k + l)_new - (k + l)_ŷ over their sum. *frequencies* are k. In [0, 1].

    >>> round(gain([0.0, 0.0], 1.0, 1), 4)
    0.1667
    """
    if len(frequencies) < 2:
        return 0.5
    ordered = sorted(frequencies, reverse=True)
    first, *others = ordered
    total = sum(ordered) + prior * len(ordered)
    one = two = behind = 0.0
    for k in reversed(others):  # the lowest first, so that `behind` is the mass of those that are not in front of k
        p = (k + prior) / total
        ahead = k + 1.0 - first
        if ahead > 0.0:
            one += p * ahead
            # this class and another one that is not in front of it, either way round
            two += 2.0 * p * behind / (total + 1.0) * ahead
        if ahead + 1.0 > 0.0:
            two += p * (k + prior + 1.0) / (total + 1.0) * (ahead + 1.0)  # twice this one
        behind += k + prior
    one /= total + 1.0
    return one if labels_max == 1 else max(one, two / (total + 2.0) / 2.0)


def _require_window(window: int) -> None:
    if not 16 <= window <= 1_000:
        raise ValueError(f"it must look back between 16 and 1000 offsets, not {window}")
