"""Drift that needs no label: is the model as sure of itself as it used to be?

Two exponential means of the predictions' confidence, a quick and a slow one, are made from the totals that the
partitions' states hold anyway. When the stream changes, the quick one leaves the slow one long before the first label
is back. That it does not move proves nothing: a model may be wrong with confidence. The honest accuracy shows that,
later.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from streamal.core.gauges.declaration import Gauge, Value
from streamal.core.quality.totals import RunningTotals

__all__ = ["CONFIDENCE", "ConfidenceDrift"]

_RECENT, _REFERENCE = 500.0, 10_000.0
"""Events: a mean of 500 is known to about 0.01, and 20 times as many are what is usual."""


class ConfidenceDrift:
    """The two means; of this process alone, so a restart begins them anew."""

    def __init__(self) -> None:
        """Begin without any event."""
        self._before: dict[int, RunningTotals] = {}
        self._means = dict.fromkeys((_RECENT, _REFERENCE), 0.0)
        self._weights = dict.fromkeys((_RECENT, _REFERENCE), 0.0)

    def update(self, totals: Mapping[int, RunningTotals]) -> None:
        """Take in the *totals* of each partition owned.

        >>> drift = ConfidenceDrift()
        >>> drift.update({0: RunningTotals()})
        >>> drift.update({0: RunningTotals(600, 540_000_000)})
        >>> [round(mean, 6) for mean in drift.means()]
        [0.9, 0.9]
        """
        for partition, now in totals.items():
            before = self._before.get(partition)
            events = 0 if before is None else now.events - before.events
            if before is None or events <= 0:
                continue  # a partition that has just come says nothing of the time between
            mean = (now.confidence - before.confidence) / events / 1e6
            for horizon in self._means:
                kept = math.exp(-events / horizon)
                self._means[horizon] = kept * self._means[horizon] + (1.0 - kept) * mean
                self._weights[horizon] = kept * self._weights[horizon] + (1.0 - kept)
        self._before = dict(totals)

    def means(self) -> tuple[Value, Value]:
        """Return the quick and the slow mean; None until as many events came as the quick mean remembers."""
        if self._weights[_RECENT] < 1.0 - math.exp(-1.0):
            return None, None
        return self._means[_RECENT] / self._weights[_RECENT], self._means[_REFERENCE] / self._weights[_REFERENCE]


CONFIDENCE: tuple[Gauge, ...] = (
    Gauge(
        "confidence_recent_ratio",
        "Mean confidence over about the last 500 events: moves with drift.",
        lambda worker: worker.confidence()[0],
    ),
    Gauge(
        "confidence_reference_ratio",
        "Likewise over about the last 10,000: what is usual.",
        lambda worker: worker.confidence()[1],
    ),
)
