"""The checks of `verify`: the count of one promise, and the account of natural labels."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import msgspec

from streamal.core.codec.events import decode_fields
from streamal.core.records import NaturalExample, NaturalLabel, Refusal
from streamal.core.schema import Schema
from streamal.inspection.verify.evidence import Evidence
from streamal.ports import read_events

__all__ = ["Check", "NaturalLabels"]

_EXAMPLES_MAX = 5


@dataclass(slots=True)
class Check:
    """One promise: how often it was checked, how often it was broken, and where first.

    *not_judged* counts the cases that the topics do not show any more, by the reason.
    """

    promise: str
    looked_at: int = 0
    broken: int = 0
    where: list[str] = field(default_factory=list)
    not_judged: Counter[str] = field(default_factory=Counter)

    def expect(self, holds: bool, where: str) -> None:
        """Count one case of the promise; *where* names it if the promise does not hold."""
        self.looked_at += 1
        if not holds:
            self.broken += 1
            if len(self.where) < _EXAMPLES_MAX:
                self.where.append(where)

    def skip(self, why: str, times: int = 1) -> None:
        """Count so many cases of the promise that nobody can judge any more."""
        if times:
            self.not_judged[why] += times


class NaturalLabels:
    """The natural labels consumed and the natural examples; an event's label is learned once, bought or natural."""

    def __init__(self, evidence: Evidence, schema: Schema | None) -> None:
        self._evidence, self._schema = evidence, schema
        self._consumed: Counter[tuple[object, ...]] = Counter()
        self._uncertain: Counter[tuple[object, ...]] = Counter()
        self._learned: Counter[tuple[object, ...]] = Counter()
        self._events: set[str] = set()
        self._check = Check("each natural label is learned once, with its event's features, and no other is")
        self.bought: set[str] = set()
        """Events whose label was bought."""

    def add_label(self, label: NaturalLabel, *, is_certain: bool) -> None:
        """Count a natural label that was consumed; if that is not certain, its dead letter may have been deleted."""
        identity = self._identity(label)
        self._consumed[identity] += 1
        self._uncertain[identity] += not is_certain

    def add_example(self, example: NaturalExample) -> None:
        """Count a natural example of the training log, and check its features."""
        self._learned[self._identity(example)] += 1
        if example.event is not None:
            rules = self._evidence.rules
            self._events.add(example.event)
            partition, _, offset = example.event.partition("-")
            wanted = {int(partition): [int(offset)]}
            found = read_events(self._evidence.log, rules.topics.events, wanted).get(example.event)
            if found is None:
                self._check.skip("natural examples have lost their event by retention")
                return
            schema = Schema(dict.fromkeys(example.features, ""))  # the names that the schema let in
            fields = decode_fields(found.value, rules.wire, schema)
            same = not isinstance(fields, Refusal) and fields.features == example.features
            self._check.expect(same, f"{example.event}: other features than the event's")

    @property
    def any(self) -> bool:
        """Whether there is any natural label or example."""
        return bool(self._consumed or self._learned)

    def check(self) -> Check:
        """Return the check, once every label and example is counted."""
        for name, learned in self._learned.items():
            consumed, uncertain = self._consumed[name], self._uncertain[name]
            if learned > consumed and self._evidence.labels_from:
                self._check.skip("natural examples have lost their label by retention")
                continue
            enough = consumed - uncertain <= learned <= consumed if name[0] is None else learned <= consumed
            self._check.expect(enough, f"{name[:2]}: learned {learned} times, consumed {consumed} times")
        for name in self._consumed.keys() - self._learned.keys():
            if name[0] in self._events | self.bought:
                self._check.expect(True, "")
            elif self._consumed[name] == self._uncertain[name]:
                self._check.skip("natural labels may have lost their dead letter by retention")
            else:
                self._check.expect(False, f"{name[:2]}: consumed, but not learned")
        return self._check

    def _identity(self, label: NaturalLabel | NaturalExample) -> tuple[object, ...]:
        features = None
        if label.event is None and label.features is not None:
            # before there was a schema all features were kept, later only those that it knows
            known = label.features if self._schema is None else self._schema.kinds
            kept = {name: value for name, value in label.features.items() if name in known}
            features = msgspec.json.encode(kept, order="sorted")
        return (label.event, label.label, label.annotator, label.reply, features)
