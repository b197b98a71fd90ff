"""The production core over streams of many shapes, without a transport; and the same events through River alone."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import msgspec

from streamal.bootstrap import build
from streamal.config import Config, load_config
from streamal.core.model import river_fast
from streamal.core.model.pipeline import build_estimator, default_pipeline
from streamal.core.records import OffsetAndMetadata, Record, TopicPartition
from streamal.core.step import step

_SCALER = '{ use = "preprocessing.StandardScaler" }'
_LOGISTIC = '{ use = "linear_model.LogisticRegression" }'
PIPELINES = {
    "linear": f"[{_SCALER}, {_LOGISTIC}]",
    "linear, one for each class": (
        f'[{_SCALER}, {{ use = "multiclass.OneVsRestClassifier", classifier = {_LOGISTIC} }}]'
    ),
    "naive Bayes": '[{ use = "naive_bayes.GaussianNB" }]',
    "Hoeffding tree": '[{ use = "tree.HoeffdingTreeClassifier" }]',
    "adaptive random forest of 10": '[{ use = "forest.ARFClassifier", n_models = 10 }]',
    "text": "[]",
}
"""As they stand in a config.toml; of text, the default."""
_VOCABULARY = 5_000
_WORDS = 20


@dataclass(frozen=True)
class Case:
    """A stream and a model."""

    model: str = "linear"
    features: int = 8
    classes: int = 2
    batch: int = 500

    @property
    def names(self) -> tuple[str, ...]:
        """The classes."""
        return tuple(f"c{number}" for number in range(self.classes))

    @property
    def pipeline(self) -> str:
        """The model as it stands in a config.toml: a binary one cannot have more classes."""
        several = self.model == "linear" and self.classes > 2
        return PIPELINES["linear, one for each class" if several else self.model]

    def config(self, **more: object) -> Config:
        """Return the configuration: a tenth is asked."""
        text = self.model == "text"
        kinds = {"text": "text"} if text else {f"x{number}": "number" for number in range(self.features)}
        wanted: dict[str, object] = {
            "features.declared": "{ " + ", ".join(f'{name} = "{kind}"' for name, kind in kinds.items()) + " }",
            "labels.classes": msgspec.json.encode(self.names).decode(),
            "model.pipeline": self.pipeline,
            "budget.share": 0.1,
            "limits.open_requests": 10_000_000,
            **more,
        }
        return load_config(None, [f"{key}={value}" for key, value in wanted.items()])

    def events(self, count: int, seed: int = 1) -> tuple[list[dict[str, Any]], list[str]]:
        """Return features and labels: overlapping clouds, one for each class; or words that lean to one."""
        draw = random.Random(seed)
        centres = [[draw.gauss(0.0, 0.6) for _ in range(min(self.features, 8))] for _ in self.names]
        rows: list[dict[str, Any]] = []
        labels = []
        for _ in range(count):
            label = draw.randrange(self.classes)
            labels.append(self.names[label])
            if self.model == "text":
                words = (draw.randrange(_VOCABULARY) // self.classes * self.classes for _ in range(_WORDS))
                rows.append({"text": " ".join(f"w{w + (label if draw.random() < 0.6 else 0)}" for w in words)})
                continue
            centre = [*centres[label], *([0.0] * (self.features - 8))]
            rows.append({f"x{i}": round(draw.gauss(middle, 1.0), 6) for i, middle in enumerate(centre)})
        return rows, labels


def as_records(rows: Sequence[dict[str, Any]]) -> list[bytes]:
    """Return events as a producer sends them."""
    return [msgspec.json.encode({"id": str(number), "features": row}) for number, row in enumerate(rows)]


class Loop:
    """The core step by step, over events in memory: every request is answered, rightly, with the next batch."""

    def __init__(self, config: Config, batch: int) -> None:
        """Begin with a model that knows nothing."""
        parts = build(config)
        self._rules, self.fold, self._batch = parts.rules, parts.new_fold(), batch
        self._topics = self._rules.topics
        self._committed = {
            TopicPartition(self._topics.events, 0): OffsetAndMetadata(0, ""),
            TopicPartition(self._topics.labels, 0): OffsetAndMetadata(0, ""),
        }
        self._offset = self._now = self._requests = self._trained = self._replies = 0
        self._answers: list[Record] = []
        self.predictions: list[bytes] = []
        """The encoded predictions of the last call of `work`."""

    def work(self, values: Sequence[bytes], labels: Sequence[str], *, answered: bool = True) -> list[list[int]]:
        """Work *values* off and return which of them were learned after each batch, in order."""
        base, lessons = self._offset, []
        self.predictions = []
        records = [Record(self._topics.events, 0, base + i, None, value) for i, value in enumerate(values)]
        for start in range(0, len(records), self._batch):
            polled = [*records[start : start + self._batch], *self._answers]
            requested, learned = self._step(polled)
            lessons.append([int(key[2:]) - base for key in learned])
            self._answers = [self._reply(key, labels[int(key[2:]) - base]) for key in requested if answered]
        self._offset += len(records)
        return lessons

    def _step(self, polled: list[Record]) -> tuple[list[bytes], list[bytes]]:
        """Make one transaction and fold it; return the keys of what was asked, and of what was learned."""
        self._now += 1
        result = step(self._rules, self.fold, self._committed, polled, float(self._now))
        self._committed.update(result.offsets)
        asked, learned = [], []
        for output in result.outputs:
            if output.topic == self._topics.predictions:
                self.predictions.append(output.value or b"")
            elif output.topic == self._topics.requests:
                self.fold.apply_request(0, self._requests, output.key, output.value)
                self._requests += 1
                if output.key is not None and output.value is not None:
                    asked.append(output.key)
            elif output.topic == self._topics.training:
                self.fold.apply_training(self._trained, output.value)
                self._trained += 1
                if output.key is not None:
                    learned.append(output.key)
        return asked, learned

    def _reply(self, key: bytes, label: str) -> Record:
        value = b'{"request":"%s","label":"%s"}' % (key, label.encode())
        self._replies += 1
        return Record(self._topics.labels, 0, self._replies - 1, None, value)


def bare_river(
    case: Case, rows: Sequence[dict[str, Any]], labels: Sequence[str], lessons: Sequence[Sequence[int]]
) -> Callable[[], Any]:
    """Return River's predict of every event, decoded already, and its learn of the same *lessons* at the same time.

    By River's own classes, not those of ours that do the same faster.

    What is returned gives the model, once it is called.
    """
    config = case.config()
    binary = case.classes == 2
    pipeline = config.model.pipeline or default_pipeline(config.features.declared, binary)
    with patch.dict(river_fast.FASTER, clear=True):
        estimator: Any = build_estimator(pipeline, None, config.model.seed)
    truths: Sequence[Any] = labels if estimator._multiclass else [label == case.names[1] for label in labels]  # noqa: SLF001

    def run() -> Any:
        predict, learn = estimator.predict_proba_one, estimator.learn_one
        for number, learned in enumerate(lessons):
            for row in rows[number * case.batch : (number + 1) * case.batch]:
                predict(row)
            for i in learned:
                learn(rows[i], truths[i])
        return estimator

    return run
