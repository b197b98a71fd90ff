"""The loop that one writes by hand, on Kafka: the bare pipe with a model, a sampler and metrics in the middle."""

from __future__ import annotations

from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram
from river import active

from benchmarks import engine
from benchmarks.kafka_pipe import ConfluentPipe, KafkaPythonPipe
from streamal.bootstrap import transports
from streamal.bootstrap.rules import topic_names
from streamal.config import Config
from streamal.core.codec.events import decode_training
from streamal.core.records import NaturalExample

_CLASSES = ("no", "yes")
_EXAMPLES_MAX = 10_000


class HandLoop:
    """pydantic in and out, River's `EntropySampler`, a metric by name for each event."""

    def __init__(self, config: Config) -> None:
        """Train the model on the training log, as streamal's model is."""
        self._sampler = train_sampler(config)
        self._registry = CollectorRegistry()
        self._counter = Counter("events", "Events.", ["outcome"], registry=self._registry)
        self._seconds = Histogram("seconds", "Seconds.", registry=self._registry)

    def __call__(self, value: bytes) -> tuple[bytes, bytes | None]:
        """Return the prediction, and the key of a request if the label is wanted."""
        with self._seconds.time():
            event = engine.EventIn.model_validate_json(value)
            probabilities, asked = self._sampler.predict_proba_one(event.features)
            label = max(probabilities, key=probabilities.__getitem__)
            named = {_CLASSES[said]: p for said, p in probabilities.items()}
            out = engine.PredictionOut(event=event.id, label=_CLASSES[label], probabilities=named, asked=asked)
            self._counter.labels("asked" if asked else "not_asked").inc()
            return out.model_dump_json().encode(), event.id.encode() if asked else None


def train_sampler(config: Config) -> Any:
    """Return River's sampler around the same model, which has learned the training log."""
    sampler: Any = active.EntropySampler(engine.model(), seed=1)
    log = transports.open_log(config)
    for record in log.read(topic_names(config).training, 0, 0, _EXAMPLES_MAX):
        lesson = decode_training(record.value)
        if isinstance(lesson, NaturalExample):
            sampler.learn_one(dict(lesson.features), lesson.label == _CLASSES[1])
    log.close()
    return sampler


class KafkaPythonByHand(KafkaPythonPipe):
    """With kafka-python."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self._loop, self._requests = HandLoop(config), config.topics.requests

    def send(self, value: bytes, partition: int) -> None:
        """Predict and, perhaps, ask."""
        prediction, key = self._loop(value)
        self.producer.send(self.out, prediction, partition=partition)
        if key is not None:
            self.producer.send(self._requests, value, key, partition=partition)


class ConfluentByHand(ConfluentPipe):
    """With confluent-kafka."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self._loop, self._requests = HandLoop(config), config.topics.requests

    def send(self, value: bytes, partition: int) -> None:
        """Predict and, perhaps, ask."""
        prediction, key = self._loop(value)
        self.producer.produce(self.out, prediction, partition=partition)
        if key is not None:
            self.producer.produce(self._requests, value, key, partition=partition)


BY_HAND: dict[str, Any] = {"kafka-python": KafkaPythonByHand, "confluent": ConfluentByHand}
