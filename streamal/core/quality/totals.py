"""What a partition has counted: differences between two labels' counts tell of all the events between them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

__all__ = ["MILLION", "RunningTotals"]

MILLION = 1_000_000


class RunningTotals(NamedTuple):
    """The counts up to an event, that one included; kept with the partition's state, carried by requests and examples.

    *confidence* is the sum of the predictions' top probabilities in millionths: whole, so that no rounding gathers
    over the years. *never_askable* counts the events that had no chance of being asked.
    """

    events: int = 0
    confidence: int = 0
    never_askable: int = 0

    def add_event(self, probabilities: Mapping[str, float], propensity: float) -> RunningTotals:
        """Return the counts with one more event; a step counts likewise, but builds one only where it is written.

        >>> RunningTotals().add_event({"ham": 0.75, "spam": 0.25}, propensity=0.1)
        RunningTotals(events=1, confidence=750000, never_askable=0)
        """
        confidence = round(MILLION * max(probabilities.values(), default=0.0))
        return RunningTotals(self.events + 1, self.confidence + confidence, self.never_askable + (propensity <= 0.0))
