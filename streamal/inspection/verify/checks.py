"""The checks of `verify`: the count of one promise, and the account of natural labels."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import msgspec

from streamal.core.codec.events import decode_event
from streamal.core.records import Event, NaturalExample, NaturalLabel
from streamal.core.rules import Rules
from streamal.ports import Log, read_events

__all__ = ["Check", "NaturalLabels"]

_EXAMPLES_MAX = 5


@dataclass(slots=True)
class Check:
    """One promise: how often it was checked, how often it was broken, and where first."""

    promise: str
    looked_at: int = 0
    broken: int = 0
    where: list[str] = field(default_factory=list)

    def expect(self, holds: bool, where: str) -> None:
        """Count one case of the promise; *where* names it if the promise does not hold."""
        self.looked_at += 1
        if not holds:
            self.broken += 1
            if len(self.where) < _EXAMPLES_MAX:
                self.where.append(where)


class NaturalLabels:
    """The natural labels consumed and the natural examples; an event's label is learned once, bought or natural."""

    def __init__(self, log: Log, rules: Rules) -> None:
        self._log, self._rules = log, rules
        self._consumed: Counter[tuple[object, ...]] = Counter()
        self._learned: Counter[tuple[object, ...]] = Counter()
        self._events: set[str] = set()
        self._check = Check("each natural label is learned once, with its event's features, and no other is")
        self.bought: set[str] = set()
        """Events whose label was bought."""

    def add_label(self, label: NaturalLabel) -> None:
        """Count a natural label that was consumed and not refused."""
        self._consumed[self._identity(label)] += 1

    def add_example(self, example: NaturalExample) -> None:
        """Count a natural example of the training log, and check its features."""
        self._learned[self._identity(example)] += 1
        if example.event is not None:
            self._events.add(example.event)
            partition, _, offset = example.event.partition("-")
            found = read_events(self._log, self._rules.topics.events, {int(partition): [int(offset)]}).get(
                example.event
            )
            event = None if found is None else decode_event(0, 0, found.value, self._rules.wire, None)
            same = event is None or (isinstance(event, Event) and event.features == example.features)
            self._check.expect(same, f"{example.event}: other features than the event's")

    @property
    def any(self) -> bool:
        """Whether there is any natural label or example."""
        return bool(self._consumed or self._learned)

    def check(self) -> Check:
        """Return the check, once every label and example is counted."""
        for name, times in self._learned.items():
            enough = self._consumed[name] == times if name[0] is None else self._consumed[name] >= times
            self._check.expect(enough, f"{name[:2]}: learned {times} times, consumed {self._consumed[name]} times")
        for name in self._consumed.keys() - self._learned.keys():
            self._check.expect(name[0] in self._events | self.bought, f"{name[:2]}: consumed, but not learned")
        return self._check

    def _identity(self, label: NaturalLabel | NaturalExample) -> tuple[object, ...]:
        features = None if label.event is not None else msgspec.json.encode(label.features, order="sorted")
        return (label.event, label.label, label.annotator, label.reply, features)
