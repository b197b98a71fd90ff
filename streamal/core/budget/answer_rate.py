"""How fast annotators answer, measured on the last closed requests; the open requests may be bounded by it.

Only the time in which something was open counts: a night without requests is no slowness. While nobody answers, no
request is closed and the rate stays what it was, so that what is open grows up to its limit and no further.
"""

from __future__ import annotations

import math
from collections import deque

from streamal.core.records import Closing

__all__ = ["AnswerRate"]

_KEPT, _ENOUGH = 200, 10
"""Closed requests that the rate is measured on, and how many make a measurement."""


class AnswerRate:
    """A fold of ``training``: when the last requests were asked and closed, and which of them were answered."""

    def __init__(self) -> None:
        """Begin without any closed request."""
        self._closed: deque[tuple[float, float, bool]] = deque(maxlen=_KEPT)

    def fold(self, record: Closing) -> None:
        """Take in one closed request."""
        self._closed.append((record.asked_at, record.at, record.has_reply))

    def open_max(self, horizon_s: float, unknown: int) -> int | None:
        """Return how many requests are answered in *horizon_s* seconds; None: all were answered at once.

        *unknown* is returned while too few were closed to measure a rate.
        """
        if len(self._closed) < _ENOUGH:
            return unknown
        reached, busy_s = self._closed[0][1], 0.0
        for asked_at, closed_at, _ in sorted(self._closed):
            busy_s += max(0.0, closed_at - max(asked_at, reached))
            reached = max(reached, closed_at)
        answered = sum(is_answered for _, _, is_answered in self._closed) - self._closed[0][2]
        return math.floor(answered * (horizon_s / busy_s)) if busy_s > 0.0 else None
