"""How many records a step takes: what has come, but no more than are worked off within a time.

On a slow stream that is one event, answered at once. Behind, it is as many as the limits allow with a quick model, so
that a commit is shared by many; with a slow one few, so that replies are learned, deadlines kept, and the group is told
that we are alive. Nothing here knows a clock: how long the work took is told.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

__all__ = ["Batches", "Rate"]

_FIRST_PART = 10
"""The first batch is so small a part of the largest: nobody knows yet how slow the model is."""
_GAP_PARTS = 6
"""Work in one go takes at most such a part of the time in which we have to poll again."""


@dataclass(frozen=True, slots=True)
class Rate:
    """What a record costs: the time of the last steps by their records, each step counting half of the next one.

    A mean of what was measured, so it never swings further than the costs themselves; one stall is forgotten after a
    few steps, the sooner the more records they have.
    """

    seconds: float = 0.0
    records: float = 0.0

    def after(self, records: int, seconds: float) -> Rate:
        """Return the rate when *records* took *seconds*; of none there is nothing to learn, nor of time that ran back.

        >>> Rate().after(10, 1.0).after(20, 1.0)
        Rate(seconds=1.5, records=25.0)
        """
        if records <= 0:
            return self
        return Rate(self.seconds / 2.0 + max(0.0, seconds), self.records / 2.0 + records)

    def within(self, seconds: float, most: int) -> int:
        """Return how many records fit into *seconds*: 1 to *most*, which is all where time is no matter."""
        if math.isinf(seconds):
            return most
        if not self.records:
            return max(1, most // _FIRST_PART)
        if not self.seconds:
            return most
        return max(1, int(min(most, seconds / self.seconds * self.records)))


@dataclass(slots=True)
class Batches:
    """The sizes of the next step's batches, by what the last ones cost.

    Attributes:
        target_s: how long the work of a step may take; half of it for predictions, half for what is learned. Infinite:
            the batches are as large as they may be.
        poll_gap_s: who does not poll for so long has to join the group anew.
    """

    events_max: int
    labels_max: int
    target_s: float = math.inf
    poll_gap_s: float = 60.0
    _events: Rate = field(default_factory=Rate)
    _labels: Rate = field(default_factory=Rate)
    _commit_s: float = 0.0

    @property
    def longest_s(self) -> float:
        """What may be done in one go if it must be."""
        return math.inf if math.isinf(self.target_s) else self.poll_gap_s / _GAP_PARTS

    @property
    def share_s(self) -> float:
        """How long a step may predict, or learn, now.

        Half of the target; and never less than the half of what a commit takes, or most of the time would go there.
        """
        return min(max(self.target_s, self._commit_s), self.longest_s) / 2.0

    def events(self) -> int:
        """Return how many events the next step may take."""
        return self._events.within(self.share_s, self.events_max)

    def labels(self) -> int:
        """Return how many replies the next step may take: all that it joins are learned before the one after it."""
        return self._labels.within(self.share_s, self.labels_max)

    def predicted(self, events: int, seconds: float) -> None:
        """Note a step's work, without its commit."""
        self._events = self._events.after(events, seconds)

    def learned(self, labels: int, seconds: float) -> None:
        """Note what folding took, without the reading."""
        self._labels = self._labels.after(labels, seconds)

    def committed(self, seconds: float) -> None:
        """Note the last commit."""
        self._commit_s = seconds
