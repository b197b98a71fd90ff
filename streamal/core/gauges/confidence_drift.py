"""Drift that needs no label: is the model as sure of itself as it used to be?

Two exponential means of the predictions' confidence, a quick and a slow one, from the counts that the partitions'
states hold anyway. When the stream changes, the quick one leaves the slow one long before the first label is back.
That it does not move proves nothing: a model may be wrong with confidence; the honest accuracy tells that, later.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from streamal.core.quality.totals import RunningTotals

__all__ = ["ConfidenceDrift"]

_RECENT, _REFERENCE = 500.0, 10_000.0
"""Events: a mean of 500 is known to about 0.01, and 20 times as many are what is usual."""


class ConfidenceDrift:
    """The two means; of this process alone, so a restart begins them anew."""

    def __init__(self) -> None:
        """Begin with nothing seen."""
        self._before: dict[int, RunningTotals] = {}
        self._means = dict.fromkeys((_RECENT, _REFERENCE), 0.0)
        self._weights = dict.fromkeys((_RECENT, _REFERENCE), 0.0)

    def update(self, seen: Mapping[int, RunningTotals]) -> None:
        """Take in what each partition owned has *seen* by now.

        >>> shift = ConfidenceDrift()
        >>> shift.update({0: RunningTotals()})
        >>> shift.update({0: RunningTotals(600, 540_000_000)})
        >>> {name: round(value, 6) for name, value in shift.figures().items()}
        {'confidence_recent_ratio': 0.9, 'confidence_reference_ratio': 0.9}
        """
        for partition, now in seen.items():
            before = self._before.get(partition)
            events = 0 if before is None else now.events - before.events
            if before is None or events <= 0:
                continue  # a partition that has just come says nothing of the time between
            mean = (now.confidence - before.confidence) / events / 1e6
            for horizon in self._means:
                kept = math.exp(-events / horizon)
                self._means[horizon] = kept * self._means[horizon] + (1.0 - kept) * mean
                self._weights[horizon] = kept * self._weights[horizon] + (1.0 - kept)
        self._before = dict(seen)

    def figures(self) -> Mapping[str, float | None]:
        """Return the gauges; None until as many events were seen as the quick mean remembers."""
        enough = self._weights[_RECENT] >= 1.0 - math.exp(-1.0)
        found = {h: self._means[h] / self._weights[h] if enough else None for h in (_RECENT, _REFERENCE)}
        return {"confidence_recent_ratio": found[_RECENT], "confidence_reference_ratio": found[_REFERENCE]}
