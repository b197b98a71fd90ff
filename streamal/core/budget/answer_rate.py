"""How fast annotators answer, from the last closed requests; asking may be throttled to it.

Only the time in which something was open to be answered counts: a night without questions is no slowness. While
nobody answers anything the pace stays what it was, so that what is open grows up to its limit and no further.
"""

from __future__ import annotations

import math
from collections import deque

from streamal.core.records import Closing, Expiry

__all__ = ["AnswerRate"]

_KEPT, _ENOUGH = 200, 10
"""Closed requests that the pace is measured on, and how many make a measurement."""


class AnswerRate:
    """A fold of ``training``: when the last requests were asked and closed, and which of them were answered."""

    def __init__(self) -> None:
        """Start with nothing known."""
        self._closed: deque[tuple[float, float, bool]] = deque(maxlen=_KEPT)

    def fold(self, record: Closing) -> None:
        """Take in one closed request."""
        self._closed.append((record.asked_at, record.at, not isinstance(record, Expiry)))

    def open_max(self, horizon_s: float, unknown: int) -> int | None:
        """Return how many requests are answered in *horizon_s* seconds; None for more than can be told.

        *unknown* is returned while too few were closed to tell.
        """
        if len(self._closed) < _ENOUGH:
            return unknown
        reached, busy = self._closed[0][1], 0.0
        for asked, at, _ in sorted(self._closed):
            busy += max(0.0, at - max(asked, reached))
            reached = max(reached, at)
        answered = sum(replied for _, _, replied in self._closed) - self._closed[0][2]
        return math.floor(answered * (horizon_s / busy)) if busy > 0.0 else None
