"""How many records a step takes: those that have come, but no more than the worker can process within a given time.

On a slow stream that is one event, predicted at once. When the worker lags behind, it is as many as the limits allow if
the model is quick, so that many records share a commit. If the model is slow it is few, so that replies are learned,
deadlines are kept, and the group hears of the worker in time. Nothing here knows a clock: the caller measures.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

__all__ = ["Batches", "Rate"]

_FIRST_PART = 10
"""The first batch is this part of the largest: nobody knows yet how slow the model is."""
_GAP_PARTS = 6
"""Work without a poll takes at most this part of the time after which the group takes our partitions away."""


@dataclass(frozen=True, slots=True)
class Rate:
    """What a record costs: the time of the last steps divided by their records; a step counts half of the next one.

    It is a mean of what was measured, so it never swings further than the costs themselves. One stall is forgotten
    after a few steps, and the sooner the more records they have.
    """

    seconds: float = 0.0
    records: float = 0.0

    def add(self, records: int, seconds: float) -> Rate:
        """Return the rate after *records* more, which took *seconds*; a clock that ran back counts as 0 s.

        >>> Rate().add(10, 1.0).add(20, 1.0)
        Rate(seconds=1.5, records=25.0)
        """
        if records <= 0:
            return self
        return Rate(self.seconds / 2.0 + max(0.0, seconds), self.records / 2.0 + records)

    def records_within(self, seconds: float, most: int) -> int:
        """Return how many records fit into *seconds*: 1 to *most*; *most* if the seconds are infinite."""
        if math.isinf(seconds):
            return most
        if not self.records:
            return max(1, most // _FIRST_PART)
        if not self.seconds:
            return most
        return max(1, int(min(most, seconds / self.seconds * self.records)))


@dataclass(slots=True)
class Batches:
    """The sizes of the next step's batches, from what the last ones cost.

    Attributes:
        target_s: how long the work of a step may take; half of it is for predictions, half for learning. Infinite: the
            batches are always as large as the limits allow.
        poll_gap_s: a worker that does not poll for so long has to join the group anew.
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
        """How long work without a poll may take if it has to."""
        return math.inf if math.isinf(self.target_s) else self.poll_gap_s / _GAP_PARTS

    @property
    def share_s(self) -> float:
        """How long the next step may predict, and how long it may learn.

        Half of the target; but at least half of what a commit takes, or commits would take most of the time.
        """
        return min(max(self.target_s, self._commit_s), self.longest_s) / 2.0

    def events(self) -> int:
        """Return how many events the next step may take."""
        return self._events.records_within(self.share_s, self.events_max)

    def labels(self) -> int:
        """Return how many replies the next step may take; all their labels are learned before the step after it."""
        return self._labels.records_within(self.share_s, self.labels_max)

    def note_prediction(self, events: int, seconds: float) -> None:
        """Note how long the last step worked, without its commit."""
        self._events = self._events.add(events, seconds)

    def note_learning(self, labels: int, seconds: float) -> None:
        """Note how long the last fold learned, without the reading."""
        self._labels = self._labels.add(labels, seconds)

    def note_commit(self, seconds: float) -> None:
        """Note how long the last commit took."""
        self._commit_s = seconds
