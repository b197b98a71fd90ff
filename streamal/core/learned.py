"""The learned part: model, schema, guard, strategy weights and quality; a fold of ``training`` alone.

It has a version of its own, which predictions carry. Its content is a function of the records below that version, so
another one can be folded aside from the same records, for instance to rebuild a model, and take its place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import compress
from typing import Any, Literal, assert_never

from streamal.core.model.embedding import Embedding
from streamal.core.model.guard import ModelGuard
from streamal.core.model.model import Model
from streamal.core.model.pipeline import build_estimator, default_pipeline
from streamal.core.model.rehearsal import WeightedExample
from streamal.core.pending import RecentLabels
from streamal.core.quality.gain import RandomControl
from streamal.core.quality.quality import Quality
from streamal.core.records import (
    Abstention,
    Event,
    Example,
    Expiry,
    Lane,
    NaturalExample,
    Quarantine,
    SchemaSet,
    Training,
    Version,
    WarmStart,
)
from streamal.core.schema import Schema, describe_differences
from streamal.core.strategies.auto import Bandit
from streamal.core.vectors import ModelFeatures, vector_length
from streamal.errors import InconsistentLog

__all__ = ["Learned", "LearnedRules"]

_NO_NUMBERS = frozenset({str, bool})
_MANY = 32
"""Events from which on columns are cheaper than one event after the other: half the cost here, a fifth at 500."""


@dataclass(frozen=True, slots=True)
class LearnedRules:
    """How records are learned.

    Attributes:
        unknown, open: see `Schema`.
        weighted: a bought label is learned with the importance weight *weighted*/propensity; 0: all weigh the same.
        default_seed: the seed of the default model, if a schema with a vector makes it another one; None: it does not.
    """

    unknown: Literal["drop", "refuse"] = "drop"
    open: bool = False
    weighted: float = 0.0
    default_seed: int | None = None


@dataclass(slots=True)
class Learned:
    """Model, schema and quality after ``version``; owned and changed by one thread.

    Attributes:
        natural_labels: event -> its natural label; a bought label that says the same is not learned again.
        early: examples that came before the schema, with their names; learned as soon as there is one.
        start: digest of what the model began with, "" for nothing, None if it does not matter here.
        guard: lets the model learn, and takes it back from an example that breaks it.
        bandit: the weights of `auto`'s arms, by the audit lane's labels.
        control: the gain over random, if it is to be measured.
        embedding: makes vectors of texts before the model sees them; None if there is none to be made.
        left_out: offsets of the examples that are not learned. Whoever folds has to know them beforehand: the record
            that names one stands behind it, see `quarantined_offsets`.
        differences: how the declared features differ from the schema in the log, if they do.
    """

    rules: LearnedRules
    model: Model
    schema: Schema | None
    quality: Quality
    natural_labels: RecentLabels
    version: Version = field(default_factory=lambda: Version(0, 0))
    early: list[tuple[Example | NaturalExample, str]] = field(default_factory=list)
    guard: ModelGuard = field(default_factory=ModelGuard)
    start: str | None = ""
    bandit: Bandit = field(default_factory=Bandit)
    control: RandomControl | None = None
    left_out: frozenset[int] = frozenset()
    differences: tuple[str, ...] = ()
    embedding: Embedding | None = None

    def select(self, features: Mapping[str, Any]) -> ModelFeatures:
        """Return *features* as the model sees them, once there is a schema."""
        assert self.schema is not None, "before that, the model sees nothing"
        selected = self.schema.select(features)
        return selected if self.embedding is None else self.embedding.apply(selected)

    def predict(self, event: Event) -> dict[str, float]:
        """Return class probabilities; before there is a schema they are the class prior."""
        if self.schema is None:
            return self.model.prior()
        return self.model.predict(self.select(event.features))

    def predict_many(self, events: Sequence[Event]) -> list[dict[str, float]]:
        """Return what `predict` returns for each of *events*, whose features the schema has let in."""
        found: list[dict[str, float]] | None = None
        if not events:
            return []
        if self.schema is not None and self.embedding is not None:
            return self._predict_embedded(events, self.embedding)
        if self.schema is not None and self.schema.numbers and (self.schema.vectors or len(events) >= _MANY):
            rows: list[Any] = [event.features for event in events]  # floats and vectors alone, says the schema
            orders = [list(row) for row in rows]
            names = max(orders, key=len)
            alike = [order == names for order in orders]
            if self.schema.numbers.issuperset(names):
                found = self.model.predict_many(names, [*compress(rows, alike)])
        if found is None:
            return [self.predict(event) for event in events]
        if len(found) == len(events):
            return found
        columns = iter(found)
        return [
            next(columns) if is_alike else self.predict(event) for event, is_alike in zip(events, alike, strict=True)
        ]

    def _predict_embedded(self, events: Sequence[Event], embedding: Embedding) -> list[dict[str, float]]:
        """Return what `predict` returns for each of *events*, whose texts are embedded in batches."""
        embedding.prepare(event.features for event in events)
        rows = [self.select(event.features) for event in events]
        if rows and all(_is_numeric(row) and [*row] == [*rows[0]] for row in rows):
            found = self.model.predict_many([*rows[0]], rows)
            if found is not None:
                return found
        return [self.model.predict(row) for row in rows]

    def apply(self, record: Training, offset: int) -> None:
        """Take in *record*, which stands at *offset* of ``training``.

        Raises:
            InconsistentLog: the other workers' models began otherwise than this one.
        """
        if not self.version.records:
            self._require_same_start(record)
        self.version = self.version.after(offset)
        match record:
            case Example():
                self.quality.fold(record)
                if record.arms and record.lane is Lane.AUDIT:
                    self.bandit.reward(record.arms, record.label != record.predicted)
                if offset not in self.left_out and not self.natural_labels.has(record.request, record.label):
                    self._learn_record(record, record.request)
            case Abstention() | Expiry():
                self.quality.fold(record)
            case NaturalExample():
                if record.event is not None:
                    self.natural_labels.note(record.event, record.label)
                if offset not in self.left_out:
                    self._learn_record(record, record.event or f"training offset {offset}")
            case SchemaSet():
                self._set_schema(record)
            case WarmStart() | Quarantine():
                pass
            case _:
                assert_never(record)

    def learn(self, example: WeightedExample, name: str) -> None:
        """Let the model learn one example, called *name* where it is quarantined."""
        self.model = self.guard.learn(self.model, example, name)

    def _require_same_start(self, first: Training) -> None:
        """Raise InconsistentLog if the first record says that the other workers' models began otherwise than ours."""
        began = first.sha256 if isinstance(first, WarmStart) else ""
        if self.start not in (None, began):
            raise InconsistentLog(
                f"the models of this log began with {_file(began)}, this one with {_file(self.start)}: set "
                "model.warm_start to that file for every worker, or begin afresh with new topics and a new group"
            )

    def _learn_record(self, record: Example | NaturalExample, name: str) -> None:
        if self.schema is None:
            self.model.admit(record.label)
            self.early.append((record, name))
            return
        features = self.select(record.features)
        weight = None
        match record:
            case NaturalExample():
                # tested, then learned: a bought one carries the prediction that its event was given, this one does not
                said = self.model.predict(features)
                self.quality.natural(bool(said) and max(said, key=said.__getitem__) == record.label)
            case Example():
                if self.control is not None:
                    self.control.fold(record, features)
                if self.rules.weighted:
                    weight = self.rules.weighted / record.propensity
        self.learn(WeightedExample(features, record.label, weight), name)

    def _set_schema(self, record: SchemaSet) -> None:
        """Fix or extend the schema, then learn what had to wait for it. A kind that was declared stays."""
        kinds, required = record.features, frozenset[str]()
        if self.schema is not None:
            self.differences = tuple(describe_differences(self.schema.kinds, record.features))
            kinds, required = {**kinds, **self.schema.kinds}, self.schema.required
        self.schema = Schema(kinds, self.rules.unknown, self.rules.open, required)
        self._fit_default_model(kinds if self.embedding is None else self.embedding.kinds(kinds))
        early, self.early = self.early, []
        for example, name in early:
            self._learn_record(example, name)

    def _fit_default_model(self, kinds: Mapping[str, str]) -> None:
        """Replace the default model, which nobody has taught yet, by the one for *kinds*, if a vector is among them."""
        seed = self.rules.default_seed
        if seed is None or not any(vector_length(kind) for kind in kinds.values()):
            return
        control = () if self.control is None else (self.control.random, self.control.chosen)
        for model in (self.model, *control):
            if not model.learned:
                model.replace_estimator(build_estimator(default_pipeline(kinds, model.binary), None, seed))


def _is_numeric(row: ModelFeatures) -> bool:
    return all(value.__class__ not in _NO_NUMBERS for value in row.values())


def _file(digest: str | None) -> str:
    return f"a warm start of SHA-256 {digest}" if digest else "no warm start"
