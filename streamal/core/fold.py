"""What a worker knows: a fold of ``training`` (and, for the open requests, of ``requests``).

Every worker folds the same log in the same order and so holds the same model. Only committed records come here,
after the commit: nothing ever has to be unlearned.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import compress
from typing import Any

from streamal.core.budget.answer_rate import AnswerRate
from streamal.core.budget.money import Settlements
from streamal.core.codec.events import decode_request, decode_training
from streamal.core.model.guard import ModelGuard
from streamal.core.model.model import Model
from streamal.core.model.rehearsal import WeightedExample
from streamal.core.pending import Pending
from streamal.core.quality.gain import RandomControl
from streamal.core.quality.quality import Quality
from streamal.core.records import (
    Event,
    Example,
    Lane,
    NaturalExample,
    Refusal,
    Request,
    Scalar,
    SchemaSet,
    Training,
    Version,
    WarmStart,
)
from streamal.core.schema import Schema
from streamal.core.strategies.auto import Bandit
from streamal.errors import InconsistentLog

__all__ = ["Fold", "FoldRules"]

_MANY = 32
"""Events from which on columns are cheaper than one event after the other: half the cost here, a fifth at 500."""


@dataclass(frozen=True, slots=True)
class FoldRules:
    """How the log is read.

    Attributes:
        infer_from: after so many requests the trainer fixes the schema; the features of those are kept till then.
        refuse_unknown, open: see `Schema`.
        weighted: a bought label is learned with the importance weight *weighted*/propensity; 0: all weigh the same.
    """

    infer_from: int
    refuse_unknown: bool = False
    open: bool = False
    weighted: float = 0.0


@dataclass(slots=True)
class Fold:
    """Model, schema, open requests and quality after ``version``; owned and changed by one thread.

    Attributes:
        positions: next offset of ``requests`` to be read, by partition.
        last: the last folded record, by which a snapshot is known to be of this log and not of another one.
        now: the latest time that any record was written at: time never goes back behind it.
        samples: features of the first requests, until there is a schema.
        early: examples that came before the schema, with their names; learned as soon as there is one.
        start: digest of what the model began with, "" for nothing, None if it does not matter here.
        guard: teaches the model, and takes it back from an example that breaks it.
        bandit: the weights of `auto`'s arms, by the audit lane's labels.
        control: the gain over random, if it is to be measured.
    """

    rules: FoldRules
    model: Model
    schema: Schema | None
    pending: Pending
    quality: Quality
    version: Version = field(default_factory=lambda: Version(0, 0))
    last: bytes | None = None
    now: float = 0.0
    positions: dict[int, int] = field(default_factory=dict)
    samples: list[dict[str, Scalar]] = field(default_factory=list)
    early: list[tuple[Example | NaturalExample, str]] = field(default_factory=list)
    guard: ModelGuard = field(default_factory=ModelGuard)
    start: str | None = ""
    bandit: Bandit = field(default_factory=Bandit)
    settlements: Settlements = field(default_factory=Settlements)
    pace: AnswerRate = field(default_factory=AnswerRate)
    control: RandomControl | None = None

    def predict(self, event: Event) -> dict[str, float]:
        """Return class probabilities; before there is a schema they are the class prior."""
        if self.schema is None:
            return self.model.prior()
        return self.model.predict(self.schema.select(event.features))

    def predict_many(self, events: Sequence[Event]) -> list[dict[str, float]]:
        """Return what `predict` returns for each of *events*, whose features the schema has let in."""
        found: list[dict[str, float]] | None = None
        if self.schema is not None and self.schema.numbers and len(events) >= _MANY:
            rows: list[Any] = [event.features for event in events]  # floats alone, says the schema
            orders = [list(row) for row in rows]
            names = max(orders, key=len)
            alike = [order == names for order in orders]
            if self.schema.numbers.issuperset(names):
                found = self.model.predict_many(names, [*compress(rows, alike)])
        if found is None:
            return [self.predict(event) for event in events]
        if len(found) == len(events):
            return found
        told = iter(found)
        return [next(told) if is_alike else self.predict(event) for event, is_alike in zip(events, alike, strict=True)]

    def training(self, offset: int, value: bytes | None) -> None:
        """Fold the record at *offset* of ``training``.

        Raises:
            LogDisagrees: the record is not ours; a model folded without it would not be the others' model.
        """
        record = decode_training(value)
        if isinstance(record, Refusal):
            raise InconsistentLog(f"training offset {offset}: {record.detail}; only streamal may write to this topic")
        if not self.version.records:
            self._require_same_start(record)
        self.version, self.last = Version(offset + 1, self.version.records + 1), value
        self.now = max(self.now, record.at)
        if isinstance(record, SchemaSet):
            self._set_schema(record)
        if isinstance(record, (SchemaSet, WarmStart)):
            return
        if isinstance(record, NaturalExample):
            if record.event is not None:
                self.pending.labelled(record.event, record.label)
            self._learn(record, record.event or f"training offset {offset}")
            return
        self.pending.closed(record)
        self.quality.fold(record)
        if isinstance(record, Example) and record.arms and record.lane is Lane.AUDIT:
            self.bandit.reward(record.arms, record.label != record.predicted)
        self.settlements.fold(record)
        self.pace.fold(record)
        if isinstance(record, Example) and not self.pending.told(record.request, record.label):
            self._learn(record, record.request)

    def request(self, partition: int, offset: int, key: bytes | None, value: bytes | None) -> None:
        """Fold the record at *offset* of ``requests``: a question, or the tombstone that takes it off the queue."""
        self.positions[partition] = offset + 1
        if value is None:
            self.pending.withdrawn((key or b"").decode(errors="replace"))
            return
        request = decode_request(value)
        if isinstance(request, Refusal):
            raise InconsistentLog(
                f"requests {partition}-{offset}: {request.detail}; only streamal may write to this topic"
            )
        if request.request not in self.pending:
            self._opened(request)

    def teach(self, lesson: WeightedExample, name: str) -> None:
        """Let the model learn one lesson, called *name* where it is quarantined."""
        self.model = self.guard.learn(self.model, lesson, name)

    def _require_same_start(self, first: Training) -> None:
        """Raise LogDisagrees if the first record says that the other workers' models began otherwise than ours."""
        began = first.sha256 if isinstance(first, WarmStart) else ""
        if self.start not in (None, began):
            raise InconsistentLog(
                f"the models of this log began with {_file(began)}, this one with {_file(self.start)}: set "
                "model.warm_start to that file for every worker, or begin afresh with new topics and a new group"
            )

    def _opened(self, request: Request) -> None:
        self.now = max(self.now, request.asked_at)
        self.pending.opened(request)
        if self.schema is None and len(self.samples) < self.rules.infer_from:
            self.samples.append(request.features)

    def _learn(self, example: Example | NaturalExample, name: str) -> None:
        if self.schema is None:
            self.model.admit(example.label)
            self.early.append((example, name))
            return
        features = self.schema.select(example.features)
        if isinstance(example, NaturalExample):
            # tested, then learned: a bought one carries the prediction that its event was given, this one does not
            said = self.model.predict(features)
            self.quality.natural(bool(said) and max(said, key=said.__getitem__) == example.label)
        elif self.control is not None:
            self.control.fold(example, features)
        self.teach(WeightedExample(features, example.label, self._weight(example)), name)

    def _weight(self, example: Example | NaturalExample) -> float | None:
        """Return the importance of a bought label, None for what is learned as it comes."""
        weighted = self.rules.weighted
        return weighted / example.propensity if weighted and isinstance(example, Example) else None

    def _set_schema(self, record: SchemaSet) -> None:
        """Fix or extend the schema, then learn what had to wait for it."""
        kinds = {**(self.schema.kinds if self.schema else {}), **record.features}
        self.schema = Schema(kinds, self.rules.refuse_unknown, self.rules.open)
        early, self.early, self.samples = self.early, [], []
        for example, name in early:
            self._learn(example, name)


def _file(digest: str | None) -> str:
    return f"a warm start of SHA-256 {digest}" if digest else "no warm start"
