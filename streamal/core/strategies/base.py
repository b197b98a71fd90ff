"""The protocol of a strategy: score and state -> propensity; and what a strategy may look at to score an event."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeAlias, TypeVar

from streamal.core.records import FeatureValue

__all__ = [
    "STRATEGY_STATE_BYTES_MAX",
    "EventView",
    "Memory",
    "Past",
    "Requirements",
    "State",
    "Strategy",
    "TypedStrategy",
    "requirements_of",
]

State = tuple[Any, ...]
"""A strategy's memory of its decisions: a few numbers or short texts, kept in the offset's commit metadata."""

STRATEGY_STATE_BYTES_MAX = 600
"""Bound of a state as JSON. F16: with the budget's counters it must stay within the limit of a state, 1.2 kB."""


ScoreT_contra = TypeVar("ScoreT_contra", contravariant=True)
StateT = TypeVar("StateT", bound=tuple[object, ...])


class TypedStrategy(Protocol[ScoreT_contra, StateT]):
    """Decides how much a label is worth asking for. Implementations are frozen: all memory is in the state.

    The *score* is the event's uncertainty in [0, 1] (`sampling.uncertainty`, smoothed), unless the strategy has the
    method ``score(view)``; see `Requirements` for all that it may have besides these three.
    """

    def initial(self) -> StateT:
        """Return the state before the first event of a partition."""
        ...

    def propensity(self, score: ScoreT_contra, state: StateT, /) -> float:
        """Return the probability in [0, 1] of asking about an event of this *score*."""
        ...

    def update(self, score: ScoreT_contra, asked: float, state: StateT, /) -> StateT:
        """Return the state after the decision; called only when the lane was open, *asked* or not.

        *asked* is True or False. Under `auto` it is the propensity itself: for an arm nobody tosses a coin.
        """
        ...


Strategy: TypeAlias = TypedStrategy[Any, Any]
"""A strategy, whatever its score and its state are: only itself looks into them."""


class Memory(Protocol):
    """What a strategy with a ``lookback`` knows of the past events of a partition; rebuilt from the log, never stored.

    It must be a function of the events at the last ``lookback`` offsets, and of nothing before them.
    """

    def take(self, offset: int, features: Mapping[str, FeatureValue], /) -> None:
        """Take in the event at *offset*, after it was scored (or while the past is read back)."""
        ...

    def copy(self) -> Memory:
        """Return one that can be changed without changing this one: a step may yet fail."""
        ...


class EventView(NamedTuple):
    """All that a strategy may look at.

    Attributes:
        uncertainty: by the configured measure, of *probabilities*.
        probabilities: P(class | features), smoothed for cold starts; empty before any class is known.
        features: as they came.
        offset: of the event in its partition.
        examples: how many the model has learned.
        votes: class -> how many members of the ensemble vote for it; None if not required, or without an ensemble.
        memory: what the strategy's `Memory` knows before this event; None without a lookback.
        weights: those of the arms of `auto`; empty before the first reward.
    """

    uncertainty: float
    probabilities: Mapping[str, float]
    features: Mapping[str, FeatureValue]
    offset: int = 0
    examples: int = 0
    votes: Mapping[str, int] | None = None
    memory: Any = None
    weights: Sequence[float] = ()


class Requirements(NamedTuple):
    """What a strategy has beside the three methods of `Strategy`; what it does not use is never computed.

    Attributes:
        score: ``score(view)`` gives the score, in place of the uncertainty; with ``sampling.damping`` it has to be a
            number, or something that can be multiplied by one.
        lookback: it looks so many offsets back; its memory is ``memory()``, by default a `Past`.
        votes: it needs the votes of an ensemble.
        weighted: models that can are to learn with the importance weight 1/propensity.
        arms: ``arms(score, state)`` gives the propensities of `auto`'s arms, to be rewarded by audit labels.
    """

    score: Callable[[EventView], Any] | None = None
    lookback: int = 0
    memory: Callable[[], Memory] = lambda: Past(0)
    votes: bool = False
    weighted: bool = False
    arms: Callable[[Any, State], Sequence[float]] | None = None


class Past:
    """The features of the events at the last offsets, oldest first: the memory of a strategy that brings none."""

    def __init__(self, lookback: int, events: Sequence[tuple[int, Mapping[str, FeatureValue]]] = ()) -> None:
        """Remember *lookback* offsets; begin with *events*."""
        self._lookback = lookback
        self._events = list(events)

    def __iter__(self) -> Iterator[Mapping[str, FeatureValue]]:
        """Iterate over the features."""
        return (features for _, features in self._events)

    def __len__(self) -> int:
        """Return how many events there were at those offsets."""
        return len(self._events)

    def take(self, offset: int, features: Mapping[str, FeatureValue]) -> None:
        """Take in the event at *offset*."""
        self._events.append((offset, features))
        while self._events[0][0] <= offset - self._lookback:
            del self._events[0]

    def copy(self) -> Past:
        """Return another one with the same events."""
        return Past(self._lookback, self._events)


def requirements_of(strategy: Strategy) -> Requirements:
    """Return what *strategy* declares; what it leaves out it does not require."""
    lookback = int(getattr(strategy, "lookback", 0))
    return Requirements(
        score=getattr(strategy, "score", None),
        lookback=lookback,
        memory=getattr(strategy, "memory", lambda: Past(lookback)),
        votes=bool(getattr(strategy, "votes", False)),
        weighted=bool(getattr(strategy, "weighted", False)),
        arms=getattr(strategy, "arm_propensities", None),
    )
