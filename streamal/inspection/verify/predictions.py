"""Derives every prediction again for `verify`, with the model of its version."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterator, Mapping

from streamal.core.codec.events import decode_event
from streamal.core.fold import Fold
from streamal.core.records import Event, Prediction, Record, coordinates
from streamal.core.rules import Rules
from streamal.errors import InconsistentLog
from streamal.inspection.verify.checks import Check
from streamal.ports import Log, scan

__all__ = ["check_predictions"]


def check_predictions(
    log: Log,
    rules: Rules,
    predictions: Mapping[str, Prediction],
    new_fold: Callable[[], Fold],
    progress: Callable[[int], object],
) -> Check:
    """Check that each prediction is what the model of its version predicts for its event (I5)."""
    check = Check("every prediction can be re-derived from its model version")
    fold = new_fold()
    training = scan(log, rules.topics.training, 0)
    upcoming = next(training, None)
    streams = (_pair_predictions(log, rules, partition, predictions) for partition in range(rules.partitions))
    for prediction, record in heapq.merge(*streams, key=lambda pair: pair[0].version):
        while upcoming is not None and upcoming.offset < prediction.version:
            try:
                fold.apply_training(upcoming.offset, upcoming.value)
            except InconsistentLog as error:
                check.expect(False, f"training offset {upcoming.offset} and all predictions after it: {error}")
                return check
            upcoming = next(training, None)
        event = decode_event(record.partition, record.offset, record.value, rules.wire, fold.learned.schema)
        again = fold.learned.predict(event) if isinstance(event, Event) else {}
        check.expect(fold.learned.version.offset == prediction.version and _same(again, prediction), prediction.event)
        progress(1)
    return check


def _pair_predictions(
    log: Log, rules: Rules, partition: int, predictions: Mapping[str, Prediction]
) -> Iterator[tuple[Prediction, Record]]:
    """Yield each prediction of *partition* with its event."""
    for record in scan(log, rules.topics.events, partition):
        prediction = predictions.get(coordinates(partition, record.offset))
        if prediction is not None:
            yield prediction, record


def _same(again: dict[str, float], prediction: Prediction) -> bool:
    before = prediction.probabilities
    if prediction.label != (max(before, key=before.__getitem__) if before else None):
        return False
    return again.keys() == before.keys() and all(
        math.isclose(again[label], before[label], rel_tol=1e-9, abs_tol=1e-12) for label in before
    )
