"""Do the events still have the features that the schema names? A producer that renames a field breaks no record.

The names that the schema does not know are dropped, and those that it knows are missing: the model predicts from less,
and nothing is refused. So the share of such events is watched.
"""

from __future__ import annotations

import math

from streamal.core.gauges.declaration import Gauge, Value

__all__ = ["MISFITS", "MISFITS_MAX", "MisfitShare"]

MISFITS_MAX = 0.5
"""A larger share is an alarm."""
_RECENT = 500.0
_EVENTS_MIN = 100
"""Fewer events tell nothing."""


class MisfitShare:
    """The share of events that had a feature dropped or lack a required one, over about the last 500.

    It is of this process alone, so a restart begins it anew.
    """

    def __init__(self) -> None:
        """Begin without any event."""
        self._events = self._misfits = 0.0

    def update(self, events: int, misfits: int) -> None:
        """Take in so many accepted *events* of one step, so many *misfits* among them.

        >>> share = MisfitShare()
        >>> share.update(1_000, 900)
        >>> share.value()
        0.9
        """
        kept = math.exp(-events / _RECENT)
        self._events, self._misfits = kept * self._events + events, kept * self._misfits + misfits

    def value(self) -> Value:
        """Return the share; None until there were enough events."""
        return self._misfits / self._events if self._events >= _EVENTS_MIN else None


MISFITS: tuple[Gauge, ...] = (
    Gauge(
        "misfit_events_ratio",
        "Share of about the last 500 events that had a feature dropped, or lack a declared one.",
        lambda worker: worker.misfits(),
    ),
)
