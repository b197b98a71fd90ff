"""The score of an event, which is what the strategy sees of it. Only what the strategy requires is computed."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

from streamal.core.codec.events import DecodedEvents, decode_events
from streamal.core.fold import Fold
from streamal.core.records import Event, FeatureValue, Record
from streamal.core.rules import Rules
from streamal.core.strategies import EventView, State
from streamal.core.strategies.base import Memory
from streamal.core.strategies.uncertainty import MEASURES, SMOOTHED_MEASURES, smooth, trust

__all__ = ["Scorer", "rebuild_memory"]


class Scorer:
    """Reads and scores the events of one partition, in order, while a step lasts."""

    def __init__(self, rules: Rules, fold: Fold, memory: Memory | None) -> None:
        """Begin with *memory*, what the strategy knows of the partition's past; it stays as it is."""
        self._rules, self._fold, self._requirements = rules, fold, rules.requirements
        self._measure = MEASURES[rules.uncertainty]
        self._examples = sum(fold.learned.model.learned.values())
        self._trust = trust(self._examples)
        self._shrink = SMOOTHED_MEASURES.get(rules.uncertainty) if rules.requirements.score is None else None
        self._weights = fold.learned.bandit.weights() if rules.requirements.arms else ()
        self.memory = _memory(rules) if memory is None else memory.copy()
        """What the strategy knows of the events that were scored."""
        self._unscored: deque[Event] = deque()
        self._well_formed: Mapping[int, Mapping[str, FeatureValue]] = {}
        """Offset -> features of an event as the memory takes them: with those that the schema drops."""

    def read(self, records: Sequence[Record]) -> DecodedEvents:
        """Return the events of *records*, and those that are refused; each in their order.

        A memory takes in whatever is well-formed without a schema: whoever reads it back cannot know which schema
        there was then.
        """
        decoded = decode_events(records, self._rules.wire, self._fold.learned.schema)
        if self.memory is not None:
            self._unscored.extend(decode_events(records, self._rules.wire, None).accepted)
            self._well_formed = {event.offset: event.features for event in self._unscored}
        return decoded

    def finish(self) -> Memory | None:
        """Take the last events into the memory, and return that."""
        self._take(math.inf)
        return self.memory

    def _take(self, offset: float) -> None:
        """Take the events before *offset* into the memory."""
        while self.memory is not None and self._unscored and self._unscored[0].offset < offset:
            event = self._unscored.popleft()
            self.memory.take(event.offset, event.features)

    def score(self, event: Event, probabilities: Mapping[str, float], uncertainty: float) -> Any:
        """Return the strategy's own score of *event*, by default its *uncertainty*, smoothed."""
        if self._shrink is not None and probabilities:
            return self._shrink(uncertainty, self._trust, len(probabilities))
        smoothed = smooth(probabilities, self._examples)
        uncertainty = self._measure(smoothed) if smoothed else 1.0
        requirements = self._requirements
        if requirements.score is None:
            return uncertainty
        self._take(event.offset)
        learned = self._fold.learned
        votes = None
        if requirements.votes and learned.schema is not None:
            votes = learned.model.votes(learned.select(event.features))
        features = self._well_formed.get(event.offset, event.features)
        return requirements.score(
            EventView(
                uncertainty,
                smoothed,
                features,
                event.offset,
                self._examples,
                votes,
                self.memory,
                self._weights,
            )
        )

    def arms(self, score: Any, state: State) -> tuple[float, ...]:
        """Return with what propensity each arm of `auto` would have asked; () for any other strategy."""
        return tuple(round(p, 4) for p in self._requirements.arms(score, state)) if self._requirements.arms else ()


def rebuild_memory(rules: Rules, records: Sequence[Record]) -> Memory:
    """Return what the strategy knows after the events in *records*, which were read back in order."""
    memory = _memory(rules)
    assert memory is not None, "asked only for a strategy that looks back"
    for event in decode_events(records, rules.wire, None).accepted:
        memory.take(event.offset, event.features)
    return memory


def _memory(rules: Rules) -> Memory | None:
    memory: Memory | None = rules.requirements.memory() if rules.requirements.lookback else None
    return memory
