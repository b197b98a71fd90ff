"""The same model on Quix Streams, exactly-once, a transaction for every 500 events: with librdkafka, as it does."""

from __future__ import annotations

import resource
import time
from importlib.util import find_spec
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from benchmarks.kafka_hand import train_sampler
from streamal.config import Config

_BATCH = 500
_CLASSES = ("no", "yes")


class Marks(NamedTuple):
    """The measurements between two ends of a batch; the first and the last transaction are not timed."""

    events: int
    began: float
    ended: float
    cpu_s: float


def installed() -> bool:
    """Return True if Quix Streams is installed."""
    return find_spec("quixstreams") is not None


def run(config: Config, events: int) -> Marks:
    """Work off so many events that wait on the broker: JSON in, predict, JSON out, a request where it asks."""
    from quixstreams import Application  # noqa: PLC0415

    sampler, seen = train_sampler(config), 0
    times: list[tuple[float, float]] = []

    def predict(value: dict[str, Any]) -> dict[str, Any]:
        nonlocal seen
        if seen % _BATCH == 0:
            used = resource.getrusage(resource.RUSAGE_SELF)
            times.append((time.monotonic(), used[0] + used[1]))
        seen += 1
        if seen == events:
            application.stop()
        probabilities, asked = sampler.predict_proba_one(value["features"])
        label = max(probabilities, key=probabilities.__getitem__)
        named = {_CLASSES[said]: p for said, p in probabilities.items()}
        return {"event": value["id"], "label": _CLASSES[label], "probabilities": named, "asked": asked}

    with TemporaryDirectory() as directory:
        application = Application(
            broker_address=config.transport.bootstrap_servers,
            consumer_group=config.transport.group,
            auto_offset_reset="earliest",
            processing_guarantee="exactly-once",
            commit_every=_BATCH,
            commit_interval=3600.0,
            auto_create_topics=False,
            state_dir=directory,
            loglevel="ERROR",
        )
        out = application.topic(config.topics.predictions, value_serializer="json")
        requests = application.topic(config.topics.requests, value_serializer="json")
        frame = application.dataframe(application.topic(config.topics.events, value_deserializer="json"))
        frame = frame.apply(predict)
        frame.to_topic(out)
        frame[frame["asked"]].to_topic(requests, key=lambda value: value["event"])
        application.run()
    (began, cpu_before), (ended, cpu_after) = times[1], times[-1]
    return Marks(_BATCH * (len(times) - 2), began, ended, cpu_after - cpu_before)
