"""Derives every prediction again for `verify`, with the model of its version."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterator

from streamal.core.codec.events import decode_event
from streamal.core.codec.quarantine import find_quarantined
from streamal.core.fold import Fold
from streamal.core.records import Event, Prediction, Record, coordinates
from streamal.errors import InconsistentLog
from streamal.inspection.verify.checks import Check
from streamal.inspection.verify.evidence import Evidence
from streamal.ports import scan

__all__ = ["check_predictions"]


def check_predictions(evidence: Evidence, new_fold: Callable[[], Fold], progress: Callable[[int], object]) -> Check:
    """Check that each prediction is what the model of its version predicts for its event (I5)."""
    check = Check("every prediction can be re-derived from its model version")
    fold, log, rules = new_fold(), evidence.log, evidence.rules
    left, early = len(evidence.predictions), 0
    if begin := log.begin(rules.topics.training, 0):
        check.expect(False, f"training begins at {begin}: the records before it were deleted, and no model has them")
        return check
    quarantined = find_quarantined(scan(log, rules.topics.training, 0))
    fold.learned.left_out = frozenset(quarantined)
    training = scan(log, rules.topics.training, 0)
    upcoming = next(training, None)
    streams = (_pair_predictions(evidence, partition) for partition in range(rules.partitions))
    for prediction, record in heapq.merge(*streams, key=lambda pair: pair[0].version):
        while upcoming is not None and upcoming.offset < prediction.version:
            try:
                fold.apply_training(upcoming.offset, upcoming.value)
            except InconsistentLog as error:
                check.expect(False, f"training offset {upcoming.offset} and all predictions after it: {error}")
                return check
            upcoming = next(training, None)
        if any(offset < prediction.version <= order for offset, order in quarantined.items()):
            left, early = left - 1, early + 1  # of a model that had learned the example, before the order came
            continue
        event = decode_event(record.partition, record.offset, record.value, rules.wire, fold.learned.schema)
        again = fold.learned.predict(event) if isinstance(event, Event) else {}
        check.expect(fold.learned.version.offset == prediction.version and _same(again, prediction), prediction.event)
        progress(1)
        left -= 1
    check.skip("predictions are of a model with an example that is quarantined now", early)
    check.skip("predictions have lost their event by retention", left if any(evidence.events_from) else 0)
    return check


def _pair_predictions(evidence: Evidence, partition: int) -> Iterator[tuple[Prediction, Record]]:
    """Yield each prediction of *partition* with its event."""
    for record in scan(evidence.log, evidence.rules.topics.events, partition, unreadable=[]):
        prediction = evidence.predictions.get(coordinates(partition, record.offset))
        if prediction is not None:
            yield prediction, record


def _same(again: dict[str, float], prediction: Prediction) -> bool:
    before = prediction.probabilities
    if prediction.label != (max(before, key=before.__getitem__) if before else None):
        return False
    return again.keys() == before.keys() and all(
        math.isclose(again[label], before[label], rel_tol=1e-9, abs_tol=1e-12) for label in before
    )
