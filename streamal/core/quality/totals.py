"""Running totals of a partition; the difference of two copies describes the events between them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

__all__ = ["MILLION", "RunningTotals"]

MILLION = 1_000_000


class RunningTotals(NamedTuple):
    """The totals up to and including an event; kept with the partition's state, carried by requests and examples.

    *confidence* is the sum of the predictions' top probabilities in millionths: whole, so that no rounding gathers
    over the years. *never_askable* counts the events that had no chance of being asked.
    """

    events: int = 0
    confidence: int = 0
    never_askable: int = 0

    def add_event(self, probabilities: Mapping[str, float], propensity: float) -> RunningTotals:
        """Return the totals with one more event. A step counts likewise, but builds them only where they are written.

        >>> RunningTotals().add_event({"ham": 0.75, "spam": 0.25}, propensity=0.1)
        RunningTotals(events=1, confidence=750000, never_askable=0)
        """
        confidence = round(MILLION * max(probabilities.values(), default=0.0))
        return RunningTotals(self.events + 1, self.confidence + confidence, self.never_askable + (propensity <= 0.0))
