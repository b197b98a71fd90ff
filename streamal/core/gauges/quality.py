"""Gauges of quality: the trainer's alone, so that no two workers show them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from streamal.core.gauges.declaration import Gauge, Value, Worker, with_interval
from streamal.core.quality.estimates import Estimate
from streamal.core.quality.quality import Quality

__all__ = ["QUALITY"]

T = TypeVar("T")


def _of_trainer(function: Callable[[Quality], T | None]) -> Callable[[Worker], T | None]:
    """Return a function that gives the trainer's value, and None for any other worker."""

    def value(worker: Worker) -> T | None:
        return function(worker.fold.learned.quality) if worker.is_trainer else None

    return value


def _naive(quality: Quality) -> Value:
    return quality.recent_sums().naive()


def _least_recall(quality: Quality) -> Value:
    return min((recall.value for recall in quality.recalls().values()), default=None)


def _gain(worker: Worker) -> Estimate | None:
    control = worker.fold.learned.control
    return control.gain() if control is not None and worker.is_trainer else None


_accuracy = _of_trainer(Quality.accuracy)
_natural = _of_trainer(Quality.natural_accuracy)
_balanced = _of_trainer(Quality.balanced_accuracy)
_log_loss = _of_trainer(Quality.log_loss)

QUALITY: tuple[Gauge, ...] = (
    *with_interval("quality_accuracy", "Honest accuracy over the last labels (trainer only).", "ratio", _accuracy),
    Gauge(
        "quality_accuracy_naive", "Accuracy among the labels asked: biased, do not use.", _of_trainer(_naive), "ratio"
    ),
    Gauge("quality_accuracy_natural", "Accuracy among the last natural labels, just before.", _natural, "ratio"),
    *with_interval("quality_balanced_accuracy", "Mean recall of the classes, likewise.", "ratio", _balanced),
    Gauge("quality_least_recall", "Recall of the class that is recognised worst.", _of_trainer(_least_recall), "ratio"),
    *with_interval("quality_log_loss", "Mean log loss over all events, likewise.", "nats", _log_loss),
    *with_interval(
        "gain_over_random", "Accuracy that choosing adds to the audit lane's number of labels.", "ratio", _gain
    ),
)
